//! A node's way to the store, which a test makes bad.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::{
    Digest, Timestamp,
    run::{RunId, SlotPool},
    service::ServiceKey,
};
use perennial_store::{
    Accepted, Admissions, AllocationRecord, Appended, AttemptRecord, CallStart, Claims, Committed,
    Created, Decision, EventRecord, HoldOf, HoldRecord, InstanceRecord, InstanceStep,
    InstanceStepped, Lease, Leases, MemoryStore, NewCheckpoint, NewEvent, NewNumber, NewRun,
    NewSignal, NewVersion, NodeRecord, NodeRef, NodeTerms, OpenRun, Operation, Past, Registered,
    RemovedRun, Renewal, Reopening, Rescued, Retained, Retention, RunSummary, RunView, SlotGiven,
    SlotRecord, SlotTaken, Store, StoreError, StoreStatus, StreamRecord, TimerDue, VerifyCursor,
    VerifyStep,
};
use serde_json::Value;
use tokio::sync::watch;

/// How the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything arrives at once.
    Fair,
    /// Nothing arrives.
    Down,
    /// Only renewals do not arrive.
    NoRenewals,
    /// Commits arrive after that long, everything else at once.
    SlowCommits(Duration),
    /// The answer to that operation comes that long after it was done.
    SlowAnswers(&'static str, Duration),
    /// Everything is done, and no answer comes back.
    Deaf,
    /// The same for claims alone.
    DeafToClaims,
    /// The server refuses everything but renewals until somebody puts it right.
    Forbidden,
    /// Nothing is said to what arrives, not even that it cannot be done.
    Silent,
    /// The same for one operation alone.
    SilentTo(&'static str),
    /// Of each commit another one was first.
    Outrun,
}

/// Cheap to clone; shared with the test.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    store: MemoryStore,
    weather: Arc<Mutex<Weather>>,
    /// The run whose rows cannot be read, if any.
    spoiled: Arc<Mutex<String>>,
    /// What was asked of it, each with how much of it at most.
    asked: Arc<Mutex<Vec<(&'static str, u32)>>>,
    hints: watch::Sender<u64>,
}

impl Link {
    pub(crate) fn to(store: &MemoryStore) -> Self {
        let (weather, hints) = (Arc::new(Mutex::new(Weather::Fair)), watch::Sender::new(0));
        let (spoiled, asked) = Default::default();
        Self { store: store.clone(), weather, spoiled, asked, hints }
    }

    /// The rows of that run cannot be read from now on.
    pub(crate) fn spoil(&self, run: &str) {
        run.clone_into(&mut self.spoiled.lock().unwrap());
    }

    pub(crate) fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// What was asked of it since this was called last.
    pub(crate) fn asked(&self) -> Vec<(&'static str, u32)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn note(&self, name: &'static str, most: u32) {
        self.asked.lock().unwrap().push((name, most));
    }

    /// Tells the node that another one has written something. Nobody else does.
    pub(crate) fn hint(&self) {
        self.hints.send_modify(|hints| *hints += 1);
    }

    fn through<'a, T: Send + 'a>(
        &'a self,
        name: &'static str,
        operation: impl FnOnce() -> Operation<'a, T> + Send + 'a,
    ) -> Operation<'a, T> {
        let weather = *self.weather.lock().unwrap();
        let lost = move || Err(StoreError::Unavailable(format!("{name} is lost on its way")));
        Box::pin(async move {
            match weather {
                Weather::Down => return lost(),
                Weather::NoRenewals if name == "renew" => return lost(),
                Weather::Forbidden if name != "renew" => {
                    let (server, why) = ("server".to_owned(), format!("GRANT {name}"));
                    return Err(StoreError::Refused { server, why });
                }
                Weather::SlowCommits(time) if name == "commit" => {
                    tokio::time::sleep(time).await; // paused clock
                }
                Weather::SlowAnswers(one, time) if name == one => {
                    let answer = operation().await;
                    tokio::time::sleep(time).await; // paused clock
                    return answer;
                }
                Weather::Deaf => {
                    drop(operation().await);
                    return lost();
                }
                Weather::DeafToClaims if name == "claim" => {
                    drop(operation().await);
                    return lost();
                }
                Weather::Outrun if name == "commit" => {
                    return Err(StoreError::Conflict { what: "somebody was first".to_owned() });
                }
                Weather::Silent => std::future::pending().await,
                Weather::SilentTo(one) if name == one => std::future::pending().await,
                Weather::Fair
                | Weather::Outrun
                | Weather::NoRenewals
                | Weather::DeafToClaims
                | Weather::SilentTo(_)
                | Weather::SlowAnswers(..)
                | Weather::Forbidden
                | Weather::SlowCommits(_) => (),
            }
            operation().await
        })
    }
}

impl Store for Link {
    fn status(&self) -> StoreStatus {
        self.store.status()
    }
    fn now(&self) -> Timestamp {
        self.store.now()
    }
    fn leases(&self) -> Leases {
        self.store.leases()
    }
    fn close(&self) {}
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.hints.subscribe())
    }
    fn register_node_on<'a>(
        &'a self,
        name: &'a str,
        terms: NodeTerms,
    ) -> Operation<'a, Registered> {
        self.through("register", move || self.store.register_node_on(name, terms))
    }
    fn renew<'a>(&'a self, node: &'a NodeRef, ttl: Duration) -> Operation<'a, Renewal> {
        self.through("renew", move || self.store.renew(node, ttl))
    }
    fn nodes(&self, limit: u32) -> Operation<'_, Vec<NodeRecord>> {
        self.through("nodes", move || self.store.nodes(limit))
    }
    fn drain_node<'a>(&'a self, node: &'a NodeRef) -> Operation<'a, ()> {
        self.through("drain", move || self.store.drain_node(node))
    }
    fn end_node<'a>(&'a self, node: &'a NodeRef, report: Value) -> Operation<'a, ()> {
        self.through("end", move || self.store.end_node(node, report))
    }
    fn rescue<'a>(&'a self, run: Option<&'a RunId>, limit: u32) -> Operation<'a, Vec<Rescued>> {
        self.note(if run.is_none() { "sweep" } else { "rescue" }, limit);
        self.through("rescue", move || self.store.rescue(run, limit))
    }
    fn create_run(&self, run: NewRun) -> Operation<'_, Created> {
        self.through("create", move || self.store.create_run(run))
    }
    fn import_run(&self, run: NewRun, past: Past) -> Operation<'_, Created> {
        self.through("import", move || self.store.import_run(run, past))
    }
    fn own_run<'a>(&'a self, run: &'a RunId, node: &'a NodeRef) -> Operation<'a, u64> {
        self.note("own", 1);
        self.through("own", move || self.store.own_run(run, node))
    }
    fn reopen_run(&self, reopening: Reopening) -> Operation<'_, u64> {
        self.through("reopen", move || self.store.reopen_run(reopening))
    }
    fn claim_by<'a>(
        &'a self,
        run: &'a RunId,
        node: &'a NodeRef,
        limit: u32,
        admissions: Admissions,
    ) -> Operation<'a, Claims> {
        self.note("claim", limit);
        self.through("claim", move || self.store.claim_by(run, node, limit, admissions))
    }
    fn begin_call<'a>(&'a self, lease: &'a Lease, call: CallStart) -> Operation<'a, Option<Value>> {
        self.through("begin", move || self.store.begin_call(lease, call))
    }
    fn record_call<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        reply: Value,
    ) -> Operation<'a, ()> {
        self.through("record", move || self.store.record_call(lease, name, reply))
    }
    fn settle_call<'a>(&'a self, lease: &'a Lease, name: &'a str) -> Operation<'a, ()> {
        self.through("settle", move || self.store.settle_call(lease, name))
    }
    fn reuse<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        key: Digest,
    ) -> Operation<'a, Option<Value>> {
        self.through("reuse", move || self.store.reuse(lease, name, key))
    }
    fn keep<'a>(
        &'a self,
        lease: &'a Lease,
        key: Digest,
        value: Value,
        within: Duration,
    ) -> Operation<'a, bool> {
        self.through("keep", move || self.store.keep(lease, key, value, within))
    }
    fn release<'a>(&'a self, lease: &'a Lease, why: &'a str) -> Operation<'a, AttemptRecord> {
        self.through("release", move || self.store.release(lease, why))
    }
    fn commit(&self, decision: Decision) -> Operation<'_, Committed> {
        self.note("commit", 1);
        self.through("commit", move || self.store.commit(decision))
    }
    fn run<'a>(&'a self, run: &'a RunId) -> Operation<'a, RunView> {
        if *self.spoiled.lock().unwrap() == run.as_str() {
            let (what, why) = ("its run".to_owned(), "it is spoiled".to_owned());
            return Box::pin(std::future::ready(Err(StoreError::Unreadable { what, why })));
        }
        self.through("run", move || self.store.run(run))
    }
    fn runs(&self, limit: u32) -> Operation<'_, Vec<RunSummary>> {
        self.through("runs", move || self.store.runs(limit))
    }
    fn unfinished_runs(&self) -> Operation<'_, Vec<RunSummary>> {
        self.through("unfinished", move || self.store.unfinished_runs())
    }
    fn open_runs(&self) -> Operation<'_, Vec<OpenRun>> {
        self.note("look", 1);
        self.through("unfinished", move || self.store.open_runs())
    }
    fn events<'a>(
        &'a self,
        stream: &'a str,
        from: u64,
        limit: u32,
    ) -> Operation<'a, Vec<EventRecord>> {
        self.note("events", limit);
        self.through("events", move || self.store.events(stream, from, limit))
    }
    fn create_stream<'a>(
        &'a self,
        stream: &'a str,
        kind: &'a str,
        events: Vec<NewEvent>,
    ) -> Operation<'a, Appended> {
        self.through("create_stream", move || self.store.create_stream(stream, kind, events))
    }
    fn append<'a>(
        &'a self,
        stream: &'a str,
        expected: u64,
        events: Vec<NewEvent>,
        close: bool,
    ) -> Operation<'a, Appended> {
        self.through("append", move || self.store.append(stream, expected, events, close))
    }
    fn streams<'a>(&'a self, kind: &'a str) -> Operation<'a, Vec<StreamRecord>> {
        self.through("streams", move || self.store.streams(kind))
    }
    fn take_due_timers(&self, limit: u32) -> Operation<'_, Vec<TimerDue>> {
        self.through("timers", move || self.store.take_due_timers(limit))
    }
    fn next_due(&self) -> Operation<'_, Option<Timestamp>> {
        self.through("next_due", move || self.store.next_due())
    }
    fn put_blob(&self, bytes: Vec<u8>) -> Operation<'_, Digest> {
        self.through("put_blob", move || self.store.put_blob(bytes))
    }
    fn blob(&self, digest: Digest) -> Operation<'_, Vec<u8>> {
        self.through("blob", move || self.store.blob(digest))
    }
    fn retain(&self, policy: Retention, limit: u32) -> Operation<'_, Retained> {
        self.through("retain", move || self.store.retain(policy, limit))
    }
    fn retainable(&self, policy: Retention, limit: u32) -> Operation<'_, Vec<RunSummary>> {
        self.through("retainable", move || self.store.retainable(policy, limit))
    }
    fn purge<'a>(&'a self, run: &'a RunId) -> Operation<'a, ()> {
        self.through("purge", move || self.store.purge(run))
    }
    fn removed(&self, limit: u32) -> Operation<'_, Vec<RemovedRun>> {
        self.through("removed", move || self.store.removed(limit))
    }
    fn verify(&self, cursor: VerifyCursor, limit: u32) -> Operation<'_, VerifyStep> {
        self.through("verify", move || self.store.verify(cursor, limit))
    }
    fn wake<'a>(
        &'a self,
        run: &'a RunId,
        job: i64,
        cause: &'a str,
        run_after: Option<Timestamp>,
    ) -> Operation<'a, bool> {
        self.through("wake", move || self.store.wake(run, job, cause, run_after))
    }
    fn signal(&self, signal: NewSignal) -> Operation<'_, Accepted> {
        self.through("signal", move || self.store.signal(signal))
    }
    fn revision<'a>(&'a self, run: &'a RunId) -> Operation<'a, u64> {
        self.through("revision", move || self.store.revision(run))
    }
    fn allocate<'a>(&'a self, lease: &'a Lease, new: NewNumber) -> Operation<'a, u64> {
        self.through("allocate", move || self.store.allocate(lease, new))
    }
    fn allocate_version<'a>(&'a self, lease: &'a Lease, new: NewVersion) -> Operation<'a, u32> {
        self.through("allocate_version", move || self.store.allocate_version(lease, new))
    }
    fn allocations<'a>(&'a self, run: &'a RunId) -> Operation<'a, Vec<AllocationRecord>> {
        self.through("allocations", move || self.store.allocations(run))
    }
    fn slot_take<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a SlotPool,
        name: &'a str,
    ) -> Operation<'a, SlotTaken> {
        self.through("slot_take", move || self.store.slot_take(lease, pool, name))
    }
    fn slot_give<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a str,
        number: u32,
        why: SlotGiven,
    ) -> Operation<'a, bool> {
        self.through("slot_give", move || self.store.slot_give(lease, pool, number, why))
    }
    fn slots<'a>(&'a self, pool: &'a str) -> Operation<'a, Vec<SlotRecord>> {
        self.through("slots", move || self.store.slots(pool))
    }
    fn save<'a>(&'a self, lease: &'a Lease, checkpoint: NewCheckpoint) -> Operation<'a, ()> {
        self.through("save", move || self.store.save(lease, checkpoint))
    }
    fn saved<'a>(&'a self, job: i64, name: &'a str) -> Operation<'a, Option<Value>> {
        self.through("saved", move || self.store.saved(job, name))
    }
    fn beat<'a>(&'a self, lease: &'a Lease, progress: Value) -> Operation<'a, ()> {
        self.through("beat", move || self.store.beat(lease, progress))
    }
    fn hold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, ()> {
        self.through("hold", move || self.store.hold(of, key))
    }
    fn unhold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, bool> {
        self.through("unhold", move || self.store.unhold(of, key))
    }
    fn holds(&self, key: ServiceKey) -> Operation<'_, Vec<HoldRecord>> {
        self.through("holds", move || self.store.holds(key))
    }
    fn step_instance(&self, step: InstanceStep) -> Operation<'_, InstanceStepped> {
        self.through("step_instance", move || self.store.step_instance(step))
    }
    fn instance(&self, key: ServiceKey) -> Operation<'_, Option<InstanceRecord>> {
        self.through("instance", move || self.store.instance(key))
    }
    fn instances(&self, limit: u32) -> Operation<'_, Vec<InstanceRecord>> {
        self.through("instances", move || self.store.instances(limit))
    }
}
