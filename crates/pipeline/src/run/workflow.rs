//! The engine's view: which step is next, what a failure means, and one attempt of one step.

use std::{borrow::Cow, collections::HashSet, sync::Arc, time::Duration};

use perennial_core::{
    FailureClass,
    failure::Failure,
    retry::RetryPolicy,
    run::{JobKey, SkipReason},
};
use perennial_engine::observer::Observer;
use perennial_engine::{
    AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, Workflow,
    workflow::BoxFuture,
};
use perennial_tools::files::Files;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{
    Providers, RunSettings,
    children::Children,
    export::Exporter,
    handler,
    limits::Measured,
    places::Places,
    record,
    secrets::Secrets,
    tree::{self, Done, Due, Frame, Role},
};
use crate::{definition::Pipeline, environment::substituted};

/// A pipeline with the settings and providers of one run.
///
/// Steps run strictly in the order of the file (YR-10); each is a job whose key is its path.
#[derive(Debug)]
pub struct PipelineRun {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) settings: RunSettings,
    pub(super) providers: Arc<dyn Providers>,
    /// Children that were loaded by its steps.
    pub(super) children: Children,
    /// Takes secrets out of what is recorded.
    pub(super) secrets: Option<Secrets>,
    /// Opened by the first step that needs them.
    pub(super) files: OnceCell<Files>,
    /// What its results hold, for limits.
    pub(super) measured: Measured,
}

impl Pipeline {
    /// Binds the pipeline to the settings of a run.
    pub fn bind(
        self: Arc<Self>,
        settings: RunSettings,
        providers: Arc<dyn Providers>,
    ) -> Arc<dyn Workflow> {
        let secrets = settings.environment.redaction().map(Secrets::new);
        let files = OnceCell::new();
        let children = Children::default();
        let measured = Measured::default();
        Arc::new(PipelineRun {
            pipeline: self,
            settings,
            providers,
            children,
            secrets,
            files,
            measured,
        })
    }
}

impl PipelineRun {
    /// A value of a document, with variables of the environment in its texts.
    pub(super) fn bound<'v>(&self, value: &'v Value) -> Cow<'v, Value> {
        let variable = |name: &str| self.settings.environment.get(name).map(str::to_owned);
        if names_variables(value) {
            Cow::Owned(substituted(value, &variable))
        } else {
            Cow::Borrowed(value)
        }
    }
}

/// Whether a text in `value` may name a variable of the environment.
fn names_variables(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.contains("${"),
        Value::Array(items) => items.iter().any(names_variables),
        Value::Object(map) => map.values().any(names_variables),
    }
}

impl Workflow for PipelineRun {
    fn name(&self) -> &str {
        self.pipeline.name()
    }

    fn observer(self: Arc<Self>) -> Option<Box<dyn Observer>> {
        // Without directories there is no place for them.
        self.settings.directories.as_ref()?;
        let exports = self.pipeline.exports()?;
        Some(Box::new(Exporter::new(self, exports)))
    }

    fn definition(&self) -> &Definition {
        self.pipeline.definition()
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        if self.pipeline.has_scopes() {
            let done = tree::index(done);
            let due = tree::due(&self.pipeline.model, &self.children, &done);
            return due.map_or(Next::Seal, |due| Next::Jobs(vec![due.plan()]));
        }
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
            Some(step) => {
                let plan = JobPlan::new(step.key(), step.retry, step.attempt_within());
                Next::Jobs(vec![plan.clamped()])
            }
        }
    }

    fn on_failure(
        &self,
        job: &JobKey,
        failure: &Failure,
        attempt: u32,
        done: &[DoneJob],
    ) -> FailureMeans {
        let done = tree::index(done);
        match self.due(job, &done) {
            Some(due) => due.meaning(job, failure, attempt),
            None => FailureMeans::FailRun { record: record::failed(None, job, failure) },
        }
    }

    fn on_skip(&self, _: &JobKey, _: SkipReason, why: &str) -> Value {
        record::skipped_because(why)
    }

    fn is_made_good(&self, job: &DoneJob, done: &[DoneJob]) -> bool {
        if !self.pipeline.has_scopes() {
            return false;
        }
        let done = tree::index(done);
        let places = if job.key.is_cut() {
            let recorded = done.jobs().iter().map(|job| (&job.key, Some(&job.result)));
            Places::of(&[&self.pipeline.model], &self.children, recorded)
        } else {
            Places::default()
        };
        tree::was_repeated(places.whole(&job.key), &done)
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

impl PipelineRun {
    /// The scope of the run itself.
    pub(super) fn root(&self) -> Frame<'_> {
        Frame::root(&self.pipeline.model, &self.children)
    }

    /// The place of `job` in the tree of steps, when it is due.
    pub(super) fn due<'a>(&'a self, job: &JobKey, done: &Done<'a>) -> Option<Due<'a>> {
        if !self.pipeline.has_scopes() {
            let (_, step) = self.pipeline.step(job)?;
            return Some(Due { frames: vec![self.root()], step, role: Role::Whole });
        }
        tree::due(&self.pipeline.model, &self.children, done).filter(|due| due.key() == *job)
    }
}

/// How long opening or closing a scope may take.
const BOOKKEEPING: Duration = Duration::from_secs(60);

impl Due<'_> {
    fn key(&self) -> JobKey {
        let scope = self.frames.last().map(Frame::place).unwrap_or_default();
        let path = scope.step(&self.step.name);
        match self.role {
            Role::Open(round) => path.round(round).opening(),
            Role::Whole | Role::Close(_) => path.key(),
            Role::OpenHandler => path.handler().opening(),
            Role::CloseHandler(_) => path.handler().key(),
        }
    }

    fn plan(&self) -> JobPlan {
        let (retry, attempt_within) = match self.role {
            Role::Whole => (self.step.retry, self.step.attempt_within()),
            Role::Open(round) => {
                let pause = super::nested::pause(self.step, round);
                (RetryPolicy::ONCE, BOOKKEEPING.saturating_add(pause))
            }
            Role::Close(_) | Role::OpenHandler | Role::CloseHandler(_) => {
                (RetryPolicy::ONCE, BOOKKEEPING)
            }
        };
        // The time of a run cuts that of its steps.
        JobPlan::new(self.key(), retry, attempt_within).clamped()
    }

    /// What the final failure of the job means. Inside a scope it means nothing yet: the job that
    /// closes the scope says what becomes of it.
    fn meaning(&self, job: &JobKey, failure: &Failure, attempt: u32) -> FailureMeans {
        let record = record::failed(Some(self.step), job, failure);
        let inside = self.frames.len() > 1;
        let stopped = tree::is_stopped(&self.frames, &record);
        let in_child = self.frames.iter().any(|frame| frame.opened.is_some());
        match &self.role {
            Role::CloseHandler(closing) => return closing.meaning(inside),
            Role::Open(_) | Role::OpenHandler => return FailureMeans::Tolerate { record },
            Role::Whole | Role::Close(_) if stopped && in_child => {
                return FailureMeans::Tolerate { record };
            }
            // A limit of the run, which no policy of a step forgives.
            Role::Whole | Role::Close(_) if stopped => return FailureMeans::FailRun { record },
            Role::Whole | Role::Close(_) => (),
        }
        if self.step.handler.is_some() {
            return FailureMeans::Tolerate { record: handler::record_to_handle(record, attempt) };
        }
        let nested = self.step.nested();
        if let Some(fallback) = nested.and_then(|nested| nested.fallback.as_ref()) {
            return FailureMeans::Tolerate { record: record::degraded(&fallback.0, failure) };
        }
        if self.step.skip_on_error {
            return FailureMeans::Tolerate { record: record::skipped_after(failure) };
        }
        if self.step.continue_on_error {
            let captures = nested.is_none_or(|nested| nested.capture_errors);
            let record = if captures { record } else { record::without_error(record) };
            return FailureMeans::Tolerate { record };
        }
        if inside { FailureMeans::Tolerate { record } } else { FailureMeans::FailRun { record } }
    }
}

/// A job that no step has: the run's definition is not the one it was started with.
pub(super) fn unknown_job(job: &JobKey) -> Failure {
    let text = format!("the definition has no step for the job `{job}`");
    Failure::new(FailureClass::Internal, "PL699", text)
}
