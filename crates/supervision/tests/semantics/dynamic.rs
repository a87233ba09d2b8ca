//! Dynamic supervisors beyond the catalogue: paths of children, and budgets of their own.

use perennial_supervision::{DynamicSupervisor, DynamicSupervisorSpec, Root, SupervisorSpec};

use crate::probe::{Log, Message, Probe, SOON, root};

async fn start(spec: DynamicSupervisorSpec) -> (Root, DynamicSupervisor) {
    let (child, supervisor) = DynamicSupervisor::child_spec(spec);
    (root(SupervisorSpec::new("top").child(child)).await, supervisor)
}

#[tokio::test(start_paused = true)]
async fn children_of_one_id_have_paths_of_their_own() {
    let (root, dynamic) = start(DynamicSupervisorSpec::new("dyn", 10)).await;
    let log = Log::default();
    let (spec, first) = Probe::new("x", &log);
    dynamic.start_child(spec).await.unwrap();
    let (spec, second) = Probe::new("x", &log);
    dynamic.start_child(spec).await.unwrap();
    assert_eq!((first.ping().await, second.ping().await), (Ok(1), Ok(1)));
    let paths: Vec<String> = root.tree().nodes().into_iter().map(|node| node.path).collect();
    assert_eq!(paths, ["/top", "/top/dyn", "/top/dyn/x", "/top/dyn/x~2"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_beyond_its_own_budget_is_dropped_and_its_siblings_live_on() {
    let spec = DynamicSupervisorSpec::new("dyn", 10).intensity(0, SOON).child_budget(1, SOON);
    let (_root, dynamic) = start(spec).await;
    let log = Log::default();
    let (spec, bad) = Probe::new("bad", &log);
    dynamic.start_child(spec).await.unwrap();
    let (spec, good) = Probe::new("good", &log);
    dynamic.start_child(spec).await.unwrap();
    bad.end(|| Message::Panic).await;
    bad.answers().await;
    bad.end(|| Message::Panic).await;
    while dynamic.which_children().unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(good.ping().await, Ok(1));
}
