//! A database of a server, for one test.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{error::PostgresError, room::plain_command};
use crate::binary::RunningBinary;

/// Statements of tests are short; one that waits for a lock forever is an error.
const SQL_WITHIN: Duration = Duration::from_secs(60);
/// Whom `initdb` makes.
pub(super) const SUPERUSER: &str = "postgres";

/// Where a server is and what speaks to it. Each use is a connection of its own.
#[derive(Clone, Debug)]
pub(super) struct Psql {
    pub(super) program: PathBuf,
    /// The folder of the socket.
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    pub(super) has_tcp: bool,
}

impl Psql {
    /// What `sql` gives in `database`: a line for each row, `|` between columns.
    pub(super) fn run(&self, database: &str, sql: &str) -> Result<String, PostgresError> {
        let mut command = plain_command(&self.program);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER]);
        command.args(["-p", &self.port.to_string(), "-d", database, "-c", sql]);
        command.arg("-h").arg(&self.folder);
        let output = RunningBinary::of(command)?.wait(SQL_WITHIN)?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            let what = format!("psql -c {sql:?}");
            Err(PostgresError::Failed { what, status: output.status, stderr: output.stderr })
        }
    }

    pub(super) fn url(&self, database: &str) -> String {
        let (folder, port) = (encoded(&self.folder), self.port);
        format!("postgres://{SUPERUSER}@/{database}?host={folder}&port={port}")
    }
}

/// An empty database, or a copy of a [`Template`](super::Template), that nobody else uses.
/// Dropping it removes it and ends its sessions.
#[derive(Debug)]
pub struct Database {
    pub(super) psql: Psql,
    pub(super) name: String,
}

impl Database {
    /// Its name in the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, through the unix socket:
    /// `postgres://postgres@/NAME?host=/tmp/FOLDER&port=5432`.
    pub fn url(&self) -> String {
        self.psql.url(&self.name)
    }

    /// Its address through the loopback interface, if the server was started with
    /// [`Options::tcp`](super::Options::tcp).
    pub fn tcp_url(&self) -> Option<String> {
        let (name, port) = (&self.name, self.psql.port);
        self.psql.has_tcp.then(|| format!("postgres://{SUPERUSER}@127.0.0.1:{port}/{name}"))
    }

    /// Runs `sql` by a `psql` of its own, as one transaction unless it says otherwise: a line for
    /// each row of the result, `|` between columns. Blocks; for what a test does beside its own
    /// connections.
    ///
    /// # Errors
    ///
    /// When the server refuses the statement, or is not there, or takes longer than a minute.
    pub fn sql(&self, sql: &str) -> Result<String, PostgresError> {
        self.psql.run(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // With the server gone, it goes with the server's folder.
        drop(self.psql.run("postgres", &sql));
    }
}

/// `path` as the value of a query of an address.
fn encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in OsStr::as_encoded_bytes(path.as_os_str()) {
        let plain = byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
        text += &if plain { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    }
    text
}

/// `name` as a name that needs no quotes, with room for a number behind it.
pub(super) fn identifier(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("t_{}", name.chars().take(40).map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_is_odd_in_a_path() {
        assert_eq!(encoded(Path::new("/tmp/x-1_y.z~")), "/tmp/x-1_y.z~");
        assert_eq!(encoded(Path::new("/a b/%?&=,é")), "/a%20b/%25%3F%26%3D%2C%C3%A9");
    }

    #[test]
    fn any_name_of_a_test_names_a_database() {
        assert_eq!(identifier("store::Ünder-Test"), "t_store___nder_test");
        assert_eq!(identifier(&"x".repeat(100)).len(), 42);
    }
}
