//! Definitions of several files: `extends`, `include` and `$if` (1.10).
//!
//! Every document is a layer: what it extends lies under it, then the files it includes in their
//! order, then it itself. Conditions are decided over all layers, before they are merged.

mod choice;
mod layers;
mod merge;
mod reference;

use std::sync::Arc;

pub(crate) use reference::Reference;

use self::layers::Layer;
use crate::{
    check::{Check, is_lenient},
    diagnostic::{Code, Finding},
    source::{Content, Entry, FileId, NODES_MAX, Node},
};

/// Keys that say how a document is put together.
const KEYS: [&str; 5] = ["extends", "include", "$if", "$then", "$else"];

impl Check<'_> {
    /// The document `file` with all that it is put together from; `tree` is its own.
    pub(crate) fn composed(&mut self, file: FileId, tree: &Arc<Node>) -> Arc<Node> {
        let Some(workflow) = layers::workflow_of(tree) else { return tree.clone() };
        if !mentions_composition(&workflow.value, true) {
            return tree.clone();
        }
        self.bindings.empty_when_missing |=
            is_lenient(tree) && self.outside.lets_environment_be_empty();
        let Some(layer) = self.layers(file, tree) else { return tree.clone() };
        let merged = self.merged(&layer);
        if merged.count() > NODES_MAX {
            let text = "more than 100,000 nodes, all files together";
            let finding = Finding::error(Code(107), text).at(workflow.key_extent);
            self.findings.push(finding.pointer("/workflow"));
        }
        let mut root = Node::clone(tree);
        if let Content::Map(entries) = &mut root.content {
            for entry in entries.iter_mut().filter(|entry| entry.key == "workflow") {
                entry.value = merge::without(&merged, &["extends", "include"]);
            }
        }
        Arc::new(root)
    }

    fn merged(&mut self, layer: &Layer) -> Node {
        let bare = layer.merged(&mut |own| Some(merge::without(own, &KEYS)));
        let view = bare.unwrap_or_default();
        let view =
            choice::View::of(&view, self.loader, self.bindings.empty_when_missing, self.deployment);
        let chosen = layer.merged(&mut |own| {
            let bare = merge::without(own, &["extends", "include"]);
            Some(self.chosen(&bare, "/workflow", true, &view))
        });
        chosen.unwrap_or_default()
    }
}

/// Whether anything in `node` is put together from parts. Steps are not looked into.
fn mentions_composition(node: &Node, is_workflow: bool) -> bool {
    let inside = |entry: &Entry| !(is_workflow && entry.key == "steps");
    match &node.content {
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text { .. } => false,
        Content::List(items) => items.iter().any(|item| mentions_composition(item, false)),
        Content::Map(entries) => {
            let own = |entry: &Entry| match entry.key.as_str() {
                "extends" | "include" => is_workflow,
                key => KEYS.contains(&key),
            };
            entries.iter().any(|entry| {
                own(entry) || (inside(entry) && mentions_composition(&entry.value, false))
            })
        }
    }
}
