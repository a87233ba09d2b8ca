//! A map of the document, read key by key; each reader reports what is wrong with its value.

use std::{collections::HashMap, rc::Rc};

use super::{
    Check,
    keys::{self, Keys},
};
use crate::{
    diagnostic::{Code, Finding},
    source::{Content, Entry, Extent, Node},
    spelling,
};

/// The hint for what the language has and this version does not.
pub(super) const LATER: &str = "not in this version";

/// Maps with more keys than this are indexed.
const INDEXED_FROM: usize = 32;

/// A map with its place in the document.
#[derive(Clone, Debug)]
pub(crate) struct Section<'n> {
    pub(super) extent: Extent,
    entries: &'n [Entry],
    /// Places of the keys of a large map.
    index: Option<Rc<HashMap<&'n str, usize>>>,
    /// JSON pointer.
    pub(super) pointer: String,
    /// Prefix of the keys' paths in texts, for example `claude_options.`.
    prefix: String,
    /// What it is, for example "step `a` (type `echo`)".
    pub(super) whole: String,
    /// What it is a part of, itself when it is no part.
    owner: String,
}

/// A key as a step of a JSON pointer.
pub(super) fn pointer_step(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl<'n> Section<'n> {
    /// The map `node`, or none when it is no map.
    pub(crate) fn of(node: &'n Node, pointer: &str, prefix: &str, whole: &str) -> Option<Self> {
        node.as_map().map(|entries| Self {
            extent: node.extent,
            entries,
            index: (entries.len() > INDEXED_FROM).then(|| {
                let keys = entries.iter().map(|entry| entry.key.as_str());
                Rc::new(keys.enumerate().map(|(place, key)| (key, place)).collect())
            }),
            pointer: pointer.to_owned(),
            prefix: prefix.to_owned(),
            whole: whole.to_owned(),
            owner: whole.to_owned(),
        })
    }

    /// The same map under another name.
    pub(super) fn called(self, whole: &str) -> Self {
        Self { whole: whole.to_owned(), owner: whole.to_owned(), ..self }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'n Entry> {
        match &self.index {
            Some(index) => index.get(key).map(|place| &self.entries[*place]),
            None => self.entries.iter().find(|entry| entry.key == key),
        }
    }

    pub(super) fn node(&self, key: &str) -> Option<&'n Node> {
        self.get(key).map(|entry| &entry.value)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'n str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &'n Entry> {
        self.entries.iter().filter(|entry| !entry.key.starts_with("x-"))
    }

    pub(super) fn pointer_of(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, pointer_step(key))
    }

    /// The key as texts name it.
    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The place of the value of `key`, and its pointer.
    pub(super) fn fault(&self, code: u16, key: &str, message: impl Into<String>) -> Finding {
        let extent = self.node(key).map_or(self.extent, |node| node.extent);
        Finding::error(Code(code), message).at(extent).pointer(self.pointer_of(key))
    }

    /// The wrong type of `key`.
    pub(crate) fn wrong_type(&self, key: &str, wanted: &str) -> Finding {
        self.fault(203, key, format!("{} must be {wanted}", self.path_of(key)))
    }

    /// The first place of the map: its first key, which is on a line of its own. Of a map that was
    /// put together, its first key in the uppermost document.
    pub(super) fn start(&self) -> Extent {
        let own = |entry: &&Entry| self.extent.holds(entry.key_extent);
        let first = self.entries.iter().find(own).or(self.entries.first());
        first.map_or(self.extent, |entry| entry.key_extent)
    }
}

impl Check<'_> {
    /// Reports every key that none of `tables` knows.
    pub(crate) fn unknown_keys(&mut self, section: &Section<'_>, tables: &[&Keys]) {
        for entry in section.entries() {
            let key = entry.key.as_str();
            if tables.iter().any(|table| table.here.contains(&key)) {
                continue;
            }
            let later = tables.iter().any(|table| table.later.contains(&key));
            let text = if later {
                format!("the key `{key}` is not supported in {}", section.whole)
            } else {
                format!("unknown key `{key}` in {}", section.whole)
            };
            let near = || {
                let known = tables.iter().flat_map(|table| table.here.iter().chain(table.later));
                spelling::did_you_mean(key, known.copied())
            };
            let elsewhere = || {
                let home = keys::ALL.iter().find(|table| table.here.contains(&key))?;
                Some(format!("`{key}` is a key of {}", home.home))
            };
            let hint = if later {
                Some(LATER.to_owned())
            } else if self.findings.wants_hints() {
                near().or_else(elsewhere)
            } else {
                None
            };
            self.findings.push(
                Finding::error(Code(202), text)
                    .at(entry.key_extent)
                    .pointer(section.pointer_of(key))
                    .label(if section.whole.starts_with("step ") {
                        "not a key of this step type"
                    } else {
                        "not a key of this place"
                    })
                    .maybe_hint(hint),
            );
        }
    }

    /// The text of `key`.
    pub(super) fn text<'n>(&mut self, section: &Section<'n>, key: &str) -> Option<&'n str> {
        let node = section.node(key)?;
        let text = node.as_text();
        if text.is_none() {
            self.findings.push(section.wrong_type(key, "a string"));
        }
        text
    }

    /// The truth value of `key`.
    pub(super) fn flag(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        match section.node(key)?.content {
            Content::Bool(value) => Some(value),
            Content::Null
            | Content::Number(_)
            | Content::Text { .. }
            | Content::List(_)
            | Content::Map(_) => {
                self.findings.push(section.wrong_type(key, "a boolean"));
                None
            }
        }
    }

    /// The number of `key`, within `least..=most`; numeric texts count when `texts` says so.
    pub(super) fn number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        (least, most): (f64, f64),
        texts: bool,
    ) -> Option<f64> {
        let node = section.node(key)?;
        let number = match &node.content {
            Content::Number(number) => number.as_f64(),
            Content::Text { value, .. } if texts => value.trim().parse().ok(),
            Content::Null
            | Content::Bool(_)
            | Content::Text { .. }
            | Content::List(_)
            | Content::Map(_) => None,
        };
        let Some(number) = number.filter(|number| number.is_finite()) else {
            self.findings.push(section.wrong_type(key, "a number"));
            return None;
        };
        if (least..=most).contains(&number) {
            return Some(number);
        }
        let text = format!(
            "{} must be between {least} and {most}, got: {}",
            section.path_of(key),
            node.shown()
        );
        self.findings.push(section.fault(205, key, text));
        None
    }

    /// The whole number of `key`, at least `least` (0 or 1).
    pub(super) fn count(
        &mut self,
        section: &Section<'_>,
        key: &str,
        least: u32,
        texts: bool,
    ) -> Option<u32> {
        let node = section.node(key)?;
        let whole = match &node.content {
            Content::Number(number) => number.as_i64(),
            Content::Text { value, .. } if texts => value.trim().parse().ok(),
            Content::Null
            | Content::Bool(_)
            | Content::Text { .. }
            | Content::List(_)
            | Content::Map(_) => None,
        };
        let count =
            whole.and_then(|whole| u32::try_from(whole).ok()).filter(|count| *count >= least);
        if count.is_some() {
            return count;
        }
        let path = section.path_of(key);
        let wanted = if least == 0 { "a non-negative integer" } else { "a positive integer" };
        let text = match whole {
            Some(_) if least > 0 && whole <= Some(0) => {
                format!("{path} must be positive, got: {}", node.shown())
            }
            Some(_) | None => format!("{path} must be {wanted}"),
        };
        let readable = matches!(node.content, Content::Number(_)) || (texts && whole.is_some());
        self.findings.push(section.fault(if readable { 205 } else { 203 }, key, text));
        None
    }

    /// The duration of `key` in milliseconds; a bare number counts `unit` milliseconds.
    pub(super) fn duration(&mut self, section: &Section<'_>, key: &str, unit: f64) -> Option<u64> {
        /// A day.
        const MOST_MS: f64 = 86_400_000.0;
        let node = section.node(key)?;
        let millis = match &node.content {
            Content::Number(number) => number.as_f64().map(|number| number * unit),
            Content::Text { value, .. } => duration_text(value),
            Content::Null | Content::Bool(_) | Content::List(_) | Content::Map(_) => {
                self.findings.push(section.wrong_type(key, "a number or a duration"));
                return None;
            }
        };
        let path = section.path_of(key);
        let fault = match millis {
            Some(millis) if millis > 0.0 && millis <= MOST_MS => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is within a day"
                )]
                return Some((millis.ceil() as u64).max(1));
            }
            Some(millis) if millis > MOST_MS => {
                section.fault(205, key, format!("{path} must be at most 24 h"))
            }
            Some(_) => {
                section.fault(205, key, format!("{path} must be positive, got: {}", node.shown()))
            }
            None => section
                .fault(205, key, format!("{path} must be positive, got: {}", node.shown()))
                .hint("a number, or a text such as `90s`, `5m` or `500ms`"),
        };
        self.findings.push(fault);
        None
    }

    /// The text of `key`, one of `allowed`; `later` ones are refused as such.
    pub(super) fn one_of<'n>(
        &mut self,
        section: &Section<'n>,
        key: &str,
        allowed: &[&str],
        later: &[&str],
    ) -> Option<&'n str> {
        let text = self.text(section, key)?;
        if allowed.contains(&text) {
            return Some(text);
        }
        let message = format!(
            "{} must be one of: {}, got: {}",
            section.path_of(key),
            allowed.join(", "),
            section.node(key).map(Node::shown).unwrap_or_default()
        );
        let hint = if later.contains(&text) {
            Some(LATER.to_owned())
        } else {
            spelling::did_you_mean(text, allowed.iter().copied())
        };
        self.findings.push(section.fault(204, key, message).maybe_hint(hint));
        None
    }

    /// The map of `key`.
    pub(super) fn map<'n>(&mut self, section: &Section<'n>, key: &str) -> Option<Section<'n>> {
        let node = section.node(key)?;
        let path = section.path_of(key);
        let whole = format!("`{path}` of {}", section.owner);
        let inner = Section::of(node, &section.pointer_of(key), &format!("{path}."), &whole)
            .map(|inner| Section { owner: section.owner.clone(), ..inner });
        if inner.is_none() {
            self.findings.push(section.wrong_type(key, "a map"));
        }
        inner
    }

    /// The list of `key`.
    pub(crate) fn list<'n>(&mut self, section: &Section<'n>, key: &str) -> Option<&'n [Node]> {
        let node = section.node(key)?;
        let items = node.as_list();
        if items.is_none() {
            self.findings.push(section.wrong_type(key, "a list"));
        }
        items
    }

    /// The texts of the list `key`.
    pub(super) fn texts<'n>(&mut self, section: &Section<'n>, key: &str) -> Option<Vec<&'n str>> {
        let items = self.list(section, key)?;
        let texts: Option<Vec<&str>> = items.iter().map(Node::as_text).collect();
        if texts.is_none() {
            self.findings.push(section.wrong_type(key, "a list of strings"));
        }
        texts
    }

    /// A value that only a later version honours.
    pub(super) fn later(&mut self, section: &Section<'_>, key: &str, what: &str) {
        let text = format!("{what} is not supported in {}", section.whole);
        self.findings.push(section.fault(202, key, text).hint(LATER));
    }
}

/// `500ms`, `90s`, `5m`, `1.5h`, `1d`, in milliseconds.
fn duration_text(text: &str) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let unit = match &text[split..] {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    text[..split]
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .map(|number| number * unit)
}
