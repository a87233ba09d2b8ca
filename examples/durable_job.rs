//! Durable work of the host's own: jobs that save what they have done, ask, and wait for a service that is down.
//! The process dies in the first job, and the next one goes on by itself. Run it with `cargo run --example durable_job`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::{error::Error, path::Path, process::Command, sync::Arc, time::Duration};

use perennial::engine::workflow::{BoxFuture, JobKey, RetryPolicy};
use perennial::engine::{
    AfterWait, AttemptCx, Definition, DoneJob, FailureMeans, JobPlan, Next, Outcome, StartRun,
    Unavailable, Wait, WaitDefault, Workflow,
};
use perennial::records::{Failure, FailureClass};
use perennial::{RunId, Runtime, Store, inspect::to_text};
use serde_json::json;
const SECOND: Duration = Duration::from_secs(1);

/// Reads five pages, asks for the paper, and prints them.
#[derive(Debug)]
struct Report {
    /// What tells this workflow from others, and from what it was in another version of the host.
    definition: Definition,
    /// The page at which this process dies.
    dies_at: Option<u64>,
    printer: AtomicU32,
}

impl Workflow for Report {
    fn name(&self) -> &str {
        "report"
    }
    fn definition(&self) -> &Definition {
        &self.definition
    }
    /// One job after the other. It is asked again after each, and in another process with what is recorded.
    fn next(&self, done: &[DoneJob]) -> Next {
        // Three tries of 10 s, the second one at most 50 ms after the first.
        let retry = RetryPolicy { base_ms: 50, ..RetryPolicy::PROVIDER };
        let job = |name| JobPlan::new(JobKey::new(name), retry, SECOND * 10);
        match done.len() {
            // A try that says nothing for 2 s has failed; with all tries the job has a minute.
            0 => Next::Jobs(vec![job("read").heartbeat_within(SECOND * 2).within(SECOND * 60)]),
            1 => Next::Jobs(vec![job("ask")]),
            2 => Next::Jobs(vec![job("print")]),
            _ => Next::Seal,
        }
    }
    fn on_failure(&self, _: &JobKey, failure: &Failure, _: u32, _: &[DoneJob]) -> FailureMeans {
        FailureMeans::FailRun { record: json!(failure.message) }
    }
    fn execute(self: Arc<Self>, cx: AttemptCx) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            println!("  {}, attempt {}", cx.job, cx.attempt);
            let ended = match cx.job.as_str() {
                "read" => self.read(&cx).await,
                "ask" => Ok(ask(&cx)),
                _ => self.print(&cx).await,
            };
            ended.unwrap_or_else(Outcome::Failed)
        })
    }
}

impl Report {
    /// Saves each page: a death repeats only what was not saved.
    async fn read(&self, cx: &AttemptCx) -> Result<Outcome, Failure> {
        let mut pages: Vec<u64> = cx.restored("pages").await?.unwrap_or_default();
        for page in pages.len() as u64 + 1..=5 {
            println!("    reads page {page}");
            if self.dies_at == Some(page) {
                std::process::abort(); // no handler, no destructor, no last word
            }
            pages.push(page);
            cx.checkpoint("pages", &pages).await?; // durable when it returns
            cx.heartbeat(json!({"page": page, "of": 5})).await?; // shown by the tree
        }
        Ok(Outcome::Succeeded(json!(pages)))
    }

    /// A service that is down uses no try; a failure that may pass uses one.
    async fn print(&self, cx: &AttemptCx) -> Result<Outcome, Failure> {
        let used = self.printer.fetch_add(1, Ordering::Relaxed);
        if used == 0 {
            println!("    the printer is off");
            // It is waited for half an hour at most; `AfterWait::Skip` would then go on without.
            let off = Unavailable::new("the printer").at_most(SECOND * 1800).then(AfterWait::Fail);
            return Ok(Outcome::Unavailable(off.retry_at(cx.now.after(SECOND))));
        }
        let request = Definition::new(b"print the report".to_vec()).digest;
        // A recorded reply is taken, and not asked for again. `_key` tells the printer of a repetition.
        let printed = cx.call(request, async |_key| match used {
            1 => Err(Failure::new(FailureClass::Transient, "APP1", "paper jam")),
            _ => Ok(json!("printed")),
        });
        Ok(Outcome::Succeeded(printed.await?.value))
    }
}

/// Asks, and holds nothing until there is an answer, which may take days and outlives the process.
/// `Wait::Signal` waits for what others send, `Wait::Timer` for an instant.
fn ask(cx: &AttemptCx) -> Outcome {
    match cx.resumed() {
        Some(resumed) => Outcome::Succeeded(resumed.value.clone()),
        None => Outcome::Suspend(Wait::Answer {
            name: "paper".to_owned(),
            question: json!("On which paper?"),
            until: cx.now.after(SECOND * 3600),
            or: WaitDefault::Resume(json!("A4")), // if nobody answers until then
        }),
    }
}

/// A host: starts the run, unless another process has.
async fn host(store: &Path, dies_at: Option<u64>) -> Result<(), Box<dyn Error>> {
    let report = move |definition: Vec<u8>| {
        let definition = Definition::new(definition);
        Arc::new(Report { definition, dies_at, printer: AtomicU32::new(0) })
    };
    // By this the runtime goes on by itself with what another process has left, or another node that is gone.
    // Where the bytes are those of a version that is no more, say so: `Err(NotRunnable::new(run, "why"))`.
    let builder = Runtime::builder().store(Store::sqlite(store));
    let builder = builder.workflow("report", move |_run, bytes| Ok(report(bytes)));
    let runtime = builder.start().await?;
    let id = RunId::parse("report-17")?;
    let run = match dies_at {
        Some(_) => {
            let workflow = report(b"report 1".to_vec());
            let start = StartRun {
                run: Some(id),
                workflow,
                settings: json!({}),
                within: None,
                priority: Default::default(),
            };
            runtime.runs().start(start).await?
        }
        None => runtime.runs().get(&id).await?, // it is under way
    };
    let mut events = run.events(1);
    while events.next().await?.kind != "job_suspended" {}
    // Also `perennial answer report-17 paper '"A5"'`, while no process has the file.
    run.answer("paper", &"A5").await?;
    let outcome = run.outcome().await?;
    println!("run {} {}", run.id(), outcome.state.name());
    for job in &outcome.view.jobs {
        println!("  {}: {}", job.key, job.result.clone().unwrap_or_default());
    }
    println!("\n{}", to_text(&runtime.tree(), &Default::default()));
    runtime.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(store) = std::env::args().nth(1) {
        return host(Path::new(&store), Some(3)).await;
    }
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("perennial.db");
    println!("the first process");
    let died = Command::new(std::env::current_exe()?).arg(&store).status()?;
    println!("it died: {died}\n\nthe second process");
    host(&store, None).await
}
