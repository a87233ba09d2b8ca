//! Lists of steps that run when a step has failed for good (4.4).

use std::sync::atomic::Ordering;

use perennial_core::run::JobState;
use perennial_engine::DoneJob;
use serde_json::json;

use crate::world::{flow, run, world};

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
        "before", "s", "#s[error]", "s[error]/note", "s[error]/tell", "s[error]/never", "s[error]",
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
    for (keys, state) in [("value: 1", JobState::Succeeded), ("condition: false", JobState::Skipped)] {
        let steps = format!("- {{name: s, type: echo, {keys}, on_error: [{{name: h, type: echo}}]}}");
        let done = world(&flow(&steps), json!({})).run().await;
        assert_eq!((done.len(), done[0].state), (1, state), "{keys}");
    }
}
