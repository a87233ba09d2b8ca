//! Panics in what a child leaves behind: its drops and its callbacks. Nobody else falls with it.

use std::{
    panic::panic_any,
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::ExitReason;
use perennial_supervision::{
    ChildSpec, GenServer, Init, Next, RequestError, ServerCx, StopToken, SupervisorSpec,
    TaskSupervisor, TaskSupervisorSpec,
    actor::ActorError,
    ractor::{Actor, ActorProcessingErr, ActorRef},
};
use serde_json::Value;

use crate::probe::{Log, Message, Probe, SOON, root};

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("drop panics");
    }
}

async fn wait_with(what: PanicsInDrop) -> Result<(), String> {
    std::future::pending::<()>().await;
    drop(what);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_in_its_drop_ends_all_the_same() {
    let bad = ChildSpec::task("bad", || wait_with(PanicsInDrop))
        .restart(perennial_core::Restart::Permanent);
    let root = root(SupervisorSpec::new("top").child(bad)).await;
    let clock = root.tree().clock();
    let begun = clock.now();
    tokio::task::yield_now().await;
    assert_eq!(root.supervisor().terminate_child("bad").await, Ok(()));
    assert_eq!(root.tree().nodes()[1].last_exit.as_ref().unwrap().reason, "panic");
    root.supervisor().restart_child("bad").await.unwrap();
    tokio::task::yield_now().await;
    let victim = root.tree().kill("/top/bad").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
    root.shutdown().await;
    assert_eq!(clock.now().since(begun), Duration::ZERO, "nobody waited for a deadline");
}

struct Stuck;

impl Actor for Stuck {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(wait_with(PanicsInDrop).await?)
    }
}

/// Panics in its drop, and so does its state.
struct Doubly(PanicsInDrop);

impl Actor for Doubly {
    type Msg = ();
    type State = PanicsInDrop;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<PanicsInDrop, ActorProcessingErr> {
        Ok(PanicsInDrop)
    }
}

/// Where it fails it aborts.
#[tokio::test(start_paused = true)]
async fn an_actor_and_a_state_that_panic_when_they_are_killed_do_not_abort_the_program() {
    let (doubly, _) = ChildSpec::actor("doubly", || (Doubly(PanicsInDrop), ()));
    let root = root(SupervisorSpec::new("top").child(doubly)).await;
    let victim = root.tree().kill("/top/doubly").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
}

impl GenServer for PanicsInDrop {
    type Arguments = ();
    type Message = Self;

    async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self))
    }

    async fn handle(
        &mut self,
        message: Self,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Self>, ActorError> {
        wait_with(message).await?;
        Ok(Next::Continue)
    }
}

/// Where it fails it aborts.
#[tokio::test(start_paused = true)]
async fn a_handler_and_a_state_that_panic_when_they_are_killed_do_not_abort_the_program() {
    let (server, address) = ChildSpec::server::<PanicsInDrop>("server", || ());
    let root = root(SupervisorSpec::new("top").child(server)).await;
    assert_eq!(address.cast(PanicsInDrop), Ok(()));
    tokio::task::yield_now().await;
    let victim = root.tree().kill("/top/server").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_panics_when_it_is_given_up_harms_neither_supervisor_nor_siblings() {
    let (a, probe) = Probe::new("a", &Log::default());
    let root = root(SupervisorSpec::new("top").child(a)).await;
    let (stuck, _) = ChildSpec::actor("stuck", || (Stuck, ()));
    let refused = root.supervisor().start_child(stuck.start_within(SOON)).await;
    assert!(matches!(&refused, Err(RequestError::StartFailed(_))), "{refused:?}");
    assert_eq!(probe.ping().await, Ok(1));
    assert_eq!(root.supervisor().count_children().unwrap().specs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_killed_during_such_a_start_ends_all_the_same() {
    let (stuck, _) = ChildSpec::actor("stuck", || (Stuck, ()));
    let root = root(SupervisorSpec::new("top")).await;
    let supervisor = root.supervisor().clone();
    let mut asks = std::pin::pin!(supervisor.start_child(stuck));
    assert!(futures_util::poll!(&mut asks).is_pending());
    tokio::task::yield_now().await;
    let victim = root.tree().kill("/top").unwrap();
    assert_eq!(victim.exit().await, ExitReason::Killed);
    assert_eq!(asks.await, Err(RequestError::Ended(ExitReason::Killed)));
}

async fn tasks(max: usize) -> (perennial_supervision::Root, TaskSupervisor) {
    let (child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", max));
    (root(SupervisorSpec::new("top").child(child)).await, tasks)
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_panics_hides_the_end_from_nobody() {
    let (root, tasks) = tasks(1).await;
    let task = tasks.start_child("one", std::future::pending()).await.unwrap();
    let told: Arc<Mutex<Vec<ExitReason>>> = Arc::default();
    let sink = told.clone();
    task.on_exit(|_| panic!("watcher panics"));
    task.on_exit(move |reason| sink.lock().unwrap().push(reason.clone()));
    root.tree().kill("/top/tasks/one").unwrap();
    assert_eq!(task.exit().await, ExitReason::Killed);
    while !tasks.children().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*told.lock().unwrap(), [ExitReason::Killed]);
    tasks.start_child("two", std::future::pending()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_that_is_refused_and_panics_in_its_drop_leaves_the_supervisor_alone() {
    let (root, tasks) = tasks(1).await;
    tasks.start_child("one", std::future::pending()).await.unwrap();
    let bad = PanicsInDrop;
    let work = async move { drop(wait_with(bad).await) };
    assert_eq!(tasks.start_child("two", work).await.unwrap_err(), RequestError::MaxChildren(1));
    assert_eq!(tasks.children(), ["one"]);
    assert_eq!(root.tree().nodes()[1].incarnation, 1);
}

#[tokio::test(start_paused = true)]
async fn what_panics_when_it_is_woken_for_a_stop_does_not_reach_its_supervisor() {
    let (a, probe) = Probe::new("a", &Log::default());
    let bad = ChildSpec::cooperative_task("bad", |stop: StopToken| async move {
        stop.on_stop(|| panic!("waker panics"));
        stop.stopped().await;
        Ok::<(), String>(())
    })
    .restart(perennial_core::Restart::Permanent);
    let root = root(SupervisorSpec::new("top").child(a).child(bad)).await;
    tokio::task::yield_now().await;
    assert_eq!(root.supervisor().terminate_child("bad").await, Ok(()));
    assert_eq!(probe.ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_detail_that_panics_spoils_only_its_own_line() {
    let (a, _) = Probe::new("a", &Log::default());
    let (b, _) = Probe::new("b", &Log::default());
    let spec = SupervisorSpec::new("top")
        .child(a.detail(|| panic!("detail panics")))
        .child(b.detail(|| Value::Bool(true)));
    let nodes = root(spec).await.tree().nodes();
    assert!(nodes[1].detail.as_str().unwrap().contains("detail panics"), "{:?}", nodes[1].detail);
    assert_eq!(nodes[2].detail, Value::Bool(true));
}

#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_in_its_drop_is_a_panic_like_any_other() {
    let (a, probe) = Probe::new("a", &Log::default());
    let root = root(SupervisorSpec::new("top").child(a)).await;
    let act = Message::Act(Box::new(|_| panic_any(PanicsInDrop)));
    let reason = probe.end(|| act).await;
    assert!(matches!(&reason, ExitReason::Panic { location: Some(_), .. }), "{reason}");
    let build = || -> std::future::Ready<Result<(), String>> { panic_any(PanicsInDrop) };
    let refused = root
        .supervisor()
        .start_child(ChildSpec::task("bad", build).restart(perennial_core::Restart::Permanent))
        .await;
    assert!(matches!(&refused, Err(RequestError::StartFailed(_))), "{refused:?}");
    assert_eq!(root.tree().nodes()[0].incarnation, 1, "its supervisor did not notice");
    let (tasks, told) = (tasks(1).await, Arc::new(Mutex::new(Vec::new())));
    let task = tasks.1.start_child("one", std::future::pending()).await.unwrap();
    let sink = told.clone();
    task.on_exit(|_| panic_any(PanicsInDrop));
    task.on_exit(move |reason| sink.lock().unwrap().push(reason.clone()));
    tasks.1.terminate_child(&task).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [ExitReason::Shutdown]);
}

/// Panics whenever anything of supervision is told.
struct Unwilling;

impl tracing::Subscriber for Unwilling {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("perennial_supervision")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        panic!("subscriber panics")
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_hides_no_end_and_ends_nobody() {
    let _unwilling = tracing::subscriber::set_default(Unwilling);
    let (a, probe) = Probe::new("a", &Log::default());
    let b = ChildSpec::task("b", || wait_with(PanicsInDrop))
        .restart(perennial_core::Restart::Permanent);
    let root = root(SupervisorSpec::new("top").child(a).child(b)).await;
    let reason = probe.end(|| Message::Panic).await;
    assert_eq!(reason.name(), "panic");
    assert_eq!(probe.answers().await, 1);
    let terminated = tokio::time::timeout(SOON, root.supervisor().terminate_child("b")).await;
    assert_eq!(terminated, Ok(Ok(())));
    assert_eq!(root.tree().nodes()[0].incarnation, 1, "its supervisor did not notice");
    assert_eq!(root.shutdown().await.unkillable, [""; 0]);
}
