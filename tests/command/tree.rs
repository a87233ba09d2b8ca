//! The tree of a run that was saved, in every form.

use std::fs;

use perennial::inspect::from_json;
use serde_json::Value;

use crate::world::{HELLO, World};

/// A folder with `dump.json`, the tree at the end of a run.
fn with_dump() -> World {
    let world = World::with_hello();
    let args = ["run", HELLO, "--provider-mode", "mock", "--run-id", "r", "--tree", "--json"];
    let output = world.expect(0, &args);
    let mut dump: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    // What belonged to the run may or may not be on its way out still.
    let passing = ["/perennial/monitors", "/perennial/runs", "/perennial/tasks"];
    let of_the_run = |node: &Value| passing.iter().any(|path| node["parent"] == *path);
    dump["nodes"].as_array_mut().unwrap().retain(|node| !of_the_run(node));
    world.write("dump.json", dump.to_string());
    world
}

#[test]
fn a_saved_dump_is_shown_in_every_format() {
    let world = with_dump();
    let text = world.expect(0, &["tree", "--dump", "dump.json"]).stdout;
    assert!(text.starts_with("perennial@"), "{text}");
    assert!(text.contains("\n├─ tool_registry "), "{text}");
    let dot = world.expect(0, &["tree", "--dump", "dump.json", "--format", "dot"]).stdout;
    assert!(dot.starts_with("digraph tree {\n") && dot.ends_with("}\n"), "{dot}");
    let mermaid = world.expect(0, &["tree", "--dump", "dump.json", "--format", "mermaid"]).stdout;
    assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
    let saved = from_json(&fs::read_to_string(world.path("dump.json")).unwrap()).unwrap();
    for json in [&["--json"][..], &["--format", "json"]] {
        let again = world.expect(0, &[&["tree", "--dump", "dump.json"], json].concat()).stdout;
        assert_eq!(from_json(&again).unwrap(), saved);
    }
}

/// FMT-2.
#[test]
fn the_stable_dumps_of_two_runs_are_equal() {
    let (one, other) = (with_dump(), with_dump());
    for format in ["text", "json", "ndjson", "dot", "mermaid"] {
        let args = ["tree", "--dump", "dump.json", "--stable", "--format", format];
        let [one, other] = [&one, &other].map(|world| {
            let text = world.expect(0, &args).stdout;
            text.replace(&*world.path("").canonicalize().unwrap().to_string_lossy(), "<folder>/")
        });
        assert_eq!(one, other, "{format}");
    }
}

/// CLI-2.
#[test]
fn colours_are_for_terminals_unless_they_are_asked_for() {
    let world = with_dump();
    for (more, coloured) in [
        (&[][..], false),
        (&["--color", "auto"], false),
        (&["--color", "never"], false),
        (&["--color", "always"], true),
    ] {
        let text = world.expect(0, &[&["tree", "--dump", "dump.json"], more].concat()).stdout;
        assert_eq!(text.contains('\u{1b}'), coloured, "{more:?}");
    }
}

#[test]
fn what_is_no_dump_is_refused_with_what_helps() {
    let world = World::new();
    world.write("other.json", "{\"schema\": \"perennial.tree/9\"}");
    let output = world.expect(2, &["tree", "--dump", "other.json"]);
    assert!(output.stderr.contains("dump other.json: the dump is of schema"), "{output:?}");
    assert!(output.stderr.contains("help: perennial run FILE --tree --json"), "{output:?}");
    let output = world.expect(2, &["tree", "--dump", "gone.json"]);
    assert!(output.stderr.contains("gone.json"), "{output:?}");
    let output = world.expect(2, &["tree"]);
    assert!(output.stderr.contains("help: perennial tree --declared"), "{output:?}");
}

/// A saved dump of which `change` was made something else.
fn changed(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let text = fs::read_to_string(world.path("dump.json")).unwrap();
    let mut dump: Value = serde_json::from_str(&text).unwrap();
    change(&mut dump);
    world.write(name, dump.to_string());
}

/// The place of `id` in the list of nodes.
fn place(dump: &Value, id: &str) -> usize {
    dump["nodes"].as_array().unwrap().iter().position(|node| node["id"] == id).unwrap()
}

/// A change of the node `id`.
fn node(id: &str, field: &str, value: Value) -> impl FnOnce(&mut Value) {
    move |dump| {
        let place = place(dump, id);
        dump["nodes"][place][field] = value;
    }
}

#[test]
fn filters_show_a_part_and_all_above_it() {
    let world = with_dump();
    for (more, lines) in [
        (&["--match", "/perennial/store/*"][..], 2 + 6),
        (&["--match", "reader-*"], 2 + 4),
        (&["--kind", "thread,task"], 2 + 8),
        (&["--depth", "0"], 2 + 1),
        (&["--state", "gave_up"], 1),
        (&["--only-problems"], 1),
    ] {
        let output = world.expect(0, &[&["tree", "--dump", "dump.json"], more].concat());
        assert_eq!(output.stdout.lines().count(), lines, "{more:?}: {}", output.stdout);
        assert!(output.stdout.contains(" of 16 nodes"), "{more:?}: {}", output.stdout);
        assert_eq!(output.stderr.is_empty(), lines > 1, "{more:?}: {}", output.stderr);
    }
    let healthy = world.expect(0, &["tree", "--dump", "dump.json", "--only-problems"]);
    assert!(healthy.stderr.contains("nothing is wrong"), "{}", healthy.stderr);
    let declared = world.expect(0, &["tree", "--declared", "--kind", "thread"]).stdout;
    assert!(declared.contains("5 of 16 nodes"), "{declared}");
    for wrong in [["--match", "/a/[b"], ["--state", "asleep"], ["--kind", "robot"]] {
        world.expect(2, &[&["tree", "--dump", "dump.json"], &wrong[..]].concat());
    }
}

/// CLI-1 and CLI-4: exit code 11, and the command that is printed works as it is typed.
#[test]
fn findings_are_told_with_a_command_that_works() {
    let world = with_dump();
    world.expect(0, &["tree", "--dump", "dump.json", "--fail-on", "info"]);
    changed(&world, "bad dump.json", node("sessions", "mailbox_depth", 9_000.into()));
    let shown = ["tree", "--dump", "bad dump.json"];
    let text = world.expect(0, &shown).stdout;
    let told = "!! PF-03 mailbox_growing (warn) /perennial/sessions  9000 of 10000 messages wait\n";
    assert!(text.contains(told), "{text}");
    let command = "try:  perennial tree --dump 'bad dump.json' --match /perennial/sessions\n";
    assert!(text.contains(command), "{text}");
    world.expect(0, &["tree", "--dump", "bad dump.json", "--match", "/perennial/sessions"]);

    world.expect(11, &[&shown[..], &["--fail-on", "warn"]].concat());
    world.expect(0, &[&shown[..], &["--fail-on", "error"]].concat());
    world.expect(0, &[&shown[..], &["--fail-on", "warn", "--match", "store"]].concat());
    let json = world.expect(11, &[&shown[..], &["--fail-on", "warn", "--json"]].concat()).stdout;
    let dump: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(dump["findings"][0]["id"], "PF-03");
    assert_eq!(dump["findings"][0]["severity"], "warn");
    assert_eq!(dump["findings"][0]["evidence"]["depth"], 9_000);
}

#[test]
fn earlier_dumps_show_what_hangs() {
    let world = with_dump();
    changed(&world, "now.json", |dump| {
        let place = place(dump, "drain");
        dump["nodes"][place]["state"] = "stopping".into();
        dump["uptime_ms"] = 100_000.into();
    });
    changed(&world, "then.json", |dump| {
        let place = place(dump, "drain");
        dump["nodes"][place]["state"] = "stopping".into();
        dump["uptime_ms"] = 50_000.into();
    });
    let args = ["tree", "--dump", "now.json"];
    assert!(!world.expect(0, &args).stdout.contains("PF-04"));
    let text = world.expect(0, &[&args[..], &["--earlier", "then.json"]].concat()).stdout;
    assert!(text.contains("!! PF-04 handler_blocked (warn) /perennial/drain"), "{text}");
}

/// DIFF-3.
#[test]
fn a_diff_tells_by_its_exit_code_whether_something_changed() {
    let world = with_dump();
    let same = world.expect(0, &["tree", "diff", "dump.json", "dump.json"]);
    assert_eq!(same.stdout, "no difference\n");
    changed(&world, "after.json", node("sessions", "incarnation", 3.into()));
    let args = ["tree", "diff", "dump.json", "after.json"];
    let text = world.expect(10, &args).stdout;
    let told = "~ /perennial/sessions  restarted 2 times (incarnation 1 -> 3)\n1 difference\n";
    assert_eq!(text, told);
    let json = world.expect(10, &[&args[..], &["--json"]].concat()).stdout;
    let diff: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(diff["schema"], "perennial.tree.diff/1");
    assert_eq!(diff["restarted"][0]["to"], 3);
    world.expect(2, &["tree", "diff", "dump.json"]);
    world.expect(2, &["tree", "diff", "dump.json", "gone.json"]);
}

#[test]
fn columns_are_chosen_for_the_text_and_for_nothing_else() {
    let world = with_dump();
    let shown =
        |columns: &str| world.expect(0, &["tree", "--dump", "dump.json", "--columns", columns]);
    let text = shown("mailbox,state").stdout;
    let titles: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(titles, ["NAME", "STATE", "MAILBOX"], "{text}");
    world.expect(2, &["tree", "--dump", "dump.json", "--columns", "moods"]);
    world.expect(2, &["tree", "--dump", "dump.json", "--columns", "state", "--json"]);
    let refused = world.expect(2, &["tree", "--declared", "--columns", "kind", "--format", "dot"]);
    assert!(refused.stderr.contains("--columns shapes the text"), "{refused:?}");
}
