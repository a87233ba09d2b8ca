//! What an application is made of: its callbacks, and what is known of it before it starts.

use std::{any::type_name, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use perennial_core::application::ApplicationName;
use serde_json::Value;

use super::{Env, EnvChange, callbacks::Callbacks};
use crate::{ChildSpec, Supervisor, SupervisorSpec, actor::ActorError};

/// How long one callback of an application may take unless its specification says otherwise. OTP waits
/// for ever; here nothing does.
///
/// ```
/// assert_eq!(perennial_supervision::CALLBACKS_WITHIN.as_secs(), 30);
/// ```
pub const CALLBACKS_WITHIN: Duration = Duration::from_secs(30);

/// A part of a program that starts and stops as a whole: OTP's application callback module.
///
/// Callbacks run in tasks of the system, one at a time for each application. One that returns an error,
/// panics, or takes longer than [`ApplicationSpec::callbacks_within`] fails; what that means is said at
/// each.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::{Application, Env, EnvChange};
/// use std::sync::mpsc::{Sender, channel};
///
/// struct Shop(Sender<String>); // tells what is called
/// impl Application for Shop {
///     type State = u64; // for the callbacks after the start
///
///     async fn start(&self, env: &Env) -> Result<(ChildSpec, u64), ActorError> {
///         let port = env.get("port").and_then(|port| port.as_u64()).ok_or("no port")?;
///         let (basket, _) = Agent::child_spec("basket", Vec::<String>::new);
///         Ok((Supervisor::child_spec(SupervisorSpec::new("shop").child(basket)).0, port))
///     }
///
///     async fn start_phase(&self, phase: &str, _: &mut u64) -> Result<(), ActorError> {
///         Ok(self.0.send(format!("phase {phase}"))?) // the tree is up
///     }
///
///     async fn config_change(&self, change: EnvChange) -> Result<(), ActorError> {
///         Ok(self.0.send(format!("new port {}", change.changed["port"]))?)
///     }
///
///     async fn prep_stop(&self, _: &mut u64) -> Result<(), ActorError> {
///         Ok(self.0.send("prepares its stop".to_owned())?)
///     }
///
///     async fn stop(&self, port: u64) -> Result<(), ActorError> {
///         Ok(self.0.send(format!("gives {port} back"))?) // the tree is gone
///     }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
/// # let applications = system.applications();
/// let (tell, told) = channel();
/// let shop = ApplicationSpec::new("shop", Shop(tell)).env("port", 80).phase("warm");
/// applications.load(shop).await?;
/// applications.start("shop", Restart::Permanent).await?;
/// applications.configure("shop", [("port", 8080.into())]).await?;
/// applications.stop("shop").await?;
/// let told: Vec<String> = told.try_iter().collect();
/// assert_eq!(told, ["phase warm", "new port 8080", "prepares its stop", "gives 80 back"]);
/// # system.shutdown().await; Ok(()) }
/// ```
pub trait Application: Send + Sync + 'static {
    /// What [`start`](Self::start) makes beside the tree, for the callbacks after it.
    type State: Send + 'static;

    /// Makes the tree: the specification of its top supervisor, of any kind, which is then started. Its
    /// restart type is of no account: it is started once (APP-030).
    ///
    /// # Errors
    ///
    /// The start of the application fails (APP-031). When the tree does not start, the state is dropped,
    /// and no other callback is called.
    fn start(
        &self,
        env: &Env,
    ) -> impl Future<Output = Result<(ChildSpec, Self::State), ActorError>> + Send;

    /// Called with the tree up, for each [`ApplicationSpec::phase`] in order (APP-011).
    ///
    /// # Errors
    ///
    /// The application is stopped, as on request, and its start fails.
    fn start_phase(
        &self,
        phase: &str,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = (phase, state);
        async { Ok(()) }
    }

    /// Called before the tree is stopped; after its end, where its top supervisor ended by itself
    /// (APP-015, 018).
    ///
    /// # Errors
    ///
    /// Reported, and nothing else (APP-025).
    fn prep_stop(
        &self,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = state;
        async { Ok(()) }
    }

    /// Called when the tree is gone (APP-015, 018).
    ///
    /// # Errors
    ///
    /// Reported, and nothing else (APP-025).
    fn stop(&self, state: Self::State) -> impl Future<Output = Result<(), ActorError>> + Send {
        drop(state);
        async { Ok(()) }
    }

    /// Called when configuration values have changed while the application runs (APP-013). They are in
    /// force already.
    ///
    /// # Errors
    ///
    /// Told to whoever has changed them; they stay.
    fn config_change(
        &self,
        change: EnvChange,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        drop(change);
        async { Ok(()) }
    }
}

/// What is known of an application before it starts. Cheap to clone.
///
/// ```
/// use perennial_supervision::{Agent, ApplicationSpec, SupervisorSpec};
///
/// let cache = ApplicationSpec::tree("cache", |env| {
///     let size = env.get("size").and_then(|size| size.as_u64()).ok_or("no size")?;
///     let (table, _) = Agent::child_spec("table", move || vec![0_u8; size as usize]);
///     Ok(SupervisorSpec::new("cache").child(table))
/// });
/// let cache = cache.env("size", 1_000).depends_on("disk");
/// # drop(cache);
/// ```
#[derive(Clone)]
pub struct ApplicationSpec {
    pub(crate) name: ApplicationName,
    pub(crate) callbacks: Arc<dyn Callbacks>,
    pub(crate) depends_on: Vec<ApplicationName>,
    pub(crate) phases: Vec<String>,
    pub(crate) defaults: BTreeMap<String, Value>,
    pub(crate) within: Duration,
}

impl ApplicationSpec {
    /// An application that depends on nothing, and starts in one phase.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// use perennial_supervision::{Application, ApplicationSpec};
    ///
    /// struct Shop;
    /// impl Application for Shop {
    ///     type State = ();
    ///
    ///     async fn start(&self, _: &Env) -> Result<(ChildSpec, ()), ActorError> {
    ///         Ok((Supervisor::child_spec(SupervisorSpec::new("shop")).0, ()))
    ///     }
    /// }
    /// # fn main() {
    /// let shop = ApplicationSpec::new("shop", Shop);
    /// assert_eq!(shop.name().as_str(), "shop");
    /// # }
    /// ```
    pub fn new(name: impl Into<ApplicationName>, application: impl Application) -> Self {
        Self {
            name: name.into(),
            callbacks: Arc::new(application),
            depends_on: Vec::new(),
            phases: Vec::new(),
            defaults: BTreeMap::new(),
            within: CALLBACKS_WITHIN,
        }
    }

    /// One that is a tree and nothing else.
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
    /// applications.load(ApplicationSpec::tree("cache", cache)).await?;
    /// applications.start("cache", Restart::Temporary).await?;
    /// assert!(applications.tree("cache")?.which_children().is_empty());
    /// # system.shutdown().await; Ok(()) }
    /// ```
    pub fn tree(
        name: impl Into<ApplicationName>,
        top: impl Fn(&Env) -> Result<SupervisorSpec, ActorError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Tree(top))
    }

    /// Its name.
    ///
    /// ```
    /// use perennial_supervision::{ApplicationSpec, SupervisorSpec};
    ///
    /// let cache = ApplicationSpec::tree("cache", |_| Ok(SupervisorSpec::new("cache")));
    /// assert_eq!(cache.name().as_str(), "cache");
    /// ```
    pub fn name(&self) -> &ApplicationName {
        &self.name
    }

    /// It cannot start unless `other` runs (APP-003).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let cache = ApplicationSpec::tree("cache", |_| Ok(SupervisorSpec::new("cache")));
    /// applications.load(cache.depends_on("store")).await?;
    /// let early = applications.start("cache", Restart::Permanent).await;
    /// assert_eq!(early, Err(ApplicationError::NotStarted("store".into())));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn depends_on(mut self, other: impl Into<ApplicationName>) -> Self {
        self.depends_on.push(other.into());
        self
    }

    /// Adds a phase of its start, behind the others (APP-011).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// // The default of `Application::start_phase` does nothing: it is there to be written.
    /// let cache = ApplicationSpec::tree("cache", |_| Ok(SupervisorSpec::new("cache")));
    /// applications.load(cache.phase("fill").phase("open")).await?;
    /// applications.start("cache", Restart::Temporary).await?; // with the tree up: fill, then open
    /// # system.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn phase(mut self, phase: impl Into<String>) -> Self {
        self.phases.push(phase.into());
        self
    }

    /// Gives the configuration value `key` a default (APP-013).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// # let store = |_: &Env| Ok(SupervisorSpec::new("store").child(Agent::child_spec("table", || 0).0));
    /// # applications.load(ApplicationSpec::tree("store", store).env("size", 10)).await?;
    /// let cache = ApplicationSpec::tree("cache", |_| Ok(SupervisorSpec::new("cache")));
    /// applications.load(cache.env("size", 1_000)).await?;
    /// assert_eq!(applications.env("cache")?.get("size"), Some(1_000.into()));
    /// # system.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.defaults.insert(key.into(), value.into());
        self
    }

    /// Sets how long each of its callbacks may take; [`CALLBACKS_WITHIN`] by default.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// struct Slow;
    /// impl Application for Slow {
    ///     type State = ();
    ///
    ///     async fn start(&self, _: &Env) -> Result<(ChildSpec, ()), ActorError> {
    ///         std::future::pending().await
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let system = System::start(SystemSpec::new("system"), Clock::start(), Options::default()).await?;
    /// # let applications = system.applications();
    /// let slow = ApplicationSpec::new("slow", Slow).callbacks_within(Duration::from_secs(1));
    /// applications.load(slow).await?;
    /// let failed = applications.start("slow", Restart::Temporary).await;
    /// let Err(ApplicationError::StartFailed(error)) = failed else { panic!("{failed:?}") };
    /// assert_eq!(error.fault.exit_reason(), ExitReason::Timeout);
    /// # system.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn callbacks_within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}

impl fmt::Debug for ApplicationSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplicationSpec")
            .field("name", &self.name)
            .field("depends_on", &self.depends_on)
            .field("phases", &self.phases)
            .finish_non_exhaustive()
    }
}

struct Tree<F>(F);

impl<F> Application for Tree<F>
where
    F: Fn(&Env) -> Result<SupervisorSpec, ActorError> + Send + Sync + 'static,
{
    type State = ();

    async fn start(&self, env: &Env) -> Result<(ChildSpec, ()), ActorError> {
        let (top, _) = Supervisor::child_spec((self.0)(env)?);
        Ok((top, ()))
    }
}

/// What reports call a callback.
pub(crate) fn callback_of<A>(callback: &str) -> Arc<str> {
    format!("{}::{callback}", type_name::<A>()).into()
}
