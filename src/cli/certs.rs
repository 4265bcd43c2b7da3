//! `promsidecar certs`: a certificate authority and a serving certificate for the webhook, as files. IO: writes them.
//!
//! Input: the names that clients use, a lifetime and a folder. Output: `ca.crt`, `tls.crt` and `tls.key`, what is in them, and
//! the commands that come next. The authority's key is never written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::output::{self, Format, OutputArgs};
use super::style::{Style, Tone};
use super::{UsageError, values};
use crate::names;
use crate::webhook::certificate::Authority;
use crate::webhook::run::{PRIVATE, PUBLIC, write_atomically};
use crate::x509;

/// Names of the files: those of a Secret of type `kubernetes.io/tls`, and its authority.
const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Arguments of `certs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write ca.crt, tls.crt and tls.key to; it is made if it is missing.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    out: PathBuf,
    /// Name of the webhook's Service.
    #[arg(long, default_value = names::SERVICE, value_name = "NAME", value_parser = values::service)]
    service: String,
    /// Namespace of the Service and of the Secret.
    #[arg(short, long, default_value = "promsidecar-system", value_name = "NAMESPACE", value_parser = values::namespace)]
    namespace: String,
    /// DNS name or IP address of the certificate, in place of the Service's; repeatable.
    #[arg(long, value_delimiter = ',', value_name = "NAME", conflicts_with = "service", value_parser = values::dns_name)]
    dns_name: Vec<String>,
    /// Days until the certificate ends; its authority lasts ten years.
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command; output goes to `out`.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let files = Files::below(&args.out);
    if !args.force {
        files.refuse_existing()?;
    }
    let now = SystemTime::now();
    let authority = Authority::new(now).context("making a certificate authority")?;
    let lifetime = Duration::from_hours(24 * u64::from(args.days));
    let pair = authority.pem_pair(&args.names(), now, lifetime).context("making a certificate")?;
    let (made_authority, made) = (Made::read(authority.pem())?, Made::read(&pair.certificate)?);

    fs::create_dir_all(&args.out).with_context(|| format!("--out {} cannot be made", args.out.display()))?;
    for (file, content, mode) in [
        (&files.authority, authority.pem(), PUBLIC),
        (&files.certificate, &pair.certificate, PUBLIC),
        (&files.key, &pair.key, PRIVATE),
    ] {
        write_atomically(file, content.as_bytes(), mode)
            .with_context(|| format!("--out {}: {} cannot be written", args.out.display(), file.display()))?;
    }
    let report = Report { args, files: &files, authority: &made_authority, certificate: &made };
    match args.output.output {
        Format::Json => output::json(out, &report.to_json())?,
        Format::Text => report.write(out)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// The names by which the API server calls the Service, or those that were given.
    fn names(&self) -> Vec<String> {
        if self.dns_name.is_empty() {
            let name = format!("{}.{}.svc", self.service, self.namespace);
            return vec![name.clone(), format!("{name}.cluster.local")];
        }
        self.dns_name.clone()
    }
}

struct Files {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn below(folder: &Path) -> Self {
        Self {
            authority: folder.join(AUTHORITY),
            certificate: folder.join(CERTIFICATE),
            key: folder.join(KEY),
        }
    }

    fn refuse_existing(&self) -> Result<(), UsageError> {
        let all = [&self.authority, &self.certificate, &self.key].into_iter();
        // A dangling link is there as well.
        let existing: Vec<_> = all
            .filter(|file| fs::symlink_metadata(file).is_ok())
            .map(|file| file.display().to_string())
            .collect();
        if existing.is_empty() {
            return Ok(());
        }
        Err(UsageError(format!(
            "{} would be replaced: choose another --out, or add --force",
            existing.join(", ")
        )))
    }
}

/// What a certificate says, read back from what is written.
struct Made {
    subject: String,
    names: Vec<String>,
    not_before: String,
    not_after: String,
    /// As openssl shows it.
    fingerprint: String,
}

impl Made {
    fn read(pem: &str) -> anyhow::Result<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())?;
        let (_, certificate) = X509Certificate::from_der(&der)?;
        let names = x509::names(&der).map_err(|why| anyhow!(why))?;
        let digest: Vec<_> = Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Self {
            subject: certificate.subject().to_string(),
            names,
            not_before: timestamp(certificate.validity().not_before),
            not_after: timestamp(certificate.validity().not_after),
            fingerprint: digest.join(":"),
        })
    }

    fn to_json(&self, file: &Path) -> Value {
        json!({
            "file": file,
            "subject": self.subject,
            "names": self.names,
            "notBefore": self.not_before,
            "notAfter": self.not_after,
            "sha256": self.fingerprint,
        })
    }
}

/// RFC 3339, in UTC.
fn timestamp(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

struct Report<'a> {
    args: &'a Args,
    files: &'a Files,
    authority: &'a Made,
    certificate: &'a Made,
}

impl Report<'_> {
    fn secret_command(&self) -> String {
        let Args { service, namespace, .. } = self.args;
        let (certificate, key) = (quoted(&self.files.certificate), quoted(&self.files.key));
        format!("kubectl create secret tls {service}-tls -n {namespace} --cert={certificate} --key={key}")
    }

    fn bundle_command(&self) -> String {
        format!("openssl base64 -A -in {}", quoted(&self.files.authority))
    }

    fn to_json(&self) -> Value {
        json!({
            "authority": self.authority.to_json(&self.files.authority),
            "certificate": self.certificate.to_json(&self.files.certificate),
            "key": {"file": self.files.key},
            "next": {"secret": self.secret_command(), "caBundle": self.bundle_command()},
        })
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let style = Style::stdout();
        let made = [
            (&self.files.authority, "authority", self.authority),
            (&self.files.certificate, "certificate", self.certificate),
        ];
        for (file, what, made) in made {
            writeln!(out, "{}: {what}", style.paint(Tone::Heading, &file.display().to_string()))?;
            if !made.names.is_empty() {
                writeln!(out, "  names   {}", made.names.join(", "))?;
            }
            writeln!(out, "  valid   {} to {}", made.not_before, made.not_after)?;
            writeln!(out, "  sha256  {}", made.fingerprint)?;
        }
        let key = style.paint(Tone::Heading, &self.files.key.display().to_string());
        writeln!(out, "{key}: private key of the certificate; the authority's key is not kept\n")?;
        writeln!(
            out,
            "{}",
            style.paint(Tone::Heading, "Next: the Secret, and the caBundle of the registration")
        )?;
        writeln!(out, "  {}", self.secret_command())?;
        writeln!(out, "  {}", self.bundle_command())
    }
}

#[cfg(test)]
#[path = "certs_tests.rs"]
mod tests;
