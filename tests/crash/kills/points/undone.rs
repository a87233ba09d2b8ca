//! Deaths while what a run has done is undone: the next life goes on behind what was recorded, and records nothing twice.

use std::collections::BTreeMap;

use perennial::{
    RunId, RunState,
    records::{EventRecord, JobState, RunView},
};
use perennial_store::verify;
use perennial_testkit::Deadline;

use crate::kills::{
    END_WITHIN, RUN, ledger::Victim, on_every_store, place::Place, staged, undoing::DONE,
    victim::Orders,
};

/// Events of one run, at most.
const ALL: u32 = 10_000;

on_every_store!(what_was_undone_stays_so_and_the_next_is_undone_then);

/// A life to its end, which is at `dies_at` if there is such a place: what it told, and what it left.
fn live(place: &Place, dies_at: Option<(&str, u64)>) -> (Vec<String>, RunView, Vec<EventRecord>) {
    let mut victim = Victim::start(&Orders {
        staged: false,
        undoing: true,
        dies_at: dies_at.map(|(point, times)| (point.to_owned(), times)),
        ..staged::orders(place)
    });
    let (deadline, mut lines) = (Deadline::after(END_WITHIN), Vec::new());
    while let Some(line) = victim.next() {
        lines.push(line);
        assert!(!deadline.left().is_zero(), "not over within {END_WITHIN:?}");
    }
    lines.extend(victim.ended());
    let last = dies_at.map_or("down".to_owned(), |(point, _)| format!("dies {point}"));
    assert!(lines.contains(&last), "{last} was not told: {lines:?} {}", victim.errors());
    place.look(async |store| {
        let violations = verify(store).await.unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
        let view = store.run(&RunId::parse(RUN).unwrap()).await.unwrap();
        let events = store.events(RUN, 1, ALL).await.unwrap();
        (lines, view, events)
    })
}

/// The keys of the jobs that undo others, the last that was done first.
fn keys() -> Vec<String> {
    DONE.iter().rev().map(|key| format!("compensation/done/{key}")).collect()
}

/// Proves K41.
fn what_was_undone_stays_so_and_the_next_is_undone_then(place: Place) {
    // Where it dies, and how many are undone by then: before or with the decision that undoes, at each of the jobs.
    let points = [
        ("commit.compensate:before", 1, 0),
        ("commit.compensate:after", 1, 0),
        ("commit.undo:before", 1, 0),
        ("commit.undo:after", 1, 0),
        ("commit.undone:before", 1, 0),
        ("commit.undone:after", 1, 1),
        ("commit.retry:after", 1, 1),
        ("undo:after", 3, 1),
        ("commit.undone:before", 3, 2),
        ("commit.undone:after", 3, 3),
        ("commit.close:before", 1, 3),
        ("commit.close:after", 1, 4),
    ];
    let mut place = place;
    for (point, times, undone) in points {
        let (before, left, _) = live(&place, Some((point, times)));
        let ended = |job: &&perennial::records::JobRecord| {
            job.stage == "compensation" && job.state == JobState::Succeeded
        };
        assert_eq!(left.jobs.iter().filter(ended).count(), undone, "{point}");
        let is_begun = point != "commit.compensate:before";
        let state = match undone {
            _ if !is_begun => RunState::Running,
            4 => RunState::Failed,
            _ => RunState::Compensating,
        };
        assert_eq!(left.run.state, state, "{point}");
        let (after, view, events) = live(&place, None);
        assert_eq!(view.run.state, RunState::Failed, "{point}");
        // One job for each, in the reverse order; what was recorded is as it was.
        let of: Vec<_> = view.jobs.iter().filter(|job| job.stage == "compensation").collect();
        let found: Vec<String> = of.iter().map(|job| job.key.to_string()).collect();
        assert_eq!(found, keys(), "{point}");
        for job in left.jobs.iter().filter(|job| job.state.is_terminal()) {
            assert!(view.jobs.contains(job), "{point}: {job:?} is another one now");
        }
        let mut order = Vec::new();
        for kind in ["compensation_started", "job_succeeded"] {
            let told = events.iter().filter(|event| event.kind == kind);
            let told = told.filter_map(|event| Some((event.seq, event.job.as_ref()?.to_string())));
            order.extend(told.filter(|(_, job)| job.starts_with("compensation/")));
        }
        order.sort();
        let expected: Vec<String> = keys().into_iter().flat_map(|key| [key.clone(), key]).collect();
        let order: Vec<String> = order.into_iter().map(|(_, job)| job).collect();
        assert_eq!(order, expected, "{point}: each begins once, and ends before the next");
        // The outside world sees one key for each; what was recorded is not done again.
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in before.iter().chain(&after) {
            if let ["effect", job, _, _, key] = line.split(' ').collect::<Vec<_>>()[..] {
                seen.entry(job.to_owned()).or_default().push(key.to_owned());
            }
        }
        let told: Vec<&String> = seen.keys().rev().collect();
        assert_eq!(told, keys().iter().collect::<Vec<_>>(), "{point}");
        for (job, keys) in &seen {
            assert!(keys.iter().all(|key| *key == keys[0]), "{point}: {job} has {keys:?}");
        }
        for job in left.jobs.iter().filter(ended) {
            let again = after.iter().any(|line| line.starts_with(&format!("effect {} ", job.key)));
            assert!(!again, "{point}: {} was undone twice", job.key);
        }
        place = place.another();
    }
}
