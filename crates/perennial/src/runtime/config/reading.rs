//! All that is wrong with a configuration at once: what has been told is left out, and the rest is read again.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, Error},
};

/// More than anybody reads.
const TOLD_MAX: usize = 100;

/// What it says, as far as it says it right, and all that it does not, in the order of its lines. Text that is not TOML at all is
/// told as that alone.
pub(super) fn read<'i, T: Deserialize<'i>>(text: &'i str) -> (Option<T>, Vec<Error>) {
    let (mut table, mut problems) = DeTable::parse_recoverable(text);
    problems.truncate(TOLD_MAX);
    if !problems.is_empty() {
        return (None, problems);
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
    (read, problems)
}

/// Leaves out the innermost entry that `span` is of.
fn leave_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (_, value) in table.iter_mut() {
        if let DeValue::Table(inner) = value.get_mut()
            && let Some(key) = leave_out(inner, span)
        {
            return Some(key);
        }
    }
    let is_in = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let key = table.iter().find(|(key, value)| is_in(key.span()) || is_in(value.span()));
    let key: Spanned<_> = key?.0.clone();
    table.remove(&key);
    Some(key.into_inner().into_owned())
}
