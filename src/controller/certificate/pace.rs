//! How often something is written that others write too. IO: a clock.
//!
//! Input: each write, and whose work it replaced. Output: how long the next one has to wait, and whether it is a contest.

use std::time::Duration;

use tokio::time::Instant;

/// How often something is written: at once where it is missing, ever more rarely where another puts its own in its place.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
    /// How often in a row others replaced what was written, and who did.
    contests: u32,
    by: String,
}

impl Pace {
    /// Nothing is written more often than this.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_mins(1);
    /// After this time without another's, nothing is contested. Tools that set things back come every few minutes.
    const QUIET: Duration = Duration::from_mins(15);
    /// More than a person does by mistake.
    const CONTESTED: u32 = 3;

    fn since(&self) -> Option<Duration> {
        self.last.map(|last| last.elapsed()).filter(|since| *since < Self::QUIET)
    }

    /// How long the write has to wait, that replaces what these wrote.
    pub fn wait(&self, by: &str) -> Option<Duration> {
        let since = self.since()?;
        let factor = if by.is_empty() { 1 } else { 2_u32.saturating_pow(self.contests) };
        let pause = Self::SHORTEST.saturating_mul(factor).min(Self::LONGEST);
        pause.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    /// Something was written that replaces what these wrote.
    pub fn wrote(&mut self, by: &str) {
        match self.since() {
            Some(_) if by.is_empty() => {}
            Some(_) => self.contests = self.contests.saturating_add(1),
            None => self.contests = 0,
        }
        if !by.is_empty() {
            by.clone_into(&mut self.by);
        }
        self.last = Some(Instant::now());
    }

    /// Who replaces it again and again, if somebody does.
    pub fn contested(&self) -> Option<&str> {
        (self.contests >= Self::CONTESTED && self.since().is_some()).then_some(&*self.by)
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
