//! `remoteWrite[].azureAd`: the forms without a secret. PURE.
//!
//! Input: upstream's fields. Output: `azuread`. Version gates of methods are violations, as upstream.

use super::text;
use crate::template::api::remote_write::AzureAd;
use crate::template::prometheus as config;
use crate::template::version::{Capability, Version};
use crate::template::violation::{Findings, Path, Rule};

const CLOUDS: &[&str] = &["AzureChina", "AzureGovernment", "AzurePublic"];

/// Reads the block: exactly one method.
pub(crate) fn azure_ad(
    spec: &AzureAd,
    version: Version,
    path: &Path,
    findings: &mut Findings,
) -> config::AzureAd {
    let methods: Vec<&str> = [
        ("managedIdentity", spec.managed_identity.is_some()),
        ("oauth", spec.oauth.is_some()),
        ("sdk", spec.sdk.is_some()),
        ("workloadIdentity", spec.workload_identity.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    match methods.as_slice() {
        [] => {
            let rule =
                Rule::Other { rule: "names no method", fix: "set managedIdentity, workloadIdentity or sdk" };
            findings.violation_at(path, rule);
        }
        [_] => {}
        [first, rest @ ..] => {
            for name in rest {
                findings.violation_at(&path.key(name), Rule::Conflict { with: path.key(first).to_string() });
            }
        }
    }
    if spec.oauth.is_some() {
        let rule = Rule::NoFileForm("use workloadIdentity, managedIdentity or sdk, which need no secret");
        findings.violation_at(&path.key("oauth"), rule);
    }
    let mut identity =
        |client: Option<(&Option<String>, bool)>, tenant: Option<(&Option<String>, bool)>, path: Path| {
            let mut id = |field: Option<(&Option<String>, bool)>, name: &str| {
                field.and_then(|(text, required)| uuid(text.as_deref(), required, &path.key(name), findings))
            };
            config::AzureIdentity { client_id: id(client, "clientId"), tenant_id: id(tenant, "tenantId") }
        };
    let managed_identity = spec
        .managed_identity
        .as_ref()
        .map(|managed| identity(Some((&managed.client_id, false)), None, path.key("managedIdentity")));
    let workload_identity = spec.workload_identity.as_ref().map(|workload| {
        let ids = (Some((&workload.client_id, true)), Some((&workload.tenant_id, true)));
        identity(ids.0, ids.1, path.key("workloadIdentity"))
    });
    let sdk = spec.sdk.as_ref().map(|sdk| {
        let tenant = tenant(sdk.tenant_id.as_deref(), &path.key("sdk").key("tenantId"), findings);
        config::AzureIdentity { client_id: None, tenant_id: tenant }
    });
    let system = managed_identity.as_ref().is_some_and(|managed| managed.client_id.is_none());
    let scope = text::optional_line(spec.scope.as_deref(), &path.key("scope"), findings);
    let knows_scope = version.has(Capability::AzureScope);
    if scope.is_some() && !knows_scope {
        findings.too_new(&path.key("scope"), Capability::AzureScope.since(), version);
    }
    for (used, capability, name) in [
        (system, Capability::AzureSystemIdentity, "managedIdentity"),
        (workload_identity.is_some(), Capability::AzureWorkloadIdentity, "workloadIdentity"),
    ] {
        if used && !version.has(capability) {
            let rule = Rule::NeedsVersion { since: capability.since(), have: version };
            findings.violation_at(&path.key(name), rule);
        }
    }
    config::AzureAd {
        cloud: text::choice(spec.cloud.as_deref(), CLOUDS, CLOUDS, &path.key("cloud"), findings),
        managed_identity,
        sdk,
        workload_identity,
        scope: scope.filter(|_| knows_scope),
    }
}

/// The tenant of an application, which may be the name of a domain.
fn tenant(text: Option<&str>, path: &Path, findings: &mut Findings) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) {
        findings.violation(path, text, Rule::Text("is not a tenant: letters, digits, - and ."));
    }
    Some(text.to_owned())
}

/// An id of Azure: 8-4-4-4-12 hexadecimal digits.
fn uuid(text: Option<&str>, required: bool, path: &Path, findings: &mut Findings) -> Option<String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        if required {
            findings.violation_at(path, Rule::Required);
        }
        return None;
    };
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits = text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    if lengths == [8, 4, 4, 4, 12] && digits {
        return Some(text.to_owned());
    }
    findings.violation(path, text, Rule::Text("is not a UUID"));
    None
}
