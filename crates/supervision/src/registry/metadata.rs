//! What is said about a registry as a whole.

use std::{any::Any, sync::Arc};

use super::{Registry, RegistryError, RegistryKey};

impl<K: RegistryKey, V: Send + Sync + 'static, M: 'static> Registry<K, V, M> {
    /// Keeps `value` beside the entries, under a name of its own, until it is deleted or the registry
    /// ends (REG-044).
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn put_meta(
        &self,
        name: impl Into<String>,
        value: impl Any + Send + Sync,
    ) -> Result<(), RegistryError> {
        self.running()?;
        let before = self.inner.metadata().insert(name.into(), Arc::new(value));
        drop(before);
        Ok(())
    }

    /// What is kept under this name, if it is a `T`.
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn meta<T: Any + Send + Sync>(&self, name: &str) -> Result<Option<Arc<T>>, RegistryError> {
        self.running()?;
        let found = self.inner.metadata().get(name).cloned();
        Ok(found.and_then(|it| it.downcast().ok()))
    }

    /// Keeps it no longer.
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn delete_meta(&self, name: &str) -> Result<(), RegistryError> {
        self.running()?;
        let before = self.inner.metadata().remove(name);
        drop(before);
        Ok(())
    }
}
