//! What is drawn, explained and printed of workflows and runs.

use std::collections::BTreeSet;

use perennial_testkit::{FakeAnthropic, FakeReply};

use crate::world::{HELLO, SOON, World, json_lines};

#[test]
fn a_workflow_is_drawn_without_a_store_and_a_run_with_its_states() {
    let world = World::with_hello();
    let mermaid = world.expect(0, &["graph", HELLO]).stdout;
    assert!(mermaid.starts_with("flowchart TD\n"), "{mermaid}");
    assert!(!mermaid.contains("classDef"), "no run, no colours: {mermaid}");
    let dot = world.expect(0, &["graph", HELLO, "--format", "dot"]).stdout;
    assert!(dot.starts_with("digraph workflow {\n") && dot.contains("style=dashed"), "{dot}");
    assert_eq!(world.entries(), BTreeSet::from([HELLO.to_owned()]));

    world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--run-id", "r"]);
    // The picture is that of the run, whatever became of its file.
    std::fs::remove_file(world.path(HELLO)).unwrap();
    let drawn = world.expect(0, &["graph", "--run", "r"]).stdout;
    assert!(drawn.contains("<br/>succeeded\"]") && drawn.contains("<br/>skipped\"]"), "{drawn}");
    assert!(drawn.contains("classDef good "), "{drawn}");
}

#[test]
fn a_step_is_explained_before_it_runs_and_a_run_by_what_it_waits_for() {
    let fake = FakeAnthropic::start();
    let late = FakeReply::rate_limited(Some("20"));
    fake.script("hi", [late, FakeReply::text("at last")]);
    let world = World::live(&fake, "{name: ask, type: claude, prompt: hi}");
    let text = world.expect(0, &["explain", "flow.yaml", "ask"]).stdout;
    assert!(text.starts_with("step       ask (claude, 1 of 1)\n"), "{text}");
    assert!(text.contains("\ngives      steps.ask\n"), "{text}");
    let run = ["run", "flow.yaml", "--config", "perennial.toml", "--run-id", "r"];
    let mut process = world.spawn(&run);
    let waits =
        |process: &perennial_testkit::RunningBinary| process.stderr().contains("tried again");
    process.kill_when("a retry", SOON, waits).unwrap();

    let output = world.expect(0, &["explain", "r"]);
    assert!(output.stdout.starts_with("run r of flow is interrupted\n"), "{}", output.stdout);
    assert!(
        output.stdout.contains("  step ask: is tried again not before 20"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.ends_with("  nobody runs it now\n"), "{}", output.stdout);
    assert_eq!(output.stderr, "help: perennial resume r\n");
    let explained = &json_lines(&world.expect(0, &["explain", "r", "--json"]).stdout)[0];
    assert_eq!(explained["waits_for"][0]["why"], "retry", "{explained}");
    assert_eq!(explained["owner_alive"], false);
}

#[test]
fn results_and_events_are_printed_for_the_next_program() {
    let world = World::new();
    world.flow(
        "flow.yaml",
        "{name: a, type: echo, value: \"two\\nlines\"}\n{name: b, type: echo, value: {x: 1}}",
    );
    world.expect(0, &["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r"]);
    assert_eq!(world.expect(0, &["results", "r", "a"]).stdout, "two\nlines\n");
    assert_eq!(world.expect(0, &["results", "r", "b"]).stdout, "{\"x\":1}\n");
    assert_eq!(world.expect(0, &["results", "r"]).stdout, "a: two\\nlines\nb: {\"x\":1}\n");
    let all = &json_lines(&world.expect(0, &["results", "r", "--json"]).stdout)[0];
    assert_eq!(all["results"]["b"]["x"], 1, "{all}");

    let events = json_lines(&world.expect(0, &["events", "r", "--json"]).stdout);
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], place + 1, "{event}");
    }
    assert_eq!(events.last().unwrap()["event"], "run_closed");
    let last = world.expect(0, &["events", "r", "--from", &events.len().to_string()]).stdout;
    assert_eq!(last.lines().count(), 1, "{last}");
    assert!(last.contains("  run_closed"), "{last}");
}

#[test]
fn the_words_of_the_language_are_listed() {
    let world = World::new();
    let functions = world.expect(0, &["functions"]).stdout;
    assert!(functions.contains("\nround(number, [number])"), "{functions}");
    assert!(json_lines(&world.expect(0, &["functions", "--json"]).stdout).len() > 60);
    let types = world.expect(0, &["steps"]).stdout;
    let last = types.lines().last().unwrap();
    assert!(last.starts_with("not in this version: ") && types.contains("\necho "), "{types}");
    let echo = &json_lines(&world.expect(0, &["steps", "echo", "--json"]).stdout)[0];
    let keys = echo["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap());
    assert!(keys.clone().any(|key| key == "delay_ms"), "{echo}");
    assert!(keys.clone().any(|key| key == "condition"), "{echo}");
    let said = world.expect(12, &["steps", "ecko"]).stderr;
    assert!(said.contains("no step type `ecko`; there are: claude, "), "{said}");
    assert_eq!(types.matches("not in this version").count(), 1, "{types}");
    assert!(!said.contains(last.rsplit(' ').next().unwrap()), "{said}");
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let world = World::with_hello();
    world.flow("bad.yaml", "{name: a, type: echo, valu: 1}");
    world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--run-id", "r"]);
    for (code, args, words) in [
        (3, vec!["graph", "gone.yaml"], "error[PL101]"),
        (3, vec!["graph", "bad.yaml"], "bad.yaml is not valid"),
        (2, vec!["graph"], "<FILE>"),
        (2, vec!["graph", HELLO, "--run", "r"], "--run"),
        (12, vec!["graph", "--run", "no"], "help: perennial runs"),
        (12, vec!["explain", HELLO, "no"], "the steps are: settings, "),
        (2, vec!["explain", HELLO], "cannot name a run"),
        (12, vec!["explain", "no"], "help: perennial runs"),
        (12, vec!["results", "no"], "help: perennial runs"),
        (12, vec!["results", "r", "no"], "help: perennial show r"),
        (12, vec!["events", "no"], "help: perennial runs"),
        (2, vec!["events", "r", "--from", "0"], "--from"),
    ] {
        let output = world.expect(code, &args);
        assert!(output.stderr.contains(words), "{args:?}: {output:?}");
        assert_eq!(output.stdout, "", "{args:?}");
    }
}

/// What a value has to satisfy is told before it runs, and what was wrong with it after.
#[test]
fn a_schema_is_resolved_explained_and_told_when_it_is_violated() {
    let world = World::new();
    let document = "\
workflow:
  name: rated
  schemas: {rating: {type: object, required: [score], properties: {score: {maximum: 10}}}}
  steps:
    - {name: rate, type: claude, prompt: q, output_schema: rating, max_repairs: 1}
    - {name: list, type: echo, value: [1, x], output_schema: {items: {type: integer}}}
";
    std::fs::write(world.path("flow.yaml"), document).unwrap();
    let text = world.expect(0, &["explain", "flow.yaml", "rate"]).stdout;
    let told = "\nsatisfies  schema rating\nrepairs    at most 1 further call\n";
    assert!(text.contains(told), "{text}");
    let text = world.expect(0, &["explain", "flow.yaml", "list"]).stdout;
    let told = "\nsatisfies  {\"items\":{\"type\":\"integer\"}}\ntries ";
    assert!(text.contains(told), "{text}");
    let value = &json_lines(&world.expect(0, &["explain", "flow.yaml", "rate", "--json"]).stdout)
        [0]["value"];
    assert_eq!((&value["name"], &value["repairs_max"]), (&"rating".into(), &1.into()), "{value}");
    let resolved = world.expect(0, &["check", "flow.yaml", "--resolved"]).stdout;
    assert!(resolved.contains("value_schema:") && resolved.contains("maximum: 10"), "{resolved}");
    let keys = world.expect(0, &["steps", "claude"]).stdout;
    assert!(keys.contains("output_schema") && keys.contains("max_repairs"), "{keys}");

    std::fs::write(world.path("mocks.yaml"), "replies: {rate: [no, {json: {score: 11}}]}").unwrap();
    let run =
        ["run", "flow.yaml", "--provider-mode", "mock", "--mocks", "mocks.yaml", "--run-id", "r"];
    let output = world.expect(1, &run);
    let told = "Schema validation failed for step 'rate' (1 error):\n1. score: Value must be <= 10";
    assert!(output.stderr.contains(told), "{output:?}");
}
