//! What may happen to a run, who asked for it, and what is known when it is decided on.

use perennial_core::{
    Timestamp,
    run::{JobKey, JobState, Priority, RunState},
};
use perennial_store::{Admissions, Lease, NewEvent, NodeRef, StageLimit};
use serde_json::json;

use crate::{Action, EngineSettings, external::Offered, workflow::Outcome};

/// What may happen to a run.
#[derive(Clone, Debug)]
pub(in crate::run) enum Fact {
    /// Nothing new: do what is due.
    Look,
    /// An attempt ended.
    Ended { lease: Lease, how: Box<Ending> },
    /// The run must end.
    Stop(StopCause),
    /// Nothing more of it may start (SM-10).
    Pause,
    /// It goes on where it stands.
    Unpause,
    /// A job of it shall not be made.
    Skip { job: JobKey, why: String },
    /// A stage gets another number of places.
    Limit(StageLimit),
    /// The run comes sooner, or later, than before.
    Priority(Priority),
}

impl Fact {
    /// Whether somebody, or the run's deadline, asks for it.
    pub(super) fn is_asked(&self) -> bool {
        match self {
            Self::Look | Self::Ended { .. } => false,
            Self::Stop(_)
            | Self::Pause
            | Self::Unpause
            | Self::Skip { .. }
            | Self::Limit(_)
            | Self::Priority(_) => true,
        }
    }

    /// What a run would become by it, or would have done to it.
    pub(in crate::run) fn wants(&self) -> &'static str {
        match self {
            Self::Look | Self::Ended { .. } => "as it is",
            Self::Stop(_) => RunState::Cancelling.name(),
            Self::Pause => RunState::Paused.name(),
            Self::Unpause => RunState::Running.name(),
            Self::Skip { .. } => "with a skipped step",
            Self::Limit(_) => "with other places",
            Self::Priority(_) => "another priority",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(in crate::run) enum Ending {
    /// As its own code says.
    Reported(Reported),
    /// Its task panicked: a bug of its code.
    Panicked(String),
    /// It was stopped because the run is ending.
    Cancelled,
    /// It died with its process, and has no attempt left.
    Lost,
}

/// What the code of an attempt says of its end.
#[derive(Clone, Debug)]
pub(crate) struct Reported {
    pub(in crate::run) outcome: Outcome,
    pub(in crate::run) warnings: Vec<String>,
}

impl From<Outcome> for Reported {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, warnings: Vec::new() }
    }
}

/// Why a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum StopCause {
    /// Somebody asked.
    Cancel,
    /// Its time is up.
    Deadline,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Unchanged {
    /// The state makes it meaningless; nothing is written.
    Already,
    /// The run has no such job.
    NoJob,
    /// The run has no such stage of a plan.
    NoStage,
    /// The job has ended.
    Ended(JobState),
    /// It undoes what it has done, and ends by itself.
    Undoes,
}

/// The circumstances of a decision.
#[derive(Clone, Debug)]
pub(in crate::run) struct Circumstances {
    pub(in crate::run) now: Timestamp,
    /// In `0.0..1.0`, for pauses.
    pub(in crate::run) jitter: f64,
    /// Lease new jobs for this node at once; nothing is leased while draining.
    pub(in crate::run) claim_for: Option<NodeRef>,
    pub(in crate::run) settings: EngineSettings,
    pub(in crate::run) services: ServicesNow,
    /// Who asked for it, where that was a principal.
    pub(in crate::run) asked: Option<AskedBy>,
}

/// Who asked for what, which is recorded with what follows.
#[derive(Clone, Debug)]
pub(in crate::run) struct AskedBy {
    pub(in crate::run) action: Action,
    pub(in crate::run) by: String,
}

/// What is known of the services that jobs use.
#[derive(Clone, Debug, Default)]
pub(in crate::run) struct ServicesNow {
    /// What may be declared.
    pub(in crate::run) offered: Offered,
    /// Whom those admit that jobs of the run wait for.
    pub(in crate::run) admissions: Admissions,
}

impl AskedBy {
    /// Who asked, as the event before what follows.
    pub(in crate::run) fn event(&self, fact: &Fact) -> NewEvent {
        let mut data = json!({ "request": self.action.name(), "by": self.by });
        let job = match fact {
            Fact::Skip { job, why } => {
                data["why"] = json!(why);
                Some(job.clone())
            }
            Fact::Limit(StageLimit { stage, most }) => {
                (data["stage"], data["most"]) = (json!(stage), json!(most));
                None
            }
            Fact::Priority(priority) => {
                data["priority"] = json!(priority);
                None
            }
            Fact::Look | Fact::Ended { .. } | Fact::Stop(_) | Fact::Pause | Fact::Unpause => None,
        };
        NewEvent { kind: "requested".to_owned(), job, attempt: None, data }
    }
}
