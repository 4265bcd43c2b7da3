//! Whether the series of injected pods arrive. PURE.
//!
//! Input: pods as the API server has them, and what the receiver answered for each template. Output: a [`Verdict`] for each pod. A
//! supervised agent's failure does not show in its pod, so the receiver is asked.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::admission::status::{self, Written};
use crate::cluster::seen::{annotation, container_status, list, name, namespace, text};
use crate::names;
use crate::template::validate::text::is_label_name;

/// Label of the template where it names none.
const PROMETHEUS_LABEL: &str = "prometheus";

/// Namespace and name of a pod.
pub type PodId = (String, String);

/// What arrived from the pods of a template: whether any target of each is up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrived {
    /// By pod.
    pub pods: BTreeMap<PodId, bool>,
    /// Series without the labels that tell pods apart.
    pub anonymous: usize,
}

/// How an injected pod does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing of it is at the receiver, although its agent has run for long enough.
    Missing,
    /// Its agent does not run.
    Down,
    /// Its agent delivers, and no target of it is up.
    Failing,
    /// Its agent has not run for long enough to be judged.
    Starting,
    /// The pod has ended, or is about to.
    Ended,
    /// Its series arrive.
    Delivering,
}

impl Verdict {
    /// All of them, the worst first.
    pub const ALL: [Self; 6] =
        [Self::Missing, Self::Down, Self::Failing, Self::Starting, Self::Ended, Self::Delivering];

    /// As it is printed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Down => "down",
            Self::Failing => "failing",
            Self::Starting => "starting",
            Self::Ended => "ended",
            Self::Delivering => "delivering",
        }
    }

    /// Whether somebody should look at it.
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Missing | Self::Down | Self::Failing)
    }
}

/// A pod and how it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Which one.
    pub pod: PodId,
    /// `namespace/name`; empty where its status annotation cannot be read.
    pub template: String,
    /// How it does.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
}

/// The template of an injected pod, by its status annotation.
pub fn template(pod: &Value) -> Option<String> {
    Some(written(pod)?.template.to_string())
}

/// Whether a newer promsidecar injected a pod.
pub fn is_newer(pod: &Value) -> bool {
    written(pod).is_some_and(|written| written.is_newer())
}

fn written(pod: &Value) -> Option<Written> {
    status::read(annotation(pod, names::STATUS)?)
}

/// The external label that names the template, if its agents write one.
pub fn label(template: Option<&Value>) -> Option<String> {
    let named = template.and_then(|template| template["spec"]["prometheusExternalLabelName"].as_str());
    Some(named.unwrap_or(PROMETHEUS_LABEL).to_owned()).filter(|label| !label.is_empty())
}

/// External labels of a template that every series of its agents has as they are written.
pub fn external_labels(template: Option<&Value>) -> BTreeMap<String, String> {
    let labels = template.and_then(|template| template["spec"]["externalLabels"].as_object());
    // Variables are the pod's own, and so are the labels by which it is found: those of a target win.
    let is_own = |name: &str, value: &str| value.contains('$') || ["namespace", "pod"].contains(&name);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name, value.as_str()?)))
        .filter(|(name, value)| !is_own(name, value))
        .map(|(name, value)| (name.clone(), value.to_owned()))
        .collect()
}

/// Asks for the best target of each pod of a template: 1 where one is up. `labels` are those that its agents write.
pub fn query(labels: &BTreeMap<String, String>, namespace: Option<&str>) -> String {
    let mut matchers = String::new();
    let namespace = namespace.map(|namespace| ("namespace", namespace));
    for (name, value) in labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(namespace) {
        let name = if is_label_name(name, true) { name.to_owned() } else { quoted(name) };
        write!(matchers, ",{name}={}", quoted(value)).expect("a string takes every write");
    }
    format!("max by (namespace, pod) ({{__name__=\"up\"{matchers}}})")
}

/// A string of `PromQL`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Reads the answer to [`query`]; the error is what the receiver says, or that it is no such API.
pub fn arrived(answer: &Value) -> Result<Arrived, String> {
    if answer["status"] != "success" {
        return Err(match text(&answer["error"]) {
            "" => "it does not answer as the query API of Prometheus does".to_owned(),
            error => error.to_owned(),
        });
    }
    let mut arrived = Arrived::default();
    for sample in list(&answer["data"]["result"]) {
        let label = |name: &str| sample["metric"][name].as_str().map(str::to_owned);
        let (Some(namespace), Some(pod)) = (label("namespace"), label("pod")) else {
            arrived.anonymous += 1;
            continue;
        };
        arrived.pods.insert((namespace, pod), text(&sample["value"][1]) == "1");
    }
    Ok(arrived)
}

/// Judges a pod. `arrived` is what came from the pods of its template; agents have `grace` for their first series.
pub fn judge(pod: &Value, arrived: Option<&Arrived>, now: Timestamp, grace: SignedDuration) -> Judged {
    let id = (namespace(pod).to_owned(), name(pod).to_owned());
    let up = arrived.and_then(|arrived| arrived.pods.get(&id)).copied();
    let (verdict, why) = verdict(pod, up, now, grace);
    Judged { pod: id, template: template(pod).unwrap_or_default(), verdict, why }
}

fn verdict(pod: &Value, up: Option<bool>, now: Timestamp, grace: SignedDuration) -> (Verdict, String) {
    let phase = text(&pod["status"]["phase"]);
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return (Verdict::Ended, "it is being deleted".to_owned());
    }
    if matches!(phase, "Succeeded" | "Failed") {
        return (Verdict::Ended, format!("its phase is {phase}"));
    }
    match up {
        Some(true) => return (Verdict::Delivering, "its series arrive".to_owned()),
        Some(false) => {
            return (Verdict::Failing, "its agent delivers, and no scrape of it succeeds".to_owned());
        }
        None => {}
    }
    let state = &container_status(pod, names::CONTAINER)["state"];
    let started = text(&state["running"]["startedAt"]).parse::<Timestamp>();
    if let Ok(started) = started {
        let ran = now.duration_since(started);
        let seconds = ran.as_secs().max(0);
        return if ran < grace {
            (Verdict::Starting, format!("its agent has run for {seconds} s"))
        } else {
            (Verdict::Missing, format!("nothing arrived, and its agent has run for {}", age(seconds)))
        };
    }
    let why = ["waiting", "terminated"].into_iter().find_map(|of| state[of]["reason"].as_str());
    // What a kubelet says of a container whose turn has not come.
    let has_a_turn = why.is_some_and(|why| !matches!(why, "PodInitializing" | "ContainerCreating"));
    if phase == "Pending" && !has_a_turn {
        return (Verdict::Starting, "its phase is Pending".to_owned());
    }
    (Verdict::Down, format!("its agent does not run: {}", why.unwrap_or("its state is not known")))
}

/// In the largest unit of which there are two.
fn age(seconds: i64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds >= 2 * length).unwrap_or((1, "s"));
    format!("{} {unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    use serde_json::{Value, json};

    use super::{Arrived, Verdict, arrived, external_labels, judge, label, query};
    use crate::names;

    fn pod(phase: &str, state: &Value) -> Value {
        json!({
            "metadata": {"namespace": "shop", "name": "web", "annotations": {(names::STATUS): "{}"}},
            "status": {"phase": phase, "initContainerStatuses": [{"name": names::CONTAINER, "state": state}]},
        })
    }

    fn judged(pod: &Value, up: Option<bool>) -> (Verdict, String) {
        let now: Timestamp = "2026-10-01T12:00:00Z".parse().unwrap();
        let pods = up.map(|up| (("shop".to_owned(), "web".to_owned()), up)).into_iter().collect();
        let judged = judge(pod, Some(&Arrived { pods, anonymous: 0 }), now, SignedDuration::from_secs(120));
        assert_eq!(judged.pod, ("shop".to_owned(), "web".to_owned()));
        (judged.verdict, judged.why)
    }

    #[test]
    fn a_pod_is_judged_by_what_arrived_and_by_how_long_its_agent_has_run() {
        let running = |since: &str| json!({"running": {"startedAt": since}});
        let old = pod("Running", &running("2026-10-01T11:00:00Z"));
        let row = |verdict, why: &str| (verdict, why.to_owned());
        assert_eq!(judged(&old, Some(true)), row(Verdict::Delivering, "its series arrive"));
        let failing = "its agent delivers, and no scrape of it succeeds";
        assert_eq!(judged(&old, Some(false)), row(Verdict::Failing, failing));
        let missing = "nothing arrived, and its agent has run for 60 min";
        assert_eq!(judged(&old, None), row(Verdict::Missing, missing));
        let young = pod("Running", &running("2026-10-01T11:59:00Z"));
        assert_eq!(judged(&young, None), row(Verdict::Starting, "its agent has run for 60 s"));
        // The clock of the node may be ahead.
        let ahead = pod("Running", &running("2026-10-01T12:00:30Z"));
        assert_eq!(judged(&ahead, None), row(Verdict::Starting, "its agent has run for 0 s"));
        let crashing = pod("Running", &json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        assert_eq!(judged(&crashing, None), row(Verdict::Down, "its agent does not run: CrashLoopBackOff"));
        let waiting = pod("Pending", &json!({"waiting": {"reason": "ImagePullBackOff"}}));
        assert_eq!(judged(&waiting, None), row(Verdict::Down, "its agent does not run: ImagePullBackOff"));
        let initializing = pod("Pending", &json!({"waiting": {"reason": "PodInitializing"}}));
        assert_eq!(judged(&initializing, None), row(Verdict::Starting, "its phase is Pending"));
        let done = pod("Succeeded", &json!({"terminated": {"reason": "Completed"}}));
        assert_eq!(judged(&done, None), row(Verdict::Ended, "its phase is Succeeded"));
        let mut deleted = old;
        deleted["metadata"]["deletionTimestamp"] = json!("2026-10-01T12:00:00Z");
        assert_eq!(judged(&deleted, None), row(Verdict::Ended, "it is being deleted"));
        let unknown =
            json!({"metadata": {"namespace": "shop", "name": "web"}, "status": {"phase": "Running"}});
        assert_eq!(
            judged(&unknown, None),
            row(Verdict::Down, "its agent does not run: its state is not known")
        );
    }

    #[test]
    fn the_query_names_the_template_by_the_label_that_its_agents_write() {
        assert_eq!(label(None).as_deref(), Some("prometheus"));
        let named = |name: &str| label(Some(&json!({"spec": {"prometheusExternalLabelName": name}})));
        assert_eq!((named("agent").as_deref(), named("")), (Some("agent"), None));
        let query = |labels: &[(&str, &str)], namespace| {
            let owned = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            query(&owned.collect(), namespace)
        };
        let template = json!({"spec": {"externalLabels": {"cluster": "c1", "namespace": "b", "pod_name": "$(POD_NAME)", "odd": 1}}});
        assert_eq!(external_labels(Some(&template)), [("cluster".to_owned(), "c1".to_owned())].into());
        assert_eq!(
            query(&[("prometheus", "shop/shop")], Some("team")),
            r#"max by (namespace, pod) ({__name__="up",prometheus="shop/shop",namespace="team"})"#
        );
        assert_eq!(
            query(&[("a.b", "s/s")], None),
            r#"max by (namespace, pod) ({__name__="up","a.b"="s/s"})"#
        );
        assert_eq!(query(&[], None), r#"max by (namespace, pod) ({__name__="up"})"#);
    }

    #[test]
    fn an_answer_is_read_or_says_why_it_is_none() {
        let answer = json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"namespace": "a", "pod": "x"}, "value": [1, "1"]},
            {"metric": {"namespace": "a", "pod": "y"}, "value": [1, "0"]},
            {"metric": {"namespace": "a"}, "value": [1, "1"]},
        ]}});
        let pod = |name: &str| ("a".to_owned(), name.to_owned());
        let expected = Arrived { pods: [(pod("x"), true), (pod("y"), false)].into(), anonymous: 1 };
        assert_eq!(arrived(&answer), Ok(expected));
        let refused = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        assert_eq!(arrived(&refused), Err("parse error".to_owned()));
        let other = "it does not answer as the query API of Prometheus does".to_owned();
        assert_eq!(arrived(&Value::Null), Err(other));
    }
}
