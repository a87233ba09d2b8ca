//! apalis: tasks that are pushed, fetched by one worker in batches, run, and acknowledged.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use apalis::prelude::{
    BoxDynError, Data, TaskSink, WorkerBuilder, WorkerBuilderExt, WorkerContext,
};
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use perennial_testkit::postgres::Database;
use sqlx::{
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{WIDTH, measure::rate, server};

/// How durable what it records is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    /// A log, and `synchronous = FULL`, on every connection.
    Durable,
    /// What its `setup` says: a log, and the connection that happened to be asked syncs nothing.
    AsTheyAre,
}

/// How many are still to be run.
type Left = Arc<AtomicUsize>;

async fn handle(_: usize, left: Data<Left>, worker: WorkerContext) -> Result<(), BoxDynError> {
    if left.fetch_sub(1, Ordering::AcqRel) == 1 {
        worker.stop()?;
    }
    Ok(())
}

/// So many jobs a second, in a file at `path`.
pub(crate) async fn in_a_file(path: PathBuf, jobs: usize, settings: Settings) -> f64 {
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let options = match settings {
        Settings::Durable => {
            options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full)
        }
        Settings::AsTheyAre => options,
    };
    let connect = || SqlitePoolOptions::new().connect_with(options.clone());
    let mut pool = connect().await.expect("a file");
    SqliteStorage::setup(&pool).await.expect("tables");
    if settings == Settings::Durable {
        // It has told its connection to sync nothing.
        pool.close().await;
        pool = connect().await.expect("the same file");
    }
    let mut backend = SqliteStorage::new(&pool);
    let begun = Instant::now();
    backend.push_bulk((0..jobs).collect()).await.expect("they were enqueued");
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .concurrency(WIDTH)
        .data(Left::new(AtomicUsize::new(jobs)))
        .build(handle);
    worker.run().await.expect("it went well");
    let rate = rate(jobs, begun);
    let done = sqlx::query_scalar("SELECT COUNT(*) FROM Jobs WHERE status = 'Done'");
    let done: i64 = done.fetch_one(&pool).await.expect("a count");
    assert_eq!(done, jobs as i64, "every end is recorded");
    pool.close().await;
    rate
}

/// The same in `database`, fetched so many at a time.
pub(crate) async fn on_a_server(database: Database, jobs: usize, batch: usize) -> f64 {
    let url = server::url(&database);
    let pool = PgPoolOptions::new().max_connections(10).connect(&url).await.expect("a server");
    PostgresStorage::setup(&pool).await.expect("tables");
    let config = apalis_postgres::Config::default().queue("bench").batch_size(batch);
    let mut backend = PostgresStorage::new(&pool).with_config(config);
    let begun = Instant::now();
    backend.push_bulk((0..jobs).collect()).await.expect("they were enqueued");
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .concurrency(WIDTH)
        .data(Left::new(AtomicUsize::new(jobs)))
        .build(handle);
    worker.run().await.expect("it went well");
    let rate = rate(jobs, begun);
    let done = sqlx::query_scalar("SELECT COUNT(*) FROM apalis.jobs WHERE status = 'Done'");
    let done: i64 = done.fetch_one(&pool).await.expect("a count");
    assert_eq!(done, jobs as i64, "every end is recorded");
    pool.close().await;
    rate
}
