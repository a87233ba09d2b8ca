//! Workflows inside steps, as the command shows them.

use serde_json::json;

use crate::world::{SOON, World, json_lines, repository};

const NESTED: &str = "examples/flows/nested.yaml";

#[test]
fn the_steps_of_a_child_stand_under_the_step_that_runs_it() {
    let world = World::new();
    world.write(NESTED, std::fs::read(repository().join(NESTED)).unwrap());
    let output = world.expect(0, &["run", NESTED, "--provider-mode", "mock"]);
    let said: Vec<&str> = output.stderr.lines().skip(2).collect();
    assert_eq!(
        said,
        [
            "✓ request",
            "✓ research/count",
            "✓ research/ask",
            "✓ research/summary",
            "✓ research",
            "✓ report"
        ]
    );
    let begins = [
        "request: ",
        "research: {\"result\":{\"summary\":",
        "  count: asked = 6",
        "  ask [mock-claude, mock]: ",
        "  summary [mock-claude, mock]: ",
        "report: 6 facts were asked for: ",
        "run ",
    ];
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), begins.len(), "{}", output.stdout);
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
    }
    let listed = json_lines(&world.expect(0, &["runs", "--json"]).stdout);
    let run = listed[0]["run"].as_str().unwrap();
    assert_eq!((&listed[0]["jobs_done"], &listed[0]["steps"]), (&json!(3), &json!(3)));
    let paths = world.expect(0, &["show", run]).stdout;
    assert!(paths.contains("\nsucceeded   research/count    asked = 6"), "{paths}");
    let results = world.expect(0, &["results", run]).stdout;
    assert!(!results.contains('#'), "{results}");
    for name in ["research/ask", "ask"] {
        world.expect(0, &["results", run, name]);
    }
    let explained = world.expect(0, &["explain", NESTED, "research/ask"]).stdout;
    assert!(explained.starts_with("step       research/ask (claude, 2 of 3)\n"), "{explained}");
    assert!(world.expect(0, &["graph", NESTED]).stdout.contains("[\"research\"]"));
    let shown = &json_lines(&world.expect(0, &["show", run, "--json"]).stdout)[0];
    let steps: Vec<(&str, u64)> = shown["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["step"].as_str().unwrap(), step["depth"].as_u64().unwrap()))
        .collect();
    let inner = ["research/count", "research/ask", "research/summary"].map(|step| (step, 1));
    assert_eq!(steps[0..2], [("request", 0), ("research", 0)]);
    assert_eq!(steps[2..5], inner);
    assert_eq!(shown["performance"]["total_steps"], 6);
}

const CHOSEN: &str = "workflow:
  name: chosen
  inputs: {kind: {type: string}}
  steps:
    - {name: before, type: echo, value: 1}
    - {name: n, type: pipeline, pipeline_file: 'parts/{{ inputs.kind }}.yaml', inputs: {x: 2}}
";
const PART: &str = "workflow:
  name: part
  steps:
    - {name: first, type: echo, value: '{{ inputs.x }}'}
    - {name: second, type: echo, value: '{{ steps.first }}', fail: true, error_message: broken}
";

/// What is not known of a child before it is opened is said; afterwards it is there.
#[test]
fn a_child_whose_file_a_hole_names_is_shown_as_far_as_it_is_known() {
    let world = World::new();
    world.write("chosen.yaml", CHOSEN);
    world.write("parts/part.yaml", PART);
    let later = "file parts/{{ inputs.kind }}.yaml, known when the step is opened";
    let planned = world.expect(0, &["check", "--plan", "chosen.yaml"]).stdout;
    assert!(planned.contains(&format!("({later})")), "{planned}");
    let explained = world.expect(0, &["explain", "chosen.yaml", "n"]).stdout;
    assert!(explained.contains(&format!("\nchild      {later}\n")), "{explained}");
    assert!(explained.contains("inputs.kind"), "{explained}");
    let drawn = world.expect(0, &["graph", "chosen.yaml"]).stdout;
    assert!(drawn.contains("known when the step is opened"), "{drawn}");

    let run = ["run", "chosen.yaml", "kind=part", "--run-id", "r1", "--provider-mode", "mock"];
    let failed = world.expect(1, &run);
    assert!(failed.stderr.contains("~ n/second failed"), "{}", failed.stderr);
    // The run has read its child: it is the same one, whatever its file says now.
    world.write("parts/part.yaml", PART.replace(", fail: true", ""));
    let failed = world.expect(1, &["resume", "r1"]);
    assert!(failed.stderr.contains("~ n/second failed"), "{}", failed.stderr);
    let changed = "parts/part.yaml, which has changed since";
    let anew = "read it anew with: perennial resume r1 --from n\n";
    assert!(failed.stderr.contains("warning: run r1: n goes on by the recorded text of "));
    assert!(failed.stderr.contains(changed) && failed.stderr.contains(anew), "{}", failed.stderr);
    let shown = world.expect(0, &["show", "r1"]).stdout;
    assert!(shown.contains("n/first"), "{shown}");
    assert!(shown.contains("\nfile       chosen.yaml\n"), "{shown}");
    assert!(shown.contains(changed) && shown.contains(anew), "{shown}");
    let told = &json_lines(&world.expect(0, &["show", "r1", "--json"]).stdout)[0];
    assert_eq!(told["steps"][1]["file_changed"], true, "{told}");
    let drawn = world.expect(0, &["graph", "--run", "r1"]).stdout;
    assert!(drawn.contains("failed, attempt 2, read from parts/part.yaml"), "{drawn}");
    let refused = world.command(&["resume", "r1", "--from", "n/second"]).run(SOON).unwrap();
    assert!(!refused.status.success());
    let text = "`n/second` is no outermost step: a run goes on from one of those, as `n`";
    assert!(refused.stderr.contains(text), "{}", refused.stderr);
    assert!(refused.stderr.contains("perennial resume r1 --from n\n"), "{}", refused.stderr);
    // Asked for, it is read anew.
    let done = world.expect(0, &["resume", "r1", "--from", "n"]);
    assert!(done.stderr.contains("✓ n/second"), "{}", done.stderr);

    let run = ["run", "chosen.yaml", "kind=absent", "--run-id", "r2", "--provider-mode", "mock"];
    let failed = world.expect(1, &run);
    let text = "Failed to load pipeline file 'parts/absent.yaml', named by \
                parts/{{ inputs.kind }}.yaml of step `n`";
    assert!(failed.stderr.contains(text), "{}", failed.stderr);
}

/// A child that was not opened has done nothing: its file may be corrected, and the run goes on by what it says then.
#[test]
fn the_file_of_a_child_that_was_not_opened_is_read_anew() {
    let world = World::new();
    world.write("flows/chosen.yaml", CHOSEN);
    let run =
        ["run", "flows/chosen.yaml", "kind=part", "--run-id", "r1", "--provider-mode", "mock"];
    let failed = world.expect(1, &run);
    let places = ["parts/part.yaml nor ", "flows/parts/part.yaml"];
    assert!(places.iter().all(|place| failed.stderr.contains(place)), "{}", failed.stderr);
    let begin = "workflow:
  name: part
";
    let more = "  inputs: {more: {type: string}}
";
    let steps = "  steps: [{name: first, type: echo, value: 1}]
";
    world.write("flows/parts/part.yaml", format!("{begin}{more}{steps}"));
    let failed = world.expect(1, &["resume", "r1"]);
    let text = "flows/parts/part.yaml: required inputs missing: more";
    assert!(failed.stderr.contains(text), "{}", failed.stderr);
    // It has written nothing, whatever its steps would do.
    let failed = world.expect(1, &["resume", "r1", "--from", "n"]);
    assert!(failed.stderr.contains(text), "{}", failed.stderr);
    world.write("flows/parts/part.yaml", format!("{begin}{steps}"));
    let done = world.expect(0, &["resume", "r1"]);
    assert!(!done.stderr.contains("recorded text"), "{}", done.stderr);
    let shown = world.expect(0, &["show", "r1"]).stdout;
    assert!(shown.contains("\nfile       flows/chosen.yaml\n"), "{shown}");
    assert!(shown.contains("read from ") && shown.contains("flows/parts/part.yaml\n"), "{shown}");
}

/// YF-42, YR-70: what a child holds is recorded, so it holds no secret of the run; its files lie beside it.
#[test]
fn a_loaded_child_holds_no_secret_and_finds_its_files_beside_it() {
    let world = World::new();
    let part = |text: &str| {
        format!(
            "workflow:
  name: part
  steps:
    - {{name: ask, type: claude, prompt: [{{type: file, path: note.txt}}, {{type: static, content: {text}}}]}}
"
        )
    };
    let chosen = CHOSEN.replace("value: 1", "value: 'for ${REPORT_TOKEN}'");
    world.write("flows/chosen.yaml", chosen);
    world.write("parts/note.txt", "a note beside it");
    let run = |id: &str| {
        let args =
            ["run", "flows/chosen.yaml", "kind=part", "--run-id", id, "--provider-mode", "mock"];
        let command = world.command(&args).env("REPORT_TOKEN", "correct-horse-battery");
        command.run(SOON).unwrap()
    };
    world.write("parts/part.yaml", part("say correct-horse-battery"));
    let refused = run("r1");
    let text = "a secret of the run would be part of its definition";
    assert!(refused.stderr.contains(text), "{}", refused.stderr);
    world.write("parts/part.yaml", part("hello"));
    let done = run("r2");
    assert!(done.status.success() && done.stdout.contains("a note beside it"), "{done:?}");
}

/// The workflows that others wrote, where there are some.
#[test]
fn nested_samples_behave_as_they_are_described() {
    let Ok(folder) = std::env::var("PERENNIAL_SAMPLES") else {
        eprintln!("skipped: PERENNIAL_SAMPLES names no folder of workflow files");
        return;
    };
    let sample = |name: &str| format!("{folder}/{name}.yaml");
    let world = World::new();
    let basic = sample("test_nested_basic");
    let output = world.expect(0, &["run", &basic, "--provider-mode", "mock", "--json"]);
    let lines = json_lines(&output.stdout);
    let outcome = lines.iter().find(|line| line["type"] == "outcome").unwrap();
    assert_eq!(outcome["results"]["nested_step"]["echo"], "nested_result");
    assert_eq!(outcome["results"]["verify"], "verification_complete");
    assert_eq!(
        outcome["results"].as_object().unwrap().len(),
        3,
        "steps of the child are not there"
    );

    let processor = sample("nested_processor");
    let given = ["item_name=x", "item_count=42", "multiplier=2"];
    let run = ["run", &processor, "--provider-mode", "mock", "--json"];
    let output = world.expect(0, &[&run[..], &given[..]].concat());
    let lines = json_lines(&output.stdout);
    let outcome = lines.iter().find(|line| line["type"] == "outcome").unwrap();
    assert_eq!(outcome["results"]["multiply_count"], 84);
}

const DEEP: &str = "workflow:
  name: deep
  language: 1
  inputs: {n: {type: integer, default: 40}}
  pipelines: {self: deep.yaml}
  steps:
    - {name: here, type: echo, value: '{{ inputs.n }}'}
    - name: more
      type: pipeline
      condition: inputs.n > 0
      pipeline_ref: self
      config: {allow_recursion: true, max_depth: MOST}
      inputs: {n: '{{ inputs.n - 1 }}'}
";

/// However deep it is, the reason is told once, with the limit that it was.
#[test]
fn a_failure_deep_inside_is_told_once() {
    let world = World::new();
    for (most, limit, advice) in [
        ("12", "max_nesting_depth=20", "Limit: `config.max_depth` of step `more`; raise it there"),
        ("300", "max_nesting_depth=5", "Limit: `max_nesting_depth` of the run (`--limit "),
        ("300", "max_total_steps=90", "Limit: the hard limit of 32, which nothing raises"),
        ("300", "max_total_steps=9", "Limit: `max_total_steps` of the run (`--limit "),
    ] {
        world.write("deep.yaml", DEEP.replace("MOST", most));
        let id = format!("r{}", limit.replace(['_', '='], "-"));
        let run = ["run", "deep.yaml", "--run-id", &id, "--limit", limit];
        let failed = world.expect(1, &[&run[..], &["--provider-mode", "mock"]].concat());
        let said = &failed.stderr;
        assert_eq!(said.matches("Safety violation").count(), 1, "{said}");
        assert_eq!(said.matches("~ ").count(), 1, "{said}");
        assert!(said.contains(" failed (PL80") && said.contains(advice), "{said}");
        let shown = world.expect(0, &["show", &id]).stdout;
        assert_eq!(shown.matches("Error: Maximum").count(), 1, "{shown}");
    }
}

/// What a child forgives goes no further, so it is told when it happens.
#[test]
fn a_failure_that_a_child_forgives_is_told_when_it_happens() {
    let world = World::new();
    let tolerant = "workflow:
  name: tolerant
  steps:
    - name: n
      type: pipeline
      pipeline:
        name: c
        steps:
          - name: m
            type: pipeline
            config: {continue_on_error: true}
            pipeline:
              name: d
              steps: [{name: bad, type: echo, fail: true, error_message: no line}]
          - {name: next, type: echo}
";
    world.write("tolerant.yaml", tolerant);
    let done = world.expect(0, &["run", "tolerant.yaml", "--provider-mode", "mock"]).stderr;
    let told = done.find("~ n/m failed: Nested pipeline 'd' failed: no line");
    assert!(told.is_some() && told < done.find("✓ n/next"), "{done}");
    assert_eq!(done.matches("no line").count(), 1, "{done}");
}
