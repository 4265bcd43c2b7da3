//! Prometheus durations. PURE.
//!
//! Input: text such as `1h30m`, `500ms` or `0`. Output: a [`Duration`] of whole milliseconds and its canonical text. Grammar:
//! prometheus/common `model/time.go`: units y w d h m s ms, each at most once and in this order.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Units with their length in milliseconds and whether they are written only when nothing is left over: 90d reads better
/// than 12w6d.
const UNITS: [(&str, u64, bool); 7] = [
    ("y", 365 * 24 * 3_600_000, true),
    ("w", 7 * 24 * 3_600_000, true),
    ("d", 24 * 3_600_000, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1000, false),
    ("ms", 1, false),
];

/// Longest duration: what 63 bits of nanoseconds hold.
const MAX_MILLIS: u64 = i64::MAX as u64 / 1_000_000;

/// A duration that is read and written in Prometheus' grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromDuration(Duration);

/// The text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum DurationError {
    /// Not of the grammar.
    #[error(
        "is not a Prometheus duration such as 30s, 1m30s or 500ms (units y, w, d, h, m, s, ms in this order)"
    )]
    Malformed,
    /// Longer than 63 bits of nanoseconds.
    #[error("is longer than Prometheus can count (about 292 years)")]
    TooLong,
}

impl PromDuration {
    /// Whole milliseconds; finer parts do not exist in the grammar.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The span of time.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whole milliseconds.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether no time passes.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for PromDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for PromDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut millis: u64 = 0;
        let mut remaining_units = UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(DurationError::Malformed)?;
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit_end);
            // Units that were passed cannot come again.
            let (_, length, _) =
                remaining_units.find(|(name, ..)| *name == unit).ok_or(DurationError::Malformed)?;
            if number.is_empty() {
                return Err(DurationError::Malformed);
            }
            let amount: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
            millis = amount
                .checked_mul(*length)
                .and_then(|part| millis.checked_add(part))
                .filter(|total| *total <= MAX_MILLIS)
                .ok_or(DurationError::TooLong)?;
            rest = next;
        }
        if text.is_empty() { Err(DurationError::Malformed) } else { Ok(Self::from_millis(millis)) }
    }
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, length, exact) in UNITS {
            if left >= length && (!exact || left.is_multiple_of(length)) {
                write!(f, "{}{unit}", left / length)?;
                left %= length;
            }
        }
        Ok(())
    }
}

impl Serialize for PromDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{DurationError, MAX_MILLIS, PromDuration};
    use proptest::prelude::*;

    #[test]
    fn every_unit_is_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1h30m", 5_400_000),
            ("90m", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 1_209_600_000),
            ("1y", 31_536_000_000),
            ("1y2w3d4h5m6s7ms", 31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_706_007),
            ("007s", 7000),
        ] {
            assert_eq!(text.parse(), Ok(PromDuration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "1", "s", "1.5s", "-1s", "1s1m", "1s1s", "1 s", "1S", "1us", "00", "1m ", "١s"] {
            assert_eq!(text.parse::<PromDuration>(), Err(DurationError::Malformed), "{text:?}");
        }
        for text in ["300y", "99999999999999999999s", "9223372036855ms"] {
            assert_eq!(text.parse::<PromDuration>(), Err(DurationError::TooLong), "{text:?}");
        }
    }

    #[test]
    fn canonical_text_is_that_of_prometheus() {
        for (text, canonical) in [
            ("90s", "1m30s"),
            ("14d", "2w"),
            ("90d", "90d"),
            ("365d", "1y"),
            ("1500ms", "1s500ms"),
            ("0", "0s"),
        ] {
            assert_eq!(text.parse::<PromDuration>().unwrap().to_string(), canonical);
        }
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back_as_the_same_duration(millis in 0..=MAX_MILLIS) {
            let duration = PromDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*") {
            let _ = text.parse::<PromDuration>();
        }
    }
}
