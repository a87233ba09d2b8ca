//! Instances of services as rows, and who holds them.

use perennial_core::{
    Timestamp,
    run::{AttemptEnd, JobState, RunState, StageOutcome, StageState},
    service::{Epoch, Holder, ServiceKey, ServiceState},
};
use perennial_store::{
    HoldOf, InstanceStep, InstanceStepped, JobStep, Lease, NodeRef, StageStep, Store, StoreError,
};

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    a_hold_is_taken_once_and_given_back_once,
    a_hold_of_an_attempt_goes_with_any_end_of_it,
    a_hold_of_an_attempt_goes_when_its_process_is_gone,
    a_hold_of_a_job_outlives_its_attempts_and_goes_with_its_end,
    a_hold_of_a_process_counts_as_long_as_it_lives,
    who_has_ended_takes_no_hold,
    an_instance_is_changed_only_by_who_knows_what_it_was,
    one_that_is_held_is_not_stopped_in_good_order,
    all_that_an_instance_is_comes_back,
    what_is_at_rest_and_held_by_nobody_is_not_listed,
    names_are_bounded,
);

fn app() -> ServiceKey {
    ServiceKey::keyed("app", "7")
}

fn of(lease: &Lease) -> HoldOf {
    HoldOf::Attempt(lease.clone())
}

async fn holders(store: &dyn Store, key: ServiceKey) -> Vec<(String, bool)> {
    let holds = store.holds(key).await.unwrap();
    holds.into_iter().map(|hold| (hold.holder.to_string(), hold.lives)).collect()
}

async fn held(store: &dyn Store) -> usize {
    store.holds(app()).await.unwrap().len()
}

/// The first row of an instance.
fn starting(keeper: &NodeRef) -> InstanceStep {
    InstanceStep {
        key: app(),
        was: None,
        keeper: keeper.clone(),
        state: ServiceState::Starting,
        epoch: Epoch::new(1),
        instance: None,
        breaker_open_until: None,
        cause: None,
        unless_held: false,
    }
}

/// What follows `step`.
fn next(step: &InstanceStep, state: ServiceState, epoch: u64) -> InstanceStep {
    let was = Some((step.epoch, step.keeper.clone()));
    InstanceStep { was, state, epoch: Epoch::new(epoch), ..step.clone() }
}

/// DUR-81.
async fn a_hold_is_taken_once_and_given_back_once(store: &dyn Store) {
    let Started { lease, .. } = start(store, "r").await;
    store.hold(of(&lease), app()).await.unwrap();
    store.hold(of(&lease), app()).await.unwrap();
    store.hold(of(&lease), ServiceKey::shared("app")).await.unwrap();
    let row = store.holds(app()).await.unwrap().remove(0);
    assert_eq!((row.job, row.attempt, row.node), (Some(lease.job), Some(1), None));
    assert_eq!(holders(store, app()).await, [(format!("job/{}/1", lease.job), true)]);
    assert_eq!(store.unhold(of(&lease), app()).await, Ok(true));
    assert_eq!(store.unhold(of(&lease), app()).await, Ok(false));
    assert_eq!(held(store).await, 0);
    assert_eq!(store.holds(ServiceKey::shared("app")).await.unwrap().len(), 1);
    let told: Vec<_> = history(store, "r").await;
    let of_holds: Vec<_> = told.iter().filter(|kind| kind.starts_with("hold_")).collect();
    assert_eq!(of_holds, ["hold_taken", "hold_taken", "hold_released"]);
}

/// DUR-80, FL9: however it ends.
async fn a_hold_of_an_attempt_goes_with_any_end_of_it(store: &dyn Store) {
    let ends = [
        (AttemptEnd::Succeeded, JobState::Succeeded),
        (AttemptEnd::Skipped, JobState::Skipped),
        (AttemptEnd::Error, JobState::Ready),
        (AttemptEnd::Error, JobState::Failed),
        (AttemptEnd::TimedOut, JobState::Ready),
        (AttemptEnd::Unavailable, JobState::Deferred),
        (AttemptEnd::Suspended, JobState::Suspended),
        (AttemptEnd::Cancelled, JobState::Cancelled),
    ];
    for (number, (end, job)) in ends.into_iter().enumerate() {
        let started = start(store, &format!("r{number}")).await;
        store.hold(of(&started.lease), app()).await.unwrap();
        assert_eq!(held(store).await, 1);
        store.commit(reporting(&started, end, job)).await.unwrap();
        assert_eq!(held(store).await, 0, "{end} {job}");
    }
    let started = start(store, "released").await;
    store.hold(of(&started.lease), app()).await.unwrap();
    store.release(&started.lease, "enough").await.unwrap();
    assert_eq!(held(store).await, 0);
    // By a step of its job, as at a cancellation.
    let started = start(store, "stepped").await;
    store.hold(of(&started.lease), app()).await.unwrap();
    let mut step = decision(&started.run, started.revision);
    step.jobs = vec![JobStep::new(started.lease.job, JobState::Leased, JobState::Cancelled)];
    store.commit(step).await.unwrap();
    assert_eq!(held(store).await, 0);
}

/// DUR-80, of one that was killed: it does not count any more at once, and is gone with the rescue.
async fn a_hold_of_an_attempt_goes_when_its_process_is_gone(store: &dyn Store) {
    let Started { run, lease, .. } = start(store, "r").await;
    store.hold(of(&lease), app()).await.unwrap();
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    assert_eq!(holders(store, app()).await, [(format!("job/{}/1", lease.job), false)]);
    store.rescue(None, ALL).await.unwrap();
    assert_eq!(held(store).await, 0);
    let second = store.claim(&run, &node, 1).await.unwrap().remove(0).lease;
    store.hold(of(&second), app()).await.unwrap();
    assert_eq!(holders(store, app()).await, [(format!("job/{}/2", lease.job), true)]);
    // One that died too often ends by a decision.
    for _ in 0..2 {
        let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
        store.rescue(None, ALL).await.unwrap();
        for claimed in store.claim(&run, &node, 1).await.unwrap() {
            store.hold(of(&claimed.lease), app()).await.unwrap();
        }
    }
    let job = only_job(store, &run).await;
    assert_eq!((job.crashes, job.attempt), (2, 3));
    assert_eq!(holders(store, app()).await, [(format!("job/{}/3", lease.job), false)]);
    let revision = store.revision(&run).await.unwrap();
    let dead = Lease { attempt: 3, node: job.lease.unwrap(), ..lease };
    let mut lost = decision(&run, revision);
    lost.report = Some(report(&dead, AttemptEnd::Expired, JobState::Failed));
    store.commit(lost).await.unwrap();
    assert_eq!(held(store).await, 0);
}

async fn a_hold_of_a_job_outlives_its_attempts_and_goes_with_its_end(store: &dyn Store) {
    let started = start(store, "r").await;
    let Started { run, node, lease, revision } = started;
    let of_job = HoldOf::Job { run: run.clone(), job: lease.job };
    store.hold(of_job.clone(), app()).await.unwrap();
    store.hold(of(&lease), app()).await.unwrap();
    store.release(&lease, "enough").await.unwrap();
    assert_eq!(holders(store, app()).await, [(format!("job/{}", lease.job), true)]);
    let lease = store.claim(&run, &node, 1).await.unwrap().remove(0).lease;
    let started = Started { run: run.clone(), node, lease, revision };
    store.commit(reporting(&started, AttemptEnd::Unavailable, JobState::Deferred)).await.unwrap();
    assert_eq!(held(store).await, 1, "it waits for what it holds");
    let revision = store.revision(&run).await.unwrap();
    let mut end = decision(&run, revision);
    end.jobs = vec![JobStep::new(started.lease.job, JobState::Deferred, JobState::Cancelled)];
    let (from, to, outcome) = (StageState::Open, StageState::Closed, Some(StageOutcome::Failed));
    end.stages = vec![StageStep { stage: STAGE.to_owned(), from, to, outcome }];
    let (from, to) = (RunState::Running, RunState::Failed);
    end.run_step = entering(&run, revision, from, to).run_step;
    store.commit(end).await.unwrap();
    assert_eq!(held(store).await, 0);
    // DUR-44: while it is suspended it holds nothing.
    let started = start(store, "waits").await;
    let of_job = HoldOf::Job { run: started.run.clone(), job: started.lease.job };
    store.hold(of_job, app()).await.unwrap();
    store.commit(reporting(&started, AttemptEnd::Suspended, JobState::Suspended)).await.unwrap();
    assert_eq!(held(store).await, 0);
}

async fn a_hold_of_a_process_counts_as_long_as_it_lives(store: &dyn Store) {
    let node = store.register_node("n").await.unwrap().node;
    let of_node = HoldOf::Node { node: node.clone(), name: Holder::new("the host") };
    store.hold(of_node.clone(), app()).await.unwrap();
    let name = format!("node/{}/{}/the host", node.node, node.incarnation);
    assert_eq!(holders(store, app()).await, [(name.clone(), true)]);
    store.end_node(&node, serde_json::Value::Null).await.unwrap();
    assert_eq!(holders(store, app()).await, [(name, false)]);
    let late = store.hold(HoldOf::Node { node, name: Holder::new("late") }, app()).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(store.unhold(of_node, app()).await, Ok(true));
}

/// INV-4, of holds.
async fn who_has_ended_takes_no_hold(store: &dyn Store) {
    let started = start(store, "r").await;
    let first = started.lease.clone();
    store.release(&first, "enough").await.unwrap();
    let second = store.claim(&started.run, &started.node, 1).await.unwrap().remove(0).lease;
    store.hold(of(&second), app()).await.unwrap();
    let before = history(store, "r").await;
    let later = Lease { attempt: 3, ..second.clone() };
    for stale in [&first, &later] {
        let refused = store.hold(of(stale), app()).await;
        assert!(matches!(refused, Err(StoreError::StaleAttempt { .. })), "{refused:?}");
        assert_eq!(store.unhold(of(stale), app()).await, Ok(false));
    }
    assert_eq!((held(store).await, history(store, "r").await), (1, before));
    let revision = started.revision;
    let ended = Started { lease: second.clone(), revision, ..started };
    store.commit(reporting(&ended, AttemptEnd::Succeeded, JobState::Succeeded)).await.unwrap();
    let of_job = HoldOf::Job { run: ended.run.clone(), job: second.job };
    let refused = store.hold(of_job, app()).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "job", .. })), "{refused:?}");
    assert_eq!(held(store).await, 0);
}

/// DUR-83: of two processes one has it.
async fn an_instance_is_changed_only_by_who_knows_what_it_was(store: &dyn Store) {
    let one = store.register_node("one").await.unwrap().node;
    let two = store.register_node("two").await.unwrap().node;
    let conflict = |answer: Result<_, StoreError>| {
        assert!(matches!(answer, Err(StoreError::Conflict { .. })), "{answer:?}");
    };
    let first = starting(&one);
    assert_eq!(store.step_instance(first.clone()).await, Ok(InstanceStepped::Done));
    assert_eq!(store.step_instance(first.clone()).await, Ok(InstanceStepped::Done), "once more");
    conflict(store.step_instance(starting(&two)).await);
    // Of an old life, of another keeper, back to an earlier life.
    let up = next(&first, ServiceState::Ready, 1);
    assert_eq!(store.step_instance(up.clone()).await, Ok(InstanceStepped::Done));
    let stopped = next(&up, ServiceState::Stopped, 2);
    let blind = InstanceStep { was: None, ..stopped.clone() };
    let other = InstanceStep { was: Some((Epoch::new(1), two.clone())), ..stopped.clone() };
    let older = next(&up, ServiceState::Stopped, 0);
    for wrong in [blind, other, older] {
        conflict(store.step_instance(wrong).await);
    }
    // Another process takes it over, and then the first one is too late.
    let taken = InstanceStep { keeper: two.clone(), ..next(&up, ServiceState::Ready, 1) };
    assert_eq!(store.step_instance(taken.clone()).await, Ok(InstanceStepped::Done));
    conflict(store.step_instance(stopped).await);
    let row = store.instance(app()).await.unwrap().unwrap();
    assert_eq!(
        (row.state, row.epoch, row.keeper),
        (ServiceState::Ready, Epoch::new(1), two.clone())
    );
    // Who does not live takes nothing, and may say what became of what it keeps until somebody else has it.
    store.end_node(&one, serde_json::Value::Null).await.unwrap();
    conflict(
        store
            .step_instance(InstanceStep { keeper: one, ..next(&taken, ServiceState::Ready, 1) })
            .await,
    );
    store.end_node(&two, serde_json::Value::Null).await.unwrap();
    assert!(!store.instance(app()).await.unwrap().unwrap().keeper_lives);
    let stopped = next(&taken, ServiceState::Stopped, 2);
    assert_eq!(store.step_instance(stopped).await, Ok(InstanceStepped::Done));
}

/// INV-24, D30, at the row: by its owner alone it is not stopped while somebody holds it.
async fn one_that_is_held_is_not_stopped_in_good_order(store: &dyn Store) {
    let started = start(store, "r").await;
    let first = starting(&started.node);
    let drain = InstanceStep { unless_held: true, ..next(&first, ServiceState::Draining, 1) };
    store.hold(of(&started.lease), app()).await.unwrap();
    assert_eq!(store.step_instance(first).await, Ok(InstanceStepped::Done));
    assert_eq!(store.step_instance(drain.clone()).await, Ok(InstanceStepped::Held));
    let row = store.instance(app()).await.unwrap().unwrap();
    assert_eq!(row.state, ServiceState::Starting);
    store.unhold(of(&started.lease), app()).await.unwrap();
    // That of a process that is gone keeps nothing up.
    let gone = store.register_node("gone").await.unwrap().node;
    let of_gone = HoldOf::Node { node: gone.clone(), name: Holder::new("it") };
    store.hold(of_gone, app()).await.unwrap();
    assert_eq!(store.step_instance(drain.clone()).await, Ok(InstanceStepped::Held));
    store.end_node(&gone, serde_json::Value::Null).await.unwrap();
    assert_eq!(store.step_instance(drain).await, Ok(InstanceStepped::Done));
    assert_eq!(held(store).await, 0, "nor is its hold left for ever");
}

async fn all_that_an_instance_is_comes_back(store: &dyn Store) {
    let keeper = store.register_node("n").await.unwrap().node;
    let step = InstanceStep {
        instance: Some("{\"endpoint\":\"here\"}".to_owned()),
        breaker_open_until: Some(Timestamp::from_micros(i64::MAX)),
        cause: Some("it refuses".to_owned()),
        ..starting(&keeper)
    };
    for state in ServiceState::ALL {
        let key = ServiceKey::keyed("app", state.as_str());
        let step = InstanceStep { key: key.clone(), state, ..step.clone() };
        assert_eq!(store.step_instance(step.clone()).await, Ok(InstanceStepped::Done));
        let row = store.instance(key.clone()).await.unwrap().unwrap();
        assert_eq!((&row.key, row.state, row.epoch), (&key, state, step.epoch));
        assert_eq!((&row.instance, &row.cause), (&step.instance, &step.cause));
        assert_eq!(row.breaker_open_until, step.breaker_open_until);
        // It is in that state for as long as it was.
        let told = InstanceStep { cause: None, ..next(&step, state, 1) };
        assert_eq!(store.step_instance(told).await, Ok(InstanceStepped::Done));
        assert_eq!(store.instance(key).await.unwrap().unwrap().since, row.since);
    }
    assert_eq!(store.instance(app()).await, Ok(None));
}

async fn what_is_at_rest_and_held_by_nobody_is_not_listed(store: &dyn Store) {
    let Started { node, lease, .. } = start(store, "r").await;
    for state in ServiceState::ALL {
        let key = ServiceKey::keyed("app", state.as_str());
        let step = InstanceStep { key, state, ..starting(&node) };
        assert_eq!(store.step_instance(step).await, Ok(InstanceStepped::Done));
    }
    let listed = async || -> Vec<String> {
        let rows = store.instances(ALL).await.unwrap();
        rows.into_iter().map(|row| row.key.to_string()).collect()
    };
    let mut may_run =
        vec!["app:crashed", "app:degraded", "app:draining", "app:ready", "app:starting"];
    assert_eq!(listed().await, may_run);
    store.hold(of(&lease), ServiceKey::keyed("app", "stopped")).await.unwrap();
    may_run.push("app:stopped");
    assert_eq!(listed().await, may_run);
    assert_eq!(store.instances(2).await.unwrap().len(), 2);
}

async fn names_are_bounded(store: &dyn Store) {
    let Started { lease, .. } = start(store, "r").await;
    let long = store.hold(of(&lease), ServiceKey::keyed("app", "k".repeat(257))).await;
    assert!(matches!(long, Err(StoreError::TooLarge { max: 256, .. })), "{long:?}");
    for nameless in [ServiceKey::keyed("app", ""), ServiceKey::shared("")] {
        let refused = store.hold(of(&lease), nameless).await;
        assert!(matches!(refused, Err(StoreError::InvalidName { .. })), "{refused:?}");
    }
    for number in 0..100 {
        let key = ServiceKey::keyed("app", number.to_string());
        store.hold(of(&lease), key).await.unwrap();
    }
    let more = store.hold(of(&lease), ServiceKey::keyed("app", "more")).await;
    assert!(matches!(more, Err(StoreError::Conflict { .. })), "{more:?}");
    store.hold(of(&lease), ServiceKey::keyed("app", "99")).await.unwrap();
}
