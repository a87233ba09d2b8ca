//! Keys of a registry as names of children (REG-020–027).

use std::{
    any::Any, borrow::Borrow, fmt, hash::Hash, marker::PhantomData, sync::Arc, time::Duration,
};

use perennial_core::ExitReason;

use super::{Registry, RegistryError, RegistryEvent, RegistryKey, Unique};
use crate::{
    Address, CallError, CastError, ChildSpec, Monitor, PendingRequest, ProcessRef, ReplyPort,
    SendError, StopError, names::AnyAddress,
};

/// A key that incarnations of a child claim before their inits run.
pub(crate) trait ViaKey: Send + Sync {
    /// Claims it for `process`, which is about to be born.
    fn claim(&self, process: &ProcessRef, address: Option<AnyAddress>)
    -> Result<(), RegistryError>;

    /// Frees all that `process` has where it had the key.
    fn release(&self, process: &ProcessRef);
}

struct Claim<K, V> {
    registry: Registry<K, V, Unique>,
    key: K,
    value: Arc<V>,
}

impl<K: RegistryKey, V: Send + Sync + 'static> ViaKey for Claim<K, V> {
    fn claim(
        &self,
        process: &ProcessRef,
        address: Option<AnyAddress>,
    ) -> Result<(), RegistryError> {
        let (registry, key, value) = (&self.registry, self.key.clone(), self.value.clone());
        registry.part_of(&key, process).register(process, key.clone(), value.clone(), address)?;
        for listener in &registry.inner.listeners {
            let (key, value) = (key.clone(), value.clone());
            let (registry, process) = (registry.inner.id.clone(), process.clone());
            listener.tell(RegistryEvent::Registered { registry, key, process, value });
        }
        Ok(())
    }

    fn release(&self, process: &ProcessRef) {
        self.registry.part_of(&self.key, process).clean(process.identity());
    }
}

impl ChildSpec {
    /// Gives each incarnation `key` of `registry`, claimed before its init runs and free again at its
    /// end. A start fails while somebody else has it (REG-020, 021). A child has one such key: that of
    /// the last call. Where it is reached by it: [`Registry::via`].
    ///
    /// ```
    /// use perennial_supervision::{Agent, Registry, RegistrySpec, Unique};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (rooms_spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// let (agent, _address) = Agent::child_spec("lobby", || 0_u32);
    /// let agent = agent.via(&rooms, "lobby".to_owned(), ());
    /// # drop((rooms_spec, agent));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn via<K, V>(self, registry: &Registry<K, V, Unique>, key: K, value: V) -> Self
    where
        K: Eq + Hash + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let registry = registry.clone();
        self.with_key(Arc::new(Claim { registry, key, value: Arc::new(value) }))
    }
}

/// Whoever has a key of a registry, as a destination of messages of type `M`: looked up anew for each
/// of them. Cheap to clone.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// use perennial_supervision::Via;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
/// let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
/// let counter = counter.via(&rooms, "lobby".to_owned(), ());
/// # let app = SupervisorSpec::new("app").child(spec).child(counter);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let lobby: Via<String, (), Ask> = rooms.via("lobby");
/// lobby.cast(Ask::Add(2))?;
/// assert_eq!(lobby.call(Ask::Sum, Duration::from_secs(1)).await?, 2);
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct Via<K, V, M> {
    registry: Registry<K, V, Unique>,
    key: K,
    message: PhantomData<fn(M)>,
}

impl<K: RegistryKey, V: Send + Sync + 'static> Registry<K, V, Unique> {
    /// Whoever has `key`, as a destination.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let lobby = rooms.via::<Ask>("lobby"); // looked up anew for each message
    /// assert_eq!(lobby.whereis().expect("it runs").path(), "/app/counter");
    /// assert_eq!(rooms.via::<Ask>("attic").cast(Ask::Add(1)), Err(CastError::NoProc));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn via<M: Send + 'static>(&self, key: impl Into<K>) -> Via<K, V, M> {
        Via { registry: self.clone(), key: key.into(), message: PhantomData }
    }

    /// The handle of whoever has `key`, if it is a child that claimed it as its name and has an `H`:
    /// an `Address<M>`, a [`Supervisor`](crate::Supervisor), a
    /// [`DynamicSupervisor`](crate::DynamicSupervisor).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let counter: Address<Ask> = rooms.handle("lobby")?.expect("it runs");
    /// assert_eq!(counter.ask(Ask::Sum).await?, 0);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the registry does not run.
    pub fn handle<H: Any + Clone, Q>(&self, key: &Q) -> Result<Option<H>, RegistryError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.running()?;
        Ok(self.parts_for(key)[0].handle(key))
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static, M: Send + 'static> Via<K, V, M> {
    /// Its address now: that of the child, which outlives the restarts of the holder.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let counter = rooms.via::<Ask>("lobby").address().expect("it runs");
    /// assert_eq!(counter.ask(Ask::Sum).await?, 0);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn address(&self) -> Option<Address<M>> {
        self.registry.handle(&self.key).ok().flatten()
    }

    /// As [`Address::call`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let within = Duration::from_secs(1);
    /// assert_eq!(rooms.via("lobby").call(Ask::Sum, within).await, Ok(0));
    /// assert_eq!(rooms.via("attic").call(Ask::Sum, within).await, Err(CallError::NoProc));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::NoProc`] when nobody has the key; see [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::call`].
    pub async fn call<P: ReplyPort>(
        &self,
        request: impl FnOnce(P) -> M,
        within: Duration,
    ) -> Result<P::Reply, CallError> {
        self.address().ok_or(CallError::NoProc)?.call(request, within).await
    }

    /// As [`Address::send_request`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let sum = rooms.via("lobby").send_request(Ask::Sum);
    /// assert_eq!(sum.wait(Duration::from_secs(1)).await, Ok(0));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn send_request<P: ReplyPort>(
        &self,
        request: impl FnOnce(P) -> M,
    ) -> PendingRequest<P::Reply> {
        match self.address() {
            Some(address) => address.send_request(request),
            None => PendingRequest::new(Err(CallError::NoProc)),
        }
    }

    /// As [`Address::cast`]; it is safe to ignore that nobody has the key (REG-025).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let lobby = rooms.via("lobby");
    /// lobby.cast(Ask::Add(2))?;
    /// assert_eq!(lobby.call(Ask::Sum, Duration::from_secs(1)).await, Ok(2));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`CastError`].
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        self.address().ok_or(CastError::NoProc)?.cast(message)
    }

    /// As [`Address::send`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let (lobby, within) = (rooms.via("lobby"), Duration::from_secs(1));
    /// lobby.send(Ask::Add(2), within).await?;
    /// assert_eq!(lobby.call(Ask::Sum, within).await, Ok(2));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::NoProc`] when nobody has the key; see [`SendError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::send`].
    pub async fn send(&self, message: M, within: Duration) -> Result<(), SendError> {
        self.address().ok_or(SendError::NoProc)?.send(message, within).await
    }

    /// Stops whoever has the key, as [`Address::stop`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let lobby = rooms.via::<Ask>("lobby");
    /// let first = lobby.whereis();
    /// let mut monitor = lobby.monitor();
    /// lobby.stop(ExitReason::Normal, Duration::from_secs(1)).await?;
    /// assert_eq!(monitor.down().await, ExitReason::Normal);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`StopError`].
    pub async fn stop(&self, reason: ExitReason, within: Duration) -> Result<(), StopError> {
        self.address().ok_or(StopError::NoProc)?.stop(reason, within).await
    }

    /// Who has the key.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(rooms.via::<Ask>("lobby").whereis().expect("it runs").path(), "/app/counter");
    /// assert_eq!(rooms.via::<Ask>("attic").whereis(), None);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn whereis(&self) -> Option<ProcessRef> {
        self.registry.whereis(&self.key).ok().flatten()
    }

    /// Watches the end of whoever has the key; at once when nobody has it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, rooms) = Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// # let (counter, _) = ChildSpec::server::<Counter>("counter", || ());
    /// # let counter = counter.via(&rooms, "lobby".to_owned(), ());
    /// # let app = SupervisorSpec::new("app").child(spec).child(counter);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let mut monitor = rooms.via::<Ask>("lobby").monitor();
    /// root.shutdown().await;
    /// assert!(!monitor.down().await.is_abnormal());
    /// assert_eq!(rooms.via::<Ask>("attic").monitor().down().await, ExitReason::NoProc);
    /// # Ok(()) }
    /// ```
    pub fn monitor(&self) -> Monitor {
        self.whereis().map_or_else(Monitor::no_proc, |process| process.monitor())
    }
}

impl<K: Clone, V, M> Clone for Via<K, V, M> {
    fn clone(&self) -> Self {
        Self { registry: self.registry.clone(), key: self.key.clone(), message: PhantomData }
    }
}

impl<K: fmt::Debug, V, M> fmt::Debug for Via<K, V, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Via").field("key", &self.key).finish_non_exhaustive()
    }
}
