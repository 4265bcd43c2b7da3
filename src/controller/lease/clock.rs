//! The clock that claims expire by. IO: reads it.
//!
//! Input: none. Output: moments that never go back, and that count while the process is stopped or the machine is suspended.
//! `Instant` is `CLOCK_MONOTONIC` on Linux, which stands still in a suspended machine, so that a claim from before would live
//! on; `CLOCK_BOOTTIME` does not. A virtual machine whose host stops all its clocks with it cannot tell by any of them.

use super::record::Moment;

/// A source of moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(fn() -> Moment);

impl Clock {
    pub(super) const SYSTEM: Self = Self(system);

    #[cfg(test)]
    pub(super) const fn of(now: fn() -> Moment) -> Self {
        Self(now)
    }

    pub(super) fn now(self) -> Moment {
        (self.0)()
    }
}

#[cfg(target_os = "linux")]
fn system() -> Moment {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Moment::new(since_boot.try_into().expect("invariant: no time before the boot"))
}

#[cfg(not(target_os = "linux"))]
fn system() -> Moment {
    static ORIGIN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    Moment::new(ORIGIN.elapsed())
}
