//! One part of a registry: which process has which keys.
//!
//! Every change is made under the one lock of the part, so that the table and the lists of holders
//! agree; reading takes no lock but the table's own, for as long as an entry is copied. Values and keys
//! that go are dropped outside of the lock, for that is the user's code.

use std::{
    any::Any,
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash},
    sync::{Arc, PoisonError},
};

use super::{Registered, RegistryError, RegistryKey};
use crate::{
    ProcessRef,
    life::Watch,
    names::AnyAddress,
    sync::{
        DashMap, Entry, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Whether one key may have several holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Unique,
    Duplicate,
}

pub(super) struct Partition<K, V> {
    rule: Rule,
    table: DashMap<K, Entries<V>>,
    /// Entries in the table.
    count: AtomicU64,
    /// Whether a process stands for it: that of the holders, for readers.
    is_open: AtomicBool,
    holders: Mutex<Holders<K>>,
}

/// An entry of the table.
struct Held<V> {
    registered: Registered<V>,
    /// What answers at the key, where it is the name of a child.
    address: Option<AnyAddress>,
}

impl<V> Clone for Held<V> {
    fn clone(&self) -> Self {
        Self { registered: self.registered.clone(), address: self.address.clone() }
    }
}

/// What is at one key, in the order of registration. Mostly it is one, which a reader finds in the table
/// itself.
enum Entries<V> {
    One(Held<V>),
    More(Vec<Held<V>>),
}

impl<V> Entries<V> {
    fn all(&self) -> &[Held<V>] {
        match self {
            Self::One(held) => std::slice::from_ref(held),
            Self::More(held) => held,
        }
    }

    fn all_mut(&mut self) -> &mut [Held<V>] {
        match self {
            Self::One(held) => std::slice::from_mut(held),
            Self::More(held) => held,
        }
    }

    fn into_all(self) -> Vec<Held<V>> {
        match self {
            Self::One(held) => vec![held],
            Self::More(held) => held,
        }
    }

    fn push(&mut self, next: Held<V>) {
        let mut all = std::mem::replace(self, Self::More(Vec::new())).into_all();
        all.push(next);
        *self = Self::More(all);
    }

    /// Takes out what matches; whether nothing is left.
    fn take(&mut self, gone: &mut Vec<Held<V>>, mut matches: impl FnMut(&Held<V>) -> bool) -> bool {
        if self.all().iter().any(&mut matches) {
            let mut all = std::mem::replace(self, Self::More(Vec::new())).into_all();
            gone.extend(all.extract_if(.., |held| matches(held)));
            *self = Self::More(all);
        }
        self.all().is_empty()
    }
}

struct Holders<K> {
    /// The process that stands for this part; none while it does not run.
    process: Option<ProcessRef>,
    /// By what tells incarnations apart, of whatever tree.
    held: HashMap<usize, Holder<K>>,
}

struct Holder<K> {
    /// Once for each entry.
    keys: Vec<K>,
    /// Of its end. Goes with the last key, as the tie does.
    cleaning: Option<Watch>,
    /// To the end of this part.
    tie: Option<Watch>,
}

/// What a change took out of the table, to be dropped outside of the lock.
struct Gone<K, V> {
    keys: Vec<K>,
    entries: Vec<Held<V>>,
}

impl<K, V> Default for Gone<K, V> {
    fn default() -> Self {
        Self { keys: Vec::new(), entries: Vec::new() }
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> Partition<K, V> {
    pub(super) fn new(rule: Rule) -> Arc<Self> {
        let holders = Holders { process: None, held: HashMap::new() };
        // One table for one lock of writers; more shards would cost an idle registry memory only.
        let (table, count) = (DashMap::new(), AtomicU64::new(0));
        let is_open = AtomicBool::new(false);
        Arc::new(Self { rule, table, count, is_open, holders: Mutex::new(holders) })
    }

    /// From here on `process` stands for it.
    pub(super) fn open(&self, process: ProcessRef) {
        let mut holders = self.holders();
        holders.process = Some(process);
        self.is_open.store(true, Ordering::Release);
    }

    /// Forgets all entries.
    pub(super) fn close(&self) {
        let mut holders = self.holders();
        holders.process = None;
        self.is_open.store(false, Ordering::Release);
        let held = std::mem::take(&mut holders.held);
        let mut gone = Vec::new();
        for key in held.values().flat_map(|holder| &holder.keys) {
            gone.extend(self.table.remove(key));
        }
        self.count.store(0, Ordering::Relaxed);
        drop(holders);
        drop(gone);
        for holder in held.into_values() {
            // The end of this part is announced after this.
            holder.tie.into_iter().for_each(Watch::keep);
            drop((holder.keys, holder.cleaning));
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Processes that hold a key.
    pub(super) fn processes(&self) -> usize {
        self.holders().held.len()
    }

    /// Adds an entry of `process`, and ties it to this part (REG-019).
    pub(super) fn register(
        self: &Arc<Self>,
        process: &ProcessRef,
        key: K,
        value: Arc<V>,
        address: Option<AnyAddress>,
    ) -> Result<(), RegistryError> {
        let registered = Registered { process: process.clone(), value };
        let held = Held { registered, address };
        let (part, is_first, replaced) = {
            let mut holders = self.holders();
            let part = holders.process.clone().ok_or(RegistryError::NotRunning)?;
            let mut replaced = Vec::new();
            match self.table.entry(key.clone()) {
                Entry::Vacant(place) => drop(place.insert(Entries::One(held))),
                Entry::Occupied(mut place) if self.rule == Rule::Duplicate => {
                    place.get_mut().push(held);
                }
                Entry::Occupied(mut place) => {
                    let present = place.get().all().first().map(|it| it.registered.process.clone());
                    if let Some(holder) = present.filter(ProcessRef::is_not_ending) {
                        drop((place, holders));
                        return Err(RegistryError::AlreadyRegistered(holder));
                    }
                    // Its cleaning will find nothing of its own any more (REG-017).
                    replaced = place.insert(Entries::One(held)).into_all();
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
            }
            self.count.fetch_add(1, Ordering::Relaxed);
            let holder = holders.held.entry(process.identity());
            let holder =
                holder.or_insert_with(|| Holder { keys: Vec::new(), cleaning: None, tie: None });
            holder.keys.push(key);
            (part, holder.keys.len() == 1, replaced)
        };
        drop(replaced);
        if is_first {
            self.bind(process, &part);
        }
        Ok(())
    }

    /// The end of `process` removes its entries; the end of this part ends `process` as a link does.
    fn bind(self: &Arc<Self>, process: &ProcessRef, part: &ProcessRef) {
        let (table, identity) = (Arc::downgrade(self), process.identity());
        let cleaning = process.on_end(move |_| {
            if let Some(table) = table.upgrade() {
                table.clean(identity);
            }
        });
        let (tied, from) = (process.clone(), part.clone());
        let tie = part.on_end(move |reason| tied.sever(&from, reason));
        let mut holders = self.holders();
        if holders.process.as_ref() != Some(part) {
            drop(holders);
            // The entry went with this part meanwhile, whose end is announced after that.
            tie.into_iter().for_each(Watch::keep);
            return;
        }
        let unused = match holders.held.get_mut(&identity) {
            Some(holder) if holder.cleaning.is_none() => {
                (holder.cleaning, holder.tie) = (cleaning, tie);
                None
            }
            // It has unregistered, or has ended, meanwhile.
            Some(_) | None => Some((cleaning, tie)),
        };
        drop(holders);
        drop(unused);
    }

    /// Removes all that `pid` still holds.
    pub(super) fn clean(&self, identity: usize) {
        let mut holders = self.holders();
        let Some(holder) = holders.held.remove(&identity) else { return };
        let mut gone = Gone::default();
        for key in &holder.keys {
            self.take(key, &mut gone, |it| it.registered.process.identity() == identity);
        }
        drop(holders);
        drop((holder, gone));
    }

    /// Removes the entries of `process` at `key` whose values match; answers how many.
    pub(super) fn unregister<Q>(
        &self,
        process: &ProcessRef,
        key: &Q,
        values: &[Arc<V>],
    ) -> Result<usize, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut gone = Gone::default();
        let mut holders = self.holders();
        if holders.process.is_none() {
            return Err(RegistryError::NotRunning);
        }
        let identity = process.identity();
        let mut untied = None;
        if let Some(holder) = holders.held.get_mut(&identity) {
            self.take(key, &mut gone, |it| {
                let own = it.registered.process == *process;
                own && values.iter().any(|value| Arc::ptr_eq(value, &it.registered.value))
            });
            let mut over = gone.entries.len();
            gone.keys.extend(holder.keys.extract_if(.., |held| {
                let is_over = over > 0 && (*held).borrow() == key;
                over -= usize::from(is_over);
                is_over
            }));
            if holder.keys.is_empty() {
                untied = holders.held.remove(&identity);
            }
        }
        drop(holders);
        let removed = gone.entries.len();
        drop((untied, gone));
        Ok(removed)
    }

    /// Takes what matches out of the table; the key goes with its last entry.
    fn take<Q>(&self, key: &Q, gone: &mut Gone<K, V>, mut matches: impl FnMut(&Held<V>) -> bool)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let before = gone.entries.len();
        let is_empty = match self.table.get_mut(key) {
            Some(mut entries) => entries.take(&mut gone.entries, &mut matches),
            None => return,
        };
        let taken = u64::try_from(gone.entries.len() - before).unwrap_or(0);
        self.count.fetch_sub(taken, Ordering::Relaxed);
        if is_empty {
            // Nobody adds meanwhile: that is done under the lock of the holders.
            gone.keys.extend(self.table.remove(key).map(|(key, _)| key));
        }
    }

    /// Puts `new` in the place of `old`, if that is still what `process` has at `key`.
    pub(super) fn replace<Q>(
        &self,
        process: &ProcessRef,
        key: &Q,
        old: &Arc<V>,
        new: Arc<V>,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let holders = self.holders();
        let Some(mut entries) = self.table.get_mut(key) else { return false };
        let present = entries
            .all_mut()
            .iter_mut()
            .find(|it| it.registered.process == *process && Arc::ptr_eq(&it.registered.value, old));
        let replaced = present.map(|it| std::mem::replace(&mut it.registered.value, new));
        drop(entries);
        drop(holders);
        replaced.is_some()
    }

    /// What is registered at `key`, in the order of registration.
    pub(super) fn read<Q, R>(&self, key: &Q, read: impl FnOnce(&[Registered<V>]) -> R) -> R
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let copied: Vec<Registered<V>> = match self.table.get(key) {
            Some(entries) => entries.all().iter().map(|it| it.registered.clone()).collect(),
            None => Vec::new(),
        };
        read(&copied)
    }

    /// The one that holds `key`, alive, where keys are unique.
    pub(super) fn holder<Q>(&self, key: &Q) -> Option<Registered<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.table.get(key)?.all().first().map(|it| it.registered.clone())?;
        found.process.is_alive().then_some(found)
    }

    /// What answers at `key`, if it is an `H`.
    pub(super) fn handle<H: Any + Clone, Q>(&self, key: &Q) -> Option<H>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table.get(key)?.all().first()?.address.as_ref()?.get()
    }

    /// All entries, copied.
    pub(super) fn all(&self) -> Vec<(K, Registered<V>)> {
        let keys: Vec<K> = {
            let holders = self.holders();
            let mut keys: Vec<K> = Vec::with_capacity(holders.held.len());
            for holder in holders.held.values() {
                keys.extend(holder.keys.iter().cloned());
            }
            keys
        };
        let mut seen = std::collections::HashSet::with_capacity(keys.len());
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            if seen.insert(key.clone()) {
                self.read(&key, |found| {
                    entries.extend(found.iter().map(|it| (key.clone(), it.clone())));
                });
            }
        }
        entries
    }

    /// Keys of `process`, once for each entry.
    pub(super) fn keys(&self, process: &ProcessRef) -> Vec<K> {
        let holders = self.holders();
        holders.held.get(&process.identity()).map(|holder| holder.keys.clone()).unwrap_or_default()
    }

    fn holders(&self) -> MutexGuard<'_, Holders<K>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of `parts` is for `what`.
pub(super) fn place(hasher: &impl BuildHasher, what: &(impl Hash + ?Sized), parts: usize) -> usize {
    if parts == 1 {
        return 0;
    }
    let parts = u64::try_from(parts).unwrap_or(u64::MAX);
    usize::try_from(hasher.hash_one(what) % parts).unwrap_or(0)
}
