//! What an attempt holds of the outside: an instance of a service, started or adopted for it.

use std::{fmt, time::Duration};

use perennial_core::service::{Epoch, ServiceKey, ServiceState};
use perennial_store::{HoldOf, Lease};

use super::{AttemptCx, Unavailable};
use crate::{
    Services,
    external::{Admitted, Hold, NotReady, ServiceError, ServicePermit},
};

/// How soon an instance that is being started is asked again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long a call waits for room (DUR-40).
const PERMIT_WITHIN: Duration = Duration::from_secs(5 * 60);

/// For whom an attempt holds services.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) engine: Services,
    pub(crate) lease: Lease,
    /// It is one of several: it may be missing.
    pub(crate) is_child: bool,
}

/// An instance of a service that an attempt holds: it is not stopped as long as this is there. Dropping it gives it
/// back, and so does any end of the attempt.
///
/// ```
/// use perennial::engine::{AttemptCx, Outcome};
/// use perennial::service::ServiceKey;
///
/// async fn attempt(cx: AttemptCx) -> Outcome {
///     let analyzer = match cx.hold(&ServiceKey::shared("analyzer")).await {
///         Ok(analyzer) => analyzer,
///         Err(unavailable) => return Outcome::Unavailable(unavailable), // none of the job's attempts is used
///     };
///     let address = analyzer.endpoint().unwrap_or_default(); // from nowhere else
///     Outcome::Succeeded(format!("asked {address}, life {}", analyzer.epoch()).into())
/// }
/// ```
pub struct HeldService {
    hold: Hold,
    admitted: Admitted,
}

impl HeldService {
    /// Which instance.
    pub fn key(&self) -> &ServiceKey {
        self.hold.key()
    }

    /// Where it is reached, if it has an address.
    pub fn endpoint(&self) -> Option<&str> {
        self.admitted.endpoint.as_deref()
    }

    /// Which life of it was ready.
    pub fn epoch(&self) -> Epoch {
        self.admitted.epoch
    }

    /// Whether it may be used now: the life that does may be a later one, at another address.
    ///
    /// # Errors
    ///
    /// [`NotReady`]: it has crashed, for example, and is being started again.
    pub async fn admitted(&self) -> Result<Admitted, NotReady> {
        self.hold.admitted().await
    }
}

impl fmt::Debug for HeldService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldService")
            .field("key", self.key())
            .field("epoch", &self.epoch())
            .finish()
    }
}

impl AttemptCx {
    /// The same attempt, which may hold services.
    pub(crate) fn with_holding(mut self, holding: Holding) -> Self {
        self.holding = Some(holding);
        self
    }

    /// Holds the instance `key` for this attempt, and waits while it is being started: it is one that runs already, or
    /// is started now. The hold is recorded before that; the same attempt holds an instance once, and its next attempt
    /// finds what runs.
    ///
    /// See [`HeldService`] for an example.
    ///
    /// # Errors
    ///
    /// What the attempt can return as [`Outcome::Unavailable`](crate::Outcome::Unavailable): it does not serve, as many
    /// instances of it are there as may be, or its host has no such service. What only an operator or another
    /// version of the host can change is waited for no longer.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped holds nothing.
    pub async fn hold(&self, key: &ServiceKey) -> Result<HeldService, Unavailable> {
        let missing = |why: &dyn fmt::Display| Unavailable::new(format!("service {key}: {why}"));
        let Some(Holding { engine, lease, .. }) = &self.holding else {
            return Err(missing(&"this attempt can hold none").at_most(Duration::ZERO));
        };
        let Some(external) = engine.external() else {
            return Err(missing(&"the runtime ends"));
        };
        let within = external.ready_within(key);
        let held = external.hold_of(key, HoldOf::Attempt(lease.clone())).await;
        let hold = held.map_err(|error| match &error {
            ServiceError::Unknown { .. } | ServiceError::Scope { .. } => {
                missing(&error).at_most(Duration::ZERO)
            }
            ServiceError::InstancesFull { .. }
            | ServiceError::NotFailed(_)
            | ServiceError::NotStarted(_)
            | ServiceError::Away(_)
            | ServiceError::NotKept(_) => missing(&error),
        })?;
        let mut events = external.events();
        let until = engine.clock.now() + within;
        let mut answer = hold.at_first().cloned().map_err(Clone::clone);
        loop {
            let refused = match answer {
                Ok(admitted) => return Ok(HeldService { hold, admitted }),
                Err(refused) => refused,
            };
            let now = engine.clock.now();
            if refused.state != ServiceState::Starting || now >= until {
                return Err(unavailable(engine, key, &refused));
            }
            // Waiting for it is no silence.
            self.pulse.beat();
            // Its next transition, or a moment: who asks too early is told so.
            let _ = tokio::time::timeout(ASK_EVERY, events.recv()).await;
            answer = hold.admitted().await;
        }
    }
}

impl AttemptCx {
    /// The right to make one call to the instance `key`, which this job declares or this attempt holds: its breaker lets it,
    /// and its limits have room, for which it is waited for up to 5 min.
    ///
    /// See [`ServicePermit`] for an example.
    ///
    /// # Errors
    ///
    /// What the attempt can return as [`Outcome::Unavailable`](crate::Outcome::Unavailable), with the instant until which
    /// its breaker is open: none of the job's attempts is used. A child of a group then ends as its service says
    /// ([`OnUnavailable::then`](crate::external::OnUnavailable::then)), any other job fails.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has taken nothing.
    pub async fn permit(&self, key: &ServiceKey) -> Result<ServicePermit, Unavailable> {
        let missing = |why: &str| Unavailable::new(format!("service {key}: {why}"));
        let Some(Holding { engine, lease, is_child }) = &self.holding else {
            return Err(missing("this attempt can call none").at_most(Duration::ZERO));
        };
        let Some(external) = engine.external() else { return Err(missing("the runtime ends")) };
        // Waiting for room is no silence.
        self.pulse.beat();
        let permit = external.permit(key, lease.key.as_str(), PERMIT_WITHIN).await;
        self.pulse.beat();
        // Only what is one of several may be missing.
        permit.map_err(
            |missing| if *is_child { missing.then(external.after_wait(key)) } else { missing },
        )
    }
}

fn unavailable(engine: &Services, key: &ServiceKey, refused: &NotReady) -> Unavailable {
    let missing = Unavailable::new(format!("service {key}: {refused}"));
    match (refused.retry_at, refused.state) {
        (_, ServiceState::Failed) => missing.at_most(Duration::ZERO),
        (Some(at), _) => {
            let left = at.since(engine.clock.now());
            missing.retry_at(engine.store.now().after(left))
        }
        (None, _) => missing,
    }
}
