//! Runs that failed, were cancelled or were interrupted, and go on: as they were, or by a corrected
//! document.

use std::fs;

use perennial_testkit::{FakeAnthropic, FakeReply};
use serde_json::{Value, json};

use crate::world::{SOON, World, json_lines, step};

const LIVE: [&str; 4] = ["run", "flow.yaml", "--config", "perennial.toml"];
const MOCK: [&str; 4] = ["run", "flow.yaml", "--provider-mode", "mock"];

fn asks(names: &[(&str, &str)]) -> String {
    let line = |(name, prompt): &(&str, &str)| {
        format!("{{name: {name}, type: claude, prompt: [{{type: static, content: \"{prompt}\"}}]}}")
    };
    names.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// How often the fake was asked.
fn asked(fake: &FakeAnthropic) -> usize {
    fake.calls().len()
}

/// C-189, YR-53, YR-54, YR-58: the step that failed is corrected; what completed before is not
/// called again, and its variables are there.
#[test]
fn a_failed_run_goes_on_by_a_corrected_file() {
    let fake = FakeAnthropic::start();
    let before = "{name: set, type: set_variable, variables: {x: 5}}\n".to_owned()
        + &asks(&[("first", "one"), ("second", "two {{x}}")]);
    let broken = format!(
        "{before}\n{{name: b, type: echo, value: 1, fail: true}}\n\
         {{name: last, type: echo, value: \"{{{{x}}}} {{{{steps.first.text}}}}\"}}"
    );
    let world = World::live(&fake, &broken);
    world.expect(1, &[&LIVE[..], &["--run-id", "r"]].concat());
    assert_eq!(asked(&fake), 2);
    let failed = world.shown("r");

    world.flow("fixed.yaml", &broken.replace(", fail: true", ""));
    let resume = ["resume", "r", "--config", "perennial.toml", "--file", "fixed.yaml"];
    let output = world.expect(0, &resume);
    assert_eq!(asked(&fake), 2, "{output:?}");
    let plan = "  set: reused\n  first: reused\n  second: reused\n  b: rerun (it changed)\n  \
                last: runs (not reached before)\nrun r\n";
    assert!(output.stderr.starts_with(plan), "{output:?}");
    let shown = world.shown("r");
    assert_eq!(shown["state"], "succeeded");
    assert!(shown["error"].is_null(), "{shown}");
    for name in ["set", "first", "second"] {
        assert_eq!(step(&shown, name)["result"], step(&failed, name)["result"]);
    }
    let last = step(&shown, "last")["result"].as_str().unwrap();
    assert!(last.starts_with("5 "), "{last}");
    // YR-55, PL904.
    let again = world.expect(2, &resume);
    assert!(again.stderr.contains("run r has ended (succeeded); start a new run"), "{again:?}");
    assert!(again.stderr.contains("PL904"), "{again:?}");
    let refused = world.expect(2, &[&resume[..], &["--json"]].concat());
    let refused = json_lines(&refused.stdout).pop().unwrap();
    assert_eq!(refused["code"], "PL904", "{refused}");
    assert_eq!(refused["message"], "run r has ended (succeeded); start a new run instead");
}

/// A step that is asked otherwise is asked once more; what reads it runs as well, the rest does not.
#[test]
fn what_changed_is_asked_again_and_nothing_else() {
    let fake = FakeAnthropic::start();
    let steps = |one: &str| {
        asks(&[("a", one), ("b", "about {{steps.a.text}}"), ("c", "alone")])
            + "\n{name: end, type: echo, value: 1, fail: true}"
    };
    let world = World::live(&fake, &steps("one"));
    world.expect(1, &[&LIVE[..], &["--run-id", "r"]].concat());
    assert_eq!(asked(&fake), 3);
    world.flow("fixed.yaml", &steps("one, better").replace(", fail: true", ""));
    let args = ["resume", "r", "--config", "perennial.toml", "--file", "fixed.yaml", "--json"];
    let output = world.expect(0, &args);
    let plan = json_lines(&output.stdout).remove(0);
    let steps = json!([
        {"step": "a", "fate": "rerun", "why": "it changed"},
        {"step": "b", "fate": "rerun", "why": "it needs a"},
        {"step": "c", "fate": "reused"},
        {"step": "end", "fate": "rerun", "why": "it changed"},
    ]);
    assert_eq!(plan, json!({"type": "resume", "run": "r", "steps": steps}));
    assert_eq!(asked(&fake), 5, "{output:?}");
    // The events of all rounds, to the end of the last.
    let lines = json_lines(&output.stdout);
    let kinds: Vec<&Value> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "run_closed").count(), 2);
    assert_eq!(lines.last().unwrap()["type"], "outcome", "{output:?}");
}

/// A failed run goes on without a corrected file: what failed for the world's sake is tried again.
#[test]
fn a_failed_run_goes_on_as_it_is() {
    let fake = FakeAnthropic::start();
    let refused = FakeReply::error(401, "authentication_error", "invalid x-api-key");
    fake.script("two", [refused, FakeReply::text("at last")]);
    let world = World::live(&fake, &asks(&[("first", "one"), ("second", "two"), ("third", "3")]));
    world.expect(1, &[&LIVE[..], &["--run-id", "r"]].concat());
    assert_eq!(asked(&fake), 2);
    let unpaused = world.expect(2, &["unpause", "r"]);
    assert!(unpaused.stderr.ends_with("help: perennial resume r\n"), "{unpaused:?}");
    world.expect(0, &["resume", "r", "--config", "perennial.toml"]);
    assert_eq!(asked(&fake), 4);
    let shown = world.shown("r");
    assert_eq!(step(&shown, "second")["attempts"].as_array().unwrap().len(), 2);
    let unpaused = world.expect(2, &["unpause", "r"]);
    assert!(unpaused.stderr.contains("has ended (succeeded)"), "{unpaused:?}");
}

/// Steps inside of steps are planned by themselves.
#[test]
fn a_child_keeps_what_it_completed() {
    let fake = FakeAnthropic::start();
    let text = |last: &str| {
        format!(
            "workflow:\n  name: flow\n  language: 1\n  steps:\n  - name: n\n    type: pipeline\n    \
             pipeline:\n      name: k\n      steps:\n      - {}\n      - {last}\n  - {{name: end, \
             type: echo, value: \"{{{{steps.n.x}}}}\"}}\n",
            asks(&[("x", "inside")])
        )
    };
    let world = World::live(&fake, "{name: a, type: echo}");
    world.write("flow.yaml", text("{name: y, type: echo, value: 1, fail: true}"));
    world.expect(1, &[&LIVE[..], &["--run-id", "r"]].concat());
    world.write("fixed.yaml", text("{name: y, type: echo, value: 1}"));
    let args = ["resume", "r", "--config", "perennial.toml", "--file", "fixed.yaml"];
    let output = world.output(&args);
    assert!(output.stderr.contains("  n/x: reused\n  n/y: rerun (it changed)\n"), "{output:?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(asked(&fake), 1, "{output:?}");
}

/// PL903: what was written is not written again unasked.
#[test]
fn a_write_that_would_be_done_again_is_refused() {
    let world = World::new();
    let steps = |text: &str, end: &str| {
        format!(
            "{{name: w, type: file_ops, operation: write, path: a.txt, content: {text}}}\n\
             {{name: end, type: echo, value: 1{end}}}"
        )
    };
    world.flow("flow.yaml", &steps("old", ", fail: true"));
    world.expect(1, &[&MOCK[..], &["--run-id", "r"]].concat());
    let file = world.path("workspace/a.txt");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    world.flow("fixed.yaml", &steps("new", ""));
    let before = world.shown("r");
    let refused = world.expect(2, &["resume", "r", "--file", "fixed.yaml"]);
    assert!(refused.stderr.contains("  w: rerun (it changed)\n"), "{refused:?}");
    assert!(refused.stderr.contains("error[PL903]: "), "{refused:?}");
    let help = "help: perennial resume r --file fixed.yaml --rerun-writes\n";
    assert!(refused.stderr.ends_with(help), "{refused:?}");
    assert_eq!(world.shown("r"), before);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    world.expect(0, &["resume", "r", "--file", "fixed.yaml", "--rerun-writes"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
}

#[test]
fn what_cannot_be_resumed_is_left_as_it_is() {
    let world = World::new();
    world.flow("flow.yaml", "{name: a, type: echo, value: 1, fail: true}");
    world.expect(1, &[&MOCK[..], &["--run-id", "r"]].concat());
    world.write("other.yaml", "workflow:\n  name: other\n  steps: [{name: a, type: echo}]\n");
    world.write("faulty.yaml", "workflow:\n  name: flow\n  steps: [{name: a, typ: echo}]\n");
    world.flow("needs.yaml", "{name: a, type: echo, value: \"{{inputs.must}}\"}");
    let before = world.shown("r");
    for (code, args, said) in [
        (2, &["--file", "other.yaml"][..], "is of the workflow `other`, and the run of `flow`"),
        (3, &["--file", "faulty.yaml"], "faulty.yaml is not valid; nothing was resumed"),
        (3, &["--file", "missing.yaml"], "error[PL101]"),
        (2, &["--from", "nowhere"], "the workflow has no step `nowhere`; it has: a"),
        (2, &["--file", "needs.yaml"], "required inputs missing: must"),
    ] {
        let output = world.expect(code, &[&["resume", "r"][..], args].concat());
        assert!(output.stderr.contains(said), "{args:?}: {output:?}");
        assert_eq!(world.shown("r"), before, "{args:?}");
    }
}

/// What was meant comes first.
#[test]
fn a_step_that_is_not_there_is_answered_with_those_that_are() {
    let world = World::new();
    let steps: Vec<String> =
        (0..12).map(|n| format!("{{name: part_{n}, type: echo, fail: {}}}", n == 11)).collect();
    world.flow("flow.yaml", &steps.join("\n"));
    world.expect(1, &[&MOCK[..], &["--run-id", "r"]].concat());
    let refused = world.expect(2, &["retry", "r", "--step", "prat_11"]);
    let said = "the workflow has no step `prat_11`; it has: part_11, part_0, part_1, part_2, part_3, \
                part_4, part_5, part_6 and 4 more\n";
    assert!(refused.stderr.contains(said), "{refused:?}");
}

/// What is asked too late names what still can be done, unless nothing can.
#[test]
fn a_run_that_has_ended_is_told_with_what_goes_on_with_it() {
    let world = World::new();
    world.flow("flow.yaml", "{name: a, type: echo, value: 1, fail: true}");
    world.expect(1, &[&MOCK[..], &["--run-id", "bad"]].concat());
    world.flow("flow.yaml", "{name: a, type: echo, value: 1}");
    world.expect(0, &[&MOCK[..], &["--run-id", "good"]].concat());
    let on = "; `resume` and `retry` go on with it";
    for (run, state, on) in [("bad", "failed", on), ("good", "succeeded", "")] {
        for (args, nothing, help) in [
            (&["pause", run][..], "there is nothing to pause", "resume"),
            (&["cancel", run], "there is nothing to cancel", "show"),
            (&["priority", run, "high"], "nothing of it waits", "resume"),
            (&["signal", run, "go", "{}"], "it takes nothing that is sent to it", "resume"),
        ] {
            let said = world.expect(2, args).stderr;
            let help = if on.is_empty() { "show" } else { help };
            let expected = format!(
                "error: run {run} has ended ({state}): {nothing}{on} [PL904]\n\
                 help: perennial {help} {run}\n"
            );
            assert_eq!(said, expected, "{args:?}");
        }
    }
    world.expect(1, &["resume", "bad"]);
}

/// `--from`: from there on everything is asked anew.
#[test]
fn from_a_step_on_calls_are_made_again() {
    let fake = FakeAnthropic::start();
    let steps = asks(&[("a", "one"), ("b", "two"), ("c", "three")]);
    let world = World::live(&fake, &(steps + "\n{name: end, type: echo, fail: true}"));
    world.expect(1, &[&LIVE[..], &["--run-id", "r"]].concat());
    assert_eq!(asked(&fake), 3);
    let args = ["resume", "r", "--config", "perennial.toml", "--from", "b"];
    let output = world.expect(1, &args);
    assert!(output.stderr.contains("  a: reused\n  b: rerun (asked for)\n"), "{output:?}");
    assert_eq!(asked(&fake), 5);
}

const CHECKPOINTED: &str = "workflow:\n  name: flow\n  checkpoint_enabled: true\n  steps:\n  \
                            - {name: a, type: echo, value: \"{{inputs.i}}\"}\n  \
                            - {name: b, type: echo, value: 1, fail: true}\n  \
                            inputs: {i: {type: integer, default: 1}}\n";

/// YR-56: `run` goes on with the newest run of the file when it is unfinished.
#[test]
fn a_document_with_checkpoints_has_its_unfinished_run_resumed() {
    let world = World::new();
    world.write("flow.yaml", CHECKPOINTED);
    let run = |code: i32, more: &[&str]| world.expect(code, &[&MOCK[..], more].concat()).stderr;
    let count = || json_lines(&world.expect(0, &["runs", "--json"]).stdout).len();
    let is_resumed = |said: &str| said.contains("\nresuming run ") && said.contains("--fresh");
    assert!(!is_resumed(&run(1, &[])));
    // Same file, by another name.
    fs::create_dir(world.path("sub")).unwrap();
    assert!(is_resumed(&run(1, &[])));
    let other_way = ["run", "sub/../flow.yaml", "--provider-mode", "mock"];
    assert!(is_resumed(&world.expect(1, &other_way).stderr));
    assert_eq!(count(), 1);
    // Each of these is another run: asked for, with other inputs, of another file.
    assert!(!is_resumed(&run(1, &["--fresh"])));
    assert!(!is_resumed(&run(1, &["--output-dir", "elsewhere"])));
    assert!(is_resumed(&run(1, &["--output-dir", "elsewhere"])));
    assert!(!is_resumed(&run(1, &["--output-dir", "elsewhere", "--allow-path", "sub"])));
    assert!(!is_resumed(&run(1, &["i=2"])));
    world.write("mocks.yaml", "replies: {b: hello}\n");
    assert!(!is_resumed(&run(1, &["--mocks", "mocks.yaml"])));
    assert!(is_resumed(&run(1, &["--mocks", "mocks.yaml"])));
    assert!(!is_resumed(&run(1, &[])));
    world.write("copy.yaml", CHECKPOINTED);
    assert!(!is_resumed(&world.expect(1, &["run", "copy.yaml", "--provider-mode", "mock"]).stderr));
    assert!(!is_resumed(&run(1, &["--run-id", "mine"])));
    assert_eq!(count(), 9);
    // Corrected in place, it goes on; completed, it is not resumed any more.
    world.write("flow.yaml", CHECKPOINTED.replace(", fail: true", ""));
    let said = run(0, &[]);
    assert!(is_resumed(&said), "{said}");
    assert!(said.contains("  a: reused\n  b: rerun (it changed)\n"), "{said}");
    assert!(!is_resumed(&run(0, &[])));
    assert_eq!(count(), 10);
}

#[test]
fn a_document_may_leave_its_runs_alone() {
    for (config, resumed) in [
        ("{resume: explicit}", false),
        ("{max_resume_age: 1ms}", false),
        ("{resume: auto, max_resume_age: 1h}", true),
    ] {
        let world = World::new();
        let more = format!("  checkpoint_config: {config}\n");
        world.write("flow.yaml", format!("{CHECKPOINTED}{more}"));
        world.expect(1, &MOCK);
        let said = world.expect(1, &MOCK).stderr;
        assert_eq!(said.contains("\nresuming run "), resumed, "{config}: {said}");
    }
    let world = World::new();
    world.write("flow.yaml", CHECKPOINTED.replace("checkpoint_enabled: true", "language: 1"));
    world.expect(1, &MOCK);
    let said = world.expect(1, &MOCK).stderr;
    assert!(!said.contains("resuming"), "{said}");
}

/// YR-57: of two processes that resume a run at once one gets it, and nothing is called twice.
#[test]
fn two_processes_that_resume_a_run_at_once_do_not_both_get_it() {
    let fake = FakeAnthropic::start();
    let refused = FakeReply::error(401, "authentication_error", "no");
    fake.script("two", [refused, FakeReply::text("at last")]);
    let world = World::live(&fake, &asks(&[("first", "one"), ("second", "two")]));
    world.expect(1, &[&LIVE[..], &["--run-id", "r"]].concat());
    fake.hold();
    let args = ["resume", "r", "--config", "perennial.toml"];
    let (one, other) = (world.spawn(&args), world.spawn(&args));
    fake.wait_for_requests(3, SOON).unwrap();
    fake.release();
    let outputs = [one.wait(SOON).unwrap(), other.wait(SOON).unwrap()];
    let codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    // The other found the store held, or the run completed.
    let completed = codes.iter().filter(|code| **code == Some(0)).count();
    let refused = codes.iter().filter(|code| matches!(code, Some(9 | 2))).count();
    assert_eq!((completed, refused), (1, 1), "{outputs:#?}");
    assert_eq!(asked(&fake), 3);
    assert_eq!(world.shown("r")["state"], "succeeded");
}

#[test]
fn what_a_correction_would_keep_is_said_beforehand() {
    let world = World::new();
    let steps =
        |b: &str| format!("{{name: a, type: echo, value: 1}}\n{{name: b, type: echo, {b}}}");
    world.flow("old.yaml", &steps("value: 1, fail: true"));
    world.flow("new.yaml", &steps("value: 2"));
    world.write("other.yaml", "workflow:\n  name: other\n  steps: [{name: a, type: echo}]\n");
    for (file, id) in [("old.yaml", "r"), ("new.yaml", "done"), ("other.yaml", "other")] {
        world.output(&["run", file, "--provider-mode", "mock", "--run-id", id]);
    }
    let check = ["check", "new.yaml", "--compat", "old.yaml"];
    let said = world.expect(0, &check).stdout;
    let compared = "of a run of old.yaml that had completed all steps:\n  a: reused\n  \
                    b: rerun (it changed)\n";
    assert!(said.ends_with(compared), "{said}");
    let with_store = [&check[..], &["--store", "sqlite:perennial.db"]].concat();
    let said = world.expect(0, &with_store).stdout;
    let taken = "run r (failed) could take it: 1 of 2 steps are reused\n";
    assert!(said.ends_with(&format!("{compared}{taken}")), "{said}");
    let json = json_lines(&world.expect(0, &[&with_store[..], &["--json"]].concat()).stdout);
    let (steps, runs) = (&json[0]["compat"]["steps"], &json[0]["compat"]["runs"]);
    assert_eq!((&steps[0]["fate"], &steps[1]["why"]), (&json!("reused"), &json!("it changed")));
    assert_eq!((&runs[0]["takes"], runs.as_array().unwrap().len()), (&json!(true), 1));
    world.expect(2, &["check", "new.yaml", "other.yaml", "--compat", "old.yaml"]);
    world.expect(3, &["check", "new.yaml", "--compat", "missing.yaml"]);
}

/// Of several files, one whose unfinished run cannot go on keeps no other from its end.
#[test]
fn a_run_that_cannot_go_on_leaves_those_beside_it_alone() {
    let world = World::new();
    let writes = |text: &str, fails: &str| {
        format!(
            "workflow:\n  name: kept\n  language: 1\n  checkpoint_enabled: true\n  steps:\n  \
             - {{name: w, type: file_ops, operation: write, path: a.txt, content: {text}}}\n  \
             - {{name: end, type: echo, value: 1{fails}}}\n"
        )
    };
    world.write("kept.yaml", writes("old", ", fail: true"));
    world.expect(1, &["run", "kept.yaml", "--provider-mode", "mock", "--run-id", "r"]);
    world.write("kept.yaml", writes("new", ""));
    world.flow("flow.yaml", "{name: a, type: echo, delay_ms: 100}\n{name: b, type: echo}");
    let output = world.expect(2, &[&MOCK[..], &["kept.yaml"]].concat());
    assert!(output.stderr.contains("kept.yaml: run r is unfinished"), "{output:?}");
    assert!(output.stderr.contains("PL903"), "{output:?}");
    let runs = world.expect(0, &["runs", "--json"]).stdout;
    let states = json_lines(&runs).into_iter().map(|run| run["state"].clone());
    assert_eq!(states.collect::<Vec<_>>(), [json!("succeeded"), json!("failed")], "{runs}");
}
