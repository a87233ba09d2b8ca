//! The tree of a run that was saved, in every form.

use std::fs;

use perennial::inspect::from_json;

use crate::world::{HELLO, World};

/// A folder with `dump.json`, the tree at the end of a run.
fn with_dump() -> World {
    let world = World::with_hello();
    let args = ["run", HELLO, "--provider-mode", "mock", "--run-id", "r", "--tree", "--json"];
    let output = world.expect(0, &args);
    world.write("dump.json", output.stdout.lines().last().unwrap());
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
    for format in ["text", "json", "dot", "mermaid"] {
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
