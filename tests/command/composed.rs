//! Documents of several files and of the environment, through the command.

use serde_json::json;

use crate::world::{World, json_lines};

const FLOW: &str = "\
workflow:
  extends: parts/base.yaml
  name: greeting
  $if: ${STAGE:-dev} == \"prod\"
  $then: {variables: {tone: formal}}
  $else: {variables: {tone: warm}}
";
const BASE: &str = "\
workflow:
  include: [more.yaml]
  steps:
    - {name: greet, type: echo, value: \"${GREETING:-Hello} {{ state.tone }} {{ inputs.who }}\"}
    - {name: hide, type: echo, value: \"key ${DEMO_API_KEY:-none-at-all}\", continue_on_error: true}
";
const MORE: &str = "workflow: {inputs: {who: {type: string, default: Ada}}}\n";

fn world() -> World {
    let world = World::new();
    std::fs::create_dir(world.path("parts")).unwrap();
    world.write("flow.yaml", FLOW);
    world.write("parts/base.yaml", BASE);
    world.write("parts/more.yaml", MORE);
    world
}

#[test]
fn a_document_of_several_files_is_checked_and_shown_as_one() {
    let world = world();
    let output = world.expect(0, &["check", "flow.yaml", "--resolved", "--json"]);
    let report = &json_lines(&output.stdout)[0];
    let definition = &report["resolved"]["definition"];
    assert_eq!(definition["name"], "greeting");
    assert_eq!(definition["facts"]["variables"], json!({"tone": "warm"}));
    assert_eq!(definition["environment"], json!(["DEMO_API_KEY", "GREETING"]));
    assert_eq!(report["resolved"]["places"][0], "parts/base.yaml:4");
    let output = world.expect(0, &["check", "flow.yaml", "--resolved"]);
    assert!(output.stdout.contains("tone: warm"), "{}", output.stdout);

    let output = world.expect(0, &["check", "flow.yaml", "--inputs"]);
    assert!(
        output.stdout.contains("who           string       default \"Ada\"\n"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("DEMO_API_KEY  environment\n"), "{}", output.stdout);

    let output = world.expect(0, &["check", "flow.yaml", "--plan", "--json"]);
    let plan = &json_lines(&output.stdout)[0]["plan"];
    assert_eq!(plan["jobs"][1]["after"], json!(["greet"]));
    assert_eq!(plan["jobs"][1]["continue_on_error"], true);
    let output = world.expect(0, &["check", "flow.yaml", "--plan"]);
    assert!(
        output.stdout.contains("  1  greet  echo  1 attempt: at most 1m00s\n"),
        "{}",
        output.stdout
    );
    world.expect(2, &["check", "flow.yaml", "--plan", "--inputs"]);
}

#[test]
fn a_fault_of_an_included_file_is_told_in_that_file() {
    let world = world();
    world.write("parts/more.yaml", "workflow: {inputs: {who: {type: strin}}}\n");
    let output = world.expect(3, &["check", "flow.yaml"]);
    assert!(output.stdout.contains("--> parts/more.yaml:1:33"), "{}", output.stdout);
    world.write("parts/more.yaml", "workflow: {include: [../flow.yaml]}\n");
    let output = world.expect(3, &["check", "flow.yaml"]);
    assert!(output.stdout.contains("error[PL218]"), "{}", output.stdout);
    let run = world.expect(3, &["run", "flow.yaml", "--provider-mode", "mock"]);
    assert!(run.stderr.contains("PL218"), "{}", run.stderr);
}

#[test]
fn a_variable_that_is_not_set_is_needed_at_the_start_only() {
    let world = World::new();
    world.flow(
        "flow.yaml",
        "{name: a, type: echo, value: \"${NOT_SET_HERE}\", delay_ms: \"${NOT_SET_EITHER}\"}\n\
         {name: b, type: echo, value: '{{ env.NOT_SET_HERE }}'}",
    );
    let output = world.expect(0, &["check", "flow.yaml", "--inputs"]).stdout;
    assert!(
        output.contains(
            "note[PL217]: the environment variable `NOT_SET_HERE` is not set; needed at the start"
        ),
        "{output}"
    );
    assert!(output.contains("flow.yaml: valid (0 errors, 0 warnings, 2 notes)"), "{output}");
    for args in [&["graph", "flow.yaml"][..], &["explain", "flow.yaml", "a"]] {
        world.expect(0, args);
    }
    let refused = world.expect(3, &["run", "flow.yaml"]).stderr;
    assert!(refused.contains("error[PL217]"), "{refused}");
    assert!(!world.entries().contains("perennial.db"));
}
