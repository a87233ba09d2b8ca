//! How many retries a target is asked to bear, so that they do not become a storm.

use std::time::Duration;

use super::limiter::{Decision, Limit, LimiterConfig, Meters};
use crate::Uptime;

/// Retries of one target: a share of its first attempts, and a reserve so that one that is seldom called may be tried
/// again, too.
///
/// ```
/// use perennial_core::Uptime;
/// use perennial_core::protection::retry_budget::RetryBudget;
///
/// let mut budget = RetryBudget::new(20, 0);
/// assert!(!budget.retry(Uptime::ZERO));
/// (0..5).for_each(|_| budget.first_attempt());
/// assert!(budget.retry(Uptime::ZERO)); // five calls pay for one
/// assert!(!budget.retry(Uptime::ZERO));
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    percent: u32,
    /// Hundredths of a retry; at most [`SAVED_MAX`](Self::SAVED_MAX) retries.
    saved: u32,
    /// None when there is no reserve.
    reserve: Option<Meters<()>>,
}

impl Default for RetryBudget {
    /// 20 % of the first attempts, and 10 in a minute.
    fn default() -> Self {
        Self::new(20, 10)
    }
}

impl RetryBudget {
    /// Retries that can be saved, so that a long good time pays for no storm.
    pub const SAVED_MAX: u32 = 100;

    /// `percent` of the first attempts, and `reserve` in any minute.
    pub fn new(percent: u32, reserve: u32) -> Self {
        let limit = Limit::sliding_log(u64::from(reserve), Duration::from_secs(60));
        Self { percent, saved: 0, reserve: Meters::new(LimiterConfig::one(limit)).ok() }
    }

    /// A call is made for the first time.
    pub fn first_attempt(&mut self) {
        self.saved = self.saved.saturating_add(self.percent).min(Self::SAVED_MAX * 100);
    }

    /// Takes one retry; whether there was one.
    #[must_use]
    pub fn retry(&mut self, now: Uptime) -> bool {
        if let Some(left) = self.saved.checked_sub(100) {
            self.saved = left;
            return true;
        }
        let Some(reserve) = &mut self.reserve else { return false };
        matches!(reserve.check(&(), &[1], now), Ok(Decision::Allowed { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves INV-RT-8.
    #[test]
    fn a_thousand_failing_calls_make_no_more_attempts_than_the_budget_and_its_reserve() {
        for (percent, reserve) in [(0, 0), (20, 0), (20, 10), (100, 3)] {
            let mut budget = RetryBudget::new(percent, reserve);
            let mut attempts = 0;
            // All inside of one minute; each would be tried again for ever.
            for call in 0..1_000_u64 {
                let now = Uptime::new(Duration::from_millis(call * 50));
                budget.first_attempt();
                attempts += 1;
                while budget.retry(now) {
                    attempts += 1;
                }
            }
            assert_eq!(attempts, 1_000 + 10 * percent + reserve);
        }
    }

    /// Proves INV-RT-8.
    #[test]
    fn the_reserve_comes_back_and_what_is_saved_is_bounded() {
        let minute = |count: u64| Uptime::new(Duration::from_secs(60 * count));
        let mut budget = RetryBudget::default();
        for count in 0..3 {
            assert_eq!((0..99).filter(|_| budget.retry(minute(count))).count(), 10);
        }
        (0..10_000).for_each(|_| budget.first_attempt());
        assert_eq!((0..999).filter(|_| budget.retry(minute(9))).count(), 110);
    }
}
