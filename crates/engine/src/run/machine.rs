//! The pure core: what follows from a fact, for one run.

mod draft;
mod index;
mod jobs;
mod order;
mod outcome;
mod rest;
mod staged;
mod tally;
mod turns;
mod using;

pub(super) use self::staged::Completed;
pub(crate) use self::staged::{child_job, planned_job};

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use perennial_core::{
    Timestamp,
    retry::RetryPolicy,
    run::{
        IdempotencyKey, JobKey, JobKind, JobState, Priority, RunId, RunState, SkipReason,
        StageOutcome, StageState, shown,
    },
    service::ServiceKey,
};
use perennial_store::{
    Admissions, AttemptRecord, Committed, Decision, Deferral, JobPart, Keyed, Lease, NewEvent,
    NewJob, NewWait, NodeRef, RunView, StageLimit, Turn, WaitEnd,
};
use serde_json::{Value, json};

use self::{draft::Draft, jobs::Jobs};
use super::guard::{Guard, Stuck, guarded};
use crate::{
    Action, EngineSettings, LastFailure,
    external::Offered,
    staged::ErasedGroup,
    workflow::{DoneJob, Given, JobPlan, Next, Outcome, Resumed, Workflow},
};

/// A run as the store has it at `revision`.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) run: RunId,
    pub(super) state: RunState,
    pub(super) created_at: Timestamp,
    priority: Priority,
    /// Since when those of each priority that can be claimed have waited for being served.
    served: BTreeMap<Priority, Timestamp>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) settings: Arc<Value>,
    workflow: String,
    /// In order; a workflow that says itself what comes next has one.
    pub(super) stages: Vec<StageNow>,
    revision: u64,
    /// How far it has come at most in this round, in per cent; only a plan says.
    pub(super) progress: Option<u32>,
    failure: Option<Value>,
    jobs: Jobs,
    /// A plan says what comes next.
    pub(super) is_staged: bool,
    /// Whether what follows from jobs that have ended was made with their end; else all of them are looked at.
    is_fed: bool,
    /// Whether the last decision said what follows from its changes.
    follows: bool,
    /// Terminal jobs, in the order they ended. Shared with attempts; grows in place once they left.
    done: Arc<Vec<DoneJob>>,
    /// Its plan declares what undoes its jobs.
    undoes: bool,
    /// Where those are that it undoes, in that order, once that is known.
    undo: Option<Vec<usize>>,
    /// Its workflow does not say how it goes on: what happens is recorded, and nothing more is asked of it.
    stuck: Option<Stuck>,
}

/// A stage as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StageNow {
    pub(super) name: String,
    pub(super) state: StageState,
    pub(super) outcome: Option<StageOutcome>,
    pub(super) concurrency: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) id: i64,
    pub(super) key: JobKey,
    pub(super) stage: String,
    pub(super) kind: JobKind,
    pub(super) parent: Option<JobKey>,
    /// What it executes; nothing for a step.
    pub(super) given: Arc<Given>,
    /// What a job of a stage gave; those of steps are in the list of what is done.
    result: Option<Arc<Value>>,
    pub(super) state: JobState,
    pub(super) attempt: u32,
    pub(super) run_after: Option<Timestamp>,
    pub(super) lease: Option<NodeRef>,
    attempts_used: u32,
    crashes: u32,
    policy: Policy,
    /// When its last attempt failed, and how.
    failed: Option<(Timestamp, LastFailure)>,
    skipped: Option<SkipReason>,
    deferral: Option<Deferral>,
    deferred_since: Option<Timestamp>,
    wait: Option<Waited>,
    /// What must admit it before it is claimed.
    uses: Vec<ServiceKey>,
    /// Its limit across runs, and where it is with it.
    pub(super) keyed: Option<Keyed>,
    pub(super) priority: Priority,
}

/// What a job waits for, or waited for last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waited {
    wait: NewWait,
    since: Timestamp,
    ended: Option<WaitEnd>,
}

/// What a job was given by its plan.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Policy {
    retry: RetryPolicy,
    pub(super) attempt_within_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heartbeat_within_ms: Option<u64>,
    /// When all of its attempts must have ended, in microseconds UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
    /// How long that was from when the job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within_ms: Option<u64>,
}

/// How long an attempt may take, and how long it may say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) within: Duration,
    /// What `within` is the rest of: what all attempts of the job may take, when that ends first.
    pub(super) of_job: Option<Duration>,
    /// Whether it undoes a job: what all that do so may take together is a setting.
    pub(super) undoes: bool,
    pub(super) heartbeat: Option<Duration>,
}

impl Policy {
    /// When all of its attempts must have ended.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline.map(Timestamp::from_micros)
    }
}

/// What may happen to a run.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    /// Nothing new: do what is due.
    Look,
    /// An attempt ended.
    Ended { lease: Lease, how: Box<Ending> },
    /// The run must end.
    Stop(StopCause),
    /// Nothing more of it may start (SM-10).
    Pause,
    /// It goes on where it stands.
    Unpause,
    /// A job of it shall not be made.
    Skip { job: JobKey, why: String },
    /// A stage gets another number of places.
    Limit(StageLimit),
    /// The run comes sooner, or later, than before.
    Priority(Priority),
}

impl Fact {
    /// Whether somebody, or the run's deadline, asks for it.
    fn is_asked(&self) -> bool {
        match self {
            Self::Look | Self::Ended { .. } => false,
            Self::Stop(_)
            | Self::Pause
            | Self::Unpause
            | Self::Skip { .. }
            | Self::Limit(_)
            | Self::Priority(_) => true,
        }
    }

    /// What a run would become by it, or would have done to it.
    pub(super) fn wants(&self) -> &'static str {
        match self {
            Self::Look | Self::Ended { .. } => "as it is",
            Self::Stop(_) => RunState::Cancelling.name(),
            Self::Pause => RunState::Paused.name(),
            Self::Unpause => RunState::Running.name(),
            Self::Skip { .. } => "with a skipped step",
            Self::Limit(_) => "with other places",
            Self::Priority(_) => "another priority",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// As its own code says.
    Reported(Reported),
    /// Its task panicked: a bug of its code.
    Panicked(String),
    /// It was stopped because the run is ending.
    Cancelled,
    /// It died with its process, and has no attempt left.
    Lost,
}

/// What the code of an attempt says of its end.
#[derive(Clone, Debug)]
pub(crate) struct Reported {
    pub(super) outcome: Outcome,
    pub(super) warnings: Vec<String>,
}

impl From<Outcome> for Reported {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, warnings: Vec::new() }
    }
}

/// Why a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    /// Somebody asked.
    Cancel,
    /// Its time is up.
    Deadline,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// The state makes it meaningless; nothing is written.
    Already,
    /// The run has no such job.
    NoJob,
    /// The run has no such stage of a plan.
    NoStage,
    /// The job has ended.
    Ended(JobState),
    /// It undoes what it has done, and ends by itself.
    Undoes,
}

/// The circumstances of a decision.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) now: Timestamp,
    /// In `0.0..1.0`, for pauses.
    pub(super) jitter: f64,
    /// Lease new jobs for this node at once; nothing is leased while draining.
    pub(super) claim_for: Option<NodeRef>,
    pub(super) settings: EngineSettings,
    pub(super) services: ServicesNow,
    /// Who asked for it, where that was a principal.
    pub(super) asked: Option<AskedBy>,
}

/// Who asked for what, which is recorded with what follows.
#[derive(Clone, Debug)]
pub(super) struct AskedBy {
    pub(super) action: Action,
    pub(super) by: String,
}

/// What is known of the services that jobs use.
#[derive(Clone, Debug, Default)]
pub(super) struct ServicesNow {
    /// What may be declared.
    pub(super) offered: Offered,
    /// Whom those admit that jobs of the run wait for.
    pub(super) admissions: Admissions,
}

impl AskedBy {
    /// Who asked, as the event before what follows.
    pub(super) fn event(&self, fact: &Fact) -> NewEvent {
        let mut data = json!({ "request": self.action.name(), "by": self.by });
        let job = match fact {
            Fact::Skip { job, why } => {
                data["why"] = json!(why);
                Some(job.clone())
            }
            Fact::Limit(StageLimit { stage, most }) => {
                (data["stage"], data["most"]) = (json!(stage), json!(most));
                None
            }
            Fact::Priority(priority) => {
                data["priority"] = json!(priority);
                None
            }
            Fact::Look | Fact::Ended { .. } | Fact::Stop(_) | Fact::Pause | Fact::Unpause => None,
        };
        NewEvent { kind: "requested".to_owned(), job, attempt: None, data }
    }
}

impl Job {
    /// What ended its last wait.
    pub(super) fn resumed(&self) -> Option<Resumed> {
        let waited = self.wait.as_ref()?;
        let end = waited.ended.clone()?;
        let (name, value) = (waited.wait.name.clone(), end.answer?);
        Some(Resumed { name, how: end.how, by: end.by, value })
    }
}

impl Machine {
    /// The machine of a run that can be understood; else why it cannot.
    pub(super) fn new(view: RunView, workflow: &dyn Workflow) -> Result<Self, String> {
        let served = order::served(&view);
        let mut jobs = Vec::with_capacity(view.jobs.len());
        let mut done = Vec::new();
        let mut waits: HashMap<i64, Waited> = view
            .waits
            .into_iter()
            .map(|of| (of.job, Waited { wait: of.wait, since: of.since, ended: of.ended }))
            .collect();
        let policies = guarded("staging", || {
            let staging = workflow.staging()?;
            let policy =
                |(name, of): (&&str, &Arc<dyn ErasedGroup>)| ((*name).to_owned(), of.policy());
            Some((staging.groups.iter().map(policy).collect(), staging.undoes()))
        });
        let policies = policies.map_err(|panicked| panicked.to_string())?;
        let is_staged = policies.is_some();
        let (policies, undoes) = policies.unwrap_or_default();
        let mut failures = last_failures(&view.attempts);
        for job in view.jobs {
            let unreadable = |error| format!("the plan of {}: {error}", job.key);
            let given = if is_staged {
                serde_json::from_value(job.input.clone()).map_err(unreadable)?
            } else {
                Given::default()
            };
            let result = job.result.clone().filter(|_| is_staged).map(Arc::new);
            if is_done(job.state) && !is_staged {
                done.push(DoneJob {
                    key: job.key.clone(),
                    state: job.state,
                    result: job.result.unwrap_or(Value::Null),
                });
            }
            jobs.push(Job {
                id: job.id,
                stage: job.stage,
                kind: job.kind,
                parent: job.parent,
                given: Arc::new(given),
                result,
                policy: serde_json::from_value(job.input)
                    .map_err(|error| format!("the plan of {}: {error}", job.key))?,
                key: job.key,
                state: job.state,
                attempt: job.attempt,
                run_after: job.run_after,
                lease: job.lease,
                attempts_used: job.attempts_used,
                crashes: job.crashes,
                failed: failures.remove(&job.id),
                skipped: job.skipped,
                deferral: job.deferral,
                deferred_since: job.deferred_since,
                wait: waits.remove(&job.id),
                uses: job.uses,
                keyed: job.keyed,
                priority: job.priority,
            });
        }
        let stages = if is_staged {
            view.stages.into_iter().map(StageNow::from).collect()
        } else {
            let stage = guarded("stage", || workflow.stage().to_owned());
            let name = stage.map_err(|panicked| panicked.to_string())?;
            let state = view
                .stages
                .iter()
                .find(|record| record.stage == name)
                .map_or(StageState::Open, |record| record.state);
            vec![StageNow { name, state, outcome: None, concurrency: None }]
        };
        Ok(Self {
            run: view.run.run,
            state: view.run.state,
            created_at: view.run.created_at,
            priority: view.run.priority,
            served,
            deadline: view.run.deadline,
            settings: Arc::new(view.run.settings),
            workflow: view.run.workflow,
            stages,
            revision: view.run.revision,
            progress: view.run.progress,
            failure: view.run.failure,
            jobs: Jobs::of(jobs, policies),
            is_staged,
            is_fed: false,
            follows: false,
            done: Arc::new(done),
            undoes,
            undo: None,
            stuck: None,
        })
    }

    /// Why nobody knows how it goes on; a run that is ending needs nobody for that.
    pub(super) fn stuck(&self) -> Option<&Stuck> {
        self.stuck.as_ref().filter(|_| self.state.works())
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    pub(super) fn job(&self, id: i64) -> Option<&Job> {
        self.jobs.get(self.jobs.index().by_id(id)?)
    }

    /// Those whose attempts are under way.
    pub(super) fn leased(&self) -> impl Iterator<Item = &Job> {
        self.jobs.tally().leased().iter().filter_map(|place| self.jobs.get(*place))
    }

    /// The last of those that have not ended.
    pub(super) fn last_open(&self) -> Option<&Job> {
        self.jobs.get(*self.jobs.tally().open().last()?)
    }

    /// How many have ended.
    pub(super) fn ended(&self) -> usize {
        self.jobs.len() - self.jobs.tally().open().len()
    }

    /// The one stage of a workflow that says itself what comes next.
    fn driven(&self) -> (&str, StageState) {
        self.stages.first().map_or(("", StageState::Open), |it| (it.name.as_str(), it.state))
    }

    /// What an attempt that is claimed now may take: its own limit, and no more than what is left of its
    /// job's time (DUR-50). When its run's time is over the run ends it: that is no failure of the job (DUR-52).
    pub(super) fn limits(&self, id: i64, now: Timestamp) -> Limits {
        let Some(Job { policy, stage, .. }) = self.job(id) else {
            let within = Duration::ZERO;
            return Limits { within, of_job: None, undoes: false, heartbeat: None };
        };
        let own = Duration::from_millis(policy.attempt_within_ms);
        let left = policy.deadline().map(|deadline| deadline.since(now)).filter(|left| *left < own);
        let of_job = left.and(policy.within_ms).map(Duration::from_millis);
        let heartbeat = policy.heartbeat_within_ms.map(Duration::from_millis);
        let undoes = self.is_undoing(stage);
        Limits { within: left.unwrap_or(own), of_job, undoes, heartbeat }
    }

    /// The job of that name.
    pub(super) fn find(&self, key: &JobKey) -> Option<&Job> {
        self.jobs.get(self.jobs.index().by_key(key)?)
    }

    pub(super) fn done(&self) -> Arc<Vec<DoneJob>> {
        self.done.clone()
    }

    pub(super) fn idempotency_key(&self, job: &JobKey) -> IdempotencyKey {
        // The key of a job of a stage begins with it.
        let (stage, rest) = match job.as_str().split_once('/') {
            Some((stage, rest)) if self.is_staged => (stage, JobKey::new(rest)),
            Some(_) | None => (self.driven().0, job.clone()),
        };
        IdempotencyKey::new(&self.workflow, &self.run, stage, &rest)
    }

    /// Whether a job is Ready and due, so that a claim would find something.
    pub(super) fn has_due(&self, now: Timestamp) -> bool {
        self.due(now, 1) > 0
    }

    /// How many jobs a claim would find, counted no further than `most`.
    pub(super) fn due(&self, now: Timestamp, most: usize) -> usize {
        if !self.state.claims() {
            return 0;
        }
        if self.is_staged {
            return self.due_in_stages(now, most);
        }
        let stages = self.jobs.tally().stages();
        stages.map(|of| of.own.due(now, most)).sum::<usize>().min(most)
    }

    /// What follows from `fact`; nothing when it changes nothing.
    pub(super) fn decide(
        &mut self,
        workflow: &dyn Workflow,
        fact: &Fact,
        at: &Circumstances,
    ) -> Result<Option<Decision>, Unchanged> {
        #[cfg(test)]
        let thorough = self.decide_thoroughly(workflow, fact, at);
        let guard = Guard::new(workflow);
        let decided = self.decide_with(&guard, fact, at);
        self.stuck = self.stuck.take().or(guard.stuck());
        #[cfg(test)]
        if let Some(thorough) = thorough {
            let quick = format!("{decided:?}");
            assert_eq!(quick, thorough, "a look through all jobs decides otherwise");
        }
        decided
    }

    /// What a look through all of its jobs decides, and that what is counted of them is what is found then. Where no
    /// stage is counted and no job waits, nothing is decided by counts.
    #[cfg(test)]
    fn decide_thoroughly(
        &mut self,
        workflow: &dyn Workflow,
        fact: &Fact,
        at: &Circumstances,
    ) -> Option<String> {
        if !self.is_staged && self.jobs.tally().waiting() == 0 {
            return None;
        }
        assert_eq!(*self.jobs.tally(), self.jobs.recount(), "counted otherwise");
        jobs::THOROUGH.set(true);
        let decided = self.decide_with(&Guard::new(workflow), fact, at);
        jobs::THOROUGH.set(false);
        Some(format!("{decided:?}"))
    }

    fn decide_with(
        &mut self,
        workflow: &Guard<'_>,
        fact: &Fact,
        at: &Circumstances,
    ) -> Result<Option<Decision>, Unchanged> {
        self.follows = false;
        if self.state == RunState::Compensating && fact.is_asked() {
            // SM-12: it ends already, which is what whoever stops it wants.
            let ends = matches!(fact, Fact::Stop(_));
            return Err(if ends { Unchanged::Already } else { Unchanged::Undoes });
        }
        let mut draft = Draft::new(self);
        if let Some(asked) = &at.asked {
            draft.note(asked, fact);
        }
        match fact {
            Fact::Look => (),
            Fact::Ended { lease, how } => {
                let job = self.job(lease.job).ok_or(Unchanged::Already)?;
                draft.report(workflow, lease, how, job, &self.done, at);
            }
            Fact::Stop(_) if self.state.is_terminal() || self.state == RunState::Cancelling => {
                return Err(Unchanged::Already);
            }
            Fact::Stop(cause) => draft.stop(*cause, self),
            // SM-12: what it is already changes nothing.
            Fact::Pause if self.state != RunState::Running => return Err(Unchanged::Already),
            Fact::Pause => draft.enter(RunState::Paused, self),
            Fact::Unpause if self.state != RunState::Paused => return Err(Unchanged::Already),
            Fact::Unpause => draft.enter(RunState::Running, self),
            Fact::Skip { job, why } => {
                let job = self.find(job).ok_or(Unchanged::NoJob)?;
                if job.skipped == Some(SkipReason::Operator) || !self.state.goes_on() {
                    return Err(Unchanged::Already);
                }
                if job.state.is_terminal() {
                    return Err(Unchanged::Ended(job.state));
                }
                if self.is_staged {
                    draft.stop_below(self, job);
                }
                draft.skip(workflow, job, why);
            }
            Fact::Limit(_) | Fact::Priority(_) => (),
        }
        if let Fact::Limit(limit) = fact {
            // What follows is decided by it.
            return self.limit(draft, limit);
        }
        if let Fact::Priority(priority) = fact {
            return self.prioritise(draft, *priority);
        }
        let goes_on = draft.state.goes_on() && self.stuck.is_none();
        if draft.state.works() && self.stuck.is_none() {
            draft.wake(workflow, self, at);
        }
        if self.state == RunState::Compensating {
            draft.undo(workflow, self, at);
            return Ok(draft.finish(self));
        }
        // What follows a report is made while the run is paused as well, and waits.
        if goes_on && draft.state.goes_on() && draft.state == self.state {
            if self.is_staged {
                self.follows = draft.follow_plan(workflow, self, at).is_some();
                return Ok(draft.finish(self));
            }
            self.continue_with(workflow, &mut draft, at);
        }
        if self.is_staged {
            draft.close_stages(workflow, self, at);
            return Ok(draft.finish(self));
        }
        draft.close(workflow, self);
        Ok(draft.finish(self))
    }

    fn limit(&self, mut draft: Draft, limit: &StageLimit) -> Result<Option<Decision>, Unchanged> {
        let stage = self.stages.iter().find(|stage| stage.name == limit.stage);
        // What undoes jobs does so one by one.
        let is_planned = |stage: &&StageNow| self.is_staged && !self.is_undoing(&stage.name);
        let stage = stage.filter(is_planned).ok_or(Unchanged::NoStage)?;
        if stage.concurrency == Some(limit.most.get()) || !self.state.goes_on() {
            return Err(Unchanged::Already);
        }
        draft.limits.push(limit.clone());
        Ok(draft.finish(self))
    }

    /// Asks the workflow what comes next, with the jobs of the draft counted as done.
    fn continue_with(&mut self, workflow: &Guard<'_>, draft: &mut Draft, at: &Circumstances) {
        if self.driven().1 != StageState::Open {
            return;
        }
        let next = if draft.newly_done.is_empty() {
            workflow.next(&self.done)
        } else {
            // In place unless an attempt still holds the list.
            let done = Arc::make_mut(&mut self.done);
            let before = done.len();
            done.extend(draft.newly_done.iter().cloned());
            let next = workflow.next(done);
            done.truncate(before);
            next
        };
        match next {
            Some(Next::Jobs(plans)) => {
                if let Some(inverted) = plans.iter().find_map(JobPlan::inverted) {
                    return draft.refuse_plan(&inverted);
                }
                let claim_for = at.claim_for.clone().filter(|_| self.state == RunState::Running);
                let known = |plan: &JobPlan| {
                    let found = self.jobs.iter().rev().find(|job| job.key == plan.key);
                    found.is_some_and(|job| job.state != JobState::Cancelled)
                };
                let new = plans.into_iter().filter(|plan| !known(plan));
                let stage = self.driven().0;
                draft.new_jobs =
                    new.map(|plan| new_job(stage, plan, claim_for.clone(), at.now)).collect();
            }
            Some(Next::Seal) => draft.seal = true,
            None => (),
        }
    }

    /// Folds a committed decision.
    pub(super) fn apply(&mut self, decision: Decision, committed: &Committed) -> Vec<Lease> {
        let Committed::Now { revision, leases, job_ids, events, resumed } = committed else {
            return Vec::new();
        };
        self.revision = *revision;
        let changes_no_job = decision.report.is_none() && decision.jobs.is_empty();
        let at = events.last().map_or(self.created_at, |event| event.at);
        if let Some(report) = decision.report {
            let counts = report.end.uses_budget();
            let is_staged = self.is_staged;
            let ended = self.jobs.change(report.lease.job, |job| {
                job.state = report.job;
                job.lease = None;
                job.run_after = report.run_after;
                job.skipped = report.skipped;
                job.deferred_since =
                    report.deferral.as_ref().map(|_| job.deferred_since.unwrap_or(at));
                job.deferral = report.deferral;
                job.ask_anew();
                if let Some(wait) = report.wait {
                    job.wait = Some(Waited { wait, since: at, ended: resumed.clone() });
                    if resumed.is_some() {
                        // What it waits for had come before.
                        job.state = JobState::Ready;
                    }
                }
                job.attempts_used += u32::from(counts);
                job.failed = report.class.map(|class| {
                    let (code, message) = (report.code, report.message);
                    (at, LastFailure::new(class, code.as_deref(), message.as_deref()))
                });
                if is_staged {
                    job.result = report.result.map(Arc::new);
                    return None;
                }
                let result = report.result.unwrap_or(Value::Null);
                is_done(report.job).then(|| DoneJob {
                    key: job.key.clone(),
                    state: report.job,
                    result,
                })
            });
            self.add_done(ended.flatten());
        }
        for step in decision.jobs {
            let is_staged = self.is_staged;
            let ended = self.jobs.change(step.job, |job| {
                job.state = step.to;
                // The attempt of one that was leased has ended with the step.
                job.lease = None;
                job.skipped = step.skipped;
                job.run_after = step.run_after;
                job.deferral = step.deferral;
                if step.to != JobState::Joining {
                    job.ask_anew();
                }
                if let Some(waited) = &mut job.wait
                    && step.from == JobState::Suspended
                {
                    waited.ended = Some(step.ended.unwrap_or_else(WaitEnd::set_free));
                }
                if is_staged {
                    job.result = step.result.map(Arc::new);
                    return None;
                }
                let result = step.result.unwrap_or(Value::Null);
                is_done(step.to).then(|| DoneJob { key: job.key.clone(), state: step.to, result })
            });
            self.add_done(ended.flatten());
        }
        for (job, id) in decision.new_jobs.into_iter().zip(job_ids) {
            let lease = job.claim_for.clone();
            // The plan's own input: written by `new_job`.
            let Ok(policy) = serde_json::from_value(job.input.clone()) else { continue };
            let given = if self.is_staged {
                serde_json::from_value(job.input).unwrap_or_default()
            } else {
                Given::default()
            };
            // One of an earlier round keeps its place, and the number of its last attempt.
            let before = self.job(*id);
            let leased = leases.iter().find(|lease| lease.job == *id).map(|lease| lease.attempt);
            let last = before.map_or(0, |old| old.attempt);
            let is_again = before.is_some();
            let made = Job {
                id: *id,
                key: job.key,
                stage: job.stage,
                kind: job.part.kind,
                parent: job.part.parent,
                given: Arc::new(given),
                result: job.part.failed.clone().map(Arc::new),
                state: match (job.part.skipped, &lease) {
                    (Some(_), _) => JobState::Skipped,
                    (None, _) if job.part.failed.is_some() => JobState::Failed,
                    (None, _) if job.part.is_blocked => JobState::Blocked,
                    (None, Some(_)) => JobState::Leased,
                    (None, None) => JobState::Ready,
                },
                attempt: leased.unwrap_or(last),
                run_after: None,
                lease,
                attempts_used: 0,
                crashes: 0,
                policy,
                failed: None,
                skipped: job.part.skipped,
                deferral: None,
                deferred_since: None,
                wait: None,
                uses: job.part.uses,
                priority: job.part.priority,
                keyed: job.part.limit.map(|by| Keyed {
                    by,
                    turn: Turn::None,
                    since: None,
                    held_by: None,
                }),
            };
            if is_again {
                self.jobs.change(*id, |job| *job = made);
            } else {
                self.jobs.push(made);
            }
        }
        for step in decision.stages {
            if let Some(stage) = self.stages.iter_mut().find(|stage| stage.name == step.stage) {
                (stage.state, stage.outcome) = (step.to, step.outcome);
            }
        }
        for StageLimit { stage, most } in decision.limits {
            if let Some(stage) = self.stages.iter_mut().find(|it| it.name == stage) {
                stage.concurrency = Some(most.get());
            }
        }
        self.priority = decision.priority.unwrap_or(self.priority);
        self.is_fed = self.follows || self.is_fed && changes_no_job;
        self.progress = decision.progress.or(self.progress);
        if let Some(step) = decision.run_step {
            self.state = step.to;
            if step.to == RunState::Compensating {
                // Nothing of that is asked any more.
                self.stuck = None;
            }
            if step.to.is_terminal() {
                self.progress = self.progress.map(|mark| shown(mark, mark, true));
            }
            if step.failure.is_some() {
                self.failure = step.failure;
            }
        }
        leases.clone()
    }

    /// The list is shared with attempts.
    fn add_done(&mut self, ended: Option<DoneJob>) {
        if let Some(ended) = ended {
            Arc::make_mut(&mut self.done).push(ended);
        }
    }

    /// A job was leased by a claim.
    pub(super) fn claimed(&mut self, lease: &Lease, now: Timestamp) {
        let served = self.job(lease.job).map(|job| job.priority);
        self.served.extend(served.map(|priority| (priority, now)));
        self.jobs.change(lease.job, |job| {
            job.state = JobState::Leased;
            job.attempt = lease.attempt;
            job.lease = Some(lease.node.clone());
            job.run_after = None;
            job.has_waited(now);
            job.set_turn(Turn::Has, None);
        });
    }

    /// A claim found that a service does not admit a job.
    pub(super) fn deferred(&mut self, id: i64, deferral: Deferral, now: Timestamp) {
        self.jobs.change(id, |job| {
            job.state = JobState::Deferred;
            job.run_after = None;
            job.deferred_since = job.deferred_since.or(Some(now));
            job.deferral = Some(deferral);
            job.ask_anew();
        });
    }

    /// An attempt was released.
    pub(super) fn released(&mut self, lease: &Lease) {
        self.jobs.change(lease.job, |job| {
            job.state = JobState::Ready;
            job.lease = None;
            job.ask_anew();
        });
    }

    /// The lease of a job that is leased.
    pub(super) fn lease(&self, job: &Job) -> Option<Lease> {
        job.lease.clone().map(|node| Lease {
            run: self.run.clone(),
            job: job.id,
            key: job.key.clone(),
            attempt: job.attempt,
            node,
        })
    }
}

impl From<perennial_store::StageRecord> for StageNow {
    fn from(record: perennial_store::StageRecord) -> Self {
        let (name, state, outcome) = (record.stage, record.state, record.outcome);
        Self { name, state, outcome, concurrency: record.concurrency }
    }
}

/// Whether a job is not made any more: one that is cancelled in a run that goes on is made again when
/// it is due.
fn is_done(state: JobState) -> bool {
    state.is_terminal() && state != JobState::Cancelled
}

/// How the last attempt of each job that has ended failed, of those where it did.
pub(super) fn last_failures(attempts: &[AttemptRecord]) -> HashMap<i64, (Timestamp, LastFailure)> {
    let mut last: HashMap<i64, &AttemptRecord> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.ended_at.is_some()) {
        let known = last.entry(attempt.job).or_insert(attempt);
        if known.attempt <= attempt.attempt {
            *known = attempt;
        }
    }
    let failed = last.into_iter().filter_map(|(job, last)| {
        let (code, message) = (last.code.as_deref(), last.message.as_deref());
        Some((job, (last.ended_at?, LastFailure::new(last.class?, code, message))))
    });
    failed.collect()
}

fn new_job(stage: &str, plan: JobPlan, claim_for: Option<NodeRef>, now: Timestamp) -> NewJob {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let policy = Policy {
        retry: plan.retry,
        attempt_within_ms: millis(plan.attempt_within),
        heartbeat_within_ms: plan.heartbeat_within.map(millis),
        deadline: plan.within.map(|within| now.after(within).as_micros()),
        within_ms: plan.within.map(millis),
    };
    NewJob {
        stage: stage.to_owned(),
        key: plan.key,
        // Failures only; deaths of the process are counted apart (SM-31).
        max_attempts: plan.retry.max_attempts,
        crashes_max: plan.retry.crashes_max,
        input: json!(policy),
        claim_for,
        part: JobPart::default(),
    }
}

/// The name under which a run's timers are kept.
pub(crate) fn owner(run: &RunId) -> String {
    format!("run:{run}")
}

#[cfg(test)]
mod tests;
