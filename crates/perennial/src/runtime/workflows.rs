//! Workflows of the host's own, by name: how each is built again for a run that another process has begun.
//!
//! What builds them is the host's code. Each time it runs in a thread of its own, a child of `rebuilds`, so that one
//! that hangs can be left to itself and is seen in the tree; the engine waits for it no longer than for any definition.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use perennial_core::{FailureClass, Restart, Shutdown, failure::Failure};
use perennial_engine::{Definitions, NotRunnable, Workflow, workflow::BoxFuture};
use perennial_store::RunRecord;
use perennial_supervision::{ChildSpec, DynamicSupervisor, DynamicSupervisorSpec};
use serde::Deserialize;
use serde_json::json;
use tokio::{runtime::Handle, sync::oneshot};

use crate::pipelines::RegisteredPipelines;

/// How a workflow is built again.
pub(crate) type Rebuild =
    dyn Fn(&RunRecord, Vec<u8>) -> Result<Arc<dyn Workflow>, NotRunnable> + Send + Sync;

/// Threads that build workflows at a time, those included that hang.
const REBUILDS_MAX: usize = 256;
/// As many may hang in one workflow; then its other runs are refused at once, and nobody waits for them.
const HANGING_MAX: i64 = 4;

/// A workflow as the builder has it.
pub(super) struct Registration {
    pub(super) name: String,
    pub(super) rebuild: Arc<Rebuild>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(&self.name).finish()
    }
}

/// What is wrong with the names of the workflows that a host has registered: all of it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{Runtime, RuntimeError, Store, WorkflowFault, engine::NotRunnable};
/// let greet = "workflow: {name: greet, steps: [{name: a, type: echo, value: hello}]}";
/// let refused = Runtime::builder()
///     .store(Store::memory())
///     .pipeline("greet", greet)
///     .workflow("greet", |run, _| Err(NotRunnable::new(run, "it is never built")))
///     .workflow("", |run, _| Err(NotRunnable::new(run, "it is never built")))
///     .start()
///     .await;
/// let Err(RuntimeError::Workflows(invalid)) = refused else { panic!("these are no names") };
/// let of_pipeline = WorkflowFault::OfPipeline { name: "greet".to_owned() };
/// assert_eq!(invalid.faults, [WorkflowFault::Empty, of_pipeline]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct InvalidWorkflows {
    /// One for each name, in alphabetical order.
    pub faults: Vec<WorkflowFault>,
}

/// What is wrong with one of them.
///
/// ```
/// use perennial::WorkflowFault;
///
/// let twice = WorkflowFault::Repeated { name: "report".to_owned(), times: 2 };
/// assert!(twice.to_string().contains("`report` is registered 2 times"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowFault {
    /// It has no name.
    #[error(
        "a workflow is registered without a name: take the one that its `Workflow::name` tells"
    )]
    Empty,
    /// Several have it.
    #[error(
        "the workflow `{name}` is registered {times} times: which of them builds a run again would be chance"
    )]
    Repeated {
        /// The name.
        name: String,
        /// How many have it.
        times: usize,
    },
    /// A registered pipeline has it, or is registered under it.
    #[error("`{name}` is also the name of a registered pipeline: give the workflow another one")]
    OfPipeline {
        /// The name.
        name: String,
    },
}

/// Those of one runtime.
#[derive(Clone, Default)]
pub(crate) struct HostWorkflows {
    by_name: BTreeMap<String, HostWorkflow>,
}

#[derive(Clone)]
struct HostWorkflow {
    rebuild: Arc<Rebuild>,
    /// How often it was asked.
    asked: Arc<AtomicU64>,
    /// Threads that were left to themselves and have not ended.
    hanging: Arc<AtomicI64>,
}

impl HostWorkflows {
    /// All of them, unless something is wrong with their names.
    pub(super) fn of(
        registrations: Vec<Registration>,
        pipelines: &RegisteredPipelines,
    ) -> Result<Self, InvalidWorkflows> {
        if registrations.is_empty() {
            return Ok(Self::default());
        }
        let taken: BTreeSet<String> = pipelines.workflow_names();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for registration in &registrations {
            *times.entry(&registration.name).or_default() += 1;
        }
        let mut faults = Vec::new();
        for (&name, &times) in &times {
            if name.is_empty() {
                faults.push(WorkflowFault::Empty);
                continue;
            }
            if times > 1 {
                faults.push(WorkflowFault::Repeated { name: name.to_owned(), times });
            }
            if taken.contains(name) {
                faults.push(WorkflowFault::OfPipeline { name: name.to_owned() });
            }
        }
        if !faults.is_empty() {
            return Err(InvalidWorkflows { faults });
        }
        let workflow = |one: Registration| {
            let (rebuild, asked) = (one.rebuild, Arc::default());
            (one.name, HostWorkflow { rebuild, asked, hanging: Arc::default() })
        };
        Ok(Self { by_name: registrations.into_iter().map(workflow).collect() })
    }

    /// The definitions of both kinds, and who supervises the threads that build the host's own, where there are any.
    pub(super) fn beside(
        self,
        pipelines: Arc<dyn Definitions>,
    ) -> (Arc<dyn Definitions>, Option<ChildSpec>) {
        if self.by_name.is_empty() {
            let all = AllDefinitions { pipelines, workflows: self, threads: None };
            return (Arc::new(all), None);
        }
        let spec = DynamicSupervisorSpec::new("rebuilds", REBUILDS_MAX);
        let (child, threads) = DynamicSupervisor::child_spec(spec);
        let known: Vec<(String, Arc<AtomicI64>)> =
            self.by_name.iter().map(|(name, one)| (name.clone(), one.hanging.clone())).collect();
        let child = child.detail(move || {
            let hanging =
                known.iter().map(|(_, hanging)| hanging.load(Ordering::Relaxed)).sum::<i64>();
            let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
            json!({ "workflows": names, "hanging": hanging })
        });
        let all = AllDefinitions { pipelines, workflows: self, threads: Some(threads) };
        (Arc::new(all), Some(child))
    }
}

/// Which of the two marks of a pipeline's run are there. Neither is a promise: settings and definitions of a host's
/// own are the host's.
struct Marks {
    settings: bool,
    definition: bool,
}

impl Marks {
    fn of(run: &RunRecord, definition: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Language {
            #[serde(rename = "language")]
            _version: u32,
        }
        Self {
            settings: run.settings.get("provider_mode").is_some(),
            definition: serde_json::from_slice::<Language>(definition).is_ok(),
        }
    }
}

/// Whose run it is, by its name and by what is recorded with it.
struct AllDefinitions {
    pipelines: Arc<dyn Definitions>,
    workflows: HostWorkflows,
    threads: Option<DynamicSupervisor>,
}

impl fmt::Debug for AllDefinitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.workflows.by_name.keys().collect();
        f.debug_struct("AllDefinitions").field("workflows", &names).finish_non_exhaustive()
    }
}

impl Definitions for AllDefinitions {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        Box::pin(self.read(run, definition, true))
    }

    fn revive_to_stop<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        Box::pin(self.read(run, definition, false))
    }
}

impl AllDefinitions {
    /// `executes`: it is gone on with here.
    async fn read(
        &self,
        run: &RunRecord,
        definition: Vec<u8>,
        executes: bool,
    ) -> Result<Arc<dyn Workflow>, NotRunnable> {
        let marks = Marks::of(run, &definition);
        // A document may have the name of a host's own workflow, which knows nothing of it.
        let is_pipeline = marks.settings && marks.definition;
        let own = self.workflows.by_name.get(&run.workflow).filter(|_| !is_pipeline);
        match (own, &self.threads) {
            (Some(own), Some(threads)) => rebuilt(own, threads, run, definition).await,
            (Some(_), None) | (None, _) if !marks.settings && !marks.definition => {
                let why = format!(
                    "this build does not know its workflow `{}`, which is none of a document: it goes on in the \
                     program that registers it with `Builder::staged` or `Builder::workflow`, and is left as it is here",
                    run.workflow
                );
                Err(NotRunnable::new(run, why))
            }
            (Some(_), None) | (None, _) if executes => self.pipelines.revive(run, definition).await,
            (Some(_), None) | (None, _) => self.pipelines.revive_to_stop(run, definition).await,
        }
    }
}

/// Asks the host's code, in a thread.
async fn rebuilt(
    own: &HostWorkflow,
    threads: &DynamicSupervisor,
    run: &RunRecord,
    definition: Vec<u8>,
) -> Result<Arc<dyn Workflow>, NotRunnable> {
    let hang = own.hanging.load(Ordering::Acquire);
    if hang >= HANGING_MAX {
        let why =
            format!("building workflow `{}` again hangs for {hang} runs already", run.workflow);
        return Err(NotRunnable::new(run, why));
    }
    let (told, answer) = oneshot::channel();
    let work = Mutex::new(Some((told, run.clone(), definition)));
    let (rebuild, hanging) = (own.rebuild.clone(), own.hanging.clone());
    // What it asks of an executor it finds, as in any other code of the host.
    let executor = Handle::try_current().ok();
    let id =
        format!("{}:{}#{}", run.workflow, run.run, own.asked.fetch_add(1, Ordering::Relaxed) + 1);
    let thread = ChildSpec::thread(id, move |_| {
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((told, run, definition)) = work {
            let _entered = executor.as_ref().map(Handle::enter);
            let built = built(&*rebuild, &run, definition);
            if told.send(built).is_err() {
                // Nobody has waited so long.
                hanging.fetch_sub(1, Ordering::AcqRel);
            }
        }
        Ok::<(), Infallible>(())
    });
    let mut waits = Waits { answer, hanging: own.hanging.clone(), is_over: false };
    let thread = thread.restart(Restart::Temporary).shutdown(Shutdown::BrutalKill);
    if let Err(error) = threads.start_child(thread).await {
        waits.is_over = true;
        let why = format!("no thread builds its workflow `{}` again: {error}", run.workflow);
        return Err(NotRunnable::new(run, why));
    }
    let answer = (&mut waits.answer).await;
    waits.is_over = true;
    answer.unwrap_or_else(|_| Err(NotRunnable::new(run, "the runtime shuts down")))
}

/// Counts a thread as hanging whose answer is waited for no longer.
struct Waits {
    answer: oneshot::Receiver<Result<Arc<dyn Workflow>, NotRunnable>>,
    hanging: Arc<AtomicI64>,
    is_over: bool,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.answer.close();
        // From here on the thread cannot answer, and takes back what is counted here.
        if !self.is_over && self.answer.try_recv().is_err() {
            self.hanging.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// What the host's code makes of it, unless it is something else than the run was accepted with.
fn built(
    rebuild: &Rebuild,
    run: &RunRecord,
    definition: Vec<u8>,
) -> Result<Arc<dyn Workflow>, NotRunnable> {
    let name = &run.workflow;
    let built = catch_unwind(AssertUnwindSafe(|| {
        let built = rebuild(run, definition)?;
        let (found, digest) = (built.name().to_owned(), built.definition().digest);
        Ok((built, found, digest))
    }));
    let (built, found, digest) = match built {
        Ok(Ok(built)) => built,
        // Whatever run it names, it speaks of this one.
        Ok(Err(NotRunnable { failure, .. })) => {
            return Err(NotRunnable { run: run.run.clone(), failure });
        }
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            let why = format!("building workflow `{name}` again panicked: {text}");
            let failure = Failure::new(FailureClass::Panic, "PL615", why);
            return Err(NotRunnable { run: run.run.clone(), failure });
        }
    };
    if found != *name {
        let why = format!("the workflow that was built for `{name}` calls itself `{found}`");
        return Err(NotRunnable::new(run, why));
    }
    if digest != run.definition {
        let why = format!(
            "the workflow `{name}` was built with another definition than the run was accepted with: build it with \
             the bytes that are handed over"
        );
        return Err(NotRunnable::new(run, why));
    }
    Ok(built)
}
