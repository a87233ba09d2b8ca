//! What a run waits for by itself, told to whoever asks.

use perennial_core::{Timestamp, run::RunState};
use perennial_store::{Deferral, WaitKind};

use super::{Machine, Waited};
use crate::{WaitsFor, WaitsWhy};

impl Machine {
    /// Whether all that is left to do waits for something outside of the run: it needs no place meanwhile.
    pub(in crate::run) fn is_idle(&self) -> bool {
        let tally = self.jobs.tally();
        self.state.claims() && self.has_waiting() && tally.waiting() == tally.open().len()
    }

    /// Whether a job of it waits for something outside of the run.
    pub(in crate::run) fn has_waiting(&self) -> bool {
        self.jobs.tally().waiting() > 0
    }

    /// What it waits for: to be let go on, the time of another attempt, or what a job of it asked for.
    pub(in crate::run) fn rests(&self, now: Timestamp) -> Option<WaitsFor> {
        if self.state == RunState::Paused {
            let what = "somebody to let it go on: it is paused";
            return Some(WaitsFor::new(WaitsWhy::Pause, what, now));
        }
        let is_under_way = !self.jobs.tally().leased().is_empty();
        if !self.state.claims() || self.has_due(now) || is_under_way {
            return None;
        }
        self.retries(now).or_else(|| self.is_deferred()).or_else(|| self.is_suspended())
    }

    fn retries(&self, now: Timestamp) -> Option<WaitsFor> {
        let (due, place) = *self.jobs.tally().retries().first()?;
        let job = self.jobs.get(place)?;
        let what = format!("another attempt of step {}, at {}", job.key, due.to_rfc3339());
        let failed = job.failed.clone();
        let since = failed.as_ref().map_or(now, |(at, _)| *at);
        let mut waits = WaitsFor::new(WaitsWhy::Retry, what, since);
        waits.not_before = Some(due);
        waits.last_failure = failed.map(|(_, failure)| failure);
        Some(waits)
    }

    /// The job that is tried again first.
    fn is_deferred(&self) -> Option<WaitsFor> {
        let kinds = self.jobs.tally().deferred().values();
        let (_, place) = kinds.filter_map(|of| of.wakes.first()).min()?;
        let job = self.jobs.get(*place)?;
        let Deferral { cause, wake_at, until, then } = job.deferral.as_ref()?;
        if job.asks_turn() {
            let since = job.deferred_since.unwrap_or(self.created_at);
            return Some(WaitsFor::new(
                WaitsWhy::Turn,
                format!("{cause}, for step {}", job.key),
                since,
            ));
        }
        let what = format!("`{cause}`, for step {}", job.key);
        let since = job.deferred_since.unwrap_or(*wake_at);
        let mut waits = WaitsFor::new(WaitsWhy::Unavailable, what, since);
        waits.not_before = Some(*wake_at);
        waits.until = Some(*until);
        waits.then = Some(then.name().to_owned());
        Some(waits)
    }

    /// The job whose wait ends first.
    fn is_suspended(&self) -> Option<WaitsFor> {
        let (_, place) = self.jobs.tally().suspended().first()?;
        let job = self.jobs.get(*place)?;
        let Waited { wait, since, .. } = job.wait.as_ref()?;
        let (why, what) = match wait.kind {
            WaitKind::Signal => (WaitsWhy::Signal, "the signal"),
            WaitKind::Answer => (WaitsWhy::Answer, "the answer to"),
            WaitKind::Timer => (WaitsWhy::Timer, "the timer"),
        };
        let what = format!("{what} `{}`, for step {}", wait.name, job.key);
        let mut waits = WaitsFor::new(why, what, *since);
        waits.until = Some(wait.until);
        waits.late_from = Some(since.after(wait.until.since(*since).mul_f64(0.9)));
        match wait.kind {
            WaitKind::Signal | WaitKind::Answer => {
                waits.name = Some(wait.name.clone());
                waits.then = Some(wait.or.name().to_owned());
            }
            WaitKind::Timer => waits.not_before = Some(wait.until),
        }
        Some(waits)
    }
}
