pub(super) mod stages;

use std::collections::HashMap;

use perennial::{
    Config, DefinitionError, RunId, RunState, Runtime, ThresholdSetting,
    engine::{Priority, workflow::JobKey},
    records::{
        AttemptRecord, BeatRecord, CallRecord, JobRecord, JobState, Performance, RunError,
        RunRecord, RunView, Timestamp,
    },
};
use serde_json::{Map, Value, json};

use self::stages::Part;
use super::{
    engine,
    hint::{self, Hint},
    host,
    named::named,
    progress, runs, spending,
    steps::{self, Row},
    taken::{self, Taken, taken},
    trace,
};
use crate::{args::ShowArgs, exit, output};

/// Characters of a step's name for which room is kept.
const STEP_MAX: usize = 32;

pub(super) async fn show(args: ShowArgs, config: Config) -> anyhow::Result<i32> {
    let run = named(&args.store.store, &args.run).await?;
    let hint = Hint::new(&args.store.store, None);
    let runtime = engine::start_reading(&args.store.store).await?;
    if args.trace {
        let trace = runtime.pipelines().trace(&run).await;
        runtime.shutdown().await;
        let trace = trace.map_err(|error| hint::refused(&error, &hint))?;
        if args.output.json {
            output::json(&serde_json::to_value(&trace)?)?;
        } else {
            trace::print(&trace)?;
        }
        return Ok(exit::COMPLETED);
    }
    let read = read(&runtime, &run, &config).await;
    runtime.shutdown().await;
    let mut found = read.map_err(|error| hint::refused(&error, &hint))?;
    found.configured_in = args.config.map(|path| path.display().to_string());
    if args.output.json {
        output::json(&described(&found))?
    } else {
        print(&found, &hint)?
    }
    Ok(exit::COMPLETED)
}

/// What is shown of a run.
struct Found {
    view: RunView,
    performance: Performance,
    /// What its steps warned of, by job: each said once, however many attempts did.
    warnings: HashMap<JobKey, Vec<String>>,
    /// Types of its steps by the names that lead to them; none where this version cannot read them.
    types: HashMap<String, String>,
    /// Whether no command can go on with it.
    is_of_a_host: bool,
    thresholds: [ThresholdSetting; 4],
    /// The file that sets some of them.
    configured_in: Option<String>,
}

async fn read(runtime: &Runtime, run: &RunId, config: &Config) -> Result<Found, RunError> {
    let handle = runtime.runs().get(run).await?;
    let mut warnings: HashMap<JobKey, Vec<String>> = HashMap::new();
    for event in handle.events(1).rest().await? {
        let (Some(job), "step_warning") = (event.job, event.kind.as_str()) else { continue };
        // What opens a scope is shown with the step whose scope it is.
        let job = JobKey::new(job.as_str().trim_start_matches('#'));
        let told = warnings.entry(job).or_default();
        for text in event.data["warnings"].as_array().into_iter().flatten() {
            let text = text.as_str().unwrap_or_default().to_owned();
            if !told.contains(&text) {
                told.push(text);
            }
        }
    }
    let view = handle.view().await?;
    let (types, is_of_a_host) = match runtime.pipelines().definition(run).await {
        Ok(pipeline) => (pipeline.types(), false),
        Err(DefinitionError::Run(error)) => return Err(error),
        Err(error @ (DefinitionError::Invalid(_) | _)) => {
            (HashMap::new(), host::is_of_a_host(&error))
        }
    };
    let performance = handle.performance(&config.thresholds()).await?.typed(&types);
    let thresholds = config.threshold_settings();
    let configured_in = None;
    Ok(Found { view, performance, warnings, types, is_of_a_host, thresholds, configured_in })
}

/// What an attempt has said last of how far it is.
fn beat<'a>(view: &'a RunView, attempt: &AttemptRecord) -> Option<&'a BeatRecord> {
    view.beats.iter().find(|beat| beat.job == attempt.job && beat.attempt == attempt.attempt)
}

fn attempts<'a>(view: &'a RunView, job: &JobRecord) -> impl Iterator<Item = &'a AttemptRecord> {
    let id = job.id;
    view.attempts.iter().filter(move |attempt| attempt.job == id)
}

fn calls<'a>(view: &'a RunView, job: &JobRecord) -> impl Iterator<Item = &'a CallRecord> {
    let id = job.id;
    view.calls.iter().filter(move |call| call.job == id)
}

fn rfc(at: Option<Timestamp>) -> Value {
    json!(at.map(Timestamp::to_rfc3339))
}

/// The run as one JSON value.
fn described(found: &Found) -> Value {
    let Found { view, performance, warnings, types, is_of_a_host: _, thresholds, configured_in } =
        found;
    let run = &view.run;
    let threshold = |setting: &ThresholdSetting| {
        let set_in = configured_in.as_ref().filter(|_| setting.is_set);
        let told = json!({"value": setting.value, "unit": setting.unit, "set_in": set_in});
        (setting.name.to_owned(), told)
    };
    let attempt = |attempt: &AttemptRecord| {
        json!({
            "attempt": attempt.attempt,
            "node": attempt.node,
            "claimed_at": attempt.claimed_at.to_rfc3339(),
            "ended_at": rfc(attempt.ended_at),
            "end": attempt.end,
            "class": attempt.class,
            "code": attempt.code,
            "message": attempt.message,
            "uncertain": attempt.uncertain,
            "progress": beat(view, attempt).map(|beat| &beat.progress),
            "heartbeat_at": beat(view, attempt).map(|beat| beat.at.to_rfc3339()),
        })
    };
    let call = |call: &CallRecord| {
        json!({
            "name": call.name,
            "attempt": call.attempt,
            "idempotency_key": call.idempotency_key,
            "begun_at": call.begun_at.to_rfc3339(),
            "recorded_at": rfc(call.recorded_at),
        })
    };
    let taken = taken(view);
    let steps: Vec<Value> = steps::rows(view)
        .into_iter()
        .map(|row| {
            let job = row.job;
            let file = taken.get(job.key.as_str().trim_start_matches('#'));
            json!({
                "step": job.key,
                "name": job.key.step_name(),
                "type": types.get(&job.key.names().join("/")),
                "depth": job.key.depth(),
                "stage": job.stage,
                "kind": job.kind,
                "parent": job.parent,
                "state": row.state().to_string(),
                "skipped": job.skipped,
                "waits_for": job.deferral,
                "attempts": attempts(view, job).map(attempt).collect::<Vec<_>>(),
                "calls": calls(view, job).map(call).collect::<Vec<_>>(),
                "warnings": warnings.get(&job.key).map(Vec::as_slice).unwrap_or_default(),
                "result": row.result(),
                "file": file.map(Taken::file),
                "file_changed": file.and_then(Taken::has_changed),
            })
        })
        .collect();
    json!({
        "run": run.run,
        "workflow": run.workflow,
        "definition": run.definition,
        "state": run.state,
        "standing": runs::standing(run.state, run.owner.is_some(), run.owner_alive),
        "status": run.state.status(),
        "progress": run.progress,
        "priority": run.priority,
        "settings": run.settings,
        "error": run.failure,
        "revision": run.revision,
        "owner": run.owner,
        "owner_alive": run.owner_alive,
        "created_at": run.created_at.to_rfc3339(),
        "finished_at": rfc(run.finished_at),
        "deadline": rfc(run.deadline),
        "uncertain_attempts": view.attempts.iter().filter(|attempt| attempt.uncertain).count(),
        "stages": stages::described(view),
        "steps": steps,
        "thresholds": thresholds.iter().map(threshold).collect::<Map<_, _>>(),
        "performance": performance,
    })
}

fn print(found: &Found, hint: &Hint) -> anyhow::Result<()> {
    let Found { view, performance, warnings, thresholds, configured_in, is_of_a_host, .. } = found;
    let run = &view.run;
    let state = runs::state(run.state, run.owner.is_some(), run.owner_alive);
    output::line(&format!("run        {}", run.run))?;
    output::line(&format!("workflow   {} ({})", run.workflow, run.definition.short()))?;
    output::line(&format!("state      {state}"))?;
    if let Some(percent) = run.progress {
        output::line(&format!("progress   {percent} %"))?;
    }
    if run.priority != Priority::NORMAL {
        output::line(&format!("priority   {}", run.priority))?;
    }
    if let Some(owner) = run.owner.as_ref().filter(|_| run.owner_alive && !run.state.is_terminal())
    {
        output::line(&format!("node       {}", owner.node))?;
    }
    let fact = |name: &str| run.settings.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(file) = fact("file") {
        output::line(&format!("file       {file}"))?;
    }
    if let Some(mode) = fact("provider_mode") {
        output::line(&format!("providers  {mode}"))?;
    }
    output::line(&format!("created    {}", run.created_at.to_rfc3339()))?;
    if let Some(finished) = run.finished_at {
        let took = output::took(finished.since(run.created_at));
        output::line(&format!("finished   {} (after {took})", finished.to_rfc3339()))?;
    }
    if let Some(cost) = spending::cost(performance) {
        output::line(&format!("cost       {cost}"))?;
    }
    if let Some(usage) = spending::usage(performance) {
        output::line(&format!("calls      {}", performance.llm_calls))?;
        output::line(&format!("tokens     {usage}"))?;
    }
    if let Some(message) = run.failure.as_ref().and_then(|failure| failure.get("message")) {
        output::line(&format!("error      {}", output::brief(message, 200)))?;
    }
    // It is told from the record alone.
    let told = progress::Told::new();
    for related in run.failure.iter().flat_map(|failure| progress::related(failure, &told)) {
        output::line(&format!("           {related}"))?;
    }
    for (place, undone) in stages::undone(run).iter().enumerate() {
        let name = if place == 0 { "undone" } else { "" };
        output::line(&format!("{name:10} {undone}"))?;
    }
    if let Some(file) = configured_in {
        for setting in thresholds {
            output::line(&format!("threshold  {}", limit(setting, file)))?;
        }
    }
    for warning in &performance.warnings {
        output::line(&format!("warning    {}", output::brief(&json!(warning.message), 400)))?;
    }
    for recommendation in &performance.recommendations {
        output::line(&format!("advice     {recommendation}"))?;
    }
    output::line("")?;
    let rows = steps::rows(view);
    let parts = if stages::is_staged(view) {
        stages::parts(view, &rows)
    } else {
        rows.iter().map(|row| Part::Job(*row, row.path())).collect()
    };
    let names = parts.iter().filter_map(|part| match part {
        Part::Job(_, name) => Some(name.chars().count()),
        Part::Line(_) => None,
    });
    let width = names.max().unwrap_or_default().min(STEP_MAX);
    let taken = taken(view);
    for part in &parts {
        let (row, name) = match part {
            Part::Job(row, name) => (row, name),
            Part::Line(line) => {
                output::line(line)?;
                continue;
            }
        };
        let inside = rows.iter().rfind(|inner| is_caused_by(row, inner)).map(Row::path);
        print_step(view, row, name, inside.as_deref(), width)?;
        if let Some(reason) = stages::reason(row.job) {
            stages::note(&reason)?;
        }
        for warning in warnings.get(&row.job.key).into_iter().flatten() {
            output::line(&format!("{:12}warning: {}", "", output::brief(&json!(warning), 200)))?;
        }
        let path = row.job.key.as_str().trim_start_matches('#');
        if let Some(file) = taken.get(path) {
            output::line(&format!("{:12}{}", "", of_file(file, path, run, hint)))?;
        }
    }
    let is_paused = run.state == RunState::Paused;
    let is_left = !run.state.is_terminal() && !run.owner_alive;
    if is_left && *is_of_a_host {
        output::talk(&host::goes_on(&run.workflow));
    }
    if is_paused {
        output::talk(&format!("let it go on with: {}", hint.unpause(run.run.as_str())));
    } else if is_left && !is_of_a_host {
        output::talk(&format!("continue with: {}", hint.resume(run.run.as_str())));
    }
    Ok(())
}

/// Which file was taken for the child of the step at `path`.
fn of_file(taken: &Taken, path: &str, run: &RunRecord, hint: &Hint) -> String {
    let mut text = format!("read from {}", taken.file());
    if taken.has_changed() == Some(true) {
        text.push_str(", which has changed since");
        if run.state.may_reopen() {
            let anew = taken::anew(hint, run.run.as_str(), path);
            text.push_str(&format!(": the run keeps what it has read; read it anew with: {anew}"));
        }
    }
    text
}

/// A threshold, and where it is set.
fn limit(setting: &ThresholdSetting, file: &str) -> String {
    let ThresholdSetting { name, value, unit, is_set } = setting;
    let origin = if *is_set { file } else { "default" };
    format!("{} {value} {unit} ({origin})", name.trim_end_matches("_threshold"))
}

/// Whether `row` failed by its child, and `inner` is a failure in that child.
fn is_caused_by(row: &Row<'_>, inner: &Row<'_>) -> bool {
    let has_failed = |row: &Row<'_>| matches!(row.state(), JobState::Failed | JobState::Partial);
    let code = row.result().map(|result| &result["error"]["code"]);
    has_failed(row)
        && has_failed(inner)
        && code.is_some_and(|code| code == progress::CHILD_FAILED)
        && row.job.key != inner.job.key
        && steps::is_around(&row.job.key, &inner.job.key)
}

/// A step, and why it failed unless it is a step `inside` of it that tells.
fn print_step(
    view: &RunView,
    row: &Row<'_>,
    step: &str,
    inside: Option<&str>,
    width: usize,
) -> anyhow::Result<()> {
    let job = row.job;
    let result = row.result();
    let given = result.map(|result| output::brief(result, 80)).unwrap_or_default();
    let cost = result.filter(|_| !row.has_child).and_then(progress::cost_of);
    let cost = cost.map(|cost| format!("  (${cost:.4})")).unwrap_or_default();
    let state = row.state().to_string();
    let line = format!("{state:<10}  {step:<width$}  {given}{cost}");
    let room = output::width().unwrap_or(usize::MAX);
    output::line(&output::cut(line.trim_end(), room))?;
    if let Some(file) = job.result.as_ref().and_then(|result| result.get("output_file")?.as_str()) {
        output::line(&format!("{:12}wrote {file}", ""))?;
    }
    let interesting = attempts(view, job).count() > 1;
    for attempt in attempts(view, job) {
        if !interesting && !attempt.uncertain && attempt.class.is_none() {
            continue;
        }
        let end = attempt.end.map_or("under way".to_owned(), |end| end.to_string());
        let class = attempt.class.map(|class| format!(" {class}")).unwrap_or_default();
        let code = attempt.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
        let see = inside.filter(|_| attempt.code.as_deref() == Some(progress::CHILD_FAILED));
        let see = see.map(|step| format!("see {step}"));
        let message = see.as_deref().or(attempt.message.as_deref()).unwrap_or_default();
        let uncertain =
            if attempt.uncertain { "  UNCERTAIN: its call may have been made" } else { "" };
        let line = format!("attempt {} {end}{class}{code} {message}{uncertain}", attempt.attempt);
        output::lines(&format!("{:12}", ""), line.trim_end())?;
    }
    for call in calls(view, job) {
        let state = if call.recorded_at.is_some() { "recorded" } else { "no reply recorded" };
        output::line(&format!(
            "{:12}call {} {state} (attempt {})",
            "",
            call.name.split('/').next().unwrap_or_default(),
            call.attempt
        ))?;
    }
    Ok(())
}
