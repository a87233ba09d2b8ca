//! For Graphviz. Boxes are named by their place; what a document says stands in quoted text alone.

use std::fmt::Write as _;

use perennial_core::picture::dot_label;

use super::{EdgeKind, Graph, Node, paint, wording};

pub(super) fn drawn(graph: &Graph) -> String {
    let mut out = String::from("digraph workflow {\n");
    let title = dot_label(&wording::plain(&graph.title));
    line(&mut out, format_args!("  graph [rankdir=TB, labelloc=t, label=\"{title}\"];"));
    out.push_str("  node [shape=box, style=\"filled,rounded\", fillcolor=\"#ffffff\", ");
    out.push_str("fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n");
    boxes(&mut out, graph, None, 1);
    for edge in &graph.edges {
        let lines: Vec<String> =
            wording::lines(&edge.label).iter().map(|text| dot_label(text)).collect();
        let mut with = Vec::new();
        match edge.kind {
            EdgeKind::Order => (),
            // Reading a value moves nothing up or down.
            EdgeKind::Data => {
                with.push("style=dashed, constraint=false, color=\"#777777\"".to_owned());
            }
            EdgeKind::Failure => with.push("style=bold, color=\"#b03030\"".to_owned()),
        }
        if !lines.is_empty() {
            with.push(format!("label=\"{}\"", lines.join("\\n")));
        }
        let with = if with.is_empty() { String::new() } else { format!(" [{}]", with.join(", ")) };
        line(&mut out, format_args!("  s{} -> s{}{with};", edge.from, edge.to));
    }
    out.push_str("}\n");
    out
}

/// The boxes of a pipeline, those of a nested one in a frame with the step that runs it.
fn boxes(out: &mut String, graph: &Graph, frame: Option<usize>, depth: usize) {
    let indent = "  ".repeat(depth);
    for (place, framed) in graph.inside(frame) {
        let node = &graph.nodes[place];
        let fill = node.state.as_ref().map(|state| format!(", fillcolor=\"{}\"", paint(state).1));
        let fill = fill.unwrap_or_default();
        let shape = format!("s{place} [label=\"{}\"{fill}];", label(node));
        if framed {
            let title = dot_label(&wording::plain(&node.path));
            line(out, format_args!("{indent}subgraph cluster_{place} {{"));
            line(
                out,
                format_args!(
                    "{indent}  label=\"{title}\"; style=rounded; color=\"#777777\"; {shape}"
                ),
            );
            boxes(out, graph, Some(place), depth + 1);
            line(out, format_args!("{indent}}}"));
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
    let lines = lines.into_iter().flatten().map(|text| dot_label(&wording::plain(text)));
    lines.collect::<Vec<_>>().join("\\n")
}
