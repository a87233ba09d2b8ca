//! Where the files of a definition and the words of its environment come from.

use std::{collections::BTreeMap, fmt, io};

use perennial_tools::{SourceError, SourceFiles};

use super::Registry;

/// Reads what a document names. Reading is all it does: limits and cycles are the language's.
///
/// ```
/// use perennial_pipeline::{Pipeline, SourceFault, SourceFile, SourceLoader};
///
/// /// Documents of a database, here one of them.
/// #[derive(Debug)]
/// struct Shelf;
///
/// impl SourceLoader for Shelf {
///     fn read(&self, path: &str, _named_in: &str) -> Result<SourceFile, SourceFault> {
///         match path {
///             "team.yaml" => Ok(SourceFile::new(path, "workflow: {variables: {tone: warm}}")),
///             _ => Err(SourceFault::Unreadable { path: path.to_owned(), reason: "unknown".to_owned() }),
///         }
///     }
///
///     fn variable(&self, _name: &str) -> Option<String> {
///         None
///     }
/// }
///
/// let text = "workflow: {extends: team.yaml, name: w, steps: [{name: a, type: echo, value: 1}]}";
/// assert!(Pipeline::load(&SourceFile::new("w.yaml", text), &Shelf).pipeline.is_some());
/// ```
pub trait SourceLoader: fmt::Debug {
    /// Reads the file that the document opened as `named_in` calls `path`: relative to the project
    /// root, else to the directory of that document (YR-70).
    ///
    /// # Errors
    ///
    /// When there is no such file, or it cannot be read.
    fn read(&self, path: &str, named_in: &str) -> Result<SourceFile, SourceFault>;

    /// The variable `name` of the environment, when it is set.
    fn variable(&self, name: &str) -> Option<String>;

    /// Where the project is, an absolute path; none when that is not known.
    fn project_root(&self) -> Option<String> {
        None
    }

    /// Documents that `pipeline_ref` may name beside those of the document; none when there is no host.
    fn registry(&self) -> Option<&Registry> {
        None
    }
}

/// A file that was read.
///
/// ```
/// use perennial_pipeline::SourceFile;
///
/// let file = SourceFile::new("w.yaml", "workflow: {}");
/// assert_eq!((file.name.as_str(), file.identity.as_str()), ("w.yaml", "w.yaml"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// What it is called in diagnostics; the files it names are looked for beside it.
    pub name: String,
    /// The same for the same file, however it was named: symbolic links are followed.
    pub identity: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Another file that the same words name beside the document; the project root won.
    pub shadows: Option<String>,
}

impl SourceFile {
    /// The file `name`, which is its own identity.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let name = name.into();
        Self { identity: name.clone(), name, bytes: bytes.into(), shadows: None }
    }
}

/// Why a file that a document names was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceFault {
    /// It is not there, is not a file, or may not be read; the system's reason.
    #[error("Failed to read file: {path}: {reason}")]
    Unreadable {
        /// The file as it is named.
        path: String,
        /// Why.
        reason: String,
    },
    /// It is larger than a document may be.
    #[error("{path} has more than 4 MiB")]
    TooLarge {
        /// The file as it is named.
        path: String,
    },
    /// Nothing is read here beside the document itself.
    #[error("no other file is read for a document that is given as text")]
    NothingElse,
}

/// Reads nothing: for a document that stands alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NothingElse;

impl SourceLoader for NothingElse {
    fn read(&self, _: &str, _: &str) -> Result<SourceFile, SourceFault> {
        Err(SourceFault::NothingElse)
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// Files and variables in memory. Names are paths with `/`; the root of the project is the empty
/// path.
///
/// ```
/// use perennial_pipeline::{MemorySources, Pipeline};
///
/// let sources = MemorySources::new()
///     .file("w.yaml", "workflow: {name: w, steps: [{name: a, type: echo, value: '${GREETING}'}]}")
///     .set("GREETING", "hello");
/// let pipeline = Pipeline::load(&sources.root("w.yaml")?, &sources).pipeline.expect("it has no fault");
/// assert_eq!(pipeline.environment(), ["GREETING"]);
/// # Ok::<(), perennial_pipeline::SourceFault>(())
/// ```
#[derive(Clone, Default)]
pub struct MemorySources {
    files: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

/// Values of variables may be secrets.
impl fmt::Debug for MemorySources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySources")
            .field("files", &self.files.keys())
            .field("variables", &self.variables.keys())
            .finish_non_exhaustive()
    }
}

impl MemorySources {
    /// No file, no variable.
    pub fn new() -> Self {
        Self::default()
    }

    /// These, and the file `path`.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(normal(path), bytes.into());
        self
    }

    /// These, and another name for the file `target`.
    ///
    /// ```
    /// use perennial_pipeline::MemorySources;
    ///
    /// let sources = MemorySources::new().file("a.yaml", "workflow: {}").link("b.yaml", "a.yaml");
    /// assert_eq!(sources.root("b.yaml").unwrap().identity, "a.yaml"); // the same file
    /// ```
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.links.insert(normal(path), normal(target));
        self
    }

    /// These, and the variable `name`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The file `path`, to begin with.
    ///
    /// ```
    /// use perennial_pipeline::MemorySources;
    ///
    /// let sources = MemorySources::new().file("w.yaml", "workflow: {}");
    /// assert_eq!(sources.root("w.yaml").unwrap().bytes, b"workflow: {}");
    /// assert!(sources.root("v.yaml").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn root(&self, path: &str) -> Result<SourceFile, SourceFault> {
        let unreadable = || SourceFault::Unreadable {
            path: path.to_owned(),
            reason: io::Error::from(io::ErrorKind::NotFound).to_string(),
        };
        self.get(&normal(path)).ok_or_else(unreadable)
    }

    fn get(&self, name: &str) -> Option<SourceFile> {
        let identity = self.links.get(name).map_or(name, String::as_str);
        let bytes = self.files.get(identity)?.clone();
        let (name, identity) = (name.to_owned(), identity.to_owned());
        Some(SourceFile { name, identity, bytes, shadows: None })
    }
}

impl SourceLoader for MemorySources {
    fn read(&self, path: &str, named_in: &str) -> Result<SourceFile, SourceFault> {
        let folder = named_in.rsplit_once('/').map_or("", |(folder, _)| folder);
        let beside = self.get(&normal(&format!("{folder}/{path}")));
        match (self.root(path), beside) {
            (Ok(file), Some(other)) if other.identity != file.identity => {
                Ok(SourceFile { shadows: Some(other.name), ..file })
            }
            (Err(_), Some(beside)) => Ok(beside),
            (found, _) => found,
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

/// The path without `.`, `..` and empty segments.
fn normal(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => (),
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

impl SourceLoader for SourceFiles {
    fn read(&self, path: &str, named_in: &str) -> Result<SourceFile, SourceFault> {
        let text = |path: &std::path::Path| path.display().to_string();
        let found = self.find(path.as_ref(), named_in.as_ref()).map_err(SourceFault::from)?;
        let bytes = found.read(super::FILE_BYTES_MAX as u64).map_err(SourceFault::from)?;
        Ok(SourceFile {
            name: text(&found.path),
            identity: text(&found.canonical),
            bytes,
            shadows: found.shadows.as_deref().map(text),
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        Self::variable(self, name)
    }

    fn project_root(&self) -> Option<String> {
        let root = std::path::absolute(std::path::Path::new(".").join(Self::project_root(self)));
        Some(root.ok()?.components().as_path().display().to_string())
    }
}

impl From<SourceError> for SourceFault {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::TooLarge { path, .. } => {
                Self::TooLarge { path: path.display().to_string() }
            }
            SourceError::Unreadable { path, source } => {
                Self::Unreadable { path: path.display().to_string(), reason: source.to_string() }
            }
            other => Self::Unreadable { path: String::new(), reason: other.to_string() },
        }
    }
}
