//! What is recorded of a run that began elsewhere.

use perennial_core::run::{JobKey, JobState, SequenceName, SkipReason};
use serde_json::Value;

use super::request::NewEvent;

/// What had come of a run before it was recorded here (INV-35).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// It arrives Paused: nothing of it begins before somebody says so.
    pub paused: bool,
    /// Jobs that had ended, each of them one that the run is created with. All others are as they are created.
    pub jobs: Vec<PastJob>,
    /// Numbers that its jobs have had.
    pub numbers: Vec<PastNumber>,
    /// What else is told of it, in order.
    pub events: Vec<NewEvent>,
}

/// How a job had ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PastJob {
    /// Its stage.
    pub stage: String,
    /// Its key.
    pub key: JobKey,
    /// A terminal state.
    pub state: JobState,
    /// Why it was skipped, where it was; [`SkipReason::NotApplicable`] where nothing is told.
    pub skipped: Option<SkipReason>,
    /// What it gave, or how it failed. One that succeeded, wholly or in part, has it.
    pub result: Option<Value>,
}

/// A number that a job has had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastNumber {
    /// Of which sequence.
    pub sequence: SequenceName,
    /// In which scope.
    pub scope: String,
    /// The number, from 1.
    pub number: u64,
    /// Whose it is, as in [`NewNumber`](crate::NewNumber).
    pub key: String,
    /// The job that has had it.
    pub job: JobKey,
    /// Further versions of what has it, from the second on.
    pub versions: Vec<PastVersion>,
}

/// A further version of what has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastVersion {
    /// The version that it was made from.
    pub parent: u32,
    /// Whose it is, as in [`NewVersion`](crate::NewVersion).
    pub key: String,
}
