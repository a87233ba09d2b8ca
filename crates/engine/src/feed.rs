//! Committed events of runs, for whoever watches: gapless, in order, from any point on.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use perennial_core::run::RunId;
use perennial_store::{EventRecord, Store, StoreError};
use tokio::sync::{broadcast, watch};

use crate::{
    RunError,
    drain::DrainReport,
    parked::Parked,
    patience::{STORE_WITHIN, patiently},
    performance::Warning,
};

/// Events kept for a watcher that is behind; one that is further behind reads the store.
const KEPT: usize = 4096;
/// Warnings kept for whoever reads them slowly.
const WARNINGS_KEPT: usize = 256;
/// Events read from the store at a time.
const PAGE: u32 = 256;
/// How often a watcher looks into the store although nothing woke it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A committed event of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEvent {
    /// The run.
    pub run: RunId,
    /// The event.
    pub event: EventRecord,
}

/// A threshold that a run passed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// use perennial::records::{Monitoring, Thresholds, WarningKind};
/// use std::time::Duration;
///
/// let thresholds = Thresholds { execution: Duration::ZERO, ..Thresholds::default() };
/// let monitoring = Monitoring { thresholds, every: Duration::from_millis(5), ..Monitoring::default() };
/// let runtime = Runtime::builder().store(Store::memory()).monitoring(monitoring).start().await?;
/// let mut warnings = runtime.runs().warnings();
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1, delay_ms: 60000}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// let passed = warnings.next().await.expect("the runtime runs");
/// assert_eq!(&passed.run, run.id());
/// assert_eq!(passed.warning.kind, WarningKind::ExecutionThreshold);
/// # run.cancel().await?;
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunWarning {
    /// The run.
    pub run: RunId,
    /// What it passed.
    pub warning: Warning,
}

/// Warnings of the monitors of a runtime, from its making on. Not durable: nothing is told of what
/// another process monitors, and [`performance`](crate::RunHandle::performance) reads the same
/// thresholds from what is recorded.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let mut warnings = runtime.runs().warnings();
/// runtime.shutdown().await;
/// assert_eq!(warnings.next().await, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WarningFeed {
    warned: broadcast::Receiver<Arc<RunWarning>>,
    over: Over,
}

impl WarningFeed {
    /// The next warning; waits until there is one, and answers `None` when the runtime has shut down.
    /// Who is too far behind misses the oldest.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # use perennial::records::{Monitoring, Thresholds};
    /// # use std::time::Duration;
    /// # let thresholds = Thresholds { execution: Duration::ZERO, ..Thresholds::default() };
    /// # let monitoring = Monitoring { thresholds, every: Duration::from_millis(5), ..Monitoring::default() };
    /// # let runtime = Runtime::builder().store(Store::memory()).monitoring(monitoring).start().await?;
    /// let mut warnings = runtime.runs().warnings();
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let passed = warnings.next().await.expect("the runtime runs");
    /// assert_eq!(&passed.run, run.id()); // it takes longer than it may, and goes on
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Safe: no warning is lost.
    pub async fn next(&mut self) -> Option<RunWarning> {
        loop {
            // What was warned of before the end is told before it.
            let news = tokio::select! {
                biased;
                news = self.warned.recv() => news,
                () = self.over.reached() => return None,
            };
            match news {
                Ok(warning) => return Some(RunWarning::clone(&warning)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "warnings of monitors missed");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Where committed events are announced. Losing one costs time, never correctness.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    events: broadcast::Sender<Arc<RunEvent>>,
    warnings: broadcast::Sender<Arc<RunWarning>>,
    over: watch::Sender<bool>,
}

/// Whether the runtime has shut down: nothing is announced any more.
#[derive(Clone, Debug)]
struct Over(watch::Receiver<bool>);

impl Over {
    /// Waits until it has.
    async fn reached(&mut self) {
        // Without an announcer nothing is announced either.
        drop(self.0.wait_for(|over| *over).await);
    }
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            events: broadcast::Sender::new(KEPT),
            warnings: broadcast::Sender::new(WARNINGS_KEPT),
            over: watch::Sender::new(false),
        }
    }

    /// Nothing is announced from here on: whoever waits is told.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    pub(crate) fn announce(&self, run: &RunId, events: &[EventRecord]) {
        for event in events {
            // Nobody may be watching.
            let _ = self.events.send(Arc::new(RunEvent { run: run.clone(), event: event.clone() }));
        }
    }

    pub(crate) fn warn(&self, run: &RunId, warning: &Warning) {
        // Nobody may be watching.
        let _ =
            self.warnings.send(Arc::new(RunWarning { run: run.clone(), warning: warning.clone() }));
    }

    pub(crate) fn warnings(&self) -> WarningFeed {
        WarningFeed { warned: self.warnings.subscribe(), over: Over(self.over.subscribe()) }
    }

    pub(crate) fn watch(
        &self,
        store: Arc<dyn Store>,
        parked: Parked,
        drained: watch::Receiver<Option<DrainReport>>,
        run: RunId,
        from: u64,
    ) -> EventFeed {
        EventFeed {
            announced: self.events.subscribe(),
            over: Over(self.over.subscribe()),
            store,
            parked,
            drained,
            looked_last: false,
            run,
            next: from,
            read: VecDeque::new(),
            behind: true,
        }
    }
}

/// Waits until the drain has its report; the store is still there then.
async fn reported(drained: &mut watch::Receiver<Option<DrainReport>>) {
    // Without a drain there is none to wait for: the end is told by itself.
    drop(drained.wait_for(Option::is_some).await);
}

/// The events of one run, in order, without gaps.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// let mut events = run.events();
/// loop {
///     let event = events.next().await?;
///     println!("{} {} {:?}", event.seq, event.kind, event.job);
///     if event.kind == "run_closed" {
///         break;
///     }
/// }
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EventFeed {
    announced: broadcast::Receiver<Arc<RunEvent>>,
    over: Over,
    store: Arc<dyn Store>,
    parked: Parked,
    drained: watch::Receiver<Option<DrainReport>>,
    /// The store was looked into after the drain: its last events are announced by nobody.
    looked_last: bool,
    run: RunId,
    /// Sequence number of the next event to hand out.
    next: u64,
    /// Read from the store and not handed out yet.
    read: VecDeque<EventRecord>,
    /// The store may have more: what was committed before this feed listened, or a further page.
    behind: bool,
}

impl EventFeed {
    /// The next event; waits until there is one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// let mut events = run.events();
    /// assert_eq!(events.next().await?.kind, "run_created");
    /// assert_eq!(events.next().await?.seq, 2);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or the run is parked: nothing will come of it here.
    /// [`RunError::ShutDown`] once the runtime has shut down and everything that it announced was handed
    /// out.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event is counted as handed out only when it is returned.
    pub async fn next(&mut self) -> Result<EventRecord, RunError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.next = event.seq + 1;
                return Ok(event);
            }
            if self.behind {
                self.look().await?;
                continue;
            }
            let news = tokio::select! {
                biased;
                news = tokio::time::timeout(LOOK_AGAIN, self.announced.recv()) => news,
                // Behind whatever was announced.
                () = self.over.reached() => return Err(self.shut_down()),
                () = reported(&mut self.drained), if !self.looked_last => {
                    self.looked_last = true;
                    self.look().await?;
                    continue;
                }
            };
            match news {
                Ok(Ok(news)) if news.run != self.run || news.event.seq < self.next => (),
                Ok(Ok(news)) if news.event.seq == self.next => {
                    self.next += 1;
                    return Ok(news.event.clone());
                }
                // A gap, a lag, silence, or the end of the announcements: the store knows.
                Ok(Ok(_) | Err(_)) | Err(_) => {
                    self.look().await?;
                    if self.read.is_empty()
                        && let Some(why) = self.parked.why(&self.run)
                    {
                        return Err(RunError::Parked { run: self.run.clone(), why });
                    }
                }
            }
        }
    }

    /// A closed store is one whose runtime has shut down.
    async fn look(&mut self) -> Result<(), RunError> {
        match self.read_on().await {
            Err(StoreError::Closed) => Err(self.shut_down()),
            read => Ok(read?),
        }
    }

    fn shut_down(&self) -> RunError {
        RunError::shut_down(&self.run, self.drained.borrow().as_ref())
    }

    async fn read_on(&mut self) -> Result<(), StoreError> {
        let (run, next) = (self.run.as_str(), self.next);
        let read = || self.store.events(run, next, PAGE);
        self.read = patiently(STORE_WITHIN, read).await?.into();
        self.behind = self.read.len() == PAGE as usize;
        Ok(())
    }

    /// What is in the store now and was not handed out yet.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # run.outcome().await?;
    /// let mut events = run.events();
    /// let told = events.rest().await?;
    /// assert_eq!(told.first().map(|event| event.kind.as_str()), Some("run_created"));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn rest(&mut self) -> Result<Vec<EventRecord>, StoreError> {
        let mut rest = Vec::new();
        loop {
            self.read_on().await?;
            if self.read.is_empty() {
                return Ok(rest);
            }
            self.next += self.read.len() as u64;
            rest.extend(self.read.drain(..));
        }
    }
}
