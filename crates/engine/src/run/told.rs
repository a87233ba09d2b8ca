//! What a run is told whose workflow this build does not know, while a node lives that does and works on it: only what needs no
//! workflow is written, and that node decides what follows when it next looks.

use perennial_core::run::{InvalidTransition, JobKind, JobState, RunState, SkipReason};
use perennial_store::{Committed, Decision, JobStep, RunStep, RunView, StoreError};
use serde_json::{Value, json};

use super::{Request, Requested};
use crate::{
    Services,
    patience::{STORE_WITHIN, persistently},
};

/// Writes it; answers whether that changed anything.
///
/// # Errors
///
/// When the store is away, and when there is no such step, or it has ended.
pub(crate) async fn tell(
    services: &Services,
    view: RunView,
    requested: &Requested,
) -> Result<bool, StoreError> {
    let run = view.run.run.clone();
    let mut view = view;
    for _ in 0..services.settings.decide_rounds {
        let Some(mut decision) = decided(&view, &requested.request)? else { return Ok(false) };
        decision.events.extend(requested.event());
        let commit = || services.store.commit(decision.clone());
        match persistently(STORE_WITHIN, commit).await {
            Ok(Committed::Now { events, .. }) => {
                services.hub.announce(&run, &events);
                return Ok(true);
            }
            Ok(Committed::AlreadyRecorded { .. }) => return Ok(true),
            Err(StoreError::Conflict { .. }) => {
                view = persistently(STORE_WITHIN, || services.store.run(&run)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Busy)
}

/// Whether that can be told without the workflow: a step of a workflow in Rust may have a record of its own for a skip, and a
/// limit is asked of who has the stage.
pub(crate) fn is_tellable(view: &RunView, request: &Request) -> bool {
    match request {
        Request::Cancel | Request::Pause | Request::Unpause | Request::Priority(_) => true,
        Request::Skip { job, .. } => {
            let kinds = || view.jobs.iter().map(|it| (&it.key, it.kind));
            // With a group its children end: that is decided by who knows them.
            let is_group = kinds().any(|(key, kind)| key == job && kind == JobKind::Group);
            !is_group && kinds().any(|(_, kind)| kind != JobKind::Step)
        }
        Request::Limit(_) => false,
    }
}

fn decided(view: &RunView, request: &Request) -> Result<Option<Decision>, StoreError> {
    let from = view.run.state;
    if from == RunState::Compensating {
        let (from, to) = (from.name(), request.fact().wants());
        return Err(StoreError::InvalidState(InvalidTransition { what: "run", from, to }));
    }
    let step = |to, failure| RunStep { from, to, failure };
    let (mut jobs, mut run_step, mut priority) = (Vec::new(), None, None);
    match request {
        Request::Pause if from == RunState::Running => {
            run_step = Some(step(RunState::Paused, None));
        }
        Request::Unpause if from == RunState::Paused => {
            run_step = Some(step(RunState::Running, None));
        }
        Request::Cancel if from.goes_on() => {
            run_step = Some(step(RunState::Cancelling, Some(json!({ "cause": "cancel" }))));
        }
        Request::Skip { job, why } if from.goes_on() => {
            let Some(job) = view.jobs.iter().rev().find(|it| it.key == *job) else {
                return Err(StoreError::NotFound { what: "step", id: job.to_string() });
            };
            if job.skipped == Some(SkipReason::Operator) {
                return Ok(None);
            }
            if job.state.is_terminal() {
                return Err(StoreError::InvalidState(InvalidTransition {
                    what: "job",
                    from: job.state.name(),
                    to: JobState::Skipped.name(),
                }));
            }
            let reason = SkipReason::Operator;
            jobs.push(JobStep {
                skipped: Some(reason),
                result: Some(Value::String(why.clone())),
                about: json!({ "reason": reason.name(), "why": why }),
                ..JobStep::new(job.id, job.state, JobState::Skipped)
            });
        }
        Request::Priority(wanted) if from.goes_on() && view.run.priority != *wanted => {
            priority = Some(*wanted);
        }
        Request::Pause
        | Request::Unpause
        | Request::Cancel
        | Request::Skip { .. }
        | Request::Limit(_)
        | Request::Priority(_) => return Ok(None),
    }
    Ok(Some(Decision {
        run: view.run.run.clone(),
        expected_revision: view.run.revision,
        report: None,
        jobs,
        new_jobs: Vec::new(),
        stages: Vec::new(),
        run_step,
        events: Vec::new(),
        timers: Vec::new(),
        progress: None,
        limits: Vec::new(),
        priority,
    }))
}
