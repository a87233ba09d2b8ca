//! What the nodes do, and a log of it by the one clock of the test.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use perennial_core::{FailureClass, failure::Failure};
use perennial_engine::{
    AttemptCx, Definition, Definitions, DoneJob, FailureMeans, JobPlan, Next, NotRunnable, Outcome,
    Workflow,
    workflow::{BoxFuture, JobKey, RetryPolicy},
};
use perennial_store::RunRecord;
use tokio::{sync::watch, time::Instant};

/// One attempt that was under way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) node: String,
    pub(crate) run: String,
    pub(crate) job: String,
    pub(crate) attempt: u32,
    pub(crate) begun: Instant,
    /// When it ended, or was stopped.
    pub(crate) over: Option<Instant>,
    /// It was not stopped.
    pub(crate) ended: bool,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<(Mutex<Vec<Entry>>, watch::Sender<usize>)>);

impl Log {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::default(), watch::Sender::new(0))))
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits until so many attempts have begun.
    pub(crate) async fn begun(&self, count: usize) {
        self.0.1.subscribe().wait_for(|begun| *begun >= count).await.unwrap();
    }

    fn begin(&self, node: &str, cx: &AttemptCx) -> Under {
        let (node, run) = (node.to_owned(), cx.run.to_string());
        let (job, attempt, begun) = (cx.job.to_string(), cx.attempt, now());
        let mut entries = self.0.0.lock().unwrap();
        entries.push(Entry { node, run, job, attempt, begun, over: None, ended: false });
        self.0.1.send_replace(entries.len());
        Under { log: self.clone(), place: entries.len() - 1 }
    }

    /// No job is worked on twice at a time, and each has its attempts in their order.
    pub(crate) fn assert_one_at_a_time(&self) {
        let mut entries = self.entries();
        entries.sort_by(|a, b| (&a.run, &a.job, a.begun).cmp(&(&b.run, &b.job, b.begun)));
        for pair in entries.windows(2) {
            let [first, second] = pair else { continue };
            if (&first.run, &first.job) == (&second.run, &second.job) {
                let over = first.over.expect("one that goes on is the last");
                assert!(over <= second.begun, "two at a time: {first:#?} {second:#?}");
                assert!(first.attempt < second.attempt, "{first:?} {second:?}");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one clock of the test, which is paused")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Notes when it is dropped.
struct Under {
    log: Log,
    place: usize,
}

impl Drop for Under {
    fn drop(&mut self) {
        self.log.0.0.lock().unwrap()[self.place].over = Some(now());
    }
}

/// Steps that each take that long: one after the other, or all at once.
#[derive(Debug)]
pub(crate) struct Steps {
    definition: Definition,
    node: String,
    log: Log,
    count: usize,
    takes: Duration,
    at_once: bool,
}

impl Steps {
    pub(crate) fn new(node: &str, log: &Log, count: usize, takes: Duration, at_once: bool) -> Self {
        let text = format!("{count} {} {at_once}", takes.as_millis());
        let definition = Definition::new(text.into_bytes());
        Self { definition, node: node.to_owned(), log: log.clone(), count, takes, at_once }
    }

    /// The same, of a type that only a newer build knows.
    pub(crate) fn newer(self) -> Self {
        let text = [&self.definition.bytes, NEWER.as_bytes()].concat();
        Self { definition: Definition::new(text), ..self }
    }
}

/// The end of a definition that only a newer build knows.
const NEWER: &str = " hologram";

impl Workflow for Steps {
    fn name(&self) -> &str {
        "steps"
    }

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn next(&self, done: &[DoneJob]) -> Next {
        let plan = |number: usize| {
            JobPlan::new(
                JobKey::new(format!("step-{number}")),
                RetryPolicy::ONCE,
                Duration::from_secs(3600),
            )
        };
        match self.at_once {
            true if done.is_empty() => Next::Jobs((0..self.count).map(plan).collect()),
            false if done.len() < self.count => Next::Jobs(vec![plan(done.len())]),
            true | false => Next::Seal,
        }
    }

    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: failure.message.clone().into() }
    }

    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let under = self.log.begin(&self.node, &cx);
            tokio::time::sleep(self.takes).await; // paused clock
            self.log.0.0.lock().unwrap()[under.place].ended = true;
            Outcome::Succeeded(self.node.clone().into())
        })
    }
}

/// Every node knows the work, but for what needs a newer build.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) node: String,
    pub(crate) log: Log,
    pub(crate) newer: bool,
}

impl Definitions for Known {
    fn revive<'a>(
        &'a self,
        run: &'a RunRecord,
        definition: Vec<u8>,
    ) -> BoxFuture<'a, Result<Arc<dyn Workflow>, NotRunnable>> {
        let text = String::from_utf8(definition).unwrap();
        let older = text.strip_suffix(NEWER).filter(|_| self.newer);
        let is_newer = older.is_some();
        let parts: Vec<&str> = older.unwrap_or(&text).split(' ').collect();
        let revived = match parts.as_slice() {
            [count, takes, at_once] => {
                let (count, at_once) = (count.parse().unwrap(), at_once.parse().unwrap());
                let takes = Duration::from_millis(takes.parse().unwrap());
                let steps = Steps::new(&self.node, &self.log, count, takes, at_once);
                Ok(Arc::new(if is_newer { steps.newer() } else { steps }) as Arc<dyn Workflow>)
            }
            _ => {
                let failure = Failure::new(FailureClass::Internal, "T1", text.clone());
                Err(NotRunnable { run: run.run.clone(), failure })
            }
        };
        Box::pin(std::future::ready(revived))
    }
}
