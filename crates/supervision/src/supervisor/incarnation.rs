//! One life of a supervisor, whatever its kind: its mailbox, its control, its driver.

use std::sync::{Arc, Weak};

use perennial_core::{ExitReason, Uptime, supervisor::Order};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    reaper::reap,
    request::Request,
    shell::{Plan, Shell},
};
use crate::{
    ChildInfo, Counts, ProcessRef, StartFault, StopToken,
    child::{Outcome, StartCx, Superior, started},
    life::{Control, Ended, Life, Pid},
    node::Node,
    panics::contain,
    presence::{OneLife, Publisher},
    sync::{
        atomic::{AtomicBool, Ordering},
        task_local,
    },
};

/// Requests that may wait in one supervisor's mailbox; further callers wait before it. Exits wait
/// beside them: never more than it has children.
const REQUESTS_MAX: usize = 1024;

task_local! {
    /// The supervisor whose own code is running: the starts of its children included.
    static SUPERVISING: Arc<Supervising>;
}

/// One life of a supervisor as those see it whose code it runs.
struct Supervising {
    pid: Pid,
    started: AtomicBool,
    /// Who waits for its start.
    starter: Option<Arc<Self>>,
}

impl Supervising {
    /// Whether a request to `pid` would wait for whoever sends it from here: `pid` is this
    /// supervisor, or one that waits for it to start.
    fn waits_for(&self, pid: Pid) -> bool {
        let mut asker = self;
        loop {
            if asker.pid == pid {
                return true;
            }
            match &asker.starter {
                Some(starter) if !asker.started.load(Ordering::SeqCst) => asker = starter,
                Some(_) | None => return false,
            }
        }
    }
}

/// What arrives in a supervisor's one queue.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A child ended.
    Exited { order: u64, pid: Pid, reason: ExitReason, at: Uptime },
    /// A restart that did not work, or had to wait, is due.
    Retry { order: u64, generation: u64 },
    /// Somebody asks.
    Request(Request),
}

impl Superior for mpsc::UnboundedSender<Mail> {
    fn exited(&self, order: Order, pid: Pid, reason: ExitReason, at: Uptime) {
        // A supervisor that has ended needs no news of its children: their nodes have them.
        drop(self.send(Mail::Exited { order, pid, reason, at }));
    }
}

/// Where to reach one life of a supervisor.
#[derive(Clone)]
pub(crate) struct SupervisorLife(Arc<Reached>);

struct Reached {
    process: ProcessRef,
    mail: mpsc::UnboundedSender<Mail>,
    places: Semaphore,
    node: Arc<Node>,
}

impl SupervisorLife {
    /// Whether the caller is this supervisor's own code, or code that it waits for.
    pub(crate) fn is_waited_for(&self) -> bool {
        SUPERVISING.try_with(|own| own.waits_for(self.pid())).unwrap_or(false)
    }

    /// Waits for a place in the mailbox.
    pub(crate) async fn admit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.0.places.acquire().await.ok()
    }

    pub(crate) fn process(&self) -> &ProcessRef {
        &self.0.process
    }

    pub(crate) fn ended(&self) -> &Ended {
        self.0.process.ended()
    }

    /// One that has ended drops the request, and with it the reply.
    pub(crate) fn send(&self, request: Request) {
        drop(self.0.mail.send(Mail::Request(request)));
    }

    /// The child of this name that runs, as published: its node and its life.
    pub(crate) fn find(&self, name: &str) -> Option<(Arc<Node>, Life)> {
        let node = self.0.node.child(name)?;
        let life = node.life()?;
        Some((node, life))
    }

    /// Its own node, while this life is the present one.
    pub(crate) fn own(&self) -> Option<Life> {
        self.0.node.life().filter(|life| life.pid() == self.pid())
    }

    /// Its children in start order; `by_id` says whether ids tell them apart.
    pub(crate) fn children(&self, by_id: bool) -> Vec<ChildInfo> {
        self.0.node.child_nodes().iter().filter_map(|node| node.info(by_id)).collect()
    }

    pub(crate) fn child(&self, name: &str, by_id: bool) -> Option<ChildInfo> {
        self.0.node.child(name)?.info(by_id)
    }

    /// The line of the child at `node`, where ids do not tell children apart.
    pub(crate) fn instance(&self, node: &Weak<Node>) -> Option<ChildInfo> {
        let node = node.upgrade()?;
        let listed = self.0.node.child(node.name())?;
        Arc::ptr_eq(&listed, &node).then(|| node.info(false))?
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for child in &*self.0.node.child_nodes() {
            if let Some(status) = child.status() {
                counts.add(child.child_type(), status);
            }
        }
        counts
    }
}

impl OneLife for SupervisorLife {
    fn pid(&self) -> Pid {
        self.0.process.pid()
    }
}

impl std::fmt::Debug for SupervisorLife {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SupervisorLife").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// Owed to whoever starts a supervisor.
pub(crate) struct Acknowledge {
    cx: StartCx,
    own: Arc<Supervising>,
    starter: oneshot::Sender<Result<(), StartFault>>,
}

impl Acknowledge {
    /// All that is declared runs. A starter that has left has this life killed.
    pub(crate) fn works(self) {
        started(&self.cx);
        self.own.started.store(true, Ordering::SeqCst);
        drop(self.starter.send(Ok(())));
    }

    pub(crate) fn fails(self, error: StartFault) {
        drop(self.starter.send(Err(error)));
    }
}

/// Kills what nobody waits for any more: its starter was dropped before it had started.
struct Abandoned<'a>(Option<&'a Life>);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(life) = self.0 {
            life.control.kill();
        }
    }
}

/// Starts one life of a supervisor and waits until all its declared children run.
pub(crate) async fn begin(
    cx: StartCx,
    publisher: Arc<Publisher<SupervisorLife>>,
    plan: Plan,
) -> Result<Outcome, StartFault> {
    let pid = cx.process.pid();
    let (mail, inbox) = mpsc::unbounded_channel();
    let control = Arc::new(SupervisorControl::default());
    let life = Life { process: cx.process.clone(), control: control.clone() };
    cx.node.forget_children();
    let shell = Shell::new(cx.clone(), plan, mail.clone())?;
    let (starter, started) = oneshot::channel();
    let own = Arc::new(Supervising {
        pid,
        started: AtomicBool::new(false),
        starter: SUPERVISING.try_with(Arc::clone).ok(),
    });
    publisher.up(SupervisorLife(Arc::new(Reached {
        process: cx.process.clone(),
        mail,
        places: Semaphore::new(REQUESTS_MAX),
        node: cx.node.clone(),
    })));
    let (context, node) = (cx.context.clone(), cx.node.clone());
    let starting = Acknowledge { cx: cx.clone(), own: own.clone(), starter };
    let mut abandoned = Abandoned(Some(&life));
    cx.drive(&life, async move {
        let serving = shell.run(inbox, control.stop.clone(), starting);
        let mut serving = contain(SUPERVISING.scope(own, serving));
        let ended = tokio::select! {
            biased;
            () = control.kill.cancelled() => ExitReason::Killed,
            reason = control.crashed() => reason,
            exit = &mut serving => exit.unwrap_or_else(|panic| panic),
        };
        // What it was starting is dropped before the rest is killed.
        drop(serving);
        // Whatever way it ended, nothing below it survives its announced end (SUP-138, 146, 148).
        node.stopping(pid);
        reap(&node, &context, &ended).await;
        node.children_stopped();
        ended
    });
    let acknowledged = started.await;
    abandoned.0 = None;
    drop(abandoned);
    match acknowledged {
        Ok(Ok(())) => Ok(Outcome::Up(life)),
        Ok(Err(error)) => {
            life.ended().wait().await;
            Err(error)
        }
        Err(_) => Err(StartFault::Failed(life.ended().wait().await)),
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
        match contain(async { panic!("injected crash") }).await {
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
    fn stop(&self, reason: &ExitReason) {
        self.stop.stop_for(reason);
    }

    fn kill(&self) {
        self.kill.cancel();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        self.crash.cancel();
    }
}
