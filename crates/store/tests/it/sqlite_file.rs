//! The file: who may open it, and what is refused untouched.

use std::{fs, path::Path, time::Duration};

use perennial_core::run::{AttemptEnd, JobState, RunState};
use perennial_store::{SqliteOptions, SqliteStore, Store, StoreError};

use crate::{
    fixture::*,
    stores::{block_on, open, served},
};

fn refusal(path: &Path) -> StoreError {
    SqliteStore::open(path, SqliteOptions::default()).unwrap_err()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Proves INV-ST-6, D17.
#[test]
fn a_second_opener_is_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let holder = Some(format!("pid {}", std::process::id()));
    let path = path.canonicalize().unwrap();
    assert_eq!(refusal(&path), StoreError::Locked { path: path.clone(), holder });
    #[cfg(unix)]
    {
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(refusal(&link), StoreError::Locked { .. }), "by another name");
    }
    let writer = store.writer();
    drop(store);
    assert!(matches!(refusal(&path), StoreError::Locked { .. }), "a loop keeps the file too");
    drop(writer);
    open(&path);
}

/// The file beside a store is no left-over; but should somebody take it for one, the store is held none the less.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn a_store_is_held_without_the_file_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    for _ in 0..2 {
        // Created by the one that holds it, and found by it.
        let store = open(&path);
        fs::remove_file(directory.path().join("store.db.lock")).unwrap();
        served(&store, || {
            assert!(matches!(refusal(&path), StoreError::Locked { .. }));
            let started = block_on(start(&store, "r"));
            let looking = SqliteStore::open_read_only(&path, SqliteOptions::default()).unwrap();
            crate::stores::read_only(&looking, || block_on(looking.run(&started.run)).unwrap());
            assert!(matches!(refusal(&path), StoreError::Locked { .. }), "after a look as well");
            let end = RunState::Cancelling;
            let step = entering(&started.run, started.revision, RunState::Running, end);
            block_on(store.commit(step)).unwrap();
        });
        drop(store);
        fs::remove_file(&path).unwrap();
    }
}

/// Two names of one file are two logs.
#[cfg(unix)]
#[test]
fn a_store_with_two_names_is_refused_by_each() {
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("store.db"), directory.path().join("other.db"));
    let store = open(&path);
    served(&store, || block_on(start(&store, "r")));
    fs::hard_link(&path, &other).unwrap();
    for name in [&path, &other] {
        let looked = SqliteStore::open_read_only(name, SqliteOptions::default()).unwrap_err();
        for error in [refusal(name), looked] {
            let told = error.to_string();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{told}");
            assert!(told.contains("hard links") && told.contains("remove"), "{told}");
        }
    }
    assert_eq!(names(directory.path()), ["other.db", "store.db", "store.db.lock"]);
    fs::remove_file(&other).unwrap();
    drop(store);
    open(&path);
}

/// Whoever takes away a store that was killed takes away its log as well: a new one with that log would be neither.
#[test]
fn a_log_without_its_store_is_not_taken_for_that_of_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (log, kept) = (directory.path().join("store.db-wal"), directory.path().join("kept"));
    let store = open(&path);
    served(&store, || {
        block_on(start(&store, "r"));
        fs::copy(&log, &kept).unwrap();
    });
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::rename(&kept, &log).unwrap();
    let length = fs::metadata(&log).unwrap().len();
    assert!(length > 0);
    for empty in [false, true] {
        if empty {
            fs::write(&path, "").unwrap();
        }
        let error = refusal(&path);
        let told = error.to_string();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{told}");
        assert!(told.contains("store.db-wal") && told.contains("put the store back"), "{told}");
        assert_eq!(fs::metadata(&log).unwrap().len(), length, "it is left as it is");
    }
    fs::remove_file(&log).unwrap();
    drop(open(&path));
}

/// A folder has several names by itself.
#[test]
fn a_folder_is_told_to_be_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let told = refusal(directory.path()).to_string();
    assert!(told.contains("not a regular file"), "{told}");
}

/// What is wrong with the tables is no failure that passes.
#[test]
fn a_store_without_a_column_is_damaged_and_not_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    drop(open(&path));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("ALTER TABLE attempts RENAME COLUMN message TO massage").unwrap();
    drop(connection);
    let store = open(&path);
    served(&store, || {
        let started = block_on(start(&store, "r"));
        let told = block_on(store.run(&started.run)).unwrap_err();
        assert!(matches!(told, StoreError::Corrupt { .. }), "{told}");
        assert!(told.to_string().contains("no such column: a.message"), "{told}");
    });
}

#[test]
fn a_file_that_is_no_store_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let foreign = directory.path().join("foreign.db");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);").unwrap();
    drop(connection);
    let foreign = fs::read(foreign).unwrap();
    for bytes in [b"x".to_vec(), b"not a database at all".repeat(500), foreign] {
        fs::write(&path, &bytes).unwrap();
        let error = refusal(&path);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(names(directory.path()), ["foreign.db", "store.db"]);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(refusal(&path), StoreError::Corrupt { .. }));
}

#[test]
fn a_damaged_store_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    drop(open(&path));
    let mut bytes = fs::read(&path).unwrap();
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 4096].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(names(directory.path()), ["store.db", "store.db.lock"]);
}

/// A power cut may leave a journal of what was not finished, which takes more than a look to undo.
#[test]
fn what_a_journal_says_was_not_finished_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    let (path, cut) = (directory.path().join("store.db"), directory.path().join("cut.db"));
    drop(open(&path));
    let connection = rusqlite::Connection::open(&path).unwrap();
    let wishes = "PRAGMA journal_mode = delete; PRAGMA cache_size = 1; BEGIN;
        CREATE TABLE more (data BLOB); INSERT INTO more VALUES (zeroblob(400000));";
    connection.execute_batch(wishes).unwrap();
    for (from, to) in [("store.db", "cut.db"), ("store.db-journal", "cut.db-journal")] {
        std::fs::copy(directory.path().join(from), directory.path().join(to)).unwrap();
    }
    let written = std::fs::metadata(&cut).unwrap().len();
    assert!(std::fs::metadata(cut.with_file_name("cut.db-journal")).unwrap().len() > 0);
    drop(open(&cut));
    assert!(std::fs::metadata(&cut).unwrap().len() < written, "what was not finished is gone");
}

/// Proves INV-ST-31.
#[test]
fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    drop(open(&path));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE meta SET schema_version = 99", []).unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, StoreError::NewerSchema { found: 99, known: 7.. }), "{refused:?}");
    assert!(refused.to_string().contains("use that build, or one that is newer still"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none").join("store.db");
    let error = refusal(&path);
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("none")), "{error}");
}

#[test]
fn a_creation_that_was_interrupted_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    fs::write(directory.path().join("store.db.new"), b"half a file").unwrap();
    open(&path);
    assert_eq!(names(directory.path()), ["store.db", "store.db.lock"]);
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    served(&store, || {
        block_on(start(&store, "r"));
        for name in names(directory.path()) {
            let mode = fs::metadata(directory.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    });
}

#[test]
fn a_reopened_store_has_everything_and_time_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let (view, id, last) = served(&store, || {
        block_on(async {
            let started = start(&store, "r").await;
            let end = reporting(&started, AttemptEnd::Error, JobState::Ready);
            store.commit(end).await.unwrap();
            store.claim(&started.run, &started.node, 1).await.unwrap();
            (store.run(&started.run).await.unwrap(), store.status().store_id, store.now())
        })
    });
    drop(store);
    let store = open(&path);
    assert_eq!(store.status().store_id, id);
    assert!(store.now() > last);
    served(&store, || {
        block_on(async {
            // The lock of this opening proves that nobody of the last one lives.
            let mut expected = view.clone();
            expected.run.owner_alive = false;
            expected.jobs[0].lease_alive = false;
            assert_eq!(store.run(&view.run.run).await.unwrap(), expected);
            assert_eq!(history(&store, "r").await.len(), 7);
            // Whoever registers, the lock proves the death of every earlier process.
            let node = store.register_node_on("another", EXCLUSIVE).await.unwrap().node;
            assert_eq!(store.rescue(None, ALL).await.unwrap().len(), 1);
            assert_eq!(store.claim(&view.run.run, &node, 1).await.unwrap()[0].lease.attempt, 3);
        });
    });
}

#[test]
fn an_event_that_was_changed_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || block_on(start(&store, "r")));
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE events SET kind = 'forged' WHERE seq = 2", []).unwrap();
    drop(connection);
    let store = open(&path);
    served(&store, || {
        block_on(async {
            let error = store.events("r", 1, ALL).await.unwrap_err();
            assert!(error.to_string().contains("event 2"), "{error}");
            assert_eq!(store.events("r", 3, ALL).await.unwrap().len(), 3);
        });
    });
}

#[test]
fn an_operation_that_nobody_serves_waits_for_its_callers_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    let waited = block_on(async {
        tokio::time::timeout(Duration::from_millis(10), store.register_node_on("n", EXCLUSIVE))
            .await
    });
    assert!(waited.is_err());
    served(&store, || {
        // The abandoned request is not performed.
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        assert_eq!(node.incarnation, 1);
    });
}

#[test]
fn openings_that_follow_each_other_do_not_lead_the_clock_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let first = open(&path);
    #[expect(clippy::disallowed_methods, reason = "the real clock is the subject")]
    let (begun, started) = (first.now(), std::time::SystemTime::now());
    served(&first, || block_on(async { start(&first, "r").await }));
    drop(first);
    for _ in 0..40 {
        let store = open(&path);
        served(&store, || block_on(async { store.runs(1).await.unwrap() }));
    }
    let passed = open(&path).now().since(begun);
    let really = started.elapsed().unwrap();
    assert!(passed <= really + std::time::Duration::from_millis(200), "{passed:?} {really:?}");
}

/// STO-35: a second process may look, and is in nobody's way.
#[test]
fn a_store_is_looked_at_beside_who_has_it_and_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let look = || SqliteStore::open_read_only(&path, SqliteOptions::default());
    let nothing = look().unwrap_err();
    assert!(matches!(nothing, StoreError::Unavailable(_)), "{nothing}");
    assert!(names(directory.path()).is_empty(), "it creates nothing");

    let store = open(&path);
    served(&store, || {
        let started = block_on(start(&store, "r"));
        let looking = look().unwrap();
        crate::stores::read_only(&looking, || {
            block_on(async {
                assert_eq!(looking.run(&started.run).await.unwrap().run.state.name(), "running");
                let step = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
                let refused = looking.commit(step.clone()).await;
                assert_eq!(refused, Err(StoreError::ReadOnly));
                store.commit(step).await.unwrap();
                let job = only_job(&looking, &started.run).await;
                assert_eq!(job.state, JobState::Succeeded, "what is written meanwhile is seen");
            });
        });
    });
    drop(store);
    let (before, bytes) = (names(directory.path()), fs::read(&path).unwrap());
    let looking = look().unwrap();
    crate::stores::read_only(&looking, || {
        assert_eq!(block_on(perennial_store::verify(&looking)), Ok(Vec::new()));
        // Somebody comes, and writes.
        let store = open(&path);
        served(&store, || block_on(start(&store, "late")));
        assert_eq!(block_on(looking.runs(ALL)).unwrap().len(), 2);
    });
    drop(looking);
    // Of several connections that close at one moment none may be the last: the log is then there, and empty.
    let log = fs::metadata(directory.path().join("store.db-wal")).map_or(0, |log| log.len());
    let is_of_log = |name: &String| name.ends_with("-wal") || name.ends_with("-shm");
    let left = names(directory.path()).into_iter().filter(|name| !is_of_log(name));
    assert_eq!((left.collect::<Vec<_>>(), log), (before, 0));
    let looking = look().unwrap();
    crate::stores::read_only(&looking, || block_on(looking.runs(ALL)).unwrap());
    assert_ne!(fs::read(&path).unwrap(), bytes, "the other one wrote");
}
