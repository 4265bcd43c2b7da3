//! A template that sets every field promsidecar uses, what is said about it, and the names that its model knows.

use std::collections::BTreeSet;

use promsidecar::template::agent::Agent;
use promsidecar::template::violation::{Path, Violation};
use promsidecar::template::{Settings, Template, validate};

use serde::Deserialize;
use serde::de::{Error, Visitor};
use serde_json::{Value, json};

use super::contract::is_line;

/// A valid spec with every honoured field, lists and nested objects included.
pub(crate) fn full_spec() -> Value {
    let mut spec = container();
    let members = spec.as_object_mut().expect("a spec is an object");
    for part in [prometheus(), limits(), json!({"remoteWrite": remote_write()})] {
        members.extend(part.as_object().expect("a part is an object").clone());
    }
    spec
}

fn key(key: &str) -> Value {
    json!({"name": "secrets", "key": key, "optional": true})
}

fn container() -> Value {
    let amounts = json!({"requests": {"cpu": "10m"}, "limits": {"memory": "256Mi", "ephemeral-storage": 1_073_741_824}});
    json!({
        "paused": true,
        "version": "v3.13.5",
        "image": "quay.io/prometheus/prometheus:v3.13.5",
        "imagePullPolicy": "IfNotPresent",
        "storage": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        "resources": amounts,
        "containers": [{
            "name": "prometheus",
            "env": [
                {"name": "A", "value": "b"},
                {"name": "B", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}},
                {"name": "C", "valueFrom": {"secretKeyRef": key("c")}},
                {"name": "D", "valueFrom": {"configMapKeyRef": key("d")}},
            ],
            "resources": amounts,
            "volumeMounts": [{"name": "files", "mountPath": "/files", "readOnly": true, "subPath": "a"}],
        }],
        "volumes": [
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "files", "secret": {
                "secretName": "files", "optional": true, "defaultMode": 292,
                "items": [{"key": "a", "path": "a", "mode": 256}],
            }},
            {"name": "maps", "configMap": {
                "name": "maps", "optional": false, "defaultMode": 292,
                "items": [{"key": "b", "path": "b", "mode": 256}],
            }},
        ],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch", "readOnly": false}],
        "secrets": ["whole"],
        "configMaps": ["whole.map"],
        "additionalArgs": [{"name": "storage.agent.checkpoint-batch-size", "value": "500"}],
    })
}

fn prometheus() -> Value {
    let labels = json!({
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
    });
    let process = json!({
        "otlp": {
            "promoteAllResourceAttributes": true, "ignoreResourceAttributes": ["a"], "promoteResourceAttributes": [],
            "translationStrategy": "NoUTF8EscapingWithSuffixes", "keepIdentifyingResourceAttributes": true,
            "convertHistogramsToNHCB": true, "promoteScopeMetadata": true,
            "labelNameUnderscoreSanitization": false, "labelNamePreserveMultipleUnderscores": false,
        },
        "externalUrl": "https://agents.example.com/shop",
        "routePrefix": "/shop",
        "web": {"pageTitle": "shop", "maxConnections": 5, "tlsConfig": {}, "httpConfig": {}},
        "tsdb": {
            "outOfOrderTimeWindow": "10m", "staleSeriesCompactionThreshold": "500m", "chunkEncoding": {"floats": "Xor"},
        },
        "tracingConfig": {
            "clientType": "HTTP", "endpoint": "traces.example.com:4318", "samplingFraction": "0.25", "insecure": false,
            "headers": {"X-Scope-OrgID": "team-a"}, "compression": "Gzip", "timeout": "5s", "tlsConfig": tls(),
        },
        "scrapeFailureLogFile": "failures.log",
    });
    let mut spec = json!({
        "scrapeInterval": "30s",
        "scrapeTimeout": "10s",
        "scrapeProtocols": ["OpenMetricsText1.0.0", "PrometheusText0.0.4"],
        "externalLabels": {"cluster": "eu-1"},
        "prometheusExternalLabelName": "agent",
        "replicaExternalLabelName": "replica",
        "enableFeatures": ["exemplar-storage"],
        "enableRemoteWriteReceiver": true,
        "remoteWriteReceiverMessageVersions": ["V2.0"],
        "enableOTLPReceiver": true,
        "listenLocal": false,
        "logLevel": "debug",
        "logFormat": "json",
        "walCompression": true,
        "runtime": {"goGC": 60},
        "nameValidationScheme": "UTF8",
        "nameEscapingScheme": "Underscores",
        "convertClassicHistogramsToNHCB": true,
        "scrapeClassicHistograms": true,
        "scrapeNativeHistograms": true,
        "scrapeClasses": [{
            "name": "plain", "default": true, "fallbackScrapeProtocol": "PrometheusText0.0.4",
            "tlsConfig": {"serverName": "a"}, "authorization": {"type": "Bearer"}, "attachMetadata": {"node": false},
            "relabelings": [{"targetLabel": "team", "replacement": "shop"}],
            "metricRelabelings": [{"regex": "x", "action": "labeldrop"}],
        }],
        "excludedFromEnforcement": [
            {"group": "monitoring.coreos.com", "resource": "podmonitors", "namespace": "team-a", "name": "m"},
        ],
        "overrideHonorLabels": true,
        "overrideHonorTimestamps": true,
        "ignoreNamespaceSelectors": false,
        "podTargetLabels": ["team"],
        "podMonitorSelector": labels,
        "podMonitorNamespaceSelector": labels,
        "serviceMonitorSelector": labels,
        "serviceMonitorNamespaceSelector": labels,
        "serviceDiscoveryRole": "EndpointSlice",
    });
    let members = spec.as_object_mut().expect("a spec is an object");
    members.extend(process.as_object().expect("a part is an object").clone());
    spec
}

fn tls() -> Value {
    json!({
        "ca": {"configMap": key("ca.crt")},
        "cert": {"secret": key("tls.crt")},
        "keySecret": key("tls.key"),
        "serverName": "metrics.internal",
        "insecureSkipVerify": false,
        "minVersion": "TLS12",
        "maxVersion": "TLS13",
    })
}

fn limits() -> Value {
    json!({
        "sampleLimit": 5000,
        "targetLimit": 10,
        "labelLimit": 30,
        "labelNameLengthLimit": 100,
        "labelValueLengthLimit": 500,
        "keepDroppedTargets": 5,
        "bodySizeLimit": "2MB",
        "enforcedSampleLimit": 4000,
        "enforcedTargetLimit": 10,
        "enforcedLabelLimit": 30,
        "enforcedLabelNameLengthLimit": 100,
        "enforcedLabelValueLengthLimit": 500,
        "enforcedKeepDroppedTargets": 5,
        "enforcedBodySizeLimit": "1MB",
        "enforcedNamespaceLabel": "namespace",
    })
}

fn remote_write() -> Value {
    let id = "2b2e2f0c-8f0c-4a55-8d4e-0f7a6c1d9e3b";
    let tls = tls();
    json!([
        {
            "url": "https://a.example.com/write",
            "name": "basic",
            "messageVersion": "V2.0",
            "sendExemplars": true,
            "sendNativeHistograms": true,
            "remoteTimeout": "15s",
            "headers": {"X-Scope-OrgID": "team-a"},
            "writeRelabelConfigs": [
                {"sourceLabels": ["__name__"], "separator": ";", "regex": "go_.*", "action": "Drop"},
                {"sourceLabels": ["a"], "targetLabel": "b", "modulus": 8, "action": "HashMod"},
                {"targetLabel": "team", "replacement": "shop", "action": "replace"},
            ],
            "basicAuth": {"username": key("user"), "password": key("password")},
            "tlsConfig": tls,
            "proxyUrl": "http://proxy.example.com:3128",
            "noProxy": "localhost",
            "followRedirects": false,
            "enableHTTP2": false,
            "roundRobinDNS": true,
            "queueConfig": {
                "capacity": 5000, "minShards": 1, "maxShards": 4, "maxSamplesPerSend": 1000,
                "batchSendDeadline": "10s", "maxRetries": 3, "minBackoff": "100ms", "maxBackoff": "10s",
                "retryOnRateLimit": true, "sampleAgeLimit": "5m",
            },
            "metadataConfig": {"send": true, "sendInterval": "2m", "maxSamplesPerSend": 500},
        },
        {
            "url": "https://b.example.com/write",
            "name": "bearer",
            "authorization": {"type": "Bearer", "credentials": key("token")},
            "proxyFromEnvironment": true,
        },
        {
            "url": "https://c.example.com/write",
            "name": "oauth",
            "oauth2": {
                "clientId": {"secret": key("id")},
                "clientSecret": key("secret"),
                "tokenUrl": "https://login.example.com/token",
                "scopes": ["write"],
                "endpointParams": {"client_id": "promsidecar"},
                "tlsConfig": tls,
                "proxyUrl": "http://proxy.example.com:3128",
                "noProxy": "localhost",
                "proxyFromEnvironment": false,
            },
        },
        {
            "url": "https://d.example.com/write",
            "name": "aws",
            "sigv4": {
                "region": "eu-west-1", "accessKey": key("id"), "secretKey": key("secret"), "profile": "p",
                "roleArn": "arn:aws:iam::123456789012:role/metrics", "externalId": "x",
                "useFIPSSTSEndpoint": true,
            },
        },
        {
            "url": "https://e.example.com/write",
            "name": "managed",
            "azureAd": {"cloud": "AzurePublic", "managedIdentity": {"clientId": id}, "scope": "s"},
        },
        {"url": "https://f.example.com/write", "name": "sdk", "azureAd": {"sdk": {"tenantId": id}}},
        {
            "url": "https://g.example.com/write",
            "name": "workload",
            "azureAd": {"workloadIdentity": {"clientId": id, "tenantId": id}},
        },
    ])
}

/// Fields that have a type but are refused whatever they say, and a value of that type.
pub(crate) fn refused_fields() -> [(&'static str, Value); 9] {
    [
        ("/remoteWrite/1/authorization/credentialsFile", json!("/etc/token")),
        ("/remoteWrite/0/tlsConfig/caFile", json!("/etc/ca")),
        ("/remoteWrite/0/tlsConfig/certFile", json!("/etc/cert")),
        ("/remoteWrite/0/tlsConfig/keyFile", json!("/etc/key")),
        ("/remoteWrite/0/bearerToken", json!("secret")),
        ("/remoteWrite/0/bearerTokenFile", json!("/etc/token")),
        ("/remoteWrite/0/proxyConnectHeader", json!({"a": [{"name": "a", "key": "b"}]})),
        ("/remoteWrite/2/oauth2/proxyConnectHeader", json!({"a": [{"name": "a", "key": "b"}]})),
        ("/remoteWrite/5/azureAd/oauth", json!({"clientId": "a"})),
    ]
}

/// A template of ours with this spec.
pub(crate) fn template(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "PrometheusAgent",
        "metadata": {
            "name": "shop",
            "namespace": "team-a",
            "generation": 3,
            "annotations": {"operator.prometheus.io/controller-id": "promsidecar"},
        },
    });
    object["spec"] = spec;
    object
}

pub(crate) fn judge(object: &Value) -> Result<Agent, Vec<Violation>> {
    let settings = Settings::default();
    let template = Template::read(object, &settings).expect("the object is a template with a name");
    validate::validate(&template, &settings)
}

pub(crate) fn judge_spec(spec: Value) -> Result<Agent, Vec<Violation>> {
    judge(&template(spec))
}

/// What is said about a spec: paths of violations, or of fields without effect.
pub(crate) fn paths(judged: &Result<Agent, Vec<Violation>>) -> Vec<&str> {
    match judged {
        Ok(agent) => agent.ignored.iter().map(|field| field.path.as_str()).collect(),
        Err(violations) => {
            assert!(violations.iter().all(|violation| is_line(&violation.to_string())), "{violations:?}");
            violations.iter().map(|violation| violation.path.as_str()).collect()
        }
    }
}

/// Every place below a value, as JSON pointer and as the path that messages use.
fn places(value: &Value, pointer: &str, path: &Path, found: &mut Vec<(String, Path)>) {
    let mut go = |pointer: String, path: Path, value: &Value| {
        found.push((pointer.clone(), path.clone()));
        places(value, &pointer, &path, found);
    };
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                go(format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), path.key(key), value);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                go(format!("{pointer}/{index}"), path.index(index), value);
            }
        }
        _ => {}
    }
}

pub(crate) fn all_places(spec: &Value) -> Vec<(String, Path)> {
    let mut found = Vec::new();
    places(spec, "", &Path::root("spec"), &mut found);
    found
}

/// The full specification in small ones that are valid by themselves.
pub(crate) fn parts() -> Vec<Value> {
    let Value::Object(mut spec) = full_spec() else { unreachable!("a spec is an object") };
    let Some(Value::Array(writes)) = spec.remove("remoteWrite") else { unreachable!("it writes") };
    let mut parts: Vec<_> = writes.into_iter().map(|write| json!({"remoteWrite": [write]})).collect();
    let together = ["containers", "volumes", "volumeMounts"];
    let container = together.map(|name| (name, spec.remove(name).expect("it is set")));
    parts.push(container.into_iter().collect());
    parts.extend(spec.into_iter().map(|(name, value)| json!({name: value})));
    parts
}

/// The same spec with another value in one place.
pub(crate) fn with(spec: &Value, pointer: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a parent");
    match spec.pointer_mut(parent).expect("the parent is there") {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        parent => parent[key.replace("~1", "/").replace("~0", "~")] = value,
    }
    spec
}

/// The fields of a struct, asked from serde itself; other spellings of the same field are not among them.
pub(crate) fn fields<'de, T: Deserialize<'de>>() -> BTreeSet<&'static str> {
    let mut names = Names(BTreeSet::new());
    assert!(T::deserialize(&mut names).is_err(), "the names are all that is asked for");
    names.0.remove("enableHttp2");
    names.0
}

struct Names(BTreeSet<&'static str>);

#[derive(Debug, thiserror::Error)]
#[error("stop")]
struct Stop;

impl Error for Stop {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> serde::Deserializer<'de> for &mut Names {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        self.0.extend(fields);
        Err(Stop)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
