//! Kubernetes quantities (`resource.Quantity`). PURE.
//!
//! Input: text such as `128Mi`, `0.5`, `100m`, `1e3`. Output: an exact number of billionths, compared and added as such,
//! and canonical text for the amounts that we state ourselves. Grammar: apimachinery `pkg/api/resource/quantity.go`.

use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// Largest magnitude of a quantity, 2⁶³ − 1; the API server caps at it as well.
const MAX: i128 = (i64::MAX as i128) * NANO;

/// An exact amount, in billionths of the resource's unit (cores, bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity(i128);

/// The text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity such as 500m, 0.5, 128Mi or 1G")]
pub struct QuantityError(String);

impl Quantity {
    /// A whole number of units: bytes or cores.
    pub const fn from_units(units: u64) -> Self {
        Self(units as i128 * NANO)
    }

    /// Thousandths of a unit: millicores.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis as i128 * (NANO / 1000))
    }

    /// Mebibytes.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self::from_units(mebibytes * 1024 * 1024)
    }

    /// The amount in whole units, rounded up as the kubelet does; 0 for negative amounts.
    pub fn units(self) -> u64 {
        u64::try_from((self.0 + NANO - 1).div_euclid(NANO)).unwrap_or(0)
    }

    /// The nearest floating-point number.
    #[expect(clippy::cast_precision_loss, reason = "the nearest number is what is asked for")]
    pub fn approximate(self) -> f64 {
        self.0 as f64 / NANO as f64
    }

    /// Whether nothing is stated; the API server treats a zero request like an absent one.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether the amount is below zero, which no resource accepts.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum, capped like the API server's.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self((self.0 + other.0).min(MAX))
    }

    /// The amount `factor` times.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(i128::from(factor)).min(MAX))
    }

    /// Reads a quantity without allocating; `None` where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, unsigned) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let scale = Scale::parse(suffix)?;
        // Digits beyond the first 27 change nothing that the cap or the rounding would leave.
        let mut mantissa: i128 = 0;
        let mut fraction_digits = 0i32;
        for digit in whole.bytes() {
            mantissa = mantissa.saturating_mul(10).saturating_add(i128::from(digit - b'0')).min(MAX);
        }
        for digit in fraction.bytes().take(9) {
            mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
            fraction_digits += 1;
        }
        let lost = fraction.bytes().skip(9).any(|digit| digit != b'0');
        let nanos = scale.apply(mantissa, fraction_digits, lost);
        Some(Self(sign * nanos.min(MAX)))
    }
}

/// What stands behind the number.
enum Scale {
    Binary(u32),
    Decimal(i32),
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "" => Self::Decimal(0),
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            "Ki" => Self::Binary(10),
            "Mi" => Self::Binary(20),
            "Gi" => Self::Binary(30),
            "Ti" => Self::Binary(40),
            "Pi" => Self::Binary(50),
            "Ei" => Self::Binary(60),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                Self::Decimal(exponent.parse().ok()?)
            }
        })
    }

    /// Billionths, rounded up like the API server rounds what is finer than that.
    fn apply(&self, mantissa: i128, fraction_digits: i32, lost: bool) -> i128 {
        let (scaled, exponent) = match *self {
            Self::Binary(shift) => (mantissa.saturating_mul(1i128 << shift), 9 - fraction_digits),
            Self::Decimal(power) => (mantissa, power + 9 - fraction_digits),
        };
        if exponent >= 0 {
            let factor = 10i128.checked_pow(exponent.unsigned_abs());
            factor.map_or(if scaled == 0 { 0 } else { MAX }, |factor| scaled.saturating_mul(factor))
        } else {
            let divisor = 10i128.checked_pow(exponent.unsigned_abs()).unwrap_or(i128::MAX);
            let remainder = scaled % divisor != 0 || lost;
            scaled / divisor + i128::from(remainder)
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| QuantityError(text.to_owned()))
    }
}

/// Canonical text of amounts: the largest binary suffix that divides the whole number, else decimal with `m`, `u` or `n`.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % NANO == 0 {
            let units = self.0 / NANO;
            for (suffix, shift) in [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
                if units != 0 && units % (1i128 << shift) == 0 {
                    return write!(f, "{}{suffix}", units >> shift);
                }
            }
            return write!(f, "{units}");
        }
        for (suffix, divisor) in [("m", NANO / 1000), ("u", 1000)] {
            if self.0 % divisor == 0 {
                return write!(f, "{}{suffix}", self.0 / divisor);
            }
        }
        write!(f, "{}n", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    fn units(text: &str) -> u64 {
        Quantity::parse(text).unwrap().units()
    }

    #[test]
    fn every_suffix_is_read() {
        for (text, expected) in [
            ("128Mi", 128 << 20),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("1G", 1_000_000_000),
            ("1k", 1000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("12", 12),
            (".5Ki", 512),
            ("5.", 5),
            ("+7", 7),
            ("100m", 1),
            ("1n", 1),
        ] {
            assert_eq!(units(text), expected, "{text}");
        }
        assert_eq!(Quantity::parse("1000m"), Quantity::parse("1"));
        assert_eq!(Quantity::parse("0.1"), Quantity::parse("100m"));
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in ["", ".", "-", "1.2.3", "1mi", "1 Mi", "Mi", "1e", "1e+", "0x10", "1e99999", "٣"] {
            assert_eq!(Quantity::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn extreme_amounts_are_capped_and_not_overflowed() {
        for text in ["9999999999999999999999999999999999999999", "10E", "1e999", "999999999999Ei"] {
            assert_eq!(units(text), i64::MAX as u64, "{text}");
        }
        assert_eq!(Quantity::parse("1e-999").unwrap().units(), 1);
        assert_eq!(Quantity::parse("0e999").unwrap().units(), 0);
    }

    #[test]
    fn canonical_text_reads_back_as_the_same_amount() {
        for (text, canonical) in
            [("1024Mi", "1Gi"), ("500m", "500m"), ("0.5", "500m"), ("64Mi", "64Mi"), ("3", "3"), ("1u", "1u")]
        {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!(quantity.to_string(), canonical);
            assert_eq!(Quantity::parse(canonical), Some(quantity));
        }
    }
}
