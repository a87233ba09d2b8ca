//! One round trip: statements that are sent together, and what each came to.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use tokio_postgres::{Client, Error, Row, Statement, types::ToSql};

use super::{dialect, link::Failed};
use crate::{
    StoreError,
    transaction::value::{Bind, Kind},
};

/// What a statement came to: how many rows it changed, or those that it found.
#[derive(Debug)]
pub(super) enum Said {
    Changed(u64),
    Found(Vec<Row>),
}

impl Said {
    pub(super) fn changed(&self) -> u64 {
        match self {
            Self::Changed(rows) => *rows,
            Self::Found(rows) => rows.len() as u64,
        }
    }

    pub(super) fn found(self) -> Vec<Row> {
        match self {
            Self::Changed(_) => Vec::new(),
            Self::Found(rows) => rows,
        }
    }
}

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Said, Error>> + 'a>>;

/// A statement of a trip.
pub(super) struct Part<'a> {
    asked: Asked<'a>,
    answer: Option<Result<Said, Error>>,
}

impl<'a> Part<'a> {
    /// One whose rows are of interest.
    pub(super) fn query(
        client: &Arc<Client>,
        statement: &Statement,
        params: Vec<Bind<'a>>,
    ) -> Self {
        let (client, statement) = (Arc::clone(client), statement.clone());
        let asked =
            Box::pin(
                async move { client.query(&statement, &refs(&params)).await.map(Said::Found) },
            );
        Self { asked, answer: None }
    }

    /// A query about many rows of parameters.
    pub(super) fn query_all(client: &Arc<Client>, statement: &Statement, params: Arrays) -> Self {
        let (client, statement) = (Arc::clone(client), statement.clone());
        let asked = Box::pin(async move {
            client.query(&statement, &of_arrays(&params)).await.map(Said::Found)
        });
        Self { asked, answer: None }
    }

    /// A change with many rows of parameters.
    pub(super) fn change_all(client: &Arc<Client>, statement: &Statement, params: Arrays) -> Self {
        let (client, statement) = (Arc::clone(client), statement.clone());
        let asked = Box::pin(async move {
            client.execute(&statement, &of_arrays(&params)).await.map(Said::Changed)
        });
        Self { asked, answer: None }
    }

    /// One that changes rows, or is not about rows.
    pub(super) fn change(
        client: &Arc<Client>,
        statement: &Statement,
        params: Vec<Bind<'a>>,
    ) -> Self {
        let (client, statement) = (Arc::clone(client), statement.clone());
        let asked =
            Box::pin(
                async move { client.execute(&statement, &refs(&params)).await.map(Said::Changed) },
            );
        Self { asked, answer: None }
    }
}

/// Parameters of which each is an array.
pub(super) type Arrays = Vec<Box<dyn ToSql + Sync + Send>>;

fn of_arrays(params: &Arrays) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
}

fn refs<'a>(params: &'a [Bind<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

/// Sends all, in order, and waits for the answers; the first failure with the place of its part.
///
/// What could not even be sent stops what comes after it: among that may be a commit, which would be without it. A
/// statement that the server refuses needs no such care, since the server then refuses all up to the end of the
/// transaction, and makes of a commit a rollback.
pub(super) async fn together(
    mut parts: Vec<Part<'_>>,
) -> Result<Result<Vec<Said>, (usize, Failed)>, Error> {
    let mut sent = None;
    poll_fn(|cx| {
        let mut waiting = false;
        let first = sent.is_none();
        let reached = *sent.get_or_insert(parts.len());
        for (place, part) in parts.iter_mut().enumerate().take(reached) {
            if part.answer.is_some() {
                continue;
            }
            match part.asked.as_mut().poll(cx) {
                Poll::Ready(answer) => {
                    let stops = first && answer.is_err();
                    part.answer = Some(answer);
                    if stops {
                        sent = Some(place + 1);
                        break;
                    }
                }
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let mut said = Vec::with_capacity(parts.len());
    for (place, part) in parts.into_iter().enumerate() {
        match part.answer {
            Some(Ok(answer)) => said.push(answer),
            Some(Err(error)) => return Ok(Err((place, error.into()))),
            None => return Ok(Err((place, Failed::Silent))),
        }
    }
    Ok(Ok(said))
}

/// A change that waits for the next trip.
pub(super) struct Posted {
    pub(super) sql: String,
    pub(super) params: Vec<Owned>,
    /// What it means that it changes nothing, where that means something.
    pub(super) gone: Option<StoreError>,
}

/// Changes that one statement makes.
pub(super) struct Group {
    members: Vec<Posted>,
}

/// The most parameters of one statement; the protocol allows 65 535.
const PARAMS_MAX: usize = 200;

impl Group {
    /// The changes in their order, those together that one statement can make: to different tables, and none that
    /// reads what another one changes.
    pub(super) fn all(posted: Vec<Posted>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for one in posted {
            match groups.last_mut() {
                Some(group) if group.takes(&one) => group.members.push(one),
                Some(_) | None => groups.push(Self { members: vec![one] }),
            }
        }
        groups
    }

    fn takes(&self, one: &Posted) -> bool {
        let Some(table) = dialect::changes_only(&one.sql) else { return false };
        let params = self.members.iter().map(|member| member.params.len()).sum::<usize>();
        let others = |member: &Posted| {
            dialect::changes_only(&member.sql).is_some_and(|other| other != table)
        };
        params + one.params.len() <= PARAMS_MAX && self.members.iter().all(others)
    }

    /// By what the statement is known again.
    pub(super) fn key(&self) -> String {
        let mut key = String::with_capacity(self.members.iter().map(|one| one.sql.len() + 2).sum());
        for Posted { sql, gone, .. } in &self.members {
            key.push(if gone.is_some() { '!' } else { ';' });
            key.push_str(sql);
        }
        key
    }

    /// The statement, which fails where one of its changes must change something and does not.
    pub(super) fn text(&self, locks: dialect::Locks) -> String {
        let members: Vec<(String, usize, bool)> = self
            .members
            .iter()
            .map(|one| (dialect::statement(&one.sql, locks), one.params.len(), one.gone.is_some()))
            .collect();
        dialect::together(&members)
    }

    pub(super) fn params(&self) -> Vec<Bind<'_>> {
        self.members.iter().flat_map(|one| &one.params).map(Owned::bind).collect()
    }

    /// What it means that nothing was changed where something must be.
    pub(super) fn gone(self) -> Option<StoreError> {
        self.members.into_iter().find_map(|one| one.gone)
    }
}

/// A question whose answer is needed later; it travels with the next trip.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) sql: String,
    pub(super) params: Vec<Owned>,
}

impl Ahead {
    pub(super) fn is(&self, sql: &str, params: &[Bind<'_>]) -> bool {
        self.sql == sql
            && self.params.len() == params.len()
            && self.params.iter().zip(params).all(|(own, other)| *own == Owned::of(other))
    }
}

/// A parameter that outlives its caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owned {
    Null(Kind),
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Owned {
    pub(super) fn of(bind: &Bind<'_>) -> Self {
        match *bind {
            Bind::Null(kind) => Self::Null(kind),
            Bind::Int(number) => Self::Int(number),
            Bind::Text(text) => Self::Text(text.to_owned()),
            Bind::Blob(bytes) => Self::Blob(bytes.to_owned()),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Null(kind) => *kind,
            Self::Int(_) => Kind::Int,
            Self::Text(_) => Kind::Text,
            Self::Blob(_) => Kind::Blob,
        }
    }

    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Null(_) | Self::Text(_) | Self::Blob(_) => None,
        }
    }

    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Null(_) | Self::Int(_) | Self::Blob(_) => None,
        }
    }

    pub(super) fn blob(&self) -> Option<Vec<u8>> {
        match self {
            Self::Blob(bytes) => Some(bytes.clone()),
            Self::Null(_) | Self::Int(_) | Self::Text(_) => None,
        }
    }

    pub(super) fn bind(&self) -> Bind<'_> {
        match self {
            Self::Null(kind) => Bind::Null(*kind),
            Self::Int(number) => Bind::Int(*number),
            Self::Text(text) => Bind::Text(text),
            Self::Blob(bytes) => Bind::Blob(bytes),
        }
    }
}
