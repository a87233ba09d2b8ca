//! Numbers that are given out once and for ever, and what they were given out for.

use perennial_core::{
    Timestamp,
    run::{JobKey, RunId, SequenceName},
};

/// A number that an attempt asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewNumber {
    /// Of which sequence.
    pub sequence: SequenceName,
    /// Which of its counts: each scope counts from 1 for itself. 1 to 256 bytes.
    pub scope: String,
    /// Whose number it is, at most 1 KiB: the same key has the same number, however often it is asked for. Made of
    /// the job's idempotency key, it is the same at every attempt.
    pub key: String,
}

/// A further version of something that has a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewVersion {
    /// The sequence of the number.
    pub sequence: SequenceName,
    /// The scope of the number.
    pub scope: String,
    /// The number, which stays.
    pub number: u64,
    /// The version that it is made from, which is there. What was allocated is version 1.
    pub parent: u32,
    /// Whose version it is: the same key has the same version, however often it is asked for.
    pub key: String,
}

/// A number, or a version of it, that was given to somebody.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_core::run::SequenceName;
/// use perennial_store::{NewNumber, NewVersion};
///
/// let (sequence, scope) = (SequenceName::new("invoice").expect("a name"), "2026".to_owned());
/// let key = "greet/order-17/steps/say#1".to_owned();
/// let new = NewNumber { sequence: sequence.clone(), scope: scope.clone(), key };
/// assert_eq!(store.allocate(&lease, new.clone()).await?, 1);
/// assert_eq!(store.allocate(&lease, new).await?, 1); // the same key has the same number
///
/// let key = "greet/order-17/steps/say#2".to_owned();
/// let corrected = NewVersion { sequence, scope, number: 1, parent: 1, key };
/// assert_eq!(store.allocate_version(&lease, corrected).await?, 2);
///
/// let all = store.allocations(&run).await?;
/// assert_eq!((all[0].number, all[0].version, all[0].parent), (1, 1, None));
/// assert_eq!((all[1].number, all[1].version, all[1].parent), (1, 2, Some(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AllocationRecord {
    /// The sequence.
    pub sequence: String,
    /// The scope.
    pub scope: String,
    /// The number, from 1.
    pub number: u64,
    /// Which version of what has it, from 1.
    pub version: u32,
    /// The version that this one was made from; the first was made from none.
    pub parent: Option<u32>,
    /// Whose it is.
    pub key: String,
    /// The run that asked for it, which may be gone.
    pub run: RunId,
    /// The job that asked for it.
    pub job: JobKey,
    /// The attempt that asked for it first.
    pub attempt: u32,
    /// When.
    pub allocated_at: Timestamp,
}
