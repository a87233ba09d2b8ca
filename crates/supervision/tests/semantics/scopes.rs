//! Scopes: their tasks live no longer than they do.

use std::time::Duration;

use perennial_core::ExitReason;
use perennial_supervision::{
    Clock, RequestError, Root, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec,
};

use crate::probe::{Log, SOON, root, until};

/// Something that tells when it is dropped.
struct Tells(Log, &'static str);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

async fn start(max: usize) -> (Root, TaskSupervisor) {
    let (child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", max));
    (root(SupervisorSpec::new("top").child(child)).await, tasks)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn waits(millis: u64) -> u64 {
    tokio::time::timeout(ms(millis), std::future::pending::<()>()).await.unwrap_err();
    millis
}

#[tokio::test(start_paused = true)]
async fn its_values_come_in_the_order_of_the_starts_and_a_failure_in_its_place() {
    let (_root, tasks) = start(9).await;
    let mut scope = tasks.scope();
    for millis in [30, 10, 20] {
        scope.start("good", waits(millis)).await.unwrap();
    }
    scope.start("bad", async { panic!("oh") }).await.unwrap();
    let late = scope.start("late", waits(99)).await.unwrap();
    assert_eq!((scope.len(), scope.is_empty()), (5, false));
    let clock = Clock::start();
    let mut found = scope.close(ms(50)).await;
    assert_eq!(clock.now().elapsed(), ms(50));
    assert_eq!(late.exit_reason(), Some(ExitReason::Killed), "on return");
    assert_eq!(found.pop(), Some(Err(ExitReason::Timeout)));
    let Some(Err(ExitReason::Panic { message, .. })) = found.pop() else { panic!("{found:?}") };
    assert_eq!(&*message, "oh");
    assert_eq!(found, [Ok(30), Ok(10), Ok(20)]);
    until(|| tasks.children().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_it_leaves_no_task() {
    let (_root, tasks) = start(2).await;
    let log = Log::default();
    let work = |name| {
        let tells = Tells(log.clone(), name);
        async move {
            let _tells = tells;
            std::future::pending::<()>().await;
        }
    };
    async fn leaves(scope: &mut perennial_supervision::Scope<()>) -> Result<(), RequestError> {
        scope.start("third", std::future::pending()).await.map(drop)
    }
    {
        let mut scope = tasks.scope();
        scope.start("first", work("first")).await.unwrap();
        scope.start("second", work("second")).await.unwrap();
        assert_eq!(leaves(&mut scope).await, Err(RequestError::MaxChildren(2)));
        assert_eq!(tasks.children(), ["first", "second"], "a refusal harms nobody");
    }
    until(|| tasks.children().is_empty()).await;
    let mut lines = log.take();
    lines.sort();
    assert_eq!(lines, ["first", "second"]);
    // One that was being started when it was left.
    let mut scope = tasks.scope();
    let mut begins = Box::pin(scope.start("unseen", work("unseen")));
    assert!(futures_util::poll!(&mut begins).is_pending());
    drop(begins);
    drop(scope);
    until(|| log.len() == 1).await;
    until(|| tasks.children().is_empty()).await;
    // And one that is cancelled by name: nothing runs when that returns.
    let mut scope = tasks.scope();
    let task = scope.start("cancelled", work("cancelled")).await.unwrap();
    scope.cancel().await;
    assert_eq!(task.exit_reason(), Some(ExitReason::Killed));
    assert_eq!(log.take(), ["unseen", "cancelled"]);
    let empty = tasks.scope::<()>();
    assert_eq!(empty.close(SOON).await, []);
}
