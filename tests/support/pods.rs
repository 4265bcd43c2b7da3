//! Pods as JSON, of all the shapes that an API server may send and some that it never would.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A pod and the namespace that it is created in, one of those of `tests/golden/admission/objects.yaml`.
pub(crate) fn pods() -> impl Strategy<Value = (Value, &'static str)> {
    let parts = (metadata(), spec(), namespaces(), prop::option::weighted(0.01, wrong_kind()));
    parts.prop_map(|(metadata, spec, namespace, wrong)| {
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}});
        if let Some((pointer, value)) = wrong {
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a parent");
            if let Some(parent) = pod.pointer_mut(parent).and_then(Value::as_object_mut) {
                parent.insert(key.to_owned(), value);
            }
        }
        (pod, namespace)
    })
}

fn namespaces() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        90 => Just("team-a"),
        6 => Just("team-label"),
        6 => Just("team-guest"),
        4 => Just("team-openshift"),
        2 => Just("team-names"),
        1 => Just("team-two"),
        1 => Just("team-off"),
        1 => Just("team-closed"),
        1 => Just("team-strict"),
        1 => Just("team-typo"),
        1 => Just("kube-system"),
        1 => Just("nobody"),
    ]
}

/// Values of a member that never have this kind.
fn wrong_kind() -> impl Strategy<Value = (&'static str, Value)> {
    let places = [
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/name",
        "/metadata/ownerReferences",
        "/spec/containers",
        "/spec/initContainers",
        "/spec/volumes",
        "/spec/hostNetwork",
        "/spec/restartPolicy",
        "/spec/terminationGracePeriodSeconds",
        "/spec/nodeSelector",
        "/spec/resources",
    ];
    let values = prop_oneof![
        Just(json!([1, null, {}])),
        Just(json!({"a": 1, "b": [], "c": null})),
        Just(json!(1.5)),
        Just(json!("text")),
        Just(json!(u64::MAX)),
    ];
    (proptest::sample::select(places.to_vec()), values)
}

/// `null` and absent beside a value.
fn maybe<S: Strategy<Value = Value>>(present: u32, value: S) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![present => value.prop_map(Some), 1 => Just(Some(Value::Null)), 2 => Just(None)]
}

fn object(members: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let members = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(members.collect())
}

/// Keys with everything that keys may hold, and what JSON pointers and labels escape.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        60 => "[a-z]{1,8}",
        30 => "[a-z]{1,5}\\.example\\.com/[a-zA-Z0-9]([a-zA-Z0-9._-]{0,6}[a-zA-Z0-9])?",
        1 => "[a-z]{1,4}~[01/]{1,3}",
        10 => Just("kubectl.kubernetes.io/last-applied-configuration".to_owned()),
    ]
}

fn strings(values: impl Strategy<Value = String>) -> impl Strategy<Value = Map<String, Value>> {
    vec((key(), values.prop_map(Value::from)), 0..5).prop_map(|pairs| pairs.into_iter().collect())
}

fn metadata() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        3 => Just(object([("generateName", Some(json!("web-6d4cf56db6-")))])),
        1 => Just(object([("name", Some(json!("web-0")))])),
    ];
    let labels =
        maybe(7, strings("([a-zA-Z0-9]([a-zA-Z0-9._-]{0,10}[a-zA-Z0-9])?)?").prop_map(Value::Object));
    let owners = prop::option::of(prop_oneof![
        10 => Just(
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6", "uid": "1", "controller": true}])
        ),
        10 => Just(
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-29417040", "uid": "2", "controller": true}])
        ),
        10 => Just(json!([
            {"apiVersion": "example.com/v1", "kind": "Other", "name": "x", "uid": "3"},
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "4", "controller": true},
        ])),
        1 => Just(json!([{"kind": "Other", "name": "x"}])),
        10 => Just(json!([])),
    ]);
    (name, labels, annotations(), owners, future(), stale()).prop_map(
        |(mut metadata, mut labels, mut annotations, owners, future, stale)| {
            for (is_label, key, value) in stale {
                let parent = if is_label { &mut labels } else { &mut annotations };
                // A parent that is absent or null stays so.
                if let Some(Value::Object(members)) = parent {
                    members.insert(key.to_owned(), value);
                }
            }
            let members = metadata.as_object_mut().expect("metadata is an object");
            let parts = [
                ("labels", labels),
                ("annotations", annotations),
                ("ownerReferences", owners),
                ("future", future),
            ];
            members.extend(parts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
            metadata
        },
    )
}

/// Up to three of the keys that we write, as a pod has them that was copied with its metadata.
fn stale() -> impl Strategy<Value = Vec<(bool, &'static str, Value)>> {
    let status = prop_oneof![
        Just(json!(r#"{"version":1,"template":"team-a/shop","mode":"native","added":{},"created":{}}"#)),
        Just(json!(r#"{"version":99,"mode":"container","future":[]}"#)),
        Just(json!(r#"{"version":0,"mode":"native"}"#)),
        Just(json!("{")),
        Just(json!("")),
    ];
    let key = prop_oneof![
        status.prop_map(|status| (false, "sidecar.prometheus.io/status", status)),
        Just((false, "sidecar.prometheus.io/targets", json!("[]"))),
        Just((false, "sidecar.prometheus.io/skipped", json!("windows: the pod is for Windows nodes"))),
        Just((false, "sidecar.prometheus.io/skipped", json!(""))),
        Just((true, "sidecar.prometheus.io/injected", json!("true"))),
        Just((true, "sidecar.prometheus.io/injected", json!("false"))),
    ];
    prop_oneof![3 => Just(vec![]), 2 => vec(key, 1..4)]
}

/// A member that no version of Kubernetes has yet.
fn future() -> impl Strategy<Value = Option<Value>> {
    prop::option::weighted(0.3, Just(json!({"deep": [1, 2.5, null, {"yes": true}], "text": "on"})))
}

fn inject() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        60 => Just(Some("true")),
        20 => Just(Some("platform/open")),
        6 => Just(Some("platform/full")),
        4 => Just(Some("platform/ordinary")),
        3 => Just(Some("platform/distroless")),
        6 => Just(None),
        1 => Just(Some("False")),
        1 => Just(Some("yes please")),
        1 => Just(Some("shopp")),
        1 => Just(Some("platform/central")),
        1 => Just(Some("platform/private")),
        1 => Just(Some("platform/old")),
        1 => Just(Some("platform/leaving")),
    ]
}

/// Our annotations and the community's, mostly usable.
fn hints() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let port = prop_oneof![
        60 => Just(Some("8080")),
        2 => Just(Some("8080, 9999,65535")),
        1 => Just(Some("70000")),
        2 => Just(None),
    ];
    let rest = prop_oneof![
        40 => Just(vec![]),
        2 => Just(vec![("sidecar.prometheus.io/path", json!("/internal/metrics"))]),
        2 => Just(vec![("sidecar.prometheus.io/interval", json!("1m")), ("sidecar.prometheus.io/timeout", json!("1s"))]),
        2 => Just(vec![("prometheus.io/scrape", json!("true")), ("prometheus.io/param_x", json!("y \u{7f} ü"))]),
        1 => Just(vec![("sidecar.prometheus.io/required", json!("true"))]),
        1 => Just(vec![("sidecar.prometheus.io/scheme", json!("gopher\n"))]),
        1 => Just(vec![("sidecar.prometheus.io/status", json!("not ours")), ("sidecar.prometheus.io/skipped", json!("old"))]),
        1 => Just(vec![("kubernetes.io/config.mirror", json!("x"))]),
    ];
    (port, rest).prop_map(|(port, mut rest)| {
        rest.extend(port.map(|port| ("sidecar.prometheus.io/port", json!(port))));
        rest
    })
}

fn annotations() -> impl Strategy<Value = Option<Value>> {
    let values =
        prop_oneof![20 => "\\PC{0,20}", 1 => Just("x".repeat(1500)), 1 => "[\\x00-\\x1f\"\\\\]{0,6}"];
    let large = prop::option::weighted(0.01, Just(json!("y".repeat(262_100))));
    (strings(values), inject(), hints(), large, 0..50u8).prop_map(|(mut map, inject, hints, large, shape)| {
        if shape == 0 {
            return Some(Value::Null);
        }
        map.extend(hints.into_iter().map(|(key, value)| (key.to_owned(), value)));
        map.extend(inject.map(|value| ("sidecar.prometheus.io/inject".to_owned(), json!(value))));
        map.extend(large.map(|value| ("large".to_owned(), value)));
        Some(Value::Object(map))
    })
}

fn quantities() -> impl Strategy<Value = Option<Value>> {
    let amounts = prop_oneof![
        10 => Just(json!({"cpu": "100m", "memory": "128Mi"})),
        10 => Just(json!({"cpu": "1", "memory": "512Mi"})),
        10 => Just(json!({"cpu": 1, "memory": 536_870_912})),
        5 => Just(json!({"ephemeral-storage": "1Gi"})),
        1 => Just(json!({"ephemeral-storage": "1Gi", "example.com/gpu": "1"})),
        1 => Just(json!({"cpu": "nonsense"})),
        5 => Just(json!({})),
    ];
    maybe(
        4,
        (maybe(3, amounts.clone()), maybe(3, amounts))
            .prop_map(|(requests, limits)| object([("requests", requests), ("limits", limits)])),
    )
}

fn container(name: String, sidecar: bool) -> impl Strategy<Value = Value> {
    let port = (
        prop_oneof![60 => 1..=65535i64, 10 => Just(8080), 1 => Just(0), 1 => Just(70_000)],
        prop::option::of("[a-z]{1,8}"),
        prop::option::of(proptest::sample::select(vec!["TCP", "UDP", "SCTP"])),
    )
        .prop_map(|(number, name, protocol)| {
            object([
                ("containerPort", Some(json!(number))),
                ("name", name.map(Value::from)),
                ("protocol", protocol.map(Value::from)),
            ])
        });
    let always = if sidecar { prop::option::of(Just(json!("Always"))).boxed() } else { Just(None).boxed() };
    (maybe(6, vec(port, 0..4).prop_map(Value::from)), quantities(), always, future()).prop_map(
        move |(ports, resources, restart, future)| {
            object([
                ("name", Some(json!(name))),
                ("image", Some(json!("registry.example.com/shop/web:1.4"))),
                ("ports", ports),
                ("resources", resources),
                ("restartPolicy", restart),
                ("futureProbe", future),
            ])
        },
    )
}

/// Names that begin, end or sound like ours and are not.
const SIMILAR: [&str; 7] = [
    "prometheus",
    "prometheus-agent-1",
    "my-prometheus-agent",
    "Prometheus-Agent",
    "promsidecar",
    "promsidecar-x-",
    "",
];

fn containers(prefix: &'static str, sidecars: bool) -> impl Strategy<Value = Value> {
    let extra = prop::option::weighted(
        0.04,
        prop_oneof![
            6 => proptest::sample::select(SIMILAR.to_vec()).prop_map(str::to_owned),
            // No API server keeps such a pod, but it comes this far.
            4 => Just(format!("{prefix}0")),
            2 => Just("app0".to_owned()),
            1 => Just("prometheus-agent".to_owned()),
        ],
    );
    (0..4usize, extra).prop_flat_map(move |(more, extra)| {
        let names = (0..=more).map(|index| format!("{prefix}{index}")).chain(extra);
        let list: Vec<_> = names.map(|name| container(name, sidecars).boxed()).collect();
        list.prop_map(Value::from)
    })
}

fn spec() -> impl Strategy<Value = Value> {
    let volume = prop_oneof![
        20 => Just(json!({"name": "kube-api-access-7xk2q", "projected": {"sources": []}})),
        1 => Just(json!({"name": "promsidecar", "emptyDir": {}})),
        1 => Just(json!({"name": "promsidecar-wal-2", "emptyDir": {}})),
        1 => Just(json!({"name": "promsidecar-x-data", "emptyDir": {}})),
        1 => Just(json!({"name": "Promsidecar", "future": {}})),
    ];
    let debugger = prop_oneof![5 => Just("debugger"), 1 => Just("prometheus-agent"), 1 => Just("app0")];
    let ephemeral =
        debugger.prop_map(|name| json!({"name": name, "image": "busybox", "targetContainerName": "app0"}));
    let rare = prop_oneof![
        120 => Just(None),
        1 => Just(Some(("hostNetwork", json!(true)))),
        1 => Just(Some(("os", json!({"name": "windows"})))),
        1 => Just(Some(("nodeSelector", json!({"kubernetes.io/os": "windows"})))),
        1 => Just(Some(("shareProcessNamespace", json!(true)))),
        2 => Just(Some(("resources", json!({"limits": {"cpu": "1", "memory": "1Gi"}})))),
        1 => Just(Some(("terminationGracePeriodSeconds", json!(-5)))),
        2 => Just(Some(("terminationGracePeriodSeconds", json!(1)))),
    ];
    let policy = prop_oneof![8 => Just(None), 4 => Just(Some("Always")), 2 => Just(Some("OnFailure")), 1 => Just(Some("Never"))];
    (
        containers("app", false),
        maybe(2, containers("init", true)),
        maybe(6, vec(volume, 0..3).prop_map(Value::from)),
        prop::option::weighted(0.03, vec(ephemeral, 0..3).prop_map(Value::from)),
        rare,
        policy,
        future(),
    )
        .prop_map(|(containers, init, volumes, ephemeral, rare, policy, future)| {
            let mut spec = object([
                ("containers", Some(containers)),
                ("initContainers", init),
                ("volumes", volumes),
                ("ephemeralContainers", ephemeral),
                ("restartPolicy", policy.map(Value::from)),
                ("futureField", future),
            ]);
            let members = spec.as_object_mut().expect("a spec is an object");
            members.extend(rare.map(|(key, value)| (key.to_owned(), value)));
            spec
        })
}
