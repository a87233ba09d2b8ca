//! The shell: one stream of the store per session, one queue for all.

use std::{collections::HashMap, sync::Arc};

use perennial_store::{NewEvent, StoreError};
use perennial_supervision::{
    Address, ChildSpec,
    actor::{Actor, ActorError, ActorRef, RpcReply as ReplyPort},
};
use serde_json::json;

use super::{SessionError, SessionSummary, Turn};
use crate::{
    Services,
    patience::{STORE_WITHIN, patiently},
    published::Published,
};

pub(super) type Reply<T> = ReplyPort<Result<T, SessionError>>;

/// The kind of stream a session is.
const KIND: &str = "session";
/// Events read at a time.
const PAGE: u32 = 256;
/// How often one append is tried again after another writer took its place.
const ROUNDS_MAX: u32 = 16;

#[derive(Debug)]
pub(super) enum Message {
    Create { name: String, reply: Reply<()> },
    Append { name: String, turn: Turn, reply: Reply<u64> },
    Turns { name: String, reply: Reply<Vec<Turn>> },
    List { reply: Reply<Vec<SessionSummary>> },
    Close { name: String, reply: Reply<()> },
}

impl Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Append { .. } => "append",
            Self::Turns { .. } => "turns",
            Self::List { .. } => "list",
            Self::Close { .. } => "close",
        }
    }
}

pub(super) fn child_spec(services: Services) -> (ChildSpec, Address<Message>) {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let (spec, address) = ChildSpec::actor_of_kinds("sessions", Message::kind, move || {
        (SessionManager { services: services.clone(), published: published.clone() }, ())
    });
    (spec.detail(move || shown.read()), address)
}

struct SessionManager {
    services: Services,
    published: Arc<Published>,
}

/// Events in each stream, as far as known; the store refuses what is stale.
type Lengths = HashMap<String, u64>;

impl Actor for SessionManager {
    type Msg = Message;
    type State = Lengths;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<Lengths, ActorError> {
        self.published.publish(json!({ "known": 0, "last_use": null }));
        Ok(Lengths::new())
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        lengths: &mut Lengths,
    ) -> Result<(), ActorError> {
        let kind = message.kind();
        // Callers that have left do not matter: what they asked for is done or refused.
        match message {
            Message::Create { name, reply } => drop(reply.send(self.create(&name).await)),
            Message::Append { name, turn, reply } => {
                drop(reply.send(self.append(&name, &turn, lengths).await));
            }
            Message::Turns { name, reply } => drop(reply.send(self.turns(&name).await)),
            Message::List { reply } => drop(reply.send(self.list().await)),
            Message::Close { name, reply } => drop(reply.send(self.close(&name, lengths).await)),
        }
        self.published.publish(json!({
            "known": lengths.len(),
            "last_request": kind,
            "last_use": self.services.store.now().to_rfc3339(),
        }));
        Ok(())
    }
}

fn stream(name: &str) -> String {
    format!("session:{name}")
}

fn event(kind: &str, data: serde_json::Value) -> NewEvent {
    NewEvent { kind: kind.to_owned(), job: None, attempt: None, data }
}

fn refused(name: &str, error: StoreError) -> SessionError {
    if matches!(error, StoreError::NotFound { .. }) {
        SessionError::NotFound(name.to_owned())
    } else if matches!(error, StoreError::InvalidState(_)) {
        SessionError::Closed(name.to_owned())
    } else {
        SessionError::Store(error)
    }
}

impl SessionManager {
    async fn create(&self, name: &str) -> Result<(), SessionError> {
        let created = || async {
            let first = vec![event("session_created", json!({ "name": name }))];
            self.services.store.create_stream(&stream(name), KIND, first).await
        };
        match patiently(STORE_WITHIN, created).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { .. }) => Err(SessionError::Exists(name.to_owned())),
            Err(error) => Err(SessionError::Store(error)),
        }
    }

    async fn append(
        &self,
        name: &str,
        turn: &Turn,
        lengths: &mut Lengths,
    ) -> Result<u64, SessionError> {
        let events = self.write(name, event("turn", json!(turn)), false, lengths).await?;
        // The first event is the session's creation.
        Ok(events - 1)
    }

    async fn close(&self, name: &str, lengths: &mut Lengths) -> Result<(), SessionError> {
        let closing = event("session_closed", serde_json::Value::Null);
        self.write(name, closing, true, lengths).await.map(drop)
    }

    /// Appends at the end, wherever that is by now.
    async fn write(
        &self,
        name: &str,
        event: NewEvent,
        close: bool,
        lengths: &mut Lengths,
    ) -> Result<u64, SessionError> {
        for _ in 0..ROUNDS_MAX {
            let expected = match lengths.get(name) {
                Some(length) => *length,
                None => self.length(name).await?,
            };
            let append = || async {
                let events = vec![event.clone()];
                self.services.store.append(&stream(name), expected, events, close).await
            };
            // Not patiently: an append whose outcome is unknown is looked up, not repeated.
            match append().await {
                Ok(appended) => {
                    lengths.insert(name.to_owned(), appended.events);
                    return Ok(appended.events);
                }
                Err(StoreError::Conflict { .. }) => drop(lengths.remove(name)),
                Err(error) => {
                    lengths.remove(name);
                    return Err(refused(name, error));
                }
            }
        }
        Err(SessionError::Store(StoreError::Busy))
    }

    async fn length(&self, name: &str) -> Result<u64, SessionError> {
        let sessions = self.streams().await?;
        let wanted = stream(name);
        let found = sessions.into_iter().find(|record| record.stream == wanted);
        let record = found.ok_or_else(|| SessionError::NotFound(name.to_owned()))?;
        if record.closed {
            return Err(SessionError::Closed(name.to_owned()));
        }
        Ok(record.events)
    }

    async fn streams(&self) -> Result<Vec<perennial_store::StreamRecord>, SessionError> {
        Ok(patiently(STORE_WITHIN, || self.services.store.streams(KIND)).await?)
    }

    async fn list(&self) -> Result<Vec<SessionSummary>, SessionError> {
        let summary = |record: perennial_store::StreamRecord| SessionSummary {
            name: record.stream.strip_prefix("session:").unwrap_or(&record.stream).to_owned(),
            turns: record.events.saturating_sub(1 + u64::from(record.closed)),
            closed: record.closed,
            created_at: record.created_at,
        };
        Ok(self.streams().await?.into_iter().map(summary).collect())
    }

    async fn turns(&self, name: &str) -> Result<Vec<Turn>, SessionError> {
        let (id, mut from, mut turns) = (stream(name), 1, Vec::new());
        loop {
            let page = patiently(STORE_WITHIN, || self.services.store.events(&id, from, PAGE))
                .await
                .map_err(|error| refused(name, error))?;
            if page.is_empty() && from == 1 {
                return Err(SessionError::NotFound(name.to_owned()));
            }
            for event in page.iter().filter(|event| event.kind == "turn") {
                let turn = serde_json::from_value(event.data.clone());
                turns.push(turn.map_err(|error| StoreError::Unreadable {
                    what: format!("session {name}"),
                    why: error.to_string(),
                })?);
            }
            from += page.len() as u64;
            if page.len() < PAGE as usize {
                return Ok(turns);
            }
        }
    }
}
