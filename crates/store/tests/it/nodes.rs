//! Leases of nodes on a store that several of them share.

use std::{collections::BTreeSet, sync::Barrier, thread, time::Duration};

use perennial_core::run::{AttemptEnd, JobState};
use perennial_store::{
    CallStart, Claimed, Created, Decision, LEASE_TTL, Leases, MemoryStore, NewRun, NodeRef,
    NodeTerms, Renewal, Store, StoreError,
};
use serde_json::{Value, json};

use crate::{fixture::*, stores::on_every_store};

const MOMENT: Duration = Duration::from_micros(1);
pub(crate) const CALLERS: usize = 16;

on_every_store!(
    nodes_are_listed_with_what_they_hold,
    a_proven_node_needs_no_renewal,
    sixteen_claimers_get_each_job_once,
    sixteen_starts_of_a_node_have_sixteen_numbers,
    a_run_without_an_owner_is_taken_by_one,
);

fn shared() -> MemoryStore {
    MemoryStore::open_shared().unwrap()
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await; // the paused clock
}

async fn alive(store: &dyn Store, node: &NodeRef) -> bool {
    let nodes = store.nodes(ALL).await.unwrap();
    nodes.into_iter().find(|record| record.node == *node).unwrap().alive
}

/// Proves INV-31.
/// DUR-20, DUR-21.
#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_until_it_is_over_and_never_after() {
    let store = shared();
    assert_eq!(store.leases(), Leases::Timed);
    let registered = store.register_node("n").await.unwrap();
    assert_eq!(registered.until, Some(store.now().after(LEASE_TTL)));
    let node = registered.node;
    pass(LEASE_TTL - MOMENT).await;
    let until = Some(store.now().after(LEASE_TTL));
    assert_eq!(store.renew(&node, LEASE_TTL).await, Ok(Renewal::Extended { until }));
    pass(LEASE_TTL - MOMENT).await;
    assert!(alive(&store, &node).await);
    pass(MOMENT).await;
    assert!(!alive(&store, &node).await, "its last instant is not part of it");
    for rescued in [false, true] {
        if rescued {
            store.rescue(None, ALL).await.unwrap();
        }
        assert_eq!(store.renew(&node, LEASE_TTL).await, Ok(Renewal::NodeLost));
    }
    let unknown = NodeRef { incarnation: 9, ..node };
    let refused = store.renew(&unknown, LEASE_TTL).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "node", .. })), "{refused:?}");
}

/// Proves INV-4, INV-ST-10, INV-ST-12, D23.
/// Before and after somebody else has taken its job, and after that one has ended it.
#[tokio::test(start_paused = true)]
async fn a_zombie_changes_nothing() {
    let store = shared();
    let Started { run, node, lease, revision } = start_on_two(&store).await;
    let call = CallStart { name: "c".into(), idempotency_key: "k".into() };
    store.begin_call(&lease, call.clone()).await.unwrap();
    pass(LEASE_TTL).await;
    let other = store.register_node("other").await.unwrap().node;
    let stale = StoreError::StaleAttempt { job: lease.job, attempt: 1 };
    for stage in 0..4 {
        let now = store.run(&run).await.unwrap();
        match stage {
            0 => (),
            1 => {
                let rescued = store.rescue(None, ALL).await.unwrap();
                assert!(rescued[0].uncertain && rescued.len() == 1);
            }
            2 => {
                store.own_run(&run, &other).await.unwrap();
                assert_eq!(store.claim(&run, &other, ALL).await.unwrap()[0].lease.attempt, 2);
            }
            _ => {
                let taken = lease_of(&lease, 2, &other);
                let end = report(&taken, AttemptEnd::Succeeded, JobState::Succeeded);
                let end = Decision { report: Some(end), ..decision(&run, now.run.revision) };
                committed(store.commit(end).await.unwrap());
            }
        }
        let before = store.run(&run).await.unwrap();
        let end = report(&lease, AttemptEnd::Succeeded, JobState::Succeeded);
        let end = Decision { report: Some(end), ..decision(&run, revision) };
        assert_eq!(store.commit(end).await, Err(stale.clone()), "{stage}");
        assert_eq!(store.begin_call(&lease, call.clone()).await, Err(stale.clone()));
        assert_eq!(store.record_call(&lease, "c", Value::Null).await, Err(stale.clone()));
        assert_eq!(store.settle_call(&lease, "c").await, Err(stale.clone()));
        assert_eq!(store.release(&lease, "late").await, Err(stale.clone()));
        let claim = store.claim(&run, &node, ALL).await;
        assert!(matches!(claim, Err(StoreError::Conflict { .. })), "{claim:?}");
        let jobs = vec![new_job("b", Some(&node))];
        let step = Decision { new_jobs: jobs, ..decision(&run, before.run.revision) };
        let claim = store.commit(step).await;
        assert!(matches!(claim, Err(StoreError::Conflict { .. })), "{claim:?}");
        let own = store.own_run(&run, &node).await;
        assert!(matches!(own, Err(StoreError::Conflict { .. })), "{own:?}");
        let new = store.create_run(new_run("new", &node)).await;
        assert!(matches!(new, Err(StoreError::Conflict { .. })), "{new:?}");
        assert_eq!(store.run(&run).await.unwrap(), before, "{stage}");
    }
    let kinds = history(&store, "r").await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "job_succeeded").count(), 1);
}

/// A run on node `n` while another node lives as well.
async fn start_on_two(store: &dyn Store) -> Started {
    store.register_node("idle").await.unwrap();
    start(store, "r").await
}

fn lease_of(
    lease: &perennial_store::Lease,
    attempt: u32,
    node: &NodeRef,
) -> perennial_store::Lease {
    perennial_store::Lease { attempt, node: node.clone(), ..lease.clone() }
}

/// Proves INV-13, D19, B50.
/// By whoever comes first, and not before.
#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_node_are_rescued_when_its_lease_is_over() {
    let store = shared();
    let Started { run, node, .. } = start_on_two(&store).await;
    pass(LEASE_TTL - MOMENT).await;
    assert!(store.rescue(None, ALL).await.unwrap().is_empty());
    assert!(store.run(&run).await.unwrap().jobs[0].lease_alive);
    pass(MOMENT).await;
    let view = store.run(&run).await.unwrap();
    assert!(!view.jobs[0].lease_alive && !view.run.owner_alive);
    assert!(!store.unfinished_runs().await.unwrap()[0].owner_alive);
    let rescued = store.rescue(None, ALL).await.unwrap();
    assert_eq!((rescued.len(), rescued[0].attempt), (1, 1));
    assert!(store.rescue(None, ALL).await.unwrap().is_empty());
    let job = only_job(&store, &run).await;
    assert_eq!((job.state, job.crashes, job.attempts_used), (JobState::Ready, 1, 0));
    let ended = store.nodes(ALL).await.unwrap();
    let ended = ended.iter().find(|record| record.node == node).unwrap();
    assert_eq!((ended.ended_at, ended.handed_over), (Some(store.now()), false));
}

/// Proves INV-14.
#[tokio::test(start_paused = true)]
async fn a_job_of_ten_leases_is_not_taken_from_a_node_that_renews() {
    let store = shared();
    let started = start(&store, "r").await;
    let other = store.register_node("other").await.unwrap().node;
    for _ in 0..40 {
        pass(LEASE_TTL / 4).await;
        for node in [&started.node, &other] {
            let renewed = store.renew(node, LEASE_TTL).await.unwrap();
            assert!(matches!(renewed, Renewal::Extended { .. }));
        }
        assert!(store.rescue(None, ALL).await.unwrap().is_empty());
        let own = store.own_run(&started.run, &other).await;
        assert!(matches!(own, Err(StoreError::Conflict { .. })), "{own:?}");
    }
    let end = reporting(&started, AttemptEnd::Succeeded, JobState::Succeeded);
    committed(store.commit(end).await.unwrap());
}

/// Proves INV-ST-15.
/// STO-51, DUR-111.
#[tokio::test(start_paused = true)]
async fn a_name_that_is_used_again_ends_nobody_that_may_live() {
    let store = shared();
    let Started { run, node, .. } = start(&store, "r").await;
    let second = store.register_node("n").await.unwrap();
    assert_eq!((second.node.incarnation, second.ended.as_slice()), (2, [].as_slice()));
    assert!(alive(&store, &node).await);
    assert!(store.rescue(None, ALL).await.unwrap().is_empty());
    pass(LEASE_TTL).await;
    let third = store.register_node("n").await.unwrap();
    assert_eq!(third.ended, [1, 2]);
    assert_eq!(store.rescue(Some(&run), ALL).await.unwrap().len(), 1);
    let terms = NodeTerms { exclusive: true, ..NodeTerms::default() };
    let fourth = store.register_node_on("n", terms).await.unwrap();
    assert_eq!((fourth.node.incarnation, fourth.ended), (4, vec![3]), "nobody else has the name");
    assert_eq!(store.renew(&third.node, LEASE_TTL).await, Ok(Renewal::NodeLost));
}

/// D17: those that come for the run of a dead node at once.
#[test]
fn a_run_is_taken_over_by_one() {
    let store = shared();
    let run = runtime().block_on(async {
        let started = start(&store, "r").await;
        expire(&store, &started.node).await;
        started.run
    });
    let (store, run) = (&store, &run);
    let owned = at_once(|number| async move {
        let node = store.register_node(&format!("node-{number}")).await.unwrap().node;
        store.own_run(run, &node).await.is_ok()
    });
    assert_eq!(owned.into_iter().filter(|owned| *owned).count(), 1);
}

/// STO-2: a job is given back, or its end recorded, never both, whoever comes first.
#[test]
fn a_report_and_a_rescue_at_once_count_once() {
    for reports_first in [true, false] {
        let (store, runtime) = (shared(), runtime());
        let started: Vec<Started> = runtime.block_on(async {
            let mut started = Vec::new();
            for number in 0..CALLERS {
                let node = store.register_node(&format!("n{number}")).await.unwrap().node;
                started.push(start_on(&store, &format!("r{number}"), &node).await);
            }
            started
        });
        let (store, started) = (&store, &started);
        let recorded = at_once(|number| async move {
            let own = &started[number];
            let end = reporting(own, AttemptEnd::Succeeded, JobState::Succeeded);
            if reports_first {
                store.commit(end).await.unwrap();
                expire(store, &own.node).await;
                store.rescue(None, 3).await.unwrap();
                true
            } else {
                expire(store, &own.node).await;
                store.rescue(None, 3).await.unwrap();
                store.commit(end).await.is_ok()
            }
        });
        assert!(recorded.into_iter().all(|recorded| recorded == reports_first));
        runtime.block_on(async {
            store.rescue(None, ALL).await.unwrap();
            for Started { run, .. } in started {
                let job = only_job(store, run).await;
                let expected = if reports_first { JobState::Succeeded } else { JobState::Ready };
                assert_eq!((job.state, job.crashes), (expected, u32::from(!reports_first)));
                history(store, run.as_str()).await;
            }
        });
    }
}

/// Its lease is over from this moment on.
async fn expire(store: &dyn Store, node: &NodeRef) {
    store.renew(node, Duration::ZERO).await.unwrap();
}

/// It is recorded as any other, listed as nobody's, and belongs to the first that asks (STO-53).
async fn a_run_without_an_owner_is_taken_by_one(store: &dyn Store) {
    let node = store.register_node("n").await.unwrap().node;
    let left = NewRun { owner: None, jobs: Vec::new(), ..new_run("r", &node) };
    let (run, again) = (left.run.clone(), left.clone());
    let Created::New { revision, .. } = store.create_run(left).await.unwrap() else {
        panic!("the run exists")
    };
    assert_eq!(store.create_run(again).await, Ok(Created::Existing));
    let listed = &store.unfinished_runs().await.unwrap()[0];
    assert_eq!((&listed.owner, listed.owner_alive, listed.revision), (&None, false, revision));
    store.own_run(&run, &node).await.unwrap();
    let other = store.register_node("other").await.unwrap().node;
    let refused = store.own_run(&run, &other).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(store.run(&run).await.unwrap().run.owner, Some(node));
}

async fn nodes_are_listed_with_what_they_hold(store: &dyn Store) {
    let Started { node, .. } = start(store, "r").await;
    let other = store.register_node("other").await.unwrap().node;
    store.end_node(&other, json!({"took_ms": 1})).await.unwrap();
    let nodes = store.nodes(ALL).await.unwrap();
    let of = |at: usize| (&nodes[at].node, nodes[at].alive, nodes[at].jobs, nodes[at].runs);
    assert_eq!(of(0), (&node, true, 1, 1));
    assert_eq!(of(1), (&other, false, 0, 0));
    assert!(nodes[1].handed_over && nodes[1].ended_at.is_some());
    assert_eq!(store.nodes(1).await.unwrap().len(), 1);
}

async fn a_proven_node_needs_no_renewal(store: &dyn Store) {
    if store.leases() == Leases::Timed {
        return;
    }
    let terms = NodeTerms { ttl: Duration::ZERO, exclusive: false };
    let first = store.register_node_on("n", terms).await.unwrap();
    assert_eq!(first.until, None);
    let renewed = store.renew(&first.node, Duration::ZERO).await;
    assert_eq!(renewed, Ok(Renewal::Extended { until: None }));
    assert!(alive(store, &first.node).await);
    let second = store.register_node("n").await.unwrap();
    assert_eq!(second.ended, [1], "its death is proven");
    assert_eq!(store.renew(&first.node, Duration::ZERO).await, Ok(Renewal::NodeLost));
}

/// Proves INV-3, INV-ST-11, R3.3, I2.
async fn sixteen_claimers_get_each_job_once(store: &dyn Store) {
    const JOBS: usize = 200;
    let Started { run, node, revision, .. } = start(store, "r").await;
    let keys = (0..JOBS).map(|number| format!("job-{number}"));
    let new_jobs = keys.map(|key| new_job(&key, None)).collect();
    store.commit(Decision { new_jobs, ..decision(&run, revision) }).await.unwrap();
    let (run, node) = (&run, &node);
    let claimed: Vec<Claimed> = at_once(|_| async move {
        let mut claimed = Vec::new();
        // Twice each: what is given back is handed out again, with the next number.
        while let Some(job) = insist(async || store.claim(run, node, 1).await).await.pop() {
            if job.lease.attempt == 1 {
                insist(async || store.release(&job.lease, "again").await).await;
            }
            claimed.push(job);
        }
        claimed
    })
    .into_iter()
    .flatten()
    .collect();
    let attempts: BTreeSet<_> =
        claimed.iter().map(|job| (job.lease.job, job.lease.attempt)).collect();
    assert_eq!((attempts.len(), claimed.len()), (2 * JOBS, 2 * JOBS));
    assert!(attempts.iter().all(|(_, attempt)| (1..=2).contains(attempt)), "dense from 1");
    history(store, "r").await;
}

/// Proves INV-ST-15.
async fn sixteen_starts_of_a_node_have_sixteen_numbers(store: &dyn Store) {
    let numbers: BTreeSet<u64> =
        at_once(|_| async { store.register_node("n").await.unwrap().node.incarnation })
            .into_iter()
            .collect();
    assert!(numbers.into_iter().eq(1..=CALLERS as u64));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Where nothing is locked others may be faster, many times: nothing was written then, and one comes again.
pub(crate) async fn insist<T>(operation: impl AsyncFn() -> Result<T, StoreError>) -> T {
    for _ in 0..10_000 {
        match operation().await {
            Err(StoreError::Conflict { .. }) => (),
            Err(error) if error.is_transient() => (),
            done => return done.unwrap(),
        }
    }
    panic!("others were always faster");
}

/// Sixteen threads that begin together.
pub(crate) fn at_once<T: Send, F: Future<Output = T>>(work: impl Fn(usize) -> F + Sync) -> Vec<T> {
    let (begin, work) = (Barrier::new(CALLERS), &work);
    thread::scope(|threads| {
        let callers = (0..CALLERS).map(|number| {
            let begin = &begin;
            threads.spawn(move || {
                begin.wait();
                runtime().block_on(work(number))
            })
        });
        let callers: Vec<_> = callers.collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}
