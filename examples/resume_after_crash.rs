//! A process dies in the middle of a run; another process finishes it from the same file.
//! Run it with `cargo run --example resume_after_crash`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use perennial::{Adoption, ProviderMode, RunId, Runtime, StartPipeline, Store, inspect::to_text};

// The process dies in the second step; the next one begins that step again.
const DOCUMENT: &str = "
workflow:
  name: crash
  steps:
    - {name: first, type: echo, value: one}
    - {name: second, type: echo, value: two, delay_ms: 100}
    - {name: third, type: echo, value: '{{ steps.first.result }} and {{ steps.second.result }}'}
";

// One thread for everything, so that a process that stands still stands still everywhere.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(store) => die_on_the_way(&store).await,
        None => see_it_through().await,
    }
}

/// The child process: starts the run and never finishes it.
async fn die_on_the_way(store: &str) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::builder().store(Store::sqlite(store)).start().await?;
    let start = StartPipeline::document("crash.yaml", DOCUMENT).mode(ProviderMode::Mock);
    let run = runtime.pipelines().start(start.run_id(RunId::parse("demo")?)).await?;
    let mut events = run.events();
    loop {
        let event = events.next().await?;
        let step = event.job.map(|job| job.to_string()).unwrap_or_default();
        println!("{} {step}", event.kind);
        if event.kind == "attempt_started" && step == "second" {
            // Nobody answers: here it waits for its death, with a step in its hands.
            io::stdin().read_line(&mut String::new())?;
        }
    }
}

/// This process: kills the other one, and goes on where it was.
async fn see_it_through() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("perennial.db");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(&store).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    for line in BufReader::new(child.stdout.take().ok_or("no stdout")?).lines() {
        let line = line?;
        println!("child: {line}");
        if line == "attempt_started second" {
            child.kill()?; // SIGKILL: no handler, no destructor, no last word.
        }
    }
    println!("child: {}", child.wait()?);

    // By itself a runtime continues at boot what it finds unfinished; here we ask for it.
    let builder = Runtime::builder().store(Store::sqlite(&store)).adoption(Adoption::OnRequest);
    let runtime = builder.start().await?;
    let run = runtime.pipelines().resume(&RunId::parse("demo")?).await?;
    let outcome = run.outcome().await?;
    println!("\nrun {} {}: {:?}", outcome.run_id(), outcome.status(), outcome.result("third"));
    println!("attempts: {:?}", outcome.view.attempts.iter().map(|one| one.end).collect::<Vec<_>>());
    println!("\n{}", to_text(&runtime.tree(), &Default::default()));
    runtime.shutdown().await;
    Ok(())
}
