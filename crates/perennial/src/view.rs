//! What a host is shown of results that are large (YR-65). Documents always read the whole value.

use std::borrow::Cow;

use perennial_core::{Digest, Timestamp};
use serde_json::{Value, json};

/// A text with more bytes is cut to as many characters.
const TEXT_BYTES_MAX: usize = 100_000;
/// A result with more bytes, as JSON, is told of and not shown.
const RESULT_BYTES_MAX: usize = 10_000_000;

/// A result as it is shown: what is large is cut. [`full`](Self::full) has all of it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    step: &'a str,
    full: &'a Value,
    created_at: Option<Timestamp>,
}

impl<'a> View<'a> {
    /// The view of what `step` gave at an instant.
    pub(crate) fn new(step: &'a str, full: &'a Value, created_at: Option<Timestamp>) -> Self {
        Self { step, full, created_at }
    }

    /// The whole value.
    pub fn full(&self) -> &'a Value {
        self.full
    }

    /// The value for looking at: a text at its top, or in a field of it, that is longer than 100,000 bytes is cut to
    /// 100,000 characters and says so; in place of a value of more than 10,000,000 bytes stands what it is.
    pub fn shown(&self) -> Cow<'a, Value> {
        let bytes = self.full.to_string().len();
        if bytes > RESULT_BYTES_MAX {
            return Cow::Owned(self.told(bytes));
        }
        if let Some(text) = self.full.as_str().and_then(cut) {
            return Cow::Owned(text.into());
        }
        let mut shown = Cow::Borrowed(self.full);
        for (name, field) in self.full.as_object().into_iter().flatten() {
            if let Some(text) = field.as_str().and_then(cut) {
                shown.to_mut()[name] = text.into();
            }
        }
        shown
    }

    fn told(&self, bytes: usize) -> Value {
        let id = Digest::of_json(self.full).short();
        let kind = if self.full.is_object() {
            "map"
        } else if self.full.is_array() {
            "list"
        } else {
            "string"
        };
        json!({
            "success": true,
            "type": "stream",
            "stream_id": id,
            "stream_info": {
                "id": id,
                "source_step": self.step,
                "data_type": kind,
                "created_at": self.created_at,
                "metadata": {"bytes": bytes},
            },
        })
    }
}

/// The beginning of a text that is too long. One of few but long characters is shown whole.
fn cut(text: &str) -> Option<String> {
    if text.len() <= TEXT_BYTES_MAX {
        return None;
    }
    let (end, _) = text.char_indices().nth(TEXT_BYTES_MAX)?;
    Some(format!("{}... [TRIMMED: {} bytes total]", &text[..end], text.len()))
}
