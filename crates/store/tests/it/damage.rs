//! The checker names the rule that a damage breaks: one test for each rule (CHK).

use perennial_core::run::{AttemptEnd, JobState, SequenceName, SlotPool};
use perennial_store::{
    Admissions, ConcurrencyKey, HoldOf, JobPart, Lease, NewCheckpoint, NewJob, NewNumber, NewRun,
    NewSignal, NewTimer, NewVersion, Rule, SignalKind, Store, StoreError, verify,
};
use serde_json::json;

use crate::{
    fixture::*,
    stores::{block_on, open, served},
    verify::{after, file_of, life, loose},
};

/// A run that has ended (`r`), and `living`: `a` waits for a signal, `b` is under way and `c` is ready.
pub(crate) async fn lives(store: &dyn Store) {
    life(store).await;
    let node = store.register_node("m").await.unwrap().node;
    let Started { run, lease, revision, .. } = start_on(store, "living", &node).await;
    store.beat(&lease, json!({"done": 1})).await.unwrap();
    let saved = NewCheckpoint { name: "s".to_owned(), value: json!(1), keep: true };
    store.save(&lease, saved).await.unwrap();
    let (sequence, scope) = (SequenceName::new("invoice").unwrap(), "x".to_owned());
    for key in ["k1", "k2"] {
        let (sequence, scope, key) = (sequence.clone(), scope.clone(), key.to_owned());
        store.allocate(&lease, NewNumber { sequence, scope, key }).await.unwrap();
    }
    let version = NewVersion { sequence, scope, number: 1, parent: 1, key: "k3".to_owned() };
    store.allocate_version(&lease, version).await.unwrap();
    let key = perennial_core::service::ServiceKey::shared("analyzer");
    store.hold(HoldOf::Attempt(lease.clone()), key.clone()).await.unwrap();
    let mut step = decision(&run, revision);
    step.report = Some(report(&lease, AttemptEnd::Suspended, JobState::Suspended));
    step.new_jobs = vec![new_job("b", Some(&node)), new_job("c", None)];
    step.new_jobs[1].part.uses = vec![key.clone()];
    let at = store.now().after(std::time::Duration::from_secs(3600));
    step.timers = vec![NewTimer { owner: "run:living".to_owned(), name: "t".to_owned(), at }];
    let (_, leases, _) = committed(store.commit(step).await.unwrap());
    let ports = SlotPool::new("ports", 20_000..=20_999).unwrap();
    store.slot_take(&leases[0], &ports, "1").await.unwrap();
    let signal = NewSignal {
        run,
        request: "1".to_owned(),
        kind: SignalKind::Signal,
        name: "nobody asks for".to_owned(),
        payload: json!(1),
        by: "ada".to_owned(),
        why: String::new(),
    };
    store.signal(signal).await.unwrap();
    let run = run_id("living");
    let of_job = async |name: &str| {
        let jobs = store.run(&run).await.unwrap().jobs;
        jobs.into_iter().find(|job| job.key.as_str() == name).unwrap()
    };
    let b = of_job("b").await;
    let lease = Lease { run: run.clone(), job: b.id, key: b.key, attempt: 1, node };
    store.hold(HoldOf::Attempt(lease), key.clone()).await.unwrap();
    let job = of_job("c").await.id;
    store.hold(HoldOf::Job { run: run.clone(), job }, key).await.unwrap();
    // One whose turn it is, and one that waits for it.
    let keyed = |name: &str| {
        let limit = Some(ConcurrencyKey::one("app"));
        NewJob { part: JobPart { limit, ..JobPart::default() }, ..new_job(name, None) }
    };
    let node = store.register_node("k").await.unwrap().node;
    let new = NewRun { jobs: vec![keyed("first"), keyed("second")], ..new_run("keyed", &node) };
    store.create_run(new).await.unwrap();
    let run = run_id("keyed");
    let claims = store.claim_by(&run, &node, 8, Admissions::default());
    assert_eq!(claims.await.unwrap().parked.len(), 1);
}

/// Each damage is found, and told as it is told here; `rule` is what all of it breaks.
fn finds(rule: Rule, id: &str, damages: &[(&str, &str)]) {
    finds_in(file_of(async |store| lives(store).await), rule, id, damages);
}

fn finds_in(
    (_directory, path): (tempfile::TempDir, std::path::PathBuf),
    rule: Rule,
    id: &str,
    damages: &[(&str, &str)],
) {
    assert_eq!(rule.id(), id);
    for (damage, told) in damages {
        let found = after(&path, |connection| connection.execute_batch(damage).unwrap());
        let is_told = found
            .iter()
            .any(|it| it.rule == rule && it.to_string().starts_with(&format!("{id}{told}")));
        assert!(is_told, "{damage}: not {id}{told}, but {found:#?}");
    }
}

#[test]
fn what_is_damaged_here_was_in_order() {
    let (_directory, path) = file_of(async |store| lives(store).await);
    let store = open(&path);
    served(&store, || assert_eq!(block_on(verify(&store)).unwrap(), []));
}

/// Rows of a table without the constraints of its definition, one of them twice.
const TWICE: &str = "CREATE TABLE copy AS SELECT * FROM jobs; INSERT INTO copy SELECT * FROM jobs
    WHERE run = 'r' AND key = 'd'; UPDATE copy SET id = id + 1000 WHERE rowid = (SELECT max(rowid) FROM copy);
    DROP TABLE jobs; ALTER TABLE copy RENAME TO jobs";

/// Proves CHK-1.
#[test]
fn a_row_that_is_there_twice_or_belongs_to_nothing_is_found() {
    finds(
        Rule::Orphans,
        "CHK-1",
        &[
            (TWICE, " r: stage steps has job d more than once"),
            (
                "UPDATE events SET stream = 'x' WHERE stream = 's'",
                ": events of x belong to nothing",
            ),
            ("UPDATE heads SET stream = 'x' WHERE stream = 's'", ": heads of x belong to nothing"),
            ("DELETE FROM heads WHERE stream = 's'", " s: its head is not there"),
            ("UPDATE runs SET run = 'x' WHERE run = 'r'", ": runs of x belong to nothing"),
            ("DELETE FROM runs WHERE run = 'r'", " r: its run is not there"),
            ("UPDATE stages SET run = 'x' WHERE run = 'r'", ": stages of x belong to nothing"),
            ("UPDATE jobs SET run = 'x' WHERE key = 'd'", ": jobs of x belong to nothing"),
            ("UPDATE timers SET run = 'x'", ": timers of x belong to nothing"),
            ("UPDATE signals SET run = 'x'", ": signals of x belong to nothing"),
            ("INSERT INTO blob_uses VALUES ('x', 'y')", ": blob_uses of x belong to nothing"),
            (
                "UPDATE attempts SET job = 99 WHERE job = 1",
                ": attempts of job 99 belong to nothing",
            ),
            ("UPDATE inputs SET job = 99 WHERE job = 1", ": inputs of job 99 belong to nothing"),
            ("UPDATE results SET job = 99 WHERE job = 1", ": results of job 99 belong to nothing"),
            ("UPDATE checkpoints SET job = 99", ": checkpoints of job 99 belong to nothing"),
            ("UPDATE saved SET job = 99", ": saved of job 99 belong to nothing"),
            ("UPDATE beats SET job = 99", ": beats of job 99 belong to nothing"),
            ("UPDATE waits SET job = 99", ": waits of job 99 belong to nothing"),
            (
                "UPDATE slot_pools SET attempt = 9",
                ": number 20000 of the pool ports is held by an attempt that is over",
            ),
            (
                "UPDATE attempts SET ended_as = 'error', ended_at = 1 WHERE ended_as IS NULL",
                ": number 20000 of the pool ports is held by an attempt that is over",
            ),
            ("UPDATE holds SET job = 99", ": holds of job 99 belong to nothing"),
            ("DELETE FROM nodes WHERE node = 'n'", " r: it names the node n, which is not there"),
        ],
    );
}

/// What lists say is counted from the rows, so it is the way of counting that a damage meets.
/// Proves CHK-2.
#[test]
fn counts_that_disagree_are_found() {
    finds(
        Rule::Counts,
        "CHK-2",
        &[(
            "UPDATE jobs SET lease_node = NULL, lease_incarnation = NULL WHERE state = 'leased'",
            " living: Some(0) jobs are held, and 1 are leased",
        )],
    );
}

/// Proves CHK-3.
#[test]
fn events_that_are_lost_changed_or_out_of_time_are_found() {
    finds(
        Rule::Sequence,
        "CHK-3",
        &[
            ("DELETE FROM events WHERE stream = 'r' AND seq = 3", " r@3: the event is missing"),
            (
                "DELETE FROM events WHERE stream = 's' AND seq = 2",
                " s@1: the last event; its head says 2",
            ),
            (
                "UPDATE events SET data = '{}' WHERE stream = 'r' AND seq = 3",
                " r@3: the event, or its hash",
            ),
            (
                "UPDATE events SET kind = 'x' WHERE stream = 'r' AND seq = 3",
                " r@3: the event, or its hash",
            ),
            (
                "UPDATE events SET at = 1 WHERE stream = 'r' AND seq = 3",
                " r@3: the event is earlier",
            ),
            ("UPDATE heads SET hash = 'x' WHERE stream = 'r'", " r@"),
        ],
    );
}

/// Proves CHK-4.
#[test]
fn rows_that_are_not_what_their_events_say_are_found() {
    finds(
        Rule::Fold,
        "CHK-4",
        &[
            ("UPDATE runs SET state = 'failed' WHERE run = 'r'", " r: the run has state"),
            ("UPDATE runs SET deadline = 7 WHERE run = 'r'", " r: the run has deadline"),
            (
                "UPDATE stages SET state = 'open', outcome = NULL WHERE run = 'r'",
                " r: stage steps has state",
            ),
            ("DELETE FROM stages WHERE run = 'r'", " r: stage steps of its events is not there"),
            (
                "UPDATE jobs SET state = 'failed' WHERE run = 'r' AND key = 'd'",
                " r: job d has state",
            ),
            ("UPDATE jobs SET crashes = 2 WHERE run = 'r' AND key = 'd'", " r: job d has crashes"),
            (
                "UPDATE jobs SET skipped = 'operator' WHERE run = 'r' AND key = 'b'",
                " r: job b has skip reason Some(Operator), and its events say Some(NotApplicable)",
            ),
            (
                "UPDATE jobs SET skipped = 'operator' WHERE run = 'r' AND key = 'd'",
                " r: job d has skip reason Some(Operator), and its events say None",
            ),
            (
                "UPDATE jobs SET dead_letter = 1 WHERE run = 'r' AND key = 'd'",
                " r: job d has a mark of a dead letter true, and its events say false",
            ),
            (
                "UPDATE jobs SET run_after = 9 WHERE run = 'living' AND key = 'c'",
                " living: job c has run_after",
            ),
            (
                "UPDATE jobs SET key = 'z' WHERE run = 'living' AND key = 'c'",
                " living: job z is told by no",
            ),
            (
                "DELETE FROM jobs WHERE run = 'living' AND key = 'c'",
                " living: job c of its events is not there",
            ),
            (
                "UPDATE attempts SET ended_as = 'timed_out' WHERE job = 1 AND attempt = 1",
                " r: attempt 1 of job a has end",
            ),
            (
                "UPDATE attempts SET uncertain = 1 WHERE job = 1",
                " r: attempt 1 of job a has a mark of",
            ),
            ("DELETE FROM attempts WHERE job = 1 AND attempt = 2", " r: job a has 1 attempts"),
            (
                "INSERT INTO uses (job, service, key) VALUES (1, 'app', '7')",
                r#" r: job a has services [("app", "7")], and its events say []"#,
            ),
            (
                "DELETE FROM uses",
                r#" living: job c has services [], and its events say [("analyzer", "")]"#,
            ),
        ],
    );
}

/// The last event of a kind, once more behind all others.
fn again(stream: &str, kind: &str) -> String {
    format!(
        "INSERT INTO events (stream, seq, at, kind, job, attempt, data, hash)
         SELECT stream, (SELECT max(seq) + 1 FROM events WHERE stream = '{stream}'), at, kind, job,
         attempt, data, hash FROM events WHERE stream = '{stream}' AND kind = '{kind}' ORDER BY seq DESC
         LIMIT 1"
    )
}

/// Proves CHK-5.
#[test]
fn attempts_that_are_missing_or_end_twice_are_found() {
    let again = again("r", "attempt_failed");
    let a_second = "UPDATE events SET attempt = 3 WHERE stream = 'r' AND kind = 'attempt_started' AND attempt = 2";
    let open = "UPDATE attempts SET ended_at = NULL, ended_as = NULL WHERE job = 1 AND attempt = 2";
    finds(
        Rule::Attempts,
        "CHK-5",
        &[
            ("DELETE FROM attempts WHERE job = 1 AND attempt = 1", " r: job a has no attempt 1"),
            (a_second, " r@"),
            (open, " r: attempt 2 of job a has not ended and holds no lease"),
            (&again, " r@"),
            (
                "DELETE FROM attempts WHERE ended_as IS NULL",
                " living: job b is leased to no attempt",
            ),
        ],
    );
}

/// Proves CHK-6.
#[test]
fn a_stage_with_more_under_way_than_places_is_found() {
    let more = "UPDATE jobs SET state = 'joining' WHERE key = 's/h'";
    let told = " r: stage s has 2 jobs under way, and places for 1";
    let file = file_of(async |store| crate::stages::under_way(store).await);
    finds_in(file, Rule::Places, "CHK-6", &[(more, told)]);
}

/// Proves CHK-8.
#[test]
fn groups_that_do_not_fit_their_children_are_found() {
    let file = file_of(async |store| crate::stages::under_way(store).await);
    finds_in(
        file,
        Rule::Groups,
        "CHK-8",
        &[
            (
                "UPDATE jobs SET state = 'ready' WHERE key = 's/g'",
                " r: job s/g/x is a child of s/g, which is not expanded",
            ),
            (
                "UPDATE jobs SET state = 'failed' WHERE key = 's/g'",
                " r: group s/g is failed, and its child s/g/x is leased",
            ),
        ],
    );
}

/// Proves CHK-7.
#[test]
fn a_stage_that_is_closed_too_early_is_found() {
    finds(
        Rule::Closed,
        "CHK-7",
        &[
            (
                "UPDATE stages SET state = 'closed', outcome = 'succeeded' WHERE run = 'living'",
                " living: stage steps is closed and its job a is suspended",
            ),
            (
                "UPDATE stages SET outcome = 'succeeded' WHERE run = 'living'",
                " living: stage steps has an outcome and is open",
            ),
        ],
    );
}

/// Proves CHK-9.
#[test]
fn what_follows_an_end_is_found() {
    let [run, stage, attempt, job] =
        ["run_started", "stage_opened", "attempt_started", "job_succeeded"]
            .map(|kind| again("r", kind));
    let made =
        "UPDATE events SET job = 'd' WHERE stream = 'r' AND kind = 'job_ready' AND job = 'c'";
    finds(
        Rule::Ended,
        "CHK-9",
        &[(&run, " r@"), (&stage, " r@"), (&attempt, " r@"), (&job, " r@"), (made, " r@")],
    );
}

/// Proves CHK-10.
#[test]
fn what_waits_for_nothing_is_found() {
    finds(
        Rule::Waiting,
        "CHK-10",
        &[
            (
                "UPDATE stages SET state = 'closed' WHERE run = 'living'",
                " living: job c is ready in a stage that is closed",
            ),
            (
                "DELETE FROM nodes WHERE node = 'm'",
                " living: job b is leased to a node that is not there",
            ),
            ("DELETE FROM waits", " living: job a is suspended, and has no open wait"),
            (
                "UPDATE waits SET ended_as = 'deadline', ended_at = 1",
                " living: job a is suspended, and has no open wait",
            ),
            (
                "UPDATE jobs SET state = 'ready' WHERE run = 'living' AND key = 'a'",
                " living: job a is ready, and has an open wait",
            ),
            (
                "UPDATE runs SET state = 'succeeded', finished_at = created_at WHERE run = 'living'",
                " living: job c is ready, and its run has ended",
            ),
        ],
    );
}

/// Proves CHK-12.
#[test]
fn numbers_that_are_missing_or_given_twice_are_found() {
    let shared = "CREATE TABLE copy AS SELECT * FROM allocations; UPDATE copy SET key = 'k1';
        DROP TABLE allocations; ALTER TABLE copy RENAME TO allocations";
    let again = again("living", "number_allocated");
    finds(
        Rule::Allocations,
        "CHK-12",
        &[
            ("DELETE FROM allocations WHERE number = 1", ": number 1 of invoice in x is missing"),
            (
                "DELETE FROM allocations WHERE number = 2",
                ": invoice in x goes on with Some(3) behind 1",
            ),
            (
                "DELETE FROM allocations WHERE number = 2",
                " living: number 2, version 1, of invoice in x was given to k2 and is not there",
            ),
            ("UPDATE sequences SET next = 9", ": invoice in x goes on with Some(9) behind 2"),
            ("DELETE FROM sequences", ": invoice in x goes on with None behind 2"),
            ("DELETE FROM allocations", ": invoice in x goes on with Some(3) behind 0"),
            (
                "UPDATE allocations SET key = 'z' WHERE number = 1",
                " living: z has number 1, version 1, of invoice in x, and its events say None",
            ),
            (shared, ": number 2 of invoice in x has the key of another one"),
            (
                "DELETE FROM allocation_versions",
                ": number 1 of invoice in x is at version 2, and 0 follow the first",
            ),
            (
                "UPDATE allocation_versions SET key = 'z'",
                " living: number 1, version 2, of invoice in x was given to k3 and is not there",
            ),
            (&again, " living@"),
        ],
    );
}

/// Proves CHK-11.
#[test]
fn what_has_ended_and_holds_a_service_is_found() {
    let of = |key| format!("(SELECT id FROM jobs WHERE run = 'living' AND key = '{key}')");
    let ended =
        format!("UPDATE holds SET job = {}, attempt = 1 WHERE attempt IS NOT NULL", of("a"));
    let unknown = "UPDATE holds SET attempt = 7 WHERE attempt IS NOT NULL";
    let suspended = format!("UPDATE holds SET job = {} WHERE attempt IS NULL", of("a"));
    finds(
        Rule::Holds,
        "CHK-11",
        &[
            (&ended, " living: attempt 1 of job a has ended, and holds a service"),
            (unknown, " living: attempt 7 of job b has ended, and holds a service"),
            (&suspended, " living: job a is suspended, and holds a service"),
        ],
    );
}

/// Proves CHK-13.
#[test]
fn a_payload_that_is_gone_or_another_one_is_found() {
    finds(
        Rule::Payloads,
        "CHK-13",
        &[
            (
                "UPDATE results SET data = '7' WHERE job = 1",
                " r: the result of job a has another digest",
            ),
            (
                "UPDATE inputs SET data = '7' WHERE job = 1",
                " r: the input of job a has another digest",
            ),
            ("DELETE FROM inputs WHERE job = 1", " r: job a has no input"),
            (
                "UPDATE checkpoints SET reply = '7'",
                " r: the reply of call 1/x of job a has another digest",
            ),
            ("DELETE FROM checkpoints", " r: the reply of call 1/x of job a is not there"),
            (
                "UPDATE blobs SET bytes = x'00'",
                " r: the bytes of its definition have another digest",
            ),
            ("DELETE FROM blobs", " r: its definition is not there"),
        ],
    );
    let gone = "DELETE FROM results WHERE job = 1";
    finds(Rule::Results, "CHK-13", &[(gone, " r: job a is succeeded and has no result")]);
}

/// Proves CHK-15.
#[test]
fn a_budget_that_was_not_kept_is_found() {
    finds(
        Rule::Budget,
        "CHK-15",
        &[
            (
                "UPDATE jobs SET attempts_used = 4 WHERE id = 1",
                " r: job a has used 4 of 3 attempts",
            ),
            ("UPDATE jobs SET dead_letter = 1 WHERE id = 1", " r: job a is given up, is succeeded"),
            (
                "UPDATE jobs SET dead_letter = 1, state = 'failed' WHERE id = 1",
                " r: job a is given up, is failed and has attempts left: true",
            ),
        ],
    );
}

/// Proves CHK-16.
#[test]
fn an_end_that_does_not_follow_is_found() {
    finds(
        Rule::Outcome,
        "CHK-16",
        &[
            (
                "UPDATE runs SET state = 'succeeded' WHERE run = 'r'",
                " r: the run is succeeded, and from",
            ),
            ("UPDATE runs SET state = 'failed' WHERE run = 'r'", " r: the run is failed, and from"),
            (
                "UPDATE stages SET outcome = 'failed' WHERE run = 'r'",
                " r: the run is partially_succeeded",
            ),
            (
                "UPDATE stages SET state = 'open', outcome = NULL WHERE run = 'r'",
                " r: the run has ended, and stage steps is open",
            ),
            ("UPDATE timers SET run = 'r'", " r: the run has ended, and timers of it are left"),
        ],
    );
}

/// Proves INV-32.
/// A list has all of its runs, and says of the one whose rows are damaged what is.
#[test]
fn a_damaged_run_does_not_hide_the_others() {
    let (_directory, path) = file_of(async |store| {
        let node = store.register_node("n").await.unwrap().node;
        for id in ["first", "bad", "last"] {
            start_on(store, id, &node).await;
        }
    });
    for (damage, told) in [
        ("UPDATE heads SET revision = -1 WHERE stream = 'bad'", "revision: "),
        ("UPDATE runs SET workflow = CAST(x'ff' AS TEXT) WHERE run = 'bad'", "workflow: "),
        (
            "UPDATE streams SET owner_node = CAST(x'ff' AS TEXT) WHERE stream = 'bad'",
            "owner_node: ",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let damaged = directory.path().join("store.db");
        std::fs::copy(&path, &damaged).unwrap();
        loose(&damaged).execute_batch(damage).unwrap();
        let store = open(&damaged);
        served(&store, || {
            assert_eq!(block_on(store.open_runs()).unwrap().len(), 3, "{damage}");
            let (unfinished, runs) = (store.unfinished_runs(), store.runs(10));
            for listed in [block_on(unfinished).unwrap(), block_on(runs).unwrap()] {
                assert_eq!(listed.len(), 3, "{damage}");
                for summary in listed {
                    let is_bad = summary.run.as_str() == "bad";
                    let why = summary.unreadable.unwrap_or_default();
                    assert_eq!(why.is_empty(), !is_bad, "{damage}: {} {why}", summary.run);
                    assert!(!is_bad || why.starts_with(told), "{damage}: {why}");
                }
            }
            // Whoever wants to go on with it is told as well.
            let read = block_on(store.run(&run_id("bad")));
            assert!(matches!(read, Err(StoreError::Unreadable { .. })), "{damage}: {read:?}");
        });
    }
}
