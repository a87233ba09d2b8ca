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
///
/// ```
/// use perennial_supervision::Name;
///
/// assert_eq!(Name::from("clock").as_str(), "clock");
/// assert_eq!(Name::from("clock").to_string(), "clock");
/// ```
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
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (spec, _) = ChildSpec::server::<Counter>("counter", || ());
/// let spec = spec.name("clicks");
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// // Elsewhere, where nobody has handed the address over.
/// let clicks = root.names().address::<Ask>("clicks").expect("it runs");
/// clicks.cast(Ask::Add(1))?;
/// assert_eq!(clicks.ask(Ask::Sum).await?, 1);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<Name, Holder>>>);

struct Holder {
    process: ProcessRef,
    /// The holder's address, of a type that the asker must know.
    address: Option<AnyAddress>,
}

/// An `Address<M>` or another handle, whatever its type.
#[derive(Clone)]
pub(crate) struct AnyAddress(Arc<dyn Answers>);

/// What an address points to, or a handle with a count of its own.
pub(crate) trait Answers: Send + Sync {
    /// Puts itself, as whoever asks knows it, into `place`: an `Option` of that, or else nothing is done.
    fn answer(self: Arc<Self>, place: &mut dyn Any);
}

/// A handle that is no address.
struct Handle<H>(H);

impl<H: Any + Clone + Send + Sync> Answers for Handle<H> {
    fn answer(self: Arc<Self>, place: &mut dyn Any) {
        put(self.0.clone(), place);
    }
}

/// Puts `handle` into `place` if that is for one.
pub(crate) fn put<H: Any>(handle: H, place: &mut dyn Any) {
    if let Some(place) = place.downcast_mut::<Option<H>>() {
        *place = Some(handle);
    }
}

impl AnyAddress {
    pub(crate) fn new(shared: Arc<dyn Answers>) -> Self {
        Self(shared)
    }

    pub(crate) fn of(handle: impl Any + Clone + Send + Sync) -> Self {
        Self(Arc::new(Handle(handle)))
    }

    /// It, if it is an `H`.
    pub(crate) fn get<H: Any>(&self) -> Option<H> {
        // Most of a lookup among many is the wait for lines of memory. Asked for here, the count comes while
        // the key is still being compared; the change of it lets nothing go ahead of what is before it.
        std::hint::black_box(Arc::strong_count(&self.0));
        let mut place = None::<H>;
        self.0.clone().answer(&mut place);
        place
    }
}

impl Names {
    /// The living holder of `name` (GS-063).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (table, _) = Agent::child_spec("table", || 0_u32);
    /// let table = table.name("main");
    /// # let app = SupervisorSpec::new("app").child(table);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(root.names().whereis("main").expect("it runs").path(), "/app/table");
    /// assert_eq!(root.names().whereis("other"), None);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn whereis(&self, name: impl Into<Name>) -> Option<ProcessRef> {
        let found = self.holders().get(&name.into()).map(|holder| holder.process.clone());
        found.filter(ProcessRef::is_alive)
    }

    /// The address of the holder of `name`, when it takes messages of type `M`. It is the address of
    /// the child: it outlives the restarts of the holder.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/counter.rs"));
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, _) = ChildSpec::server::<Counter>("counter", || ());
    /// let spec = spec.name("clicks");
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert!(root.names().address::<Ask>("clicks").is_some());
    /// assert!(root.names().address::<String>("clicks").is_none()); // it takes other messages
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn address<M: 'static>(&self, name: impl Into<Name>) -> Option<Address<M>>
    where
        Address<M>: Any + Send + Sync,
    {
        self.handle(name)
    }

    /// As [`address`](Self::address), for holders that are not reached by messages: a
    /// [`Supervisor`](crate::Supervisor), a [`DynamicSupervisor`](crate::DynamicSupervisor).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// use perennial_supervision::{DynamicSupervisor, DynamicSupervisorSpec};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (pool, _) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::named("pool"));
    /// # let app = SupervisorSpec::new("app").child(pool);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let pool: DynamicSupervisor = root.names().handle("pool").expect("it runs");
    /// assert_eq!(pool.count_children()?.active, 0);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn handle<H: Any + Clone>(&self, name: impl Into<Name>) -> Option<H> {
        let handle = self.holders().get(&name.into())?.address.clone()?;
        handle.get()
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

#[cfg(test)]
mod tests {
    use perennial_core::ExitReason;

    use super::*;
    use crate::life::Pid;

    fn process(pid: u64) -> ProcessRef {
        ProcessRef::new("/app/it".into(), Pid(pid))
    }

    #[test]
    fn a_name_has_one_holder_until_that_has_ended() {
        let (names, name) = (Names::default(), Name::from("it"));
        let (first, second) = (process(1), process(2));
        names.claim(&name, &first, None).unwrap();
        assert_eq!(names.claim(&name, &second, None), Err(first.clone()));
        assert_eq!(names.whereis("it"), Some(first.clone()));
        // Its end comes before the release.
        first.ended().announce(&ExitReason::Normal);
        assert_eq!(names.whereis("it"), None);
        names.claim(&name, &second, None).unwrap();
        // Which then releases nothing of the next one's.
        names.release(&name, &first);
        assert_eq!(names.whereis("it"), Some(second.clone()));
        names.release(&name, &second);
        assert_eq!(names.whereis("it"), None);
    }

    #[test]
    fn a_handle_is_found_as_what_it_is_and_only_so() {
        let (names, name) = (Names::default(), Name::from("it"));
        names.claim(&name, &process(1), Some(AnyAddress::of(7_u32))).unwrap();
        assert_eq!((names.handle::<u32>("it"), names.handle::<u64>("it")), (Some(7), None));
        assert_eq!(names.handle::<u32>("other"), None);
    }
}
