//! `remoteWrite`. PURE.
//!
//! Input: upstream's entries. Output: Prometheus' entries without the identity rules, which rendering puts before the
//! template's relabelings.

use crate::template::duration::PromDuration;
use std::collections::BTreeMap;

use super::credentials::Needs;
use super::http::{self, ProxyFields};
use super::relabel::relabelings;
use super::{azure, text};
use crate::template::api::remote_write::{MetadataConfig, QueueConfig, RemoteWriteSpec, Sigv4};
use crate::template::flags;
use crate::template::prometheus as config;
use crate::template::version::{Capability, Version};
use crate::template::violation::{Findings, Path, Rule};

/// Bounds of the queue where a template is silent: Prometheus' own (50 shards of 2000 samples) are for a server.
const MAX_SHARDS: u32 = 2;
const MAX_SAMPLES_PER_SEND: u32 = 500;
const CAPACITY: u32 = 2500;

/// What to use in place of a header with credentials.
const OTHER_CREDENTIALS: &str = "use basicAuth, authorization, oauth2, sigv4 or azureAd";

/// Headers that Prometheus sets itself and refuses to have changed.
const RESERVED_HEADERS: [&str; 16] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Reads every entry.
pub(crate) fn remote_writes(
    specs: &[RemoteWriteSpec],
    version: Version,
    legacy_names: bool,
    needs: &mut Needs,
    findings: &mut Findings,
) -> Vec<config::RemoteWrite> {
    let root = Path::root("spec").key("remoteWrite");
    if specs.is_empty() {
        findings.warning(&root, "is empty: samples are scraped and sent nowhere");
    }
    let mut writes: Vec<config::RemoteWrite> = Vec::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, spec) in specs.iter().enumerate() {
        let path = root.index(index);
        let write = remote_write(spec, version, legacy_names, &path, needs, findings);
        if let Some(name) = spec.name.as_deref().filter(|name| !name.is_empty()) {
            if let Some(first) = names.insert(name, index) {
                let of = root.index(first).key("name").to_string();
                findings.violation(&path.key("name"), name, Rule::Duplicate { of });
            }
        } else if let Some(first) = writes.iter().position(|other| *other == write) {
            // Prometheus tells unnamed entries apart by their content.
            findings.violation_at(&path, Rule::Duplicate { of: root.index(first).to_string() });
        }
        writes.push(write);
    }
    writes
}

fn remote_write(
    spec: &RemoteWriteSpec,
    version: Version,
    legacy_names: bool,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> config::RemoteWrite {
    one_credential(spec, path, findings);
    if spec.basic_auth.as_ref().is_some_and(|auth| auth.password.is_none()) {
        findings.violation_at(&path.key("basicAuth").key("password"), Rule::Required);
    }
    let url = match spec.url.as_deref().filter(|url| !url.is_empty()) {
        Some(url) => text::url(url, &path.key("url"), findings),
        None => {
            findings.violation_at(&path.key("url"), Rule::Required);
            None
        }
    };
    let proxy = ProxyFields {
        url: spec.proxy_url.as_deref(),
        no_proxy: spec.no_proxy.as_deref(),
        from_environment: spec.proxy_from_environment,
        connect_header: spec.proxy_connect_header.as_ref(),
    };
    let relabel_path = path.key("writeRelabelConfigs");
    config::RemoteWrite {
        url: url.unwrap_or_default(),
        name: text::optional_line(spec.name.as_deref(), &path.key("name"), findings),
        remote_timeout: positive(spec.remote_timeout.as_deref(), &path.key("remoteTimeout"), findings),
        headers: headers(&spec.headers, OTHER_CREDENTIALS, &path.key("headers"), findings),
        protobuf_message: protobuf_message(spec, path, findings),
        send_exemplars: spec.send_exemplars,
        send_native_histograms: spec.send_native_histograms,
        round_robin_dns: gated(
            spec.round_robin_dns,
            Capability::RoundRobinDns,
            version,
            &path.key("roundRobinDNS"),
            findings,
        ),
        write_relabel_configs: relabelings(
            &spec.write_relabel_configs,
            legacy_names,
            &relabel_path,
            findings,
        ),
        basic_auth: spec
            .basic_auth
            .as_ref()
            .map(|auth| http::basic_auth(auth, &path.key("basicAuth"), needs, findings)),
        authorization: spec
            .authorization
            .as_ref()
            .map(|auth| http::authorization(auth, &path.key("authorization"), needs, findings)),
        oauth2: spec.oauth2.as_ref().map(|auth| http::oauth2(auth, &path.key("oauth2"), needs, findings)),
        sigv4: spec.sigv4.as_ref().map(|auth| sigv4(auth, version, &path.key("sigv4"), needs, findings)),
        azuread: spec
            .azure_ad
            .as_ref()
            .map(|auth| azure::azure_ad(auth, version, &path.key("azureAd"), findings)),
        tls_config: spec
            .tls_config
            .as_ref()
            .map(|tls| http::tls_config(tls, &path.key("tlsConfig"), needs, findings)),
        proxy: http::proxy(&proxy, path, findings),
        follow_redirects: spec.follow_redirects,
        enable_http2: spec.enable_http2,
        queue_config: queue(spec.queue_config.as_ref(), &path.key("queueConfig"), findings),
        metadata_config: spec
            .metadata_config
            .as_ref()
            .map(|metadata| metadata_config(metadata, spec, &path.key("metadataConfig"), findings)),
    }
}

/// At most one way to authenticate, and none in clear text.
fn one_credential(spec: &RemoteWriteSpec, path: &Path, findings: &mut Findings) {
    if spec.bearer_token.as_deref().is_some_and(|token| !token.is_empty()) {
        let rule = Rule::ClearText("put the token in a Secret and use authorization.credentials");
        findings.violation_at(&path.key("bearerToken"), rule);
    }
    http::no_path(spec.bearer_token_file.as_deref(), &path.key("bearerTokenFile"), findings);
    let ways = [
        ("authorization", spec.authorization.is_some()),
        ("azureAd", spec.azure_ad.is_some()),
        ("basicAuth", spec.basic_auth.is_some()),
        ("oauth2", spec.oauth2.is_some()),
        ("sigv4", spec.sigv4.is_some()),
    ];
    http::one_credential(&ways, path, findings);
}

/// A boolean of a key that older versions refuse; false is their behaviour anyway.
fn gated(
    value: Option<bool>,
    capability: Capability,
    version: Version,
    path: &Path,
    findings: &mut Findings,
) -> Option<bool> {
    let value = value?;
    if version.has(capability) {
        return Some(value);
    }
    findings.too_new(path, capability.since(), version);
    None
}

/// A duration above zero.
fn positive(text: Option<&str>, path: &Path, findings: &mut Findings) -> Option<PromDuration> {
    let duration = text::duration(text, path, findings)?;
    if duration.is_zero() {
        findings.violation(path, text.unwrap_or_default(), Rule::Text("is not above zero"));
    }
    Some(duration)
}

/// Headers in clear text, which none of Prometheus' own may be among; `instead` of credentials there is something better.
pub(super) fn headers(
    map: &BTreeMap<String, String>,
    instead: &'static str,
    path: &Path,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    for name in map.keys() {
        let lower = name.to_ascii_lowercase();
        let path = path.key(name);
        if !text::is_header_name(name) {
            findings.violation(&path, name, Rule::Text("is not the name of a header"));
        } else if lower == "authorization" {
            findings.violation_at(&path, Rule::ClearText(instead));
        } else if RESERVED_HEADERS.contains(&lower.as_str()) {
            let rule = Rule::Other { rule: "is a header that Prometheus sets itself", fix: "remove it" };
            findings.violation_at(&path, rule);
        }
    }
    http::plain_map(map, path, findings)
}

fn protobuf_message(spec: &RemoteWriteSpec, path: &Path, findings: &mut Findings) -> Option<&'static str> {
    let text = spec.message_version.as_deref().filter(|text| !text.is_empty())?;
    let message = flags::message(text);
    if message.is_none() {
        findings.violation(&path.key("messageVersion"), text, Rule::OneOf(&["V1.0", "V2.0"]));
    }
    message
}

fn sigv4(
    spec: &Sigv4,
    version: Version,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> config::Sigv4 {
    match (&spec.access_key, &spec.secret_key) {
        (Some(access), Some(secret)) => {
            needs.env("AWS_ACCESS_KEY_ID", access, &path.key("accessKey"), findings);
            needs.env("AWS_SECRET_ACCESS_KEY", secret, &path.key("secretKey"), findings);
        }
        (Some(_), None) => findings.violation_at(&path.key("secretKey"), Rule::Required),
        (None, Some(_)) => findings.violation_at(&path.key("accessKey"), Rule::Required),
        (None, None) => {}
    }
    let line = |text: &Option<String>, name: &str, findings: &mut Findings| {
        text::optional_line(text.as_deref(), &path.key(name), findings)
    };
    let role_arn = line(&spec.role_arn, "roleArn", findings);
    let mut external_id = line(&spec.external_id, "externalId", findings);
    if external_id.is_some() && role_arn.is_none() {
        findings.violation_at(&path.key("roleArn"), Rule::Required);
    }
    if external_id.is_some() && !version.has(Capability::Sigv4ExternalId) {
        findings.too_new(&path.key("externalId"), Capability::Sigv4ExternalId.since(), version);
        external_id = None;
    }
    config::Sigv4 {
        region: line(&spec.region, "region", findings),
        profile: line(&spec.profile, "profile", findings),
        role_arn,
        external_id,
        // Upstream writes it for 3.0 as well, which refuses the file.
        use_fips_sts_endpoint: gated(
            spec.use_fips_sts_endpoint,
            Capability::Sigv4Fips,
            version,
            &path.key("useFIPSSTSEndpoint"),
            findings,
        ),
    }
}

fn queue(spec: Option<&QueueConfig>, path: &Path, findings: &mut Findings) -> config::Queue {
    let silent = QueueConfig::default();
    let spec = spec.unwrap_or(&silent);
    let set = |number: Option<u32>| number.filter(|number| *number != 0);
    let (min_shards, samples) = (set(spec.min_shards), set(spec.max_samples_per_send));
    // What the template states raises the bounds on which it is silent.
    let max_shards = set(spec.max_shards).unwrap_or_else(|| MAX_SHARDS.max(min_shards.unwrap_or(0)));
    let max_samples_per_send = samples.unwrap_or(MAX_SAMPLES_PER_SEND);
    let min_backoff = positive(spec.min_backoff.as_deref(), &path.key("minBackoff"), findings);
    let max_backoff = positive(spec.max_backoff.as_deref(), &path.key("maxBackoff"), findings);
    if let Some(min) = min_shards.filter(|min| *min > max_shards) {
        let bound = format!("maxShards, {max_shards}");
        findings.violation(&path.key("minShards"), min.to_string(), Rule::Exceeds { bound });
    }
    let (shortest, longest) =
        (min_backoff.map_or(30, PromDuration::millis), max_backoff.map_or(5000, PromDuration::millis));
    if shortest > longest {
        let bound = format!("maxBackoff, {longest}ms");
        findings.violation(&path.key("minBackoff"), format!("{shortest}ms"), Rule::Exceeds { bound });
    }
    if set(spec.max_retries).is_some() {
        findings.ignored(&path.key("maxRetries"), "Prometheus 3 has no such setting");
    }
    config::Queue {
        capacity: set(spec.capacity).unwrap_or_else(|| CAPACITY.max(max_samples_per_send)),
        min_shards,
        max_shards,
        max_samples_per_send,
        batch_send_deadline: positive(
            spec.batch_send_deadline.as_deref(),
            &path.key("batchSendDeadline"),
            findings,
        ),
        min_backoff,
        max_backoff,
        retry_on_http_429: spec.retry_on_rate_limit,
        sample_age_limit: text::duration(
            spec.sample_age_limit.as_deref(),
            &path.key("sampleAgeLimit"),
            findings,
        ),
    }
}

/// Remote write 2.0 carries metadata in each request: sending it apart is switched off, as upstream does.
fn metadata_config(
    metadata: &MetadataConfig,
    spec: &RemoteWriteSpec,
    path: &Path,
    findings: &mut Findings,
) -> config::Metadata {
    let v2 = spec.message_version.as_deref() == Some("V2.0");
    config::Metadata {
        send: metadata.send == Some(true) && !v2,
        send_interval: positive(metadata.send_interval.as_deref(), &path.key("sendInterval"), findings),
        max_samples_per_send: metadata.max_samples_per_send.filter(|number| *number != 0),
    }
}
