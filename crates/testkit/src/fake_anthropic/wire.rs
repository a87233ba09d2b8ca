//! Replies in the form of the Messages API.

use serde_json::{Value, json};

/// Characters per text delta: short, so that every reply has several.
const DELTA_CHARS: usize = 16;

/// The text of the last user message, a string or a list of text blocks.
pub(super) fn prompt(body: &Value) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let content = messages.iter().rev().find(|message| message["role"] == "user");
    match content.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let texts: Vec<&str> =
                blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            texts.join("\n")
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            String::new()
        }
    }
}

/// What is wrong with a request, in the words of the API.
pub(super) fn objection(body: &Value) -> Option<&'static str> {
    if body["model"].as_str().is_none_or(str::is_empty) {
        Some("model: Field required")
    } else if body["max_tokens"].as_u64().is_none_or(|tokens| tokens == 0) {
        Some("max_tokens: a positive integer is required")
    } else if body["messages"].as_array().is_none_or(Vec::is_empty) {
        Some("messages: at least one message is required")
    } else {
        None
    }
}

/// A made-up number of tokens: a quarter of the bytes, and one.
pub(super) fn tokens(text: &str) -> usize {
    text.len() / 4 + 1
}

/// A whole reply that is not streamed.
pub(super) fn message(model: &Value, prompt: &str, text: &str, stop_reason: &str) -> Value {
    json!({
        "id": "msg_fake", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": tokens(prompt), "output_tokens": tokens(text)},
    })
}

/// The events up to and with the deltas of `text`.
pub(super) fn beginning(model: &Value, prompt: &str, text: &str) -> Vec<String> {
    let mut start = message(model, prompt, "", "");
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["usage"]["output_tokens"] = json!(1);
    let mut events = vec![
        event("message_start", &json!({"message": start})),
        event(
            "content_block_start",
            &json!({"index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
        event("ping", &json!({})),
    ];
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(DELTA_CHARS) {
        let piece: String = piece.iter().collect();
        let delta = json!({"index": 0, "delta": {"type": "text_delta", "text": piece}});
        events.push(event("content_block_delta", &delta));
    }
    events
}

/// The events after the deltas of `text`.
pub(super) fn ending(text: &str, stop_reason: &str) -> [String; 3] {
    [
        event("content_block_stop", &json!({"index": 0})),
        event(
            "message_delta",
            &json!({
                "delta": {"stop_reason": stop_reason, "stop_sequence": null},
                "usage": {"output_tokens": tokens(text)},
            }),
        ),
        event("message_stop", &json!({})),
    ]
}

/// An error event.
pub(super) fn error(kind: &str) -> String {
    event("error", &json!({"error": {"type": kind, "message": "as scripted"}}))
}

fn event(name: &str, data: &Value) -> String {
    let mut whole = json!({"type": name});
    if let (Some(whole), Some(data)) = (whole.as_object_mut(), data.as_object()) {
        whole.extend(data.clone());
    }
    format!("event: {name}\ndata: {whole}\n\n")
}
