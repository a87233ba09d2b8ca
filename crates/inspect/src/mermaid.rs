//! The tree for Mermaid, which Markdown viewers draw: at most so many boxes, and what is in trouble is
//! never left out.

use std::fmt::Write as _;

use perennial_core::{
    picture::mermaid_label,
    tree::{TreeNode, TreeSnapshot},
};

use crate::{
    neutral::neutral_within,
    outline::Outline,
    standing::{Standing, standings},
    words::{kind_word, state_word},
};

/// Viewers refuse or crawl beyond some hundred boxes.
const NODES_MAX: usize = 200;
/// Longest name in a box.
const TEXT_COLUMNS_MAX: usize = 80;

/// The dump as a Mermaid flowchart, ending in a line break.
///
/// Beyond 200 nodes siblings are collapsed into one box, `… 37 more`. Nodes in trouble and all above
/// them are drawn however many they are; of the others those nearest to the root.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::to_mermaid;
///
/// let drawing = to_mermaid(&tree("running", 1));
/// assert!(drawing.starts_with("flowchart") && drawing.contains("inbox"));
/// ```
pub fn to_mermaid(tree: &TreeSnapshot) -> String {
    let outline = Outline::of(tree);
    let standings = standings(tree);
    let shown = shown(&outline, &standings);
    let mut out = String::from("flowchart LR\n");
    for (place, node) in tree.nodes.iter().enumerate().filter(|(place, _)| shown[*place]) {
        line(&mut out, format_args!("  n{place}[\"{}\"]", label(node)));
        line(&mut out, format_args!("  class n{place} {}", class(standings[place])));
    }
    for (place, children) in outline.children.iter().enumerate().filter(|(place, _)| shown[*place])
    {
        let hidden = children.iter().filter(|child| !shown[**child]).count();
        for child in children.iter().filter(|child| shown[**child]) {
            line(&mut out, format_args!("  n{place} --> n{child}"));
        }
        if hidden > 0 {
            line(&mut out, format_args!("  n{place} --> m{place}[\"… {hidden} more\"]"));
            line(&mut out, format_args!("  class m{place} idle"));
        }
    }
    for (name, fill) in [
        ("good", "#d9f2d9"),
        ("idle", "#eeeeee"),
        ("moving", "#d9e8f9"),
        ("troubled", "#fdebc3"),
        ("broken", "#f8c9c9"),
    ] {
        line(&mut out, format_args!("  classDef {name} fill:{fill},stroke:#888888,color:#000000"));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes every write");
}

/// Which nodes get a box. A parent of one that has one has one.
fn shown(outline: &Outline, standings: &[Standing]) -> Vec<bool> {
    let mut shown = vec![false; standings.len()];
    for (place, standing) in standings.iter().enumerate() {
        if standing.is_problem() {
            outline.mark_upwards(place, &mut shown);
        }
    }
    let mut room = NODES_MAX.saturating_sub(shown.iter().filter(|shown| **shown).count());
    for place in outline.breadth_first() {
        // Without its parent a node would seem to be a top. In a ring nobody comes first.
        let is_attached = outline.parent[place].is_none_or(|parent| shown[parent]);
        if room > 0 && !shown[place] && (is_attached || standings.len() <= NODES_MAX) {
            shown[place] = true;
            room -= 1;
        }
    }
    shown
}

fn label(node: &TreeNode) -> String {
    let mut label = escaped(&node.id);
    label.push_str("<br/>");
    label.push_str(kind_word(node.kind));
    label.push_str(", ");
    label.push_str(state_word(node.state));
    match node.restarts.total {
        0 => {}
        1 => label.push_str("<br/>1 restart"),
        n => write!(label, "<br/>{n} restarts").expect("a String takes every write"),
    }
    label
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "good",
        Standing::Idle => "idle",
        Standing::Moving => "moving",
        Standing::Troubled => "troubled",
        Standing::Broken => "broken",
    }
}

/// Harmless text for the inside of a quoted label.
fn escaped(text: &str) -> String {
    mermaid_label(&neutral_within(text, TEXT_COLUMNS_MAX, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FMT-3: each row of the file is a name and what stands in its place.
    #[test]
    fn odd_names_are_escaped() {
        for [name, _, mermaid] in crate::odd_names() {
            assert_eq!(escaped(&name), mermaid, "{name:?}");
        }
    }
}
