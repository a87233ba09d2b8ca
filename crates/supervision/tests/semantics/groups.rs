//! Semantics 8–11: what a restart does to the siblings.

use std::time::Duration;

use perennial_core::{Restart, Strategy};
use perennial_supervision::CallError;

use crate::probe::{Message, SOON, Start, World};

fn events(world: &World) -> Vec<String> {
    world.log.take().into_iter().filter(|line| !line.ends_with("dropped")).collect()
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let world = World::start(|spec| spec.strategy(Strategy::OneForAll)).await;
    world.log.take();
    world.probes[1].end(|| Message::Panic).await;
    world.probes[2].answers().await;
    assert_eq!(
        events(&world),
        ["b cleaned", "c cleaned", "a cleaned", "a started", "b started", "c started"]
    );
    assert_eq!(world.node("/top").intensity.unwrap().in_window, 1, "a group counts once");
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_touches_only_those_started_later() {
    let world = World::start(|spec| spec.strategy(Strategy::RestForOne)).await;
    assert_eq!(world.probes[0].ping().await, Ok(1));
    world.log.take();
    world.probes[1].end(|| Message::Panic).await;
    world.probes[2].answers().await;
    assert_eq!(events(&world), ["b cleaned", "c cleaned", "b started", "c started"]);
    assert_eq!(world.probes[0].ping().await, Ok(2), "the first one lives on");
}

#[tokio::test(start_paused = true)]
async fn a_group_restart_starts_what_had_ended_or_was_terminated_and_drops_temporary_siblings() {
    let restarts = [Restart::Transient, Restart::Permanent, Restart::Temporary, Restart::Permanent];
    let world =
        World::start_with(&restarts, |spec| spec.strategy(Strategy::OneForAll)).await.unwrap();
    world.probes[0].end(|| Message::StopSelf).await;
    world.root.supervisor().terminate_child("b").await.unwrap();
    world.log.take();
    world.probes[3].end(|| Message::Panic).await;
    for place in [0, 1, 3] {
        assert_eq!(world.probes[place].answers().await, 1);
    }
    assert_eq!(events(&world), ["d cleaned", "c cleaned", "a started", "b started", "d started"]);
    assert_eq!(world.probes[2].ping().await, Err(CallError::NoProc));
    let ids: Vec<String> =
        world.root.supervisor().which_children().into_iter().map(|child| child.id).collect();
    assert_eq!(ids, ["a", "b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_rest_for_one_goes_on_from_the_child_that_failed() {
    let world = World::start(|spec| spec.strategy(Strategy::RestForOne).intensity(9, SOON)).await;
    world.probes[1].script(&[Start::Works, Start::Works]);
    world.probes[2].script(&[Start::Fails, Start::Works]);
    world.log.take();
    world.probes[1].end(|| Message::Panic).await;
    world.probes[2].answers().await;
    assert_eq!(
        events(&world),
        ["b cleaned", "c cleaned", "b started", "c started"],
        "b is not restarted by the retry for c"
    );
    assert_eq!(world.node("/top").intensity.unwrap().in_window, 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_one_for_all_starts_over() {
    let world = World::start(|spec| spec.strategy(Strategy::OneForAll).intensity(9, SOON)).await;
    world.probes[2].script(&[Start::Fails, Start::Works]);
    world.log.take();
    world.probes[0].end(|| Message::Panic).await;
    world.probes[2].answers().await;
    assert_eq!(
        events(&world),
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

#[tokio::test(start_paused = true)]
async fn simultaneous_crashes_in_a_group_count_once() {
    let world = World::start(|spec| {
        spec.strategy(Strategy::OneForAll).intensity(1, Duration::from_secs(60))
    })
    .await;
    for probe in &world.probes {
        probe.address.cast(Message::Panic).unwrap();
    }
    for probe in &world.probes {
        assert!(probe.answers().await >= 1);
    }
    // All three ended before the supervisor got to the first: one step, one count.
    assert_eq!(world.node("/top").intensity.unwrap().in_window, 1);
}
