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
    let said = world.expect(2, &["steps", "ecko"]).stderr;
    assert!(said.contains("help: perennial steps echo"), "{said}");
    assert!(said.contains("no step type `ecko`; there are: claude, "), "{said}");
    assert_eq!(types.matches("not in this version").count(), 1, "{types}");
    assert!(!said.contains(last.rsplit(' ').next().unwrap()), "{said}");
}

/// The beginning of an id is enough where it is of one run.
#[test]
fn a_run_is_named_by_the_beginning_of_its_id() {
    let world = World::with_hello();
    for id in ["nightly-1", "nightly-22", "nightly-2"] {
        world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--run-id", id]);
    }
    for args in [
        &["show", "nightly-1", "--json"][..],
        &["results", "nightly-2", "--json"],
        &["events", "nightly-22", "--json"],
        &["graph", "--run", "nightly-1"],
        &["explain", "nightly-1"],
    ] {
        world.expect(0, args);
    }
    world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--run-id", "weekly-1"]);
    assert_eq!(world.shown("week")["run"], "weekly-1");
    for args in [&["results", "week"][..], &["events", "week"], &["graph", "--run", "week"]] {
        world.expect(0, args);
    }
    assert!(world.expect(0, &["explain", "week"]).stdout.starts_with("run weekly-1 "));
    let said = world.expect(2, &["resume", "weekly"]).stderr;
    assert!(said.contains("run weekly-1 has ended"), "{said}");
    let said = world.expect(2, &["show", "nightly"]).stderr;
    assert!(said.contains("3 runs begin with nightly: nightly-2"), "{said}");
    assert!(said.ends_with("; type more of it\nhelp: perennial runs\n"), "{said}");
    // Fewer characters are none of them.
    world.expect(12, &["show", "wee"]);
}

#[test]
fn the_help_of_each_verb_that_takes_a_run_says_how_much_of_its_id_is_enough() {
    let world = World::new();
    for verb in [
        "resume", "unpause", "retry", "skip", "cancel", "pause", "priority", "signal", "answer",
        "show", "results", "events", "explain", "graph", "journal",
    ] {
        let args: &[&str] = if verb == "journal" { &[verb, "verify"] } else { &[verb] };
        let help = world.expect(0, &[args, &["--help"]].concat()).stdout;
        let words: Vec<&str> = help.split_whitespace().collect();
        assert!(
            words.join(" ").contains("of 4 characters or more, that no other run has"),
            "{help}"
        );
    }
    // What cannot be taken back is not done to a run that was not meant.
    let purge = world.expect(0, &["purge", "--help"]).stdout;
    assert!(purge.contains("by its whole id"), "{purge}");
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

/// YM-13.
#[test]
fn a_trace_shows_steps_attempts_and_calls_with_their_times_and_what_they_say() {
    let world = World::new();
    world.flow(
        "flow.yaml",
        "{name: plan, type: echo, value: hi}\n\
         {name: ask, type: claude, prompt: [{type: static, content: simple test}]}\n\
         {name: bad, type: claude, on_error: continue, \
          prompt: [{type: static, content: error test}]}",
    );
    world.expect(0, &["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r"]);
    let text = world.expect(0, &["show", "r", "--trace"]).stdout;
    for said in [
        "  flow\n",
        "    plan (echo)\n",
        "    ask (claude)\n",
        "      attempt 1\n",
        "        call 1 [mock-claude, mock]",
        "  $0.0010, ",
        "\nDEPTH  STEPS  FAILED  TOTAL",
        "\ngrade      ",
        "\nefficiency ",
    ] {
        assert!(text.contains(said), "{said:?} in:\n{text}");
    }
    let lines = json_lines(&world.expect(0, &["show", "r", "--trace", "--json"]).stdout);
    let trace = &lines[0];
    assert_eq!((lines.len(), &trace["workflow"]), (1, &"flow".into()));
    let spans = trace["spans"].as_array().unwrap();
    let kinds = |kind: &str| spans.iter().filter(|span| span["kind"] == kind).count();
    assert_eq!((kinds("run"), kinds("step")), (1, 3), "{spans:#?}");
    assert!(kinds("attempt") >= 3 && kinds("llm_call") == 1, "{spans:#?}");
    let call = spans.iter().find(|span| span["kind"] == "llm_call").unwrap();
    assert_eq!((&call["cost"], &call["step_path"]), (&0.001.into(), &"ask".into()), "{call}");
    assert_eq!((&call["type"], &call["went"]), (&"claude".into(), &"well".into()), "{call}");
    assert_eq!(call["mock"], true, "a mocked reply says so");
    world.expect(12, &["show", "gone", "--trace"]);
}

/// YM-12, PRV-13: what the configuration says of prices and thresholds holds, and the rest is unknown.
#[test]
fn costs_are_those_of_the_price_table_and_thresholds_say_where_they_are_set() {
    let fake = FakeAnthropic::start();
    let step = "{name: ask, type: claude, prompt: hi}";
    for (prices, cost, told) in [
        ("", serde_json::Value::Null, "unknown"),
        ("[prices.fake-model]\ninput = 1000\noutput = 1000000\n", "known".into(), "$"),
    ] {
        let world = World::live(&fake, step);
        fake.script("hi", [FakeReply::text("hello")]);
        let config = std::fs::read_to_string(world.path("perennial.toml")).unwrap();
        let more = format!("{prices}[monitor]\nexecution_threshold = 0\n");
        world.write("perennial.toml", config + &more);
        let args = ["run", "flow.yaml", "--config", "perennial.toml", "--run-id", "r", "--json"];
        let lines = json_lines(&world.expect(0, &args).stdout);
        let outcome = lines.iter().find(|line| line["type"] == "outcome").unwrap();
        let usage = &outcome["usage"];
        let tokens = |kind: &str| usage[kind].as_u64().unwrap();
        let (read, written) = (tokens("input_tokens"), tokens("output_tokens"));
        let expected = if cost.is_null() {
            cost
        } else {
            // Dollars for a million tokens.
            #[expect(clippy::cast_precision_loss, reason = "a handful of tokens")]
            let dollars = (read * 1_000 + written * 1_000_000) as f64 / 1e6;
            dollars.into()
        };
        assert_eq!(outcome["cost"], expected, "{outcome}");
        let warned = outcome["warnings"][0].as_str().unwrap();
        assert!(warned.starts_with("the run takes "), "{outcome}");

        let shown = world.shown("r");
        let performance = &shown["performance"];
        assert_eq!(performance["total_cost"], expected, "{performance}");
        assert_eq!(performance["total_tokens"], read + written, "{performance}");
        assert_eq!(performance["step_details"][0]["type"], "claude", "{performance}");
        assert_eq!(performance["step_details"][0]["cost"], expected, "{performance}");
        assert_eq!(shown["thresholds"]["execution_threshold"]["set_in"], serde_json::Value::Null);
        let text = world.expect(0, &["show", "r", "--config", "perennial.toml"]).stdout;
        assert!(text.contains(&format!("\ncost       {told}")), "{text}");
        let spent = format!("\ncalls      1\ntokens     {read} read (cached: ");
        assert!(text.contains(&spent), "{text}");
        let limits =
            "\nthreshold  execution 0 ms (perennial.toml)\nthreshold  step 60000 ms (default)\n";
        assert!(text.contains(limits), "{text}");
        assert!(text.contains("\nwarning    the run takes "), "{text}");
        let events = world.expect(0, &["events", "r", "--json"]).stdout;
        let events = json_lines(&events);
        let recorded = events.iter().find(|one| one["event"] == "checkpoint_written").unwrap();
        assert_eq!(recorded["data"]["spent"]["model"], "fake-model", "{recorded}");
    }
}

/// A reason of several lines has them; what comes from outside stays harmless.
#[test]
fn no_line_break_of_ours_is_shown_as_an_escape() {
    let world = World::new();
    let hole = "workflow:
  name: hole
  inputs: {kind: {type: string}}
  steps:
    - {name: n, type: pipeline, pipeline_file: 'parts/{{ inputs.kind }}.yaml'}
";
    world.write("hole.yaml", hole);
    let bad = "workflow: {name: bad, steps: [{name: a, type: echo, colour: red, shade: 1}]}";
    world.write("parts/bad.yaml", bad);
    let run = ["run", "hole.yaml", "kind=bad", "--run-id", "r", "--provider-mode", "mock"];
    world.expect(1, &run);
    for verb in ["show", "explain"] {
        let shown = world.expect(0, &[verb, "r"]).stdout;
        assert!(shown.contains("it has errors:"), "{shown}");
        assert!(!shown.contains("\\n"), "{shown}");
    }
}
