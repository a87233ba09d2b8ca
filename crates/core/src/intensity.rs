//! When a supervisor gives up.

use std::{collections::VecDeque, time::Duration};

use crate::Uptime;

/// How many restarts are tolerated, and in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntensityLimit {
    /// Restarts allowed inside the period; 0 means none.
    pub max_restarts: u32,
    /// Length of the sliding window; its edge counts (SUP-124).
    pub within: Duration,
}

impl Default for IntensityLimit {
    /// Elixir's value: 3 restarts in 5 seconds (SUP-024).
    fn default() -> Self {
        Self { max_restarts: 3, within: Duration::from_secs(5) }
    }
}

/// Counts restarts in a sliding window.
#[derive(Clone, Debug)]
pub struct RestartIntensity {
    limit: IntensityLimit,
    /// Never longer than `max_restarts + 1`.
    restarts: VecDeque<Uptime>,
}

/// What a supervisor may do after recording one more restart.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Below the limit.
    Restart,
    /// The limit is exceeded.
    GiveUp,
}

impl RestartIntensity {
    /// An empty history under `limit`.
    pub fn new(limit: IntensityLimit) -> Self {
        Self { limit, restarts: VecDeque::new() }
    }

    /// Records a restart at `now`.
    pub fn record(&mut self, now: Uptime) -> Verdict {
        self.forget(now);
        self.restarts.push_back(now);
        if self.restarts.len() <= self.limit.max_restarts as usize {
            Verdict::Restart
        } else {
            Verdict::GiveUp
        }
    }

    /// Forgets the restart that was recorded last: it was none.
    pub fn take_back(&mut self) {
        self.restarts.pop_back();
    }

    /// Restarts inside the window that ends at `now`.
    pub fn in_window(&self, now: Uptime) -> u32 {
        let inside = |then: &&Uptime| now.since(**then) <= self.limit.within;
        u32::try_from(self.restarts.iter().filter(inside).count()).unwrap_or(u32::MAX)
    }

    /// The limit it counts against.
    pub fn limit(&self) -> IntensityLimit {
        self.limit
    }

    /// Counts what is remembered against another limit from now on (SUP-234).
    pub fn set_limit(&mut self, limit: IntensityLimit) {
        self.limit = limit;
    }

    fn forget(&mut self, now: Uptime) {
        while self.restarts.front().is_some_and(|then| now.since(*then) > self.limit.within) {
            self.restarts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Uptime {
        Uptime::new(Duration::from_secs(secs))
    }

    /// Every history of up to eight restarts with gaps of 0–6 s against a plain recount.
    #[test]
    fn the_window_equals_a_recount_of_all_short_histories() {
        for max_restarts in 0..3 {
            let limit = IntensityLimit { max_restarts, within: Duration::from_secs(5) };
            for history in 0..7_u32.pow(6) {
                let (mut rest, mut now, mut times) = (history, 0, Vec::new());
                let mut intensity = RestartIntensity::new(limit);
                for _ in 0..6 {
                    now += u64::from(rest % 7);
                    rest /= 7;
                    times.push(now);
                    let inside = times.iter().filter(|then| now - **then <= 5).count();
                    let expected = if inside <= max_restarts as usize {
                        Verdict::Restart
                    } else {
                        Verdict::GiveUp
                    };
                    assert_eq!(intensity.record(at(now)), expected, "{times:?}");
                    assert_eq!(intensity.in_window(at(now)) as usize, inside);
                    if expected == Verdict::GiveUp {
                        break;
                    }
                }
            }
        }
    }

    /// A record that is taken back leaves what was before it, as far as that is still in the window.
    #[test]
    fn what_is_taken_back_was_not_recorded() {
        let limit = IntensityLimit { max_restarts: 2, within: Duration::from_secs(5) };
        for (first, second) in [(0, 0), (0, 3), (0, 5), (0, 6), (4, 20)] {
            let mut intensity = RestartIntensity::new(limit);
            intensity.take_back();
            assert_eq!(intensity.record(at(first)), Verdict::Restart);
            assert_eq!(intensity.record(at(second)), Verdict::Restart);
            intensity.take_back();
            let inside = u32::from(second - first <= 5);
            assert_eq!(intensity.in_window(at(second)), inside, "{first} {second}");
        }
    }

    #[test]
    fn the_limit_is_what_was_set_last() {
        let limit = |max_restarts| IntensityLimit { max_restarts, within: Duration::from_secs(7) };
        let mut intensity = RestartIntensity::new(limit(1));
        assert_eq!(intensity.limit(), limit(1));
        intensity.set_limit(limit(2));
        assert_eq!(intensity.limit(), limit(2));
    }
}
