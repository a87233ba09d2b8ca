//! Whether a tree is what it was (DIFF-4).

use perennial::{
    TreeSnapshot,
    inspect::{DiffOptions, TreeDiff, diff, diff_to_text},
};

/// What of `after` is not as it was `before`: nodes that came, went or moved, other states, other
/// policies, findings that were raised. Nothing when the tree is back to its specification.
///
/// New lives, loads and what components are at are no difference: that is what a storm leaves.
pub fn tree_changes(before: &TreeSnapshot, after: &TreeSnapshot) -> Option<String> {
    let TreeDiff { added, removed, moved, state_changed, policy_changed, findings_raised, .. } =
        diff(before, after, &DiffOptions::default());
    let changed = TreeDiff {
        added,
        removed,
        moved,
        state_changed,
        policy_changed,
        findings_raised,
        ..TreeDiff::default()
    };
    if changed.is_empty() { None } else { Some(diff_to_text(&changed, false)) }
}

/// Asserts that `after` is back to what `before` specifies; see [`tree_changes`].
///
/// # Panics
///
/// When it is not, with what changed.
#[track_caller]
pub fn assert_tree_unchanged(before: &TreeSnapshot, after: &TreeSnapshot) {
    if let Some(changes) = tree_changes(before, after) {
        panic!("the tree is not what it was:\n{changes}");
    }
}

#[cfg(test)]
mod tests {
    use perennial::declared_tree;
    use perennial_core::{
        Restart,
        tree::{Finding, NodeState, Severity},
    };

    use super::*;

    fn changed(change: impl FnOnce(&mut TreeSnapshot)) -> Option<String> {
        let before = declared_tree(Vec::new()).unwrap();
        let mut after = before.clone();
        change(&mut after);
        tree_changes(&before, &after)
    }

    #[test]
    fn a_new_life_is_no_change_and_everything_else_is() {
        assert_eq!(changed(|_| ()), None);
        assert_eq!(changed(|tree| tree.nodes[2].incarnation += 1), None);
        assert_eq!(changed(|tree| tree.nodes[2].restarts.total += 1), None);
        let said = |change: fn(&mut TreeSnapshot)| changed(change).unwrap();
        let gone = said(|tree| drop(tree.nodes.pop()));
        assert!(gone.contains("/perennial/drain"), "{gone}");
        said(|tree| tree.nodes[2].state = NodeState::GaveUp);
        said(|tree| tree.nodes[2].restart = Restart::Temporary);
        said(|tree| {
            let mut node = tree.nodes[1].clone();
            node.path.push_str("-2");
            node.id.push_str("-2");
            tree.nodes.push(node);
        });
        said(|tree| {
            tree.findings.push(Finding {
                id: "PF-13".to_owned(),
                name: "gave_up".to_owned(),
                severity: Severity::Error,
                path: "/perennial".to_owned(),
                message: String::new(),
                evidence: serde_json::Map::new(),
                help: None,
                command: None,
            });
        });
    }

    #[test]
    #[should_panic(expected = "the tree is not what it was")]
    fn a_tree_that_changed_fails_the_test() {
        let before = declared_tree(Vec::new()).unwrap();
        let mut after = before.clone();
        after.nodes.pop();
        assert_tree_unchanged(&before, &after);
    }
}
