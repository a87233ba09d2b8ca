//! The semantics of OTP's supervision that everything above relies on.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod actors;
mod dynamic;
mod groups;
mod injected;
mod probe;
mod requests;
mod restarts;
mod shutdown;
mod starts;
mod tasks;
