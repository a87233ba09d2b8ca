//! What the clients of a schedule meet in: a tree, and what must hold of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use perennial_core::{Overflow, Restart, tree::NodeState};
use perennial_supervision::{
    Address, ChildInfo, ChildSpec, ChildStatus, Clock, DynamicSupervisor, DynamicSupervisorSpec,
    Lifecycle, LifecycleEvent, LifecycleStream, Mailbox, Options, Registry, RegistrySpec, Root,
    Supervisor, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
};

use super::clerk::{Clerk, Rooms, Say, Tally};
use crate::probe::SOON;

pub(super) const KEYS: u8 = 3;
/// Longer than anything here takes on the clock that nobody waits for.
pub(super) const HANGS: Duration = Duration::from_secs(600);

/// One server that is declared, and what a client holds of it.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) id: String,
    pub(super) spec: ChildSpec,
    pub(super) address: Address<Say>,
    pub(super) tally: Arc<Tally>,
    /// Whether every message is told to somebody: taken, refused or undelivered.
    pub(super) exact: bool,
}

impl Desk {
    pub(super) fn new(id: &str, mailbox: Mailbox, rooms: &Rooms) -> Self {
        let tally = Arc::<Tally>::default();
        let (own, rooms) = (tally.clone(), rooms.clone());
        let (spec, address) = ChildSpec::server::<Clerk>(id, move || (own.clone(), rooms.clone()));
        Self { id: id.to_owned(), spec: spec.mailbox(mailbox), address, tally, exact: true }
    }
}

pub(super) struct Office {
    pub(super) root: Root,
    pub(super) fixed: Supervisor,
    pub(super) pool: DynamicSupervisor,
    pub(super) tasks: TaskSupervisor,
    pub(super) rooms: Rooms,
    pub(super) desks: Vec<Desk>,
    /// Those that came below the pool.
    pub(super) hired: Mutex<Vec<Desk>>,
    /// The shutdown has begun.
    pub(super) closing: AtomicBool,
}

impl Office {
    pub(super) async fn open() -> (Arc<Self>, LifecycleStream) {
        let (registry, rooms) = Registry::child_spec(RegistrySpec::unique("rooms")).unwrap();
        let policies = [
            (2, Overflow::Reject, Restart::Permanent, None),
            (1, Overflow::Wait, Restart::Permanent, Some(Duration::from_millis(1))),
            (2, Overflow::DropOldest, Restart::Transient, None),
            (2, Overflow::DropNewest, Restart::Permanent, Some(Duration::ZERO)),
        ];
        let (mut desks, mut spec) =
            (Vec::new(), SupervisorSpec::new("fixed").intensity(u32::MAX, SOON));
        for (number, (room, overflow, restart, delay)) in policies.into_iter().enumerate() {
            let mailbox = Mailbox::new(room).overflow(overflow);
            let mut desk = Desk::new(&format!("desk{number}"), mailbox, &rooms);
            desk.exact = matches!(overflow, Overflow::Reject | Overflow::Wait);
            desk.spec = desk.spec.restart(restart);
            if let Some(delay) = delay {
                desk.spec = desk.spec.restart_delay(delay);
            }
            // The first start of each works.
            spec = spec.child(desk.spec.clone());
            desks.push(desk);
        }
        let (fixed, supervisor) = Supervisor::child_spec(spec);
        let pool = DynamicSupervisorSpec::new("pool", 4).intensity(u32::MAX, SOON);
        let (pool, hires) = DynamicSupervisor::child_spec(pool);
        let tasks = TaskSupervisorSpec::new("tasks", 6);
        let (tasks, works) = TaskSupervisor::child_spec(tasks);
        let top = SupervisorSpec::new("top").intensity(u32::MAX, SOON);
        let top = top.child(registry).child(fixed).child(pool).child(tasks);
        let root = Root::start(top, Clock::start(), Options::default()).await.unwrap();
        let told = root.tree().lifecycle();
        let office = Self {
            root,
            fixed: supervisor,
            pool: hires,
            tasks: works,
            rooms,
            desks,
            hired: Mutex::default(),
            closing: AtomicBool::new(false),
        };
        (Arc::new(office), told)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// Nobody that has a key is dead. Nothing else runs meanwhile.
    pub(super) fn the_dead_hold_no_keys(&self) {
        let found = (0..KEYS).filter_map(|key| self.rooms.get(&key).ok().flatten());
        for entry in found {
            assert!(entry.process.is_alive(), "{} is dead and has a key", entry.process);
        }
    }

    /// Nobody does anything: lists, counts, addresses, keys and the dump tell the same.
    pub(super) async fn agrees_at_rest(&self) {
        // On a paused clock: whatever waits to be restarted is.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let nodes = self.root.tree().nodes();
        let state_of = |path: &str| nodes.iter().find(|node| node.path == path).map(|it| it.state);
        let mut listed = 1;
        let mut below: Vec<ChildInfo> = self.root.supervisor().which_children().unwrap();
        while let Some(child) = below.pop() {
            let state = state_of(child.path());
            let expected = match child.status {
                ChildStatus::Running => NodeState::Running,
                ChildStatus::Stopped => NodeState::Stopped,
                ChildStatus::Restarting => panic!("{} is not at rest: {state:?}", child.path()),
            };
            assert_eq!(state, Some(expected), "{}", child.path());
            assert_eq!(child.process.is_some(), expected == NodeState::Running, "{child:?}");
            below.extend(child.which_children());
            listed += 1;
        }
        assert_eq!(listed, nodes.len(), "the dump tells of others than the lists");
        let children = self.fixed.which_children().unwrap();
        let counts = self.fixed.count_children().unwrap();
        let running = children.iter().filter(|it| it.status == ChildStatus::Running).count();
        assert_eq!((counts.specs, counts.active), (children.len(), running));
        for desk in &self.desks {
            let child = children.iter().find(|child| child.name() == desk.id);
            let process = child.and_then(|child| child.process.clone());
            assert_eq!(desk.address.whereis(), process, "{}", desk.id);
        }
        let found = (0..KEYS).filter(|key| self.rooms.get(key).unwrap().is_some()).count();
        assert_eq!(self.rooms.count().unwrap(), found as u64, "a key is left");
        self.the_dead_hold_no_keys();
    }

    /// Everybody is told what became of every message, and nothing is left.
    pub(super) fn balances(&self, events: &[Lifecycle]) {
        let mut undelivered: BTreeMap<&str, u64> = BTreeMap::new();
        for told in events {
            if let LifecycleEvent::Undelivered { count } = told.event {
                *undelivered.entry(told.name()).or_default() += count;
            }
        }
        let hired = self.hired.lock().unwrap();
        for desk in self.desks.iter().chain(hired.iter()) {
            let read = |count: &std::sync::atomic::AtomicU64| count.load(SeqCst);
            let Tally { made, dropped, handled, refused, unknown, begun, over } = &*desk.tally;
            assert_eq!(read(made), read(dropped), "{}: a message is left", desk.id);
            assert_eq!(read(begun), read(over), "{}: a state is left", desk.id);
            let lost = undelivered.get(desk.id.as_str()).copied().unwrap_or_default();
            let told = read(handled) + read(refused) + lost;
            assert!(told <= read(made), "{}: {lost} {:?}", desk.id, desk.tally);
            let most = told + read(unknown);
            assert!(!desk.exact || read(made) <= most, "{}: {lost} {:?}", desk.id, desk.tally);
        }
    }
}

/// Each incarnation has one end; one follows the other.
pub(super) fn each_life_ends_once(events: &[Lifecycle]) {
    let mut running: BTreeMap<&str, u64> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for told in events {
        let path = told.path.as_str();
        if let LifecycleEvent::Started { incarnation, .. } = &told.event {
            let before = running.insert(path, *incarnation);
            assert_eq!(before, None, "two lives of {path}");
        }
        if let LifecycleEvent::Exited { incarnation, .. } = &told.event {
            // Those that are declared started before anybody listened.
            let is_first = !last.contains_key(path) && *incarnation == 1;
            let started = running.remove(path).or(is_first.then_some(1));
            assert_eq!(started, Some(*incarnation), "an end too many of {path}");
            last.insert(path, *incarnation);
        }
    }
    assert!(running.is_empty(), "these have no end: {running:?}");
}

/// All that is told until the root has ended.
pub(super) async fn record(mut told: LifecycleStream) -> Vec<Lifecycle> {
    let mut events = Vec::new();
    while let Some(event) = told.next().await {
        let over = event.path == "/top" && matches!(event.event, LifecycleEvent::Exited { .. });
        events.push(event);
        if over {
            break;
        }
    }
    assert_eq!(told.missed(), 0, "the recorder is too slow");
    events
}
