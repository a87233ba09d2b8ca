//! What the checks find, before lines and columns are computed for what is shown.

use super::{Code, Diagnostic, Excerpt, Related, Severity};
use crate::{
    environment::looks_secret,
    source::{Extent, Sources},
};

/// Diagnostics shown for one file; the rest is counted.
const SHOWN_MAX: usize = 200;
/// Characters of a line that are shown.
const EXCERPT_MAX: usize = 160;

/// One fault at a range of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    code: Code,
    severity: Severity,
    message: String,
    hint: Option<String>,
    label: Option<String>,
    pointer: String,
    extent: Extent,
    related: Vec<(String, Extent)>,
}

impl Finding {
    pub(crate) fn new(code: Code, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            hint: None,
            label: None,
            pointer: String::new(),
            extent: Extent::default(),
            related: Vec::new(),
        }
    }

    pub(crate) fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message)
    }

    pub(crate) fn note(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Note, message)
    }

    pub(crate) fn at(mut self, extent: Extent) -> Self {
        self.extent = extent;
        self
    }

    pub(crate) fn pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = pointer.into();
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint, when there is one.
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn related(mut self, message: impl Into<String>, extent: Extent) -> Self {
        self.related.push((message.into(), extent));
        self
    }

    /// What it says.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Whether it is an error, and not about values of which nothing is known yet.
    pub(crate) fn refuses(&self, unknown: &[Extent]) -> bool {
        self.severity == Severity::Error && !unknown.contains(&self.extent)
    }

    fn shown(self, sources: &Sources) -> Diagnostic {
        Diagnostic {
            code: self.code,
            severity: self.severity,
            message: self.message,
            hint: self.hint,
            file: sources.name(sources.file_of(self.extent)),
            pointer: self.pointer,
            span: Some(sources.span(self.extent)),
            excerpt: Some(excerpt(sources, self.extent, self.label)),
            related: self
                .related
                .into_iter()
                .map(|(message, extent)| Related {
                    message,
                    file: sources.name(sources.file_of(extent)),
                    span: sources.span(extent),
                    excerpt: excerpt(sources, extent, None),
                })
                .collect(),
        }
    }
}

fn excerpt(sources: &Sources, extent: Extent, label: Option<String>) -> Excerpt {
    let start = sources.span(extent).start;
    let line = sources.line(extent, start.line);
    let fits = line.len() <= EXCERPT_MAX;
    let skipped = if fits { 0 } else { (start.column - 1).saturating_sub(EXCERPT_MAX / 2) };
    let text = masked(line).chars().skip(skipped).take(EXCERPT_MAX).collect();
    Excerpt { text, skipped, label }
}

/// `line` with a star for every character of what looks like a secret.
fn masked(line: &str) -> String {
    let mut shown = line.to_owned();
    while let Some(found) = looks_secret(&shown) {
        let stars = "*".repeat(found.end - found.start);
        shown.replace_range(found.start..found.end, &stars);
    }
    shown
}

/// All that was found in the files of a definition.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// How many there are so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes away what was found since there were `len`.
    pub(crate) fn split_off(&mut self, len: usize) -> Vec<Finding> {
        self.0.split_off(len)
    }

    /// Whether another hint is worth its search: most findings beyond this many are not shown.
    pub(crate) fn wants_hints(&self) -> bool {
        self.0.len() < 1_000
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Forgets what is wrong with values of which nothing is known yet.
    pub(crate) fn forgive(&mut self, unknown: &[Extent]) {
        self.0.retain(|finding| finding.severity != Severity::Error || finding.refuses(unknown));
    }

    /// Takes over what was found in a file that begins `base` bytes behind the first one.
    pub(crate) fn adopt(&mut self, found: Self, base: usize) {
        self.0.extend(found.0.into_iter().map(|mut finding| {
            finding.extent = finding.extent.shifted(base);
            for (_, extent) in &mut finding.related {
                *extent = extent.shifted(base);
            }
            finding
        }));
    }

    /// Ordered by file and place, and cut (YF-17); what is left out of a file is counted in a last
    /// line about it.
    pub(crate) fn report(mut self, sources: &Sources) -> Vec<Diagnostic> {
        self.0.sort_by_key(|finding| (finding.extent, finding.severity));
        // A file that several steps name is checked for each of them.
        self.0.dedup_by(|one, other| {
            (one.extent, one.code, &one.message) == (other.extent, other.code, &other.message)
        });
        let mut report = Vec::new();
        let file = |finding: &Finding| sources.file_of(finding.extent);
        for of_file in self.0.chunk_by(|one, next| file(one) == file(next)) {
            let (shown, rest) = of_file.split_at(of_file.len().min(SHOWN_MAX));
            report.extend(shown.iter().map(|finding| finding.clone().shown(sources)));
            if let Some(worst) = rest.iter().min_by_key(|finding| finding.severity) {
                report.push(Diagnostic {
                    code: worst.code,
                    severity: worst.severity,
                    message: format!("{} more diagnostics in this file are not shown", rest.len()),
                    hint: None,
                    file: sources.name(sources.file_of(worst.extent)),
                    pointer: String::new(),
                    span: None,
                    excerpt: None,
                    related: Vec::new(),
                });
            }
        }
        report
    }
}
