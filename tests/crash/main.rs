//! `kill -9`, then one more command: real processes, a real store file, a counting fake provider.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod exports;
mod handlers;
#[cfg(unix)]
mod kills;
mod loading;
mod resume;
mod world;
