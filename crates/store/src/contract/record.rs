//! What is read.

use perennial_core::{
    Digest, FailureClass, Timestamp,
    run::{
        AttemptEnd, FeedKind, JobKey, JobKind, JobState, Priority, RunId, RunState, SkipReason,
        StageOutcome, StageState,
    },
    service::ServiceKey,
};
use serde_json::Value;

use super::saved::{BeatRecord, CheckpointRecord};
use super::turn::Keyed;
use super::wait::{Deferral, SignalRecord, WaitRecord};

/// One process start of a node.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let owner = store.run(&run).await?.run.owner.expect("somebody runs it");
/// assert_eq!((owner.node.as_str(), owner.incarnation), ("local", 1)); // its first start
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct NodeRef {
    /// The node.
    pub node: String,
    /// Which of its starts.
    pub incarnation: u64,
}

/// One process start of a node, as the store knows it.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let node = &store.nodes(20).await?[0];
/// assert_eq!((node.node.node.as_str(), node.alive, node.jobs, node.runs), ("local", true, 1, 1));
/// assert_eq!(node.lease_until, None); // its store is held by one process
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeRecord {
    /// Which node, and which of its starts.
    #[serde(flatten)]
    pub node: NodeRef,
    /// When it registered.
    pub started_at: Timestamp,
    /// Until when its lease lasts; none where it needs none.
    pub lease_until: Option<Timestamp>,
    /// When it ended, in good order or because its lease was over.
    pub ended_at: Option<Timestamp>,
    /// Whether it ended in good order.
    pub handed_over: bool,
    /// Whether it is about to end: it takes nothing any more and gives back what it has.
    pub draining: bool,
    /// Whether it lives.
    pub alive: bool,
    /// Jobs that are leased to it.
    pub jobs: u64,
    /// Unfinished runs that it owns.
    pub runs: u64,
}

/// A run's own row.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let record = store.run(&run).await?.run; // a host has it from `view()` of a run
/// assert_eq!((record.run.as_str(), record.workflow.as_str()), ("order-17", "greet"));
/// assert_eq!(record.state.name(), "running");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub run: RunId,
    /// Name of its workflow.
    pub workflow: String,
    /// Digest of its definition; the definition itself is the blob of that digest.
    pub definition: Digest,
    /// Digest of its inputs and settings.
    pub input_digest: Digest,
    /// Inputs, provider mode, mocks, resolved settings: everything needed to continue it.
    pub settings: Value,
    /// Where it is.
    pub state: RunState,
    /// Why it failed, once it has.
    pub failure: Option<Value>,
    /// Moves with every decision (STO-22).
    pub revision: u64,
    /// Who runs it, if anybody did.
    pub owner: Option<NodeRef>,
    /// Whether that owner's incarnation still lives.
    pub owner_alive: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What comes first of runs that wait.
    pub priority: Priority,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// Sequence number of its next event.
    pub next_seq: u64,
    /// How far it has come, in per cent: the most of this round, and 100 exactly when it has ended. None where nobody
    /// knows, because its workflow only says what comes next.
    pub progress: Option<u32>,
}

/// A stage of a run.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let stage = &store.run(&run).await?.stages[0];
/// assert_eq!((stage.stage.as_str(), stage.state.name()), ("steps", "open"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRecord {
    /// Its name.
    pub stage: String,
    /// Its place.
    pub ordinal: u32,
    /// Where it is.
    pub state: StageState,
    /// How it closed.
    pub outcome: Option<StageOutcome>,
    /// Where its jobs come from.
    pub feed: FeedKind,
    /// The stage that feeds it, if one does.
    pub upstream: Option<String>,
    /// How many of its own jobs are under way at a time, at most.
    pub concurrency: Option<u32>,
    /// Whether its failure is one of its run.
    pub required: bool,
    /// Its share of the run's progress, next to those of the others.
    pub weight: u32,
}

/// A job of a stage.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let job = &store.run(&run).await?.jobs[0];
/// assert_eq!((job.key.as_str(), job.state.name()), ("say", "leased"));
/// assert_eq!((job.attempt, job.max_attempts), (1, 3));
/// assert_eq!(job.result, None); // it has not ended
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its row.
    pub id: i64,
    /// Its stage.
    pub stage: String,
    /// Its key, which no other job of the run has.
    pub key: JobKey,
    /// Code, or children.
    pub kind: JobKind,
    /// The group whose child it is.
    pub parent: Option<JobKey>,
    /// Where it is.
    pub state: JobState,
    /// Why it was skipped.
    pub skipped: Option<SkipReason>,
    /// Number of its last attempt: the fencing token. Never falls.
    pub attempt: u32,
    /// Attempts that count against its budget.
    pub attempts_used: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// Deaths of its process since the last recorded call or checkpoint.
    pub crashes: u32,
    /// Deaths after which it is not tried again.
    pub crashes_max: u32,
    /// Not before.
    pub run_after: Option<Timestamp>,
    /// Who holds it.
    pub lease: Option<NodeRef>,
    /// Whether that incarnation still lives.
    pub lease_alive: bool,
    /// What it was given.
    pub input: Value,
    /// What it gave, or its failed record.
    pub result: Option<Value>,
    /// Whether its attempts are used up.
    pub dead_letter: bool,
    /// What it waits for while it is deferred.
    pub deferral: Option<Deferral>,
    /// Since when what it needs has not been available, over all its attempts in between.
    pub deferred_since: Option<Timestamp>,
    /// The instances of services that must admit it before it is claimed, in order.
    pub uses: Vec<ServiceKey>,
    /// Its limit across runs, where it has one.
    pub keyed: Option<Keyed>,
    /// What comes first of the jobs of its run: added to the priority of that.
    pub priority: Priority,
}

/// One try at a job.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let attempt = &store.run(&run).await?.attempts[0];
/// assert_eq!((attempt.attempt, attempt.end), (1, None)); // it is under way
/// assert_eq!(attempt.node.node, "local");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AttemptRecord {
    /// The job's row.
    pub job: i64,
    /// Its number.
    pub attempt: u32,
    /// Who made it.
    pub node: NodeRef,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<AttemptEnd>,
    /// The failure's class.
    pub class: Option<FailureClass>,
    /// The failure's code.
    pub code: Option<String>,
    /// The failure's text, at most 4 KiB.
    pub message: Option<String>,
    /// It called out, and ended without a recorded outcome: the call may have happened.
    pub uncertain: bool,
}

/// A call to the outside world.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_store::CallStart;
///
/// let call = CallStart { name: "1".to_owned(), idempotency_key: "greet/order-17/steps/say".to_owned() };
/// store.begin_call(&lease, call).await?;
/// store.record_call(&lease, "1", "good morning".into()).await?;
/// let call = &store.run(&run).await?.calls[0];
/// assert_eq!((call.attempt, call.reply.as_ref()), (1, Some(&"good morning".into())));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// The job's row.
    pub job: i64,
    /// `<ordinal>/<request digest>`.
    pub name: String,
    /// The attempt that made it last.
    pub attempt: u32,
    /// What the outside world was given to recognise it by.
    pub idempotency_key: String,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When its reply was recorded.
    pub recorded_at: Option<Timestamp>,
    /// The reply.
    pub reply: Option<Value>,
}

/// A run and everything below it, at one revision.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let view = store.run(&run).await?;
/// for job in &view.jobs {
///     let attempts = view.attempts.iter().filter(|attempt| attempt.job == job.id).count();
///     assert_eq!((job.key.as_str(), attempts), ("say", 1));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    /// The run.
    pub run: RunRecord,
    /// Its stages, in order.
    pub stages: Vec<StageRecord>,
    /// Its jobs, in order of creation.
    pub jobs: Vec<JobRecord>,
    /// Their attempts, by job and number.
    pub attempts: Vec<AttemptRecord>,
    /// Their calls, by job and name.
    pub calls: Vec<CallRecord>,
    /// What they waited for last, by job.
    pub waits: Vec<WaitRecord>,
    /// What the run was sent and nobody has taken yet, in order.
    pub signals: Vec<SignalRecord>,
    /// What their attempts have saved, by job and name.
    pub saved: Vec<CheckpointRecord>,
    /// What their attempts have said last of how far they are, by job and number.
    pub beats: Vec<BeatRecord>,
}

/// A run that has not ended, as whoever looks after runs needs it.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let open = &store.open_runs().await?[0];
/// assert_eq!((&open.run, open.revision, open.owner_alive), (&run, 1, true));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// Its id.
    pub run: RunId,
    /// Where it is; Running where that cannot be read: whoever goes on with it reads all of it first.
    pub state: RunState,
    /// Who runs it.
    pub owner: Option<NodeRef>,
    /// Whether that incarnation still lives.
    pub owner_alive: bool,
    /// So many decisions are in the store.
    pub revision: u64,
    /// What comes first of runs that wait.
    pub priority: Priority,
    /// When it was accepted.
    pub created_at: Timestamp,
}

/// A line of the list of runs.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let line = &store.runs(20).await?[0];
/// assert_eq!((line.workflow.as_str(), line.jobs, line.jobs_done), ("greet", 1, 0));
/// assert_eq!(line.finished_at, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RunSummary {
    /// Its id.
    pub run: RunId,
    /// Name of its workflow.
    pub workflow: String,
    /// Where it is.
    pub state: RunState,
    /// Jobs by now: those of the outermost steps, without what opens a scope.
    pub jobs: u64,
    /// Of those, terminal.
    pub jobs_done: u64,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Who runs it.
    pub owner: Option<NodeRef>,
    /// Whether that incarnation still lives.
    pub owner_alive: bool,
    /// How far it has come, in per cent, as [`RunRecord::progress`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<u32>,
    /// What comes first of runs that wait: −100 to 100.
    pub priority: Priority,
    /// Decisions by now: it moves with whatever anybody decides about the run.
    #[serde(skip)]
    pub revision: u64,
    /// What of its rows cannot be read, if anything: the fields that come of it are then empty. A list has the other
    /// runs all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A durable event.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let events = store.events(run.as_str(), 1, 10).await?; // a host has them from `events()` of a run
/// assert_eq!((events[0].seq, events[0].kind.as_str()), (1, "run_created"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct EventRecord {
    /// Gapless in its stream, from 1.
    pub seq: u64,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Its name in snake case.
    #[serde(rename = "type")]
    pub kind: String,
    /// The job's key, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobKey>,
    /// The attempt, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Further facts.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// A stream of events.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StreamRecord {
    /// Its name.
    pub stream: String,
    /// Its kind, for example `session`.
    pub kind: String,
    /// Whether nothing can be appended any more.
    pub closed: bool,
    /// Events in it.
    pub events: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a store publishes about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoreStatus {
    /// `sqlite`, `memory` or `postgres`.
    pub backend: String,
    /// The file, or server and database, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Identity of the store.
    pub store_id: String,
    /// Requests waiting to be written.
    pub queued: u64,
    /// Transactions committed since the start.
    pub commits: u64,
    /// Requests written by them.
    pub requests: u64,
    /// Commits that failed.
    pub failed_commits: u64,
    /// The engine's name of a weaker `synchronous` than FULL, where one was asked for: a power cut then loses
    /// acknowledged commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsafe_synchronous: Option<&'static str>,
    /// How it stands with the server, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
}

/// How a store stands with its server.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ServerStatus {
    /// Connections that are open: none is no store at present.
    pub connected: u64,
    /// Connections that were lost since the start.
    pub lost: u64,
    /// Operations that were done again because another transaction was in the way.
    pub retries: u64,
    /// Decisions that were committed together with those of other runs, in one transaction.
    pub shared_commits: u64,
    /// Whether hints of other processes arrive; else their changes are found by looking.
    pub listening: bool,
    /// Round trips that the operations made since the start: what their latency is made of.
    pub trips: u64,
}
