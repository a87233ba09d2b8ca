//! Inputs on the command line.

use std::path::Path;

use perennial::tools::read_source;
use serde_json::{Map, Value};

use crate::exit::{self, failed};

/// Largest file that `@FILE` reads.
const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `KEY=VALUE` pairs: JSON scalars where they are, else text; `KEY=@FILE` is the file's text.
/// Names the document declares are matched exactly, then in lower case.
pub(super) fn parse(pairs: &[String], declared: &[&str]) -> anyhow::Result<Map<String, Value>> {
    let mut inputs = Map::new();
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(failed(exit::USAGE, format!("input `{pair}` is not KEY=VALUE")));
        };
        let lower = name.to_lowercase();
        let known = |wanted: &str| declared.contains(&wanted);
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
        inputs.insert(name, value);
    }
    Ok(inputs)
}

fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_typed_and_the_rest_is_text() {
        let pairs = ["a=1", "b=true", "c=x y", "d=[1]", "e=", "F=\"1\""].map(str::to_owned);
        let inputs = parse(&pairs, &["f"]).unwrap();
        let expected = json!({"a": 1, "b": true, "c": "x y", "d": "[1]", "e": "", "f": "1"});
        assert_eq!(Value::Object(inputs), expected);
        assert!(parse(&["x".to_owned()], &[]).is_err());
        assert!(parse(&["x=@/no/such/file".to_owned()], &[]).is_err());
    }
}
