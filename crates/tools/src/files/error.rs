//! Why a file was not read or written.

use std::{io, path::PathBuf};

use perennial_core::{FailureClass, failure::Failure};

/// Why an operation on files was refused or failed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # use perennial_tools::files::*;
/// # let files = Files::make(RootsSpec::new(ChosenDirectories::default().resolve(folder.path()))).await?;
///
/// let error = files.read(Base::Reads, "/etc/hostname").await.unwrap_err(); // outside of all roots
/// println!("{}: {error}", error.code());
/// assert!(!error.is_not_found());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The path leaves the allowed roots; nothing was touched.
    #[error("path `{shown}` is outside of the allowed roots: it leads to {}", resolved.display())]
    Outside {
        /// The path as it was given.
        shown: String,
        /// Where it leads.
        resolved: PathBuf,
    },
    /// The path may be read only; nothing was touched.
    #[error("path `{shown}` may not be written: {} is read-only", resolved.display())]
    ReadOnly {
        /// The path as it was given.
        shown: String,
        /// Where it leads.
        resolved: PathBuf,
    },
    /// It is a directory that the run itself works in; nothing was touched.
    #[error("path `{shown}` is a directory of the run itself")]
    Base {
        /// The path as it was given.
        shown: String,
    },
    /// A directory on the way became something else between the check and the use; nothing was touched.
    #[error("path `{shown}` changed while it was in use: {} is not what it was", changed.display())]
    Changed {
        /// The path as it was given.
        shown: String,
        /// What is no longer what it was.
        changed: PathBuf,
    },
    /// A directory of the run no longer leads to where it led when the run began; nothing was touched.
    #[error(
        "the directory {} led to {} when the run began, and leads to {} now, which is not followed: put it back, \
         or start a new run",
        path.display(), led.display(), leads.display()
    )]
    Moved {
        /// The directory.
        path: PathBuf,
        /// Where it led.
        led: PathBuf,
        /// Where it leads.
        leads: PathBuf,
    },
    /// A directory of the run has a name that cannot be recorded.
    #[error(
        "the directory {} has a name that is not UTF-8 and cannot be recorded with the run: choose another one",
        path.display()
    )]
    Name {
        /// The directory.
        path: PathBuf,
    },
    /// It is neither a file nor a directory.
    #[error("{} is not a regular file", path.display())]
    Special {
        /// The path.
        path: PathBuf,
    },
    /// The path is empty or has a zero byte.
    #[error("a path is needed, and this is none: {shown:?}")]
    NoPath {
        /// What was given.
        shown: String,
    },
    /// The path names a directory where a file is to be written; nothing was touched.
    #[error(
        "path `{shown}` names a directory, and a file is to be written: leave out the `/` at its end"
    )]
    NoFile {
        /// The path as it was given.
        shown: String,
    },
    /// It is larger than a value may be.
    #[error("{} has more than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// There are more entries than one listing may have.
    #[error("{} has more than {max} entries", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// The pattern cannot be used.
    #[error(transparent)]
    Pattern(#[from] super::PatternError),
    /// The system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory of the run cannot be made.
    #[error("directory {} cannot be made: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody waits for it any more.
    #[error("stopped before it was done")]
    Stopped,
}

impl FileError {
    pub(super) fn io(action: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Its code in the catalogue of the language.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Outside { .. }
            | Self::ReadOnly { .. }
            | Self::Base { .. }
            | Self::Changed { .. }
            | Self::Moved { .. } => "PL609",
            Self::Special { .. }
            | Self::NoFile { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Io { .. } => "PL601",
            Self::Pattern(_) => "PL406",
            Self::NoPath { .. } => "PL605",
            Self::Directory { .. } | Self::Name { .. } => "PL610",
            Self::Stopped => "PL616",
        }
    }

    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Outside { .. }
            | Self::ReadOnly { .. }
            | Self::Base { .. }
            | Self::Changed { .. }
            | Self::Moved { .. } => FailureClass::Path,
            Self::Special { .. }
            | Self::NoFile { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Io { .. }
            | Self::Directory { .. }
            | Self::Name { .. } => FailureClass::Io,
            Self::Pattern(_) => FailureClass::Expression,
            Self::NoPath { .. } => FailureClass::Reference,
            Self::Stopped => FailureClass::Cancelled,
        }
    }

    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// It as the failure of a step.
    pub fn failure(&self) -> Failure {
        Failure::new(self.class(), self.code(), self.to_string())
    }
}
