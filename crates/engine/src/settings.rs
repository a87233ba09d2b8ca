//! The numbers by which the engine decides when it looks, how much it takes at a time, and what is too much.

use std::{fmt, time::Duration};

/// How the engine works. A runtime is given them once; what a run was accepted with (its deadline, say) stays with it.
///
/// ```
/// use std::time::Duration;
/// use perennial::{Runtime, Store, engine::EngineSettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hasty = EngineSettings { poll_every: Duration::from_millis(100), ..EngineSettings::default() };
/// let runtime = Runtime::builder().store(Store::memory()).engine(hasty).start().await?;
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// How often it looks at what is due even if nobody wakes it; 1 s. Nothing depends on a wake-up alone (DUR-10).
    pub poll_every: Duration,
    /// Most jobs of one run that one claim takes; 32.
    pub claim_batch: u32,
    /// How often a decision is made again that others were in the way of; 16. The fact is offered again after that.
    pub decide_rounds: u32,
    /// How long the scheduler may get nowhere before the tree says that it is not healthy; 30 s.
    pub stalled_after: Duration,
    /// What a run may take whose start does not say it; 24 h.
    pub run_within: Duration,
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
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            poll_every: Duration::from_secs(1),
            claim_batch: 32,
            decide_rounds: 16,
            stalled_after: Duration::from_secs(30),
            run_within: Duration::from_secs(24 * 60 * 60),
            keep_progress_every: Duration::from_secs(2),
            rescue_batch: 1_000,
            takeovers_max: 16,
            children_max: 1_000,
            group_depth_max: 8,
            wake_spread: Duration::from_secs(1),
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
    /// What it was set to; times in milliseconds, as the next ones.
    pub value: u128,
    /// The least that can be meant.
    pub least: u128,
    /// The most.
    pub most: u128,
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
const LONGEST: u128 = 366 * 24 * 60 * 60 * 1_000;

impl EngineSettings {
    /// # Errors
    ///
    /// All settings that cannot be meant.
    pub fn check(&self) -> Result<(), SettingErrors> {
        let Self {
            poll_every,
            claim_batch,
            decide_rounds,
            stalled_after,
            run_within,
            keep_progress_every,
            rescue_batch,
            takeovers_max,
            children_max,
            group_depth_max,
            wake_spread,
        } = *self;
        let minute = 60_000;
        let settings: [(&'static str, u128, u128, u128); 11] = [
            ("poll_every", poll_every.as_millis(), 1, minute),
            ("claim_batch", claim_batch.into(), 1, 1_000),
            ("decide_rounds", decide_rounds.into(), 5, 1_000),
            ("stalled_after", stalled_after.as_millis(), 1_000, LONGEST),
            ("run_within", run_within.as_millis(), 1, LONGEST),
            ("keep_progress_every", keep_progress_every.as_millis(), 1, LONGEST),
            ("rescue_batch", rescue_batch.into(), 1, 100_000),
            ("takeovers_max", takeovers_max as u128, 1, 100_000),
            ("children_max", children_max as u128, 1, 100_000),
            ("group_depth_max", group_depth_max as u128, 1, 100),
            ("wake_spread", wake_spread.as_millis(), 0, LONGEST),
        ];
        let wrong: Vec<SettingError> = settings
            .into_iter()
            .filter(|(_, value, least, most)| !(*least..=*most).contains(value))
            .map(|(setting, value, least, most)| SettingError { setting, value, least, most })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(SettingErrors(wrong)) }
    }
}
