//! `kill -9`, then one more command: real processes, a real store file, a counting fake provider.

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

mod cluster;
mod exports;
mod handlers;
mod loading;
mod proxy;
mod resume;
mod world;
