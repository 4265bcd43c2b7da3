//! Generated pods and Services under generated `ServiceMonitor`s: what upstream's configuration stores and sends of a pod over
//! discovery of endpoints, which Kubernetes' own controller makes, and what ours does over the targets annotation. The same
//! label sets, each target once.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::monitors::selection::{Selection, Taken};
use promsidecar::names;
use promsidecar::template::agent::Agent;
use promsidecar::template::render;
use serde_json::{Value, json};
use support::monitors::classes;
use support::monitors::compare::{agent_of, key, monitors_of, upstream};
use support::monitors::generate::Dice;
use support::monitors::objects::NAMESPACES;
use support::monitors::pods::{Facts, pod};
use support::monitors::series::{Pair, beside, catalog, central, follow, known};
use support::monitors::services::{Cluster, select_by_discovery, with_services};
use support::oracle::{self, Labelled, Labels, Series};

/// Templates with monitors of a run.
const CLUSTERS: u64 = 300;
/// Pods under each.
const PODS: usize = 12;

/// The targets of a job of upstream's, with the series of each; one that is there twice would be scraped twice.
type Targets = Vec<(String, Vec<Pair>)>;

/// What explains differences.
const EXPLAINED: [&str; 6] = [
    "a pod has none of the ports of a Service",
    "a relabeling gives several numbers that nobody declares one address",
    "a relabeling looks into a value of run time, which is told",
    "an expression over the address does not know those of IPv6",
    "values of selectors match exactly",
    "what is selected by discovery has labels of its controller",
];

/// What was compared.
#[derive(Debug, Default)]
struct Counts {
    configurations: usize,
    pods: usize,
    /// A pod and a monitor that has a job for it.
    pairs: usize,
    targets: usize,
    /// As stored and as sent, those that are dropped among them.
    label_sets: usize,
    /// Pairs of a monitor with the mechanism `RoleSelector`.
    by_discovery: usize,
    /// Pairs of pods with an address of IPv6.
    ipv6: usize,
    /// Services whose endpoints agents cannot know.
    refused: usize,
    /// Differences, by what explains them.
    explained: BTreeMap<&'static str, usize>,
}

/// The monitors that both sides take for pods of a namespace, and upstream's configuration with them.
fn taken(cluster: &Cluster, agent: &Agent, namespace: &str) -> (Vec<Value>, String) {
    let everything = [&cluster.monitors[..], &cluster.services].concat();
    let selection = monitors_of(&everything).select(agent, namespace);
    let ours = selection.taken.iter().map(|taken| format!("ServiceMonitor/{}", taken.monitor.id));
    let ours: BTreeSet<_> = ours.collect();
    let taken: Vec<_> =
        cluster.monitors.iter().filter(|monitor| ours.contains(&key(monitor))).cloned().collect();
    let generated = upstream(&classes::without_authorization(&cluster.template), &taken);
    let theirs = |monitor: &&Value| generated.selected.contains(&key(monitor));
    (taken.iter().filter(theirs).cloned().collect(), generated.config.replace("$(SHARD)", "0"))
}

/// What nothing but a central Prometheus with access to the API can do.
fn without_api(object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        members.remove("attachMetadata");
    }
}

/// No number and no name of a port twice in a pod, and no name in an init container that ends.
fn distinct(mut pod: Value) -> Value {
    let mut seen = BTreeSet::new();
    let mut offset = 0;
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let ends = list == "initContainers" && container["restartPolicy"] != "Always";
            for port in container["ports"].as_array_mut().into_iter().flatten() {
                port["containerPort"] = json!(port["containerPort"].as_u64().unwrap_or_default() + offset);
                let name = port["name"].as_str().unwrap_or_default().to_owned();
                if ends || !seen.insert(name) {
                    port.as_object_mut().expect("a port is an object").remove("name");
                }
            }
            offset += 100;
        }
    }
    if pod["spec"]["initContainers"].is_null() {
        pod["spec"].as_object_mut().expect("a spec is an object").remove("initContainers");
    }
    pod
}

/// Targets of one pod by upstream's job. What is known only of a running pod is put in. One scrape pool has each set of labels
/// once, as Prometheus does. Jobs of ours that are of a Service of `without` do not count.
fn arrived(labelled: &Labelled, facts: &Facts, without: &[&str]) -> BTreeMap<String, Targets> {
    let mut seen: BTreeSet<(&str, &Labels)> = BTreeSet::new();
    let mut arrived: BTreeMap<String, Targets> = BTreeMap::new();
    for target in &labelled.targets {
        let Some(labels) = &target.labels else { continue };
        let uid = &target.discovered[names::POD_UID.meta_label];
        let is_its = *uid == facts.uid || *uid == names::POD_UID.placeholder;
        if !is_its || !target.job.starts_with("serviceMonitor/") || !seen.insert((&target.job, labels)) {
            continue;
        }
        let parts: Vec<_> = target.job.splitn(5, '/').collect();
        let service = parts.get(4).and_then(|rest| rest.split(':').next());
        if service.is_some_and(|service| without.contains(&service)) {
            continue;
        }
        let job = parts[..4].join("/");
        let url = target.url.as_deref().unwrap_or_default();
        let url = url.replace("//localhost", &format!("//{}", facts.host()));
        let pairs = target
            .series
            .iter()
            .map(|Series { stored, sent }| (stored.clone().map(|stored| known(stored, facts)), sent.clone()));
        arrived.entry(job).or_default().push((url, pairs.collect()));
    }
    for targets in arrived.values_mut() {
        targets.sort();
    }
    arrived
}

#[test]
fn series_of_service_monitors_are_those_that_upstream_would_have_stored_and_sent() {
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    for index in 0..CLUSTERS {
        let mut dice = Dice(50_000 + index);
        let mut cluster = with_services(&mut dice);
        // Some clusters have addresses of IPv6.
        if index % 2 == 1 {
            cluster.use_ipv6();
        }
        if index % 5 == 4 {
            cluster.monitors.iter_mut().for_each(select_by_discovery);
        }
        let spec = cluster.template["spec"].as_object_mut().expect("a spec is an object");
        spec.insert("replicaExternalLabelName".to_owned(), json!(""));
        spec.insert("remoteWrite".to_owned(), json!([{"url": "https://receiver.example/api/v1/write"}]));
        cluster.monitors.iter_mut().for_each(|monitor| without_api(&mut monitor["spec"]));
        let classes = cluster.template.pointer_mut("/spec/scrapeClasses").and_then(Value::as_array_mut);
        classes.into_iter().flatten().for_each(without_api);
        for (namespace, _) in NAMESPACES {
            let lines = in_namespace(&cluster, namespace, &mut dice, &mut counts);
            wrong.extend(lines.into_iter().map(|line| format!("cluster {index}: {line}")));
        }
    }
    println!("{counts:#?}\nunexplained differences: {}", wrong.len());
    assert!(wrong.is_empty(), "{} differences, first:\n{}", wrong.len(), wrong[0]);
    let Counts { configurations, pairs, targets, label_sets, by_discovery, ipv6, refused, explained, .. } =
        counts;
    assert!(
        configurations >= 200 && pairs >= 800 && targets >= 1500 && label_sets >= 40_000 && refused >= 30
    );
    assert!(by_discovery >= 300 && ipv6 >= 450);
    // One that is never seen is none.
    assert_eq!(explained.keys().copied().collect::<Vec<_>>(), EXPLAINED);
}

/// Compares for pods of one namespace.
fn in_namespace(cluster: &Cluster, namespace: &str, dice: &mut Dice, counts: &mut Counts) -> Vec<String> {
    let agent = agent_of(&cluster.template);
    let (monitors, theirs) = taken(cluster, &agent, namespace);
    if monitors.is_empty() {
        return Vec::new();
    }
    let objects = [&monitors[..], &cluster.services].concat();
    let selection = monitors_of(&objects).select(&agent, namespace);
    counts.refused += selection.refused.len();
    let ours = render::render(&agent, namespace, &selection);
    let catalog = catalog(&cluster.template, &objects);
    counts.configurations += 2;
    let pods: Vec<_> = (0..PODS)
        .map(|number| {
            let pod = oracle::sent(&distinct(pod(dice))).expect("a pod").pod;
            let mut facts = Facts::of(&pod, cluster.address(), format!("uid-{number}"));
            facts.name = format!("{}-{number}", facts.name);
            (pod, facts)
        })
        .collect();
    let around = central(&pods, namespace);
    let central = follow(&theirs, &oracle::Surroundings { services: cluster.services.clone(), ..around });
    let mut wrong = Vec::new();
    for (pod, facts) in &pods {
        let mut pod = pod.clone();
        if pod["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty()) {
            pod["metadata"]["name"] = json!(facts.name);
        }
        let Some(around) = beside(&pod, namespace, &catalog, facts) else {
            wrong.push(format!("no agent for {pod}"));
            continue;
        };
        let agents = follow(&ours, &around);
        counts.pods += 1;
        if !agents.failures.is_empty() || !central.failures.is_empty() {
            wrong.push(format!("{:?}, not {:?}", agents.failures, central.failures));
        }
        let with_address = arrived(&agents, facts, &cluster.headless(namespace));
        let case = Case {
            cluster,
            monitors: &monitors,
            agent: &agent,
            selection: &selection,
            pod: &pod,
            with_address: &with_address,
        };
        let lines = case.compare(&arrived(&agents, facts, &[]), &arrived(&central, facts, &[]), counts);
        wrong.extend(lines.into_iter().map(|line| {
            format!("{line}\n{pod}\n{}\n{monitors:?}\n{:?}", cluster.template, cluster.services)
        }));
    }
    wrong
}

struct Case<'a> {
    cluster: &'a Cluster,
    monitors: &'a [Value],
    agent: &'a Agent,
    selection: &'a Selection,
    pod: &'a Value,
    /// What is ours, without the headless Services.
    with_address: &'a BTreeMap<String, Targets>,
}

impl Case<'_> {
    /// Compares job after job; lines that nothing explains.
    fn compare(
        &self,
        ours: &BTreeMap<String, Targets>,
        theirs: &BTreeMap<String, Targets>,
        counts: &mut Counts,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for monitor in self.monitors {
            let name = key(monitor).replacen("ServiceMonitor", "serviceMonitor", 1);
            let is_by_discovery = monitor["spec"]["selectorMechanism"] == "RoleSelector";
            let mut scraped = false;
            let endpoints = monitor["spec"]["endpoints"].as_array().map_or(0, Vec::len);
            for endpoint in 0..endpoints {
                let job = format!("{name}/{endpoint}");
                let of = |arrived: &BTreeMap<String, Targets>| arrived.get(&job).cloned().unwrap_or_default();
                let (ours, theirs) = (of(ours), of(theirs));
                scraped |= !ours.is_empty();
                if ours == theirs {
                    counts.targets += ours.len();
                    counts.label_sets += ours
                        .iter()
                        .flat_map(|(_, pairs)| pairs)
                        .map(|(_, sent)| 1 + sent.len())
                        .sum::<usize>();
                } else if is_by_discovery
                    && monitor["spec"]["selector"].to_string().contains("service.kubernetes.io/headless")
                    && of(self.with_address) == theirs
                {
                    *counts.explained.entry(EXPLAINED[5]).or_default() += 1;
                } else if let Some(why) = self.explained(monitor, endpoint, &ours, &theirs) {
                    *counts.explained.entry(why).or_default() += 1;
                } else {
                    lines.push(format!("{job}: {}", first_difference(&ours, &theirs)));
                }
            }
            counts.pairs += usize::from(scraped);
            counts.by_discovery += usize::from(scraped && is_by_discovery);
            counts.ipv6 += usize::from(scraped && self.cluster.address().contains(':'));
        }
        lines
    }

    fn explained(
        &self,
        monitor: &Value,
        endpoint: usize,
        ours: &Targets,
        theirs: &Targets,
    ) -> Option<&'static str> {
        let spec = &monitor["spec"];
        let class = classes::of(&self.cluster.template, spec);
        let place = format!("spec.endpoints[{endpoint}].");
        let is_it = |taken: &&Taken| format!("ServiceMonitor/{}", taken.monitor.id) == key(monitor);
        let taken = self.selection.taken.iter().find(is_it).expect("it is taken");
        let by_monitor = taken.warnings.iter().any(|warning| warning.path.starts_with(&place));
        let classes = self.cluster.template["spec"]["scrapeClasses"].as_array().into_iter().flatten();
        let position = classes.into_iter().position(|other| *other == class);
        let by_class = position.is_some_and(|position| {
            let place = format!("spec.scrapeClasses[{position}].");
            self.agent.config.warnings.iter().any(|warning| warning.path.starts_with(&place))
        });
        if by_monitor || by_class {
            return Some(EXPLAINED[2]);
        }
        // Not one of its ports is there, and all have names.
        if self.is_no_endpoint() && theirs.iter().all(|target| ours.contains(target)) {
            return Some(EXPLAINED[0]);
        }
        let writes = |rules: &Value| {
            rules.as_array().into_iter().flatten().any(|rule| rule["targetLabel"] == "__address__")
        };
        let set = |targets: &Targets| targets.iter().cloned().collect::<BTreeSet<_>>();
        if set(ours) == set(theirs)
            && (writes(&spec["endpoints"][endpoint]["relabelings"]) || writes(&class["relabelings"]))
        {
            return Some(EXPLAINED[1]);
        }
        if self.cluster.address().contains(':')
            && (uses_address(&spec["endpoints"][endpoint]["relabelings"])
                || uses_address(&class["relabelings"]))
        {
            return Some(EXPLAINED[3]);
        }
        if spec["selectorMechanism"] == "RoleSelector" {
            return None;
        }
        let nearly = self.cluster.services.iter().any(|service| {
            let labels = &service["metadata"]["labels"];
            labels["app"] == "apixv1" || labels["app.kubernetes.io/version"] == "1x2"
        });
        nearly.then_some(EXPLAINED[4])
    }

    /// Whether some Service selects the pod, which has none of its ports.
    fn is_no_endpoint(&self) -> bool {
        let declared: BTreeSet<_> = ["containers", "initContainers"]
            .iter()
            .flat_map(|list| self.pod["spec"][*list].as_array().into_iter().flatten())
            .flat_map(|container| container["ports"].as_array().into_iter().flatten())
            .map(|port| {
                (port["name"].as_str().unwrap_or_default(), port["protocol"].as_str().unwrap_or("TCP"))
            })
            .collect();
        self.cluster.services.iter().any(|service| {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let pairs = service["spec"]["selector"].as_object().into_iter().flatten();
            let selects = pairs.into_iter().all(|(key, value)| self.pod["metadata"]["labels"][key] == *value);
            selects
                && ports.into_iter().all(|port| {
                    let protocol = port["protocol"].as_str().unwrap_or("TCP");
                    port["targetPort"].as_str().is_some_and(|name| !declared.contains(&(name, protocol)))
                })
        })
    }
}

/// Whether rules look into the address.
fn uses_address(rules: &Value) -> bool {
    let lists = rules.as_array().into_iter().flatten().filter_map(|rule| rule["sourceLabels"].as_array());
    lists.flatten().any(|label| label == "__address__")
}

/// The first target that one side alone has, or series.
fn first_difference(ours: &Targets, theirs: &Targets) -> String {
    let urls = |targets: &Targets| targets.iter().map(|(url, _)| url.clone()).collect::<Vec<_>>();
    if urls(ours) != urls(theirs) {
        return format!("{:?}, not {:?}", urls(ours), urls(theirs));
    }
    let series = |targets: &Targets| targets.iter().flat_map(|(_, pairs)| pairs.clone()).collect::<Vec<_>>();
    let (ours, theirs) = (series(ours), series(theirs));
    let different = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    different.map_or_else(
        || format!("{} series, not {}", ours.len(), theirs.len()),
        |(ours, theirs)| format!("{ours:?}, not {theirs:?}"),
    )
}
