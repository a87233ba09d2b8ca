//! What a registry is made of.

use std::{fmt, marker::PhantomData};

use perennial_core::ChildId;

use super::{Duplicate, RegistryEvent, RegistryKey, Unique, listener::Listener, partition::Rule};
use crate::names::Name;

/// What a registry is made of: OTP's options, the mandatory ones as arguments (REG-002).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::{*, actor::ActorError};
/// use perennial_supervision::{Registry, RegistrySpec, Unique};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = RegistrySpec::unique("rooms").partitions(4).name("rooms of the house");
/// let (spec, _) = Registry::<String, u32, Unique>::child_spec(spec)?;
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// // Elsewhere, where nobody has handed it over.
/// let rooms: Registry<String, u32, Unique> = root.names().handle("rooms of the house").expect("it runs");
/// assert_eq!(rooms.partitions(), 4);
/// # root.shutdown().await; Ok(()) }
/// ```
pub struct RegistrySpec<K, V, M> {
    pub(super) id: ChildId,
    pub(super) name: Option<Name>,
    pub(super) rule: Rule,
    pub(super) by: By,
    pub(super) partitions: usize,
    pub(super) listeners: Vec<Listener<K, V>>,
    mode: PhantomData<fn() -> M>,
}

/// What tells in which part an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Key,
    Process,
}

/// Why a specification is refused; nothing was started.
///
/// ```
/// use perennial_supervision::{Registry, RegistrySpec, RegistrySpecError, Unique};
///
/// let spec = RegistrySpec::unique("rooms").partitions(0);
/// let refused = Registry::<String, u32, Unique>::child_spec(spec);
/// assert_eq!(refused.err(), Some(RegistrySpecError::NoPartitions));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrySpecError {
    /// A registry needs a part at least.
    #[error("a registry has at least one partition")]
    NoPartitions,
}

impl<K: RegistryKey, V: Send + Sync + 'static> RegistrySpec<K, V, Unique> {
    /// A registry whose keys have one holder at a time.
    ///
    /// ```
    /// use perennial_supervision::{Registry, RegistrySpec, Unique};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(RegistrySpec::unique("rooms"))?;
    /// assert_eq!((spec.id().as_str(), rooms.partitions()), ("rooms", 1));
    /// # Ok(()) }
    /// ```
    pub fn unique(id: impl Into<ChildId>) -> Self {
        Self::new(id.into(), Rule::Unique, By::Key)
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static> RegistrySpec<K, V, Duplicate> {
    /// A registry whose keys may have many holders. With several partitions, all keys of one process
    /// are in one of them: [`partitioned_by_key`](Self::partitioned_by_key) is better where a key has
    /// few holders and is looked up often.
    ///
    /// ```
    /// use perennial_supervision::{Duplicate, Registry, RegistrySpec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Who wants to hear of which topic.
    /// let spec = RegistrySpec::duplicate("topics");
    /// let (_, topics) = Registry::<String, (), Duplicate>::child_spec(spec)?;
    /// assert_eq!(topics.partitions(), 1);
    /// # Ok(()) }
    /// ```
    pub fn duplicate(id: impl Into<ChildId>) -> Self {
        Self::new(id.into(), Rule::Duplicate, By::Process)
    }

    /// Keeps all holders of a key in one partition.
    ///
    /// ```
    /// use perennial_supervision::{Duplicate, Registry, RegistrySpec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Many topics with few subscribers each: a look-up reads one part of the eight.
    /// let spec = RegistrySpec::duplicate("topics").partitions(8).partitioned_by_key();
    /// let (_, topics) = Registry::<String, (), Duplicate>::child_spec(spec)?;
    /// assert_eq!(topics.partitions(), 8);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn partitioned_by_key(mut self) -> Self {
        self.by = By::Key;
        self
    }
}

impl<K: RegistryKey, V: Send + Sync + 'static, M> RegistrySpec<K, V, M> {
    fn new(id: ChildId, rule: Rule, by: By) -> Self {
        let (name, listeners, mode) = (None, Vec::new(), PhantomData);
        Self { id, name, rule, by, partitions: 1, listeners, mode }
    }

    /// Sets in how many parts it is: that many processes can register at a time. One by default.
    ///
    /// ```
    /// use perennial_supervision::{Registry, RegistrySpec, Unique};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = RegistrySpec::unique("rooms").partitions(8);
    /// assert_eq!(Registry::<String, (), Unique>::child_spec(spec)?.1.partitions(), 8);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions;
        self
    }

    /// Claims a name in the tree, at which [`Names::handle`](crate::Names::handle) finds it.
    ///
    /// ```
    /// use perennial_supervision::{Registry, RegistrySpec, Unique};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = RegistrySpec::unique("rooms").name("rooms");
    /// let (spec, _) = Registry::<String, (), Unique>::child_spec(spec)?;
    /// assert_eq!(spec.get_name().map(|name| name.as_str()), Some("rooms"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tells `listener` of every `register` and `unregister` (REG-042), and not of ends of holders:
    /// whoever wants to know of those monitors them (REG-043). A cast: what the listener's mailbox has
    /// no room for is lost, and counted in the registry's line of the tree dump.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::{*, actor::ActorError};
    /// # struct Log(usize);
    /// # enum Message { Told(RegistryEvent<String, u32>), Count(Reply<usize>) }
    /// # impl GenServer for Log {
    /// #     type Arguments = ();
    /// #     type Message = Message;
    /// #     async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> { Ok(Init::new(Self(0))) }
    /// #     async fn handle(&mut self, message: Message, _: &mut ServerCx<Self>) -> Result<Next<Message>, ActorError> {
    /// #         match message {
    /// #             Message::Told(_) => self.0 += 1,
    /// #             Message::Count(reply) => reply.send(self.0),
    /// #         }
    /// #         Ok(Next::Continue)
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (log, address) = ChildSpec::server::<Log>("log", || ());
    /// let spec = RegistrySpec::unique("rooms").listener(address.clone(), Message::Told);
    /// let (spec, rooms) = Registry::<String, u32, Unique>::child_spec(spec)?;
    /// let (guest, _) = Agent::child_spec("guest", || 0);
    /// let guest = guest.via(&rooms, "lobby".to_owned(), 7); // registered at its start
    /// # let app = SupervisorSpec::new("app").child(log).child(spec).child(guest);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(address.ask(Message::Count).await?, 1);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn listener<L: Send + 'static>(
        mut self,
        listener: crate::Address<L>,
        message: impl Fn(RegistryEvent<K, V>) -> L + Send + Sync + 'static,
    ) -> Self {
        self.listeners.push(Listener::new(listener, message));
        self
    }
}

impl<K, V, M> fmt::Debug for RegistrySpec<K, V, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySpec")
            .field("id", &self.id)
            .field("keys", &self.rule)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
