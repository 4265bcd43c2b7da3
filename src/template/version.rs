//! Prometheus versions and what each can do. PURE.
//!
//! Input: `spec.version` or an image tag. Output: a comparable version and the one table of capabilities.

use std::fmt;
use std::str::FromStr;

/// `major.minor.patch` of a Prometheus release; a pre-release counts as its release, like upstream's gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 3 for every supported release.
    pub major: u16,
    /// Minor version, which gates flags and configuration keys.
    pub minor: u16,
    /// Patch level.
    pub patch: u16,
}

/// The text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version such as v3.13.5")]
pub struct VersionError(String);

impl Version {
    /// First supported release: 2.x cannot reload its configuration by itself.
    pub const FIRST_SUPPORTED: Self = Self::new(3, 0, 0);
    /// First major version that is not known to be compatible.
    pub const FIRST_UNKNOWN: Self = Self::new(4, 0, 0);

    /// A version from its numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `3.13.5` with or without `v`, pre-release (`-rc.0`) and build (`+x`); `3.13` means `3.13.0`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let identifiers = |part: &str| {
            part.split('.')
                .all(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        };
        if !pre.into_iter().chain(build).all(identifiers) {
            return None;
        }
        let mut numbers = core.split('.').map(number);
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().map_or(Some(0), |patch| patch)?;
        if numbers.next().is_some() {
            return None;
        }
        Some(Self { major, minor, patch })
    }

    /// Whether this version has the capability.
    pub fn has(self, capability: Capability) -> bool {
        self >= capability.since()
    }
}

/// A number without sign and without leading zeros.
fn number(digits: &str) -> Option<u16> {
    let canonical = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'));
    if canonical { digits.parse().ok() } else { None }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text).ok_or_else(|| VersionError(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What not every supported version of Prometheus can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is described by its row in CAPABILITIES")]
pub enum Capability {
    RoundRobinDns,
    OtlpKeepIdentifying,
    Sigv4Fips,
    MetadataFromSeries,
    NameEscapingScheme,
    ConvertClassicHistograms,
    OtlpConvertHistograms,
    OtlpNoTranslation,
    AlwaysScrapeClassicHistograms,
    AzureSystemIdentity,
    OtlpPromoteAll,
    OtlpPromoteScope,
    OtlpWithoutSuffixes,
    AzureWorkloadIdentity,
    ScrapeNativeHistograms,
    OtlpLabelUnderscores,
    AzureScope,
    Sigv4ExternalId,
    AutoReloadFlag,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct CapabilityRow {
    /// The capability.
    pub capability: Capability,
    /// First version that has it.
    pub since: Version,
    /// The flag or configuration key.
    pub what: &'static str,
}

/// Every version gate, by version. What 3.0 can do needs no row.
pub const CAPABILITIES: [CapabilityRow; 19] = [
    row(Capability::RoundRobinDns, 1, "remote_write.round_robin_dns"),
    row(Capability::OtlpKeepIdentifying, 1, "otlp.keep_identifying_resource_attributes"),
    row(Capability::Sigv4Fips, 1, "sigv4.use_fips_sts_endpoint"),
    row(Capability::MetadataFromSeries, 4, "remote write 2.0 without --enable-feature=metadata-wal-records"),
    row(Capability::NameEscapingScheme, 4, "global.metric_name_escaping_scheme"),
    row(Capability::ConvertClassicHistograms, 4, "global.convert_classic_histograms_to_nhcb"),
    row(Capability::OtlpConvertHistograms, 4, "otlp.convert_histograms_to_nhcb"),
    row(Capability::OtlpNoTranslation, 4, "otlp.translation_strategy: NoTranslation"),
    row(Capability::AlwaysScrapeClassicHistograms, 5, "global.always_scrape_classic_histograms"),
    row(Capability::AzureSystemIdentity, 5, "azuread.managed_identity without client_id"),
    row(
        Capability::OtlpPromoteAll,
        5,
        "otlp.promote_all_resource_attributes, otlp.ignore_resource_attributes",
    ),
    row(Capability::OtlpPromoteScope, 6, "otlp.promote_scope_metadata"),
    row(Capability::OtlpWithoutSuffixes, 6, "otlp.translation_strategy: UnderscoreEscapingWithoutSuffixes"),
    row(Capability::AzureWorkloadIdentity, 7, "azuread.workload_identity"),
    row(Capability::ScrapeNativeHistograms, 8, "global.scrape_native_histograms"),
    row(Capability::OtlpLabelUnderscores, 8, "otlp.label_name_*"),
    row(Capability::AzureScope, 9, "azuread.scope"),
    row(Capability::Sigv4ExternalId, 11, "sigv4.external_id"),
    row(Capability::AutoReloadFlag, 12, "--config.auto-reload"),
];

const fn row(capability: Capability, minor: u16, what: &'static str) -> CapabilityRow {
    CapabilityRow { capability, since: Version::new(3, minor, 0), what }
}

impl Capability {
    /// First version that has it.
    pub const fn since(self) -> Version {
        CAPABILITIES[self as usize].since
    }
}

/// How long an agent waits between two looks at its configuration. The kubelet brings changes after up to 90 s, and 5 s cost
/// no measurable CPU.
const RELOAD_INTERVAL: &str = "--config.auto-reload-interval=5s";

/// Flags by which this version reloads its configuration by itself.
pub fn reload_args(version: Version) -> Vec<String> {
    let switch = if version.has(Capability::AutoReloadFlag) {
        "--config.auto-reload"
    } else {
        "--enable-feature=auto-reload-config"
    };
    vec![switch.to_owned(), RELOAD_INTERVAL.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::{CAPABILITIES, Capability, Version, reload_args};

    #[test]
    fn versions_are_read_with_prefix_and_pre_release() {
        for (text, expected) in [
            ("v3.13.5", Version::new(3, 13, 5)),
            ("3.13.5", Version::new(3, 13, 5)),
            ("v3.0.0-beta.0", Version::new(3, 0, 0)),
            ("3.5.0-rc.1+build.7", Version::new(3, 5, 0)),
            ("v3.5", Version::new(3, 5, 0)),
            ("2.55.1", Version::new(2, 55, 1)),
        ] {
            assert_eq!(Version::parse(text), Some(expected), "{text}");
        }
        for text in
            ["", "v", "3", "latest", "3.x", "3.1.2.3", "03.1.0", "3.1.0-", "3.-1.0", "vv3.1.0", "3.99999.0"]
        {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn rows_stand_in_order_of_their_enum_and_of_versions() {
        for (index, row) in CAPABILITIES.iter().enumerate() {
            assert_eq!(row.capability as usize, index, "{}", row.what);
            assert_eq!(row.capability.since(), row.since);
        }
        assert!(CAPABILITIES.is_sorted_by_key(|row| row.since));
        assert!(CAPABILITIES.iter().all(|row| row.since > Version::FIRST_SUPPORTED));
    }

    #[test]
    fn the_switch_of_auto_reload_follows_the_version() {
        let switch = |minor| reload_args(Version::new(3, minor, 0)).remove(0);
        assert_eq!(switch(0), "--enable-feature=auto-reload-config");
        assert_eq!(switch(11), "--enable-feature=auto-reload-config");
        assert_eq!(switch(12), "--config.auto-reload");
        assert!(Version::new(3, 12, 0).has(Capability::AutoReloadFlag));
        assert!(!Version::new(3, 11, 9).has(Capability::AutoReloadFlag));
    }
}
