//! What the server's errors mean.

use tokio_postgres::{Error, error::SqlState};

use crate::StoreError;

/// What is to be done about a failed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is gone.
    Lost,
    /// Another transaction was in the way: the same operation, done again, may succeed.
    Again,
    /// It is told to the caller.
    Told,
}

/// What is to be done about it, and what a caller is told who asked `server`.
pub(super) fn judge(error: &Error, server: &str) -> (Trouble, StoreError) {
    let text = describe(error);
    let Some(code) = error.code() else {
        let lost = format!("the connection to the server was lost ({text})");
        return (Trouble::Lost, StoreError::Unavailable(lost));
    };
    let class = code.code().get(..2).unwrap_or_default();
    if is_fatal(error) || class == "08" || class == "57" && *code != SqlState::QUERY_CANCELED {
        let lost = format!("the server ended the connection ({text})");
        return (Trouble::Lost, StoreError::Unavailable(lost));
    }
    match class {
        // Serialization failure, deadlock.
        "40" => (Trouble::Again, StoreError::Unavailable(text)),
        "23" => {
            let again =
                [SqlState::UNIQUE_VIOLATION, SqlState::FOREIGN_KEY_VIOLATION].contains(code);
            let trouble = if again { Trouble::Again } else { Trouble::Told };
            (trouble, StoreError::Conflict { what: format!("a record ({text})") })
        }
        // A value that it cannot keep, above all a text with a zero byte.
        "22" => (Trouble::Told, StoreError::Unreadable { what: "a value".to_owned(), why: text }),
        _ if *code == SqlState::DISK_FULL => (Trouble::Told, StoreError::Full(text)),
        _ => match lasting(code) {
            Some(help) => {
                let why = format!("{text}; {help}");
                (Trouble::Told, StoreError::Refused { server: server.to_owned(), why })
            }
            None => (Trouble::Told, StoreError::Unavailable(text)),
        },
    }
}

/// What somebody has to do about a failure that does not pass by itself.
fn lasting(code: &SqlState) -> Option<&'static str> {
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return Some(
            "this user lacks a right; GRANT it, or make the user the owner of the schema perennial and of all in it",
        );
    }
    let missing =
        [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::INVALID_SCHEMA_NAME];
    missing.contains(code).then_some(
        "the schema perennial is not as this store made it, or this user may not see it; restore it from a backup, \
         or GRANT USAGE ON SCHEMA perennial to the user",
    )
}

/// Whether the server ends the connection with it.
fn is_fatal(error: &Error) -> bool {
    use tokio_postgres::error::Severity;
    let severity = error.as_db_error().and_then(|error| error.parsed_severity());
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// The error in one line, with its code. It has no credentials: the client never repeats them.
pub(super) fn describe(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}, SQLSTATE {}", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Why a server that was asked for a connection gave none, in words that say what to do.
pub(super) fn refusal(error: &Error, server: &str) -> StoreError {
    let refused = |why: String| StoreError::Refused { server: server.to_owned(), why };
    let text = describe(error);
    match error.code() {
        Some(code)
            if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION]
                .contains(code) =>
        {
            refused(format!("it does not accept this user or password ({text})"))
        }
        Some(code) if *code == SqlState::UNDEFINED_DATABASE => {
            refused(format!("create the database first ({text})"))
        }
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            refused(format!("this user lacks a right ({text})"))
        }
        Some(_) => StoreError::Unavailable(format!("{server}: {text}")),
        None if text.contains("password missing") => {
            refused("it wants a password, and the address has none".to_owned())
        }
        None => StoreError::Unavailable(format!("{server} cannot be reached ({text})")),
    }
}
