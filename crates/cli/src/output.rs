//! Writing for people and for machines.

use std::io::{self, IsTerminal, Write};

use perennial::{
    TreeSnapshot,
    inspect::{Glyphs, TextOptions, neutral, to_text},
};
use serde_json::Value;

/// Whether colours are welcome on stdout.
pub(crate) fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether colours are welcome on stderr.
pub(crate) fn talk_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether somebody stopped reading us.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Writes text to stdout as it is.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Writes one line to stdout; control characters from outside cannot repaint the terminal.
pub(crate) fn line(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{}", neutral(line))?;
    Ok(())
}

/// Writes one JSON value as one line to stdout.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Writes the tree: text for people, one line of JSON for machines.
pub(crate) fn tree(tree: &TreeSnapshot, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json(&serde_json::to_value(tree)?);
    }
    let options =
        TextOptions { glyphs: Glyphs::Unicode, color: colour(), ..TextOptions::default() };
    text(&to_text(tree, &options))
}

/// The first `max` characters of what a step gave, on one line.
pub(crate) fn brief(value: &Value, max: usize) -> String {
    let whole = match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => match map.get("text").and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    };
    let line = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Says one line on stderr; what is not heard does not matter.
pub(crate) fn talk(line: &str) {
    drop(writeln!(io::stderr().lock(), "{}", neutral(line)));
}

/// Says text of our own making, lines and colours included, on stderr.
pub(crate) fn talk_text(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
