//! The study of the worked example as a program that is killed and stopped, and what the command shows of it beside it.

use std::time::Duration;

use perennial::{Store, engine::workflow::RetryPolicy};
use perennial_testkit::{PerennialBinary, RunningBinary, postgres};

use self::{
    asked::Asked,
    platform::{Platform, Terms},
    program::{Wish, study},
};
use crate::world::{SOON, World, json_lines};

// The rooms of the example themselves.
#[path = "../../examples/staged_jobs/asked.rs"]
mod asked;
#[path = "../../examples/staged_jobs/platform.rs"]
#[expect(dead_code, reason = "the example shows more of what came of it")]
mod platform;
#[path = "../../examples/staged_jobs/program.rs"]
mod program;

/// How long a process with its drain may take at most (DUR-120).
const DRAINED: Duration = Duration::from_secs(11);
const STORE: &str = "STUDY_STORE";
const WISH: &str = "STUDY_WISH";
const FOLDER: &str = "STUDY_FOLDER";

/// The example's program, with its own pace.
#[test]
#[ignore = "it is the program of the tests beside it"]
fn the_program() {
    let Ok(store) = std::env::var(STORE) else { return };
    let retry = RetryPolicy { base_ms: 20, ..RetryPolicy::PROVIDER };
    let pace = Duration::from_millis(250);
    let folder = std::env::var_os(FOLDER)
        .map_or_else(|| std::env::current_dir().unwrap(), std::path::PathBuf::from);
    let platform =
        Platform::new(&folder, Terms { pace, retry, notes: std::sync::Arc::new(|_| ()) });
    let wish = if std::env::var(WISH).is_ok() { Wish::Retry } else { Wish::GoOn };
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    executor.block_on(study(&platform, &folder, store.parse::<Store>().unwrap(), wish)).unwrap();
}

fn program(world: &World, store: &str) -> PerennialBinary {
    PerennialBinary::new(std::env::current_exe().unwrap())
        .args(["--exact", "studies::the_program", "--ignored", "--nocapture"])
        .env(STORE, store)
        .current_dir(world.path("."))
}

/// The program, until it has said this.
fn until(world: &World, store: &str, words: &str) -> RunningBinary {
    let mut process = program(world, store).spawn().unwrap();
    process.wait_for(words, SOON, |process| process.stderr().contains(words)).unwrap();
    process
}

fn signal(name: &str, process: &RunningBinary) {
    let script = format!("kill -{name} {}", process.pid());
    let told = PerennialBinary::new("/bin/sh").args(["-c", &script]).run(SOON).unwrap();
    assert!(told.status.success(), "{told:?}");
}

/// It is stopped: what it said at last.
fn terminated(process: RunningBinary) -> String {
    signal("TERM", &process);
    let output = process.wait(DRAINED).unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stderr
}

/// What it told of each pair, without the numbers: which of two is the first to get one is chance.
fn ends(output: &str) -> Vec<String> {
    let of_stage = |line: &&str| line.starts_with("  generation") || line.starts_with("  analysis");
    let words = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    output.lines().filter(of_stage).map(words).collect()
}

const ENDS: [&str; 12] = [
    "generation 0:large:blog succeeded",
    "generation 1:large:chat succeeded",
    "generation 2:large:shop succeeded",
    "generation 3:swift:blog succeeded",
    "generation 4:swift:chat succeeded",
    "generation 5:swift:shop failed",
    "analysis 0:large:blog partial",
    "analysis 1:large:chat succeeded",
    "analysis 2:large:shop succeeded",
    "analysis 3:swift:blog succeeded",
    "analysis 4:swift:chat succeeded",
    "analysis 5:swift:shop skipped",
];

/// What is not meant makes nothing: no file that is called like a word, and no folder.
#[test]
fn words_are_understood_before_anything_is_made_of_them() {
    let study = |server, wish| Asked::Study { folder: "apps".as_ref(), server, wish };
    let server = "postgres://there";
    let cases: [(&[&str], Asked<'_>); 8] = [
        (&["--help"], Asked::Help),
        (&[], Asked::Usual(None)),
        (&["./study"], Asked::Usual(Some("./study".as_ref()))),
        (&["study", "apps"], study(None, Wish::GoOn)),
        (&["study", "apps", server], study(Some(server), Wish::GoOn)),
        (&["retry", "apps"], study(None, Wish::Retry)),
        (&["retry", "apps", server], study(Some(server), Wish::Retry)),
        (&["import", "old", "new"], Asked::Import { record: "old".as_ref(), path: "new" }),
    ];
    for (words, asked) in cases {
        assert_eq!(Asked::of(words), Ok(asked));
    }
    let refused: [(&[&str], &str); 9] = [
        (&["--helpp"], "`--helpp` means nothing here"),
        (&["study", ""], "`` means nothing here"),
        (&["study"], "its FOLDER is missing"),
        (&["retry"], "its FOLDER is missing"),
        (&["import"], "it takes a RECORD and a PATH"),
        (&["import", "old"], "it takes a RECORD and a PATH"),
        (&["apps", "study"], "`study` is too much, or not meant"),
        (&["stduy", "apps"], "`apps` is too much, or not meant"),
        (&["study", "apps", server, "more"], "is too much, or not meant"),
    ];
    for (words, why) in refused {
        let told = Asked::of(words).unwrap_err();
        assert!(
            told.contains(why) && told.contains("\nusage: staged_jobs [PATH], or study FOLDER"),
            "{told}"
        );
    }
}

#[test]
fn one_is_told_as_one() {
    let told = |many| program::counted(many, "job is", "jobs are");
    assert_eq!([0, 1, 2].map(told), ["0 jobs are", "1 job is", "2 jobs are"]);
}

/// A folder that cannot be had is named, and a study that is not there is not begun by a retry.
#[test]
fn a_folder_that_is_none_is_told() {
    let world = World::new();
    std::fs::write(world.path("file"), "").unwrap();
    let store = format!("sqlite:{}", world.path("file/runs.db").display());
    let told = program(&world, &store).env(FOLDER, world.path("file")).run(SOON).unwrap();
    assert!(told.stderr.contains("/file cannot be made: "), "{told:?}");
    let store = format!("sqlite:{}", world.path("nowhere/runs.db").display());
    let none = program(&world, &store).env(FOLDER, world.path("nowhere")).env(WISH, "retry");
    let told = none.run(SOON).unwrap();
    assert!(told.stderr.contains("there is none at "), "{told:?}");
    assert!(!world.path("nowhere").exists());
}

/// 19.3.2 and 19.3.4, as a person meets them: killed, then stopped, each time started again; and what failed is made again.
#[test]
fn a_study_that_is_killed_and_then_stopped_is_finished_by_the_next_start() {
    let world = World::new();
    let runs = world.path("runs.db");
    let store = format!("sqlite:{}", runs.display());
    let perennial =
        |code, args: &[&str]| world.expect(code, &[args, &["--store", &store]].concat());
    let first = until(&world, &store, "/static is begun");
    // It can be looked at meanwhile, and nothing else: the file is the program's. Who is alive has not died.
    let shown = perennial(0, &["show", "study"]).stdout;
    assert!(
        shown.contains("state      running\n") && shown.contains("\nstage analysis  open"),
        "{shown}"
    );
    assert!(!shown.contains(" died"), "{shown}");
    for verb in ["pause", "cancel"] {
        let held = perennial(9, &[verb, "study"]).stderr;
        assert!(held.contains("is held by another process"), "{held}");
    }
    signal("KILL", &first);
    first.wait(SOON).unwrap();
    let listed = perennial(0, &["runs"]).stdout;
    assert!(listed.contains("  interrupted, "), "{listed}");
    let shown = perennial(0, &["show", "study"]).stdout;
    assert!(shown.contains("\n            the process of attempt 1 died\n"), "{shown}");
    let early = perennial(2, &["retry", "study"]).stderr;
    let goes_on = "has not ended: it is interrupted, and it goes on in the program that has its workflow `staged-jobs`; ";
    let later =
        "; what fails of it is made again there once it has ended\nhelp: perennial show study";
    assert!(early.contains(goes_on) && early.contains(later), "{early}");

    let said = terminated(until(&world, &store, "is begun"));
    assert!(
        said.contains("terminated: stopping; what is under way has some seconds\nstopped: "),
        "{said}"
    );
    assert!(said.contains(" cut, in ") && said.contains("; start it again to go on"), "{said}");
    let last = program(&world, &store).run(SOON).unwrap();
    assert!(last.stdout.contains("run study partially_succeeded\n"), "{last:?}");
    assert_eq!(ends(&last.stdout), ENDS);
    // A start of what has ended does nothing, and tells the same.
    let again = program(&world, &store).run(SOON).unwrap();
    assert!(!again.stderr.contains("is begun"), "{again:?}");
    assert_eq!(ends(&again.stdout), ENDS);

    let refused = perennial(2, &["retry", "study"]).stderr;
    assert!(refused.contains("the program that has its workflow `staged-jobs`"), "{refused}");
    let retried = program(&world, &store).env(WISH, "retry").run(SOON).unwrap();
    assert!(retried.stderr.contains(" jobs are made again: what failed, "), "{retried:?}");
    assert!(retried.stderr.contains("generation/5:swift:shop is begun"), "{retried:?}");
    assert_eq!(ends(&retried.stdout), ENDS, "it is refused for good");
}

/// A study in a file of its own that was paused says what lets it go on, and that does.
#[test]
fn a_paused_study_that_has_its_file_is_let_go_on_as_it_says() {
    let world = World::new();
    let store = format!("sqlite:{}", world.path("runs.db").display());
    terminated(until(&world, &store, "is begun"));
    world.expect(0, &["pause", "study", "--store", &store]);
    let end = "; and start it again\n";
    let paused = until(&world, &store, end);
    let unpause = format!("; then: perennial unpause study --store '{store}'{end}");
    assert!(paused.stderr().contains(&unpause), "{}", paused.stderr());
    let held = world.expect(9, &["unpause", "study", "--store", &store]).stderr;
    assert!(held.contains("is held by another process"), "{held}");
    terminated(paused);
    world.expect(0, &["unpause", "study", "--store", &store]);
    terminated(until(&world, &store, "is begun"));
}

/// Proves INV-15.
/// 19.3.3: the program works on a server, and the command, which has nothing of its workflow, steers it from beside.
#[test]
fn a_study_is_paused_skipped_and_cancelled_from_beside_its_program() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("studies").unwrap();
    let (world, url) = (World::new(), database.url());
    let perennial = |code, args: &[&str]| world.expect(code, &[args, &["--store", &url]].concat());
    let mut process = until(&world, &url, "is begun");
    let paused = perennial(0, &["pause", "study"]).stderr;
    assert!(
        paused.contains("run study is paused; let it go on with: perennial unpause study"),
        "{paused}"
    );
    process.wait_for("the pause", SOON, |it| it.stderr().contains("\nrun_paused\n")).unwrap();
    let let_go =
        "\nit waits until somebody lets it go on: perennial unpause study --store 'postgres://";
    process.wait_for(let_go, SOON, |it| it.stderr().contains(let_go)).unwrap();
    assert_eq!(
        json_lines(&perennial(0, &["pause", "study", "--json"]).stdout)[0]["changed"],
        false
    );
    let explained = perennial(0, &["explain", "study"]).stdout;
    assert!(
        explained.contains("  it is paused: nothing starts until it is let go on\n"),
        "{explained}"
    );
    assert!(!explained.contains("no command can do that"), "{explained}");
    let listed = perennial(0, &["runs"]);
    assert_eq!(listed.stderr, "", "somebody works on it");

    // One that is wanted, and not begun: it is not to be made.
    let open = |view: &serde_json::Value| {
        let mut steps = view["steps"].as_array().unwrap().iter();
        let is_open = |step: &&serde_json::Value| {
            step["state"] == "ready" && step["step"].as_str().unwrap().starts_with("generation/")
        };
        steps.rfind(is_open).map(|step| step["step"].as_str().unwrap().to_owned())
    };
    let shown = perennial(0, &["show", "study", "--json"]).stdout;
    let step = open(&serde_json::from_str(&shown).unwrap()).expect("it was paused early");
    let why = perennial(0, &["explain", "study", &step]).stdout;
    assert!(why.contains("its run is paused"), "{why}");
    let skipped = perennial(0, &["skip", "study", &step, "--why", "too dear"]);
    assert_eq!(skipped.stdout, format!("step {step} of run study is skipped\n"));
    let again = perennial(0, &["skip", "study", &step]).stdout;
    assert_eq!(again, format!("step {step} of run study was skipped before\n"));
    let none = perennial(12, &["skip", "study", "generation/nobody"]).stderr;
    assert!(none.contains("run study has no step generation/nobody now; to be made: "), "{none}");

    let mistyped = perennial(12, &["explain", "study", "generation/nobody"]).stderr;
    assert!(
        mistyped.contains("nobody, and its stage generation gets no more; it has: "),
        "{mistyped}"
    );
    let not_yet = perennial(12, &["explain", "study", "analysis/nobody"]).stderr;
    assert!(not_yet.contains("nobody yet: stage analysis gets more as others end"), "{not_yet}");

    let goes_on = perennial(0, &["unpause", "study"]).stderr;
    assert!(goes_on.starts_with("run study goes on at node study-"), "{goes_on}");
    process.wait_for("its going on", SOON, |it| it.stderr().contains("\nrun_resumed\n")).unwrap();
    let early = perennial(2, &["unpause", "study"]).stderr;
    assert!(early.contains("run study is not paused: it is running, and node study-"), "{early}");
    let early = perennial(2, &["retry", "study"]).stderr;
    assert!(early.contains("has not ended: it is running\nhelp: perennial show study"), "{early}");
    // What follows from the skip is decided by the program.
    let end = "% stage generation has ended";
    process.wait_for(end, SOON, |it| it.stderr().contains(end)).unwrap();
    assert!(!process.stderr().contains(&format!("{step} is begun")), "{}", process.stderr());
    let follows = step.replace("generation", "analysis");
    let why = perennial(0, &["explain", "study", &follows]).stdout;
    assert!(why.contains("has ended: skipped (upstream)"), "{why}");

    let cancelled = perennial(0, &["cancel", "study"]).stderr;
    assert!(cancelled.contains("run study is being cancelled; node study-"), "{cancelled}");
    let output = process.wait(SOON).unwrap();
    assert!(output.stdout.contains("run study cancelled\n"), "{output:?}");
    let late = perennial(2, &["cancel", "study"]).stderr;
    assert!(late.contains("run study has ended (cancelled): there is nothing to cancel"), "{late}");
    let whole = world.output(&["journal", "verify", "--store", &url]);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
}

/// On a server one of its processes works on the run; what is begun beside that one follows it, and goes on with it once that one is
/// dead, its lease over.
#[test]
fn what_is_begun_beside_another_process_goes_on_when_that_one_is_killed() {
    let Some(cluster) = postgres::cluster() else { return };
    let (world, database) = (World::new(), cluster.database("beside").unwrap());
    let url = database.url();
    let first = until(&world, &url, "analysis/0:large:blog/static is begun");
    let second = until(&world, &url, "run study is running, at ");
    signal("KILL", &first);
    // Nobody has found yet that it is dead.
    let third = until(&world, &url, "run study is running, at ");
    for process in [second, third] {
        let output = process.wait(SOON).unwrap();
        assert!(output.stdout.contains("run study partially_succeeded\n"), "{output:?}");
    }
    let whole = world.output(&["journal", "verify", "--store", &url]);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
}
