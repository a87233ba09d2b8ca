//! The step types and their keys for people, read from the key table.

use super::{Key, Kind, STEP_TYPES, Status, Variant};

/// A step type of the language.
///
/// ```
/// let types = perennial_pipeline::step_types();
/// let echo = types.iter().find(|entry| entry.name == "echo").expect("there is such a type");
/// assert!(echo.here && echo.keys.iter().any(|key| key.key == "value"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StepTypeEntry {
    /// Its name.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// One line about it.
    pub does: &'static str,
    /// Whether this version runs it.
    pub here: bool,
    /// A short step of it.
    pub example: Option<&'static str>,
    /// The keys that this version honours, its own before those of all steps.
    pub keys: Vec<KeyEntry>,
}

/// A key of a step.
///
/// ```
/// let types = perennial_pipeline::step_types();
/// let echo = types.iter().find(|entry| entry.name == "echo").expect("there is such a type");
/// let delay = echo.keys.iter().find(|key| key.key == "delay_ms").expect("it has such a key");
/// assert_eq!((delay.default, delay.required), (Some("0"), false));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyEntry {
    /// Its name.
    pub key: &'static str,
    /// One line about it.
    pub does: &'static str,
    /// What holds without it, as JSON.
    pub default: Option<&'static str>,
    /// Whether a step without it is faulty.
    pub required: bool,
    /// The texts it may be, where only some are allowed.
    pub values: Vec<&'static str>,
    /// The keys of its value, where that is a map; not those further in.
    pub keys: Vec<KeyEntry>,
}

/// The step types, those that this version runs first.
///
/// ```
/// for entry in perennial_pipeline::step_types().iter().filter(|entry| entry.here) {
///     println!("{:16} {}", entry.name, entry.does);
/// }
/// # assert!(perennial_pipeline::step_types().len() > 3);
/// ```
pub fn step_types() -> Vec<StepTypeEntry> {
    let (here, later): (Vec<_>, Vec<_>) = STEP_TYPES.iter().partition(|variant| !variant.later);
    here.into_iter().chain(later).map(entry).collect()
}

fn entry(variant: &Variant) -> StepTypeEntry {
    let keys = variant.tables.iter().flat_map(|table| table.keys);
    StepTypeEntry {
        name: variant.name,
        does: variant.doc,
        here: !variant.later,
        example: example(variant.name),
        keys: keys.filter(honoured).map(|key| described(key, true)).collect(),
    }
}

fn honoured(key: &&Key) -> bool {
    matches!(key.status, Status::Here | Status::Advisory)
}

fn described(key: &Key, with_keys: bool) -> KeyEntry {
    let mut entry = KeyEntry {
        key: key.name,
        does: key.doc,
        default: key.default,
        required: key.required,
        values: Vec::new(),
        keys: Vec::new(),
    };
    describe(&key.kind, with_keys, &mut entry);
    entry
}

fn describe(kind: &Kind, with_keys: bool, entry: &mut KeyEntry) {
    match kind {
        Kind::OneOf { names, .. } => entry.values.extend_from_slice(names),
        Kind::Map(tables) if with_keys => {
            let keys = tables.iter().flat_map(|table| table.keys).filter(honoured);
            entry.keys.extend(keys.map(|key| described(key, false)));
        }
        Kind::Either(kinds) => kinds.iter().for_each(|kind| describe(kind, with_keys, entry)),
        Kind::Own(kind) => describe(kind, with_keys, entry),
        Kind::Any
        | Kind::Text
        | Kind::Bool
        | Kind::Count { .. }
        | Kind::Number { .. }
        | Kind::Duration { .. }
        | Kind::List(_)
        | Kind::Texts
        | Kind::Map(_)
        | Kind::Schema
        | Kind::Template
        | Kind::Tree
        | Kind::Name
        | Kind::Condition
        | Kind::Prompt
        | Kind::Steps { .. } => (),
    }
}

/// A step of this type as short as it can be and still do something.
fn example(type_name: &str) -> Option<&'static str> {
    Some(match type_name {
        "claude" => {
            r#"{name: ask, type: claude, prompt: [{type: static, content: "Name three rivers."}]}"#
        }
        "gemini" => {
            r#"{name: ask, type: gemini, prompt: [{type: static, content: "Name three rivers."}]}"#
        }
        "echo" => r#"{name: say, type: echo, value: "hello"}"#,
        "test_echo" => r#"{name: say, type: test_echo, value: "hello"}"#,
        "set_variable" => "{name: set, type: set_variable, variables: {tone: formal}}",
        "file_ops" => {
            "{name: keep, type: file_ops, operation: copy, source: a.txt, destination: b.txt}"
        }
        "pipeline" => "{name: inner, type: pipeline, pipeline_file: inner.yaml}",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;

    #[test]
    fn every_step_type_that_is_here_has_a_valid_example() {
        for one in step_types().iter().filter(|one| one.here) {
            let example = one.example.unwrap_or_else(|| panic!("{}", one.name));
            let text = format!("workflow:\n  name: x\n  steps:\n    - {example}\n");
            let checked = Pipeline::check("x.yaml", text.as_bytes());
            // A document that stands alone cannot have a child in a file.
            let valid = checked.pipeline.is_some() || one.name == "pipeline";
            assert!(valid, "{}: {:?}", one.name, checked.diagnostics);
            let silent = one.name == "pipeline" || checked.diagnostics.is_empty();
            assert!(silent, "{}: {:?}", one.name, checked.diagnostics);
        }
    }

    #[test]
    fn values_and_inner_keys_are_listed() {
        let types = step_types();
        let claude = types.iter().find(|one| one.name == "claude").unwrap();
        let key = |name: &str| claude.keys.iter().find(|key| key.key == name).unwrap();
        let backoff = key("retry").keys.iter().find(|key| key.key == "backoff").unwrap();
        assert!(backoff.values.contains(&"exponential"), "{backoff:?}");
        assert!(!key("claude_options").keys.is_empty());
        let file_ops = types.iter().find(|one| one.name == "file_ops").unwrap();
        let operation = file_ops.keys.iter().find(|key| key.key == "operation").unwrap();
        let known = crate::definition::Operation::ALL.map(crate::definition::Operation::name);
        assert_eq!(operation.values, known);
    }
}
