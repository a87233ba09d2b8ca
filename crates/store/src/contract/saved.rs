//! What attempts save while they work, and what they say of how far they are.

use perennial_core::Timestamp;
use serde_json::Value;

/// A value to be saved for later attempts of the same job.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCheckpoint {
    /// Its name, of the job's own choice: 1 to 256 bytes.
    pub name: String,
    /// What is saved, in place of what has the name.
    pub value: Value,
    /// Whether it stays when the job has succeeded.
    pub keep: bool,
}

/// A value that an attempt has saved.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// use perennial_store::NewCheckpoint;
///
/// let half = NewCheckpoint { name: "half".to_owned(), value: "good mor".into(), keep: false };
/// store.save(&lease, half).await?;
/// let saved = &store.run(&run).await?.saved[0];
/// assert_eq!((saved.name.as_str(), saved.attempt, saved.bytes), ("half", 1, 10));
/// assert_eq!(store.saved(saved.job, "half").await?, Some("good mor".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CheckpointRecord {
    /// The job's row.
    pub job: i64,
    /// Its name.
    pub name: String,
    /// The attempt that saved it.
    pub attempt: u32,
    /// When.
    pub saved_at: Timestamp,
    /// Its size as JSON.
    pub bytes: u64,
    /// Whether it stays when the job has succeeded.
    pub kept: bool,
}

/// What an attempt has said of itself last.
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// store.beat(&lease, serde_json::json!({"done": 3, "of": 8})).await?;
/// let beat = &store.run(&run).await?.beats[0];
/// assert_eq!((beat.attempt, &beat.progress["done"]), (1, &3.into()));
/// assert_eq!(beat.first_at, beat.at);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BeatRecord {
    /// The job's row.
    pub job: i64,
    /// The attempt.
    pub attempt: u32,
    /// When it said something first.
    pub first_at: Timestamp,
    /// When it said something last.
    pub at: Timestamp,
    /// How far it is, in its own words.
    pub progress: Value,
}
