//! SUP simple_one_for_one: instances of a template come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial_core::{ChildType, ExitReason, Restart, Shutdown};
use perennial_supervision::{
    CallError, ChildSpec, ChildStatus, Counts, Ignore, RequestError, Root, StartFault, Supervisor,
    SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec,
};

use crate::{
    harness::proves,
    made,
    probe::{Cleanup, Log, Message, Probe, SOON, Start, root, until},
};

/// A supervisor `/top/tpl` of what it is given.
pub(crate) async fn start() -> (Root, TemplateSupervisor<ChildSpec>) {
    start_with(|spec| spec, |spec: ChildSpec| spec).await
}

pub(crate) async fn start_with<A: 'static>(
    configure: impl FnOnce(TemplateSupervisorSpec<A>) -> TemplateSupervisorSpec<A>,
    template: impl Fn(A) -> ChildSpec + Send + Sync + 'static,
) -> (Root, TemplateSupervisor<A>) {
    let spec = configure(TemplateSupervisorSpec::new("tpl", template));
    let (child, supervisor) = TemplateSupervisor::child_spec(spec);
    (root(SupervisorSpec::new("top").child(child)).await, supervisor)
}

const NOTHING: Counts = Counts { specs: 1, active: 0, supervisors: 0, workers: 0 };

proves!(an_init_that_says_ignore_makes_no_instance, ["SUP-017", "SUP-018"]);
async fn an_init_that_says_ignore_makes_no_instance() {
    for restart in [Restart::Temporary, Restart::Permanent] {
        let template = move |ignores: bool| {
            let answer = move || if ignores { Err(Ignore.into()) } else { Ok(()) };
            made::child("x", answer).restart(restart)
        };
        let (root, supervisor) = start_with(|spec| spec, template).await;
        assert!(supervisor.start_child(true).await.unwrap().is_none(), "{restart:?}");
        assert_eq!(supervisor.which_children().unwrap(), []);
        assert_eq!(supervisor.count_children().unwrap(), NOTHING);
        assert!(supervisor.start_child(false).await.unwrap().is_some(), "siblings start");
        assert!(supervisor.start_child(true).await.unwrap().is_none());
        assert_eq!(supervisor.count_children().unwrap().active, 1);
        let mut lifecycle = root.tree().lifecycle();
        assert_eq!(supervisor.stop(SOON).await, Ok(()), "with `shutdown`");
        let told = made::until_exit(&mut lifecycle, "/top/tpl").await;
        let expected = [("/top/tpl/x", ExitReason::Shutdown), ("/top/tpl", ExitReason::Shutdown)];
        assert_eq!(made::exits(&told), expected, "{restart:?}");
    }
}

proves!(it_starts_with_a_template_and_no_instance, ["SUP-033"]);
async fn it_starts_with_a_template_and_no_instance() {
    let (root, supervisor) = start().await;
    assert_eq!(supervisor.count_children().unwrap(), NOTHING);
    assert_eq!(supervisor.which_children().unwrap(), []);
    assert_eq!(root.tree().nodes().len(), 2, "the two supervisors");
}

proves!(the_specification_of_an_instance_can_be_had, ["SUP-045"]);
async fn the_specification_of_an_instance_can_be_had() {
    let shutdown = Shutdown::Timeout(Duration::from_secs(7));
    let template =
        move |()| made::child("x", || Ok(())).restart(Restart::Transient).shutdown(shutdown);
    let (_root, supervisor) = start_with(|spec| spec, template).await;
    let live = supervisor.start_child(()).await.unwrap().unwrap();
    let spec = supervisor.get_child_spec(&live).await.unwrap();
    assert_eq!(spec.id().as_str(), "x");
    assert_eq!((spec.get_restart(), spec.get_shutdown()), (Restart::Transient, shutdown));
    assert_eq!(spec.get_type(), ChildType::Worker);

    let (_other_root, other) = start().await;
    let stranger = other.start_child(made::child("x", || Ok(()))).await.unwrap().unwrap();
    let missing = || RequestError::NotFound("x".into());
    assert_eq!(supervisor.get_child_spec(&stranger).await.unwrap_err(), missing());
    supervisor.terminate_child(&live).await.unwrap();
    assert_eq!(supervisor.get_child_spec(&live).await.unwrap_err(), missing());
}

proves!(an_instance_in_a_retry_loop_can_be_terminated, ["SUP-114"]);
async fn an_instance_in_a_retry_loop_can_be_terminated() {
    let endless = |spec: TemplateSupervisorSpec<_>| spec.intensity(u32::MAX, SOON);
    let (root, supervisor) = start_with(endless, |spec: ChildSpec| spec).await;
    let log = Log::default();
    let (spec, probe) = Probe::new("x", &log);
    let child = supervisor.start_child(spec).await.unwrap().unwrap();
    probe.script(&[Start::Fails; 100_000]);
    probe.end(|| Message::Panic).await;
    until(|| root.tree().nodes()[2].incarnation > 9).await;
    let listed: Vec<_> =
        supervisor.which_children().unwrap().iter().map(|child| child.status).collect();
    assert_eq!(listed, [ChildStatus::Restarting]);
    supervisor.terminate_child(&child).await.unwrap();
    assert_eq!(supervisor.which_children().unwrap(), []);
    assert_eq!(supervisor.count_children().unwrap(), NOTHING);
    probe.forget_script();
    log.take();
    tokio::time::advance(SOON).await;
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    assert!(log.take().is_empty(), "it stays away");
}

proves!(an_instance_whose_restart_says_ignore_is_dropped, ["SUP-118"]);
async fn an_instance_whose_restart_says_ignore_is_dropped() {
    for restart in [Restart::Permanent, Restart::Transient] {
        let (root, supervisor) = start().await;
        let starts = Arc::new(AtomicU32::new(0));
        let count = starts.clone();
        let init = move || match count.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(Ignore.into()),
        };
        supervisor.start_child(made::child("x", init).restart(restart)).await.unwrap();
        root.tree().crash("/top/tpl/x").unwrap().exit().await;
        until(|| supervisor.which_children().unwrap().is_empty()).await;
        assert_eq!(supervisor.count_children().unwrap(), NOTHING);
        tokio::time::advance(SOON).await;
        supervisor.start_child(made::child("y", || Ok(()))).await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 2, "{restart:?}");
        assert_eq!(supervisor.count_children().unwrap().active, 1);
    }
}

proves!(instances_that_retry_are_counted_and_not_active, ["SUP-119"]);
async fn instances_that_retry_are_counted_and_not_active() {
    let delay = Duration::from_secs(10);
    for supervisors in [false, true] {
        let (root, supervisor) = start().await;
        let names = ["a", "b", "c", "d"];
        for name in names {
            let spec = if supervisors {
                Supervisor::child_spec(SupervisorSpec::new(name)).0
            } else {
                made::child(name, || Ok(()))
            };
            supervisor.start_child(spec.restart_delay(delay)).await.unwrap();
        }
        let counts = |active| {
            let (supervisors, workers) = if supervisors { (4, 0) } else { (0, 4) };
            Counts { specs: 1, active, supervisors, workers }
        };
        assert_eq!(supervisor.count_children().unwrap(), counts(4));
        for path in ["/top/tpl/b", "/top/tpl/d"] {
            root.tree().kill(path).unwrap().exit().await;
        }
        assert_eq!(supervisor.count_children().unwrap(), counts(2));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(supervisor.count_children().unwrap(), counts(2), "still");
        tokio::time::advance(delay).await;
        until(|| supervisor.count_children().unwrap() == counts(4)).await;
    }
}

proves!(an_instance_is_started_and_restarted_with_its_argument, ["SUP-160", "SUP-168"]);
async fn an_instance_is_started_and_restarted_with_its_argument() {
    let log = Log::default();
    let own = log.clone();
    let of_the_template = "template".to_owned();
    let template = move |(id, text): (&'static str, String)| {
        let (log, first) = (own.clone(), of_the_template.clone());
        made::child(id, move || {
            log.add(format!("{first} {id} {text}"));
            Ok(())
        })
    };
    let (root, supervisor) = start_with(|spec| spec, template).await;
    supervisor.start_child(("x", "one".to_owned())).await.unwrap();
    supervisor.start_child(("y", "two".to_owned())).await.unwrap();
    assert_eq!(log.take(), ["template x one", "template y two"]);
    for (path, line) in [("/top/tpl/x", "template x one"), ("/top/tpl/y", "template y two")] {
        let victim = root.tree().crash(path).unwrap();
        victim.exit().await;
        until(|| root.tree().is_succeeded(path, &victim)).await;
        assert_eq!(log.take(), [line]);
    }
}

proves!(instances_are_listed_without_ids_and_counted, ["SUP-161", "SUP-162"]);
async fn instances_are_listed_without_ids_and_counted() {
    for supervisors in [false, true] {
        let (_root, supervisor) = start().await;
        let mut started = Vec::new();
        for many in 1..=3 {
            let spec = if supervisors {
                Supervisor::child_spec(SupervisorSpec::new("x")).0
            } else {
                made::child("x", || Ok(()))
            };
            started.push(supervisor.start_child(spec).await.unwrap().unwrap());
            let (supervisors, workers) = if supervisors { (many, 0) } else { (0, many) };
            let counts = Counts { specs: 1, active: many, supervisors, workers };
            assert_eq!(supervisor.count_children().unwrap(), counts);
        }
        let listed = supervisor.which_children().unwrap();
        assert_eq!(listed.len(), 3);
        for child in &listed {
            assert_eq!((&child.id, child.status), (&None, ChildStatus::Running));
            let process = child.process.as_ref().unwrap();
            assert!(started.iter().any(|started| started.process() == process));
        }
    }
}

proves!(an_instance_is_terminated_as_it_wishes_and_gone, ["SUP-163"]);
async fn an_instance_is_terminated_as_it_wishes_and_gone() {
    let one_second = Shutdown::Timeout(Duration::from_secs(1));
    for (cleanup, shutdown, secs, lines, reason) in [
        (Cleanup::Works, one_second, 0, &["x cleaned", "x dropped"][..], ExitReason::Shutdown),
        (Cleanup::Hangs, one_second, 1, &["x cleaned", "x dropped"], ExitReason::Killed),
        (Cleanup::Works, Shutdown::BrutalKill, 0, &["x dropped"], ExitReason::Killed),
    ] {
        let (root, supervisor) = start().await;
        let log = Log::default();
        let (spec, _) = Probe::with_cleanup("x", &log, cleanup);
        let child = supervisor.start_child(spec.shutdown(shutdown)).await.unwrap().unwrap();
        let (spec, other) = Probe::new("x", &Log::default());
        supervisor.start_child(spec).await.unwrap();
        log.take();
        let begun = root.tree().clock().now();
        supervisor.terminate_child(&child).await.unwrap();
        assert_eq!(root.tree().clock().now().since(begun), Duration::from_secs(secs));
        assert_eq!(log.take(), lines, "{cleanup:?} {shutdown:?}");
        assert_eq!(child.first_exit().await, reason);
        let left: Vec<String> = supervisor
            .which_children()
            .unwrap()
            .into_iter()
            .map(|child| child.name().to_owned())
            .collect();
        assert_eq!(left, ["x~2"]);
        assert_eq!(other.ping().await, Ok(1));
    }
}

proves!(terminating_the_dead_is_fine_and_strangers_are_left_alone, ["SUP-165", "SUP-166"]);
async fn terminating_the_dead_is_fine_and_strangers_are_left_alone() {
    let (root, supervisor) = start().await;
    let log = Log::default();
    let (spec, probe) = Probe::new("x", &log);
    let ended = supervisor.start_child(spec.restart(Restart::Temporary)).await.unwrap().unwrap();
    probe.end(|| Message::Panic).await;
    until(|| supervisor.which_children().unwrap().is_empty()).await;
    let (spec, _) = Probe::new("y", &log);
    let terminated = supervisor.start_child(spec).await.unwrap().unwrap();
    supervisor.terminate_child(&terminated).await.unwrap();
    assert_eq!(supervisor.terminate_child(&ended).await, Ok(()));
    assert_eq!(supervisor.terminate_child(&terminated).await, Ok(()));

    let (other_root, other) = start().await;
    let (spec, probe) = Probe::new("x", &log);
    let stranger = other.start_child(spec).await.unwrap().unwrap();
    let (spec, own) = Probe::new("x", &log);
    supervisor.start_child(spec).await.unwrap();
    log.take();
    let refused = supervisor.terminate_child(&stranger).await.unwrap_err();
    assert_eq!(refused, RequestError::NotFound("x".into()));
    assert_eq!((probe.ping().await, own.ping().await), (Ok(1), Ok(1)));
    assert!(log.take().is_empty());
    for root in [root, other_root] {
        assert_eq!(root.tree().nodes()[1].incarnation, 1);
    }
}

proves!(an_instance_that_does_not_start_is_not_added, ["SUP-169"]);
async fn an_instance_that_does_not_start_is_not_added() {
    let (root, supervisor) = start().await;
    let log = Log::default();
    let (spec, probe) = Probe::new("x", &log);
    probe.script(&[Start::Fails]);
    let refused = supervisor.start_child(spec).await.unwrap_err();
    let RequestError::StartFailed(error) = refused else { panic!("{refused}") };
    assert_eq!(error.reason, StartFault::Failed(ExitReason::Error("start fails".into())));
    assert_eq!(supervisor.which_children().unwrap(), []);
    assert_eq!(supervisor.count_children().unwrap(), NOTHING);
    tokio::time::advance(SOON).await;
    assert_eq!(probe.ping().await, Err(CallError::NoProc));
    assert!(log.take().is_empty(), "no retry");
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
}

proves!(temporary_instances_do_not_accumulate_what_they_were_started_with, ["SUP-174"]);
async fn temporary_instances_do_not_accumulate_what_they_were_started_with() {
    let argument = Arc::new(());
    let template = |argument: Arc<()>| {
        let init = move || {
            assert!(Arc::strong_count(&argument) > 1);
            Ok(())
        };
        made::child("x", init).restart(Restart::Temporary)
    };
    let (root, supervisor) = start_with(|spec| spec, template).await;
    for many in 1..=3 {
        supervisor.start_child(argument.clone()).await.unwrap();
        assert_eq!(Arc::strong_count(&argument), 1, "{many} running");
    }
    root.tree().crash("/top/tpl/x").unwrap().exit().await;
    until(|| supervisor.which_children().unwrap().len() == 2).await;
    supervisor.start_child(argument.clone()).await.unwrap();
    assert_eq!(supervisor.count_children().unwrap().active, 3);
    assert_eq!(Arc::strong_count(&argument), 1);
}

proves!(all_instances_share_one_intensity, ["SUP-177"]);
async fn all_instances_share_one_intensity() {
    let two = |spec: TemplateSupervisorSpec<_>| spec.intensity(2, SOON);
    let (root, supervisor) = start_with(two, |spec: ChildSpec| spec).await;
    let mut lifecycle = root.tree().lifecycle();
    for name in ["a", "b", "c", "d"] {
        supervisor.start_child(made::child(name, || Ok(()))).await.unwrap();
    }
    for path in ["/top/tpl/a", "/top/tpl/b"] {
        let victim = root.tree().crash(path).unwrap();
        victim.exit().await;
        until(|| root.tree().is_succeeded(path, &victim)).await;
    }
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
    root.tree().crash("/top/tpl/c").unwrap().exit().await;
    let told = made::until_exit(&mut lifecycle, "/top/tpl").await;
    assert_eq!(made::exits(&told).last(), Some(&("/top/tpl", ExitReason::Shutdown)));
}
