use perennial_core::{Timestamp, Uptime};
use tokio::time::Instant;

/// The one place that reads the clocks. Cheap to copy.
///
/// ```
/// use perennial_supervision::Clock;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let clock = Clock::start();
/// let begun = clock.now();
/// tokio::time::sleep(Duration::from_secs(60)).await; // paused clock
/// assert_eq!(clock.now().since(begun), Duration::from_secs(60));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
    /// Wall time at `epoch`; later wall times are computed, so that they never run back.
    epoch_micros: i64,
}

#[expect(clippy::disallowed_methods, reason = "this is the clock everyone else must ask")]
impl Clock {
    /// A clock whose uptime is now zero.
    ///
    /// ```
    /// use perennial_supervision::Clock;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// assert_eq!(Clock::start().now().elapsed(), Duration::ZERO);
    /// # }
    /// ```
    pub fn start() -> Self {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let epoch_micros = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
        Self { epoch: Instant::now(), epoch_micros }
    }

    /// Time since [`Clock::start`].
    ///
    /// ```
    /// use perennial_supervision::Clock;
    ///
    /// let clock = Clock::start();
    /// let begun = clock.now();
    /// assert!(clock.now() >= begun); // it never runs back
    /// ```
    pub fn now(&self) -> Uptime {
        Uptime::new(self.epoch.elapsed())
    }

    /// An instant in nanoseconds, exact to a few milliseconds and five times cheaper to read than
    /// [`now`](Self::now): for what is noted at every message. Never 0, and to be compared with its like
    /// only. With the feature `testing` it is the clock of tokio, which a test may pause.
    #[cfg(all(not(feature = "testing"), any(target_os = "linux", target_os = "android")))]
    #[expect(clippy::unused_self, reason = "elsewhere it is the time since the epoch")]
    pub(crate) fn coarse(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
        seconds * 1_000_000_000 + nanos + 1
    }

    /// As above.
    #[cfg(not(all(not(feature = "testing"), any(target_os = "linux", target_os = "android"))))]
    pub(crate) fn coarse(&self) -> u64 {
        let elapsed = self.epoch.elapsed();
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()) + 1
    }

    /// The instant `time` from now, or one in thirty years where there is none.
    pub(crate) fn after(time: std::time::Duration) -> Instant {
        const FAR: std::time::Duration = std::time::Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let now = Instant::now();
        now.checked_add(time).unwrap_or_else(|| now + FAR)
    }

    /// Processor time that this process has taken so far, all its threads together; nothing where the
    /// system does not tell.
    ///
    /// ```
    /// use perennial_supervision::Clock;
    ///
    /// if let (Some(before), Some(after)) = (Clock::cpu_time(), Clock::cpu_time()) {
    ///     assert!(after >= before);
    /// }
    /// ```
    pub fn cpu_time() -> Option<std::time::Duration> {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
        {
            let taken = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let seconds = u64::try_from(taken.tv_sec).ok()?;
            Some(std::time::Duration::new(seconds, u32::try_from(taken.tv_nsec).ok()?))
        }
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
        None
    }

    /// Wall time: that of the start, moved by the monotonic clock.
    ///
    /// ```
    /// use perennial_supervision::Clock;
    ///
    /// let clock = Clock::start();
    /// let begun = clock.timestamp();
    /// assert!(clock.timestamp() >= begun); // even when somebody sets the wall clock back
    /// ```
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.epoch_micros).after(self.epoch.elapsed())
    }
}
