//! The care of the store itself: whether it is whole, and what goes.

use std::sync::Arc;

use perennial_core::run::RunId;
use perennial_store::{
    RemovedRun, Retained, Retention, RunSummary, Store, StoreError, VerifyCursor, VerifyStep,
    Violation,
};

use crate::{
    patience::{STORE_WITHIN, patiently},
    retention::{ROWS_MAX, add},
};

/// Events that are read at a time: some milliseconds.
const PIECE: u32 = 500;

/// Handle to the care of the store. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// assert!(runtime.upkeep().verify(None).rest().await?.is_empty()); // it is whole
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Upkeep {
    store: Arc<dyn Store>,
}

impl Upkeep {
    /// The care of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Checks the rows of `run`, or of everything, against the events: piece by piece, beside whatever works on it,
    /// and without changing anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// run.outcome().await?;
    /// let mut check = runtime.upkeep().verify(Some(run.id()));
    /// while let Some(step) = check.next().await? {
    ///     assert!(step.violations.is_empty() && step.events > 0);
    /// }
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify(&self, run: Option<&RunId>) -> Check {
        let first = run.map_or_else(VerifyCursor::start, |run| VerifyCursor::of(run.as_str()));
        Check { store: self.store.clone(), next: Some(first) }
    }

    /// Removes, now, the runs that `policy` does not keep, and blobs that nothing has used for an hour. The child
    /// `retention` of the tree does so every hour by the policy of the runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Retention, Runtime, StartPipeline, Store};
    /// # use std::time::Duration;
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// run.outcome().await?;
    /// let policy = Retention { completed: Some(Duration::ZERO), ..Retention::never() };
    /// assert_eq!(runtime.upkeep().retainable(policy, 20).await?.len(), 1);
    /// let retained = runtime.upkeep().retain(policy).await?;
    /// assert_eq!((retained.runs, runtime.upkeep().removed(20).await?.len()), (1, 1));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be written. What was removed by then stays removed.
    ///
    /// # Cancel safety
    ///
    /// What was removed by then stays removed; the next pass goes on.
    pub async fn retain(&self, policy: Retention) -> Result<Retained, StoreError> {
        let mut done = Retained::default();
        loop {
            let step = patiently(STORE_WITHIN, || self.store.retain(policy, ROWS_MAX)).await?;
            add(&mut done, step);
            if !step.more {
                return Ok(done);
            }
        }
    }

    /// At most `limit` of the runs that [`Upkeep::retain`] would remove, those that ended first at the front.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Retention, Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert!(runtime.upkeep().retainable(Retention::default(), 20).await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn retainable(
        &self,
        policy: Retention,
        limit: u32,
    ) -> Result<Vec<RunSummary>, StoreError> {
        patiently(STORE_WITHIN, || self.store.retainable(policy, limit)).await
    }

    /// Removes a run that has ended, whatever its age.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// run.outcome().await?;
    /// runtime.upkeep().purge(run.id()).await?;
    /// assert!(runtime.runs().list(20).await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidState`] when it has not ended, [`StoreError::NotFound`] when there is none; and when the
    /// store cannot be written.
    ///
    /// # Cancel safety
    ///
    /// As [`Upkeep::retain`]; once begun, the next pass ends it.
    pub async fn purge(&self, run: &RunId) -> Result<Retained, StoreError> {
        let mut tries = 0_u32;
        let purge = || {
            tries += 1;
            self.store.purge(run)
        };
        match patiently(STORE_WITHIN, purge).await {
            // An earlier try had done it, and its answer was lost.
            Err(StoreError::Removed { .. }) if tries > 1 => (),
            outcome => outcome?,
        }
        self.retain(Retention::never()).await
    }

    /// Runs that were removed and whose ids are still taken, the last ones first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert!(runtime.upkeep().removed(20).await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn removed(&self, limit: u32) -> Result<Vec<RemovedRun>, StoreError> {
        patiently(STORE_WITHIN, || self.store.removed(limit)).await
    }
}

/// A check under way; see [`Upkeep::verify`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// runtime.sessions().create("support").await?;
/// let first = runtime.upkeep().verify(None).next().await?.expect("there is a stream");
/// assert!(first.complete && first.violations.is_empty());
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is checked until it is asked for the next step"]
pub struct Check {
    store: Arc<dyn Store>,
    next: Option<VerifyCursor>,
}

impl Check {
    /// Checks the next piece; none when all is checked.
    ///
    /// # Errors
    ///
    /// When the run is not there, or the store cannot be read. What cannot be understood is a violation.
    ///
    /// # Cancel safety
    ///
    /// A step that is dropped is made again by the next call.
    pub async fn next(&mut self) -> Result<Option<VerifyStep>, StoreError> {
        let Some(cursor) = &self.next else { return Ok(None) };
        let step = patiently(STORE_WITHIN, || self.store.verify(cursor.clone(), PIECE)).await?;
        self.next = step.next.clone();
        Ok(Some(step))
    }

    /// What is wrong, of all that has not been checked yet.
    ///
    /// # Errors
    ///
    /// As [`Check::next`].
    pub async fn rest(mut self) -> Result<Vec<Violation>, StoreError> {
        let mut found = Vec::new();
        while let Some(step) = self.next().await? {
            found.extend(step.violations);
        }
        Ok(found)
    }
}
