//! What jobs wait for, and what ends that: deferrals, signals, answers, deadlines.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use perennial_core::{
    Timestamp,
    run::{AttemptEnd, JobState, RunState, SkipReason},
};
use perennial_store::{
    Accepted, AfterWait, Committed, Decision, JobStep, MemoryStore, NewSignal, SignalKind, Store,
    StoreError, WaitDefault, WaitEnd, WaitEnded, WaitKind,
};
use serde_json::{Value, json};

use crate::{
    fixture::*,
    stores::{block_on, on_every_store},
};

on_every_store!(
    a_deferral_holds_nothing_and_uses_nothing,
    a_deferral_is_ended_before_its_time_once,
    since_when_it_is_not_available_outlasts_attempts,
    a_signal_is_handed_to_the_job_that_waits,
    what_comes_before_it_is_asked_for_is_kept_in_order,
    a_question_has_one_answer,
    an_answer_that_comes_first_is_taken,
    after_its_deadline_a_question_takes_no_answer,
    a_request_is_answered_once,
    a_run_that_ends_takes_nothing,
    a_job_that_is_cancelled_waits_no_more,
    a_wait_that_ends_in_vain_ends_its_job,
    a_further_round_forgets_what_was_waited_for,
);

fn sent(run: &str, request: &str, kind: SignalKind, name: &str, payload: Value) -> NewSignal {
    NewSignal {
        run: run_id(run),
        request: request.to_owned(),
        kind,
        name: name.to_owned(),
        payload,
        by: "ada".to_owned(),
        why: "because".to_owned(),
    }
}

/// The run's job, suspended for `name`; its revision then.
async fn suspended(store: &dyn Store, started: &Started, kind: WaitKind, name: &str) -> Committed {
    let until = store.now().after(Duration::from_secs(3600));
    let wait = Some(wait_for(kind, name, until, WaitDefault::Resume(json!("default"))));
    let mut end = report(&started.lease, AttemptEnd::Suspended, JobState::Suspended);
    end.wait = wait;
    let decided = Decision { report: Some(end), ..decision(&started.run, started.revision) };
    store.commit(decided).await.unwrap()
}

async fn revision(store: &dyn Store, started: &Started) -> u64 {
    store.revision(&started.run).await.unwrap()
}

/// No lease, no attempt used, a wake-up in the store.
/// Proves INV-20, R3.5.
async fn a_deferral_holds_nothing_and_uses_nothing(store: &dyn Store) {
    let started = start(store, "r").await;
    let wake_at = store.now().after(Duration::from_secs(3600));
    let mut end = report(&started.lease, AttemptEnd::Unavailable, JobState::Deferred);
    let until = wake_at.after(Duration::from_secs(60));
    let down = perennial_store::Deferral { until, then: AfterWait::Skip, ..deferral(wake_at) };
    end.deferral = Some(down.clone());
    let decided = Decision { report: Some(end), ..decision(&started.run, started.revision) };
    let (_, _, events) = committed(store.commit(decided.clone()).await.unwrap());
    assert_eq!(events, ["job_deferred"]);
    let again = store.commit(decided).await.unwrap();
    assert_eq!(again, Committed::AlreadyRecorded { end: AttemptEnd::Unavailable });
    let job = only_job(store, &started.run).await;
    assert_eq!((job.state, job.attempts_used, job.lease), (JobState::Deferred, 0, None));
    assert_eq!(job.deferral, Some(down));
    assert!(job.deferred_since.is_some());
    assert_eq!(store.next_due().await, Ok(Some(wake_at)));
    assert!(store.claim(&started.run, &started.node, ALL).await.unwrap().is_empty());
    assert!(store.rescue(None, ALL).await.unwrap().is_empty(), "nobody holds it");
}

async fn a_deferral_is_ended_before_its_time_once(store: &dyn Store) {
    let started = start(store, "r").await;
    let deferred = reporting(&started, AttemptEnd::Unavailable, JobState::Deferred);
    store.commit(deferred).await.unwrap();
    let (run, job) = (&started.run, started.lease.job);
    let before = revision(store, &started).await;
    assert_eq!(store.wake(run, job, "it is up", None).await, Ok(true));
    assert_eq!(revision(store, &started).await, before + 1);
    assert_eq!(store.wake(run, job, "it is up", None).await, Ok(false));
    let nobody = store.wake(run, job + 1, "it is up", None).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "job", .. })));
    let found = only_job(store, run).await;
    assert_eq!((found.state, found.deferral), (JobState::Ready, None));
    let claimed = store.claim(run, &started.node, ALL).await.unwrap();
    assert_eq!(claimed[0].lease.attempt, 2);
}

/// Proves TRAP-6.
/// The time that is waited in all is counted from the first refusal on.
async fn since_when_it_is_not_available_outlasts_attempts(store: &dyn Store) {
    let mut started = start(store, "r").await;
    let mut since = None;
    for end in [AttemptEnd::Unavailable, AttemptEnd::Unavailable] {
        store.commit(reporting(&started, end, JobState::Deferred)).await.unwrap();
        let found = only_job(store, &started.run).await.deferred_since;
        assert_eq!(*since.get_or_insert(found), found);
        store.wake(&started.run, started.lease.job, "look", None).await.unwrap();
        assert_eq!(only_job(store, &started.run).await.deferred_since, found);
        let claimed = store.claim(&started.run, &started.node, ALL).await.unwrap();
        started.lease = claimed[0].lease.clone();
        started.revision = revision(store, &started).await;
    }
    store.commit(reporting(&started, AttemptEnd::Error, JobState::Ready)).await.unwrap();
    let job = only_job(store, &started.run).await;
    assert_eq!((job.deferred_since, job.attempts_used), (None, 1), "it was there at last");
}

/// DUR-44, DUR-45.
/// Proves INV-ST-26.
async fn a_signal_is_handed_to_the_job_that_waits(store: &dyn Store) {
    let started = start(store, "r").await;
    let (revision, _, events) = committed(suspended(store, &started, WaitKind::Signal, "go").await);
    assert_eq!(events, ["job_suspended"]);
    let job = only_job(store, &started.run).await;
    assert_eq!((job.state, job.attempts_used, job.lease), (JobState::Suspended, 0, None));
    let open = store.run(&started.run).await.unwrap().waits.remove(0);
    assert_eq!((open.job, open.wait.name.as_str(), open.ended), (job.id, "go", None));
    assert_eq!(store.next_due().await, Ok(Some(open.wait.until)));

    let other = sent("r", "1", SignalKind::Signal, "stop", json!(0));
    assert_eq!(store.signal(other).await.unwrap().woken, None);
    assert_eq!(self::revision(store, &started).await, revision, "it decides nothing");
    for (kind, what, name) in [
        (SignalKind::Signal, "a signal", "go\nnow"),
        (SignalKind::Signal, "a signal", ""),
        (SignalKind::Answer, "a question", "agree\u{7}?"),
    ] {
        let refused = store.signal(sent("r", "3", kind, name, json!(0))).await.unwrap_err();
        assert_eq!(refused, StoreError::InvalidName { what, name: name.to_owned() });
        assert!(!refused.to_string().contains(char::is_control), "{refused}");
    }
    let go = sent("r", "2", SignalKind::Signal, "go", json!({"n": 7}));
    assert_eq!(store.signal(go).await.unwrap().woken, Some(job.id));
    assert_eq!(self::revision(store, &started).await, revision + 1);
    let view = store.run(&started.run).await.unwrap();
    assert_eq!(view.jobs[0].state, JobState::Ready);
    let end = view.waits[0].ended.clone().unwrap();
    let by = Some("ada".to_owned());
    assert_eq!(end, WaitEnd { how: WaitEnded::Sent, by, answer: Some(json!({"n": 7})) });
    assert_eq!(view.signals.len(), 1, "only the other one is kept");
    let all = history(store, "r").await;
    assert_eq!(all[all.len() - 2..], ["signal_received", "job_resumed"]);
    let claimed = store.claim(&started.run, &started.node, ALL).await.unwrap();
    assert_eq!(claimed[0].lease.attempt, 2);
}

/// Emitted before awaited is not lost, and each is taken once, in order.
/// Proves INV-ST-26.
async fn what_comes_before_it_is_asked_for_is_kept_in_order(store: &dyn Store) {
    let mut started = start(store, "r").await;
    for number in 1..=2 {
        let early = sent("r", &number.to_string(), SignalKind::Signal, "go", json!(number));
        assert_eq!(store.signal(early).await.unwrap().woken, None);
    }
    for number in 1..=2 {
        let outcome = suspended(store, &started, WaitKind::Signal, "go").await;
        let Committed::Now { resumed, events, .. } = outcome else { panic!() };
        assert_eq!(resumed.unwrap().answer, Some(json!(number)));
        assert_eq!(kinds(&events), ["job_suspended", "job_resumed"]);
        let view = store.run(&started.run).await.unwrap();
        assert_eq!(view.jobs[0].state, JobState::Ready);
        assert_eq!(view.signals.len(), 2 - number);
        let claimed = store.claim(&started.run, &started.node, ALL).await.unwrap();
        started.lease = claimed[0].lease.clone();
        started.revision = view.run.revision;
    }
    suspended(store, &started, WaitKind::Signal, "go").await;
    assert_eq!(only_job(store, &started.run).await.state, JobState::Suspended);
}

async fn a_question_has_one_answer(store: &dyn Store) {
    let started = start(store, "r").await;
    let (_, _, events) = committed(suspended(store, &started, WaitKind::Answer, "ok?").await);
    assert_eq!(events, ["job_suspended", "interrupt_requested"]);
    let answer = |request, value| sent("r", request, SignalKind::Answer, "ok?", value);
    assert!(store.signal(answer("1", json!(true))).await.unwrap().woken.is_some());
    let second = store.signal(answer("2", json!(false))).await;
    assert_eq!(second, Err(StoreError::AlreadyAnswered { name: "ok?".to_owned() }));
    let view = store.run(&started.run).await.unwrap();
    assert_eq!(view.waits[0].ended.as_ref().unwrap().answer, Some(json!(true)));
    let all = history(store, "r").await;
    assert_eq!(all[all.len() - 3..], ["signal_received", "interrupt_resumed", "job_resumed"]);
}

/// An answer that is there before the suspension commits is kept and taken, once.
/// Proves INV-ST-26.
async fn an_answer_that_comes_first_is_taken(store: &dyn Store) {
    let started = start(store, "r").await;
    let answer = |request| sent("r", request, SignalKind::Answer, "ok?", json!(true));
    assert_eq!(store.signal(answer("1")).await.unwrap().woken, None);
    let second = store.signal(answer("2")).await;
    assert_eq!(second, Err(StoreError::AlreadyAnswered { name: "ok?".to_owned() }));
    let outcome = suspended(store, &started, WaitKind::Answer, "ok?").await;
    assert!(matches!(outcome, Committed::Now { resumed: Some(_), .. }), "{outcome:?}");
    let third = store.signal(answer("3")).await;
    assert_eq!(third, Err(StoreError::AlreadyAnswered { name: "ok?".to_owned() }));
}

async fn after_its_deadline_a_question_takes_no_answer(store: &dyn Store) {
    let started = start(store, "r").await;
    let until = store.now();
    let mut end = report(&started.lease, AttemptEnd::Suspended, JobState::Suspended);
    end.wait = Some(wait_for(WaitKind::Answer, "ok?", until, WaitDefault::Resume(json!("no"))));
    let decided = Decision { report: Some(end), ..decision(&started.run, started.revision) };
    let (revision, ..) = committed(store.commit(decided).await.unwrap());
    assert_eq!(store.next_due().await, Ok(None), "what is overdue is found by who looks");
    let answer = |request| sent("r", request, SignalKind::Answer, "ok?", json!(true));
    let expired = Err(StoreError::Expired { name: "ok?".to_owned(), until });
    assert_eq!(store.signal(answer("1")).await, expired);
    let default = WaitEnd { how: WaitEnded::Deadline, by: None, answer: Some(json!("no")) };
    let step = JobStep {
        ended: Some(default.clone()),
        ..JobStep::new(started.lease.job, JobState::Suspended, JobState::Ready)
    };
    let decided = Decision { jobs: vec![step], ..decision(&started.run, revision) };
    let (_, _, events) = committed(store.commit(decided).await.unwrap());
    assert_eq!(events, ["interrupt_expired", "job_resumed"]);
    let view = store.run(&started.run).await.unwrap();
    assert_eq!((view.jobs[0].state, &view.waits[0].ended), (JobState::Ready, &Some(default)));
    assert_eq!(store.signal(answer("2")).await, expired);
}

async fn a_request_is_answered_once(store: &dyn Store) {
    let started = start(store, "r").await;
    let one = sent("r", "1", SignalKind::Signal, "go", json!(1));
    let Accepted { seq, changed, .. } = store.signal(one.clone()).await.unwrap();
    assert!(changed);
    let again = store.signal(one).await.unwrap();
    assert_eq!(again, Accepted { seq, changed: false, woken: None });
    let other = store.signal(sent("r", "1", SignalKind::Signal, "stop", json!(1))).await;
    assert!(matches!(other, Err(StoreError::Conflict { .. })), "{other:?}");
    assert_eq!(store.run(&started.run).await.unwrap().signals.len(), 1);
    let unknown = store.signal(sent("no", "1", SignalKind::Signal, "go", json!(1))).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { what: "run", .. })));
}

/// SM-12: the end of a run refuses what comes after it, and writes nothing.
async fn a_run_that_ends_takes_nothing(store: &dyn Store) {
    let started = start(store, "r").await;
    suspended(store, &started, WaitKind::Signal, "go").await;
    let revision = revision(store, &started).await;
    let cancelling = entering(&started.run, revision, RunState::Running, RunState::Cancelling);
    store.commit(cancelling).await.unwrap();
    let before = store.run(&started.run).await.unwrap();
    let late = store.signal(sent("r", "1", SignalKind::Signal, "go", json!(1))).await;
    assert!(matches!(late, Err(StoreError::InvalidState(_))), "{late:?}");
    assert_eq!(store.run(&started.run).await.unwrap(), before);
}

/// INV-15: Suspended and Deferred end with their run.
async fn a_job_that_is_cancelled_waits_no_more(store: &dyn Store) {
    let started = start(store, "r").await;
    suspended(store, &started, WaitKind::Answer, "ok?").await;
    let revision = revision(store, &started).await;
    let step = JobStep::new(started.lease.job, JobState::Suspended, JobState::Cancelled);
    let decided = Decision { jobs: vec![step], ..decision(&started.run, revision) };
    let (_, _, events) = committed(store.commit(decided).await.unwrap());
    assert_eq!(events, ["interrupt_cancelled", "job_cancelled"]);
    let wait = store.run(&started.run).await.unwrap().waits.remove(0);
    assert_eq!(wait.ended.unwrap().how, WaitEnded::Cancelled);
    assert_eq!(store.next_due().await, Ok(None));
}

async fn a_wait_that_ends_in_vain_ends_its_job(store: &dyn Store) {
    let started = start(store, "r").await;
    let deferred = reporting(&started, AttemptEnd::Unavailable, JobState::Deferred);
    let (revision, ..) = committed(store.commit(deferred).await.unwrap());
    let step = JobStep {
        skipped: Some(SkipReason::Unavailable),
        result: Some(json!({"error": "down"})),
        about: json!({"cause": "the printer"}),
        ..JobStep::new(started.lease.job, JobState::Deferred, JobState::Skipped)
    };
    let decided = Decision { jobs: vec![step], ..decision(&started.run, revision) };
    let Committed::Now { events, .. } = store.commit(decided).await.unwrap() else { panic!() };
    assert_eq!(
        (events[0].kind.as_str(), &events[0].data["cause"]),
        ("job_skipped", &json!("the printer"))
    );
    let job = only_job(store, &started.run).await;
    assert_eq!((job.skipped, job.deferral), (Some(SkipReason::Unavailable), None));
    assert_eq!((job.result, job.attempts_used), (Some(json!({"error": "down"})), 0));
}

async fn a_further_round_forgets_what_was_waited_for(store: &dyn Store) {
    let started = start(store, "r").await;
    suspended(store, &started, WaitKind::Signal, "go").await;
    store.end_node(&started.node, Value::Null).await.unwrap();
    let view = store.run(&started.run).await.unwrap();
    let node = store.register_node("n").await.unwrap().node;
    let reopening = |again| perennial_store::Reopening {
        run: started.run.clone(),
        expected_revision: view.run.revision,
        owner: node.clone(),
        definition: view.run.definition,
        definition_bytes: b"definition".to_vec(),
        input_digest: view.run.input_digest,
        settings: json!({}),
        deadline: None,
        again,
        stages: Vec::new(),
    };
    let refused = store.reopen_run(reopening(Vec::new())).await;
    assert!(matches!(refused, Err(StoreError::InvalidState(_))), "{refused:?}");
    let again = perennial_store::Again::asked_for(started.lease.job);
    store.reopen_run(reopening(vec![again])).await.unwrap();
    let view = store.run(&started.run).await.unwrap();
    assert_eq!((view.jobs[0].state, view.waits.len()), (JobState::Cancelled, 0));
}

/// Proves INV-ST-25.
#[test]
fn a_wait_is_due_at_its_instant() {
    let micros = Arc::new(AtomicI64::new(1_000));
    let hand = Arc::clone(&micros);
    let clock = Arc::new(move || Timestamp::from_micros(hand.load(Ordering::Relaxed)));
    let store = MemoryStore::with_clock(clock).unwrap();
    block_on(async {
        let at = Timestamp::from_micros;
        let node = store.register_node("n").await.unwrap().node;
        let (one, two) = (start_on(&store, "a", &node).await, start_on(&store, "b", &node).await);
        let mut end = report(&one.lease, AttemptEnd::Unavailable, JobState::Deferred);
        end.deferral = Some(deferral(at(2_000)));
        let decided = Decision { report: Some(end), ..decision(&one.run, one.revision) };
        store.commit(decided).await.unwrap();
        let mut end = report(&two.lease, AttemptEnd::Suspended, JobState::Suspended);
        end.wait = Some(wait_for(WaitKind::Timer, "tea", at(3_000), WaitDefault::Fail));
        let decided = Decision { report: Some(end), ..decision(&two.run, two.revision) };
        store.commit(decided).await.unwrap();
        assert_eq!(store.next_due().await, Ok(Some(at(2_000))));
        micros.store(2_000, Ordering::Relaxed);
        assert_eq!(store.next_due().await, Ok(Some(at(3_000))));
        micros.store(3_000, Ordering::Relaxed);
        assert_eq!(store.next_due().await, Ok(None));
    });
}

#[test]
fn as_many_signals_are_kept_as_there_is_room_for() {
    crate::stores::on_memory(async |store| fill(store).await);
}

async fn fill(store: &dyn Store) {
    let started = start(store, "r").await;
    let large = json!("x".repeat(300 * 1024));
    let refused = store.signal(sent("r", "large", SignalKind::Signal, "go", large)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    for number in 0..1_000 {
        let one = sent("r", &number.to_string(), SignalKind::Signal, "go", Value::Null);
        store.signal(one).await.unwrap();
    }
    let one_more = || sent("r", "one more", SignalKind::Signal, "go", Value::Null);
    let refused = store.signal(one_more()).await;
    assert!(matches!(refused, Err(StoreError::TooMany { max: 1_000, .. })), "{refused:?}");
    suspended(store, &started, WaitKind::Signal, "go").await;
    assert!(store.signal(one_more()).await.is_ok(), "one was taken");
}
