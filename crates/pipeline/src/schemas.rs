//! JSON Schemas of values: what is wrong with a value, in the words of the language (YR-66, YR-68).
//!
//! | room | holds |
//! |---|---|
//! | `violation` | one violation: its path and its text |
//! | `words` | from the validator's errors to violations |
//! | `keyword` | `type`, whose integers are written without a fraction |
//! | `faults` | what is wrong with a schema itself, with places |
//! | `subject` | which part of a record a schema is about |
//! | `ready` | schemas that are there by name (YR-69) |
//! | `closed` | fields that a schema rules out |
//!
//! Schemas are of draft 2020-12, whatever `$schema` says. Nothing outside of a schema is ever read: a `$ref`
//! elsewhere is a fault of it. Of formats, five are asserted; all others say nothing about a value.

mod closed;
mod faults;
mod keyword;
mod ready;
mod subject;
mod violation;
mod words;

use jsonschema::{Draft, ValidationError, ValidationOptions, Validator};
use serde_json::Value;

pub(crate) use closed::{Closed, Spot};
pub(crate) use faults::faults;
pub(crate) use ready::{NAMES, ready_made};
pub(crate) use subject::subject;
pub(crate) use violation::{PathStep, Violation, report};

/// Formats that the validator knows beyond the five that are asserted.
const UNASSERTED: [&str; 14] = [
    "duration",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri-reference",
    "uri-template",
];

/// Everything in which `value` does not satisfy `schema`, in the order of their paths; nothing when it does.
///
/// # Errors
///
/// When `schema` is none: [`faults`] says where.
pub(crate) fn violations(schema: &Value, value: &Value) -> Result<Vec<Violation>, String> {
    let validator = validator(schema).map_err(|error| error.to_string())?;
    Ok(words::violations(validator.iter_errors(value), value))
}

fn validator(schema: &Value) -> Result<Validator, ValidationError<'_>> {
    options().build(schema)
}

fn options() -> ValidationOptions<'static> {
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .with_keyword("type", keyword::types);
    UNASSERTED.into_iter().fold(options, |options, name| options.with_format(name, |_| true))
}

#[cfg(test)]
mod tests;
