//! Runs that another process began: paused, interrupted, or ended.

use perennial::{Pipelines, RunId, Runtime, StartPipeline, Store};

use crate::world::{SOON, World, json_lines};

/// The run `r` of two steps, paused after the first of them by a host that has gone.
fn paused(world: &World) {
    world.flow(
        "flow.yaml",
        "{name: a, type: echo, value: 1, delay_ms: 300}\n{name: b, type: echo, value: 2}",
    );
    let executor = tokio::runtime::Runtime::new().unwrap();
    executor.block_on(async {
        let store = Store::sqlite(world.path("perennial.db"));
        let runtime = Runtime::builder().store(store).start().await.unwrap();
        let checked = Pipelines::check(&world.path("flow.yaml")).unwrap();
        let start = StartPipeline::checked(checked.pipeline.unwrap());
        let start = start.run_id(RunId::parse("r").unwrap());
        let run = runtime.pipelines().start(start).await.unwrap();
        assert!(run.pause().await.unwrap());
        runtime.shutdown().await;
    });
}

#[test]
fn a_paused_run_is_shown_as_paused_and_let_go_on() {
    let world = World::new();
    paused(&world);
    let listed = world.expect(0, &["runs"]);
    assert!(listed.stdout.contains("  paused  "), "{listed:?}");
    assert_eq!(listed.stderr, "");
    let shown = world.expect(0, &["show", "r"]);
    assert!(shown.stdout.contains("state      paused\n"), "{shown:?}");
    assert_eq!(shown.stderr, "let it go on with: perennial unpause r\n");
    let explained = world.expect(0, &["explain", "r"]);
    assert!(explained.stdout.starts_with("run r of flow is paused\n"), "{explained:?}");
    assert_eq!(explained.stderr, "help: perennial unpause r\n");
    let refused = world.expect(7, &["resume", "r"]);
    assert!(refused.stderr.ends_with("help: perennial unpause r\n"), "{refused:?}");

    let output = world.expect(0, &["unpause", "r"]);
    assert!(output.stdout.contains("\nrun r completed: "), "{output:?}");
    let said = world.expect(12, &["unpause", "no"]).stderr;
    assert!(said.contains("help: perennial runs"), "{said}");
    let run = &json_lines(&world.expect(0, &["runs", "--json"]).stdout)[0];
    assert_eq!(run["state"], "succeeded");
    world.expect(2, &["unpause", "r"]);
}

/// Nothing else is there: it has a place as soon as it is looked for.
#[test]
fn the_only_run_does_not_wait_for_a_place_when_it_goes_on() {
    let world = World::new();
    world
        .flow("flow.yaml", "{name: a, type: echo, value: 1}\n{name: b, type: echo, delay_ms: 500}");
    for round in 0..6 {
        let id = format!("r{round}");
        let mut process =
            world.spawn(&["run", "flow.yaml", "--provider-mode", "mock", "--run-id", &id]);
        process.kill_when("a step", SOON, |said| said.stderr().contains("✓ a")).unwrap();
        world.expect(0, &["pause", &id]);
        let said = world.expect(0, &["unpause", &id]).stderr;
        assert!(!said.contains("free place"), "{id}: {said}");
    }
}

#[test]
fn what_was_told_before_is_not_told_again() {
    let world = World::new();
    world.flow("flow.yaml", "{name: a, type: echo, value: 1}\n{name: b, type: echo, value: 2}");
    let run = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "h"];
    assert!(world.expect(0, &run).stderr.contains("✓ a\n"));
    let again = world.expect(0, &run);
    assert!(again.stderr.ends_with("run h has ended already; its record:\n"), "{again:?}");
    assert!(again.stdout.contains("\nrun h completed: "), "{again:?}");
    let quiet = world.expect(0, &[&run[..], &["--quiet"]].concat());
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn steps_are_counted_by_the_workflow_and_several_runs_are_told_by_name() {
    let world = World::new();
    paused(&world);
    let listed = world.expect(0, &["runs"]).stdout;
    assert!(listed.contains("  1 of 2  ") || listed.contains("  0 of 2  "), "{listed}");
    world.write("other.yaml", "workflow:\n  name: other\n  steps: [{name: a, type: echo}]\n");
    let both = ["run", "flow.yaml", "other.yaml", "--provider-mode", "mock"];
    let output = world.expect(0, &both);
    for name in ["flow", "other"] {
        let begin = format!("{name}: run ");
        let ended = |line: &str| line.starts_with(&begin) && line.contains(" completed: ");
        assert!(output.stdout.lines().any(ended), "{output:?}");
    }
    world.write("one.toml", "[limits]\nruns = 1\n");
    let output = world.expect(0, &[&both[..], &["flow.yaml", "--config", "one.toml"]].concat());
    assert!(output.stderr.contains("\n2 runs wait for a free place\n"), "{output:?}");
}
