//! What a run's events say about its performance.
//!
//! # Why an actor
//!
//! Figures change over time and are read by others; the run must not be slowed by their keeping.
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
//! Every event is counted once: news that does not continue what it has makes it read the store.

mod figures;
mod meter;
mod watch;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{Restart, run::RunId};
use perennial_store::EventRecord;
use perennial_supervision::{
    Address, ChildSpec,
    actor::{Actor, ActorError, ActorRef},
};

pub(crate) use self::meter::Meter;
use self::{
    figures::Figures,
    watch::{Sample, Watch},
};
use crate::{
    Services,
    patience::{STORE_WITHIN, patiently},
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
    /// These were committed.
    Events { events: Vec<EventRecord> },
    /// Measure; the processor time of the process was measured already, if it could be.
    Sample { cpu_percent: Option<f64> },
}

impl Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Events { .. } => "events",
            Self::Sample { .. } => "sample",
        }
    }
}

/// How to supervise the monitor of `run`.
pub(crate) fn child_spec(services: &Services, run: &RunId) -> (ChildSpec, Address<Message>) {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let (services, run) = (services.clone(), run.clone());
    let id = run.as_str().to_owned();
    let watch = Arc::new(Mutex::new(Watch::default()));
    let (spec, address) = ChildSpec::actor_of_kinds(id, Message::kind, move || {
        let shell = PerformanceMonitor {
            services: services.clone(),
            run: run.clone(),
            published: published.clone(),
            watch: watch.clone(),
        };
        (shell, ())
    });
    (spec.restart(Restart::Transient).detail(move || shown.read()), address)
}

/// The shell; its figures are pure.
struct PerformanceMonitor {
    services: Services,
    run: RunId,
    published: Arc<Published>,
    /// Taken for a moment only, by one incarnation after the other.
    watch: Arc<Mutex<Watch>>,
}

impl Actor for PerformanceMonitor {
    type Msg = Message;
    type State = Figures;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<Figures, ActorError> {
        Ok(Figures::default())
    }

    async fn post_start(
        &self,
        me: ActorRef<Message>,
        figures: &mut Figures,
    ) -> Result<(), ActorError> {
        self.catch_up(figures).await?;
        self.settle(&me, figures);
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        figures: &mut Figures,
    ) -> Result<(), ActorError> {
        match message {
            Message::Events { events } => {
                for event in &events {
                    if event.seq > figures.next_seq() {
                        self.catch_up(figures).await?;
                    }
                    figures.count(event);
                }
            }
            Message::Sample { cpu_percent } => self.sample(figures, cpu_percent),
        }
        self.settle(&me, figures);
        Ok(())
    }
}

impl PerformanceMonitor {
    async fn catch_up(&self, figures: &mut Figures) -> Result<(), ActorError> {
        loop {
            let (run, from) = (self.run.as_str(), figures.next_seq());
            let read = || self.services.store.events(run, from, PAGE);
            let page = patiently(STORE_WITHIN, read).await?;
            page.iter().for_each(|event| figures.count(event));
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    fn sample(&self, figures: &Figures, cpu_percent: Option<f64>) {
        let now = self.services.store.now();
        let account = self.services.accounts.get(&self.run).map(|account| account.clone());
        let (elapsed, under_way) = (figures.elapsed(now), figures.under_way(now));
        let sample = Sample { elapsed, account, cpu_percent, under_way };
        let warnings = self.watch().take(&sample, &self.services.monitoring.thresholds);
        for warning in warnings {
            tracing::warn!(run = %self.run, step = warning.step.as_ref().map(ToString::to_string), "{}", warning.message);
            self.services.hub.warn(&self.run, &warning);
        }
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes; a monitor whose run has ended has nothing left to watch.
    fn settle(&self, me: &ActorRef<Message>, figures: &Figures) {
        let mut shown = figures.shown();
        self.watch().show(&self.services.monitoring.thresholds, &mut shown);
        self.published.publish(shown);
        if figures.is_complete() {
            self.services.monitors.remove(&self.run);
            me.stop(None);
        }
    }
}

/// What cannot be read is said to be unknown, never 0 (YM-24).
fn known_or_unknown(value: Option<impl serde::Serialize>) -> serde_json::Value {
    value.map_or_else(|| "unknown".into(), |value| serde_json::json!(value))
}
