//! Several nodes on one store, in one process and on the paused clock: their leases, their deaths, and what
//! becomes of what they were at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod blocking;
mod cancelling;
mod claims;
mod link;
mod node;
mod poison;
mod room;
mod settings;
mod takeover;
mod turns;
mod upgrade;
mod weather;
mod work;
