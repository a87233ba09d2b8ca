//! How much of a named resource is out, and whether more may go out.

use std::time::Duration;

use super::InvalidConfig;
use crate::Uptime;

/// What is out of a total.
///
/// Where an overdraft is allowed, one request that is larger than what is left may take it all the same: the balance
/// becomes negative, and everybody else waits until it is not. So a large request is never starved by small ones, and
/// what is out is at most the total and that one request.
///
/// ```
/// use perennial_core::protection::permits::Ledger;
///
/// let mut ledger = Ledger::new(10, true);
/// assert!(ledger.take(8) && ledger.take(5)); // the second overdraws
/// assert_eq!(ledger.balance(), -3);
/// assert!(!ledger.take(1));
/// ledger.give_back(5);
/// assert!(ledger.take(1));
/// assert_eq!(ledger.out(), 9);
/// ```
#[derive(Clone, Debug)]
pub struct Ledger {
    total: u64,
    out: u64,
    overdraft: bool,
}

impl Ledger {
    /// Nothing is out of `total`; `overdraft` says whether one request may exceed what is left.
    pub fn new(total: u64, overdraft: bool) -> Self {
        Self { total, out: 0, overdraft }
    }

    /// Takes `weight`, or nothing; whether it did. A weight above the total is never taken.
    pub fn take(&mut self, weight: u64) -> bool {
        let fits = self.out.checked_add(weight).is_some_and(|out| out <= self.total);
        let overdraws = self.overdraft && self.out <= self.total && weight <= self.total;
        let may = fits || overdraws;
        if may {
            self.out += weight;
        }
        may
    }

    /// Returns what was taken.
    pub fn give_back(&mut self, weight: u64) {
        assert!(weight <= self.out, "nothing is returned that was not taken");
        self.out -= weight;
    }

    /// Changes the total. What is out stays out; more goes out when it fits the new total.
    pub fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    /// How much there is.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How much is out.
    pub fn out(&self) -> u64 {
        self.out
    }

    /// What is left; negative when it is overdrawn, or the total has become less than what is out.
    pub fn balance(&self) -> i128 {
        i128::from(self.total) - i128::from(self.out)
    }
}

/// A limit that follows what the other side bears: halved when it is overloaded, one more after a time in which it was
/// not.
///
/// ```
/// use perennial_core::Uptime;
/// use perennial_core::protection::permits::Adaptive;
/// use std::time::Duration;
///
/// let second = |secs| Uptime::new(Duration::from_secs(secs));
/// let mut limit = Adaptive::new(16, Duration::from_secs(10))?;
/// limit.overloaded(second(0));
/// limit.overloaded(second(1)); // of the same window: once is enough
/// assert_eq!(limit.limit(second(1)), 8);
/// assert_eq!(limit.limit(second(11)), 9);
/// assert_eq!(limit.limit(second(1_000)), 16);
/// # Ok::<(), perennial_core::protection::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adaptive {
    limit: u64,
    /// It is never more than this, and never less than 1.
    limit_max: u64,
    window: Duration,
    halved_at: Option<Uptime>,
    /// Since when nothing was overloaded, less the windows for which it has grown.
    calm_since: Uptime,
}

impl Adaptive {
    /// The window that is right unless somebody knows better: 10 s.
    pub const WINDOW: Duration = Duration::from_secs(10);

    /// `limit_max` until somebody is overloaded.
    ///
    /// # Errors
    ///
    /// When the limit or the window is 0.
    pub fn new(limit_max: u64, window: Duration) -> Result<Self, InvalidConfig> {
        let none = |field| {
            let is = "0".to_owned();
            Err(InvalidConfig { of: "adaptive limit", field, is, must: "more than 0" })
        };
        if limit_max == 0 {
            return none("limit_max");
        }
        if window.is_zero() {
            return none("window");
        }
        let (limit, calm_since) = (limit_max, Uptime::ZERO);
        Ok(Self { limit, limit_max, window, halved_at: None, calm_since })
    }

    /// The other side was overloaded, or said that it is asked too often.
    pub fn overloaded(&mut self, now: Uptime) {
        self.grow(now);
        self.calm_since = self.calm_since.max(now);
        if self.halved_at.is_none_or(|then| now.since(then) >= self.window) {
            self.limit = (self.limit / 2).max(1);
            self.halved_at = Some(now);
        }
    }

    /// How many there may be `now`.
    pub fn limit(&mut self, now: Uptime) -> u64 {
        self.grow(now);
        self.limit
    }

    /// What it never exceeds.
    pub fn limit_max(&self) -> u64 {
        self.limit_max
    }

    /// How long nothing has to be overloaded until there is one more.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// When it will be more than it is, unless something is overloaded; `None` when it is at its most.
    pub fn grows_at(&self) -> Option<Uptime> {
        (self.limit < self.limit_max).then(|| super::later(self.calm_since, self.window))
    }

    fn grow(&mut self, now: Uptime) {
        let windows = now.since(self.calm_since).as_nanos() / self.window.as_nanos();
        let windows = u64::try_from(windows).unwrap_or(u64::MAX);
        let grown = windows.min(self.limit_max - self.limit);
        self.limit += grown;
        if self.limit == self.limit_max {
            self.calm_since = self.calm_since.max(now);
        } else {
            let time = self.window.saturating_mul(u32::try_from(grown).unwrap_or(u32::MAX));
            self.calm_since = super::later(self.calm_since, time);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Uptime {
        Uptime::new(Duration::from_secs(secs))
    }

    /// Every history of six requests and returns, for every total up to 4.
    ///
    /// Proves INV-SEM-1.
    #[test]
    fn no_more_is_out_than_the_total_and_one_overdraft() {
        fn explore(ledger: &Ledger, taken: &[u64], depth: u32) {
            let total = ledger.total();
            let out: u64 = taken.iter().sum();
            assert_eq!(ledger.out(), out);
            let largest = taken.last().copied().unwrap_or(0);
            assert!(out <= total + if ledger.overdraft { largest.max(total) } else { 0 });
            if depth == 0 {
                return;
            }
            for weight in 1..=total + 1 {
                let mut next = ledger.clone();
                let may = if ledger.overdraft {
                    weight <= total && ledger.balance() >= 0
                } else {
                    out + weight <= total
                };
                assert_eq!(next.take(weight), may, "{ledger:?} {weight}");
                if may {
                    explore(&next, &[taken, &[weight]].concat(), depth - 1);
                }
            }
            for place in 0..taken.len() {
                let (mut next, mut taken) = (ledger.clone(), taken.to_vec());
                next.give_back(taken.remove(place));
                explore(&next, &taken, depth - 1);
            }
        }
        for total in 1..=4 {
            explore(&Ledger::new(total, false), &[], 6);
            explore(&Ledger::new(total, true), &[], 6);
        }
    }

    #[test]
    fn a_smaller_total_takes_nothing_away_and_lets_nobody_in() {
        let mut ledger = Ledger::new(4, false);
        assert!(ledger.take(3));
        ledger.set_total(2);
        assert_eq!(ledger.balance(), -1);
        assert!(!ledger.take(1));
        ledger.give_back(2);
        assert!(ledger.take(1) && !ledger.take(1));
    }

    proptest! {
        /// Proves INV-SEM-5.
        #[test]
        fn an_adaptive_limit_shrinks_by_halves_and_grows_by_one(
            limit_max in 1_u64..100,
            waits in prop::collection::vec((0_u64..25, any::<bool>()), 0..60),
        ) {
            let mut adaptive = Adaptive::new(limit_max, Adaptive::WINDOW).unwrap();
            let (mut now, mut halved): (u64, Option<u64>) = (0, None);
            let (mut expected, mut calm) = (limit_max, 0);
            for (wait, overloaded) in waits {
                now += wait;
                while expected < limit_max && now - calm >= 10 {
                    expected += 1;
                    calm += 10;
                }
                prop_assert_eq!(adaptive.limit(at(now)), expected);
                if overloaded {
                    adaptive.overloaded(at(now));
                    calm = now;
                    if halved.is_none_or(|then| now - then >= 10) {
                        expected = (expected / 2).max(1);
                        halved = Some(now);
                    }
                }
                prop_assert_eq!(adaptive.limit(at(now)), expected);
                prop_assert!((1..=limit_max).contains(&expected));
            }
            while let Some(grows_at) = adaptive.grows_at() {
                let limit = adaptive.limit(at(0).max(grows_at));
                expected += 1;
                prop_assert_eq!(limit, expected);
            }
            prop_assert_eq!(expected, limit_max);
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        assert_eq!(Adaptive::new(0, Adaptive::WINDOW).unwrap_err().field, "limit_max");
        assert_eq!(Adaptive::new(1, Duration::ZERO).unwrap_err().field, "window");
    }
}
