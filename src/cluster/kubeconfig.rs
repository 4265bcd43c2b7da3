//! Which cluster is meant, by kubectl's conventions. IO: reads the environment, and kubeconfigs with the files that they name.
//!
//! Input: flags, `KUBECONFIG`, and `~/.kube/config`. Output: a [`Found`], or an error with file, context and fix. A pod's own account
//! counts where nobody named a kubeconfig and none is there: one that cannot be used never leads to another cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use anyhow::{Context as _, anyhow, bail};
use hyper::Uri;
use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, KubeconfigError};

use super::explain::chain;
use super::proxy::{self, shown};
use crate::x509;

/// What flags say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// `--kubeconfig`.
    pub kubeconfig: Option<&'a Path>,
    /// `--context`.
    pub context: Option<&'a str>,
}

/// What else decides. Not `Debug`, as the variables of proxies are not.
#[derive(Clone, Default)]
pub struct Environment {
    /// `KUBECONFIG`.
    pub kubeconfig: Option<OsString>,
    /// `~/.kube/config`.
    pub default: Option<PathBuf>,
    /// Of proxies.
    pub proxies: proxy::Environment,
}

impl Environment {
    /// That of this process.
    pub fn read() -> Self {
        Self {
            kubeconfig: env::var_os("KUBECONFIG"),
            default: env::home_dir().map(|home| home.join(".kube/config")),
            proxies: proxy::Environment::read(),
        }
    }
}

/// A cluster, and the way to it.
pub struct Found {
    /// For a client.
    pub config: Config,
    /// Which one.
    pub target: Target,
}

/// Which cluster was found, for people. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Nothing for a pod's own account.
    pub context: Option<String>,
    /// Address of the API server.
    pub server: String,
    /// Address of the proxy on the way there.
    pub proxy: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.context {
            Some(context) => write!(f, "context {context}, {}", self.server)?,
            None => write!(f, "the pod's own service account, {}", self.server)?,
        }
        self.proxy.iter().try_for_each(|proxy| write!(f, " by proxy {proxy}"))
    }
}

/// Finds the cluster.
pub fn find(named: Named<'_>, environment: &Environment) -> anyhow::Result<Found> {
    match source(named, environment)? {
        Source::Files { origin, kubeconfig } => {
            let chosen = Chosen::new(&kubeconfig, named.context);
            let found = chosen.and_then(|chosen| chosen.found(&environment.proxies));
            let wrong = || match named.context {
                Some(context) => format!("--context {context}: cannot be used: {origin}"),
                None => format!("{origin}: cannot be used"),
            };
            found.with_context(wrong).map_err(flat)
        }
        Source::Pod { instead } => in_pod(&instead, &environment.proxies),
    }
}

/// Where the cluster is described.
enum Source {
    /// In files, named so in errors.
    Files { origin: String, kubeconfig: Box<Kubeconfig> },
    /// By what the kubelet mounts; `instead` is why in no file.
    Pod { instead: String },
}

fn source(named: Named<'_>, environment: &Environment) -> anyhow::Result<Source> {
    if let Some(path) = named.kubeconfig {
        let origin = format!("--kubeconfig {}", path.display());
        let kubeconfig = read(path).map_err(|error| anyhow!("{origin}: cannot be used: {}", told(&error)))?;
        return Ok(Source::Files { origin, kubeconfig: Box::new(kubeconfig) });
    }
    let listed: Vec<PathBuf> = environment.kubeconfig.iter().flat_map(env::split_paths).collect();
    let listed: Vec<PathBuf> = listed.into_iter().filter(|path| !path.as_os_str().is_empty()).collect();
    if let (Some(value), false) = (&environment.kubeconfig, listed.is_empty()) {
        let origin = format!("KUBECONFIG {}", value.display());
        let kubeconfig = merged(&origin, &listed)?;
        let kubeconfig = kubeconfig.ok_or_else(|| {
            anyhow!("{origin}: cannot be used: no such file; name one that is there, or unset KUBECONFIG")
        })?;
        return Ok(Source::Files { origin, kubeconfig: Box::new(kubeconfig) });
    }
    let Some(path) = &environment.default else {
        return Ok(Source::Pod { instead: "no home directory is known".to_owned() });
    };
    let origin = path.display().to_string();
    let why = match merged(&origin, std::slice::from_ref(path))? {
        // kubectl takes an empty one for none.
        Some(empty) if empty.contexts.is_empty() && empty.clusters.is_empty() => "it names no cluster",
        Some(kubeconfig) => return Ok(Source::Files { origin, kubeconfig: Box::new(kubeconfig) }),
        None => "No such file",
    };
    match named.context {
        Some(context) => {
            bail!("--context {context}: cannot be used: {origin}: {why}; set --kubeconfig or KUBECONFIG")
        }
        None => Ok(Source::Pod { instead: format!("{origin}: {why}") }),
    }
}

/// Several files as one: what the first one sets stays. One that is not there is passed over, as by kubectl.
fn merged(origin: &str, paths: &[PathBuf]) -> anyhow::Result<Option<Kubeconfig>> {
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        let wrong = |error: &KubeconfigError| match paths.len() {
            1 => anyhow!("{origin}: cannot be used: {}; mend it", told(error)),
            _ => anyhow!("{origin}: cannot be used: {}: {}; mend it", path.display(), told(error)),
        };
        let next = match read(path) {
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == io::ErrorKind::NotFound => continue,
            next => next.map_err(|error| wrong(&error))?,
        };
        merged = Some(match merged {
            Some(before) => before.merge(next).map_err(|error| wrong(&error))?,
            None => next,
        });
    }
    Ok(merged)
}

fn read(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
    let mut kubeconfig = Kubeconfig::read_from(path)?;
    // As kubectl leaves it behind where there was one.
    kubeconfig.current_context = kubeconfig.current_context.filter(|name| !name.is_empty());
    Ok(kubeconfig)
}

/// What is wrong with a file; never its lines, of which some are secret.
fn told(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        KubeconfigError::Parse(error) => error.without_snippet().to_string(),
        error => chain(error),
    }
}

/// An error and its causes in one line.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn flat(error: anyhow::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

/// What a context leads to.
struct Chosen<'a> {
    name: &'a str,
    context: &'a Context,
    cluster: &'a Cluster,
    user: AuthInfo,
}

impl<'a> Chosen<'a> {
    fn new(kubeconfig: &'a Kubeconfig, context: Option<&'a str>) -> anyhow::Result<Self> {
        let all: Vec<&str> = kubeconfig.contexts.iter().map(|context| &*context.name).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        let Some(name) = context.or(kubeconfig.current_context.as_deref()) else {
            bail!(
                "no current context is set (current-context); kubectl config use-context sets it; contexts: {all}"
            );
        };
        let named = kubeconfig.contexts.iter().find(|context| context.name == name);
        let by = if context.is_some() { "" } else { " (current-context)" };
        let context = named.and_then(|named| named.context.as_ref()).with_context(|| {
            format!("it has no context {name:?}{by}; name one that is there; contexts: {all}")
        })?;
        let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.and_then(|named| named.cluster.as_ref()).with_context(|| {
            format!("context {name:?} names the cluster {:?}, which is not there", context.cluster)
        })?;
        // As in kubectl, a user need not be there.
        let user = context.user.as_ref();
        let user = kubeconfig.auth_infos.iter().find(|named| Some(&named.name) == user);
        let mut user = user.and_then(|named| named.auth_info.clone()).unwrap_or_default();
        if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
            exec.cluster = Some(cluster.try_into().map_err(|error: KubeconfigError| anyhow!(told(&error)))?);
        }
        Ok(Self { name, context, cluster, user })
    }

    fn found(self, proxies: &proxy::Environment) -> anyhow::Result<Found> {
        let Self { name, context, cluster, user } = self;
        let of = |field: &str| format!("cluster {:?}: {field}", context.cluster);
        let server = cluster.server.as_deref().unwrap_or_default();
        let is_whole = |uri: &Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        let server = server.parse().ok().filter(is_whole).with_context(|| {
            format!("{} is no address of an API server; expected https://HOST:PORT", of("server"))
        })?;
        let mut config = Config::new(server);
        if let Some(namespace) = context.namespace.as_ref().filter(|namespace| !namespace.is_empty()) {
            config.default_namespace.clone_from(namespace);
        }
        config.root_cert = authorities(cluster).map_err(|why| anyhow!("{}", of(&why)))?;
        config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
        config.disable_compression = cluster.disable_compression.unwrap_or(false);
        config.tls_server_name = cluster.tls_server_name.clone().filter(|name| !name.is_empty());
        config.auth_info = user;
        // The cluster's own counts for it alone, whatever NO_PROXY says.
        config.proxy_url = match cluster.proxy_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => Some(proxy::address(url).map_err(|why| anyhow!("{}: {why}", of("proxy-url")))?),
            None => proxies.proxy(&config.cluster_url).map_err(|why| anyhow!(why))?,
        };
        Ok(Found { target: target(&config, Some(name.to_owned())), config })
    }
}

/// Whom the certificate of the API server may be of; nothing where it is for the system to say.
fn authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, String> {
    let is_set = |text: &&String| !text.is_empty();
    let data = cluster.certificate_authority_data.as_ref().filter(is_set);
    let (field, pem) = match (data, cluster.certificate_authority.as_ref().filter(is_set)) {
        (Some(data), _) => {
            let pem = base64_simd::forgiving_decode_to_vec(data.as_bytes());
            ("certificate-authority-data".to_owned(), pem.map_err(|_| "it is no base64".to_owned()))
        }
        (None, Some(path)) => {
            let pem = fs::read(path).map_err(|error| error.to_string());
            (format!("certificate-authority {path}"), pem)
        }
        (None, None) => return Ok(None),
    };
    let found = pem.and_then(|pem| x509::certificates(&pem)).map_err(|why| format!("{field}: {why}"))?;
    Ok(Some(found.into_iter().map(|der| der.to_vec()).collect()))
}

/// The pod's own cluster. As with other clients, the variables of proxies count for it.
fn in_pod(instead: &str, proxies: &proxy::Environment) -> anyhow::Result<Found> {
    let mut config = Config::incluster().map_err(|error| {
        anyhow!(
            "no cluster is known: run in a pod with a service account, or set --kubeconfig or KUBECONFIG; {instead}; {}",
            chain(&error)
        )
    })?;
    config.proxy_url = proxies.proxy(&config.cluster_url).map_err(|why| anyhow!(why))?;
    Ok(Found { target: target(&config, None), config })
}

fn target(config: &Config, context: Option<String>) -> Target {
    let proxy = config.proxy_url.as_ref().map(shown);
    Target { context, server: shown(&config.cluster_url), proxy }
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
