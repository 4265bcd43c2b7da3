//! Whether our accounts may do what they have to. PURE.
//!
//! Input: the shipped roles, and what the API server says of each permission. Output: what has to be asked, and findings of
//! `permissions`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::facts::Facts;
use super::finding::{Check, Finding};
use crate::cluster::seen::{list, name, namespace, text};
use crate::manifest;

/// The roles as they are shipped.
const ROLES: [&str; 2] = [
    include_str!("../../webhook-config/base/controller-rbac.yaml"),
    include_str!("../../webhook-config/base/webhook-rbac.yaml"),
];
/// Those of a controller that makes the certificate.
const SELF_MANAGED: &str = include_str!("../../webhook-config/components/self-managed/rbac.yaml");

/// One thing that an account of ours has to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The service account, in our own namespace.
    pub account: String,
    /// Where; else everywhere.
    pub namespace: Option<String>,
    group: String,
    /// With its subresource.
    resource: String,
    name: Option<String>,
    verb: String,
}

impl Access {
    /// The spec of a `SubjectAccessReview` that asks for it.
    pub fn review(&self, own_namespace: &str) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        json!({
            "user": format!("system:serviceaccount:{own_namespace}:{}", self.account),
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{own_namespace}"),
                "system:authenticated",
            ],
            "resourceAttributes": {
                "namespace": self.namespace.as_deref().unwrap_or_default(),
                "group": self.group,
                "resource": resource,
                "subresource": subresource,
                "name": self.name.as_deref().unwrap_or_default(),
                "verb": self.verb,
            },
        })
    }

    /// `podmonitors.monitoring.coreos.com`, with the name where it is one object's.
    fn object(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{}{group}{name}", self.resource)
    }
}

/// A kind of object that an overlay creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    group: &'static str,
    resource: &'static str,
    /// Whether its objects are in our own namespace.
    of_namespace: bool,
}

/// What an overlay creates, as far as not everybody may.
pub const CREATED: [Created; 10] = [
    Created::of_cluster("", "namespaces"),
    Created::of_cluster("rbac.authorization.k8s.io", "clusterroles"),
    Created::of_cluster("rbac.authorization.k8s.io", "clusterrolebindings"),
    Created::of_cluster("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    Created::of_cluster("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    Created::of_cluster("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    Created::of_namespace("apps", "deployments"),
    Created::of_namespace("", "serviceaccounts"),
    Created::of_namespace("rbac.authorization.k8s.io", "roles"),
    Created::of_namespace("rbac.authorization.k8s.io", "rolebindings"),
];

impl Created {
    const fn of_cluster(group: &'static str, resource: &'static str) -> Self {
        Self { group, resource, of_namespace: false }
    }

    const fn of_namespace(group: &'static str, resource: &'static str) -> Self {
        Self { group, resource, of_namespace: true }
    }

    /// The spec of a `SelfSubjectAccessReview` that asks for it.
    pub fn review(&self, own_namespace: &str) -> Value {
        let namespace = if self.of_namespace { own_namespace } else { "" };
        json!({"resourceAttributes": {
            "namespace": namespace, "group": self.group, "resource": self.resource, "verb": "create",
        }})
    }
}

/// Whether whoever asks may install it.
pub fn of_installer(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("installer");
    let denied = facts.installer.iter().filter(|(_, allowed)| !allowed);
    let denied: Vec<&str> = denied.map(|(created, _)| created.resource).collect();
    if !denied.is_empty() {
        check.failed(
            format!("you may not create {}", denied.join(", ")),
            "let an administrator of the cluster install it",
        );
    }
    check.or_ok("you may create everything that the overlays install")
}

/// Whether our controller makes the certificate, as far as its Deployment can be seen.
pub fn makes_certificate(deployments: &[&Value]) -> bool {
    let containers =
        deployments.iter().flat_map(|object| list(&object["spec"]["template"]["spec"]["containers"]));
    let mut variables = containers.flat_map(|container| list(&container["env"]));
    variables
        .any(|variable| variable["name"] == "PROMSIDECAR_CERTIFICATE" && variable["value"] == "self-managed")
}

/// Everything that the shipped roles permit.
pub fn wanted(own_namespace: &str, self_managed: bool) -> BTreeSet<Access> {
    let mut texts = ROLES.to_vec();
    texts.extend(self_managed.then_some(SELF_MANAGED));
    let mut objects: Vec<Value> = Vec::new();
    for text in texts {
        let text = text.replace("namespace: promsidecar-system", &format!("namespace: {own_namespace}"));
        objects.extend(manifest::read(&text).unwrap_or_default().into_iter().map(|document| document.object));
    }
    let mut wanted = BTreeSet::new();
    for binding in &objects {
        let place = match text(&binding["kind"]) {
            "ClusterRoleBinding" => None,
            "RoleBinding" => Some(namespace(binding).to_owned()),
            _ => continue,
        };
        let reference = &binding["roleRef"];
        let roles = objects
            .iter()
            .filter(|role| role["kind"] == reference["kind"] && name(role) == text(&reference["name"]));
        for rule in roles.flat_map(|role| list(&role["rules"])) {
            for subject in list(&binding["subjects"]) {
                expand(text(&subject["name"]), place.as_ref(), rule, &mut wanted);
            }
        }
    }
    wanted
}

fn expand(account: &str, place: Option<&String>, rule: &Value, wanted: &mut BTreeSet<Access>) {
    let named: Vec<Option<&str>> = match list(&rule["resourceNames"]) {
        [] => vec![None],
        names => names.iter().map(|name| Some(text(name))).collect(),
    };
    for group in list(&rule["apiGroups"]) {
        for resource in list(&rule["resources"]) {
            for verb in list(&rule["verbs"]) {
                wanted.extend(named.iter().map(|name| Access {
                    account: account.to_owned(),
                    namespace: place.cloned(),
                    group: text(group).to_owned(),
                    resource: text(resource).to_owned(),
                    name: name.map(str::to_owned),
                    verb: text(verb).to_owned(),
                }));
            }
        }
    }
}

/// Whether everything is permitted.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("permissions");
    let mut denied: BTreeMap<(&str, String, &str), Vec<&str>> = BTreeMap::new();
    for (access, allowed) in &facts.permissions {
        match allowed {
            Ok(true) => {}
            Ok(false) => {
                let place = access.namespace.as_deref().unwrap_or_default();
                denied.entry((&access.account, access.object(), place)).or_default().push(&access.verb);
            }
            Err(forbidden) => return check.only_forbidden(forbidden),
        }
    }
    for ((account, object, place), verbs) in denied {
        let place = if place.is_empty() { String::new() } else { format!(" in {place}") };
        // What the webhook can do without.
        let optional = object == "nodes";
        let found = format!("{account} may not {} {object}{place}", verbs.join(", "));
        if optional {
            check.warning(
                format!("{found}: on Kubernetes 1.30 to 1.32 agents of mode auto are ordinary containers"),
                "kubectl apply -k webhook-config/overlays/self-managed; the component strict leaves it out on purpose",
            );
        } else {
            check.failed(
                found,
                "kubectl apply -k webhook-config/overlays/self-managed, or the overlay that is installed",
            );
        }
    }
    check.or_ok(format!("both accounts have all {} that the shipped roles give", facts.permissions.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Access, CREATED, check, makes_certificate, of_installer, wanted};
    use crate::check::facts::Facts;
    use crate::check::finding::{Outcome, told};
    use crate::cluster::seen::Forbidden;

    fn access(resource: &str, verb: &str, namespace: Option<&str>) -> Access {
        wanted("own", true)
            .into_iter()
            .find(|access| {
                access.resource == resource && access.verb == verb && access.namespace.as_deref() == namespace
            })
            .unwrap()
    }

    #[test]
    fn the_shipped_roles_are_asked_for_one_verb_at_a_time() {
        assert_eq!(
            access("prometheusagents/status", "patch", None).review("own"),
            json!({
                "user": "system:serviceaccount:own:promsidecar-controller",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:own", "system:authenticated"],
                "resourceAttributes": {
                    "namespace": "", "group": "monitoring.coreos.com", "resource": "prometheusagents",
                    "subresource": "status", "name": "", "verb": "patch",
                },
            })
        );
        let lease = access("leases", "update", Some("own"));
        assert_eq!(lease.object(), "leases.coordination.k8s.io promsidecar-controller");
        let secrets =
            |self_managed| wanted("own", self_managed).iter().filter(|a| a.resource == "secrets").count();
        assert_eq!((secrets(false), secrets(true)), (0, 4));
    }

    #[test]
    fn whoever_installs_is_told_what_he_may_not_create() {
        let mut facts =
            Facts { installer: CREATED.map(|created| (created, true)).to_vec(), ..Facts::default() };
        assert_eq!(told(&of_installer(&facts))[0].0, Outcome::Ok);
        facts.installer[1].1 = false;
        facts.installer[6].1 = false;
        assert_eq!(told(&of_installer(&facts))[0].1, "you may not create clusterroles, deployments");
        let asked = |index: usize| CREATED[index].review("own")["resourceAttributes"].clone();
        assert_eq!((&asked(1)["namespace"], &asked(6)["namespace"]), (&json!(""), &json!("own")));
    }

    #[test]
    fn who_makes_the_certificate_is_seen_in_the_deployment() {
        for (value, expected) in [("self-managed", true), ("external", false)] {
            let env = json!([{"name": "PROMSIDECAR_CERTIFICATE", "value": value}]);
            let deployment = json!({"spec": {"template": {"spec": {"containers": [{"env": env}]}}}});
            assert_eq!(makes_certificate(&[&deployment]), expected);
        }
    }

    #[test]
    fn what_is_not_permitted_is_told_by_account_and_object() {
        let denied = |resource: &str, verb: &str| (access(resource, verb, None), Ok(false));
        let permissions = vec![denied("nodes", "list"), denied("pods", "list"), denied("pods", "watch")];
        let facts = Facts { permissions, ..Facts::default() };
        let found = check(&facts);
        assert_eq!(
            found.iter().map(|finding| (finding.outcome, &*finding.found)).collect::<Vec<_>>(),
            [
                (Outcome::Failed, "promsidecar-controller may not list, watch pods"),
                (
                    Outcome::Warning,
                    "promsidecar-webhook may not list nodes: on Kubernetes 1.30 to 1.32 agents of mode auto are \
                     ordinary containers"
                ),
            ]
        );
        let forbidden = Err(Forbidden("ask".to_owned()));
        let facts =
            Facts { permissions: vec![(access("pods", "list", None), forbidden)], ..Facts::default() };
        assert_eq!(told(&check(&facts)), [(Outcome::NotChecked, "forbidden: you may not ask", "")]);
    }
}
