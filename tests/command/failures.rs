//! Providers and steps that fail: what the run becomes, and what is shown of it.

use perennial_testkit::{FakeAnthropic, FakeReply};
use serde_json::json;

use crate::world::{World, json_lines, step};

const RUN: [&str; 6] = ["run", "flow.yaml", "--config", "perennial.toml", "--run-id", "r"];

#[test]
fn a_refused_key_fails_the_run_at_once_with_class_and_code() {
    let fake = FakeAnthropic::start();
    fake.script("hi", [FakeReply::error(401, "authentication_error", "invalid x-api-key")]);
    let world = World::live(
        &fake,
        "{name: ask, type: claude, prompt: hi}\n{name: after, type: echo, value: unreached}",
    );
    let output = world.expect(1, &RUN);
    assert!(output.stderr.contains("✗ ask failed\n"), "{}", output.stderr);
    assert!(output.stderr.contains("\nStep 'ask' failed: "), "{}", output.stderr);
    let said = output.stderr.clone() + &output.stdout;
    assert_eq!(said.matches("invalid x-api-key").count(), 1, "told once: {said}");
    assert!(output.stdout.contains("ask: failed (PL709)\n"), "{}", output.stdout);
    assert!(output.stderr.ends_with("help: perennial show r\n"), "{}", output.stderr);
    assert!(output.stdout.contains("run r failed: "), "{}", output.stdout);
    assert_eq!(fake.calls().len(), 1, "a refused key is not tried again");

    let shown = world.shown("r");
    let attempts = step(&shown, "ask")["attempts"].as_array().unwrap();
    assert_eq!((&shown["state"], attempts.len()), (&json!("failed"), 1));
    let (class, code) = (&attempts[0]["class"], &attempts[0]["code"]);
    assert_eq!((class, code), (&json!("permanent"), &json!("PL709")));
    assert_eq!(shown["error"]["step"], "ask");
    let text = world.expect(0, &["show", "r"]).stdout;
    assert!(text.contains("attempt 1 error permanent PL709 "), "{text}");
    assert!(!text.contains("unreached"), "{text}");
}

/// Proves INV-19.
/// Each of its requests is an attempt of the step: nobody below tries again.
#[test]
fn an_overloaded_provider_is_asked_again_and_each_attempt_is_shown() {
    let fake = FakeAnthropic::start();
    let replies = [FakeReply::overloaded(), FakeReply::overloaded(), FakeReply::text("at last")];
    fake.script("hi", replies);
    let world = World::live(&fake, "{name: ask, type: claude, prompt: hi}");
    let output = world.expect(0, &RUN);
    assert_eq!(output.stderr.matches("! ask failed, will be tried again: ").count(), 2);
    assert!(output.stderr.contains("✓ ask\n"), "{}", output.stderr);
    assert!(output.stdout.contains("ask [fake-model]: at last\n"), "{}", output.stdout);

    let shown = world.shown("r");
    let attempts = step(&shown, "ask")["attempts"].as_array().unwrap();
    let ends: Vec<_> =
        attempts.iter().map(|attempt| (&attempt["class"], &attempt["end"])).collect();
    let failed = (&json!("overloaded"), &json!("error"));
    assert_eq!(ends.len(), 3, "{ends:?}");
    assert_eq!(ends[..2], [failed, failed]);
    assert_eq!(ends[2].0, &json!(null));
    let text = world.expect(0, &["show", "r"]).stdout;
    assert_eq!(text.matches("overloaded PL703").count(), 2, "{text}");
    assert!(text.contains("attempt 3 "), "{text}");
    let keys = fake.keys();
    assert_eq!((keys.len(), keys[0].requests, keys[0].same), (1, 3, true), "one idempotency key");
}

#[test]
fn a_tolerated_failure_leaves_the_run_completed_and_degraded() {
    let fake = FakeAnthropic::start();
    fake.script("hi", [FakeReply::error(400, "invalid_request_error", "no")]);
    let world = World::live(
        &fake,
        "{name: ask, type: claude, prompt: hi, continue_on_error: true}\n\
         {name: after, type: echo, value: reached}",
    );
    let lines = json_lines(&world.expect(0, &[&RUN[..], &["--json"]].concat()).stdout);
    let outcome = lines.last().unwrap();
    assert_eq!((&outcome["status"], &outcome["degraded"]), (&json!("completed"), &json!(true)));
    assert_eq!(outcome["state"], "partially_succeeded");
    assert_eq!(outcome["results"]["ask"]["error"]["class"], "permanent");
    assert_eq!(outcome["results"]["after"], "reached");
    let text = world.expect(0, &["show", "r"]).stdout;
    assert!(text.contains("\npartial     ask    "), "{text}");
    // What is tolerated is told when it happens, as nothing at the end does.
    let told = world.expect(0, &[&RUN[..5], &["s"]].concat());
    assert!(told.stderr.contains("~ ask failed, tolerated: "), "{told:?}");
    assert!(told.stdout.contains("ask: failed (PL"), "{told:?}");
    // A run that had ended before is told from its record alone: the reason is there as well.
    let told = world.expect(0, &[&RUN[..5], &["s"]].concat());
    assert!(told.stdout.contains("ask: failed: ") && !told.stderr.contains('~'), "{told:?}");
}

/// A reason may be as long as a value; people are shown its beginning, and programs all of it.
#[test]
fn the_reason_of_a_failure_is_shown_up_to_a_bound() {
    let world = World::new();
    world.write("long.txt", "é".repeat(2_500_000));
    world.flow(
        "flow.yaml",
        "{name: long, type: file_ops, operation: read, path: long.txt}\n\
         {name: wrong, type: echo, fail: true, error_message: \"{{ steps.long.content }}\"}",
    );
    let run = ["run", "flow.yaml", "--provider-mode", "mock"];
    let output = world.expect(1, &run);
    assert!(output.stderr.len() < 10_000 && output.stdout.len() < 1_000, "{}", output.stderr.len());
    assert!(output.stderr.contains("é… (4096 bytes, and 4995904 more)\n"), "{}", output.stderr);
    let lines = json_lines(&world.expect(1, &[&run[..], &["--json"]].concat()).stdout);
    let message = lines.last().unwrap()["error"]["message"].as_str().unwrap();
    assert_eq!(message.len(), 5_000_000);
}

/// C-27, C-185: code 1.
#[test]
fn what_failed_is_no_result_and_says_so() {
    let world = World::new();
    let steps = "{name: first, type: echo, value: 1}\n{name: wrong, type: echo, fail: true}";
    world.flow("flow.yaml", steps);
    world.expect(1, &["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r"]);
    let results = world.expect(0, &["results", "r"]).stdout;
    assert!(results.starts_with("first: 1\nwrong (failed): {"), "{results}");
}

#[test]
fn a_step_that_fails_on_purpose_fails_the_run_by_its_name() {
    let world = World::new();
    world.flow(
        "flow.yaml",
        "{name: first, type: echo, value: 1}\n{name: wrong, type: echo, fail: true}",
    );
    let run = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r"];
    let output = world.expect(1, &run);
    assert!(output.stderr.contains("✓ first\n✗ wrong failed\n"), "{}", output.stderr);
    assert!(output.stderr.contains("\nStep 'wrong' failed: "), "{}", output.stderr);
    assert!(output.stdout.starts_with("first: 1\nwrong: failed (PL617)\n"), "{}", output.stdout);
    let quiet = world.expect(1, &["run", "flow.yaml", "--provider-mode", "mock", "--quiet"]);
    assert!(quiet.stderr.starts_with("Step 'wrong' failed: "), "problems are said: {quiet:?}");
}

/// A path that is too long for the journal is shown by its beginning, and found by all of it.
#[test]
fn steps_with_long_paths_are_shown_shortened_and_found_by_the_whole() {
    let world = World::new();
    let [outer, inner, last] = ["o", "i", "l"].map(|name| name.repeat(100));
    let inside = format!("{{name: {last}, type: echo, value: deep}}");
    let middle =
        format!("{{name: {inner}, type: pipeline, pipeline: {{name: d, steps: [{inside}]}}}}");
    let steps =
        format!("{{name: {outer}, type: pipeline, pipeline: {{name: c, steps: [{middle}]}}}}");
    world.flow("flow.yaml", &steps);
    let run = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r"];
    let output = world.expect(0, &run);
    let told = output.stderr.lines().find(|line| line.contains('…')).unwrap();
    assert!(told.starts_with("✓ ooo") && told.chars().count() < 210, "{told}");
    assert!(output.stdout.contains("…: deep\n") && !output.stdout.contains("again"), "{output:?}");
    let whole = format!("{outer}/{inner}/{last}");
    assert_eq!(world.expect(0, &["results", "r", &whole]).stdout.trim(), "deep");
}
