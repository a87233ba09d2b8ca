//! The formats of the tree dump, seen from outside.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod golden;
mod json;
mod sample;
mod schema;
mod stable;
mod text;
