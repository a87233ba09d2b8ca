//! One call to a language model: request, journaled reply, record (2.0).

use perennial_core::{
    FailureClass,
    failure::Failure,
    llm::{ChatMessage, ChatRequest, Completion, FinishReason, Role, Sampling, ToolRules},
};
use perennial_engine::AttemptCx;
use perennial_tools::provider::{CallCx, complete};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    PipelineRun, failure::stopped, record, repair::Reply, scope::Scope, settings::BuiltPrompt,
};
use crate::{
    definition::{Chat, Step},
    expression::{Names, Template},
};

impl PipelineRun {
    /// Makes the call of `step`, or takes its recorded reply.
    ///
    /// # Errors
    ///
    /// A value that is missing, the failure of the exchange, or a reply that is of no use.
    pub(super) async fn call(
        &self,
        step: &Step,
        chat: &Chat,
        cx: &AttemptCx,
        scope: &Scope<'_>,
    ) -> Result<Value, Failure> {
        let request = self.request(step, chat, cx, scope).await?;
        let kept = self.kept(step, chat, &request, scope)?;
        if let Some(kept) = &kept
            && let Some(record) = kept.take(cx).await?
        {
            return Ok(record);
        }
        let first = self.exchange(step, chat, cx, &request, scope).await;
        let (request, answered) = match (first, self.fallback(chat, &request)) {
            (Err(failure), Some(request)) if is_unavailable(&failure) => {
                let (model, class) = (&request.model, failure.class.name());
                scope.warn(format!("the model was not available ({class}); `{model}` was asked"));
                // Its failure says no more than the first one, which the policies are made for.
                let second =
                    self.exchange(step, chat, cx, &request, scope).await.map_err(|_| failure);
                (request, second)
            }
            (first, _) => (request, first),
        };
        let (completion, call) = answered?;
        refuse_useless(&completion)?;
        let reply = Reply { request, completion, call, repairs: 0 };
        let reply = self.satisfying(step, chat, (cx, scope), reply).await?;
        let mut record = record::replied(&reply.completion, &reply.call, reply.request.digest());
        if step.value_schema.is_some() {
            record::add_repairs(&mut record, reply.repairs);
        }
        record::add_reports(&mut record, &chat.options, &reply.completion);
        Ok(match kept {
            Some(kept) => kept.keep(cx, scope, record).await,
            None => record,
        })
    }

    /// One call of `request`, or its recorded reply, and its name in the journal.
    pub(super) async fn exchange(
        &self,
        step: &Step,
        chat: &Chat,
        cx: &AttemptCx,
        request: &ChatRequest,
        scope: &Scope<'_>,
    ) -> Result<(Completion, String), Failure> {
        let provider = self.provider_of(chat.provider, &step.name, scope)?;
        let within = chat.options.call_within().min(step.attempt_within());
        let idle = chat.options.idle().min(within);
        let reply = cx
            .call(request.digest(), async |key| {
                let surroundings =
                    CallCx { within, idle, ..CallCx::new(key, cx.job.names().join("/")) };
                let completion = complete(&*provider, request, &surroundings).await?;
                let reply = serde_json::to_value(completion).map_err(|error| malformed(&error))?;
                Ok(match &self.secrets {
                    Some(secrets) => secrets.redacted(reply),
                    None => reply,
                })
            })
            .await?;
        let completion =
            Completion::deserialize(&reply.value).map_err(|error| malformed(&error))?;
        Ok((completion, reply.call))
    }

    /// The same request to the model that stands in for its own, when there is another.
    fn fallback(&self, chat: &Chat, request: &ChatRequest) -> Option<ChatRequest> {
        let model = self.settings.calls.resolve(chat.options.fallback_model.as_deref()?);
        (model != request.model).then(|| ChatRequest { model: model.to_owned(), ..request.clone() })
    }

    /// The request: the same for the same definition, inputs and earlier records.
    async fn request(
        &self,
        step: &Step,
        chat: &Chat,
        cx: &AttemptCx,
        scope: &Scope<'_>,
    ) -> Result<ChatRequest, Failure> {
        let calls = &self.settings.calls;
        let usual = calls.of(chat.provider);
        let options = &chat.options;
        let system: Vec<&Template> =
            [&options.system, &options.append_system].into_iter().flatten().collect();
        let prompt = self.prompt(chat, &system, scope).await?;
        let model = calls.resolve(options.model.as_deref().unwrap_or(&usual.model)).to_owned();
        let mut shown = prompt.parts.clone();
        if let Some(secrets) = &self.secrets {
            for part in &mut shown {
                part.text = secrets.redact(&part.text);
            }
        }
        self.providers.prompted(&BuiltPrompt {
            run: &cx.run,
            job: &cx.job,
            attempt: cx.attempt,
            model: &model,
            parts: &shown,
        });
        let stops = options.stop_sequences.iter().flatten();
        let stops = stops.map(|stop| stop_sequence(stop, scope));
        let request = ChatRequest {
            model,
            system: prompt.text(true),
            messages: vec![ChatMessage { role: Role::User, text: prompt.text(false) }],
            max_output: options.max_output.unwrap_or(usual.max_output),
            sampling: Sampling {
                temperature: options.temperature,
                top_p: options.top_p,
                top_k: options.top_k,
                presence_penalty: options.presence_penalty,
                frequency_penalty: options.frequency_penalty,
            },
            tools: ToolRules {
                allowed: options.allowed_tools.clone().unwrap_or_default(),
                disallowed: options.disallowed_tools.clone().unwrap_or_default(),
            },
            schema: step.value_schema.as_ref().map(|wanted| wanted.schema.0.clone()),
            stop_sequences: stops.collect::<Result<_, _>>()?,
            form: options.form.unwrap_or_default(),
        };
        fits(&request, options.max_input)?;
        Ok(request)
    }
}

/// A text that ends replies. An empty one would end each at once, and no provider takes it.
fn stop_sequence(template: &Template, scope: &Scope<'_>) -> Result<String, Failure> {
    let text = template.text(scope).map_err(|stop| stopped(&stop))?;
    if text.is_empty() {
        let text = format!("the stop sequence `{}` is empty", template.shown());
        return Err(Failure::new(FailureClass::Reference, "PL605", text));
    }
    Ok(text)
}

/// Whether the request has as few tokens as its budget says (1.8).
fn fits(request: &ChatRequest, most: Option<u32>) -> Result<(), Failure> {
    let found = request.estimated_input();
    let Some(most) = most.filter(|most| found > u64::from(*most)) else { return Ok(()) };
    let text = format!("the prompt has about {found} tokens; `max_input_tokens` allows {most}");
    let detail = json!({ "reason": "context_full", "estimated_tokens": found });
    Err(Failure { detail, ..Failure::new(FailureClass::Semantic, "PL805", text) })
}

/// Whether another model may answer: this one has too much to do, or is not there.
fn is_unavailable(failure: &Failure) -> bool {
    failure.class == FailureClass::Overloaded
        || (failure.class == FailureClass::Permanent && failure.detail["status"] == 404)
}

/// A complete reply may still be of no use; it stays recorded and paid.
pub(super) fn refuse_useless(completion: &Completion) -> Result<(), Failure> {
    let semantic = |code: &str, text: &str| Err(Failure::new(FailureClass::Semantic, code, text));
    match &completion.finish {
        FinishReason::Refusal => return semantic("PL710", "the model refused to answer"),
        FinishReason::ContextFull => {
            return semantic("PL805", "the conversation does not fit into the model's context");
        }
        FinishReason::MalformedToolCall => {
            return semantic("PL621", "the reply has a malformed tool call");
        }
        FinishReason::Stop
        | FinishReason::Length
        | FinishReason::ToolUse
        | FinishReason::Paused
        | FinishReason::Other(_) => (),
    }
    if completion.text.trim().is_empty() {
        return Err(Failure::new(FailureClass::Permanent, "PL705", "Empty response"));
    }
    Ok(())
}

fn malformed(error: &serde_json::Error) -> Failure {
    let text = format!("the recorded reply is malformed: {error}");
    Failure::new(FailureClass::Internal, "PL699", text)
}
