//! `file_ops` in a definition.

use serde::{Deserialize, Serialize};

use super::Effects;
use crate::expression::TemplateTree;

/// One operation on files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileOps {
    pub(crate) operation: Operation,
    /// The other keys of the step, a map.
    pub(crate) arguments: TemplateTree,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Copy,
    Move,
    Delete,
    Validate,
    List,
    Convert,
    StreamCopy,
    StreamProcess,
    Write,
    Read,
}

impl Operation {
    pub(crate) const ALL: [Self; 10] = [
        Self::Copy,
        Self::Move,
        Self::Delete,
        Self::Validate,
        Self::List,
        Self::Convert,
        Self::StreamCopy,
        Self::StreamProcess,
        Self::Write,
        Self::Read,
    ];

    /// Its name in documents and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Move => "move",
            Self::Delete => "delete",
            Self::Validate => "validate",
            Self::List => "list",
            Self::Convert => "convert",
            Self::StreamCopy => "stream_copy",
            Self::StreamProcess => "stream_process",
            Self::Write => "write",
            Self::Read => "read",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// Its keys: those it needs, and those it may have. Of `delete`, one of the two is needed.
    pub(crate) fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Copy | Self::Move => (&["source", "destination"], &["recursive", "options"]),
            Self::StreamCopy => (&["source", "destination"], &["chunk_size", "options"]),
            Self::Delete => (&[], &["path", "files", "recursive", "options"]),
            Self::Validate => (&["files"], &["options"]),
            Self::List => (
                &["path"],
                &[
                    "pattern",
                    "pattern_type",
                    "recursive",
                    "include_hidden",
                    "sort_by",
                    "limit",
                    "output_field",
                    "options",
                ],
            ),
            Self::Convert => (&["source", "destination", "format"], &["options"]),
            Self::StreamProcess => {
                (&["source", "processor"], &["destination", "chunk_size", "options"])
            }
            Self::Write => (&["path", "content"], &["append", "encoding", "options"]),
            Self::Read => (&["path"], &["encoding", "format", "options"]),
        }
    }

    /// What it touches (YR-12).
    pub(crate) fn effects(self) -> Effects {
        match self {
            Self::Validate | Self::List | Self::Read => Effects::Read,
            Self::Copy
            | Self::Move
            | Self::Delete
            | Self::Convert
            | Self::StreamCopy
            | Self::StreamProcess
            | Self::Write => Effects::Write,
        }
    }
}
