//! All that is wrong with a configuration at once: what has been told is left out, and the rest is read again.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, Error},
};

/// More than anybody reads.
const TOLD_MAX: usize = 100;

/// # Errors
///
/// All that it does not say right, in the order in which it is met; text that is not TOML at all is told as that alone.
pub(super) fn read<'i, T: Deserialize<'i>>(text: &'i str) -> Result<T, Vec<Error>> {
    let (mut table, unreadable) = DeTable::parse_recoverable(text);
    if !unreadable.is_empty() {
        return Err(unreadable.into_iter().take(TOLD_MAX).collect());
    }
    let mut problems = Vec::new();
    // What a table lacks because it was left out here is no problem of its own.
    let mut left_out: Vec<String> = Vec::new();
    loop {
        let mut error = match T::deserialize(Deserializer::from(table.clone())) {
            Ok(read) if problems.is_empty() => return Ok(read),
            Ok(_) => return Err(problems),
            Err(error) => error,
        };
        let (span, message) = (error.span(), error.message().to_owned());
        if !left_out.iter().any(|key| message == format!("missing field `{key}`")) {
            error.set_input(Some(text));
            problems.push(error);
        }
        match span.and_then(|span| leave_out(table.get_mut(), &span)) {
            Some(key) if problems.len() < TOLD_MAX => left_out.push(key),
            Some(_) | None => return Err(problems),
        }
    }
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
