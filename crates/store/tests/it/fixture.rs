//! Values that the cases start from.

use perennial_core::{
    Digest, Timestamp,
    run::{AttemptEnd, JobKey, JobState, RunId, RunState},
};
use perennial_store::{
    AfterWait, Committed, Created, Decision, Deferral, EventRecord, JobPart, JobRecord, LEASE_TTL,
    Lease, NewEvent, NewJob, NewRun, NewStage, NewWait, NodeRef, NodeTerms, Report, RunStep, Store,
    WaitDefault, WaitKind,
};
use serde_json::json;

pub(crate) const STAGE: &str = "steps";
pub(crate) const ALL: u32 = 1000;
/// A name that is used again means that its node was started again, on every store.
pub(crate) const EXCLUSIVE: NodeTerms = NodeTerms { ttl: LEASE_TTL, exclusive: true };

/// A run with one leased job `a`.
pub(crate) struct Started {
    pub(crate) run: RunId,
    pub(crate) node: NodeRef,
    pub(crate) lease: Lease,
    pub(crate) revision: u64,
}

pub(crate) async fn start(store: &dyn Store, id: &str) -> Started {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    start_on(store, id, &node).await
}

pub(crate) async fn start_on(store: &dyn Store, id: &str, node: &NodeRef) -> Started {
    let new = new_run(id, node);
    let run = new.run.clone();
    let Created::New { revision, mut leases } = store.create_run(new).await.unwrap() else {
        panic!("the run exists")
    };
    Started { run, node: node.clone(), lease: leases.remove(0), revision }
}

pub(crate) fn run_id(text: &str) -> RunId {
    RunId::parse(text).unwrap()
}

pub(crate) fn new_run(id: &str, owner: &NodeRef) -> NewRun {
    let definition_bytes = b"definition".to_vec();
    NewRun {
        run: run_id(id),
        workflow: "w".to_owned(),
        definition: Digest::of(&definition_bytes),
        definition_bytes,
        input_digest: Digest::of(b"input"),
        settings: json!({"mode": "mock"}),
        owner: Some(owner.clone()),
        deadline: None,
        stages: vec![NewStage::driven(STAGE)],
        jobs: vec![new_job("a", Some(owner))],
        timers: Vec::new(),
        priority: Default::default(),
    }
}

pub(crate) fn new_job(key: &str, claim_for: Option<&NodeRef>) -> NewJob {
    NewJob {
        stage: STAGE.to_owned(),
        key: JobKey::new(key),
        max_attempts: 3,
        crashes_max: 3,
        input: json!({"for": key}),
        claim_for: claim_for.cloned(),
        part: JobPart::default(),
    }
}

/// A decision that changes nothing yet.
pub(crate) fn decision(run: &RunId, expected_revision: u64) -> Decision {
    Decision {
        run: run.clone(),
        expected_revision,
        report: None,
        jobs: Vec::new(),
        new_jobs: Vec::new(),
        stages: Vec::new(),
        run_step: None,
        events: Vec::new(),
        timers: Vec::new(),
        progress: None,
        limits: Vec::new(),
        priority: None,
    }
}

pub(crate) fn report(lease: &Lease, end: AttemptEnd, job: JobState) -> Report {
    Report {
        lease: lease.clone(),
        end,
        job,
        skipped: None,
        run_after: None,
        result: job.is_terminal().then(|| json!({"by": lease.attempt})),
        class: None,
        code: None,
        message: None,
        dead_letter: false,
        deferral: (job == JobState::Deferred).then(|| deferral(Timestamp::from_micros(i64::MAX))),
        wait: (job == JobState::Suspended).then(|| {
            let until = Timestamp::from_micros(i64::MAX);
            wait_for(WaitKind::Signal, "go", until, WaitDefault::Fail)
        }),
    }
}

pub(crate) fn deferral(wake_at: Timestamp) -> Deferral {
    let cause = "the printer".to_owned();
    Deferral { cause, wake_at, until: wake_at, then: AfterWait::Fail }
}

pub(crate) fn wait_for(kind: WaitKind, name: &str, until: Timestamp, or: WaitDefault) -> NewWait {
    NewWait { kind, name: name.to_owned(), about: json!({ "ask": name }), until, or }
}

pub(crate) fn reporting(started: &Started, end: AttemptEnd, job: JobState) -> Decision {
    let report = Some(report(&started.lease, end, job));
    Decision { report, ..decision(&started.run, started.revision) }
}

pub(crate) fn entering(run: &RunId, revision: u64, from: RunState, to: RunState) -> Decision {
    let run_step = Some(RunStep { from, to, failure: None });
    Decision { run_step, ..decision(run, revision) }
}

pub(crate) fn event(kind: &str) -> NewEvent {
    NewEvent { kind: kind.to_owned(), job: None, attempt: None, data: json!({"of": kind}) }
}

/// Revision, leases and kinds of events of a decision that was committed.
pub(crate) fn committed(outcome: Committed) -> (u64, Vec<Lease>, Vec<String>) {
    match outcome {
        Committed::Now { revision, leases, events, .. } => (revision, leases, kinds(&events)),
        Committed::AlreadyRecorded { end } => panic!("recorded before: {end}"),
    }
}

pub(crate) fn kinds(events: &[EventRecord]) -> Vec<String> {
    events.iter().map(|event| event.kind.clone()).collect()
}

pub(crate) async fn only_job(store: &dyn Store, run: &RunId) -> JobRecord {
    store.run(run).await.unwrap().jobs.remove(0)
}

/// All events of the stream, which are gapless from 1.
pub(crate) async fn history(store: &dyn Store, stream: &str) -> Vec<String> {
    let events = store.events(stream, 1, ALL).await.unwrap();
    assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64), "{events:?}");
    kinds(&events)
}
