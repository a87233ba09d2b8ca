//! Further rounds of runs that have ended, or that nobody runs.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use perennial_core::{
    Digest,
    run::{InvalidTransition, JobKey, JobKind, JobState, RunId, RunState},
};
use perennial_store::{Again, NodeRef, Reopening, RunRecord, RunView, StageBack, StoreError};
use serde_json::Value;

use super::{RunError, RunHandle, Runs};
use crate::{
    Action, NotRunnable, Workflow,
    patience::{STORE_WITHIN, patiently},
    staged::{NoRound, Which, plan_round},
};

/// How a run that ended, or that nobody runs, goes on in a further round.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../../doc/attempts.txt")]
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
/// #     match cx.settings["hello"].as_str() {
/// #         Some("Ada") => Err(Failure::new(perennial::records::FailureClass::Tool, "APP1", "asleep")),
/// #         _ => Ok(cx.settings["hello"].clone()),
/// #     }
/// # }
/// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
/// # let settings = serde_json::json!({"hello": "Ada"});
/// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
/// use std::collections::BTreeMap;
/// use perennial::engine::{RecordedCalls, ReopenRun};
///
/// assert_eq!(run.outcome().await?.state.name(), "failed"); // Ada was asleep
/// let reopen = ReopenRun {
///     view: run.view().await?,
///     workflow: Arc::new(Greet(Definition::new(b"greet 1".to_vec()))),
///     settings: serde_json::json!({"hello": "Bob"}),
///     within: None,
///     again: BTreeMap::from([(JobKey::new("say"), RecordedCalls::Kept)]),
/// };
/// let run = runtime.runs().reopen(reopen).await?;
/// assert_eq!(run.outcome().await?.view.jobs[0].result, Some("Bob".into()));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReopenRun {
    /// What was read of it when this was decided.
    pub view: RunView,
    /// What it executes from now on.
    pub workflow: Arc<dyn Workflow>,
    /// Inputs and settings from now on.
    pub settings: Value,
    /// When it must have ended, counted from now.
    pub within: Option<Duration>,
    /// What becomes of its jobs: those named lose their results and are made again, with or without
    /// their recorded calls; what has not ended is made again in any case.
    pub again: BTreeMap<JobKey, RecordedCalls>,
}

/// What becomes of the recorded calls of a job that is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedCalls {
    /// Their replies are taken again, and nothing is paid twice (YR-51).
    Kept,
    /// They are made again.
    Forgotten,
}

/// What a further round begins with.
struct Round {
    settings: Value,
    within: Duration,
    again: Vec<Again>,
    stages: Vec<StageBack>,
}

impl ReopenRun {
    /// Another try of what failed in a run that has ended, by the same workflow and with the same settings:
    /// of the one job that is named, or of all. Each has all of its attempts again; what its earlier ones
    /// have recorded and saved is taken again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../../doc/attempts.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     match cx.attempt {
    ///         1 => Err(Failure::new(perennial::records::FailureClass::Tool, "APP1", "asleep")),
    ///         _ => Ok("awake".into()),
    ///     }
    /// }
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow: workflow.clone(), settings, within: None, priority: Default::default() }).await?;
    /// use perennial::engine::ReopenRun;
    ///
    /// assert_eq!(run.outcome().await?.state.name(), "failed");
    /// let again = ReopenRun::retrying(run.view().await?, workflow, None)?;
    /// let outcome = runtime.runs().reopen(again).await?.outcome().await?;
    /// assert_eq!(outcome.view.jobs[0].result, Some("awake".into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when no job, or not the one that is named, has failed.
    pub fn retrying(
        view: RunView,
        workflow: Arc<dyn Workflow>,
        job: Option<&JobKey>,
    ) -> Result<Self, StoreError> {
        let failed = view.jobs.iter().filter(|one| one.state == JobState::Failed);
        let which = failed.filter(|one| job.is_none_or(|job| *job == one.key));
        let again: BTreeMap<JobKey, RecordedCalls> =
            which.map(|one| (one.key.clone(), RecordedCalls::Kept)).collect();
        if again.is_empty() {
            let id = job.map_or_else(|| view.run.run.to_string(), ToString::to_string);
            return Err(StoreError::NotFound { what: "failed step", id });
        }
        let settings = view.run.settings.clone();
        Ok(Self { view, workflow, settings, within: None, again })
    }
}

impl Runs {
    /// Opens a run for a further round: one that failed, timed out or was cancelled, whichever node ran it, or one
    /// that has not ended and that nobody runs. It is one transaction, from what `reopen` was decided from: of
    /// two that ask at the same time one is refused with [`StoreError::Conflict`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../../doc/one_job.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None, priority: Default::default() }).await?;
    /// # run.outcome().await?;
    /// use std::collections::BTreeMap;
    /// use perennial::{engine::ReopenRun, records::RunError};
    ///
    /// let view = run.view().await?;
    /// let (workflow, settings) = (Arc::new(Greet(Definition::new(b"greet 1".to_vec()))), view.run.settings.clone());
    /// let reopen = ReopenRun { view, workflow, settings, within: None, again: BTreeMap::new() };
    /// let refused = runtime.runs().reopen(reopen).await;
    /// assert!(matches!(refused, Err(RunError::Ended { .. }))); // it has succeeded, and stays so
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RunError`]; the run is then left as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a reopened run, which then continues.
    pub async fn reopen(&self, reopen: ReopenRun) -> Result<RunHandle, RunError> {
        self.require(Action::Reopen, Some(&reopen.view.run.run)).await?;
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let RunView { run: record, jobs, .. } = &reopen.view;
        let (run, state) = (record.run.clone(), record.state);
        if state.is_terminal() && !state.may_reopen() {
            return Err(RunError::ended(record));
        }
        if jobs.iter().any(|job| job.kind != JobKind::Step) {
            let why = "it is in stages: what is made again of it is said by `RunHandle::retry`";
            return Err(NotRunnable::new(record, why).into());
        }
        let node = self.services.node().await?;
        // Whoever ran one that has ended has nothing left to do of it.
        if let Some(owner) = &record.owner
            && record.owner_alive
            && !state.is_terminal()
            && *owner != node
        {
            return Err(RunError::OwnedElsewhere { run, node: owner.node.clone() });
        }
        let again = jobs.iter().filter_map(|job| {
            let calls = reopen.again.get(&job.key).copied();
            let calls = calls.or_else(|| (!job.state.is_terminal()).then_some(RecordedCalls::Kept));
            let forget_calls = calls? == RecordedCalls::Forgotten;
            Some(Again { forget_calls, ..Again::asked_for(job.id) })
        });
        let again: Vec<Again> = again.collect();
        let within = reopen.within.unwrap_or(self.services.settings.run_timeout);
        let round = Round { settings: reopen.settings, within, again, stages: Vec::new() };
        self.open(record, node, reopen.workflow, round).await?;
        Ok(RunHandle { runs: self.clone(), run })
    }

    /// What [`RunHandle::retry`] does.
    pub(super) async fn retry(
        &self,
        run: &RunId,
        which: &Which,
        cascade: bool,
    ) -> Result<u64, RunError> {
        self.require(Action::Retry, Some(run)).await?;
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let view = self.view(run).await?;
        let record = &view.run;
        let state = record.state;
        if !state.is_terminal() || state == RunState::Succeeded {
            let (from, to) = (state.name(), RunState::Running.name());
            return Err(StoreError::from(InvalidTransition { what: "run", from, to }).into());
        }
        let workflow = self.revived(record).await?;
        let now = self.services.store.now();
        let planned = panic::catch_unwind(AssertUnwindSafe(|| {
            workflow.staging().map(|staging| plan_round(&view, staging, which, cascade, now))
        }));
        let round = match planned {
            Ok(Some(Ok(round))) => round,
            Ok(Some(Err(NoRound::Nothing))) => {
                let id = match which {
                    Which::Failed => run.to_string(),
                    Which::Stage(stage) => stage.clone(),
                    Which::Job(job) => job.to_string(),
                };
                return Err(StoreError::NotFound { what: "failed job", id }.into());
            }
            Ok(Some(Err(NoRound::Undone))) => {
                return Err(RunError::Undone { run: run.clone(), state });
            }
            Ok(Some(Err(NoRound::WouldInvalidate(stages)))) => {
                return Err(RunError::WouldInvalidate { run: run.clone(), stages });
            }
            Ok(None) => {
                let why = "it has no stages: a further round of it is opened by `Runs::reopen`";
                return Err(NotRunnable::new(record, why).into());
            }
            Err(_) => return Err(NotRunnable::new(record, "one of its edges panicked").into()),
        };
        let node = self.services.node().await?;
        let affected = round.again.len() as u64;
        let settings = record.settings.clone();
        let within = self.services.settings.run_timeout;
        let round = Round { settings, within, again: round.again, stages: round.stages };
        self.open(record, node, workflow, round).await?;
        Ok(affected)
    }

    /// Opens `round` of the run that was read as `record`, by `workflow` on `node`, if it is still as it was read.
    async fn open(
        &self,
        record: &RunRecord,
        node: NodeRef,
        workflow: Arc<dyn Workflow>,
        round: Round,
    ) -> Result<(), RunError> {
        let definition = workflow.definition();
        let reopening = Reopening {
            run: record.run.clone(),
            expected_revision: record.revision,
            owner: node,
            definition: definition.digest,
            definition_bytes: definition.bytes.to_vec(),
            input_digest: Digest::of_json(&round.settings),
            settings: round.settings,
            deadline: Some(self.services.store.now().after(round.within)),
            again: round.again,
            stages: round.stages,
        };
        let request = || self.services.store.reopen_run(reopening.clone());
        patiently(STORE_WITHIN, request).await?;
        self.scheduler.ensure(&record.run, Some(workflow), true).await??;
        Ok(())
    }
}
