//! What a server knows of itself, and the processes it watches.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
};

use futures_util::{
    StreamExt,
    future::{AbortHandle, Aborted, abortable},
    stream::FuturesUnordered,
};
use perennial_core::ExitReason;

use super::{GenServer, Standing, timers::Timers};
use crate::{Address, ChildRef, ChildSpec, Clock, DynamicSupervisor, ProcessRef, RequestError};

/// Events that the debugger and a crash report can tell of.
const EVENTS_KEPT: usize = 16;

/// The server itself, in its callbacks.
pub struct ServerCx<S: GenServer> {
    process: ProcessRef,
    address: Address<S::Message>,
    pub(super) label: Option<String>,
    pub(super) watches: Watches,
    pub(super) timers: Timers<S::Message>,
    pub(super) events: Events,
}

/// The end of a process that was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Which watch it was.
    pub watch: WatchRef,
    /// What ended.
    pub process: ProcessRef,
    /// Why; [`ExitReason::NoProc`] when it had ended before it was watched.
    pub reason: ExitReason,
}

/// One watch of one server on one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchRef(u64);

impl WatchRef {
    /// That of all links that others have made: of a task that was started for it, of a registry that
    /// it is registered in.
    pub(super) fn of_others() -> Self {
        Self(u64::MAX)
    }

    /// Whether the server itself watches or has linked what ended; otherwise others have.
    pub fn is_own(self) -> bool {
        self != Self::of_others()
    }
}

impl<S: GenServer> ServerCx<S> {
    pub(crate) fn new(
        process: ProcessRef,
        address: Address<S::Message>,
        standing: Arc<Standing>,
        clock: Clock,
    ) -> Self {
        let (watches, timers) = (Watches::new(standing), Timers::new(clock));
        Self { process, address, label: None, watches, timers, events: Events::default() }
    }

    /// This incarnation.
    pub fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// Where it is reached, now and after a restart. A call to it from here would wait for itself,
    /// and says so.
    pub fn address(&self) -> &Address<S::Message> {
        &self.address
    }

    /// What reports call it, beside its path (OBS-013).
    pub fn set_label(&mut self, label: impl Into<String>) {
        self.label = Some(label.into());
    }

    /// Watches the end of `process`, which `handle_exit` is told of once, and lives on. Watches are
    /// independent of each other: each tells of the end (GS-061).
    pub fn monitor(&mut self, process: &ProcessRef) -> WatchRef {
        self.watches.add(process, false)
    }

    /// As [`monitor`](Self::monitor), and one that does not trap exits ends with `process`, for the
    /// same reason and without cleanup, unless that is normal. One direction only: `process` does
    /// not notice.
    pub fn link(&mut self, process: &ProcessRef) -> WatchRef {
        self.watches.add(process, true)
    }

    /// Starts `spec` under `supervisor` and links both ways (GS-002): the child ends with this
    /// server, and the end of the child is told as of any [`link`](Self::link). A plain `start_child`
    /// links neither.
    ///
    /// # Errors
    ///
    /// As [`DynamicSupervisor::start_child`].
    pub async fn start_link(
        &mut self,
        supervisor: &DynamicSupervisor,
        spec: ChildSpec,
    ) -> Result<(ChildRef, WatchRef), RequestError> {
        let child = supervisor.start_child(spec.linked_to(self.process.clone())).await?;
        let watch = self.link(child.process());
        Ok((child, watch))
    }

    /// Watches no more. An exit that waits in the mailbox already is not told (GS-061).
    pub fn demonitor(&mut self, watch: WatchRef) {
        self.watches.remove(watch);
    }
}

impl<S: GenServer> fmt::Debug for ServerCx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCx")
            .field("process", &self.process)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// An exit on its way through the mailbox.
pub(crate) struct Watched(Exit);

type Ending = Pin<Box<dyn Future<Output = Result<Exit, Aborted>> + Send>>;

/// The watches of one server. Nothing of a watch outlives it.
pub(super) struct Watches {
    made: u64,
    present: BTreeMap<WatchRef, Watch>,
    ends: FuturesUnordered<Ending>,
    /// Shows the same watches.
    pub(super) standing: Arc<Standing>,
}

struct Watch {
    linked: bool,
    abort: AbortHandle,
}

impl Watches {
    fn new(standing: Arc<Standing>) -> Self {
        Self { made: 0, present: BTreeMap::new(), ends: FuturesUnordered::new(), standing }
    }

    fn add(&mut self, process: &ProcessRef, linked: bool) -> WatchRef {
        let watch = WatchRef(self.made);
        self.made += 1;
        let (mut monitor, target) = (process.monitor(), process.clone());
        let (end, abort) = abortable(async move {
            let reason = monitor.down().await;
            Exit { watch, process: target, reason }
        });
        self.ends.push(Box::pin(end));
        self.present.insert(watch, Watch { linked, abort });
        self.standing.watch(watch, process.clone());
        watch
    }

    fn remove(&mut self, watch: WatchRef) {
        self.standing.unwatch(watch);
        if let Some(watch) = self.present.remove(&watch) {
            watch.abort.abort();
        }
    }

    /// The next end; `None` when nothing is watched.
    ///
    /// # Cancel safety
    ///
    /// Safe: no end is lost.
    pub(super) async fn next(&mut self) -> Option<Watched> {
        loop {
            match self.ends.next().await {
                Some(Ok(exit)) => return Some(Watched(exit)),
                Some(Err(Aborted)) => (),
                None => return None,
            }
        }
    }

    /// The exit and whether it was of a link, unless it is watched no more.
    pub(super) fn settle(&mut self, watched: Watched) -> Option<(Exit, bool)> {
        let watch = self.present.remove(&watched.0.watch)?;
        self.standing.unwatch(watched.0.watch);
        Some((watched.0, watch.linked))
    }

    /// Paths of what is watched.
    pub(super) fn paths(&self) -> Vec<String> {
        self.standing.look().1.iter().map(|process| process.path().to_owned()).collect()
    }
}

/// What the server was given to do last.
#[derive(Default)]
pub(super) struct Events(VecDeque<Cow<'static, str>>);

impl Events {
    pub(super) fn add(&mut self, event: impl Into<Cow<'static, str>>) {
        if self.0.len() == EVENTS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(event.into());
    }

    pub(super) fn last(&self) -> Option<String> {
        self.0.back().map(|event| event.clone().into_owned())
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.iter().map(|event| event.clone().into_owned()).collect()
    }
}
