//! The files of one definition: each read once, all of them able to show a place.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    loader::SourceFile,
    node::Node,
    text::{Extent, Position, SourceText, Span},
    tree::{self, Duplicates},
};
use crate::diagnostic::{Code, Finding, Findings};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most files of one definition.
pub(crate) const FILES_MAX: usize = 200;

/// One file of a definition, by the order of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(usize);

impl FileId {
    /// The document itself.
    pub(crate) const ROOT: Self = Self(0);
}

/// All files read so far.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
    known: HashMap<String, FileId>,
    /// Files whose own keys were looked at.
    looked_at: HashSet<FileId>,
    duplicates: Duplicates,
}

#[derive(Debug)]
struct Source {
    name: Arc<str>,
    /// Bytes of all files before it.
    base: usize,
    text: SourceText,
    /// None when it is no YAML.
    tree: Option<Arc<Node>>,
}

impl Sources {
    /// No file yet; those that come are read with this decision about keys that occur twice.
    pub(crate) fn of(duplicates: Duplicates) -> Self {
        Self { duplicates, ..Self::default() }
    }

    /// Adds a file and parses it, unless it is there already; what is wrong with it goes to
    /// `findings`, once.
    pub(crate) fn add(&mut self, file: &SourceFile, findings: &mut Findings) -> FileId {
        if let Some(id) = self.known.get(&file.identity) {
            return *id;
        }
        let id = FileId(self.files.len());
        // One more byte, so that the end of a file is not the start of the next.
        let base = self.files.last().map_or(0, |last| last.base + last.text.as_str().len() + 1);
        let mut own = Findings::default();
        let (text, tree) = read(file, self.duplicates, &mut own);
        let tree = tree.map(|tree| Arc::new(tree.shifted(base)));
        findings.adopt(own, base);
        self.files.push(Source { name: Arc::from(file.name.as_str()), base, text, tree });
        self.known.insert(file.identity.clone(), id);
        id
    }

    /// Whether there is room for `file`: it was read before, or the definition may have more.
    pub(crate) fn has_room_for(&self, file: &SourceFile) -> bool {
        self.known.contains_key(&file.identity) || self.files.len() < FILES_MAX
    }

    /// Whether `file` is looked at for the first time.
    pub(crate) fn first_look(&mut self, file: FileId) -> bool {
        self.looked_at.insert(file)
    }

    /// The tree of a file; none when it could not be read as YAML.
    pub(crate) fn tree(&self, file: FileId) -> Option<Arc<Node>> {
        self.files.get(file.0)?.tree.clone()
    }

    /// The file a place is in.
    pub(crate) fn file_of(&self, extent: Extent) -> FileId {
        let behind = self.files.partition_point(|source| source.base <= extent.start);
        FileId(behind.saturating_sub(1))
    }

    pub(crate) fn name(&self, file: FileId) -> Arc<str> {
        self.files.get(file.0).map_or_else(|| Arc::from(""), |source| source.name.clone())
    }

    /// The text of `extent`, cut to what exists.
    pub(crate) fn slice(&self, extent: Extent) -> &str {
        let Some(source) = self.source(extent) else { return "" };
        let (start, end) = (extent.start - source.base, extent.end.saturating_sub(source.base));
        source.text.slice(Extent::new(start, end))
    }

    pub(crate) fn span(&self, extent: Extent) -> Span {
        let place = |byte: usize| match self.source(extent) {
            Some(source) => source.text.position(byte.saturating_sub(source.base)),
            None => Position { line: 1, column: 1, offset: 0 },
        };
        Span { start: place(extent.start), end: place(extent.end) }
    }

    /// The text of the line number `line` (from 1) of the file of `extent`.
    pub(crate) fn line(&self, extent: Extent, line: usize) -> &str {
        self.source(extent).map_or("", |source| source.text.line(line))
    }

    fn source(&self, extent: Extent) -> Option<&Source> {
        self.files.get(self.file_of(extent).0)
    }
}

fn read(
    file: &SourceFile,
    duplicates: Duplicates,
    findings: &mut Findings,
) -> (SourceText, Option<Node>) {
    if file.bytes.len() > FILE_BYTES_MAX {
        let text = "the file has more than 4 MiB; no more are read";
        findings.push(Finding::error(Code(107), text));
        return (SourceText::lossy(b""), None);
    }
    match SourceText::new(&file.bytes) {
        Ok(source) => {
            let tree = tree::parse(&source, &file.name, duplicates, findings);
            (source, tree)
        }
        Err(at) => {
            let text = format!("Failed to parse YAML: {}: byte {at} is not UTF-8", file.name);
            // What stands before the fault is valid and keeps its offsets.
            findings.push(Finding::error(Code(102), text).at(Extent::new(at, at)));
            (SourceText::lossy(&file.bytes), None)
        }
    }
}
