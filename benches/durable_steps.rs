//! Durable steps per second of one sequential run of echo steps, against bare commits of the same
//! rows through the same store in the same process.
//!
//! `cargo bench --bench durable_steps`. The ratio says what the engine costs on top of its commits:
//! one decision, one supervised attempt and one report per step.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to answer to")]
#![expect(clippy::print_stdout, reason = "its figures are its purpose")]

use std::{fmt::Write, path::Path, time::Duration};

use perennial::{ProviderMode, Runtime, StartPipeline, Store};
use perennial_core::{
    Digest,
    run::{AttemptEnd, JobKey, JobState, RunId},
};
use perennial_store::{
    Committed, Created, Decision, Lease, NewJob, NewRun, NodeRef, Report, SqliteOptions,
    SqliteStore, Store as _,
};
use serde_json::json;

const STEPS: usize = 1_000;
const ROUNDS: usize = 7;

fn main() {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (mut engine, mut bare) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let at = |name: &str| folder.path().join(format!("{name}-{round}.db"));
            engine.push(steps_of_a_run(&at("run")).await);
            bare.push(bare_commits(&at("bare")).await);
            println!(
                "round {round}: {:>8.0} durable steps/s, {:>8.0} bare commits/s",
                engine[round], bare[round]
            );
        }
        let mut ratios: Vec<f64> = engine.iter().zip(&bare).map(|(run, bare)| run / bare).collect();
        let ratio = median(&mut ratios);
        let (engine, bare) = (median(&mut engine), median(&mut bare));
        println!("medians: {engine:.0} durable steps/s, {bare:.0} bare commits/s");
        println!("ratio (median of {ROUNDS} pairs): {ratio:.2} durable steps per bare commit");
    });
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a bench does")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// One run of echo steps through the whole runtime.
async fn steps_of_a_run(path: &Path) -> f64 {
    let mut text = String::from("workflow:\n  name: bench\n  steps:\n");
    for step in 0..STEPS {
        writeln!(text, "  - {{name: s{step}, type: echo, value: {step}}}").unwrap();
    }
    let runtime = Runtime::builder().store(Store::sqlite(path)).start().await.unwrap();
    let start = StartPipeline::document("bench.yaml", text).mode(ProviderMode::Mock);
    let begun = now();
    let run = runtime.pipelines().start(start).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let took = begun.elapsed();
    assert_eq!(outcome.status(), "completed");
    drop(run);
    runtime.shutdown().await;
    per_second(STEPS, took)
}

/// The same rows, one commit after the other, without anything above the store.
async fn bare_commits(path: &Path) -> f64 {
    let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
    let (writer, reader) = (store.writer(), store.reader());
    let (stop_writer, stop_reader) = (writer.stopper(), reader.stopper());
    #[expect(clippy::disallowed_methods, reason = "the baseline has no supervisor")]
    let threads = [
        std::thread::spawn(move || writer.run().unwrap()),
        std::thread::spawn(move || reader.run().unwrap()),
    ];
    let node = store.register_node("bench").await.unwrap().node;
    let run = RunId::parse("bench").unwrap();
    let begun = now();
    let mut lease = create(&store, &run, &node).await;
    for step in 1..=STEPS {
        lease = commit(&store, &run, &node, lease, step).await;
    }
    let took = begun.elapsed();
    stop_writer.stop();
    stop_reader.stop();
    for thread in threads {
        thread.join().unwrap();
    }
    per_second(STEPS, took)
}

fn job(step: usize, node: &NodeRef) -> NewJob {
    NewJob {
        stage: "steps".to_owned(),
        key: JobKey::new(format!("s{step}")),
        max_attempts: 1,
        input: json!({
            "retry": { "max_attempts": 1, "base_ms": 0, "cap_ms": 0 },
            "attempt_within_ms": 60_000,
        }),
        claim_for: Some(node.clone()),
    }
}

async fn create(store: &SqliteStore, run: &RunId, node: &NodeRef) -> Lease {
    let definition = b"bench".to_vec();
    let created = store.create_run(NewRun {
        run: run.clone(),
        workflow: "bench".to_owned(),
        definition: Digest::of(&definition),
        definition_bytes: definition,
        input_digest: Digest::of(b"inputs"),
        settings: json!({}),
        owner: node.clone(),
        deadline: None,
        stages: vec!["steps".to_owned()],
        jobs: vec![job(0, node)],
        timers: Vec::new(),
    });
    let Created::New { leases, .. } = created.await.unwrap() else { unreachable!() };
    leases.into_iter().next().unwrap()
}

async fn commit(
    store: &SqliteStore,
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
    });
    let Committed::Now { leases, .. } = committed.await.unwrap() else { unreachable!() };
    leases.into_iter().next().unwrap()
}
