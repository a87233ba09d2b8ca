//! One exchange: sends the request, checks the answer, and turns its bytes into events.

use std::{collections::VecDeque, error::Error, time::Duration};

use futures_util::stream;
use perennial_core::{FailureClass, failure::Failure};
use reqwest::{Response, header::HeaderMap};

use super::{Anthropic, reading::Reading};
use crate::{
    provider::{
        CallCx, EventStream, ProviderEvent,
        error_table::{Answer, AnswerHeaders, Position, classify},
        sse::{SseDecoder, SseItem},
    },
    secret::Redactor,
};

/// Most bytes of an answer that is no reply.
const ERROR_BODY_MAX: usize = 64 << 10;
/// How long such an answer may take: its status is known, its words are a courtesy.
const ERROR_BODY_WITHIN: Duration = Duration::from_secs(5);

/// Sends `body` and waits for the head of the answer.
pub(super) async fn open(
    anthropic: &Anthropic,
    body: String,
    cx: &CallCx,
) -> Result<EventStream, Failure> {
    let redactor = &anthropic.redactor;
    let sending = anthropic
        .client
        .post(anthropic.messages.clone())
        .header("idempotency-key", cx.idempotency_key.as_str())
        .body(body)
        .send();
    let response = tokio::time::timeout(anthropic.first_byte, sending)
        .await
        .map_err(|_| silent(anthropic.first_byte))?
        .map_err(|error| no_answer(error, redactor))?;
    let status = response.status().as_u16();
    let headers = answer_headers(response.headers());
    if status != 200 || !is_event_stream(response.headers()) {
        let body = error_body(response).await;
        let position = Position::BeforeReply;
        let answer = Answer { status, headers: &headers, body: &body, position };
        return Err(classify(&answer, redactor));
    }
    let reading = Reading::new(status, headers, redactor.clone());
    let exchange = Exchange {
        response,
        decoder: SseDecoder::new(),
        items: VecDeque::new(),
        ended: None,
        reading,
        redactor: redactor.clone(),
    };
    let events = stream::unfold(exchange, |mut exchange| async {
        let event = exchange.next().await?;
        Some((event, exchange))
    });
    Ok(Box::pin(events))
}

struct Exchange {
    response: Response,
    decoder: SseDecoder,
    items: VecDeque<SseItem>,
    /// Why no more bytes come, once none do.
    ended: Option<String>,
    reading: Reading,
    redactor: Redactor,
}

impl Exchange {
    /// The next event, `None` after the last. What came before an error is read before it.
    async fn next(&mut self) -> Option<ProviderEvent> {
        while !self.reading.is_over() {
            if let Some(item) = self.items.pop_front() {
                if let Some(event) = self.reading.read(&item) {
                    return Some(event);
                }
            } else if let Some(why) = &self.ended {
                return self.reading.interrupted(why);
            } else {
                let alive = self.receive().await;
                if alive && self.items.is_empty() {
                    // A byte is a sign of life (WIR-2).
                    return Some(ProviderEvent::Heartbeat);
                }
            }
        }
        None
    }

    /// Takes the next bytes; whether the body goes on.
    async fn receive(&mut self) -> bool {
        self.ended = match self.response.chunk().await {
            Ok(Some(chunk)) => {
                self.decoder.push(&chunk, &mut self.items).err().map(|error| error.to_string())
            }
            Ok(None) => Some(match std::mem::take(&mut self.decoder).finish() {
                Ok(()) => "the reply ended without its last event".to_owned(),
                Err(cut) => cut.to_string(),
            }),
            Err(error) => Some(format!("the connection broke: {}", words(error, &self.redactor))),
        };
        self.ended.is_none()
    }
}

fn answer_headers(headers: &HeaderMap) -> AnswerHeaders {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    AnswerHeaders {
        request_id: text("request-id"),
        should_retry: text("x-should-retry"),
        retry_after_ms: text("retry-after-ms"),
        retry_after: text("retry-after"),
        date: text("date"),
    }
}

/// Whether what was asked for was sent (WIR-4).
fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

/// The body of an answer that is no reply, as much of it as comes soon and fits.
async fn error_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < ERROR_BODY_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
    };
    // Too late: what has come must do.
    drop(tokio::time::timeout(ERROR_BODY_WITHIN, reading).await);
    body.truncate(ERROR_BODY_MAX);
    body
}

fn silent(within: Duration) -> Failure {
    let message = format!("interrupted: no answer for {} ms", within.as_millis());
    Failure::new(FailureClass::Interrupted, "PL708", message)
}

/// The way to the other side failed: nothing of an answer was seen.
fn no_answer(error: reqwest::Error, redactor: &Redactor) -> Failure {
    let class = FailureClass::Transient;
    let message = format!("{class}: no answer: {}", words(error, redactor));
    Failure::new(class, "PL704", message)
}

/// An error with its causes, without its address and without secrets.
fn words(error: reqwest::Error, redactor: &Redactor) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        words.push_str(": ");
        words.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    redactor.redact(&words)
}
