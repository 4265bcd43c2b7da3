//! What the cluster itself has to be: version, definitions, kubelets. PURE.
//!
//! Input: facts. Output: findings of `api-server`, `definitions` and `kubelets`.

use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::cluster::seen::{Seen, annotation, is_ours, list, name, some, text};
use crate::cluster::version::{KubernetesVersion, NATIVE_SIDECARS, native_sidecars};
use crate::names;

/// First release with all that the registration and the policy use: match conditions and validating policies (GA in 1.30).
const OLDEST: &str = "1.30";

/// Whether the API server is new enough.
pub fn api_server(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("api-server");
    let version = &facts.version;
    let oldest: Result<KubernetesVersion, _> = OLDEST.parse();
    match (version.parse::<KubernetesVersion>(), oldest) {
        (Ok(found), Ok(oldest)) if found < oldest => check.failed(
            format!("Kubernetes {version} is older than {OLDEST}, which match conditions and admission policies need"),
            "upgrade the cluster",
        ),
        (Ok(_), _) => check.ok(format!("Kubernetes {version}")),
        (Err(_), _) => check.warning(
            format!("the API server calls itself {version:?}, which is no version"),
            format!("see to it that it is {OLDEST} or later"),
        ),
    }
    check.end()
}

/// A kind that has to be, or can be, defined.
struct Definition {
    name: &'static str,
    version: &'static str,
    /// Whether nothing works without it.
    required: bool,
}

/// The definitions that are looked at.
const DEFINITIONS: [Definition; 3] = [
    Definition { name: "prometheusagents.monitoring.coreos.com", version: "v1alpha1", required: true },
    Definition { name: "podmonitors.monitoring.coreos.com", version: "v1", required: false },
    Definition { name: "servicemonitors.monitoring.coreos.com", version: "v1", required: false },
];

/// Names of the definitions that are looked at.
pub fn definition_names() -> [&'static str; 3] {
    DEFINITIONS.map(|definition| definition.name)
}

/// Whether the kinds are defined as they are used.
pub fn definitions(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("definitions");
    for definition in &DEFINITIONS {
        match facts.definitions.get(definition.name).unwrap_or(&Ok(None)) {
            Err(forbidden) => check.forbidden(forbidden),
            Ok(None) if definition.required => check.failed(
                format!("{} is not there: the cluster knows no templates", definition.name),
                "kubectl create -k webhook-config/crds",
            ),
            Ok(None) => check.ok(format!("{} is not there, so there are no such monitors", definition.name)),
            Ok(Some(object)) => judge_definition(definition, object, &mut check),
        }
    }
    check.end()
}

fn judge_definition(Definition { name, version, required }: &Definition, object: &Value, check: &mut Check) {
    let conditions = list(&object["status"]["conditions"]);
    let established = conditions
        .iter()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    let found = list(&object["spec"]["versions"]).iter().find(|found| found["name"] == *version);
    let Some(served) = found.filter(|found| found["served"] == true && established) else {
        return check.failed(
            format!("{name} does not serve {version}"),
            "upgrade it: kubectl replace -k webhook-config/crds, or prometheus-operator's own",
        );
    };
    // Whoever installs over ours by server-side apply leaves our label where it is.
    let whose = match annotation(object, names::OPERATOR_VERSION) {
        Some(version) => format!("prometheus-operator {version}"),
        None if is_ours(object) => "promsidecar's own".to_owned(),
        None => "somebody else's".to_owned(),
    };
    let has_status = served["subresources"].get("status").is_some();
    if !has_status && *required {
        return check.failed(
            format!(
                "{name} has no subresource status ({whose}): the controller cannot tell how templates are"
            ),
            "upgrade it: kubectl replace -k webhook-config/crds, or prometheus-operator's own",
        );
    }
    let status =
        if has_status { "with status" } else { "without status: rejections are told by Events alone" };
    check.ok(format!("{name} {version} {status} ({whose})"));
}

/// Whether the nodes run agents in the mode that they are injected in.
pub fn kubelets(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("kubelets");
    let api_server: KubernetesVersion = facts.version.parse().unwrap_or_default();
    let nodes = match &facts.nodes {
        Ok(nodes) => nodes,
        Err(forbidden) => return check.only_forbidden(forbidden),
    };
    let version = |node: &Value| text(&node["status"]["nodeInfo"]["kubeletVersion"]).to_owned();
    let kubelets: Vec<KubernetesVersion> =
        nodes.iter().map(|node| version(node).parse().unwrap_or_default()).collect();
    let old: Vec<String> = nodes
        .iter()
        .zip(&kubelets)
        .filter(|(_, kubelet)| **kubelet < NATIVE_SIDECARS)
        .map(|(node, _)| format!("{} ({})", name(node), version(node)))
        .collect();
    if old.is_empty() {
        let mode = if native_sidecars(api_server, Some(&kubelets)) {
            "native sidecars"
        } else {
            "ordinary containers"
        };
        let oldest =
            kubelets.iter().min().map_or_else(String::new, |oldest| format!(", the oldest {oldest}"));
        return check.or_ok(format!("{} nodes{oldest}: agents of mode auto are {mode}", nodes.len()));
    }
    let native = native_templates(&facts.agents, facts);
    let nodes = format!("nodes older than {NATIVE_SIDECARS} run no native sidecars: {}", some(&old));
    if !native.is_empty() {
        check.failed(
            format!("{nodes}; templates of mode native: {}", some(&native)),
            format!("set {}: auto on these templates, or upgrade the nodes", names::MODE),
        );
    } else if native_sidecars(api_server, Some(&kubelets)) {
        check.failed(
            format!("{nodes}; the API server is {api_server}, so agents of mode auto are native sidecars"),
            "upgrade the nodes: the API server supports none that are so old",
        );
    } else {
        check.warning(
            format!("{nodes}; so agents of mode auto are ordinary containers"),
            "upgrade the nodes, or know that agents do not outlive the application of a Job",
        );
    }
    check.end()
}

/// Claimed templates that insist on native sidecars.
fn native_templates(agents: &Seen<Vec<Value>>, facts: &Facts) -> Vec<String> {
    let claimed = |agent: &&Value| {
        annotation(agent, names::CONTROLLER_ID) == Some(&*facts.settings.controller_id)
            && annotation(agent, names::MODE) == Some("native")
    };
    let agents = agents.iter().flatten().filter(claimed);
    agents.map(crate::cluster::seen::identity).collect()
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
