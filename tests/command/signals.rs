//! Ctrl-C, SIGTERM and SIGKILL while a step is under way (CLI-3).

use perennial_testkit::{BinaryOutput, FakeAnthropic, PerennialBinary, RunningBinary};
use serde_json::json;

use crate::world::{SOON, World, step};

const STEPS: &str = "{name: one, type: claude, prompt: first question}\n\
     {name: two, type: claude, prompt: second question}";
const RUN: [&str; 6] = ["run", "flow.yaml", "--config", "perennial.toml", "--run-id", "r"];
const RESUME: &str = "resume with: perennial resume r --config perennial.toml\n";

fn signal(name: &str, process: &RunningBinary) {
    let output = try_signal(name, process);
    assert!(output.status.success(), "{output:?}");
}

/// As [`signal`], to a process that may have gone.
fn try_signal(name: &str, process: &RunningBinary) -> BinaryOutput {
    let script = format!("kill -{name} {}", process.pid());
    PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap()
}

/// A process whose first call is held back.
fn in_flight() -> (FakeAnthropic, World, RunningBinary) {
    let fake = FakeAnthropic::start();
    fake.hold();
    let world = World::live(&fake, STEPS);
    let process = world.spawn(&RUN);
    fake.wait_for_requests(1, SOON).unwrap();
    (fake, world, process)
}

fn wait_for_talk(process: &mut RunningBinary, words: &str) {
    process.wait_for(words, SOON, |process| process.stderr().contains(words)).unwrap();
}

fn resumed(world: &World) -> BinaryOutput {
    let output = world.expect(0, &["resume", "r", "--config", "perennial.toml"]);
    assert!(output.stdout.contains("run r completed: "), "{output:?}");
    output
}

#[test]
fn ctrl_c_lets_the_call_under_way_end_and_says_how_to_resume() {
    let (fake, world, mut process) = in_flight();
    signal("INT", &process);
    wait_for_talk(&mut process, "stopping; ");
    fake.release();
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(output.stderr.contains("\nstopped: 1 finished, 0 given back, 0 cut\n"), "{output:?}");
    assert!(output.stderr.ends_with(RESUME), "{}", output.stderr);

    assert_eq!(world.shown("r")["state"], "running");
    let listed = world.expect(0, &["runs"]);
    assert!(listed.stdout.contains("  interrupted  1 of "), "{}", listed.stdout);
    world.flow("other.yaml", "{name: a, type: echo}");
    let other = world.expect(0, &["run", "other.yaml", "--provider-mode", "mock"]);
    let remark = "1 other run is unfinished; continue with: perennial resume --all\n";
    assert!(other.stderr.ends_with(remark), "{}", other.stderr);
    resumed(&world);
    let asked: Vec<String> = fake.calls().into_iter().map(|call| call.prompt).collect();
    assert_eq!(asked, ["first question", "second question"], "nothing was asked twice");
}

/// Proves INV-ST-33.
#[test]
fn a_second_ctrl_c_ends_at_once_and_the_run_stays_resumable() {
    let (fake, world, mut process) = in_flight();
    signal("INT", &process);
    wait_for_talk(&mut process, "stopping; ");
    // One right behind the first is the same wish.
    let again = |process: &RunningBinary| {
        // It may have gone between the look and the signal.
        try_signal("INT", process);
        process.stderr().contains("\nstopped at once\n")
    };
    process.wait_for("the end of the drain", SOON, again).unwrap();
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(output.stderr.contains("\nstopped at once\n"), "{}", output.stderr);
    assert!(output.stderr.ends_with(RESUME), "{}", output.stderr);
    fake.release();
    let output = resumed(&world);
    assert!(output.stdout.contains("possibly repeated calls: 1"), "{}", output.stdout);
    let shown = world.shown("r");
    let attempts = step(&shown, "one")["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["uncertain"]), (2, &json!(true)));
    let text = world.expect(0, &["show", "r"]).stdout;
    assert!(text.contains("UNCERTAIN"), "{text}");
}

#[test]
fn sigterm_ends_like_ctrl_c_with_its_own_code() {
    let (fake, world, mut process) = in_flight();
    signal("TERM", &process);
    wait_for_talk(&mut process, "stopping; ");
    fake.release();
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    assert!(output.stderr.ends_with(RESUME), "{}", output.stderr);
    resumed(&world);
}

#[test]
fn a_step_that_asks_nobody_survives_the_death_of_its_process() {
    let world = World::new();
    world.flow("flow.yaml", "{name: one, type: echo, value: 1, delay_ms: 1500}");
    let run = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r", "--json"];
    let mut process = world.spawn(&run);
    let begun = |process: &RunningBinary| process.stdout().contains("\"attempt_started\"");
    process.kill_when("an attempt", SOON, begun).unwrap();
    let output = world.expect(0, &["resume", "r"]);
    let died = "! one: the process of its last attempt died\n";
    assert!(output.stderr.contains(died), "{}", output.stderr);
    assert!(output.stdout.starts_with("one: 1\nrun r completed: "), "{}", output.stdout);
}
