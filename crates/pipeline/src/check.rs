//! From a tree to a pipeline: every fault found at once, each at its place.

mod bodies;
mod cache;
mod chat;
mod child;
mod conditions;
mod defaults;
mod deployment;
mod document;
mod dynamic;
mod environment;
mod file_ops;
mod files;
mod inputs;
mod keys;
mod mocks;
mod nested;
mod outputs;
mod policy;
mod prompts;
mod references;
mod registered;
mod schemas;
mod section;
mod shapes;
mod steps;
mod templates;
mod variables;
mod workspace;

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    definition::{Input, Lenience, Leniency, Pipeline},
    deployment::{Deployed, Deployment},
    diagnostic::{Diagnostic, Findings, Severity},
    source::{Content, Duplicates, Node, NothingElse, SourceFile, SourceLoader, Sources},
};

pub(crate) use environment::{Bindings, is_lenient, unset};
pub(crate) use file_ops::{CONVERSIONS, is_glob};
pub use keys::{KeyEntry, StepTypeEntry, step_types};
use references::Around;
pub(crate) use references::{Known, Standpoint};
pub(crate) use section::{Section, duration_text};

/// The outcome of a check.
///
/// ```
/// use perennial_pipeline::{Pipeline, Severity};
///
/// let checked = Pipeline::check("w.yaml", b"workflow: {name: w, steps: [{name: a, type: ecko}]}");
/// assert!(checked.pipeline.is_none()); // a diagnostic is an error
/// assert_eq!(checked.count(Severity::Error), 1);
/// println!("{}", perennial_pipeline::render(&checked.diagnostics[0], false));
/// ```
#[derive(Clone, Debug)]
pub struct Checked {
    /// Everything found, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The pipeline, when no diagnostic is an error.
    pub pipeline: Option<Pipeline>,
    /// Inputs found, also of a faulty document.
    pub inputs: Vec<Input>,
}

impl Checked {
    /// How many diagnostics are of this severity.
    ///
    /// ```
    /// use perennial_pipeline::{Pipeline, Severity};
    ///
    /// let checked = Pipeline::check("w.yaml", b"workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}");
    /// assert_eq!(checked.count(Severity::Error), 0);
    /// ```
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|shown| shown.severity == severity).count()
    }
}

/// What all checks share: the files, what is known of the document, and what was found.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    /// The document as it was named.
    pub(crate) file: Arc<str>,
    pub(crate) sources: &'a mut Sources,
    pub(crate) loader: &'a dyn SourceLoader,
    pub(crate) findings: Findings,
    pub(crate) known: Known,
    pub(crate) lenient: Lenience,
    /// What is stronger than the document.
    pub(crate) outside: &'a Leniency,
    /// What is said of mode and limits outside of the document.
    pub(crate) deployment: &'a Deployment,
    /// Mode and limits of the run.
    pub(super) deployed: Deployed,
    /// How long a run may take, in milliseconds, when that is told.
    pub(super) within_ms: Option<u64>,
    pub(crate) bindings: Bindings,
    /// The scopes around the one that is checked, the document first.
    pub(super) around: Vec<Around>,
    /// Children that were checked so far.
    pub(super) children: usize,
    /// Absolute paths below which the run may read, as far as they are known; none when nothing is known of them.
    pub(super) roots: Option<Vec<String>>,
}

impl Pipeline {
    /// Checks the document `bytes`, called `file` in what is shown. Pure: nothing else is read, so
    /// that a document which names other files, or variables of the environment, is refused.
    ///
    /// ```
    /// use perennial_pipeline::Pipeline;
    ///
    /// let text = b"workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    /// let pipeline = Pipeline::check("w.yaml", text).pipeline.expect("it has no fault");
    /// assert_eq!(pipeline.name(), "w");
    /// ```
    pub fn check(file: &str, bytes: &[u8]) -> Checked {
        Self::check_with(file, bytes, &Leniency::as_written())
    }

    /// The same with a `leniency` that is stronger than the document's own.
    ///
    /// ```
    /// use perennial_pipeline::{Leniency, Pipeline};
    ///
    /// let text = b"workflow: {name: w, colour: red, steps: [{name: a, type: echo, value: 1}]}";
    /// let lenient = Leniency::as_written().with("unknown_keys", "ignore")?;
    /// assert!(Pipeline::check("w.yaml", text).pipeline.is_none());
    /// assert!(Pipeline::check_with("w.yaml", text, &lenient).pipeline.is_some());
    /// # Ok::<(), perennial_pipeline::InvalidLeniency>(())
    /// ```
    pub fn check_with(file: &str, bytes: &[u8], leniency: &Leniency) -> Checked {
        Self::load_with(&SourceFile::new(file, bytes), &NothingElse, leniency)
    }

    /// The same for a `deployment`; see [`load_deployed`](Self::load_deployed).
    ///
    /// ```
    /// use perennial_pipeline::{Deployment, EnvironmentMode, Leniency, Pipeline};
    ///
    /// let text = b"workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    /// let deployment = Deployment::default().environment(EnvironmentMode::Production);
    /// let checked = Pipeline::check_deployed("w.yaml", text, &Leniency::as_written(), &deployment);
    /// assert_eq!(checked.pipeline.unwrap().mode(), Some(EnvironmentMode::Production));
    /// ```
    pub fn check_deployed(
        file: &str,
        bytes: &[u8],
        leniency: &Leniency,
        deployment: &Deployment,
    ) -> Checked {
        Self::load_deployed(&SourceFile::new(file, bytes), &NothingElse, leniency, deployment)
    }

    /// Checks the document `file` and all that it names, read by `loader`: the diagnostics of all
    /// files at once (YF-17).
    ///
    /// ```
    /// use perennial_pipeline::{MemorySources, Pipeline};
    ///
    /// let sources = MemorySources::new()
    ///     .file("team.yaml", "workflow: {variables: {tone: warm}}")
    ///     .file("w.yaml", "workflow: {extends: team.yaml, name: w, steps: [{name: a, type: echo, value: '{{ state.tone }}'}]}");
    /// let checked = Pipeline::load(&sources.root("w.yaml")?, &sources);
    /// assert!(checked.pipeline.is_some());
    /// # Ok::<(), perennial_pipeline::SourceFault>(())
    /// ```
    pub fn load(file: &SourceFile, loader: &dyn SourceLoader) -> Checked {
        Self::load_with(file, loader, &Leniency::as_written())
    }

    /// The same with a `leniency` that is stronger than the document's own.
    ///
    /// ```
    /// use perennial_pipeline::{Leniency, MemorySources, Pipeline};
    ///
    /// let text = "workflow: {name: w, colour: red, steps: [{name: a, type: echo, value: 1}]}";
    /// let sources = MemorySources::new().file("w.yaml", text);
    /// let lenient = Leniency::as_written().with("unknown_keys", "ignore").expect("there is this option");
    /// assert!(Pipeline::load_with(&sources.root("w.yaml")?, &sources, &lenient).pipeline.is_some());
    /// # Ok::<(), perennial_pipeline::SourceFault>(())
    /// ```
    pub fn load_with(file: &SourceFile, loader: &dyn SourceLoader, leniency: &Leniency) -> Checked {
        Self::load_deployed(file, loader, leniency, &Deployment::default())
    }

    /// The same for a `deployment`: the mode and the limits that are named outside of the document. They
    /// become part of the definition.
    ///
    /// ```
    /// use perennial_pipeline::{Deployment, EnvironmentMode, Leniency, MemorySources, Pipeline};
    ///
    /// let text = "workflow: {name: w, steps: [{name: a, type: echo, value: 1}]}";
    /// let sources = MemorySources::new().file("w.yaml", text);
    /// let (strict, deployment) = (Leniency::as_written().strict(), Deployment::default().environment(EnvironmentMode::Test));
    /// let checked = Pipeline::load_deployed(&sources.root("w.yaml")?, &sources, &strict, &deployment);
    /// assert_eq!(checked.pipeline.unwrap().mode(), Some(EnvironmentMode::Test));
    /// # Ok::<(), perennial_pipeline::SourceFault>(())
    /// ```
    pub fn load_deployed(
        file: &SourceFile,
        loader: &dyn SourceLoader,
        leniency: &Leniency,
        deployment: &Deployment,
    ) -> Checked {
        let mut findings = Findings::default();
        let mut sources = Sources::default();
        let mut id = sources.add(file, &mut findings);
        let lenient = lenience(sources.tree(id).as_deref(), leniency);
        if lenient.is("duplicate_keys", "last_wins") {
            (findings, sources) = (Findings::default(), Sources::of(Duplicates::LastWins));
            id = sources.add(file, &mut findings);
        }
        let Some(root) = sources.tree(id) else {
            let diagnostics = findings.report(&sources);
            return Checked { diagnostics, pipeline: None, inputs: Vec::new() };
        };
        let mut check = Check {
            file: sources.name(id),
            sources: &mut sources,
            loader,
            findings,
            known: Known::default(),
            bindings: Bindings::default(),
            lenient,
            outside: leniency,
            deployment,
            deployed: Deployed::default(),
            within_ms: None,
            around: Vec::new(),
            children: 0,
            roots: None,
        };
        check.bindings.empty_when_missing = check.lenient.is("missing_env", "empty");
        let root = check.composed(id, &root);
        let root = check.with_environment(&root);
        (check.deployed, check.within_ms) = check.deployed(&root);
        let model = check.document(&root);
        check.findings.forgive(&check.bindings.later);
        check.refuse_secrets();
        let findings = check.findings;
        let inputs = model.as_ref().map(|model| model.inputs.clone()).unwrap_or_default();
        let faulty = findings.has_errors();
        let pipeline = model.filter(|_| !faulty).map(Pipeline::of);
        Checked { diagnostics: findings.report(&sources), pipeline, inputs }
    }
}

/// What is around a child that is loaded while its run is under way.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    /// The step that names it.
    pub(crate) step: String,
    /// The leniency of the pipeline that the step is in.
    pub(crate) lenient: Lenience,
    /// Mode and limits of the run.
    pub(crate) deployed: Deployed,
    pub(crate) empty_when_missing: bool,
    /// Names of what the child is given.
    pub(crate) given: BTreeSet<String>,
    /// What it sees of its parent when it is told to.
    pub(crate) variables: BTreeSet<String>,
    pub(crate) globals: BTreeSet<String>,
    pub(crate) inputs: BTreeSet<String>,
}

impl Pipeline {
    /// Checks the document `file` and all that it names as a child of `parent`: the pipeline when nothing is wrong, and
    /// everything found.
    pub(crate) fn load_child(
        file: &SourceFile,
        loader: &dyn SourceLoader,
        parent: &Parent,
    ) -> (Option<Self>, Vec<Diagnostic>) {
        let outside = Leniency::as_written();
        let deployment = match parent.deployed.mode {
            Some(mode) => Deployment::default().environment(mode),
            None => Deployment::default(),
        };
        let mut findings = Findings::default();
        let duplicates = if parent.lenient.is("duplicate_keys", "last_wins") {
            Duplicates::LastWins
        } else {
            Duplicates::default()
        };
        let mut sources = Sources::of(duplicates);
        let id = sources.add(file, &mut findings);
        let Some(root) = sources.tree(id) else { return (None, findings.report(&sources)) };
        let mut known = Known::default();
        known.given.clone_from(&parent.given.iter().cloned().collect());
        known.variables.extend(parent.variables.iter().cloned());
        known.globals.extend(parent.globals.iter().cloned());
        known.inputs.extend(parent.inputs.iter().cloned());
        let around = Around {
            known: Known::default(),
            step: parent.step.clone(),
            max_depth: None,
            file: Some((id, root.extent)),
        };
        let mut check = Check {
            file: sources.name(id),
            sources: &mut sources,
            loader,
            findings,
            known,
            bindings: Bindings::default(),
            lenient: parent.lenient.clone(),
            outside: &outside,
            deployment: &deployment,
            deployed: parent.deployed.clone(),
            within_ms: None,
            around: vec![around],
            children: 0,
            roots: None,
        };
        check.bindings.empty_when_missing = parent.empty_when_missing;
        let root = check.composed(id, &root);
        let root = check.with_environment(&root);
        let model = check.child_document(&root);
        check.findings.forgive(&check.bindings.later);
        check.refuse_secrets();
        let findings = check.findings;
        let faulty = findings.has_errors();
        let pipeline = model.filter(|_| !faulty).map(Self::of);
        (pipeline, findings.report(&sources))
    }
}

/// The leniency of a document, whatever else is wrong with it.
fn lenience(root: Option<&Node>, outside: &Leniency) -> Lenience {
    let workflow = root.map(|root| root.under("workflow").unwrap_or(root));
    let lenient = workflow.and_then(|workflow| workflow.under("lenient"));
    workflow_lenience(lenient, outside, &Lenience::default())
}

/// The leniency that the map `lenient` asks for, in a document that has that of `around`.
fn workflow_lenience(lenient: Option<&Node>, outside: &Leniency, around: &Lenience) -> Lenience {
    let scalar = |node: &Node| match &node.content {
        Content::Text { value, .. } => Some(value.clone()),
        Content::Bool(value) => Some(value.to_string()),
        Content::Null | Content::Number(_) | Content::List(_) | Content::Map(_) => None,
    };
    Lenience::of(outside, |option| scalar(lenient?.under(option)?), around)
}

/// The JSON Schema (draft 2020-12) of the documents that this version accepts: the shape of them;
/// references, templates and conditions are for [`Pipeline::check`].
///
/// ```
/// let schema = perennial_pipeline::schema(); // for editors
/// assert!(schema["properties"]["workflow"].is_object());
/// ```
pub fn schema() -> serde_json::Value {
    keys::schema()
}

/// Reads YAML (or JSON) that is no workflow, such as scripted replies: one value, with the same
/// rules and limits as documents.
///
/// ```
/// use perennial_pipeline::read_yaml;
/// use serde_json::json;
///
/// assert_eq!(read_yaml("mocks.yaml", b"replies: {draft: Dear Ada}"), Ok(json!({"replies": {"draft": "Dear Ada"}})));
/// assert!(read_yaml("mocks.yaml", b"{").is_err());
/// ```
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn read_yaml(file: &str, bytes: &[u8]) -> Result<serde_json::Value, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let mut sources = Sources::default();
    let id = sources.add(&SourceFile::new(file, bytes), &mut findings);
    match sources.tree(id) {
        Some(root) if !findings.has_errors() => Ok(root.to_value()),
        Some(_) | None => Err(findings.report(&sources)),
    }
}
