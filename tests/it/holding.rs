//! Attempts that hold services: what is started for them, and what becomes of it however they end.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use perennial::{
    Adoption, RunState, Runtime, Store,
    engine::{AttemptCx, Outcome, workflow::BoxFuture},
    records::{AttemptEnd, Failure, FailureClass, RunHandle},
    service::{
        DriverFuture, Epoch, Instance, Probe, ProbeResult, Scope, ServiceDriver, ServiceKey,
        ServiceSpec, StartError, StopError, StopMode,
    },
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use crate::{gate::SOON, one_job::OneJob};

/// Counts what it is told to do.
#[derive(Clone, Debug, Default)]
struct Counting {
    starts: Arc<AtomicU32>,
    stops: Arc<AtomicU32>,
    is_down: Arc<AtomicBool>,
}

impl Counting {
    fn done(&self) -> (u32, u32) {
        (self.starts.load(Ordering::SeqCst), self.stops.load(Ordering::SeqCst))
    }

    fn spec(&self) -> ServiceSpec {
        let spec = ServiceSpec::new("app", self.clone()).scope(Scope::Keyed);
        spec.idle_stop(Duration::from_secs(1))
    }
}

impl ServiceDriver for Counting {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            if self.is_down.load(Ordering::SeqCst) {
                return Err(StartError::Retryable("the port is taken".into()));
            }
            self.starts.fetch_add(1, Ordering::SeqCst);
            Ok(Instance::at(format!("{key}/{epoch}")))
        })
    }

    fn stop<'a>(&'a self, _: &'a Instance, _: StopMode) -> DriverFuture<'a, Result<(), StopError>> {
        self.stops.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, _: &'a Instance, _: Probe) -> DriverFuture<'a, ProbeResult> {
        Box::pin(async { ProbeResult::Pass })
    }
}

fn app() -> ServiceKey {
    ServiceKey::keyed("app", "7")
}

/// Holds it until the gate opens, and answers where it is.
async fn holds(cx: AttemptCx, mut gate: watch::Receiver<bool>) -> Outcome {
    let held = match cx.hold(&app()).await {
        Ok(held) => held,
        Err(unavailable) => return Outcome::Unavailable(unavailable),
    };
    let again = cx.hold(&app()).await.unwrap();
    assert_eq!((again.epoch(), again.endpoint()), (held.epoch(), held.endpoint()));
    drop(again);
    cx.checkpoint_to_keep("held", &held.endpoint()).await.unwrap();
    gate.wait_for(|open| *open).await.unwrap();
    Outcome::Succeeded(json!(held.endpoint()))
}

async fn runtime(store: Store, driver: &Counting) -> Runtime {
    let builder = Runtime::builder().store(store).adoption(Adoption::OnRequest);
    builder.drain_within(Duration::ZERO).service(driver.spec()).start().await.unwrap()
}

async fn start(runtime: &Runtime, run: &str, gate: &watch::Sender<bool>) -> RunHandle {
    let gate = gate.subscribe();
    let work = move |cx| Box::pin(holds(cx, gate.clone())) as BoxFuture<'static, Outcome>;
    OneJob::start_as(runtime, Some(run), None, work).await
}

/// Waits until an attempt of the run says that it holds it.
async fn is_held(run: &RunHandle) {
    let mut events = run.events(1);
    let held = async { while events.next().await.unwrap().kind != "checkpoint_saved" {} };
    tokio::time::timeout(SOON, held).await.unwrap();
}

/// Waits until the driver has done that.
async fn until(driver: &Counting, done: (u32, u32)) {
    let waited = async {
        while driver.done() != done {
            sleep(Duration::from_millis(20)).await; // real time, or a paused clock
        }
    };
    let late = |_| panic!("{:?}, and not {done:?}", driver.done());
    tokio::time::timeout(SOON, waited).await.unwrap_or_else(late);
}

async fn result(run: &RunHandle) -> Value {
    let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    outcome.view.jobs[0].result.clone().unwrap()
}

/// D30, FL5.
/// Proves INV-24.
#[tokio::test(start_paused = true)]
async fn two_runs_that_hold_one_instance_start_it_once_and_the_last_one_stops_it() {
    let driver = Counting::default();
    let runtime = runtime(Store::memory(), &driver).await;
    let (one, two) = (watch::Sender::new(false), watch::Sender::new(false));
    let (first, second) = (start(&runtime, "1", &one).await, start(&runtime, "2", &two).await);
    is_held(&first).await;
    is_held(&second).await;
    one.send_replace(true);
    assert_eq!(result(&first).await, json!("app:7/1"));
    sleep(Duration::from_secs(5)).await; // paused clock: longer than it runs idle
    assert_eq!(driver.done(), (1, 0), "the other one uses it");
    two.send_replace(true);
    assert_eq!(result(&second).await, json!("app:7/1"));
    until(&driver, (1, 1)).await;
    runtime.shutdown().await;
}

/// FL9: by success, failure, cancellation, or the end of its task.
/// Proves INV-24, B47.
#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_an_attempt_what_it_held_is_stopped() {
    let driver = Counting::default();
    let runtime = runtime(Store::memory(), &driver).await;
    let (shut, open) = (watch::Sender::new(false), watch::Sender::new(true));

    let run = start(&runtime, "cancelled", &shut).await;
    is_held(&run).await;
    assert!(run.cancel().await.unwrap());
    assert_eq!(run.outcome().await.unwrap().state, RunState::Cancelled);
    until(&driver, (1, 1)).await;

    let fails = |cx: AttemptCx| {
        Box::pin(async move {
            let _held = cx.hold(&app()).await.unwrap();
            Outcome::Failed(Failure::new(FailureClass::Permanent, "T1", "no"))
        }) as BoxFuture<'static, Outcome>
    };
    let run = OneJob::start_as(&runtime, Some("failed"), None, fails).await;
    assert_eq!(run.outcome().await.unwrap().state, RunState::Failed);
    until(&driver, (2, 2)).await;

    // Its next attempt finds what runs.
    let run = start(&runtime, "killed", &shut).await;
    is_held(&run).await;
    let task = "/perennial/tasks/killed:a#1";
    runtime.supervision_tree().kill(task).unwrap().exit().await;
    shut.send_replace(true);
    assert_eq!(result(&run).await, json!("app:7/5"));
    until(&driver, (3, 3)).await;

    let run = start(&runtime, "done", &open).await;
    assert_eq!(result(&run).await, json!("app:7/7"));
    until(&driver, (4, 4)).await;
    runtime.shutdown().await;
}

/// Proves INV-20.
#[tokio::test(start_paused = true)]
async fn one_that_does_not_come_up_is_waited_for_and_costs_no_attempt() {
    let driver = Counting::default();
    driver.is_down.store(true, Ordering::SeqCst);
    let runtime = runtime(Store::memory(), &driver).await;
    let open = watch::Sender::new(true);
    let run = start(&runtime, "r", &open).await;
    let mut events = run.events(1);
    while events.next().await.unwrap().kind != "job_deferred" {}
    driver.is_down.store(false, Ordering::SeqCst);
    let outcome = tokio::time::timeout(SOON * 10, run.outcome()).await.unwrap().unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    assert_eq!(outcome.view.jobs[0].attempts_used, 1);
    let ends: Vec<_> = outcome.view.attempts.iter().filter_map(|attempt| attempt.end).collect();
    assert_eq!(
        (ends.first(), ends.last()),
        (Some(&AttemptEnd::Unavailable), Some(&AttemptEnd::Succeeded))
    );
    runtime.shutdown().await;

    // What nobody has declared is not waited for.
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let run = start(&runtime, "r", &open).await;
    let outcome = run.outcome().await.unwrap();
    assert_eq!(outcome.state, RunState::Failed);
    let told = format!("{:?}", outcome.view.jobs[0]) + &format!("{:?}", outcome.view.attempts);
    assert!(told.contains("there is no service `app`"), "{told}");
    runtime.shutdown().await;
}

async fn on_file(path: &Path, driver: &Counting) -> Runtime {
    runtime(Store::sqlite(path), driver).await
}

/// FL5.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_goes_on_in_a_later_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.db");
    let driver = Counting::default();
    let shut = watch::Sender::new(false);
    let first = on_file(&path, &driver).await;
    let run = start(&first, "r", &shut).await;
    is_held(&run).await;
    drop(run);
    first.shutdown().await;
    assert_eq!(driver.done(), (1, 1), "nothing is left behind");
    let second = on_file(&path, &driver).await;
    shut.send_replace(true);
    let run = start(&second, "r", &shut).await;
    assert_eq!(result(&run).await, json!("app:7/3"), "its lives are counted on");
    drop(run);
    second.shutdown().await;
    assert_eq!(driver.done().0, 2);
    assert_eq!(driver.done().1, 2);
}
