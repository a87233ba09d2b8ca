//! Runs in stages of a host's own workflow, as the command shows them.

use std::path::Path;

use perennial::{
    Runtime, Store,
    engine::{
        AttemptCx,
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

/// Takes letters back, but for the first.
struct Burn;

impl Activity for Burn {
    const NAME: &'static str = "burn";
    type In = Undo<String, String>;
    type Out = ();

    async fn run(&self, _: &AttemptCx, undo: Self::In) -> Result<Ended<()>, ActivityError> {
        if undo.key == "ada" {
            return Err(Failure::new(FailureClass::Permanent, "APP2", "Ada has read it").into());
        }
        Ok(Ended::Done(()))
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

#[test]
fn what_of_a_run_could_not_be_undone_is_shown_beside_what_it_failed_of() {
    let world = World::new();
    let store = world.path("runs.db");
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = executor.block_on(async {
        let staged = Staged::new(AllOrNone).activity(Write).activity(Burn);
        let builder = Runtime::builder().store(Store::sqlite(&store)).staged(&staged);
        let runtime = builder.start().await.unwrap();
        let run = runtime.runs().start(staged.start(&()).unwrap()).await.unwrap();
        assert_eq!(run.outcome().await.unwrap().state.name(), "compensation_failed");
        let id = run.id().to_string();
        runtime.shutdown().await;
        id
    });
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
    let retry = world.expect(2, &["retry", &run, "--store", ended]).stderr;
    assert!(retry.contains("`RunHandle::retry`"), "{retry}");

    let run = made(&paused, true);
    let paused = paused.to_str().unwrap();
    for words in [&["show", &run, "--store", paused][..], &["explain", &run, "--store", paused]] {
        let told = world.expect(0, words);
        let told = format!("{}{}", told.stdout, told.stderr);
        assert!(told.contains("the program that has its workflow `letters`"), "{told}");
        assert!(
            !told.contains("perennial unpause") && !told.contains("perennial resume"),
            "{told}"
        );
    }
    let all = world.output(&["resume", "--all", "--store", paused]);
    assert!(all.stderr.contains("no run goes on"), "{all:?}");
    assert!(!all.stderr.contains("every run has ended"), "{all:?}");
}
