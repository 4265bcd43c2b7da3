//! Monitors, templates and namespaces in every order in which watches bring them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Changed;
use crate::admission::sidecar::Sidecar;
use crate::monitors::podmonitor::{MonitorId, PodMonitor};
use crate::names;
use crate::store::inventory::{Inventory, Namespace};
use crate::template::Settings;
use crate::template::agent::TemplateId;

/// A template of `a` that all namespaces may use and that selects monitors of those with the label `tier: web`.
fn template(name: &str, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {
            "namespace": "a", "name": name, "uid": "u",
            "annotations": {(names::CONTROLLER_ID): "promsidecar", (names::ALLOWED_NAMESPACES): "*"},
        },
        "spec": {
            "podMonitorSelector": {"matchLabels": {"team": "one"}},
            "podMonitorNamespaceSelector": {"matchLabels": {"tier": "web"}},
        },
    });
    object["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// A monitor whose scrapes need a Secret.
fn monitor(namespace: &str, team: &str, secret: &str) -> PodMonitor {
    let object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"namespace": namespace, "name": "web", "labels": {"team": team}},
        "spec": {
            "selector": {},
            "podMetricsEndpoints": [{"port": "web", "bearerTokenSecret": {"name": secret, "key": "token"}}],
        },
    });
    PodMonitor::read(&object).unwrap()
}

fn id(name: &str) -> TemplateId {
    TemplateId { namespace: "a".to_owned(), name: name.to_owned() }
}

fn web() -> MonitorId {
    MonitorId { namespace: "b".to_owned(), name: "web".to_owned() }
}

fn label(inventory: &mut Inventory, name: &str, tier: &str) -> Changed {
    let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
    inventory.insert_namespace(name, Namespace { labels, ..Namespace::default() })
}

/// The sidecar of a template, which the catalog and what is known of it agree on.
fn sidecar<'a>(inventory: &'a Inventory, name: &str) -> &'a Sidecar {
    let admitted = inventory.catalog().template("a", name).unwrap().sidecar.as_ref().unwrap();
    let known = inventory.templates()[&id(name)].entry.sidecar.as_ref().unwrap();
    assert!(admitted.has_monitor_files_of(known));
    known
}

fn mounts_in(inventory: &Inventory, namespace: &str) -> bool {
    sidecar(inventory, "one").has_credentials(namespace)
}

#[test]
fn files_of_monitors_are_mounted_whatever_comes_first() {
    type Step = fn(&mut Inventory);
    let steps: [Step; 4] = [
        |inventory| drop(inventory.insert_template(&template("one", &json!({}))).unwrap()),
        |inventory| drop(inventory.insert_monitor(monitor("b", "one", "scrape"))),
        |inventory| drop(label(inventory, "b", "web")),
        // What another process kept of it.
        |inventory| inventory.keep(&id("one"), Some(template("one", &json!({})))),
    ];
    let orders = (0..4_usize.pow(4)).map(|number| [0, 1, 2, 3].map(|digit| number / 4_usize.pow(digit) % 4));
    let orders: Vec<_> = orders.filter(|order| (0..4).all(|step| order.contains(&step))).collect();
    assert_eq!(orders.len(), 24);
    for order in orders {
        let mut inventory = Inventory::new(Settings::default());
        let mut done = Vec::new();
        for at in order {
            steps[at](&mut inventory);
            done.push(at);
            if done.contains(&0) {
                let complete = [0, 1, 2].iter().all(|step| done.contains(step));
                assert_eq!(mounts_in(&inventory, "b"), complete, "{done:?}");
                assert!(!mounts_in(&inventory, "a"), "{done:?}");
            }
        }
    }
}

#[test]
fn a_change_concerns_the_templates_that_select_the_monitor_or_did() {
    let mut inventory = Inventory::new(Settings::default());
    label(&mut inventory, "b", "web");
    inventory.insert_template(&template("one", &json!({}))).unwrap();
    inventory
        .insert_template(&template("two", &json!({"podMonitorSelector": {"matchLabels": {"team": "two"}}})))
        .unwrap();
    inventory.insert_template(&template("none", &json!({"podMonitorSelector": null}))).unwrap();
    let concerned = |changed: Changed| {
        let monitors: Vec<_> =
            changed.monitors.iter().map(|monitor| monitor.labels["team"].clone()).collect();
        (changed.templates.into_iter().map(|id| id.name).collect::<Vec<_>>(), monitors)
    };
    let expected = |templates: &[&str], monitors: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        (owned(templates), owned(monitors))
    };
    assert_eq!(concerned(inventory.insert_monitor(monitor("b", "one", "s"))), expected(&["one"], &["one"]));
    assert_eq!(concerned(inventory.insert_monitor(monitor("b", "one", "s"))), expected(&[], &[]), "the same");
    let moved = inventory.insert_monitor(monitor("b", "two", "s"));
    assert_eq!(concerned(moved), expected(&["one", "two"], &["one", "two"]));
    assert!(!mounts_in(&inventory, "b"), "it is selected no longer");
    assert!(sidecar(&inventory, "two").has_credentials("b"));
    // Labels of its namespace, which only those templates look at.
    assert_eq!(concerned(label(&mut inventory, "b", "web")), expected(&[], &[]), "the same");
    assert_eq!(concerned(label(&mut inventory, "b", "db")), expected(&["two"], &["two"]));
    assert!(!sidecar(&inventory, "two").has_credentials("b"));
    assert_eq!(concerned(inventory.remove_monitor(&web())), expected(&["two"], &["two"]));
    assert_eq!(concerned(inventory.remove_monitor(&web())), expected(&[], &[]));
}

#[test]
fn a_list_of_all_monitors_is_taken_for_what_differs() {
    let mut inventory = Inventory::new(Settings::default());
    inventory.insert_template(&template("one", &json!({}))).unwrap();
    for namespace in ["b", "c", "d"] {
        label(&mut inventory, namespace, "web");
    }
    let all = || vec![monitor("b", "one", "s"), monitor("c", "one", "s")];
    assert_eq!(inventory.replace_monitors(all()).templates, [id("one")].into());
    assert_eq!(inventory.replace_monitors(all()), Changed::default());
    let other = vec![monitor("b", "one", "s"), monitor("d", "one", "s")];
    let namespaces = |changed: Changed| -> Vec<String> {
        changed.monitors.iter().map(|monitor| monitor.id.namespace.clone()).collect()
    };
    assert_eq!(namespaces(inventory.replace_monitors(other)), ["c", "d"]);
    assert_eq!(["b", "c", "d"].map(|namespace| mounts_in(&inventory, namespace)), [true, false, true]);
}

#[test]
fn all_namespaces_listed_again_change_nothing() {
    let mut inventory = Inventory::new(Settings::default());
    inventory.insert_template(&template("one", &json!({}))).unwrap();
    inventory.insert_monitor(monitor("b", "one", "s"));
    let namespace = |tier: &str| {
        let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
        ("b".to_owned(), Namespace { labels, ..Namespace::default() })
    };
    inventory.replace_namespaces(vec![namespace("web")]);
    assert!(mounts_in(&inventory, "b"));
    inventory.replace_namespaces(vec![namespace("db")]);
    assert!(!mounts_in(&inventory, "b"));
    inventory.replace_namespaces(vec![namespace("web")]);
    inventory.replace_namespaces(Vec::new());
    inventory.insert_monitor(monitor("b", "one", "other"));
    assert!(!mounts_in(&inventory, "b"), "labels of a namespace that is gone count no longer");
}

#[test]
fn a_template_keeps_the_files_of_its_monitors_through_statuses_bad_edits_and_pauses() {
    let mut inventory = Inventory::new(Settings::default());
    label(&mut inventory, "b", "web");
    inventory.insert_monitor(monitor("b", "one", "s"));
    inventory.insert_template(&template("one", &json!({}))).unwrap();
    let hash = sidecar(&inventory, "one").hash_in("b").to_owned();
    assert_ne!(hash, sidecar(&inventory, "one").hash);
    let mut with_status = template("one", &json!({}));
    with_status["status"] = json!({"paused": false});
    for object in [
        with_status,
        template("one", &json!({"version": "2.0.0"})),
        template("one", &json!({"paused": true})),
    ] {
        inventory.insert_template(&object).unwrap();
        assert_eq!(sidecar(&inventory, "one").hash_in("b"), hash);
    }
    // Neither freezes the monitors, which are objects of their own.
    inventory.insert_monitor(monitor("b", "one", "other"));
    assert_ne!(sidecar(&inventory, "one").hash_in("b"), hash);
    inventory.remove_monitor(&web());
    assert_eq!(sidecar(&inventory, "one").hash_in("b"), sidecar(&inventory, "one").hash);
}

#[test]
fn files_are_mounted_where_the_template_may_be_used() {
    let mut inventory = Inventory::new(Settings::default());
    for namespace in ["a", "b"] {
        label(&mut inventory, namespace, "web");
        inventory.insert_monitor(monitor(namespace, "one", "s"));
    }
    let mut own = template("one", &json!({}));
    own["metadata"]["annotations"].as_object_mut().unwrap().remove(names::ALLOWED_NAMESPACES);
    let shared = template("one", &json!({}));
    for (object, in_b) in [(&own, false), (&shared, true), (&own, false)] {
        inventory.insert_template(object).unwrap();
        assert_eq!((mounts_in(&inventory, "a"), mounts_in(&inventory, "b")), (true, in_b));
    }
}
