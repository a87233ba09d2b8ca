//! The one grammar of templates and conditions (3.4): read at load, evaluated when needed.
//!
//! Evaluation is pure: what names mean, new ids and where warnings go come in as [`Names`].

mod condition;
mod evaluate;
mod filters;
mod function;
mod instant;
mod operator;
mod parser;
mod path;
mod pattern;
mod placeholder;
mod syntax;
mod template;
mod text;
mod token;
mod value;
mod variable;
mod vocabulary;

#[cfg(test)]
mod tests;

pub(crate) use condition::{Condition, ConditionForm, ConditionText};
use evaluate::BUILT_BYTES_MAX;
pub(crate) use evaluate::{Missing, Names, Place, Stop, Undecided, evaluate, holds};
pub(crate) use filters::Filters;
pub use function::yaml_text;
pub use function::{FunctionEntry, functions};
pub(crate) use path::{TextPath, fields, query, walk};
pub(crate) use pattern::{Pattern, calls_groups};
pub(crate) use placeholder::{FillError, Unfilled, fill};
pub(crate) use syntax::{Expression, Path, Segment, Standing, SyntaxError};
pub(crate) use template::{Template, TemplateTree};
pub(crate) use text::{cut_at_word, pretty, to_text};
pub(crate) use value::{Fault, type_of};
pub(crate) use variable::Variable;
pub(crate) use vocabulary::{ERROR_ROOT, LATER_ROOTS, ROOTS};
