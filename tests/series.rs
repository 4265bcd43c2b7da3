//! Generated pods under generated monitors: what upstream's configuration stores and sends of a pod over pod discovery, and
//! what ours does over the targets annotation. The same label sets, those of `up` and of what else a scrape says of itself
//! among them.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use promsidecar::monitors::selection::{Selection, Taken};
use promsidecar::template::agent::Agent;
use promsidecar::template::render;
use serde_json::{Map, Value, json};
use support::monitors::classes;
use support::monitors::compare::{agent_of, key, monitors_of, upstream};
use support::monitors::generate::{Dice, cluster, put};
use support::monitors::objects::NAMESPACES;
use support::monitors::pods::{Facts, pod};
use support::monitors::series::{Arrived, Pair, arrived, beside, catalog, central, follow};
use support::oracle;

/// Templates with monitors of a run.
const CLUSTERS: u64 = 300;
/// Pods under each.
const PODS: usize = 22;

/// The targets of a job by URL, with the series of each.
type Targets = BTreeMap<String, Vec<Pair>>;

/// What explains differences.
const EXPLAINED: [&str; 4] = [
    "a relabeling looks into a value of run time, which is told",
    "an IPv6 address without a port is written in brackets",
    "an expression over the address does not know those of IPv6",
    "values of selectors match exactly",
];

/// What was compared.
#[derive(Debug, Default)]
struct Counts {
    configurations: usize,
    pods: usize,
    /// A pod and a monitor that has a job for it.
    pairs: usize,
    targets: usize,
    /// As stored and as sent to each receiver, those that are dropped among them.
    label_sets: usize,
    /// Differences, by what explains them.
    explained: BTreeMap<&'static str, usize>,
}

/// Remote writes, and what else has a say in labels.
fn writes(template: &mut Value, dice: &mut Dice) {
    let mut spec = Map::new();
    spec.insert("replicaExternalLabelName".to_owned(), json!(""));
    put(&mut spec, dice, 2, "externalLabels", |_| json!({"cluster": "one", "pod": "external"}));
    let rules = dice.of(&[
        json!([]),
        json!([{"action": "drop", "sourceLabels": ["__name__"], "regex": "scrape_.*"}]),
        json!([{"sourceLabels": ["instance"], "regex": "(.+):.*", "targetLabel": "host"}]),
        json!([{"action": "labeldrop", "regex": "container|node"}, {"sourceLabels": ["pod"], "regex": "web-(.+)", "targetLabel": "short"}]),
    ]);
    let plain = json!({"url": "https://receiver.example/api/v1/write"});
    let second = json!({"url": "https://second.example/api/v1/write", "writeRelabelConfigs": rules});
    spec.insert("remoteWrite".to_owned(), json!([plain, second]));
    template["spec"].as_object_mut().expect("a spec is an object").extend(spec);
}

/// The monitors that both sides take for pods of a namespace, and upstream's configuration with them. The operator also leaves
/// out those whose Secrets are absent.
fn taken(template: &Value, monitors: &[Value], agent: &Agent, namespace: &str) -> (Vec<Value>, String) {
    let selection = monitors_of(monitors).select(agent, namespace);
    let ours: BTreeSet<_> =
        selection.taken.iter().map(|taken| format!("PodMonitor/{}", taken.monitor.id)).collect();
    let taken: Vec<_> = monitors.iter().filter(|monitor| ours.contains(&key(monitor))).cloned().collect();
    // Prometheus takes no class's authorization beside another way to authenticate.
    let generated = upstream(&classes::without_authorization(template), &taken);
    let theirs = |monitor: &&Value| generated.selected.contains(&key(monitor));
    (taken.iter().filter(theirs).cloned().collect(), generated.config.replace("$(SHARD)", "0"))
}

/// Labels of nodes are only a central Prometheus's.
fn without_nodes(object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        members.remove("attachMetadata");
    }
}

#[test]
fn generated_pods_under_generated_monitors_have_the_series_that_upstream_would_have_stored_and_sent() {
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    for index in 0..CLUSTERS {
        let mut dice = Dice(9_000 + index);
        let (mut template, mut monitors) = cluster(&mut dice);
        writes(&mut template, &mut dice);
        for monitor in &mut monitors {
            without_nodes(&mut monitor["spec"]);
        }
        let classes = template.pointer_mut("/spec/scrapeClasses").and_then(Value::as_array_mut);
        classes.into_iter().flatten().for_each(without_nodes);
        for (namespace, _) in NAMESPACES {
            let lines = in_namespace(&template, &monitors, namespace, &mut dice, &mut counts);
            wrong.extend(lines.into_iter().map(|line| format!("cluster {index}: {line}")));
        }
    }
    println!("{counts:#?}\nunexplained differences: {}", wrong.len());
    assert!(wrong.is_empty(), "{} differences, first:\n{}", wrong.len(), wrong[0]);
    let Counts { configurations, pairs, targets, label_sets, explained, .. } = counts;
    assert!(configurations >= 300 && pairs >= 1800 && targets >= 4000 && label_sets >= 220_000);
    // One that is never seen is none.
    assert_eq!(explained.keys().copied().collect::<Vec<_>>(), EXPLAINED);
}

/// Compares for pods of one namespace.
fn in_namespace(
    template: &Value,
    monitors: &[Value],
    namespace: &str,
    dice: &mut Dice,
    counts: &mut Counts,
) -> Vec<String> {
    let agent = agent_of(template);
    let (monitors, theirs) = taken(template, monitors, &agent, namespace);
    if monitors.is_empty() {
        return Vec::new();
    }
    let selection = monitors_of(&monitors).select(&agent, namespace);
    let ours = render::render(&agent, namespace, &selection);
    let catalog = catalog(template, &monitors);
    counts.configurations += 2;
    let pods: Vec<_> = (0..PODS)
        .map(|number| {
            let pod = oracle::sent(&pod(dice)).expect("a pod").pod;
            let facts =
                Facts::of(&pod, dice.of(&["10.0.0.7", "10.0.0.7", "fd00::7"]), format!("uid-{number}"));
            (pod, facts)
        })
        .collect();
    let central = follow(&theirs, &central(&pods, namespace));
    let mut wrong = Vec::new();
    for (pod, facts) in &pods {
        let Some(around) = beside(pod, namespace, &catalog, facts) else {
            wrong.push(format!("no agent for {pod}"));
            continue;
        };
        let agents = follow(&ours, &around);
        counts.pods += 1;
        if !agents.failures.is_empty() || !central.failures.is_empty() {
            wrong.push(format!("{:?}, not {:?}", agents.failures, central.failures));
        }
        let case = Case { template, monitors: &monitors, agent: &agent, selection: &selection, pod, facts };
        let lines = case.compare(&arrived(&agents, facts), &arrived(&central, facts), counts);
        wrong.extend(lines.into_iter().map(|line| format!("{line}\n{pod}\n{template}\n{monitors:?}")));
    }
    wrong
}

/// The first target or series that one side alone has.
fn first_difference(ours: &Targets, theirs: &Targets) -> String {
    let urls = |targets: &Targets| targets.keys().cloned().collect::<Vec<_>>();
    if urls(ours) != urls(theirs) {
        return format!("{:?}, not {:?}", urls(ours), urls(theirs));
    }
    let series = |targets: &Targets| targets.values().flatten().cloned().collect::<Vec<_>>();
    let (ours, theirs) = (series(ours), series(theirs));
    let different = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    different.map_or_else(
        || format!("{} series, not {}", ours.len(), theirs.len()),
        |(ours, theirs)| format!("{ours:?}, not {theirs:?}"),
    )
}

struct Case<'a> {
    template: &'a Value,
    monitors: &'a [Value],
    agent: &'a Agent,
    selection: &'a Selection,
    pod: &'a Value,
    facts: &'a Facts,
}

impl Case<'_> {
    /// Compares job after job; lines that nothing explains.
    fn compare(&self, ours: &Arrived, theirs: &Arrived, counts: &mut Counts) -> Vec<String> {
        let of = |arrived: &Arrived, job: &str| -> Targets {
            let targets = arrived.iter().filter(|((name, _), _)| name == job);
            targets.map(|((_, url), pairs)| (url.clone(), pairs.clone())).collect()
        };
        let mut lines = Vec::new();
        for (position, monitor) in self.monitors.iter().enumerate() {
            let name = key(monitor).replacen("PodMonitor", "podMonitor", 1);
            let mut scraped = false;
            let endpoints = monitor["spec"]["podMetricsEndpoints"].as_array().map_or(0, Vec::len);
            for endpoint in 0..endpoints {
                let job = format!("{name}/{endpoint}");
                let (mut ours, mut theirs) = (of(ours, &job), of(theirs, &job));
                if self.without_port(&mut ours) + self.without_port(&mut theirs) > 0 {
                    *counts.explained.entry(EXPLAINED[1]).or_default() += 1;
                }
                scraped |= !ours.is_empty();
                if ours == theirs {
                    counts.targets += ours.len();
                    counts.label_sets +=
                        ours.values().flatten().map(|(_, sent)| 1 + sent.len()).sum::<usize>();
                } else if let Some(why) = self.explained(position, endpoint, &ours, &theirs) {
                    *counts.explained.entry(why).or_default() += 1;
                } else {
                    lines.push(format!("{job}: {}", first_difference(&ours, &theirs)));
                }
            }
            counts.pairs += usize::from(scraped);
        }
        lines
    }

    /// Takes out targets of containers without a port where the address is one of IPv6: upstream writes what no client reads.
    fn without_port(&self, targets: &mut Targets) -> usize {
        let before = targets.len();
        let ip = self.facts.ip;
        let bare = |url: &str| url.contains(&format!("//{ip}/")) || url.contains(&format!("//[{ip}]/"));
        targets.retain(|url, _| !(ip.contains(':') && bare(url)));
        before - targets.len()
    }

    /// Why a job may differ: it was told, or upstream's selector takes what it does not say.
    fn explained(
        &self,
        monitor: usize,
        endpoint: usize,
        ours: &Targets,
        theirs: &Targets,
    ) -> Option<&'static str> {
        let spec = &self.monitors[monitor]["spec"];
        let class = classes::of(self.template, spec);
        let at = |path: &str| path.to_owned() + ".";
        let place = at(&format!("spec.podMetricsEndpoints[{endpoint}]"));
        let is_it =
            |taken: &&Taken| format!("PodMonitor/{}", taken.monitor.id) == key(&self.monitors[monitor]);
        let taken = self.selection.taken.iter().find(is_it).expect("it is taken");
        let by_monitor = taken.warnings.iter().any(|warning| warning.path.starts_with(&place));
        let classes = self.template["spec"]["scrapeClasses"].as_array().into_iter().flatten();
        let position = classes.into_iter().position(|other| *other == class);
        let by_class = position.is_some_and(|position| {
            let place = at(&format!("spec.scrapeClasses[{position}]"));
            self.agent.config.warnings.iter().any(|warning| warning.path.starts_with(&place))
        });
        if by_monitor || by_class {
            return Some(EXPLAINED[0]);
        }
        // Bracketed, it has more colons than expressions for addresses expect.
        let uses = |rules: &Value| {
            let rules = rules.as_array().into_iter().flatten();
            rules
                .filter_map(|rule| rule["sourceLabels"].as_array())
                .any(|labels| labels.contains(&json!("__address__")))
        };
        if self.facts.ip.contains(':')
            && (uses(&spec["podMetricsEndpoints"][endpoint]["relabelings"]) || uses(&class["relabelings"]))
        {
            return Some(EXPLAINED[2]);
        }
        let labels = &self.pod["metadata"]["labels"];
        let nearly = labels["app"] == "apixv1" || labels["app.kubernetes.io/version"] == "1x2";
        let loosely =
            nearly && spec["selectorMechanism"] != "RoleSelector" && (ours.is_empty() || theirs.is_empty());
        loosely.then_some(EXPLAINED[3])
    }
}
