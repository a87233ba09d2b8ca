//! The formats of the tree dump, seen from outside.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod diff;
mod drawing;
mod filter;
mod findings;
mod golden;
mod json;
mod sample;
mod schema;
mod size;
mod stable;
mod text;
