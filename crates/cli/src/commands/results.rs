use perennial::{
    RunId,
    records::{JobRecord, RunView},
};
use serde_json::{Map, Value, json};

use super::{
    engine,
    hint::{self, Hint},
};
use crate::{
    args::ResultsArgs,
    exit::{self, failed, failed_with},
    output,
};

pub(super) async fn results(args: ResultsArgs) -> anyhow::Result<i32> {
    let run = RunId::parse(args.run).map_err(|error| failed(exit::USAGE, error))?;
    let hint = Hint::new(&args.store.store, None);
    let view = view(&args.store.store, &run, &hint).await?;
    let given = |job: &JobRecord| Some((job.key.to_string(), job.result.clone()?));
    let results: Map<String, Value> = view.jobs.iter().filter_map(given).collect();
    let Some(step) = &args.step else {
        if args.output.json {
            output::json(&json!({ "run": run, "state": view.run.state, "results": results }))?;
        } else {
            for (step, result) in &results {
                output::line(&format!("{step}: {}", written(result)))?;
            }
        }
        return Ok(exit::COMPLETED);
    };
    let Some(result) = results.get(step) else {
        let text = format!("run {run} has no result of a step `{step}`");
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
