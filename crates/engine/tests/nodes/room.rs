//! Room for attempts on a node.

use std::time::Duration;

use perennial_core::run::{JobState, RunState};
use perennial_engine::{WaitsWhy, scheduler::Adoption};
use perennial_store::{MemoryStore, Store};

use crate::{
    node::{Node, checked},
    work::Log,
};

const SECOND: Duration = Duration::from_secs(1);

async fn node(attempts_max: usize) -> (MemoryStore, Log, Node) {
    let (store, log) = (MemoryStore::open().unwrap(), Log::new());
    let node = Node::start_with("a", &store, &log, Adoption::AtBoot, attempts_max).await;
    (store, log, node)
}

/// DUR-16: never more, and nothing is forgotten.
#[tokio::test(start_paused = true)]
async fn no_more_attempts_are_under_way_than_there_is_room() {
    let (store, log, node) = node(3).await;
    let wide = node.begin_with("wide", 40, SECOND, true).await;
    let narrow = node.begin("narrow", 5, SECOND).await;
    log.begun(3).await;
    let jobs = store.run(wide.id()).await.unwrap().jobs;
    let leased = jobs.iter().filter(|job| job.state == JobState::Leased).count();
    assert_eq!((leased, jobs.len()), (3, 40), "those without room are recorded and Ready");
    assert_eq!(narrow.waits_for().unwrap().why, WaitsWhy::Attempts);
    assert_eq!(node.detail("/engine/scheduler")["attempts"], 3);
    for run in [&narrow, &wide] {
        assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
        checked(&store, run.id()).await;
    }
    let entries = log.entries();
    for entry in &entries {
        let at = entry.begun;
        let under = entries.iter().filter(|one| one.begun <= at && one.over.unwrap() > at).count();
        assert!(under <= 3, "{under} at {entry:?}");
    }
    // 45 attempts of a second in three rooms: no room stood empty while somebody waited.
    let (first, last) = (entries[0].begun, entries.last().unwrap().over.unwrap());
    assert!(last - first <= SECOND * 16, "{:?}", last - first);
    assert_eq!(node.detail("/engine/scheduler")["attempts"], 0);
    node.stop().await;
}

/// Proves INV-10.
/// Of the limit that there is on a node: sixteen runs claim at once, one after the other and all at once, and at no
/// commit are there more leases than rooms.
#[tokio::test(start_paused = true)]
async fn at_no_commit_are_there_more_leases_than_rooms() {
    for most in [1, 2, 5] {
        let (store, log, node) = node(most).await;
        let mut runs = Vec::new();
        for number in 0..16_usize {
            let takes = Duration::from_millis(300 + 70 * number as u64);
            runs.push(node.begin_with(&format!("r{number}"), 6, takes, number % 2 == 0).await);
        }
        // Of one instant, ends come first: a room that is left is given to the next one at once.
        let mut changes = Vec::new();
        for run in &runs {
            assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
            checked(&store, run.id()).await;
            for event in store.events(run.id().as_str(), 1, 1_000).await.unwrap() {
                match event.kind.as_str() {
                    "attempt_started" => changes.push((event.at, 1)),
                    "job_succeeded" => changes.push((event.at, -1)),
                    _ => (),
                }
            }
        }
        changes.sort_unstable();
        let (mut leases, mut at_most) = (0, 0);
        for (at, change) in changes {
            leases += change;
            at_most = at_most.max(leases);
            assert!(leases <= i32::try_from(most).unwrap(), "{leases} of {most} at {at}");
        }
        assert_eq!((leases, at_most), (0, i32::try_from(most).unwrap()));
        assert_eq!(log.entries().len(), 16 * 6);
        node.stop().await;
    }
}

/// The long run asked first, and the short one is not kept from its turn.
#[tokio::test(start_paused = true)]
async fn runs_take_turns_when_there_is_no_room_for_all() {
    let (_store, log, node) = node(1).await;
    let long = node.begin("long", 20, SECOND).await;
    let short = node.begin("short", 3, SECOND).await;
    assert_eq!(short.outcome().await.unwrap().state, RunState::Succeeded);
    let begun = log.entries().iter().filter(|entry| entry.run == "long").count();
    assert!(begun <= 5, "{begun}");
    assert_eq!(long.outcome().await.unwrap().state, RunState::Succeeded);
    node.stop().await;
}

/// A run that is cancelled or paused while it waits leaves its turn to others.
#[tokio::test(start_paused = true)]
async fn a_run_that_leaves_the_queue_stops_nobody() {
    let (_store, log, node) = node(1).await;
    let first = node.begin("first", 1, SECOND).await;
    log.begun(1).await;
    let cancelled = node.begin("cancelled", 1, SECOND).await;
    let paused = node.begin("paused", 1, SECOND).await;
    let last = node.begin("last", 1, SECOND).await;
    cancelled.cancel().await.unwrap();
    paused.pause().await.unwrap();
    assert_eq!(last.outcome().await.unwrap().state, RunState::Succeeded);
    assert_eq!(first.outcome().await.unwrap().state, RunState::Succeeded);
    let runs: Vec<_> = log.entries().into_iter().map(|entry| entry.run).collect();
    assert_eq!(runs, ["first", "last"]);
    paused.unpause().await.unwrap();
    assert_eq!(paused.outcome().await.unwrap().state, RunState::Succeeded);
    node.stop().await;
}
