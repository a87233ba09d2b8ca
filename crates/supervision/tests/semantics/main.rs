//! The semantics of OTP's supervision that everything above relies on.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod actors;
mod drops;
mod dynamic;
mod ends;
mod groups;
mod gs_agent;
mod gs_call;
mod gs_callbacks;
mod gs_server;
mod gs_start;
mod gs_stop;
mod injected;
mod presence;
mod probe;
mod requests;
mod restarts;
mod shutdown;
mod starts;
mod storm;
mod tasks;
