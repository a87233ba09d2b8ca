//! The pure core: figures folded from a run's events.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use perennial_core::{
    Timestamp,
    llm::{Spending, Spent},
    run::JobKey,
};
use perennial_store::EventRecord;
use serde_json::{Value, json};

use super::known_or_unknown;

/// Figures over the events `1..next_seq`.
#[derive(Debug, Default)]
pub(super) struct Figures {
    seen: u64,
    attempts: u64,
    jobs_done: u64,
    jobs_failed: u64,
    attempts_failed: u64,
    attempts_released: u64,
    uncertain: u64,
    calls: u64,
    calls_recorded: u64,
    /// Of the calls to models whose replies are recorded.
    spending: Spending,
    /// Kept results that were taken.
    cache_hits: u64,
    skipped: u64,
    /// Steps of which an attempt failed, and those of them that were begun again.
    faltered: HashSet<JobKey>,
    retried: HashSet<JobKey>,
    /// When the steps under way were first begun.
    open: HashMap<JobKey, Timestamp>,
    /// When the attempts under way began.
    begun: HashMap<JobKey, Timestamp>,
    busy: Duration,
    slowest: Option<(JobKey, Duration)>,
    first_at: Option<Timestamp>,
    /// When its first attempt began.
    worked_from: Option<Timestamp>,
    last_at: Option<Timestamp>,
    complete: bool,
}

impl Figures {
    pub(super) fn next_seq(&self) -> u64 {
        self.seen + 1
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Counts the next event; one that was counted before, or that skips some, changes nothing.
    pub(super) fn count(&mut self, event: &EventRecord) {
        if event.seq != self.next_seq() {
            return;
        }
        self.seen = event.seq;
        self.first_at.get_or_insert(event.at);
        self.last_at = Some(event.at);
        match event.kind.as_str() {
            "attempt_started" => {
                self.attempts += 1;
                self.worked_from.get_or_insert(event.at);
                if let Some(job) = &event.job {
                    if self.faltered.contains(job) {
                        self.retried.insert(job.clone());
                    }
                    self.open.entry(job.clone()).or_insert(event.at);
                    self.begun.insert(job.clone(), event.at);
                }
            }
            "call_started" => self.calls += 1,
            "checkpoint_written" => {
                self.calls_recorded += 1;
                if let Some(spent) = event.data.get("spent").and_then(Spent::of_reply) {
                    self.spending.add(Some(&spent));
                }
            }
            "cache_hit" => self.cache_hits += 1,
            "attempt_failed" | "attempt_timed_out" => {
                self.attempts_failed += 1;
                self.faltered.extend(event.job.clone());
                self.end(event);
            }
            "attempt_released" | "attempt_expired" => {
                self.attempts_released += 1;
                self.end(event);
            }
            "attempt_uncertain" => self.uncertain += 1,
            "job_succeeded" | "job_partial" | "job_skipped" | "job_cancelled" => {
                self.jobs_done += 1;
                self.skipped += u64::from(event.kind == "job_skipped");
                self.close(event);
                self.end(event);
            }
            "job_failed" => {
                self.jobs_failed += 1;
                self.close(event);
                self.end(event);
            }
            "run_closed" => self.complete = true,
            "run_reopened" => self.complete = false,
            _ => (),
        }
    }

    fn close(&mut self, event: &EventRecord) {
        if let Some(job) = &event.job {
            self.open.remove(job);
        }
    }

    /// Since its first attempt began, until now or its end: what it waited for a place before is no time of its own.
    pub(super) fn worked(&self, now: Timestamp) -> Option<Duration> {
        let until = if self.complete { self.last_at? } else { now };
        Some(until.since(self.worked_from?))
    }

    /// Steps under way, and since how long they are: pauses between attempts included.
    pub(super) fn under_way(&self, now: Timestamp) -> Vec<(JobKey, Duration)> {
        let mut all: Vec<_> =
            self.open.iter().map(|(job, begun)| (job.clone(), now.since(*begun))).collect();
        all.sort();
        all
    }

    fn end(&mut self, event: &EventRecord) {
        let Some(job) = &event.job else { return };
        let Some(begun) = self.begun.remove(job) else { return };
        let took = event.at.since(begun);
        self.busy += took;
        if self.slowest.as_ref().is_none_or(|(_, longest)| *longest < took) {
            self.slowest = Some((job.clone(), took));
        }
    }

    /// What the tree dump shows.
    pub(super) fn shown(&self) -> Value {
        let millis = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let elapsed = self.first_at.zip(self.last_at).map(|(first, last)| last.since(first));
        json!({
            "events": self.seen,
            "jobs_done": self.jobs_done,
            "jobs_failed": self.jobs_failed,
            "jobs_skipped": self.skipped,
            "retried_steps": self.retried.len(),
            "attempts": self.attempts,
            "attempts_failed": self.attempts_failed,
            "attempts_released": self.attempts_released,
            "attempts_uncertain": self.uncertain,
            "calls": self.calls,
            "calls_recorded": self.calls_recorded,
            "llm_calls": self.spending.recorded,
            "total_tokens": known_or_unknown(self.spending.total_tokens().0),
            "total_cost": known_or_unknown(self.spending.cost_usd()),
            "prompt_cache_hits": known_or_unknown(self.spending.cache_hits.0),
            "cache_hits": self.cache_hits,
            "busy_ms": millis(self.busy),
            "elapsed_ms": elapsed.map(millis),
            "slowest_job": self.slowest.as_ref().map(|(job, _)| job),
            "slowest_ms": self.slowest.as_ref().map(|(_, took)| millis(*took)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, millis: i64, kind: &str) -> EventRecord {
        EventRecord {
            seq,
            at: Timestamp::from_micros(millis * 1_000),
            kind: kind.to_owned(),
            job: Some(JobKey::new("a")),
            attempt: Some(1),
            data: Value::Null,
        }
    }

    #[test]
    fn what_calls_cost_is_counted_from_events_and_one_without_a_price_makes_the_sum_unknown() {
        let mut figures = Figures::default();
        let shown = figures.shown();
        assert_eq!((&shown["total_cost"], &shown["llm_calls"]), (&json!(0.0), &json!(0)));
        let mut spent = |seq: u64, spent: Value| {
            let data = json!({"name": "1/x", "spent": spent});
            figures.count(&EventRecord { data, ..event(seq, 0, "checkpoint_written") });
            figures.shown()
        };
        let usage = json!({"input": 3, "cache_read": 1, "cache_write": 0, "output": 4,
            "reasoning": null});
        let call = |cost: Value| {
            json!({"provider": "p", "model": "m", "usage": usage,
            "cost_nano_usd": cost})
        };
        let shown = spent(1, call(json!(2_000_000)));
        assert_eq!((&shown["total_cost"], &shown["total_tokens"]), (&json!(0.002), &json!(7)));
        assert_eq!((&shown["prompt_cache_hits"], &shown["llm_calls"]), (&json!(1), &json!(1)));
        // Something else was called.
        let shown = spent(2, Value::Null);
        assert_eq!((&shown["cache_hits"], &shown["llm_calls"]), (&json!(0), &json!(1)));
        let shown = spent(3, call(Value::Null));
        assert_eq!((&shown["total_cost"], &shown["total_tokens"]), (&json!("unknown"), &json!(14)));
        // A kept result was taken instead of a call.
        figures.count(&event(4, 0, "cache_hit"));
        let shown = figures.shown();
        assert_eq!((&shown["cache_hits"], &shown["llm_calls"]), (&json!(1), &json!(2)));
    }

    #[test]
    fn a_step_is_retried_when_it_begins_again_after_a_failure_and_counts_once() {
        let mut figures = Figures::default();
        let kinds = ["attempt_started", "attempt_released", "attempt_started", "attempt_failed"];
        (1..).zip(kinds).for_each(|(seq, kind)| figures.count(&event(seq, 0, kind)));
        assert_eq!(figures.shown()["retried_steps"], 0);
        let kinds = ["attempt_started", "attempt_timed_out", "attempt_started", "job_skipped"];
        (5..).zip(kinds).for_each(|(seq, kind)| figures.count(&event(seq, 0, kind)));
        let shown = figures.shown();
        assert_eq!((&shown["retried_steps"], &shown["jobs_skipped"]), (&json!(1), &json!(1)));
    }

    /// A run that waits for a place does not work.
    #[test]
    fn a_run_works_from_its_first_attempt_on() {
        let mut figures = Figures::default();
        let at = |millis: i64| Timestamp::from_micros(millis * 1_000);
        figures.count(&event(1, 0, "run_created"));
        assert_eq!(figures.worked(at(90_000)), None);
        figures.count(&event(2, 90_000, "attempt_started"));
        figures.count(&event(3, 95_000, "attempt_failed"));
        figures.count(&event(4, 97_000, "attempt_started"));
        assert_eq!(figures.worked(at(99_000)), Some(Duration::from_secs(9)));
        figures.count(&event(5, 98_000, "run_closed"));
        assert_eq!(figures.worked(at(99_000)), Some(Duration::from_secs(8)));
        assert_eq!(figures.shown()["elapsed_ms"], 98_000, "since it was created");
    }

    #[test]
    fn each_event_counts_once_and_gaps_are_not_jumped() {
        let mut figures = Figures::default();
        for seen in [
            event(1, 0, "attempt_started"),
            event(1, 0, "attempt_started"),
            event(3, 9, "job_succeeded"),
            event(2, 5, "attempt_failed"),
        ] {
            figures.count(&seen);
        }
        assert_eq!(figures.next_seq(), 3);
        let shown = figures.shown();
        assert_eq!((&shown["attempts"], &shown["attempts_failed"]), (&json!(1), &json!(1)));
        assert_eq!((&shown["jobs_done"], &shown["busy_ms"]), (&json!(0), &json!(5)));
        assert!(!figures.is_complete());
        figures.count(&event(3, 9, "run_closed"));
        assert!(figures.is_complete());
    }
}
