//! What holds a run from its start to its end, however often it is resumed: its directories and its limits.

use std::{fs, os::unix::fs::symlink};

use perennial_testkit::FakeAnthropic;

use crate::world::{World, step};

/// A run that leaves files and fails; corrected, it would leave more.
const LEAVES: &str = "{name: a, type: echo, value: one, output_to_file: a.txt}\n\
                      {name: c, type: file_ops, operation: copy, source: in.txt, destination: copied.txt}\n\
                      {name: b, type: echo, value: 1, fail: true}";
const MORE: &str = "\n{name: d, type: echo, value: two, output_to_file: d.txt}\n\
                    {name: e, type: file_ops, operation: copy, source: in.txt, destination: e.txt}";

/// YR-71: what somebody put in the place of a directory of the run while nobody ran it is not followed.
#[test]
fn yr_71_a_directory_that_became_a_link_is_refused_and_nothing_is_touched() {
    for (name, above) in [("workspace", ""), ("outputs", ""), ("checkpoints", ""), ("deep", "/w")] {
        let world = World::new();
        world.write("in.txt", "text");
        world.flow("flow.yaml", LEAVES);
        let workspace = format!("{}{above}", if above.is_empty() { "workspace" } else { name });
        let run = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r"];
        world.expect(1, &[&run[..], &["--workspace-dir", &workspace]].concat());
        world.flow("fixed.yaml", &(LEAVES.replace(", fail: true", "") + MORE));
        fs::create_dir_all(world.path(&format!("elsewhere{above}"))).unwrap();
        fs::rename(world.path(name), world.path("kept")).unwrap();
        symlink(world.path("elsewhere"), world.path(name)).unwrap();
        let before = (world.shown("r"), world.entries());
        for args in [
            &["resume", "r", "--file", "fixed.yaml"][..],
            &["resume", "r"],
            &["resume", "r", "--from", "a", "--rerun-writes"],
        ] {
            let refused = world.expect(3, args);
            let led = world.path(&format!("elsewhere{above}")).canonicalize().unwrap();
            for words in [
                "PL609",
                name,
                &format!("leads to {} now", led.display()),
                "put it back",
                "new run",
            ] {
                assert!(refused.stderr.contains(words), "{name} {args:?}: {}", refused.stderr);
            }
            assert_eq!((world.shown("r"), world.entries()), before, "{name} {args:?}");
        }
        // The real directory at its place again, the run goes on; so it does in one that was made anew.
        fs::remove_file(world.path(name)).unwrap();
        if name == "checkpoints" {
            fs::create_dir(world.path(name)).unwrap();
        } else {
            fs::rename(world.path("kept"), world.path(name)).unwrap();
        }
        world.expect(0, &["resume", "r", "--file", "fixed.yaml"]);
        assert_eq!(fs::read(world.path(&format!("{workspace}/e.txt"))).unwrap(), b"text");
        assert_eq!(fs::read_dir(world.path(&format!("elsewhere{above}"))).unwrap().count(), 0);
    }
}

/// A link that was there at the start is the user's own, and is followed as long as it leads to the same place.
#[test]
fn yr_71_a_directory_that_was_a_link_from_the_start_must_lead_where_it_led() {
    let world = World::new();
    world.write("in.txt", "text");
    world.flow("flow.yaml", LEAVES);
    for name in ["one", "two"] {
        fs::create_dir(world.path(name)).unwrap();
    }
    symlink("one", world.path("workspace")).unwrap();
    let run = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", "r"];
    world.expect(1, &run);
    world.expect(1, &["resume", "r"]);
    fs::remove_file(world.path("workspace")).unwrap();
    symlink("two", world.path("workspace")).unwrap();
    let refused = world.expect(3, &["resume", "r"]).stderr;
    assert!(refused.contains("PL609") && refused.contains("/two now"), "{refused}");
    fs::remove_file(world.path("workspace")).unwrap();
    symlink(world.path("one"), world.path("workspace")).unwrap();
    world.expect(1, &["resume", "r"]);
}

/// The directory of a document is that of the corrected one from there on; uncorrected, it stays where it was.
#[test]
fn yr_71_the_directory_of_a_document_may_be_another_for_a_corrected_one() {
    let world = World::new();
    let steps = "{name: a, type: echo, value: one, output_to_file: a.txt}\n\
                 {name: b, type: echo, value: 1, fail: true}";
    world.flow("v1/flow.yaml", steps);
    world.flow("v2/flow.yaml", &steps.replace(", fail: true", ""));
    symlink("v1", world.path("current")).unwrap();
    let run = ["run", "current/flow.yaml", "--provider-mode", "mock", "--run-id", "r"];
    world.expect(1, &run);
    fs::remove_file(world.path("current")).unwrap();
    symlink("v2", world.path("current")).unwrap();
    let refused = world.expect(3, &["resume", "r"]).stderr;
    assert!(refused.contains("PL609") && refused.contains("/v2 now"), "{refused}");
    world.expect(0, &["resume", "r", "--file", "current/flow.yaml"]);
}

/// PL610: a name that cannot be recorded refuses the start, whether it was given or a link leads to it.
#[test]
fn pl_610_a_directory_whose_name_is_not_utf_8_refuses_the_start() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let world = World::new();
    world.write("in.txt", "text");
    world.flow("flow.yaml", LEAVES);
    let odd = OsStr::from_bytes(b"odd\xff");
    fs::create_dir(world.path("").join(odd)).unwrap();
    symlink(odd, world.path("workspace")).unwrap();
    let refused = world.expect(3, &["run", "flow.yaml", "--provider-mode", "mock"]).stderr;
    for words in ["error[PL610]", "not UTF-8", "choose another one"] {
        assert!(refused.contains(words), "{refused}");
    }
    assert!(!refused.contains("panicked"), "{refused}");
    fs::remove_file(world.path("workspace")).unwrap();
    let mut command = std::process::Command::new(crate::world::binary());
    command.args(["run", "flow.yaml", "--provider-mode", "mock", "--workspace-dir"]).arg(odd);
    let output = command.current_dir(world.path("")).output().unwrap();
    let refused = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{refused}");
    assert!(refused.contains("error[PL610]") && !refused.contains("panicked"), "{refused}");
}

const LIMITED: &str = "{name: a, type: echo, value: 1}\n{name: b, type: echo, value: 1, fail: true}\n\
                       {name: c, type: echo, value: 1}";

/// YF-48: what was enforced at the start is, whatever a resume is told; it can only be narrowed.
#[test]
fn what_was_enforced_at_the_start_stays_enforced() {
    let enforced = |most: u32| {
        format!("[limits]\nmax_step_executions = {most}\nenforced = [\"max_step_executions\"]\n")
    };
    let exceeded =
        |most: u32, total: u32| format!("executions ({most}) exceeded: current total is {total}");
    let world = World::new();
    world.flow("flow.yaml", LIMITED);
    world.write("p.toml", enforced(2));
    world.write("loose.toml", enforced(9));
    world.write("strict.toml", enforced(1));
    let corrected = LIMITED.replace(", fail: true", "");
    world.flow("fixed.yaml", &corrected);
    let text = fs::read_to_string(world.path("fixed.yaml")).unwrap();
    let asks = "  resource_limits: {max_step_executions: 7}\n  steps:";
    world.write("asks.yaml", text.replace("  steps:", asks));
    let start = |run: &str| {
        let args = ["run", "flow.yaml", "--provider-mode", "mock", "--run-id", run];
        world.expect(1, &[&args[..], &["--config", "p.toml"]].concat());
    };
    start("r");
    for more in [
        &["--file", "fixed.yaml"][..],
        &["--file", "asks.yaml"],
        &["--file", "asks.yaml", "--config", "loose.toml", "--limit", "max_step_executions=8"],
        &[],
    ] {
        let said = world.expect(1, &[&["resume", "r"], more].concat()).stderr;
        assert!(said.contains(&exceeded(2, 3)), "{more:?}: {said}");
    }
    for more in [&[][..], &["--file", "fixed.yaml"]] {
        let run = if more.is_empty() { "s" } else { "t" };
        start(run);
        let args = [&["resume", run, "--config", "strict.toml"], more].concat();
        let said = world.expect(1, &args).stderr;
        assert!(said.contains(&exceeded(1, 2)), "{more:?}: {said}");
        // It stays narrowed.
        let said = world.expect(1, &["resume", run, "--file", "fixed.yaml"]).stderr;
        assert!(said.contains(&exceeded(1, 2)), "{more:?}: {said}");
    }
}

/// 1.7, YR-53: `--from` asks anew, also what an earlier run has kept; what it gets is kept.
#[test]
fn from_a_step_on_no_kept_result_is_taken() {
    let fake = FakeAnthropic::start();
    let ask = |name: &str| {
        format!(
            "{{name: {name}, type: claude, prompt: [{{type: static, content: {name}}}], cache: true}}\n"
        )
    };
    let child = format!(
        "{{name: n, type: pipeline, pipeline: {{name: c, steps: [{}]}}}}\n",
        ask("in").trim()
    );
    let world = World::live(
        &fake,
        &(ask("a") + &ask("b") + &child + "{name: end, type: echo, fail: true}"),
    );
    let run = |run: &str| {
        world.expect(1, &["run", "flow.yaml", "--config", "perennial.toml", "--run-id", run]);
        fake.calls().len()
    };
    assert_eq!((run("r"), run("other")), (3, 3), "the second takes what the first has kept");
    let resume = ["resume", "r", "--config", "perennial.toml"];
    world.expect(1, &[&resume[..], &["--from", "b"]].concat());
    assert_eq!(fake.calls().len(), 5, "b and what stands in n");
    let shown = world.shown("r");
    assert_eq!(step(&shown, "b")["result"]["cached"], false);
    // They are done now: resumed once more, they stay as they are, and others take what was kept.
    world.expect(1, &resume);
    assert_eq!(run("third"), 5);
}

/// A made-up result is never given to a live run, nor a paid one to a mock; nor that of one provider to another.
#[test]
fn kept_results_stay_with_whoever_gave_them() {
    let (fake, other) = (FakeAnthropic::start(), FakeAnthropic::start());
    let step = "{name: a, type: claude, prompt: [{type: static, content: hi}], cache: {key: same}}";
    let world = World::live(&fake, step);
    let config = fs::read_to_string(world.path("perennial.toml")).unwrap();
    world.write("other.toml", config.replace(&fake.base_url(), &other.base_url()));
    world.write("mocks.yaml", "replies: {a: scripted}\n");
    let (mock, live) = (["--provider-mode", "mock"], ["--config", "perennial.toml"]);
    let scripted =
        ["--provider-mode", "mock", "--mocks", "mocks.yaml", "--config", "perennial.toml"];
    let mut seen = Vec::new();
    for more in [&mock[..], &live, &scripted, &["--config", "other.toml"], &mock, &live, &scripted]
    {
        let output = world.expect(0, &[&["run", "flow.yaml", "--json"], more].concat());
        let outcome = crate::world::json_lines(&output.stdout).pop().unwrap();
        let result = &outcome["results"]["a"];
        seen.push((result["mock"] == true, result["cached"] == true, result["text"] == "scripted"));
    }
    let asked = [
        (true, false, false),
        (false, false, false),
        (true, false, true),
        (false, false, false),
        (true, true, false),
        (false, true, false),
        (true, true, true),
    ];
    assert_eq!(seen, asked);
    assert_eq!((fake.calls().len(), other.calls().len()), (1, 1));
}
