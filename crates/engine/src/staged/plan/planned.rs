//! A plan without problems, as the engine follows it.

use perennial_core::{
    failure::Failure,
    retry::RetryPolicy,
    run::{FailurePolicy, FeedKind, Priority, SkipReason},
    service::ServiceKey,
};
use perennial_store::{ConcurrencyKey, NewJob};
use serde_json::Value;

use super::{Edge, FeedFrom, JobSpec, KeyedBy, Plan, Timeouts, Work};
use crate::{staged::compensation::Undoing, workflow::Given};

/// A stage as the engine follows it.
#[derive(Debug)]
pub(crate) struct PlannedStage {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) feed: PlannedFeed,
    pub(crate) skip: Option<SkipReason>,
    /// Without these two the engine's settings.
    pub(crate) concurrency: Option<u32>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeouts: Timeouts,
    pub(crate) on_failure: FailurePolicy,
    pub(crate) required: bool,
    pub(crate) weight: u32,
    pub(crate) uses: Vec<ServiceKey>,
    pub(crate) keyed: Option<KeyedBy>,
    pub(crate) priority: Priority,
    pub(crate) undoing: Undoing,
}

/// A job of a stage as the engine follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedJob {
    pub(crate) key: String,
    pub(crate) input: Value,
    pub(crate) after: Vec<String>,
    pub(crate) uses: Vec<ServiceKey>,
    /// Without it that of its stage.
    pub(crate) priority: Option<Priority>,
}

impl PlannedStage {
    /// It is not to be done, or has nothing to do.
    pub(crate) fn begins_closed(&self) -> bool {
        let is_empty = matches!(&self.feed, PlannedFeed::Jobs(specs) if specs.is_empty());
        self.skip.is_some() || is_empty
    }

    /// The limit across runs of a job with that input; else why it has none.
    pub(crate) fn limit_of(&self, input: &Value) -> Result<Option<ConcurrencyKey>, Failure> {
        self.keyed.as_ref().map(|keyed| keyed.of(input)).transpose()
    }
}

impl PlannedJob {
    /// That job, whose input can be kept.
    pub(crate) fn of(JobSpec { key, input, after, uses, priority }: JobSpec) -> Self {
        Self { key, input: input.unwrap_or(Value::Null), after, uses, priority }
    }

    /// Where it says itself how soon it comes.
    pub(crate) fn placed(&self, mut job: NewJob) -> NewJob {
        job.part.priority = self.priority.unwrap_or(job.part.priority);
        job
    }

    /// What it is given, without what it executes. `again`: how often it was made anew.
    pub(crate) fn given(&self, again: u32) -> Given {
        let (input, after) = (self.input.clone(), self.after.clone());
        Given { input, after, again, ..Given::default() }
    }
}

#[derive(Debug)]
pub(crate) enum PlannedFeed {
    Jobs(Vec<PlannedJob>),
    PerItem(Edge),
    Barrier(Edge),
    /// Its workflow says what comes next.
    Driven,
}

impl PlannedFeed {
    pub(crate) fn kind(&self) -> FeedKind {
        match self {
            Self::Jobs(_) => FeedKind::Static,
            Self::PerItem(_) => FeedKind::PerItem,
            Self::Barrier(_) => FeedKind::Barrier,
            Self::Driven => FeedKind::Driven,
        }
    }

    pub(crate) fn edge(&self) -> Option<&Edge> {
        match self {
            Self::Jobs(_) | Self::Driven => None,
            Self::PerItem(edge) | Self::Barrier(edge) => Some(edge),
        }
    }
}

impl Plan {
    /// The stages of a plan without problems.
    pub(crate) fn into_stages(self) -> Vec<PlannedStage> {
        let planned = self.stages.into_iter().map(|stage| PlannedStage {
            feed: match stage.feed.0 {
                FeedFrom::Jobs(jobs) => {
                    PlannedFeed::Jobs(jobs.into_iter().map(PlannedJob::of).collect())
                }
                FeedFrom::PerItem(edge) => PlannedFeed::PerItem(edge),
                FeedFrom::Barrier(edge) => PlannedFeed::Barrier(edge),
                FeedFrom::Driven => PlannedFeed::Driven,
            },
            name: stage.name,
            work: stage.work,
            skip: stage.skip,
            concurrency: stage.concurrency,
            retry: stage.retry,
            timeouts: stage.timeouts,
            on_failure: stage.on_failure,
            required: stage.required,
            weight: stage.weight,
            uses: stage.uses,
            keyed: stage.keyed,
            priority: stage.priority,
            undoing: stage.undoing,
        });
        planned.collect()
    }
}
