//! Automatic restarts: whom they touch, what they count, when they wait, who waits for them.

use super::{Children, Keeps, Order, Status, Step, Turn};
use crate::{Restart, Strategy, Uptime, Verdict};

impl Children {
    /// The restart step of table 5.3.
    pub(super) fn restart(&mut self, order: Order, now: Uptime) {
        let Some(entry) = self.entries.get_mut(&order) else { return };
        entry.status = Status::Stopped;
        entry.in_a_row = entry.in_a_row.saturating_add(1);
        if let Some(budget) = &mut entry.budget {
            if budget.record(now) == Verdict::GiveUp {
                self.steps.push_back(Step::BudgetSpent(order));
                match self.keeps {
                    Keeps::Specs => self.steps.push_back(Step::Dismiss(order)),
                    Keeps::Instances { .. } => self.forget(order),
                }
                self.dismiss_awaited();
                return;
            }
        } else {
            let verdict = self.intensity.record(now);
            self.steps.push_back(Step::Counted(now));
            if verdict == Verdict::GiveUp {
                self.steps.push_back(Step::GaveUp(order));
                self.steps.push_back(Step::End);
                return;
            }
        }
        let group = self.group(order);
        for member in group.iter().rev() {
            self.stop_for_restart(*member, now);
        }
        let temporary = |member: &Order| {
            self.entries.get(member).is_some_and(|entry| entry.rules.restart == Restart::Temporary)
        };
        let (gone, come): (Vec<Order>, Vec<Order>) =
            group.iter().partition(|order| temporary(order));
        for member in gone.into_iter().rev() {
            self.forget(member); // SUP-071, 072
        }
        self.turn = Turn::Restart;
        self.steps.extend(come.into_iter().map(Step::Start));
    }

    fn stop_for_restart(&mut self, member: Order, now: Uptime) {
        let Some(entry) = self.entries.get_mut(&member) else { return };
        if let Status::Running(pid) = entry.status {
            self.steps.push_back(Step::Stop(member, pid));
            entry.lived_until(now);
        }
        entry.status = Status::Stopped;
        if !std::mem::replace(&mut entry.awaited, true) {
            self.awaited += 1;
        }
        self.steps.push_back(Step::Expect(member));
    }

    /// Those that restart with the child, in start order, itself included.
    fn group(&self, order: Order) -> Vec<Order> {
        match self.flags.strategy {
            Strategy::OneForOne => vec![order],
            Strategy::OneForAll => self.entries.keys().copied().collect(),
            Strategy::RestForOne => self.entries.range(order..).map(|(order, _)| *order).collect(),
        }
    }

    /// Restarts the child later: behind what has arrived, and after its delay if it has one.
    pub(super) fn wait_to_restart(&mut self, order: Order) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let Some(entry) = self.entries.get_mut(&order) else { return };
        entry.status = Status::Restarting { generation };
        let after = entry.rules.delay.map(|delay| delay.before(entry.in_a_row));
        self.steps.push_back(Step::Retry { order, generation, after });
    }

    /// Those that stopped for a restart that no longer comes do not keep their callers waiting.
    pub(super) fn dismiss_awaited(&mut self) {
        if self.awaited == 0 {
            return;
        }
        let mut comes = Vec::new();
        for (order, entry) in &self.entries {
            if matches!(entry.status, Status::Restarting { .. }) {
                comes.extend(self.group(*order));
            }
        }
        for (order, entry) in &mut self.entries {
            if entry.awaited && entry.status == Status::Stopped && !comes.contains(order) {
                entry.awaited = false;
                self.awaited -= 1;
                self.steps.push_back(Step::Dismiss(*order));
            }
        }
    }
}
