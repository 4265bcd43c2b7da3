//! Which pods belong to a workload. PURE.
//!
//! Input: a workload, pods, and what stands between them. Output: its pods. Who owns whom goes by UID: an earlier object of the same
//! name had other pods.

use std::collections::BTreeSet;

use serde_json::Value;

use super::seen::{list, text};

/// UID of an object; none of one that was never created.
fn uid(object: &Value) -> &str {
    text(&object["metadata"]["uid"])
}

/// UIDs of whoever owns an object.
fn owners(object: &Value) -> impl Iterator<Item = &str> {
    list(&object["metadata"]["ownerReferences"]).iter().map(|owner| text(&owner["uid"]))
}

/// Whether this reference to an owner means an object of its name.
pub fn is_meant(reference: &Value, object: &Value) -> bool {
    reference["uid"] == object["metadata"]["uid"]
}

/// Those of a namespace's pods that belong to a workload; `between` are `ReplicaSets` and Jobs.
pub fn pods_of(object: &Value, between: &[Value], pods: Vec<Value>) -> Vec<Value> {
    let mut own = BTreeSet::from([uid(object)]);
    own.extend(between.iter().filter(|next| owners(next).any(|owner| owner == uid(object))).map(uid));
    pods.into_iter().filter(|pod| owners(pod).any(|owner| own.contains(owner))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::pods_of;
    use crate::cluster::seen::name;

    fn object(name: &str, uid: &str, owner: &str) -> Value {
        json!({"metadata": {"name": name, "uid": uid, "ownerReferences": [{"uid": owner, "name": "web"}]}})
    }

    #[test]
    fn pods_of_an_earlier_workload_of_the_same_name_are_not_its_own() {
        let between = [object("web-1", "set", "web"), object("web-1", "earlier set", "earlier web")];
        let pods = || {
            vec![
                object("web-1-a", "1", "set"),
                object("web-1-b", "2", "earlier set"),
                object("direct", "3", "web"),
                json!({"metadata": {"name": "bare", "uid": "4"}}),
            ]
        };
        let names = |uid: &str| -> Vec<String> {
            pods_of(&object("web", uid, ""), &between, pods())
                .iter()
                .map(|pod| name(pod).to_owned())
                .collect()
        };
        assert_eq!(names("web"), ["web-1-a", "direct"]);
        assert_eq!(names("earlier web"), ["web-1-b"]);
    }
}
