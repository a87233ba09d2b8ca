//! Runs that began elsewhere: there whole, with what had come of them, or not at all; and once.

use futures_util::future::join_all;
use perennial_core::Digest;
use perennial_core::run::{
    AttemptEnd, JobKey, JobKind, JobState, RunState, SequenceName, SkipReason, StageState,
};
use perennial_store::{
    Created, JobPart, NewJob, NewNumber, NewRun, NewStage, NodeRef, Past, PastJob, PastNumber,
    PastVersion, Store, StoreError,
};
use serde_json::{Value, json};

use crate::{
    fixture::*,
    stores::{checked, on_every_store},
};

on_every_store!(
    a_run_arrives_with_what_had_come_of_it,
    a_past_that_does_not_fit_leaves_nothing,
    numbers_of_the_past_are_given_to_nobody_else,
    who_imports_at_once_imports_once,
);

const ENDS: [(&str, JobState); 6] = [
    ("made", JobState::Succeeded),
    ("half", JobState::Partial),
    ("broken", JobState::Failed),
    ("left", JobState::Skipped),
    ("dropped", JobState::Cancelled),
    ("open", JobState::Ready),
];

fn job(key: &str, parent: Option<&str>) -> NewJob {
    let parent = parent.map(JobKey::new);
    let part = JobPart { kind: JobKind::Activity, parent, ..JobPart::default() };
    NewJob { stage: "s".to_owned(), part, ..new_job(key, None) }
}

/// A run whose jobs are those of [`ENDS`], and a group with a child.
fn new(id: &str, node: &NodeRef) -> NewRun {
    let mut jobs: Vec<NewJob> = ENDS.iter().map(|(key, _)| job(key, None)).collect();
    let group = job("group", None);
    jobs.push(NewJob { part: JobPart { kind: JobKind::Group, ..group.part.clone() }, ..group });
    jobs.push(job("group/child", Some("group")));
    let feed = perennial_core::run::FeedKind::Static;
    let stages = vec![NewStage { state: StageState::Sealed, feed, ..NewStage::driven("s") }];
    NewRun { stages, jobs, ..new_run(id, node) }
}

fn past_job(key: &str, state: JobState, result: Option<Value>) -> PastJob {
    let skipped = (state == JobState::Skipped).then_some(SkipReason::Upstream);
    PastJob { stage: "s".to_owned(), key: JobKey::new(key), state, skipped, result }
}

fn past() -> Past {
    let ended = ENDS.iter().filter(|(_, state)| state.is_terminal());
    let mut jobs: Vec<PastJob> = ended
        .map(|(key, state)| {
            let gives = *state != JobState::Cancelled;
            past_job(key, *state, gives.then(|| json!({ "was": key })))
        })
        .collect();
    jobs.push(past_job("group/child", JobState::Succeeded, Some(json!(7))));
    Past { paused: true, jobs, numbers: Vec::new(), events: vec![event("imported")] }
}

fn number(number: u64, key: &str) -> PastNumber {
    let (scope, versions) = ("x".to_owned(), Vec::new());
    let sequence = SequenceName::new("invoice").unwrap();
    PastNumber { sequence, scope, number, key: key.to_owned(), job: JobKey::new("made"), versions }
}

/// A run that comes with all that one can come with.
pub(crate) fn imported(id: &str, node: &NodeRef) -> (NewRun, Past) {
    let versions = vec![PastVersion { parent: 1, key: "two".to_owned() }];
    let number = PastNumber { scope: id.to_owned(), versions, ..number(3, "three") };
    (new(id, node), numbered(vec![number]))
}

fn numbered(numbers: Vec<PastNumber>) -> Past {
    Past { numbers, ..past() }
}

/// Proves INV-35, K44.
async fn a_run_arrives_with_what_had_come_of_it(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let created = store.import_run(new("r", &node), past()).await.unwrap();
    assert!(matches!(created, Created::New { .. }), "{created:?}");
    let run = run_id("r");
    let view = store.run(&run).await.unwrap();
    assert_eq!(view.run.state, RunState::Paused);
    for (key, state) in ENDS.into_iter().chain([("group", JobState::Ready)]) {
        let job = view.jobs.iter().find(|job| job.key.as_str() == key).unwrap();
        let gives = state.is_terminal() && state != JobState::Cancelled;
        let skipped = (state == JobState::Skipped).then_some(SkipReason::Upstream);
        assert_eq!(
            (job.state, job.skipped, job.attempt, job.attempts_used),
            (state, skipped, 0, 0)
        );
        assert_eq!(job.result, gives.then(|| json!({ "was": key })));
    }
    assert!(view.attempts.is_empty());
    let told = history(store, "r").await;
    assert_eq!(told[0], "run_created");
    assert_eq!(told[told.len() - 2..], ["imported", "run_paused"]);
    checked(store).await;
    // What is open is made once somebody says so, and no sooner.
    assert_eq!(store.claim(&run, &node, 9).await.unwrap(), []);
    let on = entering(&run, view.run.revision, RunState::Paused, RunState::Running);
    store.commit(on).await.unwrap();
    let claimed = store.claim(&run, &node, 9).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].lease.key.as_str(), claimed[0].lease.attempt), ("open", 1));
    // A second import changes nothing, however far it is.
    let (before, events) = (store.run(&run).await.unwrap(), history(store, "r").await);
    for other in [past(), Past::default(), numbered(vec![number(3, "a")])] {
        assert_eq!(store.import_run(new("r", &node), other).await, Ok(Created::Existing));
    }
    assert_eq!((store.run(&run).await.unwrap(), history(store, "r").await), (before, events));
    let other =
        NewRun { settings: json!(1), input_digest: Digest::of(b"other"), ..new("r", &node) };
    let refused = store.import_run(other, past()).await;
    assert!(matches!(refused, Err(StoreError::KeyReused(_))), "{refused:?}");
    checked(store).await;
}

/// Proves K44.
async fn a_past_that_does_not_fit_leaves_nothing(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let with = |job: PastJob| Past { jobs: vec![job], ..past() };
    let none = "x".repeat(300);
    let parent = |parent| {
        let versions = vec![PastVersion { parent, key: "v".to_owned() }];
        numbered(vec![PastNumber { versions, ..number(1, "a") }])
    };
    let pasts = [
        ("unknown", with(past_job("nobody", JobState::Failed, None))),
        (
            "other stage",
            with(PastJob { stage: "t".to_owned(), ..past_job("made", JobState::Failed, None) }),
        ),
        ("not ended", with(past_job("made", JobState::Leased, None))),
        ("gives nothing", with(past_job("made", JobState::Succeeded, None))),
        ("twice", Past { jobs: [past().jobs, past().jobs].concat(), ..past() }),
        ("number 0", numbered(vec![number(0, "a")])),
        ("a number twice", numbered(vec![number(2, "a"), number(2, "b")])),
        ("a key twice", numbered(vec![number(1, "a"), number(2, "a")])),
        ("far away", numbered(vec![number(20_000, "a")])),
        ("the last number", numbered(vec![number(u64::MAX, "a")])),
        ("no scope", numbered(vec![PastNumber { scope: String::new(), ..number(1, "a") }])),
        ("a long scope", numbered(vec![PastNumber { scope: none, ..number(1, "a") }])),
        ("a version of itself", parent(2)),
        ("a version of none", parent(0)),
    ];
    for (what, past) in pasts {
        let refused = store.import_run(new("r", &node), past).await;
        assert!(refused.is_err(), "{what}: {refused:?}");
        let found = store.run(&run_id("r")).await;
        assert!(
            matches!(found, Err(StoreError::NotFound { what: "run", .. })),
            "{what}: {found:?}"
        );
    }
    checked(store).await;
    // None of the numbers has been taken.
    let started = start_on(store, "other", &node).await;
    let asked = NewNumber { sequence: number(1, "").sequence, scope: "x".into(), key: "k".into() };
    assert_eq!(store.allocate(&started.lease, asked).await, Ok(1));
}

/// Proves INV-25.
/// Numbers below one of the past stay free for whoever had them, and are given to nobody.
async fn numbers_of_the_past_are_given_to_nobody_else(store: &dyn Store) {
    let started = start(store, "r").await;
    let node = started.node.clone();
    let ask = |key: &str| NewNumber {
        sequence: number(1, "").sequence,
        scope: "x".to_owned(),
        key: key.to_owned(),
    };
    assert_eq!(store.allocate(&started.lease, ask("here")).await, Ok(1));
    let versions = [1, 1, 3].map(|parent| PastVersion { parent, key: format!("v{parent}") });
    let versions: Vec<_> = (2..)
        .zip(versions)
        .map(|(at, of)| PastVersion { key: format!("{}.{at}", of.key), ..of })
        .collect();
    let old = numbered(vec![PastNumber { versions, ..number(5, "five") }, number(3, "three")]);
    store.import_run(new("old", &node), old).await.unwrap();
    assert_eq!(store.allocate(&started.lease, ask("next")).await, Ok(6));
    let of = |all: Vec<perennial_store::AllocationRecord>| -> Vec<(u64, u32, Option<u32>)> {
        all.iter().map(|of| (of.number, of.version, of.parent)).collect()
    };
    let all = store.allocations(&run_id("old")).await.unwrap();
    assert!(all.iter().all(|of| of.attempt == 0), "{all:?}");
    assert_eq!(
        of(all),
        [(3, 1, None), (5, 1, None), (5, 2, Some(1)), (5, 3, Some(1)), (5, 4, Some(3))]
    );
    checked(store).await;
    // What somebody has is nobody else's; what nobody has can be brought.
    for taken in [1, 3, 5, 6] {
        let refused =
            store.import_run(new("older", &node), numbered(vec![number(taken, "x")])).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{taken}: {refused:?}");
    }
    let older = numbered(vec![number(2, "two"), number(4, "four"), number(7, "seven")]);
    store.import_run(new("older", &node), older).await.unwrap();
    assert_eq!(
        of(store.allocations(&run_id("older")).await.unwrap()),
        [(2, 1, None), (4, 1, None), (7, 1, None)]
    );
    assert_eq!(store.allocate(&started.lease, ask("last")).await, Ok(8));
    // Whoever has one keeps it.
    let lease = &started.lease;
    assert_eq!(store.allocate(lease, ask("seven")).await, Ok(7));
    store.commit(reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded)).await.unwrap();
    checked(store).await;
}

/// Proves INV-35.
async fn who_imports_at_once_imports_once(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let tries = (0..8).map(|_| store.import_run(new("r", &node), numbered(vec![number(4, "a")])));
    let created = join_all(tries).await;
    let new = created.iter().filter(|it| matches!(it, Ok(Created::New { .. }))).count();
    let existing = created.iter().filter(|it| matches!(it, Ok(Created::Existing))).count();
    assert_eq!((new, existing), (1, 7), "{created:?}");
    assert_eq!(store.allocations(&run_id("r")).await.unwrap().len(), 1);
    checked(store).await;
}
