//! What `run` and `resume` share: a runtime for one command, and its signals.

use std::{path::Path, time::Duration};

use perennial::{Adoption, Config, Runtime, RuntimeError, Store, StoreError, tools::read_source};

use super::prompts;
use crate::{
    exit::{self, failed, failed_with},
    output,
};

/// Largest configuration file.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The configuration in the file at `path`, or what holds without one.
pub(super) fn config(path: Option<&Path>) -> anyhow::Result<Config> {
    let Some(path) = path else { return Ok(Config::default()) };
    let bytes = read_source(path, CONFIG_BYTES_MAX);
    let bytes = bytes.map_err(|error| failed(exit::USAGE, format!("configuration: {error}")))?;
    Config::parse(path, &bytes).map_err(|error| failed(exit::USAGE, error))
}

/// Starts a runtime that works only on what this command starts or resumes.
pub(super) async fn start(
    store: &Store,
    config: Config,
    show_prompts: bool,
) -> anyhow::Result<Runtime> {
    let mut builder =
        Runtime::builder().store(store.clone()).config(config).adoption(Adoption::OnRequest);
    if show_prompts {
        builder = builder.on_prompt(|prompt| output::talk_text(&prompts::shown(prompt)));
    }
    Box::pin(builder.start()).await.map_err(|error| opened(store, error))
}

/// Starts only what reads and writes the store, without anything that runs.
pub(super) async fn start_keeping(store: &Store) -> anyhow::Result<Runtime> {
    let builder = Runtime::builder().store(store.clone().must_exist()).store_only();
    Box::pin(builder.start()).await.map_err(|error| opened(store, error))
}

/// Starts only what reads the store; beside the process that has it, if there is one.
pub(super) async fn start_reading(store: &Store) -> anyhow::Result<Runtime> {
    // A runtime that starts is large.
    let start = |store: Store| Box::pin(Runtime::builder().store(store).store_only().start());
    match start(store.clone().must_exist()).await {
        Err(RuntimeError::Store(StoreError::Locked { .. })) => {
            start(store.clone().read_only()).await
        }
        // Perhaps only its lock is out of reach, as for somebody who may read the file and no more.
        Err(first @ RuntimeError::Store(StoreError::Unavailable(_))) if !store.is_shared() => {
            start(store.clone().read_only()).await.map_err(|_| first)
        }
        started => started,
    }
    .map_err(|error| opened(store, error))
}

/// Starts only what reads and writes the store: nothing is worked on.
pub(super) async fn start_recording(store: &Store, config: Config) -> anyhow::Result<Runtime> {
    let builder = Runtime::builder().store(store.clone()).config(config).store_only();
    Box::pin(builder.start()).await.map_err(|error| opened(store, error))
}

pub(super) fn opened(store: &Store, error: RuntimeError) -> anyhow::Error {
    if let RuntimeError::Store(refused @ StoreError::Locked { .. }) = &error {
        // It names the store.
        let help = "try again when that process has ended, or use another file with --store";
        return failed_with(exit::of_store(refused), refused, help.to_owned());
    }
    if let RuntimeError::Store(refused) = &error {
        return failed(exit::of_store(refused), format!("store {store}: {refused}"));
    }
    let code = match error {
        RuntimeError::Limit(_) | RuntimeError::Lease(_) => exit::USAGE,
        RuntimeError::NoStore
        | RuntimeError::Store(_)
        | RuntimeError::Tree(_)
        | RuntimeError::Pipeline(_)
        | RuntimeError::Tool(_)
        | _ => exit::STORE,
    };
    failed(code, error)
}

/// Which signal asked us to stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Interrupt => exit::INTERRUPTED,
            Self::Terminate => exit::TERMINATED,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Signals so close to the first are the same wish: `timeout` and terminals signal a process and its
/// group.
const ONE_WISH: Duration = Duration::from_millis(200);

/// Listens from its creation on, so that a signal before the first await is not lost.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }

    /// A signal that has come by now.
    pub(super) async fn so_far(&mut self) -> Option<Signal> {
        tokio::select! {
            biased;
            signal = self.next() => Some(signal),
            () = tokio::task::yield_now() => None,
        }
    }

    /// A signal that is not of one wish with one that has just come.
    pub(super) async fn second(&mut self) -> Signal {
        let mut wish = std::pin::pin!(tokio::time::sleep(ONE_WISH));
        loop {
            tokio::select! {
                biased;
                () = &mut wish => return self.next().await,
                _ = self.next() => (),
            }
        }
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
