//! What an instance is at, within its state.

use crate::{
    Uptime,
    service::{ServiceState, Verdict},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Stopped,
    Starting(Launch),
    Ready(Up),
    Degraded(Up),
    Draining(Stopping),
    Crashed(Cleaning),
    Failed,
    /// Its shell was lost, and what is left of it is looked for.
    Finding(Finding),
}

impl Phase {
    pub(super) fn state(&self) -> ServiceState {
        match self {
            Self::Stopped => ServiceState::Stopped,
            Self::Starting(_) => ServiceState::Starting,
            Self::Ready(_) => ServiceState::Ready,
            Self::Degraded(_) => ServiceState::Degraded,
            Self::Draining(_) => ServiceState::Draining,
            Self::Crashed(_) => ServiceState::Crashed,
            Self::Failed => ServiceState::Failed,
            Self::Finding(finding) => finding.was,
        }
    }
}

/// What was lost with a shell, as it was known last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) was: ServiceState,
    pub(super) began: Uptime,
    pub(super) until: Uptime,
}

/// A start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    until: Uptime,
    step: LaunchStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaunchStep {
    /// The driver is at it.
    Launching,
    /// It runs; the next probe is then, unless one is under way.
    Probing { next: Uptime },
    /// It was ready.
    Settling { until: Uptime },
}

impl Launch {
    pub(super) fn until_ready(until: Uptime) -> Self {
        Self { until, step: LaunchStep::Launching }
    }

    /// When it has taken too long, or has settled: one that was ready in time settles for as long as it is told to.
    pub(super) fn until(&self) -> Uptime {
        match self.step {
            LaunchStep::Launching | LaunchStep::Probing { .. } => self.until,
            LaunchStep::Settling { until } => until,
        }
    }

    pub(super) fn is_launching(&self) -> bool {
        self.step == LaunchStep::Launching
    }

    pub(super) fn is_settling(&self) -> bool {
        matches!(self.step, LaunchStep::Settling { .. })
    }

    pub(super) fn launched(&mut self, now: Uptime) {
        self.step = LaunchStep::Probing { next: now };
    }

    pub(super) fn probe_again(&mut self, next: Uptime) {
        self.step = LaunchStep::Probing { next };
    }

    pub(super) fn settle(&mut self, until: Uptime) {
        self.step = LaunchStep::Settling { until };
    }

    pub(super) fn step_due(&self, is_probed: bool) -> Option<Uptime> {
        match self.step {
            LaunchStep::Launching => None,
            LaunchStep::Probing { next } => (!is_probed).then_some(next),
            LaunchStep::Settling { until } => Some(until),
        }
    }
}

/// What is counted while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Up {
    pub(super) next_probe: Uptime,
    /// Since when nobody holds it; none while somebody does, and for one that is always on.
    pub(super) idle_since: Option<Uptime>,
    /// Verdicts in a row that it does not serve.
    pub(super) unhealthy: u32,
    /// Verdicts in a row without a sign of life.
    pub(super) lifeless: u32,
    /// Verdicts in a row that it serves.
    pub(super) healthy: u32,
}

impl Up {
    pub(super) fn new(next_probe: Uptime, idle_since: Option<Uptime>) -> Self {
        Self { next_probe, idle_since, unhealthy: 0, lifeless: 0, healthy: 0 }
    }

    pub(super) fn count(&mut self, verdict: &Verdict) {
        let more = |count: u32, does: bool| if does { count.saturating_add(1) } else { 0 };
        let serves = *verdict == Verdict::Healthy;
        self.healthy = more(self.healthy, serves);
        self.unhealthy = more(self.unhealthy, !serves);
        self.lifeless = more(self.lifeless, !verdict.lives());
    }
}

/// An orderly stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// Whether somebody came in the meantime is asked.
    Asked { until: Uptime },
    /// The driver is at it.
    Issued { until: Uptime },
    /// It failed, and is tried again.
    Again { at: Uptime },
}

impl Stopping {
    pub(super) fn is_under_way(self) -> bool {
        matches!(self, Self::Issued { .. })
    }

    pub(super) fn due(self) -> Uptime {
        match self {
            Self::Asked { until } | Self::Issued { until } | Self::Again { at: until } => until,
        }
    }
}

/// After a crash: first what is left is removed, then there is a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cleaning {
    step: CleaningStep,
    /// It is not started any more.
    pub(super) is_final: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CleaningStep {
    Removing { until: Uptime },
    Resting { until: Uptime },
    Over,
}

impl Cleaning {
    pub(super) fn until(until: Uptime) -> Self {
        Self { step: CleaningStep::Removing { until }, is_final: false }
    }

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.step, CleaningStep::Removing { .. })
    }

    pub(super) fn is_over(&self) -> bool {
        self.step == CleaningStep::Over
    }

    pub(super) fn rest(&mut self, until: Uptime) {
        self.step = CleaningStep::Resting { until };
    }

    pub(super) fn end(&mut self) {
        self.step = CleaningStep::Over;
    }

    pub(super) fn due(&self) -> Option<Uptime> {
        match self.step {
            CleaningStep::Removing { until } | CleaningStep::Resting { until } => Some(until),
            CleaningStep::Over => None,
        }
    }
}
