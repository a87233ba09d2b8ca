//! What an attempt has from its claim to its end, and what is free after that: its time, its place, what it held; and that nothing
//! of it is begun twice or left behind.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use perennial::{
    Adoption, Limits, Runtime, Store,
    engine::{
        staged::Which,
        workflow::{JobKey, JobState, SkipReason},
    },
    records::{AttemptEnd, FailureClass, JobRecord, RunHandle, RunView},
};

use crate::{
    gate::SOON,
    trial::{Does, Made, Task, Trial, World, builder, start, start_within, task, trials},
};

async fn runtime(world: &Arc<World>) -> Runtime {
    builder(world).store(Store::memory()).start().await.unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn tasks(tasks: &[(&str, Does)]) -> Vec<Task> {
    tasks.iter().map(|(name, does)| task(name, *does)).collect()
}

async fn ended(run: &RunHandle) -> RunView {
    let outcome = tokio::time::timeout(secs(3_600), run.outcome()).await.expect("it ends");
    outcome.unwrap().view.clone()
}

/// The same in real time, which is what reading a definition again takes.
async fn soon(run: &RunHandle) -> RunView {
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.expect("it ends");
    outcome.unwrap().view.clone()
}

fn job<'a>(view: &'a RunView, key: &str) -> &'a JobRecord {
    view.jobs.iter().find(|job| job.key.as_str() == key).unwrap()
}

/// How many attempts of the runtime there are.
fn attempts(runtime: &Runtime) -> usize {
    let nodes = runtime.supervision_tree().nodes();
    nodes.iter().filter(|node| node.path.starts_with("/perennial/tasks/")).count()
}

/// Proves FL3.
/// With one place in the stage and one on the node; what an attempt gives is a value of its type, for the next stage and the run.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_has_failed_with_its_words_and_its_place_is_free() {
    let world = World::new();
    let limits = Limits { attempts: 1, ..Limits::default() };
    let runtime = builder(&world).store(Store::memory()).limits(limits).start().await.unwrap();
    let tasks = tasks(&[("bad", Does::Panics), ("good", Does::Ends(10)), ("more", Does::Panics)]);
    let trial = Trial { tasks, places: 1, next: Some(Does::Ends(10)), ..Trial::default() };
    let run = start(&runtime, &world, "r", &trial).await;
    let view = ended(&run).await;
    assert_eq!(view.run.state.name(), "partially_succeeded");
    for name in ["bad", "more"] {
        let failed = job(&view, &format!("work/{name}"));
        assert_eq!((failed.state, failed.attempts_used), (JobState::Failed, 1));
        let attempt = view.attempts.iter().find(|attempt| attempt.job == failed.id).unwrap();
        assert_eq!(attempt.end, Some(AttemptEnd::Error));
        assert_eq!(attempt.class, Some(FailureClass::Panic));
        let words = attempt.message.as_deref().unwrap();
        assert!(words.contains(&format!("{name} fell over")), "{words}");
        assert!(words.contains("trial.rs"), "and where: {words}");
        assert_eq!(job(&view, &format!("next/{name}")).skipped, Some(SkipReason::Upstream));
    }
    let (bad, good) = (world.at("bad is over"), world.at("good begins"));
    assert!(good >= bad && good <= bad + secs(1), "{bad:?}, {good:?}");
    let made = |key: &str| -> Made {
        serde_json::from_value(job(&view, key).result.clone().unwrap()).unwrap()
    };
    assert_eq!(made("work/good"), Made { by: "good".to_owned(), letters: 4 });
    assert_eq!(made("next/good"), Made { by: "after good".to_owned(), letters: 10 });
    assert_eq!(trials(&world).output(&view).unwrap(), 14);
    assert_eq!(attempts(&runtime), 0);
    runtime.shutdown().await;
}

/// Proves D25.
/// Whoever waits for a place loses no time of its attempt; when that is up, the work is dropped, and what it held is given back
/// then.
#[tokio::test(start_paused = true)]
async fn the_time_of_an_attempt_begins_with_its_claim_and_its_work_ends_before_what_it_held() {
    let world = World::new();
    let runtime = runtime(&world).await;
    let names = ["a", "b", "c", "d"];
    let mut tasks: Vec<Task> = names.iter().map(|name| task(name, Does::Ends(1_900))).collect();
    tasks.push(task("holds", Does::Holds));
    let trial = Trial { tasks, places: 1, attempt_ms: Some(2_000), ..Trial::default() };
    let run = start(&runtime, &world, "r", &trial).await;
    let view = ended(&run).await;
    for name in names {
        assert_eq!(job(&view, &format!("work/{name}")).state, JobState::Succeeded, "{name}");
    }
    let late = job(&view, "work/holds");
    let attempt = view.attempts.iter().find(|attempt| attempt.job == late.id).unwrap();
    assert_eq!((late.state, attempt.end), (JobState::Failed, Some(AttemptEnd::TimedOut)));
    let took = attempt.ended_at.unwrap().since(attempt.claimed_at);
    assert!((2_000..2_100).contains(&took.as_millis()), "{took:?}");
    assert!(attempt.claimed_at.since(view.run.created_at) >= Duration::from_millis(7_600));
    world.until("app stops").await;
    let told = world.told();
    let at = |what: &str| told.iter().position(|told| told == what).unwrap();
    assert!(at("app starts") < at("holds is over"), "{told:?}");
    assert!(at("holds is over") < at("app stops"), "{told:?}");
    runtime.shutdown().await;
}

/// When all of it must have ended, in microseconds.
fn deadline(job: &JobRecord) -> i64 {
    job.input["deadline"].as_i64().unwrap_or_else(|| panic!("{} has none", job.key))
}

/// Proves R3.7, B47.
/// A group of 5 s whose children, and those of groups within it, say that they may take a minute; and a run of 3 s. What waits for
/// the one room of the node begins when the time is up.
#[tokio::test(start_paused = true)]
async fn what_is_inside_ends_with_what_is_around_it_and_leaves_room() {
    for within in [None, Some(secs(3))] {
        let world = World::new();
        let limits = Limits { attempts: 3, ..Limits::default() };
        let runtime = builder(&world).store(Store::memory()).limits(limits).start().await.unwrap();
        let tasks = tasks(&[("holds", Does::Holds)]);
        let job_ms = within.is_none().then_some(5_000);
        let attempt_ms = within.map(|_| 3_000);
        let trial =
            Trial { tasks, depth: Some(2), places: 1, job_ms, attempt_ms, ..Trial::default() };
        let run = start_within(&runtime, &world, "r", &trial, within).await;
        for depth in 0..3 {
            world.until(&format!("holds{depth} begins")).await;
        }
        world.until("app starts").await;
        let other = Trial { tasks: vec![task("other", Does::Ends(10))], ..Trial::default() };
        let other = start(&runtime, &world, "other", &other).await;
        let begun = run.view().await.unwrap();
        assert_eq!(begun.jobs.len(), 6);
        for inner in begun.jobs.iter().filter(|job| within.is_none() && job.parent.is_some()) {
            let outer = job(&begun, inner.parent.as_ref().unwrap().as_str());
            assert!(deadline(inner) <= deadline(outer), "{} {}", inner.key, outer.key);
        }
        let view = ended(&run).await;
        let took = view.run.finished_at.unwrap().since(view.run.created_at);
        let most = within.unwrap_or(secs(5));
        assert!(took >= most && took < most + secs(1), "{took:?}");
        let end = if within.is_some() { "timed_out" } else { "failed" };
        assert_eq!(view.run.state.name(), end);
        for depth in 0..3 {
            let over = world.at(&format!("holds{depth} is over"));
            assert!(over < most + secs(1), "{over:?}");
        }
        assert_eq!(view.attempts.len(), 3);
        for attempt in &view.attempts {
            let end = attempt.end.unwrap();
            assert!(matches!(end, AttemptEnd::Cancelled | AttemptEnd::TimedOut), "{end}");
        }
        if within.is_none() {
            let group = job(&view, "work/g");
            assert_eq!(group.result.as_ref().unwrap()["class"], "timeout");
        }
        ended(&other).await;
        let begins = world.at("other begins");
        assert!(begins >= most && begins < most + secs(1), "{begins:?}");
        world.until("app stops").await;
        assert!(world.at("app stops") < most + secs(2));
        assert_eq!(attempts(&runtime), 0);
        runtime.shutdown().await;
    }
}

/// Proves B27.
/// One attempt at a time on the node, three places in the stage; and a start that a runtime refuses because it stops.
#[tokio::test]
async fn what_no_place_is_free_for_or_is_refused_stays_ready_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let limits = Limits { attempts: 1, ..Limits::default() };
    let at = || {
        let builder = builder(&world).store(Store::sqlite(dir.path().join("runs.db")));
        builder.limits(limits).adoption(Adoption::OnRequest).drain_within(Duration::ZERO)
    };
    let runtime = at().start().await.unwrap();
    let three = tasks(&[("a", Does::Holds), ("b", Does::Ends(0)), ("c", Does::Ends(0))]);
    let trial = Trial { tasks: three, places: 3, ..Trial::default() };
    let run = start(&runtime, &world, "r", &trial).await;
    world.until("app starts").await;
    let check = |view: &RunView, ends: &[Option<AttemptEnd>]| {
        for key in ["work/b", "work/c"] {
            let waits = job(view, key);
            let told = (waits.state, waits.attempt, waits.attempts_used, &waits.lease);
            assert_eq!(told, (JobState::Ready, 0, 0, &None), "{key}");
        }
        let all: Vec<_> = view.attempts.iter().map(|attempt| attempt.end).collect();
        assert_eq!(all, ends);
    };
    check(&run.view().await.unwrap(), &[None]);
    assert_eq!(attempts(&runtime), 1);
    let runs = runtime.runs().clone();
    let refused = async {
        tokio::task::yield_now().await;
        let mut late = trials(&world).start(&trial).unwrap();
        late.run = Some(perennial::RunId::parse("late").unwrap());
        runs.start(late).await
    };
    let (refused, _) = tokio::join!(refused, runtime.shutdown());
    assert!(refused.is_err(), "{refused:?}");

    let runtime = at().start().await.unwrap();
    let left = runtime.runs().list(9).await.unwrap();
    assert!(left.iter().all(|run| run.run.as_str() == "r"), "what is refused is not there");
    let again = runtime.runs().get(run.id()).await.unwrap();
    let view = again.view().await.unwrap();
    check(&view, &[Some(AttemptEnd::Released)]);
    let first = job(&view, "work/a");
    assert_eq!((first.state, first.attempts_used, &first.lease), (JobState::Ready, 0, &None));
    assert_eq!(attempts(&runtime), 0, "and nobody works at it");
    world.is_healed.store(true, Ordering::SeqCst);
    runtime.runs().resume(run.id()).await.unwrap();
    let view = tokio::time::timeout(SOON, again.outcome()).await.unwrap().unwrap().view.clone();
    assert_eq!(view.run.state.name(), "succeeded");
    let begun = ["a begins", "b begins", "c begins"].map(|what| world.count(what));
    assert_eq!(begun, [2, 1, 1]);
    runtime.shutdown().await;
}

/// Proves TRAP-11.
/// The actor of the run fails behind each of its first events, and a few more; what is under way goes on, and is found again.
#[tokio::test(start_paused = true)]
async fn the_actor_of_a_run_that_begins_anew_repeats_nothing() {
    let world = World::new();
    let runtime = runtime(&world).await;
    let names: Vec<String> = (0..6).map(|number| format!("t{number}")).collect();
    let tasks = names.iter().map(|name| task(name, Does::Ends(60_000))).collect();
    let trial = Trial { tasks, places: 2, next: Some(Does::Ends(40_000)), ..Trial::default() };
    let run = start(&runtime, &world, "r", &trial).await;
    let (mut events, mut crashes) = (run.events(1), 0);
    loop {
        let event = events.next().await.unwrap();
        if event.kind == "run_closed" {
            break;
        }
        if let Ok(actor) = runtime.supervision_tree().crash("/perennial/runs/r") {
            actor.exit().await;
            crashes += 1;
        }
        tokio::time::sleep(secs(13)).await; // paused clock: no more often than it may fail
    }
    assert!(crashes >= 12, "{crashes}");
    let view = ended(&run).await;
    assert_eq!(view.run.state.name(), "succeeded");
    assert_eq!((view.jobs.len(), view.attempts.len()), (12, 12), "one attempt each");
    for name in &names {
        for what in [name.clone(), format!("after {name}")] {
            assert_eq!(world.count(&format!("{what} begins")), 1, "{what}");
        }
    }
    let events = run.events(1).rest().await.unwrap();
    let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    let counts = ["job_ready", "attempt_started", "job_succeeded", "stage_closed", "run_closed"];
    assert_eq!(counts.map(count), [12, 12, 12, 2, 1]);
    runtime.shutdown().await;
}

/// What the first stage fails with later on is the end of the second, and of what goes on there; all of it is made again.
#[tokio::test]
async fn a_stage_that_fails_with_its_upstream_stops_what_goes_on_in_it() {
    let world = World::new();
    let runtime = runtime(&world).await;
    let tasks = tasks(&[("a", Does::Ends(10)), ("slow", Does::Ends(100)), ("bad", Does::Fails)]);
    let trial =
        Trial { tasks, places: 1, next: Some(Does::Stays), fails_stage: true, ..Trial::default() };
    let run = start(&runtime, &world, "r", &trial).await;
    let view = soon(&run).await;
    assert_eq!(view.run.state.name(), "failed");
    let why = view.run.failure.as_ref().unwrap()["message"].as_str().unwrap().to_owned();
    assert!(why.contains("stage next stopped") && why.contains("next/bad"), "{why}");
    let born = job(&view, "next/bad");
    assert_eq!((born.state, born.attempt), (JobState::Failed, 0));
    assert_eq!(job(&view, "next/a").state, JobState::Cancelled);
    let (failed, over) = (world.at("bad is over"), world.at("after a is over"));
    assert!(over >= failed && over < failed + SOON, "{failed:?}, {over:?}");
    world.is_healed.store(true, Ordering::SeqCst);
    run.retry(&Which::Failed, false).await.unwrap();
    let view = soon(&run).await;
    assert_eq!(view.run.state.name(), "succeeded", "{:?}", view.run.failure);
    assert_eq!(["a begins", "slow begins", "bad begins"].map(|it| world.count(it)), [1, 1, 2]);
    runtime.shutdown().await;
}

/// What cannot be given to the next stage has failed there without an attempt, until its upstream gives something else.
#[tokio::test]
async fn what_cannot_be_given_on_has_failed_before_it_began() {
    let world = World::new();
    let runtime = runtime(&world).await;
    let tasks = tasks(&[("odd", Does::Odd), ("even", Does::Ends(10))]);
    let trial = Trial { tasks, places: 2, next: Some(Does::Ends(10)), ..Trial::default() };
    let run = start(&runtime, &world, "r", &trial).await;
    for _ in 0..2 {
        let view = soon(&run).await;
        assert_eq!(view.run.state.name(), "partially_succeeded");
        let born = job(&view, "next/odd");
        assert_eq!((born.state, born.attempt), (JobState::Failed, 0));
        let why = born.result.as_ref().unwrap()["message"].as_str().unwrap();
        assert_eq!(why, "its input cannot be kept: it has no letters");
        // As long as nothing else is given it is the same again.
        run.retry(&Which::Failed, false).await.unwrap();
    }
    soon(&run).await;
    world.is_healed.store(true, Ordering::SeqCst);
    run.retry(&Which::Job(JobKey::new("work/odd")), false).await.unwrap();
    let view = soon(&run).await;
    assert_eq!(view.run.state.name(), "succeeded");
    assert_eq!(["odd begins", "even begins", "after even begins"].map(|it| world.count(it)), {
        [2, 1, 1]
    });
    assert_eq!(world.count("after odd begins"), 1);
    runtime.shutdown().await;
}

/// Somebody skips a group while all of its children are under way: they are stopped, what follows is skipped, and the rest is done;
/// it can be made after all.
#[tokio::test]
async fn a_group_is_skipped_while_its_children_are_under_way() {
    let world = World::new();
    let runtime = runtime(&world).await;
    let tasks = tasks(&[("stays", Does::Holds), ("ends", Does::Ends(10))]);
    let trial =
        Trial { tasks, depth: Some(1), places: 1, next: Some(Does::Ends(10)), ..Trial::default() };
    let run = start(&runtime, &world, "r", &trial).await;
    for what in ["ends1 is over", "ends0 is over", "stays1 begins", "stays0 begins", "app starts"] {
        world.until(what).await;
    }
    let group = JobKey::new("work/g");
    assert!(run.skip(&group, "it is too slow").await.unwrap());
    let view = soon(&run).await;
    // Nothing was done of its own.
    assert_eq!(view.run.state.name(), "failed");
    let skipped = job(&view, "work/g");
    assert_eq!((skipped.state, skipped.skipped), (JobState::Skipped, Some(SkipReason::Operator)));
    assert_eq!(skipped.result, Some("it is too slow".into()));
    let (done, cut) = (JobState::Succeeded, JobState::Cancelled);
    for (key, state) in [
        ("work/g/ends", done),
        ("work/g/stays", cut),
        ("work/g/deep", cut),
        ("work/g/deep/ends", done),
        ("work/g/deep/stays", cut),
    ] {
        assert_eq!(job(&view, key).state, state, "{key}");
    }
    assert_eq!(job(&view, "next/g").skipped, Some(SkipReason::Upstream));
    world.until("app stops").await;
    assert_eq!((world.count("stays0 is over"), world.count("stays1 is over")), (1, 1));
    assert_eq!(attempts(&runtime), 0);
    world.is_healed.store(true, Ordering::SeqCst);
    run.retry(&Which::Job(group), false).await.unwrap();
    let view = soon(&run).await;
    assert_eq!(view.run.state.name(), "succeeded", "{:?}", view.jobs);
    assert_eq!(world.count("after g begins"), 1);
    runtime.shutdown().await;
}
