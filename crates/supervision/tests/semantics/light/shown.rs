use std::time::Duration;

use perennial_supervision::{
    ChildStatus, ExitReason, LightSupervisor, NodeState, Registry, RegistrySpec, SupervisorSpec,
};
use tokio::sync::oneshot;

use super::lamp::{Lamp, Say, Wire, error, fall, lamps, patient};
use crate::{
    gs_server::settle,
    probe::{SOON, root},
};

#[tokio::test(start_paused = true)]
async fn the_tree_shows_each_as_any_child() {
    let (root, lamps, wire) = lamps(patient()).await;
    for id in ["a", "b"] {
        lamps.start_child(id, wire.clone()).await.unwrap();
    }
    let lamp = lamps.find("a").unwrap();
    fall(&lamp).await;
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(2));
    let (_go, gate) = oneshot::channel();
    lamp.cast(Say::Hold(gate)).unwrap();
    settle().await;
    lamp.cast(Say::Note("waits")).unwrap();
    tokio::time::advance(Duration::from_secs(3)).await;
    let nodes = root.tree().nodes();
    let paths: Vec<_> = nodes.iter().map(|node| node.path.as_str()).collect();
    assert_eq!(paths, ["/top", "/top/lamps", "/top/lamps/a", "/top/lamps/b"]);
    assert_eq!(nodes[1].detail, serde_json::json!({ "children": 2, "children_max": 1_000 }));
    let (a, b) = (&nodes[2], &nodes[3]);
    assert_eq!((a.state, b.state), (NodeState::Running, NodeState::Running));
    assert_eq!((a.incarnation, a.restarts.total, a.restarts.in_window), (2, 1, 1));
    assert_eq!(a.last_exit.as_ref().unwrap().message.as_deref(), Some("x"));
    assert_eq!((a.mailbox_depth, a.mailbox_oldest_ms, a.handled), (Some(1), Some(3_000), Some(2)));
    let current = a.current.as_ref().unwrap();
    assert_eq!((current.message.as_str(), current.running_ms), ("hold", 3_000));
    assert_eq!((a.working_ms, b.working_ms, b.current.as_ref()), (Some(3_000), None, None));
    assert!(a.type_name.as_ref().unwrap().ends_with("Lamp"));
    assert_eq!(a.parent.as_deref(), Some("/top/lamps"));
    let lines = lamps.which_children().unwrap();
    let shown: Vec<_> = lines.iter().map(|line| (line.name(), line.status)).collect();
    assert_eq!(shown, [("a", ChildStatus::Running), ("b", ChildStatus::Running)]);
    assert_eq!(lines[0].process, lamp.whereis());
    let counts = lamps.count_children().unwrap();
    assert_eq!((counts.specs, counts.active, counts.workers, counts.supervisors), (2, 2, 2, 0));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn its_code_knows_who_it_is_and_others_meet_the_same() {
    let (root, lamps, wire) = lamps(patient()).await;
    let lamp = lamps.start_child("a", wire).await.unwrap();
    let (own, current) = lamp.call(Say::Who, SOON).await.unwrap();
    assert_eq!(current.as_ref(), Some(&own));
    assert_eq!(lamp.whereis(), Some(own.clone()));
    assert_eq!(own.path(), "/top/lamps/a");
    let info = lamp.info().unwrap();
    assert_eq!((info.process, info.mailbox_depth), (own.clone(), 0));
    lamp.cast(Say::Fail(error("x"))).unwrap();
    assert_eq!(own.monitor().down().await, error("x"));
    let (next, _) = lamp.call(Say::Who, SOON).await.unwrap();
    assert_ne!(next, own);
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_forgets_it_at_its_end_and_ends_it_with_its_own() {
    let (names, registry) = Registry::child_spec(RegistrySpec::unique("names")).unwrap();
    let (spec, lamps) = LightSupervisor::<Lamp>::child_spec(patient());
    let spec = SupervisorSpec::new("top").child(names).child(spec);
    let root = root(spec).await;
    let lamp = lamps.start_child("a", Wire::default()).await.unwrap();
    let key = "first".to_owned();
    let register = || lamp.call(|reply| Say::Register(registry.clone(), reply), SOON);
    assert_eq!(register().await, Ok(Ok(())));
    assert_eq!(registry.whereis(&key).unwrap(), lamp.whereis());
    fall(&lamp).await;
    assert_eq!(registry.whereis(&key).unwrap(), None);
    assert_eq!(register().await, Ok(Ok(())));
    let mut watch = lamp.monitor();
    root.tree()
        .kill("/top/names/0")
        .or_else(|_| root.tree().kill("/top/names"))
        .unwrap()
        .exit()
        .await;
    assert_eq!(watch.down().await, ExitReason::Killed);
    assert_eq!(lamp.call(Say::Ask, SOON).await, Ok(3));
    root.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_another_is_shown_so() {
    let (root, lamps, wire) = lamps(patient()).await;
    let a = lamps.start_child("a", wire.clone()).await.unwrap();
    let b = lamps.start_child("b", wire).await.unwrap();
    let (go, gate) = oneshot::channel();
    a.cast(Say::Hold(gate)).unwrap();
    b.cast(Say::CallOther(a.clone())).unwrap();
    settle().await;
    let waits = || {
        let node = root.tree().nodes().into_iter().find(|it| it.path == "/top/lamps/b").unwrap();
        node.waits_for.into_iter().map(|wait| wait.path).collect::<Vec<_>>()
    };
    assert_eq!(waits(), ["/top/lamps/a"]);
    go.send(()).unwrap();
    settle().await;
    assert_eq!(waits(), Vec::<String>::new());
    root.shutdown().await;
}

/// Where the executor goes first, the ends are announced all the same.
#[test]
fn an_executor_that_goes_ends_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lamp, process, root) = runtime.block_on(async {
        let (root, lamps, wire) = lamps(patient()).await;
        let lamp = lamps.start_child("a", wire).await.unwrap();
        let process = lamp.whereis().unwrap();
        (lamp, process, root)
    });
    drop(runtime);
    assert!(!process.is_alive());
    assert_eq!(lamp.whereis(), None);
    drop(root);
}
