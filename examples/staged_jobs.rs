//! A run in stages: models write apps, and analyzers look at each app as soon as it is there, most of them while it runs. One
//! app is never written, one does not build, one analyzer falls over: the rest is done, and the run says so.
//!
//! | `cargo run --example staged_jobs --` | what it does |
//! |---|---|
//! | nothing, or `PATH` | the usual study in three ways; with a path, `perennial runs --store PATH` shows them afterwards |
//! | `study FOLDER` | one study, slowly, whose apps and runs are in the folder; stopped or killed, it goes on when it is started again |
//! | `study FOLDER postgres://…` | the same on a server (`--features postgres`), where several processes work on it, and `perennial` steers it |
//! | `retry FOLDER` | what failed of that study is made again |
//! | `import RECORD PATH` | a record of the platform's predecessor |

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

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
use std::{path::Path, process::ExitCode, time::Duration};

use perennial::{Store, engine::workflow::RetryPolicy};

use self::platform::{Platform, Terms};
use self::program::{Told, Wish, study};

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
    let temporary = tempfile::tempdir()?;
    let (folder, pace) = match words {
        // Slowly enough to be looked at.
        ["study" | "retry", folder, ..] => (Path::new(folder), Duration::from_millis(700)),
        _ => (temporary.path(), Duration::from_millis(40)),
    };
    std::fs::create_dir_all(folder)?;
    let paid = Arc::new(AtomicU32::new(0));
    let counts = paid.clone();
    let notes = move |note: &str| {
        counts.fetch_add(note.starts_with("paid").into(), Ordering::SeqCst);
    };
    let retry = RetryPolicy { base_ms: 20, ..RetryPolicy::PROVIDER };
    let platform = Platform::new(folder, Terms { pace, retry, notes: Arc::new(notes) });
    let own = || Store::sqlite(folder.join("runs.db"));
    match words {
        ["study", _] => study(&platform, own(), Wish::GoOn).await?,
        ["study", _, url] => study(&platform, url.parse()?, Wish::GoOn).await?,
        ["retry", _] => study(&platform, own(), Wish::Retry).await?,
        ["retry", _, url] => study(&platform, url.parse()?, Wish::Retry).await?,
        ["import", record, path] => imported::tell(&platform, Path::new(record), path).await?,
        [] => usual::three_ways(&platform, own()).await?,
        [path] => usual::three_ways(&platform, Store::sqlite(path)).await?,
        _ => return Err("what this means is at the top of examples/staged_jobs.rs".into()),
    }
    println!("\nThe model was paid for {} replies.", paid.load(Ordering::SeqCst));
    Ok(())
}
