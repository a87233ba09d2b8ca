//! Files of older versions: an upgrade happens whole or not at all, and what they hold is read.

use std::{fs, path::Path, thread};

use perennial_core::Timestamp;
use rusqlite::{Connection, types::Value};

use super::{
    SqliteOptions, SqliteStore,
    connection::{self, Role},
};
use crate::schema::{self, STEPS, older};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A file as version `version` left it.
fn written_by(version: usize, path: &Path) {
    fs::File::create(path).unwrap();
    let mut connection = connection::open(path, Role::Creator, None).unwrap();
    let mut apply = |steps: &[&str], then: &str| {
        schema::apply(&mut connection, steps, |tx| tx.execute_batch(then).map(|()| 0)).unwrap();
    };
    apply(&STEPS[..1], &older::rows("x'00'"));
    apply(&STEPS[1..version], &older::meta(version));
    connection::write_to_log(&connection, path).unwrap();
}

/// All that is in the file.
fn content(connection: &Connection) -> Vec<String> {
    let mut tables = connection
        .prepare("SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY 1")
        .unwrap();
    let mut all: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1";
    let mut names = connection.prepare(names).unwrap();
    let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    for name in names.filter(|name| !name.starts_with("sqlite_")) {
        let mut rows = connection.prepare(&format!("SELECT * FROM {name} ORDER BY 1, 2")).unwrap();
        let columns = rows.column_count();
        let texts = rows.query_map([], |row| {
            (0..columns).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>()
        });
        all.extend(texts.unwrap().map(|row| format!("{name} {:?}", row.unwrap())));
    }
    all
}

/// Proves INV-35.
/// Of every version. A disk that is full at any place of it leaves the file as it was; opening it again changes
/// nothing more.
#[test]
fn a_file_of_any_older_version_is_brought_up_to_date_whole_or_not_at_all() {
    for version in 1..STEPS.len() {
        let directory = tempfile::tempdir().unwrap();
        let path = &directory.path().join("store.db");
        written_by(version, path);
        let mut connection = connection::open(path, Role::Writer, None).unwrap();
        let before = content(&connection);
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let mut failures = 0;
        for room in 0.. {
            connection.pragma_update(None, "max_page_count", pages + room).unwrap();
            let now = Timestamp::from_micros(7);
            match schema::open(&mut connection, path, now) {
                Ok(meta) => {
                    assert_eq!(meta.version, schema::version());
                    break;
                }
                Err(error) => {
                    failures += 1;
                    assert_eq!(content(&connection), before, "version {version}: {error}");
                }
            }
        }
        // A column takes none, nor does an index in the place of another.
        let times = |step: &str, word| step.matches(word).count();
        let makes = |step: &&str| times(step, "CREATE") > times(step, "DROP INDEX");
        let takes_room = STEPS[version..].iter().any(makes);
        assert!(failures > 0 || !takes_room, "version {version}: in no room at all");
        drop(connection);
        for _ in 0..2 {
            let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
            let reader = store.reader();
            let stopper = reader.stopper();
            thread::scope(|threads| {
                threads.spawn(|| reader.run().unwrap());
                block_on(older::check(&store));
                stopper.stop();
            });
        }
    }
}
