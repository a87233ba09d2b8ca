//! Assembly: the one builder, the one function that makes the tree, configuration. No decisions.

mod application;
mod builder;
mod config;
mod definitions;
mod limits;
mod prices;
mod providers;
mod store;
mod workflows;

use std::{sync::Arc, time::Duration};

use perennial_core::tree::{Completeness, RuntimeInfo, SCHEMA, TreeNode, TreeSnapshot};
use perennial_engine::{
    DrainReport, Runs, Services, external::External, sessions::Sessions, upkeep::Upkeep,
};
use perennial_supervision::{
    DETAILS_WITHIN, Root, ShutdownReport, Supervisor, TaskSupervisor, Tree,
};
use perennial_tools::ToolRegistry;

pub use self::{
    application::declared_tree,
    builder::{Builder, RuntimeError},
    config::{Config, ConfigError, ThresholdSetting},
    limits::{LimitError, Limits},
    providers::ProviderMode,
    store::{InvalidStoreUrl, Store, StoreSettings},
    workflows::{InvalidWorkflows, WorkflowFault},
};
pub(crate) use self::{
    definitions::{
        PipelineDefinitions, recorded_document, recorded_mocks, recorded_mode, recorded_places,
        recorded_settings,
    },
    providers::{ProviderTable, Unavailable},
};
use crate::{Pipelines, pipelines::RegisteredPipelines};

/// A running Perennial: a supervision tree, a store, and the handles to both.
///
/// Dropping it asks the tree to stop and does not wait; [`Runtime::shutdown`] waits and reports.
/// Two runtimes in one process share nothing but the panic hook.
///
/// A runtime is one tree, and one application. A host with several applications of its own, which start
/// after what they depend on and stop in order, runs those in a
/// [`System`](crate::supervision::System) beside it: start the runtime first, give the
/// applications its handles, and shut the system down before it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, Store};
/// let runtime = Runtime::builder().name("letters").store(Store::memory()).start().await?;
/// assert_eq!(runtime.tree().runtime.name, "letters");
/// let summary = runtime.shutdown().await;
/// assert!(summary.tree.unkillable.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Runtime {
    root: Root,
    info: RuntimeInfo,
    store: Arc<dyn perennial_store::Store>,
    services: Services,
    runs: Runs,
    pipelines: Pipelines,
    sessions: Sessions,
    tools: ToolRegistry,
    tasks: TaskSupervisor,
    external: External,
    host: Supervisor,
    drain_within: Duration,
    drain_grace: Duration,
}

/// How a shutdown went.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, RunFate, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # use std::time::Duration;
/// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
/// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
/// # runtime.shutdown().await;
/// # let runtime = Runtime::builder().store(Store::memory()).drain_within(Duration::ZERO).start().await?;
/// let run = runtime.pipelines().start(start).await?;
/// let summary = runtime.shutdown().await;
/// assert!(!summary.tree.gave_up && summary.tree.unkillable.is_empty());
/// let drain = summary.drain.expect("the tree was running");
/// assert_eq!(drain.run(run.id()).map(|run| run.fate), Some(RunFate::Released));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownSummary {
    /// What became of the runs and attempts that were under way; absent when the tree had ended
    /// before.
    pub drain: Option<DrainReport>,
    /// How the tree stopped.
    pub tree: ShutdownReport,
}

impl Runtime {
    /// A runtime to be configured.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, RuntimeError, Store};
    /// let forgotten = Runtime::builder().start().await;
    /// assert!(matches!(forgotten, Err(RuntimeError::NoStore))); // what survives a crash must be said
    ///
    /// let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Workflow files: check, start, resume.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use perennial::{ProviderMode, StartPipeline};
    ///
    /// let document = b"workflow:\n  name: hi\n  steps:\n  - {name: a, type: echo, value: 1}\n";
    /// let start = StartPipeline::document("hi.yaml", document).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// assert_eq!(run.outcome().await?.status(), "completed");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// Runs of every kind.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert!(runtime.runs().list(20).await?.is_empty());
    /// assert!(runtime.runs().unfinished().await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Durable conversations.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// runtime.sessions().create("support").await?;
    /// assert_eq!(runtime.sessions().list().await?.len(), 1);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The care of the store.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert!(runtime.upkeep().verify(None).rest().await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn upkeep(&self) -> Upkeep {
        Upkeep::new(self.store.clone())
    }

    /// Registered tools.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert!(runtime.tools().list().is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tools(&self) -> &ToolRegistry {
        &self.tools
    }

    /// The services that the host has declared with [`Builder::service`].
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// use perennial::service::{Holder, ServiceError, ServiceKey};
    ///
    /// let refused = runtime.services().hold(&ServiceKey::shared("app"), Holder::new("me")).await;
    /// assert!(matches!(refused, Err(ServiceError::Unknown { .. })));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn services(&self) -> &External {
        &self.external
    }

    /// Supervised futures of the host.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let task = runtime.tasks().start_child("tidy-up", async {}).await?;
    /// task.exit().await;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tasks(&self) -> &TaskSupervisor {
        &self.tasks
    }

    /// The supervisor of the host's own children.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert!(runtime.host().which_children()?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn host(&self) -> &Supervisor {
        &self.host
    }

    /// The supervision tree as it is now. Read from what is published; asks no actor, and returns within
    /// half a second whatever they are at: what a component could not tell in time is named under
    /// `completeness`. Blocks for that time at the most.
    ///
    /// ```
    /// # use perennial::{Runtime, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let tree = runtime.tree();
    /// assert_eq!(tree.nodes[0].path, "/perennial");
    /// assert!(tree.completeness.as_ref().is_some_and(|told| told.unresponsive.is_empty()));
    /// println!("{}", perennial::inspect::to_text(&tree, &Default::default()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tree(&self) -> TreeSnapshot {
        let tree = self.root.tree();
        let millis =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let begun = tree.clock().now();
        let nodes = tree.nodes();
        let now = tree.clock().now();
        let is_missing =
            |node: &&TreeNode| node.detail.get("unavailable").is_some_and(|why| why == "deadline");
        let unresponsive: Vec<String> =
            nodes.iter().filter(is_missing).map(|node| node.path.clone()).collect();
        let asked = nodes.iter().filter(|node| !node.detail.is_null()).count();
        let completeness = Completeness {
            nodes: nodes.len() as u64,
            answered: (asked - unresponsive.len()) as u64,
            unresponsive,
            deadline_ms: millis(DETAILS_WITHIN),
        };
        TreeSnapshot {
            schema: SCHEMA.to_owned(),
            runtime: self.info.clone(),
            taken_at: Some(tree.clock().timestamp().to_rfc3339()),
            uptime_ms: Some(millis(now.elapsed())),
            completeness: Some(completeness),
            took_us: Some(u64::try_from(now.since(begun).as_micros()).unwrap_or(u64::MAX)),
            declared: false,
            nodes,
            findings: Vec::new(),
        }
    }

    /// The published tree itself: lifecycle events, the clock, fault injection in tests.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let tree = runtime.supervision_tree();
    /// let before = tree.clock().now();
    /// assert!(tree.nodes().iter().any(|node| node.path == "/perennial/host"));
    /// assert!(tree.clock().now() >= before);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn supervision_tree(&self) -> &Tree {
        self.root.tree()
    }

    /// Waits until the tree has ended by itself, which is when its root gave up, and answers why. As long as the
    /// tree runs it waits; everything recorded can be resumed by the next runtime on the store.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ChildSpec, ExitReason, Restart, Runtime, Store};
    /// # use std::time::Duration;
    /// // A child that always ends, under supervisors that take no restart.
    /// let restless = ChildSpec::task("restless", || async { Err::<(), _>("again") })
    ///     .restart(Restart::Permanent);
    /// let runtime = Runtime::builder()
    ///     .store(Store::memory())
    ///     .root_intensity(0, Duration::from_secs(5))
    ///     .child(restless)
    ///     .start()
    ///     .await?;
    /// assert_eq!(runtime.ended().await, ExitReason::Shutdown); // as OTP calls it
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Safe: waiting changes nothing.
    pub async fn ended(&self) -> perennial_core::ExitReason {
        self.root.ended().await
    }

    /// Waits for the report of the drain that a [`shutdown`](Self::shutdown) begins with: it is there
    /// before the rest of the tree has stopped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let drained = runtime.drained();
    /// runtime.shutdown().await;
    /// assert_eq!(drained.await.runs_more, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn drained(&self) -> impl Future<Output = DrainReport> + Send + use<> {
        self.services.drained()
    }

    /// How long a shutdown gives attempts under way, the last [`drain_grace`](Self::drain_grace) of it to give back what
    /// did not end: see [`Builder::drain_within`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert_eq!(runtime.drain_within().as_secs(), 10);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_within(&self) -> Duration {
        self.drain_within
    }

    /// What of that time is left for giving back what did not end:
    /// [`EngineSettings::drain_grace`](crate::engine::EngineSettings::drain_grace).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// assert_eq!(runtime.drain_grace().as_secs(), 2);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_grace(&self) -> Duration {
        self.drain_grace
    }

    /// Stops in order: nothing is claimed any more, attempts under way get their time to end, what
    /// does not end is given back to the store, then the tree stops from last child to first.
    ///
    /// Handles may outlive it and hold nothing back: the file of the store is unlocked at the end, unless a
    /// thread of the store could not be stopped, which [`ShutdownSummary::tree`] says. Whoever
    /// waits for a run or its events is answered with [`RunError::ShutDown`](perennial_engine::RunError::ShutDown),
    /// behind the last event.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// let pipelines = runtime.pipelines().clone();
    /// let summary = runtime.shutdown().await;
    /// assert!(summary.tree.unkillable.is_empty());
    /// let text = "workflow: {name: hi, steps: [{name: a, type: echo, value: 1}]}";
    /// let start = StartPipeline::document("hi.yaml", text).mode(ProviderMode::Mock);
    /// assert!(pipelines.start(start).await.is_err()); // nothing is started any more
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the runtime: its tree goes on stopping and nobody waits for it.
    pub async fn shutdown(self) -> ShutdownSummary {
        self.services.announce_shutdown();
        let tree = self.root.shutdown().await;
        self.store.close();
        self.services.announce_end();
        ShutdownSummary { drain: self.services.drain_report(), tree }
    }
}

impl Drop for Runtime {
    /// Whoever waits for what would have come is told; the store stays open for what is still stopping.
    fn drop(&mut self) {
        self.services.announce_end();
    }
}

/// What every handle of a runtime needs.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn perennial_store::Store>,
    pub(crate) runs: Runs,
    pub(crate) providers: Arc<ProviderTable>,
    /// Mode and limits of the configuration.
    pub(crate) deployment: perennial_pipeline::Deployment,
    pub(crate) registered: Arc<RegisteredPipelines>,
}
