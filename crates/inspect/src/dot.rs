//! The tree for Graphviz: one box per node, supervision as solid edges, colour by how a node stands.
//! What a colour says stands in the box as well.

use std::fmt::Write as _;

use perennial_core::{
    picture::dot_label,
    tree::{TreeNode, TreeSnapshot},
};

use crate::{
    neutral::neutral_within,
    outline::Outline,
    standing::{Standing, standings},
    words::{kind_word, severity_word, state_word},
};

/// Longest piece of text in a box or in the title.
const TEXT_COLUMNS_MAX: usize = 120;

/// The dump as a graph in the DOT language, ending in a line break.
///
/// Boxes are named by their place in the dump, `n0`, `n1`; what comes from outside stands in quoted
/// text alone. Render it with `dot -Tsvg`.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::to_dot;
///
/// let drawing = to_dot(&tree("running", 1));
/// assert!(drawing.starts_with("digraph") && drawing.contains("inbox"));
/// ```
pub fn to_dot(tree: &TreeSnapshot) -> String {
    let outline = Outline::of(tree);
    let standings = standings(tree);
    let runtime = &tree.runtime;
    let title = format!("{}@{}", runtime.name, runtime.node);
    let mut out = String::with_capacity(tree.nodes.len() * 160);
    out.push_str("digraph tree {\n");
    line(&mut out, format_args!("  graph [rankdir=LR, labelloc=t, label={}];", quoted(&title)));
    out.push_str("  node [shape=box, style=\"filled,rounded\", fontname=\"sans-serif\"];\n");
    for (place, node) in tree.nodes.iter().enumerate() {
        let color = color(standings[place]);
        line(
            &mut out,
            format_args!(
                "  n{place} [label=\"{}\", tooltip={}, fillcolor=\"{color}\"];",
                label(node),
                quoted(&node.path)
            ),
        );
    }
    for (place, children) in outline.children.iter().enumerate() {
        for child in children {
            line(&mut out, format_args!("  n{place} -> n{child};"));
        }
    }
    for (place, finding) in tree.findings.iter().enumerate() {
        let severity = severity_word(finding.severity);
        let about = format!("{} {} ({severity}) {}", finding.id, finding.name, finding.path);
        let text = format!("{}\\n{}", escaped(&about), escaped(&finding.message));
        line(&mut out, format_args!("  f{place} [shape=note, style=\"\", label=\"{text}\"];"));
    }
    out.push_str("}\n");
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes every write");
}

fn label(node: &TreeNode) -> String {
    let mut label = escaped(&node.id);
    label.push_str("\\n");
    label.push_str(kind_word(node.kind));
    label.push_str(", ");
    label.push_str(state_word(node.state));
    if node.restarts.total > 0 {
        let times = if node.restarts.total == 1 { "restart" } else { "restarts" };
        write!(label, "\\n{} {times}", node.restarts.total).expect("a String takes every write");
    }
    label
}

fn color(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "#d9f2d9",
        Standing::Idle => "#eeeeee",
        Standing::Moving => "#d9e8f9",
        Standing::Troubled => "#fdebc3",
        Standing::Broken => "#f8c9c9",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Harmless text for the inside of a quoted string.
fn escaped(text: &str) -> String {
    dot_label(&neutral_within(text, TEXT_COLUMNS_MAX, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FMT-3: each row of the file is a name and what stands in its place.
    #[test]
    fn odd_names_are_escaped() {
        for [name, dot, _] in crate::odd_names() {
            assert_eq!(escaped(&name), dot, "{name:?}");
        }
    }
}
