//! The start of an incarnation, and the driver that announces its end.

use std::{
    any::Any,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use perennial_core::{ChildType, ExitReason};

use super::{ChildSpec, Reaper, StartError, StartFault};
use crate::{
    LifecycleEvent,
    address::Mailbox,
    context::Context,
    life::{Life, Pid},
    node::Node,
    panics::{contain, guard_blocking},
    stopping,
};

/// What a start gets from the supervisor.
#[derive(Clone)]
pub(crate) struct StartCx {
    pub(crate) context: Context,
    pub(crate) node: Arc<Node>,
    pub(crate) reaper: Reaper,
    /// Tells the supervisor of the end of an incarnation; must not wait.
    pub(crate) report: Arc<dyn Fn(Pid, ExitReason) + Send + Sync>,
}

/// What a start brought about.
pub(crate) enum Outcome {
    /// An incarnation runs.
    Up(Life),
    /// Its init answered that it need not run.
    Ignored,
}

/// What an init hands to whoever asked for the start (SUP-019).
pub type Extra = Arc<dyn Any + Send + Sync>;

/// Answer of an init that need not run: `return Err(Ignore.into())`. The start succeeds without a
/// process (SUP-014, GS-004).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the child need not run")]
pub struct Ignore;

tokio::task_local! {
    static EXTRA: Arc<Mutex<Option<Extra>>>;
}

/// Called inside an init: hands `extra` to whoever asked for the start with `start_child` or
/// `restart_child`; without effect in an automatic start, and outside an init.
pub fn pass_to_starter(extra: impl Any + Send + Sync) {
    let put = |slot: &Arc<Mutex<Option<Extra>>>| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(extra));
    };
    // Outside an init there is nobody to hand it to.
    let _ = EXTRA.try_with(put);
}

/// A start that did not fail.
pub(crate) struct Begun {
    /// None when its init answered ignore.
    pub(crate) life: Option<Life>,
    pub(crate) extra: Option<Extra>,
}

impl ChildSpec {
    /// Starts an incarnation: bounded, and no panic of the start gets past here. When this answers
    /// an error, nothing of the incarnation runs.
    pub(crate) async fn start(&self, cx: StartCx) -> Result<Begun, StartError> {
        let StartCx { context, node, reaper, .. } = cx.clone();
        let start = self.start.clone();
        node.begin_start();
        // Whoever calls it from here on, its own work included, waits for it to be up.
        node.coming();
        let extra = Arc::new(Mutex::new(None));
        let starting = contain(EXTRA.scope(extra.clone(), async move { (start.0)(cx).await }));
        let result = match self.start_within {
            Some(within) => {
                tokio::time::timeout(within, starting).await.unwrap_or(Err(ExitReason::Timeout))
            }
            None => starting.await,
        };
        let fault = match result {
            Ok(Ok(Outcome::Up(life))) => {
                let extra = extra.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Ok(Begun { life: Some(life), extra });
            }
            Ok(Ok(Outcome::Ignored)) => {
                node.ignored();
                return Ok(Begun { life: None, extra: None });
            }
            Ok(Err(fault)) => fault,
            Err(reason) => StartFault::Failed(reason),
        };
        // A supervisor whose time is up runs already, with those children that did start.
        if let Some(life) = node.life() {
            stopping::kill(&context, &node, &reaper, &life).await;
        }
        let reason = fault.exit_reason();
        node.start_failed(&reason, context.clock().now());
        context.tell(&node, LifecycleEvent::StartFailed { reason });
        Err(StartError::new(&self.id, fault))
    }
}

impl StartCx {
    /// From here on the incarnation exists: it is in the tree, the reaper has it, and `end` is
    /// awaited by a driver that announces the result.
    ///
    /// A worker runs from here on. A supervisor does when its children do, and says so itself with
    /// [`started`].
    ///
    /// No await may stand between the birth of what `life` controls and this call.
    pub(crate) fn drive(
        &self,
        life: &Life,
        mailbox: Option<Arc<Mailbox>>,
        end: impl Future<Output = ExitReason> + Send + 'static,
    ) {
        self.node.attach(life.clone(), mailbox, self.context.clock().now());
        self.reaper.add(life.clone(), self.node.clone());
        if self.node.child_type() == ChildType::Worker {
            started(&self.context, &self.node);
        }
        let driver = Driver(Some((self.clone(), life.clone())));
        spawn(async move {
            let mut driver = driver;
            let reason = contain(end).await.unwrap_or_else(|panic| panic);
            driver.finish(reason);
        });
    }

    /// Whoever waits for the end may open again what the incarnation held: everything of it is
    /// dropped before the end is announced.
    fn finish(self, life: Life, reason: ExitReason) {
        let now = self.context.clock().now();
        // One that was given up as unkillable has been replaced in the tree and at its address, and
        // one whose start failed was never started.
        if let Some(incarnation) = self.node.ended(life.pid, &reason, now) {
            let event = LifecycleEvent::Exited { incarnation, reason: reason.clone() };
            self.context.tell(&self.node, event);
        }
        self.reaper.remove(life.pid);
        if self.node.is_root() {
            // Nobody brings a root back.
            self.node.gone();
        }
        let (Life { pid, ended, control }, report) = (life, self.report.clone());
        drop((self, control));
        ended.announce(&reason);
        report(pid, reason);
    }
}

/// Told before anything can end it: its start is published before its exit.
pub(crate) fn started(context: &Context, node: &Node) {
    let incarnation = node.started();
    context.tell(node, LifecycleEvent::Started { incarnation });
}

/// Announces the end even where its own task ends first, with the executor (trap 29).
struct Driver(Option<(StartCx, Life)>);

impl Driver {
    fn finish(&mut self, reason: ExitReason) {
        if let Some((cx, life)) = self.0.take() {
            cx.finish(life, reason);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(node) = self.0.as_ref().map(|(cx, _)| cx.node.clone()) {
            // The host's trace subscriber may be gone as well, and this must not panic.
            let _ = guard_blocking(|| self.finish(ExitReason::Killed));
            node.gone();
        }
    }
}

/// The one place that hands a future to tokio: drivers, which end with what they drive.
#[expect(clippy::disallowed_methods, reason = "every supervised thing is driven from here")]
fn spawn(driver: impl Future<Output = ()> + Send + 'static) {
    // The driver announces its own end; nobody joins it.
    drop(tokio::spawn(driver));
}
