//! Files of a run: reading and writing below the directories it was given, and nowhere else.
//!
//! A path is resolved first (`..`, links), the result has to lie in an allowed root, and then the file is
//! reached from the handle of that root, one directory after the other and without following any link. What
//! changes in between makes the operation fail; it never leads it elsewhere (YR-71).
//!
//! | room | holds |
//! |---|---|
//! | [`directories`] | where a run works: project root, workspace, outputs, checkpoints |
//! | [`roots`] | which places are allowed, and the way from a path to one |
//! | [`access`] | read, write, copy, move, remove, list |
//! | `scratch` | directories that are made for a while |
//! | [`error`] | why not |
//!
//! Every write is a temporary file that becomes the real one by a rename. Only regular files are opened: a pipe
//! or a device would block, or worse.

pub mod access;
pub mod directories;
pub mod error;
mod listing;
pub mod roots;
mod scratch;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub use access::{Access, FileContent, FileIdentity, READ_BYTES_MAX, Sink, Standing};
pub use directories::{ChosenDirectories, Directories, DirectoryNames};
pub use error::FileError;
pub use listing::{Found, Kind, Pattern, PatternError};
pub use roots::{Base, Roots, RootsSpec};
pub use scratch::Scratch;

/// Handle to the files of one run. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// use perennial_tools::files::{Base, ChosenDirectories, Files, RootsSpec};
///
/// let directories = ChosenDirectories::default().resolve(folder.path());
/// let files = Files::make(RootsSpec::new(directories)).await?;
/// files.write_atomic(Base::Workspace, "notes/a.txt", b"hello".to_vec()).await?;
/// assert_eq!(files.read(Base::Reads, "notes/a.txt").await?.bytes, b"hello");
/// assert!(files.read(Base::Reads, "/etc/hostname").await.is_err()); // outside of all roots
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Files {
    roots: Arc<Roots>,
}

impl Files {
    /// Opens the roots of `spec`, whose directories exist. Blocks for as long as the file system takes.
    ///
    /// # Errors
    ///
    /// When a directory of the run cannot be opened.
    pub fn open(spec: RootsSpec) -> Result<Self, FileError> {
        Ok(Self { roots: Arc::new(Roots::open(spec)?) })
    }

    /// Makes the directories of `spec` and opens its roots, off the threads that poll futures.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # use perennial_tools::files::*;
    /// # let files = Files::make(RootsSpec::new(ChosenDirectories::default().resolve(folder.path()))).await?;
    ///
    /// assert!(folder.path().join("workspace").is_dir() && folder.path().join("outputs").is_dir());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When a directory cannot be made or opened, or leads elsewhere than it did; nothing is made then.
    pub async fn make(spec: RootsSpec) -> Result<Self, FileError> {
        off_thread(move |_| {
            spec.check_unmoved()?;
            spec.directories.make()?;
            Self::open(spec)
        })
        .await
    }

    /// Sees whether the directories of `spec` lead where they led, off the threads that poll futures. Makes nothing.
    ///
    /// # Errors
    ///
    /// The first that leads elsewhere.
    pub async fn check_unmoved(spec: RootsSpec) -> Result<(), FileError> {
        off_thread(move |_| spec.check_unmoved()).await
    }

    /// Where the run works.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # use perennial_tools::files::*;
    /// # let files = Files::make(RootsSpec::new(ChosenDirectories::default().resolve(folder.path()))).await?;
    ///
    /// assert_eq!(files.directories().project_root, folder.path());
    /// # Ok(())
    /// # }
    /// ```
    pub fn directories(&self) -> &Directories {
        self.roots.directories()
    }

    /// Does `work` off the threads that poll futures, and waits for it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # use perennial_tools::files::*;
    /// # let files = Files::make(RootsSpec::new(ChosenDirectories::default().resolve(folder.path()))).await?;
    ///
    /// let bytes = files
    ///     .perform(|access| {
    ///         access.write_atomic(&Base::Workspace, "a.txt", b"hello")?;
    ///         Ok(access.read(&Base::Reads, "a.txt")?.bytes)
    ///     })
    ///     .await?;
    /// assert_eq!(bytes, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `work` answers.
    ///
    /// # Panics
    ///
    /// When `work` does.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, `work` ends at its next chunk or entry with [`FileError::Stopped`]; what it
    /// has done by then stays done. A file is never half written.
    pub async fn perform<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Access<'_>) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let roots = self.roots.clone();
        off_thread(move |halt| work(&Access::new(&roots, halt))).await
    }

    /// The bytes of a file, and which file it was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # use perennial_tools::files::*;
    /// # let files = Files::make(RootsSpec::new(ChosenDirectories::default().resolve(folder.path()))).await?;
    ///
    /// files.write_atomic(Base::Workspace, "a.txt", b"hello".to_vec()).await?;
    /// assert_eq!(files.read(Base::Reads, "a.txt").await?.bytes, b"hello");
    /// assert!(files.read(Base::Reads, "b.txt").await.unwrap_err().is_not_found());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Access::read`].
    pub async fn read(&self, base: Base, path: &str) -> Result<FileContent, FileError> {
        let path = path.to_owned();
        self.perform(move |access| access.read(&base, &path)).await
    }

    /// The files and directories that the glob `pattern` matches, by path.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # use perennial_tools::files::*;
    /// # let files = Files::make(RootsSpec::new(ChosenDirectories::default().resolve(folder.path()))).await?;
    ///
    /// files.write_atomic(Base::Workspace, "notes/a.txt", b"hello".to_vec()).await?;
    /// let found = files.glob(Base::Workspace, "notes/*.txt").await?;
    /// assert_eq!((found[0].name.as_str(), found[0].size), ("a.txt", 5));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Access::glob`].
    pub async fn glob(&self, base: Base, pattern: &str) -> Result<Vec<Found>, FileError> {
        let pattern = pattern.to_owned();
        self.perform(move |access| access.glob(&base, &pattern)).await
    }

    /// Makes `bytes` the content of a file, all at once; its directories are made.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # use perennial_tools::files::*;
    /// # let files = Files::make(RootsSpec::new(ChosenDirectories::default().resolve(folder.path()))).await?;
    ///
    /// files.write_atomic(Base::Outputs, "letters/ada.txt", b"Dear Ada".to_vec()).await?;
    /// assert_eq!(std::fs::read(folder.path().join("outputs/letters/ada.txt"))?, b"Dear Ada");
    /// // Nothing is written outside of the allowed places.
    /// assert!(files.write_atomic(Base::Outputs, "../../x", Vec::new()).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Access::write_atomic`].
    pub async fn write_atomic(
        &self,
        base: Base,
        path: &str,
        bytes: Vec<u8>,
    ) -> Result<FileIdentity, FileError> {
        let path = path.to_owned();
        self.perform(move |access| access.write_atomic(&base, &path, &bytes)).await
    }
}

/// Does blocking `work` on a thread for it, and waits.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce(&Halt) -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let halt = Arc::new(Halt::default());
    let guard = HaltOnDrop(halt.clone());
    // What is logged there is about the same attempt.
    let span = tracing::Span::current();
    #[expect(
        clippy::disallowed_methods,
        reason = "awaited here, inside a supervised attempt with a deadline, and halted when that goes away: \
                  a thread child per file would only be slower"
    )]
    let task = tokio::task::spawn_blocking(move || span.in_scope(|| work(&halt)));
    let done = task.await;
    drop(guard);
    match done {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The executor is going away.
            Err(_) => Err(FileError::Stopped),
        },
    }
}

/// Tells work on another thread that nobody waits for it any more.
#[derive(Debug, Default)]
pub(crate) struct Halt(AtomicBool);

impl Halt {
    /// # Errors
    ///
    /// When the work is to end.
    fn check(&self) -> Result<(), FileError> {
        if self.0.load(Ordering::Relaxed) { Err(FileError::Stopped) } else { Ok(()) }
    }
}

struct HaltOnDrop(Arc<Halt>);

impl Drop for HaltOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
