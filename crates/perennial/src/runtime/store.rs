use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use perennial_store::{MemoryStore, SqliteOptions, SqliteStore, StoreError};

/// Where a runtime keeps what must survive. It says where, and opens nothing:
/// [`Builder::start`](crate::Builder::start) does.
///
/// ```
/// use perennial::Store;
///
/// assert_eq!("sqlite:letters.db".parse(), Ok(Store::sqlite("letters.db")));
/// assert_eq!("letters.db".parse(), Ok(Store::sqlite("letters.db")));
/// assert_eq!("memory:".parse(), Ok(Store::memory()));
/// assert!("postgres://host/db".parse::<Store>().is_err()); // not in this version
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    choice: Choice,
    must_exist: bool,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Sqlite(PathBuf),
    Memory,
}

/// A text that names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` names no store: {why}")]
pub struct InvalidStoreUrl {
    url: String,
    why: &'static str,
}

/// A store that is open.
pub(super) enum Opened {
    Sqlite(SqliteStore),
    Memory(MemoryStore),
}

impl Store {
    /// One SQLite file, held by one process at a time. It is created when it is not there; the directory it lies in
    /// is not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, RuntimeError, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::sqlite(folder.path().join("letters.db"));
    /// let runtime = Runtime::builder().store(store.clone()).start().await?;
    /// let second = Runtime::builder().store(store).start().await;
    /// assert!(matches!(second, Err(RuntimeError::Store(_)))); // the first one holds it
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self { choice: Choice::Sqlite(path.into()), must_exist: false, read_only: false }
    }

    /// Nothing survives the process: for documentation and tests with a paused clock.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// runtime.sessions().create("support").await?;
    /// runtime.shutdown().await;
    ///
    /// let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert!(runtime.sessions().list().await?.is_empty()); // another store
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory() -> Self {
        Self { choice: Choice::Memory, must_exist: false, read_only: false }
    }

    /// Refuses to create what is not there: for those who only look, or continue. Changes nothing for a store in
    /// memory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// let refused = Runtime::builder().store(Store::sqlite("nowhere.db").must_exist()).start().await;
    /// assert!(refused.unwrap_err().to_string().contains("there is none at nowhere.db"));
    /// assert!(!std::path::Path::new("nowhere.db").exists());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn must_exist(mut self) -> Self {
        self.must_exist = true;
        self
    }

    /// Only looks, beside a process that has the store or alone: nothing is created, brought up to date or written,
    /// and the runtime starts [`store_only`](crate::Builder::store_only). Changes nothing for a store in memory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Retention, Runtime, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::sqlite(folder.path().join("letters.db"));
    /// let works = Runtime::builder().store(store.clone()).start().await?;
    /// let looks = Runtime::builder().store(store.read_only()).start().await?;
    /// assert!(looks.runs().list(20).await?.is_empty());
    /// let refused = looks.upkeep().retain(Retention::default()).await;
    /// assert_eq!(refused.unwrap_err().to_string(), "the store is open for reading only");
    /// # looks.shutdown().await;
    /// # works.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn read_only(mut self) -> Self {
        (self.must_exist, self.read_only) = (true, true);
        self
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only && self.choice != Choice::Memory
    }

    /// How a command names it; nothing for one that no other process can open.
    pub(super) fn url(&self) -> Option<String> {
        match &self.choice {
            Choice::Sqlite(path) => Some(format!("sqlite:{}", path.display())),
            Choice::Memory => None,
        }
    }

    pub(super) fn open(&self) -> Result<Opened, StoreError> {
        Ok(match &self.choice {
            Choice::Sqlite(path) => {
                if self.must_exist && !path.exists() {
                    let why = format!("there is none at {}; `run` creates one", path.display());
                    return Err(StoreError::Unavailable(why));
                }
                let options = SqliteOptions::default();
                Opened::Sqlite(if self.read_only {
                    SqliteStore::open_read_only(path, options)?
                } else {
                    SqliteStore::open(path, options)?
                })
            }
            Choice::Memory => Opened::Memory(MemoryStore::open()?),
        })
    }
}

impl Opened {
    pub(super) fn handle(&self) -> Arc<dyn perennial_store::Store> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Memory(store) => Arc::new(store.clone()),
        }
    }
}

impl FromStr for Store {
    type Err = InvalidStoreUrl;

    /// `sqlite:PATH`, `sqlite://PATH`, `memory:`, or a plain path.
    fn from_str(url: &str) -> Result<Self, InvalidStoreUrl> {
        let refuse = |why| InvalidStoreUrl { url: url.to_owned(), why };
        if url == "memory:" {
            return Ok(Self::memory());
        }
        let path = match url.split_once(':') {
            Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
            Some(("postgres" | "postgresql", _)) => {
                return Err(refuse("PostgreSQL is not in this version; use sqlite:PATH"));
            }
            Some((scheme, rest)) if rest.starts_with("//") || scheme.is_empty() => {
                return Err(refuse("use sqlite:PATH or memory:"));
            }
            Some(_) | None => url,
        };
        if path.is_empty() { Err(refuse("the path is missing")) } else { Ok(Self::sqlite(path)) }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.choice.fmt(f)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice {
            Choice::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Choice::Memory => f.write_str("memory:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_name_stores() {
        for (url, store) in [
            ("sqlite:a.db", Store::sqlite("a.db")),
            ("sqlite:///tmp/a.db", Store::sqlite("/tmp/a.db")),
            ("a.db", Store::sqlite("a.db")),
            ("memory:", Store::memory()),
        ] {
            assert_eq!(url.parse(), Ok(store));
        }
        for url in ["", "sqlite:", "postgres://h/db", "mysql://h"] {
            assert!(url.parse::<Store>().is_err(), "{url}");
        }
    }
}
