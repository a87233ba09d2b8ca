//! One life of a server process, and the guard that ends it after our own death.
//!
//! The guard is a small shell beside the server that reads a pipe whose other end only we have.
//! Lines are signals to pass on; when the pipe ends, we are dead, however we died: it then ends
//! the server and removes the room. It is told to leave before the server's number is free.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Stdio},
    time::Duration,
};

use super::{
    error::{PostgresError, io_error},
    presence::Binaries,
    room::Room,
};
use crate::deadline::Deadline;

/// In a group of its own: what is typed at a terminal, or kills the test's group, does not reach
/// it. The server takes the place of the first shell, and so is our child; the guard is nobody's,
/// since the server would take the end of an unknown child for a crash.
const GUARDED: &str = r#"
room=$1
shift
(
  trap '' HUP INT QUIT TERM
  {
    while read -r word; do
      if [ "$word" = leave ]; then exit; fi
      kill -s "$word" $$
    done
    kill -s QUIT $$
    tries=0
    while kill -0 $$ && [ $tries -lt 10 ]; do
      sleep 1
      tries=$((tries + 1))
    done
    kill -s KILL $$
    rm -rf "$room/data"
    rm -rf "$room"
  } <&3 2>/dev/null &
) 3<&0
exec "$@" </dev/null >&2
"#;
/// An immediate shutdown gives its sessions five seconds before it kills them.
const DROPPED_WITHIN: Duration = Duration::from_secs(10);

/// A running server. Dropping it ends it at once, as a crash would.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    guard: ChildStdin,
}

impl Server {
    /// Starts one with `settings` and waits until it accepts connections.
    pub(super) fn start(
        binaries: &Binaries,
        room: &Room,
        settings: &[(String, String)],
        deadline: &Deadline,
    ) -> Result<Self, PostgresError> {
        let starting = "starting the server";
        let log = room.log().map_err(io_error("opening the server's log"))?;
        let logged = log.metadata().map_err(io_error("opening the server's log"))?.len();
        let mut command = room.command("/bin/sh".as_ref());
        command.args(["-c", GUARDED, "guard"]).arg(room.path());
        command.arg(binaries.program("postgres")).arg("-D").arg(room.data());
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(room.lock().map_err(io_error(starting))?).stderr(log);
        let mut process = command.spawn().map_err(io_error(starting))?;
        let guard = process.stdin.take().expect("its input is a pipe, see above");
        let mut server = Self { process, guard };
        loop {
            // Asked in this order, a server that is ready and then ends is not taken for running.
            let is_ready = server.is_ready(room);
            let ended = server.process.try_wait().map_err(io_error("looking at the server"))?;
            if let Some(status) = ended {
                let log = room.logged_since(logged);
                return Err(PostgresError::NotStarted { status, log });
            }
            if is_ready {
                return Ok(server);
            }
            if deadline.left().is_zero() {
                let log = room.logged_since(logged);
                return Err(deadline.missed("a start of the server", log).into());
            }
            deadline.pause();
        }
    }

    /// The server writes who it is and how far into this file; one left by an earlier life has
    /// another number.
    fn is_ready(&self, room: &Room) -> bool {
        let file = std::fs::read_to_string(room.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = file.lines().map(str::trim).collect();
        lines.first() == Some(&self.pid().to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it the signal of that name, as `kill -s` has it.
    pub(super) fn signal(&mut self, name: &str) -> Result<(), PostgresError> {
        writeln!(self.guard, "{name}").map_err(io_error("telling the server's guard"))
    }

    /// Kills its first process (SIGKILL); the others notice and end by themselves.
    pub(super) fn kill(mut self) -> Result<(), PostgresError> {
        self.process.kill().map_err(io_error("killing the server"))?;
        self.process.wait().map_err(io_error("waiting for the server's end"))?;
        Ok(())
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self, deadline: &Deadline) -> Result<(), PostgresError> {
        loop {
            let ended = self.process.try_wait().map_err(io_error("looking at the server"))?;
            if ended.is_some() {
                return Ok(());
            }
            if deadline.left().is_zero() {
                return Err(deadline.missed("the server's end", "it runs").into());
            }
            deadline.pause();
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.process.try_wait()?.is_none() {
            let told = self.signal("QUIT").is_ok();
            if !told || self.wait(&Deadline::after(DROPPED_WITHIN)).is_err() {
                self.process.kill()?;
                self.process.wait()?;
            }
        }
        writeln!(self.guard, "leave")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Beyond our power, or without a guard: neither can be told to anybody here.
        drop(self.end());
    }
}
