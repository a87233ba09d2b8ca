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
pub(super) struct Cell<W: Future> {
    held: Mutex<Held<W>>,
    /// One more than the index of the last that was killed while it was being polled. Indices only grow,
    /// so that a kill that comes late hits none of those that follow.
    doomed: AtomicU64,
}

struct Held<W> {
    /// One more than the index of the last that was polled.
    begun: u64,
    /// The box is used again and again.
    future: Pin<Box<Option<W>>>,
    /// Of the task that runs it, while that waits.
    waker: Option<Waker>,
}

/// Kills what may be running.
pub(super) trait Kill: Send + Sync {
    /// Kills the work on element `index`, if it is still there; answers whether nothing of it is left. What is
    /// being polled, or was never polled, is dropped by its task.
    fn kill(&self, index: u64) -> bool;
}

impl<W> Held<W> {
    fn clear(&mut self) {
        call_quietly("the drop of a task", || self.future.set(None));
    }
}

impl<W: Future> Cell<W> {
    pub(super) fn new() -> Self {
        let future = Box::pin(None);
        let held = Held { begun: 0, future, waker: None };
        Self { held: Mutex::new(held), doomed: AtomicU64::new(0) }
    }

    /// Begins with element `index` where there is an `input`, the one before is done then; or goes on with it.
    /// Nothing when it was killed.
    pub(super) fn poll<I>(
        &self,
        index: u64,
        input: Option<I>,
        make: &impl Fn(I) -> W,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<W::Output, ExitReason>>> {
        let mut held = self.held();
        held.begun = index + 1;
        if self.is_doomed(index) {
            call_quietly("the drop of an element", || drop(input));
            held.clear();
            return Poll::Ready(None);
        }
        let future = &mut held.future;
        // No panic passes the lock.
        let polled = guard_blocking(|| {
            if let Some(input) = input {
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

    fn held(&self) -> MutexGuard<'_, Held<W>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Future + Send> Kill for Cell<W> {
    fn kill(&self, index: u64) -> bool {
        self.doomed.fetch_max(index + 1, Ordering::SeqCst);
        let mut held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if held.begun == index + 1 {
            held.clear();
            let waker = held.waker.take();
            drop(held);
            if let Some(waker) = waker {
                waker.wake();
            }
            return true;
        }
        held.begun > index
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
        assert!(cell.poll(0, Some(held.clone()), &make, &mut context()).is_pending());
        assert!(cell.kill(0));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(cell.poll(0, None, &make, &mut context()), Poll::Ready(None));
        // What comes late is nothing to the next one.
        assert!(cell.poll(1, Some(held.clone()), &make, &mut context()).is_pending());
        assert!(cell.kill(0));
        assert_eq!(Arc::strong_count(&held), 2);
        assert!(cell.poll(1, None, &make, &mut context()).is_pending());
    }

    #[test]
    fn a_kill_of_what_was_never_polled_is_done_by_the_first_poll() {
        let cell = Cell::new();
        let held = Arc::new(());
        let make = |held: Arc<()>| async move { drop(held) };
        for index in 0..2 {
            assert!(!cell.kill(index), "its task has it");
            let polled = cell.poll(index, Some(held.clone()), &make, &mut context());
            assert_eq!((polled, Arc::strong_count(&held)), (Poll::Ready(None), 1));
        }
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
                other.poll(7, Some(began), &make, &mut context())
            });
            begins.recv().unwrap();
            assert!(!cell.kill(7), "it does not wait for it");
            go.send(()).unwrap();
            assert_eq!(polls.join().unwrap(), Poll::Ready(None));
        });
    }
}
