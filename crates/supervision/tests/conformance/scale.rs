//! What many children cost. Real time: a paused clock does not see it. The limits are far above
//! what is measured, and far below what a scan of all children per event would take.

use std::time::Duration;

use perennial_core::{ExitReason, Restart};
use perennial_supervision::{ChildSpec, Clock, DynamicSupervisorSpec, StopToken, SupervisorSpec};

use crate::{
    dyn_children::start_with,
    harness::proves,
    made,
    probe::{SOON, root, until},
    sup_template,
};

/// Too short to tell from noise.
const AT_LEAST: Duration = Duration::from_millis(2);

fn nth(nth: usize) -> ChildSpec {
    made::child(&format!("c{nth}"), || Ok(()))
}

/// Starts and terminates so many instances of one template.
async fn instances(many: usize) -> Duration {
    let (root, supervisor) = sup_template::start().await;
    let clock = root.tree().clock();
    let begun = clock.now();
    let mut children = Vec::new();
    for number in 0..many {
        let spec = nth(number).restart(Restart::Temporary);
        children.push(supervisor.start_child(spec).await.unwrap().unwrap());
    }
    assert_eq!(supervisor.count_children().unwrap().active, many);
    for child in &children {
        supervisor.terminate_child(child).await.unwrap();
    }
    assert_eq!(supervisor.count_children().unwrap().active, 0);
    clock.now().since(begun).max(AT_LEAST)
}

proves!(ten_times_the_instances_take_about_ten_times_as_long, real_time, ["SUP-175"]);
async fn ten_times_the_instances_take_about_ten_times_as_long() {
    let few = instances(400).await;
    let many = instances(4000).await;
    assert!(many < 50 * few, "{few:?} for 400, {many:?} for 4000");
}

/// Starts, terminates and deletes so many children of a static supervisor.
async fn children(many: usize) -> Duration {
    let root = root(SupervisorSpec::new("top")).await;
    let (clock, top) = (root.tree().clock(), root.supervisor());
    let begun = clock.now();
    for number in 0..many {
        top.start_child(nth(number)).await.unwrap();
    }
    for number in 0..many {
        top.terminate_child(format!("c{number}")).await.unwrap();
    }
    for number in 0..many {
        top.delete_child(format!("c{number}")).await.unwrap();
    }
    let took = clock.now().since(begun).max(AT_LEAST);
    assert_eq!(top.count_children().unwrap().specs, 0);
    took
}

proves!(a_hundred_times_the_children_take_no_thousand_times_as_long, real_time, ["SUP-208"]);
async fn a_hundred_times_the_children_take_no_thousand_times_as_long() {
    let few = children(50).await;
    let many = children(5000).await;
    assert!(many < 1000 * few, "{few:?} for 50, {many:?} for 5000");
}

/// Time of a crash with its restart, among so many siblings that take a while to stop; then of the
/// end of all.
async fn crash_and_shutdown(clock: Clock, siblings: usize) -> (Duration, Duration) {
    let spec = DynamicSupervisorSpec::unlimited("dyn").intensity(99, SOON);
    let (root, dynamic) = start_with(spec).await;
    for _ in 0..siblings {
        let task = ChildSpec::cooperative_task("t", |stop: StopToken| async move {
            stop.stopped().await;
            let wait = std::future::pending::<()>();
            drop(tokio::time::timeout(Duration::from_millis(50), wait).await);
            Err::<(), ExitReason>(ExitReason::Shutdown)
        })
        .restart(perennial_core::Restart::Permanent);
        dynamic.start_child(task).await.unwrap();
    }
    dynamic.start_child(made::child("x", || Ok(()))).await.unwrap();
    assert_eq!(dynamic.count_children().unwrap().active, siblings + 1);
    let mut crashes = Vec::new();
    for _ in 0..30 {
        let begun = clock.now();
        let victim = root.tree().crash("/top/dyn/x").unwrap();
        victim.exit().await;
        until(|| root.tree().is_succeeded("/top/dyn/x", &victim)).await;
        crashes.push(clock.now().since(begun));
    }
    // The quickest is the one that nobody else on this machine disturbed.
    let quickest = crashes.into_iter().min().unwrap().max(Duration::from_micros(50));
    let begun = clock.now();
    assert_eq!(root.shutdown().await.unkillable, [""; 0]);
    (quickest, clock.now().since(begun))
}

proves!(ten_thousand_dynamic_children_are_no_burden, real_time, ["DYN-050"]);
async fn ten_thousand_dynamic_children_are_no_burden() {
    let clock = Clock::start();
    let (among_few, _) = crash_and_shutdown(clock, 10).await;
    let begun = clock.now();
    let (among_many, stop) = crash_and_shutdown(clock, 9_999).await;
    let all = clock.now().since(begun);
    assert!(among_many < 6 * among_few, "a crash: {among_few:?}, {among_many:?}");
    assert!(stop < Duration::from_secs(15), "500 s one after another, but {stop:?}");
    assert!(all < Duration::from_secs(40), "{all:?}");
    // A look at each of ten thousand would take little longer than a restart does.
    let (among_more, _) = crash_and_shutdown(clock, 60_000).await;
    assert!(among_more < 6 * among_few, "a crash: {among_few:?}, {among_more:?}");
}
