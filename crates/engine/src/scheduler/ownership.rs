//! One actor per run that this process owns: never two, and not for long none.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use perennial_core::run::RunId;
use perennial_store::{NodeRef, RunSummary, StoreError};
use perennial_supervision::{
    Address, ChildInfo, ChildSpec, RequestError,
    actor::{Actor, ActorError, ActorRef, RpcReply as ReplyPort},
};
use serde_json::json;

use super::{Adoption, SchedulerSpec};
use crate::{
    NotRunnable, Workflow, monitor, observer,
    patience::{STORE_WITHIN, patiently},
    published::Published,
    run::{self, Request},
};

/// How long the start of one actor may hold this one up.
const START_WITHIN: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(super) enum Message {
    /// A run shall have an actor; its workflow comes along when the asker has it.
    Ensure {
        run: RunId,
        workflow: Option<Arc<dyn Workflow>>,
        reply: ReplyPort<Result<(), NotRunnable>>,
    },
    /// Something is asked of a run that waits for a free place; nothing is answered when it does not.
    Aside { run: RunId, request: Request, reply: ReplyPort<Option<Result<bool, StoreError>>> },
    /// Look whether every owned run has its actor.
    Look,
    /// A run's actor has used up its restarts.
    GaveUp { run: RunId },
}

impl Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Ensure { .. } => "ensure",
            Self::Aside { .. } => "aside",
            Self::Look => "look",
            Self::GaveUp { .. } => "gave_up",
        }
    }
}

pub(super) fn child_spec(spec: SchedulerSpec) -> (ChildSpec, Address<Message>) {
    let published = Arc::new(Published::default());
    let shown = published.clone();
    let (child, address) = ChildSpec::actor_of_kinds("ownership", Message::kind, move || {
        (Shell { spec: spec.clone(), published: published.clone() }, ())
    });
    let within = STORE_WITHIN + Duration::from_secs(5);
    (child.start_within(within).detail(move || shown.read()), address)
}

struct Shell {
    spec: SchedulerSpec,
    published: Arc<Published>,
}

struct State {
    node: NodeRef,
    /// Workflows of runs that have an actor.
    workflows: HashMap<RunId, Arc<dyn Workflow>>,
}

/// Why a run has no actor yet.
enum NotStarted {
    /// All places are taken; it starts by itself when one is free.
    Waits(String),
    /// It cannot have one here; it is parked.
    Refused(NotRunnable),
    /// Not now; the next look tries again.
    Later(String),
}

impl Actor for Shell {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<State, ActorError> {
        let node = self.spec.services.node().await?;
        Ok(State { node, workflows: HashMap::new() })
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorError> {
        match message {
            Message::Ensure { run, workflow, reply } => {
                if let Some(workflow) = workflow {
                    state.workflows.insert(run.clone(), workflow);
                }
                let services = &self.spec.services;
                services.parked.release(&run);
                // A caller that has left still gets its actor.
                let started = if services.waiting.has_other(&run) {
                    // Those that came before it come first: the next look keeps their order.
                    self.waits(&run, "its turn, behind the runs that came before it");
                    services.look_again.notify_one();
                    Ok(())
                } else {
                    self.ensure(state, &run).await
                };
                drop(reply.send(started));
            }
            Message::Aside { run, request, reply } => {
                drop(reply.send(self.aside(state, &run, request).await));
            }
            Message::Look => self.look(state).await,
            Message::GaveUp { run } => {
                tracing::error!(%run, "the run's actor gave up; it is left as it is");
                let services = &self.spec.services;
                services.parked.park(&run, "its actor failed too often");
                // What of it still runs has nobody to report to.
                for task in services.attempts_of(&run) {
                    drop(services.tasks.terminate_child(&task).await);
                }
                services.forget_attempts_of(&run);
            }
        }
        self.publish(state);
        Ok(())
    }
}

impl Shell {
    async fn look(&self, state: &mut State) {
        let services = &self.spec.services;
        if services.is_draining() {
            return;
        }
        let unfinished = match services.store.unfinished_runs().await {
            Ok(unfinished) => unfinished,
            // The next look comes.
            Err(error) => return tracing::warn!(%error, "unfinished runs not read"),
        };
        let known: HashSet<&RunId> = unfinished.iter().map(|summary| &summary.run).collect();
        state.workflows.retain(|run, _| known.contains(run));
        services.parked.retain(|run| known.contains(run));
        services.waiting.retain(|run| known.contains(run));
        services.runs.retain(|run, _| known.contains(run));
        services.accounts.retain(|run, _| known.contains(run));
        for summary in unfinished {
            let parked = services.parked.why(&summary.run).is_some();
            if parked || !self.is_ours(&summary, state).await {
                continue;
            }
            if let Err(refused) = self.ensure(state, &summary.run).await {
                tracing::warn!(run = %summary.run, %refused, "run not continued");
            }
        }
    }

    /// Whether this process runs it; takes over what is free, if that is its way.
    async fn is_ours(&self, summary: &RunSummary, state: &State) -> bool {
        if summary.owner.as_ref() == Some(&state.node) {
            return true;
        }
        if summary.owner_alive || self.spec.adoption == Adoption::OnRequest {
            return false;
        }
        match self.spec.services.store.own_run(&summary.run, &state.node).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(run = %summary.run, %error, "run not taken over");
                false
            }
        }
    }

    /// A run that must wait for its actor is started by a later look: that is no refusal.
    async fn ensure(&self, state: &mut State, run: &RunId) -> Result<(), NotRunnable> {
        match self.start_actors(state, run).await {
            Ok(()) => {
                self.spec.services.waiting.starts(run);
                Ok(())
            }
            Err(NotStarted::Waits(what)) => {
                self.waits(run, &what);
                Ok(())
            }
            Err(NotStarted::Later(why)) => {
                tracing::warn!(%run, why, "run not started yet");
                Ok(())
            }
            Err(NotStarted::Refused(refused)) => {
                self.spec.services.waiting.starts(run);
                self.spec.services.parked.park(run, &refused.failure.message);
                Err(refused)
            }
        }
    }

    /// Nobody but this actor starts that of a run: while it is here, a run that waits goes on waiting.
    async fn aside(
        &self,
        state: &mut State,
        run: &RunId,
        request: Request,
    ) -> Option<Result<bool, StoreError>> {
        let services = &self.spec.services;
        services.waiting.of(run)?;
        let workflow = match self.workflow(state, run).await {
            Ok(workflow) => workflow,
            Err(NotStarted::Waits(why) | NotStarted::Later(why)) => {
                tracing::warn!(%run, why, "request not met");
                return Some(Err(StoreError::Busy));
            }
            // The next look parks it and says why.
            Err(NotStarted::Refused(_)) => return None,
        };
        let settled = run::settle(services, run, &workflow, request).await;
        if let (Request::Cancel, Ok(true)) = (request, &settled) {
            services.waiting.starts(run);
            services.look_again.notify_one();
        }
        Some(settled)
    }

    fn waits(&self, run: &RunId, what: &str) {
        let services = &self.spec.services;
        if services.waiting.of(run).is_none() {
            tracing::info!(%run, what, "run waits");
        }
        services.waiting.waits(run, what.to_owned(), services.store.now());
    }

    async fn start_actors(&self, state: &mut State, run: &RunId) -> Result<(), NotStarted> {
        let services = &self.spec.services;
        if services.is_draining() {
            return Err(NotStarted::Later("the runtime is shutting down".to_owned()));
        }
        // Under a supervisor that is away there is nothing; starting it there tells more.
        let is_among =
            |children: &[ChildInfo]| children.iter().any(|child| child.name() == run.as_str());
        let active = self.spec.runs.which_children().unwrap_or_default();
        let has_monitor =
            self.spec.monitors.which_children().is_ok_and(|children| is_among(&children));
        if is_among(&active) {
            if !has_monitor {
                // `monitors` was restarted, and begins empty.
                self.start_monitor(run).await;
                if let Some(workflow) = state.workflows.get(run) {
                    self.start_observer(run, workflow).await;
                }
            }
            return Ok(());
        }
        let most = self.spec.runs_max;
        if active.len() >= most {
            let what = format!("a free place: {} of {most} runs are active", active.len());
            return Err(NotStarted::Waits(what));
        }
        let workflow = self.workflow(state, run).await?;
        if !has_monitor {
            self.start_monitor(run).await;
        }
        self.start_observer(run, &workflow).await;
        let (spec, address) = run::child_spec(services, run, &workflow);
        services.runs.insert(run.clone(), address);
        self.start(&self.spec.runs, spec).await.map_err(NotStarted::Later)
    }

    async fn workflow(
        &self,
        state: &mut State,
        run: &RunId,
    ) -> Result<Arc<dyn Workflow>, NotStarted> {
        if let Some(workflow) = state.workflows.get(run) {
            return Ok(workflow.clone());
        }
        let services = &self.spec.services;
        let later = |error: StoreError| NotStarted::Later(error.to_string());
        let view = patiently(STORE_WITHIN, || services.store.run(run)).await;
        let record = view.map_err(later)?.run;
        let read = || services.store.blob(record.definition);
        let bytes = patiently(STORE_WITHIN, read).await.map_err(later)?;
        let revived = services.definitions.revive(&record, bytes).await;
        let workflow = revived.map_err(NotStarted::Refused)?;
        state.workflows.insert(run.clone(), workflow.clone());
        Ok(workflow)
    }

    /// Without its monitor a run goes on; the next look tries again.
    async fn start_monitor(&self, run: &RunId) {
        if !self.spec.services.monitoring.enabled {
            return;
        }
        let (spec, address) = monitor::child_spec(&self.spec.services, run);
        self.spec.services.monitors.insert(run.clone(), address);
        if let Err(error) = self.start(&self.spec.monitors, spec).await {
            tracing::warn!(%run, error, "monitor not started");
        }
    }

    /// Without its observer a run goes on as well.
    async fn start_observer(&self, run: &RunId, workflow: &Arc<dyn Workflow>) {
        let services = &self.spec.services;
        if workflow.clone().observer().is_none() {
            return;
        }
        let known = match patiently(STORE_WITHIN, || services.store.run(run)).await {
            Ok(view) => view.run.next_seq.saturating_sub(1),
            Err(error) => return tracing::warn!(%run, %error, "observer not started"),
        };
        let Some(spec) = observer::child_spec(services, run, workflow, known) else { return };
        let children = self.spec.monitors.which_children().unwrap_or_default();
        if children.iter().any(|child| child.name() == observer::id(run)) {
            return;
        }
        if let Err(error) = self.start(&self.spec.monitors, spec).await {
            tracing::warn!(%run, error, "observer not started");
        }
    }

    async fn start(
        &self,
        supervisor: &perennial_supervision::DynamicSupervisor,
        spec: ChildSpec,
    ) -> Result<(), String> {
        match tokio::time::timeout(START_WITHIN, supervisor.start_child(spec)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RequestError::MaxChildren(max))) => {
                Err(format!("{max} runs are active already; it starts when one ends"))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("its supervisor did not answer".to_owned()),
        }
    }

    fn publish(&self, state: &State) {
        let parked = self.spec.services.parked.all();
        let parked: serde_json::Map<String, serde_json::Value> =
            parked.into_iter().map(|(run, why)| (run.to_string(), json!(why))).collect();
        let waiting = self.spec.services.waiting.all();
        let waiting: serde_json::Map<String, serde_json::Value> =
            waiting.into_iter().map(|(run, why)| (run.to_string(), json!(why))).collect();
        self.published.publish(json!({
            "node": state.node.node,
            "incarnation": state.node.incarnation,
            "runs": state.workflows.len(),
            "runs_max": self.spec.runs_max,
            "waiting": waiting,
            "parked": parked,
        }));
    }
}
