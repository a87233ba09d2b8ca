//! A transaction ends with its operation: nothing of it is open while an attempt works or a reply is on its way.

use perennial_core::run::{AttemptEnd, JobState};
use perennial_store::{CallStart, Store};
use serde_json::json;

use crate::{
    fixture::*,
    stores::{block_on, open, served},
};

/// What the store is asked around the work of an attempt; `between` comes wherever somebody else is at work.
async fn work(store: &dyn Store, mut between: impl FnMut(&str)) {
    let started = start(store, "r").await;
    between("the code of an attempt runs");
    let call = CallStart { name: "c".into(), idempotency_key: "k".into() };
    store.begin_call(&started.lease, call).await.unwrap();
    between("a call is under way");
    store.record_call(&started.lease, "c", json!("reply")).await.unwrap();
    store.run(&started.run).await.unwrap();
    store.events("r", 1, ALL).await.unwrap();
    between("somebody has what he asked for");
    assert!(store.events("nobody", 1, ALL).await.is_err());
    let refused = decision(&started.run, 99);
    assert!(store.commit(refused).await.is_err());
    between("somebody was refused");
    let end = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    committed(store.commit(end).await.unwrap());
    between("the end is recorded");
}

/// Proves INV-27.
/// Another connection may write and finds no snapshot that is still held.
#[test]
fn no_transaction_of_a_file_is_open_between_operations() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || {
        let beside = rusqlite::Connection::open(&path).unwrap();
        block_on(work(&store, |when| {
            beside.execute_batch("BEGIN IMMEDIATE; ROLLBACK").unwrap();
            let busy = beside.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
            assert_eq!(busy, Ok(0_i64), "{when}");
        }));
    });
}

/// Proves INV-27.
#[cfg(feature = "postgres")]
#[test]
fn no_transaction_of_a_server_is_open_between_operations() {
    use crate::postgres;

    let Some(database) = postgres::database("transactions") else { return };
    let store = postgres::open(&database.url(), postgres::options());
    postgres::served(&store, || {
        postgres::block_on(work(&store, |when| {
            // What an answer did not wait for ends by itself; what is open without a question does not.
            let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";
            let is_over = (0..100).any(|_| database.sql(idle).unwrap() == "0\n");
            assert!(is_over, "{when}");
        }));
    });
}
