//! Decisions of many runs at once on PostgreSQL: each in a transaction of its own, next to transactions that are shared.
//!
//! `cargo bench -p perennial-store --features postgres --bench together`. Both sides take turns; the ratio is the
//! median of the rounds'. A decision reports a job and claims the next one.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to answer to")]
#![expect(clippy::print_stdout, reason = "its figures are its purpose")]

#[path = "../../../benches/durable_steps/decisions.rs"]
mod decisions;

use perennial_store::{ConnectionLoop, PostgresOptions, PostgresStore, Stopper, Store};
use perennial_testkit::postgres::{self, Cluster};

/// Runs at once, and the decisions of each.
const LOADS: [(usize, usize); 4] = [(1, 400), (4, 200), (16, 100), (64, 40)];
const ROUNDS: usize = 5;

fn main() {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(cluster) = postgres::private(Default::default()) else { return };
    for (runs, each) in LOADS {
        let mut ratios = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let [(alone, _), (together, shared)] =
                [1, 16].map(|max| executor.block_on(decisions(&cluster, max, runs, each)));
            println!(
                "{runs} runs: alone {alone:.0}/s, together {together:.0}/s, {shared} of {} shared",
                runs * each
            );
            ratios.push(together / alone);
        }
        ratios.sort_by(f64::total_cmp);
        println!("{runs} runs: together / alone {:.2}", ratios[ROUNDS / 2]);
    }
}

/// Decisions a second, and how many shared a transaction.
async fn decisions(cluster: &Cluster, max: usize, runs: usize, each: usize) -> (f64, u64) {
    let database = cluster.database("together").unwrap();
    let options = PostgresOptions { commits_together: max, ..PostgresOptions::default() };
    let store = PostgresStore::open(&database.url(), options).await.unwrap();
    let loops: Vec<_> = (0..store.connections()).map(|_| store.connection()).collect();
    let stoppers: Vec<_> = loops.iter().map(ConnectionLoop::stopper).collect();
    let threads: Vec<_> = loops.into_iter().map(thread).collect();
    let names: Vec<String> = (0..runs).map(|run| format!("run-{run}")).collect();
    let begun = now();
    let deciding = names.iter().map(|name| decisions::decide(&store, name, each));
    futures_util::future::join_all(deciding).await;
    let took = begun.elapsed();
    let shared = store.status().server.unwrap().shared_commits;
    stoppers.iter().for_each(Stopper::stop);
    threads.into_iter().for_each(|one| one.join().unwrap());
    ((runs * each) as f64 / took.as_secs_f64(), shared)
}

#[expect(clippy::disallowed_methods, reason = "a bench has no supervisor")]
fn thread(one: ConnectionLoop) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || one.run().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a bench does")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
