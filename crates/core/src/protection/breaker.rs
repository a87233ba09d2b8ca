//! Whether something that failed may be called again yet.
//!
//! `Closed → Open → HalfOpen → Closed | Open`. A breaker is *closed* while calls go well. It *trips* when too many of
//! them fail, and is *open* until an instant: nobody calls. After that it is *half open*: a few probes may call, and
//! what comes of them closes it or opens it again, for longer.
//!
//! Each change of the state begins a new *epoch*. Who asks gets a [`Grant`] of the epoch, and gives it back with what
//! came of the call; what comes from an older epoch changes nothing. So a late success of before the trip closes no
//! breaker, and a late probe takes nobody's place.
//!
//! Nothing here waits, and nothing counts while it is open. Whoever holds a breaker publishes each [`Transition`] that
//! it is handed: there is exactly one for each change.

mod config;
#[cfg(test)]
mod tests;
mod window;

pub use config::{BreakerConfig, FailureRate};

use std::fmt;

use self::window::Window;
use super::{InvalidConfig, later};
use crate::Uptime;

/// One breaker: what it has seen, and whether the next call may be made.
///
/// ```
/// use perennial_core::Uptime;
/// use perennial_core::protection::breaker::{Breaker, BreakerConfig, Outcome, State, Verdict};
/// use std::time::Duration;
///
/// let config = BreakerConfig::consecutive(1).open_for(Duration::from_secs(30)).jitter(0);
/// let mut breaker = Breaker::new(config)?;
/// let second = |secs| Uptime::new(Duration::from_secs(secs));
///
/// // A call fails.
/// let (Verdict::Granted(grant), None) = breaker.permit(second(0)) else { panic!() };
/// let tripped = breaker.settle(grant, Outcome::Failure, second(0), 0.5).unwrap();
/// assert_eq!(tripped.to, State::Open { until: second(30) });
/// assert!(matches!(breaker.permit(second(1)), (Verdict::Open { retry_at }, None) if retry_at == second(30)));
///
/// // Later one probe is allowed, and closes it.
/// let (Verdict::Granted(probe), Some(_)) = breaker.permit(second(30)) else { panic!() };
/// assert!(matches!(breaker.permit(second(30)), (Verdict::Probing, None)));
/// let closed = breaker.settle(probe, Outcome::Success, second(31), 0.5).unwrap();
/// assert_eq!(closed.to, State::Closed);
/// # Ok::<(), perennial_core::protection::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    phase: Phase,
    /// How many transitions there were.
    epoch: u64,
    /// How many half-open times in a row ended with a failed probe: how often the open time is doubled.
    doublings: u32,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed {
        /// Failures since the last success.
        consecutive: u32,
        /// What counts for the rate; empty without one.
        window: Window,
    },
    Open {
        until: Uptime,
    },
    HalfOpen {
        /// Grants of this epoch that were not given back; never more than the configured probes, at the
        /// time they were granted.
        out: u32,
        /// Probes of this epoch that went well.
        successes: u32,
    },
}

/// Where a breaker is.
///
/// ```
/// use perennial_core::Uptime;
/// use perennial_core::protection::breaker::State;
///
/// assert_eq!(State::Open { until: Uptime::ZERO }.to_string(), "open");
/// assert_eq!(State::HalfOpen.to_string(), "half_open");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Everybody may call.
    Closed,
    /// Nobody may call.
    Open {
        /// When a probe may.
        until: Uptime,
    },
    /// A few may call, to see whether it goes well again.
    HalfOpen,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        })
    }
}

/// Whether a call may be made.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes. Give the grant back by [`Breaker::settle`], whatever becomes of the call.
    Granted(Grant),
    /// No: it is open.
    Open {
        /// When a probe may be made.
        retry_at: Uptime,
    },
    /// No: it is half open, and all its probes are under way. What follows is known when one of them ends.
    Probing,
}

/// The right to make one call. It cannot be copied, so that it is given back once.
#[must_use = "a grant that is not given back keeps its place for the rest of its epoch"]
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    epoch: u64,
}

impl Grant {
    /// In which epoch it was granted.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// What came of a call, for the breaker.
///
/// It is the caller who knows, from the *value* that the call returned. A panic is a failure, and so is a call that
/// ran out of time. A refusal of a limiter, a call that its caller cancelled, and one that was never made are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It went well.
    Success,
    /// It failed, in a way that says that the next may fail, too.
    Failure,
    /// It says nothing; a probe makes room for another.
    Ignore,
}

/// One change of the state.
#[must_use = "each transition is told once"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Transition {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// The epoch that began: the number of this transition, from 1.
    pub epoch: u64,
    /// When.
    pub at: Uptime,
}

/// Why a breaker changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Cause {
    /// So many calls in a row failed.
    Consecutive {
        /// How many.
        failures: u32,
    },
    /// Too many of the calls in the window failed.
    Rate {
        /// How many failed.
        failures: u32,
        /// Of how many.
        calls: u32,
    },
    /// It has been open for its time.
    OpenTimeOver,
    /// A probe failed.
    ProbeFailed,
    /// Enough probes went well.
    ProbesSucceeded,
    /// Somebody closed it.
    Reset,
}

/// What a breaker that is open is remembered by, for a new start of its process.
///
/// Instants of the wall are for whoever stores them; here they are [`Uptime`]s of the new start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Until when nobody may call.
    pub until: Uptime,
    /// The epoch it was in; those that follow are later.
    pub epoch: u64,
    /// [`Breaker::doublings`] of then.
    pub doublings: u32,
}

impl Breaker {
    /// A closed breaker that has seen nothing.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; the error names it.
    pub fn new(config: BreakerConfig) -> Result<Self, InvalidConfig> {
        config.check()?;
        Ok(Self { config, phase: Phase::closed(), epoch: 0, doublings: 0 })
    }

    /// A breaker that was open when its process ended (SM-61): it is open still, or closed when its time is over.
    /// There is no transition to tell: the one that opened it was told.
    ///
    /// ```
    /// use perennial_core::Uptime;
    /// use perennial_core::protection::breaker::{Breaker, BreakerConfig, Opened, State};
    /// use std::time::Duration;
    ///
    /// let second = |secs| Uptime::new(Duration::from_secs(secs));
    /// let then = Opened { until: second(5), epoch: 7, doublings: 0 };
    /// let breaker = Breaker::restore(BreakerConfig::default(), then, second(1))?;
    /// assert_eq!(breaker.state(), State::Open { until: second(5) });
    /// let breaker = Breaker::restore(BreakerConfig::default(), then, second(5))?;
    /// assert_eq!(breaker.state(), State::Closed);
    /// # Ok::<(), perennial_core::protection::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; the error names it.
    pub fn restore(
        config: BreakerConfig,
        opened: Opened,
        now: Uptime,
    ) -> Result<Self, InvalidConfig> {
        let mut breaker = Self::new(config)?;
        breaker.epoch = opened.epoch;
        if now < opened.until {
            breaker.phase = Phase::Open { until: opened.until };
            breaker.doublings = opened.doublings;
        } else {
            // Grants of the epoch in which it was open do not exist; those of now are told from all before.
            breaker.epoch += 1;
        }
        Ok(breaker)
    }

    /// Asks whether a call may be made `now`. An open breaker whose time is over becomes half open by that.
    pub fn permit(&mut self, now: Uptime) -> (Verdict, Option<Transition>) {
        let turned = self.turn(now);
        let grant = Grant { epoch: self.epoch };
        let verdict = match &mut self.phase {
            Phase::Closed { .. } => Verdict::Granted(grant),
            Phase::Open { until } => Verdict::Open { retry_at: *until },
            Phase::HalfOpen { out, .. } if *out < self.config.probes => {
                *out += 1;
                Verdict::Granted(grant)
            }
            Phase::HalfOpen { .. } => Verdict::Probing,
        };
        (verdict, turned)
    }

    /// Makes an open breaker half open when its time is over, though nobody calls: for whoever has a timer and wakes
    /// those who wait.
    pub fn turn(&mut self, now: Uptime) -> Option<Transition> {
        match self.phase {
            Phase::Open { until } if until <= now => {
                let half_open = Phase::HalfOpen { out: 0, successes: 0 };
                Some(self.become_(half_open, Cause::OpenTimeOver, now))
            }
            Phase::Open { .. } | Phase::Closed { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// Takes a grant back with what came of its call. A grant of an older epoch changes nothing.
    ///
    /// `chance` is a random number in `0.0..=1.0`: the place of the open time inside of its jitter.
    pub fn settle(
        &mut self,
        grant: Grant,
        outcome: Outcome,
        now: Uptime,
        chance: f64,
    ) -> Option<Transition> {
        if grant.epoch != self.epoch {
            return None;
        }
        match (&mut self.phase, outcome) {
            // Nobody has a grant of an epoch in which it is open.
            (Phase::Open { .. }, _) | (Phase::Closed { .. }, Outcome::Ignore) => None,
            (Phase::Closed { consecutive, window }, counted) => {
                let failed = counted == Outcome::Failure;
                *consecutive = if failed { consecutive.saturating_add(1) } else { 0 };
                if let Some(rate) = self.config.rate {
                    window.record(rate.window, now, failed);
                }
                let cause = self.tripped(now)?;
                Some(self.open(cause, now, chance))
            }
            (Phase::HalfOpen { out, .. }, Outcome::Ignore) => {
                give_back(out);
                None
            }
            (Phase::HalfOpen { out, successes }, Outcome::Success) => {
                give_back(out);
                *successes += 1;
                if *successes < self.config.successes {
                    return None;
                }
                self.doublings = 0;
                Some(self.become_(Phase::closed(), Cause::ProbesSucceeded, now))
            }
            (Phase::HalfOpen { .. }, Outcome::Failure) => {
                self.doublings = self.doublings.saturating_add(1);
                Some(self.open(Cause::ProbeFailed, now, chance))
            }
        }
    }

    /// Closes it, and forgets what it has seen.
    pub fn reset(&mut self, now: Uptime) -> Option<Transition> {
        self.doublings = 0;
        if matches!(self.phase, Phase::Closed { .. }) {
            self.phase = Phase::closed();
            return None;
        }
        Some(self.become_(Phase::closed(), Cause::Reset, now))
    }

    /// Changes the settings; they hold from the next decision on. What was seen is kept, and so is the
    /// instant until which it is open.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; then nothing is changed.
    pub fn configure(&mut self, config: BreakerConfig) -> Result<(), InvalidConfig> {
        config.check()?;
        if let Phase::Closed { window, .. } = &mut self.phase {
            match (self.config.rate, config.rate) {
                (Some(old), Some(new)) => window.rescale(old.window, new.window),
                (None, Some(_)) => (),
                (_, None) => *window = Window::default(),
            }
        }
        self.config = config;
        Ok(())
    }

    /// Where it is. An open one whose time is over is open until somebody asks for a call, or for a [`turn`](Self::turn).
    pub fn state(&self) -> State {
        self.phase.state()
    }

    /// How many transitions there were.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many times in a row a probe has failed: how often the time for which it is open is doubled.
    pub fn doublings(&self) -> u32 {
        self.doublings
    }

    /// Failures in a row; 0 unless it is closed.
    pub fn consecutive_failures(&self) -> u32 {
        match &self.phase {
            Phase::Closed { consecutive, .. } => *consecutive,
            Phase::Open { .. } | Phase::HalfOpen { .. } => 0,
        }
    }

    /// Failures and calls that count for the rate `now`; none unless it is closed and has a rate.
    pub fn in_window(&self, now: Uptime) -> (u32, u32) {
        match (&self.phase, self.config.rate) {
            (Phase::Closed { window, .. }, Some(rate)) => window.count(rate.window, now),
            (_, _) => (0, 0),
        }
    }

    /// Probes that are under way.
    pub fn probes_out(&self) -> u32 {
        match self.phase {
            Phase::HalfOpen { out, .. } => out,
            Phase::Open { .. } | Phase::Closed { .. } => 0,
        }
    }

    /// The settings.
    pub fn config(&self) -> &BreakerConfig {
        &self.config
    }

    /// Whether it is as a new one, but for its epoch: nothing is lost when it is forgotten, once nobody holds a
    /// grant of it.
    pub fn is_idle(&self, now: Uptime) -> bool {
        let closed = matches!(self.phase, Phase::Closed { consecutive: 0, .. });
        closed && self.in_window(now) == (0, 0)
    }

    fn tripped(&self, now: Uptime) -> Option<Cause> {
        let failures = self.consecutive_failures();
        if failures >= self.config.failures_max {
            return Some(Cause::Consecutive { failures });
        }
        let rate = self.config.rate?;
        let (failures, calls) = self.in_window(now);
        let too_many = u64::from(failures) * 100 >= u64::from(calls) * u64::from(rate.percent);
        (calls >= rate.calls_min && too_many).then_some(Cause::Rate { failures, calls })
    }

    fn open(&mut self, cause: Cause, now: Uptime, chance: f64) -> Transition {
        let until = later(now, self.config.open_time(self.doublings, chance));
        self.become_(Phase::Open { until }, cause, now)
    }

    fn become_(&mut self, phase: Phase, cause: Cause, at: Uptime) -> Transition {
        let from = self.phase.state();
        self.phase = phase;
        self.epoch += 1;
        Transition { from, to: self.phase.state(), cause, epoch: self.epoch, at }
    }
}

fn give_back(out: &mut u32) {
    assert!(*out > 0, "a grant of this epoch is counted until it is given back");
    *out -= 1;
}

impl Phase {
    fn closed() -> Self {
        Self::Closed { consecutive: 0, window: Window::default() }
    }

    fn state(&self) -> State {
        match self {
            Self::Closed { .. } => State::Closed,
            Self::Open { until } => State::Open { until: *until },
            Self::HalfOpen { .. } => State::HalfOpen,
        }
    }
}
