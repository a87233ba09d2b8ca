//! Children that are ractor actors. ractor's strings, its silence about kills, its missing cleanup
//! after failures and its early announcements end here.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, lock::Mutex};
use perennial_core::{ChildId, ExitReason, Overflow, tree::NodeKind};
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};
use tokio::sync::Semaphore;

use super::{ChildSpec, Ignore, Outcome, StartCx, start::Obituary};
use crate::{
    Address, ProcessRef, ProcessStatus,
    address::{Incarnation, Post, Refused},
    gen_server::MESSAGE,
    life::{Control, Life},
    load::{Admission, Load, Place, Seen},
    panics::{call_quietly, guard, guard_blocking},
    presence::{Announce, Publisher},
    process::{CURRENT, Here},
};

impl ChildSpec {
    /// A permanent worker that is a ractor actor, unchanged, and the address that outlives its
    /// restarts. `build` makes the actor and its arguments anew for every incarnation.
    ///
    /// What OTP promises of a server process holds for it:
    ///
    /// * a graceful stop handles the messages that came before it (GS-041);
    /// * `post_stop` runs after a stop **and** after an `Err` or a panic, with the last good state;
    ///   only a kill skips it (GS-036–040);
    /// * an `Err` of [`ExitReason`] is taken as that reason, any other as [`ExitReason::Error`];
    /// * the state is dropped before the end is announced (SUP-077).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// use perennial_supervision::{actor::{Actor, ActorError, ActorRef}, ractor::RpcReplyPort};
    ///
    /// struct Adder;
    /// enum Add { One, Sum(RpcReplyPort<u32>) }
    /// impl Actor for Adder {
    ///     type Msg = Add;
    ///     type State = u32;
    ///     type Arguments = u32;
    ///
    ///     async fn pre_start(&self, _: ActorRef<Add>, first: u32) -> Result<u32, ActorError> {
    ///         Ok(first)
    ///     }
    ///
    ///     async fn handle(&self, _: ActorRef<Add>, message: Add, sum: &mut u32) -> Result<(), ActorError> {
    ///         match message {
    ///             Add::One => *sum += 1,
    ///             Add::Sum(reply) => reply.send(*sum)?,
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (adder, sum) = ChildSpec::actor("adder", || (Adder, 40));
    /// # let app = SupervisorSpec::new("app").child(adder);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// sum.cast(Add::One)?;
    /// assert_eq!(sum.ask(Add::Sum).await?, 41);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn actor<A>(
        id: impl Into<ChildId>,
        build: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> (Self, Address<A::Msg>)
    where
        A: Actor,
    {
        Self::actor_of_kinds(id, |_| MESSAGE, build)
    }

    /// As [`actor`](Self::actor), and the tree dump calls a message that is being handled what `kind`
    /// says: which sort it is of, never what is in it.
    ///
    /// ```
    /// use perennial_supervision::{ChildSpec, ractor::{Actor, ActorProcessingErr, ActorRef}};
    ///
    /// enum Message { Add(u32), Flush }
    /// struct Sum;
    /// impl Actor for Sum {
    ///     type Msg = Message;
    ///     type State = u32;
    ///     type Arguments = ();
    ///     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u32, ActorProcessingErr> {
    ///         Ok(0)
    ///     }
    /// }
    /// let kind = |message: &Message| match message {
    ///     Message::Add(_) => "add",
    ///     Message::Flush => "flush",
    /// };
    /// let (spec, address) = ChildSpec::actor_of_kinds("sum", kind, || (Sum, ()));
    /// # drop((spec, address.cast(Message::Add(1)), Message::Flush));
    /// ```
    pub fn actor_of_kinds<A>(
        id: impl Into<ChildId>,
        kind: fn(&A::Msg) -> &'static str,
        build: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> (Self, Address<A::Msg>)
    where
        A: Actor,
    {
        let (publisher, address) = Address::channel();
        let publisher = Arc::new(publisher);
        let presence: Arc<dyn Announce> = publisher.clone();
        let build = Arc::new(build);
        let id = id.into();
        let mut spec = Self::worker(id, NodeKind::Worker, move |cx| {
            let (publisher, build) = (publisher.clone(), build.clone());
            Box::pin(async move {
                let (actor, arguments) = build();
                Ok(start(cx, kind, actor, arguments, publisher).await?)
            })
        });
        spec.type_name = Some(std::any::type_name::<A>());
        spec.named_address = Some(address.any());
        spec.presence = Some(presence);
        spec.overflows = Some(OVERFLOWS);
        (spec, address)
    }
}

/// What the mailbox of a ractor actor can do when it is full: its bound is kept at the address, and what
/// stands in it can be taken by the actor alone.
const OVERFLOWS: &[Overflow] = &[Overflow::Reject, Overflow::Wait, Overflow::DropNewest];

/// What the tree dump calls a message while it is handled.
type Kind<M> = fn(&M) -> &'static str;

async fn start<A: Actor>(
    cx: StartCx,
    kind: Kind<A::Msg>,
    actor: A,
    arguments: A::Arguments,
    publisher: Arc<Publisher<Incarnation<A::Msg>>>,
) -> Result<Outcome, ExitReason> {
    let shared = Arc::new(Shared::new(cx.process.clone(), cx.load()));
    let control: Arc<dyn Control> = shared.clone();
    // Its init may link it already.
    cx.process.ended().reached_by(&control);
    let whole = Arc::new(Whole { shared: shared.clone(), obituary: OnceLock::new() });
    let held = Mutex::new(Held(None));
    let adapter = Adapter { actor, kind, held, whole: whole.clone() };
    #[expect(clippy::disallowed_methods, reason = "the adapter is supervised by the caller")]
    let spawned = Actor::spawn(None, adapter, arguments).await;
    let actor = match spawned {
        Ok((actor, _)) => actor,
        Err(_) if shared.ignored.load(Ordering::SeqCst) => return Ok(Outcome::Ignored),
        // As at the end of a life: without a reason nothing of ours ran (trap 1).
        Err(_) => return Err(shared.reason.get().cloned().unwrap_or(ExitReason::Killed)),
    };
    // Set once: nobody else knows it yet.
    let _ = shared.actor.set(actor);
    if let Some(asked) = shared.asked.get() {
        // What it is linked to ended during its init.
        shared.stop(asked);
    }
    let life = Life { process: cx.process.clone(), control };
    publisher.up(Incarnation::new(shared));
    // Set once. One that has ended meanwhile is kept whole by this function alone, which announces
    // its end when it returns.
    let _ = whole.obituary.set(cx.exists(&life));
    Ok(Outcome::Up(life))
}

/// What one incarnation and those outside share; holds nothing of the user's.
struct Shared<M> {
    process: ProcessRef,
    /// Where to reach it; set once it has started.
    actor: OnceLock<ActorRef<M>>,
    load: Load,
    /// Why a supervisor asked for the end.
    asked: OnceLock<ExitReason>,
    /// The init answered that it need not run.
    ignored: AtomicBool,
    /// It is to end at its next await.
    killed: AtomicBool,
    /// Where the adapter leaves the typed reason of the end (trap 2). The first counts.
    reason: OnceLock<ExitReason>,
}

impl<M> Shared<M> {
    fn new(process: ProcessRef, load: Load) -> Self {
        Self {
            process,
            actor: OnceLock::new(),
            load,
            asked: OnceLock::new(),
            ignored: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            reason: OnceLock::new(),
        }
    }
}

impl<M: ractor::Message> Control for Shared<M> {
    /// Handles what is queued, then ends (trap 8).
    fn stop(&self, reason: &ExitReason) {
        self.asked.get_or_init(|| reason.clone());
        if let Some(actor) = self.actor.get() {
            // One that cannot be drained is ending already.
            drop(actor.drain());
        }
    }

    fn ending(&self) -> Option<ExitReason> {
        self.killed.load(Ordering::SeqCst).then_some(ExitReason::Killed)
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        if let Some(actor) = self.actor.get() {
            actor.kill();
        }
    }

    fn load(&self) -> Option<Seen> {
        Some(self.load.look())
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        if let Some(actor) = self.actor.get() {
            crate::testing::crash_actor(&actor.get_cell());
        }
    }
}

impl<M: ractor::Message> Post<M> for Shared<M> {
    fn process(&self) -> &ProcessRef {
        &self.process
    }

    fn post(&self, message: M, place: Option<Place<'_>>) -> Result<(), Refused> {
        let actor = self.actor.get().ok_or(Refused::NoProc)?;
        match self.load.admit(place) {
            Admission::Taken => (),
            Admission::Dropped => return Err(Refused::Dropped),
            // Its specification cannot have the latter.
            Admission::Refused | Admission::InsteadOfOldest => return Err(Refused::Full),
        }
        actor.send_message(message).map_err(|_| {
            self.load.withdrawn();
            Refused::NoProc
        })
    }

    fn room(&self) -> Option<&Semaphore> {
        self.load.room()
    }

    fn terminate(&self, reason: &ExitReason) {
        self.stop(reason);
    }

    fn look(&self) -> (ProcessStatus, u64, Vec<ProcessRef>) {
        let status = match self.actor.get().map_or(ActorStatus::Unstarted, |a| a.get_status()) {
            ActorStatus::Unstarted | ActorStatus::Starting => ProcessStatus::Starting,
            ActorStatus::Running | ActorStatus::Upgrading | ActorStatus::Draining => {
                ProcessStatus::Running
            }
            ActorStatus::Stopping | ActorStatus::Stopped => ProcessStatus::Stopping,
        };
        (status, self.load.depth(), Vec::new())
    }

    fn inspect(&self, _: Box<dyn std::any::Any + Send>) -> Result<(), Refused> {
        Err(Refused::Stranger)
    }
}

/// Held by the adapter, and dropped with it at the end of ractor's task: the only barrier behind
/// which its actor, its state and its mailbox are gone (trap 12), whatever way ractor, or the
/// executor, ended it. Costs no task of its own.
struct Whole<M: ractor::Message> {
    shared: Arc<Shared<M>>,
    /// Owed once the init has succeeded.
    obituary: OnceLock<Obituary>,
}

impl<M: ractor::Message> Drop for Whole<M> {
    fn drop(&mut self) {
        self.shared.load.close();
        if let Some(obituary) = self.obituary.take() {
            // How it ended is in its slot; an empty one means that nothing of ours ran: killed
            // (trap 1).
            let reason = self.shared.reason.get().unwrap_or(&ExitReason::Killed);
            // With an executor goes the host's trace subscriber, and this must not panic.
            let _ = guard_blocking(|| obituary.announce(reason));
        }
    }
}

struct Adapter<A: Actor> {
    /// Dropped before `whole`, as fields are.
    actor: A,
    kind: Kind<A::Msg>,
    /// Here and not with ractor, which hands the state of what was killed to whoever it is linked to,
    /// to be dropped there at some time (trap 13). Held while a callback runs, as ractor would hold it;
    /// callbacks come one by one, and nobody else ever takes it or waits for it.
    held: Mutex<Held<A::State>>,
    whole: Arc<Whole<A::Msg>>,
}

/// The user's state; taken once it has been cleaned up.
struct Held<S>(Option<S>);

impl<S> Drop for Held<S> {
    /// Of one that was killed. Two panics at once, in what is dropped with it, would abort the program.
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            call_quietly("the drop of a state", move || drop(state));
        }
    }
}

impl<A: Actor> Adapter<A> {
    fn load(&self) -> &Load {
        &self.whole.shared.load
    }

    /// One callback of the user's actor: a panic or an error is its typed reason. Written without
    /// `async`, which would keep the user's future several times over in every actor.
    fn callback<T>(
        &self,
        call: impl Future<Output = Result<T, ActorProcessingErr>>,
    ) -> impl Future<Output = Result<T, ExitReason>> {
        // What an error says of itself is the user's code as well.
        let typed = call.map(|answer| answer.map_err(ExitReason::from_boxed));
        CURRENT
            .scope(Here::Process(self.whole.shared.process.clone()), guard(typed))
            .map(Result::flatten)
    }

    /// Runs the user's cleanup once, drops the state, and leaves the reason. A cleanup that fails
    /// itself becomes the reason (GS-042).
    async fn finish(&self, me: ActorRef<A::Msg>, held: &mut Held<A::State>, reason: ExitReason) {
        let Some(mut state) = held.0.take() else { return };
        self.load().begin("post_stop");
        let cleanup = self.callback(async { self.actor.post_stop(me, &mut state).await }).await;
        // Dropping the state is the user's code as well.
        let dropped = guard_blocking(move || drop(state));
        self.whole.shared.reason.get_or_init(|| match (cleanup, dropped) {
            (Ok(()), Ok(())) => reason,
            (Err(failure), _) | (Ok(()), Err(failure)) => failure,
        });
    }

    /// What a callback answered: on failure clean up and end the ractor actor in good order.
    async fn settle(
        &self,
        me: ActorRef<A::Msg>,
        held: &mut Held<A::State>,
        answer: Result<(), ExitReason>,
    ) -> Result<(), ActorProcessingErr> {
        if let Err(reason) = answer {
            // Boxed: it happens once in a life, and its room would be kept for all of it.
            Box::pin(self.finish(me.clone(), held, reason)).await;
            me.stop(None);
        }
        self.load().end();
        Ok(())
    }
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl<A: Actor> Actor for Adapter<A> {
    type Msg = A::Msg;
    type State = ();
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        let init = async {
            let state = self.actor.pre_start(me, arguments).await;
            if state.as_ref().is_err_and(|error| error.is::<Ignore>()) {
                self.whole.shared.ignored.store(true, Ordering::SeqCst);
            }
            state
        };
        match self.callback(init).await {
            Ok(state) => {
                self.held.lock().await.0 = Some(state);
                Ok(())
            }
            Err(reason) => {
                self.whole.shared.reason.get_or_init(|| reason.clone());
                Err(reason.into())
            }
        }
    }

    async fn post_start(
        &self,
        me: ActorRef<A::Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Some(mut held) = self.held.try_lock() else { return Ok(()) };
        let Some(state) = held.0.as_mut() else { return Ok(()) };
        let own = me.clone();
        self.load().begin("post_start");
        let answer = self.callback(async { self.actor.post_start(own, state).await }).await;
        self.settle(me, &mut held, answer).await
    }

    async fn handle(
        &self,
        me: ActorRef<A::Msg>,
        message: A::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.load().taken();
        let Some(mut held) = self.held.try_lock() else { return Ok(()) };
        let Some(state) = held.0.as_mut() else { return Ok(()) };
        let own = me.clone();
        self.load().begin(guard_blocking(|| (self.kind)(&message)).unwrap_or(MESSAGE));
        let answer = self.callback(async { self.actor.handle(own, message, state).await }).await;
        self.settle(me, &mut held, answer).await
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<A::Msg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Some(mut held) = self.held.try_lock() else { return Ok(()) };
        let Some(state) = held.0.as_mut() else { return Ok(()) };
        #[cfg(feature = "testing")]
        if crate::testing::is_injected_crash(&event) {
            let crash = self.callback(async { panic!("injected crash") }).await;
            return self.settle(me, &mut held, crash).await;
        }
        let own = me.clone();
        self.load().begin("supervisor_event");
        let call = async { self.actor.handle_supervisor_evt(own, event, state).await };
        let answer = self.callback(call).await;
        self.settle(me, &mut held, answer).await
    }

    async fn post_stop(&self, me: ActorRef<A::Msg>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let reason = self.whole.shared.asked.get().cloned().unwrap_or(ExitReason::Normal);
        let Some(mut held) = self.held.try_lock() else { return Ok(()) };
        Box::pin(self.finish(me, &mut held, reason)).await;
        Ok(())
    }
}
