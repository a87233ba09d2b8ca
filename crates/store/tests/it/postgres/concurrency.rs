//! Many callers of two stores on one database, with and without locks (PGL-8, INV-30).

use std::{collections::BTreeSet, sync::Barrier};

use perennial_core::run::{AttemptEnd, JobState};
use perennial_store::{Committed, Created, Decision, NewTimer};

use super::*;
use crate::fixture::*;

pub(super) const CALLERS: usize = 16;
/// Jobs that are claimed; `PERENNIAL_CLAIMS=10000` is the full size.
const JOBS_CI: usize = 300;

fn jobs() -> usize {
    std::env::var("PERENNIAL_CLAIMS").ok().and_then(|n| n.parse().ok()).unwrap_or(JOBS_CI)
}

/// Runs `case` with two stores on the same database, as two processes have them, in every mode.
pub(super) fn on_two_stores(name: &str, case: impl Fn(&[PostgresStore; 2])) {
    for options in [options(), PostgresOptions { skip_locked: false, ..options() }, without_locks()]
    {
        let Some(database) = database(name) else { return };
        let stores = [open(&database.url(), options.clone()), open(&database.url(), options)];
        served(&stores[0], || served(&stores[1], || case(&stores)));
    }
}

/// What `CALLERS` threads come to that begin `call` at the same moment, each with its number.
pub(super) fn at_once<T: Send>(
    stores: &[PostgresStore; 2],
    call: impl AsyncFn(&PostgresStore, usize) -> T + Sync,
) -> Vec<T> {
    let barrier = Barrier::new(CALLERS);
    thread::scope(|threads| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (barrier, call) = (&barrier, &call);
                threads.spawn(move || {
                    barrier.wait();
                    block_on(call(&stores[caller % 2], caller))
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}

/// Again while the store says that it may go better.
pub(super) async fn patiently<T>(
    mut call: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    loop {
        match call().await {
            Err(error) if error.is_transient() => (),
            outcome => return outcome,
        }
    }
}

/// Each attempt is handed out once, and the events have no gap.
/// Proves INV-3, PGL-8, I2, D16, D18.
#[test]
fn each_attempt_is_handed_out_once() {
    on_two_stores("claims", |stores| {
        let started = block_on(start(&stores[0], "r"));
        let jobs = jobs();
        let keys: Vec<String> = (0..jobs).map(|n| format!("j{n}")).collect();
        let new_jobs = keys.iter().map(|key| new_job(key, None)).collect();
        let decided = Decision { new_jobs, ..decision(&started.run, started.revision) };
        block_on(stores[0].commit(decided)).unwrap();
        let (run, node) = (&started.run, &started.node);
        let claimed = at_once(stores, async |store, _| {
            let mut all = Vec::new();
            loop {
                let some = patiently(async || store.claim(run, node, 7).await).await.unwrap();
                if some.is_empty() {
                    return all;
                }
                all.extend(some.into_iter().map(|job| (job.lease.job, job.lease.attempt)));
            }
        });
        let all: Vec<_> = claimed.into_iter().flatten().collect();
        let distinct: BTreeSet<_> = all.iter().copied().collect();
        assert_eq!((all.len(), distinct.len()), (jobs, jobs));
        assert!(all.iter().all(|(_, attempt)| *attempt == 1));
        let events = block_on(stores[1].events("r", 1, u32::MAX)).unwrap();
        assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64));
        assert!(events.is_sorted_by_key(|event| event.at), "in the order of their time");
        let view = block_on(stores[1].run(run)).unwrap();
        assert_eq!((view.run.next_seq, view.attempts.len()), (events.len() as u64 + 1, jobs + 1));
    });
}

/// INV-7: of those who decide from one revision, one is committed, and all others know it.
#[test]
fn one_of_many_decisions_is_committed() {
    on_two_stores("deciders", |stores| {
        let mut started = block_on(start(&stores[0], "r"));
        for round in 0..10 {
            let decisions = at_once(stores, async |store, caller| {
                let new_jobs = vec![new_job(&format!("{round}-{caller}"), None)];
                let decision = Decision { new_jobs, ..decision(&started.run, started.revision) };
                patiently(async || store.commit(decision.clone()).await).await
            });
            let (won, lost): (Vec<_>, Vec<_>) = decisions.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1, "{lost:?}");
            let conflict = |lost: &Result<_, _>| matches!(lost, Err(StoreError::Conflict { .. }));
            assert!(lost.iter().all(conflict), "{lost:?}");
            started.revision += 1;
        }
        assert_eq!(block_on(stores[0].run(&started.run)).unwrap().jobs.len(), 11);
    });
}

/// INV-ST-22: a report that is made by many at once is recorded once.
#[test]
fn a_report_of_many_is_recorded_once() {
    on_two_stores("reports", |stores| {
        let started = block_on(start(&stores[0], "r"));
        let end = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
        let outcomes = at_once(stores, async |store, _| {
            patiently(async || store.commit(end.clone()).await).await.unwrap()
        });
        let now = |outcome: &&Committed| matches!(outcome, Committed::Now { .. });
        assert_eq!(outcomes.iter().filter(now).count(), 1);
    });
}

/// The same run is created once, and never as another.
/// Proves INV-ST-18.
#[test]
fn a_run_is_created_once() {
    on_two_stores("creations", |stores| {
        let node = block_on(stores[0].register_node("n")).unwrap().node;
        for round in 0..5 {
            let outcomes = at_once(stores, async |store, caller| {
                let mut new = new_run(&format!("r{round}"), &node);
                if caller % 4 == 3 {
                    new.input_digest = perennial_core::Digest::of(b"another");
                }
                patiently(async || store.create_run(new.clone()).await).await
            });
            let new = |one: &&Result<_, _>| matches!(one, Ok(Created::New { .. }));
            assert_eq!(outcomes.iter().filter(new).count(), 1, "{outcomes:?}");
            let reused = |one: &&Result<_, _>| matches!(one, Err(StoreError::KeyReused(_)));
            let reused = outcomes.iter().filter(reused).count();
            assert!(reused == 4 || reused == 12, "{outcomes:?}");
        }
    });
}

/// Incarnations are unique, also when they start at the same moment.
/// Proves INV-ST-15.
#[test]
fn incarnations_are_unique() {
    on_two_stores("nodes", |stores| {
        let incarnations = at_once(stores, async |store, _| {
            patiently(async || store.register_node("n").await).await.unwrap().node.incarnation
        });
        let distinct: BTreeSet<u64> = incarnations.into_iter().collect();
        assert_eq!(distinct, (1..=CALLERS as u64).collect());
    });
}

/// STO-54: a run has one owner, with a number of its own.
#[test]
fn a_run_has_one_owner() {
    on_two_stores("owners", |stores| {
        let started = block_on(start(&stores[0], "r"));
        // Its owner is gone.
        block_on(stores[0].end_node(&started.node, serde_json::Value::Null)).unwrap();
        let owners = at_once(stores, async |store, caller| {
            let node = store.register_node(&format!("m{caller}")).await.unwrap().node;
            patiently(async || store.own_run(&started.run, &node).await).await
        });
        let owning: Vec<_> = owners.iter().filter_map(|owner| owner.as_ref().ok()).collect();
        assert_eq!(owning, [&2], "{owners:?}");
    });
}

/// INV-ST-25: a due timer is taken once.
#[test]
fn a_timer_is_taken_once() {
    on_two_stores("timers", |stores| {
        let node = block_on(stores[0].register_node("n")).unwrap().node;
        let mut new = new_run("r", &node);
        let timer = |n: u32| NewTimer {
            owner: "run:r".to_owned(),
            name: format!("t{n}"),
            at: perennial_core::Timestamp::from_micros(i64::from(n)),
        };
        new.timers = (0..200).map(timer).collect();
        block_on(stores[0].create_run(new)).unwrap();
        let taken = at_once(stores, async |store, _| {
            let mut all = Vec::new();
            // Those that others hold are passed over: none is a reason to look again.
            while store.next_due().await.unwrap().is_some() {
                let some = patiently(async || store.take_due_timers(7).await).await.unwrap();
                all.extend(some.into_iter().map(|timer| timer.name));
            }
            all
        });
        let all: Vec<_> = taken.into_iter().flatten().collect();
        let distinct: BTreeSet<_> = all.iter().cloned().collect();
        assert_eq!((all.len(), distinct.len()), (200, 200));
    });
}

/// Of those who append at one end, one does.
/// Proves INV-28.
#[test]
fn a_stream_has_one_next_event() {
    on_two_stores("streams", |stores| {
        block_on(stores[0].create_stream("s", "session", Vec::new())).unwrap();
        for expected in 0..10 {
            let appended = at_once(stores, async |store, _| {
                let events = || vec![event("said")];
                patiently(async || store.append("s", expected, events(), false).await).await
            });
            assert_eq!(appended.iter().filter(|one| one.is_ok()).count(), 1, "{appended:?}");
        }
        assert_eq!(block_on(history(&stores[1], "s")).len(), 10);
    });
}

/// DUR-26: orphans are rescued once, and those that are reported meanwhile are left alone.
#[test]
fn orphans_are_rescued_once() {
    on_two_stores("orphans", |stores| {
        let node = block_on(stores[0].register_node("n")).unwrap().node;
        for run in 0..12 {
            block_on(start_on(&stores[0], &format!("r{run}"), &node));
        }
        block_on(stores[0].register_node_on("n", EXCLUSIVE)).unwrap();
        let rescued = at_once(stores, async |store, _| {
            patiently(async || store.rescue(None, 5).await).await.unwrap()
        });
        let all: Vec<_> = rescued.into_iter().flatten().map(|one| one.run).collect();
        let distinct: BTreeSet<_> = all.iter().cloned().collect();
        assert_eq!((all.len(), distinct.len()), (12, 12));
        for run in distinct {
            assert_eq!(block_on(only_job(&stores[1], &run)).crashes, 1);
        }
    });
}
