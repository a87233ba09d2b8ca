//! Where the work on one element is kept: whoever kills it need not wait for the task that runs it.

use std::{
    pin::Pin,
    sync::{PoisonError, TryLockError},
    task::{Context, Poll, Waker},
};

use perennial_core::ExitReason;

use crate::{
    panics::{call_quietly, guard_blocking},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// The future of one element at a time. A kill drops it at once, or, while it is being polled, at the
/// end of that poll.
pub(super) struct Cell<I, W: Future> {
    held: Mutex<Held<I, W>>,
    /// One more than the index of the last that was killed while it was being polled. Indices only grow,
    /// so that a kill that comes late hits none of those that follow.
    doomed: AtomicU64,
}

struct Held<I, W> {
    index: u64,
    /// Until the first poll.
    input: Option<I>,
    /// The box is used again and again.
    future: Pin<Box<Option<W>>>,
    /// Of the task that runs it, while that waits.
    waker: Option<Waker>,
}

/// Kills what may be running.
pub(super) trait Kill: Send + Sync {
    /// Kills the work on element `index`, if it is still there; answers whether nothing of it is left.
    fn kill(&self, index: u64) -> bool;
}

impl<I, W> Held<I, W> {
    fn clear(&mut self) {
        let input = self.input.take();
        call_quietly("the drop of a task", || drop(input));
        call_quietly("the drop of a task", || self.future.set(None));
    }
}

impl<I, W: Future> Cell<I, W> {
    pub(super) fn new() -> Self {
        let future = Box::pin(None);
        let held = Held { index: 0, input: None, future, waker: None };
        Self { held: Mutex::new(held), doomed: AtomicU64::new(0) }
    }

    /// Gives it the next element; the one before is done.
    pub(super) fn put(&self, index: u64, input: I) {
        let mut held = self.held();
        held.index = index;
        held.input = Some(input);
    }

    /// Goes on with element `index`; nothing when that was killed.
    pub(super) fn poll(
        &self,
        index: u64,
        make: &impl Fn(I) -> W,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<W::Output, ExitReason>>> {
        let mut held = self.held();
        if self.is_doomed(index) {
            held.clear();
            return Poll::Ready(None);
        }
        let Held { input, future, .. } = &mut *held;
        // No panic passes the lock.
        let polled = guard_blocking(|| {
            if let Some(input) = input.take() {
                future.set(Some(make(input)));
            }
            future.as_mut().as_pin_mut().map(|future| future.poll(cx))
        });
        let output = match polled {
            Ok(Some(Poll::Ready(value))) => Ok(value),
            Err(panic) => Err(panic),
            Ok(None) => return Poll::Ready(None),
            Ok(Some(Poll::Pending)) => {
                let known = held.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
                if !known {
                    held.waker = Some(cx.waker().clone());
                }
                drop(held);
                // Whoever could not take it meanwhile has left word.
                if self.is_doomed(index) {
                    self.held().clear();
                    return Poll::Ready(None);
                }
                return Poll::Pending;
            }
        };
        // What the future holds is the user's code as well.
        let dropped = guard_blocking(|| held.future.set(None));
        Poll::Ready(Some(output.and_then(|value| dropped.map(|()| value))))
    }

    /// Drops what is there.
    pub(super) fn clear(&self) {
        self.held().clear();
    }

    fn is_doomed(&self, index: u64) -> bool {
        self.doomed.load(Ordering::SeqCst) == index + 1
    }

    fn held(&self) -> MutexGuard<'_, Held<I, W>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Send, W: Future + Send> Kill for Cell<I, W> {
    fn kill(&self, index: u64) -> bool {
        self.doomed.fetch_max(index + 1, Ordering::SeqCst);
        let mut held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if held.index == index {
            held.clear();
            let waker = held.waker.take();
            drop(held);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{Arc, mpsc},
    };

    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn a_kill_drops_what_waits_at_once() {
        let cell = Cell::new();
        let held = Arc::new(());
        let make = |held: Arc<()>| async move {
            let _held = held;
            pending::<()>().await;
        };
        cell.put(0, held.clone());
        assert!(cell.poll(0, &make, &mut context()).is_pending());
        assert!(cell.kill(0));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(cell.poll(0, &make, &mut context()), Poll::Ready(None));
        // What comes late is nothing to the next one.
        cell.put(1, held.clone());
        assert!(cell.kill(0));
        assert!(cell.poll(1, &make, &mut context()).is_pending());
        assert_eq!(Arc::strong_count(&held), 2);
    }

    #[test]
    fn a_kill_of_what_is_being_polled_is_done_by_the_poll() {
        let cell = Arc::new(Cell::new());
        let (began, begins) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let other = cell.clone();
            let polls = scope.spawn(move || {
                let make = move |began: mpsc::Sender<()>| {
                    began.send(()).unwrap();
                    gate.recv().unwrap();
                    pending::<()>()
                };
                other.put(7, began);
                other.poll(7, &make, &mut context())
            });
            begins.recv().unwrap();
            assert!(!cell.kill(7), "it does not wait for it");
            go.send(()).unwrap();
            assert_eq!(polls.join().unwrap(), Poll::Ready(None));
        });
    }
}
