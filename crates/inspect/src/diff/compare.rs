//! Finds the differences.

use std::collections::{HashMap, HashSet};

use perennial_core::tree::{Finding, NodeKind, TreeNode, TreeSnapshot};
use serde_json::{Value, json};

use super::{Change, DIFF_SCHEMA, DiffOptions, FromTo, Listed, Restarted, TreeDiff};
use crate::outline::places;

/// What changed from `before` to `after`. `diff(a, a)` is empty, and `diff(b, a)` mirrors `diff(a, b)`.
///
/// Nodes are matched by path. One that is gone and one that came are the same one that moved, if they are
/// the only ones with their name, kind and incarnation.
///
/// ```
#[doc = include_str!("../../doc/tree.txt")]
/// use perennial_inspect::{diff, DiffOptions};
///
/// let before = tree("running", 1); // as `runtime.tree()` gives it
/// let after = tree("gave_up", 1);
/// let changes = diff(&before, &after, &DiffOptions::default());
/// let change = &changes.state_changed[0];
/// assert_eq!((change.from.as_str(), change.to.as_str()), (Some("running"), Some("gave_up")));
/// ```
pub fn diff(before: &TreeSnapshot, after: &TreeSnapshot, options: &DiffOptions) -> TreeDiff {
    let mut out = TreeDiff { schema: DIFF_SCHEMA, ..TreeDiff::default() };
    let same_boot = before.runtime.instance == after.runtime.instance;
    out.boot_changed = from_to(&before.runtime.instance, &after.runtime.instance);
    out.version_changed = from_to(&before.runtime.version, &after.runtime.version);

    let (places_before, places_after) = (places(before), places(after));
    let gone: Vec<&TreeNode> =
        before.nodes.iter().filter(|node| !places_after.contains_key(&*node.path)).collect();
    let came: Vec<&TreeNode> =
        after.nodes.iter().filter(|node| !places_before.contains_key(&*node.path)).collect();
    let moved = if same_boot { moved(&gone, &came) } else { HashMap::new() };
    let moved_to: HashSet<&str> = moved.values().map(|node| node.path.as_str()).collect();

    for node in gone {
        match moved.get(node.path.as_str()) {
            Some(now) => {
                out.moved.push(FromTo { from: node.path.clone(), to: now.path.clone() });
                compare(node, now, same_boot, options, &mut out);
            }
            None => out.removed.push(listed(node)),
        }
    }
    out.added.extend(came.into_iter().filter(|node| !moved_to.contains(&*node.path)).map(listed));
    for node in &before.nodes {
        if let Some(now) = places_after.get(node.path.as_str()) {
            compare(node, &after.nodes[*now], same_boot, options, &mut out);
        }
    }
    out.findings_raised = missing_in(&before.findings, &after.findings);
    out.findings_cleared = missing_in(&after.findings, &before.findings);
    out
}

fn from_to(from: &str, to: &str) -> Option<FromTo> {
    (from != to).then(|| FromTo { from: from.to_owned(), to: to.to_owned() })
}

fn listed(node: &TreeNode) -> Listed {
    Listed {
        path: node.path.clone(),
        kind: node.kind,
        state: node.state,
        last_exit: node.last_exit.clone(),
    }
}

/// Those of `gone` that are found again among `came`, by their old path.
fn moved<'a>(gone: &[&'a TreeNode], came: &[&'a TreeNode]) -> HashMap<&'a str, &'a TreeNode> {
    let identity = |node: &&'a TreeNode| (node.id.as_str(), node.kind as u8, node.incarnation);
    let alone = |nodes: &[&'a TreeNode]| {
        let mut by: HashMap<_, Option<&'a TreeNode>> = HashMap::new();
        for node in nodes {
            by.entry(identity(node)).and_modify(|known| *known = None).or_insert(Some(node));
        }
        by
    };
    let came = alone(came);
    alone(gone)
        .into_iter()
        .filter_map(|(identity, node)| Some((node?.path.as_str(), (*came.get(&identity)?)?)))
        .collect()
}

/// Findings of `now` whose id and path `then` does not have.
fn missing_in(then: &[Finding], now: &[Finding]) -> Vec<Finding> {
    let known: HashSet<(&str, &str)> =
        then.iter().map(|finding| (&*finding.id, &*finding.path)).collect();
    now.iter().filter(|finding| !known.contains(&(&*finding.id, &*finding.path))).cloned().collect()
}

/// One node in both dumps.
fn compare(
    before: &TreeNode,
    after: &TreeNode,
    same_boot: bool,
    options: &DiffOptions,
    out: &mut TreeDiff,
) {
    let path = &after.path;
    let change = |field: &str, from: Value, to: Value| {
        (from != to).then(|| Change { path: path.clone(), field: field.to_owned(), from, to })
    };
    if same_boot && before.incarnation != after.incarnation {
        let later = if before.incarnation > after.incarnation { before } else { after };
        out.restarted.push(Restarted {
            path: path.clone(),
            from: before.incarnation,
            to: after.incarnation,
            last_exit: later.last_exit.clone(),
        });
    }
    out.state_changed.extend(change("state", json!(before.state), json!(after.state)));
    let allowed = |node: &TreeNode| {
        let intensity = node.intensity.map(|it| format!("{} in {} ms", it.max, it.window_ms));
        json!(intensity)
    };
    for (field, from, to) in [
        ("kind", json!(before.kind), json!(after.kind)),
        ("restart", json!(before.restart), json!(after.restart)),
        ("shutdown", json!(before.shutdown), json!(after.shutdown)),
        ("strategy", json!(before.strategy), json!(after.strategy)),
        ("intensity", allowed(before), allowed(after)),
    ] {
        out.policy_changed.extend(change(field, from, to));
    }
    if let (Some(from), Some(to)) = (before.mailbox_depth, after.mailbox_depth) {
        let (less, more) = (from.min(to), from.max(to));
        if more >= options.load_min && more >= less.saturating_mul(options.load_factor) {
            out.load.extend(change("mailbox", json!(from), json!(to)));
        }
    }
    details(before, after, path, options, out);
    if options.counters && same_boot {
        let (from, to) = (json!(before.restarts.total), json!(after.restarts.total));
        out.counters.extend(change("restarts", from, to));
    }
}

/// What the component published: words are what it is at, numbers are counters, except those that say
/// where a run is.
fn details(
    before: &TreeNode,
    after: &TreeNode,
    path: &str,
    options: &DiffOptions,
    out: &mut TreeDiff,
) {
    if before.detail == after.detail {
        return;
    }
    let is_run = |node: &TreeNode| {
        node.kind == NodeKind::Worker
            && node.detail.get("workflow").is_some()
            && node.detail.get("step").is_some()
    };
    let is_run = is_run(before) && is_run(after);
    let (from, to) = (leaves(&before.detail), leaves(&after.detail));
    let known: HashMap<&str, &Value> = to.iter().map(|(key, value)| (&**key, *value)).collect();
    let old: HashSet<&str> = from.iter().map(|(key, _)| &**key).collect();
    let gone = from.iter().map(|(key, value)| (key, *value, known.get(&**key).copied()));
    let came = to.iter().filter(|(key, _)| !old.contains(&**key));
    let all = gone
        .map(|(key, from, to)| (key, from, to.unwrap_or(&Value::Null)))
        .chain(came.map(|(key, to)| (key, &Value::Null, *to)));
    for (key, from, to) in all.filter(|(_, from, to)| from != to) {
        let is_number = (from.is_number() || from.is_null()) && (to.is_number() || to.is_null());
        let is_progress = !is_number || (is_run && matches!(&**key, "attempt" | "done"));
        let change = Change {
            path: path.to_owned(),
            field: key.clone(),
            from: from.clone(),
            to: to.clone(),
        };
        if is_progress {
            out.progress.push(change);
        } else if options.counters {
            out.counters.push(change);
        }
    }
}

/// The values of a detail that are no objects, with dotted names. Lists are compared whole.
fn leaves(detail: &Value) -> Vec<(String, &Value)> {
    let mut out = Vec::new();
    let mut todo = vec![(String::new(), detail)];
    while let Some((name, value)) = todo.pop() {
        match value.as_object() {
            Some(fields) => todo.extend(fields.iter().rev().map(|(key, value)| {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                (name, value)
            })),
            None if value.is_null() && name.is_empty() => {}
            None => {
                let name = if name.is_empty() { "detail".to_owned() } else { name };
                out.push((name, value));
            }
        }
    }
    out
}
