//! Changes one after another, and what has to be done after each.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Keeping, Work, World};
use crate::admission::Policy;
use crate::admission::catalog::NamespaceMeta;
use crate::admission::sidecar::config_map_name;
use crate::controller::events::event::Regarding;
use crate::controller::events::refused;
use crate::controller::fleet::Member;
use crate::controller::plan::{Observed, Seen, Step, digest};
use crate::monitors::object::{Kind, MonitorId, MonitorKey};
use crate::monitors::podmonitor::PodMonitor;
use crate::names;
use crate::store::inventory::{Concerned, Namespace};
use crate::template::Settings;
use crate::template::agent::TemplateId;

pub(super) fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

pub(super) fn id(namespace: &str, name: &str) -> TemplateId {
    TemplateId { namespace: namespace.to_owned(), name: name.to_owned() }
}

pub(super) fn key(kind: Kind, namespace: &str, name: &str) -> MonitorKey {
    MonitorKey { kind, id: MonitorId { namespace: namespace.to_owned(), name: name.to_owned() } }
}

pub(super) fn ids(ids: &[(&str, &str)]) -> Concerned {
    ids.iter().map(|(namespace, name)| id(namespace, name)).collect()
}

/// A claimed template that any namespace may use.
pub(super) fn template(namespace: &str, name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {
            "namespace": namespace, "name": name, "uid": "u",
            "annotations": {(names::CONTROLLER_ID): "promsidecar", (names::ALLOWED_NAMESPACES): "*"},
        },
        "spec": {"version": version},
    })
}

fn world() -> World {
    World::new(Settings::default(), Policy::default(), "own".to_owned())
}

fn namespace(world: &mut World, name: &str, inject: Option<&str>) -> Concerned {
    let label = |key: &str| inject.filter(|_| key == names::INJECT);
    world.namespace_applied(name, labelled(NamespaceMeta::new(label, |_| None)))
}

/// A namespace without further labels.
fn labelled(meta: NamespaceMeta) -> Namespace {
    Namespace { meta, ..Namespace::default() }
}

/// A world with the template `a/one` in its namespace.
pub(super) fn with_template() -> World {
    let mut world = world();
    namespace(&mut world, "a", None);
    world.template_applied(&template("a", "one", "3.13.5")).unwrap();
    world
}

/// Namespaces in which a ConfigMap would be created.
fn created(work: &Work) -> BTreeSet<&str> {
    let steps = work.steps.as_ref().unwrap().iter();
    steps
        .map(|step| match step {
            Step::Create(object) => object["metadata"]["namespace"].as_str().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Does what has to be done, as the API server would tell of it.
pub(super) fn done(world: &mut World, id: &TemplateId) {
    let work = world.work(id, now());
    for step in work.steps.unwrap() {
        let (Step::Create(object) | Step::Apply(object)) = step else { panic!("{step:?}") };
        let content = object["data"][names::CONFIG_KEY].as_str().unwrap();
        let observed =
            Observed { digest: digest(content), marked: true, unused_since: None, seen: Seen::default() };
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        world.config_map_applied(namespace, &config_map_name(id), Some(id.clone()), observed);
    }
    if let Keeping::Keep(object) = work.keeping {
        let object = object["data"][names::LAST_GOOD_KEY].as_str().unwrap();
        world.kept(id, Some(serde_json::from_str(object).unwrap()));
    }
}

pub(super) fn nothing() -> Work {
    Work { steps: Ok(Vec::new()), keeping: Keeping::AsItIs, again: None }
}

#[test]
fn a_template_is_delivered_to_its_own_namespace_to_those_that_ask_and_to_those_of_its_pods() {
    let (mut world, one) = (with_template(), id("a", "one"));
    assert_eq!(created(&world.work(&one, now())), ["a"].into());
    assert_eq!(namespace(&mut world, "b", Some("true")), ids(&[]), "no template in b");
    assert_eq!(namespace(&mut world, "a", Some("true")), ids(&[("a", "one")]));
    let annotation = |key: &str| (key == names::TEMPLATE).then_some("a/one");
    let label = |key: &str| (key == names::INJECT).then_some("true");
    assert_eq!(
        world.namespace_applied("b", labelled(NamespaceMeta::new(label, annotation))),
        ids(&[("a", "one")])
    );
    namespace(&mut world, "c", None);
    let member = Member { hash: "h".to_owned(), ready: true, targeted: true, newer: false };
    let pod = ("c".to_owned(), "web".to_owned());
    assert_eq!(world.pod_applied(pod.clone(), one.clone(), member), ids(&[("a", "one")]));
    assert_eq!(created(&world.work(&one, now())), ["a", "b", "c"].into());

    done(&mut world, &one);
    assert_eq!(world.work(&one, now()), nothing());
    // The last pod ends: its ConfigMap is noted as unused.
    assert_eq!(world.pod_deleted(&pod), ids(&[("a", "one")]));
    let mark = Step::Mark {
        namespace: "c".to_owned(),
        name: config_map_name(&one),
        unused_since: Some(now()),
        seen: Seen::default(),
    };
    assert_eq!(world.work(&one, now()).steps, Ok(vec![mark]));
    // A namespace that goes takes its ConfigMap with it.
    world.namespace_deleted("c");
    assert_eq!(world.work(&one, now()), nothing());
}

#[test]
fn a_pod_that_claims_a_template_that_its_namespace_may_not_use_brings_nothing_there() {
    let (mut world, one) = (with_template(), id("a", "one"));
    namespace(&mut world, "c", None);
    let permitted = template("a", "one", "3.13.5");
    let mut private = permitted.clone();
    private["metadata"]["annotations"][names::ALLOWED_NAMESPACES] = json!("b");
    world.template_applied(&private).unwrap();
    let member = Member { hash: "h".to_owned(), ready: true, targeted: true, newer: false };
    world.pod_applied(("c".to_owned(), "web".to_owned()), one.clone(), member);
    assert_eq!(created(&world.work(&one, now())), ["a"].into());

    // What came while it was permitted stays, and stays up to date, for as long as the pod runs.
    world.template_applied(&permitted).unwrap();
    assert_eq!(created(&world.work(&one, now())), ["a", "c"].into());
    done(&mut world, &one);
    private["spec"]["version"] = json!("3.12.0");
    private["spec"]["scrapeInterval"] = json!("11s");
    world.template_applied(&private).unwrap();
    let steps = world.work(&one, now()).steps.unwrap();
    assert!(matches!(&steps[..], [Step::Apply(_), Step::Apply(_)]), "{steps:?}");
}

#[test]
fn a_pod_that_differs_in_nothing_that_counts_brings_no_work() {
    let (mut world, one) = (with_template(), id("a", "one"));
    let mut told = |ready, hash: &str| {
        let member = Member { hash: hash.to_owned(), ready, targeted: true, newer: false };
        world.pod_applied(("a".to_owned(), "web".to_owned()), one.clone(), member)
    };
    let concerned = ids(&[("a", "one")]);
    for (ready, hash, expected) in
        [(false, "h", &concerned), (false, "h", &ids(&[])), (true, "h", &concerned), (true, "i", &concerned)]
    {
        assert_eq!(&told(ready, hash), expected, "{ready} {hash}");
    }
}

#[test]
fn a_second_template_makes_the_choice_of_a_namespace_ambiguous() {
    let mut world = with_template();
    namespace(&mut world, "a", Some("true"));
    assert_eq!(world.asked.get("a"), Some(&id("a", "one")));
    let concerned = world.template_applied(&template("a", "two", "3.13.5")).unwrap();
    assert_eq!(concerned, ids(&[("a", "one"), ("a", "two")]));
    assert_eq!(world.template_deleted(&id("a", "two")), ids(&[("a", "one"), ("a", "two")]));
    assert_eq!(world.asked.get("a"), Some(&id("a", "one")));
}

#[test]
fn a_rejected_edit_changes_nothing_that_is_delivered_and_another_process_begins_with_what_is_kept() {
    let (mut world, one) = (with_template(), id("a", "one"));
    done(&mut world, &one);
    let kept = world.inventory.kept()[&one].clone();
    let bad = template("a", "one", "2.0.0");
    world.template_applied(&bad).unwrap();
    assert_eq!(world.work(&one, now()), nothing());
    assert!(world.known(&one).unwrap().good.is_some());

    let mut restarted = self::world();
    namespace(&mut restarted, "a", None);
    restarted.template_applied(&bad).unwrap();
    assert_eq!(restarted.kept(&one, Some(kept)), ids(&[("a", "one")]));
    // The same bytes as before.
    let (before, after) = (&world.config_maps[&config_map_name(&one)]["a"], restarted.work(&one, now()));
    let Step::Create(object) = &after.steps.unwrap()[0] else { panic!("nothing is delivered") };
    assert_eq!(digest(object["data"][names::CONFIG_KEY].as_str().unwrap()), before.digest);
    assert_eq!(after.keeping, Keeping::AsItIs);
}

#[test]
fn a_template_that_is_gone_or_released_leaves_its_pods_what_they_have() {
    let one = id("a", "one");
    let mut released = template("a", "one", "3.13.5");
    released["metadata"]["annotations"] = json!({});
    for deleted in [true, false] {
        let mut world = with_template();
        let member = Member { hash: "h".to_owned(), ready: true, targeted: true, newer: false };
        world.pod_applied(("a".to_owned(), "web".to_owned()), one.clone(), member);
        done(&mut world, &one);
        let concerned =
            if deleted { world.template_deleted(&one) } else { world.template_applied(&released).unwrap() };
        assert_eq!(concerned, ids(&[("a", "one")]));
        assert_eq!(world.work(&one, now()), Work { keeping: Keeping::Forget, ..nothing() });
        assert_eq!(world.status(&one, &Ok(()), now()), None, "nobody's object is written to");
        world.kept(&one, None);
        world.pod_deleted(&("a".to_owned(), "web".to_owned()));
        let steps = world.work(&one, now()).steps.unwrap();
        assert!(matches!(&steps[..], [Step::Mark { unused_since: Some(_), .. }]), "{steps:?}");
        world.forget(&one);
        assert!(world.all().contains(&one));
        world.config_map_deleted("a", &config_map_name(&one));
        world.forget(&one);
        assert!(!world.all().contains(&one), "nothing of it is left");
    }
}

#[test]
fn a_config_map_that_was_changed_by_others_is_put_right_whatever_its_annotation_says() {
    let (mut world, one) = (with_template(), id("a", "one"));
    done(&mut world, &one);
    let name = config_map_name(&one);
    let foreign = Observed { digest: digest("x"), marked: false, unused_since: None, seen: Seen::default() };
    assert_eq!(world.config_map_applied("a", &name, Some(id("b", "other")), foreign), ids(&[("a", "one")]));
    let steps = world.work(&one, now()).steps.unwrap();
    assert!(
        matches!(&steps[..], [Step::Apply(object)] if object["metadata"]["namespace"] == "a"),
        "{steps:?}"
    );
    assert_eq!(world.config_map_deleted("a", &name), ids(&[("a", "one")]));
    assert_eq!(created(&world.work(&one, now())), ["a"].into());
}

#[test]
fn a_status_is_written_once_and_counts_alone_are_not_urgent() {
    let (mut world, one) = (with_template(), id("a", "one"));
    let (status, urgent) = world.status(&one, &Ok(()), now()).unwrap();
    assert!(urgent);
    let mut object = template("a", "one", "3.13.5");
    object["status"] = status;
    world.template_applied(&object).unwrap();
    assert_eq!(world.status(&one, &Ok(()), now()), None);
    let hash = world.known(&one).unwrap().entry.sidecar.as_ref().unwrap().hash.clone();
    for (name, hash) in [("1", hash.as_str()), ("2", "old")] {
        let member = Member { hash: hash.to_owned(), ready: true, targeted: true, newer: false };
        world.pod_applied(("a".to_owned(), name.to_owned()), one.clone(), member);
    }
    let (status, urgent) = world.status(&one, &Ok(()), now()).unwrap();
    assert_eq!((&status["replicas"], &status["updatedReplicas"], urgent), (&json!(2), &json!(1), false));
}

#[test]
fn a_template_that_is_released_gets_our_status_taken_back() {
    let (mut world, one) = (with_template(), id("a", "one"));
    let mut released = template("a", "one", "3.13.5");
    released["status"] = world.status(&one, &Ok(()), now()).unwrap().0;
    released["metadata"]["annotations"] = json!({});
    for listed in [false, true] {
        if listed {
            world.all_templates(std::slice::from_ref(&released));
        } else {
            world.template_applied(&released).unwrap();
        }
        assert_eq!(world.status(&one, &Ok(()), now()), Some((Value::Null, false)));
        assert!(world.all().contains(&one), "also by a controller that starts then");
    }
    released["status"] = json!({});
    world.template_applied(&released).unwrap();
    assert_eq!(world.status(&one, &Ok(()), now()), None);
}

#[test]
fn what_the_owner_of_a_pod_may_not_know_is_for_the_owner_of_the_template() {
    let mut world = with_template();
    let pod = |inject: &str| {
        let mark = json!({
            "namespace": "b", "name": "web", "uid": "p", "creationTimestamp": "2026-11-25T12:00:00Z",
            "labels": {(names::INJECTED): "false"},
            "annotations": {(names::INJECT): inject, (names::SKIPPED): "template-not-found: none"},
        });
        refused::read(&serde_json::from_value(mark).unwrap()).unwrap()
    };
    assert_eq!(world.withheld(&pod("a/one")), None, "by now it is permitted");
    let mut private = template("a", "one", "3.13.5");
    private["metadata"]["annotations"][names::ALLOWED_NAMESPACES] = json!("c");
    world.template_applied(&private).unwrap();
    let told = |world: &World, inject: &str| {
        let event = world.withheld(&pod(inject))?;
        Some((event.regarding.kind, event.regarding.name, event.reason, event.note))
    };
    let expected = |reason, why: &str| {
        let note = format!("pods of namespace b asked: {why}");
        Some(("PrometheusAgent".to_owned(), "one".to_owned(), reason, note))
    };
    let why = "a/one does not list b in allowed-namespaces";
    assert_eq!(told(&world, "a/one"), expected("TemplateNotPermitted", why));
    assert_eq!(told(&world, "a/other"), None, "there is none");
    private["metadata"]["annotations"] = json!({});
    world.template_applied(&private).unwrap();
    let why = "a/one lacks our operator.prometheus.io/controller-id";
    assert_eq!(told(&world, "a/one"), expected("TemplateNotClaimed", why));
}

#[test]
fn a_template_whose_configuration_no_config_map_holds_keeps_its_last_good_version() {
    let (mut world, one) = (with_template(), id("a", "one"));
    done(&mut world, &one);
    let mut large = template("a", "one", "3.13.5");
    for number in 0..100 {
        large["spec"]["externalLabels"][format!("long_{number}")] = json!("x".repeat(11_000));
    }
    world.template_applied(&large).unwrap();
    assert_eq!(world.work(&one, now()), nothing());
    let (status, _) = world.status(&one, &Ok(()), now()).unwrap();
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("spec: \"11") && message.contains("that a ConfigMap holds"), "{message}");
    assert_eq!(status["conditions"][1]["reason"], "LastGoodInForce");
}

/// A monitor of all pods of its namespace.
fn monitor(namespace: &str, spec: &Value, status: &Value) -> PodMonitor {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "web", "namespace": namespace, "uid": "m", "generation": 1},
        "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "web"}]},
        "status": status,
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    PodMonitor::read(&object).unwrap()
}

/// A template of `a` that selects every monitor of the namespaces that this selector takes.
fn selects(name: &str, namespaces: &Value) -> Value {
    let mut object = template("a", name, "3.13.5");
    object["spec"]["podMonitorSelector"] = json!({});
    object["spec"]["podMonitorNamespaceSelector"] = namespaces.clone();
    object
}

/// A world with the template `a/one`, which selects every monitor of every namespace and is delivered.
fn selecting() -> World {
    let mut world = with_template();
    world.template_applied(&selects("one", &json!({}))).unwrap();
    done(&mut world, &id("a", "one"));
    world
}

#[test]
fn a_template_that_comes_back_is_rendered_with_the_monitors_of_now() {
    let (mut world, one) = (selecting(), id("a", "one"));
    world.monitor_applied(monitor("a", &json!({}), &json!({})));
    done(&mut world, &one);
    // A follower looks at nothing between the two.
    world.template_deleted(&one);
    let other = json!({"podMetricsEndpoints": [{"port": "other"}]});
    world.monitor_applied(monitor("a", &other, &json!({})));
    world.template_applied(&selects("one", &json!({}))).unwrap();
    let [Step::Apply(object)] = &world.work(&one, now()).steps.unwrap()[..] else { panic!("one is applied") };
    assert!(object["data"][names::CONFIG_KEY].as_str().unwrap().contains("regex: other"));
}

#[test]
fn monitors_of_a_namespace_that_goes_are_selected_no_longer_whatever_the_selector_says_of_unknown_labels() {
    let not_in = json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["untrusted"]}]});
    let (mut world, one) = (with_template(), id("a", "one"));
    world.template_applied(&selects("one", &not_in)).unwrap();
    let about_all = json!({"namespaceSelector": {"any": true}});
    // Nothing is known yet of its namespace.
    world.monitor_applied(monitor("evil", &about_all, &json!({})));
    done(&mut world, &one);
    let content = |world: &mut World| match &world.work(&id("a", "one"), now()).steps.unwrap()[..] {
        [] => None,
        [Step::Apply(object)] => Some(object["data"][names::CONFIG_KEY].as_str().unwrap().to_owned()),
        other => panic!("{other:?}"),
    };
    let labels = |tier: &str| Namespace {
        labels: [("tier".to_owned(), tier.to_owned())].into(),
        ..Namespace::default()
    };
    for tier in ["untrusted", "trusted"] {
        assert_eq!(content(&mut world), None);
        let concerned = world.namespace_applied("evil", labels(tier));
        assert_eq!(concerned, ids(&[("a", "one")]));
    }
    assert!(content(&mut world).unwrap().contains("podMonitor/evil/web/0"));
    done(&mut world, &one);
    assert_eq!(world.namespace_deleted("evil"), ids(&[("a", "one")]));
    assert!(!content(&mut world).unwrap().contains("podMonitor/evil"));
    done(&mut world, &one);
    let mut going = monitor("evil", &about_all, &json!({}));
    going.generation = 2;
    world.monitor_applied(going);
    assert_eq!(content(&mut world), None);
}

#[test]
fn a_monitor_brings_work_to_the_templates_that_select_it_where_it_is_about_their_pods() {
    let (mut world, one) = (selecting(), id("a", "one"));
    assert_eq!(world.work(&one, now()), nothing());
    assert_eq!(world.monitor_applied(monitor("a", &json!({}), &json!({}))), ids(&[("a", "one")]));
    let [Step::Apply(object)] = &world.work(&one, now()).steps.unwrap()[..] else { panic!("one is applied") };
    let content = object["data"][names::CONFIG_KEY].as_str().unwrap();
    assert!(content.contains("podMonitor/a/web/0"), "{content}");
    done(&mut world, &one);
    // What others write into its status is nothing to anybody.
    let told = json!({"bindings": []});
    assert_eq!(world.monitor_applied(monitor("a", &json!({}), &told)), ids(&[]));
    assert_eq!(world.work(&one, now()), nothing());

    // About pods of others: nothing is different in `a`.
    assert_eq!(world.monitor_applied(monitor("b", &json!({}), &json!({}))), ids(&[("a", "one")]));
    assert_eq!(world.work(&one, now()), nothing());
    let gone = key(Kind::Pod, "a", "web");
    assert_eq!(world.monitor_deleted(&gone), ids(&[("a", "one")]));
    assert_eq!(world.work(&one, now()).steps.unwrap().len(), 1);
    assert_eq!(world.all_monitors(Kind::Pod, Vec::new()), ids(&[("a", "one")]));
    assert!(!world.has_monitors(Kind::Pod));
}

#[test]
fn a_rejected_monitor_is_told_in_the_status_as_an_event_and_in_its_binding_until_they_say_so() {
    let (mut world, one) = (selecting(), id("a", "one"));
    let slow = json!({"podMetricsEndpoints": [{"scrapeTimeout": "soon"}]});
    world.monitor_applied(monitor("a", &slow, &json!({})));
    assert_eq!(world.work(&one, now()), nothing(), "a monitor that is not used changes no configuration");
    let (status, urgent) = world.status(&one, &Ok(()), now()).unwrap();
    let message = status["conditions"][0]["message"].as_str().unwrap();
    let rejected = "rejected: PodMonitor a/web: spec.podMetricsEndpoints[0].scrapeTimeout: ";
    assert!(urgent && message.starts_with(rejected), "{message}");

    let news = world.news(&one, &Ok(()));
    let [event] = &news[..] else { panic!("{news:?}") };
    let Regarding { kind, namespace, name, uid, .. } = &event.regarding;
    assert_eq!(
        [&**kind, namespace, name, uid, event.reason],
        ["PodMonitor", "a", "web", "m", "InvalidConfiguration"]
    );
    assert!(event.note.starts_with(&format!("template a/one: {rejected}")), "{}", event.note);

    let bindings = world.bindings(&one, now());
    let [binding] = &bindings[..] else { panic!("{bindings:?}") };
    assert_eq!((binding.monitor.to_string(), &*binding.uid), ("PodMonitor a/web".to_owned(), "m"));
    assert_eq!(binding.status["bindings"][0]["conditions"][0]["status"], "False");
    assert_eq!(world.news(&one, &Ok(())), [], "an Event is told once, whatever becomes of the status");

    // All of it is read back.
    let mut object = selects("one", &json!({}));
    object["status"] = status;
    world.template_applied(&object).unwrap();
    world.monitor_applied(monitor("a", &slow, &binding.status));
    world.work(&one, now());
    assert_eq!(world.status(&one, &Ok(()), now()), None);
    assert_eq!(world.bindings(&one, now()), []);

    // The template goes, and its binding with it.
    world.template_deleted(&one);
    let bindings = world.bindings(&one, now());
    assert_eq!(
        bindings.iter().map(|binding| &binding.status).collect::<Vec<_>>(),
        [&json!({"bindings": []})]
    );
}

#[test]
fn a_binding_waits_for_what_is_about_to_change_and_takes_nothing_from_other_templates() {
    let (mut world, one, two) = (selecting(), id("a", "one"), id("a", "two"));
    world.template_applied(&selects("two", &json!({}))).unwrap();
    done(&mut world, &two);
    world.monitor_applied(monitor("a", &json!({}), &json!({})));
    assert_eq!(world.bindings(&one, now()), [], "it is rendered again first");
    done(&mut world, &one);
    let bindings = world.bindings(&one, now());
    let named = |status: &Value| status["bindings"][0]["name"].clone();
    assert_eq!(bindings.iter().map(|binding| named(&binding.status)).collect::<Vec<_>>(), ["one"]);
    assert_eq!(world.bindings(&two, now()), [], "it is not looked at yet");
}

#[test]
fn few_of_many_rejected_monitors_have_events() {
    let (mut world, one) = (selecting(), id("a", "one"));
    for number in 0..250 {
        let mut bad = monitor("a", &json!({"podMetricsEndpoints": [{"interval": "soon"}]}), &json!({}));
        bad.id.name = format!("m{number}");
        world.monitor_applied(bad);
    }
    world.work(&one, now());
    assert_eq!(world.news(&one, &Ok(())).len(), 100);
    assert_eq!(world.news(&one, &Ok(())).len(), 0);
}
