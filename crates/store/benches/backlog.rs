//! What a backlog costs: one claim among few and among many queued jobs, and how soon jobs can be claimed again after
//! their process was killed. On a file, and on a private PostgreSQL server where there is one.
//!
//! `cargo bench -p perennial-store --features postgres --bench backlog -- [sqlite] [postgres]`. Rows are put into the
//! store beside it, so they have no events; what is measured does not look at any. After a kill the time runs from opening
//! the store anew to the first claim of a job: the end of the dead incarnation, the rescue of what it held, the claim. What
//! a lease lasts is not in it.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to answer to")]
#![expect(clippy::print_stdout, reason = "its figures are its purpose")]

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use perennial_core::{
    Digest,
    run::{JobKey, RunId},
};
use perennial_store::{
    JobPart, NewJob, NewRun, NewStage, NodeRef, NodeTerms, SqliteOptions, SqliteStore, Stopper,
    Store,
};
use serde_json::json;

const FEW: usize = 1_000;
const MANY: usize = 100_000;
/// Claims whose median counts.
const CLAIMS: usize = 201;
/// Jobs that were under way when the process was killed; the others were queued.
const UNDER_WAY: usize = 64;
/// The same where all were under way.
const ALL_UNDER_WAY: usize = 5_000;
/// How many are rescued in one transaction.
const RESCUED: u32 = 256;

fn main() {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Without a name, all; what cargo adds begins with a dash.
    let named: Vec<String> = env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let wanted = |store: &str| named.is_empty() || named.iter().any(|name| name == store);
    executor.block_on(async {
        if wanted("sqlite") {
            let folder = tempfile::tempdir().unwrap();
            measure(&File { folder: folder.path() }, "≤ 0.5").await;
        }
        if wanted("postgres") {
            #[cfg(feature = "postgres")]
            if let Some(cluster) = perennial_testkit::postgres::private(Default::default()) {
                let of = |name| cluster.database(name).unwrap();
                measure(&Server([of("few"), of("many"), of("killed"), of("held")]), "≤ 1").await;
            }
            #[cfg(not(feature = "postgres"))]
            println!("PostgreSQL: not in this build (--features postgres)");
        }
    });
}

/// Where stores are.
trait Place {
    const NAME: &'static str;
    /// The store of that number, served by threads of its own.
    async fn open(&self, number: usize) -> Served;
    /// Changes rows of the store of that number, which is not open.
    fn change(&self, number: usize, sql: &str);
}

/// A store and what ends its threads.
struct Served {
    store: Box<dyn Store>,
    stoppers: Vec<Stopper>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stoppers.iter().for_each(Stopper::stop);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench has no supervisor")]
fn thread(run: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(run)
}

struct File<'a> {
    folder: &'a Path,
}

impl Place for File<'_> {
    const NAME: &'static str = "SQLite";

    async fn open(&self, number: usize) -> Served {
        let path = self.folder.join(format!("{number}.db"));
        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let (writer, reader) = (store.writer(), store.reader());
        let stoppers = vec![writer.stopper(), reader.stopper()];
        let threads =
            vec![thread(move || writer.run().unwrap()), thread(move || reader.run().unwrap())];
        Served { store: Box::new(store), stoppers, threads }
    }

    fn change(&self, number: usize, sql: &str) {
        let path = self.folder.join(format!("{number}.db"));
        rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
    }
}

#[cfg(feature = "postgres")]
struct Server([perennial_testkit::postgres::Database; 4]);

#[cfg(feature = "postgres")]
impl Place for Server {
    const NAME: &'static str = "PostgreSQL";

    async fn open(&self, number: usize) -> Served {
        let options = perennial_store::PostgresOptions::default();
        let url = self.0[number].url();
        let store = perennial_store::PostgresStore::open(&url, options).await.unwrap();
        let loops: Vec<_> = (0..store.connections()).map(|_| store.connection()).collect();
        let stoppers = loops.iter().map(perennial_store::ConnectionLoop::stopper).collect();
        let threads = loops.into_iter().map(|one| thread(move || one.run().unwrap())).collect();
        Served { store: Box::new(store), stoppers, threads }
    }

    fn change(&self, number: usize, sql: &str) {
        self.0[number].sql(&format!("SET search_path TO perennial; {sql}")).unwrap();
    }
}

async fn measure(place: &impl Place, goal: &str) {
    let name = match_name(place);
    let few = claims(place, 0, FEW).await;
    let many = claims(place, 1, MANY).await;
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    println!(
        "{name}: a claim among {FEW} {few:?}, among {MANY} {many:?}: {ratio:.2} (medians of {CLAIMS}; goal ≤ 1.5)"
    );
    let killed = after_a_kill(place, 2, MANY, UNDER_WAY).await.as_secs_f64();
    println!(
        "{name}: claimable after a kill, {MANY} jobs, {UNDER_WAY} of them under way: {killed:.3} s (goal {goal} s)"
    );
    let held = after_a_kill(place, 3, ALL_UNDER_WAY, ALL_UNDER_WAY).await.as_secs_f64();
    println!("{name}: the same, {ALL_UNDER_WAY} jobs, all under way: {held:.3} s (no goal)");
}

fn match_name<P: Place>(_: &P) -> &'static str {
    P::NAME
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a bench does")]
fn now() -> Instant {
    Instant::now()
}

fn run() -> RunId {
    RunId::parse("backlog").unwrap()
}

/// How long one claim takes while `queued` jobs are ready.
async fn claims(place: &impl Place, number: usize, queued: usize) -> Duration {
    let served = place.open(number).await;
    let node = start(&*served.store).await;
    drop(served);
    place.change(number, &jobs(queued));
    let served = place.open(number).await;
    let node = again(&*served.store, &node).await;
    let mut took = Vec::with_capacity(CLAIMS);
    for _ in 0..CLAIMS {
        let begun = now();
        let claimed = served.store.claim(&run(), &node, 1).await.unwrap();
        took.push(begun.elapsed());
        assert_eq!(claimed.len(), 1);
    }
    took.sort();
    took[took.len() / 2]
}

/// From opening the store anew to the first claim, with `queued` jobs of which the dead process held `held`.
async fn after_a_kill(place: &impl Place, number: usize, queued: usize, held: usize) -> Duration {
    let served = place.open(number).await;
    let node = start(&*served.store).await;
    drop(served);
    place.change(number, &jobs(queued));
    place.change(number, &leases(held, &node));
    let begun = now();
    let served = place.open(number).await;
    let node = again(&*served.store, &node).await;
    let mut rescued = 0;
    loop {
        let some = served.store.rescue(None, RESCUED).await.unwrap().len();
        rescued += some;
        if some == 0 {
            break;
        }
    }
    assert_eq!(served.store.claim(&run(), &node, 1).await.unwrap().len(), 1);
    let took = begun.elapsed();
    assert_eq!(rescued, held);
    took
}

async fn start(store: &dyn Store) -> NodeRef {
    let node = store.register_node("bench").await.unwrap().node;
    let definition = b"bench".to_vec();
    let first = NewJob {
        stage: "steps".to_owned(),
        key: JobKey::new("first"),
        max_attempts: 3,
        crashes_max: 3,
        input: json!({}),
        claim_for: Some(node.clone()),
        part: JobPart::default(),
    };
    let created = store.create_run(NewRun {
        run: run(),
        workflow: "bench".to_owned(),
        definition: Digest::of(&definition),
        definition_bytes: definition,
        input_digest: Digest::of(b"inputs"),
        settings: json!({}),
        owner: Some(node.clone()),
        deadline: None,
        stages: vec![NewStage::driven("steps")],
        jobs: vec![first],
        timers: Vec::new(),
        priority: Default::default(),
    });
    created.await.unwrap();
    // What it held itself is not counted.
    store.end_node(&node, json!({})).await.unwrap();
    store.rescue(None, RESCUED).await.unwrap();
    store.register_node("bench").await.unwrap().node
}

/// The next incarnation, after a kill of the last.
async fn again(store: &dyn Store, node: &NodeRef) -> NodeRef {
    let terms = NodeTerms { ttl: Duration::from_secs(60), exclusive: true };
    store.register_node_on(&node.node, terms).await.unwrap().node
}

/// Further ready jobs of the run.
fn jobs(count: usize) -> String {
    format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO jobs (run, stage, key, state, max_attempts, crashes_max)
         SELECT 'backlog', 'steps', 'j' || CAST(i AS TEXT), 'ready', 3, 3 FROM n;
         INSERT INTO inputs (job, data) SELECT id, '{{}}' FROM jobs WHERE key <> 'first';"
    )
}

/// Makes the first of these jobs what `node` was at.
fn leases(count: usize, node: &NodeRef) -> String {
    let NodeRef { node, incarnation } = node;
    format!(
        "UPDATE jobs SET state = 'leased', attempt = 1, lease_node = '{node}',
         lease_incarnation = {incarnation} WHERE id IN
           (SELECT id FROM jobs WHERE key <> 'first' ORDER BY id LIMIT {count});
         INSERT INTO attempts (job, attempt, node, incarnation, claimed_at)
         SELECT id, 1, '{node}', {incarnation}, 0 FROM jobs WHERE state = 'leased';"
    )
}
