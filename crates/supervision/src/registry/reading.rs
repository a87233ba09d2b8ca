//! What reads: in the caller, on copies of the entries, which are small.

use std::{borrow::Borrow, hash::Hash, sync::Arc};

use super::{Registered, Registry, RegistryError, RegistryKey, Unique};
use crate::ProcessRef;

impl<K: RegistryKey, V: Send + Sync + 'static, M: 'static> Registry<K, V, M> {
    /// What is registered at `key`, in the order of registration within a partition.
    ///
    /// # Errors
    ///
    /// When the registry does not run; the same holds for all that read.
    pub fn lookup<Q>(&self, key: &Q) -> Result<Vec<Registered<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lookup_match(key, |_| true)
    }

    /// As [`lookup`](Self::lookup), only those whose values match (REG-035).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn lookup_match<Q>(
        &self,
        key: &Q,
        mut matches: impl FnMut(&V) -> bool,
    ) -> Result<Vec<Registered<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.running()?;
        let mut found = Vec::new();
        for part in self.parts_for(key) {
            found.extend(part.read(key, |entries| {
                let living = entries.iter().filter(|it| it.process.is_alive());
                living.cloned().collect::<Vec<_>>()
            }));
        }
        found.retain(|it| matches(&it.value));
        Ok(found)
    }

    /// How many [`lookup_match`](Self::lookup_match) finds (REG-036).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn count_match<Q>(
        &self,
        key: &Q,
        matches: impl FnMut(&V) -> bool,
    ) -> Result<usize, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.lookup_match(key, matches)?.len())
    }

    /// The keys of `process`, each once for each of its entries; none of a stranger, and none of one
    /// that has ended (REG-009).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn keys(&self, process: &ProcessRef) -> Result<Vec<K>, RegistryError> {
        self.running()?;
        Ok(self.inner.partitions.iter().flat_map(|part| part.keys(process)).collect())
    }

    /// The values of `process` at `key` (REG-010).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn values<Q>(&self, key: &Q, process: &ProcessRef) -> Result<Vec<Arc<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.lookup(key)?.into_iter();
        Ok(found.filter(|it| it.process == *process).map(|it| it.value).collect())
    }

    /// How many entries there are (REG-011).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn count(&self) -> Result<u64, RegistryError> {
        self.running()?;
        Ok(self.inner.partitions.iter().map(|part| part.count()).sum())
    }

    /// What `pick` makes of all entries, those left out for which it makes nothing (REG-039). In no
    /// particular order.
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn select<T>(
        &self,
        mut pick: impl FnMut(&K, &Registered<V>) -> Option<T>,
    ) -> Result<Vec<T>, RegistryError> {
        self.running()?;
        let all = self.inner.partitions.iter().flat_map(|part| part.all());
        Ok(all.filter_map(|(key, entry)| pick(&key, &entry)).collect())
    }

    /// How many entries match (REG-040).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn count_select(
        &self,
        mut matches: impl FnMut(&K, &Registered<V>) -> bool,
    ) -> Result<usize, RegistryError> {
        Ok(self.select(|key, entry| matches(key, entry).then_some(()))?.len())
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> Registry<K, V, Unique> {
    /// Who has `key`, and with what; nobody who has ended (REG-023).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<Registered<V>>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let part = &self.parts_for(key)[0];
        match part.holder(key) {
            Some(found) => Ok(Some(found)),
            None => self.running().map(|()| None),
        }
    }

    /// Who has `key`.
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn whereis<Q>(&self, key: &Q) -> Result<Option<ProcessRef>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.get(key)?.map(|it| it.process))
    }
}
