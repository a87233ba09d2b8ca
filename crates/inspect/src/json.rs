//! The dump as one JSON document: `from_json(&to_json(&tree))` is `tree` (FMT-4).

use perennial_core::tree::{SCHEMA, TreeSnapshot};
use serde::{Deserialize, Serialize};

/// A text that is not a dump this version reads.
///
/// ```
/// use perennial_inspect::from_json;
///
/// let other = r#"{"schema": "perennial.tree/9", "nodes": []}"#;
/// assert!(from_json(other).unwrap_err().to_string().contains("perennial.tree/9"));
/// assert!(from_json("no JSON").is_err());
/// ```
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
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{DumpError, from_json, to_json};
///
/// let tree = tree("running", 1);
/// assert_eq!(from_json(&to_json(&tree))?, tree);
/// # Ok::<(), DumpError>(())
/// ```
pub fn to_json(tree: &TreeSnapshot) -> String {
    serde_json::to_string_pretty(tree).expect("all keys are strings and no number is infinite")
}

/// The dump as lines of JSON, for readers that take a node at a time: the envelope, whose lists are empty,
/// then each node, then an object with the findings.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::to_ndjson;
///
/// let lines = to_ndjson(&tree("running", 1));
/// assert_eq!(lines.lines().count(), 4); // the envelope, two nodes, the findings
/// ```
pub fn to_ndjson(tree: &TreeSnapshot) -> String {
    let envelope = TreeSnapshot {
        schema: tree.schema.clone(),
        runtime: tree.runtime.clone(),
        taken_at: tree.taken_at.clone(),
        completeness: tree.completeness.clone(),
        nodes: Vec::new(),
        findings: Vec::new(),
        ..*tree
    };
    let mut out = String::with_capacity(tree.nodes.len() * 256);
    line(&mut out, &envelope);
    for node in &tree.nodes {
        line(&mut out, node);
    }
    line(&mut out, &serde_json::json!({ "findings": tree.findings }));
    out
}

fn line(out: &mut String, value: &impl Serialize) {
    out.push_str(
        &serde_json::to_string(value).expect("all keys are strings and no number is infinite"),
    );
    out.push('\n');
}

/// Reads a dump written by this or an earlier version of the same major; unknown fields are ignored.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::{DumpError, from_json, to_json};
///
/// let saved = to_json(&tree("running", 1));
/// let tree = from_json(&saved)?;
/// assert_eq!((tree.runtime.name.as_str(), tree.nodes.len()), ("orders", 2));
/// # Ok::<(), DumpError>(())
/// ```
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
