//! What comes first of what waits: runs for a place and for room, jobs of a run for room.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial::{
    Config, Limits, RunId, Runtime, Store, WaitsWhy,
    engine::{
        AttemptCx, Priority, RunHandle, StartRun,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JobSpec, Joined,
            Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow,
        },
    },
    records::RunError,
};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// Each of its stages: a name, its priority, and the keys of its jobs. In capitals they are groups.
type Stages = Vec<(String, i64, Vec<String>)>;

struct Queued;

impl StagedWorkflow for Queued {
    const NAME: &'static str = "queued";
    const VERSION: u32 = 1;
    type Input = Stages;
    type Output = ();

    fn plan(&self, stages: &Stages) -> Result<Plan, PlanProblems> {
        let mut plan = Plan::new();
        for (name, priority, jobs) in stages {
            let spec = |key: &String| {
                let spec = JobSpec::new(key, &format!("{name}/{key}"));
                // Those that say so themselves.
                if key.starts_with('!') { spec.priority(Priority::URGENT) } else { spec }
            };
            let stage = match name.to_lowercase() == *name {
                true => Stage::activity::<Work>(name),
                false => Stage::group::<Both>(name),
            };
            let jobs = Feed::jobs(jobs.iter().map(spec));
            plan = plan.stage(stage.feed(jobs).priority(of(*priority)));
        }
        Ok(plan)
    }

    fn summarize(&self, _: &Stages, _: &RunReport) {}
}

/// Takes a minute, and says when it begins.
struct Work(Begun);

type Begun = Arc<Mutex<Vec<String>>>;

impl Activity for Work {
    const NAME: &'static str = "work";
    type In = String;
    type Out = ();

    async fn run(&self, cx: &AttemptCx, what: String) -> Result<Ended<()>, ActivityError> {
        self.0.lock().unwrap().push(format!("{} {what}", cx.run));
        // On a paused clock.
        tokio::time::sleep(MINUTE).await;
        Ok(Ended::Done(()))
    }
}

struct Both;

impl Group for Both {
    const NAME: &'static str = "both";
    type In = String;
    type Out = usize;

    fn expand(&self, what: &String) -> Vec<Child> {
        ["1", "2"].map(|key| Child::activity::<Work>(key, &format!("{what}/{key}"))).to_vec()
    }

    fn join(&self, _: &String, children: &[ChildOutcome]) -> Joined<usize> {
        Joined::by_ends(children, children.len())
    }
}

fn of(number: i64) -> Priority {
    Priority::new(number).unwrap()
}

fn stages(told: &[(&str, i64, &[&str])]) -> Stages {
    let owned = |(name, priority, keys): &(&str, i64, &[&str])| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        ((*name).to_owned(), *priority, keys)
    };
    told.iter().map(owned).collect()
}

/// A runtime that has room for one attempt at a time, and those that have begun.
struct Host {
    staged: Staged<Queued>,
    runtime: Runtime,
    begun: Begun,
}

impl Host {
    async fn new(store: Store, limits: Limits, settings: &str) -> Self {
        let begun = Begun::default();
        let staged = Staged::new(Queued).activity(Work(begun.clone())).group(Both);
        let config = Config::parse("p.toml", settings.as_bytes()).unwrap();
        let builder = Runtime::builder().store(store).config(config).limits(limits);
        let runtime = builder.staged(&staged).start().await.unwrap();
        Self { staged, runtime, begun }
    }

    async fn start(&self, id: &str, priority: i64, stages: &Stages) -> RunHandle {
        let start = self.staged.start(stages).unwrap();
        let run = Some(RunId::parse(id).unwrap());
        let start = StartRun { run, priority: of(priority), ..start };
        self.runtime.runs().start(start).await.unwrap()
    }

    /// What has begun when all have ended.
    async fn ended(self, runs: &[RunHandle]) -> Vec<String> {
        self.end(runs).await;
        self.runtime.shutdown().await;
        self.begun.lock().unwrap().clone()
    }

    async fn end(&self, runs: &[RunHandle]) {
        for run in runs {
            let outcome = tokio::time::timeout(MINUTE * 600, run.outcome()).await.unwrap();
            assert_eq!(outcome.unwrap().state.name(), "succeeded");
        }
    }

    /// Until so many have begun.
    async fn begun(&self, count: usize) {
        let begun = async {
            while self.begun.lock().unwrap().len() < count {
                // On a paused clock.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(MINUTE * 60, begun).await.unwrap();
    }
}

fn one_attempt() -> Limits {
    Limits { attempts: 1, ..Limits::default() }
}

/// Proves INV-ST-21.
#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_run_come_by_what_their_stage_says_and_by_what_they_say_themselves() {
    let host = Host::new(Store::memory(), one_attempt(), "").await;
    let plan = stages(&[
        ("low", -50, &["a", "b"]),
        ("plain", 0, &["a", "!now", "b"]),
        ("high", 50, &["a", "b"]),
        ("GROUPS", 10, &["g"]),
    ]);
    let run = host.start("r", 0, &plan).await;
    let begun = host.ended(&[run]).await;
    let expected =
        ["plain/!now", "high/a", "high/b", "GROUPS/g/1", "GROUPS/g/2", "plain/a", "plain/b"];
    let expected = expected.into_iter().chain(["low/a", "low/b"]);
    assert_eq!(begun, expected.map(|what| format!("r {what}")).collect::<Vec<_>>());
}

/// Proves INV-ST-21.
#[tokio::test(start_paused = true)]
async fn runs_come_by_their_priority_and_take_turns_where_it_is_the_same() {
    let host = Host::new(Store::memory(), one_attempt(), "").await;
    let plan = stages(&[("s", 0, &["a", "b"])]);
    let mut runs = vec![host.start("first", 0, &plan).await];
    host.begun(1).await;
    for (id, priority) in [("low", -50), ("one", 0), ("two", 0), ("urgent", 75)] {
        runs.push(host.start(id, priority, &plan).await);
        waits(&runs[runs.len() - 1], WaitsWhy::Attempts).await;
    }
    let begun = host.ended(&runs).await;
    let expected = ["first", "urgent", "urgent", "first", "one", "two", "one", "two", "low", "low"];
    assert_eq!(runs_of(&begun), expected);
}

/// DUR-69.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_made_more_urgent_passes_others_for_room_and_for_places() {
    let plan = stages(&[("s", 0, &["a"])]);
    for (limits, why) in [
        (one_attempt(), WaitsWhy::Attempts),
        (Limits { runs: 1, ..Limits::default() }, WaitsWhy::Place),
    ] {
        let host = Host::new(Store::memory(), limits, "").await;
        let mut runs = vec![host.start("first", 0, &plan).await];
        host.begun(1).await;
        for (id, priority) in [("one", 0), ("two", 0), ("three", 0), ("high", 50)] {
            runs.push(host.start(id, priority, &plan).await);
            waits(&runs[runs.len() - 1], why).await;
        }
        assert!(runs[3].set_priority(Priority::URGENT).await.unwrap());
        assert!(!runs[3].set_priority(Priority::URGENT).await.unwrap(), "it has it");
        assert!(runs[1].set_priority(of(-1)).await.unwrap());
        // What is under way goes on.
        assert!(runs[0].set_priority(Priority::LOW).await.unwrap());
        let view = runs[3].view().await.unwrap();
        assert_eq!(view.run.priority, Priority::URGENT);
        let tree = host.runtime.tree();
        let shown = tree.nodes.iter().find(|node| node.path == "/perennial/runs/first").unwrap();
        assert_eq!(shown.detail["priority"], -50);
        host.end(&runs).await;
        let late = runs[0].set_priority(Priority::HIGH).await;
        assert!(matches!(late, Err(RunError::Ended { .. })), "{late:?}");
        let begun = host.ended(&runs).await;
        assert_eq!(runs_of(&begun), ["first", "three", "high", "two", "one"], "{why:?}");
    }
}

/// Proves INV-ST-21.
#[tokio::test(start_paused = true)]
async fn how_fast_what_waits_grows_urgent_is_as_set() {
    let told = |aging: &str| format!("[engine]\naging = \"{aging}\"");
    // It comes when it has grown as urgent as one of the others grows in its minute.
    for (settings, before) in [(String::new(), 6), (told("1m"), 11), (told("3m"), 20)] {
        let settings = settings.as_str();
        let host = Host::new(Store::memory(), one_attempt(), settings).await;
        // One job of a minute after the other.
        let keys: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let plan = stages(&[("high", 5, &keys), ("low", -5, &["last"])]);
        let run = host.start("r", 0, &plan).await;
        let begun = host.ended(&[run]).await;
        let place = begun.iter().position(|what| what == "r low/last").unwrap();
        assert_eq!(place, before, "{settings}: {begun:?}");
    }
}

/// DUR-69.
#[tokio::test]
async fn what_a_run_has_of_priority_is_kept_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = || Store::sqlite(folder.path().join("runs.db"));
    let plan = stages(&[("s", 0, &["a"])]);
    let host = Host::new(store(), one_attempt(), "").await;
    let run = host.start("r", -50, &plan).await;
    assert!(run.set_priority(of(7)).await.unwrap());
    host.runtime.shutdown().await;
    let host = Host::new(store(), one_attempt(), "").await;
    let listed = host.runtime.runs().list(9).await.unwrap();
    assert_eq!(listed[0].priority, of(7));
    let run = host.runtime.runs().get(&listed[0].run).await.unwrap();
    let told: Vec<Value> = run.view().await.map(|view| vec![json!(view.run.priority)]).unwrap();
    assert_eq!(told, [json!(7)]);
    run.cancel().await.unwrap();
    host.runtime.shutdown().await;
}

/// What it waits for, once it does.
async fn waits(run: &RunHandle, why: WaitsWhy) {
    let waits = async {
        while run.waits_for().is_none_or(|waits| waits.why != why) {
            // On a paused clock.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(MINUTE / 2, waits).await.unwrap();
}

fn runs_of(begun: &[String]) -> Vec<&str> {
    begun.iter().map(|told| told.split(' ').next().unwrap()).collect()
}
