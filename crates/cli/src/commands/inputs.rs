//! Inputs on the command line.

use std::path::Path;

use perennial::{
    records::{Input, InputType},
    tools::read_source,
};
use serde_json::{Map, Value};

use crate::{
    exit::{self, failed},
    output,
};

/// Largest file that `@FILE` reads.
const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `KEY=VALUE` pairs, for each of `documents` those that it takes: JSON scalars where they are and the input is not
/// declared as a text, else text; `KEY=@FILE` is the file's text. Names a document knows are matched exactly, then in lower
/// case. What no document knows goes to all of them (YK-5).
pub(super) fn parse(
    pairs: &[String],
    documents: &[&[Input]],
) -> anyhow::Result<Vec<Map<String, Value>>> {
    let mut inputs = vec![Map::new(); documents.len()];
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(failed(exit::USAGE, format!("input `{pair}` is not KEY=VALUE")));
        };
        let text = value;
        let value = read(name, text)?;
        let known: Vec<Option<&Input>> =
            documents.iter().map(|document| input_of(document, name)).collect();
        let is_stray = known.iter().all(Option::is_none);
        if is_stray {
            stray(name, documents)?;
        }
        for (inputs, known) in inputs.iter_mut().zip(known) {
            let (name, value) = match known {
                Some(input) => (input.name.clone(), fitting(input, text, &value)),
                None if is_stray => (name.to_owned(), value.clone()),
                None => continue,
            };
            if inputs.contains_key(&name) {
                return Err(failed(exit::USAGE, format!("input `{name}` is given twice")));
            }
            inputs.insert(name, value);
        }
    }
    Ok(inputs)
}

/// The input of `document` that is called `wanted`.
fn input_of<'a>(document: &'a [Input], wanted: &str) -> Option<&'a Input> {
    let known = |wanted: &str| document.iter().find(|input| input.name == wanted);
    known(wanted).or_else(|| known(&wanted.to_lowercase()))
}

/// What was typed as `text` and read as `value`, as `input` takes it: a text may look like a number.
fn fitting(input: &Input, text: &str, value: &Value) -> Value {
    match (input.kind, value) {
        (InputType::String, Value::Null | Value::Bool(_) | Value::Number(_)) => text.into(),
        (
            InputType::String
            | InputType::Number
            | InputType::Integer
            | InputType::Boolean
            | InputType::Array
            | InputType::Object
            | InputType::Any,
            _,
        ) => value.clone(),
    }
}

fn read(name: &str, value: &str) -> anyhow::Result<Value> {
    let Some(path) = value.strip_prefix('@') else { return Ok(scalar(value)) };
    let bytes = read_source(Path::new(path), INPUT_BYTES_MAX)
        .map_err(|error| failed(exit::USAGE, format!("input `{name}`: {error}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| failed(exit::USAGE, format!("input `{name}`: {path} is not UTF-8")))?;
    Ok(Value::String(text))
}

/// An input that no document knows: a mistake when one says which it takes, else a remark (YK-5).
fn stray(name: &str, documents: &[&[Input]]) -> anyhow::Result<()> {
    let subject = if documents.len() > 1 { "workflows" } else { "workflow" };
    if !documents.iter().any(|document| document.iter().any(|input| input.declared)) {
        output::talk(&format!("warning: input `{name}` is not used by the {subject}"));
        return Ok(());
    }
    let mut names: Vec<&str> = Vec::new();
    for input in documents.iter().copied().flatten() {
        if !names.contains(&input.name.as_str()) {
            names.push(&input.name);
        }
    }
    let (verb, whose) = if documents.len() > 1 { ("have", "their") } else { ("has", "its") };
    let names = names.join(", ");
    let text = format!("the {subject} {verb} no input `{name}`; {whose} inputs: {names}");
    Err(failed(exit::USAGE, text))
}

fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use perennial::records::Pipeline;
    use serde_json::json;

    use super::*;

    const DOCUMENT: &[u8] =
        b"workflow:\n  name: x\n  inputs: {f: any}\n  steps: [{name: s, type: echo}]\n";

    fn read(pairs: &[&str], document: &[u8]) -> Result<Value, String> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        let known = Pipeline::check("x.yaml", document).inputs;
        let parsed = parse(&pairs, &[&known]).map_err(|error| error.to_string());
        parsed.map(|mut all| Value::Object(all.remove(0)))
    }

    #[test]
    fn each_document_of_a_lot_gets_what_it_knows() {
        let other =
            b"workflow:\n  name: y\n  steps: [{name: s, type: echo, value: '{{ inputs.g }}'}]\n";
        let known = [DOCUMENT, other].map(|text| Pipeline::check("x.yaml", text).inputs);
        let pairs = ["F=1", "g=2"].map(str::to_owned);
        let parsed = parse(&pairs, &[&known[0], &known[1]]).unwrap();
        assert_eq!(json!(parsed), json!([{"f": 1}, {"g": 2}]));
        let error = parse(&["h=1".to_owned()], &[&known[0], &known[1]]).unwrap_err();
        let text = "the workflows have no input `h`; their inputs: f, g";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn scalars_are_typed_and_the_rest_is_text() {
        for (pair, value) in [
            ("f=1", json!(1)),
            ("f=true", json!(true)),
            ("f=x y", json!("x y")),
            ("f=[1]", json!("[1]")),
            ("f=", json!("")),
            ("F=\"1\"", json!("1")),
            ("f=a=b", json!("a=b")),
        ] {
            assert_eq!(read(&[pair], DOCUMENT), Ok(json!({ "f": value })), "{pair}");
        }
    }

    #[test]
    fn what_is_declared_as_a_text_is_one_whatever_it_looks_like() {
        let document = b"workflow:\n  name: x\n  inputs: {city: string, n: integer}\n  \
                         steps: [{name: s, type: echo}]\n";
        for (pair, value) in [
            ("city=12345", json!({"city": "12345"})),
            ("CITY=007", json!({"city": "007"})),
            ("city=true", json!({"city": "true"})),
            ("city=null", json!({"city": "null"})),
            ("city=\"1\"", json!({"city": "1"})),
            ("n=12345", json!({"n": 12345})),
        ] {
            assert_eq!(read(&[pair], document), Ok(value), "{pair}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (pairs, why) in [
            (&["f"][..], "not KEY=VALUE"),
            (&["=1"], "not KEY=VALUE"),
            (&["f=1", "F=2"], "given twice"),
            (&["f=@/no/such/file"], "No such file"),
            (&["g=1"], "its inputs: f"),
        ] {
            let error = read(pairs, DOCUMENT).unwrap_err();
            assert!(error.contains(why), "{pairs:?}: {error}");
        }
        let open = b"workflow:\n  name: x\n  steps: [{name: s, type: echo}]\n";
        assert_eq!(read(&["g=1"], open), Ok(json!({"g": 1})));
    }
}
