use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use perennial::{
    Config, Deployment, Leniency, PipelineRunHandle, Pipelines, ProviderMode, ResumePipeline,
    RunId, Runtime, Severity, StartPipeline, StartPipelineError,
    records::{Input, Pipeline, RunRecord, nearest, render, report_json},
    tools::files::ChosenDirectories,
};
use tokio::runtime::Handle;

use super::{
    detach,
    ended::given_up,
    engine::{self, Signal, Signals},
    hint::{self, Hint, quoted},
    inputs,
    lot::{Known, Lot, Member, left_out},
    progress::Shown,
    rehearsal::rehearse,
    resumed,
    stop::interrupted,
    targets::{self, Targets},
    tree::with_findings,
};
use crate::{
    args::{DirectoryArgs, RunArgs},
    exit::{self, failed, failed_with},
    output::{self, Refusal},
};

pub(super) async fn run(args: RunArgs) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let shown = Shown { json: args.output.json, quiet: args.engine.quiet };
    let hint = Hint::new(&args.store.store, args.engine.config.as_deref());
    let args = Arc::new(args);
    // On a thread of its own: what is read may be a pipe into which nobody writes.
    #[expect(clippy::disallowed_methods, reason = "awaited here, and ended with the process")]
    let preparing = tokio::task::spawn_blocking({
        let (args, hint, executor) = (args.clone(), hint.clone(), Handle::current());
        move || executor.block_on(prepared(&args, shown, &hint))
    });
    let prepared = tokio::select! {
        biased;
        prepared = preparing => prepared?,
        signal = signals.next() => return Ok(before_start(signal)),
    };
    let Prepared { starts, config } = match prepared? {
        Ok(prepared) => prepared,
        Err(code) => return Ok(code),
    };
    if let Some(signal) = signals.so_far().await {
        return Ok(before_start(signal));
    }
    let store = args.store.settled(&config);
    let hint = Hint::new(&store, args.engine.config.as_deref());
    if args.detach {
        return detach::detached(starts, config, (&store, &args), shown, &hint).await;
    }
    let runtime = engine::start(&store, config, args.engine.show_prompts).await?;
    let lot = match started(&runtime, starts, &args, &hint).await {
        Ok(lot) => lot,
        Err(error) => {
            runtime.shutdown().await;
            return Err(error);
        }
    };
    lot.announce(shown);
    lot.mention_waiting(shown).await;
    let lifecycle = runtime.supervision_tree().lifecycle();
    let mut following = std::pin::pin!(lot.follow(shown, &hint));
    let ended = tokio::select! {
        biased;
        signal = signals.next() => {
            let stopped = interrupted(runtime, signal, &mut signals, &lot, following, shown, &hint);
            return Ok(Box::pin(stopped).await);
        }
        ended = &mut following => ended,
        _ = runtime.ended() => Err(given_up(lifecycle, lot.goes_on(&hint))),
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

/// What is to be started.
struct Prepared {
    starts: Vec<(PathBuf, StartPipeline)>,
    config: Config,
}

/// Everything that can be known wrong is known before a store is touched, and of all files: nothing
/// is started when one is not as it should be. Answers the code when all has been said.
async fn prepared(
    args: &RunArgs,
    shown: Shown,
    hint: &Hint,
) -> anyhow::Result<Result<Prepared, i32>> {
    let targets = targets::told_apart(&args.targets)?;
    if args.run_id.is_some() && targets.files.len() > 1 {
        let text = format!("--run-id names one run, and {} files are given", targets.files.len());
        return Err(failed(exit::USAGE, text));
    }
    let leniency = args.reading.leniency().map_err(|error| failed(exit::USAGE, error))?;
    let config = engine::config(args.engine.config.as_deref())?;
    let deployment = args.deployment.over(config.deployment());
    let deployment = deployment.map_err(|error| failed(exit::USAGE, error))?;
    let Some(checked) = checked(&targets.files, args, &leniency, &deployment)? else {
        return Ok(Err(exit::INVALID));
    };
    let starts = described(args, &targets, checked)?;
    if !shown.quiet && !shown.json {
        output::talk(&match args.provider_mode {
            ProviderMode::Mock => "provider mode: mock (answers are made up)".to_owned(),
            ProviderMode::Live => "provider mode: live".to_owned(),
        });
    }
    let several = starts.len() > 1;
    let mut code = None;
    for (file, start) in &starts {
        if let Err(error) = Box::pin(rehearse(start.clone(), config.clone())).await? {
            let refused = refused(args, file, error, hint);
            if !several {
                return Ok(Err(refused?));
            }
            let refused = match refused {
                Ok(code) => code,
                Err(error) => left_out(&file.display().to_string(), &error),
            };
            code.get_or_insert(refused);
        }
    }
    Ok(match code {
        Some(code) => {
            output::talk("nothing was run");
            Err(code)
        }
        None => Ok(Prepared { starts, config }),
    })
}

/// A file that is read once: what was checked is what starts.
struct Valid {
    pipeline: Pipeline,
    inputs: Vec<Input>,
}

/// All files; nothing when one of them is not valid, which has then been said.
fn checked(
    files: &[PathBuf],
    args: &RunArgs,
    leniency: &Leniency,
    deployment: &Deployment,
) -> anyhow::Result<Option<Vec<Valid>>> {
    let (mut valid, mut invalid) = (Vec::new(), false);
    for file in files {
        match Pipelines::check_deployed(file, leniency, deployment) {
            Ok(checked) => {
                let denied = args.reading.deny_warnings && !checked.diagnostics.is_empty();
                match checked.pipeline.filter(|_| !denied) {
                    Some(pipeline) => valid.push(Valid { pipeline, inputs: checked.inputs }),
                    None => {
                        refuse(args, file, &checked.diagnostics);
                        invalid = true;
                    }
                }
            }
            Err(error) if files.len() == 1 => {
                return Err(failed(exit::INVALID, format!("error[PL101]: {error}")));
            }
            Err(error) => {
                output::problem(&format!("error[PL101]: {error}"));
                invalid = true;
            }
        }
    }
    Ok(if invalid { None } else { Some(valid) })
}

/// What the command line asks to start.
fn described(
    args: &RunArgs,
    targets: &Targets,
    checked: Vec<Valid>,
) -> anyhow::Result<Vec<(PathBuf, StartPipeline)>> {
    let pairs: Vec<String> = targets.inputs.iter().chain(&args.inputs).cloned().collect();
    let known: Vec<&[Input]> = checked.iter().map(|valid| valid.inputs.as_slice()).collect();
    let given = inputs::parse(&pairs, &known)?;
    let mocks = match &args.mocks {
        None => None,
        Some(_) if args.provider_mode != ProviderMode::Mock => {
            let text = "--mocks needs --provider-mode mock: live calls are never mocked";
            return Err(failed(exit::USAGE, text));
        }
        Some(path) => {
            let mocks = Pipelines::read_mocks(path);
            Some(mocks.map_err(|error| failed(exit::USAGE, format!("mocks: {error}")))?)
        }
    };
    if let Some(mocks) = &mocks {
        let steps: Vec<String> =
            checked.iter().flat_map(|valid| valid.pipeline.step_paths()).collect();
        for text in strangers(mocks, &steps) {
            output::warning(&text);
        }
    }
    let id = args.run_id.clone().map(RunId::parse).transpose();
    let id = id.map_err(|error| failed(exit::USAGE, error))?;
    let start = |((file, valid), given): ((&PathBuf, Valid), serde_json::Map<_, _>)| {
        let mut start = StartPipeline::checked(valid.pipeline).mode(args.provider_mode);
        start = start.priority(args.priority.unwrap_or_default());
        for (name, value) in given {
            start = start.input(name, value);
        }
        if let Some(mocks) = &mocks {
            start = start.mocks(mocks.clone());
        }
        if let Some(id) = &id {
            start = start.run_id(id.clone());
        }
        (file.clone(), in_directories(start, &args.directories))
    };
    Ok(targets.files.iter().zip(checked).zip(given).map(start).collect())
}

/// What `mocks` say of steps that are not among `steps`, which are paths. A key of `replies` may also be words of a
/// prompt: of those, only what is nearly the name of a step is told.
fn strangers(mocks: &serde_json::Value, steps: &[String]) -> Vec<String> {
    let names = || steps.iter().map(|path| path.rsplit('/').next().unwrap_or(path));
    let is_known =
        |text: &str| steps.iter().any(|path| path == text) || names().any(|name| name == text);
    let near = |text: &str| nearest(text, names().chain(steps.iter().map(String::as_str)));
    let mut told = Vec::new();
    let replies = mocks.get("replies").and_then(|replies| replies.as_object());
    for key in replies.into_iter().flat_map(|replies| replies.keys()) {
        if let Some(near) = near(key).filter(|_| !is_known(key)) {
            told.push(format!(
                "mocks: `{key}` is no step, and is looked for in prompts; did you mean `{near}`?"
            ));
        }
    }
    let rules = mocks.get("rules").and_then(|rules| rules.as_array());
    for rule in rules.into_iter().flatten() {
        for text in ["path", "step"].into_iter().filter_map(|key| rule.get(key)?.as_str()) {
            if !is_known(text) {
                let hint = near(text).map(|near| format!("; did you mean `{near}`?"));
                let hint = hint.unwrap_or_default();
                told.push(format!("mocks: no step is called `{text}`: its rule is not used{hint}"));
            }
        }
    }
    told
}

/// Starts all of them. What the store or the engine refuses keeps no other from running.
async fn started(
    runtime: &Runtime,
    starts: Vec<(PathBuf, StartPipeline)>,
    args: &RunArgs,
    hint: &Hint,
) -> anyhow::Result<Lot> {
    let several = starts.len() > 1;
    let (mut members, mut code) = (Vec::new(), exit::COMPLETED);
    for (file, start) in starts {
        let mut known = known(runtime, args.run_id.as_deref()).await;
        let mut plan = None;
        let started = match goes_on_with(runtime, (&file, &start), args, hint).await {
            Ok(Some((run, before, told))) => {
                known = Known::Before(before);
                plan = told;
                Ok(run)
            }
            Ok(None) => runtime.pipelines().start(start).await,
            Err(error) if !several => return Err(error),
            // The others run, those that were started before as well.
            Err(error) => {
                let refused = left_out(&file.display().to_string(), &error);
                code = if code == exit::COMPLETED { refused } else { code };
                continue;
            }
        };
        let run = match started {
            Ok(run) => run,
            Err(error) => {
                let refused = match refused(args, &file, error, hint) {
                    // It has been said; the file changed since it was checked.
                    Ok(code) => code,
                    Err(error) if !several => return Err(error),
                    Err(error) => left_out(&file.display().to_string(), &error),
                };
                code = if code == exit::COMPLETED { refused } else { code };
                continue;
            }
        };
        for name in run.short_secrets() {
            output::warning(&format!(
                "the secret {name} is shorter than 8 bytes: where a text is nothing else it is kept out of \
                 records, and inside of longer texts it is not found"
            ));
        }
        let view = run.view().await.map_err(|error| hint::refused(&error, hint))?;
        tell_kept(&view.run, args, hint);
        let file = Some(file.display().to_string());
        members.push(Member { run, workflow: view.run.workflow, file, known, plan });
    }
    Ok(Lot::new(members, code))
}

/// A run that was started before has the priority that it has.
pub(super) fn tell_kept(run: &RunRecord, args: &RunArgs, hint: &Hint) {
    let (id, has) = (&run.run, run.priority);
    if let Some(asked) = args.priority.filter(|asked| *asked != has) {
        let more = match run.state.is_terminal() {
            true => String::new(),
            false => format!("; change it with: {}", hint.priority(id.as_str(), asked)),
        };
        output::warning(&format!(
            "run {id} was started before, and keeps its priority {has}{more}"
        ));
    }
}

/// The unfinished run that the document has resumed instead of started (YR-56), its first event from
/// now on, and what programs are told of its steps.
async fn goes_on_with(
    runtime: &Runtime,
    (file, start): (&Path, &StartPipeline),
    args: &RunArgs,
    hint: &Hint,
) -> anyhow::Result<Option<(PipelineRunHandle, u64, Option<serde_json::Value>)>> {
    if args.fresh || args.run_id.is_some() {
        return Ok(None);
    }
    let id = match runtime.pipelines().resumable(start).await {
        Ok(Some(id)) => id,
        Ok(None) => return Ok(None),
        Err(StartPipelineError::Run(error)) => return Err(hint::refused(&error, hint)),
        // What is wrong with the start, the start says.
        Err(_) => return Ok(None),
    };
    let before = async { runtime.runs().get(&id).await?.view().await };
    let before = before.await.map_err(|error| hint::refused(&error, hint))?.run;
    let shown = Shown { json: args.output.json, quiet: args.engine.quiet };
    let asked = ResumePipeline::run(id.clone()).as_start(start);
    let run = match runtime.pipelines().resume_with(asked).await {
        Ok(run) => run,
        Err(error) => return Err(resumed::refused_at_start(&id, file, error, hint)),
    };
    if !shown.json && !shown.quiet {
        let status = before.state.status();
        output::talk(&format!("resuming run {id} ({status}); --fresh starts a new one"));
    }
    if let Some(plan) = run.resumed().filter(|plan| !plan.keeps_all()) {
        resumed::tell(plan, shown);
    }
    let plan = run.resumed().map(|plan| resumed::described(id.as_str(), plan));
    Ok(Some((run, before.next_seq, plan)))
}

/// What is known of the run of this id before it is started.
async fn known(runtime: &Runtime, id: Option<&str>) -> Known {
    let Some(id) = id.and_then(|id| RunId::parse(id).ok()) else { return Known::Nothing };
    // Whatever is wrong with it, the start says.
    let read = async { runtime.runs().get(&id).await?.view().await };
    match read.await {
        Ok(view) if view.run.state.is_terminal() => Known::All,
        Ok(_) | Err(_) => Known::Nothing,
    }
}

/// A signal that came before anything was started.
fn before_start(signal: Signal) -> i32 {
    output::talk("stopped; nothing was started");
    signal.code()
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
    if let Some(path) = &args.nested_workspace_root {
        start = start.nested_workspace_root(path);
    }
    if let Some(path) = &args.project_root {
        start = start.project_root(path);
    }
    if args.allow_unrestricted_files {
        start = start.allow_unrestricted_files();
    }
    args.allowed.iter().fold(start, StartPipeline::allow_path)
}

/// Why nothing was started.
pub(super) fn refused(
    args: &RunArgs,
    file: &Path,
    error: StartPipelineError,
    hint: &Hint,
) -> anyhow::Result<i32> {
    let code = exit::of_start(&error);
    match error {
        StartPipelineError::Invalid(diagnostics) => {
            refuse(args, file, &diagnostics);
            Ok(exit::INVALID)
        }
        StartPipelineError::Run(error) => Err(hint::refused(&error, hint)),
        StartPipelineError::Preflight(reasons) => {
            let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            Err(failed(code, lines.join("\nerror: ")))
        }
        StartPipelineError::Inputs(errors) if !errors.missing.is_empty() => {
            let missing: Vec<String> =
                errors.missing.iter().map(|name| quoted(&format!("{name}=VALUE"))).collect();
            let file = quoted(&file.display().to_string());
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

fn refuse(args: &RunArgs, file: &Path, diagnostics: &[perennial::Diagnostic]) {
    for diagnostic in diagnostics {
        output::talk_text(&render(diagnostic, args.output.color.on(&std::io::stderr())));
    }
    let is_valid = diagnostics.iter().all(|one| one.severity != Severity::Error);
    let why = if is_valid { "has findings, which --deny-warnings refuses" } else { "is not valid" };
    let text = format!("{} {why}; nothing was run", file.display());
    output::talk(&format!("error: {text}"));
    if args.output.json {
        let report = report_json(&file.display().to_string(), diagnostics, &[]);
        output::refusal(&Refusal {
            text: &text,
            file: Some(file),
            diagnostics: report.get("diagnostics").cloned(),
            help: None,
            code: exit::INVALID,
        });
    }
}
