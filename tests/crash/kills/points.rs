//! The crash matrix: a victim dies at each step that there is, and the next life ends the run as if nothing had been.

mod held;
mod rest;
mod staged;
mod undone;

use perennial::{
    RunState,
    records::{AttemptEnd, JobState, RunView},
};

use super::{
    Trial,
    flow::{Shape, key},
    ledger::Victim,
    on_every_store,
    oracle::undisturbed,
    place::Place,
    victim::Orders,
};

/// Three waves, one of four jobs with a retry.
const SHAPE: Shape = Shape { jobs: 10, calls: 2, width: 4, call_ms: 1, retry_ms: 20 };
/// The attempts of its first wave are under way until they are cut.
const SLOW: Shape = Shape { jobs: 10, calls: 2, width: 4, call_ms: 500, retry_ms: 20 };
/// Another attempt is not soon.
const PATIENT: Shape = Shape { jobs: 5, calls: 2, width: 4, call_ms: 1, retry_ms: 400 };

on_every_store!(
    before_a_run_is_created_there_is_nothing,
    a_run_that_was_created_is_there_once,
    a_claim_that_nobody_heard_of_is_made_again,
    an_attempt_that_dies_before_its_code_is_made_again,
    an_attempt_that_dies_before_any_effect_is_made_again,
    a_recorded_call_is_not_made_again,
    a_reply_that_was_not_recorded_is_asked_for_again_with_the_same_key,
    an_effect_without_a_reply_is_repeated_with_the_same_key,
    an_end_that_was_recorded_is_final,
    another_attempt_comes_at_its_time,
    nothing_begins_after_a_cancel,
    a_pause_and_its_end_stay,
    a_drain_may_be_cut_short,
    what_a_drain_released_is_ready,
    a_kill_and_a_shutdown_lead_to_the_same_end,
    the_end_of_a_run_is_whole,
);

/// A life that dies at the n-th passage of `point`, and what it has left.
fn dies(trial: &mut Trial, point: &str, times: u64, act: Option<(&str, u64)>) -> Option<RunView> {
    let act = act.map(|(what, effects)| (what.to_owned(), effects));
    dies_by(trial, point, times, Orders { act, ..trial.orders() })
}

fn dies_by(trial: &mut Trial, point: &str, times: u64, orders: Orders) -> Option<RunView> {
    let dies_at = Some((point.to_owned(), times));
    let orders = Orders { dies_at, samples: true, ..orders };
    let mut victim = Victim::start(&orders);
    let mut lines = Vec::new();
    while let Some(line) = victim.next() {
        lines.push(line);
    }
    victim.ended();
    let died = format!("dies {point}");
    assert!(lines.contains(&died), "{point} was not passed {times} times: {lines:?}");
    trial.buried(lines)
}

/// Dies at each point once, in a run of its own, and lets the next life end the run. `look` sees what was left
/// and what became of it.
fn each(
    place: Place,
    shape: Shape,
    points: &[(&str, u64)],
    mut look: impl FnMut(&str, &Trial, Option<&RunView>, &RunView),
) {
    let mut place = Some(place);
    for (point, times) in points {
        let mut trial = Trial::new(place.take().unwrap(), shape);
        let left = dies(&mut trial, point, *times, None);
        let end = trial.finish();
        undisturbed(shape, &trial.told, &end).unwrap_or_else(|why| panic!("{point}: {why}"));
        look(point, &trial, left.as_ref(), &end);
        place = Some(trial.place.another());
    }
}

/// Attempts that died with their process, and whether each was followed by one more.
fn expired(view: &RunView) -> usize {
    let died = view.attempts.iter().filter(|attempt| attempt.end == Some(AttemptEnd::Expired));
    died.inspect(|died| {
        let next =
            view.attempts.iter().any(|it| it.job == died.job && it.attempt == died.attempt + 1);
        assert!(next, "{died:?} was the last one");
    })
    .count()
}

fn effects(trial: &Trial) -> usize {
    trial.told.effects.values().map(Vec::len).sum()
}

/// Proves K1.
fn before_a_run_is_created_there_is_nothing(place: Place) {
    each(place, SHAPE, &[("create_run:before", 1)], |_, _, left, end| {
        assert!(left.is_none() && expired(end) == 0);
    });
}

/// Proves K3, K4.
fn a_run_that_was_created_is_there_once(place: Place) {
    each(place, SHAPE, &[("create_run:after", 1)], |_, _, left, end| {
        let left = left.unwrap();
        assert_eq!((left.run.state, left.stages.len()), (RunState::Running, 1));
        assert_eq!(left.run.deadline, end.run.deadline);
        assert_eq!((left.run.created_at, end.stages.len()), (end.run.created_at, 1));
    });
}

/// Proves K5, RF2, D1.
fn a_claim_that_nobody_heard_of_is_made_again(place: Place) {
    // By the decision that made the jobs, and by itself.
    let points = [("commit.claim:after", 1), ("commit.claim:after", 2), ("claim:after", 1)];
    each(place, SHAPE, &points, |point, _, left, end| {
        let leased = left.unwrap().jobs.iter().filter(|job| job.state == JobState::Leased).count();
        assert!(leased > 0 && expired(end) == leased, "{point}: {leased}");
    });
}

/// Proves K6, RF2, D2.
fn an_attempt_that_dies_before_its_code_is_made_again(place: Place) {
    each(place, SHAPE, &[("user:before", 1), ("user:before", 7)], |point, _, left, end| {
        let leased = left.unwrap().jobs.iter().filter(|job| job.state == JobState::Leased).count();
        assert!(leased > 0 && expired(end) == leased, "{point}: {leased}");
    });
}

/// Proves K7.
// The death of its process uses no attempt of the budget.
fn an_attempt_that_dies_before_any_effect_is_made_again(place: Place) {
    each(place, SHAPE, &[("user:after", 1), ("user:after", 7)], |point, trial, _, end| {
        assert!(expired(end) > 0, "{point}");
        for (job, row) in end.jobs.iter().enumerate() {
            let failures = if Shape::is_flaky(job) { 1..=2 } else { 0..=0 };
            assert!(failures.contains(&(row.attempts_used - 1)), "{point}: {row:?}");
        }
        let begun = trial.told.begun.keys().filter(|(job, _)| job == key(0).as_str()).count();
        assert!(begun >= 1, "{point}");
    });
}

/// Proves K8.
fn a_recorded_call_is_not_made_again(place: Place) {
    each(
        place,
        SHAPE,
        &[("record_call:after", 1), ("record_call:after", 6)],
        |point, trial, left, end| {
            let left = left.unwrap();
            let recorded: Vec<_> =
                left.calls.iter().filter(|call| call.recorded_at.is_some()).collect();
            assert!(!recorded.is_empty(), "{point}");
            for call in recorded {
                assert!(end.calls.contains(call), "{point}: {call:?} is another one");
                let job = end.jobs.iter().find(|job| job.id == call.job).unwrap();
                let ordinal = call.name.split('/').next().unwrap().parse().unwrap();
                let made = &trial.told.effects[&(job.key.as_str().to_owned(), ordinal)];
                assert_eq!(made.last(), Some(&call.attempt), "{point}: {call:?} was paid again");
            }
        },
    );
}

/// Proves K9.
fn a_reply_that_was_not_recorded_is_asked_for_again_with_the_same_key(place: Place) {
    each(place, SHAPE, &[("record_call:before", 1), ("record_call:before", 5)], paid_again);
}

/// Proves K12, RF2.
fn an_effect_without_a_reply_is_repeated_with_the_same_key(place: Place) {
    each(place, SHAPE, &[("effect:after", 1), ("effect:after", 6)], paid_again);
}

/// Keys and marks of what is made again are what every trial looks at.
fn paid_again(point: &str, trial: &Trial, _: Option<&RunView>, end: &RunView) {
    let calls = SHAPE.jobs * usize::try_from(SHAPE.calls).unwrap();
    let uncertain = end.attempts.iter().filter(|attempt| attempt.uncertain).count();
    let again = effects(trial) - calls;
    assert!(again > 0 && again <= uncertain, "{point}: {again} of {uncertain}");
}

/// Proves INV-26, K16, I1, D3.
fn an_end_that_was_recorded_is_final(place: Place) {
    // Also the one that others follow.
    let points = [("commit.end:after", 1), ("commit.follow:after", 1), ("commit.follow:after", 2)];
    each(place, SHAPE, &points, |point, _, left, end| {
        let left = left.unwrap();
        let ended: Vec<_> = left.jobs.iter().filter(|job| job.state.is_terminal()).collect();
        assert!(!ended.is_empty(), "{point}");
        for job in ended {
            assert!(end.jobs.contains(job), "{point}: {job:?} was touched");
        }
    });
}

/// Proves K24, D36.
fn another_attempt_comes_at_its_time(place: Place) {
    each(
        place,
        PATIENT,
        &[("commit.retry:after", 1), ("commit.retry:after", 2)],
        |point, _, left, end| {
            let waits = |job: &&perennial::records::JobRecord| job.run_after.is_some();
            let job = left.unwrap().jobs.iter().find(waits).unwrap();
            let (id, next) = (job.id, job.attempt + 1);
            let of_it =
                |it: &&perennial::records::AttemptRecord| (it.job, it.attempt) == (id, next);
            let came = end.attempts.iter().find(of_it).unwrap().claimed_at;
            assert!(came >= job.run_after.unwrap(), "{point}: {came}, not {:?}", job.run_after);
        },
    );
}

/// Proves INV-15.
/// Proves K27.
fn nothing_begins_after_a_cancel(place: Place) {
    let mut place = place;
    for point in ["commit.cancel:before", "commit.cancel:after"] {
        let mut trial = Trial::new(place, SLOW);
        let left = dies(&mut trial, point, 1, Some(("cancel", 3))).unwrap();
        let end = trial.finish();
        if point.ends_with("after") {
            assert_eq!(left.run.state, RunState::Cancelling);
            assert_eq!(end.run.state, RunState::Cancelled);
            assert_eq!(left.attempts.len(), end.attempts.len());
        } else {
            assert_eq!(left.run.state, RunState::Running);
            undisturbed(SLOW, &trial.told, &end).unwrap();
        }
        place = trial.place.another();
    }
}

/// Proves K29.
fn a_pause_and_its_end_stay(place: Place) {
    let mut place = place;
    for (point, state) in [
        ("commit.pause:before", RunState::Running),
        ("commit.pause:after", RunState::Paused),
        ("commit.resume:before", RunState::Paused),
        ("commit.resume:after", RunState::Running),
    ] {
        let mut trial = Trial::new(place, SHAPE);
        let left = dies(&mut trial, point, 1, Some(("pause", 3))).unwrap();
        assert_eq!(left.run.state, state, "{point}");
        let end = trial.finish();
        undisturbed(SHAPE, &trial.told, &end).unwrap_or_else(|why| panic!("{point}: {why}"));
        place = trial.place.another();
    }
}

/// Proves INV-17.
/// Proves K37.
fn a_drain_may_be_cut_short(place: Place) {
    let mut place = place;
    for (point, times, released) in [("drain:after", 1, 0), ("release:after", 2, 2)] {
        let mut trial = Trial::new(place, SLOW);
        let left = dies(&mut trial, point, times, Some(("drain", 3))).unwrap();
        let of_end = |view: &RunView, end| {
            view.attempts.iter().filter(|attempt| attempt.end == Some(end)).count()
        };
        assert_eq!(of_end(&left, AttemptEnd::Released), released, "{point}");
        let end = trial.finish();
        assert!(expired(&end) > 0, "{point}: the rest expired");
        undisturbed(SLOW, &trial.told, &end).unwrap_or_else(|why| panic!("{point}: {why}"));
        place = trial.place.another();
    }
}

/// Proves K38, INV-ST-33, I5.
fn what_a_drain_released_is_ready(place: Place) {
    let mut trial = Trial::new(place, SLOW);
    let left = dies(&mut trial, "end_node:after", 1, Some(("drain", 3))).unwrap();
    for job in &left.jobs {
        let budget = (job.attempts_used, job.crashes, job.run_after);
        assert_eq!((job.state, budget), (JobState::Ready, (0, 0, None)), "{job:?}");
    }
    assert!(!left.jobs.is_empty());
    let end = trial.finish();
    assert_eq!(expired(&end), 0);
    undisturbed(SLOW, &trial.told, &end).unwrap();
}

/// Proves INV-18.
/// The same run, whose host dies or shuts down at the same effect: the next one goes on in the same way, and it ends
/// alike.
fn a_kill_and_a_shutdown_lead_to_the_same_end(place: Place) {
    let mut place = Some(place);
    for effect in [1, 6, 14] {
        let mut ends = Vec::new();
        for is_killed in [true, false] {
            let mut trial = Trial::new(place.take().unwrap(), SHAPE);
            if is_killed {
                dies(&mut trial, "effect:after", effect, None);
            } else {
                let act = Some(("drain".to_owned(), effect));
                trial.live_on(&Orders { act, ..trial.orders() });
                let left = trial.check().unwrap();
                assert_eq!(left.run.state, RunState::Running, "{effect}");
            }
            let end = trial.finish();
            undisturbed(SHAPE, &trial.told, &end).unwrap_or_else(|why| panic!("{effect}: {why}"));
            assert_eq!(expired(&end) > 0, is_killed, "{effect}: a shutdown is no death");
            let mut jobs: Vec<_> = end
                .jobs
                .iter()
                .map(|job| (job.key.clone(), job.state, job.result.clone()))
                .collect();
            jobs.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
            let stages: Vec<_> =
                end.stages.iter().map(|stage| (stage.state, stage.outcome)).collect();
            ends.push((end.run.state, end.run.failure.clone(), stages, jobs));
            place = Some(trial.place.another());
        }
        assert_eq!(ends[0], ends[1], "{effect}");
    }
}

/// A run whose end was committed is as it was left.
fn the_end_of_a_run_is_whole(place: Place) {
    let points = [("commit.close:before", 1), ("commit.close:after", 1)];
    each(place, SHAPE, &points, |point, _, left, end| {
        let left = left.unwrap();
        if point.ends_with("after") {
            let of =
                |view: &RunView| (view.stages.clone(), view.jobs.clone(), view.attempts.clone());
            assert_eq!((left.run.next_seq, of(left)), (end.run.next_seq, of(end)), "{point}");
        } else {
            assert_eq!(left.run.state, RunState::Running);
        }
    });
}
