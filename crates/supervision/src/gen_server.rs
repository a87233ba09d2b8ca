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
    fn format_status(&self) -> String {
        String::new()
    }

    /// What the tree dump calls a message that is being handled: the kind it is of, never what is in it.
    fn message_kind(message: &Self::Message) -> &'static str {
        let _ = message;
        MESSAGE
    }

    /// What reports and the debugger show of a message; nothing but its kind unless it is written.
    fn describe_message(message: &Self::Message) -> Option<String> {
        let _ = message;
        None
    }
}

/// What a successful `init` answers.
#[derive(Debug)]
#[must_use]
pub struct Init<S: GenServer> {
    pub(crate) state: S,
    pub(crate) next: Next<S::Message>,
}

impl<S: GenServer> Init<S> {
    /// Runs with `state`.
    pub fn new(state: S) -> Self {
        Self { state, next: Next::Continue }
    }

    /// Handles `message` before everything that was sent meanwhile (GS-014).
    pub fn continuation(mut self, message: S::Message) -> Self {
        self.next = Next::Continuation(message);
        self
    }

    /// Tells `handle_timeout` when no message comes in time (GS-055).
    pub fn timeout(mut self, inactivity: Duration) -> Self {
        self.next = Next::Timeout(inactivity);
        self
    }
}

/// What a callback answers.
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
