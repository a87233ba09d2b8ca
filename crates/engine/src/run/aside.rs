//! What is asked of a run that has no actor yet: it waits for a free place, and that is no reason
//! not to cancel or pause it.
//!
//! Whoever calls this makes sure that the run gets no actor meanwhile.

use std::sync::Arc;

use perennial_core::run::{JobKey, Priority, RunId};
use perennial_store::{Leases, NewEvent, StageLimit, StoreError};

use super::{
    actor::Shell,
    machine::{AskedBy, Fact, StopCause},
};
use crate::{Action, Services, Workflow};

/// Attempts that are given back with a cancel, at most: more of one run are under way on no node.
const RESCUED_MAX: u32 = 10_000;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Cancel,
    Pause,
    Unpause,
    Skip { job: JobKey, why: String },
    Limit(StageLimit),
    Priority(Priority),
}

impl Request {
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::Cancel => Action::Cancel,
            Self::Pause => Action::Pause,
            Self::Unpause => Action::Unpause,
            Self::Skip { .. } => Action::Skip,
            Self::Limit(_) => Action::SetConcurrency,
            Self::Priority(_) => Action::SetPriority,
        }
    }

    pub(super) fn fact(&self) -> Fact {
        match self {
            Self::Cancel => Fact::Stop(StopCause::Cancel),
            Self::Pause => Fact::Pause,
            Self::Unpause => Fact::Unpause,
            Self::Skip { job, why } => Fact::Skip { job: job.clone(), why: why.clone() },
            Self::Limit(limit) => Fact::Limit(limit.clone()),
            Self::Priority(priority) => Fact::Priority(*priority),
        }
    }
}

/// What is asked, and on whose behalf.
#[derive(Clone, Debug)]
pub(crate) struct Requested {
    pub(crate) request: Request,
    /// Nothing for the host itself.
    pub(crate) by: Option<String>,
}

impl Requested {
    /// Who asked, where that is not the host itself, as the event before what follows.
    pub(super) fn event(&self) -> Option<NewEvent> {
        let by = self.by.clone()?;
        Some(AskedBy { action: self.request.action(), by }.event(&self.request.fact()))
    }
}

/// Decides and commits; answers whether that changed anything. A run that is cancelled this way has
/// nothing under way, and is closed.
///
/// # Errors
///
/// When the store is away.
pub(crate) async fn settle(
    services: &Services,
    run: &RunId,
    workflow: &Arc<dyn Workflow>,
    requested: &Requested,
) -> Result<bool, StoreError> {
    let shell = Shell::of(services, run, workflow);
    let mut machine = shell.reload().await?;
    let ends = matches!(requested.request, Request::Cancel);
    let changed = shell.meet(&mut machine, requested).await?.is_some();
    if ends {
        // What died with its process is not under way any more. Where one process has the store at a time, that an
        // earlier one is dead is known once a node of this one is registered.
        if machine.leased().next().is_some() && services.membership.leases() == Leases::Proven {
            services.node().await?;
        }
        if !services.store.rescue(Some(run), RESCUED_MAX).await?.is_empty() {
            machine = shell.reload().await?;
        }
        while shell.try_commit(&mut machine, &Fact::Look).await?.is_some() {}
    }
    Ok(changed)
}

/// Gives back what this node still holds of a run that nobody works on; what cannot be given back now stays with
/// whoever resumes the run.
pub(crate) async fn give_back(services: &Services, run: &RunId, workflow: &Arc<dyn Workflow>) {
    let shell = Shell::of(services, run, workflow);
    if let Err(error) = shell.give_back().await {
        tracing::warn!(%run, %error, "what was under way is not given back yet");
    }
}
