//! Texts of files with placeholders: `{NAME}`, `{if condition} … {else} … {endif}`, and holes when
//! they are asked for (YP-5). One pass, linear in the length of the text; what is filled in is never
//! looked at again.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    Missing, Names, Path, Place, Stop, SyntaxError, Undecided, evaluate, holds,
    parser::{Ground, parse_braced, parse_hole},
    path::walk,
    to_text,
    value::Fault,
};

/// Deepest nesting of blocks.
const BLOCKS_MAX: usize = 64;
/// Names of unknown placeholders that are kept.
const UNKNOWN_MAX: usize = 10;

/// A text that was filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) text: String,
    /// Placeholders for which there is no variable, each once; they stay as they are.
    pub(crate) unknown: Vec<String>,
}

/// Why a text was not filled in, and in which line of it.
#[derive(Debug, PartialEq)]
pub(crate) struct FillError {
    pub(crate) line: usize,
    pub(crate) why: Unfilled,
}

/// What kept a text from being filled in.
#[derive(Debug, PartialEq)]
pub(crate) enum Unfilled {
    /// It is malformed.
    Syntax(String),
    /// A condition or a hole has no value.
    Stop(Stop),
    /// The result would be longer than this many bytes.
    TooLong(usize),
}

/// Fills `variables` into `source`; with `holes`, those are evaluated too. Conditions and holes see
/// the variables before `names`.
///
/// # Errors
///
/// What is wrong with the text first.
pub(crate) fn fill(
    source: &str,
    variables: &Map<String, Value>,
    holes: bool,
    names: &dyn Names,
    bytes_max: usize,
) -> Result<Filled, FillError> {
    let names = WithVariables { variables, names };
    let mut filler = Filler {
        source,
        names: &names,
        holes,
        bytes_max,
        at: 0,
        blocks: Vec::new(),
        line_end: 0,
        last_close: None,
        filled: Filled::default(),
    };
    match filler.run() {
        Ok(()) => Ok(filler.filled),
        Err((at, why)) => Err(FillError { line: 1 + source[..at].matches('\n').count(), why }),
    }
}

/// An `{if}` that is open.
struct Block {
    opened: usize,
    /// Whether what surrounds it is shown.
    around: bool,
    held: bool,
    in_else: bool,
}

struct Filler<'s> {
    source: &'s str,
    names: &'s WithVariables<'s>,
    holes: bool,
    bytes_max: usize,
    at: usize,
    blocks: Vec<Block>,
    /// End of the line whose last `}` is known.
    line_end: usize,
    last_close: Option<usize>,
    filled: Filled,
}

type Failed = (usize, Unfilled);

impl<'s> Filler<'s> {
    fn run(&mut self) -> Result<(), Failed> {
        while let Some(found) = self.source[self.at..].find('{') {
            let open = self.at + found;
            self.push(&self.source[self.at..open])?;
            self.at = open;
            self.brace(open)?;
        }
        self.push(&self.source[self.at..])?;
        match self.blocks.last() {
            Some(block) => Err(malformed(block.opened, "the `{if …}` has no `{endif}`")),
            None => Ok(()),
        }
    }

    /// What begins with the `{` at `open`.
    fn brace(&mut self, open: usize) -> Result<(), Failed> {
        let source = self.source;
        let rest = &source[open..];
        if rest.starts_with("{{") {
            return if self.holes { self.hole(open) } else { self.literal(2) };
        }
        if rest.starts_with("{if ") && self.closes_on_line(open) {
            return self.opens_block(open);
        }
        let name_end = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_');
        let Some(name_end) = name_end else { return self.literal(1) };
        let name = &rest[1..=name_end];
        let behind = &rest[1 + name_end..];
        if matches!(name, "elif" | "elseif") || (name == "else" && behind.starts_with(" if")) {
            return match self.blocks.is_empty() {
                true => self.literal(1),
                false => Err(malformed(open, "there is no `{elif}`: nest a block in `{else}`")),
            };
        }
        if !behind.starts_with('}') || name.is_empty() {
            return self.literal(1);
        }
        let length = name.len() + 2;
        match name {
            "else" => self.turns(open)?,
            "endif" => {
                self.blocks.pop().ok_or_else(|| malformed(open, "`{endif}` closes no `{if …}`"))?;
            }
            name => return self.placeholder(name, length),
        }
        self.at += length;
        Ok(())
    }

    fn placeholder(&mut self, name: &'s str, length: usize) -> Result<(), Failed> {
        let Some(value) = self.names.variables.get(name) else {
            let unknown = &mut self.filled.unknown;
            let is_name = !name.starts_with(|c: char| c.is_numeric());
            if is_name && unknown.len() < UNKNOWN_MAX && !unknown.iter().any(|told| told == name) {
                unknown.push(name.to_owned());
            }
            return self.literal(length);
        };
        self.push(&to_text(value))?;
        self.at += length;
        Ok(())
    }

    fn hole(&mut self, open: usize) -> Result<(), Failed> {
        if self.source[..open].ends_with('\\') {
            if self.is_shown() {
                self.filled.text.pop();
            }
            return self.literal(2);
        }
        let parsed = parse_hole(self.source, open + 2, Ground::default());
        let (expression, behind) = parsed.map_err(|error| syntax(open, &error))?;
        if self.is_shown() {
            let value = evaluate(&expression, self.names, Place::Template);
            let value = value.map_err(|stop| (open, Unfilled::Stop(stop)))?;
            self.push(&to_text(&value))?;
        }
        self.at = behind;
        Ok(())
    }

    fn opens_block(&mut self, open: usize) -> Result<(), Failed> {
        if self.blocks.len() == BLOCKS_MAX {
            return Err(malformed(open, "blocks are nested deeper than 64 levels"));
        }
        let parsed = parse_braced(self.source, open + 4);
        let (condition, behind) = parsed.map_err(|error| syntax(open, &error))?;
        let around = self.is_shown();
        let held =
            around && holds(&condition, self.names).map_err(|stop| (open, Unfilled::Stop(stop)))?;
        self.blocks.push(Block { opened: open, around, held, in_else: false });
        self.at = behind;
        Ok(())
    }

    fn turns(&mut self, open: usize) -> Result<(), Failed> {
        match self.blocks.last_mut() {
            None => Err(malformed(open, "`{else}` belongs to no `{if …}`")),
            Some(block) if block.in_else => Err(malformed(open, "a second `{else}`")),
            Some(block) => {
                block.in_else = true;
                Ok(())
            }
        }
    }

    fn is_shown(&self) -> bool {
        self.blocks.last().is_none_or(|block| block.around && (block.held != block.in_else))
    }

    /// Whether a `}` follows on the line of `open`: what is no block on one line is other text.
    fn closes_on_line(&mut self, open: usize) -> bool {
        if open >= self.line_end {
            let line = self.source[open..].split('\n').next().unwrap_or_default();
            self.line_end = open + line.len();
            self.last_close = line.rfind('}').map(|at| open + at);
        }
        self.last_close.is_some_and(|close| close > open)
    }

    /// Takes the next bytes as they are.
    fn literal(&mut self, length: usize) -> Result<(), Failed> {
        let text = &self.source[self.at..self.at + length];
        self.push(text)?;
        self.at += length;
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), Failed> {
        if !self.is_shown() {
            return Ok(());
        }
        if self.filled.text.len().saturating_add(text.len()) > self.bytes_max {
            return Err((self.at, Unfilled::TooLong(self.bytes_max)));
        }
        self.filled.text.push_str(text);
        Ok(())
    }
}

fn malformed(at: usize, text: &str) -> Failed {
    (at, Unfilled::Syntax(text.to_owned()))
}

fn syntax(at: usize, error: &SyntaxError) -> Failed {
    (at, Unfilled::Syntax(error.message.clone()))
}

/// Variables of a file in front of all other names.
struct WithVariables<'v> {
    variables: &'v Map<String, Value>,
    names: &'v dyn Names,
}

impl Names for WithVariables<'_> {
    fn find(&self, path: &Path, place: Place) -> Result<Cow<'_, Value>, Missing> {
        match self.variables.get(&path.root) {
            Some(value) => walk(Cow::Borrowed(value), &path.segments)
                .map_err(|available| Missing { path: path.to_string(), available }),
            None => self.names.find(path, place),
        }
    }

    fn uuid(&self) -> String {
        self.names.uuid()
    }

    fn now(&self) -> String {
        self.names.now()
    }

    fn warn(&self, text: String) {
        self.names.warn(text);
    }

    fn undecided(&self) -> Undecided {
        self.names.undecided()
    }

    fn has_secrets(&self) -> bool {
        self.names.has_secrets()
    }

    fn is_secret(&self, value: &Value) -> bool {
        self.names.is_secret(value)
    }

    fn derived(&self, value: Value) -> Result<Value, Fault> {
        self.names.derived(value)
    }
}

#[cfg(test)]
mod tests;
