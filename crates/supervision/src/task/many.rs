//! Several tasks at once.

use std::{future::Future, num::NonZero, pin::pin, task::Poll, time::Duration};

use futures_util::future::join_all;
use perennial_core::{ExitReason, Shutdown};

use super::{Task, TaskError, Yielded};

/// What becomes of tasks that have not finished in time.
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use perennial_supervision::{OnTimeout, yield_many};
///
/// let mut both = [
///     tasks.async_nolink("quick", async { 1 }).await?,
///     tasks.async_nolink("slow", std::future::pending()).await?,
/// ];
/// let found = yield_many(&mut both, Duration::from_secs(1), None, OnTimeout::KillTask).await?;
/// assert_eq!(found, [Some(Ok(1)), None]);
/// assert!(!both[1].reference().expect("it has a process").is_alive());
/// # root.shutdown().await; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTimeout {
    /// They run on, and can be asked again.
    #[default]
    Nothing,
    /// They are killed, and have ended when the call returns (TSK-032).
    KillTask,
    /// They run on, unlinked, and their values are not wanted any more (TSK-033).
    Ignore,
}

/// Waits for all values, in the order of `tasks` whatever the order in which they come (TSK-020). One
/// deadline holds for all (TSK-024).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use perennial_supervision::await_many;
///
/// let mut squares = Vec::new();
/// for number in 1..=3 {
///     squares.push(tasks.async_nolink("square", async move { number * number }).await?);
/// }
/// assert_eq!(await_many(squares, Duration::from_secs(1)).await, Ok(vec![1, 4, 9]));
/// # root.shutdown().await; Ok(()) }
/// ```
///
/// # Errors
///
/// As soon as any task ends without a value (TSK-025), when `within` passes, or when one of them
/// belongs to another process. The other tasks run on; none of them can be asked any more.
///
/// # Cancel safety
///
/// Values that were there are lost with the future.
pub async fn await_many<T>(mut tasks: Vec<Task<T>>, within: Duration) -> Result<Vec<T>, TaskError> {
    for task in &tasks {
        task.owned()?;
    }
    let mut values: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    let all = async {
        let mut missing: Vec<_> = values.iter_mut().zip(&mut tasks).collect();
        let mut futures: Vec<_> = missing
            .iter_mut()
            .map(|(place, task)| {
                Some(Box::pin(async {
                    **place = Some(task.found().await?);
                    Ok::<(), ExitReason>(())
                }))
            })
            .collect();
        std::future::poll_fn(|cx| {
            let mut waits = false;
            for future in &mut futures {
                let Some(pending) = future else { continue };
                match pending.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => *future = None,
                    Poll::Ready(Err(reason)) => return Poll::Ready(Err(reason)),
                    Poll::Pending => waits = true,
                }
            }
            if waits { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    };
    let all = tokio::time::timeout(within, all).await;
    all.map_err(|_| TaskError::Timeout)?.map_err(TaskError::Exited)?;
    Ok(values.into_iter().flatten().collect())
}

/// What there is of each task within that time, in the order of `tasks` (TSK-029). With a `limit` it
/// returns as soon as so many have finished; `on_timeout` does not touch the others then (TSK-030).
///
/// ```
/// # use std::time::Duration;
/// # use perennial_supervision::*;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (spec, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", 100));
/// # let app = SupervisorSpec::new("app").child(spec);
/// # let root = Root::start(app, Clock::start(), Options::default()).await?;
/// use perennial_supervision::{OnTimeout, yield_many};
/// use std::num::NonZero;
///
/// // Whichever is the first of the two.
/// let mut both = [
///     tasks.async_nolink("slow", std::future::pending()).await?,
///     tasks.async_nolink("quick", async { 2 }).await?,
/// ];
/// let one = NonZero::new(1);
/// let found = yield_many(&mut both, Duration::from_secs(1), one, OnTimeout::Nothing).await?;
/// assert_eq!(found, [None, Some(Ok(2))]);
/// # root.shutdown().await; Ok(()) }
/// ```
///
/// # Errors
///
/// When one of them belongs to another process: nothing is asked then.
///
/// # Cancel safety
///
/// Values that were there are lost with the future.
pub async fn yield_many<T>(
    tasks: &mut [Task<T>],
    within: Duration,
    limit: Option<NonZero<usize>>,
    on_timeout: OnTimeout,
) -> Result<Vec<Yielded<T>>, TaskError> {
    for task in &*tasks {
        task.owned()?;
    }
    let wanted = limit.map_or(tasks.len(), |limit| limit.get().min(tasks.len()));
    let mut found: Vec<Yielded<T>> = tasks.iter().map(|_| None).collect();
    let in_time = {
        let mut futures: Vec<_> =
            tasks.iter_mut().map(|task| Some(Box::pin(task.found()))).collect();
        let enough = std::future::poll_fn(|cx| {
            for (place, future) in found.iter_mut().zip(&mut futures) {
                let Some(pending) = future else { continue };
                if let Poll::Ready(result) = pending.as_mut().poll(cx) {
                    *place = Some(result);
                    *future = None;
                }
            }
            let finished = found.iter().filter(|it| it.is_some()).count();
            if finished >= wanted { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout(within, pin!(enough)).await.is_ok()
    };
    if !in_time {
        let late = found.iter_mut().zip(tasks).filter(|(place, _)| place.is_none());
        match on_timeout {
            OnTimeout::Nothing => (),
            OnTimeout::KillTask => {
                let kills = late.map(|(place, task)| async {
                    // Owned, as was asked above. One that finished at this very moment did in time.
                    if let Ok(Some(Ok(value))) = task.shutdown(Shutdown::BrutalKill).await {
                        *place = Some(Ok(value));
                    }
                });
                join_all(kills).await;
            }
            OnTimeout::Ignore => {
                for (place, task) in late {
                    if let Ok(found) = task.ignore().await {
                        *place = found;
                    }
                }
            }
        }
    }
    Ok(found)
}
