//! What is kept for how long.

use std::time::Duration;

use perennial_core::{
    Timestamp,
    run::{RunId, RunState},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long runs are kept after their end, by how they ended; none is for ever. What has not ended is never removed.
///
/// ```
/// use perennial_store::Retention;
/// use std::time::Duration;
///
/// let month = Duration::from_secs(30 * 24 * 60 * 60);
/// assert_eq!(Retention::default(), Retention::after(month));
/// // Failed runs are kept for whoever looks into them.
/// let policy = Retention { failed: None, ..Retention::default() };
/// assert!(policy.removes() && !Retention::never().removes());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Of runs that completed, with or without parts missing.
    pub completed: Option<Duration>,
    /// Of runs that failed or ran out of time.
    pub failed: Option<Duration>,
    /// Of runs that were cancelled.
    pub cancelled: Option<Duration>,
    /// How long the id of a removed run stays taken.
    pub ids: Duration,
}

impl Default for Retention {
    /// 30 days for each.
    fn default() -> Self {
        Self::after(DAY * 30)
    }
}

impl Retention {
    /// The same time for every end.
    ///
    /// ```
    /// use perennial_store::Retention;
    /// use std::time::Duration;
    ///
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// assert_eq!(Retention::after(week).cancelled, Some(week));
    /// ```
    pub fn after(within: Duration) -> Self {
        let all = Some(within);
        Self { completed: all, failed: all, cancelled: all, ids: DAY * 30 }
    }

    /// No run is removed.
    ///
    /// ```
    /// assert_eq!(perennial_store::Retention::never().completed, None);
    /// ```
    pub fn never() -> Self {
        Self { completed: None, failed: None, cancelled: None, ids: DAY * 30 }
    }

    /// Whether runs of any end are removed.
    ///
    /// ```
    /// assert!(!perennial_store::Retention::never().removes());
    /// ```
    pub fn removes(self) -> bool {
        self.completed.is_some() || self.failed.is_some() || self.cancelled.is_some()
    }
}

/// What one transaction of retention removed.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_store::Retention;
///
/// let retained = store.retain(Retention::default(), 1_000).await?; // nothing has ended
/// assert_eq!((retained.runs, retained.rows, retained.more), (0, 0, false));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Retained {
    /// Runs of which nothing is left.
    pub runs: u64,
    /// Rows of runs.
    pub rows: u64,
    /// Blobs that nothing used.
    pub blobs: u64,
    /// Whether there is more to do at once.
    #[serde(skip)]
    pub more: bool,
}

/// A run that was removed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perennial_store::StoreError> {
/// use perennial_store::{MemoryStore, Store};
///
/// assert!(MemoryStore::open()?.removed(20).await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RemovedRun {
    /// Its id.
    pub run: RunId,
    /// Name of its workflow.
    pub workflow: String,
    /// How it had ended.
    pub state: RunState,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it had ended.
    pub finished_at: Timestamp,
    /// When it was removed.
    pub removed_at: Timestamp,
}
