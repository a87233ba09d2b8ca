//! The process that is killed: this test binary once more, with the engine on a store and one run. What it must do,
//! and where it dies, comes as a value on its standard input; what it did and what was acknowledged goes line by line to
//! its standard output, before it does anything else.

use std::{
    io::{BufRead, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, join, select};
use perennial::{
    RunId, RunState,
    engine::{
        Definitions, NotRunnable, RecordedCalls, ReopenRun, RunHandle, Runs, StartRun, Workflow,
        staged::Which, workflow::BoxFuture,
    },
    records::{JobState, RunRecord},
};
use perennial_store::Store;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    flow::{Flow, Shape},
    host::Host,
    oracle::Fold,
    staged,
};

/// Before each line of the ledger: the test harness writes to the same output.
pub(super) const MARK: char = '@';
/// What it keeps for a run before there is one.
pub(super) const BLOB: &[u8] = b"kept before there was a run";
/// How long it lives without being told to end.
const LIFE: Duration = Duration::from_secs(120);

/// What a victim does.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) store: String,
    pub(super) run: String,
    pub(super) shape: Shape,
    /// The sequence number from which on it tells of events.
    pub(super) events_from: u64,
    /// What it does with the run after so many effects: `cancel`, `pause`, `drain`, or nothing; `reopen` comes
    /// before everything, and `follow` waits until the end was told.
    pub(super) act: Option<(String, u64)>,
    /// It dies at the n-th passage of a point.
    pub(super) dies_at: Option<(String, u64)>,
    /// Compares rows and events all the time.
    pub(super) samples: bool,
    /// Attempts that run at once.
    pub(super) rooms: usize,
    /// It keeps bytes that the run's settings name.
    pub(super) blob: bool,
    /// Its run has stages.
    pub(super) staged: bool,
    /// Such a run is on a store that tells of it, as all others are, and not in a runtime.
    pub(super) watched: bool,
    /// Its run is a study of the example, whose apps are in that folder; and by which seed it hits its own actors, 0 when
    /// it does not.
    pub(super) study: Option<(String, u64)>,
    /// Its run uses a service, which keeps what there is of it in that folder; 1 when that outlives its host, else 0.
    pub(super) serving: Option<(String, u64)>,
    /// Its run undoes what it has done.
    pub(super) undoing: bool,
}

impl Orders {
    pub(super) fn to_json(&self) -> Value {
        let pair = |pair: &Option<(String, u64)>| json!(pair);
        json!({
            "store": self.store, "run": self.run, "shape": self.shape.to_json(),
            "events_from": self.events_from, "act": pair(&self.act),
            "dies_at": pair(&self.dies_at), "samples": self.samples,
            "rooms": self.rooms, "blob": self.blob, "staged": self.staged,
            "watched": self.watched,
            "study": pair(&self.study), "serving": pair(&self.serving),
            "undoing": self.undoing,
        })
    }

    fn of_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let pair = |name: &str| {
            let found = value[name].as_array()?;
            Some((found[0].as_str().unwrap().to_owned(), found[1].as_u64().unwrap()))
        };
        Self {
            store: text("store"),
            run: text("run"),
            shape: Shape::of_json(&value["shape"]),
            events_from: value["events_from"].as_u64().unwrap(),
            act: pair("act"),
            dies_at: pair("dies_at"),
            samples: value["samples"] == true,
            rooms: usize::try_from(value["rooms"].as_u64().unwrap()).unwrap(),
            blob: value["blob"] == true,
            staged: value["staged"] == true,
            watched: value["watched"] == true,
            study: pair("study"),
            serving: pair("serving"),
            undoing: value["undoing"] == true,
        }
    }
}

/// Where a victim tells what it did, and dies.
#[derive(Debug)]
pub(super) struct Ledger {
    dies_at: Option<(String, u64)>,
    passed: AtomicU64,
    effects: AtomicU64,
    has_told_the_end: AtomicBool,
    wrote: Notify,
}

impl Ledger {
    fn new(dies_at: Option<(String, u64)>) -> Self {
        let (passed, effects) = (AtomicU64::new(0), AtomicU64::new(0));
        let (has_told_the_end, wrote) = (AtomicBool::new(false), Notify::new());
        Self { dies_at, passed, effects, has_told_the_end, wrote }
    }

    /// One line, whole, before anything else is done.
    pub(super) fn write(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{MARK}{line}").unwrap();
        out.flush().unwrap();
        if line.starts_with("effect") {
            self.effects.fetch_add(1, Ordering::SeqCst);
            self.wrote.notify_waiters();
        }
    }

    /// Dies here, if this is the place.
    pub(super) fn passes(&self, point: &str) {
        if let Some((name, times)) = &self.dies_at
            && name == point
            && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == *times
        {
            self.write(&format!("dies {point}"));
            std::process::abort();
        }
    }

    async fn effects(&self, count: u64) {
        self.until(|| self.effects.load(Ordering::SeqCst) >= count).await;
    }

    async fn told_the_end(&self) {
        self.until(|| self.has_told_the_end.load(Ordering::SeqCst)).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let mut wrote = std::pin::pin!(self.wrote.notified());
            wrote.as_mut().enable();
            if holds() {
                return;
            }
            wrote.await;
        }
    }
}

/// Does nothing without orders: somebody has asked for all ignored tests.
#[test]
#[ignore = "the process that the other tests start and kill"]
fn the_victim() {
    let mut orders = String::new();
    std::io::stdin().lock().read_line(&mut orders).unwrap();
    let Ok(orders) = serde_json::from_str::<Value>(&orders) else { return };
    dies_with_its_parent();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let live = async { tokio::time::timeout(LIFE, live(Orders::of_json(&orders))).await };
    runtime.block_on(live).expect("it is over long before");
}

#[expect(clippy::disallowed_methods, reason = "it ends the process, whatever that is at")]
fn dies_with_its_parent() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        drop(std::io::stdin().lock().read_to_end(&mut rest));
        std::process::abort();
    });
}

#[derive(Debug)]
struct Revived(Arc<Ledger>);

impl Definitions for Revived {
    fn revive<'a>(
        &'a self,
        record: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        let revived = if record.workflow == staged::NAME {
            staged::study(self.0.clone()).rebuild(record)
        } else {
            let shape = Shape::of_json(&serde_json::from_slice(&definition).unwrap());
            let flow: Arc<dyn Workflow> = Arc::new(Flow::new(shape, self.0.clone()));
            Ok(flow)
        };
        Box::pin(std::future::ready(revived))
    }
}

async fn live(orders: Orders) {
    let ledger = Arc::new(Ledger::new(orders.dies_at.clone()));
    if orders.study.is_some() {
        return Box::pin(super::study::live(&orders, ledger)).await;
    }
    if orders.serving.is_some() {
        return Box::pin(super::serving::live(&orders, ledger)).await;
    }
    if orders.undoing {
        return Box::pin(super::undoing::live(&orders, ledger)).await;
    }
    if orders.staged && !orders.watched {
        return Box::pin(staged::live(&orders, ledger)).await;
    }
    let revived = Arc::new(Revived(ledger.clone()));
    let host = Host::start(&orders, ledger.clone(), revived, Vec::new()).await;
    let (store, runs) = (host.store.clone(), host.runs.clone());
    let settings = match orders.blob {
        true => json!({ "kept": store.put_blob(BLOB.to_vec()).await.unwrap() }),
        false => json!({}),
    };
    let start = if orders.staged {
        staged::study(ledger.clone()).start(&staged::apps(&orders)).unwrap()
    } else {
        let workflow = Arc::new(Flow::new(orders.shape, ledger.clone()));
        StartRun { run: None, workflow, settings, within: None, priority: Default::default() }
    };
    let start = StartRun { run: Some(RunId::parse(&orders.run).unwrap()), ..start };
    let mut run = runs.start(start).await.unwrap();
    ledger.write("created");
    if orders.act.as_ref().is_some_and(|(what, _)| what == "reopen") {
        if orders.staged {
            run.retry(&Which::Failed, true).await.unwrap();
        } else {
            run = reopened(&runs, &run, Flow::new(orders.shape, ledger.clone())).await;
        }
        ledger.write("acted reopen");
    }
    let beside = join(tell(&run, &ledger, orders.events_from), sample(&orders, &*store, &ledger));
    let body = std::pin::pin!(act(&run, &orders, &ledger));
    match select(body, std::pin::pin!(beside)).await {
        Either::Left(((), _)) | Either::Right((_, _)) => (),
    }
    host.shutdown().await;
}

/// A further round of a run that was cancelled: all that did not succeed is made again.
async fn reopened(runs: &Runs, run: &RunHandle, flow: Flow) -> RunHandle {
    let view = run.view().await.unwrap();
    let again = view.jobs.iter().filter(|job| job.state != JobState::Succeeded);
    let again = again.map(|job| (job.key.clone(), RecordedCalls::Kept)).collect();
    let workflow = Arc::new(flow);
    let (settings, within) = (json!({}), Some(LIFE));
    runs.reopen(ReopenRun { view, workflow, settings, within, again }).await.unwrap()
}

/// Meddles with the run, and waits for its end; a drain does not.
async fn act(run: &RunHandle, orders: &Orders, ledger: &Ledger) {
    // By an earlier life; there is no effect to wait for until it goes on.
    go_on(run, ledger).await;
    if let Some((what, effects)) = &orders.act {
        let effects = std::pin::pin!(ledger.effects(*effects));
        // It may be over without so many.
        if let Either::Left(_) = select(effects, std::pin::pin!(run.outcome())).await {
            match what.as_str() {
                "cancel" => drop(run.cancel().await.unwrap()),
                // It may be over by now.
                "pause" => drop(run.pause().await),
                "drain" => return,
                "follow" => ledger.told_the_end().await,
                "reopen" => (),
                other => panic!("{other} is nothing it can do"),
            }
            ledger.write(&format!("acted {what}"));
        }
    }
    go_on(run, ledger).await;
    let outcome = run.outcome().await.unwrap();
    ledger.write(&format!("closed {}", outcome.state));
}

/// Ends a pause, after a while.
async fn go_on(run: &RunHandle, ledger: &Ledger) {
    if run.view().await.unwrap().run.state == RunState::Paused {
        // real time: others look at it meanwhile
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(run.unpause().await);
        ledger.write("acted unpause");
    }
}

/// Tells of the run's events; never done.
async fn tell(run: &RunHandle, ledger: &Ledger, from: u64) {
    let mut feed = run.events(from);
    while let Ok(event) = feed.next().await {
        let job = event.job.as_ref().map_or("-", |job| job.as_str());
        let attempt = event.attempt.unwrap_or(0);
        ledger.write(&format!("event {} {} {job} {attempt}", event.seq, event.kind));
        if event.kind == "run_closed" {
            ledger.passes("told_end:after");
            ledger.has_told_the_end.store(true, Ordering::SeqCst);
            ledger.wrote.notify_waiters();
            break;
        }
    }
    std::future::pending().await
}

/// INV-6, INV-28: whenever somebody looks, the rows are what the events say.
async fn sample(orders: &Orders, store: &dyn Store, ledger: &Ledger) {
    let run = RunId::parse(&orders.run).unwrap();
    // One in stages is looked at after each decision.
    if !orders.samples || orders.staged {
        return std::future::pending().await;
    }
    let mut fold = Fold::default();
    loop {
        match fold.catch_up(store, &run).await {
            Ok(()) => ledger.write("sampled"),
            Err(why) => ledger.write(&format!("violation {}", why.replace('\n', " "))),
        }
        // real time: so that there is time for the run, too
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
