//! The resolved definition: what runs, what is hashed, and what another process builds again.

mod binding;
mod files;
mod input;
mod lenience;
mod model;
mod nested;
mod ordered;
mod prompt;

use std::{collections::HashMap, sync::Arc, time::Duration};

use perennial_core::{digest::canonical_json, run::JobKey};
use perennial_engine::Definition;

pub(crate) use binding::schema_violations;
pub use binding::{InputErrors, InvalidInput};
pub use files::Exports;
pub(crate) use files::{DocumentFiles, Effects, OutputFile};
pub use input::{Input, InputType};
pub use lenience::{InvalidLeniency, Leniency};
pub(crate) use lenience::{LEEWAYS, Lenience, MissingHole, UNDECIDED};
pub use model::ProviderKind;
pub(crate) use model::{
    Assign, Chat, ChatOptions, Cleared, Echo, Location, Model, Step, StepKind, VariableScope, Write,
};
pub(crate) use nested::{
    MAX_DEPTH, MAX_TOTAL_STEPS, MEMORY_LIMIT_MB, Nested, OnTimeout, Output, WITHIN_MS,
};
pub(crate) use ordered::Ordered;
pub(crate) use prompt::{Part, PartTarget, PreviousResponse, PromptPart, Shaping, Summary};

/// Version of the language this build speaks.
pub const LANGUAGE: u32 = 1;

/// A workflow that was checked, or built again from its definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    pub(crate) model: Model,
    definition: Definition,
    /// Place of every step, by the key of its job.
    places: HashMap<JobKey, usize>,
}

/// Bytes that are no definition of this language.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDefinition {
    /// They are not the JSON of a definition.
    #[error("not a definition of this language: {0}")]
    Json(#[from] serde_json::Error),
    /// They were written by a newer build.
    #[error("the definition is of language {found}; this build knows {LANGUAGE}")]
    Newer {
        /// The version that was found.
        found: u32,
    },
    /// Reading and writing them does not give the same bytes.
    #[error("the definition is not in canonical form")]
    NotCanonical,
}

impl Pipeline {
    pub(crate) fn of(model: Model) -> Self {
        let value = serde_json::to_value(&model).expect("a model has text keys only");
        let definition = Definition::new(canonical_json(&value).into_bytes());
        let places = model.steps.iter().enumerate().map(|(place, step)| (step.key(), place));
        Self { places: places.collect(), model, definition }
    }

    /// Builds the pipeline of a definition again.
    ///
    /// # Errors
    ///
    /// When the bytes are no definition, or not in the form [`Pipeline::definition`] writes.
    pub fn revive(bytes: &[u8]) -> Result<Self, InvalidDefinition> {
        let model: Model = serde_json::from_slice(bytes)?;
        if model.language > LANGUAGE {
            return Err(InvalidDefinition::Newer { found: model.language });
        }
        let pipeline = Self::of(model);
        if *pipeline.definition.bytes != *bytes {
            return Err(InvalidDefinition::NotCanonical);
        }
        Ok(pipeline)
    }

    /// Name of the workflow.
    pub fn name(&self) -> &str {
        &self.model.name
    }

    /// Canonical bytes of the resolved definition, and their digest.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The file it was read from, as it was named.
    pub fn file(&self) -> &str {
        &self.model.file
    }

    /// Labels of the workflow.
    pub fn tags(&self) -> Vec<String> {
        let tags = self.model.facts.0.get("tags").and_then(|tags| tags.as_array());
        tags.into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
    }

    /// How long a run may take, when the document says so.
    pub fn within(&self) -> Option<Duration> {
        self.model.within_ms.map(Duration::from_millis)
    }

    /// Names of its steps, in order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model.steps.iter().map(|step| step.name.as_str())
    }

    /// Its inputs, declared and implied.
    pub fn inputs(&self) -> &[Input] {
        &self.model.inputs
    }

    /// Names of the inputs without which no run can start.
    pub fn required_inputs(&self) -> Vec<&str> {
        let required = |input: &&Input| input.required && input.default.is_none();
        self.model.inputs.iter().filter(required).map(|input| input.name.as_str()).collect()
    }

    /// The directories the document names; relative ones lie below the project root.
    pub fn directories(&self) -> perennial_tools::files::ChosenDirectories {
        let files = &self.model.files;
        let path = |text: &Option<String>| text.as_ref().map(std::path::PathBuf::from);
        perennial_tools::files::ChosenDirectories {
            project_root: None,
            workspace: path(&files.workspace_dir),
            outputs: path(&files.output_dir),
            checkpoints: path(&files.checkpoint_dir),
        }
    }

    /// Whether a run of it works in directories: the document names one, exports, or has a step with files.
    pub fn uses_directories(&self) -> bool {
        !self.model.files.is_default()
            || self.model.all_steps().into_iter().any(|step| step.output_to_file.is_some())
    }

    /// When checkpoints of its runs are exported.
    pub fn exports(&self) -> Option<Exports> {
        self.model.files.exports
    }

    /// The kinds of provider its steps and those of its children call, each once.
    pub fn providers(&self) -> Vec<ProviderKind> {
        let mut kinds: Vec<ProviderKind> =
            self.model.all_steps().into_iter().filter_map(|step| step.kind.provider()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The first step that calls `kind` and names no model.
    pub fn step_without_model(&self, kind: ProviderKind) -> Option<&str> {
        let nameless = |step: &&Step| match &step.kind {
            StepKind::Chat(chat) => chat.provider == kind && chat.options.model.is_none(),
            StepKind::Echo(_) | StepKind::SetVariable(_) | StepKind::Pipeline(_) => false,
        };
        let found = self.model.all_steps().into_iter().find(nameless)?;
        Some(found.name.as_str())
    }

    /// Steps that let a model use tools, and which.
    pub fn steps_with_tools(&self) -> Vec<(&str, &[String])> {
        fn named(step: &Step) -> &[String] {
            match &step.kind {
                StepKind::Chat(chat) => chat.options.allowed_tools.as_deref().unwrap_or_default(),
                StepKind::Echo(_) | StepKind::SetVariable(_) | StepKind::Pipeline(_) => &[],
            }
        }
        let steps = self.model.all_steps().into_iter();
        let found = steps.map(|step| (step.name.as_str(), named(step)));
        found.filter(|(_, tools)| !tools.is_empty()).collect()
    }

    /// Whether steps of it have steps of their own.
    pub(crate) fn has_scopes(&self) -> bool {
        self.model.steps.iter().any(|step| step.nested().is_some())
    }

    /// The step of a job, and its place in the order.
    pub(crate) fn step(&self, job: &JobKey) -> Option<(usize, &Step)> {
        let place = *self.places.get(job)?;
        Some((place, &self.model.steps[place]))
    }

    /// This pipeline, shared.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}
