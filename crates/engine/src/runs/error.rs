//! Why a run was not started, continued or read.

use perennial_core::run::{InvalidRunId, RunId, RunState};
use perennial_store::{RunRecord, StoreError};
use perennial_supervision::CallError;

use crate::{
    DrainReport, NotAuthorised, NotRunnable, RunFate, staged::PlanProblems,
    workflow::InvertedTimeouts,
};

/// Why a run was not started, continued or read.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{RunId, Runtime, Store, StoreError, records::RunError};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let unknown = runtime.runs().get(&RunId::parse("nobody")?).await;
/// assert!(matches!(unknown, Err(RunError::Store(StoreError::NotFound { what: "run", .. }))));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store refused or is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine did not answer.
    #[error("the engine did not answer")]
    Engine(#[from] CallError),
    /// The text cannot name a run.
    #[error(transparent)]
    InvalidRunId(#[from] InvalidRunId),
    /// Whoever asked may not. Nothing was done.
    #[error(transparent)]
    NotAuthorised(#[from] NotAuthorised),
    /// This build cannot continue it.
    #[error(transparent)]
    NotRunnable(#[from] NotRunnable),
    /// It has ended; running the document again is a new run (YR-55).
    #[error("run {run} has ended ({state}); {} [PL904]", instead(*.state, *.undone))]
    Ended {
        /// The run.
        run: RunId,
        /// How it ended.
        state: RunState,
        /// Whether what it had done was undone before, or was to be: then it cannot be opened again, however it ended.
        undone: bool,
    },
    /// Another node runs it.
    #[error("run {run} is being run by node {node}")]
    OwnedElsewhere {
        /// The run.
        run: RunId,
        /// The other node.
        node: String,
    },
    /// This process gave up on it; it is left as it is, for another or the next one.
    #[error("run {run} is parked: {why}")]
    Parked {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
    },
    /// These stages of it have used results that would change.
    #[error("stages of run {run} have used what would be made again: {}; make them again as well, or leave it", .stages.join(", "))]
    WouldInvalidate {
        /// The run.
        run: RunId,
        /// The stages.
        stages: Vec<String>,
    },
    /// What it had done was undone when it did not end well, or could not be: nothing of it can be kept for a further round.
    #[error(
        "what run {run} had done was undone before it ended ({state}): start a new run instead"
    )]
    Undone {
        /// The run.
        run: RunId,
        /// How it ended.
        state: RunState,
    },
    /// A time limit of a job that it begins with lies above the one that it is part of.
    #[error(transparent)]
    InvertedTimeouts(#[from] InvertedTimeouts),
    /// Its plan needs what this host does not have.
    #[error(transparent)]
    PlanRejected(#[from] PlanProblems),
    /// Nothing is started during a shutdown.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// The runtime has shut down: nothing happens to the run here any more, and its store is closed.
    #[error("the runtime has shut down; {}", left(.run, *.fate))]
    ShutDown {
        /// The run.
        run: RunId,
        /// What the shutdown made of it, as far as it is known: a run that had ended before is not in its
        /// report.
        fate: Option<RunFate>,
    },
}

impl RunError {
    /// The run has ended that stands as `record` says.
    pub(crate) fn ended(record: &RunRecord) -> Self {
        let (run, state) = (record.run.clone(), record.state);
        Self::Ended { run, state, undone: was_undone(record) }
    }

    /// The runtime has shut down, with `report`.
    pub(crate) fn shut_down(run: &RunId, report: Option<&DrainReport>) -> Self {
        let fate = report.and_then(|report| report.runs.iter().find(|of| of.run == *run));
        Self::ShutDown { run: run.clone(), fate: fate.map(|of| of.fate) }
    }
}

/// Whether what a run had done was undone, or is to be, before it ends.
fn was_undone(record: &RunRecord) -> bool {
    record.failure.as_ref().is_some_and(|failure| failure.get("compensation").is_some())
}

/// What can be done instead.
fn instead(state: RunState, undone: bool) -> &'static str {
    match (undone, state.may_reopen()) {
        (true, _) => "what it had done was undone: start a new run instead",
        (false, true) => "resume or retry it first",
        (false, false) => "start a new run instead",
    }
}

fn left(run: &RunId, fate: Option<RunFate>) -> String {
    match fate {
        Some(RunFate::Released) => format!("run {run} is unfinished and can be resumed"),
        Some(RunFate::Finished) => format!("run {run} ended during it, as its store tells"),
        Some(RunFate::Unknown) | None => {
            format!("run {run} is as its store tells, and can be resumed unless it has ended")
        }
    }
}
