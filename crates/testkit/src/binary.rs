//! A real process that can be killed at a chosen moment.
//!
//! Its output goes to files, so that nothing is lost when it dies and nothing blocks while it
//! lives; it never outlives its handle.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    deadline::{Deadline, LOOK_EVERY, TooLate},
    fake_anthropic::FakeAnthropic,
};

/// Variables of the test's own environment that would change what a run does.
const OWN_PREFIXES: [&str; 3] = ["PERENNIAL_", "ANTHROPIC_", "TEST_MODE"];

/// How to run the command.
#[derive(Clone, Debug)]
pub struct PerennialBinary {
    path: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
}

/// A process of the command. Dropping it kills the process.
#[derive(Debug)]
pub struct RunningBinary {
    child: Child,
    /// Holds the output.
    room: TempDir,
}

/// How a process ended and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryOutput {
    /// How it ended; without a code when it was killed.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Why a process is not what a test wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// It could not be started, killed or read.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// It, or what it should do, took too long.
    #[error(transparent)]
    TooLate(#[from] TooLate),
    /// It ended before what was waited for.
    #[error("the process ended with {status} before {what}; stderr: {stderr}")]
    Ended {
        /// What was waited for.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// Its standard error.
        stderr: String,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> BinaryError {
    move |source| BinaryError::Io { what, source }
}

impl PerennialBinary {
    /// The command at `path`, for example `env!("CARGO_BIN_EXE_perennial")`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), envs: Vec::new(), current_dir: None }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// The same with more arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// The same with a variable; variables of Perennial's own are not inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The same, run in `dir`.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Starts a process.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(&self) -> Result<RunningBinary, BinaryError> {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if OWN_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command.args(&self.args).envs(self.envs.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        RunningBinary::of(command)
    }

    /// Runs a process to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or has not ended within `within`, whereupon it is killed.
    pub fn run(&self, within: Duration) -> Result<BinaryOutput, BinaryError> {
        self.spawn()?.wait(within)
    }
}

impl RunningBinary {
    /// Starts `command` without input, its output going to files.
    pub(crate) fn of(mut command: Command) -> Result<Self, BinaryError> {
        let room = tempfile::tempdir().map_err(io_error("making room for output"))?;
        let file = |name: &str| {
            fs::File::create(room.path().join(name)).map_err(io_error("making room for output"))
        };
        command.stdin(Stdio::null()).stdout(file("stdout")?).stderr(file("stderr")?);
        let child = command.spawn().map_err(io_error("starting the process"))?;
        Ok(Self { child, room })
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.said("stdout")
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.said("stderr")
    }

    /// Kills it now (SIGKILL) and waits for its end. An ended process is left as it is.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<BinaryOutput, BinaryError> {
        self.child.kill().map_err(io_error("killing the process"))?;
        let status = self.child.wait().map_err(io_error("waiting for the process"))?;
        Ok(self.output(status))
    }

    /// Kills it as soon as `condition` holds.
    ///
    /// # Errors
    ///
    /// When the condition does not hold within `within`, or the process ends before it does.
    pub fn kill_when(
        &mut self,
        what: &str,
        within: Duration,
        condition: impl FnMut(&Self) -> bool,
    ) -> Result<BinaryOutput, BinaryError> {
        self.wait_for(what, within, condition)?;
        self.kill()
    }

    /// Kills it as soon as `fake` has seen `count` requests.
    ///
    /// # Errors
    ///
    /// When they have not come within `within`, or the process ends before they have.
    pub fn kill_after_calls(
        &mut self,
        count: usize,
        fake: &FakeAnthropic,
        within: Duration,
    ) -> Result<BinaryOutput, BinaryError> {
        let what = format!("{count} requests");
        self.kill_when(&what, within, |_| fake.wait_for_requests(count, LOOK_EVERY).is_ok())
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    ///
    /// When it does not within `within`, or the process ends before it does.
    pub fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Result<(), BinaryError> {
        let deadline = Deadline::after(within);
        loop {
            // Asked in this order, a condition that holds at the end is seen.
            let ended = self.ended()?;
            if condition(self) {
                return Ok(());
            }
            if let Some(status) = ended {
                let stderr = self.stderr();
                return Err(BinaryError::Ended { what: what.to_owned(), status, stderr });
            }
            if deadline.left().is_zero() {
                return Err(deadline.missed(what, self.stderr()).into());
            }
            deadline.pause();
        }
    }

    /// Waits until standard output holds `text`.
    ///
    /// # Errors
    ///
    /// When it does not within `within`, or the process ends without it.
    pub fn wait_for_stdout(&mut self, text: &str, within: Duration) -> Result<(), BinaryError> {
        self.wait_for(&format!("output of {text:?}"), within, |this| this.stdout().contains(text))
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it has not ended within `within`; it is killed then.
    pub fn wait(mut self, within: Duration) -> Result<BinaryOutput, BinaryError> {
        let deadline = Deadline::after(within);
        loop {
            if let Some(status) = self.ended()? {
                return Ok(self.output(status));
            }
            if deadline.left().is_zero() {
                return Err(deadline.missed("the end of the process", self.stderr()).into());
            }
            deadline.pause();
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, BinaryError> {
        self.child.try_wait().map_err(io_error("looking at the process"))
    }

    fn output(&self, status: ExitStatus) -> BinaryOutput {
        BinaryOutput { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    fn said(&self, name: &str) -> String {
        let bytes = fs::read(self.room.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for RunningBinary {
    fn drop(&mut self) {
        // Already ended, or beyond our power: neither can be told to anybody here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> PerennialBinary {
        PerennialBinary::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn output_status_and_environment_are_those_of_the_process() {
        let output = shell("echo out $GREETING; echo err >&2; exit 3")
            .env("GREETING", "hello")
            .run(SOON)
            .unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out hello\n", "err\n"));
    }

    #[test]
    fn a_process_is_killed_at_the_chosen_moment_and_keeps_its_output() {
        let mut running = shell("echo ready; exec sleep 600").spawn().unwrap();
        let ready = |this: &RunningBinary| this.stdout().contains("ready");
        let output = running.kill_when("ready", SOON, ready).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_str()), (None, "ready\n"));
    }

    #[test]
    fn an_early_end_and_a_late_one_are_errors() {
        let mut running = shell("echo why >&2; exit 1").spawn().unwrap();
        let error = running.wait_for_stdout("never", SOON).unwrap_err();
        assert!(
            matches!(&error, BinaryError::Ended { stderr, .. } if stderr == "why\n"),
            "{error}"
        );
        let error = shell("exec sleep 600").run(Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, BinaryError::TooLate(_)), "{error}");
    }

    #[test]
    fn a_process_dies_with_its_handle() {
        let mut running = shell("echo $$; exec sleep 600").spawn().unwrap();
        running.wait_for_stdout("\n", SOON).unwrap();
        let alive = format!("kill -0 {}", running.pid());
        assert!(shell(&alive).run(SOON).unwrap().status.success());
        drop(running);
        assert!(!shell(&alive).run(SOON).unwrap().status.success());
    }
}
