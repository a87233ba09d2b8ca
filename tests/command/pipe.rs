//! A reader that leaves early has seen enough (CLI-2).

use std::{
    io::{BufRead, BufReader, Read, pipe},
    process::{Command, Stdio},
};

use perennial_testkit::PerennialBinary;

use crate::world::{HELLO, SOON, World, binary};

/// Runs the command with a stdout that nobody reads; answers its code and what it said.
fn unread(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut child = Command::new(binary())
        .args(args)
        .current_dir(world.path(""))
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn a_broken_pipe_ends_every_verb_quietly() {
    let world = World::with_hello();
    let run = ["run", HELLO, "--provider-mode", "mock", "--run-id", "one"];
    world.expect(0, &run);
    let dump = world.expect(0, &["tree", "--declared", "--json"]).stdout;
    world.write("tree.json", &dump);
    world.write("other.json", dump.replace("drain", "brain"));
    for args in [
        &["runs"][..],
        &["runs", "--json"],
        &["show", "one"],
        &["show", "one", "--json"],
        &["show", "one", "--trace"],
        &["show", "one", "--trace", "--json"],
        &["schema"],
        &["graph", HELLO],
        &["graph", "--run", "one"],
        &["explain", HELLO, "settings"],
        &["explain", "one"],
        &["results", "one"],
        &["functions"],
        &["steps", "claude", "--json"],
        &["events", "one", "--json"],
        &["check", HELLO],
        &["check", "gone.yaml", "--json"],
        &["tree", "--declared"],
        &["tree", "--declared", "--json"],
        &["tree", "--declared", "--format", "dot"],
        &["tree", "--dump", "tree.json"],
        &["tree", "--dump", "tree.json", "--columns", "state"],
        &["tree", "diff", "tree.json", "other.json"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
    ] {
        let (code, said) = unread(&world, args);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_run_whose_reader_has_left_goes_on_to_its_end_and_says_by_its_code_how_it_ended() {
    let world = World::with_hello();
    for (id, more) in [("text", "--tree"), ("json", "--json")] {
        let args = ["run", HELLO, "--provider-mode", "mock", "--run-id", id, more];
        let (code, said) = unread(&world, &args);
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("error") && !said.contains("panicked"), "{said}");
    }
    for id in ["text", "json"] {
        assert_eq!(world.shown(id)["state"], "succeeded");
    }
    world.flow("fails.yaml", "{name: f, type: echo, fail: true}");
    for more in ["--quiet", "--json"] {
        let (code, said) = unread(&world, &["run", "fails.yaml", "--provider-mode", "mock", more]);
        assert_eq!(code, Some(1), "{said}");
    }
}

/// What could not be written is said with the command that shows it, and the run has ended.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_does_not_stop_a_run() {
    let world = World::with_hello();
    for (id, more) in [("text", "--tree"), ("json", "--json")] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut child = Command::new(binary())
            .args(["run", HELLO, "--provider-mode", "mock", "--run-id", id, more])
            .current_dir(world.path(""))
            .stdin(Stdio::null())
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.contains("stdout cannot be written: No space left"), "{said}");
        assert!(said.contains(&format!("help: perennial show {id}")), "{said}");
        assert_eq!(world.shown(id)["state"], "succeeded");
    }
}

/// It is not the disk of the store that is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_told_as_such_by_what_only_looks() {
    let world = World::with_hello();
    world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--run-id", "one"]);
    for args in [
        &["runs"][..],
        &["runs", "--json"],
        &["show", "one"],
        &["show", "one", "--json"],
        &["show", "one", "--trace"],
        &["journal", "verify"],
        &["graph", HELLO],
        &["graph", "--run", "one"],
        &["explain", "one"],
        &["results", "one"],
        &["events", "one"],
        &["nodes"],
        &["functions"],
        &["steps"],
        &["schema"],
        &["check", HELLO],
        &["gc"],
        &["tree", "--declared"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(binary());
        let output = command.args(args).current_dir(world.path("")).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        let expected = "error: stdout cannot be written: No space left on device (os error 28)\n";
        assert!(said.ends_with(expected), "{args:?}: {said}");
    }
}

/// A run that goes on by a corrected file: its plan is the first that cannot be written.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_does_not_stop_a_resumed_run() {
    let world = World::new();
    let failing =
        "{name: a, type: echo, value: 1, fail: true}\n{name: b, type: echo, delay_ms: 50}";
    world.flow("flow.yaml", failing);
    world.flow("fixed.yaml", &failing.replace(", fail: true", ""));
    world.expect(1, &["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "one"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(binary());
    command.args(["resume", "one", "--file", "fixed.yaml", "--json"]);
    let output = command.current_dir(world.path("")).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("stdout cannot be written: No space left"), "{said}");
    assert_eq!(world.shown("one")["state"], "succeeded", "{said}");
}

/// As `perennial events RUN | head -1` does: more than a pipe holds is still to come.
#[test]
fn a_reader_that_leaves_after_the_first_line_ends_the_command_quietly() {
    let world = World::new();
    let steps: Vec<String> = (0..60)
        .map(|n| format!("{{name: s{n}, type: echo, value: {}}}", "x".repeat(4_000)))
        .collect();
    world.flow("flow.yaml", &steps.join("\n"));
    world.expect(0, &["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "one"]);
    for args in [&["show", "one", "--json"][..], &["results", "one", "--json"], &["schema"]] {
        let whole = world.expect(0, args).stdout;
        assert!(whole.len() > 65_536, "{args:?} fits into a pipe: {}", whole.len());
        let (reader, writer) = pipe().unwrap();
        let mut child = Command::new(binary())
            .args(args)
            .current_dir(world.path(""))
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::with_capacity(16, reader);
        assert!(!reader.fill_buf().unwrap().is_empty());
        drop(reader);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

/// Its store cannot be written any more: it says so when the tree gives up, and not after a time in which nobody answers.
#[test]
fn a_run_whose_store_cannot_grow_says_why_it_has_given_up() {
    let world = World::new();
    let text = "x".repeat(400);
    let steps: String =
        (0..300).map(|n| format!("  - {{name: s{n}, type: echo, value: {text}}}\n")).collect();
    world.write("wide.yaml", format!("workflow:\n  name: wide\n  steps:\n{steps}"));
    // In blocks of 512 bytes; what is beyond them is refused as if by a disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 1000; exec {} run wide.yaml --provider-mode mock --run-id wide --quiet",
        binary()
    );
    let told =
        PerennialBinary::new("/bin/sh").args(["-c", &script]).current_dir(world.path("")).run(SOON);
    let told = told.unwrap();
    assert_eq!(told.status.code(), Some(9), "{told:?}");
    let error = told.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("this node has given up: the store "), "{error}");
    assert!(told.stderr.contains("help: perennial resume wide"), "{told:?}");
    // With room it goes on.
    world.expect(0, &["resume", "wide", "--quiet"]);
}
