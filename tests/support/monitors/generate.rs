//! Clusters with monitors from a seed: most of what is in them is good, some is not.

use serde_json::{Map, Value, json};

use super::objects::{NAMESPACES, VERSIONS, agent, config_map, monitor, secret};

/// Numbers from a seed (`SplitMix64`).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// One time in so many.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn of<T: Clone>(&mut self, items: &[T]) -> T {
        let index = usize::try_from(self.below(items.len() as u64)).expect("a short list");
        items[index].clone()
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.one_in(2)
    }
}

/// A template with its monitors.
pub(crate) fn cluster(dice: &mut Dice) -> (Value, Vec<Value>) {
    let template = agent(template(dice));
    let count = 1 + dice.below(4);
    let monitors = (0..count).map(|index| {
        let (namespace, _) = dice.of(&NAMESPACES);
        let labels = json!({"team": dice.of(&["a", "b"])});
        monitor(namespace, &format!("m{index}"), labels, spec(dice))
    });
    (template, monitors.collect())
}

pub(crate) fn put(
    map: &mut Map<String, Value>,
    dice: &mut Dice,
    times: u64,
    key: &str,
    value: impl FnOnce(&mut Dice) -> Value,
) {
    if dice.one_in(times) {
        map.insert(key.to_owned(), value(dice));
    }
}

fn template(dice: &mut Dice) -> Value {
    let mut spec = Map::new();
    spec.insert("version".to_owned(), json!(dice.of(&VERSIONS)));
    spec.insert("podMonitorSelector".to_owned(), selection(dice, "team"));
    put(&mut spec, dice, 2, "podMonitorNamespaceSelector", |dice| selection(dice, "tier"));
    put(&mut spec, dice, 3, "scrapeInterval", |dice| json!(dice.of(&["15s", "1m", "2m30s"])));
    put(&mut spec, dice, 4, "scrapeTimeout", |dice| json!(dice.of(&["5s", "15s"])));
    put(&mut spec, dice, 3, "podTargetLabels", |_| json!(["team", "app.kubernetes.io/name"]));
    put(&mut spec, dice, 4, "enforcedNamespaceLabel", |_| json!("enforced"));
    put(&mut spec, dice, 3, "excludedFromEnforcement", |dice| {
        let name = dice.of(&["", "m0", "m1"]);
        json!([{"resource": "podmonitors", "namespace": "shop", "name": name},
            {"group": "monitoring.coreos.com", "resource": "servicemonitors", "namespace": "web"}])
    });
    for key in ["overrideHonorLabels", "overrideHonorTimestamps", "ignoreNamespaceSelectors"] {
        put(&mut spec, dice, 5, key, |dice| json!(dice.flag()));
    }
    for key in ["SampleLimit", "TargetLimit", "LabelLimit", "LabelNameLengthLimit", "LabelValueLengthLimit"] {
        put(&mut spec, dice, 4, &format!("enforced{key}"), |dice| json!(dice.of(&[0, 50, 500])));
    }
    put(&mut spec, dice, 2, "scrapeClasses", classes);
    put(&mut spec, dice, 4, "enforcedKeepDroppedTargets", |dice| json!(dice.of(&[0, 50])));
    put(&mut spec, dice, 4, "enforcedBodySizeLimit", |dice| json!(dice.of(&["1MB", "20MB"])));
    Value::Object(spec)
}

fn classes(dice: &mut Dice) -> Value {
    let mut plain = Map::new();
    plain.insert("name".to_owned(), json!("plain"));
    put(&mut plain, dice, 2, "default", |dice| json!(dice.flag()));
    put(&mut plain, dice, 2, "fallbackScrapeProtocol", |_| json!("OpenMetricsText1.0.0"));
    put(&mut plain, dice, 2, "relabelings", |dice| relabelings(dice, TARGETS));
    put(&mut plain, dice, 2, "metricRelabelings", |dice| relabelings(dice, SERIES));
    put(&mut plain, dice, 3, "attachMetadata", |dice| json!({"node": dice.flag()}));
    let mut secured = Map::new();
    secured.insert("name".to_owned(), json!("secured"));
    if plain.get("default") != Some(&json!(true)) {
        put(&mut secured, dice, 3, "default", |_| json!(true));
    }
    put(&mut secured, dice, 2, "authorization", |dice| {
        if dice.one_in(6) { json!({"type": "Token"}) } else { authorization(dice) }
    });
    put(&mut secured, dice, 2, "tlsConfig", tls);
    put(&mut secured, dice, 3, "relabelings", |dice| relabelings(dice, TARGETS));
    let path = json!({"caFile": "/etc/mesh/ca.crt", "certFile": "/etc/mesh/tls.crt", "keyFile": "/etc/mesh/tls.key"});
    let leaving = json!([{"targetLabel": "__address__", "replacement": "blackbox:9115"}]);
    json!([plain, secured, {"name": "mesh", "tlsConfig": path}, {"name": "probe", "relabelings": leaving}])
}

/// A selector of objects by one label.
fn selection(dice: &mut Dice, key: &str) -> Value {
    match dice.below(6) {
        0 => json!({"matchLabels": {key: "a"}}),
        1 => json!({"matchExpressions": [{"key": key, "operator": "In", "values": ["a", "c"]}]}),
        2 => json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": ["b"]}]}),
        3 => json!({"matchExpressions": [{"key": key, "operator": "Exists"}]}),
        _ => json!({}),
    }
}

fn spec(dice: &mut Dice) -> Value {
    let mut spec = Map::new();
    spec.insert("selector".to_owned(), pods(dice));
    let endpoints: Vec<_> = (0..=dice.below(2)).map(|_| endpoint(dice)).collect();
    spec.insert("podMetricsEndpoints".to_owned(), json!(endpoints));
    put(&mut spec, dice, 4, "jobLabel", |dice| json!(dice.of(&["app", "app.kubernetes.io/name"])));
    put(&mut spec, dice, 4, "podTargetLabels", |dice| json!(dice.of(&[&["team"][..], &["a/b", "c-d"]])));
    put(&mut spec, dice, 6, "selectorMechanism", |dice| json!(dice.of(&["RelabelConfig", "RoleSelector"])));
    put(&mut spec, dice, 2, "namespaceSelector", |dice| match dice.below(3) {
        0 => json!({"any": true}),
        1 => json!({"matchNames": ["shop-b", "web"]}),
        _ => json!({"matchNames": ["shop"]}),
    });
    for key in ["sampleLimit", "targetLimit", "labelLimit", "labelNameLengthLimit", "labelValueLengthLimit"] {
        put(&mut spec, dice, 4, key, |dice| json!(dice.of(&[0, 10, 100, 1000])));
    }
    put(&mut spec, dice, 4, "keepDroppedTargets", |dice| json!(dice.of(&[0, 10, 100])));
    put(&mut spec, dice, 4, "bodySizeLimit", |dice| json!(dice.of(&["0", "512KB", "5MB", "50MB"])));
    let protocols = ["PrometheusProto", "OpenMetricsText1.0.0", "PrometheusText0.0.4", "PrometheusText1.0.0"];
    put(&mut spec, dice, 5, "scrapeProtocols", |dice| {
        let from = usize::try_from(dice.below(3)).expect("a short list");
        json!(protocols[from..])
    });
    put(&mut spec, dice, 5, "fallbackScrapeProtocol", |dice| json!(dice.of(&protocols)));
    for key in ["scrapeNativeHistograms", "scrapeClassicHistograms", "convertClassicHistogramsToNHCB"] {
        put(&mut spec, dice, 5, key, |dice| json!(dice.flag()));
    }
    put(&mut spec, dice, 5, "nativeHistogramBucketLimit", |dice| json!(dice.of(&[0, 160])));
    put(&mut spec, dice, 5, "nativeHistogramMinBucketFactor", |dice| {
        dice.of(&[json!("1.1"), json!("1050m"), json!(2), json!(1.5)])
    });
    put(&mut spec, dice, 6, "attachMetadata", |dice| json!({"node": dice.flag()}));
    put(&mut spec, dice, 5, "scrapeClass", |dice| {
        json!(dice.of(&["plain", "plain", "plain", "secured", "secured", "mesh", "probe", "absent"]))
    });
    if dice.one_in(12) {
        spoil_spec(&mut spec, dice);
    }
    Value::Object(spec)
}

/// A selector of pods.
fn pods(dice: &mut Dice) -> Value {
    match dice.below(5) {
        0 => json!({}),
        1 => json!({"matchLabels": {"app": "web", "app.kubernetes.io/version": "1.2"}}),
        2 => json!({"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["web", "api.v1"]},
            {"key": "canary", "operator": "DoesNotExist"},
        ]}),
        3 => json!({"matchLabels": {"x": ""}, "matchExpressions": [
            {"key": "tier", "operator": "NotIn", "values": ["test"]}, {"key": "app", "operator": "Exists"},
        ]}),
        _ => json!({"matchLabels": {"app": "web"}}),
    }
}

fn spoil_spec(spec: &mut Map<String, Value>, dice: &mut Dice) {
    let (key, value) = dice.of(&[
        ("selector", json!({"matchExpressions": [{"key": "a", "operator": "In"}]})),
        ("selector", json!({"matchLabels": {"a": "not a value"}})),
        ("selector", json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]})),
        ("fallbackScrapeProtocol", json!("Text")),
        ("scrapeProtocols", json!(["PrometheusText0.0.4", "PrometheusText0.0.4"])),
        ("bodySizeLimit", json!("much")),
        ("podTargetLabels", json!([""])),
        ("selectorMechanism", json!("Magic")),
    ]);
    spec.insert(key.to_owned(), value);
}

fn endpoint(dice: &mut Dice) -> Value {
    let mut endpoint = Map::new();
    put(&mut endpoint, dice, 2, "port", |dice| json!(dice.of(&["metrics", "web", "a|b"])));
    put(&mut endpoint, dice, 3, "portNumber", |dice| json!(dice.of(&[8080, 9090])));
    put(&mut endpoint, dice, 4, "targetPort", |dice| {
        dice.of(&[json!("metrics"), json!(8080), json!(0), json!("")])
    });
    put(&mut endpoint, dice, 3, "path", |dice| json!(dice.of(&["/metrics", "/stats/prometheus", "x y"])));
    put(&mut endpoint, dice, 3, "scheme", |dice| json!(dice.of(&["http", "https", "HTTP", "HTTPS"])));
    put(&mut endpoint, dice, 4, "params", |dice| {
        dice.of(&[json!({"a": ["b", "c"], "d": ["$1"]}), json!({"match[]": ["{a=\"b\"}"]})])
    });
    put(&mut endpoint, dice, 2, "interval", |dice| json!(dice.of(&["30s", "90s", "2m", "1h", "0s"])));
    put(&mut endpoint, dice, 3, "scrapeTimeout", |dice| json!(dice.of(&["1s", "10s", "70s", "0s"])));
    for key in [
        "honorLabels",
        "honorTimestamps",
        "trackTimestampsStaleness",
        "filterRunning",
        "followRedirects",
        "enableHttp2",
    ] {
        put(&mut endpoint, dice, 4, key, |dice| json!(dice.flag()));
    }
    put(&mut endpoint, dice, 3, "relabelings", |dice| relabelings(dice, TARGETS));
    put(&mut endpoint, dice, 4, "metricRelabelings", |dice| relabelings(dice, SERIES));
    put(&mut endpoint, dice, 4, "tlsConfig", tls);
    match dice.below(12) {
        0 | 1 => drop(endpoint.insert(
            "basicAuth".to_owned(),
            json!({"username": secret("user"), "password": secret("password")}),
        )),
        2 | 3 => drop(endpoint.insert("authorization".to_owned(), authorization(dice))),
        4 => drop(
            endpoint.insert("bearerTokenSecret".to_owned(), dice.of(&[secret("token"), json!({"key": ""})])),
        ),
        5 | 6 => drop(endpoint.insert("oauth2".to_owned(), oauth2(dice))),
        _ => {}
    }
    put(&mut endpoint, dice, 8, "proxyFromEnvironment", |dice| json!(dice.flag()));
    if dice.one_in(25) {
        proxy(&mut endpoint, dice);
    }
    if dice.one_in(10) {
        spoil_endpoint(&mut endpoint, dice);
    }
    Value::Object(endpoint)
}

/// A proxy that upstream takes.
fn proxy(endpoint: &mut Map<String, Value>, dice: &mut Dice) {
    endpoint.remove("proxyFromEnvironment");
    endpoint.insert("proxyUrl".to_owned(), json!("http://proxy.example:3128"));
    put(endpoint, dice, 2, "noProxy", |_| json!("localhost"));
    put(endpoint, dice, 2, "proxyConnectHeader", |_| json!({"Proxy-Authorization": [secret("token")]}));
}

pub(crate) fn authorization(dice: &mut Dice) -> Value {
    let mut value = json!({"credentials": secret("token")});
    if dice.flag() {
        value["type"] = json!(dice.of(&["Bearer", " Token ", ""]));
    }
    value
}

pub(crate) fn oauth2(dice: &mut Dice) -> Value {
    let id = dice.of(&[json!({"secret": secret("id")}), json!({"configMap": config_map("id")})]);
    let mut value = json!({"clientId": id, "clientSecret": secret("secret"), "tokenUrl": "https://login.example/token",
        "endpointParams": {"client_id": "agent"}});
    if dice.one_in(5) {
        value["endpointParams"] = json!({});
    } else if dice.flag() {
        value["endpointParams"]["audience"] = json!("metrics");
    }
    if dice.flag() {
        value["scopes"] = json!(["read", "write"]);
    }
    if dice.flag() {
        value["tlsConfig"] = tls(dice);
    }
    if dice.one_in(4) {
        value["proxyUrl"] = json!("http://proxy.example:3128");
        value["noProxy"] = json!("10.0.0.0/8");
    }
    value
}

pub(crate) fn tls(dice: &mut Dice) -> Value {
    let mut tls = Map::new();
    put(&mut tls, dice, 2, "ca", |dice| {
        dice.of(&[json!({"secret": secret("ca.crt")}), json!({"configMap": config_map("ca.crt")})])
    });
    if dice.flag() {
        tls.insert("cert".to_owned(), json!({"secret": secret("tls.crt")}));
        tls.insert("keySecret".to_owned(), secret("tls.key"));
    }
    put(&mut tls, dice, 2, "serverName", |_| json!("pod.example"));
    put(&mut tls, dice, 2, "insecureSkipVerify", |dice| json!(dice.flag()));
    put(&mut tls, dice, 3, "minVersion", |dice| json!(dice.of(&["TLS10", "TLS12"])));
    put(&mut tls, dice, 3, "maxVersion", |dice| json!(dice.of(&["TLS12", "TLS13"])));
    Value::Object(tls)
}

pub(crate) const TARGETS: &[&str] = &[
    r#"{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}"#,
    r#"{"sourceLabels": ["__address__", "__meta_kubernetes_pod_annotation_port"], "regex": "([^:]+)(?::\\d+)?;(\\d+)", "replacement": "$1:$2", "targetLabel": "__address__"}"#,
    r#"{"action": "labelmap", "regex": "__meta_kubernetes_pod_label_(.+)", "replacement": "pod_$1"}"#,
    r#"{"targetLabel": "team", "replacement": "shop", "action": "Replace"}"#,
    r#"{"sourceLabels": ["__meta_kubernetes_pod_ready"], "regex": "true", "action": "keep", "separator": ","}"#,
    r#"{"action": "LabelDrop", "regex": "tmp_.+"}"#,
    r#"{"sourceLabels": ["__address__"], "modulus": 4, "targetLabel": "shard", "action": "hashmod"}"#,
    r#"{"sourceLabels": ["pod"], "targetLabel": "__tmp", "action": "keepequal"}"#,
];
pub(crate) const SERIES: &[&str] = &[
    r#"{"sourceLabels": ["__name__"], "regex": "go_.*", "action": "drop"}"#,
    r#"{"sourceLabels": ["le"], "targetLabel": "le", "regex": "(\\d+)", "replacement": "${1}.0"}"#,
    r#"{"action": "labelkeep", "regex": "(__name__|instance|job|le|namespace|pod)"}"#,
    r#"{"sourceLabels": ["Path"], "targetLabel": "path", "action": "Lowercase"}"#,
];

pub(crate) fn relabelings(dice: &mut Dice, rules: &[&str]) -> Value {
    let chosen = (0..=dice.below(3)).map(|_| serde_json::from_str(dice.of(rules)).expect("a rule is JSON"));
    Value::Array(chosen.collect())
}

fn spoil_endpoint(endpoint: &mut Map<String, Value>, dice: &mut Dice) {
    let (key, value) = dice.of(&[
        ("scrapeTimeout", json!("2h")),
        ("interval", json!("soon")),
        ("relabelings", json!([{"regex": "("}])),
        ("relabelings", json!([{"sourceLabels": ["a"]}])),
        ("relabelings", json!([{"targetLabel": "__address__", "replacement": "blackbox:9115"}])),
        ("metricRelabelings", json!([{"action": "hashmod", "targetLabel": "a"}])),
        ("metricRelabelings", json!([{"action": "frobnicate"}])),
        ("basicAuth", json!({"username": {"name": "absent", "key": "user"}, "password": secret("password")})),
        ("basicAuth", json!({"username": secret("user")})),
        ("authorization", json!({"type": "Basic", "credentials": secret("token")})),
        ("tlsConfig", json!({"keySecret": secret("tls.key")})),
        ("tlsConfig", json!({"minVersion": "TLS13", "maxVersion": "TLS11"})),
        ("proxyUrl", json!("http://proxy.example:3128")),
        ("noProxy", json!("localhost")),
        ("port", json!("(")),
        ("portNumber", json!(70000)),
        ("scheme", json!("ftp")),
    ]);
    endpoint.insert(key.to_owned(), value);
}
