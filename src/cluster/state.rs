//! What a pod that is there has of promsidecar. PURE.
//!
//! Input: the pod as it is stored, and the hash of a template's version in force. Output: what was done with it, and the pod
//! as it would be sent if it were created now.

use serde_json::{Value, json};

use super::seen::{annotation, container_status, label, list, namespace};
use crate::admission::offline;
use crate::admission::sidecar::config_map_name;
use crate::admission::status::{self, Written};
use crate::names;
use crate::template::agent::TemplateId;

/// What was done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has an agent.
    Injected(Box<Injected>),
    /// It asked, and did not get one: `reason: detail`.
    Skipped(String),
    /// It has none, and nobody said why: it did not ask, or no webhook answered.
    Without,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// What its status says.
    written: Written,
    /// Whether a pod that is created now would have the same.
    pub current: Current,
    /// Whether its container is ready.
    ready: bool,
}

/// Whether an agent is the one that its template would give now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// It is.
    Yes,
    /// It is another.
    No,
    /// Its template gives none any more.
    Gone,
    /// Only the newer promsidecar that made it can tell.
    Newer,
    /// It cannot be told: why.
    Unknown(String),
}

/// The hash of a template for pods of a namespace, if it is there; the error says why that cannot be told.
pub type InForce = Result<Option<String>, String>;

/// Reads a pod by what is in force.
pub fn state(pod: &Value, in_force: impl Fn(&TemplateId, &str) -> InForce) -> State {
    if let Some(injected) = injected(pod, in_force) {
        return State::Injected(Box::new(injected));
    }
    let asked = label(pod, names::INJECTED) == Some("false");
    match annotation(pod, names::SKIPPED).filter(|skipped| asked && !skipped.is_empty()) {
        Some(skipped) => State::Skipped(skipped.to_owned()),
        None => State::Without,
    }
}

fn injected(pod: &Value, in_force: impl Fn(&TemplateId, &str) -> InForce) -> Option<Injected> {
    let spec = &pod["spec"];
    let mut containers = list(&spec["initContainers"]).iter().chain(list(&spec["containers"]));
    // A status without our container was copied.
    containers.find(|container| container["name"] == names::CONTAINER)?;
    let written = status::read(annotation(pod, names::STATUS)?)?;
    let current = match in_force(&written.template, namespace(pod)) {
        Ok(Some(_)) if written.hash.is_empty() => Current::Newer,
        Ok(Some(hash)) if hash == written.hash => Current::Yes,
        Ok(Some(_)) => Current::No,
        Ok(None) => Current::Gone,
        Err(why) => Current::Unknown(why),
    };
    Some(Injected { current, ready: container_status(pod, names::CONTAINER)["ready"] == true, written })
}

impl Injected {
    /// The template that it came from.
    pub const fn template(&self) -> &TemplateId {
        &self.written.template
    }

    /// The ConfigMap that it mounts.
    pub fn config_map(&self) -> String {
        config_map_name(self.template())
    }

    /// Whether a pod that gets the agent with this hash has the same.
    pub fn has(&self, template: &TemplateId, hash: &str) -> bool {
        self.written.template == *template && self.written.hash == hash
    }

    /// By which newer promsidecar it was injected, if it was.
    pub fn newer(&self) -> Option<String> {
        self.written.is_newer().then(|| self.written.newer())
    }

    fn line(&self) -> String {
        let Self { written, current, ready } = self;
        let ready = if *ready { "ready" } else { "not ready" };
        let current = match current {
            Current::Yes => "up to date".to_owned(),
            Current::No => "outdated: created again, the pod would get another agent".to_owned(),
            Current::Gone => "its template is not there any more".to_owned(),
            Current::Newer => "only that one can tell whether it is up to date".to_owned(),
            Current::Unknown(why) => format!("cannot tell whether it is up to date, because {why}"),
        };
        if let Some(newer) = self.newer() {
            let template = self.template();
            return format!("injected from {template} by {newer}; {ready}; {current}");
        }
        let Written { template, generation, injector, mode, .. } = written;
        format!(
            "injected from {template} ({mode}), generation {generation}, by promsidecar {injector}; {ready}; {current}"
        )
    }
}

impl State {
    /// One line.
    pub fn line(&self) -> String {
        match self {
            Self::Injected(injected) => injected.line(),
            Self::Skipped(skipped) => format!("not injected: {skipped}"),
            Self::Without => {
                "has no agent: it did not ask when it was created, or no webhook answered".to_owned()
            }
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        match self {
            Self::Injected(injected) => json!({
                "injected": true,
                "template": injected.template().to_string(),
                "generation": injected.written.generation,
                "injector": injected.written.injector,
                "newer": injected.written.is_newer(),
                "mode": injected.written.mode,
                "ready": injected.ready,
                "current": match injected.current {
                    Current::Yes => Some(true),
                    Current::No => Some(false),
                    Current::Gone | Current::Newer | Current::Unknown(_) => None,
                },
                "cannotTell": match &injected.current {
                    Current::Unknown(why) => Some(why),
                    _ => None,
                },
                "configMap": injected.config_map(),
                "skipped": null,
            }),
            Self::Skipped(_) | Self::Without => {
                let skipped = match self {
                    Self::Skipped(skipped) => Some(skipped),
                    _ => None,
                };
                json!({
                    "injected": false, "template": null, "generation": null, "injector": null, "newer": null,
                    "mode": null, "ready": null, "current": null, "cannotTell": null, "configMap": null,
                    "skipped": skipped,
                })
            }
        }
    }
}

/// The pod as it would be sent if it were created now; the error says why its agent cannot be thought away.
pub fn anew(pod: &Value) -> Result<Value, String> {
    let mut pod = pod.clone();
    offline::uninject(&mut pod).map_err(|error| error.to_string())?;
    if let Some(object) = pod.as_object_mut() {
        object.remove("status");
    }
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{State, anew, state};
    use crate::names;

    fn pod(annotations: &Value, injected: &str) -> Value {
        json!({
            "metadata": {"namespace": "a", "annotations": annotations, "labels": {(names::INJECTED): injected}},
            "spec": {
                "containers": [{"name": "web"}],
                "initContainers": [{"name": "prometheus-agent"}],
            },
            "status": {"initContainerStatuses": [{"name": "prometheus-agent", "ready": true}]},
        })
    }

    const STATUS: &str = r#"{"version":1,"template":"a/one","generation":3,"hash":"h","injector":"0.1.0","mode":"native",
        "added":{"containers":["prometheus-agent"],"volumes":[],"annotations":[],"labels":[]},"created":{}}"#;

    #[test]
    fn an_agent_is_told_with_its_template_and_whether_it_is_up_to_date() {
        let injected = pod(&json!({(names::STATUS): STATUS}), "true");
        let why = "you may not list podmonitors";
        for (in_force, end, current) in [
            (Ok(Some("h")), "up to date", (json!(true), Value::Null)),
            (
                Ok(Some("other")),
                "outdated: created again, the pod would get another agent",
                (json!(false), Value::Null),
            ),
            (Ok(None), "its template is not there any more", (Value::Null, Value::Null)),
            (
                Err(why),
                "cannot tell whether it is up to date, because you may not list podmonitors",
                (Value::Null, json!(why)),
            ),
        ] {
            let in_force = in_force.map(|hash| hash.map(str::to_owned)).map_err(str::to_owned);
            let state = state(&injected, |_, _| in_force.clone());
            assert_eq!(
                state.line(),
                format!("injected from a/one (native), generation 3, by promsidecar 0.1.0; ready; {end}")
            );
            let told = state.json();
            assert_eq!((told["current"].clone(), told["cannotTell"].clone()), current);
        }
        // A newer one says its hash in its own way, or as this one does.
        let later = |hash: &str| {
            let status = format!(r#"{{"version":2,"template":"a/one","injector":"0.2.0"{hash}}}"#);
            let pod = pod(&json!({(names::STATUS): status}), "true");
            state(&pod, |_, _| Ok(Some("h".to_owned()))).line()
        };
        let beginning =
            "injected from a/one by a newer promsidecar (0.2.0, status version 2); ready; ".to_owned();
        assert_eq!(later(""), beginning.clone() + "only that one can tell whether it is up to date");
        assert_eq!(later(r#","hash":"h""#), beginning + "up to date");
        let anew = anew(&injected).unwrap();
        assert_eq!(anew["spec"]["initContainers"], json!([]));
        assert_eq!(anew["metadata"]["labels"], json!({}));
    }

    #[test]
    fn a_mark_is_told_and_one_that_was_copied_with_its_annotations_is_none() {
        let none = |_: &_, _: &str| Ok(None);
        let skipped = json!({(names::SKIPPED): "template-not-found: no one"});
        let mut marked = pod(&skipped, "false");
        marked["spec"]["initContainers"] = json!([]);
        assert_eq!(state(&marked, none), State::Skipped("template-not-found: no one".to_owned()));
        let mut copied = pod(&json!({(names::STATUS): STATUS}), "true");
        copied["spec"]["initContainers"] = json!([]);
        assert_eq!(state(&copied, none), State::Without);
        assert!(anew(&pod(&json!({(names::STATUS): "broken"}), "true")).is_err());
    }
}
