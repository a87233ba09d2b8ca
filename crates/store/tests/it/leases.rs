use std::time::Duration;

use perennial_core::run::{AttemptEnd, JobState, RunState};
use perennial_store::{Committed, Decision, Lease, Rescued, Store, StoreError, verify};
use serde_json::Value;

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    a_job_is_claimed_once,
    nothing_is_claimed_from_a_run_that_is_not_running,
    a_job_waits_for_its_time,
    a_released_job_keeps_its_budget,
    the_jobs_of_an_earlier_incarnation_are_rescued,
    a_rescue_takes_no_more_than_it_is_told_to,
    a_job_that_keeps_killing_its_process_waits_for_a_decision,
    a_job_with_many_attempts_dies_three_times_at_most,
    deaths_use_no_attempt_of_the_policy,
    a_job_dies_as_often_as_it_may,
    suspects_run_one_at_a_time_and_stand_in_nobody_s_way,
    a_stale_attempt_writes_nothing,
    an_incarnation_that_lives_is_not_rescued,
);

async fn a_job_is_claimed_once(store: &dyn Store) {
    let Started { run, node, lease, revision } = start(store, "r").await;
    let new_jobs = ["b", "c", "d"].map(|key| new_job(key, None)).to_vec();
    store.commit(Decision { new_jobs, ..decision(&run, revision) }).await.unwrap();
    let two = store.claim(&run, &node, 2).await.unwrap();
    let rest = store.claim(&run, &node, ALL).await.unwrap();
    let keys = |claimed: &[perennial_store::Claimed]| -> Vec<String> {
        claimed.iter().map(|job| job.lease.key.to_string()).collect()
    };
    assert_eq!((keys(&two), keys(&rest)), (vec!["b".into(), "c".into()], vec!["d".into()]));
    assert_eq!((two[0].lease.attempt, two[0].stage.as_str()), (1, STAGE));
    assert_eq!(two[0].input, new_job("b", None).input);
    assert!(store.claim(&run, &node, ALL).await.unwrap().is_empty());
    let view = store.run(&run).await.unwrap();
    assert_eq!(view.run.revision, revision + 1, "claims decide nothing");
    assert_eq!(view.attempts.len(), 4);
    assert!(view.jobs.iter().all(|job| job.lease.as_ref() == Some(&lease.node) && job.lease_alive));
    history(store, "r").await;
}

async fn nothing_is_claimed_from_a_run_that_is_not_running(store: &dyn Store) {
    let Started { run, node, revision, .. } = start(store, "r").await;
    let new_jobs = vec![new_job("b", None)];
    store.commit(Decision { new_jobs, ..decision(&run, revision) }).await.unwrap();
    let pause = entering(&run, revision + 1, RunState::Running, RunState::Paused);
    assert_eq!(committed(store.commit(pause).await.unwrap()).2, ["run_paused"]);
    assert!(store.claim(&run, &node, ALL).await.unwrap().is_empty());
    let new_jobs = vec![new_job("c", Some(&node))];
    let refused = store.commit(Decision { new_jobs, ..decision(&run, revision + 2) }).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
    let resume = entering(&run, revision + 2, RunState::Paused, RunState::Running);
    assert_eq!(committed(store.commit(resume).await.unwrap()).2, ["run_resumed"]);
    assert_eq!(store.claim(&run, &node, ALL).await.unwrap().len(), 1);
}

async fn a_job_waits_for_its_time(store: &dyn Store) {
    let started = start(store, "r").await;
    let later = store.now().after(Duration::from_secs(3600));
    let mut retry = reporting(&started, AttemptEnd::Error, JobState::Ready);
    retry.report.as_mut().unwrap().run_after = Some(later);
    let (_, _, events) = committed(store.commit(retry).await.unwrap());
    assert_eq!(events, ["attempt_failed"]);
    assert!(store.claim(&started.run, &started.node, ALL).await.unwrap().is_empty());
    assert_eq!(store.next_due().await, Ok(Some(later)));
    let job = only_job(store, &started.run).await;
    assert_eq!((job.state, job.run_after, job.attempts_used), (JobState::Ready, Some(later), 1));
    assert_eq!(job.lease, None);
}

async fn a_released_job_keeps_its_budget(store: &dyn Store) {
    let Started { run, node, lease, .. } = start(store, "r").await;
    let attempt = store.release(&lease, "shutting down").await.unwrap();
    assert_eq!((attempt.end, attempt.uncertain), (Some(AttemptEnd::Released), false));
    let job = only_job(store, &run).await;
    assert_eq!((job.state, job.attempts_used, job.crashes), (JobState::Ready, 0, 0));
    let again = store.claim(&run, &node, ALL).await.unwrap();
    assert_eq!(again[0].lease.attempt, 2, "the fencing number rises");
    let stale = store.release(&lease, "again").await;
    assert_eq!(stale, Err(StoreError::StaleAttempt { job: lease.job, attempt: 1 }));
}

async fn the_jobs_of_an_earlier_incarnation_are_rescued(store: &dyn Store) {
    let Started { run, lease, revision, .. } = start(store, "r").await;
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    assert!(!only_job(store, &run).await.lease_alive);
    assert!(store.rescue(Some(&run_id("other")), ALL).await.unwrap().is_empty());
    let rescued = store.rescue(None, ALL).await.unwrap();
    let expected = Rescued {
        run: run.clone(),
        key: lease.key.clone(),
        attempt: 1,
        uncertain: false,
        exhausted: false,
    };
    assert_eq!(rescued, [expected]);
    assert!(store.rescue(Some(&run), ALL).await.unwrap().is_empty());
    let view = store.run(&run).await.unwrap();
    assert_eq!(view.attempts[0].end, Some(AttemptEnd::Expired));
    let job = &view.jobs[0];
    assert_eq!((job.state, job.crashes, job.attempts_used), (JobState::Ready, 1, 0));
    assert_eq!(view.run.revision, revision);
    assert_eq!(history(store, "r").await.last().unwrap(), "attempt_expired");
    assert_eq!(store.claim(&run, &node, ALL).await.unwrap()[0].lease.attempt, 2);
}

/// Proves INV-33.
async fn a_rescue_takes_no_more_than_it_is_told_to(store: &dyn Store) {
    let node = start(store, "a").await.node;
    for run in ["b", "c"] {
        start_on(store, run, &node).await;
    }
    store.register_node_on("n", EXCLUSIVE).await.unwrap();
    let mut found = Vec::new();
    for most in [2, 2, 2] {
        found.push(store.rescue(None, most).await.unwrap().len());
    }
    assert_eq!(found, [2, 1, 0]);
}

async fn a_job_that_keeps_killing_its_process_waits_for_a_decision(store: &dyn Store) {
    let Started { run, mut lease, revision, .. } = start(store, "r").await;
    for attempt in 1..=3 {
        let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        let rescued = store.rescue(Some(&run), ALL).await.unwrap();
        assert_eq!((rescued[0].attempt, rescued[0].exhausted), (attempt, attempt == 3));
        if attempt < 3 {
            lease = store.claim(&run, &node, ALL).await.unwrap().remove(0).lease;
        }
    }
    assert_eq!(only_job(store, &run).await.state, JobState::Leased);
    let mut end = report(&lease, AttemptEnd::Expired, JobState::Failed);
    end.dead_letter = true;
    let lie = report(&lease, AttemptEnd::Succeeded, JobState::Succeeded);
    let lie = Decision { report: Some(lie), ..decision(&run, revision) };
    let refused = store.commit(lie).await;
    assert!(matches!(refused, Err(StoreError::StaleAttempt { .. })), "{refused:?}");
    let end = Decision { report: Some(end), ..decision(&run, revision) };
    let (_, _, events) = committed(store.commit(end).await.unwrap());
    assert_eq!(events, ["attempt_expired", "job_failed", "job_dead_lettered"]);
    let job = only_job(store, &run).await;
    assert_eq!((job.state, job.dead_letter, job.attempts_used), (JobState::Failed, true, 0));
    // Attempts that died have used none: there are some left, and it is given up all the same.
    assert_eq!(verify(store).await.unwrap(), []);
    assert!(store.rescue(None, ALL).await.unwrap().is_empty());
}

async fn a_job_with_many_attempts_dies_three_times_at_most(store: &dyn Store) {
    let mut node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut new = new_run("r", &node);
    new.jobs[0].max_attempts = 100;
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    for death in 1..=3 {
        node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        let rescued = store.rescue(None, ALL).await.unwrap();
        assert_eq!((rescued.len(), rescued[0].exhausted), (1, death == 3));
        store.claim(&run, &node, ALL).await.unwrap();
    }
}

/// Proves INV-19.
/// One failure and two deaths use one of two attempts: the third death is one too many.
async fn deaths_use_no_attempt_of_the_policy(store: &dyn Store) {
    let mut node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut new = new_run("r", &node);
    new.jobs[0].max_attempts = 2;
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    for death in 1..=3 {
        node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        let rescued = store.rescue(None, ALL).await.unwrap();
        assert_eq!((rescued.len(), rescued[0].exhausted), (1, death == 3));
        let lease = store.claim(&run, &node, ALL).await.unwrap().pop().map(|it| it.lease);
        if death == 1 {
            let late = report(&lease.unwrap(), AttemptEnd::TimedOut, JobState::Ready);
            let revision = store.run(&run).await.unwrap().run.revision;
            let late = Decision { report: Some(late), ..decision(&run, revision) };
            committed(store.commit(late).await.unwrap());
            assert_eq!(store.claim(&run, &node, ALL).await.unwrap().len(), 1);
        }
    }
    assert_eq!(only_job(store, &run).await.attempts_used, 1);
}

/// Proves INV-ST-17.
async fn a_job_dies_as_often_as_it_may(store: &dyn Store) {
    for crashes_max in [1, 2, 5] {
        let mut node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        let mut new = new_run(&format!("r{crashes_max}"), &node);
        new.jobs[0].crashes_max = crashes_max;
        let run = new.run.clone();
        store.create_run(new).await.unwrap();
        assert_eq!(only_job(store, &run).await.crashes_max, crashes_max);
        for death in 1..=crashes_max {
            node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
            let rescued = store.rescue(Some(&run), ALL).await.unwrap();
            assert_eq!((rescued.len(), rescued[0].exhausted), (1, death == crashes_max));
            store.claim(&run, &node, ALL).await.unwrap();
        }
    }
}

/// Proves INV-ST-17.
async fn suspects_run_one_at_a_time_and_stand_in_nobody_s_way(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut new = new_run("r", &node);
    new.jobs.extend([new_job("b", Some(&node)), new_job("c", None)]);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let other = new_run("s", &node);
    let other_run = other.run.clone();
    store.create_run(other).await.unwrap();
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    assert_eq!(store.rescue(None, ALL).await.unwrap().len(), 3, "a and b of r, a of s");
    let claimed = store.claim(&run, &node, ALL).await.unwrap();
    let keys: Vec<_> = claimed.iter().map(|job| job.lease.key.as_str()).collect();
    assert_eq!(keys, ["c", "a"], "who is not suspected comes first, then one suspect");
    assert!(store.claim(&run, &node, ALL).await.unwrap().is_empty());
    assert!(store.claim(&other_run, &node, ALL).await.unwrap().is_empty(), "over all runs");
    store.release(&claimed[1].lease, "enough").await.unwrap();
    assert_eq!(store.claim(&other_run, &node, ALL).await.unwrap().len(), 1);
    assert!(store.claim(&run, &node, ALL).await.unwrap().is_empty());
}

/// Proves INV-4, R3.3, D22, D23.
async fn a_stale_attempt_writes_nothing(store: &dyn Store) {
    let Started { run, node, lease: old, revision } = start(store, "r").await;
    store.release(&old, "lost").await.unwrap();
    let lease = store.claim(&run, &node, 1).await.unwrap().remove(0).lease;
    let before = store.run(&run).await.unwrap();
    let stale = StoreError::StaleAttempt { job: old.job, attempt: 1 };
    let call = perennial_store::CallStart { name: "c".into(), idempotency_key: "k".into() };
    let end = report(&old, AttemptEnd::Succeeded, JobState::Succeeded);
    let commit = Decision { report: Some(end), ..decision(&run, revision) };
    assert_eq!(store.commit(commit).await, Err(stale.clone()));
    assert_eq!(store.begin_call(&old, call.clone()).await, Err(stale.clone()));
    assert_eq!(store.record_call(&old, "c", Value::Null).await, Err(stale.clone()));
    assert_eq!(store.settle_call(&old, "c").await, Err(stale));
    let foreign = [
        Lease { attempt: 3, ..lease.clone() },
        Lease { job: lease.job + 1, ..lease.clone() },
        Lease { run: run_id("other"), ..lease.clone() },
        Lease { node: perennial_store::NodeRef { incarnation: 9, ..node }, ..lease.clone() },
    ];
    for lease in foreign {
        let refused = store.begin_call(&lease, call.clone()).await;
        assert!(matches!(refused, Err(StoreError::StaleAttempt { .. })), "{lease:?} {refused:?}");
    }
    assert_eq!(store.run(&run).await.unwrap(), before);
}

async fn an_incarnation_that_lives_is_not_rescued(store: &dyn Store) {
    let started = start(store, "r").await;
    store.register_node_on("m", EXCLUSIVE).await.unwrap();
    assert!(store.rescue(None, ALL).await.unwrap().is_empty());
    let end = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    assert!(matches!(store.commit(end).await, Ok(Committed::Now { .. })));
}
