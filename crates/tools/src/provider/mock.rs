//! Replies that are made up: the same for the same call, whatever the day, process or machine
//! (YV-20, YV-21).
//!
//! Scripted rules come first, built-in answers after. The one exception to sameness is a *list* of
//! replies: it gives one reply per call, counted per rule since the rules were read, so that a
//! failure can be followed by a success. Calls that meet such a rule at the same time take its
//! replies in any order, and a new process starts at the first.

mod builtin;
mod instance;
mod reading;
mod rules;

use std::time::Duration;

use futures_util::stream;
use perennial_core::{
    failure::Failure,
    llm::{ChatRequest, FinishReason, Role},
};

pub use self::{
    instance::smallest_instance,
    reading::{MockProblem, MockProblemKind, MockRulesError},
    rules::MockRules,
};
use super::{CallCx, EventStream, Opening, Provider, ProviderEvent, error_table::code_of};

/// A provider whose replies are made up.
///
/// ```
/// use perennial_tools::{CallCx, MockProvider, MockRules, complete, llm::ChatRequest};
/// # use perennial_core::run::{IdempotencyKey, JobKey, RunId};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = IdempotencyKey::new("w", &RunId::parse("r1")?, "steps", &JobKey::new("draft"));
///
/// let rules = MockRules::parse(r#"{"replies": {"draft": "Dear Ada"}}"#)?;
/// let request = ChatRequest::ask("any-model", "Write a letter", 100);
/// let reply = complete(&MockProvider::claude(rules), &request, &CallCx::new(key, "draft")).await?;
/// assert_eq!(reply.text, "Dear Ada");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MockProvider {
    family: Family,
    rules: MockRules,
}

/// Whose built-in answers are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Claude,
    Gemini,
}

/// What is answered to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    outcome: Result<String, Failure>,
    cost_nano_usd: Option<u64>,
    delay: Duration,
}

impl MockProvider {
    /// A stand-in for Claude: `rules`, then Claude's built-in answers.
    ///
    /// ```
    /// use perennial_tools::{MockProvider, MockRules, Provider};
    ///
    /// let claude = MockProvider::claude(MockRules::default());
    /// assert!(claude.is_mock());
    /// assert_eq!(claude.name(), "claude");
    /// ```
    pub fn claude(rules: MockRules) -> Self {
        Self { family: Family::Claude, rules }
    }

    /// A stand-in for Gemini: `rules`, then Gemini's built-in answers.
    ///
    /// ```
    /// use perennial_tools::{MockProvider, MockRules, Provider};
    ///
    /// assert_eq!(MockProvider::gemini(MockRules::default()).name(), "gemini");
    /// ```
    pub fn gemini(rules: MockRules) -> Self {
        Self { family: Family::Gemini, rules }
    }

    fn answer(&self, request: &ChatRequest, step_path: &str) -> Answer {
        let prompt = prompt(request);
        self.rules.answer(self.name(), step_path, &prompt).unwrap_or_else(|| {
            let built_in = builtin::answer(self.family, &prompt);
            match &request.schema {
                Some(schema) => built_in.shaped(schema),
                None => built_in,
            }
        })
    }
}

impl Provider for MockProvider {
    fn name(&self) -> &'static str {
        match self.family {
            Family::Claude => "claude",
            Family::Gemini => "gemini",
        }
    }

    fn is_mock(&self) -> bool {
        true
    }

    fn variant(&self) -> String {
        self.rules.digest().to_string()
    }

    fn chat<'a>(&'a self, request: &'a ChatRequest, cx: &'a CallCx) -> Opening<'a> {
        let answer = self.answer(request, &cx.step_path);
        let model = request.model.clone();
        let ends = request.stop_sequences.clone();
        Box::pin(async move {
            if !answer.delay.is_zero() {
                tokio::time::sleep(answer.delay).await;
            }
            let mut text = answer.outcome?;
            text.truncate(end(&text, &ends));
            let events = [
                ProviderEvent::Started { request_id: None, model },
                ProviderEvent::TextDelta { index: 0, text },
                ProviderEvent::Finished {
                    reason: FinishReason::Stop,
                    cost_nano_usd: answer.cost_nano_usd,
                },
            ];
            Ok(Box::pin(stream::iter(events)) as EventStream)
        })
    }
}

/// What was asked: all of it, so that a rule that answers a question also answers its repair.
fn prompt(request: &ChatRequest) -> String {
    let asked = request.messages.iter().filter(|message| message.role == Role::User);
    asked.map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
}

/// Where the first of `ends` begins in `text`, as a model would stop there.
fn end(text: &str, ends: &[String]) -> usize {
    let found = ends.iter().filter(|end| !end.is_empty()).filter_map(|end| text.find(end.as_str()));
    found.min().unwrap_or(text.len())
}

/// A scripted failure; its code is that of its class.
fn failure(class: perennial_core::FailureClass, message: impl Into<String>) -> Failure {
    Failure::new(class, code_of(class, 0), message)
}

#[cfg(test)]
mod tests {
    use perennial_core::{
        FailureClass,
        run::{IdempotencyKey, JobKey, RunId},
    };
    use serde_json::json;

    use super::*;
    use crate::provider::complete;

    fn cx(step_path: &str) -> CallCx {
        let run = RunId::parse("r").unwrap();
        CallCx::new(IdempotencyKey::new("w", &run, "s", &JobKey::new(step_path)), step_path)
    }

    #[tokio::test(start_paused = true)]
    async fn a_mock_says_so_and_gives_text_and_price() {
        let mock = MockProvider::claude(MockRules::default());
        let request = ChatRequest::ask("claude-x", "simple test", 10);
        let completion = complete(&mock, &request, &cx("a")).await.unwrap();
        assert_eq!(completion.text, "Mock response for simple test");
        assert_eq!(completion.cost_nano_usd, Some(1_000_000));
        assert!(completion.mock);
        assert_eq!(
            (completion.provider.as_str(), completion.model.as_str()),
            ("claude", "claude-x")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_schema_the_built_in_answer_is_its_smallest_instance() {
        let rules = r#"{"replies": {"scripted": "free text"}}"#;
        let mock = MockProvider::claude(MockRules::parse(rules).unwrap());
        let schema =
            json!({"type": "object", "properties": {"n": {"minimum": 2, "type": "number"}}});
        let asked = |prompt: &str| {
            let schema = Some(schema.clone());
            ChatRequest { schema, ..ChatRequest::ask("m", prompt, 10) }
        };
        let completion = complete(&mock, &asked("hello"), &cx("a")).await.unwrap();
        assert_eq!(completion.text, r#"{"n":2}"#);
        assert_eq!(completion.cost_nano_usd, Some(1_000_000));
        let scripted = complete(&mock, &asked("scripted"), &cx("a")).await.unwrap();
        assert_eq!(scripted.text, "free text");
        assert!(complete(&mock, &asked("error test"), &cx("a")).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_fails_first_and_then_goes_on_with_its_last() {
        let text = r#"{"replies": {"fetch": [
            {"error": {"class": "overloaded", "message": "busy"}}, "one", "two"]}}"#;
        let mock = MockProvider::gemini(MockRules::parse(text).unwrap());
        let request = ChatRequest::ask("m", "anything", 10);
        let cx = cx("outer/fetch[2]");
        let first = complete(&mock, &request, &cx).await.unwrap_err();
        assert_eq!((first.class, first.code.as_str()), (FailureClass::Overloaded, "PL703"));
        for text in ["one", "two", "two"] {
            assert_eq!(complete(&mock, &request, &cx).await.unwrap().text, text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_counts_against_the_deadline() {
        let mut cx = cx("a");
        let text = r#"{"replies": {"": {"text": "late", "delay_ms": 2000}}}"#;
        let mock = MockProvider::claude(MockRules::parse(text).unwrap());
        let request = ChatRequest::ask("m", "anything", 10);
        cx.within = Duration::from_millis(1999);
        let failure = complete(&mock, &request, &cx).await.unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Timeout, "PL701"));
        cx.within = Duration::from_millis(2001);
        assert_eq!(complete(&mock, &request, &cx).await.unwrap().text, "late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_ends_before_the_first_stop_sequence() {
        let rules = r#"{"replies": {"scripted": "one two three"}}"#;
        let mock = MockProvider::claude(MockRules::parse(rules).unwrap());
        for (prompt, ends, text) in [
            ("scripted", &["three", " two", ""][..], "one"),
            ("scripted", &["four"][..], "one two three"),
            ("simple test", &["for"][..], "Mock response "),
        ] {
            let mut request = ChatRequest::ask("m", prompt, 10);
            request.stop_sequences = ends.iter().map(|end| (*end).to_owned()).collect();
            let completion = complete(&mock, &request, &cx("a")).await.unwrap();
            assert_eq!((completion.text.as_str(), completion.finish), (text, FinishReason::Stop));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_reply_is_a_failure() {
        let text = r#"{"replies": {"": ""}}"#;
        let mock = MockProvider::claude(MockRules::parse(text).unwrap());
        let request = ChatRequest::ask("m", "anything", 10);
        let failure = complete(&mock, &request, &cx("a")).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.message.as_str()),
            (FailureClass::Permanent, "Empty response")
        );
    }
}
