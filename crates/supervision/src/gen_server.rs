//! A server process as OTP has it: one state, one mailbox, one message at a time.

mod context;
mod debugger;
mod letter;
mod report;
mod serving;
mod standing;
mod timers;

use std::{future::Future, time::Duration};

use perennial_core::ExitReason;

pub(crate) use self::report::ancestors_of;
pub use self::{
    context::{Exit, ServerCx, WatchRef},
    debugger::{DebugError, DebugStatus, Debugger},
    report::CrashReport,
    timers::{TIMERS_MAX, TimerRef, TimersFull},
};
pub(crate) use self::{
    letter::{Inbox, Letter, Queue},
    serving::Serving,
    standing::Standing,
};
use crate::actor::ActorError;

/// What is shown of a message whose kind nobody tells.
pub(crate) const MESSAGE: &str = "message";

/// What a server process does; its state is the value itself.
///
/// | promise | id |
/// |---|---|
/// | what is sent while `init` runs is kept and handled afterwards | GS-013 |
/// | an `Err` or a panic of a callback ends it, after `terminate` with that reason | GS-035, GS-036 |
/// | a stop first handles what was sent before it, and nothing that came later | GS-041 |
/// | only a kill skips `terminate`, and a shutdown where it does not trap exits | GS-039, GS-040 |
/// | its state and its mailbox are dropped before its end is announced | GS-023 |
///
/// An `Err` of an [`ExitReason`] is taken as that reason, any other as [`ExitReason::Error`]. A
/// kill takes effect at the next await; code that does not yield cannot be killed.
///
/// ```
/// use perennial_supervision::{
///     ChildSpec, GenServer, Init, Next, Reply, ServerCx, actor::ActorError,
/// };
///
/// struct Counter(u32);
///
/// enum Message {
///     Add(u32),
///     Sum(Reply<u32>),
/// }
///
/// impl GenServer for Counter {
///     type Arguments = u32;
///     type Message = Message;
///
///     async fn init(first: u32, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         Ok(Init::new(Self(first)))
///     }
///
///     async fn handle(
///         &mut self,
///         message: Message,
///         _: &mut ServerCx<Self>,
///     ) -> Result<Next<Message>, ActorError> {
///         match message {
///             Message::Add(number) => self.0 += number,
///             Message::Sum(reply) => reply.send(self.0),
///         }
///         Ok(Next::Continue)
///     }
/// }
///
/// let (spec, address) = ChildSpec::server::<Counter>("counter", || 0);
/// # drop((spec, address));
/// ```
pub trait GenServer: Sized + Send + 'static {
    /// What a start is given, made anew for every incarnation.
    type Arguments: Send + 'static;

    /// What it is sent.
    type Message: Send + 'static;

    /// Whether it traps exits. One that does not has no cleanup at a shutdown: it is dropped at its
    /// next await, inside a callback as well (GS-039).
    const TRAPS_EXITS: bool = true;

    /// Makes the state. The start waits for it; it can be addressed and sent to already.
    ///
    /// # Errors
    ///
    /// The start fails with that reason and nothing remains (GS-003); `Err(Ignore.into())` is no
    /// failure, see [`Ignore`](crate::Ignore).
    ///
    /// # Cancel safety
    ///
    /// Dropped at an await when the start takes too long (GS-008).
    fn init(
        arguments: Self::Arguments,
        cx: &mut ServerCx<Self>,
    ) -> impl Future<Output = Result<Init<Self>, ActorError>> + Send;

    /// Handles one message, or a continuation.
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
        cx: &mut ServerCx<Self>,
    ) -> impl Future<Output = Result<Next<Self::Message>, ActorError>> + Send;

    /// No message came within the time of [`Next::Timeout`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// /// Ends when nobody has asked for a minute.
    /// struct Session;
    /// impl GenServer for Session {
    ///     type Arguments = ();
    ///     type Message = ();
    ///
    ///     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///         Ok(Init::new(Self).timeout(Duration::from_secs(60)))
    ///     }
    ///
    ///     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
    ///         Ok(Next::Timeout(Duration::from_secs(60)))
    ///     }
    ///
    ///     async fn handle_timeout(&mut self, _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
    ///         Ok(Next::Stop(ExitReason::Normal))
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (session, address) = ChildSpec::server::<Session>("session", || ());
    /// let session = session.restart(Restart::Transient);
    /// # let app = SupervisorSpec::new("app").child(session);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(address.monitor().down().await, ExitReason::Normal);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    fn handle_timeout(
        &mut self,
        cx: &mut ServerCx<Self>,
    ) -> impl Future<Output = Result<Next<Self::Message>, ActorError>> + Send {
        let _ = cx;
        std::future::ready(Ok(Next::Continue))
    }

    /// A process that it watches ended: an ordinary message, which came behind all that this
    /// process had sent (GS-044).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// /// Ends with the process that it watches.
    /// struct Guard;
    /// impl GenServer for Guard {
    ///     type Arguments = ProcessRef;
    ///     type Message = ();
    ///
    ///     async fn init(peer: ProcessRef, cx: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///         cx.monitor(&peer);
    ///         Ok(Init::new(Self))
    ///     }
    ///
    ///     async fn handle_exit(&mut self, exit: Exit, _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
    ///         Ok(Next::Stop(exit.reason))
    ///     }
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let (peer, count) = Agent::child_spec("peer", || 0_u32);
    /// let peer = pool.start_child(peer.restart(Restart::Temporary)).await?;
    /// let watched = peer.process().clone();
    /// let (guard, address) = ChildSpec::server::<Guard>("guard", move || watched.clone());
    /// pool.start_child(guard.restart(Restart::Temporary)).await?;
    /// let mut monitor = address.monitor();
    /// pool.terminate_child(&peer).await?;
    /// assert_eq!(monitor.down().await, ExitReason::Shutdown);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    fn handle_exit(
        &mut self,
        exit: Exit,
        cx: &mut ServerCx<Self>,
    ) -> impl Future<Output = Result<Next<Self::Message>, ActorError>> + Send {
        let _ = (exit, cx);
        std::future::ready(Ok(Next::Continue))
    }

    /// The cleanup: once, before every end but those of the table above. `self` is the state as the
    /// last callback left it; one that failed may have changed a part of it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// use std::sync::mpsc::{Sender, channel};
    ///
    /// struct Writer(Sender<String>);
    /// impl GenServer for Writer {
    ///     type Arguments = Sender<String>;
    ///     type Message = ();
    ///
    ///     async fn terminate(&mut self, reason: &ExitReason, _: &mut ServerCx<Self>) -> Result<(), ActorError> {
    ///         self.0.send(format!("flushed: {reason}"))?;
    ///         Ok(())
    ///     }
    /// #     async fn init(log: Sender<String>, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self(log))) }
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (log, told) = channel();
    /// let (writer, _) = ChildSpec::server::<Writer>("writer", move || log.clone());
    /// # let app = SupervisorSpec::new("app").child(writer);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// root.shutdown().await;
    /// assert_eq!(told.recv()?, "flushed: shutdown");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The failure becomes the reason of the end (GS-042).
    fn terminate(
        &mut self,
        reason: &ExitReason,
        cx: &mut ServerCx<Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = (reason, cx);
        std::future::ready(Ok(()))
    }

    /// What reports and the debugger show of the state; nothing unless it is written, so that no
    /// secret gets into a log by itself.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// struct Session { user: String, token: String }
    /// impl GenServer for Session {
    ///     type Arguments = ();
    ///     type Message = ();
    ///
    ///     // The token stays out of every log.
    ///     fn format_status(&self) -> String {
    ///         format!("session of {}", self.user)
    ///     }
    /// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self { user: "ada".into(), token: "secret".into() })) }
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (session, address) = ChildSpec::server::<Session>("session", || ());
    /// # let app = SupervisorSpec::new("app").child(session);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let status = Debugger::<Session>::of(&address).status(Duration::from_secs(1)).await?;
    /// assert_eq!(status.state, "session of ada");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    fn format_status(&self) -> String {
        String::new()
    }

    /// What the tree dump calls a message that is being handled: the kind it is of, never what is in it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// enum Message { Store(Vec<u8>), Flush }
    /// struct Disk;
    /// impl GenServer for Disk {
    ///     type Arguments = ();
    ///     type Message = Message;
    ///
    ///     fn message_kind(message: &Message) -> &'static str {
    ///         match message {
    ///             Message::Store(_) => "store",
    ///             Message::Flush => "flush",
    ///         }
    ///     }
    ///
    ///     async fn handle(&mut self, _: Message, _: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
    ///         std::future::pending().await // hangs
    ///     }
    /// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self)) }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (disk, address) = ChildSpec::server::<Disk>("disk", || ());
    /// let disk = disk.shutdown(Shutdown::BrutalKill);
    /// # let app = SupervisorSpec::new("app").child(disk);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// address.cast(Message::Flush)?;
    /// tokio::time::sleep(Duration::from_secs(1)).await; // paused clock
    /// let current = root.tree().nodes().remove(1).current.expect("it is at something");
    /// assert_eq!((current.message.as_str(), current.running_ms), ("flush", 1_000));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    fn message_kind(message: &Self::Message) -> &'static str {
        let _ = message;
        MESSAGE
    }

    /// What reports and the debugger show of a message; nothing but its kind unless it is written.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// enum Message { Login { user: String, password: String } }
    /// struct Door;
    /// impl GenServer for Door {
    ///     type Arguments = ();
    ///     type Message = Message;
    ///
    ///     fn describe_message(Message::Login { user, .. }: &Message) -> Option<String> {
    ///         Some(format!("login of {user}")) // and not the password
    ///     }
    ///
    ///     async fn handle(&mut self, _: Message, _: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
    ///         Err("the door is stuck".into())
    ///     }
    /// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self)) }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (door, address) = ChildSpec::server::<Door>("door", || ());
    /// # let app = SupervisorSpec::new("app").child(door);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut events = root.tree().lifecycle();
    /// address.cast(Message::Login { user: "ada".into(), password: "secret".into() })?;
    /// let told = events.next().await.expect("the tree is there");
    /// let LifecycleEvent::Crashed(report) = told.event else { panic!("{told:?}") };
    /// assert_eq!(report.last_message.as_deref(), Some("login of ada"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    fn describe_message(message: &Self::Message) -> Option<String> {
        let _ = message;
        None
    }
}

/// What a successful `init` answers.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::Init;
///
/// /// Reads its table after the start, which does not wait for it.
/// struct Table(Vec<u32>);
/// enum Message { Load, Len(Reply<usize>) }
/// impl GenServer for Table {
///     type Arguments = ();
///     type Message = Message;
///
///     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
///         Ok(Init::new(Self(Vec::new())).continuation(Message::Load))
///     }
///
///     async fn handle(&mut self, message: Message, _: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
///         match message {
///             Message::Load => self.0 = vec![1, 2, 3],
///             Message::Len(reply) => reply.send(self.0.len()),
///         }
///         Ok(Next::Continue)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (table, address) = ChildSpec::server::<Table>("table", || ());
/// # let app = SupervisorSpec::new("app").child(table);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// assert_eq!(address.ask(Message::Len).await?, 3); // nobody gets in before it
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Init<S: GenServer> {
    pub(crate) state: S,
    pub(crate) next: Next<S::Message>,
}

impl<S: GenServer> Init<S> {
    /// Runs with `state`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Worker;
    /// # impl GenServer for Worker {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     Ok(Init::new(Self)) // it runs
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (worker, address) = ChildSpec::server::<Worker>("worker", || ());
    /// # let app = SupervisorSpec::new("app").child(worker);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert!(address.whereis().is_some());
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn new(state: S) -> Self {
        Self { state, next: Next::Continue }
    }

    /// Handles `message` before everything that was sent meanwhile (GS-014).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Worker;
    /// # impl GenServer for Worker {
    /// #     type Arguments = ();
    /// type Message = &'static str;
    ///
    /// async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     Ok(Init::new(Self).continuation("warm up")) // the start does not wait for that
    /// }
    ///
    /// async fn handle(&mut self, message: &'static str, _: &mut ServerCx<Self>) -> Result<Next<&'static str>, ActorError> {
    ///     Ok(Next::Stop(ExitReason::ShutdownWith(message.into())))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (worker, _) = ChildSpec::server::<Worker>("worker", || ());
    /// # let (spec, pool) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("pool", 10));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let worker = pool.start_child(worker.restart(Restart::Temporary)).await?;
    /// assert_eq!(worker.first_exit().await, ExitReason::ShutdownWith("warm up".into()));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn continuation(mut self, message: S::Message) -> Self {
        self.next = Next::Continuation(message);
        self
    }

    /// Tells `handle_timeout` when no message comes in time (GS-055).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Worker;
    /// # impl GenServer for Worker {
    /// #     type Arguments = ();
    /// #     type Message = ();
    /// #     async fn handle(&mut self, (): (), _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> { Ok(Next::Continue) }
    /// async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
    ///     Ok(Init::new(Self).timeout(Duration::from_secs(60)))
    /// }
    ///
    /// async fn handle_timeout(&mut self, _: &mut ServerCx<Self>) -> Result<Next<()>, ActorError> {
    ///     Ok(Next::Stop(ExitReason::Normal)) // nobody has sent anything for a minute
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (worker, address) = ChildSpec::server::<Worker>("worker", || ());
    /// # let worker = worker.restart(Restart::Transient);
    /// # let app = SupervisorSpec::new("app").child(worker);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(address.monitor().down().await, ExitReason::Normal);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn timeout(mut self, inactivity: Duration) -> Self {
        self.next = Next::Timeout(inactivity);
        self
    }
}

/// What a callback answers.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::Next;
///
/// /// Counts down, and lets others in between two steps only where it says so.
/// struct Countdown;
/// impl GenServer for Countdown {
///     type Arguments = ();
///     type Message = u32;
///
///     async fn handle(&mut self, left: u32, _: &mut ServerCx<Self>) -> Result<Next<u32>, ActorError> {
///         Ok(match left {
///             0 => Next::Stop(ExitReason::Normal),
///             left => Next::Continuation(left - 1),
///         })
///     }
/// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self)) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (countdown, address) = ChildSpec::server::<Countdown>("countdown", || ());
/// let countdown = countdown.restart(Restart::Transient);
/// # let app = SupervisorSpec::new("app").child(countdown);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut monitor = address.monitor();
/// address.cast(3)?;
/// assert_eq!(monitor.down().await, ExitReason::Normal);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub enum Next<M> {
    /// Waits for the next message.
    Continue,
    /// Waits for the next message for this time only, then calls `handle_timeout` once. Any message
    /// cancels it, also one that waits already: with no time at all the timeout comes when the
    /// mailbox is empty. A debugger's visit does not.
    Timeout(Duration),
    /// Handles this one first, whatever waits (GS-014).
    Continuation(M),
    /// Ends with exactly this reason, after `terminate` (GS-034, GS-037).
    Stop(ExitReason),
}
