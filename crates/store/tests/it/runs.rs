use perennial_core::{
    Digest,
    run::{JobState, RunState, StageState},
};
use perennial_store::{Created, NewRun, Store, StoreError};

use crate::{fixture::*, stores::on_every_store};

on_every_store!(
    a_created_run_is_there_with_everything,
    creating_a_run_again_is_the_same_run_or_refused,
    a_creation_that_fails_leaves_nothing,
    runs_are_listed_newest_first_and_unfinished_ones_oldest_first,
    a_live_owner_keeps_its_run_and_a_dead_one_loses_it,
    a_definition_that_is_not_its_digest_is_refused,
    an_ended_node_starts_nothing,
);

/// Proves B1.
async fn a_created_run_is_there_with_everything(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut new = new_run("r", &node);
    new.jobs.push(new_job("b", None));
    let created = store.create_run(new.clone()).await.unwrap();
    let Created::New { revision: 1, leases } = created else { panic!("{created:?}") };
    let view = store.run(&new.run).await.unwrap();
    assert_eq!((view.run.state, view.run.revision), (RunState::Running, 1));
    assert_eq!(view.run.settings, new.settings);
    assert_eq!((view.run.owner.as_ref(), view.run.owner_alive), (Some(&node), true));
    assert_eq!((view.stages[0].stage.as_str(), view.stages[0].state), (STAGE, StageState::Open));
    let states: Vec<_> = view.jobs.iter().map(|job| (job.key.as_str(), job.state)).collect();
    assert_eq!(states, [("a", JobState::Leased), ("b", JobState::Ready)]);
    assert_eq!((leases.len(), leases[0].job, leases[0].attempt), (1, view.jobs[0].id, 1));
    assert_eq!((view.attempts.len(), view.attempts[0].attempt), (1, 1));
    assert_eq!(view.jobs[1].input, new.jobs[1].input);
    let events = history(store, "r").await;
    let expected =
        ["run_created", "run_started", "stage_opened", "job_ready", "attempt_started", "job_ready"];
    assert_eq!(events, expected);
    assert_eq!(view.run.next_seq, 7);
    assert_eq!(store.blob(new.definition).await.unwrap(), new.definition_bytes);
}

/// Proves TRAP-7.
async fn creating_a_run_again_is_the_same_run_or_refused(store: &dyn Store) {
    let Started { node, run, .. } = start(store, "r").await;
    let new = new_run("r", &node);
    assert_eq!(store.create_run(new.clone()).await, Ok(Created::Existing));
    let other = NewRun { input_digest: Digest::of(b"other"), ..new };
    assert_eq!(store.create_run(other).await, Err(StoreError::KeyReused(run)));
    store.create_stream("s", "session", Vec::new()).await.unwrap();
    let taken = store.create_run(new_run("s", &node)).await;
    assert_eq!(taken, Err(StoreError::KeyReused(run_id("s"))));
    assert_eq!(history(store, "r").await.len(), 5);
}

/// Proves INV-ST-28.
async fn a_creation_that_fails_leaves_nothing(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let mut new = new_run("r", &node);
    new.jobs.push(new_job("a", None));
    let refused = store.create_run(new.clone()).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert!(matches!(store.run(&new.run).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.events("r", 1, 9).await, Err(StoreError::NotFound { .. })));
    start_on(store, "r", &node).await;
}

async fn runs_are_listed_newest_first_and_unfinished_ones_oldest_first(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let first = start_on(store, "r1", &node).await;
    for id in ["r2", "r3"] {
        start_on(store, id, &node).await;
    }
    let end = entering(&first.run, first.revision, RunState::Running, RunState::Failed);
    store.commit(end).await.unwrap();
    let ids = |runs: Vec<perennial_store::RunSummary>| -> Vec<String> {
        runs.into_iter().map(|summary| summary.run.to_string()).collect()
    };
    assert_eq!(ids(store.runs(2).await.unwrap()), ["r3", "r2"]);
    assert_eq!(ids(store.unfinished_runs().await.unwrap()), ["r2", "r3"]);
    // The same without what is counted of them.
    for (open, listed) in
        store.open_runs().await.unwrap().iter().zip(store.unfinished_runs().await.unwrap())
    {
        assert_eq!(
            (&open.run, open.state, open.revision),
            (&listed.run, listed.state, listed.revision)
        );
        assert_eq!((&open.owner, open.owner_alive), (&listed.owner, listed.owner_alive));
    }
    assert_eq!(store.open_runs().await.unwrap().len(), 2);
    let all = store.runs(ALL).await.unwrap();
    assert_eq!((all[2].jobs, all[2].jobs_done, all[2].state), (1, 0, RunState::Failed));
    assert!(all[2].finished_at.is_some() && all[2].owner_alive);
}

async fn a_live_owner_keeps_its_run_and_a_dead_one_loses_it(store: &dyn Store) {
    let Started { run, node, .. } = start(store, "r").await;
    let other = store.register_node_on("m", EXCLUSIVE).await.unwrap().node;
    assert_eq!(store.own_run(&run, &node).await, Ok(1));
    let refused = store.own_run(&run, &other).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    store.end_node(&node, serde_json::Value::Null).await.unwrap();
    assert!(!store.run(&run).await.unwrap().run.owner_alive);
    assert_eq!(store.own_run(&run, &other).await, Ok(2));
    let missing = store.own_run(&run_id("none"), &other).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
}

async fn a_definition_that_is_not_its_digest_is_refused(store: &dyn Store) {
    let node = store.register_node_on("n", EXCLUSIVE).await.unwrap().node;
    let new = NewRun { definition: Digest::of(b"another"), ..new_run("r", &node) };
    let refused = store.create_run(new).await;
    assert!(matches!(refused, Err(StoreError::Unreadable { .. })), "{refused:?}");
    let blob = store.put_blob(b"bytes".to_vec()).await.unwrap();
    assert_eq!(store.put_blob(b"bytes".to_vec()).await, Ok(blob));
    assert_eq!(store.blob(blob).await.unwrap(), b"bytes");
    let missing = store.blob(Digest::of(b"none")).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
}

async fn an_ended_node_starts_nothing(store: &dyn Store) {
    let first = store.register_node_on("n", EXCLUSIVE).await.unwrap();
    assert_eq!((first.node.incarnation, first.ended), (1, Vec::new()));
    let second = store.register_node_on("n", EXCLUSIVE).await.unwrap();
    assert_eq!((second.node.incarnation, second.ended), (2, vec![1]));
    store.end_node(&second.node, serde_json::Value::Null).await.unwrap();
    store.end_node(&second.node, serde_json::Value::Null).await.unwrap();
    let refused = store.create_run(new_run("r", &second.node)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(store.register_node_on("n", EXCLUSIVE).await.unwrap().ended, Vec::<u64>::new());
}
