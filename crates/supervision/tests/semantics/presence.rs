//! What addresses know: no caller waits for what does not come, and none is told that nothing comes
//! of what runs.

use std::{
    sync::{Mutex, mpsc},
    time::Duration,
};

use perennial_core::{ExitReason, Restart, Strategy};
use perennial_supervision::{
    CallError, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, LifecycleEvent, Options,
    RequestError, Root, Supervisor, SupervisorSpec,
    ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort},
};

use crate::probe::{Log, Message, Probe, SOON, Start, World, root};

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_child_whose_first_start_failed() {
    let log = Log::default();
    let (child, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    let root = root(SupervisorSpec::new("top").child(child)).await;
    let (spec, first) = Probe::new("x", &log);
    first.script(&[Start::Fails]);
    root.supervisor().start_child(spec.clone()).await.unwrap_err();
    assert_eq!(first.ping().await, Err(CallError::NoProc));
    let (other, second) = Probe::new("y", &log);
    second.script(&[Start::Fails]);
    dynamic.start_child(other.clone()).await.unwrap_err();
    assert_eq!(second.ping().await, Err(CallError::NoProc));
    root.supervisor().start_child(spec).await.unwrap();
    dynamic.start_child(other).await.unwrap();
    assert_eq!((first.ping().await, second.ping().await), (Ok(1), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_tree_that_did_not_start() {
    let log = Log::default();
    let (a, first) = Probe::new("a", &log);
    let (b, second) = Probe::new("b", &log);
    second.script(&[Start::Fails]);
    let spec = SupervisorSpec::new("top").child(a).child(b);
    Root::start(spec.clone(), Clock::start(), Options::default()).await.unwrap_err();
    assert_eq!(first.ping().await, Err(CallError::NoProc));
    assert_eq!(second.ping().await, Err(CallError::NoProc));
    let _root = root(spec).await;
    assert_eq!(first.ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_added_at_run_time_goes_with_its_supervisor() {
    let log = Log::default();
    let (declared, comes_back) = Probe::new("declared", &log);
    let (inner, supervisor) = Supervisor::child_spec(SupervisorSpec::new("inner").child(declared));
    let (middle, _) = Supervisor::child_spec(SupervisorSpec::new("middle").child(inner));
    let root = root(SupervisorSpec::new("top").intensity(9, SOON).child(middle)).await;
    for path in ["/top/middle/inner", "/top/middle"] {
        let (added, goes) = Probe::new("added", &log);
        supervisor.start_child(added.clone()).await.unwrap();
        assert_eq!(goes.ping().await, Ok(1));
        root.tree().kill(path).unwrap().exit().await;
        assert_eq!(comes_back.settled().await, Ok(1));
        assert_eq!(goes.settled().await, Err(CallError::NoProc), "{path}");
        drop(added);
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_restart_of_a_child_goes_that_of_its_group() {
    let log = Log::default();
    let mut spec = SupervisorSpec::new("top").strategy(Strategy::RestForOne);
    let mut probes = Vec::new();
    for name in ["a", "b", "c"] {
        let (child, probe) = Probe::new(name, &log);
        spec = spec.child(child.restart_delay(SOON));
        probes.push(probe);
    }
    let root = root(spec.clone()).await;
    // The restart of b fails; c has been stopped for it.
    probes[1].script(&[Start::Fails]);
    probes[1].end(|| Message::Panic).await;
    tokio::time::advance(SOON).await;
    while root.tree().nodes()[2].incarnation < 2 {
        tokio::task::yield_now().await;
    }
    root.supervisor().terminate_child("b").await.unwrap();
    for probe in &probes[1..] {
        assert_eq!(probe.ping().await, Err(CallError::NoProc), "{}", probe.name);
    }
    assert_eq!(probes[0].ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_temporary_sibling_vanishes_even_when_the_restart_of_its_group_fails() {
    let restarts = [Restart::Permanent, Restart::Permanent, Restart::Temporary];
    let world = World::start_with(&restarts, |spec| {
        spec.strategy(Strategy::RestForOne).intensity(u32::MAX, SOON)
    })
    .await
    .unwrap();
    world.probes[1].script(&[Start::Hangs]);
    world.probes[1].end(|| Message::Panic).await;
    while world.node("/top/b").incarnation < 2 {
        tokio::task::yield_now().await;
    }
    let ids = world
        .root
        .supervisor()
        .which_children()
        .unwrap()
        .into_iter()
        .map(|child| child.name().to_owned());
    assert_eq!(ids.collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(world.probes[2].ping().await, Err(CallError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_a_failing_supervisor_did_not_get_to() {
    let log = Log::default();
    let (a, fails) = Probe::new("a", &log);
    let (b, behind) = Probe::new("b", &log);
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(a).child(b));
    let root = root(SupervisorSpec::new("top").child(inner.restart_delay(SOON))).await;
    fails.script(&[Start::Fails]);
    root.tree().kill("/top/inner").unwrap().exit().await;
    while root.tree().nodes()[1].incarnation < 2 {
        tokio::time::advance(SOON).await;
    }
    root.supervisor().terminate_child("inner").await.unwrap();
    assert_eq!(behind.ping().await, Err(CallError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_among_the_requests_is_told_of_the_end() {
    let (busy, hangs) = Probe::new("busy", &Log::default());
    hangs.script(&[Start::Hangs]);
    let root = root(SupervisorSpec::new("top")).await;
    let supervisor = root.supervisor();
    let mut start = Box::pin(supervisor.start_child(busy));
    assert!(futures_util::poll!(&mut start).is_pending());
    // All places are taken, by callers who will not be polled again.
    let mut taken = Vec::new();
    for _ in 0..1024 {
        let mut asks = Box::pin(supervisor.terminate_child("nobody"));
        assert!(futures_util::poll!(&mut asks).is_pending());
        taken.push(asks);
    }
    root.tree().kill("/top").unwrap().exit().await;
    let answer = taken.pop().unwrap();
    let answer = tokio::time::timeout(SOON, answer).await;
    assert_eq!(answer, Ok(Err(RequestError::Ended(ExitReason::Killed))));
}

struct Blocker;

enum Held {
    Hand(RpcReplyPort<()>, mpsc::Sender<RpcReplyPort<()>>),
    Block(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>),
    Ping(RpcReplyPort<()>),
}

impl Actor for Blocker {
    type Msg = Held;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Held>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Held>,
        message: Held,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Held::Block(inside, let_go) => {
                inside.send(())?;
                let_go.lock().unwrap().recv().unwrap_or(());
            }
            Held::Ping(reply) => drop(reply.send(())),
            Held::Hand(reply, to) => {
                to.send(reply)?;
                return Err("done".into());
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_request_outlives_the_callee_is_told_of_its_end() {
    let (child, address) = ChildSpec::actor("a", || (Blocker, ()));
    let _root = root(SupervisorSpec::new("top").child(child)).await;
    let (to, handed) = mpsc::channel();
    let answer = address.call(|reply| Held::Hand(reply, to), SOON).await;
    assert_eq!(answer, Err(CallError::Exited(ExitReason::Error("done".into()))));
    drop(handed);
}

#[tokio::test(start_paused = true)]
async fn a_reference_names_no_child_of_a_later_life_of_its_supervisor() {
    let log = Log::default();
    let (child, dynamic) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("dyn", 9));
    let root = root(SupervisorSpec::new("top").child(child)).await;
    let old = dynamic.start_child(Probe::new("x", &log).0).await.unwrap();
    root.tree().kill("/top/dyn").unwrap().exit().await;
    let (spec, probe) = Probe::new("x", &log);
    dynamic.start_child(spec).await.unwrap();
    let refused = dynamic.terminate_child(&old).await;
    assert_eq!(refused, Err(RequestError::NotFound("x".into())));
    assert_eq!(probe.ping().await, Ok(1));
}

/// Real time and several threads: one of them is blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_late_end_of_a_life_that_was_given_up_hides_nothing() {
    let (child, address) = ChildSpec::actor("a", || (Blocker, ()));
    let (inner, _) = Supervisor::child_spec(SupervisorSpec::new("inner").child(child));
    let options = Options { kill_deadline: Duration::from_millis(10), ..Options::default() };
    let spec = SupervisorSpec::new("top").child(inner);
    let root = Root::start(spec, Clock::start(), options).await.unwrap();
    let mut lifecycle = root.tree().lifecycle();
    let (inside, blocked) = mpsc::channel();
    let (let_go, hold) = mpsc::channel();
    address.cast(Held::Block(inside, Mutex::new(hold))).unwrap();
    tokio::task::block_in_place(|| blocked.recv()).unwrap();

    let old = root.tree().kill("/top/inner/a").unwrap();
    root.tree().kill("/top/inner").unwrap().exit().await;
    loop {
        let event = lifecycle.next().await.unwrap();
        if event.event == LifecycleEvent::Unkillable {
            assert_eq!(event.path, "/top/inner/a", "reported where it was");
            break;
        }
    }
    while address.call(Held::Ping, SOON).await.is_err() {}
    drop(let_go);
    old.exit().await;
    assert_eq!(address.call(Held::Ping, SOON / 10).await, Ok(()));
    assert_eq!(root.shutdown().await.unkillable, [""; 0], "it did end");
}

#[test]
fn the_end_of_the_executor_is_the_end_of_all_destinations() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let (a, probe) = Probe::new("a", &Log::default());
    let tree = first.block_on(root(SupervisorSpec::new("top").child(a.clone())));
    drop(first);
    let answer = runtime().block_on(probe.address.call(Message::Ping, Duration::from_secs(5)));
    assert_eq!(answer, Err(CallError::NoProc));
    drop(tree);
}
