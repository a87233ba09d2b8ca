//! Runs: durable runs on supervised attempts. The only crate that knows how a decision becomes a
//! durable effect.
//!
//! | room | what it is |
//! |---|---|
//! | [`workflow`] | the seam to what is run: a definition that decides what comes next |
//! | [`staged`] | runs in stages: feeds, groups, failure policies |
//! | [`Runs`] | handle: start, resume, pause, cancel, watch |
//! | `run` | one run: its pure machine, its actor, its attempts |
//! | [`scheduler`] | who owns which run, and what is due |
//! | [`monitor`] | what a run's events say about its performance, for the tree |
//! | [`observer`] | whoever is told of a run's events, to show them elsewhere |
//! | [`performance`] | how a run performed, read from its rows |
//! | [`retention`] | what goes by itself when its time is over |
//! | [`upkeep`] | the care of the store itself |
//! | [`sessions`] | durable conversations |
//! | [`drain`] | the orderly hand-over at a shutdown |
//! | [`external`] | services: external dependencies, kept alive as long as somebody holds them |
//! | [`Authority`] | who may ask what of which run |
//! | `membership` | who this process is on its store, and how sure that is |
//! | `services` | what all of them share |
//! | [`EngineSettings`] | the numbers by which all of them work |
//!
//! # Deviations
//!
//! * 4.3: a job's own deadline ends its attempts, and lets none begin after it; a job that waits while its run is
//!   paused ends with its next attempt, or with its run.
//! * DUR-53: the limits of jobs that a run begins with are refused at its start; those of later ones fail the run.
//! * DUR-4: the summary of a run in stages is computed from its rows by whoever asks, and not kept with the run.
//! * SM-40: a group goes from Ready to Joining: one decision expands it and makes its children, so that there is
//!   no Expanding that a process could die in.
//! * DUR-35: a required stage that stops early stops its run; of an optional one the jobs that go on are cancelled at once,
//!   without a grace.
//! * SM-14: jobs that undo others are made one after the other, each with the end of the one before, and not all at once when
//!   the run begins to undo; a group is undone as a whole, its children are not; a run whose work was undone is not opened again.
//! * DUR-65: a run in stages is opened for a further round once it has ended: what failed in one that goes on waits for its end.
//! * DUR-65: a job that is tried again has a full budget in any case.
//! * DUR-66: what an edge does not give any more in a further round stays as a job that is skipped.

mod authority;
mod beginning;
pub mod drain;
pub mod external;
mod feed;
mod membership;
pub mod monitor;
pub mod observer;
mod parked;
mod patience;
pub mod performance;
mod progress;
mod published;
pub mod retention;
mod rooms;
mod run;
mod runs;
pub mod scheduler;
mod sent;
mod services;
pub mod sessions;
mod settings;
pub mod staged;
pub mod upkeep;
mod waiting;
pub mod workflow;

pub use perennial_core::run::{InvalidPriority, Priority};

pub use authority::{Action, Asked, Authority, Denied, NotAuthorised};
pub use drain::{DrainReport, DrainedAttempts, DrainedRun, RunFate};
pub use feed::{EventFeed, RunEvent, RunWarning, WarningFeed};
pub use run::Explanation;
pub use runs::{
    ImportedRun, RecordedCalls, ReopenRun, RunError, RunHandle, RunOutcome, Runs, StartRun,
};
pub use sent::Sent;
pub use services::{Definitions, NotRunnable, Services, ServicesSpec};
pub use settings::{EngineSettings, SettingError, SettingErrors};
pub use waiting::{LastFailure, WaitsFor, WaitsWhy};
pub use workflow::{
    AfterWait, AttemptCx, CACHE_PREFIX, CallJournal, Definition, DoneJob, FailureMeans,
    HeldService, InvertedTimeouts, JobPlan, Next, NoSlot, Outcome, Replied, Resumed, SlotHold,
    Unavailable, Wait, WaitDefault, WaitEnded, Warnings, Workflow,
};
