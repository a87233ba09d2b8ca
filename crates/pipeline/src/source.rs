//! From bytes to a tree in which every value knows its place.

mod events;
mod files;
mod loader;
mod node;
mod registry;
mod scalar;
mod text;
mod tree;
mod version;

pub(crate) use events::NODES_MAX;
pub use files::FILE_BYTES_MAX;
pub(crate) use files::{FILES_MAX, FileId, Sources};
pub(crate) use loader::NothingElse;
pub use loader::{MemorySources, SourceFault, SourceFile, SourceLoader};
pub(crate) use node::{Alignment, Content, Entry, Node, Written};
pub(crate) use registry::NotRegistered;
pub use registry::{REGISTERED_MAX, Registry, RegistryError};
pub(crate) use scalar::is_plain_text;
pub(crate) use text::Extent;
pub use text::{Position, Span};
pub(crate) use tree::Duplicates;
pub(crate) use version::Wanted;
