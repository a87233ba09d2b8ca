//! Workers, and several nodes on one server (ACC-5.4, STO-53).

use perennial_testkit::{FakeAnthropic, PerennialBinary, RunningBinary, postgres};

use crate::world::{KEY_ENV, SOON, World, json_lines};

const PASSWORD: &str = "c4nary-0f6e";
const ECHO: &str = "{name: a, type: echo, value: 1}";

fn terminate(process: RunningBinary) -> String {
    let script = format!("kill -TERM {}", process.pid());
    let told = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(told.status.success(), "{told:?}");
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    output.stderr
}

fn submitted(world: &World, more: &[&str]) -> String {
    let args = [&["run", "flow.yaml", "--detach"], more].concat();
    let output = world.expect(0, &args);
    assert!(output.stderr.contains("a worker takes it: perennial worker"), "{}", output.stderr);
    output.stdout.trim().to_owned()
}

#[test]
fn a_run_that_is_left_to_workers_is_queued_until_one_takes_it() {
    let world = World::new();
    world.flow("flow.yaml", ECHO);
    let run = submitted(&world, &["--provider-mode", "mock"]);
    let listed = world.expect(0, &["runs"]).stdout;
    assert!(listed.contains(&run) && listed.contains("queued"), "{listed}");
    let early = world.expect(12, &["explain", &run, "a"]);
    assert!(early.stderr.contains("has no step yet, a neither"), "{early:?}");
    assert_eq!(world.expect(0, &["nodes"]).stderr, "no node has worked on this store yet\n");

    let mut worker = world.spawn(&["worker", "--node", "rack-1"]);
    let ended = format!("run {run} completed");
    worker.wait_for("the end of the run", SOON, |it| it.stderr().contains(&ended)).unwrap();
    let said = terminate(worker);
    for part in ["node rack-1 works on sqlite:perennial.db", "taken", "stopped: 0 finished"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(world.shown(&run)["state"], "succeeded");
    let nodes = json_lines(&world.expect(0, &["nodes", "--json"]).stdout);
    assert_eq!((&nodes[0]["node"], &nodes[0]["alive"]), (&"rack-1".into(), &false.into()));
}

/// INV-15 from another process: who works on the run finds in the store what it was told.
#[test]
fn a_run_is_paused_and_cancelled_while_another_node_works_on_it() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("nodes").unwrap();
    let url = database.url();
    let fake = FakeAnthropic::start();
    fake.hold();
    let world = World::live(
        &fake,
        "{name: first, type: claude, prompt: hi}\n{name: second, type: claude, prompt: ho}",
    );
    let on = ["--config", "perennial.toml", "--store", &url];
    let run = submitted(&world, &on);
    let mut worker = world.spawn(&[&["worker", "--node", "rack-1"], &on[..]].concat());
    fake.wait_for_requests(1, SOON).unwrap();

    let nodes = world.expect(0, &["nodes", "--store", &url]).stdout;
    assert!(nodes.contains("rack-1") && nodes.contains("alive until 20"), "{nodes}");
    let shown = world.expect(0, &["show", &run, "--store", &url]).stdout;
    assert!(shown.contains("node       rack-1\n"), "{shown}");
    let refused = world.output(&[&["resume", &run], &on[..]].concat());
    assert!(refused.stderr.contains("is being run by node rack-1"), "{refused:?}");

    let sent = world.expect(0, &["signal", &run, "go", "--request", "once", "--store", &url]);
    assert!(sent.stderr.ends_with("node rack-1 works on it\n"), "{sent:?}");
    let other = world.expect(2, &["signal", &run, "on", "--request", "once", "--store", &url]);
    let told = format!("request once has sent something else to run {run} before");
    assert!(other.stderr.contains(&told), "{other:?}");

    let paused = world.expect(0, &["pause", &run, "--store", &url, "--json"]);
    let paused = &json_lines(&paused.stdout)[0];
    assert_eq!((&paused["state"], &paused["node"]), (&"paused".into(), &"rack-1".into()));
    let goes_on = world.expect(0, &["unpause", &run, "--store", &url]);
    assert!(goes_on.stderr.contains("goes on at node rack-1"), "{goes_on:?}");
    let urgent = world.expect(0, &["priority", &run, "urgent", "--store", &url]);
    assert!(urgent.stderr.ends_with("has now the priority urgent\n"), "{urgent:?}");
    let again = world.expect(0, &["priority", &run, "75", "--store", &url, "--json"]);
    let again = &json_lines(&again.stdout)[0];
    assert_eq!((&again["changed"], &again["priority"]), (&false.into(), &75.into()));
    let shown = world.expect(0, &["show", &run, "--store", &url]).stdout;
    assert!(shown.contains("priority   urgent\n"), "{shown}");
    let low = world.expect(0, &["priority", &run, "-7", "--store", &url]);
    assert!(low.stderr.ends_with("has now the priority -7\n"), "{low:?}");
    let skipped = world.expect(0, &["skip", &run, "first", "--store", &url]);
    assert!(skipped.stderr.ends_with("node rack-1 goes on with it\n"), "{skipped:?}");
    fake.wait_for_requests(2, SOON).unwrap();
    let cancelled = world.expect(0, &["cancel", &run, "--store", &url]);
    assert!(cancelled.stderr.contains("node rack-1 stops what it does of it"), "{cancelled:?}");
    // The call is left by its caller, though no answer ever comes.
    fake.wait_for_quiet(SOON).unwrap();
    let ended = format!("run {run} cancelled");
    worker.wait_for("the end of the run", SOON, |it| it.stderr().contains(&ended)).unwrap();
    terminate(worker);
    assert_eq!(fake.calls().len(), 2);
    let again = world.expect(2, &["cancel", &run, "--store", &url]);
    assert!(again.stderr.contains("has ended (cancelled)"), "{again:?}");
}

/// Where a key is missing, nothing of the run is done, nor is it failed; it may still be cancelled from there.
#[test]
fn a_worker_without_the_key_of_a_run_leaves_it_to_one_that_has_it() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("keyless").unwrap();
    let url = database.url();
    let fake = FakeAnthropic::start();
    let world = World::live(&fake, "{name: ask, type: claude, prompt: hi}");
    let on = ["--config", "perennial.toml", "--store", &url];
    let (run, unwanted) = (submitted(&world, &on), submitted(&world, &on));
    let worker = |node| world.command(&[&["worker", "--node", node], &on[..]].concat());
    let mut keyless = worker("rack-1").env(KEY_ENV, "").spawn().unwrap();
    let left = |it: &str| it.matches("run left to other nodes").count() == 2;
    keyless.wait_for("both runs to be left", SOON, |it| left(&it.stderr())).unwrap();
    let explained = world.expect(0, &["explain", &run, "--store", &url]).stdout;
    let told = "a worker takes it; one that lacks something for it (a secret, a key) leaves it, and says so in its log";
    assert!(explained.contains("is queued") && explained.contains(told), "{explained}");
    let cancel = world.command(&["cancel", &unwanted, "--store", &url]).env(KEY_ENV, "");
    let cancelled = cancel.run(SOON).unwrap();
    assert_eq!(cancelled.status.code(), Some(0), "{cancelled:?}");

    let mut keyed = worker("rack-2").spawn().unwrap();
    let ended = format!("run {run} completed");
    keyed.wait_for("the end of the run", SOON, |it| it.stderr().contains(&ended)).unwrap();
    terminate(keyed);
    let said = terminate(keyless);
    let why = format!("no key for `anthropic`: the environment variable {KEY_ENV} is not set");
    assert!(said.contains(&why) && !said.contains(" taken"), "{said}");
    assert_eq!(fake.calls().len(), 1);
}

/// The node that ran it goes on with other work; it has nothing left to do of a run that has ended.
#[test]
fn what_has_ended_at_a_worker_goes_on_elsewhere_while_the_worker_lives() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("ended").unwrap();
    let url = database.url();
    let world = World::new();
    world.flow("flow.yaml", "{name: a, type: echo, value: 1}\n{name: b, type: echo, fail: true}");
    let on = ["--store", &url];
    let run = submitted(&world, &[&["--provider-mode", "mock"], &on[..]].concat());
    let mut worker = world.spawn(&[&["worker", "--node", "rack-1"], &on[..]].concat());
    let ended = format!("run {run} failed");
    worker.wait_for("the end of the run", SOON, |it| it.stderr().contains(&ended)).unwrap();

    let again = world.expect(1, &[&["retry", &run], &on[..]].concat());
    assert!(again.stdout.contains(&format!("run {run} failed")), "{again:?}");
    let events = world.expect(0, &[&["events", &run, "--json"], &on[..]].concat());
    let events = json_lines(&events.stdout);
    let tries = |step: &str| {
        events.iter().filter(|one| one["event"] == "attempt_started" && one["job"] == step).count()
    };
    assert_eq!((tries("a"), tries("b")), (1, 2), "{events:#?}");
    let nodes = world.expect(0, &[&["nodes"], &on[..]].concat()).stdout;
    assert!(nodes.contains("rack-1") && nodes.contains("alive until 20"), "{nodes}");
    terminate(worker);
    world.expect(0, &[&["journal", "verify"], &on[..]].concat());
}

/// The store of a configuration, weaker than the environment and a flag.
#[test]
fn a_configuration_names_the_store() {
    let world = World::new();
    world.flow("flow.yaml", ECHO);
    world.write("perennial.toml", "[store]\nurl = \"sqlite:other.db\"\n");
    let run = ["run", "flow.yaml", "--provider-mode", "mock", "--config", "perennial.toml"];
    world.expect(0, &run);
    assert!(world.path("other.db").exists());
    let output = world.command(&run).env("PERENNIAL_STORE", "third.db").run(SOON).unwrap();
    assert!(output.status.success() && world.path("third.db").exists(), "{output:?}");
    world.expect(0, &[&run[..], &["--store", "perennial.db"]].concat());
    assert!(world.path("perennial.db").exists());

    // Every verb that needs a store takes it from there.
    world.expect(0, &[&run[..], &["--run-id", "r"]].concat());
    let verbs: [(i32, &[&str]); 10] = [
        (0, &["runs"]),
        (0, &["results", "r"]),
        (0, &["events", "r"]),
        (0, &["explain", "r"]),
        (0, &["graph", "--run", "r"]),
        (0, &["journal", "verify", "r"]),
        (2, &["skip", "r", "a"]),
        (2, &["signal", "r", "go"]),
        (2, &["answer", "r", "agree?", "1"]),
        (0, &["purge", "r"]),
    ];
    for (code, verb) in verbs {
        world.expect(code, &[verb, &["--config", "perennial.toml"]].concat());
    }
}

/// A pipe gives its text once, whichever command reads it; and what it says of the store counts.
#[test]
fn a_configuration_that_comes_out_of_a_pipe_is_read_once() {
    let world = World::new();
    world.flow("flow.yaml", "{name: a, type: echo, fail: true}");
    let store = ["--store", "other.db"];
    let run = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "one"];
    world.expect(1, &[&run[..], &store].concat());
    let script = format!("mkfifo '{}'", world.path("pipe").display());
    let made = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(made.status.success(), "{made:?}");
    for (code, command) in [
        (0, &["show", "one"][..]),
        (1, &["retry", "one"]),
        (2, &["unpause", "one"]),
        (1, &["resume", "one"]),
        (2, &["cancel", "one"]),
        (2, &["pause", "one"]),
        (0, &["nodes"]),
        (0, &["gc"]),
    ] {
        let process = world.spawn(&[command, &["--config", "pipe"]].concat());
        // Opened for writing once somebody reads; closed, it ends what is read.
        std::fs::write(world.path("pipe"), "[store]\nurl = \"sqlite:other.db\"\n").unwrap();
        let output = process.wait(SOON).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?} {output:?}");
        assert!(!world.path("perennial.db").exists(), "{command:?} {output:?}");
    }
}

/// DUR-120: from another process it is seen that a node is about to end.
#[test]
fn a_worker_that_drains_is_listed_as_draining() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("draining").unwrap();
    let url = database.url();
    let fake = FakeAnthropic::start();
    fake.hold();
    let world = World::live(&fake, "{name: first, type: claude, prompt: hi}");
    let on = ["--config", "perennial.toml", "--store", &url];
    submitted(&world, &on);
    let worker = world.spawn(&[&["worker", "--node", "rack-1"], &on[..]].concat());
    fake.wait_for_requests(1, SOON).unwrap();
    let listed = || {
        let nodes = json_lines(&world.expect(0, &["nodes", "--json", "--store", &url]).stdout);
        (nodes[0]["alive"] == true, nodes[0]["draining"] == true, nodes[0]["handed_over"] == true)
    };
    assert_eq!(listed(), (true, false, false));
    let script = format!("kill -TERM {}", worker.pid());
    let told = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(told.status.success(), "{told:?}");
    let deadline = perennial_testkit::Deadline::after(SOON);
    while listed() != (true, true, false) {
        assert!(!deadline.left().is_zero(), "{:?}", listed());
    }
    let nodes = world.expect(0, &["nodes", "--store", &url]).stdout;
    assert!(nodes.contains("draining"), "{nodes}");
    fake.release();
    assert_eq!(worker.wait(SOON).unwrap().status.code(), Some(143));
    assert_eq!(listed(), (false, false, true));
}

/// Neither a refusal nor a log, a hint or a dump.
/// Proves INV-ST-35.
#[test]
fn the_password_of_a_server_is_shown_nowhere() {
    let world = World::new();
    world.flow("flow.yaml", ECHO);
    let nobody = format!("postgres://me:{PASSWORD}@127.0.0.1:1/work");
    let mut said = Vec::new();
    for url in [
        &nobody,
        &format!("postgres://me:{PASSWORD}@h:port/work"),
        &format!("mysql://me:{PASSWORD}@h/w"),
    ] {
        world.write("perennial.toml", format!("[store]\nurl = \"{url}\"\n"));
        for args in [
            &["runs", "--store", url][..],
            &["run", "flow.yaml", "--provider-mode", "mock", "--json", "--store", url],
            &["worker", "--config", "perennial.toml"],
            &["cancel", "r", "--store", url],
        ] {
            let output = world.command(args).env("PERENNIAL_LOG", "trace").run(SOON).unwrap();
            assert!(matches!(output.status.code(), Some(2 | 9)), "{args:?} {output:?}");
            said.push(output);
        }
    }
    // A line that cannot be read at all is not repeated either.
    world.write("perennial.toml", format!("[store]\nurl = \"{nobody}\n"));
    said.push(world.output(&["worker", "--config", "perennial.toml"]));
    said.push(
        world.command(&["runs", "--help"]).env("PERENNIAL_STORE", &nobody).run(SOON).unwrap(),
    );
    if let Some(cluster) = postgres::cluster() {
        // Its socket trusts everybody; the password is there to be told.
        let database = cluster.database("canary").unwrap();
        let url = database.url().replacen("@", &format!(":{PASSWORD}@"), 1);
        for args in [
            &["run", "flow.yaml", "--provider-mode", "mock", "--tree", "--store", &url][..],
            &["run", "flow.yaml", "--provider-mode", "mock", "--tree", "--json", "--store", &url],
            &["runs", "--store", &url],
            &["nodes", "--store", &url],
        ] {
            let output = world.command(args).env("PERENNIAL_LOG", "debug").run(SOON).unwrap();
            assert!(output.status.success(), "{output:?}");
            said.push(output);
        }
        assert!(
            said.iter().any(|one| one.stdout.contains("postgres://postgres:***@")),
            "{said:#?}"
        );
    }
    for output in said {
        assert!(!format!("{output:?}").contains(PASSWORD), "{output:?}");
    }
}
