//! How many calls may be made in how much time: asking, waiting in line, reserving.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perennial_core::{
    Uptime,
    protection::{
        InvalidConfig,
        limiter::{
            Decision, Hold, LimitError, LimitStatus, LimiterConfig, MeterStats, Meters, Reserved,
        },
    },
};
use perennial_supervision::Clock;
use tokio::sync::Notify;

/// Callers that wait in the lines of one limiter, at most.
pub const WAITING_MAX: usize = 1_024;

type Key = Arc<str>;

/// A limiter: so many calls in so much time, for each key. Cheap to clone; clones are the same limiter.
///
/// Each decision is one critical section, in the caller's own task: no actor is asked. What it promises is the
/// [`Bound`](perennial_core::protection::limiter::Bound) of its limits.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{Decision, Limit, Limiter, LimiterConfig};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Clock::start();
/// let per_second = Limit::sliding_log(2, Duration::from_secs(1));
/// let limiter = Limiter::new(LimiterConfig::one(per_second), clock)?;
/// assert_eq!(limiter.check("a", &[2])?, Decision::Allowed { remaining: 0 });
/// assert!(matches!(limiter.check("a", &[1])?, Decision::Denied { .. }));
/// limiter.until_ready("a", &[1], clock.now() + Duration::from_secs(2)).await?; // waits for a second
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Limiter(Arc<Inner>);

struct Inner {
    clock: Clock,
    meters: Mutex<Meters<Key>>,
    /// Keys whose callers wait, with how many; a caller takes itself out when it leaves.
    lines: Mutex<HashMap<Key, Line>>,
    /// Something was returned, or the limits are others: whoever is first in a line looks again.
    changed: Notify,
}

struct Line {
    /// Who holds it is the first; tokio's is fair, and whoever goes leaves no hole.
    first: Arc<tokio::sync::Mutex<()>>,
    callers: usize,
}

/// Why nothing was granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimiterError {
    /// It cannot be decided.
    #[error(transparent)]
    Undecided(#[from] LimitError),
    /// There is nothing left now, and nothing was taken.
    #[error("the limit is reached: ask again at {:?}", retry_at.elapsed())]
    Denied {
        /// When it would be granted, if nobody else takes anything.
        retry_at: Uptime,
    },
    /// It would not be granted before the deadline. Nothing was taken, and nobody has waited for what could not come.
    #[error("the limit is reached, and the deadline is before it is granted")]
    DeadlineWouldPass {
        /// When it would be granted; unknown to those who were not the first in line.
        retry_at: Option<Uptime>,
    },
    /// So many wait already.
    #[error("{waiting_max} callers wait for the limiter already: ask again later")]
    TooManyWait {
        /// How many may wait.
        waiting_max: usize,
    },
}

impl Limiter {
    /// A limiter of which nothing was taken.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; the error names it.
    pub fn new(config: LimiterConfig, clock: Clock) -> Result<Self, InvalidConfig> {
        let (meters, lines) = (Mutex::new(Meters::new(config)?), Mutex::default());
        Ok(Self(Arc::new(Inner { clock, meters, lines, changed: Notify::new() })))
    }

    /// Takes `costs` now, or nothing. It may overtake those who wait in line.
    ///
    /// # Errors
    ///
    /// When it can never be granted, or there is no place for another key.
    pub fn check(&self, key: &str, costs: &[u64]) -> Result<Decision, LimitError> {
        let now = self.0.clock.now();
        self.meters().check(&key.into(), costs, now)
    }

    /// Takes `costs` as soon as they may be taken. Who waits for one key is served in the order of asking.
    ///
    /// # Errors
    ///
    /// When it can never be granted, not before `deadline`, or too many wait. What would be granted only after the
    /// deadline is refused at once.
    ///
    /// # Cancel safety
    ///
    /// Who is dropped while it waits has taken nothing, and holds nobody up.
    pub async fn until_ready(
        &self,
        key: &str,
        costs: &[u64],
        deadline: Uptime,
    ) -> Result<(), LimiterError> {
        let take = || match self.check(key, costs)? {
            Decision::Allowed { .. } => Ok(()),
            Decision::Denied { retry_at } => Err(LimiterError::Denied { retry_at }),
        };
        self.wait(key, deadline, take).await
    }

    /// Reserves `estimate` now, or nothing.
    ///
    /// # Errors
    ///
    /// When there is nothing left now, it can never be granted, or there is no place for another key.
    pub fn reserve(&self, key: &str, estimate: &[u64]) -> Result<Reservation, LimiterError> {
        let now = self.0.clock.now();
        match self.meters().reserve(&key.into(), estimate, now)? {
            Reserved::Held(hold) => {
                Ok(Reservation { hold: Some(hold), sent: false, limiter: self.clone() })
            }
            Reserved::Denied { retry_at } => Err(LimiterError::Denied { retry_at }),
        }
    }

    /// Reserves `estimate` as soon as it may be taken.
    ///
    /// # Errors
    ///
    /// As of [`until_ready`](Self::until_ready).
    ///
    /// # Cancel safety
    ///
    /// As of [`until_ready`](Self::until_ready).
    pub async fn reserve_until_ready(
        &self,
        key: &str,
        estimate: &[u64],
        deadline: Uptime,
    ) -> Result<Reservation, LimiterError> {
        self.wait(key, deadline, || self.reserve(key, estimate)).await
    }

    /// Nobody takes anything of `key` before `until`: the other side said so. Never shortens what was said before;
    /// whether it is later than that. Who waits goes on waiting.
    ///
    /// # Errors
    ///
    /// When there is no place for another key.
    pub fn back_off(&self, key: &str, until: Uptime) -> Result<bool, LimitError> {
        let now = self.0.clock.now();
        self.meters().back_off(&key.into(), until, now)
    }

    /// How each limit of `key` stands.
    pub fn status(&self, key: &str) -> Vec<LimitStatus> {
        let now = self.0.clock.now();
        self.meters().status(&key.into(), now)
    }

    /// Changes the limits, for whoever asks next; what was taken counts against the new ones.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; then nothing is changed.
    pub fn configure(&self, config: LimiterConfig) -> Result<(), InvalidConfig> {
        let now = self.0.clock.now();
        self.meters().configure(config, now)?;
        self.0.changed.notify_waiters();
        Ok(())
    }

    /// Forgets keys of which nothing counts any more; how many. Nobody needs to: it is done when there is no place.
    pub fn prune(&self) -> usize {
        let now = self.0.clock.now();
        self.meters().prune(now)
    }

    /// What was asked and decided so far.
    pub fn stats(&self) -> MeterStats {
        self.meters().stats()
    }

    /// The limits in force.
    pub fn config(&self) -> LimiterConfig {
        self.meters().config().clone()
    }

    /// Callers that wait.
    pub fn waiting(&self) -> usize {
        self.lines().values().map(|line| line.callers).sum()
    }

    fn meters(&self) -> MutexGuard<'_, Meters<Key>> {
        // Nothing in it is half done when somebody panics elsewhere.
        self.0.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Key, Line>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in the line of `key` until `take` succeeds.
    async fn wait<T>(
        &self,
        key: &str,
        deadline: Uptime,
        take: impl Fn() -> Result<T, LimiterError>,
    ) -> Result<T, LimiterError> {
        let place = Place::enter(self, key.into())?;
        let clock = self.0.clock;
        let in_line = async {
            let _first = place.first.lock().await;
            loop {
                let changed = self.0.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                let retry_at = match take() {
                    Err(LimiterError::Denied { retry_at }) => retry_at,
                    taken => return taken,
                };
                if retry_at > deadline {
                    return Err(LimiterError::DeadlineWouldPass { retry_at: Some(retry_at) });
                }
                tokio::select! {
                    () = tokio::time::sleep(retry_at.since(clock.now())) => (),
                    () = changed => (),
                }
            }
        };
        let left = deadline.since(clock.now());
        let none = Err(LimiterError::DeadlineWouldPass { retry_at: None });
        tokio::time::timeout(left, in_line).await.unwrap_or(none)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A place in the line of a key.
struct Place<'a> {
    limiter: &'a Limiter,
    key: Key,
    first: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Place<'a> {
    fn enter(limiter: &'a Limiter, key: Key) -> Result<Self, LimiterError> {
        let mut lines = limiter.lines();
        let waiting: usize = lines.values().map(|line| line.callers).sum();
        if waiting >= WAITING_MAX {
            return Err(LimiterError::TooManyWait { waiting_max: WAITING_MAX });
        }
        let line = lines
            .entry(Arc::clone(&key))
            .or_insert_with(|| Line { first: Arc::default(), callers: 0 });
        line.callers += 1;
        let first = Arc::clone(&line.first);
        drop(lines);
        Ok(Self { limiter, key, first })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.limiter.lines();
        if let Some(line) = lines.get_mut(&self.key) {
            line.callers -= 1;
            if line.callers == 0 {
                lines.remove(&self.key);
            }
        }
    }
}

/// What is reserved for one call. Say [`sent`](Self::sent) when the call goes out, and [`settle`](Self::settle) what it
/// used. Dropped before, all of it is returned; dropped after it was sent, it has used what was estimated.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{Limit, Limiter, LimiterConfig};
/// use std::time::Duration;
///
/// let per_minute = Limit::sliding_log(1_000, Duration::from_secs(60));
/// let limiter = Limiter::new(LimiterConfig::one(per_minute), Clock::start())?;
/// let mut tokens = limiter.reserve("model", &[800])?;
/// tokens.sent(); // the call is made
/// tokens.settle(&[300]);
/// assert_eq!(limiter.status("model")[0].remaining, 700);
/// drop(limiter.reserve("model", &[700])?); // not made: returned
/// assert_eq!(limiter.status("model")[0].remaining, 700);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a reservation that is dropped before its call is sent is returned"]
#[derive(Debug)]
pub struct Reservation {
    /// Until it is settled.
    hold: Option<Hold<Key>>,
    sent: bool,
    limiter: Limiter,
}

impl Reservation {
    /// The call goes out: from now on it counts.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// What the call used of each limit. The rest is returned; what is more is debt, and delays later grants.
    pub fn settle(mut self, actual: &[u64]) {
        self.give(actual);
    }

    fn give(&mut self, actual: &[u64]) {
        let Some(hold) = self.hold.take() else { return };
        let now = self.limiter.0.clock.now();
        self.limiter.meters().settle(hold, actual, now);
        self.limiter.0.changed.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Numbers that are not told are as they were estimated.
        let used = match (&self.hold, self.sent) {
            (Some(hold), false) => vec![0; hold.costs().len()],
            (Some(_), true) | (None, _) => Vec::new(),
        };
        self.give(&used);
    }
}
