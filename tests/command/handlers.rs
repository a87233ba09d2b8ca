//! Handlers as the command shows them.

use serde_json::{Value, json};

use crate::world::{World, json_lines};

const FLOW: &str = r#"workflow:
  name: handlers
  checkpoint_enabled: true
  steps:
  - name: send
    type: echo
    fail: true
    error_message: no line
    on_error:
    - {name: note, type: set_variable, variables: {why: "{{ error.message }}"}}
    - {name: tell, type: echo, value: "told: {{ why }}"}
  - {name: last, type: echo, value: "{{ steps.send.handled }}"}
"#;

#[test]
fn the_steps_of_a_handler_stand_under_the_step_that_failed() {
    let world = World::new();
    world.write("flow.yaml", FLOW);
    let output = world.expect(0, &["run", "flow.yaml"]);
    let said: Vec<&str> =
        output.stderr.lines().filter(|line| line.starts_with(['✓', '~', '✗'])).collect();
    let expected =
        ["~ send failed, tolerated: no line", "✓ send[error]/note", "✓ send[error]/tell", "✓ last"];
    assert_eq!(said, expected, "{}", output.stderr);
    let begins = [
        "send: failed (PL617)",
        "  note (on error): ",
        "  tell (on error): told: no line",
        "last: told: no line",
        "run ",
    ];
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), begins.len(), "{}", output.stdout);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
    }
    let listed = &json_lines(&world.expect(0, &["runs", "--json"]).stdout)[0];
    let run = listed["run"].as_str().unwrap();
    assert_eq!((&listed["jobs_done"], &listed["steps"]), (&json!(2), &json!(2)));
    let shown = world.expect(0, &["show", run]).stdout;
    assert!(shown.contains("\nsucceeded   send[error]/tell  told: no line"), "{shown}");
    assert!(!shown.contains('#') && shown.matches("send ").count() == 1, "{shown}");
    let shown = &json_lines(&world.expect(0, &["show", run, "--json"]).stdout)[0];
    let steps = shown["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["send", "send[error]/note", "send[error]/tell", "last"]);
    assert_eq!(steps[0]["result"]["handled"], "told: no line");
    assert_eq!(shown["performance"]["total_steps"], 4);
    for (name, told) in [("send[error]/tell", "told: no line"), ("tell", "told: no line")] {
        assert_eq!(world.expect(0, &["results", run, name]).stdout.trim(), told);
    }
    let result = world.expect(0, &["results", run, "send"]).stdout;
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["handled"], "told: no line");
    let graph = world.expect(0, &["graph", "--run", run]).stdout;
    assert!(graph.contains("s0 ==>|\"on error\"| s1"), "{graph}");
    assert!(!graph.contains("not reached"), "{graph}");

    let export = std::fs::read(world.path("checkpoints/handlers_latest.json")).unwrap();
    let export: Value = serde_json::from_slice(&export).unwrap();
    assert_eq!(export["results"]["send"]["handled"], "told: no line");
    let log = export["execution_log"].as_array().unwrap();
    let told: Vec<&Value> = log.iter().map(|entry| &entry["step"]).collect();
    assert_eq!(told, ["last", "send"], "newest first");
    assert_eq!(log[1]["status"], "failed");
    assert_eq!(export["variable_state"]["global"]["why"], "no line");
}

#[test]
fn a_handler_is_told_before_anything_runs() {
    let world = World::new();
    world.write("flow.yaml", FLOW);
    let plan = world.expect(0, &["check", "flow.yaml", "--plan"]).stdout;
    assert!(plan.contains("  has a handler\n"), "{plan}");
    assert!(plan.contains("send[error]/note") && plan.contains("  if send fails\n"), "{plan}");
    let explained = world.expect(0, &["explain", "flow.yaml", "send"]).stdout;
    let line = "on failure its handler runs: send[error]/note, send[error]/tell\n";
    assert!(explained.contains(line), "{explained}");
    let explained = world.expect(0, &["explain", "flow.yaml", "send[error]/tell"]).stdout;
    assert!(explained.contains("reads      why (from step note)\n"), "{explained}");
}

#[test]
fn a_handler_that_fails_is_told_beside_the_failure() {
    let world = World::new();
    world.write(
        "flow.yaml",
        FLOW.replace("type: echo, value: \"told", "type: echo, fail: true, value: \"told"),
    );
    let output = world.expect(1, &["run", "flow.yaml"]);
    assert!(output.stderr.contains("Step 'send' failed: no line\n"), "{}", output.stderr);
    let related = "\n  its handler failed at send[error]/tell\n";
    assert!(output.stderr.contains(related), "{}", output.stderr);
    let quiet = world.expect(1, &["run", "flow.yaml", "--fresh", "--quiet"]).stderr;
    let related = "  its handler failed at send[error]/tell: Test step intentionally failed\n";
    assert!(quiet.contains(related), "{quiet}");
    let listed = &json_lines(&world.expect(0, &["runs", "--json"]).stdout)[0];
    let shown = world.expect(0, &["show", listed["run"].as_str().unwrap()]).stdout;
    assert!(shown.contains("error      no line\n"), "{shown}");
    assert!(shown.contains("its handler failed at send[error]/tell"), "{shown}");
    assert!(shown.contains("\nfailed      send  "), "{shown}");
}
