//! Restarts that wait for their delay.

use std::{collections::BTreeMap, time::Duration};

use perennial_core::Uptime;

use crate::Clock;

/// By the time they are due, and those due at one moment by age. Stale ones come as well: their
/// supervisor knows them by their generation.
#[derive(Default)]
pub(crate) struct Waiting(BTreeMap<(Uptime, u64), u64>);

impl Waiting {
    /// Generations must rise.
    pub(crate) fn add(&mut self, clock: Clock, delay: Duration, order: u64, generation: u64) {
        // A delay without end must not overflow.
        let due = Uptime::new(clock.now().elapsed().saturating_add(delay));
        self.0.insert((due, generation), order);
    }

    /// Order and generation of the next one that is due; never, when none waits.
    ///
    /// # Cancel safety
    ///
    /// Safe: one is taken only when it is returned.
    pub(crate) async fn next(&mut self, clock: Clock) -> (u64, u64) {
        let Some((&(due, generation), &order)) = self.0.first_key_value() else {
            return std::future::pending().await;
        };
        tokio::time::sleep(due.since(clock.now())).await;
        self.0.remove(&(due, generation));
        (order, generation)
    }
}
