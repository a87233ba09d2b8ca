//! Services: external dependencies of durable runs, kept alive and looked at as long as somebody holds them.
//!
//! # Why an actor
//!
//! An instance of a service has a life that many depend on, and one place must say when it begins and ends. Its actor
//! decides by a pure machine (`perennial_core::service`) and never waits for the outside: what a driver does runs in
//! tasks, at most one probe at a time, and what comes of it is a message.
//!
//! # Supervision
//!
//! A transient child of `services` for each instance that is held, with a budget of its own. A driver that fails,
//! panics or hangs ends its task, not the actor.
//!
//! # What a restart forgets
//!
//! Who was waiting for an answer, and what probes had found. Who holds the instance, its life and what was started lie
//! with the specification: what was started is removed, and a new life begins where somebody holds it.
//!
//! # Guarantees
//!
//! An instance is not stopped while somebody holds it, but for a shutdown. Nobody is admitted by a verdict that is old,
//! of another life, or from before the need. The address of an instance comes from whoever holds it, and from nowhere
//! else.

mod actor;
mod ledger;
mod probing;
mod spec;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use perennial_core::{
    Restart, Shutdown, Uptime, nearest,
    service::{Admission, Epoch, Holder, NotFailed, ServiceEvent, ServiceKey, ServiceState},
};
use perennial_supervision::{
    Address, CALL_WITHIN, CallError, ChildSpec, Clock, DynamicSupervisor, DynamicSupervisorSpec,
    RequestError, TaskSupervisor,
};
use tokio::sync::{Mutex, broadcast};

pub use self::spec::{InvalidServices, Scope, ServiceFault, ServiceSpec};
use self::{
    actor::{Keeper, Message},
    ledger::Ledger,
    spec::Declared,
};

/// Restarts of one actor that are tolerated.
const BUDGET: (u32, Duration) = (5, Duration::from_secs(300));
/// Actors of all services at a time.
const INSTANCES_MAX: usize = 10_000;
/// What is kept for whoever follows events; who is slower misses some, and is told so.
const EVENTS_KEPT: usize = 1_024;

/// What services are made of.
#[derive(Debug)]
pub struct ExternalSpec {
    /// Those that are declared.
    pub services: Vec<ServiceSpec>,
    /// Where what drivers do runs.
    pub tasks: TaskSupervisor,
    /// The clock of the runtime.
    pub clock: Clock,
}

/// Handle to the services of a runtime. Cheap to clone; outlives restarts.
#[derive(Clone)]
pub struct External(Arc<Inner>);

struct Inner {
    declared: HashMap<String, Arc<Declared>>,
    tasks: TaskSupervisor,
    clock: Clock,
    supervisor: DynamicSupervisor,
    /// Held while one is started, so that an instance has one actor.
    instances: Mutex<HashMap<ServiceKey, Entry>>,
    events: broadcast::Sender<ServiceNotice>,
}

#[derive(Clone)]
struct Entry {
    address: Address<Message>,
    ledger: Arc<Ledger>,
    /// Which actor of this instance it is; its supervisor's restarts are of the same.
    number: u64,
}

/// A transition of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNotice {
    /// Which instance.
    pub key: ServiceKey,
    /// Its number among those of the instance in this process: 1, 2, 3 …
    pub seq: u64,
    /// When.
    pub at: Uptime,
    /// What.
    pub event: ServiceEvent,
}

/// Why a service cannot be held, or started.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It is not declared.
    #[error("there is no service `{name}`{}", .nearest.as_ref().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// The declared one that is nearest to it.
        nearest: Option<String>,
    },
    /// A shared service was asked for with a key, or a keyed one without.
    #[error("`{key}` cannot be held: the service is declared as {scope:?}")]
    Scope {
        /// What was asked for.
        key: ServiceKey,
        /// How it is declared.
        scope: Scope,
    },
    /// As many instances as may are there; when one is given back there is room.
    #[error("`{key}` has to wait: {max} instances of its service are there, and no more may be")]
    InstancesFull {
        /// What was asked for.
        key: ServiceKey,
        /// The limit.
        max: usize,
    },
    /// It has not failed.
    #[error(transparent)]
    NotFailed(#[from] NotFailed),
    /// Its actor did not start.
    #[error("the actor of the service did not start: {0}")]
    NotStarted(#[from] RequestError),
    /// Its actor did not answer.
    #[error("the actor of the service gave no answer: {0}")]
    Away(#[from] CallError),
}

/// Nobody may use the instance now. It counts as no failure of whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is {state}: {why}")]
pub struct NotReady {
    /// The state it is in.
    pub state: ServiceState,
    /// When it is worth asking again; none when an operator must act first.
    pub retry_at: Option<Uptime>,
    /// Why.
    pub why: Arc<str>,
}

/// Which life of an instance somebody may use, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The life.
    pub epoch: Epoch,
    /// Its address, if it has one.
    pub endpoint: Option<Arc<str>>,
}

/// A claim on an instance, which is not stopped as long as it is there. Dropping it gives it back.
pub struct Hold {
    key: ServiceKey,
    holder: Holder,
    needed: Uptime,
    first: Result<Admitted, NotReady>,
    /// How long an answer may take: that of two probes, as one may be under way already.
    patience: Duration,
    entry: Entry,
}

impl External {
    /// How to supervise the services, and the handle to them.
    ///
    /// # Errors
    ///
    /// [`InvalidServices`]: everything that is wrong with all of them.
    pub fn child_spec(spec: ExternalSpec) -> Result<(ChildSpec, Self), InvalidServices> {
        let declared = spec::declare(spec.services)?;
        let (restarts, within) = BUDGET;
        let supervised = DynamicSupervisorSpec::new("services", INSTANCES_MAX);
        let (child, supervisor) =
            DynamicSupervisor::child_spec(supervised.child_budget(restarts, within));
        let external = Self(Arc::new(Inner {
            declared,
            tasks: spec.tasks,
            clock: spec.clock,
            supervisor,
            instances: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
        }));
        Ok((child, external))
    }

    /// Holds the instance of `key` for `holder`: it is started, if it does not run, and not stopped until the hold is
    /// dropped. That it is held does not say that it serves: [`Hold::admitted`] does.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; then nothing is held.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped holds nothing.
    pub async fn hold(&self, key: &ServiceKey, holder: Holder) -> Result<Hold, ServiceError> {
        let needed = self.0.clock.now();
        let mut gone = None;
        loop {
            // From here on it is counted, and given back however this ends.
            let entry = self.entry(key, gone, Some(&holder)).await?;
            let refused = Err(NotReady {
                state: ServiceState::Stopped,
                retry_at: None,
                why: "it was not asked yet".into(),
            });
            let patience = self.declared(key)?.terms.probe_within() * 2 + CALL_WITHIN;
            let (key, of) = (key.clone(), holder.clone());
            let mut hold = Hold { key, holder: of, needed, first: refused, patience, entry };
            let asks = |reply| Message::Acquire { holder: holder.clone(), needed, reply };
            match hold.entry.address.call(asks, patience).await {
                Ok(answer) => {
                    hold.first = answer;
                    return Ok(hold);
                }
                // It had come to rest, or was lost; a second time it is told.
                Err(CallError::NoProc | CallError::Exited(_)) if gone.is_none() => {
                    gone = Some(hold.entry.number);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Starts an instance that has failed, with a fresh budget.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFailed`] in any other state.
    pub async fn restart(&self, key: &ServiceKey) -> Result<(), ServiceError> {
        let entry = self.entry(key, None, None).await?;
        Ok(entry.address.ask(|reply| Message::Restart { reply }).await??)
    }

    /// The transitions from now on. Who reads too slowly misses the oldest and is told how many.
    pub fn events(&self) -> broadcast::Receiver<ServiceNotice> {
        self.0.events.subscribe()
    }

    /// Starts those that are always on.
    ///
    /// # Errors
    ///
    /// [`ServiceError`], of the first whose actor does not start. That a service does not is no error of this.
    pub async fn start_always_on(&self) -> Result<(), ServiceError> {
        for declared in self.0.declared.values().filter(|declared| declared.terms.always_on) {
            self.entry(&ServiceKey::shared(declared.name.clone()), None, None).await?;
        }
        Ok(())
    }

    /// The actor of `key`, which is started if there is none, or the one that was met is `gone`.
    /// What is counted for `holder` is there before the actor looks.
    async fn entry(
        &self,
        key: &ServiceKey,
        gone: Option<u64>,
        holder: Option<&Holder>,
    ) -> Result<Entry, ServiceError> {
        let declared = self.declared(key)?;
        let mut instances = self.0.instances.lock().await;
        let known = instances.get(key);
        if let Some(entry) = known.filter(|entry| Some(entry.number) != gone) {
            holder.into_iter().for_each(|holder| entry.ledger.take(holder));
            return Ok(entry.clone());
        }
        // What has come to rest is forgotten; what was lost is taken up where it was left.
        instances.retain(|of, entry| of == key || !entry.ledger.is_at_rest());
        let of_service = |of: &&ServiceKey| of.service() == key.service() && *of != key;
        let there = instances.keys().filter(of_service).count();
        if there >= declared.instances_max {
            let max = declared.instances_max;
            return Err(ServiceError::InstancesFull { key: key.clone(), max });
        }
        let ledger = match instances.get(key) {
            Some(entry) => entry.ledger.clone(),
            None => Arc::new(Ledger::new(key.clone(), self.0.events.clone())),
        };
        let keeper = Keeper {
            key: key.clone(),
            declared: declared.clone(),
            ledger: ledger.clone(),
            tasks: self.0.tasks.clone(),
            clock: self.0.clock,
        };
        let (spec, address) = actor::child_spec(keeper);
        let grace = declared.terms.stop_within + Duration::from_secs(1);
        let spec = spec.restart(Restart::Transient).shutdown(Shutdown::Timeout(grace));
        holder.into_iter().for_each(|holder| ledger.take(holder));
        let counted = Counted { ledger: &ledger, holder };
        self.0.supervisor.start_child(spec).await?;
        std::mem::forget(counted);
        let number = known_number(instances.get(key)) + 1;
        let entry = Entry { address, ledger, number };
        instances.insert(key.clone(), entry.clone());
        Ok(entry)
    }

    fn declared(&self, key: &ServiceKey) -> Result<&Arc<Declared>, ServiceError> {
        let name = key.service();
        let declared = self.0.declared.get(name).ok_or_else(|| ServiceError::Unknown {
            name: name.to_owned(),
            nearest: nearest(name, self.0.declared.keys().map(String::as_str)).map(str::to_owned),
        })?;
        if key.instance().is_some() == (declared.scope == Scope::Shared) {
            return Err(ServiceError::Scope { key: key.clone(), scope: declared.scope });
        }
        Ok(declared)
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("declared", &self.0.declared.keys()).finish()
    }
}

impl Hold {
    /// Which instance.
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// What was answered when it was taken.
    ///
    /// # Errors
    ///
    /// [`NotReady`], when it did not serve then: as a rule because it is only being started.
    pub fn at_first(&self) -> Result<&Admitted, &NotReady> {
        self.first.as_ref()
    }

    /// Whether the instance may be used now, by what is known since this hold was taken. A probe is waited for, if
    /// there has to be one.
    ///
    /// # Errors
    ///
    /// [`NotReady`]; also when its actor gives no answer.
    pub async fn admitted(&self) -> Result<Admitted, NotReady> {
        let needed = self.needed;
        let asks = |reply| Message::Ask { needed, reply };
        let answer = self.entry.address.call(asks, self.patience).await;
        answer.unwrap_or_else(|error| {
            let (state, why) = (self.entry.ledger.state(), error.to_string().into());
            Err(NotReady { state, retry_at: None, why })
        })
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("key", &self.key)
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.entry.ledger.give_back(&self.holder) {
            // Only sooner: the actor finds it in the ledger in any case, with whatever it hears next.
            let _ = self.entry.address.cast(Message::Look);
        }
    }
}

/// A hold whose actor is being started: dropped with that start, it is given back.
struct Counted<'a> {
    ledger: &'a Ledger,
    holder: Option<&'a Holder>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(holder) = self.holder {
            self.ledger.give_back(holder);
        }
    }
}

fn known_number(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, |entry| entry.number)
}

/// What the machine answers, with the address of the life that it is about.
fn told(admission: Admission, ledger: &Ledger) -> Result<Admitted, NotReady> {
    match admission {
        Admission::Ready { epoch } => Ok(Admitted { epoch, endpoint: ledger.endpoint(epoch) }),
        Admission::NotReady { state, retry_at, why } => Err(NotReady { state, retry_at, why }),
    }
}
