//! What to say about a token that no operator begins with.

use super::{SyntaxError, token::Token, vocabulary::OPERATORS};
use crate::{diagnostic::Code, source::Extent, spelling};

/// The error for a token where an operator or the end was expected.
pub(super) fn unexpected(token: &Token, extent: Extent) -> SyntaxError {
    match token {
        Token::Name(word) => {
            let error = SyntaxError::coded(Code(405), format!("unknown operator `{word}`"), extent);
            match spelling::did_you_mean(word, OPERATORS.iter().copied()) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        Token::Symbol("=") => {
            SyntaxError::coded(Code(405), "unknown operator `=`", extent).hint("did you mean `==`?")
        }
        Token::Symbol("==" | "!=" | ">=" | "<=" | ">" | "<") => {
            SyntaxError::coded(Code(405), "comparisons cannot be chained", extent)
                .hint("join them with `and`")
        }
        Token::Symbol("=>") => SyntaxError::coded(Code(405), "a lambda has no place here", extent)
            .hint("only functions over elements take one, such as `any(list, x => x > 1)`"),
        Token::Symbol(sign) => SyntaxError::new(format!("unexpected `{sign}`"), extent),
        Token::Number(number) => SyntaxError::new(format!("unexpected `{number}`"), extent),
        Token::Text { .. } => SyntaxError::new("unexpected text", extent),
        Token::End => SyntaxError::new("the expression ends too early", extent),
    }
}
