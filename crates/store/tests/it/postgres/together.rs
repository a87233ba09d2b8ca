//! Decisions that wait at the same time and are committed in one transaction: each has the outcome that it has alone.

use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::run::{AttemptEnd, JobState, RunState};
use perennial_store::{Committed, Decision, StoreStatus};

use super::{connections::behind_a_wire, proxy::Cut, raw::Raw, *};
use crate::{fixture::*, stores::on_memory};

/// A store with one connection.
fn with_store(name: &str, case: impl FnOnce(&PostgresStore, &str)) {
    let Some(database) = database(name) else { return };
    let store = open(&database.url(), PostgresOptions { connections: 1, ..options() });
    served(&store, || case(&store, &database.url()));
}

fn shared_commits(store: &PostgresStore) -> u64 {
    let StoreStatus { server, .. } = store.status();
    server.unwrap().shared_commits
}

type Outcome = Result<Committed, StoreError>;

/// What decisions come to that all wait while the only connection is busy. `meanwhile` is called when they do.
fn decided_together(
    store: &PostgresStore,
    url: &str,
    decisions: Vec<Decision>,
    meanwhile: impl FnOnce(),
) -> Vec<Outcome> {
    decided_behind(store, url, decisions, meanwhile, 0)
}

/// The same behind an append that expects this revision, of 0; any other one is refused, and commits nothing.
fn decided_behind(
    store: &PostgresStore,
    url: &str,
    decisions: Vec<Decision>,
    meanwhile: impl FnOnce(),
    expected: u64,
) -> Vec<Outcome> {
    block_on(store.create_stream("busy", "session", Vec::new())).unwrap();
    let (holder, looker) = (Raw::open(url), Raw::open(url));
    holder.run("BEGIN; SELECT 1 FROM heads WHERE stream = 'busy' FOR UPDATE");
    let waiting = decisions.len() as u64;
    thread::scope(|threads| {
        let busy = threads.spawn(|| {
            let appended = block_on(store.append("busy", expected, vec![event("waited")], false));
            assert_eq!(appended.is_ok(), expected == 0, "{appended:?}");
        });
        looker.until_waiting(1);
        let deciding: Vec<_> = decisions
            .into_iter()
            .map(|decision| threads.spawn(|| block_on(store.commit(decision))))
            .collect();
        while store.status().queued < waiting {
            thread::yield_now();
        }
        meanwhile();
        holder.run("COMMIT");
        busy.join().unwrap();
        deciding.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// Reports the job and claims the next one.
fn going_on(started: &Started, next: &str) -> Decision {
    Decision {
        new_jobs: vec![new_job(next, Some(&started.node))],
        ..reporting(started, AttemptEnd::Succeeded, JobState::Succeeded)
    }
}

/// What can be compared between stores that number and date their rows by themselves.
fn comparable(outcome: &Outcome) -> String {
    match outcome {
        Ok(Committed::Now { revision, leases, events, job_ids, resumed }) => {
            let claimed: Vec<_> =
                leases.iter().map(|lease| (lease.key.as_str(), lease.attempt)).collect();
            let (kinds, jobs) = (kinds(events), job_ids.len());
            format!("{revision} {claimed:?} {kinds:?} {jobs} {resumed:?}")
        }
        Ok(Committed::AlreadyRecorded { end }) => format!("recorded: {end}"),
        Err(StoreError::StaleAttempt { attempt, .. }) => format!("stale {attempt}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn decisions_that_wait_share_a_transaction() {
    with_store("together", |store, url| {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let begun: Vec<_> =
            (0..8).map(|n| block_on(start_on(store, &format!("r{n}"), &node))).collect();
        let all = begun.iter().map(|started| going_on(started, "b")).collect();
        for outcome in decided_together(store, url, all, || ()) {
            let (revision, leases, kinds) = committed(outcome.unwrap());
            assert_eq!((revision, leases.len()), (2, 1));
            assert_eq!(kinds, ["job_succeeded", "job_ready", "attempt_started"]);
        }
        assert_eq!(shared_commits(store), 8);
        for started in &begun {
            let jobs = block_on(store.run(&started.run)).unwrap().jobs;
            let states: Vec<_> = jobs.iter().map(|job| (job.key.as_str(), job.state)).collect();
            assert_eq!(states, [("a", JobState::Succeeded), ("b", JobState::Leased)]);
        }
        block_on(crate::stores::checked(store));
    });
}

/// Proves INV-33.
#[test]
fn alone_each_has_a_transaction_of_its_own() {
    let Some(database) = database("alone") else { return };
    let alone = PostgresOptions { connections: 1, commits_together: 1, ..options() };
    let store = open(&database.url(), alone);
    served(&store, || {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let begun = (0..4).map(|n| block_on(start_on(&store, &format!("r{n}"), &node)));
        let all = begun.map(|started| going_on(&started, "b")).collect();
        for outcome in decided_together(&store, &database.url(), all, || ()) {
            outcome.unwrap();
        }
        assert_eq!(shared_commits(&store), 0);
    });
}

/// Decisions of which most have something that sets them apart.
async fn of_all_kinds(store: &dyn Store) -> Vec<Decision> {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut begun = Vec::new();
    for run in ["good", "late", "stale", "twice", "ends", "same", "empty", "cancels", "fine"] {
        begun.push(start_on(store, run, &node).await);
    }
    let [good, late, stale, twice, ends, same, empty, cancels, fine] = &begun[..] else { panic!() };
    store.release(&stale.lease, "given back").await.unwrap();
    let other = |started: &Started, expected_revision| Decision {
        expected_revision,
        ..going_on(started, "b")
    };
    let revision = store.run(&stale.run).await.unwrap().run.revision;
    let last = reporting(ends, AttemptEnd::Succeeded, JobState::Succeeded);
    vec![
        going_on(good, "b"),
        other(late, 17),
        other(stale, revision),
        going_on(twice, "b"),
        going_on(twice, "b"),
        Decision { run: run_id("nobody"), ..going_on(good, "c") },
        Decision {
            run_step: entering(&ends.run, 1, RunState::Running, RunState::Succeeded).run_step,
            ..last
        },
        Decision {
            new_jobs: vec![new_job("b", None), new_job("b", None)],
            ..decision(&same.run, same.revision)
        },
        decision(&empty.run, empty.revision),
        entering(&cancels.run, cancels.revision, RunState::Running, RunState::Cancelling),
        going_on(fine, "b"),
        reporting(fine, AttemptEnd::Error, JobState::Ready),
    ]
}

#[test]
fn each_has_the_outcome_that_it_has_alone() {
    let mut alone = Vec::new();
    on_memory(async |store| {
        for decision in of_all_kinds(store).await {
            alone.push(comparable(&store.commit(decision).await));
        }
    });
    with_store("together_kinds", |store, url| {
        let decisions = block_on(of_all_kinds(store));
        let outcomes = decided_together(store, url, decisions, || ());
        let mut outcomes: Vec<_> = outcomes.iter().map(comparable).collect();
        // Who comes first of two about the same attempt is open.
        outcomes.sort();
        alone.sort();
        assert_eq!(outcomes, alone);
        assert!(shared_commits(store) >= 3, "{}", shared_commits(store));
        block_on(crate::stores::checked(store));
    });
}

#[test]
fn nobody_waits_for_a_run_that_somebody_else_holds() {
    with_store("together_held", |store, url| {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let begun: Vec<_> =
            ["a", "b", "held"].map(|run| block_on(start_on(store, run, &node))).into();
        let all = begun.iter().map(|started| going_on(started, "b")).collect();
        let (holder, looker) = (Raw::open(url), Raw::open(url));
        holder.run("BEGIN; SELECT 1 FROM heads WHERE stream = 'held' FOR UPDATE");
        thread::scope(|threads| {
            let release = threads.spawn(|| {
                // Those of the others are there before it is let go.
                looker.until(
                    "SELECT count(*) FROM heads WHERE stream IN ('a', 'b') AND revision = 2",
                    2,
                );
                holder.run("ROLLBACK");
            });
            for outcome in decided_together(store, url, all, || ()) {
                assert_eq!(committed(outcome.unwrap()).0, 2);
            }
            release.join().unwrap();
        });
        assert_eq!(shared_commits(store), 2);
    });
}

/// Somebody changes a row of one of them while they wait for it: that one hears of it, and the others do not.
#[test]
fn one_whose_row_is_no_longer_so_is_the_only_one_to_hear_of_it() {
    with_store("together_gone", |store, url| {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let begun: Vec<_> =
            ["a", "b", "gone"].map(|run| block_on(start_on(store, run, &node))).into();
        let all = begun.iter().map(|started| going_on(started, "b")).collect();
        let (rival, looker) = (Raw::open(url), Raw::open(url));
        rival.run(&format!(
            "BEGIN; UPDATE attempts SET ended_as = 'expired', ended_at = 1 WHERE job = {}",
            begun[2].lease.job
        ));
        let outcomes = thread::scope(|threads| {
            let rival = threads.spawn(|| {
                looker
                    .until("SELECT count(*) FROM heads WHERE stream = 'busy' AND next_seq = 2", 1);
                looker.until_waiting(1);
                rival.run("COMMIT");
            });
            let outcomes = decided_together(store, url, all, || ());
            rival.join().unwrap();
            outcomes
        });
        let heard: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(heard, [true, true, false]);
        assert!(matches!(outcomes[2], Err(StoreError::StaleAttempt { .. })), "{outcomes:?}");
        assert_eq!(shared_commits(store), 0, "all were made one by one");
    });
}

/// What eight decisions come to whose shared transaction is cut off there, and how many of them shared one that is there.
fn cut_together(name: &str, cut: Cut) -> Option<(Vec<Outcome>, u64)> {
    behind_a_wire(name, cut, "", |store, url, arm| {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let begun: Vec<_> =
            (0..8).map(|n| block_on(start_on(store, &format!("r{n}"), &node))).collect();
        let all = begun.iter().map(|started| going_on(started, "b")).collect();
        let outcomes = decided_behind(store, url, all, arm, 7);
        for started in &begun {
            let jobs = block_on(store.run(&started.run)).unwrap().jobs;
            let states: Vec<_> = jobs.iter().map(|job| (job.key.as_str(), job.state)).collect();
            assert_eq!(states, [("a", JobState::Succeeded), ("b", JobState::Leased)]);
        }
        block_on(crate::stores::checked(store));
        (outcomes, shared_commits(store))
    })
}

/// STO-9: a shared commit whose answer was lost is asked for once, and each of its decisions is acknowledged.
/// Proves INV-ST-3.
#[test]
fn a_shared_commit_whose_answer_is_lost_is_acknowledged_after_asking() {
    let Some((outcomes, shared)) = cut_together("together_answered", Cut::Answered("COMMIT\0"))
    else {
        return;
    };
    for outcome in outcomes {
        let (revision, leases, kinds) = committed(outcome.unwrap());
        assert_eq!((revision, leases.len()), (2, 1));
        assert_eq!(kinds, ["job_succeeded", "job_ready", "attempt_started"]);
    }
    assert_eq!(shared, 8);
}

/// INV-ST-3: of a shared transaction that was cut off before its commit nothing is there, and each decision is made alone.
#[test]
fn a_shared_transaction_that_is_cut_off_is_made_one_by_one() {
    let Some((outcomes, shared)) = cut_together("together_asked", Cut::Asked("job_succeeded"))
    else {
        return;
    };
    for outcome in outcomes {
        assert_eq!(committed(outcome.unwrap()).0, 2);
    }
    assert_eq!(shared, 0);
}

/// STO-45: connections that are terminated amid shared commits lose and duplicate nothing.
#[test]
fn shared_commits_that_are_cut_off_lose_nothing() {
    const RUNS: usize = 12;
    const STEPS: u64 = 25;
    let Some(database) = database("together_cut") else { return };
    let store = open(&database.url(), PostgresOptions { connections: 2, ..options() });
    served(&store, || {
        let node = block_on(store.register_node_on("n", EXCLUSIVE)).unwrap().node;
        let begun: Vec<_> =
            (0..RUNS).map(|n| block_on(start_on(&store, &format!("r{n}"), &node))).collect();
        let killer = Raw::open(&database.url());
        let done = AtomicBool::new(false);
        thread::scope(|threads| {
            let killing = threads.spawn(|| {
                let mut killed = 0;
                while !done.load(Ordering::Acquire) {
                    // Amid its transaction, so that it has something to lose.
                    let found = killer.rows(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid =
                         (SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                          AND application_name = 'perennial' AND xact_start IS NOT NULL
                          ORDER BY random() LIMIT 1)",
                    );
                    killed += found.len();
                    let commits = store.status().commits;
                    while store.status().commits < commits + 15 && !done.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                }
                killed
            });
            let deciding: Vec<_> = begun
                .into_iter()
                .map(|started| threads.spawn(|| block_on(decide_on(&store, started, STEPS))))
                .collect();
            deciding.into_iter().for_each(|one| one.join().unwrap());
            done.store(true, Ordering::Release);
            assert!(killing.join().unwrap() > 3);
        });
        for run in 0..RUNS {
            let jobs = block_on(store.run(&run_id(&format!("r{run}")))).unwrap().jobs;
            assert_eq!(jobs.len() as u64, STEPS + 1);
        }
        assert!(shared_commits(&store) > STEPS, "{}", shared_commits(&store));
        block_on(crate::stores::checked(&store));
    });
}

/// Goes on until `steps` were made; what is not known to be there is looked for.
async fn decide_on(store: &PostgresStore, mut started: Started, steps: u64) {
    for step in 1..=steps {
        let next = format!("s{step}");
        let lease = loop {
            match store.commit(going_on(&started, &next)).await {
                Ok(Committed::Now { mut leases, .. }) => break Some(leases.remove(0)),
                // A commit whose answer nobody heard.
                Ok(Committed::AlreadyRecorded { .. }) => break None,
                Err(StoreError::Unknown(_)) => (),
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        };
        let view = loop {
            match store.run(&started.run).await {
                Ok(view) => break view,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        };
        started.revision = view.run.revision;
        let job = view.jobs.iter().find(|job| job.key.as_str() == next).expect("it was committed");
        let found = perennial_store::Lease { job: job.id, key: job.key.clone(), ..started.lease };
        started.lease = lease.unwrap_or(found);
        assert_eq!(started.lease.job, job.id);
    }
}
