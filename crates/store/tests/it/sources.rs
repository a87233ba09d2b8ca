//! Each thing is stored once: which columns say what other rows say as well, and that none of them can part from those.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::{
    damage::lives,
    verify::{after, file_of, loose},
};

/// What keeps a derived value from being another one than its source says.
#[derive(Clone, Copy)]
enum Kept {
    /// The checker finds it, with that rule.
    Found(&'static str),
    /// No row can be like that.
    Refused,
    /// It is written with its source, by one statement, and never without it.
    Written,
}
use Kept::{Found, Refused, Written};

/// A column that other rows could tell: where it is not what they tell, how to part it from them, and what keeps that from being.
type Derived = (&'static str, &'static str, &'static str, Kept);

const DERIVED: [Derived; 22] = [
    (
        "heads.next_seq",
        "heads h WHERE next_seq <> 1 + (SELECT count(*) FROM events e WHERE e.stream = h.stream)",
        "UPDATE heads SET next_seq = next_seq + 1 WHERE stream = 'r'",
        Found("CHK-3"),
    ),
    (
        "heads.hash",
        "heads h WHERE hash NOT IN (SELECT hash FROM events e WHERE e.stream = h.stream AND seq = h.next_seq - 1)",
        "UPDATE heads SET hash = 'x' WHERE stream = 'r'",
        Found("CHK-3"),
    ),
    (
        "streams.closed",
        "streams s JOIN runs r ON r.run = s.stream WHERE closed <> (finished_at IS NOT NULL)",
        "UPDATE streams SET closed = 1 - closed WHERE stream = 'r'",
        Refused,
    ),
    (
        "streams.closed_at",
        "streams s JOIN runs r ON r.run = s.stream WHERE closed_at IS NOT finished_at",
        "UPDATE streams SET closed_at = closed_at + 1 WHERE stream = 'r'",
        Found("CHK-4"),
    ),
    (
        "streams.created_at",
        "streams s JOIN runs r ON r.run = s.stream WHERE s.created_at <> r.created_at",
        "UPDATE streams SET created_at = created_at + 1 WHERE stream = 'r'",
        Found("CHK-4"),
    ),
    (
        "runs.state",
        "runs r WHERE (finished_at IS NULL) <> (state IN ('pending', 'running', 'paused', 'cancelling', 'compensating'))",
        "UPDATE runs SET state = 'failed' WHERE run = 'r'",
        Found("CHK-4"),
    ),
    (
        "runs.finished_at",
        "runs r WHERE finished_at IS NOT (SELECT max(at) FROM events e WHERE e.stream = r.run AND kind = 'run_closed')",
        "UPDATE runs SET finished_at = finished_at + 1 WHERE run = 'r'",
        Found("CHK-4"),
    ),
    (
        "runs.created_at",
        "runs r WHERE created_at <> (SELECT min(at) FROM events e WHERE e.stream = r.run)",
        "UPDATE runs SET created_at = created_at + 1 WHERE run = 'r'",
        Found("CHK-4"),
    ),
    (
        "runs.progress",
        // Neither of these runs has a plan.
        "runs WHERE progress IS NOT NULL",
        "UPDATE runs SET progress = 7 WHERE run = 'living'",
        Found("CHK-4"),
    ),
    (
        "stages.state",
        "stages s WHERE state = 'closed' AND EXISTS (SELECT 1 FROM jobs j WHERE j.run = s.run AND j.stage = s.stage
         AND j.state IN ('blocked', 'ready', 'leased', 'deferred', 'suspended', 'joining'))",
        "UPDATE stages SET state = 'closed' WHERE run = 'living'",
        Found("CHK-7"),
    ),
    (
        "stages.outcome",
        "stages s JOIN runs r ON r.run = s.run WHERE (outcome IS NULL) <> (finished_at IS NULL)",
        "UPDATE stages SET outcome = 'failed' WHERE run = 'r'",
        Found("CHK-16"),
    ),
    (
        "jobs.attempt",
        "jobs j WHERE attempt <> (SELECT count(*) FROM attempts a WHERE a.job = j.id)",
        "UPDATE jobs SET attempt = attempt + 1 WHERE run = 'r' AND key = 'd'",
        Found("CHK-4"),
    ),
    (
        "jobs.attempts_used",
        "jobs j WHERE attempts_used <> (SELECT count(*) FROM attempts a WHERE a.job = j.id
         AND ended_as IN ('succeeded', 'partial', 'skipped', 'error', 'timed_out'))",
        "UPDATE jobs SET attempts_used = attempts_used - 1 WHERE run = 'r' AND key = 'a'",
        Found("CHK-4"),
    ),
    (
        "jobs.crashes",
        "jobs j WHERE crashes <> (SELECT count(*) FROM attempts a WHERE a.job = j.id AND ended_as = 'expired')",
        "UPDATE jobs SET crashes = 1 WHERE run = 'r' AND key = 'd'",
        Found("CHK-4"),
    ),
    (
        "jobs.lease_node",
        "jobs j WHERE lease_node IS NOT (SELECT node FROM attempts a WHERE a.job = j.id AND ended_as IS NULL)",
        "UPDATE jobs SET lease_node = 'n' WHERE run = 'living' AND key = 'b'",
        Found("CHK-5"),
    ),
    (
        "jobs.lease_incarnation",
        "jobs j WHERE lease_incarnation IS NOT
         (SELECT incarnation FROM attempts a WHERE a.job = j.id AND ended_as IS NULL)",
        "UPDATE jobs SET lease_incarnation = 9 WHERE run = 'living' AND key = 'b'",
        Found("CHK-5"),
    ),
    (
        "jobs.dead_letter",
        "jobs WHERE dead_letter = 1",
        "UPDATE jobs SET dead_letter = 1 WHERE run = 'r' AND key = 'd'",
        Found("CHK-4"),
    ),
    (
        "sequences.next",
        "sequences s WHERE next <> 1 + (SELECT count(*) FROM allocations a
         WHERE a.sequence = s.sequence AND a.scope = s.scope)",
        "UPDATE sequences SET next = next + 1",
        Found("CHK-12"),
    ),
    (
        "allocations.version",
        "allocations a WHERE version <> 1 + (SELECT count(*) FROM allocation_versions v
         WHERE v.sequence = a.sequence AND v.scope = a.scope AND v.number = a.number)",
        "UPDATE allocations SET version = version + 1 WHERE number = 1",
        Found("CHK-12"),
    ),
    (
        "turns.key",
        "turns t WHERE key <> (SELECT k.key FROM keyed k WHERE k.job = t.job)",
        "UPDATE turns SET key = 'x'",
        Found("CHK-6"),
    ),
    // How large it is, also where the bytes are elsewhere: read without them.
    ("saved.bytes", "saved WHERE data IS NOT NULL AND bytes <> length(CAST(data AS BLOB))", "", Written),
    ("cache.bytes", "cache WHERE bytes <> length(CAST(data AS BLOB))", "", Written),
];

/// Columns that nothing else says: names, what was given, told and returned, and instants at which it was.
const OWN: &str = "
    meta: only_row store_id schema_version schema_digest created_at clock_anchor openings
    nodes: node incarnation opening started_at ended_at report lease_until
    streams: stream kind owner_node owner_incarnation fencing
    heads: stream revision
    events: stream seq at kind job attempt data hash
    blobs: digest bytes created_at
    blob_uses: run digest
    runs: run workflow definition input_digest settings failure deadline priority
    stages: run stage ordinal feed upstream concurrency required weight
    jobs: id run stage parent key kind state skipped max_attempts run_after wake_at defer_cause defer_until defer_then priority
      deferred_since crashes_max
    attempts: job attempt node incarnation claimed_at ended_at ended_as class code message uncertain
    inputs: job data
    results: job data
    checkpoints: job name attempt idempotency_key begun_at recorded_at reply
    timers: owner name run at
    cache: key data expires_at used_at
    waits: job kind name about since until fallback fallback_value ended_as ended_by ended_at answer
    signals: run request kind name payload sent_by why at seq taken_by taken_at
    removed: run workflow definition input_digest state created_at finished_at removed_at pending
    saved: job name attempt saved_at kept data digest
    beats: job attempt first_at at noted_at progress
    sequences: sequence scope
    allocations: sequence scope number key run job attempt allocated_at
    allocation_versions: sequence scope number version parent key run job attempt allocated_at
    slot_pools: pool number job attempt name taken_at fenced_until
    services: service key state epoch instance since breaker_open_until cause node incarnation acquired
    holds: service key holder job attempt node incarnation since
    uses: job service key
    keyed: job key most parked_since parked_seen
    turns: place job";

fn columns(connection: &Connection) -> BTreeSet<String> {
    let sql = "SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
        WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(sql).unwrap();
    let found = statement.query_map([], |row| row.get(0)).unwrap();
    found.map(Result::unwrap).collect()
}

fn own() -> BTreeSet<String> {
    let mut table = "";
    let words = OWN.split_whitespace().filter_map(|word| match word.strip_suffix(':') {
        Some(name) => {
            table = name;
            None
        }
        None => Some(format!("{table}.{word}")),
    });
    words.collect()
}

/// Proves FC2.
/// STO-6: every column is the one place of what it says, or is derived: then it is what its source says, and what parts it from
/// that is refused or found. A column that is new belongs in one of the lists.
#[test]
fn nothing_is_stored_twice_but_what_is_checked_against_its_source() {
    let (_directory, path) = file_of(async |store| lives(store).await);
    let connection = loose(&path);
    let derived: BTreeSet<String> = DERIVED.iter().map(|it| it.0.to_owned()).collect();
    let own = own();
    assert!(derived.is_disjoint(&own), "{derived:?} and {own:?}");
    let listed = &derived | &own;
    let there = columns(&connection);
    let (new, gone) = (&there - &listed, &listed - &there);
    assert!(new.is_empty() && gone.is_empty(), "not in a list: {new:?}; not there: {gone:?}");

    let parted = |connection: &Connection, rows: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {rows}");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    for (column, rows, damage, kept) in DERIVED {
        assert_eq!(parted(&connection, rows), 0, "{column} is not what its source says");
        match kept {
            Found(rule) => {
                let found = after(&path, |connection| connection.execute_batch(damage).unwrap());
                let is_found = found.iter().any(|it| it.rule.id() == rule);
                assert!(is_found, "{column}: not {rule}, but {found:#?}");
            }
            Refused => {
                let strict = Connection::open(&path).unwrap();
                let refused = strict.execute_batch(damage).unwrap_err();
                assert!(refused.to_string().contains("CHECK"), "{column}: {refused}");
            }
            Written => (),
        }
    }
}
