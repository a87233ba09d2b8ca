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

#[test]
fn a_file_of_the_project_wins_over_one_beside_the_document_with_a_warning() {
    let world = World::new();
    let flow = "workflow:\n  name: w\n  steps:\n    - name: ask\n      type: claude\n      prompt:\n\
                \x20       - {type: file, path: both.md}\n        - {type: file, path: same.md}\n\
                \x20       - {type: file, path: near.md}\n";
    world.write("flows/w.yaml", flow);
    world.write("both.md", "project\n");
    world.write("flows/both.md", "document\n");
    world.write("same.md", "same\n");
    world.write("flows/same.md", "same\n");
    world.write("flows/near.md", "near\n");
    let run = ["run", "flows/w.yaml", "--provider-mode", "mock", "--show-prompts"];
    let said = world.expect(0, &run).stderr;
    assert!(said.contains("characters)\nproject\n--- part 2"), "{said}");
    assert!(said.contains("! ask: both.md is that of the project root; "), "{said}");
    assert!(!said.contains("same.md is that") && said.contains("\nnear\n"), "{said}");
    world.write("flows/w.yaml", flow.replace("near.md", "nowhere.md"));
    let output = world.expect(1, &run);
    let here = world.path("nowhere.md").canonicalize().unwrap_or(world.path("nowhere.md"));
    let near = world.path("flows/nowhere.md");
    let tried = format!("nowhere.md (tried {} and {})", here.display(), near.display());
    assert!(output.stderr.contains(&format!("File not found: {tried}")), "{}", output.stderr);
}
