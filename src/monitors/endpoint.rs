//! One endpoint of a monitor without its relabelings: times, HTTP client, credentials. PURE.
//!
//! Input: the endpoint, the agent that scrapes it. Output: the job's keys; violations for what the operator refuses and for
//! what would stop an agent.

use std::collections::BTreeMap;

use super::api::PodMetricsEndpoint;
use super::fields;
use crate::template::agent::{Agent, ScrapeClass};
use crate::template::duration::PromDuration;
use crate::template::prometheus::{Authorization, Flow, ScrapeConfig, Tls};
use crate::template::validate::credentials::Needs;
use crate::template::validate::http::{self, ProxyFields};
use crate::template::validate::{guard_rails, re2, text};
use crate::template::violation::{Findings, Path, Rule};

const SCHEMES: &[&str] = &["http", "https"];

/// The keys of the job that the endpoint decides, with what its class has for those that say nothing of it.
pub(super) fn job(
    endpoint: &PodMetricsEndpoint,
    path: &Path,
    class: &ScrapeClass,
    needs: &mut Needs,
    findings: &mut Findings,
) -> ScrapeConfig {
    one_credential(endpoint, path, findings);
    proxy(endpoint, path, findings);
    let lowered = endpoint.scheme.as_deref().map(str::to_ascii_lowercase);
    let duration = |text: &Option<String>, name: &str, findings: &mut Findings| {
        text::duration(text.as_deref(), &path.key(name), findings)
    };
    let tls_path = path.key("tlsConfig");
    let tls = endpoint.tls_config.as_ref().filter(|tls| tls.is_stated());
    let tls = tls.map(|tls| http::tls_config(tls, &tls_path, needs, findings));
    let basic = endpoint.basic_auth.as_ref().map(|auth| {
        let path = path.key("basicAuth");
        if auth.password.is_none() {
            findings.violation_at(&path.key("password"), Rule::Required);
        }
        http::basic_auth(auth, &path, needs, findings)
    });
    let oauth2 = endpoint.oauth2.as_ref().map(|auth| {
        let path = path.key("oauth2");
        if auth.client_secret.is_none() {
            findings.violation_at(&path.key("clientSecret"), Rule::Required);
        }
        http::oauth2(auth, &path, needs, findings)
    });
    ScrapeConfig {
        track_timestamps_staleness: endpoint.track_timestamps_staleness,
        scrape_interval: duration(&endpoint.interval, "interval", findings),
        scrape_timeout: duration(&endpoint.scrape_timeout, "scrapeTimeout", findings),
        metrics_path: text::optional_line(endpoint.path.as_deref(), &path.key("path"), findings),
        params: params(&endpoint.params, &path.key("params"), findings),
        scheme: text::choice(lowered.as_deref(), SCHEMES, SCHEMES, &path.key("scheme"), findings),
        follow_redirects: endpoint.follow_redirects,
        enable_http2: endpoint.enable_http2,
        tls_config: with_class(tls, class.tls_config.as_ref()),
        authorization: authorization(endpoint, path, needs, findings)
            .or_else(|| class.authorization.clone().filter(|_| basic.is_none() && oauth2.is_none())),
        basic_auth: basic,
        oauth2,
        ..ScrapeConfig::default()
    }
}

/// Upstream's rule: settings of the endpoint's own hide those of its class, but for files that it lacks.
fn with_class(own: Option<Tls>, class: Option<&Tls>) -> Option<Tls> {
    let Some(own) = own else { return class.cloned() };
    let files = class.cloned().unwrap_or_default();
    let merged = Tls {
        ca_file: own.ca_file.or(files.ca_file),
        cert_file: own.cert_file.or(files.cert_file),
        key_file: own.key_file.or(files.key_file),
        ..own
    };
    Some(merged).filter(|tls| *tls != Tls::default())
}

/// Interval and timeout that count, as Prometheus finds them: zero means unset.
pub(super) fn times(
    job: &ScrapeConfig,
    agent: &Agent,
    path: &Path,
    findings: &mut Findings,
) -> (PromDuration, PromDuration) {
    let global = &agent.config.global;
    let stated = job.scrape_interval.unwrap_or(global.scrape_interval);
    if let Some(timeout) = job.scrape_timeout.filter(|timeout| *timeout > stated) {
        let bound = format!("the scrape interval, {stated}");
        findings.violation(&path.key("scrapeTimeout"), timeout.to_string(), Rule::Exceeds { bound });
    }
    let set = |time: Option<PromDuration>| time.filter(|time| !time.is_zero());
    let interval = set(job.scrape_interval).unwrap_or(global.scrape_interval);
    guard_rails::check_endpoint(job, interval, &agent.guard_rails, path, findings);
    (interval, set(job.scrape_timeout).unwrap_or_else(|| global.scrape_timeout.min(interval)))
}

/// At most one way to authenticate.
fn one_credential(endpoint: &PodMetricsEndpoint, path: &Path, findings: &mut Findings) {
    let ways = [
        ("authorization", endpoint.authorization.is_some()),
        ("basicAuth", endpoint.basic_auth.is_some()),
        ("bearerTokenSecret", endpoint.bearer_token_secret.is_some()),
        ("oauth2", endpoint.oauth2.is_some()),
    ];
    http::one_credential(&ways, path, findings);
}

/// `authorization`, or the older field that means the same.
fn authorization(
    endpoint: &PodMetricsEndpoint,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> Option<Authorization> {
    if let Some(auth) = &endpoint.authorization {
        return Some(http::authorization(auth, &path.key("authorization"), needs, findings));
    }
    // Upstream's older clients wrote an empty reference where there was none.
    let named = |name: Option<&str>| name.is_some_and(|name| !name.is_empty());
    let token = endpoint.bearer_token_secret.as_ref().filter(|token| named(token.name.as_deref()))?;
    let credentials_file = needs.secret(Some(token), &path.key("bearerTokenSecret"), findings);
    Some(Authorization { scheme: "Bearer".to_owned(), credentials_file })
}

/// A proxy is no part of the pod.
fn proxy(endpoint: &PodMetricsEndpoint, path: &Path, findings: &mut Findings) {
    let fields = ProxyFields {
        url: endpoint.proxy_url.as_deref(),
        no_proxy: endpoint.no_proxy.as_deref(),
        from_environment: endpoint.proxy_from_environment,
        connect_header: endpoint.proxy_connect_header.as_ref(),
    };
    if let Some(url) = fields.url.filter(|url| !url.is_empty()) {
        let rule = Rule::Other {
            rule: "leads the scrape, and its credentials, out of the pod",
            fix: "remove it: the agent reaches its pod without a proxy",
        };
        // A URL that holds a password is not repeated.
        if url.contains('@') {
            findings.violation_at(&path.key("proxyUrl"), rule);
        } else {
            findings.violation(&path.key("proxyUrl"), url, rule);
        }
    }
    // What else is wrong with the fields; nothing of them is rendered.
    let mut others = Findings::default();
    http::proxy(&fields, path, &mut others);
    let proxy_url = path.key("proxyUrl");
    let said = |path: &str| findings.violations.iter().any(|violation| violation.path == path);
    let repeated = said(proxy_url.as_str());
    findings.violations.extend(
        others.violations.into_iter().filter(|other| !(repeated && other.path == proxy_url.as_str())),
    );
    if fields.from_environment == Some(true) {
        findings.ignored(&path.key("proxyFromEnvironment"), fields::NO_PROXY);
    }
}

fn params(
    params: &BTreeMap<String, Vec<String>>,
    path: &Path,
    findings: &mut Findings,
) -> BTreeMap<String, Flow> {
    for (name, values) in params {
        let path = path.key(name);
        text::line(name, &path, findings);
        for (index, value) in values.iter().enumerate() {
            text::line(value, &path.index(index), findings);
        }
    }
    params.iter().map(|(name, values)| (name.clone(), Flow(values.clone()))).collect()
}

/// The name of a port is an expression upstream.
pub(super) fn port_name(name: &str, path: &Path, findings: &mut Findings) {
    text::line(name, path, findings);
    if let Err(why) = re2::check(name) {
        findings.violation(path, name, Rule::Regex(why));
    }
}
