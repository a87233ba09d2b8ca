//! What is wrong with a node as a process: restarts, mailbox, callbacks that go on, ends.

use perennial_core::tree::{Finding, NodeKind, NodeState, Severity, TreeNode};

use super::{
    Thresholds,
    finding::{Told, finding},
    history::History,
};

const RESTART_STORM: (&str, &str) = ("PF-02", "restart_storm");
const MAILBOX_GROWING: (&str, &str) = ("PF-03", "mailbox_growing");
const HANDLER_BLOCKED: (&str, &str) = ("PF-04", "handler_blocked");
const GAVE_UP: (&str, &str) = ("PF-13", "gave_up");
const UNKILLABLE: (&str, &str) = ("PF-14", "unkillable");
const CHILD_GAVE_UP: (&str, &str) = ("PF-39", "child_gave_up");

pub(super) fn judge(history: &History<'_>, thresholds: &Thresholds, found: &mut Vec<Finding>) {
    for node in &history.now.tree.nodes {
        found.extend(restart_storm(node, thresholds));
        found.extend(
            mailbox_full(node, thresholds).or_else(|| mailbox_rising(history, node, thresholds)),
        );
        found.extend(blocked(history, node, thresholds));
        found.extend(ended_for_good(node));
    }
}

/// PF-02.
fn restart_storm(node: &TreeNode, thresholds: &Thresholds) -> Option<Finding> {
    let intensity = node.intensity?;
    let (used, max) = (u64::from(intensity.in_window), u64::from(intensity.max));
    // One that gave up has a finding of its own, and one that allows no restart has no storm.
    let is_over = node.state == NodeState::GaveUp || max == 0;
    if is_over || used * 100 < max * thresholds.storm_percent {
        return None;
    }
    let (severity, next) = if used >= max {
        (Severity::Error, "; it gives up at the next exit")
    } else {
        (Severity::Warn, "")
    };
    let window = crate::text::declared(intensity.window_ms);
    let message = format!("{used} of {max} restarts used in {window}{next}");
    Some(
        finding(RESTART_STORM, severity, &node.path, message)
            .evidence("in_window", used)
            .evidence("max", max)
            .evidence("window_ms", intensity.window_ms)
            .help("see how the last lives of its children ended; a cause outside wants a back-off")
            .look_at(node),
    )
}

/// PF-03, against the capacity.
fn mailbox_full(node: &TreeNode, thresholds: &Thresholds) -> Option<Finding> {
    let (depth, capacity) = (node.mailbox_depth?, thresholds.mailbox_capacity);
    if depth.saturating_mul(100) <= capacity.saturating_mul(thresholds.mailbox_percent) {
        return None;
    }
    let (severity, then) = if depth >= capacity {
        (Severity::Error, "; further ones are refused")
    } else {
        (Severity::Warn, "")
    };
    let message = format!("{depth} of {capacity} messages wait{then}");
    Some(
        finding(MAILBOX_GROWING, severity, &node.path, message)
            .evidence("depth", depth)
            .evidence("capacity", capacity)
            .help(
                "it takes messages more slowly than they come: let callers wait, or share its work",
            )
            .look_at(node),
    )
}

/// PF-03, over time. The age of the oldest message is not published; the time over which the depth rose
/// stands in for it.
fn mailbox_rising<'a>(
    history: &History<'a>,
    node: &'a TreeNode,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let depth = node.mailbox_depth?;
    let samples = thresholds.mailbox_samples;
    let life: Vec<(u64, u64)> = history
        .life(node)
        .take(samples)
        .map_while(|(node, ago)| Some((node.mailbox_depth?, ago)))
        .collect();
    let is_rising = life.windows(2).all(|pair| pair[0].0 > pair[1].0);
    let (first, span) = *life.last()?;
    if life.len() < samples || samples < 2 || !is_rising || span <= thresholds.mailbox_rising_ms {
        return None;
    }
    let took = crate::text::elapsed(span);
    let message = format!("{depth} messages wait, {first} did {took} ago, and it never fell");
    Some(
        finding(MAILBOX_GROWING, Severity::Warn, &node.path, message)
            .evidence("depth", depth)
            .evidence("depth_first", first)
            .evidence("samples", samples)
            .evidence("over_ms", span)
            .help(
                "it takes messages more slowly than they come: let callers wait, or share its work",
            )
            .look_at(node),
    )
}

/// PF-04, as far as it shows: the message that a node works on is not published, but a start that has not
/// returned and a stop that goes on are. A supervisor waits for its children, which are named instead.
fn blocked<'a>(
    history: &History<'a>,
    node: &'a TreeNode,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let is_leaf = match node.kind {
        NodeKind::Worker | NodeKind::Task | NodeKind::Thread => true,
        NodeKind::Supervisor | NodeKind::DynamicSupervisor | NodeKind::TaskSupervisor => false,
    };
    let (what, ms) = match node.state {
        NodeState::Starting => ("start", node.uptime_ms?),
        NodeState::Stopping => {
            let stops = |(node, _): &(&TreeNode, u64)| node.state == NodeState::Stopping;
            ("stop", history.life(node).take_while(stops).last()?.1)
        }
        NodeState::Declared
        | NodeState::Running
        | NodeState::BackingOff
        | NodeState::Stopped
        | NodeState::Unkillable
        | NodeState::GaveUp => return None,
    };
    if !is_leaf || ms <= thresholds.blocked_ms {
        return None;
    }
    let severity = if ms > thresholds.blocked_error_ms { Severity::Error } else { Severity::Warn };
    let message = format!("its {what} goes on for {}", crate::text::elapsed(ms));
    Some(
        finding(HANDLER_BLOCKED, severity, &node.path, message)
            .evidence("running_ms", ms)
            .evidence("callback", what)
            .help("its siblings wait for it: give what it waits for a deadline")
            .look_at(node),
    )
}

/// PF-13, PF-14, PF-39.
fn ended_for_good(node: &TreeNode) -> Option<Finding> {
    let what = match (node.state, node.kind) {
        (
            NodeState::GaveUp,
            NodeKind::Supervisor | NodeKind::DynamicSupervisor | NodeKind::TaskSupervisor,
        ) => {
            let allowed = node.intensity.map_or_else(String::new, |intensity| {
                let window = crate::text::declared(intensity.window_ms);
                format!(": more than {} restarts in {window}", intensity.max)
            });
            finding(GAVE_UP, Severity::Error, &node.path, format!("it gave up{allowed}"))
                .evidence("max", node.intensity.map_or(0, |intensity| intensity.max))
                .help("mend what ends its children, then start it again; nothing below it runs")
        }
        (NodeState::GaveUp, NodeKind::Worker | NodeKind::Task | NodeKind::Thread) => {
            let message = "it used up its own restart budget; its siblings go on without it";
            finding(CHILD_GAVE_UP, Severity::Error, &node.path, message)
                .help("mend what ends it, then restart it by hand")
        }
        (NodeState::Unkillable, _) => {
            let message = "it did not end when it was killed; nobody waits for it any more";
            finding(UNKILLABLE, Severity::Error, &node.path, message)
                .help("it never yields: look for a loop or a call that blocks; only a restart of the process ends it")
        }
        (
            NodeState::Declared
            | NodeState::Starting
            | NodeState::Running
            | NodeState::BackingOff
            | NodeState::Stopping
            | NodeState::Stopped,
            _,
        ) => return None,
    };
    let restarts = what.evidence("restarts", node.restarts.total);
    Some(restarts.evidence("incarnation", node.incarnation).look_at(node))
}
