use perennial_core::{Timestamp, Uptime};
use tokio::time::Instant;

/// The one place that reads the clocks. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
    /// Wall time at `epoch`; later wall times are computed, so that they never run back.
    epoch_micros: i64,
}

#[expect(clippy::disallowed_methods, reason = "this is the clock everyone else must ask")]
impl Clock {
    /// A clock whose uptime is now zero.
    pub fn start() -> Self {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let epoch_micros = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
        Self { epoch: Instant::now(), epoch_micros }
    }

    /// Time since [`Clock::start`].
    pub fn now(&self) -> Uptime {
        Uptime::new(self.epoch.elapsed())
    }

    /// Wall time: that of the start, moved by the monotonic clock.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.epoch_micros).after(self.epoch.elapsed())
    }
}
