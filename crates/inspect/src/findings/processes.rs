//! What is wrong with a node as a process: restarts, mailbox, callbacks that go on, ends.

use perennial_core::{
    Overflow,
    tree::{Finding, NodeKind, NodeState, Severity, TreeNode},
};

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
const UNRESPONSIVE: (&str, &str) = ("PF-12", "unresponsive");
const CHILD_GAVE_UP: (&str, &str) = ("PF-39", "child_gave_up");
const MESSAGES_LOST: (&str, &str) = ("PF-42", "messages_lost");
const ALWAYS_WORKING: (&str, &str) = ("PF-40", "always_working");

pub(super) fn judge(history: &History<'_>, thresholds: &Thresholds, found: &mut Vec<Finding>) {
    for node in &history.now.tree.nodes {
        found.extend(restart_storm(node, thresholds));
        let blocked = blocked(history, node, thresholds);
        let mailbox = mailbox_full(node, thresholds)
            .or_else(|| mailbox_rising(history, node, thresholds))
            // Behind one that is blocked all wait; that is told once.
            .or_else(|| blocked.is_none().then(|| mailbox_old(node, thresholds)).flatten());
        if blocked.is_none() && mailbox.is_none() {
            found.extend(always_working(node, thresholds));
        }
        found.extend(mailbox);
        found.extend(blocked);
        found.extend(unresponsive(history, node, thresholds));
        found.extend(messages_lost(history, node));
        found.extend(ended_for_good(node));
    }
}

/// PF-02.
fn restart_storm(node: &TreeNode, thresholds: &Thresholds) -> Option<Finding> {
    let intensity = node.intensity?;
    let (used, max) = (u64::from(intensity.in_window), u64::from(intensity.max));
    // One that gave up has a finding of its own, one that ends restarts nothing any more, and one that allows no
    // restart has no storm.
    let is_over = match node.state {
        NodeState::Stopping | NodeState::Stopped | NodeState::Unkillable | NodeState::GaveUp => {
            true
        }
        NodeState::Declared | NodeState::Starting | NodeState::Running | NodeState::BackingOff => {
            max == 0
        }
    };
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
    let depth = node.mailbox_depth?;
    let capacity = node.mailbox.map_or(thresholds.mailbox_capacity, |mailbox| mailbox.capacity);
    if depth.saturating_mul(100) <= capacity.saturating_mul(thresholds.mailbox_percent) {
        return None;
    }
    let (severity, then) =
        if depth >= capacity { (Severity::Error, further(node)) } else { (Severity::Warn, "") };
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

/// What becomes of one message more.
fn further(node: &TreeNode) -> &'static str {
    match node.mailbox.map_or(Overflow::Reject, |mailbox| mailbox.policy) {
        Overflow::Reject => "; further ones are refused",
        Overflow::Wait => "; who sends further ones waits",
        Overflow::DropOldest => "; each further one drops the oldest",
        Overflow::DropNewest => "; further ones are dropped",
    }
}

/// PF-42, of our own: what nobody handled since the dump before. Undelivered are those of lives that ended
/// meanwhile; the other two are of the present life.
fn messages_lost(history: &History<'_>, node: &TreeNode) -> Option<Finding> {
    let before = history.before()?;
    let then = before.node(&node.path)?;
    let is_same_life = then.incarnation == node.incarnation;
    let counts = |node: &TreeNode| node.mailbox.map_or((0, 0), |all| (all.rejected, all.dropped));
    let (rejected, dropped) = counts(node);
    let (rejected_then, dropped_then) = if is_same_life { counts(then) } else { (0, 0) };
    let rejected = rejected.saturating_sub(rejected_then);
    let dropped = dropped.saturating_sub(dropped_then);
    let undelivered = node.undelivered.saturating_sub(then.undelivered);
    let ways = [
        (rejected, "refused because its mailbox was full"),
        (dropped, "dropped because its mailbox was full"),
        (undelivered, "dropped with the mailbox of a life that ended"),
    ];
    let ways: Vec<String> = ways
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} messages were {what}"))
        .collect();
    if ways.is_empty() {
        return None;
    }
    let over = history.before_ms();
    let message = format!("{} in {}", ways.join("; "), crate::text::elapsed(over));
    Some(
        finding(MESSAGES_LOST, Severity::Warn, &node.path, message)
            .evidence("rejected", rejected)
            .evidence("dropped", dropped)
            .evidence("undelivered", undelivered)
            .evidence("over_ms", over)
            .help("give it less or more room, let senders wait for room, or look at why its lives end")
            .look_at(node),
    )
}

/// PF-03, by the age of the first message alone: one dump shows it.
fn mailbox_old(node: &TreeNode, thresholds: &Thresholds) -> Option<Finding> {
    let (depth, oldest) = (node.mailbox_depth?, node.mailbox_oldest_ms?);
    if oldest <= thresholds.mailbox_oldest_ms {
        return None;
    }
    let waits = crate::text::elapsed(oldest);
    let message = format!("{depth} messages wait, the first of them for {waits}");
    Some(
        finding(MAILBOX_GROWING, Severity::Warn, &node.path, message)
            .evidence("depth", depth)
            .evidence("oldest_ms", oldest)
            .help(
                "it takes messages more slowly than they come: let callers wait, or share its work",
            )
            .look_at(node),
    )
}

/// PF-40, of our own: it keeps up, and has no time left. No fault by itself, but what follows when more
/// comes is PF-03.
fn always_working(node: &TreeNode, thresholds: &Thresholds) -> Option<Finding> {
    let working = node.working_ms.filter(|ms| *ms > thresholds.working_ms)?;
    let handled = node.handled.unwrap_or_default();
    let at = node.current.as_ref().map_or_else(String::new, |current| {
        format!("; now `{}` since {}", current.message, crate::text::elapsed(current.running_ms))
    });
    let message =
        format!("it has worked without a pause for {}{at}", crate::text::elapsed(working));
    Some(
        finding(ALWAYS_WORKING, Severity::Info, &node.path, message)
            .evidence("working_ms", working)
            .evidence("handled", handled)
            .evidence("depth", node.mailbox_depth)
            .help("it keeps up so far: share its work before more of it comes")
            .look_at(node),
    )
}

/// PF-12.
fn unresponsive<'a>(
    history: &History<'a>,
    node: &'a TreeNode,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let is_silent =
        |node: &TreeNode| node.detail.get("unavailable").is_some_and(|why| why == "deadline");
    let silent = history.life(node).take_while(|(node, _)| is_silent(node)).count();
    if silent < thresholds.unresponsive_samples.max(1) {
        return None;
    }
    let message = format!("it did not tell its detail in {silent} dumps in a row");
    Some(
        finding(UNRESPONSIVE, Severity::Warn, &node.path, message)
            .evidence("samples", silent)
            .help("what reads its detail waits for something: publish a value instead of locking the state")
            .look_at(node),
    )
}

/// PF-03, over time. Where the age of the first message is not known, the time over which the depth rose
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
    let waited = node.mailbox_oldest_ms.unwrap_or(span);
    if life.len() < samples || samples < 2 || !is_rising || waited <= thresholds.mailbox_rising_ms {
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

/// PF-04: one callback that goes on, a start that has not returned, or a stop that goes on. A supervisor
/// waits for its children, which are named instead.
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
        NodeState::Running => return in_callback(node, thresholds),
        NodeState::Declared
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

/// PF-04 of one that runs.
fn in_callback(node: &TreeNode, thresholds: &Thresholds) -> Option<Finding> {
    let current = node.current.as_ref()?;
    let ms = current.running_ms;
    if ms <= thresholds.blocked_ms {
        return None;
    }
    let severity = if ms > thresholds.blocked_error_ms { Severity::Error } else { Severity::Warn };
    let wait = match node.mailbox_depth.unwrap_or_default() {
        0 => String::new(),
        1 => "; 1 message waits".to_owned(),
        depth => format!("; {depth} messages wait"),
    };
    let (what, since) = (&current.message, crate::text::elapsed(ms));
    Some(
        finding(HANDLER_BLOCKED, severity, &node.path, format!("`{what}` goes on for {since}{wait}"))
            .evidence("running_ms", ms)
            .evidence("callback", what.as_str())
            .evidence("depth", node.mailbox_depth)
            .evidence("oldest_ms", node.mailbox_oldest_ms)
            .help("give what it waits for a deadline, or let a task do the work; a kill ends it where it yields")
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
