//! The places before and after a commit, by what is decided with it.

use std::collections::BTreeSet;

use perennial::{RunState, records::JobState};
use perennial_core::run::{JobKey, StageState};
use perennial_store::Decision;

/// What a decision is known by.
pub(super) fn points(decision: &Decision) -> Vec<&'static str> {
    let mut points = vec!["commit"];
    if let Some(report) = &decision.report {
        points.push(if report.job == JobState::Ready { "commit.retry" } else { "commit.end" });
    }
    if decision.new_jobs.iter().any(|job| job.claim_for.is_some()) {
        points.push("commit.claim");
    }
    if decision.report.is_some() && !decision.new_jobs.is_empty() {
        points.push("commit.follow");
    }
    if let Some(step) = &decision.run_step {
        points.extend(step.to.is_terminal().then_some("commit.close"));
        let is_resumed = step.from == RunState::Paused && step.to == RunState::Running;
        points.extend(is_resumed.then_some("commit.resume"));
        points.extend((step.to == RunState::Paused).then_some("commit.pause"));
        points.extend((step.to == RunState::Cancelling).then_some("commit.cancel"));
        points.extend((step.to == RunState::Compensating).then_some("commit.compensate"));
    }
    points.extend(undoes(decision).then_some("commit.undo"));
    points.extend(is_undone(decision).then_some("commit.undone"));
    points.extend(feeds(decision).then_some("commit.feed"));
    points.extend((!expanded(decision).is_empty()).then_some("commit.expand"));
    points.extend(joins(decision).then_some("commit.join"));
    points.extend(opens(decision).then_some("commit.open"));
    points
}

/// With the end of an attempt there are jobs of the next stage, which is not over with that.
fn feeds(decision: &Decision) -> bool {
    let Some(report) = &decision.report else { return false };
    let stage = report.lease.key.as_str().split_once('/').map(|(stage, _)| stage);
    let mut others = decision.new_jobs.iter().filter(|job| job.part.parent.is_none());
    let is_fed = others.any(|job| stage.is_some_and(|stage| stage != job.stage));
    is_fed && report.job.is_terminal() && decision.stages.is_empty()
}

/// Something that the run has done is to be undone.
fn undoes(decision: &Decision) -> bool {
    decision.new_jobs.iter().any(|job| job.stage == "compensation")
}

/// It is.
fn is_undone(decision: &Decision) -> bool {
    let mut ended = decision.report.iter().filter(|report| report.job.is_terminal());
    ended.any(|report| report.lease.key.as_str().starts_with("compensation/"))
}

/// The groups that get their children.
pub(super) fn expanded(decision: &Decision) -> BTreeSet<JobKey> {
    decision.new_jobs.iter().filter_map(|job| job.part.parent.clone()).collect()
}

/// The last child of a group ends, and the group with it.
fn joins(decision: &Decision) -> bool {
    let is_last = decision.report.as_ref().is_some_and(|report| report.job.is_terminal());
    is_last && decision.jobs.iter().any(|it| it.from == JobState::Joining && it.to.is_terminal())
}

/// A stage closes, and another one has all that it will ever have.
fn opens(decision: &Decision) -> bool {
    let to = |state| decision.stages.iter().any(|step| step.to == state);
    to(StageState::Closed) && to(StageState::Sealed)
}
