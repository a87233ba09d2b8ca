//! Why something ended, as ractor tells it and as we do.

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{CallError, LifecycleEvent, ractor::Actor};

use super::plain::*;
use crate::probe::*;

#[tokio::test(start_paused = true)]
async fn trap_01_killed_looks_like_a_normal_end() {
    let ((watcher, _), told) = watcher().await;
    let log = Log::default();
    let (killed, ended) = bare(&watcher, "a", &log).await;
    settle().await;
    killed.kill();
    ended.await.unwrap();
    let (stopped, ended) = bare(&watcher, "b", &log).await;
    stopped.stop(Some("killed".into()));
    ended.await.unwrap();
    settle().await;
    assert_eq!(told.take(), ["terminated with a state: killed"; 2]);

    let world = World::start_with(&[Restart::Transient; 2], |spec| spec).await.unwrap();
    let (killed, stopped) = (&world.probes[0], &world.probes[1]);
    let victim = world.root.tree().kill("/top/a").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
    killed.answers().await;
    assert_eq!(world.incarnation("a"), 2, "a kill is abnormal");
    let stop = Message::Act(Box::new(|me| me.stop(Some("killed".into()))));
    assert_eq!(stopped.end(|| stop).await, ExitReason::Normal);
    assert_eq!(stopped.settled().await, Err(CallError::NoProc), "a stop is not");
}

#[tokio::test(start_paused = true)]
async fn trap_02_reasons_have_no_structure() {
    let detail = ExitReason::ShutdownWith("drained".into());
    let ((watcher, _), told) = watcher().await;
    let log = Log::default();
    for message in [Message::Exit(detail.clone()), Message::Panic] {
        let (actor, ended) = bare(&watcher, "a", &log).await;
        actor.cast(message).unwrap();
        ended.await.unwrap();
    }
    let (actor, ended) = bare(&watcher, "b", &log).await;
    actor.stop(Some("the disk is full".into()));
    ended.await.unwrap();
    settle().await;
    let in_good_order = "terminated with a state: the disk is full";
    // An orderly end is a failure, and a failure that is told in good order is none.
    assert_eq!(told.take(), ["failed: shutdown: drained", "failed: asked to panic", in_good_order]);

    let world = World::start_with(&[Restart::Transient; 2], |spec| spec).await.unwrap();
    let (first, second) = (&world.probes[0], &world.probes[1]);
    let panic = first.end(|| Message::Panic).await;
    assert!(matches!(&panic, ExitReason::Panic { location: Some(_), .. }), "{panic:?}");
    first.answers().await;
    let full = ExitReason::Error("the disk is full".into());
    assert_eq!(first.end(|| Message::Exit(full.clone())).await, full);
    first.answers().await;
    assert_eq!(world.incarnation("a"), 3);
    assert_eq!(second.end(|| Message::Exit(detail.clone())).await, detail);
    assert_eq!(second.settled().await, Err(CallError::NoProc), "an orderly end is no failure");
}

#[tokio::test(start_paused = true)]
async fn trap_03_a_failure_skips_the_cleanup() {
    let ((watcher, _), _) = watcher().await;
    let log = Log::default();
    for message in [Message::Panic, Message::Fail] {
        let (actor, ended) = bare(&watcher, "a", &log).await;
        actor.cast(message).unwrap();
        ended.await.unwrap();
        assert_eq!(log.take(), ["a started", "a dropped"]);
    }

    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    for message in [Message::Panic, Message::Fail] {
        world.log.take();
        world.probes[0].end(|| message).await;
        world.probes[0].answers().await;
        assert_eq!(world.log.take(), ["a cleaned", "a dropped", "a started"]);
    }
    world.root.tree().kill("/top/a").unwrap().exit().await;
    world.probes[0].answers().await;
    assert_eq!(world.log.take(), ["a dropped", "a started"], "only a kill skips it");
}

#[tokio::test(start_paused = true)]
async fn trap_25_a_failing_cleanup_hides_why_it_was_stopped() {
    let ((watcher, _), told) = watcher().await;
    let log = Log::default();
    let (actor, ended) = bare_with(&watcher, "a", &log, Cleanup::Fails).await;
    actor.stop(Some("the reason".into()));
    ended.await.unwrap();
    settle().await;
    assert_eq!(told.take(), ["failed: cleanup fails"], "who it is that failed is not told");

    let (spec, _) = Probe::with_cleanup("a", &log, Cleanup::Fails);
    let world = World::start(|top| top.child(spec.with_id("z"))).await;
    let mut lifecycle = world.root.tree().lifecycle();
    world.top().terminate_child("z").await.unwrap();
    let reported = loop {
        // The report of a stop that did not go as asked.
        if let LifecycleEvent::ShutdownError { reason, offender } =
            lifecycle.next().await.unwrap().event
        {
            break (offender.id.to_string(), reason);
        }
    };
    // OTP's rule: the reason becomes the failure, and the report names the child.
    assert_eq!(reported, ("z".into(), ExitReason::Error("cleanup fails".into())));
}

/// That a program built with `panic = "abort"` is refused is checked by a host that is built so:
/// `tests/hosts/abort`.
#[tokio::test(start_paused = true)]
async fn trap_27_panics_lose_what_is_not_a_text_and_their_place() {
    let odd = || Message::Act(Box::new(|_| std::panic::panic_any(42_u8)));
    let ((watcher, _), told) = watcher().await;
    let (actor, ended) = bare(&watcher, "a", &Log::default()).await;
    actor.cast(odd()).unwrap();
    ended.await.unwrap();
    settle().await;
    assert_eq!(
        told.take(),
        ["failed: Unknown panic occurred which couldn't be coerced to a string"]
    );

    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    let reason = world.probes[0].end(odd).await;
    let ExitReason::Panic { message, location: Some(place) } = reason else { panic!("{reason}") };
    assert_eq!(&*message, "a panic without a text");
    assert!(place.contains("reasons.rs"), "{place}");
}

/// Whether the callbacks are boxed is decided by whoever is built together with us, and what is
/// written for one build does not compile in the other. What this build has is looked at here; that
/// hosts with the other trait, and with ractor's `cluster`, are built and run is the matter of
/// `tests/hosts`, which CI does.
#[tokio::test]
async fn trap_28_a_feature_somewhere_else_changes_the_trait() {
    let ((watcher, _), mut log) = watcher().await;
    let callback = Watcher.handle(watcher, Order::Fail, &mut log);
    let is_boxed = std::any::type_name_of_val(&callback).contains("Box<dyn");
    assert_eq!(is_boxed, cfg!(feature = "async-trait"), "ours follows ractor's");

    let hosts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    for (host, feature) in [("async_trait", "async-trait"), ("cluster", "cluster")] {
        let manifest = std::fs::read_to_string(hosts.join(host).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let features = manifest["dependencies"]["ractor"]["features"].as_array().unwrap();
        assert_eq!(features.len(), 1);
        assert_eq!(features[0].as_str(), Some(feature));
    }
}
