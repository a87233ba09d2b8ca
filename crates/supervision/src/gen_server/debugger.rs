//! Looking into a server that runs, without a word from its own code.

use std::{fmt, time::Duration};

use perennial_core::ExitReason;
use tokio::sync::oneshot;

use super::GenServer;
use crate::{
    Address, CallError,
    actor::ActorError,
    address::{Awaited, Refused},
    child::exit_of,
    panics::{call_quietly, guard_blocking},
    process::is_current,
};

/// Suspends, shows and changes the present incarnation of a server. Cheap to clone.
///
/// What it asks takes its place in the mailbox as any message does, so that it sees the effect of
/// what was sent before; while the server is suspended it is served at once.
///
/// ```
/// use perennial_supervision::Debugger;
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let within = Duration::from_secs(1);
/// let debugger = Debugger::<Counter>::of(&counter);
/// debugger.suspend(within).await?;
/// counter.cast(Ask::Add(1))?; // waits
/// assert_eq!(debugger.state(|counter| counter.0, within).await?, 0);
/// debugger.replace_state(|_| Ok(Counter(41)), within).await?;
/// debugger.resume(within).await?;
/// assert_eq!(counter.ask(Ask::Sum).await?, 42);
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct Debugger<S: GenServer> {
    address: Address<S::Message>,
}

/// What a debugger asks of a server.
pub(crate) enum Inspection<S> {
    Suspend(oneshot::Sender<()>),
    Resume(oneshot::Sender<()>),
    Status(oneshot::Sender<DebugStatus>),
    State(Box<dyn FnOnce(&mut S) + Send>),
}

/// A server as its debugger sees it (OBS-010).
///
/// ```
/// use perennial_supervision::{DebugStatus, Debugger};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let debugger = Debugger::<Counter>::of(&counter);
/// let status: DebugStatus = debugger.status(Duration::from_secs(1)).await?;
/// assert_eq!((status.path.as_str(), status.parent.as_deref()), ("/app/counter", Some("/app")));
/// assert!(!status.suspended);
/// assert_eq!(status.state, ""); // `format_status` shows nothing by itself
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugStatus {
    /// Its path.
    pub path: String,
    /// Path of its supervisor.
    pub parent: Option<String>,
    /// The label it gave itself.
    pub label: Option<String>,
    /// Its state, as `format_status` shows it.
    pub state: String,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Messages that wait.
    pub mailbox_depth: u64,
    /// What it was given to do last, the latest last.
    pub events: Vec<String>,
    /// Paths of the processes it watches.
    pub linked: Vec<String>,
}

/// Why a debugger got nothing.
///
/// ```
/// use perennial_supervision::{DebugError, Debugger};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let debugger = Debugger::<Counter>::of(&counter);
/// let failed = debugger.replace_state(|_| Err("not this way".into()), Duration::from_secs(1)).await;
/// assert_eq!(failed, Err(DebugError::Failed(ExitReason::Error("not this way".into()))));
/// root.shutdown().await;
/// let failed = debugger.resume(Duration::from_secs(1)).await;
/// assert_eq!(failed, Err(DebugError::Call(CallError::NoProc)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DebugError {
    /// It was not reached, or ended.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The address is that of another kind of actor.
    #[error("the address belongs to another kind of server")]
    Stranger,
    /// The function failed; the state is what it was.
    #[error("the state was not replaced: {0}")]
    Failed(ExitReason),
}

impl<S: GenServer> Debugger<S> {
    /// A debugger of whatever runs behind `address`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let debugger = Debugger::<Counter>::of(&counter);
    /// assert_eq!(debugger.status(Duration::from_secs(1)).await?.path, "/app/counter");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn of(address: &Address<S::Message>) -> Self {
        Self { address: address.clone() }
    }

    /// Lets messages and exits wait until it is resumed. A stop still ends it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let debugger = Debugger::<Counter>::of(&counter);
    /// debugger.suspend(Duration::from_secs(1)).await?;
    /// let asked = counter.call(Ask::Sum, Duration::from_secs(1)).await;
    /// assert_eq!(asked, Err(CallError::Timeout));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`DebugError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request; the same holds for all of these.
    pub async fn suspend(&self, within: Duration) -> Result<(), DebugError> {
        self.ask(Inspection::Suspend, within).await
    }

    /// Handles what waited, in its order, and goes on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let debugger = Debugger::<Counter>::of(&counter);
    /// debugger.suspend(Duration::from_secs(1)).await?;
    /// counter.cast(Ask::Add(1))?;
    /// debugger.resume(Duration::from_secs(1)).await?;
    /// assert_eq!(counter.ask(Ask::Sum).await?, 1);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`DebugError`].
    pub async fn resume(&self, within: Duration) -> Result<(), DebugError> {
        self.ask(Inspection::Resume, within).await
    }

    /// How it is.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let debugger = Debugger::<Counter>::of(&counter);
    /// debugger.suspend(Duration::from_secs(1)).await?;
    /// counter.cast(Ask::Add(1))?;
    /// let status = debugger.status(Duration::from_secs(1)).await?;
    /// assert!(status.suspended);
    /// assert_eq!(status.mailbox_depth, 1);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`DebugError`].
    pub async fn status(&self, within: Duration) -> Result<DebugStatus, DebugError> {
        self.ask(Inspection::Status, within).await
    }

    /// What `read` sees in its state.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// counter.cast(Ask::Add(2))?;
    /// let debugger = Debugger::<Counter>::of(&counter);
    /// assert_eq!(debugger.state(|counter| counter.0, Duration::from_secs(1)).await?, 2);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`DebugError::Failed`] when `read` panics, which harms nobody else.
    pub async fn state<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
        within: Duration,
    ) -> Result<R, DebugError> {
        self.visit(move |state| guard_blocking(|| read(state)), within).await
    }

    /// Replaces its state by what `make` makes of it (GS-057).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, counter) = ChildSpec::server::<Counter>("counter", || ());
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let debugger = Debugger::<Counter>::of(&counter);
    /// debugger.replace_state(|counter| Ok(Counter(counter.0 + 10)), Duration::from_secs(1)).await?;
    /// assert_eq!(counter.ask(Ask::Sum).await?, 10);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`DebugError::Failed`] when `make` fails or panics: the state is what it was.
    pub async fn replace_state(
        &self,
        make: impl FnOnce(&S) -> Result<S, ActorError> + Send + 'static,
        within: Duration,
    ) -> Result<(), DebugError> {
        let replace = move |state: &mut S| {
            let make = || make(state).map_err(|error| exit_of(Err(error)));
            let made = guard_blocking(make).flatten()?;
            let old = std::mem::replace(state, made);
            call_quietly("the drop of a replaced state", move || drop(old));
            Ok(())
        };
        self.visit(replace, within).await
    }

    async fn visit<R: Send + 'static>(
        &self,
        visit: impl FnOnce(&mut S) -> Result<R, ExitReason> + Send + 'static,
        within: Duration,
    ) -> Result<R, DebugError> {
        let request = |caller: oneshot::Sender<_>| {
            Inspection::State(Box::new(move |state| {
                // The debugger may have given up.
                drop(caller.send(visit(state)));
            }))
        };
        self.ask(request, within).await?.map_err(DebugError::Failed)
    }

    async fn ask<R>(
        &self,
        request: impl FnOnce(oneshot::Sender<R>) -> Inspection<S>,
        within: Duration,
    ) -> Result<R, DebugError> {
        let life = self.address.now().ok_or(CallError::NoProc)?;
        if is_current(life.process()) {
            return Err(CallError::CallingSelf.into());
        }
        let (caller, reply) = oneshot::channel();
        let sent = match life.inspect(Box::new(request(caller))) {
            Ok(()) => Ok(()),
            Err(Refused::Stranger) => return Err(DebugError::Stranger),
            Err(refused @ (Refused::NoProc | Refused::Full | Refused::Dropped)) => Err(refused),
        };
        let mut awaited = Awaited::sent(&life, reply, sent);
        let answer = tokio::time::timeout(within, awaited.answer()).await;
        Ok(answer.unwrap_or(Err(CallError::Timeout))?)
    }
}

impl<S: GenServer> Clone for Debugger<S> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone() }
    }
}

impl<S: GenServer> fmt::Debug for Debugger<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debugger").finish_non_exhaustive()
    }
}
