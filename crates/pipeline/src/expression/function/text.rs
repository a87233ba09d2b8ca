//! Texts. What is no text is taken in its text form (YT-3).

use perennial_core::digest::canonical_json;
use serde::Serialize as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        BUILT_BYTES_MAX, pretty,
        syntax::Test,
        text::{cut_at_word, to_text},
        value::{Num, Trouble, number, numeric, too_large, type_of},
    },
    Function, Outcome,
    Takes::{Any, List, Number, Pattern, Text},
    Work, unfit,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("upper", &[Text], Work::Values(|v| changed(v, "upper", |t| t.to_uppercase()))),
    Function::new("lower", &[Text], Work::Values(|v| changed(v, "lower", |t| t.to_lowercase()))),
    Function::new("trim", &[Text], Work::Values(|v| changed(v, "trim", |t| t.trim().to_owned()))),
    Function::new("substring", &[Text, Number, Number], Work::Values(substring)).required(2),
    Function::new("replace", &[Text, Text, Text], Work::Values(replace)),
    Function::new("split", &[Text, Text], Work::Values(split)),
    Function::new("join", &[List, Text], Work::Values(join)),
    Function::new("contains", &[Any, Any], Work::Test(Test::Contains)),
    Function::new("matches", &[Any, Pattern], Work::Test(Test::Matches)),
    Function::new("starts_with", &[Any, Text], Work::Test(Test::StartsWith)),
    Function::new("ends_with", &[Any, Text], Work::Test(Test::EndsWith)),
    Function::new("slug", &[Text], Work::Values(|v| changed(v, "slug", slug))),
    Function::new("path", &[Text], Work::Values(|v| changed(v, "path", path))),
    Function::new("truncate", &[Text, Number], Work::Values(truncate)),
    Function::new("indent", &[Text, Number], Work::Values(indent)),
    Function::new("lines", &[Text], Work::Values(lines)),
    Function::new("bullet", &[Any], Work::Values(|v| Ok(bullet(v[0]).into()))),
    Function::new("quote", &[Text], Work::Values(|v| Ok(quoted(v[0]).into()))),
    Function::new("hash", &[Any], Work::Values(|v| Ok(hash(v[0]).into()))),
    Function::new("uuid", &[], Work::Uuid),
    Function::new("to_string", &[Any], Work::Values(|v| Ok(to_text(v[0]).into()))),
    Function::new("to_number", &[Any], Work::Values(to_number)),
    Function::new("from_json", &[Text], Work::Values(from_json)),
    Function::new("to_json", &[Any], Work::Values(|v| Ok(v[0].to_string().into()))),
    Function::new("json", &[Any, Number], Work::Values(json)).required(1),
];

/// The text form of a scalar; lists and objects have none here.
fn scalar(value: &Value, name: &str) -> Result<String, Trouble> {
    if value.is_array() || value.is_object() { Err(unfit(name, value)) } else { Ok(to_text(value)) }
}

fn changed(values: &[&Value], name: &str, change: fn(&str) -> String) -> Outcome {
    scalar(values[0], name).map(|text| change(&text).into())
}

fn whole(value: &Value, name: &str) -> Result<i64, Trouble> {
    number(value).map(Num::truncated).ok_or_else(|| unfit(name, value))
}

/// A place in something of this length; negative ones count from the end.
pub(super) fn place(at: i64, length: usize) -> usize {
    let length_i = i64::try_from(length).unwrap_or(i64::MAX);
    let from_start = if at < 0 { at.saturating_add(length_i).max(0) } else { at.min(length_i) };
    usize::try_from(from_start).unwrap_or(length)
}

fn substring(values: &[&Value]) -> Outcome {
    let text = scalar(values[0], "substring")?;
    let count = text.chars().count();
    let start = place(whole(values[1], "substring")?, count);
    let length = match values.get(2) {
        Some(length) => usize::try_from(whole(length, "substring")?).unwrap_or(0),
        None => count,
    };
    Ok(text.chars().skip(start).take(length).collect::<String>().into())
}

fn replace(values: &[&Value]) -> Outcome {
    let text = scalar(values[0], "replace")?;
    let (from, to) = (scalar(values[1], "replace")?, scalar(values[2], "replace")?);
    if from.is_empty() {
        return Ok(text.into());
    }
    fits(text.len().saturating_add(text.matches(&from).count().saturating_mul(to.len())))?;
    Ok(text.replace(&from, &to).into())
}

fn fits(bytes: usize) -> Result<(), Trouble> {
    if bytes <= BUILT_BYTES_MAX { Ok(()) } else { Err(too_large("a text beyond 64 MiB")) }
}

fn split(values: &[&Value]) -> Outcome {
    let text = scalar(values[0], "split")?;
    let separator = scalar(values[1], "split")?;
    if separator.is_empty() {
        return Ok(text.chars().map(String::from).collect());
    }
    Ok(text.split(separator.as_str()).collect())
}

fn join(values: &[&Value]) -> Outcome {
    let Value::Array(items) = values[0] else { return Err(unfit("join", values[0])) };
    let separator = scalar(values[1], "join")?;
    fits(items.len().saturating_mul(separator.len()))?;
    let texts: Vec<String> = items.iter().map(to_text).collect();
    Ok(texts.join(&separator).into())
}

/// Lower-case letters and digits, and one hyphen between words: safe in any file name.
fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

/// A relative path without empty segments, `.` and `..`.
fn path(text: &str) -> String {
    let segments = text.split(['/', '\\']).map(str::trim);
    let kept: Vec<&str> = segments.filter(|name| !matches!(*name, "" | "." | "..")).collect();
    kept.join("/")
}

fn truncate(values: &[&Value]) -> Outcome {
    let text = scalar(values[0], "truncate")?;
    let most = u32::try_from(whole(values[1], "truncate")?.max(0)).unwrap_or(u32::MAX);
    Ok(cut_at_word(&text, most).into())
}

fn indent(values: &[&Value]) -> Outcome {
    let text = scalar(values[0], "indent")?;
    let by = usize::try_from(whole(values[1], "indent")?).unwrap_or(0);
    fits(text.len().saturating_add(text.split('\n').count().saturating_mul(by)))?;
    let margin = " ".repeat(by);
    let lines = text
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { format!("{margin}{line}") });
    Ok(lines.collect::<Vec<_>>().join("\n").into())
}

fn lines(values: &[&Value]) -> Outcome {
    Ok(scalar(values[0], "lines")?.lines().collect())
}

/// One `- ` line per element; a text has its lines as elements.
fn bullet(value: &Value) -> String {
    let items: Vec<String> = match value.as_array() {
        Some(items) => items.iter().map(to_text).collect(),
        None => to_text(value).lines().map(str::to_owned).collect(),
    };
    items.iter().map(|item| format!("- {item}")).collect::<Vec<_>>().join("\n")
}

/// In double quotes, with JSON's escapes.
fn quoted(value: &Value) -> String {
    Value::String(to_text(value)).to_string()
}

/// SHA-256 of the text, or of the canonical JSON, as hexadecimal digits.
fn hash(value: &Value) -> String {
    let bytes = value.as_str().map_or_else(|| canonical_json(value), str::to_owned);
    Sha256::digest(bytes.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_number(values: &[&Value]) -> Outcome {
    match values[0] {
        Value::Number(number) => Ok(Value::Number(number.clone())),
        Value::String(text) => match numeric(text) {
            Some(number) => number.value(),
            None => Err(Trouble::Null("`to_number` of a text that is no number".to_owned())),
        },
        Value::Null => Ok(Value::Null),
        other @ (Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(unfit("to_number", other))
        }
    }
}

fn from_json(values: &[&Value]) -> Outcome {
    let Value::String(text) = values[0] else { return Err(unfit("from_json", values[0])) };
    serde_json::from_str(text)
        .map_err(|error| Trouble::Null(format!("`from_json` of a text that is no JSON: {error}")))
}

/// Compact, or with so many spaces a level.
fn json(values: &[&Value]) -> Outcome {
    let Some(width) = values.get(1) else { return Ok(values[0].to_string().into()) };
    let width = whole(width, "json")?.clamp(0, 16);
    if width == 2 && !values[0].is_string() {
        return Ok(pretty(values[0]).into());
    }
    let margin = " ".repeat(usize::try_from(width).unwrap_or(0));
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(margin.as_bytes());
    let mut writer = serde_json::Serializer::with_formatter(&mut out, format);
    let written = values[0].serialize(&mut writer).map(|()| String::from_utf8(out));
    match written {
        Ok(Ok(text)) => Ok(text.into()),
        Ok(Err(_)) | Err(_) => Err(unfit("json", values[0])),
    }
}

/// The name of the type of a value.
pub(super) fn type_name(value: &Value) -> Value {
    type_of(value).into()
}
