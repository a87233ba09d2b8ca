//! The command as a person meets it: what it prints, where, and how it ends. Real processes, real
//! store files; no network and no key.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod check;
mod composed;
mod deployment;
mod draining;
mod failures;
mod files;
mod handlers;
mod hello;
mod keeping;
mod leniency;
mod looking;
mod nested;
mod nodes;
#[path = "../it/one_job.rs"]
#[expect(dead_code, reason = "hosts that live start their runs otherwise")]
mod one_job;
mod operating;
mod paused;
mod pipe;
mod refusals;
mod reopening;
mod resuming;
mod samples;
mod secrets;
mod sent;
mod signals;
mod staged;
mod stores;
mod studies;
mod tree;
mod upgraded;
mod verbs;
mod warnings;
mod world;
