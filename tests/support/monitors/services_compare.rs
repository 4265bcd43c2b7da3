//! One cluster with `ServiceMonitor`s through prometheus-operator and through us: what differs for Services is taken out of both
//! jobs, by name, and the rest is compared as jobs of `PodMonitor`s are.

use promsidecar::names;
use promsidecar::template::render;
use serde_json::{Value, json};

use super::classes;
use super::compare::{
    Compared, agent_of, covers, explain_verdicts, foreign_credentials, id, jobs, monitors_of, parsed,
    their_verdict, upstream, verdict,
};
use super::difference::{self, Fired, Place, take};
use super::objects::NAMESPACES;
use super::services::Cluster;

const JOB_NAME: &str = "__tmp_prometheus_job_name";

/// Compares both sides, for the pods of every namespace. Jobs of several Services are each compared with upstream's one.
pub(crate) fn compare_services(cluster: &Cluster, fired: &mut Fired) -> Compared {
    let Cluster { template, monitors, services } = cluster;
    let mut compared = Compared::default();
    let agent = agent_of(template);
    let known = monitors_of(&[&monitors[..], services].concat());
    // Prometheus takes no class's authorization beside another way to authenticate.
    let generated = upstream(template, monitors);
    let everywhere = known.select_everywhere(&agent);
    compared.verdicts(template, monitors, (&everywhere, &generated), fired);
    let config = parsed(&generated.config);
    let theirs = jobs(&config);
    for (namespace, _) in NAMESPACES {
        let selection = known.select(&agent, namespace);
        let ours = jobs(&parsed(&render::render(&agent, namespace, &selection)));
        for monitor in monitors {
            if !matches!(verdict(&everywhere, monitor), Some(Ok(())))
                || !matches!(their_verdict(&generated, monitor), Some(Ok(())))
            {
                continue;
            }
            if foreign_credentials(&selection, monitor) {
                fired.note("rejected: credentials of another namespace");
                continue;
            }
            let prefix = format!("serviceMonitor/{}/", id(monitor));
            for (name, job) in ours.iter().filter(|(name, _)| name.starts_with(&prefix)) {
                let upstreams = name.splitn(5, '/').take(4).collect::<Vec<_>>().join("/");
                let Some(expected) = theirs.get(&upstreams).filter(|job| covers(job, namespace)) else {
                    compared.lines.push(format!("{name} for {namespace}: upstream has no such job"));
                    continue;
                };
                let place = Place {
                    namespace: monitor["metadata"]["namespace"].as_str().unwrap_or_default(),
                    spec: &monitor["spec"],
                    class: classes::of(template, &monitor["spec"]),
                    global: &config["global"],
                    without_role: None,
                    files: "monitors/",
                };
                let role = role(template, &monitor["spec"]);
                let (mut job, mut expected) = (job.clone(), expected.clone());
                ours_as_of_pods(&mut job, &upstreams, fired);
                theirs_as_of_pods(&mut expected, &monitor["spec"], role, fired);
                let lines = difference::jobs(&job, &expected, &place, fired);
                compared
                    .lines
                    .extend(lines.into_iter().map(|line| format!("{name} for {namespace}: {line}")));
                compared.jobs += 1;
            }
        }
    }
    compared
}

/// Prefix of the labels of a monitor's discovery.
fn role(template: &Value, spec: &Value) -> &'static str {
    let of = |spec: &Value| spec["serviceDiscoveryRole"].as_str().map(str::to_owned);
    if of(spec).or_else(|| of(&template["spec"])).as_deref() == Some("EndpointSlice") {
        "endpointslice"
    } else {
        "endpoint"
    }
}

fn rules(job: &mut Value) -> Vec<Value> {
    take(job, "relabel_configs").as_array().cloned().unwrap_or_default()
}

/// Takes out what chooses targets, up to the name of upstream's job, and the constants after it.
fn ours_as_of_pods(job: &mut Value, upstreams: &str, fired: &mut Fired) {
    let mut own = rules(job);
    let is_name = |rule: &Value| *rule == json!({"target_label": JOB_NAME, "replacement": upstreams});
    if let Some(position) = own.iter().position(is_name) {
        let mut rest = own.split_off(position + 1);
        let is_constant = |rule: &Value| {
            let target = rule["target_label"].as_str().unwrap_or_default();
            target.starts_with("__meta_kubernetes_service_")
                || target.starts_with("__meta_kubernetes_endpoint")
        };
        let constants = rest.iter().take_while(|rule| is_constant(rule)).count();
        rest.drain(..constants);
        own.truncate(2);
        own.push(json!({"source_labels": [names::META_SOURCE], "regex": ".+", "action": "drop"}));
        own.push(json!({"source_labels": ["job"], "target_label": JOB_NAME}));
        own.extend(rest);
        fired.note("constants stand for discovery of endpoints");
        fired.note("the name of the job is upstream's");
        job["job_name"] = json!(upstreams);
    }
    job["relabel_configs"] = json!(own);
}

/// Takes out what chooses Services, and the rules over what an endpoint belongs to.
fn theirs_as_of_pods(job: &mut Value, spec: &Value, role: &str, fired: &mut Fired) {
    let mut theirs = rules(job);
    let chooses = |rule: &Value| {
        let label = rule["source_labels"][0].as_str().unwrap_or_default();
        let by_label = label.starts_with("__meta_kubernetes_service_label");
        by_label && matches!(rule["action"].as_str(), Some("keep" | "drop"))
    };
    let count = if spec["selectorMechanism"] == "RoleSelector" {
        0
    } else {
        let size = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
        let list = spec["selector"]["matchExpressions"].as_array().map_or(0, Vec::len);
        size(&spec["selector"]["matchLabels"]) + list
    };
    if theirs.iter().skip(1).take(count).all(chooses) {
        theirs.drain(1..=count);
        fired.note("services are chosen before");
    }
    let target = |kind: &str, label: &str| {
        json!({"source_labels": [format!("__meta_kubernetes_{role}_address_target_kind"),
            format!("__meta_kubernetes_{role}_address_target_name")],
            "separator": ";", "regex": format!("{kind};(.*)"), "replacement": "${1}", "target_label": label})
    };
    let both = [target("Node", "node"), target("Pod", "pod")];
    if let Some(position) = theirs.windows(2).position(|rules| rules == both) {
        theirs.drain(position..position + 2);
        fired.note("an endpoint is a pod");
    }
    let discovery = &mut job["kubernetes_sd_configs"][0];
    if discovery["role"] == if role == "endpoint" { "endpoints" } else { "endpointslice" } {
        discovery["role"] = json!("pod");
    }
    job["relabel_configs"] = json!(theirs);
}
