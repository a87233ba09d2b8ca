//! A dump, and how it was before.

use std::collections::HashMap;

use perennial_core::tree::{TreeNode, TreeSnapshot};

use crate::outline::places;

/// A dump and the earlier ones of the same process.
pub(super) struct History<'a> {
    pub(super) now: Sample<'a>,
    /// The last one first.
    earlier: Vec<Sample<'a>>,
}

/// A dump in which paths are looked up.
pub(super) struct Sample<'a> {
    pub(super) tree: &'a TreeSnapshot,
    places: HashMap<&'a str, usize>,
}

impl<'a> Sample<'a> {
    fn of(tree: &'a TreeSnapshot) -> Self {
        Self { tree, places: places(tree) }
    }

    pub(super) fn node(&self, path: &str) -> Option<&'a TreeNode> {
        self.places.get(path).map(|place| &self.tree.nodes[*place])
    }
}

impl<'a> History<'a> {
    pub(super) fn of(now: &'a TreeSnapshot, earlier: &'a [TreeSnapshot]) -> Self {
        let same = |tree: &&TreeSnapshot| {
            tree.runtime.instance == now.runtime.instance
                && !tree.declared
                && tree.uptime_ms <= now.uptime_ms
        };
        Self {
            now: Sample::of(now),
            earlier: earlier.iter().rev().filter(same).map(Sample::of).collect(),
        }
    }

    /// The dump before this one.
    pub(super) fn before(&self) -> Option<&Sample<'a>> {
        self.earlier.first()
    }

    /// How long before this dump that was, in milliseconds.
    pub(super) fn before_ms(&self) -> u64 {
        let uptime = |sample: &Sample<'_>| sample.tree.uptime_ms.unwrap_or_default();
        self.before().map_or(0, |before| uptime(&self.now).saturating_sub(uptime(before)))
    }

    /// The present life of `node` in this dump and in earlier ones, the last one first, and how long
    /// before this dump each was, in milliseconds.
    pub(super) fn life<'h>(
        &'h self,
        node: &'a TreeNode,
    ) -> impl Iterator<Item = (&'a TreeNode, u64)> + use<'a, 'h> {
        let uptime = |sample: &Sample<'_>| sample.tree.uptime_ms.unwrap_or_default();
        let before = self.earlier.iter().map_while(move |sample| {
            let same = sample.node(&node.path)?;
            let ago = uptime(&self.now).saturating_sub(uptime(sample));
            (same.incarnation == node.incarnation).then_some((same, ago))
        });
        std::iter::once((node, 0)).chain(before)
    }
}
