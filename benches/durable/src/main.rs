//! Perennial's durable jobs and steps next to those of its peers, measured in the same rounds. See README.md.

mod apalis_jobs;
mod dbos_steps;
mod duroxide_steps;
mod measure;
mod ours;
mod server;

use std::sync::Arc;

use perennial_testkit::postgres::{Cluster, Options, private};

use apalis_jobs::Settings;
use measure::{Goal, Line, Wanted};

/// Jobs that are under way at once, and runs that are, where a line has many of them.
const WIDTH: usize = 64;

fn main() {
    let wanted = Wanted::from_args();
    let executor =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let executor = executor.expect("an executor");
    // As code of a server runs: on a worker.
    executor
        .block_on(async { tokio::spawn(lines(wanted)).await.expect("the lines were measured") });
}

async fn lines(wanted: Wanted) {
    let rooms = Arc::new(tempfile::tempdir().expect("a folder"));
    jobs_in_a_file(&wanted, &rooms).await;
    steps_in_a_file(&wanted, &rooms).await;
    if ["jobs_postgres", "runs_postgres", "steps_dbos", "steps_dbos_16"]
        .iter()
        .any(|line| wanted.wants(line))
    {
        let Some(cluster) = private(Options::new()) else { return };
        let cluster = Arc::new(cluster);
        jobs_on_a_server(&wanted, &cluster).await;
        steps_on_a_server(&wanted, &cluster).await;
    }
}

/// Enqueued, claimed, run, and their end recorded; each a job of a stage, or a run of its own.
async fn jobs_in_a_file(wanted: &Wanted, rooms: &Arc<tempfile::TempDir>) {
    let lines = [
        ("jobs_sqlite_1k", wanted.size(1_000), WIDTH, Goal::AtLeast(5.0)),
        ("jobs_sqlite_5k", wanted.size(5_000), WIDTH, Goal::AtLeast(5.0)),
        ("runs_sqlite_1k", wanted.size(1_000), wanted.size(1_000), Goal::AtLeast(5.0)),
    ];
    for (name, jobs, runs, goal) in lines.into_iter().filter(|(name, ..)| wanted.wants(name)) {
        let (a, b, c) = (rooms.clone(), rooms.clone(), rooms.clone());
        Line::new(name, goal)
            .subject("perennial", move || ours::jobs(server::file(&a), jobs, runs))
            .subject("apalis-sqlite FULL", move || {
                apalis_jobs::in_a_file(server::path(&b), jobs, Settings::Durable)
            })
            .subject("apalis-sqlite as it is", move || {
                apalis_jobs::in_a_file(server::path(&c), jobs, Settings::AsTheyAre)
            })
            .run()
            .await;
    }
}

async fn jobs_on_a_server(wanted: &Wanted, cluster: &Arc<Cluster>) {
    let jobs = wanted.size(10_000);
    let lines = [("jobs_postgres", jobs, WIDTH), ("runs_postgres", jobs / 5, jobs / 5)];
    for (name, jobs, runs) in lines.into_iter().filter(|(name, ..)| wanted.wants(name)) {
        let (a, b, c) = (cluster.clone(), cluster.clone(), cluster.clone());
        Line::new(name, Goal::AtLeast(2.0))
            .subject("perennial", move || {
                let cluster = a.clone();
                async move {
                    let database = server::database(&cluster).await;
                    ours::jobs(server::store(&database), jobs, runs).await
                }
            })
            .subject("apalis-postgres", move || {
                let cluster = b.clone();
                async move { apalis_jobs::on_a_server(server::database(&cluster).await, jobs, 10).await }
            })
            .subject("apalis-postgres, batches of 100", move || {
                let cluster = c.clone();
                async move { apalis_jobs::on_a_server(server::database(&cluster).await, jobs, 100).await }
            })
            .run()
            .await;
    }
}

/// One after the other, each recorded before the next.
async fn steps_in_a_file(wanted: &Wanted, rooms: &Arc<tempfile::TempDir>) {
    let steps = wanted.size(100);
    let lines = [("steps_duroxide", 1), ("steps_duroxide_4", 4)];
    for (name, runs) in lines.into_iter().filter(|(name, _)| wanted.wants(name)) {
        let (a, b) = (rooms.clone(), rooms.clone());
        Line::new(name, Goal::AtLeast(10.0))
            .subject("perennial", move || ours::steps(server::file(&a), steps, runs))
            .subject("duroxide, polls each ms", move || {
                duroxide_steps::run(server::path(&b), steps, runs)
            })
            .run()
            .await;
    }
}

async fn steps_on_a_server(wanted: &Wanted, cluster: &Arc<Cluster>) {
    let lines = [("steps_dbos", wanted.size(1_000), 1), ("steps_dbos_16", wanted.size(250), 16)];
    for (name, steps, runs) in lines.into_iter().filter(|(name, ..)| wanted.wants(name)) {
        let (a, b, c) = (cluster.clone(), cluster.clone(), cluster.clone());
        Line::new(name, Goal::AtLeast(3.0))
            .subject("perennial", move || {
                let cluster = a.clone();
                async move {
                    let database = server::database(&cluster).await;
                    ours::steps(server::store(&database), steps, runs).await
                }
            })
            .subject("dbos", move || {
                let cluster = b.clone();
                async move { dbos_steps::run(server::database(&cluster).await, steps, runs).await }
            })
            .subject("bare inserts", move || {
                let cluster = c.clone();
                async move { server::inserts(server::database(&cluster).await, steps, runs).await }
            })
            .run()
            .await;
    }
}
