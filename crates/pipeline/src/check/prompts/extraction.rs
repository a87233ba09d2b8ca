//! `extract_with` of `previous_response` parts, and what belongs to it (YP-10).

use super::super::{Check, Section};
use crate::{
    diagnostic::{Code, Finding, Severity},
    extraction::{Extraction, Format, Operation},
    spelling,
};

/// Most characters of an extracted summary that names no limit (2.6).
const SUMMARY_CHARS: u32 = 500;

impl Check<'_> {
    /// What is done with the text of the part, if anything is.
    pub(super) fn extraction(&mut self, section: &Section<'_>) -> Option<Extraction> {
        if section.get("extract_with").is_none() {
            for key in ["format", "post_processing"] {
                self.idle(section, key, "extract_with: content_extractor");
            }
            return None;
        }
        let operations = self.post_processing(section);
        Some(Extraction {
            format: section.text("format").and_then(Format::named).unwrap_or_default(),
            operations,
            max_summary: section.count("max_summary_length").unwrap_or(SUMMARY_CHARS),
        })
    }

    /// The operations that there are; others are told and left out (PL221).
    fn post_processing(&mut self, section: &Section<'_>) -> Vec<Operation> {
        let mut operations = Vec::new();
        let names = || Operation::ALL.iter().map(|(name, _)| *name);
        for (place, item) in section.list("post_processing").unwrap_or(&[]).iter().enumerate() {
            let Some(name) = item.as_text() else { continue };
            if let Some((_, operation)) = Operation::ALL.iter().find(|(known, _)| *known == name) {
                operations.push(*operation);
                continue;
            }
            let text = format!("unknown post-processing operation `{name}`");
            let (severity, text) = if self.lenient.is("post_processing", "error") {
                (Severity::Error, text)
            } else {
                (Severity::Warning, format!("{text}: it is left out"))
            };
            let hint = spelling::did_you_mean(name, names());
            let hint = hint.unwrap_or_else(|| {
                format!("the operations are: {}", names().collect::<Vec<_>>().join(", "))
            });
            let finding = Finding::new(Code(221), severity, text).at(item.extent).hint(hint);
            let pointer = format!("{}/{place}", section.pointer_of("post_processing"));
            self.findings.push(finding.pointer(pointer));
        }
        operations
    }

    /// A note that `key`, if it is there, has no effect without another.
    pub(super) fn idle(&mut self, section: &Section<'_>, key: &str, without: &str) {
        if let Some(entry) = section.get(key) {
            let text = format!("`{key}` has no effect without `{without}`");
            let note = Finding::note(Code(220), text).at(entry.key_extent);
            self.findings.push(note.pointer(section.pointer_of(key)));
        }
    }
}
