//! Everything that can be known wrong with a start is known before a store is touched.

use perennial::{Config, Runtime, StartPipeline, StartPipelineError, Store, records::RunError};

use crate::exit::{self, failed};

/// What a start would be refused for: inputs, mocks, providers. Leaves nothing behind.
///
/// The start is made for real, in a runtime that keeps everything in memory and is already
/// stopping: such a runtime checks all there is to check, and then runs nothing.
pub(super) async fn rehearse(
    start: StartPipeline,
    config: Config,
) -> anyhow::Result<Result<(), StartPipelineError>> {
    let builder = Runtime::builder().store(Store::memory()).config(config).store_only();
    let runtime = builder.start().await.map_err(|error| failed(exit::STORE, error))?;
    let pipelines = runtime.pipelines().clone();
    runtime.shutdown().await;
    Ok(match pipelines.start(start).await {
        Ok(_) | Err(StartPipelineError::Run(RunError::ShuttingDown)) => Ok(()),
        // The memory store may have stopped too; what it was to keep is kept later.
        Err(StartPipelineError::Store(_)) => Ok(()),
        Err(refused) => Err(refused),
    })
}
