//! What one key has taken of one limit: the algorithms.
//!
//! Time is nanoseconds since the start. A bucket counts in *ticks*, of which its limit makes a nanosecond: so one grant
//! is a whole number of them, and nothing is ever rounded.

use std::{collections::VecDeque, time::Duration};

use super::Limit;

#[derive(Clone, Debug)]
pub(super) enum Meter {
    Bucket {
        /// The instant in ticks at which the bucket is full again; in the past when it is.
        full_at: u128,
    },
    Log {
        /// Grants that still count, oldest first; none costs 0.
        entries: VecDeque<Entry>,
        /// The sum of their costs.
        sum: u64,
    },
    Fixed {
        /// Which window it is about.
        window: u64,
        /// What was taken in it. More than the limit is debt, which the next windows pay.
        used: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    at: u64,
    cost: u64,
    mark: u64,
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The number of the window that `now` is in; one begins at `align`.
fn window_of(now: u64, window: u64, align: u64) -> u64 {
    // One later than it would be, so that none is negative.
    let shift = window - align % window;
    (u128::from(now) + u128::from(shift))
        .div_euclid(u128::from(window))
        .try_into()
        .unwrap_or(u64::MAX)
}

fn window_begins(number: u64, window: u64, align: u64) -> u64 {
    let shift = u128::from(window - align % window);
    let begins = (u128::from(number) * u128::from(window)).saturating_sub(shift);
    u64::try_from(begins).unwrap_or(u64::MAX)
}

/// Ticks of a grant, and of a nanosecond.
struct Ticks {
    grant: u128,
    nano: u128,
}

impl Ticks {
    fn at(&self, now: u64) -> u128 {
        u128::from(now) * self.nano
    }

    fn of(&self, cost: u64) -> u128 {
        u128::from(cost).saturating_mul(self.grant)
    }

    /// The first nanosecond that is not before `ticks`.
    fn nanos(&self, ticks: u128) -> u64 {
        u64::try_from(ticks.div_ceil(self.nano)).unwrap_or(u64::MAX)
    }
}

fn ticks(rate: super::Rate) -> Ticks {
    Ticks { grant: u128::from(nanos(rate.per)), nano: u128::from(rate.limit) }
}

impl Meter {
    /// Nothing was taken.
    pub(super) fn fresh(limit: &Limit) -> Self {
        match limit {
            Limit::TokenBucket { .. } => Self::Bucket { full_at: 0 },
            Limit::SlidingLog { .. } => Self::Log { entries: VecDeque::new(), sum: 0 },
            Limit::FixedWindow { .. } => Self::Fixed { window: 0, used: 0 },
        }
    }

    /// Forgets what no longer counts.
    fn advance(&mut self, limit: &Limit, now: u64) {
        match (self, limit) {
            (Self::Log { entries, sum }, Limit::SlidingLog { window, .. }) => {
                let window = nanos(*window);
                while let Some(entry) = entries.front().filter(|entry| now - entry.at >= window) {
                    *sum -= entry.cost;
                    entries.pop_front();
                }
            }
            (Self::Fixed { window, used }, Limit::FixedWindow { limit, window: length, align }) => {
                let current = window_of(now, nanos(*length), nanos(*align));
                let paid = limit.saturating_mul(current.saturating_sub(*window));
                *used = used.saturating_sub(paid);
                *window = current.max(*window);
            }
            (Self::Bucket { .. }, _) => (),
            (Self::Log { .. } | Self::Fixed { .. }, _) => unreachable!("a meter is of its limit"),
        }
    }

    /// The first instant, `now` or later, at which `cost` would be granted if nobody else took anything. The cost is
    /// none that the limit can never grant.
    pub(super) fn earliest(&mut self, limit: &Limit, cost: u64, now: u64) -> u64 {
        assert!(cost <= limit.cost_max(), "what can never be granted is refused before");
        self.advance(limit, now);
        match (self, limit) {
            (Self::Bucket { full_at }, Limit::TokenBucket { rate, burst }) => {
                let ticks = ticks(*rate);
                let due = full_at.saturating_sub(ticks.of(burst - cost));
                ticks.nanos(due).max(now)
            }
            (Self::Log { entries, sum }, Limit::SlidingLog { limit, window }) => {
                let mut left = *sum;
                let mut earliest = now;
                for entry in entries.iter() {
                    if left.saturating_add(cost) <= *limit {
                        break;
                    }
                    left -= entry.cost;
                    earliest = entry.at.saturating_add(nanos(*window));
                }
                earliest
            }
            (Self::Fixed { window, used }, Limit::FixedWindow { limit, window: length, align }) => {
                let over = used.saturating_add(cost).saturating_sub(*limit);
                if over == 0 {
                    return now;
                }
                let number = window.saturating_add(over.div_ceil(*limit));
                window_begins(number, nanos(*length), nanos(*align))
            }
            (Self::Bucket { .. } | Self::Log { .. } | Self::Fixed { .. }, _) => {
                unreachable!("a meter is of its limit")
            }
        }
    }

    /// Takes `cost`, whether it may or not: more than may is debt. What comes back finds what it is about by `mark`, and
    /// by what this returns.
    pub(super) fn take(&mut self, limit: &Limit, cost: u64, now: u64, mark: u64) -> u64 {
        self.advance(limit, now);
        match (self, limit) {
            (Self::Bucket { full_at }, Limit::TokenBucket { rate, .. }) => {
                let ticks = ticks(*rate);
                *full_at = (*full_at).max(ticks.at(now)).saturating_add(ticks.of(cost));
                mark
            }
            (Self::Log { entries, sum }, Limit::SlidingLog { .. }) => {
                // Never more than a sum can say.
                let cost = cost.min(u64::MAX - *sum);
                if cost > 0 {
                    *sum += cost;
                    entries.push_back(Entry { at: now, cost, mark });
                }
                mark
            }
            (Self::Fixed { window, used }, Limit::FixedWindow { .. }) => {
                *used = used.saturating_add(cost);
                *window
            }
            (Self::Bucket { .. } | Self::Log { .. } | Self::Fixed { .. }, _) => {
                unreachable!("a meter is of its limit")
            }
        }
    }

    /// Gives back what was taken at `mark` and not used. What no longer counts is not given back twice.
    pub(super) fn give_back(&mut self, limit: &Limit, unused: u64, now: u64, mark: u64) {
        self.advance(limit, now);
        match (self, limit) {
            (Self::Bucket { full_at }, Limit::TokenBucket { rate, .. }) => {
                *full_at = full_at.saturating_sub(ticks(*rate).of(unused));
            }
            (Self::Log { entries, sum }, Limit::SlidingLog { .. }) => {
                let Ok(place) = entries.binary_search_by_key(&mark, |entry| entry.mark) else {
                    return;
                };
                let unused = unused.min(entries[place].cost);
                *sum -= unused;
                entries[place].cost -= unused;
                if entries[place].cost == 0 {
                    entries.remove(place);
                }
            }
            (Self::Fixed { window, used }, Limit::FixedWindow { .. }) => {
                if *window == mark {
                    *used = used.saturating_sub(unused);
                }
            }
            (Self::Bucket { .. } | Self::Log { .. } | Self::Fixed { .. }, _) => {
                unreachable!("a meter is of its limit")
            }
        }
    }

    /// What counts `now`.
    fn taken(&mut self, limit: &Limit, now: u64) -> u64 {
        self.advance(limit, now);
        match (self, limit) {
            (Self::Bucket { full_at }, Limit::TokenBucket { rate, .. }) => {
                let ticks = ticks(*rate);
                let taken = full_at.saturating_sub(ticks.at(now)).div_ceil(ticks.grant);
                u64::try_from(taken).unwrap_or(u64::MAX)
            }
            (Self::Log { sum, .. }, _) => *sum,
            (Self::Fixed { used, .. }, _) => *used,
            (Self::Bucket { .. }, _) => unreachable!("a meter is of its limit"),
        }
    }

    /// What could be granted `now`.
    pub(super) fn remaining(&mut self, limit: &Limit, now: u64) -> u64 {
        limit.cost_max().saturating_sub(self.taken(limit, now))
    }

    /// From when on it is as a fresh one.
    pub(super) fn fresh_at(&self, limit: &Limit) -> u64 {
        match (self, limit) {
            (Self::Bucket { full_at }, Limit::TokenBucket { rate, .. }) => {
                ticks(*rate).nanos(*full_at)
            }
            (Self::Log { entries, .. }, Limit::SlidingLog { window, .. }) => {
                entries.back().map_or(0, |last| last.at.saturating_add(nanos(*window)))
            }
            (Self::Fixed { used: 0, .. }, _) => 0,
            (Self::Fixed { window, used }, Limit::FixedWindow { limit, window: length, align }) => {
                let number = window.saturating_add(used.div_ceil(*limit));
                window_begins(number, nanos(*length), nanos(*align))
            }
            (Self::Bucket { .. } | Self::Log { .. } | Self::Fixed { .. }, _) => {
                unreachable!("a meter is of its limit")
            }
        }
    }

    /// The same consumption under another limit.
    pub(super) fn carry(mut self, old: &Limit, new: &Limit, now: u64) -> Self {
        self.advance(old, now);
        match (&mut self, old, new) {
            (
                Self::Bucket { full_at },
                Limit::TokenBucket { rate: old, .. },
                Limit::TokenBucket { rate: new, .. },
            ) => {
                let (old, new) = (ticks(*old), ticks(*new));
                let taken = full_at.saturating_sub(old.at(now));
                // Whole grants and the rest of one, so that nothing overflows.
                let (whole, rest) = (taken / old.grant, taken % old.grant);
                let taken = whole
                    .saturating_mul(new.grant)
                    .saturating_add((rest * new.grant).div_ceil(old.grant));
                Self::Bucket { full_at: new.at(now).saturating_add(taken) }
            }
            (Self::Log { .. }, _, Limit::SlidingLog { .. }) => {
                self.advance(new, now);
                self
            }
            (Self::Bucket { .. } | Self::Log { .. } | Self::Fixed { .. }, _, _) => {
                let taken = self.taken(old, now);
                let mut carried = Self::fresh(new);
                carried.take(new, taken, now, 0);
                carried
            }
        }
    }
}
