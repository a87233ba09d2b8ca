//! Builds of different age on one store (STO-52, ACC-5.6).

use std::time::Duration;

use perennial_core::run::{AttemptEnd, JobKey, JobState, RunState};
use perennial_engine::{Explanation, scheduler::Adoption};
use perennial_store::{LEASE_TTL, MemoryStore, Store};

use crate::{
    link::Weather,
    node::{Node, checked},
    work::Log,
};

/// ACC-5.6: what a newer build had begun is left as it is by an older one, which says why and goes on with the rest; the
/// next one that knows it goes on.
#[tokio::test(start_paused = true)]
async fn a_run_that_a_build_does_not_know_waits_for_one_that_does() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let newer = Node::start_newer("newer", &store, &log).await;
    let older = Node::start("older", &store, &log, Adoption::AtBoot).await;
    let run = newer.begin_newer("r", 3, LEASE_TTL).await;
    log.begun(1).await;
    newer.link.set(Weather::Down);
    let parked = || older.detail("/engine/scheduler/ownership")["parked"]["r"].clone();
    while parked().is_null() {
        tokio::time::sleep(Duration::from_millis(100)).await; // paused clock
    }
    assert!(parked().as_str().unwrap().contains("hologram"), "{}", parked());
    let own = older.begin("s", 3, LEASE_TTL).await;
    assert_eq!(own.outcome().await.unwrap().state, RunState::Succeeded, "others go on");

    let view = checked(&store, run.id()).await;
    assert_eq!((view.run.state, view.jobs[0].state), (RunState::Running, JobState::Ready));
    assert_eq!(view.attempts.len(), 1, "nothing of it was begun: {:?}", view.attempts);
    assert!(!log.entries().iter().any(|entry| entry.run == "r" && entry.node == "older"));
    let seen = older.runs.get(run.id()).await.unwrap();
    let why = seen.explain(&JobKey::new("step-0")).await.unwrap();
    let Explanation::Quarantined { reason } = &why else { panic!("{why:?}") };
    assert!(reason.contains("hologram"), "{reason}");

    let next = Node::start_newer("next", &store, &log).await;
    let outcome = next.runs.get(run.id()).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    let view = checked(&store, run.id()).await;
    let ends: Vec<_> = view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    let done = AttemptEnd::Succeeded;
    assert_eq!(ends, [AttemptEnd::Expired, done, done, done]);
    log.assert_one_at_a_time();
    for node in [newer, older, next] {
        node.stop().await;
    }
}

/// What is being started is recorded before its workflow is known to whoever looks after runs: it is left alone until
/// then, and neither parked nor told as something that nobody knows.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_just_being_started_is_not_taken_for_one_that_nobody_knows() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let node = Node::start("n", &store, &log, Adoption::AtBoot).await;
    node.link.set(Weather::SlowAnswers("create", Duration::from_secs(5)));
    let parked = async {
        // Longer than the pause between two looks.
        tokio::time::sleep(Duration::from_secs(4)).await; // paused clock
        assert_eq!(store.unfinished_runs().await.unwrap().len(), 1, "it is recorded");
        node.detail("/engine/scheduler/ownership")["parked"]["r"].clone()
    };
    let (run, parked) = tokio::join!(node.begin_newer("r", 3, LEASE_TTL), parked);
    assert!(parked.is_null(), "{parked}");
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    node.stop().await;
}
