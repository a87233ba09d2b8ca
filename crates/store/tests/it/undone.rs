//! A transaction that fails anywhere leaves everything as it was; and what is no longer needed leaves no trace that grows.

use std::{path::Path, time::Duration};

use perennial_core::{
    run::{AttemptEnd, JobState, RunState, SequenceName, SlotPool, StageOutcome, StageState},
    service::{Epoch, ServiceKey, ServiceState},
};
use perennial_store::{
    CallStart, Decision, HoldOf, InstanceStep, NewCheckpoint, NewNumber, NewTimer, NewVersion,
    NodeRef, Retention, SlotGiven, StageStep, Store, StoreError,
};
use rusqlite::{Connection, types::Value as Cell};
use serde_json::json;

use crate::{
    fixture::*,
    imports::imported,
    stores::{block_on, open, served},
};

fn texts(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn tables(connection: &Connection) -> Vec<String> {
    // The row of the store itself tells the time.
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'meta' ORDER BY name";
    texts(connection, sql)
}

/// All rows of all tables.
fn dump(connection: &Connection) -> Vec<String> {
    let mut rows = Vec::new();
    for table in tables(connection) {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let shown = statement.query_map([], |row| {
            let cells: Result<Vec<Cell>, _> = (0..columns).map(|place| row.get(place)).collect();
            Ok(format!("{table} {:?}", cells?))
        });
        rows.extend(shown.unwrap().map(Result::unwrap));
    }
    rows
}

/// What a run does in its life, one transaction each.
const LIFE: [&str; 15] = [
    "create",
    "call",
    "record",
    "save",
    "beat",
    "number",
    "version",
    "take",
    "fence",
    "take_again",
    "hold",
    "unhold",
    "follow",
    "end",
    "reopen",
];

fn sequence() -> SequenceName {
    SequenceName::new("invoice").unwrap()
}

/// One of them; each finds what it needs in the store.
async fn act(store: &dyn Store, what: &str, id: &str, node: &NodeRef) -> Result<(), StoreError> {
    let run = run_id(id);
    if what == "create" {
        return store.create_run(new_run(id, node)).await.map(|_| ());
    }
    if what == "import" {
        let (new, past) = imported(&format!("{id}-elsewhere"), node);
        return store.import_run(new, past).await.map(|_| ());
    }
    let view = store.run(&run).await.unwrap();
    let job = view.jobs.iter().find(|job| job.lease.is_some());
    let lease = job.map(|job| perennial_store::Lease {
        run: run.clone(),
        job: job.id,
        key: job.key.clone(),
        attempt: job.attempt,
        node: node.clone(),
    });
    let lease = move || lease.clone().unwrap();
    let revision = view.run.revision;
    match what {
        "call" => {
            let call = CallStart { name: "1/x".to_owned(), idempotency_key: "k".to_owned() };
            store.begin_call(&lease(), call).await.map(|_| ())
        }
        "record" => store.record_call(&lease(), "1/x", json!(1)).await.map(|_| ()),
        "save" => {
            let value = json!("x".repeat(300 * 1024));
            let saved = NewCheckpoint { name: "s".to_owned(), value, keep: false };
            store.save(&lease(), saved).await
        }
        "beat" => store.beat(&lease(), json!(1)).await,
        "number" => {
            let key = id.to_owned();
            let new = NewNumber { sequence: sequence(), scope: "x".to_owned(), key };
            store.allocate(&lease(), new).await.map(|_| ())
        }
        "version" => {
            let (scope, key) = ("x".to_owned(), id.to_owned());
            let new = NewVersion { sequence: sequence(), scope, number: 1, parent: 1, key };
            store.allocate_version(&lease(), new).await.map(|_| ())
        }
        "take" | "take_again" => {
            let pool = SlotPool::new("ports", 1..=60_000).unwrap();
            store.slot_take(&lease(), &pool, what).await.map(|_| ())
        }
        "fence" => {
            let slots = store.slots("ports").await.unwrap();
            let held = slots.iter().find(|slot| slot.holder.is_some()).unwrap();
            let why = SlotGiven::Conflict;
            store.slot_give(&lease(), "ports", held.number, why).await.map(|_| ())
        }
        "keep" => {
            let key = ServiceKey::keyed("app", id);
            let is = store.instance(key.clone()).await?;
            let step = InstanceStep {
                epoch: is.as_ref().map_or(Epoch::ZERO, |is| is.epoch).next(),
                was: is.map(|is| (is.epoch, is.keeper)),
                key,
                keeper: node.clone(),
                state: ServiceState::Starting,
                instance: None,
                breaker_open_until: None,
                cause: None,
                unless_held: false,
            };
            store.step_instance(step).await.map(|_| ())
        }
        "hold" | "unhold" => {
            let (of, key) = (HoldOf::Attempt(lease()), ServiceKey::shared("analyzer"));
            match what {
                "hold" => store.hold(of, key).await,
                _ => store.unhold(of, key).await.map(|_| ()),
            }
        }
        "follow" => {
            let report = Some(report(&lease(), AttemptEnd::Succeeded, JobState::Succeeded));
            let at = store.now().after(Duration::from_secs(3600));
            let timers = vec![NewTimer { owner: format!("run:{id}"), name: "t".to_owned(), at }];
            let (new_jobs, events) = (vec![new_job("b", Some(node))], vec![event("said")]);
            let step = Decision { report, timers, new_jobs, events, ..decision(&run, revision) };
            store.commit(step).await.map(|_| ())
        }
        "end" => {
            let mut step = entering(&run, revision, RunState::Running, RunState::Failed);
            step.report = Some(report(&lease(), AttemptEnd::Error, JobState::Failed));
            let (from, to) = (StageState::Open, StageState::Closed);
            let outcome = Some(StageOutcome::Failed);
            step.stages = vec![StageStep { stage: STAGE.to_owned(), from, to, outcome }];
            store.commit(step).await.map(|_| ())
        }
        _ => {
            let definition_bytes = format!("corrected {id}").into_bytes();
            let again = view.jobs.iter().filter(|job| job.key.as_str() == "b");
            let again = again
                .map(|job| perennial_store::Again {
                    forget_calls: true,
                    ..perennial_store::Again::asked_for(job.id)
                })
                .collect();
            let reopening = perennial_store::Reopening {
                run: run.clone(),
                expected_revision: revision,
                owner: node.clone(),
                definition: perennial_core::Digest::of(&definition_bytes),
                definition_bytes,
                input_digest: perennial_core::Digest::of(b"other"),
                settings: json!({"mode": "other"}),
                deadline: None,
                again,
                stages: Vec::new(),
            };
            store.reopen_run(reopening).await.map(|_| ())
        }
    }
}

/// Each kind of write to each table fails once, in each operation that has it.
/// Proves INV-ST-28, I1, D10, K44.
#[test]
fn a_transaction_that_fails_at_any_of_its_writes_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let beside = Connection::open(&path).unwrap();
        let (mut failed, mut number) = (0, 0);
        for table in tables(&beside) {
            for kind in ["INSERT", "UPDATE", "DELETE"] {
                number += 1;
                let id = format!("r{number}");
                for what in LIFE.into_iter().chain(["keep", "import"]) {
                    let trigger = format!(
                        "CREATE TRIGGER no BEFORE {kind} ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
                    );
                    beside.execute_batch(&trigger).unwrap();
                    let before = dump(&beside);
                    let answer = block_on(act(&store, what, &id, &node));
                    beside.execute_batch("DROP TRIGGER no").unwrap();
                    if answer.is_err() {
                        assert!(before == dump(&beside), "{what}, {kind} {table}: {answer:?}");
                        failed += 1;
                        block_on(act(&store, what, &id, &node)).unwrap();
                    }
                }
            }
        }
        assert!(failed > 40, "{failed}");
    });
}

/// INV-ST-14: neither by the store, which has no such operation, nor by anybody beside it.
/// Proves INV-ST-14.
#[test]
fn a_node_that_somebody_refers_to_cannot_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || block_on(start(&store, "r")));
    drop(store);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    // Each alone is enough: an attempt, the lease of a job, the owner of a stream.
    for keep in ["attempts", "jobs", "streams"] {
        connection.execute_batch("BEGIN").unwrap();
        let others = [
            ("attempts", "DELETE FROM attempts"),
            (
                "jobs",
                "UPDATE jobs SET state = 'ready', lease_node = NULL, lease_incarnation = NULL",
            ),
            ("streams", "UPDATE streams SET owner_node = NULL, owner_incarnation = NULL"),
        ];
        for (table, sql) in others {
            if table != keep {
                connection.execute(sql, []).unwrap();
            }
        }
        let refused = connection.execute("DELETE FROM nodes", []);
        assert!(refused.is_err(), "{keep}");
        connection.execute_batch("ROLLBACK").unwrap();
    }
    let unknown = "UPDATE jobs SET lease_node = 'nobody'";
    assert!(connection.execute(unknown, []).is_err());
}

/// Runs of a soak; `PERENNIAL_SOAK_RUNS` is more.
const SOAK: u64 = 240;
/// Runs between two removals.
const BETWEEN: u64 = 20;

/// Tables that have rows when all runs are gone.
const KEPT: [&str; 7] =
    ["nodes", "blobs", "removed", "slot_pools", "sequences", "allocations", "allocation_versions"];

fn bytes(path: &Path, end: &str) -> u64 {
    std::fs::metadata(format!("{}{end}", path.display())).map_or(0, |of| of.len())
}

/// What ended and is not to be kept leaves no row behind; the file and its log grow no further.
/// Proves INV-ST-32.
#[test]
fn a_store_that_lives_long_stays_as_large_as_it_is() {
    let runs = std::env::var("PERENNIAL_SOAK_RUNS").map_or(SOAK, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || {
        let beside = Connection::open(&path).unwrap();
        let mut sizes = Vec::new();
        for round in 0..runs / BETWEEN {
            let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
            for number in 0..BETWEEN {
                let id = format!("r{round}-{number}");
                for what in &LIFE[..14] {
                    block_on(act(&store, what, &id, &node)).unwrap();
                }
            }
            let policy = Retention { ids: Duration::ZERO, ..Retention::after(Duration::ZERO) };
            while block_on(store.retain(policy, 200)).unwrap().more {}
            // Nodes, blobs, notes and fences go when they are old enough, of which the cases of retention and of
            // slots tell; numbers stay for ever.
            let left: Vec<String> = tables(&beside)
                .into_iter()
                .filter(|table| !KEPT.contains(&table.as_str()))
                .filter(|table| {
                    let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
                    beside.query_row(&sql, [], |row| row.get::<_, bool>(0)).unwrap()
                })
                .collect();
            assert_eq!(left, [""; 0], "round {round}");
            sizes.push((bytes(&path, ""), bytes(&path, "-wal")));
        }
        let (half, last) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
        assert!(last.0 <= half.0 + half.0 / 4, "the file grows: {sizes:?}");
        assert!(last.1 <= 40 << 20, "its log grows: {sizes:?}");
        assert_eq!(store.status().queued, 0);
    });
}
