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
//! Who was waiting for an answer, and what probes had found. The instance and who holds it are rows, written before
//! anything is started and at each transition, never for a call (`external/row.rs`). What an actor finds there when it
//! starts, after its own end or that of a process, it looks for: what lives is adopted, what is gone is started again
//! where somebody holds it, and what nobody needs is stopped. `external/watch.rs` sees to it that there is an actor.
//!
//! On a store that several processes share an instance has one keeper, who starts and stops it; the others use it, where
//! its driver can find it, and take it over when that process is gone.
//!
//! # Guarantees
//!
//! An instance is not stopped while somebody holds it, but for a shutdown. Nobody is admitted by a verdict that is old,
//! of another life, or from before the need. The address of an instance comes from whoever holds it, and from nowhere
//! else.

mod actor;
mod acts;
mod board;
mod calls;
mod defaults;
mod error;
mod hold;
mod ledger;
mod probing;
mod row;
mod spec;
#[cfg(test)]
mod tests;
mod uses;
mod watch;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use perennial_core::{
    Restart, Shutdown, Uptime, nearest,
    service::{Holder, NotFailed, ServiceEvent, ServiceKey, ServiceState},
};
use perennial_store::{AfterWait, HoldOf};
use perennial_supervision::{
    Address, CALL_WITHIN, CallError, CastError, ChildSpec, DynamicSupervisor, DynamicSupervisorSpec,
};
use perennial_tools::protection::LimiterError;
use tokio::sync::{Mutex, broadcast, watch as signal};

use self::{
    actor::{Keeper, Message},
    board::Board,
    calls::{Calls, Refused},
    ledger::Ledger,
    spec::Declared,
    uses::Nudges,
};
pub(crate) use self::{
    board::{is_for_room, undeclared, why},
    uses::{CannotUse, Offered},
};
pub use self::{
    calls::ServicePermit,
    defaults::ServiceDefaults,
    error::ServiceError,
    hold::{Admitted, Hold, NotReady},
    spec::{InvalidServices, OnUnavailable, Scope, ServiceFault, ServiceSpec, Then},
};
use crate::{
    Services, Unavailable,
    patience::{STORE_WITHIN, patiently},
};

/// Restarts of one actor that are tolerated.
const BUDGET: (u32, Duration) = (5, Duration::from_secs(300));
/// So often an actor may be lost while it is asked.
const LOST_MAX: u32 = 3;
/// Actors of all services at a time.
const INSTANCES_MAX: usize = 10_000;
/// What is kept for whoever follows events; who is slower misses some, and is told so.
const EVENTS_KEPT: usize = 1_024;

/// What services are made of.
#[derive(Debug)]
pub struct ExternalSpec {
    /// Those that are declared.
    pub services: Vec<ServiceSpec>,
    /// What holds for all of them that do not say otherwise; whether it can be meant is the caller's to check.
    pub defaults: ServiceDefaults,
    /// What the components of the engine share: the store in which instances and holds are rows, the tasks in which
    /// drivers work, the clock.
    pub engine: Services,
}

/// Handle to the services of a runtime. Cheap to clone; outlives restarts.
#[derive(Clone)]
pub struct External(Arc<Inner>);

struct Inner {
    declared: HashMap<String, Arc<Declared>>,
    engine: Services,
    supervisor: DynamicSupervisor,
    /// Held while one is started, so that an instance has one actor.
    instances: Mutex<HashMap<ServiceKey, Entry>>,
    events: broadcast::Sender<ServiceNotice>,
    offered: Offered,
    board: Arc<Board>,
    calls: Calls,
    nudges: Arc<Nudges>,
}

#[derive(Clone)]
struct Entry {
    address: Address<Message>,
    ledger: Arc<Ledger>,
    /// Which actor of this instance it is; its supervisor's restarts are of the same.
    number: u64,
}

impl Entry {
    /// Whether its actor is there: a shared one rests, and one that has failed may still be held elsewhere.
    fn answers(&self) -> bool {
        self.address.cast(Message::Look) != Err(CastError::NoProc)
    }
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

impl External {
    /// How to supervise the services, and whoever brings their actors back, in the order of their start; and the handle
    /// to them.
    ///
    /// # Errors
    ///
    /// [`InvalidServices`]: everything that is wrong with all of them.
    pub fn child_spec(spec: ExternalSpec) -> Result<([ChildSpec; 2], Self), InvalidServices> {
        let declared = spec::declare(spec.services, &spec.defaults)?;
        let (restarts, within) = BUDGET;
        let (lives, seen) = signal::channel(0_u64);
        let (child, supervisor) = DynamicSupervisor::child_spec_with_init("services", move || {
            lives.send_modify(|lives| *lives += 1);
            Ok(DynamicSupervisorSpec::new("services", INSTANCES_MAX).child_budget(restarts, within))
        });
        let scopes = declared.iter().map(|(name, its)| (name.clone(), its.scope));
        let (offered, nudges) = (Offered::new(scopes), Arc::<Nudges>::default());
        let (board, engine) = (Arc::<Board>::default(), spec.engine.clone());
        let (of_board, of_nudges) = (Arc::downgrade(&board), nudges.clone());
        let calls = Calls::new(&declared, engine.clock, engine.store.clone(), move |key| {
            // Its row is to be written, and whoever waits for it looks again.
            of_nudges.add(key.clone(), None);
            if let Some(board) = of_board.upgrade() {
                Inner::wake(&engine, board.waiting_for(key));
            }
        });
        let external = Self(Arc::new(Inner {
            offered,
            board,
            calls,
            nudges: nudges.clone(),
            declared,
            engine: spec.engine.clone(),
            supervisor,
            instances: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
        }));
        spec.engine.knows_external(&external);
        let watch = watch::child_spec(Arc::downgrade(&external.0), seen, nudges);
        Ok(([child, watch], external))
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
        self.declared(key)?;
        let node = self.0.engine.node().await?;
        self.hold_of(key, HoldOf::Node { node, name: holder }).await
    }

    /// Holds it for whatever `of` is.
    pub(crate) async fn hold_of(&self, key: &ServiceKey, of: HoldOf) -> Result<Hold, ServiceError> {
        let needed = self.0.engine.clock.now();
        let patience = self.declared(key)?.terms.probe_within() * 2 + CALL_WITHIN;
        let (mut gone, mut lost) = (None, 0);
        loop {
            // From here on it is counted, and given back however this ends.
            let entry = self.entry(key, gone, Some(&of)).await?;
            let first = Err(NotReady {
                state: ServiceState::Stopped,
                retry_at: None,
                why: "it was not asked yet".into(),
            });
            let (key, holder) = (key.clone(), of.holder());
            let mut hold = Hold { key, holder, needed, first, patience, entry };
            let asks = |reply| Message::Acquire { of: of.clone(), needed, reply };
            match hold.entry.address.call(asks, patience).await {
                Ok(answer) => {
                    hold.first = answer?;
                    return Ok(hold);
                }
                // It had come to rest, or its supervisor was lost.
                Err(CallError::NoProc) if lost < LOST_MAX => gone = Some(hold.entry.number),
                // It is restarted.
                Err(CallError::Exited(_)) if lost < LOST_MAX => {}
                Err(error) => return Err(error.into()),
            }
            lost += 1;
        }
    }

    /// Starts an instance that has failed, with a fresh budget. Nothing else does: it stays failed in each process on this
    /// store, whatever its declaration says then, and no job waits for it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFailed`] in any other state; [`ServiceError::InstancesFull`] when there is no room for it any more.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped may have started it.
    pub async fn restart(&self, key: &ServiceKey) -> Result<(), ServiceError> {
        self.declared(key)?;
        let store = &self.0.engine.store;
        let row = patiently(STORE_WITHIN, || store.instance(key.clone())).await?;
        let from = row.map_or(ServiceState::Stopped, |row| row.state);
        if from != ServiceState::Failed {
            return Err(NotFailed { from }.into());
        }
        // Nobody may hold it, and then it has no actor for long. Whoever holds what has failed starts nothing.
        let hold = self.hold(key, Holder::new("a restart by hand")).await?;
        let within = STORE_WITHIN + CALL_WITHIN;
        Ok(hold.address().call(|reply| Message::Restart { reply }, within).await??)
    }

    /// Closes the breaker of an instance by hand, and forgets what it has seen. Whoever waits for it goes on.
    ///
    /// # Errors
    ///
    /// [`ServiceError`], when no such service is declared.
    pub fn reset_breaker(&self, key: &ServiceKey) -> Result<(), ServiceError> {
        self.declared(key)?;
        self.0.calls.reset(key);
        Ok(())
    }

    /// The right to make one call: its life is admitted, its breaker lets it, and its limits have room, for which it is
    /// waited no longer than `within`.
    pub(crate) async fn permit(
        &self,
        key: &ServiceKey,
        owner: &str,
        within: Duration,
    ) -> Result<ServicePermit, Unavailable> {
        let missing =
            |why: &dyn fmt::Display| Unavailable::new(board::cause(key, &why.to_string()));
        let max_wait = match self.declared(key) {
            Ok(declared) => declared.on_unavailable.max_wait,
            Err(unknown) => return Err(missing(&unknown).at_most(Duration::ZERO)),
        };
        // Nobody tells when there is room for calls: its time comes by itself, not with the service.
        let too_many = |why: &dyn fmt::Display| {
            Unavailable::new(format!("calls of {}", board::cause(key, &why.to_string())))
        };
        let now = || self.0.engine.clock.now();
        let at =
            |instant: perennial_core::Uptime| self.0.engine.store.now().after(instant.since(now()));
        let refused = |refused: Refused| match &refused {
            Refused::Open { retry_at } => missing(&refused).retry_at(at(*retry_at)),
            Refused::Limiter(
                LimiterError::Denied { retry_at }
                | LimiterError::DeadlineWouldPass { retry_at: Some(retry_at) },
            ) => too_many(&refused).retry_at(at(*retry_at)),
            Refused::Limiter(_) | Refused::Permit(_) | Refused::TooManyKeys(_) => {
                too_many(&refused)
            }
            Refused::Probing | Refused::Breaker(_) => missing(&refused),
        };
        let entered = self.0.calls.enter(key, owner, within).await;
        let guards = entered.map_err(|why| refused(why).at_most(max_wait))?;
        // What it is now: the guards may have been waited for.
        let Some((epoch, endpoint)) = self.serving(key) else {
            guards.settle(None, false);
            let told = self.0.board.told(key).unwrap_or_else(|| board::cause(key, "stopped"));
            return Err(Unavailable::new(told).at_most(max_wait));
        };
        let (key, external) = (key.clone(), self.clone());
        Ok(ServicePermit { key, epoch, endpoint, guards, external })
    }

    /// What becomes of a child that waited for it in vain.
    pub(crate) fn after_wait(&self, key: &ServiceKey) -> AfterWait {
        self.declared(key).map_or(AfterWait::Fail, |it| it.on_unavailable.then.into())
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
        of: Option<&HoldOf>,
    ) -> Result<Entry, ServiceError> {
        let declared = self.declared(key)?;
        let mut instances = self.0.instances.lock().await;
        let known = instances.get(key);
        if let Some(entry) = known.filter(|entry| Some(entry.number) != gone) {
            of.into_iter().for_each(|of| entry.ledger.take(of));
            return Ok(entry.clone());
        }
        // What has come to rest and has no actor any more is forgotten; what was lost is taken up where it was left.
        let mut listed = None;
        instances.retain(|of, entry| {
            let mut is_listed =
                || listed.get_or_insert_with(|| self.listed()).contains(&of.to_string());
            of == key || !entry.ledger.is_at_rest() || entry.answers() || is_listed()
        });
        let others = instances.iter().filter(|(of, _)| of.service() == key.service() && *of != key);
        // One that has failed runs no more, also while somebody still holds it.
        let there = others.filter(|(_, of)| of.ledger.state() != ServiceState::Failed).count();
        if of.is_some() && there >= declared.instances_max {
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
            board: self.0.board.clone(),
            calls: self.0.calls.clone(),
            engine: self.0.engine.clone(),
        };
        let (spec, address) = actor::child_spec(keeper);
        let grace = declared.terms.stop_within + Duration::from_secs(1);
        let spec = spec.restart(Restart::Transient).shutdown(Shutdown::Timeout(grace));
        of.into_iter().for_each(|of| ledger.take(of));
        let mut counted = Counted { ledger: &ledger, holder: of.map(HoldOf::holder) };
        if let Err(error) = self.0.supervisor.start_child(spec).await {
            drop(counted);
            if let Some(of) = of.filter(|of| !ledger.holds(&of.holder())) {
                // Its actor may have kept that before it was lost, and nobody else would give it back.
                let store = &self.0.engine.store;
                let given_back = || store.unhold(of.clone(), key.clone());
                if let Err(error) = patiently(STORE_WITHIN, given_back).await {
                    tracing::warn!(service = %key, %error, "a hold was not given back");
                }
            }
            return Err(error.into());
        }
        counted.holder = None;
        ledger.is_kept_by(address.clone());
        let number = known_number(instances.get(key)) + 1;
        drop(counted);
        let entry = Entry { address, ledger, number };
        instances.insert(key.clone(), entry.clone());
        Ok(entry)
    }

    /// The names of all actors, also of those that are being brought back and do not answer yet.
    fn listed(&self) -> HashSet<String> {
        let children = self.0.supervisor.which_children().unwrap_or_default();
        children.iter().map(|child| child.name().to_owned()).collect()
    }

    /// How long a start may take; nothing of what is not declared.
    pub(crate) fn ready_within(&self, key: &ServiceKey) -> Duration {
        self.declared(key).map_or(Duration::ZERO, |declared| declared.terms.ready_within)
    }

    pub(crate) fn downgrade(&self) -> WeakExternal {
        WeakExternal(Arc::downgrade(&self.0))
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

/// A handle that keeps nothing alive.
pub(crate) struct WeakExternal(Weak<Inner>);

impl WeakExternal {
    pub(crate) fn upgrade(&self) -> Option<External> {
        self.0.upgrade().map(External)
    }
}

/// A hold whose actor is being started: dropped with that start, it is given back.
struct Counted<'a> {
    ledger: &'a Ledger,
    holder: Option<Holder>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(holder) = &self.holder {
            self.ledger.give_back(holder);
        }
    }
}

fn known_number(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, |entry| entry.number)
}
