//! Deaths between what is written of a service and what is done to it. Whatever a process has left, the next one
//! finds it again or does without it, and in the end nothing of it runs.

use std::{fs, time::Duration};

use perennial::{
    RunId, RunState,
    records::{AttemptEnd, JobState, RunView},
    service::ServiceState,
};
use perennial_store::{HoldRecord, InstanceRecord, verify};
use perennial_testkit::Deadline;
use serde_json::json;
use tempfile::TempDir;

use crate::kills::{
    END_WITHIN,
    ledger::Victim,
    on_every_store,
    place::Place,
    processes::Processes,
    serving::{
        Kind::{self, Lasting, Process},
        key,
    },
    staged,
    victim::Orders,
};

on_every_store!(
    a_service_that_was_held_and_not_started_is_started_once,
    a_service_that_was_started_and_not_noted_is_found_or_started_again,
    a_service_that_serves_is_there_for_the_next_attempt,
    a_service_that_is_held_no_more_is_stopped_by_the_next_process,
    a_service_that_was_being_stopped_is_stopped_and_no_more,
    a_permit_goes_with_the_process_that_had_it,
);

/// How soon what a process has started is gone after it.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// What a life has left, and told.
struct Left {
    view: RunView,
    row: Option<InstanceRecord>,
    holds: Vec<HoldRecord>,
    /// Whether something runs that outlives its host.
    is_there: bool,
    lines: Vec<String>,
}

impl Left {
    fn state(&self) -> Option<(ServiceState, u64, bool)> {
        self.row.as_ref().map(|row| (row.state, row.epoch.get(), row.instance.is_some()))
    }

    fn told(&self, what: &str) -> usize {
        self.lines.iter().filter(|line| line.split(' ').next() == Some(what)).count()
    }

    /// How each attempt ended.
    fn ends(&self) -> Vec<Option<AttemptEnd>> {
        self.view.attempts.iter().map(|attempt| attempt.end).collect()
    }
}

/// A run and an instance of its own, on the store of all.
struct Trial<'a> {
    place: &'a Place,
    run: RunId,
    folder: TempDir,
    kind: Kind,
}

impl<'a> Trial<'a> {
    fn new(place: &'a Place, number: usize, kind: Kind) -> Self {
        let run = RunId::parse(format!("r{number}")).unwrap();
        Self { place, run, folder: tempfile::tempdir().unwrap(), kind }
    }

    /// A life to its end, which is at `dies_at` if there is such a place.
    fn live(&self, dies_at: Option<(&str, u64)>) -> Left {
        let folder = self.folder.path().display().to_string();
        let mut victim = Victim::start(&Orders {
            staged: false,
            serving: Some((folder, u64::from(self.kind == Lasting))),
            dies_at: dies_at.map(|(point, times)| (point.to_owned(), times)),
            run: self.run.to_string(),
            ..staged::orders(self.place)
        });
        let deadline = Deadline::after(END_WITHIN);
        let mut processes = Processes::with(self.folder.path());
        let mut lines = Vec::new();
        while let Some(line) = victim.next() {
            processes.look();
            lines.push(line);
            assert!(!deadline.left().is_zero(), "not over within {END_WITHIN:?}");
        }
        lines.extend(victim.ended());
        processes.are_gone(GONE_WITHIN);
        let last = dies_at.map_or("down".to_owned(), |(point, _)| format!("dies {point}"));
        assert!(lines.contains(&last), "{last} was not told: {lines:?} {}", victim.errors());
        let is_there = fs::read_dir(self.folder.path()).unwrap().next().is_some();
        self.place.look(async |store| {
            let violations = verify(store).await.unwrap();
            assert!(violations.is_empty(), "{violations:#?}");
            let view = store.run(&self.run).await.unwrap();
            let row = store.instance(key(&self.run)).await.unwrap();
            let holds = store.holds(key(&self.run)).await.unwrap();
            Left { view, row, holds, is_there, lines }
        })
    }

    /// A life that ends the run, and stops what is left; nothing was lost, and nothing is left.
    fn finish(&self, point: &str) -> Left {
        let end = self.live(None);
        let closed = end.lines.iter().find(|line| line.starts_with("closed"));
        assert_eq!(closed.map(String::as_str), Some("closed succeeded"), "{point}");
        assert!(end.told("rests") == 1 && !end.is_there, "{point}: {:?}", end.lines);
        assert_eq!(end.holds, [], "{point}");
        assert_eq!(end.view.run.state, RunState::Succeeded, "{point}");
        let jobs =
            end.view.jobs.iter().map(|job| (job.key.as_str(), job.state, job.result.clone()));
        assert!(jobs.eq([("ask/a", JobState::Succeeded, Some(json!(self.run)))]), "{point}");
        let last = end.ends().pop();
        assert_eq!(last, Some(Some(AttemptEnd::Succeeded)), "{point}: {:?}", end.view.attempts);
        let (kinds, up) = self.place.look(async |store| {
            let events = store.events(self.run.as_str(), 1, 1_000).await.unwrap();
            let kinds: Vec<String> = events.into_iter().map(|event| event.kind).collect();
            (kinds, store.instances(1_000).await.unwrap())
        });
        assert!(up.is_empty(), "{point}: {up:#?}");
        for once in ["job_succeeded", "run_closed"] {
            assert_eq!(kinds.iter().filter(|kind| *kind == once).count(), 1, "{point}: {kinds:?}");
        }
        let row = end.row.as_ref().unwrap();
        assert_eq!((row.state, &row.instance), (ServiceState::Stopped, &None), "{point}");
        end
    }
}

/// Dies at each point once, and lets the next life end the run. `look` is told whether what was started outlives its
/// host, and sees what was left and what became of it.
fn each(place: &Place, points: &[(&str, u64, Kind)], look: impl Fn(&str, bool, &Left, &Left)) {
    for (number, (point, times, kind)) in points.iter().enumerate() {
        let trial = Trial::new(place, number, *kind);
        let left = trial.live(Some((point, *times)));
        let about = format!("{point} {times} {kind:?}");
        let end = trial.finish(&about);
        look(&about, *kind == Lasting, &left, &end);
    }
}

/// The one hold of the job, while it waits.
fn is_held(point: &str, left: &Left) {
    let holds: Vec<_> = left.holds.iter().map(|hold| (hold.attempt, hold.lives)).collect();
    assert_eq!(holds, [(None, true)], "{point}");
    assert_eq!(
        (left.view.attempts.len(), left.view.jobs[0].attempt),
        (0, 0),
        "{point}: no attempt"
    );
}

/// Proves K31.
fn a_service_that_was_held_and_not_started_is_started_once(place: Place) {
    let points = [
        ("claim:after", 1, Process),
        ("instance.starting:after", 1, Lasting),
        ("start:before", 1, Process),
    ];
    each(&place, &points, |point, _, left, end| {
        is_held(point, left);
        let is_noted = point.starts_with("start:") || point.contains("starting:after");
        let row = is_noted.then_some((ServiceState::Starting, 1, false));
        assert_eq!(left.state(), row, "{point}");
        assert_eq!((left.told("started"), left.is_there), (0, false), "{point}");
        assert_eq!((end.told("started"), end.told("stopped")), (1, 1), "{point}");
        assert_eq!(end.ends().len(), 1, "{point}");
    });
}

/// Proves K32.
fn a_service_that_was_started_and_not_noted_is_found_or_started_again(place: Place) {
    let points = [
        ("start:after", 1, Process),
        ("start:after", 1, Lasting),
        ("instance.starting:before", 2, Lasting),
    ];
    each(&place, &points, |point, lasts, left, end| {
        is_held(point, left);
        assert_eq!(left.state(), Some((ServiceState::Starting, 1, false)), "{point}");
        assert_eq!((left.told("started"), left.is_there), (1, lasts), "{point}");
        // Its name and its life are enough to find it again.
        let (found, started) = (end.told("found"), end.told("started"));
        assert_eq!((found > 0, started), (lasts, usize::from(!lasts)), "{point}");
        assert_eq!((end.told("stopped"), end.ends().len()), (1, 1), "{point}");
    });
}

/// Proves K33.
fn a_service_that_serves_is_there_for_the_next_attempt(place: Place) {
    let points = [
        ("instance.ready:after", 1, Process),
        ("instance.ready:after", 1, Lasting),
        ("user:before", 1, Process),
        ("held:after", 1, Lasting),
    ];
    each(&place, &points, |point, lasts, left, end| {
        assert_eq!(left.state(), Some((ServiceState::Ready, 1, true)), "{point}");
        let (found, started) = (end.told("found"), end.told("started"));
        assert_eq!((found > 0, started), (lasts, usize::from(!lasts)), "{point}");
        assert_eq!(end.told("stopped"), 1, "{point}");
        let begun = !point.starts_with("instance");
        if !begun {
            is_held(point, left);
        }
        let of_attempt = left.holds.iter().filter(|hold| hold.attempt == Some(1)).count();
        assert_eq!(of_attempt, usize::from(point.starts_with("held")), "{point}");
        let of_job = left.holds.iter().filter(|hold| hold.attempt.is_none() && hold.lives).count();
        assert_eq!(of_job, 1, "{point}: its job holds it on");
        // The death of its process uses no attempt of the budget.
        let died = begun.then_some(Some(AttemptEnd::Expired));
        let ends: Vec<_> = died.into_iter().chain([Some(AttemptEnd::Succeeded)]).collect();
        assert_eq!((end.ends(), end.view.jobs[0].attempts_used), (ends, 1), "{point}");
    });
}

/// Proves K34.
fn a_service_that_is_held_no_more_is_stopped_by_the_next_process(place: Place) {
    let points = [
        ("commit.end:after", 1, Process),
        ("commit.end:after", 1, Lasting),
        ("instance.draining:before", 1, Lasting),
    ];
    each(&place, &points, |point, lasts, left, end| {
        assert_eq!(left.state(), Some((ServiceState::Ready, 1, true)), "{point}");
        assert_eq!(left.view.jobs[0].state, JobState::Succeeded, "{point}");
        assert_eq!((&*left.holds, left.is_there), (&[][..], lasts), "{point}");
        let stopped = usize::from(lasts);
        assert_eq!((end.told("started"), end.told("stopped")), (0, stopped), "{point}");
        assert_eq!(end.row.as_ref().unwrap().epoch.get(), 2, "{point}");
    });
}

/// Proves K35.
fn a_service_that_was_being_stopped_is_stopped_and_no_more(place: Place) {
    let points = [
        ("stop:before", 1, Process),
        ("stop:before", 1, Lasting),
        ("stop:after", 1, Lasting),
        ("instance.stopped:before", 1, Process),
    ];
    each(&place, &points, |point, lasts, left, end| {
        assert_eq!(left.state(), Some((ServiceState::Draining, 1, true)), "{point}");
        assert_eq!(left.holds, [], "{point}");
        let is_stopped = point.contains("stop:after") || point.contains("stopped:before");
        let is_there = lasts && !is_stopped;
        assert_eq!((left.told("stopped"), left.is_there), (usize::from(is_stopped), is_there));
        let again = usize::from(is_there);
        assert_eq!((end.told("started"), end.told("stopped")), (0, again), "{point}");
        assert_eq!(end.row.as_ref().unwrap().epoch.get(), 2, "{point}: its life is over");
    });
}

/// The only one there is.
/// What K11 says of permits.
fn a_permit_goes_with_the_process_that_had_it(place: Place) {
    each(&place, &[("permit:after", 1, Process)], |point, _, left, end| {
        assert_eq!(left.view.calls, [], "{point}: no call was made");
        let ends = [Some(AttemptEnd::Expired), Some(AttemptEnd::Succeeded)];
        assert_eq!((&*end.ends(), end.view.jobs[0].attempts_used), (&ends[..], 1), "{point}");
    });
}
