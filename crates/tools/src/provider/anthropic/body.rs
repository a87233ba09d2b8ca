//! The neutral request in the words of the Messages API (ANT-2, ANT-3).

use perennial_core::{
    FailureClass,
    failure::Failure,
    llm::{ChatRequest, ReplyForm, Role},
};
use serde_json::{Map, Value, json};

use super::hint;

/// The refusal of a request that asks for what the API does not have (PL706): it is not sent without it.
pub(super) fn unsupported(request: &ChatRequest) -> Option<Failure> {
    let asked = [
        ("presence_penalty", request.sampling.presence_penalty.is_some()),
        ("frequency_penalty", request.sampling.frequency_penalty.is_some()),
        // With a schema it is sent, and the reply is held against it in any case.
        ("JSON without a schema", request.form == ReplyForm::Json && request.schema.is_none()),
    ];
    let names: Vec<&str> = asked.into_iter().filter(|(_, asked)| *asked).map(|it| it.0).collect();
    if names.is_empty() {
        return None;
    }
    let text = format!("permanent: the Messages API has no {}", names.join(", no "));
    Some(Failure::new(FailureClass::Permanent, "PL706", text))
}

/// The JSON body. What the request leaves open is left out, never made up.
pub(super) fn of(request: &ChatRequest) -> Value {
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    let messages: Vec<Value> = request
        .messages
        .iter()
        .map(|each| match each.role {
            Role::User => message("user", &each.text),
            Role::Assistant => message("assistant", &each.text),
        })
        .collect();
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
    put("model", json!(request.model));
    put("max_tokens", json!(request.max_output));
    if !request.system.is_empty() {
        put("system", json!(request.system));
    }
    put("messages", Value::Array(messages));
    if let Some(temperature) = request.sampling.temperature {
        put("temperature", json!(temperature));
    }
    if let Some(top_p) = request.sampling.top_p {
        put("top_p", json!(top_p));
    }
    if let Some(top_k) = request.sampling.top_k {
        put("top_k", json!(top_k));
    }
    if !request.stop_sequences.is_empty() {
        put("stop_sequences", json!(request.stop_sequences));
    }
    if let Some(schema) = request.schema.as_ref().and_then(hint::of) {
        put("output_config", json!({"format": {"type": "json_schema", "schema": schema}}));
    }
    put("stream", json!(true));
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use perennial_core::llm::ChatMessage;

    use super::*;

    #[test]
    fn only_what_was_said_is_sent() {
        let mut request = ChatRequest::ask("claude-x", "hello", 64);
        let short = json!({
            "model": "claude-x", "max_tokens": 64, "stream": true,
            "messages": [{"role": "user", "content": "hello"}],
        });
        assert_eq!(of(&request), short);
        request.system = "be brief".to_owned();
        request.sampling.temperature = Some(0.5);
        request.sampling.top_k = Some(3);
        request.messages.push(ChatMessage { role: Role::Assistant, text: "Well,".to_owned() });
        let body = of(&request);
        assert_eq!(body["system"], "be brief");
        assert_eq!((&body["temperature"], &body["top_k"]), (&json!(0.5), &json!(3)));
        assert_eq!(body["messages"][1], json!({"role": "assistant", "content": "Well,"}));
        assert_eq!(body.get("top_p"), None);
        request.stop_sequences = vec!["END".to_owned(), "\n\n".to_owned()];
        assert_eq!(of(&request)["stop_sequences"], json!(["END", "\n\n"]));
    }

    #[test]
    fn what_the_api_does_not_have_is_refused() {
        let mut request = ChatRequest::ask("claude-x", "hello", 64);
        assert_eq!(unsupported(&request), None);
        request.form = ReplyForm::Json;
        request.sampling.presence_penalty = Some(0.5);
        request.sampling.frequency_penalty = Some(0.5);
        let refused = unsupported(&request).unwrap();
        assert_eq!((refused.class, refused.code.as_str()), (FailureClass::Permanent, "PL706"));
        assert_eq!(
            refused.message,
            "permanent: the Messages API has no presence_penalty, no frequency_penalty, no JSON without a schema"
        );
        request =
            ChatRequest { form: ReplyForm::Json, ..ChatRequest::ask("claude-x", "hello", 64) };
        request.schema = Some(json!({"type": "string"}));
        assert_eq!(unsupported(&request), None);
    }

    #[test]
    fn a_schema_is_sent_where_the_api_can_express_it() {
        let mut request = ChatRequest::ask("claude-x", "hello", 64);
        request.schema = Some(json!({
            "type": "object", "properties": {"n": {"type": "integer", "minimum": 1}},
        }));
        let format = json!({
            "type": "json_schema",
            "schema": {
                "type": "object", "properties": {"n": {"type": "integer"}},
                "additionalProperties": false,
            },
        });
        assert_eq!(of(&request)["output_config"], json!({"format": format}));
        request.schema =
            Some(json!({"type": "object", "additionalProperties": {"type": "string"}}));
        assert_eq!(of(&request).get("output_config"), None);
    }

    #[test]
    fn equal_requests_have_equal_bytes() {
        let request = ChatRequest::ask("claude-x", "hello", 64);
        assert_eq!(of(&request).to_string(), of(&request.clone()).to_string());
    }
}
