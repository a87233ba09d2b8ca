use perennial::{
    Config, ResumePipeline, ResumePipelineError, RunId, RunState, Runtime,
    records::{Pipeline, RunError},
};

use super::{
    cancel,
    ended::given_up,
    engine::{self, Signals},
    hint::{self, Hint},
    host,
    lot::{Known, Lot, Member, left_out},
    named::named,
    progress::Shown,
    results::view,
    resumed, runs,
    show::stages,
    stop::interrupted,
    taken,
    tree::with_findings,
};
use crate::{
    args::{DeploymentArgs, ReadingArgs, ResumeArgs, RetryArgs, UnpauseArgs},
    exit::{self, failed, failed_with},
    output,
};

pub(super) async fn resume(args: ResumeArgs, config: Config) -> anyhow::Result<i32> {
    go_on(args, config, Paused::Stays).await
}

/// As [`resume`], of a run that is paused.
pub(super) async fn unpause(args: UnpauseArgs, config: Config) -> anyhow::Result<i32> {
    if let Some(code) = cancel::unpaused_elsewhere(&args).await? {
        return Ok(code);
    }
    let UnpauseArgs { run, engine, store, output } = args;
    let args = ResumeArgs {
        run: Some(run),
        all: false,
        file: None,
        from: None,
        rerun_writes: false,
        reading: ReadingArgs::default(),
        deployment: DeploymentArgs::default(),
        engine,
        store,
        output,
    };
    go_on(args, config, Paused::GoesOn).await
}

/// As [`resume`], of a run that has ended without success.
pub(super) async fn retry(args: RetryArgs, config: Config) -> anyhow::Result<i32> {
    let RetryArgs { run, step, rerun_writes, engine, store, output } = args;
    let named = named(&store.store, &run).await?;
    let hint = Hint::new(&store.store, engine.config.as_deref());
    let view = view(&store.store, &named, &hint).await?;
    let state = view.run.state;
    if !state.is_terminal() {
        let (has_owner, is_alive) = (view.run.owner.is_some(), view.run.owner_alive);
        let standing = runs::state(state, has_owner, is_alive);
        let mut text = format!("run {named} has not ended: it is {standing}");
        if state != RunState::Paused && !is_alive && stages::is_staged(&view) {
            let goes_on = host::goes_on(&view.run.workflow);
            text = format!(
                "{text}, and {goes_on}; what fails of it is made again there once it has ended"
            );
        }
        let id = named.as_str();
        let help = if state == RunState::Paused {
            hint.unpause(id)
        } else if stages::is_staged(&view) || view.run.owner_alive {
            // No command goes on with it here.
            hint.show(id)
        } else {
            hint.resume(id)
        };
        return Err(failed_with(exit::USAGE, text, help));
    }
    if stages::is_staged(&view) {
        return Err(host::refused(&view, &hint));
    }
    let args = ResumeArgs {
        run: Some(run),
        all: false,
        file: None,
        from: step,
        rerun_writes,
        reading: ReadingArgs::default(),
        deployment: DeploymentArgs::default(),
        engine,
        store,
        output,
    };
    go_on(args, config, Paused::Stays).await
}

/// What becomes of a run that is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paused {
    Stays,
    GoesOn,
}

async fn go_on(args: ResumeArgs, config: Config, paused: Paused) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let store = args.store.store.clone().must_exist();
    let named = match &args.run {
        Some(id) => Some(named(&store, id).await?),
        None => None,
    };
    let deployment = args.deployment.over(config.deployment());
    let deployment = deployment.map_err(|error| failed(exit::USAGE, error))?;
    let corrected = match &args.file {
        Some(file) => match resumed::corrected(file, &args.reading, &deployment)? {
            Some(pipeline) => Some(pipeline),
            None => return Ok(exit::INVALID),
        },
        None => None,
    };
    let hint = Hint::new(&store, args.engine.config.as_deref());
    let runtime = engine::start(&store, config, args.engine.show_prompts).await?;
    let shown = Shown { json: args.output.json, quiet: args.engine.quiet };
    let resuming = Resuming { args: &args, corrected, paused, shown };
    let lot = match Box::pin(resumed(&runtime, named, &resuming, &hint)).await {
        Ok(lot) => lot,
        Err(error) => {
            runtime.shutdown().await;
            return Err(error);
        }
    };
    if args.all && !shown.json && !shown.quiet {
        output::talk(&match lot.members().len() {
            0 if lot.lacks_one() => "no run goes on".to_owned(),
            0 => "nothing to resume: every run has ended".to_owned(),
            1 => "1 run goes on".to_owned(),
            count => format!("{count} runs go on"),
        });
    }
    lot.announce(shown);
    lot.mention_waiting(shown).await;
    let lifecycle = runtime.supervision_tree().lifecycle();
    let mut following = std::pin::pin!(lot.follow(shown, &hint));
    let code = tokio::select! {
        biased;
        signal = signals.next() => {
            let stopped = interrupted(runtime, signal, &mut signals, &lot, following, shown, &hint);
            return Ok(Box::pin(stopped).await);
        }
        code = &mut following => code,
        _ = runtime.ended() => Err(given_up(lifecycle, lot.goes_on(&hint))),
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

/// What is asked of each run.
struct Resuming<'a> {
    args: &'a ResumeArgs,
    corrected: Option<Pipeline>,
    paused: Paused,
    shown: Shown,
}

/// The runs that go on, and the first code of those that do not: one that cannot be continued here
/// keeps no other from it.
async fn resumed(
    runtime: &Runtime,
    named: Option<RunId>,
    resuming: &Resuming<'_>,
    hint: &Hint,
) -> anyhow::Result<Lot> {
    if let Some(id) = named {
        return Ok(Lot::new(vec![goes_on(runtime, &id, resuming, hint).await?], exit::COMPLETED));
    }
    let unfinished = runtime.runs().unfinished().await;
    let unfinished = unfinished.map_err(|error| hint::refused(&error, hint))?;
    let (mut members, mut code) = (Vec::new(), exit::COMPLETED);
    for id in unfinished.into_iter().map(|summary| summary.run) {
        match goes_on(runtime, &id, resuming, hint).await {
            Ok(member) => members.push(member),
            Err(error) => {
                let left = left_out(&format!("run {id} is left as it is"), &error);
                code = if code == exit::COMPLETED { left } else { code };
            }
        }
    }
    Ok(Lot::new(members, code))
}

/// Continues one run. One that stays paused is not followed: nothing would come.
async fn goes_on(
    runtime: &Runtime,
    id: &RunId,
    resuming: &Resuming<'_>,
    hint: &Hint,
) -> anyhow::Result<Member> {
    // An earlier command has told what happened before this one.
    let before = async { runtime.runs().get(id).await?.view().await };
    let view = before.await.map_err(|error| hint::refused(&error, hint))?;
    let before = &view.run;
    if resuming.paused == Paused::GoesOn && before.state.is_terminal() {
        if host::has(runtime, id).await {
            return Err(host::refused(&view, hint));
        }
        if before.state.may_reopen() {
            let text = format!("run {id} is not paused: it has ended ({})", before.state);
            return Err(failed_with(exit::USAGE, text, hint.resume(id.as_str())));
        }
        let undone = host::was_undone(before);
        let error = RunError::Ended { run: id.clone(), state: before.state, undone };
        return Err(hint::refused(&error, hint));
    }
    let args = resuming.args;
    let mut asked = ResumePipeline::run(id.clone());
    if let Some(pipeline) = &resuming.corrected {
        asked = asked.checked(pipeline.clone());
    }
    if let Some(step) = &args.from {
        asked = asked.from_step(step);
    }
    if args.rerun_writes {
        asked = asked.rerun_writes();
    }
    let is_told = args.file.is_some() || args.from.is_some();
    let run = match runtime.pipelines().resume_with(asked.clone()).await {
        Ok(run) => run,
        Err(ResumePipelineError::Run(
            RunError::NotRunnable(_) | RunError::Ended { .. } | RunError::Undone { .. },
        )) if host::has(runtime, id).await => return Err(host::refused(&view, hint)),
        Err(error) => {
            // What would become of the steps tells more than the list of those that write.
            if let ResumePipelineError::Rewrites(_) = error
                && let Ok(plan) = runtime.pipelines().plan_resume(&asked).await
            {
                resumed::tell(&plan, resuming.shown);
                if resuming.shown.json {
                    output::json(&resumed::described(id.as_str(), &plan))?;
                }
            }
            return Err(resumed::refused(id, args, error, hint));
        }
    };
    let kept = taken::kept(&view, run.resumed());
    let plan = run.resumed().filter(|_| is_told);
    if let Some(plan) = plan {
        resumed::tell(plan, resuming.shown);
    }
    let plan = plan.map(|plan| resumed::described(id.as_str(), plan));
    resumed::tell_kept(id, &kept, resuming.shown, hint);
    for name in run.changed_secrets() {
        let text = format!("run {id}: the secret {name} is not what it was when the run began");
        output::warning(&text);
    }
    let record = run.view().await.map_err(|error| hint::refused(&error, hint))?.run;
    match (record.state, resuming.paused) {
        (RunState::Paused, Paused::Stays) => {
            let text = format!("run {id} is paused");
            return Err(failed_with(exit::WAITING, text, hint.unpause(id.as_str())));
        }
        (RunState::Paused, Paused::GoesOn) => {
            run.unpause().await.map_err(|error| hint::refused(&error, hint))?;
        }
        (_, Paused::GoesOn) => output::talk(&format!("run {id} is not paused; it goes on")),
        (_, Paused::Stays) => (),
    }
    let file = record.settings.get("file").and_then(|file| file.as_str()).map(str::to_owned);
    let known = Known::Before(before.next_seq);
    Ok(Member { run, workflow: record.workflow, file, known, plan })
}
