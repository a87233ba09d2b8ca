//! What is written: each value is the whole of one transaction.

use std::{num::NonZeroU32, time::Duration};

use perennial_core::{
    Digest, FailureClass, Timestamp,
    run::{
        AttemptEnd, FeedKind, JobKey, JobKind, JobState, Priority, RunId, RunState, SkipReason,
        StageOutcome, StageState,
    },
    service::ServiceKey,
};
use serde_json::Value;

use super::{
    record::{CallRecord, EventRecord, NodeRef},
    turn::ConcurrencyKey,
    wait::{Deferral, NewWait, WaitEnd},
};

/// How long a lease of a node lasts, unless its terms say otherwise (DUR-20).
pub const LEASE_TTL: Duration = Duration::from_secs(10);

/// How a store knows which nodes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leases {
    /// One process holds it at a time, by a lock: whoever registered in an earlier opening is dead, and nobody
    /// else can be.
    Proven,
    /// Several nodes share it: each lives until its lease is over on the store's clock, and renews it.
    Timed,
}

/// How a node is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeTerms {
    /// How long its lease lasts where it needs one.
    pub ttl: Duration,
    /// Nobody else uses its name: whoever registers it knows that its earlier incarnations are dead, and need not
    /// wait for the end of their leases.
    pub exclusive: bool,
}

impl Default for NodeTerms {
    fn default() -> Self {
        Self { ttl: LEASE_TTL, exclusive: false }
    }
}

/// What the renewal of a lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The node lives.
    Extended {
        /// Until then, by the store's clock, unless it is renewed; none where it needs no lease.
        until: Option<Timestamp>,
    },
    /// It has ended, or its lease was over: what it held may be somebody else's. It registers again.
    NodeLost,
}

/// A node's new incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The new incarnation.
    pub node: NodeRef,
    /// Until when it lives unless its lease is renewed; none where it needs no lease.
    pub until: Option<Timestamp>,
    /// Earlier incarnations that had not ended in good order.
    pub ended: Vec<u64>,
}

/// A job that was given back for a dead incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescued {
    /// Its run.
    pub run: RunId,
    /// Its key.
    pub key: JobKey,
    /// The attempt that died.
    pub attempt: u32,
    /// Whether that attempt had called out without a recorded reply.
    pub uncertain: bool,
    /// It has no attempt left and still waits, leased, for the decision that ends it.
    pub exhausted: bool,
}

/// A run to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its id.
    pub run: RunId,
    /// Name of its workflow.
    pub workflow: String,
    /// Digest of its definition.
    pub definition: Digest,
    /// The definition itself, kept as the blob of that digest.
    pub definition_bytes: Vec<u8>,
    /// Digest of inputs and settings.
    pub input_digest: Digest,
    /// Inputs and settings.
    pub settings: Value,
    /// Who will run it; nobody yet when it is left to whoever takes it.
    pub owner: Option<NodeRef>,
    /// What comes first of runs that wait.
    pub priority: Priority,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// Its stages, in order.
    pub stages: Vec<NewStage>,
    /// Its first jobs.
    pub jobs: Vec<NewJob>,
    /// Further timers, besides those of the jobs.
    pub timers: Vec<NewTimer>,
}

/// A stage of a run to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStage {
    /// Its name.
    pub stage: String,
    /// Where it begins.
    pub state: StageState,
    /// How it closed, if it begins closed.
    pub outcome: Option<StageOutcome>,
    /// Where its jobs come from.
    pub feed: FeedKind,
    /// The stage that feeds it, if one does.
    pub upstream: Option<String>,
    /// How many of its own jobs are under way at a time, at most; none where nothing limits them but their node.
    pub concurrency: Option<u32>,
    /// Whether its failure is one of its run.
    pub required: bool,
    /// Its share of the run's progress, next to those of the others.
    pub weight: u32,
}

impl NewStage {
    /// The one stage of a workflow that says itself what comes next: Open.
    pub fn driven(stage: impl Into<String>) -> Self {
        Self {
            stage: stage.into(),
            state: StageState::Open,
            outcome: None,
            feed: FeedKind::Driven,
            upstream: None,
            concurrency: None,
            required: true,
            weight: 1,
        }
    }

    /// Whether it is a stage of a plan. One that is driven is where it has places: the one stage of a workflow that says
    /// itself what comes next has as many as there is room for.
    ///
    /// ```
    /// use perennial_store::NewStage;
    ///
    /// let plain = NewStage::driven("steps");
    /// assert!(!plain.is_planned());
    /// assert!(NewStage { concurrency: Some(10), ..plain }.is_planned());
    /// ```
    pub fn is_planned(&self) -> bool {
        self.feed != FeedKind::Driven || self.concurrency.is_some()
    }
}

/// Whether a run was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was, and is Running: revision and leases of the jobs that asked to be claimed.
    New {
        /// Revision of the new run.
        revision: u64,
        /// Leases, in the order of the jobs that asked.
        leases: Vec<Lease>,
    },
    /// A run of this id, definition and input exists.
    Existing,
}

/// A further round of a run that ended, or whose process is gone: some of its jobs are made again,
/// maybe by another definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Reopening {
    /// The run.
    pub run: RunId,
    /// The revision it was decided from.
    pub expected_revision: u64,
    /// Who will run it.
    pub owner: NodeRef,
    /// Digest of its definition from now on.
    pub definition: Digest,
    /// The definition itself, kept as the blob of that digest.
    pub definition_bytes: Vec<u8>,
    /// Digest of inputs and settings.
    pub input_digest: Digest,
    /// Inputs and settings from now on.
    pub settings: Value,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// Jobs that lose their results and are made again when they are due. All others have to be
    /// terminal.
    pub again: Vec<Again>,
    /// The stages of a plan that are opened, and where each begins; all others stay as they are. Such a run must have ended,
    /// and may have succeeded in part. Empty where a run has no plan: its stage is Open.
    pub stages: Vec<StageBack>,
}

/// A stage that is opened for a further round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageBack {
    /// Its name.
    pub stage: String,
    /// Where it begins: Waiting, Open or Sealed.
    pub state: StageState,
}

/// A job that is made again.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// The job's row.
    pub job: i64,
    /// Whether its recorded calls and what its attempts have saved are forgotten too; else they are taken
    /// again (YR-51).
    pub forget_calls: bool,
    /// Where it begins: Cancelled until its workflow asks for it, or, of a plan, Ready or Blocked.
    pub to: JobState,
    /// What it is given from now on, if that is something else.
    pub input: Option<Value>,
}

impl Again {
    /// One that waits until its workflow asks for it, with all that it has recorded.
    pub fn asked_for(job: i64) -> Self {
        Self { job, forget_calls: false, to: JobState::Cancelled, input: None }
    }
}

/// A job to be created, or to be made again when its run was reopened for that.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its stage.
    pub stage: String,
    /// Its key in the stage.
    pub key: JobKey,
    /// Attempts allowed, at least one.
    pub max_attempts: u32,
    /// Deaths of its process after which it is not tried again, at least one.
    pub crashes_max: u32,
    /// What it is given.
    pub input: Value,
    /// Lease it in the same transaction (its first attempt is then under way when it appears).
    pub claim_for: Option<NodeRef>,
    /// What else it is; none of it for a step.
    pub part: JobPart,
}

/// What a job is within its stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPart {
    /// Code, or children.
    pub kind: JobKind,
    /// The group whose child it is, which has to be Joining in the same transaction at the latest.
    pub parent: Option<JobKey>,
    /// It is skipped from the beginning, so that nothing of a plan vanishes.
    pub skipped: Option<SkipReason>,
    /// It waits for other jobs of its stage.
    pub is_blocked: bool,
    /// It has failed from the beginning, with that record: what it should be given cannot be kept, or is not there.
    pub failed: Option<Value>,
    /// What must admit it before it is claimed, and is held for it until it has ended.
    pub uses: Vec<ServiceKey>,
    /// Of all jobs with its key only so many are under way at a time. It is not leased when it is made, but by a claim.
    pub limit: Option<ConcurrencyKey>,
    /// What comes first of the jobs of its run: added to the priority of that.
    pub priority: Priority,
}

impl Default for JobPart {
    /// A step.
    fn default() -> Self {
        Self {
            kind: JobKind::Step,
            parent: None,
            skipped: None,
            is_blocked: false,
            failed: None,
            uses: Vec::new(),
            limit: None,
            priority: Priority::NORMAL,
        }
    }
}

/// The right of one attempt to act for its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// The job's row.
    pub job: i64,
    /// The job's key.
    pub key: JobKey,
    /// The fencing token.
    pub attempt: u32,
    /// Who holds it.
    pub node: NodeRef,
}

/// A claimed job.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The lease.
    pub lease: Lease,
    /// Stage of the job.
    pub stage: String,
    /// What it was given.
    pub input: Value,
    /// Calls that earlier attempts recorded.
    pub calls: Vec<CallRecord>,
}

/// A call about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStart {
    /// `<ordinal>/<request digest>`.
    pub name: String,
    /// What the outside world will see.
    pub idempotency_key: String,
}

/// What follows from one fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The run.
    pub run: RunId,
    /// The revision it was made from.
    pub expected_revision: u64,
    /// The attempt whose end is the fact; its lease must be live.
    pub report: Option<Report>,
    /// Jobs that change without an attempt of theirs ending (cancelled, skipped).
    pub jobs: Vec<JobStep>,
    /// New jobs.
    pub new_jobs: Vec<NewJob>,
    /// Stages that change.
    pub stages: Vec<StageStep>,
    /// The run's own change.
    pub run_step: Option<RunStep>,
    /// Events beyond those that the changes above imply.
    pub events: Vec<NewEvent>,
    /// Timers to be set (replacing one of the same name).
    pub timers: Vec<NewTimer>,
    /// How far its run has come with it, in per cent below 100, where that is further than ever in this round.
    pub progress: Option<u32>,
    /// Stages that get another number of places.
    pub limits: Vec<StageLimit>,
    /// The priority that its run has from now on.
    pub priority: Option<Priority>,
}

/// How many jobs of a stage may be under way from now on. Fewer than there are end none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageLimit {
    /// The stage, of a plan.
    pub stage: String,
    /// So many.
    pub most: NonZeroU32,
}

/// How an attempt ended and what that makes of its job.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose end it is.
    pub lease: Lease,
    /// How it ended.
    pub end: AttemptEnd,
    /// What becomes of the job: terminal, or Ready for another attempt.
    pub job: JobState,
    /// Why it was skipped.
    pub skipped: Option<SkipReason>,
    /// Not before, when it is Ready again.
    pub run_after: Option<Timestamp>,
    /// The result, or the failed record.
    pub result: Option<Value>,
    /// The failure's class.
    pub class: Option<FailureClass>,
    /// The failure's code.
    pub code: Option<String>,
    /// The failure's text; cut to 4 KiB.
    pub message: Option<String>,
    /// Whether its attempts are used up.
    pub dead_letter: bool,
    /// What its job waits for, when it is deferred.
    pub deferral: Option<Deferral>,
    /// What its job waits for, when it is suspended.
    pub wait: Option<NewWait>,
}

/// A job that changes without an attempt of its own ending.
#[derive(Clone, Debug, PartialEq)]
pub struct JobStep {
    /// The job's row.
    pub job: i64,
    /// The state it must be in.
    pub from: JobState,
    /// The state it enters.
    pub to: JobState,
    /// Why it is skipped; when that is not said, something it needs failed.
    pub skipped: Option<SkipReason>,
    /// Not before, when it is Ready.
    pub run_after: Option<Timestamp>,
    /// What it waits for, when it is deferred.
    pub deferral: Option<Deferral>,
    /// What ended the wait of a suspended job.
    pub ended: Option<WaitEnd>,
    /// The result, or the failed record.
    pub result: Option<Value>,
    /// Further facts for its event.
    pub about: Value,
}

impl JobStep {
    /// The bare step.
    pub fn new(job: i64, from: JobState, to: JobState) -> Self {
        Self {
            job,
            from,
            to,
            skipped: None,
            run_after: None,
            deferral: None,
            ended: None,
            result: None,
            about: Value::Null,
        }
    }
}

/// A stage that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageStep {
    /// Its name.
    pub stage: String,
    /// The state it must be in.
    pub from: StageState,
    /// The state it enters.
    pub to: StageState,
    /// How it closed.
    pub outcome: Option<StageOutcome>,
}

/// The run's own change.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStep {
    /// The state it must be in.
    pub from: RunState,
    /// The state it enters.
    pub to: RunState,
    /// Why it failed.
    pub failure: Option<Value>,
}

/// An event to be appended.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Its name in snake case.
    pub kind: String,
    /// The job's key, where it is about one.
    pub job: Option<JobKey>,
    /// The attempt, where it is about one.
    pub attempt: Option<u32>,
    /// Further facts.
    pub data: Value,
}

/// A timer to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTimer {
    /// Who is woken, for example `run:<id>`.
    pub owner: String,
    /// Which of its timers.
    pub name: String,
    /// When.
    pub at: Timestamp,
}

/// A timer that was due and is now taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerDue {
    /// Who is woken.
    pub owner: String,
    /// Which of its timers.
    pub name: String,
    /// When it was due.
    pub at: Timestamp,
}

/// What a decision came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Committed {
    /// It is in the store.
    Now {
        /// The run's new revision.
        revision: u64,
        /// Leases of new jobs that asked to be claimed, in order.
        leases: Vec<Lease>,
        /// Ids of all new jobs, in order.
        job_ids: Vec<i64>,
        /// The events it wrote.
        events: Vec<EventRecord>,
        /// What ended the wait that its report began, when that had come before: the job is Ready again.
        resumed: Option<WaitEnd>,
    },
    /// The report was in the store before; nothing was written.
    AlreadyRecorded {
        /// How the attempt ended.
        end: AttemptEnd,
    },
}

/// What an append came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Events in the stream now.
    pub events: u64,
    /// When, by the store's clock.
    pub at: Timestamp,
}
