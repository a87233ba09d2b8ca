//! Who waits for whom: noted by whoever waits, while it does, and read by anybody without asking.

use std::{sync::PoisonError, time::Duration};

use crate::{
    Clock, ProcessRef, current_process,
    sync::{
        Mutex, MutexGuard,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

/// Nobody.
const NONE: usize = 0;
/// About to be noted; no identity.
const TAKEN: usize = 1;

/// The waits of one process. Mostly there is one at a time, which is noted without a lock.
#[derive(Debug)]
pub(crate) struct Waits {
    clock: Clock,
    /// The identity of the process that it waits for.
    first: AtomicUsize,
    since: AtomicU64,
    /// Those that it waits for beside that one.
    further: Mutex<Vec<(usize, u64)>>,
}

impl Waits {
    pub(crate) fn new(clock: Clock) -> Self {
        let (first, since) = (AtomicUsize::new(NONE), AtomicU64::new(0));
        Self { clock, first, since, further: Mutex::default() }
    }

    /// Answers when, if that is noted beside the first.
    fn begin(&self, target: usize) -> Option<u64> {
        let now = self.clock.coarse();
        if self.first.compare_exchange(NONE, TAKEN, Acquire, Relaxed).is_ok() {
            // Whoever sees the target sees this as well.
            self.since.store(now, Relaxed);
            self.first.store(target, Release);
            return None;
        }
        self.further().push((target, now));
        Some(now)
    }

    fn end(&self, target: usize, beside: Option<u64>) {
        let Some(since) = beside else { return self.first.store(NONE, Release) };
        let mut further = self.further();
        if let Some(place) = further.iter().position(|wait| *wait == (target, since)) {
            further.swap_remove(place);
        }
    }

    /// The identities of those that it waits for, and for how long.
    pub(crate) fn look(&self) -> Vec<(usize, Duration)> {
        let now = self.clock.coarse();
        let (first, since) = (self.first.load(Acquire), self.since.load(Relaxed));
        let first = (first != NONE && first != TAKEN).then_some((first, since));
        let further = self.further().clone();
        let waits = first.into_iter().chain(further);
        waits.map(|(who, since)| (who, Duration::from_nanos(now.saturating_sub(since)))).collect()
    }

    fn further(&self) -> MutexGuard<'_, Vec<(usize, u64)>> {
        self.further.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait of the process whose code runs here, as long as this is kept; nothing outside of the trees.
pub(crate) struct Waiting<'a> {
    caller: Option<ProcessRef>,
    /// Kept, so that no other gets its identity meanwhile.
    target: &'a ProcessRef,
    beside: Option<u64>,
}

impl<'a> Waiting<'a> {
    /// To be called where it is about to wait, so that it is noted with the task that does.
    pub(crate) fn begin(target: &'a ProcessRef) -> Self {
        let caller = current_process();
        let beside = caller.as_ref().and_then(|caller| caller.waits().begin(target.identity()));
        Self { caller, target, beside }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(caller) = &self.caller {
            caller.waits().end(self.target.identity(), self.beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn several_waits_are_noted_and_each_ends_by_itself() {
        let waits = Waits::new(Clock::start());
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let seen = |waits: &Waits| {
            waits.look().into_iter().map(|(who, time)| (who, time.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(seen(&waits), []);
        let first = waits.begin(16);
        pass(1).await;
        let second = waits.begin(32);
        pass(1).await;
        let third = waits.begin(32);
        assert_eq!(seen(&waits), [(16, 2), (32, 1), (32, 0)]);
        waits.end(32, second);
        waits.end(16, first);
        assert_eq!(seen(&waits), [(32, 0)]);
        let again = waits.begin(48);
        pass(3).await;
        assert_eq!(seen(&waits), [(48, 3), (32, 3)]);
        waits.end(32, third);
        waits.end(48, again);
        assert_eq!(seen(&waits), []);
    }
}
