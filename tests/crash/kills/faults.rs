//! A store that tells what it has acknowledged, and the places where its process dies.

use std::{sync::Arc, time::Duration};

use perennial::{
    RunId,
    records::{AttemptRecord, EventRecord, RunSummary, RunView, Timestamp},
};
use perennial_core::{Digest, run::SlotPool, service::ServiceKey};
use perennial_store::{
    Accepted, Admissions, AllocationRecord, Appended, CallStart, Claimed, Claims, Committed,
    Created, Decision, HoldOf, HoldRecord, InstanceRecord, InstanceStep, InstanceStepped, Lease,
    Leases, NewCheckpoint, NewEvent, NewNumber, NewRun, NewSignal, NewVersion, NodeRecord, NodeRef,
    NodeTerms, OpenRun, Operation, Past, Registered, RemovedRun, Renewal, Reopening, Rescued,
    Retained, Retention, SlotGiven, SlotRecord, SlotTaken, Store, StoreError, StoreStatus,
    StreamRecord, TimerDue, VerifyCursor, VerifyStep,
};
use serde_json::Value;
use tokio::sync::watch;

use super::{
    commits,
    decisions::{expanded, points},
    victim::Ledger,
};

/// The real store, watched.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) inner: Arc<dyn Store>,
    pub(super) ledger: Arc<Ledger>,
    /// Whether a run in stages is looked at after each decision about it, before another one can be made.
    pub(super) looks: bool,
}

impl Watched {
    /// The operation between two places where the process may die.
    fn at<'a, T: 'a>(&'a self, point: &'a str, work: Operation<'a, T>) -> Operation<'a, T> {
        Box::pin(async move {
            self.ledger.passes(&format!("{point}:before"));
            let answer = work.await?;
            self.ledger.passes(&format!("{point}:after"));
            Ok(answer)
        })
    }

    /// INV-7: what it wrote is whole.
    async fn look(
        &self,
        run: &RunId,
        events: &[EventRecord],
        is_fed: bool,
    ) -> Result<(), StoreError> {
        if self.looks {
            let view = self.inner.run(run).await?;
            self.ledger.write(&commits::said_of(&view, events, is_fed));
        }
        Ok(())
    }
}

impl Store for Watched {
    fn status(&self) -> StoreStatus {
        self.inner.status()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.inner.changes()
    }

    fn leases(&self) -> Leases {
        self.inner.leases()
    }

    fn register_node_on<'a>(
        &'a self,
        name: &'a str,
        terms: NodeTerms,
    ) -> Operation<'a, Registered> {
        self.at("register_node", self.inner.register_node_on(name, terms))
    }

    fn renew<'a>(&'a self, node: &'a NodeRef, ttl: Duration) -> Operation<'a, Renewal> {
        self.inner.renew(node, ttl)
    }

    fn nodes(&self, limit: u32) -> Operation<'_, Vec<NodeRecord>> {
        self.inner.nodes(limit)
    }

    fn drain_node<'a>(&'a self, node: &'a NodeRef) -> Operation<'a, ()> {
        self.at("drain_node", self.inner.drain_node(node))
    }

    fn end_node<'a>(&'a self, node: &'a NodeRef, report: Value) -> Operation<'a, ()> {
        self.at("end_node", self.inner.end_node(node, report))
    }

    fn rescue<'a>(&'a self, run: Option<&'a RunId>, limit: u32) -> Operation<'a, Vec<Rescued>> {
        self.at("rescue", self.inner.rescue(run, limit))
    }

    fn create_run(&self, run: NewRun) -> Operation<'_, Created> {
        Box::pin(async move {
            let id = run.run.clone();
            let created = self.at("create_run", self.inner.create_run(run)).await?;
            self.look(&id, &[], true).await?;
            Ok(created)
        })
    }

    fn import_run(&self, run: NewRun, past: Past) -> Operation<'_, Created> {
        self.at("import_run", self.inner.import_run(run, past))
    }

    fn own_run<'a>(&'a self, run: &'a RunId, node: &'a NodeRef) -> Operation<'a, u64> {
        self.at("own_run", self.inner.own_run(run, node))
    }

    fn reopen_run(&self, reopening: Reopening) -> Operation<'_, u64> {
        Box::pin(async move {
            let id = reopening.run.clone();
            let reopened = self.at("reopen_run", self.inner.reopen_run(reopening)).await?;
            self.look(&id, &[], false).await?;
            Ok(reopened)
        })
    }

    fn claim_by<'a>(
        &'a self,
        run: &'a RunId,
        node: &'a NodeRef,
        limit: u32,
        admissions: Admissions,
    ) -> Operation<'a, Claims> {
        Box::pin(async move {
            self.ledger.passes("claim:before");
            let claims = self.inner.claim_by(run, node, limit, admissions).await?;
            for Claimed { lease, .. } in &claims.claimed {
                self.ledger.write(&format!("claimed {} {}", lease.key, lease.attempt));
            }
            if claims != Claims::default() {
                self.ledger.passes("claim:after");
            }
            Ok(claims)
        })
    }

    fn begin_call<'a>(&'a self, lease: &'a Lease, call: CallStart) -> Operation<'a, Option<Value>> {
        self.at("begin_call", self.inner.begin_call(lease, call))
    }

    fn record_call<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        reply: Value,
    ) -> Operation<'a, ()> {
        Box::pin(async move {
            self.ledger.passes("record_call:before");
            self.inner.record_call(lease, name, reply).await?;
            self.ledger.passes("record_call:after");
            self.ledger.write(&format!("recorded {} {} {name}", lease.key, lease.attempt));
            Ok(())
        })
    }

    fn settle_call<'a>(&'a self, lease: &'a Lease, name: &'a str) -> Operation<'a, ()> {
        self.at("settle_call", self.inner.settle_call(lease, name))
    }

    fn reuse<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        key: Digest,
    ) -> Operation<'a, Option<Value>> {
        self.inner.reuse(lease, name, key)
    }

    fn keep<'a>(
        &'a self,
        lease: &'a Lease,
        key: Digest,
        value: Value,
        within: Duration,
    ) -> Operation<'a, bool> {
        self.inner.keep(lease, key, value, within)
    }

    fn release<'a>(&'a self, lease: &'a Lease, why: &'a str) -> Operation<'a, AttemptRecord> {
        self.at("release", self.inner.release(lease, why))
    }

    fn commit(&self, decision: Decision) -> Operation<'_, Committed> {
        Box::pin(async move {
            let points = points(&decision);
            let pass = |when: &str| {
                points.iter().for_each(|point| self.ledger.passes(&format!("{point}:{when}")));
            };
            let (run, report) = (decision.run.clone(), decision.report.clone());
            for group in expanded(&decision) {
                self.ledger.write(&format!("expands {group}"));
            }
            pass("before");
            let committed = self.inner.commit(decision).await?;
            let Committed::Now { leases, events, .. } = &committed else {
                return Ok(committed);
            };
            for lease in leases {
                self.ledger.write(&format!("claimed {} {}", lease.key, lease.attempt));
            }
            if let Some(report) = report {
                let (key, attempt) = (&report.lease.key, report.lease.attempt);
                self.ledger.write(&format!("committed {key} {attempt} {}", report.job));
            }
            pass("after");
            self.look(&run, events, true).await?;
            Ok(committed)
        })
    }

    fn wake<'a>(
        &'a self,
        run: &'a RunId,
        job: i64,
        cause: &'a str,
        run_after: Option<Timestamp>,
    ) -> Operation<'a, bool> {
        self.inner.wake(run, job, cause, run_after)
    }

    fn signal(&self, signal: NewSignal) -> Operation<'_, Accepted> {
        self.inner.signal(signal)
    }

    fn revision<'a>(&'a self, run: &'a RunId) -> Operation<'a, u64> {
        self.inner.revision(run)
    }

    fn run<'a>(&'a self, run: &'a RunId) -> Operation<'a, RunView> {
        self.inner.run(run)
    }

    fn runs(&self, limit: u32) -> Operation<'_, Vec<RunSummary>> {
        self.inner.runs(limit)
    }

    fn unfinished_runs(&self) -> Operation<'_, Vec<RunSummary>> {
        self.inner.unfinished_runs()
    }

    fn open_runs(&self) -> Operation<'_, Vec<OpenRun>> {
        self.inner.open_runs()
    }

    fn events<'a>(
        &'a self,
        stream: &'a str,
        from: u64,
        limit: u32,
    ) -> Operation<'a, Vec<EventRecord>> {
        self.inner.events(stream, from, limit)
    }

    fn create_stream<'a>(
        &'a self,
        stream: &'a str,
        kind: &'a str,
        events: Vec<NewEvent>,
    ) -> Operation<'a, Appended> {
        self.inner.create_stream(stream, kind, events)
    }

    fn append<'a>(
        &'a self,
        stream: &'a str,
        expected: u64,
        events: Vec<NewEvent>,
        close: bool,
    ) -> Operation<'a, Appended> {
        self.inner.append(stream, expected, events, close)
    }

    fn streams<'a>(&'a self, kind: &'a str) -> Operation<'a, Vec<StreamRecord>> {
        self.inner.streams(kind)
    }

    fn take_due_timers(&self, limit: u32) -> Operation<'_, Vec<TimerDue>> {
        self.at("take_due_timers", self.inner.take_due_timers(limit))
    }

    fn next_due(&self) -> Operation<'_, Option<Timestamp>> {
        self.inner.next_due()
    }

    fn retain(&self, policy: Retention, limit: u32) -> Operation<'_, Retained> {
        self.inner.retain(policy, limit)
    }

    fn retainable(&self, policy: Retention, limit: u32) -> Operation<'_, Vec<RunSummary>> {
        self.inner.retainable(policy, limit)
    }

    fn purge<'a>(&'a self, run: &'a RunId) -> Operation<'a, ()> {
        self.inner.purge(run)
    }

    fn removed(&self, limit: u32) -> Operation<'_, Vec<RemovedRun>> {
        self.inner.removed(limit)
    }

    fn verify(&self, cursor: VerifyCursor, limit: u32) -> Operation<'_, VerifyStep> {
        self.inner.verify(cursor, limit)
    }

    fn allocate<'a>(&'a self, lease: &'a Lease, new: NewNumber) -> Operation<'a, u64> {
        self.at("allocate", self.inner.allocate(lease, new))
    }

    fn allocate_version<'a>(&'a self, lease: &'a Lease, new: NewVersion) -> Operation<'a, u32> {
        self.at("allocate_version", self.inner.allocate_version(lease, new))
    }

    fn allocations<'a>(&'a self, run: &'a RunId) -> Operation<'a, Vec<AllocationRecord>> {
        self.inner.allocations(run)
    }

    fn slot_take<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a SlotPool,
        name: &'a str,
    ) -> Operation<'a, SlotTaken> {
        self.at("slot_take", self.inner.slot_take(lease, pool, name))
    }

    fn slot_give<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a str,
        number: u32,
        why: SlotGiven,
    ) -> Operation<'a, bool> {
        self.at("slot_give", self.inner.slot_give(lease, pool, number, why))
    }

    fn slots<'a>(&'a self, pool: &'a str) -> Operation<'a, Vec<SlotRecord>> {
        self.inner.slots(pool)
    }

    fn save<'a>(&'a self, lease: &'a Lease, checkpoint: NewCheckpoint) -> Operation<'a, ()> {
        self.at("save", self.inner.save(lease, checkpoint))
    }

    fn saved<'a>(&'a self, job: i64, name: &'a str) -> Operation<'a, Option<Value>> {
        self.inner.saved(job, name)
    }

    fn beat<'a>(&'a self, lease: &'a Lease, progress: Value) -> Operation<'a, ()> {
        self.inner.beat(lease, progress)
    }

    fn hold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, ()> {
        self.at("hold", self.inner.hold(of, key))
    }

    fn unhold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, bool> {
        self.at("unhold", self.inner.unhold(of, key))
    }

    fn holds(&self, key: ServiceKey) -> Operation<'_, Vec<HoldRecord>> {
        self.inner.holds(key)
    }

    fn step_instance(&self, step: InstanceStep) -> Operation<'_, InstanceStepped> {
        Box::pin(async move {
            let point = format!("instance.{}", step.state);
            self.ledger.passes(&format!("{point}:before"));
            let stepped = self.inner.step_instance(step).await?;
            self.ledger.passes(&format!("{point}:after"));
            Ok(stepped)
        })
    }

    fn instance(&self, key: ServiceKey) -> Operation<'_, Option<InstanceRecord>> {
        self.inner.instance(key)
    }

    fn instances(&self, limit: u32) -> Operation<'_, Vec<InstanceRecord>> {
        self.inner.instances(limit)
    }

    fn put_blob(&self, bytes: Vec<u8>) -> Operation<'_, Digest> {
        self.at("put_blob", self.inner.put_blob(bytes))
    }

    fn blob(&self, digest: Digest) -> Operation<'_, Vec<u8>> {
        self.inner.blob(digest)
    }
}
