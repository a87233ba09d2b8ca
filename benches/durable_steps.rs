//! Durable steps per second of echo steps, against what the disk allows and against bare commits of the same
//! rows through the same store, in the same process.
//!
//! `cargo bench --bench durable_steps`. *F* is how often a second 4 KiB of a file that has its size can be
//! written and synced (`fdatasync`); no durable step is faster than that. The ratio to bare commits says what the
//! engine costs on top of them: one decision, one supervised attempt and one report per step. With many runs at
//! once, commits are shared.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to answer to")]
#![expect(clippy::print_stdout, reason = "its figures are its purpose")]

use std::{fmt::Write, fs::File, os::unix::fs::FileExt, path::Path, time::Duration};

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
/// Runs at once, and the steps of each.
const RUNS: usize = 64;
const STEPS_OF_MANY: usize = 100;
const ROUNDS: usize = 7;
const SYNCS: usize = 1_000;

fn main() {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let [mut synced, mut one, mut many, mut bare] = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            let at = |name: &str| folder.path().join(format!("{name}-{round}.db"));
            synced.push(syncs(&at("synced")));
            one.push(steps_of_runs(&at("one"), 1, STEPS).await);
            many.push(steps_of_runs(&at("many"), RUNS, STEPS_OF_MANY).await);
            bare.push(bare_commits(&at("bare")).await);
            println!(
                "round {round}: F {:>6.0}/s, one run {:>6.0} steps/s, {RUNS} runs {:>6.0} steps/s, bare {:>6.0} commits/s",
                synced[round], one[round], many[round], bare[round]
            );
        }
        for (name, above, below, goal) in [
            ("one run / F", &one, &synced, "≥ 0.40"),
            ("64 runs / one run", &many, &one, "≥ 4"),
            ("one run / bare commits", &one, &bare, "none"),
        ] {
            let mut ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
            println!("{name}: {:.2} (median of {ROUNDS} pairs; goal {goal})", median(&mut ratios));
        }
    });
}

/// F: how often a second a page of a file that has its size can be overwritten and synced.
fn syncs(path: &Path) -> f64 {
    let file = File::create(path).unwrap();
    let page = [7; 4096];
    let pages = 256;
    file.write_all_at(&vec![1; pages * page.len()], 0).unwrap();
    file.sync_all().unwrap();
    let begun = now();
    for at in 0..SYNCS {
        file.write_all_at(&page, ((at % pages) * page.len()) as u64).unwrap();
        file.sync_data().unwrap();
    }
    per_second(SYNCS, begun.elapsed())
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

/// Runs of echo steps through the whole runtime, all at once.
async fn steps_of_runs(path: &Path, runs: usize, steps: usize) -> f64 {
    let mut text = String::from("workflow:\n  name: bench\n  steps:\n");
    for step in 0..steps {
        writeln!(text, "  - {{name: s{step}, type: echo, value: {step}}}").unwrap();
    }
    let builder = Runtime::builder().store(Store::sqlite(path));
    let runtime = builder.start().await.unwrap();
    let begun = now();
    let mut started = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = StartPipeline::document("bench.yaml", text.clone()).mode(ProviderMode::Mock);
        started.push(runtime.pipelines().start(start).await.unwrap());
    }
    for run in &started {
        assert_eq!(run.outcome().await.unwrap().status(), "completed");
    }
    let took = begun.elapsed();
    drop(started);
    runtime.shutdown().await;
    per_second(runs * steps, took)
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
        crashes_max: 3,
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
        owner: Some(node.clone()),
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
