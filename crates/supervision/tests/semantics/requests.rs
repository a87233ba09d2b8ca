//! Semantics 14, 15, 19: table 5.5, and callers that give up.

use std::{future::Future, pin::pin, task::Poll};

use perennial_core::{Restart, tree::NodeState};
use perennial_supervision::{
    CallError, ChildSpec, ChildStatus, RequestError, Supervisor, SupervisorSpec,
};

use crate::probe::{Log, Message, Probe, Start, World, root};

#[tokio::test(start_paused = true)]
async fn operations_answer_by_the_state_of_the_id() {
    let world = World::start(|spec| spec).await;
    let top = world.root.supervisor();
    let again = || Probe::new("a", &world.log).0;

    assert_eq!(top.start_child(again()).await, Err(RequestError::AlreadyStarted("a".into())));
    assert_eq!(top.restart_child("a").await, Err(RequestError::Running("a".into())));
    assert_eq!(top.delete_child("a").await, Err(RequestError::Running("a".into())));

    assert_eq!(top.terminate_child("a").await, Ok(()));
    assert_eq!(top.terminate_child("a").await, Ok(()), "terminating is idempotent");
    assert_eq!(world.probes[0].ping().await, Err(CallError::NoProc));
    assert_eq!(top.start_child(again()).await, Err(RequestError::AlreadyPresent("a".into())));
    assert_eq!(top.restart_child("a").await, Ok(()));
    assert_eq!(world.probes[0].ping().await, Ok(1));
    assert_eq!(world.node("/top").intensity.unwrap().in_window, 0, "by hand counts nothing");

    top.terminate_child("a").await.unwrap();
    assert_eq!(top.delete_child("a").await, Ok(()));
    let missing = RequestError::NotFound("a".into());
    assert_eq!(top.delete_child("a").await, Err(missing.clone()));
    assert_eq!(top.restart_child("a").await, Err(missing.clone()));
    assert_eq!(top.terminate_child("a").await, Err(missing));
    assert_eq!(top.start_child(again()).await, Ok(()));
    let ids: Vec<String> = top.which_children().into_iter().map(|child| child.id).collect();
    assert_eq!(ids, ["b", "c", "a"], "a later child comes last");
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_discards_a_new_child_and_keeps_a_known_one() {
    let world = World::start(|spec| spec).await;
    let top = world.root.supervisor();
    let (spec, probe) = Probe::new("new", &world.log);
    probe.script(&[Start::Fails]);
    assert!(matches!(top.start_child(spec).await, Err(RequestError::StartFailed(_))));
    assert_eq!(top.count_children().specs, 3);

    top.terminate_child("a").await.unwrap();
    world.probes[0].script(&[Start::Panics]);
    assert!(matches!(top.restart_child("a").await, Err(RequestError::StartFailed(_))));
    assert_eq!(top.which_children()[0].status, ChildStatus::Stopped);
    assert_eq!(top.restart_child("a").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_restarting_child_refuses_to_be_restarted_or_deleted() {
    let (a, probe) = Probe::new("a", &Log::default());
    let delay = std::time::Duration::from_secs(10);
    let root = root(SupervisorSpec::new("top").child(a.restart_delay(delay))).await;
    probe.end(|| Message::Panic).await;
    while root.tree().nodes()[1].state != NodeState::BackingOff {
        tokio::task::yield_now().await;
    }
    let top = root.supervisor();
    assert_eq!(top.which_children()[0].status, ChildStatus::Restarting);
    assert_eq!(top.restart_child("a").await, Err(RequestError::Restarting("a".into())));
    assert_eq!(top.delete_child("a").await, Err(RequestError::Restarting("a".into())));
    let again = Probe::new("a", &Log::default()).0;
    assert_eq!(top.start_child(again).await, Err(RequestError::AlreadyPresent("a".into())));
}

#[tokio::test(start_paused = true)]
async fn a_terminated_temporary_child_is_forgotten() {
    let world = World::start_with(&[Restart::Temporary], |spec| spec).await.unwrap();
    let top = world.root.supervisor();
    assert_eq!(top.terminate_child("a").await, Ok(()));
    assert_eq!(top.which_children(), []);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_harms_nobody_and_gets_what_it_asked_for() {
    let world = World::start(|spec| spec).await;
    let top = world.root.supervisor().clone();
    let (spec, probe) = Probe::new("late", &world.log);
    {
        let mut request = pin!(top.start_child(spec));
        std::future::poll_fn(|cx| {
            assert!(request.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    top.terminate_child("a").await.unwrap();
    assert_eq!(probe.ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_asks_its_supervisor_while_it_starts_is_told_so() {
    let slot: std::sync::Arc<std::sync::OnceLock<Supervisor>> = std::sync::Arc::default();
    let log = Log::default();
    let (asked, lines) = (slot.clone(), log.clone());
    let child = ChildSpec::actor("asker", move || (Asker, (asked.clone(), lines.clone()))).0;
    let (inner, handle) = Supervisor::child_spec(SupervisorSpec::new("inner").child(child));
    slot.set(handle).unwrap();
    let root = root(SupervisorSpec::new("top").child(inner)).await;
    assert_eq!(log.take(), ["CallingSelf"]);
    root.shutdown().await;
}

struct Asker;

impl perennial_supervision::ractor::Actor for Asker {
    type Msg = ();
    type State = ();
    type Arguments = (std::sync::Arc<std::sync::OnceLock<Supervisor>>, Log);

    async fn pre_start(
        &self,
        _: perennial_supervision::ractor::ActorRef<()>,
        (supervisor, log): Self::Arguments,
    ) -> Result<(), perennial_supervision::ractor::ActorProcessingErr> {
        let refused = supervisor.get().unwrap().terminate_child("x").await.unwrap_err();
        log.add(format!("{refused:?}"));
        Ok(())
    }
}
