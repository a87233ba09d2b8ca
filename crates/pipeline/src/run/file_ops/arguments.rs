//! The arguments of an operation, as they are once their templates have values.

use perennial_core::{FailureClass, failure::Failure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::check::duration_text;

/// All keys of a step, read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Arguments {
    pub(super) source: Value,
    pub(super) destination: Value,
    pub(super) path: Value,
    pub(super) files: Value,
    pub(super) recursive: Option<bool>,
    pub(super) pattern: Option<String>,
    pub(super) pattern_type: Option<String>,
    pub(super) include_hidden: bool,
    pub(super) sort_by: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) output_field: Option<String>,
    pub(super) format: Option<String>,
    pub(super) processor: Value,
    pub(super) content: Value,
    pub(super) append: bool,
    pub(super) options: Options,
}

/// `options`.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    recursive: bool,
    pub(super) overwrite: bool,
    pub(super) preserve_structure: bool,
    pub(super) preserve_timestamps: bool,
    pub(super) create_destination: bool,
    pub(super) dry_run: bool,
    pub(super) csv_delimiter: String,
    pub(super) csv_headers: bool,
    pub(super) json_indent: u32,
    pub(super) infer_types: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            recursive: false,
            overwrite: true,
            preserve_structure: false,
            preserve_timestamps: false,
            create_destination: true,
            dry_run: false,
            csv_delimiter: ",".to_owned(),
            csv_headers: true,
            json_indent: 2,
            infer_types: false,
        }
    }
}

/// What `source` of a copy or a move names.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Paths and globs.
    pub(super) names: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) older_than_ms: Option<u64>,
    /// Whether it names one file by its form.
    pub(super) single: bool,
}

impl Arguments {
    /// # Errors
    ///
    /// When a value has not the type that its key needs.
    pub(super) fn read(value: Value) -> Result<Self, Failure> {
        Self::deserialize(value).map_err(|error| {
            let text = format!("the arguments of the step cannot be used: {error}");
            Failure::new(FailureClass::Reference, "PL605", text)
        })
    }

    pub(super) fn recursive(&self) -> bool {
        self.recursive.unwrap_or(self.options.recursive)
    }

    /// # Errors
    ///
    /// When it names nothing (YS-91).
    pub(super) fn wanted(&self) -> Result<Wanted, Failure> {
        let texts = |value: &Value, key: &str| match value {
            Value::String(text) => Ok(vec![text.clone()]),
            Value::Array(items) => items.iter().map(|item| path(item, key)).collect(),
            Value::Null => Ok(Vec::new()),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(no_path(key, value)),
        };
        let Some(map) = self.source.as_object() else {
            let names = texts(&self.source, "source")?;
            if names.is_empty() || names.iter().any(String::is_empty) {
                return Err(no_path("source", &self.source));
            }
            let single = self.source.is_string();
            return Ok(Wanted { names, exclude: Vec::new(), older_than_ms: None, single });
        };
        let empty = Value::Null;
        let older = map.get("older_than").unwrap_or(&empty);
        let older_than_ms = match older {
            Value::Null => None,
            Value::Number(seconds) => seconds.as_f64().map(|seconds| seconds * 1_000.0),
            Value::String(text) => duration_text(text),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        if !older.is_null() && older_than_ms.is_none_or(|millis| millis < 0.0) {
            let text = format!("source.older_than is no duration: {older}");
            return Err(Failure::new(FailureClass::Reference, "PL605", text));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative"
        )]
        let older_than_ms = older_than_ms.map(|millis| millis as u64);
        Ok(Wanted {
            names: vec![path(map.get("pattern").unwrap_or(&empty), "source.pattern")?],
            exclude: texts(map.get("exclude").unwrap_or(&empty), "source.exclude")?,
            older_than_ms,
            single: false,
        })
    }
}

/// `value` as a path.
///
/// # Errors
///
/// When it is null, empty or no text (YS-91).
pub(super) fn path(value: &Value, key: &str) -> Result<String, Failure> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => Err(no_path(key, value)),
    }
}

fn no_path(key: &str, value: &Value) -> Failure {
    let text = format!("{key} must be a path, and is {value}");
    Failure::new(FailureClass::Reference, "PL605", text)
}

/// The text `name` of a map.
pub(super) fn word<'v>(map: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    map.get(name).and_then(Value::as_str)
}
