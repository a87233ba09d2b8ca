//! Records: what a step leaves behind.
//!
//! A record depends on the definition, the inputs and the replies only, so that a run that was
//! killed and resumed leaves the same records as one that was not. Deviation YV-1: `replayed`,
//! `attempts` and `duration_ms` of YV-1, and `error.attempt` of YR-22, are therefore
//! not in the record; the journal has them.

use perennial_core::{Digest, failure::Failure, llm::Completion, run::JobKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::definition::{Assign, ChatOptions, Step};

/// The record of a step whose condition is not met (YC-6).
pub(super) fn skipped(condition: &str) -> Value {
    json!({
        "success": true,
        "skipped": true,
        "status": "skipped",
        "reason": format!("Condition not met: {condition}"),
    })
}

/// The record of a step that failed and counts as skipped (4.4).
pub(super) fn skipped_after(failure: &Failure) -> Value {
    skipped_because(&failure.message)
}

/// The record of a step that is skipped for that reason.
pub(super) fn skipped_because(reason: &str) -> Value {
    json!({
        "success": true,
        "skipped": true,
        "status": "skipped",
        "reason": reason,
    })
}

/// The record of a `set_variable` step (YS-66).
pub(super) fn assigned(step: &Assign, values: Map<String, Value>) -> Value {
    let names: Vec<&str> = match step.write.target() {
        Some(target) => vec![target],
        None => values.keys().map(String::as_str).collect(),
    };
    json!({
        "success": true,
        "status": "completed",
        "variables_set": names,
        "scope": step.scope.name(),
        "variable_count": names.len(),
        "values": values,
    })
}

/// `record`, with what its expressions warned of.
pub(super) fn warned(mut record: Value, warnings: Vec<String>) -> Value {
    if let Some(record) = record.as_object_mut().filter(|_| !warnings.is_empty()) {
        record.insert("warnings".to_owned(), warnings.into());
    }
    record
}

/// The record of a call (YV-1).
pub(super) fn replied(completion: &Completion, call: &str, request: Digest) -> Value {
    json!({
        "success": true,
        "status": "completed",
        "text": completion.text,
        "content": completion.text,
        "data": parsed(&completion.text).unwrap_or_default(),
        "cost": completion.cost_usd(),
        "cost_known": completion.cost_nano_usd.is_some(),
        "usage": completion.usage_json(),
        "tokens": completion.usage.total(),
        "model": completion.model,
        "provider": completion.provider,
        "stop_reason": completion.finish.name(),
        "turns": 1,
        "session_id": null,
        "function_calls": [],
        "tool_calls": [],
        "call_id": call,
        "request_hash": request,
        "mock": completion.mock,
        "degraded": false,
    })
}

/// Adds how often the reply was asked for once more (YR-67).
pub(super) fn add_repairs(record: &mut Value, repairs: u32) {
    record["turns"] = json!(repairs.saturating_add(1));
    record["repairs"] = json!(repairs);
}

/// `record` of an earlier call, taken instead of making one: nothing was used for it.
pub(super) fn reused(mut record: Value, call: &str) -> Value {
    let none = json!({
        "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "total_tokens": 0,
    });
    for (key, value) in [
        ("cost", json!(0.0)),
        ("cost_known", json!(true)),
        ("usage", none),
        ("tokens", json!(0)),
        ("call_id", json!(call)),
        ("cached", json!(true)),
    ] {
        record[key] = value;
    }
    if record.get("telemetry").is_some() {
        record["telemetry"]["tokens_used"] = json!(0);
    }
    if record.get("cost_tracking").is_some() {
        record["cost_tracking"]["total_cost_usd"] = json!(0.0);
        record["cost_tracking"]["cost_per_message"] = json!(0.0);
    }
    record
}

/// Adds what the options ask to be told of a call (YS-7), but for what depends on time.
pub(super) fn add_reports(record: &mut Value, options: &ChatOptions, completion: &Completion) {
    if options.debug_info == Some(true) {
        record["debug_info"] = json!({
            "message_types": ["user", "assistant"],
            "total_messages": 2,
            "options_applied": options.applied(),
        });
    }
    if options.telemetry == Some(true) {
        record["telemetry"] = json!({ "num_turns": 1, "tokens_used": completion.usage.total() });
    }
    if options.cost_tracking == Some(true) {
        let cost = completion.cost_usd();
        record["cost_tracking"] = json!({
            "total_cost_usd": cost, "cost_per_message": cost, "tracking_enabled": true,
        });
    }
}

/// What a failure inside a scope brings along, as the detail of the failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inside {
    /// The error of the step that failed inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<Value>,
    /// What the scope had so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partial: Option<Value>,
    /// Path of the scope whose limit says stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limit_of: Option<String>,
}

/// The field of an error with the number of the attempt that failed.
pub(super) const ATTEMPT: &str = "attempt";

/// The one key of a detail that is an [`Inside`].
const INSIDE: &str = "inside";

impl Inside {
    pub(super) fn detail(&self) -> Value {
        json!({ INSIDE: self })
    }

    fn of(failure: &Failure) -> Option<Self> {
        Self::deserialize(failure.detail.get(INSIDE)?).ok()
    }
}

/// The scope whose limit ended the step with this record.
pub(crate) fn limit_of(record: &Value) -> Option<&str> {
    record.get("error")?.get("limit_of")?.as_str()
}

/// The record of a step whose failure is answered with a value of the document.
pub(super) fn degraded(fallback: &Value, failure: &Failure) -> Value {
    json!({
        "success": true,
        "status": "degraded",
        "degraded": true,
        "result": fallback,
        "error_message": failure.message,
    })
}

/// `record` without more of its error than the message.
pub(super) fn without_error(mut record: Value) -> Value {
    if let Some(record) = record.as_object_mut() {
        record.remove("error");
        record.remove("partial");
    }
    record
}

/// The record of a final failure (YR-22, YR-80).
pub(super) fn failed(step: Option<&Step>, job: &JobKey, failure: &Failure) -> Value {
    let mut record = failed_alone(step, job, failure);
    if let Some(inside) = Inside::of(failure) {
        record["error"]["cause"] = inside.cause.unwrap_or_default();
        if let Some(owner) = inside.limit_of {
            record["error"]["limit_of"] = Value::from(owner);
        }
        if let Some(partial) = inside.partial {
            record["partial"] = partial;
        }
    }
    record
}

fn failed_alone(step: Option<&Step>, job: &JobKey, failure: &Failure) -> Value {
    let mut record = json!({
        "success": false,
        "status": "failed",
        "error": {
            "code": failure.code,
            "class": failure.class.name(),
            "type": failure.class.name(),
            "message": failure.message,
            "step": step.map(|step| &step.name),
            "path": job.as_str(),
            "retryable": failure.class.is_retryable(),
            "cause": failure.detail,
            "location": step.and_then(|step| step.location.as_ref()).map(ToString::to_string),
        },
        "error_message": failure.message,
    });
    // Replies that were of no use are paid all the same.
    if let Some(cost) = failure.detail.get("cost") {
        record["cost"] = cost.clone();
    }
    if let Some(name) = step.and_then(|step| step.error_output.as_ref()) {
        record[name] = json!(failure.message);
    }
    record
}

/// The JSON of a reply: the whole text, or the text minus one surrounding code fence (SO-3).
pub(super) fn parsed(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let inside = text.strip_prefix("```")?.strip_suffix("```")?;
    let (language, body) = inside.split_once('\n')?;
    let is_fence = !language.trim().contains(char::is_whitespace);
    is_fence.then(|| serde_json::from_str(body.trim()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_whole_reply_or_what_one_fence_holds() {
        for (text, expected) in [
            ("{\"a\": 1}", Some(json!({"a": 1}))),
            (" [1] \n", Some(json!([1]))),
            ("42", Some(json!(42))),
            ("null", Some(Value::Null)),
            ("```json\n{\"a\": 1}\n```", Some(json!({"a": 1}))),
            ("```\n[1]\n```", Some(json!([1]))),
            ("```not one word\n[1]\n```", None),
            ("Here: {\"a\": 1}", None),
            ("```json\n{\"a\": 1}\n``` done", None),
            ("", None),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
