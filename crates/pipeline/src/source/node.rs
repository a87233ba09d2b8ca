//! A value of a document, and where it stands.

use std::mem;

use serde_json::{Map, Number, Value};

use super::{files::Sources, text::Extent};

/// A value with its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) extent: Extent,
    pub(crate) content: Content,
    /// What stands in the file, when variables of the environment were put into it.
    pub(crate) written: Option<Box<Written>>,
}

/// A text before variables of the environment were put into it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    /// The text of the file.
    pub(crate) source: Content,
    /// What it means as a text, also where it reads as a number or a truth value.
    pub(crate) text: String,
}

/// What a value is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Content {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text {
        value: String,
        block: bool,
        escapes: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_extent: Extent,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn of(extent: Extent, content: Content) -> Self {
        Self { extent, content, written: None }
    }

    /// What stands in the file: what templates are read from.
    pub(crate) fn source(&self) -> &Content {
        self.written.as_ref().map_or(&self.content, |written| &written.source)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Some(written) = &self.written {
            return Some(&written.text);
        }
        if let Content::Text { value, .. } = &self.content { Some(value) } else { None }
    }

    pub(crate) fn as_map(&self) -> Option<&[Entry]> {
        if let Content::Map(entries) = &self.content { Some(entries) } else { None }
    }

    /// The value of `key`, of a map.
    pub(crate) fn under(&self, key: &str) -> Option<&Self> {
        self.as_map()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        if let Content::List(items) = &self.content { Some(items) } else { None }
    }

    /// A finite number, also as a text when `texts` says so.
    pub(crate) fn as_number(&self, texts: bool) -> Option<f64> {
        let number = match &self.content {
            Content::Number(number) => number.as_f64(),
            Content::Text { value, .. } if texts => value.trim().parse().ok(),
            Content::Null
            | Content::Bool(_)
            | Content::Text { .. }
            | Content::List(_)
            | Content::Map(_) => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// A whole number, also as a text when `texts` says so.
    pub(crate) fn as_whole(&self, texts: bool) -> Option<i64> {
        match &self.content {
            Content::Number(number) => number.as_i64(),
            Content::Text { value, .. } if texts => value.trim().parse().ok(),
            Content::Null
            | Content::Bool(_)
            | Content::Text { .. }
            | Content::List(_)
            | Content::Map(_) => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// The same tree, `by` bytes further.
    pub(super) fn shifted(mut self, by: usize) -> Self {
        self.extent = self.extent.shifted(by);
        match &mut self.content {
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. } => (),
            Content::List(items) => {
                for item in items {
                    *item = mem::take(item).shifted(by);
                }
            }
            Content::Map(entries) => {
                for entry in entries {
                    entry.key_extent = entry.key_extent.shifted(by);
                    entry.value = mem::take(&mut entry.value).shifted(by);
                }
            }
        }
        self
    }

    /// How many values it is made of.
    pub(crate) fn count(&self) -> usize {
        1 + match &self.content {
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. } => 0,
            Content::List(items) => items.iter().map(Self::count).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.count()).sum(),
        }
    }

    /// The value without its places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text { value, .. } => Value::String(value.clone()),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The value as it stands in the file, without its places.
    pub(crate) fn to_source(&self) -> Value {
        match self.source() {
            Content::List(items) => items.iter().map(Self::to_source).collect(),
            Content::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_source()))
                    .collect::<Map<_, _>>(),
            ),
            Content::Text { value, .. } => Value::String(value.clone()),
            Content::Null | Content::Bool(_) | Content::Number(_) => self.to_value(),
        }
    }

    /// The value as a person would write it in one short line.
    pub(crate) fn shown(&self) -> String {
        let value = self.to_value();
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut short: String = text.chars().take(60).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        short
    }
}

/// The way from offsets in a decoded text back to the file: quoting, folding and indentation
/// change white space and escapes only, so that the n-th visible character of the one is the
/// n-th of the other.
#[derive(Debug)]
pub(crate) struct Alignment {
    whole: Extent,
    decoded: Vec<usize>,
    raw: Vec<Extent>,
}

impl Alignment {
    /// Aligns the text node `node` of one of `sources`.
    pub(crate) fn of(node: &Node, sources: &Sources) -> Self {
        let Content::Text { value, block, escapes } = node.source() else {
            return Self { whole: node.extent, decoded: Vec::new(), raw: Vec::new() };
        };
        let visible = value.char_indices().filter(|(_, c)| !c.is_whitespace());
        let decoded = visible.map(|(at, _)| at).collect();
        let raw_text = sources.slice(node.extent);
        let raw = if *block {
            // The parser's extent of a block scalar begins behind its header.
            units(raw_text, node.extent.start, None)
        } else {
            let quote = raw_text.chars().next().filter(|c| *escapes || *c == '\'');
            match quote {
                Some(quote) if raw_text.len() > 1 && raw_text.ends_with(quote) => {
                    units(&raw_text[1..raw_text.len() - 1], node.extent.start + 1, Some(quote))
                }
                Some(_) | None => units(raw_text, node.extent.start, None),
            }
        };
        Self { whole: node.extent, decoded, raw }
    }

    /// The place in the file of `extent` of the decoded text.
    pub(crate) fn place(&self, extent: Extent) -> Extent {
        if self.decoded.len() != self.raw.len() {
            return self.whole;
        }
        let first = self.decoded.partition_point(|at| *at < extent.start);
        let behind = self.decoded.partition_point(|at| *at < extent.end);
        if first < behind {
            return self.raw[first].to(self.raw[behind - 1]);
        }
        match (self.raw.get(first), self.raw.last()) {
            (Some(next), _) => Extent::new(next.start, next.start),
            (None, Some(last)) => Extent::new(last.end, last.end),
            (None, None) => self.whole,
        }
    }
}

/// Where each visible character of a raw scalar stands.
fn units(raw: &str, base: usize, quote: Option<char>) -> Vec<Extent> {
    let mut found = Vec::new();
    let mut chars = raw.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let mut visible = !c.is_whitespace();
        if quote == Some('\'') && c == '\'' {
            chars.next();
        } else if quote == Some('"') && c == '\\' {
            let escaped = chars.next().map_or(' ', |(_, escaped)| escaped);
            let digits = match escaped {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            let code: String = chars.by_ref().take(digits).map(|(_, digit)| digit).collect();
            visible = match u32::from_str_radix(&code, 16).ok().and_then(char::from_u32) {
                Some(decoded) => !decoded.is_whitespace(),
                None => !matches!(
                    escaped,
                    'n' | 't' | 'r' | 'v' | 'f' | ' ' | '\n' | '\r' | '\t' | 'N' | '_' | 'L' | 'P'
                ),
            };
        }
        if visible {
            let end = chars.peek().map_or(raw.len(), |(next, _)| *next);
            found.push(Extent::new(base + at, base + end));
        }
    }
    found
}
