//! How a run performed, from what is recorded of it: a pure reading of its rows, so that it says the
//! same of a run that goes on, has ended, or was continued by another process.

mod spending;
pub mod trace;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use perennial_core::{
    Timestamp,
    llm::{Spending, Tokens},
    run::{AttemptEnd, JobKey, JobState},
};
use perennial_store::{AttemptRecord, JobRecord, RunView};
use serde::Serialize;
use serde_json::Value;

use self::spending::{Bill, is_kept};
use crate::run::json_bytes;

/// From where on something is worth a warning (YM-12).
///
/// ```
/// use std::time::Duration;
/// use perennial::records::Thresholds;
///
/// let usual = Thresholds::default();
/// assert_eq!((usual.execution, usual.step), (Duration::from_secs(30), Duration::from_secs(60)));
/// let strict = Thresholds { step: Duration::from_secs(5), ..usual };
/// assert_ne!(strict, usual);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Of the whole run, from its first attempt on: what it waits for a place before that is not counted; 30 s.
    pub execution: Duration,
    /// Of one step, all its attempts and the pauses between them together; 60 s.
    pub step: Duration,
    /// Of the result of one step, as compact JSON; 10 000 000.
    pub result_bytes: u64,
    /// Of what a run holds in memory: its settings and the results of its steps; 500 000 000.
    pub memory_bytes: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            execution: Duration::from_secs(30),
            step: Duration::from_secs(60),
            result_bytes: 10_000_000,
            memory_bytes: 500_000_000,
        }
    }
}

/// Steps that take longer than this are worth a recommendation.
const STEP_NOTED: Duration = Duration::from_secs(30);
/// Results above this are worth a recommendation.
const RESULT_NOTED: u64 = 5_000_000;

/// What is worth a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningKind {
    /// The run takes longer than [`Thresholds::execution`], since its first attempt.
    ExecutionThreshold,
    /// The run holds more than [`Thresholds::memory_bytes`].
    MemoryThreshold,
    /// A step takes longer than [`Thresholds::step`].
    SlowStep,
    /// A result is larger than [`Thresholds::result_bytes`].
    LargeResult,
}

/// A threshold that was passed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// # run.outcome().await?;
/// use perennial::records::{Thresholds, WarningKind};
///
/// let strict = Thresholds { result_bytes: 0, ..Thresholds::default() };
/// let warnings = run.performance(&strict).await?.warnings;
/// assert_eq!(warnings[0].kind, WarningKind::LargeResult);
/// assert_eq!(warnings[0].step.as_ref().unwrap().as_str(), "a");
/// assert_eq!(warnings[0].message, "the result of a has 1 bytes, more than 0");
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Which.
    #[serde(rename = "type")]
    pub kind: WarningKind,
    /// The step, unless it is about the whole run.
    pub step: Option<JobKey>,
    /// What was seen, and what the threshold is.
    pub message: String,
}

/// One step.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// let performance = run.outcome().await?.performance;
/// let step = &performance.step_details[0];
/// assert_eq!((step.name.as_str(), step.attempts, step.calls), ("a", 1, 0));
/// assert_eq!(step.cost, Some(0.0)); // it calls no model
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepDetail {
    /// Its name.
    pub name: JobKey,
    /// Its type, once [`Performance::typed`] knows it.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub step_type: Option<String>,
    /// Where it is.
    pub status: JobState,
    /// From its first claim to its end, or until now; nothing before it was claimed.
    pub duration_ms: Option<u64>,
    /// Of its result, as compact JSON; nothing before there is one.
    pub result_size_bytes: Option<u64>,
    /// Attempts that were begun.
    pub attempts: u32,
    /// Calls that were begun, whatever was called.
    pub calls: u32,
    /// What its calls to models cost in dollars, those of steps inside it included; 0 when it made none,
    /// nothing when the price of one is unknown.
    pub cost: Option<f64>,
    /// Tokens that these calls read and wrote, in the same way.
    pub tokens: Tokens,
}

/// How a run performed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: w, steps: [{name: ask, type: claude, prompt: [{type: static, content: Hi}]}]}";
/// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// let performance = run.outcome().await?.performance;
/// assert_eq!((performance.total_steps, performance.successful_steps), (1, 1));
/// assert_eq!((performance.llm_calls, performance.llm_calls_recorded), (1, 1));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Performance {
    /// Since it was created, until its end or now.
    pub total_duration_ms: u64,
    /// Steps by now, those of children among them.
    pub total_steps: usize,
    /// Of those, with a result.
    pub successful_steps: usize,
    /// Of those, failed; tolerated failures count.
    pub failed_steps: usize,
    /// Of those, skipped. Cancelled ones are in the total only.
    pub skipped_steps: usize,
    /// Of those, waiting or under way.
    pub active_steps: usize,
    /// Of those, with an attempt that failed or timed out and was followed by another.
    pub retried_steps: usize,
    /// What the run holds in memory, as the monitor accounts it: its settings and the results of its
    /// steps, as compact JSON. It only grows.
    pub peak_memory_bytes: u64,
    /// Calls to models: with a recorded reply, or begun and without any. An exchange that failed is not
    /// among them: nobody knows what it used.
    pub llm_calls: u64,
    /// Of those, with a recorded reply.
    pub llm_calls_recorded: u64,
    /// Of those, without a known price.
    pub llm_calls_unpriced: u64,
    /// Of those, that read a part of their prompt from a cache of the provider; nothing when one does not
    /// tell.
    pub prompt_cache_hits: Tokens,
    /// Kept results that were taken instead of making a call.
    pub cache_hits: usize,
    /// What the calls cost in dollars; nothing when the price of one is unknown, 0 when there is none.
    pub total_cost: Option<f64>,
    /// What the calls cost whose price is known.
    pub known_cost: f64,
    /// Tokens that the calls read and wrote; nothing when one does not tell.
    pub total_tokens: Tokens,
    /// The tokens by kind: `input_tokens`, `output_tokens`, `cached_tokens`, `total_tokens`.
    pub usage: Value,
    /// The step that took longest.
    pub slowest_step: Option<JobKey>,
    /// The step with the largest result.
    pub largest_result_step: Option<JobKey>,
    /// All warnings.
    pub total_warnings: usize,
    /// How many of each kind.
    pub warnings_by_type: BTreeMap<WarningKind, usize>,
    /// The warnings, by step.
    pub warnings: Vec<Warning>,
    /// What might be changed.
    pub recommendations: Vec<String>,
    /// The steps, in order of creation.
    pub step_details: Vec<StepDetail>,
}

impl Thresholds {
    /// What is above now: of the whole run, of steps by how long they take, of results by their size.
    pub(crate) fn passed<'a>(
        &self,
        execution: Option<Duration>,
        memory: Option<u64>,
        steps: &[(JobKey, Duration)],
        results: impl Iterator<Item = (&'a JobKey, u64)>,
    ) -> Vec<Warning> {
        let run = |kind, message| Warning { kind, step: None, message };
        let mut warnings = Vec::new();
        if let Some(took) = execution.filter(|took| *took > self.execution) {
            let message = passed("the run takes", millis(took), millis(self.execution), "ms");
            warnings.push(run(WarningKind::ExecutionThreshold, message));
        }
        if let Some(bytes) = memory.filter(|bytes| *bytes > self.memory_bytes) {
            let message = passed("the run holds", bytes, self.memory_bytes, "bytes");
            warnings.push(run(WarningKind::MemoryThreshold, message));
        }
        for (step, took) in steps.iter().filter(|(_, took)| *took > self.step) {
            let what = format!("step {step} takes");
            let message = passed(&what, millis(*took), millis(self.step), "ms");
            let (kind, step) = (WarningKind::SlowStep, Some(step.clone()));
            warnings.push(Warning { kind, step, message });
        }
        for (step, bytes) in results.filter(|(_, bytes)| *bytes > self.result_bytes) {
            let message =
                passed(&format!("the result of {step} has"), bytes, self.result_bytes, "bytes");
            let (kind, step) = (WarningKind::LargeResult, Some(step.clone()));
            warnings.push(Warning { kind, step, message });
        }
        warnings
    }
}

impl Performance {
    /// Reads it from a run's rows. Durations of what has not ended are counted until `now`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// use perennial::records::{Performance, Thresholds};
    ///
    /// let view = run.view().await?;
    /// let ended = view.run.finished_at.expect("it has ended");
    /// let performance = Performance::of(&view, &Thresholds::default(), ended);
    /// assert_eq!(performance.total_steps, 1);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(view: &RunView, thresholds: &Thresholds, now: Timestamp) -> Self {
        let end = view.run.finished_at.unwrap_or(now);
        let took = end.since(view.run.created_at);
        let mut warnings = Vec::new();
        // What it waited in a queue before is no time of its own.
        let begun = view.attempts.iter().map(|attempt| attempt.claimed_at).min();
        let worked = begun.map(|begun| end.since(begun));
        if let Some(worked) = worked.filter(|worked| *worked > thresholds.execution) {
            let most = millis(thresholds.execution);
            let message = passed("the run takes", millis(worked), most, "ms");
            warnings.push(Warning { kind: WarningKind::ExecutionThreshold, step: None, message });
        }
        let results = view.jobs.iter().filter_map(|job| job.result.as_ref());
        let memory = json_bytes(&view.run.settings) + results.map(json_bytes).sum::<u64>();
        let mut recommendations = Vec::new();
        let most = thresholds.memory_bytes;
        if memory > most {
            let message = passed("the run holds", memory, most, "bytes");
            warnings.push(Warning { kind: WarningKind::MemoryThreshold, step: None, message });
        }
        if memory > most / 5 * 4 {
            recommendations.push(format!("the run holds {memory} bytes: keep results in files"));
        }
        let bill = Bill::of(view);
        let total = bill.total;
        let mut retried_steps = 0;
        let mut step_details = Vec::with_capacity(view.jobs.len());
        // A job that only opens the scope of a step is no step: its step began with it.
        let openings = view.jobs.iter().filter(|job| job.key.is_opening());
        let openings: HashMap<&str, i64> = openings
            .filter_map(|job| Some((job.key.as_str().strip_prefix('#')?, job.id)))
            .collect();
        // One that closes the handler of a step says what became of the step.
        let closings = view.jobs.iter().filter(|job| job.key.closes_handler());
        let closings: HashMap<_, _> =
            closings.map(|job| (job.key.without_handler(), job)).collect();
        let is_step = |job: &&JobRecord| !job.key.is_opening() && !job.key.closes_handler();
        for job in view.jobs.iter().filter(is_step) {
            let opening = openings.get(job.key.as_str()).copied();
            let opened = view.attempts.iter().find(|attempt| Some(attempt.job) == opening);
            let attempts = || view.attempts.iter().filter(|attempt| attempt.job == job.id);
            retried_steps += usize::from(was_retried(attempts()));
            let opened = opened.map(|attempt| attempt.claimed_at);
            let mut detail = detail(view, job, opened, attempts(), bill.step(&job.key), end);
            if let Some(closing) = closings.get(&job.key) {
                detail.status = closing.state;
                detail.result_size_bytes =
                    closing.result.as_ref().map(json_bytes).or(detail.result_size_bytes);
            }
            examine(&detail, thresholds, &mut warnings, &mut recommendations);
            step_details.push(detail);
        }
        let count = |states: &[JobState]| {
            step_details.iter().filter(|step| states.contains(&step.status)).count()
        };
        let most = |of: fn(&StepDetail) -> Option<u64>| {
            let longest =
                step_details.iter().filter(|step| of(step).is_some()).max_by_key(|it| of(it));
            longest.map(|step| step.name.clone())
        };
        let mut warnings_by_type = BTreeMap::new();
        for warning in &warnings {
            *warnings_by_type.entry(warning.kind).or_default() += 1;
        }
        Self {
            total_duration_ms: millis(took),
            total_steps: step_details.len(),
            successful_steps: count(&[JobState::Succeeded]),
            failed_steps: count(&[JobState::Failed, JobState::Partial]),
            skipped_steps: count(&[JobState::Skipped]),
            active_steps: count(&[
                JobState::Blocked,
                JobState::Ready,
                JobState::Leased,
                JobState::Deferred,
                JobState::Suspended,
            ]),
            retried_steps,
            peak_memory_bytes: memory,
            llm_calls: total.calls,
            llm_calls_recorded: total.recorded,
            llm_calls_unpriced: total.unpriced,
            prompt_cache_hits: total.cache_hits,
            cache_hits: view.calls.iter().filter(is_kept).count(),
            total_cost: total.cost_usd(),
            known_cost: total.known_cost_usd(),
            total_tokens: total.total_tokens(),
            usage: total.usage_json(),
            slowest_step: most(|step| step.duration_ms),
            largest_result_step: most(|step| step.result_size_bytes),
            total_warnings: warnings.len(),
            warnings_by_type,
            warnings,
            recommendations,
            step_details,
        }
    }
}

impl Performance {
    /// The same with the types of steps, by the names that lead to them, with slashes between.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let types = runtime.pipelines().definition(run.id()).await?.types();
    /// let performance = run.outcome().await?.performance.typed(&types);
    /// assert_eq!(performance.step_details[0].step_type.as_deref(), Some("echo"));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn typed(mut self, types: &HashMap<String, String>) -> Self {
        for step in &mut self.step_details {
            step.step_type = types.get(&step.name.names().join("/")).cloned();
        }
        self
    }
}

/// Whether an attempt failed by itself, and another followed.
fn was_retried<'a>(attempts: impl Iterator<Item = &'a AttemptRecord>) -> bool {
    let mut failed = false;
    for attempt in attempts {
        if failed {
            return true;
        }
        failed = matches!(attempt.end, Some(AttemptEnd::Error | AttemptEnd::TimedOut));
    }
    false
}

fn detail<'a>(
    view: &RunView,
    job: &JobRecord,
    opened: Option<Timestamp>,
    attempts: impl Iterator<Item = &'a AttemptRecord>,
    spending: Spending,
    end: Timestamp,
) -> StepDetail {
    let (mut begun, mut last, mut number) = (opened, None, 0);
    for attempt in attempts {
        begun.get_or_insert(attempt.claimed_at);
        last = Some(attempt.ended_at);
        number += 1;
    }
    // A step whose next attempt is still to come has not ended with its last one.
    let ended = if job.state.is_terminal() { last.flatten() } else { None };
    let duration = begun.map(|begun: Timestamp| ended.unwrap_or(end).since(begun));
    // What is in a row was JSON when it was written.
    let bytes = |result| serde_json::to_vec(result).ok().map(|json| json.len() as u64);
    let calls = view.calls.iter().filter(|call| call.job == job.id).count();
    StepDetail {
        name: job.key.clone(),
        step_type: None,
        status: job.state,
        duration_ms: duration.map(millis),
        result_size_bytes: job.result.as_ref().and_then(bytes),
        attempts: number,
        calls: u32::try_from(calls).unwrap_or(u32::MAX),
        cost: spending.cost_usd(),
        tokens: spending.total_tokens(),
    }
}

fn examine(
    step: &StepDetail,
    thresholds: &Thresholds,
    warnings: &mut Vec<Warning>,
    recommendations: &mut Vec<String>,
) {
    let name = &step.name;
    if let Some(took) = step.duration_ms {
        let most = millis(thresholds.step);
        if took > most {
            let message = passed(&format!("step {name} takes"), took, most, "ms");
            let step = Some(name.clone());
            warnings.push(Warning { kind: WarningKind::SlowStep, step, message });
        }
        if took > millis(STEP_NOTED) {
            recommendations
                .push(format!("{name} takes {took} ms: split it, or run it beside others"));
        }
    }
    if let Some(bytes) = step.result_size_bytes {
        let most = thresholds.result_bytes;
        if bytes > most {
            let message = passed(&format!("the result of {name} has"), bytes, most, "bytes");
            let step = Some(name.clone());
            warnings.push(Warning { kind: WarningKind::LargeResult, step, message });
        }
        if bytes > RESULT_NOTED {
            recommendations
                .push(format!("the result of {name} has {bytes} bytes: keep it in a file"));
        }
    }
}

fn passed(what: &str, seen: u64, threshold: u64, unit: &str) -> String {
    format!("{what} {seen} {unit}, more than {threshold}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
