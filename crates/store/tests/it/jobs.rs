//! The rows of jobs when many write at once: one for each key, and what is counted of them.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::run::{AttemptEnd, JobState, RunId};
use perennial_store::{
    Claimed, Committed, Created, Decision, JobStep, RunSummary, RunView, Store, StoreError,
};
use perennial_testkit::Seed;

use crate::{
    fixture::*,
    nodes::{CALLERS, at_once, insist},
    stores::on_every_store,
};

on_every_store!(
    of_all_that_add_a_job_one_does,
    counters_of_every_run_are_those_of_its_rows_at_every_commit,
);

/// Proves INV-1, RF4, B17.
/// Whoever comes second is refused, and finds the job of the first; so does who creates the run again.
async fn of_all_that_add_a_job_one_does(store: &dyn Store) {
    const KEYS: usize = 25;
    let Started { run, node, lease, .. } = start(store, "r").await;
    let of_run = &run;
    let add = |caller: usize| async move {
        let mut added = Vec::new();
        for place in 0..KEYS {
            let key = format!("job-{}", (place + caller) % KEYS);
            let taken = StoreError::Conflict { what: format!("job {key}") };
            loop {
                let revision = insist(async || store.revision(of_run).await).await;
                let new_jobs = vec![new_job(&key, None)];
                let outcome =
                    store.commit(Decision { new_jobs, ..decision(of_run, revision) }).await;
                match outcome {
                    Ok(Committed::Now { job_ids, .. }) => {
                        added.push((job_ids[0], key));
                        break;
                    }
                    Err(error) if error == taken => break,
                    // Somebody has decided about the run meanwhile.
                    Err(StoreError::Conflict { .. }) => (),
                    Err(error) if error.is_transient() => (),
                    other => panic!("{other:?}"),
                }
            }
        }
        added
    };
    let added: BTreeMap<i64, String> = at_once(add).into_iter().flatten().collect();
    let again = store.create_run(new_run("r", &node)).await;
    assert_eq!(again, Ok(Created::Existing));
    let view = store.run(&run).await.unwrap();
    let keys: BTreeSet<&str> = view.jobs.iter().map(|job| job.key.as_str()).collect();
    assert_eq!((keys.len(), view.jobs.len(), added.len()), (KEYS + 1, KEYS + 1, KEYS));
    for job in &view.jobs {
        let first = if job.id == lease.job { Some("a") } else { added.get(&job.id).map(|s| &**s) };
        assert_eq!(first, Some(job.key.as_str()), "{}", job.id);
    }
    let told = history(store, "r").await;
    assert_eq!(told.iter().filter(|kind| *kind == "job_ready").count(), KEYS + 1, "each once");
}

/// Runs that are written at once; the other callers look.
const RUNS: usize = 4;
const STEPS: usize = 30;
const LOOKS: usize = 15;

/// Proves INV-6, D36, D39.
async fn counters_of_every_run_are_those_of_its_rows_at_every_commit(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut runs = Vec::new();
    for number in 0..RUNS {
        runs.push(start_on(store, &format!("r{number}"), &node).await);
    }
    let runs = &runs;
    at_once(|caller| async move {
        let mut seed = Seed::of_test(&format!("counters of rows {caller}"));
        match runs.get(caller) {
            Some(own) => live(store, own, &mut seed).await,
            None => {
                for _ in 0..LOOKS {
                    look(store, &seed.pick(runs).run).await;
                }
            }
        }
    });
    const { assert!(CALLERS > RUNS, "somebody looks") };
    let mut leased = 0;
    for Started { run, .. } in runs {
        let view = store.run(run).await.unwrap();
        assert!(view.jobs.len() > 3, "{run} has {} jobs", view.jobs.len());
        leased += view.jobs.iter().filter(|job| job.state == JobState::Leased).count() as u64;
    }
    let of_node = &store.nodes(ALL).await.unwrap()[0];
    assert_eq!((of_node.jobs, of_node.runs), (leased, RUNS as u64));
}

/// One run by chance, which nobody else writes: after each commit its rows are counted.
async fn live(store: &dyn Store, own: &Started, seed: &mut Seed) {
    let (run, node) = (&own.run, &own.node);
    let (mut leases, mut added) = (vec![own.lease.clone()], 0);
    for _ in 0..STEPS {
        let revision = insist(async || store.revision(run).await).await;
        let mut next = decision(run, revision);
        match seed.below(4) {
            0 => {
                let claimed: Vec<Claimed> = insist(async || store.claim(run, node, 2).await).await;
                leases.extend(claimed.into_iter().map(|claimed| claimed.lease));
            }
            1 if !leases.is_empty() => {
                let lease = leases.swap_remove(seed.below(leases.len() as u64) as usize);
                let (end, to) = *seed.pick(&[
                    (AttemptEnd::Succeeded, JobState::Succeeded),
                    (AttemptEnd::Error, JobState::Failed),
                    (AttemptEnd::Partial, JobState::Partial),
                    (AttemptEnd::Unavailable, JobState::Deferred),
                ]);
                next.report = Some(report(&lease, end, to));
            }
            2 => {
                let view = insist(async || store.run(run).await).await;
                let ready = view.jobs.iter().find(|job| job.state == JobState::Ready);
                let to = *seed.pick(&[JobState::Skipped, JobState::Cancelled]);
                next.jobs =
                    ready.map(|job| JobStep::new(job.id, job.state, to)).into_iter().collect();
            }
            _ => {
                // What is inside of a step is no step of its own.
                let inside = if seed.chance(1, 4) { "a/" } else { "" };
                next.new_jobs = vec![new_job(&format!("{inside}{added}"), None)];
                added += 1;
            }
        }
        if next != decision(run, revision) {
            alone(store, next).await;
        }
        let (summary, view) =
            (summary(store, run).await, insist(async || store.run(run).await).await);
        assert_eq!(counted(&summary), of_rows(&view), "{run}");
    }
}

/// Nobody else decides about this run: what conflicts was committed before, and its answer was lost.
async fn alone(store: &dyn Store, next: Decision) {
    loop {
        match store.commit(next.clone()).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => return,
            Err(error) if error.is_transient() => (),
            Err(error) => panic!("{error}"),
        }
    }
}

/// By somebody else; when the run has moved meanwhile there is nothing to compare.
async fn look(store: &dyn Store, run: &RunId) {
    let before = summary(store, run).await;
    let view = insist(async || store.run(run).await).await;
    let after = summary(store, run).await;
    if counted(&before) == counted(&after) && before.revision == after.revision {
        assert_eq!(counted(&before), of_rows(&view), "{run}");
    }
}

async fn summary(store: &dyn Store, run: &RunId) -> RunSummary {
    let listed = insist(async || store.unfinished_runs().await).await;
    let found = listed.into_iter().find(|summary| summary.run == *run).unwrap();
    let all = insist(async || store.runs(ALL).await).await;
    assert_eq!(all.len(), RUNS);
    found
}

fn counted(summary: &RunSummary) -> (u64, u64) {
    (summary.jobs, summary.jobs_done)
}

fn of_rows(view: &RunView) -> (u64, u64) {
    let outermost = || view.jobs.iter().filter(|job| !job.key.as_str().contains('/'));
    let done = outermost().filter(|job| job.state.is_terminal()).count();
    (outermost().count() as u64, done as u64)
}
