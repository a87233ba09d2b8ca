use std::time::Duration;

use perennial_core::{
    FailureClass,
    run::{AttemptEnd, JobKey, JobState, RunState, SkipReason, StageOutcome, StageState},
};
use perennial_store::{
    Committed, Decision, JobStep, NewTimer, RunStep, StageStep, Store, StoreError, WaitDefault,
    WaitKind,
};
use serde_json::json;

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    one_commit_ends_an_attempt_and_starts_the_next_job,
    a_report_is_recorded_once,
    a_decision_of_an_old_revision_is_refused,
    a_decision_that_fails_changes_nothing,
    the_last_decision_closes_the_run,
    the_last_attempt_is_not_followed_by_another,
    a_failure_is_kept_with_its_class,
    jobs_without_attempts_are_skipped_and_cancelled,
    a_stage_with_unfinished_jobs_stays_open,
    a_sealed_stage_takes_no_jobs,
);

/// Proves INV-26.
async fn one_commit_ends_an_attempt_and_starts_the_next_job(store: &dyn Store) {
    let started = start(store, "r").await;
    let mut step = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    step.new_jobs = vec![new_job("b", Some(&started.node)), new_job("c", None)];
    step.events = vec![event("user_said")];
    let outcome = store.commit(step).await.unwrap();
    let Committed::Now { revision, leases, job_ids, events, .. } = outcome else { panic!() };
    assert_eq!(revision, started.revision + 1);
    assert_eq!((leases.len(), leases[0].key.as_str(), leases[0].job), (1, "b", job_ids[0]));
    let expected = ["job_succeeded", "job_ready", "attempt_started", "job_ready", "user_said"];
    assert_eq!(kinds(&events), expected);
    assert_eq!(store.events("r", events[0].seq, ALL).await.unwrap(), events);
    let result = perennial_core::Digest::of(json!({"by": 1}).to_string().as_bytes());
    let about = json!({"attempt": 1, "end": "succeeded", "result": result});
    assert_eq!(events[0].data, about, "what its rows have can be told from it");
    let view = store.run(&started.run).await.unwrap();
    assert_eq!(view.jobs.iter().map(|job| job.id).skip(1).collect::<Vec<_>>(), job_ids);
    assert_eq!((view.jobs[0].state, view.jobs[0].attempts_used), (JobState::Succeeded, 1));
    assert_eq!(view.jobs[0].result, Some(json!({"by": 1})));
    assert_eq!(view.attempts[0].end, Some(AttemptEnd::Succeeded));
    history(store, "r").await;
}

/// Proves FL4, D49, B9.
async fn a_report_is_recorded_once(store: &dyn Store) {
    let started = start(store, "r").await;
    let step = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    store.commit(step.clone()).await.unwrap();
    let before = store.run(&started.run).await.unwrap();
    let recorded = Ok(Committed::AlreadyRecorded { end: AttemptEnd::Succeeded });
    assert_eq!(store.commit(step).await, recorded);
    let other = reporting(&started, AttemptEnd::Error, JobState::Failed);
    assert_eq!(store.commit(other).await, recorded);
    assert_eq!(store.run(&started.run).await.unwrap(), before);
}

async fn a_decision_of_an_old_revision_is_refused(store: &dyn Store) {
    let started = start(store, "r").await;
    store.commit(decision(&started.run, started.revision)).await.unwrap();
    let late = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    let refused = store.commit(late.clone()).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    let again = Decision { expected_revision: started.revision + 1, ..late };
    committed(store.commit(again).await.unwrap());
    let missing = store.commit(decision(&run_id("none"), 0)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
}

/// Proves INV-26, INV-ST-28, TRAP-10.
async fn a_decision_that_fails_changes_nothing(store: &dyn Store) {
    let started = start(store, "r").await;
    let before = store.run(&started.run).await.unwrap();
    let events = history(store, "r").await;
    let step = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    let timer = NewTimer { owner: "o".into(), name: "t".into(), at: store.now() };
    let bad_stage = StageStep {
        stage: STAGE.to_owned(),
        from: StageState::Sealed,
        to: StageState::Sealed,
        outcome: None,
    };
    let bad: Vec<Decision> = vec![
        Decision { stages: vec![bad_stage], ..step.clone() },
        Decision { new_jobs: vec![new_job("b", None), new_job("b", None)], ..step.clone() },
        Decision {
            timers: vec![timer],
            run_step: Some(RunStep {
                from: RunState::Paused,
                to: RunState::Running,
                failure: None,
            }),
            ..step.clone()
        },
        Decision {
            events: vec![perennial_store::NewEvent {
                data: json!("x".repeat(70_000)),
                ..event("large")
            }],
            ..step.clone()
        },
    ];
    for decision in bad {
        let refused = store.commit(decision).await;
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(store.run(&started.run).await.unwrap(), before);
        assert_eq!(history(store, "r").await, events);
        assert_eq!(store.next_due().await, Ok(None));
    }
    committed(store.commit(step).await.unwrap());
}

/// Proves FL4, B3.
async fn the_last_decision_closes_the_run(store: &dyn Store) {
    let started = start(store, "r").await;
    let mut step = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    step.timers =
        vec![NewTimer { owner: "run:r".into(), name: "deadline".into(), at: store.now() }];
    step.stages = vec![StageStep {
        stage: STAGE.to_owned(),
        from: StageState::Open,
        to: StageState::Closed,
        outcome: Some(StageOutcome::Succeeded),
    }];
    let (from, to) = (RunState::Running, RunState::Succeeded);
    step.run_step = Some(RunStep { from, to, failure: None });
    step.events = vec![event("user_said")];
    let (revision, _, events) = committed(store.commit(step).await.unwrap());
    assert_eq!(events, ["job_succeeded", "stage_closed", "user_said", "run_closed"]);
    let view = store.run(&started.run).await.unwrap();
    assert_eq!(view.run.state, RunState::Succeeded);
    assert!(view.run.finished_at.is_some());
    assert_eq!(view.stages[0].outcome, Some(StageOutcome::Succeeded));
    assert!(store.take_due_timers(ALL).await.unwrap().is_empty());
    assert!(store.streams("run").await.unwrap()[0].closed);
    assert!(store.unfinished_runs().await.unwrap().is_empty());
    let late = store.commit(decision(&started.run, revision)).await;
    assert!(matches!(late, Err(StoreError::InvalidState(_))), "{late:?}");
}

/// Proves INV-19, I4.
async fn the_last_attempt_is_not_followed_by_another(store: &dyn Store) {
    let Started { run, node, mut lease, mut revision } = start(store, "r").await;
    for _ in 1..3 {
        let retry = report(&lease, AttemptEnd::Error, JobState::Ready);
        let retry = Decision { report: Some(retry), ..decision(&run, revision) };
        revision = committed(store.commit(retry).await.unwrap()).0;
        lease = store.claim(&run, &node, 1).await.unwrap().remove(0).lease;
    }
    let retry = report(&lease, AttemptEnd::Error, JobState::Ready);
    let refused = store.commit(Decision { report: Some(retry), ..decision(&run, revision) }).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
    let mut end = report(&lease, AttemptEnd::Error, JobState::Failed);
    end.dead_letter = true;
    let end = Decision { report: Some(end), ..decision(&run, revision) };
    let (_, _, events) = committed(store.commit(end).await.unwrap());
    assert_eq!(events, ["job_failed", "job_dead_lettered"]);
}

async fn a_failure_is_kept_with_its_class(store: &dyn Store) {
    let started = start(store, "r").await;
    let mut step = reporting(&started, AttemptEnd::TimedOut, JobState::Failed);
    let end = step.report.as_mut().unwrap();
    (end.class, end.code) = (Some(FailureClass::Timeout), Some("deadline".to_owned()));
    end.message = Some("é".repeat(4000));
    let Committed::Now { events, .. } = store.commit(step).await.unwrap() else { panic!() };
    assert_eq!(kinds(&events), ["attempt_timed_out", "job_failed"]);
    assert_eq!(
        (&events[1].data["class"], &events[1].data["code"]),
        (&json!("timeout"), &json!("deadline"))
    );
    let attempt = store.run(&started.run).await.unwrap().attempts.remove(0);
    assert_eq!(
        (attempt.class, attempt.code.as_deref()),
        (Some(FailureClass::Timeout), Some("deadline"))
    );
    assert_eq!(attempt.message.unwrap().len(), 4096);
}

async fn jobs_without_attempts_are_skipped_and_cancelled(store: &dyn Store) {
    let Started { run, lease, revision, .. } = start(store, "r").await;
    let new_jobs = vec![new_job("b", None), new_job("c", None)];
    let added = store.commit(Decision { new_jobs, ..decision(&run, revision) }).await.unwrap();
    let Committed::Now { job_ids, revision, .. } = added else { panic!() };
    let step = JobStep::new;
    let jobs = vec![
        step(job_ids[0], JobState::Ready, JobState::Skipped),
        step(job_ids[1], JobState::Ready, JobState::Cancelled),
        step(lease.job, JobState::Leased, JobState::Cancelled),
    ];
    let (_, _, events) =
        committed(store.commit(Decision { jobs, ..decision(&run, revision) }).await.unwrap());
    assert_eq!(events, ["job_skipped", "job_cancelled", "job_cancelled"]);
    let view = store.run(&run).await.unwrap();
    assert_eq!(view.jobs[1].skipped, Some(SkipReason::Upstream));
    assert_eq!(view.attempts[0].end, Some(AttemptEnd::Cancelled));
    assert_eq!(view.jobs[0].attempts_used, 0);
    let jobs = vec![step(job_ids[0], JobState::Ready, JobState::Cancelled)];
    let late = store.commit(Decision { jobs, ..decision(&run, revision + 1) }).await;
    assert!(matches!(late, Err(StoreError::InvalidState(_))), "{late:?}");
}

/// Proves INV-2.
async fn a_stage_with_unfinished_jobs_stays_open(store: &dyn Store) {
    let started = start(store, "r").await;
    let close = StageStep {
        stage: STAGE.to_owned(),
        from: StageState::Open,
        to: StageState::Closed,
        outcome: Some(StageOutcome::Succeeded),
    };
    let early = Decision { stages: vec![close], ..decision(&started.run, started.revision) };
    let refused = store.commit(early.clone()).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
    // Nor with a job that has just begun to wait, for whatever.
    let until = store.now().after(Duration::from_secs(60));
    let again = report(&started.lease, AttemptEnd::Error, JobState::Ready);
    let mut later = report(&started.lease, AttemptEnd::Unavailable, JobState::Deferred);
    later.deferral = Some(deferral(until));
    let mut asks = report(&started.lease, AttemptEnd::Suspended, JobState::Suspended);
    asks.wait = Some(wait_for(WaitKind::Answer, "q", until, WaitDefault::Fail));
    for waits in [again, later, asks] {
        let step = Decision { report: Some(waits.clone()), ..early.clone() };
        let refused = store.commit(step).await;
        assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{}: {refused:?}", waits.job);
        assert_eq!(only_job(store, &started.run).await.state, JobState::Leased);
    }
    let report = Some(report(&started.lease, AttemptEnd::Succeeded, JobState::Succeeded));
    committed(store.commit(Decision { report, ..early }).await.unwrap());
}

/// Proves INV-2.
async fn a_sealed_stage_takes_no_jobs(store: &dyn Store) {
    let started = start(store, "r").await;
    let seal = StageStep {
        stage: STAGE.to_owned(),
        from: StageState::Open,
        to: StageState::Sealed,
        outcome: None,
    };
    let mut step = decision(&started.run, started.revision);
    step.new_jobs = vec![new_job("b", None)];
    step.stages = vec![seal];
    let (revision, _, events) = committed(store.commit(step).await.unwrap());
    assert_eq!(events, ["job_ready", "stage_sealed"]);
    assert_eq!(store.claim(&started.run, &started.node, ALL).await.unwrap().len(), 1);
    for stage in [STAGE, "none"] {
        let mut job = new_job("c", None);
        (job.stage, job.key) = (stage.to_owned(), JobKey::new("c"));
        let new_jobs = vec![job];
        let refused = store.commit(Decision { new_jobs, ..decision(&started.run, revision) }).await;
        assert!(refused.is_err(), "{stage}: {refused:?}");
    }
}
