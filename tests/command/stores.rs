//! Stores that are absent, damaged, elsewhere, or held by another process.

use std::fs;

use perennial_testkit::FakeAnthropic;

use crate::world::{HELLO, SOON, World, json_lines};

const MOCK: [&str; 4] = ["run", HELLO, "--provider-mode", "mock"];

#[test]
fn those_who_only_look_or_continue_create_no_store() {
    let world = World::with_hello();
    let before = world.entries();
    for args in [&["runs"][..], &["show", "a"], &["resume", "a"], &["resume", "--all"]] {
        let output = world.expect(9, args);
        assert!(output.stderr.contains("there is none at perennial.db"), "{}", output.stderr);
        assert!(output.stderr.contains("starting a run creates one"), "{}", output.stderr);
        assert_eq!(world.entries(), before, "{args:?}");
    }
}

#[test]
fn a_run_that_is_not_there_or_has_ended_is_told_from_one_that_can_be_continued() {
    let world = World::with_hello();
    world.expect(0, &[&MOCK[..], &["--run-id", "one"]].concat());
    for verb in ["show", "resume"] {
        let output = world.expect(12, &[verb, "two"]);
        let expected = "error: run `two` is not in the store\nhelp: perennial runs\n";
        assert_eq!((output.stderr.as_str(), output.stdout.as_str()), (expected, ""));
    }
    let output = world.expect(2, &["resume", "one"]);
    assert!(output.stderr.contains("run one has ended (succeeded)"), "{}", output.stderr);
    assert!(output.stderr.ends_with("help: perennial show one\n"), "{}", output.stderr);
    let output = world.expect(0, &["resume", "--all"]);
    assert!(output.stderr.contains("nothing to resume"), "{}", output.stderr);

    let again = world.expect(0, &[&MOCK[..], &["--run-id", "one"]].concat());
    assert!(again.stdout.contains("run one completed"), "one id is one run: {again:?}");
    assert_eq!(world.expect(0, &["runs", "--json"]).stdout.lines().count(), 1);
    let other = world.expect(2, &[&MOCK[..], &["--run-id", "one", "who=me"]].concat());
    assert!(other.stderr.contains("`one` is in use by a run of another"), "{}", other.stderr);
}

#[test]
fn a_file_that_is_no_store_stays_as_it_is() {
    let garbage: Vec<u8> = (0..40_000_u32).map(|place| (place * 31 % 251) as u8).collect();
    for bytes in [&b"short"[..], &garbage] {
        let world = World::with_hello();
        world.write("perennial.db", bytes);
        let mut before = world.entries();
        before.insert("perennial.db.lock".to_owned());
        for args in [&MOCK[..], &["runs"], &["show", "a"], &["resume", "--all"]] {
            let output = world.expect(9, args);
            assert!(output.stderr.contains("is not a usable store"), "{}", output.stderr);
            assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
            assert_eq!(output.stdout, "");
            assert_eq!(fs::read(world.path("perennial.db")).unwrap(), bytes, "{args:?}");
            assert!(world.entries().is_subset(&before), "{args:?}: {:?}", world.entries());
        }
    }
}

#[test]
fn a_store_is_not_made_where_there_is_no_folder() {
    let world = World::with_hello();
    let before = world.entries();
    let output = world.expect(9, &[&MOCK[..], &["--store", "sqlite:no/where/a.db"]].concat());
    assert!(output.stderr.contains("there is no directory no/where"), "{}", output.stderr);
    assert_eq!((output.stdout.as_str(), world.entries()), ("", before));
}

#[test]
fn a_store_held_by_another_process_is_refused_at_once_and_its_holder_named() {
    let fake = FakeAnthropic::start();
    fake.hold();
    let world = World::live(&fake, "{name: a, type: claude, prompt: hi}");
    let holder = world.spawn(&["run", "flow.yaml", "--config", "perennial.toml"]);
    fake.wait_for_requests(1, SOON).unwrap();
    let mock = ["run", "flow.yaml", "--provider-mode", "mock"];
    let listed = json_lines(&world.expect(0, &["runs", "--json"]).stdout);
    let held = listed[0]["run"].as_str().unwrap();
    let (signal, answer) = (["signal", held, "go"], ["answer", held, "agree?", "1"]);
    for args in [&mock[..], &["unpause", "a"], &["resume", "--all"], &signal, &answer] {
        let output = world.expect(9, args);
        let pid = format!("(pid {})", holder.pid());
        assert!(output.stderr.contains("held by another process"), "{}", output.stderr);
        assert!(output.stderr.contains(&pid), "{pid}: {}", output.stderr);
        assert_eq!(output.stderr.matches("perennial.db").count(), 1, "{}", output.stderr);
        assert!(output.stderr.contains("help: try again when"), "{}", output.stderr);
        assert_eq!(output.stdout, "");
    }
    // Those who only look are in nobody's way.
    assert!(world.expect(0, &["runs"]).stdout.contains("running"));
    world.expect(12, &["show", "a"]);
    assert_eq!(fake.calls().len(), 1, "the others did not run");
    fake.release();
    let output = holder.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    world.expect(0, &["runs"]);
}

/// A folder in the place of the lock is what any account meets that may read the file and no more.
#[test]
fn a_store_whose_lock_is_out_of_reach_is_looked_at() {
    let world = World::with_hello();
    world.expect(0, &[&MOCK[..], &["--run-id", "r"]].concat());
    let lock = world.path("perennial.db.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    assert!(world.expect(0, &["runs"]).stdout.contains("succeeded"));
    world.expect(0, &["show", "r"]);
    world.expect(0, &["journal", "verify"]);
    let refused = world.expect(9, &["purge", "r"]);
    assert!(refused.stderr.contains("perennial.db.lock: "), "{refused:?}");
    let absent = world.expect(9, &["runs", "--store", "absent.db"]);
    assert!(absent.stderr.contains("starting a run creates one"), "{absent:?}");
}
