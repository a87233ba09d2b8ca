//! Whoever asks about a run, by whichever way, is told of the same jobs.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use perennial::{
    Runtime, Store,
    engine::Explanation,
    records::{EventRecord, JobRecord, JobState, RunHandle, RunView},
};
use perennial_testkit::Seed;
use serde_json::Value;

use crate::trial::{Does, Task, Trial, World, builder, start, task};

/// One moment of a run, as it is told by all who tell of it.
struct Moment {
    view: RunView,
    events: Vec<EventRecord>,
    /// Jobs, and how many of them have ended, in the list of all runs.
    listed: (u64, u64),
}

async fn moment(runtime: &Runtime, run: &RunHandle) -> Moment {
    let mut last = "never stands still".to_owned();
    for _ in 0..1_000 {
        let view = run.view().await.unwrap();
        let listed = runtime.runs().list(99).await.unwrap();
        let listed = listed.into_iter().find(|summary| summary.run == *run.id()).unwrap();
        let events = run.events(1).rest().await.unwrap();
        let path = format!("/perennial/runs/{}", run.id());
        let nodes = runtime.supervision_tree().nodes();
        let shown = nodes.into_iter().find(|node| node.path == path).map(|node| node.detail);
        if view == run.view().await.unwrap() {
            // Nothing happened meanwhile. Its actor tells of what is committed a moment later.
            match shown.and_then(|shown| differs(&view, &shown)) {
                None => return Moment { view, events, listed: (listed.jobs, listed.jobs_done) },
                Some(differs) => last = differs,
            }
        }
        tokio::time::sleep(Duration::from_micros(200)).await; // paused clock
    }
    panic!("{} {last}", run.id());
}

/// What the actor shows of its stages, and is not so.
fn differs(view: &RunView, shown: &Value) -> Option<String> {
    let stages = shown["stages"].as_array()?;
    stages.iter().find_map(|stage| {
        let of = |job: &&JobRecord| stage["stage"] == job.stage && job.parent.is_none();
        let states: Vec<JobState> = view.jobs.iter().filter(of).map(|job| job.state).collect();
        let count =
            |is: &dyn Fn(&JobState) -> bool| states.iter().filter(|state| is(state)).count() as u64;
        let is_held = |state: &JobState| matches!(state, JobState::Leased | JobState::Joining);
        let counts = [
            ("under_way", count(&is_held)),
            ("waiting", count(&|state| !is_held(state) && !state.is_terminal())),
            ("succeeded", count(&|state| *state == JobState::Succeeded)),
            ("partial", count(&|state| *state == JobState::Partial)),
            ("failed", count(&|state| *state == JobState::Failed)),
            ("skipped", count(&|state| *state == JobState::Skipped)),
            ("cancelled", count(&|state| *state == JobState::Cancelled)),
        ];
        let mut wrong =
            counts.iter().filter(|(name, count)| stage[name].as_u64().unwrap_or(0) != *count);
        let (name, count) = wrong.next()?;
        Some(format!("has {count} {name}, and its actor shows {stage}"))
    })
}

fn keys(view: &RunView) -> BTreeSet<&str> {
    view.jobs.iter().map(|job| job.key.as_str()).collect()
}

impl Moment {
    /// Rows, list, events, tree and explanations speak of the same jobs, and of the same states.
    fn check(&self, run: &RunHandle) {
        let Self { view, events, listed } = self;
        assert_eq!(keys(view).len(), view.jobs.len(), "each once");
        let own = |job: &&JobRecord| job.parent.is_none();
        let of_own = view.jobs.iter().filter(own);
        let done = of_own.clone().filter(|job| job.state.is_terminal()).count();
        assert_eq!(*listed, (of_own.count() as u64, done as u64));
        let told: BTreeSet<&str> =
            events.iter().filter_map(|event| event.job.as_ref()).map(|job| job.as_str()).collect();
        assert_eq!(told, keys(view));
        for job in &view.jobs {
            let ends =
                ["job_succeeded", "job_partial", "job_failed", "job_skipped", "job_cancelled"];
            let ends_of = |it: &&EventRecord| {
                it.job.as_ref() == Some(&job.key) && ends.contains(&it.kind.as_str())
            };
            let told_ends = events.iter().filter(ends_of).count();
            let explained = run.explanation(view, job);
            let is_ended = matches!(explained, Explanation::Ended { .. });
            let is_leased = matches!(explained, Explanation::Leased { .. });
            assert_eq!(is_ended, job.state.is_terminal(), "{}: {explained:?}", job.key);
            assert_eq!(is_leased, job.state == JobState::Leased, "{}: {explained:?}", job.key);
            assert_eq!(told_ends, usize::from(is_ended), "{} is {}", job.key, job.state);
            let attempts = view.attempts.iter().filter(|attempt| attempt.job == job.id).count();
            assert_eq!(attempts, job.attempt as usize, "{}", job.key);
        }
    }

    /// What had ended stays as it was, even what ended just before the cancel was decided; all else is cancelled, and nothing is added.
    /// An attempt that succeeds while it is being stopped is recorded: its work is done (DUR-61).
    fn check_cancelled(&self, before: &Self) {
        let cancel = self.events.iter().find(|event| event.kind == "run_cancelling").unwrap();
        for job in &self.view.jobs {
            let told = self.events.iter().filter(|event| event.job.as_ref() == Some(&job.key));
            let (mut earlier, later): (Vec<_>, Vec<_>) =
                told.partition(|event| event.seq < cancel.seq);
            let ended = earlier.pop().expect("nothing is added").kind.as_str();
            let was = before.view.jobs.iter().find(|was| was.key == job.key);
            match was.filter(|was| was.state.is_terminal()) {
                Some(was) => assert_eq!(was, job, "it had ended before"),
                None if later.is_empty() => assert!(job.state.is_terminal(), "{ended}"),
                None if ended == "attempt_started" && job.state == JobState::Succeeded => {}
                None => assert_eq!(job.state, JobState::Cancelled, "{}, {ended}", job.key),
            }
        }
    }
}

fn tasks(seed: &mut Seed) -> Vec<Task> {
    let count = 2 + seed.below(5);
    let mut of = |number: u64| {
        let takes = seed.below(400);
        let does = *seed.pick(&[
            Does::Ends(takes),
            Does::Ends(takes),
            Does::Fails,
            Does::Panics,
            Does::Odd,
            Does::Holds,
        ]);
        task(&format!("t{number}"), does)
    };
    (0..count).map(&mut of).collect()
}

/// Proves I3.
/// Runs by chance, of jobs or of groups within groups, are looked at after each of their events, and cancelled somewhere or healed:
/// a cancel ends what had not ended, and nothing else.
#[tokio::test(start_paused = true)]
async fn cancel_details_counts_and_tree_of_a_run_agree_at_every_moment() {
    let mut seed = Seed::of_test("a run agrees at every moment");
    let (mut moments, mut cancelled, mut number) = (0, 0, 0);
    while moments < 1_000 {
        number += 1;
        let world = World::new();
        let runtime = builder(&world).store(Store::memory()).start().await.unwrap();
        let depth = seed.chance(1, 2).then(|| u32::try_from(seed.below(3)).unwrap());
        let places = 1 + u32::try_from(seed.below(3)).unwrap();
        let (tasks, next) = (tasks(&mut seed), Some(Does::Ends(50)));
        let fails_stage = seed.chance(1, 4);
        let trial = Trial {
            tasks,
            depth,
            places,
            next,
            fails_stage,
            attempt_ms: Some(700),
            ..Trial::default()
        };
        world.is_healed.store(number % 3 == 0, Ordering::SeqCst);
        let run = start(&runtime, &world, &format!("r{number}"), &trial).await;
        let (mut events, mut at, stop) = (run.events(1), 0, seed.below(60));
        loop {
            let event = events.next().await.unwrap();
            let now = moment(&runtime, &run).await;
            now.check(&run);
            moments += 1;
            if event.kind == "run_closed" {
                break;
            }
            at += 1;
            if at == stop && run.cancel().await.is_ok_and(|is_cancelled| is_cancelled) {
                cancelled += 1;
                run.outcome().await.unwrap();
                let after = moment(&runtime, &run).await;
                after.check(&run);
                after.check_cancelled(&now);
                break;
            }
        }
        runtime.shutdown().await;
    }
    assert!(cancelled >= 5, "{moments} moments, {cancelled} cancels");
}
