//! Resources and storage of the agent's container. PURE.
//!
//! Input: `resources`, `containers[prometheus].resources`, `storage`. Output: checked quantities; the API server refuses the
//! whole pod for what is refused here.

use std::collections::BTreeMap;

use super::guard_rails;
use crate::template::agent::Resources;
use crate::template::api::pod::{QuantityText, Resources as ResourcesSpec, StorageSpec};
use crate::template::guard_rails::flag;
use crate::template::quantity::Quantity;
use crate::template::violation::{Findings, Path, Rule};

/// What a template may state; any other resource could keep the application from being scheduled.
const RESOURCES: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// Least memory with which an agent starts at all.
const LEAST_MEMORY: Quantity = Quantity::from_mebibytes(32);

/// Requests and limits; later sources replace earlier ones a key, as a strategic merge does.
pub(crate) fn resources(
    sources: &[(&ResourcesSpec, Path)],
    ceilings: &BTreeMap<String, Quantity>,
    findings: &mut Findings,
) -> Resources {
    let mut merged = Resources::default();
    let mut paths: BTreeMap<String, Path> = BTreeMap::new();
    for (spec, path) in sources {
        for (key, quantities, target) in
            [("requests", &spec.requests, &mut merged.requests), ("limits", &spec.limits, &mut merged.limits)]
        {
            for (name, text) in quantities {
                let path = path.key(key).key(name);
                if !RESOURCES.contains(&name.as_str()) {
                    findings.violation(&path, name, Rule::OneOf(RESOURCES));
                } else if let Some(quantity) = quantity(text, &path, findings) {
                    if let Some(most) = ceilings.get(name).filter(|most| quantity > **most) {
                        findings.violation(
                            &path,
                            quantity.to_string(),
                            guard_rails::above(most, flag::CEILINGS),
                        );
                    }
                    if key == "requests" {
                        paths.insert(name.clone(), path);
                    }
                    target.insert(name.clone(), quantity);
                }
            }
        }
        let least = merged.limits.get("memory").filter(|limit| **limit < LEAST_MEMORY);
        if let Some(limit) = least.filter(|_| spec.limits.contains_key("memory")) {
            let rule =
                Rule::Other { rule: "is too little for an agent to start with", fix: "state 32Mi or more" };
            findings.violation(&path.key("limits").key("memory"), limit.to_string(), rule);
        }
    }
    for (name, path) in &paths {
        let (request, limit) = (merged.requests.get(name), merged.limits.get(name));
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            findings.violation(
                path,
                request.to_string(),
                Rule::Exceeds { bound: format!("the limit, {limit}") },
            );
        }
    }
    merged
}

fn quantity(text: &QuantityText, path: &Path, findings: &mut Findings) -> Option<Quantity> {
    let quantity = Quantity::parse(&text.0).filter(|quantity| !quantity.is_negative());
    if quantity.is_none() {
        findings.violation(path, &text.0, Rule::Quantity);
    }
    quantity
}

/// Size limit and medium of the write-ahead log's volume.
pub(crate) fn storage(
    spec: Option<&StorageSpec>,
    findings: &mut Findings,
) -> (Option<Quantity>, Option<String>) {
    const MEDIA: &[&str] = &["Memory"];
    let Some(empty_dir) = spec.and_then(|storage| storage.empty_dir.as_ref()) else {
        return (None, None);
    };
    let path = Path::root("spec").key("storage").key("emptyDir");
    let size =
        empty_dir.size_limit.as_ref().and_then(|text| quantity(text, &path.key("sizeLimit"), findings));
    let medium = empty_dir.medium.clone().filter(|medium| !medium.is_empty());
    if let Some(medium) = medium.as_deref() {
        if MEDIA.contains(&medium) {
            findings.warning(
                &path.key("medium"),
                "the write-ahead log then counts towards the agent's memory limit",
            );
        } else {
            findings.violation(&path.key("medium"), medium, Rule::OneOf(MEDIA));
        }
    }
    // A limit of zero means none, as for the kubelet.
    (size.filter(|size| !size.is_zero()), medium)
}
