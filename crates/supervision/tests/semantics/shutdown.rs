//! Stops beyond the catalogue: threads, and a root that is dropped.

use perennial_supervision::{CallError, ChildSpec, StopToken, SupervisorSpec};

use crate::probe::{Log, World, root};

#[tokio::test]
async fn a_thread_is_woken_by_its_token_and_awaited() {
    let log = Log::default();
    let lines = log.clone();
    let worker = ChildSpec::thread("worker", move |stop: StopToken| {
        let (wake, woken) = std::sync::mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        woken.recv()?;
        lines.add("wound up");
        Ok::<(), std::sync::mpsc::RecvError>(())
    });
    let root = root(SupervisorSpec::new("top").child(worker)).await;
    root.shutdown().await;
    assert_eq!(log.take(), ["wound up"]);
}

#[tokio::test]
async fn a_thread_can_have_any_id() {
    let worker = ChildSpec::thread("a\0b/\n", |stop: StopToken| {
        let (wake, woken) = std::sync::mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        woken.recv()
    });
    let root = root(SupervisorSpec::new("top").child(worker)).await;
    assert_eq!(root.shutdown().await.unkillable, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_root_stops_its_tree() {
    let world = World::start(|spec| spec).await;
    let probe = world.probes[0].clone();
    drop(world.root);
    let gone = loop {
        match probe.ping().await {
            Ok(_) | Err(CallError::Exited(_)) => tokio::task::yield_now().await,
            Err(other) => break other,
        }
    };
    assert_eq!(gone, CallError::NoProc);
}

#[test]
fn a_thread_is_told_when_the_executor_of_its_supervisor_is_gone() {
    let executor = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (returned, has_returned) = std::sync::mpsc::channel();
    let worker = ChildSpec::thread("worker", move |stop: StopToken| {
        let (wake, woken) = std::sync::mpsc::channel();
        stop.on_stop(move || wake.send(()).unwrap_or(()));
        woken.recv()?;
        returned.send(()).unwrap_or(());
        Ok::<(), std::sync::mpsc::RecvError>(())
    });
    let tree = executor.block_on(root(SupervisorSpec::new("top").child(worker)));
    drop(executor);
    // It waits for ever where it is not told.
    assert_eq!(has_returned.recv(), Ok(()));
    drop(tree);
}
