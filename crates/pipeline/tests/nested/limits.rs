//! Limits of nested pipelines while they run (6.6).

use std::time::Duration;

use perennial_core::run::JobState;
use perennial_pipeline::Pipeline;
use serde_json::json;

use crate::world::{flow, run, world};

/// C-163: interrupted at the deadline, not after it; what was finished is kept.
#[tokio::test(start_paused = true)]
async fn c_163_a_slow_child_is_interrupted_at_its_deadline() {
    let document = flow(
        r#"
- name: n
  type: pipeline
  config: {timeout_seconds: 5}
  pipeline:
    name: c
    steps:
      - {name: quick, type: echo, value: 1, delay_ms: 2000}
      - {name: slow, type: echo, delay_ms: 60000}
      - {name: never, type: echo}
"#,
    );
    let world = world(&document, json!({}));
    let done = world.run().await;
    assert!((5_000..5_010).contains(&world.elapsed().as_millis()), "{:?}", world.elapsed());
    let last = done.last().unwrap();
    assert_eq!((last.key.as_str(), last.state), ("n", JobState::Failed));
    assert_eq!(last.result["partial"]["quick"], 1);
    assert_eq!(
        last.result["error"]["message"],
        "Nested pipeline 'c' failed: Safety violation in nested pipeline execution:\n\
         Pipeline: c\nError: Execution timeout exceeded: 5.0s > 5.0s\n\
         Execution Chain: c → parent (the run)\nNesting Depth: 1\nTotal Steps: 3\nElapsed Time: 5.0s"
    );
    let cause = &last.result["error"]["cause"];
    assert_eq!((&cause["code"], &cause["class"]), (&json!("PL807"), &json!("limit")));
}

/// YR-18: the deadline around a child is not moved by a later one inside, nor by what forgives.
#[tokio::test(start_paused = true)]
async fn a_deadline_around_a_child_holds_inside_it() {
    let document = flow(
        r#"
- name: n
  type: pipeline
  continue_on_error: true
  config: {timeout_seconds: 5}
  pipeline:
    name: c
    continue_on_error: true
    steps:
      - name: m
        type: pipeline
        config: {timeout_seconds: 100, continue_on_error: true, fallback_value: 1}
        pipeline:
          name: d
          continue_on_error: true
          steps:
            - {name: slow, type: echo, delay_ms: 60000}
            - {name: never, type: echo}
      - {name: never, type: echo}
- {name: after, type: echo}
"#,
    );
    let world = world(&document, json!({}));
    let done = world.run().await;
    assert_eq!(world.elapsed().as_secs(), 5);
    let keys: Vec<&str> = done.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys, ["#n", "#n/m", "n/m/slow", "n/m", "n", "after"]);
    assert_eq!(done[4].state, JobState::Partial);
    assert!(done[4].result["error"]["limit_of"].is_null());
    // The limit of a child is forgiven by what is around it.
    let cause = &done[4].result["error"]["cause"];
    assert_eq!(cause["cause"]["code"], "PL807");
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_time_is_up_is_gone_through_again_when_told() {
    let document = flow(
        r#"
- name: n
  type: pipeline
  config: {timeout_seconds: 5, on_timeout: retry, max_retries: 1}
  pipeline:
    name: c
    steps:
      - {name: quick, type: echo, delay_ms: 3000}
      - {name: slow, type: echo, delay_ms: 4000, value: done}
"#,
    );
    let world = world(&document, json!({}));
    let done = world.run().await;
    let last = done.last().unwrap();
    assert_eq!((last.state, &last.result["slow"]), (JobState::Succeeded, &json!("done")));
    // Five seconds, a pause of one, and only what was not finished.
    assert_eq!(world.elapsed(), Duration::from_secs(10));
}

/// V-28.
#[tokio::test]
async fn v_28_a_child_that_needs_too_much_memory_is_interrupted() {
    let document = flow(
        r#"
- {name: big, type: echo, value: "{{ inputs.big }}"}
- name: n
  type: pipeline
  inputs: {x: small}
  config: {memory_limit_mb: 1}
  pipeline:
    name: c
    steps:
      - {name: half, type: echo, value: "{{ repeat }}"}
"#,
    );
    let document =
        document.replace("inputs: {x: small}", "inputs: {repeat: \"{{ inputs.part }}\"}");
    let part = "x".repeat(400_000);
    let world = world(&document, json!({"big": "", "part": part}));
    assert_eq!(world.run().await.last().unwrap().state, JobState::Succeeded);
    let part = "x".repeat(5 * 1024 * 1024);
    let world = crate::world::world(&document, json!({"big": "", "part": part}));
    let done = world.run().await;
    let error = &done.last().unwrap().result["error"];
    assert_eq!(error["cause"]["code"], "PL806");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("Memory limit exceeded: 5.0 MB > 1.0 MB"), "{message}");
}

/// What a step is about to leave counts as well.
#[tokio::test]
async fn a_value_that_does_not_fit_is_not_recorded() {
    let part = "x".repeat(300_000);
    let document = flow(
        r#"
- name: n
  type: pipeline
  inputs: {part: "{{ inputs.part }}"}
  config: {memory_limit_mb: 1}
  pipeline:
    name: c
    steps:
      - {name: a, type: echo, value: "{{ part }}{{ part }}"}
      - {name: b, type: echo, value: "{{ part }}"}
"#,
    );
    let results = world(&document, json!({"part": part})).results().await;
    assert_eq!(results["n/a"].as_str().map(str::len), Some(600_000));
    assert_eq!(results["n/b"]["error"]["code"], "PL806");
}

/// C-165: the numbers of the case, at load, where all is known.
#[test]
fn c_165_fifteen_levels_are_too_many_for_ten_and_six_for_five() {
    let levels = |depth: usize, config: &str| {
        let begin = "{name: c, steps: [{name: n, type: pipeline, pipeline: ".repeat(depth - 1);
        let end = "}]}".repeat(depth - 1);
        let inner = "{name: c, steps: [{name: e, type: echo}]}";
        flow(&format!("- {{name: n, type: pipeline, {config} pipeline: {begin}{inner}{end}}}"))
    };
    let faults = |document: &str| {
        let checked = Pipeline::check("flow.yaml", document.as_bytes());
        let told = checked.diagnostics.iter().filter(|found| found.code.to_string() == "PL505");
        told.map(|found| found.message.clone()).collect::<Vec<_>>()
    };
    let five = "config: {max_depth: 5},";
    let sixteen = "config: {max_depth: 16},";
    for (depth, config, most) in [(15, "", 10), (11, "", 10), (15, five, 5), (6, five, 5)] {
        let next = most + 1;
        let text = format!("Maximum nesting depth ({most}) exceeded: current depth is {next}");
        assert_eq!(faults(&levels(depth, config)), [text], "{depth} {config}");
    }
    for (depth, config) in [(10, ""), (5, five), (15, sixteen)] {
        assert_eq!(faults(&levels(depth, config)), [""; 0], "{depth} {config}");
    }
}

/// C-165: the limit that the step gives holds, also when a template gives it.
#[tokio::test]
async fn c_165_depth_is_checked_when_a_child_is_opened() {
    let results = run(r#"
- {name: most, type: echo, value: 1}
- name: n
  type: pipeline
  config: {max_depth: "{{ steps.most }}"}
  pipeline:
    name: c
    steps:
      - {name: m, type: pipeline, config: {max_depth: "{{ 7 }}"}, pipeline: {name: d, steps: [{name: e, type: echo}]}}
"#)
    .await;
    let cause = &results["n"]["error"]["cause"]["cause"];
    assert_eq!(cause["code"], "PL801");
    let message = cause["message"].as_str().unwrap();
    assert!(
        message.contains("Maximum nesting depth (1) exceeded: current depth is 2"),
        "{message}"
    );
    assert!(
        message.contains("Execution Chain: d → c → parent (the run)\nNesting Depth: 2\n"),
        "{message}"
    );
}

/// C-167: steps of all children count at their start, those of the run do not.
#[tokio::test]
async fn c_167_step_totals_add_along_the_chain() {
    let child = |name: &str, count: usize, last: &str| {
        let mut steps: Vec<String> =
            (1..count).map(|place| format!("{{name: s{place}, type: echo}}")).collect();
        steps.push(last.to_owned());
        format!("{{name: {name}, steps: [{}]}}", steps.join(", "))
    };
    let inner = child("inner", 25, "{name: s, type: echo}");
    let nested = format!("{{name: m, type: pipeline, pipeline: {inner}}}");
    let outer = child("outer", 10, &nested);
    let steps = format!(
        "- {{name: a, type: pipeline, pipeline: {outer}}}\n\
         - {{name: b, type: pipeline, config: {{max_total_steps: 50}}, pipeline: {outer}}}"
    );
    let results = run(&steps).await;
    let totals = ["#a", "#a/m", "#b"].map(|key| results[key]["total_steps"].clone());
    assert_eq!(totals, [json!(10), json!(35), json!(45)]);
    let message = results["b"]["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("Maximum total steps (50) exceeded: current total is 70"),
        "{message}"
    );
}

/// Each limit is warned of once, when it is nearly used up, and never in a record.
#[tokio::test(start_paused = true)]
async fn limits_are_warned_of_before_they_are_passed() {
    let document = flow(
        r#"
- name: n
  type: pipeline
  inputs: {part: "{{ inputs.part }}"}
  config: {timeout_seconds: 10, timeout_warning_seconds: 3, max_depth: 3, memory_limit_mb: 1, CONFIG}
  pipeline:
    name: c
    steps:
      - {name: a, type: set_variable, variables: {x: "{{ part }}"}}
      - {name: slow, type: echo, delay_ms: 2000}
      - {name: slower, type: echo, delay_ms: 2000, value: ["{{ part }}"]}
      - {name: slowest, type: echo, delay_ms: 2000}
"#,
    );
    let part = json!({"part": "x".repeat(300_000)});
    let world = world(&document.replace("CONFIG", "warn_at_depth: 1"), part.clone());
    let done = world.run().await;
    assert_eq!(done.last().unwrap().state, JobState::Succeeded);
    assert_eq!(
        world.warnings(),
        [
            "nested pipeline 'c': it stands at depth 1 of 3",
            "nested pipeline 'c': more than 3.0s of 10.0s are used",
            "nested pipeline 'c': 0.9 MB of 1.0 MB are used",
        ]
    );
    assert!(done.iter().all(|job| job.result.get("warnings").is_none()));
    let world = crate::world::world(&document.replace("CONFIG", "memory_warning_mb: 2"), part);
    world.run().await;
    assert_eq!(world.warnings().len(), 1, "{:?}", world.warnings());
}
