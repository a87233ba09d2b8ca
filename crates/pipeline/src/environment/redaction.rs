//! How secrets are taken out of what is recorded (YF-42).

use std::fmt;

use perennial_tools::{ApiKey, Redactor};
use serde_json::Value;

/// Secrets, and texts made of them.
///
/// Those of [`Redactor::BYTES_MIN`] bytes and more are found anywhere, in numbers too. Shorter ones
/// are found where a text is nothing else: inside of longer ones they would be found by chance.
#[derive(Clone, Default)]
pub(crate) struct Redaction {
    redactor: Redactor,
    short: Vec<String>,
}

/// Secrets are never shown.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redaction({:?} and {} short ones)", self.redactor, self.short.len())
    }
}

impl Redaction {
    /// Whether `secret` is too short to be looked for inside of longer texts. An empty one is none.
    pub(crate) fn is_short(secret: &str) -> bool {
        !secret.trim().is_empty() && secret.len() < Redactor::BYTES_MIN
    }

    /// This redaction, knowing `secret` too.
    #[must_use]
    pub(crate) fn with(mut self, secret: &str) -> Self {
        if Self::is_short(secret) {
            self.short.push(secret.to_owned());
            return self;
        }
        Self { redactor: self.redactor.with(&ApiKey::new(secret)), ..self }
    }

    /// Whether `text` is a short secret.
    fn is_one(&self, text: &str) -> bool {
        self.short.iter().any(|secret| secret == text)
    }

    /// Whether `text` is or holds a secret.
    pub(crate) fn finds(&self, text: &str) -> bool {
        self.is_one(text) || self.redactor.finds(text)
    }

    /// `text` without secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.is_one(text) { Redactor::MARK.to_owned() } else { self.redactor.redact(text) }
    }

    /// Whether a text, a number or a key in `value` holds a secret.
    pub(crate) fn are_in(&self, value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => self.redactor.finds(&number.to_string()),
            Value::String(text) => self.finds(text),
            Value::Array(items) => items.iter().any(|item| self.are_in(item)),
            Value::Object(map) => {
                map.iter().any(|(key, value)| self.redactor.finds(key) || self.are_in(value))
            }
        }
    }

    /// `value` without secrets, in its texts, its numbers and its keys. A key that is a short secret
    /// stays: what the fields of records are named must not depend on it.
    pub(crate) fn redacted(&self, value: Value) -> Value {
        match value {
            Value::Number(number) if self.redactor.finds(&number.to_string()) => {
                Value::String(Redactor::MARK.to_owned())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
            Value::String(text) if self.finds(&text) => Value::String(self.redact(&text)),
            Value::String(_) => value,
            Value::Array(items) => items.into_iter().map(|item| self.redacted(item)).collect(),
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, value)| (self.redactor.redact(&key), self.redacted(value)))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_secrets_are_found_alone_and_long_ones_anywhere() {
        let redaction = Redaction::default().with("abcdefg").with("1234567890").with("").with(" ");
        for (value, expected) in [
            (json!("abcdefg"), json!("[redacted]")),
            (json!("x abcdefg"), json!("x abcdefg")),
            (json!({"abcdefg": ["abcdefg"]}), json!({"abcdefg": ["[redacted]"]})),
            (json!(1_234_567_890), json!("[redacted]")),
            (json!(-12_345_678_901_i64), json!("[redacted]")),
            (json!("n 1234567890"), json!("n [redacted]")),
            (json!(["", " ", null, true, 7]), json!(["", " ", null, true, 7])),
        ] {
            assert_eq!(redaction.are_in(&value), value != expected, "{value}");
            assert_eq!(redaction.redacted(value.clone()), expected, "{value}");
        }
        assert!(!format!("{redaction:?}").contains("abcdefg"));
    }
}
