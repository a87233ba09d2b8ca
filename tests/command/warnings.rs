//! What steps warn of, and what they ask, is told.

use serde_json::json;

use crate::world::{World, json_lines};

const FLOW: &str = "\
workflow:
  name: w
  steps:
    - {name: a, type: echo, value: '{{ 1 / 0 }}'}
    - name: ask
      type: claude
      prompt:
        - {type: static, content: \"be\\tbrief\\e[2J\", role: system}
        - {type: static, content: \"one\\ntwo\"}
";

const WARNING: &str = "`/` by zero: the result is 0";

#[test]
fn warnings_of_steps_are_told_while_it_runs_and_shown_later() {
    let world = World::new();
    world.write("w.yaml", FLOW);
    let output = world.expect(0, &["run", "w.yaml", "--provider-mode", "mock", "--run-id", "r1"]);
    assert!(output.stderr.contains(&format!("! a: {WARNING}\n")), "{}", output.stderr);
    let shown = world.expect(0, &["show", "r1"]).stdout;
    assert!(shown.contains(&format!("warning: {WARNING}\n")), "{shown}");
    let steps = &json_lines(&world.expect(0, &["show", "r1", "--json"]).stdout)[0]["steps"];
    assert_eq!((&steps[0]["warnings"], &steps[1]["warnings"]), (&json!([WARNING]), &json!([])));
    let lines = ["run", "w.yaml", "--provider-mode", "mock", "--json"];
    let lines = json_lines(&world.expect(0, &lines).stdout);
    let told = lines.iter().find(|line| line["event"] == "step_warning").unwrap();
    assert_eq!((&told["job"], &told["data"]["warnings"]), (&json!("a"), &json!([WARNING])));
}

#[test]
fn prompts_are_shown_part_by_part_when_asked_for() {
    let world = World::new();
    world.write("w.yaml", FLOW);
    let run = ["run", "w.yaml", "--provider-mode", "mock", "--run-id", "r1"];
    let output = world.expect(0, &[&run[..], &["--show-prompts", "--quiet"]].concat());
    assert_eq!(
        output.stderr,
        "=== prompt of ask [mock-claude] (run r1)\n\
         --- part 1 (static, system, 12 characters)\nbe\tbrief\\u{1b}[2J\n\
         --- part 2 (static, 7 characters)\none\ntwo\n\
         === end of the prompt of ask\n"
    );
    assert!(!world.expect(0, &["run", "w.yaml", "--provider-mode", "mock"]).stderr.contains("==="));
}
