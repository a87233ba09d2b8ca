//! The smallest value that a JSON Schema describes (YV-22).

use serde_json::{Map, Number, Value};

/// Schemas inside schemas, at most; deeper ones are answered with null.
const DEPTH_MAX: usize = 64;

/// Every declared property, the first value of an enumeration, the least number (else 0), the
/// shortest text of `x`, false, and as few items as are allowed. References are not followed.
///
/// ```
/// use perennial_tools::provider::mock::smallest_instance;
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
/// assert!(smallest_instance(&schema)["n"].is_i64());
/// ```
pub fn smallest_instance(schema: &Value) -> Value {
    instance(schema, 0)
}

fn instance(schema: &Value, depth: usize) -> Value {
    if depth == DEPTH_MAX {
        return Value::Null;
    }
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    let choices = ["anyOf", "oneOf"].into_iter().find_map(|key| schema[key].as_array());
    if let Some(first) = choices.and_then(|choices| choices.first()) {
        return instance(first, depth + 1);
    }
    match kind(schema) {
        "object" => object(schema, depth),
        "array" => {
            let items = count(&schema["minItems"]);
            Value::Array((0..items).map(|_| instance(&schema["items"], depth + 1)).collect())
        }
        "string" => Value::String("x".repeat(count(&schema["minLength"]))),
        "integer" | "number" => least(schema),
        "boolean" => Value::Bool(false),
        _ => Value::Null,
    }
}

/// The schema's type: the first when there are several, guessed from its keys when there is none.
fn kind(schema: &Value) -> &str {
    let said = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    said.unwrap_or_else(|| match schema {
        Value::Object(keys) if keys.contains_key("properties") => "object",
        Value::Object(keys) if keys.contains_key("items") => "array",
        Value::Object(_) => "object",
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            "null"
        }
    })
}

fn object(schema: &Value, depth: usize) -> Value {
    let declared = schema["properties"].as_object();
    let pairs = declared.into_iter().flatten();
    let made: Map<String, Value> =
        pairs.map(|(name, schema)| (name.clone(), instance(schema, depth + 1))).collect();
    Value::Object(made)
}

/// `minimum`, else the number after `exclusiveMinimum`, else 0, or `maximum` when that is below.
fn least(schema: &Value) -> Value {
    if schema["minimum"].is_number() {
        return schema["minimum"].clone();
    }
    if let Some(bound) = schema["exclusiveMinimum"].as_i64() {
        return Value::Number(Number::from(bound.saturating_add(1)));
    }
    let zero = Value::Number(Number::from(0));
    match schema["maximum"].as_f64() {
        Some(most) if most < 0.0 => schema["maximum"].clone(),
        Some(_) | None => zero,
    }
}

/// A count of the schema, bounded: a mock is no load test.
fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or(0)).unwrap_or(usize::MAX).min(1024)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_has_its_smallest_value() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 3},
                "empty": {"type": "string"},
                "grade": {"enum": ["a", "b"]},
                "score": {"type": "number", "minimum": 1.5},
                "count": {"type": "integer", "exclusiveMinimum": 2},
                "debt": {"type": "integer", "maximum": -1},
                "done": {"type": "boolean"},
                "tags": {"type": "array", "minItems": 2, "items": {"const": 7}},
                "maybe": {"type": ["integer", "null"]},
                "either": {"anyOf": [{"type": "boolean"}, {"type": "string"}]},
                "inner": {"properties": {"x": {"type": "null"}}},
            },
        });
        let value = json!({
            "name": "xxx", "empty": "", "grade": "a", "score": 1.5, "count": 3, "debt": -1,
            "done": false, "tags": [7, 7], "maybe": 0, "either": false, "inner": {"x": null},
        });
        assert_eq!(smallest_instance(&schema), value);
    }

    #[test]
    fn what_says_nothing_is_an_empty_object_or_null() {
        assert_eq!(smallest_instance(&json!({})), json!({}));
        assert_eq!(smallest_instance(&json!(true)), Value::Null);
    }
}
