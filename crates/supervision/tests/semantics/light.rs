//! Light servers: what is promised of any server, and restarts in place.

#![expect(clippy::disallowed_methods, reason = "clients of a test are no part of the tree")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for the events that it is about")]

mod alone;
mod ends;
mod lamp;
mod limits;
mod shown;
mod starts;
mod storm;
mod unruly;
