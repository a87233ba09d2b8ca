//! A run in stages: models write apps, and analyzers look at each app as soon as it is there, most of them while it runs. One
//! app is never written, one does not build, one analyzer falls over: the rest is done, and the run says so.
//!
//! | `cargo run --example staged_jobs --` | what it does |
//! |---|---|
//! | nothing, or `PATH` | the usual study in three ways; with a path, `perennial runs --store PATH` shows them afterwards |
//! | `study FOLDER` | one study, slowly, whose apps and runs are in the folder; stopped or killed, it goes on when it is started again |
//! | `study FOLDER postgres://…` | the same on a server (`--features postgres`), where several processes work on it, and `perennial` steers it |
//! | `retry FOLDER` | what failed of that study is made again |
//! | `import RECORD PATH` | a record of the platform's predecessor, as `examples/staged_jobs/record.json` is one; `staged_jobs/record.rs` says what one has |

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

#[path = "staged_jobs/asked.rs"]
mod asked;
#[path = "staged_jobs/import.rs"]
mod import;
#[path = "staged_jobs/imported.rs"]
mod imported;
#[path = "staged_jobs/platform.rs"]
mod platform;
#[path = "staged_jobs/program.rs"]
mod program;
#[path = "staged_jobs/usual.rs"]
mod usual;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use perennial::{Store, engine::workflow::RetryPolicy};

use self::{
    asked::{Asked, USAGE},
    platform::{Platform, Terms},
    program::{Told, counted, study},
};

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match work(&words).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn work(words: &[&str]) -> Told {
    let asked = Asked::of(words)?;
    if asked == Asked::Help {
        return Ok(writeln!(io::stdout(), "{USAGE}")?);
    }
    let temporary = tempfile::tempdir()?;
    let (folder, pace) = match asked {
        // Slowly enough to be looked at.
        Asked::Study { folder, .. } => (folder, Duration::from_millis(700)),
        Asked::Help | Asked::Usual(_) | Asked::Import { .. } => {
            (temporary.path(), Duration::from_millis(40))
        }
    };
    let paid = Arc::new(AtomicU32::new(0));
    let counts = paid.clone();
    let notes = move |note: &str| {
        counts.fetch_add(note.starts_with("paid").into(), Ordering::SeqCst);
    };
    let retry = RetryPolicy { base_ms: 20, ..RetryPolicy::PROVIDER };
    let platform = Platform::new(folder, Terms { pace, retry, notes: Arc::new(notes) });
    let own = || Store::sqlite(folder.join("runs.db"));
    match asked {
        Asked::Study { server, wish, .. } => {
            let store = server.map_or_else(|| Ok(own()), str::parse)?;
            study(&platform, folder, store, wish).await?;
        }
        Asked::Import { record, path } => imported::tell(&platform, record, path).await?,
        Asked::Help => {}
        Asked::Usual(None) => usual::three_ways(&platform, own()).await?,
        Asked::Usual(Some(path)) => usual::three_ways(&platform, Store::sqlite(path)).await?,
    }
    let paid = counted(paid.load(Ordering::SeqCst).into(), "reply", "replies");
    writeln!(io::stdout(), "\nThis process paid the model for {paid}.")?;
    Ok(())
}
