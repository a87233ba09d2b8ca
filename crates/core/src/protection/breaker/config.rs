//! When a breaker trips, for how long, and what closes it.

use std::time::Duration;

use crate::{
    protection::InvalidConfig,
    retry::{Backoff, Jitter},
};

/// The settings of a breaker. [`Default`] has the values named at the fields.
///
/// ```
/// use perennial_core::protection::breaker::BreakerConfig;
/// use std::time::Duration;
///
/// let config = BreakerConfig::consecutive(3).open_for(Duration::from_secs(10)).half_open(2, 2);
/// assert_eq!((config.failures_max, config.probes, config.successes), (3, 2, 2));
/// assert_eq!(config.rate, None);
/// assert_eq!(BreakerConfig::default().failures_max, 5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// So many failures in a row trip it; 5.
    pub failures_max: u32,
    /// Too many failures among the calls of a time trip it as well; by default 50 % of at least 10 in 60 s.
    pub rate: Option<FailureRate>,
    /// For how long it is open at first; 30 s.
    pub open_for: Duration,
    /// That time is doubled with each probe that fails, and is never longer than this; 5 min.
    pub open_max: Duration,
    /// By how much that time may be longer or shorter by chance, in percent; 20.
    pub jitter_percent: u8,
    /// Probes that may be under way at a time while it is half open; 1.
    pub probes: u32,
    /// Probes that must go well to close it; 1.
    pub successes: u32,
}

/// How many of the calls in a time may fail.
///
/// Time is counted in sixtieths of the window: a call counts for at most the window, and for at least 59 of them. So a
/// breaker needs as much memory for a million calls as for ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailureRate {
    /// So many percent trip it, 1 to 100.
    pub percent: u8,
    /// With fewer calls in the window nothing is concluded.
    pub calls_min: u32,
    /// For how long a call counts.
    pub window: Duration,
}

impl Default for FailureRate {
    fn default() -> Self {
        Self { percent: 50, calls_min: 10, window: Duration::from_secs(60) }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { rate: Some(FailureRate::default()), ..Self::consecutive(5) }
    }
}

impl BreakerConfig {
    /// It trips after so many failures in a row, and by no rate.
    pub const fn consecutive(failures_max: u32) -> Self {
        Self {
            failures_max,
            rate: None,
            open_for: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
            jitter_percent: 20,
            probes: 1,
            successes: 1,
        }
    }

    /// It trips as well when `percent` of at least `calls_min` calls in `window` failed.
    #[must_use]
    pub const fn rate(mut self, percent: u8, calls_min: u32, window: Duration) -> Self {
        self.rate = Some(FailureRate { percent, calls_min, window });
        self
    }

    /// For how long it is open at first. The longest time becomes as long when it is shorter.
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self.open_max = self.open_max.max(time);
        self
    }

    /// For how long it is open at most.
    #[must_use]
    pub const fn open_max(mut self, time: Duration) -> Self {
        self.open_max = time;
        self
    }

    /// By how much the time may differ by chance, in percent.
    #[must_use]
    pub const fn jitter(mut self, percent: u8) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// How many probes at a time, and how many must go well to close it.
    #[must_use]
    pub const fn half_open(mut self, probes: u32, successes: u32) -> Self {
        self.probes = probes;
        self.successes = successes;
        self
    }

    /// Whether it can be used.
    ///
    /// # Errors
    ///
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let wrong = |field, is: String, must| Err(InvalidConfig { of: "breaker", field, is, must });
        let counts = [
            ("failures_max", self.failures_max),
            ("probes", self.probes),
            ("successes", self.successes),
            ("rate.calls_min", self.rate.map_or(1, |rate| rate.calls_min)),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return wrong(field, "0".to_owned(), "at least 1");
        }
        if let Some(rate) = self.rate {
            if !(1..=100).contains(&rate.percent) {
                return wrong("rate.percent", rate.percent.to_string(), "1 to 100");
            }
            if rate.window.is_zero() {
                return wrong("rate.window", "0 s".to_owned(), "longer than 0");
            }
        }
        if self.open_for.is_zero() {
            return wrong("open_for", "0 s".to_owned(), "longer than 0");
        }
        if self.open_max < self.open_for {
            return wrong("open_max", format!("{:?}", self.open_max), "at least `open_for`");
        }
        if self.jitter_percent >= 100 {
            return wrong("jitter_percent", self.jitter_percent.to_string(), "below 100");
        }
        Ok(())
    }

    /// For how long it is open after `doublings` failed probes in a row; `chance` in `0.0..=1.0` is the place inside
    /// of the jitter.
    pub(super) fn open_time(&self, doublings: u32, chance: f64) -> Duration {
        let jitter = u32::from(self.jitter_percent.min(100));
        Backoff::doubling(self.open_for, self.open_max)
            .jitter(Jitter::Range(100 - jitter, 100 + jitter))
            .pause(doublings.saturating_add(1), chance)
    }
}
