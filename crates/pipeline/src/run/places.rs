//! Where jobs stand in a definition, without the rounds they were made in.
//!
//! A key tells it by its text, unless it is so long that it was cut: then it is found by making the keys of all
//! steps, in all rounds of which something is recorded.

use std::collections::HashMap;

use perennial_core::run::{JobKey, StepPath};

use serde_json::Value;

use super::children::{Children, Site};
use crate::definition::{Model, Step};

/// The places of jobs whose keys were cut; the others need none.
#[derive(Debug, Default)]
pub(crate) struct Places {
    cut: HashMap<JobKey, Found>,
}

/// What a key was before it was cut.
#[derive(Debug)]
struct Found {
    whole: String,
    /// In the first round of everything.
    place: String,
}

struct Search<'k> {
    /// With what each has left: an opening, of a child that was not known before, its definition.
    recorded: HashMap<&'k JobKey, Option<&'k Value>>,
    children: &'k Children,
    found: HashMap<JobKey, Found>,
}

impl Places {
    /// Those of the jobs `recorded`, which were made by one of `models`.
    pub(crate) fn of<'k>(
        models: &[&'k Model],
        children: &'k Children,
        recorded: impl Iterator<Item = (&'k JobKey, Option<&'k Value>)> + Clone,
    ) -> Self {
        if !recorded.clone().any(|(key, _)| key.is_cut()) {
            return Self::default();
        }
        let mut search = Search { recorded: recorded.collect(), children, found: HashMap::new() };
        for model in models {
            let root = StepPath::root();
            search.steps(&Site::of(model), &model.steps, &root, &root);
        }
        Self { cut: search.found }
    }

    /// The text of `key` as it would be in the first round of everything, and whole.
    pub(crate) fn of_key(&self, key: &JobKey) -> String {
        let cut = self.cut.get(key).map(|found| found.place.clone());
        cut.unwrap_or_else(|| without_rounds(key.as_str()))
    }

    /// The text of `key` before it was cut.
    pub(crate) fn whole<'k>(&'k self, key: &'k JobKey) -> &'k str {
        self.cut.get(key).map_or(key.as_str(), |found| &found.whole)
    }
}

impl<'k> Search<'k> {
    /// A job at `whole`, which is `place` without rounds; with `sign` before both.
    fn note(&mut self, sign: &str, whole: &StepPath, place: &StepPath) {
        let [whole, place] = [whole, place].map(|path| format!("{sign}{}", path.as_str()));
        let key = JobKey::new(whole.as_str());
        if key.is_cut() && self.recorded.contains_key(&key) {
            self.found.insert(key, Found { whole, place });
        }
    }

    /// The steps of a scope: `at` with its rounds, `place` without.
    fn steps(&mut self, site: &Site<'k>, steps: &'k [Step], at: &StepPath, place: &StepPath) {
        for step in steps {
            let (at, place) = (at.step(&step.name), place.step(&step.name));
            self.note("", &at, &place);
            for body in step.bodies() {
                let (at, place) = (at.handler(), place.handler());
                self.note("", &at, &place);
                self.note("#", &at, &place);
                self.steps(site, &body.steps, &at, &place);
            }
            let Some(nested) = step.nested() else { continue };
            // A round is opened before anything in it, and not before the one ahead of it was.
            let first = self.recorded.get(&at.opening()).copied().flatten();
            let child = site.child(nested, first, self.children);
            for round in 1.. {
                let at = at.round(round);
                if !self.recorded.contains_key(&at.opening()) {
                    break;
                }
                self.note("#", &at, &place);
                if let Some(child) = &child {
                    self.steps(child, &child.model.steps, &at, &place);
                }
            }
        }
    }
}

/// `n#2/a` is the step `n/a`, whichever round it was in; what opens a scope begins with its sign.
fn without_rounds(key: &str) -> String {
    let (sign, path) = key.strip_prefix('#').map_or(("", key), |path| ("#", path));
    let bare = |part: &str| part.split('#').next().unwrap_or_default().to_owned();
    sign.to_owned() + &path.split('/').map(bare).collect::<Vec<_>>().join("/")
}
