//! How far an owner's rolling update is, and what stands against one. PURE.
//!
//! Input: an owner as the API server has it. Output: whether all its pods are of its present template and available, by the rules
//! of `kubectl rollout status`; why a restart of it would do nothing, or harm; and the patch that restarts it.

use serde_json::{Value, json};

use crate::cluster::seen::{list, text};

/// The annotation of a pod template that `kubectl rollout restart` writes.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// How far a rolling update is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// All pods are of the present template, and available.
    Complete,
    /// Not yet: what is missing.
    UnderWay(String),
    /// Its controller has given up waiting: why.
    Failed(String),
}

/// Kinds that restart their pods by a rolling update.
pub fn is_rolling(kind: &str) -> bool {
    matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "Rollout")
}

/// Why an owner is not restarted by a change of its template, or only with an outage.
pub fn hindrance(owner: &Value) -> Option<String> {
    let spec = &owner["spec"];
    if !owner["metadata"]["deletionTimestamp"].is_null() {
        return Some("it is being deleted".to_owned());
    }
    let strategy = match text(&owner["kind"]) {
        "Deployment" => text(&spec["strategy"]["type"]),
        _ => text(&spec["updateStrategy"]["type"]),
    };
    if strategy == "OnDelete" {
        return Some("its update strategy is OnDelete: delete its pods when it suits".to_owned());
    }
    if strategy == "Recreate" {
        return Some("its strategy is Recreate, which ends every pod before it starts one: kubectl rollout restart it when it suits".to_owned());
    }
    let is_paused = spec["paused"] == true || !list(&owner["status"]["pauseConditions"]).is_empty();
    if matches!(text(&owner["kind"]), "Deployment" | "Rollout") && is_paused {
        return Some("it is paused: resume it, then make the plan again".to_owned());
    }
    match spec["updateStrategy"]["rollingUpdate"]["partition"].as_u64() {
        Some(partition) if partition > 0 && owner["kind"] == "StatefulSet" => {
            Some(format!("its partition of {partition} keeps pods with a lower number as they are"))
        }
        _ => None,
    }
}

/// Whether the rolling update of an owner is complete.
pub fn progress(owner: &Value) -> Progress {
    let status = &owner["status"];
    // A Rollout writes it as text.
    let observed =
        status["observedGeneration"].as_u64().or_else(|| text(&status["observedGeneration"]).parse().ok());
    if observed.unwrap_or(0) < number(&owner["metadata"]["generation"]) {
        return Progress::UnderWay("its controller has not seen the change yet".to_owned());
    }
    match text(&owner["kind"]) {
        "Deployment" => deployment(owner),
        "StatefulSet" => stateful_set(owner),
        "DaemonSet" => {
            let wanted = number(&status["desiredNumberScheduled"]);
            pods(wanted, number(&status["updatedNumberScheduled"]), 0, number(&status["numberAvailable"]))
        }
        "Rollout" => rollout(owner),
        kind => Progress::Failed(format!("nobody here knows how a {kind} updates its pods")),
    }
}

/// Whether a quota that refuses one more pod of an owner leaves its rolling update room all the same: it deletes a pod before it
/// creates one, and that one is no larger. `are_injected`: whether all its pods have an agent.
pub fn makes_room(owner: &Value, refusal: &str, are_injected: bool) -> bool {
    let spec = &owner["spec"];
    let is_none = |strategy: &str| {
        let surge = &spec[strategy]["rollingUpdate"]["maxSurge"];
        surge == 0 || surge == "0%"
    };
    let deletes_first = match text(&owner["kind"]) {
        "StatefulSet" | "Rollout" => true,
        "DaemonSet" => {
            spec["updateStrategy"]["rollingUpdate"]["maxSurge"].is_null() || is_none("updateStrategy")
        }
        _ => is_none("strategy"),
    };
    let Some((_, quota)) = refusal.split_once("exceeded quota: ") else { return false };
    let asked = quota.split_once("requested: ").and_then(|(_, rest)| rest.split_once(", used: "));
    let is_count = |amount: &str| amount.starts_with("pods=") || amount.starts_with("count/pods=");
    deletes_first && (are_injected || asked.is_some_and(|(asked, _)| asked.split(',').all(is_count)))
}

fn deployment(owner: &Value) -> Progress {
    let status = &owner["status"];
    let gave_up = |condition: &&Value| {
        condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded"
    };
    let updated = number(&status["updatedReplicas"]);
    let old = number(&status["replicas"]).saturating_sub(updated);
    let progress = pods(wanted(owner), updated, old, number(&status["availableReplicas"]));
    match (list(&status["conditions"]).iter().find(gave_up), progress) {
        (Some(condition), Progress::UnderWay(what)) => {
            Progress::Failed(format!("{what}; {}", text(&condition["message"])))
        }
        (_, progress) => progress,
    }
}

fn stateful_set(owner: &Value) -> Progress {
    let status = &owner["status"];
    let (current, update) = (&status["currentRevision"], &status["updateRevision"]);
    // Where both are the same, the controller does not count updated pods.
    let updated = if current == update { &status["replicas"] } else { &status["updatedReplicas"] };
    match pods(wanted(owner), number(updated), 0, number(&status["availableReplicas"])) {
        Progress::Complete if current != update => {
            Progress::UnderWay("its controller has not made the new revision the current one yet".to_owned())
        }
        progress => progress,
    }
}

fn rollout(owner: &Value) -> Progress {
    let status = &owner["status"];
    let asked = text(&owner["spec"]["restartAt"]);
    let phase = text(&status["phase"]);
    match phase {
        "Degraded" => Progress::Failed(format!("its phase is Degraded: {}", text(&status["message"]))),
        "Healthy" if asked.is_empty() || text(&status["restartedAt"]) == asked => Progress::Complete,
        "Healthy" => Progress::UnderWay("not all of its pods are restarted".to_owned()),
        _ => Progress::UnderWay(format!("its phase is {phase}")),
    }
}

fn pods(wanted: u64, updated: u64, old: u64, available: u64) -> Progress {
    let of = |count: u64, what: &str| Progress::UnderWay(format!("{count} of {wanted} pods {what}"));
    if updated < wanted {
        of(updated, "are of its present template")
    } else if old > 0 {
        Progress::UnderWay(format!("pods of its old template that are left: {old}"))
    } else if available < wanted {
        of(available, "are available")
    } else {
        Progress::Complete
    }
}

fn wanted(owner: &Value) -> u64 {
    owner["spec"]["replicas"].as_u64().unwrap_or(1)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// The merge patch that restarts an owner as it was seen: it fails where somebody changed it meanwhile.
pub fn restart(owner: &Value, now: &str) -> Value {
    let spec = if owner["kind"] == "Rollout" {
        json!({"restartAt": now})
    } else {
        json!({"template": {"metadata": {"annotations": {(RESTARTED_AT): now}}}})
    };
    json!({"metadata": {"resourceVersion": owner["metadata"]["resourceVersion"]}, "spec": spec})
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Progress, hindrance, makes_room, progress, restart};

    fn owner(kind: &str, spec: &Value, status: &Value) -> Value {
        json!({"kind": kind, "metadata": {"generation": 2, "resourceVersion": "7"}, "spec": spec, "status": status})
    }

    fn under_way(what: &str) -> Progress {
        Progress::UnderWay(what.to_owned())
    }

    #[test]
    fn a_deployment_is_complete_once_no_old_pod_is_left_and_every_new_one_is_available() {
        let of = |observed: u64, replicas: u64, updated: u64, available: u64| {
            let status = json!({
                "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available,
            });
            progress(&owner("Deployment", &json!({"replicas": 3}), &status))
        };
        assert_eq!(of(1, 3, 3, 3), under_way("its controller has not seen the change yet"));
        assert_eq!(of(2, 4, 1, 3), under_way("1 of 3 pods are of its present template"));
        assert_eq!(of(2, 4, 3, 3), under_way("pods of its old template that are left: 1"));
        assert_eq!(of(2, 3, 3, 2), under_way("2 of 3 pods are available"));
        assert_eq!(of(2, 3, 3, 3), Progress::Complete);
        let given_up = json!({
            "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1,
            "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out"}],
        });
        let given_up = progress(&owner("Deployment", &json!({"replicas": 1}), &given_up));
        assert_eq!(
            given_up,
            Progress::Failed("pods of its old template that are left: 1; timed out".to_owned())
        );
    }

    #[test]
    fn a_stateful_set_is_complete_once_its_new_revision_is_the_current_one() {
        let of = |current: &str, updated: u64, available: u64| {
            let status = json!({
                "observedGeneration": 2, "replicas": 2, "updatedReplicas": updated, "availableReplicas": available,
                "currentRevision": current, "updateRevision": "new",
            });
            progress(&owner("StatefulSet", &json!({"replicas": 2}), &status))
        };
        assert_eq!(of("old", 1, 2), under_way("1 of 2 pods are of its present template"));
        assert_eq!(of("old", 2, 1), under_way("1 of 2 pods are available"));
        let turning = under_way("its controller has not made the new revision the current one yet");
        assert_eq!(of("old", 2, 2), turning);
        assert_eq!(of("new", 0, 2), Progress::Complete);
    }

    #[test]
    fn a_daemon_set_is_complete_once_every_node_has_an_available_new_pod() {
        let of = |updated: u64, available: u64| {
            let status = json!({
                "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": updated, "numberAvailable": available,
            });
            progress(&owner("DaemonSet", &json!({}), &status))
        };
        assert_eq!(of(1, 2), under_way("1 of 2 pods are of its present template"));
        assert_eq!(of(2, 1), under_way("1 of 2 pods are available"));
        assert_eq!(of(2, 2), Progress::Complete);
    }

    #[test]
    fn a_rollout_is_complete_once_it_is_healthy_and_restarted_as_asked() {
        let of = |phase: &str, restarted: &str| {
            let status =
                json!({"observedGeneration": "2", "phase": phase, "restartedAt": restarted, "message": "no"});
            progress(&owner("Rollout", &json!({"restartAt": "now"}), &status))
        };
        assert_eq!(of("Progressing", "now"), under_way("its phase is Progressing"));
        assert_eq!(of("Healthy", "before"), under_way("not all of its pods are restarted"));
        assert_eq!(of("Degraded", "now"), Progress::Failed("its phase is Degraded: no".to_owned()));
        assert_eq!(of("Healthy", "now"), Progress::Complete);
    }

    #[test]
    fn what_a_restart_would_not_reach_or_would_take_down_is_told() {
        let none = json!({});
        for (kind, spec, begins) in [
            ("Deployment", json!({"paused": true}), Some("it is paused")),
            ("Deployment", json!({"strategy": {"type": "Recreate"}}), Some("its strategy is Recreate")),
            ("Deployment", json!({"strategy": {"type": "RollingUpdate"}}), None),
            (
                "StatefulSet",
                json!({"updateStrategy": {"type": "OnDelete"}}),
                Some("its update strategy is OnDelete"),
            ),
            (
                "StatefulSet",
                json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}),
                Some("its partition of 2"),
            ),
            ("StatefulSet", json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}}), None),
            (
                "DaemonSet",
                json!({"updateStrategy": {"type": "OnDelete"}}),
                Some("its update strategy is OnDelete"),
            ),
            ("Rollout", json!({"paused": true}), Some("it is paused")),
        ] {
            let found = hindrance(&owner(kind, &spec, &none));
            let matches = match (&found, begins) {
                (Some(found), Some(begins)) => found.starts_with(begins),
                (found, begins) => found.is_none() && begins.is_none(),
            };
            assert!(matches, "{kind} {spec}: {found:?}");
        }
        let mut going = owner("DaemonSet", &none, &none);
        going["metadata"]["deletionTimestamp"] = json!("now");
        assert_eq!(hindrance(&going).unwrap(), "it is being deleted");
    }

    #[test]
    fn a_full_quota_has_room_for_owners_that_delete_before_they_create() {
        let refusal = |what: &str| {
            format!(
                "pods \"db-x\" is forbidden: exceeded quota: small, requested: {what}, used: {what}, limited: {what}"
            )
        };
        let (one, larger) = (refusal("count/pods=1,pods=1"), refusal("limits.memory=128Mi,pods=1"));
        let surge = |strategy: &str, surge: Value| json!({strategy: {"rollingUpdate": {"maxSurge": surge}}});
        for (kind, spec, makes) in [
            ("StatefulSet", json!({}), true),
            ("DaemonSet", json!({}), true),
            ("DaemonSet", surge("updateStrategy", json!(0)), true),
            ("DaemonSet", surge("updateStrategy", json!("10%")), false),
            ("Deployment", surge("strategy", json!("25%")), false),
            ("Deployment", surge("strategy", json!("0%")), true),
            ("Rollout", json!({}), true),
        ] {
            let owner = owner(kind, &spec, &json!({}));
            let found = [
                makes_room(&owner, &one, false),
                makes_room(&owner, &larger, true),
                makes_room(&owner, &larger, false),
                makes_room(&owner, "pods \"db-x\" is forbidden: violates PodSecurity", true),
            ];
            assert_eq!(found, [makes, makes, false, false], "{kind} {spec}");
        }
    }

    #[test]
    fn a_restart_is_what_kubectl_writes_if_nobody_wrote_meanwhile() {
        let none = json!({});
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": "now"});
        let version = json!({"resourceVersion": "7"});
        assert_eq!(
            restart(&owner("DaemonSet", &none, &none), "now"),
            json!({"metadata": version, "spec": {"template": {"metadata": {"annotations": annotations}}}})
        );
        assert_eq!(
            restart(&owner("Rollout", &none, &none), "now"),
            json!({"metadata": version, "spec": {"restartAt": "now"}})
        );
    }
}
