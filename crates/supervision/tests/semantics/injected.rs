//! Fault injection hits every kind of child, and supervisors die clean.

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CallError, ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, StopToken, Supervisor,
    SupervisorSpec,
};

use crate::probe::{Log, Probe, SOON, World, root};

#[tokio::test(start_paused = true)]
async fn an_actor_can_be_crashed_and_killed_by_its_path() {
    let world = World::start_with(&[Restart::Permanent], |spec| spec).await.unwrap();
    world.log.take();
    let victim = world.root.tree().crash("/top/a").unwrap();
    assert_eq!(victim.exit().await.name(), "panic");
    world.probes[0].answers().await;
    assert_eq!(world.log.take(), ["a cleaned", "a dropped", "a started"]);

    let victim = world.root.tree().kill("/top/a").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
    world.probes[0].answers().await;
    assert_eq!(world.log.take(), ["a dropped", "a started"], "a kill skips the cleanup");
    assert!(world.root.tree().kill("/top/nobody").is_err());
}

#[tokio::test]
async fn tasks_and_threads_can_be_hit_as_well() {
    let idle = ChildSpec::task("idle", std::future::pending::<Result<(), String>>)
        .restart(perennial_core::Restart::Permanent);
    let thread = ChildSpec::thread("thread", |stop: StopToken| {
        let (wake, woken) = std::sync::mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        woken.recv()
    });
    let root = root(SupervisorSpec::new("top").intensity(9, SOON).child(idle).child(thread)).await;
    for path in ["/top/idle", "/top/thread"] {
        for incarnation in [2, 3] {
            let victim = if incarnation == 2 {
                root.tree().crash(path).unwrap()
            } else {
                root.tree().kill(path).unwrap()
            };
            let expected = if incarnation == 2 { "panic" } else { "killed" };
            assert_eq!(victim.exit().await.name(), expected, "{path}");
            while root.tree().nodes().iter().all(|n| n.path != path || n.incarnation < incarnation)
            {
                tokio::task::yield_now().await;
            }
        }
    }
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_below_a_killed_supervisor_survives_its_announced_end() {
    for crash in [true, false] {
        let log = Log::default();
        let (a, probe) = Probe::new("a", &log);
        let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(a));
        let root = root(SupervisorSpec::new("top").child(inner)).await;
        log.take();
        let tree = root.tree();
        let victim = if crash { tree.crash("/top/inner") } else { tree.kill("/top/inner") };
        victim.unwrap().exit().await;
        assert_eq!(probe.answers().await, 1, "the address finds the new incarnation");
        assert_eq!(log.take(), ["a cleaned", "a dropped", "a started"], "in this order");
    }
}

#[tokio::test(start_paused = true)]
async fn dynamic_children_do_not_come_back_with_their_supervisor() {
    let (child, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    let root = root(SupervisorSpec::new("top").child(child)).await;
    let (spec, probe) = Probe::new("x", &Log::default());
    dynamic.start_child(spec).await.unwrap();
    root.tree().kill("/top/dyn").unwrap().exit().await;
    let gone = loop {
        match probe.ping().await {
            Err(CallError::Exited(_)) => (),
            other => break other,
        }
    };
    assert_eq!(gone, Err(CallError::NoProc));
    assert_eq!(dynamic.which_children().unwrap(), []);
    let (spec, probe) = Probe::new("x", &Log::default());
    dynamic.start_child(spec).await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));
}
