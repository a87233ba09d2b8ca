//! Semantics of supervision beside the rows of OTP's catalogue: kinds of children that OTP has not,
//! panics in odd places, and storms.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod actors;
mod drops;
mod dynamic;
mod ends;
mod gs_agent;
mod gs_call;
mod gs_callbacks;
mod gs_server;
mod gs_start;
mod gs_stop;
mod injected;
mod presence;
#[path = "../probe/mod.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod probe;
mod restarts;
mod shutdown;
mod starts;
mod storm;
mod tasks;
