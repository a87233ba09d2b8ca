//! What undoes what a run has done, when it does not end well: a journey whose rooms and seats are given back.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial::{
    Config, RunId, RunState, Runtime, Store,
    engine::{
        AttemptCx, Priority, StartRun, Wait, WaitDefault,
        staged::{
            Activity, ActivityError, Edge, Ended, Feed, JobSpec, Plan, PlanProblems, RunReport,
            Stage, Staged, StagedWorkflow, Undo, UndoReason, Upstream, Which,
        },
        workflow::{JobKey, JobState, RetryPolicy},
    },
    records::{Failure, FailureClass, RunError, RunView},
};
use tokio::sync::Notify;

use crate::places::{Place, places};

const SOON: Duration = Duration::from_secs(60);

/// What the test looks at, and what it holds up.
#[derive(Debug, Default)]
struct World {
    /// What was undone: what it is, what it was given and gave, and the key that the outside world is told.
    undone: Mutex<Vec<(String, u64, String, String)>>,
    /// Why, each time.
    reasons: Mutex<Vec<UndoReason>>,
    /// What is done to undo that name.
    undoes: Mutex<Option<(&'static str, Undoes)>>,
    is_there: Notify,
    goes_on: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Undoes {
    /// Told that it is there, it stays until it may go on.
    Stays,
    /// It fails for good.
    Fails,
    /// It waits until somebody agrees.
    Waits,
    /// It never ends.
    Hangs,
}

/// Takes rooms and seats.
struct Book;

impl Activity for Book {
    const NAME: &'static str = "book";
    type In = u64;
    type Out = String;

    async fn run(&self, _: &AttemptCx, number: u64) -> Result<Ended<String>, ActivityError> {
        Ok(match number {
            3 => Ended::Partial("no breakfast".to_owned(), vec!["breakfast".to_owned()]),
            _ => Ended::Done(format!("number {number}")),
        })
    }
}

/// Gives them back.
struct Cancel(Arc<World>);

impl Activity for Cancel {
    const NAME: &'static str = "cancel";
    type In = Undo<u64, String>;
    type Out = String;

    async fn run(&self, cx: &AttemptCx, undo: Self::In) -> Result<Ended<String>, ActivityError> {
        let world = &self.0;
        let what = format!("{}/{}", undo.stage, undo.key);
        let does = world.undoes.lock().unwrap().filter(|(of, _)| *of == what);
        match does.map(|(_, does)| does) {
            Some(Undoes::Stays) => {
                world.is_there.notify_one();
                world.goes_on.notified().await;
            }
            Some(Undoes::Fails) => {
                return Err(Failure::new(FailureClass::Permanent, "APP2", "it is sold").into());
            }
            Some(Undoes::Waits) if cx.resumed().is_none() => {
                let or = WaitDefault::Fail;
                let until = cx.now.after(Duration::from_secs(600));
                return Ok(Ended::Suspend(Wait::Signal { name: "agreed".to_owned(), until, or }));
            }
            Some(Undoes::Hangs) => std::future::pending().await,
            Some(Undoes::Waits) | None => (),
        }
        let key = cx.idempotency_key.to_string();
        world.undone.lock().unwrap().push((what, undo.input, undo.result, key));
        world.reasons.lock().unwrap().push(undo.reason);
        Ok(Ended::Done("it is free again".to_owned()))
    }
}

/// The journey itself.
struct Go(Arc<World>);

impl Activity for Go {
    const NAME: &'static str = "go";
    type In = bool;
    type Out = ();

    async fn run(&self, _: &AttemptCx, hangs: bool) -> Result<Ended<()>, ActivityError> {
        if hangs {
            self.0.is_there.notify_one();
            std::future::pending::<()>().await;
        }
        Err(Failure::new(FailureClass::Permanent, "APP1", "no wind").into())
    }
}

/// `rooms`, then `seats`, both given back when the journey is not made; what was `looked` up is not.
struct Journey;

fn seats(_: &serde_json::Value, upstream: &Upstream) -> Vec<JobSpec> {
    upstream.succeeded().map(|room| JobSpec::new(&room.key, &(10 + room.key.len()))).collect()
}

impl StagedWorkflow for Journey {
    const NAME: &'static str = "journey";
    const VERSION: u32 = 1;
    /// Whether it hangs; else it fails.
    type Input = bool;
    type Output = ();

    fn plan(&self, hangs: &bool) -> Result<Plan, PlanProblems> {
        let names = [("a", 1), ("bb", 2), ("ccc", 3)];
        // One after the other.
        let before = |at: usize| at.checked_sub(1).map(|before| names[before].0);
        let rooms = names
            .iter()
            .enumerate()
            .map(|(at, (name, number))| JobSpec::new(*name, number).after(before(at)));
        let stage = |name| Stage::activity::<Book>(name).retry(RetryPolicy::ONCE);
        let seats = Feed::barrier(Edge::from("rooms", seats));
        let go = Edge::from("seats", if *hangs { hanging } else { failing });
        let looked = Feed::jobs([JobSpec::new("weather", &7)]);
        Ok(Plan::new()
            .stage(stage("looked").feed(looked))
            .stage(stage("rooms").compensate::<Cancel>().feed(Feed::jobs(rooms)))
            .stage(
                stage("seats")
                    .concurrency(1)
                    .compensate::<Cancel>()
                    .compensation_retry(RetryPolicy::ONCE)
                    .feed(seats),
            )
            .stage(Stage::activity::<Go>("go").retry(RetryPolicy::ONCE).feed(Feed::barrier(go))))
    }

    fn summarize(&self, _: &bool, _: &RunReport) {}
}

fn hanging(_: &serde_json::Value, _: &Upstream) -> Vec<JobSpec> {
    vec![JobSpec::new("now", &true)]
}

fn failing(_: &serde_json::Value, _: &Upstream) -> Vec<JobSpec> {
    vec![JobSpec::new("now", &false)]
}

fn journey(world: &Arc<World>) -> Staged<Journey> {
    Staged::new(Journey).activity(Book).activity(Cancel(world.clone())).activity(Go(world.clone()))
}

fn start(journey: &Staged<Journey>, hangs: bool, within: Option<Duration>) -> StartRun {
    let run = Some(RunId::parse("journey").unwrap());
    StartRun { run, within, ..journey.start(&hangs).unwrap() }
}

async fn runtime(store: Store, journey: &Staged<Journey>) -> Runtime {
    Runtime::builder().store(store).staged(journey).start().await.unwrap()
}

/// How it ended; what is recorded is whole.
async fn ended(runtime: &Runtime) -> RunView {
    let run = runtime.runs().get(&RunId::parse("journey").unwrap()).await.unwrap();
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(runtime.upkeep().verify(None).rest().await.unwrap(), []);
    outcome.view
}

/// All that is given back, the last that was taken first.
const BACK: [&str; 6] = ["seats/ccc", "seats/bb", "seats/a", "rooms/ccc", "rooms/bb", "rooms/a"];

fn undone(world: &World) -> Vec<String> {
    world.undone.lock().unwrap().iter().map(|(what, ..)| what.clone()).collect()
}

fn compensations(view: &RunView) -> Vec<(&str, JobState)> {
    let own = view.jobs.iter().filter(|job| job.stage == "compensation");
    own.map(|job| (job.key.as_str(), job.state)).collect()
}

/// Proves INV-ST-27.
/// Failed, cancelled, out of time: all is given back in the reverse order, each with what it had been given and gave, and the run ends
/// as it would have.
#[tokio::test]
async fn what_a_run_has_done_is_undone_before_it_ends_otherwise_than_well() {
    let dir = tempfile::tempdir().unwrap();
    for (cause, state) in [
        ("failure", RunState::Failed),
        ("cancel", RunState::Cancelled),
        ("deadline", RunState::TimedOut),
    ] {
        let dir = dir.path().join(cause);
        std::fs::create_dir(&dir).unwrap();
        let stores = places(&dir, &format!("undone_{cause}"));
        for store in stores.iter().map(Place::store).chain([Store::memory()]) {
            let world = Arc::new(World::default());
            let journey = journey(&world);
            let runtime = runtime(store, &journey).await;
            let within = (cause == "deadline").then_some(Duration::from_secs(3));
            let start = start(&journey, cause != "failure", within);
            let run = runtime.runs().start(start).await.unwrap();
            if cause == "cancel" {
                world.is_there.notified().await;
                assert!(run.cancel().await.unwrap());
            }
            let view = ended(&runtime).await;
            assert_eq!(view.run.state, state, "{cause}");
            assert_eq!(undone(&world), BACK, "{cause}");
            let failure = view.run.failure.as_ref().unwrap();
            assert_eq!(
                (&failure["cause"], &failure["compensation"]["undone"]),
                (&cause.into(), &6.into())
            );
            let (_, given, gave, key) = world.undone.lock().unwrap()[3].clone();
            assert_eq!((given, gave.as_str()), (3, "no breakfast"), "also what was done in part");
            assert_eq!(key, "journey/journey/compensation/rooms%2Fccc");
            let reason = world.reasons.lock().unwrap()[0].clone();
            match (cause, &reason) {
                ("cancel", UndoReason::Cancelled) | ("deadline", UndoReason::TimedOut) => (),
                ("failure", UndoReason::Failed { failure }) => {
                    assert!(failure.message.contains("go/now: no wind"), "{failure:?}");
                    let (class, code) = (failure.class, failure.code.as_str());
                    assert_eq!((class, code), (FailureClass::Permanent, "APP1"));
                }
                (_, reason) => panic!("{cause}: {reason:?}"),
            }
            let events = run.events(1).rest().await.unwrap();
            let told = events.iter().map(|event| event.kind.as_str());
            let told: Vec<&str> = told.filter(|kind| kind.contains("compensat")).collect();
            assert_eq!(told[0], "run_compensating", "{cause}");
            assert_eq!(told[1..], ["compensation_started"; 6], "{cause}");
            let refused = run.retry(&Which::Failed, true).await.unwrap_err();
            assert!(matches!(refused, RunError::Undone { .. }), "{refused}");
            for refused in [
                run.pause().await,
                run.set_priority(Priority::HIGH).await,
                run.skip(&JobKey::new("go/now"), "no").await,
                runtime.runs().resume(run.id()).await.map(|_| true),
            ] {
                let refused = refused.unwrap_err();
                assert!(matches!(refused, RunError::Ended { undone: true, .. }), "{refused:?}");
                let text = refused.to_string();
                assert!(text.contains("was undone: start a new run instead"), "{text}");
            }
            let refused = runtime.pipelines().resume(run.id()).await.unwrap_err().to_string();
            assert!(refused.contains("was undone") && refused.contains("a new run"), "{refused}");
            assert!(!run.cancel().await.unwrap(), "it has ended");
            runtime.shutdown().await;
        }
    }
}

/// What cannot be undone is told beside the first cause, and keeps nothing else from being undone.
#[tokio::test]
async fn what_cannot_be_undone_is_told_beside_the_first_cause() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path(), "undone_not") {
        let world = Arc::new(World::default());
        *world.undoes.lock().unwrap() = Some(("seats/bb", Undoes::Fails));
        let journey = journey(&world);
        let runtime = runtime(place.store(), &journey).await;
        let run = runtime.runs().start(start(&journey, false, None)).await.unwrap();
        let view = ended(&runtime).await;
        assert_eq!(view.run.state, RunState::CompensationFailed);
        let others: Vec<&str> = BACK.into_iter().filter(|what| *what != "seats/bb").collect();
        assert_eq!(undone(&world), others);
        let failure = view.run.failure.as_ref().unwrap();
        assert_eq!(failure["cause"], "failure");
        assert!(failure["message"].as_str().unwrap().contains("go"), "{failure}");
        let about = &failure["compensation"];
        assert_eq!((&about["undone"], &about["failed"]), (&5.into(), &1.into()), "{about}");
        let told = &about["failures"][0];
        assert_eq!((&told["job"], &told["code"]), (&"seats/bb".into(), &"APP2".into()), "{about}");
        for refused in [
            run.retry(&Which::Failed, true).await.map(drop),
            runtime.runs().resume(run.id()).await.map(drop),
            run.pause().await.map(drop),
        ] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("start a new run instead"), "{text}");
        }
        runtime.shutdown().await;
    }
}

/// The actor of the run is killed, and its process goes, while a room is given back: whoever goes on gives back the rest, and nothing is
/// recorded twice. Meanwhile nothing else is asked of the run.
#[tokio::test]
async fn what_is_being_undone_goes_on_in_another_actor_and_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path(), "undone_again") {
        let world = Arc::new(World::default());
        *world.undoes.lock().unwrap() = Some(("seats/a", Undoes::Stays));
        let first = journey(&world);
        let before = runtime(place.store(), &first).await;
        let run = before.runs().start(start(&first, false, None)).await.unwrap();
        world.is_there.notified().await;
        assert_eq!(run.view().await.unwrap().run.state, RunState::Compensating);
        assert!(!run.cancel().await.unwrap(), "it ends already");
        for refused in [
            run.pause().await,
            run.unpause().await,
            run.skip(&JobKey::new("compensation/seats/a"), "no").await,
            run.set_concurrency("rooms", std::num::NonZeroU32::MIN).await,
            run.set_priority(Priority::HIGH).await,
        ] {
            let text = refused.unwrap_err().to_string();
            assert!(text.starts_with("a run cannot go from compensating to "), "{text}");
        }
        let refused = run.retry(&Which::Failed, true).await.unwrap_err().to_string();
        assert!(refused.contains("from compensating to running"), "{refused}");
        assert!(run.signal("hello", &()).await.unwrap().changed, "signals are kept");
        let actor = before.supervision_tree().kill("/perennial/runs/journey").unwrap();
        actor.exit().await;
        *world.undoes.lock().unwrap() = Some(("rooms/bb", Undoes::Stays));
        world.goes_on.notify_one();
        world.is_there.notified().await;
        drop(run);
        before.shutdown().await;
        // Nor by whoever does not know it.
        let stranger = Runtime::builder().store(place.store()).node("stranger").store_only();
        let stranger = stranger.start().await.unwrap();
        let run = stranger.runs().get(&RunId::parse("journey").unwrap()).await.unwrap();
        assert!(!run.cancel().await.unwrap(), "it ends already");
        let refused = run.pause().await.unwrap_err().to_string();
        assert_eq!(refused, "a run cannot go from compensating to paused");
        drop(run);
        stranger.shutdown().await;
        *world.undoes.lock().unwrap() = None;
        let after = runtime(place.store(), &journey(&world)).await;
        let view = ended(&after).await;
        assert_eq!(view.run.state, RunState::Failed);
        assert_eq!(undone(&world), BACK, "each once: none was undone that was not recorded");
        let keys: Vec<String> = BACK.iter().map(|what| format!("compensation/{what}")).collect();
        let expected: Vec<_> = keys.iter().map(|key| (key.as_str(), JobState::Succeeded)).collect();
        assert_eq!(compensations(&view), expected);
        after.shutdown().await;
    }
}

/// What undoes something may wait for somebody.
#[tokio::test(start_paused = true)]
async fn what_undoes_something_may_wait_for_a_signal() {
    let world = Arc::new(World::default());
    *world.undoes.lock().unwrap() = Some(("seats/a", Undoes::Waits));
    let journey = journey(&world);
    let runtime = runtime(Store::memory(), &journey).await;
    let run = runtime.runs().start(start(&journey, false, None)).await.unwrap();
    let mut events = run.events(1);
    while events.next().await.unwrap().kind != "job_suspended" {}
    assert!(run.signal("agreed", &"yes").await.unwrap().woken.is_some());
    let view = ended(&runtime).await;
    assert_eq!((view.run.state, undone(&world).len()), (RunState::Failed, 6));
    runtime.shutdown().await;
}

/// Proves INV-33.
#[tokio::test(start_paused = true)]
async fn what_undoes_a_run_may_take_as_long_as_is_set() {
    for (settings, within) in [("start_to_close = \"3h\"", 3_600), ("compensation = \"7s\"", 7)] {
        let world = Arc::new(World::default());
        *world.undoes.lock().unwrap() = Some(("seats/bb", Undoes::Hangs));
        let text = format!("[engine]\n{settings}\n");
        let config = Config::parse("p.toml", text.as_bytes()).unwrap();
        let journey = journey(&world);
        let builder = Runtime::builder().store(Store::memory()).config(config).staged(&journey);
        let runtime = builder.start().await.unwrap();
        let run = runtime.runs().start(start(&journey, false, None)).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        assert_eq!(outcome.state, RunState::CompensationFailed, "{settings}");
        let events = run.events(1).rest().await.unwrap();
        let at = |kind: &str| events.iter().find(|event| event.kind == kind).unwrap().at;
        let took = at("run_closed").since(at("run_compensating")).as_secs();
        assert!((within..within + 2).contains(&took), "{settings}: {took} s");
        let about = &outcome.view.run.failure.unwrap()["compensation"];
        assert_eq!((&about["undone"], &about["not_begun"]), (&1.into(), &4.into()), "{about}");
        let why = about["failures"][0]["message"].as_str().unwrap();
        assert!(why.contains("`compensation` of `[engine]`"), "{why}");
        runtime.shutdown().await;
    }
}

/// A run that ends well undoes nothing, and says so.
#[tokio::test(start_paused = true)]
async fn nothing_is_undone_of_a_run_that_ends_well() {
    let world = Arc::new(World::default());
    let journey = journey(&world);
    let runtime = runtime(Store::memory(), &journey).await;
    let run = runtime.runs().start(start(&journey, true, None)).await.unwrap();
    world.is_there.notified().await;
    run.skip(&JobKey::new("go/now"), "the others go").await.unwrap();
    let view = ended(&runtime).await;
    assert_eq!(view.run.state, RunState::PartiallySucceeded);
    assert!(undone(&world).is_empty() && compensations(&view).is_empty());
    let last = view.stages.last().unwrap();
    let outcome = last.outcome.map(|it| it.name());
    assert_eq!((last.stage.as_str(), outcome), ("compensation", Some("skipped")));
    runtime.shutdown().await;
}
