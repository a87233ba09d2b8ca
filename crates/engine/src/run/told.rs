//! What a run is told whose workflow this build does not know: only what needs no workflow is written. What follows decides who
//! knows it: the node that works on it, when it next looks, or the one that takes it when nobody does.

use perennial_core::run::{InvalidTransition, JobKind, JobState, RunState, SkipReason};
use perennial_store::{Committed, Decision, JobStep, RunStep, RunView, StoreError};
use serde_json::{Value, json};

use super::{Request, Requested};
use crate::{
    Services,
    patience::{STORE_WITHIN, persistently},
};

/// Writes it; answers whether that changed anything.
///
/// # Errors
///
/// When the store is away, and when there is no such step, or it has ended.
pub(crate) async fn tell(
    services: &Services,
    view: RunView,
    requested: &Requested,
) -> Result<bool, StoreError> {
    let run = view.run.run.clone();
    let mut view = view;
    for _ in 0..services.settings.decide_rounds {
        let Some(mut decision) = decided(&view, &requested.request)? else { return Ok(false) };
        decision.events.extend(requested.event());
        let commit = || services.store.commit(decision.clone());
        match persistently(STORE_WITHIN, commit).await {
            Ok(Committed::Now { events, .. }) => {
                services.hub.announce(&run, &events);
                return Ok(true);
            }
            Ok(Committed::AlreadyRecorded { .. }) => return Ok(true),
            Err(StoreError::Conflict { .. }) => {
                view = persistently(STORE_WITHIN, || services.store.run(&run)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Busy)
}

/// Whether that can be told without the workflow: a step of a workflow in Rust may have a record of its own for a skip, and a
/// limit is asked of who has the stage.
pub(crate) fn is_tellable(view: &RunView, request: &Request) -> bool {
    match request {
        Request::Cancel | Request::Pause | Request::Unpause | Request::Priority(_) => true,
        Request::Skip { job, .. } => {
            let kinds = || view.jobs.iter().map(|it| (&it.key, it.kind));
            // With a group its children end: that is decided by who knows them.
            let is_group = kinds().any(|(key, kind)| key == job && kind == JobKind::Group);
            !is_group && kinds().any(|(_, kind)| kind != JobKind::Step)
        }
        Request::Limit(_) => false,
    }
}

fn decided(view: &RunView, request: &Request) -> Result<Option<Decision>, StoreError> {
    let from = view.run.state;
    if from == RunState::Compensating && !matches!(request, Request::Cancel) {
        let (from, to) = (from.name(), request.fact().wants());
        return Err(StoreError::InvalidState(InvalidTransition { what: "run", from, to }));
    }
    let step = |to, failure| RunStep { from, to, failure };
    let (mut jobs, mut run_step, mut priority) = (Vec::new(), None, None);
    match request {
        Request::Pause if from == RunState::Running => {
            run_step = Some(step(RunState::Paused, None));
        }
        Request::Unpause if from == RunState::Paused => {
            run_step = Some(step(RunState::Running, None));
        }
        Request::Cancel if from.goes_on() => {
            run_step = Some(step(RunState::Cancelling, Some(json!({ "cause": "cancel" }))));
        }
        Request::Skip { job, why } => {
            let Some(job) = view.jobs.iter().rev().find(|it| it.key == *job) else {
                return Err(StoreError::NotFound { what: "step", id: job.to_string() });
            };
            if job.skipped == Some(SkipReason::Operator) || !from.goes_on() {
                return Ok(None);
            }
            if job.state.is_terminal() {
                return Err(StoreError::InvalidState(InvalidTransition {
                    what: "job",
                    from: job.state.name(),
                    to: JobState::Skipped.name(),
                }));
            }
            let reason = SkipReason::Operator;
            jobs.push(JobStep {
                skipped: Some(reason),
                result: Some(Value::String(why.clone())),
                about: json!({ "reason": reason.name(), "why": why }),
                ..JobStep::new(job.id, job.state, JobState::Skipped)
            });
        }
        Request::Priority(wanted) if from.goes_on() && view.run.priority != *wanted => {
            priority = Some(*wanted);
        }
        Request::Pause
        | Request::Unpause
        | Request::Cancel
        | Request::Limit(_)
        | Request::Priority(_) => return Ok(None),
    }
    Ok(Some(Decision {
        run: view.run.run.clone(),
        expected_revision: view.run.revision,
        report: None,
        jobs,
        new_jobs: Vec::new(),
        stages: Vec::new(),
        run_step,
        events: Vec::new(),
        timers: Vec::new(),
        progress: None,
        limits: Vec::new(),
        priority,
    }))
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, sync::Arc, time::Duration};

    use perennial_core::{
        Digest, Timestamp,
        failure::Failure,
        retry::RetryPolicy,
        run::{FeedKind, JobKey, Priority, RunId, StageState},
    };
    use perennial_store::{
        AfterWait, Deferral, JobRecord, NodeRef, RunRecord, StageLimit, StageRecord,
    };

    use super::*;
    use crate::{
        EngineSettings,
        run::machine::{Circumstances, Machine, ServicesNow, Unchanged},
        workflow::{
            AttemptCx, BoxFuture, Definition, DoneJob, FailureMeans, Next, Outcome, Workflow,
        },
    };

    const AT: Timestamp = Timestamp::from_micros(1_000_000);

    /// The workflow that is not known here: with it, the run's machine says what follows.
    #[derive(Debug)]
    struct Known(Definition);

    impl Workflow for Known {
        fn name(&self) -> &str {
            "known"
        }
        fn definition(&self) -> &Definition {
            &self.0
        }
        fn stage(&self) -> &str {
            "work"
        }
        fn next(&self, _: &[DoneJob]) -> Next {
            Next::Jobs(Vec::new())
        }
        fn on_failure(&self, _: &JobKey, _: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
            unreachable!("nothing fails")
        }
        /// As that of a run in stages.
        fn on_skip(&self, _: &JobKey, _: SkipReason, why: &str) -> Value {
            json!(why)
        }
        fn execute(self: Arc<Self>, _: AttemptCx) -> BoxFuture<'static, Outcome> {
            unreachable!("decisions are tested without attempts")
        }
    }

    fn job(id: i64, key: &str, kind: JobKind, state: JobState) -> JobRecord {
        let node = NodeRef { node: "n".to_owned(), incarnation: 1 };
        let waits = Deferral {
            cause: "its turn".to_owned(),
            wake_at: AT.after(Duration::from_secs(60)),
            until: AT.after(Duration::from_secs(60)),
            then: AfterWait::Fail,
        };
        JobRecord {
            id,
            stage: "work".to_owned(),
            key: JobKey::new(key),
            kind,
            parent: None,
            state,
            skipped: (state == JobState::Skipped).then_some(SkipReason::Upstream),
            attempt: 1,
            attempts_used: 0,
            max_attempts: 1,
            crashes: 0,
            crashes_max: 3,
            run_after: None,
            lease: (state == JobState::Leased).then_some(node),
            lease_alive: state == JobState::Leased,
            input: json!({ "retry": RetryPolicy::ONCE, "attempt_within_ms": 1000 }),
            result: state.is_terminal().then_some(json!(1)),
            dead_letter: false,
            deferral: (state == JobState::Deferred).then_some(waits),
            deferred_since: (state == JobState::Deferred).then_some(AT),
            uses: Vec::new(),
            priority: Priority::NORMAL,
            keyed: None,
        }
    }

    fn view(state: RunState, jobs: Vec<JobRecord>) -> RunView {
        let digest = Digest::of(b"known");
        RunView {
            run: RunRecord {
                run: RunId::parse("r").unwrap(),
                workflow: "known".to_owned(),
                definition: digest,
                input_digest: digest,
                settings: json!({}),
                state,
                failure: None,
                revision: 7,
                owner: None,
                owner_alive: true,
                created_at: AT,
                finished_at: None,
                priority: Priority::NORMAL,
                deadline: None,
                next_seq: 2,
                progress: None,
            },
            stages: vec![StageRecord {
                stage: "work".to_owned(),
                ordinal: 0,
                state: StageState::Open,
                outcome: None,
                feed: FeedKind::Static,
                upstream: None,
                concurrency: None,
                required: true,
                weight: 1,
            }],
            jobs,
            attempts: Vec::new(),
            calls: Vec::new(),
            waits: Vec::new(),
            signals: Vec::new(),
            saved: Vec::new(),
            beats: Vec::new(),
        }
    }

    fn skip(job: &str) -> Request {
        Request::Skip { job: JobKey::new(job), why: "too dear".to_owned() }
    }

    fn at() -> Circumstances {
        Circumstances {
            now: AT,
            jitter: 0.5,
            claim_for: None,
            settings: EngineSettings::default(),
            services: ServicesNow::default(),
            asked: None,
        }
    }

    /// What is the same of both: the step of the run, and of a skip its job's.
    fn said(request: &Request, decision: Decision) -> String {
        let Decision {
            run, expected_revision, run_step, mut jobs, report, stages, priority, ..
        } = decision;
        // What ends with its run is decided by the machine, too.
        jobs.retain(|_| matches!(request, Request::Skip { .. }));
        assert!(report.is_none() && stages.is_empty());
        format!("{run} {expected_revision} {run_step:?} {jobs:?} {priority:?}")
    }

    /// DUR-64, SM-10. Each request in each state of its run and of its job: what is told is what the machine of the run would have
    /// decided, which knows its workflow.
    #[test]
    fn what_is_told_without_the_workflow_is_what_its_machine_decides() {
        let workflow = Known(Definition::new(b"known".to_vec()));
        let limit = StageLimit { stage: "work".to_owned(), most: NonZeroU32::MIN };
        let requests = [
            Request::Cancel,
            Request::Pause,
            Request::Unpause,
            skip("work/a"),
            skip("work/nobody"),
            Request::Limit(limit),
            Request::Priority(Priority::NORMAL),
            Request::Priority(Priority::HIGH),
        ];
        let (mut changed, mut nothing, mut no_job, mut ended, mut undoes) = (0, 0, 0, 0, 0);
        // No run is pending: it is made as running.
        let states = RunState::ALL.iter().filter(|state| **state != RunState::Pending);
        for &state in states {
            for &of_job in JobState::ALL {
                for by_operator in
                    [false, true].into_iter().take(1 + usize::from(of_job == JobState::Skipped))
                {
                    let mut own = job(1, "work/a", JobKind::Activity, of_job);
                    if by_operator {
                        own.skipped = Some(SkipReason::Operator);
                    }
                    let jobs = vec![own, job(2, "work/b", JobKind::Activity, JobState::Leased)];
                    let view = view(state, jobs);
                    for request in &requests {
                        let case = format!("{request:?} in {state}, {of_job}, {by_operator}");
                        let told = decided(&view, request);
                        if let Request::Limit(_) = request {
                            let is_undone = state == RunState::Compensating && told.is_err();
                            assert!(matches!(told, Ok(None)) || is_undone, "{case}");
                            continue;
                        }
                        let mut machine = Machine::new(view.clone(), &workflow).unwrap();
                        let fact = request.fact();
                        match (told, machine.decide(&workflow, &fact, &at())) {
                            (Ok(Some(told)), Ok(Some(decision))) => {
                                changed += 1;
                                assert_eq!(said(request, told), said(request, decision), "{case}");
                            }
                            (Ok(None), Ok(None) | Err(Unchanged::Already)) => nothing += 1,
                            (
                                Err(StoreError::NotFound { what: "step", id }),
                                Err(Unchanged::NoJob),
                            ) if id == "work/nobody" => no_job += 1,
                            (
                                Err(StoreError::InvalidState(InvalidTransition {
                                    from, to, ..
                                })),
                                Err(Unchanged::Ended(has)),
                            ) if (from, to) == (has.name(), "skipped") => ended += 1,
                            (
                                Err(StoreError::InvalidState(InvalidTransition {
                                    from, to, ..
                                })),
                                Err(Unchanged::Undoes),
                            ) if (from, to) == ("compensating", fact.wants()) => undoes += 1,
                            (told, decision) => panic!("{case}: {told:?}\nbut {decision:?}"),
                        }
                    }
                }
            }
        }
        // Of 12 jobs in 10 states of the run; in two of these it goes on, and then six jobs can be skipped, and five have ended; in
        // one it undoes what it has done, and only a cancel is not refused.
        let counted = (changed, nothing, no_job, ended, undoes);
        assert_eq!(counted, (84, 566, 108, 10, 72));
    }

    /// A key may be that of a job of an earlier round as well.
    #[test]
    fn the_last_job_of_a_key_is_meant() {
        let old = job(1, "work/a", JobKind::Activity, JobState::Cancelled);
        let new = job(2, "work/a", JobKind::Activity, JobState::Ready);
        let told = decided(&view(RunState::Running, vec![old, new]), &skip("work/a"));
        let told = told.unwrap().unwrap();
        assert_eq!((told.jobs.len(), told.jobs[0].job), (1, 2));
    }

    /// Who knows the workflow decides what ends with a group, what a step leaves when it is skipped, and how many places there are.
    #[test]
    fn only_what_needs_no_workflow_can_be_told() {
        let limit = StageLimit { stage: "work".to_owned(), most: NonZeroU32::MIN };
        for &state in RunState::ALL {
            for &of_job in JobState::ALL {
                let staged = vec![
                    job(1, "work/g", JobKind::Group, of_job),
                    job(2, "work/g/a", JobKind::Activity, of_job),
                ];
                let steps = vec![job(1, "work/a", JobKind::Step, of_job)];
                for (jobs, is_staged) in [(staged, true), (steps, false), (Vec::new(), false)] {
                    let view = view(state, jobs);
                    let priority = Request::Priority(Priority::HIGH);
                    for request in [Request::Cancel, Request::Pause, Request::Unpause, priority] {
                        assert!(is_tellable(&view, &request), "{request:?} {state} {of_job}");
                    }
                    assert!(!is_tellable(&view, &Request::Limit(limit.clone())));
                    assert!(!is_tellable(&view, &skip("work/g")), "a group, or nobody knows");
                    assert_eq!(is_tellable(&view, &skip("work/g/a")), is_staged);
                    // That there is none can be told.
                    assert_eq!(is_tellable(&view, &skip("work/nobody")), is_staged);
                }
            }
        }
    }
}
