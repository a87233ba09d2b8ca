//! More runs than places: those beyond are recorded and wait, the dump says why, and all of them end.

use perennial::{
    LimitError, Limits, ProviderKind, ProviderMode, RunId, RunState, Runtime, RuntimeError,
    StartPipeline, Store,
    inspect::{Thresholds, diagnosed},
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
