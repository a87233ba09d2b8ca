use perennial::records::RunSummary;
use serde_json::json;

use super::engine;
use crate::{
    args::RunsArgs,
    exit::{self, failed},
    output,
};

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
        print(&runs)?;
    }
    Ok(exit::COMPLETED)
}

fn print(runs: &[RunSummary]) -> anyhow::Result<()> {
    if runs.is_empty() {
        output::talk("no runs yet; start one with: perennial run FILE");
        return Ok(());
    }
    let width = runs.iter().map(|run| run.workflow.chars().count()).max().unwrap_or(0).min(40);
    output::line(&format!(
        "{:26}  {:width$}  {:20}  {:>9}  {}",
        "RUN", "WORKFLOW", "STATE", "STEPS", "CREATED"
    ))?;
    for run in runs {
        let orphan = !run.state.is_terminal() && !run.owner_alive;
        let state = if orphan { "interrupted".to_owned() } else { run.state.to_string() };
        output::line(&format!(
            "{:26}  {:width$}  {:20}  {:>9}  {}",
            run.run.as_str(),
            run.workflow,
            state,
            format!("{} of {}", run.jobs_done, run.jobs),
            run.created_at.to_rfc3339(),
        ))?;
    }
    if runs.iter().any(|run| !run.state.is_terminal()) {
        output::talk("continue what is unfinished with: perennial resume --all");
    }
    Ok(())
}
