//! What is printed for people stays readable: help, tables, long names, text from outside.

use crate::world::{HELLO, SOON, World};

/// Lines of `text` with all columns that start where the heading says.
fn column(text: &str, heading: &str) -> Vec<String> {
    let first = text.lines().next().unwrap();
    let start = first.find(heading).unwrap();
    text.lines().skip(1).map(|line| line.chars().skip(start).collect()).collect()
}

#[test]
fn every_verb_has_help_and_the_codes_are_told() {
    let world = World::new();
    let help = world.expect(0, &["--help"]).stdout;
    assert!(help.contains("Exit codes: 0 completed · 1 run failed · 2 usage"), "{help}");
    for verb in ["run", "check", "resume", "runs", "show", "tree"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
        let output = world.expect(0, &[verb, "--help"]);
        assert!(output.stdout.contains("Usage: perennial "), "{verb}: {}", output.stdout);
        assert!(output.stdout.contains("--json"), "{verb}: {}", output.stdout);
    }
    let store = world.expect(0, &["runs", "--help"]).stdout;
    let store = store.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(store.contains("a file, as PATH or sqlite:PATH, or postgres://"), "{store}");
    let bare = world.expect(2, &[]);
    for verb in ["results", "events", "graph", "explain", "steps", "functions"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
        world.expect(0, &[verb, "--help"]);
    }
    assert!(bare.stderr.contains("Usage: perennial <COMMAND>"), "{}", bare.stderr);
    assert!(world.entries().is_empty());
}

#[test]
fn the_list_of_runs_is_aligned_whatever_the_names_are() {
    let world = World::with_hello();
    let long = "a name that goes on and on until nobody can read it any more";
    let text = format!("workflow:\n  name: {long}\n  steps: [{{name: ä, type: echo}}]\n");
    world.write("long.yaml", text);
    let mock = ["--provider-mode", "mock", "--run-id"];
    world.expect(0, &[&["run", HELLO], &mock[..], &["a"]].concat());
    let short = world.expect(0, &["runs"]).stdout;
    assert_eq!(column(&short, "WORKFLOW"), [&short.lines().nth(1).unwrap()[5..]]);
    assert!(column(&short, "WORKFLOW")[0].starts_with("hello "), "{short}");
    assert!(column(&short, "STATE")[0].starts_with("succeeded "), "{short}");

    world.expect(0, &[&["run", "long.yaml"], &mock[..], &["a-much-longer-id"]].concat());
    let both = world.expect(0, &["runs"]).stdout;
    for (heading, cells) in [
        ("RUN", ["a-much-longer-id ", "a "]),
        ("WORKFLOW", ["a name that goes on and on until nobody…  ", "hello "]),
        ("STATE", ["succeeded ", "succeeded "]),
        ("STEPS", ["1 of 1 ", "6 of 6 "]),
        ("CREATED", ["20", "20"]),
    ] {
        for (found, cell) in column(&both, heading).iter().zip(cells) {
            assert!(found.starts_with(cell), "{heading}: {found:?}\n{both}");
        }
    }
    assert_eq!(world.expect(0, &["runs", "--limit", "1"]).stdout.lines().count(), 2);
}

#[test]
fn text_from_outside_cannot_repaint_the_terminal() {
    let world = World::with_hello();
    let who = "who=me\u{1b}[2J\u{7}\u{202e}you\nfalse line";
    let args = ["run", HELLO, "--provider-mode", "mock", "--run-id", "r", who];
    let output = world.expect(0, &args);
    let shown = world.expect(0, &["show", "r"]);
    let refused = world.expect(2, &["show", "a\u{1b}[2J\nb"]);
    for text in [&output.stdout, &output.stderr, &shown.stdout, &refused.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("false line")), "{text}");
    }
    assert_eq!(
        world.shown("r")["settings"]["inputs"]["who"],
        who[4..],
        "what is recorded is whole"
    );
}

#[test]
fn a_shown_run_tells_what_was_set_skipped_and_paid() {
    let world = World::with_hello();
    world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--run-id", "r", "who=Zoë"]);
    let text = world.expect(0, &["show", "r"]).stdout;
    for line in [
        "run        r\n",
        "state      succeeded\n",
        "file       examples/flows/hello.yaml\n",
        "providers  mock\n",
        "cost       $0.0020\n",
        "\nsucceeded   settings  tone = friendly, audience = Zoë\n",
        "\nskipped     farewell  Condition not met: state.tone == 'formal'\n",
        "  ($0.0010)\n            call 1 recorded (attempt 1)\n",
    ] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    let performance = &world.shown("r")["performance"];
    for (figure, value) in [
        ("total_steps", 6),
        ("successful_steps", 5),
        ("skipped_steps", 1),
        ("failed_steps", 0),
        ("llm_calls", 2),
        ("llm_calls_recorded", 2),
        ("total_warnings", 0),
    ] {
        assert_eq!(performance[figure], value, "{figure}: {performance}");
    }
    assert_eq!(performance["step_details"][0]["name"], "settings");
}

#[test]
fn a_hint_works_as_it_is_typed_also_for_another_store() {
    let world = World::new();
    world.flow("flow.yaml", "{name: wrong, type: echo, fail: true}");
    let store = "sqlite:my runs.db";
    let args = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r", "--store", store];
    let output = world.expect(1, &args);
    let hint = "help: perennial show r --store 'sqlite:my runs.db'\n";
    assert!(output.stderr.ends_with(hint), "{}", output.stderr);
    world.expect(0, &["show", "r", "--store", store]);
    assert!(world.entries().contains("my runs.db"), "{:?}", world.entries());
}

#[test]
fn a_narrow_terminal_gets_narrow_tables() {
    let world = World::with_hello();
    let run = ["run", HELLO, "--provider-mode", "mock", "--run-id", "01M7ABCDEFGHJKMNPQRSTVWXYZ"];
    world.expect(0, &run);
    let verbs: [&[&str]; 5] =
        [&["runs"], &["show", run[5]], &["steps"], &["steps", "claude"], &["functions"]];
    for args in verbs {
        let output = world.command(args).env("COLUMNS", "60").run(SOON).unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for line in output.stdout.lines().filter(|line| !line.starts_with("workflow ")) {
            assert!(line.chars().count() <= 60, "{args:?}: {line}");
        }
    }
    let keys = world.expect(0, &["steps", "claude"]).stdout;
    assert!(keys.contains("\n  retry.backoff ") && keys.contains(": exponential, linear, fixed"));
    assert!(keys.contains("\n  for example  {name: ask, type: claude, "), "{keys}");
}
