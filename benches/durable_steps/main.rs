//! Durable steps per second of echo steps, against what the disk allows and against bare commits of the same
//! rows through the same store, in the same process.
//!
//! `cargo bench --features postgres --bench durable_steps -- [sqlite] [postgres]`. *F* is how often a second 4 KiB of a
//! file that has its size can be written and synced (`fdatasync`); no durable step is faster than that. The ratio to bare
//! commits says what the engine costs on top of them: one decision, one supervised attempt and one report per step. With
//! many runs at once, commits are shared.
//!
//! With `PERENNIAL_BENCH_SYNC_US=1000` each sync takes a millisecond longer, for both sides: many virtual disks flush
//! nothing, and then all that is measured is the processor.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to answer to")]
#![expect(clippy::print_stdout, reason = "its figures are its purpose")]

mod decisions;
#[cfg(feature = "postgres")]
mod server;
mod slow_disk;

use std::{env, fmt::Write, fs::File, os::unix::fs::FileExt, path::Path, time::Duration};

use perennial::{ProviderMode, Runtime, StartPipeline, Store};
use perennial_store::{SqliteOptions, SqliteStore};

const STEPS: usize = 1_000;
/// Runs at once, and the steps of each.
const RUNS: usize = 64;
const STEPS_OF_MANY: usize = 100;
const ROUNDS: usize = 7;
const SYNCS: usize = 1_000;

fn main() {
    println!("on {}", slow_disk::describe());
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Without a name, all; what cargo adds begins with a dash.
    let named: Vec<String> = env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let wanted = |store: &str| named.is_empty() || named.iter().any(|name| name == store);
    executor.block_on(async {
        if wanted("sqlite") {
            on_sqlite().await;
        }
        if wanted("postgres") {
            #[cfg(feature = "postgres")]
            server::measure().await;
            #[cfg(not(feature = "postgres"))]
            println!("PostgreSQL: not in this build (--features postgres)");
        }
    });
}

async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let [mut synced, mut one, mut many, mut bare] = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let at = |name: &str| folder.path().join(format!("{name}-{round}.db"));
        synced.push(syncs(&at("synced")));
        one.push(steps_of_runs(Store::sqlite(at("one")), 1, STEPS).await);
        many.push(steps_of_runs(Store::sqlite(at("many")), RUNS, STEPS_OF_MANY).await);
        bare.push(bare_commits(&at("bare")).await);
        println!(
            "round {round}: F {:>6.0}/s, one run {:>6.0} steps/s, {RUNS} runs {:>6.0} steps/s, bare {:>6.0} commits/s",
            synced[round], one[round], many[round], bare[round]
        );
    }
    print_ratio("one run / F", &one, &synced, "≥ 0.40");
    print_ratio("64 runs / one run", &many, &one, "≥ 4");
    print_ratio("one run / bare commits", &one, &bare, "none");
}

fn print_ratio(name: &str, above: &[f64], below: &[f64], goal: &str) {
    let mut ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
    let rounds = ratios.len();
    println!("{name}: {:.2} (median of {rounds} pairs; goal {goal})", median(&mut ratios));
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
async fn steps_of_runs(store: Store, runs: usize, steps: usize) -> f64 {
    let mut text = String::from("workflow:\n  name: bench\n  steps:\n");
    for step in 0..steps {
        writeln!(text, "  - {{name: s{step}, type: echo, value: {step}}}").unwrap();
    }
    let builder = Runtime::builder().store(store);
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
    let begun = now();
    decisions::decide(&store, "bench", STEPS).await;
    let took = begun.elapsed();
    stop_writer.stop();
    stop_reader.stop();
    for thread in threads {
        thread.join().unwrap();
    }
    per_second(STEPS, took)
}
