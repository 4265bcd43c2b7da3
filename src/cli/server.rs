//! Flags that the servers share: each group is what one of them cannot do without.
//!
//! Input: flags and their variables. Output: plain values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;

use super::output::Format;
use super::values;
use crate::controller::certificate::Objects;
use crate::controller::certificate::rotation::Times;
use crate::names;
use crate::webhook::config::Limits;

/// Where the webhook listens.
#[derive(Debug, clap::Args)]
pub struct ListenArgs {
    /// Address of the HTTPS webhook.
    #[arg(long, env = "PROMSIDECAR_LISTEN", default_value = "0.0.0.0:8443", value_name = "ADDRESS:PORT", value_parser = values::listen)]
    pub listen: SocketAddr,
}

/// Where health and metrics are.
#[derive(Debug, clap::Args)]
pub struct AdminArgs {
    /// Address of /livez, /readyz and /metrics, plain HTTP.
    #[arg(long, env = "PROMSIDECAR_ADMIN_LISTEN", default_value = "0.0.0.0:8081", value_name = "ADDRESS:PORT", value_parser = values::listen)]
    pub admin_listen: SocketAddr,
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub struct KubeconfigArgs {
    /// Kubeconfig of the cluster. [default: that of the pod, or of kubectl]
    #[arg(long, env = "PROMSIDECAR_KUBECONFIG", value_name = "FILE", value_parser = values::path)]
    pub kubeconfig: Option<PathBuf>,
}

/// What the webhook bears.
#[derive(Debug, clap::Args)]
pub struct LimitArgs {
    /// Reviews being read or decided at once; one more is answered 503 at once.
    #[arg(long, env = "PROMSIDECAR_MAX_IN_FLIGHT", default_value_t = 128, value_name = "N", value_parser = values::bound)]
    max_in_flight: usize,
    /// Open connections; one more is closed at once.
    #[arg(long, env = "PROMSIDECAR_MAX_CONNECTIONS", default_value_t = 1024, value_name = "N", value_parser = values::bound)]
    max_connections: usize,
    /// How long to keep serving after SIGTERM, so that clients learn to go elsewhere.
    #[arg(long, env = "PROMSIDECAR_DRAIN_TIME", default_value = "15s", value_name = "DURATION", value_parser = values::duration)]
    pub drain_time: Duration,
}

/// Whether to serve at all.
#[derive(Debug, clap::Args)]
pub struct PrintArgs {
    /// Print the resulting settings, each with its source, and exit.
    #[arg(long, env = "PROMSIDECAR_PRINT_CONFIG")]
    pub print_config: bool,
    /// How to print the settings.
    // No variable: without --print-config the format is a mistake, and a server must not end for a variable of a shell.
    #[arg(short, long, value_enum, value_name = "FORMAT", requires = "print_config")]
    pub output: Option<Format>,
}

/// Who competes for the Lease.
#[derive(Debug, clap::Args)]
pub struct LeaderArgs {
    /// What this replica is called in the Lease: the name of its pod.
    #[arg(long, env = "PROMSIDECAR_POD_NAME", default_value = "promsidecar", value_name = "NAME", value_parser = values::pod)]
    pub pod_name: String,
}

/// Who makes the webhook's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CertificateMode {
    /// The leader makes it, keeps it in a Secret and writes the caBundle.
    SelfManaged,
    /// Others do, such as cert-manager.
    External,
}

/// The certificate that the leader makes.
#[derive(Debug, clap::Args)]
pub struct CertificateArgs {
    /// Who makes the webhook's certificate and writes the registration's caBundle.
    #[arg(
        long,
        env = "PROMSIDECAR_CERTIFICATE",
        default_value = "self-managed",
        value_name = "MODE",
        value_enum
    )]
    pub certificate: CertificateMode,
    /// Secret with the certificate, in promsidecar's own namespace; without --certificate external it is made.
    #[arg(long, env = "PROMSIDECAR_TLS_SECRET", default_value = names::TLS_SECRET, value_name = "NAME", value_parser = values::object)]
    tls_secret: String,
    /// `MutatingWebhookConfiguration` whose caBundles are written.
    #[arg(long, env = "PROMSIDECAR_REGISTRATION", default_value = names::REGISTRATION, value_name = "NAME", value_parser = values::object)]
    registration: String,
    /// How long every entry has to trust a new authority before it signs: until every API server knows.
    #[arg(long, env = "PROMSIDECAR_ROTATION_WAIT", default_value = "1m", value_name = "DURATION", value_parser = values::pause)]
    rotation_wait: Duration,
    /// How long an authority stays trusted at least after it was replaced: until every replica serves the new certificate.
    #[arg(long, env = "PROMSIDECAR_ROTATION_OVERLAP", default_value = "60m", value_name = "DURATION", value_parser = values::pause)]
    rotation_overlap: Duration,
}

impl LimitArgs {
    /// The bounds that these flags mean.
    pub fn to_limits(&self) -> Limits {
        Limits {
            max_in_flight: self.max_in_flight,
            max_connections: self.max_connections,
            ..Limits::default()
        }
    }
}

impl CertificateArgs {
    /// The objects to keep; nothing where others do.
    pub fn to_objects(&self) -> Option<Objects> {
        let times = Times { wait: self.rotation_wait, overlap: self.rotation_overlap };
        let (secret, registration) = (self.tls_secret.clone(), self.registration.clone());
        (self.certificate == CertificateMode::SelfManaged).then_some(Objects { secret, registration, times })
    }
}

/// Whether both addresses can be listened on; the error names flag, value and fix.
pub fn check_addresses(listen: &ListenArgs, admin: &AdminArgs) -> anyhow::Result<()> {
    if listen.listen == admin.admin_listen && listen.listen.port() != 0 {
        bail!("--admin-listen {} is the address of --listen: choose another port", admin.admin_listen);
    }
    Ok(())
}

/// Runs a server to its end.
pub fn until_ended(server: impl Future<Output = anyhow::Result<bool>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(server);
    // Neither a blocking read of a hung file system nor a look-up of the API server's name that hangs must hold the exit up.
    runtime.shutdown_background();
    Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
