use perennial::records::RunSummary;
use serde_json::json;

use super::{engine, hint::Hint};
use crate::{
    args::RunsArgs,
    exit::{self, failed},
    output,
};

/// Characters of a workflow's name that are shown.
const WORKFLOW_MAX: usize = 40;

pub(super) async fn runs(args: RunsArgs) -> anyhow::Result<i32> {
    let runtime = engine::start_reading(&args.store.store).await?;
    let runs = runtime.runs().list(args.limit).await;
    runtime.shutdown().await;
    let runs = runs.map_err(|error| failed(exit::of_run_error(&error), error))?;
    for run in &runs {
        if args.output.json {
            let mut value = serde_json::to_value(run)?;
            value["created_at"] = json!(run.created_at.to_rfc3339());
            value["finished_at"] = json!(run.finished_at.map(|at| at.to_rfc3339()));
            output::json(&value)?;
        }
    }
    if !args.output.json {
        print(&runs, &Hint::new(&args.store.store, None))?;
    }
    Ok(exit::COMPLETED)
}

fn print(runs: &[RunSummary], hint: &Hint) -> anyhow::Result<()> {
    if runs.is_empty() {
        output::talk("no runs yet; start one with: perennial run FILE");
        return Ok(());
    }
    let heading = ["RUN", "WORKFLOW", "STATE", "STEPS", "CREATED"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(heading).chain(runs.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 5] = std::array::from_fn(|column| width(column).unwrap_or_default());
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        output::line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    if runs.iter().any(|run| !run.state.is_terminal()) {
        output::talk(&format!("continue what is unfinished with: {}", hint.resume("--all")));
    }
    Ok(())
}

fn row(run: &RunSummary) -> [String; 5] {
    let orphan = !run.state.is_terminal() && !run.owner_alive;
    [
        run.run.to_string(),
        output::cut(&run.workflow, WORKFLOW_MAX),
        if orphan { "interrupted".to_owned() } else { run.state.to_string() },
        format!("{} of {}", run.jobs_done, run.jobs),
        run.created_at.to_rfc3339(),
    ]
}
