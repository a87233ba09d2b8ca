//! Restarts beyond the catalogue's rows: delays, and what is dropped before a replacement starts.

use std::time::Duration;

use perennial_core::Restart;
use perennial_supervision::{Supervisor, SupervisorSpec};

use crate::probe::{Log, Message, Probe, World, root};

#[tokio::test(start_paused = true)]
async fn a_replacement_starts_only_after_the_old_state_is_dropped() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    world.probes[0].end(|| Message::Panic).await;
    world.probes[0].answers().await;
    assert_eq!(world.log.take(), ["a started", "a cleaned", "a dropped", "a started"]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_restart_comes_after_its_delay_and_callers_wait_for_it() {
    let (a, probe) = Probe::new("a", &Log::default());
    let spec = SupervisorSpec::new("top").child(a.restart_delay(Duration::from_secs(10)));
    let root = root(spec).await;
    probe.end(|| Message::Panic).await;
    let before = root.tree().clock().now();
    assert_eq!(probe.answers().await, 1);
    assert_eq!(root.tree().clock().now().since(before), Duration::from_secs(10));
}

/// What ended a child may be why its supervisor was started again: the picture still tells.
#[tokio::test(start_paused = true)]
async fn how_a_child_ended_is_shown_beyond_the_life_of_its_supervisor() {
    let (a, probe) = Probe::new("a", &Log::default());
    let middle = SupervisorSpec::new("middle").intensity(1, Duration::from_secs(5)).child(a);
    let spec = SupervisorSpec::new("top").child(Supervisor::child_spec(middle).0);
    let root = root(spec).await;
    for _ in 0..2 {
        probe.end(|| Message::Panic).await;
        probe.answers().await;
    }
    let nodes = root.tree().nodes();
    let node = |path: &str| nodes.iter().find(|node| node.path == path).unwrap();
    assert_eq!(node("/top/middle").incarnation, 2);
    let child = node("/top/middle/a");
    assert_eq!((child.incarnation, child.restarts.total), (1, 1), "{child:?}");
    let last = child.last_exit.as_ref().unwrap();
    assert_eq!(last.reason, "panic", "{last:?}");
}
