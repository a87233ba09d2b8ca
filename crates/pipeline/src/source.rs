//! From bytes to a tree in which every value knows its place.

mod events;
mod node;
mod scalar;
mod text;
mod tree;

pub(crate) use node::{Alignment, Content, Entry, Node};
pub(crate) use scalar::is_plain_text;
pub(crate) use text::{Extent, SourceText};
pub use text::{Position, Span};
pub(crate) use tree::{Duplicates, parse, parse_with};
