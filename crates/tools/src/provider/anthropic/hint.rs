//! A JSON Schema in the part of the language that the API's structured output has.
//!
//! It knows types, properties, choices and references; objects have to be closed, and bounds of numbers and texts
//! are refused. What it does not know is left out: the reply is held against the whole schema in any case (SO-2).
//! A schema that would say something else without it is not sent at all.
//!
//! Deviation (providers-and-tools, section 12): there is no fallback to a forced tool; a model without structured
//! output refuses a request that has a schema.

use serde_json::{Map, Value, json};

/// Keywords that go as they are.
const AS_THEY_ARE: [&str; 6] = ["type", "enum", "const", "description", "title", "required"];
/// One of them says what a value is; a schema without any describes all values.
const SAYING: [&str; 5] = ["type", "enum", "const", "anyOf", "$ref"];
/// Formats that are understood.
const FORMATS: [&str; 5] = ["date-time", "date", "email", "uri", "uuid"];

/// What is sent of `schema`; nothing when it cannot be expressed.
pub(super) fn of(schema: &Value) -> Option<Value> {
    let keywords = schema.as_object()?;
    let mut sent = Map::new();
    for (name, value) in keywords {
        let value = match name.as_str() {
            name if AS_THEY_ARE.contains(&name) => value.clone(),
            "$ref" if value.as_str()?.starts_with("#/$defs/") => value.clone(),
            "format" if FORMATS.contains(&value.as_str()?) => value.clone(),
            "properties" | "$defs" => Value::Object(map(value)?),
            "anyOf" | "oneOf" => Value::Array(list(value)?),
            "items" => of(value)?,
            "$ref" | "allOf" | "prefixItems" | "patternProperties" | "definitions" => return None,
            "additionalProperties" if *value == false => continue,
            "additionalProperties" if *value != true => return None,
            _ => continue,
        };
        let name = if name == "oneOf" { "anyOf" } else { name };
        sent.insert(name.to_owned(), value);
    }
    if !SAYING.iter().any(|name| sent.contains_key(*name)) {
        return None;
    }
    if is_object(&sent) {
        // A closed object has the properties that are described, and no other.
        let described = sent.get("properties").and_then(Value::as_object)?;
        let required = sent.get("required").and_then(Value::as_array).into_iter().flatten();
        if !required
            .into_iter()
            .all(|name| name.as_str().is_some_and(|name| described.contains_key(name)))
        {
            return None;
        }
        sent.insert("additionalProperties".to_owned(), json!(false));
    }
    Some(Value::Object(sent))
}

fn is_object(sent: &Map<String, Value>) -> bool {
    match sent.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| *kind == "object"),
        Some(kind) => *kind == "object",
        None => sent.contains_key("properties"),
    }
}

fn map(value: &Value) -> Option<Map<String, Value>> {
    let pairs = value.as_object()?.iter();
    pairs.map(|(name, schema)| Some((name.clone(), of(schema)?))).collect()
}

fn list(value: &Value) -> Option<Vec<Value>> {
    value.as_array()?.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_is_sent() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["score"],
            "properties": {
                "score": {"type": "number", "minimum": 0, "maximum": 10},
                "at": {"type": "string", "format": "date"},
                "host": {"type": "string", "format": "hostname", "minLength": 3},
                "kind": {"oneOf": [{"const": "a"}, {"$ref": "#/$defs/b"}]},
                "rows": {"type": "array", "minItems": 2, "items": {"type": "object", "properties": {}}},
            },
            "$defs": {"b": {"enum": ["b"]}},
            "additionalProperties": true,
        });
        let sent = json!({
            "type": "object",
            "required": ["score"],
            "properties": {
                "score": {"type": "number"},
                "at": {"type": "string", "format": "date"},
                "host": {"type": "string"},
                "kind": {"anyOf": [{"const": "a"}, {"$ref": "#/$defs/b"}]},
                "rows": {"type": "array", "items": {
                    "type": "object", "properties": {}, "additionalProperties": false,
                }},
            },
            "$defs": {"b": {"enum": ["b"]}},
            "additionalProperties": false,
        });
        assert_eq!(of(&schema), Some(sent));
    }

    #[test]
    fn what_would_say_something_else_is_not_sent() {
        for schema in [
            json!(true),
            json!({}),
            json!({"minimum": 1}),
            json!({"properties": {}}),
            json!({"type": "object"}),
            json!({"type": ["object", "null"]}),
            json!({"type": "object", "properties": {}, "required": ["a"]}),
            json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"a": true}}),
            json!({"allOf": [{"type": "object"}]}),
            json!({"type": "array", "items": {"prefixItems": []}}),
            json!({"$ref": "#"}),
        ] {
            assert_eq!(of(&schema), None, "{schema}");
        }
    }
}
