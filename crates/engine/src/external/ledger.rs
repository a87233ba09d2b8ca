//! What outlives the actor of an instance in this process: who holds it here, what was started here, and whether whoever
//! keeps that still does.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use perennial_core::{
    Uptime,
    service::{Epoch, Holder, ServiceEvent, ServiceKey, ServiceMachine, ServiceState, Spent},
};
use perennial_store::HoldOf;
use perennial_supervision::Address;
use perennial_tools::service::Instance;
use tokio::sync::{broadcast, oneshot, watch};

use super::{ServiceNotice, actor::Message, row::Standing};
use crate::published::Published;

pub(super) struct Ledger {
    key: ServiceKey,
    events: broadcast::Sender<ServiceNotice>,
    /// What the tree shows.
    pub(super) shown: Published,
    /// Where its last actor is reached.
    address: Mutex<Option<Address<Message>>>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// What each holder is, and how many guards it has out; never 0.
    guards: BTreeMap<Holder, (HoldOf, usize)>,
    /// Whose last guard went, until the actor has seen it; at most as many as have held it in between.
    returned: BTreeMap<Holder, HoldOf>,
    /// Where the machine was last; none before its first actor.
    was: Option<(ServiceState, Epoch)>,
    /// What its machine had used up of its budget then; none where another process keeps it.
    spent: Option<Spent>,
    /// What was started and is not known to be gone, by life.
    instances: BTreeMap<Epoch, Started>,
    /// How many were started.
    started: u64,
    /// Events told so far.
    seq: u64,
}

/// What was started for a life.
struct Started {
    /// The count of those that were started.
    number: u64,
    instance: Instance,
    /// Why its keeper is not there any more.
    ended: Option<Arc<str>>,
    /// Whether it is another process's, and only used here.
    is_guests: bool,
    keeper: Option<Bond>,
}

/// What binds a keeper to its instance.
struct Bond {
    /// Its drop lets the keeper go.
    holds: Option<oneshot::Sender<Infallible>>,
    /// Closed when the keeper is not there any more.
    end: watch::Receiver<()>,
}

/// A keeper under way: its drop tells that it has ended, also to an actor that is not there yet.
struct Keeping {
    ledger: Arc<Ledger>,
    epoch: Epoch,
    number: u64,
    why: Option<Arc<str>>,
    _end: watch::Sender<()>,
}

impl Keeping {
    fn end(mut self, why: Arc<str>) {
        self.why = Some(why);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let why = self.why.take().unwrap_or_else(|| "its keeper was killed, or panicked".into());
        if let Some(started) = self.ledger.book().instances.get_mut(&self.epoch)
            && started.number == self.number
        {
            started.ended = Some(why);
        }
        if let Some(address) = self.ledger.address() {
            // One that is away, or has no room, reads it here.
            let _ = address.cast(Message::KeeperEnded(self.epoch));
        }
    }
}

impl Ledger {
    pub(super) fn new(key: ServiceKey, events: broadcast::Sender<ServiceNotice>) -> Self {
        Self {
            key,
            events,
            shown: Published::default(),
            address: Mutex::default(),
            book: Mutex::default(),
        }
    }

    /// Its actor is another one from now on.
    pub(super) fn is_kept_by(&self, address: Address<Message>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Where its actor is reached; none before the first.
    pub(super) fn address(&self) -> Option<Address<Message>> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, of: &HoldOf) {
        self.book().guards.entry(of.holder()).or_insert_with(|| (of.clone(), 0)).1 += 1;
    }

    /// Whether that was the last of this holder.
    pub(super) fn give_back(&self, holder: &Holder) -> bool {
        let mut book = self.book();
        let Some((_, guards)) = book.guards.get_mut(holder) else { return false };
        *guards -= 1;
        let is_last = *guards == 0;
        if is_last && let Some((of, _)) = book.guards.remove(holder) {
            book.returned.insert(holder.clone(), of);
        }
        is_last
    }

    /// Who has given it back since the last look, and does not hold it again.
    pub(super) fn returned(&self) -> Vec<(Holder, HoldOf)> {
        let mut book = self.book();
        let returned = std::mem::take(&mut book.returned);
        returned.into_iter().filter(|(holder, _)| !book.guards.contains_key(holder)).collect()
    }

    pub(super) fn holds(&self, holder: &Holder) -> bool {
        self.book().guards.contains_key(holder)
    }

    pub(super) fn holders(&self) -> BTreeSet<Holder> {
        self.book().guards.keys().cloned().collect()
    }

    /// What they are that hold it here.
    pub(super) fn held_by(&self) -> Vec<HoldOf> {
        self.book().guards.values().map(|(of, _)| of.clone()).collect()
    }

    pub(super) fn note(&self, machine: &ServiceMachine, standing: &Standing) {
        let mut book = self.book();
        book.was = Some((machine.state(), machine.epoch()));
        // What a guest counts are looks that found nothing, and no lives.
        book.spent = (!standing.is_guest()).then(|| machine.spent().clone());
    }

    /// What was used up of its budget, whichever actor has counted it; none before the first.
    pub(super) fn spent(&self) -> Option<Spent> {
        self.book().spent.clone()
    }

    pub(super) fn state(&self) -> ServiceState {
        self.book().was.map_or(ServiceState::Stopped, |(state, _)| state)
    }

    /// Whether nobody holds it and nothing of it is there.
    pub(super) fn is_at_rest(&self) -> bool {
        let book = self.book();
        let at_rest = [ServiceState::Stopped, ServiceState::Failed];
        let rests = book.was.is_none_or(|(state, _)| at_rest.contains(&state));
        rests && book.guards.is_empty() && book.instances.is_empty()
    }

    /// `instance` is what was started for that life. What is to be run for as long as it lives, if anything is: it ends when
    /// it is let go, or the instance is forgotten.
    pub(super) fn keep(
        self: &Arc<Self>,
        epoch: Epoch,
        instance: Instance,
        is_guests: bool,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (holds, let_go) = oneshot::channel::<Infallible>();
        let (tell_end, end) = watch::channel(());
        let keeper = instance.take_keeper();
        let bond = keeper.is_some().then_some(Bond { holds: Some(holds), end });
        let (number, before) = {
            let mut book = self.book();
            book.started += 1;
            let number = book.started;
            let started = Started { number, instance, ended: None, is_guests, keeper: bond };
            (number, book.instances.insert(epoch, started))
        };
        // Its drop may be a driver's code: not under the lock.
        drop(before);
        let keeper = keeper?;
        let keeping = Keeping { ledger: self.clone(), epoch, number, why: None, _end: tell_end };
        Some(async move {
            let why = tokio::select! {
                why = keeper => why,
                _ = let_go => "it was let go".into(),
            };
            keeping.end(why);
        })
    }

    /// Whoever keeps that life is not needed any more: it is dropped wherever it is. Answers when it is.
    pub(super) async fn let_go(&self, epoch: Epoch) {
        let bond = {
            let mut book = self.book();
            let bond = book.instances.get_mut(&epoch).and_then(|started| started.keeper.as_mut());
            bond.map(|bond| (bond.holds.take(), bond.end.clone()))
        };
        if let Some((holds, mut end)) = bond {
            drop(holds);
            // Nothing ever comes but the end.
            while end.changed().await.is_ok() {}
        }
    }

    /// From here on it is this process's, whoever started it.
    pub(super) fn own(&self, epoch: Epoch) {
        if let Some(started) = self.book().instances.get_mut(&epoch) {
            started.is_guests = false;
        }
    }

    /// Whether that life is another process's, and only used here.
    pub(super) fn is_guests(&self, epoch: Epoch) -> bool {
        self.book().instances.get(&epoch).is_some_and(|started| started.is_guests)
    }

    /// Why whoever kept that life does not any more; nothing while it does, and of one that nobody keeps.
    pub(super) fn ended(&self, epoch: Epoch) -> Option<Arc<str>> {
        self.book().instances.get(&epoch).and_then(|started| started.ended.clone())
    }

    pub(super) fn instance(&self, epoch: Epoch) -> Option<Instance> {
        self.book().instances.get(&epoch).map(|started| started.instance.clone())
    }

    /// All that was started and may be there, oldest first.
    pub(super) fn instances(&self) -> Vec<(Epoch, Instance)> {
        let book = self.book();
        book.instances.iter().map(|(epoch, of)| (*epoch, of.instance.clone())).collect()
    }

    pub(super) fn forget(&self, epoch: Epoch) {
        let gone = self.book().instances.remove(&epoch);
        // Its drop may be a driver's code: not under the lock.
        drop(gone);
    }

    pub(super) fn endpoint(&self, epoch: Epoch) -> Option<Arc<str>> {
        self.instance(epoch)?.endpoint().map(Arc::from)
    }

    pub(super) fn tell(&self, event: ServiceEvent, at: Uptime) {
        let seq = {
            let mut book = self.book();
            book.seq += 1;
            book.seq
        };
        // Nobody may be following.
        let _ = self.events.send(ServiceNotice { key: self.key.clone(), seq, at, event });
    }
}
