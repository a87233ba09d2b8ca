//! What follows from the catalogue, the deviations and the outcomes of tests. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
};

use serde_json::{Map, Value, json};

use crate::catalogue::{Catalogue, Deviation, Row};

/// More ids than this need a reason: a test that asserts so much at once rarely asserts all of it.
const IDS_PER_TEST: usize = 4;

/// What a test says it proves.
pub(crate) struct Claim {
    pub(crate) test: String,
    pub(crate) ids: Vec<String>,
    /// Why so many.
    pub(crate) because: Option<String>,
}

/// What is wrong with the suite itself, before anything runs.
pub(crate) fn objections(
    catalogue: &Catalogue,
    deviations: &[Deviation],
    claims: &[Claim],
) -> Vec<String> {
    let mut objections = Vec::new();
    let mut object = |to: String| objections.push(to);
    let portable = |id: &str| match catalogue.find(id) {
        None => Err(format!("{id} is not in the catalogue")),
        Some(row) if !row.is_portable() => {
            Err(format!("{id} is not portable ({})", row.portability))
        }
        Some(_) => Ok(()),
    };

    let mut rows = BTreeSet::new();
    for row in catalogue.rows.iter().filter(|row| !rows.insert(&row.id)) {
        object(format!("{} is twice in the catalogue", row.id));
    }

    let mut deviating = BTreeSet::new();
    for deviation in deviations {
        let id = deviation.id.as_str();
        if let Err(why) = portable(id) {
            object(format!("deviation: {why}"));
        }
        if !deviating.insert(id) {
            object(format!("deviation: {id} is declared twice"));
        }
        if deviation.reason.trim().is_empty() || deviation.instead.trim().is_empty() {
            object(format!("deviation: {id} says not why, or not what happens instead"));
        }
    }

    let mut tests = BTreeSet::new();
    for claim in claims {
        let test = &claim.test;
        if !tests.insert(test) {
            object(format!("{test}: registered twice"));
        }
        if claim.ids.len() > IDS_PER_TEST && claim.because.is_none() {
            object(format!("{test}: {} ids without `because`", claim.ids.len()));
        }
        let mut own = BTreeSet::new();
        for id in &claim.ids {
            if let Err(why) = portable(id) {
                object(format!("{test}: {why}"));
            }
            if !own.insert(id) {
                object(format!("{test}: {id} is named twice"));
            }
            if deviating.contains(id.as_str()) {
                object(format!("{test}: {id} is declared as a deviation"));
            }
        }
    }
    objections
}

/// How a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Every test that carries it passed, and there is one.
    Proven,
    /// Declared as not kept.
    Deviating,
    /// Nobody shows it.
    Open,
    /// Not counted.
    NotPortable,
}

/// How every row of the catalogue stands, in its order.
pub(crate) struct Report<'a> {
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    row: &'a Row,
    state: State,
    tests: Vec<&'a str>,
    failed: Vec<&'a str>,
    deviation: Option<&'a Deviation>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) portable: usize,
    pub(crate) proven: usize,
    pub(crate) deviating: usize,
    pub(crate) open: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        catalogue: &'a Catalogue,
        deviations: &'a [Deviation],
        claims: &'a [Claim],
        passed: &BTreeSet<String>,
    ) -> Self {
        let mut carriers: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for claim in claims {
            for id in &claim.ids {
                carriers.entry(id).or_default().insert(&claim.test);
            }
        }
        let lines = catalogue.rows.iter().map(|row| {
            let tests: Vec<&str> =
                carriers.remove(row.id.as_str()).unwrap_or_default().into_iter().collect();
            let failed: Vec<&str> =
                tests.iter().copied().filter(|test| !passed.contains(*test)).collect();
            let deviation = deviations.iter().find(|deviation| deviation.id == row.id);
            let state = if !row.is_portable() {
                State::NotPortable
            } else if deviation.is_some() {
                State::Deviating
            } else if !tests.is_empty() && failed.is_empty() {
                State::Proven
            } else {
                State::Open
            };
            Line { row, state, tests, failed, deviation }
        });
        Self { lines: lines.collect() }
    }

    /// The proven ids, in the order of the catalogue.
    pub(crate) fn proven(&self) -> Vec<&'a str> {
        let proven = self.lines.iter().filter(|line| line.state == State::Proven);
        proven.map(|line| line.row.id.as_str()).collect()
    }

    /// Those of `kept` that are not proven.
    pub(crate) fn lost<'b>(&self, kept: &[&'b str]) -> Vec<&'b str> {
        let proven: BTreeSet<&str> = self.proven().into_iter().collect();
        kept.iter().copied().filter(|id| !proven.contains(id)).collect()
    }

    /// For tools: totals, then every row.
    pub(crate) fn json(&self) -> String {
        let sections = self.tallies(Row::section);
        let priorities = self.tallies(|row| &row.priority);
        let group = |tallies: Vec<(&str, Tally)>| -> Map<String, Value> {
            tallies.into_iter().map(|(name, tally)| (name.to_owned(), tally.json())).collect()
        };
        let ids: Map<String, Value> =
            self.lines.iter().map(|line| (line.row.id.clone(), line.json())).collect();
        let report = json!({
            "total": self.total().json(),
            "sections": group(sections),
            "priorities": group(priorities),
            "ids": ids,
        });
        format!("{report:#}\n")
    }

    /// For readers: a line for each section, each priority, and all.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let titles = ("portable", "proven", "deviating", "open");
        let mut add = |name: &str, cells: [&dyn std::fmt::Display; 4]| {
            let [portable, proven, deviating, open] = cells;
            writeln!(table, "{name:<10}{portable:>9}{proven:>9}{deviating:>11}{open:>9}").unwrap();
        };
        add("section", [&titles.0, &titles.1, &titles.2, &titles.3]);
        let mut rows = self.tallies(Row::section);
        rows.push(("total", self.total()));
        rows.extend(self.tallies(|row| &row.priority));
        for (name, tally) in rows {
            add(name, [&tally.portable, &tally.proven, &tally.deviating, &tally.open]);
        }
        table
    }

    pub(crate) fn total(&self) -> Tally {
        self.lines.iter().fold(Tally::default(), Tally::with)
    }

    /// One tally for each value of `group`, in the order in which the catalogue names them first.
    fn tallies(&self, group: impl Fn(&'a Row) -> &'a str) -> Vec<(&'a str, Tally)> {
        let mut tallies: Vec<(&str, Tally)> = Vec::new();
        for line in &self.lines {
            let name = group(line.row);
            let place = tallies.iter().position(|(seen, _)| *seen == name);
            let place = place.unwrap_or_else(|| {
                tallies.push((name, Tally::default()));
                tallies.len() - 1
            });
            tallies[place].1 = tallies[place].1.with(line);
        }
        tallies
    }
}

impl Line<'_> {
    fn json(&self) -> Value {
        let state = match self.state {
            State::Proven => "proven",
            State::Deviating => "deviating",
            State::Open => "open",
            State::NotPortable => "not_portable",
        };
        let mut line = json!({
            "state": state,
            "priority": self.row.priority,
            "portability": self.row.portability,
            "tests": self.tests,
        });
        if !self.failed.is_empty() {
            line["failed"] = json!(self.failed);
        }
        if let Some(deviation) = self.deviation {
            line["reason"] = json!(deviation.reason);
            line["instead"] = json!(deviation.instead);
        }
        line
    }
}

impl Tally {
    fn with(self, line: &Line<'_>) -> Self {
        let Self { portable, proven, deviating, open } = self;
        match line.state {
            State::Proven => Self { portable: portable + 1, proven: proven + 1, ..self },
            State::Deviating => Self { portable: portable + 1, deviating: deviating + 1, ..self },
            State::Open => Self { portable: portable + 1, open: open + 1, ..self },
            State::NotPortable => self,
        }
    }

    fn json(self) -> Value {
        json!({
            "portable": self.portable,
            "proven": self.proven,
            "deviating": self.deviating,
            "open": self.open,
        })
    }
}
