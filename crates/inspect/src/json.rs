//! The dump as one JSON document: `from_json(&to_json(&tree))` is `tree` (FMT-4).

use perennial_core::tree::{SCHEMA, TreeSnapshot};
use serde::Deserialize;

/// A text that is not a dump this version reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// No JSON, or not of the dump's shape.
    #[error("this is not a tree dump: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another format, or another major version of this one.
    #[error("the dump is of schema `{found}`; this version reads `{SCHEMA}`", found = crate::neutral(found))]
    OtherSchema {
        /// What the document says it is.
        found: String,
    },
}

/// The part of any dump that tells how to read the rest.
#[derive(Deserialize)]
struct Label {
    schema: String,
}

/// The dump as an indented JSON document.
pub fn to_json(tree: &TreeSnapshot) -> String {
    serde_json::to_string_pretty(tree).expect("all keys are strings and no number is infinite")
}

/// Reads a dump written by this or an earlier version of the same major; unknown fields are ignored.
///
/// # Errors
///
/// If `text` is no JSON, is of another schema, or lacks a field that the schema requires.
pub fn from_json(text: &str) -> Result<TreeSnapshot, DumpError> {
    let Label { schema } = serde_json::from_str(text)?;
    if schema != SCHEMA {
        return Err(DumpError::OtherSchema { found: schema });
    }
    Ok(serde_json::from_str(text)?)
}
