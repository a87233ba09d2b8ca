//! What the actor of an instance does: each call of a driver is a task, and what comes of it a message.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use perennial_core::{
    Shutdown,
    service::{Epoch, ServiceAction, ServiceInput, ServiceState, StopMode, Verdict},
};
use perennial_supervision::{Address, ServerCx, TaskNotice, TaskSpec};
use perennial_tools::service::{Instance, ServiceDriver, StartError, StopError};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Inner,
    actor::{Keeper, Message, ServiceActor},
    hold::told,
    ledger::Ledger,
    probing::probe,
    row::Standing,
};

/// How long it is waited for the end of a task that is killed.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// What was found of a life whose shell was lost, and what it shows.
#[derive(Debug)]
pub(super) struct Found {
    instance: Option<Instance>,
    verdict: Verdict,
}

/// Has the driver stop a life, and lets go of whoever keeps it: all of it is gone when this has answered well.
async fn stop(
    driver: &dyn ServiceDriver,
    ledger: &Ledger,
    (epoch, instance): (Epoch, &Instance),
    mode: StopMode,
    within: Duration,
) -> Result<(), StopError> {
    let stop = async {
        driver.stop(instance, mode).await?;
        ledger.let_go(epoch).await;
        Ok(())
    };
    let late = |_| Err(StopError::new(format!("its driver did not stop it within {within:?}")));
    timeout(within, stop).await.unwrap_or_else(late)
}

/// Without what there is none of: the tree shows what is there as null as unknown.
pub(super) fn present(mut detail: Value) -> Value {
    if let Some(fields) = detail.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    detail
}

/// What was started here for lives before that one.
struct Leftovers {
    of: Keeper,
    before: Epoch,
}

impl Leftovers {
    fn lives(&self) -> Vec<(Epoch, Instance)> {
        let lives = self.of.ledger.instances().into_iter();
        lives.filter(|(epoch, _)| *epoch < self.before).collect()
    }

    /// All at once; what cannot be removed stays known.
    async fn remove(&self, within: Duration) {
        let (ledger, driver) = (&self.of.ledger, &*self.of.declared.driver);
        join_all(self.lives().into_iter().map(async |(epoch, instance)| {
            // Another process keeps it: here it is only let go.
            let removed = match ledger.is_guests(epoch) {
                true => Ok(()),
                false => stop(driver, ledger, (epoch, &instance), StopMode::Kill, within).await,
            };
            match removed {
                Ok(()) => ledger.forget(epoch),
                Err(error) => {
                    let key = &self.of.key;
                    tracing::warn!(service = %key, %epoch, %error, "a life of a service was not removed");
                }
            }
        }))
        .await;
    }
}

impl ServiceActor {
    /// What is to be told at once: that a task did not start.
    pub(super) async fn act(
        &mut self,
        action: ServiceAction,
        cx: &mut ServerCx<Self>,
    ) -> Option<ServiceInput> {
        let own = cx.address().clone();
        let (driver, tasks) = (self.its.declared.driver.clone(), self.its.engine.tasks.clone());
        let terms = self.its.declared.terms;
        match action {
            ServiceAction::Stop { epoch, .. } | ServiceAction::Remove { epoch }
                if self.is_anothers(epoch) =>
            {
                // Another process keeps it: here it is only let go.
                self.its.ledger.forget(epoch);
                return Some(ServiceInput::Cleaned { epoch, failed: None });
            }
            ServiceAction::Find { epoch } => return self.find(epoch, own).await,
            ServiceAction::Start { epoch, within } => {
                let key = self.its.key.clone();
                // What could not be removed of earlier lives is tried again, before there are two.
                let left = Leftovers { of: self.its.clone(), before: epoch };
                let work = async move {
                    left.remove(terms.stop_within.min(within / 2)).await;
                    let late = |_| {
                        Err(StartError::Retryable(
                            format!("its driver did not start it within {within:?}").into(),
                        ))
                    };
                    timeout(within, driver.start(&key, epoch)).await.unwrap_or_else(late)
                };
                let tell = move |notice| Message::Launch(epoch, notice);
                match tasks.async_telling(self.task("start"), own, tell, work).await {
                    Ok(task) => self.launching = Some((epoch, task)),
                    Err(error) => {
                        let why = format!("its start found no task: {error}").into();
                        return Some(ServiceInput::LaunchFailed { epoch, why, permanent: false });
                    }
                }
            }
            ServiceAction::Probe { epoch, probe: number } => {
                let gone = || Verdict::Gone("nothing of it is known".into());
                let Some(instance) = self.its.ledger.instance(epoch) else {
                    return Some(ServiceInput::Probed { epoch, probe: number, verdict: gone() });
                };
                let work = probe(driver, instance, terms.probe_timeout);
                let tell = move |notice| Message::Probe(epoch, number, notice);
                match tasks.async_telling(self.task("probe"), own, tell, work).await {
                    Ok(task) => self.probing = Some(task),
                    Err(error) => {
                        let why = format!("its probe found no task: {error}").into();
                        let verdict = Verdict::Unresponsive(why);
                        return Some(ServiceInput::Probed { epoch, probe: number, verdict });
                    }
                }
            }
            ServiceAction::ConfirmDrain { epoch } => {
                // One that is lost counts as given after a moment.
                let _ = own.cast(Message::DrainConfirmed(epoch));
            }
            ServiceAction::Stop { epoch, mode } => return self.clean(epoch, mode, own).await,
            ServiceAction::Remove { epoch } => {
                return self.clean(epoch, StopMode::Kill, own).await;
            }
            ServiceAction::Answer { asker, admission } => {
                if let Some(reply) = self.answers.remove(&asker) {
                    reply.send(Ok(told(admission, &self.its.ledger)));
                }
            }
        }
        None
    }

    /// Whether it is not this process's to stop that life: it has not started it, or another one keeps it now.
    fn is_anothers(&self, epoch: Epoch) -> bool {
        let Standing::Guest { row: (kept, _) } = &self.standing else { return false };
        let ledger = &self.its.ledger;
        epoch == *kept || ledger.is_guests(epoch) || ledger.instance(epoch).is_none()
    }

    /// Has removed what is nobody's any more: earlier lives, and all where there is to be none. Nobody waits for it; a start
    /// tries it as well.
    pub(super) async fn clear(&self) {
        let (state, epoch) = (self.machine.state(), self.machine.epoch());
        let is_over = matches!(state, ServiceState::Stopped | ServiceState::Failed);
        let before = if is_over { epoch.next() } else { epoch };
        let (left, within) =
            (Leftovers { of: self.its.clone(), before }, self.its.declared.terms.stop_within);
        if left.lives().is_empty() {
            return;
        }
        let work = async move {
            left.remove(within).await;
            // What does not even listen is let go of.
            left.lives().iter().for_each(|(epoch, _)| left.of.ledger.forget(*epoch));
            if let Some(address) = left.of.ledger.address() {
                // It may be at rest now.
                let _ = address.cast(Message::Look);
            }
        };
        if let Err(error) = self.its.engine.tasks.start_child(self.task("clear"), work).await {
            tracing::warn!(service = %self.its.key, %error, "earlier lives of a service were not removed");
        }
    }

    /// Ends what is under way for this life, then lets the driver stop what it has made.
    async fn clean(
        &mut self,
        epoch: Epoch,
        mode: StopMode,
        own: Address<Message>,
    ) -> Option<ServiceInput> {
        let (driver, tasks) = (self.its.declared.driver.clone(), self.its.engine.tasks.clone());
        let within: Duration = self.its.declared.terms.stop_within;
        let launching = self.launching.take_if(|(of, _)| *of == epoch).map(|(_, task)| task);
        let ended: Vec<_> = launching.into_iter().chain(self.probing.take()).collect();
        let ledger = self.its.ledger.clone();
        let ending = tasks.clone();
        let work = async move {
            for task in ended {
                // One that has ended is what is wanted.
                let _ = ending.terminate_child(&task).await;
            }
            let Some(instance) = ledger.instance(epoch) else { return Ok(()) };
            stop(&*driver, &ledger, (epoch, &instance), mode, within).await
        };
        let tell = move |notice| Message::Clean(epoch, notice);
        let started = tasks.async_telling(self.task("stop"), own, tell, work).await;
        let error = started.err()?;
        let failed = Some(format!("its stop found no task: {error}").into());
        Some(ServiceInput::Cleaned { epoch, failed })
    }

    /// Looks for what is left of a life: what this process has started, or else what the driver finds again.
    async fn find(&mut self, epoch: Epoch, own: Address<Message>) -> Option<ServiceInput> {
        let (driver, tasks) = (self.its.declared.driver.clone(), self.its.engine.tasks.clone());
        let (key, note) = (self.its.key.clone(), self.noted.take());
        let known = self.its.ledger.instance(epoch);
        if let Some(why) = self.its.ledger.ended(epoch) {
            return Some(ServiceInput::Found { epoch, verdict: Verdict::Gone(why) });
        }
        let within = self.its.declared.terms.probe_timeout;
        // A start that an earlier actor began, and that nobody waits for any more.
        let left = tasks.find(&format!("{key} start")).filter(|_| known.is_none());
        let ending = tasks.clone();
        let work = async move {
            if let Some(task) = left {
                // One that has ended is what is wanted.
                let _ = ending.terminate_child(&task).await;
            }
            let instance = match known {
                Some(instance) => Some(instance),
                None => match timeout(within, driver.adopt(&key, epoch, note.as_ref())).await {
                    Ok(instance) => instance,
                    Err(_) => {
                        let why = format!("its driver did not find it again within {within:?}");
                        return Found {
                            instance: None,
                            verdict: Verdict::Unresponsive(why.into()),
                        };
                    }
                },
            };
            let Some(instance) = instance else {
                let verdict = Verdict::Gone("whoever kept it is gone, and it with them".into());
                return Found { instance: None, verdict };
            };
            let verdict = probe(driver, instance.clone(), within).await;
            Found { instance: Some(instance), verdict }
        };
        let tell = move |notice| Message::Found(epoch, notice);
        let started = tasks.async_telling(self.task("find"), own, tell, work).await;
        let why = format!("looking for it found no task: {}", started.err()?);
        Some(ServiceInput::Found { epoch, verdict: Verdict::Unresponsive(why.into()) })
    }

    pub(super) async fn found(&mut self, epoch: Epoch, notice: TaskNotice<Found>) -> ServiceInput {
        let Found { instance, mut verdict } = match notice {
            TaskNotice::Value { value, .. } => value,
            TaskNotice::Down { reason, .. } => {
                let why = format!("looking for it ended: {reason}").into();
                Found { instance: None, verdict: Verdict::Unresponsive(why) }
            }
        };
        // One that has failed meanwhile, with whoever kept it, has left nothing to this actor.
        let is_asked =
            epoch == self.machine.epoch() && self.machine.state() != ServiceState::Failed;
        if let Some(instance) = instance
            && is_asked
        {
            self.has_found = true;
            if !self.standing.is_guest() {
                self.its.ledger.own(epoch);
            }
            // What was known, or has come in between, stays as it is.
            if self.its.ledger.instance(epoch).is_none()
                && let Err(why) = self.keep(epoch, instance, self.standing.is_guest()).await
            {
                verdict = Verdict::Unresponsive(why);
            }
        }
        ServiceInput::Found { epoch, verdict: self.seen(epoch, verdict) }
    }

    /// Has the instance looked after for as long as it lives.
    async fn keep(
        &mut self,
        epoch: Epoch,
        instance: Instance,
        is_guests: bool,
    ) -> Result<(), Arc<str>> {
        let keeper = self.its.ledger.keep(epoch, instance, is_guests);
        self.has_found = true;
        let Some(keeper) = keeper else { return Ok(()) };
        // Not linked: what lives is not to end with this actor. The next one finds it.
        let started = self.its.engine.tasks.start_child(self.task("keeper"), keeper).await;
        started.map(|_| ()).map_err(|error| format!("its keeper did not start: {error}").into())
    }

    /// What a look at that life has found, unless whoever kept it is gone by now.
    pub(super) fn seen(&self, epoch: Epoch, verdict: Verdict) -> Verdict {
        self.its.ledger.ended(epoch).map_or(verdict, Verdict::Gone)
    }

    /// Stops what was started here, and waits for it. Whether it is stopped.
    pub(super) async fn stop_now(&self, epoch: Epoch, instance: Instance, mode: StopMode) -> bool {
        let (driver, within) =
            (self.its.declared.driver.clone(), self.its.declared.terms.stop_within);
        // Here and not in a task: at the end of the runtime there may be none to be had.
        let work = stop(&*driver, &self.its.ledger, (epoch, &instance), mode, within);
        let panicked = |_| Err(StopError::new("its driver panicked"));
        let stopped = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(panicked);
        if let Err(error) = &stopped {
            tracing::warn!(service = %self.its.key, %epoch, %error, "service was not stopped");
        }
        stopped.is_ok()
    }

    pub(super) async fn launched(
        &mut self,
        epoch: Epoch,
        notice: TaskNotice<Result<Instance, StartError>>,
    ) -> ServiceInput {
        let failed =
            |why: Arc<str>, permanent| ServiceInput::LaunchFailed { epoch, why, permanent };
        match notice {
            TaskNotice::Value { value: Ok(instance), .. } => {
                // Started here, whoever keeps the row by now.
                if let Err(why) = self.keep(epoch, instance, false).await {
                    return failed(why, false);
                }
                ServiceInput::Launched { epoch }
            }
            TaskNotice::Value { value: Err(StartError::Retryable(why)), .. } => failed(why, false),
            TaskNotice::Value { value: Err(StartError::Permanent(why)), .. } => failed(why, true),
            TaskNotice::Down { reason, .. } => {
                self.launching.take_if(|(of, _)| *of == epoch);
                failed(format!("its start ended: {reason}").into(), false)
            }
        }
    }

    pub(super) fn cleaned(
        &mut self,
        epoch: Epoch,
        notice: TaskNotice<Result<(), StopError>>,
    ) -> ServiceInput {
        let failed: Option<Arc<str>> = match notice {
            TaskNotice::Value { value: Ok(()), .. } => {
                self.its.ledger.forget(epoch);
                None
            }
            TaskNotice::Value { value: Err(error), .. } => Some(error.to_string().into()),
            TaskNotice::Down { reason, .. } => Some(format!("its stop ended: {reason}").into()),
        };
        ServiceInput::Cleaned { epoch, failed }
    }

    pub(super) async fn end_tasks(&mut self) {
        let launching = self.launching.take().map(|(_, task)| task);
        for task in launching.into_iter().chain(self.probing.take()) {
            // One that has ended is what is wanted.
            let _ = timeout(ENDED_WITHIN, self.its.engine.tasks.terminate_child(&task)).await;
        }
    }

    /// What it does is bounded by deadlines of its own; one that is given up gets no time besides.
    fn task(&self, what: &str) -> TaskSpec {
        TaskSpec::new(format!("{} {what}", self.its.key)).shutdown(Shutdown::BrutalKill)
    }

    pub(super) fn publish(&self) {
        let now = self.its.engine.clock.now();
        let endpoint = self.its.ledger.endpoint(self.machine.epoch());
        let offer = (self.machine.offer(), endpoint);
        Inner::wake(&self.its.engine, self.its.board.post(&self.its.key, offer, now));
        let status = self.machine.status(now);
        let probe = status.health.as_ref().map(|health| {
            present(json!({
                "found": health.verdict.as_str(),
                "why": health.verdict.reason(),
                "epoch": health.epoch,
                "age_ms": u64::try_from(now.since(health.taken).as_millis()).unwrap_or(u64::MAX),
            }))
        });
        let running = self.its.ledger.instance(status.epoch);
        self.its.ledger.shown.publish(present(json!({
            "state": status.state.as_str(),
            "epoch": status.epoch,
            "holds": status.holds,
            "why": status.why,
            "last_probe": probe,
            "restarts": status.restarts,
            "endpoint": running.as_ref().and_then(Instance::endpoint),
            "pid": running.as_ref().and_then(Instance::pid),
        })));
    }
}
