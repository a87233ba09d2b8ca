//! The trace of a run: a span per run, step, attempt and call, and what they say together (YM-13).
//!
//! A pure reading of journaled rows. Ids of spans are digests of what the span is of, so that the same
//! rows give the same trace in every process.

mod verdict;

use std::collections::HashMap;

use perennial_core::{
    Digest, Timestamp,
    llm::{Spending, Spent, Tokens},
    run::{AttemptEnd, JobKey, JobState, RunState},
};
use perennial_store::{AttemptRecord, CallRecord, JobRecord, RunView};
use serde::Serialize;

pub use self::verdict::{Component, DepthSummary, Finding, FindingKind, Grade, Verdict, Word};
use super::{
    millis,
    spending::{Bill, around, step_of},
};

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// The run.
    Run,
    /// A step, from its first attempt to its end, the pauses between them included.
    Step,
    /// One try.
    Attempt,
    /// A call to a model.
    LlmCall,
    /// Any other journaled call, or one whose reply is not recorded.
    Call,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Went {
    /// As it should.
    Well,
    /// Not as it should.
    Badly,
    /// It has not ended, or nobody knows how.
    Open,
    /// It was not to be done: skipped, cancelled, or given back.
    Aside,
}

/// One span.
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
/// use perennial::records::{SpanKind, Went};
///
/// let trace = runtime.pipelines().trace(run.id()).await?;
/// let (of_run, of_step) = (&trace.spans[0], &trace.spans[1]);
/// assert_eq!((of_run.kind, of_step.kind), (SpanKind::Run, SpanKind::Step));
/// assert_eq!(of_step.parent_id.as_ref(), Some(&of_run.span_id));
/// assert_eq!((of_step.name.as_str(), of_step.went), ("a", Went::Well));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// 8 bytes, as hexadecimal digits.
    pub span_id: String,
    /// The span it stands in; none for the run.
    pub parent_id: Option<String>,
    /// What it is of.
    pub kind: SpanKind,
    /// What people call it.
    pub name: String,
    /// In how many spans it stands.
    pub level: usize,
    /// In how many scopes its step stands: 0 for the run and its outermost steps.
    pub depth: usize,
    /// The step it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_path: Option<String>,
    /// The type of that step, where the definition is known.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub step_type: Option<String>,
    /// The word of its state.
    pub status: &'static str,
    /// Whether that is good.
    pub went: Went,
    /// When it began; nothing before it did.
    pub began_at: Option<Timestamp>,
    /// When it ended; nothing before it did, or where nobody knows.
    pub ended_at: Option<Timestamp>,
    /// From begin to end, or until now.
    pub duration_ms: Option<u64>,
    /// Number of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Which model did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether a mock made the reply up (YV-5).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mock: bool,
    /// Tokens read and written by its calls and those in it; nothing when one does not tell.
    pub tokens: Tokens,
    /// What they cost in dollars; nothing when the price of one is unknown.
    pub cost: Option<f64>,
}

/// The spans of a run, and what they say.
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
/// let trace = runtime.pipelines().trace(run.id()).await?;
/// for span in &trace.spans {
///     println!("{:indent$}{} {:?}", "", span.name, span.duration_ms, indent = 2 * span.level);
/// }
/// assert!(trace.verdict.findings.is_empty());
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// 16 bytes, as hexadecimal digits.
    pub trace_id: String,
    /// The run.
    pub run_id: String,
    /// Its workflow.
    pub workflow: String,
    /// Each before what stands in it, in order of creation.
    pub spans: Vec<Span>,
    /// What they say together.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Trace {
    /// Reads it from the rows of a run that holds `memory_bytes`. `now` counts where something has not
    /// ended; `types` has the types of steps by the names that lead to them, with slashes between.
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
    /// use std::collections::HashMap;
    /// use perennial::records::Trace;
    ///
    /// let view = run.view().await?;
    /// let trace = Trace::of(&view, 0, &HashMap::new(), view.run.finished_at.expect("it has ended"));
    /// assert_eq!(trace.run_id, run.id().as_str());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(
        view: &RunView,
        memory_bytes: u64,
        types: &HashMap<String, String>,
        now: Timestamp,
    ) -> Self {
        let run = &view.run;
        let now = run.finished_at.unwrap_or(now);
        let mut drawing = Drawing { view, types, now, bill: Bill::of(view), spans: Vec::new() };
        drawing.run();
        let spans = drawing.spans;
        let verdict = Verdict::of(&spans, memory_bytes);
        let (run_id, workflow) = (run.run.as_str().to_owned(), run.workflow.clone());
        Self { trace_id: id(&["run", &run_id], 16), run_id, workflow, spans, verdict }
    }
}

/// The first `bytes` bytes of a digest of what a span is of.
fn id(of: &[&str], bytes: usize) -> String {
    let mut digits = Digest::of(of.join("\0").as_bytes()).to_string();
    digits.truncate(2 * bytes);
    digits
}

/// A step and the jobs that work for it.
struct StepJobs<'a> {
    key: &'a str,
    own: Option<&'a JobRecord>,
    openings: Vec<&'a JobRecord>,
    inside: Vec<usize>,
}

struct Drawing<'a> {
    view: &'a RunView,
    types: &'a HashMap<String, String>,
    now: Timestamp,
    bill: Bill,
    spans: Vec<Span>,
}

impl<'a> Drawing<'a> {
    fn run(&mut self) {
        let (view, total) = (self.view, self.bill.total);
        let run = &view.run;
        let run_id = id(&["span", run.run.as_str()], 8);
        self.spans.push(Span {
            name: run.workflow.clone(),
            status: run.state.name(),
            went: of_run(run.state),
            ..self.span(&run_id, SpanKind::Run, Some(run.created_at), run.finished_at, total)
        });
        let steps = steps(view);
        let mut calls: HashMap<(i64, u32), Vec<&CallRecord>> = HashMap::new();
        for call in &view.calls {
            calls.entry((call.job, call.attempt)).or_default().push(call);
        }
        let mut attempts: HashMap<i64, Vec<&AttemptRecord>> = HashMap::new();
        for attempt in &view.attempts {
            attempts.entry(attempt.job).or_default().push(attempt);
        }
        let inner: Vec<bool> = {
            let mut inner = vec![false; steps.len()];
            steps.iter().flat_map(|step| &step.inside).for_each(|place| inner[*place] = true);
            inner
        };
        // Not by recursion: a document may nest deeply.
        let mut left: Vec<(usize, String, usize)> = (0..steps.len())
            .rev()
            .filter(|place| !inner[*place])
            .map(|place| (place, run_id.clone(), 1))
            .collect();
        while let Some((place, parent, level)) = left.pop() {
            let step = &steps[place];
            let own = self.step(step, &parent, level, &attempts, &calls);
            left.extend(step.inside.iter().rev().map(|place| (*place, own.clone(), level + 1)));
        }
    }

    fn span(
        &self,
        span_id: &str,
        kind: SpanKind,
        began_at: Option<Timestamp>,
        ended_at: Option<Timestamp>,
        spending: Spending,
    ) -> Span {
        let took = began_at.map(|began| ended_at.unwrap_or(self.now).since(began));
        Span {
            span_id: span_id.to_owned(),
            parent_id: None,
            kind,
            name: String::new(),
            level: 0,
            depth: 0,
            step_path: None,
            step_type: None,
            status: "",
            went: Went::Open,
            began_at,
            ended_at,
            duration_ms: took.map(millis),
            attempt: None,
            provider: None,
            model: None,
            mock: false,
            tokens: spending.total_tokens(),
            cost: spending.cost_usd(),
        }
    }

    /// The spans of a step, of its attempts and of their calls; answers the id of the first.
    fn step(
        &mut self,
        step: &StepJobs<'a>,
        parent: &str,
        level: usize,
        attempts: &HashMap<i64, Vec<&'a AttemptRecord>>,
        calls: &HashMap<(i64, u32), Vec<&'a CallRecord>>,
    ) -> String {
        let key = JobKey::new(step.key);
        let step_id = id(&["span", self.view.run.run.as_str(), step.key], 8);
        let jobs: Vec<&JobRecord> = step.openings.iter().copied().chain(step.own).collect();
        let tries = |job: &JobRecord| attempts.get(&job.id).map(Vec::as_slice).unwrap_or_default();
        let began = jobs.iter().flat_map(|job| tries(job)).map(|attempt| attempt.claimed_at).min();
        let last = |job: &JobRecord| tries(job).last().and_then(|attempt| attempt.ended_at);
        let ended = step.own.filter(|job| job.state.is_terminal()).and_then(last);
        let (status, went) = step.own.map_or(("open", Went::Open), |job| {
            let name = job.state.name();
            (name, of_step(job.state))
        });
        let spending = self.bill.step(&key);
        let path = key.names().join("/");
        let about = Span {
            parent_id: Some(parent.to_owned()),
            name: key.step_name(),
            level,
            depth: key.depth(),
            step_type: self.types.get(&path).cloned(),
            step_path: Some(step.key.to_owned()),
            status,
            went,
            ..self.span(&step_id, SpanKind::Step, began, ended, spending)
        };
        self.spans.push(about.clone());
        for job in jobs {
            for attempt in tries(job) {
                let made = calls.get(&(job.id, attempt.attempt)).map(Vec::as_slice);
                self.attempt(&about, job, attempt, made.unwrap_or_default());
            }
        }
        step_id
    }

    fn attempt(
        &mut self,
        step: &Span,
        job: &JobRecord,
        attempt: &AttemptRecord,
        calls: &[&CallRecord],
    ) {
        let number = attempt.attempt.to_string();
        let run = self.view.run.run.as_str();
        let attempt_id = id(&["span", run, job.key.as_str(), &number], 8);
        let mut spending = Spending::default();
        let replies: Vec<_> = calls.iter().map(|call| (call, call.reply.as_ref())).collect();
        for (_, reply) in &replies {
            match reply.map(Spent::of_reply) {
                Some(Some(spent)) => spending.add(Some(&spent)),
                // What else is called costs nothing that is known of here.
                Some(None) => (),
                None => spending.add(None),
            }
        }
        let what = if job.key.is_opening() { "opening, attempt" } else { "attempt" };
        let times = (Some(attempt.claimed_at), attempt.ended_at);
        let own = Span {
            parent_id: Some(step.span_id.clone()),
            name: format!("{what} {number}"),
            level: step.level + 1,
            status: attempt.end.map_or("under_way", AttemptEnd::name),
            went: attempt.end.map_or(Went::Open, of_attempt),
            attempt: Some(attempt.attempt),
            depth: step.depth,
            step_path: step.step_path.clone(),
            step_type: step.step_type.clone(),
            ..self.span(&attempt_id, SpanKind::Attempt, times.0, times.1, spending)
        };
        self.spans.push(own.clone());
        for (call, reply) in replies {
            let spent = reply.and_then(Spent::of_reply);
            let mut spending = Spending::default();
            if spent.is_some() || reply.is_none() {
                spending.add(spent.as_ref());
            }
            let kind = if spent.is_some() { SpanKind::LlmCall } else { SpanKind::Call };
            let call_id = id(&["span", run, job.key.as_str(), &call.name], 8);
            let recorded = call.recorded_at.is_some();
            // Where its attempt has ended, a call without a reply ended with it.
            let ended = call.recorded_at.or(attempt.ended_at);
            self.spans.push(Span {
                parent_id: Some(attempt_id.clone()),
                name: format!("call {}", call.name.split('/').next().unwrap_or_default()),
                level: own.level + 1,
                status: if recorded { "recorded" } else { "no_reply" },
                went: match (recorded, attempt.ended_at) {
                    (true, _) => Went::Well,
                    (false, Some(_)) => Went::Badly,
                    (false, None) => Went::Open,
                },
                attempt: Some(attempt.attempt),
                depth: step.depth,
                step_path: step.step_path.clone(),
                step_type: step.step_type.clone(),
                provider: spent.as_ref().map(|spent| spent.provider.clone()),
                model: spent.as_ref().map(|spent| spent.model.clone()),
                mock: spent.as_ref().is_some_and(|spent| spent.mock),
                ..self.span(&call_id, kind, Some(call.begun_at), ended, spending)
            });
        }
    }
}

/// The steps of a run in order of creation, each with its jobs and the steps inside it.
fn steps(view: &RunView) -> Vec<StepJobs<'_>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut steps: Vec<StepJobs<'_>> = Vec::new();
    for job in &view.jobs {
        let key = step_of(job.key.as_str());
        let place = *places.entry(key).or_insert_with(|| {
            let (openings, inside) = (Vec::new(), Vec::new());
            steps.push(StepJobs { key, own: None, openings, inside });
            steps.len() - 1
        });
        if job.key.is_opening() {
            steps[place].openings.push(job);
        } else {
            steps[place].own = Some(job);
        }
    }
    for place in 0..steps.len() {
        // Of a key that was cut, what is around it is not known: it stands in the run itself.
        let outer = around(steps[place].key).and_then(|outer| places.get(outer));
        if let Some(outer) = outer.copied() {
            steps[outer].inside.push(place);
        }
    }
    steps
}

fn of_run(state: RunState) -> Went {
    match state {
        RunState::Succeeded | RunState::PartiallySucceeded => Went::Well,
        RunState::Failed | RunState::TimedOut | RunState::CompensationFailed => Went::Badly,
        RunState::Cancelled => Went::Aside,
        RunState::Pending
        | RunState::Running
        | RunState::Paused
        | RunState::Cancelling
        | RunState::Compensating => Went::Open,
    }
}

fn of_step(state: JobState) -> Went {
    match state {
        JobState::Succeeded => Went::Well,
        JobState::Failed | JobState::Partial => Went::Badly,
        JobState::Skipped | JobState::Cancelled => Went::Aside,
        JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Deferred
        | JobState::Suspended
        | JobState::Joining => Went::Open,
    }
}

fn of_attempt(end: AttemptEnd) -> Went {
    match end {
        AttemptEnd::Succeeded => Went::Well,
        AttemptEnd::Partial | AttemptEnd::Error | AttemptEnd::TimedOut | AttemptEnd::Expired => {
            Went::Badly
        }
        AttemptEnd::Skipped
        | AttemptEnd::Released
        | AttemptEnd::Unavailable
        | AttemptEnd::Suspended
        | AttemptEnd::Cancelled => Went::Aside,
    }
}

#[cfg(test)]
mod tests;
