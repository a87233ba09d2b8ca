//! Every pair of states that can be reached is refused or accepted as the core says.

use perennial_core::run::{AttemptEnd, JobState, RunState};
use perennial_store::{Decision, JobStep, Store, StoreError};

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    runs_move_as_the_core_says,
    jobs_move_as_the_core_says,
    reports_move_jobs_as_the_core_says,
);

/// How a run gets into a state; `None` is a state that no operation leads to.
fn way(to: RunState) -> Option<&'static [RunState]> {
    match to {
        RunState::Pending => None,
        RunState::Running => Some(&[]),
        RunState::Paused => Some(&[RunState::Paused]),
        RunState::Cancelling => Some(&[RunState::Cancelling]),
        RunState::Succeeded => Some(&[RunState::Succeeded]),
        RunState::PartiallySucceeded => Some(&[RunState::PartiallySucceeded]),
        RunState::Failed => Some(&[RunState::Failed]),
        RunState::TimedOut => Some(&[RunState::TimedOut]),
        RunState::Cancelled => Some(&[RunState::Cancelling, RunState::Cancelled]),
        RunState::Compensating => Some(&[RunState::Compensating]),
        RunState::CompensationFailed => {
            Some(&[RunState::Compensating, RunState::CompensationFailed])
        }
    }
}

/// Proves INV-5, D7.
async fn runs_move_as_the_core_says(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    for from in RunState::ALL {
        let Some(way) = way(*from) else { continue };
        for to in RunState::ALL {
            let Started { run, mut revision, .. } =
                start_on(store, &format!("{from}-{to}"), &node).await;
            let mut state = RunState::Running;
            for next in way {
                let step = entering(&run, revision, state, *next);
                revision = committed(store.commit(step).await.unwrap()).0;
                state = *next;
            }
            let before = store.run(&run).await.unwrap();
            let outcome = store.commit(entering(&run, revision, *from, *to)).await;
            let after = store.run(&run).await.unwrap();
            match from.enter(*to) {
                Ok(_) => {
                    assert!(outcome.is_ok(), "{from} to {to}: {outcome:?}");
                    assert_eq!(after.run.state, *to);
                }
                Err(refusal) => {
                    assert_eq!(outcome, Err(StoreError::InvalidState(refusal)));
                    assert_eq!(after, before);
                }
            }
        }
    }
}

/// Proves INV-5.
async fn jobs_move_as_the_core_says(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    // No operation blocks a job, and only a group joins.
    let odd = |state: &&JobState| matches!(state, JobState::Blocked | JobState::Joining);
    for from in JobState::ALL.iter().filter(|state| !odd(state)) {
        for to in JobState::ALL {
            let Started { run, lease, mut revision, .. } =
                start_on(store, &format!("{from}-{to}"), &node).await;
            if *from != JobState::Leased {
                let first = report(&lease, end_into(*from), *from);
                let first = Decision { report: Some(first), ..decision(&run, revision) };
                revision = committed(store.commit(first).await.unwrap()).0;
            }
            let deferral = (*to == JobState::Deferred).then(|| deferral(store.now()));
            let step = JobStep { deferral, ..JobStep::new(lease.job, *from, *to) };
            let jobs = vec![step];
            let before = store.run(&run).await.unwrap();
            let outcome = store.commit(Decision { jobs, ..decision(&run, revision) }).await;
            let after = store.run(&run).await.unwrap();
            // Only a claim leases, only an attempt says what to wait for, and a step has no children.
            let is_own = matches!(to, JobState::Leased | JobState::Suspended | JobState::Joining);
            if from.enter(*to).is_ok() && !is_own {
                assert!(outcome.is_ok(), "{from} to {to}: {outcome:?}");
                assert_eq!(after.jobs[0].state, *to);
                assert!(after.attempts[0].end.is_some());
            } else {
                let refused = matches!(outcome, Err(StoreError::InvalidState(_)));
                assert!(refused, "{from} to {to}: {outcome:?}");
                assert_eq!(after, before);
            }
        }
    }
}

/// How the attempt ends that leads its job into a state.
fn end_into(state: JobState) -> AttemptEnd {
    match state {
        JobState::Deferred => AttemptEnd::Unavailable,
        JobState::Suspended => AttemptEnd::Suspended,
        JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Joining
        | JobState::Succeeded
        | JobState::Partial
        | JobState::Failed
        | JobState::Skipped
        | JobState::Cancelled => AttemptEnd::Error,
    }
}

async fn reports_move_jobs_as_the_core_says(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    for end in AttemptEnd::ALL {
        for to in JobState::ALL {
            let started = start_on(store, &format!("{end}-{to}"), &node).await;
            let outcome = store.commit(reporting(&started, *end, *to)).await;
            let job = only_job(store, &started.run).await;
            if JobState::Leased.enter(*to).is_ok() {
                assert!(outcome.is_ok(), "{end} to {to}: {outcome:?}");
                assert_eq!(job.state, *to);
                assert_eq!(job.attempts_used, u32::from(end.uses_budget()));
            } else {
                let refused = matches!(outcome, Err(StoreError::InvalidState(_)));
                assert!(refused, "{end} to {to}: {outcome:?}");
                assert_eq!(job.state, JobState::Leased);
            }
        }
    }
}
