//! The meters of all keys, of which there are never too many.

use std::{collections::HashMap, hash::Hash, time::Duration};

use super::{
    BackoffWindow, Bound, Limit, LimiterConfig,
    meter::{Meter, nanos},
};
use crate::{Uptime, protection::InvalidConfig};

/// What each key has taken of the limits.
///
/// ```
/// use perennial_core::Uptime;
/// use perennial_core::protection::limiter::{Decision, Limit, LimiterConfig, Meters};
/// use std::time::Duration;
///
/// let second = |secs| Uptime::new(Duration::from_secs(secs));
/// let config = LimiterConfig::one(Limit::sliding_log(2, Duration::from_secs(60)));
/// let mut meters = Meters::new(config)?;
/// assert_eq!(meters.check(&"a", &[1], second(0))?, Decision::Allowed { remaining: 1 });
/// assert_eq!(meters.check(&"a", &[1], second(9))?, Decision::Allowed { remaining: 0 });
/// assert_eq!(meters.check(&"a", &[1], second(10))?, Decision::Denied { retry_at: second(60) });
/// assert_eq!(meters.check(&"b", &[1], second(10))?, Decision::Allowed { remaining: 1 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Meters<K> {
    config: LimiterConfig,
    /// Never more than `keys_max`, unless that was lowered.
    keys: HashMap<K, Key>,
    /// Rises with each grant.
    marks: u64,
    /// Rises when limits become others: what was taken of the old ones is not returned to the new.
    shape: u64,
    /// Time as it was last seen; it does not run back.
    latest: u64,
    /// No key is as a fresh one before.
    prunable_at: u64,
    stats: MeterStats,
}

#[derive(Clone, Debug)]
struct Key {
    /// One for each limit, in their order.
    meters: Vec<Meter>,
    /// Reservations that are not settled; their key is not forgotten.
    held: u64,
    /// Nothing is granted before its end.
    backoff: BackoffWindow,
}

impl Key {
    fn fresh(limits: &[Limit]) -> Self {
        let meters = limits.iter().map(Meter::fresh).collect();
        Self { meters, held: 0, backoff: BackoffWindow::default() }
    }

    /// From when on it is as a fresh one.
    fn fresh_at(&self, limits: &[Limit], now: u64) -> u64 {
        let meters = self.meters.iter().zip(limits);
        let fresh_at = meters.map(|(meter, limit)| meter.fresh_at(limit)).max().unwrap_or(0);
        fresh_at.max(self.closed_until(now))
    }

    /// The end of its pause, or `now`.
    fn closed_until(&self, now: u64) -> u64 {
        self.backoff.closed_until(uptime(now)).map_or(now, |until| nanos(until.elapsed()))
    }
}

/// What is decided about a cost.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was taken.
    Allowed {
        /// How much of the limit that has the least is left.
        remaining: u64,
    },
    /// Nothing was taken.
    Denied {
        /// The first instant at which the same would be granted, if nobody else takes anything.
        retry_at: Uptime,
    },
}

/// What is decided about an estimate.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Reserved<K> {
    /// It was taken, until [`Meters::settle`] says what was used.
    Held(Hold<K>),
    /// Nothing was taken.
    Denied {
        /// As of [`Decision::Denied`].
        retry_at: Uptime,
    },
}

/// What was reserved. It cannot be copied, so that it is settled once.
#[must_use = "what is not settled keeps its key from being forgotten"]
#[derive(Debug, PartialEq, Eq)]
pub struct Hold<K> {
    key: K,
    costs: Vec<u64>,
    marks: Vec<u64>,
    shape: u64,
}

impl<K> Hold<K> {
    /// What was reserved of each limit.
    pub fn costs(&self) -> &[u64] {
        &self.costs
    }
}

/// Why a question cannot be decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The limit can never grant so much at once: waiting is no use. Ask for less, or configure more.
    #[error(
        "a cost of {cost} is more than limit {place} can ever grant at once, which is {cost_max}"
    )]
    CostExceedsBurst {
        /// What was asked for.
        cost: u64,
        /// What it can grant.
        cost_max: u64,
        /// Which of the limits, from 0.
        place: usize,
    },
    /// A cost has one number for each limit.
    #[error("the cost has {given} numbers, but there are {limits} limits: give one for each")]
    CostsMismatch {
        /// How many were given.
        given: usize,
        /// How many limits there are.
        limits: usize,
    },
    /// So many keys are tracked, and each of them counts. A new one is refused, and never let through unlimited.
    #[error(
        "all {keys_max} keys of the limiter are in use: ask again later, or configure more keys"
    )]
    KeyTableFull {
        /// How many there may be.
        keys_max: usize,
    },
}

/// How one limit of one key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit.
    pub limit: Limit,
    /// What it promises.
    pub bound: Bound,
    /// What could be granted at once.
    pub remaining: u64,
    /// From when on all of it can.
    pub reset_at: Uptime,
}

/// What was asked and decided, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MeterStats {
    /// Questions that were decided: granted or denied.
    pub checks: u64,
    /// Those of them that were denied.
    pub denials: u64,
    /// New keys that were refused, because there was no place for them.
    pub keys_refused: u64,
    /// Keys that are tracked.
    pub keys: usize,
}

fn uptime(nanos: u64) -> Uptime {
    Uptime::new(Duration::from_nanos(nanos))
}

impl<K: Clone + Eq + Hash> Meters<K> {
    /// No key has taken anything.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; the error names it.
    pub fn new(config: LimiterConfig) -> Result<Self, InvalidConfig> {
        config.check()?;
        let stats = MeterStats::default();
        let keys = HashMap::new();
        Ok(Self { config, keys, marks: 0, shape: 0, latest: 0, prunable_at: 0, stats })
    }

    /// Takes `costs` of the limits of `key`, all or none; one for each limit.
    ///
    /// # Errors
    ///
    /// When it can never be granted, or there is no place for another key.
    pub fn check(&mut self, key: &K, costs: &[u64], now: Uptime) -> Result<Decision, LimitError> {
        let now = self.see(now);
        let decided = self.decide(key, costs, now)?;
        Ok(match decided {
            Err(retry_at) => Decision::Denied { retry_at: uptime(retry_at) },
            Ok(_) => Decision::Allowed { remaining: self.remaining(key, now) },
        })
    }

    /// Takes `estimate` of the limits of `key`, all or none, to be settled when it is known what was used.
    ///
    /// # Errors
    ///
    /// As of [`check`](Self::check).
    pub fn reserve(
        &mut self,
        key: &K,
        estimate: &[u64],
        now: Uptime,
    ) -> Result<Reserved<K>, LimitError> {
        let now = self.see(now);
        let marks = match self.decide(key, estimate, now)? {
            Ok(marks) => marks,
            Err(retry_at) => return Ok(Reserved::Denied { retry_at: uptime(retry_at) }),
        };
        if let Some(known) = self.keys.get_mut(key) {
            known.held += 1;
        }
        let (key, costs) = (key.clone(), estimate.to_vec());
        Ok(Reserved::Held(Hold { key, costs, marks, shape: self.shape }))
    }

    /// Says what was used of what was reserved. The rest is returned; what was used beyond it is debt, and delays later
    /// grants. All zeros return all of it. Numbers that are missing are as they were reserved.
    pub fn settle(&mut self, hold: Hold<K>, actual: &[u64], now: Uptime) {
        let now = self.see(now);
        // The key was removed meanwhile, with all that it had taken.
        let Some(known) = self.keys.get_mut(&hold.key) else { return };
        known.held = known.held.saturating_sub(1);
        self.prunable_at = 0;
        let meters = known.meters.iter_mut().zip(&self.config.limits);
        for (place, (meter, limit)) in meters.enumerate() {
            let Some(reserved) = hold.costs.get(place).copied() else { break };
            let used = actual.get(place).copied().unwrap_or(reserved);
            if used > reserved {
                self.marks += 1;
                meter.take(limit, used - reserved, now, self.marks);
            } else if let Some(mark) = hold.marks.get(place)
                && hold.shape == self.shape
            {
                meter.give_back(limit, reserved - used, now, *mark);
            }
        }
    }

    /// Nothing of `key` is granted before `until`. That is never shortened; whether it is later than what was known.
    ///
    /// # Errors
    ///
    /// When there is no place for another key.
    pub fn back_off(&mut self, key: &K, until: Uptime, now: Uptime) -> Result<bool, LimitError> {
        let now = self.see(now);
        if nanos(until.elapsed()) <= now {
            return Ok(false);
        }
        Ok(self.known(key, now)?.backoff.extend(until))
    }

    /// Changes the limits. What each key has taken counts against the new ones, limit by limit in their order.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; then nothing is changed.
    pub fn configure(&mut self, config: LimiterConfig, now: Uptime) -> Result<(), InvalidConfig> {
        config.check()?;
        let now = self.see(now);
        let (old, new) = (&self.config.limits, &config.limits);
        let same = |(old, new): (&Limit, &Limit)| match (old, new) {
            (Limit::TokenBucket { .. }, Limit::TokenBucket { .. })
            | (Limit::SlidingLog { .. }, Limit::SlidingLog { .. }) => true,
            (
                Limit::FixedWindow { window, align, .. },
                Limit::FixedWindow { window: new, align: aligned, .. },
            ) => (window, align) == (new, aligned),
            (
                Limit::TokenBucket { .. } | Limit::SlidingLog { .. } | Limit::FixedWindow { .. },
                _,
            ) => false,
        };
        if old.len() != new.len() || !old.iter().zip(new).all(same) {
            self.shape += 1;
        }
        for key in self.keys.values_mut() {
            let mut taken = std::mem::take(&mut key.meters).into_iter().zip(old);
            let carry = |limit: &Limit| match taken.next() {
                Some((meter, old)) => meter.carry(old, limit, now),
                None => Meter::fresh(limit),
            };
            key.meters = new.iter().map(carry).collect();
        }
        self.config = config;
        self.prunable_at = 0;
        Ok(())
    }

    /// How `key` stands: one status for each limit. A key that is not tracked has taken nothing.
    pub fn status(&mut self, key: &K, now: Uptime) -> Vec<LimitStatus> {
        let now = self.see(now);
        let limits = self.config.limits.iter();
        let mut meters = self.keys.get_mut(key).map(|key| key.meters.iter_mut());
        limits
            .map(|limit| {
                let meter = meters.as_mut().and_then(Iterator::next);
                let (remaining, reset_at) = meter.map_or((limit.cost_max(), now), |meter| {
                    (meter.remaining(limit, now), meter.fresh_at(limit).max(now))
                });
                let reset_at = uptime(reset_at);
                LimitStatus { limit: *limit, bound: limit.bound(), remaining, reset_at }
            })
            .collect()
    }

    /// Forgets keys that are as fresh ones; how many.
    pub fn prune(&mut self, now: Uptime) -> usize {
        let now = self.see(now);
        self.prune_at(now)
    }

    /// What was asked and decided so far.
    pub fn stats(&self) -> MeterStats {
        MeterStats { keys: self.keys.len(), ..self.stats }
    }

    /// The settings.
    pub fn config(&self) -> &LimiterConfig {
        &self.config
    }

    fn see(&mut self, now: Uptime) -> u64 {
        self.latest = self.latest.max(nanos(now.elapsed()));
        self.latest
    }

    /// Takes all and returns their marks, or takes none and returns when all can be taken.
    fn decide(
        &mut self,
        key: &K,
        costs: &[u64],
        now: u64,
    ) -> Result<Result<Vec<u64>, u64>, LimitError> {
        let limits = &self.config.limits;
        if costs.len() != limits.len() {
            let (given, limits) = (costs.len(), limits.len());
            return Err(LimitError::CostsMismatch { given, limits });
        }
        for (place, (&cost, limit)) in costs.iter().zip(limits).enumerate() {
            let cost_max = limit.cost_max();
            if cost > cost_max {
                return Err(LimitError::CostExceedsBurst { cost, cost_max, place });
            }
        }
        self.known(key, now)?;
        self.stats.checks += 1;
        let limits = &self.config.limits;
        // It is there since the line above.
        let known = self.keys.entry(key.clone()).or_insert_with(|| Key::fresh(limits));
        let closed_until = known.closed_until(now);
        let meters = known.meters.iter_mut().zip(limits).zip(costs);
        // Each grants from its instant on, so that all grant at the latest of them.
        let earliest = meters
            .map(|((meter, limit), cost)| meter.earliest(limit, *cost, now))
            .fold(closed_until, u64::max);
        if earliest > now {
            self.stats.denials += 1;
            return Ok(Err(earliest));
        }
        let meters = known.meters.iter_mut().zip(limits).zip(costs);
        Ok(Ok(meters
            .map(|((meter, limit), cost)| {
                self.marks += 1;
                meter.take(limit, *cost, now, self.marks)
            })
            .collect()))
    }

    fn remaining(&mut self, key: &K, now: u64) -> u64 {
        let Some(known) = self.keys.get_mut(key) else { return 0 };
        let meters = known.meters.iter_mut().zip(&self.config.limits);
        meters.map(|(meter, limit)| meter.remaining(limit, now)).min().unwrap_or(0)
    }

    /// The key, which may be new if there is a place for it.
    fn known(&mut self, key: &K, now: u64) -> Result<&mut Key, LimitError> {
        if !self.keys.contains_key(key) {
            self.make_room(now)?;
        }
        let limits = &self.config.limits;
        Ok(self.keys.entry(key.clone()).or_insert_with(|| Key::fresh(limits)))
    }

    fn make_room(&mut self, now: u64) -> Result<(), LimitError> {
        let keys_max = self.config.keys_max;
        if self.keys.len() >= keys_max && self.prunable_at <= now {
            self.prune_at(now);
        }
        if self.keys.len() >= keys_max {
            self.stats.keys_refused += 1;
            return Err(LimitError::KeyTableFull { keys_max });
        }
        Ok(())
    }

    fn prune_at(&mut self, now: u64) -> usize {
        let before = self.keys.len();
        let mut prunable_at = u64::MAX;
        self.keys.retain(|_, key| {
            if key.held > 0 {
                return true;
            }
            let fresh_at = key.fresh_at(&self.config.limits, now);
            if fresh_at > now {
                prunable_at = prunable_at.min(fresh_at);
            }
            fresh_at > now
        });
        self.prunable_at = prunable_at;
        before - self.keys.len()
    }
}
