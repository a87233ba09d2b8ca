//! Whether and when a failed attempt is repeated.

use std::time::Duration;

use crate::FailureClass;

/// How often, and how far apart, a job is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RetryPolicy {
    /// Tries in all, at least one.
    pub max_attempts: u32,
    /// The pause before the second try, doubled before each further one.
    pub base_ms: u64,
    /// No pause is longer.
    pub cap_ms: u64,
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
    pub const ONCE: Self = Self { max_attempts: 1, base_ms: 0, cap_ms: 0 };
    /// Calls to a provider: three tries, 500 ms doubling, at most 30 s (ERC-9).
    pub const PROVIDER: Self = Self { max_attempts: 3, base_ms: 500, cap_ms: 30_000 };

    /// Decides after attempt number `used` (1 for the first) failed with `class`.
    ///
    /// `told` is a pause the other side asked for; it is obeyed. `jitter` is a random number in
    /// `0.0..=1.0` that picks the place inside the computed pause (full jitter).
    pub fn after(
        &self,
        class: FailureClass,
        used: u32,
        told: Option<Duration>,
        jitter: f64,
    ) -> AfterFailure {
        if !class.is_retryable() {
            return AfterFailure::Fail { exhausted: false };
        }
        if used >= self.max_attempts {
            return AfterFailure::Fail { exhausted: true };
        }
        let doublings = used.saturating_sub(1).min(32);
        let pause = self.base_ms.saturating_mul(1 << doublings).min(self.cap_ms);
        let spread = Duration::from_millis(pause).mul_f64(jitter.clamp(0.0, 1.0));
        AfterFailure::RetryIn(told.unwrap_or(spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_end_with_the_budget() {
        let policy = RetryPolicy { max_attempts: 10, base_ms: 500, cap_ms: 3_000 };
        let pause = |used| policy.after(FailureClass::Transient, used, None, 1.0);
        let millis = |ms| AfterFailure::RetryIn(Duration::from_millis(ms));
        assert_eq!(pause(1), millis(500));
        assert_eq!(pause(2), millis(1_000));
        assert_eq!(pause(4), millis(3_000));
        assert_eq!(pause(9), millis(3_000));
        assert_eq!(pause(10), AfterFailure::Fail { exhausted: true });
    }

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
}
