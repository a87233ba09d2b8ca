//! What a component published about itself, on one line: `key value, inner {key value}, list [a, b]`.

use serde_json::{Map, Value};

/// No more than this is written: a detail may have 64 KiB, and the dump as JSON has all of it.
const BYTES_MAX: usize = 8_192;

/// `detail` on one line, not yet neutral and not yet cut; empty if there is none.
pub(super) fn one_line(detail: &Value) -> String {
    let mut line = Line::default();
    match detail {
        Value::Null => {}
        Value::Object(fields) => line.fields(fields),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            line.value(detail)
        }
    }
    if line.is_full() {
        line.text.push_str(" ...");
    }
    line.text
}

#[derive(Default)]
struct Line {
    text: String,
}

impl Line {
    fn is_full(&self) -> bool {
        self.text.len() > BYTES_MAX
    }

    fn fields(&mut self, fields: &Map<String, Value>) {
        for (place, (key, value)) in fields.iter().enumerate() {
            if self.is_full() {
                return;
            }
            if place > 0 {
                self.text.push_str(", ");
            }
            self.text.push_str(key);
            self.text.push(' ');
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.text.push_str("unknown"),
            Value::Bool(flag) => self.text.push_str(if *flag { "yes" } else { "no" }),
            Value::Number(number) => self.text.push_str(&number.to_string()),
            Value::String(text) if text.is_empty() || text.contains(", ") => {
                self.text.push('"');
                self.text.push_str(text);
                self.text.push('"');
            }
            Value::String(text) => self.text.push_str(text),
            Value::Array(items) => {
                self.text.push('[');
                for (place, item) in items.iter().enumerate() {
                    if self.is_full() {
                        return;
                    }
                    if place > 0 {
                        self.text.push_str(", ");
                    }
                    self.value(item);
                }
                self.text.push(']');
            }
            Value::Object(fields) => {
                self.text.push('{');
                self.fields(fields);
                self.text.push('}');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_listed_in_the_order_they_were_published() {
        let detail = json!({"zulu": 1, "alpha": "two", "open": true, "age_ms": null});
        assert_eq!(one_line(&detail), "zulu 1, alpha two, open yes, age_ms unknown");
    }

    #[test]
    fn inner_objects_have_braces_and_lists_have_brackets() {
        let detail =
            json!({"breaker": {"state": "open", "n": 5}, "tools": ["a", {"b": 1}], "e": {}});
        assert_eq!(one_line(&detail), "breaker {state open, n 5}, tools [a, {b 1}], e {}");
    }

    #[test]
    fn a_text_that_could_be_mistaken_for_fields_is_quoted() {
        assert_eq!(one_line(&json!({"a": "x, b 2", "c": ""})), "a \"x, b 2\", c \"\"");
    }

    #[test]
    fn a_detail_need_not_be_an_object() {
        assert_eq!(one_line(&Value::Null), "");
        assert_eq!(one_line(&json!("resting")), "resting");
        assert_eq!(one_line(&json!([1, 2])), "[1, 2]");
    }

    #[test]
    fn a_large_detail_is_not_written_whole() {
        let detail = json!({"list": vec!["0123456789"; 100_000]});
        assert!(one_line(&detail).len() < 2 * BYTES_MAX);
    }
}
