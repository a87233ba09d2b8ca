//! Code that breaks every rule, and moments that could not be worse.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use perennial_core::supervisor::RestartDelay;
use perennial_supervision::{
    Address, CallError, Clock, ExitReason, Flow, LightCx, LightServer, LightSupervisor,
    LightSupervisorSpec, Mailbox, Options, Overflow, Reply, RequestError, Restart, Root, SendError,
    Shutdown, SupervisorSpec, actor::ActorError, current_process,
};
use tokio::{runtime::Builder, sync::oneshot};

use super::lamp::{error, patient};
use crate::{
    gs_server::settle,
    probe::{SOON, root},
};

/// Called when it is dropped.
struct Last(Box<dyn Fn() + Send + Sync>);

impl Drop for Last {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn last(what: impl Fn() + Send + Sync + 'static) -> Last {
    Last(Box::new(what))
}

type Work = Pin<Box<dyn Future<Output = Result<Flow, ActorError>> + Send>>;

enum Deed {
    Do(Work),
    Hold(Last),
    Count(Arc<AtomicU32>),
    Number(Reply<u32>),
}

fn work(work: impl Future<Output = Result<Flow, ActorError>> + Send + 'static) -> Deed {
    Deed::Do(Box::pin(work))
}

/// What its state and its arguments do when they are dropped.
#[derive(Default)]
struct Ends {
    state: Mutex<Option<Last>>,
    _arguments: Option<Last>,
}

struct Rogue {
    _last: Option<Last>,
}

impl LightServer for Rogue {
    type Arguments = Ends;
    type Message = Deed;

    async fn init(ends: &Ends, cx: &LightCx<Self>) -> Result<Self, ActorError> {
        if cx.incarnation() == 3 {
            std::future::pending::<()>().await;
        }
        Ok(Self { _last: ends.state.lock().unwrap().take() })
    }

    async fn handle(&mut self, deed: Deed, cx: &LightCx<Self>) -> Result<Flow, ActorError> {
        match deed {
            Deed::Do(work) => return work.await,
            Deed::Hold(last) => drop(last),
            Deed::Count(count) => drop(count.fetch_add(1, SeqCst)),
            Deed::Number(reply) => reply.send(cx.incarnation()),
        }
        Ok(Flow::Continue)
    }
}

async fn rogues(spec: LightSupervisorSpec) -> (Root, LightSupervisor<Rogue>) {
    let (spec, rogues) = LightSupervisor::child_spec(spec);
    (root(SupervisorSpec::new("top").child(spec)).await, rogues)
}

async fn number(rogue: &Address<Deed>) -> Result<u32, CallError> {
    rogue.call(Deed::Number, SOON).await
}

#[tokio::test(start_paused = true)]
async fn messages_that_panic_in_their_drops_are_dropped_all_the_same() {
    let (root, rogues) = rogues(patient()).await;
    let rogue = rogues.start_child("a", Ends::default()).await.unwrap();
    let drops = Arc::new(AtomicU32::new(0));
    rogue.cast(work(async { Err("out".into()) })).unwrap();
    for _ in 0..3 {
        let drops = drops.clone();
        let last = last(move || {
            drops.fetch_add(1, SeqCst);
            panic!("dropped");
        });
        rogue.cast(Deed::Hold(last)).unwrap();
    }
    assert_eq!(rogue.monitor().down().await, error("out"));
    assert_eq!((number(&rogue).await, drops.load(SeqCst)), (Ok(2), 3));
    root.shutdown().await;
}

/// A caller's executor may be there for that call only.
#[test]
fn children_run_where_their_supervisor_does() {
    let executor = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let own = executor();
    let (root, rogues) = own.block_on(rogues(patient()));
    let other = executor();
    let rogue = other.block_on(rogues.start_child("a", Ends::default())).unwrap();
    drop(other);
    own.block_on(async {
        assert_eq!(number(&rogue).await, Ok(1));
        let mut monitor = rogue.monitor();
        rogue.cast(work(async { Err("out".into()) })).unwrap();
        assert_eq!(monitor.down().await, error("out"));
        assert_eq!(number(&rogue).await, Ok(2));
        root.shutdown().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_yield_is_given_up_and_said_to_be() {
    // Real time: a paused clock does not see who blocks.
    let options = Options { kill_deadline: Duration::from_millis(10), ..Options::default() };
    let (spec, rogues) =
        LightSupervisor::<Rogue>::child_spec(patient().child_shutdown(Shutdown::BrutalKill));
    let top = SupervisorSpec::new("top").child(spec);
    let root = Root::start(top, Clock::start(), options).await.unwrap();
    let rogue = rogues.start_child("a", Ends::default()).await.unwrap();
    let (let_go, hold) = std::sync::mpsc::channel::<()>();
    let (begins, begun) = oneshot::channel();
    let blocks = work(async move {
        begins.send(()).unwrap();
        hold.recv().unwrap_err();
        Ok(Flow::Continue)
    });
    rogue.cast(blocks).unwrap();
    begun.await.unwrap();
    rogues.terminate_child("a").await.unwrap();
    assert!(rogues.find("a").is_none(), "its id is free");
    assert_eq!(root.shutdown().await.unkillable, ["/top/lamps/a"]);
    drop(let_go);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_learns_why_there_is_none() {
    let spec = || patient().mailbox(Mailbox::new(1).overflow(Overflow::Wait));
    let late = RestartDelay::constant(Duration::from_secs(1));
    for spec in [spec(), spec().restart_backoff(late)] {
        let (root, rogues) = rogues(spec).await;
        let rogue = rogues.start_child("a", Ends::default()).await.unwrap();
        let (go, gate) = oneshot::channel::<()>();
        rogue
            .cast(work(async {
                drop(gate.await);
                Err("out".into())
            }))
            .unwrap();
        settle().await;
        rogue.cast(Deed::Count(Arc::default())).unwrap();
        let (calls, sends) = (rogue.clone(), rogue.clone());
        let called = tokio::spawn(async move { number(&calls).await });
        let sent = tokio::spawn(async move { sends.send(Deed::Count(Arc::default()), SOON).await });
        settle().await;
        go.send(()).unwrap();
        assert_eq!(called.await.unwrap(), Err(CallError::Exited(error("out"))));
        assert_eq!(sent.await.unwrap(), Err(SendError::Exited(error("out"))));
        // Nobody's place is lost, and none is there twice.
        assert_eq!(number(&rogue).await, Ok(2));
        let (_go, gate) = oneshot::channel::<()>();
        rogue
            .cast(work(async {
                drop(gate.await);
                Ok(Flow::Continue)
            }))
            .unwrap();
        settle().await;
        assert!(rogue.cast(Deed::Count(Arc::default())).is_ok());
        assert!(rogue.cast(Deed::Count(Arc::default())).is_err());
        root.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_kill_is_not_handled() {
    let (root, rogues) = rogues(patient()).await;
    let (root, handled) = (Arc::new(root), Arc::new(AtomicU32::new(0)));
    let rogue = rogues.start_child("a", Ends::default()).await.unwrap();
    let kills = root.clone();
    rogue
        .cast(work(async move {
            drop(kills.tree().kill("/top/lamps/a").unwrap());
            Ok(Flow::Continue)
        }))
        .unwrap();
    for _ in 0..10 {
        rogue.cast(Deed::Count(handled.clone())).unwrap();
    }
    assert_eq!(rogue.monitor().down().await, ExitReason::Killed);
    assert_eq!((number(&rogue).await, handled.load(SeqCst)), (Ok(2), 0));
}

#[tokio::test(start_paused = true)]
async fn the_drop_of_a_state_is_its_own_code() {
    let (root, rogues) = rogues(patient()).await;
    let (tell, told) = std::sync::mpsc::channel();
    let state = last(move || tell.send(current_process()).unwrap());
    let ends = Ends { state: Mutex::new(Some(state)), ..Ends::default() };
    let rogue = rogues.start_child("a", ends).await.unwrap();
    let process = rogue.whereis();
    rogues.terminate_child("a").await.unwrap();
    assert_eq!(told.recv().unwrap(), process);
    root.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_learns_of_an_end_finds_the_id_free() {
    let (root, rogues) = rogues(patient().child_restart(Restart::Temporary)).await;
    for _ in 0..20 {
        let rogue = rogues.start_child("a", Ends::default()).await.unwrap();
        let (go, gate) = oneshot::channel::<()>();
        rogue
            .cast(work(async {
                drop(gate.await);
                Err("out".into())
            }))
            .unwrap();
        // It takes its time between its end and its announcement.
        // A drop that takes its time: real time.
        let slow = last(|| std::thread::sleep(Duration::from_millis(2)));
        rogue.cast(Deed::Hold(slow)).unwrap();
        let calls = rogue.clone();
        let called = tokio::spawn(async move { number(&calls).await });
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        let reason = called.await.unwrap().unwrap_err();
        assert!(matches!(reason, CallError::Exited(_) | CallError::NoProc), "{reason}");
        assert!(rogues.start_child("a", Ends::default()).await.is_ok());
        rogues.terminate_child("a").await.unwrap();
    }
    root.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_are_gone_when_a_stop_returns() {
    let (root, rogues) = rogues(patient()).await;
    for _ in 0..200 {
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = gone.clone();
        let arguments = last(move || {
            is_gone.store(true, SeqCst);
            panic!("dropped");
        });
        let ends = Ends { _arguments: Some(arguments), ..Ends::default() };
        rogues.start_child("a", ends).await.unwrap();
        rogues.terminate_child("a").await.unwrap();
        assert!(gone.load(SeqCst));
    }
    root.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_refused_takes_nobodys_place() {
    let (root, rogues) = rogues(LightSupervisorSpec::new("lamps", 2)).await;
    rogues.start_child("a", Ends::default()).await.unwrap();
    let twice = tokio::spawn({
        let rogues = rogues.clone();
        async move {
            for _ in 0..2_000 {
                let refused = rogues.start_child("a", Ends::default()).await;
                assert!(matches!(refused, Err(RequestError::AlreadyStarted(_))));
            }
        }
    });
    while !twice.is_finished() {
        rogues.start_child("b", Ends::default()).await.unwrap();
        rogues.terminate_child("b").await.unwrap();
    }
    twice.await.unwrap();
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_up_again_yet_has_no_uptime() {
    let (root, rogues) = rogues(patient()).await;
    let rogue = rogues.start_child("a", Ends::default()).await.unwrap();
    for uptime in [Some(1_000), None] {
        rogue.cast(work(async { Err("out".into()) })).unwrap();
        // On the paused clock.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let node = root.tree().nodes().into_iter().find(|it| it.path == "/top/lamps/a").unwrap();
        assert_eq!(node.uptime_ms, uptime);
    }
    // Its init hangs: it is not there to be killed, and a shutdown ends it in time.
    assert!(root.tree().kill("/top/lamps/a").is_err());
    root.shutdown().await;
}
