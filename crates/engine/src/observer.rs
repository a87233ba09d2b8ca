//! Looks on as a run goes on, for whoever wants to show it elsewhere.
//!
//! # Why a task
//!
//! It waits for events and does work of its own with each, which the run must not be slowed by.
//!
//! # Supervision
//!
//! A transient child of `monitors`, one per active run whose workflow has an [`Observer`]. It gets its time at a
//! shutdown, so that the end of a run is not missed.
//!
//! # What a restart forgets
//!
//! Nothing: a new observer is told of the run's durable events from the first on.
//!
//! # Guarantees
//!
//! Every event is told once and in order. What fails or panics is said in the log; the next event is told all the
//! same.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use perennial_core::{
    FailureClass, Restart, Shutdown, Timestamp,
    failure::Failure,
    run::{JobKey, JobState, RunId, RunState},
};
use perennial_store::{EventRecord, StoreError};
use perennial_supervision::{ChildSpec, StopToken, contain};
use serde_json::{Value, json};

use crate::{
    Services, Workflow,
    patience::{STORE_WITHIN, persistently},
    workflow::BoxFuture,
};

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Events that tell of the end of a job; the others come while it stands elsewhere.
const ENDS: [&str; 5] =
    ["job_succeeded", "job_partial", "job_skipped", "job_failed", "job_cancelled"];

/// Events that say whether more is to come: a run that ended may be opened again.
const ROUNDS: [&str; 2] = ["run_closed", "run_reopened"];

/// Is told what was committed of a run, event by event and in order, for exports. It can neither slow nor stop the run.
///
/// A workflow has one by [`Workflow::observer`].
///
/// ```
/// use perennial::engine::{
///     observer::{News, Observer},
///     workflow::BoxFuture,
/// };
/// use perennial::records::Failure;
///
/// /// Writes down what happened, in a word each.
/// struct Diary(Vec<String>);
///
/// impl Observer for Diary {
///     fn see<'a>(&'a mut self, news: &'a News) -> BoxFuture<'a, Result<(), Failure>> {
///         Box::pin(async move {
///             self.0.push(format!("{} {}", news.seq, news.kind));
///             Ok(())
///         })
///     }
/// }
/// # drop(Diary(Vec::new()));
/// ```
pub trait Observer: Send + 'static {
    /// Takes in one event.
    ///
    /// # Errors
    ///
    /// Told in the log, and nothing else.
    fn see<'a>(&'a mut self, news: &'a News) -> BoxFuture<'a, Result<(), Failure>>;
}

/// One event of a run, with what belongs to it.
#[derive(Clone, Debug)]
pub struct News {
    /// The run.
    pub run: RunId,
    /// When it was accepted.
    pub run_started_at: Timestamp,
    /// Number of the event.
    pub seq: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// Its name.
    pub kind: String,
    /// The job it is about, if any.
    pub job: Option<JobKey>,
    /// How that job stands, and its record, once it has ended.
    pub ended: Option<(JobState, Value)>,
    /// How the run ended, at its last event.
    pub closed: Option<RunState>,
    /// Whether it was told before, to an observer that is gone, or is older than any, and later ones follow: what
    /// would be written of it is out of date.
    pub more: bool,
}

/// Whether the workflow has an observer; one that cannot be made is not missed by its run (INV-32).
pub(crate) fn is_wanted(run: &RunId, workflow: &Arc<dyn Workflow>) -> bool {
    made(run, workflow).is_some()
}

fn made(run: &RunId, workflow: &Arc<dyn Workflow>) -> Option<Box<dyn Observer>> {
    let workflow = workflow.clone();
    // A future without an await is done at once.
    match contain(async move { workflow.observer() }).now_or_never()? {
        Ok(observer) => observer,
        Err(reason) => {
            tracing::warn!(%run, %reason, "observer not made");
            None
        }
    }
}

/// How to supervise the observer of `run`, of which `known` events are there already.
pub(crate) fn child_spec(
    services: &Services,
    run: &RunId,
    workflow: &Arc<dyn Workflow>,
    known: u64,
) -> ChildSpec {
    let failed = Arc::new(AtomicU64::new(0));
    let shown = failed.clone();
    let known = Arc::new(AtomicU64::new(known));
    let (services, run_id, workflow) = (services.clone(), run.clone(), workflow.clone());
    let spec = ChildSpec::cooperative_task(id(run), move |stop| {
        let (services, run, workflow) = (services.clone(), run_id.clone(), workflow.clone());
        let (failed, known) = (failed.clone(), known.clone());
        async move { look_on(&services, &run, &workflow, (&failed, &known), stop).await }
    });
    let spec = spec.restart(Restart::Transient).shutdown(Shutdown::Timeout(LAST_WORDS));
    spec.detail(move || json!({ "failed": shown.load(Ordering::Relaxed) }))
}

/// The child's id, beside the monitor's, which is the run.
pub(crate) fn id(run: &RunId) -> String {
    format!("{run}.observer")
}

async fn look_on(
    services: &Services,
    run: &RunId,
    workflow: &Arc<dyn Workflow>,
    (failed, known): (&AtomicU64, &AtomicU64),
    stop: StopToken,
) -> Result<(), StoreError> {
    let Some(mut observer) = made(run, workflow) else { return Ok(()) };
    let mut feed = services.watch(run, 1);
    loop {
        let mut events = feed.rest().await?;
        let stopped = stop.is_stopped();
        if events.is_empty() && !stopped {
            tokio::select! {
                biased;
                () = stop.stopped() => continue,
                event = feed.next() => match event {
                    Ok(event) => events.push(event),
                    // Nothing will come of the run here.
                    Err(_) => return Ok(()),
                },
            }
        }
        // An earlier round may have ended, too.
        let closed = events.iter().rfind(|event| ROUNDS.contains(&event.kind.as_str()));
        let closed = closed.is_some_and(|event| event.kind == "run_closed");
        let old = known.load(Ordering::Relaxed);
        for news in told(services, run, events, old).await? {
            known.fetch_max(news.seq, Ordering::Relaxed);
            let seen = contain(async { observer.see(&news).await }).await;
            let seen = seen.unwrap_or_else(|reason| {
                Err(Failure::new(FailureClass::Panic, "PL615", reason.to_string()))
            });
            if let Err(failure) = seen {
                failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%run, code = failure.code, "observer: {}", failure.message);
            }
        }
        if closed || stopped {
            return Ok(());
        }
    }
}

/// The events with the records of the jobs that ended.
async fn told(
    services: &Services,
    run: &RunId,
    events: Vec<EventRecord>,
    known: u64,
) -> Result<Vec<News>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let view = persistently(STORE_WITHIN, || services.store.run(run)).await?;
    let jobs: HashMap<&JobKey, _> = view.jobs.iter().map(|job| (&job.key, job)).collect();
    let last = events.last().map(|event| event.seq);
    let news = events.into_iter().map(|event| News {
        run: run.clone(),
        run_started_at: view.run.created_at,
        ended: event
            .job
            .as_ref()
            .filter(|_| ENDS.contains(&event.kind.as_str()))
            .and_then(|job| jobs.get(job))
            // One that was taken back since has nothing to tell.
            .filter(|job| {
                let taken_back = job.state == JobState::Cancelled && event.kind != "job_cancelled";
                job.state.is_terminal() && !taken_back
            })
            .map(|job| (job.state, job.result.clone().unwrap_or_default())),
        closed: (event.kind == "run_closed").then_some(view.run.state),
        more: event.seq <= known && Some(event.seq) != last,
        seq: event.seq,
        at: event.at,
        kind: event.kind,
        job: event.job,
    });
    Ok(news.collect())
}
