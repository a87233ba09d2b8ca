//! What settings of the engine change of what a node asks of its store.

use std::time::Duration;

use perennial_core::run::RunState;
use perennial_engine::{EngineSettings, scheduler::Adoption};
use perennial_store::MemoryStore;

use crate::{link::Weather, node::Node, work::Log};

const LONG: Duration = Duration::from_secs(12);
const MOMENT: Duration = Duration::from_millis(10);

/// Proves INV-33.
/// Of a run that somebody left, with twenty jobs that are ready.
#[tokio::test(start_paused = true)]
async fn a_claim_takes_no_more_jobs_than_is_set() {
    let usual = EngineSettings::default();
    for (settings, expected) in [(usual, 20), (EngineSettings { claim_batch: 3, ..usual }, 3)] {
        let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
        let a = Node::start("a", &store, &log, Adoption::AtBoot).await;
        let run = a.begin_with("r", 20, LONG, true).await;
        log.begun(20).await;
        a.link.set(Weather::Down);
        let b = Node::start_set("b", &store, &log, settings).await;
        let taken = b.runs.get(run.id()).await.unwrap();
        assert_eq!(taken.outcome().await.unwrap().state, RunState::Succeeded);
        let asked = b.link.asked();
        let claims = asked.iter().filter(|(what, _)| *what == "claim").map(|(_, most)| *most);
        assert_eq!(claims.max(), Some(expected));
        a.stop().await;
        b.stop().await;
    }
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn a_look_takes_over_no_more_runs_than_is_set() {
    let usual = EngineSettings::default();
    for (settings, expected) in [(usual, 16), (EngineSettings { takeovers_max: 3, ..usual }, 3)] {
        let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
        let a = Node::start("a", &store, &log, Adoption::AtBoot).await;
        let mut runs = Vec::new();
        for number in 0..20 {
            runs.push(a.begin(&format!("r{number}"), 1, MOMENT * 100).await);
        }
        log.begun(20).await;
        a.link.set(Weather::Down);
        let b = Node::start_set("b", &store, &log, settings).await;
        for run in &runs {
            let taken = b.runs.get(run.id()).await.unwrap();
            assert_eq!(taken.outcome().await.unwrap().state, RunState::Succeeded);
        }
        let asked = b.link.asked();
        let looks = asked.split(|(what, _)| *what == "look");
        let taken = looks.map(|look| look.iter().filter(|(what, _)| *what == "own").count());
        assert_eq!(taken.max(), Some(expected));
        a.stop().await;
        b.stop().await;
    }
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn a_decision_is_made_as_often_again_as_is_set() {
    let usual = EngineSettings::default();
    for (settings, expected) in [(usual, 16), (EngineSettings { decide_rounds: 7, ..usual }, 7)] {
        let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
        let node = Node::start_set("a", &store, &log, settings).await;
        let run = node.begin("r", 1, LONG).await;
        log.begun(1).await;
        node.link.asked();
        node.link.set(Weather::Outrun);
        let refused = run.pause().await;
        node.link.set(Weather::Fair);
        assert!(refused.is_err(), "{refused:?}");
        let asked = node.link.asked();
        let commits = asked.iter().filter(|(what, _)| *what == "commit").count();
        assert_eq!(commits, expected);
        node.stop().await;
    }
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn a_sweep_gives_back_no_more_jobs_than_is_set() {
    let usual = EngineSettings::default();
    for (settings, expected) in [(usual, 1_000), (EngineSettings { rescue_batch: 7, ..usual }, 7)] {
        let (store, log) = (MemoryStore::open_shared().unwrap(), Log::new());
        let node = Node::start_set("a", &store, &log, settings).await;
        tokio::time::sleep(LONG).await; // paused clock
        let asked = node.link.asked();
        let sweeps: Vec<u32> =
            asked.iter().filter(|(what, _)| *what == "sweep").map(|(_, most)| *most).collect();
        assert!(!sweeps.is_empty() && sweeps.iter().all(|most| *most == expected), "{sweeps:?}");
        node.stop().await;
    }
}
