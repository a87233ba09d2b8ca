//! Every time and count that rules a service, checked all at once.

use std::{fmt, time::Duration};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The longest time that any of the terms may be: what is longer is a mistake in the unit.
const TIME_MAX: Duration = secs(30 * 24 * 60 * 60);

/// Every time and count that rules a service.
///
/// ```
/// use perennial_core::service::{ServiceTerms, TermsFault};
/// use std::time::Duration;
///
/// let terms = ServiceTerms { up_after: 0, health_ttl: Duration::from_secs(1), ..ServiceTerms::default() };
/// let faults = terms.faults(); // all of them at once
/// assert_eq!(faults[0], TermsFault::Zero { name: "up_after" });
/// assert!(faults[1].to_string().starts_with("health_ttl is 1s"));
/// assert!(ServiceTerms::default().faults().is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceTerms {
    /// How long one start may take until the service is ready; 3 min.
    pub ready_within: Duration,
    /// How long it is left alone after it was ready for the first time; 0, as readiness is probed.
    pub settle_delay: Duration,
    /// Time between probes while it starts; 2 s.
    pub start_probe_every: Duration,
    /// Time between probes once it runs; 10 s.
    pub probe_every: Duration,
    /// How long each of the two questions of a probe may take; 5 s.
    pub probe_timeout: Duration,
    /// So many failed probes in a row make it degraded, or, when it shows no life, crashed; 3.
    pub down_after: u32,
    /// So many passed probes in a row make it ready again; 2.
    pub up_after: u32,
    /// How old a verdict may be that admits or refuses somebody; 30 s.
    pub health_ttl: Duration,
    /// How long it runs on after its last hold was given back; 10 min.
    pub idle_stop: Duration,
    /// How long the driver may take to stop or to remove it; 15 s.
    pub stop_within: Duration,
    /// The pause before the first restart, doubled for each further one in the window; 2 s.
    pub start_backoff: Duration,
    /// The longest such pause; 30 s.
    pub backoff_max: Duration,
    /// So many restarts are tolerated in [`restarts_within`](Self::restarts_within); 5.
    pub restarts_max: u32,
    /// The window of the restarts; 5 min.
    pub restarts_within: Duration,
    /// Whether it runs without a hold, too.
    pub always_on: bool,
    /// Whether it admits while it is degraded.
    pub admit_degraded: bool,
    /// How many may hold one instance; 10 000.
    pub holds_max: usize,
}

impl Default for ServiceTerms {
    fn default() -> Self {
        Self {
            ready_within: secs(180),
            settle_delay: Duration::ZERO,
            start_probe_every: secs(2),
            probe_every: secs(10),
            probe_timeout: secs(5),
            down_after: 3,
            up_after: 2,
            health_ttl: secs(30),
            idle_stop: secs(600),
            stop_within: secs(15),
            start_backoff: secs(2),
            backoff_max: secs(30),
            restarts_max: 5,
            restarts_within: secs(300),
            always_on: false,
            admit_degraded: false,
            holds_max: 10_000,
        }
    }
}

impl ServiceTerms {
    /// The longest that one probe takes, with both of its questions.
    pub fn probe_within(&self) -> Duration {
        self.probe_timeout.saturating_mul(2)
    }

    /// Everything that cannot be meant, in the order of the fields.
    #[must_use]
    pub fn faults(&self) -> Vec<TermsFault> {
        let times = [
            ("ready_within", self.ready_within, true),
            ("settle_delay", self.settle_delay, false),
            ("start_probe_every", self.start_probe_every, true),
            ("probe_every", self.probe_every, true),
            ("probe_timeout", self.probe_timeout, true),
            ("health_ttl", self.health_ttl, true),
            ("idle_stop", self.idle_stop, false),
            ("stop_within", self.stop_within, true),
            ("start_backoff", self.start_backoff, true),
            ("backoff_max", self.backoff_max, true),
            ("restarts_within", self.restarts_within, true),
        ];
        let zero_time = times.iter().filter(|(_, time, needed)| *needed && time.is_zero());
        let zero_time = zero_time.map(|(name, _, _)| TermsFault::Zero { name });
        let counts = [
            ("down_after", self.down_after == 0),
            ("up_after", self.up_after == 0),
            ("holds_max", self.holds_max == 0),
        ];
        let zero_count = counts.iter().filter(|(_, zero)| *zero);
        let zero_count = zero_count.map(|(name, _)| TermsFault::Zero { name });
        let long = times.iter().filter(|(_, time, _)| *time > TIME_MAX);
        let long = long.map(|(name, time, _)| TermsFault::TooLong { name, time: *time });
        let mut faults: Vec<_> = zero_time.chain(zero_count).chain(long).collect();
        let mut ordered =
            |small: (&'static str, Duration), large: (&'static str, Duration), why| {
                if small.1 > large.1 {
                    faults.push(TermsFault::Inverted { small, large, why });
                }
            };
        let probe = ("three times probe_timeout", self.probe_timeout.saturating_mul(3));
        let ttl = ("health_ttl", self.health_ttl);
        ordered(probe, ttl, "the verdict of a slow probe would be too old when it comes");
        let ready = ("ready_within", self.ready_within);
        ordered(
            ("start_probe_every", self.start_probe_every),
            ready,
            "a start would not be probed again",
        );
        let longest = ("backoff_max", self.backoff_max);
        ordered(("start_backoff", self.start_backoff), longest, "the first pause would be cut");
        faults
    }
}

/// What is wrong with one of the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TermsFault {
    /// It must be more than nothing.
    Zero {
        /// Which.
        name: &'static str,
    },
    /// It is longer than 30 days.
    TooLong {
        /// Which.
        name: &'static str,
        /// What it is.
        time: Duration,
    },
    /// Two contradict each other.
    Inverted {
        /// The one that must not be longer, and what it is.
        small: (&'static str, Duration),
        /// The one that must not be shorter, and what it is.
        large: (&'static str, Duration),
        /// What would come of it.
        why: &'static str,
    },
}

impl fmt::Display for TermsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { name } => write!(f, "{name} is 0: it must be more"),
            Self::TooLong { name, time } => {
                write!(f, "{name} is {time:?}, longer than 30 days: look at its unit")
            }
            Self::Inverted { small, large, why } => write!(
                f,
                "{} is {:?}, shorter than {}, which is {:?}: {why}",
                large.0, large.1, small.0, small.1
            ),
        }
    }
}
