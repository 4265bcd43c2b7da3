//! Whether limits and quotas of namespaces have room for an agent. PURE.
//!
//! Input: `LimitRanges`, `ResourceQuotas`, templates, and the namespaces that have or want agents. Output: findings of `limits`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::admission::catalog::NamespaceMeta;
use crate::admission::decision::template_of_namespace;
use crate::cluster::seen::{Seen, list, name, namespace, text};
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

/// Limit of the CPU of an agent whose template has none, in pods whose other containers all have one. Where a `LimitRange` or a quota
/// limits it, they do: by default, or because the API server refuses them otherwise.
const CPU_LIMIT: Quantity = Quantity::from_millis(500);

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
                    judge(object, &needs(namespace(object), facts, &inventory), &mut check);
                }
            }
        }
    }
    for what in &facts.unseen_flags {
        check.not_checked(what);
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
fn needs(place: &str, facts: &Facts, inventory: &Inventory) -> Needs {
    let entry = template_of_namespace(place, inventory.catalog(), &facts.admission);
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
    let requests = BTreeMap::from(requests);
    limits.entry("cpu").or_insert_with(|| CPU_LIMIT.max(requests["cpu"]));
    Needs { template: agent.map(|agent| agent.id.to_string()), requests, limits }
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
    for limit in list(&object["spec"]["limits"]) {
        let is_pod = match text(&limit["type"]) {
            "Container" => false,
            "Pod" => true,
            _ => continue,
        };
        let fix = "set resources of the template's container prometheus, or change the LimitRange";
        let origin = needs.origin();
        let refuses = format!("LimitRange {}/{} refuses pods with {origin}", namespace(object), name(object));
        // What a pod's containers have together is at least what the agent has.
        for (key, request) in needs.requests.iter().filter(|_| !is_pod) {
            if let Some(least) = amount(&limit["min"], key).filter(|least| request < least) {
                check.failed(
                    format!("{refuses}: it requests {request} of {key}, and the least is {least}"),
                    fix,
                );
            }
        }
        let whose = if is_pod { " of a whole pod" } else { "" };
        for (key, most_of) in &needs.limits {
            if let Some(most) = amount(&limit["max"], key).filter(|most| most_of > most) {
                check.failed(
                    format!("{refuses}: its limit of {key} is {most_of}, and the most{whose} is {most}"),
                    fix,
                );
            }
            let request = needs.requests.get(key).copied().unwrap_or_default();
            let ratio = amount(&limit["maxLimitRequestRatio"], key).map(Quantity::approximate);
            let Some(ratio) = ratio.filter(|ratio| most_of.approximate() > request.approximate() * ratio)
            else {
                continue;
            };
            let amounts = format!("its limit of {key} is {most_of} for a request of {request}");
            if is_pod {
                let may = refuses.replace(" refuses ", " may refuse ");
                check.warning(
                    format!("{may}: {amounts}, and the most of a pod's containers together is {ratio} times as much"),
                    fix,
                );
            } else {
                check.failed(format!("{refuses}: {amounts}, and the most is {ratio} times as much"), fix);
            }
        }
    }
}

/// Whose pods a quota is about, in words that follow on its name; nothing where it is about none with an agent.
fn scope(object: &Value) -> Option<String> {
    let plain = list(&object["spec"]["scopes"]).iter().map(|scope| text(scope).to_owned());
    let selected = list(&object["spec"]["scopeSelector"]["matchExpressions"]).iter().map(|expression| {
        let values: Vec<&str> = list(&expression["values"]).iter().map(text).collect();
        let words = [text(&expression["scopeName"]), text(&expression["operator"]), &values.join(",")];
        words.join(" ").trim_end().trim_end_matches(" Exists").to_owned()
    });
    let scopes: BTreeSet<String> = plain.chain(selected).collect();
    // An agent has requests, so its pod is never of the class BestEffort.
    if scopes.contains("BestEffort") {
        return None;
    }
    let scopes: Vec<String> = scopes.into_iter().filter(|scope| scope != "NotBestEffort").collect();
    Some(if scopes.is_empty() {
        String::new()
    } else {
        format!(", for pods of scope {},", scopes.join(" and "))
    })
}

/// Whether a quota has no room for one more agent.
fn quota(object: &Value, needs: &Needs, check: &mut Check) {
    let Some(scope) = scope(object) else { return };
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
                        "ResourceQuota {}/{}{scope} has no room for {}: {now} of {most} of {key} are used, and it needs {more}",
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
    use crate::template::agent::TemplateId;

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
            // Every container has a limit there, and so has the agent.
            (
                json!({"type": "Container", "max": {"cpu": "400m"}}),
                "its limit of cpu is 500m, and the most is 400m",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "10"}}),
                "its limit of cpu is 500m for a request of 10m, and the most is 10 times as much",
            ),
            (
                json!({"type": "Pod", "max": {"memory": "100Mi"}, "min": {"cpu": "1"}}),
                "its limit of memory is 128Mi, and the most of a whole pod is 100Mi",
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
            limits("asks", &json!({"type": "PersistentVolumeClaim", "max": {"memory": "1Mi"}})),
        ]);
        assert_eq!(
            told(&check(&roomy)),
            [(Outcome::Ok, "nothing limits agents in the 2 namespaces that have or want them", "")]
        );
        // What the others of the pod have decides.
        roomy.limit_ranges =
            Ok(vec![limits("asks", &json!({"type": "Pod", "maxLimitRequestRatio": {"memory": "1500m"}}))]);
        let found = "LimitRange asks/limits may refuse pods with an agent without resources of its template: its limit of memory \
            is 128Mi for a request of 64Mi, and the most of a pod's containers together is 1.5 times as much";
        let fix = "set resources of the template's container prometheus, or change the LimitRange";
        assert_eq!(told(&check(&roomy)), [(Outcome::Warning, found, fix)]);
    }

    #[test]
    fn a_quota_is_about_the_pods_of_its_scopes_and_one_for_best_effort_about_none() {
        let quota = |scopes: &Value, selected: &Value| {
            json!({
                "metadata": {"namespace": "asks", "name": "quota"},
                "spec": {"scopes": scopes, "scopeSelector": {"matchExpressions": selected}},
                "status": {"hard": {"limits.cpu": "2"}, "used": {"limits.cpu": "1600m"}},
            })
        };
        let none = json!(null);
        let exists = |scope: &str| json!([{"scopeName": scope, "operator": "Exists"}]);
        let high = json!([{"scopeName": "PriorityClass", "operator": "In", "values": ["high", "higher"]}]);
        for (quota, scope) in [
            (quota(&none, &none), Some("")),
            (quota(&json!(["BestEffort"]), &none), None),
            (quota(&none, &exists("BestEffort")), None),
            (quota(&json!(["NotBestEffort"]), &none), Some("")),
            (
                quota(&json!(["Terminating", "NotBestEffort"]), &none),
                Some(", for pods of scope Terminating,"),
            ),
            (quota(&none, &exists("NotTerminating")), Some(", for pods of scope NotTerminating,")),
            (quota(&none, &high), Some(", for pods of scope PriorityClass In high,higher,")),
        ] {
            let facts = Facts { quotas: Ok(vec![quota.clone()]), ..facts() };
            let expected = match scope {
                Some(scope) => format!(
                    "ResourceQuota asks/quota{scope} has no room for an agent without resources of its template: 1600m of 2 of \
                     limits.cpu are used, and it needs 500m"
                ),
                None => "nothing limits agents in the 2 namespaces that have or want them".to_owned(),
            };
            assert_eq!(told(&check(&facts))[0].1, expected, "{quota}");
        }
    }

    #[test]
    fn templates_are_those_that_the_webhook_was_told_of_and_what_it_was_told_unseen_is_said() {
        let mut facts = facts();
        let resources = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}});
        facts.agents = Ok(vec![json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "PrometheusAgent",
            "metadata": {"namespace": "platform", "name": "big", "annotations": {
                (names::CONTROLLER_ID): "other", (names::ALLOWED_NAMESPACES): "*",
            }},
            "spec": {"containers": [{"name": "prometheus", "resources": resources}]},
        })]);
        facts.limit_ranges =
            Ok(vec![limits("asks", &json!({"type": "Container", "max": {"memory": "512Mi"}}))]);
        let good = (Outcome::Ok, "nothing limits agents in the 2 namespaces that have or want them");
        assert_eq!((told(&check(&facts))[0].0, told(&check(&facts))[0].1), good);
        facts.settings.controller_id = "other".to_owned();
        facts.admission.default_template =
            Some(TemplateId { namespace: "platform".to_owned(), name: "big".to_owned() });
        facts.unseen_flags = vec!["the webhook's --max-targets cannot be seen".to_owned()];
        let findings = check(&facts);
        let found = "LimitRange asks/limits refuses pods with an agent of platform/big: its limit of memory is 1Gi, and the most is \
            512Mi";
        let fix = "set resources of the template's container prometheus, or change the LimitRange";
        let unseen = (Outcome::NotChecked, "the webhook's --max-targets cannot be seen", "");
        assert_eq!(told(&findings), [(Outcome::Failed, found, fix), unseen]);
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
