//! Who is told of registrations.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use perennial_core::ChildId;

use crate::{Address, ProcessRef};

/// What a listener is told (REG-042).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::RegistryEvent;
///
/// struct Log;
/// impl GenServer for Log {
///     type Arguments = ();
///     type Message = RegistryEvent<String, u32>;
///
///     async fn handle(&mut self, event: Self::Message, _: &mut ServerCx<Self>) -> Result<Next<Self::Message>, ActorError> {
///         Ok(match event {
///             RegistryEvent::Registered { .. } => Next::Continue,
///             RegistryEvent::Unregistered { key, .. } => Next::Stop(ExitReason::ShutdownWith(key.into())),
///         })
///     }
/// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self)) }
/// }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (log, address) = ChildSpec::server::<Log>("log", || ());
/// let spec = RegistrySpec::unique("rooms").listener(address.clone(), |event| event);
/// let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(spec)?;
/// # let (tasks_spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
/// let log = log.restart(Restart::Transient);
/// # let app = SupervisorSpec::new("app").child(log).child(spec).child(tasks_spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// let mut monitor = address.monitor();
/// tasks.start_child("holder", async move {
///     // It would be told as a crash; nobody listens for that here.
///     rooms.register("lobby".to_owned(), 7).expect("the registry runs");
///     rooms.unregister("lobby").expect("the registry runs");
/// }).await?;
/// assert_eq!(monitor.down().await, ExitReason::ShutdownWith("lobby".into()));
/// # root.shutdown().await; Ok(()) }
/// ```
pub enum RegistryEvent<K, V> {
    /// A process has a key from now on.
    Registered {
        /// Where.
        registry: ChildId,
        /// Which.
        key: K,
        /// Who.
        process: ProcessRef,
        /// With what.
        value: Arc<V>,
    },
    /// A process has given a key back, with all its entries there that were meant. Ends of holders are
    /// not told (REG-043).
    Unregistered {
        /// Where.
        registry: ChildId,
        /// Which.
        key: K,
        /// Who.
        process: ProcessRef,
    },
}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for RegistryEvent<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registered { registry, key, process, value } => f
                .debug_struct("Registered")
                .field("registry", registry)
                .field("key", key)
                .field("process", process)
                .field("value", value)
                .finish(),
            Self::Unregistered { registry, key, process } => f
                .debug_struct("Unregistered")
                .field("registry", registry)
                .field("key", key)
                .field("process", process)
                .finish(),
        }
    }
}

/// Answers whether it was sent.
type Tell<K, V> = Box<dyn Fn(RegistryEvent<K, V>) -> bool + Send + Sync>;

pub(super) struct Listener<K, V> {
    tell: Tell<K, V>,
    missed: AtomicU64,
}

impl<K: 'static, V: 'static> Listener<K, V> {
    pub(super) fn new<L: Send + 'static>(
        listener: Address<L>,
        message: impl Fn(RegistryEvent<K, V>) -> L + Send + Sync + 'static,
    ) -> Self {
        let tell = Box::new(move |event| listener.cast(message(event)).is_ok());
        Self { tell, missed: AtomicU64::new(0) }
    }

    pub(super) fn tell(&self, event: RegistryEvent<K, V>) {
        if !(self.tell)(event) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that it could not be told.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}
