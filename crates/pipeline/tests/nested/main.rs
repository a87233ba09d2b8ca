//! The step type `pipeline`: a child in its parent's run.

#![expect(clippy::unwrap_used, reason = "a broken fixture shall fail its test")]

mod faults;
mod files;
mod handlers;
mod limits;
mod loading;
mod policies;
mod replay;
mod run_limits;
mod values;
mod workspaces;
mod world;
