//! The HTTP client of a remote write: credentials, TLS, proxy. PURE.
//!
//! Input: upstream's fields. Output: Prometheus' `*_file` forms; violations where there is none.

use std::collections::BTreeMap;

use super::credentials::Needs;
use super::text;
use crate::template::api::http::{Authorization, BasicAuth, OAuth2, TlsConfig};
use crate::template::prometheus as config;
use crate::template::violation::{Findings, Path, Rule};

const RAW_PATH_FIX: &str = "refer to a Secret or ConfigMap instead: it is mounted for the agent";
const TLS_VERSIONS: &[&str] = &["TLS10", "TLS11", "TLS12", "TLS13"];
/// Parameter by which a template states its `OAuth2` client id.
const CLIENT_ID_PARAM: &str = "client_id";

/// A raw path is refused: nothing of the template's is at fixed paths in the agent's container.
pub(crate) fn no_path(value: Option<&str>, path: &Path, findings: &mut Findings) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        findings.violation(path, value, Rule::RawPath(RAW_PATH_FIX));
    }
}

/// At most one of several ways to authenticate, by name and whether it is given.
pub(crate) fn one_credential(ways: &[(&str, bool)], path: &Path, findings: &mut Findings) {
    let mut given = ways.iter().filter_map(|(name, given)| given.then_some(*name));
    let Some(first) = given.next() else { return };
    for name in given {
        findings.violation_at(&path.key(name), Rule::Conflict { with: path.key(first).to_string() });
    }
}

/// `basicAuth`.
pub(crate) fn basic_auth(
    spec: &BasicAuth,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> config::BasicAuth {
    if spec.username.is_none() {
        findings.violation_at(&path.key("username"), Rule::Required);
    }
    config::BasicAuth {
        username_file: needs.secret(spec.username.as_ref(), &path.key("username"), findings),
        password_file: needs.secret(spec.password.as_ref(), &path.key("password"), findings),
    }
}

/// `authorization`.
pub(crate) fn authorization(
    spec: &Authorization,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> config::Authorization {
    if spec.credentials.is_none() && spec.credentials_file.is_none() {
        findings.violation_at(&path.key("credentials"), Rule::Required);
    }
    any_authorization(spec, path, needs, findings)
}

/// `authorization` that need not have credentials.
pub(crate) fn any_authorization(
    spec: &Authorization,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> config::Authorization {
    no_path(spec.credentials_file.as_deref(), &path.key("credentialsFile"), findings);
    let scheme =
        spec.scheme.as_deref().map(str::trim).filter(|scheme| !scheme.is_empty()).unwrap_or("Bearer");
    if scheme.eq_ignore_ascii_case("basic") {
        let rule = Rule::Other { rule: "is refused by Prometheus here", fix: "use basicAuth" };
        findings.violation(&path.key("type"), scheme, rule);
    } else if !text::is_header_name(scheme) {
        findings.violation(&path.key("type"), scheme, Rule::Text("is not an authentication scheme"));
    }
    config::Authorization {
        scheme: scheme.to_owned(),
        credentials_file: needs.secret(spec.credentials.as_ref(), &path.key("credentials"), findings),
    }
}

/// `oauth2`. Prometheus reads the secret from a file but not the client id, which is no secret (RFC 6749 §2.2): it is taken from
/// `endpointParams.client_id`, where upstream passes it through.
pub(crate) fn oauth2(
    spec: &OAuth2,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> config::OAuth2 {
    const NO_ID: Rule = Rule::NoFileForm(
        "write the client id, which is no secret, in clear text as oauth2.endpointParams.client_id; the reference is then ignored",
    );
    let params_path = path.key("endpointParams");
    let mut endpoint_params = plain_map(&spec.endpoint_params, &params_path, findings);
    let client_id = endpoint_params.remove(CLIENT_ID_PARAM).filter(|id| !id.is_empty());
    match &client_id {
        None => findings.violation_at(&path.key("clientId"), NO_ID),
        Some(_) if spec.client_id.is_some() => {
            findings.ignored(&path.key("clientId"), "oauth2.endpointParams.client_id is used instead");
        }
        Some(_) => {}
    }
    for secret in ["client_secret", "client_assertion", "password", "refresh_token"] {
        if endpoint_params.contains_key(secret) {
            let rule = Rule::ClearText("use oauth2.clientSecret");
            findings.violation_at(&params_path.key(secret), rule);
        }
    }
    let token_url = match spec.token_url.as_deref().filter(|url| !url.is_empty()) {
        Some(url) => text::url(url, &path.key("tokenUrl"), findings),
        None => {
            findings.violation_at(&path.key("tokenUrl"), Rule::Required);
            None
        }
    };
    let scopes_path = path.key("scopes");
    for (index, scope) in spec.scopes.iter().enumerate() {
        text::line(scope, &scopes_path.index(index), findings);
    }
    config::OAuth2 {
        client_id: client_id.unwrap_or_default(),
        client_secret_file: needs.secret(spec.client_secret.as_ref(), &path.key("clientSecret"), findings),
        token_url: token_url.unwrap_or_default(),
        scopes: config::Flow(spec.scopes.clone()),
        endpoint_params,
        tls_config: spec
            .tls_config
            .as_ref()
            .map(|tls| tls_config(tls, &path.key("tlsConfig"), needs, findings)),
        proxy: proxy(
            &ProxyFields {
                url: spec.proxy_url.as_deref(),
                no_proxy: spec.no_proxy.as_deref(),
                from_environment: spec.proxy_from_environment,
                connect_header: spec.proxy_connect_header.as_ref(),
            },
            path,
            findings,
        ),
    }
}

/// `tlsConfig`.
pub(crate) fn tls_config(
    spec: &TlsConfig,
    path: &Path,
    needs: &mut Needs,
    findings: &mut Findings,
) -> config::Tls {
    no_path(spec.ca_file.as_deref(), &path.key("caFile"), findings);
    no_path(spec.cert_file.as_deref(), &path.key("certFile"), findings);
    no_path(spec.key_file.as_deref(), &path.key("keyFile"), findings);
    let version = |text: &Option<String>, name: &str, findings: &mut Findings| {
        text::choice(text.as_deref(), TLS_VERSIONS, TLS_VERSIONS, &path.key(name), findings)
    };
    let (min_version, max_version) = (
        version(&spec.min_version, "minVersion", findings),
        version(&spec.max_version, "maxVersion", findings),
    );
    if let (Some(min), Some(max)) = (min_version, max_version)
        && min > max
    {
        findings.violation(
            &path.key("minVersion"),
            min,
            Rule::Exceeds { bound: format!("maxVersion {max}") },
        );
    }
    let tls = config::Tls {
        insecure_skip_verify: spec.insecure_skip_verify,
        ca_file: needs.tls_either(spec.ca.as_ref(), &path.key("ca"), findings),
        cert_file: needs.tls_either(spec.cert.as_ref(), &path.key("cert"), findings),
        key_file: needs.tls_secret(spec.key_secret.as_ref(), &path.key("keySecret"), findings),
        server_name: text::optional_line(spec.server_name.as_deref(), &path.key("serverName"), findings),
        min_version,
        max_version,
    };
    let has_cert = spec.cert.as_ref().is_some_and(|cert| cert.secret.is_some() || cert.config_map.is_some());
    match (has_cert, spec.key_secret.is_some()) {
        (true, false) => findings.violation_at(&path.key("keySecret"), Rule::Required),
        (false, true) => findings.violation_at(&path.key("cert"), Rule::Required),
        _ => {}
    }
    tls
}

/// The fields of a proxy, which stand beside others.
pub(crate) struct ProxyFields<'a> {
    pub(crate) url: Option<&'a str>,
    pub(crate) no_proxy: Option<&'a str>,
    pub(crate) from_environment: Option<bool>,
    pub(crate) connect_header: Option<&'a BTreeMap<String, serde_json::Value>>,
}

/// The proxy of a client.
pub(crate) fn proxy(fields: &ProxyFields<'_>, path: &Path, findings: &mut Findings) -> config::Proxy {
    let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    let (has_url, has_no_proxy) = (given(fields.url), given(fields.no_proxy));
    let from_environment = fields.from_environment == Some(true);
    if fields.connect_header.is_some_and(|headers| !headers.is_empty()) {
        let rule = Rule::NoFileForm("use a proxy that needs no header of its own");
        findings.violation_at(&path.key("proxyConnectHeader"), rule);
    }
    for (set, name) in [(has_url, "proxyUrl"), (has_no_proxy, "noProxy")] {
        if from_environment && set {
            let with = path.key("proxyFromEnvironment").to_string();
            findings.violation_at(&path.key(name), Rule::Conflict { with });
        }
    }
    if has_no_proxy && !has_url && !from_environment {
        findings.violation_at(&path.key("proxyUrl"), Rule::Required);
    }
    let url = fields.url.filter(|url| !url.is_empty());
    config::Proxy {
        proxy_url: url.and_then(|url| text::url(url, &path.key("proxyUrl"), findings)),
        no_proxy: text::optional_line(fields.no_proxy, &path.key("noProxy"), findings),
        proxy_from_environment: fields.from_environment.filter(|from_environment| *from_environment),
    }
}

/// A map of plain text.
pub(crate) fn plain_map(
    map: &BTreeMap<String, String>,
    path: &Path,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    let fit = |(name, value): (&String, &String)| {
        let path = path.key(name);
        let name = text::line(name, &path, findings)?;
        Some((name.to_owned(), text::line(value, &path, findings)?.to_owned()))
    };
    map.iter().filter_map(fit).collect()
}
