//! One life of a supervisor, whatever its kind: its mailbox, its control, its driver.

use std::sync::Arc;

use perennial_core::{ExitReason, tree::NodeState};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{ChildInfo, status};
use crate::{
    StartError, StopToken,
    child::{Reaper, StartCx},
    life::{Control, Ended, Life, Pid},
    node::Node,
    panics::guard,
    presence::Publisher,
};

/// Requests that may wait in one supervisor's mailbox; further callers wait before it. Exits wait
/// beside them: never more than it has children.
const REQUESTS_MAX: usize = 1024;

tokio::task_local! {
    /// The supervisor whose own code is running: the starts of its children included.
    static SUPERVISING: Pid;
}

/// What arrives in a supervisor's one queue.
#[derive(Debug)]
pub(crate) enum SupervisorMail<R> {
    /// A child ended.
    Exited { order: u64, pid: Pid, reason: ExitReason },
    /// A restart that did not work, or had to wait, is due.
    Retry { order: u64, generation: u64 },
    /// Somebody asks.
    Request(R),
}

/// Where to reach one life of a supervisor.
pub(crate) struct SupervisorLife<R> {
    pid: Pid,
    mail: mpsc::UnboundedSender<SupervisorMail<R>>,
    places: Arc<Semaphore>,
    node: Arc<Node>,
}

impl<R> SupervisorLife<R> {
    /// Whether the caller is this supervisor's own code.
    pub(crate) fn is_current(&self) -> bool {
        SUPERVISING.try_with(|pid| *pid == self.pid).unwrap_or(false)
    }

    /// Waits for a place in the mailbox.
    pub(crate) async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    /// One that has ended drops the request, and with it the reply.
    pub(crate) fn send(&self, request: R) {
        drop(self.mail.send(SupervisorMail::Request(request)));
    }

    /// The child of this id that runs, as published: its place and its life.
    pub(crate) fn find(&self, id: &str) -> Option<(u64, Life)> {
        let node = self.node.child(id)?;
        Some((node.order(), node.life()?))
    }

    pub(crate) fn children(&self) -> Vec<ChildInfo> {
        self.node.infos(|spec, id, state| ChildInfo {
            id: id.to_owned(),
            status: status(state),
            child_type: spec.child_type,
        })
    }
}

impl<R> Clone for SupervisorLife<R> {
    fn clone(&self) -> Self {
        Self {
            pid: self.pid,
            mail: self.mail.clone(),
            places: self.places.clone(),
            node: self.node.clone(),
        }
    }
}

impl<R> std::fmt::Debug for SupervisorLife<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SupervisorLife").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// The mind of a kind of supervisor.
pub(crate) trait Shell: Send + 'static {
    type Request: Send + 'static;

    /// Starts what is declared and acknowledges; serves until a stop; stops what runs.
    fn run(
        self,
        inbox: mpsc::UnboundedReceiver<SupervisorMail<Self::Request>>,
        stop: StopToken,
        started: oneshot::Sender<Result<(), StartError>>,
    ) -> impl Future<Output = ExitReason> + Send;
}

/// Starts one life of a supervisor and waits until all its declared children run.
pub(crate) async fn begin<S: Shell>(
    cx: StartCx,
    publisher: Arc<Publisher<SupervisorLife<S::Request>>>,
    make: impl FnOnce(StartCx, mpsc::UnboundedSender<SupervisorMail<S::Request>>, Reaper) -> S,
) -> Result<Life, StartError> {
    let pid = cx.context.next_pid();
    let (mail, inbox) = mpsc::unbounded_channel();
    let control = Arc::new(SupervisorControl::default());
    let life = Life { pid, control: control.clone(), ended: Ended::new() };
    let reaper = Reaper::default();
    cx.node.clear_children();
    let shell = make(cx.clone(), mail.clone(), reaper.clone());
    let (acknowledge, started) = oneshot::channel();
    publisher.up(SupervisorLife {
        pid,
        mail,
        places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        node: cx.node.clone(),
    });
    let (context, node) = (cx.context.clone(), cx.node.clone());
    cx.drive(&life, Some(publisher), None, async move {
        let serving = shell.run(inbox, control.stop.clone(), acknowledge);
        let ended = tokio::select! {
            biased;
            () = control.kill.cancelled() => ExitReason::Killed,
            reason = control.crashed() => reason,
            exit = SUPERVISING.scope(pid, guard(serving)) => exit.unwrap_or_else(|panic| panic),
        };
        // Whatever way it ended, nothing below it survives its announced end (SUP-138, 146, 148).
        node.enter(NodeState::Stopping);
        reaper.reap(&context).await;
        ended
    });
    match started.await {
        Ok(Ok(())) => Ok(life),
        Ok(Err(error)) => {
            life.ended.wait().await;
            Err(error)
        }
        Err(_) => Err(StartError::new(&cx.node.id, life.ended.wait().await)),
    }
}

#[derive(Default)]
struct SupervisorControl {
    stop: StopToken,
    kill: CancellationToken,
    #[cfg(feature = "testing")]
    crash: CancellationToken,
}

impl SupervisorControl {
    #[cfg(feature = "testing")]
    async fn crashed(&self) -> ExitReason {
        self.crash.cancelled().await;
        match guard(async { panic!("injected crash") }).await {
            Ok(()) => ExitReason::Normal,
            Err(reason) => reason,
        }
    }

    #[cfg(not(feature = "testing"))]
    async fn crashed(&self) -> ExitReason {
        std::future::pending().await
    }
}

impl Control for SupervisorControl {
    fn stop(&self) {
        self.stop.stop();
    }

    fn kill(&self) {
        self.kill.cancel();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.crash.cancel();
    }
}
