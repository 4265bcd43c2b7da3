//! Plans for clusters made by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Cluster, Owner, plan};
use crate::admission::Policy;
use crate::cluster::gaps::{Gaps, Listed};
use crate::cluster::seen::Forbidden;
use crate::cluster::snapshot::Objects;
use crate::names;
use crate::store::inventory::Inventory;
use crate::template::Settings;

/// A namespace with one template, `a/one`.
fn inventory() -> Inventory {
    let annotations = json!({(names::CONTROLLER_ID): "promsidecar"});
    let template = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "PrometheusAgent",
        "metadata": {"namespace": "a", "name": "one", "annotations": annotations},
        "spec": {"remoteWrite": [{"url": "https://metrics.example.com/api/v1/write"}]},
    });
    let namespaces = vec![json!({"metadata": {"name": "a"}})];
    let objects = Objects { templates: vec![template], namespaces, ..Objects::default() };
    objects.inventory(&Settings::default()).0
}

fn hash(inventory: &Inventory) -> String {
    inventory.catalog().template("a", "one").unwrap().sidecar.as_ref().unwrap().hash_in("a").to_owned()
}

/// An owner of pods that ask, complete.
fn owner(kind: &str, name: &str, spec: &Value) -> Value {
    let mut owner = json!({
        "kind": kind,
        "metadata": {"namespace": "a", "name": name, "generation": 1},
        "spec": {"replicas": 1, "template": {
            "metadata": {"annotations": asks()},
            "spec": {"containers": [{"name": "web"}]},
        }},
        "status": {
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
            "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1, "phase": "Healthy",
        },
    });
    owner["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    owner
}

fn asks() -> Value {
    json!({(names::INJECT): "true", (names::PORT): "8080"})
}

fn owned(by: &[(&str, &str)]) -> Value {
    by.iter().map(|(kind, name)| json!({"kind": kind, "name": name, "controller": true})).collect()
}

/// A pod that asks; `hash` is that of its agent, if it has one.
fn pod(name: &str, by: &[(&str, &str)], hash: Option<&str>) -> Value {
    let (mut annotations, mut labels, mut containers) = (asks(), json!({}), json!([{"name": "web"}]));
    if let Some(hash) = hash {
        let status = json!({
            "version": 1, "template": "a/one", "generation": 1, "hash": hash, "injector": "0.1.0", "mode": "container",
            "added": {"containers": ["prometheus-agent"], "volumes": [], "annotations": [], "labels": []}, "created": {},
        });
        annotations[names::STATUS] = json!(status.to_string());
        labels[names::INJECTED] = json!("true");
        containers = json!([{"name": "web"}, {"name": "prometheus-agent"}]);
    }
    json!({
        "metadata": {
            "namespace": "a", "name": name, "annotations": annotations, "labels": labels, "ownerReferences": owned(by),
        },
        "spec": {"containers": containers},
        "status": {"phase": "Running"},
    })
}

fn between(kind: &str, name: &str, by: &[(&str, &str)]) -> Value {
    json!({"kind": kind, "metadata": {"namespace": "a", "name": name, "ownerReferences": owned(by)}})
}

/// Owner, its pods, the outdated of them, those without an agent, and what becomes of them.
fn lines(inventory: &Inventory, pods: &[Value], owners: &[Value], between: &[Value]) -> Vec<String> {
    lines_of(Cluster {
        pods,
        owners,
        between,
        hidden: &BTreeMap::new(),
        inventory,
        gaps: &Gaps::default(),
        policy: &Policy::default(),
    })
}

fn lines_of(cluster: Cluster<'_>) -> Vec<String> {
    let found = plan(cluster);
    let line = |owner: &Owner| {
        let Owner { id, pods, outdated, without, action, .. } = owner;
        format!("{} {pods} {outdated} {without} {}", id.object(), action.line())
    };
    found.iter().map(line).collect()
}

#[test]
fn an_owner_is_named_with_its_outdated_pods_and_one_whose_pods_are_up_to_date_is_not() {
    let inventory = inventory();
    let current = hash(&inventory);
    let (web, db): (&[_], &[_]) = (&[("ReplicaSet", "web-1")], &[("StatefulSet", "db")]);
    let mut ending = pod("web-3", web, Some("old"));
    ending["metadata"]["deletionTimestamp"] = json!("now");
    let mut ended = pod("web-4", web, Some("old"));
    ended["status"]["phase"] = json!("Succeeded");
    let pods = [
        pod("web-1", web, Some("old")),
        pod("web-2", web, Some(&current)),
        ending,
        ended,
        pod("db-0", db, Some(&current)),
    ];
    let none = json!({});
    let owners = [owner("Deployment", "web", &none), owner("StatefulSet", "db", &none)];
    let between = [between("ReplicaSet", "web-1", &[("Deployment", "web")])];
    assert_eq!(lines(&inventory, &pods, &owners, &between), ["Deployment/web 2 1 0 restart"]);
}

#[test]
fn pods_that_would_get_an_agent_now_are_outdated_too() {
    let inventory = inventory();
    let none = json!({});
    // Nobody answered; no template was there, which is told; nobody asks.
    let mut skipped = pod("log-2", &[("DaemonSet", "log")], None);
    skipped["metadata"]["labels"][names::INJECTED] = json!("false");
    skipped["metadata"]["annotations"][names::SKIPPED] = json!("template-not-found: no one");
    let pods = [
        pod("log-1", &[("DaemonSet", "log")], None),
        skipped,
        pod("quiet-0", &[("StatefulSet", "quiet")], None),
    ];
    let mut quiet = owner("StatefulSet", "quiet", &none);
    quiet["spec"]["template"]["metadata"] = json!({});
    let owners = [owner("DaemonSet", "log", &none), quiet];
    assert_eq!(lines(&inventory, &pods, &owners, &[]), ["DaemonSet/log 2 0 2 restart"]);
}

#[test]
fn whom_a_rolling_update_does_not_reach_is_named_with_what_to_do() {
    let inventory = inventory();
    let old = Some("old");
    let pods = [
        pod("bare", &[], old),
        pod("nightly-1-x", &[("Job", "nightly-1")], old),
        pod("once-x", &[("Job", "once")], old),
        pod("alone-x", &[("ReplicaSet", "alone")], old),
        pod("rc-x", &[("ReplicationController", "rc")], old),
        pod("clones-x", &[("CloneSet", "clones")], old),
        pod("gone-x", &[("StatefulSet", "gone")], old),
        pod("still-x", &[("Deployment", "still")], old),
        pod("moving-x", &[("Deployment", "moving")], old),
        pod("argo-x", &[("ReplicaSet", "argo-1")], old),
    ];
    let none = json!({});
    let mut moving = owner("Deployment", "moving", &none);
    moving["status"]["updatedReplicas"] = json!(0);
    let owners =
        [owner("Deployment", "still", &json!({"paused": true})), moving, owner("Rollout", "argo", &none)];
    let between = [
        between("Job", "nightly-1", &[("CronJob", "nightly")]),
        between("Job", "once", &[]),
        between("ReplicaSet", "alone", &[]),
        between("ReplicaSet", "argo-1", &[("Rollout", "argo")]),
    ];
    assert_eq!(
        lines(&inventory, &pods, &owners, &between),
        [
            "CloneSet/clones 1 1 0 by hand: no kind that is known here: restart it as its own documentation says",
            "CronJob/nightly 1 1 0 comes with its next run",
            "Deployment/moving 1 1 0 restart, once its rolling update is complete: 0 of 1 pods are of its present template",
            "Deployment/still 1 1 0 by hand: it is paused: resume it, then make the plan again",
            "Job/once 1 1 0 comes with its next run",
            "Pod/bare 1 1 0 by hand: nothing creates it again: delete it, and create it anew",
            "ReplicaSet/alone 1 1 0 by hand: it replaces only pods that are gone: delete them one by one",
            "ReplicationController/rc 1 1 0 by hand: it replaces only pods that are gone: delete them one by one",
            "Rollout/argo 1 1 0 restart",
            "StatefulSet/gone 1 1 0 by hand: it is gone, or you may not see it",
        ]
    );
}

#[test]
fn nobody_is_restarted_who_would_lose_his_agent_or_has_it_in_his_manifest() {
    let inventory = inventory();
    let current = hash(&inventory);
    let none = json!({});
    let mut out = owner("Deployment", "out", &none);
    out["spec"]["template"]["metadata"]["annotations"][names::INJECT] = json!("false");
    let mut lost = owner("Deployment", "lost", &none);
    lost["spec"]["template"]["metadata"]["annotations"][names::INJECT] = json!("two");
    // As `inject` writes it.
    let mut written = owner("Deployment", "written", &none);
    let agent = pod("", &[], Some("old"));
    written["spec"]["template"]["metadata"]["annotations"] = agent["metadata"]["annotations"].clone();
    written["spec"]["template"]["spec"] = agent["spec"].clone();
    let pods = [
        pod("out-x", &[("Deployment", "out")], Some(&current)),
        pod("lost-x", &[("Deployment", "lost")], Some(&current)),
        pod("written-x", &[("Deployment", "written")], Some("old")),
    ];
    assert_eq!(
        lines(&inventory, &pods, &[out, lost, written], &[]),
        [
            "Deployment/lost 1 1 0 by hand: created again, its pods would have no agent: template-not-found: no template two in a",
            "Deployment/out 1 1 0 by hand: created again, its pods would have no agent: opted-out",
            "Deployment/written 1 1 0 by hand: the agent is in its manifest: make that anew by promsidecar inject",
        ]
    );
}

#[test]
fn pods_of_an_owner_that_is_gone_are_not_those_of_another_of_its_name() {
    let inventory = inventory();
    let old = Some("old");
    let with_uid = |mut object: Value, uid: &str| {
        object["metadata"]["uid"] = json!(uid);
        object
    };
    let by_uid = |mut object: Value, uid: &str| {
        object["metadata"]["ownerReferences"][0]["uid"] = json!(uid);
        object
    };
    let none = json!({});
    let owners = [
        with_uid(owner("Deployment", "web", &none), "web"),
        with_uid(owner("StatefulSet", "db", &none), "db"),
    ];
    let set = || between("ReplicaSet", "web-1", &[("Deployment", "web")]);
    let (web, db): (&[_], &[_]) = (&[("ReplicaSet", "web-1")], &[("StatefulSet", "db")]);
    let pods = [
        by_uid(pod("web-1-a", web, old), "set"),
        by_uid(pod("web-1-b", web, old), "earlier set"),
        by_uid(pod("db-0", db, old), "earlier db"),
    ];
    let between = [by_uid(with_uid(set(), "set"), "web")];
    assert_eq!(lines(&inventory, &pods, &owners, &between), ["Deployment/web 1 1 0 restart"]);
    // The whole chain is of an earlier one.
    let between = [by_uid(with_uid(set(), "set"), "earlier web")];
    assert_eq!(lines(&inventory, &pods, &owners, &between), [""; 0]);
}

#[test]
fn of_owners_whose_pods_rest_on_what_may_not_be_seen_nothing_is_told() {
    let inventory = inventory();
    let current = hash(&inventory);
    let none = json!({});
    let mut out = owner("Deployment", "out", &none);
    out["spec"]["template"]["metadata"]["annotations"][names::INJECT] = json!("false");
    let pods = [
        pod("web-x", &[("StatefulSet", "web")], Some(&current)),
        pod("new-x", &[("StatefulSet", "new")], None),
        pod("set-x", &[("ReplicaSet", "set")], Some("old")),
        pod("out-x", &[("Deployment", "out")], None),
    ];
    let owners = [owner("StatefulSet", "web", &none), owner("StatefulSet", "new", &none), out];
    let all = |gaps: &Gaps, hidden: &BTreeMap<&'static str, Forbidden>| {
        let policy = Policy::default();
        lines_of(Cluster {
            pods: &pods,
            owners: &owners,
            between: &[],
            hidden,
            inventory: &inventory,
            gaps,
            policy: &policy,
        })
    };
    let forbidden = |what: &str| Forbidden(format!("list {what}"));
    let namespaces = Listed { forbidden: Some(forbidden("namespaces")), only: None };
    let cannot = |what: &str| format!("1 0 0 cannot tell, because you may not list {what}");
    assert_eq!(
        all(&Gaps { namespaces, ..Gaps::default() }, &BTreeMap::new()),
        ["ReplicaSet/set", "StatefulSet/new", "StatefulSet/web"]
            .map(|owner| format!("{owner} {}", cannot("namespaces")))
    );
    // Who owns a ReplicaSet that cannot be seen?
    assert_eq!(
        all(&Gaps::default(), &BTreeMap::from([("ReplicaSet", forbidden("replicasets"))])),
        [format!("ReplicaSet/set {}", cannot("replicasets")), "StatefulSet/new 1 0 1 restart".to_owned()]
    );
}

#[test]
fn pods_of_a_newer_promsidecar_are_outdated_and_counted_and_no_owner_of_them_is_lost() {
    let inventory = inventory();
    let current = hash(&inventory);
    let newer = |name: &str, by: &[(&str, &str)], hash: &str| {
        let mut pod = pod(name, by, Some(&current));
        let status = format!(r#"{{"version":2,"template":"a/one","injector":"0.2.0"{hash}}}"#);
        pod["metadata"]["annotations"][names::STATUS] = json!(status);
        pod
    };
    let pods = [
        newer("bare", &[], ""),
        newer("once-x", &[("Job", "once")], ""),
        newer("web-1", &[("Deployment", "web")], ""),
        pod("web-2", &[("Deployment", "web")], Some("old")),
        // It says that it has the same agent.
        newer("db-0", &[("StatefulSet", "db")], &format!(r#","hash":"{current}""#)),
    ];
    let none = json!({});
    let owners = [owner("Deployment", "web", &none), owner("StatefulSet", "db", &none)];
    let expected = [
        "Deployment/web 2 2 0 restart",
        "Job/once 1 1 0 comes with its next run",
        "Pod/bare 1 1 0 by hand: nothing creates it again: delete it, and create it anew",
    ];
    assert_eq!(lines(&inventory, &pods, &owners, &[]), expected);
    let (policy, hidden, gaps) = (Policy::default(), BTreeMap::new(), Gaps::default());
    let cluster = Cluster {
        pods: &pods,
        owners: &owners,
        between: &[],
        hidden: &hidden,
        inventory: &inventory,
        gaps: &gaps,
        policy: &policy,
    };
    let counts: Vec<_> = plan(cluster).iter().map(|owner| owner.newer).collect();
    assert_eq!(counts, [1, 1, 1]);
}
