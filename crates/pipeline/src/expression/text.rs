//! Values as text.

use serde_json::{Number, Value};

/// A value inside a longer text (YT-3): strings raw, null empty, numbers without `.0`, lists and
/// objects as compact JSON.
pub(crate) fn to_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number_text(number),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A value as a part of a prompt (YP-8): strings raw, lists and objects as indented JSON.
pub(crate) fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => format!("{value:#}"),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// At most `most` characters; what was cut ends with `...`, at the end of a word when there is one.
pub(crate) fn cut_at_word(text: &str, most: u32) -> String {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if text.char_indices().nth(most).is_none() {
        return text.to_owned();
    }
    if most <= 3 {
        return text.chars().take(most).collect();
    }
    let end = text.char_indices().nth(most - 3).map_or(text.len(), |(at, _)| at);
    let (head, rest) = text.split_at(end);
    let next_is_blank = rest.chars().next().is_some_and(char::is_whitespace);
    let cut = match head.rfind(char::is_whitespace) {
        Some(blank) if !next_is_blank && blank > 0 => &head[..blank],
        Some(_) | None => head,
    };
    format!("{}...", cut.trim_end())
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e21 => {
            format!("{float:.0}")
        }
        Some(_) | None => number.to_string(),
    }
}
