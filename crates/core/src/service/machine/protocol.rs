//! What a machine is told and what it answers with.

use std::{sync::Arc, time::Duration};

use crate::{
    Uptime,
    service::{Epoch, Health, Holder, ServiceEvent, ServiceState, Verdict},
};

/// Who asked, to be answered once. The shell makes up the numbers.
pub type Asker = u64;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceInput {
    /// `holder` needs the instance, since `needed`. It holds it from now on, and `asker` is answered.
    Acquire {
        /// Who holds it; a second time changes nothing.
        holder: Holder,
        /// Who is answered.
        asker: Asker,
        /// Since when.
        needed: Uptime,
    },
    /// Whether somebody who needs it since `needed` is admitted.
    Ask {
        /// Who is answered.
        asker: Asker,
        /// Since when.
        needed: Uptime,
    },
    /// A hold ended, in whatever way.
    Release {
        /// Whose.
        holder: Holder,
    },
    /// The driver has started it.
    Launched {
        /// The life it was started for.
        epoch: Epoch,
    },
    /// The driver could not start it.
    LaunchFailed {
        /// The life it was to be started for.
        epoch: Epoch,
        /// The driver's reason.
        why: Arc<str>,
        /// Whether another try can only fail as well.
        permanent: bool,
    },
    /// It has ended by itself.
    Exited {
        /// Which life.
        epoch: Epoch,
        /// How.
        why: Arc<str>,
    },
    /// A probe ended, or its task did.
    Probed {
        /// The life that was probed.
        epoch: Epoch,
        /// Which probe.
        probe: u64,
        /// What it found.
        verdict: Verdict,
    },
    /// What waited in front of the drain has been handled: nobody came in between.
    DrainConfirmed {
        /// The life that drains.
        epoch: Epoch,
    },
    /// It was looked for what is left of a life whose shell was lost; [`Verdict::Gone`] when nothing is.
    Found {
        /// Which life.
        epoch: Epoch,
        /// What it shows.
        verdict: Verdict,
    },
    /// The driver has stopped it, removed what was left, or failed to.
    Cleaned {
        /// Which life.
        epoch: Epoch,
        /// Why not.
        failed: Option<Arc<str>>,
    },
    /// The instant of [`wake_at`](super::ServiceMachine::wake_at) has come.
    Due,
    /// The runtime ends: it is stopped, held or not, and not started any more.
    Shutdown,
}

/// How an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// It is asked, and ended when it does not follow.
    Graceful,
    /// It is ended.
    Kill,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAction {
    /// Let the driver start it, after it has adopted or removed what is left of earlier lives.
    Start {
        /// The new life.
        epoch: Epoch,
        /// How long it may take, readiness included.
        within: Duration,
    },
    /// Find again what is left of a life whose shell was lost, and look whether it serves (DUR-83).
    Find {
        /// Which life.
        epoch: Epoch,
    },
    /// Look whether it serves.
    Probe {
        /// The life to probe.
        epoch: Epoch,
        /// To be reported with the verdict.
        probe: u64,
    },
    /// Report [`ServiceInput::DrainConfirmed`] behind everything that waits already.
    ConfirmDrain {
        /// The life that drains.
        epoch: Epoch,
    },
    /// Let the driver stop it. The first of a life comes only when nobody holds it, or at a shutdown (INV-24).
    Stop {
        /// Which life.
        epoch: Epoch,
        /// How.
        mode: StopMode,
    },
    /// Give up the start or the probe that is under way, and let the driver remove what is left of a crashed life.
    Remove {
        /// Which life.
        epoch: Epoch,
    },
    /// Tell an asker.
    Answer {
        /// Whom.
        asker: Asker,
        /// What.
        admission: Admission,
    },
}

/// Whether somebody may use the instance now.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes, this life of it.
    Ready {
        /// Which life.
        epoch: Epoch,
    },
    /// No, and no attempt is used for it.
    NotReady {
        /// The state it is in.
        state: ServiceState,
        /// When it is worth asking again; none when an operator must act first.
        retry_at: Option<Uptime>,
        /// Why.
        why: Arc<str>,
    },
}

/// What follows.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// To be performed in their order.
    pub actions: Vec<ServiceAction>,
    /// To be told in their order.
    pub events: Vec<ServiceEvent>,
}

/// Only what has failed for good is started by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is {from}, not failed: it is started by whoever holds it")]
pub struct NotFailed {
    /// The state it is in.
    pub from: ServiceState,
}

/// What there is to see of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Its state.
    pub state: ServiceState,
    /// Its life.
    pub epoch: Epoch,
    /// How many hold it.
    pub holds: usize,
    /// What the last probe found, of whatever life.
    pub health: Option<Health>,
    /// Why it does not serve, or what went wrong last.
    pub why: Option<Arc<str>>,
    /// Crashes and failed starts inside the window of the budget.
    pub restarts: u32,
}

impl Steps {
    pub(super) fn answer(&mut self, asker: Asker, admission: Admission) {
        self.actions.push(ServiceAction::Answer { asker, admission });
    }
}
