//! Scrape classes through prometheus-operator's own generator and through us, each field by hand; and which templates both
//! refuse for their classes or selectors.

mod support;

use std::collections::BTreeSet;

use promsidecar::names;
use promsidecar::template::api::ScrapeClass;
use promsidecar::template::render;
use promsidecar::template::violation::Violation;
use serde_json::{Value, json};
use support::monitors::classes::with_paths;
use support::monitors::compare::{agent_of, compare_with, monitors_of};
use support::monitors::difference::Fired;
use support::monitors::objects::{VERSIONS, agent, config_map, monitor, secret, surroundings};
use support::oracle::{self, Surroundings};
use support::template::{self, fields};

/// A field of a class, a value, and whether a job differs by it.
fn fields_of_a_class() -> Vec<(&'static str, Value, bool)> {
    let pair = json!({"cert": {"secret": secret("tls.crt")}, "keySecret": secret("tls.key")});
    let settings = json!({"serverName": "pod.example", "insecureSkipVerify": true, "minVersion": "TLS12", "maxVersion": "TLS13"});
    vec![
        ("name", json!("c"), false),
        ("default", json!(true), false),
        ("fallbackScrapeProtocol", json!("PrometheusText0.0.4"), true),
        ("tlsConfig", json!({"ca": {"secret": secret("ca.crt")}}), true),
        ("tlsConfig", json!({"ca": {"configMap": config_map("ca.crt")}}), true),
        ("tlsConfig", pair, true),
        ("tlsConfig", settings, true),
        ("tlsConfig", json!({}), false),
        ("authorization", json!({"credentials": secret("token")}), true),
        ("authorization", json!({"type": " Token ", "credentials": secret("token")}), true),
        ("authorization", json!({"type": "Token"}), true),
        ("authorization", json!({}), true),
        ("relabelings", json!([{"targetLabel": "a", "replacement": "b"}]), true),
        (
            "metricRelabelings",
            json!([{"action": "Drop", "sourceLabels": ["__name__"], "regex": "go_.*"}]),
            true,
        ),
        ("attachMetadata", json!({"node": true}), false),
    ]
}

/// Endpoints that say nothing, something or everything of what a class may say.
fn endpoints() -> Vec<Value> {
    let pair = json!({"cert": {"secret": secret("tls.crt")}, "keySecret": secret("tls.key")});
    vec![
        json!({}),
        json!({"tlsConfig": {}}),
        json!({"tlsConfig": {"serverName": "own.example"}}),
        json!({"tlsConfig": {"ca": {"secret": secret("ca.crt")}}}),
        json!({"tlsConfig": pair}),
        json!({"authorization": {"credentials": secret("token")}}),
        json!({"basicAuth": {"username": secret("user"), "password": secret("password")}}),
        json!({"bearerTokenSecret": secret("token")}),
        json!({"bearerTokenSecret": {"name": "", "key": ""}}),
        json!({"relabelings": [{"targetLabel": "a", "replacement": "c"}], "metricRelabelings": [{"action": "labeldrop", "regex": "b"}]}),
    ]
}

#[test]
fn each_field_of_a_class_does_what_it_does_upstream() {
    let (mut fired, mut jobs, mut names) = (Fired::default(), 0, BTreeSet::new());
    for (name, value, differs) in fields_of_a_class() {
        names.insert(name);
        let mut class = json!({"name": "c"});
        class[name] = value.clone();
        // Of monitors that name no class, only the default one is.
        let of_monitors = class["default"].is_null().then_some("c");
        let monitors: Vec<_> = ["shop", "web"]
            .into_iter()
            .map(|namespace| {
                let spec =
                    json!({"selector": {}, "podMetricsEndpoints": endpoints(), "scrapeClass": of_monitors});
                monitor(namespace, "m", json!({}), spec)
            })
            .collect();
        for version in VERSIONS {
            let template = |classes: Value| {
                agent(
                    json!({"version": version, "podMonitorSelector": {}, "podMonitorNamespaceSelector": {}, "scrapeClasses": classes}),
                )
            };
            let with = template(json!([class]));
            for theirs in [with.clone(), with_paths(&with)] {
                let compared = compare_with(&with, &theirs, &monitors, &mut fired);
                assert_eq!(compared.lines, [""; 0], "{name} {value} {version}");
                assert_eq!(compared.jobs, 2 * endpoints().len(), "{name} {value} {version}");
                jobs += compared.jobs;
            }
            let known = monitors_of(&monitors);
            let plain = known.select(&agent_of(&template(json!([{"name": "c"}, {"name": "d"}]))), "shop");
            let selection = known.select(&agent_of(&with), "shop");
            assert_eq!(plain.jobs != selection.jobs, differs, "{name} {value} {version}");
            // What a class refers to is the template's.
            assert_eq!(plain.files, selection.files, "{name} {value} {version}");
        }
    }
    let (seen, _) = fired.all();
    println!("{jobs} jobs compared\n{seen}");
    let of_classes = |name: &&str| name.contains("class") && !name.starts_with("rejected");
    let silent: Vec<_> = support::monitors::difference::DIFFERENCES.into_iter().filter(of_classes).collect();
    let silent: Vec<_> = silent.into_iter().filter(|name| fired.count(name) == 0).collect();
    assert_eq!(silent, [""; 0]);
    assert_eq!(names, fields::<ScrapeClass>());
}

/// Who refuses what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Nobody anything.
    Nothing,
    /// We a monitor of the class; the operator nothing.
    MonitorByUs,
    /// Both the template.
    Template,
}

fn verdicts() -> Vec<(Value, Refused)> {
    use Refused::{MonitorByUs, Nothing, Template};
    let class = |key: &str, value: Value| {
        let mut class = json!({"name": "c", "default": true});
        class[key] = value;
        json!({"podMonitorSelector": {}, "scrapeClasses": [class]})
    };
    let selector = |key: &str, value: Value| {
        let mut spec = json!({"podMonitorSelector": {}});
        spec[key] = value;
        spec
    };
    let rule = |rule: Value| class("relabelings", json!([rule]));
    let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
    vec![
        (class("tlsConfig", json!({"ca": {"secret": secret("ca.crt")}})), Nothing),
        (class("authorization", json!({"type": "Token"})), Nothing),
        (class("tlsConfig", json!({"caFile": "/ca"})), MonitorByUs),
        (class("tlsConfig", json!({"cert": {"secret": secret("tls.crt")}, "keyFile": "/key"})), MonitorByUs),
        (class("authorization", json!({"credentialsFile": "/token"})), MonitorByUs),
        (rule(json!({"targetLabel": "__address__", "replacement": "a:1"})), MonitorByUs),
        (rule(json!({"targetLabel": "__promsidecar_pod", "replacement": "a"})), MonitorByUs),
        (rule(json!({"sourceLabels": ["a"], "regex": "(", "targetLabel": "b"})), Template),
        (rule(json!({"sourceLabels": ["a"]})), Template),
        (rule(json!({"action": "hashmod", "targetLabel": "a"})), Template),
        (rule(json!({"action": "labelkeep", "regex": "a", "sourceLabels": ["b"]})), Template),
        (class("metricRelabelings", json!([{"regex": "(", "action": "drop"}])), Template),
        (class("tlsConfig", json!({"ca": {"secret": secret("ca.crt")}, "caFile": "/ca"})), Template),
        (
            class(
                "tlsConfig",
                json!({"certFile": "/crt", "cert": {"secret": secret("tls.crt")}, "keyFile": "/k"}),
            ),
            Template,
        ),
        (class("tlsConfig", json!({"keySecret": secret("tls.key")})), Template),
        (class("tlsConfig", json!({"cert": {"secret": secret("tls.crt")}})), Template),
        (class("tlsConfig", json!({"minVersion": "TLS13", "maxVersion": "TLS11"})), Template),
        (
            class("authorization", json!({"credentials": secret("token"), "credentialsFile": "/token"})),
            Template,
        ),
        (class("authorization", json!({"type": "basic", "credentials": secret("token")})), Template),
        (
            json!({"podMonitorSelector": {}, "scrapeClasses": [{"name": "a", "default": true}, {"name": "b", "default": true}]}),
            Template,
        ),
        (selector("podMonitorSelector", expression("In", json!([]))), Template),
        (selector("podMonitorSelector", expression("Like", json!(["b"]))), Template),
        (selector("podMonitorSelector", json!({"matchLabels": {"a": "not a value"}})), Template),
        (selector("podMonitorNamespaceSelector", expression("Exists", json!(["b"]))), Template),
        (selector("podMonitorNamespaceSelector", json!({"matchLabels": {"a/b/c": "d"}})), Template),
    ]
}

#[test]
fn a_template_is_refused_for_classes_and_selectors_as_the_operator_refuses_it() {
    let monitor = monitor("shop", "m", json!({}), json!({"selector": {}, "podMetricsEndpoints": [{}]}));
    for (spec, expected) in verdicts() {
        let template = agent(spec.clone());
        let mut objects = surroundings();
        objects.extend([template.clone(), monitor.clone()]);
        let theirs = oracle::config(&objects, false);
        let ours = template::judge(&template);
        let rejected = ours
            .as_ref()
            .map(|agent| monitors_of(std::slice::from_ref(&monitor)).select(agent, "shop").rejected.len());
        let found = match (&rejected, &theirs) {
            (Ok(0), Ok(_)) => Refused::Nothing,
            (Ok(1), Ok(_)) => Refused::MonitorByUs,
            (Err(_), Err(failure)) if ["generator", "select"].contains(&failure.stage.as_str()) => {
                Refused::Template
            }
            _ => panic!("{spec}: we {rejected:?}, the operator {theirs:?}"),
        };
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn a_class_that_cannot_be_used_costs_the_monitors_of_it_and_no_others() {
    let mesh = json!({"name": "mesh", "tlsConfig": {"caFile": "/etc/mesh/ca.crt"}});
    let template = agent(json!({"podMonitorSelector": {}, "scrapeClasses": [mesh, {"name": "plain"}]}));
    let of = |name: &str, class: Value| {
        monitor(
            "shop",
            name,
            json!({}),
            json!({"selector": {}, "podMetricsEndpoints": [{}], "scrapeClass": class}),
        )
    };
    let monitors = [of("a", json!("mesh")), of("b", json!("plain")), of("c", Value::Null)];
    let selection = monitors_of(&monitors).select(&agent_of(&template), "shop");
    let taken: Vec<_> = selection.taken.iter().map(|taken| taken.monitor.id.to_string()).collect();
    assert_eq!(taken, ["shop/b", "shop/c"]);
    let told: Vec<_> = selection.rejected[0].violations.iter().map(Violation::to_string).collect();
    let expected = "spec.scrapeClass: \"mesh\": is a scrape class of the template, which agents cannot use: \
        spec.scrapeClasses[0].tlsConfig.caFile: \"/etc/mesh/ca.crt\": is a path inside a container that nothing is mounted at; \
        refer to a Secret or ConfigMap instead: it is mounted for the agent; correct the class in the template, or name another class";
    assert_eq!(told, [expected]);
}

#[test]
fn prometheus_refuses_what_upstream_makes_of_a_class_beside_another_way_to_authenticate() {
    let class = json!({"name": "c", "default": true, "authorization": {"credentials": secret("token")}});
    let template = agent(json!({"podMonitorSelector": {}, "scrapeClasses": [class]}));
    for endpoint in endpoints() {
        let refused = ["basicAuth", "bearerTokenSecret"]
            .into_iter()
            .any(|key| endpoint.get(key).is_some_and(|way| way["name"] != ""));
        let monitor =
            monitor("shop", "m", json!({}), json!({"selector": {}, "podMetricsEndpoints": [endpoint]}));
        let mut objects = surroundings();
        objects.extend([template.clone(), monitor.clone()]);
        let theirs = oracle::config(&objects, false).expect("the operator takes it").config;
        let loaded = oracle::labels(&theirs.replace("$(SHARD)", "0"), &Surroundings::default());
        assert_eq!(loaded.is_err_and(|failure| failure.stage == "config"), refused, "{endpoint}");
        let (agent, known) = (agent_of(&template), monitors_of(&[monitor]));
        let ours = render::render(&agent, "shop", &known.select(&agent, "shop"));
        let files = [(names::TARGETS_GLOB.to_owned(), "[]".to_owned())].into();
        assert!(
            oracle::labels(&ours, &Surroundings { files, ..Surroundings::default() }).is_ok(),
            "{endpoint}"
        );
    }
}
