//! Services and the monitors that select them, one change after another.

use serde_json::{Value, json};

use super::super::tests::{done, id, ids, key, nothing, now, template, with_template};
use super::World;
use crate::controller::events::event::Regarding;
use crate::controller::plan::Step;
use crate::monitors::object::Kind;
use crate::monitors::service::Service;
use crate::monitors::servicemonitor::ServiceMonitor;
use crate::names;
use crate::template::agent::TemplateId;

/// A template of `a` that selects every `ServiceMonitor` of its namespace.
fn selects(name: &str) -> Value {
    let mut object = template("a", name, "3.13.5");
    object["spec"]["serviceMonitorSelector"] = json!({});
    object
}

/// A monitor of `a` that selects the Services with the label `app: web`, wherever they are.
fn monitor(spec: &Value) -> ServiceMonitor {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "web", "namespace": "a", "uid": "m", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"any": true},
            "endpoints": [{"port": "web"}],
        },
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    ServiceMonitor::read(&object).unwrap()
}

/// A Service, whose selector may be empty.
fn service(namespace: &str, app: &str, selector: &Value) -> Service {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop", "namespace": namespace, "labels": {"app": app}},
        "spec": {"selector": selector, "ports": [{"name": "web", "port": 80}]},
    });
    Service::read(&object).unwrap()
}

/// The configuration that is delivered next, if another than before is.
fn content(world: &mut World, id: &TemplateId) -> Option<String> {
    match &world.work(id, now()).steps.unwrap()[..] {
        [] => None,
        [Step::Apply(object) | Step::Create(object)] => {
            Some(object["data"][names::CONFIG_KEY].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_brings_work_to_the_templates_that_go_by_it_and_to_no_others() {
    let (mut world, one, two) = (with_template(), id("a", "one"), id("a", "two"));
    world.template_applied(&selects("one")).unwrap();
    world.template_applied(&template("a", "two", "3.13.5")).unwrap();
    world.monitor_applied(monitor(&json!({})));
    for id in [&one, &two] {
        done(&mut world, id);
    }
    let (web, job) = (json!({"app": "web"}), "serviceMonitor/a/web/0/shop");
    assert_eq!(world.service_applied(service("a", "other", &web)), ids(&[]), "nobody selects it");
    assert_eq!(world.service_applied(service("elsewhere", "web", &web)), ids(&[]), "no pods are beside it");

    assert_eq!(world.service_applied(service("a", "web", &web)), ids(&[("a", "one")]));
    assert!(content(&mut world, &one).unwrap().contains(job));
    done(&mut world, &one);
    assert_eq!(world.service_applied(service("a", "web", &web)), ids(&[]), "the same");
    assert_eq!(world.service_applied(service("a", "web", &json!({"app": "backend"}))), ids(&[("a", "one")]));
    assert!(content(&mut world, &one).unwrap().contains("backend"));
    done(&mut world, &one);
    assert_eq!(world.service_applied(service("a", "other", &web)), ids(&[("a", "one")]), "it was selected");
    assert!(!content(&mut world, &one).unwrap().contains(job));
    done(&mut world, &one);

    assert_eq!(world.service_applied(service("a", "web", &web)), ids(&[("a", "one")]));
    done(&mut world, &one);
    let gone = key(Kind::Service, "a", "shop").id;
    assert_eq!(world.service_deleted(&gone), ids(&[("a", "one")]));
    assert!(!content(&mut world, &one).unwrap().contains(job));
    done(&mut world, &one);
    assert_eq!(world.service_deleted(&gone), ids(&[]));
    // A list that is read anew, as after an outage.
    assert_eq!(world.all_services(vec![service("a", "web", &web)]), ids(&[("a", "one")]));
    assert!(content(&mut world, &one).unwrap().contains(job));
    done(&mut world, &one);
    assert_eq!(world.all_services(vec![service("a", "web", &web)]), ids(&[]));
    assert_eq!(world.all_services(Vec::new()), ids(&[("a", "one")]));
    assert!(!content(&mut world, &one).unwrap().contains(job));
    assert_eq!(world.work(&two, now()), nothing());
}

#[test]
fn jobs_of_services_are_delivered_whatever_comes_first() {
    let orders = (0..3_usize.pow(3)).map(|number| [0, 1, 2].map(|digit| number / 3_usize.pow(digit) % 3));
    let orders: Vec<_> = orders.filter(|order| (0..3).all(|step| order.contains(&step))).collect();
    assert_eq!(orders.len(), 6);
    for (order, looks_between) in orders.iter().flat_map(|order| [(order, true), (order, false)]) {
        let (mut world, one) = (with_template(), id("a", "one"));
        for step in order {
            if looks_between {
                done(&mut world, &one);
            }
            match step {
                0 => drop(world.template_applied(&selects("one")).unwrap()),
                1 => drop(world.monitor_applied(monitor(&json!({})))),
                _ => drop(world.service_applied(service("a", "web", &json!({"app": "web"})))),
            }
        }
        let content = content(&mut world, &one).unwrap_or_default();
        assert!(content.contains("serviceMonitor/a/web/0/shop"), "{order:?} {looks_between}: {content}");
    }
}

#[test]
fn a_monitor_is_told_of_what_is_wrong_with_it_or_with_its_services() {
    let slow = json!({"endpoints": [{"scrapeTimeout": "soon"}]});
    let has_no_selector = "Service a/shop has no selector: ";
    for (spec, selector, accepted, line) in [
        (
            &slow,
            &json!({"app": "web"}),
            "False",
            "rejected: ServiceMonitor a/web: spec.endpoints[0].scrapeTimeout: ",
        ),
        (&json!({}), &json!({}), "True", &format!("refused: ServiceMonitor a/web: {has_no_selector}")),
    ] {
        let (mut world, one) = (with_template(), id("a", "one"));
        world.template_applied(&selects("one")).unwrap();
        world.monitor_applied(monitor(spec));
        world.service_applied(service("a", "web", selector));
        done(&mut world, &one);
        let (status, _) = world.status(&one, &Ok(()), now()).unwrap();
        let message = status["conditions"][0]["message"].as_str().unwrap();
        assert!(message.starts_with(line), "{message}");

        let news = world.news(&one, &Ok(()));
        let [event] = &news[..] else { panic!("{news:?}") };
        let Regarding { kind, namespace, name, uid, .. } = &event.regarding;
        let about = [&**kind, namespace, name, uid, event.reason];
        assert_eq!(about, ["ServiceMonitor", "a", "web", "m", "InvalidConfiguration"]);
        assert!(event.note.starts_with(&format!("template a/one: {line}")), "{}", event.note);

        let bindings = world.bindings(&one, now());
        let [binding] = &bindings[..] else { panic!("{bindings:?}") };
        assert_eq!((&binding.monitor, &*binding.uid), (&key(Kind::Service, "a", "web"), "m"));
        let condition = &binding.status["bindings"][0]["conditions"][0];
        assert_eq!(condition["status"], accepted);
        assert!(condition["message"].as_str().unwrap().starts_with(line), "{condition}");
    }
}
