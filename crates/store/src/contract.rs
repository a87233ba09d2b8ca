//! The contract of every store: records, operations and errors.

mod error;
mod import;
mod record;
mod request;
mod retention;
mod saved;
mod sequence;
mod service;
mod slot;
mod turn;
mod wait;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use perennial_core::{
    Digest, Timestamp,
    run::{RunId, SlotPool},
    service::ServiceKey,
};
use tokio::sync::watch;

use crate::{VerifyCursor, VerifyStep};

pub use self::{
    error::StoreError,
    import::{Past, PastJob, PastNumber, PastVersion},
    record::{
        AttemptRecord, CallRecord, EventRecord, JobRecord, NodeRecord, NodeRef, OpenRun, RunRecord,
        RunSummary, RunView, ServerStatus, StageRecord, StoreStatus, StreamRecord,
    },
    request::{
        Again, Appended, CallStart, Claimed, Committed, Created, Decision, JobPart, JobStep,
        LEASE_TTL, Lease, Leases, NewEvent, NewJob, NewRun, NewStage, NewTimer, NodeTerms,
        Registered, Renewal, Reopening, Report, Rescued, RunStep, StageBack, StageLimit, StageStep,
        TimerDue,
    },
    retention::{RemovedRun, Retained, Retention},
    saved::{BeatRecord, CheckpointRecord, NewCheckpoint},
    sequence::{AllocationRecord, NewNumber, NewVersion},
    service::{
        Admissions, Admits, Claims, Closed, HoldOf, HoldRecord, InstanceRecord, InstanceStep,
        InstanceStepped,
    },
    slot::{SLOT_FENCE, SlotGiven, SlotHolder, SlotRecord, SlotTaken},
    turn::{ConcurrencyKey, Keyed, Turn, TurnHolder},
    wait::{
        Accepted, AfterWait, Deferral, NewSignal, NewWait, SignalKind, SignalRecord, WaitDefault,
        WaitEnd, WaitEnded, WaitKind, WaitRecord,
    },
};

/// The future of one operation: one transaction.
///
/// Dropping it before it is ready leaves the outcome unknown: the transaction may still commit.
pub type Operation<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What remembers.
///
/// An acknowledgement leaves only after the commit returned (STO-9). Payloads are JSON; the store
/// never looks inside them.
///
/// ```
#[doc = include_str!("../doc/recorded.txt")]
/// assert_eq!(store.unfinished_runs().await?[0].run, run);
/// // What is written names the attempt that it is written for: one that lost its job is refused.
/// store.release(&lease, "the host is going down").await?;
/// let late = store.record_call(&lease, "1", "too late".into()).await;
/// assert!(matches!(late, Err(StoreError::StaleAttempt { attempt: 1, .. })));
/// # Ok(())
/// # }
/// ```
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// What the store publishes about itself: atomics and constants, never a question to it.
    fn status(&self) -> StoreStatus;

    /// The store's clock (STO-7).
    fn now(&self) -> Timestamp;

    /// Lets go of what the store holds outside of this process, its lock: to be called when nothing works on it
    /// any more. What waits for an answer, and every later operation, is answered with
    /// [`StoreError::Closed`]; a store that holds nothing outside stays readable. What still runs on it
    /// keeps the lock until it ends.
    fn close(&self);

    /// A number that moves when another process has written something, or may have: a hint to look again
    /// sooner, which may be missing or false (STO-44). None where no other process can write.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// How it knows which nodes live.
    fn leases(&self) -> Leases;

    /// As [`register_node_on`](Self::register_node_on) with the usual terms.
    fn register_node<'a>(&'a self, name: &'a str) -> Operation<'a, Registered> {
        self.register_node_on(name, NodeTerms::default())
    }

    /// Registers a new incarnation of the node `name` (INV-ST-15) and ends earlier ones of that name whose death
    /// is proven: all of them where the store's lock proves it ([`Leases::Proven`]) or the name is declared to be
    /// used once, else those whose lease is over (DUR-111).
    fn register_node_on<'a>(&'a self, name: &'a str, terms: NodeTerms)
    -> Operation<'a, Registered>;

    /// Moves the end of a node's lease to `ttl` from now, if it has not ended and its lease is not over; what is
    /// over stays over (DUR-21). Changes nothing where nodes need no lease.
    fn renew<'a>(&'a self, node: &'a NodeRef, ttl: Duration) -> Operation<'a, Renewal>;

    /// Nodes: those that live, then those that have ended, each the newest first; at most `limit`.
    fn nodes(&self, limit: u32) -> Operation<'_, Vec<NodeRecord>>;

    /// Marks an incarnation that has not ended as one that takes nothing any more: [`NodeRecord::draining`]. Everybody
    /// can see it then; what it may do does not change.
    fn drain_node<'a>(&'a self, node: &'a NodeRef) -> Operation<'a, ()>;

    /// Marks an incarnation as ended in good order.
    fn end_node<'a>(&'a self, node: &'a NodeRef, report: serde_json::Value) -> Operation<'a, ()>;

    /// Gives the jobs of dead incarnations back: Ready, `crashes + 1`, the attempt Expired with its
    /// `uncertain` mark (DUR-26). At most `limit` jobs of run `run`, or of any run. Incarnations whose lease is
    /// over are ended first. Anybody may call it at any time; each death counts once.
    ///
    /// A job that has died with its process as often in a row as it may, three times unless it says otherwise, stays leased and is returned
    /// with [`Rescued::exhausted`]: its end is a decision (STO-17).
    ///
    /// A server that was started again while this store was open gives everybody a lease's time first: until then
    /// nothing of any run is given back, and no run is taken from an owner whose lease was over (STO-45).
    fn rescue<'a>(&'a self, run: Option<&'a RunId>, limit: u32) -> Operation<'a, Vec<Rescued>>;

    /// Creates a run with its stage rows and first jobs; the same id with the same digest is the
    /// same run (YR-6).
    fn create_run(&self, run: NewRun) -> Operation<'_, Created>;

    /// Creates a run that began elsewhere, with what had come of it, as [`create_run`](Self::create_run) does: a run of
    /// this id, definition and input that exists is the same run, and stays as it is (INV-35). A job of the past that
    /// the run is not created with refuses with [`StoreError::NotFound`]; a number that somebody has with
    /// [`StoreError::Conflict`]. Numbers below one of the past that nobody has had are never given out: a later import
    /// may come with them.
    fn import_run(&self, run: NewRun, past: Past) -> Operation<'_, Created>;

    /// Takes the ownership of a run for `node`; a live other owner refuses with
    /// [`StoreError::Conflict`]. Returns the fencing number.
    fn own_run<'a>(&'a self, run: &'a RunId, node: &'a NodeRef) -> Operation<'a, u64>;

    /// Opens a run for a further round and takes its ownership: one that failed, timed out or was
    /// cancelled, whichever node ran it, or one that has not ended and whose owner is gone. Refused with
    /// [`StoreError::Conflict`] when the run has moved since it was read, or a live node holds it
    /// before its end or a job of it; with [`StoreError::InvalidState`] when it completed, or is being cancelled.
    /// Returns the new revision.
    fn reopen_run(&self, reopening: Reopening) -> Operation<'_, u64>;

    /// Leases at most `limit` jobs of `run` that are Ready and due, in stages that are Open or
    /// Sealed, of a run that is Running: `attempt + 1`, an attempt row, `attempt_started`.
    /// Jobs that use services are left as they are: [`claim_by`](Self::claim_by) is told which of these admit.
    fn claim<'a>(
        &'a self,
        run: &'a RunId,
        node: &'a NodeRef,
        limit: u32,
    ) -> Operation<'a, Vec<Claimed>> {
        Box::pin(async move {
            Ok(self.claim_by(run, node, limit, Admissions::default()).await?.claimed)
        })
    }

    /// As [`claim`](Self::claim), also of jobs that use services, by what `admissions` says of these. In the same transaction
    /// such a job gets its holds; and one with a service that does not admit is deferred and leaves the queue, so that
    /// nothing waits behind it, with none of its attempts used (DUR-13, DUR-40).
    fn claim_by<'a>(
        &'a self,
        run: &'a RunId,
        node: &'a NodeRef,
        limit: u32,
        admissions: Admissions,
    ) -> Operation<'a, Claims>;

    /// Journals that the attempt is about to call the outside world (name, idempotency key).
    /// `Some` is the recorded reply of an earlier try: nothing needs to be called (YR-51).
    fn begin_call<'a>(
        &'a self,
        lease: &'a Lease,
        call: CallStart,
    ) -> Operation<'a, Option<serde_json::Value>>;

    /// Journals the complete reply of a begun call; resets the job's `crashes` (SM-31).
    fn record_call<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        reply: serde_json::Value,
    ) -> Operation<'a, ()>;

    /// Journals that a begun call is known to have had no effect that needs a record: it was
    /// refused, or failed with a definite answer. The attempt is then not uncertain about it.
    fn settle_call<'a>(&'a self, lease: &'a Lease, name: &'a str) -> Operation<'a, ()>;

    /// The result that is kept under `key` and has not expired. It becomes the recorded reply of the
    /// call `name` of the leased job (`cache_hit`), so that its later attempts take the same one.
    /// None also for a job that has made a call of its own.
    fn reuse<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        key: Digest,
    ) -> Operation<'a, Option<serde_json::Value>>;

    /// Keeps `value` under `key` for that long, in place of what is there (`cache_kept`). What has
    /// expired and what was not used for longest makes room: the store keeps at most 10 000 results,
    /// of 100 MB together as JSON. False when this one has more than 10 MB and is not kept.
    fn keep<'a>(
        &'a self,
        lease: &'a Lease,
        key: Digest,
        value: serde_json::Value,
        within: Duration,
    ) -> Operation<'a, bool>;

    /// Saves a value for later attempts of the same job, in place of what has the name; resets the job's
    /// `crashes` (SM-31). It goes when the job has succeeded, unless it says otherwise (DUR-141). A job
    /// saves at most 1 000.
    fn save<'a>(&'a self, lease: &'a Lease, new: NewCheckpoint) -> Operation<'a, ()>;

    /// The value that an attempt of the job has saved under that name.
    fn saved<'a>(&'a self, job: i64, name: &'a str) -> Operation<'a, Option<serde_json::Value>>;

    /// Notes that the attempt lives, and how far it is: at most 4 KiB. An event tells of it at most every
    /// 10 s.
    fn beat<'a>(&'a self, lease: &'a Lease, progress: serde_json::Value) -> Operation<'a, ()>;

    /// The number of a key: the one it has, else the next of its sequence and scope, from 1 (DUR-100). No number is given
    /// to two keys, and none is left out; they stay when their run is removed (DUR-101). A run that is created anew
    /// under the id of one that was removed long ago has that one's keys, and its numbers.
    fn allocate<'a>(&'a self, lease: &'a Lease, new: NewNumber) -> Operation<'a, u64>;

    /// The version of a key: the one it has, else the next of what has the number, which stays (DUR-104). The
    /// first is 2, because what was allocated is version 1. A parent that is not there refuses with
    /// [`StoreError::NotFound`], a key that has a version of another number with [`StoreError::Conflict`].
    fn allocate_version<'a>(&'a self, lease: &'a Lease, new: NewVersion) -> Operation<'a, u32>;

    /// Numbers and versions that a run has been given, in the order of sequence, scope, number and version.
    fn allocations<'a>(&'a self, run: &'a RunId) -> Operation<'a, Vec<AllocationRecord>>;

    /// Takes the least number of `pool` that is free, for as long as the attempt lasts: whatever ends that gives it back
    /// (DUR-103). What the attempt holds under `name` already is answered again.
    fn slot_take<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a SlotPool,
        name: &'a str,
    ) -> Operation<'a, SlotTaken>;

    /// Gives a number back before the attempt ends. Answers whether the attempt held it.
    fn slot_give<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a str,
        number: u32,
        why: SlotGiven,
    ) -> Operation<'a, bool>;

    /// The numbers of a pool that are held or fenced, in their order.
    fn slots<'a>(&'a self, pool: &'a str) -> Operation<'a, Vec<SlotRecord>>;

    /// Notes that the instance of `key` is held, before anything of it is started: it is not stopped in good order as
    /// long as the hold lives. The same again changes nothing. Refused with [`StoreError::StaleAttempt`],
    /// [`StoreError::NotFound`] or [`StoreError::Conflict`] when what it is of, an attempt, a job or a process, has
    /// ended. A job holds at most 100.
    fn hold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, ()>;

    /// Gives a hold back; whether there was one. What has ended holds nothing any more.
    fn unhold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, bool>;

    /// Who holds the instance of `key`, in order of their names; also those whose hold does not count any more.
    fn holds(&self, key: ServiceKey) -> Operation<'_, Vec<HoldRecord>>;

    /// Changes the row of an instance, if it is as it was found, or makes it (DUR-83). Refused with
    /// [`StoreError::Conflict`] when another process has changed it, and when one that does not live wants to take it;
    /// the same step again changes nothing.
    fn step_instance(&self, step: InstanceStep) -> Operation<'_, InstanceStepped>;

    /// The row of the instance of `key`; none when it was never started.
    fn instance(&self, key: ServiceKey) -> Operation<'_, Option<InstanceRecord>>;

    /// Instances that may run, or are held, at most `limit`.
    fn instances(&self, limit: u32) -> Operation<'_, Vec<InstanceRecord>>;

    /// Gives a leased job back: Ready, budget and crash count unchanged, the attempt Released and
    /// uncertain if a call of it is open.
    fn release<'a>(&'a self, lease: &'a Lease, why: &'a str) -> Operation<'a, AttemptRecord>;

    /// Commits what follows from one fact, all or nothing, if the run is still at the revision that
    /// the decision was made from. [`Committed::AlreadyRecorded`] answers a report that is in the
    /// store already.
    fn commit(&self, decision: Decision) -> Operation<'_, Committed>;

    /// Ends the wait of a deferred job before its time, because `cause` says that what it needs is
    /// there: Ready, not before `run_after`. Answers whether it was deferred.
    fn wake<'a>(
        &'a self,
        run: &'a RunId,
        job: i64,
        cause: &'a str,
        run_after: Option<Timestamp>,
    ) -> Operation<'a, bool>;

    /// Sends a run a signal, or the answer to a question of it. A job that is suspended for it goes on:
    /// Ready, the payload is its wait's answer. Without one it is kept for the job that will ask, in the
    /// order in which they came; at most 1 000 are kept, of at most 256 KiB each.
    ///
    /// The same request again changes nothing and is answered as before. A run that is ending or has
    /// ended refuses with [`StoreError::InvalidState`], a question that has its answer with
    /// [`StoreError::AlreadyAnswered`], one whose time has passed with [`StoreError::Expired`].
    fn signal(&self, signal: NewSignal) -> Operation<'_, Accepted>;

    /// The revision of a run: whether anything was decided since it was read.
    fn revision<'a>(&'a self, run: &'a RunId) -> Operation<'a, u64>;

    /// A run with its stages, jobs, attempts and calls, at one revision.
    fn run<'a>(&'a self, run: &'a RunId) -> Operation<'a, RunView>;

    /// Runs, newest first.
    fn runs(&self, limit: u32) -> Operation<'_, Vec<RunSummary>>;

    /// Runs that are not terminal, oldest first.
    fn unfinished_runs(&self) -> Operation<'_, Vec<RunSummary>>;

    /// The same runs in the same order, without what is counted of their jobs: what it costs does not grow with these.
    fn open_runs(&self) -> Operation<'_, Vec<OpenRun>>;

    /// Events of a stream from `from` on, oldest first, at most `limit`.
    fn events<'a>(
        &'a self,
        stream: &'a str,
        from: u64,
        limit: u32,
    ) -> Operation<'a, Vec<EventRecord>>;

    /// Creates the stream `stream` of `kind` with its first events.
    fn create_stream<'a>(
        &'a self,
        stream: &'a str,
        kind: &'a str,
        events: Vec<NewEvent>,
    ) -> Operation<'a, Appended>;

    /// Appends to a stream that is still at `expected` events and not closed; `close` closes it.
    fn append<'a>(
        &'a self,
        stream: &'a str,
        expected: u64,
        events: Vec<NewEvent>,
        close: bool,
    ) -> Operation<'a, Appended>;

    /// Streams of `kind`, oldest first.
    fn streams<'a>(&'a self, kind: &'a str) -> Operation<'a, Vec<StreamRecord>>;

    /// Timers that are due and not yet taken, at most `limit`; taking one removes it.
    fn take_due_timers(&self, limit: u32) -> Operation<'_, Vec<TimerDue>>;

    /// When the next timer, retry, wake-up or deadline of a wait is due, if any.
    fn next_due(&self) -> Operation<'_, Option<Timestamp>>;

    /// Keeps `bytes` under their digest.
    fn put_blob(&self, bytes: Vec<u8>) -> Operation<'_, Digest>;

    /// The bytes kept under `digest`.
    fn blob(&self, digest: Digest) -> Operation<'_, Vec<u8>>;

    /// Removes runs that ended longer ago than `policy` keeps them, those that ended first at the front, blobs
    /// that nothing has used for an hour, and nodes that ended as long ago as ids are kept and to which nothing refers,
    /// but for the last one of each name: at most `limit` rows. The id of a removed run stays taken for a while, with
    /// [`StoreError::Removed`].
    fn retain(&self, policy: Retention, limit: u32) -> Operation<'_, Retained>;

    /// What [`Store::retain`] would remove now, at most `limit`.
    fn retainable(&self, policy: Retention, limit: u32) -> Operation<'_, Vec<RunSummary>>;

    /// Begins the removal of a run that has ended, whatever its age; [`Store::retain`] goes on with it. Refused with
    /// [`StoreError::InvalidState`] while it has not ended.
    fn purge<'a>(&'a self, run: &'a RunId) -> Operation<'a, ()>;

    /// Runs that were removed and whose ids are still taken, the last ones first.
    fn removed(&self, limit: u32) -> Operation<'_, Vec<RemovedRun>>;

    /// Checks a piece of the store, at most `limit` events or rows of it, and changes nothing; see
    /// [`verify`](crate::verify). What cannot be understood is a violation, and no error.
    fn verify(&self, cursor: VerifyCursor, limit: u32) -> Operation<'_, VerifyStep>;
}
