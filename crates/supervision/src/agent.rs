//! A state in a process of its own, for those who need no server around it.

use std::{fmt, sync::Arc, time::Duration};

use perennial_core::ChildId;

use crate::{
    Address, CallError, CastError, ChildSpec, GenServer, Init, Next, Reply, ServerCx,
    actor::ActorError,
};

/// A value that lives in a supervised process and is used by functions that run there, one after
/// the other (GS-064). Cheap to clone.
///
/// A function that panics ends the agent, and its caller is told the reason (GS-066); the agent is
/// restarted with a new value.
///
/// ```
/// use std::collections::BTreeMap;
/// use perennial_supervision::Agent;
///
/// let (spec, prices) = Agent::child_spec("prices", BTreeMap::<String, u32>::new);
/// # drop((spec, prices));
/// ```
pub struct Agent<T> {
    address: Address<Work<T>>,
}

/// What an agent is sent: a function.
pub(crate) struct Work<T>(Box<dyn FnOnce(&mut T) + Send>);

/// The process around the value.
struct Holder<T>(T);

type Make<T> = Arc<dyn Fn() -> T + Send + Sync>;

impl<T: Send + 'static> GenServer for Holder<T> {
    type Arguments = Make<T>;
    type Message = Work<T>;

    async fn init(make: Make<T>, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self(make())))
    }

    async fn handle(
        &mut self,
        work: Work<T>,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Work<T>>, ActorError> {
        (work.0)(&mut self.0);
        Ok(Next::Continue)
    }
}

impl<T: Send + 'static> Agent<T> {
    /// A permanent child that holds what `make` returns, anew for every incarnation, and the handle
    /// that outlives its restarts (GS-065).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// use perennial_supervision::Agent;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (spec, words) = Agent::child_spec("words", Vec::<String>::new);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// words.cast(|words| words.push("hello".to_owned()))?;
    /// assert_eq!(words.get(Vec::len, Duration::from_secs(5)).await, Ok(1));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn child_spec(
        id: impl Into<ChildId>,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> (ChildSpec, Self) {
        let make: Make<T> = Arc::new(make);
        let (mut spec, address) = ChildSpec::server::<Holder<T>>(id, move || make.clone());
        spec.type_name = Some(std::any::type_name::<Self>());
        (spec, Self { address })
    }

    /// What `read` sees in the value.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # const WITHIN: Duration = Duration::from_secs(5);
    /// # let (spec, count) = Agent::child_spec("count", || 1_u32);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// assert_eq!(count.get(|count| *count + 1, WITHIN).await, Ok(2));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`CallError::Exited`] with the panic when `read` panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the function; the same holds for all of these.
    pub async fn get<R: Send + 'static>(
        &self,
        read: impl FnOnce(&T) -> R + Send + 'static,
        within: Duration,
    ) -> Result<R, CallError> {
        self.get_and_update(|value| read(value), within).await
    }

    /// Changes the value, and returns once that is done.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # const WITHIN: Duration = Duration::from_secs(5);
    /// # let (spec, count) = Agent::child_spec("count", || 1_u32);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// count.update(|count| *count = 7, WITHIN).await?;
    /// assert_eq!(count.get(|count| *count, WITHIN).await, Ok(7));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn update(
        &self,
        change: impl FnOnce(&mut T) + Send + 'static,
        within: Duration,
    ) -> Result<(), CallError> {
        self.get_and_update(change, within).await
    }

    /// Changes the value and returns what `change` returned.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # const WITHIN: Duration = Duration::from_secs(5);
    /// # let (spec, count) = Agent::child_spec("count", || 1_u32);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// let before = count.get_and_update(|count| std::mem::replace(count, 7), WITHIN).await;
    /// assert_eq!(before, Ok(1));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_and_update<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut T) -> R + Send + 'static,
        within: Duration,
    ) -> Result<R, CallError> {
        let request = |reply: Reply<R>| Work(Box::new(move |value| reply.send(change(value))));
        self.address.call(request, within).await
    }

    /// Changes the value some time later; nothing waits.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # const WITHIN: Duration = Duration::from_secs(5);
    /// # let (spec, count) = Agent::child_spec("count", || 1_u32);
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// count.cast(|count| *count += 1)?; // nothing waits
    /// assert_eq!(count.get(|count| *count, WITHIN).await, Ok(2));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Address::cast`].
    pub fn cast(&self, change: impl FnOnce(&mut T) + Send + 'static) -> Result<(), CastError> {
        self.address.cast(Work(Box::new(change)))
    }
}

impl<T> Clone for Agent<T> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone() }
    }
}

impl<T> fmt::Debug for Agent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}
