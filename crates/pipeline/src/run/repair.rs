//! Values that have to satisfy a schema, and replies that are asked for once more when they do not (YR-66, YR-67).

use perennial_core::{
    FailureClass,
    failure::Failure,
    llm::{ChatMessage, ChatRequest, Completion, FinishReason, Role, Tokens, Usage},
};
use perennial_engine::AttemptCx;
use serde_json::{Value, json};

use super::{
    PipelineRun, call::refuse_useless, prompt::PartText, record, scope::Scope,
    settings::BuiltPrompt,
};
use crate::{
    definition::{Chat, Step, ValueSchema},
    schemas::{self, Violation},
};

/// A reply that is to be kept, and what it took to get it.
#[derive(Debug)]
pub(super) struct Reply {
    /// The request that it answers.
    pub(super) request: ChatRequest,
    /// Its text, with the price and the usage of all calls.
    pub(super) completion: Completion,
    /// The name of its call in the journal.
    pub(super) call: String,
    /// Calls beyond the first.
    pub(super) repairs: u32,
}

/// Why no further repair is asked for, although one is left.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// The reply was cut off.
    Length,
    /// It is the same as the one before.
    Stuck,
}

impl Ended {
    /// Its name, and a line for people.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Length => ("length", "The reply was cut off: it has as many tokens as it may."),
            Self::Stuck => ("stuck", "The model gave the same reply again."),
        }
    }
}

impl PipelineRun {
    /// `reply`, or one that was asked for because it does not satisfy the schema of `step`.
    ///
    /// A repair is a call as any other: journaled, paid, inside the deadline of the attempt. A reply that was cut
    /// off, or is the same as the one before, ends them (SO-4, SO-6).
    ///
    /// # Errors
    ///
    /// The failure of a repair, or PL608 with everything that is wrong with the last reply.
    ///
    /// # Cancel safety
    ///
    /// Replies that were recorded are taken again by the next attempt; a call under way is lost.
    pub(super) async fn satisfying(
        &self,
        step: &Step,
        chat: &Chat,
        (cx, scope): (&AttemptCx, &Scope<'_>),
        mut reply: Reply,
    ) -> Result<Reply, Failure> {
        let Some(wanted) = &step.value_schema else { return Ok(reply) };
        let asked = reply.request.clone();
        loop {
            let found = of_reply(wanted, &reply.completion.text)?;
            if found.is_empty() {
                return Ok(reply);
            }
            let cut = reply.completion.finish == FinishReason::Length;
            if cut || reply.repairs >= wanted.max_repairs {
                return Err(refused(step, &found, Some(&reply), cut.then_some(Ended::Length)));
            }
            let request = repair(&asked, &reply.completion.text, step, &found, wanted);
            self.show_repair(&request, cx);
            let (next, call) = self.exchange(step, chat, cx, &request, scope).await?;
            refuse_useless(&next)?;
            let same = next.text == reply.completion.text;
            let completion = added(next, &reply.completion);
            reply = Reply { request, completion, call, repairs: reply.repairs + 1 };
            if same {
                return Err(refused(step, &found, Some(&reply), Some(Ended::Stuck)));
            }
        }
    }

    fn show_repair(&self, request: &ChatRequest, cx: &AttemptCx) {
        let mut text = request.messages.last().map(|last| last.text.clone()).unwrap_or_default();
        if let Some(secrets) = &self.secrets {
            text = secrets.redact(&text);
        }
        self.providers.prompted(&BuiltPrompt {
            run: &cx.run,
            job: &cx.job,
            attempt: cx.attempt,
            model: &request.model,
            parts: &[PartText { kind: "repair", system: false, text }],
        });
    }
}

impl Step {
    /// Whether the value of `record` is what the step asks for; calls to models have been asked before.
    ///
    /// # Errors
    ///
    /// PL608 with everything that is wrong with it.
    pub(super) fn accept(&self, record: &Value) -> Result<(), Failure> {
        let Some(wanted) = &self.value_schema else { return Ok(()) };
        let value = schemas::subject(record);
        let found = schemas::violations(&wanted.schema.0, &value).map_err(no_schema)?;
        if found.is_empty() { Ok(()) } else { Err(refused(self, &found, None, None)) }
    }
}

/// What is wrong with the data of a reply; text that is no JSON has none.
fn of_reply(wanted: &ValueSchema, text: &str) -> Result<Vec<Violation>, Failure> {
    match record::parsed(text) {
        Some(data) => schemas::violations(&wanted.schema.0, &data).map_err(no_schema),
        None => Ok(vec![Violation::of_root("The reply is not JSON")]),
    }
}

/// The question once more, with the reply, what is wrong with it, and the schema.
fn repair(
    asked: &ChatRequest,
    text: &str,
    step: &Step,
    found: &[Violation],
    wanted: &ValueSchema,
) -> ChatRequest {
    let report = schemas::report(&step.name, found);
    let schema = &wanted.schema.0;
    let text_back = format!(
        "{report}\n\nThe reply has to satisfy this JSON Schema:\n{schema:#}\n\nReply with the corrected JSON and \
         nothing else."
    );
    let mut messages = asked.messages.clone();
    messages.push(ChatMessage { role: Role::Assistant, text: text.to_owned() });
    messages.push(ChatMessage { role: Role::User, text: text_back });
    ChatRequest { messages, ..asked.clone() }
}

/// `next`, with what was spent before it.
fn added(next: Completion, before: &Completion) -> Completion {
    let sum = |one: Tokens, other: Tokens| {
        Tokens(one.0.zip(other.0).map(|(one, other)| one.saturating_add(other)))
    };
    let (one, other) = (next.usage, before.usage);
    let costs = next.cost_nano_usd.zip(before.cost_nano_usd);
    Completion {
        usage: Usage {
            input: sum(one.input, other.input),
            cache_read: sum(one.cache_read, other.cache_read),
            cache_write: sum(one.cache_write, other.cache_write),
            output: sum(one.output, other.output),
            reasoning: sum(one.reasoning, other.reasoning),
        },
        cost_nano_usd: costs.map(|(one, other)| one.saturating_add(other)),
        ..next
    }
}

/// The failure of a value that is not what was asked for (SO-5).
fn refused(
    step: &Step,
    found: &[Violation],
    reply: Option<&Reply>,
    ended: Option<Ended>,
) -> Failure {
    let mut text = schemas::report(&step.name, found);
    let violations: Vec<Value> = found.iter().map(Violation::to_json).collect();
    let mut detail = json!({ "reason": "schema", "violations": violations });
    if let Some(Reply { completion, call, repairs, .. }) = reply {
        detail["repairs"] = json!(repairs);
        detail["call_id"] = json!(call);
        detail["cost"] = json!(completion.cost_usd());
        detail["usage"] = completion.usage_json();
    }
    if let Some(ended) = ended {
        let (name, line) = ended.words();
        detail["ended_by"] = json!(name);
        text = format!("{text}\n{line}");
    }
    Failure { detail, ..Failure::new(FailureClass::Semantic, "PL608", text) }
}

/// A schema that is none would have been refused when the document was read.
fn no_schema(error: String) -> Failure {
    let text = format!("the schema of the definition is none: {error}");
    Failure::new(FailureClass::Internal, "PL699", text)
}
