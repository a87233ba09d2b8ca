//! A file that a document names.

use crate::{
    check::Check,
    diagnostic::{Code, Finding, Severity},
    source::{Extent, FILES_MAX, FileId, SourceFault},
};

/// Where a document names another file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference<'a> {
    /// What it says.
    pub(crate) path: &'a str,
    /// Where it says so; its file is the document the path is relative to.
    pub(crate) extent: Extent,
    pub(crate) pointer: &'a str,
    /// The code of a file that cannot be had.
    pub(crate) code: Code,
}

impl Check<'_> {
    /// Reads and parses the file that a document names, unless it was read before. What is wrong
    /// is reported at the reference; what is wrong inside the file, in the file.
    pub(crate) fn open(&mut self, reference: &Reference<'_>) -> Option<FileId> {
        self.open_saying(reference, &ToString::to_string)
    }

    /// As [`Self::open`], with a text of its own for a file that cannot be had.
    pub(crate) fn open_saying(
        &mut self,
        reference: &Reference<'_>,
        text: &dyn Fn(&SourceFault) -> String,
    ) -> Option<FileId> {
        let Reference { path, extent, pointer, code } = *reference;
        let named_in = self.sources.name(self.sources.file_of(extent));
        let refuse = |code, text: String| Finding::error(code, text).at(extent).pointer(pointer);
        let file = match self.loader.read(path, &named_in) {
            Ok(file) => file,
            Err(fault) => {
                self.findings.push(refuse(code, text(&fault)));
                return None;
            }
        };
        if !self.sources.has_room_for(&file) {
            let text = format!("the definition has more than {FILES_MAX} files");
            self.findings.push(refuse(Code(107), text));
            return None;
        }
        if let Some(other) = &file.shadows {
            let text = format!(
                "`{path}` is {} under the project root, and {other} beside the document; \
                 the one under the root is taken",
                file.name
            );
            let warning = Finding::new(code, Severity::Warning, text);
            self.findings.push(warning.at(extent).pointer(pointer));
        }
        Some(self.sources.add(&file, &mut self.findings))
    }
}
