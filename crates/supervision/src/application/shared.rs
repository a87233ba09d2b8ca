//! What the controller and the handles share: its mailbox, and what it has published.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use perennial_core::{
    ChildId, ExitReason, Restart,
    application::{ApplicationName, Asker, Phase, Wanted},
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    ApplicationError, ApplicationSpec, Env, RunningApplication, SystemError,
    callbacks::{Callbacks, Live},
    error::Failed,
};
use crate::{ChildRef, ProcessRef, Supervisor, process::current_process};

/// Requests that may wait for the controller; further callers wait before it. News of applications wait
/// beside them: never more than a few for each.
const REQUESTS_MAX: usize = 1024;

/// What arrives at the controller, in its one queue.
pub(crate) enum Mail {
    Ask(Ask, Reply),
    /// A start has come to this.
    Started(ApplicationName, Result<Box<Up>, Failed>),
    /// This top supervisor ended.
    Ended(ApplicationName, ProcessRef, ExitReason),
    /// Nothing of it runs any more.
    Stopped(ApplicationName),
    /// The host knows that the system goes down.
    HostTold,
}

/// What is asked for.
pub(crate) enum Ask {
    Load(Box<ApplicationSpec>),
    Unload(ApplicationName),
    Start { name: ApplicationName, restart: Restart, wanted: Wanted },
    StartAll { names: Vec<ApplicationName>, restart: Restart },
    Stop(ApplicationName),
    ShutDown,
}

/// The applications that a request has started.
pub(crate) type Answer = Result<Vec<ApplicationName>, ApplicationError>;

pub(crate) struct Reply {
    pub(crate) sender: oneshot::Sender<Answer>,
    pub(crate) inside: Option<ApplicationName>,
}

/// An application that runs.
pub(crate) struct Up {
    pub(crate) live: Box<dyn Live>,
    /// The supervisor of the top supervisor.
    pub(crate) above: Supervisor,
    pub(crate) child: ChildRef,
    pub(crate) top: ProcessRef,
    pub(crate) top_id: ChildId,
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) mail: mpsc::UnboundedSender<Mail>,
    pub(crate) places: Semaphore,
    shown: Mutex<Shown>,
    /// Why the system goes down, once it does.
    pub(crate) outcome: OnceLock<Result<(), SystemError>>,
    /// Where the applications are, with a `/` at the end.
    path: String,
}

/// What everybody may read.
#[derive(Default)]
pub(crate) struct Shown {
    /// All that are loaded.
    pub(crate) loaded: BTreeMap<ApplicationName, Line>,
    /// Those that run, in start order.
    pub(crate) running: Vec<RunningApplication>,
}

/// One application.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) phase: Phase,
    pub(crate) env: Env,
    pub(crate) callbacks: Arc<dyn Callbacks>,
    pub(crate) within: std::time::Duration,
    /// The supervisor above its top supervisor, and that one's id, while it runs.
    pub(crate) top: Option<(Supervisor, ChildId)>,
}

tokio::task_local! {
    /// The application for which a task of the system works.
    pub(crate) static WORKS_FOR: ApplicationName;
}

impl Shared {
    pub(crate) fn new(mail: mpsc::UnboundedSender<Mail>, applications: &str) -> Self {
        let (places, shown) = (Semaphore::new(REQUESTS_MAX), Mutex::default());
        let path = format!("{applications}/");
        Self { mail, places, shown, outcome: OnceLock::new(), path }
    }

    pub(crate) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One application as published.
    pub(crate) fn line(&self, name: &ApplicationName) -> Option<Line> {
        self.shown().loaded.get(name).cloned()
    }

    /// The application whose code runs here: its callbacks, and all in its tree.
    pub(crate) fn inside(&self) -> Option<ApplicationName> {
        if let Ok(name) = WORKS_FOR.try_with(Clone::clone) {
            return Some(name);
        }
        let process = current_process()?;
        let below = process.path().strip_prefix(&self.path)?;
        below.split('/').next().map(ApplicationName::from)
    }

    pub(crate) fn asker(request: u64, reply: &Reply) -> Asker {
        Asker { request, inside: reply.inside.clone() }
    }
}
