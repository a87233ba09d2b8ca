//! Children that are ractor actors. ractor's strings, its silence about kills, its missing cleanup
//! after failures and its early announcements end here.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use perennial_core::{ChildId, ExitReason, tree::NodeKind};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{ChildSpec, Ignore, Outcome, StartCx};
use crate::{
    Address, CastError,
    address::{CURRENT, Incarnation, Mailbox, Post, Refused},
    life::{Control, Life, Pid},
    panics::guard,
    presence::{Announce, Publisher},
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
    pub fn actor<A>(
        id: impl Into<ChildId>,
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
                Ok(start(cx, actor, arguments, publisher).await?)
            })
        });
        spec.type_name = Some(std::any::type_name::<A>());
        spec.named_address = Some(Arc::new(address.clone()));
        spec.presence = Some(presence);
        (spec, address)
    }
}

async fn start<A: Actor>(
    cx: StartCx,
    actor: A,
    arguments: A::Arguments,
    publisher: Arc<Publisher<Incarnation<A::Msg>>>,
) -> Result<Outcome, ExitReason> {
    let pid = cx.process.pid();
    let (slot, mailbox) = (Arc::new(Slot::default()), Arc::new(Mailbox::default()));
    let adapter = Adapter { actor, pid, slot: slot.clone(), mailbox: mailbox.clone() };
    #[expect(clippy::disallowed_methods, reason = "the adapter is supervised by the caller")]
    let spawned = Actor::spawn(None, adapter, arguments).await;
    let (actor, join) = match spawned {
        Ok(spawned) => spawned,
        Err(_) if slot.ignored.load(Ordering::SeqCst) => return Ok(Outcome::Ignored),
        Err(error) => return Err(slot.reason().unwrap_or_else(|| ExitReason::error(&error))),
    };
    let control = Arc::new(ActorControl { cell: actor.get_cell(), slot: slot.clone() });
    let process = cx.process.clone();
    let life = Life { pid, control: control.clone(), ended: process.ended() };
    let post = Arc::new(ActorPost { actor, control, mailbox: mailbox.clone() });
    publisher.up(Incarnation::new(process, post));
    cx.drive(&life, Some(mailbox), async move {
        // The join handle is the only barrier behind which the state is dropped (trap 12). How it
        // ended is in the slot; an empty slot means that nothing of ours ran: killed (trap 1).
        drop(join.await);
        slot.reason().unwrap_or(ExitReason::Killed)
    });
    Ok(Outcome::Up(life))
}

/// Where the adapter leaves the typed reason of its end (trap 2).
#[derive(Debug, Default)]
struct Slot {
    /// Why a supervisor asked for the end.
    asked: OnceLock<ExitReason>,
    /// The init answered that it need not run.
    ignored: AtomicBool,
    reason: Mutex<Option<ExitReason>>,
}

impl Slot {
    /// The first reason counts.
    fn put(&self, reason: ExitReason) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    fn reason(&self) -> Option<ExitReason> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct ActorControl {
    cell: ActorCell,
    slot: Arc<Slot>,
}

impl Control for ActorControl {
    /// Handles what is queued, then ends (trap 8).
    fn stop(&self, reason: &ExitReason) {
        self.slot.asked.get_or_init(|| reason.clone());
        // One that cannot be drained is ending already.
        drop(self.cell.drain());
    }

    fn kill(&self) {
        self.cell.kill();
    }

    #[cfg(feature = "testing")]
    fn crash(&self) {
        crate::testing::crash_actor(&self.cell);
    }
}

struct ActorPost<M> {
    actor: ActorRef<M>,
    control: Arc<ActorControl>,
    mailbox: Arc<Mailbox>,
}

impl<M: ractor::Message> Post<M> for ActorPost<M> {
    fn post(&self, message: M) -> Result<(), CastError> {
        if !self.mailbox.admit() {
            return Err(CastError::Full);
        }
        self.actor.send_message(message).map_err(|_| CastError::NoProc)
    }

    fn terminate(&self, reason: &ExitReason) {
        self.control.stop(reason);
    }

    fn inspect(&self, _: Box<dyn std::any::Any + Send>) -> Result<(), Refused> {
        Err(Refused::Stranger)
    }
}

struct Adapter<A> {
    actor: A,
    pid: Pid,
    slot: Arc<Slot>,
    mailbox: Arc<Mailbox>,
}

/// The user's state; taken once it has been cleaned up.
struct Held<S>(Option<S>);

impl<A: Actor> Adapter<A> {
    /// One callback of the user's actor: a panic or an error is its typed reason.
    async fn callback<T>(
        &self,
        call: impl Future<Output = Result<T, ActorProcessingErr>>,
    ) -> Result<T, ExitReason> {
        match CURRENT.scope(self.pid, guard(call)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(match error.downcast::<ExitReason>() {
                Ok(reason) => *reason,
                Err(error) => ExitReason::error(&*error),
            }),
            Err(panic) => Err(panic),
        }
    }

    /// Runs the user's cleanup once, drops the state, and leaves the reason. A cleanup that fails
    /// itself becomes the reason (GS-042).
    async fn finish(&self, me: ActorRef<A::Msg>, held: &mut Held<A::State>, reason: ExitReason) {
        let Some(mut state) = held.0.take() else { return };
        let cleanup = self.callback(async { self.actor.post_stop(me, &mut state).await }).await;
        // Dropping the state is the user's code as well.
        let dropped = crate::panics::guard_blocking(move || drop(state));
        self.slot.put(match (cleanup, dropped) {
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
            self.finish(me.clone(), held, reason).await;
            me.stop(None);
        }
        Ok(())
    }
}

impl<A: Actor> Actor for Adapter<A> {
    type Msg = A::Msg;
    type State = Held<A::State>;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<Held<A::State>, ActorProcessingErr> {
        let init = async {
            let state = self.actor.pre_start(me, arguments).await;
            if state.as_ref().is_err_and(|error| error.is::<Ignore>()) {
                self.slot.ignored.store(true, Ordering::SeqCst);
            }
            state
        };
        match self.callback(init).await {
            Ok(state) => Ok(Held(Some(state))),
            Err(reason) => {
                self.slot.put(reason.clone());
                Err(reason.into())
            }
        }
    }

    async fn post_start(
        &self,
        me: ActorRef<A::Msg>,
        held: &mut Held<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = held.0.as_mut() else { return Ok(()) };
        let own = me.clone();
        let answer = self.callback(async { self.actor.post_start(own, state).await }).await;
        self.settle(me, held, answer).await
    }

    async fn handle(
        &self,
        me: ActorRef<A::Msg>,
        message: A::Msg,
        held: &mut Held<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        self.mailbox.taken();
        let Some(state) = held.0.as_mut() else { return Ok(()) };
        let own = me.clone();
        let answer = self.callback(async { self.actor.handle(own, message, state).await }).await;
        self.settle(me, held, answer).await
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<A::Msg>,
        event: SupervisionEvent,
        held: &mut Held<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = held.0.as_mut() else { return Ok(()) };
        #[cfg(feature = "testing")]
        if crate::testing::is_injected_crash(&event) {
            let crash = self.callback(async { panic!("injected crash") }).await;
            return self.settle(me, held, crash).await;
        }
        let own = me.clone();
        let call = async { self.actor.handle_supervisor_evt(own, event, state).await };
        let answer = self.callback(call).await;
        self.settle(me, held, answer).await
    }

    async fn post_stop(
        &self,
        me: ActorRef<A::Msg>,
        held: &mut Held<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let reason = self.slot.asked.get().cloned().unwrap_or(ExitReason::Normal);
        self.finish(me, held, reason).await;
        Ok(())
    }
}
