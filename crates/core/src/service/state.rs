//! The states of an instance and what may follow what: the table of 4.6.

use std::{fmt, str::FromStr, sync::Arc};

use super::Epoch;

/// What state an instance is in.
///
/// ```
/// use perennial_core::service::ServiceState::{Crashed, Ready, Starting, Stopped};
///
/// assert!(Stopped.may_become(Starting) && !Stopped.may_become(Ready));
/// assert!(Crashed.raises_epoch(Starting) && !Starting.raises_epoch(Ready));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceState {
    /// It does not run and nobody needs it.
    Stopped,
    /// It is being started, or runs and is not ready for the first time.
    Starting,
    /// It serves.
    Ready,
    /// It lives and is not ready.
    Degraded,
    /// It is about to be stopped, or is being stopped.
    Draining,
    /// It has ended, or never came up; it is started again after a pause.
    Crashed,
    /// It crashed too often, or cannot be started; only an operator starts it again.
    Failed,
}

impl ServiceState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Stopped,
        Self::Starting,
        Self::Ready,
        Self::Degraded,
        Self::Draining,
        Self::Crashed,
        Self::Failed,
    ];

    /// Its name in events and in the tree.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
        }
    }

    /// Whether `next` may follow directly. What is not listed is forbidden (SM-1).
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Stopped | Self::Failed => matches!(next, Self::Starting),
            Self::Starting => matches!(next, Self::Ready | Self::Crashed),
            Self::Ready => matches!(next, Self::Degraded | Self::Crashed | Self::Draining),
            Self::Degraded => matches!(next, Self::Ready | Self::Crashed | Self::Draining),
            Self::Crashed => matches!(next, Self::Starting | Self::Failed),
            Self::Draining => matches!(next, Self::Ready | Self::Stopped),
        }
    }

    /// Whether a new life begins, or one is over for good, when `next` follows.
    pub const fn raises_epoch(self, next: Self) -> bool {
        matches!(next, Self::Starting | Self::Stopped) && self.may_become(next)
    }
}

/// A text that is the name of no state.
///
/// ```
/// use perennial_core::service::ServiceState;
///
/// let unknown = "asleep".parse::<ServiceState>().unwrap_err();
/// assert_eq!(unknown.to_string(), "`asleep` is no state of a service");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state of a service")]
pub struct UnknownServiceState(pub String);

impl FromStr for ServiceState {
    type Err = UnknownServiceState;

    fn from_str(text: &str) -> Result<Self, UnknownServiceState> {
        let named = Self::ALL.into_iter().find(|state| state.as_str() == text);
        named.ok_or_else(|| UnknownServiceState(text.to_owned()))
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a transition is announced as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceEventKind {
    /// A start began.
    ServiceStarting,
    /// It serves.
    ServiceUp,
    /// It lives and does not serve.
    ServiceDegraded,
    /// It serves nobody any more: it crashed, is being stopped, or was stopped.
    ServiceDown,
    /// It is given up.
    ServiceFailed,
}

impl ServiceEventKind {
    /// Its wire name.
    ///
    /// ```
    /// use perennial_core::service::ServiceEventKind;
    ///
    /// assert_eq!(ServiceEventKind::ServiceUp.as_str(), "service_up");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceStarting => "service_starting",
            Self::ServiceUp => "service_up",
            Self::ServiceDegraded => "service_degraded",
            Self::ServiceDown => "service_down",
            Self::ServiceFailed => "service_failed",
        }
    }
}

/// One transition: there is one event for each, and none without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEvent {
    /// The state it left.
    pub from: ServiceState,
    /// The state it is in now.
    pub to: ServiceState,
    /// The life that it is about, after the transition.
    pub epoch: Epoch,
    /// Why, where it was no success.
    pub why: Option<Arc<str>>,
}

impl ServiceEvent {
    /// What it is announced as.
    pub const fn kind(&self) -> ServiceEventKind {
        match self.to {
            ServiceState::Starting => ServiceEventKind::ServiceStarting,
            ServiceState::Ready => ServiceEventKind::ServiceUp,
            ServiceState::Degraded => ServiceEventKind::ServiceDegraded,
            ServiceState::Draining | ServiceState::Crashed | ServiceState::Stopped => {
                ServiceEventKind::ServiceDown
            }
            ServiceState::Failed => ServiceEventKind::ServiceFailed,
        }
    }
}
