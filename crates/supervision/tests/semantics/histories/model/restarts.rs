//! Tables 5.1 to 5.3: own exits, restarts, and how children start and stop.

use perennial_core::{AutoShutdown, Restart, Strategy};

use super::{Mail, Model, Slot, State, Went};
use crate::histories::history::{How, Kind, Outcome, START_WITHIN, STOP_WITHIN};

impl Model {
    /// Table 5.1.
    pub(super) fn exited(&mut self, key: u64, incarnation: u64, how: How) {
        let Some(place) = self.place(key) else { return };
        let slot = &mut self.slots[place];
        let Some(died) = slot.died.filter(|_| slot.incarnation == incarnation) else { return };
        if slot.state != State::Up {
            return;
        }
        slot.state = State::Stopped;
        slot.lived_until(died);
        let significant = slot.child.significant;
        let again = match slot.child.restart {
            Restart::Permanent => true,
            Restart::Transient => how.abnormal(),
            Restart::Temporary => false,
        };
        if again {
            match slot.child.delay {
                Some(_) => self.retry_later(key),
                None => self.restart(key),
            }
            return;
        }
        let kept = matches!(self.kind, Kind::Static(..))
            && self.slots[place].child.restart == Restart::Transient;
        if !kept {
            self.slots.remove(place);
        }
        let left = || {
            let runs = |slot: &&Slot| slot.child.significant && slot.state != State::Stopped;
            self.slots.iter().find(runs).is_some()
        };
        let ends = match self.kind {
            Kind::Static(_, AutoShutdown::AnySignificant) => significant,
            Kind::Static(_, AutoShutdown::AllSignificant) => significant && !left(),
            Kind::Static(_, AutoShutdown::Never) | Kind::Dynamic { .. } | Kind::Template => false,
        };
        if ends {
            self.stop_all();
        }
    }

    /// Table 5.3.
    pub(super) fn restart(&mut self, key: u64) {
        let place = self.place(key).unwrap();
        let (now, within) = (self.now, self.within);
        let slot = &mut self.slots[place];
        slot.state = State::Stopped;
        slot.in_a_row += 1;
        if let Some((max, within)) = slot.child.budget {
            slot.spent.push(now);
            slot.spent.retain(|then| now - then <= within);
            if slot.spent.len() > max as usize {
                if !matches!(self.kind, Kind::Static(..)) {
                    self.slots.remove(place);
                }
                return;
            }
        } else {
            self.restarts.push(now);
            self.restarts.retain(|then| now - then <= within);
            if self.restarts.len() > self.max_restarts as usize {
                self.stop_all();
                return;
            }
        }
        let (first, last) = match self.kind {
            Kind::Static(Strategy::OneForAll, _) => (0, self.slots.len()),
            Kind::Static(Strategy::RestForOne, _) => (place, self.slots.len()),
            Kind::Static(Strategy::OneForOne, _) | Kind::Dynamic { .. } | Kind::Template => {
                (place, place + 1)
            }
        };
        for slot in self.slots[first..last].iter_mut().filter(|slot| slot.state == State::Up) {
            // Of an end that it has not heard of the supervisor learns here.
            slot.lived_until(now);
        }
        for member in (first..last).rev() {
            self.stop_child(member);
        }
        let group: Vec<u64> = self.slots[first..last].iter().map(|slot| slot.key).collect();
        let returns =
            |slot: &Slot| !(group.contains(&slot.key) && slot.child.restart == Restart::Temporary);
        self.slots.retain(returns);
        for member in group {
            if self.place(member).is_none() {
                continue;
            }
            match self.bring_up(member) {
                Went::Up => (),
                Went::Ignored if matches!(self.kind, Kind::Static(..)) => (),
                Went::Ignored => self.forget(member),
                Went::Failed(_) => return self.retry_later(member),
            }
        }
    }

    fn retry_later(&mut self, key: u64) {
        self.serial += 1;
        let (ticket, place) = (self.serial, self.place(key).unwrap());
        let slot = &mut self.slots[place];
        slot.state = State::Restarting(ticket);
        match slot.child.delay {
            Some(delay) => {
                let doubled = (0..slot.in_a_row).fold(delay.first, |wait, _| wait * 2);
                self.timers.push((self.now + doubled.min(delay.max), ticket, key));
            }
            None => self.mail.push_back(Mail::Retry { key, ticket }),
        }
    }

    pub(super) fn bring_up(&mut self, key: u64) -> Went {
        let place = self.place(key).unwrap();
        let label = self.slots[place].child.label.clone();
        let outcome = self.scripts.entry(label.clone()).or_default().pop_front();
        let outcome = outcome.unwrap_or(Outcome::Works);
        *self.starts.entry(label).or_default() += 1;
        self.slots[place].incarnation += 1;
        self.tell(place, &format!("{outcome:?}"), true);
        match outcome {
            Outcome::Works => {
                let slot = &mut self.slots[place];
                (slot.state, slot.born, slot.died) = (State::Up, self.now, None);
                Went::Up
            }
            Outcome::Ignores => Went::Ignored,
            Outcome::Fails => Went::Failed("error"),
            Outcome::Panics => Went::Failed("panic"),
            Outcome::Hangs => {
                self.now += START_WITHIN;
                Went::Failed("timeout")
            }
        }
    }

    /// By its own shutdown option, and waits for its end.
    pub(super) fn stop_child(&mut self, place: usize) {
        self.now += self.ask_to_stop(place, true);
    }

    /// Answers how long it takes.
    fn ask_to_stop(&mut self, place: usize, in_turn: bool) -> u64 {
        let slot = &mut self.slots[place];
        let lived = slot.state == State::Up && slot.died.is_none();
        slot.state = State::Stopped;
        if !lived {
            return 0;
        }
        let (brutal, stubborn) = (slot.child.brutal, slot.child.stubborn());
        if !brutal {
            self.tell(place, "cleans", in_turn);
        }
        self.tell(place, "gone", in_turn);
        if stubborn && !brutal { STOP_WITHIN } else { 0 }
    }

    pub(super) fn forget(&mut self, key: u64) {
        self.slots.retain(|slot| slot.key != key);
    }

    /// It ends: one after another, the last one first; or all at once.
    pub(super) fn stop_all(&mut self) {
        match self.kind {
            Kind::Static(..) => {
                (0..self.slots.len()).rev().for_each(|place| self.stop_child(place))
            }
            Kind::Dynamic { .. } | Kind::Template => self.stop_at_once(),
        }
        self.over = Some("shutdown".to_owned());
    }

    pub(super) fn stop_at_once(&mut self) {
        let longest = (0..self.slots.len()).map(|place| self.ask_to_stop(place, false)).max();
        self.now += longest.unwrap_or(0);
    }
}
