//! Documents that a host offers by name, for `pipeline_ref` (2.16).

use std::collections::BTreeMap;

use super::{
    SourceFault, SourceFile, SourceLoader,
    version::{Wanted, rank},
};
use crate::{
    check::read_yaml,
    definition::Pipeline,
    diagnostic::{Diagnostic, Severity},
};

/// Most documents of a registry; each is kept in memory as long as it lives.
pub const REGISTERED_MAX: usize = 1_000;

/// Documents by name, maybe in several versions. What is taken from it becomes a part of the definition, so that a run
/// goes on without it.
///
/// ```
/// use perennial_pipeline::{MemorySources, Registry, SourceFile};
///
/// let mut registry = Registry::new();
/// registry.add("greet", SourceFile::new("greet", "workflow: {name: greet, steps: [{name: a, type: echo, value: hi}]}"))?;
/// registry.check(&MemorySources::new())?;
/// assert_eq!(registry.names().collect::<Vec<_>>(), ["greet"]);
/// # Ok::<(), perennial_pipeline::RegistryError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    entries: BTreeMap<String, Vec<Registered>>,
}

/// One document of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    /// What its `workflow.version` says.
    pub(crate) version: Option<String>,
    pub(crate) file: SourceFile,
}

/// Why a document was not registered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No step could name it.
    #[error("a pipeline cannot be registered under an empty name")]
    NoName,
    /// It is there already.
    #[error("the pipeline `{name}` is registered twice {}", version_text(.version.as_deref()))]
    Twice {
        /// Its name.
        name: String,
        /// What its `workflow.version` says.
        version: Option<String>,
    },
    /// There are too many.
    #[error("more than {REGISTERED_MAX} pipelines are registered")]
    TooMany,
    /// It has errors; all diagnostics.
    #[error("the registered pipeline `{name}` is invalid: {}", first_error(.diagnostics))]
    Invalid {
        /// Its name.
        name: String,
        /// What was found.
        diagnostics: Vec<Diagnostic>,
    },
}

/// Why no document of a registry is the one that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotRegistered {
    /// Nothing has the name.
    Name,
    /// It is there in these versions only.
    Version(Vec<String>),
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the document `file` under `name`. Its version is what its own `workflow.version` says; bases and
    /// includes are not asked. It is not checked: see [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub fn add(&mut self, name: impl Into<String>, file: SourceFile) -> Result<(), RegistryError> {
        let name = name.into();
        if name.trim().is_empty() {
            return Err(RegistryError::NoName);
        }
        if self.entries.values().map(Vec::len).sum::<usize>() >= REGISTERED_MAX {
            return Err(RegistryError::TooMany);
        }
        let document = read_yaml(&file.name, &file.bytes)
            .map_err(|diagnostics| RegistryError::Invalid { name: name.clone(), diagnostics })?;
        let version = &document["workflow"]["version"];
        let text = version.as_str().map(str::to_owned);
        let version = text.or_else(|| version.as_number().map(ToString::to_string));
        let known = self.entries.entry(name.clone()).or_default();
        if known.iter().any(|other| other.version == version) {
            return Err(RegistryError::Twice { name, version });
        }
        known.push(Registered { version, file });
        Ok(())
    }

    /// Checks all of them, with what they name read by `sources`.
    ///
    /// # Errors
    ///
    /// The first that has errors, with all of its diagnostics.
    pub fn check(&self, sources: &dyn SourceLoader) -> Result<(), RegistryError> {
        let loader = self.over(sources);
        for (name, versions) in &self.entries {
            for registered in versions {
                let checked = Pipeline::load(&registered.file, &loader);
                if checked.pipeline.is_none() {
                    let diagnostics = checked.diagnostics;
                    return Err(RegistryError::Invalid { name: name.clone(), diagnostics });
                }
            }
        }
        Ok(())
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The newest document called `name`: that with the highest version, and of equals the one that came last.
    pub fn newest(&self, name: &str) -> Option<&SourceFile> {
        self.find(name, None).ok().map(|registered| &registered.file)
    }

    /// `sources`, and these documents for `pipeline_ref`.
    pub fn over<'a>(&'a self, sources: &'a dyn SourceLoader) -> impl SourceLoader + 'a {
        Over { registry: self, sources }
    }

    pub(crate) fn find(
        &self,
        name: &str,
        wanted: Option<&Wanted>,
    ) -> Result<&Registered, NotRegistered> {
        let versions = self.entries.get(name).ok_or(NotRegistered::Name)?;
        let accepted = |registered: &&Registered| {
            let version = registered.version.as_deref();
            wanted.is_none_or(|wanted| version.is_some_and(|version| wanted.accepts(version)))
        };
        let newest = versions
            .iter()
            .filter(accepted)
            .max_by_key(|registered| rank(registered.version.as_deref()));
        newest.ok_or_else(|| {
            let shown = |registered: &Registered| registered.version.clone();
            NotRegistered::Version(versions.iter().filter_map(shown).collect())
        })
    }
}

#[derive(Debug)]
struct Over<'a> {
    registry: &'a Registry,
    sources: &'a dyn SourceLoader,
}

impl SourceLoader for Over<'_> {
    fn read(&self, path: &str, named_in: &str) -> Result<SourceFile, SourceFault> {
        self.sources.read(path, named_in)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.sources.variable(name)
    }

    fn project_root(&self) -> Option<String> {
        self.sources.project_root()
    }

    fn registry(&self) -> Option<&Registry> {
        Some(self.registry)
    }
}

fn version_text(version: Option<&str>) -> String {
    version
        .map_or_else(|| "without a version".to_owned(), |version| format!("in version {version}"))
}

fn first_error(diagnostics: &[Diagnostic]) -> String {
    let mut errors = diagnostics.iter().filter(|found| found.severity == Severity::Error);
    let Some(first) = errors.next() else { return "it cannot be read".to_owned() };
    let place = first.span.map(|span| format!(":{}", span.start.line)).unwrap_or_default();
    let more = match errors.count() {
        0 => String::new(),
        more => format!(" (and {more} more errors)"),
    };
    format!("{}{place}: [{}] {}{more}", first.file, first.code, first.message)
}
