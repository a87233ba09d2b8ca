//! `kill -9` of a process whose attempt saves what it has done: a host of its own, in a process of its own.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use perennial::{
    Adoption, RunId, Runtime, Store,
    engine::{
        AttemptCx, Definition, DoneJob, Explanation, FailureMeans, JobPlan, Next, NotRunnable,
        Outcome, StartRun, Workflow,
        scheduler::LeaseTerms,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::{Failure, RunView},
};
use perennial_testkit::{PerennialBinary, RunningBinary, postgres};
use serde_json::{Value, json};

use crate::world::SOON;

/// Where the child works; it does nothing without.
const ROOM: &str = "CRASH_TEST_ROOM";
/// Where it stops to be killed: before or after its checkpoint, or nowhere.
const STOPS: &str = "CRASH_TEST_STOPS";
/// Where the store is, if not in the room; then it is shared, and the lease is short.
const URL: &str = "CRASH_TEST_URL";
/// Set: it starts no run, and goes on with what is there.
const ADOPTS: &str = "CRASH_TEST_ADOPTS";
/// The lease of a node of a shared store.
const LEASE: Duration = Duration::from_secs(2);

/// Pays once for a sum, which it saves.
#[derive(Debug)]
struct Pays {
    definition: Definition,
    room: PathBuf,
    stops: String,
}

impl Workflow for Pays {
    fn name(&self) -> &str {
        "pays"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let plan = || JobPlan::new(JobKey::new("pay"), RetryPolicy::ONCE, Duration::from_secs(600));
        if done.is_empty() { Next::Jobs(vec![plan()]) } else { Next::Seal }
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            match self.pay(&cx).await {
                Ok(sum) => Outcome::Succeeded(sum),
                Err(failure) => Outcome::Failed(failure),
            }
        })
    }
}

impl Pays {
    async fn pay(&self, cx: &AttemptCx) -> Result<Value, Failure> {
        if let Some(sum) = cx.restored("sum").await? {
            return Ok(sum);
        }
        note(&self.room.join("paid"), cx.idempotency_key.as_str());
        self.stop_at("before").await;
        cx.checkpoint("sum", &7).await?;
        cx.heartbeat(json!("saved")).await?;
        self.stop_at("after").await;
        Ok(json!(7))
    }

    async fn stop_at(&self, place: &str) {
        if self.stops == place {
            note(&self.room.join("stopped"), place);
            std::future::pending::<()>().await;
        }
    }
}

fn note(path: &Path, line: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The other process: runs `r` to its end, or until it is killed.
#[test]
#[ignore = "the process that other tests kill"]
fn child() {
    let Some(room) = std::env::var_os(ROOM).map(PathBuf::from) else { return };
    let stops = std::env::var(STOPS).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let adopts = std::env::var_os(ADOPTS).is_some();
        let url = std::env::var(URL).ok();
        let runtime = host(&room, url.as_deref(), "first", adopts.then(|| stops.clone())).await;
        let id = RunId::parse("r").unwrap();
        let run = if adopts {
            runtime.runs().get(&id).await.unwrap()
        } else {
            let definition = Definition::new(b"pays".to_vec());
            let workflow = Arc::new(Pays { definition, room, stops });
            let start = StartRun {
                run: Some(id),
                workflow,
                settings: json!({}),
                within: None,
                priority: Default::default(),
            };
            runtime.runs().start(start).await.unwrap()
        };
        run.outcome().await.unwrap();
        runtime.shutdown().await;
    });
}

/// A host; one that is told where its attempts stop knows how `pays` is built again, and goes on with its runs.
async fn host(room: &Path, url: Option<&str>, node: &str, adopts: Option<String>) -> Runtime {
    let store = match url {
        Some(url) => Store::postgres(url).unwrap(),
        None => Store::sqlite(room.join("perennial.db")),
    };
    let builder = Runtime::builder().store(store).node(node);
    let builder = if url.is_some() { builder.lease(LeaseTerms::of(LEASE)) } else { builder };
    let builder = match adopts {
        None => builder.adoption(Adoption::OnRequest),
        Some(stops) => {
            let room = room.to_owned();
            builder.workflow("pays", move |_, definition| {
                let definition = Definition::new(definition);
                Ok(Arc::new(Pays { definition, room: room.clone(), stops: stops.clone() }))
            })
        }
    };
    builder.start().await.unwrap()
}

fn process(room: &Path, stops: &str) -> RunningBinary {
    binary(room, stops).spawn().unwrap()
}

fn binary(room: &Path, stops: &str) -> PerennialBinary {
    let own = PerennialBinary::new(std::env::current_exe().unwrap());
    let own = own.args(["--exact", "saved::child", "--ignored", "--nocapture"]);
    own.env(ROOM, room).env(STOPS, stops)
}

/// What is recorded of the run.
fn view(room: &Path) -> RunView {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::sqlite(room.join("perennial.db"));
        let runtime = Runtime::builder().store(store).store_only().start().await.unwrap();
        let run = runtime.runs().get(&RunId::parse("r").unwrap()).await.unwrap();
        let view = run.view().await.unwrap();
        let why = run.explain(&view.jobs[0].key).await.unwrap();
        if let Explanation::Leased { alive: false, until, .. } = &why {
            assert_eq!(*until, None, "nothing happens by itself");
            assert!(why.changed_by().unwrap().contains("a resume"), "{why:?}");
        } else {
            assert!(matches!(why, Explanation::Ended { .. }), "{why:?}");
        }
        runtime.shutdown().await;
        view
    })
}

/// Kills a process at `place`, and lets another one end the run: how often was paid, and what is recorded.
fn killed_at(place: &str) -> (Vec<String>, RunView) {
    killed_and_followed(place, |room| process(room, "nowhere"))
}

fn killed_and_followed(
    place: &str,
    next: impl FnOnce(&Path) -> RunningBinary,
) -> (Vec<String>, RunView) {
    let room = tempfile::tempdir().unwrap();
    let mut first = process(room.path(), place);
    let stopped = room.path().join("stopped");
    first.kill_when("it is where it is to be killed", SOON, |_| stopped.is_file()).unwrap();
    let cut = view(room.path());
    assert_eq!(cut.saved.len(), usize::from(place == "after"));
    assert_eq!(cut.beats.len(), cut.saved.len(), "what was said is kept as well");
    let second = next(room.path()).wait(SOON).unwrap();
    assert!(second.status.success(), "{second:?}");
    let view = view(room.path());
    assert_eq!(view.run.state.name(), "succeeded");
    assert_eq!(view.jobs[0].result, Some(json!(7)));
    assert!(view.saved.is_empty());
    let ends: Vec<_> = view.attempts.iter().map(|of| of.end.unwrap().name()).collect();
    assert_eq!(ends, ["expired", "succeeded"]);
    (lines(&room.path().join("paid")), view)
}

/// Proves K8, K13.
#[test]
fn what_was_saved_before_a_kill_is_not_paid_again() {
    let (paid, view) = killed_at("after");
    assert_eq!(paid.len(), 1);
    assert_eq!(view.beats[0].progress, "saved");
}

/// Proves K9.
#[test]
fn what_was_not_saved_before_a_kill_is_paid_again_with_the_same_key() {
    let (paid, _) = killed_at("before");
    assert_eq!(paid.len(), 2);
    assert_eq!(paid[0], paid[1], "the outside world knows it again");
}

/// The next process starts no run: its runtime knows how the workflow is built again, and goes on by itself.
#[test]
fn a_run_of_the_hosts_own_goes_on_in_the_next_process() {
    let next = |room: &Path| binary(room, "nowhere").env(ADOPTS, "1").spawn().unwrap();
    let (paid, _) = killed_and_followed("after", next);
    assert_eq!(paid.len(), 1);
}

/// INV-13, for a workflow of the host's own: of two nodes that live, the one that knows it takes its run over.
#[test]
fn a_run_of_the_hosts_own_is_taken_over_by_the_node_that_knows_it() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database("hosts_own").unwrap();
    let (url, room) = (database.url(), tempfile::tempdir().unwrap());
    let mut first = binary(room.path(), "after").env(URL, &url).spawn().unwrap();
    let stopped = room.path().join("stopped");
    first.kill_when("it is where it is to be killed", SOON, |_| stopped.is_file()).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let other = Store::postgres(&url).unwrap();
        let other = Runtime::builder().store(other).node("other").lease(LeaseTerms::of(LEASE));
        let other = other.workflow("else", |run, _| Err(NotRunnable::new(run, "never asked")));
        let other = other.start().await.unwrap();
        let id = RunId::parse("r").unwrap();
        let seen = other.runs().get(&id).await.unwrap();
        let left = tokio::time::timeout(SOON, seen.outcome()).await.unwrap().unwrap_err();
        assert!(left.to_string().contains("does not know its workflow `pays`"), "{left}");
        let owner = seen.view().await.unwrap().run.owner.unwrap();
        assert_eq!(owner.node, "first", "it is left as it is");

        let second = host(room.path(), Some(&url), "second", Some("nowhere".to_owned())).await;
        let run = second.runs().get(&id).await.unwrap();
        let outcome = tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
        assert_eq!(outcome.view.jobs[0].result, Some(json!(7)));
        assert_eq!(outcome.view.run.owner.unwrap().node, "second");
        assert_eq!(lines(&room.path().join("paid")).len(), 1, "what was saved is not paid again");
        second.shutdown().await;
        other.shutdown().await;
    });
}
