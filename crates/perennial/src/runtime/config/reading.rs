//! All that is wrong with a configuration at once: what has been told is left out, and the rest is read again.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, Error},
};

/// More than anybody reads.
const TOLD_MAX: usize = 100;

/// Where everything stands in a text.
pub(super) struct Places<'i> {
    text: &'i str,
    table: DeTable<'i>,
}

/// A key that is not known where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) line: usize,
    /// The table that it is in, with those around it; nothing of the text as a whole.
    pub(super) table: String,
    pub(super) key: String,
    /// The keys that are known there.
    pub(super) known: Vec<String>,
}

impl Places<'_> {
    /// Where the key of that name in that table stands, and what it is set to.
    fn entry(&self, table: &str, key: &str) -> Option<(Range<usize>, Range<usize>)> {
        let (_, inner) = self.table.iter().find(|(name, _)| name.get_ref() == table)?;
        let DeValue::Table(inner) = inner.get_ref() else { return None };
        let (name, value) = inner.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((name.span(), value.span()))
    }

    /// The line of that key, which counts from 1; none where it is not set.
    pub(super) fn line(&self, table: &str, key: &str) -> Option<usize> {
        Some(self.line_at(self.entry(table, key)?.0.start))
    }

    /// What that key is set to, as it is written but for quotes.
    pub(super) fn written(&self, table: &str, key: &str) -> Option<String> {
        let written = self.text.get(self.entry(table, key)?.1)?;
        Some(written.trim_matches(['"', '\'']).to_owned())
    }

    /// The line that the problem is about.
    pub(super) fn line_of(&self, problem: &Error) -> Option<usize> {
        problem.span().map(|span| self.line_at(span.start))
    }

    fn line_at(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// What is not known, if the problem is that.
    pub(super) fn unknown(&self, problem: &Error) -> Option<Unknown> {
        let (key, known) =
            problem.message().strip_prefix("unknown field `")?.split_once("`, expected ")?;
        let span = problem.span()?;
        let mut way = way(&self.table, &span)?;
        way.pop();
        Some(Unknown {
            line: self.line_at(span.start),
            table: way.join("."),
            key: key.to_owned(),
            known: known.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        })
    }
}

/// The names that lead to the innermost entry that `span` is of: to the one whose key it is, where it is a key.
fn way(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    let is_in = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    // A table is where its header is, and so are those that are only named there.
    let entry = table.iter().find(|(key, _)| is_in(key.span()));
    if let Some((key, _)) = entry {
        return Some(vec![key.get_ref().to_string()]);
    }
    for (key, value) in table {
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(mut way) = way(inner, span)
        {
            way.insert(0, key.get_ref().to_string());
            return Some(way);
        }
    }
    let entry = table.iter().find(|(_, value)| is_in(value.span()));
    entry.map(|(key, _)| vec![key.get_ref().to_string()])
}

/// What it says, as far as it says it right, and all that it does not, in the order of its lines; and where what it says stands. Text
/// that is not TOML at all is told as that alone.
pub(super) fn read<'i, T: Deserialize<'i>>(text: &'i str) -> (Option<T>, Vec<Error>, Places<'i>) {
    let (mut table, mut problems) = DeTable::parse_recoverable(text);
    let places = Places { text, table: table.get_ref().clone() };
    problems.truncate(TOLD_MAX);
    if !problems.is_empty() {
        return (None, problems, places);
    }
    // What a table lacks because it was left out here is no problem of its own.
    let mut left_out: Vec<String> = Vec::new();
    let read = loop {
        let mut error = match T::deserialize(Deserializer::from(table.clone())) {
            Ok(read) => break Some(read),
            Err(error) => error,
        };
        let (span, message) = (error.span(), error.message().to_owned());
        if !left_out.iter().any(|key| message == format!("missing field `{key}`")) {
            error.set_input(Some(text));
            problems.push(error);
        }
        match span.and_then(|span| leave_out(table.get_mut(), &span)) {
            Some(key) if problems.len() < TOLD_MAX => left_out.push(key),
            Some(_) | None => break None,
        }
    };
    problems.sort_by_key(|problem| problem.span().map(|span| span.start));
    (read, problems, places)
}

/// Leaves out the entry that [`way`] leads to.
fn leave_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let way = way(table, span)?;
    let (last, tables) = way.split_last()?;
    let mut inner = table;
    for name in tables {
        let (_, value) = inner.iter_mut().find(|(key, _)| key.get_ref() == name)?;
        let DeValue::Table(next) = value.get_mut() else { return None };
        inner = next;
    }
    let key: Spanned<_> = inner.iter().find(|(key, _)| key.get_ref() == last)?.0.clone();
    inner.remove(&key);
    Some(key.into_inner().into_owned())
}
