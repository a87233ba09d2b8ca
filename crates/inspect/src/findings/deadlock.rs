//! Processes that wait for each other: found from the waits that the dump tells, without asking anybody.

use std::collections::HashMap;

use perennial_core::tree::{Finding, Severity, TreeNode, WaitsFor};
use serde_json::{Value, json};

use super::{
    Thresholds,
    finding::{Told, finding},
    history::History,
};

const DEADLOCK: (&str, &str) = ("PF-43", "deadlock");

/// PF-43: one finding for each circle, at the first of its members.
pub(super) fn judge(history: &History<'_>, thresholds: &Thresholds, found: &mut Vec<Finding>) {
    let nodes = &history.now.tree.nodes;
    found.extend(circles(nodes, thresholds.deadlock_ms).iter().map(|circle| told(circle)));
}

/// One step of a circle: who waits, and for whom.
type Step<'a> = (&'a TreeNode, &'a WaitsFor);

fn told(circle: &[Step<'_>]) -> Finding {
    let first = circle[0].0;
    let steps: Vec<String> = circle
        .iter()
        .map(|(_, wait)| format!("for {} ({})", wait.path, crate::text::elapsed(wait.ms)))
        .collect();
    let message = match circle.len() {
        1 => format!("it waits for itself ({})", crate::text::elapsed(circle[0].1.ms)),
        _ => format!("it waits {}: nobody of them can go on", steps.join(", which waits ")),
    };
    let whole: Vec<Value> = circle
        .iter()
        .map(|(node, wait)| json!({"path": node.path, "waits_for": wait.path, "ms": wait.ms}))
        .collect();
    finding(DEADLOCK, Severity::Error, &first.path, message)
        .evidence("cycle", whole)
        .evidence("processes", circle.len())
        .help("let one of them cast and be answered by a message of its own, or ask what both need of a third; a deadline only ends this one")
        .look_at(first)
}

/// The circles of waits that all last at least `ms`, each from its first node in the order of the dump on.
/// No node is in two of them: of circles that share one, the first that is found is told.
fn circles(nodes: &[TreeNode], ms: u64) -> Vec<Vec<Step<'_>>> {
    let places: HashMap<&str, usize> =
        nodes.iter().enumerate().map(|(place, node)| (node.path.as_str(), place)).collect();
    let mut seen = vec![Seen::No; nodes.len()];
    let mut told = vec![false; nodes.len()];
    let mut circles = Vec::new();
    for start in 0..nodes.len() {
        if seen[start] != Seen::No || nodes[start].waits_for.is_empty() {
            continue;
        }
        seen[start] = Seen::OnTheWay;
        // The way to where it looks at present: the places, and how many of the waits were followed.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((place, followed)) = way.last_mut() {
            let Some(wait) = nodes[*place].waits_for.get(*followed) else {
                seen[*place] = Seen::Left;
                way.pop();
                continue;
            };
            *followed += 1;
            let callee = places.get(wait.path.as_str()).filter(|_| wait.ms >= ms);
            let Some(callee) = callee.copied() else { continue };
            match seen[callee] {
                Seen::No => {
                    seen[callee] = Seen::OnTheWay;
                    way.push((callee, 0));
                }
                Seen::OnTheWay => {
                    let from = way.iter().position(|(place, _)| *place == callee);
                    let mut circle = way[from.unwrap_or_default()..].to_vec();
                    if circle.iter().any(|(place, _)| told[*place]) {
                        continue;
                    }
                    circle.iter().for_each(|(place, _)| told[*place] = true);
                    let first = circle.iter().enumerate().min_by_key(|(_, (place, _))| *place);
                    let first = first.map_or(0, |(first, _)| first);
                    circle.rotate_left(first);
                    let step = |(place, followed): (usize, usize)| {
                        let node = &nodes[place];
                        (node, &node.waits_for[followed - 1])
                    };
                    circles.push(circle.into_iter().map(step).collect());
                }
                Seen::Left => (),
            }
        }
    }
    circles
}

/// What was seen of a node on the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    No,
    OnTheWay,
    /// All that can be reached from it was seen.
    Left,
}
