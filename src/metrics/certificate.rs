//! What the controller counts about the certificate that it makes.
//!
//! Input: ends, deeds and problems, handed in by whoever keeps the certificate. Output: families in the controller's registry.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::controller::certificate::rotation::Phase;

/// Of an authority and what it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Whom clients trust.
    Authority,
    /// What is served.
    Leaf,
}

impl Certificate {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Authority, Self::Leaf];

    const fn word(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Leaf => "leaf",
        }
    }
}

/// What keeps the certificate from being as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// There is a Secret of the name that we must not write.
    SecretNotOurs,
    /// The Secret could not be written.
    SecretNotWritten,
    /// Somebody else writes it again and again.
    SecretContested,
    /// There is no registration to write the bundle to.
    RegistrationMissing,
    /// Somebody else was told to write the bundle.
    BundleNotOurs,
    /// Somebody else writes it again and again.
    BundleContested,
    /// The bundle could not be written.
    BundleNotWritten,
    /// Somebody else's bundle trusts more than it has to.
    BundleTrustsOthers,
}

impl Problem {
    const ALL: [Self; 8] = [
        Self::SecretNotOurs,
        Self::SecretNotWritten,
        Self::SecretContested,
        Self::RegistrationMissing,
        Self::BundleNotOurs,
        Self::BundleContested,
        Self::BundleNotWritten,
        Self::BundleTrustsOthers,
    ];

    /// As labels and the log say it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SecretNotOurs => "secret-not-ours",
            Self::SecretNotWritten => "secret-not-written",
            Self::SecretContested => "secret-contested",
            Self::RegistrationMissing => "registration-missing",
            Self::BundleNotOurs => "bundle-not-ours",
            Self::BundleContested => "bundle-contested",
            Self::BundleNotWritten => "bundle-not-written",
            Self::BundleTrustsOthers => "bundle-trusts-others",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    problem: &'static str,
}

/// The families; nothing is exposed before they are registered.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    ends: Family<CertificateLabels, Gauge>,
    issued: Family<CertificateLabels, Counter>,
    publications: Counter,
    phases: Family<PhaseLabels, Gauge>,
    problems: Family<ProblemLabels, Gauge>,
}

impl Certificates {
    /// Exposes them, from zero on.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "managed_certificate_expiry_timestamp",
            "When the authority and the certificate of the Secret expire, in seconds since the epoch; 0 while there is none",
            Unit::Seconds,
            self.ends.clone(),
        );
        registry.register(
            "managed_certificates_issued",
            "Authorities and certificates that were made",
            self.issued.clone(),
        );
        registry.register(
            "ca_bundle_publications",
            "Writes of the registration's caBundles",
            self.publications.clone(),
        );
        registry.register(
            "managed_certificate_rotation",
            "Where the rotation of the authority is: 1 for this phase, 0 for the others",
            self.phases.clone(),
        );
        registry.register(
            "managed_certificate_problem",
            "Whether this keeps the certificate from being as it should be",
            self.problems.clone(),
        );
        for certificate in Certificate::ALL {
            let labels = || CertificateLabels { certificate: certificate.word() };
            let _ = self.issued.get_or_create_owned(&labels());
            let _ = self.ends.get_or_create_owned(&labels());
        }
        self.phase(Phase::Settled);
        self.problems(&BTreeMap::new());
    }

    /// When the certificates of the Secret end.
    pub fn ends(&self, authority: Option<Timestamp>, leaf: Option<Timestamp>) {
        for (certificate, end) in [(Certificate::Authority, authority), (Certificate::Leaf, leaf)] {
            let gauge = self.ends.get_or_create_owned(&CertificateLabels { certificate: certificate.word() });
            gauge.set(end.map_or(0, Timestamp::as_second));
        }
    }

    /// The rotation is here.
    pub fn phase(&self, phase: Phase) {
        for each in Phase::ALL {
            let gauge = self.phases.get_or_create_owned(&PhaseLabels { phase: each.word() });
            gauge.set(i64::from(each == phase));
        }
    }

    /// Counts what was made.
    pub fn issued(&self, certificate: Certificate) {
        self.issued.get_or_create(&CertificateLabels { certificate: certificate.word() }).inc();
    }

    /// Counts a write of the bundles.
    pub fn published(&self) {
        self.publications.inc();
    }

    /// These problems are there now, with what is to be said of each, and no others.
    pub fn problems(&self, problems: &BTreeMap<Problem, String>) {
        for problem in Problem::ALL {
            let gauge = self.problems.get_or_create_owned(&ProblemLabels { problem: problem.word() });
            gauge.set(i64::from(problems.contains_key(&problem)));
        }
    }
}
