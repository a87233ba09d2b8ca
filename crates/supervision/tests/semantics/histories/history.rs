//! What may happen to a supervisor, and the dice that choose.

use perennial_core::{AutoShutdown, Restart, Strategy};

use crate::dice::Dice;

/// One supervisor and what happens to it.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) kind: Kind,
    pub(super) max_restarts: u32,
    /// Milliseconds, as all times here.
    pub(super) within: u64,
    /// What the first starts of these children do.
    pub(super) scripts: Vec<(String, Vec<Outcome>)>,
    pub(super) declared: Vec<Child>,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Static(Strategy, AutoShutdown),
    Dynamic {
        max: Option<usize>,
        /// For children without a budget of their own.
        budget: Option<(u32, u64)>,
    },
    Template,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    /// Tells it apart where ids do not.
    pub(super) label: String,
    pub(super) id: String,
    pub(super) restart: Restart,
    pub(super) significant: bool,
    pub(super) delay: Option<Delay>,
    pub(super) budget: Option<(u32, u64)>,
    pub(super) brutal: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    pub(super) first: u64,
    pub(super) max: u64,
    pub(super) reset_after: u64,
}

/// What a start does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Works,
    Ignores,
    Fails,
    Panics,
    /// Until its time is up.
    Hangs,
}

/// How children end by themselves, or are ended by strangers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum How {
    Normal,
    Shutdown,
    ShutdownWith,
    Stop,
    Fail,
    Panic,
    Crash,
    Kill,
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    Start(Child),
    Terminate(String),
    Restart(String),
    Delete(String),
    /// The supervisor itself.
    Stop,
    /// The supervisor itself, by a stranger.
    Kill,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Coming starts of this child do this; later ones work.
    Script(String, Vec<Outcome>),
    /// All these end at once, those that run.
    End(Vec<String>, How),
    Ask(Request),
    /// These are killed, and before anybody hears of it the request is there.
    KillAndAsk(Vec<String>, Request),
    Advance(u64),
}

/// A hanging start may take this long.
pub(super) const START_WITHIN: u64 = 30;
/// A stubborn child gets this long to stop.
pub(super) const STOP_WITHIN: u64 = 20;

const STATIC: [&str; 5] = ["a", "b", "c", "d", "e"];

impl Child {
    /// Whether its cleanup never ends: it has to be killed.
    pub(super) fn stubborn(&self) -> bool {
        stubborn(&self.label)
    }
}

fn stubborn(label: &str) -> bool {
    label == "e" || label.ends_with('5')
}

impl How {
    pub(super) fn abnormal(self) -> bool {
        match self {
            Self::Normal | Self::Shutdown | Self::ShutdownWith | Self::Stop => false,
            Self::Fail | Self::Panic | Self::Crash | Self::Kill => true,
        }
    }
}

impl History {
    pub(super) fn of(seed: u64) -> Self {
        let mut author = Author { dice: Dice(seed), started: 0, ids: 0 };
        author.history()
    }
}

struct Author {
    dice: Dice,
    /// Children on demand so far.
    started: usize,
    /// Ids in use under a static supervisor.
    ids: usize,
}

impl Author {
    fn history(&mut self) -> History {
        self.ids = 1 + self.dice.roll(STATIC.len());
        let kind = match self.dice.roll(8) {
            0..=4 => Kind::Static(
                *self.dice.pick(&[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]),
                *self.dice.pick(&[
                    AutoShutdown::Never,
                    AutoShutdown::AnySignificant,
                    AutoShutdown::AllSignificant,
                ]),
            ),
            5 | 6 => Kind::Dynamic {
                max: *self.dice.pick(&[None, Some(2), Some(3)]),
                budget: *self.dice.pick(&[None, None, Some((1, 40))]),
            },
            _ => Kind::Template,
        };
        let mut scripts = Vec::new();
        let mut declared = Vec::new();
        if let Kind::Static(..) = kind {
            for label in &STATIC[..self.dice.roll(self.ids + 1)] {
                declared.push(self.child(kind, label));
                if self.dice.once_in(12) {
                    scripts.push(((*label).to_owned(), self.outcomes(2)));
                }
            }
            if self.dice.once_in(40) && !declared.is_empty() {
                declared.push(self.child(kind, "a"));
            }
        }
        let max_restarts = *self.dice.pick(&[0, 1, 2, 3, 5, 50]);
        let within = *self.dice.pick(&[5, 20, 60]);
        let mut steps = Vec::new();
        for _ in 0..8 + self.dice.roll(24) {
            let step = self.step(kind);
            // Most ends are followed by a start: some of those are to go wrong.
            if let Step::End(labels, _) | Step::KillAndAsk(labels, _) = &step
                && self.dice.once_in(3)
            {
                let label = self.dice.pick(labels).clone();
                steps.push(Step::Script(label, self.outcomes(3)));
            }
            steps.push(step);
        }
        steps.push(Step::Ask(Request::Stop));
        History { kind, max_restarts, within, scripts, declared, steps }
    }

    fn child(&mut self, kind: Kind, label: &str) -> Child {
        let restarts =
            [Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary];
        let restart = *self.dice.pick(&restarts);
        let allowed = match kind {
            Kind::Static(_, auto) => auto != AutoShutdown::Never && restart != Restart::Permanent,
            Kind::Dynamic { .. } | Kind::Template => false,
        };
        let significant = self.dice.once_in(if allowed { 2 } else { 60 });
        let id = match kind {
            Kind::Static(..) => label,
            Kind::Dynamic { .. } | Kind::Template => *self.dice.pick(&["x", "y"]),
        };
        Child {
            label: label.to_owned(),
            id: id.to_owned(),
            restart,
            significant,
            delay: *self.dice.pick(&[
                None,
                None,
                None,
                None,
                None,
                None,
                Some(Delay { first: 5, max: 5, reset_after: 0 }),
                Some(Delay { first: 20, max: 20, reset_after: 0 }),
                Some(Delay { first: 4, max: 16, reset_after: 9 }),
                Some(Delay { first: 6, max: 1000, reset_after: 40 }),
            ]),
            budget: *self.dice.pick(&[
                None,
                None,
                None,
                None,
                Some((0, 9)),
                Some((1, 60)),
                Some((2, 30)),
            ]),
            brutal: self.dice.once_in(5),
        }
    }

    fn outcomes(&mut self, upto: usize) -> Vec<Outcome> {
        let all = [
            Outcome::Works,
            Outcome::Ignores,
            Outcome::Fails,
            Outcome::Fails,
            Outcome::Fails,
            Outcome::Panics,
            Outcome::Hangs,
        ];
        (0..1 + self.dice.roll(upto)).map(|_| *self.dice.pick(&all)).collect()
    }

    /// Some child that may be there.
    fn label(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Static(..) => STATIC[self.dice.roll(self.ids)].to_owned(),
            // One that is still to come must be scriptable.
            Kind::Dynamic { .. } | Kind::Template => {
                format!("c{}", 1 + self.dice.roll(self.started + 1))
            }
        }
    }

    fn labels(&mut self, kind: Kind) -> Vec<String> {
        let many = *self.dice.pick(&[1, 1, 1, 2, 2, 3]);
        let mut labels: Vec<String> = Vec::new();
        for _ in 0..many {
            let label = self.label(kind);
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        labels
    }

    fn request(&mut self, kind: Kind) -> Request {
        match (kind, self.dice.roll(12)) {
            (_, 0) if self.dice.once_in(3) => {
                self.dice.pick(&[Request::Stop, Request::Kill]).clone()
            }
            (Kind::Static(..), 0..=3) => {
                let label = self.label(kind);
                Request::Start(self.child(kind, &label))
            }
            (Kind::Static(..), 4 | 5) => Request::Delete(self.label(kind)),
            (Kind::Static(..), 6..=8) => Request::Restart(self.label(kind)),
            (Kind::Dynamic { .. } | Kind::Template, 0..=7) => {
                self.started += 1;
                let label = format!("c{}", self.started);
                Request::Start(self.child(kind, &label))
            }
            _ => Request::Terminate(self.label(kind)),
        }
    }

    fn step(&mut self, kind: Kind) -> Step {
        let hows = [
            How::Normal,
            How::Shutdown,
            How::ShutdownWith,
            How::Stop,
            How::Fail,
            How::Fail,
            How::Panic,
            How::Crash,
            How::Kill,
            How::Kill,
        ];
        match self.dice.roll(16) {
            0 => Step::Script(self.label(kind), self.outcomes(3)),
            1..=7 => {
                let labels = self.labels(kind);
                let how = *self.dice.pick(&hows);
                // Its cleanup would keep a stubborn child from ending by itself.
                let killed = labels.iter().any(|label| stubborn(label));
                Step::End(labels, if killed { How::Kill } else { how })
            }
            8..=11 => Step::Ask(self.request(kind)),
            12 => Step::KillAndAsk(self.labels(kind), self.request(kind)),
            _ => Step::Advance(1 + u64::try_from(self.dice.roll(30)).unwrap()),
        }
    }
}
