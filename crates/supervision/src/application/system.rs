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
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::SystemSpec;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = SystemSpec::new("system")
///     .env("store", "size", 20)
///     .shutdown_timeout(Duration::from_secs(30));
/// let system = System::start(spec, Clock::start(), Options::default()).await?;
/// assert_eq!(system.tree().nodes()[0].path, "/system");
/// # system.shutdown().await; Ok(()) }
/// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = System::start(SystemSpec::new("shop"), Clock::start(), Options::default()).await?;
    /// assert_eq!(system.tree().nodes()[0].path, "/shop"); // the first step of all paths
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn new(id: impl Into<ChildId>) -> Self {
        let (settings, hook_within) = (BTreeMap::new(), CALLBACKS_WITHIN);
        Self { id: id.into(), shutdown_timeout: None, hook: None, hook_within, settings }
    }

    /// Limits the stop of each application while the system goes down; what is left of it then is
    /// killed, and its callbacks are not called any more. Supervisors that are killed give what cleans up
    /// below them its time, but no more than the kill deadline of [`Options`](crate::Options) at each level: so
    /// much longer it may take. Without a limit a stop takes as long as it takes (APP-022).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = SystemSpec::new("system").shutdown_timeout(Duration::from_secs(1));
    /// let system = System::start(spec, Clock::start(), Options::default()).await?;
    /// let deaf = ChildSpec::cooperative_task("deaf", |_| std::future::pending::<Result<(), String>>());
    /// let deaf = deaf.shutdown(Shutdown::Infinity); // without the limit nothing would come of the stop
    /// let tree = move |_: &Env| Ok(SupervisorSpec::new("deaf").child(deaf.clone()));
    /// system.applications().load(ApplicationSpec::tree("deaf", tree)).await?;
    /// system.applications().start("deaf", Restart::Permanent).await?;
    /// let report = system.shutdown().await;
    /// assert!(report.unkillable.is_empty()); // it was killed, and has ended
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn shutdown_timeout(mut self, within: Duration) -> Self {
        self.shutdown_timeout = Some(within);
        self
    }

    /// Calls `hook` first of all when the system goes down, with the reason that
    /// [`System::ended`] will give (APP-023). It has the time of a callback; a failure is reported.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let spec = SystemSpec::new("system").on_shutdown(move |why| {
    ///     let told = tell.send(why); // for instance: take the node out of the balancer
    ///     async move { Ok(told?) }
    /// });
    /// let system = System::start(spec, Clock::start(), Options::default()).await?;
    /// system.shutdown().await;
    /// assert_eq!(told.recv(), Ok(Ok(()))); // somebody asked for it
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = SystemSpec::new("system")
    ///     .on_shutdown(|_| std::future::pending()) // hangs
    ///     .hook_within(Duration::from_secs(1));
    /// let system = System::start(spec, Clock::start(), Options::default()).await?;
    /// let report = system.shutdown().await;
    /// assert_eq!(report.took, Duration::from_secs(1)); // it goes down all the same
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn hook_within(mut self, within: Duration) -> Self {
        self.hook_within = within;
        self
    }

    /// Configures a value of an application, over its default, before it is loaded (APP-013).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = SystemSpec::new("system").env("cache", "size", 20);
    /// let system = System::start(spec, Clock::start(), Options::default()).await?;
    /// let cache = ApplicationSpec::tree("cache", |_| Ok(SupervisorSpec::new("cache")));
    /// system.applications().load(cache.env("size", 10)).await?;
    /// assert_eq!(system.applications().env("cache")?.get("size"), Some(20.into()));
    /// # system.shutdown().await; Ok(()) }
    /// ```
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
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// assert!(system.applications().which_applications().is_empty());
    /// # system.shutdown().await; Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let applications = system.applications().clone(); // for whoever starts or stops some
    /// applications.start("store", Restart::Permanent).await?;
    /// assert_eq!(system.applications().which_applications().len(), 1);
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn applications(&self) -> &Applications {
        &self.applications
    }

    /// The names of all applications.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// let tree = |_: &Env| {
    ///     Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0.name("main")))
    /// };
    /// system.applications().load(ApplicationSpec::tree("store", tree)).await?;
    /// system.applications().start("store", Restart::Permanent).await?;
    /// assert_eq!(system.names().whereis("main").expect("it runs").path(), "/system/applications/store/store/table");
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn names(&self) -> &Names {
        self.root.names()
    }

    /// The picture of the whole tree.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// applications.start("store", Restart::Permanent).await?;
    /// let paths: Vec<String> = system.tree().nodes().into_iter().map(|node| node.path).collect();
    /// assert!(paths.contains(&"/system/applications/store/store/table".to_owned()));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn tree(&self) -> &Tree {
        self.root.tree()
    }

    /// Waits until the system is down: all applications are stopped, in reverse start order (APP-021).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// system.shutdown().await;
    /// assert_eq!(system.ended().await, Ok(())); // as it was asked; an error otherwise
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// applications.start("store", Restart::Permanent).await?;
    /// let report = system.shutdown().await;
    /// assert!(report.unkillable.is_empty());
    /// assert!(applications.which_applications().is_empty());
    /// # Ok(()) }
    /// ```
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
