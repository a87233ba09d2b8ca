//! Reads the files that a user names: workflow documents, mocks, configuration.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Why a file was not read.
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

/// The bytes of the file at `path`, if they are at most `max`; never reads more than that.
///
/// Blocks for as long as the file system takes.
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
}
