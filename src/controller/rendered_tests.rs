//! Contents and remarks as monitors come, change and go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{InForce, Rendered};
use crate::monitors::object::{Kind, MonitorId, MonitorKey};
use crate::monitors::podmonitor::PodMonitor;
use crate::monitors::selection::{Monitors, Selection, Surroundings};
use crate::monitors::service::Service;
use crate::monitors::servicemonitor::ServiceMonitor;
use crate::template::agent::Agent;
use crate::template::{Settings, Template, render, validate};

/// A template of `shop` that selects every monitor of every namespace.
fn agent(more: &Value) -> Arc<Agent> {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {"name": "agent", "namespace": "shop"},
        "spec": {
            "podMonitorSelector": {}, "podMonitorNamespaceSelector": {},
            "serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {},
        },
    });
    object["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let settings = Settings::default();
    Arc::new(validate::validate(&Template::read(&object, &settings).unwrap(), &settings).unwrap())
}

fn monitor(namespace: &str, spec: &Value) -> PodMonitor {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "web", "namespace": namespace, "uid": format!("uid of {namespace}")},
        "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "web"}]},
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    PodMonitor::read(&object).unwrap()
}

/// A monitor of the Services with the label `app: web`, wherever they are.
fn by_service(namespace: &str) -> ServiceMonitor {
    let object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"any": true},
            "endpoints": [{"port": "web"}],
        },
    });
    ServiceMonitor::read(&object).unwrap()
}

fn service(namespace: &str, name: &str, app: &str, selector: &Value) -> Service {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {"selector": selector, "ports": [{"name": "web", "port": 80}]},
    });
    Service::read(&object).unwrap()
}

fn with_secret(more: &Value) -> Value {
    let mut spec = json!({
        "podMetricsEndpoints": [{"port": "web", "bearerTokenSecret": {"name": "s", "key": "token"}}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn followed(agent: &Arc<Agent>, monitors: &Monitors) -> Rendered {
    let mut rendered = Rendered::default();
    rendered.follow(InForce { agent, monitors });
    rendered
}

/// Every rejection: whose, with which identity, and why.
fn rejections(rendered: &Rendered) -> Vec<(String, String, Vec<String>)> {
    let notes = rendered.notes();
    let rejections = notes.rejections.into_iter();
    rejections.map(|rejection| (rejection.monitor.id.to_string(), rejection.uid, rejection.lines)).collect()
}

#[test]
fn only_what_a_changed_monitor_is_about_is_rendered_again() {
    let agent = agent(&json!({}));
    let mut monitors = Monitors::default();
    let mut rendered = followed(&agent, &monitors);
    for namespace in ["a", "b", "c"] {
        rendered.render(InForce { agent: &agent, monitors: &monitors }, namespace).unwrap();
    }
    let present = |rendered: &Rendered| ["a", "b", "c"].map(|namespace| rendered.digest(namespace).is_some());
    assert_eq!(present(&rendered), [true; 3]);

    let about = |names: &[&str]| json!({"namespaceSelector": {"matchNames": names}});
    let mut put = |rendered: &mut Rendered, spec: &Value| {
        let before = monitors.insert(monitor("a", spec));
        let id = MonitorId { namespace: "a".to_owned(), name: "web".to_owned() };
        let after = monitors.get(&MonitorKey { kind: Kind::Pod, id }).cloned();
        let changed: Vec<_> = before.into_iter().chain(after).collect();
        rendered.forget(&changed);
        rendered.follow(InForce { agent: &agent, monitors: &monitors });
        let present = present(rendered);
        for namespace in ["a", "b", "c"] {
            let (content, _) =
                rendered.render(InForce { agent: &agent, monitors: &monitors }, namespace).unwrap();
            let selection = monitors.select(&agent, namespace);
            assert_eq!(content, render::render(&agent, namespace, &selection));
        }
        present
    };
    assert_eq!(put(&mut rendered, &json!({})), [false, true, true]);
    assert_eq!(put(&mut rendered, &about(&["b"])), [false, false, true]);
    assert_eq!(put(&mut rendered, &about(&["c"])), [true, false, false]);
    assert_eq!(put(&mut rendered, &json!({"namespaceSelector": {"any": true}})), [false; 3]);
    rendered.keep(&["c"].into());
    assert_eq!(present(&rendered), [false, false, true]);
}

#[test]
fn another_version_in_force_is_rendered_anew() {
    let monitors = Monitors::default();
    let (one, other) = (agent(&json!({})), agent(&json!({"scrapeInterval": "5s"})));
    let mut rendered = followed(&one, &monitors);
    rendered.render(InForce { agent: &one, monitors: &monitors }, "a").unwrap();
    rendered.follow(InForce { agent: &one, monitors: &monitors });
    assert!(rendered.digest("a").is_some());
    rendered.follow(InForce { agent: &other, monitors: &monitors });
    assert_eq!(rendered.digest("a"), None);
}

#[test]
fn a_rejection_names_the_monitor_and_where_it_is_one() {
    let agent = agent(&json!({}));
    let mut monitors = Monitors::default();
    monitors.insert(monitor("bad", &json!({"podMetricsEndpoints": [{"interval": "soon"}]})));
    monitors.insert(monitor("creds", &with_secret(&json!({"namespaceSelector": {"any": true}}))));
    let lists = Surroundings { allowed_secrets: ["s".to_owned()].into(), ..Surroundings::default() };
    monitors.insert_namespace("creds".to_owned(), lists);
    monitors.insert(monitor("good", &json!({"future": 1})));
    // About pods of nobody here.
    monitors.insert(monitor("elsewhere", &json!({"podMetricsEndpoints": [{"interval": "soon"}]})));
    let mut rendered = followed(&agent, &monitors);
    for namespace in ["a", "bad", "c", "creds", "d", "good"] {
        rendered.render(InForce { agent: &agent, monitors: &monitors }, namespace).unwrap();
    }
    let found = rejections(&rendered);
    assert_eq!(found.len(), 2, "{found:?}");
    let (id, uid, lines) = &found[0];
    assert_eq!((&**id, &**uid, lines.len()), ("bad/web", "uid of bad", 1));
    let start = "rejected: PodMonitor bad/web: spec.podMetricsEndpoints[0].interval: ";
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    let (id, uid, lines) = &found[1];
    assert_eq!((&**id, &**uid, lines.len()), ("creds/web", "uid of creds", 1));
    let start = "rejected for pods of a, bad, c and 2 more: PodMonitor creds/web: \
                 spec.podMetricsEndpoints[0].bearerTokenSecret: ";
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    let notes = rendered.notes();
    let told = &notes.rejections[1].told;
    let start = "rejected for pods of other namespaces: PodMonitor creds/web: spec.";
    assert!(told.len() == 1 && told[0].starts_with(start), "{told:?}");
    let verdicts = rendered.verdicts();
    let accepted: Vec<_> =
        verdicts.iter().map(|(key, verdict)| (key.id.to_string(), verdict.accepted)).collect();
    assert_eq!(
        accepted,
        [("bad/web", false), ("creds/web", true), ("good/web", true)].map(|(id, is)| (id.to_owned(), is))
    );
    assert!(
        verdicts.values().zip([true, true, false]).all(|(verdict, said)| verdict.message.is_empty() != said)
    );
    assert_eq!(notes.remarks, ["ignored: PodMonitor good/web: spec.future: is not known to promsidecar"]);
}

#[test]
fn remarks_on_many_monitors_are_counted() {
    let agent = agent(&json!({}));
    let mut monitors = Monitors::default();
    for number in 0..25 {
        monitors.insert(monitor(&format!("n{number:02}"), &json!({"future": 1})));
    }
    let mut rendered = followed(&agent, &monitors);
    for number in 0..25 {
        rendered.render(InForce { agent: &agent, monitors: &monitors }, &format!("n{number:02}")).unwrap();
    }
    let remarks = rendered.notes().remarks;
    assert_eq!(remarks.len(), 21);
    assert_eq!(remarks[20], "5 more remarks on monitors, which `promsidecar validate` lists");
}

#[test]
fn where_the_template_leaves_no_room_its_monitors_are_rejected_and_it_is_delivered() {
    let mut agent = Agent::clone(&agent(&json!({})));
    let without = render::render(&agent, "shop", &Selection::default()).len();
    let long = "x".repeat(render::MAX_BYTES - without - 200);
    agent.config.global.external_labels.insert("long".to_owned(), long);
    let agent = Arc::new(agent);
    let mut monitors = Monitors::default();
    monitors.insert(monitor("shop", &json!({})));
    monitors.insert(by_service("shop"));
    monitors.services_mut().insert(service("shop", "shop", "web", &json!({"app": "web"})));
    let mut rendered = followed(&agent, &monitors);
    let (content, _) = rendered.render(InForce { agent: &agent, monitors: &monitors }, "shop").unwrap();
    assert!(content.len() <= render::MAX_BYTES && !content.contains("Monitor/shop/web"));
    let found = rejections(&rendered);
    let starts =
        ["PodMonitor shop/web: spec.podMetricsEndpoints: ", "ServiceMonitor shop/web: spec.endpoints: "];
    assert_eq!(found.len(), starts.len(), "{found:?}");
    for ((.., lines), start) in found.iter().zip(starts) {
        assert!(lines[0].starts_with(&format!("rejected for pods of shop: {start}")), "{lines:?}");
    }
}

#[test]
fn what_a_stranger_writes_takes_no_room_from_the_pods_own_namespace() {
    let agent = agent(&json!({}));
    let mut monitors = Monitors::default();
    monitors.insert(monitor("shop", &json!({})));
    // Characters that take more room as they are rendered than as they are written.
    let rule = json!({"targetLabel": "a", "replacement": "\u{feff}".repeat(5000)});
    let endpoint = json!({"port": "web", "relabelings": vec![rule; 33]});
    let large = json!({"podMetricsEndpoints": [endpoint], "namespaceSelector": {"any": true}});
    monitors.insert(monitor("evil", &large));
    let mut rendered = followed(&agent, &monitors);
    let (content, _) = rendered.render(InForce { agent: &agent, monitors: &monitors }, "shop").unwrap();
    assert!(content.contains("podMonitor/shop/web/0") && !content.contains("podMonitor/evil/web/0"));
    let found = rejections(&rendered);
    assert_eq!(found.iter().map(|(id, ..)| &**id).collect::<Vec<_>>(), ["evil/web"]);

    // So with a template of nearly the size of a ConfigMap.
    let mut large = Agent::clone(&agent);
    let mut monitors = Monitors::default();
    monitors.insert(monitor("shop", &json!({})));
    let own = monitors.select(&agent, "shop");
    let room = render::MAX_BYTES - render::render(&agent, "shop", &own).len() - 200;
    large.config.global.external_labels.insert("long".to_owned(), "x".repeat(room));
    monitors.insert(monitor("evil", &json!({"namespaceSelector": {"any": true}})));
    let large = Arc::new(large);
    let mut rendered = followed(&large, &monitors);
    let (content, _) = rendered.render(InForce { agent: &large, monitors: &monitors }, "shop").unwrap();
    assert!(content.contains("podMonitor/shop/web/0") && !content.contains("podMonitor/evil/web/0"));
}

#[test]
fn only_what_goes_by_a_changed_service_is_rendered_again() {
    let agent = agent(&json!({}));
    let mut monitors = Monitors::default();
    monitors.insert(by_service("a"));
    let mut rendered = followed(&agent, &monitors);
    for namespace in ["a", "b", "c"] {
        rendered.render(InForce { agent: &agent, monitors: &monitors }, namespace).unwrap();
    }
    let mut put = |rendered: &mut Rendered, namespace: &str, app: &str, selector: &Value| {
        let services = monitors.services_mut();
        let after = service(namespace, "shop", app, selector);
        let before = services.insert(after.clone());
        let changed: Vec<_> = before.into_iter().chain([Arc::new(after)]).collect();
        let any = rendered.forget_services(&changed);
        let present = ["a", "b", "c"].map(|namespace| rendered.digest(namespace).is_some());
        assert_eq!(any, present.contains(&false), "it says whether there is anything to do");
        rendered.follow(InForce { agent: &agent, monitors: &monitors });
        let contents = ["a", "b", "c"].map(|namespace| {
            let (content, _) =
                rendered.render(InForce { agent: &agent, monitors: &monitors }, namespace).unwrap();
            assert_eq!(content, render::render(&agent, namespace, &monitors.select(&agent, namespace)));
            content.contains("serviceMonitor/a/web/0/shop")
        });
        (present, contents)
    };
    let web = json!({"app": "web"});
    assert_eq!(put(&mut rendered, "b", "other", &web), ([true; 3], [false; 3]));
    assert_eq!(put(&mut rendered, "b", "web", &web), ([true, false, true], [false, true, false]));
    assert_eq!(put(&mut rendered, "b", "web", &json!({})), ([true, false, true], [false; 3]));
    assert_eq!(put(&mut rendered, "b", "other", &web), ([true, false, true], [false; 3]));
    assert_eq!(put(&mut rendered, "nobodys", "web", &web), ([true; 3], [false; 3]));
}

#[test]
fn services_that_are_refused_are_named_to_the_template_and_to_the_monitor_those_of_its_namespace() {
    let agent = agent(&json!({}));
    let mut monitors = Monitors::default();
    monitors.insert(by_service("a"));
    let nothing = json!({});
    for (namespace, name) in [("a", "one"), ("a", "two"), ("b", "three"), ("b", "four"), ("unused", "five")] {
        monitors.services_mut().insert(service(namespace, name, "web", &nothing));
    }
    let mut rendered = followed(&agent, &monitors);
    for namespace in ["a", "b"] {
        rendered.render(InForce { agent: &agent, monitors: &monitors }, namespace).unwrap();
    }
    let notes = rendered.notes();
    let [rejection] = &notes.rejections[..] else { panic!("{notes:?}") };
    let why = "has no selector: whoever writes its endpoints decides where they are, and an agent scrapes its own pod alone; \
               give it a selector, or write a PodMonitor for the pods";
    let line = |services: &str| format!("refused: ServiceMonitor a/web: {services} {why}");
    assert_eq!(rejection.lines, [line("each of Services a/one, a/two, b/four and 1 more")]);
    let told = [line("each of Services a/one, a/two"), line("a Service of another namespace")];
    assert_eq!(rejection.told, told);
    assert_eq!(notes.remarks, [""; 0], "there are Services");
    let verdicts: Vec<_> = rendered.verdicts().into_values().collect();
    assert!(verdicts.len() == 1 && verdicts[0].accepted && verdicts[0].message == told.join("; "));
}

#[test]
fn a_monitor_that_selects_no_service_anywhere_is_remarked_on() {
    let agent = agent(&json!({}));
    let mut monitors = Monitors::default();
    monitors.insert(by_service("a"));
    let mut rendered = followed(&agent, &monitors);
    for (services, remarks) in [
        (
            &[][..],
            &["warning: ServiceMonitor a/web: spec.selector: selects no Service of namespace a, b"][..],
        ),
        (&["b"], &[]),
    ] {
        for namespace in services {
            monitors.services_mut().insert(service(namespace, "shop", "web", &json!({"app": "web"})));
        }
        for namespace in ["a", "b"] {
            rendered.render(InForce { agent: &agent, monitors: &monitors }, namespace).unwrap();
        }
        assert_eq!(rendered.notes(), super::Notes { rejections: Vec::new(), remarks: owned(remarks) });
    }
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}
