//! A run in stages, looked at at every commit: what closes a stage opens what follows from it, in one transaction, once.

use std::collections::{BTreeMap, BTreeSet};

use perennial::{
    RunId, RunState,
    records::{EventRecord, JobKind, JobRecord, JobState, RunView},
};
use perennial_core::run::{FeedKind, StageState};
use perennial_store::StageRecord;
use perennial_testkit::Deadline;

use super::{
    END_WITHIN, RUN,
    ledger::{Told, Victim},
    on_every_store,
    place::Place,
    staged,
    victim::Orders,
};

/// Events of one run, at most.
const ALL: u32 = 10_000;

/// What a ledger is told of a study after one commit, which wrote those events.
pub(super) fn said_of(view: &RunView, events: &[EventRecord], is_fed: bool) -> String {
    match fits(view, is_fed).and_then(|()| together(view, events)) {
        Ok(()) => "sampled".to_owned(),
        Err(why) => format!("violation {}", why.replace('\n', " ")),
    }
}

/// What is true of the rows of a study (`staged`) at every commit. A further round is opened with what ended without being
/// followed, because its run was about to end; its first decision gives that (`is_fed`).
///
/// # Errors
///
/// What is not.
pub(super) fn fits(view: &RunView, is_fed: bool) -> Result<(), String> {
    for stage in &view.stages {
        let of = view.jobs.iter().filter(|job| job.stage == stage.stage);
        let open = of.filter(|job| !job.state.is_terminal()).count();
        let is_closed = stage.state == StageState::Closed;
        if is_closed && open > 0 || is_closed != stage.outcome.is_some() {
            return Err(format!("{stage:?} with {open} jobs that have not ended"));
        }
        if let Some(name) = &stage.upstream {
            let upstream = view.stages.iter().find(|it| it.stage == *name);
            let upstream = upstream.ok_or(format!("{stage:?} follows from nothing"))?;
            let goes_on = is_fed && view.run.state.goes_on();
            follows(view, upstream, stage, goes_on)?;
        }
    }
    let mut groups = view.jobs.iter().filter(|job| job.kind == JobKind::Group);
    groups.try_for_each(|group| is_whole(view, group))
}

/// One stage and the one behind it; in a run that ends nothing is given any more.
fn follows(
    view: &RunView,
    upstream: &StageRecord,
    stage: &StageRecord,
    goes_on: bool,
) -> Result<(), String> {
    let about = |why: &str| {
        let (from, state) = (&upstream.stage, upstream.state);
        Err(format!("{} is {:?} and {from} is {state:?}: {why}", stage.stage, stage.state))
    };
    let is_sealed = matches!(stage.state, StageState::Sealed | StageState::Closed);
    if is_sealed != (upstream.state == StageState::Closed) {
        return about("one without the other");
    }
    // What was made again waits in its row until it is given once more.
    let given: BTreeSet<&str> = own(view, &stage.stage)
        .filter(|(_, job)| job.state != JobState::Blocked)
        .map(|it| it.0)
        .collect();
    if !goes_on {
        return Ok(());
    }
    match stage.feed {
        FeedKind::PerItem => {
            let over = own(view, &upstream.stage).filter(|(_, job)| job.state.is_terminal());
            let over: BTreeSet<&str> = over.map(|it| it.0).collect();
            if over != given {
                return about(&format!("from {over:?} follow {given:?}"));
            }
        }
        FeedKind::Barrier => {
            // One job by all of them, and a skipped one for each that did not succeed.
            let is_good =
                |job: &JobRecord| matches!(job.state, JobState::Succeeded | JobState::Partial);
            let bad = own(view, &upstream.stage).filter(|(_, job)| !is_good(job));
            let mut due: BTreeSet<&str> = bad.map(|it| it.0).chain(["sum"]).collect();
            due.retain(|_| is_sealed);
            if due != given {
                return about(&format!("with {given:?}"));
            }
        }
        FeedKind::Static | FeedKind::Driven => (),
    }
    Ok(())
}

/// The jobs of a stage that are nobody's children, with their keys in it.
fn own<'a>(view: &'a RunView, stage: &str) -> impl Iterator<Item = (&'a str, &'a JobRecord)> {
    let of = view.jobs.iter().filter(move |job| job.stage == stage && job.parent.is_none());
    of.map(|job| (job.key.as_str().split_once('/').unwrap().1, job))
}

/// All children of a group or none, and its own end with that of the last.
fn is_whole(view: &RunView, group: &JobRecord) -> Result<(), String> {
    let children: Vec<_> =
        view.jobs.iter().filter(|job| job.parent.as_ref() == Some(&group.key)).collect();
    let open = children.iter().filter(|job| !job.state.is_terminal()).count();
    let under_way =
        children.iter().any(|job| !job.state.is_terminal() && job.state != JobState::Blocked);
    let all = children_of(group);
    let is_right = match group.state {
        JobState::Ready | JobState::Blocked => !under_way && [0, all].contains(&children.len()),
        JobState::Joining => open > 0 && children.len() == all,
        JobState::Succeeded | JobState::Partial | JobState::Failed => {
            open == 0 && children.len() == all
        }
        JobState::Skipped | JobState::Cancelled => open == 0,
        JobState::Leased | JobState::Deferred | JobState::Suspended => false,
    };
    let (state, count) = (group.state, children.len());
    let why = || format!("{} is {state} with {count} of {all} children, {open} open", group.key);
    if is_right { Ok(()) } else { Err(why()) }
}

/// How many a group has by what it was given.
pub(super) fn children_of(group: &JobRecord) -> usize {
    if group.input["input"].as_u64().is_some_and(|input| input > 4) { 4 } else { 3 }
}

/// The events of one commit: a stage closes with what is sealed for that, and nothing is sealed without.
///
/// # Errors
///
/// One without the other, or one stage twice.
fn together(view: &RunView, events: &[EventRecord]) -> Result<(), String> {
    let closed = stages(events, "stage_closed");
    let sealed = stages(events, "stage_sealed");
    let ended = events.iter().any(|event| event.kind == "run_closed");
    if closed.values().chain(sealed.values()).any(|times| *times > 1) {
        return Err(format!("closed {closed:?} and sealed {sealed:?} at once"));
    }
    for stage in &view.stages {
        let Some(upstream) = &stage.upstream else { continue };
        let is_sealed = sealed.contains_key(&stage.stage);
        // A run that ends early closes all of them.
        let is_left = ended && closed.contains_key(&stage.stage);
        let is_right = match closed.contains_key(upstream) {
            true => is_sealed || is_left,
            false => !is_sealed,
        };
        if !is_right {
            return Err(format!("{upstream}: closed {closed:?} and sealed {sealed:?}"));
        }
    }
    Ok(())
}

/// How often each stage is told of so.
fn stages(events: &[EventRecord], kind: &str) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == kind) {
        *found.entry(event.data["stage"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

on_every_store!(a_stage_closes_once_and_with_it_opens_what_follows_at_every_commit);

/// One life, which looks at each commit.
fn life(place: &Place, act: Option<(&str, u64)>) -> RunState {
    let act = act.map(|(what, effects)| (what.to_owned(), effects));
    let orders = Orders { act, samples: true, ..staged::watched(place) };
    let deadline = Deadline::after(END_WITHIN);
    let (mut victim, mut told) = (Victim::start(&orders), Told::default());
    while let Some(line) = victim.next() {
        told.take(&line);
        assert!(!deadline.left().is_zero(), "not over within {END_WITHIN:?}");
    }
    victim.ended();
    assert_eq!((&*victim.errors(), told.violations.first()), ("", None));
    assert!(told.samples > told.committed.len() as u64, "each commit was looked at");
    staged::look(place).unwrap().run.state
}

/// Proves INV-7.
/// A run that comes to its end and one that is cancelled on the way, each with a further round: of jobs, of groups, and
/// of a whole stage follows what follows, and no row says so before another.
fn a_stage_closes_once_and_with_it_opens_what_follows_at_every_commit(place: Place) {
    let mut place = place;
    for cancelled_at in [None, Some(3)] {
        let ended = life(&place, cancelled_at.map(|effects| ("cancel", effects)));
        let again = life(&place, Some(("reopen", 0)));
        let cut = if cancelled_at.is_some() { "cancelled" } else { "partially_succeeded" };
        assert_eq!((ended.name(), again.name()), (cut, "partially_succeeded"));
        let run = RunId::parse(RUN).unwrap();
        let events = place.look(async |store| store.events(run.as_str(), 1, ALL).await.unwrap());
        let rounds: Vec<_> = events.split(|event| event.kind == "run_reopened").collect();
        assert_eq!(rounds.len(), 2);
        let once = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        for (number, round) in rounds.into_iter().enumerate() {
            let closed = stages(round, "stage_closed");
            assert_eq!(closed, once(&["make", "look", "note", "sum"]), "{cancelled_at:?} {number}");
            let mut sealed = stages(round, "stage_sealed");
            // Its jobs are known from the beginning.
            sealed.remove("make");
            let all = once(&["look", "note", "sum"]);
            if number == 1 || cancelled_at.is_none() {
                assert_eq!(sealed, all, "{cancelled_at:?} {number}");
            } else {
                assert!(sealed.values().all(|times| *times == 1), "{sealed:?}");
            }
        }
        place = place.another();
    }
}
