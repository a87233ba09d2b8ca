//! The one grammar of templates and conditions, as far as this version goes.

mod condition;
mod evaluate;
mod operator;
mod parser;
mod syntax;
mod template;
mod text;
mod token;
mod vocabulary;

#[cfg(test)]
mod tests;

pub(crate) use condition::{Condition, ConditionForm, ConditionText};
pub(crate) use evaluate::{Evaluated, Missing, Names, Place, evaluate, fields, holds, walk};
pub(crate) use parser::parse_path;
pub(crate) use syntax::{Expression, Path, Segment, SyntaxError};
pub(crate) use template::{Template, TemplateTree};
pub(crate) use text::{pretty, to_text};
pub(crate) use vocabulary::{LATER_ROOTS, ROOTS};
