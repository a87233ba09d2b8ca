//! A folder in which a document is run, step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::stream;
use perennial_core::{
    Timestamp,
    failure::Failure,
    llm::{ChatRequest, FinishReason, Usage},
    run::{IdempotencyKey, JobState, RunId},
};
use perennial_engine::{
    AttemptCx, CallJournal, DoneJob, FailureMeans, Next, Outcome, workflow::BoxFuture,
};
use perennial_pipeline::{
    CallDefaults, Pipeline, ProviderKind, Providers, Resolved, RunDirectories, RunEnvironment,
    RunSettings,
};
use perennial_tools::provider::{CallCx, Opening, Provider, ProviderEvent};
use serde_json::{Map, Value};
use tempfile::TempDir;

pub(crate) struct Folder(TempDir, Arc<Journal>);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), Arc::default())
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// From now on, calls have the replies that earlier ones were recorded with.
    pub(crate) fn keep_journal(&self) {
        self.1.replays.store(true, Ordering::SeqCst);
    }

    /// All files, by their paths.
    pub(crate) fn entries(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo = vec![self.0.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    todo.push(path);
                } else {
                    found.push(path.strip_prefix(self.0.path()).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    /// Runs `document` here, to its end or to its first failure; answers the records by step.
    pub(crate) async fn run(&self, document: &str) -> BTreeMap<String, Value> {
        let checked = Pipeline::check("flow.yaml", document.as_bytes());
        let pipeline = checked.pipeline.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        let usual = Resolved { model: "m".to_owned(), max_output: 100 };
        let calls =
            CallDefaults { claude: usual.clone(), gemini: usual, aliases: BTreeMap::default() };
        let directories = RunDirectories {
            directories: pipeline.directories().resolve(self.0.path()),
            documents: Vec::new(),
            allowed: Vec::new(),
            read_only: Vec::new(),
            led: BTreeMap::new(),
        };
        let inputs = pipeline.bind_inputs(&Map::new()).unwrap();
        let settings = RunSettings {
            inputs,
            calls,
            directories: Some(directories),
            environment: RunEnvironment::default(),
            anew: BTreeSet::new(),
        };
        // What runs was built again from what was recorded, as after a restart.
        let settings = RunSettings::from_value(&settings.to_value()).unwrap();
        let pipeline = Pipeline::revive(&pipeline.definition().bytes).unwrap();
        let workflow = Arc::new(pipeline).bind(settings, Arc::new(Parrots));
        let mut done: Vec<DoneJob> = Vec::new();
        while let Next::Jobs(mut plans) = workflow.next(&done) {
            let plan = plans.remove(0);
            let run = RunId::parse("01RUN").unwrap();
            let cx = AttemptCx::new(
                run.clone(),
                Timestamp::from_micros(1_795_221_237_120_000),
                Timestamp::from_micros(1_795_221_240_000_000),
                plan.key.clone(),
                1,
                Arc::new(Value::Null),
                done.clone().into(),
                IdempotencyKey::new("w", &run, "steps", &plan.key),
                self.1.clone(),
            );
            let (state, result) = match workflow.clone().execute(cx).await {
                Outcome::Succeeded(record) => (JobState::Succeeded, record),
                Outcome::Partial(record) => (JobState::Partial, record),
                Outcome::Skipped { record, .. } => (JobState::Skipped, record),
                Outcome::Failed(failure) => {
                    match workflow.on_failure(&plan.key, &failure, 1, &done) {
                        FailureMeans::Tolerate { record } => (JobState::Partial, record),
                        FailureMeans::FailRun { record } | FailureMeans::FailJob { record } => {
                            (JobState::Failed, record)
                        }
                    }
                }
                waits @ (Outcome::Unavailable(_) | Outcome::Suspend(_)) => panic!("{waits:?}"),
            };
            done.push(DoneJob { key: plan.key, state, result });
            if state == JobState::Failed {
                break;
            }
        }
        done.into_iter().map(|job| (job.key.to_string(), job.result)).collect()
    }
}

/// Answers `say X` with `X`.
#[derive(Debug)]
struct Parrot;

impl Provider for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn is_mock(&self) -> bool {
        true
    }

    fn chat<'a>(&'a self, request: &'a ChatRequest, _: &'a CallCx) -> Opening<'a> {
        let text = request.messages[0].text.trim_start_matches("say ").to_owned();
        let events = vec![
            ProviderEvent::Started { request_id: Some("r".into()), model: "parrot-1".into() },
            ProviderEvent::TextDelta {
                index: 0,
                text: if text.is_empty() { "-".into() } else { text },
            },
            ProviderEvent::Usage(Usage { input: 3.into(), output: 2.into(), ..Usage::default() }),
            ProviderEvent::Finished { reason: FinishReason::Stop, cost_nano_usd: Some(1) },
        ];
        Box::pin(async move { Ok(Box::pin(stream::iter(events)) as _) })
    }
}

#[derive(Debug)]
struct Parrots;

impl Providers for Parrots {
    fn provider(&self, _: ProviderKind) -> Result<Arc<dyn Provider>, Failure> {
        Ok(Arc::new(Parrot))
    }
}

/// Every call is made, until it is told to replay.
#[derive(Debug, Default)]
struct Journal {
    replays: AtomicBool,
    replies: Mutex<BTreeMap<String, Value>>,
}

impl CallJournal for Journal {
    fn begin<'a>(
        &'a self,
        name: &'a str,
        _: &'a IdempotencyKey,
    ) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        let recorded = self.replies.lock().unwrap().get(name).cloned();
        let recorded = recorded.filter(|_| self.replays.load(Ordering::SeqCst));
        Box::pin(async { Ok(recorded) })
    }

    fn record<'a>(&'a self, name: &'a str, reply: Value) -> BoxFuture<'a, Result<(), Failure>> {
        self.replies.lock().unwrap().insert(name.to_owned(), reply);
        Box::pin(async { Ok(()) })
    }

    fn settle<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}
