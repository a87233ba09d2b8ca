//! Callbacks of a server, the reasons they end it for, and the report it leaves.

use std::time::Duration;

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    ChildSpec, CrashReport, Debugger, LifecycleEvent, LifecycleStream, Next, Reply, Supervisor,
    SupervisorSpec,
};

use crate::{
    gs_server::{Bare, SHORT, Say, Talk, Talker, Told, alone, alone_with, reasons, settle},
    harness::proves,
    probe::{Cleanup, SOON, root},
    traces::Traces,
};

proves!(a_handler_stops_the_server_for_exactly_its_reason_after_cleanup, ["GS-034", "GS-037"]);
async fn a_handler_stops_the_server_for_exactly_its_reason_after_cleanup() {
    for reason in reasons() {
        for way in ["message", "timeout", "continuation", "exit"] {
            let (root, talk) = alone().await;
            let (other, gone) = Talk::new("b");
            root.supervisor().start_child(other.restart(Restart::Temporary)).await.unwrap();
            let watched = gone.address.whereis().unwrap();
            gone.end(Say::Stop(ExitReason::Normal)).await;
            talk.ping().await.unwrap();
            let stop = Next::Stop(reason.clone());
            let message = match way {
                "message" => Say::Stop(reason.clone()),
                "timeout" => Talker::act(move |talker, _| {
                    talker.answers.push(stop);
                    Ok(Next::Timeout(SHORT))
                }),
                "exit" => Talker::act(move |talker, cx| {
                    talker.answers.push(stop);
                    cx.monitor(&watched);
                    Ok(Next::Continue)
                }),
                _ => {
                    let stop = Say::Stop(reason.clone());
                    Talker::act(move |_, _| Ok(Next::Continuation(stop)))
                }
            };
            assert_eq!(talk.end(message).await, reason, "{way}");
            let mut did = talk.did();
            did.retain(|line| line != "timeout" && !line.starts_with("exit of"));
            let cleaned = format!("terminate: {} after 1", reason.name());
            assert_eq!(did, [cleaned, "dropped".into()], "{way}");
        }
    }
}

proves!(
    a_handler_that_fails_ends_the_server_after_cleanup_with_its_last_state,
    ["GS-035", "GS-036"]
);
async fn a_handler_that_fails_ends_the_server_after_cleanup_with_its_last_state() {
    let failing = || async { panic!("late") };
    let panics: [(Say, &str); 3] = [
        (Say::Panic, "asked to panic"),
        (Say::Await(Box::pin(failing())), "late"),
        (
            Talker::act(|_, _| Ok(Next::Continuation(Talker::act(|_, _| panic!("continued"))))),
            "continued",
        ),
    ];
    for (panic, text) in panics {
        let (_root, talk) = alone().await;
        talk.ping().await.unwrap();
        talk.ping().await.unwrap();
        let reason = talk.end(panic).await;
        let ExitReason::Panic { message, location } = reason else { panic!("{reason}") };
        assert_eq!(&*message, text);
        assert!(location.unwrap().contains(".rs:"));
        assert_eq!(talk.did(), ["terminate: panic after 2", "dropped"]);
    }
    for reason in reasons() {
        let (_root, talk) = alone().await;
        talk.ping().await.unwrap();
        assert_eq!(talk.end(Say::Fail(reason.clone())).await, reason);
        assert_eq!(talk.did(), [format!("terminate: {} after 1", reason.name()), "dropped".into()]);
    }
    // An error of any type, with its sources.
    let (_root, talk) = alone().await;
    let error = || Err(std::io::Error::other("disk").into());
    let reason = talk.end(Talker::act(move |_, _| error())).await;
    assert_eq!(reason, ExitReason::Error("disk".into()));
    assert_eq!(talk.did(), ["terminate: error after 0", "dropped"]);
}

proves!(a_cleanup_that_fails_is_the_reason, ["GS-042"]);
async fn a_cleanup_that_fails_is_the_reason() {
    let failure = ExitReason::Error("cleanup fails".into());
    for message in [Say::Stop(ExitReason::Normal), Say::Panic, Say::Fail(ExitReason::Shutdown)] {
        let (_root, talk) = alone_with(Cleanup::Fails).await;
        assert_eq!(talk.end(message).await, failure);
    }
    let (root, talk) = alone_with(Cleanup::Fails).await;
    let mut monitor = talk.address.monitor();
    root.supervisor().terminate_child("a").await.unwrap();
    assert_eq!(monitor.down().await, failure);
}

proves!(without_a_cleanup_the_reason_is_kept, ["GS-043"]);
async fn without_a_cleanup_the_reason_is_kept() {
    for reason in reasons() {
        let (spec, address) = ChildSpec::server::<Bare<true>>("bare", || ());
        let spec = spec.restart(Restart::Temporary);
        let _root = root(SupervisorSpec::new("top").child(spec)).await;
        let mut monitor = address.monitor();
        address.cast(Told::End(reason.clone())).unwrap();
        assert_eq!(monitor.down().await, reason);
    }
}

proves!(exits_of_linked_processes_are_ordinary_messages, ["GS-044"]);
async fn exits_of_linked_processes_are_ordinary_messages() {
    let (a, talk) = Talk::new("a");
    let root = root(SupervisorSpec::new("top").child(a)).await;
    for reason in reasons() {
        let (b, other) = Talk::new("b");
        root.supervisor().start_child(b.restart(Restart::Temporary)).await.unwrap();
        let before = talk.address.whereis().unwrap();
        let linked = other.address.whereis().unwrap();
        let link = |reply: Reply<()>| {
            Talker::act(move |_, cx| {
                cx.link(&linked);
                reply.send(());
                Ok(Next::Continue)
            })
        };
        talk.address.call(link, SOON).await.unwrap();
        talk.did();
        // In the order of the mailbox: behind what the dying one sent.
        let to = talk.address.clone();
        let last_words = Talker::act({
            let reason = reason.clone();
            move |_, _| {
                to.cast(Say::Work("last words")).unwrap();
                Ok(Next::Stop(reason))
            }
        });
        other.end(last_words).await;
        settle().await;
        assert_eq!(talk.did(), ["last words".into(), format!("exit of /top/b: {reason}")]);
        assert_eq!(talk.address.whereis(), Some(before), "it lives on");
    }
}

/// All reports until the end of a tree.
async fn reports(mut lifecycle: LifecycleStream) -> Vec<CrashReport> {
    let mut reports = Vec::new();
    while let Some(event) = lifecycle.next().await {
        if let LifecycleEvent::Crashed(report) = event.event {
            assert_eq!(event.path, report.path);
            reports.push(*report);
        }
    }
    reports
}

proves!(an_abnormal_end_is_reported_once_and_a_normal_one_never, ["GS-046", "OBS-011", "OBS-013"]);
async fn an_abnormal_end_is_reported_once_and_a_normal_one_never() {
    for reason in reasons() {
        let (root, talk) = alone().await;
        let lifecycle = root.tree().lifecycle();
        talk.end(Say::Stop(reason.clone())).await;
        root.shutdown().await;
        drop(root);
        let reports = reports(lifecycle).await;
        assert_eq!(reports.len(), usize::from(reason.is_abnormal()), "{reason}");
        assert!(reports.iter().all(|report| report.reason == reason));
    }
    let (child, talk) = Talk::new("a");
    let (neighbour, other) = Talk::new("b");
    let child = child.restart(Restart::Temporary);
    let inner = SupervisorSpec::new("inner").child(neighbour).child(child);
    let (inner, _) = Supervisor::child_spec(inner);
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    let mut lifecycle = root.tree().lifecycle();
    let (traces, _guard) = Traces::collect();
    let watched = other.address.whereis().unwrap();
    let process = talk.address.whereis().unwrap().to_string();
    talk.ping().await.unwrap();
    talk.say(Talker::act(move |_, cx| {
        cx.set_label("the third of seven");
        cx.monitor(&watched);
        Ok(Next::Continue)
    }));
    talk.say(Say::Panic);
    talk.say(Say::Work("waits"));
    talk.say(Say::Work("waits too"));
    let event = lifecycle.next().await.unwrap();
    let LifecycleEvent::Crashed(report) = event.event else { panic!("{event:?}") };
    let ExitReason::Panic { message, location } = &report.reason else { panic!("{report:?}") };
    assert_eq!(&**message, "asked to panic");
    assert!(location.as_ref().unwrap().contains("server.rs"));
    let expected = CrashReport {
        kind: perennial_core::tree::NodeKind::Worker,
        callers: Vec::new(),
        path: "/top/inner/a".into(),
        process,
        label: Some("the third of seven".into()),
        reason: report.reason.clone(),
        last_message: Some("panic".into()),
        state: "pings: 1, secret: ***".into(),
        ancestors: vec!["/top/inner".into(), "/top".into()],
        mailbox_depth: 2,
        linked: vec!["/top/inner/b".into()],
    };
    assert_eq!(*report, expected);
    let traced = traces.with("process crashed");
    assert_eq!(traced.len(), 1, "{traced:?}");
    assert!(traced[0].1.contains(" label=\"the third of seven\""), "{traced:?}");
    let exited = lifecycle.next().await.unwrap();
    assert!(matches!(exited.event, LifecycleEvent::Exited { .. }), "{exited:?}");
}

proves!(a_formatter_that_panics_masks_nothing, ["GS-047"]);
async fn a_formatter_that_panics_masks_nothing() {
    let (root, talk) = alone().await;
    let lifecycle = root.tree().lifecycle();
    talk.say(Talker::act(|talker, _| {
        talker.unspeakable = true;
        Ok(Next::Continue)
    }));
    let error = ExitReason::Error("the original".into());
    assert_eq!(talk.end(Say::Fail(error.clone())).await, error);
    assert_eq!(talk.did(), ["terminate: error after 0", "dropped"]);
    root.shutdown().await;
    drop(root);
    let reports = reports(lifecycle).await;
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].reason, error);
    assert!(reports[0].state.contains("cannot be spoken of"), "{}", reports[0].state);
}

proves!(inactivity_is_an_event_and_any_message_cancels_it, ["GS-055"]);
async fn inactivity_is_an_event_and_any_message_cancels_it() {
    let idle = |within| Talker::act(move |_, _| Ok(Next::Timeout(within)));
    let (_root, talk) = alone().await;
    talk.say(idle(SHORT));
    settle().await;
    tokio::time::advance(SHORT - Duration::from_millis(1)).await;
    settle().await;
    assert!(talk.did().is_empty(), "not before its time");
    tokio::time::advance(Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(talk.did(), ["timeout"]);
    tokio::time::advance(SHORT * 10).await;
    settle().await;
    assert!(talk.did().is_empty(), "once");

    talk.say(idle(SHORT));
    settle().await;
    tokio::time::advance(SHORT / 2).await;
    talk.say(Say::Work("message"));
    settle().await;
    tokio::time::advance(SHORT * 10).await;
    settle().await;
    assert_eq!(talk.did(), ["message"], "cancelled, not delayed");

    // One of no time at all comes when nothing waits.
    talk.say(idle(Duration::ZERO));
    talk.say(Say::Work("waits"));
    settle().await;
    assert_eq!(talk.did(), ["waits"]);
    talk.say(idle(Duration::ZERO));
    talk.ping().await.unwrap();
    talk.say(idle(Duration::ZERO));
    settle().await;
    assert_eq!(talk.did(), ["timeout"]);

    // One that is suspended has no idle time.
    let debugger = Debugger::<Talker>::of(&talk.address);
    talk.say(idle(SHORT));
    debugger.suspend(SOON).await.unwrap();
    tokio::time::advance(SHORT * 10).await;
    settle().await;
    assert!(talk.did().is_empty());
    debugger.resume(SOON).await.unwrap();
    settle().await;
    assert_eq!(talk.did(), ["timeout"]);

    // Of an init, and again and again.
    let (spec, talk) = Talk::new("b");
    talk.begin(async { Ok(Next::Timeout(SHORT)) });
    let _root = root(SupervisorSpec::new("top").child(spec)).await;
    talk.did();
    tokio::time::advance(SHORT).await;
    settle().await;
    assert_eq!(talk.did(), ["timeout"]);
    talk.say(Talker::act(|talker, _| {
        talker.answers = vec![Next::Timeout(SHORT), Next::Timeout(SHORT)];
        Ok(Next::Timeout(SHORT))
    }));
    settle().await;
    for _ in 0..3 {
        tokio::time::advance(SHORT).await;
        settle().await;
        assert_eq!(talk.did(), ["timeout"]);
    }
}
