//! DYN terminate: the reasons that children end for, and which of them are reported.

use std::time::Duration;

use perennial_core::{ExitReason, Restart, Shutdown};
use perennial_supervision::{ChildSpec, DynamicSupervisor, Lifecycle, LifecycleEvent, Root};

use crate::{
    dyn_children::start,
    harness::proves,
    made,
    probe::{Log, Message, Probe, Start},
};

const ALL: [Restart; 3] = [Restart::Permanent, Restart::Transient, Restart::Temporary];
const WITHIN: Shutdown = Shutdown::Timeout(Duration::from_secs(5));
const SLOW: Duration = Duration::from_secs(3);

async fn shut_down(root: &Root) -> (Duration, Vec<Lifecycle>) {
    let mut lifecycle = root.tree().lifecycle();
    let took = root.shutdown().await.took;
    (took, made::until_exit(&mut lifecycle, "/top/dyn").await)
}

/// Children of which a shutdown error was told, with the reasons.
fn errors(told: &[Lifecycle]) -> Vec<(String, ExitReason)> {
    let error = |told: &Lifecycle| {
        let LifecycleEvent::ShutdownError { reason, offender } = &told.event else { return None };
        (told.path == "/top/dyn").then(|| (offender.id.to_string(), reason.clone()))
    };
    let mut errors: Vec<_> = told.iter().filter_map(error).collect();
    errors.sort_by(|one, other| one.0.cmp(&other.0));
    errors
}

fn reasons() -> [(&'static str, ExitReason); 4] {
    [
        ("a", ExitReason::Shutdown),
        ("b", ExitReason::ShutdownWith("drained".into())),
        ("c", ExitReason::Normal),
        ("d", ExitReason::Error("disk full".into())),
    ]
}

async fn add(dynamic: &DynamicSupervisor, spec: ChildSpec) {
    dynamic.start_child(spec).await.unwrap();
}

proves!(who_ends_in_time_keeps_its_reason, ["DYN-041", "DYN-042"]);
async fn who_ends_in_time_keeps_its_reason() {
    for shutdown in [Shutdown::Infinity, WITHIN] {
        for restart in ALL {
            let (root, dynamic) = start(9).await;
            for (id, reason) in reasons() {
                add(
                    &dynamic,
                    made::ends_slowly(id, reason, SLOW).restart(restart).shutdown(shutdown),
                )
                .await;
            }
            let (took, told) = shut_down(&root).await;
            assert_eq!(took, SLOW);
            let mut exits = made::exits(&told);
            assert_eq!(exits.pop(), Some(("/top/dyn", ExitReason::Shutdown)));
            exits.sort_by_key(|(path, _)| *path);
            let expected = reasons().map(|(id, reason)| (format!("/top/dyn/{id}"), reason));
            let exits: Vec<_> =
                exits.into_iter().map(|(path, reason)| (path.to_owned(), reason)).collect();
            assert_eq!(exits, expected, "{shutdown:?} {restart:?}");
        }
    }
}

proves!(a_permanent_child_that_ends_normally_when_stopped_is_reported, ["DYN-044"]);
async fn a_permanent_child_that_ends_normally_when_stopped_is_reported() {
    for shutdown in [Shutdown::Infinity, WITHIN] {
        let (root, dynamic) = start(9).await;
        add(&dynamic, made::ends_with("x", ExitReason::Normal).shutdown(shutdown)).await;
        let (_, told) = shut_down(&root).await;
        assert_eq!(made::exits(&told)[0], ("/top/dyn/x", ExitReason::Normal));
        assert_eq!(errors(&told), [("x".to_owned(), ExitReason::Normal)]);
    }
}

proves!(a_dynamic_supervisor_reports_by_rules_of_its_own, ["DYN-045"]);
async fn a_dynamic_supervisor_reports_by_rules_of_its_own() {
    for restart in ALL {
        let (root, dynamic) = start(9).await;
        for (id, reason) in reasons() {
            add(&dynamic, made::ends_with(id, reason).restart(restart)).await;
        }
        let brutal = made::child("e", || Ok(())).shutdown(Shutdown::BrutalKill);
        add(&dynamic, brutal.restart(restart)).await;
        let (_, told) = shut_down(&root).await;
        let mut expected = vec![("d".to_owned(), ExitReason::Error("disk full".into()))];
        if restart == Restart::Permanent {
            expected.insert(0, ("c".to_owned(), ExitReason::Normal));
        }
        assert_eq!(errors(&told), expected, "{restart:?}");
    }
    // What is to be killed, and has ended in another way before its supervisor heard of it.
    let calm: [(fn() -> Message, ExitReason); 3] = [
        (|| Message::StopSelf, ExitReason::Normal),
        (|| Message::Exit(ExitReason::Shutdown), ExitReason::Shutdown),
        (|| Message::Exit(ExitReason::Killed), ExitReason::Killed),
    ];
    for restart in ALL {
        for (message, reason) in &calm {
            let (root, dynamic) = start(9).await;
            let (spec, probe) = Probe::new("x", &Log::default());
            add(&dynamic, spec.shutdown(Shutdown::BrutalKill).restart(restart)).await;
            let (slow, busy) = Probe::new("slow", &Log::default());
            busy.script(&[Start::Hangs]);
            let slow = slow.start_within(Duration::from_secs(1));
            let mut starting = std::pin::pin!(dynamic.start_child(slow));
            assert!(futures_util::poll!(&mut starting).is_pending());
            assert_eq!(&probe.end(*message).await, reason);
            let (_, told) = shut_down(&root).await;
            let expected: &[_] = if *reason == ExitReason::Killed {
                &[]
            } else {
                &[("x".to_owned(), reason.clone())]
            };
            assert_eq!(errors(&told), expected, "{restart:?}");
        }
    }
}
