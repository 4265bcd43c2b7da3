//! What is left of promsidecar after its removal. PURE.
//!
//! Input: objects of each kind that may be left. Output: findings of `left`: what, how many, and the command that removes it,
//! in the order of `docs/operations.md`.

use serde_json::Value;

use super::finding::{Check, Finding};
use super::registration::{ENTRIES, entries};
use crate::cluster::seen::{Resource, Seen, annotation, identity, is_ours, label, list, name, some, text};
use crate::names;

/// Label of everything that is installed.
pub const INSTALLED: &str = "app.kubernetes.io/name=promsidecar";

/// What may be left.
#[derive(Debug, Clone)]
pub struct Left {
    /// Our own namespace.
    pub own_namespace: String,
    /// Registrations of mutating webhooks, whosever.
    pub registrations: Seen<Vec<Value>>,
    /// Metadata of pods with an agent.
    pub injected: Seen<Vec<Value>>,
    /// Metadata of namespaces, whosever.
    pub namespaces: Seen<Vec<Value>>,
    /// What there is of ours in the own namespace, by kind; only where that is shared with others.
    pub shared: Vec<(Resource, Seen<Vec<Value>>)>,
    /// Objects without a namespace that are labelled ours, by kind.
    pub installed: Vec<(Resource, Seen<Vec<Value>>)>,
    /// Metadata of `ConfigMaps` that the controller wrote.
    pub config_maps: Seen<Vec<Value>>,
    /// Templates, and agents of others.
    pub agents: Seen<Vec<Value>>,
    /// What templates are claimed by.
    pub controller_id: String,
    /// Metadata of definitions that are labelled ours.
    pub definitions: Seen<Vec<Value>>,
}

/// What is left.
pub fn check(left: &Left) -> Vec<Finding> {
    let mut check = Check::new("left");
    registrations(&left.registrations, &mut check);
    asking(left, &mut check);
    some_left(
        &left.injected,
        "pods with an agent",
        "restart their owners: kubectl rollout restart; pods of their own have to be created again",
        &mut check,
    );
    for (resource, objects) in &left.installed {
        let command =
            |names: &[String]| format!("kubectl delete {} {}", resource.full_name(), names.join(" "));
        each_left(objects, resource.kind, command, &mut check);
    }
    own_namespace(left, &mut check);
    for (resource, objects) in &left.shared {
        let (own, kind) = (&left.own_namespace, resource.full_name());
        let command = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|name| name.rsplit('/').next().unwrap_or(name)).collect();
            format!("kubectl delete -n {own} {kind} {}", names.join(" "))
        };
        each_left(objects, resource.kind, command, &mut check);
    }
    some_left(
        &left.config_maps,
        "ConfigMaps of the controller",
        &format!("kubectl delete configmaps -A -l {}={}", names::MANAGED_BY, names::MANAGER),
        &mut check,
    );
    let command = |names: &[String]| {
        format!("kubectl delete crd {}; every object of these kinds goes with it", names.join(" "))
    };
    // Whoever installs over ours by server-side apply leaves our label where it is.
    let definitions = left.definitions.clone().map(|mut objects| {
        objects.retain(|object| annotation(object, names::OPERATOR_VERSION).is_none());
        objects
    });
    each_left(&definitions, "definitions of ours", command, &mut check);
    check.or_ok("nothing is left")
}

fn registrations(objects: &Seen<Vec<Value>>, check: &mut Check) {
    let ours = |object: &&Value| entries(object).iter().any(|entry| text(&entry["name"]).ends_with(ENTRIES));
    match objects {
        Err(forbidden) => check.forbidden(forbidden),
        Ok(objects) => {
            for object in objects.iter().filter(ours) {
                let name = name(object);
                let required = list(&object["webhooks"]).iter().any(|entry| entry["failurePolicy"] == "Fail");
                let risk = if required { ": pods that require an agent are refused" } else { "" };
                check.failed(
                    format!("MutatingWebhookConfiguration {name} is there{risk}"),
                    format!("kubectl delete mutatingwebhookconfiguration {name}"),
                );
            }
        }
    }
}

/// Namespaces and templates that still speak to us. They do no harm.
fn asking(left: &Left, check: &mut Check) {
    let speaks = |object: &&Value| {
        let label = label(object, names::INJECT).or_else(|| label(object, names::REQUIRED));
        label.is_some() || annotation(object, names::TEMPLATE).is_some()
    };
    match &left.namespaces {
        Err(forbidden) => check.forbidden(forbidden),
        Ok(objects) => {
            let asking: Vec<String> = objects.iter().filter(speaks).map(identity).collect();
            if !asking.is_empty() {
                check.warning(
                    format!("namespaces that ask for agents: {}", some(&asking)),
                    format!("kubectl label namespace NAME {}- {}-", names::INJECT, names::REQUIRED),
                );
            }
        }
    }
    let claimed = |object: &&Value| annotation(object, names::CONTROLLER_ID) == Some(&*left.controller_id);
    match &left.agents {
        Err(forbidden) => check.forbidden(forbidden),
        Ok(objects) => {
            let claimed: Vec<String> = objects.iter().filter(claimed).map(identity).collect();
            if !claimed.is_empty() {
                check.warning(
                    format!("templates: {}", some(&claimed)),
                    "kubectl delete prometheusagents -n NAMESPACE NAME; released instead, prometheus-operator would run it",
                );
            }
        }
    }
}

/// Whether the own namespace is there and was not made for us alone.
pub fn is_shared(own_namespace: &str, namespaces: &Seen<Vec<Value>>) -> bool {
    let mut own = namespaces.iter().flatten().filter(|object| name(object) == own_namespace);
    own.any(|object| !is_ours(object))
}

fn own_namespace(left: &Left, check: &mut Check) {
    let own = &left.own_namespace;
    let there =
        left.namespaces.iter().flatten().any(|object| name(object) == own.as_str() && is_ours(object));
    if there {
        check.failed(
            format!("the namespace {own} is there, with whatever Deployments, Secret and Lease it has"),
            format!("kubectl delete namespace {own}"),
        );
    }
}

fn some_left(objects: &Seen<Vec<Value>>, what: &str, fix: &str, check: &mut Check) {
    each_left(objects, what, |_| fix.to_owned(), check);
}

fn each_left(objects: &Seen<Vec<Value>>, what: &str, fix: impl Fn(&[String]) -> String, check: &mut Check) {
    match objects {
        Err(forbidden) => check.forbidden(forbidden),
        Ok(objects) if objects.is_empty() => {}
        Ok(objects) => {
            let names: Vec<String> = objects.iter().map(identity).collect();
            check.failed(format!("{what} ({}): {}", names.len(), some(&names)), fix(&names));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Left, check, is_shared};
    use crate::check::finding::{Outcome, told};
    use crate::check::registration::shipped;
    use crate::cluster::kinds;
    use crate::cluster::seen::Forbidden;
    use crate::names;

    fn nothing() -> Left {
        Left {
            own_namespace: "promsidecar-system".to_owned(),
            registrations: Ok(Vec::new()),
            injected: Ok(Vec::new()),
            namespaces: Ok(vec![json!({"metadata": {"name": "default"}})]),
            shared: Vec::new(),
            installed: vec![(kinds::CLUSTER_ROLES, Ok(Vec::new()))],
            config_maps: Ok(Vec::new()),
            agents: Ok(Vec::new()),
            controller_id: "promsidecar".to_owned(),
            definitions: Ok(Vec::new()),
        }
    }

    fn objects(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({"metadata": {"name": name}})).collect()
    }

    #[test]
    fn whatever_is_left_is_named_with_the_command_that_removes_it() {
        assert_eq!(told(&check(&nothing())), [(Outcome::Ok, "nothing is left", "")]);
        let asks = json!({"metadata": {"name": "team-a", "labels": {(names::INJECT): "true"}}});
        let labels = json!({"app.kubernetes.io/name": "promsidecar"});
        let own = json!({"metadata": {"name": "promsidecar-system", "labels": labels}});
        let claim = json!({(names::CONTROLLER_ID): "promsidecar"});
        let left = Left {
            registrations: Ok(vec![shipped("promsidecar-system"), json!({"metadata": {"name": "istio"}})]),
            injected: Ok(vec![json!({"metadata": {"name": "web", "namespace": "team-a"}})]),
            namespaces: Ok(vec![asks, own]),
            installed: vec![(
                kinds::CLUSTER_ROLES,
                Ok(objects(&["promsidecar-webhook", "promsidecar-controller"])),
            )],
            config_maps: Ok(objects(&["promsidecar-shop"])),
            agents: Ok(vec![json!({"metadata": {"name": "shop", "namespace": "a", "annotations": claim}})]),
            definitions: Ok(objects(&["prometheusagents.monitoring.coreos.com"])),
            ..nothing()
        };
        let findings = check(&left);
        let lines: Vec<String> = told(&findings)
            .iter()
            .map(|(outcome, found, fix)| format!("{} {found} | {fix}", outcome.word()))
            .collect();
        assert_eq!(
            lines,
            [
                "failed MutatingWebhookConfiguration promsidecar is there: pods that require an agent are refused | kubectl \
                 delete mutatingwebhookconfiguration promsidecar",
                "warning namespaces that ask for agents: team-a | kubectl label namespace NAME sidecar.prometheus.io/inject- \
                 sidecar.prometheus.io/required-",
                "warning templates: a/shop | kubectl delete prometheusagents -n NAMESPACE NAME; released instead, \
                 prometheus-operator would run it",
                "failed pods with an agent (1): team-a/web | restart their owners: kubectl rollout restart; pods of their own \
                 have to be created again",
                "failed ClusterRole (2): promsidecar-webhook, promsidecar-controller | kubectl delete \
                 clusterroles.rbac.authorization.k8s.io promsidecar-webhook promsidecar-controller",
                "failed the namespace promsidecar-system is there, with whatever Deployments, Secret and Lease it has | \
                 kubectl delete namespace promsidecar-system",
                "failed ConfigMaps of the controller (1): promsidecar-shop | kubectl delete configmaps -A -l \
                 app.kubernetes.io/managed-by=promsidecar",
                "failed definitions of ours (1): prometheusagents.monitoring.coreos.com | kubectl delete crd \
                 prometheusagents.monitoring.coreos.com; every object of these kinds goes with it",
            ]
        );
    }

    #[test]
    fn of_a_namespace_that_others_use_too_only_what_is_ours_has_to_go() {
        let own = json!({"metadata": {"name": "monitoring", "labels": {"kubernetes.io/metadata.name": "monitoring"}}});
        let mut left =
            Left { own_namespace: "monitoring".to_owned(), namespaces: Ok(vec![own]), ..nothing() };
        assert!(is_shared("monitoring", &left.namespaces) && !is_shared("other", &left.namespaces));
        assert_eq!(told(&check(&left)), [(Outcome::Ok, "nothing is left", "")]);
        let lease = json!({"metadata": {"name": "promsidecar-controller", "namespace": "monitoring"}});
        left.shared = vec![(kinds::LEASES, Ok(vec![lease])), (kinds::SECRETS, Ok(Vec::new()))];
        assert_eq!(
            told(&check(&left)),
            [(
                Outcome::Failed,
                "Lease (1): monitoring/promsidecar-controller",
                "kubectl delete -n monitoring leases.coordination.k8s.io promsidecar-controller"
            )]
        );
    }

    #[test]
    fn a_definition_that_prometheus_operator_took_over_is_not_ours_whatever_its_label() {
        let mut left = nothing();
        let annotations = json!({(names::OPERATOR_VERSION): "0.94.1"});
        left.definitions = Ok(vec![
            json!({"metadata": {"name": "podmonitors.monitoring.coreos.com", "annotations": annotations}}),
        ]);
        assert_eq!(told(&check(&left)), [(Outcome::Ok, "nothing is left", "")]);
    }

    #[test]
    fn what_may_not_be_seen_is_not_checked() {
        let left = Left { registrations: Err(Forbidden("list them".to_owned())), ..nothing() };
        assert_eq!(told(&check(&left)), [(Outcome::NotChecked, "forbidden: you may not list them", "")]);
    }
}
