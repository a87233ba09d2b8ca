//! What goes and what stays (STO-60, STO-61, STO-62, B49, B50, K42).

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    Digest, Timestamp,
    run::{AttemptEnd, JobState, RunId, RunState},
};
use perennial_store::{
    CallStart, Created, MemoryStore, NewTimer, Reopening, Retention, Store, StoreError, verify,
};
use serde_json::json;

use crate::{
    fixture::*,
    stores::{block_on, checked, on_every_store, open, served},
};

on_every_store!(
    what_has_ended_goes_by_how_it_ended_and_nothing_else_does,
    a_run_goes_in_pieces_and_is_found_nowhere_from_the_first_on,
    what_is_being_removed_is_not_opened_again,
    a_run_is_purged_once_it_has_ended,
);

const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

/// A run with rows in every table, that ended as `to`.
async fn ended(store: &dyn Store, id: &str, to: RunState) -> RunId {
    let started = start(store, id).await;
    let Started { run, lease, .. } = &started;
    let call = CallStart { name: "1/x".to_owned(), idempotency_key: "key/1/x".to_owned() };
    store.begin_call(lease, call).await.unwrap();
    store.record_call(lease, "1/x", json!({"text": "hello"})).await.unwrap();
    let mut step = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    let at = store.now();
    step.timers = vec![NewTimer { owner: "run:r".to_owned(), name: id.to_owned(), at }];
    let (mut revision, ..) = committed(store.commit(step).await.unwrap());
    let mut from = RunState::Running;
    if to == RunState::Cancelled {
        let step = entering(run, revision, from, RunState::Cancelling);
        revision = committed(store.commit(step).await.unwrap()).0;
        from = RunState::Cancelling;
    }
    store.commit(entering(run, revision, from, to)).await.unwrap();
    run.clone()
}

async fn listed(store: &dyn Store) -> Vec<String> {
    let mut runs: Vec<String> =
        store.runs(ALL).await.unwrap().iter().map(|run| run.run.to_string()).collect();
    runs.sort();
    runs
}

fn is_removed<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Removed { .. })), "{outcome:?}");
}

/// Proves B49, B50.
async fn what_has_ended_goes_by_how_it_ended_and_nothing_else_does(store: &dyn Store) {
    for to in [RunState::Succeeded, RunState::Failed, RunState::TimedOut, RunState::Cancelled] {
        ended(store, to.name(), to).await;
    }
    let node = store.register_node("n").await.unwrap().node;
    let running = start_on(store, "running", &node).await;
    store.create_stream("talk", "session", vec![event("a")]).await.unwrap();
    let all = listed(store).await;

    for policy in [Retention::never(), Retention::after(HOUR)] {
        assert!(store.retainable(policy, ALL).await.unwrap().is_empty());
        let nothing = store.retain(policy, ALL).await.unwrap();
        assert_eq!((nothing.runs, nothing.rows, nothing.more), (0, 0, false));
    }
    assert_eq!(listed(store).await, all);

    let failed = Retention { failed: Some(NOW), ..Retention::never() };
    let due = store.retainable(failed, ALL).await.unwrap();
    let due: Vec<&str> = due.iter().map(|run| run.run.as_str()).collect();
    assert_eq!(due, ["failed", "timed_out"], "those that ended first come first");
    assert_eq!(store.retainable(failed, 1).await.unwrap().len(), 1);
    assert_eq!(store.retain(failed, ALL).await.unwrap().runs, 2);
    assert_eq!(listed(store).await, ["cancelled", "running", "succeeded"]);

    let cancelled = Retention { cancelled: Some(NOW), ..Retention::never() };
    assert_eq!(store.retain(cancelled, ALL).await.unwrap().runs, 1);
    assert_eq!(listed(store).await, ["running", "succeeded"]);

    assert_eq!(store.retain(Retention::after(NOW), ALL).await.unwrap().runs, 1);
    assert_eq!(listed(store).await, ["running"], "whatever its age");
    assert_eq!(history(store, "talk").await, ["a"]);
    let done = reporting(&running, AttemptEnd::Succeeded, JobState::Succeeded);
    store.commit(done).await.unwrap();

    let mut removed: Vec<(String, RunState)> = Vec::new();
    for run in store.removed(ALL).await.unwrap() {
        assert!(run.removed_at >= run.finished_at && run.workflow == "w");
        removed.push((run.run.to_string(), run.state));
    }
    removed.sort_by(|one, other| one.0.cmp(&other.0));
    let names: Vec<&str> = removed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cancelled", "failed", "succeeded", "timed_out"], "and all of it is listed");
    assert!(removed.iter().all(|(name, state)| name == state.name()));
}

/// Proves K42.
async fn a_run_goes_in_pieces_and_is_found_nowhere_from_the_first_on(store: &dyn Store) {
    let run = ended(store, "r", RunState::Succeeded).await;
    let other = ended(store, "other", RunState::Failed).await;
    let policy = Retention { completed: Some(NOW), ..Retention::never() };
    let (mut rows, mut steps) = (0, 0);
    loop {
        // Each is the last thing that a killed process does; the next one knows of no policy.
        let policy = if steps == 0 { policy } else { Retention::never() };
        let step = store.retain(policy, 1).await.unwrap();
        assert!(step.rows <= 3, "the last rows go together: {step:?}");
        (rows, steps) = (rows + step.rows, steps + 1);
        is_removed(store.run(&run).await);
        is_removed(store.events("r", 1, ALL).await);
        assert_eq!(listed(store).await, ["other"]);
        checked(store).await;
        if step.runs == 1 {
            break;
        }
        assert!(step.more && steps < 100);
    }
    assert!(rows > 10, "{rows}");
    let node = store.register_node("n").await.unwrap().node;
    is_removed(store.create_run(new_run("r", &node)).await);
    let another = store.create_run(perennial_store::NewRun {
        input_digest: Digest::of(b"another"),
        ..new_run("r", &node)
    });
    assert_eq!(another.await, Err(StoreError::KeyReused(run)));
    assert_eq!(store.run(&other).await.unwrap().run.state, RunState::Failed);
}

async fn what_is_being_removed_is_not_opened_again(store: &dyn Store) {
    let run = ended(store, "r", RunState::Failed).await;
    let view = store.run(&run).await.unwrap();
    let node = store.register_node("n").await.unwrap().node;
    let new = new_run("r", &node);
    let reopening = Reopening {
        run: run.clone(),
        expected_revision: view.run.revision,
        owner: node.clone(),
        definition: new.definition,
        definition_bytes: new.definition_bytes,
        input_digest: new.input_digest,
        settings: new.settings,
        deadline: None,
        again: Vec::new(),
        stages: Vec::new(),
    };
    store.purge(&run).await.unwrap();
    is_removed(store.reopen_run(reopening).await);
    is_removed(store.claim(&run, &node, 1).await);
    is_removed(store.purge(&run).await);
    assert_eq!(store.retain(Retention::never(), ALL).await.unwrap().runs, 1);
}

async fn a_run_is_purged_once_it_has_ended(store: &dyn Store) {
    let Started { run, .. } = start(store, "r").await;
    let refused = store.purge(&run).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
    let unknown = store.purge(&run_id("nobody")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { what: "run", .. })), "{unknown:?}");
    assert_eq!(listed(store).await, ["r"]);
}

/// A store in memory, and what moves its clock.
fn with_clock() -> (MemoryStore, impl Fn(Duration)) {
    let now = Arc::new(AtomicI64::new(1_000_000_000_000_000));
    let read = now.clone();
    let read = move || Timestamp::from_micros(read.load(Ordering::Relaxed));
    let store = MemoryStore::with_clock(Arc::new(read)).unwrap();
    let pass = move |time: Duration| {
        now.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
    };
    (store, pass)
}

#[test]
fn a_removed_id_is_free_again_after_its_time() {
    block_on(async {
        let (store, pass) = with_clock();
        let run = ended(&store, "r", RunState::Succeeded).await;
        let policy = Retention { ids: HOUR, ..Retention::after(HOUR) };
        pass(HOUR - Duration::from_micros(1));
        assert_eq!(store.retain(policy, ALL).await.unwrap().runs, 0);
        pass(Duration::from_micros(1));
        assert_eq!(store.retain(policy, ALL).await.unwrap().runs, 1);
        pass(HOUR - Duration::from_micros(1));
        store.retain(policy, ALL).await.unwrap();
        is_removed(store.run(&run).await);
        pass(Duration::from_micros(1));
        store.retain(policy, ALL).await.unwrap();
        assert!(store.removed(ALL).await.unwrap().is_empty());
        let node = store.register_node("n").await.unwrap().node;
        let again = store.create_run(new_run("r", &node)).await.unwrap();
        assert!(matches!(again, Created::New { .. }));
        assert_eq!(verify(&store).await.unwrap(), []);
    });
}

/// Each start of a process is a row, which goes when nothing of its time is left. No number is given twice.
/// Proves INV-ST-32, INV-ST-14.
#[test]
fn nodes_go_when_nothing_of_their_time_is_left() {
    block_on(async {
        let (store, pass) = with_clock();
        let run = ended(&store, "r", RunState::Succeeded).await;
        for _ in 0..10 {
            store.register_node_on("n", EXCLUSIVE).await.unwrap();
        }
        let count = async || store.nodes(ALL).await.unwrap().len();
        pass(HOUR * 3);
        let policy = Retention { ids: HOUR * 2, ..Retention::never() };
        for _ in 0..3 {
            store.retain(Retention { ids: HOUR * 4, ..policy }, ALL).await.unwrap();
            assert_eq!(count().await, 11, "too young");
        }
        for left in [7, 3, 2, 2] {
            store.retain(policy, ALL).await.unwrap();
            assert_eq!(
                count().await,
                left,
                "an attempt was the first one's, and the last one lives"
            );
        }
        store.purge(&run).await.unwrap();
        for left in [1, 1] {
            store.retain(policy, ALL).await.unwrap();
            assert_eq!(count().await, left);
        }
        let next = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        assert_eq!(next.incarnation, 12);
        start_on(&store, "s", &next).await;
        assert_eq!(verify(&store).await.unwrap(), []);
    });
}

/// K42: blobs go after the rows that used them, in a transaction of their own at the latest.
/// Proves K2, K42.
#[test]
fn blobs_go_when_nothing_uses_them_and_they_are_old_enough() {
    block_on(async {
        let (store, pass) = with_clock();
        let mocks = store.put_blob(b"mocks".to_vec()).await.unwrap();
        let orphan = store.put_blob(b"nobody's".to_vec()).await.unwrap();
        let node = store.register_node("n").await.unwrap().node;
        let mut new = new_run("r", &node);
        new.settings = json!({"mocks": {"digest": mocks}});
        let (run, definition) = (new.run.clone(), new.definition);
        store.create_run(new).await.unwrap();
        let blobs = async |policy| store.retain(policy, ALL).await.unwrap().blobs;
        pass(HOUR - Duration::from_micros(1));
        assert_eq!(blobs(Retention::never()).await, 0, "what will use it may be on its way");
        store.put_blob(b"nobody's".to_vec()).await.unwrap();
        pass(Duration::from_micros(1));
        assert_eq!(blobs(Retention::never()).await, 0, "it was put again");
        pass(HOUR);
        assert_eq!(blobs(Retention::never()).await, 1);
        assert!(store.blob(orphan).await.is_err());
        store.blob(mocks).await.unwrap();

        let end = entering(&run, 1, RunState::Running, RunState::Failed);
        store.commit(end).await.unwrap();
        let view = store.run(&run).await.unwrap();
        assert_eq!(view.run.state, RunState::Failed);
        store.purge(&run).await.unwrap();
        while store.retain(Retention::never(), 1).await.unwrap().runs == 0 {}
        store.blob(definition).await.unwrap();
        assert_eq!(blobs(Retention::never()).await, 2, "the next pass finishes");
        assert!(store.blob(definition).await.is_err() && store.blob(mocks).await.is_err());
    });
}

#[test]
fn nothing_of_a_removed_run_is_left_in_any_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || {
        block_on(async {
            ended(&store, "r", RunState::Succeeded).await;
            assert_eq!(store.retain(Retention::after(NOW), ALL).await.unwrap().runs, 1);
        });
    });
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let kept = ["meta", "nodes", "blobs", "removed"];
    for table in tables.iter().filter(|table| !kept.contains(&table.as_str())) {
        assert_eq!(count(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
    assert_eq!(count("SELECT COUNT(*) FROM removed WHERE pending = 0"), 1);
}
