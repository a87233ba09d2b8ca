//! OBS: what is told of a tree, and in which order.

use perennial_core::ExitReason;
use perennial_supervision::LifecycleEvent;

use crate::{
    harness::proves,
    probe::{Message, SOON, World},
};

// Real time: on several threads nothing but the supervisor itself keeps the order.
proves!(events_of_a_child_come_in_causal_order, real_time, ["OBS-008"]);
async fn events_of_a_child_come_in_causal_order() {
    let world = World::start(|spec| spec.intensity(20, SOON)).await;
    let mut lifecycle = world.root.tree().lifecycle();
    for _ in 0..20 {
        world.probes[0].end(|| Message::Panic).await;
        world.probes[0].answers().await;
    }
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    for life in 1..=20 {
        let exited = lifecycle.next().await.unwrap();
        assert!(
            matches!(exited.event, LifecycleEvent::Exited { incarnation, .. } if incarnation == life),
            "{exited:?}"
        );
        let report = lifecycle.next().await.unwrap();
        assert!(matches!(report.event, LifecycleEvent::ChildTerminated { .. }), "{report:?}");
        let started = lifecycle.next().await.unwrap();
        let again = LifecycleEvent::Started { incarnation: life + 1, requested: false };
        assert_eq!(started.event, again);
        assert_eq!((exited.path.as_str(), started.path.as_str()), ("/top/a", "/top/a"));
    }
    let last = lifecycle.next().await.unwrap();
    assert!(matches!(last.event, LifecycleEvent::Exited { incarnation: 21, .. }), "{last:?}");
    let report = lifecycle.next().await.unwrap();
    assert!(matches!(report.event, LifecycleEvent::ChildTerminated { .. }), "{report:?}");
    let gave_up = lifecycle.next().await.unwrap();
    assert_eq!(gave_up.path, "/top");
    let LifecycleEvent::GaveUp { offender } = gave_up.event else { panic!("{gave_up:?}") };
    assert_eq!(offender.id.as_str(), "a");
}
