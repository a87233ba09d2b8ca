//! OBS and SUP: what can be seen of a tree from its handles, and from inside.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use perennial_core::{ChildType, ExitReason, Restart};
use perennial_supervision::{
    ChildInfo, ChildSpec, ChildStatus, Counts, DynamicSupervisor, DynamicSupervisorSpec, Exit,
    GenServer, Init, LifecycleEvent, Next, ProcessRef, Reply, RequestError, ServerCx, SpecError,
    StartFault, Supervisor, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec, TemplateSupervisor,
    TemplateSupervisorSpec, actor::ActorError, callers, current_process,
};

use crate::{
    fixture::{child, told},
    gs_server::{Talk, Talker, settle},
    harness::proves,
    probe::{Log, Message, Probe, SOON, Start, World, root, until},
};

proves!(every_call_on_what_does_not_run_says_so, ["SUP-184"]);
async fn every_call_on_what_does_not_run_says_so() {
    let spec = || child("x", || async { Ok(()) });
    let (_never, top) = Supervisor::child_spec(SupervisorSpec::new("top"));
    let (_never, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    let (_never, template) =
        TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("tpl", move |()| spec()));
    let none = RequestError::NoProc;
    assert_eq!(top.start_child(spec()).await.unwrap_err(), none);
    assert_eq!(top.terminate_child("x").await, Err(none.clone()));
    assert_eq!(top.restart_child("x").await.unwrap_err(), none);
    assert_eq!(top.delete_child("x").await, Err(none.clone()));
    assert_eq!(top.get_child_spec("x").await.unwrap_err(), none);
    assert_eq!(top.reconfigure(SupervisorSpec::new("top")).await, Err(none.clone()));
    assert_eq!(top.which_children(), Err(none.clone()));
    assert_eq!(top.which_child("x"), Err(none.clone()));
    assert_eq!(top.count_children(), Err(none.clone()));
    assert_eq!(dynamic.start_child(spec()).await.unwrap_err(), none);
    assert_eq!(dynamic.which_children(), Err(none.clone()));
    assert_eq!(dynamic.count_children(), Err(none.clone()));
    assert_eq!(template.start_child(()).await.unwrap_err(), none);
    assert_eq!(template.which_children(), Err(none.clone()));
    assert_eq!(template.count_children(), Err(none));
}

fn line(info: &ChildInfo) -> (String, ChildType, ChildStatus, bool) {
    (info.name().to_owned(), info.child_type, info.status, info.process.is_some())
}

proves!(a_tree_can_be_walked_from_any_supervisor, ["OBS-001", "OBS-002"]);
async fn a_tree_can_be_walked_from_any_supervisor() {
    let log = Log::default();
    let (running, _) = Probe::new("running", &log);
    let (stopped, _) = Probe::new("stopped", &log);
    let (waits, waiting) = Probe::new("waits", &log);
    let inner = SupervisorSpec::new("inner").child(running).child(stopped);
    let (inner, middle) =
        Supervisor::child_spec(inner.child(waits.restart_delay(Duration::from_secs(9))));
    let (dynamic, some) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("some", 9));
    let outer = SupervisorSpec::new("outer").child(inner).child(dynamic);
    let (outer, handle) = Supervisor::child_spec(outer);
    let root = root(SupervisorSpec::new("top").child(outer)).await;
    some.start_child(Probe::new("one", &log).0).await.unwrap();
    middle.terminate_child("stopped").await.unwrap();
    waiting.end(|| Message::Panic).await;

    let (worker, supervisor) = (ChildType::Worker, ChildType::Supervisor);
    let (runs, ends) = (ChildStatus::Running, ChildStatus::Stopped);
    let top = root.supervisor().which_children().unwrap();
    assert_eq!(
        top.iter().map(line).collect::<Vec<_>>(),
        [("outer".into(), supervisor, runs, true)]
    );
    let outer = top[0].which_children();
    assert_eq!(
        outer.iter().map(line).collect::<Vec<_>>(),
        [("some".into(), supervisor, runs, true), ("inner".into(), supervisor, runs, true)],
        "in the order of a static supervisor's own list"
    );
    let inner = outer[1].which_children();
    assert_eq!(
        inner.iter().map(line).collect::<Vec<_>>(),
        [
            ("waits".into(), worker, ChildStatus::Restarting, false),
            ("stopped".into(), worker, ends, false),
            ("running".into(), worker, runs, true),
        ]
    );
    assert_eq!(inner[2].process, middle.which_child("running").unwrap().process);
    assert!(inner[2].which_children().is_empty(), "a worker has none");
    assert_eq!(outer[0].which_children()[0].name(), "one");
    // From the middle of the tree, and by number alone.
    assert_eq!(handle.which_children().unwrap()[1].which_children(), inner);
    let counts = Counts { specs: 3, active: 1, supervisors: 0, workers: 3 };
    assert_eq!(middle.count_children(), Ok(counts));
    let counts = Counts { specs: 2, active: 2, supervisors: 2, workers: 0 };
    assert_eq!(handle.count_children(), Ok(counts));
}

proves!(walking_waits_for_nobody_and_bears_what_vanishes, ["OBS-005"]);
async fn walking_waits_for_nobody_and_bears_what_vanishes() {
    let log = Log::default();
    let (a, _) = Probe::new("a", &log);
    let (inner, middle) = Supervisor::child_spec(SupervisorSpec::new("inner").child(a));
    let inner = inner.restart(Restart::Temporary);
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    let before = root.tree().clock().now();
    let seen = root.supervisor().which_children().unwrap();
    // Busy for a minute: a start that hangs.
    let (hangs, probe) = Probe::new("hangs", &log);
    probe.script(&[Start::Hangs]);
    let asked = middle.clone();
    let busy = async move { asked.start_child(hangs.start_within(SOON)).await };
    let look = async {
        settle().await;
        let names = |of: &ChildInfo| {
            of.which_children().into_iter().map(|child| child.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&seen[0]), ["hangs", "a"]);
        assert_eq!(root.tree().nodes().len(), 4);
        assert_eq!(root.tree().clock().now(), before, "nobody was waited for");
    };
    let (refused, ()) = tokio::join!(busy, look);
    assert!(refused.is_err());
    middle.stop(SOON).await.unwrap();
    until(|| root.supervisor().which_children().unwrap().is_empty()).await;
    assert!(seen[0].which_children().is_empty(), "it has vanished");
}

proves!(a_child_names_its_parent_and_all_above, ["OBS-003"]);
async fn a_child_names_its_parent_and_all_above() {
    let (spec, talk) = Talk::new("a");
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(spec));
    let (seen, look) = mpsc::channel();
    let seen = Arc::new(std::sync::Mutex::new(seen));
    let own = seen.clone();
    let task = ChildSpec::task("task", move || {
        let seen = own.clone();
        async move {
            seen.lock().unwrap().send(current_process()).unwrap();
            std::future::pending::<Result<(), String>>().await
        }
    })
    .restart(perennial_core::Restart::Permanent);
    let root = root(SupervisorSpec::new("top").child(inner).child(task)).await;
    let above =
        |process: &ProcessRef| process.ancestors().map(ToOwned::to_owned).collect::<Vec<String>>();
    let told = seen.clone();
    talk.say(Talker::act(move |_, cx| {
        let own = current_process().unwrap();
        assert_eq!(own, *cx.process());
        told.lock().unwrap().send(Some(own)).unwrap();
        Ok(Next::Continue)
    }));
    talk.ping().await.unwrap();
    let found: Vec<ProcessRef> = look.try_iter().flatten().collect();
    assert_eq!(found[0].path(), "/top/task");
    assert_eq!(above(&found[0]), ["/top"]);
    assert_eq!(found[1].path(), "/top/inner/a");
    assert_eq!(above(&found[1]), ["/top/inner", "/top"]);
    let top = root.tree().nodes().into_iter().next().unwrap();
    assert_eq!((top.path.as_str(), top.parent), ("/top", None), "the chain ends at the root");
    assert_eq!(current_process(), None, "a test is no part of the tree");
}

proves!(a_task_knows_who_asked_and_who_supervises, ["OBS-004"]);
async fn a_task_knows_who_asked_and_who_supervises() {
    let (tasks, handle) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 9));
    let (seen, look) = mpsc::channel();
    let asks = move || {
        let (handle, seen) = (handle.clone(), seen.clone());
        async move {
            let again = handle.clone();
            let inner = async move {
                let own = current_process().unwrap();
                let above: Vec<String> = own.ancestors().map(ToOwned::to_owned).collect();
                seen.send((callers(), own, above)).unwrap();
            };
            let outer = async move {
                again.start_child("inner", inner).await.unwrap().exit().await;
            };
            handle.start_child("outer", outer).await.unwrap().exit().await;
            std::future::pending::<Result<(), String>>().await
        }
    };
    let root = root(
        SupervisorSpec::new("top")
            .child(tasks)
            .child(ChildSpec::task("asks", asks).restart(perennial_core::Restart::Permanent)),
    )
    .await;
    let mut found = Vec::new();
    while found.is_empty() {
        tokio::task::yield_now().await;
        found.extend(look.try_iter());
    }
    let (callers, own, above) = found.remove(0);
    let paths: Vec<&str> = callers.iter().map(ProcessRef::path).collect();
    assert_eq!(paths, ["/top/tasks/outer", "/top/asks"], "who asked, the nearest first");
    assert_eq!(callers[1], root.supervisor().which_child("asks").unwrap().process.unwrap());
    assert_eq!(own.path(), "/top/tasks/inner");
    assert_eq!(above, ["/top/tasks", "/top"], "who supervises");
}

proves!(events_say_whose_child_which_life_why_and_when, ["OBS-007"]);
async fn events_say_whose_child_which_life_why_and_when() {
    let world = World::start(|spec| spec.intensity(1, SOON)).await;
    let of = |process: Option<ProcessRef>| process.unwrap().to_string();
    let first = of(world.top().which_child("a").unwrap().process);
    let top = of(world
        .root
        .tree()
        .nodes()
        .first()
        .map(|_| ())
        .and_then(|()| world.top().which_child("a").unwrap().process));
    assert_eq!(first, top);
    let mut lifecycle = world.root.tree().lifecycle();
    tokio::time::advance(Duration::from_secs(3)).await;
    world.probes[0].end(|| Message::Panic).await;
    world.probes[0].answers().await;
    let second = of(world.top().which_child("a").unwrap().process);
    assert_ne!(first, second);
    let events = told(&mut lifecycle);
    for event in &events {
        assert_eq!(event.at.elapsed(), Duration::from_secs(3), "when");
    }
    let [exited, reported, started] = &events[..] else { panic!("{events:?}") };
    for event in [exited, started] {
        assert_eq!((event.supervisor(), event.name()), (Some("/top"), "a"), "whose child");
    }
    assert_eq!(of(exited.process.clone()), first, "which life");
    assert_eq!(of(started.process.clone()), second);
    assert!(matches!(&exited.event, LifecycleEvent::Exited { reason, .. } if reason.is_abnormal()));
    assert!(matches!(started.event, LifecycleEvent::Started { incarnation: 2, .. }));
    assert_eq!((reported.supervisor(), reported.name()), (None, "top"));
    assert!(matches!(
        &reported.event,
        LifecycleEvent::ChildTerminated { reason: ExitReason::Panic { .. }, .. }
    ));
    // One crash more than allowed: it gives up; and a stop that goes wrong is told too.
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    let events = told(&mut lifecycle);
    assert!(events.iter().any(|event| matches!(event.event, LifecycleEvent::GaveUp { .. })));
    let ended = events.last().unwrap();
    assert_eq!((ended.supervisor(), ended.name()), (None, "top"));
    assert!(matches!(ended.event, LifecycleEvent::Exited { reason: ExitReason::Shutdown, .. }));
}

proves!(a_name_without_text_is_refused_before_anything_runs, ["GS-016"]);
async fn a_name_without_text_is_refused_before_anything_runs() {
    let log = Log::default();
    let root = root(SupervisorSpec::new("top")).await;
    let nameless = || Probe::new("a", &log).0.name("");
    let empty = SpecError::EmptyName("a".into());
    assert!(empty.to_string().contains("the name of child `a` is empty"), "{empty}");
    let refused = root.supervisor().start_child(nameless()).await.unwrap_err();
    assert_eq!(refused, RequestError::Invalid(empty.clone()));
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(nameless()));
    let refused = root.supervisor().start_child(inner).await.unwrap_err();
    let RequestError::StartFailed(error) = refused else { panic!("{refused}") };
    assert_eq!(error.reason, StartFault::Invalid(empty));
    assert!(log.take().is_empty(), "nothing ran");
    let unnamed = root.supervisor().start_child(Probe::new("a", &log).0).await.unwrap();
    assert!(unnamed.process.is_some(), "no name is no fault");
}

/// Starts two children when it is told to, one linked and one not, and tells of exits.
struct Starter(DynamicSupervisor, mpsc::Sender<String>);

impl GenServer for Starter {
    type Arguments = (DynamicSupervisor, mpsc::Sender<String>);
    type Message = (ChildSpec, ChildSpec, Reply<[ProcessRef; 2]>);

    async fn init(own: Self::Arguments, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self(own.0, own.1)))
    }

    async fn handle(
        &mut self,
        (linked, plain, reply): Self::Message,
        cx: &mut ServerCx<Self>,
    ) -> Result<Next<Self::Message>, ActorError> {
        let (linked, _) = cx.start_link(&self.0, linked).await?;
        let plain = self.0.start_child(plain).await?;
        reply.send([linked.process().clone(), plain.process().clone()]);
        Ok(Next::Continue)
    }

    async fn handle_exit(
        &mut self,
        exit: Exit,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Self::Message>, ActorError> {
        self.1.send(exit.process.path().to_owned())?;
        Ok(Next::Continue)
    }
}

proves!(a_start_with_a_link_links_both_ways_and_one_without_neither, ["GS-002"]);
async fn a_start_with_a_link_links_both_ways_and_one_without_neither() {
    let (dynamic, some) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("some", 9));
    let (exits, told) = mpsc::channel();
    let own = some.clone();
    let (starter, address) =
        ChildSpec::server::<Starter>("starter", move || (own.clone(), exits.clone()));
    let starter = starter.restart(Restart::Temporary);
    let root = root(SupervisorSpec::new("top").child(dynamic).child(starter)).await;
    let log = Log::default();
    let probe = |name: &str| {
        let (spec, probe) = Probe::new(name, &log);
        (spec.restart(Restart::Temporary), probe)
    };
    for ends_first in ["child", "starter"] {
        let ((one, linked), (other, plain)) = (probe("linked"), probe("plain"));
        let started = address.call(|reply| (one, other, reply), SOON).await.unwrap();
        if ends_first == "child" {
            plain.end(|| Message::Panic).await;
            linked.end(|| Message::Panic).await;
            settle().await;
            assert_eq!(told.try_iter().collect::<Vec<_>>(), ["/top/some/linked"]);
        } else {
            let mut monitor = started[0].monitor();
            address.stop(ExitReason::Normal, SOON).await.unwrap();
            assert_eq!(monitor.down().await, ExitReason::Normal);
            settle().await;
            assert!(started[1].is_alive());
            assert_eq!(plain.ping().await, Ok(1));
        }
    }
    drop(root);
}
