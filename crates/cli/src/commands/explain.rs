use std::{path::Path, time::Duration};

use perennial::{
    DefinitionError, RunId, RunState, Store, StoreError,
    engine::WaitDefault,
    records::{
        JobKind, JobRecord, JobState, RunError, RunView, StepExplanation, Turn, WaitKind,
        WaitRecord,
    },
};
use serde_json::{Value, json};

use super::{
    check::tries,
    engine,
    graph::checked,
    hint::{self, Hint},
    host::{self, is_of_a_host},
    named::named,
    runs,
    show::stages,
    why,
};
use crate::{
    args::ExplainArgs,
    exit::{self, failed, failed_with},
    output,
};

pub(super) async fn explain(args: ExplainArgs) -> anyhow::Result<i32> {
    if let Some(step) = &args.step {
        let file = Path::new(&args.what);
        let id = args.what.to_str().filter(|id| RunId::parse(*id).is_ok());
        if let (Some(typed), false, None) = (id, file.is_file(), file.extension()) {
            return why::explain(typed, step, &args).await;
        }
        let pipeline = checked(file)?;
        let Some(explained) = pipeline.explain(step) else {
            let names = pipeline.step_paths();
            let text = format!("no step `{step}`; the steps are: {}", names.join(", "));
            return Err(failed(exit::NOT_FOUND, text));
        };
        if args.output.json {
            output::json(&serde_json::to_value(&explained)?)?;
        } else {
            print_step(&explained)?;
        }
        return Ok(exit::COMPLETED);
    }
    let Some(typed) = args.what.to_str().filter(|id| RunId::parse(*id).is_ok()) else {
        let text = format!("{} cannot name a run", args.what.display());
        return Err(failed(exit::USAGE, text));
    };
    if Path::new(&args.what).is_file() {
        let help = format!("perennial explain {} STEP", args.what.display());
        return Err(failed_with(exit::USAGE, "a file is explained step by step", help));
    }
    let run = named(&args.store.store, typed).await?;
    let hint = Hint::new(&args.store.store, None);
    let (view, blocked) = read(&args.store.store, &run, &hint).await?;
    let waits = waits(&view, blocked.as_ref());
    let state = view.run.state;
    let (has_owner, owner_alive) = (view.run.owner.is_some(), view.run.owner_alive);
    if args.output.json {
        output::json(&json!({
            "run": run,
            "workflow": view.run.workflow,
            "state": state,
            "standing": runs::standing(state, has_owner, owner_alive),
            "error": view.run.failure,
            "owner": view.run.owner,
            "owner_alive": view.run.owner_alive,
            "waits_for": waits,
        }))?;
        return Ok(exit::COMPLETED);
    }
    let words = runs::state(state, has_owner, owner_alive);
    output::line(&format!("run {run} of {} is {words}", view.run.workflow))?;
    if let Some(failure) = &view.run.failure
        && let Some(message) = failure.get("message").and_then(Value::as_str)
    {
        let step = failure.get("step").and_then(Value::as_str);
        let step = step.map(|step| format!("step {step} failed: ")).unwrap_or_default();
        output::line(&format!("  {step}{}", output::brief(&json!(message), 200)))?;
    }
    for (place, undone) in stages::undone(&view.run).iter().enumerate() {
        let name = if place == 0 { "undone:" } else { "" };
        output::line(&format!("  {name:7} {undone}"))?;
    }
    for wait in &waits {
        output::line(&format!("  {}", wait["text"].as_str().unwrap_or_default()))?;
    }
    for (verb, name) in open_waits(&view) {
        output::talk(&format!("help: {}", hint.send(verb, run.as_str(), name)));
    }
    if !state.is_terminal() && !view.run.owner_alive {
        output::line("  nobody runs it now")?;
        let paused = state == RunState::Paused;
        let help = match (&blocked, paused) {
            (Some(Blocked::OfAHost), false) => None,
            (Some(Blocked::Unreadable(_)), _) => Some(hint.resume(&format!("{run} --file FILE"))),
            (Some(Blocked::OfAHost) | None, true) => Some(hint.unpause(run.as_str())),
            (None, false) => Some(hint.resume(run.as_str())),
        };
        if let Some(help) = help {
            output::talk(&format!("help: {help}"));
        }
    }
    Ok(exit::COMPLETED)
}

fn print_step(step: &StepExplanation) -> anyhow::Result<()> {
    let place = format!("{} of {}", step.place, step.of);
    output::line(&format!("step       {} ({}, {place})", step.step, step.type_name))?;
    if let Some(location) = &step.location {
        output::line(&format!("stands at  {location}"))?;
    }
    if let Some(condition) = &step.condition {
        output::line(&format!("runs if    {condition}"))?;
    }
    for reads in &step.reads {
        let from = reads.from_step.as_ref().map(|from| format!(" (from step {from})"));
        output::line(&format!("reads      {}{}", reads.path, from.unwrap_or_default()))?;
    }
    if let Some(files) = &step.files {
        output::line(&format!("does       {}", files.operation))?;
        for (name, value) in files.arguments.as_object().into_iter().flatten() {
            output::line(&format!("{name:<10} {}", output::brief(value, 120)))?;
        }
    }
    if let Some(call) = &step.call {
        let model = call.model.as_deref().unwrap_or("the configured model");
        output::line(&format!("asks       {} ({model})", call.provider))?;
        let most = call.max_input.map(|most| format!("; at most about {most} tokens"));
        let empty = if call.allows_empty { "; sent when it is empty, too" } else { "" };
        let parts = call.parts.join(", ");
        output::line(&format!("prompt     {parts}{}{empty}", most.unwrap_or_default()))?;
        for stop in &call.stops {
            output::line(&format!("ends at    {}", output::brief(&json!(stop), 120)))?;
        }
        let within = output::took(Duration::from_millis(call.within_ms));
        output::line(&format!("a call     at most {within}"))?;
    }
    if let Some(child) = &step.child_later {
        output::line(&format!("child      {child}"))?;
    }
    if let Some(value) = &step.value {
        let schema = match &value.name {
            Some(name) => format!("schema {name}"),
            None => output::brief(&value.schema, 120),
        };
        output::line(&format!("satisfies  {schema}"))?;
        if let Some(repairs) = value.repairs_max {
            let noun = if repairs == 1 { "call" } else { "calls" };
            output::line(&format!("repairs    at most {repairs} further {noun}"))?;
        }
    }
    let tries = tries(step.attempts_max, step.attempt_within_ms, step.child_within_ms);
    let all = step.call.as_ref().map_or("", |_| ", all its calls and pauses together");
    output::line(&format!("tries      {tries}{all}"))?;
    let failed = match (step.on_error.as_slice(), step.continue_on_error) {
        ([], true) => "the run goes on".to_owned(),
        ([], false) => "the run fails".to_owned(),
        (steps, _) => format!("its handler runs: {}", steps.join(", ")),
    };
    output::line(&format!("on failure {failed}"))?;
    output::line(&format!("gives      {}", step.gives.join(", ")))
}

/// Why this command cannot go on with a run.
enum Blocked {
    /// It has no definition of the language: a host program knows what its jobs do.
    OfAHost,
    /// This build cannot read what is recorded of it.
    Unreadable(String),
}

/// A run, and why this command cannot go on with it, if it cannot.
async fn read(
    store: &Store,
    run: &RunId,
    hint: &Hint,
) -> anyhow::Result<(RunView, Option<Blocked>)> {
    let runtime = engine::start_reading(store).await?;
    let read = async {
        let view = runtime.runs().get(run).await?.view().await?;
        if view.run.state.is_terminal() {
            return Ok((view, None));
        }
        match runtime.pipelines().definition(run).await {
            Ok(_) => Ok((view, None)),
            Err(DefinitionError::Run(RunError::Store(error @ StoreError::Unreadable { .. }))) => {
                Ok((view, Some(Blocked::Unreadable(error.to_string()))))
            }
            Err(DefinitionError::Run(error)) => Err(error),
            Err(error) if is_of_a_host(&error) => Ok((view, Some(Blocked::OfAHost))),
            Err(error @ (DefinitionError::Invalid(_) | _)) => {
                Ok((view, Some(Blocked::Unreadable(error.to_string()))))
            }
        }
    };
    let read: Result<_, RunError> = read.await;
    runtime.shutdown().await;
    read.map_err(|error| hint::refused(&error, hint))
}

/// What a run waits for, one entry a step; before that what keeps all of it from going on.
fn waits(view: &RunView, blocked: Option<&Blocked>) -> Vec<Value> {
    if view.run.state.is_terminal() {
        return Vec::new();
    }
    let open = view.jobs.iter().filter(|job| !job.state.is_terminal());
    let mut waits: Vec<Value> = open.map(|job| wait(view, job)).collect();
    if view.run.state == RunState::Paused {
        let text = "it is paused: nothing starts until it is let go on";
        waits.insert(0, json!({ "why": "paused", "text": text }));
    }
    match blocked {
        None => (),
        // Whoever works on it has its workflow.
        Some(Blocked::OfAHost) if view.run.owner_alive => (),
        Some(Blocked::OfAHost) => {
            let text = host::goes_on(&view.run.workflow);
            waits.push(json!({ "why": "host", "text": text }));
        }
        Some(Blocked::Unreadable(why)) => {
            let text = format!(
                "it is blocked here: {why}. Nothing of it is lost: it goes on in a build that knows it, or by a \
                 corrected file"
            );
            waits.insert(0, json!({ "why": "blocked", "text": text }));
        }
    }
    let is_queued = view.run.owner.is_none() && view.run.state != RunState::Paused;
    if is_queued && blocked.is_none() {
        // What other processes have left it for is known to them alone.
        let text = "a worker takes it; one that lacks something for it (a secret, a key) leaves it, and says so in \
                    its log";
        waits.push(json!({ "why": "queued", "text": text }));
    }
    if waits.is_empty() {
        let text = "the next step has not been decided yet";
        waits.push(json!({ "why": "decision", "text": text }));
    }
    waits
}

/// A group waits for its children.
fn joining(view: &RunView, job: &JobRecord) -> (&'static str, String) {
    let children = view.jobs.iter().filter(|it| it.parent.as_ref() == Some(&job.key));
    let open = children.clone().filter(|it| !it.state.is_terminal()).count();
    let (have, children) = (why::have(open), children.count());
    ("joining", format!("group {}: {open} of its {children} children {have} not ended", job.key))
}

fn wait(view: &RunView, job: &JobRecord) -> Value {
    let last = view.attempts.iter().rfind(|attempt| attempt.job == job.id);
    let wait = view.waits.iter().find(|wait| wait.job == job.id);
    let wait = wait.filter(|_| job.state == JobState::Suspended);
    let due = job.run_after.or_else(|| job.deferral.as_ref().map(|deferral| deferral.wake_at));
    let until = due.map(|at| at.to_rfc3339());
    let (why, text) = match (job.state, &until) {
        (JobState::Leased, _) if job.lease_alive => {
            let since = last.map(|attempt| attempt.claimed_at.to_rfc3339()).unwrap_or_default();
            ("running", format!("step {}: attempt {} runs since {since}", job.key, job.attempt))
        }
        (JobState::Leased, _) => {
            let text = format!("step {}: the process of attempt {} died", job.key, job.attempt);
            ("interrupted", text)
        }
        (JobState::Deferred, _) if waits_for_turn(job) => ("turn", deferred(job)),
        (JobState::Deferred, _) => ("unavailable", deferred(job)),
        (JobState::Suspended, _) => suspended(wait, job),
        (JobState::Joining, _) => joining(view, job),
        (JobState::Blocked, _) => {
            let text = format!(
                "step {}: needs what has not ended; `explain {} {}` says what",
                job.key, view.run.run, job.key
            );
            ("dependency", text)
        }
        (JobState::Ready, _) if is_full(view, job) => {
            ("place", format!("step {}: waits for a place of its stage", job.key))
        }
        (_, Some(at)) => {
            let why = last.and_then(|attempt| attempt.message.as_deref());
            let text = match why.map(|why| output::cut(why, 120)) {
                Some(why) => format!("step {}: is tried again not before {at}: {why}", job.key),
                // It has waited, and did not fail.
                None => format!("step {}: begins not before {at}", job.key),
            };
            ("retry", text)
        }
        (_, None) => ("ready", format!("step {}: is due", job.key)),
    };
    json!({
        "step": job.key,
        "why": why,
        "state": job.state,
        "attempt": job.attempt,
        "attempts_used": job.attempts_used,
        "attempts_max": job.max_attempts,
        "not_before": until,
        "until": wait
            .map(|wait| wait.wait.until)
            .or_else(|| job.deferral.as_ref().map(|deferral| deferral.until))
            .map(|at| at.to_rfc3339()),
        "then": wait
            .map(|wait| wait.wait.or.name())
            .or_else(|| job.deferral.as_ref().map(|deferral| deferral.then.name())),
        "name": wait.map(|wait| &wait.wait.name),
        "about": wait.map(|wait| &wait.wait.about),
        "last_failure": last.and_then(|attempt| attempt.message.clone()),
        "text": text,
    })
}

/// Whether it takes a place of its stage, and all are taken.
fn is_full(view: &RunView, job: &JobRecord) -> bool {
    let takes_place = |job: &JobRecord| job.parent.is_none() && job.kind != JobKind::Step;
    let most = view.stages.iter().find(|it| it.stage == job.stage).and_then(|it| it.concurrency);
    let holds = |it: &&JobRecord| {
        let held = matches!(it.state, JobState::Leased | JobState::Joining);
        held && it.stage == job.stage && takes_place(it)
    };
    takes_place(job)
        && most.is_some_and(|most| view.jobs.iter().filter(holds).count() >= most as usize)
}

/// Whether as many jobs with its key are under way, in whatever runs, as may be.
pub(super) fn waits_for_turn(job: &JobRecord) -> bool {
    job.keyed.as_ref().is_some_and(|keyed| keyed.turn == Turn::Waits)
}

fn deferred(job: &JobRecord) -> String {
    let Some(deferral) = &job.deferral else { return format!("step {}: is deferred", job.key) };
    if waits_for_turn(job) {
        let holder = job.keyed.as_ref().and_then(|keyed| keyed.held_by.as_ref());
        let holder = holder.map(|it| format!("; {it} has it")).unwrap_or_default();
        return format!("step {}: waits for {}{holder}", job.key, deferral.cause);
    }
    format!(
        "step {}: waits for `{}`, which is not available; it looks again at {}, and {}s at {}",
        job.key,
        output::brief(&json!(deferral.cause), 120),
        deferral.wake_at.to_rfc3339(),
        deferral.then,
        deferral.until.to_rfc3339()
    )
}

/// What a suspended step waits for, in one word and in words.
fn suspended(wait: Option<&WaitRecord>, job: &JobRecord) -> (&'static str, String) {
    let Some(WaitRecord { wait, .. }) = wait else {
        return ("suspended", format!("step {}: is suspended", job.key));
    };
    let (key, until) = (&job.key, wait.until.to_rfc3339());
    let default = match wait.or {
        WaitDefault::Resume(_) => "goes on with its default",
        WaitDefault::Skip => "is skipped",
        WaitDefault::Fail => "fails",
    };
    let name = format!("`{}`", output::brief(&json!(wait.name), 120));
    match wait.kind {
        WaitKind::Timer => ("timer", format!("step {key}: waits until {until} ({name})")),
        WaitKind::Signal => (
            "signal",
            format!("step {key}: waits for the signal {name} until {until}, then it {default}"),
        ),
        WaitKind::Answer => {
            let asked = output::brief(&wait.about, 200);
            let text = format!("step {key}: asks {name} until {until}, then it {default}: {asked}");
            ("answer", text)
        }
    }
}

/// The verb that ends each open wait, and its name.
fn open_waits(view: &RunView) -> impl Iterator<Item = (&'static str, &str)> {
    let open = view.waits.iter().filter(|wait| wait.ended.is_none());
    open.filter_map(|wait| match wait.wait.kind {
        WaitKind::Signal => Some(("signal", wait.wait.name.as_str())),
        WaitKind::Answer => Some(("answer", wait.wait.name.as_str())),
        WaitKind::Timer => None,
    })
}
