//! Races, proved under a checker of schedules: shuttle decides at each operation of a lock, of an atomic and of
//! a wake-up who goes on, and what runs is the code of this crate itself (see [`sync`](crate::sync)).
//!
//! `RUSTFLAGS="--cfg perennial_shuttle" cargo test -p perennial-supervision --lib races` runs 400 schedules of
//! each race, half of them by chance and half with a few preemptions only; `PERENNIAL_RACES=100000` runs that
//! many. Small races are tried in every schedule there is as well, up to ten times as many. What fails prints its
//! schedule; `PERENNIAL_RACE='…'` runs only that one again, in the same code.
//!
//! Time stands still: no deadline passes.

mod calls;
mod counter;
mod ends;
mod light;
mod mailboxes;
mod restarts;

use std::sync::Arc;

use shuttle::{
    Config, MaxSteps, Runner,
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler},
};

/// Preemptions where there are few.
const FEW: usize = 3;
/// The futures of a supervisor are large in a build for tests.
const STACK: usize = 1 << 20;
/// Far more than any of them takes; whoever takes so many waits for what does not come.
const STEPS: usize = 100_000;

/// Schedules of each race.
fn schedules() -> usize {
    let wanted = std::env::var("PERENNIAL_RACES").ok();
    wanted.map_or(400, |wanted| wanted.parse().expect("PERENNIAL_RACES is a number"))
}

fn run(
    scheduler: impl Scheduler + 'static,
    race: &Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    // Timers ask for one; nothing turns its clock.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    // Kept: where a race fails, there is nobody any more whom its timers could wake.
    let runtime = std::mem::ManuallyDrop::new(runtime);
    let _inside = runtime.enter();
    let mut config = Config::new();
    config.stack_size = STACK;
    config.silence_warnings = true;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    let race = race.clone();
    Runner::new(scheduler, config).run(move || race())
}

/// Runs `race` again and again, each time in another schedule.
pub(crate) fn check(race: impl Fn() + Send + Sync + 'static) {
    let race = Arc::new(race);
    if let Ok(schedule) = std::env::var("PERENNIAL_RACE") {
        run(ReplayScheduler::new_from_encoded(&schedule), &race);
        return;
    }
    let half = schedules().div_ceil(2);
    run(RandomScheduler::new_from_seed(1, half), &race);
    run(PctScheduler::new_from_seed(1, FEW, half), &race);
}

/// As [`check`], and in every schedule there is, up to ten times the number that is wanted. Answers how many.
pub(crate) fn check_all(race: impl Fn() + Send + Sync + 'static) -> usize {
    let race = Arc::new(race);
    if let Ok(schedule) = std::env::var("PERENNIAL_RACE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), &race);
    }
    let half = schedules().div_ceil(2);
    run(RandomScheduler::new_from_seed(1, half), &race);
    run(DfsScheduler::new(Some(schedules() * 10), false), &race)
}
