//! SUP dynamic API: what each request answers in each state of the id (table 5.5).

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use perennial_core::{ChildType, Restart, Shutdown};
use perennial_supervision::{
    CallError, ChildSpec, ChildStatus, RequestError, Supervisor, SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, SOON, Start, World, ids, root, status, until},
};

proves!(an_id_that_is_taken_is_not_started_again, ["SUP-179", "SUP-180"]);
async fn an_id_that_is_taken_is_not_started_again() {
    let world = World::start(|spec| spec).await;
    world.log.take();
    let again = || Probe::new("a", &world.log).0;
    let running = world.top().start_child(again()).await.unwrap_err();
    assert!(matches!(running, RequestError::AlreadyStarted(..)), "{running:?}");
    assert!(world.log.take().is_empty(), "nothing is started");
    assert_eq!((world.probes[0].ping().await, world.incarnation("a")), (Ok(1), 1));
    world.top().terminate_child("a").await.unwrap();
    world.log.take();
    let stopped = world.top().start_child(again()).await.unwrap_err();
    assert!(matches!(stopped, RequestError::AlreadyPresent(..)), "{stopped:?}");
    assert!(world.log.take().is_empty(), "nothing is started");
}

proves!(a_failed_start_discards_a_new_child, ["SUP-181"]);
async fn a_failed_start_discards_a_new_child() {
    let world = World::start(|spec| spec).await;
    let (fails, probe) = Probe::new("new", &world.log);
    probe.script(&[Start::Fails]);
    let refused = world.top().start_child(fails).await.unwrap_err();
    assert!(refused.to_string().contains("start fails"), "{refused}");
    assert_eq!(ids(world.top()), ["a", "b", "c"]);
    for (probe, name) in world.probes.iter().zip(["a", "b", "c"]) {
        assert_eq!((probe.ping().await, world.incarnation(name)), (Ok(1), 1));
    }
    assert_eq!(world.node("/top").incarnation, 1);
    let (works, probe) = Probe::new("new", &world.log);
    assert!(world.top().start_child(works).await.is_ok());
    assert_eq!(probe.ping().await, Ok(1));
}

proves!(a_failed_restart_by_hand_keeps_the_child_and_never_escalates, ["SUP-196"]);
async fn a_failed_restart_by_hand_keeps_the_child_and_never_escalates() {
    let world = World::start(|spec| spec.intensity(1, SOON)).await;
    world.top().terminate_child("a").await.unwrap();
    world.probes[0].script(&[Start::Panics; 9]);
    for _ in 0..9 {
        let refused = world.top().restart_child("a").await.unwrap_err();
        assert!(matches!(refused, RequestError::StartFailed(_)), "{refused:?}");
        assert_eq!(status(world.top(), "a"), ChildStatus::Stopped);
    }
    assert!(world.top().restart_child("a").await.is_ok());
    assert_eq!(world.probes[0].ping().await, Ok(1));
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.probes[0].answers().await, 1, "nothing had counted before");
    assert_eq!((world.counted(), world.incarnation("b")), (1, 1));
}

proves!(a_slow_start_holds_its_supervisor_and_no_request_expires, ["SUP-185", "SUP-207"]);
async fn a_slow_start_holds_its_supervisor_and_no_request_expires() {
    const HOUR: Duration = Duration::from_secs(3600);
    let world = World::start(|spec| spec).await;
    let top = world.top();
    let clock = world.root.tree().clock();
    let before = clock.now();
    let (slow, probe) = Probe::new("slow", &world.log);
    probe.script(&[Start::Hangs]);
    let starting = async {
        let answer = top.start_child(slow.start_within(HOUR)).await;
        (answer.is_err(), clock.now().since(before))
    };
    let other = async {
        tokio::task::yield_now().await;
        top.terminate_child("a").await.unwrap();
        clock.now().since(before)
    };
    let (started, terminated) = tokio::join!(starting, other);
    assert_eq!(started, (true, HOUR));
    assert_eq!(terminated, HOUR, "it was served after the start");
}

proves!(a_child_that_asks_its_supervisor_while_it_starts_is_told_so, ["SUP-186"]);
async fn a_child_that_asks_its_supervisor_while_it_starts_is_told_so() {
    let slot: Arc<OnceLock<Supervisor>> = Arc::default();
    let log = Log::default();
    let (asked, lines) = (slot.clone(), log.clone());
    let child = ChildSpec::actor("asker", move || (Asker, (asked.clone(), lines.clone()))).0;
    let (inner, handle) = Supervisor::child_spec(SupervisorSpec::new("inner").child(child));
    slot.set(handle).unwrap();
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    assert_eq!(log.take(), ["CallingSelf"]);
    root.shutdown().await;
}

struct Asker;

impl Actor for Asker {
    type Msg = ();
    type State = ();
    type Arguments = (Arc<OnceLock<Supervisor>>, Log);

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        (supervisor, log): Self::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        let refused = supervisor.get().unwrap().terminate_child("x").await.unwrap_err();
        log.add(format!("{refused:?}"));
        Ok(())
    }
}

proves!(a_terminated_child_is_dead_and_stays_so, ["SUP-187", "SUP-188", "SUP-189", "SUP-191"]);
async fn a_terminated_child_is_dead_and_stays_so() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let world = World::start_with(&[restart], |spec| spec).await.unwrap();
        world.top().terminate_child("a").await.unwrap();
        assert_eq!(world.log.take(), ["a started", "a cleaned", "a dropped"]);
        assert_eq!(world.probes[0].ping().await, Err(CallError::NoProc));
        tokio::time::advance(SOON).await;
        let again = world.top().terminate_child("a").await;
        if restart == Restart::Temporary {
            assert!(ids(world.top()).is_empty());
        } else {
            again.unwrap();
            assert_eq!(status(world.top(), "a"), ChildStatus::Stopped, "{restart:?}");
        }
        assert!(world.log.take().is_empty(), "{restart:?} is not restarted");
    }
}

proves!(an_unknown_id_is_not_found, ["SUP-190"]);
async fn an_unknown_id_is_not_found() {
    let world = World::start(|spec| spec).await;
    let unknown = world.top().terminate_child("x").await.unwrap_err();
    assert_eq!(unknown, RequestError::NotFound("x".into()));
}

proves!(terminating_keeps_to_the_shutdown_of_the_child, ["SUP-193"]);
async fn terminating_keeps_to_the_shutdown_of_the_child() {
    let two_seconds = Shutdown::Timeout(Duration::from_secs(2));
    for (cleanup, shutdown, secs, expected) in [
        (Cleanup::Works, two_seconds, 0, &["a cleaned", "a dropped"][..]),
        (Cleanup::Hangs, two_seconds, 2, &["a cleaned", "a dropped"]),
        (Cleanup::Works, Shutdown::Infinity, 0, &["a cleaned", "a dropped"]),
        (Cleanup::Works, Shutdown::BrutalKill, 0, &["a dropped"]),
    ] {
        let log = Log::default();
        let (a, _) = Probe::with_cleanup("a", &log, cleanup);
        let root = root(SupervisorSpec::new("top").child(a.shutdown(shutdown))).await;
        log.take();
        let begun = root.tree().clock().now();
        root.supervisor().terminate_child("a").await.unwrap();
        assert_eq!(root.tree().clock().now().since(begun), Duration::from_secs(secs));
        assert_eq!(log.take(), expected, "{cleanup:?} {shutdown:?}");
        let killed = cleanup == Cleanup::Hangs || shutdown == Shutdown::BrutalKill;
        let reason = root.tree().nodes()[1].last_exit.as_ref().unwrap().reason.clone();
        assert_eq!(reason, if killed { "killed" } else { "shutdown" });
    }
}

proves!(requests_answer_by_the_state_of_the_id, ["SUP-195", "SUP-198", "SUP-199"]);
async fn requests_answer_by_the_state_of_the_id() {
    let world = World::start(|spec| spec).await;
    let top = world.top();
    let missing = || RequestError::NotFound("a".into());
    assert_eq!(top.restart_child("a").await.unwrap_err(), RequestError::Running("a".into()));
    assert_eq!(top.delete_child("a").await.unwrap_err(), RequestError::Running("a".into()));
    assert_eq!(ids(top), ["a", "b", "c"]);
    assert_eq!((world.probes[0].ping().await, world.incarnation("a")), (Ok(1), 1));

    top.terminate_child("a").await.unwrap();
    assert!(top.delete_child("a").await.is_ok());
    assert_eq!(ids(top), ["b", "c"]);
    assert_eq!(top.delete_child("a").await.unwrap_err(), missing());
    assert_eq!(top.restart_child("a").await.unwrap_err(), missing());
    let (again, probe) = Probe::new("a", &world.log);
    assert!(top.start_child(again).await.is_ok());
    assert_eq!(probe.ping().await, Ok(1));
}

proves!(children_are_listed_and_counted_by_type_and_state, ["SUP-200", "SUP-203"]);
async fn children_are_listed_and_counted_by_type_and_state() {
    let log = Log::default();
    let (running, _) = Probe::new("running", &log);
    let (stopped, _) = Probe::new("stopped", &log);
    let (restarting, probe) = Probe::new("restarting", &log);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner"));
    let (other, _) = Supervisor::child_spec(SupervisorSpec::new("other"));
    let spec = SupervisorSpec::new("top")
        .child(running)
        .child(stopped)
        .child(restarting.restart_delay(SOON))
        .child(inner)
        .child(other);
    let root = root(spec).await;
    let top = root.supervisor();
    top.terminate_child("stopped").await.unwrap();
    top.terminate_child("other").await.unwrap();
    probe.end(|| Message::Panic).await;
    until(|| status(top, "restarting") == ChildStatus::Restarting).await;

    let mut listed: Vec<_> = top
        .which_children()
        .unwrap()
        .into_iter()
        .map(|child| (child.name().to_owned(), child.status, child.child_type))
        .collect();
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("inner", ChildStatus::Running, ChildType::Supervisor),
        ("other", ChildStatus::Stopped, ChildType::Supervisor),
        ("restarting", ChildStatus::Restarting, ChildType::Worker),
        ("running", ChildStatus::Running, ChildType::Worker),
        ("stopped", ChildStatus::Stopped, ChildType::Worker),
    ];
    assert_eq!(listed, expected.map(|(id, status, kind)| (id.to_owned(), status, kind)));

    let counts = top.count_children().unwrap();
    assert_eq!((counts.specs, counts.active), (5, 2));
    assert_eq!((counts.supervisors, counts.workers), (2, 3), "running or not");
}

proves!(a_caller_that_gives_up_harms_nobody_and_gets_what_it_asked_for, ["SUP-206"]);
async fn a_caller_that_gives_up_harms_nobody_and_gets_what_it_asked_for() {
    let world = World::start(|spec| spec).await;
    let top = world.top().clone();
    let (late, probe) = Probe::new("late", &world.log);
    {
        let mut request = pin!(top.start_child(late));
        assert!(futures_util::poll!(&mut request).is_pending());
    }
    top.terminate_child("a").await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));

    let (slow, hangs) = Probe::new("slow", &world.log);
    hangs.script(&[Start::Hangs]);
    let expired = tokio::time::timeout(Duration::from_secs(1), top.start_child(slow)).await;
    assert!(expired.is_err(), "the caller timed out");
    assert!(top.restart_child("a").await.is_ok(), "and the supervisor serves");
    assert_eq!(world.node("/top").incarnation, 1);
    assert_eq!(world.probes[1].ping().await, Ok(1));
}
