//! What goes from the store: by age, or by name.

use perennial::{
    Config, Retention, RunId, Runtime, StoreError,
    records::{Retained, RunSummary},
};
use serde_json::json;

use super::{engine, hint::Hint};
use crate::{
    args::{GcArgs, PurgeArgs},
    exit::{self, failed, failed_with},
    output,
};

/// Runs that are listed; further ones are removed and counted.
const LISTED_MAX: u32 = 1_000;

pub(super) async fn gc(args: GcArgs, config: Config) -> anyhow::Result<i32> {
    let policy = match args.older_than {
        Some(within) => Retention::after(within),
        None => config.retention(),
    };
    let store = args.store.store.clone();
    let runtime = if args.dry_run {
        engine::start_reading(&store).await?
    } else {
        engine::start_keeping(&store).await?
    };
    let outcome = remove(&runtime, &args, policy).await;
    runtime.shutdown().await;
    outcome.map(|()| exit::COMPLETED)
}

/// Says what goes before it goes: whoever looks at what is left of a command that died knows.
async fn remove(runtime: &Runtime, args: &GcArgs, policy: Retention) -> anyhow::Result<()> {
    let upkeep = runtime.upkeep();
    let refused = |error: StoreError| failed(exit::of_store(&error), error);
    let runs = upkeep.retainable(policy, LISTED_MAX).await.map_err(refused)?;
    list(args, policy, &runs)?;
    let removed =
        if args.dry_run { None } else { Some(upkeep.retain(policy).await.map_err(refused)?) };
    conclude(args, &runs, removed)
}

fn list(args: &GcArgs, policy: Retention, runs: &[RunSummary]) -> anyhow::Result<()> {
    let ended = |run: &RunSummary| run.finished_at.map(|at| at.to_rfc3339());
    if args.output.json {
        for run in runs {
            output::json(&json!({
                "type": "run",
                "run": run.run,
                "workflow": run.workflow,
                "state": run.state,
                "finished_at": ended(run),
            }))?;
        }
        return Ok(());
    }
    if !policy.removes() {
        output::talk(
            "retention is switched off by the configuration: no run is removed for its age",
        );
    }
    if !runs.is_empty() {
        let heading = ["RUN", "WORKFLOW", "STATE", "ENDED"].map(str::to_owned);
        let rows = runs.iter().map(|run| {
            let workflow = output::cut(&run.workflow, 40);
            [run.run.to_string(), workflow, run.state.to_string(), ended(run).unwrap_or_default()]
        });
        for line in output::columns(std::iter::once(heading).chain(rows)) {
            output::line(&line)?;
        }
    }
    Ok(())
}

fn conclude(args: &GcArgs, runs: &[RunSummary], removed: Option<Retained>) -> anyhow::Result<()> {
    if args.output.json {
        let done = removed.unwrap_or_default();
        return output::json(&json!({
            "type": "retained",
            "dry_run": args.dry_run,
            "due": runs.len(),
            "due_is_all": runs.len() < LISTED_MAX as usize,
            "runs": done.runs,
            "rows": done.rows,
            "blobs": done.blobs,
        }));
    }
    match removed {
        None if runs.is_empty() => output::line("nothing would be removed"),
        None => {
            let more = if runs.len() < LISTED_MAX as usize { "" } else { " or more" };
            let count = counted(runs.len() as u64, "run");
            output::line(&format!("{count}{more} would be removed; nothing was changed"))
        }
        Some(done) => output::line(&summary(done)),
    }
}

fn summary(done: Retained) -> String {
    let Retained { runs, rows, blobs, .. } = done;
    if rows == 0 && blobs == 0 {
        return "nothing to remove".to_owned();
    }
    let (runs, rows) = (counted(runs, "run"), counted(rows, "row"));
    let blobs = if blobs == 0 { String::new() } else { format!(", {}", counted(blobs, "blob")) };
    format!("removed {runs} ({rows}){blobs}")
}

fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

pub(super) async fn purge(args: PurgeArgs) -> anyhow::Result<i32> {
    // Not by a beginning of it: what is removed must have been meant.
    let run = RunId::parse(&args.run).map_err(|error| failed(exit::USAGE, error))?;
    let hint = Hint::new(&args.store.store, None);
    let runtime = engine::start_keeping(&args.store.store).await?;
    let outcome = runtime.upkeep().purge(&run).await;
    runtime.shutdown().await;
    let done = outcome.map_err(|error| refused(&run, &error, &hint))?;
    if args.output.json {
        output::json(&json!({
            "type": "purged",
            "run": run,
            "runs": done.runs,
            "rows": done.rows,
            "blobs": done.blobs,
        }))?;
    } else {
        let rows = counted(done.rows, "row");
        output::line(&format!("run {run} is removed ({rows}); its id stays taken for a while"))?;
    }
    Ok(exit::COMPLETED)
}

fn refused(run: &RunId, error: &StoreError, hint: &Hint) -> anyhow::Error {
    let code = exit::of_store(error);
    if let StoreError::InvalidState(refusal) = error {
        let was = refusal.from;
        let text = format!("run {run} has not ended ({was}): only what has ended is removed");
        return failed_with(exit::USAGE, text, hint.show(run.as_str()));
    }
    if let StoreError::NotFound { .. } = error {
        return failed_with(code, error, hint.runs());
    }
    failed(code, error)
}
