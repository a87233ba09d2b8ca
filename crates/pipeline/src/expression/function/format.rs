//! Named transforms of prompt parts (YP-4): from one notation into another.

use serde_json::{Map, Value};

use super::{
    super::{
        pretty,
        text::to_text,
        value::{Fault, Trouble},
    },
    Function, Outcome,
    Takes::{Any, Text},
    Work,
};
use crate::{
    diagnostic::Findings,
    source::{SourceFile, Sources},
};

mod yaml;

pub(super) const TRANSFORMS: &[Function] = &[
    Function::new("json_to_markdown", &[Any], Work::Values(|v| markdown(&json(v[0])?))),
    Function::new("csv_to_table", &[Text], Work::Values(csv_to_table)),
    Function::new("json_to_yaml", &[Any], Work::Values(|v| Ok(yaml::text(&json(v[0])?).into()))),
    Function::new("yaml_to_json", &[Text], Work::Values(yaml_to_json)),
    Function::new("lowercase", &[Text], Work::Values(|v| Ok(pretty(v[0]).to_lowercase().into()))),
    Function::new("uppercase", &[Text], Work::Values(|v| Ok(pretty(v[0]).to_uppercase().into()))),
];

/// `value` as YAML, in block style.
///
/// ```
/// use perennial_pipeline::yaml_text;
/// use serde_json::json;
///
/// assert_eq!(yaml_text(&json!({"to": "Ada"})).trim_end(), "to: Ada");
/// ```
pub fn yaml_text(value: &Value) -> String {
    yaml::text(value)
}

fn fault(message: String) -> Trouble {
    Trouble::Fault(Fault { code: "PL619", message })
}

/// A text is read as JSON; any other value is taken as it is.
fn json(value: &Value) -> Outcome {
    let Some(text) = value.as_str() else { return Ok(value.clone()) };
    serde_json::from_str(text).map_err(|error| fault(format!("the text is no JSON: {error}")))
}

fn yaml_to_json(values: &[&Value]) -> Outcome {
    let text = pretty(values[0]);
    let refused = |why: String| fault(format!("the text is no YAML: {why}"));
    let mut findings = Findings::default();
    let mut sources = Sources::default();
    let file = sources.add(&SourceFile::new("the text", text), &mut findings);
    match sources.tree(file) {
        Some(root) if !findings.has_errors() => Ok(pretty(&root.to_value()).into()),
        Some(_) | None => {
            let report = findings.report(&sources);
            Err(refused(report.first().map(|first| first.message.clone()).unwrap_or_default()))
        }
    }
}

/// Rows as a Markdown table; the first one is its head, short ones are filled up.
fn csv_to_table(values: &[&Value]) -> Outcome {
    let text = pretty(values[0]);
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut rows: Vec<Vec<String>> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| fault(format!("the text is no CSV: {error}")))?;
        rows.push(record.iter().map(str::to_owned).collect());
    }
    let Some((head, body)) = rows.split_first() else { return Ok("".into()) };
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    // A row that is far longer than the others would make all of them long.
    if columns.saturating_mul(rows.len()) > text.len().saturating_add(CELLS_ADDED_MAX) {
        return Err(fault("the rows of the CSV are too different in length".to_owned()));
    }
    Ok(table(head, body, columns).into())
}

/// Most cells by which short rows are filled up.
const CELLS_ADDED_MAX: usize = 1_000_000;

fn table(head: &[String], rows: &[Vec<String>], columns: usize) -> String {
    let line = |cells: &[String]| {
        let cells = (0..columns).map(|place| cells.get(place).map_or(String::new(), |c| cell(c)));
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = format!("|{}", " --- |".repeat(columns));
    let lines = [line(head), rule].into_iter().chain(rows.iter().map(|row| line(row)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A cell is one line, in which a bar is no border.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("\r\n", "<br>").replace(['\n', '\r'], "<br>")
}

/// Objects as `- **key**: value`, lists as bullets, lists of flat objects as tables.
fn markdown(value: &Value) -> Outcome {
    let mut out = String::new();
    block(value, 0, &mut out);
    out.truncate(out.trim_end().len());
    Ok(out.into())
}

fn block(value: &Value, level: usize, out: &mut String) {
    let margin = "  ".repeat(level);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                bullet(&format!("{margin}- **{key}**:"), value, level, out);
            }
        }
        Value::Array(items) => {
            if let Some(text) = flat_table(items).filter(|_| level == 0) {
                out.push_str(&text);
                out.push('\n');
                return;
            }
            for item in items {
                bullet(&format!("{margin}-"), item, level, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
}

fn bullet(lead: &str, value: &Value, level: usize, out: &mut String) {
    out.push_str(lead);
    if is_nested(value) {
        out.push('\n');
        block(value, level + 1, out);
    } else {
        // Further lines of a text belong to its bullet.
        let margin = format!("\n{}", "  ".repeat(level + 1));
        out.push_str(format!(" {}", inline(value).replace('\n', &margin)).trim_end());
        out.push('\n');
    }
}

fn is_nested(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn inline(value: &Value) -> String {
    if value.is_null() { "null".to_owned() } else { to_text(value) }
}

/// The table of objects that have the same keys and no list or object in them.
fn flat_table(items: &[Value]) -> Option<String> {
    let maps: Vec<&Map<String, Value>> =
        items.iter().map(Value::as_object).collect::<Option<_>>()?;
    let head: Vec<String> = maps.first()?.keys().cloned().collect();
    let fits = |map: &&Map<String, Value>| {
        map.keys().eq(head.iter()) && map.values().all(|value| !is_nested(value))
    };
    if head.is_empty() || !maps.iter().all(fits) {
        return None;
    }
    let rows: Vec<Vec<String>> =
        maps.iter().map(|map| map.values().map(inline).collect()).collect();
    Some(table(&head, &rows, head.len()))
}
