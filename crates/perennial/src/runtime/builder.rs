use std::{path::PathBuf, sync::Arc, time::Duration};

use perennial_core::tree::RuntimeInfo;
use perennial_engine::{drain, monitor::Monitoring, scheduler::Adoption};
use perennial_pipeline::{BuiltPrompt, ProviderKind};
use perennial_store::StoreError;
use perennial_supervision::{ChildSpec, Clock, Options, Root, StartError, SupervisorSpec};
use perennial_tools::{AlreadyRegistered, Provider, Tool};

use super::{
    Config, LimitError, Limits, Parts, ProviderTable, Runtime, Store,
    application::{Application, Assembled, INTENSITY, Loops, assemble, store_child},
    definitions::PipelineDefinitions,
    providers::PromptWatch,
};
use crate::{
    Pipelines,
    pipelines::{RegisterError, RegisteredPipelines, Registration},
};

/// Configures a [`Runtime`].
///
/// Required is only [`store`](Self::store); everything else has a default.
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
    children: Vec<ChildSpec>,
    adoption: Adoption,
    limits: Option<Limits>,
    monitoring: Option<Monitoring>,
    intensity: (u32, Duration),
    drain_within: Duration,
    store_only: bool,
    options: Options,
}

/// Why a runtime did not start. Nothing of it is left running.
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
    /// A workflow of the host cannot be registered.
    #[error(transparent)]
    Pipeline(#[from] RegisterError),
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
            children: Vec::new(),
            adoption: Adoption::AtBoot,
            limits: None,
            monitoring: None,
            intensity: INTENSITY,
            drain_within: drain::DRAIN_TIMEOUT,
            store_only: false,
            options: Options::default(),
        }
    }
}

impl Builder {
    /// Names the runtime, for dumps.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Names this node on its store. The default is `local`.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = node.into();
        self
    }

    /// Chooses where runs and sessions are kept.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the configuration of providers.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Brings a provider for live calls of `kind`; it wins over a configured one.
    pub fn provider(mut self, kind: ProviderKind, provider: impl Provider) -> Self {
        self.providers.push((kind, Arc::new(provider)));
        self
    }

    /// Tells `watch` of every prompt, part by part, before its call is made or its reply taken from
    /// the journal. It is called in the middle of a step: it must not block.
    pub fn on_prompt(mut self, watch: impl Fn(&BuiltPrompt<'_>) + Send + Sync + 'static) -> Self {
        self.prompt_watch = Some(PromptWatch(Arc::new(watch)));
        self
    }

    /// Registers a tool.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Registers the workflow `text` as `name`: steps name it by `pipeline_ref`, with the `version` that its
    /// `workflow.version` says, and [`StartPipeline::registered`](crate::StartPipeline::registered) starts it. One name
    /// may have several versions. It is checked when the runtime starts; files it names are looked for below the
    /// working directory. A run that has taken it as a child keeps it, and is resumed without it.
    pub fn pipeline(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.pipelines.push(Registration::Text { name: name.into(), text: text.into() });
        self
    }

    /// As [`pipeline`](Self::pipeline), with the text of the file at `path`, read once when the runtime starts.
    pub fn pipeline_file(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.pipelines.push(Registration::File { name: name.into(), path: path.into() });
        self
    }

    /// Adds a child of the host's own, under the supervisor `host`, behind earlier ones.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Sets what happens to unfinished runs of processes that are gone. The default is that a
    /// runtime continues them at boot.
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

    /// Sets how many restarts of its direct children the root tolerates; the default is 3 in 5 s.
    pub fn root_intensity(mut self, max_restarts: u32, within: Duration) -> Self {
        self.intensity = (max_restarts, within);
        self
    }

    /// Sets how long attempts under way get at a shutdown; the default is 10 s.
    pub fn drain_within(mut self, within: Duration) -> Self {
        self.drain_within = within;
        self
    }

    /// Leaves the process's panic hook alone; panics then have no location in dumps.
    pub fn without_panic_hook(mut self) -> Self {
        self.options.note_panic_locations = false;
        self
    }

    /// Starts only what reads the store: runs can be listed and shown, and nothing is started,
    /// continued or registered.
    pub fn store_only(mut self) -> Self {
        self.store_only = true;
        self
    }

    /// Opens the store and starts the tree. Opening blocks for as long as the file system takes.
    ///
    /// # Errors
    ///
    /// See [`RuntimeError`].
    pub async fn start(self) -> Result<Runtime, RuntimeError> {
        let limits = self.limits.unwrap_or_else(|| self.config.limits.of_runtime()).checked()?;
        let deployment = self.config.deployment().clone();
        let registered = Arc::new(RegisteredPipelines::read(self.pipelines)?);
        let store_url = self.store.as_ref().and_then(Store::url);
        let opened = self.store.as_ref().ok_or(RuntimeError::NoStore)?.open()?;
        let store = opened.handle();
        let clock = Clock::start();
        let providers =
            Arc::new(ProviderTable::new(&self.config, self.providers, self.prompt_watch));
        let definitions =
            PipelineDefinitions { store: store.clone(), providers: providers.clone() };
        let assembled = assemble(Application {
            store: store.clone(),
            loops: Loops::of(&opened),
            clock,
            node: self.node.clone(),
            definitions: Arc::new(definitions),
            adoption: self.adoption,
            host_children: self.children,
            limits,
            monitoring: self.monitoring.unwrap_or_else(|| self.config.monitor.monitoring()),
            intensity: self.intensity,
            drain_within: self.drain_within,
        });
        let Assembled { mut tree, services, runs, sessions, tools, tasks, host, published } =
            assembled;
        if self.store_only {
            tree = SupervisorSpec::new("perennial").child(store_child(&store, Loops::of(&opened)));
        }
        for tool in self.tools {
            tools.register(tool)?;
        }
        let root = Root::start(tree, clock, self.options).await?;
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
            host,
        })
    }
}
