//! Committed events of runs, for whoever watches: gapless, in order, from any point on.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use perennial_core::run::RunId;
use perennial_store::{EventRecord, Store, StoreError};
use tokio::sync::broadcast;

use crate::{
    RunError,
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
#[derive(Debug)]
pub struct WarningFeed(broadcast::Receiver<Arc<RunWarning>>);

impl WarningFeed {
    /// The next warning; waits until there is one, and answers `None` when the runtime is gone. Who is
    /// too far behind misses the oldest.
    ///
    /// # Cancel safety
    ///
    /// Safe: no warning is lost.
    pub async fn next(&mut self) -> Option<RunWarning> {
        loop {
            match self.0.recv().await {
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
pub(crate) struct Hub(broadcast::Sender<Arc<RunEvent>>, broadcast::Sender<Arc<RunWarning>>);

impl Hub {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(KEPT), broadcast::Sender::new(WARNINGS_KEPT))
    }

    pub(crate) fn announce(&self, run: &RunId, events: &[EventRecord]) {
        for event in events {
            // Nobody may be watching.
            let _ = self.0.send(Arc::new(RunEvent { run: run.clone(), event: event.clone() }));
        }
    }

    pub(crate) fn warn(&self, run: &RunId, warning: &Warning) {
        // Nobody may be watching.
        let _ = self.1.send(Arc::new(RunWarning { run: run.clone(), warning: warning.clone() }));
    }

    pub(crate) fn warnings(&self) -> WarningFeed {
        WarningFeed(self.1.subscribe())
    }

    pub(crate) fn watch(
        &self,
        store: Arc<dyn Store>,
        parked: Parked,
        run: RunId,
        from: u64,
    ) -> EventFeed {
        let announced = self.0.subscribe();
        EventFeed { announced, store, parked, run, next: from, read: VecDeque::new(), behind: true }
    }
}

/// The events of one run, in order, without gaps.
#[derive(Debug)]
pub struct EventFeed {
    announced: broadcast::Receiver<Arc<RunEvent>>,
    store: Arc<dyn Store>,
    parked: Parked,
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
    /// # Errors
    ///
    /// When the store cannot be read, or the run is parked: nothing will come of it here.
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
                self.read_on().await?;
                continue;
            }
            match tokio::time::timeout(LOOK_AGAIN, self.announced.recv()).await {
                Ok(Ok(news)) if news.run != self.run || news.event.seq < self.next => (),
                Ok(Ok(news)) if news.event.seq == self.next => {
                    self.next += 1;
                    return Ok(news.event.clone());
                }
                // A gap, a lag, silence, or the end of the announcements: the store knows.
                Ok(Ok(_) | Err(_)) | Err(_) => {
                    self.read_on().await?;
                    if self.read.is_empty()
                        && let Some(why) = self.parked.why(&self.run)
                    {
                        return Err(RunError::Parked { run: self.run.clone(), why });
                    }
                }
            }
        }
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
