//! One value over another (YF-44): maps are merged key by key, everything else replaces.

use std::collections::HashMap;

use crate::source::{Content, Entry, Node};

/// `over` on top of `base`. Keys of the base keep their order, new ones follow; the extents are
/// those of the upper layer, where it has any.
pub(super) fn merge(base: Node, over: Node) -> Node {
    let (mut entries, upper) = match (base.content, over.content) {
        (Content::Map(entries), Content::Map(upper)) => (entries, upper),
        (_, content) => return Node { content, ..over },
    };
    let places: HashMap<String, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect();
    for entry in upper {
        let Some(place) = places.get(&entry.key) else {
            entries.push(entry);
            continue;
        };
        let lower = &mut entries[*place];
        lower.key_extent = entry.key_extent;
        lower.value = merge(std::mem::take(&mut lower.value), entry.value);
    }
    Node::of(over.extent, Content::Map(entries))
}

/// The map `node` without `keys`.
pub(super) fn without(node: &Node, keys: &[&str]) -> Node {
    let Content::Map(entries) = &node.content else { return node.clone() };
    let kept = |entry: &&Entry| !keys.contains(&entry.key.as_str());
    let content = Content::Map(entries.iter().filter(kept).cloned().collect());
    Node::of(node.extent, content)
}
