//! All that guards a call, in the one order there is.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    ExitReason, FailureClass, Timestamp, Uptime,
    protection::{breaker::Outcome, retry_budget::RetryBudget},
    retry::{
        Course, GaveUp, Next, Retry, RetryPolicy,
        http::{RetryHeaders, may_retry},
    },
};
use perennial_supervision::{Clock, contain};

use super::{
    BreakerError, BreakerId, BreakerPermit, Breakers, Limiter, LimiterError, Permit, PermitError,
    Permits, Reservation, chance::Chance,
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
    retry: Retry,
    budget: Option<Arc<Mutex<RetryBudget>>>,
    breaker: Option<(Breakers, BreakerId)>,
    limiter: Option<(Limiter, String)>,
    permits: Option<Permits>,
    /// How long a pause is inside of its jitter.
    chance: Arc<Chance>,
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

    /// What an answer of HTTP means that is no success: `status` to a request of `method`, which `has_key` when doing it
    /// twice does it once. A pause that was told as a date is measured against the answer's `date`, or `now`.
    ///
    /// ```
    /// use perennial_core::{FailureClass, retry::http::RetryHeaders};
    /// use perennial_tools::protection::Judged;
    /// use std::time::Duration;
    ///
    /// let headers = RetryHeaders { retry_after: Some("2"), ..RetryHeaders::default() };
    /// let judged = Judged::of_http(429, "POST", false, &headers, None);
    /// assert_eq!((judged.class, judged.retry_after), (FailureClass::RateLimited, Some(Duration::from_secs(2))));
    /// assert_eq!(Judged::of_http(404, "GET", false, &headers, None).class, FailureClass::Permanent);
    /// ```
    pub fn of_http(
        status: u16,
        method: &str,
        has_key: bool,
        headers: &RetryHeaders<'_>,
        now: Option<Timestamp>,
    ) -> Self {
        let class = match (may_retry(status, method, has_key, headers), status) {
            (false, _) => FailureClass::Permanent,
            (true, 429) => FailureClass::RateLimited,
            (true, 503 | 529) => FailureClass::Overloaded,
            (true, _) => FailureClass::Transient,
        };
        // What is not tried again may be the other side's trouble all the same.
        let outcome = match Self::of(class).outcome {
            Outcome::Ignore if status >= 500 => Outcome::Failure,
            outcome @ (Outcome::Success | Outcome::Failure | Outcome::Ignore) => outcome,
        };
        let wait = headers.told_wait(now).filter(|_| class.is_retryable());
        Self { class, outcome, retry_after: wait }
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
    /// The call panicked, and that was asked to be an error; it is not tried again.
    #[error("attempt {attempts} ended with a {reason}")]
    Panicked {
        /// The panic.
        reason: ExitReason,
        /// How often it was tried, that one included.
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
        let (chance, retry) = (Arc::default(), RetryPolicy::ONCE.into());
        Self { clock, retry, budget: None, breaker: None, limiter: None, permits: None, chance }
    }

    /// Failed calls are tried again, as a [`RetryPolicy`] or a [`Retry`] says; nobody below may do that as well.
    #[must_use]
    pub fn retry(mut self, retry: impl Into<Retry>) -> Self {
        self.retry = retry.into();
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
        call: impl AsyncFnMut(u32) -> Result<T, E>,
    ) -> Result<T, GuardedError<E>> {
        self.calling(owner, deadline).costs(costs).run(judge, call).await
    }

    /// A call that is told of, or asks for more than [`call`](Self::call) does.
    ///
    /// ```
    /// use perennial_core::{FailureClass, retry::RetryPolicy};
    /// use perennial_supervision::Clock;
    /// use perennial_tools::protection::{Guarded, Judged, Told};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = Clock::start();
    /// let mail = Guarded::new(clock).retry(RetryPolicy::PROVIDER);
    /// let mut told = Vec::new();
    /// mail.calling("agent 7", clock.now() + Duration::from_secs(60))
    ///     .tell(|event| match event {
    ///         Told::RetryScheduled { attempt, error, .. } => told.push(format!("{attempt}: {error}")),
    ///         Told::Attempt { .. } | Told::Succeeded { .. } | Told::Failed { .. } | Told::TimedOut { .. } => (),
    ///     })
    ///     .run(|_: &&str| Judged::of(FailureClass::Transient), async |attempt| {
    ///         if attempt < 2 { Err("no line") } else { Ok(()) }
    ///     })
    ///     .await
    ///     .unwrap();
    /// assert_eq!(told, ["1: no line"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn calling<'a, E>(&'a self, owner: &'a str, deadline: Uptime) -> Calling<'a, E> {
        let (tell, delay, progress) = (None, None, None);
        Calling {
            guarded: self,
            owner,
            deadline,
            costs: &[],
            tell,
            delay,
            progress,
            contained: false,
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
                    if retry_at < deadline && self.retry.policy.max_attempts > 1 =>
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
}

/// Signs that a call gets on; see [`Retry::progress_within`]. Cheap to clone; clones are the same.
///
/// ```
/// use perennial_supervision::Clock;
/// use perennial_tools::protection::Progress;
///
/// let clock = Clock::start();
/// let progress = Progress::new(clock);
/// progress.record();
/// assert!(progress.latest() <= clock.now());
/// ```
#[derive(Clone, Debug)]
pub struct Progress {
    clock: Clock,
    /// Nanoseconds since the start.
    latest: Arc<AtomicU64>,
}

impl Progress {
    /// Nothing was recorded yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, latest: Arc::default() }
    }

    /// It got on now.
    pub fn record(&self) {
        let nanos = u64::try_from(self.clock.now().elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latest.fetch_max(nanos, Ordering::Relaxed);
    }

    /// When it got on last.
    pub fn latest(&self) -> Uptime {
        Uptime::new(Duration::from_nanos(self.latest.load(Ordering::Relaxed)))
    }
}

/// What is told of a guarded call, in the order it happens.
#[derive(Debug)]
pub enum Told<'a, E> {
    /// It passed all guards, and is made now.
    Attempt {
        /// The number of the attempt, from 1.
        number: u32,
    },
    /// It failed, and is made again after a pause.
    RetryScheduled {
        /// The attempt that failed.
        attempt: u32,
        /// How long the pause is.
        pause: Duration,
        /// What decided it.
        class: FailureClass,
        /// The error, as it was.
        error: &'a E,
    },
    /// It went well.
    Succeeded {
        /// How often it was tried.
        attempts: u32,
    },
    /// It failed for good.
    Failed {
        /// How often it was tried.
        attempts: u32,
        /// Why it is not tried again.
        why: GaveUp,
        /// The error of the last attempt, as it was.
        error: &'a E,
    },
    /// It had not ended at the deadline.
    TimedOut {
        /// How often it was tried, the last included.
        attempts: u32,
    },
}

type Tell<'a, E> = Box<dyn FnMut(Told<'_, E>) + Send + 'a>;
type Delay<'a, E> = Box<dyn Fn(u32, &E) -> Option<Duration> + Send + Sync + 'a>;

/// One guarded call, before it is made; from [`Guarded::calling`].
#[must_use = "nothing is called before `run`"]
pub struct Calling<'a, E> {
    guarded: &'a Guarded,
    owner: &'a str,
    deadline: Uptime,
    costs: &'a [u64],
    tell: Option<Tell<'a, E>>,
    delay: Option<Delay<'a, E>>,
    progress: Option<&'a Progress>,
    contained: bool,
}

impl<'a, E> Calling<'a, E> {
    /// What each attempt costs at the limiter.
    pub fn costs(mut self, costs: &'a [u64]) -> Self {
        self.costs = costs;
        self
    }

    /// Who is told what happens; it must not wait.
    pub fn tell(mut self, tell: impl FnMut(Told<'_, E>) + Send + 'a) -> Self {
        self.tell = Some(Box::new(tell));
        self
    }

    /// How long a pause is after the attempt of this number that failed; `None` leaves it to the back-off. What the
    /// other side asked for is obeyed before this.
    pub fn delay(mut self, delay: impl Fn(u32, &E) -> Option<Duration> + Send + Sync + 'a) -> Self {
        self.delay = Some(Box::new(delay));
        self
    }

    /// Where the call records that it gets on.
    pub fn progress(mut self, progress: &'a Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// A panic of the call is an error; without this it goes on to whoever called, and its permits come back.
    pub fn contained(mut self) -> Self {
        self.contained = true;
        self
    }

    /// Makes the call, as of [`Guarded::call`].
    ///
    /// # Errors
    ///
    /// As of [`Guarded::call`]; and when it panicked, if that was asked for.
    ///
    /// # Cancel safety
    ///
    /// As of [`Guarded::call`].
    pub async fn run<T>(
        mut self,
        judge: impl Fn(&E) -> Judged,
        mut call: impl AsyncFnMut(u32) -> Result<T, E>,
    ) -> Result<T, GuardedError<E>> {
        let (guarded, deadline) = (self.guarded, self.deadline);
        let mut course = Course::begin(guarded.retry, guarded.clock.now());
        if let Some(budget) = guarded.locked_budget() {
            budget.lock().unwrap_or_else(PoisonError::into_inner).first_attempt();
        }
        loop {
            let held = guarded.enter(self.owner, self.costs, deadline).await?;
            let attempts = course.attempt();
            self.told(Told::Attempt { number: attempts });
            let attempt = async {
                if self.contained {
                    contain(call(attempts)).await
                } else {
                    Ok(call(attempts).await)
                }
            };
            let result = match tokio::time::timeout(guarded.left(deadline), attempt).await {
                Ok(Ok(result)) => result,
                Ok(Err(reason)) => {
                    held.leave(Outcome::Failure);
                    return Err(GuardedError::Panicked { reason, attempts });
                }
                Err(_elapsed) => {
                    held.leave(Outcome::Failure);
                    self.told(Told::TimedOut { attempts });
                    return Err(GuardedError::TimedOut { attempts });
                }
            };
            let error = match result {
                Ok(value) => {
                    held.leave(Outcome::Success);
                    self.told(Told::Succeeded { attempts });
                    return Ok(value);
                }
                Err(error) => error,
            };
            let judged = judge(&error);
            held.leave(judged.outcome);
            let now = guarded.clock.now();
            guarded.tell_overload(judged, now);
            match self.next(&mut course, judged, &error, now) {
                Next::RetryIn(pause) => {
                    let class = judged.class;
                    tracing::debug!(attempts, ?pause, ?class, "retry scheduled");
                    let attempt = attempts;
                    self.told(Told::RetryScheduled { attempt, pause, class, error: &error });
                    tokio::time::sleep(pause).await;
                }
                Next::GiveUp(why) => {
                    self.told(Told::Failed { attempts, why, error: &error });
                    let elapsed = course.elapsed(now);
                    return Err(match why {
                        GaveUp::BudgetExhausted => {
                            GuardedError::BudgetExhausted { last_error: error, attempts }
                        }
                        GaveUp::NotRetryable
                        | GaveUp::AttemptsUsed
                        | GaveUp::Deadline
                        | GaveUp::ElapsedMax
                        | GaveUp::NoProgress => GuardedError::Failed { error, attempts, elapsed },
                    });
                }
            }
        }
    }

    fn next(&self, course: &mut Course, judged: Judged, error: &E, now: Uptime) -> Next {
        if let Some(progress) = self.progress {
            course.progressed(progress.latest());
        }
        let delay = || self.delay.as_ref().and_then(|delay| delay(course.attempts(), error));
        let told = judged.retry_after.or_else(delay);
        let chance = self.guarded.chance.draw();
        let next = course.after(judged.class, told, self.deadline, now, chance);
        let Some(budget) = self.guarded.locked_budget() else { return next };
        match next {
            Next::RetryIn(_)
                if !budget.lock().unwrap_or_else(PoisonError::into_inner).retry(now) =>
            {
                Next::GiveUp(GaveUp::BudgetExhausted)
            }
            Next::RetryIn(_) | Next::GiveUp(_) => next,
        }
    }

    fn told(&mut self, told: Told<'_, E>) {
        if let Some(tell) = &mut self.tell {
            tell(told);
        }
    }
}

impl<E> fmt::Debug for Calling<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling")
            .field("guarded", self.guarded)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
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

    /// What is told of a call, without what is in it.
    fn shown(told: &Told<'_, u32>) -> String {
        match told {
            Told::Attempt { number } => format!("attempt {number}"),
            Told::RetryScheduled { attempt, pause, class, error } => {
                format!("{error} of {attempt} is {class}: again in {pause:?}")
            }
            Told::Succeeded { attempts } => format!("well after {attempts}"),
            Told::Failed { attempts, why, error } => format!("{error} after {attempts}: {why:?}"),
            Told::TimedOut { attempts } => format!("late after {attempts}"),
        }
    }

    /// Fails until attempt number `well`, with that attempt's number; permanently with 9.
    async fn told_of(
        guarded: &Guarded,
        well: u32,
    ) -> (Result<u32, GuardedError<u32>>, Vec<String>) {
        let judge = |error: &u32| {
            Judged::of(if *error == 9 { FailureClass::Permanent } else { FailureClass::Timeout })
        };
        let mut told = Vec::new();
        let call = guarded.calling("o", guarded.clock.now() + secs(60));
        let call = call.tell(|event| told.push(shown(&event)));
        let result = call
            .run(judge, async |attempt| match well {
                0 => Err(9),
                well if attempt < well => Err(attempt),
                well => Ok(well),
            })
            .await;
        (result, told)
    }

    /// Proves INV-RT-10, C9.1, C9.2, C9.3, C9.13, C9.14, C9.8, B35.
    #[tokio::test(start_paused = true)]
    async fn each_attempt_is_told_with_its_error_and_success_only_when_there_was_one() {
        let clock = Clock::start();
        let guarded = Guarded::new(clock).retry(policy(3));
        let (well, told) = told_of(&guarded, 1).await;
        assert_eq!(
            (well.unwrap(), told),
            (1, vec!["attempt 1".to_owned(), "well after 1".to_owned()])
        );
        let (well, told) = told_of(&guarded, 3).await;
        assert_eq!(well.unwrap(), 3);
        let expected = [
            "attempt 1",
            "1 of 1 is timeout: again in 500ms",
            "attempt 2",
            "2 of 2 is timeout: again in 1s",
            "attempt 3",
            "well after 3",
        ];
        assert_eq!(told, expected);
        assert_eq!(clock.now(), Uptime::new(Duration::from_millis(1_500)), "exactly these pauses");
        let (failed, told) = told_of(&guarded, 4).await;
        let elapsed = Duration::from_millis(1_500);
        assert_eq!(failed.unwrap_err(), GuardedError::Failed { error: 3, attempts: 3, elapsed });
        assert_eq!(told.last().unwrap(), "3 after 3: AttemptsUsed");
        assert_eq!(told.iter().filter(|event| event.contains("again in")).count(), 2);
        let (_, told) = told_of(&guarded, 0).await;
        assert_eq!(told, ["attempt 1", "9 after 1: NotRetryable"]);
        // For named classes alone.
        let only = Some([FailureClass::Permanent].into_iter().collect());
        let guarded = guarded.retry(RetryPolicy { only, ..policy(2) });
        assert_eq!(told_of(&guarded, 2).await.1, ["attempt 1", "1 after 1: NotRetryable"]);
        assert_eq!(told_of(&guarded, 0).await.1.last().unwrap(), "9 after 2: AttemptsUsed");
    }

    /// Proves C9.12, C9.15.
    #[tokio::test(start_paused = true)]
    async fn a_host_computes_pauses_and_an_error_says_itself_whether_it_is_tried_again() {
        let clock = Clock::start();
        let guarded = Guarded::new(clock).retry(policy(9));
        let mut begun = Vec::new();
        let failed = guarded
            .calling("o", clock.now() + secs(600))
            .delay(|attempt, _: &Result<(), Duration>| (attempt == 2).then_some(secs(7)))
            .run(
                |error| match error {
                    Ok(()) => Judged::of(FailureClass::Semantic),
                    Err(told) => Judged::of(FailureClass::Overloaded).retry_after(*told),
                },
                async |attempt| -> Result<(), Result<(), Duration>> {
                    begun.push(clock.now().elapsed().as_millis());
                    match attempt {
                        // The other side's word is before the function's, and that before the back-off.
                        1 => Err(Err(secs(3))),
                        2 => Err(Err(secs(4))),
                        _ => Err(Ok(())),
                    }
                },
            )
            .await;
        assert!(matches!(failed, Err(GuardedError::Failed { error: Ok(()), attempts: 3, .. })));
        assert_eq!(begun, [0, 3_000, 7_000]);
        let mut begun = Vec::new();
        let call = guarded.calling("o", clock.now() + secs(600));
        let call = call.delay(|attempt, _| (attempt == 2).then_some(secs(7)));
        let since = clock.now();
        let well = call.run(transient, async |attempt| {
            begun.push(clock.now().since(since).as_millis());
            if attempt < 4 { Err(500) } else { Ok(()) }
        });
        well.await.unwrap();
        assert_eq!(begun, [0, 500, 7_500, 9_500]);
    }

    /// Proves C9.5.
    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_error_when_that_was_asked_for_and_else_goes_on_and_leaves_nothing_held()
    {
        let Layers { clock, permits, guarded, breakers, .. } = layers();
        let far = clock.now() + secs(60);
        let panics = async |attempt: u32| -> Result<(), u32> { panic!("a bug in {attempt}") };
        let contained =
            guarded.calling("o", far).costs(&[1]).contained().run(transient, panics).await;
        let Err(GuardedError::Panicked { reason, attempts: 1 }) = contained else { panic!() };
        assert!(reason.to_string().contains("a bug in 1"));
        let passed_on = guarded.calling("o", far).costs(&[1]).run(transient, panics);
        assert!(contain(passed_on).await.is_err());
        assert_eq!(permits.status().out, 0);
        // Both are failures: two of them trip it.
        assert!(matches!(breakers.permit("b"), Err(BreakerError::Open { .. })));
    }

    /// Proves C9.10.
    #[tokio::test(start_paused = true)]
    async fn a_long_call_goes_on_while_it_gets_on() {
        let clock = Clock::start();
        let guarded =
            Guarded::new(clock).retry(Retry::from(policy(100)).progress_within(secs(100)));
        let progress = Progress::new(clock);
        let failed = guarded
            .calling("o", clock.now() + secs(10_000))
            .progress(&progress)
            .run(transient, async |attempt| {
                if attempt <= 20 {
                    progress.record();
                }
                Err::<(), u32>(attempt)
            })
            .await;
        let Err(GuardedError::Failed { attempts, .. }) = failed else { panic!() };
        // 30 s apart since long: three more fit into 100 s.
        assert_eq!(attempts, 23);
    }

    /// A burst of calls through one guard.
    ///
    /// Proves C9.17.
    #[tokio::test(start_paused = true)]
    async fn a_pause_of_an_answer_holds_for_all_and_a_refused_post_is_tried_again() {
        let Layers { clock, limiter, guarded, .. } = layers();
        let headers = RetryHeaders { retry_after: Some("7"), ..RetryHeaders::default() };
        let judge = |status: &u16| Judged::of_http(*status, "POST", false, &headers, None);
        let far = clock.now() + secs(500);
        let well = guarded.call("o", &[1], far, judge, async |attempt| match attempt {
            1 => Err(429),
            _ => Ok(clock.now()),
        });
        assert_eq!(well.await.unwrap(), Uptime::new(secs(7)));
        let once = guarded.call("o", &[1], far, judge, async |_| Err::<(), u16>(503)).await;
        assert!(matches!(once, Err(GuardedError::Failed { error: 503, attempts: 1, .. })));
        assert_eq!(limiter.stats().denials, 0);
        assert_eq!(Judged::of_http(503, "POST", false, &headers, None).outcome, Outcome::Failure);
    }
}
