use perennial::{
    Pipelines, ProviderMode, RunId, StartPipeline, StartPipelineError, records::render,
};

use super::{
    engine::{self, Signals},
    inputs,
    progress::{self, Shown},
};
use crate::{
    args::RunArgs,
    exit::{self, failed},
    output,
};

pub(super) async fn run(args: RunArgs) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let shown = Shown { json: args.output.json, quiet: args.engine.quiet, several: false };
    // Everything that can be known wrong is known before a store is touched.
    let checked = Pipelines::check(&args.file).map_err(|error| failed(exit::INVALID, error))?;
    let declared: Vec<&str> = checked.inputs.iter().map(|input| input.name.as_str()).collect();
    let pairs: Vec<String> = args.values.iter().chain(&args.inputs).cloned().collect();
    let given = inputs::parse(&pairs, &declared)?;
    if checked.pipeline.is_none() {
        return Ok(refuse(&args, &checked.diagnostics));
    }
    let mut start = StartPipeline::file(&args.file).mode(args.provider_mode);
    for (name, value) in given {
        start = start.input(name, value);
    }
    if let Some(path) = &args.mocks {
        if args.provider_mode != ProviderMode::Mock {
            let text = "--mocks needs --provider-mode mock: live calls are never mocked";
            return Err(failed(exit::USAGE, text));
        }
        let mocks = Pipelines::read_mocks(path);
        start = start.mocks(mocks.map_err(|error| failed(exit::USAGE, error))?);
    }
    if let Some(id) = &args.run_id {
        let id = RunId::parse(id.clone()).map_err(|error| failed(exit::USAGE, error))?;
        start = start.run_id(id);
    }
    if !shown.quiet && !shown.json {
        output::talk(&match args.provider_mode {
            ProviderMode::Mock => "provider mode: mock (answers are made up)".to_owned(),
            ProviderMode::Live => "provider mode: live".to_owned(),
        });
    }
    let runtime = engine::start(&args.store.store, args.engine.config.as_deref()).await?;
    let handle = match runtime.pipelines().start(start).await {
        Ok(handle) => handle,
        Err(error) => {
            runtime.shutdown().await;
            if let StartPipelineError::Invalid(diagnostics) = &error {
                return Ok(refuse(&args, diagnostics));
            }
            return Err(failed(exit::of_start(&error), error));
        }
    };
    if !shown.quiet && !shown.json {
        output::talk(&format!("run {}", handle.id()));
    }
    let outcome = tokio::select! {
        biased;
        signal = signals.next() => {
            let runs = [handle.id().to_string()];
            return Ok(engine::interrupted(runtime, signal, &mut signals, &runs).await);
        }
        outcome = progress::follow(&handle, shown) => outcome?,
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            runtime.shutdown().await;
            return Err(failed(exit::of_run_error(&error), error));
        }
    };
    progress::conclude(&outcome, shown)?;
    mention_others(&runtime, shown).await;
    if args.engine.tree {
        output::tree(&runtime.tree(), shown.json)?;
    }
    runtime.shutdown().await;
    Ok(exit::of_state(outcome.state()))
}

/// A command works only on what it was told; it says what else is waiting (YR-56).
async fn mention_others(runtime: &perennial::Runtime, shown: Shown) {
    if shown.quiet || shown.json {
        return;
    }
    // Only a remark: a store that cannot be read now has said so elsewhere.
    if let Ok(others) = runtime.runs().unfinished().await
        && !others.is_empty()
    {
        let count = others.len();
        let (noun, verb) = if count == 1 { ("run", "is") } else { ("runs", "are") };
        output::talk(&format!(
            "{count} other {noun} {verb} unfinished; continue with: perennial resume --all"
        ));
    }
}

fn refuse(args: &RunArgs, diagnostics: &[perennial::Diagnostic]) -> i32 {
    for diagnostic in diagnostics {
        output::talk_text(&render(diagnostic, output::talk_colour()));
    }
    output::talk(&format!("error: {} is not valid; nothing was run", args.file.display()));
    exit::INVALID
}
