mod settings;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use perennial_store::{MemoryStore, SqliteStore, StoreError};
#[cfg(feature = "postgres")]
use perennial_store::{PostgresAddress, PostgresOptions, PostgresStore};

pub use self::settings::StoreSettings;

/// Connections of a runtime that only reads.
#[cfg(feature = "postgres")]
const READING_CONNECTIONS: usize = 2;

/// Where a runtime keeps what must survive. It says where, and opens nothing:
/// [`Builder::start`](crate::Builder::start) does.
///
/// ```
/// use perennial::Store;
///
/// assert_eq!("sqlite:letters.db".parse(), Ok(Store::sqlite("letters.db")));
/// assert_eq!("letters.db".parse(), Ok(Store::sqlite("letters.db")));
/// assert_eq!("memory:".parse(), Ok(Store::memory()));
/// assert!("mysql://host/db".parse::<Store>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    choice: Choice,
    must_exist: bool,
    read_only: bool,
    settings: StoreSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Sqlite(PathBuf),
    Memory,
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresAddress>),
}

/// A text that names no store. What may hold a password is not in it.
///
/// ```
/// # use perennial::{InvalidStoreUrl, Store};
/// let error: InvalidStoreUrl = "mysql://me:s3cret@host/db".parse::<Store>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`mysql://…` names no store: use sqlite:PATH, postgres://… or memory:"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` names no store: {why}")]
pub struct InvalidStoreUrl {
    /// Without what may hold a password.
    url: String,
    why: String,
}

/// A store that is open.
pub(super) enum Opened {
    /// And how many threads read it.
    Sqlite(SqliteStore, usize),
    Memory(MemoryStore),
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
}

/// What for a store is opened.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "a server wants to know it"))]
pub(super) struct Opening<'a> {
    /// Who opens it.
    pub(super) node: &'a str,
    /// It is only read.
    pub(super) reads_only: bool,
    /// For how long a server hears nothing of a transaction of this node before it gives up what that has locked.
    pub(super) silence: std::time::Duration,
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
        Self::of(Choice::Sqlite(path.into()))
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
        Self::of(Choice::Memory)
    }

    /// A database on a PostgreSQL server (14 or later), which any number of nodes share: each lives by its lease, and
    /// takes over what dead ones leave. Its tables, in the schema `perennial`, are created when they are not there;
    /// the database is not.
    ///
    /// The address is `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; with `?host=/FOLDER` it is that of a unix socket.
    /// There is no TLS in this version: use a private network, a socket or a tunnel. The password is shown nowhere.
    ///
    /// ```
    /// use perennial::Store;
    ///
    /// let store = Store::postgres("postgres://ada:s3cret@db.internal/work")?;
    /// assert_eq!(store.to_string(), "postgres://ada:***@db.internal:5432/work");
    /// assert!(Store::postgres("postgres://ada@db.internal:port/work").is_err());
    /// # Ok::<(), perennial::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidAddress`] when the text is no address; nobody is asked before the runtime starts.
    #[cfg(feature = "postgres")]
    pub fn postgres(url: &str) -> Result<Self, StoreError> {
        let address = Box::new(PostgresAddress::parse(url)?);
        Ok(Self::of(Choice::Postgres(address)))
    }

    /// Whether several processes may have it open at the same time.
    ///
    /// ```
    /// # use perennial::Store;
    /// assert!(!Store::sqlite("letters.db").is_shared());
    /// ```
    pub fn is_shared(&self) -> bool {
        match self.choice {
            Choice::Sqlite(_) | Choice::Memory => false,
            #[cfg(feature = "postgres")]
            Choice::Postgres(_) => true,
        }
    }

    fn of(choice: Choice) -> Self {
        let settings = StoreSettings::default();
        Self { choice, must_exist: false, read_only: false, settings }
    }

    /// How it is opened. What is not set is as a [configuration](crate::Config) says, else as usual.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, RuntimeError, Store, StoreSettings};
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::sqlite(folder.path().join("letters.db"));
    /// # Runtime::builder().store(store.clone()).start().await?.shutdown().await;
    /// let mine = StoreSettings { expect_id: Some("86ec5273e80d2f40".to_owned()), ..StoreSettings::default() };
    /// let refused = Runtime::builder().store(store.settings(mine)).start().await;
    /// assert!(refused.unwrap_err().to_string().contains("86ec5273e80d2f40 was expected"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn settings(mut self, settings: StoreSettings) -> Self {
        self.settings = settings;
        self
    }

    /// What is not set is taken from `others`.
    pub(super) fn or_settings(mut self, others: &StoreSettings) -> Self {
        self.settings = self.settings.or(others);
        self
    }

    /// One that has an identity is not made now.
    fn is_there_already(&self) -> bool {
        self.must_exist || self.settings.expect_id.is_some()
    }

    pub(super) fn check(&self) -> Result<(), perennial_engine::SettingErrors> {
        self.settings.check()
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
            #[cfg(feature = "postgres")]
            Choice::Postgres(address) => Some(address.to_string()),
        }
    }

    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, unused_variables, reason = "a server is asked")
    )]
    pub(super) async fn open(&self, opening: Opening<'_>) -> Result<Opened, StoreError> {
        Ok(match &self.choice {
            Choice::Sqlite(path) => {
                if self.is_there_already() && !path.exists() {
                    let why =
                        format!("there is none at {}; starting a run creates one", path.display());
                    return Err(StoreError::Unavailable(why));
                }
                let options = self.settings.sqlite();
                let store = if self.read_only {
                    SqliteStore::open_read_only(path, options)?
                } else {
                    SqliteStore::open(path, options)?
                };
                let found = perennial_store::Store::status(&store).store_id;
                if let Some(expected) = self.settings.expect_id.clone().filter(|id| *id != found) {
                    return Err(StoreError::WrongIdentity { found, expected });
                }
                Opened::Sqlite(store, self.settings.readers())
            }
            Choice::Memory => Opened::Memory(MemoryStore::open()?),
            #[cfg(feature = "postgres")]
            Choice::Postgres(address) => {
                let mut options = PostgresOptions {
                    application_name: format!("perennial {}", opening.node),
                    must_exist: self.is_there_already(),
                    ..self.settings.postgres()
                };
                options.idle_in_transaction = options.idle_in_transaction.min(opening.silence);
                if opening.reads_only {
                    options.connections = READING_CONNECTIONS;
                }
                Opened::Postgres(PostgresStore::open_at(address, options).await?)
            }
        })
    }
}

impl Opened {
    pub(super) fn handle(&self) -> Arc<dyn perennial_store::Store> {
        match self {
            Self::Sqlite(store, _) => Arc::new(store.clone()),
            Self::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }
}

impl FromStr for Store {
    type Err = InvalidStoreUrl;

    /// `sqlite:PATH`, `sqlite://PATH`, `postgres://…`, `memory:`, or a plain path.
    fn from_str(url: &str) -> Result<Self, InvalidStoreUrl> {
        let shown = match url.split_once("://") {
            Some((scheme, rest)) if rest.contains('@') => format!("{scheme}://…"),
            Some(_) | None => url.to_owned(),
        };
        let refuse = |why: &str| InvalidStoreUrl { url: shown.clone(), why: why.to_owned() };
        if url == "memory:" {
            return Ok(Self::memory());
        }
        let path = match url.split_once(':') {
            Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
            Some(("postgres" | "postgresql", _)) => {
                #[cfg(feature = "postgres")]
                return Self::postgres(url).map_err(|error| {
                    let url = "postgres://…".to_owned();
                    match error {
                        StoreError::InvalidAddress { why } => InvalidStoreUrl { url, why },
                        error @ (StoreError::Refused { .. } | _) => {
                            InvalidStoreUrl { url, why: error.to_string() }
                        }
                    }
                });
                #[cfg(not(feature = "postgres"))]
                return Err(refuse("this build has no PostgreSQL (feature `postgres`)"));
            }
            Some((scheme, rest)) if rest.starts_with("//") || scheme.is_empty() => {
                return Err(refuse("use sqlite:PATH, postgres://… or memory:"));
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
            #[cfg(feature = "postgres")]
            Choice::Postgres(address) => address.fmt(f),
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
        for url in ["", "sqlite:", "postgres://h:port/db", "mysql://h"] {
            assert!(url.parse::<Store>().is_err(), "{url}");
        }
    }

    #[test]
    fn no_text_of_an_address_has_the_password() {
        for url in
            ["postgres://me:c4nary@h:port/db", "mysql://me:c4nary@h/db", "postgres://:c4nary@/"]
        {
            let error = url.parse::<Store>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("c4nary"), "{error:?}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_server_is_named_without_the_password() {
        let store: Store = "postgres://me:c4nary@h/db".parse().unwrap();
        let texts = format!("{store} {store:?} {:?}", store.url());
        assert!(
            texts.contains("postgres://me:***@h:5432/db") && !texts.contains("c4nary"),
            "{texts}"
        );
        let socket: Store = "postgres://me@/db?host=/run/pg&port=7".parse().unwrap();
        assert_eq!(socket.to_string(), "postgres://me@%2Frun%2Fpg:7/db");
        assert_eq!(socket.to_string().parse::<Store>().unwrap().to_string(), socket.to_string());
    }
}
