//! A function over many elements: our streams next to tasks of tokio without supervision.

use futures_util::{StreamExt, stream};
use perennial_supervision::{
    Clock, Options, Root, StreamOptions, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
};

use crate::measure::Meter;

/// Elements at a time.
pub(crate) const WIDTH: usize = 8;

/// The function. What it costs is nothing; what is measured is all around it.
async fn work(number: usize) -> usize {
    std::hint::black_box(number) + 1
}

/// Supervised: each element has a time limit, a process and callers, and its panic is its own.
pub(crate) async fn ours(count: usize, options: StreamOptions) -> f64 {
    let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", WIDTH));
    let root = SupervisorSpec::new("root").child(spec);
    let root = Root::start(root, Clock::start(), Options::default()).await.expect("it starts");
    let meter = Meter::start();
    let stream = tasks.async_stream(0..count, work, options).expect("it is well");
    let sum = stream.fold(0, |sum: usize, it| async move { sum + it.expect("a value") }).await;
    let measured = meter.per(count);
    assert_eq!(sum, (1..=count).sum::<usize>());
    root.shutdown().await;
    measured
}

/// A task of tokio for each, nothing else: no time limit, and nobody who stops them.
pub(crate) async fn bare(count: usize) -> f64 {
    let meter = Meter::start();
    let tasks = stream::iter(0..count).map(|number| tokio::spawn(work(number)));
    let sum = tasks
        .buffer_unordered(WIDTH)
        .fold(0, |sum: usize, it| async move { sum + it.expect("a value") })
        .await;
    let measured = meter.per(count);
    assert_eq!(sum, (1..=count).sum::<usize>());
    measured
}
