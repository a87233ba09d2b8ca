//! A program of applications: started, waited for, shut down.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{
    AutoShutdown, ChildId, ExitReason, Restart, Shutdown,
    application::{APPLICATIONS_MAX, ApplicationName},
    tree::NodeKind,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    Applications, CALLBACKS_WITHIN, SystemError,
    controller::{Controller, Hook, Setup},
    shared::Shared,
};
use crate::{
    ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec, Names, Options, Root,
    ShutdownReport, StartError, StartFault, StopToken, SupervisorSpec, TaskSupervisor,
    TaskSupervisorSpec, Tree,
    actor::ActorError,
    child::{About, Outcome, start_cooperative},
};

/// Tasks for one application at a time: its start or its stop, and those who configure it wait for each
/// other.
const JOBS_EACH: usize = 2;

/// With no restart at all, any window will do.
const WINDOW: Duration = Duration::from_secs(5);

/// What a system is made of.
#[derive(Clone)]
pub struct SystemSpec {
    id: ChildId,
    shutdown_timeout: Option<Duration>,
    hook: Option<Hook>,
    hook_within: Duration,
    settings: BTreeMap<ApplicationName, BTreeMap<String, Value>>,
}

impl SystemSpec {
    /// A system without a shutdown timeout. Its id is the first step of all paths.
    pub fn new(id: impl Into<ChildId>) -> Self {
        let (settings, hook_within) = (BTreeMap::new(), CALLBACKS_WITHIN);
        Self { id: id.into(), shutdown_timeout: None, hook: None, hook_within, settings }
    }

    /// Limits the stop of each application while the system goes down; what is left of it then is
    /// killed, and its callbacks are not called any more. Without it a stop takes as long as it takes
    /// (APP-022).
    #[must_use]
    pub fn shutdown_timeout(mut self, within: Duration) -> Self {
        self.shutdown_timeout = Some(within);
        self
    }

    /// Calls `hook` first of all when the system goes down, with the reason that
    /// [`System::ended`] will give (APP-023). It has the time of a callback; a failure is reported.
    #[must_use]
    pub fn on_shutdown<F>(
        mut self,
        hook: impl Fn(Result<(), SystemError>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), ActorError>> + Send + 'static,
    {
        self.hook = Some(Arc::new(move |reason| Box::pin(hook(reason))));
        self
    }

    /// Sets how long the hook may take; [`CALLBACKS_WITHIN`] by default.
    #[must_use]
    pub fn hook_within(mut self, within: Duration) -> Self {
        self.hook_within = within;
        self
    }

    /// Configures a value of an application, over its default, before it is loaded (APP-013).
    #[must_use]
    pub fn env(
        mut self,
        application: impl Into<ApplicationName>,
        key: impl Into<String>,
        value: impl Into<Value>,
    ) -> Self {
        let values = self.settings.entry(application.into()).or_default();
        values.insert(key.into(), value.into());
        self
    }
}

impl fmt::Debug for SystemSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemSpec")
            .field("id", &self.id)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .finish_non_exhaustive()
    }
}

/// A running system of applications: OTP's node, as far as it starts and stops. Dropping it asks it to
/// go down and does not wait.
///
/// All applications are in one tree, and share its names. Two systems share nothing.
///
/// ```
/// use perennial_supervision::{
///     Agent, ApplicationSpec, Clock, Options, Restart, SupervisorSpec, System, SystemSpec,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// let applications = system.applications();
/// for (name, needs) in [("disk", None), ("cache", Some("disk"))] {
///     let spec = ApplicationSpec::tree(name, move |_| {
///         Ok(SupervisorSpec::new(name).child(Agent::child_spec("state", || 0).0))
///     });
///     applications.load(needs.into_iter().fold(spec, ApplicationSpec::depends_on)).await?;
/// }
/// let started = applications.ensure_all_started(["cache"], Restart::Permanent).await?;
/// assert_eq!(started, ["disk".into(), "cache".into()]);
/// system.shutdown().await;
/// assert_eq!(system.ended().await, Ok(()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct System {
    root: Root,
    applications: Applications,
}

impl System {
    /// Starts a system without applications.
    ///
    /// # Errors
    ///
    /// When this program aborts on panics: nothing could be supervised.
    pub async fn start(
        spec: SystemSpec,
        clock: Clock,
        options: Options,
    ) -> Result<Self, StartError> {
        let (below, applications) = DynamicSupervisor::child_spec(
            DynamicSupervisorSpec::new("applications", APPLICATIONS_MAX).intensity(0, WINDOW),
        );
        let work = TaskSupervisorSpec::new("work", APPLICATIONS_MAX * JOBS_EACH + 1);
        let (tasks, work) = TaskSupervisor::child_spec(work);
        let (mail, inbox) = mpsc::unbounded_channel();
        let path = format!("/{}/applications", spec.id);
        let shared = Arc::new(Shared::new(mail, &path));
        let handle = Applications { shared: shared.clone(), work: work.clone() };
        let controller = controller(
            &path,
            Setup {
                shared,
                inbox,
                applications,
                work,
                hook: spec.hook,
                hook_within: spec.hook_within,
                shutdown_timeout: spec.shutdown_timeout,
                settings: spec.settings,
            },
        );
        // What is down is not brought back: what the controller knew of it would be gone.
        let top = SupervisorSpec::new(spec.id)
            .intensity(0, WINDOW)
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(below)
            .child(tasks)
            .child(controller);
        let root = Root::start(top, clock, options).await?;
        Ok(Self { root, applications: handle })
    }

    /// Its applications.
    pub fn applications(&self) -> &Applications {
        &self.applications
    }

    /// The names of all applications.
    pub fn names(&self) -> &Names {
        self.root.names()
    }

    /// The picture of the whole tree.
    pub fn tree(&self) -> &Tree {
        self.root.tree()
    }

    /// Waits until the system is down: all applications are stopped, in reverse start order (APP-021).
    ///
    /// # Errors
    ///
    /// Why it went down by itself; a program that lives by it then ends with a failure (A13). Nothing
    /// when somebody asked for it.
    ///
    /// # Cancel safety
    ///
    /// Safe: the end is not lost.
    pub async fn ended(&self) -> Result<(), SystemError> {
        let reason = self.root.ended().await;
        match self.applications.shared.outcome.get() {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(())) if !self.root.gave_up() => Ok(()),
            Some(Ok(())) | None => Err(SystemError::Failed(reason)),
        }
    }

    /// Takes the system down and awaits it: the hook first, then one application after the other, the
    /// last one started first (APP-021, 023).
    pub async fn shutdown(&self) -> ShutdownReport {
        self.root.shutdown().await
    }
}

fn controller(applications: &str, setup: Setup) -> ChildSpec {
    let (setup, path) = (Mutex::new(Some(setup)), applications.to_owned());
    ChildSpec::worker(ChildId::from("controller"), NodeKind::Worker, move |cx| {
        let setup = setup.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It is started once.
        let life = setup.ok_or(StartFault::Failed(ExitReason::NoProc)).map(|setup| {
            cx.context.members().applications_at(&path);
            let stop = StopToken::new();
            let run = Controller::new(cx.clone(), setup).run(stop.clone());
            start_cooperative(&cx, Some(stop), About::default(), run)
        });
        Box::pin(std::future::ready(life.map(Outcome::Up)))
    })
    .restart(Restart::Temporary)
    .significant(true)
    .shutdown(Shutdown::Infinity)
}
