//! Clients that start, stop, kill and flood light servers at once, by chance that can be had again.
//!
//! `PERENNIAL_STORM_SEEDS=500` runs that many seeds; `PERENNIAL_STORM_FIRST` sets the first one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use perennial_core::supervisor::RestartDelay;
use perennial_supervision::{
    CallError, CastError, ExitReason, LifecycleEvent, LifecycleStream, LightSupervisor,
    LightSupervisorSpec, Mailbox, Overflow, RequestError, Restart, Root, Shutdown,
};
use tokio::sync::oneshot;

use super::lamp::{Begin, Finish, Lamp, Say, Wire, error, lamps};
use crate::{
    dice::Dice,
    probe::SOON,
    storm::setting,
};

/// What was done with all messages.
#[derive(Default)]
struct Account {
    sent: AtomicU64,
    taken: AtomicU64,
}

struct Client {
    name: usize,
    dice: Dice,
    root: Arc<Root>,
    lamps: LightSupervisor<Lamp>,
    wire: Wire,
    account: Arc<Account>,
    restart: Restart,
}

impl Client {
    async fn acts(mut self, steps: usize) {
        for _ in 0..steps {
            let id = format!("{}-{}", self.name, self.dice.roll(3));
            match self.dice.roll(12) {
                0..3 => self.starts(&id).await,
                3 => self.terminates(&id).await,
                4 => {
                    // Nothing may run there.
                    let _ = self.root.tree().kill(&format!("/top/lamps/{id}"));
                }
                5 => {
                    let _ = self.root.tree().crash(&format!("/top/lamps/{id}"));
                }
                6 => {
                    if let Some(lamp) = self.lamps.find(&id) {
                        let called = lamp.call(Say::Ask, Duration::from_secs(2)).await;
                        assert!(!matches!(called, Err(CallError::CallingSelf)));
                    }
                }
                7 => {
                    if let Some(lamp) = self.lamps.find(&id) {
                        // Whatever it says.
                        let _ = lamp.stop(error("asked"), Duration::from_secs(2)).await;
                    }
                }
                8 => {
                    let reason = *self.dice.pick(&["normal", "error"]);
                    let reason =
                        if reason == "normal" { ExitReason::Normal } else { error("failed") };
                    self.tells(&id, Say::Stop(reason));
                }
                9 => self.tells(&id, Say::Hold(oneshot::channel().1)),
                10 => {
                    let how = self.dice.roll(3);
                    match how {
                        0 => self.wire.begin(Begin::Fail),
                        1 => self.wire.begin(Begin::Ignore),
                        _ => self.wire.finish(Finish::Hang),
                    }
                }
                _ => {
                    for _ in 0..self.dice.roll(6) {
                        self.tells(&id, Say::Note("x"));
                    }
                }
            }
            match self.dice.roll(4) {
                0 => tokio::time::advance(Duration::from_millis(300)).await,
                1 => tokio::task::yield_now().await,
                _ => (),
            }
        }
    }

    fn tells(&self, id: &str, say: Say) {
        if let Some(lamp) = self.lamps.find(id) {
            self.account.sent.fetch_add(1, Relaxed);
            match lamp.cast(say) {
                Ok(()) => {
                    self.account.taken.fetch_add(1, Relaxed);
                }
                Err(CastError::NoProc | CastError::Full) => (),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    async fn starts(&self, id: &str) {
        match self.lamps.start_child(id, self.wire.clone()).await {
            Ok(_)
            | Err(
                RequestError::AlreadyStarted(_)
                | RequestError::Restarting(_)
                | RequestError::StartFailed(_)
                | RequestError::Ignore
                | RequestError::MaxChildren(_)
                | RequestError::NoProc,
            ) => (),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Nobody else starts one of this id.
    async fn terminates(&self, id: &str) {
        let lamp = self.lamps.find(id);
        match self.lamps.terminate_child(id).await {
            Ok(()) => {
                assert!(self.lamps.find(id).is_none(), "{id} is there after its termination");
                if let Some(lamp) = lamp {
                    assert_eq!(lamp.whereis(), None);
                    let called = lamp.call(Say::Ask, SOON).await;
                    assert_eq!(called, Err(CallError::NoProc), "{id} came back ({})", self.restart);
                }
            }
            Err(RequestError::NotFound(_) | RequestError::NoProc) => (),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Starts and ends alternate at each path, and what was not delivered was told in between.
fn judge(events: &mut LifecycleStream) -> (u64, u64) {
    let mut alive: BTreeMap<String, u64> = BTreeMap::new();
    let (mut starts, mut undelivered) = (0, 0);
    while let Some(event) = events.try_next() {
        if !event.path.starts_with("/top/lamps/") {
            continue;
        }
        match event.event {
            LifecycleEvent::Started { incarnation, .. } => {
                starts += 1;
                let before = alive.insert(event.path.clone(), incarnation);
                assert_eq!(before, None, "two incarnations at {}", event.path);
            }
            LifecycleEvent::Exited { incarnation, .. } => {
                assert_eq!(alive.remove(&event.path), Some(incarnation), "{}", event.path);
            }
            LifecycleEvent::Undelivered { count } => undelivered += count,
            _ => (),
        }
    }
    assert!(alive.is_empty(), "without an end: {alive:?}");
    (starts, undelivered)
}

async fn storm(seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let restart = *dice.pick(&[Restart::Permanent, Restart::Transient, Restart::Temporary]);
    let overflow = *dice.pick(&[Overflow::Reject, Overflow::Wait, Overflow::DropNewest]);
    let mut spec = LightSupervisorSpec::new("lamps", 6)
        .child_restart(restart)
        .mailbox(Mailbox::new(4).overflow(overflow))
        .child_shutdown(Shutdown::Timeout(Duration::from_secs(1)))
        .start_within(Duration::from_secs(1))
        .stops_in_order(dice.once_in(2));
    spec = if dice.once_in(3) {
        spec.intensity(3, Duration::from_secs(5))
    } else {
        spec.intensity(10_000, Duration::from_secs(5))
    };
    if dice.once_in(3) {
        spec = spec.child_budget(2, Duration::from_secs(5));
    }
    if dice.once_in(3) {
        spec = spec.restart_backoff(RestartDelay::constant(Duration::from_millis(400)));
    }
    let (root, lamps, wire) = lamps(spec).await;
    let mut events = root.tree().lifecycle();
    let (root, account) = (Arc::new(root), Arc::new(Account::default()));
    let clients = (0..3).map(|name| {
        let client = Client {
            name,
            dice: Dice(dice.0 ^ (name as u64 + 1)),
            root: root.clone(),
            lamps: lamps.clone(),
            wire: wire.clone(),
            account: account.clone(),
            restart,
        };
        tokio::spawn(client.acts(25))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let left = lamps.which_children().map_or(0, |lines| lines.len());
    assert!(left <= 6, "{left}");
    Arc::into_inner(root).unwrap().shutdown().await;
    assert!(lamps.find("0-0").is_none());
    let (starts, undelivered) = judge(&mut events);
    let notes = wire.did().iter().filter(|what| *what == "x").count() as u64;
    let (sent, taken) = (account.sent.load(Relaxed), account.taken.load(Relaxed));
    assert!(notes + undelivered <= taken + sent, "{notes} and {undelivered} of {taken}");
    // Of the executor nothing is left but this.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    starts
}

#[test]
fn chance_breaks_no_promise() {
    let (first, count) = (setting("PERENNIAL_STORM_FIRST", 1), setting("PERENNIAL_STORM_SEEDS", 200));
    let mut starts = 0;
    for seed in first..first + count {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        println!("seed {seed}");
        starts += executor.block_on(storm(seed));
    }
    assert!(starts > count, "{starts} starts in {count} storms");
}
