//! Workflows that the host registered: by name, for `pipeline_ref` and for starts.

use std::{collections::BTreeSet, path::PathBuf};

use perennial_pipeline::{
    Checked, Deployment, FILE_BYTES_MAX, Leniency, Pipeline, Registry, RegistryError, SourceFault,
    SourceFile, SourceLoader,
};
use perennial_tools::{SourceError, SourceFiles, read_source};

/// Where a registered workflow is from.
#[derive(Clone, Debug)]
pub(crate) enum Registration {
    Text { name: String, text: String },
    File { name: String, path: PathBuf },
}

/// The workflows of one runtime, read and checked when it started.
#[derive(Debug, Default)]
pub(crate) struct RegisteredPipelines {
    registry: Registry,
    /// What those are called that are no files.
    texts: BTreeSet<String>,
}

/// Why a workflow of the host was not registered.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{RegisterError, Runtime, RuntimeError, Store};
/// let builder = Runtime::builder().store(Store::memory()).pipeline_file("greet", "nowhere.yaml");
/// let Err(RuntimeError::Pipeline(error)) = builder.start().await else { panic!("there is no such file") };
/// assert!(matches!(error, RegisterError::Unreadable { name, .. } if name == "greet"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Its file cannot be read.
    #[error("the registered pipeline `{name}`: {source}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Why not.
        source: SourceError,
    },
    /// It is invalid, or there already.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl RegisteredPipelines {
    /// Reads and checks all of them. They may name each other.
    pub(crate) fn read(registrations: Vec<Registration>) -> Result<Self, RegisterError> {
        let mut pipelines = Self::default();
        for (place, registration) in registrations.into_iter().enumerate() {
            match registration {
                Registration::Text { name, text } => {
                    // No file has such an identity: it is no path of a file that was found.
                    let identity = format!("registered:{place}:{name}");
                    let file = SourceFile { identity, ..SourceFile::new(name.as_str(), text) };
                    pipelines.registry.add(name.as_str(), file)?;
                    pipelines.texts.insert(name);
                }
                Registration::File { name, path } => {
                    let file = read(&path).map_err(|source| RegisterError::Unreadable {
                        name: name.clone(),
                        source,
                    })?;
                    pipelines.registry.add(name, file)?;
                }
            }
        }
        pipelines.registry.check(&SourceFiles::new(""))?;
        Ok(pipelines)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.registry.names()
    }

    /// The names of all of them, and those that their documents have: what is recorded with their runs.
    pub(crate) fn workflow_names(&self) -> BTreeSet<String> {
        let (lenient, deployment) = (Leniency::as_written(), Deployment::default());
        let of_document = |name: &str| {
            let checked = self.newest(name, &lenient, &deployment)?;
            checked.pipeline.map(|pipeline| pipeline.name().to_owned())
        };
        let own = self.names().map(str::to_owned);
        own.chain(self.names().filter_map(of_document)).collect()
    }

    /// Whether the document called `file` was registered as a text.
    pub(super) fn is_text(&self, file: &str) -> bool {
        self.texts.contains(file)
    }

    /// The newest workflow of this name, checked.
    pub(super) fn newest(
        &self,
        name: &str,
        leniency: &Leniency,
        deployment: &Deployment,
    ) -> Option<Checked> {
        let file = self.registry.newest(name)?;
        let sources = SourceFiles::new("");
        let loader = self.registry.over(&sources);
        Some(Pipeline::load_deployed(file, &loader, leniency, deployment))
    }

    /// The file at `path`, checked.
    pub(super) fn check_file(
        &self,
        path: &std::path::Path,
        leniency: &Leniency,
        deployment: &Deployment,
    ) -> Result<Checked, SourceError> {
        let file = read(path)?;
        let sources = SourceFiles::new("");
        let loader = self.registry.over(&sources);
        Ok(Pipeline::load_deployed(&file, &loader, leniency, deployment))
    }

    /// The document `bytes`, checked. It names no file itself; what it takes from here may.
    pub(super) fn check_document(
        &self,
        name: &str,
        bytes: &[u8],
        leniency: &Leniency,
        deployment: &Deployment,
    ) -> Checked {
        if self.registry.names().next().is_none() {
            return Pipeline::check_deployed(name, bytes, leniency, deployment);
        }
        let sources = OfDocument { name, files: SourceFiles::new("") };
        let file =
            SourceFile { identity: format!("document:{name}"), ..SourceFile::new(name, bytes) };
        Pipeline::load_deployed(&file, &self.registry.over(&sources), leniency, deployment)
    }
}

/// Reads the document at `path`. The working directory is the root of the project.
fn read(path: &std::path::Path) -> Result<SourceFile, SourceError> {
    let found = SourceFiles::new("").named(path)?;
    let bytes = match read_source(path, FILE_BYTES_MAX as u64) {
        // What is too long is not read; the language says what is wrong with it.
        Err(SourceError::TooLarge { .. }) => vec![b' '; FILE_BYTES_MAX + 1],
        read => read?,
    };
    Ok(SourceFile {
        identity: found.canonical.display().to_string(),
        ..SourceFile::new(path.display().to_string(), bytes)
    })
}

/// Reads nothing for the document itself, which is given as text.
#[derive(Debug)]
struct OfDocument<'a> {
    name: &'a str,
    files: SourceFiles,
}

impl SourceLoader for OfDocument<'_> {
    fn read(&self, path: &str, named_in: &str) -> Result<SourceFile, SourceFault> {
        if named_in == self.name {
            return Err(SourceFault::NothingElse);
        }
        self.files.read(path, named_in)
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}
