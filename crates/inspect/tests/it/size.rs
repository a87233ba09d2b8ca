//! A hundred thousand nodes: every rendering ends, and grows with the tree and not with its square. No
//! clock is asked; one that took the square of it would not end while anybody waits.

use perennial_core::{
    Restart,
    tree::{NodeKind, NodeState, TreeSnapshot},
};
use perennial_inspect::{
    DiffOptions, Filter, TextOptions, Thresholds, diagnosed, diff, diff_to_text, filtered,
    from_json, stable, to_dot, to_json, to_mermaid, to_text,
};

use crate::sample::{node, running};

const NODES: usize = 100_000;

/// A tree whose node number `n` hangs on the one that `parent` says.
fn tree(count: usize, parent: impl Fn(usize) -> usize) -> TreeSnapshot {
    let mut tree = running();
    tree.findings.clear();
    tree.nodes = (0..count)
        .map(|place| {
            // Short paths, so that a chain of them is no square by itself.
            let kind = if place == 0 { NodeKind::DynamicSupervisor } else { NodeKind::Worker };
            let mut node = node(&format!("/n{place}"), kind, Restart::Permanent);
            node.parent = (place > 0).then(|| format!("/n{}", parent(place)));
            node.order = place as u64;
            node.state = if place % 100 == 99 { NodeState::Unkillable } else { NodeState::Running };
            node
        })
        .collect();
    tree
}

/// How many bytes each rendering of it has.
fn rendered(tree: &TreeSnapshot) -> Vec<(&'static str, usize)> {
    let found = diagnosed(tree.clone(), std::slice::from_ref(tree), &Thresholds::default());
    let problems = Filter {
        patterns: vec!["/**/n*".parse().unwrap()],
        only_problems: true,
        depth: Some(NODES),
        ..Filter::default()
    };
    let few = filtered(tree.clone(), &problems);
    let nothing = TreeSnapshot { nodes: vec![], ..tree.clone() };
    let all = diff(&nothing, tree, &DiffOptions::default());
    assert_eq!(from_json(&to_json(tree)).unwrap(), *tree);
    vec![
        ("text", to_text(&found, &TextOptions::default()).len()),
        ("stable", to_text(tree, &TextOptions { stable: true, ..TextOptions::default() }).len()),
        ("json", to_json(&stable(tree)).len()),
        ("dot", to_dot(&found).len()),
        ("mermaid", to_mermaid(tree).len()),
        ("filter", to_json(&few).len()),
        ("diff", diff_to_text(&all, false).len()),
    ]
}

#[track_caller]
fn assert_linear(shape: &str, parent: impl Fn(usize) -> usize) {
    let (small, large) = (rendered(&tree(NODES / 10, &parent)), rendered(&tree(NODES, &parent)));
    for ((name, small), (_, large)) in small.into_iter().zip(large) {
        assert!(large < small * 15, "{shape}, {name}: {small} bytes, and {large} for ten times");
    }
}

#[test]
fn all_under_one_supervisor() {
    assert_linear("wide", |_| 0);
}

#[test]
fn each_under_the_one_before() {
    assert_linear("deep", |place| place - 1);
}
