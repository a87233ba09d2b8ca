//! The tries of one call inside of a process: whether there is another one, and when.

use std::time::Duration;

use super::{AfterFailure, Jitter, RetryPolicy};
use crate::{FailureClass, Uptime, protection::InvalidConfig};

/// How one call is tried again where it was made, in a short wait: a policy, and what bounds it beside the deadline.
///
/// ```
/// use perennial_core::retry::{Retry, RetryPolicy};
/// use std::time::Duration;
///
/// let retry = Retry::from(RetryPolicy::PROVIDER).elapsed_max(Duration::from_secs(20));
/// assert!(retry.check().is_ok());
/// assert_eq!(Retry::LONG_RUNNING.policy.max_attempts, u32::MAX);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often, how far apart, and for which classes.
    pub policy: RetryPolicy,
    /// What is left to chance, when it is not the policy's share.
    pub jitter: Option<Jitter>,
    /// No try begins later than this after the first.
    pub elapsed_max: Option<Duration>,
    /// No try begins later than this after the last sign of progress, the first try included.
    pub progress_within: Option<Duration>,
}

impl From<RetryPolicy> for Retry {
    fn from(policy: RetryPolicy) -> Self {
        Self { policy, jitter: None, elapsed_max: None, progress_within: None }
    }
}

impl Retry {
    /// For what takes long: as many tries as fit into its deadline, 0.5 to 10 s apart, a quarter of each pause left to
    /// chance; none after two hours without progress.
    pub const LONG_RUNNING: Self = Self {
        policy: RetryPolicy {
            max_attempts: u32::MAX,
            base_ms: 500,
            cap_ms: 10_000,
            jitter_percent: 25,
            ..RetryPolicy::ONCE
        },
        jitter: None,
        elapsed_max: None,
        progress_within: Some(Duration::from_secs(2 * 60 * 60)),
    };

    /// Another jitter than the policy's.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = Some(jitter);
        self
    }

    /// No try begins later than this after the first.
    #[must_use]
    pub fn elapsed_max(mut self, time: Duration) -> Self {
        self.elapsed_max = Some(time);
        self
    }

    /// No try begins later than this after the last sign of progress.
    #[must_use]
    pub fn progress_within(mut self, time: Duration) -> Self {
        self.progress_within = Some(time);
        self
    }

    /// Whether it can be used.
    ///
    /// # Errors
    ///
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let none =
            |field, must| Err(InvalidConfig { of: "retry", field, is: "0".to_owned(), must });
        if self.policy.max_attempts == 0 {
            return none("max_attempts", "at least 1");
        }
        if self.elapsed_max.is_some_and(|time| time.is_zero()) {
            return none("elapsed_max", "longer than 0");
        }
        if self.progress_within.is_some_and(|time| time.is_zero()) {
            return none("progress_within", "longer than 0");
        }
        if self.policy.max_attempts > 1 {
            self.policy.backoff().check()?;
        }
        Ok(())
    }
}

/// One call under way: how often it was tried, and since when.
///
/// ```
/// use perennial_core::{FailureClass, Uptime};
/// use perennial_core::retry::{Course, GaveUp, Next, Retry, RetryPolicy};
/// use std::time::Duration;
///
/// let second = |secs| Uptime::new(Duration::from_secs(secs));
/// let mut course = Course::begin(Retry::from(RetryPolicy::PROVIDER), second(0));
/// assert_eq!(course.attempt(), 1);
/// let failed = |course: &Course, deadline| course.after(FailureClass::Transient, None, deadline, second(1), 1.0);
/// assert_eq!(failed(&course, second(60)), Next::RetryIn(Duration::from_millis(500)));
/// assert_eq!(failed(&course, second(1)), Next::GiveUp(GaveUp::Deadline)); // the pause would end after it
/// ```
#[derive(Clone, Debug)]
pub struct Course {
    retry: Retry,
    begun: Uptime,
    progressed: Uptime,
    attempts: u32,
}

/// What follows a failed try.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after this pause.
    RetryIn(Duration),
    /// There is no further try.
    GiveUp(GaveUp),
}

/// Why there is no further try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GaveUp {
    /// It is of a class that is not tried again.
    NotRetryable,
    /// All its tries are used.
    AttemptsUsed,
    /// The next would begin at the deadline or later.
    Deadline,
    /// The next would begin later than it may after the first.
    ElapsedMax,
    /// The next would begin later than it may after the last sign of progress.
    NoProgress,
    /// The target has had all the retries it may be asked to bear.
    BudgetExhausted,
}

impl Course {
    /// Nothing was tried yet.
    pub fn begin(retry: Retry, now: Uptime) -> Self {
        Self { retry, begun: now, progressed: now, attempts: 0 }
    }

    /// One more try begins; its number, from 1.
    pub fn attempt(&mut self) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }

    /// How often it was tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long it has been tried.
    pub fn elapsed(&self, now: Uptime) -> Duration {
        now.since(self.begun)
    }

    /// There was a sign of progress at `then`.
    pub fn progressed(&mut self, then: Uptime) {
        self.progressed = self.progressed.max(then);
    }

    /// What follows the failure of the last try, `now`. `told` is a pause that was asked for, and is obeyed; `chance` a
    /// random number in `0.0..=1.0`. No pause is begun at whose end nothing may be tried.
    pub fn after(
        &self,
        class: FailureClass,
        told: Option<Duration>,
        deadline: Uptime,
        now: Uptime,
        chance: f64,
    ) -> Next {
        let Retry { policy, jitter, elapsed_max, progress_within } = &self.retry;
        let pause = match policy.after(class, self.attempts, told, chance) {
            AfterFailure::Fail { exhausted: true } => return Next::GiveUp(GaveUp::AttemptsUsed),
            AfterFailure::Fail { exhausted: false } => return Next::GiveUp(GaveUp::NotRetryable),
            AfterFailure::RetryIn(pause) => match (told, jitter) {
                (None, Some(jitter)) => {
                    policy.backoff().jitter(*jitter).pause(self.attempts, chance)
                }
                (Some(_), _) | (None, None) => pause,
            },
        };
        let is_over = |since: Uptime, within: &Option<Duration>| {
            within.is_some_and(|within| now.since(since).saturating_add(pause) > within)
        };
        if pause >= deadline.since(now) {
            Next::GiveUp(GaveUp::Deadline)
        } else if is_over(self.begun, elapsed_max) {
            Next::GiveUp(GaveUp::ElapsedMax)
        } else if is_over(self.progressed, progress_within) {
            Next::GiveUp(GaveUp::NoProgress)
        } else {
            Next::RetryIn(pause)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Uptime {
        Uptime::new(Duration::from_millis(ms))
    }

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn exact(max_attempts: u32) -> Retry {
        Retry::from(RetryPolicy { max_attempts, jitter_percent: 0, ..RetryPolicy::PROVIDER })
    }

    /// Proves C9.10, C9.11.
    #[test]
    fn time_that_is_up_halts_before_the_next_try_and_progress_begins_it_anew() {
        let far = at(1_000_000);
        let after =
            |course: &Course, now| course.after(FailureClass::Transient, None, far, at(now), 0.0);
        let mut course = Course::begin(exact(9).elapsed_max(millis(1_500)), at(0));
        course.attempt();
        assert_eq!(after(&course, 1_000), Next::RetryIn(millis(500)));
        assert_eq!(after(&course, 1_001), Next::GiveUp(GaveUp::ElapsedMax));
        let mut course = Course::begin(exact(9).progress_within(millis(700)), at(0));
        course.attempt();
        assert_eq!(after(&course, 200), Next::RetryIn(millis(500)));
        assert_eq!(after(&course, 201), Next::GiveUp(GaveUp::NoProgress));
        course.progressed(at(100));
        course.progressed(at(50));
        assert_eq!(after(&course, 300), Next::RetryIn(millis(500)));
        assert_eq!(after(&course, 301), Next::GiveUp(GaveUp::NoProgress));
    }

    /// Proves C9.9, C9.23, INV-RT-4.
    #[test]
    fn what_was_told_is_obeyed_unless_it_is_after_the_deadline() {
        let mut course = Course::begin(exact(3).jitter(Jitter::Full), at(0));
        course.attempt();
        let told = |told, deadline| {
            course.after(FailureClass::RateLimited, Some(millis(told)), at(deadline), at(0), 0.0)
        };
        assert_eq!(told(7_000, 7_001), Next::RetryIn(millis(7_000)));
        assert_eq!(told(7_000, 7_000), Next::GiveUp(GaveUp::Deadline));
        assert_eq!(
            course.after(FailureClass::Timeout, None, at(9), at(0), 0.0),
            Next::RetryIn(millis(0))
        );
    }

    proptest! {
        /// Proves INV-RT-1, INV-RT-2, INV-RT-4.
        #[test]
        fn no_course_has_more_tries_or_takes_longer_than_it_may(
            max_attempts in 1_u32..8,
            work in prop::collection::vec((0_u64..3_000, prop::option::of(0_u64..9_000), 0.0..=1.0), 1..12),
            deadline in 0_u64..20_000,
            elapsed_max in prop::option::of(1_u64..20_000),
            permanent_at in 0_usize..12,
        ) {
            let mut retry = exact(max_attempts).jitter(Jitter::Full);
            retry.elapsed_max = elapsed_max.map(millis);
            let (mut course, mut now, mut begun) = (Course::begin(retry, at(0)), 0, Vec::new());
            for (nth, (work, told, chance)) in work.into_iter().enumerate() {
                begun.push(now);
                prop_assert_eq!(course.attempt() as usize, nth + 1);
                now += work;
                let class = match nth {
                    nth if nth == permanent_at => FailureClass::Permanent,
                    _ => FailureClass::Transient,
                };
                match course.after(class, told.map(millis), at(deadline), at(now), chance) {
                    Next::RetryIn(pause) => now += u64::try_from(pause.as_millis()).unwrap(),
                    Next::GiveUp(_) => break,
                }
                prop_assert!(nth < permanent_at);
            }
            prop_assert!(begun.len() <= max_attempts as usize);
            for begun in begun.into_iter().skip(1) {
                prop_assert!(begun < deadline.max(1));
                prop_assert!(elapsed_max.is_none_or(|most| begun <= most));
            }
        }
    }

    /// Proves C9.16.
    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let field = |retry: Retry| retry.check().unwrap_err().field;
        assert_eq!(field(exact(0)), "max_attempts");
        assert_eq!(field(exact(1).elapsed_max(Duration::ZERO)), "elapsed_max");
        assert_eq!(field(exact(1).progress_within(Duration::ZERO)), "progress_within");
        let policy = RetryPolicy { base_ms: 0, ..RetryPolicy::PROVIDER };
        assert_eq!(field(policy.into()), "base");
        assert_eq!(Retry::from(RetryPolicy::ONCE).check(), Ok(()));
        assert_eq!(Retry::LONG_RUNNING.check(), Ok(()));
    }
}
