//! Deaths at the steps of a run in stages: what follows from a job, the children of a group, its end, and the end of a
//! stage.

use std::{collections::BTreeMap, sync::LazyLock};

use perennial::{
    RunId,
    records::{JobRecord, JobState, RunView},
};
use perennial_core::run::StageState::{self, Closed, Open, Sealed, Waiting};
use perennial_testkit::Deadline;
use serde_json::Value;

use crate::kills::{
    END_WITHIN, RUN,
    commits::{children_of, fits},
    ledger::{Told, Victim},
    on_every_store,
    place::Place,
    staged::{self, Numbers, picture},
    victim::Orders,
};

/// Events of one run, at most.
const ALL: u32 = 10_000;

/// What happens as often whoever is killed when.
const ONCE: [&str; 15] = [
    "run_created",
    "run_started",
    "run_closed",
    "stage_opened",
    "stage_sealed",
    "stage_closed",
    "group_expanded",
    "group_joined",
    "job_succeeded",
    "job_partial",
    "job_failed",
    "job_skipped",
    "checkpoint_written",
    "checkpoint_saved",
    "number_allocated",
];

on_every_store!(
    what_follows_from_a_job_is_there_with_its_end_and_once,
    a_group_whose_children_were_not_committed_has_none,
    children_that_were_committed_are_not_made_again,
    a_group_ends_with_its_last_child_or_not,
    a_stage_closes_and_the_next_one_opens_or_neither,
);

/// A run, and all that its lives have told.
struct Trial {
    place: Place,
    told: Told,
    numbers: Numbers,
}

impl Trial {
    fn new(place: Place) -> Self {
        Self { place, told: Told::default(), numbers: Numbers::default() }
    }

    /// One life until it ends or dies: what it told, and its errors.
    fn lives(&mut self, dies_at: Option<(String, u64)>) -> (Vec<String>, String) {
        // What goes on after a death is looked at at each commit.
        let samples = dies_at.is_none();
        let orders = Orders { samples, dies_at, ..staged::watched(&self.place) };
        let deadline = Deadline::after(END_WITHIN);
        let (mut victim, mut lines) = (Victim::start(&orders), Vec::new());
        while let Some(line) = victim.next() {
            self.numbers.take(&line);
            self.told.take(&line);
            lines.push(line);
            assert!(!deadline.left().is_zero(), "not over within {END_WITHIN:?}");
        }
        victim.ended();
        assert_eq!(self.told.violations.first(), None);
        (lines, victim.errors())
    }

    /// A life that dies at the n-th passage of `point`, and what it has left.
    fn dies(&mut self, point: &str, times: u64) -> (Vec<String>, RunView) {
        let (lines, _) = self.lives(Some((point.to_owned(), times)));
        let died = format!("dies {point}");
        assert!(lines.contains(&died), "{point} was not passed {times} times: {lines:?}");
        let left = staged::look(&self.place).unwrap();
        assert!(left.run.state.goes_on(), "{point}: {}", left.run.state);
        fits(&left, true).unwrap_or_else(|why| panic!("{point}: {why}"));
        (lines, left)
    }

    /// A life that ends the run.
    fn ends(&mut self) -> RunView {
        let (_, errors) = self.lives(None);
        assert_eq!(errors, "");
        staged::look(&self.place).unwrap()
    }

    /// What must not depend on who was killed when: rows, counts, and how often what happens once was told.
    fn sum(&self, view: &RunView) -> Sum {
        let run = RunId::parse(RUN).unwrap();
        let (counted, events) = self.place.look(async |store| {
            let listed = store.runs(1).await.unwrap().remove(0);
            let events = store.events(run.as_str(), 1, ALL).await.unwrap();
            ((listed.jobs, listed.jobs_done), events)
        });
        let mut once = BTreeMap::new();
        for event in events.iter().filter(|event| ONCE.contains(&&*event.kind)) {
            let of = event.job.as_ref().map(ToString::to_string);
            let of = of.or_else(|| event.data["stage"].as_str().map(str::to_owned));
            *once.entry((event.kind.clone(), of.unwrap_or_default())).or_default() += 1;
        }
        assert!(view.calls.iter().all(|call| call.recorded_at.is_some()));
        Sum {
            rows: view.jobs.len(),
            calls: view.calls.len(),
            picture: picture(view),
            counted,
            once,
        }
    }
}

/// Of a run that nobody disturbs, on whichever store.
static UNDISTURBED: LazyLock<Sum> = LazyLock::new(|| {
    let mut trial = Trial::new(Place::sqlite());
    let view = trial.ends();
    let sum = trial.sum(&view);
    assert_eq!((&*sum.picture.0, sum.rows), ("partially_succeeded", sum.picture.2.len()));
    sum
});

#[derive(Debug, PartialEq)]
struct Sum {
    rows: usize,
    calls: usize,
    picture: (String, Vec<Value>, BTreeMap<String, Value>),
    counted: (u64, u64),
    once: BTreeMap<(String, String), u32>,
}

/// Dies at each point once, in a run of its own, and lets the next life end the run: as one that nobody disturbed. `look`
/// sees what was told until then, what was left, and what became of it.
fn each(
    place: Place,
    points: &[(&str, u64)],
    mut look: impl FnMut(&str, &[String], &RunView, &RunView),
) {
    let mut place = place;
    for (point, times) in points {
        let mut trial = Trial::new(place);
        let (lines, left) = trial.dies(point, *times);
        let end = trial.ends();
        assert_eq!(trial.sum(&end), *UNDISTURBED, "{point}");
        // What has ended stays as it is, and what is there is the same row.
        for job in &left.jobs {
            let same = find(&end, job.key.as_str());
            let is_kept = !job.state.is_terminal() || *same == *job;
            assert!(same.id == job.id && is_kept, "{point}: {job:?} became {same:?}");
        }
        look(point, &lines, &left, &end);
        place = trial.place.another();
    }
}

fn find<'a>(view: &'a RunView, key: &str) -> &'a JobRecord {
    let found: Vec<_> = view.jobs.iter().filter(|job| job.key.as_str() == key).collect();
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    found[0]
}

fn children<'a>(view: &'a RunView, group: &str) -> Vec<&'a JobRecord> {
    let is_one = |job: &&JobRecord| job.parent.as_ref().is_some_and(|key| key.as_str() == group);
    view.jobs.iter().filter(is_one).collect()
}

/// What the last line of that kind is about.
fn last<'a>(lines: &'a [String], word: &str) -> &'a str {
    let mut of = lines.iter().rev().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    of.next().unwrap().split(' ').next().unwrap()
}

fn states(view: &RunView) -> Vec<StageState> {
    view.stages.iter().map(|stage| stage.state).collect()
}

/// Proves K17, INV-2, I1.
/// Of a job and of a group; the next stage goes on to wait for more.
fn what_follows_from_a_job_is_there_with_its_end_and_once(place: Place) {
    let points = [("commit.feed:after", 1), ("commit.feed:after", 6)];
    each(place, &points, |point, lines, left, end| {
        let mut ended = last(lines, "committed").split('/');
        let (stage, own) = (ended.next().unwrap(), ended.next().unwrap());
        let next = if stage == "make" { 1 } else { 2 };
        let followed = find(left, &format!("{stage}/{own}"));
        let follows = find(left, &format!("{}/{own}", left.stages[next].stage));
        assert!(followed.state.is_terminal(), "{point}: {followed:?}");
        assert_eq!(find(end, follows.key.as_str()).id, follows.id, "{point}");
        assert_eq!(left.stages[next].state, Open, "{point}");
        assert_ne!(left.stages[next - 1].state, Closed, "{point}");
    });
}

/// Nobody claims a group: it is expanded by the decision that makes its children.
/// Proves K18, INV-8.
fn a_group_whose_children_were_not_committed_has_none(place: Place) {
    let points = [("commit.expand:before", 1), ("commit.expand:before", 3)];
    each(place, &points, |point, lines, left, end| {
        let group = find(left, last(lines, "expands"));
        let key = group.key.as_str();
        assert_eq!((group.state, children(left, key).len()), (JobState::Ready, 0), "{point}");
        assert_eq!(children(end, key).len(), children_of(group), "{point}");
    });
}

/// Proves K19, INV-8.
fn children_that_were_committed_are_not_made_again(place: Place) {
    let points = [("commit.expand:after", 1), ("commit.expand:after", 3)];
    each(place, &points, |point, lines, left, end| {
        let group = find(left, last(lines, "expands"));
        let key = group.key.as_str();
        let ids = |view| children(view, key).into_iter().map(|job| job.id).collect::<Vec<_>>();
        assert_eq!((group.state, ids(left).len()), (JobState::Joining, children_of(group)));
        assert_eq!(ids(left), ids(end), "{point}");
    });
}

/// Proves K20, INV-9.
fn a_group_ends_with_its_last_child_or_not(place: Place) {
    let points = [("commit.join:before", 1), ("commit.join:after", 3)];
    each(place, &points, |point, lines, left, _| {
        // That a group whose children have all ended has ended, and no other, is true of whatever is left.
        if point.ends_with("after") {
            let child = find(left, last(lines, "committed"));
            let group = find(left, child.parent.as_ref().unwrap().as_str());
            assert!(child.state.is_terminal() && group.state.is_terminal(), "{point}: {group:?}");
            assert!(group.result.is_some(), "{point}: {group:?}");
        }
    });
}

/// Proves K21, INV-7.
fn a_stage_closes_and_the_next_one_opens_or_neither(place: Place) {
    let first = [Closed, Sealed, Open, Waiting];
    let cases = [
        ("commit.open:before", 1, [Sealed, Open, Open, Waiting]),
        ("commit.open:after", 1, first),
        ("commit.open:before", 2, first),
        ("commit.open:after", 2, [Closed, Closed, Sealed, Sealed]),
    ];
    let points = cases.map(|(point, times, _)| (point, times));
    let mut cases = cases.into_iter();
    each(place, &points, |point, _, left, _| {
        let (_, times, expected) = cases.next().unwrap();
        assert_eq!(states(left), expected, "{point} {times}");
        let sum = left.jobs.iter().filter(|job| job.key.as_str() == "sum/sum").count();
        assert_eq!(sum, usize::from(expected[3] == Sealed), "{point} {times}");
    });
}
