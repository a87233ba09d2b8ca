//! Environments and limits: who says which mode, what it changes, and what nobody can pass (1.6, 1.11).

use serde_json::Value;

use crate::world::{SOON, World};

const MOCK: [&str; 2] = ["--provider-mode", "mock"];

fn flow(keys: &str) -> String {
    format!(
        "workflow:\n  name: flow\n  language: 1\n{keys}  steps:\n  \
         - {{name: a, type: echo, value: \"{{{{ environment.mode }}}}\"}}\n  \
         - {{name: b, type: echo, value: 1}}\n"
    )
}

/// The resolved definition, of a `check` with `args` and these variables.
fn resolved(world: &World, args: &[&str], variables: &[(&str, &str)]) -> Value {
    let args = [&["check", "flow.yaml", "--resolved", "--json"], args].concat();
    let command = variables
        .iter()
        .fold(world.command(&args), |command, (name, value)| command.env(name, value));
    let output = command.run(SOON).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    report["resolved"].clone()
}

#[test]
fn the_mode_comes_from_the_option_the_document_the_environment_or_the_configuration() {
    let world = World::new();
    world.write("flow.yaml", flow(""));
    world.write("p.toml", "[pipeline]\nenvironment = \"production\"\n");
    let config = ["--config", "p.toml"];
    let test = [("PERENNIAL_ENV", "test")];
    let of = |args: &[&str], variables: &[(&str, &str)]| {
        let shown = resolved(&world, args, variables);
        (
            shown["definition"]["deployed"]["mode"].clone(),
            shown["limits"]["max_nesting_depth"].clone(),
            shown["digest"].clone(),
        )
    };
    let plain = of(&[], &[]);
    assert_eq!((&plain.0, &plain.1), (&Value::Null, &10.into()));
    let configured = of(&config, &[]);
    assert_eq!((&configured.0, &configured.1), (&"production".into(), &8.into()));
    assert_ne!(plain.2, configured.2, "the mode is part of the definition");
    assert_eq!(of(&config, &test).1, 5);
    assert_eq!(of(&[&config[..], &["--env", "development"]].concat(), &test).1, 15);
    world.write("flow.yaml", flow("  environment: {mode: production}\n"));
    assert_eq!(of(&[], &test).1, 8);
    assert_eq!(of(&["--env", "test"], &[]).1, 5);
    let output =
        world.expect(0, &[&["run", "flow.yaml", "--json", "--env", "test"], &MOCK[..]].concat());
    assert!(output.stdout.contains("\"test\""), "{}", output.stdout);
    for (args, words) in [
        (["--env", "prod"], "`prod` is no environment"),
        (["--limit", "max_depht=1"], "unknown limit `max_depht`"),
        (["--limit", "max_total_steps=0"], "must be between 1 and"),
        (["--limit", "max_total_steps"], "--limit needs NAME=NUMBER"),
    ] {
        for command in ["check", "run"] {
            let output = world.expect(2, &[&[command, "flow.yaml"], &args[..]].concat());
            assert!(output.stderr.contains(words), "{args:?}: {}", output.stderr);
        }
    }
}

#[test]
fn limits_end_a_run_and_nobody_passes_an_enforced_one() {
    let world = World::new();
    world.write("flow.yaml", flow(""));
    let run = |code: i32, args: &[&str]| {
        world.expect(code, &[&["run", "flow.yaml"], &MOCK[..], args].concat()).stderr
    };
    run(0, &["--limit", "max_step_executions=2"]);
    let told = run(1, &["--limit", "max_step_executions=1"]);
    assert!(told.contains("Maximum step executions (1) exceeded: current total is 2"), "{told}");
    world.write("p.toml", "[limits]\nmax_step_executions = 1\n");
    run(1, &["--config", "p.toml"]);
    // It is weaker than all others, unless it is enforced.
    run(0, &["--config", "p.toml", "--limit", "max_step_executions=2"]);
    world.write(
        "p.toml",
        "[limits]\nmax_step_executions = 1\nenforced = [\"max_step_executions\"]\n",
    );
    run(1, &["--config", "p.toml", "--limit", "max_step_executions=2"]);
    world.write("flow.yaml", flow("  resource_limits: {max_step_executions: 7}\n"));
    run(1, &["--config", "p.toml"]);
    let told = world.expect(0, &["check", "flow.yaml", "--config", "p.toml"]).stdout;
    assert!(told.contains("warning[PL513]: max_step_executions is 1 here, and not 7"), "{told}");
    world.write("p.toml", "[limits]\nenforced = [\"max_step_executions\"]\n");
    let told = run(2, &["--config", "p.toml"]);
    assert!(told.contains("is enforced, and has no value beside it"), "{told}");
}

#[test]
fn production_takes_no_mocks_and_exports_and_what_forces_mocks_is_never_live() {
    let world = World::new();
    world.write("flow.yaml", flow(""));
    let production = ["--env", "production"];
    let told = world.expect(3, &[&["run", "flow.yaml"], &MOCK[..], &production].concat()).stderr;
    assert!(told.contains("the environment `production` allows no mocks"), "{told}");
    assert!(!world.path("checkpoints").exists(), "nothing was made");
    world.expect(0, &["run", "flow.yaml", "--provider-mode", "live", "--env", "production"]);
    assert!(world.path("checkpoints/flow_latest.json").is_file());
    world.write("flow.yaml", flow("  environment: {production: {allow_mock_providers: true}, test: {force_mock_providers: true}}\n"));
    world.expect(0, &[&["run", "flow.yaml"], &MOCK[..], &production].concat());
    let told =
        world.expect(3, &["run", "flow.yaml", "--provider-mode", "live", "--env", "test"]).stderr;
    assert!(told.contains("lets only mocks answer"), "{told}");
    world.expect(0, &[&["run", "flow.yaml", "--env", "test"], &MOCK[..]].concat());
}

#[test]
fn a_document_says_where_its_steps_may_read_and_write() {
    let world = World::new();
    let flow = |keys: &str, path: &str| {
        format!(
            "workflow:\n  name: flow\n  language: 1\n{keys}  steps:\n  \
             - {{name: a, type: echo, value: hi, output_to_file: \"{path}\"}}\n"
        )
    };
    world.write("there/is.txt", "");
    let start = |code: i32, more: &[&str]| {
        let args = [&["run", "here/flow.yaml", "--project-root", "here"], &MOCK[..], more].concat();
        world.expect(code, &args)
    };
    world.write("here/flow.yaml", flow("", "../../there/a.txt"));
    assert!(start(1, &[]).stderr.contains("is outside of the allowed roots"));
    world.write(
        "here/flow.yaml",
        flow("  safety: {allowed_paths: [../there]}\n", "../../there/a.txt"),
    );
    start(0, &[]);
    assert!(world.path("there/a.txt").is_file());
    world.write(
        "here/flow.yaml",
        flow(
            "  safety: {allowed_paths: [../there], read_only_paths: [../there/kept]}\n",
            "../../there/kept/a.txt",
        ),
    );
    assert!(start(1, &[]).stderr.contains("is read-only"));
    assert!(!world.path("there/kept/a.txt").exists());
    world.write(
        "here/flow.yaml",
        flow("  safety: {restrict_file_access: false}\n", "../../anywhere/a.txt"),
    );
    assert!(start(3, &[]).stderr.contains("--allow-unrestricted-files"));
    start(0, &["--allow-unrestricted-files"]);
    assert!(world.path("anywhere/a.txt").is_file());
    world.write("here/flow.yaml", flow("  output_config: {organize_by_step: true}\n  directories: {structure: {outputs: out}}\n", "deep/a.txt"));
    start(0, &[]);
    assert!(world.path("here/out/a/deep/a.txt").is_file());
    world.write(
        "here/flow.yaml",
        flow("  workspace_dir: ws\n  workspace_config: {create_if_missing: false}\n", "b.txt"),
    );
    assert!(start(3, &[]).stderr.contains("PL610"));
    assert!(!world.path("here/ws").exists());
    world.write("here/ws/kept.txt", "");
    start(0, &[]);
}
