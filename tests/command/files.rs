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
