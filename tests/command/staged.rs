//! Runs in stages of a host's own workflow, as the command shows them.

use std::{path::Path, time::Duration};

use perennial::{
    Adoption, RunId, Runtime, Store,
    engine::{
        AttemptCx, Wait, WaitDefault,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Edge, Ended, Feed, Group, JobSpec,
            Joined, Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow, Undo, Upstream,
        },
        workflow::SkipReason,
    },
    records::{Failure, FailureClass},
};
use serde_json::Value;

use crate::world::World;

struct Letters;

impl StagedWorkflow for Letters {
    const NAME: &'static str = "letters";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        let jobs = ["ada", "bob"].map(|name| JobSpec::new(name, &name));
        let edge = Edge::from("write", |_, written: &Upstream| {
            written.succeeded().map(|item| JobSpec::new(&item.key, &item.result)).collect()
        });
        Ok(Plan::new()
            .stage(Stage::activity::<Write>("write").feed(Feed::jobs(jobs)))
            .stage(Stage::group::<Check>("check").feed(Feed::per_item(edge))))
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

struct Write;

impl Activity for Write {
    const NAME: &'static str = "write";
    type In = String;
    type Out = String;

    async fn run(&self, _: &AttemptCx, name: String) -> Result<Ended<String>, ActivityError> {
        if name == "bob" {
            return Err(Failure::new(FailureClass::Permanent, "APP1", "no paper for bob").into());
        }
        Ok(Ended::Done(format!("Dear {name}")))
    }
}

struct Check;

impl Group for Check {
    const NAME: &'static str = "check";
    type In = String;
    type Out = usize;

    fn expand(&self, letter: &String) -> Vec<Child> {
        vec![
            Child::activity::<Write>("spelling", letter),
            Child::skipped("astrology", SkipReason::UnknownTool),
        ]
    }

    fn join(&self, _: &String, children: &[ChildOutcome]) -> Joined<usize> {
        Joined::by_ends(children, children.len())
    }
}

/// A run of [`Letters`] in `store`, ended or paused.
fn made(store: &Path, is_paused: bool) -> String {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let staged = Staged::new(Letters).activity(Write).group(Check);
        let builder = Runtime::builder().store(Store::sqlite(store)).staged(&staged);
        let runtime = builder.start().await.unwrap();
        let run = runtime.runs().start(staged.start(&()).unwrap()).await.unwrap();
        if is_paused {
            assert!(run.pause().await.unwrap());
        } else {
            assert_eq!(run.outcome().await.unwrap().state.name(), "partially_succeeded");
        }
        let id = run.id().to_string();
        runtime.shutdown().await;
        id
    })
}

#[test]
fn a_run_in_stages_is_shown_by_stage_with_children_under_their_group() {
    let world = World::new();
    let store = world.path("runs.db");
    let run = made(&store, false);
    let store = store.to_str().unwrap();
    let shown = world.expect(0, &["show", &run, "--store", store]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = shown.stdout.lines().map(words).collect();
    let at = |text: &str| {
        let found = lines.iter().position(|line| line == text);
        found.unwrap_or_else(|| panic!("no line {text:?} in {}", shown.stdout))
    };
    let places = [
        at("stage write closed, partial: 1 succeeded, 1 failed"),
        at("succeeded ada Dear ada"),
        at("stage check closed, partial: 1 partial, 1 skipped"),
        at("partial ada 2"),
        at("succeeded spelling Dear Dear ada"),
        at("skipped astrology"),
        at("because of unknown_tool"),
    ];
    assert!(places.is_sorted(), "{}", shown.stdout);
    at("skipped bob");
    at("because of upstream");
    // Below its group.
    assert!(shown.stdout.contains("\nsucceeded     spelling"), "{}", shown.stdout);

    let told: Value =
        serde_json::from_str(&world.expect(0, &["show", &run, "--store", store, "--json"]).stdout)
            .unwrap();
    assert_eq!(told["stages"][1]["jobs"]["partial"], 1);
    assert_eq!(told["stages"][1]["upstream"], "write");
    let steps = told["steps"].as_array().unwrap();
    let child = steps.iter().find(|step| step["step"] == "check/ada/astrology").unwrap();
    assert_eq!(
        (&child["parent"], &child["skipped"]),
        (&"check/ada".into(), &"unknown_tool".into())
    );
}

/// Takes letters back, the first as it is told.
struct Burn(Taken);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Taken {
    Back,
    /// It cannot be taken back.
    Not,
    /// It is waited for.
    Later,
}

impl Activity for Burn {
    const NAME: &'static str = "burn";
    type In = Undo<String, String>;
    type Out = ();

    async fn run(&self, cx: &AttemptCx, undo: Self::In) -> Result<Ended<()>, ActivityError> {
        match self.0 {
            Taken::Not if undo.key == "ada" => {
                Err(Failure::new(FailureClass::Permanent, "APP2", "Ada has read it").into())
            }
            Taken::Later if undo.key == "ada" => {
                let until = cx.now.after(Duration::from_secs(600));
                let name = "returned".to_owned();
                Ok(Ended::Suspend(Wait::Signal { name, until, or: WaitDefault::Fail }))
            }
            Taken::Back | Taken::Not | Taken::Later => Ok(Ended::Done(())),
        }
    }
}

/// No letter is to be left when one cannot be written.
struct AllOrNone;

impl StagedWorkflow for AllOrNone {
    const NAME: &'static str = "all_or_none";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        let jobs = ["ada", "cyd"].map(|name| JobSpec::new(name, &name));
        let write = Stage::activity::<Write>("write").compensate::<Burn>();
        let last = Edge::from("write", |_, _| vec![JobSpec::new("bob", &"bob")]);
        let last = Stage::activity::<Write>("last").feed(Feed::barrier(last));
        Ok(Plan::new().stage(write.feed(Feed::jobs(jobs))).stage(last))
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

/// It waits to be told what there is to read.
struct Ask;

impl Activity for Ask {
    const NAME: &'static str = "ask";
    type In = String;
    type Out = ();

    async fn run(&self, cx: &AttemptCx, _: String) -> Result<Ended<()>, ActivityError> {
        let (name, until) = ("told".to_owned(), cx.now.after(Duration::from_secs(600)));
        Ok(Ended::Suspend(Wait::Signal { name, until, or: WaitDefault::Fail }))
    }
}

/// One question after the other.
struct Questions;

impl StagedWorkflow for Questions {
    const NAME: &'static str = "questions";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        let first = JobSpec::new("first", &"ada");
        let second = JobSpec::new("second", &"ada").after(["first"]);
        Ok(Plan::new().stage(Stage::activity::<Ask>("ask").feed(Feed::jobs([first, second]))))
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

#[test]
fn what_needs_another_step_is_not_said_to_be_due() {
    let world = World::new();
    let store = world.path("runs.db");
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = executor.block_on(async {
        let staged = Staged::new(Questions).activity(Ask);
        let builder = Runtime::builder().store(Store::sqlite(&store)).staged(&staged);
        let runtime = builder.start().await.unwrap();
        let run = runtime.runs().start(staged.start(&()).unwrap()).await.unwrap();
        let mut events = run.events(1);
        while events.next().await.unwrap().kind != "job_suspended" {}
        let id = run.id().to_string();
        runtime.shutdown().await;
        id
    });
    let store = store.to_str().unwrap();
    let why = world.expect(0, &["explain", &run, "--store", store]).stdout;
    let says =
        format!("step ask/second: needs what has not ended; `explain {run} ask/second` says what");
    assert!(why.contains(&says) && !why.contains("is due"), "{why}");
    let why = world.expect(0, &["explain", &run, "--store", store, "--json"]).stdout;
    assert!(why.contains("\"dependency\""), "{why}");
}

/// A run of [`AllOrNone`] in `store`, whose letters are taken back, or are about to be.
fn undone(store: &Path, taken: Taken) -> String {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let staged = Staged::new(AllOrNone).activity(Write).activity(Burn(taken));
        let builder = Runtime::builder().store(Store::sqlite(store)).staged(&staged);
        let runtime = builder.start().await.unwrap();
        let run = runtime.runs().start(staged.start(&()).unwrap()).await.unwrap();
        let mut events = run.events(1);
        let last = if taken == Taken::Later { "job_suspended" } else { "run_closed" };
        while events.next().await.unwrap().kind != last {}
        let id = run.id().to_string();
        runtime.shutdown().await;
        id
    })
}

#[test]
fn what_of_a_run_could_not_be_undone_is_shown_beside_what_it_failed_of() {
    let world = World::new();
    let store = world.path("runs.db");
    let run = undone(&store, Taken::Not);
    let store = store.to_str().unwrap();
    let shown = world.expect(0, &["show", &run, "--store", store]).stdout;
    for line in [
        "state      compensation_failed",
        "undone     1 job",
        "           not write/ada: Ada has read it",
    ] {
        assert!(shown.lines().any(|it| it == line), "no line {line:?} in {shown}");
    }
    assert!(shown.contains("error      ") && shown.contains("no paper for bob"), "{shown}");
    let told = world.expect(0, &["show", &run, "--store", store, "--json"]).stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    let about = &told["error"]["compensation"];
    assert_eq!((&told["state"], &about["failed"]), (&"compensation_failed".into(), &1.into()));
    let late = world.expect(2, &["cancel", &run, "--store", store]).stderr;
    assert!(late.contains("has ended (compensation_failed)"), "{late}");
    let why = world.expect(0, &["explain", &run, "--store", store]).stdout;
    for line in ["  undone: 1 job", "          not write/ada: Ada has read it"] {
        assert!(why.lines().any(|it| it == line), "no line {line:?} in {why}");
    }
    let why = world.expect(0, &["explain", &run, "--store", store, "--json"]).stdout;
    let why: Value = serde_json::from_str(&why).unwrap();
    assert_eq!(why["error"]["compensation"]["failures"][0]["job"], "write/ada");
}

#[test]
fn what_is_asked_of_a_run_whose_work_was_undone_is_refused_with_what_can_be_done() {
    let world = World::new();
    for (taken, state) in [(Taken::Back, "failed"), (Taken::Not, "compensation_failed")] {
        let store = world.path(&format!("{state}.db"));
        let run = undone(&store, taken);
        let store = store.to_str().unwrap();
        let show = format!("help: perennial show {run} --store ");
        for words in [
            &["retry", &run][..],
            &["resume", &run],
            &["unpause", &run],
            &["pause", &run],
            &["priority", &run, "high"],
            &["signal", &run, "go"],
        ] {
            let refused = world.expect(2, &[words, &["--store", store]].concat()).stderr;
            for word in ["undone", "start a new run", &format!("({state})"), &show] {
                assert!(refused.contains(word), "{words:?}: no {word:?} in {refused}");
            }
            for word in ["resume", "retry"] {
                assert!(!refused.contains(word), "{words:?}: {refused}");
            }
        }
    }
}

#[test]
fn a_run_that_nobody_works_on_and_that_undoes_its_work_is_shown_so() {
    let world = World::new();
    let store = world.path("runs.db");
    let run = undone(&store, Taken::Later);
    let store = store.to_str().unwrap();
    let at = |code, words: &[&str]| world.expect(code, &[words, &["--store", store]].concat());
    for words in [&["runs"][..], &["show", &run], &["explain", &run]] {
        let told = at(0, words).stdout;
        assert!(told.contains("interrupted (compensating)"), "{words:?}: {told}");
    }
    for words in [&["runs", "--json"][..], &["show", &run, "--json"], &["explain", &run, "--json"]]
    {
        let told: Value = serde_json::from_str(&at(0, words).stdout).unwrap();
        let told = (&told["state"], &told["standing"]);
        assert_eq!(told, (&"compensating".into(), &"interrupted".into()), "{words:?}");
    }
    let whose = "the program that has its workflow `all_or_none`";
    let cancelled = at(0, &["cancel", &run]).stderr;
    let ends = "undoes what it has done, and ends then; nobody works on it now: it goes on in ";
    assert!(cancelled.contains(ends) && cancelled.contains(whose), "{cancelled}");
    for words in [
        &["pause", &run][..],
        &["priority", &run, "high"],
        &["skip", &run, "compensation/write/ada"],
    ] {
        let refused = at(2, words).stderr;
        assert!(
            refused.contains("undoes what it has done, and takes nothing but sig"),
            "{refused}"
        );
    }
    let resumed = at(2, &["resume", &run]).stderr;
    assert!(resumed.contains(whose) && resumed.contains("is compensating"), "{resumed}");
    let sent = at(0, &["signal", &run, "returned"]).stderr;
    assert!(sent.contains(whose) && !sent.contains("perennial resume"), "{sent}");
}

/// A run of [`Letters`] that nobody has taken.
fn queued(store: &Path) -> String {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let staged = Staged::new(Letters).activity(Write).group(Check);
        let builder = Runtime::builder().store(Store::sqlite(store)).staged(&staged);
        let runtime = builder.adoption(Adoption::OnRequest).start().await.unwrap();
        let run = runtime.runs().submit(staged.start(&()).unwrap()).await.unwrap();
        let id = run.id().to_string();
        runtime.shutdown().await;
        id
    })
}

#[test]
fn a_run_of_a_host_that_nobody_works_on_is_steered_by_commands() {
    let world = World::new();
    let path = world.path("runs.db");
    let run = queued(&path);
    let store = path.to_str().unwrap();
    let at = |code, words: &[&str]| world.expect(code, &[words, &["--store", store]].concat());
    let whose = "the program that has its workflow `letters`";
    let listed: Value = serde_json::from_str(&at(0, &["runs", "--json"]).stdout).unwrap();
    assert_eq!((&listed["state"], &listed["standing"]), (&"running".into(), &"queued".into()));
    let soon = at(0, &["priority", &run, "HIGH"]).stderr;
    assert!(soon.ends_with("has now the priority high\n"), "{soon}");
    let refused = at(2, &["resume", &run]).stderr;
    assert!(refused.contains(whose) && refused.contains("is started on this store"), "{refused}");

    let paused = at(0, &["pause", &run]).stderr;
    assert!(paused.contains("is paused; let it go on with: perennial unpause "), "{paused}");
    let goes_on = at(0, &["unpause", &run]).stderr;
    assert!(goes_on.contains("is not paused any more: it goes on in "), "{goes_on}");
    assert!(goes_on.contains(whose), "{goes_on}");
    let early = at(2, &["unpause", &run]).stderr;
    assert!(early.contains("is not paused: it is running") && early.contains(whose), "{early}");
    let sent = at(0, &["signal", &run, "go"]).stderr;
    assert!(sent.contains("nobody runs it now: it goes on in ") && sent.contains(whose), "{sent}");
    let skipped = at(0, &["skip", &run, "write/bob"]);
    assert!(skipped.stdout.contains(" is skipped"), "{skipped:?}");
    assert!(skipped.stderr.contains(whose), "{skipped:?}");

    for _ in ["once", "again"] {
        let cancelled = at(0, &["cancel", &run]).stderr;
        let waits =
            "is being cancelled; nobody works on it now: it undoes what it has to, and ends, when ";
        assert!(cancelled.contains(waits) && cancelled.contains(whose), "{cancelled}");
    }
    assert!(at(0, &["runs"]).stdout.contains("queued (cancelling)"));
    for json in [&[][..], &["--json"]] {
        let late = at(2, &[&["priority", &run, "low"], json].concat());
        let told = format!("{}{}", late.stdout, late.stderr);
        assert!(told.contains("is cancelling: nothing of it waits"), "{told}");
        assert!(!late.stdout.contains("\"priority\""), "it has not that priority: {told}");
    }

    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let staged = Staged::new(Letters).activity(Write).group(Check);
        let builder = Runtime::builder().store(Store::sqlite(&path)).staged(&staged);
        let runtime = builder.start().await.unwrap();
        let run = runtime.runs().get(&RunId::parse(&run).unwrap()).await.unwrap();
        assert_eq!(run.outcome().await.unwrap().state.name(), "cancelled");
        drop(run);
        runtime.shutdown().await;
    });
    let again = at(2, &["retry", &run]).stderr;
    assert!(again.contains("`RunHandle::retry`") && again.contains(whose), "{again}");
}

#[test]
fn a_step_of_a_run_in_stages_is_meant_by_the_end_of_its_name() {
    let world = World::new();
    let store = world.path("runs.db");
    let run = made(&store, false);
    let store = store.to_str().unwrap();
    let explained = |code, step| world.expect(code, &["explain", &run, step, "--store", store]);
    let failed = explained(0, "write/bob").stdout;
    assert!(failed.contains("has ended: failed\n  APP1: no paper for bob"), "{failed}");
    let child = explained(0, "ada/spelling").stdout;
    assert!(child.starts_with("step check/ada/spelling of"), "{child}");
    assert_eq!(child, explained(0, "spelling").stdout);
    let group = explained(0, "check/ada").stdout;
    assert!(group.contains("1 skipped (unknown_tool), 1 succeeded"), "{group}");
    let two = explained(2, "ada").stderr;
    assert!(two.contains("2 steps") && two.contains("write/ada, check/ada"), "{two}");
    let none = explained(12, "da").stderr;
    assert!(none.contains("no step da; it has: write/ada, check/ada"), "{none}");
}

#[test]
fn what_no_command_can_do_with_a_run_of_a_host_is_said_and_not_hinted_at() {
    let world = World::new();
    let (ended, paused) = (world.path("ended.db"), world.path("paused.db"));
    let run = made(&ended, false);
    let ended = ended.to_str().unwrap();
    let graph = world.expect(2, &["graph", "--run", &run, "--store", ended]).stderr;
    assert!(graph.contains("was not made of a workflow file"), "{graph}");
    for verb in ["retry", "resume", "unpause"] {
        let again = world.expect(2, &[verb, &run, "--store", ended]).stderr;
        assert!(again.contains("`RunHandle::retry`"), "{again}");
        assert!(again.contains("the program that has its workflow `letters`"), "{again}");
        assert!(!again.contains("definition of this language"), "{again}");
    }

    let run = made(&paused, true);
    let paused = paused.to_str().unwrap();
    for words in [&["show", &run, "--store", paused][..], &["explain", &run, "--store", paused]] {
        let told = world.expect(0, words);
        let told = format!("{}{}", told.stdout, told.stderr);
        assert!(told.contains("the program that has its workflow `letters`"), "{told}");
        // It stays paused there as well.
        assert!(told.contains("perennial unpause"), "{told}");
        assert!(!told.contains("perennial resume"), "{told}");
    }
    let all = world.output(&["resume", "--all", "--store", paused]);
    assert!(all.stderr.contains("no run goes on"), "{all:?}");
    assert!(!all.stderr.contains("every run has ended"), "{all:?}");
}
