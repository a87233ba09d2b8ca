//! The form of an extracted text (YS-27).

use serde_json::{Value, json};

use super::{Format, found::heading};
use crate::expression::cut_at_word;

/// `text` in the form that `format` names.
pub(super) fn formatted(text: &str, format: Format, max_summary: u32) -> String {
    match format {
        Format::Text => text.to_owned(),
        Format::Json if serde_json::from_str::<Value>(text).is_ok() => text.to_owned(),
        Format::Json => json!({ "content": text, "format": "json" }).to_string(),
        Format::Structured if text.contains("##") => text.to_owned(),
        Format::Structured => format!("## Extracted Content\n\n{text}"),
        Format::Summary => cut_at_word(text, max_summary),
        Format::Markdown if text.lines().any(|line| heading(line).is_some()) => text.to_owned(),
        Format::Markdown => format!("# Extracted Content\n\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_given_where_they_are_missing() {
        for (text, format, expected) in [
            ("x", Format::Text, "x"),
            ("[1]", Format::Json, "[1]"),
            ("x", Format::Json, "{\"content\":\"x\",\"format\":\"json\"}"),
            ("x", Format::Structured, "## Extracted Content\n\nx"),
            ("a ## b", Format::Structured, "a ## b"),
            ("one two three", Format::Summary, "one two..."),
            ("one two th", Format::Summary, "one two th"),
            ("x", Format::Markdown, "# Extracted Content\n\nx"),
            ("x\n## y", Format::Markdown, "x\n## y"),
        ] {
            assert_eq!(formatted(text, format, 10), expected, "{text} {format:?}");
        }
    }
}
