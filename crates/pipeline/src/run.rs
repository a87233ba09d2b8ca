//! A pipeline as a workflow of the engine.

mod attempt;
mod call;
mod children;
mod dynamic;
mod export;
mod failure;
mod file_ops;
mod files;
mod handler;
mod limits;
mod loading;
mod mocked;
mod nested;
mod places;
mod prompt;
mod record;
mod repair;
mod reuse;
mod scope;
mod secrets;
mod settings;
mod tree;
mod workflow;
mod workspace;

pub(crate) use children::{Children, Site};
pub(crate) use limits::DEPTH_MAX;
pub(crate) use places::Places;
pub(crate) use record::limit_of;

pub use failure::FailureText;
pub use files::RunDirectories;
pub use prompt::PartText;
pub use settings::{BuiltPrompt, CallDefaults, InvalidSettings, Providers, Resolved, RunSettings};
pub use workflow::PipelineRun;
