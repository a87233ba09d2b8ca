//! The resolved definition: what runs, what is hashed, and what another process builds again.

mod binding;
mod body;
mod dynamic;
mod file_ops;
mod files;
mod input;
mod lenience;
mod loaded;
mod model;
mod nested;
mod ordered;
mod plan;
mod prompt;
mod retrying;
mod reuse;
mod unknown;
mod value_schema;

use std::{collections::HashMap, sync::Arc, time::Duration};

use perennial_core::{
    digest::canonical_json,
    run::{JobKey, RunId},
};
use perennial_engine::Definition;

pub use binding::{InputErrors, InvalidInput};
pub(crate) use body::Body;
pub(crate) use dynamic::{Candidate, CandidateKeys, Dynamic, STEP_TYPE};
pub(crate) use file_ops::{FileOps, Operation};
pub use files::Exports;
pub(crate) use files::{DocumentFiles, Effects, OutputFile, strongest};
pub(crate) use input::type_of;
pub use input::{Input, InputType};
pub use lenience::{InvalidLeniency, Leniency};
pub(crate) use lenience::{LEEWAYS, Lenience, MissingHole, UNDECIDED};
pub(crate) use loaded::Loaded;
pub use loaded::ReadFile;
pub use model::ProviderKind;
pub(crate) use model::{
    Assign, Chat, ChatOptions, Cleared, Echo, Location, Model, Step, StepKind, VariableScope, Write,
};
pub(crate) use nested::{Again, Child, Later, Nested, OnTimeout, Output, Prune, Workspace};
pub(crate) use ordered::Ordered;
pub use plan::{Plan, PlannedJob};
pub(crate) use prompt::{
    Encoding, FilePart, Part, PartTarget, PreviousResponse, PromptPart, Shaping, Summary,
};
pub(crate) use retrying::RetryConfig;
pub(crate) use value_schema::{REPAIRS, ValueSchema};

use crate::{
    deployment::{Deployment, EnvironmentMode},
    environment::RunEnvironment,
};
pub(crate) use reuse::{CACHE_TTL_MS, Cache};

/// Facts of a workflow whose texts get variables of the environment when a run begins.
pub(crate) const BOUND_FACTS: [&str; 3] = ["metadata", "variables", "global_vars"];

/// Version of the language this build speaks.
pub const LANGUAGE: u32 = 1;

/// A workflow that was checked, or built again from its definition.
///
/// ```
/// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
/// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
/// assert_eq!(pipeline.name(), "w"); // `pipeline` is from `Pipeline::check`
/// assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["a", "b"]);
/// assert_eq!(pipeline.required_inputs(), ["who"]);
/// ```
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub(crate) model: Model,
    definition: Definition,
    /// Place of every step, by the key of its job.
    places: HashMap<JobKey, usize>,
}

/// The same definition, wherever it was read.
impl PartialEq for Pipeline {
    fn eq(&self, other: &Self) -> bool {
        self.definition == other.definition
    }
}

/// What a document says of the places its steps may use (6.5, 1.6). Relative paths start at the project root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement<'a> {
    /// Further places to read and write.
    pub allowed: &'a [String],
    /// Places that are never written.
    pub read_only: &'a [String],
    /// Whether it asks for all places; who starts the run has to agree.
    pub unrestricted: bool,
    /// Whether the workspace has to be there when the run begins.
    pub workspace_exists: bool,
}

/// Bytes that are no definition of this language.
///
/// ```
/// use perennial_pipeline::{InvalidDefinition, Pipeline};
///
/// let refused: InvalidDefinition = Pipeline::revive(b"no JSON").unwrap_err();
/// println!("{refused}");
/// ```
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
    /// One of its steps is of a build that knows more than this one, or other things.
    #[error("this build does not know step `{step}` of type `{type_name}`: {why}")]
    UnknownStep {
        /// The step, with the names that lead to it.
        step: String,
        /// Its type, as the document names it.
        type_name: String,
        /// What cannot be read of it.
        why: serde_json::Error,
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
    /// ```
    /// use perennial_pipeline::Pipeline;
    ///
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// let same = Pipeline::revive(&pipeline.definition().bytes)?;
    /// assert_eq!(same.definition(), pipeline.definition());
    /// assert!(Pipeline::revive(b"{}").is_err());
    /// # Ok::<(), perennial_pipeline::InvalidDefinition>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the bytes are no definition, or not in the form [`Pipeline::definition`] writes.
    pub fn revive(bytes: &[u8]) -> Result<Self, InvalidDefinition> {
        let model: Model =
            serde_json::from_slice(bytes).map_err(|error| unknown::diagnosed(bytes, error))?;
        if model.language > LANGUAGE {
            return Err(InvalidDefinition::Newer { found: model.language });
        }
        let mut pipeline = Self::of(model);
        if *pipeline.definition.bytes == *bytes {
            return Ok(pipeline);
        }
        let older = without_places(bytes)?;
        if older.is_none_or(|older| *pipeline.definition.bytes != *older.as_bytes()) {
            return Err(InvalidDefinition::NotCanonical);
        }
        // Written when places were a part of it: it keeps its digest.
        pipeline.definition = Definition::new(bytes.to_vec());
        Ok(pipeline)
    }

    /// What this build knows of a definition that has steps it does not know: those are there by name and type, and are
    /// equal to no other step. To compare with, never to run. None where more than steps is not known.
    ///
    /// ```
    /// use perennial_pipeline::{InvalidDefinition, Pipeline};
    ///
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// # let bytes = String::from_utf8_lossy(&pipeline.definition().bytes).replace("echo", "hologram").into_bytes();
    /// // `bytes` are of a build that has holograms
    /// assert!(matches!(Pipeline::revive(&bytes), Err(InvalidDefinition::UnknownStep { .. })));
    /// assert_eq!(Pipeline::revive_known(&bytes).unwrap().steps().collect::<Vec<_>>(), ["a", "b"]);
    /// ```
    pub fn revive_known(bytes: &[u8]) -> Option<Self> {
        unknown::without_unknown(bytes).map(Self::of)
    }

    /// Where its steps stand, as `file:line`: those of children behind the step that holds them.
    /// They are no part of the definition, and are recorded beside it.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.places(), ["w.yaml:1", "w.yaml:1"]);
    /// ```
    pub fn places(&self) -> Vec<String> {
        let shown = |step: &Step| step.location.as_ref().map(ToString::to_string);
        self.model.all_steps().into_iter().map(|step| shown(step).unwrap_or_default()).collect()
    }

    /// The types of all steps by the names that lead to them, with slashes between: `outer/inner`.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.types()["a"], "echo");
    /// ```
    pub fn types(&self) -> HashMap<String, String> {
        let mut types = HashMap::new();
        let mut left = vec![(String::new(), &self.model)];
        while let Some((prefix, model)) = left.pop() {
            for step in &model.steps {
                let path = format!("{prefix}{}", step.name);
                if let Some(child) = step.child() {
                    left.push((format!("{path}/"), child));
                }
                types.insert(path, step.type_name.clone());
            }
        }
        types
    }

    /// This pipeline, whose steps stand at `places`.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// let moved = pipeline.placed(&["copy.yaml:1".to_owned(), "copy.yaml:2".to_owned()]);
    /// assert_eq!(moved.places(), ["copy.yaml:1", "copy.yaml:2"]);
    /// ```
    #[must_use]
    pub fn placed(mut self, places: &[String]) -> Self {
        self.model.place(&mut places.iter().map(|place| Location::read(place)));
        self
    }

    /// This pipeline, within what `deployment` enforces: itself when it was checked for that deployment.
    #[must_use]
    pub fn within_enforced(mut self, deployment: &Deployment) -> Self {
        let before = self.model.deployed.clone();
        self.model.deployed.enforce(deployment);
        if self.model.deployed == before { self } else { Self::of(self.model) }
    }

    /// Name of the workflow.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.name(), "w");
    /// ```
    pub fn name(&self) -> &str {
        &self.model.name
    }

    /// Canonical bytes of the resolved definition, and their digest.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// // The same workflow in another file has the same definition.
    /// let again = perennial_pipeline::Pipeline::check("copy.yaml", text).pipeline.unwrap();
    /// assert_eq!(again.definition().digest, pipeline.definition().digest);
    /// ```
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Names of the variables of the environment that its runs read.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(pipeline.environment().is_empty()); // it names none
    /// ```
    pub fn environment(&self) -> &[String] {
        &self.model.environment
    }

    /// Those variables for a new run, as they are now. `key` goes into the hashes of secrets, and
    /// should be another one for every run.
    pub fn bind_environment(
        &self,
        key: impl Into<String>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> RunEnvironment {
        let Model { environment, empty_when_missing, .. } = &self.model;
        RunEnvironment::read(environment, key.into(), *empty_when_missing, variable)
    }

    /// Reads the variables that this definition needs and `environment`, that of `run`, does not have.
    pub fn extend_environment(
        &self,
        environment: &mut RunEnvironment,
        run: &RunId,
        variable: &dyn Fn(&str) -> Option<String>,
    ) {
        let Model { environment: names, empty_when_missing, .. } = &self.model;
        environment.extend(names, run.as_str(), *empty_when_missing, variable);
    }

    /// The file it was read from, as it was named.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.file(), "w.yaml");
    /// ```
    pub fn file(&self) -> &str {
        &self.model.file
    }

    /// The files that it and its children were read from, as they were named; each once.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.documents(), ["w.yaml"]);
    /// ```
    pub fn documents(&self) -> Vec<&str> {
        let steps = self.model.all_steps().into_iter();
        let children = steps.filter_map(|step| Some(step.child()?.file.as_str()));
        let mut files: Vec<&str> = [self.file()].into_iter().chain(children).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Labels of the workflow.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(pipeline.tags().is_empty());
    /// ```
    pub fn tags(&self) -> Vec<String> {
        let tags = self.model.facts.0.get("tags").and_then(|tags| tags.as_array());
        tags.into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
    }

    /// How long a run may take, when the document says so.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.within(), None); // the document does not say
    /// ```
    pub fn within(&self) -> Option<Duration> {
        self.model.within_ms.map(Duration::from_millis)
    }

    /// Names of its steps, in order.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.steps().len(), 2);
    /// ```
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model.steps.iter().map(|step| step.name.as_str())
    }

    /// Its inputs, declared and implied.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// let who = &pipeline.inputs()[0];
    /// assert_eq!((who.name.as_str(), who.kind.name(), who.required), ("who", "string", true));
    /// ```
    pub fn inputs(&self) -> &[Input] {
        &self.model.inputs
    }

    /// Names of the inputs without which no run can start.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.required_inputs(), ["who"]);
    /// ```
    pub fn required_inputs(&self) -> Vec<&str> {
        let required = |input: &&Input| input.required && input.default.is_none();
        self.model.inputs.iter().filter(required).map(|input| input.name.as_str()).collect()
    }

    /// The directories the document names; relative ones lie below the project root.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, output_dir: results, steps: [{name: a, type: echo, value: 1}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.directories().outputs, Some("results".into())); // the document says so
    /// ```
    pub fn directories(&self) -> perennial_tools::files::ChosenDirectories {
        let files = &self.model.files;
        let path = |text: &Option<String>| text.as_ref().map(std::path::PathBuf::from);
        perennial_tools::files::ChosenDirectories {
            project_root: None,
            workspace: path(&files.workspace_dir),
            outputs: path(&files.output_dir),
            checkpoints: path(&files.checkpoint_dir),
            nested_workspaces: None,
        }
    }

    /// Whether a run of it works in directories: the document names one, exports, or has a step with files.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(!pipeline.uses_directories()); // its steps only echo
    /// ```
    pub fn uses_directories(&self) -> bool {
        !self.model.files.is_default()
            || self
                .model
                .all_steps()
                .into_iter()
                .any(|step| step.output_to_file.is_some() || step.needs_directories())
    }

    /// Files that are certain to be needed: those that prompts of unconditional steps name without holes, each with
    /// its step (YR-73). None when the document says that they come later.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, steps: [{name: a, type: claude, prompt: [{type: file, path: names.txt}]}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.prompt_files(), [("a", "names.txt")]);
    /// ```
    pub fn prompt_files(&self) -> Vec<(&str, &str)> {
        let certain = |step: &&Step| step.condition.is_none() && !self.model.files.missing_at_use;
        let mut files = Vec::new();
        for step in self.model.steps.iter().filter(certain) {
            let StepKind::Chat(chat) = &step.kind else { continue };
            for part in chat.prompt.iter().filter(|part| part.condition.is_none()) {
                if let PromptPart::File(file) = &part.yields
                    && file.path.holes().next().is_none()
                {
                    files.push((step.name.as_str(), file.path.written()));
                }
            }
        }
        files
    }

    /// Whether reads may leave the allowed roots.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(!pipeline.reads_outside_roots()); // a document has to ask for it
    /// ```
    pub fn reads_outside_roots(&self) -> bool {
        self.model.files.read_outside_roots
    }

    /// The mode it is deployed in, when somebody names one.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.mode(), None); // nobody named one
    /// ```
    pub fn mode(&self) -> Option<EnvironmentMode> {
        self.model.deployed.mode
    }

    /// Whether mocks may answer its calls.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(pipeline.allows_mocks() && !pipeline.forces_mocks()); // no environment says otherwise
    /// ```
    pub fn allows_mocks(&self) -> bool {
        self.model.deployed.allows_mocks()
    }

    /// Whether nobody but mocks may answer its calls.
    pub fn forces_mocks(&self) -> bool {
        self.model.deployed.forces_mocks()
    }

    /// What the document says of the places its steps may use.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, safety: {allowed_paths: [shared]}, steps: [{name: a, type: echo, value: 1}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.confinement().allowed, ["shared"]);
    /// assert!(!pipeline.confinement().unrestricted);
    /// ```
    pub fn confinement(&self) -> Confinement<'_> {
        let files = &self.model.files;
        Confinement {
            allowed: &files.allowed_paths,
            read_only: &files.read_only_paths,
            unrestricted: files.unrestricted,
            workspace_exists: files.workspace_exists,
        }
    }

    /// When checkpoints of its runs are exported.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, checkpoint_enabled: true, steps: [{name: a, type: echo, value: 1}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.exports().map(|exports| exports.interval), Some(1));
    /// ```
    pub fn exports(&self) -> Option<Exports> {
        self.model.files.exports
    }

    /// The kinds of provider its steps and those of its children call, each once.
    ///
    /// ```
    /// use perennial_pipeline::{Pipeline, ProviderKind};
    ///
    /// let text = b"workflow: {name: w, steps: [{name: a, type: claude, prompt: [{type: static, content: Hi}]}]}";
    /// let pipeline = Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.providers(), [ProviderKind::Claude]);
    /// assert_eq!(pipeline.step_without_model(ProviderKind::Claude), Some("a"));
    /// ```
    pub fn providers(&self) -> Vec<ProviderKind> {
        let steps = self.model.all_steps().into_iter();
        let mut kinds: Vec<ProviderKind> =
            steps.flat_map(|step| step.kind.possible()).filter_map(StepKind::provider).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The first step that calls `kind` and names no model.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, steps: [{name: a, type: claude, prompt: [{type: static, content: Hi}]}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// use perennial_pipeline::ProviderKind;
    ///
    /// assert_eq!(pipeline.step_without_model(ProviderKind::Claude), Some("a"));
    /// assert_eq!(pipeline.step_without_model(ProviderKind::Gemini), None);
    /// ```
    pub fn step_without_model(&self, kind: ProviderKind) -> Option<&str> {
        let nameless = |step: &&Step| {
            step.kind
                .possible()
                .into_iter()
                .filter_map(StepKind::chat)
                .any(|chat| chat.provider == kind && chat.options.model.is_none())
        };
        let found = self.model.all_steps().into_iter().find(nameless)?;
        Some(found.name.as_str())
    }

    /// Steps whose children have replies of their own for calls: a run of them needs to be mocked.
    pub fn steps_with_mocks(&self) -> Vec<&str> {
        let steps = self.model.all_steps().into_iter();
        let mocked = steps.filter(|step| step.nested().is_some_and(|it| it.mocks.is_some()));
        mocked.map(|step| step.name.as_str()).collect()
    }

    /// Steps that let a model use tools, and which.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert!(pipeline.steps_with_tools().is_empty() && pipeline.steps_with_mocks().is_empty());
    /// ```
    pub fn steps_with_tools(&self) -> Vec<(&str, &[String])> {
        fn named(chat: &Chat) -> &[String] {
            chat.options.allowed_tools.as_deref().unwrap_or_default()
        }
        let steps = self.model.all_steps().into_iter();
        let chats = steps.flat_map(|step| {
            let kinds = step.kind.possible().into_iter();
            kinds.filter_map(StepKind::chat).map(|chat| (step.name.as_str(), named(chat)))
        });
        chats.filter(|(_, tools)| !tools.is_empty()).collect()
    }

    /// Whether steps of it have steps of their own.
    pub(crate) fn has_scopes(&self) -> bool {
        self.model
            .steps
            .iter()
            .any(|step| step.nested().is_some() || step.bodies().next().is_some())
    }

    /// The step of a job, and its place in the order.
    pub(crate) fn step(&self, job: &JobKey) -> Option<(usize, &Step)> {
        let place = *self.places.get(job)?;
        Some((place, &self.model.steps[place]))
    }

    /// This pipeline, shared.
    ///
    /// ```
    /// # let text = b"workflow: {name: w, inputs: {who: string}, steps: [{name: a, type: echo, value: '{{ inputs.who }}'}, {name: b, type: echo, value: '{{ steps.a }}!'}]}";
    /// # let pipeline = perennial_pipeline::Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// let shared = pipeline.shared();
    /// assert_eq!(std::sync::Arc::clone(&shared).name(), "w");
    /// ```
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

/// The definition `bytes` without the places that older builds wrote into it; none when it is not in
/// canonical form.
fn without_places(bytes: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let mut value: serde_json::Value = serde_json::from_slice(bytes)?;
    if canonical_json(&value).as_bytes() != bytes {
        return Ok(None);
    }
    if let Some(map) = value.as_object_mut() {
        map.remove("file");
    }
    for step in value["steps"].as_array_mut().into_iter().flatten() {
        if let Some(step) = step.as_object_mut() {
            step.remove("location");
        }
    }
    Ok(Some(canonical_json(&value)))
}
