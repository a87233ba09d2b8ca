//! One actor per run that this process owns: never two, and not for long none.

mod starting;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use perennial_core::run::{RunId, RunState};
use perennial_store::{Leases, OpenRun, StoreError};
use perennial_supervision::{
    Address, ChildSpec,
    actor::{Actor, ActorError, ActorRef, RpcReply as ReplyPort},
};
use serde_json::{Map, Value, json};

use self::starting::NotStarted;
use super::{
    Adoption, SchedulerSpec,
    pulse::Pulse,
    turn::{Turn, in_order},
};
use crate::{
    NotRunnable, Services, WaitsFor, WaitsWhy, Workflow,
    patience::{QUESTION_WITHIN, STORE_WITHIN, once, persistently},
    published::Published,
    run::{self, Request, Requested},
};

/// How often in a row the actor of a run may fail to start, while the store is there, before the run is parked.
const STARTS_MAX: u32 = 5;

#[derive(Debug)]
pub(super) enum Message {
    /// A run shall have an actor; its workflow comes along when the asker has it.
    Ensure {
        run: RunId,
        workflow: Option<Arc<dyn Workflow>>,
        /// Whether it has just been made, or opened again: then it needs a place.
        is_new: bool,
        reply: ReplyPort<Result<(), NotRunnable>>,
    },
    /// Something is asked of a run that waits for a free place; nothing is answered when it does not.
    Aside { run: RunId, request: Requested, reply: ReplyPort<Option<Result<bool, StoreError>>> },
    /// Look whether every owned run has its actor.
    Look,
    /// A run's actor has used up its restarts.
    GaveUp { run: RunId, why: String },
    /// This node has lost its lease: nothing of a run may go on here.
    NodeLost { reply: ReplyPort<()> },
}

impl Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Ensure { .. } => "ensure",
            Self::Aside { .. } => "aside",
            Self::Look => "look",
            Self::GaveUp { .. } => "gave_up",
            Self::NodeLost { .. } => "node_lost",
        }
    }
}

pub(super) fn child_spec(spec: SchedulerSpec, pulse: Arc<Pulse>) -> (ChildSpec, Address<Message>) {
    let published = Arc::new(Published::default());
    let (shown, services) = (published.clone(), spec.services.clone());
    let (child, address) = ChildSpec::actor_of_kinds("ownership", Message::kind, move || {
        let (spec, published, pulse) = (spec.clone(), published.clone(), pulse.clone());
        (Shell { spec, published, pulse }, ())
    });
    let within = STORE_WITHIN + Duration::from_secs(5);
    (child.start_within(within).detail(move || detail(&services, &shown)), address)
}

/// Why runs wait, as it is now, before what this actor published when it last did something.
fn detail(services: &Services, published: &Published) -> Value {
    let (waiting, waiting_count) = services.waiting.listed();
    let waiting: Map<String, Value> =
        waiting.into_iter().map(|(run, why)| (run.to_string(), json!(why))).collect();
    let mut detail = json!({
        "waiting": waiting,
        "waiting_count": waiting_count,
        "holders": services.places.listed(),
    });
    if let (Some(all), Value::Object(rest)) = (detail.as_object_mut(), published.read()) {
        all.extend(rest);
    }
    detail
}

/// Whether a run can do something only with a place: one that is paused or ending does nothing new.
fn needs_place(state: RunState) -> bool {
    !matches!(state, RunState::Paused | RunState::Cancelling)
}

struct Shell {
    spec: SchedulerSpec,
    published: Arc<Published>,
    pulse: Arc<Pulse>,
}

#[derive(Default)]
struct State {
    /// Workflows of runs that have an actor.
    workflows: HashMap<RunId, Arc<dyn Workflow>>,
    /// How often in a row runs failed to be taken over, or their actors to start.
    failed: HashMap<RunId, u32>,
    /// Parked ones that were let go on once, because somebody has cancelled them.
    ending: HashSet<RunId>,
}

impl State {
    fn failed(&mut self, run: &RunId) {
        let times = self.failed.entry(run.clone()).or_default();
        *times = times.saturating_add(1);
    }
}

impl Actor for Shell {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<State, ActorError> {
        self.spec.services.node().await?;
        Ok(State::default())
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorError> {
        match message {
            Message::Ensure { run, workflow, is_new, reply } => {
                let services = &self.spec.services;
                if services.parked.release(&run) {
                    self.mends(state, &run, workflow.is_some()).await;
                }
                if let Some(workflow) = workflow {
                    state.workflows.insert(run.clone(), workflow);
                }
                // A caller that has left still gets its actor.
                let mut turn = Turn::new(&self.spec);
                turn.passed = services.waiting.has_other(&run);
                if turn.passed {
                    // Those that came before it come first: the next look keeps their order.
                    services.look_again.notify_one();
                }
                let started = match self.needs_place(&run, is_new).await {
                    Ok(needs_place) => self.ensure(state, &run, needs_place, &mut turn).await,
                    // The next look tries again.
                    Err(error) => {
                        tracing::warn!(%run, %error, "run not started yet");
                        Ok(())
                    }
                };
                drop(reply.send(started));
            }
            Message::Aside { run, request, reply } => {
                drop(reply.send(self.aside(state, &run, &request).await));
            }
            Message::Look => match self.look(state).await {
                Ok(()) => self.pulse.beat(),
                Err(why) => {
                    if self.pulse.hindered(&why) {
                        tracing::warn!(why, "runs not looked after");
                    }
                }
            },
            Message::GaveUp { run, why } => {
                tracing::error!(%run, why, "the run's actor gave up; the run is parked");
                self.spec.services.parked.park_for_want_of_better(&run, why);
                self.abandon(state, &run).await;
            }
            Message::NodeLost { reply } => {
                self.leave_all().await;
                drop(reply.send(()));
            }
        }
        self.publish(state);
        Ok(())
    }
}

impl Shell {
    /// # Errors
    ///
    /// What kept it from looking after runs: the next look comes.
    async fn look(&self, state: &mut State) -> Result<(), String> {
        let services = &self.spec.services;
        if services.is_draining() {
            return Ok(());
        }
        if !services.membership.may_work() {
            return Err("this node's lease is not safely live".to_owned());
        }
        let unfinished = once(services.store.open_runs()).await;
        let mut unfinished =
            unfinished.map_err(|error| format!("unfinished runs are not read: {error}"))?;
        in_order(&mut unfinished, services.store.now(), services.settings.aging);
        let mut turn = Turn::new(&self.spec);
        let known: HashSet<&RunId> = unfinished.iter().map(|summary| &summary.run).collect();
        state.workflows.retain(|run, _| known.contains(run));
        state.failed.retain(|run, _| known.contains(run));
        services.parked.retain(|run| known.contains(run));
        state.ending.retain(|run| known.contains(run));
        // Those that another node has ended: their actors shall find out.
        for run in services.runs_here().iter().filter(|run| !known.contains(run)) {
            self.saw(run, u64::MAX);
        }
        services.waiting.retain(|run| known.contains(run));
        services.resting.retain(|run| known.contains(run));
        services.places.retain(|run| known.contains(run));
        // What has an actor is reached by it until that has ended: it may have been opened again since.
        services.runs.retain(|run, _| known.contains(run) || turn.runs.contains(run.as_str()));
        services.accounts.retain(|run, _| known.contains(run));
        let mut taken_over = 0;
        for summary in unfinished {
            let is_parked = services.parked.is_parked(&summary.run);
            if is_parked
                && summary.state == RunState::Cancelling
                && summary.owner.is_some()
                && summary.owner == services.registered_node()
                && state.ending.insert(summary.run.clone())
            {
                // To end it needs nothing of what it is parked for; cancelled by whoever does not know its workflow.
                services.parked.release(&summary.run);
            } else if is_parked || services.beginning.has(&summary.run) {
                continue;
            }
            if self.is_ours(state, &summary, &mut taken_over).await {
                self.saw(&summary.run, summary.revision);
                let needs = needs_place(summary.state) && !self.waits_outside(&summary.run);
                if let Err(refused) = self.ensure(state, &summary.run, needs, &mut turn).await {
                    tracing::warn!(run = %summary.run, %refused, "run not continued");
                }
            }
            if state.failed.contains_key(&summary.run) {
                self.judge(state, &summary.run).await?;
            }
            self.pulse.beat();
        }
        if taken_over >= services.settings.takeovers_max {
            services.look_again.notify_one();
        }
        Ok(())
    }

    /// Whose fault it is that the actor of `run` has not started: of one that fails again and again although the
    /// store is there, it is its own.
    ///
    /// # Errors
    ///
    /// When the store is away: no other run would start either.
    async fn judge(&self, state: &mut State, run: &RunId) -> Result<(), String> {
        let services = &self.spec.services;
        match once(services.store.revision(run)).await {
            Err(error) if error.is_transient() => {
                state.failed.remove(run);
                return Err(format!("run {run} is not read: {error}"));
            }
            Ok(_) | Err(_) => (),
        }
        if state.failed.get(run).is_some_and(|times| *times >= STARTS_MAX) {
            state.failed.remove(run);
            services.parked.park_for_want_of_better(run, "it fails to start; the log says why");
            self.abandon(state, run).await;
        }
        Ok(())
    }

    /// Nothing of a parked run is done here: what of it still goes on has nobody to report to, and is given back.
    async fn abandon(&self, state: &mut State, run: &RunId) {
        let services = &self.spec.services;
        // A look may have started it again meanwhile.
        self.stop_actor(run).await;
        let tasks = services.attempts_of(run);
        let stops = tasks.iter().map(|task| services.tasks.terminate_child(task));
        // One that has just ended is not found.
        drop(join_all(stops).await);
        services.forget_attempts_of(run);
        services.set_aside(run);
        let Some(workflow) = state.workflows.get(run) else { return };
        let given_back = run::give_back(services, run, workflow);
        if tokio::time::timeout(QUESTION_WITHIN, given_back).await.is_err() {
            // Whoever resumes it does so.
            tracing::warn!(%run, "what was under way is not given back yet");
        }
    }

    async fn stop_actor(&self, run: &RunId) {
        if let Some(child) = self.spec.runs.find(run.as_str()) {
            // One that has just ended is not found.
            drop(self.spec.runs.terminate_child(&child).await);
        }
    }

    /// A parked run is to go on: an actor that is still at its last attempts does not know what is mended, nor does
    /// the workflow that was built from the definition before.
    async fn mends(&self, state: &mut State, run: &RunId, is_given: bool) {
        state.failed.remove(run);
        self.stop_actor(run).await;
        let Some(before) = state.workflows.remove(run).filter(|_| !is_given) else { return };
        if self.workflow(state, run).await.is_err() {
            // One that cannot be built from its record is what it was.
            state.workflows.insert(run.clone(), before);
        }
    }

    /// Tells a run's actor how many decisions the store knows: another node may have made one. One that is away
    /// reads the store when it starts.
    fn saw(&self, run: &RunId, revision: u64) {
        if let Some(address) = self.spec.services.run_address(run) {
            drop(address.cast(run::Message::Seen { revision }));
        }
    }

    /// Whether this process runs it; takes over what is free, if that is its way. Where several nodes share the
    /// store it takes only what it has a place for and can run (STO-52), and not too much at once: the others look,
    /// too.
    async fn is_ours(&self, state: &mut State, summary: &OpenRun, taken_over: &mut usize) -> bool {
        let services = &self.spec.services;
        let Some(node) = services.membership.incarnation() else { return false };
        if summary.owner.as_ref() == Some(&node) {
            return true;
        }
        // What this process worked on before it lost its lease is still asked of it.
        let was_ours = summary.owner.as_ref().is_some_and(|owner| services.membership.was(owner));
        if summary.owner_alive || (self.spec.adoption == Adoption::OnRequest && !was_ours) {
            return false;
        }
        if self.spec.lifecycle.get().is_none() {
            // What a run needs of its host may still be on its way (INV-ST-30).
            return false;
        }
        if services.membership.leases() == Leases::Timed {
            let is_full = needs_place(summary.state)
                && services.places.count() + *taken_over >= self.spec.runs_max;
            if *taken_over >= services.settings.takeovers_max || is_full {
                return false;
            }
            match self.workflow(state, &summary.run).await {
                Ok(_) => (),
                Err(NotStarted::Refused(refused)) => {
                    tracing::warn!(run = %summary.run, %refused, "run left to other nodes");
                    services.parked.park(&summary.run, &refused.failure.message);
                    return false;
                }
                Err(NotStarted::Later(why) | NotStarted::Waits(why)) => {
                    tracing::warn!(run = %summary.run, why, "run not taken over yet");
                    return false;
                }
                Err(NotStarted::Failed(why)) => {
                    tracing::warn!(run = %summary.run, why, "run not taken over yet");
                    state.failed(&summary.run);
                    return false;
                }
            }
        }
        match once(services.store.own_run(&summary.run, &node)).await {
            Ok(_) => {
                tracing::info!(run = %summary.run, node = %node.node, "run taken over");
                *taken_over += 1;
                true
            }
            Err(StoreError::Conflict { what }) => {
                tracing::debug!(run = %summary.run, what, "another node was first");
                false
            }
            Err(error @ StoreError::Unreadable { .. }) => {
                tracing::warn!(run = %summary.run, %error, "run not taken over");
                services.parked.park(&summary.run, error.to_string());
                false
            }
            Err(error) => {
                tracing::warn!(run = %summary.run, %error, "run not taken over");
                state.failed(&summary.run);
                false
            }
        }
    }

    /// Ends every actor of a run and every monitor: what they know is another incarnation's. Runs that are still
    /// this node's begin anew with the next look.
    async fn leave_all(&self) {
        let (services, spec) = (&self.spec.services, &self.spec);
        for supervisor in [&spec.runs, &spec.monitors] {
            let children = supervisor.which_children().unwrap_or_default();
            let found = children.iter().filter_map(|child| supervisor.find(child.name()));
            let stops = found.map(|child| async move {
                // One that has just ended is not found.
                drop(supervisor.terminate_child(&child).await);
            });
            join_all(stops).await;
        }
        for run in services.runs_here() {
            services.rooms.leave(&run);
        }
        services.runs.clear();
        services.monitors.clear();
        services.forget_all_attempts();
        for everything in [&services.waiting, &services.resting] {
            everything.retain(|_| false);
        }
        services.places.retain(|_| false);
    }

    /// Asks the store, of a run that is not new.
    async fn needs_place(&self, run: &RunId, is_new: bool) -> Result<bool, StoreError> {
        if is_new {
            return Ok(true);
        }
        let view = persistently(STORE_WITHIN, || self.spec.services.store.run(run)).await?;
        Ok(needs_place(view.run.state) && !self.waits_outside(run))
    }

    /// Whether its actor says that all that is left of it waits for something outside of it.
    fn waits_outside(&self, run: &RunId) -> bool {
        self.spec.services.resting.of(run).is_some_and(|rests| !rests.needs_place)
    }

    /// A run that must wait for its actor is started by a later look: that is no refusal.
    async fn ensure(
        &self,
        state: &mut State,
        run: &RunId,
        needs_place: bool,
        turn: &mut Turn,
    ) -> Result<(), NotRunnable> {
        let services = &self.spec.services;
        let held = services.places.holds(run);
        match self.start_actors(state, run, needs_place, turn).await {
            Ok(()) => {
                state.failed.remove(run);
                services.waiting.starts(run);
                let address = services.run_address(run).filter(|_| needs_place && !held);
                if let Some(address) = address {
                    // It waits with its actor, or has just been started and looks by itself.
                    drop(address.cast(run::Message::Wake));
                }
                Ok(())
            }
            Err(NotStarted::Waits(what)) => {
                self.waits(run, &what);
                Ok(())
            }
            Err(NotStarted::Later(why)) => {
                self.not_yet(run, held, &why);
                Ok(())
            }
            Err(NotStarted::Failed(why)) => {
                state.failed(run);
                self.not_yet(run, held, &why);
                Ok(())
            }
            Err(NotStarted::Refused(refused)) => {
                services.parked.park(run, &refused.failure.message);
                services.set_aside(run);
                Err(refused)
            }
        }
    }

    /// Nobody but this actor starts that of a run: while it is here, a run that has none gets none. Nothing where it has one, or
    /// where its workflow is not known.
    async fn aside(
        &self,
        state: &mut State,
        run: &RunId,
        requested: &Requested,
    ) -> Option<Result<bool, StoreError>> {
        let services = &self.spec.services;
        if Turn::new(&self.spec).runs.contains(run.as_str()) {
            // It waits with its actor, which is the one to ask.
            return None;
        }
        let workflow = match self.workflow(state, run).await {
            Ok(workflow) => workflow,
            Err(NotStarted::Waits(why) | NotStarted::Later(why) | NotStarted::Failed(why)) => {
                tracing::warn!(%run, why, "request not met");
                return Some(Err(StoreError::Busy));
            }
            // The next look parks it and says why.
            Err(NotStarted::Refused(_)) => return None,
        };
        let cancels = matches!(requested.request, Request::Cancel);
        let settled = run::settle(services, run, &workflow, requested).await;
        if cancels && matches!(settled, Ok(true)) {
            // What is left of its end needs nothing that kept it from going on.
            services.parked.release(run);
            services.set_aside(run);
            services.look_again.notify_one();
        }
        Some(settled)
    }

    fn not_yet(&self, run: &RunId, held: bool, why: &str) {
        tracing::warn!(%run, why, "run not started yet");
        if !held {
            self.spec.services.gives_back(run);
        }
    }

    fn waits(&self, run: &RunId, what: &str) {
        let services = &self.spec.services;
        let what_for = WaitsFor::new(WaitsWhy::Place, what, services.store.now());
        if services.waiting.waits(run, what_for) {
            tracing::info!(%run, what, "run waits");
        }
    }

    fn publish(&self, state: &State) {
        let parked = self.spec.services.parked.all();
        let parked: serde_json::Map<String, serde_json::Value> =
            parked.into_iter().map(|(run, why)| (run.to_string(), json!(why))).collect();
        let node = self.spec.services.membership.incarnation();
        self.published.publish(json!({
            "parked": parked,
            "runs_max": self.spec.runs_max,
            "runs": state.workflows.len(),
            "node": node.as_ref().map(|node| &node.node),
            "incarnation": node.as_ref().map(|node| node.incarnation),
        }));
    }
}
