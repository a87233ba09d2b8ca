//! A key is used and never shown: not by success, not by any failure, not by the log.

use std::fs;

use perennial_testkit::{BinaryOutput, FakeAnthropic, FakeReply, RunningBinary};

use crate::world::{CANARY, KEY_ENV, SOON, World, json_lines};

const RUN: [&str; 7] =
    ["run", "flow.yaml", "--config", "perennial.toml", "--tree", "--run-id", "r"];
/// One attempt only: nobody waits for a second one.
const ASK: &str = "{name: ask, type: claude, prompt: question one, retry: {max_retries: 0}}";

/// The key, and what is left of it after usual encodings.
fn forms() -> Vec<Vec<u8>> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![CANARY.into(), hex.clone().into(), hex.to_uppercase().into(), CANARY[7..].into()]
}

fn assert_absent(place: &str, bytes: &[u8]) {
    for form in forms() {
        let found = bytes.windows(form.len()).any(|window| window == form);
        assert!(!found, "the key is in {place}: {}", String::from_utf8_lossy(bytes));
    }
}

/// Looks through all that a run left: its output, every file beside it, every way to show it.
fn look_everywhere(world: &World, output: &BinaryOutput, what: &str) {
    let mut seen = vec![(format!("{what}: run"), output.clone())];
    for args in [&["show", "r"][..], &["show", "r", "--json"], &["runs"], &["runs", "--json"]] {
        seen.push((format!("{what}: {args:?}"), world.expect(0, args)));
    }
    for (place, output) in seen {
        assert_absent(&format!("stdout of {place}"), output.stdout.as_bytes());
        assert_absent(&format!("stderr of {place}"), output.stderr.as_bytes());
    }
    let entries = world.entries();
    assert!(entries.contains("perennial.db"), "{entries:?}");
    for name in entries {
        assert_absent(&format!("{what}: {name}"), &fs::read(world.path(&name)).unwrap());
    }
}

/// One run against `reply`, with the loudest log there is, for people and for programs.
fn ask(reply: FakeReply, code: i32, what: &str) {
    for json in [false, true] {
        let fake = FakeAnthropic::start();
        fake.script("question", [reply.clone()]);
        let world = World::live(&fake, ASK);
        let args = if json { [&RUN[..], &["--json"]].concat() } else { RUN.to_vec() };
        let command = world.command(&args).env("PERENNIAL_LOG", "trace");
        let mut running = command.spawn().unwrap();
        // While it runs, the journal of the store is there as well.
        running.wait_for("a request", SOON, |_| !fake.calls().is_empty()).unwrap();
        for name in world.entries() {
            let bytes = fs::read(world.path(&name)).unwrap_or_default();
            assert_absent(&format!("{what}: {name} during the run"), &bytes);
        }
        let output = running.wait(SOON).unwrap();
        assert_eq!(output.status.code(), Some(code), "{what}: {output:#?}");
        assert!(output.stderr.contains("TRACE") || output.stderr.contains("DEBUG"), "{what}");
        look_everywhere(&world, &output, what);
    }
}

/// Proves INV-ST-35.
#[test]
fn a_run_that_succeeds_shows_no_key() {
    ask(FakeReply::echo(), 0, "success");
}

/// Proves INV-ST-35.
#[test]
fn a_refusal_that_echoes_the_key_shows_no_key() {
    for status in [400, 401] {
        let message = format!("invalid x-api-key: {CANARY}");
        let reply = FakeReply::error(status, "authentication_error", &message)
            .header("request-id", format!("req-{CANARY}"));
        ask(reply, 1, &format!("status {status}"));
    }
    ask(FakeReply::status(500, format!("<html>{CANARY}</html>")), 1, "status 500");
}

#[test]
fn a_stream_that_breaks_shows_no_key() {
    ask(FakeReply::cut(format!("you said {CANARY}")), 1, "cut");
    ask(FakeReply::early_end(format!("you said {CANARY}")), 1, "early end");
    ask(FakeReply::error_inside(CANARY, CANARY), 1, "an error event");
    let event = format!("{{\"type\":\"error\",\"error\":{{\"message\":\"{CANARY}\"}}}}");
    ask(FakeReply::raw(format!("event: error\ndata: {event}\n\n")), 1, "a raw error event");
}

#[test]
fn a_key_that_cannot_be_sent_is_not_repeated() {
    let fake = FakeAnthropic::start();
    let world = World::live(&fake, ASK);
    let output = world.command(&RUN).env(KEY_ENV, format!("{CANARY}\n{CANARY}")).run(SOON).unwrap();
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert!(output.stderr.contains("provider `anthropic` cannot be used"), "{}", output.stderr);
    assert_absent("stderr", output.stderr.as_bytes());
    assert_absent("stdout", output.stdout.as_bytes());
    assert_eq!(fake.calls().len(), 0);
    assert!(!world.entries().contains("perennial.db"));
}

/// YF-42: a secret of the environment that a document names is in nothing that its run leaves.
/// Proves INV-ST-35.
#[test]
fn a_secret_that_a_document_names_is_recorded_nowhere() {
    let world = World::new();
    world.flow(
        "flow.yaml",
        &format!(
            "{{name: said, type: echo, value: 'key ${{{KEY_ENV}}}', output_to_file: said.txt}}\n\
             {{name: kept, type: set_variable, variables: {{k: '{{{{ env.{KEY_ENV} }}}}'}}}}\n\
             {{name: failed, type: echo, fail: true, error_message: 'bad ${{{KEY_ENV}}}'}}"
        ),
    );
    let args = ["run", "flow.yaml", "--run-id", "r", "--provider-mode", "mock", "--tree"];
    let output = world.command(&args).env("PERENNIAL_LOG", "trace").run(SOON).unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    let shown = world.expect(0, &["show", "r", "--json"]).stdout;
    assert!(shown.contains("key [redacted]") && shown.contains("bad [redacted]"), "{shown}");
    let said = fs::read(world.path("outputs/said.txt")).unwrap();
    assert_absent("the file", &said);
    for view in ["--resolved", "--plan", "--inputs"] {
        let output = world.expect(0, &["check", "flow.yaml", view, "--json"]);
        assert_absent(view, output.stdout.as_bytes());
    }
    for name in world.entries() {
        if world.path(&name).is_file() {
            assert_absent(&name, &fs::read(world.path(&name)).unwrap());
        }
    }
}

/// YF-42: a secret is not recorded, so a run that began with one does not go on without it.
#[test]
fn a_run_whose_secret_is_not_set_is_left_as_it_is() {
    let world = World::new();
    let flow = |gate: &str| {
        format!(
            "{{name: said, type: echo, value: 'key ${{A_KEY}}'}}\n{{name: gate, type: echo, {gate}}}\n\
             {{name: again, type: echo, value: 'key ${{A_KEY}}'}}"
        )
    };
    world.flow("flow.yaml", &flow("fail: true"));
    world.flow("open.yaml", &flow("value: open"));
    let with = |args: &[&str]| world.command(args).env("A_KEY", "abcdefg").run(SOON).unwrap();
    let run = ["run", "flow.yaml", "--run-id", "r", "--provider-mode", "mock"];
    let began = with(&run);
    assert_eq!(began.status.code(), Some(1), "{began:?}");
    assert!(began.stderr.contains("the secret A_KEY is shorter than 8 bytes"), "{}", began.stderr);
    for args in [&["resume", "r"][..], &["resume", "r", "--file", "open.yaml"]] {
        let refused = world.command(args).run(SOON).unwrap();
        assert!(matches!(refused.status.code(), Some(3 | 8)), "{refused:?}");
        assert!(
            refused.stderr.contains("`A_KEY`") && refused.stderr.contains("not set"),
            "{refused:?}"
        );
    }
    let done = with(&["resume", "r", "--file", "open.yaml"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

/// Nothing of it is executed by who stops it: no secret is asked for. What died with its process is not waited for.
#[test]
fn a_run_is_stopped_without_its_secrets() {
    let world = World::new();
    let steps = "{name: said, type: echo, value: 'key ${A_KEY}'}\n{name: slow, type: echo, value: 1, delay_ms: 60000}";
    world.flow("flow.yaml", steps);
    for (run, wishes) in [("dead", &["cancel"][..]), ("left", &["pause", "cancel"])] {
        let start = ["run", "flow.yaml", "--run-id", run, "--provider-mode", "mock", "--json"];
        let mut process = world.command(&start).env("A_KEY", "abcdefghijkl").spawn().unwrap();
        let begun = |it: &RunningBinary| {
            let events = json_lines(&it.stdout());
            events.iter().any(|one| one["event"] == "attempt_started" && one["job"] == "slow")
        };
        process.kill_when("its second step", SOON, begun).unwrap();
        for wish in wishes {
            world.expect(0, &[wish, run]);
        }
        assert_eq!(world.shown(run)["state"], "cancelled");
        let told = world.expect(0, &["runs"]).stdout;
        assert!(!told.contains("interrupted"), "{told}");
        world.expect(0, &["purge", run]);
    }
}
