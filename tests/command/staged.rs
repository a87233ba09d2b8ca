//! Runs in stages of a host's own workflow, as the command shows them.

use perennial::{
    Runtime, Store,
    engine::{
        AttemptCx,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Edge, Ended, Feed, Group, JobSpec,
            Joined, Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow, Upstream,
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

#[test]
fn a_run_in_stages_is_shown_by_stage_with_children_under_their_group() {
    let world = World::new();
    let store = world.path("runs.db");
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = executor.block_on(async {
        let staged = Staged::new(Letters).activity(Write).group(Check);
        let builder = Runtime::builder().store(Store::sqlite(&store)).staged(&staged);
        let runtime = builder.start().await.unwrap();
        let run = runtime.runs().start(staged.start(&()).unwrap()).await.unwrap();
        assert_eq!(run.outcome().await.unwrap().state.name(), "partially_succeeded");
        let id = run.id().to_string();
        runtime.shutdown().await;
        id
    });
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
