//! Instants and spans (YT-8).

use serde_json::Value;

use super::{
    super::{
        instant::Instant,
        syntax::Arithmetic,
        value::{Trouble, calculate},
    },
    Function, Outcome,
    Takes::{Number, Text},
    Work,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("now", &[], Work::Now),
    // With a format, as the filter `date('%Y')`, it is `format_date`.
    Function::new("date", &[Text, Text], Work::Values(date)).required(1),
    Function::new("format_date", &[Text, Text], Work::Values(date)),
    Function::new("days", &[Number], Work::Values(|v| seconds(v[0], 86_400))),
    Function::new("hours", &[Number], Work::Values(|v| seconds(v[0], 3_600))),
    Function::new("minutes", &[Number], Work::Values(|v| seconds(v[0], 60))),
    Function::new("seconds", &[Number], Work::Values(|v| seconds(v[0], 1))),
];

fn seconds(count: &Value, each: i64) -> Outcome {
    calculate(count, Arithmetic::Multiply, &each.into())
}

fn date(values: &[&Value]) -> Outcome {
    let Some(instant) = values[0].as_str().and_then(Instant::parse) else {
        let text = format!("{} is neither a date nor an RFC 3339 instant", values[0]);
        return Err(Trouble::Null(text));
    };
    match values.get(1).map(|pattern| pattern.as_str().unwrap_or_default()) {
        None => Ok(instant.to_text().into()),
        Some(pattern) => instant
            .format(pattern)
            .map(Value::String)
            .map_err(|sign| Trouble::Null(format!("`{sign}` is no part of a date's format"))),
    }
}
