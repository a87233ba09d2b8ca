//! Lists of steps that run when a step has failed for good (4.4).

use std::sync::atomic::Ordering;

use perennial_core::run::JobState;
use perennial_engine::{DoneJob, FailureMeans};
use serde_json::json;

use crate::world::{World, flow, run, world};

fn keys(done: &[DoneJob]) -> Vec<&str> {
    done.iter().map(|job| job.key.as_str()).collect()
}

fn states(done: &[DoneJob]) -> Vec<JobState> {
    done.iter().map(|job| job.state).collect()
}

const HANDLED: &str = r#"
- {name: before, type: echo, value: seen}
- name: s
  type: echo
  fail: true
  error_message: boom
  on_error:
    - name: note
      type: set_variable
      variables: {why: "{{ error.message }} in {{ error.step }} ({{ error.type }})"}
    - {name: tell, type: echo, value: "{{ why }}, {{ steps.before }}, {{ error.attempt }}, {{ error.at }}"}
    - {name: never, type: echo, condition: "error.class == 'timeout'"}
- {name: after, type: echo, value: "{{ steps.s.handled }} / {{ steps.s.error.code }} / {{ why }}"}
"#;

/// YR-22, YR-25: the record is that of `continue`, with what the handler gave.
#[tokio::test(start_paused = true)]
async fn a_handled_failure_leaves_its_record_and_the_last_value_of_the_handler() {
    let world = world(&flow(HANDLED), json!({}));
    let done = world.run().await;
    let expected = [
        "before",
        "s",
        "#s[error]",
        "s[error]/note",
        "s[error]/tell",
        "s[error]/never",
        "s[error]",
        "after",
    ];
    assert_eq!(keys(&done), expected);
    use JobState::{Partial, Skipped, Succeeded};
    assert_eq!(
        states(&done),
        [Succeeded, Partial, Succeeded, Succeeded, Succeeded, Skipped, Partial, Succeeded]
    );
    let told = "boom in s (permanent), seen, 1, 2026-11-21T00:33:57.120Z";
    assert_eq!(done[4].result, told);
    let record = &done[6].result;
    assert_eq!(record["handled"], told);
    assert_eq!((&record["status"], &record["success"]), (&json!("failed"), &json!(false)));
    assert_eq!(record["error"]["message"], "boom");
    assert_eq!(done[7].result, format!("{told} / PL617 / boom in s (permanent)"));
    // What was handled is not made good: the run is degraded.
    assert!(done.iter().all(|job| !world.workflow().is_made_good(job, &done)));
}

#[tokio::test]
async fn a_step_that_succeeds_or_is_skipped_has_no_handler_to_run() {
    for (keys, state) in
        [("value: 1", JobState::Succeeded), ("condition: false", JobState::Skipped)]
    {
        let steps =
            format!("- {{name: s, type: echo, {keys}, on_error: [{{name: h, type: echo}}]}}");
        let done = world(&flow(&steps), json!({})).run().await;
        assert_eq!((done.len(), done[0].state), (1, state), "{keys}");
    }
}

/// 4.4: the run fails with the original error, and that of the handler beside it.
#[tokio::test]
async fn a_handler_that_fails_leaves_the_failure_as_it_was_with_its_own_beside_it() {
    let steps = r#"
- name: s
  type: echo
  fail: true
  error_message: boom
  error_output: why
  error_handler:
    - {name: h, type: echo, fail: true, error_message: "no, {{ error.message }}"}
    - {name: never, type: echo}
- {name: after, type: echo}
"#;
    let world = world(&flow(steps), json!({}));
    let done = world.run().await;
    assert_eq!(keys(&done), ["s", "#s[error]", "s[error]/h", "s[error]"]);
    use JobState::{Failed, Partial, Succeeded};
    assert_eq!(states(&done), [Partial, Succeeded, Partial, Failed]);
    let record = &done[3].result;
    assert_eq!(record["handled"], json!(null));
    assert_eq!(record["why"], "boom");
    assert_eq!(record["error"]["message"], "boom");
    assert_eq!(record["error"]["related"][0]["message"], "no, boom");
    assert_eq!(record["error"]["related"][0]["path"], "s[error]/h");
}

/// Whoever made the job that closes a handler fail: what it says follows from what is done.
#[tokio::test]
async fn what_closes_a_handler_says_the_same_however_its_own_attempt_ended() {
    use perennial_core::{FailureClass, failure::Failure, run::JobKey};
    let world = world(&flow(HANDLED), json!({}));
    let done = world.run().await;
    let (closing, before) = (&done[6], &done[..6]);
    for class in [FailureClass::Lost, FailureClass::Timeout, FailureClass::Panic] {
        let failure = Failure::new(class, "PL699", "its process died");
        let key = JobKey::new("s[error]");
        let FailureMeans::Tolerate { record } =
            world.workflow().on_failure(&key, &failure, 1, before)
        else {
            panic!("a handled failure ends no run")
        };
        assert_eq!(record, closing.result);
    }
}

/// Retries come first, and the handler is told which attempt was the last.
#[tokio::test]
async fn the_handler_has_the_number_of_the_attempt_that_failed_last() {
    use perennial_core::{FailureClass, failure::Failure, run::JobKey};
    let steps = "- {name: s, type: claude, prompt: hi, on_error: [{name: h, type: echo}]}";
    let world = world(&flow(steps), json!({}));
    let failure = Failure::new(FailureClass::Overloaded, "PL703", "too busy");
    let meaning = world.workflow().on_failure(&JobKey::new("s"), &failure, 3, &[]);
    let FailureMeans::Tolerate { record } = meaning else { panic!("{meaning:?}") };
    assert_eq!(record["error"]["attempt"], 3);
}

const DEEP: &str = r#"
- name: n
  type: pipeline
  RETRY
  on_error:
    - {name: last, type: echo, value: "{{ error.code }}: {{ error.cause.message }}"}
  pipeline:
    name: c
    steps:
      - {name: set, type: set_variable, variables: {v: 1}}
      - name: a
        type: claude
        prompt: one
        on_error:
          - name: m
            type: pipeline
            inputs: {failure: "{{ error }}"}
            pipeline:
              name: d
              steps:
                - {name: set, type: set_variable, variables: {w: "{{ inputs.failure.message }}"}}
                - {name: ask, type: claude, prompt: "help: {{ w }}", retry: {max_retries: 0}}
          - {name: keep, type: set_variable, variables: {v: 2}}
      - {name: b, type: echo, value: "{{ steps.a.handled.values.v }} {{ v }} {{ steps.a.handled.w? }}"}
      - {name: end, type: echo, fail: true, error_message: "end {{ v }}"}
- {name: after, type: echo, value: "{{ steps.n.handled }}"}
"#;

fn deep(retry: &str, failures: u32) -> World {
    let world = world(&flow(&DEEP.replace("RETRY", retry)), json!({}));
    world.provider.failures.store(failures, Ordering::Relaxed);
    world
}

/// A handler of a step inside a child, with a child of its own; and one of the step around it.
#[tokio::test(start_paused = true)]
async fn handlers_stand_in_children_and_children_in_handlers() {
    let done = deep("metadata: {}", 1).run().await;
    let expected = [
        "#n",
        "n/set",
        "n/a",
        "#n/a[error]",
        "#n/a[error]/m",
        "n/a[error]/m/set",
        "n/a[error]/m/ask",
        "n/a[error]/m",
        "n/a[error]/keep",
        "n/a[error]",
        "n/b",
        "n/end",
        "n",
        "#n[error]",
        "n[error]/last",
        "n[error]",
        "after",
    ];
    assert_eq!(keys(&done), expected);
    let record = |key: &str| &done.iter().find(|job| job.key.as_str() == key).unwrap().result;
    assert_eq!(record("n/a[error]/m")["result"]["ask"], "help: too busy");
    // What a handler sets stays set, and its last value is that of its last step.
    assert_eq!(record("n/a[error]")["handled"]["values"]["v"], 2);
    assert_eq!(record("n/b"), "2 2 ");
    assert_eq!(record("after"), "PL614: end 2");
    assert_eq!(record("n")["partial"]["b"], "2 2 ", "what the child had so far");
}

/// A child is gone through again before the handler of its step runs; what was handled in it stays handled.
#[tokio::test(start_paused = true)]
async fn the_rounds_of_a_child_come_before_the_handler_of_its_step() {
    let done = deep("retry: {max_retries: 1}", 1).run().await;
    let ends: Vec<&str> = keys(&done).into_iter().skip_while(|key| *key != "n/end").collect();
    // A child is not repeated for what no further round would change.
    assert_eq!(ends, ["n/end", "n", "#n[error]", "n[error]/last", "n[error]", "after"]);
    let flaky = r#"
- name: n
  type: pipeline
  retry: {max_retries: 1, base_delay_ms: 10}
  on_error: [{name: h, type: echo, value: "{{ error.cause.path }}"}]
  pipeline:
    name: c
    steps:
      - name: a
        type: echo
        fail: true
        on_error: [{name: set, type: set_variable, variables: {v: kept}}]
      - name: b
        type: claude
        prompt: "{{ v }}"
        on_error: [{name: ask, type: claude, prompt: again}]
      - {name: c, type: claude, prompt: "{{ v }}"}
"#;
    let world = world(&flow(flaky), json!({}));
    let mut done = Vec::new();
    while done.len() < 5 {
        world.step(&mut done).await;
    }
    assert_eq!(done[4].key.as_str(), "n/a[error]");
    world.provider.failures.store(4, Ordering::Relaxed);
    while world.step(&mut done).await.is_some() {}
    let rest: Vec<&str> = keys(&done).into_iter().skip(5).collect();
    let expected = [
        "n/b",
        "#n/b[error]",
        "n/b[error]/ask",
        "n/b[error]",
        "#n#2",
        "n#2/b",
        "#n#2/b[error]",
        "n#2/b[error]/ask",
        "n#2/b[error]",
        "n",
        "#n[error]",
        "n[error]/h",
        "n[error]",
    ];
    assert_eq!(rest, expected);
    let last = done.last().unwrap();
    assert_eq!(last.result["handled"], "n#2/b");
    let related = &last.result["error"]["cause"]["related"][0];
    assert_eq!(related["path"], "n#2/b[error]/ask");
    // What the first round left undone was made good by the second, what the second left is not.
    let made_good = |key: &str| {
        let job = done.iter().find(|job| job.key.as_str() == key).unwrap();
        world.workflow().is_made_good(job, &done)
    };
    assert!(made_good("n/b[error]/ask") && made_good("n/b") && !made_good("n#2/b"));
}

/// The time of a child is up while a handler in it runs: the child fails, and no handler inside answers that.
#[tokio::test(start_paused = true)]
async fn a_limit_of_a_child_ends_handlers_in_it_and_is_handled_around_it() {
    let steps = r#"
- name: n
  type: pipeline
  config: {timeout_seconds: 5}
  on_error: [{name: h, type: echo, value: "{{ error.cause.code }} {{ error.cause.path }}"}]
  pipeline:
    name: c
    steps:
      - name: a
        type: echo
        fail: true
        on_error:
          - {name: slow, type: echo, delay_ms: 9000, on_error: [{name: never, type: echo}]}
          - {name: neither, type: echo}
      - {name: b, type: echo}
"#;
    let done = world(&flow(steps), json!({})).run().await;
    let expected =
        ["#n", "n/a", "#n/a[error]", "n/a[error]/slow", "n", "#n[error]", "n[error]/h", "n[error]"];
    assert_eq!(keys(&done), expected);
    assert_eq!(done[7].result["handled"], "PL807 n/a[error]/slow");
}

/// In a handler of a handler, `error` is the inner failure, and everything around is visible.
#[tokio::test]
async fn handlers_of_handlers_see_their_own_failure_and_the_steps_around() {
    let steps = r#"
- {name: out, type: echo, value: o}
- name: s
  type: echo
  fail: true
  error_message: first
  on_error:
    - {name: a, type: echo, value: "{{ error.message }}"}
    - name: b
      type: echo
      fail: true
      error_message: second
      on_error: [{name: c, type: echo, value: "{{ error.message }} {{ steps.a }} {{ steps.out }}"}]
    - {name: d, type: echo, value: "{{ steps.b.handled }}, {{ error.message }}"}
"#;
    let results = run(steps).await;
    assert_eq!(results["s[error]"]["handled"], "second first o, first");
    let all_skipped = r#"
- name: s
  type: echo
  fail: true
  on_error: [{name: a, type: echo, condition: false}]
"#;
    let results = run(all_skipped).await;
    let handled = results["s[error]"].as_object().unwrap().get("handled");
    assert_eq!(handled, Some(&json!(null)));
}

/// What a step clears is there for its handler, and gone afterwards; what the handler clears as well.
#[tokio::test]
async fn what_a_step_clears_its_handler_still_sees() {
    let steps = r#"
- {name: v, type: set_variable, variables: {big: 1, other: 2}}
- name: s
  type: echo
  fail: true
  clear_vars: [state.big]
  on_error:
    - {name: anew, type: set_variable, variables: {big: "{{ state.big + 1 }}"}}
    - {name: h, type: echo, value: "{{ state.big }}", clear_vars: [state.other]}
- {name: after, type: echo, value: "{{ state }}"}
"#;
    let results = run(steps).await;
    assert_eq!(results["s[error]"]["handled"], 2);
    assert_eq!(results["after"], json!({}));
}
