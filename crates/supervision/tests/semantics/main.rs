//! Semantics of supervision beside the rows of OTP's catalogue: kinds of children that OTP has not,
//! panics in odd places, random histories against a model of the tables, and storms.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod actors;
mod applications;
mod dice;
mod drops;
mod dynamic;
mod ends;
mod errors;
#[path = "../probe/server.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod gs_server;
mod histories;
mod injected;
mod isolation;
mod light;
mod mailboxes;
mod presence;
#[path = "../probe/mod.rs"]
#[allow(dead_code, reason = "the other test target uses the rest")]
mod probe;
mod restarts;
mod schedules;
mod scopes;
mod servers;
mod shutdown;
mod starts;
mod storm;
mod streams;
mod tasks;
mod timers;
mod traps;
mod waits;
