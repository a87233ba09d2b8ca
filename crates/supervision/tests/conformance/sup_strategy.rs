//! SUP strategies: what a restart does to the siblings.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown, Strategy};
use perennial_supervision::{
    CallError, ChildStatus, LifecycleEvent, LifecycleStream, Supervisor, SupervisorSpec,
};

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, SOON, Start, World, ids, root, status, until},
};

const GROUPS: [Strategy; 2] = [Strategy::OneForAll, Strategy::RestForOne];

/// What happened but for the drops.
fn events(log: &Log) -> Vec<String> {
    log.take().into_iter().filter(|line| !line.ends_with("dropped")).collect()
}

fn incarnations(world: &World) -> [u64; 3] {
    ["a", "b", "c"].map(|name| world.incarnation(name))
}

/// The next end of the node at `path`.
async fn end_of(path: &str, lifecycle: &mut LifecycleStream) -> ExitReason {
    loop {
        let event = lifecycle.next().await.unwrap();
        if let LifecycleEvent::Exited { reason, .. } = event.event
            && event.path == path
        {
            return reason;
        }
    }
}

proves!(one_for_one_replaces_the_failed_child_only, ["SUP-079"]);
async fn one_for_one_replaces_the_failed_child_only() {
    let world = World::start(|spec| spec).await;
    for probe in &world.probes {
        assert_eq!(probe.ping().await, Ok(1));
    }
    world.probes[1].end(|| Message::Panic).await;
    assert_eq!(world.probes[1].answers().await, 1);
    assert_eq!((world.probes[0].ping().await, world.probes[2].ping().await), (Ok(2), Ok(2)));
    assert_eq!(incarnations(&world), [1, 2, 1]);
}

proves!(one_for_all_stops_the_others_in_reverse_and_starts_all_in_order, ["SUP-080", "SUP-081"]);
async fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let world = World::start(|spec| spec.strategy(Strategy::OneForAll)).await;
    world.log.take();
    world.probes[1].end(|| Message::Panic).await;
    for probe in &world.probes {
        assert_eq!(probe.answers().await, 1);
    }
    assert_eq!(incarnations(&world), [2, 2, 2]);
    assert_eq!(
        world.log.take(),
        [
            "b cleaned",
            "b dropped",
            "c cleaned",
            "c dropped",
            "a cleaned",
            "a dropped",
            "a started",
            "b started",
            "c started"
        ]
    );
}

proves!(the_siblings_of_a_group_are_stopped_one_by_one_as_they_wish, ["SUP-082"]);
async fn the_siblings_of_a_group_are_stopped_one_by_one_as_they_wish() {
    for strategy in GROUPS {
        let log = Log::default();
        let (a, first) = Probe::new("a", &log);
        let (b, _) = Probe::new("b", &log);
        let (c, _) = Probe::with_cleanup("c", &log, Cleanup::Hangs);
        let (d, _) = Probe::new("d", &log);
        let spec = SupervisorSpec::new("top")
            .strategy(strategy)
            .child(a)
            .child(b)
            .child(c.shutdown(Shutdown::Timeout(Duration::from_secs(2))))
            .child(d.shutdown(Shutdown::BrutalKill));
        let root = root(spec).await;
        let mut lifecycle = root.tree().lifecycle();
        log.take();
        let before = root.tree().clock().now();
        first.end(|| Message::Panic).await;
        for (path, reason) in [
            ("/top/d", ExitReason::Killed),
            ("/top/c", ExitReason::Killed),
            ("/top/b", ExitReason::Shutdown),
        ] {
            assert_eq!(end_of(path, &mut lifecycle).await, reason, "{path}");
        }
        assert_eq!(root.tree().clock().now().since(before), Duration::from_secs(2));
        assert_eq!(
            log.take()[2..7],
            ["d dropped", "c cleaned", "c dropped", "b cleaned", "b dropped"],
            "{strategy:?}"
        );
    }
}

proves!(a_group_restart_counts_once_and_causes_no_other, ["SUP-083", "SUP-093"]);
async fn a_group_restart_counts_once_and_causes_no_other() {
    for strategy in GROUPS {
        let world = World::start(|spec| spec.strategy(strategy).intensity(1, SOON)).await;
        world.log.take();
        world.probes[0].end(|| Message::Panic).await;
        for probe in &world.probes {
            assert_eq!(probe.answers().await, 1);
        }
        // Whatever the ends of the siblings might have set off has had its turn.
        tokio::time::advance(Duration::from_secs(1)).await;
        world.top().terminate_child("c").await.unwrap();
        assert_eq!(world.counted(), 1, "{strategy:?}");
        assert_eq!(incarnations(&world), [2, 2, 2], "{strategy:?}");
    }
}

proves!(rest_for_one_touches_only_those_started_later, ["SUP-084", "SUP-085"]);
async fn rest_for_one_touches_only_those_started_later() {
    let restarts = [Restart::Permanent; 4];
    let world =
        World::start_with(&restarts, |spec| spec.strategy(Strategy::RestForOne)).await.unwrap();
    assert_eq!(world.probes[0].ping().await, Ok(1));
    world.log.take();
    world.probes[1].end(|| Message::Panic).await;
    assert_eq!(world.probes[3].answers().await, 1);
    assert_eq!(
        events(&world.log),
        ["b cleaned", "d cleaned", "c cleaned", "b started", "c started", "d started"]
    );
    assert_eq!(incarnations(&world), [1, 2, 2]);
    assert_eq!(world.probes[0].ping().await, Ok(2), "the first one lives on");
}

proves!(rest_for_one_at_both_ends_of_the_list, ["SUP-086"]);
async fn rest_for_one_at_both_ends_of_the_list() {
    let world = World::start(|spec| spec.strategy(Strategy::RestForOne)).await;
    world.probes[2].end(|| Message::Panic).await;
    assert_eq!(world.probes[2].answers().await, 1);
    assert_eq!(incarnations(&world), [1, 1, 2]);
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.probes[2].answers().await, 1);
    assert_eq!(incarnations(&world), [2, 2, 3]);
}

proves!(what_is_added_comes_last, ["SUP-087"]);
async fn what_is_added_comes_last() {
    let world = World::start(|spec| spec.strategy(Strategy::RestForOne)).await;
    let (added, last) = Probe::new("d", &world.log);
    world.top().start_child(added).await.unwrap();
    world.top().terminate_child("a").await.unwrap();
    world.top().delete_child("a").await.unwrap();
    let (again, _) = Probe::new("a", &world.log);
    world.top().start_child(again).await.unwrap();
    world.log.take();
    last.end(|| Message::Panic).await;
    assert_eq!(last.answers().await, 1);
    until(|| world.incarnation("a") == 2).await;
    assert_eq!(events(&world.log), ["d cleaned", "a cleaned", "d started", "a started"]);
}

proves!(a_group_restart_starts_what_had_ended_or_was_terminated, ["SUP-088", "SUP-089"]);
async fn a_group_restart_starts_what_had_ended_or_was_terminated() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne, Strategy::OneForOne] {
        let restarts = [Restart::Permanent, Restart::Transient, Restart::Permanent];
        let world = World::start_with(&restarts, |spec| spec.strategy(strategy)).await.unwrap();
        world.probes[1].end(|| Message::StopSelf).await;
        world.top().terminate_child("c").await.unwrap();
        assert_eq!(world.probes[1].settled().await, Err(CallError::NoProc));
        world.log.take();
        world.probes[0].end(|| Message::Panic).await;
        assert_eq!(world.probes[0].answers().await, 1);
        if strategy == Strategy::OneForOne {
            assert_eq!(events(&world.log), ["a cleaned", "a started"]);
            assert_eq!(status(world.top(), "c"), ChildStatus::Stopped);
        } else {
            assert_eq!(world.probes[2].answers().await, 1);
            let all = ["a cleaned", "a started", "b started", "c started"];
            assert_eq!(events(&world.log), all, "{strategy:?}");
        }
    }
}

proves!(a_temporary_sibling_vanishes_with_the_restart_of_its_group, ["SUP-071", "SUP-072"]);
async fn a_temporary_sibling_vanishes_with_the_restart_of_its_group() {
    for strategy in GROUPS {
        let restarts = [Restart::Permanent, Restart::Temporary, Restart::Permanent];
        let world = World::start_with(&restarts, |spec| spec.strategy(strategy)).await.unwrap();
        world.log.take();
        world.probes[0].end(|| Message::Panic).await;
        assert_eq!(world.probes[2].answers().await, 1);
        let all = ["a cleaned", "c cleaned", "b cleaned", "a started", "c started"];
        assert_eq!(events(&world.log), all, "{strategy:?}");
        assert_eq!(ids(world.top()), ["a", "c"]);
        assert_eq!(world.probes[1].settled().await, Err(CallError::NoProc));
    }
}

proves!(an_end_that_needs_no_restart_leaves_the_group_alone, ["SUP-091", "SUP-092"]);
async fn an_end_that_needs_no_restart_leaves_the_group_alone() {
    for strategy in GROUPS {
        let restarts = [Restart::Temporary, Restart::Transient, Restart::Permanent];
        let world = World::start_with(&restarts, |spec| spec.strategy(strategy)).await.unwrap();
        world.log.take();
        world.probes[0].end(|| Message::Panic).await;
        assert_eq!(world.probes[0].settled().await, Err(CallError::NoProc));
        world.probes[1].end(|| Message::StopSelf).await;
        assert_eq!(world.probes[1].settled().await, Err(CallError::NoProc));
        assert_eq!(world.probes[2].ping().await, Ok(1));
        assert_eq!(world.incarnation("c"), 1);
        assert_eq!(events(&world.log), ["a cleaned", "b cleaned"], "{strategy:?}");
        assert_eq!(world.counted(), 0);
    }
}

proves!(simultaneous_crashes_in_a_group_count_once, ["SUP-094"]);
async fn simultaneous_crashes_in_a_group_count_once() {
    let world = World::start(|spec| spec.strategy(Strategy::OneForAll).intensity(1, SOON)).await;
    let mut lifecycle = world.root.tree().lifecycle();
    for probe in &world.probes[..2] {
        probe.address.cast(Message::Panic).unwrap();
    }
    assert_eq!(end_of("/top/a", &mut lifecycle).await.name(), "panic");
    assert_eq!(end_of("/top/b", &mut lifecycle).await.name(), "panic", "it is reported");
    for probe in &world.probes {
        assert_eq!(probe.answers().await, 1);
    }
    // Both ended before the supervisor got to the first: one step, one count.
    assert_eq!(world.counted(), 1);
    assert_eq!(incarnations(&world), [2, 2, 2]);
}

proves!(simultaneous_crashes_of_loners_count_each, ["SUP-095"]);
async fn simultaneous_crashes_of_loners_count_each() {
    let world = World::start(|spec| spec).await;
    for probe in &world.probes[..2] {
        probe.address.cast(Message::Panic).unwrap();
    }
    until(|| incarnations(&world) == [2, 2, 1]).await;
    assert_eq!(world.counted(), 2);
}

proves!(a_subtree_is_stopped_before_its_group_starts_again, ["SUP-099"]);
async fn a_subtree_is_stopped_before_its_group_starts_again() {
    for strategy in GROUPS {
        let log = Log::default();
        let (a, first) = Probe::new("a", &log);
        let (b, _) = Probe::new("b", &log);
        let (c, leaf) = Probe::new("c", &log);
        let (deep, _) = Supervisor::child_spec(SupervisorSpec::new("deep").child(c));
        let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(b).child(deep));
        let spec = SupervisorSpec::new("top").strategy(strategy).child(a).child(inner);
        let _root = root(spec).await;
        log.take();
        first.end(|| Message::Panic).await;
        assert_eq!(leaf.answers().await, 1);
        assert_eq!(
            log.take()[2..],
            [
                "c cleaned",
                "c dropped",
                "b cleaned",
                "b dropped",
                "a started",
                "b started",
                "c started"
            ],
            "{strategy:?}"
        );
    }
}

proves!(a_restarted_supervisor_has_the_children_it_was_declared_with, ["SUP-100"]);
async fn a_restarted_supervisor_has_the_children_it_was_declared_with() {
    let log = Log::default();
    let (kept, stays) = Probe::new("kept", &log);
    let (deleted, returns) = Probe::new("deleted", &log);
    let spec = SupervisorSpec::new("inner").child(kept).child(deleted);
    let (inner, supervisor) = Supervisor::child_spec(spec);
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    let (added, goes) = Probe::new("added", &log);
    supervisor.start_child(added).await.unwrap();
    supervisor.terminate_child("deleted").await.unwrap();
    supervisor.delete_child("deleted").await.unwrap();
    assert_eq!(ids(&supervisor), ["added", "kept"]);
    root.tree().kill("/top/inner").unwrap().exit().await;
    assert_eq!((stays.answers().await, returns.answers().await), (1, 1));
    assert_eq!(goes.settled().await, Err(CallError::NoProc));
    assert_eq!(ids(&supervisor), ["deleted", "kept"]);
}

proves!(an_attempt_ends_at_the_first_child_that_fails, ["SUP-096", "SUP-113"]);
async fn an_attempt_ends_at_the_first_child_that_fails() {
    for strategy in GROUPS {
        let log = Log::default();
        let mut spec = SupervisorSpec::new("top").strategy(strategy);
        let mut probes = Vec::new();
        for name in ["a", "b", "c"] {
            let (child, probe) = Probe::new(name, &log);
            spec = spec.child(child.restart_delay(Duration::from_secs(10)));
            probes.push(probe);
        }
        let root = root(spec).await;
        probes[1].script(&[Start::Fails]);
        probes[1].end(|| Message::Panic).await;
        tokio::time::advance(Duration::from_secs(10)).await;
        // The restart is tried once, and the next try is ten seconds away.
        until(|| root.tree().nodes()[2].incarnation == 2).await;
        until(|| status(root.supervisor(), "b") == ChildStatus::Restarting).await;
        assert_eq!(status(root.supervisor(), "c"), ChildStatus::Stopped, "{strategy:?}");
        assert_eq!(status(root.supervisor(), "a"), ChildStatus::Running);
        let started = log.take().iter().filter(|line| *line == "c started").count();
        assert_eq!(started, 1, "not in that attempt");
        let first = root.tree().nodes()[1].incarnation;
        assert_eq!(first, if strategy == Strategy::OneForAll { 2 } else { 1 });
        assert_eq!(probes[2].answers().await, 1);
        assert_eq!(root.tree().nodes()[3].incarnation, 2);
    }
}

proves!(a_retry_of_one_for_all_starts_over, ["SUP-097"]);
async fn a_retry_of_one_for_all_starts_over() {
    let world = World::start(|spec| spec.strategy(Strategy::OneForAll).intensity(9, SOON)).await;
    world.probes[2].script(&[Start::Fails, Start::Works]);
    world.log.take();
    world.probes[0].end(|| Message::Panic).await;
    world.probes[2].answers().await;
    assert_eq!(
        events(&world.log),
        [
            "a cleaned",
            "c cleaned",
            "b cleaned",
            "a started",
            "b started", // c fails
            "b cleaned",
            "a cleaned",
            "a started",
            "b started",
            "c started",
        ]
    );
}

proves!(a_retry_of_rest_for_one_goes_on_from_the_child_that_failed, ["SUP-098"]);
async fn a_retry_of_rest_for_one_goes_on_from_the_child_that_failed() {
    let restarts = [Restart::Permanent; 4];
    let world =
        World::start_with(&restarts, |spec| spec.strategy(Strategy::RestForOne).intensity(9, SOON))
            .await
            .unwrap();
    world.probes[2].script(&[Start::Fails, Start::Works]);
    world.log.take();
    world.probes[1].end(|| Message::Panic).await;
    world.probes[3].answers().await;
    assert_eq!(
        events(&world.log),
        ["b cleaned", "d cleaned", "c cleaned", "b started", "c started", "d started"],
        "b is not restarted by the retry for c"
    );
    assert_eq!(world.incarnation("b"), 2);
    assert_eq!(world.counted(), 2);
}
