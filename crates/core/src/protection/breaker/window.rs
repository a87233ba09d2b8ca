//! What happened lately, in slots of time: constant memory, whatever the number of calls.

use std::{collections::VecDeque, time::Duration};

use crate::Uptime;

/// A window has so many slots.
const SLOTS: u64 = 60;

/// Calls and failures of the last slots; empty slots are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Their numbers rise; at most [`SLOTS`].
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Its place in time, in slots since the start.
    number: u64,
    failures: u32,
    calls: u32,
}

fn slot_nanos(window: Duration) -> u64 {
    (nanos(window) / SLOTS).max(1)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn is_in(slot: &Slot, current: u64) -> bool {
    slot.number.saturating_add(SLOTS) > current
}

impl Window {
    /// Counts one call of `now`. Time that runs back is taken as the latest seen.
    pub(super) fn record(&mut self, window: Duration, now: Uptime, failed: bool) {
        let latest = self.slots.back().map_or(0, |slot| slot.number);
        let current = (nanos(now.elapsed()) / slot_nanos(window)).max(latest);
        while self.slots.front().is_some_and(|slot| !is_in(slot, current)) {
            self.slots.pop_front();
        }
        if self.slots.back().is_none_or(|slot| slot.number < current) {
            self.slots.push_back(Slot { number: current, failures: 0, calls: 0 });
        }
        let Some(slot) = self.slots.back_mut() else { return };
        slot.calls = slot.calls.saturating_add(1);
        slot.failures = slot.failures.saturating_add(u32::from(failed));
    }

    /// Failures and calls in the window that ends `now`.
    pub(super) fn count(&self, window: Duration, now: Uptime) -> (u32, u32) {
        let current = nanos(now.elapsed()) / slot_nanos(window);
        let lately = self.slots.iter().filter(|slot| is_in(slot, current));
        lately.fold((0, 0), |(failures, calls): (u32, u32), slot| {
            (failures.saturating_add(slot.failures), calls.saturating_add(slot.calls))
        })
    }

    /// Says what was counted in slots of one length in slots of another.
    pub(super) fn rescale(&mut self, old: Duration, new: Duration) {
        let (old, new) = (slot_nanos(old), slot_nanos(new));
        if old == new {
            return;
        }
        let mut slots: VecDeque<Slot> = VecDeque::new();
        for slot in self.slots.drain(..) {
            let number = slot.number.saturating_mul(old) / new;
            match slots.back_mut().filter(|last| last.number == number) {
                Some(last) => {
                    last.calls = last.calls.saturating_add(slot.calls);
                    last.failures = last.failures.saturating_add(slot.failures);
                }
                None => slots.push_back(Slot { number, ..slot }),
            }
        }
        self.slots = slots;
    }
}
