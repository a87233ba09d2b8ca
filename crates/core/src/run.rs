//! Durable execution: identities and states of runs, stages, jobs and attempts.
//!
//! The tables of allowed transitions as exhaustive functions: what they do not list is
//! forbidden, and the store refuses it a second time.

mod key;
mod number;
mod outcome;
mod path;
mod priority;
mod progress;
mod state;

pub use key::{IdempotencyKey, InvalidRunId, JobKey, RunId};
pub use number::{InvalidNumbers, SequenceName, SlotPool};
pub use outcome::{
    Ends, FailurePolicy, GiveUp, RunCause, StageEnd, Tolerance, run_outcome, run_outcome_of,
    stage_outcome,
};
pub use path::{HANDLER, StepPath};
pub use priority::{InvalidPriority, Priority};
pub use progress::{StageProgress, progress, shown};
pub use state::{
    AttemptEnd, FeedKind, InvalidTransition, JobKind, JobState, RunState, SkipReason, StageOutcome,
    StageState, UnknownState,
};
