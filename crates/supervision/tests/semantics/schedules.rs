//! Schedules by seed: several clients do random things with one tree at once, and let each other go on at random
//! moments. One thread, a paused clock: a seed is a schedule, and can be had again.
//!
//! `PERENNIAL_SCHEDULES=10000` runs that many; `PERENNIAL_SCHEDULE_FIRST` sets the first seed.

mod clerk;
mod office;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::StreamExt;
use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    CallError, CastError, ChildRef, ChildStatus, Lifecycle, Mailbox, ProcessRef, Reply,
    RequestError, SendError, StreamOptions,
};

use self::{
    clerk::{How, Parcel, Say, yields},
    office::{Desk, HANGS, KEYS, Office, each_life_ends_once, record},
};
use crate::dice::Dice;

const CLIENTS: usize = 4;
const STEPS: usize = 14;

/// One of those who do things. Only it starts and terminates its own desk.
struct Client {
    office: Arc<Office>,
    dice: Dice,
    name: usize,
    own: Desk,
    /// Its own desk is terminated, under this life of the supervisor.
    terminated: Option<ProcessRef>,
    hired: Vec<ChildRef>,
}

impl Client {
    async fn works(mut self) {
        for step in 0..STEPS {
            let what = self.dice.roll(18);
            let doing = Box::pin(self.step(step, what));
            let done = tokio::time::timeout(HANGS, doing).await;
            assert!(done.is_ok(), "step {step} of client {}, a {what}, hangs", self.name);
            self.stays_terminated();
            self.office.the_dead_hold_no_keys();
            yields(self.dice.roll(4)).await;
        }
    }

    /// What it terminated does not come back, other than with the whole supervisor.
    fn stays_terminated(&self) {
        let Some(supervisor) = &self.terminated else { return };
        if self.supervisor().as_ref() != Some(supervisor) || self.office.is_closing() {
            return;
        }
        match self.office.fixed.which_child(self.own.id.as_str()) {
            Ok(child) => {
                let found = (child.status, child.process, self.own.address.whereis());
                assert_eq!(found, (ChildStatus::Stopped, None, None), "{} came back", self.own.id);
            }
            // Behind the look it ended.
            Err(error) => assert_eq!(error, RequestError::NotFound(self.own.id.as_str().into())),
        }
    }

    fn supervisor(&self) -> Option<ProcessRef> {
        self.office.root.supervisor().which_child("fixed").ok()?.process
    }

    async fn step(&mut self, step: usize, what: usize) {
        match what {
            0..=3 => self.request(what).await,
            4 | 5 => self.hit(what == 4).await,
            6..=8 => self.cast(),
            9 | 10 => self.call().await,
            11 => self.send().await,
            12 | 13 => self.key(what == 12).await,
            14 => {
                let reasons = [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Timeout];
                let (desk, reason) = (self.desk(), self.dice.pick(&reasons).clone());
                // Whatever it answers, it answers.
                let _ = desk.address.stop(reason, Duration::from_millis(3)).await;
            }
            15 => self.stream().await,
            _ => self.hire(step).await,
        }
    }

    fn desk(&mut self) -> Desk {
        let desks = self.office.desks.len();
        let hired: Vec<Desk> = self.office.hired.lock().unwrap().clone();
        match self.dice.roll(desks + 2).checked_sub(desks) {
            Some(_) if !hired.is_empty() => self.dice.pick(&hired).clone(),
            Some(place) => self.office.desks[place].clone(),
            None => self.dice.pick(&self.office.desks).clone(),
        }
    }

    async fn request(&mut self, what: usize) {
        let fixed = self.office.fixed.clone();
        let id = self.own.id.clone();
        let before = self.supervisor();
        match what {
            0 | 1 => {
                if fixed.terminate_child(id.as_str()).await.is_ok() {
                    self.terminated = before.filter(|it| self.supervisor().as_ref() == Some(it));
                }
            }
            2 => {
                self.terminated = None;
                match fixed.restart_child(id.as_str()).await {
                    Ok(start) => assert!(start.process.is_some()),
                    Err(RequestError::NotFound(_)) => {
                        drop(fixed.start_child(self.own.spec.clone()).await);
                    }
                    Err(_) => (),
                }
            }
            _ => {
                // Only what does not run can be deleted.
                let was = self.terminated.clone();
                let deleted = fixed.delete_child(id.as_str()).await;
                let same = was.is_some() && self.supervisor() == was;
                if same && !self.office.is_closing() {
                    let missing = RequestError::NotFound(id.as_str().into());
                    assert!(deleted.is_ok() || deleted == Err(missing), "{deleted:?}");
                }
            }
        }
    }

    /// A kill, or a panic in its own code path.
    async fn hit(&mut self, kills: bool) {
        let supervisors = ["/top/fixed", "/top/pool", "/top/tasks", "/top/rooms", "/top/rooms/0"];
        let path = if self.dice.once_in(8) {
            (*self.dice.pick(&supervisors)).to_owned()
        } else {
            let desk = self.desk();
            let above = if desk.id.starts_with("desk") { "fixed" } else { "pool" };
            format!("/top/{above}/{}", desk.id)
        };
        let tree = self.office.root.tree();
        let hit = if kills { tree.kill(&path) } else { tree.crash(&path) };
        if let (Ok(victim), true) = (hit, kills && self.dice.once_in(2)) {
            victim.exit().await;
        }
    }

    fn parcel(&mut self, desk: &Desk) -> Say {
        let hows = [How::Works, How::Works, How::Works, How::Fails, How::Panics, How::Stops];
        Say::Do(Parcel::new(&desk.tally), self.dice.roll(3), *self.dice.pick(&hows))
    }

    fn cast(&mut self) {
        let desk = self.desk();
        let parcel = self.parcel(&desk);
        match desk.address.cast(parcel) {
            Ok(()) => (),
            Err(CastError::NoProc | CastError::Full) => {
                desk.tally.refused.fetch_add(1, SeqCst);
            }
            Err(other) => panic!("{other}"),
        }
    }

    async fn call(&mut self) {
        let (desk, turns) = (self.desk(), self.dice.roll(3));
        drop(asks(&desk, |parcel, reply| Say::Ask(parcel, turns, reply)).await);
    }

    /// Waits for room, and gives up where that takes long.
    async fn send(&mut self) {
        let desk = self.desk();
        let parcel = self.parcel(&desk);
        let within = Duration::from_millis(self.dice.roll(3) as u64 + 1);
        match desk.address.send(parcel, within).await {
            Ok(()) => (),
            Err(
                SendError::NoProc | SendError::Full | SendError::Exited(_) | SendError::Timeout,
            ) => {
                desk.tally.refused.fetch_add(1, SeqCst);
            }
            Err(other) => panic!("{other}"),
        }
    }

    async fn key(&mut self, registers: bool) {
        let key = u8::try_from(self.dice.roll(usize::from(KEYS))).unwrap();
        let desk = self.desk();
        // It may end meanwhile, or have no room; somebody else may have the key, or nobody.
        if registers {
            drop(asks(&desk, |parcel, reply| Say::Register(parcel, key, reply)).await);
        } else {
            drop(asks(&desk, |parcel, reply| Say::Unregister(parcel, key, reply)).await);
        }
    }

    /// Some elements of a stream, which is dropped somewhere.
    async fn stream(&mut self) {
        let work = |turns: usize| async move {
            yields(turns).await;
            assert!(turns < 3, "asked to panic");
            turns
        };
        let items: Vec<usize> = (0..self.dice.roll(5)).map(|_| self.dice.roll(4)).collect();
        let taken = self.dice.roll(items.len() + 1);
        let options = StreamOptions::new().max_concurrency(self.dice.roll(3) + 1);
        let options = if self.dice.once_in(2) { options.pooled() } else { options };
        let expected: Vec<bool> = items.iter().map(|it| *it < 3).collect();
        let stream = self.office.tasks.async_stream_nolink(items, work, options).unwrap();
        let results: Vec<_> = stream.take(taken).collect().await;
        let same = |(result, works): (&Result<_, _>, &bool)| result.is_ok() == *works;
        let whole = results.len() == taken && results.iter().zip(&expected).all(same);
        let refused = results.iter().any(|it| it.is_err());
        assert!(whole || refused, "{results:?} of {expected:?}");
    }

    /// One more below the pool, or one less.
    async fn hire(&mut self, step: usize) {
        if self.dice.once_in(3)
            && let Some(child) = self.hired.pop()
        {
            if self.office.pool.terminate_child(&child).await.is_ok() {
                assert_eq!(child.now(), None, "it stays terminated");
                assert!(!child.process().is_alive());
            }
            return;
        }
        let desk =
            Desk::new(&format!("hired{}-{step}", self.name), Mailbox::new(2), &self.office.rooms);
        let restarts = [Restart::Temporary, Restart::Permanent, Restart::Transient];
        let spec = desk.spec.clone().restart(*self.dice.pick(&restarts));
        self.office.hired.lock().unwrap().push(desk);
        if let Ok(child) = self.office.pool.start_child(spec).await {
            self.hired.push(child);
        }
    }
}

/// A call, and what becomes of its parcel.
async fn asks<R: Send + 'static>(
    desk: &Desk,
    say: impl FnOnce(Parcel, Reply<R>) -> Say,
) -> Result<R, CallError> {
    let mut made = false;
    let request = |reply| {
        made = true;
        say(Parcel::new(&desk.tally), reply)
    };
    let answer = desk.address.call(request, Duration::from_millis(2)).await;
    match &answer {
        Ok(_) => assert!(made),
        Err(CallError::Full) => drop(desk.tally.refused.fetch_add(1, SeqCst)),
        // It may have been on its way.
        Err(_) if made => drop(desk.tally.unknown.fetch_add(1, SeqCst)),
        Err(_) => (),
    }
    answer
}

/// One schedule. Answers what was told.
async fn schedule(seed: u64) -> Vec<Lifecycle> {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let mut dice = Dice(seed);
    let (office, told) = Office::open().await;
    #[expect(clippy::disallowed_methods, reason = "tests are outside the tree")]
    let recorder = tokio::spawn(record(told));
    let clients = (0..CLIENTS).map(|name| {
        let client = Client {
            office: office.clone(),
            dice: Dice(dice.0 ^ (name as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            name,
            own: office.desks[name].clone(),
            terminated: None,
            hired: Vec::new(),
        };
        #[expect(clippy::disallowed_methods, reason = "tests are outside the tree")]
        tokio::spawn(client.works())
    });
    let clients: Vec<_> = clients.collect();
    // One in four is shut down while they are at it.
    let clients = if dice.once_in(4) {
        yields(dice.roll(120)).await;
        clients
    } else {
        join(clients).await;
        office.agrees_at_rest().await;
        Vec::new()
    };
    close(&office, recorder, clients, before).await
}

type Spawned<T> = tokio::task::JoinHandle<T>;

async fn join(clients: Vec<Spawned<()>>) {
    for client in clients {
        if let Err(failure) = client.await {
            std::panic::resume_unwind(failure.into_panic());
        }
    }
}

async fn close(
    office: &Arc<Office>,
    recorder: Spawned<Vec<Lifecycle>>,
    clients: Vec<Spawned<()>>,
    before: usize,
) -> Vec<Lifecycle> {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    office.closing.store(true, SeqCst);
    let report = office.root.shutdown().await;
    assert_eq!((report.reason, report.unkillable), (ExitReason::Shutdown, Vec::new()));
    join(clients).await;
    let events = recorder.await.unwrap();
    for desk in &office.desks {
        assert_eq!(desk.address.whereis(), None);
        let answer = asks(desk, |parcel, reply| Say::Ask(parcel, 0, reply)).await;
        assert_eq!(answer, Err(CallError::NoProc));
    }
    assert!(office.rooms.count().is_err(), "the registry runs");
    // The last tasks have told of their ends, and return: so many turns are more than enough.
    for _ in 0..1_000 {
        if alive() == before {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(alive(), before, "tasks are left");
    each_life_ends_once(&events);
    office.balances(&events);
    events
}

fn run(seed: u64) -> Vec<Lifecycle> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(schedule(seed))
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_clients_do_at_once_nothing_is_lost_and_nothing_is_left() {
    let first = setting("PERENNIAL_SCHEDULE_FIRST", 1);
    let end = first + setting("PERENNIAL_SCHEDULES", 500);
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let events = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, SeqCst);
            if seed >= end || failed.lock().unwrap().len() >= 3 {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(told) => drop(events.fetch_add(told.len() as u64, SeqCst)),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).into()));
                    failed.lock().unwrap().push((seed, text.unwrap_or_default()));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    println!("seeds {first} to {}: {} events", end - 1, events.into_inner());
    let failed = failed.into_inner().unwrap();
    let again = |(seed, why): &(u64, String)| {
        format!("PERENNIAL_SCHEDULE_FIRST={seed} PERENNIAL_SCHEDULES=1: {why}")
    };
    let failed: Vec<String> = failed.iter().map(again).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What happened, without pids and instants.
fn story(events: &[Lifecycle]) -> Vec<String> {
    let line = |told: &Lifecycle| format!("{} {}", told.path, discriminant(told));
    events.iter().map(line).collect()
}

fn discriminant(told: &Lifecycle) -> String {
    let text = format!("{:?}", told.event);
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn a_seed_is_a_schedule_that_can_be_had_again() {
    for seed in 1..=20 {
        assert_eq!(story(&run(seed)), story(&run(seed)), "seed {seed}");
    }
}
