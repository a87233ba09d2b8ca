//! Task supervisors: bounded, listed, stopped in order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::ExitReason;
use perennial_supervision::{
    RequestError, Root, SupervisorSpec, TaskError, TaskSupervisor, TaskSupervisorSpec,
};
use tokio::sync::oneshot;

use crate::probe::{SOON, root};

async fn start(max: usize) -> (Root, TaskSupervisor) {
    let (child, tasks) = TaskSupervisor::child_spec(TaskSupervisorSpec::new("tasks", max));
    (root(SupervisorSpec::new("top").child(child)).await, tasks)
}

#[tokio::test(start_paused = true)]
async fn a_result_comes_back_and_a_panic_harms_only_its_task() {
    let (_root, tasks) = start(4).await;
    let mut good = tasks.async_nolink("good", async { 42 }).await.unwrap();
    let mut bad = tasks.async_nolink("bad", async { panic!("oh") as u32 }).await.unwrap();
    assert_eq!(good.join(SOON).await, Ok(42));
    let Err(TaskError::Exited(ExitReason::Panic { message, .. })) = bad.join(SOON).await else {
        panic!("{bad:?}")
    };
    assert_eq!(&*message, "oh");
    while !tasks.children().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_the_task_running_and_the_result_for_later() {
    let (_root, tasks) = start(4).await;
    let (finish, finished) = oneshot::channel();
    let work = async { finished.await.unwrap() };
    let mut task = tasks.async_nolink("slow", work).await.unwrap();
    assert_eq!(task.yield_within(Duration::from_secs(1)).await, Ok(None));
    assert_eq!(tasks.children(), ["slow"]);
    finish.send(7).unwrap();
    assert_eq!(task.join(SOON).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn too_many_tasks_are_refused_and_a_terminated_one_is_gone() {
    let (_root, tasks) = start(1).await;
    let task = tasks.start_child("one", std::future::pending()).await.unwrap();
    let refused = tasks.start_child("two", std::future::pending()).await.unwrap_err();
    assert_eq!(refused, RequestError::MaxChildren(1));
    assert_eq!(tasks.terminate_child(&task).await, Ok(()));
    assert_eq!(task.exit().await, ExitReason::Shutdown);
    let again = tasks.terminate_child(&task).await;
    assert_eq!(again, Err(RequestError::NotFound("one".into())));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_stops_tasks_promptly_and_their_watchers_are_told() {
    let (root, tasks) = start(4).await;
    let task = tasks.start_child("one", std::future::pending()).await.unwrap();
    let told: Arc<Mutex<Vec<ExitReason>>> = Arc::default();
    let sink = told.clone();
    task.on_exit(move |reason| sink.lock().unwrap().push(reason.clone()));
    let report = root.shutdown().await;
    assert_eq!(report.took, Duration::ZERO);
    assert_eq!(*told.lock().unwrap(), [ExitReason::Shutdown]);
    let sink = told.clone();
    task.on_exit(move |reason| sink.lock().unwrap().push(reason.clone()));
    assert_eq!(told.lock().unwrap().len(), 2, "a watcher of the dead is told at once");
    let refused = tasks.start_child("late", async {}).await.unwrap_err();
    assert_eq!(refused, RequestError::NoProc);
}
