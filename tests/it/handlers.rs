//! Handlers in the engine: what becomes of the run, and what ends one that is under way (4.4).

use std::time::Duration;

use perennial::{
    PipelineOutcome, PipelineRunHandle, ProviderMode, RunState, Runtime, StartPipeline, Store,
    records::{JobState, Thresholds},
};
use serde_json::json;

async fn runtime() -> Runtime {
    Runtime::builder().store(Store::memory()).start().await.unwrap()
}

fn document(steps: &str) -> StartPipeline {
    let text = format!("workflow:\n  name: handlers\n  steps:\n{steps}");
    StartPipeline::document("handlers.yaml", text).mode(ProviderMode::Mock)
}

fn states(outcome: &PipelineOutcome) -> Vec<(&str, JobState)> {
    outcome.view.jobs.iter().map(|job| (job.key.as_str(), job.state)).collect()
}

const SLOW: &str = r#"
  - name: s
    type: echo
    fail: true
    on_error:
      - {name: slow, type: echo, delay_ms: 3600000, timeout_seconds: 7200}
      - {name: never, type: echo}
  - {name: neither, type: echo}
"#;

/// Waits until the slow step of the handler is under way.
async fn in_the_midst(run: &PipelineRunHandle) {
    let mut events = run.events();
    loop {
        let event = events.next().await.unwrap();
        let job = event.job.as_ref().map(|job| job.as_str());
        if (event.kind.as_str(), job) == ("attempt_started", Some("s[error]/slow")) {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handled_failure_leaves_a_completed_run_that_is_degraded() {
    let runtime = runtime().await;
    let steps = r#"
  - name: s
    type: echo
    delay_ms: 60000
    timeout_seconds: 2
    retry: {max_retries: 1, base_delay_ms: 1000, retry_on: [timeout]}
    error_handler:
      - {name: h, type: echo, value: "{{ error.class }} in attempt {{ error.attempt }}"}
      - {name: skipped, type: echo, condition: false}
  - {name: after, type: echo, value: "{{ steps.s.handled }}"}
"#;
    let run = runtime.pipelines().start(document(steps)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!((outcome.status(), outcome.is_degraded()), ("completed", true));
    assert_eq!(outcome.state(), RunState::PartiallySucceeded);
    let told = "timeout in attempt 2";
    assert_eq!(outcome.result("after"), Some(&json!(told)));
    assert_eq!(outcome.result("s").unwrap()["handled"], told);
    assert_eq!(outcome.shown("s").unwrap().full()["handled"], told);
    let results = outcome.results();
    assert_eq!(results.keys().collect::<Vec<_>>(), ["s", "after"]);
    assert_eq!(results["s"]["handled"], told);
    let performance = run.performance(&Thresholds::default()).await.unwrap();
    let counts = [
        performance.total_steps,
        performance.successful_steps,
        performance.failed_steps,
        performance.skipped_steps,
        performance.retried_steps,
    ];
    // What opens and closes the handler is no step.
    assert_eq!(counts, [4, 2, 1, 1, 1]);
    let listed = runtime.runs().list(1).await.unwrap();
    assert_eq!((listed[0].jobs_done, listed[0].jobs), (2, 2));
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_handler_fails_has_the_failure_of_its_step() {
    let runtime = runtime().await;
    let steps = r#"
  - name: s
    type: echo
    fail: true
    error_message: boom
    on_error: [{name: h, type: echo, fail: true, error_message: worse}]
"#;
    let run = runtime.pipelines().start(document(steps)).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.status(), "failed");
    let failure = outcome.view.run.failure.as_ref().unwrap();
    assert_eq!((&failure["step"], &failure["message"]), (&json!("s"), &json!("boom")));
    assert_eq!(failure["detail"]["related"][0]["message"], "worse");
    assert_eq!(outcome.result("s").unwrap()["error"]["related"][0]["path"], "s[error]/h");
    runtime.shutdown().await;
}

/// C-197: a handler is no way around an end that was asked for.
#[tokio::test(start_paused = true)]
async fn a_cancelled_run_ends_in_the_midst_of_a_handler() {
    let runtime = runtime().await;
    let run = runtime.pipelines().start(document(SLOW)).await.unwrap();
    in_the_midst(&run).await;
    assert!(run.cancel().await.unwrap());
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.status(), "cancelled");
    let expected = [
        ("s", JobState::Partial),
        ("#s[error]", JobState::Succeeded),
        ("s[error]/slow", JobState::Cancelled),
    ];
    assert_eq!(states(&outcome), expected);
    runtime.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_run_ends_its_handlers() {
    let runtime = runtime().await;
    let start = document(SLOW).within(Duration::from_secs(5));
    let outcome = runtime.pipelines().start(start).await.unwrap().outcome().await.unwrap();
    assert_eq!(outcome.state(), RunState::TimedOut);
    let took = outcome.view.run.finished_at.unwrap().since(outcome.view.run.created_at);
    assert!((5..=7).contains(&took.as_secs()), "{took:?}");
    assert_eq!(states(&outcome).len(), 3, "{:?}", states(&outcome));
    runtime.shutdown().await;
}

/// A step that is cancelled has not failed: no handler begins.
#[tokio::test(start_paused = true)]
async fn a_cancelled_step_has_nothing_to_handle() {
    let runtime = runtime().await;
    let steps = r#"
  - name: s
    type: echo
    delay_ms: 3600000
    timeout_seconds: 7200
    on_error: [{name: h, type: echo}]
"#;
    let run = runtime.pipelines().start(document(steps)).await.unwrap();
    let mut events = run.events();
    while events.next().await.unwrap().kind != "attempt_started" {}
    assert!(run.cancel().await.unwrap());
    let outcome = run.outcome().await.unwrap();
    assert_eq!(states(&outcome), [("s", JobState::Cancelled)]);
    runtime.shutdown().await;
}
