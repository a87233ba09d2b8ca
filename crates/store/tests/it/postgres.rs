//! The store on a server: the cases of every store, and what only it must do.

use std::thread;

use perennial_store::{PostgresOptions, PostgresStore, Store, StoreError};
use perennial_testkit::postgres::{self, Database};

use crate::stores::OnDrop;

mod concurrency;
mod connections;
mod lasting;
mod locking;
mod numbers;
mod opening;
mod proxy;
mod raw;
mod together;

/// Runs `case` on a store of its own, served by its connections.
pub(crate) fn on_postgres(
    name: &str,
    options: PostgresOptions,
    case: impl AsyncFnOnce(&dyn Store),
) {
    let Some(database) = database(name) else { return };
    let store = open(&database.url(), options);
    served(&store, || block_on(case(&store)));
}

/// A database with an empty store; none when there is no server to test with.
pub(crate) fn database(name: &str) -> Option<Database> {
    let cluster = postgres::cluster()?;
    let template = block_on(cluster.template("store", async |url: String| {
        PostgresStore::open(&url, PostgresOptions::default()).await.map(|_| ())
    }));
    Some(cluster.copy(&template.unwrap(), name).unwrap())
}

pub(crate) fn options() -> PostgresOptions {
    PostgresOptions { connections: 4, ..PostgresOptions::default() }
}

/// No row is locked by a read.
pub(crate) fn without_locks() -> PostgresOptions {
    PostgresOptions { row_locks: false, skip_locked: false, ..options() }
}

pub(crate) fn open(url: &str, options: PostgresOptions) -> PostgresStore {
    try_open(url, options).unwrap()
}

pub(crate) fn try_open(url: &str, options: PostgresOptions) -> Result<PostgresStore, StoreError> {
    block_on(PostgresStore::open(url, options))
}

/// Runs `body` while the connections of `store` serve it; then stops them.
pub(crate) fn served<T>(store: &PostgresStore, body: impl FnOnce() -> T) -> T {
    let loops: Vec<_> = (0..store.connections()).map(|_| store.connection()).collect();
    let listener = store.listener();
    let stoppers: Vec<_> = loops.iter().map(perennial_store::ConnectionLoop::stopper).collect();
    let listening = listener.stopper();
    thread::scope(|threads| {
        for connection in loops {
            threads.spawn(|| connection.run().unwrap());
        }
        threads.spawn(|| listener.run().unwrap());
        // Stopped also when the body panics, else the scope would wait for ever.
        let _stops = OnDrop(|| {
            stoppers.iter().for_each(perennial_store::Stopper::stop);
            listening.stop();
        });
        body()
    })
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
