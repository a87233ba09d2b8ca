//! How many calls are under way at a time, or how much of anything is out.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use perennial_core::{
    Uptime,
    protection::{
        InvalidConfig,
        permits::{Adaptive, Ledger},
    },
};
use perennial_supervision::{Clock, current_process};
use tokio::sync::Notify;

/// Callers that wait for permits of one kind, at most, unless it says otherwise.
pub const WAITING_MAX: usize = 1_024;

/// Who asks, as a holder is named: the path of the process whose code runs, or `unsupervised`.
///
/// ```
/// assert_eq!(perennial_tools::protection::permits::caller(), "unsupervised");
/// ```
pub fn caller() -> String {
    current_process().map_or_else(|| "unsupervised".to_owned(), |process| process.path().to_owned())
}

/// A semaphore: the permits of one named resource. Cheap to clone; clones are the same.
///
/// Who waits is served in the order of asking, so that a large request is never starved by small ones. A [`Permit`] is a
/// guard: however its holder ends, it is back.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{PermitError, Permits};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Clock::start();
/// let calls = Permits::counting("calls of the model", 1, clock)?;
/// let permit = calls.try_acquire(1, "agent 7")?;
/// assert!(matches!(calls.try_acquire(1, "agent 8"), Err(PermitError::Busy { .. })));
/// assert_eq!(calls.status().holders[0].owner, "agent 7");
/// drop(permit);
/// let _permit = calls.acquire(1, "agent 8", clock.now() + Duration::from_secs(1)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Permits(Arc<Inner>);

struct Inner {
    name: String,
    clock: Clock,
    waiting_max: usize,
    state: Mutex<State>,
    /// Who holds it is the first of those who wait; tokio's is fair, and whoever goes leaves no hole.
    first: tokio::sync::Mutex<()>,
    /// Something came back. Only the first waits for it.
    returned: Notify,
}

struct State {
    ledger: Ledger,
    adaptive: Option<Adaptive>,
    waiting: usize,
    holders: BTreeMap<u64, Holder>,
    permits_granted: u64,
}

impl State {
    /// Takes it, if it may go out now.
    fn take(&mut self, weight: u64, now: Uptime) -> bool {
        if let Some(adaptive) = &mut self.adaptive {
            self.ledger.set_total(adaptive.limit(now));
        }
        self.ledger.take(weight)
    }
}

/// Who holds a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As it named itself when it asked.
    pub owner: String,
    /// How much it holds.
    pub weight: u64,
    /// Since when.
    pub since: Uptime,
}

/// How a semaphore stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitsStatus {
    /// What it is about.
    pub name: String,
    /// How much there is.
    pub total: u64,
    /// How much is out.
    pub out: u64,
    /// How many wait.
    pub waiting: usize,
    /// Who holds what, oldest first.
    pub holders: Vec<Holder>,
}

/// Why no permit was granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermitError {
    /// So much is not free now, or others wait for it.
    #[error("`{name}` is busy: {out} of {total} are out")]
    Busy {
        /// The semaphore.
        name: String,
        /// How much is out.
        out: u64,
        /// How much there is.
        total: u64,
    },
    /// There is less than that in all: waiting is no use.
    #[error("`{name}` has {total} in all, less than {weight}: ask for less")]
    WeightExceedsTotal {
        /// The semaphore.
        name: String,
        /// What was asked for.
        weight: u64,
        /// How much there is.
        total: u64,
    },
    /// It did not become free before the deadline.
    #[error("`{name}` did not become free before the deadline")]
    DeadlinePassed {
        /// The semaphore.
        name: String,
    },
    /// So many wait already.
    #[error("{waiting_max} callers wait for `{name}` already: ask again later")]
    TooManyWait {
        /// The semaphore.
        name: String,
        /// How many may wait.
        waiting_max: usize,
    },
}

fn not_none(of: &'static str, is: u64) -> Result<(), InvalidConfig> {
    let wrong = InvalidConfig { of, field: "total", is: is.to_string(), must: "at least 1" };
    if is == 0 { Err(wrong) } else { Ok(()) }
}

impl Permits {
    /// `total` at a time.
    ///
    /// # Errors
    ///
    /// When the total is 0.
    pub fn counting(
        name: impl Into<String>,
        total: u64,
        clock: Clock,
    ) -> Result<Self, InvalidConfig> {
        not_none("permits", total)?;
        Ok(Self::new(name.into(), Ledger::new(total, false), None, clock))
    }

    /// A `total` of bytes, tokens or the like. One request that is larger than what is left may overdraw it; then
    /// everybody waits until it is paid back.
    ///
    /// # Errors
    ///
    /// When the total is 0.
    pub fn weighted(
        name: impl Into<String>,
        total: u64,
        clock: Clock,
    ) -> Result<Self, InvalidConfig> {
        not_none("permits", total)?;
        Ok(Self::new(name.into(), Ledger::new(total, true), None, clock))
    }

    /// As many at a time as the other side bears: at most `limit_max`, half of it whenever it was
    /// [`overloaded`](Self::overloaded), one more after each `window` in which it was not.
    ///
    /// # Errors
    ///
    /// When the limit or the window is 0.
    pub fn adaptive(
        name: impl Into<String>,
        limit_max: u64,
        window: Duration,
        clock: Clock,
    ) -> Result<Self, InvalidConfig> {
        let adaptive = Adaptive::new(limit_max, window)?;
        Ok(Self::new(name.into(), Ledger::new(limit_max, false), Some(adaptive), clock))
    }

    fn new(name: String, ledger: Ledger, adaptive: Option<Adaptive>, clock: Clock) -> Self {
        let holders = BTreeMap::new();
        let state = State { ledger, adaptive, waiting: 0, holders, permits_granted: 0 };
        let (state, first) = (Mutex::new(state), tokio::sync::Mutex::new(()));
        let (waiting_max, returned) = (WAITING_MAX, Notify::new());
        Self(Arc::new(Inner { name, clock, waiting_max, state, first, returned }))
    }

    /// Another number of callers that may wait; to be said before there are clones of it.
    ///
    /// # Panics
    ///
    /// When there are.
    #[must_use]
    pub fn waiting_max(mut self, waiting_max: usize) -> Self {
        let inner = Arc::get_mut(&mut self.0);
        inner.expect("nobody else has it yet").waiting_max = waiting_max;
        self
    }

    /// Changes the total, or the most of an adaptive limit, which begins anew with it. What is out stays out; whoever
    /// waits looks again.
    ///
    /// # Errors
    ///
    /// When the total is 0; then nothing is changed.
    pub fn configure(&self, total: u64) -> Result<(), InvalidConfig> {
        not_none("permits", total)?;
        let mut state = self.state();
        if let Some(adaptive) = &mut state.adaptive {
            *adaptive = Adaptive::new(total, adaptive.window())?;
        }
        state.ledger.set_total(total);
        drop(state);
        self.0.returned.notify_one();
        Ok(())
    }

    /// Whether nobody else has a handle to it, holds a permit, or waits for one.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// A permit of `weight` for `owner`, now. Nobody who waits is overtaken.
    ///
    /// # Errors
    ///
    /// When there is not enough, or others wait.
    pub fn try_acquire(&self, weight: u64, owner: &str) -> Result<Permit, PermitError> {
        let first = self.0.first.try_lock();
        match first.ok().and_then(|_first| self.take(weight, owner)) {
            Some(permit) => Ok(permit),
            None => Err(self.refusal(weight)),
        }
    }

    /// A permit of `weight` for `owner`, as soon as those who asked before have theirs and there is enough.
    ///
    /// # Errors
    ///
    /// When there is never enough, not before `deadline`, or too many wait.
    ///
    /// # Cancel safety
    ///
    /// Who is dropped while it waits has taken nothing, and holds nobody up.
    pub async fn acquire(
        &self,
        weight: u64,
        owner: &str,
        deadline: Uptime,
    ) -> Result<Permit, PermitError> {
        let _waits = Waits::enter(self, weight)?;
        let in_line = async {
            let _first = self.0.first.lock().await;
            loop {
                if let Some(permit) = self.take(weight, owner) {
                    return permit;
                }
                let grows_at = self.state().adaptive.as_ref().and_then(Adaptive::grows_at);
                let grown = async {
                    match grows_at {
                        Some(at) => tokio::time::sleep(at.since(self.0.clock.now())).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.0.returned.notified() => (),
                    () = grown => (),
                }
            }
        };
        let left = deadline.since(self.0.clock.now());
        let late = |_| PermitError::DeadlinePassed { name: self.0.name.clone() };
        tokio::time::timeout(left, in_line).await.map_err(late)
    }

    /// The other side said that it is asked too often. Halves an adaptive limit, at most once in its window; another one
    /// stays as it is.
    pub fn overloaded(&self) {
        let now = self.0.clock.now();
        if let Some(adaptive) = &mut self.state().adaptive {
            adaptive.overloaded(now);
        }
    }

    /// How it stands, and who holds what.
    pub fn status(&self) -> PermitsStatus {
        let now = self.0.clock.now();
        let mut state = self.state();
        let total = match &mut state.adaptive {
            Some(adaptive) => adaptive.limit(now),
            None => state.ledger.total(),
        };
        let holders = state.holders.values().cloned().collect();
        let (out, waiting) = (state.ledger.out(), state.waiting);
        PermitsStatus { name: self.0.name.clone(), total, out, waiting, holders }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it is half done when somebody panics elsewhere.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, weight: u64, owner: &str) -> Option<Permit> {
        let now = self.0.clock.now();
        let mut state = self.state();
        if !state.take(weight, now) {
            return None;
        }
        state.permits_granted += 1;
        let number = state.permits_granted;
        state.holders.insert(number, Holder { owner: owner.to_owned(), weight, since: now });
        drop(state);
        Some(Permit { number, weight, permits: self.clone() })
    }

    fn refusal(&self, weight: u64) -> PermitError {
        let state = self.state();
        let (name, total) = (self.0.name.clone(), state.ledger.total());
        if Self::is_too_heavy(&state, weight) {
            return PermitError::WeightExceedsTotal { name, weight, total };
        }
        PermitError::Busy { name, out: state.ledger.out(), total }
    }

    /// Whether it can never be granted. An adaptive limit may become what it once was.
    fn is_too_heavy(state: &State, weight: u64) -> bool {
        let most = state.adaptive.as_ref().map_or(state.ledger.total(), Adaptive::limit_max);
        weight > most
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permits").field(&self.status()).finish()
    }
}

/// A caller that is counted as waiting.
struct Waits<'a>(&'a Permits);

impl<'a> Waits<'a> {
    fn enter(permits: &'a Permits, weight: u64) -> Result<Self, PermitError> {
        let mut state = permits.state();
        let (name, waiting_max) = (|| permits.0.name.clone(), permits.0.waiting_max);
        if Permits::is_too_heavy(&state, weight) {
            let total = state.ledger.total();
            return Err(PermitError::WeightExceedsTotal { name: name(), weight, total });
        }
        if state.waiting >= waiting_max {
            return Err(PermitError::TooManyWait { name: name(), waiting_max });
        }
        state.waiting += 1;
        drop(state);
        Ok(Self(permits))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// The right to so much of a resource. Dropping it gives it back: at the end of a scope, of a task, or of the actor
/// that holds it.
#[must_use = "a permit that is dropped is given back"]
#[derive(Debug)]
pub struct Permit {
    number: u64,
    weight: u64,
    permits: Permits,
}

impl Permit {
    /// How much it is.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The semaphore that it is of.
    pub fn name(&self) -> &str {
        &self.permits.0.name
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.permits.state();
        state.ledger.give_back(self.weight);
        state.holders.remove(&self.number);
        drop(state);
        self.permits.0.returned.notify_one();
    }
}

/// One semaphore for each key, with `total` permits; those that nobody uses are forgotten.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::permits::KeyedPermits;
///
/// let per_host = KeyedPermits::new("requests", 50, 1_000, Clock::start())?;
/// let permit = per_host.of("example.org")?.try_acquire(1, "agent 7")?;
/// assert_eq!(permit.name(), "requests of example.org");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyedPermits {
    name: String,
    total: u64,
    keys_max: usize,
    clock: Clock,
    keys: Arc<Mutex<HashMap<String, Permits>>>,
}

/// There are so many keys, and all are in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {keys_max} keys of `{name}` are in use: ask again later, or configure more keys")]
pub struct TooManyKeys {
    /// The semaphores.
    pub name: String,
    /// How many keys there may be.
    pub keys_max: usize,
}

impl KeyedPermits {
    /// `total` for each of at most `keys_max` keys.
    ///
    /// # Errors
    ///
    /// When the total is 0.
    pub fn new(
        name: impl Into<String>,
        total: u64,
        keys_max: usize,
        clock: Clock,
    ) -> Result<Self, InvalidConfig> {
        not_none("permits", total)?;
        Ok(Self { name: name.into(), total, keys_max, clock, keys: Arc::default() })
    }

    /// The semaphore of `key`.
    ///
    /// # Errors
    ///
    /// When there is no place for another key.
    pub fn of(&self, key: &str) -> Result<Permits, TooManyKeys> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = keys.get(key) {
            return Ok(known.clone());
        }
        if keys.len() >= self.keys_max {
            // Permits and those who wait hold their semaphore: what nobody else holds is idle.
            keys.retain(|_, permits| !permits.is_idle());
        }
        if keys.len() >= self.keys_max {
            return Err(TooManyKeys { name: self.name.clone(), keys_max: self.keys_max });
        }
        let name = format!("{} of {key}", self.name);
        let permits = Permits::new(name, Ledger::new(self.total, false), None, self.clock);
        keys.insert(key.to_owned(), permits.clone());
        Ok(permits)
    }

    /// Keys that have a semaphore.
    pub fn keys(&self) -> usize {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
