//! What a run must not show: its secrets, and what expressions have made of them (YF-42).
//!
//! A text that a function has made of a secret is learnt when it is made, before anything is
//! recorded; an attempt in another process makes it again, and so learns it too.

use std::{
    mem,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use perennial_tools::{ApiKey, Redactor};
use serde_json::Value;

use crate::{
    environment::{holds_secret, redacted},
    expression::Fault,
};

/// Most texts that are learnt, and most bytes of them: a run that goes beyond makes too much of its
/// secrets to keep them.
const LEARNT_MAX: usize = 256;
const LEARNT_BYTES_MAX: usize = 1 << 20;

/// The secrets of a run.
#[derive(Debug)]
pub(super) struct Secrets(RwLock<Learnt>);

#[derive(Debug)]
struct Learnt {
    redactor: Redactor,
    texts: usize,
    bytes: usize,
}

impl Secrets {
    pub(super) fn new(redactor: Redactor) -> Self {
        Self(RwLock::new(Learnt { redactor, texts: 0, bytes: 0 }))
    }

    fn known(&self) -> RwLockReadGuard<'_, Learnt> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// `text` without them.
    pub(super) fn redact(&self, text: &str) -> String {
        self.known().redactor.redact(text)
    }

    /// `value` without them.
    pub(super) fn redacted(&self, value: Value) -> Value {
        redacted(value, &self.known().redactor)
    }

    pub(super) fn finds(&self, text: &str) -> bool {
        self.known().redactor.finds(text)
    }

    /// Whether a text in `value` holds one.
    pub(super) fn are_in(&self, value: &Value) -> bool {
        holds_secret(value, &self.known().redactor)
    }

    /// Learns the texts of `value`, which a function has made of a secret. Those that are too short
    /// to be looked for are taken out at once.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(super) fn derived(&self, value: Value) -> Result<Value, Fault> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value),
            Value::String(text) if text.len() < Redactor::BYTES_MIN => {
                let shown = if text.trim().is_empty() { text } else { Redactor::MARK.to_owned() };
                Ok(Value::String(shown))
            }
            Value::String(text) => {
                self.learn(&text)?;
                Ok(Value::String(text))
            }
            Value::Array(items) => items.into_iter().map(|item| self.derived(item)).collect(),
            Value::Object(map) => {
                let field = |(key, value): (String, Value)| Ok((key, self.derived(value)?));
                map.into_iter().map(field).collect::<Result<_, _>>().map(Value::Object)
            }
        }
    }

    fn learn(&self, text: &str) -> Result<(), Fault> {
        if self.redact(text) == Redactor::MARK {
            return Ok(());
        }
        let mut learnt = self.0.write().unwrap_or_else(PoisonError::into_inner);
        (learnt.texts, learnt.bytes) = (learnt.texts + 1, learnt.bytes + text.len());
        if learnt.texts > LEARNT_MAX || learnt.bytes > LEARNT_BYTES_MAX {
            let message = "functions make too much of secrets for it to be kept out of records";
            return Err(Fault { code: "PL606", message: message.to_owned() });
        }
        learnt.redactor = mem::take(&mut learnt.redactor).with(&ApiKey::new(text));
        Ok(())
    }
}
