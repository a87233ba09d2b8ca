//! The start of an incarnation, and the obituary that is owed from then on.

use std::{
    any::Any,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use perennial_core::{ChildType, ExitReason, Uptime, supervisor::Order};

use super::{ChildSpec, StartError, StartFault};
use crate::{
    LifecycleEvent, Name, Names, ProcessRef, RegistryError,
    context::Context,
    life::{Control, Life, Pid},
    load::Load,
    node::Node,
    panics::{Contained, call_quietly, contain, guard_blocking},
    stopping,
    sync::task_local,
};

/// What a start gets from the supervisor.
#[derive(Clone)]
pub(crate) struct StartCx {
    pub(crate) context: Context,
    pub(crate) node: Arc<Node>,
    /// The incarnation that is being started.
    pub(crate) process: ProcessRef,
    /// Whether somebody asked for this start; others are automatic.
    pub(crate) requested: bool,
    /// Where its supervisor hears of its end; nobody does of a root's.
    pub(crate) superior: Option<(Arc<dyn Superior>, Order)>,
}

/// Who hears of the ends of its children. Told before anybody sees one; must not wait.
pub(crate) trait Superior: Send + Sync {
    /// The incarnation `pid` of the child at `order` ended, then.
    fn exited(&self, order: Order, pid: Pid, reason: ExitReason, at: Uptime);
}

/// What a start brought about.
pub(crate) enum Outcome {
    /// An incarnation runs.
    Up(Life),
    /// Its init answered that it need not run.
    Ignored,
}

/// What an init hands to whoever asked for the start (SUP-019).
///
/// ```
/// use perennial_supervision::Extra;
/// use std::sync::Arc;
///
/// let extra: Extra = Arc::new(8080_u16);
/// assert_eq!(extra.downcast_ref::<u16>(), Some(&8080));
/// ```
pub type Extra = Arc<dyn Any + Send + Sync>;

/// Answer of an init that need not run: `return Err(Ignore.into())`. The start succeeds without a
/// process (SUP-014, GS-004).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::Ignore;
///
/// struct Metrics;
/// impl GenServer for Metrics {
///     type Arguments = Option<u16>;
///     type Message = ();
///
///     async fn init(port: Option<u16>, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         let _port = port.ok_or(Ignore)?; // nobody wants them
///         Ok(Init::new(Self))
///     }
/// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (metrics, _) = ChildSpec::server::<Metrics>("metrics", || None);
/// let app = SupervisorSpec::new("app").child(metrics);
/// let root = Root::start(app, Clock::start(), Options::default()).await?; // no error
/// assert_eq!(root.supervisor().which_child("metrics")?.process, None);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the child need not run")]
pub struct Ignore;

/// What the code of an init finds around it.
struct Init {
    arguments: Option<Extra>,
    /// For whoever asked for the start, if somebody did.
    handed_over: Option<Slot>,
}

type Slot = Arc<Mutex<Option<Extra>>>;

task_local! {
    static INIT: Init;
}

/// Called inside an init: what the supervisor hands to the inits of all its children (DYN-014), if
/// it does and it is an `E`.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::extra_arguments;
///
/// struct Worker(String);
/// impl GenServer for Worker {
///     type Arguments = ();
///     type Message = Reply<String>;
///
///     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         let url = extra_arguments::<String>().ok_or("no url")?;
///         Ok(Init::new(Self(String::clone(&url))))
///     }
/// #     async fn handle(&mut self, reply: Reply<String>, _: &mut ServerCx<Self>) -> Result<Next<Reply<String>>, ActorError> { reply.send(self.0.clone()); Ok(Next::Continue) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = DynamicSupervisorSpec::new("workers", 10).extra_arguments("db://main".to_owned());
/// let (spec, workers) = DynamicSupervisor::child_spec(spec);
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let (worker, address) = ChildSpec::server::<Worker>("worker", || ());
/// workers.start_child(worker).await?;
/// assert_eq!(address.ask(|reply| reply).await?, "db://main");
/// # root.shutdown().await; Ok(()) }
/// ```
pub fn extra_arguments<E: Any + Send + Sync>() -> Option<Arc<E>> {
    // Outside an init there are none.
    INIT.try_with(|init| init.arguments.clone()).ok().flatten()?.downcast::<E>().ok()
}

/// Called inside an init: hands `extra` to whoever asked for the start with `start_child` or
/// `restart_child`; without effect in an automatic start, and outside an init.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::pass_to_starter;
///
/// struct Listener;
/// impl GenServer for Listener {
///     type Arguments = ();
///     type Message = ();
///
///     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         pass_to_starter(8080_u16); // the port that it has got
///         Ok(Init::new(Self))
///     }
/// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = Root::start(SupervisorSpec::new("app"), Clock::start(), Options::default()).await?;
/// let (listener, _) = ChildSpec::server::<Listener>("listener", || ());
/// let started = root.supervisor().start_child(listener).await?;
/// let port = started.extra.expect("its init handed it over");
/// assert_eq!(port.downcast_ref::<u16>(), Some(&8080));
/// # root.shutdown().await; Ok(()) }
/// ```
pub fn pass_to_starter(extra: impl Any + Send + Sync) {
    let put = |init: &Init| {
        if let Some(slot) = &init.handed_over {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(extra));
        }
    };
    // Outside an init there is nobody to hand it to.
    let _ = INIT.try_with(put);
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
    pub(crate) async fn start(
        &self,
        cx: StartCx,
        arguments: Option<Extra>,
    ) -> Result<Begun, StartError> {
        let StartCx { context, node, process, .. } = cx.clone();
        let start = self.start.clone();
        node.begin_start();
        // Whoever calls it from here on, its own work included, waits for it to be up.
        node.coming();
        let unborn = match self.claim(&context, &process) {
            Ok(unborn) => unborn,
            Err(fault) => return Err(self.did_not_start(&cx, fault)),
        };
        let handed_over = cx.requested.then(Slot::default);
        let init = Init { arguments, handed_over: handed_over.clone() };
        let own = cx.clone();
        let starting = INIT.scope(init, async move {
            // Temporary children are started once.
            let start = start.ok_or(ExitReason::NoProc)?;
            Contained::new(guard_blocking(|| (start.0)(own))?).await?
        });
        let result = match self.start_within {
            Some(within) => tokio::time::timeout(within, starting)
                .await
                .unwrap_or(Err(ExitReason::Timeout.into())),
            None => starting.await,
        };
        let fault = match result {
            Ok(Outcome::Up(life)) => {
                unborn.born();
                self.bind(&cx, &life);
                let taken = |slot: Slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Ok(Begun { life: Some(life), extra: handed_over.and_then(taken) });
            }
            Ok(Outcome::Ignored) => {
                node.ignored();
                return Ok(Begun { life: None, extra: None });
            }
            Err(fault) => fault,
        };
        // A supervisor whose time is up runs already, with those children that did start.
        if let Some(life) = node.life() {
            stopping::kill(&context, &node, &life).await;
        }
        // What the failed start had claimed is free before anybody hears of it (SUP-022).
        drop(unborn);
        Err(self.did_not_start(&cx, fault))
    }

    fn did_not_start(&self, cx: &StartCx, fault: StartFault) -> StartError {
        let reason = fault.exit_reason();
        cx.node.start_failed(&reason, cx.context.clock().now());
        cx.context.tell(&cx.node, Some(&cx.process), LifecycleEvent::StartFailed { reason });
        StartError::new(&self.id, fault)
    }

    /// Claims the names of the incarnation that is about to be born, or answers who has one.
    fn claim(&self, context: &Context, process: &ProcessRef) -> Result<Unborn, StartFault> {
        let names = context.names();
        if let Some(name) = &self.name {
            let address = self.named_address.clone();
            names.claim(name, process, address).map_err(StartFault::AlreadyStarted)?;
        }
        let unborn = Unborn(Some((names.clone(), self.name.clone(), process.clone())));
        if let Some(key) = &self.key {
            key.claim(process, self.named_address.clone()).map_err(|refused| match refused {
                RegistryError::AlreadyRegistered(holder) => StartFault::AlreadyStarted(holder),
                RegistryError::NotRunning | RegistryError::NoProcess | RegistryError::NotHolder => {
                    StartFault::Failed(ExitReason::error(&refused))
                }
            })?;
        }
        Ok(unborn)
    }

    /// Ends the incarnation with its owner.
    fn bind(&self, cx: &StartCx, life: &Life) {
        let Some(owner) = &self.owner else { return };
        cx.context.members().join(&cx.context, owner, life, &cx.node);
        let control = Arc::downgrade(&life.control);
        let watch = owner.on_end(move |reason| {
            if let Some(control) = control.upgrade() {
                control.stop(reason);
            }
        });
        // Nothing of the bond outlives the incarnation.
        life.ended().on_end(move |_| drop(watch));
    }

    /// The real end of an incarnation frees its name.
    pub(super) fn release(&self, context: &Context, process: &ProcessRef) {
        if let Some(name) = &self.name {
            context.names().release(name, process);
        }
        if let Some(key) = &self.key {
            key.release(process);
        }
    }
}

/// An incarnation whose init has not returned: what it claimed goes with it. What is driven already
/// is freed by its driver, at its real end.
struct Unborn(Option<(Names, Option<Name>, ProcessRef)>);

impl Unborn {
    fn born(mut self) {
        self.0 = None;
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some((names, name, process)) = self.0.take() {
            if process.ended().is_driven() {
                return;
            }
            if let Some(name) = name {
                names.release(&name, &process);
            }
            // For those who met it at its name.
            process.ended().announce(&ExitReason::NoProc);
        }
    }
}

impl StartCx {
    pub(crate) fn new(
        context: &Context,
        node: &Arc<Node>,
        requested: bool,
        superior: Option<(Arc<dyn Superior>, Order)>,
    ) -> Self {
        Self {
            context: context.clone(),
            node: node.clone(),
            process: ProcessRef::new(node.shared_path(), context.next_pid()),
            requested,
            superior,
        }
    }

    /// The load of the incarnation: none so far, in the mailbox that its specification gives it.
    pub(crate) fn load(&self) -> Load {
        Load::new(self.context.clock(), self.node.spec().mailbox.unwrap_or_default())
    }

    /// So many messages were dropped with the mailbox of the incarnation.
    pub(crate) fn undelivered(&self, count: u64) {
        undelivered_of(&self.context, &self.node, &self.process, count);
    }

    /// From here on the incarnation exists: it is in the tree, and `end` is
    /// awaited by a driver that announces the result.
    ///
    /// A worker runs from here on. A supervisor does when its children do, and says so itself with
    /// [`started`].
    ///
    /// No await may stand between the birth of what `life` controls and this call.
    pub(crate) fn drive(
        &self,
        life: &Life,
        end: impl Future<Output = ExitReason> + Send + 'static,
    ) {
        let mut driver = Driver(Some(self.exists(life)));
        // Boxed here: the task would keep room for it where it was before that.
        let end = contain(end);
        spawn(async move {
            let reason = end.await.unwrap_or_else(|panic| panic);
            driver.finish(reason);
        });
    }

    /// As [`drive`](Self::drive), for what has a task of its own already: whoever gets the
    /// obituary keeps it until the end.
    pub(crate) fn exists(&self, life: &Life) -> Obituary {
        life.ended().drive();
        life.ended().reached_by(&life.control);
        self.node.attach(life.clone(), self.context.clock().now());
        if self.node.child_type() == ChildType::Worker {
            started(self);
        }
        Obituary { cx: self.clone(), control: life.control.clone() }
    }
}

/// Told before anything can end it: its start is published before its exit.
pub(crate) fn started(cx: &StartCx) {
    let (incarnation, requested) = (cx.node.started(), cx.requested);
    let event = LifecycleEvent::Started { incarnation, requested };
    cx.context.tell(&cx.node, Some(&cx.process), event);
}

fn undelivered_of(context: &Context, node: &Node, process: &ProcessRef, count: u64) {
    if count > 0 {
        node.undelivered(count);
        context.tell(node, Some(process), LifecycleEvent::Undelivered { count });
    }
}

/// The announcement of an end, which is owed from the birth on.
pub(crate) struct Obituary {
    cx: StartCx,
    control: Arc<dyn Control>,
}

impl Obituary {
    /// Whoever waits for the end may open again what the incarnation held: everything of it is
    /// dropped before the end is announced.
    pub(crate) fn announce(self, reason: &ExitReason) {
        let undelivered = self.control.load().map_or(0, |load| load.depth);
        let Self { cx: StartCx { context, node, process, superior, .. }, control } = self;
        let now = context.clock().now();
        // One that was given up as unkillable has been replaced in the tree and at its address, and
        // one whose start failed was never started.
        if let Some(incarnation) = node.ended(process.pid(), reason, now) {
            let event = LifecycleEvent::Exited { incarnation, reason: reason.clone() };
            context.tell(&node, Some(&process), event);
        }
        // Before its supervisor learns of the end, and so before another incarnation begins (SUP-074).
        undelivered_of(&context, &node, &process, undelivered);
        if node.is_root() {
            // Nobody brings a root back.
            node.gone();
        }
        node.spec().release(&context, &process);
        let place = Arc::downgrade(&node);
        // With it may go the last sender of a mailbox, and a message that came at the very moment of
        // the end: whatever the drop of that does, the end is announced.
        call_quietly("the drop of what was left", move || drop((context, node, control)));
        // Whoever learns of the end asks a supervisor that has the news before the question
        // (SUP-205).
        process.ended().announce_after(reason, || {
            if let Some((superior, order)) = superior {
                superior.exited(order, process.pid(), reason.clone(), now);
            }
        });
        if let Some(node) = place.upgrade() {
            node.told(process.ended());
        }
    }
}

/// Announces the end even where its own task ends first, with the executor (trap 29).
struct Driver(Option<Obituary>);

impl Driver {
    fn finish(&mut self, reason: ExitReason) {
        if let Some(obituary) = self.0.take() {
            obituary.announce(&reason);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(Obituary { cx, control }) = &self.0 {
            let (node, control) = (cx.node.clone(), control.clone());
            // A thread is not the executor's: nobody waits for it any more, and it is told so.
            let _ = guard_blocking(|| control.kill());
            // The host's trace subscriber may be gone as well, and this must not panic.
            let _ = guard_blocking(|| self.finish(ExitReason::Killed));
            node.abandon();
        }
    }
}

/// The one place that hands a future to tokio: drivers, which end with what they drive.
#[expect(clippy::disallowed_methods, reason = "every supervised thing is driven from here")]
pub(crate) fn spawn(driver: impl Future<Output = ()> + Send + 'static) {
    // The driver announces its own end; nobody joins it.
    drop(crate::sync::spawn(driver));
}

#[cfg(test)]
mod tests;
