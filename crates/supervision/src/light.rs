//! Servers of which there may be very many: a cell, a task, and one lock between them and everybody else.
//!
//! | room | holds |
//! |---|---|
//! | `desk` | what is under the lock, and what follows from each event: pure |
//! | `cell` | the lock, who is woken, what an address reaches |
//! | `life` | the task: init, messages, cleanup, and again from init |
//! | `home` | the children of one life of a supervisor: started, stopped, counted |
//! | `kinds` | the names of what they handle, by small numbers |
//! | `picture` | what the tree shows of them |
//! | `supervisor` | specification and handle |
//!
//! A child restarts itself in its own task, at its own address: its supervisor is asked for a restart
//! (the intensity is its), and has something to do only when there were too many, and at its shutdown.

mod call;
mod cell;
mod desk;
mod home;
mod kinds;
mod life;
mod picture;
mod supervisor;

use std::{fmt, future::Future, sync::Arc};

use perennial_core::{ChildId, ExitReason};

pub use self::supervisor::{LightSupervisor, LightSupervisorSpec};
pub(crate) use self::{
    call::{call, cast},
    cell::{Cell, Somebody},
    life::{Came, Served},
    picture::Litter,
};
use crate::{Address, ProcessRef, actor::ActorError, gen_server::MESSAGE};

/// What a light server does; its state is the value itself.
///
/// A [`GenServer`](crate::GenServer) for those of which there are very many: some hundred bytes each, and a
/// restart in place. It has no timers, watches, continuations and no debugger, and always traps exits.
///
/// | promise | id |
/// |---|---|
/// | what is sent while `init` runs is kept and handled afterwards | GS-013 |
/// | an `Err` or a panic of a callback ends it, after `terminate` with that reason | GS-035, GS-036 |
/// | a stop first handles what was sent before it, and nothing that came later; it needs no room | GS-041 |
/// | only a kill skips `terminate` | GS-039, GS-040 |
/// | what waits at its end is dropped, counted and told before the next `init` | SUP-074 |
///
/// An `Err` of an [`ExitReason`] is taken as that reason, any other as [`ExitReason::Error`]. A kill takes
/// effect at the next await; code that does not yield cannot be killed.
///
/// ```
/// use perennial_supervision::{
///     Clock, Flow, LightCx, LightServer, LightSupervisor, LightSupervisorSpec, Options, Reply, Root,
///     SupervisorSpec, actor::ActorError,
/// };
///
/// struct Cart(Vec<u32>);
///
/// enum Message {
///     Put(u32),
///     Items(Reply<Vec<u32>>),
/// }
///
/// impl LightServer for Cart {
///     type Arguments = ();
///     type Message = Message;
///
///     async fn init(_: &(), _: &LightCx<Self>) -> Result<Self, ActorError> {
///         Ok(Self(Vec::new()))
///     }
///
///     async fn handle(&mut self, message: Message, _: &LightCx<Self>) -> Result<Flow, ActorError> {
///         match message {
///             Message::Put(item) => self.0.push(item),
///             Message::Items(reply) => reply.send(self.0.clone()),
///         }
///         Ok(Flow::Continue)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100_000));
/// let shop = SupervisorSpec::new("shop").child(spec);
/// let root = Root::start(shop, Clock::start(), Options::default()).await?;
/// let cart = carts.start_child("of-ada", ()).await?;
/// cart.cast(Message::Put(7))?;
/// assert_eq!(cart.ask(Message::Items).await?, [7]);
/// # root.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub trait LightServer: Sized + Send + 'static {
    /// What each init is given: kept for the restarts.
    type Arguments: Send + Sync + 'static;

    /// What it is sent.
    type Message: Send + 'static;

    /// Makes the state. The start waits for it; it can be addressed and sent to already.
    ///
    /// # Errors
    ///
    /// The start fails with that reason and nothing remains (GS-003); `Err(Ignore.into())` is no
    /// failure, see [`Ignore`](crate::Ignore). A restart that fails is tried again, and counts again.
    ///
    /// # Cancel safety
    ///
    /// Dropped at an await when the start takes too long (GS-008), and by a kill.
    fn init(
        arguments: &Self::Arguments,
        cx: &LightCx<Self>,
    ) -> impl Future<Output = Result<Self, ActorError>> + Send;

    /// Handles one message.
    ///
    /// # Errors
    ///
    /// Ends the server for that reason, after `terminate`.
    ///
    /// # Cancel safety
    ///
    /// Dropped at an await by a kill.
    fn handle(
        &mut self,
        message: Self::Message,
        cx: &LightCx<Self>,
    ) -> impl Future<Output = Result<Flow, ActorError>> + Send;

    /// The cleanup: once, before every end but a kill. `self` is the state as the last callback left it; one
    /// that failed may have changed a part of it.
    ///
    /// # Errors
    ///
    /// The failure becomes the reason of the end (GS-042).
    fn terminate(
        &mut self,
        reason: &ExitReason,
        cx: &LightCx<Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = (reason, cx);
        std::future::ready(Ok(()))
    }

    /// What the tree dump calls a message that is being handled: the kind it is of, never what is in it.
    fn message_kind(message: &Self::Message) -> &'static str {
        let _ = message;
        MESSAGE
    }
}

/// What [`LightServer::handle`] answers.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (child, carts) = LightSupervisor::<Cart>::child_spec(LightSupervisorSpec::new("carts", 100));
/// # let root = Root::start(SupervisorSpec::new("shop").child(child), Clock::start(), Options::default()).await?;
/// // What a handler answers that ends its server in good order:
/// let flow = Flow::Stop(ExitReason::Normal);
/// assert_ne!(flow, Flow::Continue);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Waits for the next message.
    Continue,
    /// Ends with exactly this reason, after `terminate` (GS-034, GS-037).
    Stop(ExitReason),
}

/// The light server itself, in its callbacks.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/carts.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// /// Knows its name.
/// struct Named;
///
/// impl LightServer for Named {
///     type Arguments = ();
///     type Message = Reply<String>;
///
///     async fn init(_: &(), _: &LightCx<Self>) -> Result<Self, actor::ActorError> {
///         Ok(Self)
///     }
///
///     async fn handle(&mut self, reply: Reply<String>, cx: &LightCx<Self>) -> Result<Flow, actor::ActorError> {
///         assert_eq!(cx.address().whereis(), Some(cx.process()));
///         reply.send(format!("{} {}", cx.id(), cx.incarnation()));
///         Ok(Flow::Continue)
///     }
/// }
///
/// # let (child, names) = LightSupervisor::<Named>::child_spec(LightSupervisorSpec::new("names", 100));
/// # let root = Root::start(SupervisorSpec::new("app").child(child), Clock::start(), Options::default()).await?;
/// let one = names.start_child("one", ()).await?;
/// assert_eq!(one.ask(|reply| reply).await?, "one 1");
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct LightCx<S: LightServer> {
    cell: Arc<Cell<S::Message>>,
    incarnation: u32,
    /// Where the cell is that of one incarnation only.
    address: Option<Box<Address<S::Message>>>,
}

impl<S: LightServer> LightCx<S> {
    /// Its id, which is its name below its supervisor.
    pub fn id(&self) -> &ChildId {
        self.cell.id()
    }

    /// Where it is reached, now and after a restart. A call to it from here would wait for itself,
    /// and says so.
    pub fn address(&self) -> Address<S::Message> {
        match &self.address {
            Some(address) => Address::clone(address),
            None => Address::of_light(self.cell.clone()),
        }
    }

    /// The number of this incarnation below a [`LightSupervisor`], from 1: above 1 it was restarted. Below any
    /// other supervisor it is 1.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// This incarnation.
    pub fn process(&self) -> ProcessRef {
        self.cell.own_process(self.incarnation)
    }
}

impl<S: LightServer> fmt::Debug for LightCx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LightCx")
            .field("id", self.id())
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
