//! Numbers by chance, for those that leave a part of a pause to it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// A source of numbers that nobody can foresee, and that nothing secret hangs on.
#[derive(Debug, Default)]
pub(super) struct Chance {
    seed: RandomState,
    drawn: AtomicU64,
}

impl Chance {
    /// The next number, in `0.0..=1.0`.
    pub(super) fn draw(&self) -> f64 {
        let hash = self.seed.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed));
        f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}
