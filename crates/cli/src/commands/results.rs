use perennial::{
    RunId,
    engine::workflow::{JobKey, JobState},
    records::RunView,
};
use serde_json::{Map, Value, json};

use super::{
    engine,
    hint::{self, Hint},
    named::named,
    steps::{self, Row},
};
use crate::{
    args::ResultsArgs,
    exit::{self, failed_with},
    output,
};

pub(super) async fn results(args: ResultsArgs) -> anyhow::Result<i32> {
    let run = named(&args.store.store, &args.run).await?;
    let hint = Hint::new(&args.store.store, None);
    let view = view(&args.store.store, &run, &hint).await?;
    let rows = steps::rows(&view);
    let given = |row: &Row<'_>| Some((row.job.key.to_string(), row.result()?.clone()));
    let results: Map<String, Value> = rows.iter().filter_map(given).collect();
    let Some(step) = &args.step else {
        if args.output.json {
            output::json(&json!({ "run": run, "state": view.run.state, "results": results }))?;
        } else {
            for row in &rows {
                let Some(result) = row.result() else { continue };
                // What is recorded of one that failed is no result: it says so.
                let state = row.state();
                let is_given = matches!(state, JobState::Succeeded | JobState::Partial);
                let how = if is_given { String::new() } else { format!(" ({})", state.name()) };
                output::line(&format!("{}{how}: {}", row.job.key, written(result)))?;
            }
        }
        return Ok(exit::COMPLETED);
    };
    // As the journal has it, where it is very long.
    let key = JobKey::new(step.as_str());
    let Some(result) = results.get(key.as_str()).or_else(|| only(&rows, step)) else {
        let named: Vec<&str> = results.keys().map(String::as_str).collect();
        let names = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
        let (names, step) = (output::cut(&names, 400), output::typed(step));
        let text = format!("run {run} has no result of a step `{step}`; results: {names}");
        return Err(failed_with(exit::NOT_FOUND, text, hint.show(run.as_str())));
    };
    if args.output.json {
        output::json(&json!({ "run": run, "step": step, "result": result }))?;
    } else {
        // For the next program: whole, lines and all.
        let text = match result {
            Value::String(text) => text.clone(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => result.to_string(),
        };
        for line in text.lines() {
            output::line(line)?;
        }
    }
    Ok(exit::COMPLETED)
}

/// What the only step of this name gave, wherever it stands.
fn only<'a>(rows: &[Row<'a>], name: &str) -> Option<&'a Value> {
    let mut named = rows.iter().filter(|row| !row.is_open && row.job.key.step_name() == name);
    let found = named.next()?;
    if named.next().is_some() { None } else { found.result() }
}

/// Everything recorded of a run.
pub(super) async fn view(
    store: &perennial::Store,
    run: &RunId,
    hint: &Hint,
) -> anyhow::Result<RunView> {
    let runtime = engine::start_reading(store).await?;
    let read = async { runtime.runs().get(run).await?.view().await };
    let view = read.await;
    runtime.shutdown().await;
    view.map_err(|error| hint::refused(&error, hint))
}

fn written(result: &Value) -> String {
    result.as_str().map_or_else(|| result.to_string(), str::to_owned)
}
