//! Where the answer to a call of a light server arrives: one allocation, which three have for a while.
//!
//! The caller waits at it, whoever is to answer has its [`Port`], and the server [holds](Held) it as long as it
//! has the request. So the caller is told of all that can happen by the one wake-up that an answer needs as well:
//! only where the server lets go of a request that is still open does the caller ask for the end besides.

use std::{
    fmt,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::sync::{Mutex, MutexGuard};

/// Who has a slot while the server may still hear of its answer: the caller, the port, the server's hold.
const ALL: usize = 3;

struct Slot<R>(Mutex<State<R>>);

enum State<R> {
    Open {
        /// Whom to wake; none while it has been woken.
        caller: Option<Waker>,
        /// The server has let go of the request.
        is_left: bool,
    },
    Answered(R),
    /// The port was dropped.
    Closed,
    /// Nobody waits any more.
    Abandoned,
}

impl<R> Slot<R> {
    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From open to `state`, of which the caller is told; what is not taken is handed back.
    fn settle(&self, state: State<R>) -> Option<State<R>> {
        let caller = {
            let mut present = self.state();
            let State::Open { caller, .. } = &mut *present else { return Some(state) };
            let caller = caller.take();
            *present = state;
            caller
        };
        if let Some(caller) = caller {
            caller.wake();
        }
        None
    }
}

/// A slot for the answer to a call that `caller` makes.
pub(crate) fn slot<R: Send + 'static>(caller: Waker) -> (Port<R>, Held, Expected<R>) {
    let slot = Slot(Mutex::new(State::Open { caller: Some(caller), is_left: false }));
    let slot = Arc::new(slot);
    (Port(Some(slot.clone())), Held(Some(slot.clone())), Expected(Some(slot)))
}

/// The right to answer. Present until it is used.
pub struct Port<R>(Option<Arc<Slot<R>>>);

impl<R> Port<R> {
    pub(super) fn send(mut self, answer: R) {
        // What nobody waits for is dropped here, which is the user's code.
        drop(self.0.take().and_then(|slot| slot.settle(State::Answered(answer))));
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| matches!(*slot.state(), State::Open { .. }))
    }
}

impl<R> fmt::Debug for Port<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("awaited", &self.is_awaited()).finish()
    }
}

impl<R> Drop for Port<R> {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            drop(slot.settle(State::Closed));
        }
    }
}

/// What the server has of a slot, together with the request. Nothing for what is no call.
pub(crate) struct Held(Option<Arc<dyn Leave>>);

impl Held {
    pub(crate) fn nothing() -> Self {
        Self(None)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // With less than all it has been answered, or nobody waits.
        if let Some(slot) = self.0.take().filter(|slot| Arc::strong_count(slot) >= ALL) {
            slot.leave();
        }
    }
}

trait Leave: Send + Sync {
    fn leave(&self);
}

impl<R: Send> Leave for Slot<R> {
    fn leave(&self) {
        let caller = match &mut *self.state() {
            State::Open { caller, is_left } => {
                *is_left = true;
                caller.take()
            }
            State::Answered(_) | State::Closed | State::Abandoned => None,
        };
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

/// What the caller waits for. Present until the answer was taken.
pub(crate) struct Expected<R>(Option<Arc<Slot<R>>>);

impl<R> Expected<R> {
    /// The answer; none once the server has let go of the request without one.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<R>> {
        let Some(slot) = &self.0 else { return Poll::Ready(None) };
        let mut state = slot.state();
        match &mut *state {
            State::Open { caller, is_left: false } => {
                renew(caller, cx);
                Poll::Pending
            }
            State::Open { is_left: true, .. } | State::Closed | State::Abandoned => {
                Poll::Ready(None)
            }
            State::Answered(_) => {
                let answer = std::mem::replace(&mut *state, State::Abandoned);
                drop(state);
                Poll::Ready(self.took(answer))
            }
        }
    }

    /// The answer, whoever gives it; never, once the port was dropped.
    pub(crate) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<R> {
        if let Some(slot) = &self.0
            && let State::Open { caller, .. } = &mut *slot.state()
        {
            renew(caller, cx);
            return Poll::Pending;
        }
        match self.poll(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// The answer, if it is there.
    pub(crate) fn now(&mut self) -> Option<R> {
        let slot = self.0.as_ref()?;
        let state = std::mem::replace(&mut *slot.state(), State::Abandoned);
        self.took(state)
    }

    fn took(&mut self, state: State<R>) -> Option<R> {
        self.0 = None;
        match state {
            State::Answered(answer) => Some(answer),
            State::Open { .. } | State::Closed | State::Abandoned => None,
        }
    }
}

impl<R> Drop for Expected<R> {
    fn drop(&mut self) {
        drop(self.now());
    }
}

fn renew(caller: &mut Option<Waker>, cx: &Context<'_>) {
    match caller {
        Some(caller) => caller.clone_from(cx.waker()),
        None => *caller = Some(cx.waker().clone()),
    }
}
