//! What one job's row is from its making to its end, what is told twice of it, and counts when many record at once.

use futures_util::future::join_all;
use perennial_core::{
    FailureClass, Timestamp,
    run::{AttemptEnd, JobKey, JobKind, JobState, RunId},
    service::ServiceKey,
};
use perennial_store::{
    CallStart, Committed, Created, Decision, HoldOf, JobPart, JobRecord, Lease, NewJob, NewRun,
    RunSummary, RunView, Store, StoreError,
};
use serde_json::json;

use crate::{
    fixture::*,
    nodes::{CALLERS, at_once, insist},
    stores::on_every_store,
};

on_every_store!(
    a_new_job_is_ready_and_is_what_was_asked_for,
    each_state_of_a_job_has_its_time,
    a_failure_that_is_told_twice_counts_once,
    a_job_that_failed_is_known_by_its_key_and_nothing_is_lost_beside_it,
    a_reply_is_of_one_job_and_attempt_and_progress_ends_nothing,
    what_an_attempt_held_is_given_back_before_the_next_one_begins,
    of_sixty_four_that_record_at_once_no_count_loses_one,
);

async fn summary(store: &dyn Store, run: &RunId) -> RunSummary {
    let runs = store.runs(ALL).await.unwrap();
    runs.into_iter().find(|summary| summary.run == *run).unwrap()
}

async fn job(store: &dyn Store, run: &RunId, key: &str) -> JobRecord {
    let jobs = store.run(run).await.unwrap().jobs;
    jobs.into_iter().find(|job| job.key.as_str() == key).unwrap()
}

/// When an event of that kind was told of that job, each time.
async fn told(store: &dyn Store, run: &RunId, kind: &str, key: &str) -> Vec<Timestamp> {
    let events = store.events(run.as_str(), 1, ALL).await.unwrap();
    let of = |it: &&perennial_store::EventRecord| {
        it.kind == kind && it.job.as_ref().is_some_and(|job| job.as_str() == key)
    };
    events.iter().filter(of).map(|event| event.at).collect()
}

/// Proves B38.
/// Made with its run, by a decision, or as a child; ids are numbers from 1 that nobody else gets, told as they are.
async fn a_new_job_is_ready_and_is_what_was_asked_for(store: &dyn Store) {
    let Started { run, revision, .. } = start(store, "r").await;
    let uses = vec![ServiceKey::keyed("printer", "7"), ServiceKey::shared("scanner")];
    let part = JobPart { kind: JobKind::Activity, uses: uses.clone(), ..JobPart::default() };
    let odd = "Ünï/code of any `form`";
    let asked = NewJob {
        stage: STAGE.to_owned(),
        key: JobKey::new(odd),
        max_attempts: 7,
        crashes_max: 5,
        input: json!({"deep": [1, {"x": null}], "text": "é"}),
        claim_for: None,
        part,
    };
    let new_jobs = vec![asked.clone(), new_job("plain", None)];
    let made = store.commit(Decision { new_jobs, ..decision(&run, revision) }).await.unwrap();
    let Committed::Now { job_ids, events, .. } = made else { panic!("{made:?}") };
    let view = store.run(&run).await.unwrap();
    let ids: Vec<i64> = view.jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids[1..], job_ids);
    assert!(ids[0] >= 1 && ids.is_sorted() && ids.windows(2).all(|pair| pair[0] < pair[1]));
    let [_, first, plain] = &view.jobs[..] else { panic!("{:#?}", view.jobs) };
    assert_eq!((first.state, first.kind, first.parent.as_ref()), {
        (JobState::Ready, JobKind::Activity, None)
    });
    assert_eq!((&first.stage, &first.key, &first.input), (&asked.stage, &asked.key, &asked.input));
    assert_eq!((first.max_attempts, first.crashes_max, &first.uses), (7, 5, &uses));
    assert_eq!((plain.max_attempts, plain.crashes_max, plain.uses.len()), (3, 3, 0));
    for new in [first, plain] {
        assert_eq!((new.attempt, new.attempts_used, new.crashes), (0, 0, 0));
        assert_eq!(
            (&new.lease, &new.result, new.skipped, new.run_after),
            (&None, &None, None, None)
        );
        assert!(!new.dead_letter && new.deferral.is_none());
        assert_eq!(told(store, &run, "job_ready", new.key.as_str()).await, [events[0].at]);
    }
    assert_eq!(view.attempts.len(), 1, "nobody has begun one");
}

/// Proves B39.
/// When it was ready, claimed and over is recorded with the state; a lease is there while it is leased.
async fn each_state_of_a_job_has_its_time(store: &dyn Store) {
    let Started { run, node, revision, .. } = start(store, "r").await;
    let made =
        store.commit(Decision { new_jobs: vec![new_job("b", None)], ..decision(&run, revision) });
    let mut revision = committed(made.await.unwrap()).0;
    let mut before = told(store, &run, "job_ready", "b").await[0];
    for (end, to, kind) in [
        (AttemptEnd::Error, JobState::Ready, "attempt_failed"),
        (AttemptEnd::Succeeded, JobState::Succeeded, "job_succeeded"),
    ] {
        let now = job(store, &run, "b").await;
        assert_eq!((now.state, now.lease), (JobState::Ready, None));
        let lease = store.claim(&run, &node, 1).await.unwrap().remove(0).lease;
        let now = job(store, &run, "b").await;
        assert_eq!((now.state, now.lease.as_ref()), (JobState::Leased, Some(&node)));
        assert_eq!((now.attempt, now.result), (lease.attempt, None));
        let open = store.run(&run).await.unwrap().attempts.pop().unwrap();
        assert_eq!((open.ended_at, open.end, &open.node), (None, None, &node));
        let begun = told(store, &run, "attempt_started", "b").await;
        assert_eq!(begun[lease.attempt as usize - 1], open.claimed_at);
        assert!(open.claimed_at >= before, "{open:?}");
        let end = report(&lease, end, to);
        let end = Decision { report: Some(end), ..decision(&run, revision) };
        revision = committed(store.commit(end).await.unwrap()).0;
        let over = store.run(&run).await.unwrap().attempts.pop().unwrap();
        assert_eq!(told(store, &run, kind, "b").await, [over.ended_at.unwrap()]);
        assert!(over.ended_at.unwrap() >= open.claimed_at && over.end.is_some());
        before = over.ended_at.unwrap();
    }
    let done = job(store, &run, "b").await;
    assert_eq!((done.state, done.lease, done.attempt), (JobState::Succeeded, None, 2));
    assert_eq!(done.result, Some(json!({"by": 2})));
}

/// Proves B10.
/// One that is final, and one after which it is tried again: also by another attempt's time.
async fn a_failure_that_is_told_twice_counts_once(store: &dyn Store) {
    for (id, to) in [("final", JobState::Failed), ("again", JobState::Ready)] {
        let started = start(store, id).await;
        let Started { run, node, lease, .. } = &started;
        let mut step = reporting(&started, AttemptEnd::Error, to);
        step.report.as_mut().unwrap().class = Some(FailureClass::Overloaded);
        let revision = committed(store.commit(step.clone()).await.unwrap()).0;
        let before = store.run(run).await.unwrap();
        let counted = (summary(store, run).await.jobs_done, before.jobs[0].attempts_used);
        assert_eq!(counted, (u64::from(to.is_terminal()), 1));
        let recorded = Ok(Committed::AlreadyRecorded { end: AttemptEnd::Error });
        for told_of in [started.revision, revision] {
            let again = Decision { expected_revision: told_of, ..step.clone() };
            assert_eq!(store.commit(again).await, recorded);
        }
        assert_eq!(store.run(run).await.unwrap(), before);
        let kind = if to.is_terminal() { "job_failed" } else { "attempt_failed" };
        assert_eq!(told(store, run, kind, "a").await.len(), 1);
        if to == JobState::Ready {
            let next = store.claim(run, node, 1).await.unwrap().remove(0).lease;
            assert_eq!(next.attempt, 2);
            let late = Decision { expected_revision: revision, ..step };
            let refused = store.commit(late).await;
            let stale = Err(StoreError::StaleAttempt { job: lease.job, attempt: 1 });
            assert!(refused == recorded || refused == stale, "{refused:?}");
            let now = job(store, run, "a").await;
            assert_eq!((now.state, now.attempt, now.attempts_used), (JobState::Leased, 2, 1));
        }
    }
}

/// Proves B19.
/// Whoever makes it again finds it; and of a decision that makes a job that is there, nothing is done: what it was about can be
/// recorded after all, once.
async fn a_job_that_failed_is_known_by_its_key_and_nothing_is_lost_beside_it(store: &dyn Store) {
    let started = start(store, "r").await;
    let Started { run, node, lease, .. } = &started;
    let mut step = reporting(&started, AttemptEnd::Error, JobState::Failed);
    step.new_jobs = vec![new_job("b", Some(node))];
    let (revision, leases, _) = committed(store.commit(step).await.unwrap());
    let before = store.run(run).await.unwrap();
    let failed = &before.jobs[0];
    assert_eq!((failed.id, failed.state), (lease.job, JobState::Failed));
    assert_eq!(failed.result, Some(json!({"by": 1})));

    let end = Some(report(&leases[0], AttemptEnd::Succeeded, JobState::Succeeded));
    let follows = Decision {
        report: end,
        new_jobs: vec![new_job("c", None), new_job("a", None), new_job("d", None)],
        ..decision(run, revision)
    };
    let refused = store.commit(follows.clone()).await;
    assert_eq!(refused, Err(StoreError::Conflict { what: "job a".to_owned() }));
    assert_eq!(store.run(run).await.unwrap(), before, "nothing of it is done");
    let counts = summary(store, run).await;
    assert_eq!((counts.jobs, counts.jobs_done), (2, 1));

    let new_jobs = vec![new_job("c", None), new_job("d", None)];
    committed(store.commit(Decision { new_jobs, ..follows }).await.unwrap());
    let counts = summary(store, run).await;
    assert_eq!((counts.jobs, counts.jobs_done), (4, 2));
    let after = store.run(run).await.unwrap();
    assert_eq!(after.jobs[0], before.jobs[0], "and it is as it was");
    assert_eq!(told(store, run, "job_succeeded", "b").await.len(), 1);
    assert_eq!(told(store, run, "job_failed", "a").await.len(), 1);
}

/// Proves D42.
/// Two jobs that make the call of one name at a time; what says that it is an end is progress all the same.
async fn a_reply_is_of_one_job_and_attempt_and_progress_ends_nothing(store: &dyn Store) {
    let Started { run, node, lease, revision } = start(store, "r").await;
    let new_jobs = vec![new_job("b", Some(&node))];
    let (revision, leases, _) =
        committed(store.commit(Decision { new_jobs, ..decision(&run, revision) }).await.unwrap());
    let both = [&lease, &leases[0]];
    for own in both {
        let call =
            CallStart { name: "ask".to_owned(), idempotency_key: format!("{}/ask", own.key) };
        store.begin_call(own, call).await.unwrap();
    }
    // In the other order.
    for own in both.into_iter().rev() {
        store.record_call(own, "ask", json!({"for": own.key})).await.unwrap();
    }
    for own in both {
        let call =
            CallStart { name: "ask".to_owned(), idempotency_key: format!("{}/ask", own.key) };
        let recorded = store.begin_call(own, call).await.unwrap();
        assert_eq!(recorded, Some(json!({"for": own.key})));
    }
    // Neither of another attempt nor of another job by the number of this one.
    let before = store.run(&run).await.unwrap();
    let later = Lease { attempt: 2, ..lease.clone() };
    let stale = StoreError::StaleAttempt { job: lease.job, attempt: 2 };
    assert_eq!(store.record_call(&later, "ask", json!(0)).await, Err(stale.clone()));
    assert_eq!(store.beat(&later, json!(0)).await.map(|_| ()), Err(stale.clone()));
    let end = report(&later, AttemptEnd::Succeeded, JobState::Succeeded);
    let end = Decision { report: Some(end), ..decision(&run, revision) };
    assert_eq!(store.commit(end).await, Err(stale));
    assert_eq!(store.run(&run).await.unwrap(), before);
    let ends = json!({"end": "succeeded", "state": "succeeded", "result": {"by": 1}, "done": 100});
    for _ in 0..3 {
        store.beat(&lease, ends.clone()).await.unwrap();
    }
    let after = store.run(&run).await.unwrap();
    assert_eq!((&after.jobs, &after.attempts), (&before.jobs, &before.attempts), "it goes on");
    assert_eq!(after.run.revision, before.run.revision);
}

/// Proves D43.
/// Somebody else may begin it in the transaction that ends the attempt before, and not earlier: then what that held is free.
async fn what_an_attempt_held_is_given_back_before_the_next_one_begins(store: &dyn Store) {
    let Started { run, lease, .. } = start(store, "r").await;
    let app = ServiceKey::shared("app");
    store.hold(HoldOf::Attempt(lease.clone()), app.clone()).await.unwrap();
    let next = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let claimed = store.claim(&run, &next, ALL).await;
    assert!(!matches!(&claimed, Ok(claimed) if !claimed.is_empty()), "too early: {claimed:?}");
    assert_eq!(store.holds(app.clone()).await.unwrap().len(), 1);
    assert_eq!(store.rescue(None, ALL).await.unwrap().len(), 1);
    let ended = store.run(&run).await.unwrap().attempts.remove(0);
    assert_eq!(ended.end, Some(AttemptEnd::Expired));
    assert_eq!(store.holds(app.clone()).await.unwrap(), [], "with its end");
    let again = store.claim(&run, &next, ALL).await.unwrap().remove(0).lease;
    assert_eq!((again.attempt, &again.node), (2, &next));
    // The one before takes nothing any more.
    let stale = StoreError::StaleAttempt { job: lease.job, attempt: 1 };
    let late = store.hold(HoldOf::Attempt(lease.clone()), app.clone()).await;
    assert_eq!(late.map(|_| ()), Err(stale));
    store.hold(HoldOf::Attempt(again.clone()), app.clone()).await.unwrap();
    assert_eq!(store.holds(app).await.unwrap().len(), 1);
}

const TASKS: usize = 64;
const ENDS: [(AttemptEnd, JobState); 4] = [
    (AttemptEnd::Succeeded, JobState::Succeeded),
    (AttemptEnd::Partial, JobState::Partial),
    (AttemptEnd::Error, JobState::Failed),
    (AttemptEnd::Skipped, JobState::Skipped),
];

/// Proves D9.
/// Each records its end and makes one more job, under the revision that it has seen last.
async fn of_sixty_four_that_record_at_once_no_count_loses_one(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let jobs = (0..TASKS).map(|number| new_job(&number.to_string(), Some(&node))).collect();
    let new = NewRun { jobs, ..new_run("r", &node) };
    let run = &new.run.clone();
    let Created::New { leases, .. } = store.create_run(new).await.unwrap() else { panic!() };
    let leases = &leases;
    assert_eq!(leases.len(), TASKS);
    at_once(|caller| async move {
        let own = leases.iter().skip(caller).step_by(CALLERS);
        join_all(own.map(|lease| record(store, run, lease))).await;
    });
    let view = store.run(run).await.unwrap();
    let counts = summary(store, run).await;
    assert_eq!((counts.jobs, counts.jobs_done), (2 * TASKS as u64, TASKS as u64));
    for (_, to) in ENDS {
        assert_eq!(count(&view, to), TASKS / ENDS.len(), "{to}");
    }
    assert_eq!(count(&view, JobState::Ready), TASKS);
    assert_eq!(view.jobs.iter().map(|job| job.attempts_used as usize).sum::<usize>(), TASKS);
    assert_eq!(view.run.revision, 1 + TASKS as u64, "each decision counts once");
}

fn count(view: &RunView, state: JobState) -> usize {
    view.jobs.iter().filter(|job| job.state == state).count()
}

async fn record(store: &dyn Store, run: &RunId, lease: &Lease) {
    let number: usize = lease.key.as_str().parse().unwrap();
    let (end, to) = ENDS[number % ENDS.len()];
    insist(async || {
        let revision = store.revision(run).await?;
        let new_jobs = vec![new_job(&format!("after-{number}"), None)];
        let report = Some(report(lease, end, to));
        store.commit(Decision { report, new_jobs, ..decision(run, revision) }).await
    })
    .await;
}
