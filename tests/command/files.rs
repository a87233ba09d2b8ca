//! Directories of a run: who says where they are, and what is told of the files in them.

use crate::world::World;

const MOCK: [&str; 2] = ["--provider-mode", "mock"];

fn flow(keys: &str) -> String {
    format!(
        "workflow:\n  name: flow\n  language: 1\n{keys}  steps:\n  \
         - {{name: a, type: claude, prompt: \"say it\", claude_options: {{model: m}}, output_to_file: a.json}}\n"
    )
}

fn run(world: &World, more: &[&str]) -> String {
    world.expect(0, &[&["run", "flow.yaml"], &MOCK[..], more].concat()).stdout
}

#[test]
fn c_29_and_c_31_directories_are_made_where_option_document_environment_or_default_say() {
    let world = World::new();
    world.write("flow.yaml", flow(""));
    let told = run(&world, &[]);
    assert!(told.contains("a wrote a.json in ") && told.contains("/outputs\n"), "{told}");
    for made in ["workspace", "outputs", "checkpoints"] {
        assert!(world.path(made).is_dir(), "C-187: {made}");
    }
    assert!(world.path("outputs/a.json").is_file());

    world.write("flow.yaml", flow("  output_dir: ./doc/out\n"));
    let in_environment = |more: &[&str]| {
        let args = [&["run", "flow.yaml"], &MOCK[..], more].concat();
        let command = world.command(&args);
        let command =
            command.env("PERENNIAL_OUTPUT_DIR", "env/out").env("PIPELINE_WORKSPACE_DIR", "env/ws");
        let output = command.run(crate::world::SOON).unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    in_environment(&[]);
    assert!(world.path("doc/out/a.json").is_file(), "the document beats the environment");
    assert!(world.path("env/ws").is_dir(), "the environment beats the default");
    assert!(!world.path("env/out").exists());
    in_environment(&[
        "--output-dir",
        "opt/er/out",
        "--project-root",
        "root",
        "--workspace-dir",
        "ws",
    ]);
    assert!(world.path("root/opt/er/out/a.json").is_file(), "an option beats both");
    assert!(world.path("root/ws").is_dir());
}

#[test]
fn pl_610_a_directory_that_cannot_be_made_refuses_the_start() {
    let world = World::new();
    world.write("flow.yaml", flow(""));
    world.write("file", "");
    let refused =
        world.expect(3, &[&["run", "flow.yaml"], &MOCK[..], &["--output-dir", "file/x"]].concat());
    assert!(refused.stderr.contains("error[PL610]"), "{refused:?}");
    assert!(!world.path("perennial.db").exists());
}

#[test]
fn a_run_without_files_makes_no_directory_and_show_tells_files() {
    let world = World::with_hello();
    world.expect(0, &[&["run", crate::world::HELLO], &MOCK[..]].concat());
    assert!(!world.path("workspace").exists() && !world.path("outputs").exists());
    world.write("flow.yaml", flow(""));
    run(&world, &["--run-id", "r1"]);
    assert!(world.expect(0, &["show", "r1"]).stdout.contains("wrote a.json"));
    assert_eq!(world.shown("r1")["steps"][0]["result"]["output_file"], "a.json");
}

#[test]
fn c_187_exports_are_written_rotated_and_complete() {
    let world = World::new();
    let steps: String = (1..=7)
        .map(|n| {
            format!("  - {{name: s{n}, type: set_variable, variables: {{v{n}: [{n}, \"ü\"]}}}}\n")
        })
        .collect();
    let keys = "checkpoint_enabled: true\n  checkpoint_config: {rotation_policy: keep_last_3}";
    world.write(
        "flow.yaml",
        format!("workflow:\n  name: a flow\n  language: 1\n  variables: {{v0: 0}}\n  {keys}\n  steps:\n{steps}"),
    );
    run(&world, &["--checkpoint-dir", "cp", "--run-id", "r1"]);
    let names: Vec<String> = world
        .entries()
        .into_iter()
        .filter_map(|path| Some(path.strip_prefix("cp/")?.to_owned()))
        .collect();
    assert_eq!(names.len(), 4, "three with a stamp, and the latest: {names:?}");
    let latest =
        names.iter().find(|name| name.starts_with("a_flow_") && name.ends_with("_latest.json"));
    let text = std::fs::read_to_string(world.path("cp").join(latest.unwrap())).unwrap();
    let export: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(export["workflow_name"], "a flow");
    assert_eq!(export["run_id"], "r1");
    assert_eq!((&export["status"], &export["step_index"]), (&"completed".into(), &7.into()));
    assert_eq!(export["version"], "1.1");
    assert_eq!(export["results"]["s3"]["values"]["v3"], serde_json::json!([3, "ü"]));
    assert_eq!(export["variable_state"]["global"]["v7"][0], 7);
    assert_eq!(export["variable_state"]["global"]["v0"], 0);
    let log = export["execution_log"].as_array().unwrap();
    assert_eq!(
        (&log[0]["step"], &log[0]["status"], &log[0]["type"]),
        (&"s7".into(), &"completed".into(), &"set_variable".into())
    );
    assert_eq!(log.len(), 7);
}

/// Proves R3.10, D41.
#[test]
fn yr_61_an_export_that_cannot_be_written_does_not_stop_the_run() {
    let world = World::new();
    world.write("flow.yaml", flow("  checkpoint_enabled: true\n"));
    world.write("checkpoints/flow_latest.json/in the way", "");
    run(&world, &[]);
    let stamped = world.entries().into_iter().filter(|path| path.starts_with("checkpoints/flow_2"));
    assert!(stamped.count() > 0, "the others are written");
}

#[test]
fn yr_73_files_that_are_certain_to_be_needed_are_asked_for_before_the_start() {
    let world = World::new();
    let step = |name: &str, path: &str, more: &str| {
        format!(
            "  - {{name: {name}, type: claude, claude_options: {{model: m}}, prompt: [{{type: static, content: x}}, {{type: file, path: \"{path}\"{more}}}]}}\n"
        )
    };
    let steps = [
        step("a", "no.md", ""),
        step("b", "../../outside.md", ""),
        step("c", "workspace/made.md", ", condition: \"false\""),
        step("d", "no-{{ date }}.md", ", condition: \"false\""),
        step("e", "here.md", ""),
        step("f", "parts/*.md", ""),
    ]
    .concat();
    let document = |lenient: &str| {
        format!("workflow:\n  name: flow\n  language: 1\n{lenient}  steps:\n{steps}")
    };
    world.write("flow.yaml", document(""));
    world.write("here.md", "here");
    let refused = world.expect(3, &[&["run", "flow.yaml"], &MOCK[..]].concat()).stderr;
    for told in ["[PL520] step `a`", "[PL609] step `b`", "[PL520] step `f`"] {
        assert!(refused.contains(told), "{told}: {refused}");
    }
    assert!(
        !refused.contains("step `c`")
            && !refused.contains("step `d`")
            && !refused.contains("step `e`"),
        "{refused}"
    );
    assert!(!world.path("perennial.db").exists());
    world.write("flow.yaml", document("  lenient: {missing_files: at_use}\n"));
    let failed = world.expect(1, &[&["run", "flow.yaml"], &MOCK[..]].concat()).stderr;
    assert!(failed.contains("a failed"), "{failed}");
}
