//! Speaks the workflow language: the only crate that knows it.
//!
//! A document becomes a checked [`Pipeline`], a pipeline bound to inputs and providers becomes a
//! [`Workflow`](perennial_engine::Workflow) of the engine. Everything but the attempt of a step
//! is pure: no file, no clock, no randomness.
//!
//! | room | holds |
//! |---|---|
//! | `source` | bytes → tree in which every value knows its place |
//! | `diagnostic` | what is wrong, as text and as JSON |
//! | `expression` | the grammar of templates and conditions, and their values |
//! | `check` | tree → pipeline, every fault found at once |
//! | `definition` | the resolved definition, its canonical bytes, the inputs of a run |
//! | `run` | the pipeline as a workflow: next step, attempt, record |
//! | `spelling` | "did you mean" |
//!
//! What the language has and this version does not is a load error with the hint
//! `not in this version`; nothing is silently ignored.
//!
//! # Deviations
//!
//! * YV-1: records do not hold `replayed`, `attempts` and `duration_ms`, nor (YR-22)
//!   `error.attempt`: a run that was killed and resumed leaves the same records as one that was
//!   not. The journal has all four.
//! * 1.7: a step's own `retry` keeps the engine's full jitter, where the language's default is
//!   none; the key `jitter` is refused.
//! * YP-8: without `extract`, a `previous_response` part gets the value view of its step (YT-12):
//!   of a reply its structured data, else its text, never its cost and usage.
//! * 1.4: an input that is declared without `default` and without `required: false` is required.

mod check;
mod definition;
mod diagnostic;
mod expression;
mod run;
mod source;
mod spelling;

pub use check::{Checked, FILE_BYTES_MAX, read_yaml};
pub use definition::{
    Input, InputErrors, InputType, InvalidDefinition, InvalidInput, LANGUAGE, Pipeline,
    ProviderKind,
};
pub use diagnostic::{Code, Diagnostic, Excerpt, Related, Severity, render, report_json};
pub use run::{
    CallDefaults, FailureText, InvalidSettings, PipelineRun, Providers, Resolved, RunSettings,
};
pub use source::{Position, Span};
