//! Whether and when a failed attempt is repeated.
//!
//! | room | decides |
//! |---|---|
//! | [`Backoff`] | how long pauses are |
//! | [`Course`] | whether one call is tried again where it was made |
//! | [`http`] | what an answer of HTTP says about trying again |
//! | [`RetryPolicy`] | how often a job is tried; it is recorded with the job |

mod backoff;
mod course;
pub mod http;

pub use backoff::{Backoff, Jitter};
pub use course::{Course, GaveUp, Next, Retry};

use std::time::Duration;

use crate::FailureClass;

/// How often, and how far apart, a job is tried.
///
/// ```
/// use perennial_core::retry::{Growth, RetryPolicy};
///
/// let patient = RetryPolicy { max_attempts: 5, base_ms: 1_000, ..RetryPolicy::PROVIDER };
/// assert_eq!((patient.cap_ms, patient.growth), (30_000, Growth::Exponential));
/// assert_eq!(RetryPolicy::ONCE.max_attempts, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RetryPolicy {
    /// Tries in all, at least one.
    pub max_attempts: u32,
    /// The pause before the second try; how it grows before each further one is `growth`'s.
    pub base_ms: u64,
    /// No pause is longer.
    pub cap_ms: u64,
    /// How pauses grow.
    #[serde(default, skip_serializing_if = "Growth::is_exponential")]
    pub growth: Growth,
    /// Which share of a pause is left to chance, in percent.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub jitter_percent: u8,
    /// The only classes that are tried again; without it those that are retryable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Classes>,
    /// How often its process may die with it in a row before it is not tried again, at least once. Such a
    /// death uses no try.
    #[serde(default = "three", skip_serializing_if = "is_three")]
    pub crashes_max: u32,
}

fn three() -> u32 {
    3
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_three(crashes: &u32) -> bool {
    *crashes == three()
}

fn all() -> u8 {
    100
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_all(percent: &u8) -> bool {
    *percent == 100
}

/// How the pauses between attempts grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// Each is twice the one before.
    #[default]
    Exponential,
    /// Each is longer by the first one.
    Linear,
    /// All are the same.
    Fixed,
}

impl Growth {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_exponential(&self) -> bool {
        *self == Self::Exponential
    }
}

/// A set of classes; recorded as a list of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<FailureClass>", into = "Vec<FailureClass>")]
pub struct Classes(u32);

impl Classes {
    fn bit(class: FailureClass) -> u32 {
        let place = FailureClass::ALL.iter().position(|known| *known == class);
        place.map_or(0, |place| 1 << place)
    }

    /// Whether `class` is one of them.
    pub fn contains(self, class: FailureClass) -> bool {
        self.0 & Self::bit(class) != 0
    }
}

impl FromIterator<FailureClass> for Classes {
    fn from_iter<I: IntoIterator<Item = FailureClass>>(classes: I) -> Self {
        Self(classes.into_iter().fold(0, |bits, class| bits | Self::bit(class)))
    }
}

impl From<Vec<FailureClass>> for Classes {
    fn from(classes: Vec<FailureClass>) -> Self {
        classes.into_iter().collect()
    }
}

impl From<Classes> for Vec<FailureClass> {
    fn from(classes: Classes) -> Self {
        FailureClass::ALL.into_iter().filter(|class| classes.contains(*class)).collect()
    }
}

/// What follows a failed attempt.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Try again after this pause.
    RetryIn(Duration),
    /// The job has failed.
    Fail {
        /// Whether a retryable failure ran out of attempts.
        exhausted: bool,
    },
}

impl RetryPolicy {
    /// One try.
    pub const ONCE: Self = Self {
        max_attempts: 1,
        base_ms: 0,
        cap_ms: 0,
        growth: Growth::Exponential,
        jitter_percent: 100,
        only: None,
        crashes_max: 3,
    };
    /// Calls to a provider: three tries, 500 ms doubling, at most 30 s (ERC-9).
    pub const PROVIDER: Self = Self { max_attempts: 3, base_ms: 500, cap_ms: 30_000, ..Self::ONCE };

    /// The same, under a name of its own.
    pub const EXPONENTIAL: Self = Self::paced(Backoff::EXPONENTIAL);
    /// Three tries, 500 ms more each time, at most 5 s.
    pub const LINEAR: Self = Self::paced(Backoff::LINEAR);
    /// Three tries, a second apart.
    pub const FIXED: Self = Self::paced(Backoff::FIXED);
    /// Three tries, a millisecond apart.
    pub const IMMEDIATE: Self = Self::paced(Backoff::IMMEDIATE);

    /// The policy of this name: `exponential`, `linear`, `fixed` or `immediate`, also `exponential_backoff`,
    /// `linear_backoff` and `fixed_delay`.
    ///
    /// ```
    /// use perennial_core::retry::RetryPolicy;
    ///
    /// assert_eq!(RetryPolicy::named("fixed_delay"), Some(RetryPolicy::FIXED));
    /// assert_eq!(RetryPolicy::named("sometimes"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        Backoff::named(name).map(Self::paced)
    }

    /// The tries of [`Self::PROVIDER`], with the growth and the bounds of `backoff`.
    const fn paced(backoff: Backoff) -> Self {
        let (base_ms, cap_ms) = (backoff.base.as_millis() as u64, backoff.cap.as_millis() as u64);
        Self { growth: backoff.growth, base_ms, cap_ms, ..Self::PROVIDER }
    }

    /// How long its pauses are.
    pub fn backoff(&self) -> Backoff {
        Backoff {
            growth: self.growth,
            base: Duration::from_millis(self.base_ms),
            factor_percent: 200,
            cap: Duration::from_millis(self.cap_ms),
            jitter: Jitter::Factor(self.jitter_percent.into()),
        }
    }

    /// Decides after attempt number `used` (1 for the first) failed with `class`.
    ///
    /// `told` is a pause the other side asked for; it is obeyed. `jitter` is a random number in
    /// `0.0..=1.0` that picks the place inside the share of the pause that is left to chance.
    pub fn after(
        &self,
        class: FailureClass,
        used: u32,
        told: Option<Duration>,
        jitter: f64,
    ) -> AfterFailure {
        if !self.only.map_or(class.is_retryable(), |only| only.contains(class)) {
            return AfterFailure::Fail { exhausted: false };
        }
        if used >= self.max_attempts {
            return AfterFailure::Fail { exhausted: true };
        }
        AfterFailure::RetryIn(told.unwrap_or_else(|| self.backoff().pause(used, jitter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves INV-19.
    #[test]
    fn pauses_double_up_to_the_cap_and_end_with_the_budget() {
        let policy =
            RetryPolicy { max_attempts: 10, base_ms: 500, cap_ms: 3_000, ..RetryPolicy::ONCE };
        let pause = |used| policy.after(FailureClass::Transient, used, None, 1.0);
        let millis = |ms| AfterFailure::RetryIn(Duration::from_millis(ms));
        assert_eq!(pause(1), millis(500));
        assert_eq!(pause(2), millis(1_000));
        assert_eq!(pause(4), millis(3_000));
        assert_eq!(pause(9), millis(3_000));
        assert_eq!(pause(10), AfterFailure::Fail { exhausted: true });
    }

    /// Proves INV-19, R3.9, D26.
    #[test]
    fn what_cannot_get_better_is_not_repeated_and_what_was_told_is_obeyed() {
        let policy = RetryPolicy::PROVIDER;
        assert_eq!(
            policy.after(FailureClass::Permanent, 1, None, 1.0),
            AfterFailure::Fail { exhausted: false }
        );
        let told = Duration::from_secs(7);
        assert_eq!(
            policy.after(FailureClass::RateLimited, 1, Some(told), 0.0),
            AfterFailure::RetryIn(told)
        );
    }

    #[test]
    fn pauses_grow_as_told_and_only_their_share_is_left_to_chance() {
        let policy =
            RetryPolicy { max_attempts: 9, base_ms: 100, cap_ms: 350, ..RetryPolicy::ONCE };
        let pauses = |policy: RetryPolicy, jitter| {
            [1, 2, 3, 4].map(|used| match policy.after(FailureClass::Timeout, used, None, jitter) {
                AfterFailure::RetryIn(pause) => pause.as_millis(),
                AfterFailure::Fail { .. } => 0,
            })
        };
        let grown = |growth, percent| RetryPolicy { growth, jitter_percent: percent, ..policy };
        assert_eq!(pauses(grown(Growth::Exponential, 0), 0.0), [100, 200, 350, 350]);
        assert_eq!(pauses(grown(Growth::Linear, 0), 0.0), [100, 200, 300, 350]);
        assert_eq!(pauses(grown(Growth::Fixed, 0), 0.0), [100, 100, 100, 100]);
        assert_eq!(pauses(grown(Growth::Fixed, 50), 0.0), [50, 50, 50, 50]);
        assert_eq!(pauses(grown(Growth::Fixed, 50), 0.5), [75, 75, 75, 75]);
        assert_eq!(pauses(grown(Growth::Fixed, 100), 0.0), [0, 0, 0, 0]);
    }

    /// Proves INV-RT-5.
    #[test]
    fn no_pause_is_shorter_than_the_one_before_or_longer_than_the_cap() {
        for name in ["exponential_backoff", "linear_backoff", "fixed_delay", "immediate"] {
            let named = RetryPolicy::named(name).unwrap();
            let policy = RetryPolicy { max_attempts: u32::MAX, ..named };
            let pause = |used, jitter| match policy.after(FailureClass::Timeout, used, None, jitter)
            {
                AfterFailure::RetryIn(pause) => pause,
                AfterFailure::Fail { .. } => panic!("{used}"),
            };
            let cap = Duration::from_millis(policy.cap_ms);
            let mut before = Duration::ZERO;
            for used in (1..200).chain([1_000_000, u32::MAX - 1]) {
                let longest = pause(used, 1.0);
                assert!(before <= longest && longest <= cap, "{name} {used}");
                assert!(pause(used, 0.0) <= pause(used, 0.5) && pause(used, 0.5) <= longest);
                before = longest;
            }
            assert_eq!(before, cap);
        }
    }

    #[test]
    fn named_classes_are_tried_again_and_no_others() {
        let only = [FailureClass::Permanent, FailureClass::Timeout].into_iter().collect();
        let policy = RetryPolicy { max_attempts: 2, only: Some(only), ..RetryPolicy::ONCE };
        let again = |class| matches!(policy.after(class, 1, None, 0.0), AfterFailure::RetryIn(_));
        assert!(again(FailureClass::Permanent) && again(FailureClass::Timeout));
        assert!(!again(FailureClass::Transient));
    }

    #[test]
    fn a_policy_that_was_recorded_before_its_newer_fields_reads_and_writes_the_same() {
        let old = r#"{"max_attempts":3,"base_ms":500,"cap_ms":30000}"#;
        let policy: RetryPolicy = serde_json::from_str(old).unwrap();
        assert_eq!(policy, RetryPolicy::PROVIDER);
        assert_eq!(serde_json::to_string(&policy).unwrap(), old);
        let only = Some([FailureClass::Timeout].into_iter().collect());
        let new = RetryPolicy { growth: Growth::Linear, jitter_percent: 0, only, ..policy };
        let text = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<RetryPolicy>(&text).unwrap(), new);
        assert!(
            text.ends_with(r#""growth":"linear","jitter_percent":0,"only":["timeout"]}"#),
            "{text}"
        );
    }
}
