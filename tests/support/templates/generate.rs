//! Templates from a seed: most of what is in them is good, some is not.

use serde_json::{Map, Value, json};

use super::wrong::wrong;
use crate::support::monitors::generate::{
    Dice, SERIES, TARGETS, authorization, oauth2, put, relabelings, tls,
};
use crate::support::monitors::objects::{VERSIONS, agent, secret};

/// An id of Azure.
const ID: &str = "2b2e2f0c-8f0c-4a55-8d4e-0f7a6c1d9e3b";

/// One template.
pub(crate) fn template(dice: &mut Dice) -> Value {
    let mut spec = Map::new();
    spec.insert("version".to_owned(), json!(dice.of(&VERSIONS)));
    scraping(&mut spec, dice);
    labels(&mut spec, dice);
    limits(&mut spec, dice);
    names_and_histograms(&mut spec, dice);
    process(&mut spec, dice);
    flags(&mut spec, dice);
    container(&mut spec, dice);
    without_effect(&mut spec, dice);
    let writes: Vec<_> = (0..dice.below(4)).map(|index| remote_write(index, dice)).collect();
    spec.insert("remoteWrite".to_owned(), json!(writes));
    if dice.one_in(6) {
        let (key, value) = dice.of(&wrong());
        spec.insert(key.to_owned(), value);
    }
    agent(Value::Object(spec))
}

fn scraping(spec: &mut Map<String, Value>, dice: &mut Dice) {
    put(spec, dice, 3, "scrapeInterval", |dice| json!(dice.of(&["15s", "1m", "90s", "2m30s"])));
    put(spec, dice, 4, "scrapeTimeout", |dice| json!(dice.of(&["5s", "15s", "500ms"])));
    put(spec, dice, 4, "scrapeProtocols", |dice| {
        let all = ["PrometheusText1.0.0", "OpenMetricsText1.0.0", "PrometheusProto", "PrometheusText0.0.4"];
        json!(all[usize::try_from(dice.below(3)).expect("a short list")..])
    });
    put(spec, dice, 4, "scrapeClasses", |dice| {
        json!([{"name": "plain", "default": dice.flag(), "relabelings": relabelings(dice, TARGETS),
            "metricRelabelings": relabelings(dice, SERIES), "fallbackScrapeProtocol": "PrometheusText0.0.4"}])
    });
    put(spec, dice, 6, "scrapeFailureLogFile", |dice| {
        json!(dice.of(&["failures.log", "/dev/stdout", "/scratch/failures.log", "/var/log/failures.log"]))
    });
    for key in ["overrideHonorLabels", "overrideHonorTimestamps", "ignoreNamespaceSelectors", "listenLocal"] {
        put(spec, dice, 6, key, |dice| json!(dice.flag()));
    }
    put(spec, dice, 6, "podTargetLabels", |_| json!(["team", "app.kubernetes.io/name"]));
    put(spec, dice, 6, "enforcedNamespaceLabel", |_| json!("enforced"));
    put(
        spec,
        dice,
        6,
        "excludedFromEnforcement",
        |_| json!([{"resource": "podmonitors", "namespace": "shop"}]),
    );
    for key in ["podMonitorSelector", "podMonitorNamespaceSelector"] {
        put(spec, dice, 4, key, |dice| dice.of(&[json!({}), json!({"matchLabels": {"team": "a"}})]));
    }
    if spec.contains_key("podMonitorSelector") {
        spec.insert("serviceDiscoveryRole".to_owned(), json!("EndpointSlice"));
    }
    for (pods, services) in [
        ("podMonitorSelector", "serviceMonitorSelector"),
        ("podMonitorNamespaceSelector", "serviceMonitorNamespaceSelector"),
    ] {
        if let Some(selector) = spec.get(pods).cloned() {
            spec.insert(services.to_owned(), selector);
        }
    }
}

fn labels(spec: &mut Map<String, Value>, dice: &mut Dice) {
    put(spec, dice, 2, "externalLabels", |dice| {
        dice.of(&[
            json!({"cluster": "eu-1"}),
            json!({"cluster": "$5 and $(OTHER)", "prometheus": "mine"}),
            json!({"pod": "$(POD_NAME)", "both": "a$-$(POD_NAME)$"}),
            json!({"a.b": "c", "replica": "x"}),
        ])
    });
    put(spec, dice, 4, "prometheusExternalLabelName", |dice| json!(dice.of(&["", "agent", "cluster"])));
    put(spec, dice, 4, "replicaExternalLabelName", |dice| json!(dice.of(&["", "replica", "r"])));
}

fn limits(spec: &mut Map<String, Value>, dice: &mut Dice) {
    for (plain, enforced) in [
        ("sampleLimit", "enforcedSampleLimit"),
        ("targetLimit", "enforcedTargetLimit"),
        ("labelLimit", "enforcedLabelLimit"),
        ("labelNameLengthLimit", "enforcedLabelNameLengthLimit"),
        ("labelValueLengthLimit", "enforcedLabelValueLengthLimit"),
    ] {
        put(spec, dice, 4, plain, |dice| json!(dice.of(&[0, 100, 1000])));
        put(spec, dice, 4, enforced, |dice| json!(dice.of(&[0, 50, 500])));
    }
    put(spec, dice, 4, "keepDroppedTargets", |dice| json!(dice.of(&[0, 10, 100])));
    put(spec, dice, 4, "enforcedKeepDroppedTargets", |dice| json!(dice.of(&[0, 50])));
    put(spec, dice, 4, "bodySizeLimit", |dice| json!(dice.of(&["0", "512KB", "5MB", "50MB"])));
    put(spec, dice, 4, "enforcedBodySizeLimit", |dice| json!(dice.of(&["1MB", "20MB"])));
}

fn names_and_histograms(spec: &mut Map<String, Value>, dice: &mut Dice) {
    if dice.one_in(10) {
        spec.insert("nameValidationScheme".to_owned(), json!("Legacy"));
    } else {
        put(spec, dice, 4, "nameValidationScheme", |_| json!("UTF8"));
    }
    put(spec, dice, 4, "nameEscapingScheme", |dice| {
        json!(dice.of(&["AllowUTF8", "Underscores", "Dots", "Values"]))
    });
    for key in ["convertClassicHistogramsToNHCB", "scrapeClassicHistograms", "scrapeNativeHistograms"] {
        put(spec, dice, 5, key, |dice| json!(dice.flag()));
    }
}

fn process(spec: &mut Map<String, Value>, dice: &mut Dice) {
    put(spec, dice, 3, "otlp", otlp);
    put(spec, dice, 4, "enableOTLPReceiver", |dice| json!(dice.flag()));
    put(spec, dice, 4, "runtime", |dice| dice.of(&[json!({"goGC": 60}), json!({"goGC": -1}), json!({})]));
    put(spec, dice, 4, "tracingConfig", tracing);
    put(spec, dice, 4, "tsdb", |dice| {
        let mut tsdb = Map::new();
        put(&mut tsdb, dice, 2, "outOfOrderTimeWindow", |dice| json!(dice.of(&["10m", "90s", "0s"])));
        put(&mut tsdb, dice, 3, "staleSeriesCompactionThreshold", |dice| {
            dice.of(&[json!("0.5"), json!("250m"), json!(1), json!(0)])
        });
        put(&mut tsdb, dice, 3, "chunkEncoding", |dice| json!({"floats": dice.of(&["Xor", "Xor2"])}));
        Value::Object(tsdb)
    });
}

fn otlp(dice: &mut Dice) -> Value {
    let mut otlp = Map::new();
    match dice.below(4) {
        0 => {
            otlp.insert("promoteResourceAttributes".to_owned(), json!(["service.name", "k8s.pod name"]));
        }
        1 => {
            otlp.insert("promoteAllResourceAttributes".to_owned(), json!(true));
            put(&mut otlp, dice, 2, "ignoreResourceAttributes", |_| json!(["process.pid"]));
        }
        2 => drop(otlp.insert("promoteAllResourceAttributes".to_owned(), json!(false))),
        _ => {}
    }
    put(&mut otlp, dice, 2, "translationStrategy", |dice| {
        json!(dice.of(&[
            "NoUTF8EscapingWithSuffixes",
            "UnderscoreEscapingWithSuffixes",
            "NoTranslation",
            "UnderscoreEscapingWithoutSuffixes",
        ]))
    });
    for key in [
        "keepIdentifyingResourceAttributes",
        "convertHistogramsToNHCB",
        "promoteScopeMetadata",
        "labelNameUnderscoreSanitization",
        "labelNamePreserveMultipleUnderscores",
    ] {
        put(&mut otlp, dice, 3, key, |dice| json!(dice.flag()));
    }
    Value::Object(otlp)
}

fn tracing(dice: &mut Dice) -> Value {
    let mut tracing = Map::new();
    tracing.insert("endpoint".to_owned(), json!("traces.example:4317"));
    put(&mut tracing, dice, 2, "clientType", |dice| json!(dice.of(&["http", "grpc", "HTTP", "GRPC"])));
    put(&mut tracing, dice, 2, "samplingFraction", |dice| {
        dice.of(&[json!("0.1"), json!("250m"), json!(1), json!(0), json!("1e-3")])
    });
    put(&mut tracing, dice, 2, "insecure", |dice| json!(dice.flag()));
    put(&mut tracing, dice, 2, "headers", |_| json!({"X-Scope-OrgID": "a", "b": "7"}));
    put(&mut tracing, dice, 2, "compression", |dice| json!(dice.of(&["gzip", "Gzip"])));
    put(&mut tracing, dice, 2, "timeout", |dice| json!(dice.of(&["5s", "90s"])));
    put(&mut tracing, dice, 2, "tlsConfig", tls);
    Value::Object(tracing)
}

fn flags(spec: &mut Map<String, Value>, dice: &mut Dice) {
    put(spec, dice, 4, "enableFeatures", |dice| {
        dice.of(&[
            json!(["exemplar-storage"]),
            json!(["agent", "st-storage"]),
            json!(["native-histograms", "xor2-encoding"]),
        ])
    });
    put(spec, dice, 3, "enableRemoteWriteReceiver", |dice| json!(dice.flag()));
    put(spec, dice, 4, "remoteWriteReceiverMessageVersions", |dice| {
        dice.of(&[json!(["V2.0"]), json!(["V1.0", "V2.0"])])
    });
    put(spec, dice, 5, "externalUrl", |dice| json!(dice.of(&["https://agents.example/shop", "/shop"])));
    put(spec, dice, 5, "routePrefix", |dice| json!(dice.of(&["/", "/shop", "/shop/"])));
    put(spec, dice, 5, "web", |dice| {
        dice.of(&[
            json!({"pageTitle": "shop"}),
            json!({"maxConnections": 7}),
            json!({"httpConfig": {"http2": false}}),
        ])
    });
    put(spec, dice, 3, "logLevel", |dice| json!(dice.of(&["debug", "info", "warn", "error"])));
    put(spec, dice, 3, "logFormat", |dice| json!(dice.of(&["json", "logfmt"])));
    put(spec, dice, 3, "walCompression", |dice| json!(dice.flag()));
    put(spec, dice, 4, "additionalArgs", |dice| {
        dice.of(&[
            json!([{"name": "scrape.discovery-reload-interval", "value": "3s"}]),
            json!([{"name": "no-scrape.adjust-timestamps"}, {"name": "web.max-notifications-subscribers", "value": "7"}]),
            json!([{"name": "storage.agent.wal-segment-size", "value": "20MB"}]),
            json!([{"name": "web.page-title", "value": "another"}]),
        ])
    });
}

fn container(spec: &mut Map<String, Value>, dice: &mut Dice) {
    put(spec, dice, 6, "paused", |_| json!(true));
    put(spec, dice, 6, "image", |_| json!("quay.io/prometheus/prometheus:v3.13.5"));
    put(spec, dice, 6, "imagePullPolicy", |dice| json!(dice.of(&["Always", "IfNotPresent"])));
    put(spec, dice, 6, "storage", |_| json!({"emptyDir": {"sizeLimit": "1Gi"}}));
    put(spec, dice, 4, "resources", |_| json!({"limits": {"memory": "256Mi"}}));
    put(spec, dice, 6, "containers", |dice| {
        dice.of(&[
            json!([{"name": "prometheus", "env": [{"name": "A", "value": "b"}]}]),
            json!([{"name": "prometheus", "workingDir": "/"}]),
            json!([{"name": "another", "image": "a"}]),
        ])
    });
    put(spec, dice, 3, "secrets", |dice| dice.of(&[json!(["credentials"]), json!(["a.b", "c"])]));
    put(spec, dice, 3, "configMaps", |dice| dice.of(&[json!(["authorities"]), json!(["a.b", "c"])]));
    if dice.one_in(2) {
        let volumes = [
            json!([{"name": "s", "emptyDir": {}}]),
            json!([{"name": "s"}, {"name": "t", "hostPath": {"path": "/"}}]),
        ];
        let kind = usize::from(dice.one_in(10));
        spec.insert("volumes".to_owned(), volumes[kind].clone());
        spec.insert("volumeMounts".to_owned(), json!([{"name": "s", "mountPath": "/scratch"}]));
    }
}

/// Fields that change nothing here.
fn without_effect(spec: &mut Map<String, Value>, dice: &mut Dice) {
    let (key, value) = dice.of(&[
        ("replicas", json!(2)),
        ("additionalScrapeConfigs", secret("token")),
        ("probeSelector", json!({})),
        ("serviceAccountName", json!("prometheus")),
        ("podMetadata", json!({"labels": {"a": "b"}})),
        ("terminationGracePeriodSeconds", json!(60)),
        ("reloadStrategy", json!("ProcessSignal")),
    ]);
    spec.insert(key.to_owned(), value);
}

fn remote_write(index: u64, dice: &mut Dice) -> Value {
    let mut write = Map::new();
    write.insert("url".to_owned(), json!(format!("https://metrics-{index}.example/api/v1/write")));
    put(&mut write, dice, 2, "name", |_| json!(format!("write-{index}")));
    put(&mut write, dice, 3, "messageVersion", |dice| json!(dice.of(&["V1.0", "V2.0"])));
    for key in ["sendExemplars", "sendNativeHistograms", "followRedirects", "enableHTTP2", "roundRobinDNS"] {
        put(&mut write, dice, 4, key, |dice| json!(dice.flag()));
    }
    put(&mut write, dice, 3, "remoteTimeout", |dice| json!(dice.of(&["15s", "90s"])));
    put(&mut write, dice, 3, "headers", |_| json!({"X-Scope-OrgID": "7", "X-Other": "$a: b"}));
    put(&mut write, dice, 3, "writeRelabelConfigs", |dice| relabelings(dice, SERIES));
    put(&mut write, dice, 4, "tlsConfig", tls);
    credentials(&mut write, dice);
    put(&mut write, dice, 3, "queueConfig", queue);
    put(&mut write, dice, 3, "metadataConfig", |dice| {
        dice.of(&[
            json!({}),
            json!({"send": true, "sendInterval": "90s"}),
            json!({"send": false, "maxSamplesPerSend": 100}),
        ])
    });
    match dice.below(8) {
        0 => drop(write.insert("proxyFromEnvironment".to_owned(), json!(dice.flag()))),
        1 => {
            write.insert("proxyUrl".to_owned(), json!("http://proxy.example:3128"));
            put(&mut write, dice, 2, "noProxy", |_| json!("localhost,10.0.0.0/8"));
            put(
                &mut write,
                dice,
                6,
                "proxyConnectHeader",
                |_| json!({"Proxy-Authorization": [secret("token")]}),
            );
        }
        _ => {}
    }
    Value::Object(write)
}

fn credentials(write: &mut Map<String, Value>, dice: &mut Dice) {
    let (key, value) = match dice.below(10) {
        0 => ("basicAuth", json!({"username": secret("user"), "password": secret("password")})),
        1 => ("authorization", authorization(dice)),
        2 => {
            let mut value = oauth2(dice);
            if value["proxyUrl"].is_null() {
                value["proxyFromEnvironment"] = json!(dice.flag());
            }
            ("oauth2", value)
        }
        3 | 4 => ("sigv4", sigv4(dice)),
        5..=7 => ("azureAd", azure(dice)),
        _ => return,
    };
    write.insert(key.to_owned(), value);
}

fn sigv4(dice: &mut Dice) -> Value {
    let mut sigv4 = Map::new();
    put(&mut sigv4, dice, 2, "region", |_| json!("eu-west-1"));
    put(&mut sigv4, dice, 2, "profile", |_| json!("metrics"));
    put(&mut sigv4, dice, 2, "useFIPSSTSEndpoint", |dice| json!(dice.flag()));
    if dice.flag() {
        sigv4.insert("roleArn".to_owned(), json!("arn:aws:iam::123456789012:role/metrics"));
        put(&mut sigv4, dice, 2, "externalId", |_| json!("shop"));
    }
    if dice.flag() {
        sigv4.insert("accessKey".to_owned(), secret("id"));
        sigv4.insert("secretKey".to_owned(), secret(dice.of(&["secret", "secret", "password"])));
    }
    Value::Object(sigv4)
}

fn azure(dice: &mut Dice) -> Value {
    let (key, value) = dice.of(&[
        ("managedIdentity", json!({"clientId": ID})),
        ("managedIdentity", json!({})),
        ("sdk", json!({"tenantId": ID})),
        ("sdk", json!({})),
        ("workloadIdentity", json!({"clientId": ID, "tenantId": ID})),
        ("oauth", json!({"clientId": ID, "tenantId": ID, "clientSecret": secret("secret")})),
    ]);
    let mut azure = Map::from_iter([(key.to_owned(), value)]);
    put(&mut azure, dice, 2, "cloud", |dice| {
        json!(dice.of(&["AzurePublic", "AzureChina", "AzureGovernment"]))
    });
    put(&mut azure, dice, 3, "scope", |_| json!("https://monitor.example/.default"));
    Value::Object(azure)
}

fn queue(dice: &mut Dice) -> Value {
    let mut queue = Map::new();
    put(&mut queue, dice, 2, "capacity", |dice| json!(dice.of(&[0, 1000, 20_000])));
    put(&mut queue, dice, 2, "minShards", |dice| json!(dice.of(&[1, 3])));
    put(&mut queue, dice, 2, "maxShards", |dice| json!(dice.of(&[0, 2, 10])));
    put(&mut queue, dice, 2, "maxSamplesPerSend", |dice| json!(dice.of(&[100, 5000])));
    put(&mut queue, dice, 2, "batchSendDeadline", |dice| json!(dice.of(&["5s", "90s"])));
    put(&mut queue, dice, 3, "minBackoff", |dice| json!(dice.of(&["10ms", "1s"])));
    put(&mut queue, dice, 3, "maxBackoff", |dice| json!(dice.of(&["10s", "100ms"])));
    put(&mut queue, dice, 2, "retryOnRateLimit", |dice| json!(dice.flag()));
    put(&mut queue, dice, 3, "sampleAgeLimit", |dice| json!(dice.of(&["5m", "0s"])));
    put(&mut queue, dice, 4, "maxRetries", |_| json!(3));
    Value::Object(queue)
}
