//! How attempts end.

use perennial_core::{
    FailureClass,
    run::{AttemptEnd, JobKey},
};
use serde_json::Value;

use super::{
    journal::{Journal, cut},
    service, slot, turn,
};
use crate::{StoreError, transaction::Tx};

/// The end of an attempt as its row keeps it.
pub(crate) struct Ending<'a> {
    pub(crate) attempt: u32,
    pub(crate) end: AttemptEnd,
    pub(crate) class: Option<FailureClass>,
    pub(crate) code: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
    /// Whether it may hold services, or numbers of pools, which are given back with it.
    pub(crate) may_hold: bool,
    /// Whether it may have the turn of its key, which is given back with it.
    pub(crate) may_have_turn: bool,
}

impl Ending<'_> {
    /// An end without a failure.
    pub(crate) fn of(attempt: u32, end: AttemptEnd) -> Self {
        Self {
            attempt,
            end,
            class: None,
            code: None,
            message: None,
            may_hold: true,
            may_have_turn: true,
        }
    }
}

/// Ends an attempt that is under way, gives back the numbers of pools that it holds, and tells whether it is uncertain: it called out, and has
/// no recorded outcome.
pub(crate) fn end_attempt(tx: &Tx<'_>, job: i64, ending: &Ending<'_>) -> Result<bool, StoreError> {
    let uncertain = match ending.end {
        AttemptEnd::Succeeded | AttemptEnd::Partial | AttemptEnd::Skipped => false,
        AttemptEnd::Error
        | AttemptEnd::TimedOut
        | AttemptEnd::Expired
        | AttemptEnd::Released
        | AttemptEnd::Unavailable
        | AttemptEnd::Suspended
        | AttemptEnd::Cancelled => has_open_call(tx, job, ending.attempt)?,
    };
    tx.change(
        "UPDATE attempts SET ended_at = ?3, ended_as = ?4, class = ?5, code = ?6, message = ?7,
         uncertain = ?8 WHERE job = ?1 AND attempt = ?2 AND ended_as IS NULL",
        (
            job,
            ending.attempt,
            tx.at().as_micros(),
            ending.end.name(),
            ending.class.map(FailureClass::name),
            ending.code.map(cut),
            ending.message.map(cut),
            uncertain,
        ),
        || StoreError::StaleAttempt { job, attempt: ending.attempt },
    )?;
    if ending.may_hold {
        slot::free_of(tx, job, ending.attempt)?;
        service::end_of_attempt(tx, job, ending.attempt)?;
    }
    if ending.may_have_turn {
        turn::give_back(tx, job)?;
    }
    Ok(uncertain)
}

/// Whether the attempt began a call whose outcome is neither recorded nor settled.
pub(crate) fn has_open_call(tx: &Tx<'_>, job: i64, attempt: u32) -> Result<bool, StoreError> {
    let open = tx.row(
        "SELECT 1 FROM checkpoints WHERE job = ?1 AND attempt = ?2 AND recorded_at IS NULL LIMIT 1",
        (job, attempt),
        |_| Ok(()),
    )?;
    Ok(open.is_some())
}

/// Its calls may have happened: somebody has to look.
pub(crate) fn note_uncertain(
    tx: &Tx<'_>,
    journal: &mut Journal,
    job: &JobKey,
    attempt: u32,
) -> Result<(), StoreError> {
    journal.note_job(tx, "attempt_uncertain", job, Some(attempt), Value::Null)
}
