//! Driven stages: a workflow that goes on until what it has is good enough, and what is made of all of it in the end.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use perennial::{
    RunId, Runtime, Store,
    engine::{
        AttemptCx, StartRun,
        staged::{
            Activity, ActivityError, Edge, Ended, Feed, Item, JobSpec, NextJobs, Plan,
            PlanProblems, RunReport, Stage, Staged, StagedWorkflow, Upstream, UpstreamFailure,
            Which,
        },
        workflow::{JobState, RetryPolicy},
    },
    records::{Failure, FailureClass, RunError},
};
use tokio::sync::Notify;

use crate::places::{Place, places};

const SOON: Duration = Duration::from_secs(60);

/// What the test looks at, and what it holds up.
#[derive(Debug, Default)]
struct World {
    /// What was worked on, each time.
    made: Mutex<Vec<u64>>,
    /// An input at which the work stays, and told when it does.
    stays_at: Mutex<Option<u64>>,
    is_there: Notify,
    goes_on: Notify,
    /// An input at which the work fails.
    fails_at: Mutex<Option<u64>>,
    /// What comes next is said wrongly.
    is_odd: AtomicBool,
}

/// Makes it better by a third.
struct Improve(Arc<World>);

impl Activity for Improve {
    const NAME: &'static str = "improve";
    type In = u64;
    type Out = u64;

    async fn run(&self, _: &AttemptCx, error: u64) -> Result<Ended<u64>, ActivityError> {
        self.0.made.lock().unwrap().push(error);
        if *self.0.stays_at.lock().unwrap() == Some(error) {
            self.0.is_there.notify_one();
            self.0.goes_on.notified().await;
        }
        if *self.0.fails_at.lock().unwrap() == Some(error) {
            return Err(Failure::new(FailureClass::Permanent, "APP1", "it gets worse").into());
        }
        Ok(Ended::Done(error * 2 / 3))
    }
}

/// Tells how good it is.
struct Rate;

impl Activity for Rate {
    const NAME: &'static str = "rate";
    type In = u64;
    type Out = u64;

    async fn run(&self, _: &AttemptCx, error: u64) -> Result<Ended<u64>, ActivityError> {
        Ok(Ended::Done(error))
    }
}

/// `drafts` go on until one is good enough, each is rated, and the best of all is published.
struct Refine(Arc<World>);

fn one(_: &serde_json::Value, upstream: &Upstream) -> Vec<JobSpec> {
    upstream.succeeded().map(|item| JobSpec::new(&item.key, &item.result)).collect()
}

fn best(_: &serde_json::Value, upstream: &Upstream) -> Vec<JobSpec> {
    let best = upstream.succeeded().filter_map(Item::output::<u64>).min();
    best.map(|best| JobSpec::new("best", &best)).into_iter().collect()
}

impl StagedWorkflow for Refine {
    const NAME: &'static str = "refine";
    const VERSION: u32 = 1;
    /// What it begins with, and how many drafts there may be.
    type Input = (u64, usize);
    type Output = Option<u64>;

    fn plan(&self, _: &Self::Input) -> Result<Plan, PlanProblems> {
        let drafts = Stage::activity::<Improve>("drafts").retry(RetryPolicy::ONCE);
        let stage = Stage::activity::<Rate>;
        let published = Edge::from("drafts", best).on_upstream_failure(UpstreamFailure::Omit);
        Ok(Plan::new()
            .stage(drafts.feed(Feed::driven()))
            .stage(stage("rated").feed(Feed::per_item(Edge::from("drafts", one))))
            .stage(stage("published").feed(Feed::barrier(published))))
    }

    fn next(&self, (first, most): &Self::Input, report: &RunReport) -> NextJobs {
        let drafts = report.stage("drafts").map_or(&[][..], |it| &it.items);
        if self.0.is_odd.load(Ordering::SeqCst) && !drafts.is_empty() {
            return NextJobs::none().job("rated", JobSpec::new("odd", first));
        }
        let last = match drafts.last() {
            None => Some(*first),
            Some(item) => item.output(),
        };
        match last {
            Some(error) if error > 10 && drafts.len() < *most => {
                NextJobs::none().job("drafts", JobSpec::new(drafts.len().to_string(), &error))
            }
            Some(_) | None => NextJobs::none().seal("drafts"),
        }
    }

    fn summarize(&self, _: &Self::Input, report: &RunReport) -> Option<u64> {
        report.stage("published")?.items.first()?.output()
    }
}

fn refine(world: &Arc<World>) -> Staged<Refine> {
    Staged::new(Refine(world.clone())).activity(Improve(world.clone())).activity(Rate)
}

fn start(refine: &Staged<Refine>) -> StartRun {
    let run = Some(RunId::parse("refine").unwrap());
    StartRun { run, ..refine.start(&(90, 20)).unwrap() }
}

async fn runtime(store: Store, refine: &Staged<Refine>) -> Runtime {
    Runtime::builder().store(store).staged(refine).start().await.unwrap()
}

/// 90, 60, 40, 26, 17, 11, 7: six drafts, each from the last; the best, 7, is published.
const INPUTS: [u64; 6] = [90, 60, 40, 26, 17, 11];

/// Whatever happened meanwhile, it is as if nothing had.
async fn check(runtime: &Runtime, refine: &Staged<Refine>) {
    let run = runtime.runs().get(&RunId::parse("refine").unwrap()).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state.name(), "succeeded");
    assert_eq!(refine.output(&outcome.view).unwrap(), Some(7));
    let given = |stage: &str| -> Vec<u64> {
        let own = outcome.view.jobs.iter().filter(|job| job.stage == stage);
        own.map(|job| job.input["input"].as_u64().unwrap_or_else(|| panic!("{job:?}"))).collect()
    };
    assert_eq!(given("drafts"), INPUTS);
    assert_eq!((given("rated").len(), given("published")), (6, vec![7]));
    assert_eq!(
        runtime.upkeep().verify(None).rest().await.unwrap(),
        [],
        "what is recorded is whole"
    );
}

/// SM-21, SM-22. Each draft follows from the last, until one is good enough; then what follows from all of them does.
#[tokio::test]
async fn a_workflow_goes_on_until_what_it_has_is_good_enough() {
    let dir = tempfile::tempdir().unwrap();
    let stores = places(dir.path(), "driven_good");
    for store in stores.iter().map(Place::store).chain([Store::memory()]) {
        let world = Arc::new(World::default());
        let refine = refine(&world);
        let runtime = runtime(store, &refine).await;
        runtime.runs().start(start(&refine)).await.unwrap();
        check(&runtime, &refine).await;
        assert_eq!(world.made.lock().unwrap().len(), 6, "each once");
        runtime.shutdown().await;
    }
}

/// DUR-6, DUR-110. The actor of the run is killed, or its whole process is gone, while a draft is in the making: whoever goes on asks
/// for nothing twice.
#[tokio::test]
async fn a_workflow_goes_on_by_itself_in_another_actor_and_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path(), "driven_again") {
        let world = Arc::new(World::default());
        *world.stays_at.lock().unwrap() = Some(40);
        let first = refine(&world);
        let before = runtime(place.store(), &first).await;
        let run = before.runs().start(start(&first)).await.unwrap();
        world.is_there.notified().await;
        assert!(
            run.set_concurrency("drafts", NonZeroU32::MIN).await.unwrap(),
            "it is one of a plan"
        );
        *world.stays_at.lock().unwrap() = Some(26);
        let actor = before.supervision_tree().kill("/perennial/runs/refine").unwrap();
        actor.exit().await;
        world.goes_on.notify_waiters();
        world.is_there.notified().await;
        before.shutdown().await;
        *world.stays_at.lock().unwrap() = None;
        let second = refine(&world);
        let after = runtime(place.store(), &second).await;
        check(&after, &second).await;
        let made = world.made.lock().unwrap().clone();
        let drafts = |error: u64| made.iter().filter(|made| **made == error).count();
        assert_eq!((drafts(90), drafts(60), drafts(11)), (1, 1, 1), "{made:?}");
        after.shutdown().await;
    }
}

/// Proves INV-32.
/// DUR-8. What cannot be is told with the run, which loses nothing; the same workflow, put right, goes on from there.
#[tokio::test]
async fn a_workflow_that_asks_for_what_cannot_be_is_told_so_and_goes_on_once_it_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path(), "driven_odd") {
        let world = Arc::new(World::default());
        world.is_odd.store(true, Ordering::SeqCst);
        let refine = refine(&world);
        let before = runtime(place.store(), &refine).await;
        let run = before.runs().start(start(&refine)).await.unwrap();
        let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap();
        let Err(RunError::Parked { why, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains("`next`") && why.contains("no driven stage `rated`"), "{why}");
        let view = run.view().await.unwrap();
        assert_eq!(view.jobs[0].state, JobState::Succeeded, "what it gave is recorded");
        before.shutdown().await;
        world.is_odd.store(false, Ordering::SeqCst);
        let after = runtime(place.store(), &refine).await;
        check(&after, &refine).await;
        after.shutdown().await;
    }
}

/// A run that is parked where it lives ends when it is cancelled, also by a process that does not know its workflow.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_run_that_is_cancelled_from_elsewhere_ends() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path(), "driven_cancelled").iter().skip(1) {
        let world = Arc::new(World::default());
        world.is_odd.store(true, Ordering::SeqCst);
        let refine = refine(&world);
        let here = Runtime::builder().store(place.store()).node("here").staged(&refine);
        let here = here.start().await.unwrap();
        let run = here.runs().start(start(&refine)).await.unwrap();
        let parked = tokio::time::timeout(SOON, run.outcome()).await.unwrap();
        assert!(matches!(parked, Err(RunError::Parked { .. })), "{parked:?}");
        let beside = Runtime::builder().store(place.store()).node("beside").start().await.unwrap();
        let told = beside.runs().get(run.id()).await.unwrap();
        assert!(told.cancel().await.unwrap());
        let ended = tokio::time::timeout(SOON, told.outcome()).await.unwrap().unwrap();
        assert_eq!(ended.state.name(), "cancelled");
        drop((run, told));
        beside.shutdown().await;
        here.shutdown().await;
    }
}

/// Proves TRAP-9.
/// A draft that failed ends it; made again, it goes on from there, and what was published is made again, if that is wanted.
#[tokio::test]
async fn a_draft_that_failed_is_made_again_and_then_the_next_ones_follow() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path(), "driven_retry") {
        let world = Arc::new(World::default());
        *world.fails_at.lock().unwrap() = Some(26);
        let refine = refine(&world);
        let runtime = runtime(place.store(), &refine).await;
        let run = runtime.runs().start(start(&refine)).await.unwrap();
        let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
        assert_eq!(outcome.state.name(), "partially_succeeded");
        *world.fails_at.lock().unwrap() = None;
        let refused = run.retry(&Which::Failed, false).await.unwrap_err();
        assert!(refused.to_string().contains("published"), "{refused}");
        run.retry(&Which::Failed, true).await.unwrap();
        check(&runtime, &refine).await;
        runtime.shutdown().await;
    }
}
