//! Where a round keeps its rows: a fresh file or a fresh database each time.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use perennial::Store;
use perennial_testkit::postgres::{Cluster, Database};
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;

use crate::measure::rate;

/// The path of a file that is not there yet.
pub(crate) fn path(rooms: &TempDir) -> PathBuf {
    static FILES: AtomicU64 = AtomicU64::new(0);
    rooms.path().join(format!("{}.db", FILES.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) fn file(rooms: &TempDir) -> Store {
    Store::sqlite(path(rooms))
}

/// A fresh database; asking for it blocks.
pub(crate) async fn database(cluster: &Arc<Cluster>) -> Database {
    let cluster = cluster.clone();
    let made = tokio::task::spawn_blocking(move || cluster.database("durable"));
    made.await.expect("it did not panic").expect("a database")
}

/// Its address as sqlx reads it: with a host, though the folder of the socket is what counts.
pub(crate) fn url(database: &Database) -> String {
    database.url().replacen("@/", "@localhost/", 1)
}

/// The store in `database`, which has to outlive it.
pub(crate) fn store(database: &Database) -> Store {
    Store::postgres(&database.url()).expect("an address")
}

/// The least that a durable step can be there: one row, inserted and committed in one round trip.
pub(crate) async fn inserts(database: Database, steps: usize, runs: usize) -> f64 {
    let pool = PgPoolOptions::new().max_connections(16).min_connections(16);
    let pool = pool.connect(&url(&database)).await.expect("a connection");
    let table = "CREATE TABLE bare (run BIGINT, step BIGINT, result TEXT, PRIMARY KEY (run, step))";
    sqlx::query(table).execute(&pool).await.expect("a table");
    let begun = Instant::now();
    let running: Vec<_> = (0..runs)
        .map(|run| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut connection = pool.acquire().await.expect("a connection");
                for step in 0..steps {
                    let insert = sqlx::query("INSERT INTO bare VALUES ($1, $2, $3)");
                    let insert = insert.bind(run as i64).bind(step as i64).bind(step.to_string());
                    insert.execute(&mut *connection).await.expect("it was inserted");
                }
            })
        })
        .collect();
    for one in running {
        one.await.expect("it went well");
    }
    let rate = rate(steps * runs, begun);
    pool.close().await;
    rate
}
