//! The neutral model of one call to a language model.
//!
//! Only what this version sends and reads; fields are added, never given another meaning.

mod price;
mod spending;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::{
    price::{InvalidPrice, Price},
    spending::{Spending, Spent},
};
use crate::Digest;

/// One request, in the words of no provider.
///
/// ```
/// use perennial_core::llm::{ChatRequest, Sampling};
///
/// let asked = ChatRequest {
///     system: "You write letters.".to_owned(),
///     sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
///     ..ChatRequest::ask("any-model", "Write to Ada", 500)
/// };
/// assert_eq!(asked.messages[0].text, "Write to Ada");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model as the provider names it; aliases are resolved before.
    pub model: String,
    /// System text; empty for none.
    #[serde(default)]
    pub system: String,
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Most tokens the reply may have.
    pub max_output: u32,
    /// Absent means the provider's own default.
    #[serde(default, skip_serializing_if = "Sampling::is_default")]
    pub sampling: Sampling,
    /// Tools the model may and may not use, where the provider has any.
    #[serde(default, skip_serializing_if = "ToolRules::is_silent")]
    pub tools: ToolRules,
    /// What the reply's JSON has to satisfy, for providers that can be told: a hint to them, never
    /// a proof (SO-2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Texts before the first of which the reply ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<String>,
    /// What the reply is, when it is to be no free text.
    #[serde(default, skip_serializing_if = "ReplyForm::is_text")]
    pub form: ReplyForm,
}

/// What a provider is told a reply has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyForm {
    /// Any text.
    #[default]
    Text,
    /// JSON, of whatever shape.
    Json,
}

impl ReplyForm {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// Which tools of a provider a call may use; denial wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRules {
    /// The only ones, when it names any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Never these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disallowed: Vec<String>,
}

impl ToolRules {
    /// Whether nothing is said about tools.
    pub fn is_silent(&self) -> bool {
        self.allowed.is_empty() && self.disallowed.is_empty()
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The caller.
    User,
    /// The model.
    Assistant,
}

/// How the reply is drawn; what is absent is left to the provider, never made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Randomness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Candidates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Against words that are there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Against words that are there often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
}

impl Sampling {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl ChatRequest {
    /// A single question.
    ///
    /// ```
    /// use perennial_core::llm::{ChatRequest, Role};
    ///
    /// let asked = ChatRequest::ask("any-model", "Write to Ada", 500);
    /// assert_eq!((asked.messages.len(), asked.messages[0].role), (1, Role::User));
    /// ```
    pub fn ask(model: impl Into<String>, prompt: impl Into<String>, max_output: u32) -> Self {
        Self {
            model: model.into(),
            system: String::new(),
            messages: vec![ChatMessage { role: Role::User, text: prompt.into() }],
            max_output,
            sampling: Sampling::default(),
            tools: ToolRules::default(),
            schema: None,
            stop_sequences: Vec::new(),
            form: ReplyForm::Text,
        }
    }

    /// How many tokens its texts probably are: a third of their bytes, rounded up (ANT-11).
    pub fn estimated_input(&self) -> u64 {
        let texts = self.messages.iter().map(|message| message.text.len());
        let bytes = texts.fold(self.system.len(), usize::saturating_add);
        u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(3)
    }

    /// The digest that names this request in the journal, in caches and in cassettes.
    ///
    /// ```
    /// use perennial_core::llm::ChatRequest;
    ///
    /// let asked = |prompt| ChatRequest::ask("any-model", prompt, 500).digest();
    /// assert_eq!(asked("hello"), asked("hello"));
    /// assert_ne!(asked("hello"), asked("hello!"));
    /// ```
    ///
    /// # Panics
    ///
    /// Never: a request has no key that is not a string.
    pub fn digest(&self) -> Digest {
        Digest::of_json(&serde_json::to_value(self).expect("a request is plain data"))
    }
}

/// A number of tokens that may be unknown; unknown is not zero (PRV-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub Option<u64>);

impl From<u64> for Tokens {
    fn from(count: u64) -> Self {
        Self(Some(count))
    }
}

/// What a call used. `input` includes cached tokens, `reasoning` is part of `output` (PRV-11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, cached ones included.
    pub input: Tokens,
    /// Of those, read from a cache.
    pub cache_read: Tokens,
    /// Of those, written to a cache.
    pub cache_write: Tokens,
    /// Tokens written.
    pub output: Tokens,
    /// Of those, spent on reasoning.
    pub reasoning: Tokens,
}

impl Usage {
    /// Input and output together, when both are known.
    pub fn total(&self) -> Tokens {
        Tokens(self.input.0.zip(self.output.0).map(|(input, output)| input + output))
    }
}

/// Why a reply ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was complete.
    Stop,
    /// The limit of output tokens was reached.
    Length,
    /// The model wants a tool called.
    ToolUse,
    /// The model, or a filter, refused.
    Refusal,
    /// To be continued by sending the reply back.
    Paused,
    /// The conversation no longer fits.
    ContextFull,
    /// Arguments of a tool call that are not one JSON object.
    MalformedToolCall,
    /// Something newer than this version.
    Other(String),
}

impl FinishReason {
    /// The neutral name, or the provider's own for what is unknown.
    pub fn name(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolUse => "tool_use",
            Self::Refusal => "refusal",
            Self::Paused => "paused",
            Self::ContextFull => "context_full",
            Self::MalformedToolCall => "malformed_tool_call",
            Self::Other(raw) => raw,
        }
    }
}

/// One complete reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Its text; texts of several blocks are joined by a newline.
    pub text: String,
    /// The model as reported.
    pub model: String,
    /// The provider's name.
    pub provider: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// What it used.
    pub usage: Usage,
    /// Price in nano-dollars, when known (PRV-13).
    pub cost_nano_usd: Option<u64>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// Whether a mock made it up.
    pub mock: bool,
}

impl Completion {
    /// The price in dollars, when known.
    pub fn cost_usd(&self) -> Option<f64> {
        self.cost_nano_usd.map(dollars)
    }

    /// `usage` as the language shows it: numbers or null, never a made-up zero.
    pub fn usage_json(&self) -> Value {
        json!({
            "input_tokens": self.usage.input,
            "output_tokens": self.usage.output,
            "cached_tokens": self.usage.cache_read,
            "total_tokens": self.usage.total(),
        })
    }
}

/// Nano-dollars as dollars.
#[expect(clippy::cast_precision_loss, reason = "a price for people; 2^53 nano-dollars are 9 M$")]
fn dollars(nano: u64) -> f64 {
    nano as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_requests_have_equal_digests_and_every_field_counts() {
        let request = ChatRequest::ask("m", "hello", 100);
        assert_eq!(request.digest(), request.clone().digest());
        let mut other = request.clone();
        other.max_output = 101;
        assert_ne!(request.digest(), other.digest());
        let more: [fn(&mut ChatRequest); 4] = [
            |request| request.stop_sequences.push("END".to_owned()),
            |request| request.form = ReplyForm::Json,
            |request| request.sampling.presence_penalty = Some(0.0),
            |request| request.sampling.frequency_penalty = Some(0.0),
        ];
        for change in more {
            let mut other = request.clone();
            change(&mut other);
            assert_ne!(request.digest(), other.digest(), "{other:?}");
            let read = serde_json::from_value(serde_json::to_value(&other).unwrap()).unwrap();
            assert_eq!(other, read);
        }
    }

    #[test]
    fn tokens_are_estimated_from_bytes_of_all_texts() {
        let mut request = ChatRequest::ask("m", "é", 100);
        assert_eq!(request.estimated_input(), 1);
        request.system = "ab".to_owned();
        assert_eq!(request.estimated_input(), 2);
        request.messages.push(ChatMessage { role: Role::Assistant, text: "abc".to_owned() });
        assert_eq!(request.estimated_input(), 3);
    }

    #[test]
    fn unknown_usage_stays_unknown() {
        let usage = Usage { input: 5.into(), ..Usage::default() };
        assert_eq!(usage.total(), Tokens(None));
        assert_eq!(serde_json::to_value(usage).unwrap()["output"], Value::Null);
    }
}
