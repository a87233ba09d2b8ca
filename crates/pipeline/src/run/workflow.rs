//! The engine's view: which step is next, what a failure means, and one attempt of one step.

use std::{collections::HashSet, sync::Arc};

use perennial_core::{FailureClass, failure::Failure, run::JobKey};
use perennial_engine::{
    AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, Workflow,
    workflow::BoxFuture,
};

use super::{Providers, RunSettings, record};
use crate::definition::Pipeline;

/// A pipeline with the settings and providers of one run.
///
/// Steps run strictly in the order of the file (YR-10); each is a job whose key is its name.
#[derive(Debug)]
pub struct PipelineRun {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) settings: RunSettings,
    pub(super) providers: Arc<dyn Providers>,
}

impl Pipeline {
    /// Binds the pipeline to the settings of a run.
    pub fn bind(
        self: Arc<Self>,
        settings: RunSettings,
        providers: Arc<dyn Providers>,
    ) -> Arc<dyn Workflow> {
        Arc::new(PipelineRun { pipeline: self, settings, providers })
    }
}

impl Workflow for PipelineRun {
    fn name(&self) -> &str {
        self.pipeline.name()
    }

    fn definition(&self) -> &Definition {
        self.pipeline.definition()
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let steps = &self.pipeline.model.steps;
        // Steps end in the order of the file, so the last one that is done says which is next.
        let in_order = done.last().map_or(Some(0), |job| {
            let (place, _) = self.pipeline.step(&job.key)?;
            (place + 1 == done.len()).then_some(place + 1)
        });
        let next = match in_order {
            Some(place) => steps.get(place),
            None => {
                let done: HashSet<&JobKey> = done.iter().map(|job| &job.key).collect();
                steps.iter().find(|step| !done.contains(&step.key()))
            }
        };
        match next {
            None => Next::Seal,
            Some(step) => Next::Jobs(vec![JobPlan {
                key: step.key(),
                retry: step.retry,
                attempt_within: step.attempt_within(),
            }]),
        }
    }

    fn on_failure(&self, job: &JobKey, failure: &Failure, _attempt: u32) -> FailureMeans {
        let step = self.pipeline.step(job).map(|(_, step)| step);
        if step.is_some_and(|step| step.skip_on_error) {
            return FailureMeans::Tolerate { record: record::skipped_after(failure) };
        }
        let record = record::failed(step, job, failure);
        match step {
            Some(step) if step.continue_on_error => FailureMeans::Tolerate { record },
            Some(_) | None => FailureMeans::FailRun { record },
        }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            match self.attempt(&cx).await {
                Ok(outcome) => outcome,
                Err(failure) => Outcome::Failed(failure),
            }
        })
    }
}

/// A job that no step has: the run's definition is not the one it was started with.
pub(super) fn unknown_job(job: &JobKey) -> Failure {
    let text = format!("the definition has no step for the job `{job}`");
    Failure::new(FailureClass::Internal, "PL699", text)
}
