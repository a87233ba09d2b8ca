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

use crate::{StoreError, backend::Turn, request::Request};

/// A bounded queue. What waits in it outlives the thread that serves it.
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<Box<dyn Request>>>,
    /// Changed under the lock: nothing waits in a closed queue.
    closed: AtomicBool,
    arrived: Condvar,
    /// Length of `waiting`, for those who only look.
    length: AtomicUsize,
    /// Threads that are at requests that can be performed together.
    #[cfg(feature = "postgres")]
    joining: AtomicUsize,
    max: usize,
}

/// So many joint requests wait for each thread that is at some before another one takes any: few large groups cost less
/// than many small ones.
#[cfg(feature = "postgres")]
const JOINT_EACH: usize = 4;

/// How long at most they wait for those threads.
#[cfg(feature = "postgres")]
const LEFT_FOR: Duration = Duration::from_millis(20);

/// So many more find room in a full queue when they come first.
const FIRST_MAX: usize = 64;

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
            #[cfg(feature = "postgres")]
            joining: AtomicUsize::new(0),
            max,
        }
    }

    /// Puts `request` at the end, or before all that are not first as well, unless the queue is full or closed.
    pub(crate) fn push(&self, request: Box<dyn Request>) -> Result<(), StoreError> {
        let first = request.turn() == Turn::First;
        let mut waiting = self.lock();
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let max = if first { self.max.saturating_add(FIRST_MAX) } else { self.max };
        if waiting.len() >= max {
            return Err(StoreError::Busy);
        }
        if first {
            let ahead = waiting.iter().take_while(|one| one.turn() == Turn::First).count();
            waiting.insert(ahead, request);
        } else {
            waiting.push_back(request);
        }
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
        self.woken(&mut waiting, 0, stopped)
    }

    /// As [`wait`](Self::wait), of a thread that leaves requests that can be performed together to those that are at
    /// some, while there are few for each of these, and for a moment. A thread that takes one is at some until
    /// it calls [`has_served`](Self::has_served).
    #[cfg(feature = "postgres")]
    pub(crate) fn wait_sparingly(&self, stopped: &AtomicBool, within: Duration) -> Wake {
        let mut waiting = self.lock();
        let mut left = false;
        loop {
            let joint = waiting.iter().filter(|one| one.is_joint()).count();
            let few = joint < JOINT_EACH * self.joining.load(Ordering::Acquire);
            let takes = left || !few || stopped.load(Ordering::Acquire);
            let place = waiting.iter().position(|one| takes || !one.is_joint());
            if place.is_some() || stopped.load(Ordering::Acquire) {
                let place = place.unwrap_or_default();
                if waiting.get(place).is_some_and(|one| one.is_joint()) {
                    self.joining.fetch_add(1, Ordering::AcqRel);
                }
                return self.woken(&mut waiting, place, stopped);
            }
            let pause = if waiting.is_empty() { within } else { LEFT_FOR };
            let woken = self.arrived.wait_timeout(waiting, pause);
            let passed;
            (waiting, passed) = woken.unwrap_or_else(PoisonError::into_inner);
            // Whoever is at some may be kept by a lock.
            left = passed.timed_out() && pause == LEFT_FOR;
            if passed.timed_out() && !left {
                return Wake::Idle;
            }
        }
    }

    /// A joint request of [`wait_sparingly`](Self::wait_sparingly), and what was taken with it, is served.
    #[cfg(feature = "postgres")]
    pub(crate) fn has_served(&self) {
        let waiting = self.lock();
        self.joining.fetch_sub(1, Ordering::AcqRel);
        drop(waiting);
        // What was left to this thread may be for another one now.
        self.arrived.notify_one();
    }

    fn woken(
        &self,
        waiting: &mut VecDeque<Box<dyn Request>>,
        place: usize,
        stopped: &AtomicBool,
    ) -> Wake {
        let first = waiting.remove(place);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Access, Turn::*},
        request,
    };

    type Answer = tokio::sync::oneshot::Receiver<Result<(), StoreError>>;

    /// A queue for this many, in which these wait, and those who wait for them.
    fn queue_for(max: usize, waiting: &[Turn]) -> (Queue, Vec<Answer>) {
        let queue = Queue::new(max);
        let answers = waiting.iter().map(|turn| push(&queue, *turn).unwrap()).collect();
        (queue, answers)
    }

    fn push(queue: &Queue, turn: Turn) -> Result<Answer, StoreError> {
        let (one, answer) = request::request(turn, Access::Write, |_| Ok(()));
        queue.push(one).map(|()| answer)
    }

    #[test]
    fn what_a_lease_depends_on_comes_first() {
        let (queue, mut answers) = queue_for(100, &[Usual, First, Usual, First]);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()));
        // The second of those that are not first is abandoned, so that the order within both kinds is seen.
        drop(answers.remove(2));
        drop(answers.remove(1));
        let taken: Vec<_> = std::iter::from_fn(|| queue.try_take())
            .map(|one| (one.turn(), one.is_abandoned()))
            .collect();
        assert_eq!(taken, [(First, true), (First, false), (Usual, false), (Usual, true)]);
    }

    #[test]
    fn what_comes_first_finds_room_in_a_full_queue_but_not_for_ever() {
        let (queue, _answers) = queue_for(2, &[Usual; 2]);
        assert!(matches!(push(&queue, Usual), Err(StoreError::Busy)));
        let more = std::iter::from_fn(|| push(&queue, First).ok()).take(FIRST_MAX + 1).count();
        assert_eq!(more, FIRST_MAX);
        assert_eq!(queue.len(), 2 + FIRST_MAX);
    }
}

#[cfg(feature = "postgres")]
#[cfg(test)]
mod joint_tests {
    use super::*;
    use crate::{
        backend::{Access, Turn::*},
        request,
    };

    type Answer = tokio::sync::oneshot::Receiver<Result<(), StoreError>>;

    /// A queue in which these wait, and those who wait for them.
    fn queue(waiting: &[bool]) -> (Queue, Vec<Answer>) {
        let queue = Queue::new(100);
        let wait = |joint: &bool| {
            let turn = if *joint { Joint } else { Usual };
            let (one, answer) = request::request(turn, Access::Write, |_| Ok(()));
            queue.push(one).unwrap();
            answer
        };
        let answers = waiting.iter().map(wait).collect();
        (queue, answers)
    }

    /// Whether what is taken is joint; None when nothing is.
    fn taken(queue: &Queue) -> Option<bool> {
        match queue.wait_sparingly(&AtomicBool::new(false), Duration::ZERO) {
            Wake::Request(one) => Some(one.is_joint()),
            Wake::Idle | Wake::Stop => None,
        }
    }

    #[test]
    fn few_joint_requests_are_left_to_a_thread_that_is_at_some() {
        let (queue, _answers) = queue(&[true, true, false]);
        assert_eq!(taken(&queue), Some(true), "nobody is at any");
        assert_eq!(taken(&queue), Some(false), "the other one is left");
        assert_eq!(queue.len(), 1);
        queue.has_served();
        assert_eq!(taken(&queue), Some(true), "nobody is at any again");
    }

    #[test]
    fn many_are_for_another_thread() {
        let (queue, _answers) = queue(&[true; 1 + JOINT_EACH]);
        assert_eq!(taken(&queue), Some(true));
        assert_eq!(taken(&queue), Some(true), "there are enough");
        assert_eq!(queue.take_joint(JOINT_EACH).len(), JOINT_EACH - 1);
        assert_eq!(taken(&queue), None);
    }

    /// In real time, of which a moment passes.
    #[test]
    fn nobody_is_left_for_longer_than_a_moment() {
        let (queue, _answers) = queue(&[true, true]);
        assert_eq!(taken(&queue), Some(true));
        assert_eq!(taken(&queue), Some(true), "whoever is at some may be kept by a lock");
        assert_eq!(taken(&queue), None);
    }

    #[test]
    fn what_waits_comes_before_the_stop() {
        let (queue, _answers) = queue(&[true, true]);
        let stopped = AtomicBool::new(true);
        for _ in 0..2 {
            let woken = queue.wait_sparingly(&stopped, Duration::MAX);
            assert!(matches!(woken, Wake::Request(_)));
        }
        assert!(matches!(queue.wait_sparingly(&stopped, Duration::MAX), Wake::Stop));
    }
}
