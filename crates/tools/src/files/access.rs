//! What can be done to files, one blocking operation after the other.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use cap_fs_ext::{DirExt, FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, File, Metadata, OpenOptions};
use cap_tempfile::TempFile;
use perennial_core::{Digest, digest::Digester};

use super::{
    Base, FileError, Halt, Roots,
    listing::Kind,
    roots::{Intent, Place, Spot},
};

/// Most bytes of a file that are read as one value.
pub const READ_BYTES_MAX: u64 = 1 << 30;

/// Bytes between two looks at whether anybody still waits.
const CHUNK: usize = 256 * 1024;

/// A file's content, and which file it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Which file it was, and which content.
    pub identity: FileIdentity,
    /// A second file that the path could have meant, and that was not read (YR-70).
    pub shadowed: Option<PathBuf>,
}

/// Which file, and which content of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// Absolute, without links.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds of Unix time.
    pub modified_ns: i64,
    /// Its number in the file system.
    pub inode: u64,
    /// Of its content.
    pub digest: Digest,
}

/// Takes the next bytes of a file that is written.
pub type Sink<'s> = dyn FnMut(&[u8]) -> Result<(), FileError> + 's;

/// The operations; each resolves its paths itself, as of now.
#[derive(Debug)]
pub struct Access<'a> {
    pub(super) roots: &'a Roots,
    halt: &'a Halt,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Absolute, without links.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds of Unix time.
    pub modified_ns: i64,
    /// Nobody may write it.
    pub readonly: bool,
}

impl<'a> Access<'a> {
    pub(super) fn new(roots: &'a Roots, halt: &'a Halt) -> Self {
        Self { roots, halt }
    }

    /// Says whether anybody still waits; to be asked between the parts of long work.
    ///
    /// # Errors
    ///
    /// [`FileError::Stopped`] when nobody does.
    pub fn go_on(&self) -> Result<(), FileError> {
        self.halt.check()
    }

    /// All bytes of a regular file, at most [`READ_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// When the path is not allowed, or there is no such file.
    pub fn read(&self, base: &Base, path: &str) -> Result<FileContent, FileError> {
        let place = self.roots.place(base, path, Intent::Read)?;
        let (mut file, found) = open(&place)?;
        let mut bytes = Vec::new();
        self.pump(&mut file, &place.path, READ_BYTES_MAX, &mut |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        let digest = Digest::of(&bytes);
        let identity = identity(&place.path, &found, bytes.len() as u64, digest);
        Ok(FileContent { bytes, identity, shadowed: place.shadowed })
    }

    /// Hands a file to `take` in chunks; answers how many bytes it has.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and those of `take`.
    pub fn read_chunks(
        &self,
        base: &Base,
        path: &str,
        take: &mut Sink<'_>,
    ) -> Result<u64, FileError> {
        let place = self.roots.place(base, path, Intent::Read)?;
        let (mut file, _) = open(&place)?;
        self.pump(&mut file, &place.path, u64::MAX, take)
    }

    /// Makes `bytes` the content of the file, all at once. A file that has them already is left alone.
    ///
    /// # Errors
    ///
    /// When the path is not allowed, is no regular file, or the system refuses; the old content is then still
    /// there.
    pub fn write_atomic(
        &self,
        base: &Base,
        path: &str,
        bytes: &[u8],
    ) -> Result<FileIdentity, FileError> {
        self.write_with(base, path, None, |write| write(bytes))
    }

    /// Makes what `fill` gives the content of the file, all at once, as [`write_atomic`](Self::write_atomic) does;
    /// `modified_ns` is when it shall look changed.
    ///
    /// # Errors
    ///
    /// As [`write_atomic`](Self::write_atomic), and those of `fill`.
    pub fn write_with(
        &self,
        base: &Base,
        path: &str,
        modified_ns: Option<i64>,
        fill: impl FnOnce(&mut Sink<'_>) -> Result<(), FileError>,
    ) -> Result<FileIdentity, FileError> {
        // Such a path asks for a directory, and would lose its end.
        if path.ends_with('/') || path.ends_with("/.") {
            return Err(FileError::NoFile { shown: path.to_owned() });
        }
        let place = self.roots.place(base, path, Intent::Write)?;
        let spot = place.spot(true)?;
        let old = old_file(&place, &spot)?;
        let failed = |error| FileError::io("write", &place.path, error);
        let mut temp = TempFile::new(&spot.dir).map_err(failed)?;
        let (mut digester, mut size) = (Digester::default(), 0);
        fill(&mut |chunk| {
            for piece in chunk.chunks(CHUNK) {
                self.halt.check()?;
                temp.write_all(piece).map_err(failed)?;
                digester.update(piece);
                size += piece.len() as u64;
            }
            Ok(())
        })?;
        let digest = digester.finish();
        if let Some(old) = &old {
            if old.len() == size && self.digest_at(&place)? == digest {
                return Ok(identity(&place.path, old, size, digest));
            }
            temp.as_file().set_permissions(old.permissions()).map_err(failed)?;
        }
        if let Some(modified_ns) = modified_ns {
            let file = temp.as_file().try_clone().map_err(failed)?.into_std();
            let since = std::time::Duration::from_nanos(u64::try_from(modified_ns).unwrap_or(0));
            file.set_modified(UNIX_EPOCH + since).map_err(failed)?;
        }
        temp.as_file().sync_all().map_err(failed)?;
        let found = temp.as_file().metadata().map_err(failed)?;
        temp.replace(&spot.name).map_err(failed)?;
        sync(&spot.dir).map_err(failed)?;
        Ok(identity(&place.path, &found, size, digest))
    }

    /// What is at the path; nothing when it is not there.
    ///
    /// # Errors
    ///
    /// When the path is not allowed, or cannot be looked at.
    pub fn look(&self, base: &Base, path: &str) -> Result<Option<Standing>, FileError> {
        let place = self.roots.place(base, path, Intent::Read)?;
        let found = if place.is_root() {
            place.dir(false).and_then(|dir| {
                dir.dir_metadata().map_err(|error| FileError::io("look at", &place.path, error))
            })
        } else {
            place.spot(false).and_then(|spot| {
                let found = spot.dir.symlink_metadata(&spot.name);
                found.map_err(|error| FileError::io("look at", &place.path, error))
            })
        };
        match found {
            Ok(found) => Ok(Some(Standing {
                kind: Kind::of(&found),
                size: found.len(),
                modified_ns: modified_ns(&found),
                readonly: found.permissions().readonly(),
                path: place.path,
            })),
            Err(FileError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Where a write to `path` would go, without touching anything.
    ///
    /// # Errors
    ///
    /// When the path may not be written.
    pub fn target(&self, base: &Base, path: &str) -> Result<PathBuf, FileError> {
        let place = self.roots.place(base, path, Intent::Write)?;
        if place.is_root() {
            return Err(FileError::Base { shown: path.to_owned() });
        }
        Ok(place.path)
    }

    /// Makes a directory with its parents; one that is there is fine.
    ///
    /// # Errors
    ///
    /// When the path is not allowed, or the system refuses.
    pub fn make_dir(&self, base: &Base, path: &str) -> Result<(), FileError> {
        self.roots.place(base, path, Intent::Write)?.dir(true).map(drop)
    }

    /// Renames a file or a directory; its new parents are made. Across file systems the system refuses with
    /// `CrossesDevices`.
    ///
    /// # Errors
    ///
    /// When a path is not allowed, or the system refuses.
    pub fn rename(&self, from: (&Base, &str), to: (&Base, &str)) -> Result<(), FileError> {
        let source = self.roots.place(from.0, from.1, Intent::Write)?;
        self.no_base(&source, from.1)?;
        let target = self.roots.place(to.0, to.1, Intent::Write)?;
        let (old, new) = (source.spot(false)?, target.spot(true)?);
        let failed = |error| FileError::io("move", &source.path, error);
        old.dir.rename(&old.name, &new.dir, &new.name).map_err(failed)?;
        sync(&new.dir).map_err(failed)
    }

    /// Removes a file, or with `recursive` a directory; answers how many files and directories went.
    ///
    /// # Errors
    ///
    /// When the path is not allowed, is a directory of the run, or the system refuses.
    pub fn remove(&self, base: &Base, path: &str, recursive: bool) -> Result<u64, FileError> {
        let place = self.roots.place(base, path, Intent::Write)?;
        self.no_base(&place, path)?;
        let spot = place.spot(false)?;
        let failed = |error| FileError::io("delete", &place.path, error);
        if !spot.dir.symlink_metadata(&spot.name).map_err(failed)?.is_dir() {
            spot.dir.remove_file_or_symlink(&spot.name).map_err(failed)?;
            return Ok(1);
        }
        if !recursive {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let mut count = 0;
        remove_tree(self.halt, &spot.dir, &spot.name, &place.path, &mut count)?;
        Ok(count)
    }

    /// What the run works in is neither moved nor removed, nor what lies above it.
    fn no_base(&self, place: &Place<'_>, shown: &str) -> Result<(), FileError> {
        if place.is_root() || self.roots.holds_a_base(&place.path) {
            return Err(FileError::Base { shown: shown.to_owned() });
        }
        if self.roots.holds_read_only(&place.path) {
            let resolved = place.path.clone();
            return Err(FileError::ReadOnly { shown: shown.to_owned(), resolved });
        }
        Ok(())
    }

    /// The digest of a file.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn digest(&self, base: &Base, path: &str) -> Result<Digest, FileError> {
        self.digest_at(&self.roots.place(base, path, Intent::Read)?)
    }

    fn digest_at(&self, place: &Place<'_>) -> Result<Digest, FileError> {
        let mut digester = Digester::default();
        let (mut file, _) = open(place)?;
        self.pump(&mut file, &place.path, u64::MAX, &mut |chunk| {
            digester.update(chunk);
            Ok(())
        })?;
        Ok(digester.finish())
    }

    fn pump(
        &self,
        file: &mut File,
        path: &Path,
        max: u64,
        take: &mut Sink<'_>,
    ) -> Result<u64, FileError> {
        let mut chunk = vec![0; CHUNK];
        let mut total = 0;
        loop {
            self.halt.check()?;
            let count = match file.read(&mut chunk) {
                Ok(0) => return Ok(total),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(FileError::io("read", path, error)),
            };
            total += count as u64;
            if total > max {
                return Err(FileError::TooLarge { path: path.to_owned(), max });
            }
            take(&chunk[..count])?;
        }
    }
}

/// Removes the directory `name` with all it holds, links in it as links; `count` grows by what went.
pub(super) fn remove_tree(
    halt: &Halt,
    dir: &Dir,
    name: &OsStr,
    path: &Path,
    count: &mut u64,
) -> Result<(), FileError> {
    let failed = |error| FileError::io("delete", path, error);
    let inner = dir.open_dir_nofollow(name).map_err(failed)?;
    for entry in inner.entries().map_err(failed)? {
        halt.check()?;
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if entry.file_type().map_err(failed)?.is_dir() {
            remove_tree(halt, &inner, &name, &path.join(&name), count)?;
        } else {
            inner.remove_file_or_symlink(&name).map_err(failed)?;
            *count += 1;
        }
    }
    dir.remove_dir(name).map_err(failed)?;
    *count += 1;
    Ok(())
}

/// Opens a regular file. Its kind is looked at first, as opening a device may do something, and again after, as it
/// may have been changed; opening without blocking keeps a pipe from waiting for its other end.
fn open(place: &Place<'_>) -> Result<(File, Metadata), FileError> {
    let failed = |error| FileError::io("read", &place.path, error);
    let directory = || failed(io::Error::from(io::ErrorKind::IsADirectory));
    if place.is_root() {
        return Err(directory());
    }
    let spot = place.spot(false)?;
    let regular = |found: &Metadata| match Kind::of(found) {
        Kind::File => Ok(()),
        Kind::Directory => Err(directory()),
        Kind::Link => Err(place.changed()),
        Kind::Special => Err(FileError::Special { path: place.path.clone() }),
    };
    regular(&spot.dir.symlink_metadata(&spot.name).map_err(failed)?)?;
    let mut options = OpenOptions::new();
    options.read(true).follow(FollowSymlinks::No).nonblock(true);
    let opened = spot.dir.open_with(&spot.name, &options);
    let file = opened.map_err(|error| {
        let is_link = spot.dir.symlink_metadata(&spot.name).is_ok_and(|found| found.is_symlink());
        if is_link { place.changed() } else { failed(error) }
    })?;
    let found = file.metadata().map_err(failed)?;
    regular(&found)?;
    Ok((file, found))
}

/// The file that is there already, if any.
fn old_file(place: &Place<'_>, spot: &Spot) -> Result<Option<Metadata>, FileError> {
    let failed = |error| FileError::io("write", &place.path, error);
    match spot.dir.symlink_metadata(&spot.name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
        Ok(found) => match Kind::of(&found) {
            Kind::File => Ok(Some(found)),
            Kind::Directory => Err(failed(io::Error::from(io::ErrorKind::IsADirectory))),
            Kind::Link => Err(place.changed()),
            Kind::Special => Err(FileError::Special { path: place.path.clone() }),
        },
    }
}

/// A rename is durable once its directory is.
fn sync(dir: &Dir) -> io::Result<()> {
    if cfg!(unix) { dir.open(".")?.sync_all() } else { Ok(()) }
}

fn identity(path: &Path, found: &Metadata, size: u64, digest: Digest) -> FileIdentity {
    let modified_ns = modified_ns(found);
    FileIdentity { path: path.to_owned(), size, modified_ns, inode: found.ino(), digest }
}

pub(super) fn modified_ns(found: &Metadata) -> i64 {
    let modified = found.modified().ok().map(cap_std::time::SystemTime::into_std);
    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}
