//! Reads the events of one reply (ANT-6 to ANT-9; usage: PRV-10 to PRV-12).
//!
//! Pure: events of the wire go in, events of the call come out, and after the last one nothing
//! more (PRV-7). Every event of the wire yields something, so that silence is silence.

use std::collections::BTreeSet;

use perennial_core::{
    FailureClass,
    failure::Failure,
    llm::{FinishReason, Tokens, Usage},
};
use serde_json::Value;

use crate::{
    provider::{
        ProviderEvent,
        error_table::{Answer, AnswerHeaders, Position, classify},
        sse::{SseEvent, SseItem},
    },
    secret::Redactor,
};

/// One reply, as far as it was read.
#[derive(Debug)]
pub(super) struct Reading {
    headers: AnswerHeaders,
    redactor: Redactor,
    status: u16,
    counted: Counted,
    stop_reason: Option<String>,
    /// Blocks whose text is not the reply's.
    other_blocks: BTreeSet<u32>,
    over: bool,
}

/// The counters of the wire; each is cumulative, the last one said counts.
#[derive(Debug, Default)]
struct Counted {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl Reading {
    pub(super) fn new(status: u16, headers: AnswerHeaders, redactor: Redactor) -> Self {
        Self {
            headers,
            redactor,
            status,
            counted: Counted::default(),
            stop_reason: None,
            other_blocks: BTreeSet::new(),
            over: false,
        }
    }

    /// Whether the last event was given.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// What `item` of the wire means.
    pub(super) fn read(&mut self, item: &SseItem) -> Option<ProviderEvent> {
        if self.over {
            return None;
        }
        let event = match item {
            SseItem::Heartbeat => return Some(ProviderEvent::Heartbeat),
            SseItem::Event(event) => event,
        };
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
            return self.interrupted("an event is not JSON");
        };
        let heartbeat = Some(ProviderEvent::Heartbeat);
        match data["type"].as_str().or(event.event.as_deref()).unwrap_or_default() {
            "message_start" => {
                self.counted.take(&data["message"]["usage"]);
                Some(ProviderEvent::Started {
                    request_id: self.headers.request_id.clone(),
                    model: data["message"]["model"].as_str().unwrap_or_default().to_owned(),
                })
            }
            "content_block_start" => self.block(&data).or(heartbeat),
            "content_block_delta" => self.delta(&data).or(heartbeat),
            "message_delta" => {
                self.counted.take(&data["usage"]);
                if let Some(reason) = data["delta"]["stop_reason"].as_str() {
                    self.stop_reason = Some(reason.to_owned());
                }
                Some(ProviderEvent::Usage(self.counted.usage()))
            }
            "message_stop" => {
                self.over = true;
                let reason = finish(self.stop_reason.as_deref());
                Some(ProviderEvent::Finished { reason, cost_nano_usd: None })
            }
            "error" => Some(self.error(event)),
            // `ping`, `content_block_stop`, and whatever comes later.
            _ => heartbeat,
        }
    }

    /// The body ended or broke: the failure, unless the reply was complete.
    pub(super) fn interrupted(&mut self, why: &str) -> Option<ProviderEvent> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        let message = format!("interrupted: {}", self.redactor.redact(why));
        let mut failure = Failure::new(FailureClass::Interrupted, "PL708", message);
        failure.detail = serde_json::json!({
            "status": self.status,
            "request_id": self.headers.request_id.as_deref().map(|id| self.redactor.redact(id)),
        });
        Some(ProviderEvent::Failed(failure))
    }

    fn error(&mut self, event: &SseEvent) -> ProviderEvent {
        self.over = true;
        let answer = Answer {
            status: self.status,
            headers: &self.headers,
            body: event.data.as_bytes(),
            position: Position::InReply,
        };
        ProviderEvent::Failed(classify(&answer, &self.redactor))
    }

    fn block(&mut self, data: &Value) -> Option<ProviderEvent> {
        let index = index(data)?;
        if data["content_block"]["type"] != "text" {
            self.other_blocks.insert(index);
            return None;
        }
        text_delta(index, &data["content_block"]["text"])
    }

    fn delta(&mut self, data: &Value) -> Option<ProviderEvent> {
        let index = index(data)?;
        let is_text = data["delta"]["type"] == "text_delta";
        if is_text && !self.other_blocks.contains(&index) {
            return text_delta(index, &data["delta"]["text"]);
        }
        None
    }
}

fn index(data: &Value) -> Option<u32> {
    u32::try_from(data["index"].as_u64()?).ok()
}

fn text_delta(index: u32, text: &Value) -> Option<ProviderEvent> {
    let text = text.as_str().filter(|text| !text.is_empty())?.to_owned();
    Some(ProviderEvent::TextDelta { index, text })
}

/// The table of finish reasons.
fn finish(reason: Option<&str>) -> FinishReason {
    match reason {
        Some("end_turn" | "stop_sequence") => FinishReason::Stop,
        Some("max_tokens") => FinishReason::Length,
        Some("tool_use") => FinishReason::ToolUse,
        Some("refusal") => FinishReason::Refusal,
        Some("pause_turn") => FinishReason::Paused,
        Some("model_context_window_exceeded") => FinishReason::ContextFull,
        Some(other) => FinishReason::Other(other.to_owned()),
        None => FinishReason::Other("unstated".to_owned()),
    }
}

impl Counted {
    /// Takes what `usage` says; what it does not say stays as it was.
    fn take(&mut self, usage: &Value) {
        let last = |known: Option<u64>, said: &Value| said.as_u64().or(known);
        self.input = last(self.input, &usage["input_tokens"]);
        self.cache_read = last(self.cache_read, &usage["cache_read_input_tokens"]);
        self.cache_write = last(self.cache_write, &usage["cache_creation_input_tokens"]);
        self.output = last(self.output, &usage["output_tokens"]);
        self.thinking = last(self.thinking, &usage["output_tokens_details"]["thinking_tokens"]);
    }

    /// The neutral usage: the wire's input excludes cached tokens, ours includes them (PRV-11).
    fn usage(&self) -> Usage {
        let cached = self.cache_read.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        Usage {
            input: Tokens(self.input.map(|input| input.saturating_add(cached))),
            cache_read: Tokens(self.cache_read),
            cache_write: Tokens(self.cache_write),
            output: Tokens(self.output),
            reasoning: Tokens(self.thinking),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(events: &[Value]) -> Vec<ProviderEvent> {
        let headers = AnswerHeaders { request_id: Some("req_1".into()), ..Default::default() };
        let mut reading = Reading::new(200, headers, Redactor::new());
        let mut out = Vec::new();
        for event in events {
            let event = SseEvent { data: event.to_string(), ..SseEvent::default() };
            out.extend(reading.read(&SseItem::Event(event)));
        }
        out.extend(reading.interrupted("cut"));
        out.retain(|event| *event != ProviderEvent::Heartbeat);
        out
    }

    fn text(index: u32, text: &str) -> ProviderEvent {
        ProviderEvent::TextDelta { index, text: text.to_owned() }
    }

    #[test]
    fn texts_are_handed_on_and_other_blocks_are_not() {
        let events = read(&[
            json!({"type": "message_start", "message": {"id": "m", "model": "claude-x",
                "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}}),
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "of_tomorrow"}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "no"}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "b"}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "of_tomorrow"}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 4}}}),
            json!({"type": "message_stop"}),
            json!({"type": "message_stop"}),
        ]);
        let usage = Usage {
            input: 12.into(),
            cache_read: 7.into(),
            cache_write: Tokens(None),
            output: 9.into(),
            reasoning: 4.into(),
        };
        assert_eq!(
            events,
            [
                ProviderEvent::Started {
                    request_id: Some("req_1".into()),
                    model: "claude-x".into()
                },
                text(1, "a"),
                text(1, "b"),
                ProviderEvent::Usage(usage),
                ProviderEvent::Finished { reason: FinishReason::ToolUse, cost_nano_usd: None },
            ]
        );
    }

    #[test]
    fn usage_is_the_last_said_and_unknown_is_not_zero() {
        let delta = |usage: Value| json!({"type": "message_delta", "delta": {}, "usage": usage});
        let events =
            read(&[delta(json!({"output_tokens": 5})), delta(json!({"output_tokens": 3}))]);
        let usage = Usage { output: 3.into(), ..Usage::default() };
        assert_eq!(events[1], ProviderEvent::Usage(usage));
        assert!(read(&[delta(json!(null))]).contains(&ProviderEvent::Usage(Usage::default())));
    }

    #[test]
    fn an_error_event_is_classified_and_ends_the_reply() {
        let error =
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
        let events = read(&[error, json!({"type": "message_stop"})]);
        let [ProviderEvent::Failed(failure)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(failure.class, FailureClass::Overloaded);
        assert_eq!(failure.detail["request_id"], "req_1");
    }

    #[test]
    fn a_reply_without_its_last_event_is_interrupted() {
        let events = read(&[json!({"type": "ping"})]);
        let [ProviderEvent::Failed(failure)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Interrupted, "PL708"));
    }

    #[test]
    fn every_reason_to_finish_has_its_neutral_name() {
        for (wire, neutral) in [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("tool_use", "tool_use"),
            ("refusal", "refusal"),
            ("pause_turn", "paused"),
            ("model_context_window_exceeded", "context_full"),
            ("of_tomorrow", "of_tomorrow"),
        ] {
            assert_eq!(finish(Some(wire)).name(), neutral);
        }
    }
}
