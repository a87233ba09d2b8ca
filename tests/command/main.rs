//! What a person sees of the command.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod hello;
