//! What guards calls to services: of each instance a breaker, how often it is called, and how many call it at a time.
//!
//! One implementation, that of `perennial_tools::protection`; here is what is kept of it beyond the process: until when an
//! open breaker is open, in the row of its instance, at each transition and never for a call (SM-61).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{
    Timestamp, Uptime,
    failure::Failure,
    service::{Epoch, ServiceKey},
};
use perennial_store::Store;
use perennial_supervision::Clock;
use perennial_tools::protection::{
    BreakerError, BreakerId, BreakerPermit, BreakerStatus, Breakers, Limiter, LimiterError,
    Outcome, Permit, PermitError, Reservation, State, Transition,
    permits::{KeyedPermits, TooManyKeys},
};
use serde_json::{Value, json};

use super::{Scope, acts::present, spec::Declared};

/// Keys of a service whose calls are counted at a time.
const KEYS_MAX: usize = 10_000;

/// Whether a failed call speaks against the service.
pub(super) type IsFault = fn(&Failure) -> bool;

/// What is remembered of an open breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) until: Timestamp,
    pub(super) why: String,
}

/// Cheap to clone; clones are the same.
#[derive(Clone)]
pub(super) struct Calls(Arc<Inner>);

struct Inner {
    clock: Clock,
    breakers: Breakers,
    services: HashMap<String, Limits>,
    opened: Arc<Mutex<BTreeMap<ServiceKey, Opened>>>,
}

#[derive(Clone)]
struct Limits {
    is_fault: IsFault,
    limiter: Option<Limiter>,
    at_a_time: Option<KeyedPermits>,
}

/// Why a call may not be made now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("its breaker is open")]
    Open { retry_at: Uptime },
    #[error("its breaker is half open, and being tried by others")]
    Probing,
    #[error(transparent)]
    Breaker(BreakerError),
    #[error(transparent)]
    Limiter(LimiterError),
    #[error(transparent)]
    Permit(PermitError),
    #[error(transparent)]
    TooManyKeys(TooManyKeys),
}

impl Refused {
    fn by_breaker(error: BreakerError) -> Self {
        if let BreakerError::Open { retry_at, .. } = error {
            Self::Open { retry_at }
        } else if matches!(error, BreakerError::Probing { .. }) {
            Self::Probing
        } else {
            Self::Breaker(error)
        }
    }
}

/// What a call holds.
pub(super) struct Guards {
    /// The first to be given back.
    permit: Option<Permit>,
    reservation: Option<Reservation>,
    breaker: Option<BreakerPermit>,
    is_fault: IsFault,
}

impl Guards {
    /// What came of the call; nothing is counted unless `counts`.
    pub(super) fn settle(mut self, failed: Option<&Failure>, counts: bool) {
        let outcome = match failed {
            _ if !counts => Outcome::Ignore,
            None => Outcome::Success,
            Some(failure) if (self.is_fault)(failure) => Outcome::Failure,
            Some(_) => Outcome::Ignore,
        };
        drop((self.permit.take(), self.reservation.take()));
        if let Some(breaker) = self.breaker.take() {
            breaker.settle(outcome);
        }
    }
}

fn id(key: &ServiceKey) -> BreakerId {
    BreakerId::from((key.service(), key.instance().unwrap_or_default()))
}

impl Calls {
    /// `changed` is told of each transition, and must not wait.
    pub(super) fn new(
        declared: &HashMap<String, Arc<Declared>>,
        clock: Clock,
        store: Arc<dyn Store>,
        changed: impl Fn(&ServiceKey) + Send + Sync + 'static,
    ) -> Self {
        let opened = Arc::<Mutex<BTreeMap<ServiceKey, Opened>>>::default();
        let scopes: HashMap<String, Scope> =
            declared.iter().map(|(name, its)| (name.clone(), its.scope)).collect();
        let noted = opened.clone();
        let breakers = Breakers::telling(clock, move |id: &BreakerId, transition: &Transition| {
            let key = match (scopes.get(id.name()), id.key()) {
                (Some(Scope::PerRun | Scope::Keyed), Some(key)) => {
                    ServiceKey::keyed(id.name(), key)
                }
                (_, _) => ServiceKey::shared(id.name()),
            };
            {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                match transition.to {
                    State::Open { until } => {
                        let until = store.now().after(until.since(clock.now()));
                        let why = format!("{:?}", transition.cause);
                        noted.insert(key.clone(), Opened { until, why });
                    }
                    State::Closed | State::HalfOpen => drop(noted.remove(&key)),
                }
            }
            changed(&key);
        });
        let services = declared.iter().map(|(name, its)| {
            // What is declared was checked.
            drop(breakers.declare_family(name, its.breaker));
            let limiter = its.rate.clone().and_then(|rate| Limiter::new(rate, clock).ok());
            let at_a_time = its.calls_max.and_then(|most| {
                KeyedPermits::new(format!("calls of {name}"), most, KEYS_MAX, clock).ok()
            });
            (name.clone(), Limits { is_fault: its.is_fault, limiter, at_a_time })
        });
        let services = services.collect();
        Self(Arc::new(Inner { clock, breakers, services, opened }))
    }

    /// An instance whose row says that its breaker is open until then: it is, unless this process knows better.
    pub(super) fn restore(&self, key: &ServiceKey, until: Timestamp, why: &str, now: Timestamp) {
        let left = until.since(now);
        if left.is_zero() {
            return;
        }
        let until_here = self.0.clock.now() + left;
        if self.0.breakers.restore(id(key), until_here).unwrap_or(false) {
            let mut opened = self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.insert(key.clone(), Opened { until, why: why.to_owned() });
        }
    }

    /// Until when its breaker is open, and why; nothing when it is not.
    pub(super) fn opened(&self, key: &ServiceKey) -> Option<Opened> {
        self.0.opened.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// How its breaker is. A lock is held for a decision only, never by a caller (SM-62).
    pub(super) fn status(&self, key: &ServiceKey) -> Option<BreakerStatus> {
        self.0.breakers.status(id(key)).ok()
    }

    pub(super) fn reset(&self, key: &ServiceKey) {
        // One that is not declared has none.
        drop(self.0.breakers.reset(id(key)));
    }

    /// Passes all guards, the breaker first; nothing is taken when one of them refuses.
    pub(super) async fn enter(
        &self,
        key: &ServiceKey,
        owner: &str,
        within: Duration,
    ) -> Result<Guards, Refused> {
        let deadline = self.0.clock.now() + within;
        let limits = self.0.services.get(key.service());
        let own = key.instance().unwrap_or_default();
        loop {
            let breaker = self.0.breakers.permit(id(key)).map_err(Refused::by_breaker)?;
            let limiter = limits.and_then(|limits| limits.limiter.as_ref());
            let reservation = match limiter {
                Some(limiter) => {
                    let reserving = limiter.reserve_until_ready(own, &[1], deadline);
                    Some(reserving.await.map_err(Refused::Limiter)?)
                }
                None => None,
            };
            let at_a_time = limits.and_then(|limits| limits.at_a_time.as_ref());
            let permit = match at_a_time {
                Some(permits) => {
                    let permits = permits.of(own).map_err(Refused::TooManyKeys)?;
                    Some(permits.acquire(1, owner, deadline).await.map_err(Refused::Permit)?)
                }
                None => None,
            };
            // It may have tripped while this waited; then all is given back.
            if breaker.is_current() {
                let mut reservation = reservation;
                if let Some(reservation) = &mut reservation {
                    reservation.sent();
                }
                let is_fault = limits.map_or(Declared::is_fault as IsFault, |its| its.is_fault);
                return Ok(Guards { permit, reservation, breaker: Some(breaker), is_fault });
            }
        }
    }

    /// What the tree shows: told at once, whoever calls.
    pub(super) fn shown(&self, key: &ServiceKey) -> Value {
        let Some(status) = self.status(key) else { return Value::Null };
        let now = self.0.clock.now();
        let mut shown = json!({
            "state": status.state.to_string(),
            "epoch": status.epoch,
            "failures": status.consecutive_failures,
            "trips_at": status.config.failures_max,
            "probes_out": status.probes_out,
        });
        if let State::Open { until } = status.state {
            let left = until.since(now).as_millis();
            shown["open_for_ms"] = json!(u64::try_from(left).unwrap_or(u64::MAX));
        }
        if let Some(opened) = self.opened(key) {
            shown["why"] = json!(opened.why);
        }
        shown
    }

    /// The limits in force, and how much of them is taken.
    pub(super) fn limits(&self, key: &ServiceKey) -> Value {
        let Some(limits) = self.0.services.get(key.service()) else { return Value::Null };
        let own = key.instance().unwrap_or_default();
        let at_a_time = limits.at_a_time.as_ref().and_then(|permits| permits.of(own).ok());
        let at_a_time = at_a_time.map(|permits| {
            let status = permits.status();
            json!({ "out": status.out, "most": status.total })
        });
        let rate = limits.limiter.as_ref().map(|limiter| {
            let status = limiter.status(own);
            let left: Vec<u64> = status.iter().map(|limit| limit.remaining).collect();
            json!({ "left": left, "waiting": limiter.waiting() })
        });
        present(json!({ "calls": at_a_time, "rate": rate }))
    }
}

/// The right to make one call to an instance: its breaker lets it, its limits have room, and it is held meanwhile. Consume
/// it with what came of the call. Dropped, the call was abandoned and says nothing; dropped by a panic, it has failed. In
/// both cases, and when the attempt is killed, all that it stands for is given back.
///
/// ```
/// use perennial::engine::{AttemptCx, Outcome};
/// use perennial::records::Failure;
/// use perennial::service::ServiceKey;
///
/// # async fn ask(_: &str) -> Result<u32, Failure> { Ok(7) }
/// async fn attempt(cx: AttemptCx) -> Outcome {
///     let permit = match cx.permit(&ServiceKey::shared("analyzer")).await {
///         Ok(permit) => permit,
///         Err(unavailable) => return Outcome::Unavailable(unavailable), // none of the job's attempts is used
///     };
///     let found = ask(permit.endpoint().unwrap_or_default()).await;
///     permit.settle(found.as_ref().err());
///     match found {
///         Ok(found) => Outcome::Succeeded(found.into()),
///         Err(failure) => Outcome::Failed(failure),
///     }
/// }
/// ```
#[must_use = "a dropped permit is an abandoned call"]
pub struct ServicePermit {
    pub(super) key: ServiceKey,
    pub(super) epoch: Epoch,
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) guards: Guards,
    pub(super) external: super::External,
}

impl ServicePermit {
    /// Which instance.
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// Which life of it was ready.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where that is reached, if it has an address.
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// What came of the call: that it went well, or how it failed. What of failures speaks against the service says
    /// [`ServiceSpec::count_only`](super::ServiceSpec::count_only). A call to a life that is over says nothing (SM-51).
    pub fn settle(self, failed: Option<&Failure>) {
        let is_current = self.external.epoch(&self.key) == Some(self.epoch);
        self.guards.settle(failed, is_current);
    }
}

impl std::fmt::Debug for ServicePermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServicePermit")
            .field("key", &self.key)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
