//! One run that cannot go on harms itself alone, and a scheduler that gets nowhere says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    FailureClass,
    failure::Failure,
    run::{JobState, RunId, RunState},
};
use perennial_engine::{
    AttemptCx, Definition, Definitions, DoneJob, Explanation, FailureMeans, JobPlan, Next,
    NotRunnable, Outcome, RunError, RunHandle, Workflow,
    observer::{News, Observer},
    scheduler::Adoption,
    workflow::{BoxFuture, JobKey, RetryPolicy},
};
use perennial_store::{JobPart, MemoryStore, NewJob, NewRun, NewStage, RunRecord, Store};
use serde_json::json;

use crate::{
    link::Weather,
    node::{Node, checked, starting},
    work::{Known, Log, now},
};

const SECOND: Duration = Duration::from_secs(1);

/// `a`, which takes a second, and `b`, which takes two, at once, then `c`; until it is mended, something of it panics.
#[derive(Debug)]
struct Odd {
    definition: Definition,
    which: String,
    mended: Arc<AtomicBool>,
    /// Set where what has no arguments panics as well.
    is_odd_now: AtomicBool,
}

impl Odd {
    fn new(which: &str, mended: &Arc<AtomicBool>) -> Self {
        Self {
            definition: Definition::new(format!("odd/{which}").into_bytes()),
            which: which.to_owned(),
            mended: mended.clone(),
            is_odd_now: AtomicBool::new(false),
        }
    }

    fn panics_in(&self, which: &str) {
        let is_odd = self.which == which && !self.mended.load(Ordering::SeqCst);
        assert!(!is_odd, "{which} is odd");
    }
}

impl Workflow for Odd {
    fn name(&self) -> &str {
        if self.is_odd_now.load(Ordering::SeqCst) {
            self.panics_in("name later");
        }
        "odd"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        self.panics_in("next at once");
        if !done.is_empty() {
            self.is_odd_now.store(true, Ordering::SeqCst);
            self.panics_in("next");
            let is_first = self.which == "next once" && !self.mended.swap(true, Ordering::SeqCst);
            assert!(!is_first, "next once is odd");
        }
        let plan = |key| JobPlan::new(JobKey::new(key), RetryPolicy::ONCE, SECOND * 60);
        match done.len() {
            0 | 1 => Next::Jobs(vec![plan("a"), plan("b")]),
            2 => Next::Jobs(vec![plan("c")]),
            _ => Next::Seal,
        }
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        self.panics_in("on_failure");
        FailureMeans::FailRun { record: failure.message.clone().into() }
    }

    fn observer(self: Arc<Self>) -> Option<Box<dyn Observer>> {
        self.panics_in("observer");
        (self.which == "see").then(|| Box::new(Blind) as Box<dyn Observer>)
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        self.panics_in("execute");
        Box::pin(async move {
            let takes = if cx.job.as_str() == "b" { SECOND * 2 } else { SECOND };
            tokio::time::sleep(takes).await; // paused clock
            if self.which == "on_failure" {
                return Outcome::Failed(Failure::new(FailureClass::Permanent, "T1", "no"));
            }
            Outcome::Succeeded(json!(cx.attempt))
        })
    }
}

/// Panics at every event.
struct Blind;

impl Observer for Blind {
    fn see<'a>(&'a mut self, news: &'a News) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { panic!("{} is not seen", news.kind) })
    }
}

/// Knows what is odd as well.
#[derive(Debug)]
struct KnowsOdd {
    others: Known,
    mended: Arc<AtomicBool>,
}

impl Definitions for KnowsOdd {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        let text = String::from_utf8(definition.clone()).unwrap();
        match text.strip_prefix("odd/") {
            Some(which) => {
                let odd = Arc::new(Odd::new(which, &self.mended)) as Arc<dyn Workflow>;
                Box::pin(std::future::ready(Ok(odd)))
            }
            None => self.others.revive(run, definition),
        }
    }
}

async fn node_with(store: &MemoryStore, mended: &Arc<AtomicBool>) -> Node {
    let log = Log::new();
    let others = Known { node: "n".to_owned(), log: log.clone(), newer: false };
    let known = Arc::new(KnowsOdd { others, mended: mended.clone() });
    Node::start_knowing("n", store, &log, (Adoption::AtBoot, 64), known).await
}

fn parked(node: &Node, run: &str) -> Option<String> {
    node.detail("/engine/scheduler/ownership")["parked"][run].as_str().map(str::to_owned)
}

/// Why nothing will come of it here; a minute is enough to know.
async fn why_parked(node: &Node, run: &RunHandle) -> String {
    let outcome = tokio::time::timeout(SECOND * 60, run.outcome()).await;
    let Err(RunError::Parked { why, .. }) = outcome.expect("it is told") else {
        panic!("{} is not parked", run.id());
    };
    assert_eq!(parked(node, run.id().as_str()), Some(why.clone()));
    why
}

async fn ends(run: &RunHandle) -> RunState {
    let outcome = tokio::time::timeout(SECOND * 60, run.outcome()).await;
    outcome.unwrap_or_else(|_| panic!("{} does not end", run.id())).unwrap().state
}

/// Twenty others end as soon as they would alone.
async fn others_end(node: &Node, name: &str) {
    let begun = now();
    let mut others = Vec::new();
    for number in 0..20 {
        others.push(node.begin(&format!("{name}-{number}"), 3, SECOND).await);
    }
    for run in &others {
        assert_eq!(ends(run).await, RunState::Succeeded);
    }
    assert!(begun.elapsed() < SECOND * 4, "{:?}", begun.elapsed());
}

/// Proves INV-32.
/// Whatever of its code panics that says how it goes on: what was under way ends and is recorded, the run is parked
/// with the reason, and goes on where it stood once it is mended and resumed.
#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_know_how_it_goes_on_is_parked_and_can_be_resumed() {
    for which in ["next at once", "next", "next once", "name later"] {
        let (store, mended) = (MemoryStore::open().unwrap(), Arc::new(AtomicBool::new(false)));
        let node = node_with(&store, &mended).await;
        let bad = node.runs.start(starting("bad", Odd::new(which, &mended))).await.unwrap();
        others_end(&node, "first").await;
        let why = why_parked(&node, &bad).await;
        let what = which.split(' ').next().unwrap();
        assert!(why.contains(what) && why.contains("is odd"), "{which}: {why}");
        others_end(&node, "second").await;
        let holders = node.detail("/engine/scheduler/ownership")["holders"].clone();
        assert_eq!(holders, json!([]), "{which}: it holds no place");
        let view = store.run(bad.id()).await.unwrap();
        let done = if which == "next at once" { 0 } else { 2 };
        if which != "name later" {
            let succeeded = view.jobs.iter().filter(|job| job.state == JobState::Succeeded);
            assert_eq!(succeeded.count(), done, "{which}: {:#?}", view.jobs);
        }
        // Resumed and not mended it is parked again, but for what panics once.
        if which != "next once" {
            node.runs.resume(bad.id()).await.unwrap();
            assert!(why_parked(&node, &bad).await.contains("is odd"));
            mended.store(true, Ordering::SeqCst);
        }
        let resumed = node.runs.resume(bad.id()).await.unwrap();
        assert_eq!(ends(&resumed).await, RunState::Succeeded, "{which}");
        assert_eq!(parked(&node, "bad"), None);
        let view = checked(&store, bad.id()).await;
        if which != "name later" {
            assert!(view.jobs.iter().all(|job| job.attempt == 1), "nothing is done twice");
        }
        others_end(&node, "third").await;
        assert_eq!(node.detail("/engine/scheduler")["healthy"], true);
        node.stop().await;
    }
}

/// Proves INV-32.
#[tokio::test(start_paused = true)]
async fn what_panics_beside_the_way_of_a_run_fails_it_or_nothing() {
    let (store, mended) = (MemoryStore::open().unwrap(), Arc::new(AtomicBool::new(false)));
    let node = node_with(&store, &mended).await;
    for (which, state) in [
        ("execute", RunState::Failed),
        ("on_failure", RunState::Failed),
        ("observer", RunState::Succeeded),
        ("see", RunState::Succeeded),
    ] {
        let bad = node.runs.start(starting(which, Odd::new(which, &mended))).await.unwrap();
        others_end(&node, which).await;
        assert_eq!(ends(&bad).await, state, "{which}");
        let view = store.run(bad.id()).await.unwrap();
        if state == RunState::Failed {
            let message = view.run.failure.unwrap()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("is odd"), "{message}");
        }
        assert_eq!(parked(&node, which), None);
    }
    node.stop().await;
}

/// Proves INV-32.
/// A run whose rows cannot be read or understood, found at its start and by a node that takes over what is left.
#[tokio::test(start_paused = true)]
async fn a_run_whose_rows_cannot_be_understood_is_parked() {
    let (store, mended) = (MemoryStore::open().unwrap(), Arc::new(AtomicBool::new(true)));
    let definition = Definition::new(b"2 1000 false".to_vec());
    let job = NewJob {
        stage: "steps".to_owned(),
        key: JobKey::new("step-0"),
        max_attempts: 1,
        crashes_max: 3,
        input: json!("no plan"),
        claim_for: None,
        part: JobPart::default(),
    };
    let damaged = NewRun {
        run: RunId::parse("damaged").unwrap(),
        workflow: "steps".to_owned(),
        definition: definition.digest,
        definition_bytes: definition.bytes.to_vec(),
        input_digest: definition.digest,
        settings: json!({}),
        owner: None,
        deadline: None,
        stages: vec![NewStage::driven("steps")],
        jobs: vec![job],
        timers: Vec::new(),
        priority: Default::default(),
    };
    store.create_run(damaged).await.unwrap();
    let node = node_with(&store, &mended).await;
    node.link.spoil("spoiled");
    let begun = node.runs.start(starting("spoiled", Odd::new("none", &mended))).await;
    let error = begun.unwrap_err().to_string();
    assert!(error.contains("cannot be read: it is spoiled"), "{error}");
    others_end(&node, "first").await;
    let damaged = node.runs.get(&RunId::parse("damaged").unwrap()).await.unwrap();
    let why = why_parked(&node, &damaged).await;
    assert!(why.contains("the plan of step-0"), "{why}");
    let explained = damaged.explain(&JobKey::new("step-0")).await.unwrap();
    assert_eq!(explained, Explanation::Quarantined { reason: why });
    assert!(parked(&node, "spoiled").unwrap().contains("it is spoiled"));
    assert_eq!(node.detail("/engine/scheduler")["healthy"], true);
    others_end(&node, "second").await;
    node.link.spoil("");
    let spoiled = node.runs.resume(&RunId::parse("spoiled").unwrap()).await.unwrap();
    assert_eq!(ends(&spoiled).await, RunState::Succeeded);
    node.stop().await;
}

/// Proves INV-32.
/// A parked run can be cancelled, whatever it was parked for, also with an attempt under way.
#[tokio::test(start_paused = true)]
async fn a_parked_run_can_be_cancelled() {
    for waits in [SECOND * 10, Duration::from_millis(1_500)] {
        let (store, mended) = (MemoryStore::open().unwrap(), Arc::new(AtomicBool::new(false)));
        let node = node_with(&store, &mended).await;
        let bad = node.runs.start(starting("bad", Odd::new("next", &mended))).await.unwrap();
        tokio::time::sleep(waits).await; // paused clock
        assert!(parked(&node, "bad").unwrap().contains("next is odd"));
        assert!(bad.cancel().await.unwrap());
        assert_eq!(ends(&bad).await, RunState::Cancelled);
        node.stop().await;
    }
}

/// Proves INV-32.
/// Resumed while an attempt is still under way, it goes on with what is mended.
#[tokio::test(start_paused = true)]
async fn a_parked_run_is_resumed_while_it_is_still_at_an_attempt() {
    let (store, mended) = (MemoryStore::open().unwrap(), Arc::new(AtomicBool::new(false)));
    let node = node_with(&store, &mended).await;
    let bad = node.runs.start(starting("bad", Odd::new("next", &mended))).await.unwrap();
    tokio::time::sleep(SECOND + SECOND / 2).await; // paused clock
    assert!(parked(&node, "bad").unwrap().contains("next is odd"));
    mended.store(true, Ordering::SeqCst);
    node.runs.resume(bad.id()).await.unwrap();
    assert_eq!(ends(&bad).await, RunState::Succeeded);
    node.stop().await;
}

/// Proves INV-32, D34.
/// However the store stays away: half a minute after the last look that got somewhere the scheduler says so, and why;
/// when the store is back it goes on, and says that as well.
#[tokio::test(start_paused = true)]
async fn a_scheduler_that_gets_nowhere_says_so_within_half_a_minute() {
    for (weather, why) in [
        (Weather::Silent, "no answer within"),
        (Weather::Down, "is lost on its way"),
        (Weather::SilentTo("unfinished"), "no answer within"),
        (Weather::SilentTo("own"), ""),
    ] {
        let (store, mended) = (MemoryStore::open().unwrap(), Arc::new(AtomicBool::new(true)));
        let node = node_with(&store, &mended).await;
        let health = || node.detail("/engine/scheduler");
        tokio::time::sleep(SECOND * 3).await; // paused clock
        assert_eq!(health()["healthy"], true);
        node.link.set(weather);
        if weather == Weather::SilentTo("own") {
            // One run that is not taken over is no trouble of the scheduler.
            node.leave("left", 1, SECOND).await;
            tokio::time::sleep(SECOND * 120).await; // paused clock
            assert_eq!(health()["healthy"], true, "{}", health());
            assert!(parked(&node, "left").is_some());
        } else {
            tokio::time::sleep(SECOND * 28).await; // paused clock
            assert_eq!(health()["healthy"], true, "{weather:?}");
            tokio::time::sleep(SECOND * 3).await; // paused clock
            let told = health();
            assert_eq!(told["healthy"], false, "{weather:?}");
            assert!(told["why"].as_str().unwrap().contains(why), "{weather:?}: {told}");
            tokio::time::sleep(SECOND * 300).await; // paused clock
            assert!(health()["stalled_ms"].as_u64().unwrap() > 300_000, "{}", health());
        }
        node.link.set(Weather::Fair);
        tokio::time::sleep(SECOND * 32).await; // paused clock
        assert_eq!(health()["healthy"], true, "{weather:?}: {}", health());
        others_end(&node, "after").await;
        node.stop().await;
    }
}

/// Proves INV-32.
/// What is not needed to go on does not keep the scheduler from it.
#[tokio::test(start_paused = true)]
async fn timers_that_cannot_be_read_stop_nobody() {
    for name in ["next_due", "timers"] {
        let (store, mended) = (MemoryStore::open().unwrap(), Arc::new(AtomicBool::new(true)));
        let node = node_with(&store, &mended).await;
        node.link.set(Weather::SilentTo(name));
        for run in ["first", "second"] {
            let left = node.leave(run, 3, SECOND).await;
            assert_eq!(ends(&left).await, RunState::Succeeded, "{name}");
            tokio::time::sleep(SECOND * 60).await; // paused clock
            assert_eq!(node.detail("/engine/scheduler")["healthy"], true, "{name}");
        }
        node.stop().await;
    }
}
