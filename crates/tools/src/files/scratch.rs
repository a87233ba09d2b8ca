//! Directories that a part of a run has for itself, for a while.

use std::{
    ffi::OsStr,
    io,
    path::{Component, Path, PathBuf},
};

use cap_fs_ext::DirExt;
use cap_std::{ambient_authority, fs::Dir};

use super::{FileError, Files, Halt, access::remove_tree, off_thread, roots::resolve};

/// A directory by its name in the directory of all of them.
///
/// ```
/// use perennial_tools::files::Scratch;
/// use std::path::Path;
///
/// assert_eq!(Scratch::new("/srv/tmp", "a")?.path(), Path::new("/srv/tmp/a"));
/// assert!(Scratch::new("/srv/tmp", "../a").is_err());
/// # Ok::<(), perennial_tools::files::FileError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    root: PathBuf,
    name: String,
}

impl Scratch {
    /// The directory `name` below `root`.
    ///
    /// # Errors
    ///
    /// When `name` is more or less than one name.
    pub fn new(root: impl Into<PathBuf>, name: impl Into<String>) -> Result<Self, FileError> {
        let (root, name) = (root.into(), name.into());
        let mut parts = Path::new(&name).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(part)), None) if part == OsStr::new(&name) => {
                Ok(Self { root, name })
            }
            _ => Err(FileError::NoPath { shown: name }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Makes it anew: what an attempt that died left of it goes first. Answers where it is, without links.
    fn make(&self, halt: &Halt) -> Result<PathBuf, FileError> {
        let path = self.path();
        let failed = |error| FileError::io("make directory", &path, error);
        std::fs::create_dir_all(&self.root).map_err(failed)?;
        self.remove(halt)?;
        let root = Dir::open_ambient_dir(&self.root, ambient_authority()).map_err(failed)?;
        root.create_dir(&self.name).map_err(failed)?;
        Ok(resolve(&self.root)?.join(&self.name))
    }

    fn remove(&self, halt: &Halt) -> Result<bool, FileError> {
        let path = self.path();
        let removed = || -> Result<(), FileError> {
            let failed = |error| FileError::io("delete", &path, error);
            let root = Dir::open_ambient_dir(&self.root, ambient_authority()).map_err(failed)?;
            // A link that stands in its place goes, and nothing that it leads to.
            if root.symlink_metadata(&self.name).map_err(failed)?.is_dir() {
                remove_tree(halt, &root, OsStr::new(&self.name), &path, &mut 0)
            } else {
                root.remove_file_or_symlink(&self.name).map_err(failed)
            }
        };
        match removed() {
            Ok(()) => Ok(true),
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl Files {
    /// Makes an empty directory, whatever stood at its place, off the threads that poll futures. Answers where it
    /// is, without links.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub async fn make_scratch(scratch: Scratch) -> Result<PathBuf, FileError> {
        off_thread(move |halt| scratch.make(halt)).await
    }

    /// Removes a directory with all it holds; answers whether it was there.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub async fn remove_scratch(scratch: Scratch) -> Result<bool, FileError> {
        off_thread(move |halt| scratch.remove(halt)).await
    }
}
