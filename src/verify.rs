//! Whether the series of injected pods arrive. PURE.
//!
//! Input: pods as the API server has them, and what the receiver answered for each template. Output: a [`Verdict`] for each pod. A
//! supervised agent's failure does not show in its pod, so the receiver is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::admission::status::{self, Written};
use crate::cluster::seen::{annotation, container_status, list, name, namespace, text};
use crate::controller::fleet::has_target;
use crate::names;
use crate::template::duration::PromDuration;
use crate::template::validate::text::is_label_name;

/// Label of the template where it names none.
const PROMETHEUS_LABEL: &str = "prometheus";

/// Scrape interval of a template that names none.
const INTERVAL: Duration = Duration::from_secs(30);
/// How far an instant query looks back.
const LOOKBACK: Duration = Duration::from_mins(5);

/// Namespace and name of a pod.
pub type PodId = (String, String);

/// What arrived from the pods of a template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrived {
    /// Whether any target of a pod is up.
    pub pods: BTreeMap<PodId, bool>,
    /// Pods of which other series arrive, and no `up`.
    pub without_up: BTreeSet<PodId>,
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
    /// Nothing of it is at the receiver, and it has no target that would be scraped.
    NoTarget,
    /// Its agent has not run for long enough to be judged.
    Starting,
    /// The pod has ended, or is about to.
    Ended,
    /// Its series arrive.
    Delivering,
}

impl Verdict {
    /// All of them, the worst first.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Down,
        Self::Failing,
        Self::NoTarget,
        Self::Starting,
        Self::Ended,
        Self::Delivering,
    ];

    /// As it is printed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Down => "down",
            Self::Failing => "failing",
            Self::NoTarget => "no-target",
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

/// The longest scrape interval that the template and its pods state; monitors may have a longer one.
pub fn interval(template: Option<&Value>, pods: &[&Value]) -> Duration {
    let of_template = template.and_then(|template| template["spec"]["scrapeInterval"].as_str());
    let of_template = of_template.and_then(|text| text.parse().ok()).map_or(INTERVAL, PromDuration::get);
    pods.iter().filter_map(|pod| hinted(pod)).fold(of_template, Duration::max)
}

/// The interval that the pod's own annotation asks for, as its targets have it.
fn hinted(pod: &Value) -> Option<Duration> {
    let groups: Value = serde_json::from_str(annotation(pod, names::TARGETS)?).ok()?;
    let millis =
        list(&groups).iter().filter_map(|group| text(&group["labels"][names::META_INTERVAL_MS]).parse().ok());
    millis.max().map(Duration::from_millis)
}

/// How far to look back for the last sample, where an instant query does not look far enough for an interval.
pub fn window(interval: Duration) -> Option<Duration> {
    let twice = interval.saturating_mul(2).saturating_add(Duration::from_mins(1));
    (twice > LOOKBACK).then_some(twice)
}

/// What is asked about the pods of one template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question<'a> {
    /// Labels that its agents write.
    pub labels: BTreeMap<String, String>,
    /// The pods' namespace, if it is one.
    pub namespace: Option<&'a str>,
    /// How far to look back, if it is not as far as an instant query does.
    pub window: Option<Duration>,
}

impl Question<'_> {
    /// For the best target of each pod: 1 where one is up.
    pub fn up(&self) -> String {
        format!("max by (namespace, pod) ({})", self.last("__name__=\"up\"", None))
    }

    /// For any series of these pods.
    pub fn any(&self, pods: &[PodId]) -> String {
        let either = |names: BTreeSet<&str>| {
            // Names of pods have nothing else that is special.
            names.into_iter().map(|name| name.replace('.', "[.]")).collect::<Vec<_>>().join("|")
        };
        let pod = format!("pod=~{}", quoted(&either(pods.iter().map(|(_, pod)| &**pod).collect())));
        let namespaces = either(pods.iter().map(|(namespace, _)| &**namespace).collect());
        format!("group by (namespace, pod) ({})", self.last(&pod, Some(namespaces)))
    }

    /// The last sample of each series with this and the labels; `namespaces` are an expression.
    fn last(&self, first: &str, namespaces: Option<String>) -> String {
        let mut matchers = first.to_owned();
        for (name, value) in &self.labels {
            let name = if is_label_name(name, true) { name.clone() } else { quoted(name) };
            write!(matchers, ",{name}={}", quoted(value)).expect("a string takes every write");
        }
        match (self.namespace, namespaces) {
            (Some(namespace), _) => matchers.extend([",namespace=", &quoted(namespace)]),
            (None, Some(namespaces)) => matchers.extend([",namespace=~", &quoted(&namespaces)]),
            (None, None) => {}
        }
        match self.window {
            Some(window) => format!("last_over_time({{{matchers}}}[{}s])", window.as_secs()),
            None => format!("{{{matchers}}}"),
        }
    }
}

/// A string of `PromQL`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Reads the answer to [`Question::up`]; the error is what the receiver says, or that it is no such API.
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
    let (verdict, why) = if arrived.is_some_and(|arrived| arrived.without_up.contains(&id)) {
        let why = "series of it arrive, and no up: whether its scrapes succeed cannot be told";
        (Verdict::Delivering, why.to_owned())
    } else {
        verdict(pod, up, now, grace)
    };
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
        let is_targeted = annotation(pod, names::TARGETS).is_none_or(has_target);
        return if ran < grace {
            (Verdict::Starting, format!("its agent has run for {seconds} s"))
        } else if is_targeted {
            (Verdict::Missing, format!("nothing arrived, and its agent has run for {}", age(seconds)))
        } else {
            (
                Verdict::NoTarget,
                "it has no target: no container declares a port, and no annotation names one".to_owned(),
            )
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
    use std::time::Duration;

    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    use serde_json::{Value, json};

    use super::{Arrived, Question, Verdict, arrived, external_labels, interval, judge, label, window};
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
        let judged =
            judge(pod, Some(&Arrived { pods, ..Arrived::default() }), now, SignedDuration::from_secs(120));
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
        let template = json!({"spec": {"externalLabels": {"cluster": "c1", "namespace": "b", "pod_name": "$(POD_NAME)", "odd": 1}}});
        assert_eq!(external_labels(Some(&template)), [("cluster".to_owned(), "c1".to_owned())].into());
        assert_eq!(
            question(&[("prometheus", "shop/shop")], Some("team"), None).up(),
            r#"max by (namespace, pod) ({__name__="up",prometheus="shop/shop",namespace="team"})"#
        );
        assert_eq!(
            question(&[("a.b", "s/s")], None, None).up(),
            r#"max by (namespace, pod) ({__name__="up","a.b"="s/s"})"#
        );
        assert_eq!(question(&[], None, None).up(), r#"max by (namespace, pod) ({__name__="up"})"#);
    }

    fn question<'a>(
        labels: &[(&str, &str)],
        namespace: Option<&'a str>,
        window: Option<u64>,
    ) -> Question<'a> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Question { labels, namespace, window: window.map(Duration::from_secs) }
    }

    #[test]
    fn pods_without_up_are_asked_for_by_their_names_whatever_the_series() {
        let pod = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let pods = [pod("b", "web.1"), pod("a", "web-2"), pod("a", "web.1")];
        assert_eq!(
            question(&[("prometheus", "s/s")], None, Some(90)).any(&pods),
            r#"group by (namespace, pod) (last_over_time({pod=~"web-2|web[.]1",prometheus="s/s",namespace=~"a|b"}[90s]))"#
        );
        assert_eq!(
            question(&[], Some("a"), None).any(&pods[1..2]),
            r#"group by (namespace, pod) ({pod=~"web-2",namespace="a"})"#
        );
        let state = json!({"running": {"startedAt": "2026-10-01T11:00:00Z"}});
        let arrived = Arrived { without_up: [pod("shop", "web")].into(), ..Arrived::default() };
        let now = "2026-10-01T12:00:00Z".parse().unwrap();
        let judged = judge(&self::pod("Running", &state), Some(&arrived), now, SignedDuration::ZERO);
        let why = "series of it arrive, and no up: whether its scrapes succeed cannot be told";
        assert_eq!((judged.verdict, &*judged.why), (Verdict::Delivering, why));
    }

    #[test]
    fn how_far_is_looked_back_goes_by_the_longest_interval_of_template_and_pods() {
        let seconds = Duration::from_secs;
        assert_eq!((interval(None, &[]), window(seconds(30))), (seconds(30), None));
        let template = json!({"spec": {"scrapeInterval": "2m"}});
        assert_eq!((interval(Some(&template), &[]), window(seconds(120))), (seconds(120), None));
        let group = |millis: &str| json!([{"targets": ["localhost:1"], "labels": {(names::META_INTERVAL_MS): millis}}]);
        let pod =
            |targets: &Value| json!({"metadata": {"annotations": {(names::TARGETS): targets.to_string()}}});
        let (slow, odd) = (pod(&group("600000")), pod(&group("soon")));
        assert_eq!(interval(Some(&template), &[&slow, &odd]), seconds(600));
        assert_eq!(window(seconds(600)), Some(seconds(1260)));
    }

    #[test]
    fn a_pod_of_which_nothing_arrives_for_want_of_a_target_is_none_that_is_missing() {
        let mut pod = pod("Running", &json!({"running": {"startedAt": "2026-10-01T11:00:00Z"}}));
        pod["metadata"]["annotations"][names::TARGETS] = json!(r#"[{"targets":["localhost"],"labels":{}}]"#);
        let why = "it has no target: no container declares a port, and no annotation names one".to_owned();
        assert_eq!(judged(&pod, None), (Verdict::NoTarget, why));
        // A monitor may bring a port of its own.
        assert_eq!(judged(&pod, Some(true)).0, Verdict::Delivering);
        assert!(!Verdict::NoTarget.is_bad());
    }

    #[test]
    fn an_answer_is_read_or_says_why_it_is_none() {
        let answer = json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"namespace": "a", "pod": "x"}, "value": [1, "1"]},
            {"metric": {"namespace": "a", "pod": "y"}, "value": [1, "0"]},
            {"metric": {"namespace": "a"}, "value": [1, "1"]},
        ]}});
        let pod = |name: &str| ("a".to_owned(), name.to_owned());
        let pods = [(pod("x"), true), (pod("y"), false)].into();
        let expected = Arrived { pods, anonymous: 1, ..Arrived::default() };
        assert_eq!(arrived(&answer), Ok(expected));
        let refused = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        assert_eq!(arrived(&refused), Err("parse error".to_owned()));
        let other = "it does not answer as the query API of Prometheus does".to_owned();
        assert_eq!(arrived(&Value::Null), Err(other));
    }
}
