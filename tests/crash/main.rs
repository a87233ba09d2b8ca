//! `kill -9`, then one more command: real processes, a real store file, a counting fake provider. And what `kill -9` cannot
//! show: power cuts, and calls on files that fail (`power`).

#![expect(clippy::unwrap_used, reason = "fixtures of a test")]

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod clock;
mod cluster;
mod exports;
mod handlers;
#[cfg(unix)]
mod kills;
mod loading;
mod proxy;
// The shim knows the C library of Linux with 64 bits.
#[path = "../it/one_job.rs"]
#[expect(dead_code, reason = "hosts that live start their runs otherwise")]
mod one_job;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod power;
mod resume;
mod retention;
mod saved;
mod waits;
mod world;
