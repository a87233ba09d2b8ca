//! The documents under a document.

use std::sync::Arc;

use super::{Reference, merge::merge};
use crate::{
    check::{Check, Section, unset},
    diagnostic::{Code, Finding},
    environment::{Piece, is_secret, pieces},
    source::{Content, Entry, Extent, FILES_MAX, FileId, Node},
};

/// Longest way from a document to one under it.
const DEPTH_MAX: usize = 10;
/// Most nodes of all layers together: a file that is named twice counts twice.
const NODES_MAX: usize = 1_000_000;

/// A document and those under it.
#[derive(Debug)]
pub(super) struct Layer {
    root: Arc<Node>,
    /// What it extends, then what it includes.
    under: Vec<Layer>,
}

impl Layer {
    /// All layers as one map, each as `own` makes it.
    pub(super) fn merged(&self, own: &mut dyn FnMut(&Node) -> Option<Node>) -> Option<Node> {
        let mut whole: Option<Node> = None;
        for layer in &self.under {
            let next = layer.merged(own);
            whole = stacked(whole, next);
        }
        let workflow = workflow_of(&self.root)?;
        stacked(whole, own(&workflow.value))
    }
}

fn stacked(base: Option<Node>, over: Option<Node>) -> Option<Node> {
    match (base, over) {
        (Some(base), Some(over)) => Some(merge(base, over)),
        (base, over) => over.or(base),
    }
}

/// The map `workflow` of a document.
pub(super) fn workflow_of(root: &Node) -> Option<&Entry> {
    let workflow = root.as_map()?.iter().find(|entry| entry.key == "workflow")?;
    workflow.value.as_map().map(|_| workflow)
}

/// What is counted while layers are collected.
#[derive(Debug, Default)]
struct Collection {
    /// Documents from the first one to the present one, and where each was named.
    way: Vec<(FileId, Option<Extent>)>,
    layers: usize,
    nodes: usize,
    /// A limit was passed and reported: nothing more is read.
    full: bool,
}

impl Check<'_> {
    /// The layers of the document `file`.
    pub(super) fn layers(&mut self, file: FileId, root: &Arc<Node>) -> Option<Layer> {
        let mut collection = Collection::default();
        collection.way.push((file, None));
        self.layer(root, &mut collection)
    }

    fn layer(&mut self, root: &Arc<Node>, collection: &mut Collection) -> Option<Layer> {
        let workflow = workflow_of(root)?;
        collection.nodes += workflow.value.count();
        let section = Section::of(&workflow.value, "/workflow", "", "`workflow`")?;
        let mut under = Vec::new();
        if let Some(entry) = section.get("extends") {
            match &entry.value.content {
                Content::Text { .. } => {
                    let base = self.under(&entry.value, "/workflow/extends", collection);
                    self.bindings.incomplete |= base.is_none();
                    under.extend(base);
                }
                Content::Null
                | Content::Bool(_)
                | Content::Number(_)
                | Content::List(_)
                | Content::Map(_) => {
                    self.findings.push(section.wrong_type("extends", "a string"));
                }
            }
        }
        if let Some(entry) = section.get("include") {
            if entry.value.as_list().is_none() {
                self.findings.push(section.wrong_type("include", "a list"));
            }
            for (place, item) in entry.value.as_list().unwrap_or(&[]).iter().enumerate() {
                let pointer = format!("/workflow/include/{place}");
                if item.as_text().is_some() {
                    let included = self.under(item, &pointer, collection);
                    self.bindings.incomplete |= included.is_none();
                    under.extend(included);
                } else {
                    let text = "include must be a list of strings";
                    let finding = Finding::error(Code(203), text).at(item.extent);
                    self.findings.push(finding.pointer(pointer));
                }
                if collection.full {
                    break;
                }
            }
        }
        Some(Layer { root: root.clone(), under })
    }

    /// The document that `node` names, and those under it.
    fn under(&mut self, node: &Node, pointer: &str, found: &mut Collection) -> Option<Layer> {
        if found.full {
            return None;
        }
        let refuse =
            |code, text: String| Finding::error(Code(code), text).at(node.extent).pointer(pointer);
        found.layers += 1;
        if found.layers >= FILES_MAX || found.nodes > NODES_MAX {
            found.full = true;
            let text = if found.nodes > NODES_MAX {
                "the files that are put together have more than 1,000,000 nodes".to_owned()
            } else {
                format!("more than {FILES_MAX} files are put together")
            };
            self.findings.push(refuse(107, text));
            return None;
        }
        let path = &self.path(node, pointer)?;
        let reference = Reference { path, extent: node.extent, pointer, code: Code(218) };
        let file = self.open(&reference)?;
        if let Some(first) = found.way.iter().position(|(seen, _)| *seen == file) {
            self.findings.push(self.cycle(node, pointer, file, &found.way[first..]));
            return None;
        }
        if found.way.len() > DEPTH_MAX {
            let text = format!("documents are put together over more than {DEPTH_MAX} steps");
            self.findings.push(refuse(218, text));
            return None;
        }
        let Some(root) = self.sources.tree(file) else {
            let text = format!("`{path}` cannot be used: it is no YAML document");
            self.findings.push(refuse(218, text));
            return None;
        };
        if workflow_of(&root).is_none() {
            let text = format!("`{path}` has no map `workflow`");
            self.findings.push(refuse(218, text).hint("it is a document like this one"));
            return None;
        }
        if self.sources.first_look(file) {
            self.root_keys(&root);
        }
        found.way.push((file, Some(node.extent)));
        let layer = self.layer(&root, found);
        found.way.pop();
        layer
    }

    /// The path that `node` says, which may name variables of the environment.
    fn path(&mut self, node: &Node, pointer: &str) -> Option<String> {
        let mut path = String::new();
        for piece in pieces(node.as_text()?) {
            let fault = match &piece {
                Piece::Text(text) => {
                    path.push_str(text);
                    continue;
                }
                Piece::Dollar => {
                    path.push_str("${");
                    continue;
                }
                Piece::Word(word) if is_secret(&word.name) => {
                    let text = format!("the secret `{}` would be part of a path", word.name);
                    Finding::error(Code(223), text)
                }
                Piece::Word(word) => match word.text_of(self.loader.variable(&word.name)) {
                    Some(text) => {
                        path.push_str(&text);
                        continue;
                    }
                    None => unset(&word.name),
                },
            };
            self.findings.push(fault.at(node.extent).pointer(pointer));
            return None;
        }
        Some(path)
    }

    /// A document that lies under itself, with every edge of the cycle.
    fn cycle(
        &self,
        node: &Node,
        pointer: &str,
        file: FileId,
        way: &[(FileId, Option<Extent>)],
    ) -> Finding {
        let names: Vec<String> =
            way.iter().map(|(file, _)| self.sources.name(*file).to_string()).collect();
        let name = self.sources.name(file);
        let text = format!("a document lies under itself: {} → {name}", names.join(" → "));
        let finding = Finding::error(Code(218), text).at(node.extent).pointer(pointer);
        way.iter().skip(1).fold(finding, |finding, (file, named)| {
            let text = format!("`{}` is named here", self.sources.name(*file));
            match named {
                Some(extent) => finding.related(text, *extent),
                None => finding,
            }
        })
    }
}
