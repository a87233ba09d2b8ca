//! `explain RUN STEP`: why a step of a run is where it is, and what will change that.

use perennial::{
    engine::{Explanation, workflow::JobKey},
    records::{RunError, RunView},
};
use serde_json::json;

use super::{
    engine,
    hint::{self, Hint, quoted},
    named::named,
};
use crate::{
    args::ExplainArgs,
    exit::{self, failed_with},
    output,
};

pub(super) async fn explain(typed: &str, step: &str, args: &ExplainArgs) -> anyhow::Result<i32> {
    let store = &args.store.store;
    let run = named(store, typed).await?;
    let hint = Hint::new(store, None);
    let runtime = engine::start_reading(store).await?;
    let read = async {
        let handle = runtime.runs().get(&run).await?;
        let view = handle.view().await?;
        let job = view.jobs.iter().find(|job| job.key == JobKey::new(step));
        let why = job.map(|job| handle.explanation(&view, job));
        Ok((view, why))
    };
    let read: Result<(RunView, Option<Explanation>), RunError> = read.await;
    runtime.shutdown().await;
    let (view, why) = read.map_err(|error| hint::refused(&error, &hint))?;
    let Some(why) = why else {
        let steps: Vec<&str> = view.jobs.iter().map(|job| job.key.as_str()).collect();
        let text = if steps.is_empty() {
            format!("run {run} has no step yet, {} neither", quoted(step))
        } else {
            format!("run {run} has no step {} yet; it has: {}", quoted(step), steps.join(", "))
        };
        return Err(failed_with(exit::NOT_FOUND, text, hint.show(run.as_str())));
    };
    let until = why.until().map(|at| at.to_rfc3339());
    if args.output.json {
        let mut explained = json!({ "run": run, "step": step, "changed_by": why.changed_by() });
        explained["explanation"] = serde_json::to_value(&why)?;
        output::json(&explained)?;
        return Ok(exit::COMPLETED);
    }
    output::line(&format!("step {step} of run {run}: {}", words(&why)))?;
    if let Some(event) = why.changed_by() {
        let until = until.map(|at| format!(", at {at} at the latest")).unwrap_or_default();
        output::line(&format!("  changed by {event}{until}"))?;
    }
    Ok(exit::COMPLETED)
}

fn words(why: &Explanation) -> String {
    match why {
        Explanation::Ended { state, skipped, dead_letter } => {
            let why = skipped.map(|why| format!(" ({why})")).unwrap_or_default();
            let dead = if *dead_letter { "; its attempts are used up" } else { "" };
            format!("has ended: {state}{why}{dead}")
        }
        Explanation::Claimable => "nothing is in its way".to_owned(),
        Explanation::DueAt { attempt, cause, .. } => {
            let cause = cause.as_ref().map(|how| format!(", after: {}", how.message));
            format!("attempt {attempt} has its time{}", cause.unwrap_or_default())
        }
        Explanation::Leased { node, alive, attempt, progress, .. } => {
            let process = if *alive { "is under way" } else { "died with its process" };
            let said = progress.as_ref().map(|said| format!("; {}", output::brief(said, 120)));
            format!("attempt {attempt} {process}, on {node}{}", said.unwrap_or_default())
        }
        Explanation::Dependency { stage } => format!("needs what has not ended in stage {stage}"),
        Explanation::Joining { open, ended } => {
            format!("a group that joins: {ended} of its {} children have ended", open + ended)
        }
        Explanation::StageFull { stage, used, limit } => {
            format!("its stage {stage} has {used} of {limit} jobs under way")
        }
        Explanation::StageNotOpen { stage, state } => format!("its stage {stage} is {state}"),
        Explanation::RunPending { place } => format!("its run waits for {place}"),
        Explanation::RunPaused { .. } => "its run is paused".to_owned(),
        Explanation::Cancelling { .. } => "its run is ending".to_owned(),
        Explanation::Unavailable { what, then, .. } => {
            format!("waits for {}, which is not available; else it {then}s", quoted(what))
        }
        Explanation::Suspended { name, default, .. } => {
            format!("waits for {}; else: {default}", quoted(name))
        }
        Explanation::Suspect { crashes, crashes_max } => {
            format!("made alone: its process died with it {crashes} of {crashes_max} times")
        }
        Explanation::Quarantined { reason } => format!("its run cannot be continued: {reason}"),
        Explanation::Interrupted => "nobody runs it now".to_owned(),
        _ => "for a reason that this command does not know".to_owned(),
    }
}
