//! A further round of a run.

use perennial_core::{
    Digest,
    run::{AttemptEnd, JobState, RunId, RunState, StageOutcome, StageState},
};
use perennial_store::{
    Again, CallStart, Decision, NodeRef, Reopening, RunStep, StageStep, Store, StoreError,
};
use serde_json::json;

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    a_failed_run_goes_on_with_another_definition,
    a_job_that_is_made_again_counts_its_attempts_on,
    recorded_calls_stay_unless_they_are_to_be_forgotten,
    of_two_that_reopen_at_once_one_gets_the_run,
    a_run_that_somebody_holds_is_not_reopened,
    a_run_that_has_ended_is_reopened_though_the_node_that_ran_it_lives,
    a_run_that_its_node_left_is_reopened_with_what_was_under_way,
    a_completed_run_is_not_reopened,
    unfinished_jobs_have_to_be_made_again,
);

/// The run has ended in `state`, and its only job, `a`, with it.
async fn ended(store: &dyn Store, state: RunState) -> Started {
    let started = start(store, "r").await;
    let (end, job, outcome) = if state == RunState::Succeeded {
        (AttemptEnd::Succeeded, JobState::Succeeded, StageOutcome::Succeeded)
    } else {
        (AttemptEnd::Error, JobState::Failed, StageOutcome::Failed)
    };
    let mut last = reporting(&started, end, job);
    last.stages = vec![closing(outcome)];
    last.run_step = Some(RunStep {
        from: RunState::Running,
        to: state,
        failure: Some(json!({"cause": "failure"})),
    });
    store.commit(last).await.unwrap();
    started
}

fn closing(outcome: StageOutcome) -> StageStep {
    let (from, to) = (StageState::Open, StageState::Closed);
    StageStep { stage: STAGE.to_owned(), from, to, outcome: Some(outcome) }
}

async fn reopening(store: &dyn Store, run: &RunId, node: &NodeRef, again: bool) -> Reopening {
    let view = store.run(run).await.unwrap();
    let definition_bytes = b"corrected".to_vec();
    Reopening {
        run: run.clone(),
        expected_revision: view.run.revision,
        owner: node.clone(),
        definition: Digest::of(&definition_bytes),
        definition_bytes,
        input_digest: Digest::of(b"other"),
        settings: json!({"mode": "other"}),
        deadline: None,
        again: view.jobs.iter().filter(|_| again).map(|job| Again::asked_for(job.id)).collect(),
        stages: Vec::new(),
    }
}

async fn a_failed_run_goes_on_with_another_definition(store: &dyn Store) {
    let started = ended(store, RunState::Failed).await;
    let reopening = reopening(store, &started.run, &started.node, true).await;
    let revision = store.reopen_run(reopening.clone()).await.unwrap();
    let view = store.run(&started.run).await.unwrap();
    assert_eq!((view.run.state, view.run.revision), (RunState::Running, revision));
    assert_eq!((view.run.failure, view.run.finished_at), (None, None));
    assert_eq!(
        (view.run.definition, view.run.settings),
        (reopening.definition, reopening.settings)
    );
    assert_eq!(store.blob(reopening.definition).await.unwrap(), b"corrected");
    assert_eq!((view.stages[0].state, view.stages[0].outcome), (StageState::Open, None));
    assert_eq!(view.jobs[0].state, JobState::Cancelled);
    assert_eq!((&view.jobs[0].result, view.jobs[0].attempts_used), (&None, 0));
    assert_eq!(store.unfinished_runs().await.unwrap().len(), 1);
    let told = history(store, "r").await;
    assert_eq!(told[told.len() - 3..], ["run_closed", "run_reopened", "job_reopened"]);
    // The same again is the same run to whoever starts it by its id.
    let mut new = new_run("r", &started.node);
    new.definition = reopening.definition;
    new.definition_bytes = reopening.definition_bytes;
    new.input_digest = reopening.input_digest;
    assert_eq!(store.create_run(new).await, Ok(perennial_store::Created::Existing));
}

/// Proves INV-5.
async fn a_job_that_is_made_again_counts_its_attempts_on(store: &dyn Store) {
    let started = ended(store, RunState::Failed).await;
    let reopening = reopening(store, &started.run, &started.node, true).await;
    let revision = store.reopen_run(reopening).await.unwrap();
    let mut again = decision(&started.run, revision);
    again.new_jobs = vec![new_job("a", Some(&started.node)), new_job("b", None)];
    let (revision, leases, _) = committed(store.commit(again.clone()).await.unwrap());
    assert_eq!((leases.len(), leases[0].job, leases[0].attempt), (1, started.lease.job, 2));
    // A late report of the earlier round meets a lease that is gone.
    let late = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    let late = store.commit(Decision { expected_revision: revision, ..late }).await;
    assert!(matches!(late, Ok(perennial_store::Committed::AlreadyRecorded { .. })), "{late:?}");
    let job = only_job(store, &started.run).await;
    assert_eq!((job.state, job.attempt, job.attempts_used), (JobState::Leased, 2, 0));
    // A job that is there and was not set back is there once.
    again.expected_revision = revision;
    let twice = store.commit(again).await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })), "{twice:?}");
}

async fn recorded_calls_stay_unless_they_are_to_be_forgotten(store: &dyn Store) {
    for (forget_calls, left) in [(false, 1), (true, 0)] {
        let id = if forget_calls { "forgets" } else { "keeps" };
        let started = start(store, id).await;
        let call = CallStart { name: "1/x".to_owned(), idempotency_key: "k".to_owned() };
        assert_eq!(store.begin_call(&started.lease, call).await, Ok(None));
        store.record_call(&started.lease, "1/x", json!("reply")).await.unwrap();
        let mut last = reporting(&started, AttemptEnd::Error, JobState::Failed);
        last.stages = vec![closing(StageOutcome::Failed)];
        let (from, to) = (RunState::Running, RunState::Failed);
        last.run_step = Some(RunStep { from, to, failure: None });
        store.commit(last).await.unwrap();
        let mut reopening = reopening(store, &started.run, &started.node, true).await;
        reopening.again[0].forget_calls = forget_calls;
        store.reopen_run(reopening).await.unwrap();
        assert_eq!(store.run(&started.run).await.unwrap().calls.len(), left, "{id}");
    }
}

async fn of_two_that_reopen_at_once_one_gets_the_run(store: &dyn Store) {
    let started = ended(store, RunState::Failed).await;
    let reopening = reopening(store, &started.run, &started.node, true).await;
    store.reopen_run(reopening.clone()).await.unwrap();
    let before = store.run(&started.run).await.unwrap();
    let second = store.reopen_run(reopening).await;
    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    assert_eq!(store.run(&started.run).await.unwrap(), before);
}

async fn a_run_that_somebody_holds_is_not_reopened(store: &dyn Store) {
    let started = start(store, "r").await;
    let reopening = reopening(store, &started.run, &started.node, true).await;
    let before = store.run(&started.run).await.unwrap();
    let refused = store.reopen_run(reopening).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(store.run(&started.run).await.unwrap(), before);
}

async fn a_run_that_has_ended_is_reopened_though_the_node_that_ran_it_lives(store: &dyn Store) {
    let started = ended(store, RunState::Failed).await;
    let other = store.register_node("m").await.unwrap().node;
    let refused = store.own_run(&started.run, &other).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "it lives: {refused:?}");
    let reopening = reopening(store, &started.run, &other, true).await;
    store.reopen_run(reopening).await.unwrap();
    let view = store.run(&started.run).await.unwrap();
    assert_eq!((view.run.state, view.run.owner.as_ref()), (RunState::Running, Some(&other)));
    // Whoever ran it is one of the others now.
    let refused = store.own_run(&started.run, &started.node).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
}

async fn a_run_that_its_node_left_is_reopened_with_what_was_under_way(store: &dyn Store) {
    let started = start(store, "r").await;
    let call = CallStart { name: "1/x".to_owned(), idempotency_key: "k".to_owned() };
    assert_eq!(store.begin_call(&started.lease, call).await, Ok(None));
    let next = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let reopening = reopening(store, &started.run, &next, true).await;
    store.reopen_run(reopening).await.unwrap();
    let view = store.run(&started.run).await.unwrap();
    assert_eq!(view.jobs[0].state, JobState::Cancelled);
    let attempt = &view.attempts[0];
    assert_eq!((attempt.end, attempt.uncertain), (Some(AttemptEnd::Expired), true));
    let told = history(store, "r").await;
    let expected = ["run_reopened", "attempt_expired", "attempt_uncertain", "job_reopened"];
    assert_eq!(told[told.len() - 4..], expected);
}

async fn a_completed_run_is_not_reopened(store: &dyn Store) {
    let started = ended(store, RunState::Succeeded).await;
    let reopening = reopening(store, &started.run, &started.node, true).await;
    let refused = store.reopen_run(reopening).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
}

async fn unfinished_jobs_have_to_be_made_again(store: &dyn Store) {
    let started = start(store, "r").await;
    let next = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let before = store.run(&started.run).await.unwrap();
    let reopening = reopening(store, &started.run, &next, false).await;
    let refused = store.reopen_run(reopening).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
    assert_eq!(store.run(&started.run).await.unwrap(), before);
}
