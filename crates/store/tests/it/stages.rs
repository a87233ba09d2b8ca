//! Several stages, groups of jobs, and the places of a stage.

use std::time::Duration;

use perennial_core::{
    run::{
        AttemptEnd, FeedKind, JobKey, JobKind, JobState, RunState, SkipReason, StageOutcome,
        StageState,
    },
    service::ServiceKey,
};
use perennial_store::{
    Admissions, Admits, AfterWait, Closed, Decision, JobPart, JobStep, NewJob, NewRun, NewStage,
    NodeRef, Store, StoreError, verify,
};

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    groups_move_as_the_core_says,
    a_group_has_all_of_its_children_or_none,
    a_claim_takes_no_more_than_a_stage_has_places_for,
    a_run_begins_with_its_stages_as_planned,
    a_final_set_of_jobs_takes_children_only,
    a_job_is_claimed_when_all_that_it_uses_admit,
    who_is_not_admitted_waits_behind_nobody,
);

fn stage(name: &str, state: StageState, concurrency: Option<u32>) -> NewStage {
    let outcome = (state == StageState::Closed).then_some(StageOutcome::Skipped);
    let feed = FeedKind::Static;
    NewStage { state, outcome, feed, concurrency, ..NewStage::driven(name) }
}

fn job(stage: &str, key: &str, kind: JobKind) -> NewJob {
    let part = JobPart { kind, ..JobPart::default() };
    NewJob { stage: stage.to_owned(), part, ..new_job(&format!("{stage}/{key}"), None) }
}

fn child(group: &str, key: &str) -> NewJob {
    let (stage, _) = group.split_once('/').unwrap();
    let parent = Some(JobKey::new(group));
    let part = JobPart { kind: JobKind::Activity, parent, ..JobPart::default() };
    NewJob { stage: stage.to_owned(), part, ..new_job(&format!("{group}/{key}"), None) }
}

fn staged(id: &str, node: &NodeRef, stages: Vec<NewStage>, jobs: Vec<NewJob>) -> NewRun {
    NewRun { stages, jobs, ..new_run(id, node) }
}

/// Proves INV-5, R3.6.
/// Every pair of states of a group, which is never leased; one whose children have not ended does not end.
async fn groups_move_as_the_core_says(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    for from in [JobState::Ready, JobState::Joining] {
        for to in JobState::ALL {
            for has_child in [false, true] {
                let id = format!("{from}-{to}-{has_child}");
                let stages = vec![stage("s", StageState::Sealed, None)];
                let new = staged(&id, &node, stages, vec![job("s", "g", JobKind::Group)]);
                let run = new.run.clone();
                store.create_run(new).await.unwrap();
                let group = only_job(store, &run).await.id;
                let mut revision = 1;
                if from == JobState::Joining {
                    let jobs = vec![JobStep::new(group, JobState::Ready, from)];
                    let new_jobs = if has_child { vec![child("s/g", "c")] } else { Vec::new() };
                    let first = Decision { jobs, new_jobs, ..decision(&run, revision) };
                    revision = committed(store.commit(first).await.unwrap()).0;
                } else if has_child {
                    continue;
                }
                let deferral = (*to == JobState::Deferred).then(|| deferral(store.now()));
                let result = to.is_terminal().then(|| serde_json::json!("joined"));
                let jobs = vec![JobStep { deferral, result, ..JobStep::new(group, from, *to) }];
                let outcome = store.commit(Decision { jobs, ..decision(&run, revision) }).await;
                let is_own = matches!(to, JobState::Leased | JobState::Suspended);
                if from.enter(*to).is_ok() && !is_own && !has_child {
                    assert!(outcome.is_ok(), "{id}: {outcome:?}");
                } else {
                    let refused = matches!(outcome, Err(StoreError::InvalidState(_)));
                    assert!(refused, "{id}: {outcome:?}");
                }
            }
        }
    }
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Proves INV-8, R3.1, RF5, B12.
/// Children come with the step of their group, and once.
async fn a_group_has_all_of_its_children_or_none(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let stages = vec![stage("s", StageState::Sealed, Some(1))];
    let new = staged("r", &node, stages, vec![job("s", "g", JobKind::Group)]);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let group = only_job(store, &run).await.id;
    let expand = |revision| Decision {
        jobs: vec![JobStep::new(group, JobState::Ready, JobState::Joining)],
        new_jobs: vec![child("s/g", "a"), child("s/g", "b")],
        ..decision(&run, revision)
    };
    // A child without its group's step, of a group that is not there, and the same child twice.
    let early = Decision { jobs: Vec::new(), ..expand(1) };
    assert!(matches!(store.commit(early).await, Err(StoreError::InvalidState(_))));
    let orphan = Decision { new_jobs: vec![child("s/h", "a")], ..expand(1) };
    assert!(matches!(store.commit(orphan).await, Err(StoreError::NotFound { what: "group", .. })));
    let twice = Decision { new_jobs: vec![child("s/g", "a"), child("s/g", "a")], ..expand(1) };
    assert!(matches!(store.commit(twice).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.run(&run).await.unwrap().jobs.len(), 1);
    // Nobody claims a group; its children are claimed although it has the one place of its stage.
    assert_eq!(store.claim(&run, &node, 9).await.unwrap(), []);
    let revision = committed(store.commit(expand(1)).await.unwrap()).0;
    // Another decider that did the same finds that it is done.
    assert!(matches!(store.commit(expand(1)).await, Err(StoreError::Conflict { .. })));
    let claimed = store.claim(&run, &node, 9).await.unwrap();
    let view = store.run(&run).await.unwrap();
    let parents: Vec<_> =
        view.jobs.iter().map(|job| job.parent.as_ref().map(JobKey::as_str)).collect();
    assert_eq!(parents, [None, Some("s/g"), Some("s/g")]);
    assert_eq!(claimed.len(), 2);
    assert_eq!(store.runs(1).await.unwrap()[0].jobs, 1, "children count in their group only");
    let end = JobStep::new(group, JobState::Joining, JobState::Failed);
    let end = Decision { jobs: vec![end], ..decision(&run, revision) };
    assert!(matches!(store.commit(end.clone()).await, Err(StoreError::InvalidState(_))));
    let mut revision = revision;
    for claimed in claimed {
        let first =
            report(&claimed.lease, perennial_core::run::AttemptEnd::Succeeded, JobState::Succeeded);
        let first = Decision { report: Some(first), ..decision(&run, revision) };
        revision = committed(store.commit(first).await.unwrap()).0;
    }
    store.commit(Decision { expected_revision: revision, ..end }).await.unwrap();
    let kinds = history(store, run.as_str()).await;
    let joins = kinds.iter().filter(|kind| kind.as_str() == "group_joined").count();
    assert_eq!((joins, kinds.last().unwrap().as_str()), (1, "job_failed"));
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Proves INV-10, TRAP-4, B4.
/// Jobs come in the order in which they were planned. Of two stages, one with two places and one without a limit;
/// retries and suspects are no exception.
async fn a_claim_takes_no_more_than_a_stage_has_places_for(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let stages =
        vec![stage("s", StageState::Sealed, Some(2)), stage("t", StageState::Sealed, None)];
    let jobs = |stage: &'static str, count: usize| {
        (0..count).map(move |number| job(stage, &number.to_string(), JobKind::Activity))
    };
    let all = jobs("s", 5).chain(jobs("t", 3)).collect();
    let new = staged("r", &node, stages, all);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let keys = |claimed: &[perennial_store::Claimed]| -> Vec<String> {
        claimed.iter().map(|claimed| claimed.lease.key.to_string()).collect()
    };
    let first = store.claim(&run, &node, 3).await.unwrap();
    assert_eq!(keys(&first), ["s/0", "s/1", "t/0"], "in the order they were made");
    let second = store.claim(&run, &node, 9).await.unwrap();
    assert_eq!(keys(&second), ["t/1", "t/2"]);
    assert_eq!(store.claim(&run, &node, 9).await.unwrap(), []);
    // One that is given back frees its place, and one that died as well.
    store.release(&first[0].lease, "test").await.unwrap();
    assert_eq!(keys(&store.claim(&run, &node, 9).await.unwrap()), ["s/0"]);
    let next = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    store.rescue(Some(&run), 99).await.unwrap();
    let third = store.claim(&run, &next, 9).await.unwrap();
    // Suspects come last, and one at a time.
    assert_eq!(keys(&third), ["s/2", "s/3", "t/0"]);
    assert_eq!(verify(store).await.unwrap(), []);
}

async fn a_run_begins_with_its_stages_as_planned(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let fed = NewStage {
        feed: FeedKind::PerItem,
        upstream: Some("a".to_owned()),
        required: false,
        weight: 7,
        ..stage("d", StageState::Open, Some(3))
    };
    let stages = vec![
        stage("a", StageState::Sealed, Some(1)),
        stage("b", StageState::Closed, None),
        stage("c", StageState::Waiting, None),
        fed,
    ];
    let skipped = NewJob {
        part: JobPart {
            skipped: Some(SkipReason::UnknownTool),
            ..job("a", "n", JobKind::Activity).part
        },
        ..job("a", "n", JobKind::Activity)
    };
    let new = staged("r", &node, stages, vec![job("a", "m", JobKind::Activity), skipped]);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let view = store.run(&run).await.unwrap();
    let states: Vec<_> =
        view.stages.iter().map(|stage| (stage.stage.as_str(), stage.state)).collect();
    let expected = [
        ("a", StageState::Sealed),
        ("b", StageState::Closed),
        ("c", StageState::Waiting),
        ("d", StageState::Open),
    ];
    assert_eq!(states, expected);
    let fed = &view.stages[3];
    assert_eq!((fed.feed, fed.upstream.as_deref()), (FeedKind::PerItem, Some("a")));
    assert_eq!((fed.required, fed.weight, fed.concurrency), (false, 7, Some(3)));
    let jobs: Vec<_> = view.jobs.iter().map(|job| (job.kind, job.state, job.skipped)).collect();
    let unknown = Some(SkipReason::UnknownTool);
    let expected = [
        (JobKind::Activity, JobState::Ready, None),
        (JobKind::Activity, JobState::Skipped, unknown),
    ];
    assert_eq!(jobs, expected);
    assert_eq!((view.run.state, verify(store).await.unwrap()), (RunState::Running, Vec::new()));
}

/// Proves INV-2.
async fn a_final_set_of_jobs_takes_children_only(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let stages = vec![stage("s", StageState::Sealed, None)];
    let new = staged("r", &node, stages, vec![job("s", "g", JobKind::Group)]);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let late =
        Decision { new_jobs: vec![job("s", "late", JobKind::Activity)], ..decision(&run, 1) };
    assert!(matches!(store.commit(late).await, Err(StoreError::InvalidState(_))));
    let group = only_job(store, &run).await.id;
    let jobs = vec![JobStep::new(group, JobState::Ready, JobState::Joining)];
    let new_jobs = vec![child("s/g", "c")];
    let expanded = Decision { jobs, new_jobs, ..decision(&run, 1) };
    store.commit(expanded).await.unwrap();
    assert_eq!(store.run(&run).await.unwrap().jobs.len(), 2);
}

fn using(key: &str, services: &[&str]) -> NewJob {
    let uses = services.iter().map(|service| ServiceKey::shared(*service)).collect();
    let job = job("s", key, JobKind::Activity);
    NewJob { part: JobPart { uses, ..job.part.clone() }, ..job }
}

fn closed(store: &dyn Store, cause: &str, hold: bool) -> Closed {
    let (cause, wake_at) = (cause.to_owned(), store.now().after(Duration::from_secs(30)));
    let (max_wait, then) = (Duration::from_secs(60), AfterWait::Skip);
    Closed { cause, wake_at, max_wait, then, is_final: false, hold }
}

fn admissions(services: &[(&str, Admits)]) -> Admissions {
    let services = services.iter().map(|(of, it)| (ServiceKey::shared(*of), it.clone()));
    Admissions { services: services.collect() }
}

async fn holds(store: &dyn Store, service: &str) -> usize {
    store.holds(ServiceKey::shared(service)).await.unwrap().len()
}

/// DUR-13, DUR-40, DUR-80: its holds come with the claim, or with the wait, and go with its end.
async fn a_job_is_claimed_when_all_that_it_uses_admit(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let jobs = vec![using("both", &["app", "db"])];
    let new = staged("r", &node, vec![stage("s", StageState::Sealed, None)], jobs);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let both = [ServiceKey::shared("app"), ServiceKey::shared("db")];
    assert_eq!(only_job(store, &run).await.uses, both);
    // Of which nothing is known it is left alone.
    assert!(store.claim(&run, &node, 8).await.unwrap().is_empty());
    let one = admissions(&[("app", Admits::Yes)]);
    let claims = store.claim_by(&run, &node, 8, one).await.unwrap();
    assert!(claims.claimed.is_empty() && claims.deferred.is_empty());
    assert_eq!(
        (holds(store, "app").await, only_job(store, &run).await.state),
        (0, JobState::Ready)
    );
    // It is held while it is waited for, but for what there is no room for.
    for (hold, held) in [(false, 0), (true, 1)] {
        let no = Admits::No(closed(store, "service db: starting", hold));
        let known = admissions(&[("app", Admits::Yes), ("db", no)]);
        let claims = store.claim_by(&run, &node, 8, known).await.unwrap();
        let job = only_job(store, &run).await;
        assert_eq!((claims.claimed.len(), job.state), (0, JobState::Deferred));
        assert_eq!(claims.deferred, [(job.id, job.deferral.clone().unwrap())]);
        // It is no child.
        assert_eq!(job.deferral.unwrap().then, AfterWait::Fail);
        assert_eq!((job.attempt, job.attempts_used), (0, 0));
        assert_eq!((holds(store, "app").await, holds(store, "db").await), (1, held));
        assert!(store.wake(&run, job.id, "it is there", None).await.unwrap());
    }
    let known = admissions(&[("app", Admits::Yes), ("db", Admits::Yes)]);
    let claims = store.claim_by(&run, &node, 8, known).await.unwrap();
    let lease = claims.claimed[0].lease.clone();
    assert_eq!((lease.attempt, holds(store, "db").await), (1, 1));
    store.release(&lease, "enough").await.unwrap();
    assert_eq!(holds(store, "db").await, 1, "its job goes on");
    let (revision, job) = (store.revision(&run).await.unwrap(), lease.job);
    let skipped = JobStep {
        skipped: Some(SkipReason::Operator),
        ..JobStep::new(job, JobState::Ready, JobState::Skipped)
    };
    let end = Decision { jobs: vec![skipped], ..decision(&run, revision) };
    store.commit(end).await.unwrap();
    assert_eq!((holds(store, "app").await, holds(store, "db").await), (0, 0));
    assert_eq!(verify(store).await.unwrap(), []);
}

/// DUR-13: those that are not admitted leave the queue in the claim that meets them, whatever their number, and take no
/// place; of a service that is tried out no more come in than may.
async fn who_is_not_admitted_waits_behind_nobody(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut jobs: Vec<NewJob> = (0..70).map(|n| using(&format!("app{n}"), &["app"])).collect();
    jobs.extend((0..3).map(|n| using(&format!("db{n}"), &["db"])));
    jobs.push(using("last", &[]));
    let new = staged("r", &node, vec![stage("s", StageState::Sealed, Some(2))], jobs);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let no = Admits::No(closed(store, "service app: down", true));
    let then = closed(store, "service db: it is tried out", true);
    let known = admissions(&[("app", no), ("db", Admits::UpTo { most: 1, then })]);
    let claims = store.claim_by(&run, &node, 32, known).await.unwrap();
    let claimed: Vec<&str> = claims.claimed.iter().map(|it| it.lease.key.as_str()).collect();
    assert_eq!((claimed, claims.deferred.len()), (vec!["s/db0", "s/last"], 72));
    let ends: Vec<AttemptEnd> =
        store.run(&run).await.unwrap().attempts.iter().filter_map(|one| one.end).collect();
    assert_eq!(ends, []);
    assert_eq!(verify(store).await.unwrap(), []);
}
