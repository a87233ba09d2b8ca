//! Light servers: what their one lock and their table are for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use shuttle::future::{block_on, spawn};

use super::check;
use crate::{
    Address, Clock, ExitReason, Flow, LifecycleEvent, LightCx, LightServer, LightSupervisor,
    LightSupervisorSpec, Mailbox, Options, Overflow, RequestError, Root, Shutdown, SupervisorSpec,
    actor::ActorError,
};

#[derive(Default)]
struct Notes {
    handled: AtomicUsize,
    alive: AtomicUsize,
    starts: AtomicUsize,
}

struct Bulb(Arc<Notes>);

impl Drop for Bulb {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

impl LightServer for Bulb {
    type Arguments = Arc<Notes>;
    type Message = bool;

    async fn init(notes: &Arc<Notes>, _: &LightCx<Self>) -> Result<Self, ActorError> {
        notes.starts.fetch_add(1, SeqCst);
        notes.alive.fetch_add(1, SeqCst);
        Ok(Self(notes.clone()))
    }

    async fn handle(&mut self, lasts: bool, _: &LightCx<Self>) -> Result<Flow, ActorError> {
        self.0.handled.fetch_add(1, SeqCst);
        if lasts { Ok(Flow::Continue) } else { Err(ExitReason::Timeout.into()) }
    }
}

/// One bulb in a supervisor that never gives up.
#[derive(Clone)]
struct World {
    root: Arc<Root>,
    bulbs: LightSupervisor<Bulb>,
    bulb: Address<bool>,
    notes: Arc<Notes>,
}

impl World {
    async fn start(mailbox: Mailbox) -> Self {
        let spec = LightSupervisorSpec::new("bulbs", 2)
            .intensity(u32::MAX, Duration::from_secs(1))
            .child_shutdown(Shutdown::Infinity)
            .mailbox(mailbox);
        let (child, bulbs) = LightSupervisor::child_spec(spec);
        let spec = SupervisorSpec::new("top").child(child);
        let root = Root::start(spec, Clock::start(), Options::default()).await.unwrap();
        let notes = Arc::<Notes>::default();
        let bulb = bulbs.start_child("a", notes.clone()).await.unwrap();
        Self { root: Arc::new(root), bulbs, bulb, notes }
    }

    /// Sends so many that are handled, and then one that fails; answers how many were taken.
    fn flicker(&self, count: usize) -> usize {
        let last = (0..count).map(|place| place + 1 < count);
        last.filter(|lasts| self.bulb.cast(*lasts).is_ok()).count()
    }

    async fn end(&self) {
        self.root.shutdown().await;
        assert_eq!(self.notes.alive.load(SeqCst), 0, "a state is left");
        assert!(self.bulb.whereis().is_none());
    }
}

/// A restart against `terminate_child`, and a start of the same id against both.
#[test]
fn what_is_terminated_stays_so_and_its_id_is_free() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::default()).await;
            let (own, other) = (world.clone(), world.clone());
            let fails = spawn(async move { own.flicker(2) });
            let starts =
                spawn(async move { other.bulbs.start_child("a", other.notes.clone()).await });
            world.bulbs.terminate_child("a").await.unwrap();
            // That one is over, whoever has its id now.
            assert!(world.bulb.whereis().is_none());
            assert!(world.bulb.cast(true).is_err());
            fails.await.unwrap();
            let present = world.bulbs.find("a");
            match starts.await.unwrap() {
                Ok(_) => assert!(world.bulbs.find("a").is_some()),
                Err(RequestError::AlreadyStarted(_) | RequestError::Restarting(_)) => {
                    assert!(present.is_none() && world.bulbs.find("a").is_none());
                }
                Err(other) => panic!("{other}"),
            }
            let alive = world.notes.alive.load(SeqCst);
            assert_eq!(world.bulbs.count_children().unwrap().active, alive);
            world.end().await;
        });
    });
}

/// Two who terminate it at once: one does, and the other waits or finds nothing.
#[test]
fn two_who_terminate_it_both_see_it_gone() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::default()).await;
            let terminates = [(); 2].map(|()| {
                let world = world.clone();
                spawn(async move {
                    let answer = world.bulbs.terminate_child("a").await;
                    assert!(world.bulb.whereis().is_none());
                    answer
                })
            });
            world.flicker(1);
            for terminated in terminates {
                let answer = terminated.await.unwrap();
                assert!(matches!(answer, Ok(()) | Err(RequestError::NotFound(_))), "{answer:?}");
            }
            assert_eq!(world.bulbs.count_children().unwrap().specs, 0);
            world.end().await;
        });
    });
}

/// Casts against failures: what was taken is handled, or told as undelivered.
#[test]
fn what_is_sent_while_it_falls_is_handled_or_undelivered_or_refused() {
    for policy in [Overflow::Reject, Overflow::Wait] {
        check(move || {
            block_on(async {
                let world = World::start(Mailbox::new(2).overflow(policy)).await;
                let mut told = world.root.tree().lifecycle();
                let casts = [2, 3].map(|count| {
                    let world = world.clone();
                    spawn(async move { world.flicker(count) })
                });
                let mut taken = 0;
                for cast in casts {
                    taken += cast.await.unwrap();
                }
                world.end().await;
                let undelivered: u64 = std::iter::from_fn(|| told.try_next())
                    .map(|news| match news.event {
                        LifecycleEvent::Undelivered { count } => count,
                        _ => 0,
                    })
                    .sum();
                let handled = world.notes.handled.load(SeqCst) as u64;
                assert_eq!(handled + undelivered, taken as u64);
            });
        });
    }
}

/// A start against the stop of the supervisor: it is refused, or what was started has ended with it.
#[test]
fn a_start_against_the_stop_leaves_nothing() {
    check(|| {
        block_on(async {
            let world = World::start(Mailbox::default()).await;
            let own = world.clone();
            let starts = spawn(async move {
                let started = own.bulbs.start_child("b", own.notes.clone()).await;
                assert!(matches!(started, Ok(_) | Err(RequestError::NoProc)), "{started:?}");
            });
            world.flicker(1);
            world.end().await;
            starts.await.unwrap();
            assert_eq!(world.notes.alive.load(SeqCst), 0, "one was started behind the end");
        });
    });
}
