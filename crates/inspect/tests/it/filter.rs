//! Parts of a tree: each row of the file is a filter and the names of the nodes that are left.

use perennial_inspect::{Filter, NodeKind, NodeState, PathPattern, Severity, filtered};
use serde::Deserialize;

use crate::sample::running;

#[derive(Deserialize)]
struct Row {
    filter: Wanted,
    count: Option<usize>,
    ids: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    r#match: Vec<String>,
    state: Vec<NodeState>,
    kind: Vec<NodeKind>,
    only_problems: bool,
    depth: Option<usize>,
}

impl Wanted {
    fn filter(&self) -> Filter {
        Filter {
            patterns: self.r#match.iter().map(|text| text.parse().unwrap()).collect(),
            states: self.state.clone(),
            kinds: self.kind.clone(),
            only_problems: self.only_problems,
            depth: self.depth,
        }
    }
}

#[test]
fn what_is_wanted_is_left_with_all_above_it() {
    for line in include_str!("../data/filters.jsonl").lines() {
        let Row { filter, count, ids } = serde_json::from_str(line).unwrap();
        let tree = filtered(running(), &filter.filter());
        let left: Vec<&str> = tree.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(left.len(), count.unwrap_or(left.len()), "{filter:?}");
        assert_eq!(
            left,
            ids.as_deref().unwrap_or(&left.iter().map(|id| (*id).into()).collect::<Vec<String>>()),
            "{filter:?}"
        );
        // TREE-2.
        for parent in tree.nodes.iter().filter_map(|node| node.parent.as_ref()) {
            assert!(tree.nodes.iter().any(|node| node.path == *parent), "{filter:?}: {parent}");
        }
    }
}

#[test]
fn findings_go_with_their_nodes_but_not_with_the_depth() {
    let wanted = |filter: Filter| filtered(running(), &filter).findings.len();
    let pattern = |text: &str| vec![text.parse().unwrap()];
    assert_eq!(wanted(Filter { patterns: pattern("exporter"), ..Filter::default() }), 1);
    assert_eq!(wanted(Filter { patterns: pattern("store"), ..Filter::default() }), 0);
    assert_eq!(wanted(Filter { depth: Some(0), ..Filter::default() }), 1);
}

#[test]
fn what_any_finding_names_is_a_problem() {
    let mut tree = running();
    let path = tree.nodes[1].path.clone();
    let mut finding = tree.findings[0].clone();
    (finding.path, finding.severity) = (path.clone(), Severity::Info);
    tree.findings = vec![finding];
    let tree = filtered(tree, &Filter { only_problems: true, ..Filter::default() });
    assert!(tree.nodes.iter().any(|node| node.path == path));
    assert_eq!(tree.findings.len(), 1);
}

#[test]
fn a_wrong_pattern_is_refused_with_its_place() {
    let error = "/a/[b\u{1b}".parse::<PathPattern>().unwrap_err().to_string();
    assert!(error.starts_with("`/a/[b\\u{1b}` is no pattern: "), "{error}");
    assert!(error.ends_with("write a literal bracket as `[[]`"), "{error}");
}
