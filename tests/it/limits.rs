//! More runs than places: those beyond are recorded and wait, the dump says why, and all of them end.

use perennial::{
    LimitError, Limits, PipelineRunHandle, ProviderKind, ProviderMode, RunId, RunState, Runtime,
    RuntimeError, StartPipeline, Store, WaitsFor, WaitsWhy,
    inspect::{Severity, Thresholds, diagnosed},
    records::Timestamp,
};

use crate::gate::{Gate, SOON};

const WAITS: &str = "workflow:\n  name: w\n  steps:\n  - name: ask\n    type: claude\n    claude_options: {model: m}\n    prompt: [{type: static, content: please wait}]\n";

#[tokio::test]
async fn of_five_runs_two_are_active_and_the_dump_tells_why_three_wait() {
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::memory())
        .provider(ProviderKind::Claude, gate)
        .limits(Limits { runs: 2, ..Limits::default() })
        .start()
        .await
        .unwrap();
    let mut runs = Vec::new();
    for number in 1..=5 {
        let start = StartPipeline::document("w.yaml", WAITS)
            .run_id(RunId::parse(format!("r{number}")).unwrap())
            .mode(ProviderMode::Live);
        runs.push(runtime.pipelines().start(start).await.unwrap());
    }
    keeper.called(2).await;

    let tree = diagnosed(runtime.tree(), &[], &Thresholds::default());
    let node = |path: &str| tree.nodes.iter().find(|node| node.path == path).unwrap();
    let waiting = &node("/perennial/scheduler/ownership").detail["waiting"];
    let names: Vec<&str> = waiting.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["r3", "r4", "r5"]);
    assert_eq!(waiting["r3"]["for"], "a free place: 2 of 2 runs are active");
    let found = tree.findings.iter().find(|finding| finding.name == "runs_waiting").unwrap();
    assert_eq!(found.evidence["count"], 3);
    assert!(found.message.starts_with("3 runs wait for "), "{}", found.message);
    let waits = runs[2].waits_for().unwrap();
    assert_eq!(waits.what, "a free place: 2 of 2 runs are active");
    assert_eq!(runs[0].waits_for(), None);

    keeper.open();
    for run in &runs {
        let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
        assert_eq!(outcome.status(), "completed");
        assert_eq!(run.waits_for(), None);
    }
    runtime.shutdown().await;
}

const TINY: &str = "workflow:\n  name: tiny\n  steps:\n  - {name: a, type: echo, value: 1}\n";
const LONG: &str =
    "workflow:\n  name: long\n  steps:\n  - {name: a, type: echo, value: 1, delay_ms: 600000}\n";

/// When the run began and ended.
async fn span(run: &PipelineRunHandle) -> (Timestamp, Timestamp) {
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.status(), "completed");
    let view = run.view().await.unwrap();
    (view.attempts[0].claimed_at, view.run.finished_at.unwrap())
}

/// What it waits for, once it waits for that.
async fn waits(run: &PipelineRunHandle, why: WaitsWhy) -> WaitsFor {
    let waits = async {
        loop {
            match run.waits_for().filter(|waits| waits.why == why) {
                Some(waits) => return waits,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(SOON, waits).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_begin_in_the_order_of_their_creation_and_no_place_stays_free() {
    for places in [1, 4] {
        let limits = Limits { runs: places, ..Limits::default() };
        let runtime = Runtime::builder().store(Store::memory()).limits(limits);
        let runtime = runtime.start().await.unwrap();
        let mut runs = Vec::new();
        for number in 0..80 {
            let start = StartPipeline::document("tiny.yaml", TINY)
                .run_id(RunId::parse(format!("t{number:02}")).unwrap())
                .mode(ProviderMode::Mock);
            runs.push(runtime.pipelines().start(start).await.unwrap());
        }
        let mut spans = Vec::new();
        for run in &runs {
            spans.push(span(run).await);
        }
        for (number, pair) in spans.windows(2 * places).enumerate() {
            let (first, last) = (pair[0], pair[2 * places - 1]);
            assert!(first.0 <= last.0, "t{number} of {places} places was overtaken: {spans:?}");
            assert!(places > 1 || first.1 <= last.0, "t{number} was not alone: {spans:?}");
        }
        // A place that stays free until somebody looks again costs a second.
        let took = spans[79].1.since(spans[0].0);
        assert!(places > 1 || took.as_secs() < 20, "{took:?}");
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_paused_run_gives_its_place_back_and_waits_for_one_when_it_goes_on() {
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::memory())
        .provider(ProviderKind::Claude, gate)
        .limits(Limits { runs: 1, ..Limits::default() })
        .start()
        .await
        .unwrap();
    let start = |name: &str, text: &str| {
        let start = StartPipeline::document("w.yaml", text).run_id(RunId::parse(name).unwrap());
        runtime.pipelines().start(start.mode(ProviderMode::Live))
    };
    let first = start("first", &format!("{WAITS}  - {{name: b, type: echo, value: 1}}\n"));
    let first = first.await.unwrap();
    keeper.called(1).await;
    let second = start("second", LONG).await.unwrap();
    assert_eq!(second.waits_for().unwrap().why, WaitsWhy::Place);
    assert!(first.pause().await.unwrap());
    waits(&first, WaitsWhy::Pause).await;
    // Its attempt is under way, so it holds its place.
    let tree = diagnosed(runtime.tree(), &[], &Thresholds::default());
    let found = tree.findings.iter().find(|finding| finding.name == "runs_waiting").unwrap();
    assert_eq!(found.evidence["holders"]["first"], "paused");
    assert_eq!(found.severity, Severity::Warn);
    keeper.open();
    let mut events = second.events();
    while second.view().await.unwrap().attempts.is_empty() {
        tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
    }
    assert!(first.unpause().await.unwrap());
    waits(&first, WaitsWhy::Place).await;
    let tree = runtime.tree();
    let node = tree.nodes.iter().find(|node| node.path == "/perennial/runs/first").unwrap();
    assert_eq!(node.detail["state"], "running");
    assert!(second.cancel().await.unwrap());
    let outcome = tokio::time::timeout(SOON, first.outcome()).await.unwrap().unwrap();
    assert_eq!((outcome.status(), first.waits_for()), ("completed", None));
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_waits_for_another_attempt_says_so() {
    let text = "workflow:\n  name: w\n  steps:\n  - {name: ask, type: claude, prompt: [{type: static, content: hi}], retry: {max_retries: 2, base_delay_ms: 600000, max_delay_ms: 600000}}\n";
    let mocks = serde_json::json!({"replies": {"ask": [
        {"error": {"class": "rate_limited", "message": "429 slow down"}}, "hi"]}});
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock).mocks(mocks);
    let run = runtime.pipelines().start(start).await.unwrap();
    let waits = waits(&run, WaitsWhy::Retry).await;
    let failure = waits.last_failure.unwrap();
    assert_eq!(failure.message, "429 slow down");
    assert!(waits.not_before.unwrap() > waits.since);
    let tree = runtime.tree();
    let path = format!("/perennial/runs/{}", run.id());
    let node = tree.nodes.iter().find(|node| node.path == path).unwrap();
    let told = &node.detail["waits_for"];
    assert_eq!(
        (&told["why"], &told["last_failure"]["class"]),
        (&"retry".into(), &"rate_limited".into())
    );
    let mut events = run.events();
    let failed = loop {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap();
        if event.kind == "attempt_failed" {
            break event;
        }
    };
    assert_eq!(failed.data["run_after"], told["not_before"]);
    run.cancel().await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_run_that_waits_for_a_place_can_be_cancelled_and_paused() {
    let (gate, keeper) = Gate::new();
    let runtime = Runtime::builder()
        .store(Store::memory())
        .provider(ProviderKind::Claude, gate)
        .limits(Limits { runs: 1, ..Limits::default() })
        .start()
        .await
        .unwrap();
    let mut runs = Vec::new();
    for number in 1..=4 {
        let start = StartPipeline::document("w.yaml", WAITS)
            .run_id(RunId::parse(format!("r{number}")).unwrap())
            .mode(ProviderMode::Live);
        runs.push(runtime.pipelines().start(start).await.unwrap());
    }
    keeper.called(1).await;

    assert!(runs[1].cancel().await.unwrap());
    let outcome = tokio::time::timeout(SOON, runs[1].outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.status(), "cancelled");
    assert!(outcome.view.attempts.is_empty(), "it never began");
    assert_eq!(runs[1].waits_for(), None);
    assert!(!runs[1].cancel().await.unwrap(), "it has ended");
    for (pause, changed) in [(true, true), (true, false), (false, true), (false, false)] {
        let run = &runs[2];
        let answer = if pause { run.pause().await } else { run.unpause().await };
        assert_eq!(answer.unwrap(), changed);
        assert_eq!(run.view().await.unwrap().run.state == RunState::Paused, pause);
        assert!(run.waits_for().is_some());
    }
    assert!(runs[3].pause().await.unwrap());

    keeper.open();
    for run in [&runs[0], &runs[2]] {
        let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
        assert_eq!(outcome.status(), "completed");
    }
    assert_eq!(runs[3].view().await.unwrap().run.state, RunState::Paused);
    assert!(runs[3].unpause().await.unwrap());
    let outcome = tokio::time::timeout(SOON, runs[3].outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.status(), "completed");
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_limit_that_cannot_be_meant_starts_nothing() {
    for (runs, refused) in [
        (0, LimitError::Zero { name: "runs" }),
        (usize::MAX, LimitError::Absurd { name: "runs", value: usize::MAX }),
    ] {
        let builder = Runtime::builder().store(Store::memory());
        let started = builder.limits(Limits { runs, ..Limits::default() }).start().await;
        assert!(matches!(started, Err(RuntimeError::Limit(error)) if error == refused));
    }
}
