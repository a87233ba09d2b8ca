//! How a stream runs, and how it fails.

use std::{sync::Arc, time::Duration};

use perennial_core::{ChildId, ExitReason, Shutdown};

use crate::{CALL_WITHIN, RequestError};

/// How a stream of tasks runs.
///
/// | option | default |
/// |---|---|
/// | [`max_concurrency`](Self::max_concurrency) | as many as the executor has workers |
/// | [`ordered`](Self::ordered) | yes |
/// | [`timeout`](Self::timeout) | 5 s per element |
/// | [`on_timeout`](Self::on_timeout) | the stream fails |
/// | [`shutdown`](Self::shutdown) | 5 s |
/// | [`pooled`](Self::pooled) | no |
///
/// An unknown value cannot be written; the one that can is refused when the stream is made (STR-019).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use futures_util::StreamExt;
/// use perennial_supervision::{OnItemTimeout, StreamOptions};
///
/// let options = StreamOptions::new()
///     .id("lengths")
///     .max_concurrency(2)
///     .timeout(Duration::from_secs(1))
///     .on_timeout(OnItemTimeout::KillTask)
///     .ordered(true)
///     .pooled();
/// let lengths = tasks.async_stream(["a", "bc"], |word| async move { word.len() }, options)?;
/// assert_eq!(lengths.collect::<Vec<_>>().await, [Ok(1), Ok(2)]);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct StreamOptions {
    pub(super) id: ChildId,
    pub(super) label: Option<Arc<str>>,
    pub(super) max_concurrency: Option<usize>,
    pub(super) ordered: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) on_timeout: OnItemTimeout,
    pub(super) shutdown: Shutdown,
    pub(super) pooled: bool,
    pub(super) linked: bool,
}

/// What becomes of an element that takes too long.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use futures_util::StreamExt;
/// use perennial_supervision::{OnItemTimeout, StreamOptions};
///
/// let work = |seconds| async move {
///     tokio::time::sleep(Duration::from_secs(seconds)).await; // paused clock
///     seconds
/// };
/// let options = StreamOptions::new().timeout(Duration::from_secs(5)).on_timeout(OnItemTimeout::KillTask);
/// let found: Vec<_> = tasks.async_stream([1, 60, 2], work, options)?.collect().await;
/// let late = StreamError::Exit { input: None, reason: ExitReason::Timeout };
/// assert_eq!(found, [Ok(1), Err(late), Ok(2)]);
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnItemTimeout {
    /// The stream fails with [`StreamError::Timeout`], and all of its tasks are killed (STR-007).
    #[default]
    Exit,
    /// Its task is killed and its place has [`ExitReason::Timeout`]; the others go on (STR-008).
    KillTask,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            id: "stream".into(),
            label: None,
            max_concurrency: None,
            ordered: true,
            timeout: Some(CALL_WITHIN),
            on_timeout: OnItemTimeout::Exit,
            shutdown: Shutdown::WORKER_DEFAULT,
            pooled: false,
            linked: true,
        }
    }
}

impl StreamOptions {
    /// The defaults above.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let same = tasks.async_stream([1, 2], |number| async move { number }, StreamOptions::new())?;
    /// assert_eq!(same.collect::<Vec<_>>().await, [Ok(1), Ok(2)]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the stream is called in the tree, below its task supervisor; several may share it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let options = StreamOptions::new().id("paths");
    /// let path = |()| async { current_process().map(|own| own.path().to_owned()) };
    /// let paths: Vec<_> = tasks.async_stream([()], path, options)?.collect().await;
    /// assert_eq!(paths, [Ok(Some("/app/tasks/paths".to_owned()))]); // of all its tasks
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn id(mut self, id: impl Into<ChildId>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets what reports of crashes call its tasks, beside their path.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let mut events = root.tree().lifecycle();
    /// let options = StreamOptions::new().label("import 7");
    /// let fails = tasks.async_stream_nolink([()], |()| async { if true { panic!("a bug") } }, options)?;
    /// fails.collect::<Vec<_>>().await;
    /// let report = loop {
    ///     let told = events.next().await.expect("the tree is there");
    ///     if let LifecycleEvent::Crashed(report) = told.event { break report; }
    /// };
    /// assert_eq!(report.label.as_deref(), Some("import 7"));
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets how many elements are worked on at any moment (STR-003).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let second = |()| tokio::time::sleep(Duration::from_secs(1)); // paused clock
    /// let options = StreamOptions::new().max_concurrency(2);
    /// let clock = root.tree().clock();
    /// let begun = clock.now();
    /// tasks.async_stream([(); 6], second, options)?.collect::<Vec<_>>().await;
    /// assert_eq!(clock.now().since(begun), Duration::from_secs(3)); // two at a time
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn max_concurrency(mut self, tasks: usize) -> Self {
        self.max_concurrency = Some(tasks);
        self
    }

    /// Sets whether results come in the order of the elements, or as they are done (STR-004).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let work = |seconds| async move {
    ///     tokio::time::sleep(Duration::from_secs(seconds)).await; // paused clock
    ///     seconds
    /// };
    /// let options = StreamOptions::new().max_concurrency(2).ordered(false);
    /// let found: Vec<_> = tasks.async_stream([2, 1], work, options)?.collect().await;
    /// assert_eq!(found, [Ok(1), Ok(2)]); // as they are done
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// Sets how long one element may take; `None` for as long as it likes (STR-009). It counts from the
    /// start of its task on, whether the consumer looks or not.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let minute = |()| tokio::time::sleep(Duration::from_secs(60)); // paused clock
    /// let patient = StreamOptions::new().timeout(None);
    /// assert_eq!(tasks.async_stream([()], minute, patient)?.collect::<Vec<_>>().await, [Ok(())]);
    /// let hasty = StreamOptions::new().timeout(Duration::from_secs(1));
    /// let found: Vec<_> = tasks.async_stream([()], minute, hasty)?.collect().await;
    /// assert_eq!(found, [Err(StreamError::Timeout)]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets what becomes of one that takes longer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let minute = |()| tokio::time::sleep(Duration::from_secs(60)); // paused clock
    /// let options = StreamOptions::new().on_timeout(OnItemTimeout::KillTask);
    /// let found: Vec<_> = tasks.async_stream([()], minute, options)?.collect().await;
    /// let late = StreamError::Exit { input: None, reason: ExitReason::Timeout };
    /// assert_eq!(found, [Err(late)]); // others would go on
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn on_timeout(mut self, on_timeout: OnItemTimeout) -> Self {
        self.on_timeout = on_timeout;
        self
    }

    /// Sets how the task supervisor stops the stream: its tasks are dropped at their next await, with
    /// [`ExitReason::Shutdown`], or [`ExitReason::Killed`] after a brutal kill.
    ///
    /// ```
    /// use perennial_supervision::{Shutdown, StreamOptions};
    ///
    /// // Its tasks have nothing to lose when the tree goes down.
    /// let options = StreamOptions::new().shutdown(Shutdown::BrutalKill);
    /// # drop(options);
    /// ```
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Lets elements that are worked on one after the other share a process, instead of being one each.
    /// Cheaper for small elements. A panic of one is still an end of that one alone, as is a kill; but
    /// who looks at the process of one, or is linked to it, sees the next one in it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let options = StreamOptions::new().max_concurrency(1).pooled();
    /// let own = |()| async { current_process() };
    /// let found: Vec<_> = tasks.async_stream([(), ()], own, options)?.collect().await;
    /// assert_eq!(found[0], found[1]); // one process for both
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn pooled(mut self) -> Self {
        self.pooled = true;
        self
    }

    /// Sets whether the tasks are linked to the consumer: see [`TaskStream`](crate::TaskStream).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use perennial_supervision::*;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
    /// # let app = SupervisorSpec::new("app").child(spec);
    /// # let root = Root::start(app, Clock::start(), Options::default()).await?;
    /// use futures_util::StreamExt;
    ///
    /// let options = StreamOptions::new().linked(false);
    /// let source = futures_util::stream::iter([1, 2]);
    /// let doubled = tasks.async_stream_from(source, |number| async move { 2 * number }, options)?;
    /// assert_eq!(doubled.collect::<Vec<_>>().await, [Ok(2), Ok(4)]);
    /// # root.shutdown().await; Ok(()) }
    /// ```
    #[must_use]
    pub fn linked(mut self, linked: bool) -> Self {
        self.linked = linked;
        self
    }

    pub(super) fn check(&self) -> Result<(), StreamSpecError> {
        match self.max_concurrency {
            Some(0) => Err(StreamSpecError::NoConcurrency),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a stream is refused before anything of it runs.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use perennial_supervision::{StreamOptions, StreamSpecError};
///
/// let options = StreamOptions::new().max_concurrency(0);
/// let refused = tasks.async_stream([1], |number| async move { number }, options);
/// assert_eq!(refused.err(), Some(StreamSpecError::NoConcurrency));
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamSpecError {
    /// With no task at a time it would never end.
    #[error("max_concurrency must be at least 1")]
    NoConcurrency,
}

/// Why a stream has no value: for one element, or from here on.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use futures_util::StreamExt;
/// use perennial_supervision::StreamError;
///
/// let check = |number: u32| async move { assert!(number != 2, "two") };
/// let found: Vec<_> = tasks.async_stream_nolink([1, 2, 3], check, StreamOptions::new())?.collect().await;
/// assert!(matches!(&found[1], Err(StreamError::Exit { reason: ExitReason::Panic { .. }, .. })));
/// assert_eq!((&found[0], &found[2]), (&Ok(()), &Ok(()))); // it goes on
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError<I> {
    /// The task of this element ended without a value. The stream goes on.
    #[error("an element has no value: {reason}")]
    Exit {
        /// The element, where that was asked for (STR-010).
        input: Option<I>,
        /// Why its task ended; [`ExitReason::Timeout`] when it took too long.
        reason: ExitReason,
    },
    /// An element took too long. The stream has ended.
    #[error("an element was not done in time")]
    Timeout,
    /// A linked task failed, and with it the consumer, which does not trap exits. The stream has ended.
    #[error("a task that is linked to the consumer failed: {0}")]
    Failed(ExitReason),
    /// No more tasks can be started: as many as allowed run (STR-020), or the task supervisor is gone.
    /// The stream has ended.
    #[error("the stream cannot start its tasks: {0}")]
    Refused(#[source] RequestError),
}

impl<I> StreamError<I> {
    /// As the reason that a process ends with because of it.
    ///
    /// ```
    /// use perennial_supervision::{ExitReason, StreamError};
    ///
    /// assert_eq!(StreamError::<u32>::Timeout.exit_reason(), ExitReason::Timeout);
    /// ```
    pub fn exit_reason(&self) -> ExitReason {
        match self {
            Self::Exit { reason, .. } | Self::Failed(reason) => reason.clone(),
            Self::Timeout => ExitReason::Timeout,
            Self::Refused(refusal) => ExitReason::error(refusal),
        }
    }

    /// Whether more elements may follow.
    ///
    /// ```
    /// use perennial_supervision::{ExitReason, StreamError};
    ///
    /// assert!(StreamError::Exit { input: Some(7), reason: ExitReason::Killed }.goes_on());
    /// assert!(!StreamError::<u32>::Timeout.goes_on());
    /// ```
    pub fn goes_on(&self) -> bool {
        match self {
            Self::Exit { .. } => true,
            Self::Timeout | Self::Failed(_) | Self::Refused(_) => false,
        }
    }
}
