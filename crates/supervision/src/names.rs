//! Names of incarnations: one holder at a time, free again at its real end.
//!
//! Scoped to one tree: two trees in one program may use the same names.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError},
};

use crate::{
    Address, ProcessRef,
    sync::{Mutex, MutexGuard},
};

/// A name that at most one living child of a tree has. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<&Self> for Name {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of one tree. Cheap to clone.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<Name, Holder>>>);

struct Holder {
    process: ProcessRef,
    /// The holder's address, of a type that the asker must know.
    address: Option<AnyAddress>,
}

/// An `Address<M>` or another handle, whatever its type.
pub(crate) type AnyAddress = Arc<dyn Any + Send + Sync>;

impl Names {
    /// The living holder of `name` (GS-063).
    pub fn whereis(&self, name: impl Into<Name>) -> Option<ProcessRef> {
        let found = self.holders().get(&name.into()).map(|holder| holder.process.clone());
        found.filter(ProcessRef::is_alive)
    }

    /// The address of the holder of `name`, when it takes messages of type `M`. It is the address of
    /// the child: it outlives the restarts of the holder.
    pub fn address<M: 'static>(&self, name: impl Into<Name>) -> Option<Address<M>>
    where
        Address<M>: Any + Send + Sync,
    {
        self.handle(name)
    }

    /// As [`address`](Self::address), for holders that are not reached by messages: a
    /// [`Supervisor`](crate::Supervisor), a [`DynamicSupervisor`](crate::DynamicSupervisor).
    pub fn handle<H: Any + Clone>(&self, name: impl Into<Name>) -> Option<H> {
        let handle = self.holders().get(&name.into())?.address.clone()?;
        handle.downcast_ref::<H>().cloned()
    }

    /// Claims `name` for `process`, which is about to be born. A holder that has ended holds
    /// nothing (trap 22).
    pub(crate) fn claim(
        &self,
        name: &Name,
        process: &ProcessRef,
        address: Option<AnyAddress>,
    ) -> Result<(), ProcessRef> {
        let mut holders = self.holders();
        if let Some(holder) = holders.get(name)
            && holder.process.is_alive()
        {
            return Err(holder.process.clone());
        }
        let before = holders.insert(name.clone(), Holder { process: process.clone(), address });
        drop(holders);
        drop(before);
        Ok(())
    }

    /// The real end of `process`: only what it still holds is freed.
    pub(crate) fn release(&self, name: &Name, process: &ProcessRef) {
        let mut holders = self.holders();
        let holds = holders.get(name).is_some_and(|holder| holder.process == *process);
        let freed = holds.then(|| holders.remove(name));
        drop(holders);
        drop(freed);
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<Name, Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.holders().len()).finish()
    }
}
