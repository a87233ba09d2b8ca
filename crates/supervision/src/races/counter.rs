//! A server that counts, below a root.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{
    Address, ChildSpec, Clock, GenServer, Init, LifecycleEvent, LifecycleStream, Mailbox, Next,
    Options, Reply, Root, ServerCx, Shutdown, SupervisorSpec, actor::ActorError,
};

/// Counts its own drop.
pub(super) struct Parcel(pub(super) Arc<AtomicUsize>);

impl Drop for Parcel {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub(super) enum Say {
    Take(Parcel),
    Flush(Reply<()>),
}

impl From<Parcel> for Say {
    fn from(parcel: Parcel) -> Self {
        Self::Take(parcel)
    }
}

/// What all lives of a counter have noted.
#[derive(Default)]
pub(super) struct Notes {
    handled: AtomicUsize,
    /// Lives whose state is there.
    alive: AtomicUsize,
    /// Starts that were tried.
    pub(super) starts: AtomicUsize,
    /// Of the next starts so many fail.
    pub(super) failing: AtomicUsize,
}

pub(super) struct Counter(Arc<Notes>);

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

impl GenServer for Counter {
    type Arguments = Arc<Notes>;
    type Message = Say;

    async fn init(notes: Arc<Notes>, _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        notes.starts.fetch_add(1, SeqCst);
        let fails = |left: usize| left.checked_sub(1);
        if notes.failing.fetch_update(SeqCst, SeqCst, fails).is_ok() {
            return Err("it was to fail".into());
        }
        // No assertion: it would be contained.
        notes.alive.fetch_add(1, SeqCst);
        Ok(Init::new(Self(notes)))
    }

    async fn handle(
        &mut self,
        message: Say,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Say>, ActorError> {
        match message {
            Say::Take(parcel) => {
                drop(parcel);
                self.0.handled.fetch_add(1, SeqCst);
            }
            Say::Flush(reply) => reply.send(()),
        }
        Ok(Next::Continue)
    }
}

/// One permanent counter below a root that never gives up.
#[derive(Clone)]
pub(super) struct World {
    pub(super) root: Arc<Root>,
    pub(super) address: Address<Say>,
    pub(super) notes: Arc<Notes>,
    dropped: Arc<AtomicUsize>,
    made: Arc<AtomicUsize>,
}

impl World {
    pub(super) async fn start(mailbox: Mailbox) -> Self {
        let notes = Arc::<Notes>::default();
        let arguments = notes.clone();
        let (child, address) = ChildSpec::server::<Counter>("child", move || arguments.clone());
        let child = child.mailbox(mailbox).shutdown(Shutdown::Infinity);
        let spec = SupervisorSpec::new("top").intensity(u32::MAX, Duration::from_secs(1));
        let spec = spec.child(child);
        let root = Root::start(spec, Clock::start(), Options::default()).await.unwrap();
        let (dropped, made) = (Arc::default(), Arc::default());
        Self { root: Arc::new(root), address, notes, dropped, made }
    }

    pub(super) fn parcel(&self) -> Say {
        self.made.fetch_add(1, SeqCst);
        Parcel(self.dropped.clone()).into()
    }

    /// Returns when what was sent before is handled, by a life that lived all the while.
    pub(super) async fn flush(&self) {
        self.address.call(Say::Flush, Duration::MAX).await.unwrap();
    }

    /// The end of all; answers how many were handled. Nothing is left.
    pub(super) async fn end(&self) -> usize {
        self.root.shutdown().await;
        assert_eq!(self.notes.alive.load(SeqCst), 0, "a state is left");
        let (made, dropped) = (self.made.load(SeqCst), self.dropped.load(SeqCst));
        assert_eq!(dropped, made, "each message is dropped once");
        self.notes.handled.load(SeqCst)
    }

    /// Lives whose state is there.
    pub(super) fn alive(&self) -> usize {
        self.notes.alive.load(SeqCst)
    }

    /// Messages that were dropped with a mailbox.
    pub(super) fn undelivered(&self) -> usize {
        let nodes = self.root.tree().nodes();
        let child = nodes.iter().find(|node| node.path == "/top/child").unwrap();
        usize::try_from(child.undelivered).unwrap()
    }
}

/// Checks that lives of the child follow each other: none begins before the last one has ended, and each ends.
pub(super) async fn each_life_ends_once(mut told: LifecycleStream) {
    let mut running = None;
    let mut last = 0;
    while let Some(news) = told.next().await {
        let is_end = matches!(news.event, LifecycleEvent::Exited { .. });
        if is_end && news.path == "/top" {
            break;
        }
        if news.path != "/top/child" {
            continue;
        }
        if let LifecycleEvent::Started { incarnation, .. } = news.event {
            assert_eq!(running, None, "two lives at a time");
            assert!(incarnation > last, "{incarnation} after {last}");
            (running, last) = (Some(incarnation), incarnation);
        }
        if let LifecycleEvent::Exited { incarnation, .. } = news.event {
            // The first start was told before anybody listened.
            assert!(running.take().is_none_or(|it| it == incarnation), "not what runs");
            assert!(incarnation >= last, "{incarnation} ends after {last}");
            last = incarnation;
        }
    }
    assert_eq!(running, None, "it has not ended");
}
