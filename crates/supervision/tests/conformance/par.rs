//! Partition supervisors.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use perennial_core::{ChildType, ExitReason};
use perennial_supervision::{
    Agent, CallError, ChildSpec, ChildStatus, Counts, DynamicSupervisor, DynamicSupervisorSpec,
    Hashed, LifecycleEvent, PartitionSpecError, PartitionSupervisor, PartitionSupervisorSpec,
    Registry, RegistrySpec, RequestError, ResizeError, RouteError, StopError, SupervisorSpec,
    Unique,
};

use crate::{
    fixture::{Gate, idle, told},
    gs_server::pending,
    harness::proves,
    probe::{SOON, root, until},
};

type Parts = PartitionSupervisor<Agent<Vec<i64>>>;

fn parts(partitions: usize) -> (ChildSpec, Parts) {
    let spec = PartitionSupervisorSpec::new("parts").partitions(partitions);
    make(spec.intensity(1_000, SOON))
}

fn make(spec: PartitionSupervisorSpec) -> (ChildSpec, Parts) {
    // What a partition is given comes from its number.
    let child = |number: usize| {
        let first = i64::try_from(number).unwrap() * 100;
        Agent::child_spec("any", move || vec![first])
    };
    PartitionSupervisor::child_spec(spec, child).unwrap()
}

async fn number(part: &Agent<Vec<i64>>) -> i64 {
    part.get(|all| all[0], SOON).await.unwrap() / 100
}

proves!(partitions_are_made_from_one_specification, real_time, ["PAR-001", "PAR-004", "PAR-014"]);
async fn partitions_are_made_from_one_specification() {
    let (spec, all) = make(PartitionSupervisorSpec::new("parts"));
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    assert_eq!(all.partitions(), Ok(2), "the tests' executor has two workers");
    assert_eq!(all.all().len(), 2);
    root.shutdown().await;
    let (spec, all) = parts(3);
    let root = crate::probe::root(SupervisorSpec::new("top").child(spec)).await;
    let paths: Vec<_> = root.tree().nodes().into_iter().map(|node| node.path).collect();
    assert_eq!(paths, ["/top", "/top/parts", "/top/parts/0", "/top/parts/1", "/top/parts/2"]);
    let mut children = all.which_children().unwrap();
    children.sort_by_key(|child| child.name().to_owned());
    for (place, child) in children.iter().enumerate() {
        assert_eq!(child.name(), place.to_string());
        assert_eq!(child.child_type, ChildType::Worker);
        assert_eq!(child.status, ChildStatus::Running);
        assert!(child.process.as_ref().unwrap().is_alive());
        let part = &all.all()[place];
        assert_eq!(
            part.get(Vec::clone, SOON).await.unwrap(),
            [i64::try_from(place).unwrap() * 100]
        );
    }
    root.shutdown().await;
}

proves!(partitions_are_found_by_name_and_key, ["PAR-002", "PAR-003", "PAR-006"]);
async fn partitions_are_found_by_name_and_key() {
    let (spec, _) = parts(3);
    assert_eq!(spec.id().as_str(), "parts", "its id is its name");
    let (registry, names) =
        Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("names")).unwrap();
    let other = PartitionSupervisorSpec::new("other").id("second").partitions(2);
    let (other, _) = make(other);
    assert_eq!(other.id().as_str(), "second");
    let top = SupervisorSpec::new("top").child(registry).child(spec);
    let root = root(top.child(other.via(&names, "via".to_owned(), ()))).await;
    let found: Parts = root.names().handle("parts").unwrap();
    assert_eq!(number(&found.at(5).unwrap()).await, 2);
    let found: Parts = names.handle("via").unwrap().unwrap();
    assert_eq!(number(&found.at(5).unwrap()).await, 1);
    root.shutdown().await;
}

proves!(what_makes_no_partitions_is_refused, ["PAR-005"]);
async fn what_makes_no_partitions_is_refused() {
    let agent = |id: usize| Agent::child_spec(id.to_string(), || ());
    let none = PartitionSupervisorSpec::new("parts").partitions(0);
    let refused = PartitionSupervisor::child_spec(none, agent).unwrap_err();
    assert_eq!(refused, PartitionSpecError::NoPartitions);
    let significant = |id: usize| {
        let (spec, handle) = agent(id);
        (spec.significant(true).restart(perennial_core::Restart::Temporary), handle)
    };
    let spec = PartitionSupervisorSpec::new("parts").partitions(1);
    let refused = PartitionSupervisor::child_spec(spec, significant).unwrap_err();
    assert!(matches!(refused, PartitionSpecError::Child(_)), "{refused}");
    // Strategy and automatic shutdown cannot be written (`what_cannot_be_written`).
}

proves!(three_restarts_in_five_seconds_over_all, ["PAR-007", "PAR-021"]);
async fn three_restarts_in_five_seconds_over_all() {
    let (spec, all) = make(PartitionSupervisorSpec::new("parts").partitions(4));
    let root = root(SupervisorSpec::new("top").intensity(0, SOON).child(spec)).await;
    let mut lifecycle = root.tree().lifecycle();
    let crash = |at: u64| {
        let part = all.at(at).unwrap();
        async move { part.get(|_| panic!("again"), SOON).await.unwrap_err() }
    };
    for at in 0..3 {
        crash(at).await;
        number(&all.at(at).unwrap()).await;
    }
    // They count together, and the window is five seconds.
    tokio::time::advance(Duration::from_millis(5_001)).await;
    for at in 0..3 {
        crash(at).await;
        number(&all.at(at).unwrap()).await;
    }
    let mut ends: Vec<_> =
        all.which_children().unwrap().into_iter().map(|child| child.process.unwrap()).collect();
    crash(3).await;
    for process in &mut ends {
        process.monitor().down().await;
    }
    assert_eq!(root.ended().await, ExitReason::Shutdown, "it gave up, and so did what is above");
    let told = told(&mut lifecycle);
    let own = told.iter().filter(|told| told.path == "/top/parts");
    let gave_up =
        own.clone().filter(|it| matches!(it.event, LifecycleEvent::GaveUp { .. })).count();
    assert_eq!(gave_up, 1);
    let exits: Vec<_> = own
        .filter_map(|told| {
            let LifecycleEvent::Exited { reason, .. } = &told.event else { return None };
            Some(reason.clone())
        })
        .collect();
    assert_eq!(exits, [ExitReason::Shutdown]);
}

proves!(whole_numbers_route_by_their_value_and_others_by_a_hash, ["PAR-008", "PAR-009"]);
async fn whole_numbers_route_by_their_value_and_others_by_a_hash() {
    let (spec, all) = parts(4);
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    for (key, expected) in [(0, 0), (1, 1), (3, 3), (4, 0), (7, 3), (-1, 1), (-6, 2), (i64::MIN, 0)]
    {
        assert_eq!(number(&all.at(key).unwrap()).await, expected, "{key}");
    }
    assert_eq!(number(&all.at(u64::MAX).unwrap()).await, 3);
    assert_eq!(number(&all.at(200_u8).unwrap()).await, 0);
    assert_eq!(number(&all.at(6_usize).unwrap()).await, 2);
    let mut met = BTreeSet::new();
    for key in 0..100 {
        let text = format!("key {key}");
        let first = number(&all.at(&text).unwrap()).await;
        assert_eq!(number(&all.at(text.as_str()).unwrap()).await, first, "the same each time");
        let pair = (key, text);
        let hashed = number(&all.at(Hashed(&pair)).unwrap()).await;
        assert_eq!(number(&all.at(Hashed(&pair)).unwrap()).await, hashed);
        met.insert(first);
    }
    assert_eq!(met, (0..4).collect(), "none is left out");
    root.shutdown().await;
}

proves!(a_partition_that_crashed_is_reached_again, ["PAR-010"]);
async fn a_partition_that_crashed_is_reached_again() {
    let (spec, all) = parts(3);
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    for part in all.all() {
        part.update(|kept| kept.push(7), SOON).await.unwrap();
    }
    let kept = all.at(1).unwrap();
    let failed = kept.get(|_| panic!("asked to"), SOON).await.unwrap_err();
    assert!(matches!(failed, CallError::Exited(ExitReason::Panic { .. })));
    assert_eq!(all.at(1).unwrap().get(Vec::clone, SOON).await.unwrap(), [100], "a new one");
    assert_eq!(kept.get(Vec::clone, SOON).await.unwrap(), [100], "by the old handle too");
    for (at, first) in [(0, 0), (2, 200)] {
        assert_eq!(all.at(at).unwrap().get(Vec::clone, SOON).await.unwrap(), [first, 7]);
    }
    root.shutdown().await;
}

proves!(routing_asks_no_supervisor, ["PAR-011"]);
async fn routing_asks_no_supervisor() {
    let gate = Gate::new();
    let (spec, all) = {
        let gate = gate.clone();
        let spec = PartitionSupervisorSpec::new("parts").partitions(2);
        let child = move |number: usize| match number {
            0 => {
                let (spec, handle) = Agent::child_spec("any", Vec::new);
                (spec, handle)
            }
            _ => (gate.child("slow"), Agent::child_spec("unused", Vec::<i64>::new).1),
        };
        PartitionSupervisor::child_spec(spec, child).unwrap()
    };
    let (root_spec, starting) = (SupervisorSpec::new("top").child(spec), all.clone());
    let mut starts = pin!(root(root_spec));
    pending(starts.as_mut()).await;
    idle().await;
    // Its supervisor is busy with the init of the second one.
    let first = starting.at(0).unwrap();
    assert_eq!(first.get(|_| "works", SOON).await, Ok("works"));
    gate.open();
    starts.await.shutdown().await;
}

proves!(each_key_arrives_once, ["PAR-012"]);
async fn each_key_arrives_once() {
    let (spec, all) = parts(5);
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    let keys: Vec<i64> = (1..=100).map(|it: i64| it * 7_919 % 1_000 + 1).collect();
    for key in keys.clone() {
        all.at(Hashed(&key)).unwrap().update(move |kept| kept.push(key), SOON).await.unwrap();
    }
    let mut arrived = Vec::new();
    for part in all.all() {
        arrived.extend(part.get(|kept| kept[1..].to_vec(), SOON).await.unwrap());
    }
    let count = |of: &[i64]| {
        of.iter().fold(BTreeMap::<i64, u32>::new(), |mut counts, key| {
            *counts.entry(*key).or_default() += 1;
            counts
        })
    };
    assert_eq!(count(&arrived), count(&keys));
    root.shutdown().await;
}

proves!(its_children_are_counted, ["PAR-013", "PAR-015"]);
async fn its_children_are_counted() {
    let (spec, all) = parts(3);
    assert_eq!(all.partitions(), Err(RequestError::NoProc), "not started");
    assert_eq!(all.count_children(), Err(RequestError::NoProc));
    assert_eq!(all.which_children().unwrap_err(), RequestError::NoProc);
    let supervisors = PartitionSupervisorSpec::new("starts").partitions(2);
    let (starts, many) = PartitionSupervisor::child_spec(supervisors, |number| {
        DynamicSupervisor::child_spec(DynamicSupervisorSpec::new(number.to_string(), 10))
    })
    .unwrap();
    let root = root(SupervisorSpec::new("top").child(spec).child(starts)).await;
    assert_eq!(all.partitions(), Ok(3));
    assert_eq!(many.partitions(), Ok(2));
    let workers = Counts { specs: 3, active: 3, supervisors: 0, workers: 3 };
    assert_eq!(all.count_children(), Ok(workers));
    let supervisors = Counts { specs: 2, active: 2, supervisors: 2, workers: 0 };
    assert_eq!(many.count_children(), Ok(supervisors));
    assert!(root.names().handle::<Parts>("unknown").is_none());
    root.shutdown().await;
}

proves!(a_stop_is_done_when_it_returns, ["PAR-016"]);
async fn a_stop_is_done_when_it_returns() {
    use perennial_core::Restart;
    let (registry, names) =
        Registry::<String, (), Unique>::child_spec(RegistrySpec::unique("names")).unwrap();
    let (spec, all) = parts(3);
    let via = spec.restart(Restart::Temporary).via(&names, "via".to_owned(), ());
    let root = root(SupervisorSpec::new("top").child(registry).child(via)).await;
    let process = root.names().whereis("parts").unwrap();
    let below: Vec<_> =
        all.which_children().unwrap().into_iter().map(|it| it.process.unwrap()).collect();
    all.stop(SOON).await.unwrap();
    assert!(!process.is_alive());
    assert!(below.iter().all(|it| !it.is_alive()));
    assert_eq!(root.names().whereis("parts"), None);
    assert_eq!(names.whereis("via"), Ok(None));
    assert_eq!(all.stop(SOON).await, Err(StopError::NoProc));
    root.supervisor().start_child(parts(2).0).await.unwrap();
    assert!(root.names().whereis("parts").is_some(), "the name is free");
    root.shutdown().await;
}

proves!(fewer_partitions_and_more_again, ["PAR-017", "PAR-018", "PAR-019"]);
async fn fewer_partitions_and_more_again() {
    let (spec, all) = parts(4);
    let root = root(SupervisorSpec::new("top").intensity(9, SOON).child(spec)).await;
    let active = || {
        let children = all.which_children().unwrap().into_iter();
        let mut active: Vec<_> = children
            .filter(|child| child.status == ChildStatus::Running)
            .map(|child| child.name().to_owned())
            .collect();
        active.sort();
        (active, all.count_children().unwrap().specs)
    };
    for (to, before) in [(2, 4), (3, 2), (1, 3), (4, 1), (4, 4), (2, 4)] {
        assert_eq!(all.resize(to).await, Ok(before));
        let expected: Vec<_> = (0..to).map(|number| number.to_string()).collect();
        assert_eq!(active(), (expected, 4));
        assert_eq!(all.partitions(), Ok(to));
        for key in 0..20_i64 {
            let expected = key % i64::try_from(to).unwrap();
            assert_eq!(number(&all.at(key).unwrap()).await, expected);
        }
    }
    assert_eq!(all.resize(0).await, Ok(2));
    let none = all.at(1).map(|_| ()).unwrap_err();
    assert_eq!(
        (none, none.to_string().as_str()),
        (RouteError::NoPartitions, "there are no partitions")
    );
    assert_eq!(all.resize(2).await, Ok(0));
    assert_eq!(number(&all.at(3).unwrap()).await, 1);
    assert_eq!(all.resize(5).await, Err(ResizeError::TooMany(4)));
    assert_eq!(all.partitions(), Ok(2), "nothing changed");
    // A new incarnation starts what is declared.
    root.tree().crash("/top/parts").unwrap();
    until(|| all.partitions() == Ok(4)).await;
    until(|| active().0.len() == 4).await;
    assert_eq!(number(&all.at(3).unwrap()).await, 3);
    root.shutdown().await;
    assert_eq!(all.resize(1).await, Err(ResizeError::Child(RequestError::NoProc)));
}

proves!(resizes_come_one_after_the_other, ["PAR-020"]);
async fn resizes_come_one_after_the_other() {
    let (spec, all) = parts(8);
    let root = root(SupervisorSpec::new("top").child(spec)).await;
    // Each answers what the one before it left.
    let sizes = [3, 8, 1, 5, 0, 8, 2];
    let resizes = sizes.map(|to| all.resize(to));
    let before = futures_util::future::join_all(resizes).await;
    let expected: Vec<_> = std::iter::once(8).chain(sizes).take(sizes.len()).map(Ok).collect();
    assert_eq!(before, expected);
    assert_eq!(all.count_children().unwrap().active, 2);
    root.shutdown().await;
}
