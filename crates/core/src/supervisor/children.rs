//! The children of one supervisor as a machine: what happened goes in, steps to take come out.
//!
//! The machine decides and never does. Whoever drives it feeds one event, takes the steps that
//! [`Children::next_step`] gives until there is none, tells the outcome of each start, and only
//! then feeds the next event: a supervisor serves nobody in the midst of a restart (SUP-101).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use super::{Flags, Rules, SpecError};
use crate::{
    AutoShutdown, ChildId, ExitReason, Restart, RestartIntensity, Strategy, Uptime, Verdict,
    child::AfterExit,
};

/// Identity of one incarnation; unique in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub u64);

/// Place of a child in start order; never used twice in one life of a supervisor.
pub type Order = u64;

/// What a supervisor keeps of children that do not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Their specifications, told apart by their ids: a static supervisor.
    Specs,
    /// Nothing; ids may repeat: a dynamic supervisor, or a template's.
    Instances {
        /// As many may be there, those that wait for a restart included (DYN-021, 022).
        max: Option<usize>,
    },
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This incarnation runs.
    Running(Pid),
    /// A restart is due, or waits for its delay.
    Restarting {
        /// Tells this restart from earlier ones that were cancelled.
        generation: u64,
    },
    /// It does not run, and will not by itself.
    Stopped,
}

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// This incarnation runs.
    Up(Pid),
    /// Its init answered that it need not run.
    Ignored,
    /// It did not start.
    Failed,
}

/// What the driver of the machine has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Say that this child ended by itself: OTP's `child_terminated`.
    Report(Order, ExitReason),
    /// Stop this incarnation by its own shutdown option, and await its end.
    Stop(Order, Pid),
    /// This child will be started: let its callers wait.
    Expect(Order),
    /// Nothing will come here unless by hand: let no caller wait.
    Dismiss(Order),
    /// Forget the child and its specification.
    Forget(Order),
    /// Start the child and tell [`Children::started`].
    Start(Order),
    /// Feed [`Children::retry_due`] with this, behind everything that has arrived, and not before
    /// the delay is over.
    Retry {
        /// The child.
        order: Order,
        /// Of this restart.
        generation: u64,
        /// How long it waits.
        after: Option<Duration>,
    },
    /// Say that this child used up its own budget and is not restarted any more.
    BudgetSpent(Order),
    /// Say that this child's restart exceeded the intensity: `reached_max_restart_intensity`.
    GaveUp(Order),
    /// Stop all children and end with `shutdown`.
    End,
}

/// Why a request is refused (table 5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A child of this id runs.
    AlreadyStarted(Order),
    /// A child of this id is specified and does not run.
    AlreadyPresent,
    /// The child runs.
    Running,
    /// The child is being restarted.
    Restarting,
    /// There is no such child.
    NotFound,
    /// As many children as allowed are there.
    MaxChildren(usize),
    /// Its specification is refused.
    Invalid(SpecError),
}

#[derive(Clone, Debug)]
struct Entry {
    rules: Rules,
    status: Status,
    /// It does not run, and comes back with a group whose restart is due.
    awaited: bool,
    /// Restarts without a long life between them.
    in_a_row: u32,
    up_since: Uptime,
    budget: Option<RestartIntensity>,
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

    /// The incarnation `pid` ended, and nobody asked it to (table 5.1). News of any other than the
    /// present incarnation are old (SUP-078).
    pub fn exited(&mut self, order: Order, pid: Pid, reason: &ExitReason, now: Uptime) {
        let Some(entry) = self.entries.get_mut(&order) else { return };
        if entry.status != Status::Running(pid) {
            return;
        }
        let own = entry.rules.restart.after(reason);
        let significant = entry.rules.significant;
        entry.status = Status::Stopped;
        if let Some(delay) = entry.rules.delay
            && now.since(entry.up_since) >= delay.reset_after
        {
            entry.in_a_row = 0;
        }
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
                self.steps.clear();
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
                if let Some(order) = self.find(&rules.id) {
                    return Err(match self.status(order) {
                        Some(Status::Running(_)) => Refusal::AlreadyStarted(order),
                        Some(Status::Restarting { .. } | Status::Stopped) | None => {
                            Refusal::AlreadyPresent
                        }
                    });
                }
                rules.check(Some(self.flags.auto_shutdown)).map_err(Refusal::Invalid)?;
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
            entry.budget = entry.rules.budget.map(RestartIntensity::new);
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
                    entry.budget = rules.budget.map(RestartIntensity::new);
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
        let budget = rules.budget.map(RestartIntensity::new);
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

    /// The restart step of table 5.3.
    fn restart(&mut self, order: Order, now: Uptime) {
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
        } else if self.intensity.record(now) == Verdict::GiveUp {
            self.steps.push_back(Step::GaveUp(order));
            self.steps.push_back(Step::End);
            return;
        }
        let group = self.group(order);
        for member in group.iter().rev() {
            self.stop_for_restart(*member);
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

    fn stop_for_restart(&mut self, member: Order) {
        let Some(entry) = self.entries.get_mut(&member) else { return };
        if let Status::Running(pid) = entry.status {
            self.steps.push_back(Step::Stop(member, pid));
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
    fn wait_to_restart(&mut self, order: Order) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let Some(entry) = self.entries.get_mut(&order) else { return };
        entry.status = Status::Restarting { generation };
        let after = entry.rules.delay.map(|delay| delay.before(entry.in_a_row));
        self.steps.push_back(Step::Retry { order, generation, after });
    }

    /// Those that stopped for a restart that no longer comes do not keep their callers waiting.
    fn dismiss_awaited(&mut self) {
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
