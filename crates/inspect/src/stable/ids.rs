//! One placeholder per id, numbered in the order in which ids are met.

use std::collections::HashMap;

use super::{
    COUNT, ELAPSED,
    words::{Volatile, rewrite},
};

/// The ids met so far.
#[derive(Debug, Default)]
pub(super) struct Ids {
    numbers: HashMap<String, usize>,
}

impl Ids {
    /// The placeholder of `id`.
    fn placeholder(&mut self, id: &str) -> String {
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(id.to_owned()).or_insert(next);
        format!("<id-{number}>")
    }

    /// A text that somebody composed: ids, numbers, durations and times are replaced.
    pub(super) fn in_text(&mut self, text: &str) -> String {
        rewrite(text, |kind, word| match kind {
            Volatile::Id => self.placeholder(word),
            Volatile::Number => COUNT.to_owned(),
            Volatile::Time => ELAPSED.to_owned(),
            Volatile::Placeholder => word.to_owned(),
        })
    }

    /// A name or a path that a program declared: only ids are replaced; `worker-2` is its name.
    pub(super) fn in_name(&mut self, name: &str) -> String {
        rewrite(name, |kind, word| match kind {
            Volatile::Id => self.placeholder(word),
            Volatile::Number | Volatile::Time | Volatile::Placeholder => word.to_owned(),
        })
    }

    /// The name of a child that was started on demand: a number in it is a counter as well, but must
    /// go on telling it from its siblings.
    pub(super) fn in_started_name(&mut self, name: &str) -> String {
        rewrite(name, |kind, word| match kind {
            Volatile::Id => self.placeholder(word),
            Volatile::Number | Volatile::Time => self.placeholder(&format!("{name} {word}")),
            Volatile::Placeholder => word.to_owned(),
        })
    }
}
