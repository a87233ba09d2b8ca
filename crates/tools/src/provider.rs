//! What a provider of language models is: one exchange, one stream of events.
//!
//! An adapter performs exactly one exchange per call (PRV-14): it never retries, sleeps or falls
//! back. Retry belongs to the attempt above it.

pub mod anthropic;
pub mod error_table;
pub mod mock;
pub mod priced;
pub mod sse;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt};
use perennial_core::{
    FailureClass,
    failure::Failure,
    llm::{ChatRequest, Completion, FinishReason, Usage},
    run::IdempotencyKey,
};
use tracing::{Instrument, field};

/// The events of one call. Dropping it aborts the exchange (PRV-15).
pub type EventStream = Pin<Box<dyn Stream<Item = ProviderEvent> + Send>>;

/// The future of opening a call.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<EventStream, Failure>> + Send + 'a>>;

/// What surrounds a call.
///
/// ```
/// use perennial_core::run::{IdempotencyKey, JobKey, RunId};
/// use perennial_tools::CallCx;
/// use std::time::Duration;
///
/// let key = IdempotencyKey::new("w", &RunId::parse("r1")?, "steps", &JobKey::new("a"));
/// let cx = CallCx { within: Duration::from_secs(30), ..CallCx::new(key, "a") };
/// assert_eq!(cx.idle, Duration::from_secs(60));
/// # Ok::<(), perennial_core::run::InvalidRunId>(())
/// ```
#[derive(Clone, Debug)]
pub struct CallCx {
    /// What the other side can recognise a repetition by.
    pub idempotency_key: IdempotencyKey,
    /// Which step asks, for scripted replies and cassettes; never part of the request.
    pub step_path: String,
    /// How long the whole call may take.
    pub within: Duration,
    /// How long the other side may be silent.
    pub idle: Duration,
}

impl CallCx {
    /// A call of `step_path` with the language's defaults: 5 minutes, 60 seconds of silence.
    pub fn new(idempotency_key: IdempotencyKey, step_path: impl Into<String>) -> Self {
        Self {
            idempotency_key,
            step_path: step_path.into(),
            within: Duration::from_secs(300),
            idle: Duration::from_secs(60),
        }
    }
}

/// One event of a call. Exactly one of `Finished` and `Failed` comes, and nothing follows (PRV-7).
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderEvent {
    /// The reply has begun.
    Started {
        /// The provider's id of the request.
        request_id: Option<String>,
        /// The model as reported.
        model: String,
    },
    /// A piece of text of the block `index`.
    TextDelta {
        /// Which block.
        index: u32,
        /// The piece.
        text: String,
    },
    /// Cumulative usage; the last one counts (PRV-12).
    Usage(Usage),
    /// The other side is alive.
    Heartbeat,
    /// The reply is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// Its price, when the provider itself knows it.
        cost_nano_usd: Option<u64>,
    },
    /// The reply will not be completed.
    Failed(Failure),
}

/// What a host or Perennial offers as a provider.
///
/// ```
/// use perennial_core::{FailureClass, failure::Failure, llm::FinishReason, run::{IdempotencyKey, JobKey, RunId}};
/// use perennial_tools::{CallCx, EventStream, Provider, ProviderEvent, complete, llm::ChatRequest};
/// use perennial_tools::provider::Opening;
///
/// /// Says back what it was asked.
/// #[derive(Debug)]
/// struct Echo;
///
/// impl Provider for Echo {
///     fn name(&self) -> &str {
///         "echo"
///     }
///
///     fn chat<'a>(&'a self, request: &'a ChatRequest, _cx: &'a CallCx) -> Opening<'a> {
///         Box::pin(async move {
///             let Some(last) = request.messages.last() else {
///                 // Its class decides whether the attempt is made again.
///                 return Err(Failure::new(FailureClass::Permanent, "APP1", "nothing was asked"));
///             };
///             let events = [
///                 ProviderEvent::Started { request_id: None, model: request.model.clone() },
///                 ProviderEvent::TextDelta { index: 0, text: last.text.clone() },
///                 ProviderEvent::Finished { reason: FinishReason::Stop, cost_nano_usd: Some(0) },
///             ];
///             Ok(Box::pin(futures_util::stream::iter(events)) as EventStream)
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = IdempotencyKey::new("w", &RunId::parse("r1")?, "steps", &JobKey::new("a"));
/// let reply = complete(&Echo, &ChatRequest::ask("m", "hello", 100), &CallCx::new(key, "a")).await?;
/// assert_eq!(reply.text, "hello");
/// # Ok(())
/// # }
/// ```
pub trait Provider: Send + Sync + fmt::Debug + 'static {
    /// Its name, for example `anthropic`.
    fn name(&self) -> &str;

    /// Whether its replies are made up.
    fn is_mock(&self) -> bool {
        false
    }

    /// What tells its replies from those of another provider of its name, such as the script of a
    /// mock. A reply that is kept is never given for one of another provider or variant.
    fn variant(&self) -> String {
        String::new()
    }

    /// Opens one exchange.
    ///
    /// # Errors
    ///
    /// When the other side refused before a reply began; later failures are events.
    fn chat<'a>(&'a self, request: &'a ChatRequest, cx: &'a CallCx) -> Opening<'a>;
}

/// Makes one call and collects its reply, inside the deadlines of `cx`.
///
/// ```
/// use perennial_tools::{CallCx, MockProvider, MockRules, complete, llm::ChatRequest};
/// # use perennial_core::run::{IdempotencyKey, JobKey, RunId};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = IdempotencyKey::new("w", &RunId::parse("r1")?, "steps", &JobKey::new("draft"));
///
/// let rules = MockRules::parse(r#"{"replies": {"": {"error": {"class": "overloaded", "message": "later"}}}}"#)?;
/// let request = ChatRequest::ask("any-model", "Write a letter", 100);
/// let failure = complete(&MockProvider::claude(rules), &request, &CallCx::new(key, "draft")).await.unwrap_err();
/// assert!(failure.class.is_retryable()); // by the attempt; a provider never tries again itself
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The failure of the exchange; a deadline is class `timeout` (whole call) or `interrupted`
/// (silence); a reply with neither text nor a reason to be empty is class `permanent`.
///
/// # Cancel safety
///
/// Dropping the future aborts the exchange; the other side may have done the work.
pub async fn complete(
    provider: &dyn Provider,
    request: &ChatRequest,
    cx: &CallCx,
) -> Result<Completion, Failure> {
    // One span per call (YM-13): no prompt, no reply, and unknown numbers are absent.
    let span = tracing::info_span!(
        "llm_call",
        step_path = %cx.step_path,
        provider = provider.name(),
        model = %request.model,
        tokens = field::Empty,
        cost_nano_usd = field::Empty,
        error = field::Empty,
    );
    let collected = tokio::time::timeout(cx.within, collect(provider, request, cx));
    let outcome = match collected.instrument(span.clone()).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(
            FailureClass::Timeout,
            "PL701",
            format!("timeout: no complete reply within {} ms", cx.within.as_millis()),
        )),
    };
    match &outcome {
        Ok(completion) => {
            span.record("model", completion.model.as_str());
            span.record("tokens", completion.usage.total().0);
            span.record("cost_nano_usd", completion.cost_nano_usd);
        }
        Err(failure) => {
            span.record("error", failure.class.name());
        }
    }
    outcome
}

async fn collect(
    provider: &dyn Provider,
    request: &ChatRequest,
    cx: &CallCx,
) -> Result<Completion, Failure> {
    let mut events = provider.chat(request, cx).await?;
    let mut blocks: Vec<(u32, String)> = Vec::new();
    let mut completion = Completion {
        text: String::new(),
        model: request.model.clone(),
        provider: provider.name().to_owned(),
        finish: FinishReason::Stop,
        usage: Usage::default(),
        cost_nano_usd: None,
        request_id: None,
        mock: provider.is_mock(),
    };
    loop {
        let next = tokio::time::timeout(cx.idle, events.next())
            .await
            .map_err(|_| interrupted(format!("no event for {} ms", cx.idle.as_millis())))?;
        match next {
            None => return Err(interrupted("the stream ended without its last event".to_owned())),
            Some(ProviderEvent::Started { request_id, model }) => {
                completion.request_id = request_id;
                completion.model = model;
            }
            Some(ProviderEvent::TextDelta { index, text }) => {
                match blocks.iter_mut().find(|(block, _)| *block == index) {
                    Some((_, so_far)) => so_far.push_str(&text),
                    None => blocks.push((index, text)),
                }
            }
            Some(ProviderEvent::Usage(usage)) => completion.usage = usage,
            Some(ProviderEvent::Heartbeat) => (),
            Some(ProviderEvent::Finished { reason, cost_nano_usd }) => {
                completion.finish = reason;
                completion.cost_nano_usd = cost_nano_usd;
                break;
            }
            Some(ProviderEvent::Failed(failure)) => return Err(failure),
        }
    }
    blocks.sort_by_key(|(block, _)| *block);
    let texts: Vec<String> = blocks.into_iter().map(|(_, text)| text).collect();
    completion.text = texts.join("\n");
    // Every other reason explains why there is no text.
    let unexplained = completion.finish == FinishReason::Stop;
    if completion.text.is_empty() && unexplained {
        return Err(Failure::new(FailureClass::Permanent, "PL705", "Empty response"));
    }
    Ok(completion)
}

fn interrupted(message: String) -> Failure {
    Failure::new(FailureClass::Interrupted, "PL708", message)
}

#[cfg(test)]
mod tests;
