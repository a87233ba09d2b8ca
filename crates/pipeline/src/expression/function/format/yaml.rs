//! Values as YAML, in block style.

use serde_json::Value;

use super::is_nested;
use crate::source::is_plain_text;

/// The YAML of `value`; read again, it gives the same value.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    if is_nested(value) {
        entries(value, 0, &mut out);
    } else {
        out.push_str(&scalar_text(value));
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

/// The lines of a list or an object that is not empty.
fn entries(value: &Value, level: usize, out: &mut String) {
    let margin = "  ".repeat(level);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&format!("{margin}{}:", string(key)));
                behind(value, level, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&format!("{margin}-"));
                behind(item, level, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// What stands behind a key or a dash.
fn behind(value: &Value, level: usize, out: &mut String) {
    if is_nested(value) {
        out.push('\n');
        entries(value, level + 1, out);
    } else {
        out.push_str(&format!(" {}\n", scalar_text(value)));
    }
}

fn scalar_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), string)
}

/// As it stands when YAML reads it as this text, else in double quotes with JSON's escapes.
fn string(text: &str) -> String {
    if is_plain_text(text) { text.to_owned() } else { Value::from(text).to_string() }
}
