//! SUP stop: who waits for it, what else happens meanwhile, and what is reported.

use std::time::Duration;

use futures_util::FutureExt;
use perennial_core::{ExitReason, Restart, Shutdown, Strategy};
use perennial_supervision::{
    ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, RequestError, StopError, Supervisor,
    SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use crate::{
    fixture::{Answer, Gate, idle, reports},
    harness::proves,
    probe::{Cleanup, Log, Message, Probe, SOON, World, root},
};

proves!(a_stop_returns_when_nothing_is_left, ["SUP-151"]);
async fn a_stop_returns_when_nothing_is_left() {
    let log = Log::default();
    let (x, _) = Probe::new("x", &log);
    let (y, _) = Probe::new("y", &log);
    let (deep, _) = Supervisor::child_spec(SupervisorSpec::new("deep").child(y));
    let (inner, handle) = Supervisor::child_spec(SupervisorSpec::new("inner").child(x).child(deep));
    let top = root(SupervisorSpec::new("top").child(inner.restart(Restart::Temporary))).await;
    let process = top.supervisor().which_child("inner").unwrap().process.unwrap();
    log.take();
    assert_eq!(handle.stop(SOON).await, Ok(()));
    assert_eq!(log.take(), ["y cleaned", "y dropped", "x cleaned", "x dropped"]);
    assert_eq!(process.exit_reason(), Some(ExitReason::Shutdown));
    assert_eq!(handle.stop(SOON).await, Err(StopError::NoProc));

    let ten = Shutdown::Timeout(Duration::from_secs(10));
    let (slow, _) = Probe::with_cleanup("slow", &log, Cleanup::Hangs);
    let (inner, handle) =
        Supervisor::child_spec(SupervisorSpec::new("inner").child(slow.shutdown(ten)));
    let inner = inner.restart(Restart::Temporary);
    let process = top.supervisor().start_child(inner).await.unwrap().process.unwrap();
    let clock = top.tree().clock();
    let begun = clock.now();
    let four = Duration::from_secs(4);
    assert_eq!(handle.stop(four).await, Err(StopError::Timeout));
    assert_eq!(clock.now().since(begun), four);
    assert!(process.is_alive());
    assert_eq!(log.take(), ["slow started", "slow cleaned"], "it is in progress");
    assert_eq!(process.monitor().down().await, ExitReason::Shutdown);
    assert_eq!(clock.now().since(begun), Duration::from_secs(10), "and goes on");
    assert_eq!(log.take(), ["slow dropped"]);
}

/// Stops a supervisor when it is told to.
struct Mutineer(Log);

impl Actor for Mutineer {
    type Msg = Supervisor;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Supervisor>, (): ()) -> Answer {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Supervisor>,
        supervisor: Supervisor,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let answer = supervisor.stop(Duration::from_secs(3600)).await;
        self.0.add(format!("{answer:?}"));
        Ok(())
    }
}

proves!(a_child_that_stops_what_is_above_it_does_not_hang, ["SUP-152"]);
async fn a_child_that_stops_what_is_above_it_does_not_hang() {
    for ancestor in ["inner", "outer"] {
        let log = Log::default();
        let own = log.clone();
        let (child, address) = ChildSpec::actor("child", move || (Mutineer(own.clone()), ()));
        let child = child.shutdown(Shutdown::Timeout(Duration::from_secs(7)));
        let (inner, first) = Supervisor::child_spec(SupervisorSpec::new("inner").child(child));
        let (outer, second) = Supervisor::child_spec(
            SupervisorSpec::new("outer").child(inner.restart(Restart::Temporary)),
        );
        let spec = SupervisorSpec::new("top").child(outer.restart(Restart::Temporary));
        let root = root(spec).await;
        let target = if ancestor == "inner" { first.clone() } else { second };
        let child = first.which_child("child").unwrap().process.unwrap();
        let begun = root.tree().clock().now();
        address.cast(target.clone()).unwrap();
        assert_eq!(child.monitor().down().await, ExitReason::Killed);
        let took = root.tree().clock().now().since(begun);
        assert_eq!(took, Duration::from_secs(7), "{ancestor}: no later than its shutdown timeout");
        idle().await;
        assert_eq!(target.stop(SOON).await, Err(StopError::NoProc), "{ancestor} has stopped");
        assert!(log.take().is_empty(), "the call went with its caller");
    }
}

/// The message that ends a probe, and the reason it ends for.
type End = (fn() -> Message, &'static str);

const ENDS: [End; 5] = [
    (|| Message::StopSelf, "normal"),
    (|| Message::Exit(ExitReason::ShutdownWith("x".into())), "shutdown_with"),
    (|| Message::Fail, "error"),
    (|| Message::Panic, "panic"),
    (|| Message::Exit(ExitReason::Killed), "killed"),
];

proves!(who_ends_during_a_shutdown_keeps_its_reason_and_stays_away, ["SUP-144", "SUP-145"]);
async fn who_ends_during_a_shutdown_keeps_its_reason_and_stays_away() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
            for (how, name) in ENDS {
                let log = Log::default();
                let (a, probe) = Probe::new("a", &log);
                let (b, other) = Probe::new("b", &log);
                let (slow, _) = Probe::with_cleanup("slow", &log, Cleanup::Hangs);
                let spec = SupervisorSpec::new("top").strategy(strategy);
                let spec = spec.child(a.restart(restart)).child(b.restart(restart)).child(slow);
                let root = root(spec).await;
                let processes = ["a", "b"].map(|id| root.supervisor().which_child(id).unwrap());
                let processes = processes.map(|child| child.process.unwrap());
                log.take();
                let meanwhile = async {
                    idle().await;
                    assert_eq!(log.take(), ["slow cleaned"], "the shutdown waits for it");
                    assert_eq!(probe.end(how).await.name(), name);
                    assert_eq!(other.end(how).await.name(), name);
                };
                let (report, ()) = tokio::join!(root.shutdown(), meanwhile);
                assert_eq!(report.reason, ExitReason::Shutdown, "{restart:?} {name}");
                for process in &processes {
                    assert_eq!(process.exit_reason().unwrap().name(), name, "{restart:?}");
                }
                let lines = log.take();
                assert!(!lines.iter().any(|line| line.ends_with("started")), "{lines:?}");
            }
        }
    }
}

proves!(a_supervisor_that_stops_answers_no_request, ["SUP-155"]);
async fn a_supervisor_that_stops_answers_no_request() {
    let log = Log::default();
    let (slow, _) = Probe::with_cleanup("slow", &log, Cleanup::Hangs);
    let (a, _) = Probe::new("a", &log);
    let (inner, handle) = Supervisor::child_spec(SupervisorSpec::new("inner").child(a).child(slow));
    let (slow, _) = Probe::with_cleanup("slow", &log, Cleanup::Hangs);
    let (other, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    let temporary = Restart::Temporary;
    let spec = SupervisorSpec::new("top").child(inner.restart(temporary));
    let root = root(spec.child(other.restart(temporary))).await;
    dynamic.start_child(slow).await.unwrap();
    let (gate, top) = (Gate::new(), root.supervisor());
    let (new, _) = Probe::new("new", &log);
    // The first is being served when the stop is asked for, the second waits behind it.
    let mut served = std::pin::pin!(handle.start_child(gate.child("gated")));
    let mut queued = std::pin::pin!(handle.start_child(new.clone()));
    assert!(served.as_mut().now_or_never().is_none());
    assert!(queued.as_mut().now_or_never().is_none());
    idle().await;
    log.take();
    let stops = async { tokio::join!(handle.stop(SOON), dynamic.stop(SOON)) };
    let during = async {
        idle().await;
        gate.open();
        idle().await;
        assert_eq!(log.take(), ["slow cleaned", "slow cleaned"], "both are stopping");
        tokio::join!(
            handle.start_child(new.clone()),
            handle.terminate_child("a"),
            handle.restart_child("a"),
            handle.delete_child("a"),
            handle.get_child_spec("a"),
            dynamic.start_child(new.clone())
        )
    };
    let (stopped, during, served, queued) = tokio::join!(stops, during, served, queued);
    assert_eq!(stopped, (Ok(()), Ok(())));
    drop(served); // Answered, whichever way.
    for answer in [
        queued.err(),
        during.0.err(),
        during.1.err(),
        during.2.err(),
        during.3.err(),
        during.4.err(),
        during.5.err(),
    ] {
        assert_eq!(answer, Some(RequestError::Ended(ExitReason::Shutdown)));
    }
    idle().await;
    assert_eq!(handle.start_child(new.clone()).await.unwrap_err(), RequestError::NoProc);
    assert_eq!(dynamic.start_child(new).await.unwrap_err(), RequestError::NoProc);
    assert!(!log.take().iter().any(|line| line == "new started"));
    assert!(top.which_children().unwrap().is_empty());
}

/// An actor whose cleanup ends for a reason of its own.
struct Leaver(Option<ExitReason>);

impl Actor for Leaver {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Answer {
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match self.0.clone() {
            None => panic!("panics"),
            Some(ExitReason::Shutdown) => Ok(()),
            Some(reason) => Err(reason.into()),
        }
    }
}

proves!(what_a_stop_reports_depends_on_the_reason_and_the_policy, ["SUP-156"]);
async fn what_a_stop_reports_depends_on_the_reason_and_the_policy() {
    let detail = ExitReason::ShutdownWith("x".into());
    let reasons = [
        Some(ExitReason::Shutdown),
        Some(ExitReason::Normal),
        Some(detail.clone()),
        Some(ExitReason::Error("x".into())),
        Some(ExitReason::Timeout),
        Some(ExitReason::Killed),
        None,
    ];
    for how in ["shutdown", "terminate_child"] {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            for reason in &reasons {
                let own = reason.clone();
                let (leaver, _) = ChildSpec::actor("x", move || (Leaver(own.clone()), ()));
                let root = root(SupervisorSpec::new("top").child(leaver.restart(restart))).await;
                let process = root.supervisor().which_child("x").unwrap().process.unwrap();
                let mut lifecycle = root.tree().lifecycle();
                match how {
                    "shutdown" => drop(root.shutdown().await),
                    _ => root.supervisor().terminate_child("x").await.unwrap(),
                }
                let seen = process.exit_reason().unwrap();
                match reason {
                    Some(reason) => assert_eq!(seen, *reason),
                    None => assert_eq!(seen.name(), "panic"),
                }
                let calm = matches!(seen, ExitReason::Normal | ExitReason::ShutdownWith(_));
                let silent =
                    seen == ExitReason::Shutdown || (calm && restart != Restart::Permanent);
                let expected = if silent {
                    vec![]
                } else {
                    vec![("shutdown_error", "x".to_owned(), seen.clone())]
                };
                assert_eq!(reports(&mut lifecycle), expected, "{how} {restart:?} {seen}");
            }
        }
    }
}

proves!(a_crash_that_is_found_by_the_stop_is_reported_once, ["SUP-158"]);
async fn a_crash_that_is_found_by_the_stop_is_reported_once() {
    for how in ["terminate_child", "shutdown", "group"] {
        let log = Log::default();
        let gate = Gate::new();
        let (a, first) = Probe::new("a", &log);
        let (b, second) = Probe::new("b", &log);
        let spec = SupervisorSpec::new("top").strategy(Strategy::RestForOne).child(a).child(b);
        let root = root(spec).await;
        let top = root.supervisor();
        log.take();
        let mut lifecycle = root.tree().lifecycle();
        // What was asked for before the crash is served before the supervisor hears of it.
        let busy = top.start_child(gate.child("slow"));
        let request = async {
            idle().await;
            match how {
                "terminate_child" => top.terminate_child("b").await.unwrap(),
                "shutdown" => drop(root.shutdown().await),
                _ => {
                    first.end(|| Message::Fail).await;
                }
            }
        };
        let crash = async {
            idle().await;
            idle().await;
            assert_eq!(second.end(|| Message::Panic).await.name(), "panic");
            assert!(reports(&mut lifecycle).is_empty(), "nobody has handled it");
            gate.open();
            gate.open();
        };
        let (_, (), ()) = tokio::join!(busy, request, crash);
        drop(top.get_child_spec("b").await);
        drop(top.get_child_spec("b").await);
        let told = reports(&mut lifecycle);
        let about_b: Vec<_> = told.iter().filter(|(_, child, _)| child == "b").collect();
        assert_eq!(about_b.len(), 1, "{how}: {told:?}");
        assert_eq!((about_b[0].0, about_b[0].2.name()), ("shutdown_error", "panic"), "{how}");
        let lines = log.take();
        let started = lines.iter().filter(|line| *line == "b started").count();
        assert_eq!(started, usize::from(how == "group"), "{how}: started with its group only");
        let counted = root.tree().nodes()[0].intensity.unwrap().in_window;
        assert_eq!(counted, u32::from(how == "group"), "{how}");
    }
}

proves!(a_supervisor_that_gave_up_shows_the_last_one_as_stopped, ["SUP-134"]);
async fn a_supervisor_that_gave_up_shows_the_last_one_as_stopped() {
    for restart in [Restart::Permanent, Restart::Transient] {
        let log = Log::default();
        let (a, probe) = Probe::new("a", &log);
        let (slow, _) = Probe::with_cleanup("slow", &log, Cleanup::Hangs);
        let spec = SupervisorSpec::new("top").intensity(1, SOON).child(a.restart(restart));
        let root = root(spec.child(slow)).await;
        probe.end(|| Message::Panic).await;
        assert_eq!(probe.answers().await, 1);
        log.take();
        probe.end(|| Message::Panic).await;
        idle().await;
        assert_eq!(log.take(), ["a cleaned", "a dropped", "slow cleaned"], "the rest is shut down");
        let line = root.supervisor().which_child("a").unwrap();
        let stopped = perennial_supervision::ChildStatus::Stopped;
        assert_eq!((line.status, line.process), (stopped, None), "{restart:?}");
        assert_eq!(root.ended().await, ExitReason::Shutdown);
        assert!(!log.take().iter().any(|line| line == "a started"));
    }
    let world = World::start_with(&[Restart::Temporary], |spec| spec.intensity(0, SOON));
    let world = world.await.unwrap();
    world.probes[0].end(|| Message::Panic).await;
    idle().await;
    assert!(world.top().which_children().unwrap().is_empty(), "a temporary one never exceeds it");
    assert_eq!(world.node("/top").incarnation, 1);
}
