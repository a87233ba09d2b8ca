//! Requests that wait for a thread: bounded, and independent of the life of any one thread.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{StoreError, request::Request};

/// A bounded queue. What waits in it outlives the thread that serves it.
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<Box<dyn Request>>>,
    /// Changed under the lock: nothing waits in a closed queue.
    closed: AtomicBool,
    arrived: Condvar,
    /// Length of `waiting`, for those who only look.
    length: AtomicUsize,
    max: usize,
}

/// What a thread was woken for.
pub(crate) enum Wake {
    /// There is something to do.
    Request(Box<dyn Request>),
    /// Nothing came within the time.
    Idle,
    /// It shall end, and nothing is waiting.
    Stop,
}

impl Queue {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            closed: AtomicBool::new(false),
            arrived: Condvar::new(),
            length: AtomicUsize::new(0),
            max,
        }
    }

    /// Puts `request` at the end, unless the queue is full or closed.
    pub(crate) fn push(&self, request: Box<dyn Request>) -> Result<(), StoreError> {
        let mut waiting = self.lock();
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        if waiting.len() >= self.max {
            return Err(StoreError::Busy);
        }
        waiting.push_back(request);
        self.length.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes no further request, and answers those that wait with [`StoreError::Closed`].
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        self.closed.store(true, Ordering::Release);
        let left = std::mem::take(&mut *waiting);
        self.length.store(0, Ordering::Relaxed);
        drop(waiting);
        for request in left {
            request.refuse(StoreError::Closed);
        }
    }

    /// The first request, if one is waiting.
    pub(crate) fn try_take(&self) -> Option<Box<dyn Request>> {
        let mut waiting = self.lock();
        let first = waiting.pop_front();
        self.length.store(waiting.len(), Ordering::Relaxed);
        first
    }

    /// Waits for a request, for the stop, or for `within`. What is waiting comes before the stop.
    pub(crate) fn wait(&self, stopped: &AtomicBool, within: Duration) -> Wake {
        let nothing = |waiting: &mut VecDeque<Box<dyn Request>>| {
            waiting.is_empty() && !stopped.load(Ordering::Acquire)
        };
        let waited = self.arrived.wait_timeout_while(self.lock(), within, nothing);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let first = waiting.pop_front();
        self.length.store(waiting.len(), Ordering::Relaxed);
        match first {
            Some(request) => Wake::Request(request),
            None if stopped.load(Ordering::Acquire) => Wake::Stop,
            None => Wake::Idle,
        }
    }

    /// Up to `max` requests that can be performed together, and for which somebody waits.
    #[cfg(feature = "postgres")]
    pub(crate) fn take_joint(&self, max: usize) -> Vec<Box<dyn Request>> {
        let mut taken = Vec::new();
        let mut waiting = self.lock();
        let mut place = 0;
        while taken.len() < max && place < waiting.len() {
            if waiting[place].is_joint() && !waiting[place].is_abandoned() {
                taken.extend(waiting.remove(place));
            } else {
                place += 1;
            }
        }
        self.length.store(waiting.len(), Ordering::Relaxed);
        taken
    }

    /// Answers what is waiting with `error`.
    pub(crate) fn refuse(&self, error: &StoreError) {
        let left = std::mem::take(&mut *self.lock());
        self.length.store(0, Ordering::Relaxed);
        for request in left {
            request.refuse(error.clone());
        }
    }

    /// Waits for the stop, at most for `within`, and leaves what is waiting. Whether it came.
    #[cfg(feature = "postgres")]
    pub(crate) fn rest(&self, stopped: &AtomicBool, within: Duration) -> bool {
        let going_on = |_: &mut VecDeque<Box<dyn Request>>| !stopped.load(Ordering::Acquire);
        drop(self.arrived.wait_timeout_while(self.lock(), within, going_on));
        stopped.load(Ordering::Acquire)
    }

    /// Whether it takes requests.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How many requests are waiting.
    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Nothing below runs foreign code under the lock, so a poisoned queue is a whole one.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<dyn Request>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.len()).field("max", &self.max).finish()
    }
}

/// Ends the loop it was taken from: what is waiting is still served, then `run` returns.
#[derive(Clone, Debug)]
pub struct Stopper {
    stopped: Arc<AtomicBool>,
    queue: Arc<Queue>,
}

impl Stopper {
    pub(crate) fn new(stopped: Arc<AtomicBool>, queue: Arc<Queue>) -> Self {
        Self { stopped, queue }
    }

    /// Asks the loop to end. It may be called from any thread, and more than once.
    pub fn stop(&self) {
        // Under the lock, so that a thread between its check and its wait cannot miss it.
        let waiting = self.queue.lock();
        self.stopped.store(true, Ordering::Release);
        drop(waiting);
        self.queue.arrived.notify_all();
    }
}
