//! What a signal makes of a command that runs something: a drain, and what it says of each run.

use std::{pin::Pin, time::Duration};

use perennial::{DrainReport, DrainedRun, RunFate, Runtime};
use serde_json::json;

use super::{
    engine::{Signal, Signals},
    hint::Hint,
    lot::{Lot, Member},
    progress::Shown,
};
use crate::output;

/// How long the rest of the tree may take to stop after the drain.
const REST_WITHIN: Duration = Duration::from_secs(2);

/// How long a stop may take: a drain and a second (DUR-120), and the rest.
pub(super) fn within(drain: Duration) -> Duration {
    drain + Duration::from_secs(1) + REST_WITHIN
}

/// What is said when it begins.
pub(super) fn announced(drain: Duration, grace: Duration) -> String {
    let left = drain.saturating_sub(grace).as_secs();
    format!("stopping; attempts under way get {left} s (press again to stop at once)")
}

/// The runs of a command, while they are followed.
pub(super) type Following<'a> = Pin<&'a mut dyn Future<Output = anyhow::Result<i32>>>;

/// Drains after a first signal, still telling what ends by itself; a second one ends the drain at
/// once (CLI-3). Either way the runs stay resumable.
pub(super) async fn interrupted(
    runtime: Runtime,
    signal: Signal,
    signals: &mut Signals,
    lot: &Lot,
    following: Following<'_>,
    shown: Shown,
    hint: &Hint,
) -> i32 {
    lot.leave();
    let drain = runtime.drain_within();
    output::talk(&announced(drain, runtime.drain_grace()));
    let drained = runtime.drained();
    let report = {
        // Kept until the process ends: what is left of it then ends with it, unheard.
        let shutdown = async move { runtime.shutdown().await.drain };
        tokio::select! {
            biased;
            _ = signals.second() => None,
            report = hand_over(drained, shutdown, following, within(drain)) => report,
        }
    };
    match &report {
        Some(report) => tell(report, signal, lot, shown, hint),
        None => {
            output::talk("stopped at once");
            for member in lot.members().iter().filter(|one| !lot.has_told(one.run.id())) {
                cut(member, shown, hint);
            }
        }
    }
    if lot.members().len() > 1 && !shown.json {
        output::talk(&format!("resume all with: {}", hint.resume("--all")));
    }
    signal.code()
}

/// The report of the drain, once the tree has stopped, or will not in time.
async fn hand_over(
    drained: impl Future<Output = DrainReport>,
    shutdown: impl Future<Output = Option<DrainReport>>,
    mut following: Following<'_>,
    within: Duration,
) -> Option<DrainReport> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut drained = std::pin::pin!(drained);
    let until = tokio::time::sleep(within);
    let mut until = std::pin::pin!(until);
    let (mut report, mut followed) = (None, false);
    loop {
        tokio::select! {
            biased;
            // What it could not write has nobody to read it.
            _ = &mut following, if !followed => followed = true,
            ended = &mut shutdown => return ended.or(report),
            found = &mut drained, if report.is_none() => report = Some(found),
            () = &mut until => return report,
        }
    }
}

/// Says what became of each run whose end was not told yet.
fn tell(report: &DrainReport, signal: Signal, lot: &Lot, shown: Shown, hint: &Hint) {
    if shown.json {
        say(json!({
            "type": "stopped",
            "signal": signal.name(),
            "exit_code": signal.code(),
            "attempts": {
                "finished": report.finished, "released": report.released, "cut": report.cut,
            },
            "runs": report.runs.len() + report.runs_more,
            "took_ms": report.took_ms,
        }));
    } else {
        output::talk(&format!(
            "stopped: {} finished, {} given back, {} cut",
            report.finished, report.released, report.cut
        ));
    }
    for member in lot.members() {
        match report.run(member.run.id()) {
            Some(drained) => one(member, drained, lot, shown, hint),
            None if lot.has_told(member.run.id()) => (),
            // The list is whole, so that it had ended before the drain.
            None if report.runs_more == 0 => had_ended(member, shown, hint),
            None => cut(member, shown, hint),
        }
    }
}

fn had_ended(member: &Member, shown: Shown, hint: &Hint) {
    let run = member.run.id();
    if shown.json {
        return say(json!({
            "type": "drained",
            "run": run,
            "file": member.file,
            "workflow": member.workflow,
            "fate": "finished",
            "resume": null,
        }));
    }
    let show = hint.show(run.as_str());
    output::talk(&format!("run {run} had ended before; see it with: {show}"));
}

fn one(member: &Member, drained: &DrainedRun, lot: &Lot, shown: Shown, hint: &Hint) {
    let run = member.run.id();
    let ended = drained.fate == RunFate::Finished;
    if shown.json {
        say(json!({
            "type": "drained",
            "run": run,
            "file": member.file,
            "workflow": member.workflow,
            "fate": drained.fate,
            "state": drained.state,
            "attempts": drained.attempts,
            "resume": (!ended).then(|| hint.resume(run.as_str())),
        }));
        return;
    }
    let attempts = [
        (drained.attempts.finished, "recorded"),
        (drained.attempts.released, "given back"),
        (drained.attempts.cut, "cut"),
    ];
    let mut facts: Vec<String> = attempts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| {
            let noun = if *count == 1 { "attempt" } else { "attempts" };
            format!("{count} {noun} {what}")
        })
        .collect();
    if facts.is_empty() {
        facts.push("no attempt was under way".to_owned());
    }
    let (run, facts) = (run.as_str(), facts.join(", "));
    match drained.fate {
        RunFate::Finished => {
            let status = drained.state.map_or("ended", perennial::RunState::status);
            let show = hint.show(run);
            let told = if lot.has_told(member.run.id()) {
                String::new()
            } else {
                format!("; see: {show}")
            };
            output::talk(&format!("run {run} {status} while stopping ({facts}){told}"));
        }
        RunFate::Released => {
            let resume = hint.resume(run);
            output::talk(&format!("run {run} is released ({facts}); resume with: {resume}"));
        }
        RunFate::Unknown => {
            let resume = hint.resume(run);
            let text =
                format!("run {run}: the store did not answer ({facts}); resume with: {resume}");
            output::talk(&text);
        }
    }
}

/// A run of which nothing more is known than that its rows are in the store.
fn cut(member: &Member, shown: Shown, hint: &Hint) {
    let (run, resume) = (member.run.id(), hint.resume(member.run.id().as_str()));
    if shown.json {
        say(json!({
            "type": "drained",
            "run": run,
            "file": member.file,
            "workflow": member.workflow,
            "fate": "cut",
            "resume": resume,
        }));
    } else {
        output::talk(&format!("run {run} is cut; resume with: {resume}"));
    }
}

/// A reader that has left misses the rest.
fn say(value: serde_json::Value) {
    drop(output::json(&value));
}
