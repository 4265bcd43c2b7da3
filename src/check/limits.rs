//! Whether limits and quotas of namespaces have room for an agent. PURE.
//!
//! Input: `LimitRanges`, `ResourceQuotas`, templates, and the namespaces that have or want agents. Output: findings of `limits`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::admission::Policy;
use crate::admission::catalog::NamespaceMeta;
use crate::admission::decision::template_of_namespace;
use crate::cluster::seen::{Seen, list, name, namespace};
use crate::cluster::snapshot::Objects;
use crate::store::inventory::Inventory;
use crate::template::agent::Resources;
use crate::template::quantity::Quantity;

/// What an agent requests, and is limited to.
#[derive(Debug, Clone, PartialEq)]
struct Needs {
    /// Of which template, if one is known.
    template: Option<String>,
    requests: BTreeMap<&'static str, Quantity>,
    limits: BTreeMap<&'static str, Quantity>,
}

/// Judges a limit or quota by what an agent needs.
type Judge = fn(&Value, &Needs, &mut Check);

/// Whether an agent fits into every namespace that has or wants agents.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("limits");
    let namespaces = match &facts.namespaces {
        Ok(namespaces) => namespaces,
        Err(forbidden) => return check.only_forbidden(forbidden),
    };
    let objects = Objects {
        templates: facts.agents.as_ref().cloned().unwrap_or_default(),
        namespaces: namespaces.clone(),
        ..Objects::default()
    };
    let (inventory, _) = objects.inventory(&facts.settings);
    let used = in_use(facts, &inventory);
    let sources: [(&Seen<Vec<Value>>, Judge); 2] =
        [(&facts.limit_ranges, limit_range), (&facts.quotas, quota)];
    for (objects, judge) in sources {
        match objects {
            Err(forbidden) => check.forbidden(forbidden),
            Ok(objects) => {
                for object in objects.iter().filter(|object| used.contains(namespace(object))) {
                    judge(object, &needs(namespace(object), &inventory), &mut check);
                }
            }
        }
    }
    check.or_ok(format!("nothing limits agents in the {} namespaces that have or want them", used.len()))
}

/// Namespaces that ask by label, and those with injected pods.
fn in_use(facts: &Facts, inventory: &Inventory) -> BTreeSet<String> {
    let asks = |meta: &NamespaceMeta| {
        meta.inject.as_deref().is_some_and(|inject| !inject.eq_ignore_ascii_case("false"))
    };
    let catalog = inventory.catalog();
    let labelled = catalog.namespaces().filter(|name| catalog.namespace(name).is_some_and(asks));
    let injected = facts.injected.iter().flatten().map(namespace);
    labelled.chain(injected).map(str::to_owned).collect()
}

/// What the agent of a pod that says nothing needs in a namespace.
fn needs(place: &str, inventory: &Inventory) -> Needs {
    let entry = template_of_namespace(place, inventory.catalog(), &Policy::default());
    let known = entry.and_then(|entry| inventory.templates().get(&entry.id));
    let agent = known.and_then(|known| known.good.as_ref()).map(|good| &good.agent);
    let none = Resources { requests: BTreeMap::new(), limits: BTreeMap::new() };
    let stated = agent.map_or(&none, |agent| &agent.resources);
    let given = |map: &BTreeMap<String, Quantity>, key: &str| map.get(key).copied();
    let mut limits = BTreeMap::from([("memory", stated.memory_limit())]);
    limits.extend(given(&stated.limits, "cpu").map(|limit| ("cpu", limit)));
    let default = [("cpu", Quantity::from_millis(10)), ("memory", Quantity::from_mebibytes(64))];
    let requests = default.map(|(key, default)| {
        let default = limits.get(key).map_or(default, |limit| default.min(*limit));
        (key, given(&stated.requests, key).unwrap_or(default))
    });
    Needs { template: agent.map(|agent| agent.id.to_string()), requests: requests.into(), limits }
}

impl Needs {
    /// Where they come from, for people.
    fn origin(&self) -> String {
        self.template.as_ref().map_or_else(
            || "an agent without resources of its template".to_owned(),
            |template| format!("an agent of {template}"),
        )
    }
}

/// An amount of a limit or quota.
fn amount(map: &Value, key: &str) -> Option<Quantity> {
    match &map[key] {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

/// What a `LimitRange` refuses.
fn limit_range(object: &Value, needs: &Needs, check: &mut Check) {
    let what = format!("LimitRange {}/{}", namespace(object), name(object));
    let fix = "set resources of the template's container prometheus, or change the LimitRange";
    for limit in list(&object["spec"]["limits"]).iter().filter(|limit| limit["type"] == "Container") {
        for (key, request) in &needs.requests {
            if let Some(least) = amount(&limit["min"], key).filter(|least| request < least) {
                check.failed(
                    format!("{what} refuses pods with {}: it requests {request} of {key}, and the least is {least}", needs.origin()),
                    fix,
                );
            }
        }
        for (key, most_of) in &needs.limits {
            if let Some(most) = amount(&limit["max"], key).filter(|most| most_of > most) {
                check.failed(
                    format!("{what} refuses pods with {}: its limit of {key} is {most_of}, and the most is {most}", needs.origin()),
                    fix,
                );
            }
            let request = needs.requests.get(key).copied().unwrap_or_default();
            let ratio = amount(&limit["maxLimitRequestRatio"], key).map(Quantity::approximate);
            if let Some(ratio) = ratio.filter(|ratio| most_of.approximate() > request.approximate() * ratio) {
                check.failed(
                    format!(
                        "{what} refuses pods with {}: its limit of {key} is {most_of} for a request of {request}, and the \
                         most is {ratio} times as much",
                        needs.origin()
                    ),
                    fix,
                );
            }
        }
    }
}

/// Whether a quota has no room for one more agent.
fn quota(object: &Value, needs: &Needs, check: &mut Check) {
    let (hard, used) = (&object["status"]["hard"], &object["status"]["used"]);
    let sums = [("requests.", &needs.requests), ("", &needs.requests), ("limits.", &needs.limits)];
    for (prefix, amounts) in sums {
        for (key, more) in amounts {
            let key = format!("{prefix}{key}");
            let Some(most) = amount(hard, &key) else { continue };
            let now = amount(used, &key).unwrap_or_default();
            if now.plus(*more) > most {
                check.warning(
                    format!(
                        "ResourceQuota {}/{} has no room for {}: {now} of {most} of {key} are used, and it needs {more}",
                        namespace(object),
                        name(object),
                        needs.origin()
                    ),
                    "raise the quota, or set resources of the template's container prometheus",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check;
    use crate::check::facts::Facts;
    use crate::check::finding::{Outcome, told};
    use crate::cluster::seen::Forbidden;
    use crate::names;

    fn facts() -> Facts {
        let namespace = |name: &str, inject: &str| json!({"metadata": {"name": name, "labels": {(names::INJECT): inject}}});
        Facts {
            namespaces: Ok(vec![
                namespace("asks", "true"),
                namespace("declines", "False"),
                namespace("has", ""),
            ]),
            injected: Ok(vec![json!({"metadata": {"namespace": "has"}})]),
            ..Facts::default()
        }
    }

    fn limits(place: &str, limit: &Value) -> Value {
        json!({"metadata": {"namespace": place, "name": "limits"}, "spec": {"limits": [limit]}})
    }

    #[test]
    fn limits_that_refuse_an_agent_are_told_with_the_amounts() {
        let origin = "LimitRange asks/limits refuses pods with an agent without resources of its template";
        for (limit, found) in [
            (
                json!({"type": "Container", "max": {"memory": "100Mi"}}),
                "its limit of memory is 128Mi, and the most is 100Mi",
            ),
            (
                json!({"type": "Container", "min": {"cpu": "50m"}}),
                "it requests 10m of cpu, and the least is 50m",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"memory": "1500m"}}),
                "its limit of memory is 128Mi for a request of 64Mi, and the most is 1.5 times as much",
            ),
        ] {
            let mut facts = facts();
            facts.limit_ranges = Ok(vec![limits("asks", &limit), limits("declines", &limit)]);
            let findings = check(&facts);
            let fix = "set resources of the template's container prometheus, or change the LimitRange";
            assert_eq!(told(&findings), [(Outcome::Failed, &*format!("{origin}: {found}"), fix)]);
        }
        let mut roomy = facts();
        let limit = json!({
            "type": "Container", "min": {"cpu": "10m", "memory": "64Mi"}, "max": {"memory": "128Mi"},
            "maxLimitRequestRatio": {"memory": 2},
        });
        roomy.limit_ranges = Ok(vec![
            limits("asks", &limit),
            limits("asks", &json!({"type": "Pod", "max": {"memory": "1Mi"}})),
        ]);
        assert_eq!(
            told(&check(&roomy)),
            [(Outcome::Ok, "nothing limits agents in the 2 namespaces that have or want them", "")]
        );
    }

    #[test]
    fn a_quota_without_room_is_told_by_what_the_namespaces_template_needs() {
        let mut facts = facts();
        let annotations = json!({(names::CONTROLLER_ID): "promsidecar"});
        let resources = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}});
        facts.agents = Ok(vec![json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "PrometheusAgent",
            "metadata": {"namespace": "asks", "name": "big", "annotations": annotations},
            "spec": {"containers": [{"name": "prometheus", "resources": resources}]},
        })]);
        let quota = |place: &str| {
            json!({
                "metadata": {"namespace": place, "name": "quota"},
                "status": {"hard": {"requests.memory": "2Gi", "pods": "3"}, "used": {"requests.memory": "1536Mi"}},
            })
        };
        facts.quotas = Ok(vec![quota("asks"), quota("has")]);
        let findings = check(&facts);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            findings[0].found,
            "ResourceQuota asks/quota has no room for an agent of asks/big: 1536Mi of 2Gi of requests.memory are used, and it \
             needs 1Gi"
        );
    }

    #[test]
    fn what_may_not_be_seen_is_not_checked() {
        let facts = Facts { quotas: Err(Forbidden("list quotas".to_owned())), ..facts() };
        assert_eq!(told(&check(&facts)), [(Outcome::NotChecked, "forbidden: you may not list quotas", "")]);
    }
}
