//! Limits across runs.

use std::{fmt, num::NonZeroU32};

use perennial_core::{
    Timestamp,
    run::{JobKey, RunId},
};

/// A limit across runs: of all jobs of the store with this key, only so many are under way at a time. Others wait, deferred, and
/// stand in nobody's way.
///
/// ```
/// use std::num::NonZeroU32;
/// use perennial_store::ConcurrencyKey;
///
/// let one = ConcurrencyKey { key: "app/shop".into(), most: NonZeroU32::MIN };
/// assert_eq!(one, ConcurrencyKey::one("app/shop"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConcurrencyKey {
    /// What they have in common: 1 to 256 bytes.
    pub key: String,
    /// How many of them.
    pub most: NonZeroU32,
}

impl ConcurrencyKey {
    /// Longest key, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// One at a time.
    pub fn one(key: impl Into<String>) -> Self {
        Self { key: key.into(), most: NonZeroU32::MIN }
    }
}

/// The limit across runs of a job, and where the job is with it.
///
/// ```
/// use perennial_store::{ConcurrencyKey, Keyed, Turn};
///
/// let by = ConcurrencyKey::one("app/shop");
/// let waits = Keyed { by, turn: Turn::Waits, since: None, held_by: None };
/// assert_ne!(waits.turn, Turn::None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The limit.
    pub by: ConcurrencyKey,
    /// Whether it is its turn.
    pub turn: Turn,
    /// Since when it waits for it.
    pub since: Option<Timestamp>,
    /// Who has a turn with the key while this one waits: the one with the first place.
    pub held_by: Option<TurnHolder>,
}

/// A job that has its turn with a key, of whatever run.
///
/// ```
/// use perennial_core::run::{JobKey, RunId};
/// use perennial_store::TurnHolder;
///
/// let holder = TurnHolder { run: RunId::parse("study")?, job: JobKey::new("analysis/shop") };
/// assert_eq!(holder.to_string(), "step analysis/shop of run study");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TurnHolder {
    /// Its run.
    pub run: RunId,
    /// Its key there.
    pub job: JobKey,
}

impl fmt::Display for TurnHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} of run {}", self.job, self.run)
    }
}

/// Whether it is the turn of a job that has a key.
///
/// ```
/// use perennial_store::Turn;
///
/// assert_eq!(Turn::default(), Turn::None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Nobody has asked yet, or it has had it.
    #[default]
    None,
    /// It waits for it, deferred.
    Waits,
    /// It is.
    Has,
}
