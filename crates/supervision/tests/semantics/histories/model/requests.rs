//! Table 5.5, and what dynamic supervisors make of it.

use perennial_core::{AutoShutdown, Restart};

use super::{Model, Slot, State, Went};
use crate::histories::history::{Child, Kind, Request};

impl Model {
    /// All or nothing (SUP-001, 008, 009, 031).
    pub(super) fn declared(&mut self, children: &[Child]) {
        let mut ids: Vec<&str> = Vec::new();
        for child in children {
            let repeated = ids.contains(&child.id.as_str());
            let repeated = || repeated.then(|| format!("invalid: duplicate {}", child.id));
            if let Some(fault) = self.significance(child).or_else(repeated) {
                self.answer = Some(fault.clone());
                self.over = Some(fault);
                return;
            }
            ids.push(&child.id);
        }
        let keys: Vec<u64> = children.iter().map(|child| self.add(child)).collect();
        for key in keys {
            let temporary =
                self.slots[self.place(key).unwrap()].child.restart == Restart::Temporary;
            match self.bring_up(key) {
                Went::Ignored if temporary => self.forget(key),
                Went::Up | Went::Ignored => (),
                Went::Failed(why) => {
                    let place = self.place(key).unwrap();
                    let fault = format!("failed: {} {why}", self.slots[place].child.id);
                    self.stop_all();
                    self.answer = Some(fault.clone());
                    self.over = Some(fault);
                    return;
                }
            }
        }
        self.answer = Some("started".to_owned());
    }

    pub(super) fn significance(&self, child: &Child) -> Option<String> {
        let id = &child.id;
        if !child.significant {
            return None;
        }
        match self.kind {
            Kind::Static(_, AutoShutdown::Never) => Some(format!("invalid: {id} in never")),
            Kind::Static(..) if child.restart == Restart::Permanent => {
                Some(format!("invalid: {id} permanent"))
            }
            Kind::Static(..) => None,
            Kind::Dynamic { .. } | Kind::Template => Some(format!("invalid: {id} significant")),
        }
    }

    fn add(&mut self, child: &Child) -> u64 {
        self.serial += 1;
        self.slots.push(Slot {
            key: self.serial,
            child: child.clone(),
            state: State::Stopped,
            incarnation: 0,
            born: 0,
            died: None,
            in_a_row: 0,
            spent: Vec::new(),
        });
        self.serial
    }

    pub(super) fn serve(&mut self, request: Request) -> String {
        match (request, self.kind) {
            (Request::Start(child), Kind::Static(..)) => self.start_static(&child),
            (Request::Start(child), Kind::Dynamic { .. } | Kind::Template) => {
                self.start_on_demand(child)
            }
            (Request::Terminate(label), _) => self.terminate(&label),
            (Request::Restart(label), _) => match self.labelled(&label) {
                None => "not found".to_owned(),
                Some(place) => match self.slots[place].state {
                    State::Up => "running".to_owned(),
                    State::Restarting(_) => "restarting".to_owned(),
                    State::Stopped => {
                        let slot = &mut self.slots[place];
                        (slot.in_a_row, slot.spent) = (0, Vec::new());
                        let key = slot.key;
                        match self.bring_up(key) {
                            Went::Up => "up".to_owned(),
                            Went::Ignored => "ignored".to_owned(),
                            Went::Failed(why) => format!("failed: {label} {why}"),
                        }
                    }
                },
            },
            (Request::Delete(label), _) => match self.labelled(&label) {
                None => "not found".to_owned(),
                Some(place) => match self.slots[place].state {
                    State::Up => "running".to_owned(),
                    // Where restarts wait, the wait is cancelled (SUP-120).
                    State::Restarting(_) if self.slots[place].child.delay.is_some() => {
                        self.slots.remove(place);
                        "ok".to_owned()
                    }
                    State::Restarting(_) => "restarting".to_owned(),
                    State::Stopped => {
                        self.slots.remove(place);
                        "ok".to_owned()
                    }
                },
            },
            (Request::Stop | Request::Kill, _) => unreachable!("overtakes the mailbox"),
        }
    }

    fn start_static(&mut self, child: &Child) -> String {
        // OTP looks at the specification first (SUP-182).
        if let Some(fault) = self.significance(child) {
            return fault;
        }
        if let Some(place) = self.labelled(&child.label) {
            return match self.slots[place].state {
                State::Up => format!("already started: {}", child.id),
                State::Restarting(_) | State::Stopped => "already present".to_owned(),
            };
        }
        let key = self.add(child);
        match self.bring_up(key) {
            Went::Up => "up".to_owned(),
            Went::Ignored => {
                if child.restart == Restart::Temporary {
                    self.forget(key);
                }
                "ignored".to_owned()
            }
            Went::Failed(why) => {
                self.forget(key);
                format!("failed: {} {why}", child.id)
            }
        }
    }

    fn start_on_demand(&mut self, mut child: Child) -> String {
        if let Some(fault) = self.significance(&child) {
            return fault;
        }
        if let Kind::Dynamic { max, budget } = self.kind {
            if let Some(max) = max.filter(|max| self.slots.len() >= *max) {
                return format!("at most {max}");
            }
            child.budget = child.budget.or(budget);
        }
        let key = self.add(&child);
        match self.bring_up(key) {
            Went::Up => {
                self.known.push(child.label);
                "up".to_owned()
            }
            Went::Ignored => {
                self.forget(key);
                // SUP-017, DYN-018.
                let answer = if self.kind == Kind::Template { "ignored" } else { "ignore" };
                answer.to_owned()
            }
            Went::Failed(why) => {
                self.forget(key);
                format!("failed: {} {why}", child.id)
            }
        }
    }

    fn terminate(&mut self, label: &str) -> String {
        let Some(place) = self.labelled(label) else {
            // A template supervisor does not mind that it is dead (SUP-165, DYN-038).
            let answer = if self.kind == Kind::Template { "ok" } else { "not found" };
            return answer.to_owned();
        };
        self.stop_child(place);
        // What a hand did ends the row of restarts.
        self.slots[place].in_a_row = 0;
        let static_ = matches!(self.kind, Kind::Static(..));
        if !static_ || self.slots[place].child.restart == Restart::Temporary {
            self.slots.remove(place);
        }
        "ok".to_owned()
    }
}
