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
//! | `expression` | the one grammar of templates and conditions: parser, functions, pure evaluation |
//! | `check` | tree → pipeline, every fault found at once; `keys` is the table of all keys, and the schema |
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
//! * YC-4: what expressions warn of (an undecided comparison read as false, a division by zero,
//!   an operand of no use) stands in the record of the step under `warnings`, at most 20 of them;
//!   an `echo` step, whose record is its bare value, has no place for them.
//! * YT-22: `uuid()` is derived from the key of the job, which is in the journal, and is the same
//!   on every attempt; `now()` is not in this version, as an attempt is given no instant.
//! * YT-10: what follows `[*]` or `[?()]` is taken from each element, as in JSONPath; elements
//!   without it are left out. `$` is what the elements are taken from, in expressions about them.
//! * YC-9: an unquoted argument about elements has to name `@` or `item`.
//! * 2.10: `append_to` appends the values of `variables` to a list, `merge_into` merges them into a
//!   map; the variables themselves are not set. A target of another type is PL619.
//! * YT-16: PL310, and 3.8: the scopes `loop` and `session`, are not in this version.
//! * 1.4: an input that is declared without `default` and without `required: false` is required.

mod check;
mod definition;
mod diagnostic;
mod expression;
mod run;
mod source;
mod spelling;

pub use check::{Checked, FILE_BYTES_MAX, read_yaml, schema};
pub use definition::{
    Input, InputErrors, InputType, InvalidDefinition, InvalidInput, InvalidLeniency, LANGUAGE,
    Leniency, Pipeline, ProviderKind,
};
pub use diagnostic::{Code, Diagnostic, Excerpt, Related, Severity, render, report_json};
pub use run::{
    CallDefaults, FailureText, InvalidSettings, PipelineRun, Providers, Resolved, RunSettings,
};
pub use source::{Position, Span};
