//! Runs as their users see them: `Runs` starts and finds them; `importing.rs` starts one that
//! began elsewhere, `handle.rs` reads one, `control.rs` asks things of it, `behalf.rs` for somebody else,
//! `reopening.rs` opens a further round.

mod behalf;
mod control;
mod error;
mod handle;
mod importing;
mod reopening;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use perennial_core::{
    Digest, Timestamp,
    run::{Priority, RunId},
};
use perennial_store::{
    Created, NewJob, NewRun, NewStage, NewTimer, NodeRecord, NodeRef, RunRecord, RunSummary,
    RunView, StoreError,
};
use serde_json::Value;

pub use self::{
    error::RunError,
    handle::{RunHandle, RunOutcome},
    importing::ImportedRun,
    reopening::{RecordedCalls, ReopenRun},
};
use crate::{
    Action, EngineSettings, Services, WarningFeed, Workflow,
    authority::Principals,
    beginning::Starts,
    external::Offered,
    monitor::Monitoring,
    patience::{STORE_WITHIN, patiently},
    run::owner,
    scheduler::Scheduler,
    services::Reads,
    staged::{History, PlanProblems, Recalled},
    workflow::{InvertedTimeouts, Next},
};

/// Handle to all runs of a runtime, whatever they execute. Cheap to clone; outlives restarts.
///
/// Runs of workflow files are started by `Pipelines` of the facade; this is for the list of all, and for a
/// [`Workflow`] of the host's own.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
/// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
/// # let run = runtime.pipelines().start(start).await?;
/// # let run = runtime.runs().get(run.id()).await?;
/// assert_eq!(run.outcome().await?.state.name(), "succeeded");
/// let all = runtime.runs().list(20).await?;
/// assert_eq!((all.len(), all[0].workflow.as_str()), (1, "hi"));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Runs {
    services: Services,
    scheduler: Scheduler,
    principals: Principals,
}

/// What to start.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../doc/one_job.txt")]
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// use perennial::engine::Priority;
///
/// let start = StartRun {
///     run: None, // a new id
///     workflow: Arc::new(Greet(Definition::new(b"greet 1".to_vec()))),
///     settings: serde_json::json!({"hello": "Ada"}),
///     within: Some(Duration::from_secs(60)),
///     priority: Priority::HIGH,
/// };
/// let outcome = runtime.runs().start(start).await?.outcome().await?;
/// assert_eq!(outcome.view.jobs[0].result, Some("Ada".into()));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StartRun {
    /// Its id; a new ULID when absent.
    pub run: Option<RunId>,
    /// What it executes.
    pub workflow: Arc<dyn Workflow>,
    /// Inputs and settings, recorded with the run.
    pub settings: Value,
    /// When it must have ended, counted from now.
    pub within: Option<Duration>,
    /// What comes first of runs that wait, for a place or for room of a node; [`Priority::NORMAL`] as a rule. A run that was
    /// started before with this id keeps the one that it has: [`set_priority`](RunHandle::set_priority) changes it.
    pub priority: Priority,
}

/// The stages and jobs that a run of it begins with. A plan that panics is told of by its run.
fn beginning(
    workflow: &dyn Workflow,
    run: &RunId,
    offered: &Offered,
    settings: &EngineSettings,
    now: Timestamp,
) -> Result<(Vec<NewStage>, Vec<NewJob>), PlanProblems> {
    let staged = panic::catch_unwind(AssertUnwindSafe(|| workflow.staging()));
    let Ok(Some(staging)) = staged else {
        let stage = panic::catch_unwind(AssertUnwindSafe(|| workflow.stage().to_owned()));
        return Ok((vec![NewStage::driven(stage.unwrap_or_default())], Vec::new()));
    };
    let mut problems = staging.unusable(run, offered);
    problems.extend(staging.too_many(settings.plan_jobs_max));
    if !problems.is_empty() {
        return Err(PlanProblems(problems));
    }
    Ok(staging.beginning(run, offered, settings, now))
}

/// What the jobs that `workflow` begins with say of their time limits. One that panics is told of by its run.
fn inverted(workflow: &dyn Workflow, within: Duration) -> Option<InvertedTimeouts> {
    let first = panic::catch_unwind(AssertUnwindSafe(|| workflow.next(&[]))).ok()?;
    match first {
        Next::Jobs(plans) => plans.iter().find_map(|plan| plan.inverted_in(within)),
        Next::Seal => None,
    }
}

impl Runs {
    /// The handle of an engine made of `services` under `scheduler`.
    pub fn new(services: Services, scheduler: Scheduler) -> Self {
        Self { services, scheduler, principals: Principals::default() }
    }

    /// Records a run and starts it. The same id with the same definition and settings is the same
    /// run (YR-6): what may change later, its priority and when it must have ended, stays as it is, whatever `start` says.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/one_job.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use perennial::RunId;
    ///
    /// let start = |name: &str| StartRun {
    ///     run: Some(RunId::parse("greet-17").expect("it can name a run")),
    ///     workflow: Arc::new(Greet(Definition::new(b"greet 1".to_vec()))),
    ///     settings: serde_json::json!({"hello": name}),
    ///     within: None,
    ///     priority: Default::default(),
    /// };
    /// let run = runtime.runs().start(start("Ada")).await?;
    /// let same = runtime.runs().start(start("Ada")).await?;
    /// assert_eq!(run.id(), same.id());
    /// assert!(runtime.runs().start(start("Bob")).await.is_err()); // the id is in use
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a recorded run, which then continues.
    pub async fn start(&self, start: StartRun) -> Result<RunHandle, RunError> {
        self.require(Action::Start, start.run.as_ref()).await?;
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let node = self.services.node().await?;
        let (run, _starts, created) = self.create(&start, Some(node), None).await?;
        match created {
            Created::New { .. } => {
                self.scheduler.ensure(&run, Some(start.workflow), true).await??;
            }
            // Ended, under way here, or to be continued.
            Created::Existing => {
                match self.resume_as(&run, Some(start.workflow), Some(start.priority)).await {
                    Ok(_) | Err(RunError::Ended { .. }) => (),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(RunHandle { runs: self.clone(), run })
    }

    /// Records a run and leaves it to whoever takes it: a node that adopts runs by itself. The same id with the same
    /// definition and settings is the same run, however far it is, and keeps the priority that it has.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/one_job.txt")]
    /// # let builder = Runtime::builder().store(Store::memory());
    /// # let runtime = builder.adoption(perennial::Adoption::OnRequest).start().await?;
    /// let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// let settings = serde_json::json!({"hello": "Ada"});
    /// let left = StartRun { run: None, workflow, settings, within: None, priority: Default::default() };
    /// let run = runtime.runs().submit(left).await?;
    /// assert_eq!(run.view().await?.run.owner, None); // until a node takes it that knows the workflow
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a recorded run.
    pub async fn submit(&self, start: StartRun) -> Result<RunHandle, RunError> {
        self.require(Action::Start, start.run.as_ref()).await?;
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let (run, ..) = self.create(&start, None, None).await?;
        self.services.look_again.notify_one();
        Ok(RunHandle { runs: self.clone(), run })
    }

    async fn create(
        &self,
        start: &StartRun,
        node: Option<NodeRef>,
        history: Option<&History>,
    ) -> Result<(RunId, Starts, Created), RunError> {
        let run = match &start.run {
            Some(run) => run.clone(),
            None => RunId::parse(ulid::Ulid::generate().to_string())?,
        };
        let settings = &self.services.settings;
        let within = start.within.unwrap_or(settings.run_timeout);
        if let Some(inverted) = inverted(&*start.workflow, within) {
            return Err(RunError::InvertedTimeouts(inverted));
        }
        let definition = start.workflow.definition();
        let deadline = self.services.store.now().after(within);
        let offered = self.services.external().map(|it| it.offered()).unwrap_or_default();
        let now = self.services.store.now();
        let (stages, mut jobs) = beginning(&*start.workflow, &run, &offered, settings, now)?;
        let past = match history {
            Some(history) => {
                let workflow = start.workflow.name();
                let of = Recalled { run: &run, workflow, offered: &offered, settings, now };
                Some(importing::recall(&*start.workflow, history, &of, &mut jobs)?)
            }
            None => None,
        };
        let create = || {
            let new = NewRun {
                run: run.clone(),
                workflow: start.workflow.name().to_owned(),
                definition: definition.digest,
                definition_bytes: definition.bytes.to_vec(),
                input_digest: Digest::of_json(&start.settings),
                settings: start.settings.clone(),
                owner: node.clone(),
                priority: start.priority,
                deadline: Some(deadline),
                stages: stages.clone(),
                jobs: jobs.clone(),
                // So that it is looked at in time.
                timers: vec![NewTimer {
                    owner: owner(&run),
                    name: "deadline".to_owned(),
                    at: deadline,
                }],
            };
            match &past {
                Some(past) => self.services.store.import_run(new, past.clone()),
                None => self.services.store.create_run(new),
            }
        };
        // From before it can be seen on: whoever looks after runs does not know its workflow yet.
        let starts = self.services.beginning.starts(&run);
        let created = patiently(STORE_WITHIN, create).await?;
        Ok((run, starts, created))
    }

    /// Continues a run that an earlier process, or nobody, runs, by the definition it was recorded with. A run of
    /// this process just goes on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// # run.outcome().await?;
    /// use perennial::records::RunError;
    ///
    /// let refused = runtime.runs().resume(run.id()).await;
    /// assert!(matches!(refused, Err(RunError::Ended { .. })));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Ended`] when it has ended, [`RunError::OwnedElsewhere`] when another process that lives runs it,
    /// [`RunError::NotRunnable`] when this build cannot read its definition; else see [`RunError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the run continued.
    pub async fn resume(&self, run: &RunId) -> Result<RunHandle, RunError> {
        self.require(Action::Resume, Some(run)).await?;
        self.resume_as(run, None, None).await
    }

    /// By `workflow`, which has the recorded definition, or by what is built anew from that. `asked` is what a further start of it
    /// says of its priority, which may have been changed since the first: it stays as it is.
    async fn resume_as(
        &self,
        run: &RunId,
        workflow: Option<Arc<dyn Workflow>>,
        asked: Option<Priority>,
    ) -> Result<RunHandle, RunError> {
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let view = self.view(run).await?;
        let has = view.run.priority;
        if let Some(asked) = asked.filter(|asked| *asked != has) {
            tracing::info!(%run, %has, %asked, "the run was started before, and keeps its priority");
        }
        let node = self.services.node().await?;
        if view.run.state.is_terminal() {
            return Err(RunError::ended(&view.run));
        }
        if let Some(owner) = &view.run.owner
            && view.run.owner_alive
            && *owner != node
        {
            return Err(RunError::OwnedElsewhere { run: run.clone(), node: owner.node.clone() });
        }
        let workflow = match workflow {
            // Whoever cannot run it leaves it to those who can.
            None if self.services.run_address(run).is_none() => {
                let revived = self.revived(&view.run).await;
                if let Err(RunError::NotRunnable(refused)) = &revived {
                    self.services.parked.park(run, &refused.failure.message);
                }
                Some(revived?)
            }
            given => given,
        };
        patiently(STORE_WITHIN, || self.services.store.own_run(run, &node)).await?;
        self.scheduler.ensure(run, workflow, false).await??;
        Ok(RunHandle { runs: self.clone(), run: run.clone() })
    }

    /// The handle of a run, whoever runs it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// let same = runtime.runs().get(run.id()).await?;
    /// assert_eq!(same.outcome().await?, run.outcome().await?);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when there is no such run, or with another when the store
    /// cannot be read.
    pub async fn get(&self, run: &RunId) -> Result<RunHandle, RunError> {
        self.view(run).await?;
        Ok(RunHandle { runs: self.clone(), run: run.clone() })
    }

    /// What the monitors of this runtime warn of from now on, each crossing of a threshold once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let mut warnings = runtime.runs().warnings();
    /// runtime.shutdown().await;
    /// assert_eq!(warnings.next().await, None); // nothing was passed
    /// # Ok(())
    /// # }
    /// ```
    pub fn warnings(&self) -> WarningFeed {
        self.services.hub.warnings()
    }

    /// How runs are monitored: their thresholds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store, records::Monitoring};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert_eq!(runtime.runs().monitoring(), Monitoring::default());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn monitoring(&self) -> Monitoring {
        self.services.monitoring
    }

    /// At most `limit` runs, newest first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// let all = runtime.runs().list(20).await?;
    /// assert_eq!(&all[0].run, run.id());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn list(&self, limit: u32) -> Result<Vec<RunSummary>, RunError> {
        Ok(patiently(STORE_WITHIN, || self.services.store.runs(limit)).await?)
    }

    /// Runs that have not ended, oldest first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// # let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// # let run = runtime.pipelines().start(start).await?;
    /// # let run = runtime.runs().get(run.id()).await?;
    /// # run.outcome().await?;
    /// assert!(runtime.runs().unfinished().await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<RunSummary>, RunError> {
        Ok(patiently(STORE_WITHIN, || self.services.store.unfinished_runs()).await?)
    }

    /// Nodes of the store: those that live, with until when they do unless they renew their lease, then those that
    /// have ended; each the newest first, and with what it holds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// let runtime = Runtime::builder().node("rack-7").store(Store::memory()).start().await?;
    /// let nodes = runtime.runs().nodes(20).await?;
    /// assert_eq!((nodes[0].node.node.as_str(), nodes[0].alive), ("rack-7", true));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn nodes(&self, limit: u32) -> Result<Vec<NodeRecord>, RunError> {
        Ok(patiently(STORE_WITHIN, || self.services.store.nodes(limit)).await?)
    }

    /// Its workflow, by the host's code.
    async fn revived(&self, record: &RunRecord) -> Result<Arc<dyn Workflow>, RunError> {
        self.revived_as(record, Reads::ToExecute).await
    }

    async fn revived_as(
        &self,
        record: &RunRecord,
        reads: Reads,
    ) -> Result<Arc<dyn Workflow>, RunError> {
        let read = || self.services.store.blob(record.definition);
        let bytes = patiently(STORE_WITHIN, read).await?;
        Ok(self.services.revive(record, bytes, reads).await?)
    }

    async fn view(&self, run: &RunId) -> Result<RunView, RunError> {
        match patiently(STORE_WITHIN, || self.services.store.run(run)).await {
            Err(StoreError::Closed) => Err(self.shut_down(run)),
            read => Ok(read?),
        }
    }

    fn shut_down(&self, run: &RunId) -> RunError {
        RunError::shut_down(run, self.services.drained.borrow().as_ref())
    }
}
