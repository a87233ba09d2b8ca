//! One run of a workflow, and how it ended.

use std::path::Path;

use perennial_core::run::{JobState, RunId, RunState};
use perennial_engine::{
    EventFeed, RunError, RunHandle, WaitsFor,
    performance::{Performance, Thresholds},
};
use perennial_pipeline::ResumePlan;
use perennial_store::{JobRecord, RunView};
use serde_json::{Map, Value};

use crate::View;

/// One run of a workflow.
#[derive(Clone, Debug)]
pub struct PipelineRunHandle {
    pub(super) run: RunHandle,
    pub(super) changed_secrets: Vec<String>,
    pub(super) resumed: Option<ResumePlan>,
}

/// How a run of a workflow ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineOutcome {
    /// Everything recorded of it.
    pub view: RunView,
    /// How it performed, by the thresholds of the runtime: durations, `usage`, cost, warnings (YR-24).
    pub performance: Performance,
}

impl PipelineRunHandle {
    pub(super) fn of(run: RunHandle) -> Self {
        Self { run, changed_secrets: Vec::new(), resumed: None }
    }

    /// What becomes of its steps, when it was opened for a further round.
    pub fn resumed(&self) -> Option<&ResumePlan> {
        self.resumed.as_ref()
    }

    /// Its id.
    pub fn id(&self) -> &RunId {
        self.run.id()
    }

    /// What it waits for: a free place, the time of another attempt, or the end of its pause. Nothing when
    /// it is under way, has ended, or belongs to another process.
    pub fn waits_for(&self) -> Option<WaitsFor> {
        self.run.waits_for()
    }

    /// Names of secrets of the environment that are not what they were when the run began, if it was
    /// resumed: they are not recorded, and were read again.
    pub fn changed_secrets(&self) -> &[String] {
        &self.changed_secrets
    }

    /// Its committed events, from the first on.
    pub fn events(&self) -> EventFeed {
        self.events_from(1)
    }

    /// Its events from `from` on (1 is the first), as they are committed.
    pub fn events_from(&self, from: u64) -> EventFeed {
        self.run.events(from)
    }

    /// Everything recorded of it, at one revision.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn view(&self) -> Result<RunView, RunError> {
        self.run.view().await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn outcome(&self) -> Result<PipelineOutcome, RunError> {
        let view = self.run.outcome().await?.view;
        let performance = self.run.performance_of(&view);
        Ok(PipelineOutcome { view, performance })
    }

    /// How it performed, or performs: durations, sizes, retries, and what passed `thresholds`.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn performance(&self, thresholds: &Thresholds) -> Result<Performance, RunError> {
        self.run.performance(thresholds).await
    }

    /// Pauses it: steps under way end and are recorded, and nothing more starts until
    /// [`unpause`](Self::unpause), over restarts of the process as well. Answers whether that changed
    /// anything.
    ///
    /// # Errors
    ///
    /// When it has ended, nobody here runs it, or the store is away.
    pub async fn pause(&self) -> Result<bool, RunError> {
        self.run.pause().await
    }

    /// Lets it go on where it stands. Answers whether that changed anything.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn unpause(&self) -> Result<bool, RunError> {
        self.run.unpause().await
    }

    /// Asks it to end; answers whether that changed anything.
    ///
    /// # Errors
    ///
    /// When nobody here runs it, or the store is away.
    pub async fn cancel(&self) -> Result<bool, RunError> {
        self.run.cancel().await
    }
}

impl PipelineOutcome {
    /// Its id.
    pub fn run_id(&self) -> &RunId {
        &self.view.run.run
    }

    /// Its state.
    pub fn state(&self) -> RunState {
        self.view.run.state
    }

    /// `completed`, `failed` or `cancelled`.
    pub fn status(&self) -> &'static str {
        self.state().status()
    }

    /// What a step of the workflow gave. Steps of a child are in the result of their step; the
    /// job of each is in the view.
    pub fn result(&self, step: &str) -> Option<&Value> {
        let job = self.steps().find(|job| job.key.step_name() == step)?;
        self.ended(job).result.as_ref()
    }

    /// What a step of the workflow gave, for looking at: cut where it is large.
    pub fn shown(&self, step: &str) -> Option<View<'_>> {
        let job = self.steps().find(|job| job.key.step_name() == step)?;
        let ended = self.ended(job);
        let made = self.view.attempts.iter().rfind(|attempt| attempt.job == ended.id);
        let at = made.and_then(|attempt| attempt.ended_at);
        Some(View::new(job.key.as_str(), ended.result.as_ref()?, at))
    }

    /// What all steps of the workflow gave, in order.
    pub fn results(&self) -> Map<String, Value> {
        let given = |job: &JobRecord| {
            let result = self.ended(job).result.clone()?;
            Some((job.key.step_name(), result))
        };
        self.steps().filter_map(given).collect()
    }

    /// What it warns of (YR-24): what its steps recorded as `warnings`, each with its step, and what passed
    /// a threshold.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        for job in self.view.jobs.iter().filter(|job| !job.key.is_opening()) {
            let recorded =
                job.result.as_ref().and_then(|result| result.get("warnings")?.as_array());
            let told = recorded.into_iter().flatten().filter_map(Value::as_str);
            all.extend(told.map(|warning| format!("{}: {warning}", job.key)));
        }
        all.extend(self.performance.warnings.iter().map(|warning| warning.message.clone()));
        all
    }

    /// Whether a step did only a part of its work, and the run went on.
    pub fn is_degraded(&self) -> bool {
        self.state() == RunState::PartiallySucceeded
            || self.steps().any(|job| job.state == JobState::Partial)
    }

    /// The jobs of the workflow's own steps.
    fn steps(&self) -> impl Iterator<Item = &JobRecord> {
        let own = |job: &&JobRecord| {
            job.key.depth() == 0 && !job.key.is_opening() && !job.key.closes_handler()
        };
        self.view.jobs.iter().filter(own)
    }

    /// The job that says what became of a step: the one that closed its handler, else its own.
    fn ended<'a>(&'a self, job: &'a JobRecord) -> &'a JobRecord {
        let handler = job.key.handler();
        self.view.jobs.iter().find(|other| other.key == handler).unwrap_or(job)
    }

    /// Files that steps left, each with its step: their paths below the directory of outputs, as they were named.
    pub fn files(&self) -> Vec<(&str, &str)> {
        let left = |job| -> Option<(&str, &str)> {
            let job: &JobRecord = job;
            Some((job.key.as_str(), job.result.as_ref()?.get("output_file")?.as_str()?))
        };
        self.view.jobs.iter().filter_map(left).collect()
    }

    /// Where they are; none when the run had no directories.
    pub fn output_dir(&self) -> Option<&Path> {
        let directories = self.view.run.settings.get("directories")?;
        directories.get("outputs")?.as_str().map(Path::new)
    }

    /// Attempts that had called out and ended without a recorded reply: the call may have happened.
    pub fn uncertain_attempts(&self) -> usize {
        self.view.attempts.iter().filter(|attempt| attempt.uncertain).count()
    }
}
