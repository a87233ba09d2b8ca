use std::collections::HashMap;

use perennial::{
    RunState, Runtime, StoreError,
    records::{RunError, RunSummary},
};
use serde_json::json;

use super::{engine, hint::Hint, host};
use crate::{
    args::RunsArgs,
    exit::{self, failed},
    output,
};

/// Characters of a workflow's name that are shown.
const WORKFLOW_MAX: usize = 40;
/// As many always are.
const WORKFLOW_MIN: usize = 8;

pub(super) async fn runs(args: RunsArgs) -> anyhow::Result<i32> {
    let runtime = engine::start_reading(&args.store.store).await?;
    let runs = listed(&runtime, args.limit).await;
    runtime.shutdown().await;
    let runs = runs.map_err(|error| failed(exit::of_run_error(&error), error))?;
    for Listed { run, steps, .. } in &runs {
        if args.output.json {
            let mut value = serde_json::to_value(run)?;
            value["steps"] = json!(steps);
            value["standing"] = json!(standing(run.state, run.owner.is_some(), run.owner_alive));
            value["created_at"] = json!(run.created_at.to_rfc3339());
            value["finished_at"] = json!(run.finished_at.map(|at| at.to_rfc3339()));
            output::json(&value)?;
        }
    }
    if !args.output.json {
        print(&runs, &Hint::new(&args.store.store, None))?;
    }
    for Listed { run, .. } in &runs {
        if let Some(why) = &run.unreadable {
            output::talk(&format!("run {} cannot be read: {why}", run.run));
        }
    }
    Ok(exit::COMPLETED)
}

/// A run, and how many steps its workflow has, those of children not counted.
struct Listed {
    run: RunSummary,
    steps: u64,
    /// Whether no command can go on with it.
    is_of_a_host: bool,
}

async fn listed(runtime: &Runtime, limit: u32) -> Result<Vec<Listed>, RunError> {
    let mut listed = Vec::new();
    // Runs of one workflow mostly have one definition.
    let mut known: HashMap<String, (u64, bool)> = HashMap::new();
    for mut run in runtime.runs().list(limit).await? {
        // Of one that has ended well, all has been reached.
        let (steps, is_of_a_host) = if run.state == RunState::Succeeded || run.unreadable.is_some()
        {
            (run.jobs, false)
        } else {
            let view = match runtime.runs().get(&run.run).await {
                Ok(found) => found.view().await,
                Err(error) => Err(error),
            };
            let view = match view {
                // One that is damaged is shown among the others.
                Err(RunError::Store(StoreError::Unreadable { what, why })) => {
                    run.unreadable = Some(format!("{what}: {why}"));
                    listed.push(Listed { steps: run.jobs, is_of_a_host: false, run });
                    continue;
                }
                view => view?,
            };
            let definition = view.run.definition.to_string();
            match known.get(&definition) {
                Some(known) => *known,
                None => {
                    // What this version cannot read has the steps that it has reached.
                    let found = runtime.pipelines().definition(&run.run).await;
                    let is_of_a_host = found.as_ref().is_err_and(host::is_of_a_host);
                    let steps = found.map_or(run.jobs, |found| found.steps().len() as u64);
                    known.insert(definition, (steps, is_of_a_host));
                    (steps, is_of_a_host)
                }
            }
        };
        listed.push(Listed { run, steps, is_of_a_host });
    }
    Ok(listed)
}

fn print(runs: &[Listed], hint: &Hint) -> anyhow::Result<()> {
    if runs.is_empty() {
        output::talk("no runs yet; start one with: perennial run FILE");
        return Ok(());
    }
    for line in table(runs, output::width()) {
        output::line(&line)?;
    }
    let is_left = |listed: &&Listed| {
        let state = listed.run.state;
        let is_open = !state.is_terminal() && state != RunState::Paused;
        // Whoever works on it goes on with it.
        is_open && !listed.run.owner_alive
    };
    for Listed { run, .. } in runs.iter().filter(is_left).filter(|listed| listed.is_of_a_host) {
        output::talk(&format!("run {}: {}", run.run, host::goes_on(&run.workflow)));
    }
    if runs.iter().filter(is_left).any(|listed| !listed.is_of_a_host) {
        output::talk(&format!("continue what is unfinished with: {}", hint.resume("--all")));
    }
    Ok(())
}

/// The table; in a narrow place without the times, and with the workflows cut to what is left.
fn table(runs: &[Listed], width: Option<usize>) -> Vec<String> {
    let heading = ["RUN", "WORKFLOW", "STATE", "STEPS", "CREATED"].map(str::to_owned);
    let rows = |cut: usize| -> Vec<[String; 5]> {
        let cells = runs.iter().map(|listed| row(listed, cut));
        std::iter::once(heading.clone()).chain(cells).collect()
    };
    let fits = |lines: &[String]| {
        width.is_none_or(|width| lines.iter().all(|line| line.chars().count() <= width))
    };
    let whole = output::columns(rows(WORKFLOW_MAX).into_iter());
    if fits(&whole) {
        return whole;
    }
    let narrow = |cut: usize| {
        let cells = rows(cut).into_iter();
        output::columns(cells.map(|[run, workflow, state, steps, _]| [run, workflow, state, steps]))
    };
    let mut cuts = (WORKFLOW_MIN..=WORKFLOW_MAX).rev().map(narrow);
    cuts.find(|lines| fits(lines)).unwrap_or_else(|| narrow(WORKFLOW_MIN))
}

fn row(Listed { run, steps, .. }: &Listed, workflow_max: usize) -> [String; 5] {
    [
        run.run.to_string(),
        output::cut(&run.workflow, workflow_max),
        match &run.unreadable {
            Some(_) => "unreadable".to_owned(),
            None => {
                let state = state(run.state, run.owner.is_some(), run.owner_alive);
                let percent = run.progress.filter(|_| !run.state.is_terminal());
                percent.map_or(state.clone(), |percent| format!("{state}, {percent} %"))
            }
        },
        format!("{} of {steps}", run.jobs_done),
        run.created_at.to_rfc3339(),
    ]
}

/// Where a run is, in the words of people: one whose process died is interrupted, unless it was
/// paused, and then waits for more than another process.
/// One that nobody has taken yet is queued. What is ending, and is not over, is told with either.
pub(super) fn state(state: RunState, has_owner: bool, owner_alive: bool) -> String {
    let standing = standing(state, has_owner, owner_alive);
    match state {
        RunState::Cancelling | RunState::Compensating if standing != state.name() => {
            format!("{standing} ({state})")
        }
        RunState::Cancelling
        | RunState::Compensating
        | RunState::Pending
        | RunState::Running
        | RunState::Paused
        | RunState::Succeeded
        | RunState::PartiallySucceeded
        | RunState::Failed
        | RunState::TimedOut
        | RunState::Cancelled
        | RunState::CompensationFailed => standing.to_owned(),
    }
}

/// The same in one word, for programs: what is recorded says `running` also while nobody works on it.
pub(super) fn standing(state: RunState, has_owner: bool, owner_alive: bool) -> &'static str {
    let is_left = !state.is_terminal() && state != RunState::Paused && !owner_alive;
    match (is_left, has_owner) {
        (true, true) => "interrupted",
        (true, false) => "queued",
        (false, _) => state.name(),
    }
}
