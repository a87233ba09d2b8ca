//! What OTP would do, one thing after another: written from the tables of the catalogue, over
//! children that exist in words only.

mod requests;
mod restarts;

use std::collections::{HashMap, VecDeque};

use super::history::{Child, History, How, Kind, Outcome, Request, Step};

/// What can be seen of a supervisor from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Picture {
    /// Why it ended.
    pub(super) over: Option<String>,
    /// In the order of their listing; by label where none is promised.
    pub(super) children: Vec<Line>,
    /// Specifications, active, supervisors, workers.
    pub(super) counts: [usize; 4],
    pub(super) in_window: u32,
    /// What the request of the step was answered.
    pub(super) answer: Option<String>,
    /// When it can be seen.
    pub(super) at: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) label: String,
    pub(super) state: &'static str,
    /// Starts of this specification so far.
    pub(super) incarnation: u64,
}

/// A line of the log.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) text: String,
    /// Whether its place among the lines of other children is promised.
    pub(super) in_turn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Up,
    Restarting(u64),
    Stopped,
}

struct Slot {
    key: u64,
    child: Child,
    state: State,
    incarnation: u64,
    born: u64,
    /// When it ended without its supervisor's doing, which does not know yet.
    died: Option<u64>,
    in_a_row: u32,
    spent: Vec<u64>,
}

impl Slot {
    /// A long life begins the count of restarts in a row anew.
    fn lived_until(&mut self, end: u64) {
        if self.child.delay.is_some_and(|delay| end - self.born >= delay.reset_after) {
            self.in_a_row = 0;
        }
    }
}

enum Mail {
    Exit { key: u64, incarnation: u64, how: How },
    Retry { key: u64, ticket: u64 },
    Ask(Request),
}

/// How a start went.
enum Went {
    Up,
    Ignored,
    Failed(&'static str),
}

pub(super) struct Model {
    kind: Kind,
    max_restarts: u32,
    within: u64,
    now: u64,
    /// When something happened last.
    stirred: u64,
    slots: Vec<Slot>,
    mail: VecDeque<Mail>,
    timers: Vec<(u64, u64, u64)>,
    restarts: Vec<u64>,
    starts: HashMap<String, u64>,
    scripts: HashMap<String, VecDeque<Outcome>>,
    /// Children on demand whose start was answered with a child.
    known: Vec<String>,
    serial: u64,
    /// It is asked to end: how it will say that it ended.
    ends: Option<&'static str>,
    over: Option<String>,
    told: Vec<Told>,
    answer: Option<String>,
}

impl Model {
    /// As after its start, or the attempt.
    pub(super) fn start(history: &History) -> Self {
        let mut model = Self {
            kind: history.kind,
            max_restarts: history.max_restarts,
            within: history.within,
            now: 0,
            stirred: 0,
            slots: Vec::new(),
            mail: VecDeque::new(),
            timers: Vec::new(),
            restarts: Vec::new(),
            starts: HashMap::new(),
            scripts: HashMap::new(),
            known: Vec::new(),
            serial: 0,
            ends: None,
            over: None,
            told: Vec::new(),
            answer: None,
        };
        for (label, outcomes) in &history.scripts {
            model.script(label, outcomes);
        }
        model.declared(&history.declared);
        model.stirred = model.now;
        model.settle();
        model
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.answer = None;
        match step {
            Step::Script(label, outcomes) => self.script(label, outcomes),
            Step::End(labels, how) => self.end(labels, *how),
            Step::Ask(request) => self.ask(request),
            Step::KillAndAsk(labels, request) => {
                self.ask(request);
                self.end(labels, How::Kill);
            }
            Step::Advance(by) => self.until(self.now + by),
        }
        self.settle();
    }

    pub(super) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    pub(super) fn picture(&self) -> Picture {
        let line = |slot: &Slot| Line {
            label: slot.child.label.clone(),
            state: match slot.state {
                State::Up => "running",
                State::Restarting(_) => "restarting",
                State::Stopped => "stopped",
            },
            incarnation: slot.incarnation,
        };
        let mut children: Vec<Line> = self.slots.iter().map(line).collect();
        match self.kind {
            Kind::Static(..) => children.reverse(),
            Kind::Dynamic { .. } | Kind::Template => children.sort_by(|a, b| a.label.cmp(&b.label)),
        }
        let active = self.slots.iter().filter(|slot| slot.state == State::Up).count();
        let specs = if self.kind == Kind::Template { 1 } else { self.slots.len() };
        let mut counts = [specs, active, 0, self.slots.len()];
        let inside = self.restarts.iter().filter(|then| self.now - **then <= self.within);
        let mut in_window = u32::try_from(inside.count()).unwrap();
        if self.over.is_some() {
            (counts, in_window) = ([0; 4], 0);
            children.clear();
        }
        let (over, answer) = (self.over.clone(), self.answer.clone());
        Picture { over, children, counts, in_window, answer, at: self.now }
    }

    /// Whether whoever calls this child now is told at once that nobody comes; nothing where the
    /// catalogue leaves it open.
    pub(super) fn nobody_comes(&self, label: &str) -> Option<bool> {
        let retries = self.slots.iter().any(|slot| matches!(slot.state, State::Restarting(_)));
        let slot = self.slots.iter().find(|slot| slot.child.label == label);
        match slot.map(|slot| slot.state) {
            _ if self.over.is_some() => Some(true),
            Some(State::Restarting(_)) => Some(false),
            // It would be busy with the call when the next step comes.
            Some(State::Up) => None,
            // It may come back with a sibling.
            Some(State::Stopped) => (!retries).then_some(true),
            None => Some(true),
        }
    }

    fn script(&mut self, label: &str, outcomes: &[Outcome]) {
        self.scripts.entry(label.to_owned()).or_default().extend(outcomes);
    }

    fn tell(&mut self, place: usize, what: &str, in_turn: bool) {
        let label = &self.slots[place].child.label;
        let text = format!("{label} {} {what}", self.starts[label]);
        self.told.push(Told { text, in_turn });
    }

    fn place(&self, key: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.key == key)
    }

    fn labelled(&self, label: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.child.label == label)
    }

    fn end(&mut self, labels: &[String], how: How) {
        for label in labels {
            let Some(place) = self.labelled(label) else { continue };
            let slot = &mut self.slots[place];
            if slot.state != State::Up || self.over.is_some() {
                continue;
            }
            slot.died = Some(self.now);
            self.mail.push_back(Mail::Exit { key: slot.key, incarnation: slot.incarnation, how });
            if how != How::Kill {
                self.tell(place, "cleans", false);
            }
            self.tell(place, "gone", false);
        }
    }

    fn ask(&mut self, request: &Request) {
        match request {
            Request::Terminate(label) | Request::Restart(label) | Request::Delete(label)
                if !matches!(self.kind, Kind::Static(..)) && !self.known.contains(label) =>
            {
                // Nobody has a reference to it.
            }
            // Refused without asking the supervisor (DYN-015).
            Request::Start(child)
                if child.significant && matches!(self.kind, Kind::Dynamic { .. }) =>
            {
                self.answer = self.significance(child);
            }
            _ if self.over.is_some() => self.answer = Some("no proc".to_owned()),
            Request::Stop | Request::Kill => {
                let stop = matches!(request, Request::Stop);
                self.ends = Some(if stop { "shutdown" } else { "killed" });
                self.answer = Some("ok".to_owned());
            }
            Request::Start(_)
            | Request::Terminate(_)
            | Request::Restart(_)
            | Request::Delete(_) => self.mail.push_back(Mail::Ask(request.clone())),
        }
    }

    /// All that happens until nothing more does, and a moment in which nothing did.
    fn settle(&mut self) {
        loop {
            self.until(self.now + 1);
            if self.stirred < self.now {
                return;
            }
        }
    }

    fn until(&mut self, end: u64) {
        loop {
            if self.over.is_some() {
                break;
            }
            if let Some(reason) = self.ends {
                self.stirred = self.now;
                if reason == "killed" {
                    self.stop_at_once()
                } else {
                    self.stop_all()
                }
                self.over = Some(reason.to_owned());
                break;
            }
            let now = self.now;
            self.timers.sort_unstable();
            let due = self.timers.partition_point(|(due, ..)| *due <= now);
            for (_, ticket, key) in self.timers.drain(..due) {
                self.stirred = now;
                self.mail.push_back(Mail::Retry { key, ticket });
            }
            if let Some(mail) = self.mail.pop_front() {
                self.handle(mail);
                self.stirred = self.now;
            } else if let Some((due, ..)) = self.timers.first().filter(|(due, ..)| *due <= end) {
                self.now = *due;
            } else {
                break;
            }
        }
        self.now = self.now.max(end);
    }

    fn handle(&mut self, mail: Mail) {
        match mail {
            Mail::Exit { key, incarnation, how } => self.exited(key, incarnation, how),
            Mail::Retry { key, ticket } => {
                let due = |slot: &&Slot| slot.key == key && slot.state == State::Restarting(ticket);
                if self.slots.iter().find(due).is_some() {
                    self.restart(key);
                }
            }
            Mail::Ask(request) => {
                let answer = self.serve(request);
                self.answer = Some(answer);
            }
        }
    }
}
