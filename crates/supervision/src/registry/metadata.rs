//! What is said about a registry as a whole.

use std::{any::Any, sync::Arc};

use super::{Registry, RegistryError, RegistryKey};

impl<K: RegistryKey, V: Send + Sync + 'static, M: 'static> Registry<K, V, M> {
    /// Keeps `value` beside the entries, under a name of its own, until it is deleted or the registry
    /// ends (REG-044).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.put_meta("opened by", "ada".to_owned())?;
    /// assert_eq!(rooms.meta::<String>("opened by")?.as_deref(), Some(&"ada".to_owned()));
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
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
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.put_meta("limit", 10_u32)?;
    /// assert_eq!(rooms.meta::<u32>("limit")?.as_deref(), Some(&10));
    /// assert_eq!(rooms.meta::<String>("limit")?, None); // it is no text
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
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
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    /// # let app = SupervisorSpec::new("app").child(spec).child(tasks_spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// # let own = rooms.clone();
    /// # let mut holder = tasks.async_nolink("holder", async move {
    /// # let rooms = own;
    /// // In the code of a process:
    /// rooms.put_meta("limit", 10_u32)?;
    /// rooms.delete_meta("limit")?;
    /// assert_eq!(rooms.meta::<u32>("limit")?, None);
    /// # Ok::<(), RegistryError>(())
    /// # }).await?;
    /// # holder.value().await??;
    /// # root.shutdown().await; Ok(()) }
    /// ```
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
