//! Why a definition that another build wrote cannot be read by this one: the step that this one does not know.

use serde_json::{Map, Value, json};

use super::{InvalidDefinition, LANGUAGE, Model, Step};

/// What `error`, met in `bytes`, comes from: a newer language, or a step that is not known; else it stays what it is.
pub(super) fn diagnosed(bytes: &[u8], error: serde_json::Error) -> InvalidDefinition {
    let Ok(Value::Object(model)) = serde_json::from_slice(bytes) else {
        return InvalidDefinition::Json(error);
    };
    let language = model.get("language").and_then(Value::as_u64);
    if let Some(found) = language.and_then(|language| u32::try_from(language).ok())
        && found > LANGUAGE
    {
        return InvalidDefinition::Newer { found };
    }
    in_object(&model, "").unwrap_or(InvalidDefinition::Json(error))
}

/// The first step in `value` that cannot be read although all that stand in it can.
fn in_value(value: &Value, prefix: &str) -> Option<InvalidDefinition> {
    match value {
        Value::Object(fields) => in_object(fields, prefix),
        Value::Array(items) => items.iter().find_map(|item| in_value(item, prefix)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn in_object(fields: &Map<String, Value>, prefix: &str) -> Option<InvalidDefinition> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let step = text("name").zip(text("type_name")).filter(|_| fields.contains_key("kind"));
    let Some((name, type_name)) = step else {
        return fields.values().find_map(|value| in_value(value, prefix));
    };
    let step = format!("{prefix}{name}");
    let inner = format!("{step}/");
    if let Some(found) = fields.values().find_map(|value| in_value(value, &inner)) {
        return Some(found);
    }
    let why = serde_json::from_value::<Step>(Value::Object(fields.clone())).err()?;
    Some(InvalidDefinition::UnknownStep { step, type_name: type_name.to_owned(), why })
}

/// The model in `bytes` with another step, which is like none, in place of each that is not known.
pub(super) fn without_unknown(bytes: &[u8]) -> Option<Model> {
    let mut model: Value = serde_json::from_slice(bytes).ok()?;
    replace_unknown(&mut model);
    serde_json::from_value(model).ok()
}

/// Those that stand in others first.
fn replace_unknown(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(replace_unknown),
        Value::Object(fields) => {
            fields.values_mut().for_each(replace_unknown);
            let step = fields.get("name").zip(fields.get("type_name"));
            let Some((name, type_name)) = step.filter(|_| fields.contains_key("kind")) else {
                return;
            };
            // It never succeeds, hence no result of it is taken for that of another step.
            let other = json!({
                "name": name,
                "type_name": type_name,
                "retry": { "base_ms": 0, "cap_ms": 0, "max_attempts": 1 },
                "kind": { "echo": { "delay_ms": 0, "fail": true, "value": "null" } },
            });
            if serde_json::from_value::<Step>(Value::Object(fields.clone())).is_err() {
                *value = other;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

#[cfg(test)]
mod tests {
    use crate::{InvalidDefinition, Pipeline};

    const OUTER: &str = "workflow: {name: w, steps: [{name: a, type: echo, value: 1},
        {name: outer, type: pipeline, pipeline: {name: c, steps: [{name: b, type: echo, value: 2}]}}]}";

    fn refused(from: &str, to: &str) -> InvalidDefinition {
        let pipeline = Pipeline::check("w.yaml", OUTER.as_bytes()).pipeline.unwrap();
        let text = String::from_utf8(pipeline.definition().bytes.to_vec()).unwrap();
        let changed = text.replace(from, to);
        assert_ne!(text, changed);
        Pipeline::revive(changed.as_bytes()).unwrap_err()
    }

    /// ACC-5.6: a type, and a key, that this build does not have.
    #[test]
    fn a_step_that_is_not_known_is_named_with_its_type() {
        let kind = r#"{"echo":{"delay_ms":0,"fail":false,"value":"2"}},"name":"b""#;
        let newer = kind.replace("echo", "hologram");
        let InvalidDefinition::UnknownStep { step, why, .. } = refused(kind, &newer) else {
            panic!("it is not known")
        };
        assert_eq!(step, "outer/b");
        assert!(why.to_string().contains("unknown variant `hologram`"), "{why}");
        let newer = kind.replace("\"fail\"", "\"bright\":true,\"fail\"");
        let told = refused(kind, &newer).to_string();
        assert!(
            told.starts_with("this build does not know step `outer/b` of type `echo`: "),
            "{told}"
        );
        assert!(told.contains("bright"), "{told}");
    }

    #[test]
    fn what_is_known_of_a_definition_is_the_rest_of_it() {
        let pipeline = Pipeline::check("w.yaml", OUTER.as_bytes()).pipeline.unwrap();
        let text = String::from_utf8(pipeline.definition().bytes.to_vec()).unwrap();
        let newer = text.replacen(r#"{"echo":"#, r#"{"hologram":"#, 1);
        assert_ne!(text, newer);
        let known = Pipeline::revive_known(newer.as_bytes()).unwrap();
        assert_eq!(known.step_paths(), pipeline.step_paths());
        assert_ne!(known, pipeline);
        assert_eq!(Pipeline::revive_known(text.as_bytes()).as_ref(), Some(&pipeline));
        assert!(Pipeline::revive_known(b"{}").is_none());
    }

    #[test]
    fn a_newer_language_is_what_is_told_first() {
        let told = refused(r#""language":1"#, r#""language":9,"moods":[]"#);
        assert!(matches!(told, InvalidDefinition::Newer { found: 9 }), "{told}");
    }
}
