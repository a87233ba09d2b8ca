//! Pipelines driven without an engine, on the clock of the test.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::stream;
use perennial_core::{
    FailureClass, Timestamp,
    failure::Failure,
    llm::{ChatRequest, FinishReason},
    run::{IdempotencyKey, JobState, RunId},
};
use perennial_engine::{
    AttemptCx, CallJournal, DoneJob, FailureMeans, JobPlan, Next, Outcome, Warnings, Workflow,
    workflow::BoxFuture,
};
use perennial_pipeline::{
    CallDefaults, MemorySources, Pipeline, ProviderKind, Providers, Resolved, RunDirectories,
    RunSettings, SourceLoader,
};
use perennial_tools::{
    files::ChosenDirectories,
    provider::{CallCx, Opening, Provider, ProviderEvent},
};
use serde_json::{Map, Value, json};

/// Repeats the prompt, after the failures that were ordered.
#[derive(Debug, Default)]
pub(crate) struct Echoing {
    pub(crate) failures: AtomicU32,
    pub(crate) calls: AtomicU32,
}

impl Provider for Echoing {
    fn name(&self) -> &str {
        "echoing"
    }

    fn is_mock(&self) -> bool {
        true
    }

    fn chat<'a>(&'a self, request: &'a ChatRequest, _: &'a CallCx) -> Opening<'a> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let left = self.failures.load(Ordering::Relaxed);
        self.failures.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 {
            let failure = Failure::new(FailureClass::Overloaded, "PL703", "too busy");
            return Box::pin(async move { Err(failure) });
        }
        let events = vec![
            ProviderEvent::Started { request_id: None, model: "m".into() },
            ProviderEvent::TextDelta { index: 0, text: request.messages[0].text.clone() },
            ProviderEvent::Finished { reason: FinishReason::Stop, cost_nano_usd: None },
        ];
        Box::pin(async move { Ok(Box::pin(stream::iter(events)) as _) })
    }
}

#[derive(Debug)]
struct Only(Arc<Echoing>);

impl Providers for Only {
    fn provider(&self, _: ProviderKind) -> Result<Arc<dyn Provider>, Failure> {
        Ok(self.0.clone())
    }
}

/// Forgets everything: a call that was made is seen by the provider.
#[derive(Debug)]
struct NoJournal;

impl CallJournal for NoJournal {
    fn begin<'a>(
        &'a self,
        _: &'a str,
        _: &'a IdempotencyKey,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn record<'a>(&'a self, _: &'a str, _: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn settle<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

pub(crate) struct World {
    definition: Arc<[u8]>,
    settings: Value,
    pub(crate) provider: Arc<Echoing>,
    begun: tokio::time::Instant,
    warnings: Mutex<Vec<Arc<Warnings>>>,
}

pub(crate) fn world(document: &str, inputs: Value) -> World {
    loaded(&MemorySources::new().file("flow.yaml", document), inputs)
}

/// The same in the directories below `root`.
pub(crate) fn placed(document: &str, root: &Path) -> World {
    placed_by(document, root, ChosenDirectories::default())
}

/// The same in directories that somebody has chosen.
pub(crate) fn placed_by(document: &str, root: &Path, chosen: ChosenDirectories) -> World {
    let mut world = world(document, json!({}));
    let directories = chosen.resolve(root);
    let mut places = RunDirectories {
        directories,
        documents: Vec::new(),
        allowed: Vec::new(),
        read_only: Vec::new(),
        led: std::collections::BTreeMap::new(),
    };
    places.note_leads().unwrap();
    world.settings["directories"] = json!(places);
    world
}

/// The world of `flow.yaml` among other files.
pub(crate) fn loaded(sources: &MemorySources, inputs: Value) -> World {
    let checked = Pipeline::load(&sources.root("flow.yaml").unwrap(), sources);
    let pipeline = checked.pipeline.unwrap_or_else(|| panic!("{}", checked.diagnostics[0]));
    let usual = || Resolved { model: "m".to_owned(), max_output: 100 };
    let calls = CallDefaults { claude: usual(), gemini: usual(), aliases: [].into() };
    let inputs = pipeline.bind_inputs(inputs.as_object().unwrap()).unwrap();
    let environment = pipeline.bind_environment("key", &|name| sources.variable(name));
    World {
        definition: pipeline.definition().bytes.clone(),
        settings: RunSettings {
            inputs,
            calls,
            directories: None,
            environment,
            anew: BTreeSet::new(),
        }
        .to_value(),
        provider: Arc::default(),
        begun: now(),
        warnings: Mutex::default(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of a test is told to stand still")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

impl World {
    /// The workflow as a process that has just started builds it.
    pub(crate) fn workflow(&self) -> Arc<dyn Workflow> {
        let pipeline = Pipeline::revive(&self.definition).unwrap();
        let settings = RunSettings::from_value(&self.settings).unwrap();
        Arc::new(pipeline).bind(settings, Arc::new(Only(self.provider.clone())))
    }

    fn attempt(
        &self,
        workflow: &Arc<dyn Workflow>,
        plan: &JobPlan,
        done: &[DoneJob],
    ) -> BoxFuture<'static, Outcome> {
        let run = RunId::parse("01RUN").unwrap();
        let key = IdempotencyKey::new(workflow.name(), &run, "steps", &plan.key);
        let started = Timestamp::from_micros(1_795_221_237_120_000);
        let cx = AttemptCx::new(
            run,
            started,
            started.after(self.begun.elapsed()),
            plan.key.clone(),
            1,
            Arc::new(Value::Null),
            done.to_vec().into(),
            key,
            Arc::new(NoJournal),
        );
        self.warnings.lock().unwrap().push(cx.warnings.clone());
        workflow.clone().execute(cx)
    }

    /// Does what is due next; the state of the job, or nothing when all is done.
    pub(crate) async fn step(&self, done: &mut Vec<DoneJob>) -> Option<JobState> {
        let workflow = self.workflow();
        let plan = match workflow.next(done) {
            Next::Seal => return None,
            Next::Jobs(plans) => plans.into_iter().next().unwrap(),
        };
        let outcome = self.attempt(&workflow, &plan, done).await;
        let (state, result) = match outcome {
            Outcome::Succeeded(record) => (JobState::Succeeded, record),
            Outcome::Partial(record) => (JobState::Partial, record),
            Outcome::Skipped { record, .. } => (JobState::Skipped, record),
            Outcome::Failed(failure) => match workflow.on_failure(&plan.key, &failure, 1, done) {
                FailureMeans::Tolerate { record } => (JobState::Partial, record),
                FailureMeans::FailRun { record } | FailureMeans::FailJob { record } => {
                    (JobState::Failed, record)
                }
            },
            waits @ (Outcome::Unavailable(_) | Outcome::Suspend(_)) => panic!("{waits:?}"),
        };
        done.push(DoneJob { key: plan.key, state, result });
        Some(state)
    }

    /// Runs to the end, or to the failure of the run.
    pub(crate) async fn run(&self) -> Vec<DoneJob> {
        let mut done = Vec::new();
        while self.step(&mut done).await.is_some_and(|state| state != JobState::Failed) {}
        done
    }

    /// What every job left, by its key.
    pub(crate) async fn results(&self) -> Map<String, Value> {
        self.run().await.into_iter().map(|job| (job.key.to_string(), job.result)).collect()
    }

    /// What all attempts warned of, in order.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap().iter().flat_map(|warnings| warnings.all()).collect()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// A document whose steps are `steps`, indented by two.
pub(crate) fn flow(steps: &str) -> String {
    let mut document = "workflow:\n  name: parent\n  language: 1\n  steps:\n".to_owned();
    for line in steps.lines() {
        document.push_str(&format!("    {line}\n"));
    }
    document
}

/// What the steps of a document without inputs leave.
pub(crate) async fn run(steps: &str) -> Map<String, Value> {
    world(&flow(steps), json!({})).results().await
}
