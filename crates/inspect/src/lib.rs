//! Shows: the formats of the tree dump. Every format is written from the value
//! [`TreeSnapshot`](perennial_core::tree::TreeSnapshot) and works as well on a saved dump; no actor is
//! asked, no clock is read.
//!
//! | room | what it knows |
//! |---|---|
//! | `text` | the tree for people: columns, glyphs, colour |
//! | `dot`, `mermaid` | the tree as a drawing |
//! | `filter` | parts of a tree |
//! | `diff` | what changed between two dumps |
//! | `findings` | what is wrong with a tree, from one dump or several |
//! | `json` | the document, there and back |
//! | `schema` | the published JSON Schema of the document |
//! | `stable` | which parts of a dump differ from one start to the next |
//! | `neutral` | text from outside, made harmless for a terminal |
//! | `outline`, `standing`, `words` | what the renderings share: who hangs on whom, who is in trouble |
//!
//! ```
//! use perennial_inspect::{Glyphs, TextOptions, from_json, to_text};
//!
//! # fn main() -> Result<(), perennial_inspect::DumpError> {
//! let saved = r#"{
//!     "schema": "perennial.tree/1",
//!     "runtime": {"name": "orders", "version": "0.1.0", "node": "node-a", "instance": "1"},
//!     "uptime_ms": 15120000,
//!     "nodes": []
//! }"#;
//! let text = to_text(&from_json(saved)?, &TextOptions { glyphs: Glyphs::Ascii, ..Default::default() });
//! assert_eq!(text, "orders@node-a  perennial 0.1.0  up 4h12m  0 nodes\n");
//! # Ok(())
//! # }
//! ```

mod diff;
mod dot;
mod filter;
mod findings;
mod json;
mod mermaid;
mod neutral;
mod outline;
mod schema;
mod stable;
mod standing;
mod text;
mod words;

pub use diff::{
    Change, DIFF_SCHEMA, DiffOptions, FromTo, Listed, Restarted, TreeDiff, diff, diff_to_text,
};
pub use dot::to_dot;
pub use filter::{Filter, PathPattern, PatternError, filtered};
pub use findings::{Thresholds, diagnosed};
pub use json::{DumpError, from_json, to_json, to_ndjson};
pub use mermaid::to_mermaid;
pub use neutral::neutral;
pub use schema::schema;
pub use stable::stable;
pub use text::{Column, Columns, Glyphs, TextOptions, to_text};
pub use words::{kind_word, severity_word, state_word};

/// The words of the dump that its readers need.
pub use perennial_core::tree::{Finding, NodeKind, NodeState, Severity};

/// The rows of `tests/data/odd_names.jsonl`: a name, and what stands for it in DOT and in Mermaid.
#[cfg(test)]
fn odd_names() -> Vec<[String; 3]> {
    include_str!("../tests/data/odd_names.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row has three texts"))
        .collect()
}
