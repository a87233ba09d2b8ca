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
    Admissions, Admits, AfterWait, Again, Closed, Decision, JobPart, JobStep, NewJob, NewRun,
    NewStage, NodeRef, Reopening, StageBack, StageLimit, Store, StoreError, verify,
};

use crate::{
    fixture::*,
    stores::{block_on, on_every_store, open, served},
};

on_every_store!(
    groups_move_as_the_core_says,
    a_group_has_all_of_its_children_or_none,
    a_claim_takes_no_more_than_a_stage_has_places_for,
    a_run_begins_with_its_stages_as_planned,
    a_final_set_of_jobs_takes_children_only,
    how_far_a_run_has_come_only_rises_until_it_ends,
    a_run_in_stages_is_opened_in_part,
    nobody_ever_sees_a_part_of_a_group,
    places_of_a_stage_change_while_its_run_lives,
    the_same_work_under_two_keys_and_in_two_runs_is_as_many_jobs,
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

/// Proves INV-36.
async fn how_far_a_run_has_come_only_rises_until_it_ends(store: &dyn Store) {
    let started = start(store, "driven").await;
    assert_eq!(store.run(&started.run).await.unwrap().run.progress, None, "nobody knows");
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let stages = vec![stage("s", StageState::Sealed, None)];
    let new = staged("r", &node, stages, vec![job("s", "a", JobKind::Activity)]);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let shown = async || store.run(&run).await.unwrap().run.progress;
    assert_eq!(shown().await, Some(0));
    let to = |revision, percent| Decision { progress: Some(percent), ..decision(&run, revision) };
    let revision = committed(store.commit(to(1, 20)).await.unwrap()).0;
    for percent in [20, 7, 100] {
        let refused = store.commit(to(revision, percent)).await;
        assert!(refused.is_err(), "{percent}: {refused:?}");
    }
    assert_eq!(shown().await, Some(20));
    let only = only_job(store, &run).await.id;
    let (from, to) = (RunState::Running, RunState::Failed);
    let last = Decision {
        jobs: vec![JobStep::new(only, JobState::Ready, JobState::Failed)],
        stages: vec![perennial_store::StageStep {
            stage: "s".to_owned(),
            from: StageState::Sealed,
            to: StageState::Closed,
            outcome: Some(StageOutcome::Failed),
        }],
        run_step: Some(perennial_store::RunStep { from, to, failure: None }),
        ..decision(&run, revision)
    };
    store.commit(last).await.unwrap();
    assert_eq!(shown().await, Some(100));
    assert_eq!(store.runs(9).await.unwrap()[0].progress, Some(100));
    let kinds = history(store, "r").await;
    assert_eq!(kinds.iter().filter(|kind| kind.as_str() == "run_progressed").count(), 1);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// A run whose stage `s` has a job that failed and one that succeeded, and a group with a child of each kind; `t` has
/// a job that was skipped for the failure.
async fn ended_in_part(store: &dyn Store) -> (perennial_core::run::RunId, NodeRef) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let per_item = NewStage {
        feed: FeedKind::PerItem,
        upstream: Some("s".to_owned()),
        ..stage("t", StageState::Open, None)
    };
    let stages = vec![stage("s", StageState::Sealed, None), per_item];
    let own = ["a", "b"].map(|key| job("s", key, JobKind::Activity));
    let jobs = own.into_iter().chain([job("s", "g", JobKind::Group)]).collect();
    let new = staged("r", &node, stages, jobs);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let group = store.run(&run).await.unwrap().jobs[2].id;
    let expand = Decision {
        jobs: vec![JobStep::new(group, JobState::Ready, JobState::Joining)],
        new_jobs: vec![child("s/g", "x"), child("s/g", "y")],
        ..decision(&run, 1)
    };
    let mut revision = committed(store.commit(expand).await.unwrap()).0;
    for claimed in store.claim(&run, &node, 9).await.unwrap() {
        let fails = matches!(claimed.lease.key.as_str(), "s/a" | "s/g/x");
        let (end, to) = if fails {
            (perennial_core::run::AttemptEnd::Error, JobState::Failed)
        } else {
            (perennial_core::run::AttemptEnd::Succeeded, JobState::Succeeded)
        };
        let one =
            Decision { report: Some(report(&claimed.lease, end, to)), ..decision(&run, revision) };
        revision = committed(store.commit(one).await.unwrap()).0;
    }
    let skipped =
        JobPart { skipped: Some(SkipReason::Upstream), ..job("t", "a", JobKind::Activity).part };
    let close = |stage: &str, from, outcome| perennial_store::StageStep {
        stage: stage.to_owned(),
        from,
        to: StageState::Closed,
        outcome: Some(outcome),
    };
    let (from, to) = (RunState::Running, RunState::PartiallySucceeded);
    let joined = JobStep {
        result: Some(serde_json::json!("joined")),
        ..JobStep::new(group, JobState::Joining, JobState::Partial)
    };
    let last = Decision {
        jobs: vec![joined],
        new_jobs: vec![NewJob { part: skipped, ..job("t", "a", JobKind::Activity) }],
        stages: vec![
            close("s", StageState::Sealed, StageOutcome::Partial),
            close("t", StageState::Open, StageOutcome::Skipped),
        ],
        run_step: Some(perennial_store::RunStep { from, to, failure: None }),
        ..decision(&run, revision)
    };
    store.commit(last).await.unwrap();
    (run, node)
}

async fn round(store: &dyn Store, run: &perennial_core::run::RunId, node: &NodeRef) -> Reopening {
    let view = store.run(run).await.unwrap();
    let id = |key: &str| view.jobs.iter().find(|job| job.key.as_str() == key).unwrap().id;
    let again = |key: &str, to| Again { to, ..Again::asked_for(id(key)) };
    let input = Some(serde_json::json!({ "given": "anew" }));
    let definition_bytes = store.blob(view.run.definition).await.unwrap();
    let back = |stage: &str, state| StageBack { stage: stage.to_owned(), state };
    Reopening {
        run: run.clone(),
        expected_revision: view.run.revision,
        owner: node.clone(),
        definition: view.run.definition,
        definition_bytes,
        input_digest: view.run.input_digest,
        settings: view.run.settings.clone(),
        deadline: None,
        again: vec![
            Again { input, ..again("s/a", JobState::Ready) },
            again("s/g", JobState::Ready),
            again("s/g/x", JobState::Blocked),
            again("t/a", JobState::Blocked),
        ],
        stages: vec![back("s", StageState::Sealed), back("t", StageState::Open)],
    }
}

/// Proves INV-5, TRAP-9, I4.
/// What is made again is Ready or waits, with a new input where it has one; the rest is left alone. What does not fit is refused, and
/// nothing of it is done.
async fn a_run_in_stages_is_opened_in_part(store: &dyn Store) {
    let (run, node) = ended_in_part(store).await;
    let before = store.run(&run).await.unwrap();
    let good = round(store, &run, &node).await;
    let without = |place: usize| {
        let mut bad = good.clone();
        bad.stages.remove(place);
        bad
    };
    let mut asked_for = good.clone();
    asked_for.again[0].to = JobState::Cancelled;
    let mut closed = good.clone();
    closed.stages[0].state = StageState::Closed;
    let mut unknown = good.clone();
    unknown.stages[0].stage = "nobody".to_owned();
    let no_plan = Reopening { stages: Vec::new(), ..good.clone() };
    for bad in [without(0), without(1), asked_for, closed, unknown, no_plan] {
        let refused = store.reopen_run(bad).await;
        let is_told = matches!(
            refused,
            Err(StoreError::InvalidState(_) | StoreError::NotFound { what: "stage", .. })
        );
        assert!(is_told, "{refused:?}");
        assert_eq!(store.run(&run).await.unwrap(), before);
    }
    let revision = store.reopen_run(good.clone()).await.unwrap();
    assert!(matches!(store.reopen_run(good).await, Err(StoreError::Conflict { .. })));
    let view = store.run(&run).await.unwrap();
    let states: Vec<_> = view.jobs.iter().map(|job| (job.key.as_str(), job.state)).collect();
    let expected = [
        ("s/a", JobState::Ready),
        ("s/b", JobState::Succeeded),
        ("s/g", JobState::Ready),
        ("s/g/x", JobState::Blocked),
        ("s/g/y", JobState::Succeeded),
        ("t/a", JobState::Blocked),
    ];
    assert_eq!(states, expected);
    assert_eq!(view.jobs[0].input, serde_json::json!({ "given": "anew" }));
    assert_eq!((view.jobs[0].attempts_used, view.jobs[0].attempt), (0, 1));
    assert_eq!((view.jobs[2].result.as_ref(), view.run.progress), (None, Some(0)));
    assert_eq!(verify(store).await.unwrap(), []);
    // The group is expanded again: the child that waits is made, with a new row of its input, and the other one stays.
    let again = Decision {
        jobs: vec![JobStep::new(view.jobs[2].id, JobState::Ready, JobState::Joining)],
        new_jobs: vec![child("s/g", "x"), job("t", "a", JobKind::Activity)],
        ..decision(&run, revision)
    };
    store.commit(again).await.unwrap();
    let claimed = store.claim(&run, &node, 9).await.unwrap();
    let mut keys: Vec<_> =
        claimed.iter().map(|one| (one.lease.key.as_str(), one.lease.attempt)).collect();
    keys.sort_unstable();
    assert_eq!(keys, [("s/a", 2), ("s/g/x", 2), ("t/a", 1)]);
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Proves K30, D10.
/// A write of it that fails, whichever, leaves the run as it was.
#[test]
fn a_further_round_of_a_run_in_stages_is_there_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    served(&store, || {
        let (run, node) = block_on(ended_in_part(&store));
        let beside = rusqlite::Connection::open(&path).unwrap();
        let good = block_on(round(&store, &run, &node));
        let before = block_on(store.run(&run)).unwrap();
        let mut failed = Vec::new();
        for (table, kind) in [
            ("runs", "UPDATE"),
            ("stages", "UPDATE"),
            ("jobs", "UPDATE"),
            ("inputs", "UPDATE"),
            ("results", "DELETE"),
            ("events", "INSERT"),
            ("heads", "UPDATE"),
            ("streams", "UPDATE"),
        ] {
            let trigger = format!(
                "CREATE TRIGGER no BEFORE {kind} ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
            );
            beside.execute_batch(&trigger).unwrap();
            let answer = block_on(store.reopen_run(good.clone()));
            beside.execute_batch("DROP TRIGGER no").unwrap();
            assert!(answer.is_err(), "{kind} {table}");
            failed.push(table);
            assert_eq!(block_on(store.run(&run)).unwrap(), before, "{failed:?}");
        }
        block_on(store.reopen_run(good)).unwrap();
    });
}

/// A stage with one place, which the group `g` has: of its children `x` is under way and `y` ready. The group `h` waits.
pub(crate) async fn under_way(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let stages = vec![stage("s", StageState::Sealed, Some(1))];
    let jobs = ["g", "h"].map(|key| job("s", key, JobKind::Group)).to_vec();
    let new = staged("r", &node, stages, jobs);
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let group = store.run(&run).await.unwrap().jobs[0].id;
    let expand = Decision {
        jobs: vec![JobStep::new(group, JobState::Ready, JobState::Joining)],
        new_jobs: vec![child("s/g", "x"), child("s/g", "y")],
        ..decision(&run, 1)
    };
    store.commit(expand).await.unwrap();
    assert_eq!(store.claim(&run, &node, 1).await.unwrap().len(), 1);
}

/// Proves FL10, D14, D15, INV-8.
/// Of sixteen that expand a group at once one makes its children; who reads and who claims meanwhile, as often as they can, meet
/// none of them or all.
async fn nobody_ever_sees_a_part_of_a_group(store: &dyn Store) {
    const CHILDREN: usize = 5;
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let groups = 6;
    let stages = vec![stage("s", StageState::Sealed, None)];
    let own = (0..groups).map(|group| job("s", &group.to_string(), JobKind::Group));
    let new = staged("r", &node, stages, own.collect());
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let ids: Vec<i64> = store.run(&run).await.unwrap().jobs.iter().map(|job| job.id).collect();
    let mut revision = 1;
    for (group, id) in ids.into_iter().enumerate() {
        let key = format!("s/{group}");
        let is_over = std::cell::Cell::new(false);
        let expand = async || {
            let decided = Decision {
                jobs: vec![JobStep::new(id, JobState::Ready, JobState::Joining)],
                new_jobs: (0..CHILDREN).map(|it| child(&key, &it.to_string())).collect(),
                ..decision(&run, revision)
            };
            store.commit(decided).await
        };
        let expanders = async {
            let all = futures_util::future::join_all((0..16).map(|_| expand())).await;
            is_over.set(true);
            let made = all.iter().filter(|one| one.is_ok()).count();
            assert_eq!(made, 1, "{all:?}");
            all.into_iter().find_map(Result::ok).unwrap()
        };
        let reader = async {
            let mut seen = Vec::new();
            while !is_over.get() {
                let view = store.run(&run).await.unwrap();
                let of = |job: &&perennial_store::JobRecord| {
                    job.parent.as_ref().is_some_and(|parent| parent.as_str() == key)
                };
                let children = view.jobs.iter().filter(of).count();
                let is_joining = view.jobs[group].state == JobState::Joining;
                assert_eq!(children, if is_joining { CHILDREN } else { 0 });
                seen.push(children);
            }
            assert!(seen.is_sorted(), "{seen:?}");
        };
        let claimer = async {
            while !is_over.get() {
                for claimed in store.claim(&run, &node, 1).await.unwrap() {
                    let view = store.run(&run).await.unwrap();
                    let parent = view.jobs.iter().find(|job| job.id == claimed.lease.job).unwrap();
                    let parent = parent.parent.as_ref().unwrap();
                    let children = view.jobs.iter().filter(|it| it.parent.as_ref() == Some(parent));
                    assert_eq!(children.count(), CHILDREN);
                }
            }
        };
        let (made, (), ()) = futures_util::join!(expanders, reader, claimer);
        revision = committed(made).0;
    }
    let view = store.run(&run).await.unwrap();
    assert_eq!(view.jobs.len(), groups * (1 + CHILDREN));
    assert_eq!(verify(store).await.unwrap(), []);
}

/// Proves B11, D13.
/// A key tells jobs apart, whatever they are given: in one stage twice it is refused. Another run has jobs of its own of the same keys.
async fn the_same_work_under_two_keys_and_in_two_runs_is_as_many_jobs(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let of = |id: &str, keys: &[&str]| {
        let jobs = keys.iter().map(|key| job("s", key, JobKind::Activity)).collect();
        staged(id, &node, vec![stage("s", StageState::Sealed, None)], jobs)
    };
    let mut results = Vec::new();
    for id in ["r1", "r2"] {
        let new = of(id, &["0:app", "1:app"]);
        let run = new.run.clone();
        store.create_run(new).await.unwrap();
        let mut revision = 1;
        for claimed in store.claim(&run, &node, 9).await.unwrap() {
            let (end, to) = (perennial_core::run::AttemptEnd::Succeeded, JobState::Succeeded);
            let mut report = report(&claimed.lease, end, to);
            report.result = Some(serde_json::json!(format!("{id}/{}", claimed.lease.key)));
            let one = Decision { report: Some(report), ..decision(&run, revision) };
            revision = committed(store.commit(one).await.unwrap()).0;
        }
        let jobs = store.run(&run).await.unwrap().jobs;
        results.extend(jobs.into_iter().map(|job| job.result.unwrap()));
    }
    assert_eq!(results, ["r1/s/0:app", "r1/s/1:app", "r2/s/0:app", "r2/s/1:app"]);
    let twice = store.create_run(of("r3", &["app", "app"])).await;
    assert!(twice.is_err(), "{twice:?}");
    assert!(store.run(&run_id("r3")).await.is_err(), "nothing of it is there");
}

/// Proves INV-10, FL2.
/// A stage gets fewer places, and nothing of it begins until it has less under way; it gets more, and they count at once.
async fn places_of_a_stage_change_while_its_run_lives(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let jobs = (0..8).map(|number| job("s", &number.to_string(), JobKind::Activity));
    let new = staged("r", &node, vec![stage("s", StageState::Sealed, Some(3))], jobs.collect());
    let run = new.run.clone();
    store.create_run(new).await.unwrap();
    let limit = |revision, stage: &str, most| Decision {
        limits: vec![StageLimit {
            stage: stage.to_owned(),
            most: std::num::NonZeroU32::new(most).unwrap(),
        }],
        ..decision(&run, revision)
    };
    let mut held = store.claim(&run, &node, 9).await.unwrap();
    assert_eq!(held.len(), 3);
    let unknown = store.commit(limit(1, "nobody", 2)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { what: "stage", .. })), "{unknown:?}");
    let mut revision = committed(store.commit(limit(1, "s", 1)).await.unwrap()).0;
    assert_eq!(verify(store).await.unwrap(), [], "three are under way, as they may have been");
    for left in (0..3).rev() {
        assert_eq!(store.claim(&run, &node, 9).await.unwrap(), [], "{left}");
        let (end, to) = (perennial_core::run::AttemptEnd::Succeeded, JobState::Succeeded);
        let one = report(&held.pop().unwrap().lease, end, to);
        let one = Decision { report: Some(one), ..decision(&run, revision) };
        revision = committed(store.commit(one).await.unwrap()).0;
    }
    assert_eq!(store.claim(&run, &node, 9).await.unwrap().len(), 1);
    store.commit(limit(revision, "s", 4)).await.unwrap();
    assert_eq!(store.claim(&run, &node, 9).await.unwrap().len(), 3);
    assert_eq!(store.run(&run).await.unwrap().stages[0].concurrency, Some(4));
    assert_eq!(verify(store).await.unwrap(), []);
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
    Admissions { services: services.collect(), ..Admissions::default() }
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

/// A run of one job that uses `app`.
fn new_of_one(node: &NodeRef) -> NewRun {
    staged("one", node, vec![stage("s", StageState::Sealed, None)], vec![using("only", &["app"])])
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
    // Also where nothing but that comes of a claim, it is told.
    let new = NewRun { run: run_id("other"), ..new_of_one(&node) };
    store.create_run(new).await.unwrap();
    let no = Admits::No(closed(store, "service app: down", true));
    let claims = store.claim_by(&run_id("other"), &node, 32, admissions(&[("app", no)])).await;
    let claims = claims.unwrap();
    assert_eq!((claims.claimed.len(), claims.deferred.len()), (0, 1));
    assert!(history(store, "other").await.contains(&"job_deferred".to_owned()));
    let ends: Vec<AttemptEnd> =
        store.run(&run).await.unwrap().attempts.iter().filter_map(|one| one.end).collect();
    assert_eq!(ends, []);
    assert_eq!(verify(store).await.unwrap(), []);
}
