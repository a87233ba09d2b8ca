//! What instances have published of themselves, and which runs wait for that: asked by whoever claims, which never waits
//! for an instance (DUR-15).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use perennial_core::{
    Timestamp, Uptime,
    run::RunId,
    service::{Admission, Epoch, Offer, ServiceKey, ServiceState},
};
use perennial_store::{Admits, AfterWait, Closed};

use super::{
    Scope, ServiceError,
    spec::{Declared, OnUnavailable},
};

/// When a job that waits is looked at again, whatever happens meanwhile: what it waits for is told before, as a rule.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How soon an instance is reminded of who waits for it.
const REMIND_AFTER: Duration = Duration::from_secs(5);
/// What a job waits for that must not be held yet.
const FULL: &str = "as many instances of it are there as may be";

/// What brings back a service that has failed.
const RESTART: &str = "`Runtime::services().restart`";

/// How a job says which service it waits for.
pub(crate) fn cause(key: &ServiceKey, why: &str) -> String {
    format!("service {key}: {why}")
}

/// Of the service `key`, why it is waited for; nothing when the cause is another.
pub(crate) fn why<'a>(cause: &'a str, key: &ServiceKey) -> Option<&'a str> {
    cause.strip_prefix("service ")?.strip_prefix(key.to_string().as_str())?.strip_prefix(": ")
}

/// Whether that is room, and not the instance.
pub(crate) fn is_for_room(why: &str) -> bool {
    why == FULL
}

#[derive(Default)]
pub(super) struct Board(Mutex<Book>);

#[derive(Default)]
struct Book {
    offers: BTreeMap<ServiceKey, Offer>,
    /// Where that life of each is reached.
    endpoints: BTreeMap<ServiceKey, Arc<str>>,
    /// What each run that is under way here needs.
    needs: HashMap<RunId, BTreeMap<ServiceKey, Need>>,
}

/// That a run needs an instance.
struct Need {
    /// Since when: verdicts from before are not its own (INV-23).
    since: Uptime,
    /// When the instance was told last.
    told: Option<Uptime>,
    /// Whether a job of it waits.
    waits: bool,
}

impl Board {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance is from now on what it says. The runs that this lets go on, or ends.
    pub(super) fn post(
        &self,
        key: &ServiceKey,
        (offer, endpoint): (Offer, Option<Arc<str>>),
        now: Uptime,
    ) -> Vec<RunId> {
        let mut book = self.book();
        match endpoint {
            Some(endpoint) => drop(book.endpoints.insert(key.clone(), endpoint)),
            None => drop(book.endpoints.remove(key)),
        }
        if book.offers.get(key) == Some(&offer) {
            return Vec::new();
        }
        let makes_room = matches!(offer.state(), ServiceState::Failed | ServiceState::Stopped);
        book.offers.insert(key.clone(), offer.clone());
        let moves = |of: &ServiceKey, need: &Need| {
            if of == key {
                match offer.admission(need.since, now) {
                    Some(Admission::Ready { .. }) => true,
                    Some(Admission::NotReady { state, .. }) => state == ServiceState::Failed,
                    None => false,
                }
            } else {
                makes_room && of.service() == key.service()
            }
        };
        book.moved(moves)
    }

    /// An instance has come to rest. The runs that this lets go on.
    pub(super) fn remove(&self, key: &ServiceKey) -> Vec<RunId> {
        let mut book = self.book();
        book.offers.remove(key);
        book.endpoints.remove(key);
        book.moved(|of, _| of.service() == key.service())
    }

    /// What a claim for `run` is told of `key`, which is needed from now on if it was not before.
    pub(super) fn door(
        &self,
        run: &RunId,
        key: &ServiceKey,
        declared: Result<&Declared, &ServiceError>,
        (now, at): (Uptime, Timestamp),
    ) -> Admits {
        let mut book = self.book();
        let declared = match declared {
            Ok(declared) => declared,
            Err(unknown) => return undeclared(key, &unknown.to_string(), at),
        };
        let closed = |why: &str| closed(key, why, &declared.on_unavailable, at);
        let Some(offer) = book.offers.get(key).cloned() else {
            let is_full = book.is_full(key, declared);
            book.need(run, key, now).waits = true;
            let why = if is_full { FULL } else { ServiceState::Stopped.as_str() };
            return Admits::No(Closed { hold: !is_full, ..closed(why) });
        };
        let need = book.need(run, key, now);
        let (state, epoch) = (offer.state(), offer.epoch());
        let (why, is_final) = match offer.admission(need.since, now) {
            Some(Admission::Ready { .. }) => {
                need.waits = false;
                return Admits::Yes;
            }
            None => {
                (format!("{state}, and not looked at since it is needed (epoch {epoch})"), false)
            }
            Some(Admission::NotReady { state: ServiceState::Failed, why, .. }) => {
                (format!("failed (epoch {epoch}): {why} ({RESTART} starts it again)"), true)
            }
            Some(Admission::NotReady { state, why, .. }) => {
                (format!("{state} (epoch {epoch}): {why}"), false)
            }
        };
        need.waits = true;
        Admits::No(Closed { is_final, hold: !is_final, ..closed(&why) })
    }

    /// The runs of which a job waits for that instance.
    pub(super) fn waiting_for(&self, key: &ServiceKey) -> Vec<RunId> {
        self.book().moved(|of, _| of == key)
    }

    /// Since when somebody needs it of whom `offer` says nothing, as it was looked at before; none when there is nobody.
    pub(super) fn unseen(&self, key: &ServiceKey, offer: &Offer, now: Uptime) -> Option<Uptime> {
        let book = self.book();
        let needs = book.needs.values().filter_map(|needs| needs.get(key));
        needs.map(|need| need.since).filter(|since| offer.admission(*since, now).is_none()).max()
    }

    /// A job of the run waits for it.
    pub(super) fn waits(&self, run: &RunId, key: &ServiceKey) {
        let mut book = self.book();
        if let Some(need) = book.needs.get_mut(run).and_then(|needs| needs.get_mut(key)) {
            need.waits = true;
        }
    }

    pub(super) fn epoch(&self, key: &ServiceKey) -> Option<Epoch> {
        self.book().offers.get(key).map(Offer::epoch)
    }

    /// The life of one that serves, or lives and is said to be good enough, and where it is reached.
    pub(super) fn serving(&self, key: &ServiceKey) -> Option<(Epoch, Option<Arc<str>>)> {
        let book = self.book();
        let offer = book.offers.get(key).filter(|offer| offer.may_serve())?;
        Some((offer.epoch(), book.endpoints.get(key).cloned()))
    }

    /// How an instance is, in words; nothing of one that has published nothing.
    pub(super) fn told(&self, key: &ServiceKey) -> Option<String> {
        let book = self.book();
        let offer = book.offers.get(key)?;
        let (state, epoch) = (offer.state(), offer.epoch());
        Some(match offer.why() {
            Some(why) => cause(key, &format!("{state} (epoch {epoch}): {why}")),
            None => cause(key, &format!("{state} (epoch {epoch})")),
        })
    }

    /// `used` is all that jobs of `run` hold, or wait for. The instances that are to be told, and since when the run
    /// needs them; of those that it does not need any more without.
    pub(super) fn settle(
        &self,
        run: &RunId,
        used: &BTreeSet<ServiceKey>,
        now: Uptime,
    ) -> Vec<(ServiceKey, Option<Uptime>)> {
        let mut book = self.book();
        let mut tell = Vec::new();
        if let Some(needs) = book.needs.get_mut(run) {
            needs.retain(|key, need| {
                let is_used = used.contains(key);
                if !is_used && need.told.is_some() {
                    tell.push((key.clone(), None));
                }
                is_used
            });
        }
        for key in used {
            let need = book.need(run, key, now);
            let is_late = |told: Uptime| need.waits && now.since(told) >= REMIND_AFTER;
            if need.told.is_none_or(is_late) {
                need.told = Some(now);
                tell.push((key.clone(), Some(need.since)));
            }
        }
        if book.needs.get(run).is_some_and(BTreeMap::is_empty) {
            book.needs.remove(run);
        }
        tell
    }
}

impl Book {
    fn need(&mut self, run: &RunId, key: &ServiceKey, now: Uptime) -> &mut Need {
        let needs = self.needs.entry(run.clone()).or_default();
        needs.entry(key.clone()).or_insert(Need { since: now, told: None, waits: false })
    }

    /// Whether one more would be too many: what has failed, or rests, takes no room.
    fn is_full(&self, key: &ServiceKey, declared: &Declared) -> bool {
        let takes = |(of, offer): &(&ServiceKey, &Offer)| {
            let rests = matches!(offer.state(), ServiceState::Failed | ServiceState::Stopped);
            of.service() == key.service() && !rests
        };
        declared.scope != Scope::Shared
            && self.offers.iter().filter(takes).count() >= declared.instances_max
    }

    /// The runs of which a job waits for what has `moved`.
    fn moved(&self, moved: impl Fn(&ServiceKey, &Need) -> bool) -> Vec<RunId> {
        let waits = |needs: &BTreeMap<ServiceKey, Need>| {
            needs.iter().any(|(key, need)| need.waits && moved(key, need))
        };
        let runs = self.needs.iter().filter(|(_, needs)| waits(needs));
        runs.map(|(run, _)| run.clone()).collect()
    }
}

/// What a claim is told of a service that this host does not have, and never will.
pub(crate) fn undeclared(key: &ServiceKey, why: &str, now: Timestamp) -> Admits {
    let closed = closed(key, why, &OnUnavailable::default(), now);
    Admits::No(Closed { is_final: true, hold: false, ..closed })
}

pub(super) fn closed(
    key: &ServiceKey,
    why: &str,
    on_unavailable: &OnUnavailable,
    now: Timestamp,
) -> Closed {
    Closed {
        cause: cause(key, why),
        wake_at: now.after(LOOK_AGAIN),
        max_wait: on_unavailable.max_wait,
        then: AfterWait::from(on_unavailable.then),
        is_final: false,
        hold: true,
    }
}
