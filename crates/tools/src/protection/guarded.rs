//! All that guards a call, in the one order there is.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    FailureClass, Uptime,
    protection::{breaker::Outcome, retry_budget::RetryBudget},
    retry::{AfterFailure, RetryPolicy},
};
use perennial_supervision::Clock;

use super::{
    BreakerError, BreakerId, BreakerPermit, Breakers, Limiter, LimiterError, Permit, PermitError,
    Permits, Reservation,
};

/// What guards the calls to one target.
///
/// Outermost first: *deadline*, *retry*, *breaker*, *limiter*, *permit*, and then the call (INV-RT-9). Each but the
/// deadline may be absent, none may move. So nobody holds a permit while it waits for the limiter, and each retry asks the
/// breaker anew.
///
/// ```
/// use perennial_core::{FailureClass, retry::RetryPolicy};
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::{Breakers, BreakerConfig, Guarded, Judged};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Clock::start();
/// let breakers = Breakers::new(clock);
/// breakers.declare("mail", BreakerConfig::default())?;
/// let mail = Guarded::new(clock).retry(RetryPolicy::PROVIDER).breaker(breakers, "mail");
///
/// let transient = |_: &&str| Judged::of(FailureClass::Transient);
/// let sent = mail
///     .call("agent 7", &[], clock.now() + Duration::from_secs(60), transient, async |attempt| {
///         if attempt < 3 { Err("no line") } else { Ok("sent") }
///     })
///     .await;
/// assert_eq!(sent.unwrap(), "sent");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Guarded {
    clock: Clock,
    retry: RetryPolicy,
    budget: Option<Arc<Mutex<RetryBudget>>>,
    breaker: Option<(Breakers, BreakerId)>,
    limiter: Option<(Limiter, String)>,
    permits: Option<Permits>,
    /// How long a pause is inside of its jitter.
    chance: Arc<(RandomState, AtomicU64)>,
}

/// What an error means to those who guard the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Decides about retry.
    pub class: FailureClass,
    /// What the breaker counts.
    pub outcome: Outcome,
    /// How long the other side asked to wait: everybody who uses the limiter's key waits so long.
    pub retry_after: Option<Duration>,
}

impl Judged {
    /// A failure for the breaker when the other side is in trouble: a class that may get better by itself, except a quota
    /// that is used up.
    pub fn of(class: FailureClass) -> Self {
        let in_trouble = class.is_retryable() && class != FailureClass::RateLimited;
        let outcome = if in_trouble { Outcome::Failure } else { Outcome::Ignore };
        Self { class, outcome, retry_after: None }
    }

    /// The other side asked to wait.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }
}

/// Why a guarded call has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardedError<E> {
    /// The call failed, and is not tried again.
    #[error("failed after {attempts} attempts in {elapsed:?}: {error}")]
    Failed {
        /// The error of the last attempt, as it was.
        error: E,
        /// How often it was tried.
        attempts: u32,
        /// In how much time.
        elapsed: Duration,
    },
    /// The call failed, and its target has had all the retries it may be asked to bear.
    #[error("failed after {attempts} attempts, and the target's retries are used up: {last_error}")]
    BudgetExhausted {
        /// The error of the last attempt, as it was.
        last_error: E,
        /// How often it was tried.
        attempts: u32,
    },
    /// The last attempt had not ended at the deadline, and was dropped.
    #[error("attempt {attempts} did not end before the deadline")]
    TimedOut {
        /// How often it was tried, that one included.
        attempts: u32,
    },
    /// The breaker let no attempt through.
    #[error(transparent)]
    Breaker(BreakerError),
    /// The limiter let no attempt through.
    #[error(transparent)]
    Limiter(LimiterError),
    /// There was no permit for an attempt.
    #[error(transparent)]
    Permit(PermitError),
}

/// What is held while one attempt is made; given back in the order of the fields.
struct Held {
    permit: Option<Permit>,
    reservation: Option<Reservation>,
    breaker: Option<BreakerPermit>,
}

impl Guarded {
    /// Only the deadline guards its calls.
    pub fn new(clock: Clock) -> Self {
        let chance = Arc::new((RandomState::new(), AtomicU64::new(0)));
        let retry = RetryPolicy::ONCE;
        Self { clock, retry, budget: None, breaker: None, limiter: None, permits: None, chance }
    }

    /// Failed calls are tried again; nobody below may do that as well.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// No more retries than the target may be asked to bear, by all that is called through this and its clones.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(Arc::new(Mutex::new(budget)));
        self
    }

    /// A breaker.
    #[must_use]
    pub fn breaker(mut self, breakers: Breakers, id: impl Into<BreakerId>) -> Self {
        self.breaker = Some((breakers, id.into()));
        self
    }

    /// A limiter, and the key that is asked for.
    #[must_use]
    pub fn limiter(mut self, limiter: Limiter, key: impl Into<String>) -> Self {
        self.limiter = Some((limiter, key.into()));
        self
    }

    /// A semaphore, of which each attempt takes one.
    #[must_use]
    pub fn permits(mut self, permits: Permits) -> Self {
        self.permits = Some(permits);
        self
    }

    /// Makes `call`, which is told the number of its attempt, from 1. `costs` are those of the limiter, and `judge` says
    /// what an error means. Work that must not be done twice is retried only if `call` sees to that, by a key of its own.
    ///
    /// An open breaker uses no attempt: its next probe is waited for when it is before the deadline and there is a retry.
    ///
    /// # Errors
    ///
    /// When the call failed for good, was not let through, or did not end before `deadline`. No pause is begun that would
    /// end after it.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, nothing is taken. Dropped during an attempt, the breaker counts nothing, and the limiter
    /// what was estimated.
    pub async fn call<T, E>(
        &self,
        owner: &str,
        costs: &[u64],
        deadline: Uptime,
        judge: impl Fn(&E) -> Judged,
        mut call: impl AsyncFnMut(u32) -> Result<T, E>,
    ) -> Result<T, GuardedError<E>> {
        let begun = self.clock.now();
        if let Some(budget) = self.locked_budget() {
            budget.lock().unwrap_or_else(PoisonError::into_inner).first_attempt();
        }
        let mut attempts = 0;
        loop {
            let held = self.enter(owner, costs, deadline).await?;
            attempts += 1;
            let Ok(result) = tokio::time::timeout(self.left(deadline), call(attempts)).await else {
                held.leave(Outcome::Failure);
                return Err(GuardedError::TimedOut { attempts });
            };
            let error = match result {
                Ok(value) => {
                    held.leave(Outcome::Success);
                    return Ok(value);
                }
                Err(error) => error,
            };
            let judged = judge(&error);
            held.leave(judged.outcome);
            let now = self.clock.now();
            self.tell_overload(judged, now);
            let after = self.retry.after(judged.class, attempts, judged.retry_after, self.chance());
            let elapsed = now.since(begun);
            let pause = match after {
                AfterFailure::RetryIn(pause) if pause < deadline.since(now) => pause,
                AfterFailure::RetryIn(_) | AfterFailure::Fail { .. } => {
                    return Err(GuardedError::Failed { error, attempts, elapsed });
                }
            };
            if let Some(budget) = self.locked_budget()
                && !budget.lock().unwrap_or_else(PoisonError::into_inner).retry(now)
            {
                return Err(GuardedError::BudgetExhausted { last_error: error, attempts });
            }
            tracing::debug!(attempts, ?pause, class = ?judged.class, "retry scheduled");
            tokio::time::sleep(pause).await;
        }
    }

    /// Passes all guards, from the outermost to the innermost.
    async fn enter<E>(
        &self,
        owner: &str,
        costs: &[u64],
        deadline: Uptime,
    ) -> Result<Held, GuardedError<E>> {
        loop {
            let breaker = match self.pass_breaker() {
                Ok(permit) => permit,
                Err(BreakerError::Open { retry_at, .. })
                    if retry_at < deadline && self.retry.max_attempts > 1 =>
                {
                    tokio::time::sleep(retry_at.since(self.clock.now())).await;
                    continue;
                }
                Err(error) => return Err(GuardedError::Breaker(error)),
            };
            let mut reservation = match &self.limiter {
                Some((limiter, key)) => {
                    let reserving = limiter.reserve_until_ready(key, costs, deadline);
                    Some(reserving.await.map_err(GuardedError::Limiter)?)
                }
                None => None,
            };
            let permit = match &self.permits {
                Some(permits) => {
                    let acquiring = permits.acquire(1, owner, deadline);
                    Some(acquiring.await.map_err(GuardedError::Permit)?)
                }
                None => None,
            };
            // It may have tripped while this waited; then all is given back.
            if breaker.as_ref().is_none_or(BreakerPermit::is_current) {
                if let Some(reservation) = &mut reservation {
                    reservation.sent();
                }
                return Ok(Held { permit, reservation, breaker });
            }
        }
    }

    fn pass_breaker(&self) -> Result<Option<BreakerPermit>, BreakerError> {
        let asked = self.breaker.as_ref().map(|(breakers, id)| breakers.permit(id.clone()));
        asked.transpose()
    }

    /// What one caller was told holds for all.
    fn tell_overload(&self, judged: Judged, now: Uptime) {
        if matches!(judged.class, FailureClass::RateLimited | FailureClass::Overloaded)
            && let Some(permits) = &self.permits
        {
            permits.overloaded();
        }
        if let (Some(time), Some((limiter, key))) = (judged.retry_after, &self.limiter) {
            let until = Uptime::new(now.elapsed().saturating_add(time));
            // The key is there: this call took of it.
            let _ = limiter.back_off(key, until);
        }
    }

    fn locked_budget(&self) -> Option<&Mutex<RetryBudget>> {
        self.budget.as_deref()
    }

    fn left(&self, deadline: Uptime) -> Duration {
        deadline.since(self.clock.now())
    }

    fn chance(&self) -> f64 {
        let (state, count) = &*self.chance;
        let hash = state.hash_one(count.fetch_add(1, Ordering::Relaxed));
        f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

impl Held {
    fn leave(self, outcome: Outcome) {
        let Self { permit, reservation, breaker } = self;
        drop((permit, reservation));
        if let Some(breaker) = breaker {
            breaker.settle(outcome);
        }
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("retry", &self.retry)
            .field("breaker", &self.breaker.as_ref().map(|(_, id)| id))
            .field("limiter", &self.limiter.as_ref().map(|(_, key)| key))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protection::{BreakerConfig, Limit, LimiterConfig};

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn transient(_: &u32) -> Judged {
        Judged::of(FailureClass::Transient)
    }

    fn policy(max_attempts: u32) -> RetryPolicy {
        RetryPolicy { max_attempts, jitter_percent: 0, ..RetryPolicy::PROVIDER }
    }

    struct Layers {
        clock: Clock,
        breakers: Breakers,
        limiter: Limiter,
        permits: Permits,
        guarded: Guarded,
    }

    /// Three attempts; trips at 2 failures for 10 s; 3 calls in 100 s; one at a time.
    fn layers() -> Layers {
        let clock = Clock::start();
        let breakers = Breakers::new(clock);
        let config = BreakerConfig::consecutive(2).open_for(secs(10)).jitter(0);
        breakers.declare("b", config).unwrap();
        let limit = LimiterConfig::one(Limit::sliding_log(3, secs(100)));
        let limiter = Limiter::new(limit, clock).unwrap();
        let permits = Permits::counting("p", 1, clock).unwrap();
        let guarded = Guarded::new(clock)
            .retry(policy(3))
            .breaker(breakers.clone(), "b")
            .limiter(limiter.clone(), "k")
            .permits(permits.clone());
        Layers { clock, breakers, limiter, permits, guarded }
    }

    /// Each attempt passes the breaker, then the limiter, then takes a permit, and gives all of it back before the pause.
    /// An open breaker is waited for and uses no attempt.
    ///
    /// Proves INV-RT-1, INV-RT-3, INV-RT-9, INV-SEM-4.
    #[tokio::test(start_paused = true)]
    async fn the_order_of_the_layers_is_deadline_retry_breaker_limiter_permit_call() {
        let Layers { clock, breakers, limiter, permits, guarded } = layers();
        let mut calls = Vec::new();
        let failed = guarded.call("o", &[1], clock.now() + secs(60), transient, async |attempt| {
            assert_eq!((permits.status().out, limiter.waiting()), (1, 0));
            calls.push((attempt, clock.now().elapsed().as_millis()));
            Err::<(), u32>(500 + attempt)
        });
        let failed = failed.await.unwrap_err();
        // 500 ms after the first; the second trips, and its pause of 1 s ends while it is open.
        assert_eq!(calls, [(1, 0), (2, 500), (3, 10_500)]);
        let elapsed = Duration::from_millis(10_500);
        assert_eq!(failed, GuardedError::Failed { error: 503, attempts: 3, elapsed });
        assert_eq!((permits.status().out, limiter.status("k")[0].remaining), (0, 0));
        // Open: nothing of what is inside of the breaker is asked.
        let checks = limiter.stats().checks;
        let refused =
            guarded.call("o", &[1], clock.now() + secs(5), transient, async |_| Err::<(), u32>(0));
        let refused = refused.await.unwrap_err();
        assert!(matches!(refused, GuardedError::Breaker(BreakerError::Open { .. })), "{refused}");
        assert_eq!(limiter.stats().checks, checks);
        // Closed, and the limit is reached: no permit is taken by who waits for the limiter, and the breaker counts nothing.
        breakers.reset("b").unwrap();
        let refused =
            guarded.call("o", &[1], clock.now() + secs(5), transient, async |_| Err::<(), u32>(0));
        let refused = refused.await.unwrap_err();
        assert!(matches!(refused, GuardedError::Limiter(_)), "{refused}");
        assert_eq!(breakers.status("b").unwrap().consecutive_failures, 0);
    }

    /// Proves INV-CB-1.
    #[tokio::test(start_paused = true)]
    async fn who_waited_while_the_breaker_tripped_asks_it_again_and_took_nothing() {
        let Layers { clock, breakers, limiter, permits, guarded } = layers();
        let held = permits.try_acquire(1, "other").unwrap();
        let once = guarded.retry(policy(1));
        let waits =
            once.call("o", &[1], clock.now() + secs(60), transient, async |_| -> Result<(), u32> {
                panic!("it is open")
            });
        let trips = async {
            // On a paused clock.
            tokio::time::sleep(secs(1)).await;
            assert_eq!(limiter.status("k")[0].remaining, 2);
            breakers.permit("b").unwrap().failure();
            breakers.permit("b").unwrap().failure();
            drop(held);
        };
        let (refused, ()) = tokio::join!(waits, trips);
        assert!(matches!(refused, Err(GuardedError::Breaker(BreakerError::Open { .. }))));
        assert_eq!((permits.status().out, limiter.status("k")[0].remaining), (0, 3));
    }

    /// Proves INV-RT-2, INV-RT-4, C9.4, C9.23.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_get_better_or_not_in_time_is_tried_once() {
        let clock = Clock::start();
        let guarded = Guarded::new(clock).retry(policy(5));
        let mut calls = 0;
        for (judged, within) in [
            (Judged::of(FailureClass::Permanent), secs(60)),
            (Judged::of(FailureClass::Transient), Duration::from_millis(400)),
            (Judged::of(FailureClass::RateLimited).retry_after(secs(61)), secs(60)),
        ] {
            let failed = guarded.call(
                "o",
                &[],
                clock.now() + within,
                |_| judged,
                async |_| {
                    calls += 1;
                    Err::<(), &str>("no")
                },
            );
            let error = failed.await.unwrap_err();
            let elapsed = Duration::ZERO;
            assert_eq!(error, GuardedError::Failed { error: "no", attempts: 1, elapsed });
        }
        assert_eq!((calls, clock.now()), (3, Uptime::ZERO));
        let late = guarded.call("o", &[], clock.now() + secs(2), transient, async |_| {
            std::future::pending::<Result<(), u32>>().await
        });
        assert_eq!(late.await.unwrap_err(), GuardedError::TimedOut { attempts: 1 });
        assert_eq!(clock.now(), Uptime::new(secs(2)));
    }

    /// Proves INV-RT-8, C9.29.
    #[tokio::test(start_paused = true)]
    async fn all_callers_of_a_target_share_its_retries() {
        let clock = Clock::start();
        let guarded = Guarded::new(clock).retry(policy(5)).budget(RetryBudget::new(20, 0));
        let (mut calls, mut exhausted) = (0, 0);
        for _ in 0..1_000 {
            let failed = guarded.call("o", &[], clock.now() + secs(600), transient, async |_| {
                calls += 1;
                Err::<(), u32>(500)
            });
            let error = failed.await.unwrap_err();
            exhausted += u32::from(matches!(error, GuardedError::BudgetExhausted { .. }));
        }
        assert_eq!(calls, 1_200);
        assert!(exhausted >= 800, "{exhausted}");
    }

    /// Proves INV-RT-7.
    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_in_its_pause_makes_no_further_attempt() {
        let Layers { clock, permits, guarded, .. } = layers();
        let mut calls = 0;
        let dropped = guarded.call("o", &[1], clock.now() + secs(60), transient, async |_| {
            calls += 1;
            Err::<(), u32>(500)
        });
        let within = Duration::from_millis(100);
        assert!(tokio::time::timeout(within, dropped).await.is_err());
        assert_eq!((calls, permits.status().out), (1, 0));
    }
}
