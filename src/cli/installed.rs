//! The flags that a webhook in the cluster was started with, as far as they decide about pods.
//!
//! Input: its Deployment, and the `ConfigMaps` that its variables come from. Output: the same flags that its command line means, read
//! as it reads them, and those that cannot be seen: Secrets are not asked for.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, CommandFactory, FromArgMatches};
use serde_json::Value;

use super::policy::PolicyArgs;
use super::settings::SettingsArgs;
use super::{Cli, Command};
use crate::cluster::seen::{Seen, list, namespace, text};

/// What decides.
#[derive(Debug, Clone)]
pub struct Flags {
    /// Which pods.
    pub policy: PolicyArgs,
    /// What templates mean.
    pub settings: SettingsArgs,
}

/// What cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unseen {
    /// Flags that decide about pods, each with why.
    pub flags: Vec<String>,
    /// Where others may come from.
    pub sources: Vec<String>,
}

/// `ConfigMaps` by name, as far as they are there and may be seen.
pub type ConfigMaps = BTreeMap<String, Seen<Option<Value>>>;

/// Variables of a container by name; the error says why a value cannot be seen.
type Variables = BTreeMap<String, Result<String, String>>;

/// The container that serves the webhook.
#[derive(Debug, Clone, Copy)]
pub struct Serving<'a> {
    container: &'a Value,
    own_namespace: &'a str,
}

impl<'a> Serving<'a> {
    /// That of a Deployment, if it has one.
    pub fn of(deployment: &'a Value) -> Option<Self> {
        let containers = list(&deployment["spec"]["template"]["spec"]["containers"]);
        let serves = |container: &&Value| {
            list(&container["args"]).first().is_some_and(|first| first == "webhook" || first == "run")
        };
        let container = containers.iter().find(serves)?;
        Some(Self { container, own_namespace: namespace(deployment) })
    }

    /// Names of the `ConfigMaps` that variables come from.
    pub fn config_maps(self) -> BTreeSet<String> {
        let all = list(&self.container["envFrom"]).iter().map(|source| &source["configMapRef"]["name"]);
        let one = list(&self.container["env"]).iter();
        let one = one.map(|variable| &variable["valueFrom"]["configMapKeyRef"]["name"]);
        all.chain(one).filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Its flags, and what of them cannot be seen; the error says why they cannot be read.
    pub fn flags(self, config_maps: &ConfigMaps) -> Result<(Flags, Unseen), String> {
        // The variables of this process are not those of the webhook.
        let program =
            Cli::command().mut_subcommands(|command| command.mut_args(|argument| argument.env(None::<&str>)));
        let (line, unseen) = self.line(config_maps);
        let matches = program.try_get_matches_from(line);
        match matches.and_then(|matches| Cli::from_arg_matches(&matches)).map(|cli| cli.command) {
            Ok(Command::Webhook(args)) => Ok((args.flags(), unseen)),
            Ok(Command::Run(args)) => Ok((args.flags(), unseen)),
            Ok(_) => Err("it serves no webhook".to_owned()),
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }

    /// Its command line, with its variables as the flags that read them; and what of it cannot be seen.
    fn line(self, config_maps: &ConfigMaps) -> (Vec<String>, Unseen) {
        let (variables, sources) = self.variables(config_maps);
        let mut unseen = Unseen { flags: Vec::new(), sources };
        let mut line = vec!["promsidecar".to_owned()];
        for argument in list(&self.container["args"]) {
            let argument = text(argument);
            match expand(argument, &variables) {
                Ok(argument) => line.push(argument),
                Err(why) => {
                    let flag = argument.split('=').next().unwrap_or_default();
                    if decides(flag) {
                        unseen.flags.push(format!("the webhook's {flag} cannot be seen ({why})"));
                    }
                }
            }
        }
        let program = Cli::command();
        let subcommand = line.get(1).and_then(|name| program.find_subcommand(name));
        let flags = subcommand.into_iter().flat_map(clap::Command::get_arguments);
        for (variable, flag) in flags.filter_map(|flag| Some((flag.get_env()?.to_str()?, flag.get_long()?))) {
            let flag = format!("--{flag}");
            // A flag wins over its variable.
            if list(&self.container["args"])
                .iter()
                .any(|argument| text(argument).split('=').next() == Some(&flag))
            {
                continue;
            }
            match variables.get(variable) {
                Some(Ok(value)) => line.push(format!("{flag}={value}")),
                Some(Err(why)) if decides(&flag) => {
                    unseen.flags.push(format!("the webhook's {flag} cannot be seen ({variable}: {why})"));
                }
                Some(Err(_)) | None => {}
            }
        }
        (line, unseen)
    }

    /// Its variables; and the sources of some that cannot be seen, whose names nobody knows then.
    fn variables(self, config_maps: &ConfigMaps) -> (Variables, Vec<String>) {
        let (mut variables, mut unseen) = (Variables::new(), Vec::new());
        for source in list(&self.container["envFrom"]) {
            let prefix = text(&source["prefix"]);
            if let Some(secret) = source["secretRef"]["name"].as_str() {
                unseen.push(format!("whether the webhook has flags from Secret {secret} cannot be seen"));
            }
            let Some(name) = source["configMapRef"]["name"].as_str() else { continue };
            match config_maps.get(name) {
                Some(Err(forbidden)) => {
                    unseen.push(format!(
                        "whether the webhook has flags from ConfigMap {name} cannot be seen ({forbidden})"
                    ));
                }
                Some(Ok(config_map)) => {
                    let data =
                        config_map.iter().filter_map(|config_map| config_map["data"].as_object()).flatten();
                    variables.extend(
                        data.map(|(key, value)| (format!("{prefix}{key}"), Ok(text(value).to_owned()))),
                    );
                }
                None => {}
            }
        }
        for variable in list(&self.container["env"]) {
            let value = match variable["value"].as_str() {
                Some(value) => Some(expand(value, &variables)),
                None => self.value_from(&variable["valueFrom"], config_maps),
            };
            if let Some(value) = value {
                variables.insert(text(&variable["name"]).to_owned(), value);
            }
        }
        (variables, unseen)
    }

    /// A value that comes from elsewhere, if it is set.
    fn value_from(self, source: &Value, config_maps: &ConfigMaps) -> Option<Result<String, String>> {
        if source["fieldRef"]["fieldPath"] == "metadata.namespace" {
            return Some(Ok(self.own_namespace.to_owned()));
        }
        if let Some(name) = source["configMapKeyRef"]["name"].as_str() {
            return match config_maps.get(name)? {
                Ok(config_map) => {
                    let value =
                        config_map.as_ref()?["data"][text(&source["configMapKeyRef"]["key"])].as_str()?;
                    Some(Ok(value.to_owned()))
                }
                Err(forbidden) => Some(Err(forbidden.to_string())),
            };
        }
        let secret = source["secretKeyRef"]["name"].as_str();
        Some(Err(match secret {
            Some(secret) => format!("it comes from Secret {secret}"),
            None if source.is_null() => return Some(Ok(String::new())),
            None => "only a running pod has it".to_owned(),
        }))
    }
}

/// Whether a flag decides about pods.
fn decides(flag: &str) -> bool {
    let deciding = SettingsArgs::augment_args(PolicyArgs::augment_args(clap::Command::new("")));
    deciding.get_arguments().any(|argument| argument.get_long() == flag.strip_prefix("--"))
}

/// Puts variables in place of `$(NAME)`, as a kubelet does: what is not set stays, and `$$` is a dollar sign. The error says why one
/// cannot be seen.
fn expand(text: &str, variables: &Variables) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let named = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = named {
            match variables.get(name) {
                Some(value) => out.push_str(value.as_ref().map_err(|why| format!("{name}: {why}"))?),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::{ConfigMaps, Flags, Serving, Unseen};
    use crate::cluster::seen::Forbidden;

    fn deployment(container: &Value) -> Value {
        json!({
            "metadata": {"namespace": "own"},
            "spec": {"template": {"spec": {"containers": [{"args": ["controller"]}, container]}}},
        })
    }

    fn flags(container: &Value, config_maps: &ConfigMaps) -> Option<Result<(Flags, Unseen), String>> {
        Some(Serving::of(&deployment(container))?.flags(config_maps))
    }

    #[test]
    fn flags_and_variables_of_a_deployment_mean_what_they_mean_to_its_program() {
        let env = json!([
            {"name": "PROMSIDECAR_OWN_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "PROMSIDECAR_EXCLUDE_NAMESPACE", "value": "a,b"},
            {"name": "PROMSIDECAR_AGENT_IMAGE", "value": "registry.test/ignored"},
            {"name": "OTHER", "value": "x"},
        ]);
        let args = json!(["webhook", "--default-template=a/b", "--agent-image=registry.test/prometheus"]);
        let (found, unseen) = flags(&json!({"args": args, "env": env}), &ConfigMaps::new()).unwrap().unwrap();
        let policy = found.policy.to_policy();
        assert_eq!(policy.default_template.unwrap().to_string(), "a/b");
        let excluded: Vec<_> = policy.excluded_namespaces.into_iter().collect();
        assert_eq!(excluded, ["a", "b", "own"]);
        assert_eq!(found.settings.to_settings().agent_image, "registry.test/prometheus");
        assert_eq!(unseen, Unseen::default());
    }

    #[test]
    fn variables_come_from_config_maps_and_from_each_other_the_later_ones_first() {
        let container = json!({
            "args": ["run", "--agent-image=$(REGISTRY)/$(WHAT)", "--agent-version=v3.5.0"],
            "envFrom": [
                {"configMapRef": {"name": "all"}},
                {"configMapRef": {"name": "more"}, "prefix": "PROMSIDECAR_"},
                {"configMapRef": {"name": "absent", "optional": true}},
            ],
            "env": [
                {"name": "WHAT", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "what"}}},
                {"name": "REGISTRY", "value": "$(HOST):5000"},
                {"name": "PROMSIDECAR_CONTROLLER_ID", "value": "a$$b$c"},
                {"name": "PROMSIDECAR_DEFAULT_TEMPLATE",
                    "valueFrom": {"configMapKeyRef": {"name": "one", "key": "none", "optional": true}}},
            ],
        });
        assert_eq!(
            Serving::of(&deployment(&container)).unwrap().config_maps(),
            BTreeSet::from(["absent", "all", "more", "one"].map(str::to_owned))
        );
        let data = |data: Value| Ok(Some(json!({"data": data})));
        let config_maps = ConfigMaps::from([
            ("absent".to_owned(), Ok(None)),
            ("all".to_owned(), data(json!({"HOST": "registry.test", "PROMSIDECAR_EXCLUDE_NAMESPACE": "a"}))),
            ("more".to_owned(), data(json!({"EXCLUDE_NAMESPACE": "b", "AGENT_VERSION": "v3.0.0"}))),
            ("one".to_owned(), data(json!({"what": "prometheus"}))),
        ]);
        let (found, unseen) = flags(&container, &config_maps).unwrap().unwrap();
        let policy = found.policy.to_policy();
        assert_eq!(policy.default_template, None);
        let excluded: Vec<_> = policy.excluded_namespaces.into_iter().collect();
        assert_eq!(excluded, ["b", "promsidecar-system"]);
        let settings = found.settings.to_settings();
        assert_eq!(
            (&*settings.agent_image, &*settings.controller_id),
            ("registry.test:5000/prometheus", "a$b$c")
        );
        assert_eq!(settings.agent_version.to_string(), "v3.5.0");
        assert_eq!(unseen, Unseen::default());
    }

    #[test]
    fn flags_that_cannot_be_seen_are_named_where_they_decide_about_pods() {
        let secret = json!({"secretKeyRef": {"name": "flags", "key": "a"}});
        let container = json!({
            "args": ["webhook", "--default-template=$(HIDDEN)", "--listen=$(HIDDEN)", "--agent-version=v3.5.0"],
            "envFrom": [{"secretRef": {"name": "more"}}, {"configMapRef": {"name": "forbidden"}}],
            "env": [
                {"name": "HIDDEN", "valueFrom": secret},
                {"name": "PROMSIDECAR_AGENT_IMAGE", "valueFrom": secret},
                {"name": "PROMSIDECAR_AGENT_VERSION", "valueFrom": secret},
                {"name": "PROMSIDECAR_LOG_LEVEL", "valueFrom": secret},
                {"name": "PROMSIDECAR_EXCLUDE_NAMESPACE",
                    "valueFrom": {"configMapKeyRef": {"name": "forbidden", "key": "b"}}},
            ],
        });
        let forbidden = Forbidden("get configmaps forbidden".to_owned());
        let config_maps = ConfigMaps::from([("forbidden".to_owned(), Err(forbidden))]);
        let (found, unseen) = flags(&container, &config_maps).unwrap().unwrap();
        assert_eq!(
            unseen.sources,
            [
                "whether the webhook has flags from Secret more cannot be seen",
                "whether the webhook has flags from ConfigMap forbidden cannot be seen (forbidden: you may not get configmaps \
                 forbidden)",
            ]
        );
        assert_eq!(
            unseen.flags,
            [
                "the webhook's --default-template cannot be seen (HIDDEN: it comes from Secret flags)",
                "the webhook's --exclude-namespace cannot be seen (PROMSIDECAR_EXCLUDE_NAMESPACE: forbidden: you may not get \
                 configmaps forbidden)",
                "the webhook's --agent-image cannot be seen (PROMSIDECAR_AGENT_IMAGE: it comes from Secret flags)",
            ]
        );
        assert_eq!(found.settings.to_settings().agent_version.to_string(), "v3.5.0");
    }

    #[test]
    fn flags_of_another_version_are_told_and_other_programs_have_none() {
        let none = ConfigMaps::new();
        let newer = flags(&json!({"args": ["run", "--what=now"]}), &none).unwrap();
        assert_eq!(newer.unwrap_err(), "error: unexpected argument '--what' found");
        assert!(flags(&json!({"args": ["controller"]}), &none).is_none());
    }
}
