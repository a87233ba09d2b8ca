//! What comes first of the jobs of a run, and what a run says of itself among others (DUR-12).

use perennial_core::{
    Timestamp,
    run::{AttemptEnd, FeedKind, JobKey, JobKind, JobState, Priority, RunId, StageState},
};
use perennial_store::{
    Admissions, Claims, Decision, JobPart, JobStep, NewJob, NewRun, NewStage, NodeRef, Report,
    Store, StoreError, verify,
};
use serde_json::json;

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    the_most_urgent_jobs_are_claimed_first,
    a_claimer_says_which_priority_comes_first,
    of_one_priority_the_order_is_that_in_which_jobs_are_due,
    places_of_a_stage_go_to_what_comes_first,
    what_a_process_may_have_died_of_comes_last_whatever_it_says,
    a_run_has_a_priority_that_can_be_changed,
    a_claim_tells_what_it_has_written,
    children_that_are_claimed_take_no_place_from_others,
);

fn of(number: i64) -> Priority {
    Priority::new(number).unwrap()
}

/// A stage with that many places, or as many as it wants.
fn stage(name: &str, concurrency: Option<u32>) -> NewStage {
    let (state, feed) = (StageState::Sealed, FeedKind::Static);
    NewStage { state, feed, concurrency, ..NewStage::driven(name) }
}

fn job(stage: &str, name: &str, priority: i64) -> NewJob {
    let part = JobPart { kind: JobKind::Activity, priority: of(priority), ..JobPart::default() };
    NewJob { stage: stage.to_owned(), part, ..new_job(&format!("{stage}/{name}"), None) }
}

async fn begin(store: &dyn Store, stages: Vec<NewStage>, jobs: Vec<NewJob>) -> (RunId, NodeRef) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let new = NewRun { stages, jobs, ..new_run("r", &node) };
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    (run, node)
}

fn names(claims: &Claims) -> Vec<&str> {
    claims.claimed.iter().map(|it| it.lease.key.as_str()).collect()
}

/// Proves INV-ST-21.
async fn the_most_urgent_jobs_are_claimed_first(store: &dyn Store) {
    let told = [("a", -50), ("b", 0), ("c", 75), ("d", 50), ("e", 75), ("f", 100), ("g", -100)];
    let jobs = told.map(|(name, priority)| job("s", name, priority)).to_vec();
    let (run, node) = begin(store, vec![stage("s", None)], jobs).await;
    let view = store.run(&run).await.unwrap();
    let kept: Vec<i64> = view.jobs.iter().map(|it| it.priority.number()).collect();
    assert_eq!(kept, told.map(|(_, priority)| priority));
    let mut came = Vec::new();
    for most in [1, 2, 3, 8] {
        let claims = store.claim_by(&run, &node, most, Admissions::default()).await.unwrap();
        came.extend(names(&claims).into_iter().map(str::to_owned));
    }
    assert_eq!(came, ["s/f", "s/c", "s/e", "s/d", "s/b", "s/a", "s/g"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

async fn a_claimer_says_which_priority_comes_first(store: &dyn Store) {
    let jobs = vec![job("s", "a", 75), job("s", "b", 0), job("s", "c", -50), job("s", "d", -50)];
    let (run, node) = begin(store, vec![stage("s", None)], jobs).await;
    let aged = |order: &[i64]| Admissions {
        order: order.iter().map(|number| of(*number)).collect(),
        ..Admissions::default()
    };
    let claims = store.claim_by(&run, &node, 3, aged(&[-50, 75])).await.unwrap();
    assert_eq!(names(&claims), ["s/c", "s/d", "s/a"]);
    // What it does not name it does not ask for.
    let claims = store.claim_by(&run, &node, 8, aged(&[75, 50])).await.unwrap();
    assert_eq!(names(&claims), [""; 0]);
    let claims = store.claim_by(&run, &node, 8, aged(&[50, 0])).await.unwrap();
    assert_eq!(names(&claims), ["s/b"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// A report that lets its job be tried again at once.
fn again(claims: &Claims) -> Report {
    // Due since long ago, which is later than at once.
    let run_after = Some(Timestamp::from_micros(1));
    let lease = &claims.claimed[0].lease;
    Report { run_after, ..report(lease, AttemptEnd::Error, JobState::Ready) }
}

async fn of_one_priority_the_order_is_that_in_which_jobs_are_due(store: &dyn Store) {
    let jobs = vec![job("s", "a", 50), job("s", "b", 50), job("s", "c", 0)];
    let (run, node) = begin(store, vec![stage("s", None)], jobs).await;
    let claims = store.claim_by(&run, &node, 1, Admissions::default()).await.unwrap();
    assert_eq!(names(&claims), ["s/a"]);
    let revision = store.revision(&run).await.unwrap();
    let report = Some(again(&claims));
    store.commit(Decision { report, ..decision(&run, revision) }).await.unwrap();
    let claims = store.claim_by(&run, &node, 8, Admissions::default()).await.unwrap();
    assert_eq!(names(&claims), ["s/b", "s/a", "s/c"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Proves INV-10.
async fn places_of_a_stage_go_to_what_comes_first(store: &dyn Store) {
    let stages = vec![stage("few", Some(2)), stage("many", Some(100))];
    let mut jobs = Vec::new();
    for (name, priority) in [("a", 0), ("b", 10), ("c", 20)] {
        jobs.push(job("few", name, priority));
        jobs.push(job("many", name, priority));
    }
    let (run, node) = begin(store, stages, jobs).await;
    let claims = store.claim_by(&run, &node, 5, Admissions::default()).await.unwrap();
    assert_eq!(names(&claims), ["few/c", "many/c", "few/b", "many/b", "many/a"]);
    let claims = store.claim_by(&run, &node, 5, Admissions::default()).await.unwrap();
    assert_eq!(names(&claims), [""; 0], "its two places are taken");
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Proves INV-10.
/// The place of children is that of their group: those that a claim takes leave the places of their stage to others.
async fn children_that_are_claimed_take_no_place_from_others(store: &dyn Store) {
    let group = job("s", "g", 0);
    let part = JobPart { kind: JobKind::Group, ..group.part };
    let group = NewJob { part, ..group };
    let (run, node) = begin(store, vec![stage("s", Some(2))], vec![group, job("s", "a", 0)]).await;
    let parent = Some(JobKey::new("s/g"));
    let jobs = store.run(&run).await.unwrap().jobs;
    let expanded = Decision {
        jobs: vec![JobStep::new(jobs[0].id, JobState::Ready, JobState::Joining)],
        new_jobs: ["c", "d"]
            .map(|name| {
                let child = job("s", &format!("g/{name}"), 10);
                let part = JobPart { parent: parent.clone(), ..child.part };
                NewJob { part, ..child }
            })
            .to_vec(),
        ..decision(&run, 1)
    };
    store.commit(expanded).await.unwrap();
    let claims = store.claim_by(&run, &node, 5, Admissions::default()).await.unwrap();
    assert_eq!(names(&claims), ["s/g/c", "s/g/d", "s/a"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Whoever follows a run need not read what a claim has written.
async fn a_claim_tells_what_it_has_written(store: &dyn Store) {
    let jobs = vec![job("s", "a", 0), job("s", "b", 0), job("s", "c", 0)];
    let (run, node) = begin(store, vec![stage("s", None)], jobs).await;
    for most in [1, 2] {
        let next = store.run(&run).await.unwrap().run.next_seq;
        let claims = store.claim_by(&run, &node, most, Admissions::default()).await.unwrap();
        assert_eq!(claims.claimed.len(), most as usize);
        assert_eq!(claims.events.len(), most as usize);
        assert_eq!(claims.events, store.events(run.as_str(), next, ALL).await.unwrap());
    }
    let claims = store.claim_by(&run, &node, 9, Admissions::default()).await.unwrap();
    assert_eq!(claims, Claims::default(), "and when it has come to nothing, nothing");
}

/// SM-31.
async fn what_a_process_may_have_died_of_comes_last_whatever_it_says(store: &dyn Store) {
    let jobs = vec![job("s", "a", 100), job("s", "b", -100), job("s", "c", 0)];
    let (run, node) = begin(store, vec![stage("s", None)], jobs).await;
    let claims = store.claim_by(&run, &node, 1, Admissions::default()).await.unwrap();
    assert_eq!(names(&claims), ["s/a"]);
    // Its process is started again.
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    assert_eq!(store.rescue(Some(&run), ALL).await.unwrap().len(), 1);
    let claims = store.claim_by(&run, &node, 8, Admissions::default()).await.unwrap();
    assert_eq!(names(&claims), ["s/c", "s/b", "s/a"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// DUR-69.
async fn a_run_has_a_priority_that_can_be_changed(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    for (id, priority) in [("low", -50), ("normal", 0)] {
        let new = NewRun { priority: of(priority), ..new_run(id, &node) };
        store.create_run(new).await.unwrap();
        let events = store.events(id, 1, 1).await.unwrap();
        let told = events[0].data.get("priority").cloned();
        assert_eq!(
            told,
            (priority != 0).then(|| json!(priority)),
            "nothing is said of what is normal"
        );
    }
    let run = run_id("low");
    let change =
        |number, revision| Decision { priority: Some(of(number)), ..decision(&run, revision) };
    store.commit(change(75, 1)).await.unwrap();
    let late = store.commit(change(100, 1)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(history(store, "low").await.last().map(String::as_str), Some("priority_changed"));
    let (view, list) = (store.run(&run).await.unwrap(), store.runs(9).await.unwrap());
    let open = store.open_runs().await.unwrap();
    let listed = list.iter().find(|it| it.run == run).unwrap();
    let is_open = open.iter().find(|it| it.run == run).unwrap();
    assert_eq!((view.run.priority, listed.priority, is_open.priority), (of(75), of(75), of(75)));
    assert_eq!(is_open.created_at, view.run.created_at);
    assert_eq!(verify(store).await.unwrap(), []);
}
