//! The shell of one run: reads the clock, asks the machine, commits, starts attempts.

mod claiming;

use std::{sync::Arc, time::Duration};

use perennial_core::{
    ExitReason, FailureClass,
    failure::Failure,
    run::{InvalidTransition, JobState, Priority, RunId, RunState},
};
use perennial_store::{Committed, Decision, JobStep, Lease, Report, Store, StoreError};
use perennial_supervision::{
    Address, ChildSpec,
    actor::{Actor, ActorError, ActorRef, RpcReply as ReplyPort},
};
use serde_json::{Map, Value, json};

use super::{
    account::Account,
    aside::{Request, Requested},
    attempt::{self, Heard},
    machine::{
        AskedBy, Circumstances, Completed, Ending, Fact, Machine, Reported, StopCause, Unchanged,
    },
};
use crate::{
    Services, WaitsFor, WaitsWhy, Workflow, monitor,
    patience::{STORE_WITHIN, may_pass, persistently},
    published::Published,
    rooms::Room,
    services::AttemptId,
    workflow::Outcome,
};

/// In how many of the rounds of one decision (DUR-2) it claims as well.
const CLAIMING_ROUNDS_MAX: u32 = 4;

/// How many decisions that follow from each other it makes before it listens again.
const LOOKS_MAX: u32 = 64;

/// Events that it reads at a time.
const EVENTS_AT_ONCE: u32 = 1_000;

/// What a run is told and asked.
#[derive(Debug)]
pub(crate) enum Message {
    /// Look what is due.
    Wake,
    /// So many decisions are in the store: one that this actor does not know is another node's.
    Seen { revision: u64 },
    /// An attempt has ended and says how.
    Report { lease: Lease, end: Box<Reported>, reply: ReplyPort<Heard> },
    /// An attempt's task has ended, for whatever reason.
    AttemptDown { lease: Lease, reason: ExitReason },
    /// Answers once everything before it is done: nothing is half-started then.
    Fence { reply: ReplyPort<()> },
    /// Something is asked of the run; answers whether that changed anything.
    Asked { requested: Requested, reply: ReplyPort<Result<bool, StoreError>> },
}

impl Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::Seen { .. } => "seen",
            Self::Report { .. } => "report",
            Self::AttemptDown { .. } => "attempt_down",
            Self::Fence { .. } => "fence",
            Self::Asked { requested, .. } => requested.request.action().name(),
        }
    }
}

/// How to supervise the actor of `run`.
pub(crate) fn child_spec(
    services: &Services,
    run: &RunId,
    workflow: &Arc<dyn Workflow>,
) -> (ChildSpec, Address<Message>) {
    let detail = Arc::new(Published::default());
    let (progress, of) = (services.progress.clone(), run.clone());
    let (shell_services, shell_run, shell_workflow) =
        (services.clone(), run.clone(), workflow.clone());
    let published = detail.clone();
    let (spec, address) = ChildSpec::actor_of_kinds(run.as_str(), Message::kind, move || {
        let shell = Shell::of(&shell_services, &shell_run, &shell_workflow);
        (Shell { published: published.clone(), ..shell }, ())
    });
    let spec = spec
        .restart(perennial_core::Restart::Transient)
        .start_within(STORE_WITHIN + Duration::from_secs(5))
        .detail(move || with_progress(detail.read(), progress.of(&of)));
    (spec, address)
}

/// Attempts that are under way for jobs that `decision` ends.
fn stopped(machine: &Machine, decision: &Decision) -> Vec<AttemptId> {
    let ended = decision.jobs.iter().filter(|step| step.from == JobState::Leased);
    let jobs = ended.filter_map(|step| machine.job(step.job));
    jobs.map(|job| AttemptId { job: job.id, attempt: job.attempt }).collect()
}

/// Why a request changes nothing.
fn refused(fact: &Fact, unchanged: Unchanged) -> StoreError {
    let job = match fact {
        Fact::Skip { job, .. } => job.to_string(),
        Fact::Limit(limit) => limit.stage.clone(),
        Fact::Look
        | Fact::Ended { .. }
        | Fact::Stop(_)
        | Fact::Pause
        | Fact::Unpause
        | Fact::Priority(_) => String::new(),
    };
    match unchanged {
        Unchanged::Undoes => {
            let (from, to) = (RunState::Compensating.name(), fact.wants());
            StoreError::InvalidState(InvalidTransition { what: "run", from, to })
        }
        Unchanged::NoStage => StoreError::NotFound { what: "stage", id: job },
        Unchanged::NoJob | Unchanged::Already => StoreError::NotFound { what: "step", id: job },
        Unchanged::Ended(state) => StoreError::InvalidState(InvalidTransition {
            what: "job",
            from: state.name(),
            to: JobState::Skipped.name(),
        }),
    }
}

/// What its attempts have said last stands beside what it has published.
fn with_progress(mut detail: Value, progress: Option<Value>) -> Value {
    if let (Some(detail), Some(progress)) = (detail.as_object_mut(), progress) {
        detail.insert("progress".to_owned(), progress);
    }
    detail
}

pub(super) struct Shell {
    services: Services,
    run: RunId,
    workflow: Arc<dyn Workflow>,
    published: Arc<Published>,
}

impl Actor for Shell {
    type Msg = Message;
    type State = Machine;
    type Arguments = ();

    async fn pre_start(&self, _me: ActorRef<Message>, (): ()) -> Result<Machine, ActorError> {
        let machine = self.load().await?;
        self.publish(&machine);
        Ok(machine)
    }

    /// Finds its attempts again and goes on.
    async fn post_start(
        &self,
        me: ActorRef<Message>,
        machine: &mut Machine,
    ) -> Result<(), ActorError> {
        self.recover(machine).await?;
        self.advance(&me, machine).await?;
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        machine: &mut Machine,
    ) -> Result<(), ActorError> {
        match message {
            Message::Wake => {
                self.take_in_news(machine).await?;
                self.advance(&me, machine).await?;
            }
            Message::Seen { revision } if revision > machine.revision() => {
                *machine = self.load().await?;
                self.advance(&me, machine).await?;
            }
            Message::Seen { .. } => (),
            Message::Report { reply, .. } if !self.may_work() => drop(reply.send(Heard::Later)),
            // The sweep takes it in once that is possible.
            Message::AttemptDown { .. } if !self.may_work() => (),
            Message::Report { lease, end, reply } => {
                let how = Ending::Reported(*end);
                let heard = self.ended(machine, lease, how).await?;
                // An attempt that is gone does not want it.
                drop(reply.send(heard));
                self.advance(&me, machine).await?;
            }
            Message::AttemptDown { lease, reason } => {
                self.attempt_down(machine, lease, reason).await?;
                self.advance(&me, machine).await?;
            }
            // Whoever asked has left.
            Message::Fence { reply } => drop(reply.send(())),
            Message::Asked { requested, reply } => {
                let leases = match self.meet(machine, &requested).await {
                    Ok(leases) => {
                        drop(reply.send(Ok(leases.is_some())));
                        leases.unwrap_or_default()
                    }
                    Err(error) => {
                        drop(reply.send(Err(error)));
                        Vec::new()
                    }
                };
                for (lease, room) in leases {
                    self.begin(machine, lease, room).await?;
                }
                self.advance(&me, machine).await?;
            }
        }
        Ok(())
    }
}

impl Shell {
    /// Whether anything may be reported here: else somebody else may be at it (DUR-21).
    fn may_work(&self) -> bool {
        self.services.membership.may_work()
    }

    /// Gives its place back when nothing can begin and nothing is under way; asks for one when something can.
    fn settle_place(&self, machine: &Machine) {
        let services = &self.services;
        let is_idle = machine.leased().next().is_none();
        // Known before a place is asked for or given back: whoever gives places out looks at it.
        self.note_rest(machine);
        let changed = match machine.state {
            state if state.is_terminal() || (state == RunState::Paused && is_idle) => {
                services.waiting.starts(&self.run);
                services.places.release(&self.run)
            }
            // It waits for something outside of it, maybe for days, and needs no place meanwhile.
            state if state.claims() && machine.is_idle() => services.places.release(&self.run),
            state if state.claims() && !services.places.holds(&self.run) => {
                let what = "its turn for a free place";
                let known = services.waiting.of(&self.run).is_some();
                let now = self.store().now();
                let waits = WaitsFor::new(WaitsWhy::Place, what, now).just_asked();
                !known && services.waiting.waits(&self.run, waits)
            }
            RunState::Pending
            | RunState::Running
            | RunState::Paused
            | RunState::Cancelling
            | RunState::Compensating
            | RunState::Succeeded
            | RunState::PartiallySucceeded
            | RunState::Failed
            | RunState::TimedOut
            | RunState::Cancelled
            | RunState::CompensationFailed => false,
        };
        if changed {
            services.look_again.notify_one();
        }
    }

    pub(super) fn of(services: &Services, run: &RunId, workflow: &Arc<dyn Workflow>) -> Self {
        Self {
            services: services.clone(),
            run: run.clone(),
            workflow: workflow.clone(),
            published: Arc::default(),
        }
    }

    /// One that cannot be understood is parked: no later incarnation understands it either (DUR-113).
    async fn load(&self) -> Result<Machine, ActorError> {
        let loaded = self.reload().await;
        if let Err(error @ StoreError::Unreadable { .. }) = &loaded {
            self.services.parked.park(&self.run, error.to_string());
        }
        let machine = loaded?;
        self.stop_ended(&machine).await;
        Ok(machine)
    }

    /// Leaves a run of which nobody knows how it goes on to whoever resumes it: what is under way may end and is
    /// recorded, and with the last of it this actor stops (DUR-4).
    fn leave(&self, me: &ActorRef<Message>, machine: &Machine, why: &str) {
        let services = &self.services;
        if !services.parked.is_parked(&self.run) {
            tracing::error!(run = %self.run, why, "the run is parked");
            services.parked.park(&self.run, why);
        }
        services.rooms.leave(&self.run);
        self.publish(machine);
        if machine.leased().next().is_none() {
            services.set_aside(&self.run);
            me.stop(None);
        }
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.services.store
    }

    fn address(&self) -> Option<Address<Message>> {
        self.services.run_address(&self.run)
    }

    /// Takes in what happened while no actor looked: dead nodes' jobs, ended and live attempts.
    async fn recover(&self, machine: &mut Machine) -> Result<(), ActorError> {
        let node = self.services.node().await?;
        self.take_over(machine, false).await?;
        let leased: Vec<Lease> = machine.leased().filter_map(|job| machine.lease(job)).collect();
        // Attempts whose end was recorded by an incarnation that did not live to forget them.
        let held = |id: &AttemptId| {
            leased.iter().any(|lease| lease.job == id.job && lease.attempt == id.attempt)
        };
        self.services.attempts.retain(|id, begun| begun.run != self.run || held(id));
        for lease in leased.into_iter().filter(|lease| lease.node == node) {
            // One that is not there, or has ended, is taken in by the sweep that follows.
            if let (Some(task), Some(address)) =
                (attempt::find(&self.services, &lease), self.address())
            {
                attempt::watch(&task, &address, lease);
            }
        }
        Ok(())
    }

    /// Jobs of dead nodes are given back, or ended where they have died too often. `may_be_old`: somebody else may
    /// have given them back since this actor has read them.
    async fn take_over(&self, machine: &mut Machine, may_be_old: bool) -> Result<(), ActorError> {
        let rescue = || self.store().rescue(Some(&self.run), self.services.settings.claim_batch);
        let rescued = persistently(STORE_WITHIN, rescue).await?;
        if !rescued.is_empty() {
            tracing::info!(run = %self.run, jobs = rescued.len(), "jobs of dead nodes taken over");
        }
        if may_be_old || !rescued.is_empty() {
            *machine = self.load().await?;
        }
        for lost in rescued.into_iter().filter(|job| job.exhausted) {
            let job = machine.jobs().iter().find(|job| job.key == lost.key);
            let lease = job.filter(|job| job.state == JobState::Leased);
            if let Some(lease) = lease.and_then(|job| machine.lease(job)) {
                self.ended(machine, lease, Ending::Lost).await?;
            }
        }
        Ok(())
    }

    /// Reads the run anew when somebody else has decided about it: what ends the wait of a job is written
    /// by whoever sends it, in any process.
    async fn take_in_news(&self, machine: &mut Machine) -> Result<(), ActorError> {
        if !machine.has_waiting() {
            return Ok(());
        }
        if self.is_behind(machine).await? {
            *machine = self.load().await?;
        }
        Ok(())
    }

    /// Whether somebody else has decided about the run.
    async fn is_behind(&self, machine: &Machine) -> Result<bool, StoreError> {
        let revision = persistently(STORE_WITHIN, || self.store().revision(&self.run)).await?;
        Ok(revision != machine.revision())
    }

    /// Takes in attempts that are over without having been heard: news of an end is lost when it
    /// comes while this actor is away, so looking is what counts.
    async fn sweep(&self, machine: &mut Machine) -> Result<(), ActorError> {
        let node = self.services.node().await?;
        let leases = |machine: &Machine| -> Vec<Lease> {
            machine.leased().filter_map(|job| machine.lease(job)).collect()
        };
        if leases(machine).iter().any(|lease| lease.node != node) {
            self.take_over(machine, true).await?;
        }
        for lease in leases(machine).into_iter().filter(|lease| lease.node == node) {
            match attempt::find(&self.services, &lease) {
                Some(task) => {
                    if let Some(reason) = task.exit_reason() {
                        self.attempt_down(machine, lease, reason).await?;
                    }
                }
                None => self.release(machine, &lease, "no attempt was under way").await?,
            }
        }
        Ok(())
    }

    /// Does what is due, until nothing is: decides, claims, starts attempts, ends.
    async fn advance(
        &self,
        me: &ActorRef<Message>,
        machine: &mut Machine,
    ) -> Result<(), ActorError> {
        if !self.may_work() {
            self.publish(machine);
            return Ok(());
        }
        self.sweep(machine).await?;
        let is_late = machine.deadline.is_some_and(|deadline| deadline <= self.store().now());
        // What is undone after that has a time of its own.
        if is_late && machine.state.goes_on() {
            self.stop(machine, StopCause::Deadline).await?;
        }
        let mut looks = 0;
        self.learn_order(machine).await?;
        while machine.stuck().is_none()
            && self.commit(machine, &Fact::Look).await?.is_some_and(|committed| committed)
        {
            self.learn_order(machine).await?;
            looks += 1;
            if looks == LOOKS_MAX {
                // What is asked of it meanwhile comes before the rest.
                if let Some(address) = self.address() {
                    drop(address.cast(Message::Wake));
                }
                self.publish(machine);
                return Ok(());
            }
        }
        if let Some(why) = machine.stuck().map(ToString::to_string) {
            self.leave(me, machine, &why);
            return Ok(());
        }
        if matches!(machine.state, RunState::Cancelling | RunState::Compensating) {
            // One that is ending is not kept from it by what it was parked for.
            self.services.parked.release(&self.run);
        }
        if machine.state == RunState::Cancelling {
            self.cut(machine).await;
        }
        while self.claim(machine).await? {
            // What was deferred, and is not waited for, ends at once.
            self.commit(machine, &Fact::Look).await?;
        }
        self.settle_services(machine);
        self.settle_place(machine);
        self.publish(machine);
        if machine.state.is_terminal() {
            self.services.rooms.leave(&self.run);
            self.services.forget_attempts_of(&self.run);
            self.services.look_again.notify_one();
            me.stop(None);
        }
        Ok(())
    }

    /// Decides and commits; `None` when nothing follows. Starts the attempts that it leased.
    async fn commit(&self, machine: &mut Machine, fact: &Fact) -> Result<Option<bool>, ActorError> {
        match self.try_commit(machine, fact).await {
            Ok(leases) => {
                let Some(leases) = leases else { return Ok(None) };
                for (lease, room) in leases {
                    self.begin(machine, lease, room).await?;
                }
                Ok(Some(true))
            }
            // Decided by somebody else, or nothing left to decide.
            Err(StoreError::InvalidState(_) | StoreError::StaleAttempt { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The leases that the commit took, or nothing when nothing follows from the fact.
    pub(super) async fn try_commit(
        &self,
        machine: &mut Machine,
        fact: &Fact,
    ) -> Result<Option<Vec<(Lease, Room)>>, StoreError> {
        self.try_commit_asked(machine, fact, None).await
    }

    /// And with it who has asked for it.
    async fn try_commit_asked(
        &self,
        machine: &mut Machine,
        fact: &Fact,
        asked: Option<AskedBy>,
    ) -> Result<Option<Vec<(Lease, Room)>>, StoreError> {
        for round in 0..self.services.settings.decide_rounds {
            // What the store refuses again may be the claim: this node may not live any more, and not know yet.
            let claim_for = self.claimant().filter(|_| round < CLAIMING_ROUNDS_MAX);
            let at = Circumstances {
                now: self.store().now(),
                jitter: self.services.jitter(),
                claim_for,
                settings: self.services.settings,
                services: self.services_now(machine),
                asked: asked.clone(),
            };
            let mut decision = match machine.decide(&*self.workflow, fact, &at) {
                Ok(Some(decision)) => decision,
                Ok(None) | Err(Unchanged::Already) => return Ok(None),
                Err(unchanged) => return Err(refused(fact, unchanged)),
            };
            let mut room = self.make_room(machine, &mut decision);
            match self.store_decision(decision.clone()).await {
                Ok(committed) => {
                    if let Committed::Now { events, .. } = &committed {
                        self.announce(events);
                        let comes_later = |step: &JobStep| step.run_after.is_some();
                        if !decision.timers.is_empty() || decision.jobs.iter().any(comes_later) {
                            self.services.look_again.notify_one();
                        }
                        if let Some(Report { lease, .. }) = &decision.report {
                            let ended = AttemptId { job: lease.job, attempt: lease.attempt };
                            room.extend(self.services.room_of(ended));
                        }
                        let stopped = stopped(machine, &decision);
                        if machine.gives_turn_back(&decision) {
                            // Somebody may have waited for it.
                            self.services.look_again.notify_one();
                        }
                        let leases = machine.apply(decision, &committed);
                        for id in stopped {
                            self.stop_attempt(id).await;
                        }
                        return Ok(Some(leases.into_iter().zip(room).collect()));
                    }
                    // Recorded by an earlier offer whose answer was lost.
                    machine.goes_on_as(self.reload().await?);
                    return Ok(Some(Vec::new()));
                }
                Err(StoreError::Conflict { .. }) => {
                    if round + 1 == CLAIMING_ROUNDS_MAX {
                        self.services.membership.doubt();
                    }
                    machine.goes_on_as(self.reload().await?);
                    self.stop_ended(machine).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy)
    }

    /// Stops attempts of jobs that somebody else's decision has ended.
    async fn stop_ended(&self, machine: &Machine) {
        let holds = |id: &AttemptId| {
            let job = machine.job(id.job);
            job.is_some_and(|job| job.lease.is_some() && job.attempt == id.attempt)
        };
        let own = self.services.attempts.iter().filter(|begun| begun.run == self.run);
        let ended: Vec<AttemptId> = own.map(|begun| *begun.key()).filter(|id| !holds(id)).collect();
        for id in ended {
            self.stop_attempt(id).await;
        }
    }

    /// Stops an attempt whose job has ended without it.
    async fn stop_attempt(&self, id: AttemptId) {
        if let Some(task) = self.services.attempt(id) {
            // One that has just ended is not found, and its report comes too late.
            drop(self.services.tasks.terminate_child(&task).await);
        }
        self.services.forget_attempt(id);
    }

    /// A commit may be repeated: its revision makes the second one a conflict.
    async fn store_decision(&self, decision: Decision) -> Result<Committed, StoreError> {
        persistently(STORE_WITHIN, || self.store().commit(decision.clone())).await
    }

    pub(super) async fn reload(&self) -> Result<Machine, StoreError> {
        let view = persistently(STORE_WITHIN, || self.store().run(&self.run)).await?;
        let mut machine = Machine::new(view, &*self.workflow)
            .map_err(|why| StoreError::Unreadable { what: format!("run {}", self.run), why })?;
        self.learn_order(&mut machine).await?;
        Ok(machine)
    }

    /// In which order the jobs of a run were done that are to be undone, from its events: they are as they are by then.
    async fn learn_order(&self, machine: &mut Machine) -> Result<(), StoreError> {
        if !machine.asks_order() {
            return Ok(());
        }
        let (mut completed, mut from) = (Completed::default(), 1);
        loop {
            let read = || self.store().events(self.run.as_str(), from, EVENTS_AT_ONCE);
            let events = persistently(STORE_WITHIN, read).await?;
            events.iter().for_each(|event| completed.take(event));
            match events.last() {
                Some(last) => from = last.seq + 1,
                None => break,
            }
        }
        machine.know_order(&*self.workflow, &completed);
        Ok(())
    }

    /// Records how an attempt ended.
    async fn ended(
        &self,
        machine: &mut Machine,
        lease: Lease,
        how: Ending,
    ) -> Result<Heard, ActorError> {
        self.end(machine, lease, how, true).await
    }

    /// `may_fail`: what cannot be kept becomes a failure; a failure that cannot be kept does not.
    async fn end(
        &self,
        machine: &mut Machine,
        lease: Lease,
        how: Ending,
        may_fail: bool,
    ) -> Result<Heard, ActorError> {
        let id = AttemptId { job: lease.job, attempt: lease.attempt };
        let fact_lease = lease.clone();
        let fact = Fact::Ended { lease, how: Box::new(how) };
        match self.try_commit(machine, &fact).await {
            Ok(leases) => {
                self.services.forget_attempt(id);
                for (lease, room) in leases.unwrap_or_default() {
                    self.begin(machine, lease, room).await?;
                }
                Ok(Heard::Settled)
            }
            Err(StoreError::StaleAttempt { .. } | StoreError::InvalidState(_)) => {
                tracing::warn!(run = %self.run, job = id.job, attempt = id.attempt, "stale report");
                self.services.forget_attempt(id);
                Ok(Heard::Settled)
            }
            Err(error) if may_pass(&error) => Ok(Heard::Later),
            // What it gave cannot be kept: that is a failure of the step.
            Err(StoreError::TooLarge { what, bytes, max }) if may_fail => {
                let text = format!("{what} of the step has {bytes} bytes; at most {max} are kept");
                let failure = Failure::new(FailureClass::Limit, "PL801", text);
                let how = Ending::Reported(Outcome::Failed(failure).into());
                Box::pin(self.end(machine, fact_lease, how, false)).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A task that ended without a report: a panic is a bug of its code, anything else gives the
    /// job back.
    async fn attempt_down(
        &self,
        machine: &mut Machine,
        lease: Lease,
        reason: ExitReason,
    ) -> Result<(), ActorError> {
        let id = AttemptId { job: lease.job, attempt: lease.attempt };
        let held = machine
            .job(lease.job)
            .is_some_and(|job| job.state == JobState::Leased && job.attempt == lease.attempt);
        if !held {
            self.services.forget_attempt(id);
            return Ok(());
        }
        if let ExitReason::Panic { message, location } = reason {
            let at = location.map(|place| format!(" (at {place})")).unwrap_or_default();
            let how = Ending::Panicked(format!("{message}{at}"));
            self.ended(machine, lease, how).await?;
        } else if machine.state == RunState::Cancelling {
            self.ended(machine, lease, Ending::Cancelled).await?;
        } else {
            self.release(machine, &lease, &format!("its task ended: {reason}")).await?;
            self.services.forget_attempt(id);
        }
        Ok(())
    }

    async fn release(
        &self,
        machine: &mut Machine,
        lease: &Lease,
        why: &str,
    ) -> Result<(), ActorError> {
        match persistently(STORE_WITHIN, || self.store().release(lease, why)).await {
            Ok(_) => {
                if machine.job(lease.job).is_some_and(|job| job.keyed.is_some()) {
                    self.services.look_again.notify_one();
                }
                machine.released(lease);
            }
            // Ended or released meanwhile.
            Err(StoreError::StaleAttempt { .. }) => machine.goes_on_as(self.load().await?),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Gives back whatever this node holds of a run whose attempts were stopped.
    pub(super) async fn give_back(&self) -> Result<(), StoreError> {
        let machine = self.reload().await?;
        let node = self.services.registered_node();
        let leases = machine.leased().filter_map(|job| machine.lease(job));
        for lease in leases.filter(|lease| Some(&lease.node) == node.as_ref()) {
            persistently(STORE_WITHIN, || self.store().release(&lease, "its run is parked"))
                .await?;
        }
        Ok(())
    }

    /// Starts a leased attempt; one that cannot be started is given back.
    async fn begin(
        &self,
        machine: &mut Machine,
        lease: Lease,
        room: Room,
    ) -> Result<(), ActorError> {
        if self.services.membership.claimant().as_ref() != Some(&lease.node) {
            // It took long to be claimed. The sweep gives it back, as soon as anything may be said here.
            tracing::warn!(run = %self.run, job = %lease.key, "attempt not started: the lease is at risk");
            return Ok(());
        }
        let started = match self.address() {
            Some(address) => {
                let (services, workflow) = (&self.services, &self.workflow);
                Box::pin(attempt::start(services, &address, workflow, machine, lease.clone(), room))
                    .await
                    .map_err(|error| error.to_string())
            }
            None => Err("the run is not registered".to_owned()),
        };
        match started {
            Ok(()) => Ok(()),
            Err(why) => {
                tracing::warn!(run = %self.run, job = %lease.key, why, "attempt not started");
                self.release(machine, &lease, &why).await
            }
        }
    }

    /// Decides what is asked, and commits it with who asks. The live attempt of a job that is skipped is stopped first
    /// (DUR-64).
    pub(super) async fn meet(
        &self,
        machine: &mut Machine,
        requested: &Requested,
    ) -> Result<Option<Vec<(Lease, Room)>>, StoreError> {
        let Requested { request, by } = requested;
        let skipped = match request {
            Request::Skip { job, .. } => machine.find(job),
            Request::Cancel
            | Request::Pause
            | Request::Unpause
            | Request::Limit(_)
            | Request::Priority(_) => None,
        };
        let held = skipped.filter(|job| job.state == JobState::Leased);
        let held = held.map(|job| AttemptId { job: job.id, attempt: job.attempt });
        if let Some(task) = held.and_then(|id| self.services.attempt(id)) {
            // One that has just ended is not found, and its report comes too late.
            drop(self.services.tasks.terminate_child(&task).await);
        }
        let asked = by.clone().map(|by| AskedBy { action: request.action(), by });
        let mut leases = self.try_commit_asked(machine, &request.fact(), asked.clone()).await;
        let is_refused = matches!(
            leases,
            Ok(None) | Err(StoreError::InvalidState(_) | StoreError::NotFound { .. })
        );
        if is_refused && self.is_behind(machine).await? {
            // By what another node has made of it since.
            *machine = self.reload().await?;
            leases = self.try_commit_asked(machine, &request.fact(), asked).await;
        }
        let leases = leases?;
        if let Some(id) = held {
            self.services.forget_attempt(id);
        }
        Ok(leases)
    }

    /// Decides that the run ends; answers whether that changed anything.
    async fn stop(&self, machine: &mut Machine, cause: StopCause) -> Result<bool, StoreError> {
        Ok(self.try_commit(machine, &Fact::Stop(cause)).await?.is_some())
    }

    /// Stops what still runs of a run that is ending; the ends of the attempts close it.
    async fn cut(&self, machine: &Machine) {
        for job in machine.leased() {
            let id = AttemptId { job: job.id, attempt: job.attempt };
            if let Some(task) = self.services.attempt(id) {
                // One that has just ended is not found, and has reported.
                drop(self.services.tasks.terminate_child(&task).await);
            }
        }
    }

    fn note_rest(&self, machine: &Machine) {
        let services = &self.services;
        let (resting, now) = (&services.resting, self.store().now());
        let awaits_room = || {
            let (used, most, _) =
                services.rooms.awaits(&self.run).then(|| services.rooms.counts())?;
            let what = format!("room for an attempt: {used} of {most} are under way on this node");
            Some(WaitsFor::new(WaitsWhy::Attempts, what, now))
        };
        match machine.rests(now).or_else(awaits_room) {
            Some(mut rests) => {
                rests.needs_place = !machine.is_idle();
                resting.waits(&self.run, rests);
            }
            None => resting.starts(&self.run),
        }
    }

    fn announce(&self, events: &[perennial_store::EventRecord]) {
        if events.is_empty() {
            return;
        }
        self.services.hub.announce(&self.run, events);
        if let Some(monitor) = self.services.monitor_address(&self.run) {
            // One that is away, or behind, reads the store.
            drop(monitor.cast(monitor::Message::Events { events: events.to_vec() }));
        }
    }

    fn publish(&self, machine: &Machine) {
        let current = machine.last_open();
        let step = current.map(|job| json!(job.key)).unwrap_or(Value::Null);
        let attempt = current.map(|job| json!(job.attempt)).unwrap_or(Value::Null);
        let done = machine.done();
        let accounts = &self.services.accounts;
        let account = accounts.entry(self.run.clone());
        account.or_insert_with(|| Account::of(&machine.settings)).add(&done);
        let mut detail = Map::new();
        if let Some(waits) = self.waits_for(machine) {
            detail.insert("waits_for".to_owned(), json!(waits));
        }
        let count = if machine.is_staged { machine.ended() } else { done.len() };
        if let Some(stages) = machine.stages_in_short() {
            detail.insert("stages".to_owned(), stages);
        }
        if machine.priority() != Priority::NORMAL {
            detail.insert("priority".to_owned(), json!(machine.priority()));
        }
        if let Some(percent) = machine.progress {
            detail.insert("percent".to_owned(), json!(percent));
        }
        let rest = json!({
            "state": machine.state,
            "step": step,
            "attempt": attempt,
            "done": count,
            "workflow": self.workflow.name(),
            "definition": self.workflow.definition().digest.short(),
        });
        if let Value::Object(rest) = rest {
            detail.extend(rest);
        }
        self.published.publish(Value::Object(detail));
    }

    /// What it waits for; noted for whoever asks without a dump.
    fn waits_for(&self, machine: &Machine) -> Option<WaitsFor> {
        self.note_rest(machine);
        let services = &self.services;
        services.waiting.of(&self.run).or_else(|| services.resting.of(&self.run))
    }
}
