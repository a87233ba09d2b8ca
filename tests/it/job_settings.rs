//! What `[engine]` changes for jobs whose plan says nothing itself: each key makes another story of the same jobs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial::{
    Config, Runtime, Store,
    engine::{
        AttemptCx, EngineSettings, Unavailable, Wait, WaitDefault,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JobSpec, Joined,
            NextJobs, Plan, PlanProblems, RunReport, Stage, Staged, StagedWorkflow, Timeouts,
        },
        workflow::RetryPolicy,
    },
    records::{Failure, FailureClass, Timestamp},
    supervision::Clock,
};
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);

/// What its jobs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Does {
    /// It takes 5 min.
    Takes,
    /// It fails, and may be tried again.
    Fails,
    /// What it needs is never there.
    Misses,
    /// It waits 5 min for an instant.
    Waits,
    /// It waits for the signal `go`.
    Signal,
    /// What it needs is there after 5 min.
    MissesAtFirst,
    /// It says once a second how far it is, for 20 s.
    Tells,
}

/// Where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum From {
    Plan,
    /// The workflow says what comes next.
    Next,
    /// They are children of one group.
    Group,
    /// They are in the plan, which says itself what it means.
    Own,
}

/// How many jobs, what they do, and where they come from.
type Given = (u32, Does, From);

struct Telling;

impl StagedWorkflow for Telling {
    const NAME: &'static str = "telling";
    const VERSION: u32 = 1;
    type Input = Given;
    type Output = String;

    fn plan(&self, (jobs, does, from): &Given) -> Result<Plan, PlanProblems> {
        let specs = (0..*jobs).map(|job| JobSpec::new(job.to_string(), does));
        let stage = Stage::activity::<Do>("jobs");
        let own = RetryPolicy { max_attempts: 2, base_ms: 1, ..RetryPolicy::PROVIDER };
        let all = JobSpec::new("all", &(jobs, does));
        Ok(Plan::new().stage(match from {
            From::Plan => stage.feed(Feed::jobs(specs)),
            From::Next => stage.feed(Feed::driven()),
            From::Group => Stage::group::<All>("jobs").feed(Feed::jobs([all])),
            From::Own => stage
                .feed(Feed::jobs(specs))
                .concurrency(3)
                .retry(own)
                .timeouts(Timeouts::start_to_close(MINUTE * 20)),
        }))
    }

    fn next(&self, (jobs, does, _): &Given, _: &RunReport) -> NextJobs {
        let specs = (0..*jobs).map(|job| JobSpec::new(job.to_string(), does));
        NextJobs::none().jobs("jobs", specs).seal("jobs")
    }

    fn summarize(&self, _: &Given, report: &RunReport) -> String {
        let results = report.stages.iter().flat_map(|stage| &stage.items);
        results.map(|item| format!("{} {:?}; ", item.state, item.result)).collect()
    }
}

struct All;

impl Group for All {
    const NAME: &'static str = "all";
    type In = (u32, Does);
    type Out = usize;

    fn expand(&self, (jobs, does): &(u32, Does)) -> Vec<Child> {
        (0..*jobs).map(|job| Child::activity::<Do>(job.to_string(), does)).collect()
    }

    fn join(&self, _: &(u32, Does), children: &[ChildOutcome]) -> Joined<usize> {
        Joined::by_ends(children, children.len())
    }
}

/// What was seen of the jobs.
#[derive(Debug, Default)]
struct Seen {
    tries: AtomicU32,
    under_way: Mutex<(u32, u32)>,
    /// When those went on that had missed something.
    back: Mutex<Vec<Timestamp>>,
}

struct Do(Arc<Seen>);

impl Activity for Do {
    const NAME: &'static str = "do";
    type In = Does;
    type Out = ();

    async fn run(&self, cx: &AttemptCx, does: Does) -> Result<Ended<()>, ActivityError> {
        self.0.tries.fetch_add(1, Ordering::Relaxed);
        match does {
            Does::Takes => {
                {
                    let mut under_way = self.0.under_way.lock().unwrap();
                    under_way.0 += 1;
                    under_way.1 = under_way.1.max(under_way.0);
                }
                tokio::time::sleep(MINUTE * 5).await; // paused clock
                self.0.under_way.lock().unwrap().0 -= 1;
                Ok(Ended::Done(()))
            }
            Does::Fails => Err(Failure::new(FailureClass::Transient, "APP1", "not yet").into()),
            Does::Misses => Err(Unavailable::new("the printer").into()),
            Does::MissesAtFirst if cx.now.since(cx.run_started_at) < MINUTE * 5 => {
                let at = cx.run_started_at.after(MINUTE * 5);
                Err(Unavailable::new("the printer").retry_at(at).into())
            }
            Does::MissesAtFirst => {
                self.0.back.lock().unwrap().push(cx.now);
                Ok(Ended::Done(()))
            }
            Does::Tells => {
                for second in 0..20 {
                    cx.heartbeat(second.into()).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await; // paused clock
                }
                Ok(Ended::Done(()))
            }
            Does::Waits | Does::Signal if cx.resumed().is_some() => Ok(Ended::Done(())),
            Does::Waits => {
                let at = cx.now.after(MINUTE * 5);
                Ok(Ended::Suspend(Wait::Timer { name: "later".to_owned(), at }))
            }
            Does::Signal => {
                let (name, until) = ("go".to_owned(), cx.now.after(MINUTE));
                Ok(Ended::Suspend(Wait::Signal { name, until, or: WaitDefault::Skip }))
            }
        }
    }
}

fn telling() -> (Staged<Telling>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Staged::new(Telling).group(All).activity(Do(seen.clone())), seen)
}

/// What came of a run.
#[derive(Debug)]
struct Told {
    state: String,
    said: String,
    tries: u32,
    /// Most jobs under way at a time.
    most: u32,
    took: Duration,
    /// How often the process of its first job may die with it.
    crashes: u32,
    /// How long after each other jobs went on that had missed something.
    spread: Duration,
    /// How far somebody was when that was recorded, which is done at most every 10 s.
    progress: Vec<u64>,
}

/// A run with these lines in `[engine]`. One that is not accepted, or does not go on, says why.
async fn told(settings: &str, given: Given) -> Told {
    let config = Config::parse("p.toml", format!("[engine]\n{settings}\n").as_bytes()).unwrap();
    let (telling, seen) = telling();
    let builder = Runtime::builder().store(Store::memory()).config(config).staged(&telling);
    let (runtime, clock) = (builder.start().await.unwrap(), Clock::start());
    let mut progress = Vec::new();
    let run = match runtime.runs().start(telling.start(&given).unwrap()).await {
        Ok(run) => {
            let outcome = run.outcome().await;
            let mut events = run.events(1);
            while outcome.is_ok() {
                let event = events.next().await.unwrap();
                progress.extend(event.data["progress"].as_u64());
                if event.kind == "run_closed" {
                    break;
                }
            }
            outcome.map(|outcome| outcome.view)
        }
        Err(error) => Err(error),
    };
    let took = clock.now().elapsed();
    let (state, said, crashes) = match run {
        Ok(view) => {
            let said = telling.output(&view).unwrap();
            let own = view.jobs.iter().find(|job| job.kind.name() == "activity").unwrap();
            (view.run.state.name().to_owned(), said, own.crashes_max)
        }
        Err(error) => ("none".to_owned(), error.to_string(), 0),
    };
    runtime.shutdown().await;
    let (tries, most) = (seen.tries.load(Ordering::Relaxed), seen.under_way.lock().unwrap().1);
    let spread = {
        let back = seen.back.lock().unwrap();
        let ends = back.iter().max().zip(back.iter().min());
        ends.map(|(last, first)| last.since(*first)).unwrap_or_default()
    };
    Told { state, said, tries, most, took, crashes, spread, progress }
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn a_stage_that_says_nothing_has_the_places_of_the_setting() {
    let (usual, own) = ((12, Does::Takes, From::Plan), (12, Does::Takes, From::Own));
    assert_eq!(told("", usual).await.most, 10);
    assert_eq!(told("stage_concurrency = 4", usual).await.most, 4);
    assert_eq!(told("stage_concurrency = 4", own).await.most, 3, "the plan is stronger");
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn an_attempt_of_which_nothing_is_said_takes_what_the_setting_allows() {
    for from in [From::Plan, From::Next, From::Group] {
        let given = (1, Does::Takes, from);
        assert_eq!(told("", given).await.state, "succeeded", "{from:?}");
        let brief = told("start_to_close = \"1m\"", given).await;
        assert_eq!((&*brief.state, brief.tries), ("failed", 3), "{from:?}: {brief:?}");
    }
    let own = told("start_to_close = \"1m\"", (1, Does::Takes, From::Own)).await;
    assert_eq!(own.state, "succeeded", "the plan is stronger");
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn jobs_whose_plan_does_not_say_how_are_tried_as_it_is_set() {
    for from in [From::Plan, From::Next, From::Group] {
        let given = (1, Does::Fails, from);
        let usual = told("", given).await;
        assert_eq!((usual.tries, usual.crashes), (3, 3), "{from:?}");
        let more = told("retry_attempts = 5\nretry_crashes = 7", given).await;
        assert_eq!((more.tries, more.crashes), (5, 7), "{from:?}");
        assert!(usual.took < MINUTE / 6, "{usual:?}");
    }
    let own = told("retry_attempts = 5\nretry_base = \"1h\"\nretry_cap = \"1h\"", OWN).await;
    assert_eq!(own.tries, 2 * OWN.0, "the plan is stronger");
    assert!(own.took < MINUTE / 2, "{own:?}");
    // Of many pauses that differ by chance some are long.
    let given = (10, Does::Fails, From::Plan);
    let slow = told("retry_base = \"2m\"\nretry_cap = \"2m\"", given).await;
    assert!(slow.took > MINUTE, "{slow:?}");
    let short = told("retry_base = \"5s\"\nretry_cap = \"5s\"\nretry_attempts = 7", given).await;
    assert!(short.took < MINUTE, "{short:?}");
    let long = told("retry_base = \"5s\"\nretry_cap = \"10m\"\nretry_attempts = 7", given).await;
    assert!(long.took > MINUTE, "{long:?}");
}

const OWN: Given = (10, Does::Fails, From::Own);

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn plans_and_runs_have_no_more_jobs_than_is_set() {
    let given = (5, Does::Takes, From::Plan);
    assert_eq!(told("plan_jobs_max = 5", given).await.state, "succeeded");
    let refused = told("plan_jobs_max = 4", given).await;
    assert!(refused.said.contains("it begins with 5 jobs; at most 4 are allowed"), "{refused:?}");
    let given = (5, Does::Takes, From::Next);
    assert_eq!(told("run_jobs_max = 5\nplan_jobs_max = 1", given).await.state, "succeeded");
    let parked = told("run_jobs_max = 4", given).await;
    let said = "the run would have 5 jobs; at most 4 are allowed";
    assert!(parked.state == "none" && parked.said.contains(said), "{parked:?}");
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn a_job_waits_for_what_is_missing_and_for_what_it_asks_as_long_as_is_set() {
    let given = (1, Does::Misses, From::Plan);
    for (settings, within) in [("", 30), ("defer_max_wait = \"3m\"", 3)] {
        let Told { state, took, .. } = told(settings, given).await;
        assert_eq!(state, "failed");
        let (least, most) = (MINUTE * within, MINUTE * (within + 1));
        assert!((least..most).contains(&took), "{settings}: {took:?}");
    }
    let given = (1, Does::Waits, From::Plan);
    assert_eq!(told("", given).await.state, "succeeded");
    let refused = told("wait_max = \"4m\"", given).await;
    assert!(refused.state == "failed" && refused.said.contains("at most 240s"), "{refused:?}");
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn those_who_waited_come_back_spread_over_as_long_as_is_set() {
    let given = (20, Does::MissesAtFirst, From::Plan);
    let usual = told("stage_concurrency = 20", given).await;
    assert!(usual.spread <= Duration::from_secs(3), "{usual:?}");
    let wide = told("stage_concurrency = 20\nwake_spread = \"2m\"", given).await;
    assert!(wide.spread > MINUTE / 2, "{wide:?}");
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn progress_is_kept_as_often_as_is_set() {
    let given = (1, Does::Tells, From::Plan);
    for (settings, within) in [("", 10..13), ("keep_progress_every = \"15s\"", 15..17)] {
        let told = told(settings, given).await;
        let [0, second] = told.progress[..] else { panic!("{settings}: {told:?}") };
        assert!(within.contains(&second), "{settings}: {told:?}");
    }
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn of_a_drain_so_much_is_left_for_giving_back_as_is_set() {
    for (settings, released) in [("", 0), ("drain_grace = \"6s\"", 1)] {
        assert_eq!(released_by_a_drain(settings).await, released, "{settings}");
    }
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_attempts_as_long_as_is_set() {
    for (settings, released) in [("", 0), ("drain_timeout = \"5s\"", 1)] {
        assert_eq!(released_by_a_drain(settings).await, released, "{settings}");
    }
}

/// How many attempts it gives back of one that takes 5.5 s more.
async fn released_by_a_drain(settings: &str) -> usize {
    let settings = format!("[engine]\n{settings}\n");
    let config = Config::parse("p.toml", settings.as_bytes()).unwrap();
    let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1, delay_ms: 5500}]}";
    let builder = Runtime::builder().store(Store::memory()).config(config);
    let runtime = builder.start().await.unwrap();
    let start = perennial::StartPipeline::document("w.yaml", text);
    let start = start.mode(perennial::ProviderMode::Mock);
    let run = runtime.pipelines().start(start).await.unwrap();
    let mut events = run.events();
    while events.next().await.unwrap().kind != "attempt_started" {}
    let drain = runtime.shutdown().await.drain.unwrap();
    assert_eq!(drain.finished + drain.released, 1, "{drain:?}");
    drain.released
}

/// Proves INV-33.
/// What its jobs were made with is theirs: another setting neither changes it nor keeps the run from going on.
#[tokio::test]
async fn a_run_keeps_what_it_was_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let store = || Store::sqlite(folder.path().join("runs.db"));
    let retry = RetryPolicy { max_attempts: 5, ..RetryPolicy::PROVIDER };
    let first =
        EngineSettings { stage_concurrency: 7, retry, plan_jobs_max: 2, ..Default::default() };
    let then = EngineSettings { plan_jobs_max: 1, ..Default::default() };
    let (telling, _) = telling();
    let start = |settings| {
        let builder = Runtime::builder().store(store()).engine(settings);
        builder.drain_within(Duration::ZERO).staged(&telling).start()
    };
    let runtime = start(first).await.unwrap();
    let given = telling.start(&(2, Does::Signal, From::Plan)).unwrap();
    let run = runtime.runs().start(given).await.unwrap();
    let id = run.id().clone();
    let mut events = run.events(1);
    let mut suspended = 0;
    while suspended < 2 {
        let event = events.next().await.unwrap();
        suspended += u32::from(event.kind == "job_suspended");
    }
    drop((events, run));
    runtime.shutdown().await;

    let runtime = start(then).await.unwrap();
    let run = runtime.runs().resume(&id).await.unwrap();
    for _ in 0..2 {
        run.signal("go", &1).await.unwrap();
    }
    let view = run.outcome().await.unwrap().view;
    assert_eq!((view.run.state.name(), view.stages[0].concurrency), ("succeeded", Some(7)));
    assert!(view.jobs.iter().all(|job| job.max_attempts == 5), "{:?}", view.jobs);
    drop(run);
    runtime.shutdown().await;
}
