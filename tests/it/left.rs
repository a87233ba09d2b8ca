//! What a run is told that nobody works on, by a process that does not know its workflow: it is kept for whoever does.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial::{
    Adoption, Builder, RunId, RunState, Runtime, Store,
    engine::{
        AttemptCx, Priority, RunHandle, Wait, WaitDefault,
        staged::{
            Activity, ActivityError, Edge, Ended, Feed, JobSpec, Plan, PlanProblems, RunReport,
            Stage, Staged, StagedWorkflow, Undo,
        },
        workflow::JobKey,
    },
    records::{RunError, RunView},
};

#[cfg(feature = "postgres")]
use crate::places::Place;
use crate::places::places;

const SOON: Duration = Duration::from_secs(60);

/// Makes something, and for `b` waits until somebody agrees.
struct Make;

impl Activity for Make {
    const NAME: &'static str = "make";
    type In = String;
    type Out = String;

    async fn run(&self, cx: &AttemptCx, what: String) -> Result<Ended<String>, ActivityError> {
        if what == "b" && cx.resumed().is_none() {
            let until = cx.now.after(Duration::from_secs(3600));
            let name = "agreed".to_owned();
            return Ok(Ended::Suspend(Wait::Signal { name, until, or: WaitDefault::Fail }));
        }
        Ok(Ended::Done(what))
    }
}

struct Unmake(Arc<Mutex<Vec<String>>>);

impl Activity for Unmake {
    const NAME: &'static str = "unmake";
    type In = Undo<String, String>;
    type Out = ();

    async fn run(&self, _: &AttemptCx, undo: Self::In) -> Result<Ended<()>, ActivityError> {
        self.0.lock().unwrap().push(undo.key);
        Ok(Ended::Done(()))
    }
}

/// `a` is made at once, and what follows waits.
struct Works;

impl StagedWorkflow for Works {
    const NAME: &'static str = "works";
    const VERSION: u32 = 1;
    type Input = ();
    type Output = ();

    fn plan(&self, (): &()) -> Result<Plan, PlanProblems> {
        let then = Edge::from("first", |_, _| vec![JobSpec::new("b", &"b")]);
        let first = Stage::activity::<Make>("first").compensate::<Unmake>();
        Ok(Plan::new()
            .stage(first.feed(Feed::jobs([JobSpec::new("a", &"a")])))
            .stage(Stage::activity::<Make>("then").feed(Feed::barrier(then))))
    }

    fn summarize(&self, (): &(), _: &RunReport) {}
}

/// The program that has the workflow, and what it has undone.
struct Program {
    staged: Staged<Works>,
    undone: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn new() -> Self {
        let undone = Arc::new(Mutex::new(Vec::new()));
        let staged = Staged::new(Works).activity(Make).activity(Unmake(undone.clone()));
        Self { staged, undone }
    }

    async fn runtime(&self, store: Store) -> Runtime {
        Runtime::builder().store(store).staged(&self.staged).start().await.unwrap()
    }

    /// The run is at its second job, and the program has gone.
    async fn leaves(&self, store: Store) -> RunId {
        let runtime = self.runtime(store).await;
        let run = runtime.runs().start(self.staged.start(&()).unwrap()).await.unwrap();
        let mut events = run.events(1);
        while events.next().await.unwrap().kind != "job_suspended" {}
        let id = run.id().clone();
        drop((run, events));
        runtime.shutdown().await;
        id
    }

    /// How it ends where the program has the store again.
    async fn ends(&self, store: Store, run: &RunId) -> RunView {
        let runtime = self.runtime(store).await;
        let handle = runtime.runs().get(run).await.unwrap();
        let outcome = tokio::time::timeout(SOON, handle.outcome()).await.unwrap().unwrap();
        assert_eq!(runtime.upkeep().verify(None).rest().await.unwrap(), []);
        drop(handle);
        runtime.shutdown().await;
        outcome.view
    }
}

/// Who else may have the store meanwhile: one that looks after runs, one that does not, and one that runs nothing at all.
const STRANGERS: [fn(Builder) -> Builder; 3] = [|it| it, UNASKED, Builder::store_only];
const UNASKED: fn(Builder) -> Builder = |it| it.adoption(Adoption::OnRequest);

/// A process that does not know the workflow, and the run there.
async fn stranger(store: Store, of: fn(Builder) -> Builder, run: &RunId) -> (Runtime, RunHandle) {
    let runtime = of(Runtime::builder().store(store).node("stranger")).start().await.unwrap();
    let handle = runtime.runs().get(run).await.unwrap();
    (runtime, handle)
}

/// SM-10, SM-12, DUR-5: what each needs of the workflow is decided where that is known.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_a_run_that_nobody_works_on_is_kept_for_who_knows_its_workflow() {
    let dir = tempfile::tempdir().unwrap();
    // Before the first of them has seen that it cannot run it, and after.
    let strangers = STRANGERS.into_iter().zip([false; 3]).chain([(STRANGERS[0], true)]);
    for (number, (of, is_parked)) in strangers.enumerate() {
        let dir = dir.path().join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        for place in places(&dir, &format!("left_cancelled_{number}")) {
            let program = Program::new();
            let id = program.leaves(place.store()).await;
            let (beside, run) = stranger(place.store(), of, &id).await;
            if is_parked {
                let parked = tokio::time::timeout(SOON, run.outcome()).await.unwrap();
                assert!(matches!(parked, Err(RunError::Parked { .. })), "{parked:?}");
            }
            assert!(run.set_priority(Priority::HIGH).await.unwrap());
            assert!(!run.set_priority(Priority::HIGH).await.unwrap(), "it has it");
            assert!(run.pause().await.unwrap());
            assert!(!run.pause().await.unwrap(), "it is paused");
            assert!(run.unpause().await.unwrap());
            let places = run.set_concurrency("then", NonZeroU32::MIN).await.unwrap_err();
            assert!(matches!(places, RunError::NotRunnable(_)), "{places}");
            assert!(run.cancel().await.unwrap());
            assert!(!run.cancel().await.unwrap(), "it is ending");
            let left = run.view().await.unwrap().run;
            assert_eq!((left.state, left.priority), (RunState::Cancelling, Priority::HIGH));
            drop(run);
            beside.shutdown().await;

            let view = program.ends(place.store(), &id).await;
            assert_eq!((view.run.state, view.run.priority), (RunState::Cancelled, Priority::HIGH));
            assert_eq!(*program.undone.lock().unwrap(), ["a"], "who knows it undoes it first");
        }
    }
}

/// DUR-64.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_run_that_nobody_works_on_is_skipped_without_its_workflow() {
    let dir = tempfile::tempdir().unwrap();
    for (number, of) in [UNASKED, Builder::store_only].into_iter().enumerate() {
        let dir = dir.path().join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        for place in places(&dir, &format!("left_skipped_{number}")) {
            let program = Program::new();
            let id = program.leaves(place.store()).await;
            let (beside, run) = stranger(place.store(), of, &id).await;
            assert!(run.skip(&JobKey::new("then/b"), "nobody agrees").await.unwrap());
            assert!(!run.skip(&JobKey::new("then/b"), "nobody agrees").await.unwrap(), "it is");
            let done = run.skip(&JobKey::new("first/a"), "no").await.unwrap_err();
            assert!(done.to_string().contains("from succeeded to skipped"), "{done}");
            assert_eq!(run.view().await.unwrap().run.state, RunState::Running);
            drop(run);
            beside.shutdown().await;

            let view = program.ends(place.store(), &id).await;
            assert_eq!(view.run.state, RunState::PartiallySucceeded);
            assert!(program.undone.lock().unwrap().is_empty());
        }
    }
}

/// Who works on a run answers by what another process has made of it, also before it has looked.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_both_processes_in_turn_is_met_by_each() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), "left_in_turn");
    for place in places.iter().filter(|place| matches!(place, Place::Server(_))) {
        let program = Program::new();
        let runtime = program.runtime(place.store()).await;
        let run = runtime.runs().start(program.staged.start(&()).unwrap()).await.unwrap();
        let mut events = run.events(1);
        while events.next().await.unwrap().kind != "job_suspended" {}
        let (beside, there) = stranger(place.store(), UNASKED, run.id()).await;
        for _ in 0..5 {
            assert!(there.pause().await.unwrap());
            assert!(run.unpause().await.unwrap());
            assert!(there.set_priority(Priority::HIGH).await.unwrap());
            assert!(run.set_priority(Priority::LOW).await.unwrap());
            let now = there.view().await.unwrap().run;
            assert_eq!((now.state, now.priority), (RunState::Running, Priority::LOW));
        }
        assert!(run.cancel().await.unwrap());
        drop((run, there, events));
        beside.shutdown().await;
        runtime.shutdown().await;
    }
}

/// A run that was started before has the priority that it has, whatever a further start of it says.
#[tokio::test]
async fn a_start_of_a_run_that_there_is_changes_nothing_of_it() {
    let program = Program::new();
    let runtime = program.runtime(Store::memory()).await;
    let start = |priority| {
        let run = Some(RunId::parse("works").unwrap());
        perennial::engine::StartRun { run, priority, ..program.staged.start(&()).unwrap() }
    };
    let run = runtime.runs().start(start(Priority::LOW)).await.unwrap();
    let same = runtime.runs().start(start(Priority::URGENT)).await.unwrap();
    assert_eq!(same.view().await.unwrap().run.priority, Priority::LOW);
    assert!(run.set_priority(Priority::HIGH).await.unwrap());
    // The same request again is no conflict, although the run has changed since.
    let same = runtime.runs().submit(start(Priority::LOW)).await.unwrap();
    assert_eq!(same.view().await.unwrap().run.priority, Priority::HIGH);
    run.cancel().await.unwrap();
    drop((run, same));
    runtime.shutdown().await;
}
