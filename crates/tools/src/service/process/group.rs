//! A process group that ends with this process.

use std::{
    io,
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// Ends when its standard input does, and takes its whole group along. It is asked to end with the others and stays:
/// only a kill moves it.
const GUARD: &str = "trap '' HUP INT QUIT TERM; read -r _; kill -s KILL 0";

/// A group and its guard. Dropped, it kills the group.
pub(super) struct Group {
    id: Pid,
    /// Its first member. Until it is reaped, the number of the group is nobody else's.
    guard: Mutex<Option<Child>>,
}

impl Group {
    pub(super) fn new() -> io::Result<Self> {
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = guard.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("it has no number"))?;
        Ok(Self { id, guard: Mutex::new(Some(guard)) })
    }

    /// Its number, for whoever joins it.
    pub(super) fn number(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Asks all members to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends all members.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // Held while it is sent, so that the guard is not reaped in between.
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() {
            // That nobody is left is what is wanted.
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Waits for the end of the guard, which was killed, and gives the number back.
    pub(super) async fn reap(&self) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut guard) = guard {
            // Whatever is said of it, it is not ours any more.
            let _ = guard.wait().await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
