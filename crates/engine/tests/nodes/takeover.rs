//! A node that dies, or cannot reach the store: what the others do, and what it does itself.

use std::time::Duration;

use perennial_core::run::{AttemptEnd, RunState};
use perennial_engine::scheduler::Adoption;
use perennial_store::{LEASE_TTL, MemoryStore, Store};

use crate::{
    link::Weather,
    node::{Node, checked},
    work::{Log, now},
};

const LONG: Duration = Duration::from_secs(60);

async fn two() -> (MemoryStore, Log, Node, Node) {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let a = Node::start("a", &store, &log, Adoption::AtBoot).await;
    let b = Node::start("b", &store, &log, Adoption::AtBoot).await;
    (store, log, a, b)
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // paused clock
}

/// Waits until that is so, as the clock goes.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if what() {
            return;
        }
        pass(Duration::from_millis(10)).await;
    }
    panic!("it never was so");
}

/// Proves INV-13, INV-ST-13, D19, D43.
/// PERF-7, DUR-21: its attempt is stopped before anybody else may start it, and the other node starts it
/// within two seconds from the end of the lease.
#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_reach_the_store_stops_before_another_goes_on() {
    let (store, log, a, b) = two().await;
    let run = a.begin("r", 2, LONG).await;
    log.begun(1).await;
    pass(LEASE_TTL).await;
    a.link.set(Weather::Down);
    let gone = now();
    log.begun(2).await;
    let entries = log.entries();
    let (first, second) = (&entries[0], &entries[1]);
    assert_eq!((first.node.as_str(), second.node.as_str()), ("a", "b"));
    assert_eq!((first.attempt, second.attempt, first.ended), (1, 2, false));
    assert!(first.over.unwrap() <= gone + LEASE_TTL * 8 / 10);
    // The last renewal was a third of a lease before, at most.
    assert!(second.begun >= gone + LEASE_TTL * 6 / 10);
    assert!(second.begun <= gone + LEASE_TTL + Duration::from_secs(2), "{:?}", second.begun - gone);
    let outcome = b.runs.get(run.id()).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    let view = checked(&store, run.id()).await;
    let ends: Vec<_> = view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    assert_eq!(ends, [AttemptEnd::Expired, AttemptEnd::Succeeded, AttemptEnd::Succeeded]);
    log.assert_one_at_a_time();
    a.stop().await;
    b.stop().await;
}

/// Proves INV-4, INV-ST-12, INV-ST-15.
/// D23: after two leases it is another incarnation, which leaves what is others'.
#[tokio::test(start_paused = true)]
async fn a_zombie_comes_back_as_another_and_changes_nothing() {
    let (store, log, a, b) = two().await;
    let run = a.begin("r", 1, LONG).await;
    log.begun(1).await;
    a.link.set(Weather::Down);
    pass(LEASE_TTL * 2).await;
    assert_eq!(log.entries()[1].node, "b");
    let before = store.run(run.id()).await.unwrap();
    a.link.set(Weather::Fair);
    until(|| a.incarnation() == 2 && a.is_at("safe")).await;
    assert_eq!(store.run(run.id()).await.unwrap(), before);
    let actor = "/engine/runs/r";
    assert!(b.has(actor) && !a.has(actor), "it has left what was others'");
    assert_eq!(a.detail("/engine/scheduler/lease")["losses"], 1);
    // It goes on with what is its own.
    let other = a.begin("s", 1, Duration::from_secs(1)).await;
    assert_eq!(other.outcome().await.unwrap().state, RunState::Succeeded);
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    let view = checked(&store, run.id()).await;
    assert_eq!(view.jobs[0].result, Some("b".into()));
    assert_eq!(log.entries().len(), 3, "nothing was begun again");
    let nodes = store.nodes(9).await.unwrap();
    let alive: Vec<_> = nodes.iter().filter(|node| node.alive).map(|node| &node.node).collect();
    assert_eq!(alive.len(), 2);
    a.stop().await;
    b.stop().await;
}

/// Proves INV-4, D23.
/// A report that was sent in time and arrives late.
#[tokio::test(start_paused = true)]
async fn a_report_that_arrives_after_another_attempt_has_begun_is_refused() {
    let (store, log, a, b) = two().await;
    let run = a.begin("r", 1, Duration::from_secs(1)).await;
    log.begun(1).await;
    a.link.set(Weather::SlowCommits(LEASE_TTL * 3));
    until(|| log.entries()[0].ended).await;
    // It waits for its answer, and is no node any more: in no hurry, as nothing tells it.
    let lost = store.nodes(9).await.unwrap().into_iter().find(|node| node.node.node == "a");
    store.renew(&lost.unwrap().node, Duration::ZERO).await.unwrap();
    let outcome = b.runs.get(run.id()).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.view.jobs[0].result, Some("b".into()));
    pass(LEASE_TTL * 4).await;
    let view = checked(&store, run.id()).await;
    let ends: Vec<_> = view.attempts.iter().map(|attempt| attempt.end.unwrap()).collect();
    assert_eq!(ends, [AttemptEnd::Expired, AttemptEnd::Succeeded]);
    a.stop().await;
    b.stop().await;
}

/// Proves INV-14.
/// DUR-25: of ten leases, and with renewals that fail for half of each.
#[tokio::test(start_paused = true)]
async fn an_attempt_of_ten_leases_on_a_live_node_is_never_reclaimed() {
    let (store, log, a, b) = two().await;
    let run = a.begin("r", 1, LEASE_TTL * 10).await;
    log.begun(1).await;
    for _ in 0..10 {
        a.link.set(Weather::NoRenewals);
        pass(LEASE_TTL / 2).await;
        a.link.set(Weather::Fair);
        pass(LEASE_TTL / 2).await;
    }
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.view.attempts.len(), 1);
    assert_eq!(outcome.view.jobs[0].result, Some("a".into()));
    assert_eq!((a.incarnation(), log.entries().len()), (1, 1));
    checked(&store, run.id()).await;
    a.stop().await;
    b.stop().await;
}

/// DUR-11, DUR-21: from 0.6 of the lease on nothing begins; a renewal in time brings all of it back.
#[tokio::test(start_paused = true)]
async fn without_renewals_nothing_begins_and_then_nothing_goes_on() {
    let (store, log, a, b) = two().await;
    let second = Duration::from_secs(1);
    let short = a.begin("short", 60, second).await;
    let long = a.begin("long", 1, LONG).await;
    log.begun(2).await;
    // Just after a renewal.
    let until_ms = |node: &Node| node.detail("/engine/scheduler/lease")["unrenewed_ms"].as_u64();
    until(|| until_ms(&a).unwrap() < 20).await;
    let renewed = now();
    a.link.set(Weather::NoRenewals);
    until(|| a.is_at("claims_stopped")).await;
    assert!(now() >= renewed + LEASE_TTL * 6 / 10 - second / 10);
    let begun = log.entries().len();
    until(|| a.is_at("work_stopped")).await;
    assert_eq!(log.entries().len(), begun, "nothing began without a lease that is safe");
    pass(second / 10).await;
    assert!(log.entries().iter().all(|entry| entry.over.is_some()), "and nothing goes on");
    a.link.set(Weather::Fair);
    until(|| a.is_at("safe")).await;
    assert_eq!(a.incarnation(), 1, "it was in time");
    for run in [short, long] {
        assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
        let view = checked(&store, run.id()).await;
        assert!(view.jobs.iter().all(|job| job.result == Some("a".into()) && job.crashes == 0));
    }
    log.assert_one_at_a_time();
    a.stop().await;
    b.stop().await;
}

/// A node that adopts nothing by itself still goes on with its own runs.
#[tokio::test(start_paused = true)]
async fn a_node_alone_goes_on_with_its_runs_as_another_incarnation() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let a = Node::start("a", &store, &log, Adoption::OnRequest).await;
    let run = a.begin("r", 3, Duration::from_secs(8)).await;
    log.begun(2).await;
    a.link.set(Weather::Down);
    pass(LEASE_TTL * 2).await;
    a.link.set(Weather::Fair);
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    assert_eq!(a.incarnation(), 2);
    let view = checked(&store, run.id()).await;
    let crashes: Vec<_> = view.jobs.iter().map(|job| job.crashes).collect();
    assert_eq!(crashes, [0, 1, 0]);
    log.assert_one_at_a_time();
    a.stop().await;
}

/// From one moment to the next.
async fn end_lease(store: &MemoryStore, name: &str) {
    let nodes = store.nodes(9).await.unwrap();
    let node = nodes.into_iter().find(|node| node.node.node == name).unwrap().node;
    store.renew(&node, Duration::ZERO).await.unwrap();
}

/// Proves INV-4.
/// It learns that it is lost without any doubt before, and goes on with its own run: not beside what it was at.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_lost_at_once_stops_its_attempts_before_it_goes_on() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let a = Node::start("a", &store, &log, Adoption::AtBoot).await;
    let run = a.begin("r", 1, LONG).await;
    log.begun(1).await;
    end_lease(&store, "a").await;
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    let entries = log.entries();
    assert_eq!((a.incarnation(), entries.len(), entries[0].ended), (2, 2, false));
    log.assert_one_at_a_time();
    checked(&store, run.id()).await;
    a.stop().await;
}

/// DUR-11: the claim was sent while the lease was safe, and arrives when it no longer is.
#[tokio::test(start_paused = true)]
async fn what_is_claimed_too_late_is_not_begun_and_given_back() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let a = Node::start("a", &store, &log, Adoption::AtBoot).await;
    let run = a.begin("r", 2, Duration::from_secs(1)).await;
    log.begun(1).await;
    let late = LEASE_TTL * 61 / 100;
    a.link.set(Weather::SlowCommits(late));
    // The commit is on its way when this looks.
    pass(Duration::from_millis(5)).await;
    until(|| log.entries()[0].ended).await;
    a.link.set(Weather::NoRenewals);
    pass(late).await;
    let ends = |view: perennial_store::RunView| -> Vec<_> {
        view.attempts.iter().map(|attempt| attempt.end).collect()
    };
    let (succeeded, released) = (Some(AttemptEnd::Succeeded), Some(AttemptEnd::Released));
    assert_eq!(ends(store.run(run.id()).await.unwrap()), [succeeded, released], "claimed in vain");
    assert_eq!(log.entries().len(), 1);
    a.link.set(Weather::Fair);
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    assert_eq!(ends(checked(&store, run.id()).await), [succeeded, released, succeeded]);
    assert_eq!((a.incarnation(), log.entries().len()), (1, 2));
    a.stop().await;
}

/// The store says that it does not live before it knows: its keeper asks, and nobody is given up for it.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_told_so_by_the_store_joins_again() {
    let (store, log, a, b) = two().await;
    let run = a.begin("r", 20, Duration::from_millis(500)).await;
    log.begun(3).await;
    end_lease(&store, "a").await;
    assert_eq!(run.outcome().await.unwrap().state, RunState::Succeeded);
    until(|| a.incarnation() == 2 && a.is_at("safe")).await;
    checked(&store, run.id()).await;
    let ownership = a.detail("/engine/scheduler/ownership");
    assert_eq!(ownership["parked"], serde_json::json!({}), "{ownership}");
    a.stop().await;
    b.stop().await;
}

/// DUR-120: one that ends in good order gives back at once; nobody waits for the end of its lease.
#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_is_followed_at_once() {
    let (store, log, a, b) = two().await;
    let run = a.begin("r", 1, LONG).await;
    log.begun(1).await;
    a.stop().await;
    let stopped = now();
    log.begun(2).await;
    assert!(log.entries()[1].begun <= stopped + Duration::from_secs(2));
    b.runs.get(run.id()).await.unwrap().outcome().await.unwrap();
    let view = checked(&store, run.id()).await;
    assert_eq!(view.attempts[0].end, Some(AttemptEnd::Released));
    assert_eq!(view.jobs[0].crashes, 0);
    b.stop().await;
}

/// Proves D50.
/// A node that dies amid the handing out of many jobs, at several points of it: within one lease, one sweep and one look the other
/// has claimed all that was left, each once more at most. Those that may have killed it come one at a time (SM-31): of long
/// ones each as soon as the one before has ended.
#[tokio::test(start_paused = true)]
async fn many_jobs_that_are_handed_out_when_their_node_dies_are_claimed_by_another() {
    const JOBS: usize = 60;
    let (short, long) = (Duration::from_millis(10), Duration::from_secs(5));
    for (begun, takes) in [(1, short), (7, short), (20, short), (33, short), (1, long)] {
        let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
        // It hands out 20 at a time.
        let a = Node::start_with("a", &store, &log, Adoption::AtBoot, 20).await;
        let b = Node::start("b", &store, &log, Adoption::AtBoot).await;
        let run = a.begin_with("r", JOBS, takes, true).await;
        log.begun(begun).await;
        a.link.set(Weather::Down);
        let gone = now();
        let outcome = b.runs.get(run.id()).await.unwrap().outcome().await.unwrap();
        assert_eq!(outcome.state, RunState::Succeeded);
        let view = checked(&store, run.id()).await;
        let entries = log.entries();
        let mut second: Vec<_> = entries.iter().filter(|entry| entry.node == "b").collect();
        second.sort_by_key(|entry| entry.begun);
        let ended = view.jobs.iter().filter(|job| job.result == Some("a".into())).count();
        assert_eq!((second.len(), view.jobs.len()), (JOBS - ended, JOBS), "{begun}: each once");
        let (soon, mut before) = (gone + LEASE_TTL + Duration::from_secs(2), None);
        for entry in second {
            if entry.attempt == 1 || takes == short {
                assert!(entry.begun <= soon, "{begun}: {} {:?}", entry.job, entry.begun - gone);
            }
            if entry.attempt > 1 {
                let since = before.unwrap_or(soon);
                assert!(entry.begun <= since + short, "{begun}: {}", entry.job);
                before = entry.over;
            }
        }
        assert!(takes == short || before.is_some(), "some of them had begun");
        log.assert_one_at_a_time();
        a.stop().await;
        b.stop().await;
    }
}
