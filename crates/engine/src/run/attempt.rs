//! One attempt: a supervised task that executes a job under its lease and reports until it is heard.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::{ExitReason, FailureClass, failure::Failure};
use perennial_store::Lease;
use perennial_supervision::{Address, CallError, RequestError};
use tracing::Instrument;

use super::{
    actor::Message,
    journal::LeaseJournal,
    machine::{Job, Limits, Machine, Reported},
};
use crate::{
    Services, Workflow,
    rooms::Room,
    services::{AttemptId, Begun},
    workflow::{AttemptCx, Outcome, holding::Holding},
};

/// How long one offer of a report may take before it is offered again.
const OFFER_WITHIN: Duration = Duration::from_secs(30);
/// The pause between two offers.
const OFFER_AGAIN: Duration = Duration::from_millis(20);

/// Starts the attempt that `lease` allows.
///
/// # Errors
///
/// When no task can be started now; the lease is then still held.
pub(super) async fn start(
    services: &Services,
    address: &Address<Message>,
    workflow: &Arc<dyn Workflow>,
    machine: &Machine,
    lease: Lease,
    room: Room,
) -> Result<(), RequestError> {
    let journal = LeaseJournal {
        store: services.store.clone(),
        lease: lease.clone(),
        progress: services.progress.clone(),
        keep_every: services.settings.keep_progress_every,
        kept_at: Mutex::default(),
    };
    let now = services.store.now();
    let cx = AttemptCx::new(
        machine.run.clone(),
        machine.created_at,
        now,
        lease.key.clone(),
        lease.attempt,
        machine.settings.clone(),
        machine.done(),
        machine.idempotency_key(&lease.key),
        Arc::new(journal),
    );
    let job = machine.job(lease.job);
    let given = job.map(|job| job.given.clone()).unwrap_or_default();
    let is_child = job.is_some_and(|job| job.parent.is_some());
    let cx = cx.with_resumed(job.and_then(Job::resumed)).with_given(given).with_holding(Holding {
        engine: services.clone(),
        lease: lease.clone(),
        is_child,
    });
    let stage = job.map_or("", |job| job.stage.as_str());
    // One span per attempt, with what every line inside it is about (YM-13, TNM-2).
    let span = tracing::info_span!(
        "attempt",
        run_id = %lease.run,
        workflow = workflow.name(),
        stage = %stage,
        step_path = %lease.key,
        depth = lease.key.depth(),
        attempt = lease.attempt,
    );
    let work = execute(workflow.clone(), cx, machine.limits(lease.job, now));
    let work = Box::pin(work).instrument(span);
    let id = AttemptId { job: lease.job, attempt: lease.attempt };
    let name = task_name(&lease);
    let (to, held) = (address.clone(), lease.clone());
    let task = services
        .tasks
        .start_child(name, async move {
            let end = work.await;
            report(&to, held, end).await;
        })
        .await?;
    let run = lease.run.clone();
    services.attempts.insert(id, Begun { run, task: task.clone(), room: Some(room) });
    watch(&task, address, lease);
    Ok(())
}

/// The attempt's task, if it runs: also one whose start was asked for by an earlier incarnation of
/// the run's actor that did not live to note it.
pub(super) fn find(services: &Services, lease: &Lease) -> Option<perennial_supervision::TaskRef> {
    let id = AttemptId { job: lease.job, attempt: lease.attempt };
    if let Some(task) = services.attempt(id) {
        return Some(task);
    }
    let task = services.tasks.find(&task_name(lease))?;
    let (run, room) = (lease.run.clone(), Some(services.rooms.take_over()));
    services.attempts.insert(id, Begun { run, task: task.clone(), room });
    Some(task)
}

fn task_name(lease: &Lease) -> String {
    format!("{}:{}#{}", lease.run, lease.key, lease.attempt)
}

/// Tells the run's actor of the attempt's end, also when the attempt could not.
pub(super) fn watch(
    task: &perennial_supervision::TaskRef,
    address: &Address<Message>,
    lease: Lease,
) {
    let address = address.clone();
    task.on_exit(move |reason: &ExitReason| {
        // An actor that is away finds the ended attempt when it comes back.
        drop(address.cast(Message::AttemptDown { lease, reason: reason.clone() }));
    });
}

async fn execute(workflow: Arc<dyn Workflow>, cx: AttemptCx, limits: Limits) -> Reported {
    let (warnings, pulse) = (cx.warnings.clone(), cx.pulse.clone());
    let Limits { within, of_job, undoes, heartbeat } = limits;
    let silence = async {
        match heartbeat {
            Some(within) => {
                pulse.falls_silent(within).await;
                within
            }
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        biased;
        outcome = workflow.execute(cx) => outcome,
        () = tokio::time::sleep(within) => {
            timed_out(match of_job {
                Some(left) if undoes => format!(
                    "it was not undone within {} ms, all that was left of `compensation` of `[engine]`",
                    left.as_millis()
                ),
                Some(all) => {
                    format!("all attempts of the job took longer than {} ms", all.as_millis())
                }
                None => format!("the attempt took longer than {} ms", within.as_millis()),
            })
        }
        silent = silence => {
            timed_out(format!("the attempt said nothing of itself for {} ms", silent.as_millis()))
        }
    };
    Reported { outcome, warnings: warnings.take() }
}

fn timed_out(what: String) -> Outcome {
    Outcome::Failed(Failure::new(FailureClass::Timeout, "PL701", format!("timeout: {what}")))
}

/// Offers the outcome until it is recorded or refused. Recording is idempotent, so offering again
/// is safe, whatever became of the offer before.
async fn report(address: &Address<Message>, lease: Lease, end: Reported) {
    loop {
        let offer =
            |reply| Message::Report { lease: lease.clone(), end: Box::new(end.clone()), reply };
        match address.call(offer, OFFER_WITHIN).await {
            Ok(Heard::Settled) => return,
            // Nobody will come: the lease is given back by whoever continues the run.
            Err(CallError::NoProc) => return,
            Ok(Heard::Later) | Err(_) => tokio::time::sleep(OFFER_AGAIN).await,
        }
    }
}

/// What a run's actor says to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is recorded, or refused for good.
    Settled,
    /// The store is away: offer it again.
    Later,
}
