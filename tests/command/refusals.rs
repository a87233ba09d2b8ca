//! What cannot be done is said in one clear error, with its code, and leaves nothing behind.

use std::fmt::Write;

use serde_json::json;

use crate::world::{World, json_lines};

/// Runs the command and expects a refusal: this code, these words on stderr, nothing on stdout,
/// nothing new in the folder. Answers what it said.
fn refused(world: &World, code: i32, args: &[&str], words: &[&str]) -> String {
    let before = world.entries();
    let output = world.expect(code, args);
    let said = output.stderr;
    for word in words {
        assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
    }
    assert_eq!(said.matches("error").count().min(1), 1, "{args:?}: {said}");
    for noise in ["panicked", "stack backtrace", "RUST_BACKTRACE", "\u{1b}"] {
        assert!(!said.contains(noise), "{args:?}: {said}");
    }
    assert_eq!(output.stdout, "", "{args:?}");
    assert_eq!(world.entries(), before, "{args:?} left something behind");
    said
}

const MOCK: [&str; 2] = ["--provider-mode", "mock"];

fn run_mock(world: &World, code: i32, file: &str, more: &[&str], words: &[&str]) -> String {
    refused(world, code, &[&["run", file], &MOCK[..], more].concat(), words)
}

/// C-183, C-185: the error names the file, also one that is missing; code 3.
#[test]
fn files_that_are_no_workflows_are_refused_with_their_reason() {
    let world = World::new();
    world.write("folder/keep", "");
    world.write("binary.yaml", [0x77, 0xff, 0xfe, 0x00, 0x01]);
    world.write("empty.yaml", "");
    world.write("huge.yaml", "a".repeat(10_000_000));
    world.write("deep.yaml", "[".repeat(100_000));
    world.write("indented.yaml", format!("workflow:\n{}name: [x\n", " ".repeat(100_000)));
    world.write(
        "nested.yaml",
        (0..500).fold(String::new(), |mut text, depth| {
            let _ = writeln!(text, "{}a:", " ".repeat(depth));
            text
        }),
    );
    for (file, words) in [
        ("gone.yaml", ["error[PL101]: Failed to read file: gone.yaml", "No such file"]),
        ("folder", ["error[PL101]: Failed to read file: folder", "is a directory"]),
        ("binary.yaml", ["error[PL102]", "byte 1 is not UTF-8"]),
        ("empty.yaml", ["error[PL103]", "empty"]),
        ("huge.yaml", ["error[PL107]", "more than 4 MiB"]),
        ("deep.yaml", ["error[PL107]", "1,000 brackets"]),
        ("indented.yaml", ["error[PL102]", "indented.yaml:"]),
        ("nested.yaml", ["error[PL107]", "nested deeper than 64"]),
    ] {
        let said = run_mock(&world, 3, file, &[], &words);
        assert!(said.len() < 2_000, "{file}: an error is short: {} bytes", said.len());
        assert_eq!(said.matches("error[").count(), 1, "{file}: {said}");
        world.expect(3, &["check", file]);
    }
}

#[test]
fn an_alias_bomb_is_refused_without_being_unfolded() {
    let world = World::new();
    // Nine to the power of forty values, if somebody unfolded them.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", vec![below; 9].join(", ")).unwrap();
    }
    world.write("bomb.yaml", bomb);
    run_mock(&world, 3, "bomb.yaml", &[], &["error[PL107]", "aliases expanded"]);
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_its_place() {
    let world = World::with_hello();
    world.write("provider.toml", "\n[providers.openai]\nmodel = \"x\"\n");
    world.write("type.toml", "[providers.anthropic]\nmax_output = \"many\"\n");
    world.write("syntax.toml", "[providers\n");
    world.write("binary.toml", [0xff, 0xfe]);
    for (file, words) in [
        (
            "provider.toml",
            ["provider.toml", "line 2", "[providers] has no key `openai`; there are: anthropic"],
        ),
        ("type.toml", ["type.toml", "line 2", "expected u32"]),
        ("syntax.toml", ["syntax.toml", "line 1", "error"]),
        ("binary.toml", ["binary.toml", "not UTF-8", "error"]),
        ("gone.toml", ["configuration", "gone.toml", "No such file"]),
    ] {
        run_mock(&world, 2, crate::world::HELLO, &["--config", file], &words);
    }
}

/// A program that reads stdout is told as much as people are.
#[test]
fn a_refusal_is_a_json_value_too() {
    let world = World::with_hello();
    world.write("bad.yaml", "workflow:\n  name: w\n  steps:\n  - {name: a, type: ecko}\n");
    world.write(
        "city.yaml",
        "workflow:\n  name: w\n  inputs: {city: string}\n  steps:\n  - {name: a, type: echo}\n",
    );
    let hello = crate::world::HELLO;
    let run = |file| ["run", file, "--provider-mode", "mock", "--json"];
    world.expect(0, &run(hello));
    for (exit_code, args, code, message, help) in [
        (3, &run("bad.yaml")[..], json!("PL208"), "not valid", json!(null)),
        (3, &run("gone.yaml"), json!("PL101"), "No such file", json!(null)),
        (
            2,
            &run("city.yaml"),
            json!("PL509"),
            "required inputs missing: city",
            json!("perennial run city.yaml city=VALUE"),
        ),
        (12, &["show", "nope", "--json"], json!(null), "nope", json!("perennial runs")),
        (12, &["results", "nope", "--json"], json!(null), "nope", json!("perennial runs")),
        (12, &["events", "nope", "--json"], json!(null), "nope", json!("perennial runs")),
        (2, &["steps", "ecko", "--json"], json!(null), "ecko", json!("perennial steps echo")),
        (2, &["resume", "a b", "--json"], json!(null), "a b", json!(null)),
    ] {
        let said = json_lines(&world.expect(exit_code, args).stdout);
        let [said] = said.as_slice() else { panic!("{args:?}: {said:?}") };
        assert_eq!((&said["type"], &said["exit_code"]), (&json!("error"), &json!(exit_code)));
        assert_eq!((&said["code"], &said["help"]), (&code, &help), "{args:?}: {said}");
        assert!(said["message"].as_str().unwrap().contains(message), "{said}");
        assert_eq!(said["diagnostics"].as_array().unwrap().is_empty(), code.is_null(), "{said}");
    }
}

/// C-185: code 8 for credentials.
#[test]
fn live_calls_that_cannot_be_made_are_known_before_anything_is_recorded() {
    let world = World::with_hello();
    world.write("model.toml", "[providers.anthropic]\nmodel = \"m\"\napi_key_env = \"NO_KEY\"\n");
    world.write("key.toml", "[providers.anthropic]\napi_key_env = \"COMMAND_TEST_KEY\"\n");
    world.flow("gemini.yaml", "{name: g, type: gemini, prompt: [{type: static, content: hi}]}");
    let hello = crate::world::HELLO;
    let live = |file, config| ["run", file, "--config", config];
    let mode = "with `--provider-mode mock` the run needs neither key nor network";
    refused(&world, 8, &live(hello, "model.toml"), &["NO_KEY is not set", mode]);
    refused(&world, 3, &live(hello, "key.toml"), &["step `draft` names no model"]);
    refused(&world, 8, &live("gemini.yaml", "key.toml"), &["`gemini` runs with mocks only"]);
    let all = refused(&world, 8, &["run", hello], &["ANTHROPIC_API_KEY is not set", "no model"]);
    assert_eq!(all.lines().filter(|line| line.starts_with("error: ")).count(), 2, "{all}");
}

/// Its beginning, on one line.
#[test]
fn what_was_typed_is_told_back_in_brief() {
    let world = World::with_hello();
    world.expect(0, &["run", crate::world::HELLO, "--provider-mode", "mock", "--run-id", "r"]);
    let (long, lines) = ("x".repeat(100_000), "x\ny");
    for (code, before) in [
        (2, &["show"][..]),
        (2, &["worker", "--node"]),
        (2, &["runs", "--limit"]),
        (12, &["results", "r"]),
        (12, &["explain", "r"]),
    ] {
        for typed in [long.as_str(), lines] {
            let said = refused(&world, code, &[before, &[typed]].concat(), &[]);
            let first = said.lines().next().unwrap();
            let told = if typed == lines { "x\\ny" } else { "xxx" };
            assert!(first.contains(told), "{before:?}: {said}");
            assert!(said.len() < 700, "{before:?} is told back whole: {} bytes", said.len());
        }
    }
}

#[test]
fn a_wrong_command_line_is_refused_with_what_is_right() {
    let world = World::with_hello();
    let hello = crate::world::HELLO;
    world.write("mocks.yaml", "rules:\n- {step: draft, replay: x}\n");
    world.write("tabs.yaml", "rules:\n\t- x\n");
    for (args, words) in [
        (vec!["run", hello, "--provider-mode", "dead"], vec!["`dead`", "mock, live"]),
        (vec!["run", hello, "--mocks", "mocks.yaml"], vec!["--mocks", "--provider-mode mock"]),
        (vec!["run", hello, "--store", "mysql://h/db"], vec!["postgres://", "sqlite:PATH"]),
        (vec!["run", hello, "--store", "sqlite:"], vec!["the path is missing"]),
        (vec!["show", "a/b"], vec!["`a/b` cannot name a run"]),
        (vec!["resume", "a b"], vec!["`a b` cannot name a run"]),
        (vec!["resume"], vec!["<RUN>"]),
        (vec!["resume", "a", "--all"], vec!["--all"]),
        (vec!["runs", "--limit", "0"], vec!["--limit"]),
        (vec!["tree"], vec!["help: perennial tree --declared"]),
        (vec!["walk"], vec!["unrecognized subcommand 'walk'"]),
    ] {
        refused(&world, 2, &args, &words);
    }
    let mocked = |more: &[&str], words: &[&str]| run_mock(&world, 2, hello, more, words);
    mocked(&["--mocks", "mocks.yaml"], &["rules[0].replay: unknown key", "`reply` is needed"]);
    mocked(&["--mocks", "tabs.yaml"], &["mocks", "Failed to parse YAML: tabs.yaml"]);
    mocked(&["--mocks", "gone.yaml"], &["mocks", "gone.yaml", "No such file"]);
    mocked(&["--run-id", "a/b"], &["`a/b` cannot name a run", "1 to 64 letters"]);
    mocked(&["--input", "who"], &["input `who` is not KEY=VALUE"]);
    mocked(&["=me"], &["input `=me` is not KEY=VALUE"]);
    mocked(&["who=me", "--input", "who=you"], &["input `who` is given twice"]);
    mocked(&["whom=me"], &["no input `whom`", "its inputs: who"]);
    mocked(&["who=@gone"], &["input `who`", "gone", "No such file"]);
    let log = world.command(&["runs"]).env("PERENNIAL_LOG", "[[").run(crate::world::SOON).unwrap();
    assert_eq!(log.status.code(), Some(2), "{log:?}");
    assert!(log.stderr.starts_with("error: PERENNIAL_LOG=[[ is no filter"), "{}", log.stderr);
}

#[test]
fn missing_and_wrong_inputs_are_all_listed_at_once() {
    let world = World::new();
    world.write(
        "inputs.yaml",
        "\
workflow:
  name: inputs
  language: 1
  inputs:
    city: string
    count: {type: integer, required: true}
    tone: {type: string, default: dry}
  steps:
  - {name: s, type: echo, value: \"{{ inputs.city }} {{ inputs.count }} {{ inputs.extra }}\"}
",
    );
    let words = [
        "error[PL509]: required inputs missing: city, count, extra",
        "help: perennial run inputs.yaml city=VALUE count=VALUE extra=VALUE",
    ];
    let said = run_mock(&world, 2, "inputs.yaml", &[], &words);
    assert_eq!(said.matches("error").count(), 1, "{said}");
    let words = [
        "error[PL509]: required inputs missing: extra",
        "error[PL510]: input `count`: expected integer, got string",
    ];
    let said = run_mock(&world, 2, "inputs.yaml", &["city=5", "count=many"], &words);
    assert!(!said.contains("`city`"), "a text may look like a number: {said}");
    let given = ["city=Bern", "--input", "COUNT=2", "extra=@inputs.yaml"];
    let output = world.expect(0, &[&["run", "inputs.yaml"], &MOCK[..], &given].concat());
    assert!(output.stdout.starts_with("s: Bern 2 workflow: name: inputs"), "{}", output.stdout);
}

#[test]
fn a_live_run_whose_step_lists_tools_is_refused_with_the_step_and_the_tools() {
    let world = World::new();
    let options = "claude_options: {model: haiku, allowed_tools: [Read, Bash]}";
    world.flow("tools.yaml", &format!("{{name: a, type: claude, prompt: hi, {options}}}"));
    let live = ["run", "tools.yaml", "--provider-mode", "live"];
    let words = ["step `a` lists tools (Read, Bash)", "--provider-mode mock"];
    refused(&world, 8, &live, &words);
    let mock = world.expect(0, &["run", "tools.yaml", "--provider-mode", "mock"]);
    assert!(mock.stdout.contains('a'), "{}", mock.stdout);
}

/// CLI-1: what is wrong with the command line itself is told as any other refusal.
#[test]
fn a_command_line_that_is_wrong_is_told_to_programs_too() {
    let world = World::new();
    for (args, word, help) in [
        (&["show", "--json"][..], "<RUN>", Some("perennial show --json <RUN>")),
        (&["priority", "r", "soon", "--json"], "soon", None),
        (&["runs", "--limit", "0", "--json"], "--limit", None),
        (&["shows", "r", "--json"], "shows", Some("perennial <COMMAND>")),
        (&["graph", "--json"], "--json", Some("perennial graph")),
    ] {
        let output = world.expect(2, args);
        let [told] = &json_lines(&output.stdout)[..] else { panic!("{args:?}: {output:?}") };
        assert_eq!((&told["type"], &told["exit_code"]), (&json!("error"), &json!(2)), "{args:?}");
        let message = told["message"].as_str().unwrap();
        assert!(message.contains(word) && !message.contains("--help"), "{args:?}: {message}");
        assert!(!message.starts_with("error"), "{args:?}: {message}");
        let said = told["help"].as_str();
        assert_eq!(said.is_some(), help.is_some(), "{args:?}: {told}");
        assert!(said.unwrap_or_default().starts_with(help.unwrap_or_default()), "{args:?}: {told}");
        // And to people as ever.
        assert!(output.stderr.starts_with("error: "), "{args:?}: {output:?}");
    }
    // What follows `--` is no option, and help is no refusal.
    assert_eq!(world.expect(2, &["show", "--", "r", "--json"]).stdout, "");
    assert!(world.expect(0, &["show", "--json", "--help"]).stdout.starts_with("Shows one run"));
}
