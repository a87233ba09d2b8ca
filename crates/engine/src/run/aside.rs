//! What is asked of a run that has no actor yet: it waits for a free place, and that is no reason
//! not to cancel or pause it.
//!
//! Whoever calls this makes sure that the run gets no actor meanwhile.

use std::sync::Arc;

use perennial_core::run::{JobKey, RunId};
use perennial_store::{Leases, StageLimit, StoreError};

use super::{
    actor::Shell,
    machine::{Fact, StopCause},
};
use crate::{Services, Workflow};

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
    request: Request,
) -> Result<bool, StoreError> {
    let shell = Shell::of(services, run, workflow);
    let mut machine = shell.reload().await?;
    let ends = matches!(request, Request::Cancel);
    let fact = match request {
        Request::Cancel => Fact::Stop(StopCause::Cancel),
        Request::Pause => Fact::Pause,
        Request::Unpause => Fact::Unpause,
        Request::Skip { job, why } => Fact::Skip { job, why },
        Request::Limit(limit) => Fact::Limit(limit),
    };
    let changed = shell.try_commit(&mut machine, &fact).await?.is_some();
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
