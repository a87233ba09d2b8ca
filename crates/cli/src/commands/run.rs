use perennial::{
    PipelineRunHandle, Pipelines, ProviderMode, RunId, StartPipeline, StartPipelineError,
    records::{Input, render},
    tools::files::ChosenDirectories,
};

use super::{
    engine::{self, Signals},
    hint::{self, Hint, quoted},
    inputs,
    progress::{self, Shown},
    rehearsal::rehearse,
    tree::with_findings,
};
use crate::{
    args::{DirectoryArgs, RunArgs},
    exit::{self, failed, failed_with},
    output,
};

pub(super) async fn run(args: RunArgs) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let shown = Shown { json: args.output.json, quiet: args.engine.quiet, several: false };
    // Everything that can be known wrong is known before a store is touched.
    let leniency = args.reading.leniency().map_err(|error| failed(exit::USAGE, error))?;
    let checked = Pipelines::check_with(&args.file, &leniency)
        .map_err(|error| failed(exit::INVALID, format!("error[PL101]: {error}")))?;
    let denied = args.reading.deny_warnings && !checked.diagnostics.is_empty();
    if checked.pipeline.is_none() || denied {
        return Ok(refuse(&args, &checked.diagnostics));
    }
    let start = described(&args, &checked.inputs)?.lenient(leniency);
    let config = engine::config(args.engine.config.as_deref())?;
    let hint = Hint::new(&args.store.store, args.engine.config.as_deref());
    if !shown.quiet && !shown.json {
        output::talk(&match args.provider_mode {
            ProviderMode::Mock => "provider mode: mock (answers are made up)".to_owned(),
            ProviderMode::Live => "provider mode: live".to_owned(),
        });
    }
    if let Err(error) = Box::pin(rehearse(start.clone(), config.clone())).await? {
        return refused(&args, error, &hint);
    }
    let runtime = engine::start(&args.store.store, config, args.engine.show_prompts).await?;
    let handle = match runtime.pipelines().start(start).await {
        Ok(handle) => handle,
        Err(error) => {
            runtime.shutdown().await;
            return refused(&args, error, &hint);
        }
    };
    if !shown.quiet && !shown.json {
        output::talk(&format!("run {}", handle.id()));
    }
    let runs = [handle];
    let ended = tokio::select! {
        biased;
        signal = signals.next() => {
            return Ok(engine::interrupted(runtime, signal, &mut signals, &runs, &hint).await);
        }
        ended = follow(&runs[0], shown, &hint) => ended,
    };
    if ended.is_ok() {
        mention_others(&runtime, shown, &hint).await;
    }
    let code = ended.and_then(|code| {
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

/// What the command line asks to start.
fn described(args: &RunArgs, inputs: &[Input]) -> anyhow::Result<StartPipeline> {
    let pairs: Vec<String> = args.values.iter().chain(&args.inputs).cloned().collect();
    let mut start = StartPipeline::file(&args.file).mode(args.provider_mode);
    for (name, value) in inputs::parse(&pairs, inputs)? {
        start = start.input(name, value);
    }
    if let Some(path) = &args.mocks {
        if args.provider_mode != ProviderMode::Mock {
            let text = "--mocks needs --provider-mode mock: live calls are never mocked";
            return Err(failed(exit::USAGE, text));
        }
        let mocks = Pipelines::read_mocks(path);
        start = start.mocks(mocks.map_err(|error| failed(exit::USAGE, format!("mocks: {error}")))?);
    }
    start = in_directories(start, &args.directories);
    if let Some(id) = &args.run_id {
        let id = RunId::parse(id.clone()).map_err(|error| failed(exit::USAGE, error))?;
        start = start.run_id(id);
    }
    Ok(start)
}

/// The directories that the command line and the environment name.
fn in_directories(mut start: StartPipeline, args: &DirectoryArgs) -> StartPipeline {
    let environment = ChosenDirectories::from_environment(|name| std::env::var(name).ok());
    start = start.fallback_directories(environment);
    if let Some(path) = &args.workspace_dir {
        start = start.workspace_dir(path);
    }
    if let Some(path) = &args.output_dir {
        start = start.output_dir(path);
    }
    if let Some(path) = &args.checkpoint_dir {
        start = start.checkpoint_dir(path);
    }
    if let Some(path) = &args.project_root {
        start = start.project_root(path);
    }
    args.allowed.iter().fold(start, StartPipeline::allow_path)
}

/// Follows the run to its end and says how it went.
async fn follow(run: &PipelineRunHandle, shown: Shown, hint: &Hint) -> anyhow::Result<i32> {
    let outcome = progress::follow(run, shown).await?;
    let outcome = outcome.map_err(|error| hint::refused(&error, hint))?;
    progress::conclude(&outcome, shown, hint)?;
    Ok(exit::of_state(outcome.state()))
}

/// Why nothing was started.
fn refused(args: &RunArgs, error: StartPipelineError, hint: &Hint) -> anyhow::Result<i32> {
    let code = exit::of_start(&error);
    match error {
        StartPipelineError::Invalid(diagnostics) => Ok(refuse(args, &diagnostics)),
        StartPipelineError::Run(error) => Err(hint::refused(&error, hint)),
        StartPipelineError::Preflight(reasons) => {
            let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            Err(failed(code, lines.join("\nerror: ")))
        }
        StartPipelineError::Inputs(errors) if !errors.missing.is_empty() => {
            let missing: Vec<String> =
                errors.missing.iter().map(|name| quoted(&format!("{name}=VALUE"))).collect();
            let file = quoted(&args.file.display().to_string());
            let help = format!("perennial run {file} {}", missing.join(" "));
            Err(failed_with(code, errors, help))
        }
        StartPipelineError::Mocks(error) => Err(failed(code, format!("mocks: {error}"))),
        StartPipelineError::Source(_)
        | StartPipelineError::Inputs(_)
        | StartPipelineError::Store(_)
        | _ => Err(failed(code, error)),
    }
}

/// A command works only on what it was told; it says what else is waiting (YR-56).
async fn mention_others(runtime: &perennial::Runtime, shown: Shown, hint: &Hint) {
    if shown.quiet || shown.json {
        return;
    }
    // Only a remark: a store that cannot be read now has said so elsewhere.
    if let Ok(others) = runtime.runs().unfinished().await
        && !others.is_empty()
    {
        let count = others.len();
        let (noun, verb) = if count == 1 { ("run", "is") } else { ("runs", "are") };
        let command = hint.resume("--all");
        output::talk(&format!("{count} other {noun} {verb} unfinished; continue with: {command}"));
    }
}

fn refuse(args: &RunArgs, diagnostics: &[perennial::Diagnostic]) -> i32 {
    for diagnostic in diagnostics {
        output::talk_text(&render(diagnostic, args.output.color.on(&std::io::stderr())));
    }
    output::talk(&format!("error: {} is not valid; nothing was run", args.file.display()));
    exit::INVALID
}
