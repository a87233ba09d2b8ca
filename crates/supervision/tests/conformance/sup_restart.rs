//! SUP restart types: who comes back after which end, and as what.

use perennial_core::{ExitReason, Restart, tree::Restarts};
use perennial_supervision::{CallError, ChildStatus};

use crate::{
    harness::proves,
    probe::{Log, Message, Probe, World, ids, status, until},
};

/// The name of a reason, the message that causes it or none for a kill, and whether it is abnormal.
type Way = (&'static str, Option<fn() -> Message>, bool);

const WAYS: [Way; 7] = [
    ("normal", Some(|| Message::StopSelf), false),
    ("shutdown", Some(|| Message::Exit(ExitReason::Shutdown)), false),
    ("shutdown_with", Some(|| Message::Exit(ExitReason::ShutdownWith("x".into()))), false),
    ("panic", Some(|| Message::Panic), true),
    ("error", Some(|| Message::Fail), true),
    ("killed", Some(|| Message::Exit(ExitReason::Killed)), true),
    ("killed", None, true),
];

proves!(
    every_policy_meets_every_reason,
    [
        "SUP-057", "SUP-058", "SUP-059", "SUP-060", "SUP-061", "SUP-062", "SUP-063", "SUP-064",
        "SUP-066", "SUP-067", "SUP-068", "SUP-069"
    ],
    because = "the rows are the cells of one table, and each cell is asserted in the same way"
);
async fn every_policy_meets_every_reason() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for (name, message, abnormal) in WAYS {
            let world = World::start_with(&[restart], |spec| spec).await.unwrap();
            let ended = match message {
                Some(message) => world.probes[0].end(message).await,
                None => world.root.tree().kill("/top/a").unwrap().exit().await,
            };
            assert_eq!(ended.name(), name);
            let comes_back = match restart {
                Restart::Permanent => true,
                Restart::Transient => abnormal,
                Restart::Temporary => false,
            };
            if comes_back {
                assert_eq!(world.probes[0].answers().await, 1, "{restart:?} {name}");
                assert_eq!(world.node("/top/a").restarts, Restarts { total: 1, in_window: 1 });
                continue;
            }
            let gone = world.probes[0].settled().await;
            assert_eq!(gone, Err(CallError::NoProc), "{restart:?} {name}");
            let kept = restart != Restart::Temporary;
            assert_eq!(ids(world.top()), vec!["a"; usize::from(kept)], "{restart:?} {name}");
            let counts = world.top().count_children().unwrap();
            assert_eq!((counts.specs, counts.active), (usize::from(kept), 0), "{restart:?} {name}");
            if kept {
                assert_eq!(status(world.top(), "a"), ChildStatus::Stopped);
            }
        }
    }
}

proves!(what_ended_for_good_can_be_started_again_by_hand, ["SUP-065", "SUP-070"]);
async fn what_ended_for_good_can_be_started_again_by_hand() {
    let restarts = [Restart::Transient, Restart::Temporary];
    let world = World::start_with(&restarts, |spec| spec).await.unwrap();
    for probe in &world.probes {
        probe.end(|| Message::StopSelf).await;
        assert_eq!(probe.settled().await, Err(CallError::NoProc));
    }
    world.top().restart_child("a").await.unwrap();
    assert_eq!(world.probes[0].ping().await, Ok(1));
    let (again, probe) = Probe::new("b", &world.log);
    world.top().start_child(again.restart(Restart::Temporary)).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));
}

proves!(a_restarted_child_is_a_new_actor, ["SUP-074"]);
async fn a_restarted_child_is_a_new_actor() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let probe = &world.probes[0];
    assert_eq!((probe.ping().await, probe.ping().await), (Ok(1), Ok(2)));
    world.log.take();
    let old = probe.address.whereis().unwrap();
    probe.address.cast(Message::Panic).unwrap();
    probe.address.cast(Message::Work("queued")).unwrap();
    until(|| world.incarnation("a") == 2).await;
    assert_eq!(probe.answers().await, 1, "its state is fresh");
    let new = probe.address.whereis().unwrap();
    assert_eq!((old.is_alive(), new.is_alive()), (false, true));
    assert_ne!(old, new, "its identity is its own");
    assert_ne!(old.to_string(), new.to_string(), "and so it is for who reads it");
    assert_eq!(world.log.take(), ["a cleaned", "a dropped", "a started"], "nothing is inherited");
}

proves!(a_restart_keeps_the_place_in_the_order, ["SUP-075"]);
async fn a_restart_keeps_the_place_in_the_order() {
    let world = World::start(|spec| spec).await;
    world.probes[0].end(|| Message::Panic).await;
    world.probes[0].answers().await;
    world.log.take();
    world.root.shutdown().await;
    let lines = world.log.take();
    let cleaned: Vec<&String> = lines.iter().filter(|line| line.ends_with("cleaned")).collect();
    assert_eq!(cleaned, ["c cleaned", "b cleaned", "a cleaned"]);
}

proves!(the_ids_of_two_supervisors_do_not_meet, ["SUP-242"]);
async fn the_ids_of_two_supervisors_do_not_meet() {
    let one = World::start(|spec| spec).await;
    let other = World::start(|spec| spec).await;
    one.probes[0].end(|| Message::Panic).await;
    one.probes[0].answers().await;
    one.top().terminate_child("b").await.unwrap();
    one.top().delete_child("b").await.unwrap();
    assert_eq!((ids(one.top()).len(), ids(other.top()).len()), (2, 3));
    for (probe, name) in other.probes.iter().zip(["a", "b", "c"]) {
        assert_eq!((probe.ping().await, other.incarnation(name)), (Ok(1), 1));
    }
    one.root.shutdown().await;
    let (more, probe) = Probe::new("d", &Log::default());
    other.top().start_child(more).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));
}
