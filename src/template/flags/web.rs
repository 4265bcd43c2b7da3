//! Flags about the pages of the agent, which only its own pod sees. PURE.

use crate::template::api::PrometheusAgentSpec;
use crate::template::validate::text;
use crate::template::violation::{Findings, Path, Rule};

/// `web`, `externalUrl`, `routePrefix`.
pub(super) fn web(spec: &PrometheusAgentSpec, root: &Path, args: &mut Vec<String>, findings: &mut Findings) {
    if let Some(web) = &spec.web {
        let path = root.key("web");
        let title = text::optional_line(web.page_title.as_deref(), &path.key("pageTitle"), findings);
        args.extend(title.map(|title| format!("--web.page-title={title}")));
        if let Some(most) = web.max_connections {
            if most < 0 {
                let rule = Rule::Other { rule: "is below 0", fix: "state a number of connections" };
                findings.violation(&path.key("maxConnections"), most.to_string(), rule);
            }
            args.push(format!("--web.max-connections={most}"));
        }
        for (name, given) in [("tlsConfig", &web.tls_config), ("httpConfig", &web.http_config)] {
            if given.is_some() {
                findings.ignored(&path.key(name), "the agent listens on the pod's loopback only");
            }
        }
    }
    let external = spec.external_url.as_deref().filter(|url| !url.is_empty());
    if let Some(url) = external.and_then(|url| external_url(url, &root.key("externalUrl"), findings)) {
        args.push(format!("--web.external-url={url}"));
    }
    let default = "/";
    // Prometheus would take the path of the URL, upstream does not.
    let prefix = prefix(spec).unwrap_or(default);
    if external.is_some() || !prefix.trim_matches('/').is_empty() {
        let path = root.key("routePrefix");
        text::line(prefix, &path, findings);
        if prefix.contains(['*', ':']) {
            let rule = Rule::Other {
                rule: "has a wildcard of Prometheus' router, with which no agent starts",
                fix: "write a path without * and :",
            };
            findings.violation(&path, prefix, rule);
        }
        args.push(format!("--web.route-prefix={prefix}"));
    }
}

/// `routePrefix`, if there is one.
pub(super) fn prefix(spec: &PrometheusAgentSpec) -> Option<&str> {
    spec.route_prefix.as_deref().filter(|prefix| !prefix.is_empty())
}

/// Prometheus takes a path alone as well.
fn external_url(url: &str, path: &Path, findings: &mut Findings) -> Option<String> {
    if url.starts_with(['"', '\'']) || url.ends_with(['"', '\'']) {
        findings.violation(path, url, Rule::Text("begins or ends with a quote, with which no agent starts"));
        return None;
    }
    let is_path = url.starts_with('/') && !url.starts_with("//") && !url.contains(['%', '"', '\'']);
    if is_path { text::line(url, path, findings).map(str::to_owned) } else { text::url(url, path, findings) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::web;
    use crate::template::violation::{Findings, Path};

    /// Flags, and paths of violations.
    fn flags(spec: &Value) -> (Vec<String>, Vec<String>) {
        let spec = serde_json::from_value(spec.clone()).unwrap();
        let (mut args, mut findings) = (Vec::new(), Findings::default());
        web(&spec, &Path::root("spec"), &mut args, &mut findings);
        (args, findings.violations.into_iter().map(|violation| violation.path).collect())
    }

    #[test]
    fn a_default_needs_no_flag() {
        for prefix in ["", "/", "//"] {
            assert_eq!(flags(&json!({"routePrefix": prefix})), (Vec::new(), Vec::new()), "{prefix}");
        }
        let (args, _) = flags(&json!({"externalUrl": "https://a.test/b"}));
        assert_eq!(args, ["--web.external-url=https://a.test/b", "--web.route-prefix=/"]);
    }

    #[test]
    fn what_no_agent_starts_with_is_a_violation() {
        for url in ["http://h/x'", "'/x'", "\"http://h/\""] {
            assert_eq!(flags(&json!({"externalUrl": url})).1, ["spec.externalUrl"], "{url}");
        }
        for prefix in ["/a*b", "/:/x", "/a/:b"] {
            assert_eq!(flags(&json!({"routePrefix": prefix})).1, ["spec.routePrefix"], "{prefix}");
        }
    }
}
