//! Each field of a template alone, by hand, with what it does.

use serde_json::{Value, json};

use crate::support::monitors::objects::{config_map, secret};

/// Where a field shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// In the configuration.
    Config,
    /// In the agent's flags.
    Flags,
    /// In the container or its volumes.
    Pod,
    /// With monitors or in the controller, which are tested elsewhere.
    Elsewhere,
    /// Nowhere, and it is reported.
    Nothing,
    /// The template is rejected.
    Rejected,
}

/// A field with a value.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Path of the field, without numbers.
    pub(crate) path: String,
    /// A spec without the field.
    pub(crate) base: Value,
    /// The same with it.
    pub(crate) spec: Value,
    pub(crate) does: Does,
}

use Does::{Config, Elsewhere, Flags, Nothing, Pod, Rejected};

const ID: &str = "2b2e2f0c-8f0c-4a55-8d4e-0f7a6c1d9e3b";

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let top = pod_fields().into_iter().chain(config_fields()).chain(ignored_fields());
    let mut cases: Vec<_> =
        top.map(|(name, value, does)| case("", &json!({}), "", name, value, does)).collect();
    let volume = json!({"volumes": [{"name": "a"}]});
    cases.push(case("", &volume, "", "volumeMounts", json!([{"name": "a", "mountPath": "/a"}]), Pod));
    let writes = json!({"remoteWrite": [{"url": "https://metrics.example/write"}]});
    for (name, value, does) in write_fields() {
        let base = if name == "url" {
            json!({"remoteWrite": [{"url": "https://a.example"}]})
        } else {
            writes.clone()
        };
        cases.push(case("remoteWrite", &base, "/remoteWrite/0", name, value, does));
    }
    for (name, parent, fields) in write_parts() {
        let mut base = writes.clone();
        base["remoteWrite"][0][name] = parent;
        let pointer = format!("/remoteWrite/0/{name}");
        for (field, value, does) in fields {
            cases.push(case(&format!("remoteWrite.{name}"), &base, &pointer, field, value, does));
        }
    }
    for (name, parent, fields) in process_parts() {
        let base = json!({name: parent});
        for (field, value, does) in fields {
            cases.push(case(name, &base, &format!("/{name}"), field, value, does));
        }
    }
    cases
}

type Field = (&'static str, Value, Does);

fn case(path: &str, base: &Value, pointer: &str, name: &str, value: Value, does: Does) -> Case {
    let mut spec = base.clone();
    spec.pointer_mut(pointer).expect("the parent is there")[name] = value;
    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    Case { path, base: base.clone(), spec, does }
}

fn pod_fields() -> Vec<Field> {
    vec![
        ("paused", json!(true), Elsewhere),
        ("storage", json!({"emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}), Pod),
        ("version", json!("v3.13.5"), Pod),
        ("image", json!("registry.example/prometheus:v3.16.0"), Pod),
        ("imagePullPolicy", json!("Always"), Pod),
        ("resources", json!({"requests": {"cpu": "20m"}}), Pod),
        ("containers", json!([{"name": "prometheus", "env": [{"name": "A", "value": "b"}]}]), Pod),
        ("volumes", json!([{"name": "a", "secret": {"secretName": "b"}}]), Pod),
        ("secrets", json!(["credentials", "a.b"]), Pod),
        ("configMaps", json!(["authorities"]), Pod),
        ("listenLocal", json!(true), Elsewhere),
        ("additionalArgs", json!([{"name": "scrape.adjust-timestamps"}]), Flags),
        ("enableFeatures", json!(["exemplar-storage", "native-histograms"]), Flags),
        ("enableRemoteWriteReceiver", json!(true), Flags),
        ("remoteWriteReceiverMessageVersions", json!(["V2.0"]), Elsewhere),
        ("enableOTLPReceiver", json!(true), Flags),
        ("externalUrl", json!("https://agents.example/shop"), Flags),
        ("routePrefix", json!("/shop"), Flags),
        ("logLevel", json!("warn"), Flags),
        ("logFormat", json!("json"), Flags),
        ("web", json!({"pageTitle": "shop"}), Flags),
        ("walCompression", json!(false), Flags),
    ]
}

fn config_fields() -> Vec<Field> {
    let mut fields = vec![
        ("scrapeInterval", json!("90s"), Config),
        ("scrapeTimeout", json!("7s"), Config),
        ("scrapeProtocols", json!(["PrometheusText1.0.0", "PrometheusProto"]), Config),
        ("externalLabels", json!({"cluster": "$5", "pod": "$(POD_NAME)", "prometheus": "mine"}), Config),
        ("prometheusExternalLabelName", json!(""), Config),
        ("replicaExternalLabelName", json!("replica"), Config),
        ("otlp", json!({"promoteResourceAttributes": ["service.name"]}), Config),
        ("tsdb", json!({"outOfOrderTimeWindow": "10m"}), Config),
        ("runtime", json!({"goGC": 60}), Config),
        ("tracingConfig", json!({"endpoint": "traces.example:4317"}), Config),
        ("scrapeFailureLogFile", json!("failures.log"), Config),
        ("nameValidationScheme", json!("Legacy"), Config),
        ("nameEscapingScheme", json!("Values"), Config),
        ("convertClassicHistogramsToNHCB", json!(true), Config),
        ("scrapeClassicHistograms", json!(true), Config),
        ("scrapeNativeHistograms", json!(true), Config),
        ("bodySizeLimit", json!("5MB"), Config),
        ("enforcedBodySizeLimit", json!("1MB"), Config),
        ("enforcedNamespaceLabel", json!("namespace"), Config),
        ("excludedFromEnforcement", json!([{"resource": "podmonitors", "namespace": "shop"}]), Elsewhere),
        ("overrideHonorLabels", json!(true), Elsewhere),
        ("overrideHonorTimestamps", json!(true), Config),
        ("ignoreNamespaceSelectors", json!(true), Elsewhere),
        ("podTargetLabels", json!(["team"]), Config),
        ("scrapeClasses", json!([{"name": "a", "default": true}]), Elsewhere),
        ("podMonitorSelector", json!({}), Elsewhere),
        ("serviceMonitorSelector", json!({}), Elsewhere),
        ("serviceMonitorNamespaceSelector", json!({}), Elsewhere),
        ("podMonitorNamespaceSelector", json!({}), Elsewhere),
        ("serviceDiscoveryRole", json!("EndpointSlice"), Elsewhere),
        ("remoteWrite", json!([{"url": "https://metrics.example/write"}]), Config),
    ];
    for name in [
        "sampleLimit",
        "targetLimit",
        "labelLimit",
        "labelNameLengthLimit",
        "labelValueLengthLimit",
        "keepDroppedTargets",
    ] {
        fields.push((name, json!(100), Config));
    }
    for name in [
        "enforcedSampleLimit",
        "enforcedTargetLimit",
        "enforcedLabelLimit",
        "enforcedLabelNameLengthLimit",
        "enforcedLabelValueLengthLimit",
        "enforcedKeepDroppedTargets",
    ] {
        fields.push((name, json!(50), Config));
    }
    fields
}

fn ignored_fields() -> Vec<Field> {
    let fields = [
        ("mode", json!("DaemonSet")),
        ("replicas", json!(2)),
        ("shards", json!(2)),
        ("shardingStrategy", json!({"mode": "Address"})),
        ("podManagementPolicy", json!("Parallel")),
        ("updateStrategy", json!({"type": "RollingUpdate"})),
        ("serviceName", json!("agents")),
        ("minReadySeconds", json!(5)),
        ("persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain"})),
        ("portName", json!("metrics")),
        ("reloadStrategy", json!("ProcessSignal")),
        ("maximumStartupDurationSeconds", json!(90)),
        ("initContainers", json!([{"name": "a", "image": "b"}])),
        ("securityContext", json!({"runAsUser": 1000})),
        ("imagePullSecrets", json!([{"name": "a"}])),
        ("podMetadata", json!({"labels": {"a": "b"}})),
        ("nodeSelector", json!({"a": "b"})),
        ("affinity", json!({"nodeAffinity": {}})),
        ("tolerations", json!([{"operator": "Exists"}])),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
        ),
        ("schedulerName", json!("a")),
        ("priorityClassName", json!("a")),
        ("serviceAccountName", json!("a")),
        ("automountServiceAccountToken", json!(true)),
        ("dnsPolicy", json!("None")),
        ("dnsConfig", json!({"nameservers": ["10.0.0.1"]})),
        ("hostAliases", json!([{"ip": "10.0.0.1", "hostnames": ["a"]}])),
        ("enableServiceLinks", json!(true)),
        ("hostNetwork", json!(true)),
        ("hostUsers", json!(false)),
        ("terminationGracePeriodSeconds", json!(60)),
        ("arbitraryFSAccessThroughSMs", json!({"deny": true})),
        ("apiserverConfig", json!({"host": "https://kubernetes.example"})),
        ("probeSelector", json!({})),
        ("probeNamespaceSelector", json!({})),
        ("scrapeConfigSelector", json!({})),
        ("scrapeConfigNamespaceSelector", json!({})),
        ("additionalScrapeConfigs", json!({"name": "credentials", "key": "token"})),
    ];
    fields.map(|(name, value)| (name, value, Nothing)).to_vec()
}

fn write_fields() -> Vec<Field> {
    vec![
        ("url", json!("http://[fd00::1]:9090/write?a=%20b"), Config),
        ("name", json!("main"), Config),
        ("messageVersion", json!("V2.0"), Config),
        ("sendExemplars", json!(true), Config),
        ("sendNativeHistograms", json!(false), Config),
        ("remoteTimeout", json!("90s"), Config),
        ("headers", json!({"X-Scope-OrgID": "7", "X-Other": "$a: b"}), Config),
        ("writeRelabelConfigs", json!([{"sourceLabels": ["a"], "regex": "b", "action": "Drop"}]), Config),
        ("basicAuth", json!({"username": secret("user"), "password": secret("password")}), Config),
        ("authorization", json!({"credentials": secret("token")}), Config),
        ("oauth2", oauth2(), Config),
        ("sigv4", json!({}), Config),
        ("azureAd", json!({"managedIdentity": {}}), Config),
        ("bearerToken", json!("token"), Rejected),
        ("bearerTokenFile", json!("/token"), Rejected),
        ("tlsConfig", json!({"insecureSkipVerify": true}), Config),
        ("proxyUrl", json!("http://proxy.example:3128"), Config),
        ("noProxy", json!("localhost"), Rejected),
        ("proxyFromEnvironment", json!(true), Config),
        ("proxyConnectHeader", json!({"a": [secret("token")]}), Rejected),
        ("followRedirects", json!(false), Config),
        ("enableHTTP2", json!(false), Config),
        ("queueConfig", json!({"capacity": 100}), Config),
        ("metadataConfig", json!({}), Config),
        ("roundRobinDNS", json!(true), Config),
    ]
}

fn oauth2() -> Value {
    json!({"clientId": {"secret": secret("id")}, "clientSecret": secret("secret"),
        "tokenUrl": "https://login.example/", "endpointParams": {"client_id": "a"}})
}

type Part = (&'static str, Value, Vec<Field>);

fn write_parts() -> Vec<Part> {
    vec![
        (
            "queueConfig",
            json!({}),
            vec![
                ("capacity", json!(9000), Config),
                ("minShards", json!(3), Config),
                ("maxShards", json!(9), Config),
                ("maxSamplesPerSend", json!(2000), Config),
                ("batchSendDeadline", json!("90s"), Config),
                ("maxRetries", json!(3), Nothing),
                ("minBackoff", json!("1s"), Config),
                ("maxBackoff", json!("90s"), Config),
                ("retryOnRateLimit", json!(true), Config),
                ("sampleAgeLimit", json!("10m"), Config),
            ],
        ),
        (
            "metadataConfig",
            json!({}),
            vec![
                ("send", json!(true), Config),
                ("sendInterval", json!("90s"), Config),
                ("maxSamplesPerSend", json!(100), Config),
            ],
        ),
        (
            "sigv4",
            json!({"accessKey": secret("id"), "secretKey": secret("secret"), "roleArn": "arn:aws:iam::1:role/a"}),
            vec![
                ("region", json!("eu-west-1"), Config),
                ("accessKey", secret("user"), Pod),
                ("secretKey", secret("password"), Pod),
                ("profile", json!("a"), Config),
                ("roleArn", json!("arn:aws:iam::2:role/b"), Config),
                ("externalId", json!("a"), Config),
                ("useFIPSSTSEndpoint", json!(true), Config),
            ],
        ),
        (
            "azureAd",
            json!({"managedIdentity": {"clientId": ID}}),
            vec![
                ("cloud", json!("AzureChina"), Config),
                ("managedIdentity", json!({}), Config),
                (
                    "oauth",
                    json!({"clientId": ID, "tenantId": ID, "clientSecret": secret("secret")}),
                    Rejected,
                ),
                ("sdk", json!({}), Rejected),
                ("workloadIdentity", json!({"clientId": ID, "tenantId": ID}), Rejected),
                ("scope", json!("https://a.example/.default"), Config),
            ],
        ),
        (
            "oauth2",
            oauth2(),
            vec![
                ("clientId", json!({"configMap": config_map("id")}), Elsewhere),
                ("clientSecret", secret("password"), Config),
                ("tokenUrl", json!("https://other.example/"), Config),
                ("scopes", json!(["a"]), Config),
                ("endpointParams", json!({"client_id": "a", "audience": "b"}), Config),
                ("tlsConfig", json!({"serverName": "a"}), Config),
                ("proxyUrl", json!("http://proxy.example:3128"), Config),
                ("noProxy", json!("a"), Rejected),
                ("proxyFromEnvironment", json!(true), Config),
                ("proxyConnectHeader", json!({"a": [secret("token")]}), Rejected),
            ],
        ),
        ("tlsConfig", json!({}), tls()),
        (
            "authorization",
            json!({"credentials": secret("token")}),
            vec![
                ("type", json!(" Token "), Config),
                ("credentials", secret("password"), Config),
                ("credentialsFile", json!("/token"), Rejected),
            ],
        ),
    ]
}

fn tls() -> Vec<Field> {
    vec![
        ("ca", json!({"configMap": config_map("ca.crt")}), Config),
        ("cert", json!({"secret": secret("tls.crt")}), Rejected),
        ("keySecret", secret("tls.key"), Rejected),
        ("caFile", json!("/ca.crt"), Rejected),
        ("certFile", json!("/tls.crt"), Rejected),
        ("keyFile", json!("/tls.key"), Rejected),
        ("serverName", json!("a"), Config),
        ("insecureSkipVerify", json!(false), Config),
        ("minVersion", json!("TLS12"), Config),
        ("maxVersion", json!("TLS13"), Config),
    ]
}

fn process_parts() -> Vec<Part> {
    vec![
        (
            "otlp",
            json!({"promoteAllResourceAttributes": true}),
            vec![
                ("promoteAllResourceAttributes", json!(false), Config),
                ("ignoreResourceAttributes", json!(["process.pid"]), Config),
                ("promoteResourceAttributes", json!(["a"]), Rejected),
                ("translationStrategy", json!("NoTranslation"), Config),
                ("keepIdentifyingResourceAttributes", json!(true), Config),
                ("convertHistogramsToNHCB", json!(true), Config),
                ("promoteScopeMetadata", json!(true), Config),
                ("labelNameUnderscoreSanitization", json!(false), Config),
                ("labelNamePreserveMultipleUnderscores", json!(false), Config),
            ],
        ),
        (
            "tracingConfig",
            json!({"endpoint": "traces.example:4317"}),
            vec![
                ("clientType", json!("HTTP"), Config),
                ("endpoint", json!("other.example:4317"), Config),
                ("samplingFraction", json!("250m"), Config),
                ("insecure", json!(true), Config),
                ("headers", json!({"a": "b", "c": "d", "e": "f"}), Config),
                ("compression", json!("Gzip"), Config),
                ("timeout", json!("90s"), Config),
                ("tlsConfig", json!({"ca": {"secret": secret("ca.crt")}, "minVersion": "TLS12"}), Config),
            ],
        ),
        (
            "tsdb",
            json!({}),
            vec![
                ("outOfOrderTimeWindow", json!("90s"), Config),
                ("staleSeriesCompactionThreshold", json!("0.5"), Nothing),
                ("chunkEncoding", json!({"floats": "Xor2"}), Nothing),
            ],
        ),
        (
            "web",
            json!({}),
            vec![
                ("pageTitle", json!("shop"), Flags),
                ("maxConnections", json!(7), Flags),
                ("tlsConfig", json!({"certFile": "/a", "keyFile": "/b"}), Nothing),
                ("httpConfig", json!({"http2": false}), Nothing),
            ],
        ),
    ]
}
