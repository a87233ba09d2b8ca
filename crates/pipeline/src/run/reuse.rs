//! Results of calls that are kept for later runs, and taken instead of making the call (1.7).
//!
//! A kept result is found by what it was made of: the step as it is written, the provider, and the
//! whole request, or what the step names as `key` in its place. So a changed step, another model or a
//! mock's other script never meets a result that was made without it. Only what succeeded is kept.
//! What somebody asked to have made anew takes nothing that was kept, and keeps what it makes.

use perennial_core::{Digest, FailureClass, failure::Failure, llm::ChatRequest};
use perennial_engine::AttemptCx;
use serde_json::{Value, json};

use super::{PipelineRun, failure::stopped, record, scope::Scope};
use crate::{
    definition::{Cache, Chat, Step},
    expression::Names,
};

/// Where the result of a call is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<'a> {
    cache: &'a Cache,
    key: Digest,
    /// It is asked anew: what is kept is not taken.
    anew: bool,
}

impl PipelineRun {
    /// Where the result of `request` is kept, when it is to be.
    ///
    /// # Errors
    ///
    /// When its key has no value, or an empty one, or it has no provider.
    pub(super) fn kept<'a>(
        &self,
        step: &'a Step,
        chat: &Chat,
        request: &ChatRequest,
        scope: &Scope<'_>,
    ) -> Result<Option<Kept<'a>>, Failure> {
        let Some(cache) = &step.cache else { return Ok(None) };
        let of = match &cache.key {
            None => json!({ "request": request.digest() }),
            Some(template) => {
                let key = template.text(scope).map_err(|stop| stopped(&stop))?;
                if key.trim().is_empty() {
                    let text = "the key of `cache` is empty: all results would be the same";
                    return Err(Failure::new(FailureClass::Expression, "PL605", text));
                }
                json!({ "key": key, "model": request.model })
            }
        };
        let provider = self.provider_of(chat.provider, &step.name, scope)?;
        let step = serde_json::to_value(step).map_err(|error| {
            Failure::new(FailureClass::Internal, "PL699", format!("a step is no JSON: {error}"))
        })?;
        let key = Digest::of_json(&json!({
            "step": step,
            "of": of,
            "provider": [provider.name(), provider.variant()],
            "mock": provider.is_mock(),
        }));
        let anew = self.settings.anew.contains(&scope.outermost());
        Ok(Some(Kept { cache, key, anew }))
    }
}

impl Kept<'_> {
    /// The record that was kept, as that of a call which cost nothing; none for what is asked anew.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written.
    pub(super) async fn take(&self, cx: &AttemptCx) -> Result<Option<Value>, Failure> {
        if self.anew {
            return Ok(None);
        }
        let found = cx.reuse(self.key).await?;
        Ok(found.map(|found| record::reused(found.value, &found.call)))
    }

    /// Keeps `record`, and says in it that it was not taken from there. What cannot be kept is
    /// warned of: the step has succeeded.
    pub(super) async fn keep(&self, cx: &AttemptCx, scope: &Scope<'_>, mut record: Value) -> Value {
        record["cached"] = json!(false);
        match cx.keep(self.key, record.clone(), self.cache.ttl()).await {
            Ok(true) => (),
            Ok(false) => scope.warn("the result is too large to be kept for later".to_owned()),
            Err(failure) => scope.warn(format!("the result was not kept: {}", failure.message)),
        }
        record
    }
}
