use perennial::{PipelineRunHandle, ResumePipelineError, RunId, Runtime};

use super::{
    engine::{self, Signals},
    hint::{self, Hint},
    progress::{self, Shown},
    tree::with_findings,
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
    let hint = Hint::new(&store, args.engine.config.as_deref());
    let config = engine::config(args.engine.config.as_deref())?;
    let runtime = engine::start(&store, config, args.engine.show_prompts).await?;
    let (runs, left) = match resumed(&runtime, named, &hint).await {
        Ok(runs) => runs,
        Err(error) => {
            runtime.shutdown().await;
            return Err(error);
        }
    };
    let shown = Shown { json: args.output.json, quiet: args.engine.quiet, several: runs.len() > 1 };
    if runs.is_empty() && left == exit::COMPLETED && !shown.json {
        output::talk("nothing to resume: every run has ended");
    }
    let code = tokio::select! {
        biased;
        signal = signals.next() => {
            return Ok(engine::interrupted(runtime, signal, &mut signals, &runs, &hint).await);
        }
        code = follow_all(&runs, shown, &hint, left) => code,
    };
    let code = code.and_then(|code| {
        if args.engine.tree {
            let tree = with_findings(runtime.tree(), &[], None);
            output::tree(&tree, args.engine.tree_shape(&args.output))?;
        }
        Ok(code)
    });
    // Also when nobody reads any more: what is under way ends in order.
    runtime.shutdown().await;
    code
}

/// The runs that go on, and the first code of those that do not: one that cannot be continued here
/// keeps no other from it.
async fn resumed(
    runtime: &Runtime,
    named: Option<RunId>,
    hint: &Hint,
) -> anyhow::Result<(Vec<PipelineRunHandle>, i32)> {
    if let Some(id) = named {
        return match runtime.pipelines().resume(&id).await {
            Ok(run) => Ok((vec![run], exit::COMPLETED)),
            Err(ResumePipelineError::Run(error)) => Err(hint::refused(&error, hint)),
            Err(error) => Err(failed(exit::of_resume(&error), error)),
        };
    }
    let unfinished = runtime.runs().unfinished().await;
    let unfinished = unfinished.map_err(|error| hint::refused(&error, hint))?;
    let (mut runs, mut code) = (Vec::new(), exit::COMPLETED);
    for id in unfinished.into_iter().map(|summary| summary.run) {
        match runtime.pipelines().resume(&id).await {
            Ok(run) => runs.push(run),
            Err(error) => {
                output::problem(&format!("run {id} is left as it is: {error}"));
                if code == exit::COMPLETED {
                    code = exit::of_resume(&error);
                }
            }
        }
    }
    Ok((runs, code))
}

/// Follows all runs; the first code that is not 0 counts, beginning with `code`. They all run at the
/// same time; only telling of them is one after the other.
async fn follow_all(
    runs: &[PipelineRunHandle],
    shown: Shown,
    hint: &Hint,
    mut code: i32,
) -> anyhow::Result<i32> {
    for run in runs {
        if !shown.json && !shown.quiet {
            output::talk(&format!("run {}", run.id()));
        }
        let ended = match progress::follow(run, shown).await? {
            Ok(outcome) => {
                progress::conclude(&outcome, shown, hint)?;
                exit::of_state(outcome.state())
            }
            Err(error) => {
                output::problem(&format!("run {}: {error}", run.id()));
                exit::of_run_error(&error)
            }
        };
        if code == exit::COMPLETED {
            code = ended;
        }
    }
    Ok(code)
}
