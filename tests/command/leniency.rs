//! What the command line says about the reading of a file is stronger than the file (1.9).

use crate::world::World;

const OLD: &str = "\
workflow:
  name: old
  private: 1
  steps:
    - {name: a, type: echo, value: \"{{ steps.gone.x }}\"}
";
const MOCK: [&str; 2] = ["--provider-mode", "mock"];

#[test]
fn a_file_is_read_as_the_command_line_says() {
    let world = World::new();
    world.write("old.yaml", OLD);
    world.write(
        "kind.yaml",
        OLD.replace("private: 1", "lenient: {unknown_keys: ignore}\n  private: 1"),
    );
    let keys = ["--lenient", "unknown_keys=ignore"];
    let holes = ["--lenient", "missing_templates=literal"];
    for (code, file, flags) in [
        (3, "old.yaml", vec![]),
        (3, "old.yaml", keys.to_vec()),
        (0, "old.yaml", [keys, holes].concat()),
        (0, "kind.yaml", holes.to_vec()),
        (3, "kind.yaml", [&holes[..], &["--strict"]].concat()),
        (0, "kind.yaml", [&holes[..], &keys[..], &["--strict"]].concat()),
    ] {
        world.expect(code, &[&["check", file], &flags[..]].concat());
        world.expect(code, &[&["run", file], &MOCK[..], &flags[..]].concat());
    }
    let output = world.expect(0, &[&["run", "old.yaml"], &MOCK[..], &keys, &holes].concat());
    assert!(output.stdout.contains("{{ steps.gone.x }}"), "{}", output.stdout);
}

#[test]
fn warnings_can_be_denied_and_unknown_leniency_is_a_wrong_command_line() {
    let world = World::new();
    world.write("warned.yaml", "workflow: {name: x, steps: [{name: inputs, type: echo}]}");
    world.expect(0, &["check", "warned.yaml"]);
    let denied = world.expect(3, &["check", "warned.yaml", "--deny-warnings"]).stdout;
    assert!(denied.contains(": valid, and refused: --deny-warnings allows no"), "{denied}");
    let run = world.expect(3, &[&["run", "warned.yaml", "--deny-warnings"], &MOCK[..]].concat());
    assert!(run.stderr.contains("warning[PL304]"), "{}", run.stderr);
    for (flag, words) in [
        ("colour=red", "unknown leniency `colour`"),
        ("unknown_keys=maybe", "unknown_keys must be one of: error, warn, ignore, got: maybe"),
        ("unknown_keys", "--lenient needs OPTION=VALUE"),
    ] {
        let output = world.expect(2, &["check", "warned.yaml", "--lenient", flag]);
        assert!(output.stderr.contains(words), "{flag}: {}", output.stderr);
    }
}

#[test]
fn yf_22_the_report_is_one_object_in_json() {
    let world = World::new();
    world.write("old.yaml", OLD);
    let form = world.expect(3, &["check", "old.yaml", "--format", "json"]).stdout;
    assert_eq!(form, world.expect(3, &["check", "old.yaml", "--json"]).stdout);
    let report: serde_json::Value = serde_json::from_str(&form).unwrap();
    assert_eq!(report["summary"]["errors"], 2);
}

#[test]
fn the_schema_of_workflow_files_is_printed() {
    let world = World::new();
    let output = world.expect(0, &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(schema["$id"], "urn:perennial:pipeline:1");
    assert!(world.entries().is_empty());
}
