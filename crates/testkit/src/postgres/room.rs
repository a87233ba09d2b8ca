//! The folder of a server: its data, its socket, its log. It is locked while anybody needs it, so
//! that what a killed process has left can be told from what is in use.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::error::{PostgresError, io_error};
use crate::{binary::RunningBinary, deadline::Deadline};

const PREFIX: &str = "perennial-pg-";
/// The name of a socket is at most 107 bytes on Linux and 103 on others.
const SOCKET_BYTES_MAX: usize = 103;
/// What comes after the folder for temporary files.
const LONGEST_SOCKET: &str = "/perennial-pg-123456/.s.PGSQL.65535.lock";
/// A process that was sent SIGKILL is gone within this, unless a disk hangs.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// A folder that is removed when this is dropped, or by whoever finds it after our death.
#[derive(Debug)]
pub(super) struct Room {
    dir: TempDir,
    /// Held by the open file, thus also by the guard of the server, which gets a copy.
    lock: File,
    user: Option<User>,
}

/// Whom to run the server as, since it refuses root.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl Room {
    /// A new one, after the leftovers of dead processes are removed.
    pub(super) fn new() -> Result<Self, PostgresError> {
        let tried = vec![std::env::temp_dir(), PathBuf::from("/tmp")];
        let fits = |base: &&PathBuf| {
            base.as_os_str().len() + LONGEST_SOCKET.len() <= SOCKET_BYTES_MAX && base.is_dir()
        };
        let Some(base) = tried.iter().find(fits) else {
            return Err(PostgresError::TooDeep { tried });
        };
        sweep(base);
        let making = "making a folder for a server";
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base);
        let dir = dir.map_err(io_error(making))?;
        // Under its name it is locked already: there is no moment to mistake it for a leftover.
        let unlocked = dir.path().join("new-lock");
        let lock = File::create(&unlocked).map_err(io_error(making))?;
        lock.lock().map_err(io_error("locking the folder of a server"))?;
        fs::rename(&unlocked, lock_of(dir.path())).map_err(io_error(making))?;
        let is_root = fs::metadata(dir.path()).map_err(io_error(making))?.uid() == 0;
        let user = if is_root { Some(User::find()?) } else { None };
        if let Some(user) = user {
            let given = chown(dir.path(), Some(user.uid), Some(user.gid));
            given.map_err(io_error("giving the folder of a server to its user"))?;
        }
        Ok(Self { dir, lock, user })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// A copy of the lock, for a process that needs the room though we are dead.
    pub(super) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// The server's log, to write at its end.
    pub(super) fn log(&self) -> io::Result<File> {
        File::options().create(true).append(true).open(self.path().join("log"))
    }

    /// What the log has from byte `start` on, at most its last 8000 characters.
    pub(super) fn logged_since(&self, start: u64) -> String {
        let bytes = fs::read(self.path().join("log")).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
        let text = String::from_utf8_lossy(&bytes[start..]);
        let skipped = text.chars().count().saturating_sub(8000);
        text.chars().skip(skipped).collect()
    }

    /// A command of the server's user, at home here.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = plain_command(program);
        command.current_dir(self.path());
        if let Some(user) = self.user {
            // The standard library drops the supplementary groups of root, too.
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

/// A command that speaks English and sees no settings for clients of some other server.
pub(super) fn plain_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C");
    command
}

impl User {
    fn find() -> Result<Self, PostgresError> {
        let users = fs::read_to_string("/etc/passwd").map_err(io_error("reading /etc/passwd"))?;
        let found = ["postgres", "nobody"].into_iter().find_map(|name| Self::in_list(&users, name));
        found.ok_or(PostgresError::NoUser)
    }

    /// The user `name` in a text with the form of /etc/passwd.
    fn in_list(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Self { uid, gid })
        })
    }
}

fn lock_of(room: &Path) -> PathBuf {
    room.join("lock")
}

/// Removes the rooms in `base` that nobody holds, and first the servers in them. Others' rooms,
/// and what cannot be removed, stay: that is for the next to try.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let is_room = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        let lock = File::options().write(true).open(lock_of(&entry.path()));
        let Ok(lock) = lock else { continue };
        if is_room && lock.try_lock().is_ok() {
            // The lock is ours until it is done: of two who sweep, one does it.
            drop(clear(&entry.path()));
        }
    }
}

fn clear(room: &Path) -> io::Result<()> {
    let data = room.join("data");
    let pid = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let pid: Option<u32> = pid.lines().next().and_then(|line| line.trim().parse().ok());
    if let Some(pid) = pid {
        let deadline = Deadline::after(KILLED_WITHIN);
        // The number may be another process's by now: it is asked anew before each blow.
        while command_line(pid).contains(&*data.to_string_lossy()) && !deadline.left().is_zero() {
            Command::new("/bin/sh")
                .args(["-c", "kill -s KILL \"$0\""])
                .arg(pid.to_string())
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            deadline.pause();
        }
    }
    // The lock goes last: with it, what could not be removed is found by the next who sweeps.
    if data.exists() {
        fs::remove_dir_all(data)?;
    }
    fs::remove_dir_all(room)
}

/// What the process `pid` was started with; empty when there is none, or a zombie.
pub(super) fn command_line(pid: u32) -> String {
    if Path::new("/proc/self/cmdline").exists() {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    let mut command = Command::new("ps");
    command.args(["-ww", "-o", "command=", "-p", &pid.to_string()]);
    let output = RunningBinary::of(command).and_then(|running| running.wait(KILLED_WITHIN));
    output.map(|output| output.stdout).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_the_dead_are_removed_with_their_servers_and_rooms_in_use_are_not() {
        let base = tempfile::tempdir().unwrap();
        let room = |name: &str| {
            let room = base.path().join(format!("{PREFIX}{name}"));
            fs::create_dir_all(room.join("data")).unwrap();
            let lock = File::create(lock_of(&room)).unwrap();
            lock.lock().unwrap();
            (room, lock)
        };
        let pid_in = |room: &Path, pid: u32| {
            fs::write(room.join("data/postmaster.pid"), format!("{pid}\nrest\n")).unwrap();
        };
        let sleeper = |last: &Path| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "read -r _", "server", "-D"]).arg(last).stdin(Stdio::piped());
            command.spawn().unwrap()
        };
        let (used, held) = room("used");
        let (left, lock) = room("left");
        drop(lock);
        let mut server = sleeper(&left.join("data"));
        pid_in(&left, server.id());
        // Its number belongs to somebody else by now.
        let (reused, lock) = room("reused");
        drop(lock);
        let mut other = sleeper(Path::new("/elsewhere"));
        pid_in(&reused, other.id());
        let stranger = base.path().join("perennial-p");
        fs::create_dir(&stranger).unwrap();

        // A dead child has no command line, before anybody has asked for its end.
        sweep(base.path());
        assert!(!left.exists() && !reused.exists() && used.exists() && stranger.exists());
        assert_eq!(server.wait().unwrap().code(), None);
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
        drop(held);
        sweep(base.path());
        assert!(!used.exists());
    }

    #[test]
    fn a_user_is_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgresx:x:7:8::/:/bin/sh\n\
            nobody:x:65534:65533:nobody:/:/bin/false\nodd:x\n";
        let nobody = User::in_list(users, "nobody").unwrap();
        assert_eq!((nobody.uid, nobody.gid), (65534, 65533));
        assert!(
            User::in_list(users, "postgres").is_none() && User::in_list(users, "odd").is_none()
        );
    }
}
