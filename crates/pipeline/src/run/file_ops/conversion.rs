//! From one format to another: pure, from bytes to bytes.

use serde_json::{Map, Number, Value};

use super::arguments::Options;
use crate::check::read_yaml;

/// Elements of XML below each other.
const DEPTH_MAX: usize = 64;

/// The bytes of `from`, converted as `format` says.
///
/// # Errors
///
/// What is wrong with them.
pub(super) fn converted(format: &str, from: &[u8], options: &Options) -> Result<Vec<u8>, String> {
    let value = match format {
        "csv_to_json" => rows(from, options)?,
        "yaml_to_json" => yaml(from)?,
        "xml_to_json" => xml::value(text(from)?)?,
        _ => serde_json::from_slice(from).map_err(|error| format!("not JSON: {error}"))?,
    };
    match format {
        "json_to_csv" => csv_text(&value, options),
        "json_to_yaml" => Ok(yaml_text(&value).into_bytes()),
        "json_to_xml" => xml::text(&value).map(String::into_bytes),
        _ => json_text(&value, options.json_indent),
    }
}

/// `from` as UTF-8.
pub(super) fn text(from: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(from)
        .map_err(|error| format!("not UTF-8 behind byte {}", error.valid_up_to()))
}

/// The one YAML value in `from`.
pub(super) fn yaml(from: &[u8]) -> Result<Value, String> {
    read_yaml("", from).map_err(|found| {
        let first = found.first();
        let line = first.and_then(|found| found.span).map_or(0, |span| span.start.line);
        let message = first.map_or_else(String::new, |found| found.message.clone());
        format!("not YAML: line {line}: {message}")
    })
}

fn json_text(value: &Value, indent: u32) -> Result<Vec<u8>, String> {
    if indent == 0 {
        return serde_json::to_vec(value).map_err(|error| error.to_string());
    }
    let indent = vec![b' '; indent as usize];
    let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(value, &mut serializer).map_err(|error| error.to_string())?;
    Ok(out)
}

/// The rows of a CSV text: objects by the names of the first row, or lists.
pub(super) fn rows(from: &[u8], options: &Options) -> Result<Value, String> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(options)?)
        .has_headers(false)
        .flexible(true)
        .from_reader(from.strip_prefix(b"\xef\xbb\xbf").unwrap_or(from));
    let mut records = reader.records().enumerate();
    let fault = |error: csv::Error| format!("not CSV: {error}");
    let names: Option<Vec<String>> = if options.csv_headers {
        let Some((_, first)) = records.next() else { return Ok(Value::Array(Vec::new())) };
        Some(first.map_err(fault)?.iter().map(str::to_owned).collect())
    } else {
        None
    };
    let typed = |field: &str| if options.infer_types { inferred(field) } else { field.into() };
    let mut rows = Vec::new();
    for (place, record) in records {
        let record = record.map_err(fault)?;
        let Some(names) = &names else {
            rows.push(record.iter().map(typed).collect());
            continue;
        };
        if record.len() > names.len() {
            let (row, found, all) = (place + 1, record.len(), names.len());
            return Err(format!("row {row} has {found} fields, and there are {all} names"));
        }
        let value = |at: usize| record.get(at).map_or(Value::Null, typed);
        rows.push(Value::Object(
            names.iter().enumerate().map(|(at, name)| (name.clone(), value(at))).collect(),
        ));
    }
    Ok(Value::Array(rows))
}

fn delimiter(options: &Options) -> Result<u8, String> {
    match options.csv_delimiter.as_bytes() {
        [sign] if sign.is_ascii() => Ok(*sign),
        _ => Err("csv_delimiter must be one ASCII character".to_owned()),
    }
}

/// A number or a truth value when the text is exactly one; an empty text is null.
fn inferred(field: &str) -> Value {
    match field {
        "" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => {
            let number = serde_json::from_str::<Number>(field).ok();
            number.map_or_else(|| field.into(), Value::Number)
        }
    }
}

fn csv_text(value: &Value, options: &Options) -> Result<Vec<u8>, String> {
    let rows = value.as_array().ok_or("JSON for CSV must be a list of rows")?;
    let mut writer = csv::WriterBuilder::new()
        .delimiter(delimiter(options)?)
        .flexible(true)
        .from_writer(Vec::new());
    let fault = |error: csv::Error| error.to_string();
    // In the order in which the rows first name them.
    let mut names = Map::new();
    for row in rows.iter().filter_map(Value::as_object) {
        row.keys().for_each(|name| drop(names.insert(name.clone(), Value::Null)));
    }
    if options.csv_headers && !names.is_empty() {
        writer.write_record(names.keys()).map_err(fault)?;
    }
    for (place, row) in rows.iter().enumerate() {
        let fields: Vec<String> = match row {
            Value::Object(row) => {
                names.keys().map(|name| row.get(name).map_or_else(String::new, field)).collect()
            }
            Value::Array(row) => row.iter().map(field).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(format!("row {} is neither a map nor a list", place + 1));
            }
        };
        writer.write_record(fields).map_err(fault)?;
    }
    writer.into_inner().map_err(|error| error.to_string())
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// `value` as YAML in block style; what a plain text would be read as otherwise is quoted.
pub(super) fn yaml_text(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out.trim_start_matches('\n').to_owned() + "\n"
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let line = |out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                line(out);
                out.push_str(&plain(key));
                out.push(':');
                inner(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                line(out);
                out.push('-');
                inner(item, depth, out);
            }
        }
        Value::String(text) => out.push_str(&plain(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            out.push_str(&value.to_string());
        }
    }
}

fn inner(value: &Value, depth: usize, out: &mut String) {
    let is_block = value.as_object().is_some_and(|map| !map.is_empty())
        || value.as_array().is_some_and(|items| !items.is_empty());
    if !is_block {
        out.push(' ');
    }
    block(value, depth + 1, out);
}

/// A text as it is when it can be nothing else, otherwise as JSON writes it, which YAML reads.
fn plain(text: &str) -> String {
    let mut letters = text.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let goes_on =
        letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.' | '/'));
    let word = text.to_ascii_lowercase();
    let reserved =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&word.as_str());
    if begins && goes_on && !reserved && !text.ends_with(' ') {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

/// XML as values: attributes are keys with `@`, text beside elements is `#text`, what is repeated is a list.
mod xml {
    use quick_xml::{
        XmlVersion,
        events::{BytesStart, Event},
        reader::Reader,
    };

    use super::{DEPTH_MAX, Map, Value};

    /// An element that is open.
    struct Open {
        name: String,
        keys: Map<String, Value>,
        text: String,
    }

    impl Open {
        fn of(start: &BytesStart<'_>) -> Result<Self, String> {
            let mut keys = Map::new();
            for attribute in start.attributes() {
                let attribute = attribute.map_err(|error| format!("not XML: {error}"))?;
                let value = attribute
                    .normalized_value(XmlVersion::Explicit1_0)
                    .map_err(|error| format!("not XML: {error}"))?;
                keys.insert(
                    format!("@{}", utf8(attribute.key.as_ref())),
                    value.into_owned().into(),
                );
            }
            Ok(Self { name: utf8(start.name().as_ref()), keys, text: String::new() })
        }

        fn closed(mut self) -> (String, Value) {
            let text = self.text.trim();
            if self.keys.is_empty() {
                let value = if text.is_empty() { Value::Null } else { text.into() };
                return (self.name, value);
            }
            if !text.is_empty() {
                self.keys.insert("#text".to_owned(), text.into());
            }
            (self.name, Value::Object(self.keys))
        }

        fn take(&mut self, name: String, value: Value) {
            match self.keys.get_mut(&name) {
                None => drop(self.keys.insert(name, value)),
                Some(Value::Array(items)) => items.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
    }

    fn utf8(name: impl AsRef<[u8]>) -> String {
        String::from_utf8_lossy(name.as_ref()).into_owned()
    }

    pub(super) fn value(text: &str) -> Result<Value, String> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Open { name: String::new(), keys: Map::new(), text: String::new() }];
        loop {
            let event = reader
                .read_event()
                .map_err(|error| format!("not XML: byte {}: {error}", reader.error_position()))?;
            let close = match event {
                Event::Start(start) => {
                    open.push(Open::of(&start)?);
                    false
                }
                Event::Empty(start) => {
                    open.push(Open::of(&start)?);
                    true
                }
                Event::End(_) => true,
                Event::Text(text) => {
                    add(&mut open, &text.xml10_content());
                    false
                }
                Event::CData(text) => {
                    add(&mut open, &text.xml10_content());
                    false
                }
                Event::GeneralRef(named) => {
                    let sign =
                        named.resolve_char_ref().map_err(|error| format!("not XML: {error}"))?;
                    let known = quick_xml::escape::resolve_predefined_entity(&named);
                    let text = sign.map(String::from).or(known.map(str::to_owned));
                    // No entity of the document itself: they expand without bound, and lead outside.
                    add(&mut open, &text.ok_or_else(|| format!("unknown entity `{}`", &*named))?);
                    false
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => false,
                Event::Eof => break,
            };
            if open.len() > DEPTH_MAX {
                return Err(format!("elements are nested deeper than {DEPTH_MAX}"));
            }
            if close
                && open.len() > 1
                && let Some(element) = open.pop()
                && let Some(outer) = open.last_mut()
            {
                let (name, value) = element.closed();
                outer.take(name, value);
            }
        }
        match open.pop() {
            Some(root) if open.is_empty() && root.keys.len() == 1 => Ok(Value::Object(root.keys)),
            Some(_) | None => Err("not XML: one element has to hold all others".to_owned()),
        }
    }

    fn add(open: &mut [Open], text: &str) {
        if let Some(last) = open.last_mut() {
            last.text.push_str(text);
        }
    }

    /// The inverse; a value that is no map of one key gets an element `root`.
    pub(super) fn text(value: &Value) -> Result<String, String> {
        let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
        match value.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next()) {
            Some((name, value)) if !value.is_array() => element(name, value, 0, &mut out)?,
            Some(_) | None => {
                let inner = if value.is_array() {
                    serde_json::json!({ "item": value })
                } else {
                    value.clone()
                };
                element("root", &inner, 0, &mut out)?;
            }
        }
        Ok(out)
    }

    fn element(name: &str, value: &Value, depth: usize, out: &mut String) -> Result<(), String> {
        let begins = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !begins
            || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
        {
            return Err(format!("`{name}` cannot be the name of an element"));
        }
        if let Value::Array(items) = value {
            return items.iter().try_for_each(|item| {
                let nested = item.is_array().then(|| serde_json::json!({ "item": item }));
                element(name, nested.as_ref().unwrap_or(item), depth, out)
            });
        }
        let indent = "  ".repeat(depth);
        out.push_str(&format!("{indent}<{name}"));
        let Value::Object(map) = value else {
            let text = super::field(value);
            let escaped = quick_xml::escape::escape(text.as_str());
            out.push_str(&format!(">{escaped}</{name}>\n"));
            return Ok(());
        };
        for (key, value) in map {
            if let Some(key) = key.strip_prefix('@') {
                let text = super::field(value);
                out.push_str(&format!(" {key}=\"{}\"", quick_xml::escape::escape(text.as_str())));
            }
        }
        out.push('>');
        let text = map.get("#text").map(super::field).unwrap_or_default();
        out.push_str(&quick_xml::escape::escape(text.as_str()));
        let inner: Vec<_> =
            map.iter().filter(|(key, _)| !key.starts_with('@') && *key != "#text").collect();
        if !inner.is_empty() {
            out.push('\n');
            for (key, value) in inner {
                element(key, value, depth + 1, out)?;
            }
            out.push_str(&indent);
        }
        out.push_str(&format!("</{name}>\n"));
        Ok(())
    }
}
