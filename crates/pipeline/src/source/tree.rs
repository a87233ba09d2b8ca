//! The tree of a document: aliases and merge keys expanded, duplicate keys found.

use std::collections::HashMap;

use saphyr_parser::{ScalarStyle, Tag};

use super::{
    events::{self, DEPTH_MAX, Events, NODES_MAX, What},
    node::{Content, Entry, Node},
    scalar::{self, Plain},
    text::{Extent, SourceText},
};
use crate::diagnostic::{Code, Finding, Findings, Severity};

/// Parses the only document of `source`; what is wrong goes to `findings`. Without a tree, one of
/// them is an error.
pub(super) fn parse(
    source: &SourceText,
    file: &str,
    duplicates: Duplicates,
    findings: &mut Findings,
) -> Option<Node> {
    let events = match events::read(source, file) {
        Ok(events) => events,
        Err(finding) => {
            findings.push(finding);
            return None;
        }
    };
    if events.steps.is_empty() {
        findings.push(Finding::error(Code(103), "the file is empty").at(Extent::default()));
        return None;
    }
    let mut builder = Builder { source, events: &events, duplicates, findings, nodes: 0 };
    match builder.node(0, 0) {
        Ok((node, _)) => Some(node),
        Err(finding) => {
            findings.push(finding);
            None
        }
    }
}

/// What a key that occurs twice in a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// A fault (PL104).
    #[default]
    Fault,
    /// Its last value.
    LastWins,
}

struct Builder<'a> {
    source: &'a SourceText,
    events: &'a Events,
    duplicates: Duplicates,
    findings: &'a mut Findings,
    nodes: usize,
}

impl Builder<'_> {
    /// The node that begins at event `at`, and the event behind it. The recursion is as deep as
    /// the tree, which is bounded.
    fn node(&mut self, at: usize, depth: usize) -> Result<(Node, usize), Finding> {
        let step = &self.events.steps[at];
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(events::too_many(step.extent));
        }
        if depth > DEPTH_MAX {
            return Err(events::too_deep(step.extent));
        }
        match &step.what {
            What::Scalar { text, style } => {
                let content = self.scalar(text, *style, step.tag.as_ref(), step.extent);
                let extent = self.trimmed(step.extent, *style);
                Ok((Node::of(extent, content), at + 1))
            }
            What::Alias(target) => {
                let (node, _) = self.node(*target, depth + 1)?;
                Ok((node, at + 1))
            }
            What::OpenList => self.list(at, depth),
            What::OpenMap => self.map(at, depth),
            What::Close => Ok((Node::of(step.extent, Content::Null), at + 1)),
        }
    }

    fn list(&mut self, at: usize, depth: usize) -> Result<(Node, usize), Finding> {
        let begin = &self.events.steps[at];
        self.collection_tag(begin.tag.as_ref(), "seq", begin.extent);
        let mut items = Vec::new();
        let mut next = at + 1;
        while !matches!(self.events.steps[next].what, What::Close) {
            let (item, behind) = self.node(next, depth + 1)?;
            items.push(item);
            next = behind;
        }
        let last = items.last().map(|item: &Node| item.extent);
        let extent = self.collection(begin.extent, self.events.steps[next].extent, last);
        Ok((Node::of(extent, Content::List(items)), next + 1))
    }

    fn map(&mut self, at: usize, depth: usize) -> Result<(Node, usize), Finding> {
        let begin = &self.events.steps[at];
        self.collection_tag(begin.tag.as_ref(), "map", begin.extent);
        let mut entries: Vec<Entry> = Vec::new();
        let mut known: HashMap<String, Extent> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut next = at + 1;
        while !matches!(self.events.steps[next].what, What::Close) {
            let merges = self.is_merge_key(next);
            let (key_node, behind) = self.node(next, depth + 1)?;
            let (value, behind) = self.node(behind, depth + 1)?;
            next = behind;
            if merges {
                self.merge(value, &mut merged);
                continue;
            }
            let key_extent = key_node.extent;
            let Some(key) = self.key(key_node) else { continue };
            if let Some(first) = known.get(&key) {
                if self.duplicates == Duplicates::LastWins {
                    entries.retain(|entry: &Entry| entry.key != key);
                    entries.push(Entry { key, key_extent, value });
                    continue;
                }
                self.findings.push(
                    Finding::error(Code(104), format!("duplicate key `{key}`"))
                        .at(key_extent)
                        .related("first defined here", *first),
                );
                continue;
            }
            known.insert(key.clone(), key_extent);
            entries.push(Entry { key, key_extent, value });
        }
        for entry in merged {
            if !known.contains_key(&entry.key) {
                known.insert(entry.key.clone(), entry.key_extent);
                entries.push(entry);
            }
        }
        let last = entries.iter().map(|entry| entry.value.extent).max_by_key(|extent| extent.end);
        let extent = self.collection(begin.extent, self.events.steps[next].extent, last);
        Ok((Node::of(extent, Content::Map(entries)), next + 1))
    }

    fn is_merge_key(&self, at: usize) -> bool {
        let What::Scalar { text, style } = &self.events.steps[at].what else { return false };
        text == "<<" && matches!(style, ScalarStyle::Plain)
    }

    fn merge(&mut self, value: Node, merged: &mut Vec<Entry>) {
        let extent = value.extent;
        match value.content {
            Content::Map(entries) => merged.extend(entries),
            Content::List(items) => {
                for item in items {
                    match item.content {
                        Content::Map(entries) => merged.extend(entries),
                        Content::Null
                        | Content::Bool(_)
                        | Content::Number(_)
                        | Content::Text { .. }
                        | Content::List(_) => self.refuse_merge(item.extent),
                    }
                }
            }
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. } => {
                self.refuse_merge(extent);
            }
        }
    }

    fn refuse_merge(&mut self, extent: Extent) {
        self.findings.push(
            Finding::error(Code(106), "the merge key `<<` takes a map or a list of maps")
                .at(extent),
        );
    }

    fn key(&mut self, node: Node) -> Option<String> {
        match node.content {
            Content::Null => Some("null".to_owned()),
            Content::Bool(value) => Some(value.to_string()),
            Content::Number(number) => Some(number.to_string()),
            Content::Text { value, .. } => Some(value),
            Content::List(_) | Content::Map(_) => {
                let text = "a list or a map cannot be a key";
                // `{{ x }}` without quotes is a map whose key is a map.
                let start = node.extent.start;
                let before = Extent::new(start.saturating_sub(1), node.extent.end);
                let written = self.source.slice(before);
                let hint = written
                    .starts_with("{{")
                    .then(|| format!("a text with holes needs quotes: \"{written}}}\""));
                let finding = Finding::error(Code(106), text).at(node.extent);
                self.findings.push(finding.maybe_hint(hint));
                None
            }
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        extent: Extent,
    ) -> Content {
        let string = |text: &str| Content::Text {
            value: text.to_owned(),
            block: matches!(style, ScalarStyle::Literal | ScalarStyle::Folded),
            escapes: matches!(style, ScalarStyle::DoubleQuoted),
        };
        let wanted = match tag {
            None if !matches!(style, ScalarStyle::Plain) => return string(text),
            None => None,
            Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => return string(text),
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => return string(text),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => return string(text),
            Some(tag) => Some(tag),
        };
        let content = match scalar::resolve(text) {
            Plain::Is(Content::Text { .. }) => string(text),
            Plain::Is(content) => content,
            Plain::Inexact(number) => {
                let message = format!("`{text}` does not fit into 64 bits; read as {number}");
                self.findings.push(Finding::new(Code(106), Severity::Warning, message).at(extent));
                Content::Number(number)
            }
            Plain::NotFinite => {
                let message = format!("`{text}` is not representable as JSON");
                self.findings.push(Finding::error(Code(106), message).at(extent));
                Content::Null
            }
        };
        if let Some(tag) = wanted {
            let fits = tag.is_yaml_core_schema()
                && matches!(
                    (tag.suffix.as_str(), &content),
                    ("null", Content::Null)
                        | ("bool", Content::Bool(_))
                        | ("int" | "float", Content::Number(_))
                );
            if !fits {
                self.refuse_tag(tag, extent);
            }
        }
        content
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, own: &str, extent: Extent) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == own)
        {
            self.refuse_tag(tag, extent);
        }
    }

    fn refuse_tag(&mut self, tag: &Tag, extent: Extent) {
        let message = format!("the tag `{tag}` is not representable as JSON");
        self.findings.push(Finding::error(Code(106), message).at(extent));
    }

    /// A block scalar ends with its last visible line, a quoted one with its quote: the parser
    /// counts the white space and the comment behind them.
    fn trimmed(&self, extent: Extent, style: ScalarStyle) -> Extent {
        let text = self.source.slice(extent);
        let length = match style {
            ScalarStyle::Plain => return extent,
            ScalarStyle::Literal | ScalarStyle::Folded => text.trim_end().len(),
            ScalarStyle::SingleQuoted => quoted_length(text, '\''),
            ScalarStyle::DoubleQuoted => quoted_length(text, '"'),
        };
        Extent::new(extent.start, extent.start + length)
    }

    /// A flow collection reaches from bracket to bracket, a block collection to its last value.
    fn collection(&self, begin: Extent, close: Extent, last: Option<Extent>) -> Extent {
        let flow = self.source.slice(begin).starts_with(['[', '{']);
        let end = if flow { close.start + 1 } else { last.map_or(begin.end, |last| last.end) };
        Extent::new(begin.start, end)
    }
}

/// Bytes of the quoted text that `text` begins with; all of it when it begins with anything else.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().peekable();
    if chars.next_if(|(_, c)| *c == quote).is_none() {
        return text.len();
    }
    while let Some((at, c)) = chars.next() {
        if quote == '"' && c == '\\' {
            chars.next();
        } else if c == quote && (quote == '"' || chars.next_if(|(_, c)| *c == quote).is_none()) {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each<'n>(node: &'n Node, see: &mut dyn FnMut(&'n Node)) {
        see(node);
        match &node.content {
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. } => (),
            Content::List(items) => items.iter().for_each(|item| each(item, see)),
            Content::Map(entries) => entries.iter().for_each(|entry| each(&entry.value, see)),
        }
    }

    #[test]
    fn every_value_knows_its_exact_place() {
        let text = "\u{feff}# é comment € \r\nä: \"é\" # ü\r\n'k 1': [a, 'b', é ]\t# x\r\nm:\n\n  n: 1.5 # 日本\n  # 日本\n\
                    \x20 o: {p: q, r: true}\n  s: |  # ü\n    two é\n    lines\n\n  t: >-\n    folded\n";
        let source = SourceText::new(text.as_bytes()).unwrap();
        let mut findings = Findings::default();
        let root = parse(&source, "f", Duplicates::Fault, &mut findings).unwrap();
        assert!(!findings.has_errors());
        let mut seen = Vec::new();
        each(&root, &mut |node| {
            if node.as_map().is_none() {
                seen.push(source.slice(node.extent).to_owned());
            }
        });
        assert_eq!(
            seen,
            [
                "\"é\"",
                "[a, 'b', é ]",
                "a",
                "'b'",
                "é",
                "1.5",
                "q",
                "true",
                "two é\n    lines",
                "folded",
            ]
        );
        let Content::Map(entries) = &root.content else { panic!("a map") };
        let keys: Vec<&str> = entries.iter().map(|entry| source.slice(entry.key_extent)).collect();
        assert_eq!(keys, ["ä", "'k 1'", "m"]);
        assert_eq!(source.position(root.extent.start).line, 2);
    }
}
