//! Runs that are recorded and left to workers.

use std::path::PathBuf;

use perennial::{Config, StartPipeline, Store};
use serde_json::json;

use super::{engine, hint::Hint, lot::left_out, progress::Shown, run};
use crate::{args::RunArgs, exit, output};

/// Records all of `starts` and says how they are called. What is refused keeps no other from being recorded.
pub(super) async fn detached(
    starts: Vec<(PathBuf, StartPipeline)>,
    config: Config,
    (store, args): (&Store, &RunArgs),
    shown: Shown,
    hint: &Hint,
) -> anyhow::Result<i32> {
    let runtime = engine::start_recording(store, config).await?;
    let several = starts.len() > 1;
    let mut code = exit::COMPLETED;
    for (file, start) in starts {
        let submitted = runtime.pipelines().submit(start).await;
        if let Ok(run) = &submitted
            && let Ok(view) = run.view().await
        {
            run::tell_kept(&view.run, args, hint);
        }
        match submitted {
            Ok(run) if shown.json => {
                output::json(&json!({ "type": "submitted", "run": run.id(), "file": file }))?;
            }
            Ok(run) => output::line(run.id().as_str())?,
            Err(error) => {
                let refused = match run::refused(args, &file, error, hint) {
                    Ok(code) => code,
                    Err(error) if !several => {
                        runtime.shutdown().await;
                        return Err(error);
                    }
                    Err(error) => left_out(&file.display().to_string(), &error),
                };
                code = if code == exit::COMPLETED { refused } else { code };
            }
        }
    }
    runtime.shutdown().await;
    if !shown.json && !shown.quiet && code == exit::COMPLETED {
        output::talk(&format!("recorded; a worker takes it: {}", hint.worker()));
    }
    Ok(code)
}
