//! What a host sees, through the facade only: one module per promise.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod embedding;
