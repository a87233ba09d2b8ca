//! Jobs of which only so many are under way at a time, over all runs.

#[cfg(feature = "postgres")]
use std::sync::atomic::{AtomicU32, Ordering};
use std::{num::NonZeroU32, time::Duration};

use perennial_core::run::{
    AttemptEnd, FeedKind, JobKey, JobKind, JobState, RunId, RunState, StageState,
};
use perennial_core::service::ServiceKey;
use perennial_store::{
    Admissions, Admits, AfterWait, Claims, Closed, ConcurrencyKey, Decision, JobPart, JobRecord,
    JobStep, NewJob, NewRun, NewStage, NodeRef, NodeTerms, Store, StoreError, Turn, verify,
};

use crate::{
    fixture::*,
    stores::{self, on_every_store},
};

on_every_store!(
    a_key_has_one_job_under_way_over_all_runs,
    a_turn_comes_back_with_every_end_of_an_attempt,
    turns_are_taken_in_the_order_in_which_they_were_waited_for,
    a_group_has_its_turn_from_before_its_children_to_its_end,
    who_is_not_looked_for_any_more_keeps_nobody_waiting,
    more_than_one_may_be_under_way,
    who_waits_for_a_turn_stands_in_nobodys_way,
    a_job_that_waits_for_a_service_has_no_turn,
    a_key_that_is_none_is_refused,
    who_has_no_place_in_its_stage_stands_in_nobodys_way,
    a_look_without_room_wakes_as_many_as_can_go,
);

/// A stage with as many places as it wants.
fn stage() -> NewStage {
    let (state, feed) = (StageState::Sealed, FeedKind::Static);
    NewStage { state, feed, ..NewStage::driven("s") }
}

fn keyed(name: &str, kind: JobKind, limit: ConcurrencyKey) -> NewJob {
    let part = JobPart { kind, limit: Some(limit), ..JobPart::default() };
    NewJob { stage: "s".to_owned(), part, ..new_job(&format!("s/{name}"), None) }
}

fn one(name: &str, key: &str) -> NewJob {
    keyed(name, JobKind::Activity, ConcurrencyKey::one(key))
}

async fn begin(store: &dyn Store, id: &str, node: &NodeRef, jobs: Vec<NewJob>) -> RunId {
    let new = NewRun { stages: vec![stage()], jobs, ..new_run(id, node) };
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    run
}

fn with_turns() -> Admissions {
    Admissions { turns: true, ..Admissions::default() }
}

async fn claim(store: &dyn Store, run: &RunId, node: &NodeRef) -> Claims {
    store.claim_by(run, node, 8, with_turns()).await.unwrap()
}

fn names(claims: &Claims) -> Vec<&str> {
    claims.claimed.iter().map(|it| it.lease.key.as_str()).collect()
}

/// Ends the attempt of the only claim.
async fn end(store: &dyn Store, run: &RunId, claims: &Claims, to: JobState) {
    let end = match to {
        JobState::Succeeded => AttemptEnd::Succeeded,
        JobState::Deferred => AttemptEnd::Unavailable,
        JobState::Suspended => AttemptEnd::Suspended,
        JobState::Cancelled => AttemptEnd::Cancelled,
        JobState::Blocked
        | JobState::Ready
        | JobState::Leased
        | JobState::Joining
        | JobState::Partial
        | JobState::Failed
        | JobState::Skipped => AttemptEnd::Error,
    };
    let revision = store.revision(run).await.unwrap();
    let lease = &claims.claimed[0].lease;
    let report = Some(report(lease, end, to));
    store.commit(Decision { report, ..decision(run, revision) }).await.unwrap();
}

/// Proves INV-ST-20.
async fn a_key_has_one_job_under_way_over_all_runs(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let first = begin(store, "first", &node, vec![one("a", "app"), one("b", "app")]).await;
    let other = begin(store, "other", &node, vec![one("c", "app"), one("d", "another app")]).await;
    let held = claim(store, &first, &node).await;
    assert_eq!((names(&held), held.parked.len()), (vec!["s/a"], 1));
    let claims = claim(store, &other, &node).await;
    assert_eq!((names(&claims), claims.parked.len()), (vec!["s/d"], 1));
    let view = store.run(&other).await.unwrap();
    let (job, deferral) = &claims.parked[0];
    let waits = view.jobs.iter().find(|it| it.id == *job).unwrap();
    assert_eq!((waits.state, waits.deferral.as_ref()), (JobState::Deferred, Some(deferral)));
    assert!(deferral.cause.contains("its turn with the key `app`, 1 at a time"), "{deferral:?}");
    assert_eq!(waits.keyed.as_ref().map(|it| it.turn), Some(Turn::Waits));
    assert_eq!(waits.attempts_used, 0);
    // Nothing is free, and nothing is said of it again.
    let before = history(store, "other").await;
    assert_eq!(claim(store, &other, &node).await, Claims::default());
    assert_eq!(history(store, "other").await, before);
    end(store, &first, &held, JobState::Succeeded).await;
    let held = claim(store, &first, &node).await;
    assert_eq!(names(&held), ["s/b"]);
    end(store, &first, &held, JobState::Succeeded).await;
    let held = claim(store, &other, &node).await;
    assert_eq!(names(&held), ["s/c"]);
    let waited = ["attempt_started", "job_ready", "attempt_started"].map(str::to_owned);
    assert_eq!(history(store, "other").await[before.len() - 1..], waited);
    end(store, &other, &held, JobState::Succeeded).await;
    assert_eq!(verify(store).await.unwrap(), []);
}

/// STO-21: there is no second expiry and no counter: the transaction that ends the lease frees it.
async fn a_turn_comes_back_with_every_end_of_an_attempt(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    for to in [
        JobState::Succeeded,
        JobState::Failed,
        JobState::Ready,
        JobState::Deferred,
        JobState::Suspended,
    ] {
        let run = begin(store, &format!("ends-{to}"), &node, vec![one("a", "app")]).await;
        let held = claim(store, &run, &node).await;
        assert_eq!(names(&held), ["s/a"], "{to}");
        end(store, &run, &held, to).await;
        let other = begin(store, &format!("after-{to}"), &node, vec![one("a", "app")]).await;
        let held = claim(store, &other, &node).await;
        assert_eq!(names(&held), ["s/a"], "{to}");
        end(store, &other, &held, JobState::Succeeded).await;
    }
    // Given back, cut off by a step of its job, and died with its node.
    let run = begin(store, "released", &node, vec![one("a", "app")]).await;
    let held = claim(store, &run, &node).await;
    store.release(&held.claimed[0].lease, "enough").await.unwrap();
    let held = claim(store, &run, &node).await;
    let job = held.claimed[0].lease.job;
    let jobs = vec![JobStep::new(job, JobState::Leased, JobState::Cancelled)];
    let revision = store.revision(&run).await.unwrap();
    store.commit(Decision { jobs, ..decision(&run, revision) }).await.unwrap();
    let run = begin(store, "died", &node, vec![one("a", "app")]).await;
    assert_eq!(names(&claim(store, &run, &node).await), ["s/a"]);
    let again = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let other = begin(store, "waits", &again, vec![one("a", "app")]).await;
    assert_eq!(claim(store, &other, &again).await.parked.len(), 1);
    assert_eq!(store.rescue(None, 8).await.unwrap().len(), 1);
    assert_eq!(names(&claim(store, &other, &again).await), ["s/a"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// DUR-13: nobody who comes later is before them, also not the run that has just given its turn back.
async fn turns_are_taken_in_the_order_in_which_they_were_waited_for(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let jobs = (0..3).map(|n| one(&n.to_string(), "app")).collect();
    let first = begin(store, "0", &node, jobs).await;
    let mut held = claim(store, &first, &node).await;
    assert_eq!((held.claimed.len(), held.parked.len()), (1, 2));
    let mut runs = vec![first];
    for id in 1..4 {
        let run = begin(store, &id.to_string(), &node, vec![one("a", "app")]).await;
        assert_eq!(claim(store, &run, &node).await.parked.len(), 1);
        runs.push(run);
    }
    let (mut order, mut holds) = (Vec::new(), 0);
    while order.len() < 5 {
        end(store, &runs[holds], &held, JobState::Succeeded).await;
        // One that comes just now.
        let late =
            begin(store, &format!("late{}", order.len()), &node, vec![one("a", "app")]).await;
        assert!(claim(store, &late, &node).await.claimed.is_empty());
        for (place, run) in runs.iter().enumerate().rev() {
            let claims = claim(store, run, &node).await;
            if !claims.claimed.is_empty() {
                (held, holds) = (claims, place);
                order.push(place);
            }
        }
    }
    assert_eq!(order, [0, 0, 1, 2, 3]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// SM-41: two groups of a key are never expanded at a time, and their children take no turn of it.
async fn a_group_has_its_turn_from_before_its_children_to_its_end(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let group = |name| keyed(name, JobKind::Group, ConcurrencyKey::one("app"));
    let first = begin(store, "first", &node, vec![group("g"), group("h")]).await;
    let other = begin(store, "other", &node, vec![group("g")]).await;
    // It is no turn that nobody asked for.
    let jobs = store.run(&first).await.unwrap().jobs;
    let expand = |run: &RunId, group: i64, revision| {
        let parent = Some(JobKey::new("s/g"));
        let part = JobPart { kind: JobKind::Activity, parent, ..JobPart::default() };
        let child = NewJob { stage: "s".to_owned(), part, ..new_job("s/g/c", None) };
        let jobs = vec![JobStep::new(group, JobState::Ready, JobState::Joining)];
        Decision { jobs, new_jobs: vec![child], ..decision(run, revision) }
    };
    let early = store.commit(expand(&first, jobs[0].id, 1)).await;
    assert!(matches!(early, Err(StoreError::Conflict { .. })), "{early:?}");
    let claims = claim(store, &first, &node).await;
    assert_eq!((claims.admitted.clone(), claims.parked.len()), (vec![jobs[0].id], 1));
    let turns = |jobs: &[perennial_store::JobRecord]| -> Vec<Turn> {
        jobs.iter().filter_map(|it| it.keyed.as_ref().map(|it| it.turn)).collect()
    };
    assert_eq!(turns(&store.run(&first).await.unwrap().jobs), [Turn::Has, Turn::Waits]);
    assert_eq!(verify(store).await.unwrap(), []);
    // Asked again it is not told again.
    assert_eq!(claim(store, &first, &node).await, Claims::default());
    store.commit(expand(&first, jobs[0].id, 1)).await.unwrap();
    assert_eq!(claim(store, &other, &node).await.parked.len(), 1);
    let child = claim(store, &first, &node).await;
    assert_eq!(names(&child), ["s/g/c"]);
    end(store, &first, &child, JobState::Succeeded).await;
    assert_eq!(claim(store, &first, &node).await, Claims::default());
    let revision = store.revision(&first).await.unwrap();
    let result = Some(serde_json::json!("joined"));
    let joined =
        JobStep { result, ..JobStep::new(jobs[0].id, JobState::Joining, JobState::Succeeded) };
    store.commit(Decision { jobs: vec![joined], ..decision(&first, revision) }).await.unwrap();
    assert_eq!(claim(store, &other, &node).await, Claims::default(), "the first has waited longer");
    assert_eq!(claim(store, &first, &node).await.admitted, [jobs[1].id]);
    // With its run it is gone: one that is to be expanded as well.
    let revision = store.revision(&first).await.unwrap();
    let jobs = vec![JobStep::new(jobs[1].id, JobState::Ready, JobState::Cancelled)];
    store.commit(Decision { jobs, ..decision(&first, revision) }).await.unwrap();
    assert_eq!(claim(store, &other, &node).await.admitted.len(), 1);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// DUR-13: what cannot run stands in nobody's way.
async fn who_is_not_looked_for_any_more_keeps_nobody_waiting(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let first = begin(store, "first", &node, vec![one("a", "app")]).await;
    let paused = begin(store, "paused", &node, vec![one("a", "app")]).await;
    let held = claim(store, &first, &node).await;
    assert_eq!(claim(store, &paused, &node).await.parked.len(), 1);
    store.commit(entering(&paused, 1, RunState::Running, RunState::Paused)).await.unwrap();
    end(store, &first, &held, JobState::Succeeded).await;
    let other = begin(store, "other", &node, vec![one("a", "app")]).await;
    let held = claim(store, &other, &node).await;
    assert_eq!(names(&held), ["s/a"]);
    store.commit(entering(&paused, 2, RunState::Paused, RunState::Running)).await.unwrap();
    assert_eq!(claim(store, &paused, &node).await, Claims::default());
    end(store, &other, &held, JobState::Succeeded).await;
    assert_eq!(names(&claim(store, &paused, &node).await), ["s/a"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// DUR-16: as many as the key says, and each by its own word.
async fn more_than_one_may_be_under_way(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let limit =
        |most| ConcurrencyKey { key: "gpu".to_owned(), most: NonZeroU32::new(most).unwrap() };
    let job = |name: &str, most| keyed(name, JobKind::Activity, limit(most));
    let jobs = (0..5).map(|n| job(&n.to_string(), 3)).collect();
    let run = begin(store, "three", &node, jobs).await;
    let mut held = claim(store, &run, &node).await;
    assert_eq!((held.claimed.len(), held.parked.len()), (3, 2));
    // One that wants the key for itself sees that others have it.
    let alone = begin(store, "alone", &node, vec![job("a", 1)]).await;
    assert_eq!(claim(store, &alone, &node).await.parked.len(), 1);
    for left in [2, 1] {
        end(store, &run, &held, JobState::Succeeded).await;
        held.claimed.remove(0);
        let next = claim(store, &run, &node).await;
        assert_eq!(next.claimed.len(), 1, "{left}");
        held.claimed.extend(next.claimed);
    }
    for _ in 0..3 {
        assert!(claim(store, &alone, &node).await.claimed.is_empty());
        end(store, &run, &held, JobState::Succeeded).await;
        held.claimed.remove(0);
    }
    let mut held = claim(store, &alone, &node).await;
    assert_eq!(held.claimed.len(), 1);
    end(store, &alone, &held, JobState::Succeeded).await;
    // Whatever place of the key the others have.
    let jobs = (0..2).map(|n| job(&n.to_string(), 3)).collect();
    let run = begin(store, "two", &node, jobs).await;
    held = claim(store, &run, &node).await;
    end(store, &run, &held, JobState::Succeeded).await;
    let alone = begin(store, "alone-too", &node, vec![job("a", 1)]).await;
    assert_eq!(claim(store, &alone, &node).await.parked.len(), 1);
    held.claimed.remove(0);
    end(store, &run, &held, JobState::Succeeded).await;
    assert_eq!(claim(store, &alone, &node).await.claimed.len(), 1);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// DUR-13: whatever the number of those that wait.
async fn who_waits_for_a_turn_stands_in_nobodys_way(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut jobs: Vec<NewJob> = (0..70).map(|n| one(&format!("busy{n}"), "busy")).collect();
    jobs.push(one("free", "free"));
    jobs.push(NewJob { part: JobPart { limit: None, ..one("b", "x").part }, ..one("bare", "x") });
    let run = begin(store, "r", &node, jobs).await;
    let claims = claim(store, &run, &node).await;
    assert_eq!((names(&claims), claims.parked.len()), (vec!["s/busy0", "s/free", "s/bare"], 69));
    assert_eq!(verify(store).await.unwrap(), []);
}

/// A service that does not admit is waited for first: nobody has a turn with a key for that.
async fn a_job_that_waits_for_a_service_has_no_turn(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let app = ServiceKey::shared("app");
    let using = one("a", "app");
    let using = NewJob { part: JobPart { uses: vec![app.clone()], ..using.part.clone() }, ..using };
    let run = begin(store, "r", &node, vec![using]).await;
    let admits = |it: Admits| Admissions {
        services: vec![(app.clone(), it)],
        turns: true,
        ..Admissions::default()
    };
    let closed = Closed {
        cause: "service app: down".to_owned(),
        wake_at: store.now().after(Duration::from_secs(30)),
        max_wait: Duration::from_secs(60),
        then: AfterWait::Skip,
        is_final: false,
        hold: true,
    };
    let claims = store.claim_by(&run, &node, 8, admits(Admits::No(closed.clone()))).await.unwrap();
    assert_eq!((claims.deferred.len(), claims.parked.len()), (1, 0));
    let other = begin(store, "other", &node, vec![one("a", "app")]).await;
    let held = claim(store, &other, &node).await;
    assert_eq!(names(&held), ["s/a"]);
    let job = only_job(store, &run).await.id;
    assert!(store.wake(&run, job, "it is there", None).await.unwrap());
    let claims = store.claim_by(&run, &node, 8, admits(Admits::Yes)).await.unwrap();
    assert_eq!((claims.deferred.len(), claims.parked.len()), (0, 1));
    end(store, &other, &held, JobState::Succeeded).await;
    // Its turn, and the service is down: it has no turn, and waits for the service.
    let claims = store.claim_by(&run, &node, 8, admits(Admits::No(closed))).await.unwrap();
    assert_eq!((claims.claimed.len(), claims.deferred.len(), claims.parked.len()), (0, 1, 0));
    let record = only_job(store, &run).await;
    assert_eq!(
        (record.state, record.keyed.map(|it| it.turn)),
        (JobState::Deferred, Some(Turn::None))
    );
    let third = begin(store, "third", &node, vec![one("a", "app")]).await;
    assert_eq!(names(&claim(store, &third, &node).await), ["s/a"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// DUR-13: what has the place of its stage may be behind it, and others need no place there.
async fn who_has_no_place_in_its_stage_stands_in_nobodys_way(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let first = begin(store, "first", &node, vec![one("a", "app")]).await;
    let mut held = claim(store, &first, &node).await;
    let part = JobPart { kind: JobKind::Group, ..JobPart::default() };
    let group = NewJob { stage: "s".to_owned(), part, ..new_job("s/g", None) };
    let stages = vec![NewStage { concurrency: Some(1), ..stage() }];
    let new = NewRun { stages, jobs: vec![one("a", "app"), group], ..new_run("narrow", &node) };
    let narrow = new.run.clone();
    store.create_run(new).await.unwrap();
    assert_eq!(claim(store, &narrow, &node).await.parked.len(), 1);
    // The group takes the place that the first has left, and its child waits behind that one.
    let group = store.run(&narrow).await.unwrap().jobs[1].id;
    let part = JobPart { parent: Some(JobKey::new("s/g")), ..one("c", "app").part };
    let child = NewJob { stage: "s".to_owned(), part, ..new_job("s/g/c", None) };
    let jobs = vec![JobStep::new(group, JobState::Ready, JobState::Joining)];
    let revision = store.revision(&narrow).await.unwrap();
    let expanded = Decision { jobs, new_jobs: vec![child], ..decision(&narrow, revision) };
    store.commit(expanded).await.unwrap();
    assert_eq!(claim(store, &narrow, &node).await.parked.len(), 1);
    let other = begin(store, "other", &node, vec![one("a", "app")]).await;
    assert_eq!(claim(store, &other, &node).await.parked.len(), 1);
    end(store, &first, &held, JobState::Succeeded).await;
    assert_eq!(claim(store, &other, &node).await, Claims::default(), "the child has waited longer");
    for (run, name) in [(&narrow, "s/g/c"), (&other, "s/a")] {
        held = claim(store, run, &node).await;
        assert_eq!(names(&held), [name]);
        end(store, run, &held, JobState::Succeeded).await;
    }
    // With its place it has its turn again.
    let revision = store.revision(&narrow).await.unwrap();
    let result = Some(serde_json::json!("joined"));
    let joined = JobStep { result, ..JobStep::new(group, JobState::Joining, JobState::Succeeded) };
    store.commit(Decision { jobs: vec![joined], ..decision(&narrow, revision) }).await.unwrap();
    assert_eq!(names(&claim(store, &narrow, &node).await), ["s/a"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// What one turn costs does not grow with those that wait for it.
async fn a_look_without_room_wakes_as_many_as_can_go(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let first = begin(store, "first", &node, vec![one("a", "app")]).await;
    let held = claim(store, &first, &node).await;
    let jobs = (0..9).map(|n| one(&n.to_string(), "app")).collect();
    let run = begin(store, "r", &node, jobs).await;
    assert_eq!(claim(store, &run, &node).await.parked.len(), 9);
    end(store, &first, &held, JobState::Succeeded).await;
    let look = async || store.claim_by(&run, &node, 0, with_turns()).await.unwrap();
    assert_eq!(look().await.ready.len(), 1);
    assert_eq!(look().await, Claims::default());
    let claims = claim(store, &run, &node).await;
    assert_eq!((names(&claims), claims.parked.len()), (vec!["s/0"], 0));
    assert_eq!(verify(store).await.unwrap(), []);
}

async fn a_key_that_is_none_is_refused(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    for (key, is_refused) in
        [(String::new(), true), ("k".repeat(257), true), ("k".repeat(256), false)]
    {
        let id = format!("of{}", key.len());
        let new =
            NewRun { stages: vec![stage()], jobs: vec![one("a", &key)], ..new_run(&id, &node) };
        assert_eq!(store.create_run(new).await.is_err(), is_refused, "{}", key.len());
    }
}

/// Jobs that end while they wait for their turn, or before they are claimed with it: by a cancel, a skip, a failed wait.
async fn end_waiting(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let first = begin(store, "first", &node, vec![one("a", "app")]).await;
    let held = claim(store, &first, &node).await;
    let jobs = (0..4).map(|n| one(&n.to_string(), "app")).collect();
    let run = begin(store, "r", &node, jobs).await;
    assert_eq!(claim(store, &run, &node).await.parked.len(), 4);
    end(store, &first, &held, JobState::Succeeded).await;
    let woken = store.claim_by(&run, &node, 0, with_turns()).await.unwrap();
    assert_eq!(woken.ready.len(), 1);
    let ends = [JobState::Cancelled, JobState::Skipped, JobState::Failed, JobState::Cancelled];
    let jobs = store.run(&run).await.unwrap().jobs;
    let step = |(job, to): (&JobRecord, JobState)| JobStep::new(job.id, job.state, to);
    let jobs = jobs.iter().zip(ends).map(step).collect();
    let revision = store.revision(&run).await.unwrap();
    store.commit(Decision { jobs, ..decision(&run, revision) }).await.unwrap();
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Who waits for its turn in vain counts for nobody any more: what ends, as a run with all that waits in it does, is looked through
/// by no claim.
#[test]
fn who_has_ended_is_not_among_those_that_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = stores::open(&path);
    stores::served(&store, || stores::block_on(end_waiting(&store)));
    drop(store);
    let beside = rusqlite::Connection::open(&path).unwrap();
    let waits = "SELECT count(*) FROM keyed WHERE parked_since IS NOT NULL";
    assert_eq!(beside.query_row(waits, [], |row| row.get::<_, i64>(0)), Ok(0));
}

/// The same on a server.
#[cfg(feature = "postgres")]
#[test]
fn who_has_ended_is_not_among_those_that_wait_on_a_server() {
    use crate::postgres;
    let Some(database) = postgres::database("ended") else { return };
    let store = postgres::open(&database.url(), postgres::options());
    postgres::served(&store, || postgres::block_on(end_waiting(&store)));
    let waits = "SELECT count(*) FROM perennial.keyed WHERE parked_since IS NOT NULL";
    assert_eq!(database.sql(waits).unwrap(), "0\n");
}

/// Proves INV-ST-20.
/// Whoever is faster: four nodes on one server that take what they get never have more of a key under way than its places.
#[cfg(feature = "postgres")]
#[test]
fn rivals_share_a_key() {
    let case = async |store: &dyn Store| {
        let most = NonZeroU32::new(2).unwrap();
        let mut runs = Vec::new();
        for id in 0..4 {
            let node = store.register_node_on(&format!("n{id}"), EXCLUSIVE).await.unwrap().node;
            let job = |n: i32| {
                let limit = ConcurrencyKey { key: format!("k{}", n % 2), most };
                keyed(&n.to_string(), JobKind::Activity, limit)
            };
            let run = begin(store, &id.to_string(), &node, (0..20).map(job).collect()).await;
            runs.push((run, node));
        }
        // From behind a claim to before its end: never longer than the turn.
        let under_way = [AtomicU32::new(0), AtomicU32::new(0)];
        let (under_way, most_seen) = (&under_way, &AtomicU32::new(0));
        let of = |key: &JobKey| {
            &under_way[usize::from(key.as_str().ends_with(['1', '3', '5', '7', '9']))]
        };
        let work = |run: RunId, node: NodeRef| async move {
            let mut done = 0;
            while done < 20 {
                let claims = claim(store, &run, &node).await;
                for one in &claims.claimed {
                    let now = of(&one.lease.key).fetch_add(1, Ordering::SeqCst) + 1;
                    most_seen.fetch_max(now, Ordering::SeqCst);
                }
                for one in &claims.claimed {
                    drop(store.run(&run).await.unwrap());
                    let held = Claims { claimed: vec![one.clone()], ..Claims::default() };
                    of(&one.lease.key).fetch_sub(1, Ordering::SeqCst);
                    end(store, &run, &held, JobState::Succeeded).await;
                    done += 1;
                }
            }
        };
        let mut all = Vec::new();
        for (run, node) in runs.clone() {
            all.push(work(run, node));
        }
        let mut all = all.into_iter();
        let (a, b, c, d) = (all.next(), all.next(), all.next(), all.next());
        let Some((((a, b), c), d)) = a.zip(b).zip(c).zip(d) else { panic!("four") };
        tokio::join!(a, b, c, d);
        assert_eq!(most_seen.load(Ordering::SeqCst), most.get());
        assert_eq!(verify(store).await.unwrap(), []);
    };
    crate::postgres::on_postgres("rivals_share_a_key", crate::postgres::options(), case);
}

/// Whoever takes several turns at once takes them in one order, whatever that of the jobs: no two nodes wait for each other.
#[cfg(feature = "postgres")]
#[test]
fn rivals_take_several_turns_without_a_deadlock() {
    const KEYS: usize = 8;
    let case = async |store: &dyn Store| {
        let mut nodes = Vec::new();
        for id in ["up", "down"] {
            nodes.push(store.register_node_on(id, EXCLUSIVE).await.unwrap().node);
        }
        for round in 0..6 {
            let mut runs = Vec::new();
            for (id, node) in nodes.iter().enumerate() {
                let key = |n: usize| if id == 0 { n } else { KEYS - 1 - n };
                let job = |n: usize| one(&n.to_string(), &format!("k{}", key(n)));
                let jobs = (0..KEYS).map(job).collect();
                runs.push(begin(store, &format!("{round}-{id}"), node, jobs).await);
            }
            let work = async |place: usize| {
                let mut done = 0;
                while done < KEYS {
                    for held in claim(store, &runs[place], &nodes[place]).await.claimed {
                        let held = Claims { claimed: vec![held], ..Claims::default() };
                        end(store, &runs[place], &held, JobState::Succeeded).await;
                        done += 1;
                    }
                }
            };
            tokio::join!(work(0), work(1));
        }
        assert_eq!(store.status().server.unwrap().retries, 0, "somebody was in the way of another");
        assert_eq!(verify(store).await.unwrap(), []);
    };
    let name = "rivals_take_several_turns_without_a_deadlock";
    crate::postgres::on_postgres(name, crate::postgres::options(), case);
}

/// What one turn costs is about what a look without room costs, however many wait for it: also on a server that has not counted yet.
#[cfg(feature = "postgres")]
#[test]
fn a_turn_of_a_long_queue_costs_little() {
    let case = async |store: &dyn Store| {
        let terms = NodeTerms { ttl: Duration::from_secs(600), exclusive: true };
        let node = store.register_node_on("n", terms).await.unwrap().node;
        let (mut look, mut turn) = (Duration::MAX, Duration::MAX);
        // How a statement is answered is decided while there is next to nothing, and kept.
        for many in [40, 2_000] {
            let jobs = (0..many).map(|n| one(&n.to_string(), "app")).collect();
            let run = begin(store, &format!("of{many}"), &node, jobs).await;
            let mut held = claim(store, &run, &node).await;
            while !claim(store, &run, &node).await.parked.is_empty() {}
            (look, turn) = (Duration::MAX, Duration::MAX);
            for _ in 0..many.min(39) {
                let begun = store.now();
                assert_eq!(claim(store, &run, &node).await, Claims::default());
                look = look.min(store.now().since(begun));
                end(store, &run, &held, JobState::Succeeded).await;
                let begun = store.now();
                held = claim(store, &run, &node).await;
                turn = turn.min(store.now().since(begun));
                assert_eq!(held.claimed.len(), 1);
            }
            end(store, &run, &held, JobState::Succeeded).await;
        }
        assert!(turn < look * 15, "a turn takes {turn:?}, a look {look:?}");
    };
    let name = "a_turn_of_a_long_queue_costs_little";
    crate::postgres::on_postgres(name, crate::postgres::options(), case);
}
