//! What runs wait for, with the reason, and which runs hold a place.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dashmap::DashMap;
use perennial_core::{FailureClass, Timestamp, run::RunId};
use serde::{Serialize, Serializer};

/// Runs that a dump lists; `waiting_count` says how many there are.
const LISTED_MAX: usize = 256;

/// Characters of a failure that are told.
const MESSAGE_MAX: usize = 300;

/// What a run waits for. It is recorded, and goes on by itself when that is there; a paused run when
/// somebody says so.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Limits, ProviderMode, Runtime, StartPipeline, Store, WaitsWhy};
/// let limits = Limits { runs: 1, ..Limits::default() };
/// let runtime = Runtime::builder().store(Store::memory()).limits(limits).start().await?;
/// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
/// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
/// let first = runtime.pipelines().start(start.clone()).await?; // takes the only place
/// let second = runtime.pipelines().start(start).await?;
/// let waits = second.waits_for().expect("there is no place for it");
/// assert_eq!(waits.why, WaitsWhy::Place);
/// # first.cancel().await?;
/// # second.cancel().await?;
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WaitsFor {
    /// What, in one word.
    pub why: WaitsWhy,
    /// What, in words.
    #[serde(rename = "for")]
    pub what: String,
    /// Since when, as far as this process knows.
    #[serde(serialize_with = "as_text")]
    pub since: Timestamp,
    /// It does not go on before.
    #[serde(serialize_with = "as_text_if_any", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// It is waited for no longer.
    #[serde(serialize_with = "as_text_if_any", skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What happens then, in one word: `resume`, `skip` or `fail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// From then on less than a tenth of that time is left.
    #[serde(serialize_with = "as_text_if_any", skip_serializing_if = "Option::is_none")]
    pub late_from: Option<Timestamp>,
    /// Name of the signal or the question: whoever sends it, or answers it, ends the wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What makes it wait for another attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Whether it holds a place meanwhile.
    #[serde(skip)]
    pub(crate) needs_place: bool,
    /// It has asked for a place, and nobody has looked yet whether there is one.
    #[serde(skip)]
    pub(crate) has_just_asked: bool,
}

/// What a run waits for, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitsWhy {
    /// For a free place among the runs that may be active, behind those that come before it.
    Place,
    /// For the time of another attempt.
    Retry,
    /// For room among the attempts that may be under way on this node, behind those that come before it.
    Attempts,
    /// For somebody to let it go on.
    Pause,
    /// For something that a step needs and that is not available now.
    Unavailable,
    /// For the turn of a step, behind other jobs with its key in whatever runs.
    Turn,
    /// For a signal that somebody sends it.
    Signal,
    /// For somebody to answer a question.
    Answer,
    /// For an instant that a step asked for.
    Timer,
}

/// How the last attempt of a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LastFailure {
    /// The class of the failure.
    pub class: FailureClass,
    /// Its code.
    pub code: String,
    /// Its text, the beginning of it.
    pub message: String,
}

pub(crate) fn as_text<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&at.to_rfc3339())
}

pub(crate) fn as_text_if_any<S: Serializer>(
    at: &Option<Timestamp>,
    to: S,
) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_rfc3339()).serialize(to)
}

impl LastFailure {
    pub(crate) fn new(class: FailureClass, code: Option<&str>, message: Option<&str>) -> Self {
        let message = message.unwrap_or_default().chars().take(MESSAGE_MAX).collect();
        Self { class, code: code.unwrap_or_default().to_owned(), message }
    }
}

impl WaitsFor {
    pub(crate) fn new(why: WaitsWhy, what: impl Into<String>, since: Timestamp) -> Self {
        Self {
            why,
            what: what.into(),
            since,
            not_before: None,
            until: None,
            late_from: None,
            then: None,
            name: None,
            last_failure: None,
            needs_place: true,
            has_just_asked: false,
        }
    }

    /// Of a run that has just begun to need a place.
    pub(crate) fn just_asked(self) -> Self {
        Self { has_just_asked: true, ..self }
    }

    /// Whether it was looked for, and was not there. False for a moment of a run that has just begun to need a place, as
    /// one that was paused and goes on: there may well be one for it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Limits, ProviderMode, Runtime, StartPipeline, Store};
    /// # let limits = Limits { runs: 1, ..Limits::default() };
    /// # let runtime = Runtime::builder().store(Store::memory()).limits(limits).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let first = runtime.pipelines().start(start.clone()).await?; // takes the only place
    /// let second = runtime.pipelines().start(start).await?;
    /// assert!(second.waits_for().is_some_and(|waits| waits.is_missing()));
    /// # first.cancel().await?;
    /// # second.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_missing(&self) -> bool {
        !self.has_just_asked
    }
}

/// Runs that wait; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<DashMap<RunId, WaitsFor>>);

impl Waiting {
    /// It waits for that; since when it does so already stays. Answers whether it is new here.
    pub(crate) fn waits(&self, run: &RunId, mut what: WaitsFor) -> bool {
        let known = self.0.get(run).map(|known| (known.why, known.since));
        if let Some((why, since)) = known
            && why == what.why
        {
            what.since = what.since.min(since);
        }
        self.0.insert(run.clone(), what).is_none()
    }

    pub(crate) fn starts(&self, run: &RunId) {
        self.0.remove(run);
    }

    /// Whether another one than `run` waits.
    pub(crate) fn has_other(&self, run: &RunId) -> bool {
        self.0.iter().any(|entry| entry.key() != run)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn of(&self, run: &RunId) -> Option<WaitsFor> {
        self.0.get(run).map(|waits| waits.clone())
    }

    pub(crate) fn retain(&self, keep: impl Fn(&RunId) -> bool) {
        self.0.retain(|run, _| keep(run));
    }

    /// Those that wait longest, longest first, and how many there are in all.
    pub(crate) fn listed(&self) -> (Vec<(RunId, WaitsFor)>, usize) {
        let pairs = self.0.iter().map(|entry| (entry.key().clone(), entry.value().clone()));
        let mut all: Vec<(RunId, WaitsFor)> = pairs.collect();
        all.sort_by(|(a, x), (b, y)| (x.since, a).cmp(&(y.since, b)));
        let count = all.len();
        all.truncate(LISTED_MAX);
        (all, count)
    }
}

/// The runs that hold a place; cheap to clone. A paused run without an attempt under way holds none,
/// nor does one that is ending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<BTreeSet<RunId>>>);

impl Places {
    fn held(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It holds one of `most` from here on, or did already; otherwise how many are held.
    pub(crate) fn take(&self, run: &RunId, most: usize) -> Result<(), usize> {
        let mut held = self.held();
        if held.contains(run) {
            return Ok(());
        }
        if held.len() >= most {
            return Err(held.len());
        }
        held.insert(run.clone());
        Ok(())
    }

    pub(crate) fn holds(&self, run: &RunId) -> bool {
        self.held().contains(run)
    }

    /// Answers whether it held one.
    pub(crate) fn release(&self, run: &RunId) -> bool {
        self.held().remove(run)
    }

    pub(crate) fn retain(&self, keep: impl Fn(&RunId) -> bool) {
        self.held().retain(|run| keep(run));
    }

    pub(crate) fn count(&self) -> usize {
        self.held().len()
    }

    /// Who holds one, as many as are listed.
    pub(crate) fn listed(&self) -> Vec<RunId> {
        self.held().iter().take(LISTED_MAX).cloned().collect()
    }
}
