//! A run in stages: models write apps, and each app is analysed by several tools as soon as it is there. One app is never
//! written, one does not build, one tool is unknown: the rest is done, and the run says so. Run it with
//! `cargo run --example staged_jobs`, or with a path at the end to keep its runs: `perennial runs --store PATH` then shows them.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "staged_jobs/activities.rs"]
mod activities;
#[path = "staged_jobs/study.rs"]
mod study;

use std::{error::Error, path::PathBuf, sync::Arc, sync::atomic::Ordering};

use perennial::engine::staged::Staged;
use perennial::inspect::to_text;
use perennial::{Runtime, Store};

use self::activities::{AnalyzeApp, FakeModel, Generate, RunTool};
use self::study::{StagedJobs, Study};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let model = Arc::new(FakeModel::default());
    let staged = Staged::new(StagedJobs)
        .activity(Generate(model.clone()))
        .activity(RunTool)
        .group(AnalyzeApp);
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let store = Store::sqlite(path.unwrap_or_else(|| folder.path().join("runs.db")));
    let runtime = Runtime::builder().store(store).staged(&staged).start().await?;

    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let study = Study {
        models: texts(&["large", "swift"]),
        templates: texts(&["blog", "chat", "shop"]),
        tools: texts(&["static", "dynamic", "crystal-ball"]),
        streaming: true,
    };
    let run = runtime.runs().start(staged.start(&study)?).await?;
    let mut events = run.events(1);
    loop {
        let event = events.next().await?;
        match event.kind.as_str() {
            "stage_opened" | "stage_sealed" | "stage_closed" => {
                println!("{:<14} {}", event.kind, event.data["stage"].as_str().unwrap_or_default());
            }
            "run_closed" => break,
            _ => (),
        }
    }
    let outcome = run.outcome().await?;
    println!("\nThe run {}:\n{}", outcome.state, staged.output(&outcome.view)?);
    println!("\nThe model was called {} times.\n", model.calls.load(Ordering::SeqCst));
    assert_eq!(outcome.state.name(), "partially_succeeded");

    // The same study once more, with a barrier between its stages: the same analyses come of it.
    let barrier = runtime.runs().start(staged.start(&Study { streaming: false, ..study })?).await?;
    let again = barrier.outcome().await?;
    let analyses = |text: String| -> Vec<String> {
        text.lines().filter(|line| line.contains("analysis")).map(str::to_owned).collect()
    };
    assert_eq!(analyses(staged.output(&again.view)?), analyses(staged.output(&outcome.view)?));
    println!("{}", to_text(&runtime.tree(), &Default::default()));
    runtime.shutdown().await;
    Ok(())
}
