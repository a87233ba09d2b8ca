//! Who hangs on whom, as places in the list of nodes. A saved dump may be damaged: a parent may be
//! missing, and a node may be its own ancestor.

use std::collections::HashMap;

use perennial_core::tree::TreeSnapshot;

/// The tree of a list of nodes.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The parent of each node that has one in the list.
    pub(crate) parent: Vec<Option<usize>>,
    /// The children of each node, in start order.
    pub(crate) children: Vec<Vec<usize>>,
    /// Nodes without a parent in the list.
    pub(crate) tops: Vec<usize>,
}

impl Outline {
    pub(crate) fn of(tree: &TreeSnapshot) -> Self {
        let place_of = places(tree);
        let parent: Vec<Option<usize>> = tree
            .nodes
            .iter()
            .map(|node| node.parent.as_deref().and_then(|path| place_of.get(path).copied()))
            .collect();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); tree.nodes.len()];
        let mut tops = Vec::new();
        for (place, parent) in parent.iter().enumerate() {
            match parent {
                Some(parent) => children[*parent].push(place),
                None => tops.push(place),
            }
        }
        for siblings in &mut children {
            siblings.sort_by_key(|place| tree.nodes[*place].order);
        }
        Self { parent, children, tops }
    }

    /// Every place once: first what hangs on the tops, level by level, then what hangs only on itself.
    pub(crate) fn breadth_first(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.parent.len());
        let mut seen = vec![false; self.parent.len()];
        for top in &self.tops {
            seen[*top] = true;
            order.push(*top);
        }
        let mut next = 0;
        for start in 0..=self.parent.len() {
            while let Some(place) = order.get(next).copied() {
                next += 1;
                for child in &self.children[place] {
                    if !std::mem::replace(&mut seen[*child], true) {
                        order.push(*child);
                    }
                }
            }
            if seen.get(start).is_some_and(|seen| !seen) {
                seen[start] = true;
                order.push(start);
            }
        }
        order
    }

    /// Marks `place` and all above it. Each node is marked once, however many ask.
    pub(crate) fn mark_upwards(&self, place: usize, marks: &mut [bool]) {
        let mut at = Some(place);
        while let Some(place) = at
            && !std::mem::replace(&mut marks[place], true)
        {
            at = self.parent[place];
        }
    }
}

/// Where each path stands in the list; of equal ones the first.
pub(crate) fn places(tree: &TreeSnapshot) -> HashMap<&str, usize> {
    let mut places = HashMap::with_capacity(tree.nodes.len());
    for (place, node) in tree.nodes.iter().enumerate() {
        places.entry(node.path.as_str()).or_insert(place);
    }
    places
}

#[cfg(test)]
mod tests {
    use perennial_core::tree::RuntimeInfo;

    use super::*;

    /// `(path, parent)` of each node.
    fn outline(nodes: &[(&str, &str)]) -> Outline {
        let node = |(path, parent): &(&str, &str)| {
            serde_json::from_value(serde_json::json!({
                "path": path, "id": path, "order": 0, "kind": "worker", "restart": "permanent",
                "shutdown": "5000ms", "state": "running", "incarnation": 1,
                "restarts": {"total": 0, "in_window": 0},
                "parent": (!parent.is_empty()).then_some(*parent),
            }))
            .expect("these are the required fields")
        };
        let info = |text: &str| text.to_owned();
        Outline::of(&TreeSnapshot {
            schema: info("perennial.tree/1"),
            runtime: RuntimeInfo {
                name: info("a"),
                version: info("1"),
                node: info("n"),
                instance: info("i"),
                store: None,
            },
            taken_at: None,
            uptime_ms: None,
            completeness: None,
            took_us: None,
            declared: false,
            nodes: nodes.iter().map(node).collect(),
            findings: vec![],
        })
    }

    #[test]
    fn every_node_comes_once_also_in_a_damaged_dump() {
        let damaged =
            outline(&[("/a", ""), ("/a/b", "/a"), ("/x", "/y"), ("/y", "/x"), ("/z", "/q")]);
        let mut order = damaged.breadth_first();
        assert_eq!(order[..3], [0, 4, 1], "tops with what hangs on them");
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn marks_end_also_where_a_node_is_its_own_ancestor() {
        let ring = outline(&[("/x", "/y"), ("/y", "/x"), ("/z", "")]);
        let mut marks = vec![false; 3];
        ring.mark_upwards(0, &mut marks);
        assert_eq!(marks, [true, true, false]);
    }
}
