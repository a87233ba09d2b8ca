//! The text form of a diagnostic (YF-21): plain, or coloured for a terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use super::{Diagnostic, Excerpt, Severity};
use crate::source::Span;

/// `diagnostic` as text, with a newline at its end. Colour is for terminals only (YF-25).
///
/// ```
/// use perennial_pipeline::{Pipeline, render};
///
/// let checked = Pipeline::check("w.yaml", b"workflow: {name: w, steps: [{name: a, type: ecko}]}");
/// let text = render(&checked.diagnostics[0], false);
/// assert!(text.contains("w.yaml:1:") && text.contains("ecko"), "{text}");
/// ```
pub fn render(diagnostic: &Diagnostic, colour: bool) -> String {
    let paint = Paint { colour, severity: diagnostic.severity };
    let widest = diagnostic
        .span
        .iter()
        .chain(diagnostic.related.iter().map(|related| &related.span))
        .map(|span| span.start.line.to_string().len())
        .max()
        .unwrap_or(1);
    let margin = " ".repeat(widest);
    let mut out = format!(
        "{}: {}\n",
        paint.strong(&format!("{}[{}]", diagnostic.severity.name(), diagnostic.code)),
        visible(&diagnostic.message),
    );
    let mut place = |file: &str, span: &Span, excerpt: &Excerpt, heading: Option<&str>| {
        if let Some(heading) = heading {
            let heading = visible(heading);
            let _ = writeln!(out, "{margin} = {}: {heading}", paint.faint("note"));
        }
        let (line, column) = (span.start.line, span.start.column);
        let _ = writeln!(out, "{margin}{} {}:{line}:{column}", paint.faint("-->"), visible(file));
        let bar = paint.faint("|");
        let (before, carets) = carets(span, excerpt);
        let text = visible(&excerpt.text);
        let label = excerpt.label.as_deref().map_or_else(String::new, |label| format!(" {label}"));
        let _ = writeln!(out, "{margin} {bar}");
        let number = paint.faint(&format!("{line:>widest$}"));
        let _ = writeln!(out, "{}", format!("{number} {bar} {text}").trim_end());
        let marks = paint.strong(&format!("{carets}{label}"));
        let _ = writeln!(out, "{margin} {bar} {before}{marks}");
    };
    if let (Some(span), Some(excerpt)) = (&diagnostic.span, &diagnostic.excerpt) {
        place(&diagnostic.file, span, excerpt, None);
    }
    for related in &diagnostic.related {
        place(&related.file, &related.span, &related.excerpt, Some(&related.message));
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(out, "{margin} = hint: {}", visible(hint));
    }
    out
}

/// The white space before the carets, and the carets under the first line of `span`.
fn carets(span: &Span, excerpt: &Excerpt) -> (String, String) {
    let first = (span.start.column - 1).saturating_sub(excerpt.skipped);
    let length = if span.end.line == span.start.line {
        span.end.column.saturating_sub(span.start.column)
    } else {
        usize::MAX
    };
    let columns = |text: &mut dyn Iterator<Item = char>| -> usize { text.map(columns_of).sum() };
    let before = columns(&mut excerpt.text.chars().take(first));
    let under = columns(&mut excerpt.text.chars().skip(first).take(length));
    (" ".repeat(before), "^".repeat(under.max(1)))
}

fn columns_of(c: char) -> usize {
    if c.is_control() { 1 } else { c.width().unwrap_or(1) }
}

/// Control characters do not reach a terminal.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

struct Paint {
    colour: bool,
    severity: Severity,
}

impl Paint {
    fn strong(&self, text: &str) -> String {
        let code = match self.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Note => "1;36",
        };
        self.with(code, text)
    }

    fn faint(&self, text: &str) -> String {
        self.with("1;34", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
