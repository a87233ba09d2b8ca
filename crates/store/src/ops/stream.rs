//! Streams that are no runs: folds of their events.

use perennial_core::run::InvalidTransition;

use super::journal::Journal;
use crate::{Appended, NewEvent, StoreError, StreamRecord, transaction::Tx};

/// The kind of a run's own stream; only `create_run` makes one.
const RUN: &str = "run";

pub(crate) fn create(
    tx: &Tx<'_>,
    stream: &str,
    kind: &str,
    events: &[NewEvent],
) -> Result<Appended, StoreError> {
    let existing = tx.row("SELECT 1 FROM streams WHERE stream = ?1", [stream], |_| Ok(()))?;
    if existing.is_some() || kind == RUN {
        return Err(StoreError::Conflict { what: format!("stream {stream} of kind {kind}") });
    }
    tx.write(
        "INSERT INTO streams (stream, kind, created_at) VALUES (?1, ?2, ?3)",
        (stream, kind, tx.now().as_micros()),
    )?;
    write(tx, Journal::create(tx, stream, false)?, events)
}

pub(crate) fn append(
    tx: &Tx<'_>,
    stream: &str,
    expected: u64,
    events: &[NewEvent],
    close: bool,
) -> Result<Appended, StoreError> {
    let (journal, closed) = Journal::of_stream(tx, stream)?;
    if closed {
        let (from, to) = ("closed", "open");
        return Err(StoreError::InvalidState(InvalidTransition { what: "stream", from, to }));
    }
    if journal.events() != expected {
        return Err(StoreError::Conflict { what: format!("stream {stream}") });
    }
    if close {
        self::close(tx, stream)?;
    }
    write(tx, journal, events)
}

fn write(tx: &Tx<'_>, mut journal: Journal, events: &[NewEvent]) -> Result<Appended, StoreError> {
    for event in events {
        journal.append(tx, event.clone())?;
    }
    let events = journal.events();
    journal.finish(tx, true)?;
    Ok(Appended { events, at: tx.at() })
}

/// Closes an open stream for ever.
pub(crate) fn close(tx: &Tx<'_>, stream: &str) -> Result<(), StoreError> {
    tx.change(
        "UPDATE streams SET closed = 1, closed_at = ?2 WHERE stream = ?1 AND closed = 0",
        (stream, tx.at().as_micros()),
        || StoreError::Conflict { what: format!("stream {stream}") },
    )
}

/// Streams of `kind`, oldest first.
pub(crate) fn list(tx: &Tx<'_>, kind: &str) -> Result<Vec<StreamRecord>, StoreError> {
    tx.rows(
        "SELECT s.stream, s.kind, s.closed, h.next_seq - 1, s.created_at FROM streams s
         JOIN heads h ON h.stream = s.stream WHERE s.kind = ?1 ORDER BY s.rowid",
        [kind],
        |row| {
            Ok(StreamRecord {
                stream: row.get()?,
                kind: row.get()?,
                closed: row.get()?,
                events: row.count()?,
                created_at: row.instant()?,
            })
        },
    )
}
