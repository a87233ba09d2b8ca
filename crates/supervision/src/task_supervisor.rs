//! Work that runs beside actors, under supervision: bounded, listed, stopped in order.
//!
//! A dynamic supervisor of futures that are started once and not restarted. No task is detached:
//! each is in the tree while it runs.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use perennial_core::{ChildId, ExitReason, Restart, tree::NodeKind};
use tokio::sync::oneshot;

use crate::{
    ChildRef, ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, ProcessRef, RequestError,
    StartFault,
    child::{Outcome, start_task},
    process::{CALLERS, callers_from_here},
};

/// What a task supervisor is made of.
#[derive(Clone, Debug)]
pub struct TaskSupervisorSpec(DynamicSupervisorSpec);

impl TaskSupervisorSpec {
    /// A permanent supervisor of at most `max_children` tasks at a time.
    pub fn new(id: impl Into<ChildId>, max_children: usize) -> Self {
        let mut spec = DynamicSupervisorSpec::new(id, max_children);
        spec.kind = NodeKind::TaskSupervisor;
        Self(spec)
    }
}

/// Handle to a task supervisor. Cheap to clone; outlives its restarts.
#[derive(Clone, Debug)]
pub struct TaskSupervisor {
    supervisor: DynamicSupervisor,
}

/// One running task.
#[derive(Clone, Debug)]
pub struct TaskRef {
    child: ChildRef,
}

/// One running task whose result somebody waits for.
pub struct Task<T> {
    reference: TaskRef,
    /// Absent once it was taken, or cannot come any more.
    result: Option<oneshot::Receiver<T>>,
}

/// Why a task gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It ended without one.
    #[error("the task ended without a result: {0}")]
    Exited(ExitReason),
    /// It takes longer; it runs on.
    #[error("no result within the deadline")]
    Timeout,
}

impl TaskSupervisor {
    /// How to supervise a task supervisor, and the handle to it.
    pub fn child_spec(spec: TaskSupervisorSpec) -> (ChildSpec, Self) {
        let (child, supervisor) = DynamicSupervisor::child_spec(spec.0);
        (child, Self { supervisor })
    }

    /// Starts a task that nobody waits for (TSU-012). A stop drops it at its next await.
    ///
    /// # Errors
    ///
    /// When as many tasks as allowed run (TSU-011), or the supervisor is gone; `work` is dropped.
    pub async fn start_child(
        &self,
        id: impl Into<ChildId>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<TaskRef, RequestError> {
        let work = Mutex::new(Some(CALLERS.scope(callers_from_here(), work)));
        let id = id.into();
        let spec = ChildSpec::worker(id, NodeKind::Task, move |cx| {
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            let started = work
                .map(|work| {
                    start_task(&cx, async move {
                        work.await;
                        ExitReason::Normal
                    })
                })
                // Temporary children are started once.
                .map(Outcome::Up)
                .ok_or(StartFault::Failed(ExitReason::NoProc));
            Box::pin(std::future::ready(started))
        });
        let spec = spec.restart(Restart::Temporary);
        self.supervisor.start_child(spec).await.map(|child| TaskRef { child })
    }

    /// Starts a task whose result the caller wants; the task outlives the caller (TSU-004, 007),
    /// and its failure does not harm the caller (TSU-005).
    ///
    /// # Errors
    ///
    /// As [`start_child`](Self::start_child).
    pub async fn async_nolink<T: Send + 'static>(
        &self,
        id: impl Into<ChildId>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Task<T>, RequestError> {
        let (sender, result) = oneshot::channel();
        let reference = self
            .start_child(id, async move {
                // An owner that has left does not want it.
                drop(sender.send(work.await));
            })
            .await?;
        Ok(Task { reference, result: Some(result) })
    }

    /// Stops a task and awaits its end (TSU-016).
    ///
    /// # Errors
    ///
    /// [`RequestError::NotFound`] when it has ended.
    pub async fn terminate_child(&self, task: &TaskRef) -> Result<(), RequestError> {
        self.supervisor.terminate_child(&task.child).await
    }

    /// The task of this name that runs, as published; asks nobody.
    pub fn find(&self, id: &str) -> Option<TaskRef> {
        self.supervisor.find(id).map(|child| TaskRef { child })
    }

    /// Names of the tasks that run, oldest first, as published.
    pub fn children(&self) -> Vec<String> {
        self.supervisor
            .which_children()
            .unwrap_or_default()
            .into_iter()
            .map(|child| child.name().to_owned())
            .collect()
    }
}

impl TaskRef {
    /// Its id.
    pub fn id(&self) -> &ChildId {
        self.child.id()
    }

    /// The process that it is.
    pub fn process(&self) -> &ProcessRef {
        &self.child.first.process
    }

    /// Whether its end has not been announced.
    pub fn is_alive(&self) -> bool {
        self.child.first.ended().reason().is_none()
    }

    /// Why it ended, once that is announced.
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.child.first.ended().reason()
    }

    /// Waits for its end.
    pub async fn exit(&self) -> ExitReason {
        self.child.first_exit().await
    }

    /// Calls `tell` at its end; at once when that is past. `tell` must not block.
    pub fn on_exit(&self, tell: impl FnOnce(&ExitReason) + Send + 'static) {
        self.child.first.ended().on_end(tell);
    }
}

impl<T> Task<T> {
    /// The task without its result.
    pub fn reference(&self) -> &TaskRef {
        &self.reference
    }

    /// Waits for the result. A result wins over an exit (TSK-007).
    ///
    /// # Errors
    ///
    /// When the task ended without a result, or its result was taken before; also when `within`
    /// passed: it then runs on.
    ///
    /// # Cancel safety
    ///
    /// Safe: the result stays until it is taken.
    pub async fn join(&mut self, within: Duration) -> Result<T, TaskError> {
        let attempt = async {
            if let Some(result) = &mut self.result {
                let received = result.await;
                // What was received, or found closed, must not be asked again.
                self.result = None;
                if let Ok(result) = received {
                    return Ok(result);
                }
            }
            Err(TaskError::Exited(self.reference.exit().await))
        };
        tokio::time::timeout(within, attempt).await.unwrap_or(Err(TaskError::Timeout))
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("reference", &self.reference).finish_non_exhaustive()
    }
}
