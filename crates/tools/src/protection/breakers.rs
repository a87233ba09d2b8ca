//! Whether something that failed may be called again yet: guards of the breakers that a host declares.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use perennial_core::{
    Uptime,
    protection::{
        InvalidConfig,
        breaker::{Breaker, BreakerConfig, Grant, Opened, Outcome, State, Transition, Verdict},
    },
};
use perennial_supervision::Clock;

use super::chance::Chance;

/// Keys of families that are tracked at a time.
pub const KEYS_MAX: usize = 10_000;

/// Which breaker: one that was declared, or one of a family, by its key.
///
/// ```
/// use perennial_tools::protection::BreakerId;
///
/// assert_eq!(BreakerId::from("mail").to_string(), "mail");
/// assert_eq!(BreakerId::from(("host", "example.org")).to_string(), "host[example.org]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BreakerId {
    name: Arc<str>,
    key: Option<Arc<str>>,
}

impl BreakerId {
    /// The name that was declared.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key, of a family.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl From<&str> for BreakerId {
    fn from(name: &str) -> Self {
        Self { name: name.into(), key: None }
    }
}

impl From<(&str, &str)> for BreakerId {
    fn from((family, key): (&str, &str)) -> Self {
        Self { name: family.into(), key: Some(key.into()) }
    }
}

impl fmt::Display for BreakerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            None => f.write_str(&self.name),
            Some(key) => write!(f, "{}[{key}]", self.name),
        }
    }
}

/// The breakers of a host. Cheap to clone; clones are the same breakers.
///
/// A call runs in its caller's own task, and holds no lock: what one breaker's call does is nothing to another's.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{BreakerConfig, BreakerError, Breakers, Outcome};
///
/// let breakers = Breakers::new(Clock::start());
/// breakers.declare("mail", BreakerConfig::consecutive(1))?;
/// breakers.permit("mail")?.failure();
/// assert!(matches!(breakers.permit("mail"), Err(BreakerError::Open { .. })));
/// breakers.reset("mail")?;
/// breakers.permit("mail")?.success();
/// assert!(matches!(breakers.permit("male"), Err(BreakerError::UnknownBreaker { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Breakers(Arc<Inner>);

struct Inner {
    clock: Clock,
    keys_max: usize,
    declared: Mutex<BTreeMap<Arc<str>, Declared>>,
    /// Those that were used; of families at most `keys_max`.
    cells: Mutex<HashMap<BreakerId, Arc<Cell>>>,
    tell: Box<Tell>,
    /// Where in its jitter an open time lies.
    chance: Chance,
    /// Calls in place of which something else ran.
    fallbacks: AtomicU64,
}

/// Who is told of transitions.
type Tell = dyn Fn(&BreakerId, &Transition) + Send + Sync;

#[derive(Clone, Copy)]
struct Declared {
    config: BreakerConfig,
    is_family: bool,
}

struct Cell {
    id: BreakerId,
    breaker: Mutex<Breaker>,
}

/// Why no call may be made, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BreakerError {
    /// It failed too often of late.
    #[error("breaker `{id}` is open: ask again at {:?}", retry_at.elapsed())]
    Open {
        /// The breaker.
        id: BreakerId,
        /// When a probe may be made.
        retry_at: Uptime,
    },
    /// It is being probed by others.
    #[error(
        "breaker `{id}` is half open, and its probes are under way: ask again when they have ended"
    )]
    Probing {
        /// The breaker.
        id: BreakerId,
    },
    /// Nobody declared it.
    #[error("unknown breaker `{id}`: declare it, or its family")]
    UnknownBreaker {
        /// What was asked for.
        id: BreakerId,
    },
    /// So many keys are tracked, and none of them is idle.
    #[error("all {keys_max} keys of breakers are in use: ask again later")]
    TooManyKeys {
        /// How many there may be.
        keys_max: usize,
    },
    /// The call was given up at its deadline; the breaker has counted a failure.
    #[error("the call that breaker `{id}` guards did not end before its deadline")]
    TimedOut {
        /// The breaker.
        id: BreakerId,
    },
}

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Where it is.
    pub state: State,
    /// How many transitions there were.
    pub epoch: u64,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Failures and calls that count for its rate.
    pub in_window: (u32, u32),
    /// Probes under way.
    pub probes_out: u32,
    /// Its settings.
    pub config: BreakerConfig,
}

impl BreakerStatus {
    fn of(breaker: &Breaker, now: Uptime) -> Self {
        Self {
            state: breaker.state(),
            epoch: breaker.epoch(),
            consecutive_failures: breaker.consecutive_failures(),
            in_window: breaker.in_window(now),
            probes_out: breaker.probes_out(),
            config: *breaker.config(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in them is half done when somebody panics elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Breakers {
    /// None is declared, and nobody is told of transitions.
    pub fn new(clock: Clock) -> Self {
        Self::telling(clock, |_, _| ())
    }

    /// `tell` is called once for each transition, by whoever brings it about, and must not wait. Those of one breaker
    /// may come out of their order, and are numbered by their epoch.
    pub fn telling(
        clock: Clock,
        tell: impl Fn(&BreakerId, &Transition) + Send + Sync + 'static,
    ) -> Self {
        let chance = Chance::default();
        let (declared, cells) = (Mutex::default(), Mutex::default());
        let tell = Box::new(tell);
        Self(Arc::new(Inner {
            clock,
            keys_max: KEYS_MAX,
            declared,
            cells,
            tell,
            chance,
            fallbacks: AtomicU64::new(0),
        }))
    }

    /// Declares a breaker, or changes the settings of one; they hold for the next decision.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; then nothing is changed.
    pub fn declare(&self, name: &str, config: BreakerConfig) -> Result<(), InvalidConfig> {
        self.configure(name, Declared { config, is_family: false })
    }

    /// Declares a family: a breaker of its own for each key. A key that nobody used reads as closed.
    ///
    /// # Errors
    ///
    /// As of [`declare`](Self::declare).
    pub fn declare_family(&self, name: &str, config: BreakerConfig) -> Result<(), InvalidConfig> {
        self.configure(name, Declared { config, is_family: true })
    }

    fn configure(&self, name: &str, declared: Declared) -> Result<(), InvalidConfig> {
        declared.config.check()?;
        locked(&self.0.declared).insert(name.into(), declared);
        let cells = locked(&self.0.cells);
        let named = cells.values().filter(|cell| &*cell.id.name == name);
        named.into_iter().try_for_each(|cell| locked(&cell.breaker).configure(declared.config))
    }

    /// The right to make one call. Consume it with what came of the call; dropped, the call was abandoned, or failed
    /// when it is dropped by a panic.
    ///
    /// # Errors
    ///
    /// When it is open, being probed by others, or unknown.
    pub fn permit(&self, id: impl Into<BreakerId>) -> Result<BreakerPermit, BreakerError> {
        let cell = self.cell(id.into())?;
        let now = self.0.clock.now();
        let (verdict, transition) = locked(&cell.breaker).permit(now);
        self.tell(&cell.id, transition);
        let id = cell.id.clone();
        match verdict {
            Verdict::Granted(grant) => {
                Ok(BreakerPermit { grant: Some(grant), cell, breakers: self.clone() })
            }
            Verdict::Open { retry_at } => Err(BreakerError::Open { id, retry_at }),
            Verdict::Probing => Err(BreakerError::Probing { id }),
        }
    }

    /// Makes `call` in the caller's own task, if it may be made; what came of it says `classify`. A call that has not
    /// ended at `deadline` is dropped, and has failed, as one that panics has.
    ///
    /// # Errors
    ///
    /// When it may not be made, or did not end in time.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped is abandoned: it says nothing, and a probe makes room for another.
    pub async fn call<T>(
        &self,
        id: impl Into<BreakerId>,
        deadline: Uptime,
        classify: impl FnOnce(&T) -> Outcome,
        call: impl Future<Output = T>,
    ) -> Result<T, BreakerError> {
        let permit = self.permit(id)?;
        let left = deadline.since(self.0.clock.now());
        match tokio::time::timeout(left, call).await {
            Ok(value) => {
                let outcome = classify(&value);
                permit.settle(outcome);
                Ok(value)
            }
            Err(_elapsed) => {
                let id = permit.cell.id.clone();
                permit.failure();
                Err(BreakerError::TimedOut { id })
            }
        }
    }

    /// As [`call`](Self::call), and `instead` runs once, in place of a call that may not be made. How often is counted.
    ///
    /// # Errors
    ///
    /// When nobody declared it, there is no place for its key, or the call did not end in time.
    ///
    /// # Cancel safety
    ///
    /// As of [`call`](Self::call).
    pub async fn call_or<T>(
        &self,
        id: impl Into<BreakerId>,
        deadline: Uptime,
        classify: impl FnOnce(&T) -> Outcome,
        call: impl Future<Output = T>,
        instead: impl AsyncFnOnce(BreakerError) -> T,
    ) -> Result<T, BreakerError> {
        match self.call(id, deadline, classify, call).await {
            Err(refused @ (BreakerError::Open { .. } | BreakerError::Probing { .. })) => {
                self.0.fallbacks.fetch_add(1, Ordering::Relaxed);
                Ok(instead(refused).await)
            }
            called => called,
        }
    }

    /// How often something ran in place of a call that might not be made.
    pub fn fallbacks(&self) -> u64 {
        self.0.fallbacks.load(Ordering::Relaxed)
    }

    /// How it stands. It waits for nothing: a lock is held for a decision, never for a call.
    ///
    /// # Errors
    ///
    /// When nobody declared it.
    pub fn status(&self, id: impl Into<BreakerId>) -> Result<BreakerStatus, BreakerError> {
        let id = id.into();
        let now = self.0.clock.now();
        let known = locked(&self.0.cells).get(&id).cloned();
        match known {
            Some(cell) => Ok(BreakerStatus::of(&locked(&cell.breaker), now)),
            None => Ok(BreakerStatus::of(&self.unused(&id)?, now)),
        }
    }

    /// How all of them stand, by id: those that are declared, and of families the keys that were used.
    pub fn list(&self) -> Vec<(BreakerId, BreakerStatus)> {
        let declared = locked(&self.0.declared);
        let alone = declared.iter().filter(|(_, declared)| !declared.is_family);
        let mut ids: Vec<BreakerId> =
            alone.map(|(name, _)| BreakerId { name: Arc::clone(name), key: None }).collect();
        drop(declared);
        ids.extend(locked(&self.0.cells).keys().filter(|id| id.key.is_some()).cloned());
        ids.sort();
        // What was declared stays declared.
        ids.into_iter().filter_map(|id| Some((id.clone(), self.status(id).ok()?))).collect()
    }

    /// Closes it, and forgets what it has seen.
    ///
    /// # Errors
    ///
    /// When nobody declared it.
    pub fn reset(&self, id: impl Into<BreakerId>) -> Result<(), BreakerError> {
        let cell = self.cell(id.into())?;
        let transition = locked(&cell.breaker).reset(self.0.clock.now());
        self.tell(&cell.id, transition);
        Ok(())
    }

    /// One that was open until `until` when its process ended is open still (SM-61). Whether that is so: one that has been
    /// used since is left as it is.
    ///
    /// # Errors
    ///
    /// When nobody declared it, or there is no place for another key.
    pub fn restore(&self, id: impl Into<BreakerId>, until: Uptime) -> Result<bool, BreakerError> {
        let cell = self.cell(id.into())?;
        let mut breaker = locked(&cell.breaker);
        let is_unused = breaker.epoch() == 0 && breaker.is_idle(self.0.clock.now());
        if !is_unused {
            return Ok(false);
        }
        let opened = Opened { until, epoch: 1, doublings: 0 };
        let restored = Breaker::restore(*breaker.config(), opened, self.0.clock.now());
        // What is declared was checked.
        let unknown = |_| BreakerError::UnknownBreaker { id: cell.id.clone() };
        *breaker = restored.map_err(unknown)?;
        Ok(matches!(breaker.state(), State::Open { .. }))
    }

    /// A closed one, as it was declared.
    fn unused(&self, id: &BreakerId) -> Result<Breaker, BreakerError> {
        let unknown = || BreakerError::UnknownBreaker { id: id.clone() };
        let declared = locked(&self.0.declared).get(&id.name).copied();
        let declared = declared.filter(|declared| declared.is_family == id.key.is_some());
        // What is declared was checked.
        Breaker::new(declared.ok_or_else(unknown)?.config).map_err(|_checked| unknown())
    }

    fn cell(&self, id: BreakerId) -> Result<Arc<Cell>, BreakerError> {
        let mut cells = locked(&self.0.cells);
        if let Some(cell) = cells.get(&id) {
            return Ok(Arc::clone(cell));
        }
        let breaker = Mutex::new(self.unused(&id)?);
        let keys_max = self.0.keys_max;
        if id.key.is_some() && cells.len() >= keys_max {
            let now = self.0.clock.now();
            // Whoever holds a permit holds the cell.
            cells.retain(|_, cell| {
                Arc::strong_count(cell) > 1 || !locked(&cell.breaker).is_idle(now)
            });
            if cells.len() >= keys_max {
                return Err(BreakerError::TooManyKeys { keys_max });
            }
        }
        let cell = Arc::new(Cell { id: id.clone(), breaker });
        cells.insert(id, Arc::clone(&cell));
        Ok(cell)
    }

    /// Outside of every lock.
    fn tell(&self, id: &BreakerId, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        tracing::info!(
            target: "perennial::breaker",
            breaker = %id,
            from = %transition.from,
            to = %transition.to,
            cause = ?transition.cause,
            epoch = transition.epoch,
            "breaker changed"
        );
        (self.0.tell)(id, &transition);
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let declared: Vec<Arc<str>> = locked(&self.0.declared).keys().cloned().collect();
        f.debug_struct("Breakers").field("declared", &declared).finish_non_exhaustive()
    }
}

/// The right to make one call, of one epoch of its breaker. Consume it with what came of the call. Dropped by a panic, the
/// call has failed; dropped otherwise, it was abandoned, and says nothing.
#[must_use = "a dropped permit is an abandoned call"]
pub struct BreakerPermit {
    /// Until it is settled.
    grant: Option<Grant>,
    cell: Arc<Cell>,
    breakers: Breakers,
}

impl BreakerPermit {
    /// The breaker.
    pub fn id(&self) -> &BreakerId {
        &self.cell.id
    }

    /// Whether the breaker is as it was when it granted this. If not, the call should not be begun: what comes of it
    /// would count for nothing, and the breaker may be open.
    pub fn is_current(&self) -> bool {
        let epoch = locked(&self.cell.breaker).epoch();
        self.grant.as_ref().is_some_and(|grant| grant.epoch() == epoch)
    }

    /// The call went well.
    pub fn success(self) {
        self.settle(Outcome::Success);
    }

    /// The call failed, or ran out of time.
    pub fn failure(self) {
        self.settle(Outcome::Failure);
    }

    /// The call says nothing about the other side.
    pub fn ignore(self) {
        self.settle(Outcome::Ignore);
    }

    /// What came of the call.
    pub fn settle(mut self, outcome: Outcome) {
        self.give(outcome);
    }

    fn give(&mut self, outcome: Outcome) {
        let Some(grant) = self.grant.take() else { return };
        let (now, chance) = (self.breakers.0.clock.now(), self.breakers.0.chance.draw());
        let transition = locked(&self.cell.breaker).settle(grant, outcome, now, chance);
        self.breakers.tell(&self.cell.id, transition);
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        self.give(if std::thread::panicking() { Outcome::Failure } else { Outcome::Ignore });
    }
}

impl fmt::Debug for BreakerPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BreakerPermit").field(&self.cell.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt as _, future::join_all};

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn one_failure() -> BreakerConfig {
        BreakerConfig::consecutive(1).open_for(secs(10)).jitter(0)
    }

    /// Each transition, as the name of the state that it led to.
    type Told = Arc<Mutex<Vec<String>>>;

    /// Breakers, and what they tell.
    fn breakers(clock: Clock) -> (Breakers, Told) {
        let told = Told::default();
        let kept = Arc::clone(&told);
        let tell =
            move |_: &BreakerId, to: &Transition| kept.lock().unwrap().push(to.to.to_string());
        (Breakers::telling(clock, tell), told)
    }

    fn by_value(value: &Result<u32, u32>) -> Outcome {
        match value {
            Ok(_) => Outcome::Success,
            Err(404) => Outcome::Ignore,
            Err(_) => Outcome::Failure,
        }
    }

    /// Proves INV-CB-1, INV-CB-6, INV-CB-9, B30, B33, C7.10.
    #[tokio::test(start_paused = true)]
    async fn the_value_says_what_came_of_a_call_and_an_open_breaker_makes_none() {
        let clock = Clock::start();
        let (breakers, told) = breakers(clock);
        breakers.declare("b", one_failure()).unwrap();
        let far = clock.now() + secs(1_000);
        let call =
            |value: Result<u32, u32>| breakers.call("b", far, by_value, async move { value });
        // The value is handed on as it is.
        assert_eq!(call(Ok(7)).await, Ok(Ok(7)));
        assert_eq!(call(Err(404)).await, Ok(Err(404)));
        assert_eq!(call(Err(500)).await, Ok(Err(500)));
        let never = async { panic!("it is open") };
        let refused = breakers.call("b", far, by_value, never).await.unwrap_err();
        assert_eq!(refused, BreakerError::Open { id: "b".into(), retry_at: Uptime::new(secs(10)) });
        // On a paused clock.
        tokio::time::sleep(secs(10)).await;
        assert_eq!(call(Ok(8)).await, Ok(Ok(8)));
        assert_eq!(*told.lock().unwrap(), ["open", "half_open", "closed"]);
    }

    /// Proves INV-CB-4, INV-CB-6, INV-21, D29, C7.18.
    #[tokio::test(start_paused = true)]
    async fn a_time_out_and_a_panic_are_failures_and_an_abandoned_probe_makes_room() {
        let clock = Clock::start();
        let (breakers, told) = breakers(clock);
        breakers.declare("b", one_failure()).unwrap();
        let slow = || std::future::pending::<Result<u32, u32>>();
        let late = breakers.call("b", clock.now() + secs(1), by_value, slow()).await.unwrap_err();
        assert_eq!(late, BreakerError::TimedOut { id: "b".into() });
        assert!(matches!(breakers.permit("b"), Err(BreakerError::Open { .. })));
        // On a paused clock.
        tokio::time::sleep(secs(10)).await;
        let far = clock.now() + secs(1_000);
        for _ in 0..100 {
            let mut probe = Box::pin(breakers.call("b", far, by_value, slow()));
            assert!(probe.as_mut().now_or_never().is_none());
            assert!(matches!(breakers.permit("b"), Err(BreakerError::Probing { .. })));
            drop(probe);
        }
        let panics = breakers.call("b", far, by_value, async { panic!("a bug") });
        let caught = std::panic::AssertUnwindSafe(panics).catch_unwind().await;
        assert!(caught.is_err());
        let status = breakers.status("b").unwrap();
        assert_eq!(status.state, State::Open { until: clock.now() + secs(20) });
        assert_eq!((status.probes_out, told.lock().unwrap().len()), (0, 3));
    }

    /// Proves INV-CB-3, INV-CB-11, C7.12.
    #[tokio::test(start_paused = true)]
    async fn a_hundred_callers_make_one_probe() {
        let clock = Clock::start();
        let (breakers, _) = breakers(clock);
        breakers.declare("b", one_failure()).unwrap();
        breakers.permit("b").unwrap().failure();
        // On a paused clock.
        tokio::time::sleep(secs(10)).await;
        let (runs, far) = (AtomicU64::new(0), clock.now() + secs(100));
        let call = || {
            breakers.call("b", far, by_value, async {
                runs.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(secs(1)).await; // paused clock
                Ok(1)
            })
        };
        let ended = join_all((0..100).map(|_| call())).await;
        assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 1);
        assert_eq!(runs.into_inner(), 1);
        assert_eq!(breakers.status("b").unwrap().state, State::Closed);
    }

    /// In real threads, from half open: never more than one grant at a time.
    ///
    /// Proves INV-CB-3, INV-21.
    #[test]
    fn threads_never_hold_more_probes_than_may_be() {
        let breakers = Breakers::new(Clock::start());
        let config = BreakerConfig::consecutive(1).open_for(Duration::from_nanos(1)).jitter(0);
        breakers.declare("b", config.half_open(2, u32::MAX)).unwrap();
        breakers.permit("b").unwrap().failure();
        let (out, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..1_000 {
                        let Ok(permit) = breakers.permit("b") else { continue };
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        out.fetch_sub(1, Ordering::SeqCst);
                        permit.success();
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.into_inner()));
        assert_eq!(breakers.status("b").unwrap().probes_out, 0);
    }

    /// Proves INV-CB-7, C7.17.
    #[tokio::test(start_paused = true)]
    async fn a_slow_call_of_one_breaker_is_nothing_to_another() {
        let clock = Clock::start();
        let (breakers, _) = breakers(clock);
        for name in ["a", "b"] {
            breakers.declare(name, one_failure()).unwrap();
        }
        let far = clock.now() + secs(100);
        let slow = || std::future::pending::<Result<u32, u32>>();
        let mut slow = Box::pin(breakers.call("a", far, by_value, slow()));
        assert!(slow.as_mut().now_or_never().is_none());
        for _ in 0..100 {
            assert_eq!(breakers.call("b", far, by_value, async { Ok(1) }).await, Ok(Ok(1)));
            assert!(breakers.status("a").is_ok());
        }
        assert_eq!(clock.now(), Uptime::ZERO, "no time went by");
    }

    /// Proves INV-CB-8, INV-CB-10, B29, C7.6, C7.14.
    #[test]
    fn only_what_is_declared_exists_and_a_family_has_a_breaker_for_each_key() {
        let breakers = Breakers::new(Clock::start());
        breakers.declare("b", one_failure()).unwrap();
        breakers.declare_family("host", one_failure()).unwrap();
        for unknown in [BreakerId::from("c"), ("b", "x").into(), "host".into()] {
            let error = BreakerError::UnknownBreaker { id: unknown.clone() };
            assert_eq!(breakers.permit(unknown.clone()).unwrap_err(), error);
            assert_eq!(breakers.status(unknown.clone()).unwrap_err(), error);
            assert_eq!(breakers.reset(unknown).unwrap_err(), error);
        }
        assert_eq!(breakers.status(("host", "x")).unwrap().state, State::Closed);
        breakers.permit(("host", "x")).unwrap().failure();
        assert!(breakers.permit(("host", "x")).is_err());
        breakers.permit(("host", "y")).unwrap().success();
        let wrong = breakers.declare("b", BreakerConfig::consecutive(0)).unwrap_err();
        assert_eq!(wrong.field, "failures_max");
        breakers.permit("b").unwrap().success();
        breakers.declare("b", BreakerConfig::consecutive(2)).unwrap();
        breakers.permit("b").unwrap().failure();
        assert!(breakers.permit("b").is_ok(), "two are tolerated now");
    }

    /// Proves INV-CB-10.
    #[test]
    fn idle_keys_make_room_and_those_that_count_do_not() {
        let Ok(inner) = Arc::try_unwrap(Breakers::new(Clock::start()).0) else { panic!() };
        let breakers = Breakers(Arc::new(Inner { keys_max: 2, ..inner }));
        breakers.declare_family("host", one_failure()).unwrap();
        breakers.permit(("host", "failed")).unwrap().failure();
        let held = breakers.permit(("host", "held")).unwrap();
        let full = BreakerError::TooManyKeys { keys_max: 2 };
        assert_eq!(breakers.permit(("host", "x")).unwrap_err(), full);
        held.ignore();
        assert!(breakers.permit(("host", "x")).is_ok());
        assert!(matches!(breakers.permit(("host", "failed")), Err(BreakerError::Open { .. })));
    }

    /// Proves B34, C7.2, C7.3, C7.4, C7.9.
    #[tokio::test(start_paused = true)]
    async fn a_breaker_is_reset_by_hand_and_told_of_alone_and_in_a_list_of_all() {
        let clock = Clock::start();
        let (breakers, told) = breakers(clock);
        breakers.declare("mail", one_failure()).unwrap();
        breakers.declare("disk", BreakerConfig::default()).unwrap();
        breakers.declare_family("host", one_failure()).unwrap();
        let far = clock.now() + secs(1_000);
        let call = |id: &'static str, value| breakers.call(id, far, by_value, async move { value });
        assert_eq!(call("mail", Err(500)).await, Ok(Err(500)));
        breakers.permit(("host", "a")).unwrap().success();
        let status = breakers.status("mail").unwrap();
        assert_eq!(status.state, State::Open { until: Uptime::new(secs(10)) });
        assert_eq!((status.epoch, status.config), (1, one_failure()));
        let listed = |breakers: &Breakers| -> Vec<String> {
            let line = |(id, status): (BreakerId, BreakerStatus)| format!("{id} {}", status.state);
            breakers.list().into_iter().map(line).collect()
        };
        assert_eq!(listed(&breakers), ["disk closed", "host[a] closed", "mail open"]);
        assert_eq!(breakers.list()[2].1, status);
        breakers.reset("mail").unwrap();
        assert_eq!(call("mail", Ok(7)).await, Ok(Ok(7)));
        assert_eq!(call("mail", Err(500)).await, Ok(Err(500)));
        assert!(matches!(call("mail", Ok(7)).await, Err(BreakerError::Open { .. })));
        // Its time, on a paused clock.
        tokio::time::sleep(secs(10)).await;
        let probe = breakers.permit("mail").unwrap();
        assert_eq!(breakers.status("mail").unwrap().state, State::HalfOpen);
        drop(probe);
        assert_eq!(*told.lock().unwrap(), ["open", "closed", "open", "half_open"]);
    }

    /// Proves C7.19, D44.
    #[tokio::test(start_paused = true)]
    async fn what_stands_in_runs_once_and_only_for_a_call_that_was_refused_and_is_counted() {
        let clock = Clock::start();
        let (breakers, _) = breakers(clock);
        breakers.declare("b", one_failure()).unwrap();
        let far = clock.now() + secs(1_000);
        let mut ran = 0;
        for value in [Ok(1), Err(500), Ok(2), Ok(3)] {
            let instead = async |refused: BreakerError| {
                ran += 1;
                assert!(matches!(refused, BreakerError::Open { .. }));
                Ok(99)
            };
            let called = breakers.call_or("b", far, by_value, async move { value }, instead).await;
            assert_eq!(called, Ok(if ran == 0 { value } else { Ok(99) }));
        }
        assert_eq!((ran, breakers.fallbacks()), (2, 2));
        let unknown = breakers.call_or("c", far, by_value, async { Ok(1) }, async |_| Ok(99)).await;
        assert!(matches!(unknown, Err(BreakerError::UnknownBreaker { .. })));
    }

    /// Every way in which the caller of a probe may end.
    ///
    /// Proves INV-CB-4, C7.11, C7.13, C7.15, C7.16.
    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_is_gone_makes_room_and_what_is_old_changes_nothing() {
        let clock = Clock::start();
        let (breakers, _) = breakers(clock);
        breakers.declare("b", one_failure()).unwrap();
        let old = breakers.permit("b").unwrap();
        breakers.permit("b").unwrap().ignore();
        breakers.permit("b").unwrap().failure();
        old.success();
        assert!(matches!(breakers.permit("b"), Err(BreakerError::Open { .. })));
        // Its time, on a paused clock.
        tokio::time::sleep(secs(10)).await;
        let far = clock.now() + secs(1_000);
        let probing = breakers.clone();
        let hangs = async move {
            let _ = probing.call("b", far, by_value, std::future::pending()).await;
        };
        #[expect(clippy::disallowed_methods, reason = "a task that the test kills")]
        let task = tokio::spawn(hangs);
        // The task begins, on a paused clock.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(matches!(breakers.permit("b"), Err(BreakerError::Probing { .. })));
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        breakers.permit("b").unwrap().ignore();
        let probe = breakers.permit("b").unwrap();
        assert!(matches!(breakers.permit("b"), Err(BreakerError::Probing { .. })));
        probe.success();
        assert_eq!(breakers.status("b").unwrap().state, State::Closed);
    }

    /// Proves C7.5, C7.8.
    #[tokio::test(start_paused = true)]
    async fn a_hundred_calls_of_which_some_fail_below_the_threshold_have_their_results() {
        let clock = Clock::start();
        let (breakers, told) = breakers(clock);
        let config = BreakerConfig { rate: None, ..BreakerConfig::consecutive(50) };
        breakers.declare("b", config).unwrap();
        let far = clock.now() + secs(1_000);
        let value = |number: u32| if number.is_multiple_of(3) { Err(500) } else { Ok(number) };
        let call = |number| breakers.call("b", far, by_value, async move { value(number) });
        let results = join_all((0..100).map(call)).await;
        assert_eq!(results, (0..100).map(|number| Ok(value(number))).collect::<Vec<_>>());
        assert!(told.lock().unwrap().is_empty());
        let usual = BreakerConfig::default();
        assert_eq!((usual.failures_max, usual.probes, usual.successes), (5, 1, 1));
        assert_eq!((usual.open_for, usual.open_max), (secs(30), secs(300)));
        let rate = usual.rate.unwrap();
        assert_eq!((rate.percent, rate.calls_min, rate.window), (50, 10, secs(60)));
        assert_eq!(usual.jitter_percent, 20);
    }
}
