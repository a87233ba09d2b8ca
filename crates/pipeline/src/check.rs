//! From a tree to a pipeline: every fault found at once, each at its place.

mod chat;
mod conditions;
mod defaults;
mod document;
mod files;
mod inputs;
mod keys;
mod nested;
mod policy;
mod prompts;
mod references;
mod section;
mod steps;
mod templates;
mod variables;

use std::sync::Arc;

use crate::{
    definition::{Input, Lenience, Leniency, Pipeline},
    diagnostic::{Code, Diagnostic, Finding, Findings, Severity},
    source::{self, Content, Duplicates, Extent, Node, SourceText},
};

use references::Around;
pub(crate) use references::Known;
pub(crate) use section::Section;

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The outcome of a check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Everything found, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The pipeline, when no diagnostic is an error.
    pub pipeline: Option<Pipeline>,
    /// Inputs found, also of a faulty document.
    pub inputs: Vec<Input>,
}

impl Checked {
    /// How many diagnostics are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|shown| shown.severity == severity).count()
    }
}

/// What all checks share: the file, what is known of it, and what was found.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    pub(crate) file: &'a str,
    pub(crate) source: &'a SourceText,
    pub(crate) findings: Findings,
    pub(crate) known: Known,
    pub(crate) lenient: Lenience,
    /// What is stronger than the document.
    pub(crate) outside: &'a Leniency,
    /// The scopes around the one that is checked, the document first.
    pub(super) around: Vec<Around>,
}

impl Pipeline {
    /// Checks the document `bytes`, called `file` in what is shown. Pure: nothing is read.
    pub fn check(file: &str, bytes: &[u8]) -> Checked {
        Self::check_with(file, bytes, &Leniency::as_written())
    }

    /// The same with a `leniency` that is stronger than the document's own.
    pub fn check_with(file: &str, bytes: &[u8], leniency: &Leniency) -> Checked {
        let shown: Arc<str> = Arc::from(file);
        let refused = |finding: Finding, source: &SourceText| {
            let mut findings = Findings::default();
            findings.push(finding);
            let diagnostics = findings.report(&shown, source);
            Checked { diagnostics, pipeline: None, inputs: Vec::new() }
        };
        if bytes.len() > FILE_BYTES_MAX {
            let text = "the file has more than 4 MiB; no more are read";
            return refused(Finding::error(Code(107), text), &SourceText::lossy(b""));
        }
        let source = match SourceText::new(bytes) {
            Ok(source) => source,
            Err(at) => {
                let text = format!("Failed to parse YAML: {file}: byte {at} is not UTF-8");
                // What stands before the fault is valid and keeps its offsets.
                let finding = Finding::error(Code(102), text).at(Extent::new(at, at));
                return refused(finding, &SourceText::lossy(bytes));
            }
        };
        let mut findings = Findings::default();
        let mut tree = source::parse(&source, file, &mut findings);
        let lenient = lenience(tree.as_ref(), leniency);
        if lenient.is("duplicate_keys", "last_wins") && findings.has_errors() {
            findings = Findings::default();
            tree = source::parse_with(&source, file, Duplicates::LastWins, &mut findings);
        }
        let Some(root) = tree else {
            let diagnostics = findings.report(&shown, &source);
            return Checked { diagnostics, pipeline: None, inputs: Vec::new() };
        };
        let mut check = Check {
            file,
            source: &source,
            findings,
            known: Known::default(),
            lenient,
            outside: leniency,
            around: Vec::new(),
        };
        let model = check.document(&root);
        let inputs = model.as_ref().map(|model| model.inputs.clone()).unwrap_or_default();
        let faulty = check.findings.has_errors();
        let pipeline = model.filter(|_| !faulty).map(Pipeline::of);
        Checked { diagnostics: check.findings.report(&shown, &source), pipeline, inputs }
    }
}

/// The leniency of a document, whatever else is wrong with it.
fn lenience(root: Option<&Node>, outside: &Leniency) -> Lenience {
    let workflow = root.map(|root| root.under("workflow").unwrap_or(root));
    let lenient = workflow.and_then(|workflow| workflow.under("lenient"));
    workflow_lenience(lenient, outside, &Lenience::default())
}

/// The leniency that the map `lenient` asks for, in a document that has that of `around`.
fn workflow_lenience(lenient: Option<&Node>, outside: &Leniency, around: &Lenience) -> Lenience {
    let scalar = |node: &Node| match &node.content {
        Content::Text { value, .. } => Some(value.clone()),
        Content::Bool(value) => Some(value.to_string()),
        Content::Null | Content::Number(_) | Content::List(_) | Content::Map(_) => None,
    };
    Lenience::of(outside, |option| scalar(lenient?.under(option)?), around)
}

/// The JSON Schema (draft 2020-12) of the documents that this version accepts: the shape of them;
/// references, templates and conditions are for [`Pipeline::check`].
pub fn schema() -> serde_json::Value {
    keys::schema()
}

/// Reads YAML (or JSON) that is no workflow, such as scripted replies: one value, with the same
/// rules and limits as documents.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn read_yaml(file: &str, bytes: &[u8]) -> Result<serde_json::Value, Vec<Diagnostic>> {
    let shown: Arc<str> = Arc::from(file);
    let mut findings = Findings::default();
    let source = match SourceText::new(bytes) {
        Ok(source) => source,
        Err(at) => {
            let text = format!("Failed to parse YAML: {file}: byte {at} is not UTF-8");
            findings.push(Finding::error(Code(102), text).at(Extent::new(at, at)));
            return Err(findings.report(&shown, &SourceText::lossy(bytes)));
        }
    };
    let root = source::parse(&source, file, &mut findings);
    match root {
        Some(root) if !findings.has_errors() => Ok(root.to_value()),
        Some(_) | None => Err(findings.report(&shown, &source)),
    }
}
