//! Jobs with a concurrency key: of all of them, in whatever runs, only so many are under way at a time.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial::{
    Limits, RunId, Runtime, Store,
    engine::{
        AttemptCx, Explanation, StartRun, WaitsWhy,
        staged::{
            Activity, ActivityError, Child, ChildOutcome, Ended, Feed, Group, JobSpec, Joined,
            NextJobs, Plan, PlanProblem, PlanProblems, RunReport, Stage, Staged, StagedWorkflow,
        },
        workflow::JobKey,
    },
    records::RunHandle,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(30);

/// The apps that are visited: how many at a time now, and at most.
#[derive(Debug, Default)]
struct Apps(Mutex<BTreeMap<String, (u32, u32)>>);

#[derive(Clone, Debug)]
struct Visit {
    apps: Arc<Apps>,
    /// So many visits may end.
    leave: Arc<Semaphore>,
    begun: watch::Sender<u32>,
}

impl Visit {
    fn new(leave: usize) -> Self {
        let leave = Arc::new(Semaphore::new(leave));
        Self { apps: Arc::default(), leave, begun: watch::Sender::new(0) }
    }

    async fn has_begun(&self, count: u32) {
        let mut begun = self.begun.subscribe();
        drop(timeout(SOON, begun.wait_for(|it| *it >= count)).await.unwrap().unwrap());
    }

    /// At most, of each app.
    fn most(&self) -> BTreeMap<String, u32> {
        self.apps.0.lock().unwrap().iter().map(|(app, (_, most))| (app.clone(), *most)).collect()
    }
}

/// A visit that ends, or is stopped.
struct Visiting<'a>(&'a Apps, &'a str);

impl Drop for Visiting<'_> {
    fn drop(&mut self) {
        if let Some((now, _)) = self.0.0.lock().unwrap().get_mut(self.1) {
            *now -= 1;
        }
    }
}

impl Activity for Visit {
    const NAME: &'static str = "visit";
    type In = String;
    type Out = String;

    async fn run(&self, _: &AttemptCx, app: String) -> Result<Ended<String>, ActivityError> {
        {
            let mut apps = self.apps.0.lock().unwrap();
            let (now, most) = apps.entry(app.clone()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        let visiting = Visiting(&self.apps, &app);
        self.begun.send_modify(|it| *it += 1);
        self.leave.acquire().await.unwrap().forget();
        drop(visiting);
        Ok(Ended::Done(app))
    }
}

/// Visits an app by its three rooms.
#[derive(Debug)]
struct Rooms;

impl Group for Rooms {
    const NAME: &'static str = "rooms";
    type In = String;
    type Out = u32;

    fn expand(&self, app: &String) -> Vec<Child> {
        let of = match app.as_str() {
            // One that waits for its own group.
            "loop" => "app/loop".to_owned(),
            // Each waits for the other.
            "yin" => "app/yang".to_owned(),
            "yang" => "app/yin".to_owned(),
            app => format!("room/{app}"),
        };
        let room = |key: &str| Child::activity::<Visit>(key, app).concurrency_key(&of, 1);
        vec![room("hall"), room("attic"), room("cellar")]
    }

    fn join(&self, _: &String, children: &[ChildOutcome]) -> Joined<u32> {
        let count = children.iter().filter(|child| child.is_success()).count();
        Joined::Done(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tour {
    apps: Vec<String>,
    grouped: bool,
    most: u32,
}

fn tour(apps: &[&str]) -> Tour {
    Tour { apps: apps.iter().map(|app| (*app).to_owned()).collect(), grouped: false, most: 1 }
}

fn app_of(input: &Value) -> String {
    let app = input.as_str().unwrap_or_default();
    assert!(app != "odd", "nobody knows where that is");
    format!("app/{app}")
}

#[derive(Debug)]
struct Tours;

impl StagedWorkflow for Tours {
    const NAME: &'static str = "tour";
    const VERSION: u32 = 1;
    type Input = Tour;
    type Output = usize;

    fn plan(&self, tour: &Tour) -> Result<Plan, PlanProblems> {
        let jobs = tour.apps.iter().enumerate();
        let jobs = jobs.map(|(place, app)| JobSpec::new(format!("{place}:{app}"), app));
        let stage = if tour.grouped {
            Stage::group::<Rooms>("visits")
        } else {
            Stage::activity::<Visit>("visits")
        };
        Ok(Plan::new().stage(stage.concurrency_key(app_of, tour.most).feed(Feed::jobs(jobs))))
    }

    fn summarize(&self, _: &Tour, report: &RunReport) -> usize {
        report.stage("visits").map_or(0, |stage| stage.items.len())
    }
}

fn tours(visit: &Visit) -> Staged<Tours> {
    Staged::new(Tours).activity(visit.clone()).group(Rooms)
}

fn named(id: &str, tours: &Staged<Tours>, tour: &Tour) -> StartRun {
    StartRun { run: Some(RunId::parse(id).unwrap()), ..tours.start(tour).unwrap() }
}

async fn up(path: Option<&Path>, tours: &Staged<Tours>, runs_max: usize) -> Runtime {
    let store = path.map_or_else(Store::memory, Store::sqlite);
    let limits = Limits { runs: runs_max, ..Limits::default() };
    let builder = Runtime::builder().store(store).limits(limits).staged(tours);
    builder.drain_within(Duration::ZERO).start().await.unwrap()
}

async fn end(run: &RunHandle) -> &'static str {
    timeout(SOON, run.outcome()).await.unwrap().unwrap().state.name()
}

/// Waits until the job of that run is explained like that.
async fn explained(run: &RunHandle, job: &str, is: impl Fn(&Explanation) -> bool) -> Explanation {
    let mut events = run.events(1);
    timeout(SOON, async {
        loop {
            let explanation = run.explain(&JobKey::new(job)).await.unwrap();
            if is(&explanation) {
                return explanation;
            }
            // Whatever changes it is an event.
            drop(events.next().await.unwrap());
        }
    })
    .await
    .unwrap()
}

/// Proves INV-ST-20.
/// SM-41: whatever the jobs are, and however many runs have them: three of two apps at once, of which two share one. The rooms
/// of an app are visited one at a time as well.
#[tokio::test(flavor = "multi_thread")]
async fn runs_that_share_an_app_visit_it_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    for (file, grouped) in [(false, false), (false, true), (true, false), (true, true)] {
        let visit = Visit::new(10_000);
        let tours = tours(&visit);
        let path = folder.path().join(format!("{grouped}.db"));
        let runtime = up(file.then_some(path.as_path()), &tours, 10).await;
        let mut runs = Vec::new();
        for id in 0..4 {
            let tour = Tour { grouped, ..tour(&["shop", "blog", "shop", "wiki"]) };
            runs.push(runtime.runs().start(named(&id.to_string(), &tours, &tour)).await.unwrap());
        }
        for run in &runs {
            assert_eq!(end(run).await, "succeeded");
        }
        let most: Vec<u32> = visit.most().into_values().collect();
        assert_eq!(most, [1, 1, 1], "{grouped}");
        drop(runs);
        runtime.shutdown().await;
    }
}

/// DUR-13, DUR-16. Who waits says for what, stands in nobody's way, needs no place among the runs that are active, and comes when
/// its turn has come.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_turn_says_so_and_is_in_nobodys_way() {
    let visit = Visit::new(0);
    let tours = tours(&visit);
    let runtime = up(None, &tours, 2).await;
    let first = runtime.runs().start(named("first", &tours, &tour(&["shop"]))).await.unwrap();
    visit.has_begun(1).await;
    let waits = runtime.runs().start(named("waits", &tours, &tour(&["shop"]))).await.unwrap();
    let why = explained(&waits, "visits/0:shop", |it| matches!(it, Explanation::Turn { .. })).await;
    let Explanation::Turn { key, limit, since, held_by } = why else { panic!("{why:?}") };
    assert_eq!((key.as_str(), limit, since.is_some()), ("app/shop", 1, true));
    assert_eq!(held_by.unwrap().to_string(), "step visits/0:shop of run first");
    // While it is paused nothing else lets it go on.
    waits.pause().await.unwrap();
    let why = waits.explain(&JobKey::new("visits/0:shop")).await.unwrap();
    assert!(matches!(why, Explanation::RunPaused { .. }), "{why:?}");
    waits.unpause().await.unwrap();
    let why = waits.explain(&JobKey::new("visits/0:shop")).await.unwrap();
    assert!(matches!(why, Explanation::Turn { .. }), "{why:?}");
    // Noted when its run has done what it can, which is not told to anybody.
    let told = timeout(SOON, async {
        loop {
            if let Some(told) = waits.waits_for().filter(|told| told.why == WaitsWhy::Turn) {
                return told;
            }
            sleep(Duration::from_millis(10)).await; // real time
        }
    });
    let told = told.await.unwrap();
    assert_eq!(told.why, WaitsWhy::Turn);
    assert!(told.what.contains("its turn with the key `app/shop`, 1 at a time"), "{told:?}");
    // One that is cancelled waits no more.
    let gone = runtime.runs().start(named("gone", &tours, &tour(&["shop"]))).await.unwrap();
    explained(&gone, "visits/0:shop", |it| matches!(it, Explanation::Turn { .. })).await;
    gone.cancel().await.unwrap();
    assert_eq!(end(&gone).await, "cancelled");
    // Who waits has left its place: another one is visited meanwhile.
    let other = runtime.runs().start(named("other", &tours, &tour(&["blog"]))).await.unwrap();
    visit.has_begun(2).await;
    visit.leave.add_permits(2);
    assert_eq!((end(&first).await, end(&other).await), ("succeeded", "succeeded"));
    visit.has_begun(3).await;
    visit.leave.add_permits(1);
    assert_eq!(end(&waits).await, "succeeded");
    assert_eq!(visit.most()["shop"], 1);
    drop((first, waits, other, gone));
    runtime.shutdown().await;
}

/// DUR-110. A process that is gone gives its turn back with its attempt, and who waited is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn turns_go_on_in_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    for grouped in [false, true] {
        let path = folder.path().join(format!("{grouped}.db"));
        let visit = Visit::new(0);
        let own = tours(&visit);
        let runtime = up(Some(&path), &own, 10).await;
        let tour = Tour { grouped, ..tour(&["shop"]) };
        let first = runtime.runs().start(named("first", &own, &tour)).await.unwrap();
        visit.has_begun(1).await;
        let waits = runtime.runs().start(named("waits", &own, &tour)).await.unwrap();
        explained(&waits, "visits/0:shop", |it| matches!(it, Explanation::Turn { .. })).await;
        drop((first, waits));
        runtime.shutdown().await;
        let visit = Visit::new(100);
        let own = tours(&visit);
        let runtime = up(Some(&path), &own, 10).await;
        for id in ["first", "waits"] {
            let run = runtime.runs().get(&RunId::parse(id).unwrap()).await.unwrap();
            assert_eq!(end(&run).await, "succeeded");
        }
        assert_eq!(visit.most()["shop"], 1);
        runtime.shutdown().await;
    }
}

/// A key that is none is refused with the plan, with all else that is wrong.
#[tokio::test]
async fn a_key_that_is_none_is_told_with_the_plan() {
    let tours = tours(&Visit::new(0));
    let long = "x".repeat(257);
    let problems = tours.start(&tour(&["shop", "odd", &long])).unwrap_err().0;
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(
        told.iter()
            .any(|it| it.contains("job `1:odd`") && it.contains("nobody knows where that is")),
        "{told:?}"
    );
    assert!(told.iter().any(|it| it.contains("1 to 256 bytes, and this one 261")), "{told:?}");
    let none = tours.start(&Tour { most: 0, ..tour(&["shop"]) }).unwrap_err();
    assert!(matches!(none.0[..], [PlanProblem::Policy { .. }]), "{none}");
}

/// A group whose child waits for the turn that the group keeps would never end: it fails, and says so.
#[tokio::test]
async fn a_child_with_the_key_of_its_group_is_refused() {
    let tours = tours(&Visit::new(9));
    let runtime = up(None, &tours, 1).await;
    let tour = Tour { grouped: true, ..tour(&["loop", "shop"]) };
    let run = runtime.runs().start(named("loop", &tours, &tour)).await.unwrap();
    assert_eq!(end(&run).await, "partially_succeeded");
    let view = run.view().await.unwrap();
    let group = view.jobs.iter().find(|job| job.key.as_str() == "visits/0:loop").unwrap();
    let why = group.result.as_ref().unwrap()["message"].as_str().unwrap();
    assert!(why.contains("child `hall` has the concurrency key `app/loop`"), "{why}");
    drop(run);
    runtime.shutdown().await;
}

/// Groups that wait for each other's key do so until somebody ends one of them; each says for whom it waits.
#[tokio::test(flavor = "multi_thread")]
async fn groups_that_wait_for_each_other_say_so_and_one_ends_with_the_other() {
    let visit = Visit::new(9);
    let tours = tours(&visit);
    let runtime = up(None, &tours, 1).await;
    let tour = Tour { grouped: true, ..tour(&["yin", "yang"]) };
    let run = runtime.runs().start(named("circle", &tours, &tour)).await.unwrap();
    let mut events = run.events(1);
    for _ in ["yin", "yang"] {
        while timeout(SOON, events.next()).await.unwrap().unwrap().kind != "group_expanded" {}
    }
    for (group, other) in [("0:yin", "1:yang"), ("1:yang", "0:yin")] {
        let is_held = |it: &Explanation| {
            let Explanation::Turn { held_by: Some(by), .. } = it else { return false };
            by.to_string() == format!("step visits/{other} of run circle")
        };
        explained(&run, &format!("visits/{group}/attic"), is_held).await;
    }
    assert!(run.skip(&JobKey::new("visits/0:yin"), "nobody else ends it").await.unwrap());
    assert_eq!(end(&run).await, "partially_succeeded");
    assert_eq!(visit.most(), BTreeMap::from([("yang".to_owned(), 1)]));
    drop(run);
    runtime.shutdown().await;
}

/// A workflow that never says that it is enough: each job that it asks for has failed with its key.
#[derive(Debug)]
struct Endless;

impl StagedWorkflow for Endless {
    const NAME: &'static str = "endless";
    const VERSION: u32 = 1;
    type Input = Tour;
    type Output = ();

    fn plan(&self, _: &Tour) -> Result<Plan, PlanProblems> {
        let stage = Stage::activity::<Visit>("visits").concurrency_key(app_of, 1);
        Ok(Plan::new().stage(stage.feed(Feed::driven())))
    }

    fn next(&self, _: &Tour, report: &RunReport) -> NextJobs {
        let many = report.stage("visits").map_or(0, |stage| stage.items.len());
        NextJobs::none().job("visits", JobSpec::new(many.to_string(), &"odd"))
    }

    fn summarize(&self, _: &Tour, _: &RunReport) {}
}

/// However much follows from what was decided, a run listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_no_end_can_be_cancelled() {
    let endless = Staged::new(Endless).activity(Visit::new(0));
    let runtime = Runtime::builder().store(Store::memory()).staged(&endless).start().await.unwrap();
    let run = runtime.runs().start(endless.start(&tour(&["shop"])).unwrap()).await.unwrap();
    let mut events = run.events(100);
    drop(timeout(SOON, events.next()).await.unwrap().unwrap());
    assert!(timeout(SOON, run.cancel()).await.unwrap().unwrap());
    assert_eq!(end(&run).await, "cancelled");
    drop(run);
    runtime.shutdown().await;
}
