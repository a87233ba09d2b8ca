//! SUP simple_one_for_one: all instances are stopped at once.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{Lifecycle, LifecycleEvent, Root};

use crate::{
    harness::proves,
    made,
    probe::{Cleanup, Log, Message, Probe, SOON},
    sup_template::start,
};

const TWO_SECONDS: Shutdown = Shutdown::Timeout(Duration::from_secs(2));

/// Shuts the tree down; how long that took, and what was told until the template's end.
async fn shut_down(root: &Root) -> (Duration, Vec<Lifecycle>) {
    let mut lifecycle = root.tree().lifecycle();
    let took = root.shutdown().await.took;
    (took, made::until_exit(&mut lifecycle, "/top/tpl").await)
}

proves!(instances_are_stopped_in_parallel, ["SUP-170"]);
async fn instances_are_stopped_in_parallel() {
    let (root, supervisor) = start().await;
    let log = Log::default();
    for _ in 0..20 {
        let (spec, _) = Probe::with_cleanup("x", &log, Cleanup::Hangs);
        supervisor.start_child(spec.shutdown(TWO_SECONDS)).await.unwrap();
    }
    log.take();
    let (took, told) = shut_down(&root).await;
    assert_eq!(took, Duration::from_secs(2), "one timeout, not twenty");
    assert_eq!(made::exits(&told).len(), 21);
    let lines = log.take();
    assert!(lines[..20].iter().all(|line| line == "x cleaned"), "all are asked first: {lines:?}");
}

proves!(only_stuck_instances_are_killed_when_time_is_up, ["SUP-171"]);
async fn only_stuck_instances_are_killed_when_time_is_up() {
    let (root, supervisor) = start().await;
    let log = Log::default();
    for (name, cleanup) in
        [("a", Cleanup::Works), ("b", Cleanup::Hangs), ("c", Cleanup::Works), ("d", Cleanup::Hangs)]
    {
        let (spec, _) = Probe::with_cleanup(name, &log, cleanup);
        supervisor.start_child(spec.shutdown(TWO_SECONDS)).await.unwrap();
    }
    let (spec, busy) = Probe::new("e", &log);
    supervisor.start_child(spec.shutdown(TWO_SECONDS)).await.unwrap();
    busy.address.cast(Message::Hang).unwrap();
    let (took, told) = shut_down(&root).await;
    assert_eq!(took, Duration::from_secs(2));
    let mut exits = made::exits(&told);
    assert_eq!(exits.pop(), Some(("/top/tpl", ExitReason::Shutdown)), "as requested");
    exits.sort_by_key(|(path, _)| *path);
    let expected = [
        ("/top/tpl/a", ExitReason::Shutdown),
        ("/top/tpl/b", ExitReason::Killed),
        ("/top/tpl/c", ExitReason::Shutdown),
        ("/top/tpl/d", ExitReason::Killed),
        ("/top/tpl/e", ExitReason::Killed),
    ];
    assert_eq!(exits, expected);
}

proves!(all_instances_can_be_killed_at_once, ["SUP-172"]);
async fn all_instances_can_be_killed_at_once() {
    let (root, supervisor) = start().await;
    let log = Log::default();
    for cleanup in [Cleanup::Works, Cleanup::Hangs, Cleanup::Fails] {
        let (spec, _) = Probe::with_cleanup("x", &log, cleanup);
        supervisor.start_child(spec.shutdown(Shutdown::BrutalKill)).await.unwrap();
    }
    log.take();
    let (took, told) = shut_down(&root).await;
    assert_eq!(took, Duration::ZERO);
    let mut exits = made::exits(&told);
    assert_eq!(exits.pop(), Some(("/top/tpl", ExitReason::Shutdown)));
    assert_eq!(exits.len(), 3);
    assert!(exits.iter().all(|(_, reason)| *reason == ExitReason::Killed), "{exits:?}");
    assert_eq!(log.take(), ["x dropped"; 3], "no cleanup");
}

proves!(instances_keep_the_reasons_they_end_for, ["SUP-173"]);
async fn instances_keep_the_reasons_they_end_for() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let (root, supervisor) = start().await;
        let expected = [
            ("/top/tpl/a", ExitReason::Normal),
            ("/top/tpl/b", ExitReason::Shutdown),
            ("/top/tpl/c", ExitReason::ShutdownWith("drained".into())),
            ("/top/tpl/d", ExitReason::Error("disk full".into())),
        ];
        for (path, reason) in &expected {
            let id = path.rsplit('/').next().unwrap();
            let spec = made::ends_with(id, reason.clone()).restart(restart);
            supervisor.start_child(spec).await.unwrap();
        }
        let (took, told) = shut_down(&root).await;
        assert_eq!(took, Duration::ZERO);
        let mut exits = made::exits(&told);
        assert_eq!(exits.pop(), Some(("/top/tpl", ExitReason::Shutdown)), "it completes");
        exits.sort_by_key(|(path, _)| *path);
        assert_eq!(exits, expected, "{restart:?}");
    }
}

proves!(instances_that_fail_in_the_same_way_are_one_report, ["SUP-228"]);
async fn instances_that_fail_in_the_same_way_are_one_report() {
    let (root, supervisor) = start().await;
    let error = || ExitReason::Error("disk full".into());
    for reason in [error(), ExitReason::Shutdown, error(), error()] {
        supervisor.start_child(made::ends_with("x", reason)).await.unwrap();
    }
    for _ in 0..2 {
        let (spec, _) = Probe::with_cleanup("x", &Log::default(), Cleanup::Hangs);
        supervisor.start_child(spec.shutdown(TWO_SECONDS)).await.unwrap();
    }
    let mut lifecycle = root.tree().lifecycle();
    tokio::time::timeout(SOON, root.shutdown()).await.unwrap();
    let mut reports = Vec::new();
    for told in made::until_exit(&mut lifecycle, "/top/tpl").await {
        let alone = matches!(told.event, LifecycleEvent::ShutdownError { .. });
        assert!(!alone, "{told:?}");
        if let LifecycleEvent::ShutdownErrors { reason, offender, count } = told.event {
            assert_eq!((told.path.as_str(), offender.id.as_str()), ("/top/tpl", "x"));
            reports.push((reason.name(), count));
        }
    }
    reports.sort_unstable();
    assert_eq!(reports, [("error", 3), ("killed", 2)]);
}
