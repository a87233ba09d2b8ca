//! What an operator does to a run that nobody works on: skip a step, try again, ask why.

use perennial::{Pipelines, RunId, Runtime, StartPipeline, Store};

use crate::world::{World, json_lines};

/// The run `r` of three steps, left after the first of them by a host that has gone.
fn interrupted(world: &World, steps: &str) {
    world.flow("flow.yaml", steps);
    let executor = tokio::runtime::Runtime::new().unwrap();
    executor.block_on(async {
        let store = Store::sqlite(world.path("perennial.db"));
        let runtime = Runtime::builder().store(store).start().await.unwrap();
        let checked = Pipelines::check(&world.path("flow.yaml")).unwrap();
        let start = StartPipeline::checked(checked.pipeline.unwrap());
        let run =
            runtime.pipelines().start(start.run_id(RunId::parse("r").unwrap())).await.unwrap();
        let mut events = run.events();
        while events.next().await.unwrap().kind != "attempt_started" {}
        runtime.shutdown().await;
    });
}

const SLOW: &str =
    "{name: a, type: echo, value: 1, delay_ms: 60000}\n{name: b, type: echo, value: 2}";

#[test]
fn a_step_of_a_run_that_nobody_runs_is_skipped() {
    let world = World::new();
    interrupted(&world, SLOW);
    let why = world.expect(0, &["explain", "r", "a"]);
    assert!(why.stdout.starts_with("step a of run r: nobody runs it now\n"), "{why:?}");
    let why = &json_lines(&world.expect(0, &["explain", "r", "a", "--json"]).stdout)[0];
    assert_eq!(why["explanation"]["why"], "interrupted");
    assert_eq!(why["changed_by"], "a resume of its run");
    assert!(world.expect(12, &["explain", "r", "x"]).stderr.contains("it has: a"));

    let unknown = world.expect(12, &["skip", "r", "x"]);
    assert!(unknown.stderr.contains("no step x now; to be made: a"), "{unknown:?}");
    let skipped = world.expect(0, &["skip", "r", "a", "--why", "too slow"]);
    assert_eq!(skipped.stdout, "step a of run r is skipped\n");
    assert_eq!(skipped.stderr, "nobody runs it now; resume with: perennial resume r\n");
    let again = &json_lines(&world.expect(0, &["skip", "r", "a", "--json"]).stdout)[0];
    assert_eq!((&again["changed"], &again["state"]), (&false.into(), &"running".into()));

    let resumed = world.expect(0, &["resume", "r"]);
    assert!(resumed.stdout.contains("run r completed"), "{resumed:?}");
    let shown = world.expect(0, &["show", "r", "--json"]).stdout;
    assert!(shown.contains("too slow"), "{shown}");
    let why = &json_lines(&world.expect(0, &["explain", "r", "a", "--json"]).stdout)[0];
    assert_eq!(why["said"], "too slow");
    let late = world.expect(2, &["skip", "r", "b"]);
    assert!(late.stderr.contains("run r has ended (partially_succeeded)"), "{late:?}");
    let events = json_lines(&world.expect(0, &["events", "r", "--json"]).stdout);
    let begun = |one: &&serde_json::Value| one["event"] == "attempt_started" && one["job"] == "a";
    assert_eq!(events.iter().filter(begun).count(), 1, "only the host that has gone began it");
}

/// Proves I4.
#[test]
fn what_failed_is_tried_again_when_its_run_has_ended() {
    let world = World::new();
    interrupted(&world, SLOW);
    let early = world.expect(2, &["retry", "r"]);
    assert!(early.stderr.contains("run r has not ended: it is interrupted\n"), "{early:?}");
    assert!(early.stderr.ends_with("help: perennial resume r\n"), "{early:?}");
    world.flow("fails.yaml", "{name: a, type: echo, value: 1}\n{name: b, type: echo, fail: true}");
    world.expect(1, &["run", "fails.yaml", "--run-id", "f"]);
    let again = world.expect(1, &["retry", "f"]);
    assert!(again.stdout.contains("run f failed"), "{again:?}");
    let events = json_lines(&world.expect(0, &["events", "f", "--json"]).stdout);
    let tries = |step: &str| {
        events.iter().filter(|one| one["event"] == "attempt_started" && one["job"] == step).count()
    };
    assert_eq!((tries("a"), tries("b")), (1, 2), "{events:#?}");
    world.expect(1, &["retry", "f", "--step", "a"]);
    let events = json_lines(&world.expect(0, &["events", "f", "--json"]).stdout);
    let tried = events.iter().filter(|one| one["event"] == "attempt_started").count();
    assert_eq!(tried, 5);
    let unknown = world.expect(12, &["retry", "nobody"]);
    assert!(unknown.stderr.contains("help: perennial runs"), "{unknown:?}");
}

/// YR-6: the same start again is no conflict, and changes nothing.
#[test]
fn a_run_that_was_started_before_keeps_its_priority_and_says_so() {
    let world = World::new();
    world.flow("w.yaml", "{name: a, type: echo, value: 1}");
    let run = |more: &[&str]| {
        let start = ["run", "w.yaml", "--provider-mode", "mock", "--run-id", "w"];
        world.expect(0, &[&start[..], more].concat()).stderr
    };
    let first = run(&["--detach", "--priority", "high"]);
    assert!(!first.contains("priority"), "{first}");
    let again = run(&["--detach", "--priority", "LOW"]);
    let kept = "warning: run w was started before, and keeps its priority high";
    let help = "; change it with: perennial priority w low\n";
    assert!(again.contains(&format!("{kept}{help}")), "{again}");
    assert!(!run(&["--detach"]).contains("priority"), "nothing is asked of it");
    let here = run(&["--priority", "urgent"]);
    assert!(here.contains(kept), "{here}");
    assert_eq!(world.shown("w")["priority"], 50);
}
