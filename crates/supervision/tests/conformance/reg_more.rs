//! Registries: names of children, dispatch, selections, listeners, locks, partitions.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use perennial_core::{ExitReason, Restart};
use perennial_supervision::{
    Agent, CallError, CastError, Duplicate, DynamicSupervisor, DynamicSupervisorSpec, LockError,
    Registry, RegistryError, RegistryEvent, RegistrySpec, RequestError, SendError, StartFault,
    StopError, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec, Unique,
};

use crate::{
    fixture::{Gate, child, idle, start_error},
    gs_server::pending,
    harness::proves,
    probe::{Log, Message, Probe, SOON, root, until},
    reg_world::{Actor, World, pairs},
};

type Rooms = Registry<String, u32, Unique>;

fn rooms(partitions: usize) -> (perennial_supervision::ChildSpec, Rooms) {
    Registry::child_spec(RegistrySpec::unique("rooms").partitions(partitions)).unwrap()
}

proves!(a_child_is_reached_by_its_key, ["REG-020", "REG-021", "REG-022", "REG-025"]);
async fn a_child_is_reached_by_its_key() {
    let (registry, rooms) = rooms(2);
    let log = Log::default();
    let (spec, probe) = Probe::new("a", &log);
    let inside = rooms.clone();
    let gate = Gate::new();
    let slow = gate.clone();
    let claims = child("slow", move || {
        let (rooms, gate) = (inside.clone(), slow.clone());
        async move {
            assert!(rooms.whereis("slow").unwrap().is_some(), "before its init");
            gate.pass().await;
            Ok(())
        }
    });
    let (starts_spec, _) = DynamicSupervisor::child_spec(DynamicSupervisorSpec::new("starts", 5));
    let top = SupervisorSpec::new("top")
        .child(registry)
        .child(spec.via(&rooms, "room".to_owned(), 7))
        .child(starts_spec.via(&rooms, "starts".to_owned(), 0));
    let root = root(top).await;
    // All that an address is used for.
    let via = rooms.via::<Message>("room");
    assert_eq!(via.call(Message::Ping, SOON).await, Ok(1));
    assert_eq!(via.send_request(Message::Ping).wait(SOON).await.unwrap(), 2);
    via.cast(Message::Work("cast")).unwrap();
    via.send(Message::Work("sent"), SOON).await.unwrap();
    assert_eq!(via.call(Message::Ping, SOON).await, Ok(3));
    let did: Vec<_> = log.take().into_iter().filter(|line| line.contains("worked")).collect();
    assert_eq!(did, ["a worked cast", "a worked sent"]);
    assert_eq!(via.whereis(), probe.address.whereis());
    assert_eq!(*rooms.get("room").unwrap().unwrap().value, 7, "registered with the key");
    // And what a supervisor's handle is.
    let starts: DynamicSupervisor = rooms.handle("starts").unwrap().unwrap();
    let second = Probe::new("b", &log).0.via(&rooms, "room".to_owned(), 8);
    let refused = starts.start_child(second.clone()).await.unwrap_err();
    assert_eq!(refused, RequestError::AlreadyStarted(probe.address.whereis().unwrap()));
    let refused = root.supervisor().start_child(second).await.unwrap_err();
    assert_eq!(refused, RequestError::AlreadyStarted(probe.address.whereis().unwrap()));
    assert_eq!(*rooms.get("room").unwrap().unwrap().value, 7);
    let slow = pin!(starts.start_child(claims.via(&rooms, "slow".to_owned(), 0)));
    let mut slow = slow;
    pending(slow.as_mut()).await;
    gate.open();
    slow.await.unwrap();
    // An end that is asked for by the key; the next incarnation has it again.
    let mut down = via.monitor();
    via.stop(ExitReason::Shutdown, SOON).await.unwrap();
    assert_eq!(down.down().await, ExitReason::Shutdown);
    assert_eq!(via.call(Message::Ping, SOON).await, Ok(1));
    // Nobody is there.
    let nobody = rooms.via::<Message>("nobody");
    assert_eq!(nobody.call(Message::Ping, SOON).await, Err(CallError::NoProc));
    assert_eq!(nobody.cast(Message::Work("x")), Err(CastError::NoProc));
    assert_eq!(nobody.send(Message::Work("x"), SOON).await, Err(SendError::NoProc));
    assert_eq!(nobody.stop(ExitReason::Normal, SOON).await, Err(StopError::NoProc));
    assert_eq!(nobody.monitor().down().await, ExitReason::NoProc);
    root.shutdown().await;
}

proves!(a_dead_holder_is_nobody_and_a_restart_finds_its_key_free, ["REG-023"]);
async fn a_dead_holder_is_nobody_and_a_restart_finds_its_key_free() {
    let (registry, rooms) = rooms(1);
    let log = Log::default();
    let (spec, probe) = Probe::new("a", &log);
    let spec = spec.via(&rooms, "room".to_owned(), 1).restart(Restart::Temporary);
    let root = root(SupervisorSpec::new("top").child(registry).child(spec)).await;
    let holder = rooms.whereis("room").unwrap().unwrap();
    // The end is seen by whoever watches no earlier than the key is free.
    let mut down = holder.monitor();
    probe.end(|| Message::Panic).await;
    down.down().await;
    assert!(rooms.whereis("room").unwrap().is_none());
    assert_eq!(rooms.via::<Message>("room").whereis(), None);
    assert!(rooms.handle::<perennial_supervision::Address<Message>, _>("room").unwrap().is_none());
    root.shutdown().await;
}

proves!(a_child_with_a_key_comes_back_hundreds_of_times, ["REG-024"]);
async fn a_child_with_a_key_comes_back_hundreds_of_times() {
    let (registry, rooms) = rooms(1);
    let (spec, agent) = Agent::child_spec("a", || 0_u32);
    let spec = spec.via(&rooms, "room".to_owned(), 1);
    let top = SupervisorSpec::new("top").intensity(1_000, SOON).child(registry).child(spec);
    let root = root(top).await;
    for _ in 0..500 {
        let before = rooms.whereis("room").unwrap().unwrap();
        agent.get(|_| panic!("again"), SOON).await.unwrap_err();
        agent.get(|_| (), SOON).await.unwrap();
        assert_ne!(rooms.whereis("room").unwrap().unwrap(), before);
    }
    let node = root.tree().nodes().into_iter().find(|node| node.path == "/top/a").unwrap();
    assert_eq!(node.incarnation, 501, "no start was one too many");
    root.shutdown().await;
}

proves!(a_key_is_free_when_a_start_has_failed, ["REG-027"]);
async fn a_key_is_free_when_a_start_has_failed() {
    let (registry, rooms) = rooms(1);
    let root = root(SupervisorSpec::new("top").child(registry)).await;
    let fails = child("a", || async { Err("no".into()) }).via(&rooms, "room".to_owned(), 1);
    let error = start_error(root.supervisor().start_child(fails).await.unwrap_err());
    assert!(matches!(error.reason, StartFault::Failed(ExitReason::Error(_))), "{error}");
    assert!(rooms.get("room").unwrap().is_none());
    assert_eq!(rooms.count(), Ok(0));
    let works = child("b", || async { Ok(()) }).via(&rooms, "room".to_owned(), 2);
    root.supervisor().start_child(works).await.unwrap();
    assert_eq!(*rooms.get("room").unwrap().unwrap().value, 2);
    root.shutdown().await;
}

fn duplicates() -> [RegistrySpec<String, u32, Duplicate>; 3] {
    let many = || RegistrySpec::duplicate("rooms").partitions(8);
    [RegistrySpec::duplicate("rooms"), many(), many().partitioned_by_key()]
}

proves!(a_dispatch_sees_the_entries_of_its_key, ["REG-030", "REG-031", "REG-033", "REG-034"]);
async fn a_dispatch_sees_the_entries_of_its_key() {
    for spec in duplicates() {
        let world = World::start(spec).await;
        let World { registry, actors: [a, b, _], .. } = &world;
        for (actor, key, value) in [(a, "hello", 1), (b, "hello", 2), (a, "world", 3)] {
            actor.registers(registry, key, value).await.unwrap();
        }
        let dispatched = |key: &str| {
            let mut seen = Vec::new();
            registry
                .dispatch(key, |entries| {
                    assert!(!entries.is_empty());
                    seen.extend(entries.iter().map(|it| *it.value));
                })
                .unwrap();
            seen.sort_unstable();
            seen
        };
        assert_eq!(dispatched("hello"), [1, 2]);
        assert_eq!(dispatched("world"), [3]);
        registry.dispatch("unknown", |_| panic!("not called")).unwrap();
        // In the caller: its failure is its own.
        let registry_there = registry.clone();
        let before = (a.process().await, b.process().await);
        let (c, alive) = (&world.actors[2], world.actors[2].process().await);
        let work = move || registry_there.dispatch("hello", |_| panic!("in the dispatch"));
        c.tries(work).await.unwrap_err();
        assert_ne!(c.process().await, alive);
        assert_eq!((a.process().await, b.process().await), before);
        // What a dispatch is given may have ended meanwhile: telling it does no harm.
        let stale = registry.lookup("hello").unwrap();
        a.crashes().await;
        assert!(stale.iter().any(|it| !it.process.is_alive()));
        assert_eq!(dispatched("hello"), [2]);
        world.root.shutdown().await;
    }
}

proves!(a_dispatch_runs_once_for_each_partition, ["REG-032"]);
async fn a_dispatch_runs_once_for_each_partition() {
    let spec = RegistrySpec::<String, u32, Duplicate>::duplicate("rooms").partitions(8);
    let (spec, rooms) = Registry::child_spec(spec).unwrap();
    let (tasks, starts) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 20));
    let mut top = SupervisorSpec::new("top").child(spec).child(tasks);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let actors: Vec<_> = names.into_iter().map(Actor::new).collect();
    for (spec, _) in &actors {
        top = top.child(spec.clone());
    }
    let root = root(top).await;
    for (value, (_, actor)) in (0..).zip(&actors) {
        actor.registers(&rooms, "hello", value).await.unwrap();
    }
    let mut serial = Vec::new();
    rooms.dispatch("hello", |it| serial.push(it.to_vec())).unwrap();
    assert!(serial.len() > 1, "several parts have some");
    let all: BTreeSet<u32> = serial.iter().flatten().map(|it| *it.value).collect();
    assert_eq!(all, (0..10).collect(), "together every entry");
    assert_eq!(serial.iter().map(Vec::len).sum::<usize>(), 10, "once");
    let seen: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
    let (note, before) = (seen.clone(), perennial_supervision::current_process());
    let work = move |it: &[perennial_supervision::Registered<u32>]| {
        assert_ne!(perennial_supervision::current_process(), before, "in tasks");
        note.lock().unwrap().push(it.iter().map(|it| *it.value).collect());
    };
    rooms.dispatch_in(&starts, "hello", SOON, work).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), serial.len(), "a task for each part");
    assert_eq!(seen.concat().into_iter().collect::<BTreeSet<u32>>(), all);
    root.shutdown().await;
}

proves!(
    entries_are_selected_by_what_they_are,
    ["REG-035", "REG-036", "REG-037", "REG-038", "REG-039", "REG-040"],
    because = "one set of entries, asked in six ways"
);
async fn entries_are_selected_by_what_they_are() {
    for spec in duplicates() {
        let world = World::start(spec).await;
        let World { registry, actors: [a, b, _], .. } = &world;
        assert_eq!(registry.select(|key, _| Some(key.clone())), Ok(Vec::new()), "empty");
        for (actor, value) in [(a, 1), (a, 2), (a, 3), (b, 2), (b, 9)] {
            actor.registers(registry, "hello", value).await.unwrap();
        }
        a.registers(registry, "world", 4).await.unwrap();
        let two = registry.lookup_match("hello", |value| *value == 2).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(registry.count_match("hello", |value| *value > 1), Ok(4));
        assert_eq!(registry.count_match("unknown", |_| true), Ok(0));
        // All, filtered and projected; several conditions are a union.
        let mut all = registry.select(|key, it| Some((key.clone(), *it.value))).unwrap();
        all.sort();
        let hello = [1, 2, 2, 3, 9].map(|value| ("hello".to_owned(), value));
        assert_eq!(all, [hello.to_vec(), vec![("world".to_owned(), 4)]].concat());
        let (first, process) = (a.process().await, b.process().await);
        let either = |key: &String, it: &perennial_supervision::Registered<u32>| {
            key == "world" || (it.process == process && *it.value > 5)
        };
        let mut union = registry.select(|key, it| either(key, it).then_some(*it.value)).unwrap();
        union.sort_unstable();
        assert_eq!(union, [4, 9]);
        assert_eq!(registry.count_select(either), Ok(2));
        // Of those that match, the caller's own go.
        let own = registry.clone();
        a.does(move || own.unregister_match("hello", |value| *value >= 2)).await.unwrap();
        assert_eq!(world.at("hello"), pairs([("a", 1), ("b", 2), ("b", 9)]));
        let mut keys = registry.keys(&first).unwrap();
        keys.sort();
        assert_eq!(keys, ["hello", "world"], "with what is left of it");
        a.crashes().await;
        assert_eq!(world.at("hello"), pairs([("b", 2), ("b", 9)]));
        assert_eq!(registry.count(), Ok(2));
        world.root.shutdown().await;
    }
}

proves!(listeners_are_told_of_what_is_asked_for, ["REG-042", "REG-043"]);
async fn listeners_are_told_of_what_is_asked_for() {
    struct Listener(Arc<Mutex<Vec<String>>>);
    impl perennial_supervision::GenServer for Listener {
        type Arguments = Arc<Mutex<Vec<String>>>;
        type Message = RegistryEvent<String, u32>;
        async fn init(
            heard: Self::Arguments,
            _: &mut perennial_supervision::ServerCx<Self>,
        ) -> Result<perennial_supervision::Init<Self>, perennial_supervision::actor::ActorError>
        {
            Ok(perennial_supervision::Init::new(Self(heard)))
        }
        async fn handle(
            &mut self,
            event: Self::Message,
            _: &mut perennial_supervision::ServerCx<Self>,
        ) -> Result<
            perennial_supervision::Next<Self::Message>,
            perennial_supervision::actor::ActorError,
        > {
            let told = match event {
                RegistryEvent::Registered { registry, key, process, value } => {
                    format!("{registry}: {key} of {} with {value}", process.path())
                }
                RegistryEvent::Unregistered { registry, key, process } => {
                    format!("{registry}: {key} no more of {}", process.path())
                }
            };
            self.0.lock().unwrap().push(told);
            Ok(perennial_supervision::Next::Continue)
        }
    }
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = heard.clone();
    let (listener, address) =
        perennial_supervision::ChildSpec::server::<Listener>("ear", move || note.clone());
    let spec = RegistrySpec::duplicate("rooms").listener(address, |event| event);
    let world = World::start(spec).await;
    let World { registry, actors: [a, _, _], root } = &world;
    // There is nobody to tell yet: that is counted.
    a.registers(registry, "early", 0).await.unwrap();
    root.supervisor().start_child(listener).await.unwrap();
    a.registers(registry, "hello", 1).await.unwrap();
    a.registers(registry, "hello", 2).await.unwrap();
    let own = registry.clone();
    a.does(move || {
        own.unregister("hello").unwrap();
        // Of nothing, nothing is told.
        own.unregister("hello").unwrap();
    })
    .await;
    a.registers(registry, "single", 4).await.unwrap();
    let own = registry.clone();
    a.does(move || own.unregister("single")).await.unwrap();
    a.registers(registry, "last", 3).await.unwrap();
    a.crashes().await;
    until(|| heard.lock().unwrap().iter().any(|line| line.contains("last"))).await;
    idle().await;
    let told = heard.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            "rooms: hello of /top/a with 1",
            "rooms: hello of /top/a with 2",
            "rooms: hello no more of /top/a",
            "rooms: single of /top/a with 4",
            "rooms: single no more of /top/a",
            "rooms: last of /top/a with 3",
        ],
        "of the crash nothing"
    );
    let nodes = root.tree().nodes();
    let detail = nodes.into_iter().find(|node| node.path == "/top/rooms").unwrap().detail;
    assert_eq!(detail["events_missed"], 1);
}

proves!(a_registry_keeps_what_is_said_about_it, ["REG-044"]);
async fn a_registry_keeps_what_is_said_about_it() {
    let world = World::start(RegistrySpec::unique("rooms").partitions(2)).await;
    let rooms = &world.registry;
    assert_eq!(rooms.meta::<u32>("limit"), Ok(None));
    rooms.put_meta("limit", 5_u32).unwrap();
    assert_eq!(rooms.meta::<u32>("limit").unwrap().as_deref(), Some(&5));
    assert_eq!(rooms.meta::<String>("limit"), Ok(None), "of another type");
    rooms.put_meta("limit", 6_u32).unwrap();
    assert_eq!(rooms.meta::<u32>("limit").unwrap().as_deref(), Some(&6));
    rooms.delete_meta("limit").unwrap();
    assert_eq!(rooms.meta::<u32>("limit"), Ok(None));
    rooms.delete_meta("limit").unwrap();
    rooms.put_meta("limit", 7_u32).unwrap();
    world.root.supervisor().terminate_child("rooms").await.unwrap();
    world.root.supervisor().restart_child("rooms").await.unwrap();
    assert_eq!(rooms.meta::<u32>("limit"), Ok(None), "a new registry");
}

proves!(equal_keys_are_locked_one_after_the_other, ["REG-045", "REG-046"]);
async fn equal_keys_are_locked_one_after_the_other() {
    let world = World::start(RegistrySpec::unique("rooms")).await;
    let World { registry, actors: [a, _, _], root } = &world;
    // The keys of entries are no matter.
    a.registers(registry, "k", 1).await.unwrap();
    let gate = Gate::new();
    let order = Log::default();
    let locked = |key: &'static str, name: &'static str| {
        let (registry, gate, order) = (registry.clone(), gate.clone(), order.clone());
        async move {
            let work = async {
                order.add(format!("{name} in"));
                gate.pass().await;
                order.add(format!("{name} out"));
                name
            };
            registry.lock(key.to_owned(), SOON, work).await
        }
    };
    let (mut one, mut two, mut other) =
        (pin!(locked("k", "one")), pin!(locked("k", "two")), pin!(locked("o", "other")));
    pending(one.as_mut()).await;
    pending(two.as_mut()).await;
    pending(other.as_mut()).await;
    assert_eq!(order.take(), ["one in", "other in"], "different keys at the same time");
    gate.open();
    assert_eq!(one.await, Ok("one"));
    pending(two.as_mut()).await;
    assert_eq!(order.take(), ["one out", "two in"]);
    gate.open();
    gate.open();
    assert_eq!((other.await, two.await), (Ok("other"), Ok("two")));
    assert_eq!(registry.locked(), 0, "nothing is kept of a key that nobody has");
    // One that fails, and one that is killed, hold nothing.
    let (tasks, starts) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 5));
    root.supervisor().start_child(tasks).await.unwrap();
    let holder = registry.clone();
    let fails = async move {
        let work = async { panic!("while it holds the lock") };
        holder.lock("k".to_owned(), SOON, work).await.unwrap();
    };
    let failed = starts.start_child("fails", fails).await.unwrap();
    assert!(matches!(failed.exit().await, ExitReason::Panic { .. }));
    let holder = registry.clone();
    let hangs = async move {
        holder.lock("k".to_owned(), SOON, std::future::pending::<()>()).await.unwrap();
    };
    let killed = starts.start_child("hangs", hangs).await.unwrap();
    until(|| registry.locked() == 1).await;
    let waiter = registry.clone();
    let ran = Arc::new(AtomicBool::new(false));
    let note = ran.clone();
    let waits = async move {
        let work = async { note.store(true, Ordering::SeqCst) };
        waiter.lock("k".to_owned(), SOON, work).await.unwrap();
    };
    let waiting = starts.start_child("waits", waits).await.unwrap();
    idle().await;
    let mut behind = pin!(registry.lock("k".to_owned(), SOON, async { "behind" }));
    pending(behind.as_mut()).await;
    // Its wait is over when somebody's time is.
    let short = registry.lock("k".to_owned(), Duration::from_millis(1), async {}).await;
    assert_eq!(short, Err(LockError::Timeout));
    starts.terminate_child(&waiting).await.unwrap();
    starts.terminate_child(&killed).await.unwrap();
    assert_eq!(behind.await, Ok("behind"), "whoever waited and died is passed over");
    assert!(!ran.load(Ordering::SeqCst));
    assert_eq!(registry.locked(), 0);
}

proves!(a_partition_that_fails_takes_its_entries_along, ["REG-048"]);
async fn a_partition_that_fails_takes_its_entries_along() {
    // Of unique keys all of them.
    let world = World::start(RegistrySpec::unique("rooms").partitions(4)).await;
    let World { registry, actors: [a, _, _], root } = &world;
    for key in 0..32 {
        a.registers(registry, key.to_string(), key).await.unwrap();
    }
    root.tree().crash("/top/rooms/2").unwrap();
    until(|| registry.count() == Ok(0)).await;
    let incarnations = |root: &perennial_supervision::Root| -> Vec<u64> {
        let nodes = root.tree().nodes().into_iter();
        let parts = nodes.filter(|node| node.path.starts_with("/top/rooms/"));
        parts.map(|node| node.incarnation).collect()
    };
    until(|| incarnations(root) == [2; 4]).await;
    a.registers(registry, "again", 1).await.unwrap();
    root.shutdown().await;
    // Of others its own.
    let spec = RegistrySpec::duplicate("rooms").partitions(4).partitioned_by_key();
    let world = World::start(spec).await;
    let World { registry, actors: [a, _, _], root } = &world;
    for key in 0..32 {
        a.registers(registry, key.to_string(), key).await.unwrap();
    }
    root.tree().crash("/top/rooms/2").unwrap();
    until(|| incarnations(root) == [1, 1, 2, 1]).await;
    let left = registry.count().unwrap();
    assert!(left > 0 && left < 32, "{left}");
    root.shutdown().await;
}

proves!(reading_asks_nobody, real_time, ["REG-049", "REG-050"]);
async fn reading_asks_nobody() {
    /// Ends the reader, also where the test fails.
    struct Over(Arc<AtomicBool>);
    impl Drop for Over {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    for partitions in [1, 8] {
        let spec = RegistrySpec::<u32, usize, Unique>::unique("rooms").partitions(partitions);
        let (spec, rooms) = Registry::child_spec(spec).unwrap();
        let mut top = SupervisorSpec::new("top").child(spec);
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let actors: Vec<_> = names.into_iter().map(Actor::new).collect();
        for (spec, _) in &actors {
            top = top.child(spec.clone());
        }
        let root = root(top).await;
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU32::new(0));
        let (reader, over, count) = (rooms.clone(), stop.clone(), reads.clone());
        // In a thread that no executor knows: nobody is awaited.
        std::thread::scope(|scope| {
            let _over = Over(stop);
            scope.spawn(move || {
                let mut key = 0;
                while !over.load(Ordering::SeqCst) {
                    if let Some(found) = reader.get(&(key % 300)).unwrap() {
                        assert!(found.process.path().starts_with("/top/"));
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    key += 1;
                }
            });
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for key in 0..300_u32 {
                        let tries = actors.iter().enumerate();
                        let tries =
                            tries.map(|(number, (_, actor))| actor.registers(&rooms, key, number));
                        let (mut winner, mut losers) = (None, Vec::new());
                        for (number, tried) in join_all(tries).await.into_iter().enumerate() {
                            match tried {
                                Ok(()) => assert!(winner.replace(number).is_none(), "one wins"),
                                Err(RegistryError::AlreadyRegistered(holder)) => {
                                    losers.push(holder)
                                }
                                Err(error) => panic!("{error}"),
                            }
                        }
                        let winner = actors[winner.unwrap()].1.process().await;
                        assert_eq!(losers, vec![winner; names.len() - 1], "all see the winner");
                    }
                });
            });
        });
        assert!(reads.load(Ordering::SeqCst) > 0);
        assert_eq!(rooms.count(), Ok(300));
        root.shutdown().await;
    }
}
