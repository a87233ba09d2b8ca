//! What is recorded is whole, and what is no longer needed goes (CHK, STO-60, STO-66).

use perennial_testkit::FakeAnthropic;

use crate::world::{HELLO, SOON, World, json_lines};

fn with_runs(ids: &[&str]) -> World {
    let world = World::with_hello();
    for id in ids {
        world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--quiet", "--run-id", id]);
    }
    world
}

/// Changes the store behind the back of everything.
fn damage(world: &World) {
    let path = world.path("perennial.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // Of a kind of event, which stands there as it is: nothing of the file's structure.
    let (from, to) = (&b"call_started"[..], &b"call_sTarted"[..]);
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    std::fs::write(path, bytes).unwrap();
    world.write("damaged", "");
}

#[test]
fn what_is_recorded_is_verified_and_damage_is_told_with_its_place() {
    let world = with_runs(&["one", "two"]);
    let before = std::fs::read(world.path("perennial.db")).unwrap();
    let output = world.expect(0, &["journal", "verify"]);
    assert_eq!(output.stdout, "2 runs, 54 events: all in order\n");
    let output = world.expect(0, &["journal", "verify", "one"]);
    assert_eq!(output.stdout, "1 run, 27 events: all in order\n");
    let lines = json_lines(&world.expect(0, &["journal", "verify", "--json"]).stdout);
    assert_eq!(
        (lines.len(), &lines[0]["type"], &lines[0]["runs"]),
        (1, &"verified".into(), &2.into())
    );
    let output = world.expect(12, &["journal", "verify", "nobody"]);
    assert_eq!(output.stderr, "error: run `nobody` is not in the store\nhelp: perennial runs\n");
    assert_eq!(std::fs::read(world.path("perennial.db")).unwrap(), before, "it writes nothing");

    damage(&world);
    world.expect(0, &["run", HELLO, "--provider-mode", "mock", "--quiet", "--run-id", "later"]);
    let output = world.expect(11, &["journal", "verify"]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "one, event 12: the event, or its hash, was changed [CHK-3]");
    let expected =
        "is not whole: 4 violations in 2 of 3 streams (3 runs, 81 events); nothing was changed";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    assert!(output.stderr.ends_with("help: perennial show one\n"), "{}", output.stderr);
    let lines = json_lines(&world.expect(11, &["journal", "verify", "--json"]).stdout);
    assert_eq!((&lines[0]["rule"], &lines[0]["stream"]), (&"CHK-3".into(), &"one".into()));
    assert_eq!(lines[4]["damaged"], serde_json::json!(["one", "two"]));
    world.expect(0, &["journal", "verify", "later"]);
}

#[test]
fn a_store_is_verified_and_shown_beside_the_process_that_works_on_it() {
    let fake = FakeAnthropic::start();
    fake.hold();
    let world = World::live(&fake, "{name: a, type: claude, prompt: hi}");
    let holder =
        world.spawn(&["run", "flow.yaml", "--config", "perennial.toml", "--run-id", "held"]);
    fake.wait_for_requests(1, SOON).unwrap();
    let output = world.expect(0, &["journal", "verify"]);
    assert!(output.stdout.ends_with(" events: all in order\n"), "{output:?}");
    assert_eq!(world.shown("held")["state"], "running");
    let refused = world.expect(9, &["gc"]);
    assert!(refused.stderr.contains("held by another process"), "{}", refused.stderr);
    world.expect(0, &["gc", "--dry-run"]);
    let refused = world.expect(9, &["purge", "held"]);
    assert!(refused.stderr.contains("held by another process"), "{}", refused.stderr);
    fake.release();
    let output = holder.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn runs_that_ended_long_ago_go_and_are_told_from_those_that_never_were() {
    let world = with_runs(&["one", "two"]);
    assert_eq!(world.expect(0, &["gc"]).stdout, "nothing to remove\n", "they are young");
    let dry = world.expect(0, &["gc", "--older-than", "0s", "--dry-run"]);
    let lines: Vec<&str> = dry.stdout.lines().collect();
    assert!(
        lines[0].starts_with("RUN") && lines[1].starts_with("one") && lines[2].starts_with("two")
    );
    assert_eq!(lines[3], "2 runs would be removed; nothing was changed");
    assert_eq!(world.expect(0, &["runs"]).stdout.lines().count(), 3);

    let off = "[retention]\nenabled = false\n";
    world.write("off.toml", off);
    let output = world.expect(0, &["gc", "--config", "off.toml"]);
    assert!(output.stderr.contains("switched off"), "{}", output.stderr);

    let purged = world.expect(0, &["purge", "one"]);
    assert!(purged.stdout.starts_with("run one is removed ("), "{}", purged.stdout);
    for args in [&["show", "one"][..], &["events", "one"], &["purge", "one"]] {
        let output = world.expect(12, args);
        assert!(
            output.stderr.contains("had ended (succeeded) and was removed on"),
            "{}",
            output.stderr
        );
    }
    let again = ["run", HELLO, "--provider-mode", "mock", "--run-id", "one"];
    assert!(world.expect(12, &again).stderr.contains("stays taken"), "its key is not free");
    let output = world.expect(12, &["purge", "on"]);
    assert!(output.stderr.contains("`on` is not in the store"), "no beginnings: {}", output.stderr);

    let lines = json_lines(&world.expect(0, &["gc", "--older-than", "0s", "--json"]).stdout);
    assert_eq!((&lines[0]["run"], &lines[1]["runs"]), (&"two".into(), &1.into()));
    let refused = world.expect(2, &["gc", "--older-than", "3w"]);
    assert!(refused.stderr.contains("days, hours, minutes or seconds"), "{}", refused.stderr);
}
