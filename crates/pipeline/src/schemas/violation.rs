//! One violation, and all of them as one text.

use std::fmt::{self, Write};

use serde_json::{Value, json};

/// Most lines of a report: more would fill the prompt of a repair, and help nobody.
const LINES_MAX: usize = 200;

/// One thing in which a value does not satisfy its schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// Where in the value.
    pub(crate) path: Vec<PathStep>,
    /// What is wrong there.
    pub(crate) message: String,
    pub(crate) kind: ViolationKind,
}

/// One step of a path into a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathStep {
    /// Of a list.
    Item(usize),
    /// Of an object.
    Field(String),
}

/// What sort of rule is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ViolationKind {
    /// The type of the value.
    Type,
    /// How large, long or many.
    Range,
    /// Anything else.
    Other,
}

impl Violation {
    /// One that is about the whole value.
    pub(crate) fn of_root(message: &str) -> Self {
        Self { path: Vec::new(), message: message.to_owned(), kind: ViolationKind::Other }
    }

    /// Its path as texts name it: `a.b[0].c`, or `(root)`.
    pub(crate) fn place(&self) -> String {
        place(&self.path)
    }

    /// As a value of records.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "path": self.place(), "message": self.message })
    }
}

/// `a.b[0].c`, or `(root)`.
pub(super) fn place(path: &[PathStep]) -> String {
    let mut shown = String::new();
    for step in path {
        match step {
            PathStep::Item(index) => shown.push_str(&format!("[{index}]")),
            PathStep::Field(name) => {
                if !shown.is_empty() {
                    shown.push('.');
                }
                shown.push_str(name);
            }
        }
    }
    if shown.is_empty() { "(root)".to_owned() } else { shown }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)
    }
}

/// All violations of the value of `step`: a header, and one numbered line each (YR-68).
pub(crate) fn report(step: &str, violations: &[Violation]) -> String {
    let count = violations.len();
    let errors = if count == 1 { "error" } else { "errors" };
    let mut text = format!("Schema validation failed for step '{step}' ({count} {errors}):");
    for (place, violation) in violations.iter().take(LINES_MAX).enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}. {violation}", place + 1);
    }
    if count > LINES_MAX {
        let _ = write!(text, "\n… and {} more", count - LINES_MAX);
    }
    text
}
