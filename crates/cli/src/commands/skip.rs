//! `skip`: a step that shall not be made. Whoever runs its run finds that at the next look; on a file nobody does, because this
//! process holds it.

use perennial::{
    Config, RunState, StoreError,
    engine::workflow::{JobKey, SkipReason},
    records::{JobKind, JobRecord, RunError, RunView},
};
use serde_json::json;

use super::{
    cancel::undoing,
    engine,
    hint::{self, Hint, quoted},
    host,
    meant::meant,
    named::named,
};
use crate::{
    args::SkipArgs,
    exit::{self, failed_with},
    output,
};

pub(super) async fn skip(args: SkipArgs) -> anyhow::Result<i32> {
    let store = args.store.store.clone().must_exist();
    let run = named(&store, &args.run).await?;
    let hint = Hint::new(&store, None);
    let runtime = engine::start(&store, Config::default(), false).await?;
    let skipped = async {
        let handle = runtime.runs().get(&run).await?;
        let before = handle.view().await?;
        // What is typed may be the end of its name; what is not there is refused by the engine.
        let job = meant(&before, &args.step, &hint).map(|job| job.key.clone());
        let step = job.unwrap_or_else(|_| JobKey::new(&args.step));
        let changed = handle.skip(&step, &args.why).await;
        let after = handle.view().await?;
        Ok((before, step, changed, after))
    };
    let skipped: Result<_, RunError> = skipped.await;
    let is_of_a_host = skipped.is_ok() && host::has(&runtime, &run).await;
    runtime.shutdown().await;
    let (before, step, changed, view) = skipped.map_err(|error| hint::refused(&error, &hint))?;
    let changed = changed.map_err(|error| {
        if is_of_a_host && matches!(error, RunError::NotRunnable(_)) {
            return untellable(&before, &step, &hint);
        }
        refused(&args, &before, &error, &hint)
    })?;
    let is_skipped = |job: &JobRecord| job.key == step && job.skipped == Some(SkipReason::Operator);
    if !changed && !view.jobs.iter().any(is_skipped) {
        let text = format!("run {run} is {}: no step of it is skipped any more", view.run.state);
        return Err(failed_with(exit::USAGE, text, hint.show(run.as_str())));
    }
    if args.output.json {
        output::json(&json!({
            "type": "skip",
            "run": run,
            "step": step,
            "why": args.why,
            "changed": changed,
            "state": view.run.state,
        }))?;
        return Ok(exit::COMPLETED);
    }
    let again = if changed { "is skipped" } else { "was skipped before" };
    output::line(&format!("step {step} of run {run} {again}"))?;
    let id = run.as_str();
    let state = view.run.state;
    output::talk(&if state == RunState::Paused {
        format!("let it go on with: {}", hint.unpause(id))
    } else if state.is_terminal() {
        format!("see it with: {}", hint.show(id))
    } else if let Some(node) = view.run.owner.as_ref().filter(|_| view.run.owner_alive) {
        format!("node {} goes on with it", node.node)
    } else if is_of_a_host {
        format!("nobody runs it now: {}", host::goes_on(&view.run.workflow))
    } else {
        format!("nobody runs it now; resume with: {}", hint.resume(id))
    });
    Ok(exit::COMPLETED)
}

/// What only whoever has the workflow can skip: what ends with a group, and what is left of a step.
fn untellable(view: &RunView, step: &JobKey, hint: &Hint) -> anyhow::Error {
    let workflow = &view.run.workflow;
    let is_group = |job: &JobRecord| job.key == *step && job.kind == JobKind::Group;
    let what = match view.jobs.iter().any(is_group) {
        true => "is a group, whose children end with it",
        false => "is no job of a stage",
    };
    let text = format!(
        "step {step} of run {} {what}: it is skipped by the program that has its workflow `{workflow}`, with \
         `RunHandle::skip`; no command can do that",
        view.run.run
    );
    failed_with(exit::USAGE, text, hint.show(view.run.run.as_str()))
}

/// What is too late, or was mistyped, is a mistake of whoever typed it.
fn refused(args: &SkipArgs, view: &RunView, error: &RunError, hint: &Hint) -> anyhow::Error {
    if let Some(refused) = undoing(&view.run.run, error, hint) {
        return refused;
    }
    let (run, step) = (view.run.run.as_str(), quoted(&output::typed(&args.step)));
    match error {
        RunError::Store(StoreError::NotFound { what: "step", .. }) => {
            let open = view.jobs.iter().filter(|job| !job.state.is_terminal());
            let open: Vec<&str> = open.map(|job| job.key.as_str()).collect();
            let text = match open.as_slice() {
                [] => format!("run {run} has no step {step} now, and none that is to be made"),
                open => {
                    format!("run {run} has no step {step} now; to be made: {}", open.join(", "))
                }
            };
            failed_with(exit::NOT_FOUND, text, hint.show(run))
        }
        RunError::Store(StoreError::InvalidState(refused)) if refused.what == "job" => {
            let text = format!("step {step} of run {run} has ended ({})", refused.from);
            failed_with(exit::USAGE, text, hint.show(run))
        }
        RunError::Ended { state, .. } => {
            let text = format!("run {run} has ended ({state}): nothing of it is to be made");
            failed_with(exit::USAGE, text, hint.show(run))
        }
        RunError::Store(_)
        | RunError::InvalidRunId(_)
        | RunError::Engine(_)
        | RunError::NotRunnable(_)
        | RunError::OwnedElsewhere { .. }
        | RunError::ShuttingDown
        | RunError::ShutDown { .. }
        | _ => hint::refused(error, hint),
    }
}
