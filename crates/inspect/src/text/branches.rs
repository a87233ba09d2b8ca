//! The order in which nodes are printed, and the lines drawn before them.

use perennial_core::tree::{TreeNode, TreeSnapshot};

use super::Glyphs;
use crate::outline::Outline;

/// One node in its place.
#[derive(Debug)]
pub(super) struct Branch<'a> {
    pub(super) node: &'a TreeNode,
    /// The lines before its name.
    pub(super) guides: String,
    /// The lines before whatever is printed below its name, above its first child.
    pub(super) below: String,
    /// It names a parent that the snapshot does not have.
    pub(super) orphan: bool,
}

/// Levels for which lines are drawn. What is deeper stands as deep as this and says how deep it is: lines
/// for each level of a chain would take the square of its length.
const LEVELS_MAX: usize = 64;

/// All nodes of `tree`, depth first, siblings in start order.
///
/// A saved dump may be damaged: a node whose parent is missing, or that is its own ancestor, is
/// printed at the left margin. No node is left out and none is printed twice.
pub(super) fn branches(tree: &TreeSnapshot, glyphs: Glyphs) -> Vec<Branch<'_>> {
    let Outline { children, tops, .. } = Outline::of(tree);
    let mut walk =
        Walk { tree, glyphs, children, seen: vec![false; tree.nodes.len()], out: vec![] };
    for top in tops {
        walk.descend(top);
    }
    for place in 0..tree.nodes.len() {
        walk.descend(place);
    }
    walk.out
}

struct Walk<'a> {
    tree: &'a TreeSnapshot,
    glyphs: Glyphs,
    children: Vec<Vec<usize>>,
    seen: Vec<bool>,
    out: Vec<Branch<'a>>,
}

impl Walk<'_> {
    /// Prints the tree under `top`, which stands at the left margin, unless it was printed before.
    fn descend(&mut self, top: usize) {
        // What is still to print, the next one last: its place, the lines before it and before what
        // is under it. A stack of our own, because the depth of a saved dump is not ours to choose.
        let mut todo = vec![(top, String::new(), String::new(), 0)];
        while let Some((place, guides, under, level)) = todo.pop() {
            if std::mem::replace(&mut self.seen[place], true) {
                continue;
            }
            let node = &self.tree.nodes[place];
            let children = &self.children[place];
            for (nth, child) in children.iter().enumerate().rev() {
                let is_last = nth + 1 == children.len();
                let (branch, trunk) = if is_last {
                    (self.glyphs.last_branch(), "   ")
                } else {
                    (self.glyphs.branch(), self.glyphs.trunk())
                };
                let next = if level < LEVELS_MAX {
                    (*child, format!("{under}{branch}"), format!("{under}{trunk}"), level + 1)
                } else {
                    let depth = level + 1;
                    (*child, format!("{under}{branch}({depth}) "), under.clone(), depth)
                };
                todo.push(next);
            }
            let trunk = if children.is_empty() { "   " } else { self.glyphs.trunk() };
            self.out.push(Branch {
                node,
                orphan: guides.is_empty() && node.parent.is_some(),
                guides,
                below: format!("{under}{trunk}"),
            });
        }
    }
}
