//! Operators of the full grammar that this version refuses by name.

use super::{SyntaxError, token::Token};
use crate::{diagnostic::Code, source::Extent};

const WORDS: &[&str] = &[
    "contains",
    "matches",
    "starts_with",
    "ends_with",
    "in",
    "not_in",
    "between",
    "empty",
    "exists",
];
const SIGNS: &[&str] =
    &[">=", "<=", ">", "<", "+", "-", "*", "/", "%", "?", "=>", "@", "$", "[", "{"];

/// The error for a token where an operator or the end was expected.
pub(super) fn unexpected(token: &Token, extent: Extent) -> SyntaxError {
    match token {
        Token::Name(word) if WORDS.contains(&word.as_str()) => later(word, extent),
        Token::Name(word) => {
            SyntaxError::coded(Code(405), format!("unknown operator `{word}`"), extent)
        }
        Token::Symbol(sign) if SIGNS.contains(sign) => later(sign, extent),
        Token::Symbol("=") => {
            SyntaxError::coded(Code(405), "unknown operator `=`", extent).hint("did you mean `==`?")
        }
        Token::Symbol("==" | "!=") => {
            SyntaxError::coded(Code(405), "comparisons cannot be chained", extent)
                .hint("join them with `and`")
        }
        Token::Symbol(sign) => SyntaxError::new(format!("unexpected `{sign}`"), extent),
        Token::Number(number) => SyntaxError::new(format!("unexpected `{number}`"), extent),
        Token::Text { .. } => SyntaxError::new("unexpected text", extent),
        Token::End => SyntaxError::new("the expression ends too early", extent),
    }
}

/// The error for a part of the full grammar that this version does not have.
pub(super) fn later(what: &str, extent: Extent) -> SyntaxError {
    SyntaxError::coded(Code(405), format!("the operator `{what}` is not supported"), extent)
        .hint("not in this version")
}
