//! A record of the predecessor, and what became of it, in words.

use std::path::Path;

use perennial::Store;

use super::{
    import::import,
    platform::Platform,
    program::{Told, counted},
};

pub(crate) async fn tell(platform: &Platform, record: &Path, store: &str) -> Told {
    let runtime = platform.on(Store::sqlite(store)).start().await?;
    let told = async {
        let refused =
            |why: &dyn std::fmt::Display| format!("{} was not imported:\n{why}", record.display());
        let text = std::fs::read_to_string(record).map_err(|error| refused(&error))?;
        let imported =
            import(platform, runtime.runs(), &text).await.map_err(|error| refused(&error))?;
        let view = imported.run.run.view().await?;
        let was = if imported.run.is_new { "is imported" } else { "was imported before" };
        let jobs = counted(view.jobs.len() as u64, "job", "jobs");
        println!("{} {was}; it is {}, with {jobs}", view.run.run, view.run.state);
        for difference in &imported.differences {
            println!("  differs: {difference}");
        }
        Ok(())
    };
    let told = told.await;
    runtime.shutdown().await;
    told
}
