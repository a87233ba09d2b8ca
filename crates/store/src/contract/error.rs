use std::path::PathBuf;

use perennial_core::{
    Timestamp,
    run::{InvalidTransition, RunId, RunState},
};

/// Why an operation changed nothing (STO-10).
///
/// ```
#[doc = include_str!("../../doc/recorded.txt")]
/// let unknown = store.run(&RunId::parse("nobody")?).await;
/// assert!(matches!(unknown, Err(StoreError::NotFound { what: "run", .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else decided first: read again and decide again.
    #[error("{what} has changed since it was read")]
    Conflict {
        /// What was to be changed.
        what: String,
    },
    /// The attempt no longer holds its job; its writes are refused for ever.
    #[error("attempt {attempt} of job {job} no longer holds its lease")]
    StaleAttempt {
        /// The job's row.
        job: i64,
        /// The refused attempt.
        attempt: u32,
    },
    /// The state forbids it.
    #[error(transparent)]
    InvalidState(#[from] InvalidTransition),
    /// The same id stands for something else.
    #[error("run id `{0}` is in use by a run of another definition or with other inputs")]
    KeyReused(RunId),
    /// The question has its answer, which stays.
    #[error("`{name}` has been answered already")]
    AlreadyAnswered {
        /// The question.
        name: String,
    },
    /// The question was open until a moment that has passed; what was declared for that counts.
    #[error("`{name}` could be answered until {until}")]
    Expired {
        /// The question.
        name: String,
        /// Until when.
        until: Timestamp,
    },
    /// As many as are kept are there, and nobody has taken them.
    #[error("{what}: {max} are kept, and none is taken")]
    TooMany {
        /// What they are.
        what: &'static str,
        /// How many are kept.
        max: u32,
    },
    /// No name: it is empty, or has a line break or another control character.
    #[error(
        "{name:?} cannot name {what}: 1 to 256 bytes without line breaks and control characters are needed"
    )]
    InvalidName {
        /// What was to have it.
        what: &'static str,
        /// The text.
        name: String,
    },
    /// No such record.
    #[error("{what} `{id}` is not in the store")]
    NotFound {
        /// Run, stream, blob or timer.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The run had ended, and was removed after its time.
    #[error("run `{run}` had ended ({state}) and was removed on {at}; its id stays taken for a while", at = at.to_date())]
    Removed {
        /// The run.
        run: RunId,
        /// How it had ended.
        state: RunState,
        /// When it was removed.
        at: Timestamp,
    },
    /// Too much is waiting to be written.
    #[error("the store has too much to write; try again")]
    Busy,
    /// No space is left.
    #[error(
        "the store is full: {0}; with more space it goes on, and nothing that is recorded is lost"
    )]
    Full(String),
    /// It cannot be reached or written now.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Whether it was written is not known: the connection was lost while the commit was answered, and the server
    /// could not say afterwards. Read before it is done again.
    #[error("whether it was written is not known: {0}")]
    Unknown(String),
    /// The text names no database of a server.
    #[error("this is no address of a PostgreSQL database: {why}")]
    InvalidAddress {
        /// What is wrong with it; never a part of it.
        why: String,
    },
    /// The server is there and will not do until somebody changes something.
    #[error("{server} cannot be the store: {why}")]
    Refused {
        /// Host, port and database.
        server: String,
        /// Why, and what to do.
        why: String,
    },
    /// It is another store than the one that was expected.
    #[error("this is the store {found}, and {expected} was expected")]
    WrongIdentity {
        /// Its identity.
        found: String,
        /// The identity that was asked for.
        expected: String,
    },
    /// It was closed, by the shutdown of its runtime: nothing is read from it or written to it here any more.
    #[error("the store is closed: its runtime has shut down")]
    Closed,
    /// It was opened only to be looked at: nothing is written to it here.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// The file is not a store, or is damaged. It is left as it is.
    #[error("{path} is not a usable store: {what}", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It was written by a newer version.
    #[error(
        "the store has schema version {found}, this build knows {known}: a newer one has written it, and nothing is changed; use that build, or one that is newer still"
    )]
    NewerSchema {
        /// In the file.
        found: u32,
        /// The newest this build can read.
        known: u32,
    },
    /// It was written by an older version, and is open for reading only.
    #[error(
        "the store has schema version {found}, this build needs {needed}; it is brought up to date when it is opened for writing"
    )]
    OlderSchema {
        /// In the file.
        found: u32,
        /// What can be read.
        needed: u32,
    },
    /// Another process holds it.
    #[error("the store {path} is held by {holder}", path = path.display(), holder = held_by(holder.as_deref()))]
    Locked {
        /// The file.
        path: PathBuf,
        /// What the holder wrote about itself, for example `pid 123`.
        holder: Option<String>,
    },
    /// A payload is too large.
    #[error("{what} has {bytes} bytes; at most {max} are possible")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A record cannot be read.
    #[error("a record of {what} cannot be read: {why}")]
    Unreadable {
        /// Table or payload.
        what: String,
        /// What is wrong.
        why: String,
    },
}

impl StoreError {
    /// Whether the same operation may succeed a moment later.
    ///
    /// ```
    /// use perennial_store::StoreError;
    ///
    /// assert!(StoreError::Busy.is_transient());
    /// assert!(!StoreError::Closed.is_transient());
    /// ```
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy | Self::Unavailable(_) | Self::Unknown(_) | Self::Full(_) => true,
            Self::Closed
            | Self::ReadOnly
            | Self::InvalidAddress { .. }
            | Self::Refused { .. }
            | Self::WrongIdentity { .. }
            | Self::Conflict { .. }
            | Self::StaleAttempt { .. }
            | Self::InvalidState(_)
            | Self::KeyReused(_)
            | Self::AlreadyAnswered { .. }
            | Self::Expired { .. }
            | Self::TooMany { .. }
            | Self::NotFound { .. }
            | Self::InvalidName { .. }
            | Self::Removed { .. }
            | Self::Corrupt { .. }
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. }
            | Self::Locked { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}

fn held_by(holder: Option<&str>) -> String {
    let own = format!("pid {}", std::process::id());
    match holder {
        Some(holder) if holder == own => format!("this process ({own})"),
        Some(holder) => format!("another process ({holder})"),
        None => "another process".to_owned(),
    }
}
