//! SUP queries: what the lists show, in which order, and how soon.

use perennial_core::{ChildType, Restart};
use perennial_supervision::{
    ChildInfo, ChildStatus, DynamicSupervisor, DynamicSupervisorSpec, RequestError, Supervisor,
    SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec,
};

use crate::{
    fixture::{Gate, idle},
    harness::proves,
    probe::{Log, Message, Probe, SOON, World, ids, status},
};

fn listed(of: &Supervisor) -> Vec<String> {
    of.which_children().unwrap().into_iter().map(|child| child.name().to_owned()).collect()
}

proves!(the_last_one_started_is_listed_first, ["SUP-178", "SUP-201"]);
async fn the_last_one_started_is_listed_first() {
    let world = World::start(|spec| spec).await;
    let top = world.top();
    world.log.take();
    assert_eq!(listed(top), ["c", "b", "a"]);
    let (d, probe) = Probe::new("d", &world.log);
    let start = top.start_child(d).await.unwrap();
    assert_eq!(world.log.take(), ["d started"], "at once");
    let process = start.process.unwrap();
    assert_eq!(process.path(), "/top/d");
    assert_eq!(top.which_child("d").unwrap().process, Some(process));
    assert_eq!(probe.ping().await, Ok(1));
    assert_eq!(listed(top), ["d", "c", "b", "a"]);
    world.probes[0].end(|| Message::Panic).await;
    world.probes[0].answers().await;
    top.terminate_child("b").await.unwrap();
    assert_eq!(listed(top), ["d", "c", "b", "a"], "places are kept");
    top.delete_child("b").await.unwrap();
    top.start_child(Probe::new("b", &world.log).0).await.unwrap();
    assert_eq!(listed(top), ["b", "d", "c", "a"]);
    world.log.take();
    world.root.shutdown().await;
    let lines = world.log.take();
    let cleaned: Vec<&String> = lines.iter().filter(|line| line.ends_with("cleaned")).collect();
    assert_eq!(cleaned, ["b cleaned", "d cleaned", "c cleaned", "a cleaned"], "in start order");
}

proves!(one_line_of_the_list_can_be_asked_for, ["SUP-202"]);
async fn one_line_of_the_list_can_be_asked_for() {
    let world = World::start(|spec| spec).await;
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner"));
    let top = world.top();
    top.start_child(inner).await.unwrap();
    top.terminate_child("b").await.unwrap();
    let all = top.which_children().unwrap();
    assert_eq!(all.len(), 4);
    for line in &all {
        assert_eq!(top.which_child(line.name()).as_ref(), Ok(line));
    }
    assert_eq!(top.which_child("inner").unwrap().child_type, ChildType::Supervisor);
    assert_eq!(top.which_child("b").unwrap().status, ChildStatus::Stopped);
    let nobody = top.which_child("nobody").unwrap_err();
    assert_eq!(nobody, RequestError::NotFound("nobody".into()));

    let log = Log::default();
    let (spec, template) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new(
        "template",
        move |restart: Restart| Probe::new("x", &log).0.restart(restart),
    ));
    top.start_child(spec).await.unwrap();
    let first = template.start_child(Restart::Permanent).await.unwrap().unwrap();
    let second = template.start_child(Restart::Temporary).await.unwrap().unwrap();
    for child in [&first, &second] {
        let line: ChildInfo = template.which_child(child).unwrap();
        assert_eq!((line.id, line.status), (None, ChildStatus::Running));
        assert_eq!(line.process, Some(child.process().clone()));
    }
    template.terminate_child(&first).await.unwrap();
    assert_eq!(template.which_child(&first), Err(RequestError::NotFound("x".into())));
    assert!(template.which_child(&second).is_ok());
    let (other, elsewhere) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    top.start_child(other).await.unwrap();
    let foreign = elsewhere.start_child(Probe::new("x", &world.log).0).await.unwrap();
    assert_eq!(template.which_child(&foreign), Err(RequestError::NotFound("x".into())));
}

proves!(a_process_is_no_id_of_a_static_supervisor, ["SUP-192"]);
async fn a_process_is_no_id_of_a_static_supervisor() {
    let world = World::start(|spec| spec).await;
    let process = world.top().which_child("a").unwrap().process.unwrap();
    for text in [process.to_string(), process.path().to_owned(), format!("{process:?}")] {
        let refused = world.top().terminate_child(text.as_str()).await.unwrap_err();
        assert_eq!(refused, RequestError::NotFound(text.into()));
    }
    assert!(process.is_alive());
    assert_eq!((world.probes[0].ping().await, world.incarnation("a")), (Ok(1), 1));
}

proves!(those_that_live_are_counted_whatever_keeps_the_supervisor_busy, ["SUP-204"]);
async fn those_that_live_are_counted_whatever_keeps_the_supervisor_busy() {
    let world = World::start(|spec| spec).await;
    let gate = Gate::new();
    let top = world.top();
    let starting = top.start_child(gate.child("slow"));
    let meanwhile = async {
        idle().await;
        let counts = top.count_children().unwrap();
        assert_eq!((counts.specs, counts.active), (4, 3));
        for (left, probe) in [2, 1, 0].into_iter().zip(&world.probes) {
            probe.end(|| Message::Panic).await;
            let counts = top.count_children().unwrap();
            assert_eq!((counts.specs, counts.active), (4, left), "nobody has handled its end");
        }
        gate.open();
    };
    let (started, ()) = tokio::join!(starting, meanwhile);
    started.unwrap();
    top.terminate_child("nobody").await.unwrap_err();
    assert_eq!(top.count_children().unwrap().active, 4, "the restarts came before the answer");
}

proves!(an_end_that_was_seen_is_in_every_later_list, ["SUP-205"]);
async fn an_end_that_was_seen_is_in_every_later_list() {
    for busy in [false, true] {
        let restarts = [Restart::Permanent, Restart::Transient, Restart::Temporary];
        let world = World::start_with(&restarts, |spec| spec).await.unwrap();
        let gate = Gate::new();
        let top = world.top();
        let slow = async {
            if busy {
                top.start_child(gate.child("slow")).await.unwrap();
            }
        };
        let meanwhile = async {
            idle().await;
            for probe in &world.probes {
                let died = top.which_child(probe.name.as_str()).unwrap().process.unwrap();
                let mut monitor = died.monitor();
                probe.address.cast(Message::StopSelf).unwrap();
                monitor.down().await;
                let line =
                    top.which_children().unwrap().into_iter().find(|it| it.name() == probe.name);
                match probe.name.as_str() {
                    "a" => {
                        let line = line.unwrap();
                        assert_ne!(line.process, Some(died));
                        assert_eq!(line.process.is_some(), line.status == ChildStatus::Running);
                        assert_ne!(line.status, ChildStatus::Stopped, "its replacement comes");
                    }
                    "b" => assert_eq!(line.unwrap().status, ChildStatus::Stopped),
                    _ => assert_eq!(line, None),
                }
            }
            gate.open();
        };
        tokio::join!(slow, meanwhile);
        top.get_child_spec("a").await.unwrap();
        assert_eq!(status(top, "a"), ChildStatus::Running, "handled before the next request");
        let expected = if busy { vec!["a", "b", "slow"] } else { vec!["a", "b"] };
        assert_eq!(ids(top), expected);
    }
}

// Real time: with several threads a supervisor that is told last is asked before it knows.
proves!(an_end_that_was_seen_is_behind_every_later_request, real_time, ["SUP-205"]);
async fn an_end_that_was_seen_is_behind_every_later_request() {
    let world = World::start(|spec| spec.intensity(1000, SOON)).await;
    let top = world.top();
    let (spec, probe) = Probe::new("x", &world.log);
    top.start_child(spec.restart(Restart::Transient)).await.unwrap();
    for _ in 0..300 {
        let mut monitor = top.which_child("x").unwrap().process.unwrap().monitor();
        probe.address.cast(Message::StopSelf).unwrap();
        monitor.down().await;
        assert_eq!(status(top, "x"), ChildStatus::Stopped);
        top.restart_child("x").await.unwrap();

        let died = top.which_child("a").unwrap().process.unwrap();
        let mut monitor = died.monitor();
        world.probes[0].address.cast(Message::Panic).unwrap();
        monitor.down().await;
        assert_ne!(top.which_child("a").unwrap().process, Some(died));
        top.get_child_spec("a").await.unwrap();
        assert_eq!(status(top, "a"), ChildStatus::Running);
    }
}
