//! GS termination: reasons, and when the cleanup runs.

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::SupervisorSpec;

use crate::{
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, World, root},
};

/// A temporary probe that has just started.
async fn lone() -> World {
    let world = World::start_with(&[Restart::Temporary], |spec| spec).await.unwrap();
    world.log.take();
    world
}

proves!(a_handler_stops_its_server_with_the_reason_it_gives, ["GS-034", "GS-037"]);
async fn a_handler_stops_its_server_with_the_reason_it_gives() {
    for reason in [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith("detail".into()),
        ExitReason::Error("text".into()),
        ExitReason::Timeout,
    ] {
        let world = lone().await;
        let given = reason.clone();
        let ended = world.probes[0].end(move || Message::Exit(given)).await;
        assert_eq!(ended, reason);
        assert_eq!(world.log.take(), ["a cleaned", "a dropped"], "{reason}");
    }
    let world = lone().await;
    assert_eq!(world.probes[0].end(|| Message::StopSelf).await, ExitReason::Normal);
    assert_eq!(world.log.take(), ["a cleaned", "a dropped"]);
}

proves!(a_panic_ends_the_server_and_tells_where, ["GS-035"]);
async fn a_panic_ends_the_server_and_tells_where() {
    let world = lone().await;
    let ended = world.probes[0].end(|| Message::Panic).await;
    assert!(ended.is_abnormal());
    let ExitReason::Panic { message, location: Some(location) } = ended else { panic!("{ended}") };
    assert_eq!(&*message, "asked to panic");
    assert!(location.contains("probe"), "{location}");
}

proves!(a_parents_shutdown_runs_the_cleanup, ["GS-038"]);
async fn a_parents_shutdown_runs_the_cleanup() {
    let world = lone().await;
    world.root.shutdown().await;
    assert_eq!(world.log.take(), ["a cleaned", "a dropped"]);
}

proves!(a_kill_runs_no_cleanup, ["GS-040"]);
async fn a_kill_runs_no_cleanup() {
    let world = lone().await;
    world.root.tree().kill("/top/a").unwrap().exit().await;
    assert_eq!(world.log.take(), ["a dropped"], "from outside");

    let log = Log::default();
    let (a, busy) = Probe::new("a", &log);
    let (b, _) = Probe::new("b", &log);
    let spec = SupervisorSpec::new("top").child(a).child(b.shutdown(Shutdown::BrutalKill));
    let root = root(spec).await;
    log.take();
    busy.address.cast(Message::Hang).unwrap();
    root.shutdown().await;
    assert_eq!(log.take(), ["b dropped", "a dropped"], "by the supervisor");
}

proves!(what_was_queued_before_a_shutdown_is_handled, ["GS-041"]);
async fn what_was_queued_before_a_shutdown_is_handled() {
    let log = Log::default();
    let (a, probe) = Probe::with_cleanup("a", &log, Cleanup::Hangs);
    let root = root(SupervisorSpec::new("top").child(a)).await;
    log.take();
    for what in ["1", "2", "3"] {
        probe.address.cast(Message::Work(what)).unwrap();
    }
    let late = async {
        while log.take().last().map(String::as_str) != Some("a cleaned") {
            tokio::task::yield_now().await;
        }
        // Refused or not: it is not handled.
        drop(probe.address.cast(Message::Work("late")));
    };
    let watched = async {
        let mut stop = std::pin::pin!(root.supervisor().terminate_child("a"));
        assert!(futures_util::poll!(&mut stop).is_pending());
        stop.await
    };
    let (stopped, ()) = tokio::join!(watched, late);
    stopped.unwrap();
    assert_eq!(log.take(), ["a dropped"], "nothing of what came later");

    let world = lone().await;
    for what in ["1", "2", "3"] {
        world.probes[0].address.cast(Message::Work(what)).unwrap();
    }
    world.top().terminate_child("a").await.unwrap();
    assert_eq!(
        world.log.take(),
        ["a worked 1", "a worked 2", "a worked 3", "a cleaned", "a dropped"]
    );
}

proves!(a_cleanup_that_fails_becomes_the_reason, ["GS-042"]);
async fn a_cleanup_that_fails_becomes_the_reason() {
    for message in [(|| Message::StopSelf) as fn() -> Message, || Message::Panic] {
        let (a, probe) = Probe::with_cleanup("a", &Log::default(), Cleanup::Fails);
        let _root = root(SupervisorSpec::new("top").child(a)).await;
        let reason = probe.end(message).await;
        assert_eq!(reason, ExitReason::Error("cleanup fails".into()));
    }
}
