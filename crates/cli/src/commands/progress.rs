//! A run while it runs, and how it ended.
//!
//! Why a step failed is told once: of one that ends the run, at the end, where it is said what became of the run and
//! also with `--quiet`; of others when it happens. All other lines only name the step and the code. What fails in a
//! child may fail the steps around it, which say the same again: it is held until that is known.

use std::{borrow::Cow, collections::HashSet, io::IsTerminal};

use perennial::{
    PipelineOutcome, PipelineRunHandle, RunState,
    engine::workflow::JobKey,
    records::{AttemptEnd, EventRecord, JobState, RunError},
};
use serde_json::{Value, json};

use super::{
    events,
    hint::Hint,
    spending,
    steps::{self, Row},
};
use crate::output;

/// How a run is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// Steps of which it has been told why they failed.
pub(super) type Told = HashSet<JobKey>;

/// Follows a run from its event `from` to its end, after `plan` where programs read; `prefix` tells its
/// lines from those of others.
pub(super) async fn follow(
    run: &PipelineRunHandle,
    (from, plan): (u64, Option<&Value>),
    shown: Shown,
    prefix: &str,
) -> anyhow::Result<Result<(PipelineOutcome, Told), RunError>> {
    let mut failures = Told::new();
    let mut feed = run.events_from(from);
    let mut heard = Heard::All;
    let mut held = Held::default();
    if let Some(plan) = plan.filter(|_| shown.json) {
        heard.say(|| output::json(plan));
    }
    loop {
        let event = match feed.next().await {
            Ok(event) => event,
            Err(error) => return Ok(Err(error)),
        };
        let closed = event.kind == "run_closed";
        if shown.json {
            let event = events::described(run.id(), &event)?;
            heard.say(|| output::json(&event));
        } else if !shown.quiet
            && let texts = held.told(&event)
            && !texts.is_empty()
        {
            // Several warnings are several lines.
            for line in texts.iter().flat_map(|text| text.lines()) {
                output::talk(&format!("{prefix}{line}"));
            }
        }
        let is_told = !shown.json && !shown.quiet;
        if let (Some(job), "job_partial", true) = (&event.job, event.kind.as_str(), is_told) {
            failures.insert(job.clone());
        }
        if closed {
            // It may be the end of an earlier round.
            match run.view().await {
                Ok(view) if view.run.next_seq > event.seq + 1 => (),
                Ok(_) => {
                    let ended = run.outcome().await;
                    return heard.or_nothing().map(|()| ended.map(|ended| (ended, failures)));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

/// Whether what a run tells could be written so far. A run does not end because nobody reads of it any more.
#[derive(Debug)]
enum Heard {
    All,
    /// The first error; nothing was written after it.
    Until(anyhow::Error),
}

impl Heard {
    fn say(&mut self, write: impl FnOnce() -> anyhow::Result<()>) {
        if let Self::All = self
            && let Err(error) = write()
        {
            *self = Self::Until(error);
        }
    }

    /// A reader that has left has seen enough; any other error is told.
    fn or_nothing(self) -> anyhow::Result<()> {
        match self {
            Self::Until(error) if !output::is_broken_pipe(&error) => Err(error),
            Self::Until(_) | Self::All => Ok(()),
        }
    }
}

/// A failure inside of a child of which it is not known yet what it means for the steps around it.
#[derive(Debug, Default)]
struct Held {
    inner: Option<Inner>,
    /// Code of the last child that was not opened: the step around it has the code of a child that failed.
    unopened: Option<String>,
}

#[derive(Debug)]
struct Inner {
    job: JobKey,
    /// Why, for when it goes no further.
    text: String,
    /// That it failed and by which code; none once it is told.
    brief: Option<String>,
}

/// The code of a step whose child has failed.
pub(super) const CHILD_FAILED: &str = "PL614";

impl Held {
    /// What people want to hear now that `event` has happened.
    fn told(&mut self, event: &EventRecord) -> Vec<String> {
        let text = told(event);
        let Some(job) = &event.job else {
            let closed = event.kind == "run_closed";
            let held = if closed { self.inner.take() } else { None };
            return held.map(|inner| inner.text).into_iter().chain(text).collect();
        };
        let code = event.data.get("code").and_then(Value::as_str);
        let has_failed =
            matches!(event.kind.as_str(), "job_partial" | "job_failed" | "attempt_failed");
        if has_failed && job.is_opening() {
            self.unopened = code.map(str::to_owned);
        }
        let mut said = Vec::new();
        let mut brief = None;
        match self.inner.take() {
            // The step around it tells the reason, or those around that one do.
            Some(inner)
                if has_failed
                    && code == Some(CHILD_FAILED)
                    && steps::is_around(job, &inner.job) =>
            {
                said.extend(inner.brief);
            }
            // That the step around it is about to end tells nothing yet.
            Some(inner)
                if !has_failed
                    && event.kind != "job_succeeded"
                    && (inner.job == *job || steps::is_around(job, &inner.job)) =>
            {
                self.inner = Some(inner);
            }
            held => {
                said.extend(held.map(|inner| inner.text));
                let unopened = self.unopened.take_if(|_| has_failed && !job.is_opening());
                let code = unopened.as_deref().filter(|_| code == Some(CHILD_FAILED)).or(code);
                let step = steps::shown(&job.without_handler());
                brief = code.map(|code| format!("~ {step} failed ({code})"));
            }
        }
        match text {
            Some(text) if event.kind == "job_partial" && job.depth() > 0 => {
                self.inner = Some(Inner { job: job.clone(), text, brief });
            }
            text => said.extend(text),
        }
        said
    }
}

/// What people want to hear of an event.
fn told(event: &EventRecord) -> Option<String> {
    // Of what begins a step with steps of its own, only its warnings are news; that a failure was handled
    // is told by the steps that did it.
    let begins = |job: &JobKey| job.is_opening() && event.kind != "step_warning";
    let handled = |job: &JobKey| job.closes_handler() && event.kind != "job_failed";
    if event.job.as_ref().is_some_and(|job| begins(job) || handled(job)) {
        return None;
    }
    let is_inner = event.job.as_ref().is_some_and(|job| job.depth() > 0);
    let step = event.job.as_ref().map(|job| steps::shown(&job.without_handler()));
    let step = step.unwrap_or_default();
    let step = step.trim_start_matches('#');
    let attempt = event.attempt.filter(|attempt| *attempt > 1);
    let message = event.data.get("message").and_then(Value::as_str).unwrap_or_default();
    Some(match event.kind.as_str() {
        "attempt_started" => match attempt {
            Some(attempt) => format!("  {step} … (attempt {attempt})"),
            None if std::io::stderr().is_terminal() => format!("  {step} …"),
            None => return None,
        },
        "job_succeeded" => format!("✓ {step}"),
        // What it means is told by the step around it.
        "job_partial" if is_inner => format!("~ {step} failed: {}", unrepeated(message)),
        "job_partial" => format!("~ {step} failed, tolerated: {}", unrepeated(message)),
        "job_skipped" => format!("- {step} skipped"),
        // Why, is told at the end of the run, which this is.
        "job_failed" => format!("✗ {step} failed"),
        "job_cancelled" => format!("✗ {step} cancelled"),
        "step_warning" => {
            let warnings = event.data.get("warnings").and_then(Value::as_array)?;
            let lines = warnings.iter().filter_map(Value::as_str);
            let lines: Vec<String> = lines.map(|text| format!("! {step}: {text}")).collect();
            lines.join("\n")
        }
        "attempt_failed" => format!("! {step} failed, will be tried again: {message}"),
        "attempt_timed_out" => format!("! {step} took too long: {message}"),
        "attempt_expired" => format!("! {step}: the process of its last attempt died"),
        "attempt_released" => format!("! {step}: its attempt was given back"),
        "attempt_uncertain" => {
            format!("! {step}: a call may have been made whose reply is not recorded")
        }
        _ => return None,
    })
}

/// Says how a run ended: results on stdout; `prefix` tells its lines from those of others.
pub(super) fn conclude(
    (outcome, told): &(PipelineOutcome, Told),
    shown: Shown,
    prefix: &str,
    hint: &Hint,
) -> anyhow::Result<()> {
    if shown.json {
        return output::json(&summary(outcome));
    }
    let view = &outcome.view;
    if !shown.quiet {
        for row in steps::rows(view) {
            if let Some(result) = row.result() {
                let is_told = told.contains(&row.job.key) || is_cause(outcome, result);
                output::line(&format!("{prefix}{}", given(&row, result, is_told)))?;
            }
        }
    }
    if let Some(directory) = outcome.output_dir().filter(|_| !shown.quiet) {
        for (step, path) in outcome.files() {
            output::line(&format!("{prefix}{step} wrote {path} in {}", directory.display()))?;
        }
    }
    let took = view.run.finished_at.map(|end| end.since(view.run.created_at)).unwrap_or_default();
    let mut facts = vec![output::took(took)];
    if let Some(cost) = spending::cost(&outcome.performance) {
        facts.push(format!("cost {cost}"));
    }
    let uncertain = outcome.uncertain_attempts();
    if uncertain > 0 {
        facts.push(format!("possibly repeated calls: {uncertain}"));
    }
    if let Some(failure) = &view.run.failure
        && let Some(message) = failure.get("message").and_then(Value::as_str)
    {
        let step = failure.get("step").and_then(Value::as_str).unwrap_or_default();
        // What has several lines is read in several.
        for line in format!("Step '{step}' failed: {}", bounded(&unrepeated(message))).lines() {
            output::talk(&format!("{prefix}{line}"));
        }
        for related in related(failure, told) {
            output::talk(&format!("{prefix}  {related}"));
        }
    }
    if let (RunState::TimedOut, Some(deadline)) = (outcome.state(), view.run.deadline) {
        let given = output::took(deadline.since(view.run.created_at));
        output::talk(&format!("{prefix}its deadline of {given} has passed"));
    }
    if !shown.quiet {
        let (run, status) = (outcome.run_id(), outcome.status());
        output::line(&format!("{prefix}run {run} {status}: {}", facts.join(", ")))?;
    }
    if uncertain > 0 || view.run.failure.is_some() {
        output::talk(&format!("help: {}", hint.show(outcome.run_id().as_str())));
    }
    Ok(())
}

/// Whether `result` is that of the step that ended the run, of which is told at its end.
fn is_cause(outcome: &PipelineOutcome, result: &Value) -> bool {
    let failure = outcome.view.run.failure.as_ref();
    let message = failure.and_then(|failure| failure.get("message")?.as_str());
    message.is_some_and(|message| result["error"]["message"] == message)
}

/// Most bytes of the reason of a failure that are shown; `results` gives all of it.
const REASON_MAX: usize = 4_096;

/// `message` without the children between the outermost and the innermost that failed by it.
fn unrepeated(message: &str) -> Cow<'_, str> {
    let after = |text: &str| {
        let name = text.strip_prefix("Nested pipeline '")?;
        let end = name.find("' failed: ")? + "' failed: ".len();
        Some(text.len() - name.len() + end)
    };
    let mut ends = vec![0];
    while let Some(length) = after(&message[ends[ends.len() - 1]..]) {
        ends.push(ends[ends.len() - 1] + length);
    }
    let levels = ends.len() - 1;
    if levels < 4 {
        return message.into();
    }
    let (outermost, innermost) = (&message[..ends[1]], &message[ends[levels - 1]..]);
    format!("{outermost}{} more inside of it, then: {innermost}", levels - 2).into()
}

/// As much of `message` as a person reads.
fn bounded(message: &str) -> Cow<'_, str> {
    if message.len() <= REASON_MAX {
        return message.into();
    }
    let end = message.floor_char_boundary(REASON_MAX);
    format!("{}… ({} bytes, and {} more)", &message[..end], end, message.len() - end).into()
}

/// One step and what it gave, on one line; of a failure only the code when it `is_told` elsewhere.
fn given(row: &Row<'_>, result: &Value, is_told: bool) -> String {
    let name = row.label();
    let mock = result.get("mock").and_then(Value::as_bool).unwrap_or(false);
    let label = match (result.get("model").and_then(Value::as_str), mock) {
        (Some(model), true) => format!("{name} [{model}, mock]"),
        (Some(model), false) => format!("{name} [{model}]"),
        (None, _) => name,
    };
    let has_failed = matches!(row.state(), JobState::Failed | JobState::Partial);
    if let Some(code) = result["error"]["code"].as_str().filter(|_| has_failed && is_told) {
        return format!("{label}: failed ({code})");
    }
    let prefix = match row.state() {
        JobState::Skipped => "skipped: ",
        JobState::Failed | JobState::Partial => "failed: ",
        JobState::Succeeded
        | JobState::Cancelled
        | JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining => "",
    };
    format!("{label}: {prefix}{}", output::brief(result, 100))
}

/// What came of the failure of a run besides: its handler failed too, with the reason where that was not `told`.
pub(super) fn related(failure: &Value, told: &Told) -> impl Iterator<Item = String> {
    let related = failure.get("detail").and_then(|detail| detail.get("related")?.as_array());
    related.into_iter().flatten().map(|error| {
        let fact = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let path = fact("path");
        if told.contains(&JobKey::new(path)) {
            return format!("its handler failed at {path}");
        }
        format!("its handler failed at {path}: {}", output::brief(&json!(fact("message")), 200))
    })
}

/// The outcome as one JSON value.
pub(super) fn summary(outcome: &PipelineOutcome) -> Value {
    let view = &outcome.view;
    let took = view.run.finished_at.map(|end| end.since(view.run.created_at));
    json!({
        "type": "outcome",
        "run": outcome.run_id(),
        "file": view.run.settings.get("file"),
        "workflow": view.run.workflow,
        "status": outcome.status(),
        "state": outcome.state(),
        "degraded": outcome.is_degraded(),
        "provider_mode": view.run.settings.get("provider_mode"),
        "results": outcome.results(),
        "error": view.run.failure,
        "usage": outcome.performance.usage,
        "cost": outcome.performance.total_cost,
        "warnings": outcome.warnings(),
        "duration_ms": took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        "possibly_repeated_calls": outcome.uncertain_attempts(),
        "attempts_expired": view
            .attempts
            .iter()
            .filter(|attempt| attempt.end == Some(AttemptEnd::Expired))
            .count(),
    })
}

/// What a step cost, where it is known.
pub(super) fn cost_of(result: &Value) -> Option<f64> {
    result.get("cost")?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_children_in_children_the_outermost_and_the_innermost_are_named() {
        let message = |levels: usize| {
            let names = (0..levels).map(|level| format!("Nested pipeline 'c{level}' failed: "));
            names.chain(["it's over".to_owned()]).collect::<String>()
        };
        for levels in 0..4 {
            assert_eq!(unrepeated(&message(levels)), message(levels));
        }
        let short = "Nested pipeline 'c0' failed: 24 more inside of it, then: \
                     Nested pipeline 'c25' failed: it's over";
        assert_eq!(unrepeated(&message(26)), short);
    }
}
