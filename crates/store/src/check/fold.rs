//! What a run's rows must be, from its events alone.

use std::collections::BTreeMap;

use perennial_core::run::{
    AttemptEnd, FeedKind, JobKind, JobState, RunState, SkipReason, StageOutcome, StageState,
};
use serde_json::Value;

use super::{Findings, NumbersTold, Rule};
use crate::{EventRecord, NodeRef};

/// What events tell of a value; none where those of an older version do not.
pub(crate) type Told<T> = Option<T>;

/// The state of a stream after some of its events.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) next_seq: u64,
    /// Hash of the last event.
    pub(crate) hash: String,
    /// Instant of the last event.
    pub(crate) last_at: i64,
    pub(crate) run: Option<RunFold>,
    pub(crate) stages: BTreeMap<String, StageFold>,
    pub(crate) jobs: BTreeMap<String, JobFold>,
    pub(crate) numbers: NumbersTold,
    pub(crate) findings: Findings,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            next_seq: 1,
            hash: String::new(),
            last_at: i64::MIN,
            run: None,
            stages: BTreeMap::new(),
            jobs: BTreeMap::new(),
            numbers: NumbersTold::default(),
            findings: Findings::default(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RunFold {
    pub(crate) workflow: String,
    pub(crate) definition: String,
    pub(crate) input_digest: Told<String>,
    pub(crate) settings: Told<String>,
    /// Micros, where there is one.
    pub(crate) deadline: Told<Option<i64>>,
    pub(crate) state: RunState,
    /// Digest of it, where there is one and it was told.
    pub(crate) failure: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) finished_at: Option<i64>,
    /// The most of this round, where it has a plan.
    pub(crate) progress: Option<u32>,
    pub(crate) priority: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct StageFold {
    pub(crate) ordinal: u64,
    pub(crate) plan: StagePlan,
    pub(crate) state: StageState,
    pub(crate) outcome: Option<StageOutcome>,
    /// The most places that it ever had, once they were changed: fewer end nothing that is under way.
    pub(crate) places_max: Option<u64>,
}

/// What a stage was planned as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StagePlan {
    pub(crate) feed: FeedKind,
    pub(crate) upstream: String,
    pub(crate) concurrency: Option<u64>,
    pub(crate) required: bool,
    pub(crate) weight: u64,
}

impl Default for StagePlan {
    /// The one stage of a run that has no plan.
    fn default() -> Self {
        let (feed, upstream) = (FeedKind::Driven, String::new());
        Self { feed, upstream, concurrency: None, required: true, weight: 1 }
    }
}

impl StagePlan {
    /// Whether it is one of a plan: see [`NewStage::is_planned`](crate::NewStage::is_planned).
    fn is_planned(&self) -> bool {
        self.feed != FeedKind::Driven || self.concurrency.is_some()
    }

    fn told(data: &Value) -> Self {
        let own = Self::default();
        Self {
            feed: parsed(data, "feed").unwrap_or(own.feed),
            upstream: text(data, "upstream").unwrap_or_default(),
            concurrency: data.get("concurrency").and_then(Value::as_u64),
            required: data.get("required").and_then(Value::as_bool).unwrap_or(own.required),
            weight: data.get("weight").and_then(Value::as_u64).unwrap_or(own.weight),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct JobFold {
    pub(crate) stage: String,
    pub(crate) kind: JobKind,
    /// The group whose child it is.
    pub(crate) parent: Option<String>,
    /// Several stages have a job of this key; events do not tell them apart.
    pub(crate) shared: bool,
    pub(crate) state: JobState,
    pub(crate) skipped: Told<SkipReason>,
    pub(crate) used: Told<u32>,
    pub(crate) max: Told<u32>,
    pub(crate) crashes: Told<u32>,
    pub(crate) crashes_max: Told<u32>,
    pub(crate) run_after: Told<i64>,
    pub(crate) lease: Option<NodeRef>,
    pub(crate) dead_letter: bool,
    /// Digests.
    pub(crate) input: Told<String>,
    pub(crate) result: Told<Option<String>>,
    /// Service and key of each instance that it uses, in order.
    pub(crate) uses: Vec<(String, String)>,
    /// The key of its limit across runs, and how many.
    pub(crate) limit: Option<(String, u64)>,
    pub(crate) priority: i64,
    pub(crate) attempts: Vec<AttemptFold>,
    /// Recorded replies by the name of their call, as digests.
    pub(crate) calls: BTreeMap<String, Told<String>>,
    /// It was set back, and waits to be made again.
    set_back: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct AttemptFold {
    pub(crate) number: u32,
    pub(crate) node: NodeRef,
    pub(crate) claimed_at: i64,
    pub(crate) ended: Option<EndFold>,
    pub(crate) uncertain: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct EndFold {
    pub(crate) at: i64,
    pub(crate) end: Told<AttemptEnd>,
    pub(crate) class: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

impl Fold {
    /// Takes the next event of a run. Events of other kinds than the store's own tell nothing of its rows.
    pub(crate) fn take(&mut self, event: &EventRecord) {
        if self.numbers.take(event, &mut self.findings) {
            return;
        }
        if event.job.is_some() {
            self.take_of_job(event);
        } else {
            self.take_of_run(event);
        }
    }

    fn take_of_run(&mut self, event: &EventRecord) {
        let (kind, data, at) = (event.kind.as_str(), &event.data, event.at.as_micros());
        if kind == "run_created" {
            let text = |name| text(data, name).unwrap_or_default();
            self.run = Some(RunFold {
                workflow: text("workflow"),
                definition: text("definition"),
                input_digest: self::text(data, "input_digest"),
                settings: self::text(data, "settings"),
                deadline: data.get("deadline").map(Value::as_i64),
                state: RunState::Pending,
                failure: None,
                created_at: at,
                finished_at: None,
                progress: None,
                priority: priority(data),
            });
            let stages = data.get("stages").and_then(Value::as_array);
            for (ordinal, stage) in (0_u64..).zip(stages.into_iter().flatten()) {
                let (plan, state) = (StagePlan::told(stage), StageState::Waiting);
                if let Some(run) = self.run.as_mut().filter(|_| plan.is_planned()) {
                    run.progress = Some(0);
                }
                let new = StageFold { ordinal, plan, state, outcome: None, places_max: None };
                self.stages.insert(self::text(stage, "stage").unwrap_or_default(), new);
            }
            return;
        }
        let to = match kind {
            "run_started" | "run_resumed" => Some(RunState::Running),
            "run_paused" => Some(RunState::Paused),
            "run_cancelling" => Some(RunState::Cancelling),
            "run_compensating" => Some(RunState::Compensating),
            "run_closed" => parsed(data, "state"),
            "run_reopened" => return self.reopen(event),
            "run_progressed" => return self.progress(event),
            "stage_limited" => return self.limit(event),
            "priority_changed" => return self.prioritise(event),
            "stage_opened" | "stage_sealed" | "stage_closed" => return self.take_of_stage(event),
            _ => return,
        };
        let (Some(run), Some(to)) = (&mut self.run, to) else {
            let what = format!("event {kind} tells nothing that can be followed");
            return self.findings.at(Rule::Fold, event.seq, what);
        };
        if run.state.is_terminal() {
            let what = format!("{kind} after the run had ended as {}", run.state);
            self.findings.at(Rule::Ended, event.seq, what);
        }
        run.state = to;
        run.failure = text(data, "failure").or(run.failure.take());
        run.finished_at = to.is_terminal().then_some(at);
    }

    fn limit(&mut self, event: &EventRecord) {
        let stage = text(&event.data, "stage").unwrap_or_default();
        let most = event.data.get("concurrency").and_then(Value::as_u64);
        let Some(stage) = self.stages.get_mut(&stage) else {
            let what = "a stage got other places that was never made";
            return self.findings.at(Rule::Fold, event.seq, what);
        };
        stage.places_max = stage.places_max.max(stage.plan.concurrency).max(most);
        stage.plan.concurrency = most;
    }

    fn prioritise(&mut self, event: &EventRecord) {
        if let Some(run) = &mut self.run {
            run.priority = priority(&event.data);
        }
    }

    /// It rises, and is 100 only at the end (INV-36).
    fn progress(&mut self, event: &EventRecord) {
        let (now, run) = (number(&event.data, "percent"), self.run.as_mut());
        let before = run.as_ref().and_then(|run| run.progress);
        if before.zip(now).is_none_or(|(before, now)| now <= before || now > 99) {
            let what = format!("the run had come to {before:?} per cent, and then to {now:?}");
            self.findings.at(Rule::Outcome, event.seq, what);
        }
        if let Some(run) = run {
            run.progress = now;
        }
    }

    fn reopen(&mut self, event: &EventRecord) {
        let Some(run) = &mut self.run else {
            return self.findings.at(
                Rule::Fold,
                event.seq,
                "a run was reopened before it was created",
            );
        };
        let data = &event.data;
        let was: Option<RunState> = parsed(data, "was");
        if was != Some(run.state) {
            let what = format!("it was reopened as if it had been {was:?}, and was {}", run.state);
            self.findings.at(Rule::Fold, event.seq, what);
        }
        run.state =
            if run.state == RunState::Paused { RunState::Paused } else { RunState::Running };
        run.definition = text(data, "definition").unwrap_or_default();
        run.input_digest = text(data, "input_digest");
        run.settings = text(data, "settings");
        run.deadline = data.get("deadline").map(Value::as_i64);
        (run.failure, run.finished_at) = (None, None);
        run.progress = run.progress.map(|_| 0);
        let planned = data.get("stages");
        for (name, stage) in &mut self.stages {
            let to = match planned {
                Some(states) => parsed(states, name),
                None => Some(StageState::Open),
            };
            if let Some(to) = to {
                (stage.state, stage.outcome) = (to, None);
            }
        }
    }

    fn take_of_stage(&mut self, event: &EventRecord) {
        let (name, ordinal) =
            (text(&event.data, "stage").unwrap_or_default(), self.stages.len() as u64);
        let to = match event.kind.as_str() {
            "stage_opened" => StageState::Open,
            "stage_sealed" => StageState::Sealed,
            _ => StageState::Closed,
        };
        let (plan, state) = (StagePlan::default(), StageState::Waiting);
        let new = StageFold { ordinal, plan, state, outcome: None, places_max: None };
        let stage = self.stages.entry(name).or_insert(new);
        if let Err(refusal) = stage.state.enter(to) {
            self.findings.at(Rule::Ended, event.seq, refusal.to_string());
        }
        (stage.state, stage.outcome) = (to, parsed(&event.data, "outcome"));
    }

    fn take_of_job(&mut self, event: &EventRecord) {
        let key = event.job.as_ref().map_or("", |key| key.as_str()).to_owned();
        let kind = event.kind.as_str();
        if matches!(kind, "job_ready" | "job_blocked") && event.data.get("stage").is_some() {
            return self.make_job(key, event);
        }
        let Some(job) = self.jobs.get_mut(&key) else {
            if is_about_jobs(kind) {
                self.findings.at(
                    Rule::Fold,
                    event.seq,
                    format!("{kind} of {key}, which was never made"),
                );
            }
            return;
        };
        job.take(event, &mut self.findings);
    }

    fn make_job(&mut self, key: String, event: &EventRecord) {
        let data = &event.data;
        let stage = text(data, "stage").unwrap_or_default();
        let (max, input) = (number(data, "max_attempts"), text(data, "input"));
        let crashes_max = number(data, "crashes_max");
        let is_blocked = event.kind == "job_blocked";
        let state = if is_blocked { JobState::Blocked } else { JobState::Ready };
        if let Some(job) = self.jobs.get_mut(&key) {
            if job.stage != stage {
                job.shared = true;
                return;
            }
            let may_come = matches!(job.state, JobState::Cancelled | JobState::Blocked);
            if !may_come || !job.set_back && !job.shared {
                let what = format!("job {key} was made again without having been set back");
                self.findings.at(Rule::Ended, event.seq, what);
            }
            (job.state, job.max, job.input, job.set_back) = (state, max, input, false);
            job.crashes_max = crashes_max;
            job.uses = uses(data);
            job.uses.sort();
            job.uses.dedup();
            job.limit = limit(data);
            job.priority = priority(data);
            return;
        }
        let kind = parsed(data, "kind").unwrap_or(JobKind::Step);
        let job = JobFold {
            stage,
            kind,
            parent: text(data, "parent"),
            shared: false,
            state,
            skipped: None,
            used: Some(0),
            max,
            crashes: Some(0),
            crashes_max,
            run_after: Some(0),
            lease: None,
            dead_letter: false,
            input,
            result: Some(None),
            uses: uses(data),
            limit: limit(data),
            priority: priority(data),
            attempts: Vec::new(),
            calls: BTreeMap::new(),
            set_back: false,
        };
        self.jobs.insert(key, job);
    }
}

/// The services that the event of a new job tells of; the key of a shared one is empty.
fn uses(data: &Value) -> Vec<(String, String)> {
    let listed = data.get("uses").and_then(Value::as_array);
    let text = |of: &Value, at: usize| of.get(at).and_then(Value::as_str).unwrap_or("").to_owned();
    listed.into_iter().flatten().map(|of| (text(of, 0), text(of, 1))).collect()
}

/// What an event says comes first; it says nothing of what is normal.
fn priority(data: &Value) -> i64 {
    data.get("priority").and_then(Value::as_i64).unwrap_or(0)
}

/// The limit across runs that the event of a new job tells of.
fn limit(data: &Value) -> Option<(String, u64)> {
    let limit = data.get("limit")?;
    Some((limit.get(0)?.as_str()?.to_owned(), limit.get(1)?.as_u64()?))
}

/// Whether an event of this kind changes rows of a job.
fn is_about_jobs(kind: &str) -> bool {
    kind.starts_with("job_") || kind.starts_with("attempt_") || kind == "group_expanded"
}

impl JobFold {
    fn take(&mut self, event: &EventRecord, findings: &mut Findings) {
        let (kind, data) = (event.kind.as_str(), &event.data);
        let to = match kind {
            "attempt_started" => return self.start_attempt(event, findings),
            "attempt_failed" => return self.end_attempt(event, None, findings),
            "attempt_timed_out" => {
                return self.end_attempt(event, Some(AttemptEnd::TimedOut), findings);
            }
            "attempt_expired" => {
                return self.end_attempt(event, Some(AttemptEnd::Expired), findings);
            }
            "attempt_released" => {
                return self.end_attempt(event, Some(AttemptEnd::Released), findings);
            }
            "attempt_uncertain" => return self.mark_uncertain(event, findings),
            "checkpoint_written" | "cache_hit" => {
                if let Some(name) = text(data, "name") {
                    self.calls.insert(name, text(data, "reply"));
                }
                if kind == "checkpoint_written" {
                    self.crashes = Some(0);
                }
                return;
            }
            "checkpoint_saved" => {
                self.crashes = Some(0);
                return;
            }
            "job_dead_lettered" => {
                self.dead_letter = true;
                return;
            }
            "job_reopened" => return self.set_back(data),
            "job_deferred" => JobState::Deferred,
            "job_suspended" => JobState::Suspended,
            "group_expanded" => JobState::Joining,
            "job_ready" | "job_resumed" => JobState::Ready,
            "job_blocked" => JobState::Blocked,
            "job_succeeded" => JobState::Succeeded,
            "job_partial" => JobState::Partial,
            "job_failed" => JobState::Failed,
            "job_skipped" => JobState::Skipped,
            "job_cancelled" => JobState::Cancelled,
            _ => return,
        };
        if self.state.is_terminal() && !self.shared {
            let what = format!("{kind} after the job had ended as {}", self.state);
            findings.at(Rule::Ended, event.seq, what);
        }
        if self.lease.is_some() {
            let implied = match to {
                JobState::Succeeded => Some(AttemptEnd::Succeeded),
                JobState::Skipped => Some(AttemptEnd::Skipped),
                JobState::Cancelled => Some(AttemptEnd::Cancelled),
                JobState::Ready => Some(AttemptEnd::Released),
                JobState::Deferred => Some(AttemptEnd::Unavailable),
                JobState::Suspended => Some(AttemptEnd::Suspended),
                JobState::Blocked
                | JobState::Leased
                | JobState::Joining
                | JobState::Partial
                | JobState::Failed => None,
            };
            self.end_attempt(event, implied, findings);
        }
        self.state = to;
        self.run_after = Some(data.get("run_after_micros").and_then(Value::as_i64).unwrap_or(0));
        self.skipped = if to == JobState::Skipped { parsed(data, "skipped") } else { None };
        if let Some(result) = text(data, "result") {
            self.result = Some(Some(result));
        } else if data.get("attempt").is_some() && data.get("end").is_none() {
            self.result = None;
        }
    }

    fn start_attempt(&mut self, event: &EventRecord, findings: &mut Findings) {
        let (number, last) = (event.attempt.unwrap_or(0), self.attempts.last());
        if self.shared {
            return;
        }
        if number != last.map_or(0, |last| last.number) + 1 {
            findings.at(Rule::Attempts, event.seq, format!("attempt {number} is not the next one"));
        }
        if self.state != JobState::Ready {
            let what = format!("attempt {number} of a job that was {}", self.state);
            findings.at(Rule::Ended, event.seq, what);
        }
        let incarnation = event.data.get("incarnation").and_then(Value::as_u64).unwrap_or(0);
        let node = NodeRef { node: text(&event.data, "node").unwrap_or_default(), incarnation };
        (self.state, self.run_after) = (JobState::Leased, Some(0));
        self.lease = Some(node.clone());
        let claimed_at = event.at.as_micros();
        self.attempts.push(AttemptFold { number, node, claimed_at, ended: None, uncertain: false });
    }

    /// Ends the attempt under way, for which the job is Ready again unless the next event says more.
    fn end_attempt(
        &mut self,
        event: &EventRecord,
        implied: Told<AttemptEnd>,
        findings: &mut Findings,
    ) {
        if self.shared {
            return;
        }
        let data = &event.data;
        let end = parsed(data, "end").or(implied);
        let under_way = self.attempts.last_mut().filter(|attempt| attempt.ended.is_none());
        let Some(attempt) = under_way.filter(|attempt| event.attempt == Some(attempt.number))
        else {
            let what = format!("{} of an attempt that is not under way", event.kind);
            return findings.at(Rule::Attempts, event.seq, what);
        };
        attempt.ended = Some(EndFold {
            at: event.at.as_micros(),
            end,
            class: text(data, "class"),
            code: text(data, "code"),
            message: text(data, "message"),
        });
        self.used = self.used.zip(end).map(|(used, end)| used + u32::from(end.uses_budget()));
        if end == Some(AttemptEnd::Expired) {
            self.crashes = self.crashes.map(|crashes| crashes + 1);
        }
        (self.state, self.lease, self.dead_letter) = (JobState::Ready, None, false);
        self.run_after = match (data.get("run_after_micros"), data.get("run_after")) {
            (Some(micros), _) => micros.as_i64(),
            (None, Some(_)) => None,
            (None, None) => Some(0),
        };
    }

    fn mark_uncertain(&mut self, event: &EventRecord, findings: &mut Findings) {
        let attempt = self.attempts.last_mut();
        match attempt.filter(|attempt| event.attempt == Some(attempt.number)) {
            Some(attempt) => attempt.uncertain = true,
            None if self.shared => (),
            None => findings.at(
                Rule::Attempts,
                event.seq,
                "an attempt that is not the last is uncertain",
            ),
        }
    }

    fn set_back(&mut self, data: &Value) {
        let to = parsed(data, "to").unwrap_or(JobState::Cancelled);
        (self.state, self.skipped, self.lease) = (to, None, None);
        if let Some(input) = text(data, "input") {
            self.input = Some(input);
        }
        (self.used, self.crashes, self.run_after) = (Some(0), Some(0), Some(0));
        (self.dead_letter, self.result, self.set_back) = (false, Some(None), true);
        if data.get("calls_forgotten") == Some(&Value::Bool(true)) {
            self.calls.clear();
        }
    }
}

fn text(data: &Value, name: &str) -> Option<String> {
    data.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn number(data: &Value, name: &str) -> Option<u32> {
    data.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
}

fn parsed<T: std::str::FromStr>(data: &Value, name: &str) -> Option<T> {
    data.get(name).and_then(Value::as_str).and_then(|text| text.parse().ok())
}
