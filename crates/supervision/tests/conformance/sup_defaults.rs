//! SUP child specification: what holds when nothing is said, shown by what happens.

use std::time::Duration;

use perennial_core::{ChildType, Shutdown};
use perennial_supervision::{ChildSpec, LifecycleEvent, StopToken, Supervisor, SupervisorSpec};

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, World, root},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A child that takes a day to stop.
fn slow(id: &str, log: &Log) -> ChildSpec {
    let log = log.clone();
    ChildSpec::cooperative_task(id, move |stop: StopToken| {
        let log = log.clone();
        async move {
            stop.stopped().await;
            tokio::time::sleep(DAY).await; // on a paused clock
            log.add("wound up");
            Ok::<(), String>(())
        }
    })
    .restart(perennial_core::Restart::Permanent)
}

proves!(a_child_is_a_permanent_worker_with_five_seconds, ["SUP-036", "SUP-037", "SUP-038"]);
async fn a_child_is_a_permanent_worker_with_five_seconds() {
    let log = Log::default();
    let (a, probe) = Probe::with_cleanup("a", &log, Cleanup::Hangs);
    let (b, ends) = Probe::new("b", &log);
    let root = root(SupervisorSpec::new("top").child(a).child(b)).await;
    ends.end(|| Message::StopSelf).await;
    assert_eq!(ends.answers().await, 1, "permanent");
    assert_eq!(root.supervisor().which_children().unwrap()[0].child_type, ChildType::Worker);
    assert_eq!(probe.ping().await, Ok(1));
    let clock = root.tree().clock();
    let before = clock.now();
    root.supervisor().terminate_child("a").await.unwrap();
    assert_eq!(clock.now().since(before), Duration::from_millis(5_000));
    assert_eq!(root.tree().nodes()[1].last_exit.as_ref().unwrap().reason, "killed");
}

proves!(a_supervisor_is_a_child_that_is_given_all_its_time, ["SUP-039", "SUP-147", "SUP-241"]);
async fn a_supervisor_is_a_child_that_is_given_all_its_time() {
    let log = Log::default();
    let slow = slow("slow", &log).shutdown(Shutdown::Infinity);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(slow));
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    tokio::task::yield_now().await;
    assert_eq!(root.supervisor().which_children().unwrap()[0].child_type, ChildType::Supervisor);
    assert_eq!(root.supervisor().count_children().unwrap().supervisors, 1);
    let report = root.shutdown().await;
    assert_eq!(report.took, DAY);
    assert_eq!(log.take(), ["wound up"], "nobody was killed");
    assert_eq!(root.tree().nodes()[1].last_exit.as_ref().unwrap().reason, "shutdown");
}

proves!(infinity_waits_for_workers_and_for_supervisors, ["SUP-141"]);
async fn infinity_waits_for_workers_and_for_supervisors() {
    let log = Log::default();
    let worker = slow("worker", &log).shutdown(Shutdown::Infinity);
    let below = slow("below", &log).shutdown(Shutdown::Infinity);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(below));
    let inner = inner.shutdown(Shutdown::Infinity);
    let root = root(SupervisorSpec::new("top").child(worker).child(inner)).await;
    tokio::task::yield_now().await;
    let report = root.shutdown().await;
    assert_eq!(report.took, 2 * DAY, "one after the other");
    assert_eq!(log.take(), ["wound up", "wound up"]);
}

proves!(every_shutdown_value_fits_workers_and_supervisors, ["SUP-047"]);
async fn every_shutdown_value_fits_workers_and_supervisors() {
    for shutdown in [
        Shutdown::Timeout(Duration::ZERO),
        Shutdown::Timeout(Duration::from_secs(1)),
        Shutdown::Infinity,
        Shutdown::BrutalKill,
    ] {
        let world = World::start(|spec| spec).await;
        let (worker, _) = Probe::new("worker", &world.log);
        let (leaf, probe) = Probe::new("leaf", &world.log);
        let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(leaf));
        world.top().start_child(worker.shutdown(shutdown)).await.unwrap();
        world.top().start_child(inner.shutdown(shutdown)).await.unwrap();
        assert_eq!(probe.ping().await, Ok(1));
        for id in ["worker", "inner"] {
            let mut lifecycle = world.root.tree().lifecycle();
            world.top().terminate_child(id).await.unwrap();
            let path = format!("/top/{id}");
            let reason = loop {
                let event = lifecycle.next().await.unwrap();
                if let LifecycleEvent::Exited { reason, .. } = event.event
                    && event.path == path
                {
                    break reason;
                }
            };
            match shutdown {
                Shutdown::BrutalKill => assert_eq!(reason.name(), "killed", "{id}"),
                Shutdown::Timeout(Duration::ZERO) => {
                    assert!(["killed", "shutdown"].contains(&reason.name()), "{id}: {reason}");
                }
                Shutdown::Timeout(_) | Shutdown::Infinity => {
                    assert_eq!(reason.name(), "shutdown", "{id}");
                }
            }
        }
    }
}
