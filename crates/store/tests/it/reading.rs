//! Whoever asks writes nothing.

use std::time::Duration;

use perennial_core::Digest;
use perennial_store::{Retention, SqliteOptions, SqliteStore, Store, StoreError};

use crate::{
    fixture::*,
    stores::{block_on, open, read_only, served},
    verify::life,
};

/// Asks everything that there is to ask, also for what is not there.
async fn ask_everything(store: &dyn Store) {
    let (run, nobody) = (run_id("r"), run_id("nobody"));
    let commits = store.status().commits;
    let view = store.run(&run).await.unwrap();
    store.runs(ALL).await.unwrap();
    store.unfinished_runs().await.unwrap();
    store.open_runs().await.unwrap();
    store.nodes(ALL).await.unwrap();
    store.events("r", 1, ALL).await.unwrap();
    store.streams("run").await.unwrap();
    store.next_due().await.unwrap();
    store.revision(&run).await.unwrap();
    store.blob(view.run.definition).await.unwrap();
    store.saved(view.jobs[0].id, "1/x").await.unwrap();
    let all = Retention::after(Duration::ZERO);
    assert_eq!(store.retainable(all, ALL).await.unwrap().len(), 1, "there is something to remove");
    store.removed(ALL).await.unwrap();
    assert_eq!(perennial_store::verify(store).await.unwrap(), []);
    for missing in [
        store.run(&nobody).await.map(drop),
        store.events("nobody", 1, ALL).await.map(drop),
        store.blob(Digest::of(b"nobody's")).await.map(drop),
        store.revision(&nobody).await.map(drop),
    ] {
        assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    }
    assert_eq!(store.status().commits, commits);
}

/// Proves INV-37.
/// Each of them is answered by a store that may not write, and another connection sees no change of the file.
#[test]
fn questions_change_nothing_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || {
        block_on(life(&store));
        let beside = rusqlite::Connection::open(&path).unwrap();
        let version = || beside.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0));
        let before = version().unwrap();
        block_on(ask_everything(&store));
        assert_eq!(version().unwrap(), before);
        block_on(store.put_blob(b"new".to_vec())).unwrap();
        assert_ne!(version().unwrap(), before, "a change is seen");
        let looker = SqliteStore::open_read_only(&path, SqliteOptions::default()).unwrap();
        read_only(&looker, || block_on(ask_everything(&looker)));
    });
}

/// Proves INV-37.
/// The rows, their places and who wrote them are the same before and after.
#[cfg(feature = "postgres")]
#[test]
fn questions_change_nothing_on_a_server() {
    use crate::postgres;

    let Some(database) = postgres::database("reading") else { return };
    let store = postgres::open(&database.url(), postgres::options());
    postgres::served(&store, || {
        postgres::block_on(life(&store));
        let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'perennial' ORDER BY 1";
        let tables = database.sql(tables).unwrap();
        assert!(tables.lines().count() > 10, "{tables}");
        let rows = || -> Vec<String> {
            let of = |table: &str| {
                format!(
                    "SELECT count(*), md5(string_agg(t::text || t.xmin || t.xmax || t.ctid, ',' \
                     ORDER BY t.ctid)) FROM perennial.{table} t"
                )
            };
            tables.lines().map(|table| database.sql(&of(table)).unwrap()).collect()
        };
        let before = rows();
        postgres::block_on(ask_everything(&store));
        assert_eq!(rows(), before);
        postgres::block_on(store.put_blob(b"new".to_vec())).unwrap();
        assert_ne!(rows(), before, "a change is seen");
    });
}
