use perennial::{PipelineRunHandle, RunId, Runtime};

use super::{
    engine::{self, Signals},
    progress::{self, Shown},
};
use crate::{
    args::ResumeArgs,
    exit::{self, failed},
    output,
};

pub(super) async fn resume(args: ResumeArgs) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let named = match &args.run {
        Some(id) => Some(RunId::parse(id.clone()).map_err(|error| failed(exit::USAGE, error))?),
        None => None,
    };
    let store = args.store.store.clone().must_exist();
    let runtime = engine::start(&store, args.engine.config.as_deref()).await?;
    let runs = match resumed(&runtime, named).await {
        Ok(runs) => runs,
        Err(error) => {
            runtime.shutdown().await;
            return Err(error);
        }
    };
    let shown = Shown { json: args.output.json, quiet: args.engine.quiet, several: runs.len() > 1 };
    if runs.is_empty() && !shown.json {
        output::talk("nothing to resume: every run has ended");
    }
    let ids: Vec<String> = runs.iter().map(|run| run.id().to_string()).collect();
    let code = tokio::select! {
        biased;
        signal = signals.next() => {
            return Ok(engine::interrupted(runtime, signal, &mut signals, &ids).await);
        }
        code = follow_all(&runs, shown) => code?,
    };
    if args.engine.tree {
        output::tree(&runtime.tree(), shown.json)?;
    }
    runtime.shutdown().await;
    Ok(code)
}

async fn resumed(
    runtime: &Runtime,
    named: Option<RunId>,
) -> anyhow::Result<Vec<PipelineRunHandle>> {
    let refused = |error| failed(exit::of_run_error(&error), error);
    let ids = match named {
        Some(id) => vec![id],
        None => {
            let unfinished = runtime.runs().unfinished().await.map_err(refused)?;
            unfinished.into_iter().map(|summary| summary.run).collect()
        }
    };
    let mut runs = Vec::new();
    for id in ids {
        runs.push(runtime.pipelines().resume(&id).await.map_err(refused)?);
    }
    Ok(runs)
}

/// Follows all runs at once; the first code that is not 0 counts.
async fn follow_all(runs: &[PipelineRunHandle], shown: Shown) -> anyhow::Result<i32> {
    // They all run at the same time; only telling of them is one after the other.
    let mut code = exit::COMPLETED;
    for run in runs {
        if !shown.json && !shown.quiet {
            output::talk(&format!("run {}", run.id()));
        }
        let ended = match progress::follow(run, shown).await? {
            Ok(outcome) => {
                progress::conclude(&outcome, shown)?;
                exit::of_state(outcome.state())
            }
            Err(error) => {
                output::talk(&format!("error: run {}: {error}", run.id()));
                exit::of_run_error(&error)
            }
        };
        if code == exit::COMPLETED {
            code = ended;
        }
    }
    Ok(code)
}
