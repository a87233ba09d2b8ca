//! What becomes of late elements, how long they may take, and how they are stopped, are closed types.
use std::time::Duration;

use perennial_supervision::{OnItemTimeout, StreamOptions};

fn main() {
    let options = StreamOptions::new();
    let options = options.on_timeout(OnItemTimeout::Unknown);
    let options = options.timeout(Duration::from_secs(-1));
    let options = options.shutdown("unknown");
    let _ = options.max_concurrency(-1);
}
