//! What the server can be told to answer.

use std::time::Duration;

use serde_json::json;

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeReply {
    pub(super) what: What,
    pub(super) delay: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// `reply to: <first 60 characters of the prompt>`.
    Echo,
    /// A reply, ending with `stop_reason`.
    Text { text: String, stop_reason: String },
    /// A plain answer of HTTP.
    Status { status: u16, headers: Vec<(String, String)>, body: String },
    /// Half the text, then an end that is none.
    Broken { text: String, end: BrokenEnd },
    /// A 200 with these bytes as its event stream.
    Raw { bytes: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BrokenEnd {
    /// An `error` event of this type.
    Error(String),
    /// The connection breaks.
    Cut,
    /// Nothing more comes.
    Stall,
    /// The body ends, well formed, before the last event.
    Early,
}

impl FakeReply {
    fn new(what: What) -> Self {
        Self { what, delay: Duration::ZERO }
    }

    /// `reply to: ` and the first 60 characters of the prompt.
    pub fn echo() -> Self {
        Self::new(What::Echo)
    }

    /// This text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(What::Text { text: text.into(), stop_reason: "end_turn".to_owned() })
    }

    /// The same text, ended for another reason, for example `max_tokens`.
    ///
    /// # Panics
    ///
    /// When this is no text.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        match &mut self.what {
            What::Text { stop_reason, .. } => *stop_reason = reason.into(),
            What::Echo | What::Status { .. } | What::Broken { .. } | What::Raw { .. } => {
                panic!("only a text ends for a reason")
            }
        }
        self
    }

    /// An answer with this status and body.
    pub fn status(status: u16, body: impl Into<String>) -> Self {
        Self::new(What::Status { status, headers: Vec::new(), body: body.into() })
    }

    /// An error as the API words it.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        let error = json!({"type": "error", "error": {"type": kind, "message": message}});
        Self::status(status, error.to_string()).header("content-type", "application/json")
    }

    /// 529.
    pub fn overloaded() -> Self {
        Self::error(529, "overloaded_error", "Overloaded")
    }

    /// 429, with `retry-after` in seconds when it is told.
    pub fn rate_limited(retry_after: Option<&str>) -> Self {
        let reply = Self::error(429, "rate_limit_error", "Too many requests");
        match retry_after {
            Some(told) => reply.header("retry-after", told),
            None => reply,
        }
    }

    /// 429 because a spending limit is reached.
    pub fn spend_cap() -> Self {
        let details = json!({"error_code": "enforced_spend_limit_reached"});
        let error = json!({"type": "rate_limit_error", "message": "Spent", "details": details});
        Self::status(429, json!({"type": "error", "error": error}).to_string())
    }

    /// The same with a header.
    ///
    /// # Panics
    ///
    /// When this is no answer with a status.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        match &mut self.what {
            What::Status { headers, .. } => headers.push((name.into(), value.into())),
            What::Echo | What::Text { .. } | What::Broken { .. } | What::Raw { .. } => {
                panic!("only an answer with a status has headers to choose")
            }
        }
        self
    }

    /// The beginning of `text`, then an error event of type `kind` inside the stream.
    pub fn error_inside(text: impl Into<String>, kind: impl Into<String>) -> Self {
        Self::broken(text, BrokenEnd::Error(kind.into()))
    }

    /// The beginning of `text`, then a broken connection.
    pub fn cut(text: impl Into<String>) -> Self {
        Self::broken(text, BrokenEnd::Cut)
    }

    /// The beginning of `text`, then nothing for ever.
    pub fn stall(text: impl Into<String>) -> Self {
        Self::broken(text, BrokenEnd::Stall)
    }

    /// The beginning of `text`, then the end of the body without a last event.
    pub fn early_end(text: impl Into<String>) -> Self {
        Self::broken(text, BrokenEnd::Early)
    }

    /// Status 200 and these bytes as an event stream.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(What::Raw { bytes: bytes.into() })
    }

    /// The same, this much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn broken(text: impl Into<String>, end: BrokenEnd) -> Self {
        Self::new(What::Broken { text: text.into(), end })
    }
}
