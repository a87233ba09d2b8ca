//! The contract over the operations: written once, for whatever can perform a transaction.

use std::{fmt, time::Duration};

use perennial_core::{
    Digest, Timestamp,
    run::{RunId, SlotPool},
    service::ServiceKey,
};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    Accepted, Admissions, AllocationRecord, Appended, AttemptRecord, CallStart, Claims, Committed,
    Created, Decision, EventRecord, HoldOf, HoldRecord, InstanceRecord, InstanceStep,
    InstanceStepped, Lease, Leases, NewCheckpoint, NewEvent, NewNumber, NewRun, NewSignal,
    NewVersion, NodeRecord, NodeRef, NodeTerms, OpenRun, Operation, Past, Registered, RemovedRun,
    Renewal, Reopening, Rescued, Retained, Retention, RunSummary, RunView, SlotGiven, SlotRecord,
    SlotTaken, Store, StoreError, StoreStatus, StreamRecord, TimerDue, VerifyCursor, VerifyStep,
    ops, transaction::Tx,
};

/// Whether an operation changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It only reads.
    Read,
    /// It may write.
    Write,
}

/// When an operation is performed, next to others that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Before all that may wait, and also when there is no room for more of these: a node's hold on its work, or the
    /// work of a node that is gone, depends on it.
    First,
    /// When those before it have been taken.
    Usual,
    /// So too, and together with others where that is possible: it writes, begins with the end of a stream, and asks
    /// nothing that it has not said ahead.
    Joint,
}

/// Performs operations, each in a transaction of its own.
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Performs `operation` and commits it if it succeeds. It may be done again from the start, when what it
    /// wrote was not committed and cannot be any more.
    fn perform_in<T, F>(&self, turn: Turn, access: Access, operation: F) -> Operation<'_, T>
    where
        T: Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, StoreError> + Send + 'static;

    /// The same, in its usual turn.
    fn perform<T, F>(&self, access: Access, operation: F) -> Operation<'_, T>
    where
        T: Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.perform_in(Turn::Usual, access, operation)
    }

    /// See [`Store::status`].
    fn status(&self) -> StoreStatus;

    /// See [`Store::now`].
    fn now(&self) -> Timestamp;

    /// See [`Store::leases`].
    fn leases(&self) -> Leases;

    /// See [`Store::close`].
    fn close(&self);

    /// See [`Store::changes`].
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

impl<B: Backend> Store for B {
    fn status(&self) -> StoreStatus {
        Backend::status(self)
    }

    fn now(&self) -> Timestamp {
        Backend::now(self)
    }

    fn leases(&self) -> Leases {
        Backend::leases(self)
    }

    fn close(&self) {
        Backend::close(self);
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Backend::changes(self)
    }

    fn register_node_on<'a>(
        &'a self,
        name: &'a str,
        terms: NodeTerms,
    ) -> Operation<'a, Registered> {
        let (name, leases) = (name.to_owned(), Backend::leases(self));
        self.perform_in(Turn::First, Access::Write, move |tx| {
            ops::node::register(tx, &name, terms, leases)
        })
    }

    fn renew<'a>(&'a self, node: &'a NodeRef, ttl: Duration) -> Operation<'a, Renewal> {
        let node = node.clone();
        self.perform_in(Turn::First, Access::Write, move |tx| ops::node::renew(tx, &node, ttl))
    }

    fn nodes(&self, limit: u32) -> Operation<'_, Vec<NodeRecord>> {
        self.perform(Access::Read, move |tx| ops::node::list(tx, limit))
    }

    fn drain_node<'a>(&'a self, node: &'a NodeRef) -> Operation<'a, ()> {
        let node = node.clone();
        self.perform_in(Turn::First, Access::Write, move |tx| ops::node::drain(tx, &node))
    }

    fn end_node<'a>(&'a self, node: &'a NodeRef, report: Value) -> Operation<'a, ()> {
        let node = node.clone();
        self.perform_in(Turn::First, Access::Write, move |tx| ops::node::end(tx, &node, &report))
    }

    fn rescue<'a>(&'a self, run: Option<&'a RunId>, limit: u32) -> Operation<'a, Vec<Rescued>> {
        // Of one run many may ask at a time, and each of them waits for itself alone.
        let turn = if run.is_none() { Turn::First } else { Turn::Usual };
        let run = run.cloned();
        self.perform_in(turn, Access::Write, move |tx| ops::lease::rescue(tx, run.as_ref(), limit))
    }

    fn create_run(&self, run: NewRun) -> Operation<'_, Created> {
        self.perform(Access::Write, move |tx| ops::creation::create_run(tx, &run))
    }

    fn import_run(&self, run: NewRun, past: Past) -> Operation<'_, Created> {
        self.perform(Access::Write, move |tx| ops::import::import_run(tx, &run, &past))
    }

    fn own_run<'a>(&'a self, run: &'a RunId, node: &'a NodeRef) -> Operation<'a, u64> {
        let (run, node) = (run.clone(), node.clone());
        self.perform(Access::Write, move |tx| ops::creation::own_run(tx, &run, &node))
    }

    fn reopen_run(&self, reopening: Reopening) -> Operation<'_, u64> {
        self.perform(Access::Write, move |tx| ops::reopening::reopen(tx, &reopening))
    }

    fn claim_by<'a>(
        &'a self,
        run: &'a RunId,
        node: &'a NodeRef,
        limit: u32,
        admissions: Admissions,
    ) -> Operation<'a, Claims> {
        let (run, node) = (run.clone(), node.clone());
        self.perform(Access::Write, move |tx| {
            ops::lease::claim(tx, &run, &node, limit, &admissions)
        })
    }

    fn begin_call<'a>(&'a self, lease: &'a Lease, call: CallStart) -> Operation<'a, Option<Value>> {
        let lease = lease.clone();
        self.perform(Access::Write, move |tx| ops::call::begin(tx, &lease, &call))
    }

    fn record_call<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        reply: Value,
    ) -> Operation<'a, ()> {
        let (lease, name) = (lease.clone(), name.to_owned());
        self.perform(Access::Write, move |tx| ops::call::record(tx, &lease, &name, &reply))
    }

    fn settle_call<'a>(&'a self, lease: &'a Lease, name: &'a str) -> Operation<'a, ()> {
        let (lease, name) = (lease.clone(), name.to_owned());
        self.perform(Access::Write, move |tx| ops::call::settle(tx, &lease, &name))
    }

    fn reuse<'a>(
        &'a self,
        lease: &'a Lease,
        name: &'a str,
        key: Digest,
    ) -> Operation<'a, Option<Value>> {
        let (lease, name) = (lease.clone(), name.to_owned());
        self.perform(Access::Write, move |tx| ops::cache::reuse(tx, &lease, &name, key))
    }

    fn keep<'a>(
        &'a self,
        lease: &'a Lease,
        key: Digest,
        value: Value,
        within: Duration,
    ) -> Operation<'a, bool> {
        let lease = lease.clone();
        self.perform(Access::Write, move |tx| ops::cache::keep(tx, &lease, key, &value, within))
    }

    fn save<'a>(&'a self, lease: &'a Lease, new: NewCheckpoint) -> Operation<'a, ()> {
        let lease = lease.clone();
        self.perform(Access::Write, move |tx| ops::saved::save(tx, &lease, &new))
    }

    fn saved<'a>(&'a self, job: i64, name: &'a str) -> Operation<'a, Option<Value>> {
        let name = name.to_owned();
        self.perform(Access::Read, move |tx| ops::saved::get(tx, job, &name))
    }

    fn beat<'a>(&'a self, lease: &'a Lease, progress: Value) -> Operation<'a, ()> {
        let lease = lease.clone();
        self.perform(Access::Write, move |tx| ops::saved::beat(tx, &lease, &progress))
    }

    fn allocate<'a>(&'a self, lease: &'a Lease, new: NewNumber) -> Operation<'a, u64> {
        let lease = lease.clone();
        self.perform(Access::Write, move |tx| ops::sequence::allocate(tx, &lease, &new))
    }

    fn allocate_version<'a>(&'a self, lease: &'a Lease, new: NewVersion) -> Operation<'a, u32> {
        let lease = lease.clone();
        self.perform(Access::Write, move |tx| ops::sequence::allocate_version(tx, &lease, &new))
    }

    fn allocations<'a>(&'a self, run: &'a RunId) -> Operation<'a, Vec<AllocationRecord>> {
        let run = run.clone();
        self.perform(Access::Read, move |tx| ops::sequence::of_run(tx, &run))
    }

    fn slot_take<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a SlotPool,
        name: &'a str,
    ) -> Operation<'a, SlotTaken> {
        let (lease, pool, name) = (lease.clone(), pool.clone(), name.to_owned());
        self.perform(Access::Write, move |tx| ops::slot::take(tx, &lease, &pool, &name))
    }

    fn slot_give<'a>(
        &'a self,
        lease: &'a Lease,
        pool: &'a str,
        number: u32,
        why: SlotGiven,
    ) -> Operation<'a, bool> {
        let (lease, pool) = (lease.clone(), pool.to_owned());
        self.perform(Access::Write, move |tx| ops::slot::give(tx, &lease, &pool, number, why))
    }

    fn slots<'a>(&'a self, pool: &'a str) -> Operation<'a, Vec<SlotRecord>> {
        let pool = pool.to_owned();
        self.perform(Access::Read, move |tx| ops::slot::of_pool(tx, &pool))
    }

    fn hold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, ()> {
        self.perform(Access::Write, move |tx| ops::service::hold(tx, &of, &key))
    }

    fn unhold(&self, of: HoldOf, key: ServiceKey) -> Operation<'_, bool> {
        self.perform(Access::Write, move |tx| ops::service::unhold(tx, &of, &key))
    }

    fn holds(&self, key: ServiceKey) -> Operation<'_, Vec<HoldRecord>> {
        self.perform(Access::Read, move |tx| ops::service::holds(tx, &key))
    }

    fn step_instance(&self, step: InstanceStep) -> Operation<'_, InstanceStepped> {
        self.perform(Access::Write, move |tx| ops::service::step(tx, &step))
    }

    fn instance(&self, key: ServiceKey) -> Operation<'_, Option<InstanceRecord>> {
        self.perform(Access::Read, move |tx| ops::service::instance(tx, &key))
    }

    fn instances(&self, limit: u32) -> Operation<'_, Vec<InstanceRecord>> {
        self.perform(Access::Read, move |tx| ops::service::instances(tx, limit))
    }

    fn release<'a>(&'a self, lease: &'a Lease, why: &'a str) -> Operation<'a, AttemptRecord> {
        let (lease, why) = (lease.clone(), why.to_owned());
        self.perform(Access::Write, move |tx| ops::lease::release(tx, &lease, &why))
    }

    fn commit(&self, decision: Decision) -> Operation<'_, Committed> {
        self.perform_in(Turn::Joint, Access::Write, move |tx| ops::decision::commit(tx, &decision))
    }

    fn wake<'a>(
        &'a self,
        run: &'a RunId,
        job: i64,
        cause: &'a str,
        run_after: Option<Timestamp>,
    ) -> Operation<'a, bool> {
        let (run, cause) = (run.clone(), cause.to_owned());
        self.perform(Access::Write, move |tx| ops::wait::wake(tx, &run, job, &cause, run_after))
    }

    fn signal(&self, signal: NewSignal) -> Operation<'_, Accepted> {
        self.perform(Access::Write, move |tx| ops::signal::signal(tx, &signal))
    }

    fn revision<'a>(&'a self, run: &'a RunId) -> Operation<'a, u64> {
        let run = run.clone();
        self.perform(Access::Read, move |tx| ops::view::revision(tx, &run))
    }

    fn run<'a>(&'a self, run: &'a RunId) -> Operation<'a, RunView> {
        let run = run.clone();
        self.perform(Access::Read, move |tx| ops::view::run(tx, &run))
    }

    fn runs(&self, limit: u32) -> Operation<'_, Vec<RunSummary>> {
        self.perform(Access::Read, move |tx| ops::view::runs(tx, limit))
    }

    fn unfinished_runs(&self) -> Operation<'_, Vec<RunSummary>> {
        self.perform(Access::Read, ops::view::unfinished)
    }

    fn open_runs(&self) -> Operation<'_, Vec<OpenRun>> {
        self.perform(Access::Read, ops::view::open_runs)
    }

    fn events<'a>(
        &'a self,
        stream: &'a str,
        from: u64,
        limit: u32,
    ) -> Operation<'a, Vec<EventRecord>> {
        let stream = stream.to_owned();
        self.perform(Access::Read, move |tx| ops::journal::events(tx, &stream, from, limit))
    }

    fn create_stream<'a>(
        &'a self,
        stream: &'a str,
        kind: &'a str,
        events: Vec<NewEvent>,
    ) -> Operation<'a, Appended> {
        let (stream, kind) = (stream.to_owned(), kind.to_owned());
        self.perform(Access::Write, move |tx| ops::stream::create(tx, &stream, &kind, &events))
    }

    fn append<'a>(
        &'a self,
        stream: &'a str,
        expected: u64,
        events: Vec<NewEvent>,
        close: bool,
    ) -> Operation<'a, Appended> {
        let stream = stream.to_owned();
        self.perform(Access::Write, move |tx| {
            ops::stream::append(tx, &stream, expected, &events, close)
        })
    }

    fn streams<'a>(&'a self, kind: &'a str) -> Operation<'a, Vec<StreamRecord>> {
        let kind = kind.to_owned();
        self.perform(Access::Read, move |tx| ops::stream::list(tx, &kind))
    }

    fn take_due_timers(&self, limit: u32) -> Operation<'_, Vec<TimerDue>> {
        self.perform(Access::Write, move |tx| ops::timer::take_due(tx, limit))
    }

    fn next_due(&self) -> Operation<'_, Option<Timestamp>> {
        self.perform(Access::Read, ops::timer::next_due)
    }

    fn put_blob(&self, bytes: Vec<u8>) -> Operation<'_, Digest> {
        self.perform(Access::Write, move |tx| ops::blob::put(tx, &bytes))
    }

    fn blob(&self, digest: Digest) -> Operation<'_, Vec<u8>> {
        self.perform(Access::Read, move |tx| ops::blob::get(tx, digest))
    }

    fn retain(&self, policy: Retention, limit: u32) -> Operation<'_, Retained> {
        self.perform(Access::Write, move |tx| ops::retention::retain(tx, policy, limit))
    }

    fn retainable(&self, policy: Retention, limit: u32) -> Operation<'_, Vec<RunSummary>> {
        self.perform(Access::Read, move |tx| ops::retention::due(tx, policy, limit))
    }

    fn purge<'a>(&'a self, run: &'a RunId) -> Operation<'a, ()> {
        let run = run.clone();
        self.perform(Access::Write, move |tx| ops::retention::purge(tx, &run))
    }

    fn removed(&self, limit: u32) -> Operation<'_, Vec<RemovedRun>> {
        self.perform(Access::Read, move |tx| ops::retention::removed(tx, limit))
    }

    fn verify(&self, cursor: VerifyCursor, limit: u32) -> Operation<'_, VerifyStep> {
        self.perform(Access::Read, move |tx| ops::verify::step(tx, cursor.clone(), limit))
    }
}
