//! Steps for one template in namespaces that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{InForce, KEPT, Observed, Rendered, Seen, Step, TooLarge, config_map, digest, next_deletion};
use crate::admission::sidecar::config_map_name;
use crate::monitors::selection::{Monitors, Selection};
use crate::names;
use crate::template::agent::{Agent, TemplateId};
use crate::template::{Settings, Template, render, validate};

fn agent(interval: &str) -> Agent {
    let object = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"namespace": "a", "name": "one"},
        "spec": {"scrapeInterval": interval},
    });
    let settings = Settings::default();
    validate::validate(&Template::read(&object, &settings).unwrap(), &settings).unwrap()
}

fn id() -> TemplateId {
    agent("30s").id
}

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn content(interval: &str) -> String {
    render::render(&agent(interval), "a", &Selection::default())
}

/// A ConfigMap of ours that has what it should.
fn good() -> Observed {
    Observed { digest: digest(&content("30s")), marked: true, unused_since: None, seen: seen() }
}

fn seen() -> Seen {
    Seen { uid: "u".to_owned(), resource_version: "7".to_owned() }
}

/// The object that is applied in place of [`good`].
fn applied(interval: &str) -> Step {
    let mut object = config_map(&id(), "a", &content(interval));
    object["metadata"]["uid"] = json!("u");
    Step::Apply(object)
}

/// The steps without a monitor.
fn plan(
    id: &TemplateId,
    agent: Option<&Arc<Agent>>,
    rendered: &mut Rendered,
    needed: &BTreeSet<&str>,
    observed: &BTreeMap<&str, &Observed>,
    now: Timestamp,
) -> Result<Vec<Step>, TooLarge> {
    let monitors = Monitors::default();
    let in_force = agent.map(|agent| InForce { agent, monitors: &monitors });
    super::plan(id, in_force, rendered, needed, observed, now)
}

/// Steps for the namespace `a`.
fn steps(agent: Option<&Agent>, needed: bool, found: Option<&Observed>) -> Vec<Step> {
    let needed = if needed { ["a"].into() } else { [].into() };
    let observed: BTreeMap<_, _> = found.iter().map(|found| ("a", *found)).collect();
    let agent = agent.cloned().map(Arc::new);
    let mut rendered = Rendered::default();
    let steps = plan(&id(), agent.as_ref(), &mut rendered, &needed, &observed, now()).unwrap();
    // The same, with what is known by then.
    assert_eq!(plan(&id(), agent.as_ref(), &mut rendered, &needed, &observed, now()).as_ref(), Ok(&steps));
    steps
}

fn mark(unused_since: Option<Timestamp>) -> Step {
    Step::Mark { namespace: "a".to_owned(), name: config_map_name(&id()), unused_since, seen: seen() }
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    assert_eq!(steps(Some(&agent("30s")), true, Some(&good())), []);
    assert_eq!(
        steps(None, true, Some(&good())),
        [],
        "a template that is gone leaves its pods what they have"
    );
    assert_eq!(steps(Some(&agent("30s")), false, None), []);
}

#[test]
fn one_that_is_missing_is_created_and_one_that_differs_is_applied() {
    let expected = config_map(&id(), "a", &content("30s"));
    assert_eq!(expected["data"][names::CONFIG_KEY], content("30s"));
    assert_eq!(steps(Some(&agent("30s")), true, None), [Step::Create(expected)]);
    let unmarked = Observed { marked: false, ..good() };
    assert_eq!(steps(Some(&agent("30s")), true, Some(&unmarked)), [applied("30s")]);
    assert_eq!(steps(Some(&agent("10s")), true, Some(&good())), [applied("10s")]);
}

#[test]
fn what_was_rendered_counts_for_the_version_that_it_was_rendered_from() {
    let (needed, found, mut rendered) = (["a"].into(), good(), Rendered::default());
    let observed: BTreeMap<_, _> = [("a", &found)].into();
    let mut steps = |interval: &str| {
        plan(&id(), Some(&Arc::new(agent(interval))), &mut rendered, &needed, &observed, now()).unwrap()
    };
    assert_eq!([steps("30s"), steps("10s"), steps("30s")], [vec![], vec![applied("10s")], vec![]]);
}

#[test]
fn one_that_nobody_uses_is_kept_for_a_week_from_when_that_was_noted() {
    assert_eq!(steps(Some(&agent("30s")), false, Some(&good())), [mark(Some(now()))]);
    let unused = |since: Timestamp| Observed { unused_since: Some(since), ..good() };
    let nearly =
        now().checked_sub(KEPT).unwrap().checked_add(k8s_openapi::jiff::SignedDuration::from_secs(1));
    assert_eq!(steps(None, false, Some(&unused(nearly.unwrap()))), []);
    let long_ago = now().checked_sub(KEPT).unwrap();
    let delete = Step::Delete { namespace: "a".to_owned(), name: config_map_name(&id()), seen: seen() };
    assert_eq!(steps(None, false, Some(&unused(long_ago))), [delete]);
    let observed = unused(now());
    assert_eq!(next_deletion(&[("a", &observed)].into()), now().checked_add(KEPT).ok());
    // A clock that was set back makes it younger, never older.
    assert_eq!(steps(None, false, Some(&unused(now().checked_add(KEPT).unwrap()))), []);
}

#[test]
fn one_that_is_used_again_is_kept_and_brought_up_to_date() {
    let unused = Observed { unused_since: Some(now()), ..good() };
    assert_eq!(steps(Some(&agent("30s")), true, Some(&unused)), [mark(None)]);
    // The mark is of the version before, which the API server would refuse: it is taken off when the watch has told of the new.
    assert_eq!(steps(Some(&agent("10s")), true, Some(&unused)), [applied("10s")]);
    // The template is gone, and its pods come back.
    assert_eq!(steps(None, true, Some(&unused)), [mark(None)]);
}

#[test]
fn a_configuration_that_no_config_map_holds_is_an_error_that_says_so() {
    let mut agent = agent("30s");
    let labels = &mut agent.config.global.external_labels;
    labels.insert("long".to_owned(), "x".repeat(render::MAX_BYTES));
    let mut rendered = Rendered::default();
    let error = plan(&id(), Some(&Arc::new(agent)), &mut rendered, &["a"].into(), &BTreeMap::new(), now());
    let error = error.unwrap_err();
    assert!(error.to_string().starts_with("the configuration has 10"), "{error}");
}
