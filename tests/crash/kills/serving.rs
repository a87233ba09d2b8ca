//! A victim whose job uses a service: a process of its own, or something that outlives its host and is found again. The
//! driver dies where the store does, between what is written of an instance and what is done to it.

use std::{fmt, fs, path::PathBuf, sync::Arc, time::Duration};

use perennial::{
    RunId,
    engine::{
        AttemptCx, Definition, Definitions, NotRunnable, StartRun, Workflow,
        staged::{
            Activity, ActivityError, Ended, Feed, JobSpec, Plan, PlanProblems, RunReport, Stage,
            Staged, StagedWorkflow,
        },
        workflow::{BoxFuture, RetryPolicy},
    },
    records::{Failure, FailureClass, RunRecord},
    service::{
        ChildProcess, DriverFuture, Epoch, Instance, InstanceNote, Probe, ProbeResult, Scope,
        ServiceDriver, ServiceKey, ServiceSpec, ServiceState, ServiceTerms, StartError, StopError,
        StopMode,
    },
};
use perennial_store::Store;
use serde_json::{Value, json};

use super::{
    host::Host,
    victim::{Ledger, Orders},
};

/// How long it runs after its last hold.
const IDLE: Duration = Duration::from_millis(30);
/// How soon after it is needed no more nothing of it runs, with much time for a busy machine.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// How long anything else takes.
const PACE: Duration = Duration::from_millis(3);

/// The instance that a run uses, and nobody else.
pub(super) fn key(run: &RunId) -> ServiceKey {
    ServiceKey::keyed("app", run.as_str())
}

/// What it is that a victim has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A process, which goes with its host.
    Process,
    /// Something that outlives its host.
    Lasting,
}

/// Where it is: all there is of one that outlives its host, and what a process is told, so that it is found.
struct Served {
    folder: PathBuf,
    kind: Kind,
    process: ChildProcess,
    ledger: Arc<Ledger>,
}

impl Served {
    fn new(folder: &str, kind: Kind, ledger: Arc<Ledger>) -> Self {
        let script = "echo \"ready as process:$$\"; read -r _";
        let process = ChildProcess::new("/bin/sh").arg("-c").arg(script).arg(folder);
        let process = process.ready_line("ready as ");
        Self { folder: folder.into(), kind, process, ledger }
    }

    fn place(&self, epoch: Epoch) -> PathBuf {
        self.folder.join(format!("app-{epoch}"))
    }

    fn spec(self) -> ServiceSpec {
        let terms = ServiceTerms {
            idle_stop: IDLE,
            start_probe_every: PACE,
            start_backoff: PACE,
            ..ServiceTerms::default()
        };
        ServiceSpec::new("app", self).scope(Scope::Keyed).terms(terms).calls_max(1)
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl ServiceDriver for Served {
    fn start<'a>(
        &'a self,
        key: &'a ServiceKey,
        epoch: Epoch,
    ) -> DriverFuture<'a, Result<Instance, StartError>> {
        Box::pin(async move {
            self.ledger.passes("start:before");
            let instance = match self.kind {
                Kind::Process => self.process.start(key, epoch).await?,
                Kind::Lasting => {
                    let place = self.place(epoch);
                    fs::write(&place, "it runs").unwrap();
                    Instance::at(place.display().to_string())
                }
            };
            self.ledger.write(&format!("started {epoch}"));
            self.ledger.passes("start:after");
            Ok(instance)
        })
    }

    fn stop<'a>(
        &'a self,
        instance: &'a Instance,
        mode: StopMode,
    ) -> DriverFuture<'a, Result<(), StopError>> {
        Box::pin(async move {
            self.ledger.passes("stop:before");
            match self.kind {
                Kind::Process => self.process.stop(instance, mode).await?,
                Kind::Lasting => fs::remove_file(instance.endpoint().unwrap()).unwrap(),
            }
            self.ledger.write("stopped");
            self.ledger.passes("stop:after");
            Ok(())
        })
    }

    fn adopt<'a>(
        &'a self,
        _: &'a ServiceKey,
        epoch: Epoch,
        note: Option<&'a InstanceNote>,
    ) -> DriverFuture<'a, Option<Instance>> {
        let place = self.place(epoch);
        let found = place.exists().then(|| Instance::at(place.display().to_string()));
        if let Some(instance) = &found {
            let noted = note.and_then(|note| note.endpoint.as_deref());
            assert!(noted.is_none() || noted == instance.endpoint(), "{noted:?}");
            self.ledger.write(&format!("found {epoch}"));
        }
        Box::pin(std::future::ready(found))
    }

    fn probe<'a>(&'a self, instance: &'a Instance, probe: Probe) -> DriverFuture<'a, ProbeResult> {
        if self.kind == Kind::Process {
            return self.process.probe(instance, probe);
        }
        let is_there = fs::exists(instance.endpoint().unwrap()).unwrap();
        let gone = || ProbeResult::Gone("it is not there".into());
        Box::pin(async move { if is_there { ProbeResult::Pass } else { gone() } })
    }
}

/// Whether what is reached there runs; where the system shows no processes, they are taken at their word.
fn runs(endpoint: &str) -> bool {
    match endpoint.strip_prefix("process:") {
        Some(pid) => {
            !fs::exists("/proc/self").unwrap() || fs::exists(format!("/proc/{pid}")).unwrap()
        }
        None => fs::exists(endpoint).unwrap(),
    }
}

/// Asks the service, once.
struct Ask(Arc<Ledger>);

impl Activity for Ask {
    const NAME: &'static str = "ask";
    type In = RunId;
    type Out = Value;

    async fn run(&self, cx: &AttemptCx, run: RunId) -> Result<Ended<Value>, ActivityError> {
        self.0.write(&format!("begin {} {}", cx.job, cx.attempt));
        self.0.passes("user:before");
        let held = cx.hold(&key(&run)).await?;
        self.0.passes("held:after");
        let permit = cx.permit(&key(&run)).await?;
        self.0.passes("permit:after");
        if !permit.endpoint().is_some_and(runs) || permit.epoch() != held.epoch() {
            let wrong = format!("{permit:?} is not what runs: {held:?}");
            return Err(Failure::new(FailureClass::Permanent, "APP1", wrong).into());
        }
        let request = Definition::new(run.to_string().into_bytes()).digest;
        let answer = cx.call(request, async |_| Ok(json!(run))).await?;
        permit.settle(None);
        Ok(Ended::Done(answer.value))
    }
}

struct Asking;

impl StagedWorkflow for Asking {
    const NAME: &'static str = "asking";
    const VERSION: u32 = 1;
    type Input = RunId;
    type Output = ();

    fn plan(&self, run: &RunId) -> Result<Plan, PlanProblems> {
        let retry = RetryPolicy { base_ms: 1, cap_ms: 5, ..RetryPolicy::PROVIDER };
        let ask = Stage::activity::<Ask>("ask").retry(retry);
        Ok(Plan::new().stage(ask.feed(Feed::jobs([JobSpec::new("a", run).uses(key(run))]))))
    }

    fn summarize(&self, _: &RunId, _: &RunReport) {}
}

/// Takes the run up again.
struct Revived(Staged<Asking>);

impl fmt::Debug for Revived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revived")
    }
}

impl Definitions for Revived {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        _: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        let workflow = self.0.start(&run.run).unwrap().workflow;
        Box::pin(std::future::ready(Ok(workflow)))
    }
}

/// One life of the process: to the end of the run, and until nothing is left that was started for it.
pub(super) async fn live(orders: &Orders, ledger: Arc<Ledger>) {
    let (folder, lasts) = orders.serving.clone().unwrap();
    let kind = if lasts == 1 { Kind::Lasting } else { Kind::Process };
    let asking = Staged::new(Asking).activity(Ask(ledger.clone()));
    let served = Served::new(&folder, kind, ledger.clone()).spec();
    let revived = Arc::new(Revived(asking.clone()));
    let host = Host::start(orders, ledger.clone(), revived, vec![served]).await;
    let id = RunId::parse(&orders.run).unwrap();
    let start = StartRun { run: Some(id.clone()), ..asking.start(&id).unwrap() };
    let run = host.runs.start(start).await.unwrap();
    ledger.write("created");
    let outcome = run.outcome().await.unwrap();
    ledger.write(&format!("closed {}", outcome.state));
    ledger.passes("closed:after");
    // Not by the shutdown, which would stop it, too.
    let rests = tokio::time::timeout(STOPPED_WITHIN, rests(&*host.store, key(&id))).await;
    rests.expect("it is stopped while its host is up");
    ledger.write("rests");
    host.shutdown().await;
}

/// Waits until its row says that it is stopped.
async fn rests(store: &dyn Store, key: ServiceKey) {
    loop {
        let row = store.instance(key.clone()).await.unwrap();
        if row.is_some_and(|row| row.state == ServiceState::Stopped) {
            return;
        }
        // real time: it runs idle for a while
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
