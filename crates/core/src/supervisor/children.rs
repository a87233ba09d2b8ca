//! The children of one supervisor as a machine: what happened goes in, steps to take come out.
//!
//! The machine decides and never does. Whoever drives it feeds one event, takes the steps that
//! [`Children::next_step`] gives until there is none, tells the outcome of each start, and only
//! then feeds the next event: a supervisor serves nobody in the midst of a restart (SUP-101).

mod restart;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use super::{Flags, Keeps, Order, Pid, Refusal, Rules, SpecError, Started, Status, Step};
use crate::{
    AutoShutdown, ChildId, ExitReason, Restart, RestartIntensity, Uptime, child::AfterExit,
};

#[derive(Clone, Debug)]
struct Entry {
    rules: Rules,
    status: Status,
    /// It does not run, and comes back with a group whose restart is due.
    awaited: bool,
    /// Restarts without a long life between them.
    in_a_row: u32,
    up_since: Uptime,
    /// Few have one of their own.
    budget: Option<Box<RestartIntensity>>,
}

impl Entry {
    /// A long life begins the count of restarts in a row anew, whatever ends it.
    fn lived_until(&mut self, end: Uptime) {
        if let Some(delay) = &self.rules.delay
            && end.since(self.up_since) >= delay.reset_after
        {
            self.in_a_row = 0;
        }
    }
}

fn budget(rules: &Rules) -> Option<Box<RestartIntensity>> {
    rules.budget.map(|limit| Box::new(RestartIntensity::new(limit)))
}

/// Why children are being started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The supervisor starts.
    Declared,
    /// Automatically.
    Restart,
    /// `start_child`.
    StartChild,
    /// `restart_child`.
    RestartChild,
}

/// The children of one life of a supervisor.
///
/// Invariants: `ids` holds exactly the ids of `entries` where ids tell children apart; steps of one
/// turn are taken before the next event is fed.
#[derive(Clone, Debug)]
pub struct Children {
    flags: Flags,
    keeps: Keeps,
    intensity: RestartIntensity,
    entries: BTreeMap<Order, Entry>,
    ids: HashMap<ChildId, Order>,
    next_order: Order,
    next_generation: u64,
    turn: Turn,
    steps: VecDeque<Step>,
    awaited: usize,
}

impl Children {
    /// No children yet.
    ///
    /// # Errors
    ///
    /// When `flags` are refused.
    pub fn new(flags: Flags, keeps: Keeps) -> Result<Self, SpecError> {
        flags.check()?;
        Ok(Self {
            flags,
            keeps,
            intensity: RestartIntensity::new(flags.intensity),
            entries: BTreeMap::new(),
            ids: HashMap::new(),
            next_order: 1,
            next_generation: 1,
            turn: Turn::Declared,
            steps: VecDeque::new(),
            awaited: 0,
        })
    }

    /// Plans the start of the declared children, in order; answers their orders. The first that
    /// fails ends the supervisor (SUP-001, 002, 008, 009).
    ///
    /// # Errors
    ///
    /// When one of them is refused: nothing is started then (SUP-031).
    pub fn declare(&mut self, children: Vec<Rules>) -> Result<Vec<Order>, SpecError> {
        Rules::check_all(&children, Some(self.flags.auto_shutdown))?;
        self.turn = Turn::Declared;
        let orders: Vec<Order> = children.into_iter().map(|rules| self.add(rules)).collect();
        self.steps.extend(orders.iter().copied().map(Step::Start));
        Ok(orders)
    }

    /// The next thing to do, until there is none.
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Restarts of late.
    pub fn intensity(&self) -> &RestartIntensity {
        &self.intensity
    }

    /// Its children in start order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Order, &Rules, Status)> {
        self.entries.iter().map(|(order, entry)| (*order, &entry.rules, entry.status))
    }

    /// What the child is doing; nothing when there is no such child.
    pub fn status(&self, order: Order) -> Option<Status> {
        self.entries.get(&order).map(|entry| entry.status)
    }

    /// The child of this id, where ids tell children apart.
    pub fn find(&self, id: &ChildId) -> Option<Order> {
        self.ids.get(id).copied()
    }

    /// The supervisor stops: what ran, with its incarnation, and what did not, in the order in
    /// which to stop it, the last one started first (SUP-136). Nothing is decided any more.
    pub fn end(&mut self) -> Vec<(Order, Option<Pid>)> {
        self.steps.clear();
        self.ids.clear();
        let running = |status| match status {
            Status::Running(pid) => Some(pid),
            Status::Restarting { .. } | Status::Stopped => None,
        };
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().rev().map(|(order, entry)| (order, running(entry.status))).collect()
    }

    /// The incarnation `pid` ended at `ended`, and nobody asked it to (table 5.1); its supervisor
    /// may have been busy since. News of any other than the present incarnation are old (SUP-078).
    pub fn exited(
        &mut self,
        order: Order,
        pid: Pid,
        reason: &ExitReason,
        ended: Uptime,
        now: Uptime,
    ) {
        let Some(entry) = self.entries.get_mut(&order) else { return };
        if entry.status != Status::Running(pid) {
            return;
        }
        let own = entry.rules.restart.after(reason);
        let significant = entry.rules.significant;
        entry.status = Status::Stopped;
        entry.lived_until(ended);
        let delayed = entry.rules.delay.is_some();
        if own.report {
            self.steps.push_back(Step::Report(order, reason.clone()));
        }
        match (own.then, self.keeps) {
            (AfterExit::Restart, _) if delayed => self.wait_to_restart(order),
            (AfterExit::Restart, _) => self.restart(order, now),
            (AfterExit::Keep, Keeps::Specs) => {
                self.steps.push_back(Step::Dismiss(order));
                self.auto_shutdown(significant);
            }
            (AfterExit::Keep, Keeps::Instances { .. }) | (AfterExit::Drop, _) => {
                self.forget(order);
                self.auto_shutdown(significant);
            }
        }
    }

    /// A restart is due. One that was cancelled meanwhile is none (SUP-115).
    pub fn retry_due(&mut self, order: Order, generation: u64, now: Uptime) {
        if self.status(order) == Some(Status::Restarting { generation }) {
            self.restart(order, now);
        }
    }

    /// The start that the last step asked for went like this.
    pub fn started(&mut self, order: Order, how: Started, now: Uptime) {
        let Some(entry) = self.entries.get_mut(&order) else { return };
        if std::mem::take(&mut entry.awaited) {
            self.awaited -= 1;
        }
        let temporary = entry.rules.restart == Restart::Temporary;
        match (how, self.turn, self.keeps) {
            (Started::Up(pid), _, _) => {
                entry.status = Status::Running(pid);
                entry.up_since = now;
            }
            // SUP-014, 117, 197.
            (Started::Ignored, Turn::RestartChild, Keeps::Specs) => (),
            (Started::Ignored, _, Keeps::Specs) if !temporary => (),
            // SUP-015, 016, 118, DYN-018, 028.
            (Started::Ignored, _, _) => self.forget(order),
            (Started::Failed, Turn::Declared, _) => {
                self.steps.clear();
                self.steps.push_back(Step::End);
            }
            (Started::Failed, Turn::Restart, _) => {
                // The attempt ends here; the rest of the group comes with the retry (SUP-096, 098).
                let rest = |step| {
                    if let Step::Start(later) = step { Some(Step::Leave(later)) } else { None }
                };
                self.steps = self.steps.drain(..).filter_map(rest).collect();
                self.wait_to_restart(order);
            }
            (Started::Failed, Turn::StartChild, _) => self.forget(order),
            (Started::Failed, Turn::RestartChild, _) => self.steps.push_back(Step::Dismiss(order)),
        }
    }

    /// Plans the start of a further child, behind the others (SUP-178–182).
    ///
    /// # Errors
    ///
    /// Table 5.5; nothing changes then.
    pub fn start_child(&mut self, rules: Rules) -> Result<Order, Refusal> {
        match self.keeps {
            Keeps::Specs => {
                // OTP looks at the specification before it looks for its id (SUP-182).
                rules.check(Some(self.flags.auto_shutdown)).map_err(Refusal::Invalid)?;
                if let Some(order) = self.find(&rules.id) {
                    return Err(match self.status(order) {
                        Some(Status::Running(_)) => Refusal::AlreadyStarted(order),
                        Some(Status::Restarting { .. } | Status::Stopped) | None => {
                            Refusal::AlreadyPresent
                        }
                    });
                }
            }
            Keeps::Instances { max } => {
                if rules.significant {
                    return Err(Refusal::Invalid(SpecError::SignificantHere(rules.id)));
                }
                rules.check(None).map_err(Refusal::Invalid)?;
                if let Some(max) = max
                    && self.entries.len() >= max
                {
                    return Err(Refusal::MaxChildren(max));
                }
            }
        }
        self.turn = Turn::StartChild;
        let order = self.add(rules);
        self.steps.push_back(Step::Start(order));
        Ok(order)
    }

    /// Plans the end of a child for good; a restart of it that is due is cancelled (SUP-111,
    /// 187–191).
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`].
    pub fn terminate_child(&mut self, order: Order) -> Result<(), Refusal> {
        let entry = self.entries.get_mut(&order).ok_or(Refusal::NotFound)?;
        if let Status::Running(pid) = entry.status {
            self.steps.push_back(Step::Stop(order, pid));
        }
        entry.status = Status::Stopped;
        entry.in_a_row = 0; // As by `restart_child`: what follows is not in a row.
        if std::mem::take(&mut entry.awaited) {
            self.awaited -= 1;
        }
        let kept = self.keeps == Keeps::Specs && entry.rules.restart != Restart::Temporary;
        if kept {
            self.steps.push_back(Step::Dismiss(order));
        } else {
            self.forget(order);
        }
        self.dismiss_awaited();
        Ok(())
    }

    /// Plans the start of a child that does not run (SUP-194–197).
    ///
    /// # Errors
    ///
    /// Table 5.5.
    pub fn restart_child(&mut self, order: Order) -> Result<(), Refusal> {
        self.stopped(order)?;
        self.turn = Turn::RestartChild;
        if let Some(entry) = self.entries.get_mut(&order) {
            entry.budget = budget(&entry.rules);
            entry.in_a_row = 0;
        }
        self.steps.push_back(Step::Expect(order));
        self.steps.push_back(Step::Start(order));
        Ok(())
    }

    /// Removes the specification of a child that does not run (SUP-198, 199). A restart that waits
    /// for its delay is cancelled with it (SUP-120).
    ///
    /// # Errors
    ///
    /// Table 5.5.
    pub fn delete_child(&mut self, order: Order) -> Result<(), Refusal> {
        match self.stopped(order) {
            Err(Refusal::Restarting) if self.delays(order) => (),
            other => other?,
        }
        self.forget(order);
        self.dismiss_awaited();
        Ok(())
    }

    /// Puts new flags and specifications in force, as a whole or not at all (SUP-222, 223,
    /// 234–236). Known ids get their new rules for their next exit and start, new ones are added
    /// without being started, and those that are not named stay. A lower limit of children leaves
    /// those that run alone (DYN-010). Answers the order of each of `children`.
    ///
    /// # Errors
    ///
    /// When the flags, or one of `children`, are refused.
    pub fn reconfigure(
        &mut self,
        flags: Flags,
        keeps: Keeps,
        children: Vec<Rules>,
    ) -> Result<Vec<Order>, SpecError> {
        flags.check()?;
        Rules::check_all(&children, Some(flags.auto_shutdown))?;
        self.flags = flags;
        self.keeps = keeps;
        self.intensity.set_limit(flags.intensity);
        let place = |rules: Rules| match self.ids.get(&rules.id).copied() {
            Some(order) => {
                if let Some(entry) = self.entries.get_mut(&order) {
                    entry.budget = budget(&rules);
                    entry.rules = rules;
                }
                order
            }
            None => self.add(rules),
        };
        Ok(children.into_iter().map(place).collect())
    }

    fn stopped(&self, order: Order) -> Result<(), Refusal> {
        match self.status(order).ok_or(Refusal::NotFound)? {
            Status::Running(_) => Err(Refusal::Running),
            Status::Restarting { .. } => Err(Refusal::Restarting),
            Status::Stopped => Ok(()),
        }
    }

    /// Whether a restart of it waits for a delay.
    fn delays(&self, order: Order) -> bool {
        self.entries.get(&order).is_some_and(|entry| entry.rules.delay.is_some())
    }

    fn add(&mut self, rules: Rules) -> Order {
        let order = self.next_order;
        self.next_order += 1;
        if self.keeps == Keeps::Specs {
            self.ids.insert(rules.id.clone(), order);
        }
        let budget = budget(&rules);
        let (status, up_since) = (Status::Stopped, Uptime::new(Duration::ZERO));
        let entry = Entry { rules, status, awaited: false, in_a_row: 0, up_since, budget };
        self.entries.insert(order, entry);
        order
    }

    fn forget(&mut self, order: Order) {
        if let Some(entry) = self.entries.remove(&order) {
            if self.keeps == Keeps::Specs {
                self.ids.remove(&entry.rules.id);
            }
            self.awaited -= usize::from(entry.awaited);
            self.steps.push_back(Step::Forget(order));
        }
    }

    /// A child ended by itself and is not restarted (SUP-209–218).
    fn auto_shutdown(&mut self, significant: bool) {
        let ends = significant
            && match self.flags.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !self
                    .entries
                    .values()
                    .any(|entry| entry.rules.significant && entry.status != Status::Stopped),
            };
        if ends {
            self.steps.push_back(Step::End);
        }
    }
}

#[cfg(test)]
mod tests;
