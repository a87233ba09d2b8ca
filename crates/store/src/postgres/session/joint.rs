//! Several operations in one transaction: what they ask is asked at once, and what they change is changed at once.
//!
//! An operation is performed twice. The first time only as far as the end of its stream, to learn what it asks; the
//! second time with the answers, when its changes are collected. One that asks anything else strays, and is
//! performed alone, as is one whose stream somebody else has locked: nobody waits for that one. Their streams differ and
//! are locked before anything is read, so none sees what another one changes.

use std::collections::{HashSet, VecDeque};

use tokio_postgres::{
    Row, Statement,
    types::{ToSql, Type},
};

use super::{BEGIN_WRITE, Mark, OPENED_COLUMNS_OF, Session, Trouble};
use crate::{
    StoreError,
    postgres::{
        link::Failed,
        sets,
        trip::{self, Ahead, Arrays, Owned, Part, Posted, Said},
    },
    transaction::value::{Bind, Kind},
};

/// Ends of streams, as far as nobody has them.
const LOCK_FREE: &str = "SELECT stream FROM heads WHERE stream = ANY($1) FOR UPDATE SKIP LOCKED";

/// How what is asked is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is asked.
    Alone,
    /// It is noted, up to the end of the stream.
    Foreseeing,
    /// It has its answer.
    Told,
}

/// What an operation asks first.
#[derive(Debug)]
pub(in crate::postgres) struct Foreseen {
    stream: String,
    end: Ahead,
    asks: Vec<Ahead>,
}

impl Foreseen {
    /// Whether both can be in one transaction.
    pub(in crate::postgres) fn goes_with(&self, other: &Self) -> bool {
        self.stream != other.stream && self.end.sql == other.end.sql
    }
}

/// The answers for one operation.
pub(in crate::postgres) struct Told {
    end: Option<Row>,
    known: Vec<(Ahead, Vec<Row>)>,
}

/// What an operation came to that had its answers.
pub(in crate::postgres) enum Performed {
    /// It wants these changes.
    Wants(Vec<Posted>),
    /// It refuses by itself.
    Refused,
    /// It has to be performed alone.
    Strayed,
}

impl Session<'_> {
    /// Refuses what only an operation alone may do.
    pub(super) fn alone(&self) -> Result<(), StoreError> {
        if self.mode.get() == Mode::Alone {
            return Ok(());
        }
        self.strayed.set(true);
        Err(StoreError::Unavailable("it is performed together with others".to_owned()))
    }

    /// What `perform` asks first; None when it does anything before the end of a stream.
    pub(in crate::postgres) fn foresee(&self, perform: impl FnOnce()) -> Option<Foreseen> {
        self.forget();
        self.foreseen.take();
        self.strayed.set(false);
        self.mode.set(Mode::Foreseeing);
        perform();
        self.mode.set(Mode::Alone);
        let asks = self.ahead.take();
        self.forget();
        let (stream, end) = self.foreseen.take()?;
        (!self.strayed.get()).then_some(Foreseen { stream, end, asks })
    }

    /// Notes the end of a stream, or answers it, as the mode wants.
    pub(super) fn joint_end(
        &self,
        stream: &str,
        sql: &str,
        params: &[Bind<'_>],
        read: &mut dyn FnMut(&Row, usize) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self.mode.get() {
            Mode::Foreseeing => {
                let params = params.iter().map(Owned::of).collect();
                let end = Ahead { sql: sql.to_owned(), params };
                self.foreseen.replace(Some((stream.to_owned(), end)));
                Err(StoreError::Unavailable("its end is asked for with others".to_owned()))
            }
            Mode::Told => match self.told_end.take() {
                Some(row) => self.end_from(&row, read),
                None => self.alone(),
            },
            Mode::Alone => Ok(()),
        }
    }

    /// Begins a transaction, locks the ends of their streams, and answers what they ask: one trip. None for those whose
    /// stream is not there, or not to be had.
    pub(in crate::postgres) fn begin_together(
        &self,
        foreseen: Vec<Foreseen>,
    ) -> Result<Vec<Option<Told>>, StoreError> {
        let client = &self.link.client;
        let (mut streams, mut ends, mut asks) = (Vec::new(), Vec::new(), Vec::new());
        for (place, Foreseen { stream, end, asks: own }) in foreseen.into_iter().enumerate() {
            streams.push(stream);
            ends.push(end);
            asks.extend(own.into_iter().map(|ask| (place, ask)));
        }
        let mut questions: Vec<Vec<usize>> = Vec::new();
        for (place, (_, ask)) in asks.iter().enumerate() {
            let same = |question: &&mut Vec<usize>| {
                question.first().is_some_and(|first| asks[*first].1.sql == ask.sql)
            };
            match questions.iter_mut().find(same) {
                Some(question) => question.push(place),
                None => questions.push(vec![place]),
            }
        }
        let begin = self.prepared(BEGIN_WRITE, &[])?;
        let lock = self.prepared(LOCK_FREE, &[Type::TEXT_ARRAY])?;
        let ends: Vec<&Ahead> = ends.iter().collect();
        let (end, of_ends) = self
            .of_all(&ends, |sql, params| sets::question_behind(OPENED_COLUMNS_OF, sql, params))?;
        let mut parts = vec![
            Part::change(client, &begin, Vec::new()),
            Part::query_all(client, &lock, vec![Box::new(streams.clone())]),
            Part::query_all(client, &end, of_ends),
        ];
        for question in &questions {
            let asked: Vec<&Ahead> = question.iter().map(|place| &asks[*place].1).collect();
            let (statement, params) = self.of_all(&asked, sets::question)?;
            parts.push(Part::query_all(client, &statement, params));
        }
        self.unsent.set(None);
        let said = self.drive(trip::together(parts))?;
        let mut said = said.map_err(|(_, failed)| self.failed(&failed))?.into_iter().skip(1);
        let mut locked = HashSet::new();
        for row in said.next().map(Said::found).unwrap_or_default() {
            let stream = row.try_get::<_, String>(0);
            locked.insert(stream.map_err(|error| self.failed(&Failed::Told(error)))?);
        }
        let mut told: Vec<Told> =
            ends.iter().map(|_| Told { end: None, known: Vec::new() }).collect();
        for row in said.next().map(Said::found).unwrap_or_default() {
            let place = self.numbered(&row, told.len())?;
            told[place].end = Some(row);
        }
        let mut found: Vec<Vec<Row>> = asks.iter().map(|_| Vec::new()).collect();
        for (question, said) in questions.iter().zip(said) {
            for row in said.found() {
                let place = self.numbered(&row, question.len())?;
                found[question[place]].push(row);
            }
        }
        for ((place, ask), found) in asks.into_iter().zip(found) {
            told[place].known.push((ask, found));
        }
        let is_locked = |(stream, told)| locked.contains(&stream).then_some(told);
        Ok(streams.into_iter().zip(told).map(is_locked).collect())
    }

    /// Performs an operation that has its answers.
    pub(in crate::postgres) fn perform_told(
        &self,
        told: Told,
        perform: impl FnOnce() -> bool,
    ) -> Performed {
        self.forget();
        self.strayed.set(false);
        self.now.set(None);
        self.known.replace(told.known);
        self.told_end.replace(told.end);
        let trace = self.trace.take();
        self.mode.set(Mode::Told);
        let wanted = perform();
        self.mode.set(Mode::Alone);
        self.told_end.take();
        let posted = self.posted.take();
        self.forget();
        let strayed = self.strayed.get()
            || self.trouble.get().is_some()
            || !posted.iter().all(|one| self.is_for_many(one));
        if wanted && !strayed && self.trace.borrow().is_some() {
            return Performed::Wants(posted);
        }
        // The event that tells whether all was committed is one of those that are written.
        self.trace.replace(trace);
        match (strayed, wanted) {
            (true, _) => Performed::Strayed,
            // It found that everything is there.
            (false, true) if posted.is_empty() => Performed::Wants(posted),
            (false, true) => Performed::Strayed,
            (false, false) => Performed::Refused,
        }
    }

    /// Makes all changes, each statement once for all who want it next, and ends the transaction: one trip. An error
    /// says that nothing of them is there, unless the answer itself was lost.
    pub(in crate::postgres) fn commit_together(
        &self,
        wanted: Vec<Vec<Posted>>,
    ) -> Result<(), StoreError> {
        let client = &self.link.client;
        let mut wanted: Vec<VecDeque<Posted>> = wanted.into_iter().map(VecDeque::from).collect();
        let mut parts = Vec::new();
        while let Some(next) = wanted.iter().find_map(VecDeque::front) {
            let (sql, must) = (next.sql.clone(), next.gone.is_some());
            let is_next = |one: &Posted| one.sql == sql && one.gone.is_some() == must;
            // Rows that nothing else can be about may be many of one operation.
            let more = is_only_new(&sql);
            let mut same = Vec::new();
            for own in &mut wanted {
                while own.front().is_some_and(is_next) {
                    same.extend(own.pop_front());
                    if !more {
                        break;
                    }
                }
            }
            let rows: Vec<&[Owned]> = same.iter().map(|one| &*one.params).collect();
            let made = |sql: &str, params| sets::change(sql, params, must);
            let (statement, params) = self.of_rows(&sql, &rows, must, made)?;
            parts.push(Part::change_all(client, &statement, params));
        }
        let commit = self.prepared("COMMIT", &[])?;
        parts.push(Part::change(client, &commit, Vec::new()));
        match self.drive(trip::together(parts))? {
            Ok(_) => Ok(()),
            Err((_, failed)) => Err(self.failed(&failed)),
        }
    }

    /// By what the transaction can be found again whose connection was lost; None when there is a connection.
    pub(in crate::postgres) fn lost_with(&self) -> Option<Mark> {
        (self.trouble.get() == Some(Trouble::Lost)).then(|| self.traced()).flatten()
    }

    /// The number of a row among `count`, which is its last column.
    fn numbered(&self, row: &Row, count: usize) -> Result<usize, StoreError> {
        let number: i64 = row
            .try_get(row.len().saturating_sub(1))
            .map_err(|error| self.failed(&Failed::Told(error)))?;
        let place = usize::try_from(number - 1).ok().filter(|place| *place < count);
        place.ok_or_else(|| StoreError::Unavailable("an answer belongs to no question".to_owned()))
    }

    fn of_all(
        &self,
        asks: &[&Ahead],
        made: impl Fn(&str, usize) -> Option<String>,
    ) -> Result<(Statement, Arrays), StoreError> {
        let rows: Vec<&[Owned]> = asks.iter().map(|ask| &*ask.params).collect();
        let sql = asks.first().map_or("", |ask| &ask.sql);
        self.of_rows(sql, &rows, false, made)
    }

    /// The statement that `made` makes of `sql`, and its parameters: one array for each place.
    fn of_rows(
        &self,
        sql: &str,
        rows: &[&[Owned]],
        must: bool,
        made: impl Fn(&str, usize) -> Option<String>,
    ) -> Result<(Statement, Arrays), StoreError> {
        let kinds: Vec<Kind> =
            rows.first().map(|row| row.iter().map(Owned::kind).collect()).unwrap_or_default();
        let types = || kinds.iter().map(|kind| array_of(*kind)).collect();
        let key = key(sql, must);
        let text = match self.statements.borrow().contains_key(&key) {
            true => String::new(),
            false => made(sql, kinds.len())
                .ok_or_else(|| StoreError::Unavailable("not for many rows".to_owned()))?,
        };
        let statement = self.statement(&key, || text, types)?;
        let column = |(place, kind): (usize, &Kind)| column(*kind, rows, place);
        Ok((statement, kinds.iter().enumerate().map(column).collect()))
    }

    /// Whether it can be made with many rows.
    fn is_for_many(&self, posted: &Posted) -> bool {
        let must = posted.gone.is_some();
        self.statements.borrow().contains_key(&key(&posted.sql, must))
            || sets::change(&posted.sql, posted.params.len(), must).is_some()
    }
}

/// By what the statement of many rows is known again.
fn key(sql: &str, must: bool) -> String {
    format!("{} {sql}", if must { "all!" } else { "all" })
}

/// Whether it does nothing but add rows.
fn is_only_new(sql: &str) -> bool {
    sql.starts_with("INSERT INTO") && !sql.contains("ON CONFLICT")
}

/// All values of one place.
type Array = Box<dyn ToSql + Sync + Send>;

fn array_of(kind: Kind) -> Type {
    match kind {
        Kind::Int => Type::INT8_ARRAY,
        Kind::Text => Type::TEXT_ARRAY,
        Kind::Blob => Type::BYTEA_ARRAY,
    }
}

fn column(kind: Kind, rows: &[&[Owned]], place: usize) -> Array {
    let values = rows.iter().map(|row| row.get(place));
    match kind {
        Kind::Int => Box::new(values.map(|value| value.and_then(Owned::int)).collect::<Vec<_>>()),
        Kind::Text => Box::new(values.map(|value| value.and_then(Owned::text)).collect::<Vec<_>>()),
        Kind::Blob => Box::new(values.map(|value| value.and_then(Owned::blob)).collect::<Vec<_>>()),
    }
}
