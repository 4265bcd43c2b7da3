//! Fields by hand that both kinds of monitors have.

use serde_json::{Value, json};

/// A field, a value, and whether the job differs from one without the field; `None` where the monitor is rejected, or where a
/// version decides.
pub(crate) type Case = (&'static str, Value, Option<bool>);

/// Fields of the spec.
pub(crate) fn of_spec() -> Vec<Case> {
    let t = Some(true);
    vec![
        ("jobLabel", json!("app.kubernetes.io/name"), t),
        ("podTargetLabels", json!(["team/x", "team"]), t),
        ("selectorMechanism", json!("RoleSelector"), Some(false)),
        ("namespaceSelector", json!({"any": true}), Some(false)),
        ("sampleLimit", json!(100), t),
        ("targetLimit", json!(10), t),
        ("scrapeProtocols", json!(["PrometheusText1.0.0", "PrometheusProto"]), t),
        ("fallbackScrapeProtocol", json!("PrometheusText0.0.4"), t),
        ("labelLimit", json!(30), t),
        ("labelNameLengthLimit", json!(40), t),
        ("labelValueLengthLimit", json!(50), t),
        // Not before 3.8: both sides leave it out of older configurations.
        ("scrapeNativeHistograms", json!(true), None),
        ("scrapeClassicHistograms", json!(true), t),
        ("nativeHistogramBucketLimit", json!(160), t),
        ("nativeHistogramMinBucketFactor", json!("1.1"), t),
        ("convertClassicHistogramsToNHCB", json!(true), t),
        ("keepDroppedTargets", json!(5), t),
        ("attachMetadata", json!({"node": true}), Some(false)),
        ("scrapeClass", json!("plain"), t),
        ("bodySizeLimit", json!("1.5MB"), t),
    ]
}

/// Fields of an endpoint.
pub(crate) fn of_endpoint() -> Vec<Case> {
    let (t, key) = (Some(true), |key: &str| json!({"name": "credentials", "key": key}));
    vec![
        ("port", json!("other"), t),
        ("targetPort", json!(8080), Some(false)),
        ("path", json!("/stats"), t),
        ("scheme", json!("HTTPS"), t),
        ("params", json!({"format": ["prometheus"]}), t),
        ("interval", json!("90s"), t),
        ("scrapeTimeout", json!("7s"), t),
        ("honorLabels", json!(true), t),
        ("honorTimestamps", json!(false), t),
        ("trackTimestampsStaleness", json!(true), t),
        ("metricRelabelings", json!([{"action": "LabelDrop", "regex": "x"}]), t),
        ("relabelings", json!([{"targetLabel": "a", "replacement": "b"}]), t),
        ("filterRunning", json!(false), t),
        ("authorization", json!({"credentials": key("token")}), t),
        ("basicAuth", json!({"username": key("user"), "password": key("password")}), t),
        (
            "oauth2",
            json!({"clientId": {"secret": key("id")}, "clientSecret": key("secret"),
                "tokenUrl": "https://login.example/", "endpointParams": {"client_id": "a"}}),
            t,
        ),
        ("bearerTokenSecret", key("token"), t),
        ("followRedirects", json!(false), t),
        ("enableHttp2", json!(false), t),
        ("tlsConfig", json!({"ca": {"secret": key("ca.crt")}, "serverName": "a"}), t),
        ("proxyUrl", json!("http://proxy.example:3128"), None),
        ("noProxy", json!("localhost"), None),
        ("proxyFromEnvironment", json!(true), Some(false)),
        ("proxyConnectHeader", json!({"a": [key("token")]}), None),
    ]
}
