//! From what is recorded with a run back to its workflow.

use std::sync::Arc;

use perennial_core::{Digest, FailureClass, failure::Failure};
use perennial_engine::{Definitions, NotRunnable, Workflow, workflow::BoxFuture};
use perennial_pipeline::{InvalidDefinition, Pipeline, RunSettings};
use perennial_store::{RunRecord, Store};
use perennial_tools::MockRules;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ProviderMode, ProviderTable};
use crate::pipelines::variable;

/// The settings recorded with a run: those of the pipeline, and who answers its calls.
pub(crate) fn recorded_settings(
    settings: &RunSettings,
    pipeline: &Pipeline,
    mode: ProviderMode,
    mocks: Option<Digest>,
    document: Option<&str>,
) -> Value {
    let mut value = settings.to_value();
    value["file"] = json!(pipeline.file());
    value["places"] = json!(pipeline.places());
    value["provider_mode"] = json!(mode);
    value["mocks"] = json!(mocks);
    if let Some(document) = document {
        value["document"] = json!(document);
    }
    value
}

/// The canonical path of the file that a run with these settings is of.
pub(crate) fn recorded_document(settings: &Value) -> Option<&str> {
    settings.get("document")?.as_str()
}

/// The mocks of a run with these settings.
pub(crate) fn recorded_mocks(settings: &Value) -> Option<Digest> {
    Digest::deserialize(settings.get("mocks")?).ok()
}

/// Where the steps of a run with these settings stand.
pub(crate) fn recorded_places(settings: &Value) -> Vec<String> {
    settings.get("places").and_then(|places| Vec::deserialize(places).ok()).unwrap_or_default()
}

/// Who answers the calls of a run with these settings.
pub(crate) fn recorded_mode(settings: &Value) -> Option<ProviderMode> {
    ProviderMode::deserialize(settings.get("provider_mode")?).ok()
}

#[derive(Deserialize)]
struct Recorded {
    provider_mode: ProviderMode,
    mocks: Option<Digest>,
}

/// With what lets the run go on, where something does.
fn not_readable(error: &InvalidDefinition) -> String {
    match error {
        InvalidDefinition::UnknownStep { .. } | InvalidDefinition::Newer { .. } => {
            format!("{error}; it goes on in a build that knows it, or by a corrected document")
        }
        InvalidDefinition::Json(_) | InvalidDefinition::NotCanonical => error.to_string(),
    }
}

#[derive(Debug)]
pub(crate) struct PipelineDefinitions {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) providers: Arc<ProviderTable>,
    /// The node that takes runs by itself, if it does. Whoever only says what shall become of a run needs no keys,
    /// and whoever is told to start or resume one has been asked for them before.
    pub(crate) takes_as: Option<String>,
}

impl PipelineDefinitions {
    /// Why a call that `pipeline` may make cannot be answered here, if `run` may be worked on here. It would
    /// only fail for good: it stays as it is, for a node that has the key.
    fn lacks(&self, run: &RunRecord, mode: ProviderMode, pipeline: &Pipeline) -> Option<Failure> {
        let node = self.takes_as.as_ref()?;
        let is_others =
            run.owner_alive && run.owner.as_ref().is_some_and(|owner| owner.node != *node);
        if mode != ProviderMode::Live || is_others {
            return None;
        }
        let why =
            pipeline.providers().into_iter().find_map(|kind| self.providers.unavailable(kind))?;
        Some(Failure::new(FailureClass::Internal, "PL709", why.to_string()))
    }
}

impl Definitions for PipelineDefinitions {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        Box::pin(self.read(run, definition, true))
    }

    fn revive_to_stop<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        Box::pin(self.read(run, definition, false))
    }
}

impl PipelineDefinitions {
    /// `executes`: it is gone on with here, so that nothing it needs may be missing.
    async fn read(
        &self,
        run: &RunRecord,
        definition: Vec<u8>,
        executes: bool,
    ) -> Result<Arc<dyn Workflow>, NotRunnable> {
        let refuse = |what: &str, why: String| NotRunnable {
            run: run.run.clone(),
            failure: Failure::new(FailureClass::Internal, "PL903", format!("{what}: {why}")),
        };
        let recorded = Recorded::deserialize(&run.settings)
            .map_err(|error| refuse("its settings cannot be read", error.to_string()))?;
        let mut settings = RunSettings::from_value(&run.settings)
            .map_err(|error| refuse("its settings cannot be read", error.to_string()))?;
        // They are not recorded; whoever resumes says which of them changed.
        settings.environment.read_secrets(&variable);
        let pipeline = Pipeline::revive(&definition)
            .map_err(|error| refuse("its definition cannot be read", not_readable(&error)))?
            .placed(&recorded_places(&run.settings));
        // It would only fail: it stays as it is until they are set.
        let read = pipeline.environment();
        let missing = settings.environment.missing_secrets();
        let missing = missing.into_iter().find(|name| read.iter().any(|r| r == name));
        if let Some(name) = missing.filter(|_| executes) {
            let why = format!("`{name}` was set when the run began, and is not set now");
            let failure = Failure::new(FailureClass::Internal, "PL217", why);
            return Err(NotRunnable { run: run.run.clone(), failure });
        }
        let lacks = self.lacks(run, recorded.provider_mode, &pipeline).filter(|_| executes);
        if let Some(failure) = lacks {
            return Err(NotRunnable { run: run.run.clone(), failure });
        }
        let mocks = match recorded.mocks {
            None => MockRules::default(),
            Some(digest) => {
                let bytes = self.store.blob(digest).await;
                let bytes =
                    bytes.map_err(|error| refuse("its mocks are gone", error.to_string()))?;
                MockRules::parse(&String::from_utf8_lossy(&bytes))
                    .map_err(|error| refuse("its mocks cannot be read", error.to_string()))?
            }
        };
        let providers = self.providers.of_mode(recorded.provider_mode, mocks);
        let workflow: Arc<dyn Workflow> = pipeline.shared().bind(settings, providers);
        Ok(workflow)
    }
}
