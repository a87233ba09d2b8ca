//! The numbers by which the engine decides when it looks, how much it takes at a time, and what is too much.

use std::{fmt, time::Duration};

use perennial_core::retry::RetryPolicy;

/// How the engine works. A runtime is given them once; what a run was accepted with (its deadline, say) stays with it.
///
/// ```
/// use std::time::Duration;
/// use perennial::{Runtime, Store, engine::EngineSettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hasty = EngineSettings { poll_interval: Duration::from_millis(100), ..EngineSettings::default() };
/// let runtime = Runtime::builder().store(Store::memory()).engine(hasty).start().await?;
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// How often it looks at what is due even if nobody wakes it; 1 s. Nothing depends on a wake-up alone (DUR-10).
    pub poll_interval: Duration,
    /// Most jobs of one run that one claim takes; 32.
    pub claim_batch: u32,
    /// How often a decision is made again that others were in the way of; 16. The fact is offered again after that.
    pub decide_rounds: u32,
    /// How long the scheduler may get nowhere before the tree says that it is not healthy; 30 s.
    pub stalled_after: Duration,
    /// What a run may take whose start does not say it; 24 h.
    pub run_timeout: Duration,
    /// How often the progress of an attempt is kept at most; 2 s. What is told in between is seen in the tree alone.
    pub keep_progress_every: Duration,
    /// Most jobs of dead nodes that one sweep gives back; 1 000.
    pub rescue_batch: u32,
    /// Most runs of other nodes that are taken over in one look; 16.
    pub takeovers_max: usize,
    /// Most children of a group; 1 000.
    pub children_max: usize,
    /// How deep groups may lie in groups; 8.
    pub group_depth_max: usize,
    /// Over how long jobs are spread that come back together from waiting for a service; 1 s (DUR-42).
    pub wake_spread: Duration,
    /// How long something waits until it comes before what has one more of priority; 30 s. Nothing waits for ever behind what is
    /// more urgent (DUR-12).
    pub aging: Duration,
    /// How long the host's authority may take to say whether somebody may ask something of a run; 1 s (DUR-68). One that
    /// takes longer has said no.
    pub authority_within: Duration,
    /// Jobs of a stage that are under way at a time, in a run, where its plan does not say it; 10.
    pub stage_concurrency: u32,
    /// How long an attempt may take whose plan does not say it; 10 min.
    pub start_to_close: Duration,
    /// How often, and how far apart, a job is tried whose plan does not say it; 3 times, from 500 ms on.
    pub retry: RetryPolicy,
    /// Most jobs that a plan begins with; 100 000.
    pub plan_jobs_max: usize,
    /// Most jobs of a run whose workflow says what comes next; 1 000 000.
    pub run_jobs_max: usize,
    /// How long a job waits for what is unavailable, where its attempt does not say it; 30 min (DUR-41).
    pub defer_max_wait: Duration,
    /// How long a job may ask to wait for a signal, an answer or an instant; 30 days (DUR-44).
    pub wait_max: Duration,
    /// How long all that undoes what a run has done may take together, from when the first of it could begin; 1 h (SM-14).
    pub compensation: Duration,
    /// What of the time of a drain is left for giving back what did not end; 2 s.
    pub drain_grace: Duration,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            claim_batch: 32,
            decide_rounds: 16,
            stalled_after: Duration::from_secs(30),
            run_timeout: Duration::from_secs(24 * 60 * 60),
            keep_progress_every: Duration::from_secs(2),
            rescue_batch: 1_000,
            takeovers_max: 16,
            children_max: 1_000,
            group_depth_max: 8,
            wake_spread: Duration::from_secs(1),
            aging: Duration::from_secs(30),
            authority_within: Duration::from_secs(1),
            stage_concurrency: 10,
            start_to_close: Duration::from_secs(10 * 60),
            retry: RetryPolicy::PROVIDER,
            plan_jobs_max: 100_000,
            run_jobs_max: 1_000_000,
            defer_max_wait: Duration::from_secs(30 * 60),
            wait_max: Duration::from_secs(30 * 24 * 60 * 60),
            compensation: Duration::from_secs(60 * 60),
            drain_grace: Duration::from_secs(2),
        }
    }
}

/// A setting of the engine that cannot be meant.
///
/// ```
/// use perennial::engine::EngineSettings;
///
/// let settings = EngineSettings { claim_batch: 0, children_max: 0, ..EngineSettings::default() };
/// let problems = settings.check().unwrap_err();
/// assert_eq!(problems.0[0].to_string(), "`claim_batch` is 0; 1 to 1000 are possible");
/// assert_eq!(problems.0.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` is {value}; {least} to {most} are possible")]
pub struct SettingError {
    /// Its name.
    pub setting: &'static str,
    /// What it was set to.
    pub value: String,
    /// The least that can be meant.
    pub least: String,
    /// The most.
    pub most: String,
}

impl SettingError {
    /// A time that is not between these.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perennial::engine::SettingError;
    ///
    /// let second = Duration::from_secs(1);
    /// let error = SettingError::of_time("pause", second * 90, second, second * 60).unwrap();
    /// assert_eq!(error.to_string(), "`pause` is 90s; 1s to 60s are possible");
    /// let error = SettingError::of_time("pause", Duration::ZERO, second, second * 60).unwrap();
    /// assert_eq!(error.value, "0s");
    /// ```
    pub fn of_time(
        setting: &'static str,
        value: Duration,
        least: Duration,
        most: Duration,
    ) -> Option<Self> {
        let text = |time: Duration| match time {
            Duration::ZERO => "0s".to_owned(),
            time => format!("{time:?}"),
        };
        let is_wrong = !(least..=most).contains(&value);
        is_wrong.then(|| Self { setting, value: text(value), least: text(least), most: text(most) })
    }

    /// A number that is not between these.
    ///
    /// ```
    /// use perennial::engine::SettingError;
    ///
    /// let error = SettingError::of_number("readers", 0, 1, 64).unwrap();
    /// assert_eq!(error.to_string(), "`readers` is 0; 1 to 64 are possible");
    /// ```
    pub fn of_number(setting: &'static str, value: u64, least: u64, most: u64) -> Option<Self> {
        let is_wrong = !(least..=most).contains(&value);
        is_wrong.then(|| Self {
            setting,
            value: value.to_string(),
            least: least.to_string(),
            most: most.to_string(),
        })
    }
}

/// All settings that cannot be meant, as one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingErrors(pub Vec<SettingError>);

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "; " };
            write!(f, "{comma}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingErrors {}

/// A year: what is longer is a mistake.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl EngineSettings {
    /// # Errors
    ///
    /// All settings that cannot be meant.
    pub fn check(&self) -> Result<(), SettingErrors> {
        let Self {
            poll_interval,
            claim_batch,
            decide_rounds,
            stalled_after,
            run_timeout,
            keep_progress_every,
            rescue_batch,
            takeovers_max,
            children_max,
            group_depth_max,
            wake_spread,
            aging,
            authority_within,
            stage_concurrency,
            start_to_close,
            retry,
            plan_jobs_max,
            run_jobs_max,
            defer_max_wait,
            wait_max,
            compensation,
            drain_grace,
        } = *self;
        let millis = Duration::from_millis;
        let (base, cap) = (millis(retry.base_ms), millis(retry.cap_ms));
        let (time, number) = (SettingError::of_time, SettingError::of_number);
        let size = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let checked = [
            time("poll_interval", poll_interval, millis(1), millis(60_000)),
            number("claim_batch", claim_batch.into(), 1, 1_000),
            number("decide_rounds", decide_rounds.into(), 5, 1_000),
            time("stalled_after", stalled_after, millis(1_000), LONGEST),
            time("run_timeout", run_timeout, millis(1), LONGEST),
            time("keep_progress_every", keep_progress_every, millis(1), LONGEST),
            number("rescue_batch", rescue_batch.into(), 1, 100_000),
            number("takeovers_max", size(takeovers_max), 1, 100_000),
            number("children_max", size(children_max), 1, 100_000),
            number("group_depth_max", size(group_depth_max), 1, 100),
            time("wake_spread", wake_spread, Duration::ZERO, LONGEST),
            time("aging", aging, millis(1), LONGEST),
            time("authority_within", authority_within, millis(1), millis(600_000)),
            number("stage_concurrency", stage_concurrency.into(), 1, 100_000),
            time("start_to_close", start_to_close, millis(1), LONGEST),
            number("retry_attempts", retry.max_attempts.into(), 1, 1_000),
            number("retry_crashes", retry.crashes_max.into(), 1, 1_000),
            time("retry_base", base, Duration::ZERO, cap.min(LONGEST)),
            time("retry_cap", cap, Duration::ZERO, LONGEST),
            number("plan_jobs_max", size(plan_jobs_max), 1, 10_000_000),
            number("run_jobs_max", size(run_jobs_max), 1, 10_000_000),
            time("defer_max_wait", defer_max_wait, millis(1), LONGEST),
            time("wait_max", wait_max, millis(1), LONGEST),
            time("compensation", compensation, millis(1), LONGEST),
            time("drain_grace", drain_grace, millis(1_000), millis(600_000)),
        ];
        let wrong: Vec<SettingError> = checked.into_iter().flatten().collect();
        if wrong.is_empty() { Ok(()) } else { Err(SettingErrors(wrong)) }
    }
}
