//! Private PostgreSQL servers, and a database for each test.
//!
//! A server has a folder of its own for temporary files, is reached through a unix socket there,
//! and ends with the process that started it, however that ends: a guard reads a pipe from us and
//! acts when it breaks. What is left by those who were killed together with their guard is removed
//! by the next start.
//!
//! ```no_run
//! use perennial_testkit::postgres;
//!
//! # fn test() -> Result<(), postgres::PostgresError> {
//! let Some(cluster) = postgres::cluster() else { return Ok(()) };
//! let database = cluster.database("orders")?;
//! // Connect to `database.url()`, or ask beside it:
//! assert_eq!(database.sql("SELECT 6 * 7")?, "42\n");
//! # Ok(())
//! # }
//! ```
//!
//! # Which PostgreSQL
//!
//! Version 13 or later. The first folder with `initdb`, `postgres` and `psql` of: `PERENNIAL_PG_BIN`
//! (alone, when set), the folders of `PATH`, what `pg_config --bindir` says, the version folders
//! of distributions, newest first. As root the server runs as the user `postgres`, else `nobody`.
//!
//! # Without one
//!
//! With `CI` or `PERENNIAL_REQUIRE_PG` set (to anything but nothing, `0` and `false`) the test
//! fails; elsewhere [`cluster`] and [`private`] say on standard error that the test is skipped,
//! and why. A server that is there and does not start is a failure everywhere.

mod database;
mod error;
mod options;
mod presence;
mod room;
mod server;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::OnceCell;

pub use self::{database::Database, error::PostgresError, options::Options};
use self::{
    database::{Psql, SUPERUSER, identifier},
    error::io_error,
    presence::{Absence, Binaries, absence},
    room::Room,
    server::Server,
};
use crate::{binary::RunningBinary, deadline::Deadline};

/// Making and starting a server takes about a second; a machine under load, much longer.
const START_WITHIN: Duration = Duration::from_secs(90);
/// A stop writes what is in memory.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// The number of a socket without TCP: nobody else has one in its folder.
const USUAL_PORT: u16 = 5432;
/// Between our look for a free port and its use by the server somebody else can take it.
const PORTS_TRIED_MAX: usize = 5;
/// Logged while processes of an earlier life have not noticed its end.
const STILL_IN_USE: &str = "pre-existing shared memory block";
/// Logged when somebody else has the port.
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";

/// The server of this process for tests that leave it alone, started by the first call and with
/// `fsync` off; none when the test is to be skipped. It cannot be stopped: tests share it.
///
/// # Panics
///
/// When there is no PostgreSQL where it is required, or it does not start.
pub fn cluster() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| private(Options::new().without_fsync())).as_ref()
}

/// A server for one test, that it may stop and kill; none when the test is to be skipped.
///
/// # Panics
///
/// When there is no PostgreSQL where it is required, or it does not start.
pub fn private(options: Options) -> Option<Cluster> {
    match Cluster::start(options) {
        Ok(cluster) => Some(cluster),
        Err(why @ PostgresError::Absent { .. })
            if absence(|name| std::env::var_os(name)) == Absence::Skips =>
        {
            skipped(&why);
            None
        }
        Err(why) => panic!("no PostgreSQL server for this test: {why}"),
    }
}

#[expect(clippy::print_stderr, reason = "a test that does nothing must not look as if it passed")]
fn skipped(why: &PostgresError) {
    eprintln!("skipped: {why}");
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends its sessions and writes what is in memory: an orderly stop.
    Fast,
    /// Ends at once; the next start recovers from the log, as after a crash.
    Immediate,
}

/// A private server. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    /// Before the room in this list: it is dropped first. None while stopped.
    server: Option<Server>,
    binaries: Binaries,
    settings: Vec<(String, String)>,
    psql: Psql,
    databases: AtomicU64,
    templates: Mutex<BTreeMap<String, Arc<OnceCell<Template>>>>,
    room: Room,
}

/// A database that others are copied from. Nobody can connect to it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    name: String,
}

impl Cluster {
    /// Makes a server and starts it. Blocks for about a second.
    ///
    /// # Errors
    ///
    /// When there is no PostgreSQL, or it does not start; the error has the server's log then.
    pub fn start(options: Options) -> Result<Self, PostgresError> {
        let binaries = Binaries::find(|name| std::env::var_os(name))?;
        let room = Room::new()?;
        let deadline = Deadline::after(START_WITHIN);
        let mut command = room.command(&binaries.program("initdb"));
        command.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        command.args(["-U", SUPERUSER, "-D"]).arg(room.data());
        let made = RunningBinary::of(command)?.wait(deadline.left())?;
        if !made.status.success() {
            let (what, status) = ("initdb".to_owned(), made.status);
            return Err(PostgresError::Failed { what, status, stderr: made.stderr });
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let port = if options.has_tcp { free_port()? } else { USUAL_PORT };
            let settings = options.clone().all(room.path(), port);
            match launch(&binaries, &room, &settings, &[], &deadline) {
                Err(PostgresError::NotStarted { log, .. })
                    if log.contains(PORT_TAKEN) && tries < PORTS_TRIED_MAX => {}
                Err(other) => return Err(other),
                Ok(server) => {
                    let (program, folder) = (binaries.program("psql"), room.path().to_owned());
                    return Ok(Self {
                        server: Some(server),
                        binaries,
                        settings,
                        psql: Psql { program, folder, port, has_tcp: options.has_tcp },
                        databases: AtomicU64::new(0),
                        templates: Mutex::default(),
                        room,
                    });
                }
            }
        }
    }

    /// A new, empty database; `name` is part of its name.
    ///
    /// # Errors
    ///
    /// When the server does not run, or refuses.
    pub fn database(&self, name: &str) -> Result<Database, PostgresError> {
        self.create(name, "template0")
    }

    /// A new copy of `template`; `name` is part of its name.
    ///
    /// # Errors
    ///
    /// When the server does not run, or refuses.
    pub fn copy(&self, template: &Template, name: &str) -> Result<Database, PostgresError> {
        self.create(name, &template.name)
    }

    fn create(&self, name: &str, template: &str) -> Result<Database, PostgresError> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}", identifier(name));
        self.psql.run("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"))?;
        Ok(Database { psql: self.psql.clone(), name })
    }

    /// The template `name`, filled once by whoever asks first; `fill` gets the address of an empty
    /// database. Sessions that it leaves are ended.
    ///
    /// # Errors
    ///
    /// When the server does not run, or refuses, or `fill` fails; the next who asks tries anew.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves nothing that the next call does not remove.
    pub async fn template<F, W, E>(&self, name: &str, fill: F) -> Result<Template, PostgresError>
    where
        F: FnOnce(String) -> W,
        W: Future<Output = Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let cell = {
            let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(templates.entry(name.to_owned()).or_default())
        };
        let fill = async || {
            // Removed again by its handle, unless the template is complete.
            let database = self.database(name)?;
            fill(database.url()).await.map_err(|source| PostgresError::Template {
                template: name.to_owned(),
                source: source.into(),
            })?;
            let made = Template { name: format!("{}_template", database.name) };
            let (from, to) = (&database.name, &made.name);
            self.psql.run("postgres", &closed(from))?;
            self.psql.run("postgres", &format!("ALTER DATABASE {from} RENAME TO {to}"))?;
            Ok(made)
        };
        cell.get_or_try_init(fill).await.cloned()
    }

    /// The process id of the server.
    ///
    /// # Errors
    ///
    /// When it is stopped.
    pub fn pid(&self) -> Result<u32, PostgresError> {
        self.server.as_ref().map(Server::pid).ok_or(PostgresError::Stopped)
    }

    /// The end of the server's log.
    pub fn log(&self) -> String {
        self.room.logged_since(0)
    }

    /// Stops it and waits until it has ended; the data stays.
    ///
    /// # Errors
    ///
    /// When it is stopped already, or does not end in time.
    pub fn stop(&mut self, how: Stop) -> Result<(), PostgresError> {
        let server = self.server.as_mut().ok_or(PostgresError::Stopped)?;
        server.signal(match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        })?;
        server.wait(&Deadline::after(STOP_WITHIN))?;
        self.server = None;
        Ok(())
    }

    /// Kills its first process (SIGKILL) and waits until that has ended; its sessions end when
    /// they notice. The data stays.
    ///
    /// # Errors
    ///
    /// When it is stopped already, or the operating system refuses.
    pub fn kill(&mut self) -> Result<(), PostgresError> {
        self.server.take().ok_or(PostgresError::Stopped)?.kill()
    }

    /// Starts it after a stop or a kill, at the same address, and waits until it has recovered and
    /// accepts connections.
    ///
    /// # Errors
    ///
    /// When it runs already, or does not start; the error has the server's log then.
    pub fn resume(&mut self) -> Result<(), PostgresError> {
        if self.server.is_some() {
            return Err(PostgresError::Running);
        }
        let passing = [STILL_IN_USE, PORT_TAKEN];
        let deadline = Deadline::after(START_WITHIN);
        let server = launch(&self.binaries, &self.room, &self.settings, &passing, &deadline)?;
        self.server = Some(server);
        Ok(())
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Self::stop) and [`resume`](Self::resume).
    pub fn restart(&mut self, how: Stop) -> Result<(), PostgresError> {
        self.stop(how)?;
        self.resume()
    }
}

/// Ends the sessions of the database `name` and lets nobody in any more.
fn closed(name: &str) -> String {
    format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
}

/// Starts a server, again while its log says one of `passing`.
fn launch(
    binaries: &Binaries,
    room: &Room,
    settings: &[(String, String)],
    passing: &[&str],
    deadline: &Deadline,
) -> Result<Server, PostgresError> {
    loop {
        match Server::start(binaries, room, settings, deadline) {
            Err(PostgresError::NotStarted { log, .. })
                if passing.iter().any(|text| log.contains(text)) && !deadline.left().is_zero() => {}
            result => return result,
        }
        deadline.pause();
    }
}

fn free_port() -> Result<u16, PostgresError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(io_error("looking for a free port"))?.port())
}
