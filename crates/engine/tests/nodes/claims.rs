//! How soon what is ready is claimed: with and without anybody who tells of it, and beside runs that are slow.

use std::{sync::Arc, time::Duration};

use perennial_core::run::RunState;
use perennial_engine::{
    Definitions, NotRunnable, Workflow, scheduler::Adoption, workflow::BoxFuture,
};
use perennial_store::{MemoryStore, RunRecord, Store};

use crate::{
    node::{Node, checked},
    work::{Known, Log, now},
};

/// The longest time until a look (DUR-10); what is ready is claimed within two of them.
const POLL: Duration = Duration::from_secs(1);
/// With somebody who tells of it.
const TOLD: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_millis(10);

/// Proves INV-11, FL1.
/// At any moment between two looks: of a run that is left to whoever takes it, and of each next step.
#[tokio::test(start_paused = true)]
async fn what_is_ready_is_claimed_in_time_told_or_not() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let giver = Node::start("giver", &store, &log, Adoption::OnRequest).await;
    let taker = Node::start("taker", &store, &log, Adoption::AtBoot).await;
    for is_told in [false, true] {
        let within = if is_told { TOLD } else { POLL * 2 };
        for number in 0..23 {
            let before = log.entries().len();
            let run = giver.leave(&format!("r-{is_told}-{number}"), 3, MOMENT).await;
            let left = now();
            if is_told {
                taker.link.hint();
            }
            log.begun(before + 1).await;
            let first = &log.entries()[before];
            assert_eq!(first.node, "taker");
            assert!(first.begun <= left + within, "{number}: {:?}", first.begun - left);
            let taken = taker.runs.get(run.id()).await.unwrap();
            assert_eq!(taken.outcome().await.unwrap().state, RunState::Succeeded);
            for pair in log.entries()[before..].windows(2) {
                let pause = pair[1].begun - pair[0].over.unwrap();
                assert!(pause <= TOLD, "{number}: {pause:?} between two steps");
            }
            checked(&store, run.id()).await;
            tokio::time::sleep(Duration::from_millis(337)).await; // paused clock
        }
    }
    giver.stop().await;
    taker.stop().await;
}

/// Reads one definition for ever.
#[derive(Debug)]
struct Hangs(Known);

impl Definitions for Hangs {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        match run.run.as_str() {
            "hangs" => Box::pin(std::future::pending()),
            _ => self.0.revive(run, definition),
        }
    }
}

/// Proves INV-38.
/// What the host never answers is given up for this time, and the runs behind it have their turn.
#[tokio::test(start_paused = true)]
async fn a_definition_that_is_never_read_keeps_no_other_run_waiting() {
    let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
    let giver = Node::start("giver", &store, &log, Adoption::OnRequest).await;
    giver.leave("hangs", 1, MOMENT).await;
    giver.leave("next", 1, MOMENT).await;
    let known = Hangs(Known { node: "taker".to_owned(), log: log.clone(), newer: false });
    let known = Arc::new(known);
    let begun = now();
    let taker = Node::start_knowing("taker", &store, &log, (Adoption::AtBoot, 64), known).await;
    log.begun(1).await;
    let first = &log.entries()[0];
    assert_eq!(first.run, "next");
    assert!(first.begun <= begun + Duration::from_secs(10) + POLL * 2, "{:?}", first.begun - begun);
    let parked = &taker.detail("/engine/scheduler/ownership")["parked"]["hangs"];
    assert!(parked.as_str().unwrap().contains("not read within 10 s"), "{parked}");
    giver.stop().await;
    taker.stop().await;
}

/// Proves INV-38, D31, D33.
/// One run has ten thousand jobs that wait for room and one an attempt of ten minutes: a third has its turn as soon as
/// an attempt ends, and then goes on in its own room.
#[tokio::test(start_paused = true)]
async fn runs_that_are_slow_keep_no_other_waiting() {
    const SECOND: Duration = Duration::from_secs(1);
    let (store, log) = (MemoryStore::open().unwrap(), Log::new());
    let node = Node::start_with("a", &store, &log, Adoption::AtBoot, 16).await;
    let long = node.begin("long", 1, SECOND * 600).await;
    let wide = node.begin_with("wide", 10_000, SECOND, true).await;
    log.begun(16).await;
    for number in 0..3 {
        let asked = now();
        let short = node.begin(&format!("short-{number}"), 3, MOMENT).await;
        assert_eq!(short.outcome().await.unwrap().state, RunState::Succeeded);
        let begun: Vec<_> =
            log.entries().into_iter().filter(|entry| entry.run == short.id().as_str()).collect();
        assert!(begun[0].begun <= asked + SECOND + TOLD, "{:?}", begun[0].begun - asked);
        for pair in begun.windows(2) {
            let pause = pair[1].begun - pair[0].over.unwrap();
            assert!(pause <= SECOND + TOLD, "{pause:?} between two steps");
        }
    }
    let jobs = store.run(wide.id()).await.unwrap().jobs;
    let left = jobs.iter().filter(|job| !job.state.is_terminal()).count();
    assert!(left > 9_000, "it was slow all the time: {left}");
    for run in [long, wide] {
        run.cancel().await.unwrap();
        run.outcome().await.unwrap();
    }
    node.stop().await;
}

/// What is claimed, decided and ended here is told to whoever follows the run: nothing of it is read again for each of its jobs.
#[tokio::test(start_paused = true)]
async fn who_follows_a_run_reads_nothing_of_what_is_done_here() {
    let (store, log) = (MemoryStore::open().unwrap(), Log::new());
    let node = Node::start_with("a", &store, &log, Adoption::AtBoot, 2).await;
    let wide = node.begin_with("wide", 100, MOMENT, true).await;
    log.begun(2).await;
    node.link.asked();
    let mut followed = wide.events(1);
    assert_eq!(wide.outcome().await.unwrap().state, RunState::Succeeded);
    while followed.next().await.unwrap().kind != "run_closed" {}
    let read = node.link.asked().iter().filter(|(what, _)| *what == "events").count();
    assert!(read < 10, "{read} times for 100 jobs");
    node.stop().await;
}
