//! How long to wait before what failed is tried again. IO: a random part, so that replicas and templates do not try at once.
//!
//! Input: failures in a row. Output: a delay of 1, 2, 4 … 60 s, and up to half of that more.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// The delay after so many failures before this one.
pub fn delay(failures: u32) -> Duration {
    let delay = FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST);
    // The standard library seeds its hashers at random.
    let random = RandomState::new().hash_one(failures).to_le_bytes()[0];
    delay + delay.mul_f64(f64::from(random) / f64::from(u8::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::delay;

    #[test]
    fn delays_double_up_to_a_minute_and_half_of_that_more() {
        for (failures, seconds) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (u32::MAX, 60)] {
            let delay = delay(failures).as_secs_f64();
            let least = f64::from(seconds);
            assert!((least..=least * 1.5).contains(&delay), "{failures}: {delay}");
        }
    }
}
