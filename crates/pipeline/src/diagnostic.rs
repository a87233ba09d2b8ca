//! What is wrong with a document: where, why, and what would be right.

mod finding;
mod json;
mod text;

use std::{fmt, sync::Arc};

pub(crate) use finding::{Finding, Findings};
pub use json::report_json;
pub use text::render;

use crate::source::Span;

/// A stable number of the catalogue, shown as `PLnnn`.
///
/// ```
/// use perennial_pipeline::Code;
///
/// assert_eq!(Code(7).to_string(), "PL007");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PL{:03}", self.0)
    }
}

/// How bad it is. Only an error prevents a start.
///
/// ```
/// use perennial_pipeline::Severity;
///
/// assert!(Severity::Error < Severity::Note); // the worst stands first
/// assert_eq!(Severity::Warning.name(), "warning");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document cannot run.
    Error,
    /// Probably not what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing found in a document.
///
/// ```
/// use perennial_pipeline::Pipeline;
///
/// let text = b"workflow:\n  name: w\n  steps: [{name: a, type: ecko}]\n";
/// let found = &Pipeline::check("w.yaml", text).diagnostics[0];
/// assert_eq!((&*found.file, found.pointer.as_str()), ("w.yaml", "/workflow/steps/0/type"));
/// assert!(found.hint.as_ref().is_some_and(|hint| hint.contains("echo")));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Its number in the catalogue.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// The file as it was named.
    pub file: Arc<str>,
    /// JSON pointer of the value.
    pub pointer: String,
    /// Where; absent for what has no place, as the count of what was left out.
    pub span: Option<Span>,
    /// The line of the place, cut when long.
    pub excerpt: Option<Excerpt>,
    /// Further places.
    pub related: Vec<Related>,
}

/// The line of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, or the part of a long one around the place.
    pub text: String,
    /// Characters of the line left out before `text`.
    pub skipped: usize,
    /// What stands beside the carets.
    pub label: Option<String>,
}

/// A further place of a diagnostic.
#[derive(Clone, Debug, PartialEq)]
pub struct Related {
    /// What it is.
    pub message: String,
    /// The file as it was named.
    pub file: Arc<str>,
    /// Where.
    pub span: Span,
    /// Its line.
    pub excerpt: Excerpt,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", render(self, false))
    }
}
