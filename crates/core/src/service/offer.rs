//! What an instance publishes of itself, so that who asks for admission need not ask it (DUR-15).

use std::{sync::Arc, time::Duration};

use super::{Admission, Epoch, Health, ServiceState, Verdict};
use crate::Uptime;

/// What an instance is to whoever needs it, until it publishes something else.
///
/// ```
/// use std::time::Duration;
/// use perennial_core::{Uptime, service::{Admission, ServiceMachine, ServiceState, ServiceTerms}};
///
/// let (machine, _) = ServiceMachine::new(ServiceTerms::default(), Uptime::ZERO);
/// let offer = machine.offer();
/// assert_eq!(offer.state(), ServiceState::Stopped);
/// let admission = offer.admission(Uptime::ZERO, Uptime::ZERO);
/// assert!(matches!(admission, Some(Admission::NotReady { .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub(super) state: ServiceState,
    pub(super) epoch: Epoch,
    /// Nothing is known of it yet: what is left of its life is being looked for.
    pub(super) is_finding: bool,
    pub(super) admit_degraded: bool,
    pub(super) health_ttl: Duration,
    pub(super) health: Option<Health>,
    /// When it is worth asking again; none when only an operator can change it.
    pub(super) retry_at: Option<Uptime>,
    pub(super) why: Option<Arc<str>>,
}

impl Offer {
    /// Its state.
    pub fn state(&self) -> ServiceState {
        self.state
    }

    /// Its life.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether its state is one in which it may be called: whom it admits is another question.
    pub fn may_serve(&self) -> bool {
        let serves = match self.state {
            ServiceState::Ready => true,
            ServiceState::Degraded => self.admit_degraded,
            ServiceState::Stopped
            | ServiceState::Starting
            | ServiceState::Draining
            | ServiceState::Crashed
            | ServiceState::Failed => false,
        };
        serves && !self.is_finding
    }

    /// Why it does not serve, or what went wrong last.
    pub fn why(&self) -> Option<&Arc<str>> {
        self.why.as_ref()
    }

    /// Whether somebody who needs it since `needed` may use it at `now`; none when a probe must tell first.
    pub fn admission(&self, needed: Uptime, now: Uptime) -> Option<Admission> {
        let ready = match self.state {
            // What it shows is being looked at.
            _ if self.is_finding => return None,
            ServiceState::Ready => true,
            ServiceState::Degraded => false,
            ServiceState::Stopped => return Some(self.refusal(now, "nobody holds it".into())),
            ServiceState::Starting
            | ServiceState::Draining
            | ServiceState::Crashed
            | ServiceState::Failed => {
                let why = self.why.clone().unwrap_or_else(|| self.state.as_str().into());
                return Some(self.refusal(now, why));
            }
        };
        let health = self.health.as_ref()?;
        if !health.counts(now, self.epoch, needed, self.health_ttl) {
            return None;
        }
        let serves = ready && health.verdict == Verdict::Healthy;
        let lives = self.admit_degraded && health.verdict.lives();
        if serves || lives {
            return Some(Admission::Ready { epoch: self.epoch });
        }
        let why = health.verdict.reason().cloned();
        Some(self.refusal(now, why.unwrap_or_else(|| "it has not been healthy for long".into())))
    }

    fn refusal(&self, now: Uptime, why: Arc<str>) -> Admission {
        let retry_at = self.retry_at.map(|at| at.max(now));
        Admission::NotReady { state: self.state, retry_at, why }
    }
}
