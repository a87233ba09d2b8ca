//! The server's clock (STO-46), as last measured and moved by this machine's monotonic time.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use perennial_core::Timestamp;

/// Gives out instants of the server's clock; never one before an earlier one.
pub(super) struct ServerClock {
    started: Instant,
    /// The server's instant when this clock was started, by the last measurement, in microseconds.
    base: AtomicI64,
    /// The latest instant given out.
    latest: AtomicI64,
}

impl ServerClock {
    #[expect(clippy::disallowed_methods, reason = "this is a clock that others ask")]
    pub(super) fn new(server: Timestamp) -> Self {
        let base = server.as_micros();
        Self { started: Instant::now(), base: base.into(), latest: base.into() }
    }

    /// How long it runs.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The server's clock has just shown `server`. Since then its answer travelled: this clock is behind by
    /// that, and never ahead.
    pub(super) fn measured(&self, server: Timestamp) {
        let uptime = i64::try_from(self.uptime().as_micros()).unwrap_or(i64::MAX);
        self.base.store(server.as_micros().saturating_sub(uptime), Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Timestamp {
        let now = Timestamp::from_micros(self.base.load(Ordering::Relaxed)).after(self.uptime());
        let latest = self.latest.fetch_max(now.as_micros(), Ordering::Relaxed);
        Timestamp::from_micros(latest.max(now.as_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves INV-31.
    /// This machine's clock of the wall is asked by nobody.
    #[test]
    fn a_server_clock_that_is_set_back_does_not_take_this_one_with_it() {
        let noon = Timestamp::from_micros(12 * 3_600_000_000);
        let clock = ServerClock::new(noon);
        let before = clock.now();
        clock.measured(noon.after(Duration::from_secs(3600)));
        let later = clock.now();
        assert!(later.since(before) >= Duration::from_secs(3599), "it follows forward");
        clock.measured(noon);
        assert!(clock.now() >= later, "and never back");
    }
}
