//! For Mermaid, which Markdown viewers draw.

use std::fmt::Write as _;

use perennial_core::picture::mermaid_label;

use super::{EdgeKind, Graph, Node, paint, wording};

pub(super) fn drawn(graph: &Graph) -> String {
    let mut out = String::from("flowchart TD\n");
    line(&mut out, format_args!("  %% {}", mermaid_label(&wording::plain(&graph.title))));
    boxes(&mut out, graph, None, 1);
    for (place, node) in graph.nodes.iter().enumerate() {
        if let Some(state) = &node.state {
            line(&mut out, format_args!("  class s{place} {}", paint(state).0));
        }
    }
    for edge in &graph.edges {
        let lines: Vec<String> =
            wording::lines(&edge.label).iter().map(|text| mermaid_label(text)).collect();
        let arrow = match edge.kind {
            EdgeKind::Order => "-->",
            EdgeKind::Data => "-.->",
            EdgeKind::Failure => "==>",
        };
        let label = lines.join("<br/>");
        let label = if label.is_empty() { label } else { format!("|\"{label}\"|") };
        line(&mut out, format_args!("  s{} {arrow}{label} s{}", edge.from, edge.to));
    }
    if graph.nodes.iter().any(|node| node.state.is_some()) {
        for (name, fill) in [
            ("good", "#d9f2d9"),
            ("idle", "#eeeeee"),
            ("moving", "#d9e8f9"),
            ("troubled", "#fdebc3"),
            ("broken", "#f8c9c9"),
        ] {
            let style = format_args!("fill:{fill},stroke:#888888,color:#000000");
            line(&mut out, format_args!("  classDef {name} {style}"));
        }
    }
    out
}

/// The boxes of a pipeline, those of a nested one in a frame with the step that runs it.
fn boxes(out: &mut String, graph: &Graph, frame: Option<usize>, depth: usize) {
    let indent = "  ".repeat(depth);
    for (place, framed) in graph.inside(frame) {
        let shape = format!("s{place}[\"{}\"]", label(&graph.nodes[place]));
        if framed {
            let title = mermaid_label(&wording::plain(&graph.nodes[place].path));
            line(out, format_args!("{indent}subgraph g{place}[\"{title}\"]"));
            line(out, format_args!("{indent}  {shape}"));
            boxes(out, graph, Some(place), depth + 1);
            line(out, format_args!("{indent}end"));
        } else {
            line(out, format_args!("{indent}{shape}"));
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes every write");
}

fn label(node: &Node) -> String {
    let state = node.state.as_ref().map(|state| state.text.as_str());
    let lines = [Some(node.name.as_str()), Some(&node.about), state];
    let lines = lines.into_iter().flatten().map(|text| mermaid_label(&wording::plain(text)));
    lines.collect::<Vec<_>>().join("<br/>")
}
