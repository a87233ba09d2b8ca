//! The lexer: one token at a time, from any offset.

use serde_json::Number;

use super::SyntaxError;
use crate::{
    environment::{Word, word_at},
    source::Extent,
};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Number(Number),
    /// A quoted text; the extent of what stands between the quotes, when it has no escapes.
    Text {
        value: String,
        plain: Option<Extent>,
    },
    Symbol(&'static str),
    End,
}

/// Longest first.
const SYMBOLS: &[&str] = &[
    "{{", "}}", "??", "==", "!=", ">=", "<=", "=>", "||", "&&", ">", "<", "!", "=", "+", "-", "*",
    "/", "%", "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "|", "@", "$",
];

/// Reads tokens of `text`.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// Behind a dot, digits are an index and never a fraction.
    behind_dot: bool,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str, at: usize) -> Self {
        Self { text, at, behind_dot: false }
    }

    /// The next token with its place.
    pub(super) fn next(&mut self) -> Result<(Token, Extent), SyntaxError> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let start = self.at;
        let rest = &self.text[start..];
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, Extent::new(start, start)));
        };
        let behind_dot = std::mem::replace(&mut self.behind_dot, false);
        let token = if first.is_alphabetic() || first == '_' {
            Token::Name(self.name(rest))
        } else if first.is_ascii_digit() {
            self.number(rest, behind_dot)?
        } else if first == '"' || first == '\'' {
            self.quoted(rest, first)?
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.at += symbol.len();
            self.behind_dot = *symbol == ".";
            Token::Symbol(symbol)
        } else {
            let extent = Extent::new(start, start + first.len_utf8());
            return Err(SyntaxError::new(format!("unexpected character `{first}`"), extent));
        };
        Ok((token, Extent::new(start, self.at)))
    }

    /// Reads on from `at`, which is inside of the token that was read last.
    pub(super) fn back_to(&mut self, at: usize) {
        self.at = at;
        self.behind_dot = false;
    }

    /// The `${NAME}` that begins at `at`.
    pub(super) fn word(&self, at: usize) -> Option<Word> {
        word_at(self.text, at)
    }

    /// Letters, digits, `_`, and hyphens between them (YT-15).
    fn name(&mut self, rest: &str) -> String {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        let mut chars = rest.char_indices().peekable();
        let mut end = 0;
        while let Some((at, c)) = chars.next() {
            let hyphen = c == '-' && chars.peek().is_some_and(|(_, next)| inside(*next));
            if !inside(c) && !hyphen {
                break;
            }
            end = at + c.len_utf8();
        }
        self.at += end;
        rest[..end].to_owned()
    }

    fn number(&mut self, rest: &str, behind_dot: bool) -> Result<Token, SyntaxError> {
        let digits =
            |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count() + from;
        let mut end = digits(0);
        if !behind_dot {
            let fraction = rest[end..].starts_with('.').then(|| digits(end + 1));
            if let Some(behind) = fraction.filter(|behind| *behind > end + 1) {
                end = behind;
            }
            if rest[end..].starts_with(['e', 'E']) {
                let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
                let behind = digits(end + 1 + sign);
                if behind > end + 1 + sign {
                    end = behind;
                }
            }
        }
        let extent = Extent::new(self.at, self.at + end);
        self.at += end;
        let text = &rest[..end];
        let number = match text.parse::<i64>() {
            Ok(whole) => Some(Number::from(whole)),
            Err(_) => text.parse::<f64>().ok().and_then(Number::from_f64),
        };
        number
            .map(Token::Number)
            .ok_or_else(|| SyntaxError::new(format!("`{text}` is not a number"), extent))
    }

    fn quoted(&mut self, rest: &str, quote: char) -> Result<Token, SyntaxError> {
        let start = self.at;
        let mut value = String::new();
        let mut escaped = false;
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.at += at + 1;
                let plain = (!escaped).then(|| Extent::new(start + 1, start + at));
                return Ok(Token::Text { value, plain });
            }
            if c != '\\' {
                value.push(c);
                continue;
            }
            escaped = true;
            let next = chars.next().map(|(_, c)| c);
            let behind = start + at + 1 + next.map_or(0, char::len_utf8);
            let place = Extent::new(start + at, behind);
            let wrong = || SyntaxError::new("unknown escape in a quoted text", place);
            match next.ok_or_else(wrong)? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                c @ ('\\' | '\'' | '"') => value.push(c),
                'u' => {
                    let code: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                    // A sign is no digit, though it would be read as one.
                    let digits = code.bytes().all(|byte| byte.is_ascii_hexdigit());
                    let number = u32::from_str_radix(&code, 16).ok().filter(|_| digits);
                    let decoded = number.and_then(char::from_u32);
                    value.push(decoded.ok_or_else(wrong)?);
                }
                _ => return Err(wrong()),
            }
        }
        let extent = Extent::new(start, self.text.len());
        Err(SyntaxError::new(format!("the text that begins with {quote} has no end"), extent))
    }
}
