//! A process of this machine.
//!
//! Every process is put into a process group of its own, whose first member is a *guard*: a shell that does nothing but
//! read from a pipe that this process holds. When this process dies, however it dies, the kernel closes the pipe, and
//! the guard kills the whole group, itself included. As long as the guard is not reaped, the number of the group is
//! nobody else's: a signal to it never meets a stranger.
//!
//! Linux's parent-death signal would reach the process alone and not what it has started, fires when the *thread* ends
//! that began it, and needs unsafe code; the guard needs none of that, and works on any Unix.

mod group;
mod output;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::timeout,
};

use self::{group::Group, output::Output};
use crate::{ApiKey, Redactor};

use super::{
    DriverFuture, Epoch, Instance, Probe, ProbeResult, ServiceDriver, ServiceKey, StartError,
    StopError, StopMode,
};

/// How long a process may take to end after it was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// How long the rest of its output is read after its end.
const REST_WITHIN: Duration = Duration::from_secs(1);

/// A driver for a process of this machine, in the foreground.
///
/// Its standard input is a pipe that is closed when it is to stop; its output is read and, but for the last lines,
/// thrown away. Of the environment it gets `PATH` and what is said here.
///
/// ```
/// use perennial_tools::service::{ChildProcess, ServiceDriver};
/// use std::time::Duration;
///
/// let analyzer = ChildProcess::new("/usr/bin/analyzer")
///     .arg("--port=2002")
///     .env("LOG", "warn")
///     .ready_line("listening on ") // what follows on that line is the address
///     .stop_grace(Duration::from_secs(2));
/// assert!(analyzer.faults().is_empty());
/// assert_eq!(ChildProcess::new("analyzer").faults().len(), 1); // no path: which program it is would be chance
/// ```
#[derive(Clone)]
pub struct ChildProcess {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: Option<PathBuf>,
    ready_line: Option<Arc<str>>,
    port: Option<u16>,
    stop_grace: Duration,
    redactor: Redactor,
}

impl ChildProcess {
    /// The program at an absolute path. No shell comes between.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dir: None,
            ready_line: None,
            port: None,
            stop_grace: Duration::from_secs(5),
            redactor: Redactor::new(),
        }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The same with a variable of the environment. Its value, if it has 8 bytes or more, is not shown with the last
    /// line that the process prints.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let value = value.into();
        if let Some(text) = value.to_str() {
            self.redactor = self.redactor.with(&ApiKey::new(text));
        }
        self.env.insert(name.into(), value);
        self
    }

    /// The same with a secret that it may come to know otherwise, as an argument or from a file: it is not shown with
    /// the last line that the process prints.
    #[must_use]
    pub fn hiding(mut self, secret: &ApiKey) -> Self {
        self.redactor = self.redactor.with(secret);
        self
    }

    /// The same in this directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The same, started once it has printed a line that begins so. What follows on the line, if anything, is its
    /// address.
    #[must_use]
    pub fn ready_line(mut self, beginning: impl Into<Arc<str>>) -> Self {
        self.ready_line = Some(beginning.into());
        self
    }

    /// The same, ready while it takes connections at this port of `127.0.0.1`, which is its address unless its ready
    /// line tells one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same with so much time to end by itself after it was asked to; 5 s. Then its group is killed.
    #[must_use]
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    fn spawn(&self) -> Result<(Child, Group), StartError> {
        let group = Group::new().map_err(|error| {
            let why = format!("the guard of its process group did not start: {error}");
            StartError::Retryable(why.into())
        })?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(group.number())
            .kill_on_drop(true);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let child = command.spawn().map_err(|error| {
            let why = format!("{} did not start: {error}", self.program.display()).into();
            let kinds = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
            if kinds.contains(&error.kind()) {
                StartError::Permanent(why)
            } else {
                StartError::Retryable(why)
            }
        })?;
        Ok((child, group))
    }

    async fn launch(&self) -> Result<Instance, StartError> {
        let (mut child, group) = self.spawn()?;
        let pid = child.id();
        let group = Arc::new(group);
        let (tell_end, ended) = watch::channel(None);
        let (tell_line, mut line) = watch::channel(None);
        let output =
            Output::of(&mut child, self.ready_line.clone(), tell_line, self.redactor.clone());
        let stdin = Mutex::new(child.stdin.take());
        let mut keeper = Box::pin(keep(child, Ending(group.clone()), output, tell_end));
        let mut endpoint = self.port.map(|port| here(port).to_string());
        if self.ready_line.is_some() {
            let rest = tokio::select! {
                biased;
                Ok(rest) = line.wait_for(Option::is_some) => rest.clone().unwrap_or_default(),
                end = &mut keeper => {
                    return Err(StartError::Retryable(format!("before it was ready, {end}").into()));
                }
            };
            endpoint = Some(rest).filter(|rest| !rest.is_empty()).or(endpoint);
        }
        let instance = endpoint.map_or_else(Instance::new, Instance::at);
        let instance = pid.into_iter().fold(instance, Instance::with_pid);
        Ok(instance.holding(Running { group, ended, stdin }).kept_by(keeper))
    }

    async fn end(&self, running: &Running, mode: StopMode) -> Result<(), StopError> {
        // Whoever reads from it hears that nothing more comes.
        drop(running.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
        if mode == StopMode::Graceful {
            running.group.terminate();
            // Whether it was in time makes no difference to what follows.
            let _ = timeout(self.stop_grace, running.has_ended()).await;
        }
        running.group.kill();
        let ended = timeout(KILLED_WITHIN, running.has_ended()).await;
        ended.map_err(|_| StopError::new("it was killed and does not end"))?;
        let reaped = timeout(KILLED_WITHIN, running.group.reap()).await;
        reaped.map_err(|_| StopError::new("the guard of its group was killed and does not end"))
    }

    async fn look(&self, running: &Running, probe: Probe) -> ProbeResult {
        if let Some(end) = running.end() {
            return ProbeResult::Gone(end);
        }
        match (probe, self.port) {
            (Probe::Readiness, Some(port)) => match TcpStream::connect(here(port)).await {
                Ok(_) => ProbeResult::Pass,
                Err(error) => ProbeResult::Fail(format!("{}: {error}", here(port)).into()),
            },
            (Probe::Readiness, None) | (Probe::Liveness, _) => ProbeResult::Pass,
        }
    }
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Arguments and variables may be secrets.
impl fmt::Debug for ChildProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildProcess").field("program", &self.program).finish_non_exhaustive()
    }
}

impl ServiceDriver for ChildProcess {
    fn start<'a>(
        &'a self,
        _: &'a ServiceKey,
        _: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(self.launch())
    }

    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        mode: StopMode,
    ) -> DriverFuture<'a, Result<(), StopError>> {
        Box::pin(async move {
            match instance.inside::<Running>() {
                Some(running) => self.end(running, mode).await,
                None => Err(StopError::new("it was made by another driver")),
            }
        })
    }

    fn probe<'a>(&'a self, instance: &'a Instance, probe: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async move {
            match instance.inside::<Running>() {
                Some(running) => self.look(running, probe).await,
                None => ProbeResult::Gone("it was made by another driver".into()),
            }
        })
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.program.is_absolute() {
            let program = self.program.display();
            faults.push(format!("the program `{program}` has no absolute path"));
        }
        if self.ready_line.as_deref() == Some("") {
            faults.push("the ready line is empty: any line would be one".to_owned());
        }
        if self.port == Some(0) {
            faults.push("port 0 is none: let it print its address as its ready line".to_owned());
        }
        faults
    }
}

/// What the driver keeps in an instance. Dropped with its last clone, it kills the group.
struct Running {
    group: Arc<Group>,
    /// How it ended; closed without that when its keeper is gone, and so the process.
    ended: watch::Receiver<Option<Arc<str>>>,
    stdin: Mutex<Option<ChildStdin>>,
}

impl Running {
    fn end(&self) -> Option<Arc<str>> {
        let end = self.ended.borrow().clone();
        let is_lost = self.ended.has_changed().is_err();
        end.or_else(|| is_lost.then(|| "whoever kept it was ended, and it with them".into()))
    }

    async fn has_ended(&self) {
        // An error is an end, too.
        drop(self.ended.clone().wait_for(Option::is_some).await);
    }
}

/// A group that ends with its keeper, whoever still knows the instance.
struct Ending(Arc<Group>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Reads what it prints and waits for its end; what it has started ends with it.
async fn keep(
    mut child: Child,
    group: Ending,
    mut output: Output,
    tell: watch::Sender<Option<Arc<str>>>,
) -> Arc<str> {
    let status = tokio::select! {
        status = child.wait() => status,
        never = output.read_on() => match never {},
    };
    group.0.kill();
    // What it said last may still be in the pipes; nobody else holds them now.
    let _ = timeout(REST_WITHIN, output.read_rest()).await;
    let how = match status {
        Ok(status) => format!("it ended with {status}"),
        Err(error) => format!("its end is not known: {error}"),
    };
    let end: Arc<str> = match output.last_line() {
        Some(line) => format!("{how}; its last line: {line}").into(),
        None => how.into(),
    };
    tell.send_replace(Some(end.clone()));
    end
}
