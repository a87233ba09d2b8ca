//! Why there is no server, or why it does not do what a test wanted.

use std::{error::Error, io, path::PathBuf, process::ExitStatus};

use crate::{binary::BinaryError, deadline::TooLate};

/// Why a server, or something of it, is not what a test wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No folder has the programs.
    #[error(
        "no PostgreSQL found (initdb, postgres and psql in one folder); looked in {}; install it \
         (`apt-get install postgresql`) or name the folder of its programs in PERENNIAL_PG_BIN",
        paths(.looked)
    )]
    Absent {
        /// Where they were looked for.
        looked: Vec<PathBuf>,
    },
    /// The folder that `PERENNIAL_PG_BIN` names does not have them.
    #[error("PERENNIAL_PG_BIN is {}, where there is no {missing}", .folder.display())]
    Misdirected {
        /// What the variable says.
        folder: PathBuf,
        /// The first program that is not there.
        missing: &'static str,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else to run it as.
    #[error("running as root, and neither `postgres` nor `nobody` is a user of this machine")]
    NoUser,
    /// Every folder for temporary files is too deep for the address of a unix socket.
    #[error("no folder for temporary files is short enough for a socket; tried {}", paths(.tried))]
    TooDeep {
        /// What was tried.
        tried: Vec<PathBuf>,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A program of PostgreSQL could not be run, or took too long.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// A program of PostgreSQL failed.
    #[error("{what} ended with {status}: {stderr}")]
    Failed {
        /// What was run.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// Its standard error.
        stderr: String,
    },
    /// The server ended before it was ready.
    #[error("the server ended with {status} before it was ready; its log:\n{log}")]
    NotStarted {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server does not run: a test has stopped or killed it.
    #[error("the server is stopped")]
    Stopped,
    /// The server runs already.
    #[error("the server runs already")]
    Running,
    /// What should happen took too long.
    #[error(transparent)]
    TooLate(#[from] TooLate),
    /// The test's own function failed to fill a template.
    #[error("the template {template} could not be filled: {source}")]
    Template {
        /// Which.
        template: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

pub(super) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> PostgresError {
    move |source| PostgresError::Io { what, source }
}

fn paths(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
