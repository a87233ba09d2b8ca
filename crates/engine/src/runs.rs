//! Runs as their users see them: start, resume, pause, cancel, watch, wait.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use perennial_core::{
    Digest, Timestamp,
    run::{InvalidRunId, InvalidTransition, JobKey, JobKind, JobState, RunId, RunState},
};
use perennial_store::{
    Accepted, Again, Created, JobRecord, NewJob, NewRun, NewStage, NewTimer, NodeRecord, NodeRef,
    Reopening, RunRecord, RunSummary, RunView, StageLimit, StoreError,
};
use perennial_supervision::CallError;
use serde::Serialize;
use serde_json::Value;

use crate::{
    DrainReport, EventFeed, NotRunnable, RunFate, Services, WaitsFor, WarningFeed, Workflow,
    beginning::Starts,
    external::Offered,
    monitor::Monitoring,
    patience::{STORE_WITHIN, patiently},
    performance::{Performance, Thresholds},
    run::{Explanation, Known, Message, Request, explain, owner, settle},
    scheduler::Scheduler,
    sent::Sent,
    staged::{NoRound, PlanProblems, Which, plan_round},
    workflow::{InvertedTimeouts, Next},
};

/// How long an actor of ours may take to answer.
const REPLY_WITHIN: Duration = Duration::from_secs(60);

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
}

/// What to start.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../doc/one_job.txt")]
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let start = StartRun {
///     run: None, // a new id
///     workflow: Arc::new(Greet(Definition::new(b"greet 1".to_vec()))),
///     settings: serde_json::json!({"hello": "Ada"}),
///     within: Some(Duration::from_secs(60)),
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
}

/// How a run that ended, or that nobody runs, goes on in a further round.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("../doc/attempts.txt")]
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
/// #     match cx.settings["hello"].as_str() {
/// #         Some("Ada") => Err(Failure::new(perennial::records::FailureClass::Tool, "APP1", "asleep")),
/// #         _ => Ok(cx.settings["hello"].clone()),
/// #     }
/// # }
/// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
/// # let settings = serde_json::json!({"hello": "Ada"});
/// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None }).await?;
/// use std::collections::BTreeMap;
/// use perennial::engine::{RecordedCalls, ReopenRun};
///
/// assert_eq!(run.outcome().await?.state.name(), "failed"); // Ada was asleep
/// let reopen = ReopenRun {
///     view: run.view().await?,
///     workflow: Arc::new(Greet(Definition::new(b"greet 1".to_vec()))),
///     settings: serde_json::json!({"hello": "Bob"}),
///     within: None,
///     again: BTreeMap::from([(JobKey::new("say"), RecordedCalls::Kept)]),
/// };
/// let run = runtime.runs().reopen(reopen).await?;
/// assert_eq!(run.outcome().await?.view.jobs[0].result, Some("Bob".into()));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReopenRun {
    /// What was read of it when this was decided.
    pub view: RunView,
    /// What it executes from now on.
    pub workflow: Arc<dyn Workflow>,
    /// Inputs and settings from now on.
    pub settings: Value,
    /// When it must have ended, counted from now.
    pub within: Option<Duration>,
    /// What becomes of its jobs: those named lose their results and are made again, with or without
    /// their recorded calls; what has not ended is made again in any case.
    pub again: BTreeMap<JobKey, RecordedCalls>,
}

/// What becomes of the recorded calls of a job that is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedCalls {
    /// Their replies are taken again, and nothing is paid twice (YR-51).
    Kept,
    /// They are made again.
    Forgotten,
}

/// Why a run was not started, continued or read.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{RunId, Runtime, Store, StoreError, records::RunError};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// let unknown = runtime.runs().get(&RunId::parse("nobody")?).await;
/// assert!(matches!(unknown, Err(RunError::Store(StoreError::NotFound { what: "run", .. }))));
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store refused or is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine did not answer.
    #[error("the engine did not answer")]
    Engine(#[from] CallError),
    /// The text cannot name a run.
    #[error(transparent)]
    InvalidRunId(#[from] InvalidRunId),
    /// This build cannot continue it.
    #[error(transparent)]
    NotRunnable(#[from] NotRunnable),
    /// It has ended; running the document again is a new run (YR-55).
    #[error("run {run} has ended ({state}); start a new run instead [PL904]")]
    Ended {
        /// The run.
        run: RunId,
        /// How it ended.
        state: RunState,
    },
    /// Another node runs it.
    #[error("run {run} is being run by node {node}")]
    OwnedElsewhere {
        /// The run.
        run: RunId,
        /// The other node.
        node: String,
    },
    /// This process gave up on it; it is left as it is, for another or the next one.
    #[error("run {run} is parked: {why}")]
    Parked {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
    },
    /// These stages of it have used results that would change.
    #[error("stages of run {run} have used what would be made again: {}; make them again as well, or leave it", .stages.join(", "))]
    WouldInvalidate {
        /// The run.
        run: RunId,
        /// The stages.
        stages: Vec<String>,
    },
    /// A time limit of a job that it begins with lies above the one that it is part of.
    #[error(transparent)]
    InvertedTimeouts(#[from] InvertedTimeouts),
    /// Its plan needs what this host does not have.
    #[error(transparent)]
    PlanRejected(#[from] PlanProblems),
    /// Nothing is started during a shutdown.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// The runtime has shut down: nothing happens to the run here any more, and its store is closed.
    #[error("the runtime has shut down; {}", left(.run, *.fate))]
    ShutDown {
        /// The run.
        run: RunId,
        /// What the shutdown made of it, as far as it is known: a run that had ended before is not in its
        /// report.
        fate: Option<RunFate>,
    },
}

impl RunError {
    /// The runtime has shut down, with `report`.
    pub(crate) fn shut_down(run: &RunId, report: Option<&DrainReport>) -> Self {
        let fate = report.and_then(|report| report.runs.iter().find(|of| of.run == *run));
        Self::ShutDown { run: run.clone(), fate: fate.map(|of| of.fate) }
    }
}

/// The stages and jobs that a run of it begins with. A plan that panics is told of by its run.
fn beginning(
    workflow: &dyn Workflow,
    run: &RunId,
    offered: &Offered,
    now: Timestamp,
) -> Result<(Vec<NewStage>, Vec<NewJob>), PlanProblems> {
    let staged = panic::catch_unwind(AssertUnwindSafe(|| workflow.staging()));
    let Ok(Some(staging)) = staged else {
        let stage = panic::catch_unwind(AssertUnwindSafe(|| workflow.stage().to_owned()));
        return Ok((vec![NewStage::driven(stage.unwrap_or_default())], Vec::new()));
    };
    let problems = staging.unusable(run, offered);
    if !problems.is_empty() {
        return Err(PlanProblems(problems));
    }
    Ok(staging.beginning(run, offered, now))
}

/// What the jobs that `workflow` begins with say of their time limits. One that panics is told of by its run.
fn inverted(workflow: &dyn Workflow, within: Duration) -> Option<InvertedTimeouts> {
    let first = panic::catch_unwind(AssertUnwindSafe(|| workflow.next(&[]))).ok()?;
    match first {
        Next::Jobs(plans) => plans.iter().find_map(|plan| plan.inverted_in(within)),
        Next::Seal => None,
    }
}

fn left(run: &RunId, fate: Option<RunFate>) -> String {
    match fate {
        Some(RunFate::Released) => format!("run {run} is unfinished and can be resumed"),
        Some(RunFate::Finished) => format!("run {run} ended during it, as its store tells"),
        Some(RunFate::Unknown) | None => {
            format!("run {run} is as its store tells, and can be resumed unless it has ended")
        }
    }
}

/// One run. A handle outlives the runtime: after its [shutdown](RunError::ShutDown) nothing waits, and whatever
/// needs the closed store is refused.
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
/// let outcome = run.outcome().await?;
/// assert_eq!(&outcome.run, run.id());
/// assert_eq!(run.view().await?.run.state, outcome.state);
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RunHandle {
    runs: Runs,
    run: RunId,
}

/// How a run ended.
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
/// let outcome = run.outcome().await?;
/// assert!(outcome.state.is_terminal());
/// assert_eq!(outcome.view.jobs[0].key.as_str(), "a");
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutcome {
    /// The run.
    pub run: RunId,
    /// Its terminal state.
    pub state: RunState,
    /// Everything recorded of it.
    pub view: RunView,
}

impl ReopenRun {
    /// Another try of what failed in a run that has ended, by the same workflow and with the same settings:
    /// of the one job that is named, or of all. Each has all of its attempts again; what its earlier ones
    /// have recorded and saved is taken again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/attempts.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// async fn attempt(cx: AttemptCx) -> Result<serde_json::Value, Failure> {
    ///     match cx.attempt {
    ///         1 => Err(Failure::new(perennial::records::FailureClass::Tool, "APP1", "asleep")),
    ///         _ => Ok("awake".into()),
    ///     }
    /// }
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow: workflow.clone(), settings, within: None }).await?;
    /// use perennial::engine::ReopenRun;
    ///
    /// assert_eq!(run.outcome().await?.state.name(), "failed");
    /// let again = ReopenRun::retrying(run.view().await?, workflow, None)?;
    /// let outcome = runtime.runs().reopen(again).await?.outcome().await?;
    /// assert_eq!(outcome.view.jobs[0].result, Some("awake".into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when no job, or not the one that is named, has failed.
    pub fn retrying(
        view: RunView,
        workflow: Arc<dyn Workflow>,
        job: Option<&JobKey>,
    ) -> Result<Self, StoreError> {
        let failed = view.jobs.iter().filter(|one| one.state == JobState::Failed);
        let which = failed.filter(|one| job.is_none_or(|job| *job == one.key));
        let again: BTreeMap<JobKey, RecordedCalls> =
            which.map(|one| (one.key.clone(), RecordedCalls::Kept)).collect();
        if again.is_empty() {
            let id = job.map_or_else(|| view.run.run.to_string(), ToString::to_string);
            return Err(StoreError::NotFound { what: "failed step", id });
        }
        let settings = view.run.settings.clone();
        Ok(Self { view, workflow, settings, within: None, again })
    }
}

impl Runs {
    /// The handle of an engine made of `services` under `scheduler`.
    pub fn new(services: Services, scheduler: Scheduler) -> Self {
        Self { services, scheduler }
    }

    /// Records a run and starts it. The same id with the same definition and settings is the same
    /// run (YR-6).
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
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let node = self.services.node().await?;
        let (run, _starts, created) = self.create(&start, Some(node)).await?;
        match created {
            Created::New { .. } => {
                self.scheduler.ensure(&run, Some(start.workflow), true).await??;
            }
            // Ended, under way here, or to be continued.
            Created::Existing => match self.resume_as(&run, Some(start.workflow)).await {
                Ok(_) | Err(RunError::Ended { .. }) => (),
                Err(error) => return Err(error),
            },
        }
        Ok(RunHandle { runs: self.clone(), run })
    }

    /// Records a run and leaves it to whoever takes it: a node that adopts runs by itself. The same id with the same
    /// definition and settings is the same run, however far it is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/one_job.txt")]
    /// # let builder = Runtime::builder().store(Store::memory());
    /// # let runtime = builder.adoption(perennial::Adoption::OnRequest).start().await?;
    /// let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// let settings = serde_json::json!({"hello": "Ada"});
    /// let left = StartRun { run: None, workflow, settings, within: None };
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
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let (run, ..) = self.create(&start, None).await?;
        self.services.look_again.notify_one();
        Ok(RunHandle { runs: self.clone(), run })
    }

    async fn create(
        &self,
        start: &StartRun,
        node: Option<NodeRef>,
    ) -> Result<(RunId, Starts, Created), RunError> {
        let run = match &start.run {
            Some(run) => run.clone(),
            None => RunId::parse(ulid::Ulid::generate().to_string())?,
        };
        let within = start.within.unwrap_or(self.services.settings.run_timeout);
        if let Some(inverted) = inverted(&*start.workflow, within) {
            return Err(RunError::InvertedTimeouts(inverted));
        }
        let definition = start.workflow.definition();
        let deadline = self.services.store.now().after(within);
        let offered = self.services.external().map(|it| it.offered()).unwrap_or_default();
        let now = self.services.store.now();
        let (stages, jobs) = beginning(&*start.workflow, &run, &offered, now)?;
        let create = || {
            self.services.store.create_run(NewRun {
                run: run.clone(),
                workflow: start.workflow.name().to_owned(),
                definition: definition.digest,
                definition_bytes: definition.bytes.to_vec(),
                input_digest: Digest::of_json(&start.settings),
                settings: start.settings.clone(),
                owner: node.clone(),
                deadline: Some(deadline),
                stages: stages.clone(),
                jobs: jobs.clone(),
                // So that it is looked at in time.
                timers: vec![NewTimer {
                    owner: owner(&run),
                    name: "deadline".to_owned(),
                    at: deadline,
                }],
            })
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
        self.resume_as(run, None).await
    }

    /// By `workflow`, which has the recorded definition, or by what is built anew from that.
    async fn resume_as(
        &self,
        run: &RunId,
        workflow: Option<Arc<dyn Workflow>>,
    ) -> Result<RunHandle, RunError> {
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let view = self.view(run).await?;
        let node = self.services.node().await?;
        if view.run.state.is_terminal() {
            return Err(RunError::Ended { run: run.clone(), state: view.run.state });
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

    /// Opens a run for a further round: one that failed, timed out or was cancelled, whichever node ran it, or one
    /// that has not ended and that nobody runs. It is one transaction, from what `reopen` was decided from: of
    /// two that ask at the same time one is refused with [`StoreError::Conflict`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("../doc/one_job.txt")]
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let workflow = Arc::new(Greet(Definition::new(b"greet 1".to_vec())));
    /// # let settings = serde_json::json!({"hello": "Ada"});
    /// # let run = runtime.runs().start(StartRun { run: None, workflow, settings, within: None }).await?;
    /// # run.outcome().await?;
    /// use std::collections::BTreeMap;
    /// use perennial::{engine::ReopenRun, records::RunError};
    ///
    /// let view = run.view().await?;
    /// let (workflow, settings) = (Arc::new(Greet(Definition::new(b"greet 1".to_vec()))), view.run.settings.clone());
    /// let reopen = ReopenRun { view, workflow, settings, within: None, again: BTreeMap::new() };
    /// let refused = runtime.runs().reopen(reopen).await;
    /// assert!(matches!(refused, Err(RunError::Ended { .. }))); // it has succeeded, and stays so
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RunError`]; the run is then left as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a reopened run, which then continues.
    pub async fn reopen(&self, reopen: ReopenRun) -> Result<RunHandle, RunError> {
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let RunView { run: record, jobs, .. } = &reopen.view;
        let (run, state) = (record.run.clone(), record.state);
        if state.is_terminal() && !state.may_reopen() {
            return Err(RunError::Ended { run, state });
        }
        if jobs.iter().any(|job| job.kind != JobKind::Step) {
            let why = "it is in stages: what is made again of it is said by `RunHandle::retry`";
            return Err(NotRunnable::new(record, why).into());
        }
        let node = self.services.node().await?;
        // Whoever ran one that has ended has nothing left to do of it.
        if let Some(owner) = &record.owner
            && record.owner_alive
            && !state.is_terminal()
            && *owner != node
        {
            return Err(RunError::OwnedElsewhere { run, node: owner.node.clone() });
        }
        let again = jobs.iter().filter_map(|job| {
            let calls = reopen.again.get(&job.key).copied();
            let calls = calls.or_else(|| (!job.state.is_terminal()).then_some(RecordedCalls::Kept));
            let forget_calls = calls? == RecordedCalls::Forgotten;
            Some(Again { forget_calls, ..Again::asked_for(job.id) })
        });
        let again: Vec<Again> = again.collect();
        let definition = reopen.workflow.definition();
        let deadline = self
            .services
            .store
            .now()
            .after(reopen.within.unwrap_or(self.services.settings.run_timeout));
        let request = || {
            self.services.store.reopen_run(Reopening {
                run: run.clone(),
                expected_revision: record.revision,
                owner: node.clone(),
                definition: definition.digest,
                definition_bytes: definition.bytes.to_vec(),
                input_digest: Digest::of_json(&reopen.settings),
                settings: reopen.settings.clone(),
                deadline: Some(deadline),
                again: again.clone(),
                stages: Vec::new(),
            })
        };
        patiently(STORE_WITHIN, request).await?;
        self.scheduler.ensure(&run, Some(reopen.workflow.clone()), true).await??;
        Ok(RunHandle { runs: self.clone(), run })
    }

    /// What [`RunHandle::retry`] does.
    async fn retry(&self, run: &RunId, which: &Which, cascade: bool) -> Result<u64, RunError> {
        if self.services.is_draining() {
            return Err(RunError::ShuttingDown);
        }
        let view = self.view(run).await?;
        let record = &view.run;
        let state = record.state;
        if !state.is_terminal() || state == RunState::Succeeded {
            let (from, to) = (state.name(), RunState::Running.name());
            return Err(StoreError::from(InvalidTransition { what: "run", from, to }).into());
        }
        let workflow = self.revived(record).await?;
        let now = self.services.store.now();
        let planned = panic::catch_unwind(AssertUnwindSafe(|| {
            workflow.staging().map(|staging| plan_round(&view, staging, which, cascade, now))
        }));
        let round = match planned {
            Ok(Some(Ok(round))) => round,
            Ok(Some(Err(NoRound::Nothing))) => {
                let id = match which {
                    Which::Failed => run.to_string(),
                    Which::Stage(stage) => stage.clone(),
                    Which::Job(job) => job.to_string(),
                };
                return Err(StoreError::NotFound { what: "failed job", id }.into());
            }
            Ok(Some(Err(NoRound::WouldInvalidate(stages)))) => {
                return Err(RunError::WouldInvalidate { run: run.clone(), stages });
            }
            Ok(None) => {
                let why = "it has no stages: a further round of it is opened by `Runs::reopen`";
                return Err(NotRunnable::new(record, why).into());
            }
            Err(_) => return Err(NotRunnable::new(record, "one of its edges panicked").into()),
        };
        let node = self.services.node().await?;
        let definition = workflow.definition();
        let affected = round.again.len() as u64;
        let request = || {
            self.services.store.reopen_run(Reopening {
                run: run.clone(),
                expected_revision: record.revision,
                owner: node.clone(),
                definition: definition.digest,
                definition_bytes: definition.bytes.to_vec(),
                input_digest: record.input_digest,
                settings: record.settings.clone(),
                deadline: Some(now.after(self.services.settings.run_timeout)),
                again: round.again.clone(),
                stages: round.stages.clone(),
            })
        };
        patiently(STORE_WITHIN, request).await?;
        self.scheduler.ensure(run, Some(workflow), true).await??;
        Ok(affected)
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
        let read = || self.services.store.blob(record.definition);
        let bytes = patiently(STORE_WITHIN, read).await?;
        Ok(self.services.revive(record, bytes).await?)
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

impl RunHandle {
    /// Its id.
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
    /// assert_eq!(runtime.runs().get(run.id()).await?.id(), run.id());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> &RunId {
        &self.run
    }

    /// Everything recorded of it, at one revision.
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
    /// run.outcome().await?;
    /// let view = run.view().await?;
    /// assert_eq!((view.run.workflow.as_str(), view.attempts.len()), ("hi", 1));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn view(&self) -> Result<RunView, RunError> {
        self.runs.view(&self.run).await
    }

    /// What it waits for: a free place, the time of another attempt, or the end of its pause. Nothing when
    /// it is under way, has ended, or belongs to another process.
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
    /// assert_eq!(run.waits_for(), None); // it has ended
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn waits_for(&self) -> Option<WaitsFor> {
        let services = &self.runs.services;
        services.waiting.of(&self.run).or_else(|| services.resting.of(&self.run))
    }

    /// Why a job of it is where it is, and what will change that. Asks the store, and changes nothing.
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
    /// use perennial::engine::{Explanation, workflow::JobKey};
    ///
    /// let explained = run.explain(&JobKey::new("a")).await?;
    /// assert!(matches!(explained, Explanation::Ended { .. }));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when it has no such job yet, or when the store cannot be
    /// read.
    pub async fn explain(&self, job: &JobKey) -> Result<Explanation, RunError> {
        let view = self.view().await?;
        let Some(record) = view.jobs.iter().find(|record| record.key == *job) else {
            return Err(StoreError::NotFound { what: "step", id: job.to_string() }.into());
        };
        Ok(self.explanation(&view, record))
    }

    /// As [`explain`](Self::explain), of a job in `view`, without asking anybody.
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
    /// let view = run.outcome().await?.view;
    /// let explained = run.explanation(&view, &view.jobs[0]);
    /// assert_eq!(explained.changed_by(), None);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn explanation(&self, view: &RunView, job: &JobRecord) -> Explanation {
        let services = &self.runs.services;
        let service = services.external().zip(job.deferral.as_ref());
        let service = service.and_then(|(it, deferral)| it.standing(&job.uses, &deferral.cause));
        let known =
            Known { parked: services.parked.why(&self.run), waits: self.waits_for(), service };
        explain(view, job, services.store.now(), &known)
    }

    /// How it performed, or performs: durations, sizes, retries, and what passed `thresholds`.
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
    /// use perennial::records::Thresholds;
    ///
    /// let performance = run.performance(&Thresholds::default()).await?;
    /// assert_eq!((performance.total_steps, performance.failed_steps), (1, 0));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn performance(&self, thresholds: &Thresholds) -> Result<Performance, RunError> {
        let view = self.view().await?;
        Ok(Performance::of(&view, thresholds, self.runs.services.store.now()))
    }

    /// How a run with these rows performs, by the thresholds of this runtime.
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
    /// let view = run.outcome().await?.view;
    /// assert_eq!(run.performance_of(&view).successful_steps, 1);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn performance_of(&self, view: &RunView) -> Performance {
        let services = &self.runs.services;
        Performance::of(view, &services.monitoring.thresholds, services.store.now())
    }

    /// Its events from `from` on (1 is the first), as they are committed.
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
    /// let first = run.events(1).next().await?;
    /// assert_eq!((first.seq, first.kind.as_str()), (1, "run_created"));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self, from: u64) -> EventFeed {
        self.runs.services.watch(&self.run, from)
    }

    /// Waits until it has ended. The store is asked, so this works whoever runs it.
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
    /// let outcome = run.outcome().await?;
    /// assert_eq!(outcome.state.name(), "succeeded");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be read. [`RunError::ShutDown`] when the runtime shuts down before: the run is
    /// unfinished then, and can be resumed.
    ///
    /// # Cancel safety
    ///
    /// Safe: waiting changes nothing.
    pub async fn outcome(&self) -> Result<RunOutcome, RunError> {
        let mut view = self.view().await?;
        let mut events = self.events(view.run.next_seq);
        while !view.run.state.is_terminal() {
            // Whatever happened, the store says whether it was the end.
            match events.next().await {
                Ok(event) if event.kind == "run_closed" => view = self.view().await?,
                Ok(_) => (),
                // It had not ended, and nothing that came after says so.
                Err(RunError::ShutDown { run, fate: None }) => {
                    return Err(RunError::ShutDown { run, fate: Some(RunFate::Released) });
                }
                Err(error) => return Err(error),
            }
        }
        let (run, state) = (self.run.clone(), view.run.state);
        Ok(RunOutcome { run, state, view })
    }

    /// Pauses it: attempts under way end and are recorded, and nothing more starts until
    /// [`unpause`](Self::unpause), over restarts of the process as well. Its deadline keeps running.
    /// Answers whether that changed anything.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// assert!(run.pause().await?);
    /// assert!(!run.pause().await?); // it was paused already
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it has ended, nobody here runs it, or the store is away.
    pub async fn pause(&self) -> Result<bool, RunError> {
        self.set_pause(true).await
    }

    /// Lets it go on where it stands. Answers whether that changed anything.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// run.pause().await?;
    /// assert!(run.unpause().await?);
    /// assert!(!run.unpause().await?); // it was not paused any more
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn unpause(&self) -> Result<bool, RunError> {
        self.set_pause(false).await
    }

    /// Asks it to end; its live attempt is stopped. Answers whether that changed anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, RunState, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// assert!(run.cancel().await?);
    /// assert_eq!(run.outcome().await?.state, RunState::Cancelled);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When nobody here runs it, or the store is away.
    pub async fn cancel(&self) -> Result<bool, RunError> {
        let answer = self.ask(Request::Cancel).await?;
        // It has ended: that changes nothing any more.
        Ok(answer.unwrap_or(false))
    }

    /// Sends it a signal: the job that has waited for it longest goes on with `payload`; without one, it is
    /// kept for the job that will ask for it. Works whoever runs it, and while nobody does.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// let run = runtime.runs().get(&id).await?; // it has a minute to go
    /// let accepted = run.signal("go", &["now"]).await?;
    /// assert!(accepted.changed && accepted.woken.is_none()); // nobody has asked for it yet
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn signal(&self, name: &str, payload: &impl Serialize) -> Result<Accepted, RunError> {
        self.send(Sent::signal(name, payload)?).await
    }

    /// Answers a question of it: the first answer counts. One that comes before the question is kept.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// use perennial::{StoreError, records::RunError};
    ///
    /// let run = runtime.runs().get(&id).await?;
    /// run.answer("agree?", &true).await?;
    /// let second = run.answer("agree?", &false).await;
    /// assert!(matches!(second, Err(RunError::Store(StoreError::AlreadyAnswered { .. }))));
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); with [`StoreError::AlreadyAnswered`] or [`StoreError::Expired`] when it
    /// cannot be answered any more.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn answer(&self, name: &str, value: &impl Serialize) -> Result<Accepted, RunError> {
        self.send(Sent::answer(name, value)?).await
    }

    /// Sends it something, with all that is recorded of that.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// use perennial::engine::Sent;
    ///
    /// let run = runtime.runs().get(&id).await?;
    /// let go = Sent::signal("go", &1)?.by("ada").because("it is time").request("mail 17");
    /// assert!(run.send(go.clone()).await?.changed);
    /// assert!(!run.send(go).await?.changed); // the same request again
    /// # run.cancel().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::InvalidState`] when it is ending or has ended, with
    /// [`StoreError::TooLarge`] or [`StoreError::TooMany`] when it is not kept, or when the store is away.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was sent; sending it again with the same request tells.
    pub async fn send(&self, sent: Sent) -> Result<Accepted, RunError> {
        let services = &self.runs.services;
        let signal = sent.to(&self.run);
        let accepted = patiently(STORE_WITHIN, || services.store.signal(signal.clone())).await;
        let accepted = match accepted {
            Err(StoreError::Closed) => return Err(self.runs.shut_down(&self.run)),
            accepted => accepted?,
        };
        if let Some(address) = services.run_address(&self.run) {
            // One that is away, or runs elsewhere, finds it at its next look.
            drop(address.cast(Message::Wake));
        }
        Ok(accepted)
    }

    /// Ends a job of it as skipped, because somebody says so: its live attempt is stopped first, and what
    /// follows it goes on without it. The run is then at best a success in part. Answers whether that
    /// changed anything: false when it was skipped before. When nobody runs the run, that is recorded, and
    /// starts nothing.
    ///
    /// ```
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}, {name: b, type: echo, value: 2}]}";
    /// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// # let id = runtime.pipelines().start(start).await?.id().clone();
    /// use perennial::engine::workflow::JobKey;
    ///
    /// let run = runtime.runs().get(&id).await?; // its first step takes a minute
    /// # let mut events = run.events(1);
    /// # while events.next().await?.kind != "attempt_started" {}
    /// assert!(run.skip(&JobKey::new("slow"), "nobody needs it").await?);
    /// assert_eq!(run.outcome().await?.state.name(), "partially_succeeded");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when it has no such job yet, with
    /// [`StoreError::InvalidState`] when the job has ended; else as [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was skipped; asking again tells.
    pub async fn skip(&self, job: &JobKey, why: &str) -> Result<bool, RunError> {
        let request = Request::Skip { job: job.clone(), why: why.to_owned() };
        match self.ask(request).await? {
            Some(changed) => Ok(changed),
            None => {
                let state = self.view().await?.run.state;
                Err(RunError::Ended { run: self.run.clone(), state })
            }
        }
    }

    /// Gives a stage of it another number of places for jobs that are under way at a time, from now on: fewer stop nothing that is
    /// under way, more count at once (DUR-16, DUR-69). Answers whether that changed anything.
    ///
    /// ```
    /// # use std::{num::NonZeroU32, time::Duration};
    /// # use perennial::{Runtime, Store, engine::{AttemptCx, staged::*}};
    /// # #[derive(Debug)]
    /// # struct Work;
    /// # impl Activity for Work {
    /// #     const NAME: &'static str = "work";
    /// #     type In = u8;
    /// #     type Out = u8;
    /// #     async fn run(&self, _: &AttemptCx, input: u8) -> Result<Ended<u8>, ActivityError> {
    /// #         tokio::time::sleep(Duration::from_millis(20)).await;
    /// #         Ok(Ended::Done(input))
    /// #     }
    /// # }
    /// # #[derive(Debug)]
    /// # struct Works;
    /// # impl StagedWorkflow for Works {
    /// #     const NAME: &'static str = "works";
    /// #     const VERSION: u32 = 1;
    /// #     type Input = ();
    /// #     type Output = ();
    /// #     fn plan(&self, _: &()) -> Result<Plan, PlanProblems> {
    /// #         let jobs = (0..9_u8).map(|job| JobSpec::new(job.to_string(), &job));
    /// #         Ok(Plan::new().stage(Stage::activity::<Work>("work").feed(Feed::jobs(jobs)).concurrency(1)))
    /// #     }
    /// #     fn summarize(&self, _: &(), _: &RunReport) {}
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let works = Staged::new(Works).activity(Work);
    /// # let runtime = Runtime::builder().store(Store::memory()).staged(&works).start().await?;
    /// let run = runtime.runs().start(works.start(&())?).await?; // one at a time
    /// assert!(run.set_concurrency("work", NonZeroU32::new(3).unwrap()).await?);
    /// assert_eq!(run.view().await?.stages[0].concurrency, Some(3));
    /// # run.outcome().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Store`] with [`StoreError::NotFound`] when it has no such stage of a plan; else as
    /// [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was changed; asking again tells.
    pub async fn set_concurrency(&self, stage: &str, most: NonZeroU32) -> Result<bool, RunError> {
        let limit = StageLimit { stage: stage.to_owned(), most };
        match self.ask(Request::Limit(limit)).await? {
            Some(changed) => Ok(changed),
            None => {
                let state = self.view().await?.run.state;
                Err(RunError::Ended { run: self.run.clone(), state })
            }
        }
    }

    /// Opens a run in stages that has ended for a further round, in which what failed of it is made again, with all of its attempts:
    /// all of it, that of a stage, or one job. Of a group only the children that failed are made again, and it is
    /// joined again. Stages behind are opened as well; what was skipped there because of a failure is made when
    /// it can be. It is one transaction: of two that ask at the same time one is refused with
    /// [`StoreError::Conflict`]. Answers how many jobs are made again.
    ///
    /// Where a stage has used a result that would change, that is refused, unless `cascade` says that what has
    /// used it is made again as well. What had succeeded is then another job for the outside world: its
    /// idempotency key ends in `#1`, its recorded calls are forgotten, and the numbers it was given stay.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store, engine::{AttemptCx, staged::*}, records::{Failure, FailureClass}};
    /// # #[derive(Debug)]
    /// # struct Wake;
    /// # impl Activity for Wake {
    /// #     const NAME: &'static str = "wake";
    /// #     type In = String;
    /// #     type Out = String;
    /// #     async fn run(&self, cx: &AttemptCx, name: String) -> Result<Ended<String>, ActivityError> {
    /// #         if name == "Ada" && cx.attempt == 1 {
    /// #             return Err(Failure::new(FailureClass::Permanent, "APP1", "asleep").into());
    /// #         }
    /// #         Ok(Ended::Done(name))
    /// #     }
    /// # }
    /// # #[derive(Debug)]
    /// # struct Wakes;
    /// # impl StagedWorkflow for Wakes {
    /// #     const NAME: &'static str = "wakes";
    /// #     const VERSION: u32 = 1;
    /// #     type Input = Vec<String>;
    /// #     type Output = ();
    /// #     fn plan(&self, names: &Vec<String>) -> Result<Plan, PlanProblems> {
    /// #         let jobs = names.iter().map(|name| JobSpec::new(name, name));
    /// #         Ok(Plan::new().stage(Stage::activity::<Wake>("wake").feed(Feed::jobs(jobs))))
    /// #     }
    /// #     fn summarize(&self, _: &Vec<String>, _: &RunReport) {}
    /// # }
    /// # let wakes = Staged::new(Wakes).activity(Wake);
    /// # let runtime = Runtime::builder().store(Store::memory()).staged(&wakes).start().await?;
    /// let names = ["Ada", "Bob"].map(str::to_owned).to_vec();
    /// let run = runtime.runs().start(wakes.start(&names)?).await?;
    /// assert_eq!(run.outcome().await?.state.name(), "partially_succeeded"); // Ada was asleep
    /// assert_eq!(run.retry(&Which::Failed, false).await?, 1);
    /// assert_eq!(run.outcome().await?.state.name(), "succeeded");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::WouldInvalidate`], see above; [`RunError::Store`] with [`StoreError::NotFound`] when nothing of that
    /// kind has failed, with [`StoreError::InvalidState`] when the run has not ended, or has succeeded;
    /// [`RunError::NotRunnable`] when it is not in stages, or this build cannot read its definition. The run is then
    /// left as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a reopened run, which then continues.
    pub async fn retry(&self, which: &Which, cascade: bool) -> Result<u64, RunError> {
        self.runs.retry(&self.run, which, cascade).await
    }

    async fn set_pause(&self, pause: bool) -> Result<bool, RunError> {
        match self.ask(if pause { Request::Pause } else { Request::Unpause }).await? {
            Some(changed) => Ok(changed),
            None => {
                let state = self.view().await?.run.state;
                Err(RunError::Ended { run: self.run.clone(), state })
            }
        }
    }

    /// What a run executes that has no actor in this process and is not this node's: what is asked of it is
    /// decided here, by its rows (DUR-5), and whoever runs it finds the decision when it next looks.
    async fn elsewhere(&self) -> Result<Option<Arc<dyn Workflow>>, RunError> {
        let services = &self.runs.services;
        let record = self.view().await?.run;
        let is_ours = record.owner.is_some() && record.owner == services.registered_node();
        if record.state.is_terminal() || is_ours {
            return Ok(None);
        }
        self.runs.revived(&record).await.map(Some)
    }

    /// Asks whoever runs it here, or decides by its rows; nothing when it has ended, before or meanwhile.
    async fn ask(&self, request: Request) -> Result<Option<bool>, RunError> {
        let is_skip = matches!(request, Request::Skip { .. });
        let asked = request.clone();
        let message = |reply| match asked {
            Request::Skip { job, why } => Message::Skip { job, why, reply },
            Request::Limit(limit) => Message::Limit { limit, reply },
            Request::Cancel => Message::Cancel { reply },
            Request::Pause => Message::Pause { pause: true, reply },
            Request::Unpause => Message::Pause { pause: false, reply },
        };
        if self.runs.services.hub.is_over() {
            return Err(self.runs.shut_down(&self.run));
        }
        // One that is parked, or waits for a place, has no actor; it may get one just before it is asked for.
        let services = &self.runs.services;
        let is_aside =
            services.parked.is_parked(&self.run) || services.waiting.of(&self.run).is_some();
        let aside = match is_aside {
            true => self.runs.scheduler.aside(&self.run, request.clone()).await?,
            false if is_skip && self.runs.services.run_address(&self.run).is_none() => {
                self.runs.scheduler.aside(&self.run, request.clone()).await?
            }
            false => None,
        };
        let answer = match (aside, self.runs.services.run_address(&self.run)) {
            (Some(answer), _) => Ok(answer),
            (None, Some(address)) => address.call(message, REPLY_WITHIN).await,
            (None, None) => match self.elsewhere().await? {
                Some(workflow) => {
                    Ok(settle(&self.runs.services, &self.run, &workflow, request).await)
                }
                None => Err(CallError::NoProc),
            },
        };
        match answer {
            // An actor whose run has ended refuses nothing, and stops.
            Ok(answer) if answer.as_ref().is_ok_and(|changed| *changed) => Ok(Some(true)),
            _ if self.view().await?.run.state.is_terminal() => Ok(None),
            Ok(answer) => Ok(Some(answer?)),
            Err(error) => Err(error.into()),
        }
    }
}
