//! What the checker finds, and that it finds it (CHK-1 to CHK-16, STO-25, INV-ST-9).

use std::path::Path;

use perennial_core::run::{AttemptEnd, JobState, RunState, StageOutcome, StageState};
use perennial_store::{CallStart, Rule, StageStep, Store, VerifyCursor, Violation, verify};
use rusqlite::{Connection, types::Value as Cell};
use serde_json::{Value, json};

use crate::{
    fixture::*,
    stores::{block_on, on_every_store, open, served},
};

on_every_store!(
    a_run_in_every_state_of_its_life_is_in_order,
    a_check_in_pieces_is_the_same_check,
    what_an_engine_must_see_to_is_told_too,
);

/// A run with a retry, a recorded call, a failure that is given up, and an end; and a session.
pub(crate) async fn life(store: &dyn Store) {
    let started = start(store, "r").await;
    let Started { run, node, lease, .. } = &started;
    let call = CallStart { name: "1/x".to_owned(), idempotency_key: "key/1/x".to_owned() };
    store.begin_call(lease, call).await.unwrap();
    store.record_call(lease, "1/x", json!({"text": "hello"})).await.unwrap();
    let mut step = reporting(&started, AttemptEnd::Error, JobState::Ready);
    let failed = step.report.as_mut().unwrap();
    (failed.code, failed.message) = (Some("PL600".to_owned()), Some("no luck".to_owned()));
    failed.class = perennial_core::FailureClass::from_name("timeout");
    failed.run_after = Some(store.now());
    step.new_jobs = vec![new_job("b", Some(node)), new_job("c", Some(node)), new_job("d", None)];
    let (mut revision, leases, _) = committed(store.commit(step).await.unwrap());
    let again = store.claim(run, node, 1).await.unwrap().remove(0).lease;
    for (lease, end, to) in [
        (&again, AttemptEnd::Succeeded, JobState::Succeeded),
        (&leases[0], AttemptEnd::Skipped, JobState::Skipped),
        (&leases[1], AttemptEnd::Partial, JobState::Partial),
    ] {
        let mut step = decision(run, revision);
        step.report = Some(report(lease, end, to));
        revision = committed(store.commit(step).await.unwrap()).0;
    }
    let last = store.claim(run, node, 1).await.unwrap().remove(0).lease;
    let mut step = entering(run, revision, RunState::Running, RunState::PartiallySucceeded);
    step.report = Some(report(&last, AttemptEnd::Succeeded, JobState::Succeeded));
    step.stages = vec![StageStep {
        stage: STAGE.to_owned(),
        from: StageState::Open,
        to: StageState::Closed,
        outcome: Some(StageOutcome::Partial),
    }];
    step.run_step.as_mut().unwrap().failure = Some(json!({"cause": "failure"}));
    store.commit(step).await.unwrap();
    store.create_stream("s", "session", vec![event("a"), event("b")]).await.unwrap();
}

async fn a_run_in_every_state_of_its_life_is_in_order(store: &dyn Store) {
    life(store).await;
    let living = start_on(store, "living", &store.register_node("m").await.unwrap().node).await;
    assert_eq!(verify(store).await.unwrap(), []);
    store.register_node("m").await.unwrap();
    store.rescue(Some(&living.run), 10).await.unwrap();
    assert_eq!(verify(store).await.unwrap(), []);
}

async fn a_check_in_pieces_is_the_same_check(store: &dyn Store) {
    life(store).await;
    let (mut next, mut events, mut streams) = (Some(VerifyCursor::start()), 0, Vec::new());
    while let Some(cursor) = next {
        let step = store.verify(cursor, 1).await.unwrap();
        assert_eq!(step.violations, []);
        assert!(step.events <= 1);
        events += step.events;
        streams.extend(step.stream.filter(|_| step.complete));
        next = step.next;
    }
    let all = history(store, "r").await.len() + history(store, "s").await.len();
    assert_eq!((events, streams), (all as u64, vec!["r".to_owned(), "s".to_owned()]));

    let one = store.verify(VerifyCursor::of("r"), ALL).await.unwrap();
    assert!(one.complete && one.next.is_none());
    let missing = store.verify(VerifyCursor::of("nobody"), ALL).await;
    assert!(matches!(missing, Err(perennial_store::StoreError::NotFound { what: "stream", .. })));
}

async fn what_an_engine_must_see_to_is_told_too(store: &dyn Store) {
    let Started { run, revision, .. } = start(store, "r").await;
    let step = entering(&run, revision, RunState::Running, RunState::Succeeded);
    store.commit(step).await.unwrap();
    let rules: Vec<Rule> = found(store).await.iter().map(|violation| violation.rule).collect();
    assert_eq!(rules, [Rule::Waiting, Rule::Outcome], "a live job, and an open stage");
}

async fn found(store: &dyn Store) -> Vec<Violation> {
    verify(store).await.unwrap()
}

/// Columns that no event tells of, and that say nothing about another row.
const UNTOLD: [(&str, &str); 11] = [
    ("streams", "fencing"),
    ("streams", "owner_node"),
    ("streams", "owner_incarnation"),
    ("streams", "closed"),
    ("heads", "revision"),
    ("blobs", "created_at"),
    ("checkpoints", "attempt"),
    ("checkpoints", "idempotency_key"),
    ("checkpoints", "begun_at"),
    ("checkpoints", "recorded_at"),
    ("jobs", "parent"),
];

/// A value that is nearly the same.
fn flipped(cell: &Cell) -> Option<Cell> {
    Some(match cell {
        Cell::Null | Cell::Real(_) => return None,
        Cell::Integer(number) => Cell::Integer(number ^ 1),
        Cell::Text(text) => {
            let (rest, last) = text.split_at(text.len().checked_sub(1)?);
            Cell::Text(format!("{rest}{}", if last == "x" { "y" } else { "x" }))
        }
        Cell::Blob(bytes) => {
            let mut bytes = bytes.clone();
            *bytes.last_mut()? ^= 1;
            Cell::Blob(bytes)
        }
    })
}

fn loose(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON")
        .unwrap();
    connection
}

/// What is found after `change` was made to a copy of the file.
fn after(original: &Path, change: impl FnOnce(&Connection)) -> Vec<Violation> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    std::fs::copy(original, &path).unwrap();
    change(&loose(&path));
    let store = open(&path);
    served(&store, || block_on(found(&store)))
}

fn lived() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || block_on(life(&store)));
    drop(store);
    (directory, path)
}

#[test]
fn a_flipped_value_in_any_row_is_found_and_its_stream_named() {
    let (_directory, path) = lived();
    let tables = [
        "streams",
        "heads",
        "events",
        "blobs",
        "runs",
        "stages",
        "jobs",
        "attempts",
        "inputs",
        "results",
        "checkpoints",
    ];
    let mut flips = 0;
    for table in tables {
        let connection = loose(&path);
        let of_run = if table == "streams" || table == "heads" { "WHERE stream = 'r'" } else { "" };
        let sql = format!("SELECT * FROM {table} {of_run}");
        let mut statement = connection.prepare(&sql).unwrap();
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows: Vec<Vec<Cell>> = statement
            .query_map([], |row| (0..columns.len()).map(|place| row.get(place)).collect())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        drop(statement);
        drop(connection);
        let cells = rows.last().unwrap();
        for (place, column) in columns.iter().enumerate() {
            let Some(changed) = flipped(&cells[place]) else { continue };
            if UNTOLD.contains(&(table, column)) {
                continue;
            }
            let which: Vec<String> = columns
                .iter()
                .enumerate()
                .map(|(place, name)| format!("{name} IS ?{}", place + 2))
                .collect();
            let sql = format!("UPDATE {table} SET {column} = ?1 WHERE {}", which.join(" AND "));
            let violations = after(&path, |connection| {
                let cells = std::iter::once(changed).chain(cells.iter().cloned());
                let changed = connection.execute(&sql, rusqlite::params_from_iter(cells));
                assert_eq!(changed, Ok(1), "{table}.{column}");
            });
            assert!(!violations.is_empty(), "{table}.{column} was changed and nothing is found");
            flips += 1;
        }
    }
    assert!(flips > 50, "{flips}");
}

#[test]
fn a_hole_and_a_lost_end_of_the_events_are_found_at_their_place() {
    let (_directory, path) = lived();
    let hole = after(&path, |connection| {
        connection.execute("DELETE FROM events WHERE stream = 's' AND seq = 1", []).unwrap();
    });
    assert_eq!(
        (hole[0].rule, hole[0].seq, hole[0].stream.as_str()),
        (Rule::Sequence, Some(1), "s")
    );
    assert_eq!(hole.len(), 1, "what follows the hole is in order: {hole:?}");
    let end = after(&path, |connection| {
        connection.execute("DELETE FROM events WHERE stream = 's' AND seq = 2", []).unwrap();
    });
    assert_eq!((end[0].rule, end[0].seq), (Rule::Sequence, Some(1)), "{end:?}");
    let all = after(&path, |connection| {
        connection.execute("DELETE FROM events WHERE stream = 'r'", []).unwrap();
    });
    assert!(all.iter().any(|found| found.rule == Rule::Fold), "{all:?}");
}

#[test]
fn rows_that_belong_to_nothing_are_found() {
    let (_directory, path) = lived();
    for (table, key) in [("streams", "stream"), ("runs", "run"), ("stages", "run"), ("jobs", "run")]
    {
        let violations = after(&path, |connection| {
            connection.execute(&format!("DELETE FROM {table} WHERE {key} = 'r'"), []).unwrap();
        });
        let orphans = violations.iter().filter(|found| found.rule == Rule::Orphans).count();
        assert!(orphans > 0, "{table}: {violations:?}");
    }
}

#[test]
fn events_of_an_older_version_tell_less_and_accuse_nobody() {
    let (_directory, path) = lived();
    let news = [
        "end",
        "result",
        "input",
        "max_attempts",
        "settings",
        "input_digest",
        "deadline",
        "reply",
        "skipped",
        "failure",
        "run_after_micros",
    ];
    let violations = after(&path, |connection| {
        let mut statement =
            connection.prepare("SELECT seq, data FROM events WHERE stream = 'r'").unwrap();
        let rows: Vec<(i64, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for (seq, data) in rows {
            let mut data: Value = serde_json::from_str(&data).unwrap();
            if let Some(fields) = data.as_object_mut() {
                fields.retain(|name, _| !news.contains(&name.as_str()));
            }
            let sql = "UPDATE events SET data = ?1 WHERE stream = 'r' AND seq = ?2";
            connection.execute(sql, (data.to_string(), seq)).unwrap();
        }
    });
    let others: Vec<_> = violations.iter().filter(|found| found.rule != Rule::Sequence).collect();
    assert!(others.is_empty(), "only the hashes are wrong: {others:#?}");
}
