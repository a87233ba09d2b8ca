//! Which parts of a dump differ from one start to the next, and what stands in their place (FMT-2).

mod ids;
mod words;

use std::collections::{BTreeMap, HashMap};

use perennial_core::tree::{
    Completeness, Finding, Intensity, LastExit, Mailbox, NodeKind, Restarts, RuntimeInfo, TreeNode,
    TreeSnapshot,
};
use serde_json::{Map, Value};

use self::ids::Ids;

/// Longest key by which a node is sorted: without a bound the keys of a deep tree would take the square of
/// its depth.
const KEY_BYTES_MAX: usize = 4_096;
/// Stands for a time or a duration in texts.
pub(crate) const ELAPSED: &str = "<t>";
/// Stands for a number in texts.
pub(crate) const COUNT: &str = "<n>";

/// `tree` with placeholders for ids, times, durations, process ids and counters, and with the children of
/// dynamic and task supervisors sorted, so that two starts of one host give equal values.
///
/// The same id has the same placeholder everywhere in one dump: `<id-1>`, `<id-2>`. Typed numbers
/// become 0; numbers in texts and details become `<n>`, durations and times `<t>`. What a host
/// declared stays: names, kinds, policies, strategies, intensities.
///
/// ```
#[doc = include_str!("../doc/tree.txt")]
/// use perennial_inspect::stable;
///
/// // Two starts of one host give equal values: for a golden file.
/// let (first, second) = (tree("running", 1), tree("running", 3));
/// assert_ne!(first, second);
/// assert_eq!(stable(&first).nodes, stable(&second).nodes);
/// ```
pub fn stable(tree: &TreeSnapshot) -> TreeSnapshot {
    let mut nodes = Vec::with_capacity(tree.nodes.len());
    let mut rewrite = Rewrite { ids: Ids::default(), paths: HashMap::new() };
    for (node, parent) in sorted(tree) {
        nodes.push(rewrite.node(node, parent));
    }
    let mut findings: Vec<Finding> = tree.findings.iter().map(|f| rewrite.finding(f)).collect();
    findings.sort_by(|a, b| (&a.id, &a.path, &a.message).cmp(&(&b.id, &b.path, &b.message)));
    TreeSnapshot {
        schema: tree.schema.clone(),
        runtime: RuntimeInfo {
            name: tree.runtime.name.clone(),
            version: "<version>".to_owned(),
            node: "<node>".to_owned(),
            instance: "<instance>".to_owned(),
            store: tree.runtime.store.as_ref().map(|_| "<store>".to_owned()),
        },
        taken_at: tree.taken_at.as_ref().map(|_| ELAPSED.to_owned()),
        uptime_ms: tree.uptime_ms.map(|_| 0),
        completeness: tree.completeness.as_ref().map(|it| Completeness {
            nodes: 0,
            answered: 0,
            unresponsive: it.unresponsive.iter().map(|path| rewrite.path(path)).collect(),
            deadline_ms: it.deadline_ms,
        }),
        took_us: tree.took_us.map(|_| 0),
        declared: tree.declared,
        nodes,
        findings,
    }
}

/// A node and its parent.
type Placed<'a> = (&'a TreeNode, Option<&'a TreeNode>);

/// Depth first; siblings in start order where it was declared, else by what is stable about them and all
/// that is under them. Nodes that hang on nothing come last, as they are.
fn sorted(tree: &TreeSnapshot) -> Vec<Placed<'_>> {
    let mut children: BTreeMap<Option<&str>, Vec<&TreeNode>> = BTreeMap::new();
    for node in &tree.nodes {
        children.entry(node.parent.as_deref()).or_default().push(node);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|node| node.order);
    }

    // A parent stands before its children in the list, so the keys of all children are there when
    // the parent's turn comes from behind.
    let mut keys: HashMap<&str, String> = HashMap::new();
    for node in tree.nodes.iter().rev() {
        let under = children.get_mut(&Some(node.path.as_str()));
        let mut key = words::key(node);
        if let Some(siblings) = under {
            if is_unordered(node.kind) {
                siblings.sort_by(|a, b| keys.get(a.path.as_str()).cmp(&keys.get(b.path.as_str())));
            }
            for child in siblings.iter() {
                if key.len() > KEY_BYTES_MAX {
                    break;
                }
                key.push('(');
                // Used once: a node has one parent.
                key.push_str(&keys.remove(child.path.as_str()).unwrap_or_default());
                key.push(')');
            }
            key.truncate(key.floor_char_boundary(KEY_BYTES_MAX));
        }
        keys.insert(&node.path, key);
    }

    let mut out = Vec::with_capacity(tree.nodes.len());
    let tops = children.remove(&None).unwrap_or_default();
    let mut todo: Vec<Placed<'_>> = tops.into_iter().rev().map(|top| (top, None)).collect();
    while let Some((node, parent)) = todo.pop() {
        let under = children.remove(&Some(node.path.as_str())).unwrap_or_default();
        todo.extend(under.into_iter().rev().map(|child| (child, Some(node))));
        out.push((node, parent));
    }
    out.extend(children.into_values().flatten().map(|node| (node, None)));
    out
}

/// Whether the start order of its children is chance.
fn is_unordered(kind: NodeKind) -> bool {
    match kind {
        NodeKind::DynamicSupervisor | NodeKind::TaskSupervisor => true,
        NodeKind::Supervisor | NodeKind::Worker | NodeKind::Task | NodeKind::Thread => false,
    }
}

/// Writes placeholders; remembers which path became which.
struct Rewrite<'a> {
    ids: Ids,
    paths: HashMap<&'a str, String>,
}

impl<'a> Rewrite<'a> {
    fn node(&mut self, node: &'a TreeNode, parent: Option<&TreeNode>) -> TreeNode {
        let id = match parent {
            Some(parent) if is_unordered(parent.kind) => self.ids.in_started_name(&node.id),
            Some(_) | None => self.ids.in_name(&node.id),
        };
        let above = node.parent.as_deref().map(|path| self.path(path));
        // A path that is not made of its parent's stays its own: made anew, the paths of a deep tree
        // would take the square of what the dump takes.
        let is_made_of = |above: &str| {
            let rest = node.path.strip_prefix(above).and_then(|rest| rest.strip_prefix('/'));
            rest == Some(&node.id)
        };
        let path = match (&above, node.parent.as_deref()) {
            (Some(above), Some(parent)) if is_made_of(parent) => format!("{above}/{id}"),
            (Some(_) | None, _) => self.ids.in_name(&node.path),
        };
        self.paths.insert(&node.path, path.clone());
        TreeNode {
            path,
            id,
            parent: above,
            order: match parent {
                Some(parent) if is_unordered(parent.kind) => 0,
                Some(_) | None => node.order,
            },
            kind: node.kind,
            type_name: node.type_name.clone(),
            restart: node.restart,
            shutdown: node.shutdown.clone(),
            strategy: node.strategy,
            intensity: node.intensity.map(|intensity| Intensity { in_window: 0, ..intensity }),
            state: node.state,
            incarnation: 0,
            restarts: Restarts::default(),
            last_exit: node.last_exit.as_ref().map(|exit| self.last_exit(exit)),
            uptime_ms: node.uptime_ms.map(|_| 0),
            mailbox_depth: node.mailbox_depth.map(|_| 0),
            // What it was at in the moment of the dump.
            mailbox_oldest_ms: None,
            mailbox: node.mailbox.map(|mailbox| Mailbox { rejected: 0, dropped: 0, ..mailbox }),
            undelivered: 0,
            waits_for: Vec::new(),
            handled: node.handled.map(|_| 0),
            current: None,
            working_ms: None,
            detail: self.detail(&node.detail),
        }
    }

    fn path(&mut self, path: &str) -> String {
        match self.paths.get(path) {
            Some(known) => known.clone(),
            None => self.ids.in_name(path),
        }
    }

    fn last_exit(&mut self, exit: &LastExit) -> LastExit {
        LastExit {
            reason: exit.reason.clone(),
            message: exit.message.as_deref().map(|message| self.ids.in_text(message)),
            // The file stays; line and column change with every edit of it.
            location: exit.location.as_deref().map(|location| {
                location.split_once(':').map_or(location, |(file, _)| file).to_owned()
            }),
            lived_ms: 0,
            at_ms: 0,
        }
    }

    fn detail(&mut self, detail: &Value) -> Value {
        match detail {
            Value::Null | Value::Bool(_) => detail.clone(),
            Value::Number(_) => Value::String(COUNT.to_owned()),
            Value::String(text) => Value::String(match self.paths.get(text.as_str()) {
                Some(path) => path.clone(),
                None => self.ids.in_text(text),
            }),
            Value::Array(items) => items.iter().map(|item| self.detail(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (self.ids.in_name(key), self.detail(value)))
                .collect(),
        }
    }

    fn finding(&mut self, finding: &Finding) -> Finding {
        Finding {
            id: finding.id.clone(),
            name: finding.name.clone(),
            severity: finding.severity,
            path: self.path(&finding.path),
            message: self.ids.in_text(&finding.message),
            evidence: match self.detail(&Value::Object(finding.evidence.clone())) {
                Value::Object(evidence) => evidence,
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_) => Map::new(),
            },
            help: finding.help.as_deref().map(|help| self.ids.in_text(help)),
            command: finding.command.as_deref().map(|command| self.ids.in_name(command)),
        }
    }
}
