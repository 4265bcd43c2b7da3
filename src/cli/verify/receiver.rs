//! What agents send to, as `verify` asks it. IO: HTTP, and files with a token or authorities.
//!
//! Input: flags and a query. Output: the answer of the query API, or why there is none.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value;

use crate::cli::values;
use crate::cluster::explain::chain;
use crate::cluster::proxy;
use crate::x509;

/// How long the receiver may think.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where it is, and who asks.
#[derive(Debug, clap::Args)]
pub(super) struct ReceiverArgs {
    /// Where to ask for series: the address before /api/v1/query, of Prometheus, Thanos, Mimir, `VictoriaMetrics` and their like.
    #[arg(long = "query-url", env = "PROMSIDECAR_QUERY_URL", value_name = "URL", value_parser = query_url)]
    pub(super) url: Uri,
    /// A header of each query, such as `X-Scope-OrgID: team-a`; repeatable.
    #[arg(long = "query-header", value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// File with a bearer token for the queries.
    #[arg(long = "query-token-file", env = "PROMSIDECAR_QUERY_TOKEN_FILE", value_name = "FILE", value_parser = values::path)]
    token_file: Option<PathBuf>,
    /// File with the authorities that the receiver's certificate may be of, in PEM format. [default: those of the system]
    #[arg(long = "query-ca-file", env = "PROMSIDECAR_QUERY_CA_FILE", value_name = "FILE", value_parser = values::path)]
    ca_file: Option<PathBuf>,
}

/// A base address; what follows is appended to it.
fn query_url(text: &str) -> Result<Uri, String> {
    let expected = "expected the address of a query API, such as http://localhost:9090 or https://mimir.example.com/prometheus";
    let uri: Uri = text.parse().map_err(|_| expected)?;
    // A password would be shown with every error.
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let usable = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none() && !has_user;
    // Of the query itself, or where agents write to.
    if usable && !uri.path().contains("/api/v1/") { Ok(uri) } else { Err(expected.to_owned()) }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let expected = "expected NAME: VALUE, such as X-Scope-OrgID: team-a";
    let (name, value) = text.split_once(':').ok_or(expected)?;
    let (name, value) = (name.trim().parse(), value.trim().parse());
    name.ok().zip(value.ok()).ok_or_else(|| expected.to_owned())
}

impl ReceiverArgs {
    /// A client of the query API, with what authenticates us there.
    pub(super) fn to_config(&self, proxies: &proxy::Environment) -> anyhow::Result<Config> {
        let mut config = Config::new(self.url.clone());
        config.read_timeout = Some(PATIENCE);
        config.proxy_url = proxies.proxy(&self.url).map_err(|why| anyhow!(why))?;
        config.default_retry = false;
        config.headers.clone_from(&self.header);
        if let Some(path) = &self.token_file {
            let flag = |error: &dyn std::fmt::Display| {
                anyhow!("--query-token-file {}: cannot be used: {error}", path.display())
            };
            let token = fs::read_to_string(path).map_err(|error| flag(&error))?;
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|error| flag(&error))?;
            value.set_sensitive(true);
            config.headers.push((AUTHORIZATION, value));
        }
        if let Some(path) = &self.ca_file {
            let flag = |error: &dyn std::fmt::Display| {
                anyhow!("--query-ca-file {}: cannot be used: {error}", path.display())
            };
            let pem = fs::read(path).map_err(|error| flag(&error))?;
            let authorities = x509::certificates(&pem).map_err(|error| flag(&error))?;
            config.root_cert = Some(authorities.into_iter().map(|der| der.to_vec()).collect());
        }
        Ok(config)
    }
}

/// An instant query.
pub(super) async fn ask(client: &Client, query: &str) -> Result<Value, String> {
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
    let request = Request::post("/api/v1/query")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.into_bytes()))
        .map_err(|error| error.to_string())?;
    let response =
        client.send(request).await.map_err(|error| format!("cannot be asked: {}", chain(&error)))?;
    let status = response.status();
    let bytes = response.into_body().collect().await;
    let bytes = bytes.map_err(|error| format!("cannot be asked: {}", chain(&error)))?.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    // An error of the query comes as JSON; whoever stands before the API answers otherwise.
    if !status.is_success() && answer["error"].is_null() {
        return Err(format!("answers {status}"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::{ReceiverArgs, header, query_url};
    use crate::cluster::proxy;

    #[test]
    fn the_receiver_is_asked_through_the_proxy_unless_no_proxy_names_it() {
        let proxies = proxy::Environment {
            https: Some("http://proxy:3128".to_owned()),
            no: Some("in.example.com".to_owned()),
            ..proxy::Environment::default()
        };
        for (url, proxied) in [("https://mimir.example.com", true), ("https://mimir.in.example.com", false)] {
            let args = ReceiverArgs {
                url: query_url(url).unwrap(),
                header: Vec::new(),
                token_file: None,
                ca_file: None,
            };
            let proxy = args.to_config(&proxies).unwrap().proxy_url;
            assert_eq!(proxy, proxied.then(|| "http://proxy:3128".parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn the_address_is_that_before_the_api() {
        for good in ["http://localhost:9090", "https://mimir.example.com/prometheus", "http://[::1]:9090/"] {
            assert!(query_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:9090",
            "ftp://a",
            "http://a/api/v1/query",
            "http://a/api/v1/write",
            "http://a/?b=c",
            "/x",
            "http://u:p@a",
        ] {
            assert!(query_url(bad).unwrap_err().starts_with("expected the address of a query API"), "{bad}");
        }
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = header("X-Scope-OrgID: team a").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-scope-orgid", "team a"));
        for bad in ["", "X", "a b: c", "A: a\nb"] {
            assert!(header(bad).is_err(), "{bad:?}");
        }
    }
}
