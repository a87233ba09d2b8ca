//! Services that jobs declare: whom they admit, by what is published, and who is told that they are needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{
    Timestamp, Uptime, nearest,
    run::RunId,
    service::{Epoch, ServiceKey, ServiceState},
};
use perennial_store::{Admissions, Admits, Closed};
use perennial_supervision::{CallError, CastError};
use perennial_tools::protection::{BreakerStatus, State};
use tokio::sync::Notify;

use super::{External, Inner, Scope, ServiceError, actor::Message, board, spec::Declared};
use crate::run;

/// How long one that is being brought back is waited for.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// The services of a host, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered(Arc<BTreeMap<String, Scope>>);

/// What is declared and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CannotUse {
    /// The host has none of that name; the nearest.
    Unknown(Option<String>),
    /// It has an instance for each key, or for all.
    Scope(Scope),
}

impl Offered {
    pub(super) fn new(services: impl Iterator<Item = (String, Scope)>) -> Self {
        Self(Arc::new(services.collect()))
    }

    /// The instance that a job of `run` means by `declared`.
    pub(crate) fn of_run(
        &self,
        declared: &ServiceKey,
        run: &RunId,
    ) -> Result<ServiceKey, CannotUse> {
        let name = declared.service();
        let Some(scope) = self.0.get(name) else {
            let near = nearest(name, self.0.keys().map(String::as_str));
            return Err(CannotUse::Unknown(near.map(str::to_owned)));
        };
        match (scope, declared.instance()) {
            (Scope::Shared, None) | (Scope::Keyed, Some(_)) => Ok(declared.clone()),
            (Scope::PerRun, None) => Ok(ServiceKey::keyed(name, run.as_str())),
            (Scope::Shared, Some(_)) | (Scope::Keyed, None) | (Scope::PerRun, Some(_)) => {
                Err(CannotUse::Scope(*scope))
            }
        }
    }

    /// Those of a job. What cannot be used stays as it is declared: nobody admits it, and the job says so.
    pub(crate) fn of_job<'a>(
        &self,
        declared: impl IntoIterator<Item = &'a ServiceKey>,
        run: &RunId,
    ) -> Vec<ServiceKey> {
        let resolved = declared
            .into_iter()
            .map(|declared| self.of_run(declared, run).unwrap_or_else(|_| declared.clone()));
        resolved.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Who is to be told that they are needed, or not any more; told by the watch, one after the other.
#[derive(Default)]
pub(super) struct Nudges {
    /// Since when they are needed, if they are.
    waiting: Mutex<BTreeMap<ServiceKey, Option<Uptime>>>,
    pub(super) added: Notify,
}

impl Nudges {
    pub(super) fn add(&self, key: ServiceKey, needed: Option<Uptime>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let known = waiting.entry(key).or_default();
        *known = (*known).max(needed);
        self.added.notify_one();
    }

    fn take(&self) -> BTreeMap<ServiceKey, Option<Uptime>> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl External {
    /// What may be declared.
    pub(crate) fn offered(&self) -> Offered {
        self.0.offered.clone()
    }

    /// What a claim for `run` is told of `keys`: what they have published.
    pub(crate) fn admissions(&self, run: &RunId, keys: BTreeSet<ServiceKey>) -> Admissions {
        let engine = &self.0.engine;
        let at = (engine.clock.now(), engine.store.now());
        let services = keys.into_iter().map(|key| {
            let declared = self.declared(&key).map(|it| &**it);
            let door = match self.0.board.door(run, &key, declared.as_ref().copied(), at) {
                Admits::Yes => self.by_breaker(run, &key, declared.ok(), at),
                door @ (Admits::UpTo { .. } | Admits::No(_)) => door,
            };
            (key, door)
        });
        Admissions { services: services.collect(), ..Admissions::default() }
    }

    /// Whom the breaker of an instance admits that serves (SM-60).
    fn by_breaker(
        &self,
        run: &RunId,
        key: &ServiceKey,
        declared: Option<&Declared>,
        (now, at): (Uptime, Timestamp),
    ) -> Admits {
        let (Some(status), Some(declared)) = (self.0.calls.status(key), declared) else {
            return Admits::Yes;
        };
        let closed = |why: &str| {
            self.0.board.waits(run, key);
            board::closed(key, why, &declared.on_unavailable, at)
        };
        let Some(why) = refused_by_breaker(&status, (now, at)) else { return Admits::Yes };
        let closed = closed(&why);
        match status.state {
            State::Open { until } if until > now => {
                Admits::No(Closed { wake_at: at.after(until.since(now)), ..closed })
            }
            State::Open { .. } | State::HalfOpen | State::Closed => {
                match status.config.probes.saturating_sub(status.probes_out) {
                    0 => Admits::No(closed),
                    most => Admits::UpTo { most, then: closed },
                }
            }
        }
    }

    /// The life of an instance that serves, and where that is reached.
    pub(super) fn serving(&self, key: &ServiceKey) -> Option<(Epoch, Option<Arc<str>>)> {
        self.0.board.serving(key)
    }

    /// The life of an instance.
    pub(super) fn epoch(&self, key: &ServiceKey) -> Option<Epoch> {
        self.0.board.epoch(key)
    }

    /// How the one of `uses` is now that `waits_for` tells of, as it was then.
    pub(crate) fn standing(&self, uses: &[ServiceKey], waits_for: &str) -> Option<String> {
        let key = uses
            .iter()
            .find(|key| super::why(waits_for, key).is_some_and(|why| !super::is_for_room(why)))?;
        if self.serving(key).is_none() {
            return self.0.board.told(key);
        }
        let engine = &self.0.engine;
        let at = (engine.clock.now(), engine.store.now());
        let why = refused_by_breaker(&self.0.calls.status(key)?, at)?;
        Some(board::cause(key, &why))
    }

    /// What the jobs of `run` hold, or wait for: whoever is not told yet is.
    pub(crate) fn settle(&self, run: &RunId, used: &BTreeSet<ServiceKey>) {
        for (key, needed) in self.0.board.settle(run, used, self.0.engine.clock.now()) {
            self.0.nudges.add(key, needed);
        }
    }

    /// Passes on who is needed, or not any more.
    pub(super) async fn pass_on(&self) {
        for (key, needed) in self.0.nudges.take() {
            if let Err(error) = self.tell(&key, needed).await {
                // It is reminded as long as somebody waits.
                tracing::warn!(service = %key, %error, "a service was not told of who needs it");
            }
        }
    }

    async fn tell(&self, key: &ServiceKey, needed: Option<Uptime>) -> Result<(), ServiceError> {
        let mut gone = None;
        for _ in 0..super::LOST_MAX {
            if needed.is_none() && !self.0.instances.lock().await.contains_key(key) {
                return Ok(());
            }
            if needed.is_some() {
                self.room_for(key).await?;
            }
            let entry = self.entry(key, gone, None).await?;
            match entry.address.cast(Message::Nudge { needed }) {
                // It had come to rest, unless it is being brought back: then it sees for itself who needs it.
                Err(CastError::NoProc) if needed.is_some() => {
                    match entry.address.call(|reply| Message::Ping { reply }, BACK_WITHIN).await {
                        Err(CallError::NoProc) => gone = Some(entry.number),
                        // It ended just then, and may come back or not.
                        Err(CallError::Exited(_)) => {}
                        Ok(()) | Err(_) => return Ok(()),
                    }
                }
                Ok(()) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Refused when the instance is not there, and one more may not be (DUR-88).
    async fn room_for(&self, key: &ServiceKey) -> Result<(), ServiceError> {
        let declared = self.declared(key)?;
        let instances = self.0.instances.lock().await;
        let others = instances.iter().filter(|(of, entry)| {
            let is_other = of.service() == key.service() && *of != key;
            is_other && !entry.ledger.is_at_rest() && entry.ledger.state() != ServiceState::Failed
        });
        let is_there = instances.get(key).is_some_and(|entry| !entry.ledger.is_at_rest());
        if !is_there && others.count() >= declared.instances_max {
            let max = declared.instances_max;
            return Err(ServiceError::InstancesFull { key: key.clone(), max });
        }
        Ok(())
    }
}

impl Inner {
    /// Runs that wait for an instance look again.
    pub(super) fn wake(engine: &crate::Services, runs: Vec<RunId>) {
        for run in runs {
            if let Some(address) = engine.run_address(&run) {
                // One that is away looks when it is back.
                drop(address.cast(run::Message::Wake));
            }
        }
    }
}

/// Why a breaker does not let everybody through.
fn refused_by_breaker(status: &BreakerStatus, (now, at): (Uptime, Timestamp)) -> Option<String> {
    match status.state {
        State::Closed => None,
        State::Open { until } if until > now => {
            let until = at.after(until.since(now));
            Some(format!("its breaker is open until {}", until.to_rfc3339()))
        }
        State::Open { .. } | State::HalfOpen => {
            Some("its breaker is half open, and being tried by others".to_owned())
        }
    }
}
