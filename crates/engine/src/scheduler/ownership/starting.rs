//! The actors of a run: its own, its monitor and its observer.

use std::{sync::Arc, time::Duration};

use perennial_core::{ExitReason, FailureClass, failure::Failure, run::RunId};
use perennial_store::StoreError;
use perennial_supervision::{ChildSpec, DynamicSupervisor, RequestError};

use super::{Shell, State};
use crate::services::Reads;
use crate::{
    NotRunnable, Workflow, monitor, observer,
    patience::{STORE_WITHIN, persistently},
    run,
    scheduler::turn::Turn,
};

/// How long the start of one actor may hold this one up.
const START_WITHIN: Duration = Duration::from_secs(40);

/// Why a run has no actor yet.
pub(super) enum NotStarted {
    /// All places are taken; it starts by itself when one is free.
    Waits(String),
    /// It cannot have one here; it is parked.
    Refused(NotRunnable),
    /// Not now; the next look tries again.
    Later(String),
    /// It was not read, or its actor did not start; the next looks try again, and not for ever.
    Failed(String),
}

impl Shell {
    pub(super) async fn start_actors(
        &self,
        state: &mut State,
        run: &RunId,
        needs_place: bool,
        turn: &mut Turn,
    ) -> Result<(), NotStarted> {
        let services = &self.spec.services;
        if services.is_draining() {
            return Err(NotStarted::Later("the runtime is shutting down".to_owned()));
        }
        if !services.membership.may_work() {
            return Err(NotStarted::Later("this node's lease is not safely live".to_owned()));
        }
        if needs_place {
            turn.take(services, run, self.spec.runs_max).map_err(NotStarted::Waits)?;
        }
        let has_monitor = turn.monitors.contains(run.as_str());
        if turn.runs.contains(run.as_str()) {
            if !has_monitor {
                // `monitors` was restarted, and begins empty.
                self.start_monitor(run).await;
                if let Some(workflow) = state.workflows.get(run) {
                    self.start_observer(run, workflow).await;
                }
            }
            return Ok(());
        }
        let workflow = self.workflow(state, run).await?;
        if !has_monitor {
            self.start_monitor(run).await;
        }
        self.start_observer(run, &workflow).await;
        let (spec, address) = run::child_spec(services, run, &workflow);
        services.runs.insert(run.clone(), address);
        match self.start(&self.spec.runs, spec).await {
            Ok(()) => Ok(()),
            Err(RequestError::MaxChildren(max)) => {
                let what = format!("{max} runs are active already; it starts when one ends");
                Err(NotStarted::Later(what))
            }
            Err(RequestError::StartFailed(error)) => match services.parked.why(run) {
                // Its actor has said what is wrong with it.
                Some(why) => {
                    let failure = Failure::new(FailureClass::Internal, "PL903", why);
                    Err(NotStarted::Refused(NotRunnable { run: run.clone(), failure }))
                }
                None => Err(NotStarted::Failed(error.to_string())),
            },
            // That is no fault of the run: its supervisor is away, or busy with it.
            Err(error) => Err(NotStarted::Later(error.to_string())),
        }
    }

    pub(super) async fn workflow(
        &self,
        state: &mut State,
        run: &RunId,
    ) -> Result<Arc<dyn Workflow>, NotStarted> {
        if let Some(workflow) = state.workflows.get(run) {
            return Ok(workflow.clone());
        }
        let services = &self.spec.services;
        let view = persistently(STORE_WITHIN, || services.store.run(run)).await;
        let record = view.map_err(|error| not_read(run, error))?.run;
        let read = || services.store.blob(record.definition);
        let bytes = persistently(STORE_WITHIN, read).await.map_err(|error| not_read(run, error))?;
        let workflow =
            services.revive(&record, bytes, Reads::ToExecute).await.map_err(NotStarted::Refused)?;
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
            tracing::warn!(%run, %error, "monitor not started");
        }
    }

    /// Without its observer a run goes on as well.
    async fn start_observer(&self, run: &RunId, workflow: &Arc<dyn Workflow>) {
        let services = &self.spec.services;
        if !observer::is_wanted(run, workflow) {
            return;
        }
        let known = match persistently(STORE_WITHIN, || services.store.run(run)).await {
            Ok(view) => view.run.next_seq.saturating_sub(1),
            Err(error) => return tracing::warn!(%run, %error, "observer not started"),
        };
        let spec = observer::child_spec(services, run, workflow, known);
        let children = self.spec.monitors.which_children().unwrap_or_default();
        if children.iter().any(|child| child.name() == observer::id(run)) {
            return;
        }
        if let Err(error) = self.start(&self.spec.monitors, spec).await {
            tracing::warn!(%run, %error, "observer not started");
        }
    }

    /// One that does not answer has ended, as far as anybody here can know.
    async fn start(
        &self,
        supervisor: &DynamicSupervisor,
        spec: ChildSpec,
    ) -> Result<(), RequestError> {
        let started = tokio::time::timeout(START_WITHIN, supervisor.start_child(spec)).await;
        started.unwrap_or(Err(RequestError::Ended(ExitReason::Timeout))).map(drop)
    }
}

/// What cannot be understood now cannot be later: it waits for somebody, and others go on (INV-32).
fn not_read(run: &RunId, error: StoreError) -> NotStarted {
    if !matches!(error, StoreError::Unreadable { .. }) {
        return NotStarted::Failed(error.to_string());
    }
    let failure = Failure::new(FailureClass::Internal, "PL903", error.to_string());
    NotStarted::Refused(NotRunnable { run: run.clone(), failure })
}
