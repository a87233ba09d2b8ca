//! How to start, restart and stop one child; one file per kind of child.

mod actor;
mod failure;
mod server;
mod start;
mod task;
mod thread;

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use perennial_core::{
    AutoShutdown, ChildId, ChildType, Overflow, Restart, Shutdown,
    intensity::IntensityLimit,
    supervisor::{RestartDelay, Rules, SpecError},
    tree::NodeKind,
};
use serde_json::Value;

pub use self::failure::{StartError, StartFault};
pub use self::start::{Extra, Ignore, extra_arguments, pass_to_starter};
pub(crate) use self::{
    start::{Begun, Outcome, StartCx, Superior, spawn, started},
    task::{About, exit_of, start as start_cooperative, start_once as start_task},
};
use crate::{
    Mailbox, Name, Offender, ProcessRef,
    names::AnyAddress,
    node::{Detail, Supervises},
    panics::call_quietly,
    presence::Announce,
    registry::ViaKey,
};

/// How long a worker's start may take unless its specification says otherwise. OTP waits for ever;
/// a supervisor that waits for a start obeys nobody, so there is a bound here (trap 15).
const START_WITHIN: Duration = Duration::from_secs(30);

type Starting = Pin<Box<dyn Future<Output = Result<Outcome, StartFault>> + Send>>;

/// How to start, restart and stop one child. Cheap to clone.
///
/// | option | default |
/// |---|---|
/// | [`restart`](Self::restart) | permanent |
/// | [`shutdown`](Self::shutdown) | 5 s for workers, infinity for supervisors |
/// | [`start_within`](Self::start_within) | 30 s for workers, none for supervisors |
/// | [`restart_delay`](Self::restart_delay), [`restart_backoff`](Self::restart_backoff) | none |
/// | [`restart_budget`](Self::restart_budget) | its supervisor's |
/// | [`significant`](Self::significant) | no |
/// | [`mailbox`](Self::mailbox) | 10 000 messages, further ones are refused |
/// | [`name`](Self::name), [`linked_to`](Self::linked_to) | none |
///
/// ```
/// use perennial_supervision::{ChildSpec, ractor::{Actor, ActorProcessingErr, ActorRef}};
///
/// struct Counter;
/// impl Actor for Counter {
///     type Msg = u32;
///     type State = u32;
///     type Arguments = u32;
///     async fn pre_start(&self, _: ActorRef<u32>, first: u32) -> Result<u32, ActorProcessingErr> {
///         Ok(first)
///     }
/// }
/// let (spec, address) = ChildSpec::actor("counter", || (Counter, 0));
/// # drop((spec, address));
/// ```
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: ChildId,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) child_type: ChildType,
    pub(crate) kind: NodeKind,
    pub(crate) type_name: Option<&'static str>,
    /// Absent once a temporary child runs: it is started once (SUP-073).
    start: Option<Arc<Starter>>,
    /// Tells clones of one specification from others, also without a start.
    identity: Weak<Starter>,
    pub(crate) significant: bool,
    name: Option<Name>,
    /// A key of a registry that is its name as well.
    key: Option<Arc<dyn ViaKey>>,
    /// What answers to the name: an `Address<M>`.
    named_address: Option<AnyAddress>,
    owner: Option<ProcessRef>,
    /// Whom to tell whether it is there; absent for what has no address.
    pub(crate) presence: Option<Arc<dyn Announce>>,
    detail: Option<Arc<Detail>>,
    pub(crate) supervises: Option<Arc<Supervises>>,
    pub(crate) start_within: Option<Duration>,
    pub(crate) restart_delay: Option<Box<RestartDelay>>,
    pub(crate) restart_budget: Option<IntensityLimit>,
    /// None for that of its kind.
    pub(crate) mailbox: Option<Mailbox>,
    /// What its mailbox can do when it is full; absent for what has none.
    pub(crate) overflows: Option<&'static [Overflow]>,
    /// Set for dynamic children: siblings may share the id.
    pub(crate) child_ids_repeat: bool,
}

impl ChildSpec {
    pub(crate) fn worker(
        id: ChildId,
        kind: NodeKind,
        start: impl Fn(StartCx) -> Starting + Send + Sync + 'static,
    ) -> Self {
        let start = Arc::new(Starter(Box::new(start)));
        Self {
            id,
            restart: Restart::Permanent,
            shutdown: Shutdown::WORKER_DEFAULT,
            child_type: ChildType::Worker,
            kind,
            type_name: None,
            identity: Arc::downgrade(&start),
            start: Some(start),
            significant: false,
            name: None,
            key: None,
            named_address: None,
            owner: None,
            presence: None,
            detail: None,
            supervises: None,
            start_within: Some(START_WITHIN),
            restart_delay: None,
            restart_budget: None,
            mailbox: None,
            overflows: None,
            child_ids_repeat: false,
        }
    }

    /// Its id.
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Sets its id: where a specification is listed that its own type has made, single fields of it
    /// can be overridden, this one too (SUP-053).
    #[must_use]
    pub fn with_id(mut self, id: impl Into<ChildId>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets when the child is restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how the child is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets how long a start may take; one that takes longer fails with
    /// [`Timeout`](perennial_core::ExitReason::Timeout).
    #[must_use]
    pub fn start_within(mut self, within: Duration) -> Self {
        self.start_within = Some(within);
        self
    }

    /// Waits this long before each restart. `terminate_child`, `delete_child` and a shutdown
    /// cancel the wait (SUP-120).
    #[must_use]
    pub fn restart_delay(mut self, delay: Duration) -> Self {
        self.restart_delay = Some(Box::new(RestartDelay::constant(delay)));
        self
    }

    /// As [`restart_delay`](Self::restart_delay), growing.
    #[must_use]
    pub fn restart_backoff(mut self, delay: RestartDelay) -> Self {
        self.restart_delay = Some(Box::new(delay));
        self
    }

    /// Gives the child a restart budget of its own instead of its supervisor's: one that exceeds it
    /// is reported and not restarted any more, and its siblings and the supervisor live on. A static
    /// supervisor keeps its specification: `restart_child` brings it back with a fresh budget.
    #[must_use]
    pub fn restart_budget(mut self, max_restarts: u32, within: Duration) -> Self {
        self.restart_budget = Some(IntensityLimit { max_restarts, within });
        self
    }

    /// Bounds its mailbox, and says what becomes of one message more. A server takes each policy; the mailbox
    /// of a ractor actor is read by ractor alone, so it cannot have
    /// [`DropOldest`](Overflow::DropOldest); other kinds of children have none. What cannot be is refused
    /// with its specification.
    #[must_use]
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.mailbox = Some(mailbox);
        self
    }

    /// Marks the child as one whose end may stop its supervisor, by the supervisor's
    /// [`AutoShutdown`] (SUP-212–219).
    #[must_use]
    pub fn significant(mut self, significant: bool) -> Self {
        self.significant = significant;
        self
    }

    /// Gives each incarnation this name in the tree: claimed before its init runs (GS-012), free
    /// again at its real end (GS-062). A start fails while somebody else has it (GS-010).
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Binds each incarnation to `owner`: when that ends, for any reason, this one is asked to stop
    /// with the same reason (GS-002, SUP-023).
    #[must_use]
    pub fn linked_to(mut self, owner: ProcessRef) -> Self {
        self.owner = Some(owner);
        self
    }

    /// When it is restarted.
    pub fn get_restart(&self) -> Restart {
        self.restart
    }

    /// How it is stopped.
    pub fn get_shutdown(&self) -> Shutdown {
        self.shutdown
    }

    /// Worker or supervisor.
    pub fn get_type(&self) -> ChildType {
        self.child_type
    }

    /// Whether its end may stop its supervisor.
    pub fn is_significant(&self) -> bool {
        self.significant
    }

    /// Its name in the tree.
    pub fn get_name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Refuses a list that no supervisor can have as its children; starts nothing (SUP-049, 050).
    /// Significance is checked against `auto_shutdown` where it is given.
    ///
    /// # Errors
    ///
    /// The first fault in order.
    pub fn check_all(specs: &[Self], auto_shutdown: Option<AutoShutdown>) -> Result<(), SpecError> {
        specs.iter().try_for_each(Self::check_alone)?;
        let rules: Vec<Rules> = specs.iter().map(Self::rules).collect();
        Rules::check_all(&rules, auto_shutdown)
    }

    /// Refuses a name without text, and a mailbox that it cannot have.
    pub(crate) fn check_alone(&self) -> Result<(), SpecError> {
        if self.name.as_ref().is_some_and(|name| name.as_str().is_empty()) {
            return Err(SpecError::EmptyName(self.id.clone()));
        }
        let Some(Mailbox { capacity, overflow }) = self.mailbox else { return Ok(()) };
        let id = self.id.clone();
        match self.overflows {
            None => Err(SpecError::NoMailbox(id)),
            Some(_) if capacity == 0 => Err(SpecError::ZeroMailbox(id)),
            Some(able) if able.contains(&overflow) => Ok(()),
            Some(_) => Err(SpecError::MailboxPolicy { id, policy: overflow }),
        }
    }

    /// What decisions need to know of it.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            id: self.id.clone(),
            restart: self.restart,
            significant: self.significant,
            delay: self.restart_delay.clone(),
            budget: self.restart_budget,
        }
    }

    pub(crate) fn offender(&self, process: Option<ProcessRef>) -> Box<Offender> {
        Box::new(Offender {
            id: self.id.clone(),
            process,
            restart: self.restart,
            shutdown: self.shutdown,
            significant: self.significant,
            child_type: self.child_type,
        })
    }

    pub(crate) fn with_key(mut self, key: Arc<dyn ViaKey>) -> Self {
        self.key = Some(key);
        self
    }

    /// What whoever asks for its name gets (`Names::handle`).
    pub(crate) fn answers_with(&mut self, handle: impl Any + Send + Sync) {
        self.named_address = Some(Arc::new(handle));
    }

    /// The same without what was captured to start it, and what is declared below it.
    pub(crate) fn without_start(&self) -> Self {
        let mut shown = Self { start: None, ..self.clone() };
        if let Some(declared) = &mut shown.supervises {
            let children = declared.children.iter().map(Self::without_start).collect();
            *declared = Arc::new(Supervises { children, ..Supervises::clone(declared) });
        }
        shown
    }

    /// What the tree dump shows of the component: `read` returns what it last published, and must
    /// neither block nor ask the child. It runs in a thread of the dump, which does not wait for it
    /// longer than [`DETAILS_WITHIN`](crate::DETAILS_WITHIN).
    #[must_use]
    pub fn detail(mut self, read: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.detail = Some(Arc::new(Detail::new(read)));
        self
    }

    /// Whether `other` is a clone of this one, and so the same child.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.identity.ptr_eq(&other.identity)
    }

    /// Nothing will come of this specification, nor of those declared below it.
    pub(crate) fn gone(&self) {
        if let Some(presence) = &self.presence {
            presence.gone();
        }
        let below = self.supervises.as_ref().map_or(&[][..], |declared| &declared.children);
        below.iter().for_each(Self::gone);
    }

    /// Where to read what the component published.
    pub(crate) fn shared_detail(&self) -> Option<Arc<Detail>> {
        self.detail.clone()
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("significant", &self.significant)
            .finish_non_exhaustive()
    }
}

/// The host's way to start a child. What it captured may panic in its drop; whoever happens to hold
/// it last, a supervisor as a rule, does not fall with it.
struct Starter(Box<dyn Fn(StartCx) -> Starting + Send + Sync>);

impl Drop for Starter {
    fn drop(&mut self) {
        let start = std::mem::replace(&mut self.0, Box::new(|_| Box::pin(std::future::pending())));
        call_quietly("the drop of a specification", move || drop(start));
    }
}
