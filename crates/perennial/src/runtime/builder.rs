use std::{path::PathBuf, sync::Arc, time::Duration};

use perennial_core::tree::RuntimeInfo;
use perennial_engine::{
    Authority, EngineSettings, NotRunnable, SettingErrors, Workflow,
    external::{InvalidServices, ServiceDefaults, ServiceError, ServiceSpec},
    monitor::Monitoring,
    scheduler::{Adoption, InvalidLease, LeaseTerms},
    staged::{Staged, StagedWorkflow},
};
use perennial_pipeline::{BuiltPrompt, ProviderKind};
use perennial_store::{Retention, RunRecord, StoreError};
use perennial_supervision::{ChildSpec, Clock, Options, Root, StartError, SupervisorSpec};
use perennial_tools::{AlreadyRegistered, Provider, Tool};

use super::{
    Config, LimitError, Limits, Parts, ProviderTable, Runtime, Store,
    application::{Application, Assembled, INTENSITY, Loops, assemble, store_child},
    definitions::PipelineDefinitions,
    providers::PromptWatch,
    store::Opening,
    workflows::{HostWorkflows, InvalidWorkflows, Registration as WorkflowRegistration},
};
use crate::{
    Pipelines,
    pipelines::{RegisterError, RegisteredPipelines, Registration},
};

/// Configures a [`Runtime`].
///
/// Required is only [`store`](Self::store); everything else has a default.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Adoption, Limits, Runtime, Store};
/// # use std::time::Duration;
/// let runtime = Runtime::builder()
///     .name("letters")
///     .store(Store::memory())
///     .limits(Limits { runs: 20, ..Limits::default() })
///     .adoption(Adoption::OnRequest)
///     .drain_within(Duration::from_secs(3))
///     .start()
///     .await?;
/// assert_eq!(runtime.tree().runtime.name, "letters");
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Builder {
    name: String,
    node: String,
    store: Option<Store>,
    config: Config,
    providers: Vec<(ProviderKind, Arc<dyn Provider>)>,
    prompt_watch: Option<PromptWatch>,
    tools: Vec<Tool>,
    pipelines: Vec<Registration>,
    workflows: Vec<WorkflowRegistration>,
    children: Vec<ChildSpec>,
    services: Vec<ServiceSpec>,
    service_defaults: Option<Box<ServiceDefaults>>,
    adoption: Adoption,
    limits: Option<Limits>,
    monitoring: Option<Monitoring>,
    lease: Option<LeaseTerms>,
    settings: Option<EngineSettings>,
    authority: Option<Authority>,
    intensity: (u32, Duration),
    drain_within: Option<Duration>,
    retention: Option<Retention>,
    store_only: bool,
    options: Options,
}

/// Why a runtime did not start. Nothing of it is left running.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{LimitError, Limits, Runtime, RuntimeError, Store};
/// let limits = Limits { runs: 0, ..Limits::default() };
/// let refused = Runtime::builder().store(Store::memory()).limits(limits).start().await;
/// assert!(matches!(refused, Err(RuntimeError::Limit(LimitError::Zero { name: "runs" }))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No store was chosen: what survives a crash must be said.
    #[error(
        "no store was chosen: call `store(Store::sqlite(path))`, or `Store::memory()` in tests"
    )]
    NoStore,
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A child did not start.
    #[error(transparent)]
    Tree(#[from] StartError),
    /// A limit cannot be meant.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The parts of the node's lease do not come in their order.
    #[error(transparent)]
    Lease(#[from] InvalidLease),
    /// Settings of the engine cannot be meant: all of them.
    #[error("engine: {0}")]
    Engine(#[from] SettingErrors),
    /// Settings of the store cannot be meant: all of them.
    #[error("store: {0}")]
    StoreSettings(SettingErrors),
    /// A workflow of the host cannot be registered.
    #[error(transparent)]
    Pipeline(#[from] RegisterError),
    /// Workflows of the host have names that they cannot have.
    #[error(transparent)]
    Workflows(#[from] InvalidWorkflows),
    /// Services of the host cannot be meant: all that is wrong with all of them.
    #[error(transparent)]
    Services(#[from] InvalidServices),
    /// A service that is always on has no actor.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Two tools have one name.
    #[error(transparent)]
    Tool(#[from] AlreadyRegistered),
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: "perennial".to_owned(),
            node: "local".to_owned(),
            store: None,
            config: Config::default(),
            providers: Vec::new(),
            prompt_watch: None,
            tools: Vec::new(),
            pipelines: Vec::new(),
            workflows: Vec::new(),
            children: Vec::new(),
            services: Vec::new(),
            service_defaults: None,
            adoption: Adoption::AtBoot,
            limits: None,
            monitoring: None,
            lease: None,
            settings: None,
            authority: None,
            intensity: INTENSITY,
            drain_within: None,
            retention: None,
            store_only: false,
            options: Options::default(),
        }
    }
}

impl Builder {
    /// Names the runtime, for dumps.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// let runtime = Runtime::builder().name("letters").store(Store::memory()).start().await?;
    /// assert_eq!(runtime.tree().runtime.name, "letters");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Names this node on its store: runs and attempts tell by it who works on them. The default is `local`. A start ends
    /// earlier lives of the same name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// let runtime = Runtime::builder().node("rack-7").store(Store::memory()).start().await?;
    /// assert_eq!(runtime.tree().runtime.node, "rack-7");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = node.into();
        self
    }

    /// Chooses where runs and sessions are kept. It has no default, because what survives a crash must be said.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("letters.db");
    /// let runtime = Runtime::builder().store(Store::sqlite(&path)).start().await?;
    /// runtime.sessions().create("support").await?;
    /// runtime.shutdown().await;
    ///
    /// let runtime = Runtime::builder().store(Store::sqlite(&path)).start().await?;
    /// assert_eq!(runtime.sessions().list().await?[0].name, "support");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets how this node lives on a store that several nodes share: how long its lease lasts, when it is renewed, and
    /// from when on it does nothing without a renewal. Where one process holds the store, nothing of it is used.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, RuntimeError, Store};
    /// use perennial::engine::scheduler::LeaseTerms;
    /// use std::time::Duration;
    ///
    /// let terms = LeaseTerms::of(Duration::from_secs(30)); // for a store that is slow at times
    /// let runtime = Runtime::builder().store(Store::memory()).lease(terms).start().await?;
    /// # runtime.shutdown().await;
    /// let never = LeaseTerms { renew_every: Duration::from_secs(60), ..terms };
    /// let refused = Runtime::builder().store(Store::memory()).lease(never).start().await;
    /// assert!(matches!(refused, Err(RuntimeError::Lease(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn lease(mut self, terms: LeaseTerms) -> Self {
        self.lease = Some(terms);
        self
    }

    /// Sets the configuration: providers, prices, limits, monitoring. What this builder says of limits and
    /// monitoring wins over it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Config, Runtime, Store};
    /// let config = Config::parse("perennial.toml", b"[limits]\nruns = 20\n")?;
    /// let runtime = Runtime::builder().store(Store::memory()).config(config).start().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Brings a provider for live calls of `kind`; it wins over a configured one, and of several for one kind the
    /// last counts.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderKind, Runtime, StartPipeline, Store};
    /// use perennial::tools::{MockProvider, MockRules};
    /// use serde_json::json;
    ///
    /// // A provider of one's own implements `tools::Provider`; here a scripted one takes its place.
    /// let rules = MockRules::from_value(&json!({"replies": {"": "Dear Ada"}}))?;
    /// let runtime = Runtime::builder()
    ///     .store(Store::memory())
    ///     .provider(ProviderKind::Gemini, MockProvider::gemini(rules))
    ///     .start()
    ///     .await?;
    /// let text = "workflow: {name: w, steps: [{name: draft, type: gemini, prompt: [{type: static, content: Write}]}]}";
    /// let run = runtime.pipelines().start(StartPipeline::document("w.yaml", text)).await?; // live
    /// assert_eq!(run.outcome().await?.result("draft").unwrap()["text"], "Dear Ada");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn provider(mut self, kind: ProviderKind, provider: impl Provider) -> Self {
        self.providers.push((kind, Arc::new(provider)));
        self
    }

    /// Tells `watch` of every prompt, part by part, before its call is made or its reply taken from
    /// the journal. It is called in the middle of a step: it must not block.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let runtime = Runtime::builder()
    ///     .store(Store::memory())
    ///     .on_prompt(move |prompt| drop(tell.send(prompt.parts[0].text.to_string())))
    ///     .start()
    ///     .await?;
    /// let text = "workflow: {name: w, steps: [{name: a, type: claude, prompt: [{type: static, content: Hello}]}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(told.recv()?, "Hello");
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_prompt(mut self, watch: impl Fn(&BuiltPrompt<'_>) + Send + Sync + 'static) -> Self {
        self.prompt_watch = Some(PromptWatch(Arc::new(watch)));
        self
    }

    /// Registers a tool. Two of one name are refused by [`start`](Self::start).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// use perennial::tools::{ToolName, tool_fn};
    /// use serde_json::{Value, json};
    ///
    /// let count = async |args: Value| Ok(json!(args["text"].as_str().map(str::len)));
    /// let runtime = Runtime::builder()
    ///     .store(Store::memory())
    ///     .tool(tool_fn("length", "Counts the bytes of a text", count))
    ///     .start()
    ///     .await?;
    /// let length = runtime.tools().call(&ToolName::new("length"), json!({"text": "hello"})).await?;
    /// assert_eq!(length, json!(5));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Registers the workflow `text` as `name`: steps name it by `pipeline_ref`, with the `version` that its
    /// `workflow.version` says, and [`StartPipeline::registered`](crate::StartPipeline::registered) starts it. One
    /// name may have several versions. It is checked when the runtime starts; files it names are looked for below
    /// the working directory. A run that has taken it as a child keeps it, and is resumed without it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// let greet = "
    /// workflow: {name: greet, inputs: {who: string}, steps: [{name: text, type: echo, value: 'hello {{ inputs.who }}'}]}
    /// ";
    /// let runtime = Runtime::builder().store(Store::memory()).pipeline("greet", greet).start().await?;
    /// let letter = "
    /// workflow:
    ///   name: letter
    ///   steps:
    ///     - {name: greeting, type: pipeline, pipeline_ref: greet, inputs: {who: Ada}, outputs: [text]}
    ///     - {name: all, type: echo, value: '{{ steps.greeting.text }}!'}
    /// ";
    /// let start = StartPipeline::document("letter.yaml", letter).mode(ProviderMode::Mock);
    /// let outcome = runtime.pipelines().start(start).await?.outcome().await?;
    /// assert_eq!(outcome.result("all"), Some(&"hello Ada!".into()));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pipeline(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.pipelines.push(Registration::Text { name: name.into(), text: text.into() });
        self
    }

    /// As [`pipeline`](Self::pipeline), with the text of the file at `path`, read once when the runtime starts.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("greet.yaml");
    /// std::fs::write(&path, "workflow: {name: greet, steps: [{name: text, type: echo, value: hello}]}")?;
    /// let runtime =
    ///     Runtime::builder().store(Store::memory()).pipeline_file("greet", &path).start().await?;
    /// assert_eq!(runtime.pipelines().registered(), ["greet"]);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pipeline_file(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.pipelines.push(Registration::File { name: name.into(), path: path.into() });
        self
    }

    /// Says how a workflow of the host's own is built again, so that its runs go on without being asked for: those of
    /// a process that has died at the next start, those of another node when that is gone, and whatever is resumed.
    ///
    /// `name` is what its [`Workflow::name`] tells. `rebuild` is handed what is recorded of the run and the bytes of
    /// the [`Definition`](perennial_engine::Definition) that it was accepted with, and answers with the workflow of
    /// this definition, or why there is none in this build: the run is then left as it is, with the reason shown. It
    /// runs in a thread of its own, may block, and finds the executor that the runtime was started on. One that
    /// panics, or answers with another workflow, leaves its run alone as it is, and so does one that takes longer
    /// than 10 s.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use perennial::engine::{
    ///     AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, NotRunnable, Outcome, StartRun, Workflow,
    ///     workflow::{BoxFuture, JobKey, RetryPolicy},
    /// };
    /// use perennial::{Runtime, Store, records::Failure};
    /// # use serde_json::json;
    ///
    /// /// Says hello, once to each of them.
    /// #[derive(Debug)]
    /// struct Greet {
    ///     definition: Definition,
    ///     names: Vec<String>,
    /// }
    ///
    /// impl Greet {
    ///     /// From what is kept with a run: here the names, one in a line.
    ///     fn of(bytes: Vec<u8>) -> Option<Self> {
    ///         let names = std::str::from_utf8(&bytes).ok()?.lines().map(str::to_owned).collect();
    ///         Some(Self { definition: Definition::new(bytes), names })
    ///     }
    /// }
    ///
    /// impl Workflow for Greet {
    ///     fn name(&self) -> &str {
    ///         "greet"
    ///     }
    ///     fn definition(&self) -> &Definition {
    ///         &self.definition
    ///     }
    ///     // What follows when these are done.
    ///     fn next(&self, done: &[DoneJob]) -> Next {
    ///         let Some(name) = self.names.get(done.len()) else { return Next::Seal };
    ///         let key = JobKey::new(name);
    ///         Next::Jobs(vec![JobPlan::new(key, RetryPolicy::PROVIDER, Duration::from_secs(5))])
    ///     }
    ///     # fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
    ///     #     FailureMeans::FailRun { record: json!(failure.message) }
    ///     # }
    ///     fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
    ///         Box::pin(async move { Outcome::Succeeded(format!("hello {}", cx.job).into()) })
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let store = Store::sqlite(folder.path().join("letters.db"));
    /// // One process leaves a run to whoever takes it, or dies before its end ...
    /// let first = Runtime::builder().store(store.clone()).adoption(perennial::Adoption::OnRequest).start().await?;
    /// let workflow = Arc::new(Greet::of(b"Ada\nGrace".to_vec()).expect("it is a text"));
    /// let start = StartRun { run: None, workflow, settings: json!({}), within: None, priority: Default::default() };
    /// let id = first.runs().submit(start).await?.id().clone();
    /// first.shutdown().await;
    ///
    /// // ... and the next one goes on.
    /// let second = Runtime::builder()
    ///     .store(store)
    ///     .workflow("greet", |run, definition| match Greet::of(definition) {
    ///         Some(greet) => Ok(Arc::new(greet)),
    ///         None => Err(NotRunnable::new(run, "its names are no text")),
    ///     })
    ///     .start()
    ///     .await?;
    /// let outcome = second.runs().get(&id).await?.outcome().await?;
    /// assert_eq!(outcome.view.jobs[1].result, Some(json!("hello Grace")));
    /// # second.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn workflow(
        mut self,
        name: impl Into<String>,
        rebuild: impl Fn(&RunRecord, Vec<u8>) -> Result<Arc<dyn Workflow>, NotRunnable>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let rebuild = Arc::new(rebuild);
        self.workflows.push(WorkflowRegistration { name: name.into(), rebuild });
        self
    }

    /// Declares a workflow in stages, so that this process continues its runs: [`workflow`](Self::workflow) for those whose plan
    /// says how they are built again. The [guide](crate::guide#work-in-stages) writes one.
    ///
    /// ```
    /// use perennial::{Runtime, engine::staged::{Staged, StagedWorkflow}};
    ///
    /// fn declared<W: StagedWorkflow>(workflow: W) {
    ///     let builder = Runtime::builder().staged(&Staged::new(workflow));
    ///     # drop(builder);
    /// }
    /// ```
    pub fn staged<W: StagedWorkflow>(self, staged: &Staged<W>) -> Self {
        let staged = staged.clone();
        self.workflow(staged.name(), move |record, _| staged.rebuild(record))
    }

    /// Adds a child of the host's own, under the supervisor `host`, behind earlier ones.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ChildSpec, Restart, Runtime, Store};
    /// let heart = ChildSpec::task("heart", || async {
    ///     // A real one beats here; it is restarted when it ends.
    ///     std::future::pending::<()>().await;
    ///     Ok::<(), String>(())
    /// })
    /// .restart(Restart::Permanent);
    /// let runtime = Runtime::builder().store(Store::memory()).child(heart).start().await?;
    /// assert_eq!(runtime.host().which_children()?.len(), 1);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Declares a service: something outside that is started for whoever holds it, looked at while it runs, started
    /// again when it crashes, and stopped when nobody has held it for long enough. What is wrong with the services is
    /// told by [`start`](Self::start), all of it at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// use perennial::service::{ChildProcess, Holder, ServiceEventKind, ServiceKey, ServiceSpec};
    ///
    /// // A program that says where it is, and ends with its input.
    /// let driver = ChildProcess::new("/bin/sh")
    ///     .arg("-c")
    ///     .arg("echo listening on 127.0.0.1:2002; cat")
    ///     .ready_line("listening on ");
    /// let runtime = Runtime::builder()
    ///     .store(Store::memory())
    ///     .service(ServiceSpec::new("analyzer", driver))
    ///     .start()
    ///     .await?;
    /// let mut events = runtime.services().events();
    /// let hold = runtime.services().hold(&ServiceKey::shared("analyzer"), Holder::new("me")).await?;
    /// while events.recv().await?.event.kind() != ServiceEventKind::ServiceUp {}
    /// assert_eq!(hold.admitted().await?.endpoint.as_deref(), Some("127.0.0.1:2002"));
    /// runtime.shutdown().await; // and nothing of it is left
    /// # Ok(())
    /// # }
    /// ```
    pub fn service(mut self, service: ServiceSpec) -> Self {
        self.services.push(service);
        self
    }

    /// Sets what holds for every service that does not say otherwise itself; it wins over `[service]` and `[breaker]` of
    /// the configuration.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, RuntimeError, Store};
    /// use perennial::service::ServiceDefaults;
    ///
    /// let none = ServiceDefaults { instances_max: 0, ..ServiceDefaults::default() };
    /// let refused = Runtime::builder().store(Store::memory()).service_defaults(none).start().await;
    /// assert!(matches!(refused, Err(RuntimeError::Services(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn service_defaults(mut self, defaults: ServiceDefaults) -> Self {
        self.service_defaults = Some(Box::new(defaults));
        self
    }

    /// Sets what happens to unfinished runs of processes that are gone. The default is that a
    /// runtime continues them at boot.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Adoption, Runtime, Store};
    /// // A program that only looks leaves what others have begun.
    /// let runtime =
    ///     Runtime::builder().store(Store::memory()).adoption(Adoption::OnRequest).start().await?;
    /// assert!(runtime.runs().unfinished().await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn adoption(mut self, adoption: Adoption) -> Self {
        self.adoption = adoption;
        self
    }

    /// Sets how much is done at a time; it wins over the configuration.
    ///
    /// ```
    /// use perennial::{Limits, Runtime, Store};
    ///
    /// let limits = Limits { runs: 20, ..Limits::default() };
    /// let builder = Runtime::builder().store(Store::memory()).limits(limits);
    /// # drop(builder);
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Sets how the engine works: how often it looks, how much it takes at a time; it wins over the configuration.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, RuntimeError, Store};
    /// use perennial::engine::EngineSettings;
    ///
    /// let settings = EngineSettings { claim_batch: 0, children_max: 0, ..EngineSettings::default() };
    /// let refused = Runtime::builder().store(Store::memory()).engine(settings).start().await;
    /// let Err(RuntimeError::Engine(errors)) = refused else { panic!("nothing would be claimed") };
    /// assert_eq!(errors.0.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn engine(mut self, settings: EngineSettings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Sets who says what principals may ask of runs. Without it a handle
    /// [on behalf of somebody](perennial_engine::Runs::on_behalf_of) may ask nothing; the handles of the runtime itself
    /// may everything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// use perennial::engine::{Action, Authority};
    ///
    /// let authority = Authority::new(|asked| asked.action != Action::Remove);
    /// let runtime = Runtime::builder().store(Store::memory()).authority(authority).start().await?;
    /// let ada = runtime.runs().on_behalf_of("ada");
    /// assert!(ada.require(Action::Remove, None).await.is_err());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Sets how runs are monitored; it wins over the configuration.
    ///
    /// ```
    /// use perennial::{Runtime, Store, records::{Monitoring, Thresholds}};
    ///
    /// let thresholds = Thresholds { memory_bytes: 50_000_000, ..Thresholds::default() };
    /// let monitoring = Monitoring { thresholds, ..Monitoring::default() };
    /// let builder = Runtime::builder().store(Store::memory()).monitoring(monitoring);
    /// # drop(builder);
    /// ```
    pub fn monitoring(mut self, monitoring: Monitoring) -> Self {
        self.monitoring = Some(monitoring);
        self
    }

    /// Sets how many restarts of its direct children the root tolerates within which time; the default is 3 in 5 s.
    /// One more ends the tree, which [`Runtime::ended`] tells. It counts for `host` as a whole, not for each child
    /// of the host's own.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # use std::time::Duration;
    /// let runtime = Runtime::builder()
    ///     .store(Store::memory())
    ///     .root_intensity(10, Duration::from_secs(60))
    ///     .start()
    ///     .await?;
    /// let intensity = runtime.tree().nodes[0].intensity.clone().expect("the root is a supervisor");
    /// assert_eq!(intensity.max, 10);
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn root_intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.intensity = (max_restarts, within);
        self
    }

    /// Sets how long attempts under way get at a shutdown to end by themselves; the default is 10 s, of which 2 s
    /// are for giving back what did not end. What is given back runs again, with its tries unchanged, where the run
    /// is resumed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
    /// # use std::time::Duration;
    /// let runtime =
    ///     Runtime::builder().store(Store::memory()).drain_within(Duration::ZERO).start().await?;
    /// let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
    /// let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
    /// let run = runtime.pipelines().start(start).await?;
    /// let summary = runtime.shutdown().await; // does not wait a minute
    /// assert!(summary.drain.unwrap().run(run.id()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_within(mut self, within: Duration) -> Self {
        self.drain_within = Some(within);
        self
    }

    /// Sets how long runs are kept after their end; it wins over the configuration. The default is 30 days. A minute
    /// after the start and every hour the child `retention` removes what is older, and the tree shows what it did.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Retention, Runtime, Store};
    /// let policy = Retention { failed: None, ..Retention::default() }; // failed runs stay for ever
    /// let runtime = Runtime::builder().store(Store::memory()).retention(policy).start().await?;
    /// assert!(runtime.tree().nodes.iter().any(|node| node.path == "/perennial/store/retention"));
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retention(mut self, policy: Retention) -> Self {
        self.retention = Some(policy);
        self
    }

    /// Leaves the process's panic hook alone; panics then have no location in dumps.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// let runtime = Runtime::builder().store(Store::memory()).without_panic_hook().start().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_panic_hook(mut self) -> Self {
        self.options.note_panic_locations = false;
        self
    }

    /// Starts only what reads the store: runs can be listed and shown, and nothing is started,
    /// continued or registered.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("letters.db");
    /// # Runtime::builder().store(Store::sqlite(&path)).start().await?.shutdown().await;
    /// let runtime =
    ///     Runtime::builder().store(Store::sqlite(&path).must_exist()).store_only().start().await?;
    /// assert!(runtime.runs().list(20).await?.is_empty());
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn store_only(mut self) -> Self {
        self.store_only = true;
        self
    }

    /// Opens the store and starts the tree, in order, all or nothing, on the executor that it is called from.
    /// Opening blocks for as long as the file system takes; a server is waited for without blocking, for 10 s.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perennial::{Runtime, RuntimeError, Store};
    /// let nowhere = Store::sqlite("nowhere/letters.db").must_exist();
    /// let refused = Runtime::builder().store(nowhere).start().await;
    /// assert!(matches!(refused, Err(RuntimeError::Store(_))));
    ///
    /// let runtime = Runtime::builder().store(Store::memory()).start().await?;
    /// # runtime.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`]; nothing is left running.
    pub async fn start(self) -> Result<Runtime, RuntimeError> {
        // On the heap: a host that awaits it has not all that a start needs in a future of its own.
        Box::pin(self.build()).await
    }

    async fn build(self) -> Result<Runtime, RuntimeError> {
        let limits = self.limits.unwrap_or_else(|| self.config.limits.of_runtime()).checked()?;
        let lease = self.lease.unwrap_or_else(|| self.config.engine.lease()).checked()?;
        let settings = self.settings.unwrap_or_else(|| self.config.engine());
        settings.check()?;
        let service_defaults =
            self.service_defaults.unwrap_or_else(|| Box::new(self.config.service_defaults()));
        service_defaults.check()?;
        let drain_within = self.drain_within.unwrap_or_else(|| self.config.drain_within());
        let deployment = self.config.deployment().clone();
        let registered = Arc::new(RegisteredPipelines::read(self.pipelines)?);
        let workflows = HostWorkflows::of(self.workflows, &registered)?;
        let chosen = self.store.ok_or(RuntimeError::NoStore)?;
        let chosen = chosen.or_settings(&self.config.store_settings());
        chosen.check().map_err(RuntimeError::StoreSettings)?;
        let store_url = chosen.url();
        let (node, reads_only) = (self.node.as_str(), self.store_only);
        let opening = Opening { node, reads_only, silence: lease.silence() };
        let opened = chosen.open(opening).await?;
        let store = opened.handle();
        let clock = Clock::start();
        let providers =
            Arc::new(ProviderTable::new(&self.config, self.providers, self.prompt_watch));
        let takes = self.adoption == Adoption::AtBoot && !self.store_only && !chosen.is_read_only();
        let definitions = PipelineDefinitions {
            store: store.clone(),
            providers: providers.clone(),
            takes_as: takes.then(|| self.node.clone()),
        };
        let assembled = assemble(Application {
            store: store.clone(),
            loops: Loops::of(&opened),
            clock,
            node: self.node.clone(),
            definitions: Arc::new(definitions),
            workflows,
            adoption: self.adoption,
            host_children: self.children,
            external: self.services,
            service_defaults,
            limits,
            monitoring: self.monitoring.unwrap_or_else(|| self.config.monitor.monitoring()),
            lease,
            settings,
            authority: self.authority,
            intensity: self.intensity,
            drain_within,
            retention: self.retention.unwrap_or_else(|| self.config.retention()),
        })?;
        let Assembled { mut tree, services, runs, sessions, tools, tasks, .. } = assembled;
        let Assembled { external, host, published, .. } = assembled;
        let reads_only = self.store_only || chosen.is_read_only();
        if reads_only {
            tree = SupervisorSpec::new("perennial").child(store_child(
                &store,
                Loops::of(&opened),
                None,
            ));
        }
        for tool in self.tools {
            tools.register(tool)?;
        }
        let root = Root::start(tree, clock, self.options).await?;
        if !reads_only && let Err(error) = external.start_always_on().await {
            root.shutdown().await;
            return Err(error.into());
        }
        // Set once: this is the only start of this tree.
        drop(published.set(root.tree().lifecycle_source()));
        let parts =
            Parts { store: store.clone(), runs: runs.clone(), providers, deployment, registered };
        Ok(Runtime {
            root,
            info: RuntimeInfo {
                name: self.name,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                node: self.node,
                instance: ulid::Ulid::generate().to_string(),
                store: store_url,
            },
            store,
            services,
            runs,
            pipelines: Pipelines::new(parts),
            sessions,
            tools,
            tasks,
            external,
            host,
            drain_within,
            drain_grace: settings.drain_grace,
        })
    }
}
