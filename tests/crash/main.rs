//! `kill -9`, then one more command: real processes, a real store file, a counting fake provider.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod exports;
mod handlers;
mod loading;
#[path = "../it/one_job.rs"]
#[expect(dead_code, reason = "hosts that live start their runs otherwise")]
mod one_job;
mod resume;
mod saved;
mod waits;
mod world;
