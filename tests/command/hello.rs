//! The main command of the README, for people and for programs.

use perennial::inspect::{Glyphs, TextOptions, from_json, stable, to_text};
use serde_json::Value;

use crate::world::{HELLO, World, golden, json_lines};

const MAIN: [&str; 5] = ["run", HELLO, "--provider-mode", "mock", "--tree"];

/// A tree as golden files have it.
fn plain(tree: &perennial::TreeSnapshot) -> String {
    to_text(tree, &TextOptions { glyphs: Glyphs::Unicode, ..TextOptions::default() })
}

/// Fails with all that the published schema has against `tree`.
fn assert_valid(tree: &Value) {
    let schema = crate::world::repository().join("crates/inspect/schema/perennial.tree.1.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(tree).map(|e| e.to_string()).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_main_command_shows_progress_on_stderr_and_results_and_the_tree_on_stdout() {
    let world = World::with_hello();
    let output = world.expect(0, &MAIN);
    let talk: Vec<&str> = output.stderr.lines().collect();
    let run = talk[1].strip_prefix("run ").unwrap();
    let said = ["✓ settings", "✓ plan", "✓ draft", "✓ improve", "- farewell skipped", "✓ summary"];
    assert_eq!(talk[0], "provider mode: mock (answers are made up)");
    assert_eq!(talk[2..], said, "without a terminal there are plain lines only");
    assert!(!output.stderr.contains(['\u{1b}', '\r']), "{:?}", output.stderr);
    assert!(!output.stdout.contains(['\u{1b}', '\r']), "{:?}", output.stdout);

    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "settings: tone = friendly, audience = world");
    assert_eq!(lines[1], "plan: Greet world in a friendly tone.");
    let draft = "draft [mock-claude, mock]: Mock response for: Write one sentence. Greet world";
    assert!(lines[2].starts_with(draft), "{}", lines[2]);
    assert!(lines[3].starts_with("improve [mock-claude, mock]: "), "{}", lines[3]);
    assert_eq!(lines[4], "farewell: skipped: Condition not met: state.tone == 'formal'");
    assert!(lines[5].starts_with("summary: {\"greeting\":"), "{}", lines[5]);
    assert!(lines[6].starts_with(&format!("run {run} completed: ")), "{}", lines[6]);
    assert!(lines[6].ends_with("cost $0.0020"), "{}", lines[6]);
    assert!(lines[7].starts_with("perennial@local  perennial "), "{}", lines[7]);
    assert!(lines.iter().any(|line| line.starts_with("├─ scheduler ")), "{}", output.stdout);

    let listed = json_lines(&world.expect(0, &["runs", "--json"]).stdout);
    assert_eq!((listed.len(), &listed[0]["run"]), (1, &Value::from(run)));
    let quiet = world.expect(0, &[&MAIN[..4], &["--quiet"]].concat());
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "{quiet:?}");
}

#[test]
fn with_json_events_come_first_then_the_outcome_then_the_tree_one_value_a_line() {
    let world = World::with_hello();
    let output = world.expect(0, &[&MAIN[..], &["--json"]].concat());
    assert_eq!(output.stderr, "", "programs read no talk");
    let mut lines = json_lines(&output.stdout);
    let tree = lines.pop().unwrap();
    let outcome = lines.pop().unwrap();
    assert!(lines.iter().all(|line| line["type"] == "event"), "{lines:?}");
    let kinds: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("run_created", "run_closed"));
    let numbers: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=lines.len() as u64).collect::<Vec<_>>());

    assert_eq!((&outcome["type"], &outcome["status"]), (&"outcome".into(), &"completed".into()));
    assert_eq!((&outcome["degraded"], &outcome["error"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(outcome["results"]["plan"], "Greet world in a friendly tone.");
    assert_eq!(outcome["results"]["farewell"]["skipped"], true);
    assert_eq!(tree["schema"], "perennial.tree/1");
    assert_valid(&tree);
}

#[test]
fn the_tree_of_a_finished_run_is_the_golden_one() {
    let world = World::with_hello();
    let output = world.expect(0, &[&MAIN[..], &["--json"]].concat());
    let json = output.stdout.lines().last().unwrap().to_owned();
    // The store tells its own path, which is another one for every test.
    let folder = world.path("").canonicalize().unwrap().display().to_string();
    let mut tree = from_json(&json.replace(&folder, "<folder>")).unwrap();
    assert!(!tree.declared && !tree.nodes.is_empty());
    // What the run had is on its way out: it may be there still.
    let had = ["/perennial/runs", "/perennial/monitors", "/perennial/tasks"];
    tree.nodes.retain(|node| !node.parent.as_deref().is_some_and(|above| had.contains(&above)));
    golden("finished_tree.txt", &plain(&stable(&tree)));
}

#[test]
fn the_declared_tree_is_the_golden_one_and_needs_no_store() {
    let world = World::new();
    let text = world.expect(0, &["tree", "--declared"]);
    golden("declared_tree.txt", &text.stdout);
    let json = world.expect(0, &["tree", "--declared", "--json"]);
    let lines = json_lines(&json.stdout);
    assert_eq!((lines.len(), &lines[0]["declared"]), (1, &Value::Bool(true)));
    assert_valid(&lines[0]);
    assert_eq!(plain(&from_json(&json.stdout).unwrap()), text.stdout, "two forms of one tree");
    assert_eq!((text.stderr.as_str(), json.stderr.as_str()), ("", ""));
    assert!(world.entries().is_empty());
}
