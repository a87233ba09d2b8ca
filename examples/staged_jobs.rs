//! A run in stages: models write apps, and analyzers look at each app as soon as it is there, most of them while it runs. One
//! app is never written, one does not build, one analyzer falls over: the rest is done, and the run says so. Run it with
//! `cargo run --example staged_jobs`, or with a path at the end to keep its runs: `perennial runs --store PATH` then shows them.
//! `cargo run --example staged_jobs -- import RECORD PATH` imports a record of the platform's predecessor instead.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

#[path = "staged_jobs/import.rs"]
mod import;
#[path = "staged_jobs/platform.rs"]
mod platform;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use perennial::engine::workflow::RetryPolicy;
use perennial::inspect::to_text;
use perennial::{Runtime, Store};

use self::import::import;
use self::platform::{Platform, Study, Terms, report::StudyReport};

#[tokio::main]
async fn main() -> ExitCode {
    match work().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn work() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let paid = Arc::new(AtomicU32::new(0));
    let counts = paid.clone();
    let notes = move |note: &str| {
        counts.fetch_add(note.starts_with("paid").into(), Ordering::SeqCst);
    };
    let retry = RetryPolicy { base_ms: 20, ..RetryPolicy::PROVIDER };
    let terms = Terms { pace: Duration::from_millis(40), retry, notes: Arc::new(notes) };
    let platform = Platform::new(folder.path(), terms);
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from).peekable();
    let imports = paths.next_if(|first| first == "import").and_then(|_| paths.next());
    let store = Store::sqlite(paths.next().unwrap_or_else(|| folder.path().join("runs.db")));
    let runtime = platform.on(store).start().await?;
    if let Some(record) = imports {
        let told = import_record(&runtime, &platform, &record).await;
        runtime.shutdown().await;
        return told;
    }

    let study = Study::usual();
    let report = carry_out(&runtime, &platform, &study).await?;
    println!("\nThe model was paid for {} replies.\n", paid.load(Ordering::SeqCst));
    // The same with a barrier between the stages, and of the apps that are there now: the same analyses come of it.
    let study = Study { streaming: false, ..study };
    assert_eq!(carry_out(&runtime, &platform, &study).await?.analyses, report.analyses);
    let study = Study { existing: report.apps, ..study };
    let again = carry_out(&runtime, &platform, &study).await?;
    assert!(again.analyses.iter().all(|row| report.analyses.contains(row)));
    println!("{}", to_text(&runtime.tree(), &Default::default()));
    runtime.shutdown().await;
    Ok(())
}

/// A record of the predecessor, and what became of it.
async fn import_record(
    runtime: &Runtime,
    platform: &Platform,
    record: &Path,
) -> Result<(), Box<dyn Error>> {
    let refused =
        |why: &dyn std::fmt::Display| format!("{} was not imported:\n{why}", record.display());
    let text = std::fs::read_to_string(record).map_err(|error| refused(&error))?;
    let imported =
        import(platform, runtime.runs(), &text).await.map_err(|error| refused(&error))?;
    let view = imported.run.run.view().await?;
    let was = if imported.run.is_new { "is imported" } else { "was imported before" };
    println!("{} {was}; it is {}, with {} jobs", view.run.run, view.run.state, view.jobs.len());
    for difference in &imported.differences {
        println!("  differs: {difference}");
    }
    Ok(())
}

/// One study, with how far it has come; and with the tree, while its first analyses are under way.
async fn carry_out(
    runtime: &Runtime,
    platform: &Platform,
    study: &Study,
) -> Result<StudyReport, Box<dyn Error>> {
    let run = runtime.runs().start(platform.staged.start(study)?).await?;
    let mut events = run.events(1);
    loop {
        let event = events.next().await?;
        let (kind, stage) = (event.kind.as_str(), event.data["stage"].as_str().unwrap_or_default());
        match kind {
            "stage_opened" | "stage_sealed" | "stage_closed" => {
                let progress = run.view().await?.run.progress.unwrap_or_default();
                println!("{progress:>3} % {kind} {stage}");
            }
            "run_closed" => break,
            _ => (),
        }
        if (kind, stage, study.streaming) == ("stage_closed", "generation", true) {
            println!("\n{}", to_text(&runtime.tree(), &Default::default()));
        }
    }
    let outcome = run.outcome().await?;
    let report = platform.staged.output(&outcome.view)?;
    println!("\nThe run {}:\n{report}", outcome.state);
    Ok(report)
}
