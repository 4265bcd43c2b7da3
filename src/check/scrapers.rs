//! Whether injected pods are scraped twice: by their own agent, and by somebody else's. PURE.
//!
//! Input: injected pods, monitors, and the agents and servers of others. Output: findings of `double-scraping`.
//!
//! A pod has the label `injected` after it was admitted, so a central scraper sees it, and the pod's own targets do not: a drop
//! rule on it in a monitor that both use stops the central one alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::cluster::seen::{Forbidden, annotation, identity, list, name, namespace, some, text};
use crate::monitors::collect::namespace_labels;
use crate::monitors::selector::matches;
use crate::names;
use crate::template::api::LabelSelector;

/// The label as discovery names it.
const INJECTED: &str = "__meta_kubernetes_pod_label_sidecar_prometheus_io_injected";
/// What a monitor needs that others use as well.
const FIX: &str = "add to the relabelings of its endpoints: {action: drop, sourceLabels: \
    [__meta_kubernetes_pod_label_sidecar_prometheus_io_injected], regex: \"true\"}";

type Labels = BTreeMap<String, String>;

/// Everything that is looked at, if the user may see all of it.
struct Seen<'a> {
    namespaces: &'a [Value],
    pods: &'a [Value],
    scrapers: Vec<&'a Value>,
    services: &'a [Value],
}

/// Whether monitors of others lead to injected pods.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("double-scraping");
    let (seen, pod_monitors, service_monitors) = match look(facts) {
        Ok(seen) => seen,
        Err(forbidden) => return check.only_forbidden(forbidden),
    };
    for (kind, monitors) in [("PodMonitor", pod_monitors), ("ServiceMonitor", service_monitors)] {
        for monitor in monitors.iter().filter(|monitor| !drops(monitor)) {
            let scrapers = seen.scrapers.iter().filter(|scraper| seen.selects(scraper, kind, monitor));
            let scrapers: Vec<String> = scrapers.map(|scraper| shown(scraper)).collect();
            let pods = if scrapers.is_empty() { 0 } else { seen.count(kind, monitor) };
            if pods > 0 {
                let what =
                    if pods == 1 { "1 injected pod".to_owned() } else { format!("{pods} injected pods") };
                check.warning(
                    format!(
                        "{kind} {} leads {} to {what}, which its own agent scrapes too",
                        identity(monitor),
                        some(&scrapers)
                    ),
                    FIX,
                );
            }
        }
    }
    let others = seen.scrapers.len();
    check.or_ok(format!("no monitor leads one of the {others} Prometheus objects of others to injected pods"))
}

fn look(facts: &Facts) -> Result<(Seen<'_>, &[Value], &[Value]), &Forbidden> {
    let claimed =
        |agent: &&Value| annotation(agent, names::CONTROLLER_ID) == Some(&*facts.settings.controller_id);
    let agents = facts.agents.as_ref()?.iter().filter(|agent| !claimed(agent));
    let seen = Seen {
        namespaces: facts.namespaces.as_ref()?,
        pods: facts.injected.as_ref()?,
        scrapers: agents.chain(facts.prometheuses.as_ref()?).collect(),
        services: facts.services.as_ref()?,
    };
    Ok((seen, facts.pod_monitors.as_ref()?, facts.service_monitors.as_ref()?))
}

impl Seen<'_> {
    /// Whether a server or agent of others takes a monitor.
    fn selects(&self, scraper: &Value, kind: &str, monitor: &Value) -> bool {
        let (selector, places) = match kind {
            "PodMonitor" => ("podMonitorSelector", "podMonitorNamespaceSelector"),
            _ => ("serviceMonitorSelector", "serviceMonitorNamespaceSelector"),
        };
        let spec = &scraper["spec"];
        let taken = read(&spec[selector]).is_some_and(|selector| matches(&selector, &labels(monitor)));
        taken
            && match read(&spec[places]) {
                None => namespace(scraper) == namespace(monitor),
                Some(places) => matches(&places, &self.labels_of(namespace(monitor))),
            }
    }

    fn labels_of(&self, place: &str) -> Labels {
        let found = self.namespaces.iter().find(|object| name(object) == place);
        found.map(labels).unwrap_or_default()
    }

    /// How many injected pods a monitor leads to.
    fn count(&self, kind: &str, monitor: &Value) -> usize {
        let selector = read(&monitor["spec"]["selector"]).unwrap_or_default();
        let in_place = |object: &&Value| covers(monitor, namespace(object));
        if kind == "PodMonitor" {
            let pods = self.pods.iter().filter(in_place);
            return pods.filter(|pod| matches(&selector, &labels(pod))).count();
        }
        let services = self.services.iter().filter(in_place);
        let mut found = BTreeSet::new();
        for service in services.filter(|service| matches(&selector, &labels(service))) {
            let Some(wanted) = service["spec"]["selector"].as_object().filter(|wanted| !wanted.is_empty())
            else {
                continue;
            };
            let of = |pod: &&Value| {
                namespace(pod) == namespace(service)
                    && wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
            };
            found.extend(self.pods.iter().filter(of).map(identity));
        }
        found.len()
    }
}

/// A selector; nothing where there is none, which selects nothing.
fn read(selector: &Value) -> Option<LabelSelector> {
    if selector.is_null() {
        return None;
    }
    serde_json::from_value(selector.clone()).ok()
}

fn labels(object: &Value) -> Labels {
    namespace_labels(&object["metadata"])
}

/// Whether a monitor is about objects of a namespace.
fn covers(monitor: &Value, place: &str) -> bool {
    let selector = &monitor["spec"]["namespaceSelector"];
    let named = list(&selector["matchNames"]);
    selector["any"] == true
        || if named.is_empty() { namespace(monitor) == place } else { named.iter().any(|name| name == place) }
}

/// Whether every endpoint of a monitor drops injected pods.
fn drops(monitor: &Value) -> bool {
    let spec = &monitor["spec"];
    let endpoints = [&spec["podMetricsEndpoints"], &spec["endpoints"]];
    endpoints.into_iter().flat_map(list).all(|endpoint| {
        list(&endpoint["relabelings"]).iter().any(|rule| {
            text(&rule["action"]).eq_ignore_ascii_case("drop")
                && list(&rule["sourceLabels"]).iter().any(|label| label == INJECTED)
        })
    })
}

/// `Prometheus monitoring/k8s`.
fn shown(scraper: &Value) -> String {
    format!("{} {}", text(&scraper["kind"]), identity(scraper))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{INJECTED, check};
    use crate::check::facts::Facts;
    use crate::check::finding::{Outcome, told};
    use crate::cluster::seen::Forbidden;
    use crate::names;

    fn object(kind: &str, place: &str, name: &str, spec: &Value) -> Value {
        json!({"kind": kind, "metadata": {"namespace": place, "name": name, "labels": {"app": name}}, "spec": spec})
    }

    fn facts(relabelings: &Value) -> Facts {
        let pods = ["web", "db"].map(|name| object("Pod", "team-a", name, &json!({})));
        let by_app = json!({"matchLabels": {"app": "web"}});
        let endpoint = json!([{"port": "http", "relabelings": relabelings}]);
        let monitor = json!({"selector": by_app, "podMetricsEndpoints": endpoint});
        let of_services =
            json!({"selector": by_app, "namespaceSelector": {"any": true}, "endpoints": endpoint});
        let server = json!({"podMonitorSelector": {}, "podMonitorNamespaceSelector": {}});
        Facts {
            namespaces: Ok(vec![json!({"metadata": {"name": "team-a"}})]),
            injected: Ok(pods.to_vec()),
            prometheuses: Ok(vec![object("Prometheus", "monitoring", "k8s", &server)]),
            agents: Ok(vec![object(
                "PrometheusAgent",
                "central",
                "all",
                &json!({"serviceMonitorSelector": {}}),
            )]),
            pod_monitors: Ok(vec![object("PodMonitor", "team-a", "web", &monitor)]),
            service_monitors: Ok(vec![object("ServiceMonitor", "central", "web", &of_services)]),
            services: Ok(vec![object("Service", "team-a", "web", &json!({"selector": {"app": "db"}}))]),
            ..Facts::default()
        }
    }

    #[test]
    fn monitors_of_others_that_lead_to_injected_pods_are_told_with_the_rule() {
        let found = check(&facts(&json!([])));
        let lines: Vec<_> = found.iter().map(|finding| (finding.outcome, &*finding.found)).collect();
        assert_eq!(
            lines,
            [
                (
                    Outcome::Warning,
                    "PodMonitor team-a/web leads Prometheus monitoring/k8s to 1 injected pod, which its own agent scrapes too"
                ),
                (
                    Outcome::Warning,
                    "ServiceMonitor central/web leads PrometheusAgent central/all to 1 injected pod, which its own agent \
                     scrapes too"
                ),
            ]
        );
        assert!(found[0].fix.as_ref().unwrap().contains(INJECTED));
    }

    #[test]
    fn a_drop_rule_a_claim_or_another_selector_ends_it() {
        let good = "no monitor leads one of the 2 Prometheus objects of others to injected pods";
        let rule = json!([{"action": "drop", "sourceLabels": [INJECTED], "regex": "true"}]);
        assert_eq!(told(&check(&facts(&rule))), [(Outcome::Ok, good, "")]);

        let mut ours = facts(&json!([]));
        ours.prometheuses = Ok(Vec::new());
        ours.agents.as_mut().unwrap()[0]["metadata"]["annotations"] =
            json!({(names::CONTROLLER_ID): "promsidecar"});
        assert_eq!(told(&check(&ours))[0].0, Outcome::Ok);

        let mut elsewhere = facts(&json!([]));
        elsewhere.prometheuses.as_mut().unwrap()[0]["spec"] = json!({"podMonitorSelector": {}});
        elsewhere.service_monitors.as_mut().unwrap()[0]["spec"]["namespaceSelector"] = json!({});
        assert_eq!(told(&check(&elsewhere)), [(Outcome::Ok, good, "")]);
    }

    #[test]
    fn what_may_not_be_seen_is_not_checked() {
        let mut facts = facts(&json!([]));
        facts.services = Err(Forbidden("list services".to_owned()));
        assert_eq!(told(&check(&facts)), [(Outcome::NotChecked, "forbidden: you may not list services", "")]);
    }
}
