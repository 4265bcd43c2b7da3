//! The flags that a webhook in the cluster was started with, as far as they decide about pods.
//!
//! Input: its Deployment. Output: the same flags that its command line means, read as it reads them.

use clap::{CommandFactory, FromArgMatches};
use serde_json::Value;

use super::policy::PolicyArgs;
use super::settings::SettingsArgs;
use super::{Cli, Command};
use crate::cluster::seen::{list, namespace, text};

/// What decides.
#[derive(Debug, Clone)]
pub struct Flags {
    /// Which pods.
    pub policy: PolicyArgs,
    /// What templates mean.
    pub settings: SettingsArgs,
}

/// The flags of the container that serves the webhook; nothing where the Deployment has none, and the error says why they
/// cannot be read.
pub fn flags(deployment: &Value) -> Option<Result<Flags, String>> {
    let containers = list(&deployment["spec"]["template"]["spec"]["containers"]);
    let serves = |container: &&Value| {
        list(&container["args"]).first().is_some_and(|first| first == "webhook" || first == "run")
    };
    let container = containers.iter().find(serves)?;
    // The variables of this process are not those of the webhook.
    let program =
        Cli::command().mut_subcommands(|command| command.mut_args(|argument| argument.env(None::<&str>)));
    let matches = program.try_get_matches_from(line(container, namespace(deployment)));
    Some(match matches.and_then(|matches| Cli::from_arg_matches(&matches)).map(|cli| cli.command) {
        Ok(Command::Webhook(args)) => Ok(args.flags()),
        Ok(Command::Run(args)) => Ok(args.flags()),
        Ok(_) => Err("it serves no webhook".to_owned()),
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    })
}

/// Its command line, with its variables as the flags that read them.
fn line(container: &Value, own_namespace: &str) -> Vec<String> {
    let arguments = list(&container["args"]).iter().map(|argument| text(argument).to_owned());
    let mut line: Vec<String> = std::iter::once("promsidecar".to_owned()).chain(arguments).collect();
    let program = Cli::command();
    let subcommand = line.get(1).and_then(|name| program.find_subcommand(name));
    let flags = subcommand.into_iter().flat_map(clap::Command::get_arguments);
    let flags: Vec<_> =
        flags.filter_map(|flag| Some((flag.get_env()?.to_str()?, flag.get_long()?))).collect();
    for variable in list(&container["env"]) {
        let flag = flags.iter().find(|(name, _)| variable["name"] == *name);
        let own = variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace";
        let value = variable["value"].as_str().or_else(|| own.then_some(own_namespace));
        if let (Some((_, flag)), Some(value)) = (flag, value) {
            let prefix = format!("--{flag}");
            // A flag wins over its variable.
            if !line.iter().any(|argument| argument.split('=').next() == Some(&prefix)) {
                line.push(format!("{prefix}={value}"));
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::flags;

    fn deployment(args: &Value, env: &Value) -> Value {
        let container = json!({"args": args, "env": env});
        json!({
            "metadata": {"namespace": "own"},
            "spec": {"template": {"spec": {"containers": [{"args": ["controller"]}, container]}}},
        })
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
        let found = flags(&deployment(&args, &env)).unwrap().unwrap();
        let policy = found.policy.to_policy();
        assert_eq!(policy.default_template.unwrap().to_string(), "a/b");
        let excluded: Vec<_> = policy.excluded_namespaces.into_iter().collect();
        assert_eq!(excluded, ["a", "b", "own"]);
        assert_eq!(found.settings.to_settings().agent_image, "registry.test/prometheus");
    }

    #[test]
    fn flags_of_another_version_are_told_and_other_programs_have_none() {
        let newer = flags(&deployment(&json!(["run", "--what=now"]), &json!([]))).unwrap();
        assert_eq!(newer.unwrap_err(), "error: unexpected argument '--what' found");
        assert!(flags(&deployment(&json!(["controller"]), &json!([]))).is_none());
    }
}
