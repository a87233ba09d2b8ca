//! `explain RUN STEP`: why a step of a run is where it is, and what will change that.

use std::collections::BTreeMap;

use perennial::{
    engine::Explanation,
    records::{JobRecord, JobState, RunError, RunView},
};
use serde_json::{Value, json};

use super::{
    engine,
    hint::{self, Hint, quoted},
    meant::meant,
    named::named,
};
use crate::{args::ExplainArgs, exit, output};

pub(super) async fn explain(typed: &str, step: &str, args: &ExplainArgs) -> anyhow::Result<i32> {
    let store = &args.store.store;
    let run = named(store, typed).await?;
    let hint = Hint::new(store, None);
    let runtime = engine::start_reading(store).await?;
    let read = async {
        let handle = runtime.runs().get(&run).await?;
        let view = handle.view().await?;
        Ok((handle, view))
    };
    let read: Result<_, RunError> = read.await;
    let read = read.map_err(|error| hint::refused(&error, &hint));
    let explained = read.and_then(|(handle, view)| {
        let job = meant(&view, step, &hint)?.clone();
        Ok((handle.explanation(&view, &job), job, view))
    });
    runtime.shutdown().await;
    let (why, job, view) = explained?;
    let (step, job) = (&job.key, &job);
    let until = why.until().map(|at| at.to_rfc3339());
    let said = job.result.as_ref().and_then(|result| said(job.state, result));
    if args.output.json {
        let mut explained = json!({ "run": run, "step": step, "changed_by": why.changed_by() });
        explained["explanation"] = serde_json::to_value(&why)?;
        explained["said"] = said.into();
        output::json(&explained)?;
        return Ok(exit::COMPLETED);
    }
    output::line(&format!("step {step} of run {run}: {}", words(&why)))?;
    if let Some(said) = said {
        output::line(&format!("  {said}"))?;
    }
    if let Some(children) = children(&view, job) {
        output::line(&format!("  of its children: {children}"))?;
    }
    if let Some(event) = why.changed_by() {
        let until = until.map(|at| format!(", at {at} at the latest")).unwrap_or_default();
        output::line(&format!("  changed by {event}{until}"))?;
    }
    Ok(exit::COMPLETED)
}

/// What a step that failed has said, and what one was skipped for.
fn said(state: JobState, result: &Value) -> Option<String> {
    if state != JobState::Failed {
        // Of stages, of a pipeline, and of a workflow that says nothing of it itself.
        let told = || result.get("reason").or_else(|| result.get("why"))?.as_str();
        let why = result.as_str().or_else(told);
        let why = why.filter(|_| state == JobState::Skipped)?;
        return Some(output::brief(&json!(why), 200));
    }
    // A document's is one field further in.
    let error = result.get("error").filter(|error| error.is_object()).unwrap_or(result);
    let said = |name| error.get(name).and_then(Value::as_str);
    let message = output::brief(&json!(said("message")?), 200);
    Some(match said("code") {
        Some(code) => format!("{code}: {message}"),
        None => message,
    })
}

/// How the children of a group have ended.
fn children(view: &RunView, job: &JobRecord) -> Option<String> {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let own = view.jobs.iter().filter(|child| child.parent.as_ref() == Some(&job.key));
    for child in own {
        let why = child.skipped.map(|why| format!(" ({why})")).unwrap_or_default();
        *ends.entry(format!("{}{why}", child.state)).or_default() += 1;
    }
    let told: Vec<String> = ends.into_iter().map(|(end, many)| format!("{many} {end}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// So many of some have, one of them has.
pub(super) fn have(count: usize) -> &'static str {
    if count == 1 { "has" } else { "have" }
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
            let (have, all) = (have(*ended), open + ended);
            format!("a group that joins: {ended} of its {all} children {have} ended")
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
        Explanation::Turn { key, limit, held_by, .. } => {
            let holder = held_by.as_ref().map(|it| format!("; {it} has it")).unwrap_or_default();
            format!("waits for its turn with the key {}, {limit} at a time{holder}", quoted(key))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_and_a_skip_are_told_with_what_is_known_of_them() {
        let cases = [
            (
                JobState::Failed,
                json!({"code": "APP1", "message": "it refuses"}),
                "APP1: it refuses",
            ),
            (JobState::Failed, json!({"message": "it refuses"}), "it refuses"),
            (
                JobState::Failed,
                json!({"error": {"code": "PL405", "message": "it is broken"}, "error_message": "it is broken"}),
                "PL405: it is broken",
            ),
            (JobState::Skipped, json!("service app:6: failed"), "service app:6: failed"),
            (
                JobState::Skipped,
                json!({"skipped": "unavailable", "why": "it is down"}),
                "it is down",
            ),
            (JobState::Skipped, json!({"skipped": true, "reason": "too slow"}), "too slow"),
        ];
        for (state, result, told) in cases {
            assert_eq!(said(state, &result).as_deref(), Some(told));
        }
        assert_eq!(said(JobState::Succeeded, &json!("it is done")), None);
    }

    #[test]
    fn one_child_has_ended_and_several_have() {
        let one = words(&Explanation::Joining { open: 3, ended: 1 });
        assert_eq!(one, "a group that joins: 1 of its 4 children has ended");
        let several = words(&Explanation::Joining { open: 1, ended: 3 });
        assert_eq!(several, "a group that joins: 3 of its 4 children have ended");
    }
}
