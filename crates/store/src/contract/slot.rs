//! Numbers of pools, of which each has one holder at a time.

use std::time::Duration;

use perennial_core::{Timestamp, run::RunId};

/// How long a number is given to nobody after it turned out to be in use outside (DUR-103).
///
/// ```
/// assert_eq!(perennial_store::SLOT_FENCE.as_secs(), 60);
/// ```
pub const SLOT_FENCE: Duration = Duration::from_secs(60);

/// What came of asking for a number of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotTaken {
    /// The attempt holds this one.
    Number(u32),
    /// All are held, or fenced.
    Full,
}

/// Why a number of a pool is given back before its attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotGiven {
    /// It is not needed any more.
    Unused,
    /// It is in use outside of what the store knows of: nobody gets it for [`SLOT_FENCE`].
    Conflict,
}

/// A number of a pool that is not free.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_core::run::SlotPool;
/// use perennial_store::{SlotGiven, SlotTaken};
///
/// let ports = SlotPool::new("ports", 20_000..=20_001).expect("a pool");
/// assert_eq!(store.slot_take(&lease, &ports, "1").await?, SlotTaken::Number(20_000));
/// assert_eq!(store.slot_take(&lease, &ports, "1").await?, SlotTaken::Number(20_000)); // it has it
/// assert_eq!(store.slot_take(&lease, &ports, "2").await?, SlotTaken::Number(20_001));
/// assert_eq!(store.slot_take(&lease, &ports, "3").await?, SlotTaken::Full);
///
/// // Somebody else listens there.
/// assert!(store.slot_give(&lease, "ports", 20_000, SlotGiven::Conflict).await?);
/// let slots = store.slots("ports").await?;
/// assert!(slots[0].fenced_until.is_some() && slots[0].holder.is_none());
/// let holder = slots[1].holder.as_ref().expect("it is held");
/// assert_eq!((&holder.run, holder.attempt, holder.name.as_str()), (&run, 1, "2"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SlotRecord {
    /// The number.
    pub number: u32,
    /// Who holds it, unless it is fenced.
    pub holder: Option<SlotHolder>,
    /// Until when nobody gets it, unless it is held.
    pub fenced_until: Option<Timestamp>,
}

/// Who holds a number of a pool: an attempt, until it ends.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_core::run::SlotPool;
///
/// let ports = SlotPool::new("ports", 20_000..=20_001).expect("a pool");
/// store.slot_take(&lease, &ports, "1").await?;
/// let holder = store.slots("ports").await?.remove(0).holder.expect("it is held");
/// assert_eq!((holder.job, holder.attempt), (lease.job, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SlotHolder {
    /// Its run.
    pub run: RunId,
    /// The job's row.
    pub job: i64,
    /// The attempt.
    pub attempt: u32,
    /// Under which name of its own the attempt has it.
    pub name: String,
    /// Since when.
    pub taken_at: Timestamp,
}
