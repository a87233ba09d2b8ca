//! A job as its workflow plans it, and what its time limits say of each other.

use std::{fmt, time::Duration};

use perennial_core::{retry::RetryPolicy, run::JobKey};

/// A job to be created.
///
/// ```
/// use std::time::Duration;
/// use perennial::engine::{JobPlan, workflow::{JobKey, RetryPolicy}};
///
/// let retry = RetryPolicy { max_attempts: 5, ..RetryPolicy::PROVIDER };
/// let plan = JobPlan::new(JobKey::new("say"), retry, Duration::from_secs(30))
///     .heartbeat_within(Duration::from_secs(5))
///     .within(Duration::from_secs(3600));
/// assert_eq!(plan.retry.cap_ms, 30_000);
/// assert!(plan.inverted().is_none());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobPlan {
    /// Its step path.
    pub key: JobKey,
    /// How often it is tried.
    pub retry: RetryPolicy,
    /// How long one attempt may take, counted from its claim.
    pub attempt_within: Duration,
    /// How long an attempt may say nothing of itself, if that is limited.
    pub heartbeat_within: Option<Duration>,
    /// How long all its attempts and the pauses between them may take, counted from its creation.
    pub within: Option<Duration>,
    /// A limit above the one that it lies in is cut down to that, and no mistake.
    pub clamped: bool,
}

impl JobPlan {
    /// A job with limits on its attempts alone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use perennial::engine::{JobPlan, workflow::{JobKey, RetryPolicy}};
    ///
    /// let plan = JobPlan::new(JobKey::new("say"), RetryPolicy::ONCE, Duration::from_secs(30));
    /// assert_eq!((plan.heartbeat_within, plan.within), (None, None));
    /// ```
    pub fn new(key: JobKey, retry: RetryPolicy, attempt_within: Duration) -> Self {
        let (heartbeat_within, within) = (None, None);
        Self { key, retry, attempt_within, heartbeat_within, within, clamped: false }
    }

    /// An attempt that says nothing of itself for that long has timed out, though its process lives: it
    /// has to call [`AttemptCx::heartbeat`](crate::AttemptCx::heartbeat), or to save a checkpoint.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial::engine::{JobPlan, workflow::{JobKey, RetryPolicy}};
    /// let plan = JobPlan::new(JobKey::new("say"), RetryPolicy::ONCE, Duration::from_secs(30));
    /// let plan = plan.heartbeat_within(Duration::from_secs(5));
    /// assert_eq!(plan.heartbeat_within, Some(Duration::from_secs(5)));
    /// ```
    #[must_use]
    pub fn heartbeat_within(mut self, within: Duration) -> Self {
        self.heartbeat_within = Some(within);
        self
    }

    /// The job has to be done within that, with all its attempts and the pauses between them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial::engine::{JobPlan, workflow::{JobKey, RetryPolicy}};
    /// let plan = JobPlan::new(JobKey::new("say"), RetryPolicy::PROVIDER, Duration::from_secs(30));
    /// assert_eq!(plan.within(Duration::from_secs(60)).within, Some(Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Limits that lie above those that they are part of are cut down, and not refused.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial::engine::{JobPlan, workflow::{JobKey, RetryPolicy}};
    /// let plan = JobPlan::new(JobKey::new("say"), RetryPolicy::ONCE, Duration::from_secs(30));
    /// let plan = plan.within(Duration::from_secs(10)); // no attempt of 30 s fits
    /// assert!(plan.inverted().is_some() && plan.clamped().inverted().is_none());
    /// ```
    #[must_use]
    pub fn clamped(mut self) -> Self {
        self.clamped = true;
        self
    }

    /// The first of its limits that lies above the one that it is part of, unless they are
    /// [`clamped`](Self::clamped).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial::engine::{JobPlan, workflow::{JobKey, RetryPolicy}};
    /// let plan = JobPlan::new(JobKey::new("say"), RetryPolicy::ONCE, Duration::from_secs(30));
    /// let inverted = plan.heartbeat_within(Duration::from_secs(30)).inverted().expect("it never beats");
    /// assert_eq!((inverted.limit, inverted.within), ("its heartbeat", "an attempt"));
    /// ```
    pub fn inverted(&self) -> Option<InvertedTimeouts> {
        let attempt = ("an attempt", self.attempt_within);
        let beat = self.heartbeat_within.filter(|beat| *beat >= self.attempt_within);
        let beat = beat.map(|beat| self.inverts(("its heartbeat", beat), attempt));
        let whole = self.within.filter(|whole| self.attempt_within > *whole);
        let whole = || whole.map(|whole| self.inverts(attempt, ("the job", whole)));
        beat.or_else(whole).filter(|_| !self.clamped)
    }

    /// As [`inverted`](Self::inverted), in a run that may take that long.
    pub(crate) fn inverted_in(&self, run: Duration) -> Option<InvertedTimeouts> {
        let own = match self.within {
            Some(whole) => ("the job", whole),
            None => ("an attempt", self.attempt_within),
        };
        let above = (own.1 > run && !self.clamped).then(|| self.inverts(own, ("the run", run)));
        self.inverted().or(above)
    }

    fn inverts(
        &self,
        (limit, is): (&'static str, Duration),
        (within, most): (&'static str, Duration),
    ) -> InvertedTimeouts {
        InvertedTimeouts { job: self.key.clone(), limit, is, within, most }
    }
}

/// A time limit of a job lies above the one that it is part of, so that it would never apply (DUR-53).
///
/// ```
/// # use std::time::Duration;
/// # use perennial::engine::{JobPlan, workflow::{JobKey, RetryPolicy}};
/// let plan = JobPlan::new(JobKey::new("say"), RetryPolicy::ONCE, Duration::from_secs(30));
/// let inverted = plan.within(Duration::from_secs(10)).inverted().expect("no attempt fits");
/// let text = "job say: an attempt may take 30s, and the job that it is part of 10s; \
///     make the first one shorter, or mark the plan as clamped";
/// assert_eq!(inverted.to_string(), text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvertedTimeouts {
    /// The job.
    pub job: JobKey,
    /// The limit that is too long: of an attempt, its heartbeat, the job.
    pub limit: &'static str,
    /// How long it is.
    pub is: Duration,
    /// What it is part of.
    pub within: &'static str,
    /// How long that is.
    pub most: Duration,
}

impl fmt::Display for InvertedTimeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, limit, is, within, most } = self;
        write!(
            f,
            "job {job}: {limit} may take {is:?}, and {within} that it is part of {most:?}; make the \
             first one shorter, or mark the plan as clamped"
        )
    }
}

impl std::error::Error for InvertedTimeouts {}
