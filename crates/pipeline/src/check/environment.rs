//! Variables of the environment in texts (YF-40 to YF-43).
//!
//! Every text gets its meaning here; texts that are templates keep what was written, and are bound
//! when a run begins. A secret has a meaning in those only.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{Check, section::pointer_step};
use crate::{
    diagnostic::{Code, Finding, Severity},
    environment::{self, Piece, Word, is_secret, looks_secret, typed},
    source::{Alignment, Content, Entry, Extent, Node, Written},
};

/// A text that names a secret, until somebody takes it as a template.
#[derive(Clone, Debug)]
struct SecretUse {
    extent: Extent,
    pointer: String,
    name: String,
}

/// What is known of the environment of a definition, its children included.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    /// A document under this one could not be had: what is missing here may be there.
    pub(crate) incomplete: bool,
    /// Variables that a run reads.
    pub(super) environment: BTreeSet<String>,
    /// Secrets in texts that nobody took as templates yet.
    secrets: Vec<SecretUse>,
    /// Variables that were reported as not set.
    pub(super) unset: HashSet<String>,
    /// Values that are known at the start only.
    pub(super) later: Vec<Extent>,
    /// Variables that are not set are empty.
    pub(crate) empty_when_missing: bool,
    /// A condition is read that is decided at load.
    pub(crate) at_load: bool,
}

impl Check<'_> {
    /// The document with the meaning of all its texts.
    pub(super) fn with_environment(&mut self, root: &Arc<Node>) -> Arc<Node> {
        self.bindings.empty_when_missing |=
            is_lenient(root) && self.outside.lets_environment_be_empty();
        match self.meaning(root, "") {
            Some(changed) => Arc::new(changed),
            None => root.clone(),
        }
    }

    /// `node` with meanings; none when nothing in it changes.
    fn meaning(&mut self, node: &Node, pointer: &str) -> Option<Node> {
        let content = match &node.content {
            Content::Null | Content::Bool(_) | Content::Number(_) => return None,
            Content::Text { value, .. } => {
                self.secret_looking(node, value, pointer);
                return if value.contains("${") {
                    self.text_meaning(node, value, pointer)
                } else {
                    None
                };
            }
            Content::List(items) => {
                let each = |(place, item): (usize, &Node)| {
                    self.meaning(item, &format!("{pointer}/{place}"))
                };
                let changed: Vec<Option<Node>> = items.iter().enumerate().map(each).collect();
                if changed.iter().all(Option::is_none) {
                    return None;
                }
                let both = changed.into_iter().zip(items);
                Content::List(both.map(|(new, old)| new.unwrap_or_else(|| old.clone())).collect())
            }
            Content::Map(entries) => {
                let each = |entry: &Entry| {
                    // Free for users, and ignored (YF-20).
                    if entry.key.starts_with("x-") || entry.key == "$schema" {
                        return None;
                    }
                    let inner = format!("{pointer}/{}", pointer_step(&entry.key));
                    self.meaning(&entry.value, &inner)
                };
                let changed: Vec<Option<Node>> = entries.iter().map(each).collect();
                if changed.iter().all(Option::is_none) {
                    return None;
                }
                let both = changed.into_iter().zip(entries);
                let each = |(new, old): (Option<Node>, &Entry)| match new {
                    Some(value) => {
                        Entry { key: old.key.clone(), key_extent: old.key_extent, value }
                    }
                    None => old.clone(),
                };
                Content::Map(both.map(each).collect())
            }
        };
        Some(Node::of(node.extent, content))
    }

    fn text_meaning(&mut self, node: &Node, value: &str, pointer: &str) -> Option<Node> {
        let pieces = environment::pieces(value);
        if let [Piece::Text(_)] = pieces.as_slice() {
            return None;
        }
        let mut text = String::new();
        let mut secret = None;
        for piece in &pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Dollar => text.push_str("${"),
                Piece::Word(word) if is_secret(&word.name) => {
                    self.word_text(node, word, pointer);
                    secret = Some(word.name.clone());
                }
                Piece::Word(word) => text.push_str(&self.word_text(node, word, pointer)),
            }
        }
        let mut content = Content::Text { value: text.clone(), block: false, escapes: false };
        if let Some(name) = secret {
            let pointer = pointer.to_owned();
            self.bindings.secrets.push(SecretUse { extent: node.extent, pointer, name });
            // What has a secret in it has no meaning at load.
            content = node.content.clone();
            text = value.to_owned();
        } else if let [Piece::Word(word)] = pieces.as_slice()
            && let Some(typed) = plain_content(&typed(&word.name, &text))
        {
            content = typed;
        }
        if self.comes_later(&pieces) {
            self.bindings.later.push(node.extent);
        }
        let written = Some(Box::new(Written { source: node.content.clone(), text }));
        Some(Node { extent: node.extent, content, written })
    }

    fn word_text(&mut self, node: &Node, word: &Word, pointer: &str) -> String {
        if let Some(text) = word.text_of(self.loader.variable(&word.name)) {
            return text;
        }
        if !self.bindings.empty_when_missing {
            self.bindings.unset.insert(word.name.clone());
            let place = Alignment::of(node, self.sources).place(word.extent);
            let finding = self.unset(&word.name);
            self.findings.push(finding.at(place).pointer(pointer));
        }
        String::new()
    }

    /// A variable that is not set: a note where only a start needs it.
    pub(super) fn unset(&self, name: &str) -> Finding {
        if !self.outside.waits_for_environment() {
            return unset(name);
        }
        let text = format!("the environment variable `{name}` is not set; needed at the start");
        Finding::note(Code(217), text)
    }

    /// Whether the whole of a text is a variable that waits for the start: nothing is known of it.
    fn comes_later(&self, pieces: &[Piece<'_>]) -> bool {
        matches!(pieces, [Piece::Word(word)] if self.outside.waits_for_environment()
            && self.bindings.unset.contains(&word.name)
            && word.text_of(self.loader.variable(&word.name)).is_none())
    }

    /// A key of a provider has no place in a document (PL223).
    fn secret_looking(&mut self, node: &Node, value: &str, pointer: &str) {
        let Some(found) = looks_secret(value) else { return };
        let is_prompt = pointer.contains("/prompt/") || pointer.ends_with("/prompt");
        let severity = if is_prompt { Severity::Warning } else { Severity::Error };
        let place = Alignment::of(node, self.sources).place(found);
        let finding = Finding::new(Code(223), severity, "this looks like a secret");
        self.findings.push(
            finding
                .at(place)
                .pointer(pointer)
                .hint("keep it in the environment, and write `${NAME}`"),
        );
    }

    /// Takes the text `node` as a template, whose names are bound at the start of a run.
    pub(super) fn bound_later(&mut self, node: &Node) {
        let Some(written) = &node.written else { return };
        self.bindings.secrets.retain(|used| used.extent != node.extent);
        let Content::Text { value, .. } = &written.source else { return };
        for piece in environment::pieces(value) {
            if let Piece::Word(word) = piece {
                self.bindings.environment.insert(word.name);
            }
        }
    }

    /// As [`Self::bound_later`], for all texts of `node`.
    pub(super) fn all_bound_later(&mut self, node: &Node) {
        self.bound_later(node);
        match &node.content {
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. } => (),
            Content::List(items) => items.iter().for_each(|item| self.all_bound_later(item)),
            Content::Map(entries) => {
                entries.iter().for_each(|entry| self.all_bound_later(&entry.value));
            }
        }
    }

    /// Secrets in texts that are no templates: their values would become part of the definition.
    pub(super) fn refuse_secrets(&mut self) {
        if self.findings.has_errors() {
            return;
        }
        for used in std::mem::take(&mut self.bindings.secrets) {
            let text = format!("the secret `{}` would be part of the definition here", used.name);
            self.findings.push(
                Finding::error(Code(223), text)
                    .at(used.extent)
                    .pointer(used.pointer)
                    .hint("secrets stand in prompts, and in other values that are templates"),
            );
        }
    }
}

/// A variable that is not set and has no default.
pub(crate) fn unset(name: &str) -> Finding {
    let text = format!("the environment variable `{name}` is not set, and has no default");
    let hint = format!("write `${{{name}:-text}}`, or set lenient.missing_env to empty");
    Finding::error(Code(217), text).hint(hint)
}

pub(crate) fn is_lenient(root: &Node) -> bool {
    let get = |node: &Node, key: &str| {
        node.as_map()?.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone())
    };
    let lenient = get(root, "workflow").and_then(|workflow| get(&workflow, "lenient"));
    let missing = lenient.and_then(|lenient| get(&lenient, "missing_env"));
    missing.is_some_and(|node| node.as_text() == Some("empty"))
}

fn plain_content(value: &serde_json::Value) -> Option<Content> {
    match value {
        serde_json::Value::Null => Some(Content::Null),
        serde_json::Value::Bool(value) => Some(Content::Bool(*value)),
        serde_json::Value::Number(number) => Some(Content::Number(number.clone())),
        serde_json::Value::String(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => None,
    }
}
