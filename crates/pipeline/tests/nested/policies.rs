//! What becomes of a step whose child fails.

use std::sync::atomic::Ordering;

use perennial_core::run::JobState;
use serde_json::json;

use crate::world::{flow, world};

/// A child whose second step fails, in a step with `keys`.
fn failing(keys: &str) -> String {
    flow(&format!(
        r#"
- name: n
  type: pipeline
  {keys}
  pipeline:
    name: c
    steps:
      - {{name: a, type: echo, value: 1}}
      - {{name: b, type: echo, fail: true, error_message: boom}}
      - {{name: never, type: echo}}
- {{name: after, type: echo, value: "{{{{ steps.n.error_message ?? 'none' }}}}"}}
"#
    ))
}

/// C-151.
#[tokio::test]
async fn c_151_a_failing_child_ends_its_parent_and_says_why() {
    let done = world(&failing("metadata: {}"), json!({})).run().await;
    let keys: Vec<&str> = done.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys, ["#n", "n/a", "n/b", "n"]);
    let states: Vec<JobState> = done.iter().map(|job| job.state).collect();
    use JobState::{Failed, Partial, Succeeded};
    assert_eq!(states, [Succeeded, Succeeded, Partial, Failed]);
    let record = &done[3].result;
    let error = &record["error"];
    assert_eq!(error["message"], "Nested pipeline 'c' failed: boom");
    assert_eq!((&error["code"], &error["class"]), (&json!("PL614"), &json!("permanent")));
    assert_eq!(error["cause"]["step"], "b");
    assert_eq!(error["cause"]["path"], "n/b");
    assert_eq!(record["partial"]["a"], 1);
    assert_eq!(record["partial"]["never"], json!(null));
}

#[tokio::test]
async fn the_policy_of_the_step_says_what_follows() {
    for (keys, state, expected) in [
        ("continue_on_error: true", JobState::Partial, "Nested pipeline 'c' failed: boom"),
        (
            "config: {continue_on_error: true}",
            JobState::Partial,
            "Nested pipeline 'c' failed: boom",
        ),
        ("config: {fallback_value: {x: 1}}", JobState::Partial, "Nested pipeline 'c' failed: boom"),
    ] {
        let done = world(&failing(keys), json!({})).run().await;
        assert_eq!(done[3].state, state, "{keys}");
        assert_eq!(done[4].result, expected, "{keys}");
    }
    let done = world(&failing("config: {fallback_value: {x: 1}}"), json!({})).run().await;
    assert_eq!(done[3].result["status"], "degraded");
    assert_eq!(done[3].result["result"], json!({"x": 1}));
    let short = failing("config: {continue_on_error: true, capture_errors: false}");
    let done = world(&short, json!({})).run().await;
    assert_eq!(done[3].result["error"], json!(null));
    assert_eq!(done[3].result["error_message"], "Nested pipeline 'c' failed: boom");
}

#[tokio::test]
async fn a_child_goes_on_after_a_step_that_it_tolerates() {
    let document = flow(
        r#"
- name: n
  type: pipeline
  pipeline:
    name: c
    continue_on_error: true
    steps:
      - {name: b, type: echo, fail: true, error_message: boom}
      - {name: c, type: echo, value: "{{ steps.b.error_message }}"}
"#,
    );
    let results = world(&document, json!({})).results().await;
    assert_eq!(results["n"]["c"], "boom");
    assert_eq!(results["n"]["b"]["status"], "failed");
}

/// A failure two scopes down is told by each scope around it.
#[tokio::test]
async fn causes_are_chained() {
    let document = flow(
        r#"
- name: n
  type: pipeline
  pipeline:
    name: c
    steps:
      - name: m
        type: pipeline
        pipeline: {name: d, steps: [{name: b, type: echo, fail: true, error_message: boom}]}
"#,
    );
    let results = world(&document, json!({})).results().await;
    let error = &results["n"]["error"];
    assert_eq!(error["message"], "Nested pipeline 'c' failed: Nested pipeline 'd' failed: boom");
    assert_eq!(error["cause"]["cause"]["path"], "n/m/b");
    // Told there, and not once more in what the child had so far.
    let inner = &results["n"]["partial"]["m"];
    assert_eq!(
        (&inner["error"]["code"], &inner["error"]["cause"]),
        (&json!("PL614"), &json!(null))
    );
    assert_eq!(inner["partial"]["b"]["error"]["message"], "boom");
}

const FLAKY: &str = r#"
- name: n
  type: pipeline
  retry: {max_retries: RETRIES, base_delay_ms: 1000}
  pipeline:
    name: c
    steps:
      - {name: set, type: set_variable, variables: {v: kept}}
      - {name: first, type: claude, prompt: "one"}
      - name: m
        type: pipeline
        pipeline:
          name: d
          steps:
            - {name: deep, type: claude, prompt: "two"}
            - {name: flaky, type: claude, prompt: "three"}
      - {name: last, type: echo, value: "{{ v }} {{ steps.first.text }} {{ steps.m.flaky }}"}
"#;

/// YR-53: the child is gone through again, and what it completed is not paid again.
#[tokio::test(start_paused = true)]
async fn a_retried_child_reuses_what_it_completed() {
    let world = world(&flow(&FLAKY.replace("RETRIES", "2")), json!({}));
    let mut done = Vec::new();
    // Up to the step that fails twice.
    for _ in 0..5 {
        world.step(&mut done).await;
    }
    assert_eq!(done[4].key.as_str(), "n/m/deep");
    world.provider.failures.store(2, Ordering::Relaxed);
    while world.step(&mut done).await.is_some() {}
    let keys: Vec<&str> = done.iter().skip(5).map(|job| job.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "n/m/flaky",
            "n/m",
            "#n#2",
            "#n#2/m",
            "n#2/m/flaky",
            "n#2/m",
            "#n#3",
            "#n#3/m",
            "n#3/m/flaky",
            "n#3/m",
            "n#3/last",
            "n",
        ]
    );
    let last = done.last().unwrap();
    assert_eq!(last.state, JobState::Succeeded);
    assert_eq!(last.result["last"], "kept one three");
    assert_eq!(world.provider.calls.load(Ordering::Relaxed), 5, "two good ones, three tries");
    assert_eq!(world.elapsed().as_secs(), 3, "a second, then two");
    // What failed was made good, so the run is not degraded.
    let workflow = world.workflow();
    for job in done.iter().filter(|job| job.state == JobState::Partial) {
        assert!(workflow.is_made_good(job, &done), "{}", job.key);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_end() {
    let world = world(&flow(&FLAKY.replace("RETRIES", "1")), json!({}));
    world.provider.failures.store(9, Ordering::Relaxed);
    let done = world.run().await;
    let last = done.last().unwrap();
    assert_eq!((last.key.as_str(), last.state), ("n", JobState::Failed));
    assert_eq!(last.result["error"]["cause"]["path"], "n#2/first");
    assert!(!world.workflow().is_made_good(&done[done.len() - 2], &done));
}

/// `retry_on` says after which failures a child is gone through again; other failures end it at once.
#[tokio::test(start_paused = true)]
async fn retry_on_chooses_the_failures_after_which_a_child_is_repeated() {
    for (keys, rounds) in [
        ("config: {max_retries: 2}", 1),
        ("config: {max_retries: 2, retry_on: [permanent]}", 3),
        ("config: {max_retries: 2, retry_on: [timeout, transient]}", 1),
        ("retry: {max_retries: 1, retry_on: [permanent]}", 2),
    ] {
        let world = world(&failing(keys), json!({}));
        let done = world.run().await;
        let opened = done.iter().filter(|job| job.key.is_opening()).count();
        assert_eq!(opened, rounds, "{keys}");
        assert_eq!(world.elapsed().is_zero(), rounds == 1, "{keys}: each round waits");
        assert_eq!(done.last().unwrap().state, JobState::Failed, "{keys}");
    }
    // A failure that would be tried again by itself is not, when it is not among them.
    let flaky = FLAKY.replace(
        "retry: {max_retries: RETRIES, base_delay_ms: 1000}",
        "config: {max_retries: 2, retry_on: [timeout]}",
    );
    let world = self::world(&flow(&flaky), json!({}));
    world.provider.failures.store(9, Ordering::Relaxed);
    let done = world.run().await;
    assert_eq!(done.iter().filter(|job| job.key.as_str().starts_with("#n")).count(), 1);
}
