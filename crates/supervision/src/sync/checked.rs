//! What the checker of schedules has in the place of the real primitives.

use std::{
    borrow::Borrow,
    cell::RefCell,
    collections::HashMap,
    hash::Hash,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll},
};

pub(crate) use shuttle::{
    future::spawn,
    sync::{Condvar, Mutex, MutexGuard, atomic},
};

/// There is one only.
#[derive(Debug)]
pub(crate) struct Executor;

impl Executor {
    pub(crate) fn current() -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "there is one only")]
    pub(crate) fn is_here(&self) -> bool {
        true
    }

    #[expect(clippy::unused_self, reason = "there is one only")]
    pub(crate) fn spawn(&self, driver: impl Future<Output = ()> + Send + 'static) {
        drop(spawn(driver));
    }
}

/// Somebody else may go on here.
fn anybody() {
    atomic::AtomicBool::new(false).load(atomic::Ordering::SeqCst);
}

/// tokio's, which needs no executor; others may go on before and after each of its operations.
#[derive(Debug, Default)]
pub(crate) struct Notify(tokio::sync::Notify);

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        anybody();
        let notified = self.0.notified();
        anybody();
        notified
    }

    pub(crate) fn notify_one(&self) {
        anybody();
        self.0.notify_one();
        anybody();
    }

    pub(crate) fn notify_waiters(&self) {
        anybody();
        self.0.notify_waiters();
        anybody();
    }
}

/// A table behind one lock. That of dashmap would block the only thread there is, where a holder of it lets
/// others go on.
#[derive(Debug)]
pub(crate) struct DashMap<K, V>(Mutex<HashMap<K, V>>);

/// An entry of a [`DashMap`], locked.
pub(crate) struct Found<'a, K, V> {
    table: MutexGuard<'a, HashMap<K, V>>,
    key: K,
}

/// A place of a [`DashMap`], locked.
pub(crate) enum Entry<'a, K, V> {
    Occupied(Occupied<'a, K, V>),
    Vacant(Vacant<'a, K, V>),
}

/// A value of a table that is walked.
pub(crate) struct Copied<V>(V);

impl<V> Copied<V> {
    pub(crate) fn value(&self) -> &V {
        &self.0
    }
}

pub(crate) struct Occupied<'a, K, V>(Found<'a, K, V>);
pub(crate) struct Vacant<'a, K, V>(Found<'a, K, V>);

impl<K: Eq + Hash + Clone, V> DashMap<K, V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn table(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<Found<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let table = self.table();
        let key = table.get_key_value(key)?.0.clone();
        Some(Found { table, key })
    }

    pub(crate) fn get_mut<Q>(&self, key: &Q) -> Option<Found<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get(key)
    }

    pub(crate) fn remove<Q>(&self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table().remove_entry(key)
    }

    pub(crate) fn remove_if<Q>(&self, key: &Q, goes: impl FnOnce(&K, &V) -> bool) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut table = self.table();
        let (found, value) = table.get_key_value(key)?;
        if goes(found, value) { table.remove_entry(key) } else { None }
    }

    /// A copy: no lock is held while it is walked.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Copied<V>> + use<K, V>
    where
        V: Clone,
    {
        let all: Vec<_> = self.table().values().cloned().map(Copied).collect();
        all.into_iter()
    }

    pub(crate) fn entry(&self, key: K) -> Entry<'_, K, V> {
        let table = self.table();
        let is_there = table.contains_key(&key);
        let place = Found { table, key };
        if is_there { Entry::Occupied(Occupied(place)) } else { Entry::Vacant(Vacant(place)) }
    }
}

impl<K: Eq + Hash, V> Deref for Found<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.table[&self.key]
    }
}

impl<K: Eq + Hash, V> DerefMut for Found<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.table.get_mut(&self.key).expect("it is locked")
    }
}

impl<K: Eq + Hash, V> Occupied<'_, K, V> {
    pub(crate) fn get(&self) -> &V {
        &self.0
    }

    pub(crate) fn get_mut(&mut self) -> &mut V {
        &mut self.0
    }

    pub(crate) fn insert(&mut self, value: V) -> V {
        std::mem::replace(&mut self.0, value)
    }
}

impl<K: Eq + Hash + Clone, V> Vacant<'_, K, V> {
    pub(crate) fn insert(mut self, value: V) {
        let key = self.0.key.clone();
        self.0.table.insert(key, value);
    }
}

/// A value that a task has while one of its futures is polled. tokio keeps it with the thread, of which there
/// is one here for all tasks, and tasks are left in the middle of a poll.
pub(crate) struct LocalKey<T: 'static>(pub(crate) &'static shuttle::thread::LocalKey<Slot<T>>);

pub(crate) type Slot<T> = RefCell<Option<T>>;

/// There is no value here.
#[derive(Debug)]
pub(crate) struct Absent;

macro_rules! task_local {
    ($($(#[$meta:meta])* $vis:vis static $name:ident: $type:ty;)+) => {$(
        $(#[$meta])*
        $vis static $name: $crate::sync::checked::LocalKey<$type> = {
            ::shuttle::thread_local! {
                static SLOT: $crate::sync::checked::Slot<$type> = ::std::cell::RefCell::new(None);
            }
            $crate::sync::checked::LocalKey(&SLOT)
        };
    )+};
}
pub(crate) use task_local;

impl<T: 'static> LocalKey<T> {
    fn swap(&'static self, value: &mut Option<T>) {
        self.0.with(|slot| std::mem::swap(&mut *slot.borrow_mut(), value));
    }

    pub(crate) fn scope<F: Future>(&'static self, value: T, work: F) -> Scope<T, F> {
        Scope { key: self, value: Some(value), work: Some(Box::pin(work)) }
    }

    pub(crate) fn sync_scope<R>(&'static self, value: T, work: impl FnOnce() -> R) -> R {
        let mut value = Some(value);
        let _inside = Inside::enter(self, &mut value);
        work()
    }

    pub(crate) fn try_with<R>(&'static self, look: impl FnOnce(&T) -> R) -> Result<R, Absent> {
        self.0.with(|slot| slot.borrow().as_ref().map(look)).ok_or(Absent)
    }
}

/// While the value is where [`LocalKey::try_with`] finds it.
struct Inside<'a, T: 'static> {
    key: &'static LocalKey<T>,
    value: &'a mut Option<T>,
}

impl<'a, T> Inside<'a, T> {
    fn enter(key: &'static LocalKey<T>, value: &'a mut Option<T>) -> Self {
        key.swap(value);
        Self { key, value }
    }
}

impl<T: 'static> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        self.key.swap(self.value);
    }
}

pub(crate) struct Scope<T: 'static, F> {
    key: &'static LocalKey<T>,
    value: Option<T>,
    work: Option<Pin<Box<F>>>,
}

// The value is never pinned.
impl<T, F> Unpin for Scope<T, F> {}

impl<T, F: Future> Future for Scope<T, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { key, value, work } = &mut *self;
        let _inside = Inside::enter(key, value);
        match work.as_mut().map(|it| it.as_mut().poll(cx)) {
            Some(Poll::Ready(output)) => {
                *work = None;
                Poll::Ready(output)
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }
}

impl<T, F> Drop for Scope<T, F> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let _inside = Inside::enter(self.key, &mut self.value);
            drop(work);
        }
    }
}
