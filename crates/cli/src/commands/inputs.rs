//! Inputs on the command line.

use std::path::Path;

use perennial::{records::Input, tools::read_source};
use serde_json::{Map, Value};

use crate::{
    exit::{self, failed},
    output,
};

/// Largest file that `@FILE` reads.
const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `KEY=VALUE` pairs: JSON scalars where they are, else text; `KEY=@FILE` is the file's text.
/// Names the document knows are matched exactly, then in lower case.
pub(super) fn parse(pairs: &[String], document: &[Input]) -> anyhow::Result<Map<String, Value>> {
    let mut inputs = Map::new();
    let known = |wanted: &str| document.iter().any(|input| input.name == wanted);
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(failed(exit::USAGE, format!("input `{pair}` is not KEY=VALUE")));
        };
        let lower = name.to_lowercase();
        let name = if !known(name) && known(&lower) { lower } else { name.to_owned() };
        let value = match value.strip_prefix('@') {
            Some(path) => {
                let bytes = read_source(Path::new(path), INPUT_BYTES_MAX)
                    .map_err(|error| failed(exit::USAGE, format!("input `{name}`: {error}")))?;
                let text = String::from_utf8(bytes).map_err(|_| {
                    failed(exit::USAGE, format!("input `{name}`: {path} is not UTF-8"))
                })?;
                Value::String(text)
            }
            None => scalar(value),
        };
        if inputs.contains_key(&name) {
            return Err(failed(exit::USAGE, format!("input `{name}` is given twice")));
        }
        if !known(&name) {
            stray(&name, document)?;
        }
        inputs.insert(name, value);
    }
    Ok(inputs)
}

/// An input that the document does not know: a mistake when it says which it takes, else a remark
/// (YK-5).
fn stray(name: &str, document: &[Input]) -> anyhow::Result<()> {
    if !document.iter().any(|input| input.declared) {
        output::talk(&format!("warning: input `{name}` is not used by the workflow"));
        return Ok(());
    }
    let names: Vec<&str> = document.iter().map(|input| input.name.as_str()).collect();
    let text = format!("the workflow has no input `{name}`; its inputs: {}", names.join(", "));
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
        parse(&pairs, &known).map(Value::Object).map_err(|error| error.to_string())
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
