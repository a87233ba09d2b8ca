//! SUP-192: the children of a static supervisor are named by their ids, not by their processes.

use perennial_supervision::{ProcessRef, Supervisor};

async fn terminate(supervisor: Supervisor, process: ProcessRef) {
    let _refused = supervisor.terminate_child(process).await;
}

fn main() {}
