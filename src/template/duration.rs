//! Stand-in until the template part lands.
use std::time::Duration;
/// Parses.
pub fn parse(text: &str) -> Option<Duration> {
    let n: u64 = text.strip_suffix('s')?.parse().ok()?;
    Some(Duration::from_secs(n))
}
