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
        AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, StartRun, Workflow,
        workflow::{BoxFuture, JobKey, RetryPolicy},
    },
    records::{Failure, RunView},
};
use perennial_testkit::{PerennialBinary, RunningBinary};
use serde_json::{Value, json};

use crate::world::SOON;

/// Where the child works; it does nothing without.
const ROOM: &str = "CRASH_TEST_ROOM";
/// Where it stops to be killed: before or after its checkpoint, or nowhere.
const STOPS: &str = "CRASH_TEST_STOPS";

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
        let store = Store::sqlite(room.join("perennial.db"));
        let runtime = Runtime::builder().store(store).adoption(Adoption::OnRequest);
        let runtime = runtime.start().await.unwrap();
        let definition = Definition::new(b"pays".to_vec());
        let workflow = Arc::new(Pays { definition, room, stops });
        let run = Some(RunId::parse("r").unwrap());
        let start = StartRun { run, workflow, settings: json!({}), within: None };
        let run = runtime.runs().start(start).await.unwrap();
        run.outcome().await.unwrap();
        runtime.shutdown().await;
    });
}

fn process(room: &Path, stops: &str) -> RunningBinary {
    let own = PerennialBinary::new(std::env::current_exe().unwrap());
    let own = own.args(["--exact", "saved::child", "--ignored", "--nocapture"]);
    own.env(ROOM, room).env(STOPS, stops).spawn().unwrap()
}

/// What is recorded of the run.
fn view(room: &Path) -> RunView {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::sqlite(room.join("perennial.db"));
        let runtime = Runtime::builder().store(store).store_only().start().await.unwrap();
        let run = runtime.runs().get(&RunId::parse("r").unwrap()).await.unwrap();
        let view = run.view().await.unwrap();
        runtime.shutdown().await;
        view
    })
}

/// Kills a process at `place`, and lets another one end the run: how often was paid, and what is recorded.
fn killed_at(place: &str) -> (Vec<String>, RunView) {
    let room = tempfile::tempdir().unwrap();
    let mut first = process(room.path(), place);
    let stopped = room.path().join("stopped");
    first.kill_when("it is where it is to be killed", SOON, |_| stopped.is_file()).unwrap();
    let cut = view(room.path());
    assert_eq!(cut.saved.len(), usize::from(place == "after"));
    assert_eq!(cut.beats.len(), cut.saved.len(), "what was said is kept as well");
    let second = process(room.path(), "nowhere").wait(SOON).unwrap();
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
