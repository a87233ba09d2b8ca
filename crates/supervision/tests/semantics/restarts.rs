//! Restarts beyond the catalogue's rows: delays, and what is dropped before a replacement starts.

use std::time::Duration;

use perennial_core::Restart;
use perennial_supervision::SupervisorSpec;

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
