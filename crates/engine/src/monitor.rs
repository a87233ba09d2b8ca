//! What a run's events say about its performance.
//!
//! # Why an actor
//!
//! Figures change over time and are read by others; the run must not be slowed by their keeping. It is a light
//! server: there is one for each active run, it needs nothing that only larger kinds have, and it takes a third of
//! the memory of an actor.
//!
//! # Supervision
//!
//! A transient child of `monitors`, one per active run. The timekeeper tells all of them once a second to
//! sample.
//!
//! # What a restart forgets
//!
//! Nothing: it counts the run's durable events again from the first. Its last samples, and which
//! thresholds are passed, lie with its specification: a warning is not told twice. What another process
//! continues begins without samples.
//!
//! # Guarantees
//!
//! Every event is counted once: news that does not continue what it has makes it read the store. Where an event
//! cannot be read it says so and counts no further.

mod figures;
mod meter;
mod watch;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{Restart, run::RunId};
use perennial_store::{EventRecord, StoreError};
use perennial_supervision::{
    Address, ChildSpec, ExitReason, Flow, LightCx, LightServer, actor::ActorError,
};

pub(crate) use self::meter::Meter;
use self::{
    figures::Figures,
    watch::{Sample, Watch},
};
use crate::{
    Services,
    patience::{STORE_WITHIN, persistently},
    performance::Thresholds,
    published::Published,
};

/// How runs are monitored: whether, how often, and what is worth a warning.
///
/// ```
/// use std::time::Duration;
/// use perennial::records::{Monitoring, Thresholds};
///
/// let thresholds = Thresholds { step: Duration::from_secs(5), ..Thresholds::default() };
/// let monitoring = Monitoring { thresholds, ..Monitoring::default() };
/// assert_eq!((monitoring.enabled, monitoring.every), (true, Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// Whether they are.
    pub enabled: bool,
    /// How often each is sampled; 1 s.
    pub every: Duration,
    /// From where on something is worth a warning.
    pub thresholds: Thresholds,
}

impl Default for Monitoring {
    fn default() -> Self {
        let (every, thresholds) = (Duration::from_secs(1), Thresholds::default());
        Self { enabled: true, every, thresholds }
    }
}

/// Events read from the store at a time.
const PAGE: u32 = 256;

/// What a monitor is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Read what has happened so far.
    Begin,
    /// These were committed.
    Events { events: Vec<EventRecord> },
    /// Measure; the processor time of the process was measured already, if it could be.
    Sample { cpu_percent: Option<f64> },
}

/// How to supervise the monitor of `run`.
pub(crate) fn child_spec(services: &Services, run: &RunId) -> (ChildSpec, Address<Message>) {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let id = run.as_str();
    let arguments = Arguments {
        services: services.clone(),
        run: run.clone(),
        published,
        watch: Mutex::default(),
    };
    let (spec, address) = ChildSpec::light::<PerformanceMonitor>(id, Arc::new(arguments));
    (spec.restart(Restart::Transient).detail(move || shown.read()), address)
}

/// What all its incarnations share.
struct Arguments {
    services: Services,
    run: RunId,
    published: Arc<Published>,
    /// Taken for a moment only, by one incarnation after the other.
    watch: Mutex<Watch>,
}

/// The shell; its figures are pure.
struct PerformanceMonitor {
    its: Arc<Arguments>,
    figures: Figures,
    /// Why its figures stay what they are: an event cannot be read, now or later.
    unreadable: Option<String>,
}

impl LightServer for PerformanceMonitor {
    type Arguments = Arc<Arguments>;
    type Message = Message;

    async fn init(its: &Arc<Arguments>, cx: &LightCx<Self>) -> Result<Self, ActorError> {
        // Reading takes time, which nobody who starts a run is to wait for.
        cx.address().cast(Message::Begin)?;
        Ok(Self { its: its.clone(), figures: Figures::default(), unreadable: None })
    }

    async fn handle(&mut self, message: Message, _: &LightCx<Self>) -> Result<Flow, ActorError> {
        match message {
            Message::Begin => self.catch_up().await?,
            Message::Events { events } => {
                for event in &events {
                    if event.seq > self.figures.next_seq() {
                        self.catch_up().await?;
                    }
                    self.figures.count(event);
                }
            }
            Message::Sample { cpu_percent } => self.sample(cpu_percent),
        }
        Ok(self.settle())
    }

    fn message_kind(message: &Message) -> &'static str {
        match message {
            Message::Begin => "begin",
            Message::Events { .. } => "events",
            Message::Sample { .. } => "sample",
        }
    }
}

impl PerformanceMonitor {
    async fn catch_up(&mut self) -> Result<(), ActorError> {
        while self.unreadable.is_none() {
            let (run, from) = (self.its.run.as_str(), self.figures.next_seq());
            let read = || self.its.services.store.events(run, from, PAGE);
            let page = match persistently(STORE_WITHIN, read).await {
                Err(error @ StoreError::Unreadable { .. }) => {
                    tracing::warn!(run, %error, "figures not kept");
                    self.unreadable = Some(error.to_string());
                    break;
                }
                page => page?,
            };
            page.iter().for_each(|event| self.figures.count(event));
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(())
    }

    fn sample(&self, cpu_percent: Option<f64>) {
        let Arguments { services, run, .. } = &*self.its;
        let now = services.store.now();
        let account = services.accounts.get(run).map(|account| account.clone());
        let (worked, under_way) = (self.figures.worked(now), self.figures.under_way(now));
        let sample = Sample { worked, account, cpu_percent, under_way };
        let warnings = self.watch().take(&sample, &services.monitoring.thresholds);
        for warning in warnings {
            tracing::warn!(%run, step = warning.step.as_ref().map(ToString::to_string), "{}", warning.message);
            services.hub.warn(run, &warning);
        }
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.its.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes; a monitor whose run has ended has nothing left to watch.
    fn settle(&self) -> Flow {
        let Arguments { services, run, published, .. } = &*self.its;
        let mut shown = self.figures.shown();
        self.watch().show(&services.monitoring.thresholds, &mut shown);
        if let (Some(shown), Some(why)) = (shown.as_object_mut(), &self.unreadable) {
            shown.insert("unreadable".to_owned(), why.as_str().into());
        }
        published.publish(shown);
        // Of one whose events cannot be read, the end is seen when nobody works on it any more.
        let is_over = self.unreadable.is_some() && services.run_address(run).is_none();
        if !self.figures.is_complete() && !is_over {
            return Flow::Continue;
        }
        services.monitors.remove(run);
        Flow::Stop(ExitReason::Normal)
    }
}

/// What cannot be read is said to be unknown, never 0 (YM-24).
fn known_or_unknown(value: Option<impl serde::Serialize>) -> serde_json::Value {
    value.map_or_else(|| "unknown".into(), |value| serde_json::json!(value))
}
