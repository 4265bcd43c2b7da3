//! What roles permit, and what was asked: the two should be the same.
//!
//! Input: RBAC objects, and the audit log of an API server. Output: what is missing, and what is too much. Pure functions.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]
#![expect(clippy::panic, reason = "a helper that fails, fails its test")]

use std::collections::BTreeSet;

use serde_json::Value;

/// The smallest unit of a role that can be taken away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Permission {
    /// A service account.
    pub(crate) account: String,
    /// Absent: in all of them, and for what has none.
    pub(crate) namespace: Option<String>,
    pub(crate) group: String,
    /// With its subresource.
    pub(crate) resource: String,
    /// Absent: all of them.
    pub(crate) name: Option<String>,
    pub(crate) verb: String,
}

/// What was asked, as far as RBAC looks at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) account: String,
    pub(crate) namespace: Option<String>,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) verb: String,
    /// Whether it was refused.
    pub(crate) refused: bool,
}

/// A permission that is not used, and why it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) account: &'static str,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) why: &'static str,
}

/// Where roles and requests differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The API server refused it.
    Refused(Request),
    /// No role permits it.
    NotPermitted(Request),
    /// Nothing that was asked needs it.
    Unused(Permission),
    /// What needs it is in our own namespace alone, and it holds everywhere.
    TooWide(Permission),
    /// It is used after all, or there is nothing of the kind.
    NoException(Exception),
}

impl Permission {
    pub(crate) fn covers(&self, request: &Request) -> bool {
        let restricted = |own: &Option<String>, asked: &Option<String>| own.is_none() || own == asked;
        self.account == request.account
            && self.group == request.group
            && self.resource == request.resource
            && self.verb == request.verb
            && restricted(&self.namespace, &request.namespace)
            && restricted(&self.name, &request.name)
    }
}

impl Exception {
    pub(crate) fn is_about(&self, permission: &Permission) -> bool {
        self.account == permission.account
            && self.group == permission.group
            && self.resource == permission.resource
    }
}

/// Everything that the roles among `objects` permit to service accounts by the bindings among them.
pub(crate) fn permissions(objects: &[Value]) -> BTreeSet<Permission> {
    let mut found = BTreeSet::new();
    for binding in objects {
        let namespace = match text(&binding["kind"]) {
            "ClusterRoleBinding" => None,
            "RoleBinding" => Some(text(&binding["metadata"]["namespace"]).to_owned()),
            _ => continue,
        };
        let role = objects.iter().find(|role| {
            role["kind"] == binding["roleRef"]["kind"]
                && role["metadata"]["name"] == binding["roleRef"]["name"]
                && (role["kind"] == "ClusterRole" || role["metadata"]["namespace"] == *namespace_of(binding))
        });
        let role = role.unwrap_or_else(|| panic!("{} is of a role that is there", binding["roleRef"]));
        for subject in list(&binding["subjects"]) {
            assert_eq!(subject["kind"], "ServiceAccount");
            for rule in list(&role["rules"]) {
                expand(text(&subject["name"]), namespace.as_deref(), rule, &mut found);
            }
        }
    }
    found
}

fn expand(account: &str, namespace: Option<&str>, rule: &Value, found: &mut BTreeSet<Permission>) {
    let names: Vec<Option<&str>> = match rule.get("resourceNames") {
        None => vec![None],
        Some(names) => list(names).iter().map(|name| Some(text(name))).collect(),
    };
    for (group, resource) in pairs(&rule["apiGroups"], &rule["resources"]) {
        for verb in list(&rule["verbs"]) {
            for name in &names {
                assert!(![group, resource, text(verb)].contains(&"*"), "nothing is wild: {rule}");
                let added = found.insert(Permission {
                    account: account.to_owned(),
                    namespace: namespace.map(str::to_owned),
                    group: group.to_owned(),
                    resource: resource.to_owned(),
                    name: name.map(str::to_owned),
                    verb: text(verb).to_owned(),
                });
                assert!(added, "it is permitted once: {rule}");
            }
        }
    }
}

fn pairs<'a>(groups: &'a Value, resources: &'a Value) -> impl Iterator<Item = (&'a str, &'a str)> {
    let resources = move || list(resources).iter().map(text);
    list(groups).iter().flat_map(move |group| resources().map(move |resource| (text(group), resource)))
}

/// The requests of the service accounts of a namespace in an audit log. What is no resource (`/version`) is open to everybody.
pub(crate) fn requests(log: &str, namespace: &str) -> BTreeSet<Request> {
    let prefix = format!("system:serviceaccount:{namespace}:");
    // The last line may be a part of one.
    let complete = log.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let events = complete.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event a line"));
    let requests = events.filter_map(|event| {
        let account = text(&event["user"]["username"]).strip_prefix(&prefix)?.to_owned();
        let object = event.get("objectRef")?;
        let part = |key: &str| object[key].as_str().map(str::to_owned);
        let resource = text(&object["resource"]);
        let resource =
            part("subresource").map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
        Some(Request {
            account,
            namespace: part("namespace"),
            group: part("apiGroup").unwrap_or_default(),
            resource,
            // The name of what is created is in its body, where RBAC does not look.
            name: part("name").filter(|_| event["verb"] != "create"),
            verb: text(&event["verb"]).to_owned(),
            refused: event["responseStatus"]["code"] == 403,
        })
    });
    requests.collect()
}

/// Where roles and requests differ; nothing if every request is permitted and every permission is needed.
pub(crate) fn compare(
    permissions: &BTreeSet<Permission>,
    requests: &BTreeSet<Request>,
    own_namespace: &str,
    exceptions: &[Exception],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    // By permission: what nothing else permits.
    let mut needs: Vec<(&Permission, Vec<&Request>)> =
        permissions.iter().map(|permission| (permission, Vec::new())).collect();
    for request in requests {
        if request.refused {
            findings.push(Finding::Refused(request.clone()));
            continue;
        }
        let mut covering: Vec<_> =
            needs.iter_mut().filter(|(permission, _)| permission.covers(request)).collect();
        match &mut covering[..] {
            [] => findings.push(Finding::NotPermitted(request.clone())),
            [(_, needed_by)] => needed_by.push(request),
            // Neither is needed for this one.
            _ => {}
        }
    }
    for (permission, needed_by) in &needs {
        let excepted = exceptions.iter().any(|exception| exception.is_about(permission));
        if needed_by.is_empty() && !excepted {
            findings.push(Finding::Unused((*permission).clone()));
        }
        let in_own = |request: &&Request| request.namespace.as_deref() == Some(own_namespace);
        if permission.namespace.is_none() && !needed_by.is_empty() && needed_by.iter().all(in_own) {
            findings.push(Finding::TooWide((*permission).clone()));
        }
    }
    for exception in exceptions {
        let mut about = needs.iter().filter(|(permission, _)| exception.is_about(permission)).peekable();
        if about.peek().is_none() || about.any(|(_, needed_by)| !needed_by.is_empty()) {
            findings.push(Finding::NoException(*exception));
        }
    }
    findings
}

fn namespace_of(object: &Value) -> &Value {
    &object["metadata"]["namespace"]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
