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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// use perennial::engine::sessions::Turn;
///
/// let sessions = runtime.sessions();
/// sessions.create("support").await?;
/// let turn = Turn { role: "user".to_owned(), content: "hello".to_owned() };
/// assert_eq!(sessions.append("support", turn.clone()).await?, 1);
/// assert_eq!(sessions.turns("support").await?, [turn]);
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sessions {
    address: Address<actor::Message>,
}

/// One turn of a conversation.
///
/// ```
/// use perennial::engine::sessions::Turn;
///
/// let turn = Turn { role: "assistant".to_owned(), content: "How can I help?".to_owned() };
/// assert_eq!(
///     serde_json::to_string(&turn)?,
///     r#"{"role":"assistant","content":"How can I help?"}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Turn {
    /// Who spoke, for example `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A line of the list of sessions.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// runtime.sessions().create("support").await?;
/// let summary = &runtime.sessions().list().await?[0];
/// assert_eq!((summary.name.as_str(), summary.turns, summary.closed), ("support", 0, false));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// use perennial::engine::sessions::SessionError;
///
/// runtime.sessions().create("support").await?;
/// let again = runtime.sessions().create("support").await;
/// assert_eq!(again, Err(SessionError::Exists("support".to_owned())));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
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

    /// Creates an empty session. Its name has 1 to 128 characters, none of them a control character.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// runtime.sessions().create("support").await?;
    /// assert!(runtime.sessions().create("").await.is_err()); // no name
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was created; creating it again tells.
    pub async fn create(&self, name: &str) -> Result<(), SessionError> {
        if name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control) {
            return Err(SessionError::InvalidName(name.to_owned()));
        }
        let name = name.to_owned();
        self.ask(|reply| actor::Message::Create { name, reply }).await
    }

    /// Adds a turn of at most [`TURN_BYTES_MAX`] bytes, which is recorded when this answers; answers how many there
    /// are now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use perennial::engine::sessions::{SessionError, Turn};
    ///
    /// runtime.sessions().create("support").await?;
    /// let turn = Turn { role: "user".to_owned(), content: "hello".to_owned() };
    /// assert_eq!(runtime.sessions().append("support", turn.clone()).await?, 1);
    /// let unknown = runtime.sessions().append("sales", turn).await;
    /// assert_eq!(unknown, Err(SessionError::NotFound("sales".to_owned())));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was added; asking again may add it twice.
    pub async fn append(&self, name: &str, turn: Turn) -> Result<u64, SessionError> {
        if turn.content.len() > TURN_BYTES_MAX {
            return Err(SessionError::TooLong(turn.content.len()));
        }
        let name = name.to_owned();
        self.ask(|reply| actor::Message::Append { name, turn, reply }).await
    }

    /// All turns, oldest first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// runtime.sessions().create("support").await?;
    /// assert!(runtime.sessions().turns("support").await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// runtime.sessions().create("support").await?;
    /// runtime.sessions().create("sales").await?;
    /// let names: Vec<_> = runtime.sessions().list().await?.into_iter().map(|it| it.name).collect();
    /// assert_eq!(names, ["support", "sales"]);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    pub async fn list(&self) -> Result<Vec<SessionSummary>, SessionError> {
        self.ask(|reply| actor::Message::List { reply }).await
    }

    /// Ends a session: it keeps its turns and takes no more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use perennial::engine::sessions::{SessionError, Turn};
    ///
    /// runtime.sessions().create("support").await?;
    /// runtime.sessions().close("support").await?;
    /// let turn = Turn { role: "user".to_owned(), content: "one more".to_owned() };
    /// let late = runtime.sessions().append("support", turn).await;
    /// assert_eq!(late, Err(SessionError::Closed("support".to_owned())));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
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
