//! Writing for people and for machines.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use perennial::{
    TreeSnapshot,
    inspect::{self, Columns, TextOptions, neutral},
};
use serde_json::{Map, Value, json};

use crate::args::Format;

/// When to write colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

impl Colour {
    /// Whether colours are welcome on `stream`.
    pub(crate) fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Auto => {
                let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                stream.is_terminal() && !declined
            }
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What failed when stdout takes no more.
const UNWRITTEN: &str = "stdout cannot be written";

/// Says of an error of writing that it is one of stdout, and not of the store or a file.
fn written(written: io::Result<()>) -> anyhow::Result<()> {
    written.context(UNWRITTEN)
}

/// Whether somebody stopped reading us.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Writes text to stdout as it is.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// Writes one line to stdout; control characters from outside cannot repaint the terminal.
pub(crate) fn line(line: &str) -> anyhow::Result<()> {
    written(writeln!(io::stdout().lock(), "{}", neutral(line)))
}

/// Writes text of several lines to stdout, each below the other behind `margin` and each as harmless as [`line()`] makes
/// it.
pub(crate) fn lines(margin: &str, text: &str) -> anyhow::Result<()> {
    text.lines().try_for_each(|part| line(format!("{margin}{part}").trim_end()))
}

/// Writes one JSON value as one line to stdout.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    // Whole, then written: an error of writing stays what it is, so that a broken pipe is seen.
    text(&format!("{value}\n"))
}

/// Why a command did not do what it was asked, for programs.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    /// As it is said on stderr; lines of it may begin with `error[CODE]: ` or end in ` [CODE]`.
    pub(crate) text: &'a str,
    pub(crate) file: Option<&'a std::path::Path>,
    /// What was found in the file; otherwise what the lines say.
    pub(crate) diagnostics: Option<Value>,
    pub(crate) help: Option<&'a str>,
    /// The exit code.
    pub(crate) code: i32,
}

/// Writes a refusal as one JSON value; a reader that has left does not miss it.
pub(crate) fn refusal(refusal: &Refusal<'_>) {
    let lines = refusal.text.lines().filter_map(coded);
    let lines: Vec<Value> =
        lines.map(|(code, message)| json!({ "code": code, "message": message })).collect();
    let diagnostics = refusal.diagnostics.clone().unwrap_or_else(|| lines.into());
    let code = diagnostics.get(0).and_then(|first| first.get("code")).cloned();
    drop(json(&json!({
        "type": "error",
        "code": code,
        "message": coded(refusal.text).map_or(refusal.text, |(_, message)| message),
        "file": refusal.file.map(|file| file.display().to_string()),
        "diagnostics": diagnostics,
        "help": refusal.help,
        "exit_code": refusal.code,
    })));
}

/// The code and the rest of a line `error[CODE]: rest` or `rest [CODE]`.
fn coded(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("error[") {
        return rest.split_once("]: ");
    }
    let (rest, code) = line.trim_end().strip_suffix(']')?.rsplit_once(" [")?;
    let digits = code.strip_prefix("PL")?;
    let is_code = digits.len() == 3 && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_code.then_some((code, rest))
}

/// How a tree is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) format: Format,
    pub(crate) colour: Colour,
    pub(crate) stable: bool,
    /// How many nodes it has as a whole.
    pub(crate) total: Option<usize>,
    /// Which columns the text has, where somebody chose.
    pub(crate) columns: Option<Columns>,
}

/// Writes the tree; as JSON it is one line.
pub(crate) fn tree(tree: &TreeSnapshot, shape: Shape) -> anyhow::Result<()> {
    let placeholders = if shape.stable { Some(inspect::stable(tree)) } else { None };
    let shown = placeholders.as_ref().unwrap_or(tree);
    match shape.format {
        Format::Json => json(&serde_json::to_value(shown)?),
        Format::Ndjson => text(&inspect::to_ndjson(shown)),
        Format::Dot => text(&inspect::to_dot(shown)),
        Format::Mermaid => text(&inspect::to_mermaid(shown)),
        Format::Text => {
            let options = TextOptions {
                color: shape.colour.on(&io::stdout()),
                stable: shape.stable,
                total: shape.total,
                columns: shape.columns,
                // Nothing where stdout is no terminal: what is saved is whole.
                width: terminal_size::terminal_size_of(io::stdout())
                    .map(|(width, _)| width.0.into()),
                ..TextOptions::default()
            };
            text(&inspect::to_text(tree, &options))
        }
    }
}

/// Rows as lines whose cells begin below each other; a cell that is very long makes no other wider.
pub(crate) fn columns<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] =
        std::array::from_fn(|column| width(column).unwrap_or_default().min(CELL_MAX));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Characters of a cell for which room is kept.
const CELL_MAX: usize = 64;

/// Columns of the place that is written to: what COLUMNS says, else the terminal; none where stdout is
/// no terminal, as what is saved is whole.
pub(crate) fn width() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size_of(io::stdout());
    told.or_else(|| terminal().map(|(width, _)| width.0.into())).filter(|width| *width > 0)
}

/// `head`, filled up to `column`, and `text` beside it; in a narrow place below it, word by word.
pub(crate) fn entry(head: &str, column: usize, text: &str, width: Option<usize>) -> String {
    let whole = format!("{head:column$}  {text}");
    let Some(width) = width.filter(|width| whole.chars().count() > *width) else {
        return whole.trim_end().to_owned();
    };
    let indent = head.chars().take_while(|c| *c == ' ').count() + 4;
    let mut lines = vec![head.to_owned()];
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + word.chars().count() >= width {
            lines.push(format!("{:indent$}{}", "", std::mem::take(&mut line)));
        }
        line = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
    }
    lines.push(format!("{:indent$}{line}", ""));
    lines.join("\n")
}

/// The first `max` characters of what a step gave, on one line.
pub(crate) fn brief(value: &Value, max: usize) -> String {
    let words = match value {
        Value::String(text) => text.clone(),
        Value::Object(record) => told(record).unwrap_or_else(|| value.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    };
    cut(&words.split_whitespace().collect::<Vec<_>>().join(" "), max)
}

/// What people look for in a record: a reply, a reason, or the variables that were set.
fn told(record: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
    if record.get("success") == Some(&Value::Bool(false)) {
        return text("error_message");
    }
    if record.get("skipped") == Some(&Value::Bool(true)) {
        return text("reason");
    }
    if record.contains_key("variables_set") {
        let values = record.get("values")?.as_object()?;
        let pairs = values.iter().map(|(name, value)| format!("{name} = {}", brief(value, 40)));
        return Some(pairs.collect::<Vec<_>>().join(", "));
    }
    text("text")
}

/// `text`, or its beginning and an ellipsis: `max` characters at most.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// Characters of a text from the command line that are told back.
const TYPED_MAX: usize = 200;

/// What somebody typed, as an error tells it: its beginning, on one line.
pub(crate) fn typed(text: &str) -> String {
    cut(&neutral(text), TYPED_MAX)
}

/// A duration for people.
pub(crate) fn took(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Says what is wrong, line by line.
pub(crate) fn problem(text: &str) {
    // What has a code of its own says that it is an error.
    let label = if text.starts_with("error[") { "" } else { "error: " };
    for (place, line) in text.trim_end().lines().enumerate() {
        talk(&if place == 0 { format!("{label}{line}") } else { line.to_owned() });
    }
}

/// Says what is worth a look, and keeps nothing from going on.
pub(crate) fn warning(text: &str) {
    talk(&format!("warning: {text}"));
}

/// Says one line on stderr; what is not heard does not matter.
pub(crate) fn talk(line: &str) {
    drop(writeln!(io::stderr().lock(), "{}", neutral(line)));
}

/// Says text of our own making, lines and colours included, on stderr.
pub(crate) fn talk_text(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_in_a_few_words() {
        for (record, words) in [
            (json!({"text": "two\n lines"}), "two lines"),
            (json!({"variables_set": ["a"], "values": {"a": 1}}), "a = 1"),
            (json!({"skipped": true, "reason": "Condition not met: x"}), "Condition not met: x"),
            (json!({"success": false, "error_message": "no", "text": "yes"}), "no"),
            (json!({"a": 1}), "{\"a\":1}"),
            (json!([1]), "[1]"),
        ] {
            assert_eq!(brief(&record, 40), words);
        }
        assert_eq!((cut("äöü", 3).as_str(), cut("äöü!", 3).as_str()), ("äöü", "äö…"));
    }

    #[test]
    fn a_code_is_found_before_and_behind_what_is_said() {
        for (line, found) in [
            ("error[PL101]: no file", Some(("PL101", "no file"))),
            ("run r has ended (completed) [PL904]", Some(("PL904", "run r has ended (completed)"))),
            ("a list [1]", None),
            ("a name [PLATE]", None),
            ("no code", None),
        ] {
            assert_eq!(coded(line), found, "{line}");
        }
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (millis, text) in
            [(33, "33 ms"), (1_500, "1.5 s"), (61_000, "1m01s"), (3_720_000, "1h02m")]
        {
            assert_eq!(took(Duration::from_millis(millis)), text);
        }
    }
}
