//! A map of the document, read key by key.

use std::{collections::HashMap, rc::Rc};

use super::{
    Check,
    keys::{self, Kind, Tables},
};
use crate::{
    diagnostic::{Code, Finding},
    source::{Content, Entry, Extent, Node},
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
    pub(super) owner: String,
    /// What its keys are.
    pub(super) tables: Tables,
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
            tables: &[],
        })
    }

    /// The same map, whose keys are those of `tables`.
    pub(super) fn read_by(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    pub(super) fn owned_by(self, owner: &str) -> Self {
        Self { owner: owner.to_owned(), ..self }
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

/// The values of keys that the walk over the table has accepted; of any other value, nothing. What
/// is wrong with it has been reported there.
impl<'n> Section<'n> {
    pub(super) fn text(&self, key: &str) -> Option<&'n str> {
        self.node(key)?.as_text()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        if let Content::Bool(value) = self.node(key)?.content { Some(value) } else { None }
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.node(key)?.as_number(true)
    }

    pub(super) fn count(&self, key: &str) -> Option<u32> {
        u32::try_from(self.node(key)?.as_whole(true)?).ok()
    }

    /// The duration of `key` in milliseconds, at least one.
    pub(super) fn millis(&self, key: &str) -> Option<u64> {
        let Some(Kind::Duration { unit, most_ms }) = keys::kind(self.tables, key) else {
            return None;
        };
        let millis = match &self.node(key)?.content {
            Content::Number(number) => number.as_f64()? * unit.millis(),
            Content::Text { value, .. } => duration_text(value)?,
            Content::Null | Content::Bool(_) | Content::List(_) | Content::Map(_) => return None,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is positive and within the table's bound"
        )]
        (millis > 0.0 && millis <= *most_ms).then(|| (millis.ceil() as u64).max(1))
    }

    pub(super) fn list(&self, key: &str) -> Option<&'n [Node]> {
        self.node(key)?.as_list()
    }

    /// The map of `key`, read by the table of its row.
    pub(super) fn map(&self, key: &str) -> Option<Section<'n>> {
        let path = self.path_of(key);
        let whole = format!("`{path}` of {}", self.owner);
        let inner =
            Section::of(self.node(key)?, &self.pointer_of(key), &format!("{path}."), &whole)?;
        let tables = keys::kind(self.tables, key).map_or(keys::FREE_TABLES, Kind::tables);
        Some(inner.owned_by(&self.owner).read_by(tables))
    }
}

impl Check<'_> {
    /// A value that only a later version honours.
    pub(super) fn later(&mut self, section: &Section<'_>, key: &str, what: &str) {
        let text = format!("{what} is not supported in {}", section.whole);
        self.findings.push(section.fault(202, key, text).hint(LATER));
    }
}

/// `500ms`, `90s`, `5m`, `1.5h`, `1d`, in milliseconds.
pub(crate) fn duration_text(text: &str) -> Option<f64> {
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
