//! A template within the bounds that the platform's owners set. PURE.
//!
//! Input: the spec, what was made of it, the bounds. Output: violations that name the flag.

use std::fmt::Display;

use crate::template::agent::{Agent, ConfigParts};
use crate::template::api::PrometheusAgentSpec;
use crate::template::duration::PromDuration;
use crate::template::guard_rails::{GuardRails, flag};
use crate::template::image::ImageReference;
use crate::template::prometheus::ScrapeConfig;
use crate::template::quantity::Quantity;
use crate::template::violation::{Findings, Path, Rule};

/// Environment variables by which Go's HTTP client finds a proxy, in lower case.
const PROXY_VARIABLES: [&str; 2] = ["http_proxy", "https_proxy"];

/// The spec as it counts: the most targets of a job are an enforced limit, which a lower one of the template's own replaces.
pub(super) fn bounded(
    spec: &PrometheusAgentSpec,
    rails: &GuardRails,
    findings: &mut Findings,
) -> PrometheusAgentSpec {
    let own = spec.enforced_target_limit.filter(|limit| *limit != 0);
    if let (Some(own), Some(most)) = (own, rails.max_targets)
        && own > most
    {
        let path = Path::root("spec").key("enforcedTargetLimit");
        findings.violation(&path, own.to_string(), above(&most, flag::MAX_TARGETS));
    }
    PrometheusAgentSpec {
        enforced_target_limit: own.or(rails.max_targets).or(spec.enforced_target_limit),
        ..spec.clone()
    }
}

/// Checks what is made of the template.
pub(super) fn check(agent: &Agent, rails: &GuardRails, findings: &mut Findings) {
    let root = Path::root("spec");
    receivers(agent, rails, &root, findings);
    volumes(agent, rails, &root, findings);
    if let Some(named) = agent.spec.image.as_deref().filter(|image| !image.is_empty())
        && let Some(image) = ImageReference::parse(named)
        && !rails.images.is_empty()
        && !rails.images.iter().any(|images| images.allows(image))
    {
        findings.violation(&root.key("image"), named, not_listed(&rails.images, flag::IMAGES));
    }
    let interval = agent.config.global.scrape_interval;
    if let Some(least) = rails.min_scrape_interval.filter(|least| interval < *least) {
        findings.violation(
            &root.key("scrapeInterval"),
            interval.to_string(),
            below(&least, flag::MIN_SCRAPE_INTERVAL),
        );
    }
    let derived = agent.wal_size();
    if let Some(most) = rails.ceilings.get("ephemeral-storage").filter(|most| derived > **most) {
        let path = root.key("storage").key("emptyDir").key("sizeLimit");
        findings.violation(&path, derived.to_string(), above(most, flag::CEILINGS));
    }
}

/// Memory and storage that extra volumes may take, as their containers may.
fn volumes(agent: &Agent, rails: &GuardRails, root: &Path, findings: &mut Findings) {
    for volume in agent.volumes.iter().filter(|volume| !volume["emptyDir"].is_null()) {
        let directory = &volume["emptyDir"];
        let resource = if directory["medium"] == "Memory" { "memory" } else { "ephemeral-storage" };
        let Some(most) = rails.ceilings.get(resource) else { continue };
        let path = root
            .key("volumes")
            .key(volume["name"].as_str().unwrap_or_default())
            .key("emptyDir")
            .key("sizeLimit");
        match directory["sizeLimit"].as_str() {
            None => findings.violation(&path, "none", above(most, flag::CEILINGS)),
            Some(text) if Quantity::parse(text).is_none_or(|size| size > *most || size.is_zero()) => {
                findings.violation(&path, text, above(most, flag::CEILINGS));
            }
            Some(_) => {}
        }
    }
}

/// What a monitor's endpoint does beside scraping: how often, and where the agent gets its tokens from.
pub(crate) fn check_endpoint(
    job: &ScrapeConfig,
    interval: PromDuration,
    rails: &GuardRails,
    path: &Path,
    findings: &mut Findings,
) {
    if let Some(least) = rails.min_scrape_interval.filter(|least| interval < *least) {
        let rule = below(&least, flag::MIN_SCRAPE_INTERVAL);
        findings.violation(&path.key("interval"), interval.to_string(), rule);
    }
    let Some(oauth2) = job.oauth2.as_ref().filter(|_| !rails.receivers.is_empty()) else { return };
    let path = path.key("oauth2");
    for (key, url) in [("tokenUrl", Some(&oauth2.token_url)), ("proxyUrl", oauth2.proxy.proxy_url.as_ref())] {
        if let Some(url) = url.filter(|url| !url.is_empty() && !rails.lead_to(url)) {
            findings.violation(&path.key(key), url, not_listed(&rails.receivers, flag::RECEIVERS));
        }
    }
}

/// Everything that agents send to beside their own pod: receivers, what is between, and what tokens come from.
fn receivers(agent: &Agent, rails: &GuardRails, root: &Path, findings: &mut Findings) {
    if rails.receivers.is_empty() {
        return;
    }
    let ConfigParts { remote_write, tracing, .. } = &agent.config;
    let mut check = |path: Path, url: &str, allowed: bool| {
        if !url.is_empty() && !allowed {
            findings.violation(&path, url, not_listed(&rails.receivers, flag::RECEIVERS));
        }
    };
    let leads_there = |url: &str| rails.lead_to(url);
    for (index, write) in remote_write.iter().enumerate() {
        let path = root.key("remoteWrite").index(index);
        let mut urls = vec![(path.key("url"), write.url.as_str())];
        urls.extend(write.proxy.proxy_url.as_deref().map(|url| (path.key("proxyUrl"), url)));
        if let Some(oauth2) = &write.oauth2 {
            let path = path.key("oauth2");
            urls.push((path.key("tokenUrl"), &oauth2.token_url));
            urls.extend(oauth2.proxy.proxy_url.as_deref().map(|url| (path.key("proxyUrl"), url)));
        }
        for (path, url) in urls {
            check(path, url, leads_there(url));
        }
    }
    if let Some(tracing) = tracing {
        let allowed = rails.receivers.iter().any(|destination| destination.allows_host(&tracing.endpoint));
        check(root.key("tracingConfig").key("endpoint"), &tracing.endpoint, allowed);
    }
    // Whoever sends traces or signs requests takes them unasked.
    for variable in &agent.env {
        let name = variable["name"].as_str().unwrap_or_default();
        if PROXY_VARIABLES.contains(&name.to_ascii_lowercase().as_str()) {
            // One that comes from elsewhere cannot be judged here.
            let url = variable["value"].as_str().unwrap_or("valueFrom");
            check(root.key("containers").key("env").key(name), url, leads_there(url));
        }
    }
}

/// More than a bound.
pub(crate) fn above(most: &impl Display, flag: &'static str) -> Rule {
    Rule::GuardRail { rule: format!("is more than {most}, the most that the platform allows"), flag }
}

/// Less than a bound.
pub(crate) fn below(least: &impl Display, flag: &'static str) -> Rule {
    Rule::GuardRail { rule: format!("is less than {least}, the least that the platform allows"), flag }
}

fn not_listed(allowed: &[impl ToString], flag: &'static str) -> Rule {
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    Rule::GuardRail { rule: format!("is none of what the platform allows: {}", allowed.join(", ")), flag }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::monitors::collect::Collector;
    use crate::template::guard_rails::{GuardRails, ceiling};
    use crate::template::prometheus::ScrapeConfig;
    use crate::template::validate::validate;
    use crate::template::{Settings, Template};

    fn rails() -> GuardRails {
        GuardRails {
            receivers: ["https://*.example.com/", "http://proxy:3128"]
                .map(|url| url.parse().unwrap())
                .to_vec(),
            images: vec!["registry.example.com/".parse().unwrap()],
            min_scrape_interval: Some("15s".parse().unwrap()),
            ceilings: ["cpu=1", "memory=512Mi", "ephemeral-storage=2Gi"]
                .map(|text| ceiling(text).unwrap())
                .into(),
            max_targets: Some(20),
        }
    }

    /// Violations of a template, or nothing and what was made of it.
    fn judged(spec: &Value, rails: GuardRails) -> Result<crate::template::agent::Agent, Vec<String>> {
        let settings = Settings { guard_rails: rails, ..Settings::default() };
        let object = json!({
            "apiVersion": crate::template::API_VERSION,
            "kind": crate::template::KIND,
            "metadata": {"name": "shop", "namespace": "team-a"},
            "spec": spec,
        });
        let template = Template::read(&object, &settings).unwrap();
        validate(&template, &settings)
            .map_err(|violations| violations.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_outside_is_a_violation_that_names_value_bound_and_flag() {
        let spec = json!({
            "image": "quay.io/prometheus/prometheus:v3.5.0",
            "scrapeInterval": "5s",
            "scrapeTimeout": "5s",
            "enforcedTargetLimit": 30,
            "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}},
            "containers": [{"name": "prometheus", "env": [{"name": "HTTPS_PROXY", "value": "https://$(EVIL).example.com"}]}],
            "remoteWrite": [
                {"url": "https://metrics.example.com/api/v1/write", "proxyUrl": "http://evil.test:3128"},
                {"url": "http://metrics.example.com/", "oauth2": {
                    "endpointParams": {"client_id": "agent"},
                    "clientSecret": {"name": "c", "key": "secret"},
                    "tokenUrl": "https://login.evil.test/token",
                }},
            ],
            "tracingConfig": {"endpoint": "tempo.evil.test:4317"},
            "volumes": [{"name": "cache", "emptyDir": {"medium": "Memory"}}, {"name": "tmp", "emptyDir": {"sizeLimit": "3Gi"}}],
        });
        let receivers = "is none of what the platform allows: https://*.example.com/, http://proxy:3128 \
                         (--allowed-receivers); stay within it, or ask whoever runs promsidecar to change it";
        let line = |path: &str, value: &str, rule: &str| format!("spec.{path}: {value:?}: {rule}");
        let above = |most: &str, flag: &str| {
            format!(
                "is more than {most}, the most that the platform allows ({flag}); stay within it, or ask whoever \
                 runs promsidecar to change it"
            )
        };
        let resources = "--max-agent-resources";
        let expected = [
            line("containers.env.HTTPS_PROXY", "https://$(EVIL).example.com", receivers),
            line("enforcedTargetLimit", "30", &above("20", "--max-targets")),
            line(
                "image",
                "quay.io/prometheus/prometheus:v3.5.0",
                "is none of what the platform allows: registry.example.com/ (--allowed-images); stay within it, or \
                 ask whoever runs promsidecar to change it",
            ),
            line("remoteWrite[0].proxyUrl", "http://evil.test:3128", receivers),
            line("remoteWrite[1].oauth2.tokenUrl", "https://login.evil.test/token", receivers),
            line("remoteWrite[1].url", "http://metrics.example.com/", receivers),
            line("resources.limits.memory", "1Gi", &above("512Mi", resources)),
            line("resources.requests.cpu", "2", &above("1", resources)),
            line(
                "scrapeInterval",
                "5s",
                "is less than 15s, the least that the platform allows (--min-scrape-interval); stay within it, or ask \
                 whoever runs promsidecar to change it",
            ),
            line("storage.emptyDir.sizeLimit", "4Gi", &above("2Gi", resources)),
            line("tracingConfig.endpoint", "tempo.evil.test:4317", receivers),
            line("volumes.promsidecar-x-cache.emptyDir.sizeLimit", "none", &above("512Mi", resources)),
            line("volumes.promsidecar-x-tmp.emptyDir.sizeLimit", "3Gi", &above("2Gi", resources)),
        ];
        let found = judged(&spec, rails()).unwrap_err();
        assert_eq!(found, expected, "{found:#?}");
        let without = judged(&spec, GuardRails::default()).unwrap();
        assert_eq!(without.config.global.limits.target_limit, Some(30));
    }

    #[test]
    fn what_is_inside_is_taken_and_the_most_targets_are_an_enforced_limit() {
        let spec = json!({
            "image": "registry.example.com/team/prometheus:v3.5.0",
            "scrapeInterval": "15s",
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "512Mi"}},
            "containers": [{"name": "prometheus", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]}],
            "remoteWrite": [{"url": "https://metrics.example.com/", "proxyFromEnvironment": true}],
            "tracingConfig": {"endpoint": "tempo.example.com:4317"},
        });
        let limit = |change: Value| {
            let mut spec = spec.clone();
            spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            judged(&spec, rails()).unwrap().config.global.limits.target_limit
        };
        assert_eq!(limit(json!({})), Some(20));
        assert_eq!(limit(json!({"enforcedTargetLimit": 5})), Some(5));
        assert_eq!(limit(json!({"enforcedTargetLimit": 0})), Some(20));
        assert_eq!(limit(json!({"targetLimit": 3})), Some(3));
        assert_eq!(limit(json!({"targetLimit": 50})), Some(20));
        // The default image is the platform's own choice.
        let mut spec = spec.clone();
        spec.as_object_mut().unwrap().remove("image");
        assert!(judged(&spec, rails()).is_ok());
    }

    #[test]
    fn a_monitor_that_scrapes_too_often_is_rejected_and_one_with_too_many_targets_is_lowered() {
        let spec = json!({
            "remoteWrite": [{"url": "https://metrics.example.com/"}],
            "podMonitorSelector": {},
        });
        let agent = judged(&spec, rails()).unwrap();
        let monitor = |name: &str, interval: &str| {
            json!({
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PodMonitor",
                "metadata": {"name": name, "namespace": "team-a"},
                "spec": {
                    "selector": {},
                    "targetLimit": 50,
                    "podMetricsEndpoints": [{"port": "metrics", "interval": interval}],
                },
            })
        };
        let mut monitors = Collector::default();
        let mut asks = monitor("asks", "30s");
        let secret = json!({"name": "c", "key": "secret"});
        asks["spec"]["podMetricsEndpoints"][0]["oauth2"] = json!({
            "endpointParams": {"client_id": "agent"}, "clientSecret": secret, "tokenUrl": "https://evil.test/",
        });
        let mut sly = monitor("seldom", "15s");
        sly["spec"]["podMetricsEndpoints"][0]["relabelings"] = json!([
            {"targetLabel": "__scrape_interval__", "replacement": "100ms"},
            {"action": "labelmap", "regex": "__meta_kubernetes_pod_annotation_(.+)", "replacement": "__${1}__"},
        ]);
        for object in [asks, monitor("often", "10s"), sly, monitor("default", "")] {
            monitors.note(&object, "team-a").unwrap();
        }
        let monitors = monitors.into_monitors();
        let selection = monitors.select(&agent, "team-a");
        let rejected: Vec<String> = selection
            .rejected
            .iter()
            .map(|rejected| format!("{}: {}", rejected.monitor.id, rejected.violations[0]))
            .collect();
        assert_eq!(
            rejected,
            [
                "team-a/asks: spec.podMetricsEndpoints[0].oauth2.tokenUrl: \"https://evil.test/\": is none of what the platform \
                 allows: https://*.example.com/, http://proxy:3128 (--allowed-receivers); stay within it, or ask whoever runs \
                 promsidecar to change it",
                "team-a/often: spec.podMetricsEndpoints[0].interval: \"10s\": is less than 15s, the least that the \
                 platform allows (--min-scrape-interval); stay within it, or ask whoever runs promsidecar to change it"
            ]
        );
        let limits: Vec<Option<u64>> = selection.jobs.iter().map(|job| job.limits.target_limit).collect();
        assert_eq!(limits, [Some(20), Some(20)]);
        // Behind all that the author wrote, the times are the job's again.
        let ends = |rails: GuardRails| -> Vec<Vec<String>> {
            let agent = judged(&json!({"podMonitorSelector": {}, "remoteWrite": spec["remoteWrite"]}), rails);
            let jobs = monitors.select(&agent.unwrap(), "team-a").jobs;
            let end = |job: &ScrapeConfig| {
                let rules = job.relabel_configs.iter().rev().take(4).rev();
                rules.map(|rule| format!("{:?} {:?}", rule.target_label, rule.replacement)).collect()
            };
            jobs.iter().filter(|job| job.job_name.contains("seldom")).map(end).collect()
        };
        let time = |label: &str, time: &str| format!("Some({label:?}) Some({time:?})");
        let keep = || "None None".to_owned();
        let held = [time("__scrape_interval__", "15s"), time("__scrape_timeout__", "10s"), keep(), keep()];
        assert_eq!(ends(rails()), [held]);
        // Without the rail they are what upstream makes of them.
        let without = ends(GuardRails { min_scrape_interval: None, ..rails() });
        assert_eq!(
            without[0][..2],
            [time("__scrape_interval__", "100ms"), "None Some(\"__${1}__\")".to_owned()]
        );
    }
}
