//! Which pooled tasks have nothing to do.

use std::{ops::Range, task::Waker};

/// The tasks of a pool, by their numbers.
#[derive(Default)]
pub(super) struct Pool {
    /// There while it has nothing to do.
    wakers: Vec<Option<Waker>>,
    /// Those that have nothing to do, the last to rest last.
    idle: Vec<usize>,
}

/// Whom to wake, and which ones to start.
pub(super) struct Called {
    pub(super) idle: Vec<Waker>,
    pub(super) new: Range<usize>,
}

impl Pool {
    /// Calls so many tasks, those that rest first; there are no more than `max` then.
    pub(super) fn call(&mut self, wanted: usize, max: usize) -> Called {
        let mut idle = Vec::new();
        while idle.len() < wanted {
            let Some(number) = self.idle.pop() else { break };
            idle.extend(self.wakers[number].take());
        }
        let first = self.wakers.len();
        let missing = (wanted - idle.len()).min(max.saturating_sub(first));
        self.wakers.resize(first + missing, None);
        Called { idle, new: first..first + missing }
    }

    /// Task `number` has nothing to do.
    pub(super) fn rest(&mut self, number: usize, waker: &Waker) {
        if self.wakers[number].replace(waker.clone()).is_none() {
            self.idle.push(number);
        }
    }

    /// Calls all that rest, to leave.
    pub(super) fn dismiss(&mut self) -> Vec<Waker> {
        self.idle.clear();
        self.wakers.iter_mut().filter_map(Option::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_rest_are_called_before_new_ones_and_none_twice() {
        let mut pool = Pool::default();
        assert_eq!(pool.call(2, 3).new, 0..2);
        pool.rest(1, Waker::noop());
        pool.rest(1, Waker::noop());
        let Called { idle, new } = pool.call(3, 3);
        assert_eq!((idle.len(), new), (1, 2..3), "one of them works, and there is no fourth");
        pool.rest(0, Waker::noop());
        pool.rest(2, Waker::noop());
        assert_eq!(pool.dismiss().len(), 2);
        assert_eq!(pool.call(1, 3).idle.len(), 0);
    }
}
