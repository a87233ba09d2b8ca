//! What a decision asks of a workflow, whose code is the host's: a panic in it takes nothing along (INV-32).
//!
//! What has happened is recorded in any case, and nothing is decided for the code that failed: what it would have
//! said is asked again once somebody resumes the run (DUR-4).

use std::cell::RefCell;

use futures_util::FutureExt;
use perennial_core::{
    ExitReason, FailureClass,
    failure::Failure,
    run::{JobKey, SkipReason},
};
use perennial_supervision::contain;
use serde_json::{Value, json};

use crate::workflow::{DoneJob, FailureMeans, Next, Workflow};

/// A workflow during one decision.
pub(super) struct Guard<'a> {
    workflow: &'a dyn Workflow,
    panicked: RefCell<Option<Panicked>>,
}

/// A function of a workflow panicked, so that nobody knows how its run goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{which}` of its workflow failed: {reason}")]
pub(super) struct Panicked {
    which: &'static str,
    reason: ExitReason,
}

impl<'a> Guard<'a> {
    pub(super) fn new(workflow: &'a dyn Workflow) -> Self {
        Self { workflow, panicked: RefCell::new(None) }
    }

    /// What keeps the run from going on, if anything does.
    pub(super) fn panicked(self) -> Option<Panicked> {
        self.panicked.into_inner()
    }

    /// Nothing when nobody knows.
    pub(super) fn next(&self, done: &[DoneJob]) -> Option<Next> {
        self.noted(guarded("next", || self.workflow.next(done)))
    }

    /// One that does not say what a failure means lets it fail the run, which can be opened again.
    pub(super) fn on_failure(
        &self,
        job: &JobKey,
        failure: &Failure,
        attempt: u32,
        done: &[DoneJob],
    ) -> (FailureMeans, Option<Failure>) {
        let asked = || self.workflow.on_failure(job, failure, attempt, done);
        match guarded("on_failure", asked) {
            Ok(means) => (means, None),
            Err(panicked) => {
                let text = format!("{} (and {panicked})", failure.message);
                let failure = Failure::new(FailureClass::Panic, "PL615", text);
                let record = json!({ "error": failure.message });
                (FailureMeans::FailRun { record }, Some(failure))
            }
        }
    }

    /// One that has no record for a skip gets the plain one.
    pub(super) fn on_skip(&self, job: &JobKey, reason: SkipReason, why: &str) -> Value {
        let record = guarded("on_skip", || self.workflow.on_skip(job, reason, why));
        self.noted(record).unwrap_or_else(|| json!({ "skipped": reason.name(), "why": why }))
    }

    /// Nothing when nobody knows.
    pub(super) fn is_made_good(&self, job: &DoneJob, done: &[DoneJob]) -> Option<bool> {
        self.noted(guarded("is_made_good", || self.workflow.is_made_good(job, done)))
    }

    fn noted<T>(&self, answer: Result<T, Panicked>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(panicked) => {
                self.panicked.borrow_mut().get_or_insert(panicked);
                None
            }
        }
    }
}

/// Asks a function of a workflow.
pub(super) fn guarded<T>(which: &'static str, asked: impl FnOnce() -> T) -> Result<T, Panicked> {
    // A future without an await is done at once.
    let answer = contain(async move { asked() }).now_or_never();
    answer.unwrap_or(Err(ExitReason::Killed)).map_err(|reason| Panicked { which, reason })
}
