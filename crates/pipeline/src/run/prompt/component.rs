//! Components: parts of a prompt in a YAML file, by key (YP-5).

use perennial_core::{FailureClass, failure::Failure};
use serde_json::Value;

use crate::check::read_yaml;

/// The text of the component `key` of the YAML `source`: a text, a map with `content`, or a list of
/// those, joined by newlines.
///
/// # Errors
///
/// When there is no such component, or it is none.
pub(super) fn text(path: &str, source: &str, key: &str) -> Result<String, Failure> {
    let value = read_yaml(path, source.as_bytes()).map_err(|faults| {
        let first = faults.first().map(|fault| fault.message.clone()).unwrap_or_default();
        let text = format!("Failed to read file {path}: {first}");
        Failure::new(FailureClass::Io, "PL601", text)
    })?;
    let Some(component) = value.get(key) else {
        let known: Vec<&str> =
            value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("{path} has no component `{key}`. Available: {known}");
        return Err(Failure::new(FailureClass::Reference, "PL603", text));
    };
    let mut texts = Vec::new();
    match component {
        Value::Array(parts) => {
            for part in parts {
                texts.push(part_text(part).ok_or_else(|| refused(path, key, part))?);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            texts.push(part_text(component).ok_or_else(|| refused(path, key, component))?);
        }
    }
    Ok(texts.join("\n"))
}

fn part_text(part: &Value) -> Option<&str> {
    if let Some(text) = part.as_str() {
        return Some(text);
    }
    let map = part.as_object()?;
    let is_static = map.get("type").is_none_or(|kind| kind == "static");
    let is_plain = map.keys().all(|key| matches!(key.as_str(), "type" | "content"));
    if is_static && is_plain { map.get("content")?.as_str() } else { None }
}

fn refused(path: &str, key: &str, part: &Value) -> Failure {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("part");
    let text = format!(
        "{path}: component `{key}` has a `{kind}` that is not in this version: components are texts \
         and static parts with `content`"
    );
    Failure::new(FailureClass::Reference, "PL603", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_texts_and_static_parts() {
        let source = "a: one\nb: {content: two}\nc: [x, {type: static, content: y}]\nd: 1\n\
            e: [{type: file, path: x}]\nf: {content: x, condition: true}\n";
        for (key, expected) in [
            ("a", Ok("one")),
            ("b", Ok("two")),
            ("c", Ok("x\ny")),
            ("d", Err("has a `part` that is not in this version")),
            ("e", Err("has a `file` that is not in this version")),
            ("f", Err("has a `part` that is not in this version")),
            ("g", Err("has no component `g`. Available: a, b, c, d, e, f")),
        ] {
            match (text("c.yaml", source, key), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(failure), Err(words)) => {
                    assert!(failure.message.contains(words), "{}", failure.message);
                }
                (found, expected) => panic!("{key}: {found:?}, {expected:?}"),
            }
        }
        assert!(text("c.yaml", "a: [", "a").unwrap_err().message.contains("Failed to read file"));
    }
}
