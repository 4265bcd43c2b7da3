//! Fields that are not as they should be. Some are refused by both sides, some by us alone, and a few by nobody.

use serde_json::{Value, json};

use crate::support::monitors::objects::{config_map, secret};

const ID: &str = "2b2e2f0c-8f0c-4a55-8d4e-0f7a6c1d9e3b";

/// A field of the spec with its value.
pub(crate) type Wrong = (&'static str, Value);

/// All of them.
pub(crate) fn wrong() -> Vec<Wrong> {
    let mut all = global();
    all.extend(process());
    all.extend(pod());
    all.extend(writes().into_iter().map(|(key, value)| {
        let mut write = json!({"url": "https://metrics.example/write"});
        write[key] = value;
        ("remoteWrite", json!([write]))
    }));
    let same = |second: Value| ("remoteWrite", json!([{"url": "http://a", "name": "a"}, second]));
    all.push(same(json!({"url": "http://b", "name": "a"})));
    all.push(("remoteWrite", json!([{"url": "http://a"}, {"url": "http://a"}])));
    all
}

fn global() -> Vec<Wrong> {
    vec![
        ("version", json!("v2.55.1")),
        ("version", json!("latest")),
        ("version", json!("v4.0.0")),
        ("scrapeInterval", json!("soon")),
        ("scrapeInterval", json!("0s")),
        ("scrapeTimeout", json!("1h")),
        ("scrapeProtocols", json!(["Text"])),
        ("scrapeProtocols", json!(["PrometheusProto", "PrometheusProto"])),
        ("externalLabels", json!({"": "a"})),
        ("externalLabels", json!({"__promsidecar_pod_name": "a"})),
        ("runtime", json!({"goGC": -2})),
        ("bodySizeLimit", json!("much")),
        ("enforcedBodySizeLimit", json!("1 MB")),
        ("nameValidationScheme", json!("Latin1")),
        ("nameEscapingScheme", json!("Dashes")),
        ("enforcedNamespaceLabel", json!("__namespace")),
        ("podTargetLabels", json!([""])),
        ("podMonitorSelector", json!({"matchExpressions": [{"key": "a", "operator": "Like"}]})),
        ("scrapeClasses", json!([{"name": "a", "default": true}, {"name": "b", "default": true}])),
        ("scrapeClasses", json!([{"name": "a"}, {"name": "a"}])),
        ("scrapeClasses", json!([{"name": "a", "relabelings": [{"action": "frobnicate"}]}])),
    ]
}

fn process() -> Vec<Wrong> {
    let tracing = |key: &str, value: Value| {
        let mut tracing = json!({"endpoint": "a:1"});
        tracing[key] = value;
        ("tracingConfig", tracing)
    };
    vec![
        ("otlp", json!({"promoteResourceAttributes": ["a", "a"]})),
        ("otlp", json!({"promoteResourceAttributes": [" "]})),
        ("otlp", json!({"ignoreResourceAttributes": ["a"]})),
        ("otlp", json!({"promoteAllResourceAttributes": true, "promoteResourceAttributes": ["a"]})),
        ("otlp", json!({"translationStrategy": "Babelfish"})),
        ("tsdb", json!({"staleSeriesCompactionThreshold": 2})),
        ("tsdb", json!({"staleSeriesCompactionThreshold": "-1"})),
        ("tsdb", json!({"outOfOrderTimeWindow": "soon"})),
        ("tsdb", json!({"chunkEncoding": {"floats": "Zip"}})),
        tracing("endpoint", json!("")),
        tracing("samplingFraction", json!("1.5")),
        tracing("samplingFraction", json!("-100m")),
        tracing("clientType", json!("udp")),
        tracing("compression", json!("snappy")),
        tracing("timeout", json!("soon")),
        tracing("tlsConfig", json!({"caFile": "/ca.crt"})),
        tracing("tlsConfig", json!({"cert": {"secret": secret("tls.crt")}})),
        tracing("headers", json!({"Authorization": "a"})),
        tracing("headers", json!({"Host": "a"})),
        ("logLevel", json!("trace")),
        ("logFormat", json!("xml")),
        ("enableFeatures", json!([""])),
        ("externalUrl", json!("https://user:password@agents.example")),
        ("externalUrl", json!("http://a b")),
        ("web", json!({"maxConnections": -1})),
        ("additionalArgs", json!([{"name": "agent"}])),
        ("additionalArgs", json!([{"name": "no-agent"}])),
        ("additionalArgs", json!([{"name": "web.config.file", "value": "/etc/web.yml"}])),
        ("additionalArgs", json!([{"name": "config.auto-reload"}])),
        ("additionalArgs", json!([{"name": "query.timeout", "value": "1m"}])),
        ("additionalArgs", json!([{"name": "version"}])),
        ("additionalArgs", json!([{"name": ""}])),
        ("additionalArgs", json!([{"name": "web.max-notifications-subscribers", "value": "a\nb"}])),
    ]
}

fn pod() -> Vec<Wrong> {
    vec![
        ("image", json!("Not An Image")),
        ("imagePullPolicy", json!("Sometimes")),
        ("resources", json!({"limits": {"memory": "much"}})),
        ("storage", json!({"emptyDir": {"medium": "Tape"}})),
        ("secrets", json!(["a", "a"])),
        ("configMaps", json!(["Wrong"])),
        ("volumes", json!([{"name": "a", "hostPath": {"path": "/"}}])),
        ("volumeMounts", json!([{"name": "absent", "mountPath": "/a"}])),
        ("containers", json!([{"name": "prometheus", "command": ["a"]}])),
    ]
}

/// Fields of a remote write.
fn writes() -> Vec<Wrong> {
    let mut all = credentials();
    all.extend([
        ("url", json!("")),
        ("url", json!("ftp://metrics.example")),
        ("url", json!("https://user:password@metrics.example/write")),
        ("url", json!("http://metrics.example/%zz")),
        ("messageVersion", json!("V3.0")),
        ("remoteTimeout", json!("soon")),
        ("remoteTimeout", json!("0s")),
        ("headers", json!({"Authorization": "Bearer a"})),
        ("headers", json!({"Content-Type": "a"})),
        ("headers", json!({"a b": "c"})),
        ("noProxy", json!("localhost")),
        ("proxyUrl", json!("http://a b")),
        ("queueConfig", json!({"minShards": 5, "maxShards": 2})),
        ("queueConfig", json!({"minBackoff": "10s", "maxBackoff": "1s"})),
        ("queueConfig", json!({"batchSendDeadline": "0s"})),
        ("metadataConfig", json!({"sendInterval": "soon"})),
        ("metadataConfig", json!({"send": true, "sendInterval": "0s"})),
        ("writeRelabelConfigs", json!([{"regex": "("}])),
        ("writeRelabelConfigs", json!([{"action": "frobnicate"}])),
        ("writeRelabelConfigs", json!([{"action": "hashmod", "sourceLabels": ["a"], "targetLabel": "b"}])),
        ("writeRelabelConfigs", json!([{"action": "labelmap", "sourceLabels": ["a"], "regex": "b"}])),
        ("writeRelabelConfigs", json!([{"action": "labeldrop", "targetLabel": "a"}])),
        ("writeRelabelConfigs", json!([{"action": "keepequal", "sourceLabels": ["a"]}])),
        ("writeRelabelConfigs", json!([{"sourceLabels": ["a"]}])),
        (
            "writeRelabelConfigs",
            json!([{"action": "lowercase", "sourceLabels": ["a"], "targetLabel": "${1}"}]),
        ),
    ]);
    all
}

fn credentials() -> Vec<Wrong> {
    let absent = json!({"name": "absent", "key": "a"});
    let oauth2 = json!({"clientId": {"secret": secret("id")}, "clientSecret": secret("secret"),
        "endpointParams": {"client_id": "a"}});
    vec![
        ("bearerToken", json!("secret")),
        ("bearerTokenFile", json!("/token")),
        ("basicAuth", json!({})),
        ("basicAuth", json!({"username": secret("user")})),
        ("basicAuth", json!({"password": secret("password")})),
        ("basicAuth", json!({"username": absent, "password": secret("password")})),
        (
            "basicAuth",
            json!({"username": {"name": "credentials", "key": ""}, "password": secret("password")}),
        ),
        ("authorization", json!({})),
        ("authorization", json!({"type": "Basic", "credentials": secret("token")})),
        ("authorization", json!({"credentials": secret("token"), "credentialsFile": "/token"})),
        ("oauth2", oauth2),
        (
            "oauth2",
            json!({"clientId": {}, "clientSecret": secret("secret"), "tokenUrl": "https://a.example"}),
        ),
        ("sigv4", json!({"accessKey": secret("id")})),
        ("sigv4", json!({"externalId": "a"})),
        ("azureAd", json!({})),
        ("azureAd", json!({"cloud": "AzureMoon", "sdk": {}})),
        ("azureAd", json!({"managedIdentity": {"clientId": "a"}})),
        ("azureAd", json!({"managedIdentity": {"clientId": ID}, "sdk": {}})),
        ("azureAd", json!({"sdk": {"tenantId": "a"}})),
        ("azureAd", json!({"workloadIdentity": {"clientId": "a", "tenantId": "a"}})),
        ("azureAd", json!({"workloadIdentity": {"clientId": ID}})),
        ("azureAd", json!({"oauth": {"clientId": ID, "tenantId": ID, "clientSecret": secret("secret")}})),
        ("tlsConfig", json!({"keySecret": secret("tls.key")})),
        ("tlsConfig", json!({"cert": {"secret": secret("tls.crt")}})),
        ("tlsConfig", json!({"ca": {"secret": secret("ca.crt"), "configMap": config_map("ca.crt")}})),
        ("tlsConfig", json!({"minVersion": "TLS13", "maxVersion": "TLS11"})),
        ("tlsConfig", json!({"minVersion": "SSL3"})),
        ("tlsConfig", json!({"certFile": "/a", "keyFile": "/b"})),
    ]
}
