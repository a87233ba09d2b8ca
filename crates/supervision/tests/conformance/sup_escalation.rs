//! SUP escalation: what many restarts add up to, over levels and over time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use perennial_core::{
    ExitReason, Uptime, Verdict,
    intensity::{IntensityLimit, RestartIntensity},
};
use perennial_supervision::{ChildSpec, Supervisor, SupervisorSpec};

use crate::{
    harness::proves,
    probe::{Message, SOON, World, root},
};

proves!(each_level_gives_up_by_its_own_count, ["SUP-131"]);
async fn each_level_gives_up_by_its_own_count() {
    for levels in [&[1, 2][..], &[3, 0], &[0, 3], &[1, 2, 3], &[2, 0, 1]] {
        let starts = Arc::new(AtomicU32::new(0));
        let count = starts.clone();
        let mut child = ChildSpec::task("leaf", move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { Err::<(), _>("the leaf always fails") }
        })
        .restart(perennial_core::Restart::Permanent);
        let (top, below) = levels.split_first().unwrap();
        for (depth, max) in below.iter().enumerate().rev() {
            let spec = SupervisorSpec::new(format!("level {depth}")).intensity(*max, SOON);
            child = Supervisor::child_spec(spec.child(child)).0;
        }
        let root = root(SupervisorSpec::new("top").intensity(*top, SOON).child(child)).await;
        assert_eq!(root.ended().await, ExitReason::Shutdown);
        let lives: u32 = levels.iter().map(|max| max + 1).product();
        assert_eq!(starts.load(Ordering::SeqCst), lives, "{levels:?}");
    }
}

/// Lets the clock on the wall run on, and no other.
#[expect(clippy::disallowed_methods, reason = "it is what must not matter")]
fn pass_wall_time(time: Duration) {
    let begun = SystemTime::now();
    while begun.elapsed().unwrap() < time {
        std::hint::spin_loop();
    }
}

proves!(only_the_monotonic_clock_counts, ["SUP-133"]);
async fn only_the_monotonic_clock_counts() {
    const WINDOW: Duration = Duration::from_millis(10);
    let crash = async |world: &World| {
        world.probes[0].end(|| Message::Panic).await;
        world.probes[0].answers().await
    };
    // The clock on the wall runs ahead: nothing leaves the window.
    let world = World::start(|spec| spec.intensity(2, WINDOW)).await;
    for counted in 1..=2 {
        crash(&world).await;
        assert_eq!(world.counted(), counted);
        pass_wall_time(3 * WINDOW);
    }
    world.probes[0].end(|| Message::Panic).await;
    assert_eq!(world.root.ended().await, ExitReason::Shutdown);
    // It falls behind: what is older than the window has left it.
    let world = World::start(|spec| spec.intensity(2, WINDOW)).await;
    for _ in 0..9 {
        crash(&world).await;
        tokio::time::advance(WINDOW).await;
        assert_eq!(world.counted(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(world.counted(), 0);
    }
}

proves!(a_history_is_no_longer_than_its_period, ["SUP-135"]);
async fn a_history_is_no_longer_than_its_period() {
    const SHORT: Duration = Duration::from_millis(10);
    let world = World::start(|spec| spec.intensity(u32::MAX, SHORT)).await;
    for _ in 0..200 {
        world.probes[0].end(|| Message::Panic).await;
        world.probes[0].answers().await;
        assert!(world.counted() <= 3, "{}", world.counted());
        tokio::time::advance(SHORT / 2).await;
    }
    // What it holds, by what it prints of itself.
    let mut history =
        RestartIntensity::new(IntensityLimit { max_restarts: u32::MAX, within: SHORT });
    let mut longest = 0;
    for nth in 0..10_000 {
        assert_eq!(history.record(Uptime::new(nth * SHORT / 2)), Verdict::Restart);
        longest = longest.max(format!("{history:?}").matches("Uptime").count());
    }
    assert_eq!(longest, 3);
}
