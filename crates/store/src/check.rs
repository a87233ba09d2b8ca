//! The checker: what must hold of a store's rows and its event log, whatever was killed when (CHK).
//!
//! [`Fold`] reads a run's events and says what its rows must be, `rules` compares; both are pure. The store
//! reads the content for them, one stream at a time and its events in pieces ([`Store::verify`]), so that the
//! check of a large store holds up nobody.
//!
//! | rule | what is compared |
//! |---|---|
//! | CHK-1 | every row has the one it belongs to, a key of a stage has one job, and who holds a number is under way |
//! | CHK-2 | what a query counts is what is there |
//! | CHK-3 | events are dense from 1, in time, and each has the hash of its predecessor and itself |
//! | CHK-4 | the rows of runs, stages, jobs and attempts are what the events tell |
//! | CHK-5 | attempts are dense from 1; each has ended once, or holds the live lease |
//! | CHK-6 | no stage has more jobs under way than it has places for |
//! | CHK-7 | a closed stage has an outcome and no job that goes on |
//! | CHK-8 | a child has a group that is expanded; a group that has ended has no child that has not |
//! | CHK-9 | nothing changes after its end, within a round |
//! | CHK-10 | what has not ended waits for something that can come |
//! | CHK-11 | what has ended holds no service |
//! | CHK-12 | numbers of sequences are dense from 1 and have one key each; runs have those that their events tell |
//! | CHK-13 | what was given, recorded and returned can be read and is what it was |
//! | CHK-15 | no more attempts than allowed; what is given up has failed |
//! | CHK-16 | the outcome of a run follows from those of its stages |
//!
//! [`NOT_YET`] are the rules whose tables do not exist. Not covered, because no event tells of them: nodes,
//! timers, results kept for later runs, and the row of the store itself.
//!
//! # Deviations
//!
//! * CHK-7: how a stage closed is the workflow's to say, which knows what made a failure good; it is not derived.
//! * CHK-16: how far a run has come is the engine's estimate; that it only rises, and is 100 exactly at the end, is
//!   compared.
//! * CHK-11: no event tells of the stops of services, so that only holds are compared with what they are of.
//! * CHK-15: a job that is given up may be Partial, where its document tolerates the failure; and it may have attempts left
//!   behind one that failed, when its time was over: how long that is the engine knows.

mod fold;
mod numbers;
mod rules;

use std::fmt;

pub(crate) use self::{
    fold::{Fold, StagePlan},
    numbers::{NumberRow, NumbersTold, dense},
    rules::{CallRow, Content, JobRow, RunRow, StageRow, compare},
};
use crate::{Store, StoreError};

/// Violations of one stream that are told; more tell nothing new.
const VIOLATIONS_MAX: usize = 100;

/// Events that [`verify`] reads in one transaction.
const PIECE: u32 = 500;

/// Rules that cannot be broken yet, because what they speak of does not exist: the outbox.
pub const NOT_YET: [(&str, &str); 1] = [("CHK-14", "the outbox")];

/// What must hold.
///
/// ```
/// use perennial_store::Rule;
///
/// assert_eq!(Rule::Sequence.id(), "CHK-3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// No row without the row it belongs to, no job twice.
    Orphans,
    /// Counts of queries are those of the rows.
    Counts,
    /// Events are dense, in time, and chained.
    Sequence,
    /// Rows are what the events tell.
    Fold,
    /// Attempts are dense; one ends once.
    Attempts,
    /// No stage has more under way than places.
    Places,
    /// Of the jobs of a key only those are under way whose turn it is.
    Turns,
    /// A closed stage is complete.
    Closed,
    /// Groups and their children fit.
    Groups,
    /// Nothing follows an end.
    Ended,
    /// What goes on can go on.
    Waiting,
    /// What has ended holds no service.
    Holds,
    /// Numbers are dense; one key has one.
    Allocations,
    /// Payloads can be read, and are what was recorded.
    Payloads,
    /// What succeeded gave something.
    Results,
    /// Budgets of attempts are kept.
    Budget,
    /// The outcome of a run follows.
    Outcome,
}

impl Rule {
    /// The rule's number, as the documentation has it.
    ///
    /// ```
    /// use perennial_store::Rule;
    ///
    /// assert_eq!(Rule::Fold.id(), "CHK-4");
    /// ```
    pub fn id(self) -> &'static str {
        match self {
            Self::Orphans => "CHK-1",
            Self::Counts => "CHK-2",
            Self::Sequence => "CHK-3",
            Self::Fold => "CHK-4",
            Self::Attempts => "CHK-5",
            Self::Places | Self::Turns => "CHK-6",
            Self::Closed => "CHK-7",
            Self::Groups => "CHK-8",
            Self::Ended => "CHK-9",
            Self::Waiting => "CHK-10",
            Self::Holds => "CHK-11",
            Self::Allocations => "CHK-12",
            Self::Payloads | Self::Results => "CHK-13",
            Self::Budget => "CHK-15",
            Self::Outcome => "CHK-16",
        }
    }

    /// Whether the store alone sees to it. The others hold when its decisions are made by an engine.
    ///
    /// ```
    /// use perennial_store::Rule;
    ///
    /// assert!(Rule::Fold.is_of_store() && !Rule::Outcome.is_of_store());
    /// ```
    pub fn is_of_store(self) -> bool {
        match self {
            Self::Orphans
            | Self::Counts
            | Self::Sequence
            | Self::Fold
            | Self::Attempts
            | Self::Turns
            | Self::Closed
            | Self::Groups
            | Self::Ended
            | Self::Holds
            | Self::Allocations
            | Self::Payloads => true,
            // Groups take their places by a decision of the engine.
            Self::Places | Self::Waiting | Self::Results | Self::Budget | Self::Outcome => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl serde::Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// Something that must hold and does not.
///
/// ```
/// use perennial_store::{Rule, Violation};
///
/// let stream = "order-17".to_owned();
/// let what = "event 3 is missing or was changed".to_owned();
/// let found = Violation { rule: Rule::Sequence, stream, seq: Some(3), what };
/// assert_eq!(found.to_string(), "CHK-3 order-17@3: event 3 is missing or was changed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// The stream, which for a run is its id; empty for what belongs to none.
    pub stream: String,
    /// The event, where one shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What is wrong, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, stream, seq, what } = self;
        match seq {
            Some(seq) => write!(f, "{rule} {stream}@{seq}: {what}"),
            None if stream.is_empty() => write!(f, "{rule}: {what}"),
            None => write!(f, "{rule} {stream}: {what}"),
        }
    }
}

/// How far a check has come. It belongs to the store that it was made with.
#[derive(Clone, Debug)]
pub struct VerifyCursor(pub(crate) Place);

#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The first stream behind this name.
    After(String),
    /// In the middle of a stream; whether others follow.
    In { stream: String, fold: Box<Fold>, more: bool },
    /// At rows that belong to nothing: those of which table, behind which key.
    Orphans { table: usize, after: String },
    /// At numbers: behind which one of a sequence and its scope, or behind that scope.
    Numbers { of: (String, String), last: Option<u64> },
}

impl VerifyCursor {
    /// Before everything: all streams, then what belongs to none.
    pub fn start() -> Self {
        Self(Place::After(String::new()))
    }

    /// One stream; of a run, its id.
    pub fn of(stream: impl Into<String>) -> Self {
        Self(Place::In { stream: stream.into(), fold: Box::default(), more: false })
    }
}

/// One step of a check.
///
/// ```
#[doc = include_str!("../doc/recorded.txt")]
/// use perennial_store::VerifyCursor;
///
/// let step = store.verify(VerifyCursor::of(run.as_str()), 500).await?;
/// assert!(step.complete && step.violations.is_empty());
/// assert_eq!(step.kind.as_deref(), Some("run"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct VerifyStep {
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// The stream that the step was about.
    pub stream: Option<String>,
    /// Its kind: `run`, `session`.
    pub kind: Option<String>,
    /// Whether the stream has been checked to its end.
    pub complete: bool,
    /// Events that were read.
    pub events: u64,
    /// Where it goes on, unless all is checked.
    pub next: Option<VerifyCursor>,
}

/// Checks everything in `store`, piece by piece: what is written meanwhile is not held up, and is seen or not.
///
/// ```
#[doc = include_str!("../doc/recorded.txt")]
/// assert_eq!(perennial_store::verify(&store).await?, []);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When the store cannot be read. What cannot be understood is a violation.
pub async fn verify(store: &dyn Store) -> Result<Vec<Violation>, StoreError> {
    let (mut found, mut next) = (Vec::new(), Some(VerifyCursor::start()));
    while let Some(cursor) = next {
        let step = store.verify(cursor, PIECE).await?;
        found.extend(step.violations);
        next = step.next;
    }
    Ok(found)
}

/// What is wrong with one stream, as it is found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Found>,
    /// Those that are not told.
    more: usize,
}

#[derive(Clone, Debug)]
struct Found {
    rule: Rule,
    seq: Option<u64>,
    what: String,
}

impl Findings {
    pub(crate) fn at(&mut self, rule: Rule, seq: u64, what: impl Into<String>) {
        self.push(rule, Some(seq), what.into());
    }

    pub(crate) fn add(&mut self, rule: Rule, what: impl Into<String>) {
        self.push(rule, None, what.into());
    }

    fn push(&mut self, rule: Rule, seq: Option<u64>, what: String) {
        if self.list.len() == VIOLATIONS_MAX {
            self.more += 1;
        } else {
            self.list.push(Found { rule, seq, what });
        }
    }

    /// As violations of `stream`; nothing is left.
    pub(crate) fn take(&mut self, stream: &str) -> Vec<Violation> {
        let Self { list, more } = std::mem::take(self);
        let mut told: Vec<Violation> = list
            .into_iter()
            .map(|Found { rule, seq, what }| Violation {
                rule,
                stream: stream.to_owned(),
                seq,
                what,
            })
            .collect();
        if let (Some(last), 1..) = (told.last().cloned(), more) {
            told.push(Violation { seq: None, what: format!("{more} further violations"), ..last });
        }
        told
    }
}
