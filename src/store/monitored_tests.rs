//! Monitors, templates and namespaces in every order in which watches bring them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Changed;
use crate::admission::catalog::NamespaceMeta;
use crate::admission::sidecar::Sidecar;
use crate::monitors::any::AnyMonitor;
use crate::monitors::object::{Kind, MonitorId, MonitorKey};
use crate::monitors::service::Service;
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
            "serviceMonitorSelector": {"matchLabels": {"team": "one"}},
            "serviceMonitorNamespaceSelector": {"matchLabels": {"tier": "web"}},
        },
    });
    object["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// A monitor of a kind whose scrapes need a Secret.
fn monitor_of(kind: Kind, namespace: &str, team: &str, secret: &str) -> AnyMonitor {
    let endpoints = json!([{"port": "web", "bearerTokenSecret": {"name": secret, "key": "token"}}]);
    let object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind.word(),
        "metadata": {"namespace": namespace, "name": "web", "labels": {"team": team}},
        "spec": match kind {
            Kind::Pod => json!({"selector": {}, "podMetricsEndpoints": endpoints}),
            Kind::Service => json!({"selector": {}, "endpoints": endpoints}),
        },
    });
    AnyMonitor::read(kind, &object).unwrap()
}

/// One of pods.
fn monitor(namespace: &str, team: &str, secret: &str) -> AnyMonitor {
    monitor_of(Kind::Pod, namespace, team, secret)
}

fn service(name: &str, selector: &Value) -> Service {
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "b", "name": name},
        "spec": {"selector": selector, "ports": [{"name": "web", "port": 80}]},
    });
    Service::read(&object).unwrap()
}

fn id(name: &str) -> TemplateId {
    TemplateId { namespace: "a".to_owned(), name: name.to_owned() }
}

fn web() -> MonitorKey {
    MonitorKey { kind: Kind::Pod, id: MonitorId { namespace: "b".to_owned(), name: "web".to_owned() } }
}

/// A namespace whose Secrets of these names templates of others may use.
fn namespace(tier: &str, allowed: &[&str]) -> Namespace {
    let allowed_secrets = allowed.iter().map(|&name| name.to_owned()).collect();
    Namespace {
        labels: BTreeMap::from([("tier".to_owned(), tier.to_owned())]),
        meta: NamespaceMeta { allowed_secrets, ..NamespaceMeta::default() },
    }
}

/// One that lets templates of others use every Secret of these tests.
fn open(tier: &str) -> Namespace {
    namespace(tier, &["s", "scrape", "other"])
}

fn label(inventory: &mut Inventory, name: &str, tier: &str) -> Changed {
    inventory.insert_namespace(name, open(tier))
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
fn files_of_monitors_are_mounted_whatever_comes_first_and_whatever_services_there_are() {
    let orders =
        (0..5_usize.pow(5)).map(|number| [0, 1, 2, 3, 4].map(|digit| number / 5_usize.pow(digit) % 5));
    let orders: Vec<_> = orders.filter(|order| (0..5).all(|step| order.contains(&step))).collect();
    assert_eq!(orders.len(), 120);
    for (kind, order) in Kind::ALL.into_iter().flat_map(|kind| orders.iter().map(move |order| (kind, order)))
    {
        let step = |inventory: &mut Inventory, number: usize| match number {
            0 => drop(inventory.insert_template(&template("one", &json!({}))).unwrap()),
            1 => drop(inventory.insert_monitor(monitor_of(kind, "b", "one", "scrape"))),
            2 => drop(label(inventory, "b", "web")),
            // What another process kept of it.
            3 => inventory.keep(&id("one"), Some(template("one", &json!({})))),
            _ => drop(inventory.insert_service(service("shop", &json!({"app": "web"})))),
        };
        let mut inventory = Inventory::new(Settings::default());
        let mut done = Vec::new();
        for &at in order {
            step(&mut inventory, at);
            done.push(at);
            if done.contains(&0) {
                let complete = [0, 1, 2].iter().all(|step| done.contains(step));
                assert_eq!(mounts_in(&inventory, "b"), complete, "{kind} {done:?}");
                assert!(!mounts_in(&inventory, "a"), "{kind} {done:?}");
            }
        }
    }
}

#[test]
fn a_list_of_all_services_is_taken_for_what_differs() {
    let mut inventory = Inventory::new(Settings::default());
    let web = json!({"app": "web"});
    let names = |changed: Vec<Arc<Service>>| -> Vec<(String, bool)> {
        changed.iter().map(|service| (service.id.name.clone(), service.spec.is_ok())).collect()
    };
    let expected = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
        names.iter().map(|&(name, is)| (name.to_owned(), is)).collect()
    };
    let all = || vec![service("one", &web), service("two", &web)];
    assert_eq!(names(inventory.replace_services(all())), expected(&[("one", true), ("two", true)]));
    assert_eq!(names(inventory.replace_services(all())), expected(&[]));
    assert_eq!(names(inventory.insert_service(service("two", &web))), expected(&[]));
    // As it was and as it is.
    let without = service("two", &json!({}));
    let changed = inventory.replace_services(vec![without, service("three", &web)]);
    assert_eq!(names(changed), expected(&[("one", true), ("two", true), ("two", false), ("three", true)]));
    let gone = |inventory: &mut Inventory, name: &str| {
        let id = MonitorId { namespace: "b".to_owned(), name: name.to_owned() };
        inventory.remove_service(&id).is_some()
    };
    assert_eq!(["one", "two", "two"].map(|name| gone(&mut inventory, name)), [false, true, false]);
    assert_eq!(inventory.monitors().services().all().count(), 1);
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
            changed.monitors.iter().map(|monitor| monitor.head().labels["team"].clone()).collect();
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
    assert_eq!(inventory.replace_monitors(Kind::Pod, all()).templates, [id("one")].into());
    assert_eq!(inventory.replace_monitors(Kind::Pod, all()), Changed::default());
    // Those of another kind that have the same names are others.
    assert_eq!(inventory.replace_monitors(Kind::Service, Vec::new()), Changed::default());
    let other = vec![monitor("b", "one", "s"), monitor("d", "one", "s")];
    let namespaces = |changed: Changed| -> Vec<String> {
        changed.monitors.iter().map(|monitor| monitor.head().id.namespace.clone()).collect()
    };
    assert_eq!(namespaces(inventory.replace_monitors(Kind::Pod, other)), ["c", "d"]);
    assert_eq!(["b", "c", "d"].map(|namespace| mounts_in(&inventory, namespace)), [true, false, true]);
}

#[test]
fn all_namespaces_listed_again_change_nothing() {
    let mut inventory = Inventory::new(Settings::default());
    inventory.insert_template(&template("one", &json!({}))).unwrap();
    inventory.insert_monitor(monitor("b", "one", "s"));
    let named = |tier: &str| ("b".to_owned(), open(tier));
    inventory.replace_namespaces(vec![named("web")]);
    assert!(mounts_in(&inventory, "b"));
    inventory.replace_namespaces(vec![named("db")]);
    assert!(!mounts_in(&inventory, "b"));
    inventory.replace_namespaces(vec![named("web")]);
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

#[test]
fn a_template_of_another_namespace_gets_what_the_pods_namespace_lists_and_its_own_gets_everything() {
    let (foreign, own) = (template("one", &json!({})), {
        let mut own = template("own", &json!({}));
        own["metadata"]["namespace"] = json!("b");
        own
    });
    for kind in Kind::ALL {
        let mut inventory = Inventory::new(Settings::default());
        inventory.insert_template(&foreign).unwrap();
        inventory.insert_template(&own).unwrap();
        inventory.insert_namespace("b", namespace("web", &[]));
        inventory.insert_monitor(monitor_of(kind, "b", "one", "db-admin"));
        let own_mounts = |inventory: &Inventory| {
            inventory.catalog().template("b", "own").unwrap().sidecar.as_ref().unwrap().has_credentials("b")
        };
        assert_eq!((mounts_in(&inventory, "b"), own_mounts(&inventory)), (false, true), "{kind}");
        let hash = |inventory: &Inventory| sidecar(inventory, "one").hash_in("b").to_owned();
        assert_eq!(hash(&inventory), sidecar(&inventory, "one").hash, "pods are up to date without it");

        // The annotation alone is another one.
        let templates = [id("one"), TemplateId { namespace: "b".to_owned(), name: "own".to_owned() }];
        let listed = inventory.insert_namespace("b", namespace("web", &["another", "db-admin"]));
        assert_eq!(listed.templates, templates.clone().into(), "{kind}");
        assert!(mounts_in(&inventory, "b"));
        assert_ne!(hash(&inventory), sidecar(&inventory, "one").hash, "pods from before are outdated");
        let same = inventory.insert_namespace("b", namespace("web", &["db-admin", "another"]));
        assert_eq!(same, Changed::default(), "{kind}");
        inventory.insert_namespace("b", namespace("web", &["another"]));
        assert_eq!((mounts_in(&inventory, "b"), own_mounts(&inventory)), (false, true), "{kind}");

        // The controller says why, of the foreign template alone.
        let told = |template: &TemplateId| {
            let agent = &inventory.templates()[template].good.as_ref().unwrap().agent;
            let selection = inventory.monitors().select(agent, "b");
            assert!(selection.files.is_empty() == (template.namespace == "a"));
            selection.notes().into_iter().filter(|note| note.starts_with("rejected")).collect::<Vec<_>>()
        };
        let [foreign, own] = templates.each_ref().map(told);
        assert_eq!(own, [""; 0], "{kind}");
        let end = "\"db-admin\": is not in allowed-secrets of the pods' namespace, which a template of another namespace \
                   needs; list it in the Namespace's annotation sidecar.prometheus.io/allowed-secrets, or use a template \
                   of the namespace";
        assert!(foreign.len() == 1 && foreign[0].ends_with(end), "{foreign:?}");
    }
}
