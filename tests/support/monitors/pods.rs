//! Pods of a namespace from a seed, with labels and ports that the generated monitors select, and some that they nearly do.

use serde_json::{Map, Value, json};

use super::generate::{Dice, put};

/// A pod as a client creates it, without a namespace.
pub(crate) fn pod(dice: &mut Dice) -> Value {
    let mut labels = Map::new();
    // The last is what an expression `api.v1` matches that nobody escaped.
    put(&mut labels, dice, 1, "app", |dice| {
        json!(dice.of(&["web", "web", "web", "web", "api.v1", "apixv1"]))
    });
    for (key, values) in [
        ("app.kubernetes.io/version", &["1.2", "1.2", "1.2", "1x2"][..]),
        ("app.kubernetes.io/name", &["web"]),
        ("team", &["shop", ""]),
        ("tier", &["test", "live", "live"]),
        ("x", &["", "", "y"]),
        ("a/b", &["c"]),
    ] {
        put(&mut labels, dice, 1, key, |dice| json!(dice.of(values)));
        if dice.one_in(4) {
            labels.remove(key);
        }
    }
    put(&mut labels, dice, 4, "canary", |_| json!("true"));
    let mut annotations = Map::new();
    annotations.insert("sidecar.prometheus.io/inject".to_owned(), json!("shop/agent"));
    put(&mut annotations, dice, 2, "port", |dice| json!(dice.of(&["8081", "http"])));
    put(&mut annotations, dice, 4, "prometheus.io/port", |_| json!("8080"));
    let mut metadata = Map::new();
    if dice.flag() {
        metadata.insert("generateName".to_owned(), json!("web-6d4cf56db6-"));
        metadata.insert("ownerReferences".to_owned(), json!([
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6", "uid": "u", "controller": true},
        ]));
    } else {
        metadata.insert("name".to_owned(), json!("web-0"));
    }
    metadata.insert("labels".to_owned(), Value::Object(labels));
    metadata.insert("annotations".to_owned(), Value::Object(annotations));
    let containers: Vec<_> =
        (0..=dice.below(3)).map(|index| container(dice, &format!("app{index}"))).collect();
    let mut spec = Map::new();
    spec.insert("containers".to_owned(), json!(containers));
    put(&mut spec, dice, 3, "initContainers", |dice| {
        let mut sidecar = container(dice, "sidecar");
        if dice.flag() {
            sidecar["restartPolicy"] = json!("Always");
        }
        json!([sidecar])
    });
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

fn container(dice: &mut Dice, name: &str) -> Value {
    let numbers = [8080, 9090, 8081, 443];
    let names = ["metrics", "web", "a", "other"];
    let count = if dice.one_in(6) { 0 } else { 1 + dice.below(4) };
    let ports: Vec<_> = (0..count)
        .map(|index| {
            let at = usize::try_from(index).expect("a few ports");
            let mut port = Map::new();
            port.insert("containerPort".to_owned(), json!(numbers[at]));
            put(&mut port, dice, 1, "name", |dice| json!(names[(at + usize::from(dice.one_in(4))) % 4]));
            if dice.one_in(5) {
                port.remove("name");
            }
            put(&mut port, dice, 6, "protocol", |_| json!("UDP"));
            Value::Object(port)
        })
        .collect();
    let mut container = json!({"name": name, "image": format!("registry.example/{name}:1.4")});
    if !ports.is_empty() {
        container["ports"] = json!(ports);
    }
    container
}

/// What is known of a pod only once it runs.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) ip: &'static str,
    pub(crate) uid: String,
}

impl Facts {
    const NODE: &'static str = "node-1";
    const HOST: &'static str = "192.0.2.1";

    /// Those of a pod, at this address.
    pub(crate) fn of(pod: &Value, ip: &'static str, uid: String) -> Self {
        let name = pod["metadata"]["name"].as_str().filter(|name| !name.is_empty());
        Self { name: name.unwrap_or("web-6d4cf56db6-x7k2q").to_owned(), ip, uid }
    }

    /// In the order of `names::RUNTIME_FACTS`.
    pub(crate) fn values(&self) -> [&str; 5] {
        [&self.name, self.ip, Self::NODE, &self.uid, Self::HOST]
    }

    /// The pod as it is stored once it runs.
    pub(crate) fn running(&self, pod: &Value, namespace: &str) -> Value {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = json!(self.name);
        pod["metadata"]["namespace"] = json!(namespace);
        pod["metadata"]["uid"] = json!(self.uid);
        pod["spec"]["nodeName"] = json!(Self::NODE);
        pod["status"] = json!({"phase": "Running", "podIP": self.ip, "hostIP": Self::HOST,
            "conditions": [{"type": "Ready", "status": "True"}]});
        pod
    }

    /// The address as it stands in an address with a port.
    pub(crate) fn host(&self) -> String {
        if self.ip.contains(':') { format!("[{}]", self.ip) } else { self.ip.to_owned() }
    }
}
