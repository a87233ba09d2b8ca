//! The handle to the applications of a system.

use std::{collections::BTreeMap, fmt, sync::Arc};

use perennial_core::{
    Restart,
    application::{ApplicationName, Phase, Wanted},
};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    ApplicationError, ApplicationSpec, Env, EnvChange,
    callbacks::called,
    shared::{Answer, Ask, Mail, Reply, Shared, WORKS_FOR},
};
use crate::{ChildInfo, ProcessRef, TaskError, TaskSupervisor};

/// The applications of one [`System`](super::System). Cheap to clone; keeps nothing of the system alive.
///
/// Starts and stops take as long as the applications take: their children and callbacks have deadlines
/// of their own. Everything else is answered at once, whatever is under way (APP-024). What it asks for
/// is done even when the caller has left.
///
/// Code of an application, a callback or a process of its tree, cannot wait for its own application:
/// that is refused with [`ApplicationError::CallingSelf`]. It can start and stop others.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::{ApplicationPhase, Applications};
///
/// let applications: Applications = system.applications().clone();
/// applications.start("store", Restart::Permanent).await?;
/// assert_eq!(applications.which_applications()[0].top.path(), "/system/applications/store/store");
/// applications.stop("store").await?;
/// assert_eq!(applications.loaded_applications()[&"store".into()], ApplicationPhase::Loaded);
/// # system.shutdown().await; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Applications {
    pub(super) shared: Arc<Shared>,
    pub(super) work: TaskSupervisor,
}

/// An application that runs.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
/// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
/// use perennial_supervision::RunningApplication;
///
/// applications.start("store", Restart::Transient).await?;
/// let RunningApplication { name, restart, top } = applications.which_applications().remove(0);
/// assert_eq!((name.as_str(), restart), ("store", Restart::Transient));
/// assert!(top.is_alive());
/// # system.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningApplication {
    /// Its name.
    pub name: ApplicationName,
    /// What it was started as.
    pub restart: Restart,
    /// Its top supervisor.
    pub top: ProcessRef,
}

impl Applications {
    /// Makes an application known under its name; nothing of it runs yet. What it depends on may be
    /// loaded later.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let cache = |_: &Env| Ok(SupervisorSpec::new("cache"));
    /// applications.load(ApplicationSpec::tree("cache", cache).depends_on("store")).await?;
    /// let again = applications.load(ApplicationSpec::tree("cache", cache)).await;
    /// assert_eq!(again, Err(ApplicationError::AlreadyLoaded("cache".into())));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the name is taken or cannot be one, it depends on itself, or as many as allowed are loaded.
    pub async fn load(&self, spec: ApplicationSpec) -> Result<(), ApplicationError> {
        self.ask(Ask::Load(Box::new(spec))).await.map(drop)
    }

    /// Forgets an application that does not run. What is [configured](Self::configure) for its name is
    /// kept.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// applications.unload("store").await?;
    /// let gone = applications.start("store", Restart::Permanent).await;
    /// assert_eq!(gone, Err(ApplicationError::NotLoaded("store".into())));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is none, or it starts, runs or stops.
    pub async fn unload(&self, name: impl Into<ApplicationName>) -> Result<(), ApplicationError> {
        self.ask(Ask::Unload(name.into())).await.map(drop)
    }

    /// Starts an application; returns when its whole tree is up and its phases are done (APP-001, 011).
    /// Who asks while a start is under way shares it, and its result (APP-010).
    ///
    /// `restart` says what its end means for the system, and a failed start too:
    ///
    /// | | its top supervisor ends normally | otherwise | its start fails |
    /// |---|---|---|---|
    /// | permanent | the system goes down | the system goes down | then the system goes down |
    /// | transient | reported | the system goes down | then, unless normally, the system goes down |
    /// | temporary | reported | reported | reported |
    ///
    /// Giving up is an end with `shutdown`, and not a normal one. Nothing restarts an application
    /// (APP-030).
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
    /// assert_eq!(applications.tree("store")?.which_children()[0].name(), "table");
    /// let again = applications.start("store", Restart::Permanent).await;
    /// assert_eq!(again, Err(ApplicationError::AlreadyStarted("store".into())));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it runs (APP-002), is being stopped, does not start (APP-008, 031), or one that it depends on
    /// was not started (APP-003) or has ended (APP-004).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start(
        &self,
        name: impl Into<ApplicationName>,
        restart: Restart,
    ) -> Result<(), ApplicationError> {
        let (name, wanted) = (name.into(), Wanted::Start);
        self.ask(Ask::Start { name, restart, wanted }).await.map(drop)
    }

    /// As [`start`](Self::start), and done at once when it runs (APP-005).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// applications.ensure_started("store", Restart::Permanent).await?;
    /// applications.ensure_started("store", Restart::Permanent).await?; // it runs: nothing to do
    /// assert_eq!(applications.which_applications().len(), 1);
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), but for one that runs.
    pub async fn ensure_started(
        &self,
        name: impl Into<ApplicationName>,
        restart: Restart,
    ) -> Result<(), ApplicationError> {
        let (name, wanted) = (name.into(), Wanted::Running);
        self.ask(Ask::Start { name, restart, wanted }).await.map(drop)
    }

    /// Starts all of `names`, each after all that it depends on, which is started as well; answers what
    /// it has started, in order (APP-006). All or nothing: when one fails, those that this request has
    /// started are stopped, the last one first, and those that ran stay (APP-007).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let cache = |_: &Env| Ok(SupervisorSpec::new("cache"));
    /// applications.load(ApplicationSpec::tree("cache", cache).depends_on("store")).await?;
    /// let started = applications.ensure_all_started(["cache"], Restart::Permanent).await?;
    /// assert_eq!(started, ["store".into(), "cache".into()]);
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); also when one is not loaded, or they depend on each other in a circle:
    /// then nothing was started.
    pub async fn ensure_all_started<N: Into<ApplicationName>>(
        &self,
        names: impl IntoIterator<Item = N>,
        restart: Restart,
    ) -> Result<Vec<ApplicationName>, ApplicationError> {
        let names = names.into_iter().map(Into::into).collect();
        self.ask(Ask::StartAll { names, restart }).await
    }

    /// Stops an application, and returns when nothing of it runs: first its `prep_stop`, then its tree,
    /// with reason `shutdown`, in reverse start order and each child by its own shutdown option, then
    /// what is linked to it elsewhere (APP-019), then its `stop` (APP-014, 015). Those that depend on it
    /// run on (APP-020). It can be started again (APP-017).
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
    /// applications.stop("store").await?; // the system stays
    /// let again = applications.stop("store").await;
    /// assert_eq!(again, Err(ApplicationError::NotStarted("store".into())));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ApplicationError::NotStarted`] when nobody has started it (APP-016).
    pub async fn stop(&self, name: impl Into<ApplicationName>) -> Result<(), ApplicationError> {
        self.ask(Ask::Stop(name.into())).await.map(drop)
    }

    /// Asks the whole system to go down, and does not wait for it: code of an application may ask.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// applications.begin_shutdown().await?;
    /// assert_eq!(system.ended().await, Ok(())); // somebody asked for it
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it goes down already.
    pub async fn begin_shutdown(&self) -> Result<(), ApplicationError> {
        self.ask(Ask::ShutDown).await.map(drop)
    }

    /// Those that run, in start order.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// assert!(applications.which_applications().is_empty());
    /// applications.start("store", Restart::Permanent).await?;
    /// assert_eq!(applications.which_applications()[0].name.as_str(), "store");
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn which_applications(&self) -> Vec<RunningApplication> {
        self.shared.shown().running.clone()
    }

    /// All that are loaded, by name, with what they are at.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// use perennial_supervision::ApplicationPhase;
    ///
    /// applications.start("store", Restart::Permanent).await?;
    /// let loaded = applications.loaded_applications();
    /// assert_eq!(loaded[&"store".into()], ApplicationPhase::Running);
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn loaded_applications(&self) -> BTreeMap<ApplicationName, Phase> {
        let shown = self.shared.shown();
        shown.loaded.iter().map(|(name, line)| (name.clone(), line.phase)).collect()
    }

    /// The tree of an application: its top supervisor, from which it can be walked with
    /// [`ChildInfo::which_children`]. Asks nobody.
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
    /// let store = applications.tree("store")?;
    /// assert_eq!(store.which_children()[0].path(), "/system/applications/store/store/table");
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// While it does not run. One that is being stopped has no tree to speak of:
    /// [`ApplicationError::Stopping`] (APP-024).
    pub fn tree(&self, name: impl Into<ApplicationName>) -> Result<ChildInfo, ApplicationError> {
        let name = name.into();
        let line = self.shared.line(&name);
        let line = line.ok_or_else(|| ApplicationError::NotLoaded(name.clone()))?;
        match (line.phase, line.top) {
            (Phase::Running, Some((above, top))) => {
                above.which_child(top).map_err(|_| ApplicationError::NotRunning(name))
            }
            (Phase::Running | Phase::Died, _) => Err(ApplicationError::NotRunning(name)),
            (Phase::Stopping, _) => Err(ApplicationError::Stopping(name)),
            (Phase::Loaded | Phase::Starting, _) => Err(ApplicationError::NotStarted(name)),
        }
    }

    /// The configuration values of an application that is loaded (APP-013).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// assert_eq!(applications.env("store")?.get("size"), Some(10.into()));
    /// assert!(applications.env("shop").is_err()); // nobody has loaded it
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn env(&self, name: impl Into<ApplicationName>) -> Result<Env, ApplicationError> {
        let name = name.into();
        let line = self.shared.line(&name);
        line.map(|line| line.env).ok_or(ApplicationError::NotLoaded(name))
    }

    /// Puts `values` in force over the defaults of an application, in place of all that was configured
    /// before, and tells it what has changed if it runs and anything has (APP-013). Of two changes the
    /// second waits for the first.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let change = applications.configure("store", [("size", 20.into())]).await?;
    /// assert_eq!(change.changed["size"], 20);
    /// // All is given each time: what is not named falls back to its default.
    /// applications.configure::<String>("store", []).await?;
    /// assert_eq!(applications.env("store")?.get("size"), Some(10.into()));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not loaded, or its `config_change` fails: the values are in force then.
    ///
    /// # Cancel safety
    ///
    /// The values are in force once it is polled to its first wait; the application is told even when
    /// the caller has left.
    pub async fn configure<K: Into<String>>(
        &self,
        name: impl Into<ApplicationName>,
        values: impl IntoIterator<Item = (K, Value)>,
    ) -> Result<EnvChange, ApplicationError> {
        let name = name.into();
        let line = self.shared.line(&name);
        let line = line.ok_or_else(|| ApplicationError::NotLoaded(name.clone()))?;
        let _serial = line.env.changing().await;
        let values = values.into_iter().map(|(key, value)| (key.into(), value)).collect();
        let change = line.env.configure(values);
        let runs = self.shared.line(&name).is_some_and(|line| line.phase == Phase::Running);
        if change.is_empty() || !runs {
            return Ok(change);
        }
        let (told, within, callbacks) = (change.clone(), line.within, line.callbacks);
        let tell = called(within, async move { callbacks.config_change(told).await });
        let task = format!("configure {name}");
        let told = self.work.async_nolink(task, WORKS_FOR.scope(name.clone(), tell)).await;
        let told = match told {
            // It keeps its deadline itself.
            Ok(mut task) => task.join(within.saturating_mul(2)).await,
            Err(_) => return Err(ApplicationError::ShuttingDown),
        };
        match told {
            Ok(Ok(())) => Ok(change),
            Ok(Err(reason)) | Err(TaskError::Exited(reason)) => {
                Err(ApplicationError::ConfigChange { application: name, reason })
            }
            Err(TaskError::Timeout | TaskError::NotOwner) => {
                let reason = perennial_core::ExitReason::Timeout;
                Err(ApplicationError::ConfigChange { application: name, reason })
            }
        }
    }

    async fn ask(&self, ask: Ask) -> Answer {
        let _place = self.shared.places.acquire().await;
        let (sender, answer) = oneshot::channel();
        let reply = Reply { sender, inside: self.shared.inside() };
        // A controller that has ended answers nothing: the system is down.
        drop(self.shared.mail.send(Mail::Ask(ask, reply)));
        answer.await.unwrap_or(Err(ApplicationError::ShuttingDown))
    }
}

impl fmt::Debug for Applications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applications").field("loaded", &self.loaded_applications()).finish()
    }
}
