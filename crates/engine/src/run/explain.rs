//! Why a job is where it is, and what will change that. Reads records; asks and changes nothing (DUR-145).

use std::time::Duration;

use perennial_core::{
    Timestamp,
    run::{JobState, RunState, SkipReason},
};
use perennial_store::{JobRecord, Keyed, RunView, Turn, TurnHolder, WaitKind, WaitRecord};
use serde::Serialize;
use serde_json::Value;

use super::machine::Policy;
use crate::{
    LastFailure, WaitsFor, WaitsWhy,
    waiting::{as_text, as_text_if_any},
};

/// Why a job is where it is (DUR-146). What has not ended names the instant or the event that will change it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use perennial::{ProviderMode, Runtime, StartPipeline, Store};
/// # let runtime = Runtime::builder().store(Store::memory()).start().await?;
/// # let text = "workflow: {name: w, steps: [{name: slow, type: echo, value: 1, delay_ms: 60000}]}";
/// # let start = StartPipeline::document("w.yaml", text).mode(ProviderMode::Mock);
/// # let id = runtime.pipelines().start(start).await?.id().clone();
/// use perennial::engine::{Explanation, workflow::JobKey};
///
/// let run = runtime.runs().get(&id).await?; // it has a minute to go
/// # let mut events = run.events(1);
/// # while events.next().await?.kind != "attempt_started" {}
/// let explained = run.explain(&JobKey::new("slow")).await?;
/// assert!(matches!(explained, Explanation::Leased { attempt: 1, alive: true, .. }));
/// # run.cancel().await?;
/// # runtime.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Explanation {
    /// It has ended; nothing is to come.
    Ended {
        /// How.
        state: JobState,
        /// Why it was skipped, if it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<SkipReason>,
        /// Whether its attempts are used up: it can be tried again in a further round.
        dead_letter: bool,
    },
    /// Nothing is in its way: the next look of its run takes it.
    Claimable,
    /// Its next attempt has its time.
    DueAt {
        /// When.
        #[serde(serialize_with = "as_text")]
        at: Timestamp,
        /// Number of that attempt.
        attempt: u32,
        /// How the one before failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<LastFailure>,
    },
    /// An attempt is under way.
    Leased {
        /// Who makes it.
        node: String,
        /// Whether that process still lives; else the job is given to the next one that looks.
        alive: bool,
        /// Its number.
        attempt: u32,
        /// Since when.
        #[serde(serialize_with = "as_text_if_any")]
        since: Option<Timestamp>,
        /// When it has timed out; nothing when its process is gone.
        #[serde(serialize_with = "as_text_if_any")]
        until: Option<Timestamp>,
        /// What it said last of how far it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        progress: Option<Value>,
        /// When it said so.
        #[serde(serialize_with = "as_text_if_any", skip_serializing_if = "Option::is_none")]
        heartbeat: Option<Timestamp>,
    },
    /// It needs what has not ended.
    Dependency {
        /// Its stage.
        stage: String,
    },
    /// It is a group, and joins once its children have ended.
    Joining {
        /// Children that have not.
        open: usize,
        /// Children that have.
        ended: usize,
    },
    /// Its stage has as many jobs under way as it may.
    StageFull {
        /// The stage.
        stage: String,
        /// How many are under way.
        used: u64,
        /// How many may be.
        limit: u32,
    },
    /// No job of its stage may begin.
    StageNotOpen {
        /// The stage.
        stage: String,
        /// Where that is.
        state: String,
    },
    /// Its run waits for a free place.
    RunPending {
        /// For what exactly.
        place: String,
    },
    /// Its run is paused: it goes on when somebody says so, or ends with its deadline.
    RunPaused {
        /// The run's deadline.
        #[serde(serialize_with = "as_text_if_any")]
        until: Option<Timestamp>,
    },
    /// Its run is ending: the job ends with the attempts that are under way.
    Cancelling {
        /// The run's deadline.
        #[serde(serialize_with = "as_text_if_any")]
        until: Option<Timestamp>,
    },
    /// What it needs is not available.
    Unavailable {
        /// What.
        what: String,
        /// When it is looked for again.
        #[serde(serialize_with = "as_text")]
        retry_at: Timestamp,
        /// When it is waited for no longer.
        #[serde(serialize_with = "as_text")]
        until: Timestamp,
        /// What becomes of the job then: `fail` or `skip`.
        then: String,
    },
    /// As many jobs with its key are under way, in whatever runs, as may be: it waits for its turn.
    Turn {
        /// The key.
        key: String,
        /// How many may be under way.
        limit: u32,
        /// Since when it waits.
        #[serde(serialize_with = "as_text_if_any")]
        since: Option<Timestamp>,
        /// Who has it: of several one.
        #[serde(skip_serializing_if = "Option::is_none")]
        held_by: Option<TurnHolder>,
    },
    /// It waits for a signal, an answer or an instant.
    Suspended {
        /// Which of them.
        kind: WaitKind,
        /// Its name.
        name: String,
        /// Until when.
        #[serde(serialize_with = "as_text")]
        until: Timestamp,
        /// What happens then: `resume`, `skip` or `fail`.
        default: String,
    },
    /// Its process may have died of it, so that it is made alone: another one like it is under way.
    Suspect {
        /// How often a process died with it in a row.
        crashes: u32,
        /// How often that may happen.
        crashes_max: u32,
    },
    /// This process cannot continue its run.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// Nobody works on its run: it goes on when it is resumed.
    Interrupted,
}

impl Explanation {
    /// The instant that changes it at the latest, if there is one.
    ///
    /// ```
    /// use perennial::engine::Explanation;
    ///
    /// assert_eq!(Explanation::Interrupted.until(), None);
    /// ```
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::DueAt { at, .. } => Some(*at),
            Self::Unavailable { retry_at, .. } => Some(*retry_at),
            Self::Suspended { until, .. } => Some(*until),
            Self::Leased { until, .. } | Self::RunPaused { until } | Self::Cancelling { until } => {
                *until
            }
            Self::Ended { .. }
            | Self::Claimable
            | Self::Dependency { .. }
            | Self::Joining { .. }
            | Self::StageFull { .. }
            | Self::StageNotOpen { .. }
            | Self::RunPending { .. }
            | Self::Turn { .. }
            | Self::Suspect { .. }
            | Self::Quarantined { .. }
            | Self::Interrupted => None,
        }
    }

    /// What changes it, in words; nothing for a job that has ended.
    ///
    /// ```
    /// use perennial::engine::Explanation;
    ///
    /// assert_eq!(Explanation::Interrupted.changed_by(), Some("a resume of its run"));
    /// ```
    pub fn changed_by(&self) -> Option<&'static str> {
        Some(match self {
            Self::Ended { .. } => return None,
            Self::Claimable => "the next look of its run",
            Self::DueAt { .. } => "its time",
            Self::Leased { alive: true, .. } => "the end of its attempt",
            Self::Leased { alive: false, .. } => {
                "whoever goes on with its run: a resume, or a node that takes it over"
            }
            Self::Dependency { .. } => "the end of what it needs",
            Self::Joining { .. } => "the end of its children",
            Self::StageFull { .. } => "the end of another job of its stage",
            Self::StageNotOpen { .. } => "the opening of its stage",
            Self::RunPending { .. } => "the end of another run",
            Self::RunPaused { .. } => "somebody who lets its run go on",
            Self::Cancelling { .. } => "the end of what is under way",
            Self::Unavailable { .. } => "the next look at what it needs",
            Self::Turn { .. } => "the end of another job with its key",
            Self::Suspended { .. } => "what it waits for, or its deadline",
            Self::Suspect { .. } => "the end of another suspect",
            Self::Quarantined { .. } => "a process that can continue its run",
            Self::Interrupted => "a resume of its run",
        })
    }
}

/// What this process knows beside the records.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Why it cannot continue the run.
    pub(crate) parked: Option<String>,
    /// What the run waits for.
    pub(crate) waits: Option<WaitsFor>,
    /// How the service is that the job waits for.
    pub(crate) service: Option<String>,
}

/// Why `job` of `view` is where it is.
pub(crate) fn explain(
    view: &RunView,
    job: &JobRecord,
    now: Timestamp,
    known: &Known,
) -> Explanation {
    match job.state {
        JobState::Succeeded
        | JobState::Partial
        | JobState::Failed
        | JobState::Skipped
        | JobState::Cancelled => {
            let (state, skipped, dead_letter) = (job.state, job.skipped, job.dead_letter);
            Explanation::Ended { state, skipped, dead_letter }
        }
        JobState::Leased => leased(view, job),
        JobState::Deferred => match (&job.keyed, &job.deferral) {
            (Some(Keyed { by, turn: Turn::Waits, since, held_by }), _) => {
                // A run that does not go on does not look for its turn.
                at_rest(view, known).unwrap_or_else(|| Explanation::Turn {
                    key: by.key.clone(),
                    limit: by.most.get(),
                    since: *since,
                    held_by: held_by.clone(),
                })
            }
            (_, Some(deferral)) => Explanation::Unavailable {
                what: known.service.clone().unwrap_or_else(|| deferral.cause.clone()),
                retry_at: deferral.wake_at,
                until: deferral.until,
                then: deferral.then.name().to_owned(),
            },
            (_, None) => barred(view, job, now, known),
        },
        JobState::Suspended => match view.waits.iter().find(|wait| wait.job == job.id) {
            Some(WaitRecord { wait, .. }) => Explanation::Suspended {
                kind: wait.kind,
                name: wait.name.clone(),
                until: wait.until,
                default: wait.or.name().to_owned(),
            },
            None => barred(view, job, now, known),
        },
        JobState::Blocked => Explanation::Dependency { stage: job.stage.clone() },
        JobState::Joining => {
            let own = view.jobs.iter().filter(|it| it.stage == job.stage);
            let children = own.filter(|it| it.parent.as_ref() == Some(&job.key));
            let (open, ended): (Vec<_>, Vec<_>) = children.partition(|it| !it.state.is_terminal());
            Explanation::Joining { open: open.len(), ended: ended.len() }
        }
        JobState::Ready => barred(view, job, now, known),
    }
}

/// Why nothing of the run is claimed, if that is so.
fn at_rest(view: &RunView, known: &Known) -> Option<Explanation> {
    let run = &view.run;
    if let Some(reason) = &known.parked {
        return Some(Explanation::Quarantined { reason: reason.clone() });
    }
    match run.state {
        RunState::Paused => return Some(Explanation::RunPaused { until: run.deadline }),
        RunState::Cancelling => return Some(Explanation::Cancelling { until: run.deadline }),
        RunState::Pending
        | RunState::Running
        | RunState::Compensating
        | RunState::Succeeded
        | RunState::PartiallySucceeded
        | RunState::Failed
        | RunState::TimedOut
        | RunState::Cancelled
        | RunState::CompensationFailed => (),
    }
    (!run.owner_alive).then_some(Explanation::Interrupted)
}

/// What keeps a job that is ready from being claimed.
fn barred(view: &RunView, job: &JobRecord, now: Timestamp, known: &Known) -> Explanation {
    if let Some(why) = at_rest(view, known) {
        return why;
    }
    if let Some(due) = job.run_after.filter(|due| *due > now) {
        let cause =
            super::machine::last_failures(&view.attempts).remove(&job.id).map(|(_, how)| how);
        return Explanation::DueAt { at: due, attempt: job.attempt + 1, cause };
    }
    if let Some(waits) = known.waits.as_ref().filter(|waits| waits.why == WaitsWhy::Place) {
        return Explanation::RunPending { place: waits.what.clone() };
    }
    let stage = view.stages.iter().find(|stage| stage.stage == job.stage);
    if let Some(stage) = stage.filter(|stage| !stage.state.is_claimable()) {
        let (stage, state) = (stage.stage.clone(), stage.state.name().to_owned());
        return Explanation::StageNotOpen { stage, state };
    }
    let limit = stage.and_then(|stage| stage.concurrency).filter(|_| job.parent.is_none());
    if let Some(limit) = limit {
        let held = |it: &&JobRecord| {
            let holds = matches!(it.state, JobState::Leased | JobState::Joining);
            holds && it.stage == job.stage && it.parent.is_none()
        };
        let used = view.jobs.iter().filter(held).count() as u64;
        if used >= u64::from(limit) {
            return Explanation::StageFull { stage: job.stage.clone(), used, limit };
        }
    }
    if job.crashes > 0 {
        let (crashes, crashes_max) = (job.crashes, job.crashes_max);
        return Explanation::Suspect { crashes, crashes_max };
    }
    Explanation::Claimable
}

fn leased(view: &RunView, job: &JobRecord) -> Explanation {
    let own = view.attempts.iter().find(|one| one.job == job.id && one.attempt == job.attempt);
    let since = own.map(|attempt| attempt.claimed_at);
    let beat = view.beats.iter().find(|beat| beat.job == job.id && beat.attempt == job.attempt);
    let policy = serde_json::from_value::<Policy>(job.input.clone()).ok();
    let own_end = since
        .zip(policy)
        .map(|(since, policy)| since.after(Duration::from_millis(policy.attempt_within_ms)));
    let of_job = policy.and_then(|policy| policy.deadline());
    Explanation::Leased {
        node: job.lease.as_ref().map(|node| node.node.clone()).unwrap_or_default(),
        alive: job.lease_alive,
        attempt: job.attempt,
        since,
        // One whose process is gone ends at no instant: somebody has to come.
        until: [own_end, of_job, view.run.deadline]
            .into_iter()
            .flatten()
            .min()
            .filter(|_| job.lease_alive),
        progress: beat.map(|beat| beat.progress.clone()),
        heartbeat: beat.map(|beat| beat.at),
    }
}
