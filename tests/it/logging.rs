//! Whatever is logged inside of an attempt says whose it is.

use std::{
    io,
    sync::{Arc, Mutex},
};

use perennial::{
    Runtime, Store,
    engine::{AttemptCx, Outcome},
};
use tracing::Instrument;
use tracing_subscriber::EnvFilter;

use crate::{gate::SOON, one_job::OneJob};

const ATTEMPTS: usize = 50;
const LINES: usize = 100;
/// Of the lines that attempts log here, and of the span that is looked for.
const FILTER: &str = "own_lines=info,perennial_engine::run::attempt=info";

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line that says itself whose it is.
fn say(cx: &AttemptCx) {
    tracing::info!(target: "own_lines", "of <{} {} {}>", cx.run, cx.job, cx.attempt);
}

/// A quarter of the lines each: here, behind an await, in a task, and on a thread for blocking work.
async fn says(cx: AttemptCx) -> Outcome {
    let cx = Arc::new(cx);
    for line in 0..LINES {
        let own = cx.clone();
        match line % 4 {
            0 => say(&own),
            1 => {
                tokio::task::yield_now().await;
                say(&own);
            }
            2 => {
                let task = async move {
                    tokio::task::yield_now().await;
                    say(&own);
                };
                #[expect(clippy::disallowed_methods, reason = "as a host may, and awaited")]
                tokio::spawn(task.in_current_span()).await.unwrap();
            }
            _ => {
                let span = tracing::Span::current();
                #[expect(clippy::disallowed_methods, reason = "as a host may, and awaited")]
                tokio::task::spawn_blocking(move || span.in_scope(|| say(&own))).await.unwrap();
            }
        }
    }
    Outcome::Succeeded(cx.attempt.into())
}

/// Proves INV-29, I7, B43.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_line_of_an_attempt_carries_its_run_stage_job_and_number() {
    let written = Written::default();
    let writer = written.clone();
    // For the whole process: tasks and threads have no other.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(FILTER))
        .with_writer(move || writer.clone())
        .init();
    let runtime = Runtime::builder().store(Store::memory()).start().await.unwrap();
    let mut runs = Vec::new();
    for _ in 0..ATTEMPTS {
        runs.push(OneJob::start(&runtime, says).await);
    }
    for run in &runs {
        tokio::time::timeout(SOON, run.outcome()).await.unwrap().unwrap();
    }
    runtime.shutdown().await;
    let written = written.0.lock().unwrap().clone();
    let lines: Vec<String> =
        String::from_utf8(written).unwrap().lines().map(str::to_owned).collect();
    let own: Vec<&String> = lines.iter().filter(|line| line.contains("of <")).collect();
    assert_eq!(own.len(), ATTEMPTS * LINES);
    for line in own {
        let whose = line.split('<').nth(1).and_then(|rest| rest.split('>').next()).unwrap();
        let [run, job, attempt] = whose.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!(line.matches("attempt{").count(), 1, "{line}");
        for field in [
            format!("run_id={run} "),
            "stage=steps ".to_owned(),
            format!("step_path={job} "),
            format!("attempt={attempt}}}"),
        ] {
            assert!(line.contains(&field), "{field} is missing: {line}");
        }
    }
}
