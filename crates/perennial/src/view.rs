//! What a host is shown of results that are large (YR-65). Documents always read the whole value.

use std::borrow::Cow;

use perennial_core::{Digest, Timestamp};
use serde_json::{Value, json};

/// A text with more bytes is cut to as many characters.
const TEXT_BYTES_MAX: usize = 100_000;
/// A result with more bytes, as JSON, is told of and not shown.
const RESULT_BYTES_MAX: usize = 10_000_000;

/// A result as it is shown: what is large is cut. [`full`](Self::full) has all of it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// let outcome = run.outcome().await?;
/// let view = outcome.shown("a").expect("the step gave something");
/// assert_eq!(*view.shown(), *view.full()); // it is small
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let outcome = run.outcome().await?;
    /// assert_eq!(outcome.shown("a").unwrap().full(), &1);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn full(&self) -> &'a Value {
        self.full
    }

    /// The value for looking at: a text at its top, or in a field of it, that is longer than 100,000 bytes is cut to
    /// 100,000 characters and says so; in place of a value of more than 10,000,000 bytes stands what it is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let step = serde_json::json!({"name": "a", "type": "echo", "value": "{{ inputs.text }}"});
    /// let start = StartPipeline::step(&step).input("text", "ä".repeat(60_000)).mode(ProviderMode::Mock);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// let view = outcome.shown("a").expect("the step gave something");
    /// // 120,000 bytes, but no more than 100,000 characters.
    /// assert_eq!(*view.shown(), *view.full());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
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
