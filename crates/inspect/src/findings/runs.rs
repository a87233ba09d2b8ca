//! What is wrong with runs and their store, from what the components of the runtime publish.

use std::collections::HashSet;

use perennial_core::tree::{Finding, NodeKind, NodeState, Severity, TreeNode};
use serde_json::{Map, Value};

use super::{
    Thresholds,
    finding::{Told, finding, shell_word},
    history::{History, Sample},
};

const RUN_WITHOUT_OWNER: (&str, &str) = ("PF-07", "run_waiting_without_owner");
const SCHEDULER_STALLED: (&str, &str) = ("PF-16", "scheduler_stalled");
const STORE_DEGRADED: (&str, &str) = ("PF-17", "store_degraded");
const LEASE_AT_RISK: (&str, &str) = ("PF-18", "lease_at_risk");
const APPROVAL_DUE: (&str, &str) = ("PF-20", "approval_due");
const ATTEMPT_UNCERTAIN: (&str, &str) = ("PF-23", "attempt_uncertain");
const QUARANTINED: (&str, &str) = ("PF-31", "quarantined");
const SERVICE_FAILED: (&str, &str) = ("PF-32", "service_failed");
const RUNS_WAITING: (&str, &str) = ("PF-41", "runs_waiting");

/// Runs that one finding names; the number says how many there are.
const NAMED_MAX: usize = 16;

pub(super) fn judge(history: &History<'_>, thresholds: &Thresholds, found: &mut Vec<Finding>) {
    let nodes = &history.now.tree.nodes;
    let explained: HashSet<&str> = nodes
        .iter()
        .filter_map(parked)
        .flat_map(|parked| parked.keys().map(String::as_str))
        .collect();
    for node in nodes {
        found.extend(scheduler_stalled(node));
        found.extend(store_degraded(history, node, thresholds));
        found.extend(lease_at_risk(node));
        found.extend(quarantined(node));
        found.extend(service_failed(node));
        found.extend(runs_waiting(&history.now, node));
        found.extend(approval_due(&history.now, node));
        found.extend(attempt_uncertain(&history.now, node));
        if !explained.contains(node.id.as_str()) {
            found.extend(without_owner(history, node));
        }
    }
}

/// PF-16: the scheduler has looked after no run for too long, as it says itself.
fn scheduler_stalled(node: &TreeNode) -> Option<Finding> {
    let detail = (node.id == "scheduler").then_some(&node.detail)?;
    let healthy = detail.get("healthy").and_then(Value::as_bool)?;
    let stalled = detail.get("stalled_ms").and_then(Value::as_u64).unwrap_or(0);
    let why = detail.get("why").and_then(Value::as_str).unwrap_or("no reason was told");
    (!healthy).then(|| {
        let since = crate::text::elapsed(stalled);
        let message = format!("no run has been looked after for {since}: {why}");
        finding(SCHEDULER_STALLED, Severity::Error, &node.path, message)
            .evidence("stalled_ms", stalled)
            .evidence("why", why)
            .help("see whether the store is away or slow; runs go on by themselves when it answers")
            .look_at(node)
    })
}

/// PF-17. The time of a disk sync is not published yet.
fn store_degraded(
    history: &History<'_>,
    node: &TreeNode,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let status = node.detail.as_object().filter(|status| status.contains_key("store_id"))?;
    let number = |status: &Map<String, Value>, name: &str| status.get(name)?.as_u64();
    let queued = number(status, "queued").unwrap_or(0);
    let failed = number(status, "failed_commits").unwrap_or(0);
    let before = history.before().and_then(|sample| sample.node(&node.path));
    let failed_before = before.and_then(|node| number(node.detail.as_object()?, "failed_commits"));
    let failed_since = failed_before.map_or(0, |before| failed.saturating_sub(before));
    let message = if failed_since > 0 {
        format!("{failed_since} commits failed since the dump before")
    } else if queued > thresholds.store_queue_max {
        format!("{queued} requests wait for the writer")
    } else {
        return None;
    };
    Some(
        finding(STORE_DEGRADED, Severity::Error, &node.path, message)
            .evidence("queued", queued)
            .evidence("failed_commits", failed)
            .evidence("failed_since", failed_since)
            .help(
                "see whether the disk is full or slow; callers are refused when the queue is full",
            )
            .look_at(node),
    )
}

/// PF-18: less than a third of the lease is left, and nobody has renewed it.
fn lease_at_risk(node: &TreeNode) -> Option<Finding> {
    let detail = (node.id == "lease").then_some(&node.detail)?;
    let number = |name: &str| detail.get(name).and_then(Value::as_u64);
    let (lease, unrenewed) = (number("lease_ms")?, number("unrenewed_ms")?);
    let stage = detail.get("stage").and_then(Value::as_str).unwrap_or_default();
    let is_lost = stage == "lost";
    if !is_lost && unrenewed.saturating_mul(3) <= lease.saturating_mul(2) {
        return None;
    }
    let (since, of) = (crate::text::elapsed(unrenewed), crate::text::declared(lease));
    let (severity, message) = if is_lost {
        (Severity::Error, "this node has lost its lease and joins again".to_owned())
    } else if stage == "work_stopped" {
        let message = format!("not renewed for {since} of {of}: its attempts are stopped");
        (Severity::Error, message)
    } else {
        (Severity::Warn, format!("not renewed for {since} of {of}: nothing is claimed"))
    };
    Some(
        finding(LEASE_AT_RISK, severity, &node.path, message)
            .evidence("unrenewed_ms", unrenewed)
            .evidence("lease_ms", lease)
            .evidence("missed", number("missed"))
            .evidence("until", detail.get("until").cloned().unwrap_or(Value::Null))
            .help("see whether the store is away or slow; a longer lease bears more, and is rescued later")
            .look_at(node),
    )
}

/// PF-31: runs that this process cannot continue, and why.
fn quarantined(node: &TreeNode) -> Option<Finding> {
    let parked = parked(node)?;
    let (first, why) = parked.iter().next()?;
    let why = why.as_str().unwrap_or("no reason was told");
    let message = match parked.len() {
        1 => format!("run {first} cannot be continued: {why}"),
        n => format!("{n} runs cannot be continued; of them {first}: {why}"),
    };
    let named: Map<String, Value> =
        parked.iter().take(NAMED_MAX).map(|(run, why)| (run.clone(), why.clone())).collect();
    Some(
        finding(QUARANTINED, Severity::Error, &node.path, message)
            .evidence("count", parked.len())
            .evidence("runs", named)
            .help("mend what it says, then resume the run; nothing of it is lost")
            .command(format!("show {}", shell_word(first))),
    )
}

/// PF-32: an instance of a service has used up its restarts, or its start has failed for good.
fn service_failed(node: &TreeNode) -> Option<Finding> {
    let (parents, _) = node.path.rsplit_once('/')?;
    let detail = parents.ends_with("/services").then_some(&node.detail)?;
    let text = |name: &str| detail.get(name).and_then(Value::as_str);
    let has_failed = text("state") == Some("failed");
    has_failed.then(|| {
        let why = text("why").unwrap_or("no reason was told");
        let message = format!("service {} is not started any more: {why}", node.id);
        finding(SERVICE_FAILED, Severity::Error, &node.path, message)
            .evidence("why", why)
            .evidence("restarts", detail.get("restarts").cloned().unwrap_or(Value::Null))
            .evidence("holds", detail.get("holds").cloned().unwrap_or(Value::Null))
            .help("mend what it says, then let the host restart the service; jobs that declare it are not waited for")
            .look_at(node)
    })
}

/// PF-41, of our own: runs that are recorded and wait for a free place, and who holds the places.
fn runs_waiting(now: &Sample<'_>, node: &TreeNode) -> Option<Finding> {
    let detail = (node.id == "ownership").then_some(&node.detail)?;
    let waiting = detail.get("waiting")?.as_object()?;
    let (first, why) = waiting.iter().next()?;
    let why = why.get("for").and_then(Value::as_str).unwrap_or("a free place");
    let listed = waiting.len() as u64;
    let count = detail.get("waiting_count").and_then(Value::as_u64).unwrap_or(listed);
    let held = holders(now, detail);
    let stuck = !held.is_empty() && held.iter().all(|(_, state)| state == "paused");
    let by = match held.as_slice() {
        [] => String::new(),
        [(run, state)] => format!("; {run} ({state}) holds the place"),
        [(run, state), rest @ ..] => {
            format!("; {run} ({state}) and {} more hold the places", rest.len())
        }
    };
    let message = match count {
        1 => format!("run {first} waits for {why}{by}"),
        n => format!("{n} runs wait for {why}; the first is {first}{by}"),
    };
    let named: Map<String, Value> =
        waiting.iter().take(NAMED_MAX).map(|(run, why)| (run.clone(), why.clone())).collect();
    let command = match held.first().filter(|_| stuck) {
        Some((run, _)) => format!("show {}", shell_word(run)),
        None => format!("show {}", shell_word(first)),
    };
    let held: Map<String, Value> =
        held.into_iter().take(NAMED_MAX).map(|(run, state)| (run, state.into())).collect();
    let (severity, help) = if stuck {
        let help = "every place is held by a paused run: let one go on or cancel it, or let the attempt \
                    that it has under way end";
        (Severity::Warn, help)
    } else {
        (Severity::Info, "each starts by itself when a run ends; a host may allow more at a time")
    };
    Some(
        finding(RUNS_WAITING, severity, &node.path, message)
            .evidence("count", count)
            .evidence("runs_max", detail.get("runs_max").cloned().unwrap_or(Value::Null))
            .evidence("runs", named)
            .evidence("holders", held)
            .help(help)
            .command(command),
    )
}

/// Who holds a place, with what its row says of it. A dump that does not tell has a place for each row.
fn holders(now: &Sample<'_>, detail: &Value) -> Vec<(String, String)> {
    let listed = detail.get("holders").and_then(Value::as_array);
    let listed: Option<HashSet<&str>> =
        listed.map(|runs| runs.iter().filter_map(Value::as_str).collect());
    let rows = now.tree.nodes.iter().filter(|node| {
        node.parent.as_deref().is_some_and(|parent| parent.ends_with("/runs"))
            && listed.as_ref().is_none_or(|listed| listed.contains(node.id.as_str()))
    });
    let state = |node: &TreeNode| {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let why = text(node.detail.pointer("/waits_for/why"));
        let why = why.map(|why| if why == "pause" { "paused".to_owned() } else { why });
        why.or_else(|| text(node.detail.get("state"))).unwrap_or_else(|| "unknown".to_owned())
    };
    rows.map(|node| (node.id.clone(), state(node))).collect()
}

fn parked(node: &TreeNode) -> Option<&Map<String, Value>> {
    (node.id == "ownership").then(|| node.detail.get("parked")?.as_object()).flatten()
}

/// PF-20: a question that nobody has answered, and less than a tenth of its time is left.
fn approval_due(now: &Sample<'_>, node: &TreeNode) -> Option<Finding> {
    let waits = node.detail.get("waits_for")?;
    let text = |name: &str| waits.get(name).and_then(Value::as_str);
    if text("why") != Some("answer") {
        return None;
    }
    // Texts of one form: their order is that of the instants.
    let late = now.tree.taken_at.as_deref()? >= text("late_from")?;
    let (name, until, then) = (text("name")?, text("until")?, text("then").unwrap_or("fail"));
    late.then(|| {
        let message = format!("nobody has answered `{name}`, which is open until {until}");
        finding(APPROVAL_DUE, Severity::Warn, &node.path, message)
            .evidence("name", name)
            .evidence("until", until)
            .evidence("then", then)
            .help("answer it, or its default is taken")
            .command(format!("answer {} {} JSON", shell_word(&node.id), shell_word(name)))
    })
}

/// PF-23.
fn attempt_uncertain(now: &Sample<'_>, node: &TreeNode) -> Option<Finding> {
    let run = monitored(now, node)?;
    let count = node.detail.get("attempts_uncertain")?.as_u64().filter(|count| *count > 0)?;
    let times = if count == 1 { "attempt ended" } else { "attempts ended" };
    let message = format!("{count} {times} between a call and the record of its reply");
    let path = now.node(&run).map_or(&node.path, |run| &run.path);
    Some(
        finding(ATTEMPT_UNCERTAIN, Severity::Warn, path, message)
            .evidence("attempts_uncertain", count)
            .help("the call may be made twice: ask the other side by the idempotency key")
            .command(format!("show {}", shell_word(&node.id))),
    )
}

/// PF-07. A run and its monitor do not start and end in one moment, so the dump before must agree.
fn without_owner(history: &History<'_>, node: &TreeNode) -> Option<Finding> {
    let run = monitored(&history.now, node)?;
    let before = history.before()?;
    let was_there = before.node(&node.path).is_some_and(|then| {
        then.incarnation == node.incarnation && then.state == NodeState::Running
    });
    let is_alone = |sample: &Sample<'_>| sample.node(&run).is_none_or(|run| is_over(run.state));
    if node.state != NodeState::Running
        || !was_there
        || !is_alone(&history.now)
        || !is_alone(before)
    {
        return None;
    }
    let message = "it has not ended, and nobody works on it";
    Some(
        finding(RUN_WITHOUT_OWNER, Severity::Error, &node.path, message)
            .evidence("samples", 2)
            .evidence("monitor_uptime_ms", node.uptime_ms)
            .help("resume it; what was recorded is not done again")
            .command(format!("resume {}", shell_word(&node.id))),
    )
}

fn is_over(state: NodeState) -> bool {
    match state {
        NodeState::Stopped | NodeState::Unkillable | NodeState::GaveUp => true,
        NodeState::Declared
        | NodeState::Starting
        | NodeState::Running
        | NodeState::BackingOff
        | NodeState::Stopping => false,
    }
}

/// The path of the run that `node` is the monitor of.
fn monitored(sample: &Sample<'_>, node: &TreeNode) -> Option<String> {
    let above = sample.node(node.parent.as_deref()?)?;
    let is_monitors = above.id == "monitors" && above.kind == NodeKind::DynamicSupervisor;
    let root = above.parent.as_deref().filter(|_| is_monitors)?;
    // An observer stands beside the monitor, and needs its run as that does.
    let run = node.id.strip_suffix(".observer").unwrap_or(&node.id);
    Some(format!("{root}/runs/{run}"))
}
