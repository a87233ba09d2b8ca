//! Durable conversations.
//!
//! # Why an actor
//!
//! Turns of one session have an order, and two writers must not both take the same place: one
//! queue decides.
//!
//! # Supervision
//!
//! A permanent child; restarting it disturbs no other.
//!
//! # What a restart forgets
//!
//! A cache of how many turns each session has. The turns are a stream of the store each.
//!
//! # Guarantees
//!
//! An answered append is in the store, once, at its place. A closed session takes no turn.

mod actor;

use std::time::Duration;

use perennial_core::Timestamp;
use perennial_store::StoreError;
use perennial_supervision::{Address, CallError, ChildSpec};

use crate::Services;

/// How long the store may hold an answer up.
const REPLY_WITHIN: Duration = Duration::from_secs(40);
/// Longest text of one turn, in bytes.
pub const TURN_BYTES_MAX: usize = 256 * 1024;

/// Handle to the session manager. Cheap to clone; outlives restarts.
#[derive(Clone, Debug)]
pub struct Sessions {
    address: Address<actor::Message>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Turn {
    /// Who spoke, for example `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A line of the list of sessions.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionSummary {
    /// Its name.
    pub name: String,
    /// Turns in it.
    pub turns: u64,
    /// Whether it takes no turn any more.
    pub closed: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// Why a session was not changed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// There is one of this name.
    #[error("session `{0}` exists already")]
    Exists(String),
    /// There is none of this name.
    #[error("no session `{0}`")]
    NotFound(String),
    /// It takes no turn any more.
    #[error("session `{0}` is closed")]
    Closed(String),
    /// The name cannot be used.
    #[error("`{0}` cannot name a session: 1 to 128 characters without control characters")]
    InvalidName(String),
    /// The turn is too long.
    #[error("a turn of {0} bytes is too long; at most {TURN_BYTES_MAX} are possible")]
    TooLong(usize),
    /// The store refused or is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manager did not answer; an append may or may not have happened.
    #[error("the session manager did not answer")]
    Manager(#[from] CallError),
}

impl Sessions {
    /// How to supervise a session manager, and the handle to it.
    pub fn child_spec(services: Services) -> (ChildSpec, Self) {
        let (spec, address) = actor::child_spec(services);
        (spec, Self { address })
    }

    /// Creates an empty session.
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    pub async fn create(&self, name: &str) -> Result<(), SessionError> {
        if name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control) {
            return Err(SessionError::InvalidName(name.to_owned()));
        }
        let name = name.to_owned();
        self.ask(|reply| actor::Message::Create { name, reply }).await
    }

    /// Adds a turn; answers how many there are now.
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    pub async fn append(&self, name: &str, turn: Turn) -> Result<u64, SessionError> {
        if turn.content.len() > TURN_BYTES_MAX {
            return Err(SessionError::TooLong(turn.content.len()));
        }
        let name = name.to_owned();
        self.ask(|reply| actor::Message::Append { name, turn, reply }).await
    }

    /// All turns, oldest first.
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    pub async fn turns(&self, name: &str) -> Result<Vec<Turn>, SessionError> {
        let name = name.to_owned();
        self.ask(|reply| actor::Message::Turns { name, reply }).await
    }

    /// All sessions, oldest first.
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    pub async fn list(&self) -> Result<Vec<SessionSummary>, SessionError> {
        self.ask(|reply| actor::Message::List { reply }).await
    }

    /// Ends a session: it keeps its turns and takes no more.
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    pub async fn close(&self, name: &str) -> Result<(), SessionError> {
        let name = name.to_owned();
        self.ask(|reply| actor::Message::Close { name, reply }).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(actor::Reply<T>) -> actor::Message,
    ) -> Result<T, SessionError> {
        self.address.call(request, REPLY_WITHIN).await?
    }
}
