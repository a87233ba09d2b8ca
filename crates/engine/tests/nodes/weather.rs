//! Several nodes, many runs, and bad ways to the store by chance.

use std::{sync::Arc, time::Duration};

use perennial_core::run::RunState;
use perennial_engine::{RunError, scheduler::Adoption, upkeep::Upkeep};
use perennial_store::{LEASE_TTL, MemoryStore, Store as _, StoreError};
use perennial_testkit::Seed;

use crate::{
    link::{Link, Weather},
    node::{Node, checked},
    work::{Log, now},
};

const RUNS: usize = 24;

/// Proves INV-3, INV-30, INV-ST-10, D17.
/// D17: whatever happens to their ways, no job is worked on twice at a time, each is recorded once, and all runs
/// end.
#[tokio::test(start_paused = true)]
async fn three_nodes_in_bad_weather_lose_and_repeat_nothing() {
    bad_weather("three_nodes_in_bad_weather_lose_and_repeat_nothing", &["a", "b", "c"]).await;
}

/// Proves INV-30.
#[tokio::test(start_paused = true)]
async fn two_nodes_in_bad_weather_lose_and_repeat_nothing() {
    bad_weather("two_nodes_in_bad_weather_lose_and_repeat_nothing", &["a", "b"]).await;
}

/// Proves INV-30.
#[tokio::test(start_paused = true)]
async fn four_nodes_in_bad_weather_lose_and_repeat_nothing() {
    bad_weather("four_nodes_in_bad_weather_lose_and_repeat_nothing", &["a", "b", "c", "d"]).await;
}

async fn bad_weather(test: &str, names: &[&str]) {
    let mut seed = Seed::of_test(test);
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(Node::start(name, &store, &log, Adoption::AtBoot).await);
    }
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let count = usize::try_from(seed.between(1..6)).unwrap();
        let takes = Duration::from_millis(seed.between(100..4_000));
        let (node, at_once) = (&nodes[number % nodes.len()], seed.chance(1, 2));
        let run = node.begin_with(&format!("r{number}"), count, takes, at_once).await;
        runs.push(run.id().clone());
    }
    for _ in 0..40 {
        let weather = [
            Weather::Fair,
            Weather::Fair,
            Weather::Down,
            Weather::Deaf,
            Weather::NoRenewals,
            Weather::DeafToClaims,
            Weather::SlowCommits(LEASE_TTL * 2),
        ];
        seed.pick(&nodes).link.set(*seed.pick(&weather));
        let time = Duration::from_millis(seed.between(50..2_500));
        tokio::time::sleep(time).await; // paused clock
    }
    for node in &nodes {
        node.link.set(Weather::Fair);
    }
    for run in &runs {
        let handle = nodes[0].runs.get(run).await.unwrap();
        let within = Duration::from_secs(600);
        let outcome = tokio::time::timeout(within, handle.outcome()).await; // paused clock
        let Ok(outcome) = outcome else {
            let (view, nodes) = (store.run(run).await, store.nodes(u32::MAX).await);
            panic!("{run} does not end: {view:#?}, {nodes:#?}");
        };
        let outcome = outcome.unwrap();
        let lost = outcome.view.jobs.iter().any(|job| job.dead_letter);
        assert!(outcome.state == RunState::Succeeded || lost, "{run} {}", outcome.state);
        if !lost {
            checked(&store, run).await;
        }
    }
    log.assert_one_at_a_time();
    for node in nodes {
        node.stop().await;
    }
}

/// Who asks is told at once; what goes on by itself waits for whoever puts it right, and loses and repeats nothing.
#[tokio::test(start_paused = true)]
async fn what_somebody_has_to_put_right_is_told_at_once_and_waited_for() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let node = Node::start("a", &store, &log, Adoption::AtBoot).await;
    let run = node.begin("r", 3, Duration::from_secs(1)).await;
    log.begun(2).await;
    node.link.set(Weather::Forbidden);
    let asked = now();
    let refused = node.runs.list(9).await.unwrap_err();
    assert!(matches!(refused, RunError::Store(StoreError::Refused { .. })), "{refused:?}");
    assert_eq!(now(), asked, "at once");
    tokio::time::sleep(Duration::from_secs(300)).await; // paused clock
    assert_eq!(node.detail("/engine/scheduler/ownership")["parked"], serde_json::json!({}));
    node.link.set(Weather::Fair);
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    assert_eq!(log.entries().len(), 3, "nothing was begun again");
    checked(&store, run.id()).await;
    node.stop().await;
}

/// A run that has ended, to be removed, and a way to the store.
async fn to_remove() -> (MemoryStore, Upkeep, Link, perennial_core::run::RunId) {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let node = Node::start("a", &store, &log, Adoption::AtBoot).await;
    let run = node.begin("r", 1, Duration::from_millis(1)).await;
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    let id = run.id().clone();
    node.stop().await;
    let link = Link::to(&store);
    (store, Upkeep::new(Arc::new(link.clone())), link, id)
}

/// Somebody waits for it before a screen.
#[tokio::test(start_paused = true)]
async fn a_removal_that_nobody_answers_is_given_up() {
    let (_store, upkeep, link, run) = to_remove().await;
    link.set(Weather::Silent);
    let within = Duration::from_secs(60);
    let outcome = tokio::time::timeout(within, upkeep.purge(&run)).await.expect("it ends");
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_answer_is_lost_is_done_once() {
    let (_store, upkeep, link, run) = to_remove().await;
    link.set(Weather::Deaf);
    let (outcome, ()) = tokio::join!(upkeep.purge(&run), async {
        tokio::time::sleep(Duration::from_secs(1)).await; // paused clock
        link.set(Weather::Fair);
    });
    outcome.unwrap();
    let refused = upkeep.purge(&run).await;
    assert!(matches!(refused, Err(StoreError::Removed { .. })), "{refused:?}");
}
