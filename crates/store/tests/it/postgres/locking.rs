//! PGL: what the server does with row locks, by raw connections beside the store, and that the store behaves.

use std::{collections::BTreeSet, fs, path::Path};

use perennial_core::run::{AttemptEnd, JobState};
use perennial_store::{Committed, Decision, JobStep};
use tokio_postgres::error::SqlState;

use super::{raw::Raw, *};
use crate::fixture::*;

/// A served store, and the address of its database.
fn with_store(name: &str, case: impl FnOnce(&PostgresStore, &str)) {
    with_options(name, options(), case);
}

/// The same, which waits for rows that it would else pass over.
fn with_waiting_store(name: &str, case: impl FnOnce(&PostgresStore, &str)) {
    with_options(name, PostgresOptions { skip_locked: false, ..options() }, case);
}

fn with_options(name: &str, options: PostgresOptions, case: impl FnOnce(&PostgresStore, &str)) {
    let Some(database) = database(name) else { return };
    let store = open(&database.url(), options);
    served(&store, || case(&store, &database.url()));
}

/// With `SKIP LOCKED` two connections get sets that are disjoint and complete.
/// Proves PGL-1.
#[test]
fn two_connections_claim_disjoint_sets() {
    with_store("pgl_1", |store, url| {
        let started = block_on(start(store, "r"));
        let new_jobs = (0..100).map(|n| new_job(&format!("j{n}"), None)).collect();
        let jobs = Decision { new_jobs, ..decision(&started.run, started.revision) };
        block_on(store.commit(jobs)).unwrap();
        let (one, other) = (Raw::open(url), Raw::open(url));
        let claim = |limit: u32| {
            format!(
                "SELECT id FROM jobs WHERE state = 'ready' ORDER BY id LIMIT {limit}
                 FOR UPDATE SKIP LOCKED"
            )
        };
        one.run("BEGIN");
        other.run("BEGIN");
        let (first, second) = (one.numbers(&claim(60)), other.numbers(&claim(60)));
        assert_eq!((first.len(), second.len()), (60, 40));
        let all: BTreeSet<_> = first.into_iter().chain(second).collect();
        assert_eq!(all.len(), 100);
        // The store takes what is not locked, and does not wait for the rest.
        assert!(other.try_run("COMMIT").is_ok() && one.try_run("COMMIT").is_ok());
    });
}

/// The store itself passes over timers that somebody holds.
/// Proves PGL-1.
#[test]
fn timers_that_somebody_takes_are_passed_over() {
    with_store("pgl_1_timers", |store, url| {
        let node = block_on(store.register_node("n")).unwrap().node;
        let mut new = new_run("r", &node);
        new.timers = ["a", "b", "c"]
            .map(|name| perennial_store::NewTimer {
                owner: "run:r".to_owned(),
                name: name.to_owned(),
                at: perennial_core::Timestamp::from_micros(1),
            })
            .to_vec();
        block_on(store.create_run(new)).unwrap();
        let holder = Raw::open(url);
        holder.run("BEGIN; SELECT 1 FROM timers WHERE name = 'a' FOR UPDATE");
        let taken = block_on(store.take_due_timers(ALL)).unwrap();
        assert_eq!(taken.iter().map(|timer| timer.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        holder.run("ROLLBACK");
        assert_eq!(block_on(store.take_due_timers(ALL)).unwrap()[0].name, "a");
    });
}

/// A node that is cut off amid a transaction holds its rows; what else it had is given back meanwhile, and so are its
/// rows once the server has ended that.
/// Proves PGL-1, INV-13.
#[test]
fn what_a_silent_transaction_holds_keeps_nobody_waiting() {
    with_store("pgl_1_rescue", |store, url| {
        let held = block_on(start(store, "held"));
        let free = block_on(start_on(store, "free", &held.node));
        let (renews, decides) = (Raw::open(url), Raw::open(url));
        renews.run("UPDATE nodes SET lease_until = 1 WHERE node = 'n'");
        renews.run("BEGIN; SELECT 1 FROM nodes WHERE node = 'n' FOR UPDATE");
        // Its last renewal may yet be committed: it is left alone, and nobody waits.
        assert!(block_on(store.rescue(None, ALL)).unwrap().is_empty());
        renews.run("ROLLBACK");
        decides.run("BEGIN; SELECT 1 FROM heads WHERE stream = 'held' FOR UPDATE");
        let rescued = |runs: &[&perennial_core::run::RunId]| {
            let found = block_on(store.rescue(None, ALL)).unwrap();
            assert_eq!(found.iter().map(|one| &one.run).collect::<Vec<_>>(), runs);
        };
        rescued(&[&free.run]);
        decides.run("ROLLBACK");
        rescued(&[&held.run]);
    });
}

/// A write on a row that somebody holds waits, sees the new state and changes nothing; another
/// row does not wait.
/// Proves PGL-2, TG3.
#[test]
fn a_write_waits_for_its_row_and_sees_what_it_became() {
    with_store("pgl_2", |store, url| {
        let held = block_on(start(store, "held"));
        let free = block_on(start_on(store, "free", &held.node));
        let holder = Raw::open(url);
        let job = held.lease.job;
        holder.run(&format!("BEGIN; UPDATE jobs SET attempt = attempt + 1 WHERE id = {job}"));
        thread::scope(|threads| {
            let waiting = threads.spawn(|| block_on(store.release(&held.lease, "waits")));
            holder.until_waiting(1);
            block_on(store.release(&free.lease, "does not wait")).unwrap();
            holder.run("COMMIT");
            let stale = StoreError::StaleAttempt { job, attempt: 1 };
            assert_eq!(waiting.join().unwrap(), Err(stale));
        });
        let view = block_on(store.run(&held.run)).unwrap();
        assert_eq!((view.jobs[0].state, view.attempts[0].end), (JobState::Leased, None));
    });
}

/// A lock ends with its transaction; an operation cannot be made to release it in the middle.
/// Proves PGL-3, D10.
#[test]
fn an_operation_keeps_its_locks_to_its_end() {
    with_store("pgl_3", |store, url| {
        let Started { run, revision, .. } = block_on(start(store, "r"));
        let new_jobs = vec![new_job("b", None), new_job("c", None)];
        let jobs = Decision { new_jobs, ..decision(&run, revision) };
        let Committed::Now { job_ids, revision, .. } = block_on(store.commit(jobs)).unwrap() else {
            panic!("recorded before")
        };
        let (holder, looker) = (Raw::open(url), Raw::open(url));
        holder.run(&format!("BEGIN; SELECT 1 FROM jobs WHERE id = {} FOR UPDATE", job_ids[1]));
        let (from, to) = (JobState::Ready, JobState::Cancelled);
        let jobs = job_ids.iter().map(|job| JobStep::new(*job, from, to)).collect();
        let cancel = Decision { jobs, ..decision(&run, revision) };
        thread::scope(|threads| {
            let waiting = threads.spawn(|| block_on(store.commit(cancel)));
            holder.until_waiting(1);
            for row in [
                "SELECT 1 FROM heads WHERE stream = 'r' FOR UPDATE NOWAIT".to_owned(),
                format!("SELECT 1 FROM jobs WHERE id = {} FOR UPDATE NOWAIT", job_ids[0]),
            ] {
                assert_eq!(looker.try_run(&row), Err(SqlState::LOCK_NOT_AVAILABLE), "{row}");
            }
            assert_eq!(looker.numbers("SELECT revision FROM heads WHERE stream = 'r'"), [2]);
            holder.run("ROLLBACK");
            assert!(waiting.join().unwrap().is_ok());
        });
        looker.run("SELECT 1 FROM heads WHERE stream = 'r' FOR UPDATE NOWAIT");
    });
}

/// A client that is killed holds nothing once the server has noticed.
/// Proves PGL-4.
#[test]
fn the_locks_of_a_dead_client_are_gone() {
    with_store("pgl_4", |store, url| {
        let started = block_on(start(store, "r"));
        let (holder, looker) = (Raw::open(url), Raw::open(url));
        holder.run("BEGIN; SELECT 1 FROM heads WHERE stream = 'r' FOR UPDATE");
        thread::scope(|threads| {
            let waiting = threads.spawn(|| block_on(store.release(&started.lease, "waits")));
            looker.until_waiting(1);
            holder.die();
            assert!(waiting.join().unwrap().is_ok());
        });
    });
}

/// A lock on an aggregate is an error of the server, and no statement has one.
/// Proves PGL-5, D11.
#[test]
fn no_lock_is_taken_on_an_aggregate() {
    with_store("pgl_5", |_, url| {
        let refused = Raw::open(url).try_run("SELECT count(*) FROM heads FOR UPDATE");
        assert_eq!(refused, Err(SqlState::FEATURE_NOT_SUPPORTED));
    });
    let mut locks = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms = vec![folder.join("ops"), folder.join("postgres")];
    while let Some(room) = rooms.pop() {
        for file in fs::read_dir(room).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                rooms.push(path);
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            for literal in text.split('"').filter(|literal| literal.contains("FOR UPDATE")) {
                locks += 1;
                let literal = literal.to_lowercase();
                let aggregate = ["count(", "sum(", "max(", "min("];
                assert!(!aggregate.iter().any(|name| literal.contains(name)), "{literal}");
            }
        }
    }
    assert!(locks >= 2, "it looks at the right files");
}

/// Locks on the rows that are there do not stop a rival's new row; unique keys do.
/// Proves PGL-6.
#[test]
fn keys_hold_by_unique_indexes() {
    with_store("pgl_6", |store, url| {
        let started = block_on(start(store, "r"));
        let (holder, rival) = (Raw::open(url), Raw::open(url));
        holder.run("BEGIN; SELECT 1 FROM jobs WHERE run = 'r' FOR UPDATE");
        let insert = |key: &str| {
            format!(
                "INSERT INTO jobs (run, stage, key, state, max_attempts)
                 VALUES ('r', '{STAGE}', '{key}', 'ready', 1)"
            )
        };
        rival.run(&insert("new"));
        assert_eq!(rival.try_run(&insert("a")), Err(SqlState::UNIQUE_VIOLATION));
        // The store's own insert of a key that somebody has not yet committed waits, and then is a conflict.
        rival.run(&format!("BEGIN; {}", insert("late")));
        thread::scope(|threads| {
            let new_jobs = vec![new_job("late", None)];
            let jobs = Decision { new_jobs, ..decision(&started.run, started.revision) };
            let waiting = threads.spawn(|| block_on(store.commit(jobs)));
            rival.until_waiting(1);
            rival.run("COMMIT");
            let conflict = StoreError::Conflict { what: "job late".to_owned() };
            assert_eq!(waiting.join().unwrap(), Err(conflict));
        });
        holder.run("ROLLBACK");
    });
}

/// A deadlock, forced by somebody who breaks the order of locks, is done again and told to nobody.
/// Proves PGL-7.
#[test]
fn a_deadlock_is_done_again() {
    with_waiting_store("pgl_7", |store, url| {
        let node = block_on(store.register_node("n")).unwrap().node;
        for run in ["r1", "r2"] {
            block_on(start_on(store, run, &node));
        }
        block_on(store.register_node_on("n", EXCLUSIVE)).unwrap();
        let rival = Raw::open(url);
        // The store's connection finds the circle first, and is the one that the server refuses.
        rival.run("SET deadlock_timeout TO '30s'");
        rival.run("BEGIN; SELECT 1 FROM heads WHERE stream = 'r2' FOR UPDATE");
        thread::scope(|threads| {
            let waiting = threads.spawn(|| block_on(store.rescue(None, ALL)));
            rival.until_waiting(1);
            rival.run("SELECT 1 FROM heads WHERE stream = 'r1' FOR UPDATE; ROLLBACK");
            assert_eq!(waiting.join().unwrap().unwrap().len(), 2);
        });
        let retries = store.status().server.unwrap().retries;
        assert!(retries > 0, "there was a deadlock");
    });
}

/// STO-14, STO-42: an operation takes the ends of several streams in the order of their names, as everybody.
/// Proves PGL-7.
#[test]
fn ends_are_locked_in_one_order() {
    with_waiting_store("pgl_7_order", |store, url| {
        let node = block_on(store.register_node("n")).unwrap().node;
        // Jobs are numbered in the other order than runs are named.
        for run in ["r2", "r1"] {
            block_on(start_on(store, run, &node));
        }
        block_on(store.register_node_on("n", EXCLUSIVE)).unwrap();
        let rival = Raw::open(url);
        rival.run("BEGIN; SELECT 1 FROM heads WHERE stream = 'r1' FOR UPDATE");
        thread::scope(|threads| {
            let waiting = threads.spawn(|| block_on(store.rescue(None, ALL)));
            rival.until_waiting(1);
            rival.run("SELECT 1 FROM heads WHERE stream = 'r2' FOR UPDATE; ROLLBACK");
            assert_eq!(waiting.join().unwrap().unwrap().len(), 2);
        });
        assert_eq!(store.status().server.unwrap().retries, 0);
    });
}

/// INV-4: what a late attempt reports after its job went on changes nothing, also when it waited.
#[test]
fn a_late_report_that_waited_changes_nothing() {
    with_store("late", |store, url| {
        let started = block_on(start(store, "r"));
        let holder = Raw::open(url);
        holder.run("BEGIN; SELECT 1 FROM heads WHERE stream = 'r' FOR UPDATE");
        thread::scope(|threads| {
            let releasing = threads.spawn(|| block_on(store.release(&started.lease, "first")));
            holder.until_waiting(1);
            let end = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
            let reporting = threads.spawn(|| block_on(store.commit(end)));
            holder.until_waiting(2);
            holder.run("ROLLBACK");
            let outcomes = (releasing.join().unwrap().is_ok(), reporting.join().unwrap());
            let released = matches!(outcomes, (true, Err(StoreError::StaleAttempt { .. })));
            let reported = matches!(outcomes, (false, Ok(Committed::Now { .. })));
            assert!(released || reported, "{outcomes:?}");
        });
    });
}
