//! Several runs in one process, and a signal in the middle (ACC-3.3, CLI-3, HLT-6).

use std::{collections::BTreeSet, fs, time::Duration};

use perennial_testkit::{FakeAnthropic, FakeReply, PerennialBinary, RunningBinary};
use serde_json::{Value, json};

use crate::world::{SOON, World, json_lines};

/// How long a process with its drain may take at most (DUR-120).
const DRAINED: Duration = Duration::from_secs(11);
const MOCK: [&str; 2] = ["--provider-mode", "mock"];

fn signal(name: &str, process: &RunningBinary) {
    assert!(signalled(name, process), "no such process");
}

/// Whether there was a process to signal.
fn signalled(name: &str, process: &RunningBinary) -> bool {
    let script = format!("kill -{name} {}", process.pid());
    PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap().status.success()
}

fn wait_for_talk(process: &mut RunningBinary, words: &str) {
    process.wait_for(words, SOON, |process| process.stderr().contains(words)).unwrap();
}

/// A workflow of this name whose steps take this many milliseconds.
fn flow(world: &World, name: &str, delays: &[u32]) -> String {
    let mut text = format!("workflow:\n  name: {name}\n  language: 1\n  steps:\n");
    for (place, delay) in delays.iter().enumerate() {
        text.push_str(&format!(
            "  - {{name: s{place}, type: echo, value: {place}, delay_ms: {delay}}}\n"
        ));
    }
    let file = format!("{name}.yaml");
    world.write(&file, text);
    file
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

fn names(lines: &[&Value]) -> BTreeSet<String> {
    lines.iter().map(|line| line["run"].as_str().unwrap().to_owned()).collect()
}

/// Runs that `runs` lists as not ended.
fn unfinished(world: &World) -> BTreeSet<String> {
    let listed = json_lines(&world.expect(0, &["runs", "--json"]).stdout);
    let open = listed.iter().filter(|run| run["finished_at"].is_null());
    names(&open.collect::<Vec<_>>())
}

/// How many attempts were begun, of all runs.
fn attempts(world: &World) -> usize {
    let runs = json_lines(&world.expect(0, &["runs", "--json"]).stdout);
    let of_run = |run: &Value| -> usize {
        let shown = world.shown(run["run"].as_str().unwrap());
        let steps = shown["steps"].as_array().unwrap().iter();
        steps.map(|step| step["attempts"].as_array().unwrap().len()).sum()
    };
    runs.iter().map(of_run).sum()
}

/// It says what it waits for, and is stopped again.
#[test]
fn a_run_that_waits_for_another_attempt_says_so_when_it_is_resumed() {
    let fake = FakeAnthropic::start();
    fake.script("hi", [FakeReply::rate_limited(Some("600"))]);
    let world = World::live(&fake, "{name: a, type: claude, prompt: hi}");
    let config = ["--config", "perennial.toml"];
    let mut first = world.spawn(&[&["run", "flow.yaml", "--run-id", "b"][..], &config].concat());
    wait_for_talk(&mut first, "will be tried again");
    signal("INT", &first);
    assert_eq!(first.wait(SOON).unwrap().status.code(), Some(130));
    let mut again = world.spawn(&[&["resume", "b"][..], &config].concat());
    wait_for_talk(&mut again, "run b waits for another attempt of step a, at ");
    signal("INT", &again);
    let said = again.wait(SOON).unwrap().stderr;
    assert!(!said.contains("free place"), "{said}");
}

/// The deadline is named.
#[test]
fn a_deadline_that_has_passed_is_named() {
    let world = World::new();
    world.write(
        "w.yaml",
        "workflow:\n  name: w\n  max_execution_time: 2\n  steps:\n  - {name: a, type: echo, value: 1, \
         delay_ms: 600000}\n",
    );
    let output = world.expect(5, &["run", "w.yaml", "--provider-mode", "mock", "--run-id", "r"]);
    assert!(output.stderr.contains("its deadline of 2.0 s has passed\n"), "{output:?}");
    let record = &world.shown("r");
    assert_eq!(record["state"], "timed_out", "{record}");
}

/// Proves INV-17.
#[test]
fn what_a_drain_reports_is_what_one_more_command_finishes() {
    let world = World::new();
    // Two end at once, two in the drain, two are between two steps at its end, two are cut.
    let delays: [(&str, &[u32]); 8] = [
        ("quick_1", &[0]),
        ("quick_2", &[0, 0]),
        ("ends_1", &[0, 2_500]),
        ("ends_2", &[2_500]),
        ("goes_on_1", &[2_500, 1]),
        ("goes_on_2", &[0, 2_500, 1]),
        ("long_1", &[13_000]),
        ("long_2", &[0, 13_000]),
    ];
    let files: Vec<String> = delays.iter().map(|(name, of)| flow(&world, name, of)).collect();
    let mut args = vec!["run", "--json"];
    args.extend(files.iter().map(String::as_str).chain(MOCK));
    let mut process = world.spawn(&args);
    let in_the_middle = |process: &RunningBinary| {
        let said = process.stdout();
        said.matches("\"type\":\"outcome\"").count() == 2
            && said.matches("\"event\":\"attempt_started\"").count() == 12
    };
    process.wait_for("the middle", SOON, in_the_middle).unwrap();
    signal("TERM", &process);
    let output = process.wait(DRAINED).unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");

    let lines = json_lines(&output.stdout);
    let stopped = of_type(&lines, "stopped");
    assert_eq!(stopped.len(), 1);
    assert_eq!(
        stopped[0]["attempts"],
        json!({"finished": 4, "released": 2, "cut": 0}),
        "{}",
        output.stdout
    );
    let drained = of_type(&lines, "drained");
    let of_fate = |fate: &str| {
        names(&drained.iter().copied().filter(|line| line["fate"] == fate).collect::<Vec<_>>())
    };
    let (released, finished) = (of_fate("released"), of_fate("finished"));
    assert_eq!((drained.len(), released.len(), finished.len()), (6, 4, 2), "{drained:?}");
    for line in &drained {
        let workflow = line["workflow"].as_str().unwrap();
        let (fate, attempts) = match &workflow[..workflow.len() - 2] {
            "ends" => ("finished", json!({"finished": 1, "released": 0, "cut": 0})),
            "goes_on" => ("released", json!({"finished": 1, "released": 0, "cut": 0})),
            _ => ("released", json!({"finished": 0, "released": 1, "cut": 0})),
        };
        assert_eq!((&line["fate"], &line["attempts"]), (&json!(fate), &attempts), "{line}");
        assert_eq!(line["file"], format!("{workflow}.yaml"));
    }
    assert_eq!(unfinished(&world), released, "the report is what is left");

    let resumed = world.expect(0, &["resume", "--all", "--json"]);
    let outcomes = json_lines(&resumed.stdout);
    assert_eq!(names(&of_type(&outcomes, "outcome")), released);
    assert_eq!(unfinished(&world), BTreeSet::new());
    for run in json_lines(&world.expect(0, &["runs", "--json"]).stdout) {
        let shown = world.shown(run["run"].as_str().unwrap());
        assert_eq!(shown["state"], "succeeded", "{shown}");
        for (place, step) in shown["steps"].as_array().unwrap().iter().enumerate() {
            let ends = step["attempts"].as_array().unwrap().iter();
            let recorded = ends.filter(|attempt| attempt["end"] == "succeeded").count();
            assert_eq!((recorded, &step["result"]), (1, &json!(place)), "{step}");
        }
    }
    let nothing = world.expect(0, &["resume", "--all"]);
    assert!(nothing.stderr.contains("nothing to resume"), "{}", nothing.stderr);
}

#[test]
fn each_run_has_a_line_when_people_read_it() {
    let world = World::new();
    let files = [flow(&world, "ends", &[3_000]), flow(&world, "goes_on", &[3_000, 1])];
    let mut process = world.spawn(&[&["run", &files[0], &files[1]], &MOCK[..]].concat());
    let both = ["ends: run ", "goes_on: run "];
    let named = |process: &RunningBinary| both.iter().all(|run| process.stderr().contains(run));
    process.wait_for("both runs", SOON, named).unwrap();
    process.wait_for("their first attempts", SOON, |_| attempts(&world) == 2).unwrap();
    signal("INT", &process);
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let said = &output.stderr;
    assert!(said.contains(" completed while stopping (1 attempt recorded)"), "{said}");
    assert!(
        said.contains(" is released (1 attempt recorded); resume with: perennial res"),
        "{said}"
    );
    assert!(said.ends_with("\nresume all with: perennial resume --all\n"), "{said}");
    let resumed = world.expect(0, &["resume", "--all"]);
    assert!(resumed.stderr.starts_with("1 run goes on\n"), "{}", resumed.stderr);
}

/// Proves INV-17, I5, TG4.
#[test]
fn a_second_signal_ends_the_drain_of_all_runs_at_once() {
    let world = World::new();
    let files: Vec<String> =
        (0..3).map(|n| flow(&world, &format!("long_{n}"), &[2_000, 0])).collect();
    let mut args = vec!["run"];
    args.extend(files.iter().map(String::as_str).chain(MOCK));
    let mut process = world.spawn(&args);
    wait_for_talk(&mut process, "long_2: run ");
    signal("TERM", &process);
    wait_for_talk(&mut process, "stopping; ");
    // What comes right behind the first is the same wish: `timeout` signals a process and its group.
    // It may end at any moment from then on.
    let again = |process: &RunningBinary| {
        !signalled("TERM", process) || process.stderr().contains("\nstopped at once\n")
    };
    process.wait_for("the end of the drain", SOON, again).unwrap();
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    assert!(output.stderr.contains("\nstopped at once\n"), "{}", output.stderr);
    let cut = output.stderr.matches(" is cut; resume with: perennial resume ").count();
    assert_eq!((cut, unfinished(&world).len()), (3, 3), "{}", output.stderr);
    let resumed = world.expect(0, &["resume", "--all"]);
    assert_eq!(resumed.stdout.matches(" completed: ").count(), 3, "{}", resumed.stdout);
}

#[test]
fn two_signals_close_together_are_one() {
    let world = World::new();
    let file = flow(&world, "short", &[1_500]);
    let mut process = world.spawn(&[&["run", &file, "--run-id", "r"], &MOCK[..]].concat());
    wait_for_talk(&mut process, "run r");
    let script = format!("kill -TERM {0}; kill -INT {0}; kill -TERM {0}", process.pid());
    let output = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = process.wait(SOON).unwrap();
    assert!(output.stderr.contains("\nstopping; "), "{}", output.stderr);
    assert!(!output.stderr.contains("stopped at once"), "{}", output.stderr);
}

/// A pipe gives its text once.
#[test]
fn a_workflow_file_is_read_once() {
    let world = World::new();
    let path = world.path("flow.yaml");
    let text = "workflow:\n  name: w\n  steps:\n  - {name: a, type: echo, value: once}\n";
    let script = format!("mkfifo '{}'", path.display());
    let made = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(made.status.success(), "{made:?}");
    let process = world.spawn(&[&["run", "flow.yaml"], &MOCK[..]].concat());
    fs::write(&path, text).unwrap();
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with("a: once\n"), "{}", output.stdout);
}

/// Files on the command line may be pipes, into which nobody has to write.
#[test]
fn a_signal_before_anything_was_started_starts_nothing() {
    let world = World::new();
    flow(&world, "good", &[0]);
    let script = format!("mkfifo '{}'", world.path("pipe").display());
    let made = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(made.status.success(), "{made:?}");
    let before = world.entries();
    let commands: [&[&str]; 4] = [
        &["run", "pipe"],
        &["run", "good.yaml", "x=@pipe"],
        &["run", "good.yaml", "--mocks", "pipe"],
        &["run", "good.yaml", "--config", "pipe"],
    ];
    for command in commands {
        let process = world.spawn(&[command, &MOCK[..]].concat());
        // Opens once the process has opened it to read; kept open, so that there is no end.
        let pipe = fs::OpenOptions::new().write(true).open(world.path("pipe")).unwrap();
        signal("TERM", &process);
        let output = process.wait(SOON).unwrap();
        drop(pipe);
        assert_eq!(output.status.code(), Some(143), "{command:?}: {output:?}");
        assert!(output.stderr.ends_with("stopped; nothing was started\n"), "{}", output.stderr);
    }
    assert_eq!(world.entries(), before, "no store was made");
}

#[test]
fn a_run_that_waits_for_a_retry_is_released_as_it_is() {
    let fake = FakeAnthropic::start();
    let replies = [FakeReply::rate_limited(Some("20")), FakeReply::text("at last")];
    fake.script("hi", replies);
    let world = World::live(&fake, "{name: ask, type: claude, prompt: hi}");
    let run = ["run", "flow.yaml", "--config", "perennial.toml", "--run-id", "r"];
    let mut process = world.spawn(&run);
    wait_for_talk(&mut process, "! ask failed, will be tried again: ");
    signal("TERM", &process);
    // There is nothing to wait for.
    let output = process.wait(DRAINED / 2).unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let line = "run r is released (no attempt was under way); resume with: perennial resume r \
                --config perennial.toml\n";
    assert!(output.stderr.ends_with(line), "{}", output.stderr);
    assert_eq!(unfinished(&world), BTreeSet::from(["r".to_owned()]));
}

#[test]
fn several_files_start_together_or_not_at_all() {
    let world = World::new();
    let good = flow(&world, "good", &[0]);
    world.flow("bad.yaml", "{name: a, type: echo, valu: 1}");
    let before = world.entries();
    let mock = ["run", &good, "bad.yaml", "gone.yaml", "--provider-mode", "mock"];
    let said = world.expect(3, &mock).stderr;
    for words in ["error[PL202]", "error: bad.yaml is not valid", "error[PL101]: Failed to read"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(world.entries(), before, "nothing was started");
    let said = world.expect(2, &["run", &good, &good, "--run-id", "r"]).stderr;
    assert!(said.contains("--run-id names one run, and 2 files are given"), "{said}");
    let said = world.expect(2, &["run", "a=1"]).stderr;
    assert!(said.contains("no workflow file is given"), "{said}");

    world.flow("./a=b.yaml", "{name: wrong, type: echo, fail: true}");
    let args = [&["run", "--json", &good, "./a=b.yaml"], &MOCK[..]].concat();
    let output = world.expect(1, &args);
    let outcomes = json_lines(&output.stdout);
    let ends: BTreeSet<(&str, &str)> = of_type(&outcomes, "outcome")
        .iter()
        .map(|line| (line["file"].as_str().unwrap(), line["state"].as_str().unwrap()))
        .collect();
    let expected = [("./a=b.yaml", "failed"), ("good.yaml", "succeeded")];
    assert_eq!(ends, BTreeSet::from(expected), "{}", output.stdout);
    let twice = world.expect(0, &[&["run", &good, &good], &MOCK[..]].concat());
    let prefixed = twice.stdout.lines().filter(|line| line.starts_with("good/")).count();
    assert_eq!((prefixed, twice.stdout.lines().count()), (4, 4), "{}", twice.stdout);
}
