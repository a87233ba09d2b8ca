//! Reads the files that a user names: workflow documents, mocks, configuration.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Why a file was not read.
///
/// ```
/// use perennial_tools::{SourceError, read_source};
///
/// let refused = read_source("nowhere.yaml".as_ref(), 1_000);
/// assert!(matches!(refused, Err(SourceError::Unreadable { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is not there, is not a file, or may not be read.
    #[error("Failed to read file: {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than what is useful.
    #[error("{} has more than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
}

/// The files that documents name, and the variables of the process's environment.
///
/// A word means a file under the root of the project, else one beside the document that says it.
///
/// ```
/// use perennial_tools::SourceFiles;
///
/// # let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("team.yaml"), "workflow: {}")?;
/// let files = SourceFiles::new(folder.path());
/// let found = files.find("team.yaml".as_ref(), "flows/w.yaml".as_ref())?;
/// assert_eq!(found.read(1_000)?, b"workflow: {}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SourceFiles {
    project_root: PathBuf,
}

/// A file that a document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// How it is opened.
    pub path: PathBuf,
    /// The same for the same file: absolute, without symbolic links.
    pub canonical: PathBuf,
    /// Another file that the same words name beside the document.
    pub shadows: Option<PathBuf>,
}

impl SourceFiles {
    /// Files of the project at `project_root`; the empty path is the working directory.
    pub fn new(project_root: impl Into<PathBuf>) -> Self {
        Self { project_root: project_root.into() }
    }

    /// The root of the project.
    pub fn project_root(&self) -> &Path {
        &self.project_root
    }

    /// The file that the document at `named_in` calls `path`. Nothing is read of it.
    ///
    /// # Errors
    ///
    /// When it is at neither place.
    pub fn find(&self, path: &Path, named_in: &Path) -> Result<FoundFile, SourceError> {
        let under_root = found(self.project_root.join(path));
        let beside = found(named_in.parent().unwrap_or(Path::new("")).join(path));
        match (under_root, beside) {
            (Ok(first), Ok(second)) if first.canonical != second.canonical => {
                Ok(FoundFile { shadows: Some(second.path), ..first })
            }
            // What is there and cannot be entered is not hidden by what is missing.
            (Err(_), Ok(beside)) => Ok(beside),
            (first, _) => first,
        }
    }

    /// The file at `path` itself, relative to the working directory.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn named(&self, path: &Path) -> Result<FoundFile, SourceError> {
        found(path.to_owned())
    }

    /// The variable `name` of the environment, when it is set and is Unicode.
    pub fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl FoundFile {
    /// Its bytes, as [`read_source`] reads them. A document cannot make its reader wait: what is no
    /// regular file, a named pipe for example, is not opened.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub fn read(&self, max: u64) -> Result<Vec<u8>, SourceError> {
        let unreadable = |source| SourceError::Unreadable { path: self.path.clone(), source };
        let metadata = self.path.metadata().map_err(unreadable)?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        read_source(&self.path, max)
    }
}

fn found(path: PathBuf) -> Result<FoundFile, SourceError> {
    match path.canonicalize() {
        Ok(canonical) => Ok(FoundFile { path, canonical, shadows: None }),
        Err(source) => Err(SourceError::Unreadable { path, source }),
    }
}

/// The bytes of the file at `path`, if they are at most `max`; never reads more than that.
///
/// Blocks for as long as the file system takes.
///
/// ```
/// use perennial_tools::{SourceError, read_source};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("w.yaml");
/// std::fs::write(&path, "workflow: {}")?;
/// assert_eq!(read_source(&path, 1_000)?, b"workflow: {}");
/// assert!(matches!(read_source(&path, 3), Err(SourceError::TooLarge { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// See [`SourceError`].
pub fn read_source(path: &Path, max: u64) -> Result<Vec<u8>, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(SourceError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_said_with_its_path() {
        let folder = std::env::temp_dir();
        let missing = folder.join("perennial-no-such-file");
        let error = read_source(&missing, 10).unwrap_err().to_string();
        assert!(error.starts_with("Failed to read file: ") && error.contains("no-such-file"));
        assert!(matches!(read_source(&folder, 10), Err(SourceError::Unreadable { .. })));
        let this = Path::new(file!()).file_name().map(|name| Path::new("src").join(name));
        let error = read_source(&this.unwrap(), 10).unwrap_err();
        assert!(matches!(error, SourceError::TooLarge { max: 10, .. }), "{error}");
    }

    #[test]
    fn a_word_means_a_file_of_the_project_before_one_beside_the_document() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = SourceFiles::new(project);
        let beside = files.find("tool.rs".as_ref(), &project.join("src/lib.rs")).unwrap();
        assert_eq!(beside.path, project.join("src/tool.rs"));
        assert_eq!(beside.shadows, None);
        let both = files.find("src".as_ref(), &project.join("../core/x")).unwrap();
        assert_eq!(both.path, project.join("src"));
        assert_eq!(both.shadows, Some(project.join("../core/src")));
        let same = files.find("src/lib.rs".as_ref(), &project.join("x.yaml")).unwrap();
        assert_eq!(same.shadows, None, "both ways lead to one file");
        #[cfg(unix)]
        {
            let device = files.find("/dev/null".as_ref(), &project.join("x.yaml")).unwrap();
            let error = device.read(10).unwrap_err().to_string();
            assert_eq!(error, "Failed to read file: /dev/null: it is not a regular file");
        }
        let neither = files.find("no-such-file".as_ref(), &project.join("src/lib.rs"));
        assert!(matches!(neither, Err(SourceError::Unreadable { .. })));
    }
}
