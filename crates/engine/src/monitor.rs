//! What a run's events say about its performance.
//!
//! # Why an actor
//!
//! Figures change over time and are read by others; the run must not be slowed by their keeping.
//!
//! # Supervision
//!
//! A transient child of `monitors`, one per active run.
//!
//! # What a restart forgets
//!
//! Nothing: it counts the run's durable events again from the first.
//!
//! # Guarantees
//!
//! Every event is counted once: news that does not continue what it has makes it read the store.

mod figures;

use std::sync::Arc;

use perennial_core::{Restart, run::RunId};
use perennial_store::EventRecord;
use perennial_supervision::{
    Address, ChildSpec,
    actor::{Actor, ActorError, ActorRef},
};

use self::figures::Figures;
use crate::{
    Services,
    patience::{STORE_WITHIN, patiently},
    published::Published,
};

/// Events read from the store at a time.
const PAGE: u32 = 256;

/// What a monitor is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// These were committed.
    Events { events: Vec<EventRecord> },
}

/// How to supervise the monitor of `run`.
pub(crate) fn child_spec(services: &Services, run: &RunId) -> (ChildSpec, Address<Message>) {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let (services, run) = (services.clone(), run.clone());
    let id = run.as_str().to_owned();
    let (spec, address) = ChildSpec::actor_of_kinds(
        id,
        |_| "events",
        move || {
            let shell = PerformanceMonitor {
                services: services.clone(),
                run: run.clone(),
                published: published.clone(),
            };
            (shell, ())
        },
    );
    (spec.restart(Restart::Transient).detail(move || shown.read()), address)
}

/// The shell; its figures are pure.
struct PerformanceMonitor {
    services: Services,
    run: RunId,
    published: Arc<Published>,
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
        let Message::Events { events } = message;
        for event in &events {
            if event.seq > figures.next_seq() {
                self.catch_up(figures).await?;
            }
            figures.count(event);
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

    /// Publishes; a monitor whose run has ended has nothing left to watch.
    fn settle(&self, me: &ActorRef<Message>, figures: &Figures) {
        self.published.publish(figures.shown());
        if figures.is_complete() {
            self.services.monitors.remove(&self.run);
            me.stop(None);
        }
    }
}
