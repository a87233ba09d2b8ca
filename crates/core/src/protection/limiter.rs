//! How many calls may be made, in how much time.
//!
//! A [`Limit`] is one of three algorithms, and declares the [`Bound`] that it keeps in *any* interval:
//!
//! | limit | grants in any interval of its length | memory per key | for |
//! |---|---|---|---|
//! | [`Limit::TokenBucket`] | at most limit + burst | constant | everything, unless there is a reason |
//! | [`Limit::SlidingLog`] | at most limit | one entry a grant | a provider that counts strictly |
//! | [`Limit::FixedWindow`] | at most 2 × limit; at most limit in each aligned window | constant | quotas that are reset at fixed times |
//!
//! The fourth, [`BackoffWindow`], grants nothing until an instant that somebody was told.
//!
//! A full bucket and what flows in after it pass in one window: against a provider that counts strictly, a bucket has a
//! small burst and the rate of the rest, or it is a log. No other algorithm cures that.
//!
//! [`Meters`] keeps one meter for each key, for a bounded number of keys. Several limits on one key are taken together or
//! not at all. A denial takes nothing, and says when the same would be granted.

mod backoff_window;
mod config;
mod meter;
mod table;
#[cfg(test)]
mod tests;

pub use backoff_window::BackoffWindow;
pub use config::{Bound, KEYS_MAX, LIMIT_MAX, Limit, LimiterConfig, Rate, WINDOW_MAX};
pub use table::{Decision, Hold, LimitError, LimitStatus, MeterStats, Meters, Reserved};
