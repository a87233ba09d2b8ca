//! Supervisors of any number of instances of one template: OTP's `simple_one_for_one`.
//!
//! Kept because its rules differ from those of a [`DynamicSupervisor`](crate::DynamicSupervisor)
//! in places (SUP-118, 162, 165), and because the argument of an instance is typed. Where neither
//! matters a dynamic supervisor is the one to use.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{
    ChildId, Restart,
    intensity::IntensityLimit,
    supervisor::{Flags, Keeps},
    tree::NodeKind,
};

use crate::{
    ChildInfo, ChildRef, ChildSpec, Counts, RequestError, StopError,
    node::Supervises,
    presence::Presence,
    supervisor::{Ends, Plan, Request, SupervisorLife, ask, stop, supervisor_child},
};

type Template<A> = Arc<dyn Fn(A) -> ChildSpec + Send + Sync>;

/// What a template supervisor is made of: exactly one template, by construction (SUP-032).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// use perennial_supervision::{TemplateSupervisor, TemplateSupervisorSpec};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let template = |user: String| Agent::child_spec(user.clone(), move || user.len()).0;
/// let spec = TemplateSupervisorSpec::new("sessions", template)
///     .intensity(10, Duration::from_secs(1))
///     .restart(Restart::Transient);
/// let (spec, sessions) = TemplateSupervisor::child_spec(spec);
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// sessions.start_child("ada".to_owned()).await?;
/// assert_eq!(sessions.count_children()?.active, 1);
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct TemplateSupervisorSpec<A> {
    id: ChildId,
    intensity: IntensityLimit,
    restart: Restart,
    template: Template<A>,
}

impl<A> TemplateSupervisorSpec<A> {
    /// A permanent supervisor of instances of `template` that tolerates 3 restarts in 5 s. The
    /// template makes the specification of an instance from the argument it is started with; a
    /// restart of the instance uses that specification again (SUP-168).
    ///
    /// ```
    /// use perennial_supervision::{Agent, TemplateSupervisor, TemplateSupervisorSpec};
    ///
    /// let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// let (spec, _) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// assert_eq!(spec.id().as_str(), "pool");
    /// ```
    pub fn new(
        id: impl Into<ChildId>,
        template: impl Fn(A) -> ChildSpec + Send + Sync + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            intensity: IntensityLimit::default(),
            restart: Restart::Permanent,
            template: Arc::new(template),
        }
    }

    /// Gives up after more than `max_restarts` restarts within `within`, over all instances
    /// (SUP-177).
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.intensity = IntensityLimit { max_restarts, within };
        self
    }

    /// Sets when this supervisor itself is restarted, as a child.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }
}

impl<A> fmt::Debug for TemplateSupervisorSpec<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateSupervisorSpec").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Handle to a template supervisor. Cheap to clone; outlives its restarts.
///
/// ```
/// use perennial_supervision::{TemplateSupervisor, TemplateSupervisorSpec};
///
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
/// let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let seven = pool.start_child(7).await?.expect("its init does not ignore");
/// assert_eq!(seven.process().path(), "/app/pool/7");
/// pool.terminate_child(&seven).await?;
/// assert_eq!(pool.count_children()?.active, 0);
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct TemplateSupervisor<A> {
    presence: Presence<SupervisorLife>,
    /// Shared by all clones.
    template: Arc<Mutex<Template<A>>>,
}

impl<A: 'static> TemplateSupervisor<A> {
    /// How to supervise a template supervisor, and the handle to it.
    ///
    /// ```
    /// use perennial_supervision::{Agent, NodeKind, SupervisorSpec, TemplateSupervisor, TemplateSupervisorSpec};
    ///
    /// let template = |first: u32| Agent::child_spec("number", move || first).0;
    /// let (spec, _pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// assert_eq!(SupervisorSpec::new("app").child(spec).declared()[1].kind, NodeKind::DynamicSupervisor);
    /// ```
    pub fn child_spec(spec: TemplateSupervisorSpec<A>) -> (ChildSpec, Self) {
        let flags = Flags { intensity: spec.intensity, ..Flags::default() };
        let plan = Plan {
            flags,
            keeps: Keeps::Instances { max: None },
            ends: Ends::AsOne,
            children: Vec::new(),
            child_budget: None,
            arguments: None,
        };
        let declared = Supervises::new(&flags, Vec::new());
        let kind = NodeKind::DynamicSupervisor;
        let make = move || Ok(plan.clone());
        let (mut child, Instances(presence)) =
            supervisor_child(spec.id, spec.restart, kind, declared, make);
        let handle = Self { presence, template: Arc::new(Mutex::new(spec.template)) };
        child.answers_with(handle.clone());
        (child, handle)
    }

    /// Starts an instance (SUP-160, 169); none, when its init answers ignore (SUP-017, 018).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// # let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let seven = pool.start_child(7).await?.expect("its init does not ignore");
    /// assert_eq!(seven.id().as_str(), "7");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it does not start: nothing is added.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, argument: A) -> Result<Option<ChildRef>, RequestError> {
        let template = self.template.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let spec = Box::new(template(argument));
        let id = spec.id().clone();
        let new = ask(&self.presence, |reply| Request::StartChild { spec, reply }).await?;
        match ChildRef::new(id, new) {
            Err(RequestError::Ignore) => Ok(None),
            started => started.map(Some),
        }
    }

    /// Replaces the template for instances that are started from now on, through whichever clone of
    /// this handle (SUP-237). Those that run stay as they are, over their restarts too.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// # let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.set_template(|first| Agent::child_spec(format!("number-{first}"), move || first).0);
    /// let seven = pool.start_child(7).await?.expect("its init does not ignore");
    /// assert_eq!(seven.id().as_str(), "number-7");
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn set_template(&self, template: impl Fn(A) -> ChildSpec + Send + Sync + 'static) {
        let template: Template<A> = Arc::new(template);
        let mut present = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *present, template);
        drop(present);
        // Outside the lock: with it goes what the host's code captured.
        drop(before);
    }

    /// Stops an instance, awaits its end and forgets it (SUP-163); one that is dead already is fine
    /// (SUP-165).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// # let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let seven = pool.start_child(7).await?.expect("its init does not ignore");
    /// pool.terminate_child(&seven).await?;
    /// pool.terminate_child(&seven).await?; // it is dead already: fine
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NotFound`] when it lives, and under another supervisor (SUP-166).
    pub async fn terminate_child(&self, child: &ChildRef) -> Result<(), RequestError> {
        let which = child.which();
        let asked = ask(&self.presence, |reply| Request::TerminateChild { which, reply }).await;
        match asked {
            Err(RequestError::NotFound(_)) if child.now().is_none() => Ok(()),
            asked => asked,
        }
    }

    /// The specification that the template made for an instance (SUP-045).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// # let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let seven = pool.start_child(7).await?.expect("its init does not ignore");
    /// assert_eq!(pool.get_child_spec(&seven).await?.get_restart(), Restart::Permanent);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not a child.
    pub async fn get_child_spec(&self, child: &ChildRef) -> Result<ChildSpec, RequestError> {
        let which = child.which();
        ask(&self.presence, |reply| Request::GetChildSpec { which, reply }).await
    }

    /// Stops it and all below it, as [`Supervisor::stop`](crate::Supervisor::stop).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// let spec = TemplateSupervisorSpec::new("pool", template).restart(Restart::Temporary);
    /// let (spec, pool) = TemplateSupervisor::child_spec(spec);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.stop(Duration::from_secs(5)).await?;
    /// assert_eq!(pool.which_children(), Err(RequestError::NoProc));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`StopError`].
    pub async fn stop(&self, within: Duration) -> Result<(), StopError> {
        stop(&self.presence, within).await
    }

    /// Its instances as published, without ids (SUP-161); asks nobody.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// # let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.start_child(7).await?;
    /// let children = pool.which_children()?;
    /// assert_eq!((children[0].id.as_ref(), children[0].name()), (None, "7"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn which_children(&self) -> Result<Vec<ChildInfo>, RequestError> {
        Ok(self.presence.now().ok_or(RequestError::NoProc)?.children(false))
    }

    /// One line of [`which_children`](Self::which_children) (SUP-202).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// # let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let seven = pool.start_child(7).await?.expect("its init does not ignore");
    /// assert_eq!(pool.which_child(&seven)?.status, ChildStatus::Running);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not an instance of this supervisor, or the supervisor does not run.
    pub fn which_child(&self, child: &ChildRef) -> Result<ChildInfo, RequestError> {
        let life = self.presence.now().ok_or(RequestError::NoProc)?;
        let missing = || RequestError::NotFound(child.id().clone());
        life.instance(&child.node).ok_or_else(missing)
    }

    /// Totals of [`which_children`](Self::which_children); one specification (SUP-162).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let template = |first: u32| Agent::child_spec(first.to_string(), move || first).0;
    /// # let (spec, pool) = TemplateSupervisor::child_spec(TemplateSupervisorSpec::new("pool", template));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// pool.start_child(7).await?;
    /// pool.start_child(8).await?;
    /// let counts = pool.count_children()?;
    /// assert_eq!((counts.specs, counts.active), (1, 2)); // one template, two instances
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::NoProc`] when it does not run (SUP-184).
    pub fn count_children(&self) -> Result<Counts, RequestError> {
        let counts = self.presence.now().ok_or(RequestError::NoProc)?.counts();
        Ok(Counts { specs: 1, ..counts })
    }
}

/// What [`supervisor_child`] makes of a presence here.
#[derive(Clone)]
struct Instances(Presence<SupervisorLife>);

impl From<Presence<SupervisorLife>> for Instances {
    fn from(presence: Presence<SupervisorLife>) -> Self {
        Self(presence)
    }
}

impl<A> Clone for TemplateSupervisor<A> {
    fn clone(&self) -> Self {
        Self { presence: self.presence.clone(), template: self.template.clone() }
    }
}

impl<A> fmt::Debug for TemplateSupervisor<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateSupervisor").finish_non_exhaustive()
    }
}
