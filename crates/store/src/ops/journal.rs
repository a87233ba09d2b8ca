//! Events of a stream: gapless from 1, each with the hash of its predecessor and itself.

use perennial_core::{
    Digest, Timestamp,
    run::{JobKey, RunId, RunState},
};
use serde_json::Value;

use super::retention;
use crate::{
    EventRecord, NewEvent, StoreError,
    transaction::{Columns, Tx, int},
};

/// Largest data of an event of a run.
const RUN_DATA_BYTES_MAX: usize = 64 * 1024;
/// Largest data of an event of another stream: there it is the only record of what happened.
const STREAM_DATA_BYTES_MAX: usize = 1024 * 1024;
/// Longest text of a failure or a reason.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024;

/// The end of a stream while a transaction appends to it.
pub(crate) struct Journal {
    stream: String,
    /// As it was read: the condition of the write in [`Journal::finish`].
    revision: u64,
    first_seq: u64,
    next_seq: u64,
    hash: String,
    data_bytes_max: usize,
    /// Events that [`Journal::finish`] writes, and the data and hash of each.
    written: Vec<EventRecord>,
    stored: Vec<(String, String)>,
}

impl Journal {
    /// A stream without events.
    pub(crate) fn create(tx: &Tx<'_>, stream: &str, of_run: bool) -> Result<Self, StoreError> {
        tx.post(
            "INSERT INTO heads (stream, revision, next_seq, hash) VALUES (?1, 0, 1, '')",
            [stream],
        )?;
        tx.goes_on_from(Timestamp::default());
        let data_bytes_max = if of_run { RUN_DATA_BYTES_MAX } else { STREAM_DATA_BYTES_MAX };
        Ok(Self {
            stream: stream.to_owned(),
            revision: 0,
            first_seq: 1,
            next_seq: 1,
            hash: String::new(),
            data_bytes_max,
            written: Vec::new(),
            stored: Vec::new(),
        })
    }

    /// The end of a run's stream, and the run's state.
    pub(crate) fn of_run(tx: &Tx<'_>, run: &RunId) -> Result<(Self, RunState), StoreError> {
        tx.end_of_stream(
            run.as_str(),
            "SELECT h.revision, h.next_seq, h.hash,
             (SELECT e.at FROM events e WHERE e.stream = h.stream AND e.seq = h.next_seq - 1),
             r.state FROM heads h JOIN runs r ON r.run = h.stream WHERE h.stream = ?1",
            [run.as_str()],
            |row| Ok((Self::read(tx, row, run.as_str(), RUN_DATA_BYTES_MAX)?, row.parse()?)),
        )?
        .map_or_else(|| Err(retention::missing(tx, run)?), Ok)
    }

    /// The end of a stream that is no run, and whether it is closed.
    pub(crate) fn of_stream(tx: &Tx<'_>, stream: &str) -> Result<(Self, bool), StoreError> {
        tx.end_of_stream(
            stream,
            "SELECT h.revision, h.next_seq, h.hash,
             (SELECT e.at FROM events e WHERE e.stream = h.stream AND e.seq = h.next_seq - 1),
             s.closed FROM heads h
             JOIN streams s ON s.stream = h.stream WHERE h.stream = ?1 AND s.kind <> 'run'",
            [stream],
            |row| Ok((Self::read(tx, row, stream, STREAM_DATA_BYTES_MAX)?, row.get()?)),
        )?
        .ok_or_else(|| StoreError::NotFound { what: "stream", id: stream.to_owned() })
    }

    fn read(
        tx: &Tx<'_>,
        row: &Columns<'_>,
        stream: &str,
        data_bytes_max: usize,
    ) -> Result<Self, StoreError> {
        let (revision, next_seq, hash) = (row.count()?, row.count()?, row.get()?);
        tx.goes_on_from(row.instant_maybe()?.unwrap_or_default());
        Ok(Self {
            stream: stream.to_owned(),
            revision,
            first_seq: next_seq,
            next_seq,
            hash,
            data_bytes_max,
            written: Vec::new(),
            stored: Vec::new(),
        })
    }

    /// Events in the stream by now.
    pub(crate) fn events(&self) -> u64 {
        self.next_seq - 1
    }

    /// Decisions by now.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Appends `event`; it is written with the new end.
    pub(crate) fn append(&mut self, tx: &Tx<'_>, event: NewEvent) -> Result<(), StoreError> {
        let NewEvent { kind, job, attempt, data } = event;
        let record = EventRecord { seq: self.next_seq, at: tx.at(), kind, job, attempt, data };
        let data = record.data.to_string();
        tx.admit("event data", data.len(), self.data_bytes_max)?;
        self.hash = chained(&self.hash, &record, &data);
        self.stored.push((data, self.hash.clone()));
        self.next_seq += 1;
        self.written.push(record);
        Ok(())
    }

    /// Appends an event about the stream itself.
    pub(crate) fn note(&mut self, tx: &Tx<'_>, kind: &str, data: Value) -> Result<(), StoreError> {
        self.append(tx, NewEvent { kind: kind.to_owned(), job: None, attempt: None, data })
    }

    /// Appends an event about a job.
    pub(crate) fn note_job(
        &mut self,
        tx: &Tx<'_>,
        kind: &str,
        job: &JobKey,
        attempt: Option<u32>,
        data: Value,
    ) -> Result<(), StoreError> {
        self.append(tx, NewEvent { kind: kind.to_owned(), job: Some(job.clone()), attempt, data })
    }

    /// Writes what was appended and the new end; `decided` moves the revision (STO-22). Returns revision and events.
    pub(crate) fn finish(
        self,
        tx: &Tx<'_>,
        decided: bool,
    ) -> Result<(u64, Vec<EventRecord>), StoreError> {
        let revision = self.revision + u64::from(decided);
        let rows: Vec<_> = self
            .written
            .iter()
            .zip(&self.stored)
            .map(|(record, (data, hash))| {
                (
                    &self.stream,
                    int(record.seq),
                    record.at.as_micros(),
                    &record.kind,
                    record.job.as_ref().map(JobKey::as_str),
                    record.attempt,
                    data,
                    hash,
                )
            })
            .collect();
        tx.post_rows(
            "INSERT INTO events (stream, seq, at, kind, job, attempt, data, hash)",
            &rows,
        )?;
        tx.change(
            "UPDATE heads SET revision = ?1, next_seq = ?2, hash = ?3
             WHERE stream = ?4 AND revision = ?5 AND next_seq = ?6",
            (
                int(revision),
                int(self.next_seq),
                &self.hash,
                &self.stream,
                int(self.revision),
                int(self.first_seq),
            ),
            || StoreError::Conflict { what: format!("stream {}", self.stream) },
        )?;
        if self.next_seq > self.first_seq {
            tx.leaves(&self.stream, self.next_seq - 1, &self.hash);
        }
        Ok((revision, self.written))
    }
}

/// Events from `from` on. The chain is followed: an event that was changed or lost is an error.
pub(crate) fn events(
    tx: &Tx<'_>,
    stream: &str,
    from: u64,
    limit: u32,
) -> Result<Vec<EventRecord>, StoreError> {
    let from = from.max(1);
    let known = tx.row("SELECT 1 FROM heads WHERE stream = ?1", [stream], |_| Ok(()))?;
    if known.is_none() {
        if let Ok(run) = RunId::parse(stream)
            && let Some(removed) = retention::removed_run(tx, &run)?
        {
            return Err(retention::gone(removed.run));
        }
        return Err(StoreError::NotFound { what: "stream", id: stream.to_owned() });
    }
    let before = tx.row(
        "SELECT hash FROM events WHERE stream = ?1 AND seq = ?2",
        (stream, int(from - 1)),
        |row| row.get::<String>(),
    )?;
    let rows = rows(tx, stream, from, limit)?;
    let mut previous = before.unwrap_or_default();
    let mut found = Vec::with_capacity(rows.len());
    for (expected, (mut record, data, hash)) in (from..).zip(rows) {
        let broken = |why: String| StoreError::Unreadable { what: format!("stream {stream}"), why };
        if record.seq != expected || chained(&previous, &record, &data) != hash {
            return Err(broken(format!("event {expected} is missing or was changed")));
        }
        record.data = serde_json::from_str(&data)
            .map_err(|error| broken(format!("event {expected}: {error}")))?;
        previous = hash;
        found.push(record);
    }
    Ok(found)
}

/// Events as they are stored, from `from` on: without their data, which comes as text, and with their hash.
pub(crate) fn rows(
    tx: &Tx<'_>,
    stream: &str,
    from: u64,
    limit: u32,
) -> Result<Vec<(EventRecord, String, String)>, StoreError> {
    tx.rows(
        "SELECT seq, at, kind, job, attempt, data, hash FROM events
         WHERE stream = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
        (stream, int(from), limit),
        |row| {
            let (seq, at, kind) = (row.count()?, row.instant()?, row.get()?);
            let (job, attempt) = (row.get::<Option<String>>()?.map(JobKey::new), row.get()?);
            let data: String = row.get()?;
            let record = EventRecord { seq, at, kind, job, attempt, data: Value::Null };
            Ok((record, data, row.get::<String>()?))
        },
    )
}

/// Digest of the predecessor's hash and this event; JSON keeps the parts apart.
pub(crate) fn chained(previous: &str, event: &EventRecord, data: &str) -> String {
    let parts = serde_json::json!([
        previous,
        event.seq,
        event.at,
        event.kind,
        event.job,
        event.attempt,
        data
    ]);
    Digest::of(parts.to_string().as_bytes()).to_string()
}

/// `text`, cut to what a record keeps of it.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// The instant as a column.
pub(crate) fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}
