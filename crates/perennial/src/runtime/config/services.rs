//! `[service]` and `[breaker]`: what holds for every service that does not say otherwise, with a unit in each time.

use perennial_engine::external::{OnUnavailable, ServiceDefaults, Then};
use serde::Deserialize;

use super::engine::Span;

/// What is not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServiceSection {
    ready_within: Option<Span>,
    settle_delay: Option<Span>,
    start_probe_every: Option<Span>,
    probe_every: Option<Span>,
    probe_timeout: Option<Span>,
    down_after: Option<u32>,
    up_after: Option<u32>,
    health_ttl: Option<Span>,
    idle_stop: Option<Span>,
    stop_within: Option<Span>,
    start_backoff: Option<Span>,
    backoff_max: Option<Span>,
    restarts_max: Option<u32>,
    restarts_within: Option<Span>,
    holds_max: Option<usize>,
    instances_max: Option<usize>,
    max_wait: Option<Span>,
    on_unavailable: Option<Afterwards>,
}

/// What becomes of a job that has waited in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Afterwards {
    SkipChild,
    Fail,
}

/// What is not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CallsSection {
    failures_max: Option<u32>,
    open_for: Option<Span>,
    open_max: Option<Span>,
    jitter_percent: Option<u8>,
    probes: Option<u32>,
    successes: Option<u32>,
}

impl ServiceSection {
    pub(super) fn defaults(&self, breaker: &CallsSection) -> ServiceDefaults {
        let ServiceDefaults { mut terms, instances_max, on_unavailable: _, breaker: mut calls } =
            ServiceDefaults::default();
        let set = |place: &mut _, value: Option<Span>| {
            if let Some(Span(value)) = value {
                *place = value;
            }
        };
        set(&mut terms.ready_within, self.ready_within);
        set(&mut terms.settle_delay, self.settle_delay);
        set(&mut terms.start_probe_every, self.start_probe_every);
        set(&mut terms.probe_every, self.probe_every);
        set(&mut terms.probe_timeout, self.probe_timeout);
        set(&mut terms.health_ttl, self.health_ttl);
        set(&mut terms.idle_stop, self.idle_stop);
        set(&mut terms.stop_within, self.stop_within);
        set(&mut terms.start_backoff, self.start_backoff);
        set(&mut terms.backoff_max, self.backoff_max);
        set(&mut terms.restarts_within, self.restarts_within);
        terms.down_after = self.down_after.unwrap_or(terms.down_after);
        terms.up_after = self.up_after.unwrap_or(terms.up_after);
        terms.restarts_max = self.restarts_max.unwrap_or(terms.restarts_max);
        terms.holds_max = self.holds_max.unwrap_or(terms.holds_max);
        set(&mut calls.open_for, breaker.open_for);
        set(&mut calls.open_max, breaker.open_max);
        calls.failures_max = breaker.failures_max.unwrap_or(calls.failures_max);
        calls.jitter_percent = breaker.jitter_percent.unwrap_or(calls.jitter_percent);
        calls.probes = breaker.probes.unwrap_or(calls.probes);
        calls.successes = breaker.successes.unwrap_or(calls.successes);
        let waits = self
            .max_wait
            .map_or_else(OnUnavailable::default, |Span(most)| OnUnavailable::defer(most));
        let on_unavailable = match self.on_unavailable {
            None => waits,
            Some(Afterwards::SkipChild) => waits.then(Then::SkipChild),
            Some(Afterwards::Fail) => waits.then(Then::Fail),
        };
        let instances_max = self.instances_max.unwrap_or(instances_max);
        ServiceDefaults { terms, instances_max, on_unavailable, breaker: calls }
    }
}
