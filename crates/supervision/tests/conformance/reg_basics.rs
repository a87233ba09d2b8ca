//! Entries: who has which key, and what becomes of that.

use std::sync::{Arc, Mutex};

use perennial_core::ExitReason;
use perennial_supervision::{
    CallError, ChildSpec, Duplicate, GenServer, Init, Next, Registry, RegistryError, RegistrySpec,
    RegistrySpecError, Reply, ServerCx, SupervisorSpec, Unique, actor::ActorError,
};

use crate::{
    harness::proves,
    probe::{SOON, root, until},
    reg_world::{Actor, World, pairs},
};

fn unique() -> [RegistrySpec<String, u32, Unique>; 2] {
    // The same whatever the number of partitions.
    [1, 8].map(|partitions| RegistrySpec::unique("rooms").partitions(partitions))
}

fn duplicate() -> [RegistrySpec<String, u32, Duplicate>; 3] {
    let many = || RegistrySpec::duplicate("rooms").partitions(8);
    [RegistrySpec::duplicate("rooms"), many(), many().partitioned_by_key()]
}

proves!(registries_are_supervised_components_of_their_own, ["REG-001", "REG-003"]);
async fn registries_are_supervised_components_of_their_own() {
    let spec = RegistrySpec::unique("first").partitions(3).name("first");
    let (first, one) = Registry::<u8, (), Unique>::child_spec(spec).unwrap();
    let (second, other) =
        Registry::<u8, (), Unique>::child_spec(RegistrySpec::unique("second")).unwrap();
    let (actor, a) = Actor::new("a");
    let root = root(SupervisorSpec::new("top").child(first).child(second).child(actor)).await;
    a.registers(&one, 1, ()).await.unwrap();
    assert_eq!((one.count(), other.count()), (Ok(1), Ok(0)));
    assert_eq!(one.partitions(), 3);
    let found: Registry<u8, (), Unique> = root.names().handle("first").unwrap();
    assert_eq!(found.count(), Ok(1), "found by its name");
    let paths: Vec<_> = root.tree().nodes().into_iter().map(|node| node.path).collect();
    assert_eq!(
        paths,
        [
            "/top",
            "/top/first",
            "/top/first/0",
            "/top/first/1",
            "/top/first/2",
            "/top/second",
            "/top/second/0",
            "/top/a"
        ]
    );
}

proves!(a_registry_needs_a_mode_a_name_and_a_partition, ["REG-002"]);
async fn a_registry_needs_a_mode_a_name_and_a_partition() {
    let none = RegistrySpec::<u8, (), Unique>::unique("rooms").partitions(0);
    assert_eq!(Registry::child_spec(none).unwrap_err(), RegistrySpecError::NoPartitions);
    let none = RegistrySpec::<u8, (), Duplicate>::duplicate("rooms").partitions(0);
    assert_eq!(Registry::child_spec(none).unwrap_err(), RegistrySpecError::NoPartitions);
}

proves!(nothing_can_be_asked_of_a_registry_that_does_not_run, ["REG-004"]);
async fn nothing_can_be_asked_of_a_registry_that_does_not_run() {
    let spec = RegistrySpec::<String, u32, Unique>::unique("rooms");
    let (spec, rooms) = Registry::child_spec(spec).unwrap();
    let check = |rooms: &Registry<String, u32, Unique>, process| {
        let down = RegistryError::NotRunning;
        assert_eq!(rooms.get("x").unwrap_err(), down);
        assert_eq!(rooms.lookup("x").unwrap_err(), down);
        assert_eq!(rooms.count().unwrap_err(), down);
        assert_eq!(rooms.keys(process).unwrap_err(), down);
        assert_eq!(rooms.select(|_, _| Some(())).unwrap_err(), down);
        assert_eq!(rooms.dispatch("x", |_| panic!("called")).unwrap_err(), down);
        assert_eq!(rooms.put_meta("x", 1).unwrap_err(), down);
        assert_eq!(rooms.meta::<u32>("x").unwrap_err(), down);
        assert_eq!(down.to_string(), "the registry does not run");
    };
    let (actor, a) = Actor::new("a");
    let root = root(SupervisorSpec::new("top").child(actor)).await;
    let process = a.process().await;
    check(&rooms, &process);
    assert_eq!(a.registers(&rooms, "x", 1).await.unwrap_err(), RegistryError::NotRunning);
    root.supervisor().start_child(spec).await.unwrap();
    a.registers(&rooms, "x", 1).await.unwrap();
    assert_eq!(rooms.register("y".to_owned(), 1), Err(RegistryError::NoProcess), "a test is none");
    root.supervisor().terminate_child("rooms").await.unwrap();
    check(&rooms, &process);
    let unknown = root.names().handle::<Registry<String, u32, Unique>>("rooms");
    assert!(unknown.is_none());
}

proves!(a_key_has_one_holder, ["REG-005", "REG-006", "REG-007", "REG-047"]);
async fn a_key_has_one_holder() {
    for spec in unique() {
        let World { registry, actors: [a, b, _], root } = World::start(spec).await;
        a.registers(&registry, "hello", 1).await.unwrap();
        a.registers(&registry, "world", 2).await.unwrap();
        let found = registry.get("hello").unwrap().unwrap();
        assert_eq!((found.process, *found.value), (a.process().await, 1));
        let taken = RegistryError::AlreadyRegistered(a.process().await);
        assert_eq!(a.registers(&registry, "hello", 7).await.unwrap_err(), taken);
        assert_eq!(b.registers(&registry, "hello", 8).await.unwrap_err(), taken);
        assert_eq!(*registry.get("hello").unwrap().unwrap().value, 1, "the first value stays");
        let mut keys = registry.keys(&a.process().await).unwrap();
        keys.sort();
        assert_eq!(keys, ["hello", "world"]);
        assert_eq!(registry.count(), Ok(2));
        root.shutdown().await;
    }
}

proves!(a_key_has_many_holders, ["REG-008", "REG-009", "REG-010", "REG-011"]);
async fn a_key_has_many_holders() {
    for spec in duplicate() {
        let world = World::start(spec).await;
        let World { registry, actors: [a, b, c], .. } = &world;
        assert_eq!(registry.count(), Ok(0));
        for (actor, value) in [(a, 1), (a, 1), (b, 2), (a, 3)] {
            actor.registers(registry, "hello", value).await.unwrap();
        }
        a.registers(registry, "world", 4).await.unwrap();
        assert_eq!(world.at("hello"), pairs([("a", 1), ("a", 1), ("a", 3), ("b", 2)]));
        let mut keys = registry.keys(&a.process().await).unwrap();
        keys.sort();
        assert_eq!(keys, ["hello", "hello", "hello", "world"]);
        assert_eq!(registry.keys(&c.process().await).unwrap(), Vec::<String>::new(), "a stranger");
        let values = registry.values("hello", &a.process().await).unwrap();
        assert_eq!(values.iter().map(|it| **it).collect::<Vec<_>>(), [1, 1, 3]);
        assert!(registry.values("hello", &c.process().await).unwrap().is_empty());
        assert_eq!(registry.count(), Ok(5), "duplicates count");
        let dead = a.process().await;
        a.crashes().await;
        assert_eq!(registry.keys(&dead).unwrap(), Vec::<String>::new());
        assert_eq!(registry.count(), Ok(1));
        world.root.shutdown().await;
    }
}

proves!(keys_are_equal_or_not, ["REG-012", "REG-013"]);
async fn keys_are_equal_or_not() {
    // Any type that says which of its values are equal; none of them means more than itself.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    enum Key {
        Whole(u64),
        Text(String),
    }
    let spec = RegistrySpec::<Key, u32, Unique>::unique("rooms");
    let (spec, rooms) = Registry::child_spec(spec).unwrap();
    let (actor, a) = Actor::new("a");
    let root = root(SupervisorSpec::new("top").child(spec).child(actor)).await;
    let text = |text: &str| Key::Text(text.to_owned());
    let keys = [Key::Whole(1), text("1"), text("1.0"), text("*"), text("_"), text("$1"), text("")];
    for (value, key) in (0..).zip(keys.clone()) {
        a.registers(&rooms, key, value).await.unwrap();
    }
    for (value, key) in (0..).zip(&keys) {
        assert_eq!(*rooms.get(key).unwrap().unwrap().value, value, "{key:?}");
        assert_eq!(rooms.count_match(key, |_| true), Ok(1));
        let wanted = rooms.select(|other, it| (other == key).then_some(*it.value)).unwrap();
        assert_eq!(wanted, [value]);
    }
    let (registry, star) = (rooms.clone(), text("*"));
    a.does(move || registry.unregister(&star)).await.unwrap();
    assert_eq!(rooms.count(), Ok(6), "the one that is called so");
    root.shutdown().await;
}

proves!(only_a_holder_gives_a_key_back, ["REG-014", "REG-015"]);
async fn only_a_holder_gives_a_key_back() {
    for spec in duplicate() {
        let world = World::start(spec).await;
        let World { registry, actors: [a, b, _], .. } = &world;
        for (actor, value) in [(a, 1), (a, 2), (b, 3)] {
            actor.registers(registry, "hello", value).await.unwrap();
        }
        let gives_back = |actor: &Actor, key: &'static str| {
            let (actor, registry) = (actor.clone(), registry.clone());
            async move { actor.does(move || registry.unregister(key)).await }
        };
        assert_eq!(gives_back(a, "hello").await, Ok(()));
        assert_eq!(world.at("hello"), pairs([("b", 3)]), "all of its own, and nobody else's");
        assert_eq!(gives_back(a, "hello").await, Ok(()), "none any more");
        assert_eq!(gives_back(a, "unknown").await, Ok(()));
        assert_eq!(world.at("hello"), pairs([("b", 3)]));
        world.root.shutdown().await;
    }
}

proves!(entries_go_with_their_holder, ["REG-016", "REG-024"]);
async fn entries_go_with_their_holder() {
    for spec in unique() {
        let world = World::start(spec).await;
        let World { registry, actors: [a, b, _], .. } = &world;
        a.registers(registry, "hello", 1).await.unwrap();
        b.registers(registry, "other", 2).await.unwrap();
        for value in 2..300 {
            a.crashes().await;
            a.registers(registry, "hello", value).await.unwrap();
        }
        assert_eq!(world.at("hello"), pairs([("a", 299)]));
        a.crashes().await;
        assert_eq!(world.at("hello"), pairs([]));
        assert_eq!(registry.count(), Ok(1), "of others nothing goes");
        world.root.shutdown().await;
    }
}

/// Holds a key, and at its end whoever is at `hook` is told a moment before anybody else.
struct Held;

proves!(the_key_of_one_that_has_ended_is_free, real_time, ["REG-017", "REG-023"]);
async fn the_key_of_one_that_has_ended_is_free() {
    use perennial_supervision::{TaskSupervisor, TaskSupervisorSpec};
    let spec = RegistrySpec::<String, u32, Unique>::unique("rooms");
    let (spec, rooms) = Registry::child_spec(spec).unwrap();
    let (tasks, starts) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 10));
    let (actor, b) = Actor::new("b");
    let top = SupervisorSpec::new("top").child(spec).child(tasks).child(actor);
    let root = root(top).await;
    let (go, gate) = tokio::sync::oneshot::channel::<()>();
    let (held, holds) = tokio::sync::oneshot::channel();
    let registry = rooms.clone();
    let task = starts.start_child("holder", async move {
        let _ = Held;
        gate.await.unwrap();
        held.send(registry.register("hello".to_owned(), 1)).unwrap();
    });
    let task = task.await.unwrap();
    // Told before the registry is, which comes second: the end is not cleaned up after until this
    // has returned.
    let (seen, sees) = std::sync::mpsc::sync_channel::<()>(0);
    let (done, is_done) = std::sync::mpsc::sync_channel::<()>(0);
    let is_done = Mutex::new(is_done);
    task.on_exit(move |reason| {
        assert_eq!(*reason, ExitReason::Normal);
        seen.send(()).unwrap();
        is_done.lock().unwrap().recv().unwrap();
    });
    go.send(()).unwrap();
    holds.await.unwrap().unwrap();
    let registry = rooms.clone();
    b.does(move || {
        sees.recv().unwrap();
        assert_eq!(registry.count(), Ok(1), "not cleaned up yet");
        assert!(registry.whereis("hello").unwrap().is_none());
        assert_eq!(registry.via::<()>("hello").whereis(), None);
        registry.register("hello".to_owned(), 2).unwrap();
        done.send(()).unwrap();
    })
    .await;
    until(|| rooms.keys(&task_process(&task)).unwrap().is_empty()).await;
    assert_eq!(*rooms.get("hello").unwrap().unwrap().value, 2, "only its own was cleaned up");
    assert_eq!(rooms.count(), Ok(1));
    root.shutdown().await;
}

fn task_process(task: &perennial_supervision::TaskRef) -> perennial_supervision::ProcessRef {
    task.process().clone()
}

proves!(a_refused_registration_leaves_nothing, ["REG-018"]);
async fn a_refused_registration_leaves_nothing() {
    let world = World::start(RegistrySpec::unique("rooms")).await;
    let World { registry, actors: [a, b, _], root } = &world;
    a.registers(registry, "hello", 1).await.unwrap();
    let detail = || {
        let nodes = root.tree().nodes();
        nodes.into_iter().find(|node| node.path == "/top/rooms").unwrap().detail
    };
    let before = detail();
    for _ in 0..10 {
        a.registers(registry, "hello", 1).await.unwrap_err();
        b.registers(registry, "hello", 1).await.unwrap_err();
    }
    assert_eq!(detail(), before, "neither an entry nor a holder");
    assert_eq!(registry.keys(&b.process().await).unwrap(), Vec::<String>::new());
    assert_eq!(registry.keys(&a.process().await).unwrap(), ["hello"]);
    let value = Arc::downgrade(&registry.get("hello").unwrap().unwrap().value);
    a.crashes().await;
    assert!(value.upgrade().is_none(), "nothing holds it");
}

/// A server that does not trap exits.
struct Plain;

impl GenServer for Plain {
    const TRAPS_EXITS: bool = false;
    type Arguments = ();
    type Message = (Box<dyn FnOnce() + Send>, Reply<()>);

    async fn init((): (), _: &mut ServerCx<Self>) -> Result<Init<Self>, ActorError> {
        Ok(Init::new(Self))
    }

    async fn handle(
        &mut self,
        (work, reply): Self::Message,
        _: &mut ServerCx<Self>,
    ) -> Result<Next<Self::Message>, ActorError> {
        work();
        reply.send(());
        Ok(Next::Continue)
    }
}

proves!(those_that_do_not_trap_exits_end_with_the_registry, ["REG-019"]);
async fn those_that_do_not_trap_exits_end_with_the_registry() {
    let (spec, rooms) =
        Registry::<u8, (), Unique>::child_spec(RegistrySpec::unique("rooms")).unwrap();
    let (actor, traps) = Actor::new("traps");
    let mut top = SupervisorSpec::new("top").intensity(10, SOON).child(spec).child(actor);
    let mut plain = Vec::new();
    for id in ["tied", "untied", "stranger"] {
        let (spec, address) = ChildSpec::server::<Plain>(id, || ());
        top = top.child(spec);
        plain.push(address);
    }
    let root = root(top).await;
    let run = |at: usize, work: Box<dyn FnOnce() + Send>| {
        let address = plain[at].clone();
        async move { address.call(|reply| (work, reply), SOON).await }
    };
    let registry = rooms.clone();
    run(0, Box::new(move || registry.register(0, ()).unwrap())).await.unwrap();
    let registry = rooms.clone();
    let comes_and_goes = move || {
        registry.register(1, ()).unwrap();
        registry.unregister(&1).unwrap();
    };
    run(1, Box::new(comes_and_goes)).await.unwrap();
    traps.registers(&rooms, 3, ()).await.unwrap();
    let trapping = traps.process().await;
    let (mut end, lives) = (plain[0].monitor(), [1, 2].map(|at| plain[at].whereis()));
    root.tree().crash("/top/rooms/0").unwrap();
    let why = end.down().await;
    assert!(matches!(why, ExitReason::Panic { .. }), "with the registry's reason: {why}");
    for at in [1, 2] {
        assert_eq!(run(at, Box::new(|| ())).await, Ok(()), "not tied");
    }
    assert_eq!([1, 2].map(|at| plain[at].whereis()), lives, "nor restarted");
    assert_eq!(traps.process().await, trapping, "it is told of exits");
    let again = run(0, Box::new(|| ())).await;
    assert!(matches!(again, Ok(()) | Err(CallError::Exited(_))), "and comes back: {again:?}");
    until(|| rooms.count() == Ok(0)).await;
    root.shutdown().await;
}

proves!(a_value_is_changed_by_its_holder, ["REG-028", "REG-029"]);
async fn a_value_is_changed_by_its_holder() {
    for spec in unique() {
        let world = World::start(spec).await;
        let World { registry, actors: [a, b, _], .. } = &world;
        a.registers(registry, "hello", 1).await.unwrap();
        let updates = |actor: &Actor, key: &'static str| {
            let (actor, registry) = (actor.clone(), registry.clone());
            async move {
                let update = move || {
                    let changed = registry.update_value(key, |value| value + 10);
                    changed.map(|(new, old)| (*new, *old))
                };
                actor.does(update).await
            }
        };
        assert_eq!(updates(a, "hello").await, Ok((11, 1)));
        assert_eq!(updates(b, "hello").await, Err(RegistryError::NotHolder));
        assert_eq!(updates(a, "unknown").await, Err(RegistryError::NotHolder));
        let registry = registry.clone();
        let never =
            b.does(move || registry.update_value("hello", |_| panic!("not called")).map(|_| ()));
        assert_eq!(never.await, Err(RegistryError::NotHolder));
        assert_eq!(world.at("hello"), pairs([("a", 11)]));
        world.root.shutdown().await;
    }
}
