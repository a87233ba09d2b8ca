//! What the settings of the engine, of a host's limits and of its store change.

use std::time::Duration;

use perennial::{
    Config, ProviderMode, Runtime, StartPipeline, Store,
    engine::{
        AttemptCx, EngineSettings,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JobSpec, Joined,
            Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow,
        },
    },
};

/// A group in a group, with this many children each, which wait as long as this.
struct Nested;

type Size = (u32, Duration);

impl StagedWorkflow for Nested {
    const NAME: &'static str = "nested";
    const VERSION: u32 = 1;
    type Input = Size;
    type Output = String;

    fn plan(&self, size: &Size) -> Result<Plan, PlanProblems> {
        let outer = JobSpec::new("outer", size);
        Ok(Plan::new().stage(Stage::group::<Outer>("work").feed(Feed::jobs([outer]))))
    }

    fn summarize(&self, _: &Size, report: &RunReport) -> String {
        let results = report.stages.iter().flat_map(|stage| &stage.items);
        results.map(|item| format!("{} {:?}", item.state, item.result)).collect()
    }
}

struct Outer;

impl Group for Outer {
    const NAME: &'static str = "outer";
    type In = Size;
    type Out = usize;

    fn expand(&self, size: &Size) -> Vec<Child> {
        (0..size.0).map(|child| Child::group::<Inner>(child.to_string(), size)).collect()
    }

    fn join(&self, _: &Size, children: &[ChildOutcome]) -> Joined<usize> {
        Joined::by_ends(children, children.len())
    }
}

struct Inner;

impl Group for Inner {
    const NAME: &'static str = "inner";
    type In = Size;
    type Out = usize;

    fn expand(&self, size: &Size) -> Vec<Child> {
        (0..size.0).map(|child| Child::activity::<Wait>(child.to_string(), &size.1)).collect()
    }

    fn join(&self, _: &Size, children: &[ChildOutcome]) -> Joined<usize> {
        Joined::by_ends(children, children.len())
    }
}

struct Wait;

impl Activity for Wait {
    const NAME: &'static str = "wait";
    type In = Duration;
    type Out = ();

    async fn run(&self, _: &AttemptCx, time: Duration) -> Result<Ended<()>, ActivityError> {
        // On the paused clock: what an activity does that takes its time.
        tokio::time::sleep(time).await;
        Ok(Ended::Done(()))
    }
}

/// How such a run ends where the engine is set so.
async fn ended(settings: EngineSettings, size: Size) -> (String, String) {
    let staged = Staged::new(Nested).group(Outer).group(Inner).activity(Wait);
    let builder = Runtime::builder().store(Store::memory()).staged(&staged);
    let runtime = builder.engine(settings).start().await.unwrap();
    let run = runtime.runs().start(staged.start(&size).unwrap()).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let ended = (outcome.state.name().to_owned(), staged.output(&outcome.view).unwrap());
    runtime.shutdown().await;
    ended
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn another_value_of_a_setting_of_the_engine_makes_another_run() {
    let (usual, at_once) = (EngineSettings::default(), Duration::ZERO);
    assert_eq!(ended(usual, (3, at_once)).await.0, "succeeded");

    let (state, said) = ended(EngineSettings { children_max: 2, ..usual }, (3, at_once)).await;
    assert!(state == "failed" && said.contains("3 children; at most 2 are made"), "{said}");
    let (state, said) = ended(EngineSettings { group_depth_max: 1, ..usual }, (1, at_once)).await;
    assert!(state == "failed" && said.contains("at most 1 deep"), "{said}");

    let hour = Duration::from_secs(3_600);
    let brief = EngineSettings { run_timeout: Duration::from_secs(60), ..usual };
    assert_eq!(ended(brief, (1, Duration::from_secs(300))).await.0, "timed_out");
    assert_eq!(ended(usual, (1, Duration::from_secs(300))).await.0, "succeeded");
    let refused = EngineSettings { poll_interval: hour, stalled_after: Duration::ZERO, ..usual };
    let refused = Runtime::builder().store(Store::memory()).engine(refused).start().await;
    let text = refused.map(|_| ()).unwrap_err().to_string();
    assert!(
        text.contains("`poll_interval` is 3600s") && text.contains("`stalled_after`"),
        "{text}"
    );
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn the_scheduler_looks_as_often_as_it_is_told() {
    for every in [1_000_u64, 7_000] {
        let poll_interval = Duration::from_millis(every);
        let settings = EngineSettings { poll_interval, ..EngineSettings::default() };
        let builder = Runtime::builder().store(Store::memory()).engine(settings);
        let runtime = builder.start().await.unwrap();
        // On the paused clock: so that it has looked once more than at its start.
        tokio::time::sleep(poll_interval * 3).await;
        let tree = runtime.tree();
        let timekeeper = tree.nodes.iter().find(|node| node.path.ends_with("/timekeeper")).unwrap();
        assert_eq!(timekeeper.detail["pause_ms"], every, "{}", timekeeper.detail);
        runtime.shutdown().await;
    }
}

/// How many nodes of the tree have a path that begins so.
fn nodes(runtime: &Runtime, path: &str) -> usize {
    runtime.tree().nodes.iter().filter(|node| node.path.starts_with(path)).count()
}

/// A runtime with these lines in `[limits]`.
async fn limited(settings: &str) -> Runtime {
    let config = Config::parse("p.toml", format!("[limits]\n{settings}\n").as_bytes()).unwrap();
    Runtime::builder().store(Store::memory()).config(config).start().await.unwrap()
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn there_are_as_many_tasks_at_a_time_as_is_set() {
    for (settings, most) in [("", 9), ("tasks = 2", 2)] {
        let runtime = limited(settings).await;
        let mut began = 0;
        for number in 0..9 {
            let task = std::future::pending::<()>();
            let task = runtime.tasks().start_child(number.to_string(), task).await;
            began += usize::from(task.is_ok());
        }
        assert_eq!(began, most, "{settings}");
        runtime.shutdown().await;
    }
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn as_many_runs_have_a_monitor_as_is_set() {
    for (settings, most) in [("", 4), ("monitors = 2", 2)] {
        let runtime = limited(settings).await;
        let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1, delay_ms: 60000}]}";
        let mut runs = Vec::new();
        for _ in 0..4 {
            let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
            runs.push(runtime.pipelines().start(start).await.unwrap());
        }
        // On the paused clock: a monitor would have come by now.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(nodes(&runtime, "/perennial/monitors/"), most, "{settings}");
        for run in &runs {
            assert_eq!(run.outcome().await.unwrap().status(), "completed", "without one as well");
        }
        runtime.shutdown().await;
    }
}

/// Proves INV-33.
#[tokio::test]
async fn a_file_has_as_many_readers_as_is_set() {
    for (text, readers) in [("", 2), ("[store]\nreaders = 5\n", 5)] {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse("p.toml", text.as_bytes()).unwrap();
        let store = Store::sqlite(folder.path().join("runs.db"));
        let runtime = Runtime::builder().store(store).config(config).start().await.unwrap();
        assert_eq!(nodes(&runtime, "/perennial/store/reader-"), readers);
        runtime.shutdown().await;
    }
}
