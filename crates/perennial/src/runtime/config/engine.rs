//! `[engine]`: how the engine works, with a unit in each time.

use std::time::Duration;

use perennial_core::retry::RetryPolicy;
use perennial_engine::{
    EngineSettings, SettingError, SettingErrors, drain::DRAIN_TIMEOUT, scheduler::LeaseTerms,
};
use serde::{Deserialize, Deserializer, de::Error};

/// What is not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineSection {
    poll_interval: Option<Span>,
    claim_batch: Option<u32>,
    decide_rounds: Option<u32>,
    stalled_after: Option<Span>,
    run_timeout: Option<Span>,
    keep_progress_every: Option<Span>,
    rescue_batch: Option<u32>,
    takeovers_max: Option<usize>,
    children_max: Option<usize>,
    group_depth_max: Option<usize>,
    wake_spread: Option<Span>,
    aging: Option<Span>,
    authority_within: Option<Span>,
    stage_concurrency: Option<u32>,
    start_to_close: Option<Span>,
    retry_attempts: Option<u32>,
    retry_crashes: Option<u32>,
    retry_base: Option<Span>,
    retry_cap: Option<Span>,
    plan_jobs_max: Option<usize>,
    run_jobs_max: Option<usize>,
    defer_max_wait: Option<Span>,
    wait_max: Option<Span>,
    compensation: Option<Span>,
    drain_grace: Option<Span>,
    lease_ttl: Option<Span>,
    drain_timeout: Option<Span>,
}

/// A time with its unit: `"500ms"`, `"1m 30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = humantime::parse_duration(&text);
        parsed.map(Self).map_err(|why| {
            D::Error::custom(format!(
                "`{text}` is no time ({why}); for example \"500ms\", \"10s\", \"2h\""
            ))
        })
    }
}

impl EngineSection {
    pub(crate) fn settings(&self) -> EngineSettings {
        let usual = EngineSettings::default();
        let span = |set: Option<Span>, usual| set.map_or(usual, |Span(set)| set);
        let pause = |set: Option<Span>, usual: u64| {
            set.map_or(usual, |Span(set)| u64::try_from(set.as_millis()).unwrap_or(u64::MAX))
        };
        let retry = RetryPolicy {
            max_attempts: self.retry_attempts.unwrap_or(usual.retry.max_attempts),
            crashes_max: self.retry_crashes.unwrap_or(usual.retry.crashes_max),
            base_ms: pause(self.retry_base, usual.retry.base_ms),
            cap_ms: pause(self.retry_cap, usual.retry.cap_ms),
            ..usual.retry
        };
        EngineSettings {
            poll_interval: span(self.poll_interval, usual.poll_interval),
            claim_batch: self.claim_batch.unwrap_or(usual.claim_batch),
            decide_rounds: self.decide_rounds.unwrap_or(usual.decide_rounds),
            stalled_after: span(self.stalled_after, usual.stalled_after),
            run_timeout: span(self.run_timeout, usual.run_timeout),
            keep_progress_every: span(self.keep_progress_every, usual.keep_progress_every),
            rescue_batch: self.rescue_batch.unwrap_or(usual.rescue_batch),
            takeovers_max: self.takeovers_max.unwrap_or(usual.takeovers_max),
            children_max: self.children_max.unwrap_or(usual.children_max),
            group_depth_max: self.group_depth_max.unwrap_or(usual.group_depth_max),
            wake_spread: span(self.wake_spread, usual.wake_spread),
            aging: span(self.aging, usual.aging),
            authority_within: span(self.authority_within, usual.authority_within),
            stage_concurrency: self.stage_concurrency.unwrap_or(usual.stage_concurrency),
            start_to_close: span(self.start_to_close, usual.start_to_close),
            retry,
            plan_jobs_max: self.plan_jobs_max.unwrap_or(usual.plan_jobs_max),
            run_jobs_max: self.run_jobs_max.unwrap_or(usual.run_jobs_max),
            defer_max_wait: span(self.defer_max_wait, usual.defer_max_wait),
            wait_max: span(self.wait_max, usual.wait_max),
            compensation: span(self.compensation, usual.compensation),
            drain_grace: span(self.drain_grace, usual.drain_grace),
        }
    }

    /// The lease of the node, with everything else in proportion.
    pub(crate) fn lease(&self) -> LeaseTerms {
        self.lease_ttl.map_or_else(LeaseTerms::default, |Span(ttl)| LeaseTerms::of(ttl))
    }

    pub(crate) fn drain_within(&self) -> Duration {
        self.drain_timeout.map_or(DRAIN_TIMEOUT, |Span(set)| set)
    }

    /// # Errors
    ///
    /// All that cannot be meant.
    pub(crate) fn check(&self) -> Result<(), SettingErrors> {
        let mut wrong = self.settings().check().err().map(|errors| errors.0).unwrap_or_default();
        let (ttl, drain) = (self.lease().ttl, self.drain_within());
        let seconds = Duration::from_secs;
        wrong.extend(SettingError::of_time("lease_ttl", ttl, seconds(1), seconds(600)));
        // Below that nothing is left for attempts. A grace that cannot be meant is told by itself.
        let has_grace = wrong.iter().all(|it| it.setting != "drain_grace");
        let grace = if has_grace { self.settings() } else { EngineSettings::default() }.drain_grace;
        let least = grace.saturating_add(seconds(1));
        let day = seconds(24 * 60 * 60);
        wrong.extend(SettingError::of_time("drain_timeout", drain, least, day));
        if wrong.is_empty() { Ok(()) } else { Err(SettingErrors(wrong)) }
    }
}
