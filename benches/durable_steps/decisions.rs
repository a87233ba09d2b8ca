//! The decisions of echo steps through a store alone: the same rows, without anything above.

use perennial_core::{
    Digest,
    run::{AttemptEnd, JobKey, JobState, RunId},
};
use perennial_store::{
    Committed, Created, Decision, JobPart, Lease, NewJob, NewRun, NewStage, NodeRef, Report, Store,
};
use serde_json::json;

/// Makes a run and commits `steps` decisions of it, one after the other: each reports a job and claims the next one.
pub(crate) async fn decide(store: &dyn Store, name: &str, steps: usize) {
    let node = store.register_node(name).await.unwrap().node;
    let run = RunId::parse(name).unwrap();
    let mut lease = create(store, &run, &node).await;
    for step in 1..=steps {
        lease = commit(store, &run, &node, lease, step).await;
    }
}

fn job(step: usize, node: &NodeRef) -> NewJob {
    NewJob {
        stage: "steps".to_owned(),
        key: JobKey::new(format!("s{step}")),
        max_attempts: 1,
        crashes_max: 3,
        input: json!({
            "retry": { "max_attempts": 1, "base_ms": 0, "cap_ms": 0 },
            "attempt_within_ms": 60_000,
        }),
        claim_for: Some(node.clone()),
        part: JobPart::default(),
    }
}

async fn create(store: &dyn Store, run: &RunId, node: &NodeRef) -> Lease {
    let definition = b"bench".to_vec();
    let created = store.create_run(NewRun {
        run: run.clone(),
        workflow: "bench".to_owned(),
        definition: Digest::of(&definition),
        definition_bytes: definition,
        input_digest: Digest::of(b"inputs"),
        settings: json!({}),
        owner: Some(node.clone()),
        deadline: None,
        stages: vec![NewStage::driven("steps")],
        jobs: vec![job(0, node)],
        timers: Vec::new(),
        priority: Default::default(),
    });
    let Created::New { leases, .. } = created.await.unwrap() else { unreachable!() };
    leases.into_iter().next().unwrap()
}

async fn commit(
    store: &dyn Store,
    run: &RunId,
    node: &NodeRef,
    lease: Lease,
    step: usize,
) -> Lease {
    let committed = store.commit(Decision {
        run: run.clone(),
        expected_revision: step as u64,
        report: Some(Report {
            lease,
            end: AttemptEnd::Succeeded,
            job: JobState::Succeeded,
            skipped: None,
            run_after: None,
            result: Some(json!(step)),
            class: None,
            code: None,
            message: None,
            dead_letter: false,
            deferral: None,
            wait: None,
        }),
        jobs: Vec::new(),
        new_jobs: vec![job(step, node)],
        stages: Vec::new(),
        run_step: None,
        events: Vec::new(),
        timers: Vec::new(),
        progress: None,
        limits: Vec::new(),
        priority: None,
    });
    let Committed::Now { leases, .. } = committed.await.unwrap() else { unreachable!() };
    leases.into_iter().next().unwrap()
}
