//! A cancelled run ends in time, whatever its attempts and its node do.

use std::time::Duration;

use perennial_core::run::{AttemptEnd, JobState, RunState};
use perennial_engine::scheduler::Adoption;
use perennial_store::{LEASE_TTL, MemoryStore, Store};

use crate::{
    link::Weather,
    node::{Node, checked},
    work::{Log, now},
};

const LONG: Duration = Duration::from_secs(600);
/// Of the sweep, and of two looks.
const SWEPT: Duration = Duration::from_secs(3);

/// Proves INV-15.
/// Its node is cut off when it is cancelled and goes on for as long as it may: nothing of the run begins any more,
/// and it has ended one lease and one sweep later. What the node reports then changes nothing.
#[tokio::test(start_paused = true)]
async fn a_cancelled_run_ends_in_time_although_its_node_is_away() {
    for weather in [Weather::Down, Weather::NoRenewals, Weather::Deaf] {
        let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
        let a = Node::start("a", &store, &log, Adoption::AtBoot).await;
        let b = Node::start("b", &store, &log, Adoption::AtBoot).await;
        let run = a.begin_with("r", 3, LONG, true).await;
        let other = a.begin("other", 2, Duration::from_secs(1)).await;
        log.begun(4).await;
        a.link.set(weather);
        let handle = b.runs.get(run.id()).await.unwrap();
        assert!(handle.cancel().await.unwrap());
        let cancelled = now();
        assert!(!handle.cancel().await.unwrap(), "it is so already");
        let outcome = tokio::time::timeout(LEASE_TTL * 10, handle.outcome()).await; // paused clock
        let outcome = outcome.unwrap_or_else(|_| panic!("{weather:?}: it does not end")).unwrap();
        assert_eq!(outcome.state, RunState::Cancelled, "{weather:?}");
        let took = now() - cancelled;
        // What it sends without an answer is done for one more lease, and then it asks no more.
        let leases = if weather == Weather::Deaf { 2 } else { 1 };
        assert!(took <= LEASE_TTL * leases + SWEPT, "{weather:?}: {took:?}");
        let ended = checked_cancelled(&store, &run).await;
        tokio::time::sleep(LEASE_TTL * 4).await; // paused clock
        a.link.set(Weather::Fair);
        tokio::time::sleep(LEASE_TTL * 4).await; // paused clock
        assert_eq!(checked_cancelled(&store, &run).await, ended, "{weather:?}");
        assert_eq!(log.entries().iter().filter(|entry| entry.run == "r").count(), 3);
        // Who was not cancelled goes on somewhere.
        let other = b.runs.get(other.id()).await.unwrap().outcome().await.unwrap();
        assert_eq!(other.state, RunState::Succeeded);
        checked(&store, &other.view.run.run).await;
        a.stop().await;
        b.stop().await;
    }
}

/// The rows of a cancelled run, none of whose attempts goes on.
async fn checked_cancelled(
    store: &MemoryStore,
    run: &perennial_engine::RunHandle,
) -> perennial_store::RunView {
    let mut view = store.run(run.id()).await.unwrap();
    for job in &view.jobs {
        assert_eq!((job.state, job.attempt), (JobState::Cancelled, 1), "{}", job.key);
    }
    let ends = [Some(AttemptEnd::Cancelled), Some(AttemptEnd::Expired)];
    assert!(view.attempts.iter().all(|attempt| ends.contains(&attempt.end)), "{view:#?}");
    let found = perennial_store::verify(store).await.unwrap();
    let of_run: Vec<_> = found.iter().filter(|one| one.stream == run.id().as_str()).collect();
    assert!(of_run.is_empty(), "{of_run:#?}");
    // Whether its owner lives is no matter of the run.
    view.run.owner_alive = false;
    view
}
