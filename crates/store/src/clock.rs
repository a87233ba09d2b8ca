//! The store's clocks (STO-36): the only place of this crate that asks the machine for the time.

use std::{fmt, sync::Arc, time::Duration};

use perennial_core::Timestamp;

/// How far ahead of the persisted anchor a reopened store starts at least. The writer moves the
/// anchor with the first commit after this time, so no instant is given out twice. Shorter than any
/// process lives, so that openings that follow each other do not lead the store's clock away.
pub(crate) const ANCHOR_STEP: Duration = Duration::from_millis(50);

/// A source of instants that never runs back.
#[derive(Clone)]
pub(crate) struct StoreClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl StoreClock {
    /// The wall time `wall` of this moment, moved by monotonic time from then on; never before `floor`.
    #[expect(clippy::disallowed_methods, reason = "this module is the clock that others ask")]
    pub(crate) fn anchored(wall: Timestamp, floor: Timestamp) -> Self {
        let base = wall.max(floor);
        let started = std::time::Instant::now();
        Self(Arc::new(move || base.after(started.elapsed())))
    }

    /// Wall time at this moment, moved by the timer of the async runtime: it stands still while
    /// that is paused.
    #[expect(clippy::disallowed_methods, reason = "this module is the clock that others ask")]
    pub(crate) fn of_runtime() -> Self {
        let base = wall();
        let started = tokio::time::Instant::now();
        Self(Arc::new(move || base.after(started.elapsed())))
    }

    /// The caller's own.
    pub(crate) fn custom(now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self(now)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for StoreClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreClock").field(&self.now()).finish()
    }
}

/// The wall clock; an instant before the epoch counts as the epoch.
#[expect(clippy::disallowed_methods, reason = "this module is the clock that others ask")]
pub(crate) fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::default().after(since.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Proves INV-31, INV-ST-25.
    /// Set by an hour between two openings, in each direction; between them nobody asks for it.
    #[test]
    fn a_wall_clock_that_was_set_does_not_take_the_store_with_it() {
        let floor = wall();
        for (wall, first_at) in [
            (floor, floor),
            (floor.after(HOUR), floor.after(HOUR)),
            (Timestamp::from_micros(floor.as_micros() - 3_600_000_000), floor),
        ] {
            let clock = StoreClock::anchored(wall, floor);
            let first = clock.now();
            assert!(first >= first_at && clock.now() >= first);
            // Real time: as much as has passed since, and not the way to the wall.
            assert!(clock.now().since(first_at) < HOUR / 2);
        }
    }
}
