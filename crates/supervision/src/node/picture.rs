//! What readers get of a node.

use std::time::Duration;

use perennial_core::{
    ExitReason, Strategy, Uptime,
    supervisor::Flags,
    tree::{Current, Intensity, LastExit, NodeKind, NodeState, Restarts, TreeNode},
};

use super::{Node, details::Asked, edges::Waits};
use crate::ChildSpec;

impl Node {
    /// This node and all below it; `in_window` is what its supervisor counts of late.
    pub(super) fn collect(
        &self,
        parent: Option<&str>,
        in_window: u32,
        now: Uptime,
        all: &mut Collected,
    ) {
        if let Some(detail) = self.spec.shared_detail() {
            all.asked.push_back((all.nodes.len(), detail));
        }
        let node = self.picture(parent, in_window, now, all);
        all.nodes.push(node);
        if let Some(light) = self.light() {
            for (node, process) in light.nodes(self.in_window(now), now) {
                if let Some(process) = process {
                    all.waits.saw(all.nodes.len(), &process);
                }
                all.nodes.push(node);
            }
        }
        let children = self.child_nodes();
        if children.is_empty() {
            return;
        }
        all.nodes.reserve(children.len());
        // Asked once for all siblings: it looks at every restart of late.
        let in_window = self.in_window(now);
        for child in &*children {
            child.collect(Some(&self.path), in_window, now, all);
        }
    }

    fn in_window(&self, now: Uptime) -> u32 {
        self.written().intensity.as_ref().map_or(0, |intensity| intensity.in_window(now))
    }

    fn picture(
        &self,
        parent: Option<&str>,
        in_window: u32,
        now: Uptime,
        all: &mut Collected,
    ) -> TreeNode {
        let mut node = declared(&self.spec, &self.path, parent, self.order);
        let written = self.written();
        if let (Some(shown), Some(intensity)) = (&mut node.intensity, &written.intensity) {
            shown.in_window = intensity.in_window(now);
        }
        let total = written.restarts;
        node.restarts = Restarts { total, in_window: if total == 0 { 0 } else { in_window } };
        node.state = written.state;
        node.incarnation = written.incarnation;
        node.last_exit = written.last.as_deref().map(last_exit);
        node.undelivered = written.undelivered;
        node.uptime_ms = written.started_at.map(|then| millis(now.since(then)));
        if let Some(life) = &written.life {
            all.waits.saw(all.nodes.len(), &life.process);
        }
        if let Some(load) = written.life.as_ref().and_then(|life| life.control.load()) {
            node.mailbox_depth = Some(load.depth);
            node.mailbox_oldest_ms = load.oldest.map(millis);
            node.mailbox = Some(load.mailbox);
            node.handled = Some(load.taken);
            node.working_ms = load.working.map(millis);
            node.current = load.current.map(|(message, running)| Current {
                message: message.to_owned(),
                running_ms: millis(running),
            });
        }
        node
    }
}

/// What is collected of a tree.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) nodes: Vec<TreeNode>,
    /// Whose details are to be read.
    pub(super) asked: Asked,
    pub(super) waits: Waits,
}

/// A child as specified.
fn declared(spec: &ChildSpec, path: &str, parent: Option<&str>, order: u64) -> TreeNode {
    let supervises = spec.supervises.as_ref();
    TreeNode {
        path: path.to_owned(),
        id: path[parent.map_or(0, str::len) + 1..].to_owned(),
        parent: parent.map(ToOwned::to_owned),
        order,
        kind: spec.kind,
        type_name: spec.type_name.map(ToOwned::to_owned),
        restart: spec.restart,
        shutdown: spec.shutdown.to_string(),
        strategy: supervises.map(|declared| declared.strategy),
        intensity: supervises.map(|declared| Intensity {
            max: declared.intensity.max_restarts,
            window_ms: millis(declared.intensity.within),
            in_window: 0,
        }),
        state: NodeState::Declared,
        incarnation: 0,
        restarts: Restarts::default(),
        last_exit: None,
        uptime_ms: None,
        mailbox_depth: None,
        mailbox_oldest_ms: None,
        mailbox: None,
        undelivered: 0,
        waits_for: Vec::new(),
        handled: None,
        current: None,
        working_ms: None,
        detail: serde_json::Value::Null,
    }
}

/// What a supervisor's specification says about itself.
#[derive(Clone)]
pub(crate) struct Supervises {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: perennial_core::intensity::IntensityLimit,
    pub(crate) children: Vec<ChildSpec>,
}

impl Supervises {
    pub(crate) fn new(flags: &Flags, children: Vec<ChildSpec>) -> Self {
        Self { strategy: flags.strategy, intensity: flags.intensity, children }
    }
}

/// `spec` and everything below it, as specified.
pub(crate) fn collect_declared(
    spec: &ChildSpec,
    parent: Option<&str>,
    order: u64,
    nodes: &mut Vec<TreeNode>,
) {
    let path = format!("{}/{}", parent.unwrap_or_default(), spec.id);
    nodes.push(declared(spec, &path, parent, order));
    if spec.kind == NodeKind::Supervisor
        && let Some(supervises) = &spec.supervises
    {
        for (child, order) in supervises.children.iter().zip(1..) {
            collect_declared(child, Some(&path), order, nodes);
        }
    }
}

/// An end as it is kept.
#[derive(Clone)]
pub(crate) struct PastLife {
    pub(crate) reason: ExitReason,
    pub(crate) lived: Duration,
    pub(crate) ended: Uptime,
}

pub(crate) fn last_exit(PastLife { reason, lived, ended }: &PastLife) -> LastExit {
    let (message, location) = if let ExitReason::Panic { message, location } = reason {
        (Some(&**message), location.as_deref())
    } else if let ExitReason::Error(text) | ExitReason::ShutdownWith(text) = reason {
        (Some(&**text), None)
    } else {
        (None, None)
    };
    LastExit {
        reason: reason.name().to_owned(),
        message: message.map(ToOwned::to_owned),
        location: location.map(ToOwned::to_owned),
        lived_ms: millis(*lived),
        at_ms: millis(ended.elapsed()),
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
