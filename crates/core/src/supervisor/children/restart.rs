//! Automatic restarts: whom they touch, what they count, when they wait, who waits for them.

use std::ops::{Bound, RangeBounds};

use super::{Children, Entry, Keeps, Order, Status, Step, Turn};
use crate::{Restart, Strategy, Uptime, Verdict};

/// Children that are neighbours in start order.
type Group = (Bound<Order>, Bound<Order>);

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
        let mut gone = Vec::new();
        for (&member, entry) in self.entries.range_mut(group).rev() {
            if let Status::Running(pid) = entry.status {
                self.steps.push_back(Step::Stop(member, pid));
                entry.lived_until(now);
            }
            entry.status = Status::Stopped;
            if !std::mem::replace(&mut entry.awaited, true) {
                self.awaited += 1;
            }
            self.steps.push_back(Step::Expect(member));
            if entry.rules.restart == Restart::Temporary {
                gone.push(member);
            }
        }
        for member in gone {
            self.forget(member); // SUP-071, 072
        }
        self.turn = Turn::Restart;
        self.steps.extend(self.entries.range(group).map(|(member, _)| Step::Start(*member)));
    }

    /// Those that restart with the child, itself included.
    fn group(&self, order: Order) -> Group {
        match self.flags.strategy {
            Strategy::OneForOne => (Bound::Included(order), Bound::Included(order)),
            Strategy::OneForAll => (Bound::Unbounded, Bound::Unbounded),
            Strategy::RestForOne => (Bound::Included(order), Bound::Unbounded),
        }
    }

    /// Restarts the child later: behind what has arrived, and after its delay if it has one.
    pub(super) fn wait_to_restart(&mut self, order: Order) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let Some(entry) = self.entries.get_mut(&order) else { return };
        entry.status = Status::Restarting { generation };
        let after = entry.rules.delay.as_ref().map(|delay| delay.before(entry.in_a_row));
        self.steps.push_back(Step::Retry { order, generation, after });
    }

    /// Those that stopped for a restart that no longer comes do not keep their callers waiting.
    pub(super) fn dismiss_awaited(&mut self) {
        if self.awaited == 0 {
            return;
        }
        let due = |entry: &Entry| matches!(entry.status, Status::Restarting { .. });
        let due = self.entries.iter().filter(|(_, entry)| due(entry));
        let come: Vec<Group> = due.map(|(order, _)| self.group(*order)).collect();
        for (order, entry) in &mut self.entries {
            if entry.awaited
                && entry.status == Status::Stopped
                && !come.iter().any(|group| group.contains(order))
            {
                entry.awaited = false;
                self.awaited -= 1;
                self.steps.push_back(Step::Dismiss(*order));
            }
        }
    }
}
