//! Which limits there are, and what each of them promises.

use std::time::Duration;

use crate::protection::InvalidConfig;

/// Keys that one limiter tracks unless told otherwise.
pub const KEYS_MAX: usize = 10_000;
/// No limit and no burst is larger; so that nothing overflows, and nobody needs more.
pub const LIMIT_MAX: u64 = 1 << 40;
/// No window is longer: 366 days.
pub const WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rate {
    /// How many.
    pub limit: u64,
    /// In how much time.
    pub per: Duration,
}

/// One limit.
///
/// ```
/// use perennial_core::protection::limiter::{Bound, Limit};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// // 98 a minute, and 2 at once: never more than 100 in any minute.
/// let bucket = Limit::token_bucket(98, minute, 2);
/// assert_eq!(bucket.bound(), Bound { grants: 100, within: minute });
/// assert_eq!(Limit::sliding_log(100, minute).bound(), Bound { grants: 100, within: minute });
/// assert_eq!(Limit::fixed_window(100, minute).bound(), Bound { grants: 200, within: minute });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Grants flow in at a rate, and as many as the burst may be saved (GCRA).
    TokenBucket {
        /// How fast they flow in.
        rate: Rate,
        /// How many may be taken at once.
        burst: u64,
    },
    /// Each grant counts until its window is over.
    SlidingLog {
        /// How many in any window.
        limit: u64,
        /// For how long a grant counts: one of `t` counts no more at `t + window`.
        window: Duration,
    },
    /// All grants of a window are forgotten at its end.
    FixedWindow {
        /// How many in each window.
        limit: u64,
        /// How long a window is.
        window: Duration,
        /// When one begins, as time since the start; others follow it and are before it.
        align: Duration,
    },
}

/// What a limit promises: no more than so many grants in any interval of such a length.
///
/// Grants are counted by their cost, less what was returned of them in the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bound {
    /// At most so many.
    pub grants: u64,
    /// In any interval of this length: in `[t, t + within)`.
    pub within: Duration,
}

impl Limit {
    /// `limit` in `per`, and `burst` at once.
    pub const fn token_bucket(limit: u64, per: Duration, burst: u64) -> Self {
        Self::TokenBucket { rate: Rate { limit, per }, burst }
    }

    /// `limit` in any interval of `window`.
    pub const fn sliding_log(limit: u64, window: Duration) -> Self {
        Self::SlidingLog { limit, window }
    }

    /// `limit` in each `window`, counted from the start of time.
    pub const fn fixed_window(limit: u64, window: Duration) -> Self {
        Self::FixedWindow { limit, window, align: Duration::ZERO }
    }

    /// What it promises.
    pub const fn bound(&self) -> Bound {
        match self {
            Self::TokenBucket { rate, burst } => {
                Bound { grants: rate.limit.saturating_add(*burst), within: rate.per }
            }
            Self::SlidingLog { limit, window } => Bound { grants: *limit, within: *window },
            Self::FixedWindow { limit, window, align: _ } => {
                Bound { grants: limit.saturating_mul(2), within: *window }
            }
        }
    }

    /// The largest cost that it can ever grant at once.
    pub const fn cost_max(&self) -> u64 {
        match self {
            Self::TokenBucket { burst, .. } => *burst,
            Self::SlidingLog { limit, .. } | Self::FixedWindow { limit, .. } => *limit,
        }
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let (counts, time): ([(&'static str, u64); 2], _) = match self {
            Self::TokenBucket { rate, burst } => {
                ([("rate.limit", rate.limit), ("burst", *burst)], ("rate.per", rate.per))
            }
            Self::SlidingLog { limit, window } | Self::FixedWindow { limit, window, .. } => {
                ([("limit", *limit); 2], ("window", *window))
            }
        };
        let wrong = |field, is, must| Err(InvalidConfig { of: "limiter", field, is, must });
        for (field, count) in counts {
            if !(1..=LIMIT_MAX).contains(&count) {
                return wrong(field, count.to_string(), "at least 1 and at most 2^40");
            }
        }
        if time.1.is_zero() || time.1 > WINDOW_MAX {
            return wrong(time.0, format!("{:?}", time.1), "longer than 0 and at most 366 days");
        }
        Ok(())
    }
}

/// The settings of a limiter: all its limits hold for each key.
///
/// ```
/// use perennial_core::protection::limiter::{Limit, LimiterConfig};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// // Calls and tokens: a call costs `[1, tokens]`.
/// let both = LimiterConfig::all([Limit::sliding_log(60, minute), Limit::sliding_log(90_000, minute)]);
/// assert!(both.check().is_ok());
/// let wrong = LimiterConfig::one(Limit::sliding_log(0, minute)).check().unwrap_err();
/// assert_eq!(wrong.field, "limit");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LimiterConfig {
    /// The limits on a key, at least one. A cost has one number for each, in this order.
    pub limits: Vec<Limit>,
    /// Keys that are tracked at a time, at most.
    pub keys_max: usize,
}

impl LimiterConfig {
    /// One limit on each key.
    pub fn one(limit: Limit) -> Self {
        Self::all([limit])
    }

    /// Several limits on each key: all are taken, or none.
    pub fn all(limits: impl IntoIterator<Item = Limit>) -> Self {
        Self { limits: limits.into_iter().collect(), keys_max: KEYS_MAX }
    }

    /// Another number of keys.
    #[must_use]
    pub fn keys_max(mut self, keys_max: usize) -> Self {
        self.keys_max = keys_max;
        self
    }

    /// Whether it can be used.
    ///
    /// # Errors
    ///
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let none = |field| {
            let is = "0".to_owned();
            Err(InvalidConfig { of: "limiter", field, is, must: "at least 1" })
        };
        if self.limits.is_empty() {
            return none("limits");
        }
        if self.keys_max == 0 {
            return none("keys_max");
        }
        self.limits.iter().try_for_each(Limit::check)
    }
}
